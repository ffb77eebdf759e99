/*
 * The log writes to descriptor 2 and to a file; here both are files in a
 * temporary directory that the tests read back.
 */
#include "core/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

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

static void test_limit(void **state UNUSED)
{
	struct log_limit limit = { 0 };
	uint64_t dropped = 77;

	assert_true(log_limit_pass(&limit, 3600, &dropped));
	assert_int_equal(dropped, 0);
	assert_false(log_limit_pass(&limit, 3600, &dropped));
	assert_false(log_limit_pass(&limit, 3600, &dropped));
	limit.next_us = 0; /* the hour is over */
	assert_true(log_limit_pass(&limit, 3600, &dropped));
	assert_int_equal(dropped, 2);
	limit.next_us = 0;
	assert_true(log_limit_pass(&limit, 0, &dropped));
	assert_int_equal(dropped, 0);
}

static int group_setup(void **state UNUSED)
{
	if (mkdtemp(test_dir) == NULL)
		return -1;
	str_format(test_file, sizeof(test_file), "%s/log", test_dir);
	str_format(test_moved, sizeof(test_moved), "%s/log.1", test_dir);
	str_format(test_stderr, sizeof(test_stderr), "%s/stderr", test_dir);
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
		cmocka_unit_test_setup_teardown(test_errno_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_and_reopen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_is_not_inherited, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_fails_later, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
