#include "statements.h"

#include <stdio.h>
#include <string.h>

#include "actor.h"
#include "piece.h"

#define OID_INT8          20
#define OID_INT4          23
#define OID_TEXT          25
#define STATEMENT_PARAMS  4 /* at most */
#define STATEMENT_TYPINGS 4

/* The types that Parse gives for STATEMENT_TYPED, and those that the parameters have then. */
static const struct {
	int n;
	uint32_t given[2];
	uint32_t seq; /* of the second parameter; the first is always text */
} statement_typings[STATEMENT_TYPINGS] = {
	{ 0, { 0, 0 }, OID_TEXT },
	{ 2, { OID_TEXT, OID_INT4 }, OID_INT4 },
	{ 2, { 0, OID_INT8 }, OID_INT8 },
	{ 1, { OID_TEXT, 0 }, OID_TEXT },
};

/* Names as drivers make them, one that needs quotes, and one that is longer than an identifier of SQL. */
static const char *const statement_names[N_NAMED] = {
	"n0",
	"S_1",
	"__asyncpg_stmt_2__",
	"PGBOUNCER_3",
	"four \"quoted\" 'words' $1; --",
	"a_name_that_is_longer_than_the_sixty_three_bytes_of_an_identifier_in_the_language_of_the_server_itself",
};

static const char *const statement_sql_names[N_SQL_NAMES] = { "q0", "q1", "n0q" };

const char *statement_name(int k)
{
	return statement_names[k];
}

const char *statement_sql_name(int k)
{
	return statement_sql_names[k];
}

struct statement statement_draw_good(struct actor *a)
{
	static const enum statement_kind kinds[] = { STATEMENT_SHARED, STATEMENT_SHARED, STATEMENT_REMARK,
						     STATEMENT_TAGGED, STATEMENT_TYPED,  STATEMENT_TYPED };
	struct statement st = { .kind = kinds[rng_below(&a->rng, sizeof(kinds) / sizeof(kinds[0]))] };

	st.digit = (int)rng_below(&a->rng, 10);
	st.types = (int)rng_below(&a->rng, STATEMENT_TYPINGS);
	return st;
}

/* A length around the sizes of buffers. */
static size_t statement_draw_fill(struct rng *rng)
{
	static const size_t near[] = { 128, 1024, 4096, 8192, 16384, 65536, 262144 };
	size_t i = rng_below(rng, sizeof(near) / sizeof(near[0]));

	return near[rng_one_in(rng, 4) ? i : i / 2] + rng_below(rng, 81) - 40;
}

struct statement statement_draw(struct actor *a)
{
	struct statement st = statement_draw_good(a);

	switch (rng_below(&a->rng, 16)) {
	case 0:
		st.kind = STATEMENT_FAILS;
		break;
	case 1:
		st.kind = STATEMENT_FOLDS;
		break;
	case 2:
	case 3:
	case 4:
		st.kind = STATEMENT_WRITE;
		break;
	case 5:
		st.kind = STATEMENT_ECHO;
		break;
	case 6:
		if (!rng_one_in(&a->rng, 4))
			break;
		st.kind = STATEMENT_LARGE;
		st.fill = (int)statement_draw_fill(&a->rng);
		break;
	default:
		break;
	}
	return st;
}

