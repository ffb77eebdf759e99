/*
 * From servers to clients: the hot path, the other way.
 *
 * Only the heads of messages are read, but for those of which the pooler must
 * know more; these must be there as a whole: link_is_gathered(). A span is what
 * goes to the client in one send(); it is cut where a message is swallowed or
 * replaced, and where an answer of our own has its place.
 */
#include "core/log.h"
#include "core/str.h"
#include "pool/failure.h"
#include "pool/link.h"
#include "pool/link_int.h"
#include "pool/repeat.h"
#include "pool/shadow.h"
#include "pool/survive.h"
#include "pool/virtual.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

/* The longest message, but for a CommandComplete, that is gathered. */
#define LINK_GATHER_MAX (16 * 1024)

/* A CommandComplete with a tag that says anything about the session is not longer. */
#define LINK_TAG_MAX    64

/* An error of our own in place of a server's. */
#define LINK_ERROR_MAX  (64 * 1024)

/* The end of an answer went to the client: closes what is open in the statistics. */
static void link_query_done(struct server *server)
{
	struct client *client = server->client;
	bool is_timed;
	uint64_t now;

	if (UNLIKELY(breaker_pass_is_awaited(&server->permit.pass)))
		breaker_pass_served(&server->permit.pass, server->track.status == TX_IDLE,
				    loop_now_us(link_loop(client)));
	if (server->track.count > 0 || client->query_us == 0)
		return;
	now = loop_now_us(link_loop(client));
	is_timed = server->replication == REPLICATION_NONE; /* a stream of days would be the average */
	stats_add(&client->part->stats, STAT_query_time, is_timed ? now - client->query_us : 0);
	client->query_us = client->hint_us = client->waited_us = 0;
	if (server->track.status == TX_IDLE && client->xact_us != 0) {
		stats_add(&client->part->stats, STAT_xact_time, is_timed ? now - client->xact_us : 0);
		client->xact_us = 0;
	}
}

/*
 * A parameter has changed; false for a message that is none. *is_kept: the
 * client will be told when it is known what holds.
 */
static bool link_parameter_status(struct server *server, struct slice body, bool is_ours, bool *is_kept)
{
	struct slice name;
	struct slice value;
	int i;

	if (parse_parameter_status(body, &name, &value) != 0)
		return false;
	server_note_role(server, name, value);
	i = vars_index(name);
	if (i < 0)
		return true;
	vars_change(&server->vars, i, value);
	if (server->client == NULL || is_ours)
		return true;
	*is_kept = server->reset != RESET_NONE;
	if (*is_kept)
		return true;
	link_vars_keep(server->client);
	vars_change(&server->client->vars, i, value);
	link_vars_changed(server->client, server);
	return true;
}

/* An error in answer to a query of our own. */
static void link_own_error(struct server *server, struct slice body)
{
	struct parse_report report;
	struct log_about about;

	server->ours_failed = true;
	if (parse_report(body, &report) != 0)
		return;
	server_describe(server, &about);
	str_copy_slice(about.sqlstate, sizeof(about.sqlstate), report.sqlstate);
	about.is_bare = server->setting_vars;
	log_error_about(&about, "%s failed: %.*s: %.*s",
			server->setting_vars ? "varcache_apply" : "reset or check query", (int)report.severity.n,
			report.severity.p, (int)report.message.n, report.message.p);
}

/*
 * An ErrorResponse has begun to come. What it says about the server stands near
 * its beginning; one that is cut before that says nothing.
 */
static void link_notice_error(struct server *server, struct slice body)
{
	struct parse_report report;
	char sqlstate[6];

	if (parse_report(body, &report) != 0 && report.sqlstate.n == 0)
		return;
	str_copy_slice(sqlstate, sizeof(sqlstate), report.sqlstate);
	if (parse_report_is_fatal(&report))
		str_copy(server->sqlstate, sizeof(server->sqlstate), sqlstate);
	if (server->endpoint != NULL && failure_state_is_symptom(sqlstate))
		endpoint_symptom(server->endpoint, sqlstate);
}

/* True for an error that may be about a statement of ours. */
static bool link_is_about_statement(const struct server *server, const struct frame *f)
{
	enum track_kind head = track_head_kind(&server->track);

	return (head == TRACK_BIND || head == TRACK_DESCRIBE) && server->prep.count > 0 && f->size <= LINK_GATHER_MAX;
}

