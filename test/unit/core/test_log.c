/*
 * The log writes to descriptor 2 and to a file; here both are files in a
 * temporary directory that the tests read back.
 */
#include "core/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "core/journal.h"
#include "core/log_int.h"
#include "core/str.h"

static char test_dir[] = "/tmp/test_log.XXXXXX";
static char test_file[64];
static char test_moved[64];
static char test_stderr[64];
static int test_real_stderr;

/* Sends descriptor 2 to an empty file. */
static void test_capture(void)
{
	int fd = open(test_stderr, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);

	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	close(fd);
}

static void test_release(void)
{
	dup2(test_real_stderr, STDERR_FILENO);
}

/* The content of a file; empty when there is none. */
static const char *test_read(const char *path)
{
	static char text[64 * 1024];
	FILE *f = fopen(path, "r");
	size_t n = 0;

	if (f != NULL) {
		n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
	}
	text[n] = '\0';
	return text;
}

static unsigned test_count(const char *text, const char *word)
{
	unsigned n = 0;

	for (const char *p = strstr(text, word); p != NULL; p = strstr(p + 1, word))
		n++;
	return n;
}

static int setup(void **state UNUSED)
{
	unlink(test_file);
	unlink(test_moved);
	test_capture();
	return 0;
}

static int teardown(void **state UNUSED)
{
	log_configure(&(struct log_setup){ .verbose = 0 });
	test_release();
	return 0;
}

static void test_format(void **state UNUSED)
{
	char want[128];
	char level[16];
	unsigned y, mo, d, h, mi, s, ms;
	char zone[16];
	int pid;
	int used = 0;
	const char *text;

	log_configure(&(struct log_setup){ .verbose = 0 });
	log_info("hello %d", 42);
	test_release();
	text = test_read(test_stderr);
	assert_int_equal(sscanf(text, "%4u-%2u-%2u %2u:%2u:%2u.%3u %15s [%d] %15s %n", &y, &mo, &d, &h, &mi, &s, &ms,
				zone, &pid, level, &used),
			 10);
	assert_int_equal(pid, getpid());
	assert_string_equal(level, "LOG");
	assert_string_equal(text + used, "hello 42\n");
	/* The fixed width of the parts, which sscanf does not check. */
	str_format(want, sizeof(want), "%04u-%02u-%02u %02u:%02u:%02u.%03u %s [%d] LOG hello 42\n", y, mo, d, h, mi, s,
		   ms, zone, pid);
	assert_string_equal(text, want);
}

static void test_zone_is_local(void **state UNUSED)
{
	setenv("TZ", "XYZ-05:30", 1);
	log_configure(&(struct log_setup){ .verbose = 0 });
	/* The zone is looked up once per second and thread. */
	for (int i = 0; i < 30 && strstr(test_read(test_stderr), " XYZ [") == NULL; i++) {
		struct timespec nap = { .tv_nsec = 50 * 1000 * 1000 };

		nanosleep(&nap, NULL);
		log_info("zone");
	}
	unsetenv("TZ");
	test_release();
	assert_non_null(strstr(test_read(test_stderr), " XYZ ["));
}

static void test_level_names(void **state UNUSED)
{
	static const char *const names[] = { "FATAL", "ERROR", "WARNING", "LOG", "DEBUG", "NOISE" };
	char want[32];
	const char *text;

	log_configure(&(struct log_setup){ .verbose = 2 });
	for (int i = 0; i < (int)ARRAY_LEN(names); i++)
		log_write((enum log_level)i, "level %d", i);
	test_release();
	text = test_read(test_stderr);
	for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
		str_format(want, sizeof(want), "] %s level %d\n", names[i], i);
		assert_non_null(strstr(text, want));
	}
}

static void test_verbosity(void **state UNUSED)
{
	static const struct {
		int verbose;
		bool debug;
		bool noise;
	} rows[] = {
		{ -1, false, false }, { 0, false, false }, { 1, true, false }, { 2, true, true }, { 9, true, true }
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *text;

		test_capture();
		log_configure(&(struct log_setup){ .verbose = rows[i].verbose });
		assert_true(log_is_on(LOG_LVL_LOG));
		assert_int_equal(log_is_on(LOG_LVL_DEBUG), rows[i].debug);
		assert_int_equal(log_is_on(LOG_LVL_NOISE), rows[i].noise);
		log_debug("dbg");
		log_write(LOG_LVL_NOISE, "nse");
		text = test_read(test_stderr);
		assert_int_equal(strstr(text, "DEBUG dbg\n") != NULL, rows[i].debug);
		assert_int_equal(strstr(text, "NOISE nse\n") != NULL, rows[i].noise);
	}
}

