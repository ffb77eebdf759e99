/*
 * What becomes of a client whose server is lost.
 *
 *     server_close() --> survive_begin(): what is owed, by the tracker, as bytes
 *                        link_detach(), and the server is gone
 *                    --> survive_end(): the bytes are sent, and the client is
 *
 *       CL_IDLE      outside of a transaction, and nothing of a batch is open
 *       CL_FAILED    else: proto/aborted.c speaks to it until that has ended
 *
 * A request is answered by an error and, at the end of each batch, by
 * ReadyForQuery. One that has begun a transaction, or may have, is in a failed one:
 * what it sends next was meant to be a part of that, and must not run on its
 * own. Whether a request under way begins or ends one only its text tells, which
 * is noted when it is sent (survive_note(), track_note()). Where that was not
 * seen, such as in a long Query of several statements, and it matters, the client
 * is closed, as it always is with server_loss_action = disconnect.
 *
 * The client is closed, too, when a part of a message has gone to it, for the
 * rest will never come; and where it had more on that server than a transaction:
 * in session mode, or with statements that it made by PREPARE.
 *
 * A client that does not wait for anything at that moment is told nothing before
 * it says something: drivers do not expect errors then.
 *
 * A server's last words are a FATAL error. The client gets them as an ERROR, as
 * its own connection goes on.
 */
#include "pool/survive.h"

#include "core/alloc.h"
#include "core/str.h"
#include "pool/failure.h"
#include "pool/link.h"
#include "pool/query_timeout.h"
#include "pool/registry.h"
#include "pool/repeat.h"
#include "pool/report.h"
#include "proto/aborted.h"
#include "proto/build.h"
#include "proto/parse.h"

#define SURVIVE_ERRORS_MAX  (16 * 1024)
#define SURVIVE_ANSWERS_MAX (64 * 1024 * 1024)

/* Messages up to this length are waited for; what ends a transaction is much shorter. */
#define SURVIVE_HOLD_MAX    (16 * 1024)

/* A server that is lost while it is being prepared for a client is replaced, but not again within this time. */
#define SURVIVE_UNSENT_US   USEC_PER_SEC

/* The errors that a client may be told, in this order in survive.errors. */
enum survive_error {
	SURVIVE_LOSS,
	SURVIVE_COMMIT,
	SURVIVE_REFUSAL,
	SURVIVE_SEVERAL,
	SURVIVE_ERRORS,
};

/* What the text is of that is looked at as it comes. */
enum survive_text_of {
	SURVIVE_TEXT_QUERY,   /* a Query, on its way to the server */
	SURVIVE_TEXT_UNNAMED, /* a Parse without a name, likewise */
	SURVIVE_TEXT_REFUSED, /* either, which is thrown away */
};

struct survive_text {
	enum survive_text_of of;
	struct classify_pieces pieces;
};

struct survive {
	struct aborted aborted;
	struct buf errors;
	uint32_t ends[SURVIVE_ERRORS]; /* where each error ends */
};

static struct slice survive_error(const struct survive *s, enum survive_error error)
{
	uint32_t start = error == 0 ? 0 : s->ends[error - 1];

	return slice_make(buf_ptr(&s->errors) + start, s->ends[error] - start);
}

static const struct conf *survive_conf(const struct client *client)
{
	return client->part->worker->ctx.snap->conf;
}

static void survive_drop(struct survive **sp)
{
	if (*sp != NULL)
		buf_fini(&(*sp)->errors);
	free(*sp);
	*sp = NULL;
}

void survive_end_text(struct client *client)
{
	free(client->cut_text);
	client->cut_text = NULL;
}

void survive_free(struct client *client)
{
	survive_end_text(client);
	if (client->survive == NULL)
		return;
	client->part->failed--;
	survive_drop(&client->survive);
}

/* ---- the errors ---- */

static int survive_add_error(struct survive *s, const struct client *client, enum survive_error error,
			     struct report *report)
{
	int err;

	report->is_server = true; /* drivers go by the state, in whatever style */
	err = report_build(&s->errors, survive_conf(client), "ERROR", report);
	s->ends[error] = err == 0 ? buf_len(&s->errors) : 0;
	return err;
}

