/*
 * The rate is that of grants to clients of the queue per time in which somebody
 * waits: while nobody does, servers are idle, and what they could do is not
 * seen. So there is a clock that runs only while the queue is not empty, and a
 * mark of it, with the number of grants, at the end of each round. A round is
 * about one grant per server: transactions that are equally long end together,
 * and a look at half of such a wave would see twice the rate, or none. From the
 * oldest mark to now are QUEUE_MARKS - 1 rounds and the one that runs.
 *
 *     mark        mark        mark        mark        mark        now
 *      |   round   |   round   |   round   |   round   | the next  |
 *      |<----------------- grants / busy time -------------------->|
 *
 * Refusing somebody who would have been served is worse than letting somebody
 * wait in vain, as without this. Hence:
 * - Nothing is known before QUEUE_MARKS - 1 rounds are complete.
 * - What was learnt is forgotten when the pool has grown, when the queue was
 *   empty for long, when the owner says that service stood still, and at a
 *   grant before which nothing happened for longer than in all rounds together:
 *   something was down, and is up again.
 * - Whoever is among the first, as many as there are servers, is not refused:
 *   their turn comes with the next transactions that end.
 * - The estimate has to exceed the limit by a quarter, the part that a wave may
 *   account for, except for newcomers while others are being refused, so that
 *   these are not let in and refused by turns.
 */
#include "pool/queue_estimate.h"

static void queue_advance(struct queue_estimate *e, uint64_t now_us)
{
	if (now_us <= e->at_us)
		return;
	if (e->is_busy)
		e->busy_us += now_us - e->at_us;
	e->at_us = now_us;
}

static void queue_mark(struct queue_estimate *e)
{
	e->marks[e->mark_count++ % QUEUE_MARKS] = (struct queue_mark){ .busy_us = e->busy_us, .grants = e->grants };
}

static const struct queue_mark *queue_oldest(const struct queue_estimate *e)
{
	return &e->marks[e->mark_count < QUEUE_MARKS ? 0 : e->mark_count % QUEUE_MARKS];
}

static const struct queue_mark *queue_newest(const struct queue_estimate *e)
{
	return &e->marks[(e->mark_count - 1) % QUEUE_MARKS];
}

static bool queue_is_known(const struct queue_estimate *e)
{
	return e->mark_count >= QUEUE_MARKS;
}

void queue_estimate_reset(struct queue_estimate *e)
{
	e->mark_count = 0;
	e->is_shedding = false;
}

void queue_estimate_begin(struct queue_estimate *e, uint64_t now_us)
{
	if (now_us > e->at_us && now_us - e->at_us > QUEUE_STALE_US)
		queue_estimate_reset(e);
	queue_advance(e, now_us);
	e->is_busy = true;
}

void queue_estimate_end(struct queue_estimate *e, uint64_t now_us)
{
	queue_advance(e, now_us);
	e->is_busy = false;
}

/* True when what was learnt is not what the pool does now. */
static bool queue_is_outdated(const struct queue_estimate *e, unsigned servers)
{
	if (servers > e->servers + e->servers / 8)
		return true;
	return queue_is_known(e) && e->busy_us - e->granted_us > e->granted_us - queue_oldest(e)->busy_us;
}

static bool queue_round_is_over(const struct queue_estimate *e)
{
	const struct queue_mark *begin = queue_newest(e);
	unsigned grants = e->servers > QUEUE_ROUND_GRANTS ? e->servers : QUEUE_ROUND_GRANTS;

	return e->grants - begin->grants >= grants && e->busy_us - begin->busy_us >= QUEUE_ROUND_US;
}

void queue_estimate_grant(struct queue_estimate *e, unsigned servers, uint64_t now_us)
{
	queue_advance(e, now_us);
	if (UNLIKELY(queue_is_outdated(e, servers)))
		queue_estimate_reset(e);
	e->servers = servers;
	e->grants++;
	e->granted_us = e->busy_us;
	if (UNLIKELY(e->mark_count == 0) || UNLIKELY(queue_round_is_over(e)))
		queue_mark(e);
}

uint64_t queue_estimate_wait(const struct queue_estimate *e, uint64_t position, uint64_t now_us)
{
	const struct queue_mark *from = queue_oldest(e);
	unsigned __int128 wait;
	uint64_t busy_us;

	if (!queue_is_known(e))
		return QUEUE_UNKNOWN;
	busy_us = e->busy_us - from->busy_us + (e->is_busy && now_us > e->at_us ? now_us - e->at_us : 0);
	wait = (unsigned __int128)busy_us * position / (e->grants - from->grants);
	return wait < QUEUE_UNKNOWN ? (uint64_t)wait : QUEUE_UNKNOWN - 1;
}

/* True when the estimate is known and exceeds the limit by more than the margin. */
static bool queue_is_too_long(const struct queue_estimate *e, uint64_t position, uint64_t limit_us, uint64_t margin_us,
			      uint64_t now_us, uint64_t *wait_us)
{
	if (limit_us == QUEUE_UNKNOWN || position <= e->servers)
		return false;
	*wait_us = queue_estimate_wait(e, position, now_us);
	return *wait_us != QUEUE_UNKNOWN && *wait_us > limit_us && *wait_us - limit_us > margin_us;
}

bool queue_estimate_refuses(struct queue_estimate *e, uint64_t position, uint64_t limit_us, uint64_t now_us,
			    uint64_t *wait_us)
{
	uint64_t margin_us = e->is_shedding ? 0 : limit_us / 4;

	e->is_shedding = queue_is_too_long(e, position, limit_us, margin_us, now_us, wait_us);
	return e->is_shedding;
}

bool queue_estimate_is_hopeless(const struct queue_estimate *e, uint64_t position, uint64_t left_us, uint64_t now_us,
				uint64_t *wait_us)
{
	return queue_is_too_long(e, position, left_us, left_us / 4, now_us, wait_us);
}
