/*
 * A session of the admin console: the protocol around the commands. All on the
 * control loop.
 */
#ifndef PGSLUICE_ADMIN_CONSOLE_H
#define PGSLUICE_ADMIN_CONSOLE_H

#include "admin/console_errors.h"
#include "core/buf.h"
#include "core/reason_tbl.h"
#include "net/sock.h"
#include "net/stream.h"
#include "pool/engine.h"
#include "pool/rollup.h"

struct admin;
struct extended;
struct show;

/* What a command waits for before it is answered. */
enum console_wait {
	CONSOLE_WAIT_NOTHING,
	CONSOLE_WAIT_WORKERS,   /* for the answers of the workers */
	CONSOLE_WAIT_PAUSED,    /* until no server is left */
	CONSOLE_WAIT_PAUSED_DB, /* until the database has no server left */
	CONSOLE_WAIT_CLEAN,     /* until no server is left that has to be closed */
	CONSOLE_WAIT_SUSPENDED, /* until everything stands still */
	CONSOLE_WAIT_DRAINED,   /* until no client is left, of the database or of all */
};

struct console {
	TAILQ_ENTRY(console) entry; /* in admin->consoles */
	struct admin *admin;
	struct stream stream;
	struct loop_task free_task;
	struct buf reply; /* of the command that runs */
	int reply_err;    /* 0, or why the reply could not be built */
	uint64_t id;
	uint64_t connect_us;
	uint64_t request_us;
	uint64_t query_us; /* of the first command; 0: none yet */
	uint64_t wait_since_us;
	enum console_wait wait;
	struct db *wait_db;        /* held; NULL: all */
	unsigned clean_rounds;     /* of asking all workers, in a row, that found no server to be closed */
	struct show *show;         /* whose rows are being sent; NULL: none */
	struct extended *extended; /* the extended protocol; NULL where it is refused */
	bool in_execute;           /* the command that runs came by Execute: it is answered without ReadyForQuery */
	bool skip_to_sync;         /* after an error in the extended protocol */
	bool canceled;             /* a cancel request came while workers were asked */
	bool busy;                 /* a command runs; what comes meanwhile is kept */
	bool processing;           /* console_process() is on the stack */
	bool closed;
	bool is_admin;
	struct sock_peer peer;
	struct cancel_key cancel_key;
	char user[128];
	char database[64];
	struct account *account; /* held, and counted in account->clients; NULL: none */
	struct varset *vars;     /* what the client has sent of the tracked parameters; NULL: nothing */
};

/* Takes over the connection, and account and parameters of the handover, which stays the caller's. */
struct console *console_new(struct admin *admin, const struct console_handover *handover);

/* For a session on which nothing is queued any more: the control loop has stopped. */
void console_free(struct console *console);

/* Works on what has been received. */
void console_process(struct console *console);

/* Closes without a word; `why` is for the log, NULL for nothing. Freed at the end of the turn. */
void console_close(struct console *console, const char *why);

/* FATAL error, then closed. */
void console_fail(struct console *console, const char *text);

/* Runs a command. */
void console_run(struct console *console, struct slice text);

/* ---- the reply of the command that runs ---- */

/* Sends what the reply has so far; false when the session is closed because of it. */
bool console_send(struct console *console) MUSTCHECK;

/* Sends the reply and goes on with what has come in the meantime. Ends every command; the session may be closed after.
 */
void console_finish(struct console *console);

/* CommandComplete, then console_finish(). */
void console_finish_tag(struct console *console, const char *tag);

/*
 * ErrorResponse, then console_finish(). The text is logged, too. State and hint
 * (NULL: none; not copied) are what error_style = postgres shows. The three are
 * a macro of admin/console_errors.h: console_finish_error(c, CONSOLE_E_NO_DB, name).
 */
void console_finish_error(struct console *console, const char *sqlstate, const char *hint, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* The same with a state that is shown in every style; detail and hint (may be NULL) are where error_style has them. */
void console_finish_error_as(struct console *console, const char *sqlstate, const char *text, const char *detail,
			     const char *hint);

/* Remembers that a message of the reply could not be built; err is 0 or -E_*. */
void console_note(struct console *console, int err);

/*
 * Sends what the reply holds so far at once, together with a descriptor; waits
 * until it is sent. -1: does nothing. Closes the session when the other side
 * does not read.
 */
void console_send_descriptor(struct console *console, int fd);

/* Adds a notice to the reply; detail may be NULL. */
void console_notice(struct console *console, const char *text, const char *detail);

/* Whom a log line is about. */
void console_describe(const struct console *console, const struct conf *conf, struct log_about *about);

#endif
