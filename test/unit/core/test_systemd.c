/* The two conversations with systemd, with a socket of ours in its place. */
#include "core/systemd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "core/str.h"

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(addr.sun_path, path, n);
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
			 0);
	return fd;
}

static void expect_state(int fd, const char *state)
{
	char text[256] = "";
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	assert_int_equal(n, strlen(state));
	assert_string_equal(text, state);
}

static void test_notify(void **state UNUSED)
{
	char dir[] = "/tmp/test_systemd.XXXXXX";
	char path[64];
	char abstract[64];
	int fd;

	assert_non_null(mkdtemp(dir));
	str_format(path, sizeof(path), "%s/notify", dir);
	fd = listen_at(path);
	setenv("NOTIFY_SOCKET", path, 1);
	systemd_init();
	systemd_notify("READY=1");
	systemd_notify("STATUS=%d clients", 7);
	expect_state(fd, "READY=1");
	expect_state(fd, "STATUS=7 clients");
	close(fd);
	unlink(path);
	rmdir(dir);

	str_format(abstract, sizeof(abstract), "@test_systemd.%d", (int)getpid());
	fd = listen_at(abstract);
	setenv("NOTIFY_SOCKET", abstract, 1);
	systemd_init();
	systemd_notify("STOPPING=1");
	expect_state(fd, "STOPPING=1");
	close(fd);
}

/* Nobody listens, or the address is none: nothing happens. */
static void test_notify_nobody(void **state UNUSED)
{
	static const char *const addresses[] = { "", "@", "/", "relative", "/nonexistent/notify" };
	char overlong[512];

	memset(overlong, 'a', sizeof(overlong));
	overlong[0] = '/';
	overlong[sizeof(overlong) - 1] = '\0';
	unsetenv("NOTIFY_SOCKET");
	systemd_init();
	systemd_notify("READY=1");
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		setenv("NOTIFY_SOCKET", addresses[i], 1);
		systemd_init();
		systemd_notify("READY=1");
	}
	setenv("NOTIFY_SOCKET", overlong, 1);
	systemd_init();
	systemd_notify("READY=1");
}

/* Descriptors may have run out since: the state is sent all the same. */
static void test_notify_without_descriptors(void **state UNUSED)
{
	char abstract[64];
	struct rlimit before;
	struct rlimit none;
	int fd;

	str_format(abstract, sizeof(abstract), "@test_systemd_fds.%d", (int)getpid());
	fd = listen_at(abstract);
	setenv("NOTIFY_SOCKET", abstract, 1);
	systemd_init();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	systemd_notify("WATCHDOG=1");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	expect_state(fd, "WATCHDOG=1");
	close(fd);
}

static void expect_watchdog(const char *period, const char *pid, uint64_t want_us)
{
	setenv("WATCHDOG_USEC", period, 1);
	if (pid == NULL)
		unsetenv("WATCHDOG_PID");
	else
		setenv("WATCHDOG_PID", pid, 1);
	systemd_init();
	assert_int_equal(systemd_watchdog_us(), want_us);
}

static void test_watchdog(void **state UNUSED)
{
	char abstract[64];
	char self[16];
	int fd;

	str_format(self, sizeof(self), "%d", (int)getpid());
	str_format(abstract, sizeof(abstract), "@test_systemd_dog.%d", (int)getpid());
	fd = listen_at(abstract);
	setenv("NOTIFY_SOCKET", abstract, 1);
	unsetenv("WATCHDOG_USEC");
	systemd_init();
	assert_int_equal(systemd_watchdog_us(), 0);
	expect_watchdog("20000000", self, 20000000);
	expect_watchdog("20000000", NULL, 20000000);
	expect_watchdog("20000000", "1", 0); /* meant for another process */
	expect_watchdog("20000000", "", 0);
	expect_watchdog("0", self, 0);
	expect_watchdog("-1", self, 0);
	expect_watchdog("soon", self, 0);
	unsetenv("NOTIFY_SOCKET"); /* nobody would hear it */
	expect_watchdog("20000000", self, 0);
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	close(fd);
}

static void set_listen(const char *pid, const char *count)
{
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", count, 1);
	systemd_init();
}

static void test_listen_fds(void **state UNUSED)
{
	char self[16];
	int fds[4];
	int spare = open("/dev/null", O_RDONLY);

	/* descriptors 3 and 4 exist, whatever the test's runner has open */
	assert_true(dup2(spare, 3) == 3 && dup2(spare, 4) == 4);
	str_format(self, sizeof(self), "%d", (int)getpid());
	set_listen(self, "2");
	assert_int_equal(systemd_listen_fds(fds, ARRAY_LEN(fds)), 2);
	assert_int_equal(fds[0], 3);
	assert_int_equal(fds[1], 4);
	assert_true((fcntl(3, F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(systemd_listen_fds(fds, 1), 1);
	assert_true(systemd_has_sockets());
	set_listen("1", "2"); /* meant for another process */
	assert_int_equal(systemd_listen_fds(fds, ARRAY_LEN(fds)), 0);
	assert_false(systemd_has_sockets());
	set_listen(self, "0");
	assert_int_equal(systemd_listen_fds(fds, ARRAY_LEN(fds)), 0);
	set_listen(self, "-1");
	assert_int_equal(systemd_listen_fds(fds, ARRAY_LEN(fds)), 0);
	set_listen(self, "2x");
	assert_int_equal(systemd_listen_fds(fds, ARRAY_LEN(fds)), 0);
	unsetenv("LISTEN_FDS");
	systemd_init();
	assert_int_equal(systemd_listen_fds(fds, ARRAY_LEN(fds)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_notify_nobody),
		cmocka_unit_test(test_notify_without_descriptors),
		cmocka_unit_test(test_watchdog),
		cmocka_unit_test(test_listen_fds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
