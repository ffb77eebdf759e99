/*
 * The link: where the bytes go through.
 *
 *     client socket                                           server socket
 *        | recv                                                     ^ send
 *        v                                                          |
 *     loop's scratch --> link_from_client(): heads of messages --> [span]
 *                         track_client() for each
 *        ^ send                                                     | recv
 *        |                                                          v
 *     [span] <-- link_from_server(): heads of messages <-- loop's scratch
 *                         track_server() for each
 *
 * Bytes are looked at where recv() has put them and are sent from there. Only
 * the five bytes at the head of a message are read, but for ReadyForQuery and
 * ParameterStatus, which must be there as a whole. A span is what goes to the
 * other side in one send(); it is cut where a message is swallowed.
 *
 * A client is linked when its first message needs a server, and unlinked when
 * the tracker says that the server owes nothing and is outside a transaction
 * (transaction and statement mode), or when the client goes (session mode).
 *
 * Backpressure: what one side does not take at once is queued in its stream,
 * and the other side is not read until the queue is empty.
 */
#include "pool/link.h"

#include "core/log.h"
#include "core/str.h"
#include "pool/report.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

/* The longest ParameterStatus, or error to a query of our own, that is gathered. */
#define LINK_GATHER_MAX (16 * 1024)

/* SET commands for one client. */
#define LINK_SET_MAX    (64 * 1024)

static struct loop *link_loop(const struct client *client)
{
	return client->part->worker->ctx.loop;
}

/* ---- attach and detach ---- */

static void link_log_sql(const struct server *server, const struct buf *sql)
{
	struct log_about about;

	server_describe(server, &about);
	log_debug_about(&about, "varcache_apply: %.*s", (int)buf_len(sql), (const char *)buf_ptr(sql));
}

/* The server spells values in another way than the client does. */
static void link_log_canonical(const struct client *client, const struct varset *server_vars)
{
	struct log_about about;

	client_describe(client, &about);
	for (int i = 0; i < vars_count(); i++) {
		const char *have = vars_get(client->vars, i);
		const char *canonical = vars_get(server_vars, i);

		if (have != NULL && canonical != NULL && strcmp(have, canonical) != 0)
			log_debug_about(&about, "varcache_set_canonical: setting %s to its canonical version %s -> %s",
					vars_name(i), have, canonical);
	}
}

/* Brings the server's parameters to what the client has; true when the client must wait for that. */
static bool link_set_vars(struct client *client, struct server *server)
{
	struct buf sql;
	struct buf packet;
	int count;
	int err = 0;

	buf_init(&sql, LINK_SET_MAX);
	buf_init(&packet, LINK_SET_MAX + 16);
	count = vars_diff(server->vars, client->vars, &sql);
	if (count > 0) {
		if (log_is_on(LOG_LVL_DEBUG))
			link_log_sql(server, &sql);
		err = build_query(&packet, slice_make(buf_ptr(&sql), buf_len(&sql)));
		ASSERT(err == 0);
		server->ours_failed = false;
		server->setting_vars = track_ours(&server->track, FE_QUERY);
		ASSERT(server->setting_vars);
		err = stream_send_buf(&server->stream, &packet);
		if (err < 0)
			server->track.broken = true; /* the end of the connection is about to be read */
	}
	buf_fini(&sql);
	buf_fini(&packet);
	return count > 0;
}

/* The client takes over the server's spelling of equal values. */
static void link_adopt_vars(struct client *client, struct server *server)
{
	struct varset *set;

	vars_recode(&server->vars, client->vars);
	set = vars_hold(server->vars);
	if (log_is_on(LOG_LVL_DEBUG))
		link_log_canonical(client, server->vars);
	vars_fill(&set, client->vars);
	vars_release(&client->vars);
	client->vars = set;
}

/* Makes them each other's. */
static void link_join(struct client *client, struct server *server)
{
	ASSERT(client->server == NULL && server->client == NULL);
	ASSERT(client->part == server->part && track_is_idle(&server->track));
	client->server = server;
	server->client = client;
	server->is_listed = false;
	server_set_state(server, SV_ACTIVE);
	server->active_us = server->request_us = loop_now_us(link_loop(client));
	stats_add(&client->part->stats, STAT_server_assignment_count, 1);
}

void link_attach(struct client *client, struct server *server)
{
	link_join(client, server);
	if (UNLIKELY(client->vars != server->vars)) {
		if (link_set_vars(client, server)) {
			client_set_state(client, CL_HELD);
			return;
		}
		link_adopt_vars(client, server);
	}
	client_set_state(client, CL_ACTIVE);
}

