/*
 * SUSPEND.
 *
 * It goes in steps, each of them looked after by rounds over all workers until
 * a round finds nothing left to do. Before the first, every loop has heard that
 * nobody is accepted any more, so the logins under way are all there will be.
 *
 *   1. No client is read beyond the message it is in the middle of, and none
 *      in the queue at all. Whoever is promised a server gets it, logins go on,
 *      cancel requests end.
 *   2. No client asks for anything any more. No server is read beyond the
 *      message it is in the middle of; what is queued is sent. Logins to
 *      servers, and servers that run a query of our own, are closed.
 *   3. Once more the same: before a worker heard of step 2 it may have sent a
 *      server to another that had heard of it already.
 *
 * A query that runs stays under way: its answer waits in the kernel. A client
 * in the queue keeps what was read of it: who waits for a server that stands
 * still in somebody's transaction cannot be served first. So does one whose next
 * message has to wait for the answers to those before it.
 *
 * A connection that is not to be read beyond a message has other callbacks
 * while this lasts (suspend_client_ops, suspend_server_ops), which read no
 * further than the end of the message; so the path of a query knows nothing
 * of it. "Parked" is a connection that was found at the boundary.
 */
#include "pool/suspend.h"

#include "core/alloc.h"
#include "core/log.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/login.h"
#include "pool/server.h"
#include "pool/survey.h"
#include "proto/frame.h"

/* Between two rounds. */
#define SUSPEND_ROUND_US 10000

enum suspend_step {
	SUSPEND_OFF,
	SUSPEND_DOORS,
	SUSPEND_CLIENTS,
	SUSPEND_SERVERS,
	SUSPEND_ONCE_MORE,
	SUSPEND_COMPLETE,
};

struct suspend {
	struct engine *engine;
	struct loop_ticker ticker; /* runs between the first round and the last */
	enum suspend_step step;
	uint64_t since_us;
	void (*complete)(void *arg);
	void *complete_arg;
	bool in_round;
	bool is_stale; /* the round under way is one of a suspension that was ended */
	/* of the round; written before it by the control thread, active by all workers */
	bool force;
	atomic_uint active;
};

/* ---- reading up to a boundary ---- */

/* Bytes that are missing to the end of the message that the stream is in the middle of; 0 at a boundary. */
static uint32_t suspend_missing(const struct stream *s, uint64_t body_left)
{
	uint32_t held = buf_len(&s->in);
	struct frame f;

	if (body_left > 0)
		return body_left < LOOP_SCRATCH_SIZE ? (uint32_t)body_left : LOOP_SCRATCH_SIZE;
	if (held == 0)
		return 0;
	if (held < FRAME_HEADER)
		return FRAME_HEADER - held;
	if (frame_read(buf_ptr(&s->in), held, UINT64_MAX, &f) != 0 || f.size <= held)
		return LOOP_SCRATCH_SIZE; /* nobody knows; it is about to be closed or worked on */
	return f.size - held < LOOP_SCRATCH_SIZE ? (uint32_t)(f.size - held) : LOOP_SCRATCH_SIZE;
}

/*
 * Reads what is missing through the usual callback. At a boundary it reads
 * nothing and returns false: the connection is parked.
 */
static bool suspend_read(struct stream *s, uint64_t body_left, const struct stream_ops *ops)
{
	uint32_t missing = suspend_missing(s, body_left);

	if (missing == 0) {
		stream_want_read(s, false);
		return false;
	}
	s->fill_max = missing;
	ops->on_readable(s->owner);
	s->fill_max = LOOP_SCRATCH_SIZE;
	return true;
}

/* What is known to be missing of the client's message: of its body, or of one that is collected. */
static uint64_t suspend_client_missing(const struct client *client)
{
	return client->gather.max > 0 ? buf_room(&client->gather) : client->body_left;
}

static void suspend_client_on_readable(void *owner)
{
	struct client *client = owner;

	if (client->parked)
		stream_want_read(&client->stream, false);
	else if (!suspend_read(&client->stream, suspend_client_missing(client), &client_stream_ops))
		client->parked = true;
}

