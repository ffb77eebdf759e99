/*
 * From clients to servers: the hot path, one way.
 *
 * Only the five bytes at the head of a message are read, but for messages about
 * statements (virtual.c). A span is what goes to the server in one send(); what
 * is not passed on cuts it.
 *
 * A message that must be seen as a whole waits in the stream while it is short,
 * else in a buffer of its own (client->gather).
 */
#include "core/log.h"
#include "pool/drain.h"
#include "pool/link.h"
#include "pool/link_int.h"
#include "pool/query_hint.h"
#include "pool/refuse.h"
#include "pool/repeat.h"
#include "pool/report.h"
#include "pool/survive.h"
#include "pool/virtual.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

/* Messages up to this length wait in the stream until they are there as a whole. */
#define LINK_HOLD_MAX (32 * 1024)

void link_query_opened(struct client *client)
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

void link_refuse_failed(struct client *client, const char *failure)
{
	const struct conf *conf = client->part->worker->ctx.snap->conf;
	struct report_facts facts;
	struct report report;

	report_client_facts(&facts, client, REASON_CACHED_ERROR);
	facts.known.error = failure;
	if (client->is_inner && conf->profile == CONF_PROFILE_PGSLUICE)
		facts.known.error = reason_text(REASON_LOGIN_FAILED); /* see client_end_inner() */
	report_reason(&report, conf, REASON_CACHED_ERROR, &facts.known);
	client_close_report(client, &report);
}

/* The client is not to wait: the message, and what else there is of its request, is thrown away. */
static enum admit link_refuse_wait(struct link_walk *w, const struct pool_refusal *refusal)
{
	const struct client_message message = { w->f.type, link_message_body(w), link_walk_avail(w) == w->f.size };

	refuse_client(w->client, refusal, &message);
	return w->client->state == CL_CLOSED ? ADMIT_CLOSED : ADMIT_DISCARD;
}

/* Why the client must not begin anything more; REASON_NONE: it may. */
static enum reason link_turned_away(const struct client *client)
{
	if (atomic_load(&client->pool->engine->shutdown) == SHUTDOWN_WAIT_FOR_SERVERS)
		return REASON_SERVER_SHUTDOWN;
	return drain_reason(client);
}

/* Gets a server for the client, now or later. */
static enum admit link_acquire(struct link_walk *w)
{
	struct client *client = w->client;
	struct pool_refusal refusal;
	struct server *server;

	if (UNLIKELY(atomic_load_explicit(&client->pool->engine->turns_away, memory_order_relaxed))) {
		enum reason reason = link_turned_away(client);

		if (reason != REASON_NONE) {
			client_close(client, reason);
			return ADMIT_CLOSED;
		}
	}
	client_set_state(client, CL_WAITING);
	server = pool_checkout(client->part, client, &refusal);
	if (LIKELY(server != NULL)) {
		link_attach(client, server);
		return client->state == CL_ACTIVE ? ADMIT_SEND : ADMIT_STOP;
	}
	if (UNLIKELY(refusal.reason == REASON_CACHED_ERROR)) {
		link_refuse_failed(client, refusal.failure);
		return ADMIT_CLOSED;
	}
	if (UNLIKELY(refusal.reason != REASON_NONE))
		return link_refuse_wait(w, &refusal);
	/* A server may have been granted while the queue was joined: then the state is no longer CL_WAITING. */
	return client->state == CL_CLOSED ? ADMIT_CLOSED : ADMIT_STOP;
}

/* Messages of a batch whose query was canceled while it waited are thrown away up to the Sync. */
static enum admit link_skip(struct link_walk *w)
{
	struct client *client = w->client;
	uint8_t type = w->f.type;

	if (!survive_note_refused(client, type, link_message_body(w), link_walk_avail(w) == w->f.size))
		return ADMIT_DISCARD;
	if (type != FE_SYNC)
		return type == FE_TERMINATE ? ADMIT_SEND : ADMIT_DISCARD;
	client->skip_to_sync = false;
	client_send_ready(client);
	return client->state == CL_CLOSED ? ADMIT_CLOSED : ADMIT_DISCARD;
}

