/*
 * A reload with many databases and pools must be felt by nobody.
 *
 * On the control loop. The new snapshot becomes the one in force first: what is
 * registered from then on is made under it. Then everything that is registered
 * already is gone through. A pool gets new settings only if they differ from
 * those it has, so a reload that changes one line changes the pools of one
 * database. The lock of the registry is held for some pointers at a time.
 *
 * On a worker. One message tells it that there was a reload. It goes through
 * its parts that are in use, some in each turn, and takes up the settings of
 * those whose pool has others than the part. Clients are gone through where
 * something has changed for them. The rest is left to the message, which the
 * worker posts to itself; traffic passes between two slices. A second reload
 * begins again from the first part.
 *
 * What has been loaded under the old snapshot is freed by the control thread,
 * whoever gives the last reference back (snapshot_release).
 */
#include "pool/refresh.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "pool/auth_cache.h"
#include "pool/client.h"
#include "pool/registry.h"
#include "pool/registry_walk.h"
#include "pool/route.h"
#include "pool/server.h"
#include "pool/stmt.h"

/* Parts, clients and servers that are looked at in one turn. */
#define REFRESH_SLICE 128

/* ---- on a worker ---- */

bool refresh_is_running(const struct worker *worker)
{
	return worker->refresh.is_running;
}

void refresh_skip_client(struct worker *worker, const struct client *client)
{
	if (UNLIKELY(worker->refresh.client == client))
		worker->refresh.client = TAILQ_NEXT(client, entry);
}

void refresh_skip_part(struct worker *worker, const struct pool_part *part)
{
	if (UNLIKELY(worker->refresh.part == part)) {
		worker->refresh.part = TAILQ_NEXT(part, entry);
		worker->refresh.client = NULL;
	}
}

/* Takes up the settings of the pool; returns how many servers were looked at. */
static unsigned refresh_take_conf(struct pool_part *part)
{
	struct pool_conf *fresh = registry_pool_conf(part->pool);
	struct server *server;
	unsigned n = 0;

	pool_conf_release(&part->conf);
	part->conf = fresh;
	TAILQ_FOREACH (server, &part->servers, entry) {
		server->dirty |= server_is_outdated(server);
		server_note_place(server);
		n++;
	}
	return n;
}

static bool refresh_has_other_conf(struct pool_part *part)
{
	bool has;

	lock_acquire(&part->pool->lock);
	has = part->pool->conf != part->conf;
	lock_release(&part->pool->lock);
	return has;
}

/* The clients of the part whose turn it is, as far as the budget goes. */
static void refresh_clients(struct refresh *refresh, unsigned *budget)
{
	while (refresh->client != NULL && *budget > 0) {
		struct client *client = refresh->client;

		refresh->client = TAILQ_NEXT(client, entry);
		client_apply_conf(client);
		--*budget;
	}
}

static void refresh_part(struct refresh *refresh, struct pool_part *part, unsigned *budget)
{
	bool is_changed = refresh_has_other_conf(part);
	unsigned cost = 1;

	refresh->parts_seen++;
	refresh->parts_changed += is_changed;
	refresh->part = TAILQ_NEXT(part, entry);
	if (is_changed)
		cost += refresh_take_conf(part);
	if (is_changed || refresh->all_clients)
		refresh->client = TAILQ_FIRST(&part->clients);
	if (is_changed)
		pool_run(part);
	*budget -= cost < *budget ? cost : *budget;
}

static void refresh_slice(struct worker *worker)
{
	struct refresh *refresh = &worker->refresh;
	unsigned budget = REFRESH_SLICE;

	refresh->slices++;
	while (budget > 0 && (refresh->client != NULL || refresh->part != NULL)) {
		if (refresh->client != NULL)
			refresh_clients(refresh, &budget);
		else
			refresh_part(refresh, refresh->part, &budget);
	}
}

static void refresh_on_slice(struct loop *loop, struct loop_msg *msg UNUSED)
{
	struct worker *worker = worker_current();
	struct refresh *refresh = &worker->refresh;

	refresh_slice(worker);
	if (refresh->client != NULL || refresh->part != NULL) {
		loop_post(loop, &refresh->msg);
		return;
	}
	refresh->is_running = false;
	refresh->all_clients = false;
	log_debug("reload: %s has taken up %u of %u pools in %u slices", loop_name(loop), refresh->parts_changed,
		  refresh->parts_seen, refresh->slices);
}