/* True for a message that is looked at as a whole. */
static bool link_is_gathered(const struct server *server, const struct frame *f)
{
	switch (f->type) {
	case BE_READY:
	case BE_PARAMETER_STATUS:
		return true;
	case BE_COMMAND_COMPLETE:
		return f->size <= LINK_TAG_MAX;
	case BE_ROW_DESCRIPTION:
		return f->size <= LINK_GATHER_MAX && virtual_is_describing(server);
	case BE_ERROR:
		return track_head_is_ours(&server->track) || virtual_is_provoked(server) ||
		       ((survive_listens(server) || server->timeout.is_over) && f->size <= LINK_GATHER_MAX) ||
		       ((server->rerun.is_keeping || server->rerun.begun > 0) && f->size <= LINK_GATHER_MAX) ||
		       link_is_about_statement(server, f);
	case BE_DATA_ROW:
		return shadow_is_reading(server);
	default:
		return false;
	}
}

/* True for a long error that might be a server's last words: those stand at its beginning, which is waited for. */
static bool link_is_listened_to(const struct server *server, const struct frame *f)
{
	return f->type == BE_ERROR && f->size > LINK_GATHER_MAX && survive_listens(server);
}

/* A message for nobody. */
static void link_log_unlinked(const struct server *server, uint8_t type)
{
	struct log_about about;

	server_describe(server, &about);
	log_warning_about(&about, "got packet '%c' from server when not linked", type);
}

/* What becomes of a message of the server. */
enum judged {
	JUDGED_PASS,    /* it goes to the client */
	JUDGED_SWALLOW, /* it goes nowhere */
	JUDGED_REPLACE, /* another goes in its place */
	JUDGED_PRECEDE, /* it goes to the client, behind others */
	JUDGED_CLOSE,   /* the server is to be closed */
};

/* One read of a server's bytes. */
struct link_back {
	struct server *server;
	const uint8_t *data;
	size_t len;
	size_t at;
	size_t start; /* of the span that goes to the client */
	struct frame f;
	size_t void_to; /* what comes before is the beginning of an answer that is repeated */
	bool is_void;   /* the message is the first half of an answer that ends in an error, and will be given anew */
	enum reason violation; /* of JUDGED_CLOSE */
	struct buf instead;    /* of JUDGED_REPLACE and JUDGED_PRECEDE */
	struct link_out out;
};

static struct slice link_back_body(const struct link_back *k)
{
	return slice_make(k->data + k->at + FRAME_HEADER, (size_t)k->f.size - FRAME_HEADER);
}

static enum judged link_violation(struct link_back *k, enum reason why)
{
	k->violation = why;
	return JUDGED_CLOSE;
}

/*
 * A server in the pool says something that nobody has asked for. Mostly these
 * are its last words: an administrator, or its own end, has ended the session.
 */
static enum judged link_judge_unasked(struct link_back *k)
{
	struct parse_report said;
	bool is_last = k->f.type == BE_ERROR && parse_report(link_back_body(k), &said) == 0 &&
		       !slice_eq_str(said.severity, "ERROR");

	return link_violation(k, is_last ? REASON_SERVER_CRASH : REASON_IDLE_DIRTY);
}

static enum judged link_judge_async(struct link_back *k, bool is_ours)
{
	struct server *server = k->server;
	struct slice body = link_back_body(k);
	bool is_kept = false;

	if (k->f.type == BE_PARAMETER_STATUS && !link_parameter_status(server, body, is_ours, &is_kept))
		return link_violation(k, REASON_BROKEN_PARAMETER);
	if (server->client == NULL && !is_ours && !cleanup_is_running(server))
		link_log_unlinked(server, k->f.type);
	if (server->state == SV_IDLE && k->f.type != BE_NOTIFICATION)
		return link_violation(k, REASON_IDLE_DIRTY);
	return server->client != NULL && !is_ours && !is_kept ? JUDGED_PASS : JUDGED_SWALLOW;
}

/* The answer to a request of our own. */
static enum judged link_judge_own(struct link_back *k)
{
	struct server *server = k->server;
	struct slice body = link_back_body(k);

	if (k->f.type == BE_ERROR)
		link_own_error(server, body);
	if (k->f.type == BE_DATA_ROW && shadow_is_reading(server))
		shadow_row(server, body);
	if (k->f.type == BE_READY && server->setting_vars && !link_vars_done(server))
		return link_violation(k, REASON_SERVER_PARAMETER);
	return JUDGED_SWALLOW;
}

/* RESET: the client is told, before it is ready, what its parameters are now. */
static enum judged link_judge_reset(struct link_back *k)
{
	buf_init(&k->instead, INT32_MAX);
	if (link_vars_reset(k->server, &k->instead) != 0) {
		buf_fini(&k->instead);
		return link_violation(k, REASON_OOM);
	}
	return buf_is_empty(&k->instead) ? JUDGED_PASS : JUDGED_PRECEDE;
}

