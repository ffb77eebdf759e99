/*
 * Whether a statement that has failed may be run again: attempts, time, and a
 * budget. Pure; the clock and the dice are the caller's.
 */
#ifndef PGSLUICE_POOL_RETRY_H
#define PGSLUICE_POOL_RETRY_H

#include "core/base.h"

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
};

const char *retry_cause_sqlstate(enum retry_cause cause);

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
	unsigned runs;     /* that have failed, this one included */
	unsigned max_runs; /* that may be made at all */
	uint64_t spent_us; /* since the client has sent it */
	uint64_t limit_us; /* that it may take; 0: no limit */
	uint32_t dice;     /* 32 random bits */
};

/*
 * RETRY_RETRIED: it is to be run again, *delay_us from now, and the budget was
 * charged; else why not, RETRY_NO_*.
 */
enum retry_outcome retry_decide(struct retry_budget *b, const struct retry_case *c, uint64_t *delay_us) MUSTCHECK;

#endif
