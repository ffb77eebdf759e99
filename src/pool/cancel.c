/*
 * Cancel requests for clients of this process.
 *
 *   login loop           worker of the client
 *   cancel_request() --> cancel_arrive() --> CANCEL_WAITING <--> CANCEL_OPENING --> CANCEL_SENT
 *        |                    |
 *        |                    +-- dropped: nobody has this key, or nothing runs for it
 *        +-- the key of a peer: peer.c; of a console session: the control loop
 *
 * The key says which worker to ask (cancel_key.c); the worker finds the client
 * and compares the whole key. The request is delivered over a connection of
 * its own to the address of the server that works for the client at that
 * moment. Until that connection has ended the server is not given to anybody
 * else (server->cancels), because PostgreSQL signals the backend before it
 * closes the connection. If the client is done before the request was sent, it
 * is not sent at all. While the server is busy with SET commands of our own that
 * go in front of the client's message, the request waits: it is not these that
 * are to be canceled.
 *
 * These connections are no part of the pool: its limits, and those of database
 * and user, do not count them, or nobody could stop a query that has taken the
 * last connection. But a pool of N has at most 2 N of both kinds
 * (pool_cancel_take); who comes then waits for one to end. A connection that
 * could not be opened is tried again while the query still runs.
 *
 * A request of our own, for a query over its limit or of a client that has gone
 * (query_timeout.c, cleanup.c), is one without an asker. So is one for a server
 * that is closed while a statement runs on it, which then has no server either:
 * it is tried once, for CANCEL_PARTING_US at most.
 */
#include "pool/cancel.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "pool/carried_key.h"
#include "pool/link.h"
#include "pool/peer.h"
#include "pool/query_timeout.h"
#include "pool/registry.h"

#define CANCEL_MAGIC      0x63616e63

/* The server of the query is up, so what keeps us from connecting is likely to pass. */
#define CANCEL_RETRY_US   USEC_PER_SEC

/* How long a request for a server that is closed is tried. */
#define CANCEL_PARTING_US (5 * USEC_PER_SEC)

enum cancel_state {
	CANCEL_WAITING, /* for the client's turn, for permission to connect, or for the next try */
	CANCEL_OPENING,
	CANCEL_SENT,
};

/* A request on its way; owned by the worker of the client it is for. */
struct cancel {
	uint32_t magic;
	enum cancel_state state;
	TAILQ_ENTRY(cancel) entry; /* in worker->cancels */
	struct loop_msg msg;
	struct loop_task task;
	struct worker *worker;
	struct server *server;   /* its target, while the request is under way; NULL: it is closed */
	struct pool *pool;       /* of the client, held, once the request is found to have a target */
	struct cancel_conn conn; /* to PostgreSQL, in the states but CANCEL_WAITING */
	uint64_t retry_us;       /* no connection before this time */
	bool is_own;             /* nobody has asked for it but ourselves: there is no asker, and no key */
	struct cancel_asker asker;
	struct cancel_place place;
	struct cancel_key key; /* as the asker has it; of a server that is closed, its own secret */
	uint32_t parting_pid;  /* ... and its process */
};

/* ---- the end of a request ---- */

static void cancel_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	struct cancel *cancel = CONTAINER_OF(task, struct cancel, task);

	CHECK_OBJ(cancel, CANCEL_MAGIC);
	pool_release(&cancel->pool);
	cancel->magic = 0;
	free(cancel);
}

/* Closes the connection to the server; the request may get another one later. */
static void cancel_close_conn(struct cancel *cancel, enum reason reason)
{
	if (cancel->state == CANCEL_WAITING)
		return;
	cancel->state = CANCEL_WAITING;
	cancel_conn_close(&cancel->conn, reason);
	pool_cancel_give(cancel->pool);
}

static void cancel_end_asker(struct cancel *cancel, enum reason reason)
{
	struct loop_ctx *ctx = &cancel->worker->ctx;
	char where[CANCEL_WHERE_MAX] = CANCEL_NOWHERE;

	if (cancel->pool != NULL)
		str_format(where, sizeof(where), "%s/(nouser)", cancel->pool->db->name);
	cancel_asker_end(&cancel->asker, ctx->engine, ctx->snap->conf, where, reason, loop_now_us(ctx->loop));
}

