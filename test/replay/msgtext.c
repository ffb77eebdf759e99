#include "msgtext.h"

#include "core/alloc.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

/* ---- writing ---- */

/* Appends a whole message around a body. */
static int msgtext_append(struct buf *b, char type, const void *body, size_t n)
{
	uint32_t len = __builtin_bswap32((uint32_t)n + 4);
	int err = buf_append(b, &type, 1);

	if (err == 0)
		err = buf_append(b, &len, sizeof(len));
	return err == 0 && n > 0 ? buf_append(b, body, n) : err;
}

/* The same around a text with its NUL. */
static int msgtext_append_text(struct buf *b, char type, const char *text)
{
	return msgtext_append(b, type, text, strlen(text) + 1);
}

/* A body of n bytes that is well-formed as far as the pooler reads it: text that ends with a NUL. */
static int msgtext_append_filler(struct buf *b, char type, size_t n)
{
	uint8_t *body = xmalloc(n + 1);
	int err;

	memset(body, 'x', n);
	if (n > 0)
		body[n - 1] = '\0';
	err = msgtext_append(b, type, body, n);
	free(body);
	return err;
}

/* A message that names a statement: arg is "name" or, of a Parse, "name:text". */
static int msgtext_write_named(struct buf *b, char type, const char *arg)
{
	size_t n = strcspn(arg, ":");
	struct slice name = slice_make(arg, n);
	bool has_text = arg[n] == ':';

	if (has_text != (type == FE_PARSE))
		return -E_RANGE;
	switch (type) {
	case FE_PARSE:
		return build_parse(b, name, slice_of(arg + n + 1), NULL, 0);
	case FE_BIND:
		return build_bind(b, slice_of(""), name, NULL, 0);
	case FE_DESCRIBE:
		return build_describe(b, TARGET_STATEMENT, name);
	case FE_CLOSE:
		return build_close(b, TARGET_STATEMENT, name);
	default:
		return -E_RANGE;
	}
}

static int msgtext_write_client(struct buf *b, char type, const char *arg)
{
	struct slice none = slice_of("");

	switch (type) {
	case FE_QUERY:
		return build_query(b, slice_of(arg));
	case FE_PARSE:
		return build_parse(b, none, slice_of(arg), NULL, 0);
	case FE_BIND:
	case FE_CLOSE:
		return msgtext_write_named(b, type, "");
	case FE_DESCRIBE:
		return build_describe(b, TARGET_PORTAL, none);
	case FE_EXECUTE:
		return build_execute(b, none, 0);
	case FE_COPY_FAIL:
	case FE_PASSWORD:
		return msgtext_append_text(b, type, arg);
	default:
		return msgtext_append(b, type, arg, strlen(arg));
	}
}

/* "sqlstate:text" as the body of an error or notice. */
static int msgtext_write_report(struct buf *b, char type, const char *arg)
{
	const char *colon = strchr(arg, ':');
	struct build_report r = { .severity = slice_of(type == BE_ERROR ? "ERROR" : "NOTICE") };

	if (colon == NULL)
		return -E_RANGE;
	r.sqlstate = slice_make(arg, (size_t)(colon - arg));
	r.message = slice_of(colon + 1);
	return type == BE_ERROR ? build_error(b, &r) : build_notice(b, &r);
}

static int msgtext_write_parameter(struct buf *b, const char *arg)
{
	const char *eq = strchr(arg, '=');

	if (eq == NULL)
		return -E_RANGE;
	return build_parameter_status(b, slice_make(arg, (size_t)(eq - arg)), slice_of(eq + 1));
}

/* A request for authentication; that for MD5 has a salt. */
static int msgtext_write_auth(struct buf *b, uint32_t code)
{
	uint8_t body[8] = { 0, 0, 0, (uint8_t)code, 's', 'a', 'l', 't' };

	return msgtext_append(b, BE_AUTH, body, code == AUTH_MD5 ? 8 : 4);
}

