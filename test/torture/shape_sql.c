/*
 * Shapes of the simple protocol: queries, transactions, writes, function calls, and the ways in which a
 * statement is stopped from outside.
 */
#include <stdio.h>
#include <string.h>

#include "shape.h"

#define MULTI_MAX   6

/* Functions of pg_proc that never change their number. */
#define OID_TEXTCAT 1258
#define OID_INT4DIV 154

void shape_build_simple(struct script *s, struct actor *a)
{
	static const enum piece_kind bad[] = { PIECE_ERROR, PIECE_MISSING, PIECE_SYNTAX };
	struct piece p = { 0 };

	piece_make(&p, a, rng_one_in(&a->rng, 5) ? bad[rng_below(&a->rng, 3)] : piece_pick_good(a), 0);
	shape_query(s, &p);
	piece_free(&p);
}

/* Kinds for a statement in a longer string: it may fail, but must not spoil the parsing of the whole. */
static enum piece_kind shape_pick_member(struct actor *a, bool may_fail)
{
	if (may_fail && rng_one_in(&a->rng, 6))
		return rng_one_in(&a->rng, 2) ? PIECE_ERROR : PIECE_MISSING;
	return rng_one_in(&a->rng, 4) ? PIECE_WRITE : piece_pick_good(a);
}

void shape_build_multi(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 2, MULTI_MAX);
	bool block = rng_one_in(&a->rng, 3);
	struct piece p[MULTI_MAX] = { 0 };
	struct bytes sql = { 0 };
	bool failed = false;

	if (block)
		bytes_text(&sql, "BEGIN; ");
	for (int i = 0; i < n; i++) {
		piece_make(&p[i], a, shape_pick_member(a, true), 0);
		bytes_add(&sql, p[i].sql.data, p[i].sql.len);
		bytes_text(&sql, i < n - 1 || block ? "; " : "");
	}
	if (block)
		bytes_text(&sql, "COMMIT");
	script_send_query(s, sql.data, sql.len);
	if (block)
		script_expect_tag(s, "BEGIN");
	for (int i = 0; i < n; i++) {
		if (p[i].kind == PIECE_WRITE)
			script_write(s, p[i].op);
		if (!failed)
			piece_expect_simple(s, &p[i]);
		failed = failed || p[i].sqlstate[0];
	}
	if (block && !failed)
		script_expect_tag(s, "COMMIT");
	s->tx = block && failed ? 'E' : 'I';
	script_expect_ready(s);
	if (failed)
		script_rollback(s);
	else
		script_commit(s);
	if (s->tx == 'E') {
		script_wait(s);
		shape_verb(s, "ROLLBACK", "ROLLBACK", 'I');
	}
	for (int i = 0; i < n; i++)
		piece_free(&p[i]);
	bytes_free(&sql);
}

/* Ends an explicit transaction. */
static void shape_end_tx(struct script *s, struct actor *a)
{
	bool commit = !rng_one_in(&a->rng, 4);
	bool good = s->tx == 'T' && commit;
	struct piece p = { 0 };

	piece_verb(&p, commit ? "COMMIT" : "ROLLBACK", good ? "COMMIT" : "ROLLBACK");
	s->tx = 'I';
	if (!good)
		script_rollback(s);
	if (rng_one_in(&a->rng, 3)) {
		bool failed = false;

		shape_ext(s, a, &p, &failed);
		script_commit_executed(s);
		shape_sync(s, false);
	} else {
		shape_query(s, &p);
	}
	piece_free(&p);
}

/* An error that a savepoint makes good again. */
static void shape_savepoint(struct script *s, struct actor *a, struct piece *p)
{
	shape_verb(s, "SAVEPOINT s1", "SAVEPOINT", s->tx);
	if (rng_one_in(&a->rng, 2))
		script_wait(s);
	shape_any(s, a, p, rng_one_in(&a->rng, 2) ? PIECE_ERROR : PIECE_MISSING);
	script_wait(s);
	shape_verb(s, "ROLLBACK TO SAVEPOINT s1", "ROLLBACK", 'T');
}

void shape_build_tx(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, 6);
	struct piece p = { 0 };
	bool wait = !rng_one_in(&a->rng, 6);

	if (rng_one_in(&a->rng, 2))
		shape_verb(s, "BEGIN", "BEGIN", 'T');
	else
		shape_verb(s, "START TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION", 'T');
	for (int i = 0; i < n; i++) {
		if (wait)
			script_wait(s);
		if (rng_one_in(&a->rng, 6))
			script_pause(s, (unsigned)rng_below(&a->rng, 3000));
		if (s->tx == 'T' && rng_one_in(&a->rng, 8))
			shape_savepoint(s, a, &p);
		else
			shape_any(s, a, &p, shape_pick_member(a, rng_one_in(&a->rng, 2)));
	}
	if (wait)
		script_wait(s);
	shape_end_tx(s, a);
	piece_free(&p);
}

void shape_build_querypipe(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 2, 8);
	struct piece p = { 0 };

	for (int i = 0; i < n; i++) {
		if (s->tx == 'I' && rng_one_in(&a->rng, 5)) {
			shape_verb(s, "BEGIN", "BEGIN", 'T');
		} else if (s->tx != 'I' && rng_one_in(&a->rng, 3)) {
			shape_end_tx(s, a);
		} else {
			piece_make(&p, a, shape_pick_member(a, true), 0);
			shape_query(s, &p);
		}
	}
	if (s->tx != 'I')
		shape_end_tx(s, a);
	piece_free(&p);
}

