/*
 * The registry, and how long what is in it lives.
 *
 * Databases, accounts (user names) and pools are registered when they are first
 * needed. Their tables are protected by engine->lock, which comes before the
 * lock of a pool in rank. What workers need on the path of a query is not here.
 *
 * Whoever keeps a pointer counts as a reference:
 *
 *     login   -> database, account        client, cancel   -> pool, account
 *     console -> database it waits for    server           -> pool
 *     message to parts of a pool, part of a pool in use    -> pool
 *
 * and a pool keeps its database and its account by standing in their lists. A
 * client has one reference from its login to its end, a server one from its
 * permit to its end; so nothing is counted on the path of a query. A worker
 * puts its part of a pool out of use when no client and no server is left in it
 * (pool_part_leave).
 *
 * Counts rise from zero only under the lock, in a look-up. Only the control
 * thread takes anything out of the tables: a sweep, twice a second, looks for
 * what nobody refers to and what is due:
 *
 *     account   at once: all it knows comes again with the next login
 *     pool      after pool_idle_timeout
 *     database  made by the * entry: after autodb_idle_timeout; of the file:
 *               when a reload finds it gone
 *
 * KILL and reloads take pools and databases out of the tables while they are in
 * use. These are marked `removed`: new clients get new objects, the old clients
 * and servers are closed, and the sweep finds what is left of them later.
 *
 * What a sweep has taken out is freed when a visit of all workers that began
 * later is over. Visits end in the order in which they began, so no answer of a
 * worker to an earlier one can still name the object; and no worker is in the
 * middle of the call in which it gave its last reference back.
 *
 * Nothing is allocated or logged under the lock. A look-up that finds nothing
 * makes the object first and takes the lock again to put it in; when meanwhile
 * somebody else has, or a reload has brought another configuration, it starts
 * anew.
 */
#include "pool/registry.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "pool/registry_walk.h"
#include "pool/route.h"

#define REGISTRY_SWEEP_US 500000

/* How many objects are looked at before others get the lock. */
#define REGISTRY_SLICE    128

/* ---- references ---- */

struct db *db_hold(struct db *db)
{
	unsigned old = atomic_fetch_add_explicit(&db->refs, 1, memory_order_relaxed);

	ASSERT(old > 0);
	return db;
}

struct pool *pool_hold(struct pool *pool)
{
	unsigned old = atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);

	ASSERT(old > 0);
	return pool;
}

static void registry_give(atomic_uint *refs)
{
	unsigned old = atomic_fetch_sub_explicit(refs, 1, memory_order_release);

	ASSERT(old > 0);
}

static unsigned registry_refs(atomic_uint *refs)
{
	return atomic_load_explicit(refs, memory_order_acquire);
}

void db_release(struct db **dbp)
{
	struct db *db = *dbp;

	*dbp = NULL;
	if (db != NULL)
		registry_give(&db->refs);
}

void account_release(struct account **accountp)
{
	struct account *account = *accountp;

	*accountp = NULL;
	if (account != NULL)
		registry_give(&account->refs);
}

void pool_release(struct pool **poolp)
{
	struct pool *pool = *poolp;

	*poolp = NULL;
	if (pool != NULL)
		registry_give(&pool->refs);
}

/* ---- databases ---- */

static void registry_free_db(struct db *db)
{
	if (db == NULL)
		return;
	ASSERT(TAILQ_EMPTY(&db->pools) && atomic_load(&db->refs) == 0);
	ASSERT(atomic_load(&db->servers) == 0 && atomic_load(&db->clients) == 0);
	conf_db_free(&db->auto_conf);
	free(db);
}

/* A database as the snapshot knows it, not registered; NULL when it does not. */
static struct db *registry_new_db(const struct snapshot *snap, const char *name, enum registry_scope scope)
{
	const struct conf_db *conf = conf_find_db(snap->conf, name);
	struct conf_db *auto_conf = NULL;
	struct db *db;

