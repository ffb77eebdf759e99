/*
 * Clients that are logged in.
 *
 *   CL_NEW --> CL_WELCOME (no server has ever logged in to this pool, or not the one that it needs for itself)
 *      |           |
 *      v           v
 *   CL_IDLE --> CL_WAITING --> CL_HELD (its parameters are being set)
 *      ^   \          |          |
 *      |    \         v          v
 *      +-----+---- CL_ACTIVE <---+
 *      ^              |
 *      +-- CL_REPEAT <+ (its statement is run again after a while; see repeat.c)
 *      ^              |
 *      +-- CL_FAILED <+ (its transaction was lost with its server, or refused; see survive.c)
 *
 * A client in the queue, or held, is read into its own buffer only so far as
 * to notice that it goes away; its messages are worked off when it goes on.
 */
#include "pool/client.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "net/sock.h"
#include "pool/auth_reply.h"
#include "pool/cancel.h"
#include "pool/carried_key.h"
#include "pool/link.h"
#include "pool/refresh.h"
#include "pool/refuse.h"
#include "pool/registry.h"
#include "pool/repeat.h"
#include "pool/replication.h"
#include "pool/report.h"
#include "pool/survive.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"

#define CLIENT_OUT_MAX      (256 * 1024)
#define CLIENT_GREETING_MAX (64 * 1024)
#define CLIENT_ERROR_MAX    4096

static const char *const state_names[CLIENT_STATES] = {
#define X(id, name, action) name,
	CLIENT_STATE_TABLE(X)
#undef X
};

static const char *const state_actions[CLIENT_STATES] = {
#define X(id, name, action) action,
	CLIENT_STATE_TABLE(X)
#undef X
};

/* All edges, of which the picture above shows the usual ones; every state may close. */
static const bool state_edges[CLIENT_STATES][CLIENT_STATES] = {
	[CL_NEW] = { [CL_WELCOME] = true, [CL_IDLE] = true, [CL_ACTIVE] = true, [CL_CLOSED] = true },
	[CL_WELCOME] = { [CL_IDLE] = true, [CL_ACTIVE] = true, [CL_CLOSED] = true },
	[CL_IDLE] = { [CL_WAITING] = true, [CL_FAILED] = true, [CL_CLOSED] = true },
	[CL_WAITING] = { [CL_IDLE] = true, [CL_HELD] = true, [CL_ACTIVE] = true, [CL_CLOSED] = true },
	[CL_HELD] = { [CL_ACTIVE] = true, [CL_IDLE] = true, [CL_CLOSED] = true },
	[CL_ACTIVE] = { [CL_IDLE] = true, [CL_FAILED] = true, [CL_REPEAT] = true, [CL_CLOSED] = true },
	[CL_REPEAT] = { [CL_IDLE] = true, [CL_CLOSED] = true },
	[CL_FAILED] = { [CL_IDLE] = true, [CL_CLOSED] = true },
};

const char *client_state_name(enum client_state state)
{
	ASSERT(state < CLIENT_STATES);
	return state_names[state];
}

static bool client_state_waits(enum client_state state)
{
	return state == CL_WAITING || state == CL_WELCOME;
}

void client_set_state(struct client *client, enum client_state state)
{
	ASSERT(state_edges[client->state][state]);
	client->part->waiting -= client_state_waits(client->state);
	client->part->waiting += client_state_waits(state);
	client->state = state;
}

static struct loop *client_loop(const struct client *client)
{
	return client->part->worker->ctx.loop;
}

static const struct conf *client_conf(const struct client *client)
{
	return client->part->worker->ctx.snap->conf;
}

void client_describe(const struct client *client, struct log_about *about)
{
	report_about(about, client, client->id, client->pool->db->name, client->account->name);
	report_about_peer(about, &client->peer, client_conf(client)->listen_port);
	about->action = state_actions[client->state];
	if (client->state == CL_ACTIVE && client->query_us == 0)
		about->action = client->xact_us == 0 ? "idle" : "idle in transaction";
}

void client_log_unknown(const struct client *client, uint8_t type)
{
	struct log_about about;

	client_describe(client, &about);
	log_error_about(&about, "unknown pkt from client: %d/0x%x", type, type);
}

/* ---- the way to the worker ---- */

enum startup_replication client_replication(const struct client *client)
{
	return client->replication == NULL ? REPLICATION_NONE : client->replication->mode;
}

