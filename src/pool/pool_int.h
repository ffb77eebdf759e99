/*
 * What the files of the scheduler share: pool.c, and dedicated.c for clients
 * that need a server of their own.
 */
#ifndef PGSLUICE_POOL_POOL_INT_H
#define PGSLUICE_POOL_POOL_INT_H

#include "pool/pool.h"

/* What was decided under the pool's lock, to be carried out without it. */
struct pool_plan {
	bool open;      /* open a server with `permit` */
	bool reserve;   /* ... which is one of the reserve */
	bool overdraft; /* ... which may be one too many, beside those from before a RECONNECT */
	struct permit permit;
	struct client *client;  /* ... for this client alone, which is of this worker; NULL: for whoever is next */
	struct server *borrow;  /* ask its worker for it */
	struct server *take;    /* an idle one of this worker, for whoever is next */
	struct server *evict;   /* an idle one that makes room: its worker is to close it */
	struct pool_part *tell; /* its worker has something to open */
	struct db *full_db;     /* a limit was in the way: evict somebody else's idle server */
	struct account *full_account;
	bool evict_own; /* ... or one of this pool */
};

/* True when there may be more to plan once this was carried out. */
static inline bool pool_plan_goes_on(const struct pool_plan *plan)
{
	return plan->open || plan->borrow != NULL || plan->take != NULL || plan->evict != NULL;
}

/*
 * One unit of each count for a server that is about to log in, into
 * plan->permit; or none at all: the plan names the limit, or no endpoint would
 * do. Under the pool's lock.
 */
bool pool_permit_take_locked(struct pool_part *part, uint64_t now, struct pool_plan *plan) MUSTCHECK;

/* As pool_claim_close(), under the lock. */
bool pool_claim_close_locked(struct pool *pool, struct permit *permit, unsigned keep);

/* True when the pool may begin one login more, whatever its size. Under its lock. */
bool pool_may_log_in_locked(const struct pool *pool, uint64_t now);

/* True when the client, which may be NULL, has waited long enough for a server of the reserve. Under the pool's lock.
 */
bool pool_may_use_reserve_locked(struct pool *pool, const struct client *client, uint64_t now, struct pool_plan *plan);

#endif
