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

/* Sends what `out` has, unless there is room for so much more. */
void link_walk_reserve(struct link_walk *w, int pieces, uint32_t own);

/* A query begins, unless one is open. */
void link_query_opened(struct client *client);

/* Nothing can be sent to it any more: the end of the connection is about to be read, maybe after last words. */
void link_server_is_lost(struct server *server);

/* Our SET commands have been answered; false when they were refused. */
bool link_vars_done(struct server *server);

/* Gives the client the answers that are ours, where no message of the server stands before them. */
void link_give_owed_now(struct server *server);

static inline struct loop *link_loop(const struct client *client)
{
	return client->part->worker->ctx.loop;
}

#endif
