/*
 * Clients that get no server: what becomes of them and of their requests,
 * whatever the reason is; and what open breakers mean for them. These gate the
 * opening of servers: a pool that has servers goes on with these. Where it has
 * none, and every endpoint of the database is refused by its breakers, clients
 * that need a server are told so at once (breaker_open_action = fail), or wait
 * until their own deadline (hold).
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

/*
 * A client that needs a server gets none, for this reason, and stands in no
 * queue, or no longer: it is told so. Its request ends, see client_end_request()
 * for `message`; or its session, when it has not been greeted, asks for the pooler
 * itself, or was over its time and query_timeout_action says so. Own thread.
 */
void refuse_client(struct client *client, const struct pool_refusal *refusal, const struct client_message *message);

/* A client that would wait for its greeting: true when it was refused, and closed. Its own thread. */
bool refuse_newcomer(struct client *client);

/*
 * Clients of the part that wait, if they are to be refused, are told so, when the
 * caller has returned: those with a query go on, others are closed. The worker's
 * thread.
 */
void refuse_look(struct pool_part *part, uint64_t now_us);

#endif
