/*
 * A survey: every loop that has clients is asked what it has, a slice at a
 * time, so that a loop with thousands of clients goes on serving them.
 *
 * What is in several slices was not all there at one moment. A slice is of one
 * moment; what was there all the time is found once; what came or went during
 * the survey may be found or not.
 */
#ifndef PGSLUICE_POOL_SURVEY_H
#define PGSLUICE_POOL_SURVEY_H

#include "pool/engine.h"

/*
 * Looks at a slice of what the loop has, on its thread; `at` is 0 at first and
 * the function's own to change. True: call again, in a later turn of the loop.
 * `index` is below engine_loop_count(): that of the worker, or behind them all
 * that of the login loop, where `worker` is NULL. Runs on several loops at once.
 */
typedef bool (*survey_fn)(struct loop_ctx *ctx, struct worker *worker, unsigned index, uint64_t *at, void *arg);

/*
 * Ends the surveys that rest between two rounds; `done` is called. At the end
 * of the engine, when no message is under way any more.
 */
void survey_end_all(struct engine *engine);

/* Asks all loops; `done` runs on the control loop when all have answered. `arg` is for both. Control thread. */
void survey_start(struct engine *engine, survey_fn fn, engine_done_fn done, void *arg);

#endif
