/*
 * What the parts of the link share: a client's message on its way.
 */
#ifndef PGSLUICE_POOL_LINK_INT_H
#define PGSLUICE_POOL_LINK_INT_H

#include "core/reason_tbl.h"
#include "pool/client.h"
#include "pool/link_out.h"
#include "pool/server.h"
#include "proto/frame.h"

/* What becomes of a message of a client. */
enum admit {
	ADMIT_SEND,      /* it goes to the server as it is */
	ADMIT_REWRITTEN, /* its first bytes are replaced by what is in `out`, the rest goes as it is */
	ADMIT_DISCARD,   /* it goes nowhere */
	ADMIT_STOP,      /* not now: it and all behind it are kept */
	ADMIT_MORE,      /* not yet: more of it must have come */
	ADMIT_REFUSE,    /* the client is to be closed, with a reason */
	ADMIT_CLOSED,    /* the client was closed; it had no server */
};

/* One read of a client's bytes, as it is worked off message by message. */
struct link_walk {
	struct client *client;
	const uint8_t *data;
	size_t len;
	size_t at;               /* the message that is looked at */
	size_t start;            /* of the span that goes to the server */
	bool sent;               /* something was sent in this walk */
	size_t keep_from;        /* bytes from here on are kept for a rerun */
	struct frame f;          /* head of the message */
	size_t replaced;         /* of ADMIT_REWRITTEN: its first bytes that do not go */
	enum reason why;         /* of ADMIT_REFUSE */
	size_t bound_to;         /* where the Bind ends of ... */
	struct prep_name *bound; /* this name to the unnamed portal; NULL: none */
	struct prep_entry *bound_entry;
	struct slice unnamed; /* a text that was parsed without a name, and not bound in the same batch */
	struct link_out out;
};

/* The bytes of the message that are there. */
static inline size_t link_walk_avail(const struct link_walk *w)
{
	return w->f.size < w->len - w->at ? (size_t)w->f.size : w->len - w->at;
}

/* The body of the message, as far as it has come. */
static inline struct slice link_message_body(const struct link_walk *w)
{
	return slice_make(w->data + w->at + FRAME_HEADER, link_walk_avail(w) - FRAME_HEADER);
}

/* Sends what `out` has, unless there is room for so much more. */
void link_walk_reserve(struct link_walk *w, int pieces, uint32_t own);

/* A query begins, unless one is open. */
void link_query_opened(struct client *client);

/* Nothing can be sent to it any more: the end of the connection is about to be read, maybe after last words. */
void link_server_is_lost(struct server *server);

/* Prepares the commands that bring the server's parameters to what the client has; false when none are needed. */
bool link_vars_set(struct client *client, struct server *server) MUSTCHECK;

/* The client takes over the server's spelling of equal values. */
void link_vars_adopt(struct client *client, struct server *server);

/* True when a server of the pool has taken the values of this client before. */
bool link_vars_are_proven(const struct client *client);

/* Our SET commands have been answered; false when they were refused. */
bool link_vars_done(struct server *server);

/* Both have come from another process. */
void link_vars_carried(struct client *client, struct server *server);

/* The client has changed a parameter. */
void link_vars_changed(struct client *client, const struct server *server);

/* This much of a text is looked at for RESET. */
#define LINK_VARS_LOOK_MAX 4096

/* True when there is a RESET ALL or DISCARD ALL in the text, as far as it has come. */
bool link_vars_will_reset(struct slice text);

/* True when the message that comes next must wait for the answers to those before; client->is_resetting. */
bool link_vars_must_wait(struct client *client);

/* True when tags that begin so are to be told to link_vars_tag(). DISCARD ALL is one of virtual_minds_tag(), too. */
static inline bool link_vars_minds_tag(uint8_t first)
{
	return first == 'D' || first == 'R';
}

/* A command of the client is complete. */
void link_vars_tag(struct server *server, struct slice tag);

/* What a command under way has reset may be undone: by an error, or a rollback. */
static inline void link_vars_undone(struct server *server)
{
	if (UNLIKELY(server->reset == RESET_ALL))
		server->reset = RESET_SOME;
}

/*
 * A ReadyForQuery for the client has come, and server->reset or vars_due is
 * set: writes to `b` what it is to be told first. 0, or -E_*.
 */
int link_vars_reset(struct server *server, struct buf *b) MUSTCHECK;

/* The client's parameters are about to be changed by its transaction, which may yet come to nothing. */
static inline void link_vars_keep(struct client *client)
{
	if (client->vars_before == NULL)
		client->vars_before = vars_hold(client->vars);
}

/* The transaction has ended, and its server knows what holds. */
static inline void link_vars_settle(struct client *client)
{
	if (UNLIKELY(client->vars_before != NULL))
		vars_release(&client->vars_before);
}

/*
 * The server of the client is lost, and with it the transaction: what that has
 * changed returns to what it was, as by ROLLBACK. Writes to `b` what the client
 * is to be told of it; 0 or -E_TOOBIG.
 */
int link_vars_lose(struct client *client, const struct server *server, struct buf *b) MUSTCHECK;

/*
 * The client of a server whose vars_due is set says something, which begins
 * with this byte: what the server must be told first is put into its prelude,
 * unless it has to wait.
 */
void link_vars_restore(struct client *client, uint8_t type);

/* Gives the client the answers that are ours, where no message of the server stands before them. */
void link_give_owed_now(struct server *server);

static inline struct loop *link_loop(const struct client *client)
{
	return client->part->worker->ctx.loop;
}

#endif
