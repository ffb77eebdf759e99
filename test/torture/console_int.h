#ifndef TORTURE_CONSOLE_INT_H
#define TORTURE_CONSOLE_INT_H

/*
 * What the files of the administrator share. All of it belongs to the administrator's thread while that runs.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "console.h"
#include "excuse.h"
#include "rng.h"

#define CONSOLE_SESSIONS    3 /* the last one only takes back */
#define CONSOLE_UNDOS       64
#define CONSOLE_SQL_BYTES   128
#define CONSOLE_TEXT_BYTES  200
#define CONSOLE_ACTIONS_MAX 32

/* A scope: one of the databases, or all. */
#define SCOPE_ALL           N_DBS

enum console_kind {
	KIND_PLAIN,  /* nothing but its words */
	KIND_PAUSE,  /* nobody may be served once it is answered */
	KIND_VICTIM, /* SHOW CLIENTS, and KILL_CLIENT for one of them */
	KIND_SIZES,  /* RELOAD with other sizes in the file */
	KIND_VANISH, /* RELOAD without the extra database; taken back by one with it */
	KIND_SET,    /* SET of a size */
	KIND_SHOW,   /* SHOW of some table */
};

/* A command: a row of console_tbl.h. */
struct console_action {
	const char *sql; /* with %s for the database when it has one */
	enum console_kind kind;
	bool per_db; /* for one database */
	unsigned weight;
	int window;         /* that it opens, or -1 */
	bool window_stays;  /* until it is taken back; else until it is answered */
	const char *undo;   /* takes it back; NULL: nothing to take back */
	unsigned undo_ms;   /* at most so much later */
	const char *errors; /* pattern of the errors that it may be answered with */
};

enum session_state { SESSION_DOWN, SESSION_CONNECTING, SESSION_IDLE, SESSION_BUSY };

struct session {
	PGconn *conn;
	enum session_state state;
	const struct console_action *action;
	unsigned scope;
	bool is_undo; /* the command takes back what `action` did */
	bool resumes; /* the command may end a pause */
	bool again;   /* the answer brought what the next command is about: it is to be sent */
	bool undone;  /* meanwhile something was sent that may end what the command does */
	int64_t sent_us;
	int64_t opened_us;
	char sql[CONSOLE_SQL_BYTES];
	char error[CONSOLE_TEXT_BYTES]; /* "": none */
	char tag[64];
};

/* What is to be taken back, and when. */
struct console_undo {
	int64_t due_us;
	const struct console_action *action;
	unsigned scope;
};

enum console_sabotage {
	CSAB_OFF,
	CSAB_PAUSE,  /* PAUSE is not sent, but believed */
	CSAB_RESUME, /* a PAUSE at the end is not taken back */
	CSAB_KILL,   /* clients are killed without notice */
	CSAB_LEAK,   /* a server too many is there at the end */
	CSAB_LOSE,   /* a command is not sent, and so not answered */
	N_CSABS
};

/* Online restarts. */
struct console_restart {
	pid_t old; /* the process before; 0: no restart is under way */
	pid_t pid; /* the one that takes over */
	int64_t next_us, since_us;
	bool clean; /* the next one waits until nothing is paused, and until then nothing is */
	unsigned done, refused;
};

struct console {
	const struct options *opt;
	pthread_t thread;
	atomic_bool stop;
	struct rng rng;
	FILE *log;
	int64_t start_us;
	const char *dbs[N_DBS];
	struct session sessions[CONSOLE_SESSIONS];
	struct console_undo undos[CONSOLE_UNDOS];
	unsigned n_undos;
	unsigned open[N_WINDOWS][N_DBS]; /* how often each window is open */
	int64_t paused_us[N_DBS + 1];    /* since when a scope is surely paused, 0: it is not */
	unsigned vanished;               /* how often the extra database has to return */
	char *ini;                       /* the file as it was at the start */
	enum console_sabotage sabotage;
	struct console_restart restart;
	unsigned issued[CONSOLE_ACTIONS_MAX]; /* per row of the table */
	unsigned total;
	unsigned refused; /* commands answered with an error that they may have */
};

/* Writes a line of the log. */
void console_log(struct console *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The ini file: as it was, or with other sizes, or without the extra database. */
void console_write_ini(struct console *c, bool sizes, bool extra);

/* Some setting of a size with some value: "default_pool_size", "7". Returns the name. */
const char *console_pick_size(struct console *c, unsigned *value);

/* One step of restarts: begins one when it is time, unless stop, and looks after the one under way. */
void console_restart_step(struct console *c, bool stop);

/* Counts one more and tells clients; closes one. */
void console_open_window(struct console *c, int window, unsigned scope);
void console_close_window(struct console *c, int window, unsigned scope);

/*
 * Has the file loaded again, and then closes WINDOW_REMOVE: a new process may have read the file before it was changed
 * for the last time.
 */
void console_reload_later(struct console *c);

/* True when a command of this row has to be followed by RESUME. */
bool console_pauses(const struct console_action *a);

/* True while something is paused, or may be. */
bool console_is_paused(const struct console *c);

/* Something is about to happen that may end pauses: nothing is sure about them from here on. */
void console_doubt_pauses(struct console *c);

void console_wrong(struct console *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Opens a session and waits for it; NULL, after a report, when that fails. */
PGconn *console_open(struct console *c);

#endif
