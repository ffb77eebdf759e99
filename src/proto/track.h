/*
 * The model of one server session: which answers the server still owes and to
 * whom, and whether the session is at a point where it may serve another
 * client. It sees the types of messages, nothing else; it has no descriptor
 * and no clock. Protocol: PostgreSQL documentation, "Message Flow".
 */
#ifndef PGSLUICE_PROTO_TRACK_H
#define PGSLUICE_PROTO_TRACK_H

#include "core/base.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"
#include "proto/classify.h"
#include "proto/msg.h"

/* What a message to the server makes it owe. */
enum track_kind {
	TRACK_NONE, /* nothing is owed */
	TRACK_QUERY,
	TRACK_FUNCTION,
	TRACK_PARSE,
	TRACK_BIND,
	TRACK_DESCRIBE,
	TRACK_EXECUTE,
	TRACK_CLOSE,
	TRACK_SYNC,
	TRACK_COPY_END, /* CopyDone or CopyFail: owes nothing, ends what the server reads as COPY data */
	/* Never sent to the server: answers that we owe the client ourselves, at this place. */
	TRACK_OWED_PARSE,
	TRACK_OWED_CLOSE,
	TRACK_KINDS,
};

/* Requests that fit without allocation: a simple query, or a usual extended batch. */
#define TRACK_INLINE 16
/* More requests in flight than this are not taken until answers have come. */
#define TRACK_MAX    (64 * 1024)

struct track {
	uint16_t *ring; /* kinds with flags; oldest at head */
	uint32_t head;
	uint32_t count;
	uint32_t size;  /* of the ring, a power of two */
	uint8_t status; /* of the last ReadyForQuery: 'I', 'T', 'E'; 0 before the first */
	bool copy_in;   /* the server has asked for COPY data */
	bool copy_open; /* ... and no CopyDone or CopyFail was sent yet */
	bool copy_sync; /* ... and a Sync was sent that it may or may not have swallowed */
	bool copy_both; /* ... and it sends data itself: replication */
	bool skip;      /* an error was answered; the server discards everything up to a Sync that was not sent yet */
	bool erred;     /* the oldest entry has been answered by an error, so that only ReadyForQuery is to come */
	bool unsynced;  /* extended messages were sent with no Sync behind them */
	bool mixed;     /* a Query was sent where a Sync belongs ... */
	bool tainted;   /* ... and has left open a transaction that nobody has begun */
	bool doubt;     /* more answers may come than the model knows of */
	bool begun;     /* in doubt: an answer to the oldest entry has begun */
	bool broken;    /* the server left the protocol, or ended the session */
	bool strayed;   /* the client left the protocol while the server read COPY data */
	uint8_t effect; /* enum classify_effect of the extended messages that no Sync has followed yet */
	uint32_t owed;  /* entries of TRACK_OWED_* */
	/* Of the last track_server() or track_take_owed(): marked entries that have left the queue. */
	uint32_t marks_done;    /* ... answered */
	uint32_t marks_dropped; /* ... by an error, their own or one before them; never together with marks_done */
	uint16_t inline_ring[TRACK_INLINE];
};

/* What to do with a message. */
enum track_verdict {
	TRACK_PASS,    /* hand it to the other side */
	TRACK_SWALLOW, /* server only: it answers one of our own requests */
	TRACK_ASYNC,   /* server only: not an answer; for whoever is linked */
	TRACK_END,     /* client only: Terminate; not for the server */
	TRACK_FULL,    /* client only: too many requests in flight; try again when answers have come */
	TRACK_ILLEGAL, /* not allowed here: close the connection it came from */
};

/* A fresh session, as right after the login: status 'I', nothing owed. */
void track_init(struct track *t);
void track_fini(struct track *t);

/* True for a type that a client may send after its login. */
bool track_knows_client(uint8_t type);

/* A message of this type from the client is about to go to the server. */
enum track_verdict track_client(struct track *t, uint8_t type);

/*
 * A message of our own is about to go to the server; its answers will be
 * swallowed, but for an error in an extended message, which is part of the
 * client's batch. True, or false when full.
 */
bool track_ours(struct track *t, uint8_t type) MUSTCHECK;

/*
 * A message of the client (FE_PARSE or FE_CLOSE) that the server need not see:
 * its answer is ours, see track_take_owed(). Not while the server reads COPY
 * data or skips. True, or false when full.
 */
