/*
 * The scheduler.
 *
 * Objects. A pool has one list of waiting clients in order of arrival, and per
 * worker a list of idle servers and the waiting clients of that worker. One
 * lock protects all of it; it is never held across a system call, an
 * allocation or a log line. So "no server, hence I queue" and "I release, is
 * anybody waiting" are each one critical section and no wake-up is lost.
 *
 * Nobody waits: locality. A client takes the idle server of its own worker
 * that was used last. If there is none, an idle one of another worker is
 * borrowed: it is taken off that worker's list, and the worker is asked to send
 * it. If there is none either and the pool may grow, a server is opened on the
 * client's worker.
 *
 * Somebody waits: order. A server that becomes free goes to the client of its
 * own worker that has waited longest, unless another worker's client has
 * waited longer than that one by more than POOL_SLACK_US; then the server
 * travels.
 *
 * A move costs both workers more than a query does. So a server moves, for
 * either reason, only for a client that has waited for longer than the slack,
 * or whose worker has no server at all: in that time one of its own mostly
 * comes free. While a worker has clients in a queue its alarm is set, which
 * looks after those that have waited that long (pool_on_alarm). The order is
 * that of arrival to within the slack, and most servers stay where they are.
 *
 * What is done under the lock is only decided there: a plan says what to open,
 * borrow, check or evict, and is carried out after the lock is gone. A client
 * that was promised a server is taken off the queue in the same critical
 * section, so no two servers travel for one client.
 *
 * Permits. The counts that limit servers (pool, database, user) are changed in
 * pool_permit_take_locked() and pool_permit_give() and nowhere else.
 */
#include "pool/pool.h"

#include "core/log.h"
#include "core/str.h"
#include "pool/client.h"
#include "pool/dedicated.h"
#include "pool/pool_int.h"
#include "pool/queue.h"
#include "pool/refresh.h"
#include "pool/refuse.h"
#include "pool/registry.h"
#include "pool/report.h"
#include "pool/route.h"
#include "pool/server.h"

/* How long a client waits for a server of its own worker before one of another worker comes. */
#define POOL_SLACK_US 1000

/* ---- permits ---- */

/* Adds one unless that exceeds the maximum; 0 is no maximum. */
static bool count_take(atomic_uint *count, unsigned max)
{
	unsigned n = atomic_load_explicit(count, memory_order_relaxed);

	do {
		if (max > 0 && n >= max)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(count, &n, n + 1, memory_order_relaxed, memory_order_relaxed));
	return true;
}

static void count_give(atomic_uint *count)
{
	unsigned old = atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);

	ASSERT(old > 0);
}

/* The endpoint for a new server, into plan->permit; false when there is none that would do now. */
static bool pool_take_endpoint_locked(struct pool *pool, uint64_t now, struct pool_plan *plan)
{
	const struct pool_conf *conf = pool->conf;
	const struct endpoint_wish wish = {
		.list = &conf->endpoints,
		.attrs = conf->attrs,
		.login_max = conf->endpoint_login_max,
		.max_eject = conf->max_eject,
		.turn = pool->host_turn,
		.now_us = now,
	};

	plan->permit = (struct permit){ .pool = NULL, .host_turn = pool->host_turn };
	if (conf->endpoints.count == 0)
		return true; /* the login will fail, and say so */
	plan->permit.endpoint = endpoint_choose(&wish, &plan->permit.pass);
	if (plan->permit.endpoint == NULL)
		return false;
	if (conf->db->load_balance_hosts == CONF_LOAD_BALANCE_ROUND_ROBIN)
		pool->host_turn++;
	return true;
}

bool pool_permit_take_locked(struct pool_part *part, uint64_t now, struct pool_plan *plan)
{
	struct pool *pool = part->pool;

	if (!count_take(&pool->db->servers, atomic_load_explicit(&pool->db->max_servers, memory_order_relaxed))) {
		atomic_store(&pool->db->starved, true);
		plan->full_db = pool->db;
		return false;
	}
	if (!count_take(&pool->account->servers,
			atomic_load_explicit(&pool->account->max_servers, memory_order_relaxed))) {
		count_give(&pool->db->servers);
		atomic_store(&pool->account->starved, true);
		plan->full_account = pool->account;
		return false;
	}
	if (!pool_take_endpoint_locked(pool, now, plan)) {
		count_give(&pool->account->servers);
		count_give(&pool->db->servers);
		return false;
	}
	pool->servers++;
	pool->logging_in++;
	part->held++;
	plan->permit.pool = pool;
	plan->permit.logging_in = true;
	return true;
}

