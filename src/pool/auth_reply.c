/*
 * The messages of a look-up by query.
 *
 * The batch is one transaction, ended by one Sync:
 *
 *     Parse Bind Execute            SELECT pg_catalog.set_config('search_path', ..., true)
 *     Parse Bind Describe Execute   the query, with the name of the user
 *     Sync
 *
 * so that no path that somebody has left on the server decides which functions,
 * operators and tables the query means. The path is pg_catalog, and then the
 * temporary schema, which would come first if it were not named.
 *
 * What comes back is read by a table: which message may come in which step, and
 * where it leads. Before the batch's answer comes the greeting. An error leads
 * to the end of the batch; a message without a row ends the look-up.
 */
#include "pool/auth_reply.h"

#include "auth/secret.h"
#include "auth/users.h"
#include "core/alloc.h"
#include "proto/build.h"
#include "proto/msg.h"
#include "proto/parse.h"
#include "proto/wire.h"

#define AUTH_SAFE_PATH "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
/* What sessions of this user begin with, whatever another client has left on the server. */
#define AUTH_OWN_PATH                                                   \
	"SELECT pg_catalog.set_config('search_path', reset_val, true) " \
	"FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'search_path'"

static int auth_reply_build_statement(struct buf *b, struct slice sql, const struct slice *values, size_t n,
				      bool describe)
{
	const struct slice unnamed = slice_of("");
	int err = build_parse(b, unnamed, sql, NULL, 0);

	if (err == 0)
		err = build_bind(b, unnamed, unnamed, values, n);
	if (err == 0 && describe)
		err = build_describe(b, TARGET_PORTAL, unnamed);
	return err == 0 ? build_execute(b, unnamed, 0) : err;
}

int auth_reply_build(struct buf *b, struct slice query, struct slice user, bool own_path)
{
	uint32_t before = buf_len(b);
	int err = auth_reply_build_statement(b, slice_of(own_path ? AUTH_OWN_PATH : AUTH_SAFE_PATH), NULL, 0, false);

	if (err == 0)
		err = auth_reply_build_statement(b, query, &user, 1, true);
	if (err == 0)
		err = build_sync(b);
	if (err != 0)
		buf_truncate(b, before);
	return err;
}

/* ---- the answer ---- */

enum reply_step {
	STEP_GREETING, /* up to the first ReadyForQuery */
	STEP_PATH_PARSE,
	STEP_PATH_BIND,
	STEP_PATH_ROW,
	STEP_PARSE,
	STEP_BIND,
	STEP_COLUMNS,
	STEP_ROWS,
	STEP_SYNC, /* up to the ReadyForQuery at the end */
	STEP_OVER,
};

typedef enum auth_reply_verdict auth_reply_fn(struct auth_reply *reply, struct slice body);

void auth_reply_cut(struct auth_reply *reply, const char *text)
{
	reply->severity[0] = '\0';
	str_copy(reply->text, sizeof(reply->text), text);
	str_copy(reply->sqlstate, sizeof(reply->sqlstate), "08006");
	reply->outcome = AUTH_OUTCOME_DOWN;
	reply->step = STEP_OVER;
}

static enum auth_reply_verdict auth_reply_break(struct auth_reply *reply, const char *text)
{
	reply->severity[0] = '\0';
	str_copy(reply->text, sizeof(reply->text), text);
	str_copy(reply->sqlstate, sizeof(reply->sqlstate), "08P01");
	reply->outcome = AUTH_OUTCOME_FAILED;
	reply->step = STEP_OVER;
	return AUTH_REPLY_BROKEN;
}

static enum auth_reply_verdict auth_reply_pass(struct auth_reply *reply UNUSED, struct slice body UNUSED)
{
	return AUTH_REPLY_MORE;
}

/* Number of columns of a RowDescription or a DataRow, which comes first in both. */
static unsigned auth_reply_columns(struct slice body)
{
	struct reader r;

	rd_init_slice(&r, body);
	return rd_u16(&r);
}

static enum auth_reply_verdict auth_reply_on_columns(struct auth_reply *reply, struct slice body)
{
	unsigned want = reply->kind == AUTH_KIND_USER ? 2 : 1;
	unsigned n = body.n == 0 ? 0 : auth_reply_columns(body);
	char text[80];

	if (n == want)
		return AUTH_REPLY_MORE;
	str_format(text, sizeof(text), "expected %u column%s from %s, not %u", want, want == 1 ? "" : "s",
		   reply->kind == AUTH_KIND_USER ? "auth_query" : "auth_roles_query", n);
	return auth_reply_break(reply, text);
}

