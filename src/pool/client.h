/*
 * A client that is logged in, on its worker.
 */
#ifndef PGSLUICE_POOL_CLIENT_H
#define PGSLUICE_POOL_CLIENT_H

#include "core/reason_tbl.h"
#include "net/sock.h"
#include "net/stream.h"
#include "pool/cancel_key.h"
#include "pool/pool.h"
#include "pool/prep.h"
#include "pool/report.h"
#include "proto/startup.h"

/* id, name in SHOW CLIENTS, what it is doing as the log tells it */
#define CLIENT_STATE_TABLE(X)                                                                                \
	X(CL_NEW, "login", "login")                    /* on its way from the login loop */                  \
	X(CL_WELCOME, "waiting", "login")              /* queued; its greeting needs a first server */       \
	X(CL_IDLE, "idle", "idle")                     /* no server, nothing asked */                        \
	X(CL_WAITING, "waiting", "wait for a server")  /* queued for a server */                             \
	X(CL_HELD, "active", "prepare a server")       /* has a server that is being prepared for it */      \
	X(CL_ACTIVE, "active", "query")                /* has a server */                                    \
	X(CL_FAILED, "failed", "failed transaction")   /* has lost it within a transaction */                \
	X(CL_REPEAT, "active", "wait for another run") /* its statement has failed, and is run again soon */ \
	X(CL_CLOSED, "closed", NULL)                   /* freed at the end of this turn */

enum client_state {
#define X(id, name, action) id,
	CLIENT_STATE_TABLE(X)
#undef X
		CLIENT_STATES
};

const char *client_state_name(enum client_state state);

#define CLIENT_MAGIC    0x636c6e74

/* A client that waits for a server is not read any further once this much of its messages is kept. */
#define CLIENT_WAIT_MAX (16 * 1024)
/* Kept of what a client has sent: a read of the scratch buffer and what came while it waited. */
#define CLIENT_IN_MAX   (LOOP_SCRATCH_SIZE + CLIENT_WAIT_MAX)

/* What a client waits for that is stalled: that the server has settled ... */
enum client_stall {
	STALL_EARLIER, /* what is open of earlier batches */
	STALL_RECORDS, /* all that is open */
	STALL_BATCHES, /* all batches before the one that is being sent */
};

/* What the client knows of the unnamed statement of the server that it is linked to. */
enum client_unnamed {
	UNNAMED_FOREIGN, /* another client may have left it */
	UNNAMED_SENT,    /* a Parse of this client is under way */
	UNNAMED_OWN,     /* it has parsed it */
};

