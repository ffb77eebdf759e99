/*
 * Servers: connections to PostgreSQL after their login.
 *
 *   SV_LOGIN --> SV_IDLE <----> SV_ACTIVE (linked to a client)
 *                 |   ^            |
 *                 |   |            +--> SV_TESTED (reset or check query) --+
 *                 |   |            +--> SV_CANCELED (cancel under way) ----+
 *                 |   +----------------------------------------------------+
 *                 +--> SV_TRAVEL (to another worker) --> SV_IDLE
 *
 * A server belongs to one worker. Another worker that wants an idle one takes
 * it off the idle list under the pool's lock, which reserves it, and asks the
 * owner to send it (server_lend). Between the two the owner may find the
 * connection dead; it then only marks it, and closes it when asked.
 */
#include "pool/server.h"

#include <sys/socket.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "pool/cancel.h"
#include "pool/failure.h"
#include "pool/link.h"
#include "pool/registry.h"
#include "pool/registry_walk.h"
#include "pool/replication.h"
#include "pool/report.h"
#include "pool/server_login.h"
#include "pool/shadow.h"
#include "pool/survive.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"

#define SERVER_QUERY_MAX  (64 * 1024)

#define SERVER_EMPTY_PATH "set local search_path to ''; "

static const char *const state_names[SERVER_STATES] = {
#define X(id, name, action) name,
	SERVER_STATE_TABLE(X)
#undef X
};

static const char *const state_actions[SERVER_STATES] = {
#define X(id, name, action) action,
	SERVER_STATE_TABLE(X)
#undef X
};

/* All edges, of which the picture above shows the usual ones; every state may close. */
static const bool state_edges[SERVER_STATES][SERVER_STATES] = {
	[SV_LOGIN] = { [SV_IDLE] = true, [SV_TESTED] = true, [SV_CLOSED] = true },
	[SV_IDLE] = { [SV_ACTIVE] = true, [SV_TESTED] = true, [SV_TRAVEL] = true, [SV_CLOSED] = true },
	[SV_ACTIVE] = { [SV_IDLE] = true, [SV_TESTED] = true, [SV_CANCELED] = true, [SV_CLOSED] = true },
	[SV_TESTED] = { [SV_IDLE] = true, [SV_TESTED] = true, [SV_CANCELED] = true, [SV_CLOSED] = true },
	[SV_CANCELED] = { [SV_IDLE] = true, [SV_TESTED] = true, [SV_CLOSED] = true },
	[SV_TRAVEL] = { [SV_IDLE] = true, [SV_CLOSED] = true },
};

const char *server_state_name(enum server_state state)
{
	ASSERT(state < SERVER_STATES);
	return state_names[state];
}

void server_set_state(struct server *server, enum server_state state)
{
	ASSERT(state_edges[server->state][state]);
	server->state = state;
}

static struct loop *server_loop(const struct server *server)
{
	return server->part->worker->ctx.loop;
}

void server_describe(const struct server *server, struct log_about *about)
{
	report_about(about, server, server->id, server->pool->db->name, server->pool->account->name);
	report_about_addr(about, &server->addr, server_port(server));
	about->kind = 'S';
	about->action = state_actions[server->state];
}

/* ---- the end ---- */

static void server_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	struct server *server = CONTAINER_OF(task, struct server, task);

	CHECK_OBJ(server, SERVER_MAGIC);
	track_fini(&server->track);
	prep_server_fini(&server->prep);
	rerun_fini(&server->rerun);
	shadow_fini(server);
	buf_fini(&server->prelude);
	free(server->last_words);
	vars_release(&server->vars);
	vars_release(&server->defaults);
	endpoint_release(&server->endpoint);
	pool_conf_release(&server->conf);
	server_tls_fini(&server->tls);
	pool_release(&server->pool);
	mem_wipe(server->backend_key, sizeof(server->backend_key));
	server->magic = 0;
	free(server);
}

/* True when it goes on in another process: nothing may be said on its socket here, and it has not ended. */
static bool server_is_given_away(const struct server *server)
{
	return server->is_given && atomic_load(&server->pool->engine->handed_over);
}

