/*
 * Statements are texts under a name, portals are texts under a name with the
 * formats of their results; both live until they are replaced, closed, or the
 * session ends, and a portal no longer than until Sync. A text is looked at
 * when it is executed, so a bad command fails then and not at Parse.
 *
 * Every message is answered as a command is, by console_finish(), which adds
 * no ReadyForQuery while `in_execute` is set: that is what Sync is for. After
 * an error everything up to Sync is skipped.
 */
#include "admin/extended.h"

#include "core/alloc.h"
#include "proto/build.h"
#include "proto/wire.h"

/* Statements and portals of one session, together. */
#define EXTENDED_TEXTS_MAX 256

enum extended_kind {
	EXTENDED_STATEMENT = TARGET_STATEMENT,
	EXTENDED_PORTAL = TARGET_PORTAL,
};

struct extended_text {
	TAILQ_ENTRY(extended_text) entry;
	enum extended_kind kind;
	struct show_formats formats; /* of a portal */
	char *name;
	char *sql;
};

struct extended {
	TAILQ_HEAD(, extended_text) texts;
	unsigned count;
	struct show_formats formats; /* of the portal being executed */
};

struct extended *extended_new(void)
{
	struct extended *e = xcalloc(1, sizeof(*e));

	TAILQ_INIT(&e->texts);
	return e;
}

const struct show_formats *extended_formats(const struct extended *e)
{
	return &e->formats;
}

/* ---- statements and portals ---- */

static void extended_drop(struct extended *e, struct extended_text *t)
{
	TAILQ_REMOVE(&e->texts, t, entry);
	e->count--;
	free(t->name);
	free(t->sql);
	free(t);
}

void extended_free(struct extended **extended)
{
	struct extended *e = *extended;
	struct extended_text *t;

	*extended = NULL;
	if (e == NULL)
		return;
	while ((t = TAILQ_FIRST(&e->texts)) != NULL)
		extended_drop(e, t);
	free(e);
}

static struct extended_text *extended_find(struct extended *e, enum extended_kind kind, struct slice name)
{
	struct extended_text *t;

	TAILQ_FOREACH (t, &e->texts, entry)
		if (t->kind == kind && slice_eq_str(name, t->name))
			return t;
	return NULL;
}

/* Portals end with the transaction, which here is everything up to Sync. */
static void extended_drop_portals(struct extended *e)
{
	struct extended_text *t;
	struct extended_text *next;

	for (t = TAILQ_FIRST(&e->texts); t != NULL; t = next) {
		next = TAILQ_NEXT(t, entry);
		if (t->kind == EXTENDED_PORTAL)
			extended_drop(e, t);
	}
}

/* Keeps a text; an unnamed one replaces its predecessor. NULL when the command was answered with an error. */
static struct extended_text *extended_keep(struct console *c, enum extended_kind kind, struct slice name,
					   struct slice sql)
{
	struct extended *e = c->extended;
	struct extended_text *old = extended_find(e, kind, name);
	struct extended_text *t;

	if (old != NULL && name.n > 0) {
		if (kind == EXTENDED_STATEMENT)
			console_finish_error(c, CONSOLE_E_STATEMENT_TWICE, (int)name.n, name.p);
		else
			console_finish_error(c, CONSOLE_E_CURSOR_TWICE, (int)name.n, name.p);
		return NULL;
	}
	if (old == NULL && e->count >= EXTENDED_TEXTS_MAX) {
		console_finish_error(c, CONSOLE_E_TEXTS);
		return NULL;
	}
	t = xcalloc(1, sizeof(*t));
	t->kind = kind;
	t->name = slice_dup(name);
	t->sql = slice_dup(sql);
	if (old != NULL)
		extended_drop(e, old);
	TAILQ_INSERT_TAIL(&e->texts, t, entry);
	e->count++;
	return t;
}

/* ---- messages ---- */

static void extended_broken(struct console *c)
{
	console_finish_error(c, CONSOLE_E_MALFORMED);
}

static void extended_parse(struct console *c, struct reader *r)
{
	struct slice name = rd_cstr(r);
	struct slice sql = rd_cstr(r);
	unsigned n = rd_u16(r);

	rd_bytes(r, n * sizeof(uint32_t)); /* types of parameters; there are none to be bound */
	if (!rd_done(r)) {
		extended_broken(c);
	} else if (extended_keep(c, EXTENDED_STATEMENT, name, sql) != NULL) {
		console_note(c, build_parse_complete(&c->reply));
		console_finish(c);
	}
}

/* The list of format codes at the end of Bind. */
static void extended_read_formats(struct reader *r, struct show_formats *formats)
{
	size_t n = rd_u16(r);

	for (size_t i = 0; i < n; i++) {
		unsigned code = rd_u16(r);

		if (code > 1)
			rd_fail(r);
		if (i < SHOW_COLUMNS_MAX)
			formats->is_binary[i] = code == 1;
	}
	formats->count = n < SHOW_COLUMNS_MAX ? n : SHOW_COLUMNS_MAX;
}

