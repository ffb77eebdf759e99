/* The steps of the scenario; each is the work of one client in its thread. */

#include "client.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEGABYTE        (1 << 20)
#define CANCEL_PAUSES   20        /* between two cancel requests ... */
#define CANCEL_PAUSE_NS 10000000L /* ... of this length */

#define TRY(x)                        \
	do {                          \
		if (!(x))             \
			return false; \
	} while (0)

/* A zone per client, and what 2024-07-01 12:00 UTC is there. */
static const char *const ZONES[][2] = {
	{ "UTC", "2024-07-01 12:00:00+00" },
	{ "Asia/Tokyo", "2024-07-01 21:00:00+09" },
	{ "America/New_York", "2024-07-01 08:00:00-04" },
	{ "Europe/Berlin", "2024-07-01 14:00:00+02" },
	{ "Australia/Adelaide", "2024-07-01 21:30:00+09:30" },
};

/* A second connection of the same client, in the same mode. */
static bool steps_other(struct client *c, struct client *other)
{
	*other = *c;
	other->conn = NULL;
	other->prepared = NULL;
	if (session_connect(other, ""))
		return true;
	fail(c, "%s", other->why);
	session_disconnect(other);
	return false;
}

/* Ends a second connection and takes over what was wrong with it. */
static bool steps_other_end(struct client *c, struct client *other, bool good)
{
	session_disconnect(other);
	if (!good)
		fail(c, "%s (second connection)", other->why);
	return good && !c->why[0];
}

static bool step_types(struct client *c)
{
	static const char *const CASES[][2] = {
		{ "int", "-2147483648" },
		{ "bigint", "9223372036854775807" },
		{ "numeric", "-12345678901234567890.123456789" },
		{ "text", "\xc5\xbelu\xc5\xa5ou\xc4\x8dk\xc3\xbd 'quoted' \\ \n\t" },
		{ "bool", "t" },
		{ "date", "1999-12-31" },
		{ "timestamptz", "2024-02-29 23:59:59.123456+00" },
		{ "int[]", "{1,-2,3}" },
		{ "text[]", "{a,\"b\\\"c\",\"\",\"{,}\"}" },
		{ "json", "{\"a\": [1, null]}" },
		{ "uuid", "12345678-9abc-def0-1234-56789abcdef0" },
	};
	char text[100], bytes[256], binary_int[4] = { 0, 0, 1, 2 };
	const char *values[2] = { bytes, binary_int };
	int lengths[2] = { 256, 4 }, formats[2] = { 1, 1 };
	PGresult *res;

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		snprintf(text, sizeof(text), "select $1::%s", CASES[i][0]);
		TRY(session_value(c, CASES[i][1], text, CASES[i][1], NULL));
	}
	for (int i = 0; i < 256; i++)
		bytes[i] = (char)i;
	/* Binary both ways. */
	res = PQexecParams(c->conn, "select $1::bytea, $2::int", 2, NULL, values, lengths, formats, 1);
	if (PQresultStatus(res) != PGRES_TUPLES_OK || PQgetlength(res, 0, 0) != 256 || PQgetlength(res, 0, 1) != 4 ||
	    memcmp(PQgetvalue(res, 0, 0), bytes, 256) != 0 || memcmp(PQgetvalue(res, 0, 1), binary_int, 4) != 0)
		fail(c, "expected 256 bytes and a binary int, got something else; %s", PQresultErrorMessage(res));
	PQclear(res);
	return !c->why[0];
}

static bool step_nulls(struct client *c)
{
	const char *values[3] = { NULL, "", "{}" };
	PGresult *res = session_query(c, "select $1::int, $2::text, $3::int[], null::bytea", 3, values);

	if (PQntuples(res) != 1 || !PQgetisnull(res, 0, 0) || PQgetisnull(res, 0, 1) || PQgetlength(res, 0, 1) != 0 ||
	    strcmp(PQgetvalue(res, 0, 2), "{}") != 0 || !PQgetisnull(res, 0, 3))
		fail(c, "expected NULL, '', {}, NULL, got something else; %s", PQresultErrorMessage(res));
	PQclear(res);
	return !c->why[0];
}