void shape_build_empty(struct script *s, struct actor *a)
{
	static const char *const texts[] = { "", ";", " ", "-- nothing\n", ";;;", "/* no */ ;" };
	int n = (int)rng_range(&a->rng, 1, 3);

	for (int i = 0; i < n; i++) {
		const char *sql = texts[rng_below(&a->rng, sizeof(texts) / sizeof(texts[0]))];

		if (rng_one_in(&a->rng, 2)) {
			script_send_text(s, sql);
			script_expect(s, 'I', NULL, 0);
			script_expect_ready(s);
			continue;
		}
		script_send_parse(s, "", sql, strlen(sql));
		script_expect(s, '1', NULL, 0);
		script_send_bind(s, "", "", NULL, 0, false, false);
		script_expect(s, '2', NULL, 0);
		if (rng_one_in(&a->rng, 2)) {
			script_send_describe(s, 'P', "");
			script_expect(s, 'n', NULL, 0);
		}
		script_send_execute(s, "", 0);
		script_expect(s, 'I', NULL, 0);
		shape_sync(s, false);
	}
}

void shape_build_write(struct script *s, struct actor *a)
{
	struct piece p = { 0 };

	shape_any(s, a, &p, PIECE_WRITE);
	piece_free(&p);
}

static void shape_call(struct script *s, struct actor *a)
{
	const char *args[2] = { a->who, NULL };
	struct bytes v = { 0 };
	char text[32];

	a->seq++;
	snprintf(text, sizeof(text), " %d", a->seq);
	if (rng_one_in(&a->rng, 5)) {
		script_send_function(s, OID_INT4DIV, (const char *const[]){ "1", "0" }, 2);
		script_expect_error(s, "22012", "division by zero");
		if (s->tx == 'T')
			s->tx = 'E';
	} else if (rng_one_in(&a->rng, 5)) {
		script_send_function(s, OID_TEXTCAT, args, 2);
		script_expect(s, 'V', "\xff\xff\xff\xff", 4);
	} else {
		args[1] = text;
		script_send_function(s, OID_TEXTCAT, args, 2);
		bytes_u32(&v, (uint32_t)(strlen(a->who) + strlen(text)));
		bytes_printf(&v, "%s%s", a->who, text);
		script_expect(s, 'V', v.data, v.len);
	}
	script_expect_ready(s);
	bytes_free(&v);
}

void shape_build_function(struct script *s, struct actor *a)
{
	bool block = rng_one_in(&a->rng, 3);
	int n = (int)rng_range(&a->rng, 1, 3);

	if (block)
		shape_verb(s, "BEGIN", "BEGIN", 'T');
	for (int i = 0; i < n && s->tx != 'E'; i++) {
		if (rng_one_in(&a->rng, 2))
			script_wait(s);
		shape_call(s, a);
	}
	if (block) {
		script_wait(s);
		shape_end_tx(s, a);
	}
}

void shape_build_timeout(struct script *s, struct actor *a)
{
	char sql[64];

	shape_verb(s, "BEGIN", "BEGIN", 'T');
	script_wait(s);
	snprintf(sql, sizeof(sql), "SET LOCAL statement_timeout = %u", (unsigned)rng_range(&a->rng, 20, 150));
	shape_verb(s, sql, "SET", 'T');
	script_wait(s);
	script_send_text(s, "DO 'BEGIN PERFORM pg_sleep(20); END'");
	script_expect_error(s, "57014", "due to statement timeout");
	s->tx = 'E';
	script_expect_ready(s);
	script_wait(s);
	shape_end_tx(s, a);
}

void shape_build_sleep(struct script *s, struct actor *a)
{
	struct piece p = { 0 };
	bool failed = false;
	bool block = rng_one_in(&a->rng, 3);

	if (block) {
		shape_verb(s, "BEGIN", "BEGIN", 'T');
		script_wait(s);
	}
	p.sleep_ms = (unsigned)rng_range(&a->rng, 200, 1000);
	if (rng_one_in(&a->rng, 2)) {
		piece_make(&p, a, PIECE_SLEEP, 0);
		shape_query(s, &p);
	} else {
		piece_make(&p, a, PIECE_SLEEP, PIECE_EXT);
		shape_ext(s, a, &p, &failed);
		shape_sync(s, false);
	}
	script_pause(s, (unsigned)rng_below(&a->rng, rng_one_in(&a->rng, 2) ? 200000 : 2000));
	script_cancel(s);
	script_wait(s);
	if (block)
		shape_end_tx(s, a);
	piece_free(&p);
}

void shape_build_suicide(struct script *s, struct actor *a)
{
	struct bytes sql = { 0 };

	bytes_printf(&sql, "SELECT '%s'::text AS who, pg_terminate_backend(pg_backend_pid())", a->who);
	if (rng_one_in(&a->rng, 2)) {
		shape_verb(s, "BEGIN", "BEGIN", 'T');
		script_wait(s);
	}
	script_send_query(s, sql.data, sql.len);
	s->dies = true;
	s->tx = 'I';
	script_expect_ready(s);
	bytes_free(&sql);
}