	if (conf == NULL && (scope != REGISTRY_ANY || conf_autodb(snap->conf, name, &auto_conf) != 0))
		return NULL;
	db = xcalloc(1, sizeof(*db) + strlen(name) + 1);
	memcpy(db->name, name, strlen(name) + 1);
	TAILQ_INIT(&db->pools);
	db->auto_conf = auto_conf;
	atomic_store(&db->max_servers, (unsigned)conf_max_db_connections(snap->conf, conf == NULL ? auto_conf : conf));
	return db;
}

struct db *registry_get_db(struct engine *engine, const char *name, enum registry_scope scope,
			   const struct log_about *about)
{
	struct snapshot *snap = NULL; /* under which `fresh` was made */
	struct db *fresh = NULL;
	struct db *db;
	bool is_new;

	for (;;) {
		lock_acquire(&engine->lock);
		HASH_FIND_STR(engine->dbs, name, db);
		is_new = db == NULL && fresh != NULL && snap == engine->snap;
		if (is_new) {
			db = fresh;
			HASH_ADD_STR(engine->dbs, name, db);
		}
		if (db != NULL) {
			atomic_fetch_add_explicit(&db->refs, 1, memory_order_relaxed);
			db->idle_us = 0;
		}
		lock_release(&engine->lock);
		if (db != NULL)
			break;
		registry_free_db(fresh);
		snapshot_release(&snap);
		snap = engine_snapshot(engine);
		fresh = registry_new_db(snap, name, scope);
		if (fresh == NULL)
			break;
	}
	snapshot_release(&snap);
	if (!is_new)
		registry_free_db(fresh);
	else if (db->auto_conf != NULL)
		log_info_about(about, "registered new auto-database: %s", name);
	return db;
}

/* ---- accounts ---- */

static void registry_free_account(struct account *account)
{
	if (account == NULL)
		return;
	ASSERT(TAILQ_EMPTY(&account->pools) && atomic_load(&account->refs) == 0);
	ASSERT(atomic_load(&account->servers) == 0 && atomic_load(&account->clients) == 0);
	mem_wipe(&account->keys, sizeof(account->keys));
	free(account);
}

static struct account *registry_new_account(const struct snapshot *snap, const char *name)
{
	struct account *account = xcalloc(1, sizeof(*account) + strlen(name) + 1);
	const struct conf_user *conf = conf_find_user(snap->conf, name);

	memcpy(account->name, name, strlen(name) + 1);
	TAILQ_INIT(&account->pools);
	atomic_store(&account->max_servers, (unsigned)conf_max_user_connections(snap->conf, conf));
	return account;
}

struct account *registry_get_account(struct engine *engine, const char *name)
{
	struct snapshot *snap = NULL;
	struct account *fresh = NULL;
	struct account *account;

	for (;;) {
		lock_acquire(&engine->lock);
		HASH_FIND_STR(engine->accounts, name, account);
		if (account == NULL && fresh != NULL && snap == engine->snap) {
			account = fresh;
			fresh = NULL;
			HASH_ADD_STR(engine->accounts, name, account);
		}
		if (account != NULL)
			atomic_fetch_add_explicit(&account->refs, 1, memory_order_relaxed);
		lock_release(&engine->lock);
		registry_free_account(fresh);
		snapshot_release(&snap);
		if (account != NULL)
			return account;
		snap = engine_snapshot(engine);
		fresh = registry_new_account(snap, name);
	}
}

/* ---- pools ---- */

static struct pool_part *registry_new_part(struct pool *pool, struct worker *worker)
{
	struct pool_part *part = xcalloc_aligned(sizeof(*part));

	part->pool = pool;
	retry_budget_init(&part->retry_budget);
	part->worker = worker;
	TAILQ_INIT(&part->clients);
	TAILQ_INIT(&part->servers);
	TAILQ_INIT(&part->idle);
	TAILQ_INIT(&part->waiters);
	return part;
}

/* A pool that is not registered; NULL when the snapshot does not know its database. */
static struct pool *registry_new_pool(struct engine *engine, const struct snapshot *snap, struct db *db,
				      struct account *account)
{
	const struct conf_db *conf = conf_find_db(snap->conf, db->name);
	unsigned count = engine->worker_count;
	struct conf_db *auto_conf = NULL;
	struct pool *pool;
	unsigned hash;