struct pool_part *client_home(struct pool *pool)
{
	unsigned homes = atomic_load_explicit(&pool->home_count, memory_order_relaxed);
	unsigned count = pool->engine->worker_count;
	struct pool_part *best = NULL;
	unsigned best_count = UINT_MAX;

	for (unsigned i = 0; i < homes; i++) {
		struct pool_part *part = pool->parts[(pool->first_home + i) % count];
		unsigned n = atomic_load_explicit(&part->client_count, memory_order_relaxed);

		if (n < best_count) {
			best = part;
			best_count = n;
		}
	}
	ASSERT(best != NULL);
	return best;
}

static struct cancel_place client_place(const struct client *client)
{
	return (struct cancel_place){
		.worker = client->part->worker->index,
		.slot = client->slot,
		.generation = client->slot_generation,
	};
}

static void client_make_key(struct client *client)
{
	const struct loop_ctx *ctx = &client->part->worker->ctx;
	struct cancel_place place = client_place(client);

	cancel_key_make(ctx->engine->cancel_secret, (unsigned)ctx->snap->conf->peer_id, &place, client->cancel_key);
	if (client->has_long_key)
		atomic_store_explicit(&ctx->engine->has_long_keys, true, memory_order_relaxed);
}

void client_get_cancel_key(const struct client *client, struct cancel_key *key)
{
	if (client->carried_key != NULL)
		carried_key_get(client->carried_key, key);
	else if (client->has_long_key)
		cancel_key_extend(client->pool->engine->cancel_secret, client->cancel_key, key);
	else
		cancel_key_set(key, client->cancel_key, CANCEL_KEY_LEN);
}

/* Makes the client one of this worker's. */
static void client_join(struct client *client, struct pool_part *part)
{
	struct worker *worker = part->worker;

	client->part = part;
	client->slot = worker_slot_take(worker, client, &client->slot_generation);
	TAILQ_INSERT_TAIL(&part->clients, client, entry);
	part->present++;
	client_apply_conf(client);
	stream_attach(&client->stream, worker->ctx.loop);
}

static void client_arrive(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct client *client = CONTAINER_OF(msg, struct client, msg);
	struct worker *worker = worker_current();
	struct pool_part *part = pool_part_get(client->pool, worker);

	client_join(client, part);
	client_make_key(client);
	if (!client->is_inner)
		stats_add(&part->stats, STAT_client_login_count, 1);
	client->request_us = loop_now_us(worker->ctx.loop);
	if (atomic_load(&client->pool->removed))
		client_close(client, REASON_DB_REMOVED);
	else
		client_greet(client);
}

static struct client *client_new(const struct client_birth *birth)
{
	struct client *client = xcalloc(1, sizeof(*client));
	int err;

	client->magic = CLIENT_MAGIC;
	client->state = CL_NEW;
	client->pool = birth->pool;
	client->account = birth->account;
	client->vars = birth->vars;
	client->startup = birth->startup;
	client->startup_is_raw = birth->startup != NULL;
	client->replication = birth->replication;
	client->id = birth->id;
	client->connect_us = birth->connect_us;
	client->is_unix = birth->is_unix;
	client->is_inner = birth->is_inner;
	client->has_long_key = birth->has_long_key;
	client->peer = birth->peer;
	if (client->is_unix && client->peer.family == 0)
		sock_peer_set_fd(&client->peer, birth->socket.fd);
	stream_init(&client->stream, birth->socket.fd, &client_stream_ops, client, CLIENT_IN_MAX, CLIENT_OUT_MAX);
	stream_set_secret(&client->stream, birth->is_inner);
	stream_adopt_tls(&client->stream, birth->socket.tls);
	err = stream_hold(&client->stream, birth->pending, birth->pending_len);
	ASSERT(err == 0);
	return client;
}

void client_hand_over(struct client_birth *birth)
{
	struct client *client = client_new(birth);
	struct pool_part *part = client_home(birth->pool);

	atomic_fetch_add_explicit(&part->client_count, 1, memory_order_relaxed);
	client->msg.fn = client_arrive;
	loop_post(part->worker->ctx.loop, &client->msg);
}

