/*
 * The unnamed statement, used as drivers do that parse once and bind again and again: the Parse in one batch, the Bind
 * in a later one, in a later transaction, in a later operation. Half of the texts are the same for all clients.
 *
 * PostgreSQL drops the unnamed statement at each simple query. A pooler that remembers the text of its client may go
 * on with it; and it may forget, between transactions, a text that was bound in the batch in which it was parsed, or
 * that stood in a batch that failed. What must never happen is that somebody else's statement answers, or one whose
 * Parse was skipped.
 */
#include <string.h>

#include "report.h"
#include "shape.h"

#define UNNAMED_BATCHES  6
#define UNNAMED_MAX_FILL 10000 /* poolers need not remember longer texts */

/* Binds and executes, without Parse. */
static void unnamed_run(struct script *s, struct actor *a, const struct statement *st, bool *failed)
{
	struct statement_run run;

	if (rng_one_in(&a->rng, 4)) {
		script_send_describe(s, 'S', "");
		if (!*failed) {
			statement_expect_params(s, st);
			statement_expect_columns(s, st, false);
		}
	}
	run = statement_send_bind(s, a, "", "", st);
	if (!*failed && st->kind == STATEMENT_FOLDS) {
		script_expect_error(s, "22012", "division by zero");
		*failed = true;
	} else if (!*failed) {
		script_expect(s, '2', NULL, 0);
	}
	statement_send_execute(s, "", st, &run);
	if (*failed)
		return;
	statement_expect_run(s, a, st, &run, failed);
	report_add(unnamed, 1);
}

static void unnamed_parse(struct script *s, struct actor *a, bool failed)
{
	struct statement st = statement_draw(a);

	while (st.kind == STATEMENT_LARGE && st.fill > UNNAMED_MAX_FILL)
		st = statement_draw(a);
	statement_send_parse(s, a, "", &st);
	if (failed)
		return;
	script_expect(s, '1', NULL, 0);
	a->statements.unnamed = st;
}

/* A Parse that fails takes the statement before it away. */
static void unnamed_parse_bad(struct script *s, struct actor *a, bool *failed)
{
	struct piece p = { 0 };

	piece_make(&p, a, rng_one_in(&a->rng, 2) ? PIECE_SYNTAX : PIECE_MISSING, PIECE_EXT);
	script_send_parse(s, "", p.sql.data, p.sql.len);
	if (!*failed) {
		piece_expect_end(s, &p);
		a->statements.unnamed.kind = STATEMENT_NONE;
		*failed = true;
	}
	piece_free(&p);
}

static void unnamed_close(struct script *s, struct actor *a, bool failed)
{
	script_send_close(s, 'S', "");
	if (failed)
		return;
	script_expect(s, '3', NULL, 0);
	a->statements.unnamed.kind = STATEMENT_NONE;
}

/* A Bind while there is no statement. */
static void unnamed_missing(struct script *s, struct actor *a, bool *failed)
{
	struct statement st = statement_draw_good(a);
	struct statement_run run = statement_send_bind(s, a, "", "", &st);

	if (!*failed) {
		if (s->tx == 'E')
			script_expect_errors(s, "26000 25P02", -1); /* the server of the transaction may be lost */
		else
			script_expect_error(s, "26000", "unnamed prepared statement does not exist");
		script_expect_early(s);
	}
	*failed = true;
	statement_send_execute(s, "", &st, &run);
}

/* A batch that parses, binds and closes at random. */
static void unnamed_batch(struct script *s, struct actor *a)
{
	struct statements *all = &a->statements;
	int n = (int)rng_range(&a->rng, 1, 3);
	bool failed = false, closed = false, parsed = false, bound = false;

	for (int i = 0; i < n; i++) {
		unsigned pick = (unsigned)rng_below(&a->rng, 20);

		if (pick == 0) {
			unnamed_parse_bad(s, a, &failed);
		} else if (pick == 1) {
			unnamed_close(s, a, failed);
			closed = !failed;
		} else if (all->unnamed.kind == STATEMENT_NONE && a->strict && closed && pick < 10) {
			unnamed_missing(s, a, &failed);
		} else if (all->unnamed.kind == STATEMENT_NONE || pick < 8) {
			unnamed_parse(s, a, failed);
			parsed = parsed || !failed;
			bound = bound && failed;
		} else {
			bound = bound || !failed;
			unnamed_run(s, a, &all->unnamed, &failed);
		}
	}
	shape_sync(s, failed);
	all->unnamed_unsure = (failed || (parsed && bound)) && s->tx == 'I' && !a->alone;
}

/* A batch that binds, when the pooler may have lost the statement. Nothing in it writes. */
static void unnamed_perhaps(struct script *s, struct actor *a)
{
	const struct statement *st = &a->statements.unnamed;
	struct statement_run run;
	bool failed = false;
	size_t from = s->n_expects, before = s->n_ends > 0 ? s->ends[s->n_ends - 1] : 0, mid;

	if (st->kind == STATEMENT_WRITE)
		return;
	run = statement_send_bind(s, a, "", "", st);
	if (st->kind == STATEMENT_FOLDS)
		script_expect_error(s, "22012", "division by zero");
	else
		script_expect(s, '2', NULL, 0);
	statement_send_execute(s, "", st, &run);
	if (st->kind != STATEMENT_FOLDS)
		statement_expect_run(s, a, st, &run, &failed);
	mid = s->n_expects;
	script_expect_errors(s, "26000", -1);
	script_or(s, from, mid, false);
	s->expects[mid].asked = before; /* as in script_expect_early() */
	shape_sync(s, false);
}

/* A simple query, behind which there is no unnamed statement any more. */
static void unnamed_query(struct script *s, struct actor *a)
{
	struct piece p = { 0 };

	piece_make(&p, a, piece_pick_good(a), 0);
	shape_query(s, &p);
	piece_free(&p);
	if (a->statements.unnamed.kind == STATEMENT_NONE || rng_one_in(&a->rng, 2))
		return;
	if (a->alone) {
		bool failed = false;

		unnamed_missing(s, a, &failed);
		shape_sync(s, failed);
	} else {
		unnamed_perhaps(s, a);
	}
}

static void unnamed_begin(struct script *s, struct actor *a)
{
	struct piece p = { 0 };
	bool failed = false;

	piece_verb(&p, "BEGIN", "BEGIN");
	shape_ext(s, a, &p, &failed);
	s->tx = 'T';
	shape_sync(s, false);
	piece_free(&p);
	a->statements.unnamed.kind = STATEMENT_NONE;
}

void shape_build_unnamed(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, UNNAMED_BATCHES);
	struct statement *st = &a->statements.unnamed;
	bool block = rng_one_in(&a->rng, 4);

	if (block)
		unnamed_begin(s, a);
	for (int i = 0; i < n && s->tx != 'E'; i++) {
		if (st->kind != STATEMENT_NONE && a->statements.unnamed_unsure) {
			unnamed_perhaps(s, a);
			st->kind = STATEMENT_NONE;
		}
		unnamed_batch(s, a);
		if (rng_one_in(&a->rng, 3))
			script_wait(s);
		if (!block && rng_one_in(&a->rng, 6)) {
			unnamed_query(s, a);
			st->kind = STATEMENT_NONE;
		}
	}
	if (block) {
		script_rollback(s);
		shape_verb(s, "ROLLBACK", "ROLLBACK", 'I');
		st->kind = STATEMENT_NONE;
	}
	/* What the model says is what the messages above have left. */
	s->unnamed = false;
	s->forget = true;
}