static void test_multi_line(void **state UNUSED)
{
	log_configure(&(struct log_setup){ .verbose = 0 });
	log_warning("first\nsecond\n\nlast  \n \n");
	test_release();
	assert_non_null(strstr(test_read(test_stderr), "] WARNING first\n\tsecond\n\t\n\tlast\n"));
	assert_int_equal(test_count(test_read(test_stderr), "\n"), 4);
}

/* The part of a one-line log behind its level. */
static const char *test_message(void)
{
	const char *p = strstr(test_read(test_stderr), "] LOG ");

	assert_non_null(p);
	return p + strlen("] LOG ");
}

static void test_cut(void **state UNUSED)
{
	static char big[5000];

	log_configure(&(struct log_setup){ .verbose = 0 });
	memset(big, 'x', sizeof(big) - 1);
	log_info("%s", big);
	assert_int_equal(strlen(test_message()), 2047 + 1);
	/* Newlines that double do not make room for more. */
	test_capture();
	memset(big, '\n', sizeof(big) - 1);
	big[2000] = 'y';
	log_info("%s", big);
	assert_int_equal(strlen(test_message()), 2047 + 1);
	assert_null(strchr(test_message(), 'y'));
	/* Just fits. */
	test_capture();
	memset(big, 'z', sizeof(big) - 1);
	big[2047] = '\0';
	log_info("%s", big);
	test_release();
	assert_int_equal(strlen(test_message()), 2047 + 1);
}

/* What a terminal would obey is shown instead; what is text stays as it is. */
static void test_control_characters(void **state UNUSED)
{
	static const char *const rows[][2] = {
		{ "a\x1b[31mred\x1b]0;title\x07|", "a\\x1b[31mred\\x1b]0;title\\x07|" },
		{ "\x01\x08\x0b\x0c\x0e\x1f\x7f|", "\\x01\\x08\\x0b\\x0c\\x0e\\x1f\\x7f|" },
		{ "over\rwritten", "over\\x0dwritten" },
		{ "tab\there\nnext", "tab\there\n\tnext" },
		/* U+0080, U+009B, U+009F; U+00A0, U+00E4, U+041B (its second byte is 0x9b), U+20AC, U+1F600 */
		{ "\xc2\x80\xc2\x9b\xc2\x9f|", "\\xc2\\x80\\xc2\\x9b\\xc2\\x9f|" },
		{ "\xc2\xa0\xc3\xa4\xd0\x9b\xe2\x82\xac\xf0\x9f\x98\x80|",
		  "\xc2\xa0\xc3\xa4\xd0\x9b\xe2\x82\xac\xf0\x9f\x98\x80|" },
		/* no UTF-8 */
		{ "\xff\xc2|\xc2", "\xff\xc2|\xc2" },
	};
	static char big[2048];
	char want[256];

	log_configure(&(struct log_setup){ .verbose = 0 });
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct log_about about = { .kind = 'C', .peer = "p" };

		str_copy(about.user, sizeof(about.user), rows[i][0]);
		test_capture();
		log_info_about(&about, "%s", rows[i][0]);
		str_format(want, sizeof(want), "(nodb)/%s@p %s\n", rows[i][1], rows[i][1]);
		assert_non_null(strstr(test_message(), want));
	}
	/* One that does not fit as a whole is left out. */
	for (size_t room = 0; room < 9; room++) {
		size_t fits = room / 4 * 4;

		test_capture();
		memset(big, 'x', 2047 - room);
		memset(big + 2047 - room, '\x1b', room);
		big[2047] = '\0';
		log_info("%s", big);
		assert_int_equal(strlen(test_message()), 2047 - room + fits + 1);
		assert_int_equal(test_count(test_message(), "\\x1b"), fits / 4);
	}
	test_release();
}

static void test_errno_is_kept(void **state UNUSED)
{
	log_configure(&(struct log_setup){ .file = "/nonexistent/dir/log" });
	errno = EXDEV;
	log_info("x");
	assert_int_equal(errno, EXDEV);
}