struct client *client_carry(const struct client_birth *birth, struct pool_part *part,
			    const struct cancel_key *cancel_key)
{
	struct client *client = client_new(birth);

	memcpy(client->cancel_key, cancel_key->bytes, sizeof(client->cancel_key));
	client->carried_key = carried_key_new(cancel_key);
	if (cancel_key->len != CANCEL_KEY_LEN)
		atomic_store_explicit(&birth->pool->engine->has_long_keys, true, memory_order_relaxed);
	atomic_fetch_add_explicit(&part->client_count, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&birth->pool->db->clients, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&birth->account->clients, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&birth->pool->engine->client_count, 1, memory_order_relaxed);
	return client;
}

void client_carried(struct client *client, struct pool_part *part)
{
	struct cancel_place place;

	client_join(client, part);
	client->unnamed_effect = CLASSIFY_EFFECT_UNSEEN;
	place = client_place(client);
	carried_key_list(client->pool->engine, client->carried_key, &place);
}

void client_apply_conf(struct client *client)
{
	const struct pool_conf *pc = client->part->conf;
	const struct conf *conf = client_conf(client);
	const struct conf_user *user = conf_find_user(conf, client->account->name);

	client->part->timed -= client->idle_timeout_us > 0;
	client->query_wait_timeout_us = pc->query_wait_timeout_us;
	if (user != NULL && user->query_wait_timeout_us != CONF_INHERIT_US)
		client->query_wait_timeout_us = user->query_wait_timeout_us;
	client->idle_timeout_us = conf_client_idle_timeout_us(conf, user);
	client->part->timed += client->idle_timeout_us > 0;
}

/* ---- the greeting ---- */

static int client_build_greeting(struct client *client, const struct welcome *welcome, struct buf *b)
{
	struct cancel_key key;
	int err = build_auth_ok(b);

	client_get_cancel_key(client, &key);
	if (err == 0)
		err = buf_append(b, welcome->bytes, welcome->len);
	for (int i = 0; err == 0 && i < vars_count(); i++) {
		const char *value = vars_get(client->vars, i);

		if (value != NULL)
			err = build_parameter_status(b, slice_of(vars_name(i)), slice_of(value));
	}
	if (err == 0)
		err = cancel_key_build(b, &key);
	if (err == 0)
		err = report_login_notice(b, client_conf(client));
	return err == 0 ? build_ready(b, TX_IDLE) : err;
}

bool client_send_greeting(struct client *client, const struct welcome *welcome)
{
	struct buf b;
	int err;

	buf_init(&b, CLIENT_GREETING_MAX);
	vars_fill(&client->vars, welcome->defaults);
	err = client_build_greeting(client, welcome, &b);
	if (err == 0)
		err = stream_send_buf(&client->stream, &b);
	buf_fini(&b);
	client->notified = false;
	if (err < 0)
		client_drop(client, REASON_CLIENT_IO);
	return err >= 0;
}

void client_greet(struct client *client)
{
	struct welcome *welcome;
	char failure[128];
	bool is_greeted;

	if (client->replication != NULL) {
		if (!refuse_newcomer(client))
			replication_wait(client);
		return;
	}
	welcome = pool_welcome(client->pool);
	if (welcome == NULL && atomic_load(&client->pool->engine->shutdown) == SHUTDOWN_WAIT_FOR_SERVERS) {
		client_close(client, REASON_SERVER_SHUTDOWN);
		return;
	}
	if (welcome == NULL && client->is_inner && pool_is_failing(client->part, failure, sizeof(failure))) {
		link_refuse_failed(client, failure); /* somebody who logs in waits for it */
		return;
	}
	if (welcome == NULL && refuse_newcomer(client))
		return;
	if (welcome == NULL) {
		if (client->state != CL_WELCOME)
			client_set_state(client, CL_WELCOME);
		pool_enqueue(client->part, client);
		return;
	}
	is_greeted = client_send_greeting(client, welcome);
	welcome_release(&welcome);
	if (!is_greeted)
		return;
	client_set_state(client, CL_IDLE);
	if (!buf_is_empty(&client->stream.in))
		client_resume(client);
}

void client_send_ready(struct client *client)
{
	enum tx_status status = survive_fails_refused(client) ? TX_FAILED : TX_IDLE;
	struct buf b;
	int err;

	buf_init(&b, 64);
	err = build_ready(&b, status);
	if (err == 0)
		err = stream_send_buf(&client->stream, &b);
	buf_fini(&b);
	client->query_us = client->xact_us = client->hint_us = client->waited_us = 0;
	if (err < 0)
		client_drop(client, REASON_CLIENT_IO);
}