/* An error from the table, with what is known of client and server. */
static int survive_add_reason(struct survive *s, const struct client *client, enum survive_error error,
			      enum reason reason)
{
	struct report report;

	client_report(client, reason, &report);
	return survive_add_error(s, client, error, &report);
}

/* The loss itself: in the server's words, if it has said any. */
static int survive_add_loss(struct survive *s, const struct server *server, enum reason reason)
{
	const struct client *client = server->client;
	struct report report;

	client_report(client, reason, &report);
	if (server->last_words != NULL) {
		str_copy(report.text, sizeof(report.text), server->last_words->text);
		str_copy(report.sqlstate, sizeof(report.sqlstate), server->last_words->sqlstate);
	}
	return survive_add_error(s, client, SURVIVE_LOSS, &report);
}

static struct survive *survive_new(const struct server *server, enum reason reason)
{
	struct survive *s = xcalloc(1, sizeof(*s));
	int err;

	buf_init(&s->errors, SURVIVE_ERRORS_MAX);
	err = survive_add_loss(s, server, reason);
	if (err == 0)
		err = survive_add_reason(s, server->client, SURVIVE_COMMIT, REASON_COMMIT_LOST);
	if (err == 0)
		err = survive_add_reason(s, server->client, SURVIVE_REFUSAL, REASON_TX_LOST);
	if (err == 0)
		err = survive_add_reason(s, server->client, SURVIVE_SEVERAL, REASON_TX_LOST_SEVERAL);
	if (err != 0)
		survive_drop(&s);
	return s;
}

/* ---- from one process to another ---- */

/* bit, flag of struct aborted */
#define SURVIVE_FLAGS(X)  \
	X(1, is_block)    \
	X(2, is_told)     \
	X(4, is_skipping) \
	X(8, is_over)

void survive_save(const struct client *client, struct survive_saved *saved)
{
	const struct survive *s = client->survive;

	*saved = (struct survive_saved){
		.unnamed = s->aborted.unnamed,
		.portal = s->aborted.portal,
		.errors = slice_make(buf_ptr(&s->errors), buf_len(&s->errors)),
	};
#define X(bit, flag) saved->flags |= s->aborted.flag ? (bit) : 0;
	SURVIVE_FLAGS(X)
#undef X
}

/* Finds out where each error ends; false when there are not as many, or something else. */
static bool survive_split(struct survive *s)
{
	uint32_t at = 0;

	for (int i = 0; i < SURVIVE_ERRORS; i++) {
		struct frame f;

		if (at == buf_len(&s->errors) ||
		    frame_read(buf_ptr(&s->errors) + at, buf_len(&s->errors) - at, SURVIVE_ERRORS_MAX, &f) != 0 ||
		    f.type != BE_ERROR || f.size > buf_len(&s->errors) - at)
			return false;
		at += (uint32_t)f.size;
		s->ends[i] = at;
	}
	return at == buf_len(&s->errors);
}

struct survive *survive_load(const struct survive_saved *saved)
{
	struct survive *s = xcalloc(1, sizeof(*s));

#define X(bit, flag) s->aborted.flag = (saved->flags & (bit)) != 0;
	SURVIVE_FLAGS(X)
#undef X
	s->aborted.unnamed = (enum aborted_text)saved->unnamed;
	s->aborted.portal = (enum aborted_text)saved->portal;
	buf_init(&s->errors, SURVIVE_ERRORS_MAX);
	if (saved->unnamed > ABORTED_ROLLBACK || saved->portal > ABORTED_ROLLBACK ||
	    buf_append(&s->errors, saved->errors.p, saved->errors.n) != 0 || !survive_split(s))
		survive_drop(&s);
	return s;
}

void survive_carried(struct client *client)
{
	client->part->failed++;
	client_set_state(client, CL_FAILED);
}

/* ---- last words ---- */

/* True when the client can go on without this server, as far as can be said without looking at its requests. */
static bool survive_may(const struct server *server, enum reason reason)
{
	const struct client *client = server->client;

	if (reason == REASON_QUERY_TIMEOUT && server->part->conf->query_timeout_action != CONF_TIMEOUT_CANCEL)
		return false;
	return server->part->conf->outlive && failure_is_loss(reason) && !client->is_inner &&
	       (client->state == CL_ACTIVE || client->state == CL_HELD) && !client->send_failed &&
	       server_pool_mode(server) != CONF_POOL_SESSION && server->sql_statements == 0 &&
	       (server->body_left == 0 || server->swallow_body);
}