static void test_file_and_reopen(void **state UNUSED)
{
	struct log_setup with_file = { .quiet = true, .file = test_file };
	struct stat st;

	log_configure(&with_file);
	assert_int_not_equal(stat(test_file, &st), 0); /* lazily opened */
	log_info("one");
	assert_non_null(strstr(test_read(test_file), "LOG one\n"));
	assert_string_equal(test_read(test_stderr), "");

	/* logrotate: the file goes on under its new name until the reload. */
	assert_int_equal(rename(test_file, test_moved), 0);
	log_info("two");
	assert_non_null(strstr(test_read(test_moved), "LOG two\n"));
	log_configure(&with_file);
	log_info("three");
	assert_non_null(strstr(test_read(test_file), "LOG three\n"));
	assert_null(strstr(test_read(test_moved), "three"));

	/* Appended to, not truncated. */
	log_configure(&with_file);
	log_info("four");
	assert_non_null(strstr(test_read(test_file), "LOG three\n"));
	assert_non_null(strstr(test_read(test_file), "LOG four\n"));

	/* Switched off. */
	log_configure(&(struct log_setup){ .quiet = false });
	log_info("five");
	assert_null(strstr(test_read(test_file), "five"));
	assert_non_null(strstr(test_read(test_stderr), "LOG five\n"));
	log_configure(&(struct log_setup){ .quiet = true });
	assert_false(log_is_on(LOG_LVL_FATAL));
}

static void test_file_is_not_inherited(void **state UNUSED)
{
	char link[64];
	char target[64];

	log_configure(&(struct log_setup){ .quiet = true, .file = test_file });
	log_info("one");
	log_configure(&(struct log_setup){ .quiet = true, .file = test_file });
	log_info("two");
	for (int fd = 3; fd < 64; fd++) {
		ssize_t n;

		str_format(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (strcmp(target, test_file) == 0)
			assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
}

static void test_file_fails_later(void **state UNUSED)
{
	log_configure(&(struct log_setup){ .quiet = true, .file = "/nonexistent/dir/log" });
	log_info("kept");
	test_release();
	assert_non_null(
		strstr(test_read(test_stderr), "ERROR could not open log file \"/nonexistent/dir/log\": No such"));
	assert_non_null(strstr(test_read(test_stderr), "LOG kept\n"));
	/* The attempt is not repeated for each line. */
	assert_int_equal(test_count(test_read(test_stderr), "could not open"), 1);
}

static int test_status_of(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fn();
		_exit(99);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void child_required_file(void)
{
	log_configure(&(struct log_setup){ .quiet = true, .file = "/nonexistent/dir/log", .file_required = true });
	log_info("x");
}

static void child_fatal(void)
{
	log_fatal("no way %s", "out");
}

static void test_exits(void **state UNUSED)
{
	assert_int_equal(test_status_of(child_required_file), 1);
	assert_non_null(strstr(test_read(test_stderr), "FATAL could not open log file"));
	assert_int_equal(test_status_of(child_fatal), 1);
	test_release();
	assert_non_null(strstr(test_read(test_stderr), "FATAL no way out\n"));
}

#define LINES_PER_THREAD 300

static void *test_writer(void *arg)
{
	for (int i = 0; i < LINES_PER_THREAD; i++)
		log_info("thread %s line %d end", (const char *)arg, i);
	return NULL;
}

/* Lines of several threads stay whole while the file is rotated under them. */
static void test_threads(void **state UNUSED)
{
	static char names[2][2] = { "a", "b" };
	struct log_setup with_file = { .quiet = true, .file = test_file };
	pthread_t threads[2];
	unsigned lines = 0;

	log_configure(&with_file);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, test_writer, names[i]), 0);
	rename(test_file, test_moved);
	for (int i = 0; i < 20; i++)
		log_configure(&with_file);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 2; i++) {
		const char *text = test_read(i == 0 ? test_file : test_moved);
		char copy[64 * 1024];
		char *rest = copy;
		char *line;

		assert_true(str_copy(copy, sizeof(copy), text));
		while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
			assert_int_equal(test_count(line, " LOG thread "), 1);
			assert_string_equal(line + strlen(line) - 4, " end");
			lines++;
		}
	}
	assert_int_equal(lines, 2 * LINES_PER_THREAD);
}

/* ---- about whom ---- */