/* ---- the end ---- */

static void client_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	struct client *client = CONTAINER_OF(task, struct client, task);

	CHECK_OBJ(client, CLIENT_MAGIC);
	vars_release(&client->vars);
	vars_release(&client->startup);
	vars_release(&client->vars_before);
	free(client->replication);
	prep_client_clear(&client->prep);
	if (client->gather.max > 0 && buf_room(&client->gather) > 0)
		stmt_unclaim(client->gather.max);
	buf_fini(&client->gather);
	account_release(&client->account);
	pool_release(&client->pool);
	client->magic = 0;
	free(client);
}

/* True when it goes on in another process: nothing may be said on its socket here, and it has not ended. */
static bool client_is_given_away(const struct client *client)
{
	return client->is_given && atomic_load(&client->pool->engine->handed_over);
}

static void client_log_close(const struct client *client, const struct log_about *about, const char *why)
{
	if (!client_is_given_away(client) && !client->is_inner)
		report_close(client_conf(client), about, why, loop_now_us(client_loop(client)) - client->connect_us);
}

/* True when bytes of our own would be taken for the rest of a message of the server. */
static bool client_is_inside_message(const struct client *client)
{
	const struct server *server = client->server;

	return client->cut || (server != NULL && server->body_left > 0 && !server->swallow_body);
}

/* Takes the client out of everything; it is freed at the end of the turn. */
static void client_end(struct client *client)
{
	struct pool_part *part = client->part;
	struct engine *engine = client->pool->engine;

	ASSERT(client->state != CL_CLOSED);
	pool_dequeue(part, client);
	client_set_state(client, CL_CLOSED);
	if (client->server != NULL)
		link_client_gone(client);
	replication_client_gone(client);
	survive_free(client);
	repeat_free(client);
	worker_slot_give(part->worker, client->slot);
	carried_key_free(engine, &client->carried_key);
	refresh_skip_client(part->worker, client);
	TAILQ_REMOVE(&part->clients, client, entry);
	part->present--;
	part->timed -= client->idle_timeout_us > 0;
	atomic_fetch_sub_explicit(&part->client_count, 1, memory_order_relaxed);
	if (!client->is_inner) {
		atomic_fetch_sub_explicit(&client->pool->db->clients, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&client->account->clients, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&engine->client_count, 1, memory_order_relaxed);
	}
	stream_close(&client->stream);
	loop_cancel(client_loop(client), &client->task);
	client->task.fn = client_free_task;
	loop_defer(client_loop(client), &client->task);
}

void client_drop(struct client *client, enum reason reason)
{
	struct log_about about;

	if (client->state == CL_CLOSED)
		return;
	if (client_conf(client)->log_disconnections != 0) {
		client_describe(client, &about);
		client_log_close(client, &about, reason_text(reason));
	}
	client_end(client);
}

/*
 * Tells a look-up what has befallen its client, and whether that was waiting;
 * the log is told by the look-up. Strangers may learn from it what PgBouncer
 * tells them, but with our own profile not what a server has said about auth_user.
 */
static void client_end_inner(struct client *client, const struct report *report)
{
	bool has_server = client->state == CL_HELD || client->state == CL_ACTIVE;
	bool is_secret = report->is_server && client_conf(client)->profile == CONF_PROFILE_PGSLUICE;
	bool has_state = report->is_server || client_conf(client)->error_style == CONF_ERROR_POSTGRES;
	struct build_report told = {
		.severity = slice_of(has_server ? "FATAL" : AUTH_REPLY_WAITED),
		.sqlstate = slice_of(has_state ? report->sqlstate : reason_sqlstate(REASON_BAD_PACKET)),
		.message = slice_of(report->text),
	};
	struct buf b;
	int err UNUSED;

	if (is_secret) {
		told.sqlstate = slice_of(reason_sqlstate(REASON_LOGIN_FAILED));
		told.message = slice_of(reason_text(REASON_LOGIN_FAILED));
	}
	buf_init(&b, CLIENT_ERROR_MAX);
	err = build_error(&b, &told);
	if (err == 0 && !client_is_inside_message(client))
		err = stream_send_buf(&client->stream, &b);
	buf_fini(&b);
	client_end(client);
}

