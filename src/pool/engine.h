/*
 * The engine: the loops of the process and what they share. Everything here is
 * either constant after the start, atomic, or says which lock protects it.
 */
#ifndef PGSLUICE_POOL_ENGINE_H
#define PGSLUICE_POOL_ENGINE_H

#include <sys/queue.h>

#include "auth/users.h"
#include "conf/conf.h"
#include "core/base.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/siphash.h"
#include "net/dns.h"
#include "net/job.h"
#include "net/listen.h"
#include "net/loop.h"
#include "net/stream.h"
#include "pool/cancel_key.h"
#include "pool/query_timeout.h"
#include "pool/stats.h"

struct account;
struct auth_cache;
struct auth_run;
struct carried_key;
struct client;
struct hba;
struct health;
struct ldap_options;
struct login;
struct login_turns;
struct pool;
struct pool_part;
struct server;
struct tls_conf;
struct varset;

/* The configuration together with the files it names; immutable, shared by reference count. */
struct snapshot {
	atomic_uint refs;
	struct conf *conf;
	struct users *users;
	struct tls_conf *tls;      /* NULL: no TLS on either side; set by who makes it */
	struct hba *hba;           /* NULL: auth_type is not hba; set by who makes it */
	struct ldap_options *ldap; /* of auth_ldap_options; NULL: not set */
	unsigned template_version; /* of the * entry: another number when its text has changed */
	struct loop *home;         /* whose thread frees it; NULL: whoever gives the last reference back */
	struct loop_msg free_msg;
};

/* Takes over both references. */
struct snapshot *snapshot_new(struct conf *conf, struct users *users) MUSTCHECK;
struct snapshot *snapshot_hold(struct snapshot *snap) MUSTCHECK;
/* Nulls the pointer; NULL inside is fine. */
void snapshot_release(struct snapshot **snap);

/* What a loop that serves clients has of its own. Touched by its thread only. */
struct loop_ctx {
	struct engine *engine;
	struct loop *loop;
	struct snapshot *snap;            /* swapped by a message at a reload */
	TAILQ_HEAD(, login) logins;       /* clients that are not logged in yet */
	atomic_uint login_count;          /* length of logins, for SHOW LISTS */
	struct login_turns *turns;        /* which of them may begin */
	TAILQ_HEAD(, auth_run) auth_runs; /* look-ups by query that run here; see auth_query.c */
	bool accepting;                   /* listening sockets are attached here */
};

/* A logged-in client, as a cancel key finds it. */
struct client_slot {
	struct client *client; /* NULL: free */
	uint32_t next_free;
	uint16_t generation;
};

/* How far a worker has got with the parts of pools after a reload; see refresh.c. */
struct refresh {
	struct loop_msg msg;
	bool is_running;        /* msg is in the worker's own mailbox */
	bool all_clients;       /* the settings of users have changed */
	struct pool_part *part; /* the next one; NULL: none left */
	struct client *client;  /* of it, the next one; NULL: the part itself comes next */
	unsigned parts_seen;    /* for the log */
	unsigned parts_changed; /* likewise */
	unsigned slices;        /* likewise */
};

/* How far the janitor of a worker has got. */
struct janitor {
	struct loop_msg slice;   /* in the worker's own mailbox while next is not NULL */
	struct pool_part *next;  /* NULL: it has been everywhere */
	uint32_t passes;         /* begun */
	struct loop_alarm alarm; /* something is due before the next tick */
	bool is_auditing;        /* this one looks whether counts and lists agree */
};

/* How far a worker has got with telling those who wait that breakers refuse; see refuse.c. */
struct refuse_walk {
	struct loop_msg slice; /* in the worker's own mailbox while is_under_way */
	uint32_t at;           /* the next slot */
	bool is_under_way;
	bool is_outdated; /* there is news for those, too, that were looked at already */
};

/* A worker: a loop that forwards. Touched by its thread only, but for what says otherwise. */
struct worker {
	struct loop_ctx ctx; /* logins of its own, and at login_threads = 0 everybody's */
	unsigned index;
	TAILQ_HEAD(, pool_part) parts; /* pools with clients or servers here, in the order in which they came */
	uint64_t part_numbers;         /* the last one given to a part */
	struct refresh refresh;        /* a reload that is being worked off */
	struct janitor janitor;
	struct refuse_walk refuse;
	struct loop_alarm wait_alarm;         /* somebody will have waited for the slack; see pool.c */
	struct query_timeout_counts timeouts; /* what has come of queries over their limit, and of clients gone */
	struct client_slot *slots;
	uint32_t slot_count;
	uint32_t free_slot;
	TAILQ_HEAD(, cancel) cancels; /* cancel requests under way */
	bool suspended;               /* see suspend.c */
	bool frozen;                  /* ... and nobody in a queue gets a server */
};