struct refresh_msg {
	struct loop_msg msg;
	bool all_clients;
};

static void refresh_on_start(struct loop *loop, struct loop_msg *base)
{
	struct refresh_msg *msg = CONTAINER_OF(base, struct refresh_msg, msg);
	struct worker *worker = worker_current();
	struct refresh *refresh = &worker->refresh;

	refresh->part = TAILQ_FIRST(&worker->parts);
	refresh->client = NULL;
	refresh->all_clients |= msg->all_clients;
	refresh->parts_seen = refresh->parts_changed = refresh->slices = 0;
	free(msg);
	if (refresh->is_running)
		return;
	refresh->is_running = true;
	refresh->msg.fn = refresh_on_slice;
	loop_post(loop, &refresh->msg);
}

/* ---- on the control loop ---- */

/* What a reload has found. */
struct refresh_run {
	struct engine *engine;
	struct snapshot *snap;
	struct snapshot *old;
	size_t db_count; /* registered ones */
	size_t pool_count;
	size_t pools_changed;
};

/* Sets a limit; *kick tells whether somebody waits who may now pass it. */
static void refresh_limit(atomic_uint *limit, unsigned max, atomic_bool *starved, bool *kick)
{
	unsigned old = atomic_exchange(limit, max);

	*kick = old != max && atomic_exchange(starved, false);
}

static void refresh_db(struct refresh_run *run, struct db *db)
{
	const struct conf *conf = run->snap->conf;
	const struct conf_db *cdb = conf_find_db(conf, db->name);
	bool was_auto = db->auto_conf != NULL;
	struct conf_db *auto_conf = NULL;
	struct conf_db *old_auto;
	bool kick;

	if (cdb == NULL && conf_autodb(conf, db->name, &auto_conf) != 0) {
		if (was_auto)
			registry_log_dropped(db->name);
		registry_remove_db(run->engine, db);
		return;
	}
	lock_acquire(&run->engine->lock);
	old_auto = db->auto_conf;
	db->auto_conf = auto_conf;
	lock_release(&run->engine->lock);
	conf_db_free(&old_auto);
	refresh_limit(&db->max_servers, (unsigned)conf_max_db_connections(conf, cdb == NULL ? auto_conf : cdb),
		      &db->starved, &kick);
	if (kick)
		route_kick(run->engine, db, NULL);
}

/*
 * Databases whose line is gone, and which the * entry makes from now on, are
 * given that definition before the snapshot is the one in force: a login looks
 * at the line first, and must find one or the other at any time.
 */
static void refresh_make_autos(struct refresh_run *run)
{
	const struct conf *conf = run->snap->conf;
	struct db **dbs;
	size_t n = registry_dbs(run->engine, &dbs);

	for (size_t i = 0; i < n; i++) {
		struct conf_db *made = NULL;

		if (dbs[i]->auto_conf != NULL || conf_find_db(conf, dbs[i]->name) != NULL ||
		    conf_autodb(conf, dbs[i]->name, &made) != 0)
			continue;
		lock_acquire(&run->engine->lock);
		dbs[i]->auto_conf = made;
		lock_release(&run->engine->lock);
	}
	free(dbs);
}

static bool refresh_has_db(const struct conf *conf, const char *name)
{
	struct conf_db *made = NULL;
	bool has = conf_find_db(conf, name) != NULL || conf_autodb(conf, name, &made) == 0;

	conf_db_free(&made);
	return has;
}

/* Says which databases of the file are gone, whether somebody has used them or not. */
static void refresh_log_gone(const struct conf *old, const struct conf *fresh)
{
	for (size_t i = 0; i < old->db_count; i++)
		if (!refresh_has_db(fresh, old->dbs[i].name))
			registry_log_dropped(old->dbs[i].name);
}

static void refresh_dbs(struct refresh_run *run)
{
	struct db **dbs;
	size_t n = registry_dbs(run->engine, &dbs);

	for (size_t i = 0; i < n; i++)
		refresh_db(run, dbs[i]);
	run->db_count = n;
	free(dbs);
}

