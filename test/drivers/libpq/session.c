/* Statements in each of the three modes, and checks of what came back. */

#include "client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool fail(struct client *c, const char *format, ...)
{
	va_list args;

	if (c->why[0])
		return false;
	va_start(args, format);
	vsnprintf(c->why, sizeof(c->why), format, args);
	va_end(args);
	for (char *p = c->why; *p; p++)
		if (*p == '\n')
			*p = ' ';
	return false;
}

bool session_connect(struct client *c, const char *options)
{
	c->conn = PQconnectdb(options);
	if (PQstatus(c->conn) != CONNECTION_OK)
		return fail(c, "expected a connection, got %s", PQerrorMessage(c->conn));
	c->prepared = calloc(MAX_PREPARED, sizeof(*c->prepared));
	c->prepared_count = 0;
	return true;
}

void session_disconnect(struct client *c)
{
	for (int i = 0; i < c->prepared_count; i++)
		free(c->prepared[i].text);
	free(c->prepared);
	c->prepared = NULL;
	c->prepared_count = 0;
	PQfinish(c->conn);
	c->conn = NULL;
}

static const char *session_find(struct client *c, const char *text)
{
	for (int i = 0; i < c->prepared_count; i++)
		if (strcmp(c->prepared[i].text, text) == 0)
			return c->prepared[i].name;
	return NULL;
}

/* Makes a name for a statement. Returns NULL when the table is full. */
static const char *session_name(struct client *c, const char *text)
{
	struct prepared *p;

	if (c->prepared_count == MAX_PREPARED)
		return NULL;
	p = &c->prepared[c->prepared_count++];
	p->text = strdup(text);
	/* All clients use the same names, for statements that differ. */
	snprintf(p->name, sizeof(p->name), "s%d", c->prepared_count);
	return p->name;
}

static PGresult *session_prepared(struct client *c, const char *text, int n, const char *const *values)
{
	const char *name = session_find(c, text);
	PGresult *res;

	if (!name) {
		name = session_name(c, text);
		if (!name)
			return PQexecParams(c->conn, text, n, NULL, values, NULL, NULL, 0);
		res = PQprepare(c->conn, name, text, 0, NULL);
		if (PQresultStatus(res) != PGRES_COMMAND_OK) {
			free(c->prepared[--c->prepared_count].text);
			return res;
		}
		PQclear(res);
	}
	return PQexecPrepared(c->conn, name, n, values, NULL, NULL, 0);
}

/* Parse, Bind, Execute and Sync in one go; the statement has a name when the client's number is odd. */
static PGresult *session_pipeline(struct client *c, const char *text, int n, const char *const *values)
{
	const char *name = session_find(c, text);
	PGresult *res, *keep = NULL;
	bool is_new = false;

	PQenterPipelineMode(c->conn);
	if (c->number % 2 == 1 && !name) {
		name = session_name(c, text);
		is_new = name != NULL;
		if (is_new)
			PQsendPrepare(c->conn, name, text, 0, NULL);
	}
	if (name)
		PQsendQueryPrepared(c->conn, name, n, values, NULL, NULL, 0);
	else
		PQsendQueryParams(c->conn, text, n, NULL, values, NULL, NULL, 0);
	PQpipelineSync(c->conn);
	for (;;) {
		res = PQgetResult(c->conn);
		if (!res && PQstatus(c->conn) != CONNECTION_OK)
			break;
		if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC)
			break;
		if (!res)
			continue;
		/* An error makes those behind it PGRES_PIPELINE_ABORTED: the error is what is kept. */
		if (PQresultStatus(res) == PGRES_PIPELINE_ABORTED) {
			PQclear(res);
			continue;
		}
		if (is_new && !keep && PQresultStatus(res) == PGRES_FATAL_ERROR)
			free(c->prepared[--c->prepared_count].text);
		PQclear(keep);
		keep = res;
	}
	PQclear(res);
	PQexitPipelineMode(c->conn);
	return keep;
}

PGresult *session_query(struct client *c, const char *text, int n, const char *const *values)
{
	if (c->mode == MODE_PREPARED)
		return session_prepared(c, text, n, values);
	if (c->mode == MODE_PIPELINE)
		return session_pipeline(c, text, n, values);
	return PQexecParams(c->conn, text, n, NULL, values, NULL, NULL, 0);
}

bool session_check(struct client *c, PGresult *res, const char *sqlstate, const char *expected, const char *what)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE), *message = PQresultErrorMessage(res);
	ExecStatusType status = PQresultStatus(res);
	bool good = true;

	if (!state)
		state = status == PGRES_FATAL_ERROR || !res ? "no SQLSTATE" : "";
	if (strcmp(state, sqlstate) != 0)
		good = fail(c, "expected %s, got %s%s%s (%.100s)", *sqlstate ? sqlstate : "success",
			    *state ? state : "success", *message ? ", " : "", message, what);
	else if (expected && PQntuples(res) < 1)
		good = fail(c, "expected %.100s, got no row (%.100s)", expected, what);
	else if (expected && strcmp(PQgetvalue(res, 0, 0), expected) != 0)
		good = fail(c, "expected %.100s, got %.100s (%.100s)", expected, PQgetvalue(res, 0, 0), what);
	PQclear(res);
	return good;
}

bool session_do(struct client *c, const char *format, ...)
{
	char text[600];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return session_check(c, session_query(c, text, 0, NULL), "", NULL, text);
}

bool session_value(struct client *c, const char *expected, const char *text, const char *p1, const char *p2)
{
	const char *values[2] = { p1, p2 };

	return session_check(c, session_query(c, text, p2 ? 2 : p1 ? 1 : 0, values), "", expected, text);
}

bool session_fails(struct client *c, const char *sqlstate, const char *text, const char *p1)
{
	const char *values[1] = { p1 };

	return session_check(c, session_query(c, text, p1 ? 1 : 0, values), sqlstate, NULL, text);
}

bool session_works(struct client *c)
{
	return session_value(c, c->tag, "select $1::text", c->tag, NULL);
}

const char *session_table(struct client *c, const char *name)
{
	static __thread char table[80];

	snprintf(table, sizeof(table), "%s_%s_%d", c->id, name, c->number);
	return table;
}
