/*
 * What open breakers mean for clients. They gate the opening of servers: a pool
 * that has servers goes on with these. Where it has none, and every endpoint of
 * the database is refused by its breakers, clients that need a server are told
 * so at once (breaker_open_action = fail), or wait until their own deadline
 * (hold).
 */
#ifndef PGSLUICE_POOL_REFUSE_H
#define PGSLUICE_POOL_REFUSE_H

#include "pool/client.h"
#include "pool/pool.h"

/* Sees to it that changes of breakers are logged and that those who wait hear of them. Before the threads start. */
void refuse_init(struct engine *engine);

/* Nobody is told any more: the workers have ended. */
void refuse_fini(struct engine *engine);

/* True when clients of the pool are to be refused, and *refusal says why. Under the pool's lock. */
bool refuse_is_due_locked(const struct pool *pool, uint64_t now_us, struct pool_refusal *refusal);

/* A client that would wait for its greeting: true when it was refused, and closed. Its own thread. */
bool refuse_newcomer(struct client *client);

/*
 * A client that waits: true when it was refused and taken out of the queue. One
 * with a query goes on, others are closed. Its own thread, and not while
 * anything of this client or its part is in the middle of something.
 */
bool refuse_waiter(struct client *client, uint64_t now_us);

#endif