static bool step_large(struct client *c)
{
	char *text = malloc(MEGABYTE + 1), *bytes = malloc(MEGABYTE);
	const char *values[2] = { text, bytes };
	int lengths[2] = { MEGABYTE, MEGABYTE }, formats[2] = { 0, 1 };
	PGresult *res;

	for (int i = 0; i < MEGABYTE; i++) {
		text[i] = (char)('a' + (i + c->number) % 26);
		bytes[i] = (char)(i * 7 + c->number);
	}
	text[MEGABYTE] = '\0';
	res = PQexecParams(c->conn, "select $1::text, $2::bytea", 2, NULL, values, lengths, formats, 1);
	if (PQntuples(res) != 1 || PQgetlength(res, 0, 0) != MEGABYTE || PQgetlength(res, 0, 1) != MEGABYTE ||
	    memcmp(PQgetvalue(res, 0, 0), text, MEGABYTE) != 0 || memcmp(PQgetvalue(res, 0, 1), bytes, MEGABYTE) != 0)
		fail(c, "expected 1 MB of text and of bytes, got something else; %s", PQresultErrorMessage(res));
	PQclear(res);
	memset(text, 'a' + c->number % 26, MEGABYTE);
	res = session_query(c, "select repeat(chr(97 + $1::int), 1048576)", 1,
			    (const char *const[]){ (char[]){ (char)('0' + c->number % 26 / 10),
							     (char)('0' + c->number % 26 % 10), 0 } });
	if (PQntuples(res) != 1 || strcmp(PQgetvalue(res, 0, 0), text) != 0)
		fail(c, "expected 1 MB of one letter, got something else; %s", PQresultErrorMessage(res));
	PQclear(res);
	free(text);
	free(bytes);
	return !c->why[0];
}

static bool step_error(struct client *c)
{
	for (int i = 0; i < 5; i++) {
		TRY(session_fails(c, "22012", "select 1 / $1::int", "0"));
		TRY(session_works(c));
		TRY(session_fails(c, "42P01", "select * from no_such_table where x = $1", "1"));
		TRY(session_works(c));
		TRY(session_fails(c, "42601", "selec $1", "1"));
		TRY(session_works(c));
	}
	return true;
}

static bool step_error_in_transaction(struct client *c)
{
	char text[200];

	TRY(session_do(c, "create table %s (a int)", session_table(c, "eit")));
	for (int i = 0; i < 3; i++) {
		TRY(session_do(c, "begin"));
		TRY(session_do(c, "insert into %s values (1)", session_table(c, "eit")));
		TRY(session_fails(c, "22012", "select 1 / $1::int", "0"));
		TRY(session_fails(c, "25P02", "select $1::text || 'x'", "x"));
		TRY(session_do(c, "rollback"));
		TRY(session_works(c));
	}
	snprintf(text, sizeof(text), "select count(*) from %s", session_table(c, "eit"));
	TRY(session_value(c, "0", text, NULL, NULL));
	return session_do(c, "drop table %s", session_table(c, "eit"));
}

static bool steps_transactions(struct client *c, struct client *other)
{
	char text[200], count[16];

	snprintf(text, sizeof(text), "select count(*) from %s", session_table(c, "tx"));
	for (int i = 1; i <= 5; i++) {
		snprintf(count, sizeof(count), "%d", i);
		TRY(session_do(c, "begin"));
		TRY(session_do(c, "insert into %s values (%d)", session_table(c, "tx"), i));
		TRY(session_do(c, "commit"));
		TRY(session_value(other, count, text, NULL, NULL));
		TRY(session_do(c, "begin"));
		TRY(session_do(c, "insert into %s values (%d)", session_table(c, "tx"), i));
		TRY(session_do(c, "rollback"));
		TRY(session_value(other, count, text, NULL, NULL));
	}
	return true;
}

