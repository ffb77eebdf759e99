/*
 * Statements that are run again after a failure which has left nothing behind:
 * retry = safe. See doc/resilience.md, "Retries".
 *
 * Own thread of the link.
 */
#ifndef PGSLUICE_POOL_REPEAT_H
#define PGSLUICE_POOL_REPEAT_H

#include "pool/link_int.h"
#include "pool/retry.h"

/* What a client is in whose statement has failed and is repeated: until its answer begins. */
struct repeat;

/* The first message of a batch is on its way, of a client with nothing else under way; its bytes are kept. */
void repeat_begin(struct link_walk *w);

/*
 * The first message of an answer, at p, with what has come behind it: *skip says
 * how many bytes come before the error that the statement will be repeated for,
 * none of which is for the client; 0 when it goes on as usual. -E_AGAIN when
 * more must have come first.
 */
int repeat_look(struct server *server, const uint8_t *p, size_t len, size_t *skip) MUSTCHECK;

/*
 * True while the client must not be told anything, not even by us: the statement
 * may be repeated as a whole. Else it is not repeated any more.
 */
bool repeat_holds(struct server *server) MUSTCHECK;

/* An answer begins, with a message of this type, and will not be taken back. */
void repeat_answered(struct server *server, uint8_t type);

/* An error goes to the client. */
void repeat_missed(struct server *server, struct slice body);

/* The failed run has come to its end: the client gives up its server for a while. */
void repeat_wait(struct server *server);

/* True when the server could not be sent a statement that may go elsewhere. */
static inline bool repeat_may_take_loss(const struct server *server)
{
	return server->rerun.is_statement & server->rerun.is_unsent;
}

/* The server is lost: true when nothing of the statement has gone to it, so that it goes to another one at once. */
bool repeat_takes_loss(struct server *server) MUSTCHECK;

/* The client goes, or is not to wait any longer; NULL inside is fine. */
void repeat_free(struct client *client);

#endif