void statement_text(const struct statement *st, const struct actor *a, struct bytes *sql)
{
	switch (st->kind) {
	case STATEMENT_NONE:
		break;
	case STATEMENT_SHARED:
		bytes_printf(sql, "SELECT $1::text AS who, $2::int4 AS seq, %d AS stmt", st->digit);
		break;
	case STATEMENT_REMARK:
		bytes_printf(sql, "SELECT $1::text AS who, $2::int4 AS seq, %d AS stmt /* %s */", st->digit, a->who);
		break;
	case STATEMENT_TAGGED:
		bytes_printf(sql, "SELECT '%s'::text AS who, $1::int4 AS seq, %d AS stmt", a->who, st->digit);
		break;
	case STATEMENT_TYPED:
		bytes_printf(sql, "SELECT $1 AS who, $2 AS seq, %d AS stmt", st->digit);
		break;
	case STATEMENT_ECHO:
		bytes_printf(sql, "SELECT $1::text AS who, $2::int4 AS seq, %d AS stmt, $3::text AS v", st->digit);
		break;
	case STATEMENT_LARGE:
		bytes_printf(sql, "SELECT $1::text AS who, $2::int4 AS seq /* ");
		memset(bytes_grow(sql, (size_t)st->fill), 'x', (size_t)st->fill);
		bytes_printf(sql, " */, %d AS stmt", st->digit);
		break;
	case STATEMENT_WRITE:
		bytes_printf(
			sql,
			"WITH l AS (INSERT INTO torture_log VALUES ($3::int4, $4::int8, 0)) UPDATE torture_counter "
			"SET n = n + 1 WHERE slot = $3::int4 RETURNING $1::text AS who, $2::int4 AS seq, %d AS stmt",
			st->digit);
		break;
	case STATEMENT_FAILS:
		bytes_printf(
			sql,
			"SELECT $1::text AS who, $2::int4 AS seq, ('no ' || $1 || (random() * 0))::int4 + %d AS stmt",
			st->digit);
		break;
	case STATEMENT_FOLDS:
		bytes_printf(sql, "SELECT $1::text AS who, $2::int4 AS seq, 1 / 0 + %d AS stmt", st->digit);
		break;
	case STATEMENT_BEGIN:
		bytes_text(sql, "BEGIN");
		break;
	case STATEMENT_COMMIT:
		bytes_text(sql, "COMMIT");
		break;
	}
}

bool statement_has_rows(const struct statement *st)
{
	return st->kind != STATEMENT_BEGIN && st->kind != STATEMENT_COMMIT;
}

void statement_send_parse(struct script *s, const struct actor *a, const char *name, const struct statement *st)
{
	struct bytes sql = { 0 };
	bool typed = st->kind == STATEMENT_TYPED;

	statement_text(st, a, &sql);
	script_send_typed_parse(s, name, sql.data, sql.len, statement_typings[st->types].given,
				typed ? statement_typings[st->types].n : 0);
	bytes_free(&sql);
}

/* The types of the parameters; returns their number. */
static int statement_params(const struct statement *st, uint32_t oids[STATEMENT_PARAMS])
{
	static const uint32_t all[STATEMENT_PARAMS] = { OID_TEXT, OID_INT4, OID_INT4, OID_INT8 };

	memcpy(oids, all, sizeof(all));
	if (!statement_has_rows(st))
		return 0;
	if (st->kind == STATEMENT_TAGGED)
		oids[0] = OID_INT4;
	else if (st->kind == STATEMENT_TYPED)
		oids[1] = statement_typings[st->types].seq;
	else if (st->kind == STATEMENT_ECHO)
		oids[2] = OID_TEXT;
	return st->kind == STATEMENT_TAGGED ? 1 : st->kind == STATEMENT_ECHO ? 3 : st->kind == STATEMENT_WRITE ? 4 : 2;
}

void statement_expect_params(struct script *s, const struct statement *st)
{
	uint32_t oids[STATEMENT_PARAMS];
	int n = statement_params(st, oids);
	struct bytes b = { 0 };

	bytes_u16(&b, (unsigned)n);
	for (int i = 0; i < n; i++)
		bytes_u32(&b, oids[i]);
	script_expect(s, 't', b.data, b.len);
	bytes_free(&b);
}

static int statement_columns(const struct statement *st)
{
	return !statement_has_rows(st) ? 0 : st->kind == STATEMENT_ECHO ? 4 : 3;
}

/* The type of the column seq. */
static uint32_t statement_seq_type(const struct statement *st)
{
	return st->kind == STATEMENT_TYPED ? statement_typings[st->types].seq : OID_INT4;
}

void statement_expect_columns(struct script *s, const struct statement *st, bool binary)
{
	static const char *const names[] = { "who", "seq", "stmt", "v" };
	const uint32_t oids[] = { OID_TEXT, statement_seq_type(st), OID_INT4, OID_TEXT };
	int n = statement_columns(st);
	struct bytes b = { 0 };

	if (!n) {
		script_expect(s, 'n', NULL, 0);
		return;
	}
	bytes_u16(&b, (unsigned)n);
	for (int i = 0; i < n; i++) {
		bytes_cstr(&b, names[i]);
		bytes_u32(&b, 0);
		bytes_u16(&b, 0);
		bytes_u32(&b, oids[i]);
		bytes_u16(&b, oids[i] == OID_TEXT ? 0xffff : oids[i] == OID_INT8 ? 8 : 4);
		bytes_u32(&b, UINT32_MAX);
		bytes_u16(&b, binary);
	}
	script_expect(s, 'T', b.data, b.len);
	bytes_free(&b);
}

