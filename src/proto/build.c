#include "proto/build.h"

#include "core/err.h"
#include "proto/wire.h"

/* A message without a body. */
static int build_plain(struct buf *b, uint8_t type)
{
	struct writer w;

	wr_begin(&w, b, type);
	return wr_end(&w);
}

/* A message whose body is raw bytes. */
static int build_raw(struct buf *b, uint8_t type, struct slice body)
{
	struct writer w;

	wr_begin(&w, b, type);
	wr_slice(&w, body);
	return wr_end(&w);
}

/* A message whose body is one string. */
static int build_string(struct buf *b, uint8_t type, struct slice s)
{
	struct writer w;

	wr_begin(&w, b, type);
	wr_str(&w, s);
	return wr_end(&w);
}

/* Writes a number of list elements, which the protocol keeps in 16 bits. */
static void build_count(struct writer *w, size_t n, size_t max)
{
	if (n > max)
		wr_fail(w, -E_RANGE);
	wr_u16(w, (uint16_t)n);
}

/* Writes a value of DataRow or Bind: length, or -1 for NULL, and bytes. */
static void build_value(struct writer *w, struct slice v)
{
	if (v.n > INT32_MAX)
		wr_fail(w, -E_TOOBIG);
	wr_u32(w, v.p == NULL ? UINT32_MAX : (uint32_t)v.n);
	if (v.p != NULL)
		wr_slice(w, v);
}

static void build_report_field(struct writer *w, char field, struct slice s)
{
	wr_u8(w, (uint8_t)field);
	wr_str(w, s);
}

static int build_report(struct buf *b, uint8_t type, const struct build_report *r)
{
	struct writer w;

	wr_begin(&w, b, type);
	build_report_field(&w, 'S', r->severity);
	if (r->with_plain_severity)
		build_report_field(&w, 'V', r->severity);
	build_report_field(&w, 'C', r->sqlstate);
	build_report_field(&w, 'M', r->message);
	if (r->detail.n > 0)
		build_report_field(&w, 'D', r->detail);
	if (r->hint.n > 0)
		build_report_field(&w, 'H', r->hint);
	if (r->routine.n > 0)
		build_report_field(&w, 'R', r->routine);
	wr_u8(&w, 0);
	return wr_end(&w);
}

int build_error(struct buf *b, const struct build_report *r)
{
	return build_report(b, BE_ERROR, r);
}

int build_notice(struct buf *b, const struct build_report *r)
{
	return build_report(b, BE_NOTICE, r);
}

static int build_auth(struct buf *b, enum auth_code code, struct slice data)
{
	struct writer w;

	wr_begin(&w, b, BE_AUTH);
	wr_u32(&w, code);
	wr_slice(&w, data);
	return wr_end(&w);
}

int build_auth_ok(struct buf *b)
{
	return build_auth(b, AUTH_OK, slice_of(""));
}

int build_auth_cleartext(struct buf *b)
{
	return build_auth(b, AUTH_CLEARTEXT, slice_of(""));
}

int build_auth_md5(struct buf *b, const uint8_t salt[4])
{
	return build_auth(b, AUTH_MD5, slice_make(salt, 4));
}

int build_auth_sasl(struct buf *b, struct slice mechanisms)
{
	return build_auth(b, AUTH_SASL, mechanisms);
}

int build_auth_sasl_continue(struct buf *b, struct slice data)
{
	return build_auth(b, AUTH_SASL_CONTINUE, data);
}

int build_auth_sasl_final(struct buf *b, struct slice data)
{
	return build_auth(b, AUTH_SASL_FINAL, data);
}

int build_renamed_error(struct buf *b, struct slice body, struct slice name, struct slice instead)
{
	size_t before = (size_t)(name.p - body.p);
	struct writer w;

	ASSERT(name.p >= body.p && before + name.n <= body.n);
	wr_begin(&w, b, BE_ERROR);
	wr_bytes(&w, body.p, before);
	wr_slice(&w, instead);
	wr_bytes(&w, name.p + name.n, body.n - before - name.n);
	return wr_end(&w);
}

int build_parameter_status(struct buf *b, struct slice name, struct slice value)
{
	struct writer w;

	wr_begin(&w, b, BE_PARAMETER_STATUS);
	wr_str(&w, name);
	wr_str(&w, value);
	return wr_end(&w);
}

int build_backend_key(struct buf *b, uint32_t pid, struct slice key)
{
	struct writer w;

	wr_begin(&w, b, BE_BACKEND_KEY);
	wr_u32(&w, pid);
	wr_slice(&w, key);
	return wr_end(&w);
}

int build_ready(struct buf *b, enum tx_status status)
{
	struct writer w;

	wr_begin(&w, b, BE_READY);
	wr_u8(&w, (uint8_t)status);
	return wr_end(&w);
}

int build_negotiate(struct buf *b, uint32_t version, const struct slice *names, size_t n)
{
	struct writer w;

	wr_begin(&w, b, BE_NEGOTIATE);
	wr_u32(&w, version);
	wr_u32(&w, (uint32_t)n);
	for (size_t i = 0; i < n; i++)
		wr_str(&w, names[i]);
	return wr_end(&w);
}

int build_command_complete(struct buf *b, const char *tag)
{
	return build_string(b, BE_COMMAND_COMPLETE, slice_of(tag));
}

int build_empty_query(struct buf *b)
{
	return build_plain(b, BE_EMPTY_QUERY);
}

int build_parse_complete(struct buf *b)
{
	return build_plain(b, BE_PARSE_COMPLETE);
}