bool survive_hears(struct server *server, struct slice body)
{
	struct parse_report report;

	if ((!survive_may(server, REASON_SERVER_CRASH) && !repeat_may_take_loss(server)) ||
	    (parse_report(body, &report) != 0 && report.sqlstate.n == 0) || !parse_report_is_fatal(&report))
		return false;
	if (server->last_words == NULL)
		server->last_words = xcalloc(1, sizeof(*server->last_words));
	report_server(server->last_words, "", "");
	(void)str_copy_slice(server->last_words->text, sizeof(server->last_words->text),
			     slice_cut(report.message, sizeof(server->last_words->text) - 1));
	(void)str_copy_slice(server->last_words->sqlstate, sizeof(server->last_words->sqlstate),
			     slice_cut(report.sqlstate, sizeof(server->last_words->sqlstate) - 1));
	return true;
}

/* ---- what passes ---- */

/* What the text of a Parse does when it is executed: it is one statement, whose first words tell. */
static enum classify_effect survive_parse_effect(struct slice body)
{
	struct slice text = parse_behind_string(body);

	if (text.n == 0)
		return CLASSIFY_EFFECT_UNSEEN;
	return classify_may_transact(text.p, text.n) ? classify_effect(text) : CLASSIFY_EFFECT_NONE;
}

/* Begins to look at a text of which a part has come. */
static void survive_begin_text(struct client *client, enum survive_text_of of, struct slice part)
{
	ASSERT(client->cut_text == NULL);
	client->cut_text = xcalloc(1, sizeof(*client->cut_text));
	client->cut_text->of = of;
	classify_pieces_init(&client->cut_text->pieces);
	classify_pieces_feed(&client->cut_text->pieces, part);
}

/* False when the first statement of a text certainly has no effect, as its beginning tells. */
static bool survive_may_transact(struct slice part)
{
	return slice_trim(part).n < CLASSIFY_TRANSACT_MIN || classify_may_transact(part.p, part.n);
}

/*
 * Begins to look for a semicolon in a Query of which a part has come. Bulk loads
 * have none, and a look at more than that would cost as much as sending them.
 */
static void survive_begin_query(struct client *client, struct slice part)
{
	if (survive_may_transact(part) || memchr(part.p, ';', part.n) != NULL)
		track_note(&client->server->track, CLASSIFY_EFFECT_UNSEEN);
	else
		survive_begin_text(client, SURVIVE_TEXT_QUERY, slice_of(""));
}

/* More of it: several statements may do anything. */
static void survive_note_query(struct client *client, struct slice piece)
{
	bool is_last = client->body_left == 0;
	bool may_be_several =
		is_last ? classify_may_be_several(piece.p, piece.n) : memchr(piece.p, ';', piece.n) != NULL;

	if (may_be_several)
		track_note(&client->server->track, CLASSIFY_EFFECT_UNSEEN);
	if (is_last || may_be_several)
		survive_end_text(client);
}

void survive_note_text(struct link_walk *w)
{
	struct client *client = w->client;
	struct slice body = link_message_body(w);
	bool is_whole = body.n + FRAME_HEADER == w->f.size;
	enum classify_effect effect;

	if (w->f.type == FE_PARSE) {
		if (body.n > 0 && body.p[0] != '\0')
			return; /* nothing is run before it is bound */
		client->unnamed_effect = is_whole ? survive_parse_effect(body) : CLASSIFY_EFFECT_UNSEEN;
		if (is_whole || body.n == 0)
			return;
		body = slice_make(body.p + 1, body.n - 1);
		if (survive_may_transact(body))
			survive_begin_text(client, SURVIVE_TEXT_UNNAMED, body);
		else
			client->unnamed_effect = CLASSIFY_EFFECT_NONE;
		return;
	}
	if (!is_whole) {
		survive_begin_query(client, body);
		return;
	}
	effect = classify_effect(body);
	if (effect != CLASSIFY_EFFECT_NONE)
		track_note(&client->server->track, effect);
}

