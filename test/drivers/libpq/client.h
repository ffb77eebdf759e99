#ifndef DRIVERS_LIBPQ_CLIENT_H
#define DRIVERS_LIBPQ_CLIENT_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * The scenario with libpq: a client is a thread with a connection. Functions that return bool say false when something
 * else came than was expected; what that was stands in client->why then, the first word of it wins. A step does not go
 * on after that.
 */

#define MAX_PREPARED 512

enum mode { MODE_DEFAULT, MODE_PREPARED, MODE_PIPELINE };

/* A statement that session_query() has prepared. */
struct prepared {
	char *text;
	char name[16];
};

struct client {
	int number;                /* counts from 0 */
	enum mode mode;            /* how session_query() sends */
	const char *id;            /* of this run */
	char tag[64];              /* of this client */
	PGconn *conn;              /* NULL while there is none */
	struct prepared *prepared; /* by session_query() on this connection, MAX_PREPARED of them */
	int prepared_count;
	char why[600]; /* why the step failed; "" when it did not */
};

/* A step: what main() prints about it and what each client does. */
struct step {
	const char *name;
	bool (*run)(struct client *c);
};

extern const struct step STEPS[];
extern const int STEPS_COUNT;

/* Writes down why the step fails, unless something is known already. Returns false. */
bool fail(struct client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Connects; `options` are further keywords of a connection string, or "". */
bool session_connect(struct client *c, const char *options);
void session_disconnect(struct client *c);

/*
 * One statement in the client's mode, with `n` parameters in text format. Returns its last result, which the caller
 * clears; never NULL.
 */
PGresult *session_query(struct client *c, const char *text, int n, const char *const *values);

/* A statement without parameters whose success is all that matters. */
bool session_do(struct client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The value in the first row and column is `expected`; at most two parameters, NULL ends them. */
bool session_value(struct client *c, const char *expected, const char *text, const char *p1, const char *p2);

/* The statement fails with `sqlstate`. */
bool session_fails(struct client *c, const char *sqlstate, const char *text, const char *p1);

/* A good statement, and an own one: the tag comes back. */
bool session_works(struct client *c);

/* Checks a result: its SQLSTATE ("" for success), and the value in row 0 when `expected` is not NULL. Clears it. */
bool session_check(struct client *c, PGresult *res, const char *sqlstate, const char *expected, const char *what);

/* The table of this client of that name; valid until the next call in the thread. */
const char *session_table(struct client *c, const char *name);

#endif
