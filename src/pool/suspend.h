/*
 * SUSPEND: everything stands still at the boundary of a message, with nothing
 * in our buffers, so that it can go on later, here or in another process.
 */
#ifndef PGSLUICE_POOL_SUSPEND_H
#define PGSLUICE_POOL_SUSPEND_H

#include "pool/engine.h"

struct suspend;

/* For engine_new() and engine_free(). */
struct suspend *suspend_new(struct engine *engine) MUSTCHECK;
void suspend_free(struct suspend **suspend);

/*
 * Begins: nobody is accepted or read any more. The engine's mode is
 * ENGINE_SUSPENDED already. Whatever cannot be brought to a boundary within
 * suspend_timeout (0: no limit) is closed. Control thread.
 */
void suspend_begin(struct suspend *suspend);

/* Ends it: everybody is accepted and read again. The mode is another one already. Control thread. */
void suspend_end(struct suspend *suspend);

/* True when everything stands still. Control thread. */
bool suspend_is_complete(const struct suspend *suspend);

/* Calls fn(arg) when everything stands still, once per suspension. Control thread. */
void suspend_on_complete(struct suspend *suspend, void (*fn)(void *arg), void *arg);

#endif