void survive_note_bind(struct link_walk *w)
{
	struct client *client = w->client;
	struct track *track = &client->server->track;
	struct slice body = link_message_body(w);
	struct slice name = parse_behind_string(body);

	if (name.n == 0 || name.p[0] != '\0')
		track_note(track, CLASSIFY_EFFECT_UNSEEN); /* the texts of named statements are not kept */
	else if (UNLIKELY(client->unnamed_effect != CLASSIFY_EFFECT_NONE))
		track_note(track, client->unnamed_effect);
}

/* ---- requests that are refused while they wait ---- */

static void survive_note_effect(struct client *client, enum classify_effect effect)
{
	if (effect > client->refused_effect)
		client->refused_effect = effect;
}

/* Of a Bind, as far as it has come. */
static enum classify_effect survive_bind_effect(const struct client *client, struct slice body)
{
	struct slice name = parse_behind_string(body);
	size_t n = strnlen(name.p, name.n);
	const struct prep_name *known;

	if (n == name.n)
		return CLASSIFY_EFFECT_UNSEEN;
	if (n == 0 ? client->refused_unnamed : client->refused_named)
		return CLASSIFY_EFFECT_NONE; /* that of its Parse was noted */
	if (n == 0)
		return client->prep.unnamed != NULL ? client->prep.unnamed->effect : client->unnamed_effect;
	known = prep_client_find(&client->prep, slice_make(name.p, n));
	return known == NULL ? CLASSIFY_EFFECT_UNSEEN : known->stmt->effect;
}

/* Of a Query or Parse: false when it has yet to be seen to its end. */
static bool survive_note_refused_text(struct client *client, struct slice text, bool is_whole)
{
	if (is_whole) {
		survive_note_effect(client, classify_effect(text));
		return true;
	}
	survive_begin_text(client, SURVIVE_TEXT_REFUSED, text);
	return false;
}

bool survive_note_refused(struct client *client, uint8_t type, struct slice body, bool is_whole)
{
	struct slice text;

	switch (type) {
	case FE_QUERY:
		return survive_note_refused_text(client, body, is_whole);
	case FE_PARSE:
		*(body.n > 0 && body.p[0] == '\0' ? &client->refused_unnamed : &client->refused_named) = true;
		text = parse_behind_string(body);
		if (text.n > 0)
			return survive_note_refused_text(client, text, is_whole);
		survive_note_effect(client, CLASSIFY_EFFECT_UNSEEN);
		return true;
	case FE_BIND:
		survive_note_effect(client, survive_bind_effect(client, body));
		return true;
	default:
		return true;
	}
}

bool survive_note_rest(struct client *client, struct slice piece)
{
	enum survive_text_of of = client->cut_text->of;
	enum classify_effect effect;

	if (of == SURVIVE_TEXT_QUERY) {
		survive_note_query(client, piece);
		return false;
	}
	classify_pieces_feed(&client->cut_text->pieces, piece);
	if (client->body_left > 0)
		return false;
	effect = classify_pieces_end(&client->cut_text->pieces);
	survive_end_text(client);
	if (of == SURVIVE_TEXT_REFUSED)
		survive_note_effect(client, effect);
	else
		client->unnamed_effect = effect;
	return of == SURVIVE_TEXT_REFUSED;
}

/* Its errors: what was refused has been told. */
static struct survive *survive_new_refused(const struct client *client)
{
	struct survive *s = xcalloc(1, sizeof(*s));
	int err = 0;

	buf_init(&s->errors, SURVIVE_ERRORS_MAX);
	for (enum survive_error error = SURVIVE_LOSS; err == 0 && error < SURVIVE_ERRORS; error++)
		err = survive_add_reason(s, client, error, REASON_TX_REFUSED);
	s->aborted.is_block = s->aborted.is_told = true;
	if (err != 0)
		survive_drop(&s);
	return s;
}

bool survive_fails_refused(struct client *client)
{
	bool may_begin = client->refused_effect >= CLASSIFY_EFFECT_BLOCK;

	client->refused_effect = CLASSIFY_EFFECT_NONE;
	client->refused_unnamed = client->refused_named = false;
	if (!may_begin)
		return false;
	client->survive = survive_new_refused(client);
	if (client->survive == NULL)
		return false;
	client->part->failed++;
	client_set_state(client, CL_FAILED);
	return true;
}