bool track_owe(struct track *t, uint8_t type) MUSTCHECK;

/*
 * When the oldest entry is an answer of ours, removes it and returns the type
 * of that answer, which is to go to the client now: BE_PARSE_COMPLETE or
 * BE_CLOSE_COMPLETE; else 0. The caller takes them all before it shows a
 * message of the server to track_server().
 */
uint8_t track_take_owed(struct track *t);

/* Makes room for n more entries; false when there is none. */
bool track_reserve(struct track *t, uint32_t n) MUSTCHECK;

/* Marks the entry that was added last, for marks_done and marks_dropped. */
void track_mark(struct track *t);

/* How many entries are marked. */
uint32_t track_marks(const struct track *t);

/* True when the oldest entry is marked. */
bool track_head_is_marked(const struct track *t);

/* The kind of the oldest entry, or TRACK_NONE. */
enum track_kind track_head_kind(const struct track *t);

/* True when answers of ours are all that the client waits for: no message of the server will bring them on. */
static inline bool track_only_owes(const struct track *t)
{
	return t->owed > 0 && t->owed == t->count;
}

/* How many ends of the client's batches (Sync, Query, FunctionCall) are still to be answered. */
uint32_t track_open_batches(const struct track *t);

/* How many ends of batches an error in the oldest entry makes the server skip: what stands before the next Sync. */
uint32_t track_skipped_batches(const struct track *t);

/*
 * True when nothing of a batch has been sent yet, so that nothing in it can
 * have failed.
 */
static inline bool track_is_batch_start(const struct track *t)
{
	return !(t->unsynced | t->copy_in | t->skip);
}

/*
 * What the message that was shown last, a Query or an extended one, does to the
 * transaction block. Kept for track_lose().
 */
void track_note(struct track *t, enum classify_effect effect);

/* What the client of a server that is lost is owed. */
struct track_loss {
	const struct track *track;
	uint32_t at;
	uint8_t status;              /* of the last ReadyForQuery */
	bool is_known;               /* false: it cannot be said */
	bool is_silent;              /* everything was answered: the client does not wait for anything */
	bool is_erred;               /* the batch that is open has been answered by its error */
	bool is_told;                /* the first end has been answered by its error, but ReadyForQuery */
	bool is_open;                /* behind all ends: messages of a batch were sent whose Sync has yet to come */
	enum classify_effect effect; /* of these; once there is no next end */
};

/* Begins to tell what is owed. The tracker must not change meanwhile. */
void track_lose(const struct track *t, struct track_loss *loss);

/*
 * The next end of a batch of the client's (Sync, Query, FunctionCall) that is
 * owed its answer, an error and ReadyForQuery (see is_told); false when there is no more.
 * *effect: of what it ends.
 */
bool track_next_loss(struct track_loss *loss, enum classify_effect *effect);

/* A message of this type came from the server; `status` is the body of a ReadyForQuery. */
enum track_verdict track_server(struct track *t, uint8_t type, uint8_t status);

/*
 * True when the session may be handed to another client: nothing owed, outside
 * a transaction, no COPY, no half-sent batch, no doubt.
 */
static inline bool track_is_idle(const struct track *t)
{
	return t->count == 0 && t->status == TX_IDLE && !(t->copy_in | t->skip | t->unsynced | t->doubt | t->broken);
}

/*
 * True when the last thing that will be answered has been answered, whatever
 * the transaction's state: the client is not waiting for anything.
 */
static inline bool track_is_quiet(const struct track *t)
{
	return t->count == 0 && !t->copy_in;
}

/* True when the session will never be fit for another client. */
static inline bool track_is_lost(const struct track *t)
{
	return t->doubt || t->broken;
}

/* True when the oldest request that is owed an answer is our own. */
bool track_head_is_ours(const struct track *t);

/*
 * Writes the model as text, for another process that goes on with the session:
 * 0, -E_NOSPACE or -E_NOMEM.
 */
int track_save(const struct track *t, struct buf *b) MUSTCHECK;

/*
 * Makes a fresh model (see track_init()) what the text says: 0, -E_SYNTAX for
 * what track_save() cannot have written, or -E_NOMEM.
 */
int track_load(struct track *t, struct slice text) MUSTCHECK;

/* Names for messages and tests. */
const char *track_kind_name(enum track_kind kind);

#endif
