/*
 * A connection to PostgreSQL, on its worker.
 */
#ifndef PGSLUICE_POOL_SERVER_H
#define PGSLUICE_POOL_SERVER_H

#include "core/log.h"
#include "core/reason_tbl.h"
#include "net/sock.h"
#include "net/stream.h"
#include "pool/cleanup.h"
#include "pool/pool.h"
#include "pool/prep.h"
#include "pool/query_timeout.h"
#include "pool/rerun.h"
#include "pool/server_tls.h"
#include "proto/startup.h"
#include "proto/track.h"

/* id, name in SHOW SERVERS, what it is doing as the log tells it */
#define SERVER_STATE_TABLE(X)                                                                                  \
	X(SV_LOGIN, "new", "login")                /* connecting, logging in, connect_query */                 \
	X(SV_IDLE, "idle", "idle")                 /* in the idle list, or reserved by a borrower */           \
	X(SV_ACTIVE, "active", "query")            /* linked to a client */                                    \
	X(SV_TESTED, "tested", "reset or check")   /* reset or check query under way */                        \
	X(SV_CANCELED, "being_canceled", "cancel") /* free, but a cancel request or a clean-up is under way */ \
	X(SV_TRAVEL, "idle", "change worker")      /* on its way to another worker */                          \
	X(SV_CLOSED, "closed", NULL)               /* freed at the end of this turn */

enum server_state {
#define X(id, name, action) id,
	SERVER_STATE_TABLE(X)
#undef X
		SERVER_STATES
};

const char *server_state_name(enum server_state state);

#define SERVER_MAGIC         0x73657276
#define SERVER_KEY_MAX       256

/* What a connection keeps of what was read, and of what could not be sent. */
#define SERVER_IN_MAX        (LOOP_SCRATCH_SIZE - 1)
#define SERVER_OUT_MAX       (256 * 1024)

/* In travel_slot: for no client in particular; to be closed on arrival, for one of three limits. */
#define SERVER_TRAVEL_NOBODY UINT32_MAX
#define SERVER_EVICT_POOL    (UINT32_MAX - 1)
#define SERVER_EVICT_DB      (UINT32_MAX - 2)
#define SERVER_EVICT_USER    (UINT32_MAX - 3)

/* What a command under way has done to the parameters of the session. */
enum server_reset {
	RESET_NONE,
	RESET_SOME, /* those are reset that have become what they were at first */
	RESET_ALL,
	RESET_IN_DOUBT, /* the transaction has failed: what the server reports holds */
};

struct report;
struct server_login; /* what only a login needs; login of a server, see server_login.c */

struct server {
	uint32_t magic;
	enum server_state state;
	struct stream stream;
	struct track track;
	struct pool *pool;                    /* held */
	struct pool_part *part;               /* NULL while travelling */
	struct client *client;                /* linked; see link.c */
	struct client *awaited_by;            /* while it is opened for one client; see replication.c */
	enum startup_replication replication; /* what it was opened for */
	struct pool_conf *conf;               /* as it was when this connection was opened */
	struct varset *vars;
	struct varset *defaults;    /* those that it had at first, to which RESET returns; NULL: not known */
	struct server_login *login; /* NULL once logged in */
	struct permit permit;
	struct endpoint *endpoint; /* held; NULL: see struct permit */
	char sqlstate[6];          /* of the last FATAL error that it has sent; "": none */
	TAILQ_ENTRY(server) entry; /* in part->servers */
	struct loop_task task;
	struct loop_msg msg; /* for the move between workers */
	uint64_t id;
	unsigned epoch; /* of the pool, when it was opened */
	uint64_t connect_us;
	uint64_t request_us;     /* last message */
	uint64_t active_us;      /* last packet while linked, for idle_transaction_timeout */
	uint64_t body_left;      /* of a message whose head was seen */
	bool swallow_body;       /* ... and which goes nowhere */
	bool was_awaited;        /* the client has waited for that, and goes on in this turn */
	bool setting_vars;       /* our SET for the client is under way */
	bool vars_due;           /* RESET has left it with others than its client shall have; see link_vars.c */
	enum server_reset reset; /* ... and when more of this is under way, what */
	struct buf prelude;      /* it, to be sent in front of what the client says first */
	struct prep_server prep; /* statements that it was given */
	unsigned sql_statements; /* ... and those that the client made by PREPARE: these tie it to this client */
	struct rerun rerun;
	struct query_timeout timeout;
	struct cleanup cleanup;
	struct report *last_words; /* its FATAL error, for a client that outlives it; NULL: none */
	bool dirty;                /* to be closed when free, whatever comes; see server_is_unwanted() */
	unsigned gone_epoch;       /* addresses that had vanished when it was last asked for its own */
	bool cut;                  /* got a part of a message whose rest will never come */
	bool resetting;            /* our own query is the reset query */
	bool is_listed;            /* was put into the idle list by this worker, and not taken out by it */
	bool ours_failed;          /* our own query got an error */
	struct shadow *shadow;     /* a check that is under way; see shadow.c */
	bool parked;               /* not read: everything is suspended */
	bool is_given;             /* ... and another process has its socket, to go on with it */
	unsigned cancels;          /* cancel requests under way against it */
	uint32_t backend_pid;
	uint8_t backend_key[SERVER_KEY_MAX]; /* for cancel requests, with the process id */
	uint16_t backend_key_len;
	struct sock_addr addr;
	struct server_tls tls;  /* how it was, or is to be, connected */
	uint16_t travel_worker; /* where it goes */
	uint32_t travel_slot;   /* for which client; see worker_slot_find() */
	uint16_t travel_generation;