static bool step_transaction(struct client *c)
{
	struct client other;

	TRY(session_do(c, "create table %s (a int)", session_table(c, "tx")));
	TRY(steps_other(c, &other));
	TRY(steps_other_end(c, &other, steps_transactions(c, &other)));
	return session_do(c, "drop table %s", session_table(c, "tx"));
}

static bool step_savepoint(struct client *c)
{
	const char *table = session_table(c, "sp");
	char text[200];

	TRY(session_do(c, "create table %s (a int primary key)", table));
	for (int i = 0; i < 3; i++) {
		TRY(session_do(c, "begin"));
		TRY(session_do(c, "insert into %s values (%d)", table, i * 10));
		TRY(session_do(c, "savepoint one"));
		snprintf(text, sizeof(text), "insert into %s values ($1)", table);
		TRY(session_fails(c, "23505", text, i == 0 ? "0" : i == 1 ? "10" : "20"));
		TRY(session_do(c, "rollback to savepoint one"));
		TRY(session_do(c, "insert into %s values (%d)", table, i * 10 + 1));
		TRY(session_do(c, "release savepoint one"));
		TRY(session_do(c, "commit"));
	}
	snprintf(text, sizeof(text), "select string_agg(a::text, ',' order by a) from %s", table);
	TRY(session_value(c, "0,1,10,11,20,21", text, NULL, NULL));
	return session_do(c, "drop table %s", table);
}

/* COPY FROM of `lines`; ends with this SQLSTATE. */
static bool steps_copy_in(struct client *c, const char *table, const char *lines, const char *sqlstate)
{
	char text[200];
	PGresult *res;

	snprintf(text, sizeof(text), "copy %s from stdin", table);
	res = PQexec(c->conn, text);
	if (PQresultStatus(res) != PGRES_COPY_IN)
		return session_check(c, res, "a COPY", NULL, text);
	PQclear(res);
	for (size_t at = 0, n, all = strlen(lines); at < all; at += n) {
		n = all - at < 1000 ? all - at : 1000;
		if (PQputCopyData(c->conn, lines + at, (int)n) != 1)
			break; /* the error comes with the result */
	}
	PQputCopyEnd(c->conn, NULL);
	TRY(session_check(c, PQgetResult(c->conn), sqlstate, NULL, text));
	while ((res = PQgetResult(c->conn)) != NULL)
		PQclear(res);
	return true;
}

static bool steps_copy_out(struct client *c, const char *table, const char *lines)
{
	char text[200], *row;
	size_t at = 0, all = strlen(lines);
	int n;
	PGresult *res;

	snprintf(text, sizeof(text), "copy (select * from %s order by a) to stdout", table);
	PQclear(PQexec(c->conn, text));
	while ((n = PQgetCopyData(c->conn, &row, 0)) > 0) {
		if (at + (size_t)n > all || memcmp(row, lines + at, (size_t)n) != 0)
			fail(c, "expected the rows of the COPY, got %.60s", row);
		at += (size_t)n;
		PQfreemem(row);
	}
	if (at != all)
		fail(c, "expected %zu bytes of COPY, got %zu; %s", all, at, PQerrorMessage(c->conn));
	while ((res = PQgetResult(c->conn)) != NULL)
		PQclear(res);
	return !c->why[0];
}

