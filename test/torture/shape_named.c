/*
 * Named prepared statements. All clients use the same few names for different texts, and the same few texts under
 * different names, so that a pooler which keeps statements of one server for many clients has to keep them apart. Any
 * message may come at any place of a pipeline, also behind an error, where the server skips it: then the model of the
 * client's statements (statements.h) must not move either.
 *
 * Names that are unknown or taken already are used on purpose only where they are answered by an error (actor.strict).
 *
 * In an aborted transaction a pooler may answer otherwise than PostgreSQL, as long as the batch comes to nothing. It
 * can answer the Parse of a text that the server has, and then the name does exist; and the Parse that it must add on
 * another server is refused, so that the error is that one.
 */
#include <stdio.h>
#include <string.h>

#include "report.h"
#include "shape.h"

#define NAMED_STEPS   6
#define NAMED_BATCHES 5
#define NAMED_MANY    25 /* batches now and then */

/* What a batch is being written for. */
struct named {
	struct script *s;
	struct actor *a;
	bool failed; /* the rest of the batch is skipped */
	bool tried;  /* and in that part a Parse was sent already */
};

static void named_sync(struct named *n)
{
	shape_sync(n->s, n->failed);
	/* Before that it may still believe in the names of a Parse that failed or was skipped. */
	if (n->failed && !n->a->strict)
		script_wait(n->s);
	n->failed = n->tried = false;
}

/* The transaction is aborted: nearly everything is refused. */
static bool named_refused(struct named *n)
{
	if (n->failed || n->s->tx != 'E')
		return false;
	script_expect_error(n->s, "25P02", "current transaction is aborted");
	if (!n->a->alone)
		script_expect_early(n->s);
	n->failed = true;
	return true;
}

/* In an aborted transaction: either way the name does not exist afterwards, or is closed. The batch ends here. */
static void named_parse_aborted(struct named *n, int k, const struct statement *st)
{
	size_t from;

	if (n->a->alone) {
		statement_send_parse(n->s, n->a, statement_name(k), st);
		named_refused(n);
		return;
	}
	named_sync(n);
	from = n->s->n_expects;
	statement_send_parse(n->s, n->a, statement_name(k), st);
	script_expect(n->s, '1', NULL, 0);
	script_expect_errors(n->s, "25P02", -1);
	script_or(n->s, from, from + 1, false);
	named_sync(n);
	script_wait(n->s);
	script_send_close(n->s, 'S', statement_name(k));
	script_expect(n->s, '3', NULL, 0);
}

static void named_parse(struct named *n, int k)
{
	struct statement *st = &n->a->statements.named[k];
	struct statement drawn = statement_draw(n->a);

	if (!n->failed && n->s->tx == 'E' && st->kind == STATEMENT_NONE) {
		named_parse_aborted(n, k, &drawn);
		return;
	}
	statement_send_parse(n->s, n->a, statement_name(k), &drawn);
	if (n->failed)
		return;
	if (st->kind == STATEMENT_NONE) {
		script_expect(n->s, '1', NULL, 0);
		*st = drawn;
	} else {
		/* In an aborted transaction PostgreSQL does not look so far. */
		script_expect_errors(n->s, n->s->tx == 'E' ? "42P05 25P02" : "42P05", -1);
		script_expect_early(n->s);
		n->failed = true;
	}
	n->tried = n->failed;
}

/* A Parse that fails, of a name that does not exist. */
static void named_parse_bad(struct named *n, int k)
{
	char sql[120], error[80];
	bool syntax = rng_one_in(&n->a->rng, 2);

	n->a->seq++;
	snprintf(error, sizeof(error), "\"no_%s_%d\"", n->a->who, n->a->seq);
	snprintf(sql, sizeof(sql), syntax ? "SELECT 1 AS who FROM ORDER %s" : "SELECT * FROM %s", error);
	script_send_parse(n->s, statement_name(k), sql, strlen(sql));
	n->tried = true;
	if (n->failed || (!syntax && named_refused(n)))
		return;
	if (syntax && n->s->tx == 'E')
		script_expect_errors(n->s, "42601 25P02", -1); /* whose server may be lost: nobody looks at the text */
	else if (syntax)
		script_expect_error(n->s, "42601", "syntax error at or near \"ORDER\"");
	else
		script_expect_error(n->s, "42P01", error);
	n->failed = true;
}

