/*
 * Pools and the scheduler: who gets which server, who waits, when a server is
 * opened. A pool is (database, user) and is shared by all workers; each worker
 * has a part of it with its own clients and servers.
 */
#ifndef PGSLUICE_POOL_POOL_H
#define PGSLUICE_POOL_POOL_H

#include <sys/queue.h>
#include <uthash.h>

#include "auth/scram.h"
#include "auth/secret.h"
#include "core/base.h"
#include "core/lock.h"
#include "core/reason_tbl.h"
#include "pool/engine.h"
#include "pool/pool_conf.h"
#include "pool/queue_estimate.h"
#include "pool/retry.h"
#include "pool/stats.h"
#include "pool/vars.h"

/*
 * Accounts, databases and pools come into being when they are first needed and
 * go when nobody needs them any more: registry.c says how. `refs` counts those
 * who keep a pointer.
 */

TAILQ_HEAD(pool_list, pool);

/* Counts of one user name over all databases. */
struct account {
	UT_hash_handle hh;         /* protected by the registry lock */
	SLIST_ENTRY(account) gone; /* out of the table, to be freed; control thread only */
	struct pool_list pools;    /* of this user; protected by the registry lock */
	atomic_uint refs;
	atomic_uint servers; /* sockets in use; see struct permit */
	atomic_uint clients;
	atomic_uint max_servers; /* effective max_user_connections, 0: none */
	atomic_bool starved;     /* a pool could not open a server because of this limit */
	atomic_bool evicting;    /* an idle server is being closed because of this limit */
	bool has_keys;           /* protected by the registry lock, with keys: */
	struct scram_keys keys;  /* from this user's last SCRAM login */
	char name[];
};

/* A database that clients may name. */
struct db {
	UT_hash_handle hh;      /* protected by the registry lock */
	TAILQ_ENTRY(db) entry;  /* out of the table: in engine->removed_dbs; control thread only */
	struct pool_list pools; /* of this database, removed ones last; protected by the registry lock */
	atomic_uint refs;
	atomic_uint servers;
	atomic_uint clients;
	atomic_uint max_servers; /* effective max_db_connections, 0: none */
	atomic_bool starved;
	atomic_bool evicting;
	atomic_uint ddl_epoch;          /* counts changes of what statements return; see virtual.c */
	atomic_uint ddl_tables;         /* counts tables and the like that come and go */
	atomic_bool paused;             /* PAUSE db */
	atomic_bool disabled;           /* DISABLE db */
	_Atomic enum drain_phase drain; /* DRAIN db */
	atomic_bool removed;            /* out of the table: nobody finds it any more */
	struct conf_db *auto_conf;      /* made by the * entry, else NULL; protected by the registry lock */
	uint64_t idle_us;               /* seen without use since, 0: in use; protected by the registry lock */
	char name[];
};

/* What a client is told before its first query, from the first server of the pool. Shared by reference count. */
struct welcome {
	atomic_uint refs;
	struct varset *defaults; /* tracked parameters as a fresh server has them */
	size_t len;
	uint8_t bytes[]; /* ParameterStatus messages of all other parameters */
};

/* Another reference; any thread. */
struct welcome *welcome_hold(struct welcome *w) MUSTCHECK;
void welcome_release(struct welcome **w);

/*
 * The right to have one server connection: one unit of each count that limits
 * it. Nobody changes those counts but by taking and giving a permit.
 */
struct permit {
	struct pool *pool;         /* NULL: none held */
	struct endpoint *endpoint; /* held, and counted there; NULL: a server of another process, or without a place */
	struct breaker_pass pass;  /* of its breakers */
	unsigned host_turn;        /* pool->host_turn when the endpoint was chosen */
	bool logging_in;           /* counts as a login under way, too */
	bool is_dedicated;         /* ... of a server for one client; see dedicated.c */
	bool closing;              /* counts as one whose close is decided, too */
};

TAILQ_HEAD(client_list, client);
TAILQ_HEAD(server_list, server);

