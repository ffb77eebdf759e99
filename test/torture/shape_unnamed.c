/*
 * The unnamed statement, used as drivers do that parse once and bind again and again: the Parse in one batch, the Bind
 * in a later one, in a later transaction, in a later operation. Half of the texts are the same for all clients.
 *
 * PostgreSQL drops the unnamed statement at each simple query. A pooler that remembers the text of its client may go
 * on with it; what must never happen is that somebody else's statement answers.
 */
#include <string.h>

#include "report.h"
#include "shape.h"

#define UNNAMED_BATCHES 6

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

	if (!*failed)
		script_expect_error(s, "26000", "unnamed prepared statement does not exist");
	*failed = true;
	statement_send_execute(s, "", &st, &run);
}

static void unnamed_batch(struct script *s, struct actor *a)
{
	const struct statement *st = &a->statements.unnamed;
	int n = (int)rng_range(&a->rng, 1, 3);
	bool failed = false;
	bool closed = false;

	for (int i = 0; i < n; i++) {
		unsigned pick = (unsigned)rng_below(&a->rng, 20);

		if (pick == 0) {
			unnamed_parse_bad(s, a, &failed);
		} else if (pick == 1) {
			unnamed_close(s, a, failed);
			closed = !failed;
		} else if (st->kind == STATEMENT_NONE && a->strict && closed && pick < 10) {
			unnamed_missing(s, a, &failed);
		} else if (st->kind == STATEMENT_NONE || pick < 8) {
			unnamed_parse(s, a, failed);
		} else {
			unnamed_run(s, a, st, &failed);
		}
	}
	shape_sync(s, failed);
}

/*
 * Either what the statement answers, or that there is none: after a simple query. A batch of its own, with nothing in
 * it that writes.
 */
static void unnamed_after_query(struct script *s, struct actor *a)
{
	const struct statement *st = &a->statements.unnamed;
	struct piece p = { 0 };
	struct statement_run run;
	bool failed = false;
	size_t from, mid;

	piece_make(&p, a, piece_pick_good(a), 0);
	shape_query(s, &p);
	piece_free(&p);
	if (st->kind == STATEMENT_NONE || st->kind == STATEMENT_WRITE || rng_one_in(&a->rng, 2) || s->tx != 'I')
		return;
	from = s->n_expects;
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
	shape_sync(s, false);
}

void shape_build_unnamed(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, UNNAMED_BATCHES);
	bool block = rng_one_in(&a->rng, 4);
	struct piece p = { 0 };
	bool failed = false;

	if (block) {
		piece_verb(&p, "BEGIN", "BEGIN");
		shape_ext(s, a, &p, &failed);
		s->tx = 'T';
		shape_sync(s, false);
		a->statements.unnamed.kind = STATEMENT_NONE;
	}
	for (int i = 0; i < n && s->tx != 'E'; i++) {
		unnamed_batch(s, a);
		if (rng_one_in(&a->rng, 3))
			script_wait(s);
		if (!block && rng_one_in(&a->rng, 6)) {
			unnamed_after_query(s, a);
			a->statements.unnamed.kind = STATEMENT_NONE;
		}
	}
	if (block) {
		script_rollback(s);
		shape_verb(s, "ROLLBACK", "ROLLBACK", 'I');
		a->statements.unnamed.kind = STATEMENT_NONE;
	}
	/* What the model says is what the messages above have left. */
	s->unnamed = false;
	s->forget = true;
	piece_free(&p);
}
