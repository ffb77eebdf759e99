/*
 * Logins need the lock as well, and nothing may be allocated under it: a walk
 * takes some pointers at a time and goes on behind the last one, which stands
 * in its list as long as the control thread does not take it out. What is
 * registered meanwhile comes last and is met, too.
 */
#include "pool/registry_walk.h"

#include "core/alloc.h"

/* How many pointers are copied before others get the lock. */
#define REGISTRY_SLICE 256

/* The next object behind `last`, or the first when that is NULL; NULL at the end. Under the lock. */
typedef void *(*registry_next_fn)(struct engine *engine, void *last);

static void *registry_next_db(struct engine *engine, void *last)
{
	struct db *db = last;

	return db == NULL ? engine->dbs : db->hh.next;
}

static void *registry_next_account(struct engine *engine, void *last)
{
	struct account *account = last;

	return account == NULL ? engine->accounts : account->hh.next;
}

static void *registry_next_pool(struct engine *engine, void *last)
{
	struct pool *pool = last;

	return pool == NULL ? TAILQ_FIRST(engine->pools) : TAILQ_NEXT(pool, entry);
}

/* Copies up to REGISTRY_SLICE pointers behind `last`; returns how many. */
static size_t registry_copy_slice(struct engine *engine, registry_next_fn next, void *last, void **out)
{
	size_t n = 0;

	lock_acquire(&engine->lock);
	while (n < REGISTRY_SLICE && (last = next(engine, last)) != NULL)
		out[n++] = last;
	lock_release(&engine->lock);
	return n;
}

static size_t registry_walk(struct engine *engine, registry_next_fn next, void ***out)
{
	void **all = NULL;
	size_t total = 0;
	size_t cap = 0;
	size_t n;

	do {
		if (total + REGISTRY_SLICE > cap) {
			cap = 2 * cap + REGISTRY_SLICE;
			all = xrealloc(all, cap * sizeof(*all));
		}
		n = registry_copy_slice(engine, next, total == 0 ? NULL : all[total - 1], all + total);
		total += n;
	} while (n == REGISTRY_SLICE);
	*out = all;
	return total;
}

size_t registry_dbs(struct engine *engine, struct db ***out)
{
	void **all;
	size_t n = registry_walk(engine, registry_next_db, &all);

	*out = (struct db **)all;
	return n;
}

size_t registry_accounts(struct engine *engine, struct account ***out)
{
	void **all;
	size_t n = registry_walk(engine, registry_next_account, &all);

	*out = (struct account **)all;
	return n;
}

size_t registry_all_pools(struct engine *engine, struct pool ***out)
{
	void **all;
	size_t n = registry_walk(engine, registry_next_pool, &all);

	*out = (struct pool **)all;
	return n;
}

size_t registry_pools(struct engine *engine, struct pool ***out)
{
	size_t n = registry_all_pools(engine, out);
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (!atomic_load(&(*out)[i]->removed))
			(*out)[kept++] = (*out)[i];
	return kept;
}

struct db *registry_find_db(struct engine *engine, const char *name)
{
	struct db *db;

	lock_acquire(&engine->lock);
	HASH_FIND_STR(engine->dbs, name, db);
	lock_release(&engine->lock);
	return db;
}

struct account *registry_find_account(struct engine *engine, const char *name)
{
	struct account *account;

	lock_acquire(&engine->lock);
	HASH_FIND_STR(engine->accounts, name, account);
	lock_release(&engine->lock);
	return account;
}

void registry_count(struct engine *engine, struct registry_counts *counts)
{
	struct pool **pools;
	const struct db *db;

	counts->pools = registry_all_pools(engine, &pools);
	free(pools);
	lock_acquire(&engine->lock);
	counts->dbs = HASH_COUNT(engine->dbs);
	counts->accounts = HASH_COUNT(engine->accounts);
	lock_release(&engine->lock);
	TAILQ_FOREACH (db, &engine->removed_dbs, entry)
		counts->dbs++;
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

/* A database that is defined anew in one way or another; made before and after, it is so by another line. */
static void registry_touch(const struct db *db, const struct conf *old, const struct conf *fresh, registry_touch_fn fn,
			   void *ctx)
{
	struct conf_db *old_made;
	struct conf_db *fresh_made;
	const struct conf_db *before = registry_define(old, db->name, &old_made);
	const struct conf_db *after = registry_define(fresh, db->name, &fresh_made);
	unsigned servers = atomic_load(&db->servers);

	if (before != NULL && after == NULL)
		fn(ctx, db->name, servers, atomic_load(&db->clients));
	else if (before != NULL && (!conf_db_same_server(before, after) || (old_made != NULL && fresh_made != NULL)))
		fn(ctx, db->name, servers, 0);
	conf_db_free(&old_made);
	conf_db_free(&fresh_made);
}

void registry_touched_by(struct engine *engine, const struct conf *old, const struct conf *fresh, registry_touch_fn fn,
			 void *ctx)
{
	bool same_template = conf_same_autodb(old, fresh);
	struct db **dbs;
	size_t n = registry_dbs(engine, &dbs);

	for (size_t i = 0; i < n; i++) {
		bool is_made = conf_find_db(old, dbs[i]->name) == NULL && conf_find_db(fresh, dbs[i]->name) == NULL;

		/* There may be thousands of them, made by a line that is what it was. */
		if (!is_made || !same_template)
			registry_touch(dbs[i], old, fresh, fn, ctx);
	}
	free(dbs);
}