#define ENGINE_WORKERS_MAX 256

enum engine_mode {
	ENGINE_ACTIVE,
	ENGINE_PAUSED,    /* PAUSE: no server is handed out, servers close when free */
	ENGINE_SUSPENDED, /* SUSPEND: nothing new is read; see suspend.c */
};

enum engine_shutdown {
	SHUTDOWN_NONE,
	SHUTDOWN_WAIT_FOR_SERVERS,
	SHUTDOWN_WAIT_FOR_CLIENTS,
	SHUTDOWN_DRAIN, /* see drain.c */
	SHUTDOWN_NOW,
};

/* How far a database, or everything, is drained; see drain.c. */
enum drain_phase {
	DRAIN_NONE,
	DRAIN_ANNOUNCED,
	DRAIN_RUNNING,
	DRAIN_OVER,
};

/* A client of the admin console, handed up by a login loop. */
struct console_handover {
	struct loop_msg msg; /* the receiver frees the object */
	struct stream_socket socket;
	uint64_t id;
	uint64_t connect_us;
	bool is_admin; /* else: only SHOW */
	struct sock_peer peer;
	struct cancel_key cancel_key;
	char user[128];
	char database[64]; /* the name that was asked for */
	struct account
		*account;    /* held, and counted in account->clients; NULL: unknown. The receiver takes both over */
	struct varset *vars; /* parameters that the client has sent; the receiver's */
	size_t pending_len;  /* bytes already read behind the startup packet */
	uint8_t pending[];
};

/* Work for helper threads: id, name of the queue */
#define ENGINE_JOB_TABLE(X)                                                \
	X(ENGINE_JOB_LDAP, "ldap")                                         \
	X(ENGINE_JOB_PAM, "pam")                                           \
	X(ENGINE_JOB_NAMES, "names")         /* addresses to host names */ \
	X(ENGINE_JOB_VERIFIERS, "verifiers") /* see verifiers.c */

enum engine_job {
#define X(id, name) id,
	ENGINE_JOB_TABLE(X)
#undef X
		ENGINE_JOB_COUNT
};

/* What the layers above give to the engine. */
struct engine_ops {
	/* Runs on the control loop; takes over the object. */
	void (*console_adopt)(struct loop *loop, struct loop_msg *msg);
	/* Runs on the control loop; takes over the object. */
	void (*console_cancel)(struct loop *loop, struct loop_msg *msg);
};

struct engine {
	/* constant after the start */
	struct loop *control;
	struct worker *workers[ENGINE_WORKERS_MAX];
	unsigned worker_count;
	struct loop_ctx **logins;
	unsigned login_count;
	struct dns *dns;
	struct auth_cache *auth_cache;
	struct endpoints *endpoints;
	struct health *health; /* control thread only */
	struct job_queue *jobs[ENGINE_JOB_COUNT];
	const struct engine_ops *ops;
	uint64_t start_us;
	uint8_t cancel_secret[2 * SIPHASH_KEY_LEN];
	uint8_t salt_key[SCRAM_KEY_LEN]; /* of SCRAM; see verifiers.c. After engine_new() only a takeover changes it */

	struct loop_msg breaker_msg; /* breakers have changed: to the control loop, see refuse.c */

	/* control thread only */
	struct listener_set *listeners;
	TAILQ_HEAD(, survey) surveys; /* under way */
	struct suspend *suspend;
	bool shutdown_paused;     /* it was a shutdown that paused everything */
	unsigned shutdown_visits; /* rounds through the workers that tell them of a shutdown and are not over */
	struct peers *peers;
	TAILQ_HEAD(, drain) drains; /* that have begun and were not ended */
	unsigned verifiers_run;     /* who derives verifiers with another number ends */

	/* atomic */
	_Atomic uint64_t next_id;     /* of SHOW CLIENTS and SHOW SERVERS */
	atomic_uint client_count;     /* all client sockets */
	atomic_uint unfinished_count; /* of these, logins that count for max_prelogin_conn */
	atomic_uint cancel_conns;     /* connections that carry cancel requests, to servers and to peers */
	atomic_uint next_login;       /* round robin over login loops */
	atomic_uint gone_epoch;       /* addresses that have vanished from host names */
	_Atomic enum engine_mode mode;
	_Atomic enum engine_shutdown shutdown;
	_Atomic enum drain_phase drain; /* of all databases */
	atomic_bool turns_away;         /* some clients outside of transactions get no server, see link_client.c */
	atomic_uint found_iterations;   /* of the SCRAM verifier that auth_query has found last; 0: that was none */
	atomic_bool found_plain;        /* the secret that it has found last is in plain text */
	atomic_bool has_long_keys;      /* cancel keys of protocol 3.2 were given out, or taken over */
	atomic_bool breaker_posted;     /* breaker_msg is under way */
	atomic_bool handed_over;        /* another process has our sockets: nothing is said on them any more */