static bool step_copy(struct client *c)
{
	const char *table = session_table(c, "copy");
	char *lines = malloc(1000 * 100);
	bool good;

	for (int i = 0, at = 0; i < 1000; i++)
		at += sprintf(lines + at, "%d\t%s %d\n", i, c->tag, i);
	good = session_do(c, "create table %s (a int, b text)", table);
	for (int i = 0; good && i < 3; i++)
		good = steps_copy_in(c, table, lines, "") && steps_copy_out(c, table, lines) &&
		       steps_copy_in(c, table, "1\tgood\nbad\tbad\n", "22P02") && session_works(c) &&
		       session_do(c, "delete from %s", table);
	free(lines);
	return good && session_do(c, "drop table %s", table);
}

struct canceler {
	PGcancel *cancel;
	atomic_bool ended;
};

static void *steps_canceler(void *arg)
{
	struct canceler *canceler = arg;
	char error[256];

	do {
		PQcancel(canceler->cancel, error, sizeof(error));
		for (int i = 0; i < CANCEL_PAUSES && !atomic_load(&canceler->ended); i++)
			nanosleep(&(struct timespec){ 0, CANCEL_PAUSE_NS }, NULL);
	} while (!atomic_load(&canceler->ended));
	return NULL;
}

static bool step_cancel(struct client *c)
{
	struct canceler canceler = { .cancel = PQgetCancel(c->conn) };
	pthread_t thread;
	bool good;

	TRY(session_do(c, "begin"));
	TRY(session_value(c, "1", "select 1", NULL, NULL));
	if (pthread_create(&thread, NULL, steps_canceler, &canceler) != 0)
		return fail(c, "no thread");
	good = session_fails(c, "57014", "select pg_sleep($1)", "60");
	atomic_store(&canceler.ended, true);
	pthread_join(thread, NULL);
	PQfreeCancel(canceler.cancel);
	return good && session_do(c, "rollback") && session_works(c);
}

/* PQprepare with a name that all clients use, each for its own text; `name` may be "". */
static bool steps_reuse(struct client *c, const char *name)
{
	char text[200], number[16], expected[120];
	const char *values[2] = { c->tag, number };
	PGresult *res;

	snprintf(text, sizeof(text), "select $1::text || ':' || $2::int || '/%d'", c->number);
	TRY(session_check(c, PQprepare(c->conn, name, text, 0, NULL), "", NULL, text));
	res = PQdescribePrepared(c->conn, name);
	if (PQnparams(res) != 2 || PQparamtype(res, 0) != 25 || PQparamtype(res, 1) != 23 || PQnfields(res) != 1)
		fail(c, "expected the parameters of the statement, got others; %s", PQresultErrorMessage(res));
	PQclear(res);
	for (int i = 0; i < 100 && !c->why[0]; i++) {
		snprintf(number, sizeof(number), "%d", i);
		snprintf(expected, sizeof(expected), "%s:%d/%d", c->tag, i, c->number);
		if (i % 5 == 0)
			TRY(session_check(c, PQexec(c->conn, "begin"), "", NULL, "begin"));
		if (i % 5 == 0 && *name)
			TRY(session_check(c, PQexecPrepared(c->conn, name, 2, values, NULL, NULL, 0), "", expected,
					  text));
		/* A simple query destroys an unnamed statement; so that one is only used outside. */
		if (i % 5 == 0) {
			TRY(session_check(c, PQexec(c->conn, "commit"), "", NULL, "commit"));
			if (!*name)
				TRY(session_check(c, PQprepare(c->conn, name, text, 0, NULL), "", NULL, text));
		}
		TRY(session_check(c, PQexecPrepared(c->conn, name, 2, values, NULL, NULL, 0), "", expected, text));
	}
	return !c->why[0];
}

static bool step_reuse(struct client *c)
{
	TRY(steps_reuse(c, "reuse"));
	TRY(steps_reuse(c, ""));
	/* The same name for another text is an error until it is deallocated. */
	TRY(session_check(c, PQprepare(c->conn, "reuse", "select 1", 0, NULL), "42P05", NULL, "a second PREPARE"));
	return session_check(c, PQexec(c->conn, "deallocate reuse"), "", NULL, "deallocate reuse");
}

