/*
 * Looking at the registry as a whole, for the console and for metrics: arrays
 * of pointers, copied under the lock. The objects live until the engine ends,
 * so the pointers stay good; what they point to is to be read as pool.h says.
 */
#ifndef PGSLUICE_POOL_REGISTRY_WALK_H
#define PGSLUICE_POOL_REGISTRY_WALK_H

#include "pool/pool.h"

/*
 * Each makes an array of everything that is registered now, to be freed by the
 * caller, and returns its length; in no particular order. Any thread.
 */
size_t registry_dbs(struct engine *engine, struct db ***out);
size_t registry_accounts(struct engine *engine, struct account ***out);
size_t registry_pools(struct engine *engine, struct pool ***out);

/* The database if it is registered already, even when it has been removed since; else NULL. Any thread. */
struct db *registry_find_db(struct engine *engine, const char *name);

/*
 * Calls fn for each registered database whose connections a change from `old`
 * to `fresh` touches: its servers when those made before are of no use any more
 * or the database goes, its clients when it goes. The counts are those of this
 * moment. Control thread; fn is called without locks.
 */
typedef void (*registry_touch_fn)(void *ctx, const char *database, unsigned servers, unsigned clients);
void registry_touched_by(struct engine *engine, const struct conf *old, const struct conf *fresh, registry_touch_fn fn,
			 void *ctx);

/* The settings in effect for a pool, held for the caller. Any thread. */
struct pool_conf *registry_pool_conf(struct pool *pool) MUSTCHECK;

#endif
