/*
 * What the end of a login means for its pool, and for the breakers of its
 * endpoint.
 */
#include "core/str.h"
#include "pool/backoff.h"
#include "pool/pool_int.h"
#include "pool/queue.h"

/* First delay after a failed login when backing off; doubles up to server_login_retry ... */
#define POOL_BACKOFF_US       100000

/* ... or up to this, while a breaker counts the failures. */
#define POOL_BREAKER_RETRY_US (1000 * 1000)

void pool_login_done(struct pool_part *part, struct permit *permit)
{
	struct pool *pool = part->pool;

	lock_acquire(&pool->lock);
	ASSERT(permit->logging_in && pool->logging_in > 0);
	pool->logging_in--;
	pool->dedicated_logins -= permit->is_dedicated;
	permit->logging_in = false;
	pool->login_failed = false;
	pool->failures = 0;
	lock_release(&pool->lock);
	if (permit->endpoint == NULL)
		return;
	endpoint_login_done(permit->endpoint);
	breaker_pass_succeed(&permit->pass,
			     FAILURE_BIT(FAILURE_CONNECT) | FAILURE_BIT(FAILURE_LOGIN) | FAILURE_BIT(FAILURE_OVERLOAD),
			     loop_now_us(part->worker->ctx.loop));
}

/* When the next attempt may begin: server_login_retry after this one did, or, backing off, some time from now. */
static uint64_t pool_retry_time_locked(const struct pool *pool, const struct pool_failure *failure, uint64_t now,
				       uint32_t dice)
{
	uint64_t delay = pool->conf->server_login_retry_us;

	/* Where a breaker counts, it says when there have been enough, and when to begin again. */
	if (pool->is_for_breaker && delay > POOL_BREAKER_RETRY_US)
		delay = POOL_BREAKER_RETRY_US;
	if (!pool->conf->backoff && !pool->is_for_breaker)
		return failure->started_us + (delay < POOL_BACKOFF_US ? POOL_BACKOFF_US : delay);
	if (pool->failures + 1 < pool->conf->endpoints.count)
		return now; /* there are others to be tried first */
	return now + backoff_delay(POOL_BACKOFF_US, delay, pool->failures, dice);
}

/* A login that has come as far as to be refused, or to be broken off, has found somebody who listens. */
static void pool_tell_breakers(struct permit *permit, const struct pool_failure *failure, uint64_t now)
{
	if (failure->has_connected)
		breaker_pass_succeed(&permit->pass, FAILURE_BIT(FAILURE_CONNECT), now);
	if (failure->is_refusal && failure->class != FAILURE_LOGIN)
		breaker_pass_succeed(&permit->pass, FAILURE_BIT(FAILURE_LOGIN), now);
	breaker_pass_fail(&permit->pass, failure->class, 0, failure->why, now);
}

void pool_login_failed(struct pool_part *part, struct permit *permit, const struct pool_failure *failure)
{
	struct pool *pool = part->pool;
	uint64_t now = loop_now_us(part->worker->ctx.loop);
	uint32_t dice = arc4random();
	bool is_for_breaker =
		failure->class != FAILURE_NONE && permit->pass.set != NULL && breaker_set_is_on(permit->pass.set);

	pool_tell_breakers(permit, failure, now);
	lock_acquire(&pool->lock);
	if (failure->counts) {
		pool->is_for_breaker = is_for_breaker;
		pool->retry_us = pool_retry_time_locked(pool, failure, now, dice);
		pool->login_failed = true;
		pool->failures++;
		queue_forget_locked(pool);
		str_copy(pool->failure, sizeof(pool->failure), failure->why);
		/* Several attempts may have gone to the same host; they are one reason to try the next. */
		if (pool->conf->db->load_balance_hosts != CONF_LOAD_BALANCE_ROUND_ROBIN &&
		    pool->host_turn == permit->host_turn)
			pool->host_turn++;
	}
	lock_release(&pool->lock);
	pool_permit_give(part, permit);
}

void pool_retry_for_breakers(struct pool *pool)
{
	lock_acquire(&pool->lock);
	if (pool->is_for_breaker)
		pool->retry_us = 0;
	lock_release(&pool->lock);
}

void pool_retry_for_roles(struct pool *pool)
{
	uint64_t seen = 0;

	lock_acquire(&pool->lock);
	for (unsigned i = 0; i < pool->conf->endpoints.count; i++)
		seen = seen * 64 + atomic_load(&pool->conf->endpoints.items[i]->facts) + 1;
	if (pool->roles_seen != seen)
		pool->retry_us = 0;
	pool->roles_seen = seen;
	lock_release(&pool->lock);
}