void link_attach_own(struct client *client, struct server *server)
{
	link_join(client, server);
	link_adopt_vars(client, server);
	client_set_state(client, CL_ACTIVE);
}

void link_carried(struct client *client, struct server *server)
{
	ASSERT(client->server == NULL && server->client == NULL && client->part == server->part);
	client->server = server;
	server->client = client;
	server_set_state(server, SV_ACTIVE);
	client_set_state(client, CL_ACTIVE);
}

void link_detach(struct client *client, struct server *server)
{
	ASSERT(client->server == server && server->client == client);
	client->cut = server->body_left > 0 && !server->swallow_body;
	server->cut = client->body_left > 0 && !client->discard_body;
	client->server = NULL;
	server->client = NULL;
	server->setting_vars = false;
	stream_want_read(&server->stream, true);
}

/* ---- from the client ---- */

enum admit {
	ADMIT_SEND,    /* the message goes to the server */
	ADMIT_DISCARD, /* it goes nowhere */
	ADMIT_STOP,    /* not now: it and all behind it are kept */
	ADMIT_REFUSE,  /* the client is to be closed, with a reason */
	ADMIT_CLOSED,  /* the client was closed; it had no server */
};

/* A query begins, unless one is open. */
static void link_query_opened(struct client *client)
{
	uint64_t now = loop_now_us(link_loop(client));

	client->request_us = now;
	if (client->query_us == 0) {
		client->query_us = now;
		stats_add(&client->part->stats, STAT_query_count, 1);
	}
	if (client->xact_us == 0) {
		client->xact_us = now;
		stats_add(&client->part->stats, STAT_xact_count, 1);
	}
}

/* No server is to be had: the client is told why the last attempt failed. */
static void link_refuse_failed(struct client *client, const char *failure)
{
	struct report_facts facts;
	struct report report;

	report_client_facts(&facts, client, REASON_CACHED_ERROR);
	facts.known.error = failure;
	report_reason(&report, client->part->worker->ctx.snap->conf, REASON_CACHED_ERROR, &facts.known);
	client_close_report(client, &report);
}

/* Gets a server for the client, now or later. */
static enum admit link_acquire(struct client *client)
{
	char failure[128];
	struct server *server;

	if (atomic_load_explicit(&client->pool->engine->shutdown, memory_order_relaxed) == SHUTDOWN_WAIT_FOR_SERVERS) {
		client_close(client, REASON_SERVER_SHUTDOWN);
		return ADMIT_CLOSED;
	}
	client_set_state(client, CL_WAITING);
	server = pool_checkout(client->part, client, failure, sizeof(failure));
	if (LIKELY(server != NULL)) {
		link_attach(client, server);
		return client->state == CL_ACTIVE ? ADMIT_SEND : ADMIT_STOP;
	}
	if (failure[0] != '\0') {
		link_refuse_failed(client, failure);
		return ADMIT_CLOSED;
	}
	/* A server may have been granted while the queue was joined: then the state is no longer CL_WAITING. */
	return client->state == CL_CLOSED ? ADMIT_CLOSED : ADMIT_STOP;
}

/* Messages of a batch whose query was canceled while it waited are thrown away up to the Sync. */
static enum admit link_skip(struct client *client, uint8_t type)
{
	if (type != FE_SYNC)
		return type == FE_TERMINATE ? ADMIT_SEND : ADMIT_DISCARD;
	client->skip_to_sync = false;
	client_send_ready(client);
	return client->state == CL_CLOSED ? ADMIT_CLOSED : ADMIT_DISCARD;
}

/* What a client without server may say. */
static enum admit link_admit_unlinked(struct client *client, uint8_t type, enum reason *why)
{
	switch (type) {
	case FE_TERMINATE:
		*why = REASON_CLIENT_CLOSE;
		return ADMIT_REFUSE;
	case FE_COPY_DATA:
	case FE_COPY_DONE:
	case FE_COPY_FAIL:
		return ADMIT_DISCARD; /* the rest of a COPY that has failed */
	default:
		if (LIKELY(track_knows_client(type)))
			break;
		*why = REASON_UNKNOWN_PKT;
		return ADMIT_REFUSE;
	}
	link_query_opened(client);
	return link_acquire(client);
}

/* Decides about one message, and tells the tracker when it goes to the server. *why is the reason of ADMIT_REFUSE. */
static enum admit link_admit(struct client *client, uint8_t type, enum reason *why)
{
	enum admit admit;