static const struct log_about test_client = {
	.kind = 'C',
	.id = 17,
	.action = "query",
	.sqlstate = "53300",
	.database = "app",
	.user = "joe",
	.peer = "[::1]:5432",
};

static void test_about(void **state UNUSED)
{
	struct log_about nobody = { .kind = 'S', .object = &nobody, .peer = "unix(7):6432" };
	struct log_about unnamed = test_client;
	char want[128];

	log_configure(&(struct log_setup){ .verbose = 0 });
	log_info_about(&test_client, "hello %d", 1);
	log_warning_about(&nobody, "hello %d", 2);
	unnamed.no_database = unnamed.no_user = true;
	log_error_about(&unnamed, "hello %d", 3);
	unnamed.is_bare = true;
	log_error_about(&unnamed, "hello %d", 4);
	str_copy(nobody.pool, sizeof(nobody.pool), "peer-3");
	log_error_about(&nobody, "hello %d", 5);
	test_release();
	assert_non_null(strstr(test_read(test_stderr), "] LOG C-(nil): app/joe@[::1]:5432 hello 1\n"));
	str_format(want, sizeof(want), "] WARNING S-%p: (nodb)/(nouser)@unix(7):6432 hello 2\n", (void *)&nobody);
	assert_non_null(strstr(test_read(test_stderr), want));
	assert_non_null(strstr(test_read(test_stderr), "] ERROR C-(nil): (nodb)/(nouser)@[::1]:5432 hello 3\n"));
	assert_non_null(strstr(test_read(test_stderr), "] ERROR hello 4\n"));
	assert_non_null(strstr(test_read(test_stderr), ": peer-3@unix(7):6432 hello 5\n"));
}

/* The line behind its time. */
static const char *test_json(void)
{
	static char line[8192];
	const char *text = test_read(test_stderr);
	const char *p = strstr(text, "\",\"level\"");

	assert_non_null(p);
	assert_true(str_copy(line, sizeof(line), p + 2));
	return line;
}

static void test_json_fields(void **state UNUSED)
{
	unsigned y, mo, d, h, mi, s, ms, oh, om;
	char want[256];
	char sign;

	log_configure(&(struct log_setup){ .json = true });
	log_set_thread("worker 3");
	assert_null(log_set_action("reload"));
	log_warning_about(&test_client, "no \"more\" of %s\n", "this");
	assert_int_equal(sscanf(test_read(test_stderr), "{\"time\":\"%4u-%2u-%2uT%2u:%2u:%2u.%3u%c%2u:%2u\"", &y, &mo,
				&d, &h, &mi, &s, &ms, &sign, &oh, &om),
			 10);
	str_format(want, sizeof(want),
		   "\"level\":\"WARNING\",\"pid\":%d,\"worker\":\"worker 3\",\"client\":17,\"database\":\"app\","
		   "\"user\":\"joe\",\"peer\":\"[::1]:5432\",\"action\":\"query\",\"sqlstate\":\"53300\","
		   "\"text\":\"no \\\"more\\\" of this\"}\n",
		   (int)getpid());
	assert_string_equal(test_json(), want);
	test_capture();
	log_info("first\nsecond");
	test_release();
	assert_string_equal(log_set_action(NULL), "reload");
	log_set_thread("main");
	str_format(want, sizeof(want),
		   "\"level\":\"LOG\",\"pid\":%d,\"worker\":\"worker 3\",\"action\":\"reload\","
		   "\"text\":\"first\\nsecond\"}\n",
		   (int)getpid());
	assert_string_equal(test_json(), want);
}

static void test_json_offset(void **state UNUSED)
{
	struct log_line line = { .level = LOG_LVL_LOG, .wall_us = 1000000000123456 };
	char out[LOG_LINE_MAX];
	static const char *const rows[][2] = {
		{ "XYZ-05:30", "{\"time\":\"2001-09-09T07:16:40.123+05:30\"," },
		{ "XYZ+03:30", "{\"time\":\"2001-09-08T22:16:40.123-03:30\"," },
		{ "UTC", "{\"time\":\"2001-09-09T01:46:40.123+00:00\"," },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		setenv("TZ", rows[i][0], 1);
		tzset();
		line.wall_us += 60 * 1000000; /* the zone is looked up once per second */
		out[log_line_json(&line, out, sizeof(out) - 1)] = '\0';
		line.wall_us -= 60 * 1000000;
		out[log_line_json(&line, out, sizeof(out) - 1)] = '\0';
		assert_memory_equal(out, rows[i][1], strlen(rows[i][1]));
	}
	unsetenv("TZ");
	tzset();
}

