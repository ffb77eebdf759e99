/*
 * Whether a statement that has failed is run again: what it is, what it has
 * failed for, attempts, time, and a budget. Pure; the clock and the dice are the
 * caller's.
 */
#ifndef PGSLUICE_POOL_RETRY_H
#define PGSLUICE_POOL_RETRY_H

#include "core/base.h"
#include "core/str.h"

/* Why a statement has failed: X(id, SQLSTATE) */
#define RETRY_CAUSES(X)      \
	X(CONFLICT, "40001") \
	X(DEADLOCK, "40P01") \
	X(UNSENT, "08006") /* its server was lost before anything of it was sent */

enum retry_cause {
#define X(id, sqlstate) RETRY_##id,
	RETRY_CAUSES(X)
#undef X
		RETRY_CAUSES_N,
	RETRY_NO_CAUSE = RETRY_CAUSES_N,
};

/* What came of it: X(id, column of SHOW RETRIES, help) */
#define RETRY_OUTCOMES(X)                                                                             \
	X(RETRIED, "retried", "runs that were repeated")                                              \
	X(SUCCEEDED, "succeeded", "statements that a repetition has brought to success")              \
	X(NO_ATTEMPTS, "gave_up_attempts", "failures told, since retry_max_attempts runs had failed") \
	X(NO_TIME, "gave_up_deadline", "failures told, since query_timeout would have passed")        \
	X(NO_BUDGET, "gave_up_budget", "failures told, since retry_budget was used up")               \
	X(BEGUN, "gave_up_begun", "failures told, since a part of the answer had gone to the client")

enum retry_outcome {
#define X(id, column, help) RETRY_##id,
	RETRY_OUTCOMES(X)
#undef X
		RETRY_OUTCOMES_N,
	RETRY_NOT_MEANT = RETRY_OUTCOMES_N, /* it is none that is ever repeated, and not counted */
};

const char *retry_cause_sqlstate(enum retry_cause cause);

/* What an error of the server with this SQLSTATE is a cause of: RETRY_NO_CAUSE: none. A loss has none from the server.
 */
enum retry_cause retry_cause_of(struct slice sqlstate);

/* ---- what is repeated ---- */

/* The texts of prepared statements, "" being the unnamed one. */
struct retry_names {
	bool (*find)(void *arg, struct slice name, struct slice *sql); /* false: it is not known */
	void *arg;
};

/*
 * True when these bytes of a client are, as a whole, one statement that may be
 * repeated: a SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES, TABLE or WITH, by a
 * Query, or by an extended batch that ends with its Sync and names no new
 * statement. The rest of a message that is missing makes it false. Any thread.
 */
bool retry_is_repeatable(struct slice sent, const struct retry_names *names) MUSTCHECK;

/* ---- the budget ---- */

/* Repetitions that may be made without having been earned, and the most that are saved up. */
#define RETRY_SAVINGS 10

/*
 * Every statement earns a share of a repetition, and every repetition costs a
 * whole one; so repetitions are never more than that share of the statements,
 * besides the savings.
 */
struct retry_budget {
	uint32_t hundredths;
};

void retry_budget_init(struct retry_budget *b);

/* A statement was sent for the first time; `percent`: the share. */
static inline void retry_budget_earn(struct retry_budget *b, unsigned percent)
{
	b->hundredths += percent;
	if (b->hundredths > RETRY_SAVINGS * 100)
		b->hundredths = RETRY_SAVINGS * 100;
}

/* ---- the decision ---- */

/* A statement has failed. */
struct retry_case {
	enum retry_cause cause;
	bool is_repeatable; /* all that was sent: retry_is_repeatable() */
	bool in_block;      /* a transaction block was open when it was sent */
	bool has_begun;     /* a part of the answer has gone to the client */
	unsigned runs;      /* that have failed, this one included: at least 1 */
	unsigned max_runs;  /* that may be made at all */
	uint64_t spent_us;  /* since the client has sent it */
	uint64_t limit_us;  /* that it may take; 0: no limit */
	uint32_t dice;      /* 32 random bits */
};

/*
 * RETRY_RETRIED: it is to be run again, *delay_us from now, and the budget was
 * charged; else why not. What has begun is asked for last: RETRY_BEGUN is told of
 * what would have been repeated otherwise.
 */
enum retry_outcome retry_decide(struct retry_budget *b, const struct retry_case *c, uint64_t *delay_us) MUSTCHECK;

#endif
