#include "piece.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OID_BYTEA 17
#define OID_INT4  23
#define OID_TEXT  25
#define OID_VOID  2278

const char *const param_names[N_PARAMS] = { "application_name", "TimeZone",      "DateStyle",
					    "client_encoding",  "IntervalStyle", "search_path" };

/* What the bytes of large values are made of: heads of messages that a scanner could fall for. */
static const struct {
	const char *data;
	size_t len;
} piece_patterns[] = {
	{ "Z\0\0\0\5I", 6 },
	{ "T\0\0\0\6\0\0", 7 },
	{ "D\0\0\0\x0a\0\1\xff\xff\xff\xff", 11 },
	{ "C\0\0\0\rSELECT 1\0", 14 },
	{ "E\0\0\0\x05\0Z\0\0\0\5T", 12 },
	{ "S\0\0\0\4X\0\0\0\4Q\0\0\0\5\0", 16 },
};

#define N_PATTERNS (sizeof(piece_patterns) / sizeof(piece_patterns[0]))

void piece_filler(struct bytes *b, unsigned variant, size_t n, bool binary)
{
	const uint8_t *pat = (const uint8_t *)piece_patterns[variant % N_PATTERNS].data;
	size_t len = piece_patterns[variant % N_PATTERNS].len;
	uint8_t *to = bytes_grow(b, n);

	for (size_t i = 0; i < n && i < len; i++)
		to[i] = binary ? pat[i] : pat[i] == 0 ? 1 : pat[i] & 0x7f;
	for (size_t have = len; have < n;) {
		size_t more = n - have < have ? n - have : have;

		memcpy(to + have, to, more);
		have += more;
	}
}

/* The pattern as hexadecimal digits. */
static void piece_pattern_hex(struct bytes *b, unsigned variant, bool binary)
{
	struct bytes raw = { 0 };

	piece_filler(&raw, variant, piece_patterns[variant % N_PATTERNS].len, binary);
	for (size_t i = 0; i < raw.len; i++)
		bytes_printf(b, "%02x", raw.data[i]);
	bytes_free(&raw);
}

static void piece_reset(struct piece *p, enum piece_kind kind)
{
	bytes_clear(&p->sql, SCRIPT_KEEP_BYTES);
	bytes_clear(&p->params, SCRIPT_KEEP_BYTES);
	bytes_clear(&p->rows, SCRIPT_KEEP_BYTES);
	p->kind = kind;
	p->binary = p->fails_early = false;
	p->n_params = p->n_cols = 0;
	p->n_rows = 0;
	p->tag[0] = p->sqlstate[0] = p->text[0] = 0;
}

void piece_free(struct piece *p)
{
	bytes_free(&p->sql);
	bytes_free(&p->params);
	bytes_free(&p->rows);
	free(p->row_ends);
	*p = (struct piece){ 0 };
}

static void piece_col(struct piece *p, const char *name, uint32_t oid)
{
	p->cols[p->n_cols++] = (struct col){ name, oid };
}

static void piece_param(struct piece *p, uint32_t oid, const void *data, size_t len)
{
	p->param_oids[p->n_params++] = oid;
	bytes_u32(&p->params, (uint32_t)len);
	bytes_add(&p->params, data, len);
}

static void piece_value(struct piece *p, const void *data, size_t len)
{
	bytes_u32(&p->rows, (uint32_t)len);
	bytes_add(&p->rows, data, len);
}

static void piece_number(struct piece *p, int32_t v)
{
	char text[16];

	if (p->binary) {
		bytes_u32(&p->rows, 4);
		bytes_u32(&p->rows, (uint32_t)v);
	} else {
		piece_value(p, text, (size_t)snprintf(text, sizeof(text), "%d", v));
	}
}

/* Starts a row with the two columns that every row has. */
static void piece_row(struct piece *p, const struct actor *a)
{
	bytes_u16(&p->rows, (unsigned)p->n_cols);
	piece_value(p, a->who, strlen(a->who));
	piece_number(p, a->seq);
}

static void piece_row_end(struct piece *p)
{
	p->row_ends = xgrow(p->row_ends, &p->cap_rows, p->n_rows, sizeof(*p->row_ends));
	p->row_ends[p->n_rows++] = p->rows.len;
}