/* `text`: what the server has said, if it has refused the login; a replicating client's own is its own affair. */
static void server_log_close(const struct server *server, enum reason reason, const char *text)
{
	const struct conf *conf = server->part->worker->ctx.snap->conf;
	struct log_about about;

	if (conf->log_disconnections == 0 || server_is_given_away(server))
		return;
	server_describe(server, &about);
	if (reason != REASON_LOGIN_FAILED || server->replication != REPLICATION_NONE)
		text = reason_text(reason);
	report_close(conf, &about, text, loop_now_us(server_loop(server)) - server->connect_us);
}

/* A polite end, where PostgreSQL would otherwise log an unexpected one. */
static void server_send_terminate(struct server *server)
{
	static const uint8_t terminate[] = FRAME_EMPTY(FE_TERMINATE);

	/* Behind a part of a message it would be taken for the rest. */
	if (server->stream.fd >= 0 && server->state != SV_LOGIN && !server->cut && !stream_is_choked(&server->stream) &&
	    !server_is_given_away(server))
		stream_send_last(&server->stream, terminate, sizeof(terminate));
}

/* Its login has failed; the permit is given back. */
static void server_report_failure(struct server *server, struct permit *permit, enum reason reason,
				  enum failure_moment moment, const char *text)
{
	struct pool_failure failure = {
		.why = text,
		.counts = failure_is_of_pool(reason, server->replication != REPLICATION_NONE),
		.class = failure_classify(reason, moment, server->sqlstate),
		.has_connected = moment != FAILURE_AT_CONNECT,
		.is_refusal = server->sqlstate[0] != '\0',
		.started_us = server->connect_us,
	};

	if (!failure.counts)
		failure.class = FAILURE_NONE;
	pool_login_failed(server->part, permit, &failure);
}

/* How far it has come, for breakers. */
static enum failure_moment server_moment(const struct server *server)
{
	switch (server->state) {
	case SV_LOGIN:
		return server_login_is_connected(server) ? FAILURE_AT_LOGIN : FAILURE_AT_CONNECT;
	case SV_ACTIVE:
	case SV_TESTED:
	case SV_CANCELED:
		return FAILURE_AT_QUERY;
	default:
		return FAILURE_AT_REST;
	}
}

/* Since when it has been at what it does. */
static uint64_t server_began_us(const struct server *server)
{
	const struct client *client = server->client;

	return client != NULL && client->xact_us != 0 ? client->xact_us : server->request_us;
}

/* What the one client is told for which it was opened. */
static void server_report_login(const struct server *server, const struct client *client, enum reason reason,
				const char *text, struct report *report)
{
	struct report_facts facts;

	report_client_facts(&facts, client, reason);
	facts.known.error = text;
	if (server->addr.len > 0) {
		sock_addr_format(&server->addr, facts.server, sizeof(facts.server));
		facts.known.server = facts.server;
	}
	report_reason(report, client->part->worker->ctx.snap->conf, reason, &facts.known);
}

/* True when a statement would go on there for nobody, on a host that is left for another one. */
static bool server_leaves_work(const struct server *server, enum reason reason)
{
	return (reason == REASON_CUT_OFF || reason == REASON_FENCED) && server->client != NULL &&
	       !track_is_quiet(&server->track);
}

