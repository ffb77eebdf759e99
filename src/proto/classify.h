/*
 * What the statements of one SQL text do to a session, as far as their words
 * tell: how many there are, and of which kinds. Nothing is parsed; the text is
 * taken apart by PostgreSQL's lexical rules, and the first words of each
 * statement decide.
 *
 * A text that PostgreSQL accepts is judged exactly as far as the kinds below
 * go; in doubt (INTO TEMP may name a table) the kind that binds the session
 * wins. Of a text that it refuses as a whole, for its syntax, nothing is run,
 * so what is said about it does not matter. What no word shows stays unseen:
 * set_config(), what functions, CALL and DO do, advisory locks.
 *
 * The text is taken to be in an encoding whose characters beyond ASCII consist
 * of bytes above 127, as all encodings of servers are. With a client_encoding
 * that is not so (SJIS, BIG5, GBK, UHC, GB18030, JOHAB) a second byte may look
 * like a backslash, which matters in strings with escapes.
 *
 * Constant memory, no recursion; a text may come in pieces, cut anywhere.
 */
#ifndef PGSLUICE_PROTO_CLASSIFY_H
#define PGSLUICE_PROTO_CLASSIFY_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

/* An identifier's longest, with NUL: PostgreSQL's NAMEDATALEN. What is longer counts by its first 63 bytes. */
#define CLASSIFY_NAME_SIZE 64

/* Kinds of statements: X(id, name) */
#define CLASSIFY_KINDS(X)                                                    \
	X(OTHER, "OTHER")           /* nothing of the below */               \
	X(PREPARE, "PREPARE")       /* SQL's own prepared statements */      \
	X(EXECUTE, "EXECUTE")       /* alone, in EXPLAIN, in CREATE TABLE */ \
	X(DEALLOCATE, "DEALLOCATE") /* one name */                           \
	X(DEALLOCATE_ALL, "DEALLOCATE ALL")                                  \
	X(DISCARD_ALL, "DISCARD ALL")                                        \
	X(DISCARD, "DISCARD") /* PLANS, SEQUENCES, TEMP */                   \
	X(LISTEN, "LISTEN")                                                  \
	X(UNLISTEN, "UNLISTEN")                                              \
	X(HOLD, "DECLARE WITH HOLD")                                         \
	X(SET, "SET")             /* SET and RESET, for the session */       \
	X(RESET_ALL, "RESET ALL") /* besides SET */                          \
	X(TEMP, "TEMP")           /* something temporary is created */       \
	X(LOAD, "LOAD")                                                      \
	X(TRANSACTION, "TRANSACTION") /* begin, end, savepoints */           \
	X(COMMIT, "COMMIT")           /* besides it: COMMIT, END */          \
	X(ROLLBACK, "ROLLBACK")       /* ... ROLLBACK, ABORT */              \
	X(CHAIN, "CHAIN")             /* ... AND CHAIN */                    \
	X(PREPARE_TRANSACTION, "PREPARE TRANSACTION")                        \
	X(COPY, "COPY")                                                      \
	X(DDL, "DDL") /* the rest of CREATE, ALTER, DROP */

enum classify_kind {
#define CLASSIFY_KIND_ID(id, name) CLASSIFY_##id,
	CLASSIFY_KINDS(CLASSIFY_KIND_ID)
#undef CLASSIFY_KIND_ID
		CLASSIFY_KINDS_N,
};

/* The bit of a kind in classify.kinds. */
#define CLASSIFY_BIT(kind) (UINT32_C(1) << (kind))

#define CLASSIFY_F_SCS     1u /* standard_conforming_strings is on */

struct classify_name {
	char text[CLASSIFY_NAME_SIZE]; /* not NUL-terminated */
	uint8_t n;                     /* 0: none */
};

/* The state of one text. Read `statements`, `kinds` and `name`, after classify_end() only. */
struct classify {
	uint64_t statements;       /* how many that are not empty */
	uint32_t kinds;            /* CLASSIFY_BIT() of each kind seen */
	struct classify_name name; /* of the last DEALLOCATE, as the server stores it; none when more followed */

	uint32_t pending;          /* kinds of the statement under way */
	uint8_t flags;             /* CLASSIFY_F_* */
	uint8_t lex;               /* enum classify_lex: inside of what the next byte is */
	uint8_t at;                /* enum classify_at: how far the statement's words have matched */
	uint8_t string;            /* enum classify_string: of the string under way */
	uint8_t matched;           /* bytes of a dollar quote's end that have matched */
	char before;               /* in a comment: the byte before, when it matters */
	bool direct;               /* the byte before was a string's closing quote */
	bool newline;              /* there was a line's end since that quote */
	bool begun;                /* the statement under way is not empty */
	bool cut;                  /* the dollar tag under way is longer than kept */
	bool too_long;             /* its quote cannot be followed; the rest is not looked at */
	bool ended;                /* met a NUL */
	uint64_t depth;            /* of parentheses */
	uint64_t comments;         /* of comments */
	uint64_t bodies;           /* of BEGIN ATOMIC */
	struct classify_name word; /* the word, quoted identifier or dollar tag under way */
};

/* Begins a text; flags: CLASSIFY_F_*. */
void classify_init(struct classify *c, unsigned flags);

/* The next n bytes of the text, in time proportional to n; a NUL ends it, and what follows one is ignored. */
void classify_feed(struct classify *c, const char *p, size_t n);

/*
 * The end of the text. Returns 0; -E_SYNTAX when it ends inside of a string,
 * identifier or comment, which the server refuses as a whole; -E_TOOBIG when a
 * dollar quote has a tag of 64 bytes or more, behind which nothing was seen.
 */
