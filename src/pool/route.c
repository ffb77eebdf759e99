/*
 * The registry.
 *
 * Databases, accounts (user names) and pools are registered when they are
 * first needed and live until the engine ends, so a pointer to one needs no
 * count. Their tables are protected by engine->lock, which comes before the
 * lock of a pool in rank. What workers need on the path of a query is not
 * here: each part of a pool has its own pointer to the settings in effect.
 */
#include "pool/route.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "pool/client.h"
#include "pool/server.h"

void route_init(struct engine *engine)
{
	lock_init(&engine->lock, LOCK_RANK_REGISTRY);
	engine->pools = xcalloc(1, sizeof(*engine->pools));
	TAILQ_INIT(engine->pools);
}

/* ---- databases and accounts ---- */

/* The definition of a database under a snapshot, or NULL. Under the registry lock. */
static const struct conf_db *route_db_conf(const struct snapshot *snap, struct db *db)
{
	const struct conf_db *conf = conf_find_db(snap->conf, db->name);

	return conf != NULL ? conf : db->auto_conf;
}

/* Makes a snapshot's limits those of the database. Under the registry lock. */
static void route_apply_db(const struct snapshot *snap, struct db *db)
{
	const struct conf_db *conf = route_db_conf(snap, db);

	atomic_store(&db->max_servers, (unsigned)conf_max_db_connections(snap->conf, conf));
	atomic_store(&db->removed, conf == NULL);
}

static struct db *route_db_find(struct engine *engine, const char *name)
{
	struct db *db;

	HASH_FIND_STR(engine->dbs, name, db);
	return db;
}

/* Registers a database that the file names, or that the * entry makes (then it owns auto_conf). */
static struct db *route_db_add(struct engine *engine, const struct snapshot *snap, const char *name,
			       struct conf_db *auto_conf)
{
	struct db *db = xcalloc(1, sizeof(*db) + strlen(name) + 1);

	memcpy(db->name, name, strlen(name) + 1);
	db->auto_conf = auto_conf;
	db->is_auto = auto_conf != NULL;
	route_apply_db(snap, db);
	HASH_ADD_STR(engine->dbs, name, db);
	if (auto_conf != NULL)
		log_info("registered new auto-database: %s", name);
	return db;
}

struct db *route_db_known(struct engine *engine, const struct snapshot *snap, const char *name)
{
	struct db *db;

	lock_acquire(&engine->lock);
	db = route_db_find(engine, name);
	if (db != NULL && atomic_load(&db->removed))
		db = NULL;
	else if (db == NULL && conf_find_db(snap->conf, name) != NULL)
		db = route_db_add(engine, snap, name, NULL);
	lock_release(&engine->lock);
	return db;
}

struct db *route_db(struct engine *engine, const struct snapshot *snap, const char *name)
{
	struct conf_db *auto_conf = NULL;
	struct db *db;

	lock_acquire(&engine->lock);
	db = route_db_find(engine, name);
	if (db != NULL && atomic_load(&db->removed))
		db = NULL;
	else if (db == NULL && conf_find_db(snap->conf, name) != NULL)
		db = route_db_add(engine, snap, name, NULL);
	else if (db == NULL && conf_autodb(snap->conf, name, &auto_conf) == 0)
		db = route_db_add(engine, snap, name, auto_conf);
	lock_release(&engine->lock);
	return db;
}

static void route_apply_account(const struct snapshot *snap, struct account *account)
{
	const struct conf_user *conf = conf_find_user(snap->conf, account->name);

	atomic_store(&account->max_servers, (unsigned)conf_max_user_connections(snap->conf, conf));
}

struct account *route_account_find(struct engine *engine, const char *name)
{
	struct account *account;

	lock_acquire(&engine->lock);
	HASH_FIND_STR(engine->accounts, name, account);
	lock_release(&engine->lock);
	return account;
}

/* Under the registry lock. */
static struct account *route_account_get(struct engine *engine, const struct snapshot *snap, const char *name)
{
	struct account *account;

