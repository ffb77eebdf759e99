/*
 * Draining: clients leave at the end of their transactions, and new ones are
 * refused. One database, or all of them.
 */
#ifndef PGSLUICE_POOL_DRAIN_H
#define PGSLUICE_POOL_DRAIN_H

#include "core/reason_tbl.h"
#include "pool/client.h"
#include "pool/pool.h"

struct drain_order {
	struct db *db;       /* NULL: all */
	uint64_t delay_us;   /* between the turn of the readiness flag and anything else */
	uint64_t timeout_us; /* after that, those who are left are closed; 0: never */
	bool ends_process;   /* ... which ends when nobody is left; for all databases only */
};

/*
 * Begins to drain, or changes the times of what drains already; what has begun
 * is not delayed again. Control thread.
 */
void drain_begin(struct engine *engine, const struct drain_order *order);

/* Ends what drain_begin() has begun for this database, or for all (NULL); false when there was nothing. Control thread.
 */
bool drain_end(struct engine *engine, struct db *db);

/* True when no client is left of a database, or of all (NULL), after closing them has begun. Control thread. */
bool drain_is_complete(struct engine *engine, const struct db *db);

/* Clients of all databases, those that log in included. Control thread. */
unsigned drain_client_count(struct engine *engine);

/* Forgets all. Control thread, the other threads have ended. */
void drain_end_all(struct engine *engine);

/* How far the draining of a database is, be it for itself or with all. Any thread. */
static inline enum drain_phase drain_phase_of(const struct engine *engine, const struct db *db)
{
	enum drain_phase all = atomic_load_explicit(&engine->drain, memory_order_relaxed);
	enum drain_phase own = atomic_load_explicit(&db->drain, memory_order_relaxed);

	return all > own ? all : own;
}

/* Why a client has to go that is outside of a transaction; REASON_NONE: it may stay. Any thread. */
enum reason drain_reason(const struct client *client);

/*
 * Closes clients of the part that have to go, `budget` of them at most, adds
 * their number to *closed, and returns true when there may be more. Own thread.
 */
bool drain_part(struct pool_part *part, unsigned budget, unsigned *closed);

#endif
