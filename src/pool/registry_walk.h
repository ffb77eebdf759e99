/*
 * Looking at the registry as a whole, for the control thread: the console,
 * metrics, reloads and the sweep. Only that thread takes anything out of the
 * tables, and what it has taken out it frees in a later turn; so the pointers
 * are good until the function that asked for them returns to the loop.
 */
#ifndef PGSLUICE_POOL_REGISTRY_WALK_H
#define PGSLUICE_POOL_REGISTRY_WALK_H

#include "pool/pool.h"

/*
 * Each makes an array of everything that is registered now, to be freed by the
 * caller, and returns its length; in the order of registration. Control thread.
 */
size_t registry_dbs(struct engine *engine, struct db ***out);
size_t registry_accounts(struct engine *engine, struct account ***out);
/* Pools that clients may still come to. */
size_t registry_pools(struct engine *engine, struct pool ***out);
/* Those that are out of the table as well, as long as something of them is left. */
size_t registry_all_pools(struct engine *engine, struct pool ***out);

/* The database or account if it is registered already, else NULL. Control thread. */
struct db *registry_find_db(struct engine *engine, const char *name);
struct account *registry_find_account(struct engine *engine, const char *name);

/*
 * Calls fn for each registered database whose connections a change from `old`
 * to `fresh` touches: its servers when those made before are of no use any more
 * or the database goes, its clients when it goes. The counts are those of this
 * moment. Control thread; fn is called without locks.
 */
typedef void (*registry_touch_fn)(void *ctx, const char *database, unsigned servers, unsigned clients);
void registry_touched_by(struct engine *engine, const struct conf *old, const struct conf *fresh, registry_touch_fn fn,
			 void *ctx);

/* How many objects there are, those out of the tables included as long as something of them is left. */
struct registry_counts {
	size_t dbs;
	size_t accounts;
	size_t pools;
};

/* Control thread. */
void registry_count(struct engine *engine, struct registry_counts *counts);

/* The settings in effect for a pool, held for the caller. Any thread. */
struct pool_conf *registry_pool_conf(struct pool *pool) MUSTCHECK;

#endif
