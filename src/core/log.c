/*
 * The log.
 *
 * Any thread logs, and no thread waits for another: a line is built on the
 * stack of its thread and leaves with one write() per sink. Files are opened
 * for appending, so that the kernel keeps the lines of several threads apart.
 *
 * What log_configure() changes while others log:
 *
 * - switches are atomics that are read once per line;
 * - the descriptor of the file keeps its number for the life of the process,
 *   once there is one. A new file is put under that number with dup3(), which
 *   is atomic, so a writer hits the old file or the new one, never a stranger;
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
#include "core/lock.h"
#include "core/str.h"

/* Room for a message with its NUL, and for what stands before it. */
#define LOG_TEXT_MAX   2048
#define LOG_PREFIX_MAX 128

enum log_file_state {
	LOG_FILE_NONE,   /* none configured */
	LOG_FILE_WANTED, /* to be opened, or opened again, at the next line */
	LOG_FILE_OPEN,
	LOG_FILE_FAILED, /* could not be opened; stderr takes its place */
};

static const struct {
	const char *name;
	int priority; /* for syslog */
} log_levels[] = {
	[LOG_LVL_FATAL] = { "FATAL", LOG_CRIT },        [LOG_LVL_ERROR] = { "ERROR", LOG_ERR },
	[LOG_LVL_WARNING] = { "WARNING", LOG_WARNING }, [LOG_LVL_LOG] = { "LOG", LOG_INFO },
	[LOG_LVL_DEBUG] = { "DEBUG", LOG_DEBUG },       [LOG_LVL_NOISE] = { "NOISE", LOG_DEBUG },
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
static _Atomic bool log_to_syslog;
static _Atomic int log_top_level = LOG_LVL_LOG; /* for stderr and the file */
static _Atomic int log_file_fd = -1;
static _Atomic int log_file_state = LOG_FILE_NONE;

static struct lock log_lock = { PTHREAD_MUTEX_INITIALIZER, LOCK_RANK_LOG };
static char *log_file_path;    /* protected by log_lock */
static bool log_file_required; /* protected by log_lock */
static char *log_ident;        /* control thread only; syslog keeps the pointer */

/* Date and zone of the second in which this thread has logged last. */
static _Thread_local struct {
	time_t second;
	char date[32];
	char zone[16];
} log_stamp;

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

	if (setup->syslog) {
		log_ident = xstrdup(setup->syslog_ident);
		openlog(log_ident, LOG_PID, log_facility(setup->syslog_facility));
	} else {
		log_ident = NULL;
		closelog();
	}
	free(old);
	log_to_syslog = setup->syslog;
}

/* Lets go of the old file but not of its descriptor number. */
static void log_park_file(void)
{
	int null_fd;

	if (log_file_fd < 0)
		return;
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null_fd < 0)
		return;
	dup3(null_fd, log_file_fd, O_CLOEXEC);
	close(null_fd);
}

static void log_configure_file(const struct log_setup *setup)
{
	bool wanted = setup->file != NULL && setup->file[0] != '\0';
	char *path = wanted ? xstrdup(setup->file) : NULL;
	char *old;

	lock_acquire(&log_lock);
	old = log_file_path;
	log_file_path = path;
	log_file_required = setup->file_required;
	log_file_state = wanted ? LOG_FILE_WANTED : LOG_FILE_NONE;
	lock_release(&log_lock);
	if (!wanted)
		log_park_file();
	free(old);
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
	log_configure_syslog(setup);
	log_configure_file(setup);
}

bool log_is_on(enum log_level level)
{
	if (log_to_syslog && level <= LOG_LVL_LOG)
		return true;
	return (int)level <= log_top_level && (log_to_stderr || log_file_state != LOG_FILE_NONE);
}

