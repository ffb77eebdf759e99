#ifndef TORTURE_PIECE_H
#define TORTURE_PIECE_H

/*
 * A piece is one SQL statement with all that it must answer. Shapes make pieces and wrap them in the messages of the
 * simple or the extended protocol; script.h keeps the joined result.
 */
#include "actor.h"
#include "script.h"

#define PIECE_MAX_COLS 4

enum piece_kind {
	PIECE_PLAIN,   /* one row: who, seq */
	PIECE_ENV,     /* one row: who, seq, the session parameters */
	PIECE_SERIES,  /* several rows with a number each, and sometimes filler */
	PIECE_NONE,    /* no row */
	PIECE_ERROR,   /* a few rows, then an error (22P02) while it runs */
	PIECE_MISSING, /* fails when it is analysed (42P01) */
	PIECE_SYNTAX,  /* cannot be parsed (42601); alone in a query string only */
	PIECE_WRITE,   /* adds one to the client's counter and one row to its log, and returns a row */
	PIECE_NOTICE,  /* raises a notice, no rows */
	PIECE_BIG,     /* one row whose last column has a chosen size and looks like protocol messages */
	PIECE_ECHO,    /* the same, but the bytes are sent by the client first; with PIECE_EXT a parameter */
	PIECE_SLEEP,   /* one row after a while */
	PIECE_VERB,    /* text and tag given by piece_verb() */
	PIECE_CONFIG,  /* by piece_config() */
};

#define PIECE_EXT    1 /* for the extended protocol: may have parameters */
#define PIECE_BINARY 2 /* result columns in binary form */

struct col {
	const char *name;
	uint32_t oid;
};

struct piece {
	enum piece_kind kind;
	bool binary;         /* results are binary */
	bool fails_early;    /* the error comes when it is parsed, before any row description */
	struct bytes sql;    /* the statement, no semicolon */
	struct bytes params; /* values for Bind */
	int n_params;
	uint32_t param_oids[3];
	struct col cols[PIECE_MAX_COLS];
	int n_cols;
	struct bytes rows; /* bodies of its DataRows, one behind the other */
	size_t *row_ends;
	size_t n_rows, cap_rows;
	char tag[32];      /* of CommandComplete */
	char sqlstate[6];  /* of the error; "" when it succeeds */
	char text[96];     /* part of the message of the error or notice */
	uint32_t op;       /* PIECE_WRITE: number in the ledger */
	size_t row_bytes;  /* PIECE_BIG, PIECE_ECHO: wanted length of the DataRow message; set before piece_make() */
	unsigned sleep_ms; /* PIECE_SLEEP: set before piece_make() */
};

/* Writes a piece of a kind; flags are PIECE_EXT and PIECE_BINARY. The piece is all-zero or was used before. */
void piece_make(struct piece *p, struct actor *a, enum piece_kind kind, unsigned flags);

/* A statement without rows. */
void piece_verb(struct piece *p, const char *sql, const char *tag);

/* One that calls set_config() and returns its result. */
void piece_config(struct piece *p, struct actor *a, int param, const char *value, bool local, unsigned flags);

/* The piece fails with this error before it returns anything. */
void piece_fail(struct piece *p, const char *sqlstate, const char *text);

/* Appends text as a literal of SQL. */
void piece_literal(struct bytes *sql, const char *text);

void piece_free(struct piece *p);

/* A kind for a statement that succeeds and writes nothing. */
enum piece_kind piece_pick_good(struct actor *a);

/* Expectations: the row description (nothing for a piece without columns), and all rows and the end. */
void piece_expect_description(struct script *s, const struct piece *p, bool binary);
void piece_expect_rows(struct script *s, const struct piece *p, size_t first, size_t count);
void piece_expect_end(struct script *s, const struct piece *p);
/* All that a simple query answers for this statement, without ReadyForQuery. */
void piece_expect_simple(struct script *s, const struct piece *p);

/* Appends n bytes that look like messages of the protocol; with zeros only when binary. */
void piece_filler(struct bytes *b, unsigned variant, size_t n, bool binary);

#endif