/* Ends the request; what follows for its server is up to the caller. */
static void cancel_finish(struct cancel *cancel, enum reason reason)
{
	struct loop_ctx *ctx = &cancel->worker->ctx;
	bool is_outcome = reason == REASON_CANCEL_SENT || reason == REASON_CANCEL_FAILED;

	ASSERT(!cancel->task.queued);
	cancel_close_conn(cancel, is_outcome ? reason : REASON_CANCEL_GIVEN_UP);
	if (!cancel->is_own)
		cancel_end_asker(cancel, reason);
	else if (cancel->server != NULL)
		query_timeout_request_over(cancel->server);
	TAILQ_REMOVE(&cancel->worker->cancels, cancel, entry);
	cancel->server = NULL;
	cancel->task.fn = cancel_free_task;
	loop_defer(ctx->loop, &cancel->task);
}

static void cancel_end(struct cancel *cancel, enum reason reason)
{
	struct server *server = cancel->server;

	cancel_finish(cancel, reason);
	if (server != NULL)
		server_cancel_ended(server);
}

/* ---- delivery ---- */

/* No connection this time. */
static void cancel_put_off(struct cancel *cancel, enum reason reason)
{
	uint64_t retry_us = cancel->server->part->conf->server_login_retry_us;

	if (retry_us > CANCEL_RETRY_US)
		retry_us = CANCEL_RETRY_US;
	cancel->retry_us = loop_now_us(cancel->worker->ctx.loop) + retry_us;
	cancel_close_conn(cancel, reason);
}

static void cancel_run(struct worker *worker, struct pool *pool);

/* The request was sent, or cannot be; the next one may have its place. */
static void cancel_conclude(struct cancel *cancel, enum reason reason)
{
	struct worker *worker = cancel->worker;
	struct pool *pool = cancel->pool;

	cancel_end(cancel, reason);
	cancel_run(worker, pool);
}

static void cancel_on_open(void *owner)
{
	struct cancel *cancel = owner;
	const struct server *server = cancel->server;
	int err;

	if (server != NULL)
		err = cancel_conn_send(&cancel->conn, server->backend_pid, server->backend_key,
				       server->backend_key_len);
	else
		err = cancel_conn_send(&cancel->conn, cancel->parting_pid, cancel->key.bytes, cancel->key.len);
	if (err == 0)
		cancel->state = CANCEL_SENT;
	else
		cancel_conclude(cancel, REASON_CANCEL_FAILED);
}

static void cancel_on_over(void *owner, enum reason reason)
{
	struct cancel *cancel = owner;

	if (cancel->state == CANCEL_SENT)
		cancel_conclude(cancel, reason);
	else if (cancel->server == NULL)
		cancel_conclude(cancel, REASON_CANCEL_FAILED);
	else
		cancel_put_off(cancel, reason);
}

static const struct cancel_conn_ops cancel_ops = {
	.on_open = cancel_on_open,
	.on_over = cancel_on_over,
};

/* Begins to connect to where the server is: 0 or -E_SYS. */
static int cancel_connect(struct cancel *cancel, const struct server *server)
{
	struct worker *worker = cancel->worker;
	struct cancel_conn *conn = &cancel->conn;
	struct server_tls tls;

	cancel->state = CANCEL_OPENING;
	conn->loop = worker->ctx.loop;
	conn->snap = &worker->ctx.snap;
	conn->port = sock_addr_is_unix(&server->addr) ? (unsigned)server_port(server) : sock_addr_port(&server->addr);
	str_format(conn->where, sizeof(conn->where), "%s", cancel->pool->name);
	cancel_conn_init(conn, worker->ctx.engine, &cancel_ops, cancel);
	server_tls_init_like(&tls, &server->tls, stream_tls(&server->stream) != NULL);
	return cancel_conn_connect(conn, &server->addr, &server->conf->tuning, &tls);
}

static void cancel_open(struct cancel *cancel)
{
	if (cancel_connect(cancel, cancel->server) != 0)
		cancel_put_off(cancel, REASON_CONNECT_FAILED);
}

/* True when a request that waits may get a connection, if its pool allows one more. */
static bool cancel_is_due(const struct cancel *cancel, uint64_t now_us)
{
	return cancel->state == CANCEL_WAITING && cancel->retry_us <= now_us && !cancel->server->setting_vars;
}

