/*
 * Running a batch again that has failed for a reason of ours: the statement
 * that it used was no longer what the server had been given.
 */
#ifndef PGSLUICE_POOL_RERUN_H
#define PGSLUICE_POOL_RERUN_H

#include "core/base.h"
#include "core/str.h"

struct client;
struct server;
struct stmt;

/* Longer batches are not run again. */
#define RERUN_MAX   8192
/* A batch is run so often again, at most: a table may change between two runs. */
#define RERUN_TIMES 3

struct rerun {
	uint8_t *bytes; /* RERUN_MAX of them, or NULL while none was needed */
	uint32_t len;
	uint32_t use_at;         /* where in bytes the message that uses the statement begins */
	const struct stmt *stmt; /* used by that message; for comparison only */
	bool is_keeping;         /* bytes has all of the batch so far, and nothing of its answer has come */
	bool is_under_way;       /* the failed run is being brought to its end, unseen by the client */
	/* of a statement that may be repeated; see repeat.c */
	bool is_statement; /* bytes are kept for that, too */
	bool is_unsent;    /* the first attempt to send has failed */
	bool is_due;       /* the run under way has failed for that */
	uint32_t begun;    /* so many of bytes are a statement whose answer has begun to go to the client; 0: none */
	uint64_t delay_us; /* of is_due: how long to wait */
	uint8_t runs;      /* how often the batch was run before */
};

void rerun_fini(struct rerun *r);

/* A batch begins with a use of this statement (NULL: of none of ours); its bytes are kept from here on. */
void rerun_begin(struct server *server, const struct stmt *stmt);

/* True when so many bytes more of the batch can be kept. */
static inline bool rerun_has_room(const struct rerun *r, size_t n)
{
	return r->is_keeping && n <= RERUN_MAX - r->len;
}

/* Keeps more bytes of the batch. */
void rerun_keep(struct server *server, const uint8_t *p, size_t n);

/* An answer goes to the client, or the link ends: it is too late for another run. */
static inline void rerun_forget(struct rerun *r)
{
	r->is_keeping = r->is_statement = false;
	r->runs = 0;
	r->len = 0;
}

/* An ErrorResponse answers the first message of the batch: true when the batch is to be run again. */
bool rerun_is_due(struct server *server, struct slice body);

/*
 * An ErrorResponse answers a Bind or a Describe: when it shows that the server
 * cannot use a statement any more, that is parsed anew for its next use.
 */
void rerun_learn(struct server *server, struct slice body);

/*
 * The error was shown to the tracker and hidden from the client: sees to it
 * that the server comes to the end of the batch. -E_* when it cannot be reached.
 */
int rerun_start(struct server *server) MUSTCHECK;

/* The server is at the end: gives the client's bytes back to it, to be worked on once more. -E_* without memory. */
int rerun_finish(struct server *server) MUSTCHECK;

#endif