static int msgtext_write_server(struct buf *b, char type, const char *arg)
{
	static const struct build_column column = { "v", OID_TEXT, false };
	static const uint8_t copy_body[3] = { 0 };
	static const uint8_t notify_body[] = { 0, 0, 0, 1, 'c', 0, 'p', 0 };
	struct slice value = slice_of(arg);

	switch (type) {
	case BE_READY:
		return build_ready(b, (enum tx_status)arg[0]);
	case BE_DATA_ROW:
		return build_data_row(b, &value, 1);
	case BE_COMMAND_COMPLETE:
		return build_command_complete(b, arg);
	case BE_ERROR:
	case BE_NOTICE:
		return msgtext_write_report(b, type, arg);
	case BE_PARAMETER_STATUS:
		return msgtext_write_parameter(b, arg);
	case BE_BACKEND_KEY:
		return build_backend_key(b, (uint32_t)atoi(arg), slice_of("abcd"));
	case BE_AUTH:
		return msgtext_write_auth(b, (uint32_t)atoi(arg));
	case BE_ROW_DESCRIPTION:
		return build_row_description(b, &column, 1);
	case BE_PARAMETER_DESCRIPTION:
		return build_parameter_description(b, NULL, 0);
	case BE_COPY_IN:
	case BE_COPY_OUT:
	case BE_COPY_BOTH:
		return msgtext_append(b, type, copy_body, sizeof(copy_body));
	case BE_NOTIFICATION:
		return msgtext_append(b, type, notify_body, sizeof(notify_body));
	case BE_FUNCTION_RESULT:
		return msgtext_append(b, type, "\xff\xff\xff\xff", 4);
	default:
		return msgtext_append(b, type, arg, strlen(arg));
	}
}

static bool msgtext_write_raw(struct buf *b, const char *hex)
{
	for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
		const char digits[3] = { hex[0], hex[1], '\0' };
		uint8_t byte = (uint8_t)strtoul(digits, NULL, 16);

		if (buf_append(b, &byte, 1) != 0)
			return false;
	}
	return hex[0] == '\0';
}

bool msgtext_write(struct buf *b, const char *word, bool from_server)
{
	if (strncmp(word, "raw:", 4) == 0)
		return msgtext_write_raw(b, word + 4);
	if (word[0] == '\0')
		return false;
	if (word[1] == '*')
		return msgtext_append_filler(b, word[0], strtoul(word + 2, NULL, 10)) == 0;
	if (word[1] == '@' && !from_server)
		return msgtext_write_named(b, word[0], word + 2) == 0;
	if (word[1] != '\0' && word[1] != ':')
		return false;
	if (from_server)
		return msgtext_write_server(b, word[0], word[1] == ':' ? word + 2 : "") == 0;
	return msgtext_write_client(b, word[0], word[1] == ':' ? word + 2 : "") == 0;
}

/* ---- reading ---- */

static void msgtext_show_report(char type, struct slice body, char word[MSGTEXT_MAX])
{
	struct parse_report r;

	if (parse_report(body, &r) != 0)
		str_format(word, MSGTEXT_MAX, "%c:broken", type);
	else
		str_format(word, MSGTEXT_MAX, "%c:%.*s:%.*s", type, (int)r.sqlstate.n, r.sqlstate.p, (int)r.message.n,
			   r.message.p);
}

static void msgtext_show_server(char type, struct slice body, char word[MSGTEXT_MAX])
{
	struct slice name;
	struct slice value;

	switch (type) {
	case BE_ERROR:
	case BE_NOTICE:
		msgtext_show_report(type, body, word);
		break;
	case BE_PARAMETER_STATUS:
		if (parse_parameter_status(body, &name, &value) != 0)
			name = value = slice_of("broken");
		str_format(word, MSGTEXT_MAX, "S:%.*s=%.*s", (int)name.n, name.p, (int)value.n, value.p);
		break;
	case BE_READY:
		str_format(word, MSGTEXT_MAX, "Z:%c", body.n == 1 ? body.p[0] : '?');
		break;
	case BE_COMMAND_COMPLETE:
		str_format(word, MSGTEXT_MAX, "C:%.*s", (int)body.n, body.p);
		break;
	case BE_DATA_ROW:
		str_format(word, MSGTEXT_MAX, "D:%.*s", body.n > 6 ? (int)body.n - 6 : 0, body.p + 6);
		break;
	case BE_COPY_DATA:
		str_format(word, MSGTEXT_MAX, "d:%.*s", (int)body.n, body.p);
		break;
	case BE_AUTH:
		str_format(word, MSGTEXT_MAX, "R:%u", body.n >= 4 ? frame_be32((const uint8_t *)body.p) : 0);
		break;
	default:
		str_format(word, MSGTEXT_MAX, "%c", type);
		break;
	}
}

