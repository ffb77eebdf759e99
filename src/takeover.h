/*
 * Online restart: a new process takes the sockets of the running one, which
 * then ends; clients notice nothing but a short pause.
 */
#ifndef PGSLUICE_TAKEOVER_H
#define PGSLUICE_TAKEOVER_H

#include "conf/conf.h"
#include "pool/engine.h"

struct takeover;

/*
 * Suspends the instance that serves this configuration and gets its sockets.
 * NULL when there is none. Ends the process with a message when there is one
 * that does not hand them over. Blocks; before any thread starts.
 */
struct takeover *takeover_begin(const struct conf *conf);

/* The listening sockets; they belong to the caller now. */
size_t takeover_listeners(struct takeover *takeover, const int **fds);

/*
 * Ends the other process and waits until it is gone, and its pidfile with it.
 * Before that, it goes on as if nothing had been when this process ends.
 */
void takeover_end_other(struct takeover *takeover, const struct conf *conf);

/* Goes on with its sessions and frees all. The threads of the engine are not running yet. */
void takeover_finish(struct takeover **takeover, struct engine *engine);

#endif