void pool_permit_carry(struct pool *pool, struct permit *permit, bool is_linked)
{
	atomic_fetch_add_explicit(&pool->db->servers, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&pool->account->servers, 1, memory_order_relaxed);
	lock_acquire(&pool->lock);
	pool->servers++;
	pool->travelling++;
	pool->borrowed += !is_linked;
	lock_release(&pool->lock);
	*permit = (struct permit){ .pool = pool };
}

void pool_permit_give(struct pool_part *part, struct permit *permit)
{
	struct pool *pool = permit->pool;
	bool kick_db;
	bool kick_account;

	ASSERT(pool != NULL && pool == part->pool);
	lock_acquire(&pool->lock);
	ASSERT(pool->servers > 0 && part->held > 0);
	pool->servers--;
	part->held--;
	pool->overdraft = pool->overdraft && pool->servers > pool->conf->size + pool->conf->reserve_size;
	if (permit->logging_in) {
		ASSERT(pool->logging_in > 0);
		pool->logging_in--;
		pool->dedicated_logins -= permit->is_dedicated;
	}
	if (permit->closing) {
		ASSERT(pool->closing > 0);
		pool->closing--;
	}
	lock_release(&pool->lock);
	count_give(&pool->db->servers);
	count_give(&pool->account->servers);
	breaker_pass_abandon(&permit->pass, loop_now_us(part->worker->ctx.loop));
	endpoint_give(&permit->endpoint, permit->logging_in);
	*permit = (struct permit){ .pool = NULL };
	atomic_store(&pool->db->evicting, false);
	atomic_store(&pool->account->evicting, false);
	kick_db = atomic_exchange(&pool->db->starved, false);
	kick_account = atomic_exchange(&pool->account->starved, false);
	/* Whoever was refused comes first, not this pool's minimum; its own waiters are among those kicked. */
	if (kick_db || kick_account)
		route_kick(pool->engine, kick_db ? pool->db : NULL, kick_account ? pool->account : NULL);
	else
		pool_run(part);
}

bool pool_claim_close_locked(struct pool *pool, struct permit *permit, unsigned keep)
{
	if (permit->closing || pool->servers - pool->closing <= keep)
		return permit->closing;
	permit->closing = true;
	pool->closing++;
	return true;
}

bool pool_claim_close(struct pool *pool, struct permit *permit, unsigned keep)
{
	bool claimed;

	lock_acquire(&pool->lock);
	claimed = pool_claim_close_locked(pool, permit, keep);
	lock_release(&pool->lock);
	return claimed;
}

/*
 * As pool_claim_surplus(). Servers from before a RECONNECT may be busy for
 * long; the one opened beside them is kept as long as no other is idle.
 */
static bool pool_claim_surplus_locked(struct pool *pool, struct server *server)
{
	const struct pool_conf *conf = pool->conf;
	unsigned others_idle = pool->idle - server->is_idle;
	unsigned extra = pool->overdraft && others_idle == 0;

	return conf->size > 0 &&
	       pool_claim_close_locked(pool, &server->permit, conf->size + conf->reserve_size + extra);
}

bool pool_claim_surplus(struct pool *pool, struct server *server)
{
	bool claimed;

	lock_acquire(&pool->lock);
	claimed = pool_claim_surplus_locked(pool, server);
	lock_release(&pool->lock);
	return claimed;
}

bool pool_claim_lifetime(struct pool *pool, const struct pool_conf *conf, uint64_t age_us, uint64_t now_us)
{
	uint64_t next_us = atomic_load(&pool->next_lifetime_us);
	uint64_t spacing_us = conf->server_lifetime_us / (conf->size > 0 ? conf->size : 1);

	if (age_us < conf->server_lifetime_us)
		return false;
	if (conf->server_lifetime_us == 0)
		return true; /* single use */
	return now_us >= next_us &&
	       atomic_compare_exchange_strong(&pool->next_lifetime_us, &next_us, now_us + spacing_us);
}