static void suspend_client_on_drained(void *owner, int err)
{
	client_stream_ops.on_drained(owner, err);
}

static void suspend_client_on_event(void *owner)
{
	client_stream_ops.on_event(owner);
}

static const struct stream_ops suspend_client_ops = {
	.on_readable = suspend_client_on_readable,
	.on_drained = suspend_client_on_drained,
	.on_event = suspend_client_on_event,
};

/*
 * True for a server whose answers come soon, and change what its client is about
 * to do: our SET for it, and the end of a batch that is run again. Its client
 * cannot come to rest before, and nothing else is owed.
 */
static bool suspend_must_hear(const struct server *server)
{
	return server->setting_vars | server->rerun.is_under_way;
}

static void suspend_server_on_readable(void *owner)
{
	struct server *server = owner;

	if (suspend_must_hear(server))
		server_stream_ops.on_readable(server);
	else if (!suspend_read(&server->stream, server->body_left, &server_stream_ops))
		server->parked = true;
}

static void suspend_server_on_drained(void *owner, int err)
{
	server_stream_ops.on_drained(owner, err);
}

static void suspend_server_on_event(void *owner)
{
	server_stream_ops.on_event(owner);
}

static const struct stream_ops suspend_server_ops = {
	.on_readable = suspend_server_on_readable,
	.on_drained = suspend_server_on_drained,
	.on_event = suspend_server_on_event,
};

/* ---- a worker's part of a round ---- */

/*
 * True when the client is at a boundary and all it asked for was passed on, or
 * when it waits: for its turn, or for answers that may take long.
 */
static bool suspend_is_at_rest(const struct client *client)
{
	if (client->is_inner)
		return false; /* it goes with the login that it asks for */
	switch (client->state) {
	case CL_IDLE:
	case CL_ACTIVE:
	case CL_FAILED:
		return !client->task.queued && client->body_left == 0 && client->gather.max == 0 &&
		       (buf_is_empty(&client->stream.in) || client->stalled || client->blocked);
	case CL_WAITING:
		return pool_is_queued(client);
	case CL_WELCOME:
		return client->replication != NULL && pool_is_queued(client);
	default:
		return false;
	}
}

static bool suspend_park_client(struct client *client)
{
	bool was_parked = client->parked;

	client->parked = suspend_is_at_rest(client);
	if (client->parked)
		stream_want_read(&client->stream, false);
	else if (was_parked)
		client_resume(client); /* got a server meanwhile, and its message is not whole */
	return client->parked;
}

static unsigned suspend_park_clients(struct pool_part *part, bool force)
{
	struct client *client;
	struct client *next;
	unsigned active = 0;

	for (client = TAILQ_FIRST(&part->clients); client != NULL; client = next) {
		next = TAILQ_NEXT(client, entry);
		if (!client->is_inner)
			client->stream.ops = &suspend_client_ops;
		if (suspend_park_client(client))
			continue;
		active++;
		if (force)
			client_close(client, REASON_SUSPEND_TIMEOUT);
	}
	return active;
}

/* True when the server is at a boundary and everything to and from it was sent. */
static bool suspend_park_server(struct server *server)
{
	if ((server->state != SV_IDLE && server->state != SV_ACTIVE) || server->task.queued ||
	    suspend_must_hear(server) || suspend_missing(&server->stream, server->body_left) > 0)
		return false;
	stream_want_read(&server->stream, false);
	server->parked = true;
	return !stream_is_choked(&server->stream) &&
	       (server->client == NULL || !stream_is_choked(&server->client->stream));
}

static unsigned suspend_park_servers(struct pool_part *part, bool force)
{
	struct server *server;
	struct server *next;
	unsigned active = 0;

	for (server = TAILQ_FIRST(&part->servers); server != NULL; server = next) {
		next = TAILQ_NEXT(server, entry);
		if (server->state == SV_LOGIN || server->state == SV_TESTED || cleanup_is_running(server)) {
			server_close(server, REASON_SUSPEND_UNSAFE);
			continue;
		}
		server->stream.ops = &suspend_server_ops;
		if (suspend_park_server(server))
			continue;
		active++;
		if (force)
			server_close(server, REASON_SUSPEND_TIMEOUT);
	}
	return active;
}