	HASH_FIND_STR(engine->accounts, name, account);
	if (account != NULL)
		return account;
	account = xcalloc(1, sizeof(*account) + strlen(name) + 1);
	memcpy(account->name, name, strlen(name) + 1);
	route_apply_account(snap, account);
	HASH_ADD_STR(engine->accounts, name, account);
	return account;
}

struct account *route_account(struct engine *engine, const struct snapshot *snap, const char *name)
{
	struct account *account;

	lock_acquire(&engine->lock);
	account = route_account_get(engine, snap, name);
	lock_release(&engine->lock);
	return account;
}

bool route_forced_user(struct engine *engine, const struct snapshot *snap, struct db *db, char *dst, size_t size)
{
	const struct conf_db *conf;
	bool forced;

	lock_acquire(&engine->lock);
	conf = route_db_conf(snap, db);
	forced = conf != NULL && conf->user != NULL;
	if (forced)
		str_copy(dst, size, conf->user);
	lock_release(&engine->lock);
	return forced;
}

unsigned route_max_db_clients(struct engine *engine, const struct snapshot *snap, struct db *db)
{
	unsigned max;

	lock_acquire(&engine->lock);
	max = (unsigned)conf_max_db_client_connections(snap->conf, route_db_conf(snap, db));
	lock_release(&engine->lock);
	return max;
}

uint64_t route_query_wait_timeout_us(struct engine *engine, const struct snapshot *snap, struct db *db,
				     const char *user)
{
	uint64_t timeout_us;

	lock_acquire(&engine->lock);
	timeout_us = conf_query_wait_timeout_us(snap->conf, route_db_conf(snap, db), conf_find_user(snap->conf, user));
	lock_release(&engine->lock);
	return timeout_us;
}

void route_store_keys(struct engine *engine, struct account *account, const struct scram_keys *keys)
{
	lock_acquire(&engine->lock);
	account->keys = *keys;
	account->has_keys = true;
	lock_release(&engine->lock);
}

bool route_copy_keys(struct engine *engine, struct account *account, struct scram_keys *keys)
{
	bool has;

	lock_acquire(&engine->lock);
	has = account->has_keys;
	if (has)
		*keys = account->keys;
	lock_release(&engine->lock);
	return has;
}

/* ---- settings of a pool ---- */

struct pool_conf *pool_conf_hold(struct pool_conf *conf)
{
	atomic_fetch_add_explicit(&conf->refs, 1, memory_order_relaxed);
	return conf;
}

void pool_conf_release(struct pool_conf **confp)
{
	struct pool_conf *conf = *confp;

	*confp = NULL;
	if (conf == NULL || atomic_fetch_sub_explicit(&conf->refs, 1, memory_order_acq_rel) != 1)
		return;
	secret_fini(&conf->secret);
	conf_db_free(&conf->own_db);
	snapshot_release(&conf->snap);
	free(conf);
}

/* Which parameters a server is told at its login. */
static void route_fill_startup(struct pool_conf *pc, const struct conf_db *db)
{
	const char *const pairs[][2] = {
		{ "client_encoding", db->client_encoding },
		{ "datestyle", db->datestyle },
		{ "timezone", db->timezone },
		{ "application_name", db->application_name },
	};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		if (pairs[i][1] == NULL)
			continue;
		pc->startup[n][0] = pairs[i][0];
		pc->startup[n][1] = pairs[i][1];
		n++;
	}
}

/* The secret for servers: of the connect string, else of the list of users. */
static void route_fill_secret(struct pool_conf *pc, const struct conf_db *db, const struct users *users,
			      const char *user)
{
	const struct user *listed = users_find(users, user);

	if (db->user != NULL && db->password != NULL && db->password[0] != '\0')
		secret_init(&pc->secret, slice_of(db->password));
	else
		secret_copy(&pc->secret, listed == NULL ? NULL : &listed->secret);
}

static void route_fill_timeouts(struct pool_conf *pc, const struct conf *conf, const struct conf_user *user)
{
	pc->reserve_timeout_us = conf->reserve_pool_timeout_us;
	pc->server_lifetime_us = conf_server_lifetime_us(conf, pc->db);
	pc->server_idle_timeout_us = conf->server_idle_timeout_us;
	pc->server_connect_timeout_us = conf->server_connect_timeout_us;
	pc->server_login_retry_us = conf->server_login_retry_us;
	pc->server_check_delay_us = conf->server_check_delay_us;
	pc->query_timeout_us = conf_query_timeout_us(conf, user);
	pc->idle_transaction_timeout_us = conf_idle_transaction_timeout_us(conf, user);
	pc->transaction_timeout_us = conf_transaction_timeout_us(conf, user);
}