bool pool_cancel_take(struct pool *pool)
{
	unsigned size;
	bool ok;

	lock_acquire(&pool->lock);
	size = pool->conf->size;
	/* One is always allowed: the pool may have shrunk. */
	ok = size == 0 || pool->cancels == 0 || pool->servers + pool->cancels < 2 * size;
	pool->cancels += ok;
	lock_release(&pool->lock);
	return ok;
}

void pool_cancel_give(struct pool *pool)
{
	lock_acquire(&pool->lock);
	ASSERT(pool->cancels > 0);
	pool->cancels--;
	lock_release(&pool->lock);
}

/* ---- decisions, under the lock ---- */

/* For whom the reserve is touched, as the log tells it: kept under the lock, told without it. */
static _Thread_local struct log_about pool_asker;

static void pool_note_asker_locked(const struct client *client, const struct conf *conf)
{
	report_about(&pool_asker, client, client->id, client->pool->db->name, client->account->name);
	report_about_peer(&pool_asker, &client->peer, conf->listen_port);
	pool_asker.action = "wait for a server";
}

/* True when anybody waits for the pool's greeting. */
static bool pool_is_greeting_awaited_locked(const struct pool *pool)
{
	const struct client *client;

	TAILQ_FOREACH (client, &pool->waiters, wait_all)
		if (!client->has_query)
			return true;
	return false;
}

bool pool_may_use_reserve_locked(struct pool *pool, const struct client *client, uint64_t now, struct pool_plan *plan)
{
	const struct pool_conf *conf = pool->conf;

	if (conf->reserve_size == 0 || conf->reserve_timeout_us == 0 || client == NULL)
		return false;
	if (pool->servers >= conf->size + conf->reserve_size || client->wait_us + conf->reserve_timeout_us > now)
		return false;
	pool_note_asker_locked(client, worker_current()->ctx.snap->conf);
	plan->reserve = true;
	return true;
}

/* True when a limit of the pool itself allows one server more. */
static bool pool_has_room_locked(struct pool *pool, uint64_t now, struct pool_plan *plan)
{
	const struct pool_conf *conf = pool->conf;

	if (conf->size == 0 || pool->servers < conf->size)
		return true;
	/* Without a greeting nobody can log in, and only a new server brings one. */
	if (pool->welcome == NULL && (atomic_load(&pool->epoch) > 0 || pool_is_greeting_awaited_locked(pool)) &&
	    pool->servers <= conf->size + conf->reserve_size) {
		plan->overdraft = atomic_load(&pool->epoch) > 0;
		return true;
	}
	return pool_may_use_reserve_locked(pool, TAILQ_FIRST(&pool->waiters), now, plan);
}

/* How many logins may be under way: one while it is not known that they succeed. */
static unsigned pool_login_limit_locked(const struct pool *pool)
{
	return pool->login_failed || pool->welcome == NULL ? 1 : pool->conf->login_concurrency;
}

bool pool_may_log_in_locked(const struct pool *pool, uint64_t now)
{
	return !atomic_load_explicit(&pool->removed, memory_order_relaxed) &&
	       pool->logging_in < pool_login_limit_locked(pool) && (!pool->login_failed || now >= pool->retry_us);
}

static bool pool_may_open_locked(struct pool_part *part, uint64_t now, struct pool_plan *plan)
{
	struct pool *pool = part->pool;

	if (part->worker->frozen || !pool_may_log_in_locked(pool, now))
		return false;
	if (!pool_has_room_locked(pool, now, plan) || !pool_permit_take_locked(part, now, plan))
		return false;
	pool->overdraft = pool->overdraft || plan->overdraft;
	return true;
}

/* The idle server of this worker that is next in turn, off the list; NULL when there is none. */
static struct server *pool_take_idle_locked(struct pool_part *part)
{
	struct pool *pool = part->pool;
	struct server *server = TAILQ_FIRST(&part->idle);

