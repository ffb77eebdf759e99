/*
 * Virtual prepared statements.
 *
 * A client names a text; a server is given the text under a name of ours. The
 * client's name is replaced in the head of each message that has it, and what
 * follows the head is not looked at.
 *
 *     client says                  server is told
 *     Parse "s1" SELECT ...        Parse "PGBOUNCER_7" SELECT ...   if it lacks it, else nothing
 *     Bind "s1"                    Bind "PGBOUNCER_7"               after a Parse of our own if it lacks it
 *     Describe "s1"                likewise
 *     Close "s1"                   nothing
 *
 * What the server is not told, we answer: the tracker keeps the place of that
 * answer (track_owe()). What is a message of our own is swallowed there, but for
 * an error: that is the client's, since its Bind is what has failed.
 *
 * Messages are worked on ahead of the server's answers. What is believed of
 * them is a record (prep.h), which is undone when it turns out otherwise.
 *
 * Errors of our own, such as for a name that was never parsed, must come at
 * their place in a pipeline, make the server skip to the Sync and abort the
 * transaction. So the server is made to err: it is told to bind a statement
 * that no server has, and the text of its error is replaced.
 *
 * The unnamed statement of a server is that of whoever parsed it last, so a
 * client that has not parsed it on this link never reaches it. A text that was
 * parsed without a name and not bound at once is kept, and the client's Bind
 * goes to that text under a name of ours, on any server. The same is done with
 * a text that comes again and again (reuse_unnamed_statements), at the beginning
 * of a transaction: there, and only there, a rerun can hide that the statement
 * turned out to be stale.
 */
#include "pool/virtual.h"

#include "core/log.h"
#include "core/str.h"
#include "pool/report.h"
#include "pool/rerun.h"
#include "pool/virtual_int.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

/* Texts without a name up to this length are kept, if need be. */
#define VIRTUAL_UNNAMED_MAX (16 * 1024)

/* Queries up to this length are waited for, if their first words demand it. */
#define VIRTUAL_QUERY_MAX   (16 * 1024)

/* Names longer than this are not waited for. */
#define VIRTUAL_NAMES_MAX   (32 * 1024)

/* Entries of the tracker, and records, that one message may need. */
#define VIRTUAL_STEPS       8

/* ---- what stands in a message ---- */

/* The string that begins `at` bytes into the message, behind the head; false when its end is not there. */
static bool virtual_string(const struct link_walk *w, size_t at, struct slice *s)
{
	const uint8_t *p = w->data + w->at;
	size_t avail = link_walk_avail(w);
	const uint8_t *end;

	if (at >= avail)
		return false;
	end = memchr(p + at, '\0', avail - at);
	if (end == NULL)
		return false;
	*s = slice_make(p + at, (size_t)(end - p) - at);
	return true;
}

/* Where the name of the statement begins; false when that is not there yet. */
static bool virtual_find_name(const struct link_walk *w, struct slice *name)
{
	struct slice portal;

	switch (w->f.type) {
	case FE_QUERY: /* in place of a name: its text */
	case FE_PARSE:
		return virtual_string(w, FRAME_HEADER, name);
	case FE_BIND:
		return virtual_string(w, FRAME_HEADER, &portal) && virtual_string(w, FRAME_HEADER + portal.n + 1, name);
	default: /* Describe, Close: what kind it is comes first */
		return virtual_string(w, FRAME_HEADER + 1, name);
	}
}

/* The bytes of the message up to the end of the name. */
static size_t virtual_head_size(const struct link_walk *w, struct slice name)
{
	return (size_t)((const uint8_t *)name.p - (w->data + w->at)) + name.n + 1;
}

static bool virtual_is_of_portal(const struct link_walk *w)
{
	return (w->f.type == FE_DESCRIBE || w->f.type == FE_CLOSE) && w->f.size > FRAME_HEADER &&
	       link_walk_avail(w) > FRAME_HEADER && w->data[w->at + FRAME_HEADER] != TARGET_STATEMENT;
}

enum admit virtual_refuse(struct link_walk *w, enum reason why)
{
	w->why = why;
	return ADMIT_REFUSE;
}

/* Ends a session over a name as PgBouncer does, and says so in the log. */
static enum admit virtual_refuse_name(struct link_walk *w, enum reason why, struct slice name)
{
	struct log_about about;

	client_describe(w->client, &about);
	log_error_about(&about, "prepared statement '%.*s' %s", (int)name.n, name.p,
			why == REASON_PREP_NAME_IN_USE ? "was already prepared" : "not found");
	return virtual_refuse(w, why);
}