/* Starts the statement: verb, the columns who and seq; by parameters when allowed and chance says so. */
static void piece_head(struct piece *p, struct actor *a, const char *verb, unsigned flags)
{
	char text[16];

	a->seq++;
	piece_col(p, "who", OID_TEXT);
	piece_col(p, "seq", OID_INT4);
	if ((flags & PIECE_EXT) && rng_one_in(&a->rng, 2)) {
		bytes_printf(&p->sql, "%s $1::text AS who, $2::int4 AS seq", verb);
		piece_param(p, OID_TEXT, a->who, strlen(a->who));
		piece_param(p, OID_INT4, text, (size_t)snprintf(text, sizeof(text), "%d", a->seq));
	} else {
		bytes_printf(&p->sql, "%s '%s'::text AS who, %d AS seq", verb, a->who, a->seq);
	}
}

static void piece_make_env(struct piece *p, struct actor *a)
{
	struct bytes v = { 0 };

	piece_col(p, "env", OID_TEXT);
	bytes_text(&p->sql, ", ");
	for (int i = 0; i < N_PARAMS; i++) {
		bytes_printf(&p->sql, "%scurrent_setting('%s')", i ? " || '|' || " : "", param_names[i]);
		bytes_printf(&v, "%s%s", i ? "|" : "", a->param[i]);
	}
	bytes_text(&p->sql, " AS env");
	piece_row(p, a);
	piece_value(p, v.data, v.len);
	piece_row_end(p);
	bytes_free(&v);
}

static void piece_make_series(struct piece *p, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, rng_one_in(&a->rng, 20) ? 400 : 12);
	size_t pad = rng_one_in(&a->rng, 4) ? rng_below(&a->rng, 700) : 0;
	uint8_t fill[700];

	memset(fill, 'Z', sizeof(fill));
	piece_col(p, "g", OID_INT4);
	bytes_text(&p->sql, ", g");
	if (pad) {
		piece_col(p, "pad", OID_TEXT);
		bytes_printf(&p->sql, ", repeat('Z', %zu) AS pad", pad);
	}
	bytes_printf(&p->sql, " FROM generate_series(1, %d) g", n);
	for (int i = 1; i <= n; i++) {
		piece_row(p, a);
		piece_number(p, i);
		if (pad)
			piece_value(p, fill, pad);
		piece_row_end(p);
	}
	snprintf(p->tag, sizeof(p->tag), "SELECT %d", n);
}

static void piece_make_error(struct piece *p, struct actor *a)
{
	int bad = (int)rng_range(&a->rng, 1, 5);

	piece_col(p, "g", OID_INT4);
	bytes_printf(&p->sql,
		     ", (CASE g WHEN %d THEN 'bad %s %d' ELSE g::text END)::int4 AS g FROM generate_series(1, 5) g",
		     bad, a->who, a->seq);
	for (int i = 1; i < bad; i++) {
		piece_row(p, a);
		piece_number(p, i);
		piece_row_end(p);
	}
	snprintf(p->sqlstate, sizeof(p->sqlstate), "22P02");
	snprintf(p->text, sizeof(p->text), "\"bad %s %d\"", a->who, a->seq);
}