/* ---- the loss ---- */

/* Where the client stands, as its requests are gone through. */
struct survive_place {
	bool in_block;  /* in a transaction block, which has failed */
	bool was_alive; /* ... and might have been committed by a request under way */
	bool is_unseen; /* it cannot be said */
};

/* One batch is lost: returns the error for it. */
static enum survive_error survive_pass(struct survive_place *place, enum classify_effect effect)
{
	enum survive_error error = SURVIVE_LOSS;

	switch (effect) {
	case CLASSIFY_EFFECT_NONE:
		break;
	case CLASSIFY_EFFECT_COMMIT:
		if (place->in_block && place->was_alive)
			error = SURVIVE_COMMIT;
		place->in_block = place->was_alive = false;
		break;
	case CLASSIFY_EFFECT_ROLLBACK:
		place->in_block = place->was_alive = false;
		break;
	case CLASSIFY_EFFECT_BLOCK:
		place->in_block = place->was_alive = true;
		break;
	case CLASSIFY_EFFECT_COMMITS:
		error = SURVIVE_COMMIT;
		place->in_block = place->was_alive = true;
		break;
	case CLASSIFY_EFFECT_UNSEEN:
		if (place->in_block && place->was_alive)
			error = SURVIVE_COMMIT;
		place->is_unseen |= !place->in_block;
		break;
	}
	return error;
}

static int survive_tell(const struct survive *s, enum survive_error error, struct buf *out)
{
	struct slice bytes = survive_error(s, error);

	return buf_append(out, bytes.p, bytes.n);
}

/* What is open of a batch behind all ends: whether the client has been told, and where it stands. */
static int survive_open(struct survive *s, struct track_loss *lost, struct survive_place *place, struct buf *out)
{
	bool was_block = place->in_block;
	enum survive_error error = survive_pass(place, lost->effect);

	place->in_block |= was_block; /* the Sync may not have come to what ends the block */
	if (lost->is_erred) {
		s->aborted.is_told = s->aborted.is_skipping = true;
		return 0;
	}
	if (lost->is_silent)
		return 0;
	s->aborted.is_told = s->aborted.is_skipping = true;
	return survive_tell(s, error, out);
}

/* Answers all that is owed; -E_* when that cannot be done. */
static int survive_answer(struct server *server, struct survive *s, struct buf *out)
{
	struct survive_place place = { .in_block = server->track.status != 'I',
				       .was_alive = server->track.status == 'T' };
	bool reruns = server->rerun.is_under_way && track_open_batches(&server->track) == 0;
	enum classify_effect effect;
	struct track_loss lost;
	int err = 0;

	track_lose(&server->track, &lost);
	if (!lost.is_known)
		return -E_PROTO;
	lost.is_told &= !server->rerun.is_under_way; /* that error was hidden */
	s->aborted.is_told = server->track.status == 'E';
	while (err == 0 && track_next_loss(&lost, &effect)) {
		enum survive_error error = survive_pass(&place, effect);

		if (!lost.is_told)
			err = survive_tell(s, error, out);
		lost.is_told = false;
		if (err == 0)
			err = build_ready(out, place.in_block ? TX_FAILED : TX_IDLE);
		s->aborted.is_told = true;
	}
	if (reruns) {
		lost.is_open = true; /* its error was hidden */
		lost.is_erred = lost.is_silent = false;
	}
	if (err == 0 && lost.is_open)
		err = survive_open(s, &lost, &place, out);
	s->aborted.is_block = place.in_block;
	s->aborted.is_over = !place.in_block && !lost.is_open;
	return err == 0 && place.is_unseen ? -E_PROTO : err;
}

/* What was believed of requests that are lost has not come true. */
static void survive_undo(struct server *server)
{
	struct client *client = server->client;

	prep_server_undo(&server->prep, &client->prep, server->prep.record_count);
	if (client->unnamed == UNNAMED_SENT && client->prep.is_unsure)
		stmt_release(&client->prep.unnamed);
	client->prep.is_unsure = false;
}

/* True when a client whose request has gone nowhere may try another server. */
static bool survive_may_go_elsewhere(struct client *client)
{
	uint64_t now_us = loop_now_us(link_loop(client));
	bool may = client->unsent_us == 0 || now_us - client->unsent_us > SURVIVE_UNSENT_US;

	client->unsent_us = now_us;
	return may;
}