/* An answer for the client. */
static enum judged link_judge_answer(struct link_back *k)
{
	struct server *server = k->server;

	if (UNLIKELY(server->client == NULL)) {
		if (cleanup_is_running(server))
			return JUDGED_SWALLOW;
		link_log_unlinked(server, k->f.type);
		return link_judge_unasked(k);
	}
	if (UNLIKELY(server->rerun.is_under_way))
		return JUDGED_SWALLOW;
	if (server->rerun.is_keeping | (server->rerun.runs > 0)) {
		rerun_forget(&server->rerun);
		repeat_answered(server, k->f.type);
	}
	if (k->f.type == BE_READY) {
		if (UNLIKELY(server->track.status != TX_IDLE) && server_pool_mode(server) == CONF_POOL_STATEMENT)
			return link_violation(k, REASON_STATEMENT_MODE);
		link_query_done(server);
		server->rerun.begun = 0;
		if (UNLIKELY(server->timeout.is_over))
			query_timeout_answered(server);
		if (server->track.status == TX_IDLE) {
			virtual_transaction_done(server);
			link_vars_settle(server->client);
		}
		if (server->track.count == 0)
			virtual_all_answered(server->client);
		if (UNLIKELY(server->vars_due | (server->reset != RESET_NONE)))
			return link_judge_reset(k);
	}
	return JUDGED_PASS;
}

/*
 * An ErrorResponse is about to be shown to the tracker: what is to be done
 * about it when it is the client's.
 */
static enum judged link_judge_error(struct link_back *k)
{
	struct slice body = link_back_body(k);
	enum track_kind head = track_head_kind(&k->server->track);

	link_vars_undone(k->server);
	if (k->server->client != NULL && head >= TRACK_PARSE && head <= TRACK_CLOSE)
		virtual_batch_failed(k->server->client);
	if (UNLIKELY(k->server->rerun.is_due))
		return k->server->rerun.is_under_way ? JUDGED_PASS : JUDGED_SWALLOW;
	if (UNLIKELY(k->server->rerun.begun > 0) && k->f.size <= LINK_GATHER_MAX)
		repeat_missed(k->server, body);
	if (UNLIKELY(k->server->timeout.is_over) && k->f.size <= LINK_GATHER_MAX && head != TRACK_NONE &&
	    !(track_head_is_ours(&k->server->track) && head == TRACK_QUERY) &&
	    query_timeout_on_error(k->server, body, &k->instead) == 0)
		return JUDGED_REPLACE;
	if (k->server->client != NULL && virtual_is_provoked(k->server))
		return virtual_report(k->server, body, &k->instead) == 0 ? JUDGED_REPLACE : JUDGED_PASS;
	if (link_is_about_statement(k->server, &k->f))
		rerun_learn(k->server, body);
	if (k->server->rerun.is_keeping && k->f.size <= LINK_GATHER_MAX && rerun_is_due(k->server, body))
		return JUDGED_SWALLOW;
	if (k->server->client != NULL && link_is_about_statement(k->server, &k->f) &&
	    virtual_rename_error(k->server, body, &k->instead) == 0)
		return JUDGED_REPLACE;
	return JUDGED_PASS;
}

/* An answer for the client, in place of which another may go. */
static enum judged link_judge_client(struct link_back *k, enum judged instead)
{
	enum judged judged = link_judge_answer(k);

	if (LIKELY(instead != JUDGED_REPLACE))
		return judged;
	if (judged == JUDGED_PASS)
		return JUDGED_REPLACE;
	buf_fini(&k->instead);
	return judged;
}

/* A command is complete whose tag may say something about the session. */
static void link_command_done(struct server *server, struct slice tag)
{
	virtual_command_done(server, tag);
	link_vars_tag(server, tag);
}

/* Decides about a message, which has come as a whole if link_is_gathered(). */
static enum judged link_judge(struct link_back *k)
{
	struct server *server = k->server;
	bool is_ours = track_head_is_ours(&server->track);
	uint8_t type = k->f.type;
	const uint8_t *body = k->data + k->at + FRAME_HEADER;
	enum judged instead = JUDGED_PASS;
	enum track_verdict verdict;

