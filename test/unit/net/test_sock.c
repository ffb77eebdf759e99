#include "net/sock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/str.h"

static char test_dir[] = "/tmp/test_sock.XXXXXX";
static const struct sock_listen_opts plain_opts = { .backlog = 8 };

static void expect_texts(const struct sock_addr *addr, const char *host, const char *log_host, const char *whole)
{
	char text[SOCK_ADDR_TEXT];

	assert_int_equal(sock_addr_host(addr, text, sizeof(text)), strlen(host));
	assert_string_equal(text, host);
	assert_int_equal(sock_addr_log_host(addr, 0, text, sizeof(text)), strlen(log_host));
	assert_string_equal(text, log_host);
	assert_int_equal(sock_addr_format(addr, text, sizeof(text)), strlen(whole));
	assert_string_equal(text, whole);
}

static void test_literals(void **state UNUSED)
{
	static const char *const bad[] = {
		"",          "localhost", "1.2.3",
		"1.2.3.4.5", "256.1.1.1", "[::1",
		"[]",        "::1]",      "1.2.3.4 ",
		"[1.2.3.4]", "::g",       "@abstract",
		"/path",     "fe80::%",   "fe80::%no",
		"::1%lo%lo", "0x7f.1",    "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"
	};
	struct sock_addr addr;

	assert_int_equal(sock_addr_parse(&addr, "192.0.2.1", 5432), 0);
	expect_texts(&addr, "192.0.2.1", "192.0.2.1", "192.0.2.1:5432");
	assert_int_equal(sock_addr_port(&addr), 5432);
	assert_int_equal(sock_addr_parse(&addr, "2001:DB8:0::1", 6432), 0);
	expect_texts(&addr, "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:6432");
	assert_int_equal(sock_addr_parse(&addr, "[::1]", 1), 0);
	expect_texts(&addr, "::1", "[::1]", "[::1]:1");
	assert_int_equal(sock_addr_parse(&addr, "fe80::1%lo", 1), 0);
	assert_int_equal(addr.u.in6.sin6_scope_id, 1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(sock_addr_parse(&addr, bad[i], 1), -E_SYNTAX);
}

static void test_unix_names(void **state UNUSED)
{
	struct sock_addr addr;
	char path[200];
	char text[SOCK_ADDR_TEXT];

	assert_int_equal(sock_addr_set_unix_dir(&addr, "/tmp", 6432), 0);
	expect_texts(&addr, "unix", "unix", "unix:/tmp/.s.PGSQL.6432");
	assert_int_equal(sock_addr_port(&addr), 0);
	sock_addr_log_host(&addr, 77, text, sizeof(text));
	assert_string_equal(text, "unix(77)");
	assert_int_equal(sock_addr_set_unix_dir(&addr, "@pool", 6432), 0);
	expect_texts(&addr, "unix", "unix", "unix:@pool/.s.PGSQL.6432");
	assert_int_equal(addr.u.un.sun_path[0], '\0');
	assert_int_equal(addr.len, offsetof(struct sockaddr_un, sun_path) + strlen("@pool/.s.PGSQL.6432"));

	/* 107 bytes and the NUL fit, one more does not. */
	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[107] = '\0';
	assert_int_equal(sock_addr_set_unix(&addr, path), 0);
	sock_addr_path(&addr, text, sizeof(text));
	assert_string_equal(text, path);
	path[107] = 'p';
	path[108] = '\0';
	assert_int_equal(sock_addr_set_unix(&addr, path), -E_TOOBIG);
	path[100] = '\0';
	assert_int_equal(sock_addr_set_unix_dir(&addr, path, 5432), -E_TOOBIG);
	path[108] = 'p';
	path[100] = 'p';
	path[199] = '\0';
	assert_int_equal(sock_addr_set_unix_dir(&addr, path, 5432), -E_TOOBIG);
}

static void test_none(void **state UNUSED)
{
	struct sock_addr addr;
	struct sock_addr other;

	memset(&addr, 0, sizeof(addr));
	assert_false(sock_addr_is_unix(&addr));
	expect_texts(&addr, "none", "none", "none:0");
	assert_int_equal(sock_addr_parse(&other, "0.0.0.0", 0), 0);
	assert_false(sock_addr_equal(&addr, &other));
}

/* Texts are cut where the room ends, never written past it. */
static void test_texts_are_cut(void **state UNUSED)
{
	struct sock_addr addr;
	char text[8];

	memset(text, 'x', sizeof(text));
	assert_int_equal(sock_addr_parse(&addr, "192.0.2.1", 5432), 0);
	assert_int_equal(sock_addr_format(&addr, text, 5), 4);
	assert_string_equal(text, "192.");
	assert_int_equal(text[5], 'x');
}

static void test_compare(void **state UNUSED)
{
	static const char *const names[] = { "192.0.2.1", "192.0.2.2", "::1", "fe80::1%lo", "/a", "/ab", "@a", "@ab" };
	struct sock_addr addrs[ARRAY_LEN(names)];
	struct sock_addr other;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (sock_addr_parse(&addrs[i], names[i], 7) != 0)
			assert_int_equal(sock_addr_set_unix(&addrs[i], names[i]), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (size_t k = 0; k < ARRAY_LEN(names); k++)
			assert_int_equal(sock_addr_equal(&addrs[i], &addrs[k]), i == k);
	other = addrs[2];
	sock_addr_set_port(&other, 8);
	assert_int_equal(sock_addr_port(&other), 8);
	assert_false(sock_addr_equal(&other, &addrs[2]));
	assert_true(sock_addr_same_host(&other, &addrs[2]));
}

static void test_set(void **state UNUSED)
{
	struct sockaddr_storage storage;
	struct sock_addr addr;
	struct sock_addr copy;

	memset(&storage, 0, sizeof(storage));
	assert_int_equal(sock_addr_parse(&addr, "::2", 9), 0);
	assert_true(sock_addr_set(&copy, &addr.u.sa, addr.len));
	assert_true(sock_addr_equal(&addr, &copy));
	assert_false(sock_addr_set(&copy, &addr.u.sa, 8));
	assert_false(sock_addr_set(&copy, (struct sockaddr *)&storage, sizeof(storage)));
	storage.ss_family = AF_PACKET;
	assert_false(sock_addr_set(&copy, (struct sockaddr *)&storage, 16));
}

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	assert_int_equal(poll(&p, 1, 5000), 1);
}

static int listen_local(const char *ip, const struct sock_listen_opts *opts, struct sock_addr *addr)
{
	const char *call;
	int fd;

	assert_int_equal(sock_addr_parse(addr, ip, 0), 0);
	fd = sock_listen_tcp(addr, opts, &call);
	assert_true(fd >= 0);
	assert_int_equal(sock_local_addr(fd, addr), 0);
	return fd;
}

static int connect_to(const struct sock_addr *addr, const struct sock_tuning *tuning)
{
	int fd = sock_connect_start(addr, tuning);

	assert_true(fd >= 0);
	wait_for(fd, POLLOUT);
	assert_int_equal(sock_connect_result(fd), 0);
	return fd;
}

static int accept_from(int listen_fd, struct sock_addr *peer)
{
	int fd;

	wait_for(listen_fd, POLLIN);
	fd = sock_accept(listen_fd, peer);
	assert_true(fd >= 0);
	return fd;
}

static int get_option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void expect_private(int fd)
{
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void test_tcp_pair(void **state UNUSED)
{
	struct sock_addr addr, peer, other;
	int l = listen_local("127.0.0.1", &plain_opts, &addr);
	int c, s;

	assert_int_equal(sock_accept(l, &peer), -E_AGAIN);
	c = connect_to(&addr, NULL);
	s = accept_from(l, &peer);
	expect_private(l);
	expect_private(c);
	expect_private(s);
	assert_int_equal(sock_local_addr(c, &other), 0);
	assert_true(sock_addr_equal(&other, &peer));
	assert_int_equal(sock_remote_addr(c, &other), 0);
	assert_true(sock_addr_equal(&other, &addr));
	assert_int_equal(sock_remote_addr(l, &other), -E_SYS);
	assert_int_equal(other.len, 0);
	assert_int_equal(sock_peer_cred(s, NULL, NULL), -E_SYS);
	close(c);
	close(s);
	close(l);
}

/* IPv4 through a socket for both protocols is IPv4 to whoever asks. */
static void test_mapped_addresses(void **state UNUSED)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	struct sock_addr bound, addr, peer, other;
	struct sock_peer kept;
	struct sock_addr given;
	int off = 0;
	int l = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int c, s;

	assert_int_equal(sock_addr_parse(&addr, "::ffff:192.0.2.1", 5432), 0);
	expect_texts(&addr, "192.0.2.1", "192.0.2.1", "192.0.2.1:5432");
	any.sin6_port = htons(77);
	assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.2", &any.sin6_addr), 1);
	assert_true(sock_addr_set(&addr, (const struct sockaddr *)&any, sizeof(any)));
	expect_texts(&addr, "192.0.2.2", "192.0.2.2", "192.0.2.2:77");
	assert_int_equal(sock_addr_parse(&addr, "::fffe:192.0.2.1", 1), 0);
	assert_int_equal(addr.u.sa.sa_family, AF_INET6);
	any = (struct sockaddr_in6){ .sin6_family = AF_INET6 };
	if (l < 0 || setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0 ||
	    bind(l, (const struct sockaddr *)&any, sizeof(any)) != 0)
		skip();
	assert_int_equal(listen(l, 8), 0);
	assert_int_equal(sock_local_addr(l, &bound), 0);
	assert_int_equal(bound.u.sa.sa_family, AF_INET6);
	assert_int_equal(sock_addr_parse(&addr, "127.0.0.1", sock_addr_port(&bound)), 0);
	c = connect_to(&addr, NULL);
	s = accept_from(l, &peer);
	assert_int_equal(sock_local_addr(c, &other), 0);
	assert_true(sock_addr_equal(&peer, &other));
	assert_int_equal(sock_remote_addr(s, &other), 0);
	assert_true(sock_addr_equal(&peer, &other));
	assert_int_equal(sock_local_addr(s, &other), 0);
	assert_true(sock_addr_equal(&addr, &other));
	sock_peer_set(&kept, &peer);
	assert_int_equal(kept.family, AF_INET);
	sock_peer_get(&kept, &given);
	assert_true(sock_addr_equal(&peer, &given));
	close(c);
	close(s);
	close(l);
}

static void test_v6_only(void **state UNUSED)
{
	struct sock_addr addr;
	struct sock_addr v4;
	const char *call;
	int l6, l4;

	assert_int_equal(sock_addr_parse(&addr, "::", 0), 0);
	l6 = sock_listen_tcp(&addr, &plain_opts, &call);
	if (l6 < 0) {
		assert_string_equal(call, "socket");
		skip();
	}
	assert_int_equal(get_option(l6, IPPROTO_IPV6, IPV6_V6ONLY), 1);
	/* So the same port is free for IPv4. */
	assert_int_equal(sock_local_addr(l6, &addr), 0);
	assert_int_equal(sock_addr_parse(&v4, "0.0.0.0", sock_addr_port(&addr)), 0);
	l4 = sock_listen_tcp(&v4, &plain_opts, &call);
	assert_true(l4 >= 0);
	close(l4);
	close(l6);
}

static void test_listen_fails(void **state UNUSED)
{
	struct sock_addr addr;
	const char *call = NULL;
	int l = listen_local("127.0.0.1", &plain_opts, &addr);

	assert_int_equal(sock_listen_tcp(&addr, &plain_opts, &call), -E_SYS);
	assert_int_equal(errno, EADDRINUSE);
	assert_string_equal(call, "bind");
	close(l);
}

static void test_reuseport(void **state UNUSED)
{
	struct sock_listen_opts opts = { .backlog = 8, .reuseport = true };
	struct sock_addr addr;
	const char *call;
	int a = listen_local("127.0.0.1", &opts, &addr);
	int b = sock_listen_tcp(&addr, &opts, &call);

	assert_true(b >= 0);
	close(a);
	close(b);
}

static const struct sock_tuning some_tuning = {
	.keepalive = true,
	.keepidle_s = 33,
	.keepintvl_s = 7,
	.keepcnt = 4,
	.user_timeout_ms = 4321,
	.buffer_bytes = 20000,
};

static void expect_tuned(int fd)
{
	assert_int_equal(get_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(get_option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 33);
	assert_int_equal(get_option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 7);
	assert_int_equal(get_option(fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
	assert_int_equal(get_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 4321);
	assert_int_equal(get_option(fd, SOL_SOCKET, SO_SNDBUF), 40000);
	assert_int_equal(get_option(fd, SOL_SOCKET, SO_RCVBUF), 40000);
}

/* What the design of accepting rests on: Linux hands all these options down. */
static void test_options_are_inherited(void **state UNUSED)
{
	struct sock_listen_opts opts = { .backlog = 8, .tuning = some_tuning };
	struct sock_addr addr, peer;
	int l = listen_local("127.0.0.1", &opts, &addr);
	int c = connect_to(&addr, &some_tuning);
	int s = accept_from(l, &peer);

	expect_tuned(c);
	expect_tuned(s);
	close(c);
	close(s);
	close(l);
}

/* A reload reaches the connections accepted after it, zeros included. */
static void test_retune(void **state UNUSED)
{
	static const struct {
		int level;
		int name;
	} numbers[] = {
		{ SOL_SOCKET, SO_KEEPALIVE }, { IPPROTO_TCP, TCP_KEEPIDLE },     { IPPROTO_TCP, TCP_KEEPINTVL },
		{ IPPROTO_TCP, TCP_KEEPCNT }, { IPPROTO_TCP, TCP_USER_TIMEOUT }, { IPPROTO_TCP, TCP_DEFER_ACCEPT },
		{ SOL_SOCKET, SO_SNDBUF },    { SOL_SOCKET, SO_RCVBUF },
	};
	struct sock_listen_opts opts = { .backlog = 8 };
	struct sock_addr addr;
	int fresh = listen_local("127.0.0.1", &opts, &addr);
	int l = listen_local("127.0.0.1", &opts, &addr);

	opts.tuning = some_tuning;
	opts.defer_accept = true;
	assert_int_equal(sock_retune_listen(l, &opts), 0);
	expect_tuned(l);
	assert_int_equal(get_option(l, IPPROTO_TCP, TCP_DEFER_ACCEPT), 1);
	assert_int_equal(sock_retune_listen(l, &plain_opts), 0);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		assert_int_equal(get_option(l, numbers[i].level, numbers[i].name),
				 get_option(fresh, numbers[i].level, numbers[i].name));
	close(l);
	close(fresh);
}

/* What the system refuses is reported, and the rest is set all the same. */
static void test_bad_option(void **state UNUSED)
{
	struct sock_tuning tuning = some_tuning;
	struct sock_addr addr;
	int l, c;

	tuning.keepidle_s = 1000000;
	l = listen_local("127.0.0.1", &plain_opts, &addr);
	assert_int_equal(sock_tune(l, &tuning), -E_SYS);
	assert_int_equal(get_option(l, IPPROTO_TCP, TCP_KEEPINTVL), 7);
	c = connect_to(&addr, &tuning);
	close(c);
	close(l);
}

static void test_connect_refused(void **state UNUSED)
{
	struct sock_addr addr;
	int l = listen_local("127.0.0.1", &plain_opts, &addr);
	int c;

	close(l);
	c = sock_connect_start(&addr, NULL);
	if (c >= 0) {
		wait_for(c, POLLOUT);
		assert_int_equal(sock_connect_result(c), -E_SYS);
		close(c);
	}
	assert_int_equal(errno, ECONNREFUSED);
}

static void test_connect_is_under_way(void **state UNUSED)
{
	struct sock_addr addr;
	struct sock_listen_opts opts = { .backlog = 0 };
	int l = listen_local("127.0.0.1", &opts, &addr);
	int c[8];
	bool pending = false;

	/* Once the queue is full, the kernel ignores the next one for a while. */
	for (size_t i = 0; i < ARRAY_LEN(c); i++) {
		c[i] = sock_connect_start(&addr, NULL);
		assert_true(c[i] >= 0);
		pending = pending || sock_connect_result(c[i]) == -E_AGAIN;
	}
	assert_true(pending);
	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		close(c[i]);
	close(l);
}

static void test_self_connect(void **state UNUSED)
{
	struct sock_addr addr;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(sock_addr_parse(&addr, "127.0.0.1", 0), 0);
	assert_int_equal(bind(fd, &addr.u.sa, addr.len), 0);
	assert_int_equal(sock_local_addr(fd, &addr), 0);
	assert_int_equal(connect(fd, &addr.u.sa, addr.len), 0);
	assert_int_equal(sock_connect_result(fd), -E_SYS);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
}

static void unix_path(struct sock_addr *addr, char *path, size_t size, const char *name)
{
	str_format(path, size, "%s/%s", test_dir, name);
	assert_int_equal(sock_addr_set_unix(addr, path), 0);
}

static void test_unix_listen(void **state UNUSED)
{
	struct sock_addr addr, peer;
	char path[64];
	struct stat st;
	const char *call;
	uid_t uid = 12345;
	pid_t pid = 0;
	int l, c, s;

	unix_path(&addr, path, sizeof(path), "sock");
	assert_false(sock_unix_is_served(&addr));
	l = sock_listen_unix(&addr, 0640, NULL, 8, &call);
	assert_true(l >= 0);
	expect_private(l);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_true(sock_unix_is_served(&addr));
	close(accept_from(l, &peer));

	c = connect_to(&addr, &some_tuning);
	s = accept_from(l, &peer);
	expect_texts(&peer, "unix", "unix", "unix");
	assert_int_equal(sock_peer_cred(s, &uid, &pid), 0);
	assert_int_equal(uid, getuid());
	assert_int_equal(pid, getpid());
	assert_int_equal(sock_peer_cred(c, NULL, NULL), 0);
	close(c);
	close(s);

	/* Somebody serves it: left alone. */
	assert_int_equal(sock_listen_unix(&addr, 0777, NULL, 8, &call), -E_EXISTS);
	close(accept_from(l, &peer));
	c = connect_to(&addr, NULL);
	close(c);
	close(l);

	/* Nobody does any more: replaced. */
	assert_int_equal(stat(path, &st), 0);
	assert_false(sock_unix_is_served(&addr));
	l = sock_listen_unix(&addr, 0777, NULL, 8, &call);
	assert_true(l >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0777);
	close(l);
	unlink(path);
}

/* A server whose queue is full is still a server. */
static void test_unix_full_queue(void **state UNUSED)
{
	struct sock_addr addr;
	char path[64];
	const char *call;
	int c[8];
	int l;

	unix_path(&addr, path, sizeof(path), "full");
	l = sock_listen_unix(&addr, 0777, NULL, 0, &call);
	assert_true(l >= 0);
	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		c[i] = sock_connect_start(&addr, NULL);
	assert_int_equal(c[ARRAY_LEN(c) - 1], -E_SYS);
	assert_true(sock_unix_is_served(&addr));
	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		if (c[i] >= 0)
			close(c[i]);
	close(l);
	unlink(path);
}

static void test_unix_lock_file(void **state UNUSED)
{
	struct sock_addr addr;
	char path[64];
	char lock[80];
	const char *call;
	int fd;

	unix_path(&addr, path, sizeof(path), "locked");
	str_format(lock, sizeof(lock), "%s.lock", path);
	assert_false(sock_unix_is_locked(&addr));
	fd = open(lock, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_true(sock_unix_is_locked(&addr));
	assert_int_equal(sock_listen_unix(&addr, 0777, NULL, 8, &call), -E_EXISTS);
	unlink(lock);
}

/* A file that is no socket is never removed. */
static void test_unix_foreign_file(void **state UNUSED)
{
	struct sock_addr addr;
	char path[64];
	struct stat st;
	const char *call;
	int fd;

	unix_path(&addr, path, sizeof(path), "file");
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(sock_listen_unix(&addr, 0777, NULL, 8, &call), -E_SYS);
	assert_int_equal(errno, EADDRINUSE);
	assert_string_equal(call, "bind");
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	unlink(path);
}

static void test_unix_group(void **state UNUSED)
{
	struct sock_addr addr;
	char path[64];
	char group[16];
	struct stat st;
	const char *call;
	int l;

	unix_path(&addr, path, sizeof(path), "group");
	assert_int_equal(sock_listen_unix(&addr, 0777, "no such group", 8, &call), -E_NOENT);
	assert_int_equal(sock_listen_unix(&addr, 0777, "12x", 8, &call), -E_NOENT);
	assert_int_equal(sock_listen_unix(&addr, 0777, "-1", 8, &call), -E_NOENT);
	assert_int_equal(sock_listen_unix(&addr, 0777, "4294967295", 8, &call), -E_NOENT);
	assert_int_not_equal(stat(path, &st), 0);
	str_format(group, sizeof(group), "%u", geteuid() == 0 ? 12345 : (unsigned)getegid());
	l = sock_listen_unix(&addr, 0777, group, 8, &call);
	assert_true(l >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_gid, atoi(group));
	close(l);
	unlink(path);
}

static void test_unix_abstract(void **state UNUSED)
{
	struct sock_addr addr, other;
	char name[64];
	char text[SOCK_ADDR_TEXT];
	const char *call;
	int l;

	str_format(name, sizeof(name), "@%s", test_dir);
	assert_int_equal(sock_addr_set_unix(&addr, name), 0);
	l = sock_listen_unix(&addr, 0600, "no such group", 8, &call);
	assert_true(l >= 0);
	assert_int_equal(sock_local_addr(l, &other), 0);
	assert_true(sock_addr_equal(&addr, &other));
	sock_addr_path(&other, text, sizeof(text));
	assert_string_equal(text, name);
	assert_true(sock_unix_is_served(&addr));
	assert_false(sock_unix_is_locked(&addr));
	assert_int_equal(sock_listen_unix(&addr, 0600, NULL, 8, &call), -E_EXISTS);
	close(l);
	assert_false(sock_unix_is_served(&addr));
}

static int group_setup(void **state UNUSED)
{
	return mkdtemp(test_dir) == NULL ? -1 : 0;
}

static int group_teardown(void **state UNUSED)
{
	return rmdir(test_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_literals),
		cmocka_unit_test(test_unix_names),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_texts_are_cut),
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_tcp_pair),
		cmocka_unit_test(test_mapped_addresses),
		cmocka_unit_test(test_v6_only),
		cmocka_unit_test(test_listen_fails),
		cmocka_unit_test(test_reuseport),
		cmocka_unit_test(test_options_are_inherited),
		cmocka_unit_test(test_retune),
		cmocka_unit_test(test_bad_option),
		cmocka_unit_test(test_connect_refused),
		cmocka_unit_test(test_connect_is_under_way),
		cmocka_unit_test(test_self_connect),
		cmocka_unit_test(test_unix_listen),
		cmocka_unit_test(test_unix_full_queue),
		cmocka_unit_test(test_unix_lock_file),
		cmocka_unit_test(test_unix_foreign_file),
		cmocka_unit_test(test_unix_group),
		cmocka_unit_test(test_unix_abstract),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