/* Opens connections for requests of this pool that wait, as far as the pool allows. */
static void cancel_run(struct worker *worker, struct pool *pool)
{
	uint64_t now_us = loop_now_us(worker->ctx.loop);
	struct cancel *cancel;

	TAILQ_FOREACH (cancel, &worker->cancels, entry) {
		if (cancel->pool != pool || !cancel_is_due(cancel, now_us))
			continue;
		if (!pool_cancel_take(pool))
			return;
		cancel_open(cancel);
	}
}

/* Why a request for this client has nothing to deliver; REASON_NONE when there is. */
static enum reason cancel_refusal(struct client *client)
{
	switch (client->state) {
	case CL_HELD:
		return REASON_CANCEL_VARS;
	case CL_ACTIVE:
		ASSERT(client->server != NULL);
		return REASON_NONE;
	case CL_REPEAT:
		return client_cancel_wait(client) ? REASON_CANCEL_QUEUED : REASON_CANCEL_LATE;
	case CL_WAITING:
		if (client->part->worker->ctx.snap->conf->cancel_queued == 0)
			return REASON_CANCEL_IDLE;
		return client_cancel_wait(client) ? REASON_CANCEL_QUEUED : REASON_CANCEL_LATE;
	default:
		return REASON_CANCEL_IDLE;
	}
}

/* The request has reached the worker of the client. */
static void cancel_arrive(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct cancel *cancel = CONTAINER_OF(msg, struct cancel, msg);
	struct worker *worker = worker_current();
	struct cancel_key own;
	struct client *client;
	enum reason reason;

	CHECK_OBJ(cancel, CANCEL_MAGIC);
	client = worker_slot_find(worker, cancel->place.slot, cancel->place.generation);
	cancel->worker = worker;
	TAILQ_INSERT_TAIL(&worker->cancels, cancel, entry);
	if (client != NULL)
		client_get_cancel_key(client, &own);
	if (client == NULL || !cancel_key_equal(&own, &cancel->key)) {
		cancel_end(cancel, REASON_CANCEL_UNKNOWN);
		return;
	}
	reason = cancel_refusal(client);
	if (reason != REASON_NONE) {
		cancel_end(cancel, reason);
		return;
	}
	cancel->pool = pool_hold(client->pool);
	cancel->server = client->server;
	cancel->server->cancels++;
	cancel_run(worker, cancel->pool);
}

/* ---- our own ---- */

static struct cancel *cancel_new_own(struct server *server)
{
	struct worker *worker = server->part->worker;
	struct cancel *cancel = xcalloc(1, sizeof(*cancel));

	cancel->magic = CANCEL_MAGIC;
	cancel->is_own = true;
	cancel->asker.request_us = loop_now_us(worker->ctx.loop);
	cancel->worker = worker;
	cancel->pool = pool_hold(server->pool);
	TAILQ_INSERT_TAIL(&worker->cancels, cancel, entry);
	return cancel;
}

void cancel_server(struct server *server)
{
	struct cancel *cancel = cancel_new_own(server);

	cancel->server = server;
	server->cancels++;
	cancel_run(cancel->worker, cancel->pool);
}

void cancel_parting(struct server *server)
{
	struct cancel *cancel;

	if (server->backend_key_len == 0 || !pool_cancel_take(server->pool))
		return;
	cancel = cancel_new_own(server);
	cancel->parting_pid = server->backend_pid;
	ASSERT(server->backend_key_len <= sizeof(cancel->key.bytes));
	memcpy(cancel->key.bytes, server->backend_key, server->backend_key_len);
	cancel->key.len = server->backend_key_len;
	if (cancel_connect(cancel, server) != 0)
		cancel_end(cancel, REASON_CANCEL_FAILED);
}

/* Ends requests against a server that nobody needs any more; with those sent if it is closed. */
static void cancel_drop_all(struct worker *worker, struct server *server, bool only_own, bool with_sent)
{
	struct pool *pool = server->pool;
	struct cancel *cancel;
	struct cancel *next;

	for (cancel = TAILQ_FIRST(&worker->cancels); cancel != NULL; cancel = next) {
		bool is_sent = cancel->state == CANCEL_SENT;

		next = TAILQ_NEXT(cancel, entry);
		if (cancel->server != server || (is_sent && !with_sent) || (only_own && !cancel->is_own))
			continue;
		/* The server itself is in the hands of the caller: nothing follows from its last cancel. */
		server->cancels--;
		cancel_finish(cancel, is_sent ? REASON_CANCEL_SENT : REASON_CANCEL_LATE);
	}
	cancel_run(worker, pool);
}