void client_close_report(struct client *client, const struct report *report)
{
	struct log_about about;
	struct buf b;
	int err UNUSED;

	if (client->state == CL_CLOSED)
		return;
	if (client->is_inner) {
		client_end_inner(client, report);
		return;
	}
	client_describe(client, &about);
	str_copy(about.sqlstate, sizeof(about.sqlstate), report->sqlstate);
	client_log_close(client, &about, report->text);
	buf_init(&b, CLIENT_ERROR_MAX);
	err = report_error(&b, client_conf(client), &about, "FATAL", report);
	if (err == 0 && !client_is_inside_message(client) && !client_is_given_away(client))
		err = stream_send_buf(&client->stream, &b); /* closing flushes nothing: what does not fit is lost */
	buf_fini(&b);
	client_end(client);
}

void client_report(const struct client *client, enum reason reason, struct report *report)
{
	struct report_facts facts;

	report_client_facts(&facts, client, reason);
	report_reason(report, client_conf(client), reason, &facts.known);
}

void client_close(struct client *client, enum reason reason)
{
	struct report report;

	if (client->state == CL_CLOSED)
		return;
	client_report(client, reason, &report);
	client_close_report(client, &report);
}

void client_close_header(struct client *client, const uint8_t *p, size_t n)
{
	struct reason_facts facts = { .bytes = "" };
	struct report report;
	char bytes[20] = "";

	for (size_t i = 0; i < n && i < 8; i++)
		str_append(bytes, sizeof(bytes), "%02x", p[i]);
	facts.bytes = bytes;
	report_reason(&report, client_conf(client), REASON_BAD_HEADER, &facts);
	client_close_report(client, &report);
}

/* ---- bytes ---- */

/* Works on bytes of the client and keeps what is left over. */
static void client_feed(struct client *client, const uint8_t *data, size_t len)
{
	size_t used = link_from_client(client, data, len);

	if (client->state == CL_CLOSED)
		return;
	if (used < len && stream_hold(&client->stream, data + used, len - used) != 0) {
		client_close(client, REASON_OOM);
		return;
	}
	if (client->blocked || client->stalled)
		stream_watch_close(&client->stream); /* the answers that it waits for may take long */
	else if (client->server == NULL && client->state != CL_WAITING)
		client->request_us = loop_now_us(client_loop(client));
	else if (client->server != NULL && UNLIKELY(client->server->rerun.is_under_way | client->server->timeout.holds))
		stream_watch_close(&client->stream); /* nothing is worked on until that has ended */
	else if (client->server != NULL)
		link_settle(client->server);
}

/* Reads a client whose messages must wait, to see whether it is still there. */
static void client_gather(struct client *client)
{
	int err;

	if (buf_len(&client->stream.in) >= CLIENT_WAIT_MAX) {
		stream_watch_close(&client->stream);
		return;
	}
	err = stream_gather(&client->stream);
	if (err == -E_NOSPACE)
		stream_watch_close(&client->stream);
	else if (err == -E_NOMEM)
		client_close(client, REASON_OOM);
	else if (err < 0 && err != -E_AGAIN)
		client_drop(client, REASON_CLIENT_EOF);
}

/*
 * True when it has to read what it was sent before it is read again. Not while
 * data goes both ways: what it reports then keeps the server from giving it up.
 */
static bool client_must_read_first(const struct client *client)
{
	return stream_is_choked(&client->stream) && (client->server == NULL || !client->server->track.copy_both);
}

/* True when its messages are worked on. */
static inline bool client_is_heard(const struct client *client)
{
	return LIKELY(client->state == CL_ACTIVE || client->state == CL_IDLE) || client->state == CL_FAILED;
}

static void client_on_readable(void *owner)
{
	struct client *client = owner;
	uint8_t *data;
	size_t len;
	int err;

	if (UNLIKELY(!client_is_heard(client))) {
		client_gather(client);
		return;
	}
	if (UNLIKELY(client->task.queued))
		return; /* what it sent before comes first, at the end of this turn */
	if (UNLIKELY(client_must_read_first(client))) {
		stream_want_read(&client->stream, false); /* until it has read what it was sent */
		return;
	}
	err = stream_fill(&client->stream, &data, &len);
	if (LIKELY(err == 0))
		client_feed(client, data, len);
	else if (err != -E_AGAIN)
		client_drop(client, REASON_CLIENT_EOF);
}