/* A string at `at` in the body, as far as it is there; *next is behind it. */
static struct slice msgtext_string(struct slice body, size_t at, size_t *next)
{
	size_t n = at < body.n ? strnlen(body.p + at, body.n - at) : 0;

	*next = at + n + 1;
	return slice_make(n == 0 ? "" : body.p + at, n);
}

/* A message that may name a statement. */
static void msgtext_show_named(char type, struct slice body, char word[MSGTEXT_MAX])
{
	struct slice text = { "", 0 };
	struct slice name;
	size_t at = 0;

	if (type == FE_BIND)
		(void)msgtext_string(body, 0, &at);
	else if (type != FE_PARSE)
		at = 1;
	name = msgtext_string(body, at, &at);
	if (type == FE_PARSE)
		text = msgtext_string(body, at, &at);
	if ((type == FE_DESCRIBE || type == FE_CLOSE) && (body.n == 0 || body.p[0] != TARGET_STATEMENT))
		name.n = 0;
	str_format(word, MSGTEXT_MAX, "%c%s%.*s%s%.*s", type, name.n > 0 ? "@" : "", (int)name.n, name.p,
		   type == FE_PARSE ? ":" : "", (int)text.n, text.p);
}

static void msgtext_show_client(char type, struct slice body, char word[MSGTEXT_MAX])
{
	switch (type) {
	case FE_QUERY:
	case FE_COPY_FAIL:
	case FE_COPY_DATA:
	case FE_PASSWORD:
		str_format(word, MSGTEXT_MAX, "%c:%.*s", type, (int)strnlen(body.p, body.n), body.p);
		break;
	case FE_PARSE:
	case FE_BIND:
	case FE_DESCRIBE:
	case FE_CLOSE:
		msgtext_show_named(type, body, word);
		break;
	default:
		str_format(word, MSGTEXT_MAX, "%c", type);
		break;
	}
}

/* The value of a parameter of a startup packet. */
static const char *msgtext_parameter(struct slice list, const char *name)
{
	size_t at = 0;

	while (at < list.n && list.p[at] != '\0') {
		size_t n = strnlen(list.p + at, list.n - at) + 1;

		if (strcmp(list.p + at, name) == 0)
			return list.p + at + n;
		at += n;
		at += strnlen(list.p + at, list.n - at) + 1;
	}
	return "";
}

static size_t msgtext_read_first(const uint8_t *p, size_t len, char word[MSGTEXT_MAX])
{
	uint32_t size;

	if (len < 8)
		return 0;
	size = frame_be32(p);
	if (size < 8 || size > len)
		return 0;
	if (frame_be32(p + 4) == PROTO_CANCEL_REQUEST) {
		str_format(word, MSGTEXT_MAX, "cancel:%u", size >= 12 ? frame_be32(p + 8) : 0);
	} else {
		struct slice list = slice_make(p + 8, size - 8);

		const char *replication = msgtext_parameter(list, "replication");

		str_format(word, MSGTEXT_MAX, "startup:%s/%s%s%s", msgtext_parameter(list, "user"),
			   msgtext_parameter(list, "database"), replication[0] == '\0' ? "" : "+", replication);
	}
	return size;
}

size_t msgtext_read(const uint8_t *p, size_t len, bool from_server, bool is_first, char word[MSGTEXT_MAX])
{
	struct frame f;
	struct slice body;

	if (is_first && !from_server)
		return msgtext_read_first(p, len, word);
	if (frame_read(p, len, UINT64_MAX, &f) != 0 || f.size > len)
		return 0;
	body = slice_make(p + FRAME_HEADER, f.size - FRAME_HEADER);
	if (body.n > MSGTEXT_LONG && f.type != BE_ERROR)
		str_format(word, MSGTEXT_MAX, "%c*%zu", f.type, body.n);
	else if (from_server)
		msgtext_show_server((char)f.type, body, word);
	else
		msgtext_show_client((char)f.type, body, word);
	return f.size;
}