static void route_fill_tuning(struct sock_tuning *tuning, const struct conf *conf)
{
	*tuning = (struct sock_tuning){
		.keepalive = conf->tcp_keepalive != 0,
		.keepidle_s = conf->tcp_keepidle,
		.keepintvl_s = conf->tcp_keepintvl,
		.keepcnt = conf->tcp_keepcnt,
		.user_timeout_ms = conf->tcp_user_timeout,
		.buffer_bytes = conf->tcp_socket_buffer,
	};
}

/* The settings in effect for a pool. Under the registry lock; `auto_conf` is what the * entry gives, or NULL. */
static struct pool_conf *route_pool_conf(struct snapshot *snap, struct db *db, const char *user_name)
{
	const struct conf *conf = snap->conf;
	const struct conf_user *user = conf_find_user(conf, user_name);
	struct pool_conf *pc = xcalloc(1, sizeof(*pc));
	const struct conf_db *cdb;

	atomic_init(&pc->refs, 1);
	pc->snap = snapshot_hold(snap);
	pc->db = conf_find_db(conf, db->name);
	if (pc->db == NULL && conf_autodb(conf, db->name, &pc->own_db) == 0)
		pc->db = pc->own_db;
	cdb = pc->db;
	pc->mode = conf_pool_mode(conf, cdb, user);
	pc->size = (unsigned)conf_pool_size(conf, cdb, user);
	pc->min_size = (unsigned)conf_min_pool_size(conf, cdb);
	pc->reserve_size = (unsigned)conf_reserve_pool_size(conf, cdb, user);
	pc->login_concurrency = conf->server_login_concurrency;
	pc->max_packet_size = conf->max_packet_size;
	pc->round_robin = conf->server_round_robin != 0;
	pc->backoff = conf->profile == CONF_PROFILE_PGSLUICE;
	pc->unix_dir = conf->unix_socket_dir;
	route_fill_timeouts(pc, conf, user);
	route_fill_tuning(&pc->tuning, conf);
	if (conf->server_reset_query[0] != '\0' &&
	    (pc->mode == CONF_POOL_SESSION || conf->server_reset_query_always != 0))
		pc->reset_query = conf->server_reset_query;
	if (strcmp(conf->server_check_query, "<empty>") == 0)
		pc->check_query = "";
	else if (conf->server_check_query[0] != '\0')
		pc->check_query = conf->server_check_query;
	if (cdb == NULL)
		return pc;
	pc->connect_query = cdb->connect_query;
	pc->host = cdb->host;
	pc->port = cdb->port;
	pc->dbname = cdb->dbname;
	pc->host_round_robin = cdb->load_balance_hosts == CONF_LOAD_BALANCE_ROUND_ROBIN;
	route_fill_secret(pc, cdb, snap->users, user_name);
	route_fill_startup(pc, cdb);
	return pc;
}

/* ---- pools ---- */

static struct pool *route_pool_find(struct engine *engine, struct db *db, struct account *account)
{
	struct pool_key key = { db, account };
	struct pool *pool;

	HASH_FIND(hh, engine->pool_table, &key, sizeof(key), pool);
	return pool;
}

/* How many workers serve the pool. */
static void route_set_homes(struct pool *pool)
{
	unsigned homes = pool->engine->worker_count;

	if (pool->conf->size > 0 && pool->conf->size < homes)
		homes = pool->conf->size;
	atomic_store(&pool->home_count, homes);
}