static enum reason virtual_broken(uint8_t type)
{
	switch (type) {
	case FE_PARSE:
		return REASON_BROKEN_PARSE;
	case FE_BIND:
		return REASON_BROKEN_BIND;
	case FE_DESCRIBE:
		return REASON_BROKEN_DESCRIBE;
	default:
		return REASON_BROKEN_CLOSE;
	}
}

/* True when the whole message must be there. */
static bool virtual_needs_body(const struct link_walk *w, struct slice name)
{
	if (w->f.type == FE_BIND)
		return false;
	if (w->f.type == FE_PARSE && name.n == 0)
		return w->f.size <= VIRTUAL_UNNAMED_MAX;
	return w->f.type != FE_PARSE || stmt_has_room((size_t)w->f.size);
}

enum admit virtual_look(struct link_walk *w)
{
	size_t avail = link_walk_avail(w);
	struct slice name;

	if (virtual_is_of_portal(w))
		return ADMIT_SEND;
	if (w->f.type == FE_QUERY)
		return avail < w->f.size && w->f.size <= VIRTUAL_QUERY_MAX ? ADMIT_MORE : ADMIT_SEND;
	if (!virtual_find_name(w, &name)) {
		if (avail == w->f.size || avail > VIRTUAL_NAMES_MAX)
			return virtual_refuse(w, virtual_broken(w->f.type));
		return ADMIT_MORE;
	}
	if (w->f.type != FE_PARSE && w->f.type != FE_BIND && virtual_head_size(w, name) != w->f.size)
		return virtual_refuse(w, virtual_broken(w->f.type));
	return avail < w->f.size && virtual_needs_body(w, name) ? ADMIT_MORE : ADMIT_SEND;
}

/* True when what follows the name of a Parse is a query and a list of types. */
static bool virtual_is_text(const uint8_t *body, size_t len)
{
	const uint8_t *end = len == 0 ? NULL : memchr(body, '\0', len);
	size_t types;

	if (end == NULL || len - (size_t)(end - body) < 3)
		return false;
	types = (size_t)end[1] << 8 | end[2];
	return len - (size_t)(end - body) == 3 + 4 * types;
}

/* ---- heads of our own ---- */

uint32_t virtual_name(char dst[STMT_NAME_SIZE], uint64_t number)
{
	char digits[20];
	uint32_t n = sizeof(STMT_NAME_PREFIX) - 1;
	int i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	memcpy(dst, STMT_NAME_PREFIX, n);
	memcpy(dst + n, digits + i, sizeof(digits) - (size_t)i);
	n += (uint32_t)sizeof(digits) - (uint32_t)i;
	dst[n] = '\0';
	return n;
}

void virtual_add_head(struct link_walk *w, uint8_t type, struct slice before, uint64_t number, size_t rest)
{
	char name[STMT_NAME_SIZE];
	uint32_t name_len = virtual_name(name, number) + 1;
	uint32_t size = (uint32_t)(4 + before.n + name_len + rest);
	bool is_short = before.n <= 64;
	uint8_t *p;

	link_walk_reserve(w, 5, (uint32_t)(FRAME_HEADER + STMT_NAME_SIZE + 64));
	p = link_out_own(&w->out, (uint32_t)(FRAME_HEADER + (is_short ? before.n : 0)));
	*p++ = type;
	*p++ = (uint8_t)(size >> 24);
	*p++ = (uint8_t)(size >> 16);
	*p++ = (uint8_t)(size >> 8);
	*p++ = (uint8_t)size;
	if (is_short)
		memcpy(p, before.p, before.n);
	else
		link_out_add(&w->out, before.p, before.n);
	memcpy(link_out_own(&w->out, name_len), name, name_len);
}

static enum admit virtual_replace_head(struct link_walk *w, struct slice name, struct slice before, uint64_t number)
{
	size_t head = virtual_head_size(w, name);

	if (w->f.size - head > INT32_MAX - (FRAME_HEADER + STMT_NAME_SIZE) - before.n)
		return virtual_refuse(w, virtual_broken(w->f.type));
	virtual_add_head(w, w->f.type, before, number, (size_t)w->f.size - head);
	w->replaced = head;
	return ADMIT_REWRITTEN;
}

/* ---- waiting, and errors ---- */