static bool steps_ddl(struct client *c, struct client *other, const char *table)
{
	char text[200], row[120];
	PGresult *res;

	snprintf(text, sizeof(text), "select * from %s where a = $1", table);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 9; i++) {
			if (i == 6)
				TRY(session_do(other, "alter table %s add column c%d text default 'c%d'", table, round,
					       round));
			res = session_query(c, text, 1, (const char *const[]){ "1" });
			snprintf(row, sizeof(row), "c%d", round);
			if (i >= 6 && PQresultStatus(res) == PGRES_FATAL_ERROR) {
				TRY(session_check(c, res, "0A000", NULL, text));
				TRY(session_check(c, PQexec(c->conn, "deallocate all"), "", NULL, "deallocate all"));
				while (c->prepared_count > 0)
					free(c->prepared[--c->prepared_count].text);
				continue;
			}
			if (PQntuples(res) != 1 || PQnfields(res) != 2 + round + (i >= 6) ||
			    strcmp(PQgetvalue(res, 0, 1), c->tag) != 0 ||
			    (i >= 6 && strcmp(PQgetvalue(res, 0, 2 + round), row) != 0))
				fail(c, "expected %d columns, got %d; %s (execution %d)", 2 + round + (i >= 6),
				     PQnfields(res), PQresultErrorMessage(res), i);
			PQclear(res);
			TRY(!c->why[0]);
		}
	}
	return true;
}

static bool step_ddl(struct client *c)
{
	const char *table = session_table(c, "ddl");
	struct client other;

	TRY(session_do(c, "create table %s (a int, b text)", table));
	TRY(session_do(c, "insert into %s values (1, '%s')", table, c->tag));
	TRY(steps_other(c, &other));
	TRY(steps_other_end(c, &other, steps_ddl(c, &other, table)));
	return session_do(c, "drop table %s", table);
}

/* This libpq has no function that closes a statement; its manual says DEALLOCATE. */
static bool step_deallocate(struct client *c)
{
	char name[32], text[200], expected[200];
	const char *values[1] = { c->tag };

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 20; i++) {
			snprintf(name, sizeof(name), "dealloc%d", i % 5);
			snprintf(text, sizeof(text), "select $1::text || '-%d-%d'", i, round);
			snprintf(expected, sizeof(expected), "%s-%d-%d", c->tag, i, round);
			TRY(session_check(c, PQprepare(c->conn, name, text, 0, NULL), "", NULL, text));
			TRY(session_check(c, PQexecPrepared(c->conn, name, 1, values, NULL, NULL, 0), "", expected,
					  text));
			snprintf(text, sizeof(text), "deallocate %s%s", i % 2 ? "prepare " : "", name);
			TRY(session_check(c, PQexec(c->conn, text), "", NULL, text));
			TRY(session_check(c, PQexecPrepared(c->conn, name, 1, values, NULL, NULL, 0), "26000", NULL,
					  text));
		}
	}
	return true;
}

static bool step_many(struct client *c)
{
	char text[100], expected[100];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 200; i++) {
			snprintf(text, sizeof(text), "select $1::text || ':%d'", i);
			snprintf(expected, sizeof(expected), "%s:%d", c->tag, i);
			TRY(session_value(c, expected, text, c->tag, NULL));
		}
	}
	return true;
}

static bool steps_parameters(struct client *c, const char *const zone[2])
{
	char expected[200];

	snprintf(expected, sizeof(expected), "%s/%s/%s", zone[0], c->tag, zone[1]);
	for (int i = 0; i < 30; i++)
		TRY(session_value(
			c, expected,
			"select current_setting('TimeZone') || '/' || current_setting('application_name') || '/' || "
			"($1::text)::timestamptz::text",
			"2024-07-01 12:00+00", NULL));
	if (strcmp(PQparameterStatus(c->conn, "TimeZone"), zone[0]) != 0)
		return fail(c, "expected ParameterStatus %s, got %s", zone[0], PQparameterStatus(c->conn, "TimeZone"));
	return true;
}