static void extended_bind(struct console *c, struct reader *r)
{
	struct show_formats formats = { 0 };
	struct slice portal = rd_cstr(r);
	struct slice name = rd_cstr(r);
	const struct extended_text *statement;
	struct extended_text *t;
	unsigned param_count;

	rd_bytes(r, rd_u16(r) * sizeof(uint16_t)); /* formats of parameters */
	param_count = rd_u16(r);
	if (r->err == 0 && param_count > 0) {
		console_finish_error(c, CONSOLE_E_PARAMETERS);
		return;
	}
	extended_read_formats(r, &formats);
	statement = extended_find(c->extended, EXTENDED_STATEMENT, name);
	if (!rd_done(r)) {
		extended_broken(c);
		return;
	}
	if (statement == NULL) {
		console_finish_error(c, CONSOLE_E_NO_STATEMENT, (int)name.n, name.p);
		return;
	}
	t = extended_keep(c, EXTENDED_PORTAL, portal, slice_of(statement->sql));
	if (t == NULL)
		return;
	t->formats = formats;
	console_note(c, build_bind_complete(&c->reply));
	console_finish(c);
}

/* Describe and Close begin alike. */
static bool extended_read_target(struct reader *r, enum extended_kind *kind, struct slice *name)
{
	*kind = (enum extended_kind)rd_u8(r);
	*name = rd_cstr(r);
	return rd_done(r) && (*kind == EXTENDED_STATEMENT || *kind == EXTENDED_PORTAL);
}

static void extended_missing(struct console *c, enum extended_kind kind, struct slice name)
{
	if (kind == EXTENDED_STATEMENT)
		console_finish_error(c, CONSOLE_E_NO_STATEMENT, (int)name.n, name.p);
	else
		console_finish_error(c, CONSOLE_E_NO_PORTAL, (int)name.n, name.p);
}

static void extended_describe(struct console *c, struct reader *r)
{
	const struct show_table *table;
	const struct extended_text *t;
	enum extended_kind kind;
	struct slice name;

	if (!extended_read_target(r, &kind, &name)) {
		extended_broken(c);
		return;
	}
	t = extended_find(c->extended, kind, name);
	if (t == NULL) {
		extended_missing(c, kind, name);
		return;
	}
	if (kind == EXTENDED_STATEMENT)
		console_note(c, build_parameter_description(&c->reply, NULL, 0));
	table = command_result(slice_of(t->sql));
	if (table == NULL)
		console_note(c, build_no_data(&c->reply));
	else
		show_send_columns(c, table, &t->formats);
	console_finish(c);
}

static void extended_execute(struct console *c, struct reader *r)
{
	struct slice name = rd_cstr(r);
	const struct extended_text *t;

	rd_u32(r); /* rows wanted: a result is always given whole */
	if (!rd_done(r)) {
		extended_broken(c);
		return;
	}
	t = extended_find(c->extended, EXTENDED_PORTAL, name);
	if (t == NULL) {
		extended_missing(c, EXTENDED_PORTAL, name);
		return;
	}
	c->extended->formats = t->formats;
	console_run(c, slice_of(t->sql));
}

static void extended_close(struct console *c, struct reader *r)
{
	struct extended_text *t;
	enum extended_kind kind;
	struct slice name;

	if (!extended_read_target(r, &kind, &name)) {
		extended_broken(c);
		return;
	}
	t = extended_find(c->extended, kind, name);
	if (t != NULL)
		extended_drop(c->extended, t);
	console_note(c, build_close_complete(&c->reply));
	console_finish(c);
}

static void extended_sync(struct console *c)
{
	c->skip_to_sync = false;
	extended_drop_portals(c->extended);
	console_finish(c);
}

bool extended_message(struct console *c, uint8_t type, struct slice body)
{
	void (*handler)(struct console * console, struct reader * r) = NULL;
	struct reader r;

	switch (type) {
	case FE_PARSE:
		handler = extended_parse;
		break;
	case FE_BIND:
		handler = extended_bind;
		break;
	case FE_DESCRIBE:
		handler = extended_describe;
		break;
	case FE_EXECUTE:
		handler = extended_execute;
		break;
	case FE_CLOSE:
		handler = extended_close;
		break;
	case FE_SYNC:
		extended_sync(c);
		return true;
	case FE_FLUSH:
		return true; /* nothing is held back */
	default:
		return c->skip_to_sync && type != FE_TERMINATE;
	}
	if (c->skip_to_sync)
		return true;
	c->in_execute = true;
	rd_init_slice(&r, body);
	handler(c, &r);
	return true;
}
