/*
 * Each test runs the loops in their own threads, as the program does, and acts
 * as the control thread. The accept callback greets the client with the number
 * of the loop that got it and closes.
 */
#include "net/listen.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/str.h"

#define LOOPS 2

static char test_dir[] = "/tmp/test_listen.XXXXXX";
static char test_log[64];
static struct loop *test_loops[LOOPS];
static _Atomic unsigned test_accepted[LOOPS];

static void test_sleep_ms(unsigned ms)
{
	struct timespec nap = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&nap, NULL);
}

static void test_on_accept(struct loop *loop, int fd, const struct listener *from, const struct sock_addr *peer,
			   void *arg)
{
	unsigned *number = arg;
	char greeting[2] = { (char)('0' + *number), sock_addr_is_unix(&from->addr) ? 'u' : 't' };
	ssize_t n UNUSED;

	ASSERT(loop == loop_current() && loop == test_loops[*number]);
	ASSERT(sock_addr_is_unix(peer) == sock_addr_is_unix(&from->addr));
	test_accepted[*number]++;
	n = write(fd, greeting, sizeof(greeting));
	close(fd);
}

static void test_attach(struct listener_set *set)
{
	static unsigned numbers[LOOPS] = { 0, 1 };

	for (unsigned i = 0; i < LOOPS; i++)
		listener_set_attach(set, test_loops[i], test_on_accept, &numbers[i]);
}

/* Waits until all loops have done what was posted before. */
struct fence {
	struct loop_msg msg;
	_Atomic bool done;
};

static void fence_fn(struct loop *loop UNUSED, struct loop_msg *msg)
{
	CONTAINER_OF(msg, struct fence, msg)->done = true;
}

static void test_fence(void)
{
	for (unsigned i = 0; i < LOOPS; i++) {
		struct fence fence = { .msg.fn = fence_fn };

		loop_post(test_loops[i], &fence.msg);
		while (!fence.done)
			test_sleep_ms(1);
	}
}

static int setup(void **state UNUSED)
{
	for (unsigned i = 0; i < LOOPS; i++) {
		test_accepted[i] = 0;
		test_loops[i] = loop_new("test", NULL);
		loop_start_thread(test_loops[i]);
	}
	unlink(test_log);
	log_configure(&(struct log_setup){ .quiet = true, .file = test_log });
	return 0;
}

static int teardown(void **state UNUSED)
{
	for (unsigned i = 0; i < LOOPS; i++) {
		loop_stop(test_loops[i]);
		loop_join(test_loops[i]);
		loop_free(&test_loops[i]);
	}
	return 0;
}

static const char *test_read_log(void)
{
	static char text[16384];
	FILE *f = fopen(test_log, "r");
	size_t n = 0;

	if (f != NULL) {
		n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
	}
	text[n] = '\0';
	return text;
}

static struct listen_conf test_conf(const char *addrs)
{
	return (struct listen_conf){
		.addrs = addrs,
		.unix_mode = 0700,
		.tcp = { .backlog = 16, .tuning = { .keepalive = true } },
	};
}

static struct listener_set *test_open(const struct listen_conf *conf)
{
	char err[256] = "";
	struct listener_set *set = listener_set_open(conf, err, sizeof(err));

	if (set == NULL)
		fail_msg("%s", err);
	return set;
}

static void expect_error(const struct listen_conf *conf, const char *text)
{
	char err[256] = "";

	assert_null(listener_set_open(conf, err, sizeof(err)));
	assert_string_equal(err, text);
}

