/*
 * A look-up by query, as messages: what is sent, and what comes back. Pure:
 * bytes in, bytes out; auth_query.c has the connection.
 */
#ifndef PGSLUICE_POOL_AUTH_REPLY_H
#define PGSLUICE_POOL_AUTH_REPLY_H

#include "core/buf.h"
#include "core/str.h"
#include "proto/frame.h"

/* What is asked for. */
enum auth_kind {
	AUTH_KIND_USER,  /* the name and the secret of a user: two columns, the last row counts */
	AUTH_KIND_ROLES, /* the roles that a user is a member of: one column, a row each */
};

/* Longest message of an answer, and most of what is kept of one. */
#define AUTH_REPLY_MESSAGE_MAX (64 * 1024 - 1)
#define AUTH_REPLY_ROLES_MAX   10000
#define AUTH_REPLY_TEXT_MAX    512

/* The severity of an error that befell the asking connection while it waited for a server; see client.c. */
#define AUTH_REPLY_WAITED      "WAIT"

/*
 * Appends the batch that asks: the search path is set to pg_catalog for this
 * transaction, and the query runs with the user's name as its one parameter.
 * `own_path`: the search path is set back to what the auth_user's sessions
 * begin with instead, for queries whose names have no schema. 0, or what the
 * builders give.
 */
int auth_reply_build(struct buf *b, struct slice query, struct slice user, bool own_path) MUSTCHECK;

enum auth_reply_verdict {
	AUTH_REPLY_MORE,      /* another message is due */
	AUTH_REPLY_READY,     /* all is there: see the outcome */
	AUTH_REPLY_NO_SCHEMA, /* a name without a schema was not found; the connection is ready for another batch */
	AUTH_REPLY_BROKEN,    /* no good answer, and the connection is not to be used any more: see the text */
};

enum auth_reply_outcome {
	AUTH_OUTCOME_NONE,   /* no row */
	AUTH_OUTCOME_FOUND,  /* at least one */
	AUTH_OUTCOME_FAILED, /* the query or what it returned is no good: see the text */
	AUTH_OUTCOME_DOWN,   /* the database could not be asked: see the text */
};

/* An answer that is being read. Zero, with the kind, is the beginning. */
struct auth_reply {
	enum auth_kind kind;
	unsigned step; /* private */
	enum auth_reply_outcome outcome;
	bool waited;                    /* of a failure: there was no server yet; the text is the pooler's */
	char severity[16];              /* of an error of the server; empty for other failures */
	char text[AUTH_REPLY_TEXT_MAX]; /* of a failure */
	char sqlstate[6];               /* likewise */
	char *name;                     /* of the user; NULL: no row yet */
	char *secret;                   /* NULL: the row has none */
	char **roles;
	size_t role_count;
	size_t role_bytes; /* of their names */
};

/* Takes the next message, the greeting of the connection included. After AUTH_REPLY_MORE only. */
enum auth_reply_verdict auth_reply_feed(struct auth_reply *reply, uint8_t type, struct slice body);

/* Begins anew, after AUTH_REPLY_NO_SCHEMA: the answer to another batch comes. */
void auth_reply_again(struct auth_reply *reply);

/* The connection has ended where more was due: a failure. */
void auth_reply_cut(struct auth_reply *reply, const char *text);

/* Wipes and frees what was read. */
void auth_reply_fini(struct auth_reply *reply);

#endif