	if (type == FE_QUERY && UNLIKELY(client->part->worker->ctx.snap->conf->disable_pqexec != 0)) {
		*why = REASON_PQEXEC;
		return ADMIT_REFUSE;
	}
	if (UNLIKELY(client->skip_to_sync)) {
		admit = link_skip(client, type);
		if (admit != ADMIT_SEND)
			return admit;
	}
	if (client->server == NULL) {
		admit = link_admit_unlinked(client, type, why);
		if (admit != ADMIT_SEND)
			return admit;
	}
	switch (track_client(&client->server->track, type)) {
	case TRACK_PASS:
		link_query_opened(client);
		return ADMIT_SEND;
	case TRACK_FULL:
		client->blocked = true;
		return ADMIT_STOP;
	case TRACK_END:
		*why = REASON_CLIENT_CLOSE;
		return ADMIT_REFUSE;
	default:
		*why = REASON_UNKNOWN_PKT;
		return ADMIT_REFUSE;
	}
}

/* Sends a span to the server of the client. */
static void link_to_server(struct client *client, const uint8_t *p, size_t n)
{
	struct server *server = client->server;
	int err;

	if (n == 0)
		return;
	ASSERT(server != NULL);
	stats_add(&client->part->stats, STAT_bytes_received, n);
	err = stream_send(&server->stream, p, n);
	if (LIKELY(err == 0))
		return;
	if (err > 0) {
		stream_want_read(&client->stream, false);
		return;
	}
	/* Its last words may still be there to read; the end of the connection is. */
	server->track.broken = true;
	stream_want_read(&server->stream, true);
}

/* Closes a client for what it has said; a goodbye is answered by nothing. */
static void link_refuse(struct client *client, enum reason why)
{
	if (why == REASON_CLIENT_CLOSE)
		client_drop(client, why);
	else
		client_close(client, why);
}

size_t link_from_client(struct client *client, const uint8_t *data, size_t len)
{
	uint64_t max_size = client->part->conf->max_packet_size;
	size_t start = 0; /* of the span that goes to the server */
	size_t at = 0;

	if (client->body_left > 0) {
		at = client->body_left < len ? (size_t)client->body_left : len;
		client->body_left -= at;
		if (client->discard_body)
			start = at;
	}
	while (at < len) {
		enum reason why = REASON_NONE;
		struct frame f;
		enum admit admit;
		size_t n;
		int err = frame_read(data + at, len - at, max_size, &f);

		if (err == -E_AGAIN)
			break;
		if (UNLIKELY(err < 0)) {
			link_to_server(client, data + start, at - start);
			client_close_header(client, data + at, len - at);
			return len;
		}
		admit = link_admit(client, f.type, &why);
		if (UNLIKELY(admit == ADMIT_CLOSED))
			return len;
		if (UNLIKELY(admit == ADMIT_REFUSE)) {
			/* The tracker has counted on what came before: it must be sent, and it may end a message. */
			link_to_server(client, data + start, at - start);
			link_refuse(client, why);
			return len;
		}
		if (UNLIKELY(admit == ADMIT_STOP))
			break;
		n = f.size < len - at ? (size_t)f.size : len - at;
		client->body_left = f.size - n;
		client->discard_body = admit == ADMIT_DISCARD;
		if (UNLIKELY(admit == ADMIT_DISCARD)) {
			link_to_server(client, data + start, at - start);
			start = at + n;
		}
		at += n;
		if (f.type == FE_COPY_DATA && admit == ADMIT_SEND && client->body_left == 0)
			at += frame_run(data + at, len - at, FE_COPY_DATA, max_size);
	}
	link_to_server(client, data + start, at - start);
	return at;
}

/* ---- from the server ---- */

/* The end of an answer went to the client: closes what is open in the statistics. */
static void link_query_done(struct server *server)
{
	struct client *client = server->client;
	bool is_timed;
	uint64_t now;

	if (server->track.count > 0 || client->query_us == 0)
		return;
	now = loop_now_us(link_loop(client));
	is_timed = server->replication == REPLICATION_NONE; /* a stream of days would be the average */
	stats_add(&client->part->stats, STAT_query_time, is_timed ? now - client->query_us : 0);
	client->query_us = 0;
	if (server->track.status == 'I' && client->xact_us != 0) {
		stats_add(&client->part->stats, STAT_xact_time, is_timed ? now - client->xact_us : 0);
		client->xact_us = 0;
	}
}

