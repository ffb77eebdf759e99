/*
 * Queries that take too long: the limit in force, and what is done step by step
 * when it is over.
 */
#ifndef PGSLUICE_POOL_QUERY_TIMEOUT_H
#define PGSLUICE_POOL_QUERY_TIMEOUT_H

#include "core/base.h"
#include "core/buf.h"
#include "core/reason_tbl.h"
#include "core/str.h"

struct client;
struct pool_part;
struct server;
struct worker;

/* What is counted, on each worker: id, help */
#define QUERY_TIMEOUT_TABLE(X)                                                                        \
	X(canceled, "queries that were over their limit and ended with our error, the server stayed") \
	X(finished, "queries that ended by themselves before the request had reached them")           \
	X(closed, "servers closed because a query was over its limit, with or without cancel_grace")  \
	X(expired, "queries that were over their limit before they had a server")                     \
	X(gone, "servers whose client went in the middle of its work, and that were to be kept")      \
	X(gone_kept, "... of these, those that were brought to rest and kept")                        \
	X(gone_closed, "... of these, those that did not come to rest within cancel_grace")

struct query_timeout_counts {
#define X(id, help) uint64_t id;
	QUERY_TIMEOUT_TABLE(X)
#undef X
};

/* How far it has got with the query that a server is at. */
struct query_timeout {
	bool is_over;        /* it has been asked to stop: an error with 57014 is told in our words */
	bool holds;          /* our request is under way: nothing more of the client goes to the server */
	uint64_t over_us;    /* since when it is_over */
	uint64_t since_us;   /* when what is_over had begun, for the error */
	uint64_t limit_us;   /* ... and how long it might have taken */
	uint64_t restart_us; /* what is left of a pipeline, of which a query was stopped, counts from here */
};

/* The limit of what the client has under way: query_timeout, or less if it asks for that; 0: none. Own thread. */
uint64_t query_timeout_limit_us(const struct client *client);

/* When the time of what the client has under way began to run; 0: nothing is. Own thread. */
uint64_t query_timeout_since_us(const struct client *client);

/*
 * The janitor's look at a linked server: what is due is begun. Other than
 * REASON_NONE: the server is to be closed. Own thread.
 */
enum reason query_timeout_check(struct server *server, uint64_t now_us);

/*
 * True for a linked server that is still being prepared, with a client that goes
 * on without it if the limit is over: then its request ends as one in the queue
 * does. Own thread.
 */
bool query_timeout_is_unsent(const struct server *server);

/*
 * The same for a client in the queue: it is over its limit. True when it was
 * told, or closed; false when it is no longer in the queue. Own thread.
 */
bool query_timeout_expire(struct client *client);

/*
 * Tells, or closes, a client that is over its limit and waits for nothing any
 * more: it has left the queue, or the server that was being prepared for it is
 * closed. Own thread.
 */
void query_timeout_end_unsent(struct client *client);

/*
 * An ErrorResponse for the client of a server for which is_over holds: what is
 * to be told instead is written to `b`, and 0 returned; or -E_*: it goes to the
 * client as it is. Own thread.
 */
int query_timeout_on_error(struct server *server, struct slice error, struct buf *b) MUSTCHECK;

/* An answer has come to its end: it is over no longer, whatever has come of it. Own thread. */
void query_timeout_answered(struct server *server);

/* Our request against this server is no longer under way. Own thread. */
void query_timeout_request_over(struct server *server);

/* The link has ended. */
static inline void query_timeout_forget(struct query_timeout *t)
{
	t->is_over = t->holds = false;
	t->restart_us = 0;
}

/*
 * A message begins with a comment, as far as it has come: takes note of a limit
 * in it, if the settings allow that. Own thread.
 */
void query_timeout_hint(struct client *client, struct slice text);

/* How soon the janitor has to come again to be in time for queries of this part that have not begun; 0: as usual. */
uint64_t query_timeout_period_us(const struct pool_part *part);

#endif
