/*
 * Users and roles by query: what auth_file does not know is asked of a
 * database (auth_user, auth_query, auth_dbname; auth_roles_query). Answers are
 * remembered; see auth_cache.h.
 *
 * All functions run on the loop of the login that asks, and so do callbacks.
 */
#ifndef PGSLUICE_POOL_AUTH_QUERY_H
#define PGSLUICE_POOL_AUTH_QUERY_H

#include "core/log.h"
#include "net/sock.h"
#include "pool/auth_cache.h"
#include "pool/engine.h"

/* A login that asks. Everything is only read, during the call. */
struct auth_asker {
	const struct snapshot *snap; /* the login's */
	const char *database;        /* that the client asks for; may be the console's */
	const char *user;            /* whom it says it is */
	const struct sock_peer *peer;
	bool is_unix;
	const struct log_about *about; /* the same for the log, or NULL */
};

/*
 * True when a database can be asked about users of this one: there is an
 * auth_user, and the database exists.
 */
bool auth_query_is_due(const struct auth_asker *asker);

/*
 * Asks for the user. Returns the answer, held for the caller, when it is there
 * at once. Else NULL, and *ask is somebody who waits: fn(arg, answer) will be
 * called once, never from within this call, and take the answer over, unless
 * auth_query_leave() comes first.
 *
 * Outcomes: AUTH_OUTCOME_FOUND with answer->user, whose name takes the place of
 * the presented one; AUTH_OUTCOME_NONE; else the login must fail, with
 * answer->text and answer->sqlstate, or REASON_CONFIG when the text is empty.
 * The log has been told.
 */
struct auth_answer *auth_query_lookup(struct loop_ctx *ctx, const struct auth_asker *asker, auth_answer_fn fn,
				      void *arg, struct auth_ask **ask) MUSTCHECK;

/*
 * The same for the roles that the user is a member of, directly or not, itself
 * among them: see auth_answer_has_role(). AUTH_OUTCOME_NONE: no such user, and
 * so no roles. To be called only if auth_query_is_due().
 */
struct auth_answer *auth_roles_lookup(struct loop_ctx *ctx, const struct auth_asker *asker, auth_answer_fn fn,
				      void *arg, struct auth_ask **ask) MUSTCHECK;

/* Waits no longer: the callback is not called. Nulls the pointer; NULL inside is fine. */
void auth_query_leave(struct loop_ctx *ctx, struct auth_ask **ask);

/*
 * The login failed with what was found, or with there being nobody: what was
 * remembered for more than a second is asked for at the next login of this name.
 */
void auth_query_distrust(struct loop_ctx *ctx, const struct auth_asker *asker);

/* Ends what takes too long while there is an old answer. At every tick. */
void auth_query_sweep(struct loop_ctx *ctx, uint64_t now_us);

/* Ends all look-ups that this loop runs; nobody is told. */
void auth_query_close_all(struct loop_ctx *ctx);

#endif