static void suspend_visit_clients(struct worker *worker, void *arg)
{
	struct suspend *s = arg;
	struct pool_part *part;
	unsigned active = 0;

	worker->suspended = true;
	if (s->force) {
		login_fail_all(&worker->ctx, REASON_SUSPEND_TIMEOUT);
		cancel_close_all(worker);
	}
	cancel_sweep(worker, loop_now_us(worker->ctx.loop));
	TAILQ_FOREACH (part, &worker->parts, entry) {
		active += suspend_park_clients(part, s->force);
		pool_run(part);
	}
	active += cancel_is_awaited(worker);
	atomic_fetch_add(&s->active, active);
}

static void suspend_visit_servers(struct worker *worker, void *arg)
{
	struct suspend *s = arg;
	struct pool_part *part;
	unsigned active = 0;

	worker->frozen = true; /* nothing begins any more; or one would be opened for each that is closed here */
	TAILQ_FOREACH (part, &worker->parts, entry) {
		active += suspend_park_servers(part, s->force);
		active += suspend_park_clients(part, s->force); /* one may have got a server since */
	}
	atomic_fetch_add(&s->active, active);
}

static void suspend_visit_end(struct worker *worker, void *arg UNUSED)
{
	struct pool_part *part;
	struct client *client;
	struct server *server;

	worker->suspended = worker->frozen = false;
	TAILQ_FOREACH (part, &worker->parts, entry) {
		TAILQ_FOREACH (server, &part->servers, entry) {
			if (server->stream.ops == &suspend_server_ops)
				server->stream.ops = &server_stream_ops;
			if (server->parked)
				stream_want_read(&server->stream, true);
			server->parked = server->is_given = false;
		}
		TAILQ_FOREACH (client, &part->clients, entry) {
			client->stream.ops = &client_stream_ops;
			client->parked = client->is_given = false;
			if (client->state == CL_IDLE || client->state == CL_ACTIVE || client->state == CL_FAILED)
				client_resume(client);
			else
				stream_want_read(&client->stream, true);
		}
	}
}

/* ---- the rounds ---- */

struct suspend_login_msg {
	struct loop_msg msg;
	struct loop_ctx *ctx;
};

static void suspend_on_close_logins(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct suspend_login_msg *msg = CONTAINER_OF(base, struct suspend_login_msg, msg);

	login_fail_all(msg->ctx, REASON_SUSPEND_TIMEOUT);
	free(msg);
}

static void suspend_close_logins(struct engine *engine)
{
	for (unsigned i = 0; i < engine->login_count; i++) {
		struct suspend_login_msg *msg = xcalloc(1, sizeof(*msg));

		msg->msg.fn = suspend_on_close_logins;
		msg->ctx = engine->logins[i];
		loop_post(engine->logins[i]->loop, &msg->msg);
	}
}

/* Servers between two workers. */
static unsigned suspend_count_travelling(struct engine *engine)
{
	struct pool *pool;
	unsigned n = 0;

	lock_acquire(&engine->lock);
	TAILQ_FOREACH (pool, engine->pools, entry) {
		lock_acquire(&pool->lock);
		n += pool->travelling;
		lock_release(&pool->lock);
	}
	lock_release(&engine->lock);
	return n;
}

static void suspend_round(struct suspend *s);

static void suspend_completed(struct suspend *s)
{
	s->step = SUSPEND_COMPLETE;
	loop_ticker_stop(&s->ticker);
	if (s->complete != NULL)
		s->complete(s->complete_arg);
}

