/*
 * Nothing may be allocated under the lock, so each walk makes room first and
 * tries again when the registry has grown in the meantime.
 */
#include "pool/registry_walk.h"

#include "core/alloc.h"

/* Copies the pointers of one kind when `cap` is enough; returns how many there are. Under the lock. */
typedef size_t (*registry_copy_fn)(struct engine *engine, void **out, size_t cap);

static size_t registry_copy_dbs(struct engine *engine, void **out, size_t cap)
{
	size_t n = HASH_COUNT(engine->dbs);
	size_t i = 0;

	if (n > cap)
		return n;
	for (struct db *db = engine->dbs; db != NULL; db = db->hh.next)
		out[i++] = db;
	return n;
}

static size_t registry_copy_accounts(struct engine *engine, void **out, size_t cap)
{
	size_t n = HASH_COUNT(engine->accounts);
	size_t i = 0;

	if (n > cap)
		return n;
	for (struct account *account = engine->accounts; account != NULL; account = account->hh.next)
		out[i++] = account;
	return n;
}

static size_t registry_copy_pools(struct engine *engine, void **out, size_t cap)
{
	struct pool *pool;
	size_t n = 0;

	TAILQ_FOREACH (pool, engine->pools, entry) {
		if (n < cap)
			out[n] = pool;
		n++;
	}
	return n;
}

static size_t registry_walk(struct engine *engine, registry_copy_fn copy, void ***out)
{
	void **all = NULL;
	size_t cap = 0;
	size_t n = 64;

	do {
		cap = n;
		all = xrealloc(all, cap * sizeof(*all));
		lock_acquire(&engine->lock);
		n = copy(engine, all, cap);
		lock_release(&engine->lock);
	} while (n > cap);
	*out = all;
	return n;
}

size_t registry_dbs(struct engine *engine, struct db ***out)
{
	void **all;
	size_t n = registry_walk(engine, registry_copy_dbs, &all);

	*out = (struct db **)all;
	return n;
}

size_t registry_accounts(struct engine *engine, struct account ***out)
{
	void **all;
	size_t n = registry_walk(engine, registry_copy_accounts, &all);

	*out = (struct account **)all;
	return n;
}

size_t registry_pools(struct engine *engine, struct pool ***out)
{
	void **all;
	size_t n = registry_walk(engine, registry_copy_pools, &all);

	*out = (struct pool **)all;
	return n;
}

struct db *registry_find_db(struct engine *engine, const char *name)
{
	struct db *db;

	lock_acquire(&engine->lock);
	HASH_FIND_STR(engine->dbs, name, db);
	lock_release(&engine->lock);
	return db;
}

struct pool_conf *registry_pool_conf(struct pool *pool)
{
	struct pool_conf *conf;

	lock_acquire(&pool->lock);
	conf = pool_conf_hold(pool->conf);
	lock_release(&pool->lock);
	return conf;
}

/* The definition of a database; *made is to be freed when the * entry gives it. NULL: there is none. */
static const struct conf_db *registry_define(const struct conf *conf, const char *name, struct conf_db **made)
{
	const struct conf_db *db = conf_find_db(conf, name);

	*made = NULL;
	if (db != NULL || conf_autodb(conf, name, made) != 0)
		return db;
	return *made;
}

void registry_touched_by(struct engine *engine, const struct conf *old, const struct conf *fresh, registry_touch_fn fn,
			 void *ctx)
{
	struct db **dbs;
	size_t n = registry_dbs(engine, &dbs);

	for (size_t i = 0; i < n; i++) {
		struct conf_db *old_made = NULL;
		struct conf_db *fresh_made = NULL;
		const struct conf_db *before = registry_define(old, dbs[i]->name, &old_made);
		const struct conf_db *after = registry_define(fresh, dbs[i]->name, &fresh_made);
		unsigned servers = atomic_load(&dbs[i]->servers);

		if (before != NULL && after == NULL)
			fn(ctx, dbs[i]->name, servers, atomic_load(&dbs[i]->clients));
		else if (before != NULL && !conf_db_same_server(before, after))
			fn(ctx, dbs[i]->name, servers, 0);
		conf_db_free(&old_made);
		conf_db_free(&fresh_made);
	}
	free(dbs);
}
