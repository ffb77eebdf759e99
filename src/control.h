/*
 * What happens to the process as a whole while it runs: signals, pausing,
 * shutting down. Control thread only.
 */
#ifndef PGSLUICE_CONTROL_H
#define PGSLUICE_CONTROL_H

#include "pool/engine.h"

struct control;

/* Takes over the signals; the control loop does not run yet. */
struct control *control_new(struct engine *engine);
void control_free(struct control **control);

/* The one that it was made for. */
struct engine *control_engine(const struct control *control);

/* The exit status of the process: 0, or 1 when a signal ended it in the middle of a suspension. */
int control_status(const struct control *control);

/*
 * Begins a shutdown, or changes the kind of one that has begun; with
 * SHUTDOWN_NOW the control loop ends, and so does it later when what is waited for
 * is gone.
 */
void control_shutdown(struct control *control, enum engine_shutdown how);

/*
 * A shutdown that drains: after drain_delay clients are closed at the end of
 * their transactions, after `timeout_us` more (0: never) all are, and then the
 * process ends. Control thread.
 */
void control_drain(struct control *control, uint64_t timeout_us);

#endif