	/* the registry */
	struct lock lock;
	struct snapshot *snap;            /* protected by lock */
	struct db *dbs;                   /* protected by lock; uthash by name */
	struct account *accounts;         /* protected by lock; uthash by name */
	struct pool_list *pools;          /* protected by lock */
	struct pool *pool_table;          /* protected by lock; uthash by (db, account) of those not removed */
	uint64_t next_pool_id;            /* protected by lock */
	struct carried_key *carried_keys; /* protected by lock; see carried_key.c */
	TAILQ_HEAD(, db) removed_dbs;     /* control thread only */
	struct loop_ticker sweep;         /* of the registry; control thread only */
};

/*
 * Builds the engine: loops, registry, listening sockets. `snap` is taken over.
 * Ends the process with a message when it cannot.
 */
struct engine *engine_new(struct snapshot *snap, const struct engine_ops *ops);

/* Opens the listening sockets; 0, or -E_SYS with a text. Before engine_start(). */
int engine_listen(struct engine *engine, char *err, size_t err_size) MUSTCHECK;

/*
 * The same with sockets that another process has opened, which are taken over,
 * together with the paths of Unix sockets. On failure they stay open.
 */
int engine_adopt_listeners(struct engine *engine, const int *fds, size_t count, char *err, size_t err_size) MUSTCHECK;

/* Starts the login and worker threads; the caller then runs the control loop. */
void engine_start(struct engine *engine);

/*
 * Stops and joins all threads and frees everything. False when a helper thread
 * is left that hangs in a library: the process should then leave by _exit().
 * Control thread.
 */
bool engine_free(struct engine **engine);

/* Hands a new snapshot (taken over) to every loop and to everything registered. Control thread. */
void engine_reload(struct engine *engine, struct snapshot *snap);

/* The snapshot now in force, held for the caller. Any thread. */
struct snapshot *engine_snapshot(struct engine *engine) MUSTCHECK;

/* A number for a client or server socket. Any thread. */
static inline uint64_t engine_next_id(struct engine *engine)
{
	return atomic_fetch_add_explicit(&engine->next_id, 1, memory_order_relaxed);
}

/* PAUSE, SUSPEND and RESUME of everything: sets the mode and tells the workers. Control thread. */
void engine_set_mode(struct engine *engine, enum engine_mode mode);

/* To be called when a shutdown or a drain has begun or ended: sets engine->turns_away. Control thread. */
void engine_update_turns_away(struct engine *engine);

/* A database was paused or resumed (db->paused): tells the workers. Control thread. */
void engine_apply_pauses(struct engine *engine);

/*
 * Starts a shutdown, or changes the kind of one that has begun: closes the TCP
 * sockets that listen, tells the workers. SHUTDOWN_NOW stops the control loop;
 * SHUTDOWN_DRAIN is for drain_begin() to carry out. Control thread.
 */
void engine_shutdown(struct engine *engine, enum engine_shutdown how);

/*
 * True when what a shutdown waits for is gone: the servers, or the clients,
 * those of the console among them. Not before each worker has told its waiting
 * clients. Control thread.
 */
bool engine_is_drained(struct engine *engine);

/* The loops that serve clients and servers: those of logins, then those of workers; the control loop is none of them.
 */
static inline unsigned engine_loop_count(const struct engine *engine)
{
	return engine->login_count + engine->worker_count;
}

static inline struct loop_ctx *engine_loop_at(const struct engine *engine, unsigned i)
{
	return i < engine->login_count ? engine->logins[i] : &engine->workers[i - engine->login_count]->ctx;
}

/* Clients on all loops that are not logged in yet. Any thread. */
unsigned engine_login_total(const struct engine *engine);

/* Server connections of all pools; for the end of PAUSE and of a shutdown. Control thread. */
unsigned engine_server_count(struct engine *engine);

/*
 * Runs fn on every worker, each on its own thread, then done on the control
 * loop; `arg` is for both. fn of different workers may run at once. How the
 * console asks for what workers own. Control thread.
 */
typedef void (*engine_visit_fn)(struct worker *worker, void *arg);
typedef void (*engine_done_fn)(void *arg);
void engine_visit(struct engine *engine, engine_visit_fn fn, engine_done_fn done, void *arg);

/* The worker that runs this thread, or NULL. */
struct worker *worker_current(void);

/* Registers a client for cancel requests; returns its slot. Own thread. */
uint32_t worker_slot_take(struct worker *worker, struct client *client, uint16_t *generation);
void worker_slot_give(struct worker *worker, uint32_t slot);
/* The client of that slot and generation, or NULL. Own thread. */
struct client *worker_slot_find(struct worker *worker, uint32_t slot, uint16_t generation);

#endif