enum admit virtual_stall(struct link_walk *w)
{
	w->client->stalled = true;
	w->client->stall = STALL_EARLIER;
	return ADMIT_STOP;
}

enum admit virtual_stall_for_batches(struct link_walk *w)
{
	(void)virtual_stall(w);
	w->client->stall = STALL_BATCHES;
	return ADMIT_STOP;
}

bool virtual_may_go_on(const struct client *client)
{
	const struct server *server = client->server;

	if (server->track.copy_open)
		return true; /* it reads what comes as data, and settles nothing before that has ended */
	switch (client->stall) {
	case STALL_EARLIER:
		return !prep_server_is_held_up(&server->prep);
	case STALL_RECORDS:
		return server->prep.record_count == 0;
	default:
		return track_open_batches(&server->track) == 0;
	}
}

bool virtual_is_behind_batches(const struct server *server)
{
	return track_open_batches(&server->track) > 0;
}

void virtual_tell(struct server *server, uint8_t type, bool is_ours)
{
	if (is_ours) {
		bool ok = track_ours(&server->track, type);

		ASSERT(ok);
	} else {
		enum track_verdict verdict = track_client(&server->track, type);

		ASSERT(verdict == TRACK_PASS);
	}
}

enum admit virtual_provoke_by(struct link_walk *w, const char *message, size_t n, enum reason why, struct slice name)
{
	struct server *server = w->client->server;
	uint8_t type = (uint8_t)message[0];

	if (prep_server_is_held_up(&server->prep))
		return virtual_stall(w);
	link_walk_reserve(w, 1, 0);
	link_out_add(&w->out, message, n);
	virtual_tell(server, type, false);
	track_mark(&server->track);
	prep_server_record(&server->prep,
			   (struct prep_record){ .op = PREP_PROVOKE, .why = why, .name = prep_name_new(name, NULL) });
	server->prep.batch += type == FE_QUERY;
	return ADMIT_DISCARD;
}

enum admit virtual_provoke(struct link_walk *w, enum reason why, struct slice name)
{
	/* a Bind: portal "", a statement that no server has, no formats, no parameters, no formats */
	static const char bind[22] = "B\0\0\0\25\0PGSLUICE_\0\0\0\0\0\0";

	return virtual_provoke_by(w, bind, sizeof(bind), why, name);
}

bool virtual_is_provoked(const struct server *server)
{
	return track_head_is_marked(&server->track) && prep_server_record_head(&server->prep)->op == PREP_PROVOKE;
}

int virtual_report(const struct server *server, struct slice error, struct buf *b)
{
	const struct prep_record *record = prep_server_record_head(&server->prep);
	const struct conf *conf = server->part->worker->ctx.snap->conf;
	struct reason_facts facts = { .name = NULL };
	struct parse_report cause;
	struct log_about about;
	struct report report;
	char name[256] = "";

	if (parse_report(error, &cause) != 0 || !slice_eq_str(cause.sqlstate, "26000"))
		return -E_PROTO;
	if (record->name != NULL)
		(void)str_copy_slice(name, sizeof(name),
				     slice_cut(slice_make(record->name->text, record->name->len), sizeof(name) - 1));
	facts.name = name;
	report_reason(&report, conf, record->why, &facts);
	report.is_server = true;
	if (record->why == REASON_PREP_SHAPE)
		report.routine = "RevalidateCachedQuery"; /* by which drivers know that they are to prepare again */
	client_describe(server->client, &about);
	return report_error(b, conf, &about, "ERROR", &report);
}

int virtual_rename_error(const struct server *server, struct slice error, struct buf *b)
{
	const struct prep_client *pc = &server->client->prep;
	const struct prep_entry *entry;
	const struct prep_name *known;
	struct parse_report report;
	struct slice name;

	/* Texts of other errors may have such a name from the client itself. */
	if (parse_report(error, &report) != 0 ||
	    (!slice_eq_str(report.sqlstate, "08P01") && !slice_eq_str(report.sqlstate, "26000")))
		return -E_NOENT;
	entry = prep_server_find_named(&server->prep, report.message, &name);
	if (entry == NULL)
		return -E_NOENT;
	known = prep_client_find_stmt(pc, entry->stmt);
	if (known == NULL)
		known = prep_server_find_forgotten(&server->prep, entry->stmt);
	if (known == NULL && pc->unnamed != entry->stmt)
		return -E_NOENT;
	return build_renamed_error(b, error, name, known == NULL ? slice_of("") : prep_name_text(known));
}

/* ---- what the server has ---- */