static void client_on_drained(void *owner, int err)
{
	struct client *client = owner;

	if (err < 0) {
		client_drop(client, REASON_CLIENT_IO);
		return;
	}
	if (client->server != NULL)
		stream_want_read(&client->server->stream, true);
	if (client_is_heard(client) && !client->blocked && !client->stalled)
		client_resume(client);
}

static void client_on_event(void *owner)
{
	client_drop(owner, REASON_CLIENT_EOF);
}

const struct stream_ops client_stream_ops = {
	.on_readable = client_on_readable,
	.on_drained = client_on_drained,
	.on_event = client_on_event,
};

/* ---- going on ---- */

static void client_resume_task(struct loop *loop UNUSED, struct loop_task *task)
{
	struct client *client = CONTAINER_OF(task, struct client, task);
	struct buf held;

	if (!client_is_heard(client))
		return;
	if (client_must_read_first(client) || (client->server != NULL && stream_is_choked(&client->server->stream)))
		return; /* comes again when the queue is empty */
	stream_want_read(&client->stream, true);
	if (buf_is_empty(&client->stream.in) && client->gather.max == 0)
		return;
	held = client->stream.in;
	buf_init(&client->stream.in, held.max);
	client_feed(client, buf_is_empty(&held) ? NULL : buf_ptr(&held), buf_len(&held));
	buf_fini(&held);
}

void client_resume(struct client *client)
{
	if (client->state == CL_CLOSED)
		return;
	client->task.fn = client_resume_task;
	loop_defer(client_loop(client), &client->task);
}

/* It has no server any more, and goes on in this state. */
static inline void client_go_on(struct client *client, enum client_state state)
{
	client_set_state(client, state);
	client->discard_body = client->body_left > 0;
	if (UNLIKELY(client->cut_text != NULL))
		survive_end_text(client); /* of what the server has got a part of */
	if (client->blocked || client->gather.max > 0 || !buf_is_empty(&client->stream.in) ||
	    !client->stream.want_read) {
		client->blocked = false;
		client_resume(client);
	}
}

/* The link has ended, and nothing is open; what next? */
static inline void client_unlinked_to(struct client *client, enum client_state state)
{
	if (client->state == CL_CLOSED)
		return;
	client->query_us = client->xact_us = client->hint_us = client->waited_us = 0;
	client_go_on(client, state);
}

static uint64_t client_left_us(uint64_t limit_us, uint64_t spent_us)
{
	if (limit_us == 0)
		return UINT64_MAX;
	return spent_us < limit_us ? limit_us - spent_us : 0;
}

uint64_t client_wait_left_us(const struct client *client, uint64_t now_us, uint64_t age_us)
{
	uint64_t wait_us = client_left_us(client->query_wait_timeout_us, client->waited_us + age_us);
	uint64_t open_us = client->query_us != 0 && client->query_us < now_us ? now_us - client->query_us : age_us;
	uint64_t query_us = UINT64_MAX;

	if (client->part->conf->timeout_includes_wait)
		query_us = client_left_us(query_timeout_limit_us(client), open_us);
	return query_us < wait_us ? query_us : wait_us;
}

void client_unsent(struct client *client)
{
	if (client->state != CL_CLOSED)
		client_go_on(client, CL_IDLE);
}

void client_unlinked(struct client *client)
{
	client_unlinked_to(client, CL_IDLE);
}

void client_failed(struct client *client)
{
	client_unlinked_to(client, CL_FAILED);
}

/* It waits no longer. */
static void client_count_wait(struct client *client)
{
	stats_add(&client->part->stats, STAT_wait_time, loop_now_us(client_loop(client)) - client->wait_us);
}

void client_granted_greeting(struct client *client)
{
	client_count_wait(client);
	client_greet(client);
}

bool client_granted(struct client *client, struct server *server)
{
	client->granted = false;
	client->notified = false;
	client_count_wait(client);
	if (client->state == CL_WELCOME) {
		client_greet(client);
		return false;
	}
	ASSERT(client->state == CL_WAITING);
	client->waited_us += loop_now_us(client_loop(client)) - client->wait_us;
	link_attach(client, server);
	if (client->state == CL_ACTIVE)
		client_resume(client);
	return true;
}