static enum auth_reply_verdict auth_reply_on_no_data(struct auth_reply *reply, struct slice body UNUSED)
{
	return auth_reply_on_columns(reply, slice_make("", 0));
}

/* The next value of a DataRow; false for NULL. The slice is never NULL then. */
static bool auth_reply_value(struct reader *r, struct slice *value)
{
	int32_t len = rd_i32(r);

	if (len < -1)
		rd_fail(r);
	if (len < 0)
		return false;
	*value = rd_bytes(r, (size_t)len);
	return true;
}

static bool auth_reply_has_nul(struct slice s)
{
	return s.n > 0 && memchr(s.p, '\0', s.n) != NULL;
}

static enum auth_reply_verdict auth_reply_on_user(struct auth_reply *reply, struct slice body)
{
	struct slice name = slice_make("", 0);
	struct slice secret = slice_make("", 0);
	struct reader r;
	bool has_name;
	bool has_secret;

	rd_init_slice(&r, body);
	if (rd_u16(&r) != 2)
		rd_fail(&r);
	has_name = auth_reply_value(&r, &name);
	has_secret = auth_reply_value(&r, &secret);
	if (!rd_done(&r) || auth_reply_has_nul(name) || auth_reply_has_nul(secret))
		return auth_reply_break(reply, "unexpected response from auth_query");
	if (!has_name)
		return AUTH_REPLY_MORE; /* a function that returns one record says "nobody" like that */
	if (name.n == 0 || name.n > USERS_NAME_MAX)
		return auth_reply_break(reply, "auth_query response contained a user name that is empty or too long");
	if (secret.n > SECRET_MAX)
		return auth_reply_break(reply, "auth_query response contained a password that is too long");
	free(reply->name);
	free_secret(reply->secret);
	reply->name = slice_dup(name);
	reply->secret = has_secret ? slice_dup(secret) : NULL;
	reply->outcome = AUTH_OUTCOME_FOUND;
	return AUTH_REPLY_MORE;
}

static enum auth_reply_verdict auth_reply_on_role(struct auth_reply *reply, struct slice body)
{
	struct slice name = slice_make("", 0);
	struct reader r;
	bool has_name;

	rd_init_slice(&r, body);
	if (rd_u16(&r) != 1)
		rd_fail(&r);
	has_name = auth_reply_value(&r, &name);
	if (!rd_done(&r) || auth_reply_has_nul(name))
		return auth_reply_break(reply, "unexpected response from auth_roles_query");
	reply->outcome = AUTH_OUTCOME_FOUND;
	if (!has_name || name.n == 0)
		return AUTH_REPLY_MORE;
	if (name.n > USERS_NAME_MAX || reply->role_count == AUTH_REPLY_ROLES_MAX)
		return auth_reply_break(reply, "auth_roles_query response is too long");
	if ((reply->role_count & (reply->role_count - 1)) == 0)
		reply->roles = xrealloc(reply->roles, (reply->role_count + 1) * 2 * sizeof(reply->roles[0]));
	reply->roles[reply->role_count++] = slice_dup(name);
	reply->role_bytes += name.n + 1;
	return AUTH_REPLY_MORE;
}

static enum auth_reply_verdict auth_reply_on_row(struct auth_reply *reply, struct slice body)
{
	return reply->kind == AUTH_KIND_USER ? auth_reply_on_user(reply, body) : auth_reply_on_role(reply, body);
}

static enum auth_reply_verdict auth_reply_on_ready(struct auth_reply *reply, struct slice body)
{
	enum tx_status status;

	if (parse_ready(body, &status) != 0 || status != TX_IDLE)
		return auth_reply_break(reply, "unexpected response from auth_query");
	if (reply->outcome == AUTH_OUTCOME_FAILED &&
	    (strcmp(reply->sqlstate, "42P01") == 0 || strcmp(reply->sqlstate, "42883") == 0 ||
	     strcmp(reply->sqlstate, "3F000") == 0))
		return AUTH_REPLY_NO_SCHEMA;
	return AUTH_REPLY_READY;
}