/* True when a statement there may not return what it did. */
static bool virtual_is_stale(const struct server *server, const struct prep_entry *entry)
{
	if (entry->is_pending)
		return false;
	return entry->is_spoiled || entry->epoch != server->prep.epoch || entry->db_epoch != virtual_epoch(server);
}

/* Closes a statement on the server. */
static void virtual_evict(struct link_walk *w, struct prep_entry *entry)
{
	struct server *server = w->client->server;

	prep_server_remove(&server->prep, entry);
	virtual_add_head(w, FE_CLOSE, slice_of("S"), entry->number, 0);
	virtual_tell(server, FE_CLOSE, true);
	track_mark(&server->track);
	prep_server_record(&server->prep, (struct prep_record){ .op = PREP_EVICT, .entry = entry });
}

/*
 * A new entry for a statement, where there is none, or a useless one. At the
 * limit the one that was not used for longest goes; when the limit was lowered,
 * one more each time.
 */
static struct prep_entry *virtual_add_entry(struct link_walk *w, struct stmt *stmt, struct prep_entry *stale)
{
	struct server *server = w->client->server;
	int max = server->part->conf->prepared;
	struct prep_entry *entry;

	if (stale != NULL)
		virtual_evict(w, stale);
	for (int i = 0; i < 2 && max > 0 && server->prep.count >= (unsigned)max; i++) {
		entry = prep_server_oldest(&server->prep);
		if (entry == NULL)
			break;
		virtual_evict(w, entry);
	}
	entry = prep_server_add(&server->prep, stmt, stale == NULL ? stmt->number : stmt_next_number());
	if (entry != NULL) {
		entry->db_epoch = virtual_epoch(server);
		entry->db_tables = atomic_load_explicit(&server->pool->db->ddl_tables, memory_order_relaxed);
	}
	return entry;
}

/* The statement is parsed on the server, by a message of the client or our own. */
static void virtual_record_parse(struct server *server, const struct prep_record *record, bool is_ours)
{
	virtual_tell(server, FE_PARSE, is_ours);
	track_mark(&server->track);
	prep_server_record(&server->prep, *record);
	stats_add(&server->part->stats, STAT_server_parse_count, 1);
}

/*
 * True when a stale statement on the server is the one that the client means. It
 * is told by the server if that returns something else by now, with the error
 * that it expects, so the statement must stay as it is there.
 */
static bool virtual_is_meant(const struct link_walk *w, const struct prep_entry *entry, const struct prep_told *told)
{
	if (entry->is_spoiled || !virtual_relies_on_shape(w))
		return false;
	if (told->shape == SHAPE_UNKNOWN)
		return (int)(told->epoch - entry->db_epoch) <= 0; /* else the client has parsed it later */
	return told->shape == entry->shape;
}

/* True when the statement on the server will do for the client. */
static bool virtual_will_do(const struct link_walk *w, const struct prep_entry *entry, const struct prep_told *told)
{
	if (LIKELY(!virtual_is_stale(w->client->server, entry)))
		return true;
	if (!virtual_is_meant(w, entry, told))
		return false;
	w->client->server->prep.is_expecting_change = true;
	return true;
}

bool virtual_ensure(struct link_walk *w, struct stmt *stmt, const struct prep_told *told, struct prep_entry **entryp)
{
	struct server *server = w->client->server;
	struct prep_entry *entry = prep_server_find(&server->prep, stmt);

	*entryp = NULL;
	if (LIKELY(entry != NULL && virtual_will_do(w, entry, told))) {
		if (entry->is_pending && prep_server_is_held_up(&server->prep))
			return true;
		prep_server_touch(&server->prep, entry);
		*entryp = entry;
		return true;
	}
	if (prep_server_is_held_up(&server->prep))
		return true;
	entry = virtual_add_entry(w, stmt, entry);
	if (entry == NULL)
		return false;
	stream_allow(&server->stream, (uint32_t)stmt->len + FRAME_HEADER + STMT_NAME_SIZE);
	virtual_add_head(w, FE_PARSE, slice_of(""), entry->number, stmt->len);
	link_out_add(&w->out, stmt->body, stmt->len);
	virtual_record_parse(server, &(struct prep_record){ .op = PREP_PARSE, .entry = entry }, true);
	*entryp = entry;
	return true;
}

/* ---- Parse ---- */

/*
 * True when no table has come or gone since the statement was parsed there. Who
 * parses a text now means the tables that there are now; others may be of
 * another shape.
 */