static void statement_value(struct bytes *b, const char *text)
{
	bytes_u32(b, (uint32_t)strlen(text));
	bytes_text(b, text);
}

static void statement_number(struct bytes *b, uint32_t oid, int32_t v, bool binary)
{
	char text[16];

	if (binary && oid != OID_TEXT) {
		bytes_u32(b, oid == OID_INT8 ? 8 : 4);
		if (oid == OID_INT8)
			bytes_u32(b, 0);
		bytes_u32(b, (uint32_t)v);
		return;
	}
	snprintf(text, sizeof(text), "%d", v);
	statement_value(b, text);
}

/* The long parameter: it looks like messages of the protocol. */
static void statement_filler(struct bytes *b, const struct statement_run *run)
{
	bytes_u32(b, (uint32_t)run->fill);
	piece_filler(b, (unsigned)run->seq, run->fill, false);
}

struct statement_run statement_send_bind(struct script *s, struct actor *a, const char *portal, const char *name,
					 const struct statement *st)
{
	struct statement_run run = { .seq = ++a->seq, .binary = rng_one_in(&a->rng, 3) };
	struct bytes params = { 0 };
	uint32_t oids[STATEMENT_PARAMS];
	int n = statement_params(st, oids);

	if (n && st->kind != STATEMENT_TAGGED)
		statement_value(&params, a->who);
	if (n)
		statement_number(&params, OID_INT4, run.seq, false);
	if (st->kind == STATEMENT_ECHO) {
		run.fill = statement_draw_fill(&a->rng);
		statement_filler(&params, &run);
	} else if (st->kind == STATEMENT_WRITE) {
		run.op = ledger_add(a->ledger, 1, true);
		statement_number(&params, OID_INT4, (int32_t)a->slot, false);
		statement_number(&params, OID_INT4, (int32_t)run.op, false);
	}
	script_send_bind(s, portal, name, &params, n, false, run.binary);
	bytes_free(&params);
	return run;
}

void statement_send_execute(struct script *s, const char *portal, const struct statement *st,
			    const struct statement_run *run)
{
	script_send_execute(s, portal, 0);
	if (st->kind == STATEMENT_WRITE)
		script_write(s, run->op);
}

void statement_expect_run(struct script *s, const struct actor *a, const struct statement *st,
			  const struct statement_run *run, bool *failed)
{
	struct bytes row = { 0 };
	char text[64];

	if (st->kind == STATEMENT_FAILS) {
		snprintf(text, sizeof(text), "\"no %s", a->who);
		script_expect_error(s, "22P02", text);
		*failed = true;
		return;
	}
	if (!statement_has_rows(st)) {
		script_expect_tag(s, st->kind == STATEMENT_BEGIN ? "BEGIN" : s->tx == 'E' ? "ROLLBACK" : "COMMIT");
		return;
	}
	bytes_u16(&row, (unsigned)statement_columns(st));
	statement_value(&row, a->who);
	statement_number(&row, statement_seq_type(st), run->seq, run->binary);
	statement_number(&row, OID_INT4, st->digit, run->binary);
	if (st->kind == STATEMENT_ECHO)
		statement_filler(&row, run);
	script_expect(s, 'D', row.data, row.len);
	script_expect_tag(s, st->kind == STATEMENT_WRITE ? "UPDATE 1" : "SELECT 1");
	bytes_free(&row);
}

void statements_forget(struct actor *a)
{
	memset(&a->statements, 0, sizeof(a->statements));
	memset(a->shaped, 0, sizeof(a->shaped));
}

bool statements_any_sql(const struct statements *all)
{
	for (int k = 0; k < N_SQL_NAMES; k++)
		if (all->sql[k].kind != STATEMENT_NONE)
			return true;
	return false;
}
