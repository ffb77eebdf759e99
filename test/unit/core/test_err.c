#include "core/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/clock.h"

static void test_texts(void **state UNUSED)
{
	static const int codes[] = {
#define X(code, text) code,
		ERR_TABLE(X)
#undef X
	};

	assert_string_equal(err_str(0), "no error");
	assert_string_equal(err_str(-E_PROTO), "protocol violation");
	assert_string_equal(err_str(E_PROTO), "protocol violation");
	assert_string_equal(err_str(-9999), "unknown error");
	assert_string_equal(err_str(9999), "unknown error");
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		assert_int_equal(codes[i], i + 1); /* positive, no gaps: -code is an error */
		assert_string_not_equal(err_str(-codes[i]), "unknown error");
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(err_str(codes[i]), err_str(codes[k]));
	}
}

static int hook_fd;

static void hook(void)
{
	ssize_t n UNUSED = write(hook_fd, "dumped", 6);
}

static void hook_that_asserts(void)
{
	hook();
	ASSERT(hook_fd < 0);
}

static void asserts(void)
{
	ASSERT(hook_fd == -2);
}

static void reaches(void)
{
	UNREACHABLE();
}

/* Runs fn in a child with its stderr and the hook's output in text; true when it aborted. */
static bool aborts(void (*fn)(void), void (*dump)(void), char *text, size_t size)
{
	int fds[2];
	int status;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		hook_fd = fds[1];
		base_set_dump_hook(dump);
		fn();
		_exit(0);
	}
	close(fds[1]);
	while ((n = read(fds[0], text + used, size - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_assert(void **state UNUSED)
{
	char text[4096];

	assert_true(aborts(asserts, hook, text, sizeof(text)));
	assert_non_null(strstr(text, "pgsluice: assertion failed: hook_fd == -2 ("));
	assert_non_null(strstr(text, "test_err.c:"));
	assert_non_null(strstr(text, "asserts)\n"));
	assert_non_null(strstr(text, "dumped"));
	assert_true(aborts(reaches, NULL, text, sizeof(text)));
	assert_non_null(strstr(text, "unreachable"));
	/* A hook in trouble does not call itself for ever. */
	assert_true(aborts(asserts, hook_that_asserts, text, sizeof(text)));
	assert_non_null(strstr(text, "dumped"));
	assert_null(strstr(strstr(text, "dumped") + 1, "dumped"));
}

static void test_clock(void **state UNUSED)
{
	uint64_t before = clock_mono_us();
	uint64_t after = clock_mono_us();
	char now[64];
	char later[64];

	assert_true(before > 0 && after >= before);
	assert_true(clock_wall_us() > 1600000000 * USEC_PER_SEC);
	clock_format(clock_mono_to_wall(after), now, sizeof(now));
	clock_format(clock_mono_to_wall(after + 86400 * USEC_PER_SEC), later, sizeof(later));
	assert_true(strlen(now) > strlen("2020-01-01 00:00:00 "));
	assert_string_not_equal(now, later);
	clock_format(clock_mono_to_wall(after), now, 5);
	assert_string_equal(now, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_assert),
		cmocka_unit_test(test_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
