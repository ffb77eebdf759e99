/*
 * The log: PgBouncer's line format, or JSON, to stderr and a file; PgBouncer's
 * priorities to syslog and the journal. Any thread may log; one line is one
 * write. Never called on the path of a query.
 */
#ifndef PGSLUICE_CORE_LOG_H
#define PGSLUICE_CORE_LOG_H

#include "core/base.h"

enum log_level {
	LOG_LVL_FATAL,
	LOG_LVL_ERROR,
	LOG_LVL_WARNING,
	LOG_LVL_LOG,
	LOG_LVL_DEBUG,
	LOG_LVL_NOISE,
};

/* Where lines go. Strings are copied. */
struct log_setup {
	bool quiet;                  /* nothing to stderr */
	bool json;                   /* one JSON object a line */
	bool keep_open;              /* an open file and an open syslog stay as they are */
	int verbose;                 /* >0 DEBUG, >1 NOISE */
	unsigned rate_limit;         /* like warnings and errors within LOG_RATE_S seconds; 0: no limit */
	const char *file;            /* NULL or empty: no file */
	bool file_required;          /* at start: end the process if the file cannot be opened; else warn on stderr */
	bool syslog;                 /* also to syslog, LOG and worse */
	const char *syslog_ident;    /* NULL: program name */
	const char *syslog_facility; /* unknown name: daemon */
};

#define LOG_RATE_S   5

/* Room for each name in struct log_about, with its NUL. */
#define LOG_NAME_MAX 128
#define LOG_POOL_MAX 200

/* Room for the text of a line that is held back, with its NUL. */
#define LOG_HELD_MAX 256

/*
 * Whom a line is about and what it was doing: the prefix "C-0x...:
 * db/user@host:port " of a text line, fields of a JSON one. All zero: nobody.
 */
struct log_about {
	char kind;                   /* 'C' a client, 'S' a server; 0: nobody */
	bool is_bare;                /* the text has no prefix */
	bool no_database;            /* the text shows (nodb): no pool is known yet */
	bool no_user;                /* the text shows (nouser) */
	const void *object;          /* its address stands in the text */
	uint64_t id;                 /* as SHOW tells it; 0: none */
	const char *action;          /* what was going on: a constant, or NULL */
	char sqlstate[6];            /* of the error that the line tells; "": none */
	char database[LOG_NAME_MAX]; /* "": none */
	char user[LOG_NAME_MAX];     /* "": none */
	char peer[LOG_NAME_MAX];     /* host:port */
	char pool[LOG_POOL_MAX];     /* shown in the text instead of database/user; "": those */
};

/* A place in the code that logs; counts what is held back there. All zero, or burst and interval given. */
struct log_site {
	unsigned burst;            /* lines in each interval; 0: as log_setup.rate_limit says */
	unsigned interval_s;       /* 0: LOG_RATE_S */
	_Atomic uint64_t since_us; /* when the interval began; 0: never */
	_Atomic unsigned passed;   /* lines in it */
	_Atomic uint64_t held;     /* lines held back and not told of yet */
	_Atomic int level;         /* of the first line that was held back */
	_Atomic bool listed;       /* in the list of sites that have held something back */
	struct log_site *next;     /* in that list; written before `listed` is seen */
	char text[LOG_HELD_MAX];   /* of the first line, without whom it was about; under the lock of log_site.c */
};

/*
 * Applies a setup: at start, at every reload and, with keep_open, at every SET.
 * The file is opened again at the next line, as logrotate expects; when that
 * fails the old file goes on, or lines go to stderr, even if that is switched
 * off. Control thread only.
 */
void log_configure(const struct log_setup *setup);

/* The name of the calling thread in JSON lines. A constant, or valid as long as the thread logs. */
void log_set_thread(const char *name);

/* What the calling thread is doing, for lines about nobody: a constant or NULL. Returns what it was before. */
const char *log_set_action(const char *action);

/* True when a line of this level would go anywhere; test it before costly arguments. */
bool log_is_on(enum log_level level);

/*
 * Writes "YYYY-MM-DD HH:MM:SS.mmm TZ [pid] LEVEL message". No newline at the
 * end of fmt; newlines inside become newline and tab; cut at 2047 bytes.
 */
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The same about a connection (NULL: nobody), limited by its site (NULL: never). */
void log_write_at(struct log_site *site, enum log_level level, const struct log_about *about, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* One site for each place where this stands. */
#define LOG_AT(burst_, interval_, level, about, ...)                                                     \
	do {                                                                                             \
		static struct log_site log_site_here = { .burst = (burst_), .interval_s = (interval_) }; \
		log_write_at(&log_site_here, level, about, __VA_ARGS__);                                 \
	} while (0)

#define log_error(...)                       LOG_AT(0, 0, LOG_LVL_ERROR, NULL, __VA_ARGS__)
#define log_warning(...)                     LOG_AT(0, 0, LOG_LVL_WARNING, NULL, __VA_ARGS__)
#define log_info(...)                        log_write(LOG_LVL_LOG, __VA_ARGS__)

/* About a connection. */
#define log_error_about(about, ...)          LOG_AT(0, 0, LOG_LVL_ERROR, about, __VA_ARGS__)
#define log_warning_about(about, ...)        LOG_AT(0, 0, LOG_LVL_WARNING, about, __VA_ARGS__)
#define log_info_about(about, ...)           log_write_at(NULL, LOG_LVL_LOG, about, __VA_ARGS__)

/* What strangers can have us say as often as they like: limited as warnings are. */
#define log_stranger_about(about, ...)       LOG_AT(0, 0, LOG_LVL_LOG, about, __VA_ARGS__)

/* Once in interval_s seconds, whatever the setup says. */
#define log_error_rarely(interval_s_, ...)   LOG_AT(1, interval_s_, LOG_LVL_ERROR, NULL, __VA_ARGS__)
#define log_warning_rarely(interval_s_, ...) LOG_AT(1, interval_s_, LOG_LVL_WARNING, NULL, __VA_ARGS__)

#define log_debug(...)                                         \
	do {                                                   \
		if (log_is_on(LOG_LVL_DEBUG))                  \
			log_write(LOG_LVL_DEBUG, __VA_ARGS__); \
	} while (0)
#define log_noise(...)                                         \
	do {                                                   \
		if (log_is_on(LOG_LVL_NOISE))                  \
			log_write(LOG_LVL_NOISE, __VA_ARGS__); \
	} while (0)

#define log_debug_about(about, ...) log_write_at(NULL, LOG_LVL_DEBUG, about, __VA_ARGS__)

/* Logs at FATAL and ends the process with status 1. */
NORETURN void log_fatal(const char *fmt, ...) PRINTF_LIKE(1, 2);

/*
 * Tells of lines that were held back and whose interval is over; all of them
 * when the process ends. Called now and then; cheap while there are none.
 */
void log_tell_held(bool at_end);

#endif
