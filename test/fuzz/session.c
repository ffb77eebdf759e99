#include "session.h"

#include "proto/build.h"
#include "proto/msg.h"
#include "proto/wire.h"

/* Length of the row that comes first of "big": more than sockets of the tests take at once. */
#define SESSION_BIG 150000

/* The longest simple query: SET commands of the pooler. */
#define SESSION_SQL 1024

#define SESSION_DO(call)          \
	do {                      \
		int rc_ = (call); \
		ASSERT(rc_ == 0); \
	} while (0)

void session_init(struct session *s, unsigned *schema)
{
	memset(s, 0, sizeof(*s));
	s->status = 'I';
	s->schema = schema;
}

void session_lose(struct session *s)
{
	memset(s->statements, 0, sizeof(s->statements));
}

unsigned session_count(const struct session *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < SESSION_STATEMENTS; i++)
		n += s->statements[i].is && s->statements[i].name[0] != '\0';
	return n;
}

static bool session_begins(const char *text, const char *word)
{
	return strncmp(text, word, strlen(word)) == 0;
}

/* ---- what it says ---- */

static void session_simple(struct buf *out, uint8_t type, const void *body, size_t n)
{
	struct writer w;

	wr_begin(&w, out, type);
	wr_bytes(&w, body, n);
	SESSION_DO(wr_end(&w));
}

static void session_row(struct buf *out, const char *text, const char *value)
{
	const struct slice values[] = { slice_of(text), slice_of(value) };

	SESSION_DO(build_data_row(out, values, ARRAY_LEN(values)));
}

static void session_describe_row(struct buf *out)
{
	static const struct build_column columns[] = { { "text", OID_TEXT, false }, { "value", OID_TEXT, false } };

	SESSION_DO(build_row_description(out, columns, ARRAY_LEN(columns)));
}

static void session_ready(struct session *s, struct buf *out)
{
	SESSION_DO(build_ready(out, (enum tx_status)s->status));
}

static void session_end_portals(struct session *s)
{
	memset(s->portals, 0, sizeof(s->portals));
}

static void session_fail(struct session *s, struct buf *out, const char *sqlstate, const char *text)
{
	const struct build_report r = { .severity = slice_of("ERROR"),
					.sqlstate = slice_of(sqlstate),
					.message = slice_of(text) };

	SESSION_DO(build_error(out, &r));
	if (s->status == 'T')
		s->status = 'E';
	session_end_portals(s);
}

/* ---- names ---- */

static struct session_statement *session_find(struct session *s, const char *name)
{
	for (size_t i = 0; i < SESSION_STATEMENTS; i++)
		if (s->statements[i].is && strcmp(s->statements[i].name, name) == 0)
			return &s->statements[i];
	return NULL;
}

const char *session_text(const struct session *s, const char *name)
{
	const struct session_statement *st = session_find((struct session *)(uintptr_t)s, name);

	return st == NULL ? NULL : st->text;
}

static void session_forget(struct session *s, const char *name)
{
	struct session_statement *st = session_find(s, name);

	if (st != NULL)
		st->is = false;
}

static void session_store(struct session *s, const char *name, const char *text)
{
	for (size_t i = 0; i < SESSION_STATEMENTS; i++) {
		struct session_statement *st = &s->statements[i];

		if (st->is)
			continue;
		st->is = true;
		st->schema = s->schema == NULL ? 0 : *s->schema;
		str_copy(st->name, sizeof(st->name), name);
		str_copy(st->text, sizeof(st->text), text);
		return;
	}
	ASSERT(false && "the pooler has left too many statements on a server");
}

static struct session_portal *session_portal(struct session *s, const char *name)
{
	for (size_t i = 0; i < SESSION_PORTALS; i++)
		if (s->portals[i].is && strcmp(s->portals[i].name, name) == 0)
			return &s->portals[i];
	return NULL;
}

/* ---- statements that run ---- */