void cancel_withdraw(struct worker *worker, struct server *server)
{
	if (server->cancels > 0)
		cancel_drop_all(worker, server, true, false);
}

/* ---- where a request goes ---- */

/* The key is one of a console session, or looks like one: the control loop knows. */
static void cancel_to_console(struct engine *engine, const struct cancel_asker *asker, const struct cancel_key *key)
{
	struct console_cancel *cancel = xcalloc(1, sizeof(*cancel));

	cancel->msg.fn = engine->ops->console_cancel;
	cancel->asker = *asker;
	cancel->asker.ptr = cancel;
	cancel->key = *key;
	loop_post(engine->control, &cancel->msg);
}

static void cancel_to_worker(struct worker *worker, const struct cancel_asker *asker, const struct cancel_place *place,
			     const struct cancel_key *key)
{
	struct cancel *cancel = xcalloc(1, sizeof(*cancel));

	cancel->magic = CANCEL_MAGIC;
	cancel->asker = *asker;
	cancel->asker.ptr = cancel;
	cancel->place = *place;
	cancel->key = *key;
	cancel->msg.fn = cancel_arrive;
	loop_post(worker->ctx.loop, &cancel->msg);
}

/* It is known already that the request has no target. */
static void cancel_drop(struct loop_ctx *ctx, struct cancel_asker *asker, enum reason reason)
{
	cancel_asker_end(asker, ctx->engine, ctx->snap->conf, CANCEL_NOWHERE, reason, loop_now_us(ctx->loop));
}

/* Once a long key was given out it is good as long as its client is there, whatever a reload says of new ones. */
static bool cancel_takes_long_keys(const struct loop_ctx *ctx)
{
	return ctx->snap->conf->max_protocol_version != CONF_PROTOCOL_3_0 ||
	       atomic_load_explicit(&ctx->engine->has_long_keys, memory_order_relaxed);
}

void cancel_request(struct loop_ctx *ctx, const struct cancel_asker *from, const struct cancel_key *from_key)
{
	struct engine *engine = ctx->engine;
	unsigned peer_id = (unsigned)ctx->snap->conf->peer_id;
	struct cancel_asker asker = *from;
	struct cancel_key key = *from_key;
	struct cancel_place place;

	asker.request_us = loop_now_us(ctx->loop);
	if (key.len != CANCEL_KEY_LEN && !cancel_takes_long_keys(ctx)) {
		cancel_drop(ctx, &asker, REASON_CANCEL_BAD);
		return;
	}
	if (peer_id > 0 && cancel_key_peer(&key) != peer_id) {
		if (cancel_key_spend(&key))
			peer_forward(engine, &asker, &key);
		else
			cancel_drop(ctx, &asker, REASON_CANCEL_TTL);
		return;
	}
	if (peer_id > 0)
		cancel_key_restore(&key);
	if (!carried_key_find(engine, &key, &place))
		place = cancel_key_place(engine->cancel_secret, &key);
	if (place.worker == CANCEL_WORKER_CONSOLE)
		cancel_to_console(engine, &asker, &key);
	else if (place.worker < engine->worker_count)
		cancel_to_worker(engine->workers[place.worker], &asker, &place, &key);
	else
		cancel_drop(ctx, &asker, REASON_CANCEL_UNKNOWN);
}

/* ---- from outside ---- */

void cancel_vars_done(struct worker *worker, struct server *server)
{
	if (UNLIKELY(server->cancels > 0))
		cancel_run(worker, server->pool);
}

void cancel_detach(struct worker *worker, struct server *server)
{
	if (UNLIKELY(server->cancels > 0))
		cancel_drop_all(worker, server, false, server->state == SV_CLOSED);
}

/* PostgreSQL has the request but does not close: nobody knows when its signal comes, so the server is not used again.
 */
static void cancel_give_up(struct cancel *cancel)
{
	struct server *server = cancel->server;

	cancel_finish(cancel, REASON_CANCEL_TIMEOUT);
	server->cancels--;
	server->dirty = true;
	if (server->state == SV_CANCELED)
		server_close(server, REASON_DOUBT);
}