	if (UNLIKELY(type == BE_ERROR)) {
		size_t n = (k->f.size < k->len - k->at ? (size_t)k->f.size : k->len - k->at) - FRAME_HEADER;
		struct slice come = slice_make(body, n);

		link_notice_error(server, come);
		if (survive_listens(server) && survive_hears(server, come))
			return link_violation(k, REASON_SERVER_CRASH);
		instead = link_judge_error(k);
	} else if (UNLIKELY(type == BE_ROW_DESCRIPTION || type == BE_NO_DATA) && virtual_is_describing(server)) {
		virtual_described(server, type, k->f.size <= LINK_GATHER_MAX ? link_back_body(k) : slice_of(""));
	} else if (type == BE_COMMAND_COMPLETE && k->f.size > FRAME_HEADER && k->f.size <= LINK_TAG_MAX &&
		   (virtual_minds_tag(body[0]) || link_vars_minds_tag(body[0]))) {
		link_command_done(server, slice_make(body, (size_t)k->f.size - FRAME_HEADER - 1));
	}
	verdict = track_server(&server->track, type, type == BE_READY && k->f.size == FRAME_HEADER + 1 ? body[0] : 0);
	if (UNLIKELY(server->track.marks_done | server->track.marks_dropped))
		virtual_settle_marks(server);
	switch (verdict) {
	case TRACK_PASS:
		if (UNLIKELY(instead == JUDGED_SWALLOW))
			return rerun_start(server) == 0 ? JUDGED_SWALLOW : link_violation(k, REASON_SERVER_SEND);
		if (UNLIKELY(k->is_void))
			return JUDGED_SWALLOW;
		return link_judge_client(k, instead);
	case TRACK_SWALLOW:
		return link_judge_own(k);
	case TRACK_ASYNC:
		return link_judge_async(k, is_ours);
	default:
		if (server->client == NULL)
			link_log_unlinked(server, type);
		return link_violation(k, REASON_UNKNOWN_PKT);
	}
}

/* Sends what has been collected for the client. One that cannot be reached is dropped when the bytes are worked off. */
static void link_back_send(struct link_back *k)
{
	struct client *client = k->server->client;
	size_t n;
	int err;

	if (k->out.n == 0)
		return;
	if (client == NULL || UNLIKELY(client->send_failed)) {
		link_out_init(&k->out);
		return;
	}
	err = link_out_send(&k->out, &client->stream, &n);
	stats_add(&client->part->stats, STAT_bytes_sent, n);
	if (LIKELY(err == 0))
		return;
	if (err < 0) {
		client->send_failed = true;
		return;
	}
	stream_want_read(&k->server->stream, false);
	if (!k->server->track.copy_both)
		stream_want_read(&client->stream,
				 false); /* it has to read first; who replicates may be heard meanwhile */
}

/* Adds what goes to the client up to here. */
static void link_back_add_span(struct link_back *k)
{
	if (UNLIKELY(!link_out_has_room(&k->out, 1, 0)))
		link_back_send(k);
	if (k->at > k->start)
		link_out_add(&k->out, k->data + k->start, k->at - k->start);
	k->start = k->at;
}

/* Adds the answers that are ours to give, now that their turn has come; at the boundary of a message. */
static void link_give_owed(struct link_back *k)
{
	uint8_t type;

	if (UNLIKELY(k->server->rerun.is_statement) && repeat_holds(k->server))
		return;
	while ((type = track_take_owed(&k->server->track)) != 0) {
		const uint8_t message[FRAME_HEADER] = FRAME_EMPTY(type);

		if (UNLIKELY(k->server->track.marks_done > 0))
			virtual_settle_marks(k->server);
		if (UNLIKELY(k->server->rerun.is_under_way | k->server->rerun.is_due))
			continue;
		link_back_add_span(k);
		if (UNLIKELY(!link_out_has_room(&k->out, 1, sizeof(message))))
			link_back_send(k);
		memcpy(link_out_own(&k->out, sizeof(message)), message, sizeof(message));
	}
}

/* What goes in place of the message, or in front of it, goes out at once: its memory does not last. */
static void link_back_replace(struct link_back *k)
{
	link_back_send(k);
	link_out_add(&k->out, buf_ptr(&k->instead), buf_len(&k->instead));
	link_back_send(k);
	buf_fini(&k->instead);
}

static void link_back_init(struct link_back *k, struct server *server, const uint8_t *data, size_t len)
{
	k->server = server;
	k->data = data;
	k->len = len;
	k->at = k->start = 0;
	k->is_void = false;
	k->void_to = 0;
	k->violation = REASON_NONE;
	buf_init(&k->instead, LINK_ERROR_MAX);
	link_out_init(&k->out);
}

void link_give_owed_now(struct server *server)
{
	struct link_back k;

	link_back_init(&k, server, NULL, 0);
	link_give_owed(&k);
	link_back_send(&k);
}

/* The message goes nowhere, but the server has sent it. */
static void link_back_swallow(struct link_back *k, size_t n)
{
	stats_add(&k->server->part->stats, STAT_bytes_sent, n);
	k->start = k->at + n;
}

