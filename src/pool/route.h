/*
 * What follows for a login from the settings of its database and user, and
 * messages to the parts of pools.
 */
#ifndef PGSLUICE_POOL_ROUTE_H
#define PGSLUICE_POOL_ROUTE_H

#include "pool/pool.h"

/* The forced user of a database, copied into dst; false when it has none. Any thread. */
bool route_forced_user(struct engine *engine, const struct db *db, char *dst, size_t size);

/* Effective max_db_client_connections, 0: none. Any thread. */
unsigned route_max_db_clients(struct engine *engine, const struct db *db);

/* Remembers the keys of a SCRAM login, for logins to servers under the same name. Any thread. */
void route_store_keys(struct engine *engine, struct account *account, const struct scram_keys *keys);
/* Copies them; false when there are none. Any thread. */
bool route_copy_keys(struct engine *engine, struct account *account, struct scram_keys *keys);

/*
 * Remembers with what the user of a pool has logged in, for logins to servers
 * when the configuration has no secret for it. `keys` may be NULL. One that is
 * new ends the wait after a failure. Any thread.
 */
void route_store_secret(struct pool *pool, const struct secret *secret, const struct scram_keys *keys);
/* The same with a password that LDAP or PAM took, for logins to servers whatever the configuration has. Any thread. */
void route_store_password(struct pool *pool, const char *password);
/* Copies that, to be freed by the caller; NULL when there is none. Any thread. */
struct pool_secret *route_copy_secret(struct pool *pool) MUSTCHECK;

/* A permit came free: runs the pools of the database and of the user (either may be NULL). Any thread. */
void route_kick(struct engine *engine, struct db *db, struct account *account);

/*
 * `pool` may not open a server because the database or the user is at its
 * limit: asks for the end of the idle server, of another pool under that
 * limit, that was used least recently. NULL: of any pool. Any thread.
 */
void route_evict(struct engine *engine, struct pool *pool, struct db *db, struct account *account);

/* The idle server of a pool that was used least recently, or NULL. Under the pool's lock. */
struct server *route_oldest_idle_locked(struct pool *pool);

/*
 * Takes an idle server off its list, for what `slot` (SERVER_TRAVEL_*) says;
 * the caller posts server_lend() to its worker. Under the pool's lock.
 */
void route_reserve_idle_locked(struct server *server, uint32_t slot);

/* What all parts of a pool are told, or one of them. */
enum route_tell {
	ROUTE_TELL_RUN,     /* a server may be opened now */
	ROUTE_TELL_WELCOME, /* the greeting is there */
	ROUTE_TELL_FAIL,    /* end all waiting clients with this text and SQLSTATE */
	ROUTE_TELL_KILL,    /* end all clients and servers: the database is gone */
};
void route_tell_parts(struct pool *pool, enum route_tell what, const char *text, const char *sqlstate);
void route_tell_part(struct pool_part *part, enum route_tell what, const char *text, const char *sqlstate);

/*
 * Makes the pools of databases with a forced user and a minimum size, which
 * keep servers open even without clients. Control thread.
 */
void route_prepare(struct engine *engine);

#endif