/* A round has come back from all workers. */
static void suspend_round_done(void *arg)
{
	struct suspend *s = arg;

	bool is_busy = atomic_load(&s->active) > 0 || suspend_count_travelling(s->engine) > 0;

	s->in_round = false;
	if (s->is_stale) {
		s->is_stale = false;
		suspend_round(s); /* of the next suspension, if there is one */
		return;
	}
	if (is_busy && s->step == SUSPEND_ONCE_MORE)
		s->step = SUSPEND_SERVERS;
	if (is_busy)
		return; /* the next round comes with the ticker */
	switch (s->step) {
	case SUSPEND_DOORS:
	case SUSPEND_CLIENTS:
	case SUSPEND_SERVERS:
		s->step++;
		suspend_round(s);
		break;
	case SUSPEND_ONCE_MORE:
		suspend_completed(s);
		break;
	case SUSPEND_OFF:
	case SUSPEND_COMPLETE:
		break;
	}
}

/* The order to accept nobody came before. */
static bool suspend_on_door(struct loop_ctx *ctx UNUSED, struct worker *worker UNUSED, unsigned index UNUSED,
			    uint64_t *at UNUSED, void *arg UNUSED)
{
	return false;
}

static bool suspend_is_over_time(const struct suspend *s)
{
	struct snapshot *snap = engine_snapshot(s->engine);
	uint64_t timeout_us = snap->conf->suspend_timeout_us;

	snapshot_release(&snap);
	return timeout_us > 0 && loop_now_us(s->engine->control) - s->since_us > timeout_us;
}

static void suspend_round(struct suspend *s)
{
	unsigned logins;

	if (s->in_round || s->step == SUSPEND_OFF || s->step == SUSPEND_COMPLETE ||
	    atomic_load(&s->engine->shutdown) == SHUTDOWN_NOW)
		return;
	s->in_round = true;
	s->force = suspend_is_over_time(s);
	/* Counted before the round: a client that leaves its login now is found on its worker by the round. */
	logins = s->step == SUSPEND_CLIENTS ? engine_login_total(s->engine) : 0;
	if (logins > 0 && s->force)
		suspend_close_logins(s->engine);
	atomic_store(&s->active, logins);
	if (s->step == SUSPEND_DOORS)
		survey_start(s->engine, suspend_on_door, suspend_round_done, s);
	else
		engine_visit(s->engine, s->step == SUSPEND_CLIENTS ? suspend_visit_clients : suspend_visit_servers,
			     suspend_round_done, s);
}

static void suspend_on_tick(struct loop *loop UNUSED, void *arg)
{
	suspend_round(arg);
}

/* ---- from outside ---- */

struct suspend *suspend_new(struct engine *engine)
{
	struct suspend *s = xcalloc(1, sizeof(*s));

	s->engine = engine;
	loop_ticker_init(&s->ticker, engine->control, suspend_on_tick, s);
	return s;
}

void suspend_free(struct suspend **suspend)
{
	struct suspend *s = *suspend;

	*suspend = NULL;
	if (s == NULL)
		return;
	loop_ticker_fini(&s->ticker);
	free(s);
}

void suspend_begin(struct suspend *s)
{
	ASSERT(s->step == SUSPEND_OFF);
	s->step = SUSPEND_DOORS;
	s->since_us = loop_now_us(s->engine->control);
	if (s->engine->listeners != NULL)
		listener_set_pause(s->engine->listeners);
	loop_ticker_start(&s->ticker, SUSPEND_ROUND_US);
	suspend_round(s);
}

void suspend_end(struct suspend *s)
{
	if (s->step == SUSPEND_OFF)
		return;
	s->step = SUSPEND_OFF;
	s->is_stale = s->in_round;
	atomic_store(&s->engine->handed_over, false);
	loop_ticker_stop(&s->ticker);
	engine_visit(s->engine, suspend_visit_end, NULL, NULL);
	if (s->engine->listeners != NULL)
		listener_set_resume(s->engine->listeners);
}

bool suspend_is_complete(const struct suspend *s)
{
	return s->step == SUSPEND_COMPLETE;
}

void suspend_on_complete(struct suspend *s, void (*fn)(void *arg), void *arg)
{
	s->complete = fn;
	s->complete_arg = arg;
}
