#include "pool/retry.h"

#include "core/clock.h"
#include "pool/backoff.h"

/* Between two runs: a conflict is over when the other transaction is, which takes milliseconds. */
#define RETRY_BASE_US 10000
#define RETRY_CAP_US  USEC_PER_SEC

const char *retry_cause_sqlstate(enum retry_cause cause)
{
	static const char *const states[] = {
#define X(id, sqlstate) sqlstate,
		RETRY_CAUSES(X)
#undef X
	};

	ASSERT(cause < RETRY_CAUSES_N);
	return states[cause];
}

void retry_budget_init(struct retry_budget *b)
{
	b->hundredths = RETRY_SAVINGS * 100;
}

enum retry_outcome retry_decide(struct retry_budget *b, const struct retry_case *c, uint64_t *delay_us)
{
	*delay_us = backoff_delay(RETRY_BASE_US, RETRY_CAP_US, c->runs - 1, c->dice);
	if (c->runs >= c->max_runs)
		return RETRY_NO_ATTEMPTS;
	if (c->limit_us > 0 && (c->spent_us >= c->limit_us || *delay_us >= c->limit_us - c->spent_us))
		return RETRY_NO_TIME;
	if (b->hundredths < 100)
		return RETRY_NO_BUDGET;
	b->hundredths -= 100;
	return RETRY_RETRIED;
}