static struct pool *route_pool_add(struct engine *engine, struct db *db, struct account *account)
{
	unsigned count = engine->worker_count;
	struct pool *pool = xcalloc(1, sizeof(*pool) + count * sizeof(pool->parts[0]));
	unsigned hash;

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
	pool->conf = route_pool_conf(engine->snap, db, account->name);
	pool->forced_user = pool->conf->db != NULL && pool->conf->db->user != NULL;
	for (unsigned i = 0; i < count; i++) {
		struct pool_part *part = xcalloc_aligned(sizeof(*part));

		part->pool = pool;
		part->worker = engine->workers[i];
		TAILQ_INIT(&part->clients);
		TAILQ_INIT(&part->servers);
		TAILQ_INIT(&part->idle);
		TAILQ_INIT(&part->waiters);
		pool->parts[i] = part;
	}
	route_set_homes(pool);
	HASH_ADD(hh, engine->pool_table, key, sizeof(pool->key), pool);
	TAILQ_INSERT_TAIL(engine->pools, pool, entry);
	return pool;
}

struct pool *route_pool(struct engine *engine, struct db *db, const char *user)
{
	struct account *account;
	struct pool *pool;

	lock_acquire(&engine->lock);
	account = route_account_get(engine, engine->snap, user);
	pool = route_pool_find(engine, db, account);
	if (pool == NULL)
		pool = route_pool_add(engine, db, account);
	lock_release(&engine->lock);
	return pool;
}

/* ---- messages to the parts of a pool ---- */

struct tell_msg {
	struct loop_msg msg;
	struct pool *pool;
	enum route_tell what;
	char text[512];
	char sqlstate[6];
};

/* Ends every client of this part that waits. */
static void route_fail_waiters(struct pool_part *part, const char *text, const char *sqlstate)
{
	struct client *client;
	struct client *next;

	for (client = TAILQ_FIRST(&part->clients); client != NULL; client = next) {
		next = TAILQ_NEXT(client, entry);
		if (client->state != CL_WAITING && client->state != CL_WELCOME)
			continue;
		if (pool_dequeue(part, client))
			client_close_with(client, REASON_LOGIN_FAILED, text, sqlstate);
	}
}

static void route_greet_waiters(struct pool_part *part)
{
	struct client *client;
	struct client *next;

	for (client = TAILQ_FIRST(&part->clients); client != NULL; client = next) {
		next = TAILQ_NEXT(client, entry);
		if (client->state == CL_WELCOME && pool_dequeue(part, client))
			client_granted_greeting(client);
	}
}

/* The database is gone: so are its clients and servers. */
static void route_kill_part(struct pool_part *part)
{
	struct client *client;
	struct server *server;
	struct server *next;

	while ((client = TAILQ_FIRST(&part->clients)) != NULL)
		client_close(client, REASON_DB_REMOVED);
	for (server = TAILQ_FIRST(&part->servers); server != NULL; server = next) {
		next = TAILQ_NEXT(server, entry);
		server_close(server, REASON_DB_REMOVED);
	}
}

static void route_on_tell(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct tell_msg *msg = CONTAINER_OF(base, struct tell_msg, msg);
	struct pool_part *part = pool_part_get(msg->pool, worker_current());

	switch (msg->what) {
	case ROUTE_TELL_RUN:
		pool_run(part);
		break;
	case ROUTE_TELL_WELCOME:
		route_greet_waiters(part);
		break;
	case ROUTE_TELL_FAIL:
		route_fail_waiters(part, msg->text, msg->sqlstate[0] == '\0' ? NULL : msg->sqlstate);
		break;
	case ROUTE_TELL_KILL:
		route_kill_part(part);
		break;
	}
	free(msg);
}

void route_tell_parts(struct pool *pool, enum route_tell what, const char *text, const char *sqlstate)
{
	for (unsigned i = 0; i < pool->engine->worker_count; i++) {
		struct tell_msg *msg;

		if (what != ROUTE_TELL_RUN && what != ROUTE_TELL_KILL &&
		    atomic_load(&pool->parts[i]->client_count) == 0)
			continue;
		msg = xcalloc(1, sizeof(*msg));
		msg->msg.fn = route_on_tell;
		msg->pool = pool;
		msg->what = what;
		if (text != NULL)
			str_copy(msg->text, sizeof(msg->text), text);
		if (sqlstate != NULL)
			str_copy(msg->sqlstate, sizeof(msg->sqlstate), sqlstate);
		loop_post(pool->engine->workers[i]->ctx.loop, &msg->msg);
		if (what == ROUTE_TELL_RUN)
			break; /* whoever opens the server, it goes to the oldest */
	}
}