static bool step_parameters(struct client *c)
{
	const char *const *zone = ZONES[c->number % 5];
	struct client other = *c;
	char options[200];
	bool good;

	snprintf(options, sizeof(options), "application_name=%s options='-c TimeZone=%s'", c->tag, zone[0]);
	good = session_connect(&other, options) && steps_parameters(&other, zone);
	return steps_other_end(c, &other, good);
}

static bool step_reconnect(struct client *c)
{
	struct client other;

	for (int i = 0; i < 10; i++) {
		TRY(steps_other(c, &other));
		TRY(steps_other_end(c, &other, session_works(&other) && session_works(&other)));
	}
	return true;
}

/* The next result of a pipeline must be a value, "" for success without a row, or an SQLSTATE; NULL for aborted. */
static bool steps_pipeline_next(struct client *c, const char *sqlstate, const char *expected)
{
	PGresult *res = PQgetResult(c->conn);
	ExecStatusType status = PQresultStatus(res);

	if (!sqlstate) {
		if (status != PGRES_PIPELINE_ABORTED)
			fail(c, "expected an aborted statement, got %s; %s", PQresStatus(status),
			     PQresultErrorMessage(res));
		PQclear(res);
	} else {
		session_check(c, res, sqlstate, expected, "in a pipeline");
	}
	res = PQgetResult(c->conn);
	if (res)
		fail(c, "expected the end of a result, got %s", PQresStatus(PQresultStatus(res)));
	PQclear(res);
	return !c->why[0];
}

static bool steps_pipeline_sync(struct client *c)
{
	PGresult *res = PQgetResult(c->conn);

	if (PQresultStatus(res) != PGRES_PIPELINE_SYNC)
		fail(c, "expected a sync, got %s; %s", PQresStatus(PQresultStatus(res)), PQresultErrorMessage(res));
	PQclear(res);
	return !c->why[0];
}

static void steps_pipeline_send(struct client *c, const char *name, const char *text, const char *value)
{
	if (name)
		PQsendQueryPrepared(c->conn, name, 1, &value, NULL, NULL, 0);
	else
		PQsendQueryParams(c->conn, text, 1, NULL, &value, NULL, NULL, 0);
}

/* Three batches in flight: a good one that prepares, one with an error in the middle, one that uses what was made. */
static bool steps_pipeline_batches(struct client *c, int round)
{
	char text[100], name[20];

	snprintf(name, sizeof(name), "pipe%d", round);
	snprintf(text, sizeof(text), "select $1::text || '/%d'", c->number);
	PQsendPrepare(c->conn, name, text, 0, NULL);
	for (int i = 0; i < 20; i++)
		steps_pipeline_send(c, i % 2 ? name : NULL, "select $1::text", c->tag);
	PQpipelineSync(c->conn);
	steps_pipeline_send(c, name, NULL, c->tag);
	steps_pipeline_send(c, NULL, "select 1 / $1::int", "0");
	PQsendPrepare(c->conn, "never", "select 1", 0, NULL);
	steps_pipeline_send(c, name, NULL, c->tag);
	PQpipelineSync(c->conn);
	PQsendPrepare(c->conn, "never", "select $1::text || 'never'", 0, NULL);
	steps_pipeline_send(c, "never", NULL, c->tag);
	steps_pipeline_send(c, "nobody", NULL, c->tag);
	PQpipelineSync(c->conn);
	steps_pipeline_send(c, name, NULL, c->tag);
	PQpipelineSync(c->conn);
	return true;
}