/* One look at a request; true when it has ended, and others may have with it. */
static bool cancel_check(struct cancel *cancel, uint64_t timeout_us, uint64_t now_us)
{
	uint64_t connect_timeout_us;

	if (cancel->server == NULL) {
		if (cancel->asker.request_us + CANCEL_PARTING_US > now_us)
			return false;
		cancel_end(cancel, REASON_CANCEL_TIMEOUT);
		return true;
	}
	connect_timeout_us = cancel->server->part->conf->server_connect_timeout_us;
	if (cancel->state == CANCEL_SENT) {
		if (timeout_us == 0 && cancel->is_own) /* the client's next messages wait for the end of it */
			timeout_us = cancel->server->part->conf->cancel_grace_us;
		if (timeout_us == 0 || cancel->conn.sent_us + timeout_us > now_us)
			return false;
		cancel_give_up(cancel);
		return true;
	}
	if (timeout_us > 0 && cancel->asker.request_us + timeout_us <= now_us) {
		cancel_end(cancel, REASON_CANCEL_TIMEOUT);
		return true;
	}
	if (cancel->state == CANCEL_OPENING && connect_timeout_us > 0 &&
	    cancel->conn.connect_us + connect_timeout_us <= now_us)
		cancel_put_off(cancel, REASON_CONNECT_TIMEOUT);
	else if (cancel_is_due(cancel, now_us) && pool_cancel_take(cancel->pool))
		cancel_open(cancel);
	return false;
}

void cancel_sweep(struct worker *worker, uint64_t now_us)
{
	uint64_t timeout_us = worker->ctx.snap->conf->cancel_wait_timeout_us;
	struct cancel *cancel = TAILQ_FIRST(&worker->cancels);

	while (cancel != NULL) {
		if (cancel_check(cancel, timeout_us, now_us))
			cancel = TAILQ_FIRST(&worker->cancels);
		else
			cancel = TAILQ_NEXT(cancel, entry);
	}
}

bool cancel_is_awaited(const struct worker *worker)
{
	const struct cancel *cancel;

	TAILQ_FOREACH (cancel, &worker->cancels, entry)
		if (cancel->server != NULL)
			return true;
	return false;
}

/* Ends a request that PostgreSQL may have: as in cancel_give_up(), its signal may still come. */
static void cancel_cut(struct cancel *cancel, enum reason reason)
{
	if (cancel->state == CANCEL_SENT && cancel->server != NULL)
		cancel->server->dirty = true;
	cancel_end(cancel, reason);
}

void cancel_close_all(struct worker *worker)
{
	struct cancel *cancel;

	while ((cancel = TAILQ_FIRST(&worker->cancels)) != NULL)
		cancel_cut(cancel, REASON_FAST_EXIT);
}

bool cancel_kill(struct worker *worker, uint64_t asker_id)
{
	struct cancel *cancel;
	struct pool *pool;

	TAILQ_FOREACH (cancel, &worker->cancels, entry)
		if (!cancel->is_own && cancel->asker.id == asker_id)
			break;
	if (cancel == NULL)
		return false;
	pool = cancel->pool;
	cancel_cut(cancel, REASON_KILLED);
	cancel_run(worker, pool);
	return true;
}

void cancel_end_pool(struct worker *worker, const struct pool *pool)
{
	struct cancel *cancel;

	do {
		TAILQ_FOREACH (cancel, &worker->cancels, entry)
			if (cancel->pool == pool)
				break;
		if (cancel != NULL)
			cancel_end(cancel, REASON_DB_REMOVED);
	} while (cancel != NULL);
}

struct cancel_counts cancel_count(const struct worker *worker, const struct pool *pool)
{
	struct cancel_counts counts = { 0 };
	const struct cancel *cancel;

	TAILQ_FOREACH (cancel, &worker->cancels, entry) {
		if (cancel->pool != pool)
			continue;
		counts.active += cancel->state == CANCEL_SENT && !cancel->is_own;
		counts.waiting += cancel->state != CANCEL_SENT && !cancel->is_own;
		counts.own += cancel->is_own;
		counts.sent += cancel->state == CANCEL_SENT;
		counts.opening += cancel->state == CANCEL_OPENING;
	}
	return counts;
}

void cancel_each(const struct worker *worker, cancel_view_fn fn, void *arg)
{
	const struct cancel *cancel;

	TAILQ_FOREACH (cancel, &worker->cancels, entry) {
		struct cancel_view view = {
			.pool = cancel->pool,
			.asker = cancel->is_own ? NULL : &cancel->asker,
			.conn = cancel->state == CANCEL_WAITING ? NULL : &cancel->conn,
		};

		fn(&view, arg);
	}
}