void server_close_login(struct server *server, enum reason reason, const char *text)
{
	struct report report;
	struct survive_loss loss;
	struct pool_part *part = server->part;
	struct client *client = server->client;
	struct permit permit = server->permit;
	bool outlives = false;
	bool was_login = server->state == SV_LOGIN;
	enum failure_moment moment = server_moment(server);
	uint64_t began_us = server_began_us(server);

	if (server->state == SV_CLOSED)
		return;
	if (server->state == SV_IDLE && server->is_listed && !pool_remove_idle(part, server)) {
		/* Reserved by another worker, whose request is on its way to us. */
		server->dirty = true;
		stream_want_read(&server->stream, false);
		return;
	}
	server_log_close(server, reason, text);
	if (server_leaves_work(server, reason))
		cancel_parting(server);
	if (client != NULL) {
		client_report(client, reason, &report);
		outlives = survive_begin(server, reason, &loss);
		if (server->last_words != NULL)
			report_server(&report, server->last_words->text, server->last_words->sqlstate);
		link_detach(client, server); /* says whether the client has left a message half sent */
	} else {
		client = replication_abandon(server, reason);
		if (client != NULL)
			server_report_login(server, client, reason, text, &report);
	}
	server_send_terminate(server);
	server_set_state(server, SV_CLOSED);
	cancel_detach(part->worker, server);
	stream_close(&server->stream);
	server_login_free(server);
	TAILQ_REMOVE(&part->servers, server, entry);
	loop_cancel(server_loop(server), &server->task);
	server->task.fn = server_free_task;
	loop_defer(server_loop(server), &server->task);
	server->permit.pool = NULL;
	if (failure_is_symptom(reason) && server->endpoint != NULL)
		endpoint_symptom(server->endpoint, text);
	if (was_login) {
		server_report_failure(server, &permit, reason, moment, text);
	} else {
		breaker_pass_fail(&permit.pass, failure_classify(reason, moment, server->sqlstate), began_us, text,
				  loop_now_us(part->worker->ctx.loop));
		pool_permit_give(part, &permit);
	}
	if (outlives)
		survive_end(client, &loss, &report);
	else if (client != NULL)
		client_close_report(client, &report);
}

void server_close(struct server *server, enum reason reason)
{
	server_close_login(server, reason, reason_text(reason));
}

/* ---- our own queries ---- */

void server_send_own(struct server *server, const char *before, const char *sql)
{
	size_t before_len = strlen(before);
	size_t sql_len = strlen(sql);
	char *text = xmalloc(before_len + sql_len + 1);
	struct buf b;
	int err;

	memcpy(text, before, before_len);
	memcpy(text + before_len, sql, sql_len);
	buf_init(&b, SERVER_QUERY_MAX);
	server->ours_failed = false;
	server->resetting = sql == server->part->conf->reset_query;
	server->request_us = loop_now_us(server_loop(server));
	err = build_query(&b, slice_make(text, before_len + sql_len));
	free(text);
	if (err == 0 && !track_ours(&server->track, FE_QUERY))
		err = -E_NOMEM;
	if (err == 0)
		err = stream_send_buf(&server->stream, &b);
	buf_fini(&b);
	if (err < 0)
		server_close(server, REASON_SERVER_SEND);
}

void server_fail_copy(struct server *server, enum reason why)
{
	struct buf b;
	int err;

	if (!server->track.copy_open || server->track.copy_both)
		return;
	buf_init(&b, 256);
	err = build_copy_fail(&b, slice_of(reason_text(why)));
	if (err == 0 && track_client(&server->track, FE_COPY_FAIL) != TRACK_PASS)
		err = -E_NOMEM;
	if (err == 0)
		err = stream_send_buf(&server->stream, &b);
	buf_fini(&b);
	if (err < 0)
		server->track.broken = true;
}

/* The search_path that is in force may be one that a client has set. The check's own lasts for its message. */
static void server_send_check(struct server *server)
{
	const char *query = server->part->conf->check_query;

	server_set_state(server, SV_TESTED);
	server_send_own(server, query[0] == '\0' ? "" : SERVER_EMPTY_PATH, query);
}

void server_check(struct server *server)
{
	if (server->part->conf->check_query == NULL)
		server_free(server);
	else
		server_send_check(server);
}

/* ---- back to the pool ---- */

/* True when the connection is old enough to go, and no other went just before. */
static bool server_is_over(struct server *server)
{
	uint64_t now = loop_now_us(server_loop(server));

	return pool_claim_lifetime(server->pool, server->part->conf, now - server->connect_us, now);
}

void server_free(struct server *server)
{
	if (UNLIKELY(server_is_unwanted(server))) {
		server_close(server, REASON_CLOSE_NEEDED);
	} else if (UNLIKELY(!stream_is_clean(&server->stream))) {
		server_close(server, REASON_IDLE_DIRTY); /* something nobody has asked for, a part of a record of TLS */
	} else {
		ASSERT(server->cancels == 0);
		if (server->state != SV_IDLE)
			server_set_state(server, SV_IDLE);
		pool_checkin(server->part, server);
	}
}

