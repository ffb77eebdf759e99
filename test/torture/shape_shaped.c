/*
 * Reading from tables whose columns change (ddl.h), and changing them. What comes back is not known in advance: rows
 * that are as their description says, or an error of a kind that PostgreSQL itself gives. A batch that reads stands
 * alone with its Sync, and only afterwards it is known what became of the statement.
 */
#include <stdio.h>
#include <string.h>

#include "ddl.h"
#include "report.h"
#include "shape.h"

/* What a statement that was parsed in this batch, or before, can be refused with. */
#define SHAPED_FRESH_ERRORS  "42P01 42703"
#define SHAPED_OLD_ERRORS    "42P01 42703 0A000"

/* And one of which an error has come before: perhaps its Parse had failed. */
#define SHAPED_UNSURE_ERRORS SHAPED_OLD_ERRORS " 26000"

static void shaped_text(unsigned table, char sql[120])
{
	snprintf(sql, 120, "SELECT $1::text AS who, $2::int4 AS seq, t.* FROM %s t", ddl_table(table));
}

/* The two columns that are the client's own, as in a row; they are its parameters, too, when not binary. */
static void shaped_own(const struct actor *a, bool binary, struct bytes *b)
{
	char seq[16];

	bytes_u32(b, (uint32_t)strlen(a->who));
	bytes_text(b, a->who);
	if (binary) {
		bytes_u32(b, 4);
		bytes_u32(b, (uint32_t)a->seq);
		return;
	}
	snprintf(seq, sizeof(seq), "%d", a->seq);
	bytes_u32(b, (uint32_t)strlen(seq));
	bytes_text(b, seq);
}

/* Bind, at times Describe, and Execute of a statement that is there. */
static void shaped_run(struct script *s, struct actor *a, int k, const char *name)
{
	bool binary = rng_one_in(&a->rng, 3);
	struct bytes own = { 0 };

	a->seq++;
	shaped_own(a, false, &own);
	script_send_bind(s, "", name, &own, 2, false, binary);
	script_expect(s, '2', NULL, 0);
	bytes_clear(&own, SIZE_MAX);
	shaped_own(a, binary, &own);
	if (rng_one_in(&a->rng, 2)) {
		script_send_describe(s, 'P', "");
		script_expect_shape(s, k);
	}
	script_send_execute(s, "", 0);
	script_expect_shaped(s, k, binary, own.data, own.len);
	bytes_free(&own);
}

/* A batch with one of the client's statements on such tables. Returns the SQLSTATEs that it may end with. */
static const char *shaped_batch(struct script *s, struct actor *a, int k, const char *name, bool block)
{
	struct shaped *sh = &a->shaped[k];
	const char *errors = SHAPED_OLD_ERRORS;
	bool tell = !sh->told || rng_one_in(&a->rng, 8);
	char sql[120];

	if (sh->unsure)
		errors = SHAPED_UNSURE_ERRORS;
	if (!sh->prepared) {
		sh->table = (unsigned)rng_below(&a->rng, DDL_TABLES);
		sh->prepared = true;
		sh->unsure = sh->told = false;
		shaped_text(sh->table, sql);
		script_send_parse(s, name, sql, strlen(sql));
		script_expect(s, '1', NULL, 0);
		/* In a block a pooler cannot hide that the server has parsed the same text before the change. */
		errors = block ? SHAPED_OLD_ERRORS : SHAPED_FRESH_ERRORS;
		tell = true;
	}
	if (tell) {
		script_send_describe(s, 'S', name);
		script_expect(s, 't', "\0\2\0\0\0\031\0\0\0\027", 10);
		script_expect_shape(s, k);
	}
	shaped_run(s, a, k, name);
	return errors;
}

/* The same by a simple query. */
static void shaped_query(struct script *s, struct actor *a)
{
	struct bytes own = { 0 };
	char sql[160];

	a->seq++;
	shaped_own(a, false, &own);
	snprintf(sql, sizeof(sql), "SELECT '%s'::text AS who, %d AS seq, t.* FROM %s t", a->who, a->seq,
		 ddl_table((unsigned)rng_below(&a->rng, DDL_TABLES)));
	script_send_text(s, sql);
	script_expect_shape(s, SHAPED_UNNAMED);
	script_expect_shaped(s, SHAPED_UNNAMED, false, own.data, own.len);
	bytes_free(&own);
}

