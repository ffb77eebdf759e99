/*
 * Servers for one client. One that wants to replicate needs a server that was
 * opened for that; no other client can use it, nor can this one use another. All of
 * them count in the size of the pool, so this is a matter of the scheduler's.
 *
 * Such clients have a queue of their own, and their turn in that of the pool:
 * theirs comes when those who came before them have their servers, or these are
 * on the way. A server that comes free then is closed to make room, unless it
 * is for somebody who has waited longer, and so is an idle one: one for each
 * client that waits, the one that was used least recently.
 *
 * The server is opened by the worker of the client, so neither ever moves.
 * Another worker that finds room tells that one.
 */
#include "pool/dedicated.h"

#include "pool/client.h"
#include "pool/pool_int.h"
#include "pool/route.h"
#include "pool/server.h"

static void dedicated_insert_locked(struct client *client, bool at_head)
{
	struct pool *pool = client->pool;

	ASSERT(!client->queued && client->replication != NULL);
	client->queued = true;
	client->granted = false;
	client->has_query = false;
	if (at_head)
		TAILQ_INSERT_HEAD(&pool->dedicated, client, wait_all);
	else
		TAILQ_INSERT_TAIL(&pool->dedicated, client, wait_all);
	pool->dedicated_count++;
}

void dedicated_enqueue(struct client *client)
{
	struct pool *pool = client->pool;

	lock_acquire(&pool->lock);
	client->wait_us = loop_now_us(client->part->worker->ctx.loop);
	client->ticket = pool->tickets; /* behind those who wait already */
	dedicated_insert_locked(client, false);
	lock_release(&pool->lock);
	pool_run(client->part);
}

void dedicated_requeue(struct client *client)
{
	lock_acquire(&client->pool->lock);
	dedicated_insert_locked(client, true);
	lock_release(&client->pool->lock);
}

void dedicated_dequeue_locked(struct client *client)
{
	struct pool *pool = client->pool;

	ASSERT(client->queued && pool->dedicated_count > 0);
	client->queued = false;
	TAILQ_REMOVE(&pool->dedicated, client, wait_all);
	pool->dedicated_count--;
}

/* True when everybody who came before has a server on the way. */
static bool dedicated_is_due_locked(const struct pool *pool, const struct client *client)
{
	unsigned on_the_way = pool->logging_in - pool->dedicated_logins + pool->borrowed;
	const struct client *other;

	TAILQ_FOREACH (other, &pool->waiters, wait_all) {
		if (other->wait_us > client->wait_us)
			break;
		if (on_the_way == 0)
			return false;
		on_the_way--;
	}
	return true;
}

/* An idle server that makes room in a full pool, off its list; NULL when there is none, or one goes already. */
static struct server *dedicated_evict_locked(struct pool *pool)
{
	struct server *server = route_oldest_idle_locked(pool);

	if (server == NULL || !pool_claim_close_locked(pool, &server->permit, pool->conf->size - 1))
		return NULL;
	route_reserve_idle_locked(server, SERVER_EVICT_POOL);
	return server;
}

bool dedicated_plan_locked(struct pool_part *part, uint64_t now, struct pool_plan *plan)
{
	struct pool *pool = part->pool;
	struct client *client = TAILQ_FIRST(&pool->dedicated);
	bool is_full = pool->conf->size > 0 && pool->servers >= pool->conf->size;

	if (!dedicated_is_due_locked(pool, client))
		return false;
	if (is_full && pool->idle > 0) {
		plan->evict = dedicated_evict_locked(pool);
		return plan->evict != NULL;
	}
	if (!pool_may_log_in_locked(pool, now) || (is_full && !pool_may_use_reserve_locked(pool, client, now, plan)))
		return false;
	if (client->part != part) {
		plan->reserve = false;
		plan->tell = client->part;
		return true;
	}
	plan->open = pool_permit_take_locked(part, now, plan);
	plan->evict_own = !plan->open;
	if (plan->open) {
		dedicated_dequeue_locked(client);
		client->granted = true;
		plan->client = client;
		plan->permit.is_dedicated = true;
		pool->dedicated_logins++;
	}
	return true;
}

/* True, for one server at a time, when this limit of several pools is what keeps the client waiting. */
static bool dedicated_takes_limited(const atomic_uint *count, const atomic_uint *max, atomic_bool *evicting)
{
	unsigned limit = atomic_load_explicit(max, memory_order_relaxed);

	return limit > 0 && atomic_load_explicit(count, memory_order_relaxed) >= limit &&
	       !atomic_exchange(evicting, true);
}

bool dedicated_takes_room_locked(struct pool *pool, struct server *server)
{
	const struct client *client = TAILQ_FIRST(&pool->dedicated);
	const struct client *other = TAILQ_FIRST(&pool->waiters);

	if (other != NULL && other->wait_us <= client->wait_us)
		return false;
	if (pool->conf->size > 0 && pool->servers >= pool->conf->size)
		return pool_claim_close_locked(pool, &server->permit, pool->conf->size - 1);
	return dedicated_takes_limited(&pool->db->servers, &pool->db->max_servers, &pool->db->evicting) ||
	       dedicated_takes_limited(&pool->account->servers, &pool->account->max_servers, &pool->account->evicting);
}