	if (conf == NULL && conf_autodb(snap->conf, db->name, &auto_conf) != 0)
		return NULL;
	pool = xcalloc(1, sizeof(*pool) + count * sizeof(pool->parts[0]));
	pool->magic = POOL_MAGIC;
	pool->engine = engine;
	pool->db = db;
	pool->account = account;
	pool->key = (struct pool_key){ db, account };
	str_format(pool->name, sizeof(pool->name), "%s/%s", db->name, account->name);
	HASH_VALUE(pool->name, strlen(pool->name), hash);
	pool->first_home = hash % count;
	lock_init(&pool->lock, LOCK_RANK_POOL);
	TAILQ_INIT(&pool->waiters);
	TAILQ_INIT(&pool->dedicated);
	pool->conf =
		pool_conf_make(snap->conf, snap->users, snap->tls, engine->endpoints, conf == NULL ? auto_conf : conf,
			       account->name, conf == NULL ? snap->template_version : 0, NULL);
	conf_db_free(&auto_conf);
	for (unsigned i = 0; i < count; i++)
		pool->parts[i] = registry_new_part(pool, engine->workers[i]);
	pool_set_homes(pool);
	return pool;
}

/* Nothing of what a permit counts, nobody who waits, no part in use: whatever is left here has been lost. */
static void registry_free_pool(struct pool *pool)
{
	if (pool == NULL)
		return;
	CHECK_OBJ(pool, POOL_MAGIC);
	ASSERT(atomic_load(&pool->refs) == 0);
	ASSERT(pool->servers == 0 && pool->logging_in == 0 && pool->closing == 0 && pool->idle == 0);
	ASSERT(pool->travelling == 0 && pool->borrowed == 0);
	ASSERT(pool->waiter_count == 0 && TAILQ_EMPTY(&pool->waiters));
	ASSERT(pool->dedicated_count == 0 && pool->dedicated_logins == 0 && TAILQ_EMPTY(&pool->dedicated));
	for (unsigned i = 0; i < pool->engine->worker_count; i++) {
		struct pool_part *part = pool->parts[i];

		ASSERT(!part->in_use && part->held == 0 && atomic_load(&part->client_count) == 0);
		ASSERT(TAILQ_EMPTY(&part->servers) && TAILQ_EMPTY(&part->clients));
		free(part);
	}
	pool_conf_release(&pool->conf);
	pool_secret_free(&pool->secret);
	welcome_release(&pool->welcome);
	lock_fini(&pool->lock);
	pool->magic = 0;
	free(pool);
}

static void registry_link_pool_locked(struct engine *engine, struct pool *pool)
{
	pool->id = engine->next_pool_id++;
	HASH_ADD(hh, engine->pool_table, key, sizeof(pool->key), pool);
	TAILQ_INSERT_TAIL(engine->pools, pool, entry);
	TAILQ_INSERT_HEAD(&pool->db->pools, pool, db_entry);
	TAILQ_INSERT_HEAD(&pool->account->pools, pool, user_entry);
}

static struct pool *registry_find_pool_locked(struct engine *engine, struct db *db, struct account *account)
{
	struct pool_key key = { db, account };
	struct pool *pool;

	HASH_FIND(hh, engine->pool_table, &key, sizeof(key), pool);
	return pool;
}

struct pool *registry_get_pool(struct engine *engine, struct db *db, const char *user)
{
	struct account *account = registry_get_account(engine, user);
	struct snapshot *snap = NULL; /* under which `fresh` was made */
	struct pool *fresh = NULL;
	struct pool *pool;
	bool is_removed;

	for (;;) {
		lock_acquire(&engine->lock);
		pool = registry_find_pool_locked(engine, db, account);
		is_removed = atomic_load(&db->removed);
		if (pool == NULL && !is_removed && fresh != NULL && snap == engine->snap) {
			pool = fresh;
			fresh = NULL;
			registry_link_pool_locked(engine, pool);
		}
		if (pool != NULL) {
			atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
			pool->idle_us = db->idle_us = 0;
		}
		lock_release(&engine->lock);
		registry_free_pool(fresh);
		snapshot_release(&snap);
		if (pool != NULL || is_removed)
			break;
		snap = engine_snapshot(engine);
		fresh = registry_new_pool(engine, snap, db, account);
		if (fresh == NULL)
			break; /* a reload has just taken the database away */
	}
	snapshot_release(&snap);
	account_release(&account); /* the pool keeps it */
	return pool;
}