struct client {
	uint32_t magic;
	enum client_state state;
	struct stream stream;
	struct pool *pool; /* held */
	struct pool_part *part;
	struct server *server;           /* linked; see link.c */
	struct server *awaits;           /* being opened for it; see replication.c */
	struct replication *replication; /* what it asked for; NULL: nothing of that kind */
	struct account *account;         /* of the presented user; held */
	struct varset *vars;
	struct varset *startup;     /* those of its startup packet, to which RESET returns; NULL: none */
	struct varset *vars_before; /* what they were before its transaction changed them; NULL: it has not */
	TAILQ_ENTRY(client) entry;  /* in part->clients */
	struct loop_task task;      /* resume or free, at the end of the turn */
	struct loop_msg msg;        /* for the way to its worker */
	uint64_t id;
	uint64_t connect_us;
	uint64_t request_us;         /* last message */
	uint64_t query_us;           /* since when a query is open; 0: none */
	uint64_t xact_us;            /* since when a transaction is open; 0: none */
	uint64_t hint_us;            /* the shortest limit that what is open has set for itself; 0: none */
	uint64_t waited_us;          /* in the queue, for what is open, before it was granted a server */
	uint64_t body_left;          /* of a message whose head was seen */
	bool discard_body;           /* ... and which goes nowhere */
	bool cut;                    /* got a part of a message whose rest will never come */
	bool send_failed;            /* it cannot be reached any more */
	bool blocked;                /* too many requests in flight; goes on when answers have come */
	bool stalled;                /* goes on when the server has settled what is open; see virtual.c */
	bool is_forgetting;          /* a query under way may forget its statements */
	enum client_stall stall;     /* ... or more than that */
	enum client_unnamed unnamed; /* the unnamed statement of the linked server */
	uint64_t unnamed_batch;      /* ... was parsed in this one; see prep_server.batch */
	struct buf gather; /* a message that must come as a whole first, and is too long for stream.in; max 0: none */
	struct prep_client prep;             /* its prepared statements */
	enum classify_effect unnamed_effect; /* of the text that it has parsed without a name last */
	struct survive *survive;             /* in CL_FAILED: what it is told; see survive.c */
	struct repeat *repeat;               /* a statement that has failed and is run again; see repeat.c */
	uint64_t unsent_us;                  /* when it lost a server that was being prepared for it; 0: never */
	bool has_said_goodbye;               /* it goes by its own will */
	bool skip_to_sync;                   /* a canceled batch is discarded up to its Sync */
	enum classify_effect refused_effect; /* of what was refused while it waited, up to here */
	bool refused_unnamed;                /* ... which has parsed without a name */
	bool refused_named;                  /* ... or with one */
	struct survive_text
		*cut_text;   /* of the message of which body_left bytes are yet to come; NULL: nobody looks at it */
	bool is_resetting;   /* what follows waits until its parameters are what they shall be; see link_vars.c */
	bool hides_reset;    /* whether it resets all must be known from its texts */
	bool startup_is_raw; /* `startup` is spelled as the client has, not yet as its server does */
	bool is_unix;
	bool is_inner;         /* asks for the pooler itself, see auth_query.c: it is counted nowhere */
	struct sock_peer peer; /* of TCP */
	bool notified;         /* told that it waits */
	bool parked;           /* not read: everything is suspended */
	bool is_given;         /* ... and another process has its socket, to go on with it */
	uint32_t slot;
	uint16_t slot_generation;
	uint8_t cancel_key[CANCEL_KEY_LEN]; /* or the beginning of a longer one: see client_get_cancel_key() */
	bool has_long_key;
	struct carried_key *carried_key; /* the whole of one that another process has given out; NULL: it is ours */
	uint64_t query_wait_timeout_us;  /* of this client */
	uint64_t idle_timeout_us;

	/* protected by pool->lock */
	TAILQ_ENTRY(client) wait_all;  /* in pool->waiters, or pool->dedicated */
	TAILQ_ENTRY(client) wait_part; /* in part->waiters */
	uint64_t wait_us;              /* in the queue since; written by its own thread, as is ... */
	uint64_t ticket;               /* ... its number among those who have joined the queue of the pool */
	bool queued;
	bool has_query; /* it waits with a query, not for its greeting */
	bool granted;   /* taken off the queue; its server is on the way */
};

/* What the client asked for in its startup packet; see proto/startup.h. */
enum startup_replication client_replication(const struct client *client);

/* Everything a login has found out, for client_new(). Strings and bytes are copied. */
struct client_birth {
	struct stream_socket socket; /* taken over */
	uint64_t id;
	uint64_t connect_us;
	struct pool *pool;               /* the reference is taken over */
	struct account *account;         /* likewise */
	struct varset *vars;             /* likewise */
	struct varset *startup;          /* likewise; may be NULL */
	struct replication *replication; /* likewise; may be NULL */
	bool is_unix;
	bool is_inner;     /* asks for the pooler itself; see struct client */
	bool has_long_key; /* it speaks protocol 3.2 */
	struct sock_peer peer;
	const uint8_t *pending; /* bytes behind the last login message */
	size_t pending_len;
};

/* The only place that writes client->state; asserts that the edge exists. */
void client_set_state(struct client *client, enum client_state state);

/* A client on its way to a worker, which is chosen here and told. Login thread. */
void client_hand_over(struct client_birth *birth);

/* The home worker of the pool with the fewest clients. Any thread. */
struct pool_part *client_home(struct pool *pool);

/*
 * A client that was logged in by another process, with the cancel key that it
 * was given there; it counts from now on. `pending` is what was read of it
 * there. The caller sends it to the part's worker. Control thread.
 */
