/*
 * The periodic work of a worker: timeouts of clients and servers, lifetimes,
 * minimum pool sizes, waiting servers.
 */
#ifndef PGSLUICE_POOL_JANITOR_H
#define PGSLUICE_POOL_JANITOR_H

#include "pool/engine.h"

struct db;

/* How often the tick runs. */
#define JANITOR_PERIOD_US 100000

/* The tick of a worker's loop; arg is the struct worker. */
void janitor_tick(struct loop *loop, void *arg);

/* Looks through everything now, in slices, unless it does already. Own thread. */
void janitor_kick(struct worker *worker);

/* Something falls due in delay_us: there is to be a pass then, and not only at the next tick. Own thread. */
void janitor_expect(struct worker *worker, uint64_t delay_us);

/* The alarm that janitor_expect() sets; arg is the struct worker. */
void janitor_on_alarm(struct loop *loop, void *arg);

/*
 * Applies a change of the engine's mode at once, without waiting for a tick:
 * closes the idle servers of paused pools, and in a shutdown that waits for
 * servers ends the clients that wait for one. Own thread.
 */
void janitor_apply_mode(struct worker *worker);

/*
 * A new epoch has begun, see pool_begin_epoch(), for the pools of the database,
 * or for all when it is NULL: stale servers that nobody uses, or that still log
 * in, are closed now, the others when they are free. Own thread.
 */
void janitor_apply_epoch(struct worker *worker, const struct db *db);

/*
 * What is known of endpoints has changed: servers where they no longer belong
 * are closed if nobody uses them, else when they are free, and others are opened
 * for those who wait. For engine_visit(); own thread.
 */
void janitor_apply_roles(struct worker *worker, void *arg);

#endif
