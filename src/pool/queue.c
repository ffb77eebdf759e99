/*
 * The queue is one list for all workers, in order of arrival, and a list of its
 * own clients for each part. Clients that need a server of their own stand in
 * another one, see dedicated.c.
 *
 * Two rules end a wait before it begins, or before its time is over: the
 * length of the queue (max_waiting_clients), and its speed (queue_shed). Whoever
 * is refused has nothing under way, as a client inside of a transaction has its
 * server; so it gets an error for its request and stays connected. Neither rule
 * is for clients that wait for their greeting, as one server will do for all of
 * them, nor for look-ups of our own, which somebody's login waits for.
 *
 * Where somebody stands. A pool numbers those who join it: tickets. From the
 * number of tickets that were given out and the length of the queue follows how
 * many have left, and from that how many may still be before the holder of a
 * ticket, at least: who has left from behind it is taken for one from before it.
 * So the place is known without a look at the others, and a wait is never
 * believed to be longer than it is.
 */
#include "pool/queue.h"

#include "pool/dedicated.h"

/* ---- joining and leaving ---- */

static void queue_add_locked(struct client *client, uint64_t now_us)
{
	struct pool *pool = client->pool;

	ASSERT(!client->queued);
	client->queued = true;
	client->granted = false;
	if (pool->waiter_count++ == 0)
		queue_estimate_begin(&pool->estimate, now_us);
	pool->greeters += !client->has_query;
}

void queue_join_locked(struct client *client, uint64_t now_us)
{
	client->has_query = client->state != CL_WELCOME;
	client->wait_us = now_us;
	client->ticket = client->pool->tickets++;
	TAILQ_INSERT_TAIL(&client->pool->waiters, client, wait_all);
	TAILQ_INSERT_TAIL(&client->part->waiters, client, wait_part);
	queue_add_locked(client, now_us);
}

void queue_rejoin_locked(struct client *client, uint64_t now_us)
{
	TAILQ_INSERT_HEAD(&client->pool->waiters, client, wait_all);
	TAILQ_INSERT_HEAD(&client->part->waiters, client, wait_part);
	queue_add_locked(client, now_us);
}

void queue_leave_locked(struct client *client, uint64_t now_us)
{
	struct pool *pool = client->pool;

	if (UNLIKELY(client->replication != NULL)) {
		dedicated_dequeue_locked(client);
		return;
	}
	ASSERT(client->queued && pool->waiter_count > 0);
	client->queued = false;
	TAILQ_REMOVE(&pool->waiters, client, wait_all);
	TAILQ_REMOVE(&client->part->waiters, client, wait_part);
	pool->greeters -= !client->has_query;
	if (--pool->waiter_count == 0)
		queue_estimate_end(&pool->estimate, now_us);
}

/* Servers that can be given out. */
static unsigned queue_servers_locked(const struct pool *pool)
{
	return pool->servers - pool->logging_in;
}

void queue_grant_locked(struct client *client, uint64_t now_us)
{
	queue_estimate_grant(&client->pool->estimate, queue_servers_locked(client->pool), now_us);
	queue_leave_locked(client, now_us);
	client->granted = true;
}

void queue_forget_locked(struct pool *pool)
{
	queue_estimate_reset(&pool->estimate);
}

/* ---- the length ---- */

/* Servers that are coming, or could: as many clients do not wait for others. */
static unsigned queue_expected_locked(const struct pool *pool)
{
	unsigned n = pool->logging_in - pool->dedicated_logins + pool->borrowed;
	bool may_open = !pool->login_failed && pool->conf->size > pool->servers &&
			!atomic_load_explicit(&pool->db->starved, memory_order_relaxed) &&
			!atomic_load_explicit(&pool->account->starved, memory_order_relaxed);

	return may_open ? n + pool->conf->size - pool->servers : n;
}

static bool queue_is_full_locked(struct pool *pool, struct pool_refusal *refusal)
{
	unsigned max = pool->conf->max_waiting;
	unsigned waiting = pool->waiter_count - pool->greeters;

	if (LIKELY(max == 0 || waiting < max) || waiting - max < queue_expected_locked(pool))
		return false;
	pool->refused++;
	*refusal = (struct pool_refusal){ .reason = REASON_QUEUE_FULL, .limit = max };
	return true;
}

/* ---- the speed ---- */