static bool steps_pipeline_answers(struct client *c)
{
	char expected[100], never[100];

	snprintf(expected, sizeof(expected), "%s/%d", c->tag, c->number);
	snprintf(never, sizeof(never), "%snever", c->tag);
	TRY(steps_pipeline_next(c, "", NULL));
	for (int i = 0; i < 20; i++)
		TRY(steps_pipeline_next(c, "", i % 2 ? expected : c->tag));
	TRY(steps_pipeline_sync(c));
	TRY(steps_pipeline_next(c, "", expected));
	TRY(steps_pipeline_next(c, "22012", NULL));
	TRY(steps_pipeline_next(c, NULL, NULL));
	TRY(steps_pipeline_next(c, NULL, NULL));
	TRY(steps_pipeline_sync(c));
	TRY(steps_pipeline_next(c, "", NULL));
	TRY(steps_pipeline_next(c, "", never));
	TRY(steps_pipeline_next(c, "26000", NULL));
	TRY(steps_pipeline_sync(c));
	TRY(steps_pipeline_next(c, "", expected));
	return steps_pipeline_sync(c);
}

/* BEGIN, statements, COMMIT in one batch; and a flush request that brings an answer before the sync. */
static bool steps_pipeline_transaction(struct client *c)
{
	for (int round = 0; round < 5; round++) {
		steps_pipeline_send(c, NULL, "select $1::text || 'a'", c->tag);
		PQsendFlushRequest(c->conn);
		PQflush(c->conn);
		TRY(steps_pipeline_next(c, "", NULL));
		PQsendQueryParams(c->conn, "begin", 0, NULL, NULL, NULL, NULL, 0);
		steps_pipeline_send(c, NULL, "select $1::text", c->tag);
		PQsendQueryParams(c->conn, "commit", 0, NULL, NULL, NULL, NULL, 0);
		PQpipelineSync(c->conn);
		TRY(steps_pipeline_next(c, "", NULL));
		TRY(steps_pipeline_next(c, "", c->tag));
		TRY(steps_pipeline_next(c, "", NULL));
		TRY(steps_pipeline_sync(c));
	}
	return true;
}

static bool step_pipeline(struct client *c)
{
	PQenterPipelineMode(c->conn);
	for (int round = 0; round < 5; round++) {
		steps_pipeline_batches(c, round);
		TRY(steps_pipeline_answers(c));
		TRY(steps_pipeline_transaction(c));
		PQexitPipelineMode(c->conn);
		TRY(session_check(c, PQexec(c->conn, "deallocate never"), "", NULL, "deallocate never"));
		PQenterPipelineMode(c->conn);
	}
	PQexitPipelineMode(c->conn);
	return session_works(c);
}

static bool step_tagged(struct client *c)
{
	char number[16], expected[100];

	for (int i = 0; i < 200; i++) {
		snprintf(number, sizeof(number), "%d", i);
		snprintf(expected, sizeof(expected), "%s %d", c->tag, i);
		if (i % 5 == 0) {
			TRY(session_do(c, "begin"));
			TRY(session_value(c, expected, "select $1::text || ' ' || $2::text", c->tag, number));
		}
		TRY(session_value(c, expected, "select $1::text || ' ' || $2::text", c->tag, number));
		if (i % 5 == 0)
			TRY(session_do(c, "commit"));
	}
	return true;
}

const struct step STEPS[] = {
	{ "types", step_types },
	{ "nulls", step_nulls },
	{ "large", step_large },
	{ "error", step_error },
	{ "error_in_transaction", step_error_in_transaction },
	{ "transaction", step_transaction },
	{ "savepoint", step_savepoint },
	{ "copy", step_copy },
	{ "cancel", step_cancel },
	{ "reuse", step_reuse },
	{ "ddl", step_ddl },
	{ "deallocate", step_deallocate },
	{ "many", step_many },
	{ "parameters", step_parameters },
	{ "reconnect", step_reconnect },
	{ "pipeline", step_pipeline },
	{ "tagged", step_tagged },
};

const int STEPS_COUNT = sizeof(STEPS) / sizeof(STEPS[0]);
