/*
 * The registry: databases, accounts and pools by name, from their first use to
 * their end. One lock (engine->lock); visited at logins and by the console.
 *
 * What a function below hands out is counted: whoever keeps the pointer gives
 * the reference back when it is done. A reference may be doubled by whoever has
 * one, and given back on any thread, without a lock.
 */
#ifndef PGSLUICE_POOL_REGISTRY_H
#define PGSLUICE_POOL_REGISTRY_H

#include "core/log.h"
#include "pool/pool.h"

/* Which databases a look-up may register. */
enum registry_scope {
	REGISTRY_CONFIGURED, /* those of the file: for people who are not known yet */
	REGISTRY_ANY,        /* those that the * entry makes, too */
};

/*
 * The database of that name, registered on first use; NULL when there is none.
 * `about` is who asks, for the log, or NULL. Any thread.
 */
struct db *registry_get_db(struct engine *engine, const char *name, enum registry_scope scope,
			   const struct log_about *about) MUSTCHECK;

/* The counts of a user, registered on first use. Only for users that exist. Any thread. */
struct account *registry_get_account(struct engine *engine, const char *name) MUSTCHECK;

/*
 * The pool that serves `user` on the database, made on first use; NULL when the
 * database has been removed. The caller has a reference to the database. Any
 * thread.
 */
struct pool *registry_get_pool(struct engine *engine, struct db *db, const char *user) MUSTCHECK;

/* One reference more, for somebody who has one. */
struct db *db_hold(struct db *db) MUSTCHECK;
struct pool *pool_hold(struct pool *pool) MUSTCHECK;

/* Give a reference back and null the pointer; NULL inside is fine. */
void db_release(struct db **db);
void account_release(struct account **account);
void pool_release(struct pool **pool);

/*
 * Takes the pools of a database out of the registry and has their clients and
 * servers closed; who asks for them from now on gets new ones. Control thread.
 */
void registry_remove_pools(struct engine *engine, struct db *db);

/* Takes the database out as well: nobody finds it any more. Control thread. */
void registry_remove_db(struct engine *engine, struct db *db);

/* The line in the log for a database that is gone. */
void registry_log_dropped(const char *name);

/* Sets up and ends the registry. */
void registry_init(struct engine *engine);
void registry_fini(struct engine *engine);

#endif