/* Connects; the fd, or -1 when refused. */
static int test_connect(const struct sock_addr *addr)
{
	int fd = sock_connect_start(addr, NULL);
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (fd < 0)
		return -1;
	assert_int_equal(poll(&p, 1, 5000), 1);
	if (sock_connect_result(fd) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The greeting's second byte, or 0 when none comes in time. Closes the connection. */
static char test_greeting(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char greeting[2] = { 0, 0 };

	if (poll(&p, 1, wait_ms) == 1)
		assert_int_equal(read(fd, greeting, sizeof(greeting)), 2);
	close(fd);
	return greeting[1];
}

static char test_visit(const struct sock_addr *addr)
{
	int fd = test_connect(addr);

	return fd < 0 ? '-' : test_greeting(fd, 5000);
}

static void test_tcp(void **state UNUSED)
{
	struct listen_conf conf = test_conf(" 127.0.0.1 , 127.0.0.2,, 127.0.0.1");
	struct listener_set *set = test_open(&conf);
	struct sock_addr addrs[2];
	char want[64];

	/* The one that stands there twice is opened once. */
	assert_int_equal(listener_set_count(set), 2);
	for (size_t i = 0; i < 2; i++) {
		addrs[i] = listener_set_get(set, i)->addr;
		assert_int_not_equal(sock_addr_port(&addrs[i]), 0);
		str_format(want, sizeof(want), "LOG listening on 127.0.0.%d:%u\n", (int)i + 1,
			   sock_addr_port(&addrs[i]));
		assert_non_null(strstr(test_read_log(), want));
	}
	test_attach(set);
	for (int i = 0; i < 20; i++)
		assert_int_equal(test_visit(&addrs[i % 2]), 't');
	assert_int_equal(test_accepted[0] + test_accepted[1], 20);
	listener_set_free(&set);
	assert_null(set);
	test_fence();
	assert_int_equal(test_visit(&addrs[0]), '-');
	assert_int_equal(test_visit(&addrs[1]), '-');
}

static void test_wildcard_and_names(void **state UNUSED)
{
	struct listen_conf conf = test_conf("*");
	struct listener_set *set = test_open(&conf);
	struct sock_addr local;

	assert_true(listener_set_count(set) >= 1);
	assert_int_equal(sock_addr_parse(&local, "127.0.0.1", sock_addr_port(&listener_set_get(set, 0)->addr)), 0);
	test_attach(set);
	assert_int_equal(test_visit(&local), 't');
	listener_set_free(&set);
	conf = test_conf("localhost");
	set = test_open(&conf);
	assert_true(listener_set_count(set) >= 1);
	listener_set_free(&set);
}

static void test_errors(void **state UNUSED)
{
	struct listen_conf conf = test_conf("127.0.0.1");
	struct listener_set *set = test_open(&conf);
	char label[71];
	char err[256];

	/* 192.0.2.1 is nobody's address: a warning and, when alone, an error. */
	conf.port = sock_addr_port(&listener_set_get(set, 0)->addr);
	conf.addrs = "127.0.0.1,192.0.2.1";
	expect_error(&conf, "failed to listen on any address in listen_addr list: 127.0.0.1,192.0.2.1");
	str_format(err, sizeof(err), "WARNING cannot listen on 127.0.0.1:%u: bind(): Address already in use\n",
		   conf.port);
	assert_non_null(strstr(test_read_log(), err));
	listener_set_free(&set);
	conf.addrs = "192.0.2.1,127.0.0.1";
	set = test_open(&conf);
	assert_int_equal(listener_set_count(set), 1);
	listener_set_free(&set);

	conf.port = 6432;
	memset(label, 'x', sizeof(label) - 1); /* longer than a label may be, so nobody is asked */
	label[sizeof(label) - 1] = '\0';
	conf.addrs = label;
	assert_null(listener_set_open(&conf, err, sizeof(err)));
	assert_memory_equal(err, "getaddrinfo('xxx", 16);
	assert_non_null(strstr(err, "', '6432') = "));
	conf.addrs = NULL;
	expect_error(&conf, "nowhere to listen on");
	conf.addrs = " , ";
	expect_error(&conf, "nowhere to listen on");
	conf.unix_dir = "/nonexistent";
	expect_error(&conf, "failed to create unix socket");
	assert_non_null(strstr(test_read_log(), "WARNING cannot listen on unix:/nonexistent/.s.PGSQL.6432: bind(): "));
	conf.unix_dir = test_dir;
	conf.unix_group = "no such group";
	expect_error(&conf, "could not find unix_socket_group 'no such group'");
}

/* From here on, in this process, the system does not know SO_REUSEPORT; false when it will not have it so. */
static bool forget_reuseport(void)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_REUSEPORT, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_LEN(rules), .filter = rules };
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0;
}

#define EXIT_NOT_HERE 77