/* The session is as it should be, by all that we know: goes on to server_free(). */
static void server_release(struct server *server)
{
	const char *query = shadow_begin(server);

	if (LIKELY(query == NULL)) {
		server_free(server);
		return;
	}
	server_set_state(server, SV_TESTED);
	server_send_own(server, "", query);
}

void server_free_to_pool(struct server *server)
{
	const struct pool_conf *conf = server->part->conf;

	cancel_detach(server->part->worker, server);
	server->track.mixed = false;
	if (UNLIKELY(server->track.tainted)) {
		server_close(server, REASON_DOUBT);
	} else if (server->cancels > 0) {
		server_set_state(server, SV_CANCELED); /* the signal must not hit our own query either */
	} else if (server_is_over(server)) {
		server_close(server, REASON_LIFETIME);
	} else if (conf->reset_query != NULL) {
		server_set_state(server, SV_TESTED);
		server_send_own(server, "", conf->reset_query);
	} else if (conf->check_query != NULL && conf->server_check_delay_us == 0) {
		server_send_check(server);
	} else {
		server_release(server);
	}
}

/* True when nothing is owed, open, or under way in any buffer. */
static bool server_is_clean(const struct server *server)
{
	return track_is_idle(&server->track) && stream_is_clean(&server->stream) && server->body_left == 0;
}

void server_test_done(struct server *server)
{
	/* An error in the check query shows that the server works; one in the reset query, that nothing was reset. */
	if (!server_is_clean(server) || (server->resetting && server->ours_failed))
		server_close(server, REASON_RESET_FAILED);
	else if (shadow_end(server))
		server_free(server);
	else
		server_release(server);
}

void server_cancel_ended(struct server *server)
{
	ASSERT(server->cancels > 0);
	server->cancels--;
	if (server->cancels > 0 || server->state != SV_CANCELED)
		return;
	if (cleanup_is_running(server))
		cleanup_settle(server);
	else if (server_is_clean(server))
		server_free_to_pool(server);
	else
		server_close(server, REASON_IDLE_DIRTY);
}

/* ---- bytes ---- */

void server_on_readable(void *owner)
{
	struct server *server = owner;
	bool was_idle = server->state == SV_IDLE;
	uint8_t *data;
	size_t len;
	size_t used;
	int err;

	if (server->state == SV_LOGIN) {
		server_login_on_readable(server);
		return;
	}
	err = stream_fill(&server->stream, &data, &len);
	if (UNLIKELY(err < 0)) {
		if (err != -E_AGAIN)
			server_close(server, REASON_SERVER_CRASH);
		else if (stream_tls(&server->stream) != NULL && !was_idle)
			link_settle(server); /* the rest of a record that was no data may be all that was missing */
		return;
	}
	if (UNLIKELY(was_idle) && !pool_remove_idle(server->part, server)) {
		server->dirty = true; /* reserved by another worker; closed when it asks */
		stream_want_read(&server->stream, false);
		return;
	}
	server->active_us = server->request_us = loop_now_us(server_loop(server));
	used = link_from_server(server, data, len);
	if (server->state == SV_CLOSED)
		return;
	if (UNLIKELY(used < len) && stream_hold(&server->stream, data + used, len - used) != 0) {
		server_close(server, REASON_OOM);
		return;
	}
	if (LIKELY(!was_idle))
		link_settle(server);
	else if (server_is_clean(server))
		server_free(server);
	else
		server_close(server, REASON_IDLE_DIRTY);
}

static void server_on_drained(void *owner, int err)
{
	struct server *server = owner;

	if (err < 0) {
		server->track.broken = true; /* the end is about to be read */
		stream_want_read(&server->stream, true);
		return;
	}
	if (server->client != NULL) {
		client_resume(server->client);
		link_settle(server);
	}
}

static void server_on_event(void *owner)
{
	struct server *server = owner;

	ASSERT(server->state == SV_LOGIN);
	server_login_on_connected(server);
}