int classify_end(struct classify *c) MUSTCHECK;

/* The name of a kind, for logs. */
const char *classify_kind_name(enum classify_kind kind);

enum classify_deallocate {
	CLASSIFY_DEALLOCATE_NONE,  /* the text is something else */
	CLASSIFY_DEALLOCATE_NAME,  /* exactly one DEALLOCATE [PREPARE] name */
	CLASSIFY_DEALLOCATE_EVERY, /* exactly one DEALLOCATE [PREPARE] ALL */
};

/*
 * Whether the whole text is one DEALLOCATE, with or without semicolons,
 * comments and white space around. `scs`: standard_conforming_strings is on.
 * The name is decoded as an identifier is: ASCII letters in lower case unless
 * quoted, doubled quotes undone, the first 63 bytes; of U&"" it is NONE. Reads
 * little of a long text that is something else.
 */
enum classify_deallocate classify_deallocate(struct slice sql, bool scs, struct classify_name *name);

/* What a text does to the transaction block that it is sent in, or not in; in rising order of what follows from it. */
enum classify_effect {
	CLASSIFY_EFFECT_NONE,
	CLASSIFY_EFFECT_ROLLBACK, /* it is one ROLLBACK or ABORT, and begins no other */
	CLASSIFY_EFFECT_COMMIT,   /* it is one COMMIT, END or PREPARE TRANSACTION, likewise */
	CLASSIFY_EFFECT_BLOCK,    /* it may begin one, and commits none */
	CLASSIFY_EFFECT_COMMITS,  /* it may commit one, and may begin one */
	CLASSIFY_EFFECT_UNSEEN,   /* nobody knows */
};

/* The effect of two texts that are run together. */
static inline enum classify_effect classify_effect_join(enum classify_effect a, enum classify_effect b)
{
	enum classify_effect low = a < b ? a : b;
	enum classify_effect high = a < b ? b : a;

	return low == CLASSIFY_EFFECT_COMMIT && high == CLASSIFY_EFFECT_BLOCK ? CLASSIFY_EFFECT_COMMITS : high;
}

/* The effect of a text; the greater one where that depends on standard_conforming_strings. */
enum classify_effect classify_effect(struct slice sql);

/* The same of a text that comes in pieces. */
struct classify_pieces {
	struct classify with;    /* standard_conforming_strings ... */
	struct classify without; /* ... or not; once there was a backslash, before which it makes no difference */
	bool is_split;
};

void classify_pieces_init(struct classify_pieces *p);
void classify_pieces_feed(struct classify_pieces *p, struct slice sql);
enum classify_effect classify_pieces_end(struct classify_pieces *p) MUSTCHECK;

/* True for one statement that reads or changes rows, and does nothing else, whatever standard_conforming_strings is. */
bool classify_is_plain(struct slice sql);

/* True when there is a RESET ALL or DISCARD ALL in the text, as far as it has come. */
bool classify_resets_all(struct slice sql);

/* True when another statement may follow the first one: there is a semicolon that is not at the end. */
static inline bool classify_may_be_several(const char *p, size_t n)
{
	if (n > 0 && p[n - 1] == '\0')
		n--;
	if (n > 0 && p[n - 1] == ';')
		n--;
	return n > 0 && memchr(p, ';', n) != NULL;
}

/*
 * The price of a look: false when the first statement certainly has no effect.
 * Says nothing about further statements. It needs CLASSIFY_TRANSACT_MIN bytes
 * behind the blanks, unless there are no more.
 */
#define CLASSIFY_TRANSACT_MIN 3

static inline bool classify_may_transact(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r')))
		i++;
	if (n - i < 3)
		return false;
	switch (p[i] | 0x20) {
	case 'a':
		return (p[i + 1] | 0x20) == 'b';
	case 'b':
	case 'r':
	case '-':
	case '/':
	case ';':
		return true;
	case 'c':
		return (p[i + 1] | 0x20) == 'o';
	case 'e':
		return (p[i + 1] | 0x20) == 'n';
	case 'p':
		return (p[i + 1] | 0x20) == 'r' && (p[i + 2] | 0x20) == 'e';
	case 's':
		return (p[i + 2] | 0x20) == 'a';
	default:
		return false;
	}
}

/*
 * The price of a look, for texts that begin with it, or with a SET in front:
 * false when the first statement is certainly not SET, RESET or DISCARD. Says
 * nothing about further statements, nor what stands behind a comment. It needs
 * CLASSIFY_RESET_MIN bytes behind the blanks.
 */
#define CLASSIFY_RESET_MIN 3

static inline bool classify_may_reset(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r')))
		i++;
	if (n - i < CLASSIFY_RESET_MIN)
		return false;
	switch (p[i] | 0x20) {
	case 'd':
	case 'r':
		return (p[i + 2] | 0x20) == 's';
	case 's':
		return (p[i + 2] | 0x20) == 't';
	default:
		return false;
	}
}

/*
 * The price of a look: false when the text's first statement is certainly not
 * PREPARE, EXECUTE, DEALLOCATE, DISCARD, EXPLAIN or CREATE. Says nothing about
 * further statements.
 */
static inline bool classify_may_touch_session(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r')))
		i++;
	if (i == n)
		return false;
	switch (p[i] | 0x20) {
	case 'c':
	case 'd':
	case 'e':
	case 'p':
		return true;
	default:
		return p[i] == '-' || p[i] == '/' || p[i] == ';';
	}
}

#endif