void route_kick(struct engine *engine, struct db *db, struct account *account)
{
	struct pool *pool;

	lock_acquire(&engine->lock);
	TAILQ_FOREACH (pool, engine->pools, entry) {
		struct pool_counts counts;

		if (pool->db != db && pool->account != account)
			continue;
		pool_count(pool, &counts);
		if (counts.waiters > 0)
			route_tell_parts(pool, ROUTE_TELL_RUN, NULL, NULL);
	}
	lock_release(&engine->lock);
}

/* ---- pools that need no client ---- */

void route_prepare(struct engine *engine)
{
	struct snapshot *snap = engine_snapshot(engine);
	const struct conf *conf = snap->conf;

	for (size_t i = 0; i < conf->db_count; i++) {
		const struct conf_db *cdb = &conf->dbs[i];
		struct db *db;

		if (cdb->user == NULL || conf_min_pool_size(conf, cdb) == 0)
			continue;
		db = route_db(engine, snap, cdb->name);
		if (db != NULL)
			route_tell_parts(route_pool(engine, db, cdb->user), ROUTE_TELL_RUN, NULL, NULL);
	}
	snapshot_release(&snap);
}

/* ---- eviction ---- */

/* The idle server of a pool that was used least recently. Under the pool's lock. */
static struct server *route_oldest_idle_locked(struct pool *pool)
{
	struct server *oldest = NULL;

	for (unsigned i = 0; i < pool->engine->worker_count; i++) {
		struct server *server = TAILQ_LAST(&pool->parts[i]->idle, server_list);

		if (server != NULL && (oldest == NULL || server->idle_us < oldest->idle_us))
			oldest = server;
	}
	return oldest;
}

/* Takes the oldest idle server off its list, to be closed by its worker; false when there is none any more. */
static bool route_evict_from(struct pool *pool)
{
	struct server *server;

	lock_acquire(&pool->lock);
	server = route_oldest_idle_locked(pool);
	if (server != NULL) {
		TAILQ_REMOVE(&server->part->idle, server, idle_entry);
		server->is_idle = false;
		server->travel_slot = SERVER_TRAVEL_EVICT;
		server->part->held--;
		pool->idle--;
		pool->travelling++;
	}
	lock_release(&pool->lock);
	if (server == NULL)
		return false;
	server->msg.fn = server_lend;
	loop_post(server->part->worker->ctx.loop, &server->msg);
	return true;
}

void route_evict(struct engine *engine, struct pool *asking, struct db *db, struct account *account)
{
	struct pool *pool;
	struct pool *victim = NULL;
	uint64_t oldest_us = UINT64_MAX;
	atomic_bool *evicting = db != NULL ? &db->evicting : &account->evicting;

	if (atomic_exchange(evicting, true))
		return; /* one at a time; pool_permit_give() ends it */
	lock_acquire(&engine->lock);
	TAILQ_FOREACH (pool, engine->pools, entry) {
		struct server *server;

		if (pool == asking || (pool->db != db && pool->account != account))
			continue;
		lock_acquire(&pool->lock);
		server = route_oldest_idle_locked(pool);
		if (server != NULL && server->idle_us < oldest_us) {
			oldest_us = server->idle_us;
			victim = pool;
		}
		lock_release(&pool->lock);
	}
	if (victim == NULL || !route_evict_from(victim))
		atomic_store(evicting, false);
	lock_release(&engine->lock);
}

/* ---- reload ---- */

struct conf_msg {
	struct loop_msg msg;
	struct pool_part *part;
	struct pool_conf *conf;
	bool new_servers; /* connections made under the old settings are no good any more */
};

static void route_on_conf(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct conf_msg *msg = CONTAINER_OF(base, struct conf_msg, msg);
	struct pool_part *part = msg->part;
	struct client *client;
	struct server *server;

	if (!part->in_use) {
		pool_conf_release(&msg->conf);
		free(msg);
		return;
	}
	pool_conf_release(&part->conf);
	part->conf = msg->conf;
	TAILQ_FOREACH (client, &part->clients, entry)
		client_apply_conf(client);
	if (msg->new_servers)
		TAILQ_FOREACH (server, &part->servers, entry)
			server->dirty = true;
	free(msg);
	pool_run(part);
}