/* Nothing of the request has gone to the server, which was being prepared for it. */
static bool survive_begin_held(struct server *server, enum reason reason, struct survive_loss *loss)
{
	loss->is_over_time = reason == REASON_QUERY_TIMEOUT && query_timeout_is_unsent(server);
	if (!loss->is_over_time && !survive_may(server, reason))
		return false;
	loss->is_unsent = !loss->is_over_time && survive_may_go_elsewhere(server->client);
	loss->is_refused = !loss->is_unsent;
	return true;
}

bool survive_begin(struct server *server, enum reason reason, struct survive_loss *loss)
{
	struct client *client = server->client;
	struct log_about about;

	*loss = (struct survive_loss){ .state = NULL };
	if (failure_is_loss(reason) && UNLIKELY(repeat_takes_loss(server))) {
		survive_undo(server);
		loss->is_unsent = true;
		return true;
	}
	if (client->state == CL_HELD)
		return survive_begin_held(server, reason, loss);
	if (!survive_may(server, reason))
		return false;
	loss->state = survive_new(server, reason);
	if (loss->state == NULL)
		return false;
	buf_init(&loss->out, SURVIVE_ANSWERS_MAX);
	if (client->cut_text != NULL && client->cut_text->of == SURVIVE_TEXT_QUERY)
		track_note(&server->track, CLASSIFY_EFFECT_UNSEEN); /* the rest has not come */
	survive_end_text(client);
	if (link_vars_lose(client, server, &loss->out) != 0 || survive_answer(server, loss->state, &loss->out) != 0) {
		buf_fini(&loss->out);
		survive_drop(&loss->state);
		return false;
	}
	survive_undo(server);
	if (survive_conf(client)->log_pooler_errors != 0) {
		client_describe(client, &about);
		log_warning_about(&about, "lost its server, and stays%s",
				  loss->state->aborted.is_over ? "" : ": its transaction has failed");
	}
	if (loss->state->aborted.is_over)
		survive_drop(&loss->state);
	return true;
}

/* Ends a request that went nowhere as one that has waited in the queue; what may follow of it is looked after there. */
static void survive_end_held(struct client *client, const struct survive_loss *loss, struct report *report)
{
	if (loss->is_over_time) {
		query_timeout_end_unsent(client);
		return;
	}
	report->is_server = true; /* drivers go by the state, in whatever style */
	client_end_request(client, report, NULL);
}

void survive_end(struct client *client, struct survive_loss *loss, struct report *report)
{
	int err = 0;

	if (loss->is_refused) {
		survive_end_held(client, loss, report);
		return;
	}
	if (!loss->is_unsent && !buf_is_empty(&loss->out)) {
		stream_allow(&client->stream, buf_len(&loss->out));
		err = stream_send_buf(&client->stream, &loss->out);
	}
	buf_fini(&loss->out);
	if (err < 0) {
		survive_drop(&loss->state);
		client_drop(client, REASON_CLIENT_IO);
		return;
	}
	if (loss->is_unsent) {
		client_unsent(client);
		return;
	}
	repeat_free(client); /* it was run again, and has ended here */
	if (loss->state == NULL) {
		client_unlinked(client);
		return;
	}
	client->survive = loss->state;
	client->part->failed++;
	client->request_us = loop_now_us(link_loop(client));
	client_failed(client);
}

/* ---- what follows ---- */

static bool survive_find(void *arg, struct slice name, struct slice *sql)
{
	const struct client *client = arg;
	const struct prep_name *known = name.n == 0 ? NULL : prep_client_find(&client->prep, name);
	const struct stmt *stmt = known == NULL ? NULL : known->stmt;

	if (name.n == 0)
		stmt = client->prep.unnamed;
	if (stmt == NULL)
		return false;
	*sql = slice_make(stmt->body, stmt->len);
	return true;
}

static bool survive_define(void *arg, struct slice name, struct slice body)
{
	struct client *client = arg;
	struct prep_name *known;
	struct stmt *stmt;

	if (client->part->conf->prepared == 0 || prep_client_find(&client->prep, name) != NULL)
		return false;
	stmt = stmt_intern((const uint8_t *)body.p, body.n);
	known = stmt == NULL ? NULL : prep_name_new(name, stmt);
	if (known == NULL)
		return false;
	known->told.epoch = atomic_load_explicit(&client->pool->db->ddl_epoch, memory_order_relaxed);
	if (prep_client_add(&client->prep, known))
		return true;
	prep_name_free(&known);
	return false;
}

