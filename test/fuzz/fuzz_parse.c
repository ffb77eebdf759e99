/*
 * The bodies that we read, from servers and from clients, both of which may
 * be hostile. The first byte chooses the parser, the rest is the body. Slices
 * must stay inside of the body, and what our builders can say again must be
 * understood the same.
 */
#include "fuzz.h"

#include "core/buf.h"
#include "core/err.h"
#include "proto/build.h"
#include "proto/parse.h"

#define HEADER 5

static void fuzz_report(struct slice body)
{
	struct parse_report r, again;
	struct build_report out = { .with_plain_severity = true };
	struct buf b;

	if (parse_report(body, &r) != 0)
		return;
	ASSERT(fuzz_is_inside(r.severity, body) && fuzz_is_inside(r.sqlstate, body));
	ASSERT(fuzz_is_inside(r.message, body) && fuzz_is_inside(r.detail, body) && fuzz_is_inside(r.hint, body));
	out.severity = r.severity;
	out.sqlstate = r.sqlstate;
	out.message = r.message;
	out.detail = r.detail;
	out.hint = r.hint;
	buf_init(&b, UINT32_MAX);
	ASSERT(build_error(&b, &out) == 0);
	ASSERT(parse_report(slice_make(buf_ptr(&b) + HEADER, buf_len(&b) - HEADER), &again) == 0);
	ASSERT(slice_eq(r.severity, again.severity) && slice_eq(r.sqlstate, again.sqlstate));
	ASSERT(slice_eq(r.message, again.message));
	ASSERT(slice_eq(r.detail, again.detail) && slice_eq(r.hint, again.hint));
	buf_fini(&b);
}

/* The builder must say exactly what was read. */
static void fuzz_same(struct buf *b, int err, struct slice body)
{
	ASSERT(err == 0);
	ASSERT(slice_eq(slice_make(buf_ptr(b) + HEADER, buf_len(b) - HEADER), body));
	buf_fini(b);
}

static void fuzz_parameter_status(struct slice body)
{
	struct slice name, value;
	struct buf b;

	if (parse_parameter_status(body, &name, &value) != 0)
		return;
	buf_init(&b, UINT32_MAX);
	fuzz_same(&b, build_parameter_status(&b, name, value), body);
}

static void fuzz_backend_key(struct slice body)
{
	struct slice key;
	struct buf b;
	uint32_t pid;

	if (parse_backend_key(body, &pid, &key) != 0)
		return;
	buf_init(&b, UINT32_MAX);
	fuzz_same(&b, build_backend_key(&b, pid, key), body);
}

static void fuzz_ready(struct slice body)
{
	enum tx_status status;
	struct buf b;

	if (parse_ready(body, &status) != 0)
		return;
	buf_init(&b, UINT32_MAX);
	fuzz_same(&b, build_ready(&b, status), body);
}

static void fuzz_auth(struct slice body)
{
	struct parse_auth a;
	struct slice list, m;
	size_t used = 5;

	if (parse_auth(body, &a) != 0)
		return;
	ASSERT(fuzz_is_inside(a.data, body) && a.data.n + 4 == body.n);
	ASSERT(a.code != AUTH_MD5 || a.data.n == 4);
	if (a.code != AUTH_SASL)
		return;
	list = a.data;
	while (parse_auth_mechanism_next(&list, &m)) {
		ASSERT(m.n > 0 && fuzz_is_inside(m, body));
		used += m.n + 1;
	}
	ASSERT(used == body.n);
}

static void fuzz_negotiate(struct slice body)
{
	struct parse_negotiate n;
	struct slice names, name;
	uint32_t count = 0;
	size_t used = 8;

	if (parse_negotiate(body, &n) != 0)
		return;
	names = n.names;
	while (parse_negotiate_next(&names, &name)) {
		ASSERT(fuzz_is_inside(name, body));
		used += name.n + 1;
		count++;
	}
	ASSERT(count == n.n && used == body.n);
}

static void fuzz_string(struct slice body)
{
	struct slice tag, sql;
	struct buf b;

	if (parse_command_complete(body, &tag) != 0) {
		ASSERT(parse_query(body, &sql) != 0);
		return;
	}
	ASSERT(parse_query(body, &sql) == 0 && slice_eq(sql, tag));
	buf_init(&b, UINT32_MAX);
	fuzz_same(&b, build_query(&b, sql), body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parsers[])(struct slice) = {
		fuzz_report, fuzz_parameter_status, fuzz_backend_key, fuzz_ready,
		fuzz_auth,   fuzz_negotiate,        fuzz_string,
	};
	struct slice input = slice_make(data, size);
	uint8_t which = fuzz_take_u8(&input);

	parsers[which % ARRAY_LEN(parsers)](input);
	return 0;
}
