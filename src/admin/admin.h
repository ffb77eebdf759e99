/*
 * The admin console: sessions of the databases `pgbouncer` and `pgsluice`,
 * served on the control loop.
 */
#ifndef PGSLUICE_ADMIN_ADMIN_H
#define PGSLUICE_ADMIN_ADMIN_H

#include "conf/conf_diff.h"
#include "pool/engine.h"

struct admin;

/* What the console asks of the program above it. */
struct admin_ops {
	/*
	 * RELOAD: 0 and what has changed, to be freed by the console; or -E_*
	 * when nothing has, and why, in the log and in the initialised `err`.
	 */
	int (*reload)(void *ctx, struct conf_diff **diff, struct conf_error *err);
	/* RELOAD DRY RUN: the same, but nothing changes. */
	int (*reload_try)(void *ctx, struct conf_diff **diff, struct conf_error *err);
	/*
	 * SET key = value: 0, or -E_* when nothing has changed; the log says why. *tls_kept: the value has changed,
	 * but TLS goes on as it was, as it cannot be set up like that.
	 */
	int (*set)(void *ctx, const char *key, const char *value, bool *tls_kept);
	/* SHUTDOWN; with SHUTDOWN_DRAIN, clients have so long to finish from when closing them begins, 0: no limit. */
	void (*shutdown)(void *ctx, enum engine_shutdown how, uint64_t timeout_us);
};

/* To be given to engine_new(). */
extern const struct engine_ops admin_engine_ops;

/* Starts the console; one per process, before the control loop runs. `ops` must live as long. */
struct admin *admin_new(struct engine *engine, const struct admin_ops *ops, void *ctx) MUSTCHECK;

/* Closes all sessions and takes no more. The control loop has stopped, the engine is still there. */
void admin_stop(struct admin *admin);

/* After the engine has ended, which may still send messages until then. Nulls the pointer; NULL inside is fine. */
void admin_free(struct admin **admin);

#endif