static bool virtual_has_same_tables(const struct server *server, const struct prep_entry *entry)
{
	return entry->is_pending ||
	       entry->db_tables == atomic_load_explicit(&server->pool->db->ddl_tables, memory_order_relaxed);
}

/*
 * The client parses this text, under a name that was added to its map, or
 * without one (NULL).
 */
static enum admit virtual_define(struct link_walk *w, struct slice shown, struct stmt *stmt, struct prep_name *name)
{
	struct server *server = w->client->server;
	struct prep_entry *entry = prep_server_find(&server->prep, stmt);
	struct prep_record record = { .op = name == NULL ? PREP_UNNAMED : PREP_PARSE, .name = name };

	if (entry != NULL && !virtual_is_stale(server, entry) && virtual_has_same_tables(server, entry)) {
		bool is_safe = virtual_is_certain(server);
		bool ok = track_owe(&server->track, FE_PARSE);

		ASSERT(ok);
		prep_server_touch(&server->prep, entry);
		if (!is_safe) {
			track_mark(&server->track);
			prep_server_record(&server->prep, record);
		}
		return ADMIT_DISCARD;
	}
	record.entry = virtual_add_entry(w, stmt, entry);
	if (record.entry == NULL) {
		if (name != NULL) {
			prep_client_remove(&w->client->prep, name);
			prep_name_free(&name);
		}
		return virtual_refuse(w, REASON_OOM);
	}
	virtual_record_parse(server, &record, false);
	return virtual_replace_head(w, shown, slice_of(""), record.entry->number);
}

/*
 * True when the server has the text, so that its Parse begins a batch that can
 * be run again if that turns out to be stale, but not before others are answered.
 */
static bool virtual_can_be_fresh(const struct server *server, const struct stmt *stmt)
{
	return track_is_batch_start(&server->track) && virtual_is_behind_batches(server) &&
	       prep_server_find(&server->prep, stmt) != NULL;
}

static enum admit virtual_parse_named(struct link_walk *w, struct slice name, struct slice body)
{
	struct client *client = w->client;
	struct prep_name *known;
	struct stmt *stmt;

	if (prep_server_is_held_up(&client->server->prep))
		return virtual_stall(w);
	if (prep_client_find(&client->prep, name) != NULL) {
		if (virtual_is_behind_batches(client->server))
			return virtual_stall_for_batches(w); /* they may make the server forget it: DISCARD ALL */
		if (client->part->worker->ctx.snap->conf->profile == CONF_PROFILE_PGBOUNCER)
			return virtual_refuse_name(w, REASON_PREP_NAME_IN_USE, name);
		return virtual_provoke(w, REASON_PREP_EXISTS, name);
	}
	if (w->f.size > link_walk_avail(w))
		return virtual_provoke(w, REASON_PREP_MEMORY, name);
	if (!virtual_is_text((const uint8_t *)body.p, body.n))
		return virtual_refuse(w, REASON_BROKEN_PARSE);
	stmt = stmt_intern((const uint8_t *)body.p, body.n);
	if (stmt != NULL && virtual_can_be_fresh(client->server, stmt)) {
		stmt_release(&stmt);
		return virtual_stall_for_batches(w);
	}
	known = stmt == NULL ? NULL : prep_name_new(name, stmt);
	if (known == NULL)
		return virtual_provoke(w, REASON_PREP_MEMORY, name);
	if (!prep_client_add(&client->prep, known)) {
		prep_name_free(&known);
		return virtual_refuse(w, REASON_OOM);
	}
	known->told.epoch = virtual_epoch(client->server);
	stats_add(&client->part->stats, STAT_client_parse_count, 1);
	stream_allow(&client->server->stream, (uint32_t)body.n);
	return virtual_define(w, name, known->stmt, known);
}

/* The text as a statement that is worth keeping, with a reference; NULL: let the server parse it. */
static struct stmt *virtual_reusable(struct link_walk *w, struct slice body)
{
	struct client *client = w->client;
	struct stmt *last = client->prep.unnamed;

	if (!client->part->conf->reuse_unnamed || !virtual_is_fresh(client->server))
		return NULL;
	if (last != NULL && stmt_has_text(last, (const uint8_t *)body.p, body.n))
		return stmt_hold(last);
	if (!virtual_is_text((const uint8_t *)body.p, body.n))
		return NULL;
	return stmt_intern_again((const uint8_t *)body.p, body.n);
}