static void named_close(struct named *n, int k)
{
	script_send_close(n->s, 'S', statement_name(k));
	if (n->failed)
		return;
	script_expect(n->s, '3', NULL, 0);
	n->a->statements.named[k].kind = STATEMENT_NONE;
}

/* True when the statement is missing, and with it this message fails. */
static bool named_missing(struct named *n, const struct statement *st)
{
	if (n->failed || st->kind != STATEMENT_NONE)
		return false;
	if (n->s->tx == 'E')
		script_expect_errors(n->s, "26000 25P02", -1); /* the server of the transaction may be lost */
	else
		script_expect_error(n->s, "26000", "does not exist");
	if (!n->a->alone)
		script_expect_early(n->s);
	n->failed = true;
	return true;
}

static void named_describe(struct named *n, int k)
{
	const struct statement *st = &n->a->statements.named[k];

	script_send_describe(n->s, 'S', statement_name(k));
	if (named_missing(n, st) || (statement_has_rows(st) && named_refused(n)) || n->failed)
		return;
	statement_expect_params(n->s, st);
	statement_expect_columns(n->s, st, false);
}

/* The answer to the Bind of a statement that exists. */
static void named_expect_bind(struct named *n, const struct statement *st)
{
	if (named_refused(n) || n->failed)
		return;
	if (st->kind == STATEMENT_FOLDS) {
		script_expect_error(n->s, "22012", "division by zero");
		n->failed = true;
	} else {
		script_expect(n->s, '2', NULL, 0);
	}
}

static void named_run(struct named *n, int k)
{
	struct statement st = n->a->statements.named[k];
	const char *portal = rng_one_in(&n->a->rng, 4) ? "portal" : "";
	struct statement_run run;

	if (st.kind == STATEMENT_NONE) {
		/* What could be run, did it exist. */
		st = statement_draw_good(n->a);
		run = statement_send_bind(n->s, n->a, portal, statement_name(k), &st);
		named_missing(n, &n->a->statements.named[k]);
		statement_send_execute(n->s, portal, &st, &run);
		return;
	}
	run = statement_send_bind(n->s, n->a, portal, statement_name(k), &st);
	named_expect_bind(n, &st);
	if (rng_one_in(&n->a->rng, 3)) {
		script_send_describe(n->s, 'P', portal);
		if (!n->failed)
			statement_expect_columns(n->s, &st, run.binary);
	}
	/* A portal goes on without its statement. */
	if (rng_one_in(&n->a->rng, 10) && (n->a->strict || !n->failed))
		named_close(n, k);
	statement_send_execute(n->s, portal, &st, &run);
	if (!n->failed) {
		statement_expect_run(n->s, n->a, &st, &run, &n->failed);
		report_add(named, 1);
	}
	if (portal[0]) {
		script_send_close(n->s, 'P', portal);
		if (!n->failed)
			script_expect(n->s, '3', NULL, 0);
	}
}

/* A Bind with one parameter, for a statement that has more. */
static void named_bind_bad(struct named *n, int k)
{
	const struct statement *st = &n->a->statements.named[k];
	struct bytes params = { 0 };

	bytes_u32(&params, 1);
	bytes_text(&params, "1");
	script_send_bind(n->s, "", statement_name(k), &params, 1, false, false);
	bytes_free(&params);
	if (named_missing(n, st) || n->failed)
		return;
	if (n->s->tx == 'E' && !n->a->alone) {
		script_expect_errors(n->s, "08P01 25P02", -1);
		script_expect_early(n->s);
	} else {
		script_expect_error(n->s, "08P01", "bind message supplies 1 parameters");
	}
	n->failed = true;
}