	if (server == NULL)
		return NULL;
	if (pool->conf->round_robin)
		server = TAILQ_LAST(&part->idle, server_list);
	TAILQ_REMOVE(&part->idle, server, idle_entry);
	server->is_idle = false;
	server->is_listed = false;
	pool->idle--;
	return server;
}

static bool pool_needs_check(const struct server *server, const struct pool_conf *conf, uint64_t now)
{
	uint64_t delay_us = conf->server_check_delay_us;

	if (delay_us == 0)
		delay_us = USEC_PER_SEC; /* it was checked when it was released */
	return conf->check_query != NULL && server->idle_us + delay_us < now;
}

/* An idle server that was taken off the list, for whoever is next: closed or checked when that is due. */
static void pool_offer(struct pool_part *part, struct server *server)
{
	if (server->dirty)
		server_close(server, REASON_OBSOLETE);
	else if (pool_needs_check(server, part->conf, loop_now_us(part->worker->ctx.loop)))
		server_check(server);
	else
		pool_checkin(part, server);
}

/* Reserves an idle server of another worker for this one. */
static struct server *pool_borrow_locked(struct pool_part *part)
{
	struct pool *pool = part->pool;
	unsigned count = pool->engine->worker_count;

	if (pool->idle == 0)
		return NULL;
	for (unsigned i = 1; i < count; i++) {
		struct pool_part *other = pool->parts[(part->worker->index + i) % count];
		struct server *server = TAILQ_FIRST(&other->idle);

		if (server == NULL)
			continue;
		TAILQ_REMOVE(&other->idle, server, idle_entry);
		server->is_idle = false;
		server->travel_worker = (uint16_t)part->worker->index;
		server->travel_slot = SERVER_TRAVEL_NOBODY;
		other->held--;
		pool->idle--;
		pool->travelling++;
		pool->borrowed++;
		return server;
	}
	return NULL;
}

/* True when a client is worth a move of a server to its worker. */
static bool pool_is_overdue_locked(const struct client *client, uint64_t now)
{
	return client->part->held == 0 || client->wait_us + POOL_SLACK_US <= now;
}

/*
 * The first whom a free server helps: while the pool has no greeting, it helps
 * nobody who waits for that and nothing else.
 */
static struct client *pool_first_waiter_locked(struct pool *pool)
{
	struct client *client;

	TAILQ_FOREACH (client, &pool->waiters, wait_all)
		if (client->has_query || pool->welcome != NULL)
			break;
	return client;
}

/* The same among those of this worker. */
static struct client *pool_first_own_locked(struct pool_part *part)
{
	struct client *client;

	TAILQ_FOREACH (client, &part->waiters, wait_part)
		if (client->has_query || part->pool->welcome != NULL)
			break;
	return client;
}

/* True when somebody of this worker waits for the pool's greeting. */
static bool pool_lacks_greeting_locked(struct pool_part *part)
{
	const struct client *client;

	if (LIKELY(part->pool->welcome != NULL))
		return false;
	TAILQ_FOREACH (client, &part->waiters, wait_part)
		if (!client->has_query)
			return true;
	return false;
}

/* What can be done for those who wait. */
static void pool_plan_locked(struct pool_part *part, uint64_t now, struct pool_plan *plan)
{
	struct pool *pool = part->pool;
	const struct client *own = pool_first_own_locked(part);

	if (UNLIKELY(pool_is_paused(pool)))
		queue_forget_locked(pool);
	if (pool_is_paused(pool) || part->worker->frozen)
		return;
	if (own != NULL && !TAILQ_EMPTY(&part->idle)) {
		plan->take = pool_take_idle_locked(part);
		return;
	}
	if (UNLIKELY(pool->dedicated_count > 0) && dedicated_plan_locked(part, now, plan))
		return;
	if (pool->waiter_count <= pool->logging_in - pool->dedicated_logins + pool->borrowed)
		return;
	if (own != NULL && pool_is_overdue_locked(own, now))
		plan->borrow = pool_borrow_locked(part);
	if (plan->borrow == NULL && (pool->idle == 0 || pool_lacks_greeting_locked(part)))
		plan->open = pool_may_open_locked(part, now, plan);
}