/* ---- a wait that comes to nothing ---- */

/* The body of the message at the head of the kept bytes, as far as it has come. */
static struct slice client_body(const struct buf *in, const struct frame *f)
{
	size_t n = f->size < buf_len(in) ? (size_t)f->size : buf_len(in);

	return slice_make(buf_ptr(in) + FRAME_HEADER, n - FRAME_HEADER);
}

/* What becomes of a request whose messages are thrown away. */
enum client_drop {
	CLIENT_DROP_ON,   /* there are more of it to come */
	CLIENT_DROP_REST, /* this was the last, of which the rest is to come */
	CLIENT_DROP_DONE,
};

/* A message of a request that ends is thrown away. */
static enum client_drop client_drop_message(struct client *client, const struct client_message *m)
{
	bool is_last = m->type == FE_QUERY || m->type == FE_FUNCTION_CALL || m->type == FE_SYNC;
	bool is_seen = survive_note_refused(client, m->type, m->body, m->is_whole);

	if (!is_last)
		return CLIENT_DROP_ON;
	return is_seen ? CLIENT_DROP_DONE : CLIENT_DROP_REST;
}

/* The message that comes before the kept bytes, if there is one: it was waited for as a whole, see link_client.c. */
static void client_drop_gathered(struct client *client)
{
	struct client_message m = { .type = FE_PARSE, .is_whole = true };
	struct buf *b = &client->gather;

	if (b->max == 0 || buf_room(b) > 0)
		return;
	m.body = slice_make(buf_ptr(b) + FRAME_HEADER, buf_len(b) - FRAME_HEADER);
	(void)client_drop_message(client, &m);
	buf_fini(b);
	b->max = 0;
}

/*
 * Drops the request at the head of what is kept: one Query or FunctionCall, or a
 * batch up to its Sync.
 */
static enum client_drop client_drop_kept(struct client *client)
{
	struct buf *in = &client->stream.in;

	client_drop_gathered(client);
	while (!buf_is_empty(in)) {
		struct client_message m;
		enum client_drop drop;
		struct frame f;
		int err = frame_read(buf_ptr(in), buf_len(in), UINT64_MAX, &f);

		if (err != 0)
			break; /* a head that is not whole, or bad: found again when it is read */
		if (f.type == FE_TERMINATE)
			return CLIENT_DROP_DONE;
		m = (struct client_message){ f.type, client_body(in, &f), f.size <= buf_len(in) };
		drop = client_drop_message(client, &m);
		if (f.size > buf_len(in)) {
			client->body_left = f.size - buf_len(in);
			client->discard_body = true;
			buf_clear(in);
		} else {
			buf_consume(in, (uint32_t)f.size);
		}
		if (drop != CLIENT_DROP_ON)
			return drop;
	}
	return CLIENT_DROP_ON;
}

bool client_send_error(struct client *client, const struct report *report)
{
	struct log_about about;
	struct buf b;
	int err;

	buf_init(&b, CLIENT_ERROR_MAX);
	client_describe(client, &about);
	err = report_error(&b, client_conf(client), &about, "ERROR", report);
	if (err == 0)
		err = stream_send_buf(&client->stream, &b);
	buf_fini(&b);
	if (err < 0)
		client_drop(client, REASON_CLIENT_IO);
	return err >= 0;
}

void client_end_request(struct client *client, const struct report *report, const struct client_message *message)
{
	enum client_drop drop;

	ASSERT(client->state == CL_WAITING || client->state == CL_REPEAT || client->state == CL_HELD);
	if (client->state == CL_WAITING && message == NULL)
		client_count_wait(client);
	client->notified = false;
	repeat_free(client);
	if (!client_send_error(client, report))
		return;
	client_set_state(client, CL_IDLE);
	drop = message == NULL ? client_drop_kept(client) : client_drop_message(client, message);
	client->skip_to_sync = drop == CLIENT_DROP_ON;
	if (drop == CLIENT_DROP_DONE)
		client_send_ready(client);
	if (message == NULL)
		client_resume(client);
}

bool client_cancel_wait(struct client *client)
{
	struct report report;

	report_server(&report, "canceling statement due to user request", "57014");
	if (client->state != CL_REPEAT && (client->state != CL_WAITING || !pool_dequeue(client->part, client)))
		return false;
	client_end_request(client, &report, NULL);
	return true;
}
