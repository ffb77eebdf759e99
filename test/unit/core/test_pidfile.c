/* The pidfile: who may start, and what is left behind. */
#include "core/pidfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "core/err.h"
#include "core/str.h"

static char dir[64];
static char path[96];

static int setup(void **state UNUSED)
{
	str_format(dir, sizeof(dir), "/tmp/test_pidfile.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	str_format(path, sizeof(path), "%s/pid", dir);
	return 0;
}

static int teardown(void **state UNUSED)
{
	unlink(path);
	return rmdir(dir);
}

static void write_file(const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static bool exists(void)
{
	return access(path, F_OK) == 0;
}

static void test_no_file(void **state UNUSED)
{
	bool stale = true;

	assert_int_equal(pidfile_check(path, &stale), 0);
	assert_false(stale);
}

static void test_write_and_remove(void **state UNUSED)
{
	struct pidfile *p = NULL;
	char text[32] = "";
	char want[32];
	int fd;

	assert_int_equal(pidfile_create(path, &p), 0);
	fd = open(path, O_RDONLY);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	str_format(want, sizeof(want), "%d\n", (int)getpid());
	assert_string_equal(text, want);
	pidfile_remove(&p);
	assert_null(p);
	assert_false(exists());
	pidfile_remove(&p);
}

static void test_second_instance(void **state UNUSED)
{
	struct pidfile *p = NULL;
	struct pidfile *other = NULL;
	bool stale;

	assert_int_equal(pidfile_create(path, &p), 0);
	/* the id is our own, which alone would mean stale: it is the lock that tells */
	assert_int_equal(pidfile_check(path, &stale), -E_EXISTS);
	assert_false(stale);
	assert_true(exists());
	assert_int_equal(pidfile_create(path, &other), -E_EXISTS);
	assert_null(other);
	pidfile_remove(&p);
}

static void test_live_process_without_lock(void **state UNUSED)
{
	char text[32];
	bool stale;

	str_format(text, sizeof(text), "%d\n", (int)getppid());
	write_file(text);
	assert_int_equal(pidfile_check(path, &stale), -E_EXISTS);
	assert_true(exists());
	unlink(path);
}

static void test_stale(void **state UNUSED)
{
	pid_t pid = fork();
	char text[32];
	bool stale;

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	str_format(text, sizeof(text), "%d\n", (int)pid);
	write_file(text);
	assert_int_equal(pidfile_check(path, &stale), 0);
	assert_true(stale);
	assert_false(exists());
}

static void test_own_id_from_an_earlier_life(void **state UNUSED)
{
	char text[32];
	bool stale;

	str_format(text, sizeof(text), "%d\n", (int)getpid());
	write_file(text);
	assert_int_equal(pidfile_check(path, &stale), 0);
	assert_true(stale);
}

static void test_garbage_is_not_removed(void **state UNUSED)
{
	static const char *const texts[] = { "",     "\n", "abc\n", "12x\n", "-5\n", "0\n", "99999999999999999999\n",
					     "5 6\n" };
	bool stale;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		write_file(texts[i]);
		assert_int_equal(pidfile_check(path, &stale), -E_EXISTS);
		assert_true(exists());
	}
	unlink(path);
}

static void test_file_of_another_is_left(void **state UNUSED)
{
	struct pidfile *p = NULL;

	assert_int_equal(pidfile_create(path, &p), 0);
	unlink(path);
	write_file("1\n");
	pidfile_remove(&p);
	assert_true(exists());
	unlink(path);
}

static void test_no_directory(void **state UNUSED)
{
	struct pidfile *p = NULL;

	assert_int_equal(pidfile_create("/nonexistent/dir/pid", &p), -E_SYS);
	assert_null(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_write_and_remove),
		cmocka_unit_test(test_second_instance),
		cmocka_unit_test(test_live_process_without_lock),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_own_id_from_an_earlier_life),
		cmocka_unit_test(test_garbage_is_not_removed),
		cmocka_unit_test(test_file_of_another_is_left),
		cmocka_unit_test(test_no_directory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
