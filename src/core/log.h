/*
 * The log: PgBouncer's line format to stderr and a file, PgBouncer's
 * priorities to syslog. Any thread may log; one line is one write. Never
 * called on the path of a query.
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
	int verbose;                 /* >0 DEBUG, >1 NOISE */
	const char *file;            /* NULL or empty: no file */
	bool file_required;          /* at start: end the process if the file cannot be opened; else warn on stderr */
	bool syslog;                 /* also to syslog, LOG and worse */
	const char *syslog_ident;    /* NULL: program name */
	const char *syslog_facility; /* unknown name: daemon */
};

/*
 * Applies a setup: at start and at every reload. The file is opened again at
 * the next line, as logrotate expects; when that fails, lines go to stderr,
 * even if that is switched off. Control thread only.
 */
void log_configure(const struct log_setup *setup);

/* True when a line of this level would go anywhere; test it before costly arguments. */
bool log_is_on(enum log_level level);

/*
 * Writes "YYYY-MM-DD HH:MM:SS.mmm TZ [pid] LEVEL message". No newline at the
 * end of fmt; newlines inside become newline and tab; cut at 2047 bytes.
 */
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...)   log_write(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LVL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LVL_LOG, __VA_ARGS__)
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

/* Logs at FATAL and ends the process with status 1. */
NORETURN void log_fatal(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* True for the first of many equal events in `interval_s` seconds; for repeated messages. */
struct log_limit {
	_Atomic uint64_t next_us; /* no line before this time */
	_Atomic uint64_t dropped; /* lines held back since the last one */
};
bool log_limit_pass(struct log_limit *limit, unsigned interval_s, uint64_t *dropped);

#endif