/* What a client without server may say. */
static enum admit link_admit_unlinked(struct link_walk *w)
{
	uint8_t type = w->f.type;

	switch (type) {
	case FE_TERMINATE:
		w->why = REASON_CLIENT_CLOSE;
		return ADMIT_REFUSE;
	case FE_COPY_DATA:
	case FE_COPY_DONE:
	case FE_COPY_FAIL:
		return ADMIT_DISCARD; /* the rest of a COPY that has failed */
	default:
		if (LIKELY(track_knows_client(type)))
			break;
		w->why = REASON_UNKNOWN_PKT;
		return ADMIT_REFUSE;
	}
	link_query_opened(w->client);
	return link_acquire(w);
}

/* What the server must be told first. */
static void link_walk_prelude(struct link_walk *w)
{
	struct server *server = w->client->server;

	if (UNLIKELY(server != NULL && server->vars_due) && w->len > 0)
		link_vars_restore(w->client, w->data[0]);
	if (UNLIKELY(server != NULL && !buf_is_empty(&server->prelude)))
		link_out_add(&w->out, buf_ptr(&server->prelude), buf_len(&server->prelude));
}

/* A message about statements, which may have to be there as a whole: ADMIT_SEND when it goes the way of others. */
static enum admit link_admit_virtual(struct link_walk *w)
{
	struct client *client = w->client;
	enum admit admit = virtual_look(w);

	if (UNLIKELY(admit != ADMIT_SEND))
		return admit;
	if (UNLIKELY(client->server == NULL)) {
		if (virtual_answer_unlinked(w, &admit))
			return admit;
		link_query_opened(client);
		admit = link_acquire(w);
		if (admit != ADMIT_SEND)
			return admit;
		link_walk_prelude(w);
	}
	if (UNLIKELY(client->server->track.skip))
		return ADMIT_DISCARD; /* as the server does, unless the session is in doubt, and then nothing is
					 promised */
	admit = virtual_admit(w);
	if (admit == ADMIT_REWRITTEN || admit == ADMIT_DISCARD)
		link_query_opened(client);
	return admit;
}

/* The text of a Query or Parse, as far as it has come; for others of no use. */
static struct slice link_text(const struct link_walk *w)
{
	struct slice body = link_message_body(w);

	return w->f.type == FE_QUERY ? body : parse_behind_string(body);
}

/* True for a Query or Parse that resets the client's parameters: what follows must wait for that, see link_vars.c. */
static bool link_may_reset(const struct link_walk *w)
{
	struct slice text;

	if (w->client->startup == NULL)
		return false;
	text = link_text(w);
	return UNLIKELY(classify_may_reset(text.p, text.n) | w->client->hides_reset) && link_vars_will_reset(text);
}

/*
 * True for the first bytes of a Query or Parse that may turn out to reset the
 * client's parameters. Nobody is kept waiting, as for link_is_half().
 */
static bool link_reset_is_cut(const struct link_walk *w)
{
	size_t avail = link_walk_avail(w);
	struct slice text;

	if (w->client->startup == NULL || (w->f.type != FE_QUERY && w->f.type != FE_PARSE) ||
	    avail >= LINK_VARS_LOOK_MAX)
		return false;
	text = link_text(w);
	return slice_trim(text).n < CLASSIFY_RESET_MIN || classify_may_reset(text.p, text.n) || w->client->hides_reset;
}

/* Tells the tracker of a message that goes to the server as it is. */
static enum admit link_admit_linked(struct link_walk *w)
{
	struct client *client = w->client;
	struct server *server = client->server;
	uint8_t type = w->f.type;

	switch (track_client(&server->track, type)) {
	case TRACK_PASS:
		link_query_opened(client);
		if (type == FE_SYNC || type == FE_QUERY || type == FE_FUNCTION_CALL)
			server->prep.batch++;
		if (client->part->conf->outlive) {
			if (type == FE_QUERY || type == FE_PARSE)
				survive_note(w);
			else if (type == FE_BIND)
				survive_note_bind(w);
		}
		if (type == FE_QUERY && link_may_reset(w))
			client->is_resetting = true;
		if (type == FE_QUERY && UNLIKELY(client->prep.unnamed != NULL || w->unnamed.p != NULL))
			virtual_drop_unnamed(w);
		return ADMIT_SEND;
	case TRACK_FULL:
		client->blocked = true;
		return ADMIT_STOP;
	case TRACK_END:
		w->why = REASON_CLIENT_CLOSE;
		return ADMIT_REFUSE;
	default:
		w->why = REASON_UNKNOWN_PKT;
		return ADMIT_REFUSE;
	}
}

