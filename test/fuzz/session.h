/*
 * A model of one PostgreSQL session, for what passes through a pooler: named
 * and unnamed statements and portals, transactions, pipelines with their
 * errors, COPY. It is a function of the messages it is given, so two models
 * that are given the same say the same: one that a client would have for
 * itself, and those behind the pooler.
 *
 * What a text does is told by its first word: begin, commit, rollback, bad
 * (does not parse), fail (fails when it is run), copyin, copyout, none (no
 * row), big (a long row comes first), alter (changes the schema: statements
 * parsed before it that return rows must be parsed again), deallocate. All else
 * is one row, which says the text and the value that was bound.
 */
#ifndef PGSLUICE_TEST_SESSION_H
#define PGSLUICE_TEST_SESSION_H

#include "core/base.h"
#include "core/buf.h"
#include "core/str.h"

#define SESSION_TEXT       96
#define SESSION_NAME       64
#define SESSION_STATEMENTS 64
#define SESSION_PORTALS    3

/* What is said of a name that nobody has given. */
#define SESSION_MISSING    "no such statement"

struct session_statement {
	char name[SESSION_NAME]; /* "" is the unnamed one */
	char text[SESSION_TEXT];
	unsigned schema; /* as it was then */
	bool is;
};

struct session_portal {
	char name[SESSION_NAME];
	char text[SESSION_TEXT];
	char value[SESSION_TEXT];
	bool is;
	bool done; /* was run to its end */
};

struct session {
	char status;      /* as ReadyForQuery tells it */
	bool skip;        /* an extended message failed: nothing is answered up to the Sync */
	bool copying;     /* reads COPY data */
	bool copy_simple; /* ... for a simple query */
	bool dead;        /* has met what ends a session */
	unsigned *schema; /* changed by "alter", and shared by the sessions of one database; NULL: never changes */
	struct session_statement statements[SESSION_STATEMENTS];
	struct session_portal portals[SESSION_PORTALS];
};

/* As after the login, to a database whose schema is counted in *schema. */
void session_init(struct session *s, unsigned *schema);

/* Takes one message of the frontend and appends the answers. */
void session_take(struct session *s, uint8_t type, struct slice body, struct buf *out);

/* How many named statements there are. */
unsigned session_count(const struct session *s);

/* The text of a statement, or NULL. */
const char *session_text(const struct session *s, const char *name);

/* Loses all statements, as by a function that nobody has seen. */
void session_lose(struct session *s);

#endif