/* A parameter has changed; false for a message that is none. */
static bool link_parameter_status(struct server *server, const uint8_t *body, size_t len, bool is_ours)
{
	struct slice name;
	struct slice value;
	int i;

	if (parse_parameter_status(slice_make(body, len), &name, &value) != 0)
		return false;
	i = vars_index(name);
	if (i < 0)
		return true;
	vars_change(&server->vars, i, value);
	if (server->client != NULL && !is_ours)
		vars_change(&server->client->vars, i, value);
	return true;
}

/* An error in answer to a query of our own. */
static void link_own_error(struct server *server, const uint8_t *body, size_t len)
{
	struct parse_report report;
	struct log_about about;

	server->ours_failed = true;
	if (parse_report(slice_make(body, len), &report) != 0)
		return;
	server_describe(server, &about);
	str_copy_slice(about.sqlstate, sizeof(about.sqlstate), report.sqlstate);
	about.is_bare = server->setting_vars;
	log_error_about(&about, "%s failed: %.*s: %.*s",
			server->setting_vars ? "varcache_apply" : "reset or check query", (int)report.severity.n,
			report.severity.p, (int)report.message.n, report.message.p);
}

/* True for a message that is looked at as a whole. */
static bool link_is_gathered(const struct server *server, uint8_t type)
{
	return type == BE_READY || type == BE_PARAMETER_STATUS ||
	       (type == BE_ERROR && track_head_is_ours(&server->track));
}

/* A message for nobody. */
static void link_log_unlinked(const struct server *server, uint8_t type)
{
	struct log_about about;

	server_describe(server, &about);
	log_warning_about(&about, "got packet '%c' from server when not linked", type);
}

/*
 * What to do with a message of the server: true when it goes to the client.
 * `f` has come as a whole if link_is_gathered(). On false, *violation says
 * whether the server must be closed.
 */
static bool link_judge(struct server *server, const uint8_t *p, const struct frame *f, enum reason *violation)
{
	bool is_ours = track_head_is_ours(&server->track);
	uint8_t status = f->type == BE_READY && f->size == FRAME_HEADER + 1 ? p[FRAME_HEADER] : 0;

	switch (track_server(&server->track, f->type, status)) {
	case TRACK_PASS:
		if (UNLIKELY(server->client == NULL)) {
			link_log_unlinked(server, f->type);
			*violation = REASON_IDLE_DIRTY;
			return false;
		}
		if (f->type == BE_READY) {
			if (UNLIKELY(status != 'I') && server_pool_mode(server) == CONF_POOL_STATEMENT) {
				*violation = REASON_STATEMENT_MODE;
				return false;
			}
			link_query_done(server);
		}
		return true;
	case TRACK_SWALLOW:
		if (f->type == BE_ERROR)
			link_own_error(server, p + FRAME_HEADER, (size_t)f->size - FRAME_HEADER);
		return false;
	case TRACK_ASYNC:
		if (f->type == BE_PARAMETER_STATUS &&
		    !link_parameter_status(server, p + FRAME_HEADER, (size_t)f->size - FRAME_HEADER, is_ours))
			*violation = REASON_BROKEN_PARAMETER;
		else if (server->state == SV_IDLE && f->type != BE_NOTIFICATION)
			*violation = REASON_IDLE_DIRTY;
		if (server->client == NULL && !is_ours)
			link_log_unlinked(server, f->type);
		return server->client != NULL && !is_ours && *violation == REASON_NONE;
	default:
		if (server->client == NULL)
			link_log_unlinked(server, f->type);
		*violation = REASON_UNKNOWN_PKT;
		return false;
	}
}

/* Sends a span to the client of the server. A client that cannot be reached is dropped when the bytes are worked off.
 */
static void link_to_client(struct server *server, const uint8_t *p, size_t n)
{
	struct client *client = server->client;
	int err;

	if (n == 0 || client == NULL || UNLIKELY(client->send_failed))
		return;
	stats_add(&client->part->stats, STAT_bytes_sent, n);
	err = stream_send(&client->stream, p, n);
	if (LIKELY(err == 0))
		return;
	if (err < 0) {
		client->send_failed = true;
		return;
	}
	stream_want_read(&server->stream, false);
	if (!server->track.copy_both)
		stream_want_read(&client->stream,
				 false); /* it has to read first; who replicates may be heard meanwhile */
}

/* The n bytes before `at` go nowhere, but the server has sent them. Returns where the next span begins. */
static size_t link_swallow(struct server *server, size_t at, size_t n)
{
	stats_add(&server->part->stats, STAT_bytes_sent, n);
	return at;
}