/*
 * A step that the server skips, with a pooler that ends the session for a name that is unknown or taken: it must be
 * neither, whether or not the pooler knows already that the step is skipped.
 */
static void named_step_skipped(struct named *n, int k)
{
	if (n->a->statements.named[k].kind != STATEMENT_NONE)
		named_run(n, k);
	else if (!n->tried)
		named_parse(n, k);
	n->tried = true;
}

/* One step with a name; which steps are possible depends on whether the statement exists. */
static void named_step(struct named *n)
{
	struct rng *r = &n->a->rng;
	int k = (int)rng_below(r, N_NAMED);
	const struct statement *st = &n->a->statements.named[k];
	bool exists = st->kind != STATEMENT_NONE;
	bool free_choice = n->a->strict;
	unsigned pick = (unsigned)rng_below(r, 20);

	if (n->failed && !n->a->strict) {
		named_step_skipped(n, k);
	} else if (!exists) {
		if (pick < 2)
			named_parse_bad(n, k);
		else if (pick == 2)
			named_close(n, k);
		else if (pick < 5 && free_choice)
			named_run(n, k);
		else if (pick == 5 && free_choice)
			named_describe(n, k);
		else
			named_parse(n, k);
	} else if (pick < 3) {
		named_close(n, k);
		named_parse(n, k);
	} else if (pick == 3) {
		named_close(n, k);
	} else if (pick == 4 && free_choice) {
		named_parse(n, k);
	} else if (pick == 5 && st->kind != STATEMENT_TAGGED && statement_has_rows(st)) {
		named_bind_bad(n, k);
	} else if (!statement_has_rows(st) && n->s->tx == 'E') {
		named_close(n, k);
	} else if (pick < 9 || !statement_has_rows(st)) {
		named_describe(n, k);
	} else {
		named_run(n, k);
	}
}

static void named_batch(struct named *n)
{
	int steps = (int)rng_range(&n->a->rng, 1, NAMED_STEPS);

	for (int i = 0; i < steps; i++) {
		named_step(n);
		if (rng_one_in(&n->a->rng, 12)) {
			script_send_flush(n->s);
			if (rng_one_in(&n->a->rng, 2))
				script_wait(n->s);
		}
	}
	named_sync(n);
}

/* BEGIN or COMMIT as a prepared statement of that name, as some drivers do it. */
static void named_verb(struct named *n, int k, enum statement_kind kind)
{
	struct statement *st = &n->a->statements.named[k];
	struct statement_run run;

	if (st->kind != kind) {
		named_close(n, k);
		*st = (struct statement){ .kind = kind };
		statement_send_parse(n->s, n->a, statement_name(k), st);
		script_expect(n->s, '1', NULL, 0);
	}
	run = statement_send_bind(n->s, n->a, "", statement_name(k), st);
	script_expect(n->s, '2', NULL, 0);
	statement_send_execute(n->s, "", st, &run);
	statement_expect_run(n->s, n->a, st, &run, &n->failed);
	if (kind == STATEMENT_COMMIT && n->s->tx == 'E')
		script_rollback(n->s);
	if (kind == STATEMENT_COMMIT)
		script_commit_executed(n->s);
	n->s->tx = kind == STATEMENT_BEGIN ? 'T' : 'I';
	shape_sync(n->s, false);
}

