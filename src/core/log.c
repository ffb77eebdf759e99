/*
 * The log: where lines go. What they look like is in log_line.c, which of them
 * are held back in log_site.c.
 *
 * Any thread logs, and no thread waits for another: a line is built on the
 * stack of its thread and leaves with one write() per sink. Files are opened
 * for appending, so that the kernel keeps the lines of several threads apart.
 * Where stderr leads into the journal, lines go there as messages of their own
 * instead, with their priority and without a time.
 *
 * What log_configure() changes while others log:
 *
 * - switches are atomics that are read once per line;
 * - the descriptor of the file keeps its number for the life of the process,
 *   once there is one. A new file is put under that number with dup3(), which
 *   is atomic, so a writer hits the old file or the new one, never a stranger.
 *   A file that cannot be opened leaves the old one in its place;
 * - the name of the file stands under the lock, which is taken only to open
 *   the file after a change. open() under a lock is against the house rule and
 *   fine here: the rank is the highest, and it happens once per reload;
 * - the identity for syslog is freed only after openlog() has put another in
 *   its place; both syslog() and openlog() take glibc's own lock.
 */
#include "core/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <syslog.h>
#include <time.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/journal.h"
#include "core/lock.h"
#include "core/log_int.h"
#include "core/str.h"

enum log_file_state {
	LOG_FILE_NONE,   /* none configured */
	LOG_FILE_WANTED, /* to be opened, or opened again, at the next line */
	LOG_FILE_OPEN,
	LOG_FILE_FAILED, /* could not be opened; stderr takes its place */
};

/* Priorities for syslog and the journal. */
static const int log_priorities[] = {
	[LOG_LVL_FATAL] = LOG_CRIT, [LOG_LVL_ERROR] = LOG_ERR,   [LOG_LVL_WARNING] = LOG_WARNING,
	[LOG_LVL_LOG] = LOG_INFO,   [LOG_LVL_DEBUG] = LOG_DEBUG, [LOG_LVL_NOISE] = LOG_DEBUG,
};

static const struct {
	const char *name;
	int value;
} log_facilities[] = {
	{ "auth", LOG_AUTH },     { "authpriv", LOG_AUTHPRIV }, { "daemon", LOG_DAEMON }, { "user", LOG_USER },
	{ "local0", LOG_LOCAL0 }, { "local1", LOG_LOCAL1 },     { "local2", LOG_LOCAL2 }, { "local3", LOG_LOCAL3 },
	{ "local4", LOG_LOCAL4 }, { "local5", LOG_LOCAL5 },     { "local6", LOG_LOCAL6 }, { "local7", LOG_LOCAL7 },
};

static _Atomic bool log_to_stderr = true;
static _Atomic bool log_to_journal; /* in the place of stderr */
static _Atomic bool log_to_syslog;
static _Atomic bool log_as_json;
static _Atomic int log_top_level = LOG_LVL_LOG; /* for stderr and the file */
static _Atomic int log_file_fd = -1;
static _Atomic int log_file_state = LOG_FILE_NONE;

static struct lock log_lock = { PTHREAD_MUTEX_INITIALIZER, LOCK_RANK_LOG };
static char *log_file_path;         /* protected by log_lock */
static bool log_file_required;      /* protected by log_lock */
static bool log_file_is_real;       /* log_file_fd is a log, not /dev/null; protected by log_lock */
static const char *log_socket_path; /* of the journal; set before threads start */
static char *log_ident;             /* control thread only; syslog keeps the pointer */

static _Thread_local const char *log_thread = "main";
static _Thread_local const char *log_action;

static int log_facility(const char *name)
{
	for (size_t i = 0; name != NULL && i < ARRAY_LEN(log_facilities); i++)
		if (strcasecmp(name, log_facilities[i].name) == 0)
			return log_facilities[i].value;
	return LOG_DAEMON;
}

static void log_configure_syslog(const struct log_setup *setup)
{
	char *old = log_ident;

	log_to_syslog = setup->syslog;
	if (setup->keep_open && (log_ident != NULL || !setup->syslog))
		return;
	if (setup->syslog) {
		log_ident = xstrdup(setup->syslog_ident == NULL ? program_invocation_short_name : setup->syslog_ident);
		openlog(log_ident, LOG_PID, log_facility(setup->syslog_facility));
	} else {
		log_ident = NULL;
		closelog();
	}
	free(old);
}

/* Lets go of the old file but not of its descriptor number. */
static void log_park_file_locked(void)
{
	int null_fd;

	if (log_file_fd < 0)
		return;
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null_fd < 0)
		return;
	dup3(null_fd, log_file_fd, O_CLOEXEC);
	close(null_fd);
	log_file_is_real = false;
}

static void log_configure_file(const struct log_setup *setup)
{
	bool wanted = str_is_set(setup->file);
	char *path;
	char *old;

	if (setup->keep_open && log_file_state == LOG_FILE_OPEN)
		return;
	path = wanted ? xstrdup(setup->file) : NULL;
	lock_acquire(&log_lock);
	old = log_file_path;
	log_file_path = path;
	log_file_required = setup->file_required;
	log_file_state = wanted ? LOG_FILE_WANTED : LOG_FILE_NONE;
	if (!wanted)
		log_park_file_locked();
	lock_release(&log_lock);
	free(old);
}

void log_set_journal(const char *path)
{
	log_socket_path = path;
}