static enum admit virtual_parse_unnamed(struct link_walk *w, struct slice name, struct slice body)
{
	struct client *client = w->client;
	bool is_whole = w->f.size == link_walk_avail(w);
	struct stmt *stmt;
	enum admit admit;

	if (virtual_translate(w, body, &admit))
		return admit;
	stmt = is_whole ? virtual_reusable(w, body) : NULL;
	w->unnamed = (struct slice){ NULL, 0 };
	prep_client_begin_unnamed(&client->prep, virtual_epoch(client->server));
	client->prep.unnamed = stmt;
	if (stmt != NULL) {
		client->unnamed = UNNAMED_FOREIGN;
		return virtual_define(w, name, stmt, NULL);
	}
	client->unnamed = UNNAMED_SENT;
	client->unnamed_batch = client->server->prep.batch;
	if (is_whole)
		w->unnamed = body;
	return ADMIT_SEND;
}

/* A text without a name that was parsed and not bound may be wanted later, on another server. */
static void virtual_keep_unnamed(struct link_walk *w)
{
	const uint8_t *body = (const uint8_t *)w->unnamed.p;

	if (virtual_is_text(body, w->unnamed.n)) {
		stmt_release(&w->client->prep.unnamed);
		w->client->prep.unnamed = stmt_intern(body, w->unnamed.n);
		w->client->prep.is_unsure = w->client->unnamed == UNNAMED_SENT;
	}
	w->unnamed = (struct slice){ NULL, 0 };
}

void virtual_drop_unnamed(struct link_walk *w)
{
	if (w->client->server->track.skip)
		return; /* the server does not run it */
	w->unnamed = (struct slice){ NULL, 0 };
	stmt_release(&w->client->prep.unnamed);
	w->client->prep.is_unsure = false;
}

void virtual_end_walk(struct link_walk *w)
{
	if (UNLIKELY(w->unnamed.p != NULL))
		virtual_keep_unnamed(w);
}

static enum admit virtual_parse(struct link_walk *w, struct slice name)
{
	size_t head = virtual_head_size(w, name);
	struct slice body = slice_make(w->data + w->at + head, link_walk_avail(w) - head);

	if (virtual_is_refused(w->client, body))
		return virtual_provoke(w, REASON_SQL_PREPARE, name);
	return name.n == 0 ? virtual_parse_unnamed(w, name, body) : virtual_parse_named(w, name, body);
}

/* ---- Bind and Describe ---- */

/* The text that a name stands for now; NULL: none, and *admit says what becomes of the message. */
static struct stmt *virtual_resolve(struct link_walk *w, struct slice name, struct prep_name **knownp,
				    enum admit *admit)
{
	struct client *client = w->client;
	struct prep_name *known;

	*admit = ADMIT_SEND;
	if (name.n == 0) {
		if (client->unnamed == UNNAMED_SENT && client->unnamed_batch == client->server->prep.batch) {
			if (w->f.type == FE_BIND)
				w->unnamed = (struct slice){ NULL, 0 };
			return NULL;
		}
		if (client->unnamed == UNNAMED_OWN)
			return NULL;
		if (client->unnamed == UNNAMED_SENT) {
			*admit = virtual_is_behind_batches(client->server)
					 ? virtual_stall_for_batches(w) /* its batch may have failed before it */
					 : ADMIT_SEND;
			return NULL;
		}
		if (client->prep.unnamed == NULL) {
			*admit = virtual_provoke(w, REASON_PREP_NO_UNNAMED, name);
			return NULL;
		}
		return client->prep.unnamed;
	}
	if (UNLIKELY(client->is_forgetting) && virtual_is_behind_batches(client->server)) {
		*admit = virtual_stall_for_batches(w);
		return NULL;
	}
	known = *knownp = prep_client_find(&client->prep, name);
	if (LIKELY(known != NULL)) {
		if (LIKELY(!prep_server_is_held_up(&client->server->prep)) ||
		    !prep_server_doubts(&client->server->prep, known))
			return known->stmt;
		*admit = virtual_stall(w);
		return NULL;
	}
	if (prep_server_is_held_up(&client->server->prep))
		*admit = virtual_stall(w); /* the message that forgot the name may yet be undone */
	else if (client->server->sql_statements > 0)
		return NULL; /* may be one of these */
	else if (client->part->worker->ctx.snap->conf->profile == CONF_PROFILE_PGBOUNCER)
		*admit = virtual_refuse_name(w, REASON_PREP_UNKNOWN_NAME, name);
	else
		*admit = virtual_provoke(w, REASON_PREP_MISSING, name);
	return NULL;
}

