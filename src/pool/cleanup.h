/*
 * Servers whose client has gone in the middle of its work.
 */
#ifndef PGSLUICE_POOL_CLEANUP_H
#define PGSLUICE_POOL_CLEANUP_H

#include "core/base.h"

struct server;

/* Part of a server. */
struct cleanup {
	uint64_t since_us; /* it is being brought to rest, in state SV_CANCELED; 0: it is not */
	bool is_patient;   /* what is under way may end by itself first */
	bool is_undone;    /* ROLLBACK has been sent */
};

/* True when the server, whose client is about to leave it, can be kept, and is to be. Own thread. */
bool cleanup_is_possible(const struct server *server) MUSTCHECK;

/*
 * The client has left the server, for which cleanup_is_possible() held: begins.
 * `is_patient`: the client has said goodbye, and may have meant what it has sent
 * before. Own thread.
 */
void cleanup_begin(struct server *server, bool is_patient);

/* Something has come from the server, or a cancel request against it has ended: does what is next. Own thread. */
void cleanup_settle(struct server *server);

/* The janitor's look: true when the server is to be closed, as it does not come to rest. Own thread. */
bool cleanup_check(struct server *server, uint64_t now_us) MUSTCHECK;

#endif