struct client *client_carry(const struct client_birth *birth, struct pool_part *part,
			    const struct cancel_key *cancel_key) MUSTCHECK;

/* The key that the client was given. Own thread. */
void client_get_cancel_key(const struct client *client, struct cancel_key *key);

/* It has arrived there; its state is still CL_NEW. Own thread. */
void client_carried(struct client *client, struct pool_part *part);

/* A server for a client that stood in the queue; false when the client needed it for nothing but its greeting. Own
 * thread. */
bool client_granted(struct client *client, struct server *server);

/* The greeting is there: a client that stood in the queue for it needs no server. Own thread. */
void client_granted_greeting(struct client *client);

/* Takes over the timeouts that are in force on its worker: on arrival, and after a reload. */
void client_apply_conf(struct client *client);

/*
 * Sends the greeting: AuthenticationOk to ReadyForQuery. Without one in the
 * pool, the client stands in the queue until a server has logged in.
 */
void client_greet(struct client *client);

/* Tells the client (FATAL, unless the reason is silent) and closes it. Own thread; the object lives on until the end of
 * the turn. */
void client_close(struct client *client, enum reason reason);

/* The same with an error made before; see report.h. */
void client_close_report(struct client *client, const struct report *report);

/* Makes the error that client_close() would tell now. */
void client_report(const struct client *client, enum reason reason, struct report *report);

/* Closes because of a message head that cannot be: tells its first bytes. */
void client_close_header(struct client *client, const uint8_t *p, size_t n);

/* Sends the greeting with these parameters of a server; false when the client is gone. */
bool client_send_greeting(struct client *client, const struct welcome *welcome) MUSTCHECK;

/* Sends a ReadyForQuery of our own, after an error or without one; see survive_fails_refused(). */
void client_send_ready(struct client *client);

/* Closes without a word. */
void client_drop(struct client *client, enum reason reason);

/* The linked server is ready for the client's messages. */
void client_resume(struct client *client);

/* The link has ended and the client may go on without a server. */
void client_unlinked(struct client *client);

/*
 * The link has ended before anything of what is open was sent: that is read
 * again, and its time goes on.
 */
void client_unsent(struct client *client);

/*
 * How long it may still wait for a server, in microseconds, having waited for
 * age_us this time; UINT64_MAX: for ever. A statement that is run again, or has
 * to look for another server, has one time for all of it. Own thread.
 */
uint64_t client_wait_left_us(const struct client *client, uint64_t now_us, uint64_t age_us);

/* Since when the time of a client in the queue runs: for query_timeout, and for query_wait_timeout. Own thread. */
static inline uint64_t client_open_since_us(const struct client *client)
{
	return client->query_us != 0 ? client->query_us : client->wait_us;
}

static inline uint64_t client_waits_since_us(const struct client *client)
{
	return client->wait_us - client->waited_us;
}

/*
 * Tells the client an error that does not end its session; false when it could
 * not be told and was closed. Own thread.
 */
bool client_send_error(struct client *client, const struct report *report) MUSTCHECK;

/* A message of a client: its body as far as it has come. */
struct client_message {
	uint8_t type;
	struct slice body;
	bool is_whole;
};

/*
 * A request that has not gone to a server ends by this error, and the client,
 * which stands in no queue, goes on without it: a Query or FunctionCall, or a
 * batch up to its Sync. `message` is the first of it, which is being read, and
 * which the caller discards; NULL: what has come of the request is kept. Errors,
 * ReadyForQuery and the state are those of a transaction that has failed if the
 * request might have begun one, see survive_fails_refused(). The client may be
 * closed afterwards. Own thread.
 */
void client_end_request(struct client *client, const struct report *report, const struct client_message *message);

/* The same within a transaction, or a batch, that has failed with its server: client->survive. */
void client_failed(struct client *client);

/* A cancel request came for a client in the queue: answers 57014 and leaves it; false when it is in no queue. */
bool client_cancel_wait(struct client *client);

extern const struct stream_ops client_stream_ops;

/* Logs a message that clients may not send; its sender is about to be closed. */
void client_log_unknown(const struct client *client, uint8_t type);

/* Whom a log line is about. */
void client_describe(const struct client *client, struct log_about *about);

#endif