/* A worker's part of a pool. */
struct pool_part {
	/* constant */
	struct pool *pool;
	struct worker *worker;

	/* the worker's thread only */
	TAILQ_ENTRY(pool_part) entry CACHE_ALIGNED; /* in worker->parts while in_use */
	uint64_t number;                            /* ... where each is greater than the one before; not 0 */
	bool in_use;                                /* counts as a reference to the pool */
	struct pool_conf *conf;
	struct client_list clients;
	struct server_list servers;
	unsigned present; /* length of clients */
	unsigned waiting; /* clients in CL_WAITING and CL_WELCOME */
	unsigned timed;   /* clients with an idle timeout */
	unsigned failed;  /* clients in CL_FAILED */
	struct retry_budget retry_budget;

	/* written by the worker's thread, read by any */
	atomic_uint client_count; /* clients here; for the choice of a worker */
	struct stats stats;
	_Atomic uint64_t retries[RETRY_CAUSES_N][RETRY_OUTCOMES_N];

	/* protected by pool->lock */
	struct server_list idle CACHE_ALIGNED; /* most recently used first */
	struct client_list waiters;            /* of this part, oldest first */
	unsigned held;                         /* servers of this part, whatever they do */
};

/* What pools are found by. */
struct pool_key {
	struct db *db;
	struct account *account;
};

/* How many sets of parameters a pool remembers to be good. */
#define POOL_PROVEN_MAX 16

/* What a user has logged in with, for logins to servers. */
struct pool_secret {
	struct secret secret;
	bool is_judged; /* a password that LDAP or PAM took: it goes before that of the configuration */
	bool has_keys;
	struct scram_keys keys;
};

/* Wipes, frees and nulls; NULL inside is fine. */
void pool_secret_free(struct pool_secret **secret);

struct pool {
	uint32_t magic;
	UT_hash_handle hh; /* protected by the registry lock */
	struct pool_key key;
	/* constant */
	struct engine *engine;
	struct db *db;
	struct account *account;
	uint64_t id;         /* never used again */
	unsigned first_home; /* home workers: home_count from here on, cyclic */
	char name[192];      /* db/user, for logs */

	/* protected by the registry lock */
	TAILQ_ENTRY(pool) entry;      /* in engine->pools */
	TAILQ_ENTRY(pool) db_entry;   /* in db->pools */
	TAILQ_ENTRY(pool) user_entry; /* in account->pools */
	uint64_t idle_us;             /* seen without use since, 0: in use */

	atomic_uint refs;    /* see registry.c */
	atomic_bool removed; /* out of the table: no new clients, no new servers */
	atomic_uint home_count;
	atomic_uint epoch;                 /* servers opened in an older one are of no use; changed under lock */
	atomic_bool old_protocol;          /* servers of this epoch refuse a newer version than 3.0 */
	_Atomic uint64_t next_lifetime_us; /* no server is closed for its age before this */
	/* serial numbers of sets of parameters that servers of this epoch have taken; any may be forgotten */
	_Atomic uint64_t proven_vars[POOL_PROVEN_MAX];
	struct lock lock;

	/* all below is protected by lock */
	struct pool_conf *conf;
	struct welcome *welcome;    /* NULL: no server has logged in yet */
	struct client_list waiters; /* of all parts, oldest first */
	unsigned waiter_count;
	unsigned greeters;              /* of them, who wait for their greeting only */
	uint64_t tickets;               /* of those who have ever joined it */
	uint64_t refused;               /* clients that did not wait because of max_waiting_clients */
	uint64_t shed;                  /* ... or not to the end because of queue_shed */
	struct queue_estimate estimate; /* how fast it is */
	struct client_list dedicated;   /* those who wait for a server of their own, oldest first; see dedicated.c */
	unsigned dedicated_count;
	unsigned servers;           /* permits out */
	unsigned logging_in;        /* servers that are not logged in yet */
	unsigned dedicated_logins;  /* ... for clients that are in no queue any more */
	unsigned closing;           /* servers being closed because there are too many */
	unsigned idle;              /* servers in an idle list */
	unsigned travelling;        /* servers on the way between workers */
	unsigned borrowed;          /* ... for whoever waits longest on arrival; the others are promised */
	unsigned cancels;           /* connections that carry cancel requests; not among the servers */
	bool overdraft;             /* one server may be above size and reserve, see pool_claim_surplus_locked() */
	bool login_failed;          /* the last login attempt failed */
	bool is_for_breaker;        /* ... which a breaker counts: clients wait until that opens */
	unsigned failures;          /* in a row */
	uint64_t retry_us;          /* no attempt before this time */
	uint64_t roles_seen;        /* what was known of the endpoints when that was given up for them last */
	char failure[128];          /* why, for clients that come now */
	struct pool_secret *secret; /* with which the user has logged in; NULL: nobody has, or auth_file was asked */
	unsigned host_turn;         /* which endpoint of the list is next, modulo their number */
	struct pool_part *parts[];  /* one per worker */
};