/* ---- taking out ---- */

static void registry_remove_pool_locked(struct engine *engine, struct pool *pool)
{
	atomic_store(&pool->removed, true);
	HASH_DEL(engine->pool_table, pool);
	TAILQ_REMOVE(&pool->db->pools, pool, db_entry);
	TAILQ_INSERT_TAIL(&pool->db->pools, pool, db_entry);
}

/* The next pool of the database that is in the table, taken out of it; held. NULL: there is none any more. */
static struct pool *registry_remove_next(struct engine *engine, struct db *db, bool *is_used)
{
	struct pool *pool;

	lock_acquire(&engine->lock);
	pool = TAILQ_FIRST(&db->pools);
	if (pool != NULL && atomic_load(&pool->removed))
		pool = NULL; /* so are all behind it */
	if (pool != NULL) {
		registry_remove_pool_locked(engine, pool);
		pool->idle_us = 0; /* it does not go for its age */
		*is_used = atomic_fetch_add_explicit(&pool->refs, 1, memory_order_acquire) > 0;
	}
	lock_release(&engine->lock);
	return pool;
}

void registry_remove_pools(struct engine *engine, struct db *db)
{
	struct pool *pool;
	bool is_used = false;

	while ((pool = registry_remove_next(engine, db, &is_used)) != NULL) {
		if (is_used)
			route_tell_parts(pool, ROUTE_TELL_KILL, NULL, NULL);
		pool_release(&pool);
	}
}

void registry_log_dropped(const char *name)
{
	log_warning("dropping database '%s' as it does not exist anymore or inactive auto-database", name);
}

static void registry_remove_db_locked(struct engine *engine, struct db *db)
{
	atomic_store(&db->removed, true);
	HASH_DEL(engine->dbs, db);
	TAILQ_INSERT_TAIL(&engine->removed_dbs, db, entry);
}

void registry_remove_db(struct engine *engine, struct db *db)
{
	lock_acquire(&engine->lock);
	registry_remove_db_locked(engine, db);
	lock_release(&engine->lock);
	registry_remove_pools(engine, db);
}

/* ---- the sweep ---- */

/* What is out of the tables and is freed after a round of all workers. */
struct registry_gone {
	struct pool_list pools;
	TAILQ_HEAD(, db) dbs;
	SLIST_HEAD(, account) accounts;
};

struct registry_sweep {
	struct engine *engine;
	uint64_t now_us;
	uint64_t pool_timeout_us; /* 0: never */
	uint64_t db_timeout_us;   /* 0: never */
	struct registry_gone *gone;
};

/* True when nobody has used it for longer than `timeout_us`; `*idle_us` remembers when that began. */
static bool registry_is_due(uint64_t *idle_us, bool is_used, uint64_t now_us, uint64_t timeout_us)
{
	if (is_used)
		*idle_us = 0;
	else if (*idle_us == 0)
		*idle_us = now_us;
	return *idle_us > 0 && timeout_us > 0 && now_us - *idle_us > timeout_us;
}

/* Takes a pool out of all lists. */
static void registry_unlink_pool_locked(struct registry_sweep *sweep, struct pool *pool)
{
	TAILQ_REMOVE(sweep->engine->pools, pool, entry);
	TAILQ_REMOVE(&pool->db->pools, pool, db_entry);
	TAILQ_REMOVE(&pool->account->pools, pool, user_entry);
	TAILQ_INSERT_TAIL(&sweep->gone->pools, pool, entry);
}

static void registry_sweep_pool_locked(struct registry_sweep *sweep, struct pool *pool)
{
	bool is_used = registry_refs(&pool->refs) > 0;
	bool is_kept = pool->conf->is_forced && pool->conf->min_size > 0;

	if (!atomic_load(&pool->removed)) {
		if (!registry_is_due(&pool->idle_us, is_used || is_kept, sweep->now_us, sweep->pool_timeout_us))
			return;
		registry_remove_pool_locked(sweep->engine, pool);
	}
	if (!is_used)
		registry_unlink_pool_locked(sweep, pool);
}