/* States that say that the server does not do its work, and nothing about the query. */
static bool auth_reply_is_down(const char *sqlstate)
{
	static const char *const classes[] = { "08", "53", "57", "58" };

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

static enum auth_reply_verdict auth_reply_on_error(struct auth_reply *reply, struct slice body)
{
	struct parse_report parsed;
	bool is_last;

	if (parse_report(body, &parsed) != 0)
		return auth_reply_break(reply, "unexpected response from auth_query");
	reply->waited = slice_eq_str(parsed.severity, AUTH_REPLY_WAITED);
	is_last = reply->waited || !slice_eq_str(parsed.severity, "ERROR") || reply->step == STEP_GREETING;
	str_copy_slice(reply->severity, sizeof(reply->severity),
		       slice_cut(parsed.severity, sizeof(reply->severity) - 1));
	str_copy_slice(reply->text, sizeof(reply->text), slice_cut(parsed.message, sizeof(reply->text) - 1));
	str_copy_slice(reply->sqlstate, sizeof(reply->sqlstate), parsed.sqlstate);
	reply->outcome = is_last || auth_reply_is_down(reply->sqlstate) ? AUTH_OUTCOME_DOWN : AUTH_OUTCOME_FAILED;
	reply->step = is_last ? STEP_OVER : STEP_SYNC;
	return is_last ? AUTH_REPLY_BROKEN : AUTH_REPLY_MORE;
}

/* step, message, what takes it, the step that comes then */
#define AUTH_REPLY_TABLE(X)                                                    \
	X(STEP_GREETING, BE_AUTH, auth_reply_pass, STEP_GREETING)              \
	X(STEP_GREETING, BE_BACKEND_KEY, auth_reply_pass, STEP_GREETING)       \
	X(STEP_GREETING, BE_READY, auth_reply_pass, STEP_PATH_PARSE)           \
	X(STEP_PATH_PARSE, BE_PARSE_COMPLETE, auth_reply_pass, STEP_PATH_BIND) \
	X(STEP_PATH_BIND, BE_BIND_COMPLETE, auth_reply_pass, STEP_PATH_ROW)    \
	X(STEP_PATH_ROW, BE_DATA_ROW, auth_reply_pass, STEP_PATH_ROW)          \
	X(STEP_PATH_ROW, BE_COMMAND_COMPLETE, auth_reply_pass, STEP_PARSE)     \
	X(STEP_PARSE, BE_PARSE_COMPLETE, auth_reply_pass, STEP_BIND)           \
	X(STEP_BIND, BE_BIND_COMPLETE, auth_reply_pass, STEP_COLUMNS)          \
	X(STEP_COLUMNS, BE_ROW_DESCRIPTION, auth_reply_on_columns, STEP_ROWS)  \
	X(STEP_COLUMNS, BE_NO_DATA, auth_reply_on_no_data, STEP_ROWS)          \
	X(STEP_ROWS, BE_DATA_ROW, auth_reply_on_row, STEP_ROWS)                \
	X(STEP_ROWS, BE_COMMAND_COMPLETE, auth_reply_pass, STEP_SYNC)          \
	X(STEP_SYNC, BE_READY, auth_reply_on_ready, STEP_OVER)

static const struct auth_reply_row {
	enum reply_step step;
	uint8_t type;
	auth_reply_fn *fn;
	enum reply_step next;
} auth_reply_rows[] = {
#define X(step, type, fn, next) { step, type, fn, next },
	AUTH_REPLY_TABLE(X)
#undef X
};

enum auth_reply_verdict auth_reply_feed(struct auth_reply *reply, uint8_t type, struct slice body)
{
	ASSERT(reply->step != STEP_OVER);
	if (type == BE_PARAMETER_STATUS || type == BE_NOTICE || type == BE_NOTIFICATION)
		return AUTH_REPLY_MORE; /* may come at any time */
	if (type == BE_ERROR)
		return auth_reply_on_error(reply, body);
	for (size_t i = 0; i < ARRAY_LEN(auth_reply_rows); i++) {
		const struct auth_reply_row *row = &auth_reply_rows[i];

		if (row->step != reply->step || row->type != type)
			continue;
		reply->step = row->next;
		return row->fn(reply, body);
	}
	return auth_reply_break(reply, "unexpected response from auth_query");
}

void auth_reply_again(struct auth_reply *reply)
{
	enum auth_kind kind = reply->kind;

	auth_reply_fini(reply);
	reply->kind = kind;
	reply->step = STEP_PATH_PARSE;
}

void auth_reply_fini(struct auth_reply *reply)
{
	for (size_t i = 0; i < reply->role_count; i++)
		free(reply->roles[i]);
	free(reply->roles);
	free(reply->name);
	free_secret(reply->secret);
	*reply = (struct auth_reply){ .kind = reply->kind };
}