static void refresh_accounts(struct refresh_run *run)
{
	const struct conf *conf = run->snap->conf;
	struct account **accounts;
	size_t n = registry_accounts(run->engine, &accounts);

	for (size_t i = 0; i < n; i++) {
		const struct conf_user *user = conf_find_user(conf, accounts[i]->name);
		bool kick;

		refresh_limit(&accounts[i]->max_servers, (unsigned)conf_max_user_connections(conf, user),
			      &accounts[i]->starved, &kick);
		if (kick)
			route_kick(run->engine, NULL, accounts[i]);
	}
	free(accounts);
}

/* Gives a pool the settings of the snapshot if they differ from those it has. */
static void refresh_pool(struct refresh_run *run, struct pool *pool)
{
	const struct snapshot *snap = run->snap;
	const struct conf_db *cdb = conf_find_db(snap->conf, pool->db->name);
	unsigned template_version = cdb == NULL ? snap->template_version : 0;
	struct pool_conf *old = pool->conf; /* nobody else writes it */
	struct pool_conf *fresh;

	if (cdb == NULL)
		cdb = pool->db->auto_conf;
	fresh = pool_conf_make(snap->conf, snap->users, snap->tls, run->engine->endpoints, cdb, pool->account->name,
			       template_version, old);
	if (fresh == old)
		return;
	lock_acquire(&pool->lock);
	pool->conf = fresh;
	lock_release(&pool->lock);
	if (!pool_conf_same_server(old, fresh))
		pool_begin_epoch(pool); /* clients are greeted in the name of a new server */
	pool_conf_release(&old);
	pool_set_homes(pool);
	run->pools_changed++;
}

static void refresh_pools(struct refresh_run *run)
{
	struct pool **pools;

	run->pool_count = registry_pools(run->engine, &pools);
	for (size_t i = 0; i < run->pool_count; i++)
		refresh_pool(run, pools[i]);
	free(pools);
}

static bool refresh_same_user(const struct conf_user *a, const struct conf_user *b)
{
	return strcmp(a->name, b->name) == 0 && a->query_wait_timeout_us == b->query_wait_timeout_us &&
	       a->client_idle_timeout_us == b->client_idle_timeout_us;
}

/* True when a setting of [users] that concerns clients, and not pools, may have changed. */
static bool refresh_users_differ(const struct conf *a, const struct conf *b)
{
	if (a->user_count != b->user_count)
		return true;
	for (size_t i = 0; i < a->user_count; i++)
		if (!refresh_same_user(&a->users[i], &b->users[i]))
			return true;
	return false;
}

static void refresh_tell_workers(struct refresh_run *run)
{
	bool all_clients = refresh_users_differ(run->old->conf, run->snap->conf);

	if (run->pools_changed == 0 && !all_clients)
		return;
	for (unsigned i = 0; i < run->engine->worker_count; i++) {
		struct refresh_msg *msg = xcalloc(1, sizeof(*msg));

		msg->msg.fn = refresh_on_start;
		msg->all_clients = all_clients;
		loop_post(run->engine->workers[i]->ctx.loop, &msg->msg);
	}
}

void refresh_run(struct engine *engine, struct snapshot *snap)
{
	struct refresh_run run = { .engine = engine, .snap = snap, .old = engine->snap };
	uint64_t start_us = clock_mono_us();

	stmt_set_limit(snap->conf->prepared_statement_memory);
	snap->template_version = run.old->template_version + !conf_same_autodb(run.old->conf, snap->conf);
	refresh_make_autos(&run);
	lock_acquire(&engine->lock);
	engine->snap = snap;
	lock_release(&engine->lock);
	refresh_log_gone(run.old->conf, snap->conf);
	refresh_dbs(&run);
	refresh_accounts(&run);
	refresh_pools(&run);
	auth_cache_reload(engine->auth_cache, run.old, snap);
	refresh_tell_workers(&run);
	log_debug("reload: %zu databases, %zu registered, %zu pools, %zu changed, handed over in %" PRIu64 " us",
		  snap->conf->db_count, run.db_count, run.pool_count, run.pools_changed, clock_mono_us() - start_us);
	snapshot_release(&run.old);
}
