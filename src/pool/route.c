/*
 * From a name to what is to be done: what follows for a login from the settings
 * of its database and user, and messages to pools that somebody else's end
 * concerns. The tables themselves are in registry.c.
 */
#include "pool/route.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/registry.h"
#include "pool/server.h"

/* ---- settings for logins ---- */

/*
 * The definition of a database that is in force, or NULL. Under the registry
 * lock. A login that began under the last snapshot gets the new one's, too.
 */
static const struct conf_db *route_db_conf_locked(const struct engine *engine, const struct db *db)
{
	const struct conf_db *conf = conf_find_db(engine->snap->conf, db->name);

	return conf != NULL ? conf : db->auto_conf;
}

bool route_forced_user(struct engine *engine, const struct db *db, char *dst, size_t size)
{
	const struct conf_db *conf;
	bool forced;

	lock_acquire(&engine->lock);
	conf = route_db_conf_locked(engine, db);
	forced = conf != NULL && conf->user != NULL;
	if (forced)
		str_copy(dst, size, conf->user);
	lock_release(&engine->lock);
	return forced;
}

unsigned route_max_db_clients(struct engine *engine, const struct db *db)
{
	unsigned max;

	lock_acquire(&engine->lock);
	max = (unsigned)conf_max_db_client_connections(engine->snap->conf, route_db_conf_locked(engine, db));
	lock_release(&engine->lock);
	return max;
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

/* ---- what users have logged in with ---- */

void pool_secret_free(struct pool_secret **secretp)
{
	struct pool_secret *secret = *secretp;

	*secretp = NULL;
	if (secret == NULL)
		return;
	secret_fini(&secret->secret);
	mem_wipe(secret, sizeof(*secret));
	free(secret);
}

static struct pool_secret *pool_secret_new(const struct secret *secret, const struct scram_keys *keys)
{
	struct pool_secret *own = xcalloc(1, sizeof(*own));

	secret_copy(&own->secret, secret);
	own->has_keys = keys != NULL;
	if (keys != NULL)
		own->keys = *keys;
	return own;
}

/* Puts it in the place of the one before. */
static void pool_secret_swap(struct pool *pool, struct pool_secret *fresh)
{
	struct pool_secret *old;

	lock_acquire(&pool->lock);
	old = pool->secret;
	if (old != NULL && !fresh->has_keys && slice_eq(secret_slice(&old->secret), secret_slice(&fresh->secret))) {
		fresh->has_keys = old->has_keys; /* this time it was another method that needed none */
		fresh->keys = old->keys;
	}
	if (old == NULL || !slice_eq(secret_slice(&old->secret), secret_slice(&fresh->secret)))
		pool->retry_us = 0;
	pool->secret = fresh;
	lock_release(&pool->lock);
	pool_secret_free(&old);
}

void route_store_secret(struct pool *pool, const struct secret *secret, const struct scram_keys *keys)
{
	pool_secret_swap(pool, pool_secret_new(secret, keys));
}

void route_store_password(struct pool *pool, const char *password)
{
	struct pool_secret *fresh = xcalloc(1, sizeof(*fresh));

	secret_init_plain(&fresh->secret, slice_of(password));
	fresh->is_judged = true;
	pool_secret_swap(pool, fresh);
}

struct pool_secret *route_copy_secret(struct pool *pool)
{
	struct pool_secret *copy = xcalloc(1, sizeof(*copy));
	struct secret *to = &copy->secret;
	size_t len = 0;
	bool has;

	/* No allocation under the lock: the room is made first, and again while it turns out to be too small. */
	for (;;) {
		const struct pool_secret *own;

		free_secret(to->text);
		to->text = xcalloc(1, len + 1);
		lock_acquire(&pool->lock);
		own = pool->secret;
		has = own != NULL;
		to->len = has ? own->secret.len : 0;
		if (to->len <= len) {
			if (has) {
				memcpy(to->text, own->secret.text, to->len + 1);
				copy->is_judged = own->is_judged;
				copy->has_keys = own->has_keys;
				copy->keys = own->keys;
			}
			lock_release(&pool->lock);
			break;
		}
		len = to->len;
		lock_release(&pool->lock);
	}
	if (has) {
		char *text = to->text;

		if (copy->is_judged)
			secret_init_plain(to, slice_make(text, to->len));
		else
			secret_init(to, slice_make(text, to->len));
		free_secret(text);
		return copy;
	}
	pool_secret_free(&copy);
	return NULL;
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
	struct report report;
	struct client *client;
	struct client *next;

	if (sqlstate != NULL)
		report_server(&report, text, sqlstate);
	else
		report_text(&report, part->worker->ctx.snap->conf, text, reason_sqlstate(REASON_AUTHREQ), NULL);
	for (client = TAILQ_FIRST(&part->clients); client != NULL; client = next) {
		next = TAILQ_NEXT(client, entry);
		if (client->state != CL_WAITING && client->state != CL_WELCOME)
			continue;
		if (pool_dequeue(part, client))
			client_close_report(client, &report);
	}
}

static void route_greet_waiters(struct pool_part *part)
{
	struct client *client;
	struct client *next;

	for (client = TAILQ_FIRST(&part->clients); client != NULL; client = next) {
		next = TAILQ_NEXT(client, entry);
		if (client->state == CL_WELCOME && client->replication == NULL && pool_dequeue(part, client))
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
	cancel_end_pool(part->worker, part->pool);
	for (server = TAILQ_FIRST(&part->servers); server != NULL; server = next) {
		next = TAILQ_NEXT(server, entry);
		server_close(server, REASON_DB_REMOVED);
	}
}

static void route_on_tell(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct tell_msg *msg = CONTAINER_OF(base, struct tell_msg, msg);
	struct pool_part *part =
		pool_part_get(msg->pool, worker_current()); /* put away by the janitor if it is empty */

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
	pool_release(&msg->pool);
	free(msg);
}

void route_tell_part(struct pool_part *part, enum route_tell what, const char *text, const char *sqlstate)
{
	struct tell_msg *msg = xcalloc(1, sizeof(*msg));

	msg->msg.fn = route_on_tell;
	msg->pool = pool_hold(part->pool);
	msg->what = what;
	if (text != NULL)
		str_copy(msg->text, sizeof(msg->text), text);
	if (sqlstate != NULL)
		str_copy(msg->sqlstate, sizeof(msg->sqlstate), sqlstate);
	loop_post(part->worker->ctx.loop, &msg->msg);
}

void route_tell_parts(struct pool *pool, enum route_tell what, const char *text, const char *sqlstate)
{
	if (what == ROUTE_TELL_RUN) {
		/* whoever opens the server, it goes to the oldest */
		route_tell_part(pool->parts[pool->first_home], what, NULL, NULL);
		return;
	}
	for (unsigned i = 0; i < pool->engine->worker_count; i++)
		if (what == ROUTE_TELL_KILL || atomic_load(&pool->parts[i]->client_count) > 0)
			route_tell_part(pool->parts[i], what, text, sqlstate);
}

/* Pools whose clients wait for a permit that came free, up to so many at a time. */
#define ROUTE_KICK_MAX 64

/* Tells those of a list, as long as there is room, whose clients wait. Under the registry lock. */
static void route_collect_locked(struct pool *pool, struct pool **out, size_t *n)
{
	struct pool_counts counts;

	pool_count(pool, &counts);
	if (counts.waiters == 0 || *n == ROUTE_KICK_MAX)
		return;
	atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
	out[(*n)++] = pool;
}

void route_kick(struct engine *engine, struct db *db, struct account *account)
{
	struct pool *kicked[ROUTE_KICK_MAX];
	struct pool *pool;
	size_t n = 0;

	lock_acquire(&engine->lock);
	if (db != NULL)
		TAILQ_FOREACH_REVERSE(pool, &db->pools, pool_list, db_entry)
	route_collect_locked(pool, kicked, &n);
	if (account != NULL)
		TAILQ_FOREACH_REVERSE(pool, &account->pools, pool_list, user_entry)
	if (pool->db != db)
		route_collect_locked(pool, kicked, &n);
	lock_release(&engine->lock);
	for (size_t i = 0; i < n; i++) {
		route_tell_parts(kicked[i], ROUTE_TELL_RUN, NULL, NULL);
		pool_release(&kicked[i]);
	}
}

/* ---- pools that need no client ---- */

/* One whose parts are in use looks after itself. */
static void route_prepare_pool(struct engine *engine, const struct conf_db *cdb)
{
	struct db *db = registry_get_db(engine, cdb->name, REGISTRY_CONFIGURED, NULL);
	struct pool *pool = db == NULL ? NULL : registry_get_pool(engine, db, cdb->user);

	if (pool != NULL && atomic_load(&pool->refs) == 1)
		route_tell_parts(pool, ROUTE_TELL_RUN, NULL, NULL);
	pool_release(&pool);
	db_release(&db);
}

void route_prepare(struct engine *engine)
{
	struct snapshot *snap = engine_snapshot(engine);
	const struct conf *conf = snap->conf;

	for (size_t i = 0; i < conf->db_count; i++)
		if (conf->dbs[i].user != NULL && conf_min_pool_size(conf, &conf->dbs[i]) > 0)
			route_prepare_pool(engine, &conf->dbs[i]);
	snapshot_release(&snap);
}

/* ---- eviction ---- */

struct server *route_oldest_idle_locked(struct pool *pool)
{
	struct server *oldest = NULL;

	for (unsigned i = 0; i < pool->engine->worker_count; i++) {
		struct server *server = TAILQ_LAST(&pool->parts[i]->idle, server_list);

		if (server != NULL && (oldest == NULL || server->idle_us < oldest->idle_us))
			oldest = server;
	}
	return oldest;
}

void route_reserve_idle_locked(struct server *server, uint32_t slot)
{
	struct pool *pool = server->pool;

	TAILQ_REMOVE(&server->part->idle, server, idle_entry);
	server->is_idle = false;
	server->travel_slot = slot;
	server->part->held--;
	pool->idle--;
	pool->travelling++;
}

/*
 * Takes the oldest idle server off its list, to be closed by its worker for
 * what `slot` says; false when there is none any more.
 */
static bool route_evict_from(struct pool *pool, uint32_t slot)
{
	struct server *server;

	lock_acquire(&pool->lock);
	server = route_oldest_idle_locked(pool);
	if (server != NULL)
		route_reserve_idle_locked(server, slot);
	lock_release(&pool->lock);
	if (server == NULL)
		return false;
	server->msg.fn = server_lend;
	loop_post(server->part->worker->ctx.loop, &server->msg);
	return true;
}

/* The better victim of two pools, by the age of their oldest idle servers. */
struct route_victim {
	struct pool *pool;
	uint64_t idle_us;
};

static void route_consider(struct pool *pool, struct route_victim *best)
{
	struct server *server;

	lock_acquire(&pool->lock);
	server = route_oldest_idle_locked(pool);
	if (server != NULL && (best->pool == NULL || server->idle_us < best->idle_us))
		*best = (struct route_victim){ pool, server->idle_us };
	lock_release(&pool->lock);
}

void route_evict(struct engine *engine, struct pool *asking, struct db *db, struct account *account)
{
	atomic_bool *evicting = db != NULL ? &db->evicting : &account->evicting;
	struct route_victim victim = { .pool = NULL };
	struct pool *pool;

	if (atomic_exchange(evicting, true))
		return; /* one at a time; pool_permit_give() ends it */
	lock_acquire(&engine->lock);
	if (db != NULL)
		TAILQ_FOREACH (pool, &db->pools, db_entry)
			if (pool != asking)
				route_consider(pool, &victim);
	if (account != NULL)
		TAILQ_FOREACH (pool, &account->pools, user_entry)
			if (pool != asking)
				route_consider(pool, &victim);
	if (victim.pool == NULL || !route_evict_from(victim.pool, db != NULL ? SERVER_EVICT_DB : SERVER_EVICT_USER))
		atomic_store(evicting, false);
	lock_release(&engine->lock);
}
