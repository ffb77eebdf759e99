/*
 * What the files of the console share.
 */
#ifndef PGSLUICE_ADMIN_ADMIN_INT_H
#define PGSLUICE_ADMIN_ADMIN_INT_H

#include <sys/queue.h>

#include "admin/admin.h"
#include "admin/console.h"
#include "pool/rollup.h"
#include "pool/stats.h"

TAILQ_HEAD(console_list, console);

/* The user that the console's own row belongs to, and its pool's size. */
#define ADMIN_POOL_USER "pgbouncer"
#define ADMIN_POOL_SIZE 2

struct admin {
	struct engine *engine;
	const struct admin_ops *ops;
	void *ctx;
	struct console_list consoles;
	unsigned console_count;
	struct stats stats; /* of the console's database */
	struct rollup *rollup;
	const char *db_name;            /* of the console's row in SHOW DATABASES and others */
	enum conf_profile profile;      /* constant */
	struct loop_ticker wait_ticker; /* runs only while a command waits */
	struct loop_ticker stats_ticker;
	struct http *http;
	uint64_t taker_id; /* while engine->handed_over: the session whose process has our sockets */
	uint64_t stats_us; /* when the statistics were rolled up last */
	bool stopped;
	bool dirty_visit; /* workers are being asked for servers that have to be closed */
};

/* The console with this id, or NULL when it is gone. */
struct console *admin_find_console(struct admin *admin, uint64_t id);

/* A session has ended: nothing stays suspended without anybody who could end that. */
void admin_session_gone(struct admin *admin, uint64_t id);

/*
 * True when another session's process has our sockets: from then on only that
 * session, or its end, may take SUSPEND back, or two processes would read the
 * same sockets.
 */
bool admin_is_taken(const struct console *console);

/* True for a name of the console's database. */
bool admin_is_own_db(struct engine *engine, const char *name);

/* Makes the command of this session wait; it is answered when that is over. */
void admin_wait(struct console *console, enum console_wait wait, struct db *db);

#endif