static enum admit virtual_use(struct link_walk *w, struct slice name)
{
	struct server *server = w->client->server;
	const char *before = (const char *)w->data + w->at + FRAME_HEADER;
	bool is_fresh = virtual_is_fresh(server);
	struct prep_name *known = NULL;
	const struct prep_told *told;
	struct prep_entry *entry;
	struct stmt *stmt;
	enum admit admit;

	stmt = virtual_resolve(w, name, &known, &admit);
	if (stmt == NULL && admit == ADMIT_SEND && w->f.type == FE_DESCRIBE && name.n == 0)
		return virtual_describe_unnamed(w);
	if (stmt == NULL)
		return admit;
	told = known == NULL ? &w->client->prep.unnamed_told : &known->told;
	if (w->f.type == FE_DESCRIBE && prep_server_is_held_up(&server->prep))
		return virtual_stall(w);
	if (!virtual_ensure(w, stmt, told, &entry))
		return virtual_refuse(w, REASON_OOM);
	if (entry == NULL)
		return virtual_stall(w);
	if (w->f.type == FE_BIND && told->shape != SHAPE_UNKNOWN) {
		admit = virtual_check_shape(w, name, stmt, told, entry);
		if (admit != ADMIT_SEND)
			return admit;
	}
	if (is_fresh && server->rerun.is_statement) {
		server->rerun.stmt = stmt; /* behind a Parse of the same batch */
		server->rerun.use_at = server->rerun.len + (uint32_t)(w->at - w->keep_from);
	} else if (is_fresh) {
		rerun_begin(server, stmt);
		w->keep_from = w->at;
	}
	if (w->f.type == FE_BIND && UNLIKELY(stmt->body[0] == '/'))
		query_timeout_hint(w->client, slice_make(stmt->body, stmt->len));
	if (w->f.type == FE_BIND && name.n > 0)
		stats_add(&server->part->stats, STAT_bind_count, 1);
	admit = virtual_replace_head(w, name, slice_make(before, (size_t)(name.p - before)), entry->number);
	if (admit == ADMIT_REWRITTEN && w->f.type == FE_DESCRIBE)
		virtual_expect_shape(server, known, entry, known == NULL ? w->client->prep.unnamed_count : 0);
	else if (admit == ADMIT_REWRITTEN)
		virtual_tell(server, w->f.type, false);
	if (admit == ADMIT_REWRITTEN && w->f.type == FE_BIND && UNLIKELY(stmt->effect != CLASSIFY_EFFECT_NONE))
		track_note(&server->track, stmt->effect);
	if (admit == ADMIT_REWRITTEN && w->f.type == FE_BIND && UNLIKELY(stmt->resets) && w->client->startup != NULL)
		w->client->is_resetting = true;
	if (admit == ADMIT_REWRITTEN && w->f.type == FE_BIND && *before == '\0') {
		w->bound = known;
		w->bound_entry = entry;
		w->bound_to = w->at + (size_t)w->f.size;
	}
	return admit;
}

/* ---- Close ---- */

/* Takes a name out of the client's map; NULL when it is not there. */
static struct prep_name *virtual_forget(struct client *client, struct slice name)
{
	struct prep_name *known = prep_client_find(&client->prep, name);

	if (known != NULL)
		prep_client_remove(&client->prep, known);
	return known;
}

static enum admit virtual_close(struct link_walk *w, struct slice name)
{
	struct client *client = w->client;
	struct server *server = client->server;
	bool is_safe = virtual_is_certain(server);
	struct prep_name *known;
	bool ok;

	if (name.n == 0) {
		stmt_release(&client->prep.unnamed);
		return ADMIT_SEND; /* an error before it is no reason to keep that */
	}
	if (prep_server_is_held_up(&server->prep))
		return virtual_stall(w);
	if (server->sql_statements > 0 && prep_client_find(&client->prep, name) == NULL)
		return ADMIT_SEND; /* may be one of these */
	known = virtual_forget(client, name);
	ok = track_owe(&server->track, FE_CLOSE);
	ASSERT(ok);
	if (known != NULL && !is_safe) {
		track_mark(&server->track);
		prep_server_record(&server->prep, (struct prep_record){ .op = PREP_FORGET, .name = known });
	} else {
		prep_name_free(&known);
	}
	return ADMIT_DISCARD;
}