/* Decides about one message, and tells the tracker when it goes to the server. */
static enum admit link_admit(struct link_walk *w, bool is_virtual)
{
	struct client *client = w->client;
	uint8_t type = w->f.type;
	enum admit admit;

	if (type == FE_QUERY && UNLIKELY(client->part->worker->ctx.snap->conf->disable_pqexec != 0)) {
		w->why = REASON_PQEXEC;
		return ADMIT_REFUSE;
	}
	if (UNLIKELY(client->skip_to_sync)) {
		admit = link_skip(w);
		if (admit != ADMIT_SEND)
			return admit;
	}
	if (UNLIKELY(client->is_resetting) && link_vars_must_wait(client)) {
		client->stalled = true;
		client->stall = STALL_BATCHES;
		return ADMIT_STOP;
	}
	if (type == FE_PARSE && UNLIKELY(link_may_reset(w)))
		client->is_resetting = true;
	if (is_virtual) {
		admit = link_admit_virtual(w);
		if (admit != ADMIT_SEND)
			return admit;
	} else if (client->server == NULL) {
		admit = link_admit_unlinked(w);
		if (admit != ADMIT_SEND)
			return admit;
		link_walk_prelude(w);
	}
	return link_admit_linked(w);
}

/* Sends what has been collected for the server. */
static void link_walk_send(struct link_walk *w)
{
	struct server *server = w->client->server;
	size_t n;
	int err;

	if (w->out.n == 0)
		return;
	ASSERT(server != NULL);
	err = link_out_send(&w->out, &server->stream, &n);
	stats_add(&w->client->part->stats, STAT_bytes_received, n);
	if (UNLIKELY(!buf_is_empty(&server->prelude)))
		buf_clear(&server->prelude); /* was the first of it */
	if (LIKELY(err == 0)) {
		w->sent = true;
		return;
	}
	if (err > 0) {
		w->sent = true;
		stream_want_read(&w->client->stream, false);
		return;
	}
	server->rerun.is_unsent = !w->sent && server->rerun.len == 0 && stream_tls(&server->stream) == NULL &&
				  err != -E_NOSPACE && err != -E_NOMEM;
	link_server_is_lost(server);
}

void link_walk_reserve(struct link_walk *w, int pieces, uint32_t own)
{
	if (UNLIKELY(!link_out_has_room(&w->out, pieces, own)))
		link_walk_send(w);
}

/* Adds the messages up to here that go to the server as they are. */
static void link_walk_add_span(struct link_walk *w)
{
	if (w->at == w->start)
		return;
	link_walk_reserve(w, 1, 0);
	link_out_add(&w->out, w->data + w->start, w->at - w->start);
	w->start = w->at;
}

/* Closes a client for what it has said; a goodbye is answered by nothing. */
static void link_refuse(struct client *client, enum reason why)
{
	if (why == REASON_CLIENT_CLOSE) {
		client->has_said_goodbye = true;
		client_drop(client, why);
		return;
	}
	client_close(client, why);
}

/* The client cannot go on: what came before is sent, since the tracker counts on it, and it may end a message. */
static void link_walk_refuse(struct link_walk *w)
{
	if (w->client->server != NULL) {
		link_walk_add_span(w);
		link_walk_send(w);
	}
	if (w->why == REASON_UNKNOWN_PKT)
		client_log_unknown(w->client, w->f.type);
	link_refuse(w->client, w->why);
}

