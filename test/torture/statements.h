#ifndef TORTURE_STATEMENTS_H
#define TORTURE_STATEMENTS_H

/*
 * What a client believes of the prepared statements of its session. The shapes that use statements keep this model in
 * step with each message they write, as PostgreSQL would: a statement exists from the Parse that succeeds to the Close
 * or DEALLOCATE that is carried out, whatever becomes of the transaction around it.
 *
 * A statement is drawn, not invented: all clients draw from the same few texts, so that one name stands for different
 * texts in different clients, and one text is known under many names. What it answers is known to the byte.
 */
#include "rng.h"
#include "script.h"

#define N_NAMED     6 /* names that protocol-level statements have */
#define N_SQL_NAMES 3 /* names that PREPARE gives */

struct actor;

enum statement_kind {
	STATEMENT_NONE,   /* there is no such statement */
	STATEMENT_SHARED, /* the same text for all clients */
	STATEMENT_REMARK, /* the same, with the client's name in a comment */
	STATEMENT_TAGGED, /* the client's name is a literal */
	STATEMENT_TYPED,  /* parameters without casts, their types given by Parse or not */
	STATEMENT_ECHO,   /* returns a long parameter, too */
	STATEMENT_LARGE,  /* has a long text */
	STATEMENT_WRITE,  /* adds one to the client's counter */
	STATEMENT_FAILS,  /* fails when it is executed */
	STATEMENT_FOLDS,  /* fails when it is planned, at Bind */
	STATEMENT_BEGIN,  /* what drivers prepare, too */
	STATEMENT_COMMIT,
};

/* The text of a statement, drawn. */
struct statement {
	enum statement_kind kind;
	int digit; /* every row has it as its third column */
	int types; /* STATEMENT_TYPED: which types Parse gives */
	int fill;  /* STATEMENT_LARGE: bytes of a comment */
};

/* The statements of a session. */
struct statements {
	struct statement named[N_NAMED];
	struct statement unnamed;          /* as Parse left it; STATEMENT_NONE: not known, or there is none */
	bool unnamed_unsure;               /* the pooler may have lost it */
	struct statement sql[N_SQL_NAMES]; /* made by PREPARE */
};

/* Name number k, of those of the protocol and those of PREPARE. */
const char *statement_name(int k);
const char *statement_sql_name(int k);

/* A text that can be parsed, and may fail later. */
struct statement statement_draw(struct actor *a);
/* One that succeeds and returns a row. */
struct statement statement_draw_good(struct actor *a);

/* Writes the text. */
void statement_text(const struct statement *st, const struct actor *a, struct bytes *sql);

/* True when it returns rows. */
bool statement_has_rows(const struct statement *st);

/* The message that prepares it. */
void statement_send_parse(struct script *s, const struct actor *a, const char *name, const struct statement *st);

/* What Describe answers: of a statement its parameters first; of a portal only the columns. */
void statement_expect_params(struct script *s, const struct statement *st);
void statement_expect_columns(struct script *s, const struct statement *st, bool binary);

/*
 * A run of the statement: a counter is drawn, and for a write an operation of the ledger. Sends the Bind to a portal.
 * statement_expect_run() then says what Execute answers, for a statement that Bind did not refuse; *failed is set
 * when that ends in an error. Between both the caller may describe the portal.
 */
struct statement_run {
	int32_t seq;
	uint32_t op;
	bool binary; /* results in binary form */
	size_t fill; /* STATEMENT_ECHO: length of the long parameter */
};
struct statement_run statement_send_bind(struct script *s, struct actor *a, const char *portal, const char *name,
					 const struct statement *st);
void statement_send_execute(struct script *s, const char *portal, const struct statement *st,
			    const struct statement_run *run);
void statement_expect_run(struct script *s, const struct actor *a, const struct statement *st,
			  const struct statement_run *run, bool *failed);

/* All statements of the client are gone, those of shaped.h, too. */
void statements_forget(struct actor *a);

/* True when the client has made a statement by PREPARE. */
bool statements_any_sql(const struct statements *all);

#endif
