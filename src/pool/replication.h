/*
 * Clients that replicate, each with a server of its own.
 */
#ifndef PGSLUICE_POOL_REPLICATION_H
#define PGSLUICE_POOL_REPLICATION_H

#include "core/reason_tbl.h"
#include "core/str.h"
#include "pool/pool.h"
#include "proto/build.h"
#include "proto/startup.h"

struct client;
struct server;

/* What the startup packet of such a client asks for. Constant; the client owns it. */
struct replication {
	enum startup_replication mode;
	char options[]; /* as they came; empty: none */
};

/* Parameters in a startup packet to a server that come from its client, at most. */
#define REPLICATION_PAIRS_MAX (VARS_MAX + 2)

/* To be freed with free(). The mode is not REPLICATION_NONE. */
struct replication *replication_new(enum startup_replication mode, struct slice options) MUSTCHECK;

/* A mode in startup packets and the log, "no" for none; and in SHOW, "none". */
const char *replication_value(enum startup_replication mode);
const char *replication_name(enum startup_replication mode);

/* A client that has just arrived, or was put back, waits for its server; its greeting comes with that. Own thread. */
void replication_wait(struct client *client);

/* A server is about to be opened for the client, and for nobody else. Own thread. */
void replication_begin(struct server *server, struct client *client);

/* Writes what the client wants to be told to the server at its login: at most REPLICATION_PAIRS_MAX; how many. */
size_t replication_pairs(const struct server *server, struct build_pair *pairs);

/* The server has logged in: its client is linked and greeted. `welcome` stays the caller's. */
void replication_logged_in(struct server *server, const struct welcome *welcome);

/*
 * The server is about to be closed and has not logged in. Returns the client
 * that waited for it, to be told of `reason` and closed; NULL when there is
 * none, or when the reason says nothing about either and the client waits
 * again.
 */
struct client *replication_abandon(struct server *server, enum reason reason) MUSTCHECK;

/* The client is being closed; so is the server that is being opened for it. */
void replication_client_gone(struct client *client);

#endif