const struct stream_ops server_stream_ops = {
	.on_readable = server_on_readable,
	.on_drained = server_on_drained,
	.on_event = server_on_event,
	.on_secured = server_login_on_secured,
};

/* ---- moving between workers ---- */

bool server_is_outdated(const struct server *server)
{
	return server->conf != server->part->conf && !pool_conf_same_server(server->conf, server->part->conf);
}

bool server_is_misplaced(const struct server *server)
{
	const struct pool_conf *conf = server->part->conf;

	if (LIKELY(conf->endpoints.count <= 1 && conf->attrs == CONF_ATTRS_ANY))
		return false;
	return server->endpoint != NULL && endpoint_is_to_leave(server->endpoint, &conf->endpoints, conf->attrs);
}

void server_note_place(struct server *server)
{
	if (server->client == NULL || server->replication != REPLICATION_NONE)
		server->dirty |= server_is_misplaced(server);
}

void server_note_role(struct server *server, struct slice name, struct slice value)
{
	struct endpoint_facts facts;
	bool is_on = slice_eq_str(value, "on");

	if (server->endpoint == NULL)
		return;
	facts = endpoint_facts(server->endpoint);
	if (slice_eq_str(name, "in_hot_standby"))
		endpoint_note_role(server->endpoint, is_on ? ENDPOINT_STANDBY : ENDPOINT_PRIMARY, facts.is_read_only,
				   loop_now_us(server_loop(server)));
	else if (slice_eq_str(name, "default_transaction_read_only") && is_on != facts.is_read_only)
		endpoint_symptom(server->endpoint, is_on ? "a server there has become read-only"
							 : "a server there is not read-only any more");
}

/* True when something has happened, while it was between workers, that makes it of no use any more. */
static bool server_has_missed(const struct server *server)
{
	const struct pool *pool = server->pool;

	return server_is_outdated(server) || server_is_stale(server) || atomic_load(&pool->removed) ||
	       server->gone_epoch != atomic_load(&pool->engine->gone_epoch) || server_is_misplaced(server);
}

/* A server that came for nobody in particular, after having been idle where it came from. */
static void server_arrive_free(struct server *server)
{
	const struct pool_conf *conf = server->part->conf;

	if (!server->dirty && conf->check_query != NULL &&
	    server->idle_us + conf->server_check_delay_us < loop_now_us(server_loop(server)))
		server_check(server);
	else
		server_free(server);
}

static void server_arrive(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct server *server = CONTAINER_OF(msg, struct server, msg);
	struct worker *worker = worker_current();
	struct pool_part *part;
	struct client *client = NULL;

	CHECK_OBJ(server, SERVER_MAGIC);
	part = pool_part_get(server->pool, worker);
	server->part = part;
	TAILQ_INSERT_TAIL(&part->servers, server, entry);
	/* RESUME reaches the workers one by one: it may have come from one that was still suspended. */
	server->stream.ops = &server_stream_ops;
	server->parked = false;
	stream_attach(&server->stream, worker->ctx.loop);
	pool_travel_ended(part, server);
	if (server->travel_slot != SERVER_TRAVEL_NOBODY)
		client = worker_slot_find(worker, server->travel_slot, server->travel_generation);
	server_set_state(server, SV_IDLE);
	server->dirty |= server_has_missed(server);
	if (client == NULL || !client->granted || client->pool != server->pool) {
		server_arrive_free(server);
	} else if (pool_is_paused(server->pool) || server->dirty) {
		pool_requeue(part, client);
		server_free(server);
	} else if (!client_granted(client, server)) {
		server_free(server);
	}
}

void server_travel(struct server *server)
{
	struct worker *target = server->pool->engine->workers[server->travel_worker];

	ASSERT(server->client == NULL && stream_is_clean(&server->stream));
	server_set_state(server, SV_TRAVEL);
	stream_detach(&server->stream);
	TAILQ_REMOVE(&server->part->servers, server, entry);
	server->part = NULL;
	server->msg.fn = server_arrive;
	loop_post(target->ctx.loop, &server->msg);
}