static void test_no_reuseport(void **state UNUSED)
{
	struct listen_conf conf = test_conf("127.0.0.1");
	char err[256] = "";
	int status;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (!forget_reuseport())
			_exit(EXIT_NOT_HERE);
		conf.tcp.reuseport = true;
		if (listener_set_open(&conf, err, sizeof(err)) != NULL)
			_exit(1);
		_exit(strcmp(err, "so_reuseport not supported on this platform") == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == EXIT_NOT_HERE)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_unix_socket(void **state UNUSED)
{
	struct listen_conf conf = test_conf(NULL);
	struct listener_set *set;
	struct sock_addr addr;
	char path[80];
	char lock[96];
	char want[128];
	struct stat st;

	conf.port = 6432;
	conf.unix_dir = test_dir;
	set = test_open(&conf);
	str_format(path, sizeof(path), "%s/.s.PGSQL.6432", test_dir);
	str_format(want, sizeof(want), "LOG listening on unix:%s\n", path);
	assert_non_null(strstr(test_read_log(), want));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	addr = listener_set_get(set, 0)->addr;
	test_attach(set);
	assert_int_equal(test_visit(&addr), 'u');
	expect_error(&conf, "unix socket is in use, cannot continue");
	assert_int_equal(test_visit(&addr), 'u');
	listener_set_free(&set);
	assert_int_not_equal(stat(path, &st), 0);

	str_format(lock, sizeof(lock), "%s.lock", path);
	close(open(lock, O_WRONLY | O_CREAT, 0600));
	expect_error(&conf, "unix port 6432 is in use");
	unlink(lock);
}

static void test_unlink_rules(void **state UNUSED)
{
	struct listen_conf conf = test_conf(NULL);
	struct listener_set *old;
	struct listener_set *set;
	char path[80];
	struct stat st;

	conf.port = 6432;
	conf.unix_dir = test_dir;
	str_format(path, sizeof(path), "%s/.s.PGSQL.6432", test_dir);

	/* A successor's socket at our path stays. */
	old = test_open(&conf);
	unlink(path);
	set = test_open(&conf);
	listener_set_free(&old);
	assert_int_equal(stat(path, &st), 0);

	/* Quick exit: gone at once, and nothing to do later. */
	listener_set_unlink_paths(set);
	assert_int_not_equal(stat(path, &st), 0);
	listener_set_free(&set);

	/* Handed over: stays. */
	set = test_open(&conf);
	listener_set_disown_paths(set);
	listener_set_free(&set);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
}

static void test_pause_and_close(void **state UNUSED)
{
	struct listen_conf conf = test_conf("127.0.0.1");
	struct listener_set *set;
	struct sock_addr tcp, local;
	int fd;

	conf.unix_dir = test_dir;
	set = test_open(&conf);
	assert_int_equal(listener_set_count(set), 2);
	tcp = listener_set_get(set, 0)->addr;
	local = listener_set_get(set, 1)->addr;
	listener_set_pause(set);
	test_attach(set); /* a loop that comes later pauses too */
	test_fence();
	fd = test_connect(&tcp);
	assert_int_equal(test_greeting(fd, 50), 0);
	fd = test_connect(&local);
	listener_set_resume(set);
	assert_int_equal(test_greeting(fd, 5000), 'u');
	assert_int_equal(test_visit(&tcp), 't');
	listener_set_pause(set);
	test_fence();
	fd = test_connect(&tcp);
	assert_int_equal(test_greeting(fd, 50), 0);
	listener_set_resume(set);
	assert_int_equal(test_visit(&tcp), 't');

	/* A shutdown that waits closes TCP and keeps the Unix socket. */
	listener_set_close(set, LISTEN_TCP);
	test_fence();
	assert_int_equal(test_visit(&tcp), '-');
	assert_int_equal(test_visit(&local), 'u');
	assert_int_equal(listener_set_count(set), 1);
	listener_set_close(set, LISTEN_TCP);
	listener_set_close(set, LISTEN_ALL);
	test_fence();
	assert_int_equal(test_visit(&local), '-');
	assert_int_equal(listener_set_count(set), 0);
	listener_set_free(&set);
}

static unsigned test_count_log(const char *word)
{
	unsigned n = 0;

	for (const char *p = strstr(test_read_log(), word); p != NULL; p = strstr(p + 1, word))
		n++;
	return n;
}

/* Without descriptors a loop rests for 5 s and goes on by itself, or at once when resumed. */
static void test_no_descriptors(void **state UNUSED)
{
	struct listen_conf conf = test_conf("127.0.0.1");
	struct listener_set *set = test_open(&conf);
	static unsigned number;
	struct rlimit normal, tight;
	struct sock_addr addr = listener_set_get(set, 0)->addr;
	uint64_t begin_us;
	unsigned accepted;
	off_t logged;
	int log;
	int fd;

	log_info("opens the log file");
	log = open(test_log, O_RDONLY | O_CLOEXEC); /* later there is no descriptor for it */
	assert_true(log >= 0);
	listener_set_attach(set, test_loops[0], test_on_accept, &number);
	test_fence();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &normal), 0);
	tight = normal;
	for (int round = 0; round < 2; round++) {
		accepted = test_accepted[0];
		fd = sock_connect_start(&addr, NULL);
		assert_true(fd >= 0);
		close(fd);
		while (test_accepted[0] == accepted)
			test_sleep_ms(1);
		test_fence();
		/* The next connection takes the last number below the limit. */
		tight.rlim_cur = (rlim_t)dup(0);
		close((int)tight.rlim_cur);
		tight.rlim_cur++;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
		begin_us = clock_mono_us();
		logged = lseek(log, 0, SEEK_END);
		fd = sock_connect_start(&addr, NULL);
		assert_true(fd >= 0);
		while (lseek(log, 0, SEEK_END) == logged && clock_mono_us() - begin_us < 60 * USEC_PER_SEC)
			test_sleep_ms(1);
		test_fence();
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &normal), 0);
		assert_int_equal(test_count_log("ERROR accept() failed: Too many open files\n"), round + 1);
		if (round == 0) {
			listener_set_resume(set);
			assert_int_equal(test_greeting(fd, 4000), 't');
		} else {
			assert_int_equal(test_greeting(fd, 60000), 't');
			assert_true(clock_mono_us() - begin_us >= 4900000);
		}
		if (round == 0)
			test_sleep_ms(1100); /* the log line is held back within a second */
	}
	close(log);
	listener_set_free(&set);
}