/* Tops up to min_pool_size, one at a time; never beyond a limit and never by eviction. */
static void pool_plan_minimum_locked(struct pool_part *part, uint64_t now, struct pool_plan *plan)
{
	struct pool *pool = part->pool;
	const struct pool_conf *conf = pool->conf;

	if (pool_plan_goes_on(plan) || plan->tell != NULL || plan->full_db != NULL || plan->full_account != NULL ||
	    pool_is_paused(pool) || atomic_load_explicit(&pool->engine->mode, memory_order_relaxed) != ENGINE_ACTIVE)
		return;
	if (pool->servers >= conf->min_size || (conf->size > 0 && pool->servers >= conf->size))
		return;
	if (!conf->is_forced && !pool_has_clients(pool))
		return;
	plan->open = pool_may_open_locked(part, now, plan);
	plan->full_db = NULL;
	plan->full_account = NULL;
}

/* Carries a plan out. */
static void pool_execute(struct pool_part *part, struct pool_plan *plan)
{
	struct pool *pool = part->pool;

	endpoints_tell_news(pool->engine->endpoints);
	if (plan->evict != NULL) {
		plan->evict->msg.fn = server_lend;
		loop_post(plan->evict->part->worker->ctx.loop, &plan->evict->msg);
	}
	if (plan->tell != NULL)
		route_tell_part(plan->tell, ROUTE_TELL_RUN, NULL, NULL);
	if (plan->borrow != NULL) {
		plan->borrow->msg.fn = server_lend;
		loop_post(plan->borrow->part->worker->ctx.loop, &plan->borrow->msg);
	}
	if (plan->take != NULL)
		pool_offer(part, plan->take);
	if (plan->open) {
		if (plan->reserve)
			log_warning_about(&pool_asker, "taking connection from reserve_pool");
		server_open(part, &plan->permit, plan->client);
	}
	if (plan->full_db != NULL || plan->full_account != NULL)
		route_evict(pool->engine, plan->evict_own ? NULL : pool, plan->full_db, plan->full_account);
}

bool pool_has_clients(const struct pool *pool)
{
	for (unsigned i = 0; i < pool->engine->worker_count; i++)
		if (atomic_load_explicit(&pool->parts[i]->client_count, memory_order_relaxed) > 0)
			return true;
	return false;
}

void pool_run(struct pool_part *part)
{
	struct pool *pool = part->pool;
	uint64_t now = loop_now_us(part->worker->ctx.loop);
	struct pool_plan plan;

	do {
		plan = (struct pool_plan){ .open = false };
		lock_acquire(&pool->lock);
		pool_plan_locked(part, now, &plan);
		pool_plan_minimum_locked(part, now, &plan);
		lock_release(&pool->lock);
		pool_execute(part, &plan);
	} while (pool_plan_goes_on(&plan));
}

/* Looks after the clients in this worker's queue again when they have waited for the slack. */
static void pool_set_alarm(struct pool_part *part)
{
	if (part->pool->engine->worker_count > 1)
		loop_alarm_set(&part->worker->wait_alarm, POOL_SLACK_US);
}

static bool pool_has_waiters(struct pool_part *part)
{
	bool has;

	lock_acquire(&part->pool->lock);
	has = !TAILQ_EMPTY(&part->waiters);
	lock_release(&part->pool->lock);
	return has;
}

void pool_on_alarm(struct loop *loop UNUSED, void *arg)
{
	struct worker *worker = arg;
	struct pool_part *part;

	TAILQ_FOREACH (part, &worker->parts, entry) {
		pool_run(part);
		if (!pool_is_paused(part->pool) && pool_has_waiters(part))
			pool_set_alarm(part);
	}
}

/* A plan that was for a client of the other queue leaves this one's to be made. */
static void pool_run_on(struct pool_part *part, const struct pool_plan *plan)
{
	if (UNLIKELY(plan->evict != NULL || plan->client != NULL))
		pool_run(part);
}

/* ---- the queue ---- */

void pool_requeue(struct pool_part *part, struct client *client)
{
	uint64_t now = loop_now_us(part->worker->ctx.loop);

	lock_acquire(&part->pool->lock);
	ASSERT(client->granted);
	queue_rejoin_locked(client, now);
	lock_release(&part->pool->lock);
	pool_set_alarm(part);
}