static bool registry_is_db_used_locked(struct db *db)
{
	struct pool *pool;

	if (registry_refs(&db->refs) > 0)
		return true;
	TAILQ_FOREACH (pool, &db->pools, db_entry)
		if (registry_refs(&pool->refs) > 0)
			return true;
	return false;
}

/* Databases of the file stay; those of the * entry go in time, but with a pause it would be forgotten. */
static bool registry_sweep_db_locked(struct registry_sweep *sweep, struct db *db)
{
	bool is_used = db->auto_conf == NULL || atomic_load(&db->paused) || atomic_load(&db->drain) != DRAIN_NONE ||
		       registry_is_db_used_locked(db);

	if (!registry_is_due(&db->idle_us, is_used, sweep->now_us, sweep->db_timeout_us))
		return false;
	registry_remove_db_locked(sweep->engine, db);
	return true;
}

static void registry_sweep_account_locked(struct registry_sweep *sweep, struct account *account)
{
	if (registry_refs(&account->refs) > 0 || !TAILQ_EMPTY(&account->pools))
		return;
	HASH_DEL(sweep->engine->accounts, account);
	SLIST_INSERT_HEAD(&sweep->gone->accounts, account, gone);
}

static void registry_sweep_pools(struct registry_sweep *sweep)
{
	struct pool **pools;
	size_t n = registry_all_pools(sweep->engine, &pools);

	for (size_t i = 0; i < n; i++) {
		if (i % REGISTRY_SLICE == 0)
			lock_acquire(&sweep->engine->lock);
		registry_sweep_pool_locked(sweep, pools[i]);
		if (i + 1 == n || (i + 1) % REGISTRY_SLICE == 0)
			lock_release(&sweep->engine->lock);
	}
	free(pools);
}

static void registry_sweep_dbs(struct registry_sweep *sweep)
{
	struct engine *engine = sweep->engine;
	struct db **dbs;
	size_t n = registry_dbs(engine, &dbs);

	for (size_t i = 0; i < n; i++) {
		bool is_due;

		if (dbs[i]->auto_conf == NULL)
			continue;
		lock_acquire(&engine->lock);
		is_due = registry_sweep_db_locked(sweep, dbs[i]);
		lock_release(&engine->lock);
		if (!is_due)
			continue;
		registry_log_dropped(dbs[i]->name);
		registry_remove_pools(engine, dbs[i]);
	}
	free(dbs);
}

/* Databases that are out of the table already, and left by everybody. Nobody can come back to them. */
static void registry_sweep_removed_dbs(struct registry_sweep *sweep)
{
	struct engine *engine = sweep->engine;
	struct db *next;

	for (struct db *db = TAILQ_FIRST(&engine->removed_dbs); db != NULL; db = next) {
		bool is_free;

		next = TAILQ_NEXT(db, entry);
		lock_acquire(&engine->lock);
		is_free = TAILQ_EMPTY(&db->pools) && registry_refs(&db->refs) == 0;
		lock_release(&engine->lock);
		if (!is_free)
			continue;
		TAILQ_REMOVE(&engine->removed_dbs, db, entry);
		TAILQ_INSERT_TAIL(&sweep->gone->dbs, db, entry);
	}
}

static void registry_sweep_accounts(struct registry_sweep *sweep)
{
	struct account **accounts;
	size_t n = registry_accounts(sweep->engine, &accounts);

	for (size_t i = 0; i < n; i++) {
		if (i % REGISTRY_SLICE == 0)
			lock_acquire(&sweep->engine->lock);
		registry_sweep_account_locked(sweep, accounts[i]);
		if (i + 1 == n || (i + 1) % REGISTRY_SLICE == 0)
			lock_release(&sweep->engine->lock);
	}
	free(accounts);
}