/* ReadyForQuery, of a transaction block that may have failed. */
static void shaped_ready(struct script *s)
{
	size_t from = s->n_expects;

	script_expect_ready(s);
	if (s->tx == 'I')
		return;
	s->tx = 'E';
	script_expect_ready(s);
	script_or(s, from, from + 1, false);
	s->tx = 'T';
}

static void shaped_begin(struct script *s, bool block)
{
	if (!block)
		return;
	shape_verb(s, "BEGIN", "BEGIN", 'T');
	script_wait(s);
}

static void shaped_end(struct script *s, bool block)
{
	size_t from;

	if (!block)
		return;
	script_wait(s);
	script_send_text(s, "COMMIT");
	from = s->n_expects;
	script_expect_tag(s, "COMMIT");
	script_expect_tag(s, "ROLLBACK");
	script_or(s, from, from + 1, false);
	s->tx = 'I';
	script_expect_ready(s);
}

/* A statement of this client on such a table; k = SHAPED_UNNAMED: the unnamed one, or a query. */
void shape_build_shaped(struct script *s, struct actor *a)
{
	static const char *const names[N_SHAPED] = { "d0", "d1", "d2", "" };
	int k = (int)rng_below(&a->rng, N_SHAPED);
	bool block = rng_one_in(&a->rng, 4);
	const char *errors = SHAPED_FRESH_ERRORS;
	struct shaped *sh = &a->shaped[k];
	size_t from, before;

	s->forget = true;
	if (k == SHAPED_UNNAMED) {
		sh->prepared = false;
	} else if (sh->prepared && (sh->unsure ? !a->strict || !rng_one_in(&a->rng, 4) : rng_one_in(&a->rng, 12))) {
		script_send_close(s, 'S', names[k]);
		script_expect(s, '3', NULL, 0);
		shape_sync(s, false);
		sh->prepared = false;
	}
	shaped_begin(s, block);
	from = s->n_expects;
	before = s->n_ends > 0 ? s->ends[s->n_ends - 1] : 0;
	if (k == SHAPED_UNNAMED && rng_one_in(&a->rng, 2)) {
		shaped_query(s, a);
	} else {
		errors = shaped_batch(s, a, k, names[k], block);
		script_send_sync(s);
	}
	script_expect_errors(s, errors, k);
	script_or(s, from, s->n_expects - 1, true);
	s->expects[s->n_expects - 1].asked = before; /* as in script_expect_early() */
	shaped_ready(s);
	shaped_end(s, block);
}

/* The tags of statements that change tables. */
static void shaped_expect_tags(struct script *s, const char *sql)
{
	static const struct {
		const char *text, *tag;
	} tags[] = {
		{ "ALTER TABLE", "ALTER TABLE" },
		{ "CREATE TABLE", "SELECT 3" },
		{ "DROP TABLE", "DROP TABLE" },
		{ "DROP VIEW", "DROP VIEW" },
		{ "CREATE OR REPLACE VIEW", "CREATE VIEW" },
	};

	while (sql) {
		const char *next = strstr(sql, "; ");

		for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
			if (strncmp(sql, tags[i].text, strlen(tags[i].text)) == 0)
				script_expect_tag(s, tags[i].tag);
		sql = next ? next + 2 : NULL;
	}
}

void shape_build_ddl(struct script *s, struct actor *a)
{
	struct bytes sql = { 0 }, more = { 0 };
	size_t from;

	bytes_text(&sql, DDL_PREFIX);
	ddl_draw(&a->rng, &more);
	bytes_add(&sql, more.data, more.len);
	script_send_query(s, sql.data, sql.len);
	script_expect_tag(s, "SET");
	script_expect_tag(s, "SET");
	from = s->n_expects;
	bytes_u8(&more, 0);
	shaped_expect_tags(s, (const char *)more.data);
	script_expect_errors(s, ddl_sqlstates, -1);
	script_or(s, from, s->n_expects - 1, true);
	script_expect_ready(s);
	bytes_free(&sql);
	bytes_free(&more);
}