bool pool_dequeue(struct pool_part *part, struct client *client)
{
	uint64_t now = loop_now_us(part->worker->ctx.loop);
	bool was_queued;

	lock_acquire(&part->pool->lock);
	was_queued = client->queued;
	if (was_queued)
		queue_leave_locked(client, now);
	lock_release(&part->pool->lock);
	return was_queued;
}

bool pool_is_queued(const struct client *client)
{
	bool queued;

	lock_acquire(&client->pool->lock);
	queued = client->queued;
	lock_release(&client->pool->lock);
	return queued;
}

void pool_enqueue(struct pool_part *part, struct client *client)
{
	struct pool_plan plan = { .open = false };
	uint64_t now = loop_now_us(part->worker->ctx.loop);

	lock_acquire(&part->pool->lock);
	queue_join_locked(client, now);
	pool_plan_locked(part, now, &plan);
	lock_release(&part->pool->lock);
	pool_execute(part, &plan);
	pool_run_on(part, &plan);
	pool_set_alarm(part);
}

/* ---- checkout and checkin ---- */

/*
 * True when new clients are told at once that logins to the server fail. While
 * none of several endpoints has the role that is asked for, they wait for one
 * that comes to it.
 */
static bool pool_is_failing_locked(const struct pool *pool)
{
	return pool->login_failed && !pool->is_for_breaker && pool->conf->attrs == CONF_ATTRS_ANY &&
	       pool->servers == pool->logging_in;
}

bool pool_is_failing(struct pool_part *part, char *failure, size_t failure_size)
{
	struct pool *pool = part->pool;
	uint64_t now = loop_now_us(part->worker->ctx.loop);
	struct pool_plan plan = { .open = false };
	bool is_failing;

	lock_acquire(&pool->lock);
	is_failing = !pool_is_paused(pool) && pool_is_failing_locked(pool);
	if (is_failing) {
		str_copy(failure, failure_size, pool->failure);
		plan.open = pool_may_open_locked(part, now, &plan);
	}
	lock_release(&pool->lock);
	pool_execute(part, &plan);
	return is_failing;
}

struct server *pool_checkout(struct pool_part *part, struct client *client, struct pool_refusal *refusal)
{
	struct pool *pool = part->pool;
	uint64_t now = loop_now_us(part->worker->ctx.loop);
	struct pool_plan plan = { .open = false };
	struct server *server = NULL;
	struct server *check = NULL;

	refusal->reason = REASON_NONE;
	lock_acquire(&pool->lock);
	if (LIKELY(!pool_is_paused(pool)))
		server = pool_take_idle_locked(part);
	if (LIKELY(server != NULL) && UNLIKELY(server->dirty || pool_needs_check(server, part->conf, now))) {
		check = server;
		server = NULL;
		queue_join_locked(client, now);
	} else if (server == NULL && !pool_is_paused(pool) && pool_is_failing_locked(pool)) {
		refusal->reason = REASON_CACHED_ERROR;
		str_copy(refusal->failure, sizeof(refusal->failure), pool->failure);
		plan.open = pool_may_open_locked(part, now, &plan);
	} else if (server == NULL && (pool_is_paused(pool) || !refuse_is_due_locked(pool, now, refusal)) &&
		   !queue_refuses_locked(client, now, refusal)) {
		queue_join_locked(client, now);
		pool_plan_locked(part, now, &plan);
	}
	lock_release(&pool->lock);
	if (LIKELY(server != NULL))
		return server;
	pool_execute(part, &plan);
	if (refusal->reason == REASON_NONE)
		pool_set_alarm(part);
	pool_run_on(part, &plan);
	if (check != NULL)
		pool_offer(part, check);
	return NULL;
}

/* Whom a free server is for; takes the client off the queue. NULL: nobody waits, or not long enough for a move. */
static struct client *pool_next_waiter_locked(struct pool_part *part, uint64_t now)
{
	struct client *oldest = pool_first_waiter_locked(part->pool);
	struct client *own = pool_first_own_locked(part);