/* Gives a pool the settings of the snapshot. Under the registry lock. */
static void route_reload_pool(struct snapshot *snap, struct pool *pool)
{
	struct pool_conf *fresh = route_pool_conf(snap, pool->db, pool->account->name);
	struct pool_conf *old;
	bool new_servers;

	lock_acquire(&pool->lock);
	old = pool->conf;
	pool->conf = fresh;
	lock_release(&pool->lock);
	new_servers = old->db == NULL || fresh->db == NULL || !conf_db_same_server(old->db, fresh->db);
	route_set_homes(pool);
	for (unsigned i = 0; i < pool->engine->worker_count; i++) {
		struct conf_msg *msg = xcalloc(1, sizeof(*msg));

		msg->msg.fn = route_on_conf;
		msg->part = pool->parts[i];
		msg->conf = pool_conf_hold(fresh);
		msg->new_servers = new_servers;
		loop_post(pool->engine->workers[i]->ctx.loop, &msg->msg);
	}
	pool_conf_release(&old);
	if (fresh->db == NULL) {
		log_info("dropping database '%s' as it does not exist anymore or inactive auto-database",
			 pool->db->name);
		route_tell_parts(pool, ROUTE_TELL_KILL, NULL, NULL);
	}
}

void route_reload(struct engine *engine, struct snapshot *snap)
{
	struct snapshot *old;
	struct account *account;
	struct account *tmp_account;
	struct pool *pool;
	struct db *db;
	struct db *tmp_db;

	lock_acquire(&engine->lock);
	old = engine->snap;
	engine->snap = snap;
	HASH_ITER (hh, engine->dbs, db, tmp_db) {
		struct conf_db *auto_conf = NULL;

		conf_db_free(&db->auto_conf);
		if (conf_find_db(snap->conf, db->name) == NULL && conf_autodb(snap->conf, db->name, &auto_conf) == 0)
			db->auto_conf = auto_conf;
		db->is_auto = db->auto_conf != NULL;
		route_apply_db(snap, db);
	}
	HASH_ITER (hh, engine->accounts, account, tmp_account) {
		route_apply_account(snap, account);
	}
	TAILQ_FOREACH (pool, engine->pools, entry)
		route_reload_pool(snap, pool);
	lock_release(&engine->lock);
	snapshot_release(&old);
}

/* ---- the end ---- */

static void route_free_pool(struct pool *pool)
{
	for (unsigned i = 0; i < pool->engine->worker_count; i++) {
		ASSERT(TAILQ_EMPTY(&pool->parts[i]->servers) && TAILQ_EMPTY(&pool->parts[i]->clients));
		pool_conf_release(&pool->parts[i]->conf);
		free(pool->parts[i]);
	}
	ASSERT(pool->servers == 0 && pool->waiter_count == 0 && pool->idle == 0);
	pool_conf_release(&pool->conf);
	welcome_release(&pool->welcome);
	lock_fini(&pool->lock);
	free(pool);
}

void route_fini(struct engine *engine)
{
	struct account *account;
	struct account *tmp_account;
	struct pool *pool;
	struct db *db;
	struct db *tmp_db;

	while ((pool = TAILQ_FIRST(engine->pools)) != NULL) {
		TAILQ_REMOVE(engine->pools, pool, entry);
		HASH_DEL(engine->pool_table, pool);
		route_free_pool(pool);
	}
	HASH_ITER (hh, engine->dbs, db, tmp_db) {
		HASH_DEL(engine->dbs, db);
		conf_db_free(&db->auto_conf);
		free(db);
	}
	HASH_ITER (hh, engine->accounts, account, tmp_account) {
		HASH_DEL(engine->accounts, account);
		mem_wipe(&account->keys, sizeof(account->keys));
		free(account);
	}
	free(engine->pools);
	snapshot_release(&engine->snap);
	lock_fini(&engine->lock);
}