	/* protected by pool->lock */
	TAILQ_ENTRY(server) idle_entry; /* in part->idle */
	uint64_t idle_us;               /* idle since */
	bool is_idle;                   /* in part->idle */
};

/* True while it is brought to rest after its client has gone; see cleanup.c. */
static inline bool cleanup_is_running(const struct server *server)
{
	return server->cleanup.since_us != 0;
}

/* True when a new epoch of its pool has begun since it was opened. Any thread that may look at the server. */
static inline bool server_is_stale(const struct server *server)
{
	return server->epoch != atomic_load_explicit(&server->pool->epoch, memory_order_relaxed);
}

/* The port that it was opened to, also where that is only a part of the name of a Unix socket. */
static inline int server_port(const struct server *server)
{
	return server->endpoint != NULL ? server->endpoint->port : server->conf->db->port;
}

/*
 * The pool mode in which it is used: one that replicates stays with its client,
 * whatever the pool does. Own thread.
 */
static inline enum conf_pool_mode server_pool_mode(const struct server *server)
{
	return UNLIKELY(server->replication != REPLICATION_NONE) ? CONF_POOL_SESSION : server->part->conf->mode;
}

/* Opens a connection, for `client` alone unless that is NULL; the permit is taken over. Own thread. */
void server_open(struct pool_part *part, struct permit *permit, struct client *client);

/*
 * A connection that another process has opened and logged in; descriptor and
 * parameters are taken over, limits do not count. `is_linked`: a client comes with it. The caller fills in what it
 * knows of it and sends it to the part's worker. Control thread.
 */
struct server *server_carry(struct pool_part *part, int fd, struct varset *vars, bool is_linked) MUSTCHECK;

/* It has arrived there, and is idle, but in no list. Own thread. */
void server_carried(struct server *server, struct pool_part *part);

/* Closes it, gives the permit back, and tells a linked client. The object lives on until the end of the turn. */
void server_close(struct server *server, enum reason reason);

/* The same for a login that failed; `text` is what clients that come now are told. */
void server_close_login(struct server *server, enum reason reason, const char *text);

/*
 * The login is done: the connection becomes one of the pool, or that of the
 * client it was opened for, whose greeting is made from `welcome`. Called by
 * server_login.c.
 */
void server_logged_in(struct server *server, const struct welcome *welcome);

/* Runs the check query; the server goes to checkin when it has succeeded. */
void server_check(struct server *server);

/* The only place that writes server->state; asserts that the edge exists. */
void server_set_state(struct server *server, enum server_state state);

/* A clean server that needs no reset: closed when it is due, else idle, or handed to whoever waits. */
void server_free(struct server *server);

/*
 * The link has ended and the session is clean: reset query, lifetime and
 * cancels in flight are seen to, then the server goes back to the pool.
 */
void server_free_to_pool(struct server *server);

/*
 * Sends a simple query of our own, in two parts, whose answer is swallowed; it
 * may close the server.
 */
void server_send_own(struct server *server, const char *before, const char *sql);

/* Ends, by CopyFail, what the server reads as COPY data of its client; at the boundary of a message. */
void server_fail_copy(struct server *server, enum reason why);

/* Our own reset or check query has been answered. */
void server_test_done(struct server *server);

/* One cancel request less is under way against it. */
void server_cancel_ended(struct server *server);

/* True when it was opened under settings that are no good for new connections any more. Own thread. */
bool server_is_outdated(const struct server *server);

/*
 * True when it should be elsewhere: by what is known of the hosts at this moment,
 * which may be otherwise in the next, so nobody takes note of it. Own thread.
 */
bool server_is_misplaced(const struct server *server);

/*
 * Roles, or what is asked for, have changed: a server that is misplaced now is to
 * be closed, but for one that works for a client, where that is decided when it
 * is free; one that replicates never is. Own thread.
 */
void server_note_place(struct server *server);

/* True when it is to be closed as soon as it is free. Own thread. */
static inline bool server_is_unwanted(const struct server *server)
{
	return server->dirty || server_is_misplaced(server);
}

/*
 * The server has told the value of a parameter, maybe one that tells its role:
 * in_hot_standby, which nothing else can change; or the default of its
 * transactions, which may be a client's own, and is a reason to ask. Own thread.
 */
void server_note_role(struct server *server, struct slice name, struct slice value);

/* Sends an idle server to another worker, for the client named in travel_*. */
void server_travel(struct server *server);

/* Message handler: another worker wants this idle server, which is reserved for it. */
void server_lend(struct loop *loop, struct loop_msg *msg);

/* Bytes from the server in the states after the login; the callback of the stream. */
void server_on_readable(void *owner);

extern const struct stream_ops server_stream_ops;

/* Whom a log line is about. */
void server_describe(const struct server *server, struct log_about *about);

#endif