	if (oldest == NULL || part->worker->frozen)
		return NULL;
	if (own != NULL && own->wait_us <= oldest->wait_us + POOL_SLACK_US)
		oldest = own;
	else if (own == NULL && !pool_is_overdue_locked(oldest, now))
		return NULL;
	queue_grant_locked(oldest, now);
	return oldest;
}

/* What became of a free server. */
enum checkin {
	CHECKIN_IDLE,
	CHECKIN_LOCAL, /* for a client of this worker */
	CHECKIN_AWAY,  /* for a client of another worker */
	CHECKIN_CLOSE,
};

static enum checkin pool_place_locked(struct pool_part *part, struct server *server, struct client **client,
				      enum reason *reason)
{
	struct pool *pool = part->pool;
	uint64_t now = loop_now_us(part->worker->ctx.loop);

	if (UNLIKELY(pool_is_paused(pool))) {
		queue_forget_locked(pool);
		*reason = REASON_PAUSE;
		return CHECKIN_CLOSE;
	}
	if (UNLIKELY(server_is_stale(server))) {
		*reason = REASON_OBSOLETE;
		return CHECKIN_CLOSE;
	}
	if (UNLIKELY(pool_claim_surplus_locked(pool, server))) {
		*reason = REASON_TOO_MANY;
		return CHECKIN_CLOSE;
	}
	if (UNLIKELY(pool->dedicated_count > 0) && dedicated_takes_room_locked(pool, server)) {
		*reason = REASON_EVICTED_POOL;
		return CHECKIN_CLOSE;
	}
	*client = pool_next_waiter_locked(part, now);
	if (*client == NULL) {
		breaker_pass_abandon(&server->permit.pass, now); /* nobody knows when it will serve somebody */
		server->is_idle = true;
		server->is_listed = true;
		server->idle_us = now;
		TAILQ_INSERT_HEAD(&part->idle, server, idle_entry);
		pool->idle++;
		return CHECKIN_IDLE;
	}
	if ((*client)->part == part)
		return CHECKIN_LOCAL;
	server->travel_worker = (uint16_t)(*client)->part->worker->index;
	server->travel_slot = (*client)->slot;
	server->travel_generation = (*client)->slot_generation;
	part->held--;
	pool->travelling++;
	return CHECKIN_AWAY;
}

void pool_checkin(struct pool_part *part, struct server *server)
{
	struct client *client;
	enum reason reason;
	enum checkin place;

	ASSERT(server->part == part && server->client == NULL && !server->is_idle);
	do {
		lock_acquire(&part->pool->lock);
		place = pool_place_locked(part, server, &client, &reason);
		lock_release(&part->pool->lock);
	} while (place == CHECKIN_LOCAL && !client_granted(client, server));
	if (place == CHECKIN_CLOSE)
		server_close(server, reason);
	else if (place == CHECKIN_AWAY)
		server_travel(server);
}

bool pool_remove_idle(struct pool_part *part, struct server *server)
{
	bool was_idle;

	lock_acquire(&part->pool->lock);
	was_idle = server->is_idle;
	if (was_idle) {
		server->is_idle = false;
		server->is_listed = false;
		TAILQ_REMOVE(&part->idle, server, idle_entry);
		part->pool->idle--;
	}
	lock_release(&part->pool->lock);
	return was_idle;
}

void pool_travel_ended(struct pool_part *part, const struct server *server)
{
	struct pool *pool = part->pool;

	lock_acquire(&pool->lock);
	ASSERT(pool->travelling > 0);
	pool->travelling--;
	if (server->travel_slot == SERVER_TRAVEL_NOBODY) {
		ASSERT(pool->borrowed > 0);
		pool->borrowed--;
	}
	part->held++;
	lock_release(&pool->lock);
}

/* ---- the greeting ---- */

void pool_offer_welcome(struct pool *pool, struct welcome *welcome, unsigned epoch)
{
	bool taken = false;

	lock_acquire(&pool->lock);
	if (pool->welcome == NULL && epoch == atomic_load(&pool->epoch)) {
		pool->welcome = welcome;
		taken = true;
	}
	lock_release(&pool->lock);
	if (taken)
		route_tell_parts(pool, ROUTE_TELL_WELCOME, NULL, NULL);
	else
		welcome_release(&welcome);
}