static void test_adopt(void **state UNUSED)
{
	struct listen_conf conf = test_conf("127.0.0.1");
	struct listener_set *old;
	struct listener_set *set;
	struct sock_addr tcp, local;
	char err[128];
	char path[80];
	struct stat st;
	int fds[3];

	conf.port = 0;
	conf.unix_dir = test_dir;
	str_format(path, sizeof(path), "%s/.s.PGSQL.0", test_dir);
	old = test_open(&conf);
	tcp = listener_set_get(old, 0)->addr;
	local = listener_set_get(old, 1)->addr;
	for (size_t i = 0; i < 2; i++)
		fds[i] = dup(listener_set_get(old, i)->fd);
	fds[2] = socket(AF_INET, SOCK_STREAM, 0);
	assert_null(listener_set_adopt(fds, 3, &conf, true, err, sizeof(err)));
	assert_non_null(strstr(err, "is not a listening socket"));
	close(fds[2]);
	assert_null(listener_set_adopt(fds, 0, &conf, true, err, sizeof(err)));
	set = listener_set_adopt(fds, 2, &conf, true, err, sizeof(err));
	assert_non_null(set);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);

	/* The old process goes without a trace. */
	listener_set_disown_paths(old);
	listener_set_free(&old);
	test_attach(set);
	assert_int_equal(test_visit(&tcp), 't');
	assert_int_equal(test_visit(&local), 'u');
	listener_set_free(&set);
	assert_int_not_equal(stat(path, &st), 0);
}

static int group_setup(void **state UNUSED)
{
	/* As in main(): who probes whether a socket is in use leaves before we have written. */
	signal(SIGPIPE, SIG_IGN);
	if (mkdtemp(test_dir) == NULL)
		return -1;
	str_format(test_log, sizeof(test_log), "%s/log", test_dir);
	return 0;
}

static int group_teardown(void **state UNUSED)
{
	unlink(test_log);
	return rmdir(test_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wildcard_and_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_reuseport, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unix_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unlink_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause_and_close, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