static void registry_free_gone(void *arg)
{
	struct registry_gone *gone = arg;
	struct pool *pool;
	struct db *db;
	struct account *account;

	while ((pool = TAILQ_FIRST(&gone->pools)) != NULL) {
		TAILQ_REMOVE(&gone->pools, pool, entry);
		registry_free_pool(pool);
	}
	while ((db = TAILQ_FIRST(&gone->dbs)) != NULL) {
		TAILQ_REMOVE(&gone->dbs, db, entry);
		registry_free_db(db);
	}
	while ((account = SLIST_FIRST(&gone->accounts)) != NULL) {
		SLIST_REMOVE_HEAD(&gone->accounts, gone);
		registry_free_account(account);
	}
	free(gone);
}

static void registry_on_visit(struct worker *worker UNUSED, void *arg UNUSED)
{
}

static void registry_log_pools(const struct registry_sweep *sweep)
{
	const struct pool *pool;

	TAILQ_FOREACH (pool, &sweep->gone->pools, entry)
		if (pool->idle_us > 0)
			log_info("cleaning up idle pool for user %s on db %s because: pool idle timeout (age= %" PRIu64
				 "s)",
				 pool->account->name, pool->db->name, (sweep->now_us - pool->idle_us) / USEC_PER_SEC);
}

static void registry_sweep(struct loop *loop UNUSED, void *arg)
{
	struct engine *engine = arg;
	struct registry_sweep sweep = {
		.engine = engine,
		.now_us = loop_now_us(engine->control),
		.pool_timeout_us = engine->snap->conf->pool_idle_timeout_us,
		.db_timeout_us = engine->snap->conf->autodb_idle_timeout_us,
		.gone = xcalloc(1, sizeof(*sweep.gone)),
	};

	TAILQ_INIT(&sweep.gone->pools);
	TAILQ_INIT(&sweep.gone->dbs);
	SLIST_INIT(&sweep.gone->accounts);
	registry_sweep_dbs(&sweep);
	registry_sweep_pools(&sweep);
	registry_sweep_removed_dbs(&sweep);
	registry_sweep_accounts(&sweep);
	registry_log_pools(&sweep);
	if (TAILQ_EMPTY(&sweep.gone->pools) && TAILQ_EMPTY(&sweep.gone->dbs) && SLIST_EMPTY(&sweep.gone->accounts))
		free(sweep.gone);
	else
		engine_visit(engine, registry_on_visit, registry_free_gone, sweep.gone);
}

/* ---- begin and end ---- */

void registry_init(struct engine *engine)
{
	lock_init(&engine->lock, LOCK_RANK_REGISTRY);
	engine->pools = xcalloc(1, sizeof(*engine->pools));
	TAILQ_INIT(engine->pools);
	TAILQ_INIT(&engine->removed_dbs);
	engine->next_pool_id = 1;
	loop_ticker_init(&engine->sweep, engine->control, registry_sweep, engine);
	loop_ticker_start(&engine->sweep, REGISTRY_SWEEP_US);
}

void registry_fini(struct engine *engine)
{
	struct account *account;
	struct account *tmp_account;
	struct pool *pool;
	struct db *db;
	struct db *tmp_db;

	loop_ticker_fini(&engine->sweep);
	while ((pool = TAILQ_FIRST(engine->pools)) != NULL) {
		TAILQ_REMOVE(engine->pools, pool, entry);
		TAILQ_REMOVE(&pool->db->pools, pool, db_entry);
		TAILQ_REMOVE(&pool->account->pools, pool, user_entry);
		if (!atomic_load(&pool->removed))
			HASH_DEL(engine->pool_table, pool);
		registry_free_pool(pool);
	}
	HASH_ITER (hh, engine->dbs, db, tmp_db) {
		HASH_DEL(engine->dbs, db);
		registry_free_db(db);
	}
	while ((db = TAILQ_FIRST(&engine->removed_dbs)) != NULL) {
		TAILQ_REMOVE(&engine->removed_dbs, db, entry);
		registry_free_db(db);
	}
	HASH_ITER (hh, engine->accounts, account, tmp_account) {
		HASH_DEL(engine->accounts, account);
		registry_free_account(account);
	}
	free(engine->pools);
	snapshot_release(&engine->snap);
	lock_fini(&engine->lock);
}