/* The bytes of a large value; their number makes the DataRow message as long as p->row_bytes says, if it can. */
static void piece_make_big(struct piece *p, struct actor *a, unsigned flags)
{
	unsigned variant = (unsigned)rng_below(&a->rng, N_PATTERNS);
	size_t plen = piece_patterns[variant].len;
	bool bytea = p->binary;
	size_t before = p->rows.len;
	struct bytes v = { 0 };
	size_t n;

	piece_col(p, "v", bytea ? OID_BYTEA : OID_TEXT);
	piece_row(p, a);
	n = p->row_bytes > p->rows.len - before + 9 ? p->row_bytes - (p->rows.len - before) - 9 : 1;
	piece_filler(&v, variant, n, bytea);
	piece_value(p, v.data, v.len);
	piece_row_end(p);
	if (p->kind == PIECE_BIG && bytea) {
		bytes_text(&p->sql, ", substr(decode(repeat('");
		piece_pattern_hex(&p->sql, variant, true);
		bytes_printf(&p->sql, "', %zu), 'hex'), 1, %zu) AS v", n / plen + 1, n);
	} else if (p->kind == PIECE_BIG) {
		bytes_text(&p->sql, ", left(repeat(convert_from('\\x");
		piece_pattern_hex(&p->sql, variant, false);
		bytes_printf(&p->sql, "', 'SQL_ASCII'), %zu), %zu) AS v", n / plen + 1, n);
	} else if (flags & PIECE_EXT) {
		bytes_printf(&p->sql, ", $%d::%s AS v", p->n_params + 1, bytea ? "bytea" : "text");
		piece_param(p, bytea ? OID_BYTEA : OID_TEXT, v.data, v.len);
	} else {
		bytes_text(&p->sql, ", '");
		bytes_add(&p->sql, v.data, v.len);
		bytes_text(&p->sql, "'::text AS v");
	}
	bytes_free(&v);
}

static void piece_make_sleep(struct piece *p, struct actor *a)
{
	piece_col(p, "pg_sleep", OID_VOID);
	bytes_printf(&p->sql, ", pg_sleep(%u.%03u)", p->sleep_ms / 1000, p->sleep_ms % 1000);
	piece_row(p, a);
	piece_value(p, "", 0);
	piece_row_end(p);
}

static void piece_make_write(struct piece *p, struct actor *a, unsigned flags)
{
	struct bytes head = { 0 };

	p->op = ledger_add(a->ledger, 1, true);
	bytes_printf(&head,
		     "WITH l AS (INSERT INTO torture_log VALUES (%u, %u, 0)) UPDATE torture_counter SET n = n + 1 "
		     "WHERE slot = %u RETURNING%c",
		     a->slot, p->op, a->slot, 0);
	piece_head(p, a, (char *)head.data, flags);
	bytes_free(&head);
	piece_row(p, a);
	piece_row_end(p);
	snprintf(p->tag, sizeof(p->tag), "UPDATE 1");
}

/* Statements that have no columns: they cannot take parameters. */
static void piece_make_bare(struct piece *p, struct actor *a)
{
	a->seq++;
	snprintf(p->text, sizeof(p->text), "%s_%d", a->who, a->seq);
	if (p->kind == PIECE_NOTICE) {
		const char *level = rng_one_in(&a->rng, 3) ? "WARNING" : "NOTICE";

		bytes_printf(&p->sql, "DO 'BEGIN RAISE %s ''%s''; END'", level, p->text);
		snprintf(p->tag, sizeof(p->tag), "DO");
		return;
	}
	p->fails_early = true;
	if (p->kind == PIECE_SYNTAX) {
		bytes_printf(&p->sql, "SELECT 1 AS a FROM ORDER no_%s", p->text);
		snprintf(p->sqlstate, sizeof(p->sqlstate), "42601");
		snprintf(p->text, sizeof(p->text), "syntax error at or near \"ORDER\"");
	} else {
		bytes_printf(&p->sql, "SELECT * FROM no_%s", p->text);
		snprintf(p->sqlstate, sizeof(p->sqlstate), "42P01");
	}
}

void piece_make(struct piece *p, struct actor *a, enum piece_kind kind, unsigned flags)
{
	piece_reset(p, kind);
	p->binary = (flags & PIECE_BINARY) != 0;
	if (kind == PIECE_MISSING || kind == PIECE_SYNTAX || kind == PIECE_NOTICE) {
		piece_make_bare(p, a);
		return;
	}
	if (kind == PIECE_WRITE) {
		piece_make_write(p, a, flags);
		return;
	}
	piece_head(p, a, "SELECT", kind == PIECE_ECHO ? 0 : flags);
	snprintf(p->tag, sizeof(p->tag), "SELECT 1");
	if (kind == PIECE_ENV) {
		piece_make_env(p, a);
	} else if (kind == PIECE_SERIES) {
		piece_make_series(p, a);
	} else if (kind == PIECE_NONE) {
		bytes_text(&p->sql, " WHERE false");
		snprintf(p->tag, sizeof(p->tag), "SELECT 0");
	} else if (kind == PIECE_ERROR) {
		piece_make_error(p, a);
	} else if (kind == PIECE_BIG || kind == PIECE_ECHO) {
		piece_make_big(p, a, flags);
	} else if (kind == PIECE_SLEEP) {
		piece_make_sleep(p, a);
	} else {
		piece_row(p, a);
		piece_row_end(p);
	}
}