size_t link_from_server(struct server *server, const uint8_t *data, size_t len)
{
	size_t start = 0; /* of the span that goes to the client */
	size_t at = 0;

	if (server->body_left > 0) {
		at = server->body_left < len ? (size_t)server->body_left : len;
		server->body_left -= at;
		if (server->swallow_body)
			start = link_swallow(server, at, at);
	}
	while (at < len) {
		enum reason violation = REASON_NONE;
		struct frame f;
		bool pass;
		size_t n;
		int err = frame_read(data + at, len - at, server->part->conf->max_packet_size, &f);

		if (err == -E_AGAIN)
			break;
		if (UNLIKELY(err < 0)) {
			violation = REASON_SERVER_HEADER;
		} else if (f.size > len - at && link_is_gathered(server, f.type)) {
			if (f.size <= LINK_GATHER_MAX)
				break;
			violation = REASON_UNKNOWN_PKT;
		}
		pass = violation == REASON_NONE && link_judge(server, data + at, &f, &violation);
		if (UNLIKELY(!pass)) {
			link_to_client(server, data + start, at - start);
			if (violation != REASON_NONE) {
				server_close(server, violation);
				return len;
			}
		}
		n = f.size < len - at ? (size_t)f.size : len - at;
		server->body_left = f.size - n;
		server->swallow_body = !pass;
		at += n;
		if (!pass)
			start = link_swallow(server, at, n);
		else if ((f.type == BE_DATA_ROW || f.type == BE_COPY_DATA) && server->body_left == 0)
			at += frame_run(data + at, len - at, f.type, server->part->conf->max_packet_size);
	}
	link_to_client(server, data + start, at - start);
	return at;
}

/* ---- the end of a link ---- */

/* True when nothing of the client is under way to the server or back, in any of our buffers. */
static bool link_is_settled(const struct server *server, const struct client *client)
{
	return track_is_idle(&server->track) && server->body_left == 0 && stream_is_clean(&server->stream) &&
	       (client->body_left == 0 || client->discard_body);
}

/* True when the client has got everything it asked for, though the session may not be fit for another. */
static bool link_is_answered(const struct server *server)
{
	return track_is_quiet(&server->track) && server->track.status == 'I' && !server->track.skip &&
	       !server->track.unsynced && server_pool_mode(server) != CONF_POOL_SESSION;
}

/* Our SET commands have been answered. */
static void link_vars_done(struct server *server)
{
	struct client *client = server->client;

	server->setting_vars = false;
	if (server->ours_failed || !track_is_idle(&server->track)) {
		server_close(server, REASON_SERVER_PARAMETER);
		return;
	}
	link_adopt_vars(client, server);
	client_set_state(client, CL_ACTIVE);
	client_resume(client);
}

void link_settle(struct server *server)
{
	struct client *client = server->client;

	if (server->state == SV_CLOSED)
		return;
	if (client == NULL) {
		if (server->state == SV_TESTED && track_is_quiet(&server->track))
			server_test_done(server);
		return;
	}
	if (UNLIKELY(client->send_failed)) {
		client_drop(client, REASON_CLIENT_IO);
		return;
	}
	if (UNLIKELY(server->setting_vars)) {
		if (track_is_quiet(&server->track))
			link_vars_done(server);
		return;
	}
	if (UNLIKELY(client->blocked) && server->track.count < TRACK_MAX / 2) {
		client->blocked = false;
		client_resume(client);
		return;
	}
	if (UNLIKELY(server->track.doubt) && link_is_answered(server)) {
		/* The client has all its answers; what else may come is for nobody. */
		link_detach(client, server);
		server_close(server, REASON_DOUBT);
		client_unlinked(client);
		return;
	}
	if (server_pool_mode(server) == CONF_POOL_SESSION || !link_is_settled(server, client))
		return;
	link_detach(client, server);
	server_free_to_pool(server);
	client_unlinked(client);
}

void link_client_gone(struct client *client)
{
	struct server *server = client->server;
	bool settled = link_is_settled(server, client) && !server->setting_vars;
	bool is_ready = track_is_idle(&server->track);

	link_detach(client, server);
	if (settled && server->replication != REPLICATION_NONE)
		server_close(server, REASON_REPLICATION_OVER);
	else if (settled)
		server_free_to_pool(server);
	else if (is_ready)
		server_close(server, REASON_CLIENT_GONE_UNSENT);
	else
		server_close(server, REASON_CLIENT_GONE_NOT_READY);
}