void log_configure(const struct log_setup *setup)
{
	int verbose = setup->verbose;

	if (verbose < 0)
		verbose = 0;
	if (verbose > LOG_LVL_NOISE - LOG_LVL_LOG)
		verbose = LOG_LVL_NOISE - LOG_LVL_LOG;
	tzset();
	log_top_level = LOG_LVL_LOG + verbose;
	log_to_stderr = !setup->quiet;
	log_to_journal = journal_is_stderr() && journal_open() == 0;
	log_as_json = setup->json;
	log_site_set_burst(setup->rate_limit);
	log_configure_syslog(setup);
	log_configure_file(setup);
}

bool log_is_on(enum log_level level)
{
	if (log_to_syslog && level <= LOG_LVL_LOG)
		return true;
	return (int)level <= log_top_level && (log_to_stderr || log_file_state != LOG_FILE_NONE);
}

/* With a file wanted: 0 or an errno; then the old file is still there, or none. */
static int log_open_file_locked(void)
{
	int fd = open(log_file_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	int err = errno;

	if (fd < 0) {
		log_file_state = log_file_is_real ? LOG_FILE_OPEN : LOG_FILE_FAILED;
		return err;
	}
	if (log_file_fd < 0) {
		log_file_fd = fd;
	} else {
		dup3(fd, log_file_fd, O_CLOEXEC);
		close(fd);
	}
	log_file_is_real = true;
	log_file_state = LOG_FILE_OPEN;
	return 0;
}

/* Opens the file for the first line after log_configure(), by whichever thread comes first. */
static void log_open_file(void)
{
	const char *instead = "logging to stderr";
	char path[256] = "";
	bool required = false;
	int err = 0;

	lock_acquire(&log_lock);
	if (log_file_state == LOG_FILE_WANTED) {
		err = log_open_file_locked();
		required = log_file_required;
		if (log_file_is_real)
			instead = "going on with the old one";
		str_copy(path, sizeof(path), log_file_path);
	}
	lock_release(&log_lock);
	if (err == 0)
		return;
	if (required)
		log_fatal("could not open log file \"%s\": %s", path, strerror(err));
	log_write(LOG_LVL_ERROR, "could not open log file \"%s\": %s; %s", path, strerror(err), instead);
}

static void log_emit(int fd, const char *line, size_t n)
{
	ssize_t written UNUSED;

	do {
		written = write(fd, line, n);
	} while (written < 0 && errno == EINTR);
}

void log_set_thread(const char *name)
{
	log_thread = name;
}

const char *log_set_action(const char *action)
{
	const char *old = log_action;

	log_action = action;
	return old;
}

/* To stderr, which may be a stream into the journal. */
static void log_emit_stderr(const struct log_line *line, const char *text, size_t n, size_t message_at)
{
	const char *path = log_socket_path == NULL ? JOURNAL_SOCKET : log_socket_path;

	if (log_to_journal && journal_send(path, log_priorities[line->level], text + message_at, n - message_at) == 0)
		return;
	log_emit(STDERR_FILENO, text, n + 1);
}

/* To syslog, for which the message must be of the text form. */
static void log_emit_syslog(const struct log_line *line)
{
	char message[LOG_TEXT_MAX];

	log_line_message(line, message, sizeof(message));
	syslog(log_priorities[line->level], "%s", message);
}

static void PRINTF_LIKE(3, 0)
	log_vwrite(enum log_level level, const struct log_about *about, const char *fmt, va_list ap)
{
	struct log_line line = { .level = level, .about = about, .thread = log_thread, .action = log_action };
	char text[LOG_LINE_MAX];
	size_t message_at = 0;
	size_t n;
	int state;

	if (log_file_state == LOG_FILE_WANTED)
		log_open_file();
	state = log_file_state;
	line.wall_us = clock_wall_us();
	line.pid = getpid();
	log_line_fill(&line, fmt, ap);
	if (log_to_syslog && level <= LOG_LVL_LOG)
		log_emit_syslog(&line);
	if ((int)level > log_top_level)
		return;
	if (log_as_json) {
		n = log_line_json(&line, text, sizeof(text) - 1);
	} else {
		message_at = log_line_head(&line, text, sizeof(text));
		n = message_at + log_line_message(&line, text + message_at, LOG_TEXT_MAX);
	}
	text[n] = '\n';
	if (log_to_stderr || state == LOG_FILE_FAILED)
		log_emit_stderr(&line, text, n, message_at);
	/* Another reload may want the file anew since we opened it; until then the descriptor leads to the old one. */
	if (state == LOG_FILE_OPEN || (state == LOG_FILE_WANTED && log_file_fd >= 0))
		log_emit(log_file_fd, text, n + 1);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (log_is_on(level)) {
		va_start(ap, fmt);
		log_vwrite(level, NULL, fmt, ap);
		va_end(ap);
	}
	errno = saved;
}

void log_write_at(struct log_site *site, enum log_level level, const struct log_about *about, const char *fmt, ...)
{
	int saved = errno;
	struct log_held held;
	bool passes = true;
	va_list ap;

	held.count = 0;
	if (!log_is_on(level))
		return;
	if (site != NULL) {
		va_start(ap, fmt);
		passes = log_site_pass(site, level, &held, fmt, ap);
		va_end(ap);
		log_write_held(&held);
	}
	if (passes) {
		errno = saved; /* for %m */
		va_start(ap, fmt);
		log_vwrite(level, about, fmt, ap);
		va_end(ap);
	}
	errno = saved;
}

void log_write_held(const struct log_held *held)
{
	if (held->count > 0)
		log_write(held->level, "%s (message repeated %" PRIu64 " times)", held->text, held->count);
}

void log_fatal(const char *fmt, ...)
{
	va_list ap;

	log_tell_held(true);
	va_start(ap, fmt);
	log_vwrite(LOG_LVL_FATAL, NULL, fmt, ap);
	va_end(ap);
	exit(1);
}
