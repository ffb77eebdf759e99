/*
 * Sessions that pass from one process to another: what is said of one besides
 * its socket, and how the next process goes on with it. The way in between is
 * not here: the console tells it (SHOW FDS), takeover.c reads it.
 */
#ifndef PGSLUICE_POOL_HANDOVER_H
#define PGSLUICE_POOL_HANDOVER_H

#include "auth/scram.h"
#include "core/buf.h"
#include "pool/client.h"
#include "pool/server.h"
#include "pool/vars.h"

/*
 * Values of the column `task` in rows of SHOW HANDOVER that are about no session:
 * one has the key of the salts (pool/verifiers.h), one for each endpoint what is
 * known of it (pool/health.h).
 */
#define HANDOVER_SALTS_TASK  "salts"
#define HANDOVER_HEALTH_TASK "health"

/* ---- in the process that gives ---- */

/*
 * True for one that can go on elsewhere: it is suspended at the boundary of a
 * message. A client that waits, in the queue or for answers, has bytes that go
 * with it. A TLS session ends with this process, since its keys are in OpenSSL.
 * Own thread.
 */
bool handover_can_give_client(const struct client *client);
bool handover_can_give_server(const struct server *server);

/*
 * Writes, as text, what only another pgsluice has use for, without a NUL: 0 or
 * -E_*. Own thread.
 */
int handover_save_client(const struct client *client, struct buf *b) MUSTCHECK;
int handover_save_server(const struct server *server, struct buf *b) MUSTCHECK;
int handover_save_vars(const struct varset *vars, struct buf *b) MUSTCHECK;
/* One parameter in the same way. Any process. */
int handover_save_var(const char *name, const char *value, struct buf *b) MUSTCHECK;

/* ---- in the process that takes ---- */

struct handover_session {
	bool is_server;
	int fd;           /* in this process */
	int64_t old_fd;   /* its number in the other one */
	int64_t link;     /* number there of the one it is linked to; 0: none */
	char *user;       /* of the client, or of the server's pool */
	char *database;   /* in the configuration */
	uint8_t key[8];   /* for cancel requests: the client's own, or the server's; a longer one is in `state` */
	char *parameters; /* of handover_save_vars(); NULL: not known */
	char *password;   /* what the user has logged in with, if no file has it; NULL: not known */
	bool has_keys;
	struct scram_keys keys;
	char *state; /* of handover_save_*(); NULL: the other process is not pgsluice */
};

/*
 * Goes on with all of them, whatever the limits; the array's content is taken
 * over; the files of handover_stmt_save() stay the caller's. A session whose database or user is not there any more is
 * closed. The threads of the engine are not running yet. Control thread.
 */
void handover_take(struct engine *engine, struct handover_session *sessions, size_t count, const int *stmt_files,
		   size_t stmt_file_count);

/* Gives back what a session holds that is not taken over by handover_take(); its descriptor is closed. */
void handover_session_fini(struct handover_session *session);

#endif
