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
 * Clients of the part that wait, if they are to be refused, are told so, when the
 * caller has returned: those with a query go on, others are closed. The worker's
 * thread.
 */
void refuse_look(struct pool_part *part, uint64_t now_us);

#endif
