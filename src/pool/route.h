/*
 * The registry: from names to databases, users and pools, and the settings in
 * effect for each. One lock; visited at logins, reloads and by the console.
 */
#ifndef PGSLUICE_POOL_ROUTE_H
#define PGSLUICE_POOL_ROUTE_H

#include "pool/pool.h"

/*
 * The database of that name, registered on first use; NULL when there is no
 * such database. Any thread.
 */
struct db *route_db(struct engine *engine, const struct snapshot *snap, const char *name);

/*
 * The same, but a name that only the * entry knows is not registered: for
 * people who are not known yet. Any thread.
 */
struct db *route_db_known(struct engine *engine, const struct snapshot *snap, const char *name);

/* The counts of a user, registered on first use. Only for users that exist. Any thread. */
struct account *route_account(struct engine *engine, const struct snapshot *snap, const char *name);

/* The same if it is registered already, else NULL. Any thread. */
struct account *route_account_find(struct engine *engine, const char *name);

/* The forced user of a database, copied into dst; false when it has none. Any thread. */
bool route_forced_user(struct engine *engine, const struct snapshot *snap, struct db *db, char *dst, size_t size);

/* Effective max_db_client_connections, 0: none. Any thread. */
unsigned route_max_db_clients(struct engine *engine, const struct snapshot *snap, struct db *db);

/* Effective query_wait_timeout of a client. Any thread. */
uint64_t route_query_wait_timeout_us(struct engine *engine, const struct snapshot *snap, struct db *db,
				     const char *user);

/*
 * The pool that serves `user` on the database, made on first use. Pools live
 * until the engine ends. Any thread.
 */
struct pool *route_pool(struct engine *engine, struct db *db, const char *user) MUSTCHECK;

/* Remembers the keys of a SCRAM login, for logins to servers under the same name. Any thread. */
void route_store_keys(struct engine *engine, struct account *account, const struct scram_keys *keys);
/* Copies them; false when there are none. Any thread. */
bool route_copy_keys(struct engine *engine, struct account *account, struct scram_keys *keys);

/* A permit came free: runs the pools of the database and of the user (either may be NULL). Any thread. */
void route_kick(struct engine *engine, struct db *db, struct account *account);

/*
 * `pool` may not open a server because the database or the user is at its
 * limit: asks for the end of the idle server, of another pool under that
 * limit, that was used least recently. Any thread.
 */
void route_evict(struct engine *engine, struct pool *pool, struct db *db, struct account *account);

/* What all parts of a pool are told. */
enum route_tell {
	ROUTE_TELL_RUN,     /* a server may be opened now */
	ROUTE_TELL_WELCOME, /* the greeting is there */
	ROUTE_TELL_FAIL,    /* end all waiting clients with this text and SQLSTATE */
	ROUTE_TELL_KILL,    /* end all clients and servers: the database is gone */
};
void route_tell_parts(struct pool *pool, enum route_tell what, const char *text, const char *sqlstate);

/*
 * Makes the pools of databases with a forced user and a minimum size, which
 * keep servers open even without clients. Control thread.
 */
void route_prepare(struct engine *engine);

/* Makes the settings of a snapshot those of all databases, users and pools. Control thread. */
void route_reload(struct engine *engine, struct snapshot *snap);

/* Sets up and ends the registry. */
void route_init(struct engine *engine);
void route_fini(struct engine *engine);

#endif
