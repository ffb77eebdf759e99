#include "pool/retry.h"

#include "core/clock.h"
#include "pool/backoff.h"
#include "proto/classify.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/wire.h"

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

enum retry_cause retry_cause_of(struct slice sqlstate)
{
	for (int i = 0; i < RETRY_UNSENT; i++)
		if (slice_eq_str(sqlstate, retry_cause_sqlstate((enum retry_cause)i)))
			return (enum retry_cause)i;
	return RETRY_NO_CAUSE;
}

/* ---- what is repeated ---- */

/* A Parse; of an unnamed statement only. */
static bool retry_may_parse(struct slice body)
{
	struct reader r;

	rd_init_slice(&r, body);
	return rd_cstr(&r).n == 0 && classify_is_plain(rd_rest(&r));
}

/* The messages of a batch, by kind: it may have one each, but for descriptions. */
struct retry_batch {
	unsigned parses;
	unsigned describes;
	unsigned binds;
	unsigned executes;
	unsigned ends;
	struct slice portal; /* that was bound */
};

/* A Bind: of the text that has just been parsed, or of a statement whose text is known. */
static bool retry_may_bind(struct retry_batch *batch, struct slice body, const struct retry_names *names)
{
	struct slice name;
	struct slice sql;
	struct reader r;

	rd_init_slice(&r, body);
	batch->portal = rd_cstr(&r);
	name = rd_cstr(&r);
	if (r.err != 0)
		return false;
	if (name.n == 0 && batch->parses == 1)
		return true;
	return names->find(names->arg, name, &sql) && classify_is_plain(sql);
}

/* An Execute: of what was bound, not of a portal from before. */
static bool retry_may_execute(const struct retry_batch *batch, struct slice body)
{
	struct slice portal;
	struct reader r;

	rd_init_slice(&r, body);
	portal = rd_cstr(&r);
	return r.err == 0 && batch->binds == 1 && slice_eq(portal, batch->portal);
}

/* The next message of the batch; false when it cannot be a part of one that is repeated. */
static bool retry_add(struct retry_batch *batch, uint8_t type, struct slice body, const struct retry_names *names)
{
	if (batch->ends > 0)
		return false;
	switch (type) {
	case FE_QUERY:
		batch->ends++;
		return batch->parses + batch->describes + batch->binds == 0 && classify_is_plain(body);
	case FE_PARSE:
		return batch->parses++ == 0 && batch->binds == 0 && retry_may_parse(body);
	case FE_BIND:
		return batch->binds++ == 0 && retry_may_bind(batch, body, names);
	case FE_DESCRIBE:
		batch->describes++;
		return true;
	case FE_EXECUTE:
		return batch->executes++ == 0 && retry_may_execute(batch, body);
	case FE_SYNC:
		batch->ends++;
		return batch->executes == 1;
	default:
		return false;
	}
}

bool retry_is_repeatable(struct slice sent, const struct retry_names *names)
{
	struct retry_batch batch = { 0 };
	size_t at = 0;

	while (at < sent.n) {
		const uint8_t *p = (const uint8_t *)sent.p + at;
		struct frame f;

		if (frame_read(p, sent.n - at, sent.n, &f) != 0 || f.size > sent.n - at ||
		    !retry_add(&batch, f.type, slice_make(p + FRAME_HEADER, (size_t)f.size - FRAME_HEADER), names))
			return false;
		at += (size_t)f.size;
	}
	return batch.ends == 1;
}

/* ---- whether it is ---- */

void retry_budget_init(struct retry_budget *b)
{
	b->hundredths = RETRY_SAVINGS * 100;
}

enum retry_outcome retry_decide(struct retry_budget *b, const struct retry_case *c, uint64_t *delay_us)
{
	ASSERT(c->runs > 0);
	/* Who has met a dead server goes to another one at once: nothing was in its way there. */
	*delay_us = c->cause == RETRY_UNSENT ? 0 : backoff_delay(RETRY_BASE_US, RETRY_CAP_US, c->runs - 1, c->dice);
	if (c->cause == RETRY_NO_CAUSE || !c->is_repeatable || c->in_block)
		return RETRY_NOT_MEANT;
	if (c->runs >= c->max_runs)
		return RETRY_NO_ATTEMPTS;
	if (c->limit_us > 0 && (c->spent_us >= c->limit_us || *delay_us >= c->limit_us - c->spent_us))
		return RETRY_NO_TIME;
	if (b->hundredths < 100)
		return RETRY_NO_BUDGET;
	if (c->has_begun)
		return RETRY_BEGUN;
	b->hundredths -= 100;
	return RETRY_RETRIED;
}