/* Begins to collect a message that is too long to wait for in the stream. */
static void link_begin_gather(struct link_walk *w)
{
	struct client *client = w->client;

	if (w->f.type != FE_PARSE || w->f.size <= LINK_HOLD_MAX)
		return;
	if (!stmt_claim((size_t)w->f.size)) {
		w->why = REASON_OOM; /* others were faster */
		link_walk_refuse(w);
		return;
	}
	buf_init(&client->gather, (uint32_t)w->f.size);
	if (buf_append(&client->gather, w->data + w->at, w->len - w->at) != 0) {
		w->why = REASON_OOM;
		link_walk_refuse(w);
		return;
	}
	w->at = w->start = w->len;
}

/* The rest of a message whose head was seen; false when the client has become another one by it. */
static inline bool link_walk_body(struct link_walk *w)
{
	struct client *client = w->client;

	if (LIKELY(client->body_left == 0))
		return true;
	w->at = client->body_left < w->len ? (size_t)client->body_left : w->len;
	client->body_left -= w->at;
	if (client->discard_body)
		w->start = w->at;
	if (LIKELY(client->cut_text == NULL))
		return true;
	if (survive_note_rest(client, slice_make(w->data, w->at)) && !client->skip_to_sync)
		client_send_ready(client); /* the refused request has ended */
	return client->state != CL_FAILED && client->state != CL_CLOSED;
}

/* Goes on to the next message. */
static void link_walk_on(struct link_walk *w, enum admit admit)
{
	struct client *client = w->client;
	size_t n = link_walk_avail(w);

	client->body_left = w->f.size - n;
	client->discard_body = admit == ADMIT_DISCARD;
	if (UNLIKELY(admit == ADMIT_DISCARD)) {
		if (client->server != NULL)
			link_walk_add_span(w);
		w->start = w->at + n;
	} else if (admit == ADMIT_REWRITTEN) {
		w->start = w->at + w->replaced;
	}
	w->at += n;
	if (w->f.type == FE_COPY_DATA && admit == ADMIT_SEND && client->body_left == 0)
		w->at += frame_run(w->data + w->at, w->len - w->at, FE_COPY_DATA, client->part->conf->max_packet_size);
}

/* Everything was looked at, or cannot be now. */
static void link_walk_end(struct link_walk *w)
{
	struct client *client = w->client;
	struct server *server = client->server;

	if (server == NULL)
		return;
	link_walk_add_span(w);
	link_walk_send(w);
	virtual_end_walk(w);
	if (server->rerun.is_keeping && w->keep_from < w->at)
		rerun_keep(server, w->data + w->keep_from, w->at - w->keep_from);
	if (UNLIKELY(track_only_owes(&server->track)) && server->body_left == 0)
		link_give_owed_now(server);
}

/*
 * True for the first bytes of a message that has to wait for the others: a batch
 * that may have to be run again is kept in whole messages, or it could not be.
 * Nobody is kept waiting by that, since the server would wait just as well.
 */
static bool link_is_half(const struct link_walk *w)
{
	const struct server *server = w->client->server;

	return server != NULL && w->keep_from <= w->at &&
	       rerun_has_room(&server->rerun, w->at - w->keep_from + (size_t)w->f.size);
}

/*
 * True when what the message has to run begins with a comment, or might: its
 * text has not come yet.
 */
static inline bool link_begins_with_comment(const struct link_walk *w)
{
	const uint8_t *body = w->data + w->at + FRAME_HEADER;
	size_t n = w->len - w->at - FRAME_HEADER;
	struct slice text;

	if (w->f.type == FE_QUERY)
		return n == 0 || body[0] == '/';
	if (w->f.type != FE_PARSE)
		return false;
	if (n >= 2 && body[0] == '\0')
		return body[1] == '/';
	text = link_text(w);
	return text.n == 0 || text.p[0] == '/';
}

/* True when more of the message must come before its comment can be read. */
static bool link_comment_is_cut(const struct link_walk *w)
{
	size_t avail = link_walk_avail(w);
	size_t known = link_text(w).n;

	return avail < w->f.size && known < QUERY_HINT_MAX && w->client->part->conf->query_hints;
}