int build_bind_complete(struct buf *b)
{
	return build_plain(b, BE_BIND_COMPLETE);
}

int build_close_complete(struct buf *b)
{
	return build_plain(b, BE_CLOSE_COMPLETE);
}

int build_no_data(struct buf *b)
{
	return build_plain(b, BE_NO_DATA);
}

int build_parameter_description(struct buf *b, const uint32_t *oids, size_t n)
{
	struct writer w;

	wr_begin(&w, b, BE_PARAMETER_DESCRIPTION);
	build_count(&w, n, UINT16_MAX);
	for (size_t i = 0; i < n; i++)
		wr_u32(&w, oids[i]);
	return wr_end(&w);
}

/* The size that the server would report for a type; -1 is a variable one. */
static int16_t build_type_len(uint32_t oid)
{
	switch (oid) {
	case OID_INT4:
		return 4;
	case OID_INT8:
		return 8;
	default:
		return -1;
	}
}

int build_row_description(struct buf *b, const struct build_column *cols, size_t n)
{
	struct writer w;

	wr_begin(&w, b, BE_ROW_DESCRIPTION);
	build_count(&w, n, INT16_MAX);
	for (size_t i = 0; i < n; i++) {
		wr_cstr(&w, cols[i].name);
		wr_u32(&w, 0); /* table */
		wr_u16(&w, 0); /* number of the column in it */
		wr_u32(&w, cols[i].oid);
		wr_u16(&w, (uint16_t)build_type_len(cols[i].oid));
		wr_u32(&w, UINT32_MAX); /* typmod -1 */
		wr_u16(&w, cols[i].is_binary);
	}
	return wr_end(&w);
}

int build_data_row(struct buf *b, const struct slice *values, size_t n)
{
	struct writer w;

	wr_begin(&w, b, BE_DATA_ROW);
	build_count(&w, n, INT16_MAX);
	for (size_t i = 0; i < n; i++)
		build_value(&w, values[i]);
	return wr_end(&w);
}

int build_ssl_request(struct buf *b)
{
	struct writer w;

	wr_begin(&w, b, 0);
	wr_u32(&w, PROTO_SSL_REQUEST);
	return wr_end(&w);
}

int build_cancel_request(struct buf *b, uint32_t pid, struct slice key)
{
	struct writer w;

	wr_begin(&w, b, 0);
	wr_u32(&w, PROTO_CANCEL_REQUEST);
	wr_u32(&w, pid);
	wr_slice(&w, key);
	return wr_end(&w);
}

int build_startup(struct buf *b, uint32_t version, const struct build_pair *params, size_t n)
{
	struct writer w;

	wr_begin(&w, b, 0);
	wr_u32(&w, version);
	for (size_t i = 0; i < n; i++) {
		if (params[i].name.n == 0)
			wr_fail(&w, -E_RANGE);
		wr_str(&w, params[i].name);
		wr_str(&w, params[i].value);
	}
	wr_u8(&w, 0);
	return wr_end(&w);
}

int build_password(struct buf *b, struct slice password)
{
	return build_string(b, FE_PASSWORD, password);
}

int build_sasl_initial(struct buf *b, const char *mechanism, struct slice data)
{
	struct writer w;

	wr_begin(&w, b, FE_PASSWORD);
	wr_cstr(&w, mechanism);
	build_value(&w, data);
	return wr_end(&w);
}

int build_sasl_response(struct buf *b, struct slice data)
{
	return build_raw(b, FE_PASSWORD, data);
}

int build_query(struct buf *b, struct slice sql)
{
	return build_string(b, FE_QUERY, sql);
}

int build_sync(struct buf *b)
{
	return build_plain(b, FE_SYNC);
}

int build_copy_fail(struct buf *b, struct slice why)
{
	return build_string(b, FE_COPY_FAIL, why);
}

int build_terminate(struct buf *b)
{
	return build_plain(b, FE_TERMINATE);
}

int build_parse(struct buf *b, struct slice statement, struct slice sql, const uint32_t *oids, size_t n)
{
	struct writer w;

	wr_begin(&w, b, FE_PARSE);
	wr_str(&w, statement);
	wr_str(&w, sql);
	build_count(&w, n, UINT16_MAX);
	for (size_t i = 0; i < n; i++)
		wr_u32(&w, oids[i]);
	return wr_end(&w);
}

int build_bind(struct buf *b, struct slice portal, struct slice statement, const struct slice *values, size_t n)
{
	struct writer w;

	wr_begin(&w, b, FE_BIND);
	wr_str(&w, portal);
	wr_str(&w, statement);
	wr_u16(&w, 0); /* formats of the parameters: all text */
	build_count(&w, n, UINT16_MAX);
	for (size_t i = 0; i < n; i++)
		build_value(&w, values[i]);
	wr_u16(&w, 0); /* formats of the results: all text */
	return wr_end(&w);
}

static int build_named(struct buf *b, uint8_t type, enum build_target target, struct slice name)
{
	struct writer w;

	wr_begin(&w, b, type);
	wr_u8(&w, (uint8_t)target);
	wr_str(&w, name);
	return wr_end(&w);
}

int build_describe(struct buf *b, enum build_target target, struct slice name)
{
	return build_named(b, FE_DESCRIBE, target, name);
}

int build_close(struct buf *b, enum build_target target, struct slice name)
{
	return build_named(b, FE_CLOSE, target, name);
}

int build_execute(struct buf *b, struct slice portal, uint32_t max_rows)
{
	struct writer w;

	wr_begin(&w, b, FE_EXECUTE);
	wr_str(&w, portal);
	wr_u32(&w, max_rows);
	return wr_end(&w);
}