static void survive_forget(void *arg, struct slice name)
{
	struct client *client = arg;
	struct prep_name *known = prep_client_find(&client->prep, name);

	if (known != NULL)
		prep_client_remove(&client->prep, known);
	prep_name_free(&known);
}

static const struct aborted_names survive_names = {
	.find = survive_find,
	.define = survive_define,
	.forget = survive_forget,
};

/* One message, as far as it has come. */
static enum aborted_verdict survive_take(struct client *client, const uint8_t *p, size_t avail, const struct frame *f,
					 struct buf *out)
{
	struct survive *s = client->survive;

	s->aborted.names = &survive_names;
	s->aborted.arg = client;
	s->aborted.errors = (struct aborted_errors){
		.loss = survive_error(s, SURVIVE_LOSS),
		.refusal = survive_error(s, SURVIVE_REFUSAL),
		.several = survive_error(s, SURVIVE_SEVERAL),
	};
	if (avail < f->size)
		return aborted_take_long(&s->aborted, f->type, out);
	return aborted_take(&s->aborted, f->type, slice_make(p + FRAME_HEADER, (size_t)f->size - FRAME_HEADER), out);
}

/* The transaction is over. */
static void survive_leave(struct client *client)
{
	survive_free(client);
	client_set_state(client, CL_IDLE);
}

/* The rest of a message whose head was seen. */
static size_t survive_body(struct client *client, size_t len)
{
	size_t n = client->body_left < len ? (size_t)client->body_left : len;

	client->body_left -= n;
	return n;
}

/* Sends the answers; false when the client is closed. */
static bool survive_send(struct client *client, struct buf *out)
{
	int err = 0;

	if (!buf_is_empty(out)) {
		stream_allow(&client->stream, buf_len(out));
		err = stream_send_buf(&client->stream, out);
	}
	buf_fini(out);
	if (err < 0)
		client_drop(client, REASON_CLIENT_IO);
	else if (err > 0)
		stream_want_read(&client->stream, false);
	return err >= 0;
}

/* Closes a client for what it has said, after the answers to what came before. */
static size_t survive_refuse(struct client *client, struct buf *out, enum reason why, size_t len)
{
	if (!survive_send(client, out))
		return len;
	if (why == REASON_CLIENT_CLOSE)
		client_drop(client, why);
	else
		client_close(client, why);
	return len;
}

size_t survive_from_client(struct client *client, const uint8_t *data, size_t len)
{
	size_t at = survive_body(client, len);
	struct buf out;

	buf_init(&out, SURVIVE_ANSWERS_MAX);
	while (at < len && client->state == CL_FAILED) {
		enum aborted_verdict verdict;
		size_t avail = len - at;
		struct frame f;
		int err = frame_read(data + at, avail, client->part->conf->max_packet_size, &f);

		if (err == -E_AGAIN)
			break;
		if (err < 0) {
			if (survive_send(client, &out))
				client_close_header(client, data + at, avail);
			return len;
		}
		if (f.type == FE_TERMINATE)
			return survive_refuse(client, &out, REASON_CLIENT_CLOSE, len);
		if (!track_knows_client(f.type)) {
			client_log_unknown(client, f.type);
			return survive_refuse(client, &out, REASON_UNKNOWN_PKT, len);
		}
		if (avail < f.size && f.size <= SURVIVE_HOLD_MAX)
			break;
		verdict = survive_take(client, data + at, avail, &f, &out);
		if (verdict == ABORTED_FAILS)
			return survive_refuse(client, &out, REASON_BAD_PACKET, len);
		if (verdict == ABORTED_ENDS || verdict == ABORTED_LEAVES)
			survive_leave(client);
		if (verdict == ABORTED_LEAVES)
			break;
		if (avail > f.size)
			avail = (size_t)f.size;
		client->body_left = f.size - avail;
		client->discard_body = true;
		at += avail;
	}
	return survive_send(client, &out) ? at : len;
}
