/*
 * Where a server counts. Between its permit and its end a server is in the
 * list of its part, or it is in a mailbox on its way to another part. An idle
 * one may be reserved: taken off the idle list by another worker, whose request
 * has not been worked off; it is then in the list and counts as travelling.
 *
 *     permits out = servers in lists + servers in mailboxes
 *     travelling  = reserved ones    + servers in mailboxes
 */
#include "check.h"

#include <sys/wait.h>

#include "proto/track.h"

#define CHECK(expr)                                            \
	do {                                                   \
		if (!(expr))                                   \
			check_fail(#expr, __func__, __LINE__); \
	} while (0)

NORETURN static void check_fail(const char *expr, const char *func, int line)
{
	printf("# does not hold: %s (%s, line %d)\n", expr, func, line);
	fflush(stdout);
	_exit(3);
}

/* What is counted by going through the lists. */
struct check_sum {
	unsigned listed;   /* servers in the lists of parts */
	unsigned reserved; /* of them, taken by another worker */
	unsigned logging_in;
	unsigned idle;
	unsigned waiters;
	unsigned held;
	unsigned closing;
	unsigned dedicated_logins;
};

static void check_server(const struct pool_part *part, const struct server *server, struct check_sum *sum)
{
	bool is_reserved = server->is_listed && !server->is_idle;

	CHECK(server->magic == SERVER_MAGIC && server->part == part && server->pool == part->pool);
	CHECK(server->state != SV_CLOSED && server->state != SV_TRAVEL);
	CHECK(server->permit.pool == part->pool);
	CHECK((server->state == SV_ACTIVE) == (server->client != NULL));
	CHECK((server->state == SV_LOGIN) == (server->login != NULL));
	CHECK((server->state == SV_LOGIN) == server->permit.logging_in);
	if (server->client != NULL) {
		CHECK(server->client->server == server && server->client->part == part);
		CHECK(server->replication == client_replication(server->client));
	}
	if (server->awaited_by != NULL) {
		CHECK(server->awaited_by->awaits == server && server->awaited_by->part == part);
		CHECK(server->awaited_by->granted && server->replication == client_replication(server->awaited_by));
	}
	if (server->replication != REPLICATION_NONE)
		CHECK(server->state == SV_ACTIVE || (server->state == SV_LOGIN && server->awaited_by != NULL));
	else
		CHECK(server->awaited_by == NULL);
	CHECK(server->permit.is_dedicated == (server->replication != REPLICATION_NONE));
	sum->dedicated_logins += server->state == SV_LOGIN && server->replication != REPLICATION_NONE;
	if (server->state == SV_IDLE) {
		CHECK(server->is_listed);
		CHECK(track_is_idle(&server->track) && stream_is_clean(&server->stream) && server->body_left == 0);
		CHECK(server->cancels == 0);
	} else {
		CHECK(!server->is_idle && !server->is_listed);
	}
	if (server->state == SV_CANCELED)
		CHECK(server->cancels > 0 || cleanup_is_running(server));
	CHECK(!cleanup_is_running(server) || server->state == SV_CANCELED);
	sum->listed++;
	sum->reserved += is_reserved;
	sum->logging_in += server->state == SV_LOGIN;
	sum->closing += server->permit.closing;
}

static void check_client(const struct pool_part *part, const struct client *client)
{
	const struct worker *worker = part->worker;
	bool waits = client->state == CL_WAITING || client->state == CL_WELCOME;

	CHECK(client->magic == CLIENT_MAGIC && client->part == part && client->pool == part->pool);
	CHECK(client->state != CL_CLOSED && client->state != CL_NEW);
	CHECK((client->state == CL_ACTIVE || client->state == CL_HELD) == (client->server != NULL));
	if (client->server != NULL)
		CHECK(client->server->client == client);
	CHECK(waits == (client->queued || client->granted));
	CHECK(!(client->queued && client->granted));
	if (client->replication != NULL)
		CHECK(client->state == CL_WELCOME || client->state == CL_ACTIVE);
	CHECK((client->awaits != NULL) == (client->replication != NULL && client->granted));
	CHECK(client->slot < worker->slot_count && worker->slots[client->slot].client == client);
}

/* Returns how many clients the part has. */
static unsigned check_part(const struct pool_part *part, struct check_sum *sum)
{
	const struct server *server;
	const struct client *client;
	unsigned clients = 0;
	unsigned waiting = 0;
	unsigned timed = 0;
	unsigned before = sum->listed - sum->reserved;

	TAILQ_FOREACH (server, &part->servers, entry)
		check_server(part, server, sum);
	CHECK(part->held == sum->listed - sum->reserved - before);
	sum->held += part->held;
	TAILQ_FOREACH (server, &part->idle, idle_entry) {
		CHECK(server->part == part && server->is_idle && server->state == SV_IDLE);
		sum->idle++;
	}
	TAILQ_FOREACH (client, &part->clients, entry) {
		check_client(part, client);
		clients++;
		waiting += client->state == CL_WAITING || client->state == CL_WELCOME;
		timed += client->idle_timeout_us > 0;
	}
	CHECK(part->waiting == waiting && part->timed == timed);
	TAILQ_FOREACH (client, &part->waiters, wait_part) {
		CHECK(client->queued && client->part == part);
		sum->waiters++;
	}
	CHECK(part->in_use || (clients == 0 && TAILQ_EMPTY(&part->servers)));
	CHECK(atomic_load(&part->client_count) >= clients); /* others are on their way here */
	return clients;
}

static void check_pool(const struct pool *pool)
{
	struct check_sum sum = { .listed = 0 };
	const struct client *client;
	unsigned waiters = 0;
	unsigned dedicated = 0;
	uint64_t last_us = 0;

	for (unsigned i = 0; i < pool->engine->worker_count; i++)
		check_part(pool->parts[i], &sum);
	TAILQ_FOREACH (client, &pool->waiters, wait_all) {
		CHECK(client->wait_us >= last_us);
		last_us = client->wait_us;
		waiters++;
	}
	CHECK(pool->waiter_count == waiters && sum.waiters == waiters);
	last_us = 0;
	TAILQ_FOREACH (client, &pool->dedicated, wait_all) {
		CHECK(client->queued && client->replication != NULL && client->wait_us >= last_us);
		last_us = client->wait_us;
		dedicated++;
	}
	CHECK(pool->dedicated_count == dedicated && pool->dedicated_logins == sum.dedicated_logins);
	CHECK(pool->idle == sum.idle);
	CHECK(pool->logging_in == sum.logging_in);
	CHECK(pool->closing == sum.closing); /* none travels */
	CHECK(pool->travelling >= sum.reserved && pool->travelling >= pool->borrowed);
	CHECK(pool->servers == sum.listed + pool->travelling - sum.reserved);
	CHECK(pool->servers == sum.held + pool->travelling);
}

/* The permits of all pools of a database or user are what it counts. */
static unsigned check_sum_servers(const struct world *world, const struct db *db, const struct account *account)
{
	const struct pool *pool;
	unsigned n = 0;

	TAILQ_FOREACH (pool, world->engine->pools, entry)
		if (pool->db == db || pool->account == account)
			n += pool->servers;
	return n;
}

void check_invariants(const struct world *world)
{
	const struct engine *engine = world->engine;
	const struct pool *pool;

	TAILQ_FOREACH (pool, engine->pools, entry)
		check_pool(pool);
	for (const struct db *db = engine->dbs; db != NULL; db = db->hh.next)
		CHECK(atomic_load(&db->servers) == check_sum_servers(world, db, NULL));
	for (const struct account *account = engine->accounts; account != NULL; account = account->hh.next)
		CHECK(atomic_load(&account->servers) == check_sum_servers(world, NULL, account));
}

/* True when the limits of its database and user let the pool open a server. */
static bool check_has_permit(const struct pool *pool)
{
	const struct db *db = pool->db;
	const struct account *account = pool->account;

	return (db->max_servers == 0 || db->servers < db->max_servers) &&
	       (account->max_servers == 0 || account->servers < account->max_servers);
}

/* True when a breaker of its endpoint may keep the pool from opening a server: there is one endpoint. */
static bool check_has_breaker(const struct pool *pool)
{
	const struct breaker_set *set = pool->conf->endpoints.sets[0];

	for (int i = 0; i < FAILURE_CLASSES; i++)
		if (set->breakers[i].state != BREAKER_CLOSED)
			return true;
	return false;
}

void check_nobody_waits_in_vain(const struct world *world)
{
	const struct pool *pool;

	TAILQ_FOREACH (pool, world->engine->pools, entry) {
		bool has_room = pool->conf->size == 0 || pool->servers < pool->conf->size ||
				(pool->welcome == NULL && pool->servers == pool->conf->size);
		bool may_log_in = has_room && !pool->login_failed && check_has_permit(pool) && !check_has_breaker(pool);

		if (pool->waiter_count + pool->dedicated_count == 0 || pool_is_paused(pool))
			continue;
		/* Who needs a server of its own has no use for an idle one. */
		CHECK(pool->idle == 0 || (pool->waiter_count == 0 && !may_log_in));
		CHECK(pool->travelling == 0);
		CHECK(pool->logging_in > 0 || !may_log_in);
	}
}

void check_no_clients(const struct world *world)
{
	const struct engine *engine = world->engine;
	const struct pool *pool;

	check_invariants(world);
	CHECK(atomic_load(&engine->client_count) == 0);
	for (const struct db *db = engine->dbs; db != NULL; db = db->hh.next)
		CHECK(atomic_load(&db->clients) == 0);
	for (const struct account *account = engine->accounts; account != NULL; account = account->hh.next)
		CHECK(atomic_load(&account->clients) == 0);
	TAILQ_FOREACH (pool, engine->pools, entry) {
		CHECK(pool->dedicated_count == 0 && pool->dedicated_logins == 0);
		CHECK(pool->waiter_count == 0 && pool->travelling == 0 && pool->borrowed == 0 && pool->cancels == 0);
		for (unsigned i = 0; i < engine->worker_count; i++)
			CHECK(atomic_load(&pool->parts[i]->client_count) == 0);
	}
	for (unsigned i = 0; i < engine->worker_count; i++) {
		const struct worker *worker = engine->workers[i];

		CHECK(TAILQ_EMPTY(&worker->ctx.logins) && TAILQ_EMPTY(&worker->cancels));
		for (uint32_t slot = 0; slot < worker->slot_count; slot++)
			CHECK(worker->slots[slot].client == NULL);
	}
	for (unsigned i = 0; i < engine->login_count; i++)
		CHECK(TAILQ_EMPTY(&engine->logins[i]->logins));
}

static void check_no_servers(const struct world *world)
{
	const struct pool *pool;

	check_no_clients(world);
	TAILQ_FOREACH (pool, world->engine->pools, entry)
		CHECK(pool->servers == 0);
}

void check_end(struct world **worldp)
{
	struct world *world = *worldp;

	check_no_clients(world);
	for (unsigned i = 1; i <= WORLD_BACKENDS; i++)
		world_listen(world, i, false);
	for (unsigned i = 0; i < world->actor_count; i++)
		actor_close(world->actors[i]);
	world_run(world);
	check_no_servers(world);
	world_free(worldp);
}

bool check_in_child(int (*run)(const void *arg), const void *arg)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		exit(run(arg));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		printf("# signal %d\n", WTERMSIG(status));
	return status == 0;
}