/* True while the pool goes on as it did: an estimate from what was holds for what comes. */
static bool queue_is_steady_locked(const struct pool *pool)
{
	return !pool->login_failed && pool->logging_in == pool->dedicated_logins && pool->welcome != NULL &&
	       queue_servers_locked(pool) > 0 && !pool_is_paused(pool);
}

static void queue_shed_locked(struct pool *pool, uint64_t wait_us, uint64_t left_us, struct pool_refusal *refusal)
{
	pool->shed++;
	*refusal = (struct pool_refusal){ .reason = REASON_QUEUE_SLOW, .wait_us = wait_us, .left_us = left_us };
}

static bool queue_is_slow_locked(struct client *client, uint64_t now_us, struct pool_refusal *refusal)
{
	struct pool *pool = client->pool;
	uint64_t left_us;
	uint64_t wait_us;

	if (LIKELY(!pool->conf->queue_shed) || !queue_is_steady_locked(pool))
		return false;
	left_us = client_wait_left_us(client, now_us, 0);
	if (!queue_estimate_refuses(&pool->estimate, pool->waiter_count + 1, left_us, now_us, &wait_us))
		return false;
	queue_shed_locked(pool, wait_us, left_us, refusal);
	return true;
}

bool queue_refuses_locked(struct client *client, uint64_t now_us, struct pool_refusal *refusal)
{
	if (client->state == CL_WELCOME || client->is_inner)
		return false;
	return queue_is_full_locked(client->pool, refusal) || queue_is_slow_locked(client, now_us, refusal);
}

/* The least place that the client can have in the queue, from 1 on. */
static uint64_t queue_position_locked(const struct client *client)
{
	const struct pool *pool = client->pool;
	uint64_t behind = pool->tickets - 1 - client->ticket;

	return pool->waiter_count > behind ? pool->waiter_count - behind : 1;
}

bool queue_gives_up(struct client *client, uint64_t now_us, struct pool_refusal *refusal)
{
	struct pool *pool = client->pool;
	uint64_t age_us = now_us > client->wait_us ? now_us - client->wait_us : 0;
	uint64_t left_us = client_wait_left_us(client, now_us, age_us);
	uint64_t wait_us;
	bool gives_up;

	if (left_us == QUEUE_UNKNOWN || left_us == 0 || client->replication != NULL)
		return false;
	lock_acquire(&pool->lock);
	gives_up =
		client->queued && client->has_query && !client->is_inner && queue_is_steady_locked(pool) &&
		queue_estimate_is_hopeless(&pool->estimate, queue_position_locked(client), left_us, now_us, &wait_us);
	if (gives_up) {
		queue_leave_locked(client, now_us);
		queue_shed_locked(pool, wait_us, left_us, refusal);
	}
	lock_release(&pool->lock);
	return gives_up;
}

/* ---- what there is to tell ---- */

void queue_get_facts(struct pool *pool, uint64_t now_us, struct queue_facts *facts)
{
	const struct client *first;

	lock_acquire(&pool->lock);
	first = pool->waiter_count > pool->greeters ? TAILQ_FIRST(&pool->waiters) : NULL;
	while (first != NULL && !first->has_query)
		first = TAILQ_NEXT(first, wait_all);
	*facts = (struct queue_facts){
		.waiting = pool->waiter_count - pool->greeters,
		.wait_us = queue_is_steady_locked(pool)
				   ? queue_estimate_wait(&pool->estimate, pool->waiter_count + 1, now_us)
				   : QUEUE_UNKNOWN,
		.oldest_us = first == NULL ? 0 : first->wait_us,
		.refused = pool->refused,
		.shed = pool->shed,
		.limit = pool->conf->max_waiting,
	};
	lock_release(&pool->lock);
}

bool queue_get_place(const struct client *client, uint64_t now_us, struct queue_place *place)
{
	struct pool *pool = client->pool;
	bool is_queued;

	lock_acquire(&pool->lock);
	is_queued = client->queued;
	if (is_queued) {
		place->ticket = client->ticket;
		place->wait_us = QUEUE_UNKNOWN;
		if (client->has_query && queue_is_steady_locked(pool))
			place->wait_us = queue_estimate_wait(&pool->estimate, queue_position_locked(client), now_us);
	}
	lock_release(&pool->lock);
	return is_queued;
}