/* With a file wanted: 0 or an errno. */
static int log_open_file_locked(void)
{
	int fd = open(log_file_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	int err = errno;

	if (fd < 0) {
		log_file_state = LOG_FILE_FAILED;
		return err;
	}
	if (log_file_fd < 0) {
		log_file_fd = fd;
	} else {
		dup3(fd, log_file_fd, O_CLOEXEC);
		close(fd);
	}
	log_file_state = LOG_FILE_OPEN;
	return 0;
}

/* Opens the file for the first line after log_configure(), by whichever thread comes first. */
static void log_open_file(void)
{
	char path[256] = "";
	bool required = false;
	int err = 0;

	lock_acquire(&log_lock);
	if (log_file_state == LOG_FILE_WANTED) {
		err = log_open_file_locked();
		required = log_file_required;
		str_copy(path, sizeof(path), log_file_path);
	}
	lock_release(&log_lock);
	if (err == 0)
		return;
	if (required)
		log_fatal("could not open log file \"%s\": %s", path, strerror(err));
	log_write(LOG_LVL_ERROR, "could not open log file \"%s\": %s; logging to stderr", path, strerror(err));
}

static size_t log_format_prefix(char *dst, size_t size, enum log_level level)
{
	uint64_t now_us = clock_wall_us();
	time_t second = (time_t)(now_us / USEC_PER_SEC);
	struct tm tm;

	if (second != log_stamp.second && localtime_r(&second, &tm) != NULL) {
		strftime(log_stamp.date, sizeof(log_stamp.date), "%Y-%m-%d %H:%M:%S", &tm);
		strftime(log_stamp.zone, sizeof(log_stamp.zone), "%Z", &tm);
		log_stamp.second = second;
	}
	return str_format(dst, size, "%s.%03u %s [%d] %s ", log_stamp.date, (unsigned)(now_us / 1000 % 1000),
			  log_stamp.zone, (int)getpid(), log_levels[level].name);
}

/* Copies a message without blanks at its end; newlines become newline and tab. Returns the length, below `size`. */
static size_t log_copy_text(char *dst, size_t size, const char *src)
{
	size_t n = strlen(src);
	size_t used = 0;

	while (n > 0 && isspace((unsigned char)src[n - 1]))
		n--;
	for (size_t i = 0; i < n && used + 1 < size; i++) {
		dst[used++] = src[i];
		if (src[i] == '\n' && used + 1 < size)
			dst[used++] = '\t';
	}
	dst[used] = '\0';
	return used;
}

static void log_emit(int fd, const char *line, size_t n)
{
	ssize_t written UNUSED;

	do {
		written = write(fd, line, n);
	} while (written < 0 && errno == EINTR);
}

static void PRINTF_LIKE(2, 0) log_vwrite(enum log_level level, const char *fmt, va_list ap)
{
	char raw[LOG_TEXT_MAX];
	char line[LOG_PREFIX_MAX + LOG_TEXT_MAX + 1];
	size_t prefix;
	size_t n;
	int state;

	if (log_file_state == LOG_FILE_WANTED)
		log_open_file();
	state = log_file_state;
	if (vsnprintf(raw, sizeof(raw), fmt, ap) < 0)
		raw[0] = '\0';
	prefix = log_format_prefix(line, LOG_PREFIX_MAX, level);
	n = prefix + log_copy_text(line + prefix, LOG_TEXT_MAX, raw);
	if (log_to_syslog && level <= LOG_LVL_LOG)
		syslog(log_levels[level].priority, "%s", line + prefix);
	if ((int)level > log_top_level)
		return;
	line[n++] = '\n';
	if (log_to_stderr || state == LOG_FILE_FAILED)
		log_emit(STDERR_FILENO, line, n);
	/* Another reload may want the file anew since we opened it; until then the descriptor leads to the old one. */
	if (state == LOG_FILE_OPEN || (state == LOG_FILE_WANTED && log_file_fd >= 0))
		log_emit(log_file_fd, line, n);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (log_is_on(level)) {
		va_start(ap, fmt);
		log_vwrite(level, fmt, ap);
		va_end(ap);
	}
	errno = saved;
}

void log_fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vwrite(LOG_LVL_FATAL, fmt, ap);
	va_end(ap);
	exit(1);
}

bool log_limit_pass(struct log_limit *limit, unsigned interval_s, uint64_t *dropped)
{
	uint64_t now = clock_mono_us();
	uint64_t next = limit->next_us;

	/* Of several threads that come at the same time, the exchange lets one pass. */
	if (now >= next && atomic_compare_exchange_strong(&limit->next_us, &next, now + interval_s * USEC_PER_SEC)) {
		*dropped = atomic_exchange(&limit->dropped, 0);
		return true;
	}
	atomic_fetch_add(&limit->dropped, 1);
	return false;
}