void server_lend(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct server *server = CONTAINER_OF(msg, struct server, msg);
	enum reason reason = REASON_OBSOLETE;

	CHECK_OBJ(server, SERVER_MAGIC);
	if (server->travel_slot == SERVER_EVICT_POOL)
		reason = REASON_EVICTED_POOL;
	else if (server->travel_slot == SERVER_EVICT_DB)
		reason = REASON_EVICTED_DB;
	else if (server->travel_slot == SERVER_EVICT_USER)
		reason = REASON_EVICTED_USER;
	server->is_listed = false;
	if (reason == REASON_OBSOLETE && !server->dirty && stream_is_clean(&server->stream)) {
		server_travel(server);
		return;
	}
	pool_travel_ended(server->part, server);
	server_close(server, reason);
}

/* ---- the beginning ---- */

static void server_login_task(struct loop *loop UNUSED, struct loop_task *task)
{
	server_login_start(CONTAINER_OF(task, struct server, task));
}

static struct server *server_new(struct pool_part *part, struct pool_conf *conf)
{
	struct server *server = xcalloc(1, sizeof(*server));

	server->magic = SERVER_MAGIC;
	server->state = SV_LOGIN;
	server->pool = pool_hold(part->pool);
	server->part = part;
	server->gone_epoch = atomic_load(&part->pool->engine->gone_epoch);
	server->conf = conf;
	prep_server_init(&server->prep);
	return server;
}

struct server *server_carry(struct pool_part *part, int fd, struct varset *vars, bool is_linked)
{
	struct server *server = server_new(part, registry_pool_conf(part->pool));

	pool_permit_carry(part->pool, &server->permit, is_linked);
	server->travel_slot = is_linked ? 0 : SERVER_TRAVEL_NOBODY;
	server->vars = vars;
	if (sock_remote_addr(fd, &server->addr) == 0)
		server->endpoint = endpoint_list_find(&server->conf->endpoints, &server->addr);
	else
		server->dirty = true;
	if (server->endpoint == NULL && server->conf->attrs != CONF_ATTRS_ANY)
		server->dirty = true; /* nobody could say when it has to go elsewhere */
	stream_init(&server->stream, fd, &server_stream_ops, server, SERVER_IN_MAX, SERVER_OUT_MAX);
	return server;
}

void server_carried(struct server *server, struct pool_part *part)
{
	ASSERT(server->part == part);
	TAILQ_INSERT_TAIL(&part->servers, server, entry);
	stream_attach(&server->stream, part->worker->ctx.loop);
	pool_travel_ended(part, server);
	server_set_state(server, SV_IDLE);
}

void server_open(struct pool_part *part, struct permit *permit, struct client *client)
{
	struct server *server = server_new(part, pool_conf_hold(part->conf));

	server->permit = *permit;
	server->endpoint = permit->endpoint == NULL ? NULL : endpoint_hold(permit->endpoint);
	*permit = (struct permit){ .pool = NULL };
	server->id = engine_next_id(part->pool->engine);
	server->epoch = atomic_load(&part->pool->epoch);
	server->connect_us = server->request_us = loop_now_us(part->worker->ctx.loop);
	server->stream.fd = -1;
	track_init(&server->track);
	TAILQ_INSERT_TAIL(&part->servers, server, entry);
	if (client != NULL)
		replication_begin(server, client);
	server->task.fn = server_login_task;
	loop_defer(part->worker->ctx.loop,
		   &server->task); /* it may fail at once, and the caller is in the middle of things */
}

void server_logged_in(struct server *server, const struct welcome *welcome)
{
	struct pool_part *part = server->part;

	server_set_state(server, SV_IDLE); /* an end from here on is none of a login */
	if (server->awaited_by == NULL)
		server_free(server);
	else if (pool_is_paused(server->pool))
		server_close(server, REASON_PAUSE);
	else if (server->dirty || server_is_stale(server))
		server_close(server, REASON_CONFIG_CHANGED);
	else
		replication_logged_in(server, welcome);
	pool_run(part); /* more of them may log in at once now */
}
