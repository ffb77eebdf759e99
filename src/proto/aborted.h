/*
 * A transaction that has failed with its server: what is said to the client
 * until it ends it. Messages in, answers out; no server is needed, and nothing
 * is ever run.
 */
#ifndef PGSLUICE_PROTO_ABORTED_H
#define PGSLUICE_PROTO_ABORTED_H

#include "core/base.h"
#include "core/buf.h"
#include "core/str.h"

/* What a statement means in such a transaction. */
enum aborted_text {
	ABORTED_NONE,     /* there is no such statement */
	ABORTED_OTHER,    /* refused */
	ABORTED_SEVERAL,  /* several statements, of which one would end it: refused, too */
	ABORTED_EMPTY,    /* nothing, and harmless */
	ABORTED_COMMIT,   /* ends it, but not as the client has wished */
	ABORTED_ROLLBACK, /* ends it */
};

enum aborted_text aborted_judge(struct slice sql);

/* Where the client's named statements are; `arg` is aborted.arg. */
struct aborted_names {
	/* The text of a statement; false when there is none of that name. "" is the unnamed one of earlier batches. */
	bool (*find)(void *arg, struct slice name, struct slice *sql);
	/* A new one; `body` is the Parse from the text on. False when it cannot be kept. */
	bool (*define)(void *arg, struct slice name, struct slice body);
	/* One is closed; there may be none. */
	void (*forget)(void *arg, struct slice name);
};

/* Messages for the client, made before; all are ErrorResponses. */
struct aborted_errors {
	struct slice loss;    /* what has befallen the server: told once */
	struct slice refusal; /* to everything from then on */
	struct slice several; /* ... instead, to ABORTED_SEVERAL */
};

struct aborted {
	/* given at the beginning */
	bool is_block;    /* the client has begun a block, and has to end it; false: a batch without, which ends at its
			     Sync */
	bool is_told;     /* it has been told of the loss */
	bool is_skipping; /* it has been told within a batch, the rest of which is thrown away */
	const struct aborted_names *names;
	void *arg;
	struct aborted_errors errors;
	/* its own */
	bool is_over; /* it was ended within a batch whose Sync has yet to come */
	enum aborted_text unnamed;
	enum aborted_text portal; /* the unnamed one */
};

enum aborted_verdict {
	ABORTED_GOES_ON, /* the message was answered, or owes no answer */
	ABORTED_ENDS,    /* it was answered, and has ended the transaction: the client is idle */
	ABORTED_LEAVES,  /* the transaction had ended before it: it is for a server, as the first of a batch */
	ABORTED_FAILS,   /* not a message of the protocol, or no memory */
};

/* A whole message of the client but Terminate; the answer is appended to `out`. */
enum aborted_verdict aborted_take(struct aborted *a, uint8_t type, struct slice body, struct buf *out) MUSTCHECK;

/* One that is too long to be worth waiting for, and cannot end the transaction. */
enum aborted_verdict aborted_take_long(struct aborted *a, uint8_t type, struct buf *out) MUSTCHECK;

#endif