/* Works on whole messages, and on the one that is under way; returns how many bytes. */
static size_t link_walk(struct client *client, const uint8_t *data, size_t len)
{
	uint64_t max_size = client->part->conf->max_packet_size;
	struct link_walk w;

	w.client = client;
	w.data = data;
	w.len = len;
	w.at = w.start = 0;
	w.keep_from = client->server != NULL && client->server->rerun.is_keeping ? 0 : SIZE_MAX;
	w.unnamed = (struct slice){ NULL, 0 };
	w.bound = NULL;
	w.sent = false;
	link_out_init(&w.out);
	link_walk_prelude(&w);
	if (UNLIKELY(!link_walk_body(&w)))
		return client->state == CL_CLOSED ? len : w.at;
	while (w.at < len) {
		enum admit admit;
		bool is_virtual;
		bool is_fresh;
		int err = frame_read(data + w.at, len - w.at, max_size, &w.f);

		if (err == -E_AGAIN)
			break;
		if (UNLIKELY(err < 0)) {
			if (client->server != NULL) {
				link_walk_add_span(&w);
				link_walk_send(&w);
			}
			client_close_header(client, data + w.at, len - w.at);
			return len;
		}
		if (UNLIKELY(w.f.size > len - w.at) && (link_is_half(&w) || link_reset_is_cut(&w)))
			break;
		if (UNLIKELY(link_begins_with_comment(&w))) {
			if (link_comment_is_cut(&w))
				break;
			query_timeout_hint(client, link_text(&w));
		}
		is_virtual = virtual_concerns(&w);
		if (is_virtual && client->server != NULL)
			link_walk_add_span(&w);
		is_fresh = UNLIKELY(client->part->conf->retry) &&
			   (client->server == NULL || virtual_is_fresh(client->server));
		admit = link_admit(&w, is_virtual);
		if (UNLIKELY(is_fresh) && client->server != NULL && admit <= ADMIT_DISCARD)
			repeat_begin(&w);
		if (UNLIKELY(admit == ADMIT_CLOSED))
			return len;
		if (UNLIKELY(admit == ADMIT_REFUSE)) {
			link_walk_refuse(&w);
			return len;
		}
		if (UNLIKELY(admit == ADMIT_MORE))
			link_begin_gather(&w);
		if (UNLIKELY(admit == ADMIT_STOP || admit == ADMIT_MORE))
			break;
		link_walk_on(&w, admit);
		if (UNLIKELY(admit == ADMIT_DISCARD) && client->state == CL_FAILED)
			break;
	}
	if (client->state == CL_CLOSED)
		return len;
	link_walk_end(&w);
	return w.at;
}

/* Adds bytes to the message that is collected; how many, or SIZE_MAX when the client was closed. */
static size_t link_gather(struct client *client, const uint8_t *data, size_t len)
{
	size_t n = buf_room(&client->gather) < len ? buf_room(&client->gather) : len;

	if (buf_append(&client->gather, data, n) == 0) {
		if (n > 0 && buf_room(&client->gather) == 0)
			stmt_unclaim(client->gather.max); /* what is kept of it counts as a text */
		return n;
	}
	client_close(client, REASON_OOM);
	return SIZE_MAX;
}

/* A client whose transaction has lost its server is spoken to by survive.c until that has ended. */
static size_t link_work(struct client *client, const uint8_t *data, size_t len)
{
	size_t used = 0;

	do {
		if (UNLIKELY(client->state == CL_FAILED)) {
			used += survive_from_client(client, data + used, len - used);
			if (client->state != CL_IDLE)
				return used;
		}
		used += link_walk(client, data + used, len - used);
	} while (UNLIKELY(client->state == CL_FAILED) && used < len);
	return used;
}

size_t link_from_client(struct client *client, const uint8_t *data, size_t len)
{
	size_t used = 0;

	if (UNLIKELY(client->server != NULL && (client->server->rerun.is_under_way | client->server->timeout.holds)))
		return 0;
	if (UNLIKELY(client->gather.max > 0)) {
		used = link_gather(client, data, len);
		if (used == SIZE_MAX)
			return len;
		if (buf_room(&client->gather) > 0)
			return used;
		if (link_work(client, buf_ptr(&client->gather), buf_len(&client->gather)) == 0)
			return used; /* must wait; it is kept */
		if (client->state == CL_CLOSED)
			return len;
		buf_fini(&client->gather);
		client->gather.max = 0;
	}
	return used + link_work(client, data + used, len - used);
}
