/*
 * Clients that outlive their server: in transaction and statement mode, with
 * server_loss_action = error. See doc/resilience.md, "When a server is lost".
 *
 * Own thread of the link.
 */
#ifndef PGSLUICE_POOL_SURVIVE_H
#define PGSLUICE_POOL_SURVIVE_H

#include "core/buf.h"
#include "core/reason_tbl.h"
#include "pool/link_int.h"
#include "pool/repeat.h"
#include "proto/classify.h"
#include "proto/frame.h"
#include "proto/msg.h"

/* What a client is in whose transaction has lost its server: CL_FAILED. */
struct survive;

/* How a client goes on, found out before its server is gone. */
struct survive_loss {
	bool is_unsent;        /* nothing of its request has gone to a server: it goes to another one */
	bool is_refused;       /* ... but it may not: the request ends with the error of the loss, and nothing else */
	bool is_over_time;     /* ... and that is for the request's own limit */
	struct buf out;        /* else what it is told now, if anything */
	struct survive *state; /* ... and what it is in then; NULL: idle */
};

/*
 * The linked server is about to be closed: true when its client stays, and
 * *loss says how. Before link_detach(). `words` of the server, if it has said
 * any, take the place of the reason's text.
 */
bool survive_begin(struct server *server, enum reason reason, struct survive_loss *loss) MUSTCHECK;

/* The server is gone, for what `report` says: tells the client, which may be closed here. The loss is used up. */
void survive_end(struct client *client, struct survive_loss *loss, struct report *report);

/* Works on bytes of a client in CL_FAILED; returns how many. It may be idle, or closed, afterwards. */
size_t survive_from_client(struct client *client, const uint8_t *data, size_t len);

/* The client is not in CL_FAILED any more, or is closed. NULL inside is fine. */
void survive_free(struct client *client);

/* The state of a client in CL_FAILED, for another process. */
struct survive_saved {
	uint64_t flags;
	uint64_t unnamed; /* enum aborted_text, as is the next */
	uint64_t portal;
	struct slice errors;
};

/* What client->survive is; `errors` are those of the client. */
void survive_save(const struct client *client, struct survive_saved *saved);

/* The same again; NULL when it cannot have been saved by survive_save(). Any thread. */
struct survive *survive_load(const struct survive_saved *saved) MUSTCHECK;

/* The client, which is CL_IDLE, has arrived from another process with a state: it is CL_FAILED. */
void survive_carried(struct client *client);

/* A text that is looked at as it comes. */
struct survive_text;

/* Notes what a Query or Parse does to the transaction block; or goes on to when survive_note_rest() has the rest. */
void survive_note_text(struct link_walk *w);

/* Notes what a Bind that passes as it is runs. */
void survive_note_bind(struct link_walk *w);

/*
 * A message, as far as it has come, of a request that is refused while its
 * client has no server. False when it is a text that must be seen to its end,
 * which survive_note_rest() is told of: only then the request may be over.
 */
bool survive_note_refused(struct client *client, uint8_t type, struct slice body, bool is_whole) MUSTCHECK;

/*
 * More of client->cut_text: of a message that goes to the server, or of one that
 * is refused. True for the last piece of the latter.
 */
bool survive_note_rest(struct client *client, struct slice piece);

/* Nobody looks at client->cut_text any more. NULL inside is fine. */
void survive_end_text(struct client *client);

/*
 * The request, as noted, is over: when it might have begun a transaction block
 * the client, which is CL_IDLE and has been told an error, becomes CL_FAILED, and
 * the result is true. What it sends next was meant to be a part of that block.
 */
bool survive_fails_refused(struct client *client);

/*
 * True when errors of the server must be there as a whole, since it may be its
 * last words: they are not for a client that stays, or whose statement has not
 * been sent and may go elsewhere.
 */
static inline bool survive_listens(const struct server *server)
{
	return server->client != NULL && (server->part->conf->outlive || repeat_may_take_loss(server));
}

/*
 * An ErrorResponse of a server that is listened to, or the beginning of a long
 * one: true when it is the end of the session, and will be told by
 * survive_begin(); then the server is to be closed.
 */
bool survive_hears(struct server *server, struct slice body);

/* The price of a look at what passes to the server: anything but a Query or Parse that begins like other statements. */
static inline void survive_note(struct link_walk *w)
{
	struct slice text = link_message_body(w);

	if (w->f.type == FE_QUERY && LIKELY(text.n + FRAME_HEADER == w->f.size) &&
	    !classify_may_transact(text.p, text.n) && !classify_may_be_several(text.p, text.n))
		return;
	survive_note_text(w);
}

#endif