#define POOL_MAGIC 0x706f6f6c

/* ---- clients and servers of a worker's part ---- */

/* The part of the worker, put into use. Own thread. */
struct pool_part *pool_part_get(struct pool *pool, struct worker *worker);

/* True when nothing is left in a part and nothing is to be done in it. Own thread. */
bool pool_part_is_empty(const struct pool_part *part);

/* Puts a part without clients and servers out of use. The caller must not touch the pool afterwards. Own thread. */
void pool_part_leave(struct pool_part *part);

/* Chooses how many workers serve the pool, after its settings have been set. */
void pool_set_homes(struct pool *pool);

/* ---- the scheduler; all on the worker's own thread ---- */

/* Why a client that needs a server gets none and does not wait for one. */
struct pool_refusal {
	enum reason reason; /* REASON_NONE: it waits, or has a server */
	char failure[128];  /* REASON_CACHED_ERROR: what the last attempt to log in came to */
	unsigned limit;     /* REASON_QUEUE_FULL: how many may wait */
	unsigned endpoint;  /* REASON_BREAKER_OPEN: of the list, whose breaker admits somebody first ... */
	uint64_t wait_us;   /* ... in this time, or BREAKER_FOREVER; REASON_QUEUE_SLOW: the estimate ... */
	uint64_t left_us; /* ... and for how long it may wait yet; REASON_QUERY_TIMEOUT_QUEUE: what was, and might be */
};

/*
 * A server for the client, to be linked by the caller; or NULL, and the client
 * stands in the queue and will be given one by client_granted(), or, with
 * refusal->reason set, it does not.
 */
struct server *pool_checkout(struct pool_part *part, struct client *client, struct pool_refusal *refusal);

/*
 * True while clients that need a server now are told at once that logins fail,
 * and why; another attempt is made if it is time for one.
 */
bool pool_is_failing(struct pool_part *part, char *failure, size_t failure_size);

/* Queues a client that wants a server for its greeting only, as pool_checkout() does. */
void pool_enqueue(struct pool_part *part, struct client *client);

/* Puts a client back at the head of the queue: the server it was promised cannot be used. */
void pool_requeue(struct pool_part *part, struct client *client);

/* Takes a client out of its queue; false when it is in none. */
bool pool_dequeue(struct pool_part *part, struct client *client);

/*
 * A clean server is free: it goes to the client that has waited longest, maybe
 * on another worker, or becomes idle. The caller must not touch the server afterwards.
 */
void pool_checkin(struct pool_part *part, struct server *server);

/* Takes a server out of the idle list for its owner; false when somebody else has reserved it. */
bool pool_remove_idle(struct pool_part *part, struct server *server);

/* True when the client stands in the queue and is promised nothing. Own thread. */
bool pool_is_queued(const struct client *client);

/* A server that travelled has arrived at this part, or was not sent by it after all. */
void pool_travel_ended(struct pool_part *part, const struct server *server);

/* The alarm of a worker's loop: sees to clients that have waited for a server of their own worker long enough. */
void pool_on_alarm(struct loop *loop, void *arg);