void pool_note_old_protocol(struct pool *pool, unsigned epoch)
{
	lock_acquire(&pool->lock);
	if (epoch == atomic_load(&pool->epoch))
		atomic_store(&pool->old_protocol, true);
	lock_release(&pool->lock);
}

void pool_begin_epoch(struct pool *pool)
{
	struct welcome *old;

	lock_acquire(&pool->lock);
	atomic_fetch_add(&pool->epoch, 1);
	atomic_store(&pool->old_protocol, false);
	for (size_t i = 0; i < POOL_PROVEN_MAX; i++)
		atomic_store(&pool->proven_vars[i], 0);
	old = pool->welcome;
	pool->welcome = NULL;
	lock_release(&pool->lock);
	welcome_release(&old);
}

struct welcome *pool_welcome(struct pool *pool)
{
	struct welcome *welcome;

	lock_acquire(&pool->lock);
	welcome = pool->welcome == NULL ? NULL : welcome_hold(pool->welcome);
	lock_release(&pool->lock);
	return welcome;
}

struct welcome *welcome_hold(struct welcome *w)
{
	atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	return w;
}

void welcome_release(struct welcome **wp)
{
	struct welcome *w = *wp;

	*wp = NULL;
	if (w == NULL || atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) != 1)
		return;
	vars_release(&w->defaults);
	free(w);
}

/* ---- the worker's part ---- */

struct pool_part *pool_part_get(struct pool *pool, struct worker *worker)
{
	struct pool_part *part = pool->parts[worker->index];

	if (!part->in_use) {
		struct pool *held UNUSED = pool_hold(pool); /* given back by pool_part_leave() */

		part->in_use = true;
		part->number = ++worker->part_numbers;
		TAILQ_INSERT_TAIL(&worker->parts, part, entry);
		lock_acquire(&pool->lock);
		part->conf = pool_conf_hold(pool->conf);
		lock_release(&pool->lock);
	}
	return part;
}

bool pool_part_is_empty(const struct pool_part *part)
{
	const struct pool *pool = part->pool;

	if (!TAILQ_EMPTY(&part->clients) || !TAILQ_EMPTY(&part->servers))
		return false;
	/* Somebody has to open the servers of a pool that needs no clients. */
	return !part->conf->is_forced || part->conf->min_size == 0 ||
	       atomic_load_explicit(&pool->removed, memory_order_relaxed);
}

void pool_part_leave(struct pool_part *part)
{
	struct pool *pool = part->pool;

	ASSERT(part->in_use && TAILQ_EMPTY(&part->clients) && TAILQ_EMPTY(&part->servers));
	ASSERT(part->waiting == 0 && part->timed == 0);
	refresh_skip_part(part->worker, part);
	TAILQ_REMOVE(&part->worker->parts, part, entry);
	part->in_use = false;
	pool_conf_release(&part->conf);
	pool_release(&pool);
}

/* ---- the pool as a whole ---- */

void pool_set_homes(struct pool *pool)
{
	unsigned homes = pool->engine->worker_count;

	if (pool->conf->size > 0 && pool->conf->size < homes)
		homes = pool->conf->size;
	atomic_store(&pool->home_count, homes);
}

void pool_count(struct pool *pool, struct pool_counts *counts)
{
	const struct client *oldest;

	lock_acquire(&pool->lock);
	oldest = TAILQ_FIRST(&pool->waiters);
	*counts = (struct pool_counts){
		.waiters = pool->waiter_count + pool->dedicated_count,
		.servers = pool->servers,
		.logging_in = pool->logging_in,
		.idle = pool->idle,
		.travelling = pool->travelling,
		.oldest_wait_us = oldest == NULL || !oldest->has_query ? 0 : oldest->wait_us,
	};
	lock_release(&pool->lock);
}

void pool_stats(struct pool *pool, struct stats_sum *sum)
{
	for (unsigned i = 0; i < pool->engine->worker_count; i++)
		stats_collect(&pool->parts[i]->stats, sum);
}