static void test_json_escapes(void **state UNUSED)
{
	static const char *const rows[][2] = {
		{ "a\"b\\c", "a\\\"b\\\\c" },
		{ "\x01\x1f\x7f\r\t\b\f|", "\\u0001\\u001f\\u007f\\r\\t\\b\\f|" },
		{ "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "\xc2\x80\xc2\x9b|\xc2\xa0", "\\u0080\\u009b|\xc2\xa0" },
		/* a stray byte, one that is cut off, an overlong form, a surrogate, beyond the last character */
		{ "\xff|", "\xef\xbf\xbd|" },
		{ "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xc0\xaf|", "\xef\xbf\xbd\xef\xbf\xbd|" },
		{ "\xed\xa0\x80|", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|" },
		{ "\xf4\x90\x80\x80|", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|" },
		{ "\xf0\x9f\x98|", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|" },
	};

	log_configure(&(struct log_setup){ .json = true });
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct log_about about = { .kind = 'C', .id = 1 };
		char want[128];

		str_copy(about.user, sizeof(about.user), rows[i][0]);
		test_capture();
		log_info_about(&about, "%s", rows[i][0]);
		str_format(want, sizeof(want), "\"user\":\"%s\",", rows[i][1]);
		assert_non_null(strstr(test_json(), want));
		str_format(want, sizeof(want), "\"text\":\"%s\"}\n", rows[i][1]);
		assert_non_null(strstr(test_json(), want));
	}
	test_release();
}

/* However long it would become, a line is one object and no longer than a pipe takes at once. */
static void test_json_cut(void **state UNUSED)
{
	static char big[5000];
	struct log_about about = test_client;
	size_t n;

	log_configure(&(struct log_setup){ .json = true });
	memset(about.database, 1, LOG_NAME_MAX - 1);
	memset(about.user, 1, LOG_NAME_MAX - 1);
	memset(about.peer, 1, LOG_NAME_MAX - 1);
	memset(big, 2, sizeof(big) - 1);
	log_info_about(&about, "%s", big);
	test_release();
	n = strlen(test_read(test_stderr));
	assert_in_range(n, LOG_LINE_MAX - 8, LOG_LINE_MAX);
	assert_string_equal(test_read(test_stderr) + n - strlen("\\u0002\"}\n"), "\\u0002\"}\n");
	assert_int_equal(test_count(test_read(test_stderr), "\n"), 1);
}

/* ---- repeats ---- */

static struct log_site test_site = { .interval_s = 60 };

static void test_repeat(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		log_write_at(&test_site, LOG_LVL_WARNING, NULL, "trouble %u", i);
}

static void test_rate(void **state UNUSED)
{
	log_configure(&(struct log_setup){ .rate_limit = 3 });
	test_repeat(8);
	log_tell_held(false); /* the interval is not over */
	assert_int_equal(test_count(test_read(test_stderr), "WARNING trouble"), 3);
	/* It is over, and the next line tells of those before it. */
	test_site.since_us = 1;
	test_repeat(1);
	assert_non_null(strstr(test_read(test_stderr), "WARNING trouble 3 (message repeated 5 times)\n"));
	assert_int_equal(test_count(test_read(test_stderr), "WARNING trouble 0\n"), 2);
	/* No next line comes. */
	test_capture();
	test_repeat(6);
	assert_int_equal(test_count(test_read(test_stderr), "WARNING trouble"), 2);
	test_site.since_us = 1;
	log_tell_held(false);
	log_tell_held(false);
	assert_int_equal(test_count(test_read(test_stderr), "trouble 2 (message repeated 4 times)"), 1);
	/* The process ends. */
	test_capture();
	test_repeat(5);
	log_tell_held(true);
	assert_non_null(strstr(test_read(test_stderr), "trouble 3 (message repeated 2 times)"));
	/* Without a limit everything passes. */
	log_configure(&(struct log_setup){ .rate_limit = 0 });
	test_capture();
	test_repeat(50);
	test_release();
	assert_int_equal(test_count(test_read(test_stderr), "WARNING trouble"), 50);
}

static void test_rate_spares_records(void **state UNUSED)
{
	log_configure(&(struct log_setup){ .rate_limit = 1 });
	for (int i = 0; i < 5; i++) {
		log_info_about(&test_client, "a record");
		log_info("another");
		log_warning("limited");
		log_warning("limited");
		log_error_rarely(3600, "rare");
	}
	log_tell_held(true);
	test_release();
	assert_int_equal(test_count(test_read(test_stderr), "a record\n"), 5);
	assert_int_equal(test_count(test_read(test_stderr), "another\n"), 5);
	/* each place has a count of its own */
	assert_int_equal(test_count(test_read(test_stderr), "WARNING limited\n"), 2);
	assert_int_equal(test_count(test_read(test_stderr), "limited (message repeated 4 times)\n"), 2);
	assert_int_equal(test_count(test_read(test_stderr), "ERROR rare\n"), 1);
}

/* The count comes with a text as it would have been logged, without whom it was about; never with a format. */
static void test_rate_text(void **state UNUSED)
{
	static struct log_site site = { .burst = 1, .interval_s = 60 };
	static char big[1000];

	log_configure(&(struct log_setup){ .rate_limit = 0 });
	for (int i = 0; i < 3; i++) {
		errno = ENOENT;
		log_write_at(&site, LOG_LVL_WARNING, &test_client, "%s: %m, %d%%\n", "a %s of %n", i);
	}
	test_capture();
	log_tell_held(true);
	assert_non_null(strstr(test_read(test_stderr), "WARNING a %s of %n: No such file or directory, 1% (message "));
	memset(big, 'x', sizeof(big) - 1);
	log_write_at(&site, LOG_LVL_ERROR, NULL, "%s", big);
	test_capture();
	log_tell_held(true);
	test_release();
	assert_non_null(strstr(test_read(test_stderr), "ERROR xxx"));
	assert_non_null(strstr(test_read(test_stderr), "xxx (message repeated 1 times)\n"));
}

static void *test_complainer(void *arg UNUSED)
{
	test_repeat(500);
	return NULL;
}

/* Nothing is told twice, nothing is lost. */
static void test_rate_threads(void **state UNUSED)
{
	pthread_t threads[3];
	const char *p;
	unsigned long held;
	unsigned passed;

	log_configure(&(struct log_setup){ .rate_limit = 7 });
	test_site = (struct log_site){ .interval_s = 60, .listed = test_site.listed, .next = test_site.next };
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, test_complainer, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	log_tell_held(true);
	test_release();
	passed = test_count(test_read(test_stderr), "WARNING trouble") -
		 test_count(test_read(test_stderr), "message repeated");
	held = 0;
	for (p = test_read(test_stderr); (p = strstr(p, "repeated ")) != NULL; p++)
		held += strtoul(p + strlen("repeated "), NULL, 10);
	assert_int_equal(passed + held, 1500);
	assert_in_range(held, 1, 1500 - 7);
}

/* ---- what stays open ---- */

static void test_keep_open(void **state UNUSED)
{
	struct log_setup with_file = { .quiet = true, .file = test_file };
	struct log_setup other = { .quiet = true, .file = test_moved, .keep_open = true };

	log_configure(&with_file);
	log_info("one");
	log_configure(&other); /* SET logfile */
	log_info("two");
	assert_non_null(strstr(test_read(test_file), "LOG two\n"));
	assert_string_equal(test_read(test_moved), "");
	other.file = "";
	log_configure(&other);
	log_info("three");
	assert_non_null(strstr(test_read(test_file), "LOG three\n"));
	/* Where none is open, the first one is. */
	log_configure(&(struct log_setup){ .quiet = true });
	other.file = test_moved;
	log_configure(&other);
	log_info("four");
	assert_non_null(strstr(test_read(test_moved), "LOG four\n"));
}

static void test_old_file_goes_on(void **state UNUSED)
{
	log_configure(&(struct log_setup){ .quiet = true, .file = test_file });
	log_info("one");
	log_configure(&(struct log_setup){ .quiet = true, .file = "/nonexistent/dir/log" });
	log_info("two");
	assert_non_null(strstr(test_read(test_file), "ERROR could not open log file \"/nonexistent/dir/log\": No such "
						     "file or directory; going on with the old one\n"));
	assert_non_null(strstr(test_read(test_file), "LOG two\n"));
	assert_string_equal(test_read(test_stderr), "");
	/* One that was given up is no old file. */
	log_configure(&(struct log_setup){ .quiet = true });
	log_configure(&(struct log_setup){ .quiet = true, .file = "/nonexistent/dir/log" });
	log_info("three");
	test_release();
	assert_non_null(strstr(test_read(test_stderr), "LOG three\n"));
	assert_null(strstr(test_read(test_file), "three"));
}

/* ---- the journal ---- */

static int test_journal_fd = -1;
static char test_journal[64];

/* Makes descriptor 2 look like a stream into the journal. */
static void test_enter_journal(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	char env[64];

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	str_format(env, sizeof(env), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", env, 1);
	str_copy(addr.sun_path, sizeof(addr.sun_path), test_journal);
	test_journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(test_journal_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	log_set_journal(test_journal);
}

static int test_leave_journal(void **state)
{
	log_set_journal(NULL);
	unsetenv("JOURNAL_STREAM");
	close(test_journal_fd);
	unlink(test_journal);
	return teardown(state);
}

/* The next datagram must be this one. */
static void test_journal_got(const char *want, size_t n)
{
	char got[LOG_LINE_MAX];

	assert_int_equal(recv(test_journal_fd, got, sizeof(got), 0), n);
	assert_memory_equal(got, want, n);
}

static void test_to_journal(void **state UNUSED)
{
	static const char one[] = "PRIORITY=4\nSYSLOG_IDENTIFIER=test_log\nMESSAGE=hello 1\n";
	static const char two[] = "PRIORITY=6\nSYSLOG_IDENTIFIER=test_log\nMESSAGE\n"
				  "\x0c\0\0\0\0\0\0\0first\n\tsecnd\n";

	program_invocation_short_name = (char *)(uintptr_t) "test_log"; /* libtool and valgrind have other ideas */
	test_enter_journal();
	log_configure(&(struct log_setup){ .verbose = 0 });
	log_warning("hello %d", 1);
	test_journal_got(one, sizeof(one) - 1);
	log_info("first\nsecnd");
	test_journal_got(two, sizeof(two) - 1);
	assert_string_equal(test_read(test_stderr), "");
	/* Nobody there any more: stderr, with the time. */
	unlink(test_journal);
	log_info("alone");
	assert_non_null(strstr(test_read(test_stderr), "] LOG alone\n"));
	/* Switched off like stderr. */
	test_capture();
	log_configure(&(struct log_setup){ .quiet = true });
	log_info("silence");
	/* Another descriptor 2 than the one that systemd has made. */
	setenv("JOURNAL_STREAM", "1:1", 1);
	log_configure(&(struct log_setup){ .quiet = false });
	log_info("plain");
	test_release();
	assert_int_equal(test_count(test_read(test_stderr), "\n"), 1);
	assert_non_null(strstr(test_read(test_stderr), "] LOG plain\n"));
}

static void test_journal_encoder(void **state UNUSED)
{
	char out[64];

	assert_int_equal(journal_encode(out, sizeof(out), 3, "x", "abc", 3), 45 - 2);
	assert_memory_equal(out, "PRIORITY=3\nSYSLOG_IDENTIFIER=x\nMESSAGE=abc\n", 43);
	/* what does not fit as a whole is not sent */
	assert_int_equal(journal_encode(out, 46, 3, "x", "abcdefgh", 8), 0);
}

static int group_setup(void **state UNUSED)
{
	if (mkdtemp(test_dir) == NULL)
		return -1;
	str_format(test_file, sizeof(test_file), "%s/log", test_dir);
	str_format(test_moved, sizeof(test_moved), "%s/log.1", test_dir);
	str_format(test_stderr, sizeof(test_stderr), "%s/stderr", test_dir);
	str_format(test_journal, sizeof(test_journal), "%s/journal", test_dir);
	test_real_stderr = dup(STDERR_FILENO);
	return 0;
}

static int group_teardown(void **state UNUSED)
{
	unlink(test_file);
	unlink(test_moved);
	unlink(test_stderr);
	close(test_real_stderr);
	return rmdir(test_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_format, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zone_is_local, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verbosity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_multi_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_control_characters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errno_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_and_reopen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_is_not_inherited, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_fails_later, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_about, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_offset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_escapes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rate_spares_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rate_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rate_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keep_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_file_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_to_journal, setup, test_leave_journal),
		cmocka_unit_test(test_journal_encoder),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