/* Commands that have no result. */
static bool session_is_command(const char *text)
{
	static const char *const words[] = {
		"begin", "commit", "rollback", "copy", "none", "deallocate", "DEALLOCATE"
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (session_begins(text, words[i]))
			return true;
	return false;
}

static bool session_is_exit(const char *text)
{
	return session_begins(text, "commit") || session_begins(text, "rollback");
}

/* DEALLOCATE name, of which the pooler puts one into quotes. */
static bool session_deallocate(struct session *s, const char *text, struct buf *out)
{
	const char *name = text + strlen("deallocate ");
	struct session_statement *st;
	char bare[SESSION_NAME];

	name += *name == '"';
	str_copy_slice(bare, sizeof(bare), slice_make(name, strcspn(name, "\"")));
	st = session_find(s, bare);
	if (st == NULL) {
		session_fail(s, out, "26000", SESSION_MISSING);
		return false;
	}
	st->is = false;
	SESSION_DO(build_command_complete(out, "DEALLOCATE"));
	return true;
}

/* Runs a text; false when it has failed, or COPY data must come first. */
static bool session_run(struct session *s, const char *text, const char *value, struct buf *out)
{
	static const uint8_t copy_body[3] = { 0 };
	static const uint8_t big[SESSION_BIG] = { 0 };

	if (s->status == 'E' && !session_is_exit(text)) {
		session_fail(s, out, "25P02", "current transaction is aborted");
		return false;
	}
	if (session_begins(text, "fail")) {
		session_fail(s, out, "22012", text);
		return false;
	}
	if (session_begins(text, "copyin")) {
		session_simple(out, BE_COPY_IN, copy_body, sizeof(copy_body));
		s->copying = true;
		return false;
	}
	if (strncasecmp(text, "deallocate ", 11) == 0)
		return session_deallocate(s, text, out);
	if (session_begins(text, "begin")) {
		s->status = 'T';
		SESSION_DO(build_command_complete(out, "BEGIN"));
	} else if (session_is_exit(text)) {
		SESSION_DO(build_command_complete(out, s->status == 'E' ? "ROLLBACK" : "COMMIT"));
		s->status = 'I';
	} else if (session_begins(text, "alter")) {
		SESSION_DO(build_command_complete(out, "ALTER TABLE"));
		if (s->schema != NULL)
			(*s->schema)++;
	} else if (session_begins(text, "none")) {
		SESSION_DO(build_command_complete(out, "NONE"));
	} else if (session_begins(text, "copyout")) {
		session_simple(out, BE_COPY_OUT, copy_body, sizeof(copy_body));
		session_simple(out, BE_COPY_DATA, text, strlen(text));
		session_simple(out, BE_COPY_DONE, "", 0);
		SESSION_DO(build_command_complete(out, "COPY"));
	} else {
		if (session_begins(text, "big"))
			session_simple(out, BE_DATA_ROW, big, sizeof(big));
		session_row(out, text, value);
		SESSION_DO(build_command_complete(out, "SELECT"));
	}
	return true;
}

/* SET a='b';SET c='d'; as the pooler writes it. */
static bool session_set(struct session *s, const char *sql, struct buf *out)
{
	if (!session_begins(sql, "SET "))
		return false;
	while (session_begins(sql, "SET ")) {
		const char *eq = strchr(sql, '=');
		const char *end = eq == NULL ? NULL : strstr(eq, "';");

		if (end == NULL)
			break;
		SESSION_DO(build_parameter_status(out, slice_make(sql + 4, (size_t)(eq - sql - 4)),
						  slice_make(eq + 2, (size_t)(end - eq - 2))));
		SESSION_DO(build_command_complete(out, "SET"));
		sql = end + 2;
	}
	session_ready(s, out);
	return true;
}

/* The answer to a simple query, which is not over when a COPY begins. */
static void session_query(struct session *s, struct reader *r, struct buf *out)
{
	char sql[SESSION_SQL];

	str_copy_slice(sql, sizeof(sql), rd_cstr(r));
	session_forget(s, "");
	if (session_set(s, sql, out))
		return;
	if (sql[0] == '\0') {
		SESSION_DO(build_empty_query(out));
	} else if (s->status != 'E' && session_begins(sql, "bad")) {
		session_fail(s, out, "42601", sql);
	} else if (s->status != 'E' && (session_begins(sql, "DISCARD ALL") || session_begins(sql, "DEALLOCATE ALL"))) {
		session_lose(s);
		SESSION_DO(build_command_complete(out, sql[1] == 'I' ? "DISCARD ALL" : "DEALLOCATE ALL"));
	} else {
		if (s->status != 'E' && !session_is_command(sql) && !session_begins(sql, "fail"))
			session_describe_row(out);
		s->copy_simple = true;
		session_run(s, sql, "", out);
		if (s->copying)
			return;
	}
	if (s->status == 'I')
		session_end_portals(s);
	session_ready(s, out);
}

/* ---- the extended protocol ---- */

static void session_extended_fail(struct session *s, struct buf *out, const char *sqlstate, const char *text)
{
	session_fail(s, out, sqlstate, text);
	s->skip = true;
}

static void session_read_name(struct reader *r, char name[SESSION_NAME])
{
	str_copy_slice(name, SESSION_NAME, rd_cstr(r));
}

static void session_parse(struct session *s, struct reader *r, struct buf *out)
{
	char name[SESSION_NAME];
	char text[SESSION_TEXT];

	session_read_name(r, name);
	str_copy_slice(text, sizeof(text), rd_cstr(r));
	if (name[0] == '\0')
		session_forget(s, "");
	/* A text without a statement may be parsed in an aborted transaction. */
	if (s->status == 'E' && !session_is_exit(text) && !session_begins(text, "--"))
		session_extended_fail(s, out, "25P02", "current transaction is aborted");
	else if (session_begins(text, "bad"))
		session_extended_fail(s, out, "42601", text);
	else if (session_find(s, name) != NULL)
		session_extended_fail(s, out, "42P05", "prepared statement exists");
	else {
		session_store(s, name, text);
		session_simple(out, BE_PARSE_COMPLETE, "", 0);
	}
}

/* The first value of a Bind; texts only. */
static void session_read_value(struct reader *r, char value[SESSION_TEXT])
{
	uint16_t formats = rd_u16(r);
	int32_t n;

	rd_bytes(r, formats * (size_t)2);
	value[0] = '\0';
	if (rd_u16(r) == 0)
		return;
	n = rd_i32(r);
	if (n > 0)
		str_copy_slice(value, SESSION_TEXT, rd_bytes(r, (size_t)n));
}

/* True when the statement does not return any more what it was parsed for. */
static bool session_is_stale(const struct session *s, const struct session_statement *st)
{
	return s->schema != NULL && st->schema != *s->schema && !session_is_command(st->text);
}

static void session_bind(struct session *s, struct reader *r, struct buf *out)
{
	char portal_name[SESSION_NAME], name[SESSION_NAME], value[SESSION_TEXT];
	const struct session_statement *st;
	struct session_portal *p;

	session_read_name(r, portal_name);
	session_read_name(r, name);
	session_read_value(r, value);
	st = session_find(s, name);
	p = session_portal(s, portal_name);
	if (st == NULL) {
		session_extended_fail(s, out, "26000", SESSION_MISSING);
		return;
	}
	if (s->status == 'E' && !session_is_exit(st->text)) {
		session_extended_fail(s, out, "25P02", "current transaction is aborted");
		return;
	}
	if (session_is_stale(s, st)) {
		session_extended_fail(s, out, "0A000", "cached plan must not change result type");
		return;
	}
	if (session_begins(value, "bad")) {
		session_extended_fail(s, out, "22P02", value);
		return;
	}
	if (p != NULL && portal_name[0] != '\0') {
		session_extended_fail(s, out, "42P03", "portal exists");
		return;
	}
	for (size_t i = 0; p == NULL && i < SESSION_PORTALS; i++)
		if (!s->portals[i].is)
			p = &s->portals[i];
	ASSERT(p != NULL);
	*p = (struct session_portal){ .is = true };
	str_copy(p->name, sizeof(p->name), portal_name);
	str_copy(p->text, sizeof(p->text), st->text);
	str_copy(p->value, sizeof(p->value), value);
	session_simple(out, BE_BIND_COMPLETE, "", 0);
}

/* RowDescription or NoData. */
static void session_describe_text(const char *text, struct buf *out)
{
	if (session_is_command(text))
		SESSION_DO(build_no_data(out));
	else
		session_describe_row(out);
}

static void session_describe(struct session *s, struct reader *r, struct buf *out)
{
	bool is_statement = rd_u8(r) == TARGET_STATEMENT;
	const struct session_statement *st;
	const struct session_portal *p;
	char name[SESSION_NAME];

	session_read_name(r, name);
	st = is_statement ? session_find(s, name) : NULL;
	p = is_statement ? NULL : session_portal(s, name);
	if (st == NULL && p == NULL) {
		session_extended_fail(s, out, is_statement ? "26000" : "34000",
				      is_statement ? SESSION_MISSING : "no such portal");
	} else if (s->status == 'E' && !session_is_exit(st != NULL ? st->text : p->text)) {
		session_extended_fail(s, out, "25P02", "current transaction is aborted");
	} else if (is_statement && session_is_stale(s, st)) {
		session_extended_fail(s, out, "0A000", "cached plan must not change result type");
	} else {
		if (is_statement)
			SESSION_DO(build_parameter_description(out, NULL, 0));
		session_describe_text(st != NULL ? st->text : p->text, out);
	}
}

static void session_execute(struct session *s, struct reader *r, struct buf *out)
{
	char name[SESSION_NAME];
	char text[SESSION_TEXT];
	struct session_portal *p;

	session_read_name(r, name);
	p = session_portal(s, name);
	if (p == NULL) {
		session_extended_fail(s, out, "34000", "portal does not exist");
		return;
	}
	if (p->done) {
		session_extended_fail(s, out, "55000", "portal cannot be run anymore");
		return;
	}
	if (p->text[0] == '\0') {
		SESSION_DO(build_empty_query(out));
		return;
	}
	p->done = true;
	s->copy_simple = false;
	str_copy(text, sizeof(text), p->text); /* the end of a transaction ends the portal */
	if (!session_run(s, text, p->value, out) && !s->copying)
		s->skip = true;
	if (session_is_exit(text))
		session_end_portals(s);
}

static void session_close(struct session *s, struct reader *r, struct buf *out)
{
	bool is_statement = rd_u8(r) == TARGET_STATEMENT;
	struct session_portal *p;
	char name[SESSION_NAME];

	session_read_name(r, name);
	p = session_portal(s, name);
	if (is_statement)
		session_forget(s, name);
	else if (p != NULL)
		p->is = false;
	session_simple(out, BE_CLOSE_COMPLETE, "", 0);
}

static void session_function(struct session *s, struct reader *r, struct buf *out)
{
	rd_rest(r);
	session_simple(out, BE_FUNCTION_RESULT, "\xff\xff\xff\xff", 4);
	if (s->status == 'I')
		session_end_portals(s); /* it commits what came before */
	session_ready(s, out);
}

/* ---- COPY ---- */

static void session_copy(struct session *s, uint8_t type, struct buf *out)
{
	switch (type) {
	case FE_COPY_DATA:
	case FE_FLUSH:
	case FE_SYNC:
		return;
	case FE_COPY_DONE:
		SESSION_DO(build_command_complete(out, "COPY"));
		break;
	case FE_COPY_FAIL:
		session_fail(s, out, "57014", "COPY failed");
		s->skip = !s->copy_simple;
		break;
	default: /* PostgreSQL fails the COPY, and ends the session for what it has lost */
		session_fail(s, out, "08P01", "unexpected message during COPY");
		s->dead = true;
		return;
	}
	s->copying = false;
	if (!s->copy_simple)
		return;
	if (s->status == 'I')
		session_end_portals(s);
	session_ready(s, out);
}

/* ---- messages ---- */

static void session_sync(struct session *s, struct buf *out)
{
	s->skip = false;
	if (s->status == 'I')
		session_end_portals(s);
	session_ready(s, out);
}

void session_take(struct session *s, uint8_t type, struct slice body, struct buf *out)
{
	static void (*const extended[256])(struct session *, struct reader *, struct buf *) = {
		[FE_QUERY] = session_query,
		[FE_PARSE] = session_parse,
		[FE_BIND] = session_bind,
		[FE_DESCRIBE] = session_describe,
		[FE_EXECUTE] = session_execute,
		[FE_CLOSE] = session_close,
		[FE_FUNCTION_CALL] = session_function,
	};
	struct reader r;

	rd_init_slice(&r, body);
	if (s->dead)
		return;
	if (type == FE_TERMINATE)
		s->dead = true;
	else if (s->copying)
		session_copy(s, type, out);
	else if (type == FE_SYNC)
		session_sync(s, out);
	else if (!s->skip && extended[type] != NULL)
		extended[type](s, &r, out);
	ASSERT(r.err == 0);
}