/* The rest of a message whose head was seen. */
static void link_back_body_rest(struct link_back *k)
{
	struct server *server = k->server;
	size_t n = server->body_left < k->len ? (size_t)server->body_left : k->len;

	if (server->body_left == 0)
		return;
	server->body_left -= n;
	if (server->swallow_body)
		link_back_swallow(k, n);
	k->at = n;
}

/*
 * A ParameterDescription may be followed by the error that the batch is run
 * again for, which nobody could do once it has gone to the client. What follows
 * it comes with it. 0, or -E_AGAIN when that is not there yet.
 */
static int link_back_look_behind(struct link_back *k)
{
	size_t avail = k->len - k->at;
	struct frame next;
	int err;

	k->is_void = k->at < k->void_to;
	if (LIKELY(k->f.type != BE_PARAMETER_DESCRIPTION) || !k->server->rerun.is_keeping ||
	    k->f.size > LINK_GATHER_MAX)
		return 0;
	if (avail <= k->f.size)
		return -E_AGAIN;
	avail -= (size_t)k->f.size;
	err = frame_read(k->data + k->at + k->f.size, avail, k->server->part->conf->max_packet_size, &next);
	if (err != 0 || next.type != BE_ERROR || next.size > LINK_GATHER_MAX)
		return err == -E_AGAIN ? err : 0;
	if (avail < next.size)
		return -E_AGAIN;
	k->is_void = rerun_is_due(
		k->server, slice_make(k->data + k->at + k->f.size + FRAME_HEADER, (size_t)next.size - FRAME_HEADER));
	return 0;
}

/* Decides about the message at `at`, as far as it has come; -E_AGAIN when more of it is needed. */
static int link_back_judge(struct link_back *k, enum judged *judged)
{
	size_t avail = k->len - k->at;
	int err = frame_read(k->data + k->at, avail, k->server->part->conf->max_packet_size, &k->f);

	if (err == -E_AGAIN)
		return err;
	if (UNLIKELY(err < 0)) {
		*judged = link_violation(k, REASON_SERVER_HEADER);
		return 0;
	}
	if (k->f.size > avail && link_is_gathered(k->server, &k->f)) {
		if (k->f.size <= LINK_GATHER_MAX)
			return -E_AGAIN;
		*judged = link_violation(k, REASON_UNKNOWN_PKT);
		return 0;
	}
	if (k->f.size > avail && avail < LINK_GATHER_MAX && link_is_listened_to(k->server, &k->f))
		return -E_AGAIN;
	if (link_back_look_behind(k) != 0)
		return -E_AGAIN;
	*judged = link_judge(k);
	return 0;
}

size_t link_from_server(struct server *server, const uint8_t *data, size_t len)
{
	struct link_back k;

	link_back_init(&k, server, data, len);
	link_back_body_rest(&k);
	while (k.at < len) {
		enum judged judged;
		size_t n;

		if (UNLIKELY(server->rerun.is_statement)) {
			if (repeat_look(server, data + k.at, len - k.at, &n) == -E_AGAIN)
				break;
			k.void_to = k.at + n;
		}
		if (UNLIKELY(server->track.owed > 0))
			link_give_owed(&k);
		if (link_back_judge(&k, &judged) == -E_AGAIN)
			break;
		if (UNLIKELY(judged != JUDGED_PASS))
			link_back_add_span(&k);
		if (UNLIKELY(judged == JUDGED_CLOSE)) {
			link_back_send(&k);
			server_close(server, k.violation);
			return len;
		}
		if (UNLIKELY(judged == JUDGED_REPLACE || judged == JUDGED_PRECEDE))
			link_back_replace(&k);
		if (UNLIKELY(judged == JUDGED_PRECEDE))
			judged = JUDGED_PASS;
		n = k.f.size < len - k.at ? (size_t)k.f.size : len - k.at;
		server->body_left = k.f.size - n;
		server->swallow_body = judged != JUDGED_PASS;
		if (judged != JUDGED_PASS)
			link_back_swallow(&k, n);
		k.at += n;
		if (judged == JUDGED_PASS && (k.f.type == BE_DATA_ROW || k.f.type == BE_COPY_DATA) &&
		    server->body_left == 0)
			k.at += frame_run(data + k.at, len - k.at, k.f.type, server->part->conf->max_packet_size);
	}
	if (UNLIKELY(server->track.owed > 0) && server->body_left == 0)
		link_give_owed(&k);
	link_back_add_span(&k);
	link_back_send(&k);
	return k.at;
}
