/*
 * Cancel requests: from the key that a client shows to the server that works
 * for the key's owner at this moment, or to the peer that made the key, or to
 * nobody.
 */
#ifndef PGSLUICE_POOL_CANCEL_H
#define PGSLUICE_POOL_CANCEL_H

#include "pool/cancel_io.h"
#include "pool/cancel_key.h"
#include "pool/client.h"
#include "pool/engine.h"

/* What stands for database and user in the log while nobody knows whom a request is for. */
#define CANCEL_NOWHERE "(nodb)/(nouser)"

/* A cancel request for a console session. */
struct console_cancel {
	struct loop_msg msg;       /* the receiver frees the object */
	struct cancel_asker asker; /* ended by the receiver */
	struct cancel_key key;
};

/*
 * A cancel request was read. The connection of `asker` is taken over and closed
 * when the outcome is known; `request_us` is filled in here, and `ptr` becomes
 * the object that takes the request on.
 * Login thread, with its own context.
 */
void cancel_request(struct loop_ctx *ctx, const struct cancel_asker *asker, const struct cancel_key *key);

/*
 * Asks PostgreSQL, in our own name, to stop what this server is at. The server
 * is told the end of it by server_cancel_ended(), and before that by
 * query_timeout_request_over(). Own thread.
 */
void cancel_server(struct server *server);

/*
 * The server is about to be closed although a statement runs on it, which would
 * go on for nobody: asks PostgreSQL once to stop that. Nobody waits for it, and
 * where the pool has no connection left for it, or the server does not answer
 * within seconds, the statement runs on. Own thread.
 */
void cancel_parting(struct server *server);

/* Requests of our own against the server that were not sent yet are dropped; server->cancels: how many of any kind are
 * left. Own thread. */
void cancel_withdraw(struct worker *worker, struct server *server);

/* What time brings about: timeouts, and requests that have waited for a connection. Own thread. */
void cancel_sweep(struct worker *worker, uint64_t now_us);

/* Ends the requests for clients of a pool that is taken away. Own thread. */
void cancel_end_pool(struct worker *worker, const struct pool *pool);

/* True while there are requests whose end somebody here has to wait for: parting ones are not. Own thread. */
bool cancel_is_awaited(const struct worker *worker);

/* Ends all requests. Own thread. */
void cancel_close_all(struct worker *worker);

/* Ends the request of this asker; false when it is not here. Own thread. */
bool cancel_kill(struct worker *worker, uint64_t asker_id);

/* The target of requests is gone or has changed hands: those not sent yet are dropped. Own thread. */
void cancel_detach(struct worker *worker, struct server *server);

/* The server is at work for its client now, no longer at our SET commands: requests that have waited for it go. Own
 * thread. */
void cancel_vars_done(struct worker *worker, struct server *server);

/* Requests for clients of one pool, on one worker. */
struct cancel_counts {
	unsigned waiting; /* not sent yet */
	unsigned active;  /* sent */
	unsigned own;     /* of our own, which are neither */
	unsigned sent;    /* of any of these */
	unsigned opening; /* likewise: connecting */
};

/* Counts the requests under way on this worker, for SHOW POOLS. Own thread. */
struct cancel_counts cancel_count(const struct worker *worker, const struct pool *pool);

/* Calls fn for each request under way on this worker. Own thread. */
void cancel_each(const struct worker *worker, cancel_view_fn fn, void *arg);

#endif