bool virtual_answer_unlinked(struct link_walk *w, enum admit *admit)
{
	static const uint8_t complete[] = FRAME_EMPTY(BE_CLOSE_COMPLETE);
	struct client *client = w->client;
	struct prep_name *known;
	struct slice name;

	if (w->f.type != FE_CLOSE || virtual_is_of_portal(w) || !virtual_find_name(w, &name) || name.n == 0)
		return false;
	known = virtual_forget(client, name);
	prep_name_free(&known);
	*admit = ADMIT_DISCARD;
	if (stream_send(&client->stream, complete, sizeof(complete)) < 0) {
		client_drop(client, REASON_CLIENT_IO);
		*admit = ADMIT_CLOSED;
	}
	return true;
}

/* ---- all ---- */

enum admit virtual_admit(struct link_walk *w)
{
	struct server *server = w->client->server;
	struct slice name;

	if (server->track.copy_open)
		return ADMIT_SEND;
	if (!track_reserve(&server->track, VIRTUAL_STEPS) || !prep_server_reserve(&server->prep, VIRTUAL_STEPS)) {
		w->client->blocked = true;
		return ADMIT_STOP;
	}
	if (virtual_is_of_portal(w))
		return virtual_describe_portal(w);
	if (w->f.type == FE_QUERY)
		return virtual_query(w);
	if (!virtual_find_name(w, &name))
		return virtual_refuse(w, virtual_broken(w->f.type));
	switch (w->f.type) {
	case FE_PARSE:
		return virtual_parse(w, name);
	case FE_CLOSE:
		return virtual_close(w, name);
	default:
		return virtual_use(w, name);
	}
}

void virtual_batch_failed(struct client *client)
{
	const struct server *server = client->server;
	uint64_t failed = server->prep.batch - track_open_batches(&server->track);

	/* Batches that a Query has ended in vain belong to it, too, up to the Sync. */
	if (client->unnamed != UNNAMED_SENT || client->unnamed_batch < failed ||
	    client->unnamed_batch > failed + track_skipped_batches(&server->track))
		return;
	client->unnamed = UNNAMED_FOREIGN;
	if (client->prep.is_unsure)
		stmt_release(&client->prep.unnamed);
	client->prep.is_unsure = false;
}

void virtual_settle_marks(struct server *server)
{
	struct track *t = &server->track;

	if (t->marks_done > 0)
		prep_server_done(&server->prep, t->marks_done);
	if (t->marks_dropped > 0 && (server->client != NULL || cleanup_is_running(server)))
		prep_server_undo(&server->prep, server->client == NULL ? NULL : &server->client->prep,
				 t->marks_dropped);
	t->marks_done = t->marks_dropped = 0;
}

/* ---- what servers report ---- */

/* True when something that statements name comes or goes. */
static bool virtual_changes_tables(struct slice tag)
{
	return (tag.n >= 7 && memcmp(tag.p, "CREATE ", 7) == 0) || (tag.n >= 5 && memcmp(tag.p, "DROP ", 5) == 0);
}

/* True when the command changes what others return, or the list of their columns. */
static bool virtual_is_ddl(struct slice tag)
{
	return (tag.n >= 6 && memcmp(tag.p, "ALTER ", 6) == 0) || slice_eq_str(tag, "CREATE VIEW");
}

void virtual_command_done(struct server *server, struct slice tag)
{
	bool is_shared = server_pool_mode(server) != CONF_POOL_SESSION;

	if (slice_eq_str(tag, "DEALLOCATE ALL") || slice_eq_str(tag, "DISCARD ALL")) {
		prep_server_clear(&server->prep);
		server->sql_statements = 0;
		if (server->client != NULL && !track_head_is_ours(&server->track))
			prep_client_forget(&server->client->prep, &server->prep);
	} else if (slice_eq_str(tag, "PREPARE")) {
		server->sql_statements += is_shared && server->part->conf->sql_prepare != CONF_SQL_PREPARE_IGNORE;
	} else if (slice_eq_str(tag, "DEALLOCATE")) {
		virtual_deallocated(server);
	} else if (virtual_is_ddl(tag)) {
		server->prep.epoch++;
		server->prep.ddl_seen = true;
	} else if (virtual_changes_tables(tag)) {
		atomic_fetch_add_explicit(&server->pool->db->ddl_tables, 1, memory_order_relaxed);
		server->prep.tables_seen = true; /* others see it when the transaction has ended */
	}
}
