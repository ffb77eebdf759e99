/*
 * The books of a pool must balance at any moment: each permit that is out is a
 * server in some list, one that is on its way, or one that another worker has
 * reserved.
 *
 *     permits out = servers that parts hold + travelling (on the way, or reserved)
 *     idle        = servers in the idle lists of all parts
 *     waiters     = clients in the queues of all parts
 *
 * A worker can count only its own servers and clients; for the other parts it
 * believes `held`, which their workers check. test/replay/check.c looks at the
 * same from outside, where nothing moves.
 */
#include "pool/audit.h"

#ifdef ENABLE_DEBUG

#include "pool/client.h"
#include "pool/server.h"

/* What all parts of a pool say. */
struct audit_sum {
	unsigned held;
	unsigned idle;
	unsigned waiters;
};

static void audit_add_locked(const struct pool_part *part, struct audit_sum *sum)
{
	const struct server *server;
	const struct client *client;

	sum->held += part->held;
	TAILQ_FOREACH (server, &part->idle, idle_entry) {
		ASSERT(server->is_idle && server->part == part);
		sum->idle++;
	}
	TAILQ_FOREACH (client, &part->waiters, wait_part) {
		ASSERT(client->queued && client->part == part);
		sum->waiters++;
	}
}

static void audit_pool_locked(const struct pool *pool)
{
	struct audit_sum sum = { .held = 0 };
	const struct client *client;
	unsigned dedicated = 0;

	for (unsigned i = 0; i < pool->engine->worker_count; i++)
		audit_add_locked(pool->parts[i], &sum);
	ASSERT(pool->servers == sum.held + pool->travelling);
	ASSERT(pool->idle == sum.idle);
	ASSERT(pool->waiter_count == sum.waiters && pool->greeters <= pool->waiter_count);
	ASSERT(pool->tickets >= pool->waiter_count);
	TAILQ_FOREACH (client, &pool->dedicated, wait_all) {
		ASSERT(client->queued && client->replication != NULL && client->server == NULL);
		dedicated++;
	}
	ASSERT(pool->dedicated_count == dedicated && pool->dedicated_logins <= pool->logging_in);
	ASSERT(pool->logging_in <= pool->servers && pool->closing <= pool->servers);
	ASSERT(pool->borrowed <= pool->travelling);
}

/* Servers in the list of the part that are its own: not those that another worker has reserved. */
static unsigned audit_own_locked(const struct pool_part *part)
{
	const struct server *server;
	unsigned n = 0;

	TAILQ_FOREACH (server, &part->servers, entry) {
		bool is_reserved = server->is_listed && !server->is_idle;

		ASSERT(server->permit.pool == part->pool && server->part == part);
		ASSERT((server->state == SV_ACTIVE) == (server->client != NULL));
		n += !is_reserved;
	}
	return n;
}

static void audit_clients(const struct pool_part *part)
{
	const struct client *client;
	unsigned waiting = 0;
	unsigned timed = 0;

	TAILQ_FOREACH (client, &part->clients, entry) {
		waiting += client->state == CL_WAITING || client->state == CL_WELCOME;
		timed += client->idle_timeout_us > 0;
	}
	ASSERT(part->waiting == waiting && part->timed == timed);
}

void audit_part(struct pool_part *part)
{
	struct pool *pool = part->pool;

	CHECK_OBJ(pool, POOL_MAGIC);
	ASSERT(part->in_use && atomic_load(&pool->refs) > 0);
	lock_acquire(&pool->lock);
	audit_pool_locked(pool);
	ASSERT(part->held == audit_own_locked(part));
	lock_release(&pool->lock);
	audit_clients(part);
}

#else

void audit_part(struct pool_part *part UNUSED)
{
}

#endif