/* True when any client is in this pool. Any thread. */
bool pool_has_clients(const struct pool *pool);

/* Opens servers for waiters and for min_pool_size as far as the limits allow. */
void pool_run(struct pool_part *part);

/* The login of the permit's server has succeeded. */
void pool_login_done(struct pool_part *part, struct permit *permit);

/* An attempt to log in that failed. */
struct pool_failure {
	const char *why;
	bool counts;              /* it says something about the server */
	enum failure_class class; /* for which breaker */
	bool has_connected;       /* somebody has listened ... */
	bool is_refusal;          /* ... and has answered with an error */
	uint64_t started_us;      /* when the attempt began */
};

/* The login has failed: waits before the next one. The permit is given back. */
void pool_login_failed(struct pool_part *part, struct permit *permit, const struct pool_failure *failure);

/* Breakers have changed: where they say when to begin again, the next attempt need not wait. Any thread. */
void pool_retry_for_breakers(struct pool *pool);

/* Endpoints may have other roles than before, and if these have: likewise. Any thread. */
void pool_retry_for_roles(struct pool *pool);

/*
 * Decides to close a server of this permit if more than `keep` then remain;
 * false when others have decided so for theirs already. Any worker.
 */
bool pool_claim_close(struct pool *pool, struct permit *permit, unsigned keep);

/* The same for a free server, if there are more than the pool may have now. */
bool pool_claim_surplus(struct pool *pool, struct server *server);

/*
 * True, once per interval in the whole pool, when a server that is this old may
 * be closed for its age. Any worker.
 */
bool pool_claim_lifetime(struct pool *pool, const struct pool_conf *conf, uint64_t age_us, uint64_t now_us);

/*
 * A permit for a connection that exists already, whatever the limits. Until
 * pool_travel_ended() it is on its way: unless it is linked, to whoever waits.
 */
void pool_permit_carry(struct pool *pool, struct permit *permit, bool is_linked);

/* A server is gone: gives its permit back and serves whom that helps. */
void pool_permit_give(struct pool_part *part, struct permit *permit);

/*
 * Counts a connection that will carry a cancel request; false when the pool
 * has as many of these as it may, together with its servers. Any thread.
 */
bool pool_cancel_take(struct pool *pool) MUSTCHECK;
void pool_cancel_give(struct pool *pool);

/*
 * Sets the greeting from a server that was opened in this epoch, unless there
 * is one already or the epoch is over; takes over the reference.
 */
void pool_offer_welcome(struct pool *pool, struct welcome *welcome, unsigned epoch);

/* A server of this epoch refuses a newer protocol than 3.0: for as long as it is not over, none is asked for. Any
 * thread. */
void pool_note_old_protocol(struct pool *pool, unsigned epoch);

/*
 * A new epoch: no server that there is now will be handed out once every worker
 * has marked its own (janitor_apply_epoch), not even one that is on its way between
 * two of them; and the greeting comes from the next server that logs in. Any
 * thread.
 */
void pool_begin_epoch(struct pool *pool);

/* The greeting, held for the caller, or NULL. */
struct welcome *pool_welcome(struct pool *pool);

/* True while no server of this pool may be handed out. */
static inline bool pool_is_paused(const struct pool *pool)
{
	return UNLIKELY(atomic_load_explicit(&pool->engine->mode, memory_order_relaxed) == ENGINE_PAUSED) ||
	       UNLIKELY(atomic_load_explicit(&pool->db->paused, memory_order_relaxed));
}

/* Counts of a pool at one moment. Any thread. */
struct pool_counts {
	unsigned waiters;
	unsigned servers;
	unsigned logging_in;
	unsigned idle;
	unsigned travelling;     /* on their way between workers, or about to leave */
	uint64_t oldest_wait_us; /* since when the query at the head of the queue waits; 0: none, or a login */
};
void pool_count(struct pool *pool, struct pool_counts *counts);

/* Sum of the counters of all parts. Any thread. */
void pool_stats(struct pool *pool, struct stats_sum *sum);

#endif
