/*
 * PREPARE, EXECUTE and DEALLOCATE in SQL. Such a statement lives in one server, so a pooler has to keep the client
 * there for as long as there is one. All clients give the same names to different texts. Clients that hold a server
 * are many more than servers otherwise, so most of them let go in the same operation.
 */
#include <stdio.h>
#include <string.h>

#include "report.h"
#include "shape.h"

#define PREPARE_STEPS 5

/* Sends SQL without result columns by either protocol. */
static void prepare_send(struct script *s, struct actor *a, struct piece *p)
{
	bool failed = false;

	if (rng_one_in(&a->rng, 3) && s->tx != 'E') {
		shape_ext(s, a, p, &failed);
		shape_sync(s, failed);
	} else {
		shape_query(s, p);
	}
}

static void prepare_make(struct script *s, struct actor *a, int k)
{
	struct statement *st = &a->statements.sql[k];
	struct statement drawn = { .kind = STATEMENT_SHARED, .digit = (int)rng_below(&a->rng, 10) };
	struct bytes sql = { 0 };
	struct piece p = { 0 };

	if (rng_one_in(&a->rng, 2))
		drawn.kind = STATEMENT_REMARK;
	bytes_printf(&sql, rng_one_in(&a->rng, 2) ? "PREPARE %s (text, int4) AS " : "/* x */ prepare %s as ",
		     statement_sql_name(k));
	statement_text(&drawn, a, &sql);
	bytes_u8(&sql, 0);
	piece_verb(&p, (char *)sql.data, "PREPARE");
	if (st->kind != STATEMENT_NONE)
		piece_fail(&p, "42P05", "already exists");
	else if (s->tx != 'E')
		*st = drawn;
	/* By a query only: what fails late must not look as if it failed at once. */
	shape_query(s, &p);
	bytes_free(&sql);
	piece_free(&p);
}

static void prepare_execute(struct script *s, struct actor *a, int k)
{
	const struct statement *st = &a->statements.sql[k];
	struct statement_run run = { .seq = ++a->seq };
	char sql[120];
	bool failed = false;

	snprintf(sql, sizeof(sql), "EXECUTE %s ('%s', %d)", statement_sql_name(k), a->who, a->seq);
	script_send_text(s, sql);
	if (s->tx == 'E') {
		script_expect_error(s, "25P02", "current transaction is aborted");
	} else if (st->kind == STATEMENT_NONE) {
		script_expect_error(s, "26000", "does not exist");
		s->tx = s->tx == 'T' ? 'E' : 'I';
	} else {
		statement_expect_columns(s, st, false);
		statement_expect_run(s, a, st, &run, &failed);
		report_add(executed, 1);
	}
	script_expect_ready(s);
}

static void prepare_drop(struct script *s, struct actor *a, int k)
{
	struct statement *st = &a->statements.sql[k];
	struct piece p = { 0 };
	char sql[40];

	snprintf(sql, sizeof(sql), "DEALLOCATE %s", statement_sql_name(k));
	piece_verb(&p, sql, "DEALLOCATE");
	if (st->kind == STATEMENT_NONE) {
		piece_fail(&p, "26000", "does not exist");
		shape_query(s, &p);
	} else {
		if (s->tx != 'E')
			st->kind = STATEMENT_NONE;
		prepare_send(s, a, &p);
	}
	piece_free(&p);
}

static void prepare_step(struct script *s, struct actor *a)
{
	int k = (int)rng_below(&a->rng, N_SQL_NAMES);
	bool exists = a->statements.sql[k].kind != STATEMENT_NONE;
	unsigned pick = (unsigned)rng_below(&a->rng, 12);
	struct piece p = { 0 };

	if (pick == 0)
		prepare_drop(s, a, k);
	else if (pick == 1)
		shape_any(s, a, &p, PIECE_ENV);
	else if (pick == 2 || !exists == (pick > 3))
		prepare_make(s, a, k);
	else
		prepare_execute(s, a, k);
	piece_free(&p);
}

void shape_build_prepare(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, PREPARE_STEPS);
	bool block = rng_one_in(&a->rng, 3);
	bool commit = rng_one_in(&a->rng, 2);

	s->forget = true;
	if (block)
		shape_verb(s, "BEGIN", "BEGIN", 'T');
	for (int i = 0; i < n; i++) {
		prepare_step(s, a);
		if (rng_one_in(&a->rng, 3))
			script_wait(s);
	}
	if (block)
		shape_verb(s, commit ? "COMMIT" : "ROLLBACK", commit && s->tx == 'T' ? "COMMIT" : "ROLLBACK", 'I');
	for (int k = 0; k < N_SQL_NAMES; k++)
		if (a->statements.sql[k].kind != STATEMENT_NONE && !rng_one_in(&a->rng, 8))
			prepare_drop(s, a, k);
}