void piece_verb(struct piece *p, const char *sql, const char *tag)
{
	piece_reset(p, PIECE_VERB);
	bytes_text(&p->sql, sql);
	snprintf(p->tag, sizeof(p->tag), "%s", tag);
}

void piece_literal(struct bytes *sql, const char *text)
{
	bytes_u8(sql, '\'');
	for (; *text; text++) {
		if (*text == '\'')
			bytes_u8(sql, '\'');
		bytes_u8(sql, (uint8_t)*text);
	}
	bytes_u8(sql, '\'');
}

void piece_config(struct piece *p, struct actor *a, int param, const char *value, bool local, unsigned flags)
{
	piece_reset(p, PIECE_CONFIG);
	p->binary = (flags & PIECE_BINARY) != 0;
	piece_head(p, a, "SELECT", flags);
	piece_col(p, "env", OID_TEXT);
	bytes_printf(&p->sql, ", set_config('%s', ", param_names[param]);
	piece_literal(&p->sql, value);
	bytes_printf(&p->sql, ", %s) AS env", local ? "true" : "false");
	piece_row(p, a);
	piece_value(p, value, strlen(value));
	piece_row_end(p);
	snprintf(p->tag, sizeof(p->tag), "SELECT 1");
}

void piece_fail(struct piece *p, const char *sqlstate, const char *text)
{
	p->fails_early = true;
	snprintf(p->sqlstate, sizeof(p->sqlstate), "%s", sqlstate);
	snprintf(p->text, sizeof(p->text), "%s", text);
}

enum piece_kind piece_pick_good(struct actor *a)
{
	static const enum piece_kind kinds[] = { PIECE_PLAIN, PIECE_PLAIN,  PIECE_ENV,  PIECE_ENV,
						 PIECE_ENV,   PIECE_SERIES, PIECE_NONE, PIECE_NOTICE };

	return kinds[rng_below(&a->rng, sizeof(kinds) / sizeof(kinds[0]))];
}

void piece_expect_description(struct script *s, const struct piece *p, bool binary)
{
	struct bytes b = { 0 };

	if (!p->n_cols)
		return;
	bytes_u16(&b, (unsigned)p->n_cols);
	for (int i = 0; i < p->n_cols; i++) {
		bool fixed = p->cols[i].oid == OID_INT4 || p->cols[i].oid == OID_VOID;

		bytes_cstr(&b, p->cols[i].name);
		bytes_u32(&b, 0);
		bytes_u16(&b, 0);
		bytes_u32(&b, p->cols[i].oid);
		bytes_u16(&b, fixed ? 4 : 0xffff);
		bytes_u32(&b, UINT32_MAX);
		bytes_u16(&b, binary);
	}
	script_expect(s, 'T', b.data, b.len);
	bytes_free(&b);
}

void piece_expect_rows(struct script *s, const struct piece *p, size_t first, size_t count)
{
	for (size_t i = first; i < first + count && i < p->n_rows; i++) {
		size_t from = i ? p->row_ends[i - 1] : 0;

		script_expect(s, 'D', p->rows.data + from, p->row_ends[i] - from);
	}
}

void piece_expect_end(struct script *s, const struct piece *p)
{
	if (p->kind == PIECE_NOTICE)
		script_expect_notice(s, p->text);
	if (p->sqlstate[0])
		script_expect_error(s, p->sqlstate, p->text);
	else
		script_expect_tag(s, p->tag);
}

void piece_expect_simple(struct script *s, const struct piece *p)
{
	if (!p->fails_early)
		piece_expect_description(s, p, false);
	piece_expect_rows(s, p, 0, p->n_rows);
	piece_expect_end(s, p);
}