/* DEALLOCATE of one name. */
static void named_deallocate(struct named *n)
{
	int k = (int)rng_below(&n->a->rng, N_NAMED - 1); /* not the longest */
	struct statement *st = &n->a->statements.named[k];
	struct piece p = { 0 };
	char sql[300] = "DEALLOCATE \"";
	size_t len = strlen(sql);

	if (rng_one_in(&n->a->rng, 3))
		len = (size_t)snprintf(sql, sizeof(sql), "/* one */ deallocate prepare \"");
	for (const char *c = statement_name(k); *c; c++) {
		if (*c == '"')
			sql[len++] = '"';
		sql[len++] = *c;
	}
	snprintf(sql + len, sizeof(sql) - len, "\"");
	piece_verb(&p, sql, "DEALLOCATE");
	if (st->kind == STATEMENT_NONE)
		piece_fail(&p, "26000", "does not exist");
	else if (n->s->tx != 'E')
		st->kind = STATEMENT_NONE;
	shape_query(n->s, &p);
	piece_free(&p);
}

/* DEALLOCATE ALL, alone or among others. */
static void named_deallocate_all(struct named *n)
{
	struct piece p = { 0 };

	if (n->s->tx == 'I' && rng_one_in(&n->a->rng, 3)) {
		piece_make(&p, n->a, PIECE_PLAIN, 0);
		bytes_text(&p.sql, "; DEALLOCATE ALL");
		script_send_query(n->s, p.sql.data, p.sql.len);
		piece_expect_simple(n->s, &p);
		script_expect_tag(n->s, "DEALLOCATE ALL");
		script_expect_ready(n->s);
	} else {
		piece_verb(&p, rng_one_in(&n->a->rng, 2) ? "DEALLOCATE ALL" : "deallocate prepare all",
			   "DEALLOCATE ALL");
		shape_query(n->s, &p);
	}
	if (n->s->tx != 'E')
		statements_forget(n->a);
	piece_free(&p);
}

/* DISCARD ALL makes all parameters those of the server; they are set again at once. */
static void named_discard_all(struct named *n)
{
	n->s->free_params = n->s->retire = true;
	shape_verb(n->s, "DISCARD ALL", "DISCARD ALL", 'I');
	statements_forget(n->a);
	if (rng_one_in(&n->a->rng, 2))
		script_wait(n->s);
	shape_set_all(n->s, n->a);
}

/* What may stand between batches. */
static void named_between(struct named *n)
{
	struct piece p = { 0 };

	switch (rng_below(&n->a->rng, 24)) {
	case 0:
		named_deallocate_all(n);
		break;
	case 1:
		if (n->s->tx == 'I' && rng_one_in(&n->a->rng, 3))
			named_discard_all(n);
		break;
	case 2:
	case 3:
		if (n->a->strict)
			named_deallocate(n);
		break;
	case 4:
	case 5:
	case 6:
		piece_make(&p, n->a, rng_one_in(&n->a->rng, 5) ? PIECE_ERROR : piece_pick_good(n->a), 0);
		shape_query(n->s, &p);
		break;
	case 7:
	case 8:
		script_pause(n->s, (unsigned)rng_below(&n->a->rng, 3000));
		break;
	default:
		if (rng_one_in(&n->a->rng, 2))
			script_wait(n->s);
	}
	piece_free(&p);
}

void shape_build_named(struct script *s, struct actor *a)
{
	int batches = (int)rng_range(&a->rng, 1, rng_one_in(&a->rng, 12) ? NAMED_MANY : NAMED_BATCHES);
	bool block = rng_one_in(&a->rng, 3);
	struct named n = { .s = s, .a = a };

	s->forget = true;
	if (block)
		named_verb(&n, (int)rng_below(&a->rng, N_NAMED), STATEMENT_BEGIN);
	for (int i = 0; i < batches; i++) {
		named_batch(&n);
		named_between(&n);
	}
	if (!block)
		return;
	if (rng_one_in(&a->rng, 2)) {
		named_verb(&n, (int)rng_below(&a->rng, N_NAMED), STATEMENT_COMMIT);
	} else {
		script_rollback(s);
		shape_verb(s, "ROLLBACK", "ROLLBACK", 'I');
	}
}
