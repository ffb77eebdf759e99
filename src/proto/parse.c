#include "proto/parse.h"

#include "proto/wire.h"

/* 0 when the reader took the whole body without an error. */
static int parse_end(const struct reader *r)
{
	return rd_done(r) ? 0 : -E_PROTO;
}

/*
 * A report is a list of (type byte, string) that a zero byte ends. Types that
 * we do not know are skipped, as the protocol demands.
 */
int parse_report(struct slice body, struct parse_report *out)
{
	const struct slice none = { "", 0 };
	struct slice shown = none;
	struct reader r;
	uint8_t field;

	*out = (struct parse_report){ none, none, none, none, none, none };
	rd_init_slice(&r, body);
	while ((field = rd_u8(&r)) != 0) {
		struct slice rest = slice_make(r.p, r.n);
		struct slice s = rd_cstr(&r);

		switch (field) {
		case 'S':
			shown = s;
			break;
		case 'V':
			out->severity = s;
			break;
		case 'C':
			out->sqlstate = s;
			break;
		case 'M':
			out->message = r.err == 0 ? s : rest;
			break;
		case 'D':
			out->detail = s;
			break;
		case 'H':
			out->hint = s;
			break;
		case 'R':
			out->routine = s;
			break;
		default:
			break;
		}
	}
	if (out->severity.n == 0)
		out->severity = shown;
	return parse_end(&r);
}

int parse_data_row(struct slice body, struct slice *values, unsigned n)
{
	struct reader r;

	rd_init_slice(&r, body);
	if (rd_u16(&r) != n)
		rd_fail(&r);
	for (unsigned i = 0; i < n; i++) {
		int32_t len = rd_i32(&r);

		values[i] = len <= 0 ? slice_of("") : rd_bytes(&r, (size_t)len);
	}
	return parse_end(&r);
}

bool parse_report_is_fatal(const struct parse_report *r)
{
	return slice_eq_str(r->severity, "FATAL") || slice_eq_str(r->severity, "PANIC");
}

bool parse_is_changed_plan(const struct parse_report *r)
{
	return slice_eq_str(r->sqlstate, "0A000") && slice_eq_str(r->routine, "RevalidateCachedQuery");
}

int parse_parameter_status(struct slice body, struct slice *name, struct slice *value)
{
	struct reader r;

	rd_init_slice(&r, body);
	*name = rd_cstr(&r);
	*value = rd_cstr(&r);
	return parse_end(&r);
}

int parse_backend_key(struct slice body, uint32_t *pid, struct slice *key)
{
	struct reader r;

	rd_init_slice(&r, body);
	*pid = rd_u32(&r);
	*key = rd_rest(&r);
	if (key->n < BACKEND_KEY_MIN || key->n > BACKEND_KEY_MAX)
		rd_fail(&r);
	return parse_end(&r);
}

int parse_ready(struct slice body, enum tx_status *status)
{
	struct reader r;
	uint8_t c;

	rd_init_slice(&r, body);
	c = rd_u8(&r);
	if (c != TX_IDLE && c != TX_BLOCK && c != TX_FAILED)
		rd_fail(&r);
	*status = (enum tx_status)c;
	return parse_end(&r);
}

/* True for non-empty names, each with its NUL, with an empty one at the very end. */
static bool parse_is_mechanism_list(struct slice list)
{
	struct reader r;

	rd_init_slice(&r, list);
	while (rd_cstr(&r).n > 0)
		continue;
	return rd_done(&r);
}

int parse_auth(struct slice body, struct parse_auth *a)
{
	struct reader r;
	bool ok = true;

	rd_init_slice(&r, body);
	a->code = rd_u32(&r);
	a->data = rd_rest(&r);
	switch (a->code) {
	case AUTH_OK:
	case AUTH_CLEARTEXT:
		ok = a->data.n == 0;
		break;
	case AUTH_MD5:
		ok = a->data.n == 4;
		break;
	case AUTH_SASL:
		ok = parse_is_mechanism_list(a->data);
		break;
	default:
		break;
	}
	return ok ? parse_end(&r) : -E_PROTO;
}

/* Takes a string off the front of a list; false when there is none. */
static bool parse_list_next(struct slice *list, struct slice *s)
{
	struct reader r;

	rd_init_slice(&r, *list);
	*s = rd_cstr(&r);
	*list = slice_make(r.p, r.n);
	return r.err == 0;
}

bool parse_auth_mechanism_next(struct slice *list, struct slice *mechanism)
{
	return parse_list_next(list, mechanism) && mechanism->n > 0;
}

int parse_negotiate(struct slice body, struct parse_negotiate *n)
{
	struct reader r;
	struct slice all;

	rd_init_slice(&r, body);
	n->version = rd_u32(&r);
	n->n = rd_u32(&r);
	all = slice_make(r.p, r.n);
	for (uint32_t i = 0; i < n->n && r.err == 0; i++)
		(void)rd_cstr(&r);
	n->names = all;
	return parse_end(&r);
}

bool parse_negotiate_next(struct slice *names, struct slice *name)
{
	return parse_list_next(names, name);
}

/* A body that is one string. */
static int parse_string(struct slice body, struct slice *s)
{
	struct reader r;

	rd_init_slice(&r, body);
	*s = rd_cstr(&r);
	return parse_end(&r);
}

int parse_command_complete(struct slice body, struct slice *tag)
{
	return parse_string(body, tag);
}

bool parse_bind_names_columns(struct slice body)
{
	struct reader r;
	unsigned formats;

	rd_init_slice(&r, body);
	(void)rd_cstr(&r); /* portal */
	(void)rd_cstr(&r); /* statement */
	(void)rd_bytes(&r, 2 * (size_t)rd_u16(&r));
	for (unsigned n = rd_u16(&r); n > 0 && rd_left(&r) > 0; n--) {
		int32_t len = rd_i32(&r);

		(void)rd_bytes(&r, len > 0 ? (size_t)len : 0);
	}
	formats = rd_u16(&r);
	(void)rd_bytes(&r, 2 * (size_t)formats);
	return formats > 1 || !rd_done(&r);
}

struct slice parse_behind_string(struct slice body)
{
	size_t first = strnlen(body.p, body.n);

	return first < body.n ? slice_make(body.p + first + 1, body.n - first - 1) : slice_make(body.p + body.n, 0);
}

int parse_query(struct slice body, struct slice *sql)
{
	return parse_string(body, sql);
}
