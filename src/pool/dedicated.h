/*
 * The queue of clients that need a server of their own: opened for one client,
 * and closed with it. Their servers count as all others of the pool.
 */
#ifndef PGSLUICE_POOL_DEDICATED_H
#define PGSLUICE_POOL_DEDICATED_H

#include "pool/pool.h"

struct pool_plan;

/* Queues a client; server_open() is called for it when its turn comes. Own thread. */
void dedicated_enqueue(struct client *client);

/* Puts a client back in its place: the server was closed before it was logged in, through no fault of either. */
void dedicated_requeue(struct client *client);

/* Takes a client out of the queue, in which it is. Under the pool's lock. */
void dedicated_dequeue_locked(struct client *client);

/*
 * Plans what can be done for the first in the queue, which is not empty; false
 * when that is nothing, or when it is not its turn. Under the pool's lock.
 */
bool dedicated_plan_locked(struct pool_part *part, uint64_t now, struct pool_plan *plan);

/* True when a free server of a pool with such a queue is to be closed to make room. Under the pool's lock. */
bool dedicated_takes_room_locked(struct pool *pool, struct server *server);

#endif
