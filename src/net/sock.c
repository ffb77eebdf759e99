/*
 * Sockets.
 *
 * Options cost a system call each, so they are set where one call serves many
 * connections: what Linux lets an accepted socket inherit from the listening
 * one (keepalive and its times, TCP_NODELAY, TCP_USER_TIMEOUT, the buffers) is
 * set there. Its unit test proves the inheritance.
 *
 * A listening socket is tuned again at a reload, and a 0 then means "as the
 * system has it" again. The kernel has no such request, so the value is read
 * from a fresh socket that nobody has touched.
 */
#include "net/sock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/stat.h>

#include "core/err.h"
#include "core/log.h"
#include "core/str.h"

/* The kernel wakes us for a connection without data after about this time. */
#define SOCK_DEFER_ACCEPT_S  1

/* Dead connections skipped by one sock_accept(). */
#define SOCK_ACCEPT_SKIP_MAX 16

/* From which the name of a Unix socket counts. */
#define SOCK_UN_HEAD         offsetof(struct sockaddr_un, sun_path)

/* Addresses -------------------------------------------------------------- */

/*
 * A socket for both protocols, as a service manager may pass one, shows an IPv4 peer as ::ffff:a.b.c.d. Rules, budgets
 * and logs must know him as what he is, so no address of ours stays like that.
 */
static void sock_addr_unmap(struct sock_addr *addr)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (addr->len < sizeof(addr->u.in6) || addr->u.sa.sa_family != AF_INET6 ||
	    !IN6_IS_ADDR_V4MAPPED(&addr->u.in6.sin6_addr))
		return;
	memcpy(&in.sin_addr, addr->u.in6.sin6_addr.s6_addr + 12, sizeof(in.sin_addr));
	in.sin_port = addr->u.in6.sin6_port;
	memset(addr, 0, sizeof(*addr));
	addr->u.in = in;
	addr->len = sizeof(in);
}

static void sock_addr_set_in6(struct sock_addr *addr, const struct in6_addr *ip, uint32_t scope, uint16_t port)
{
	memset(addr, 0, sizeof(*addr));
	addr->u.in6.sin6_family = AF_INET6;
	addr->u.in6.sin6_addr = *ip;
	addr->u.in6.sin6_scope_id = scope;
	addr->u.in6.sin6_port = htons(port);
	addr->len = sizeof(addr->u.in6);
}

static int sock_addr_parse_v6(struct sock_addr *addr, struct slice s, uint16_t port)
{
	char text[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE];
	struct in6_addr ip;
	uint32_t scope = 0;
	char *zone;

	if (s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
		s = slice_make(s.p + 1, s.n - 2);
	if (!str_copy_slice(text, sizeof(text), s) || strlen(text) != s.n)
		return -E_SYNTAX;
	zone = strchr(text, '%');
	if (zone != NULL) {
		*zone++ = '\0';
		scope = if_nametoindex(zone);
		if (scope == 0)
			return -E_SYNTAX;
	}
	if (inet_pton(AF_INET6, text, &ip) != 1)
		return -E_SYNTAX;
	sock_addr_set_in6(addr, &ip, scope, port);
	sock_addr_unmap(addr);
	return 0;
}

int sock_addr_parse(struct sock_addr *addr, const char *literal, uint16_t port)
{
	struct in_addr ip;

	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, literal, &ip) != 1)
		return sock_addr_parse_v6(addr, slice_of(literal), port);
	addr->u.in.sin_family = AF_INET;
	addr->u.in.sin_addr = ip;
	addr->u.in.sin_port = htons(port);
	addr->len = sizeof(addr->u.in);
	return 0;
}

int sock_addr_set_unix(struct sock_addr *addr, const char *path)
{
	size_t n = strlen(path);

	memset(addr, 0, sizeof(*addr));
	if (n >= sizeof(addr->u.un.sun_path))
		return -E_TOOBIG;
	addr->u.un.sun_family = AF_UNIX;
	memcpy(addr->u.un.sun_path, path, n);
	if (path[0] == '@')
		addr->u.un.sun_path[0] = '\0';
	else
		n++; /* the NUL counts for a path, not for an abstract name */
	addr->len = (socklen_t)(SOCK_UN_HEAD + n);
	return 0;
}

int sock_addr_set_unix_dir(struct sock_addr *addr, const char *dir, uint16_t port)
{
	char path[sizeof(addr->u.un.sun_path) + 1] = "";

	if (!str_append(path, sizeof(path), "%s/.s.PGSQL.%u", dir, port))
		return -E_TOOBIG;
	return sock_addr_set_unix(addr, path);
}

int sock_addr_set_host(struct sock_addr *addr, const char *host, uint16_t port)
{
	return sock_host_is_unix(host) ? sock_addr_set_unix_dir(addr, host, port) : sock_addr_parse(addr, host, port);
}

bool sock_addr_set(struct sock_addr *addr, const struct sockaddr *sa, socklen_t len)
{
	memset(addr, 0, sizeof(*addr));
	if (len > sizeof(addr->u) || len < SOCK_UN_HEAD)
		return false;
	if (sa->sa_family == AF_INET ? len < sizeof(addr->u.in) : sa->sa_family != AF_INET6 && sa->sa_family != AF_UNIX)
		return false;
	if (sa->sa_family == AF_INET6 && len < sizeof(addr->u.in6))
		return false;
	memcpy(&addr->u, sa, len);
	addr->len = len;
	sock_addr_unmap(addr);
	return true;
}

static int sock_addr_family(const struct sock_addr *addr)
{
	return addr->len == 0 ? AF_UNSPEC : addr->u.sa.sa_family;
}

uint16_t sock_addr_port(const struct sock_addr *addr)
{
	switch (sock_addr_family(addr)) {
	case AF_INET:
		return ntohs(addr->u.in.sin_port);
	case AF_INET6:
		return ntohs(addr->u.in6.sin6_port);
	default:
		return 0;
	}
}

void sock_addr_set_port(struct sock_addr *addr, uint16_t port)
{
	if (sock_addr_family(addr) == AF_INET)
		addr->u.in.sin_port = htons(port);
	else if (sock_addr_family(addr) == AF_INET6)
		addr->u.in6.sin6_port = htons(port);
}

/* The name of a Unix socket as it lies in the address: an abstract one begins with NUL. */
static struct slice sock_addr_un_name(const struct sock_addr *addr)
{
	const char *path = addr->u.un.sun_path;
	size_t n;

	if (!sock_addr_is_unix(addr) || addr->len <= SOCK_UN_HEAD)
		return slice_make(NULL, 0);
	n = addr->len - SOCK_UN_HEAD;
	return slice_make(path, path[0] == '\0' ? n : strnlen(path, n));
}

bool sock_addr_same_host(const struct sock_addr *a, const struct sock_addr *b)
{
	if (sock_addr_family(a) != sock_addr_family(b))
		return false;
	switch (sock_addr_family(a)) {
	case AF_INET:
		return a->u.in.sin_addr.s_addr == b->u.in.sin_addr.s_addr;
	case AF_INET6:
		return IN6_ARE_ADDR_EQUAL(&a->u.in6.sin6_addr, &b->u.in6.sin6_addr) &&
		       a->u.in6.sin6_scope_id == b->u.in6.sin6_scope_id;
	case AF_UNIX:
		return slice_eq(sock_addr_un_name(a), sock_addr_un_name(b));
	default:
		return true;
	}
}

bool sock_addr_equal(const struct sock_addr *a, const struct sock_addr *b)
{
	return sock_addr_same_host(a, b) && sock_addr_port(a) == sock_addr_port(b);
}

size_t sock_addr_host(const struct sock_addr *addr, char *dst, size_t size)
{
	char ip[INET6_ADDRSTRLEN] = "";

	switch (sock_addr_family(addr)) {
	case AF_INET:
		inet_ntop(AF_INET, &addr->u.in.sin_addr, ip, sizeof(ip));
		return str_format(dst, size, "%s", ip);
	case AF_INET6:
		inet_ntop(AF_INET6, &addr->u.in6.sin6_addr, ip, sizeof(ip));
		return str_format(dst, size, "%s", ip);
	case AF_UNIX:
		return str_format(dst, size, "unix");
	default:
		return str_format(dst, size, "none");
	}
}

size_t sock_addr_log_host(const struct sock_addr *addr, pid_t pid, char *dst, size_t size)
{
	char host[INET6_ADDRSTRLEN];

	sock_addr_host(addr, host, sizeof(host));
	if (sock_addr_family(addr) == AF_INET6)
		return str_format(dst, size, "[%s]", host);
	if (sock_addr_family(addr) == AF_UNIX && pid != 0)
		return str_format(dst, size, "unix(%d)", (int)pid);
	return str_format(dst, size, "%s", host);
}

size_t sock_addr_path(const struct sock_addr *addr, char *dst, size_t size)
{
	struct slice name = sock_addr_un_name(addr);

	str_copy_slice(dst, size, name);
	if (name.n > 0 && name.p[0] == '\0' && size > 1)
		dst[0] = '@';
	return strlen(dst);
}

size_t sock_addr_format(const struct sock_addr *addr, char *dst, size_t size)
{
	char text[SOCK_ADDR_TEXT];

	if (!sock_addr_is_unix(addr)) {
		sock_addr_log_host(addr, 0, text, sizeof(text));
		return str_format(dst, size, "%s:%u", text, sock_addr_port(addr));
	}
	if (sock_addr_path(addr, text, sizeof(text)) == 0)
		return str_format(dst, size, "unix");
	return str_format(dst, size, "unix:%s", text);
}

/* Options ---------------------------------------------------------------- */

/* Options that are plain numbers. */
static const struct sock_option {
	int level;
	int name;
	size_t offset; /* of the value in struct sock_tuning */
	const char *text;
} sock_options[] = {
	{ IPPROTO_TCP, TCP_KEEPIDLE, offsetof(struct sock_tuning, keepidle_s), "TCP_KEEPIDLE" },
	{ IPPROTO_TCP, TCP_KEEPINTVL, offsetof(struct sock_tuning, keepintvl_s), "TCP_KEEPINTVL" },
	{ IPPROTO_TCP, TCP_KEEPCNT, offsetof(struct sock_tuning, keepcnt), "TCP_KEEPCNT" },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, offsetof(struct sock_tuning, user_timeout_ms), "TCP_USER_TIMEOUT" },
	{ SOL_SOCKET, SO_SNDBUF, offsetof(struct sock_tuning, buffer_bytes), "SO_SNDBUF" },
	{ SOL_SOCKET, SO_RCVBUF, offsetof(struct sock_tuning, buffer_bytes), "SO_RCVBUF" },
};

static int sock_set_option(int fd, int level, int name, int value, const char *text)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)) == 0)
		return 0;
	log_warning_rarely(5, "could not set %s to %d: %s", text, value, strerror(errno));
	return -E_SYS;
}

/* Gives an option the value that a socket is born with. */
static int sock_reset_option(int fd, int fresh_fd, const struct sock_option *option)
{
	socklen_t len = sizeof(int);
	int value;

	if (getsockopt(fresh_fd, option->level, option->name, &value, &len) != 0)
		return -E_SYS;
	if (option->level == SOL_SOCKET)
		value /= 2; /* the kernel tells twice what one asks for */
	return sock_set_option(fd, option->level, option->name, value, option->text);
}

/* With a fresh socket at hand, zeros reset; without (-1), they leave things as they are. */
static int sock_apply(int fd, int fresh_fd, const struct sock_tuning *tuning)
{
	int rc = sock_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");

	if (tuning->keepalive || fresh_fd >= 0)
		rc |= sock_set_option(fd, SOL_SOCKET, SO_KEEPALIVE, tuning->keepalive, "SO_KEEPALIVE");
	for (size_t i = 0; i < ARRAY_LEN(sock_options); i++) {
		const struct sock_option *option = &sock_options[i];
		int value;

		memcpy(&value, (const char *)tuning + option->offset, sizeof(value));
		if (value > 0)
			rc |= sock_set_option(fd, option->level, option->name, value, option->text);
		else if (fresh_fd >= 0)
			rc |= sock_reset_option(fd, fresh_fd, option);
	}
#ifdef SO_BUF_LOCK
	/* Let the kernel size the buffers again. */
	if (tuning->buffer_bytes <= 0 && fresh_fd >= 0)
		rc |= sock_set_option(fd, SOL_SOCKET, SO_BUF_LOCK, 0, "SO_BUF_LOCK");
#endif
	return rc == 0 ? 0 : -E_SYS;
}

int sock_tune(int fd, const struct sock_tuning *tuning)
{
	return sock_apply(fd, -1, tuning);
}

int sock_retune_listen(int fd, const struct sock_listen_opts *opts)
{
	struct sock_addr addr;
	int fresh_fd;
	int rc;

	if (sock_local_addr(fd, &addr) != 0)
		return -E_SYS;
	fresh_fd = socket(addr.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fresh_fd < 0)
		return -E_SYS;
	rc = sock_apply(fd, fresh_fd, &opts->tuning);
	close(fresh_fd);
	rc |= sock_set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, opts->defer_accept ? SOCK_DEFER_ACCEPT_S : 0,
			      "TCP_DEFER_ACCEPT");
	return rc == 0 ? 0 : -E_SYS;
}

/* Listening -------------------------------------------------------------- */

/* Closes without losing errno. */
static int sock_fail(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
	return -E_SYS;
}

static int sock_switch_on(int fd, int level, int name)
{
	int one = 1;

	return setsockopt(fd, level, name, &one, sizeof(one));
}

bool sock_can_reuseport(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool can;

	if (fd < 0)
		return true; /* not what was asked; whoever listens meets the same error */
	can = sock_switch_on(fd, SOL_SOCKET, SO_REUSEPORT) == 0 || errno != ENOPROTOOPT;
	close(fd);
	return can;
}

int sock_listen_tcp(const struct sock_addr *addr, const struct sock_listen_opts *opts, const char **call)
{
	int fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*call = "socket";
	if (fd < 0)
		return -E_SYS;
	*call = "setsockopt";
	if (sock_switch_on(fd, SOL_SOCKET, SO_REUSEADDR) != 0)
		return sock_fail(fd);
	if (opts->reuseport && sock_switch_on(fd, SOL_SOCKET, SO_REUSEPORT) != 0)
		return sock_fail(fd);
	if (addr->u.sa.sa_family == AF_INET6 && sock_switch_on(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0)
		return sock_fail(fd);
	/* A value that the system refuses is warned about and no reason not to serve. */
	sock_tune(fd, &opts->tuning);
	if (opts->defer_accept)
		sock_set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, SOCK_DEFER_ACCEPT_S, "TCP_DEFER_ACCEPT");
	*call = "bind";
	if (bind(fd, &addr->u.sa, addr->len) != 0)
		return sock_fail(fd);
	*call = "listen";
	if (listen(fd, opts->backlog) != 0)
		return sock_fail(fd);
	return fd;
}

static bool sock_addr_has_path(const struct sock_addr *addr)
{
	struct slice name = sock_addr_un_name(addr);

	return name.n > 0 && name.p[0] != '\0';
}

bool sock_unix_is_served(const struct sock_addr *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool served;

	if (fd < 0)
		return false;
	/* Refused: a leftover. Full, or not allowed to us: there is somebody. */
	served = connect(fd, &addr->u.sa, addr->len) == 0 || errno == EAGAIN || errno == EACCES || errno == EPROTOTYPE;
	close(fd);
	return served;
}

bool sock_unix_is_locked(const struct sock_addr *addr)
{
	char path[SOCK_ADDR_TEXT];

	if (!sock_addr_has_path(addr))
		return false;
	sock_addr_path(addr, path, sizeof(path));
	return str_append(path, sizeof(path), ".lock") && access(path, F_OK) == 0;
}

static int sock_find_group(const char *group, gid_t *gid)
{
	const struct group *entry = getgrnam(group);
	char *end;
	unsigned long number;

	if (entry != NULL) {
		*gid = entry->gr_gid;
		return 0;
	}
	errno = 0;
	number = strtoul(group, &end, 10);
	if (!isdigit((unsigned char)group[0]) || *end != '\0' || errno != 0 || number > UINT32_MAX - 1)
		return -E_NOENT;
	*gid = (gid_t)number;
	return 0;
}

static void sock_unlink_stale(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
}

/*
 * Binds to a path. Nobody can connect before listen(), so there is no moment
 * at which the socket is open to more people than its mode says.
 */
static int sock_bind_path(int fd, const struct sock_addr *addr, unsigned mode, gid_t gid, const char **call)
{
	char path[SOCK_ADDR_TEXT];
	int err;

	sock_addr_path(addr, path, sizeof(path));
	sock_unlink_stale(path);
	*call = "bind";
	if (bind(fd, &addr->u.sa, addr->len) != 0)
		return -E_SYS;
	*call = "chown";
	if (gid != (gid_t)-1 && chown(path, (uid_t)-1, gid) != 0)
		goto fail;
	*call = "chmod";
	if (chmod(path, (mode_t)mode) != 0)
		goto fail;
	return 0;
fail:
	err = errno;
	unlink(path);
	errno = err;
	return -E_SYS;
}

int sock_listen_unix(const struct sock_addr *addr, unsigned mode, const char *group, int backlog, const char **call)
{
	bool has_path = sock_addr_has_path(addr);
	gid_t gid = (gid_t)-1;
	int fd;
	int rc;

	*call = "connect";
	if (sock_unix_is_locked(addr) || sock_unix_is_served(addr))
		return -E_EXISTS;
	*call = "getgrnam";
	if (has_path && str_is_set(group) && sock_find_group(group, &gid) != 0)
		return -E_NOENT;
	*call = "socket";
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -E_SYS;
	if (has_path) {
		rc = sock_bind_path(fd, addr, mode, gid, call);
	} else {
		*call = "bind";
		rc = bind(fd, &addr->u.sa, addr->len);
	}
	if (rc != 0)
		return sock_fail(fd);
	*call = "listen";
	if (listen(fd, backlog) != 0)
		return sock_fail(fd);
	return fd;
}

/* Errors of the connection that was to be accepted, not of ours. */
static bool sock_is_peer_error(int err)
{
	switch (err) {
	case EINTR:
	case ECONNABORTED:
	case ECONNRESET:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENETDOWN:
	case ENETUNREACH:
	case ENONET:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case EPERM:
	case EPROTO:
	case ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

int sock_accept(int listen_fd, struct sock_addr *peer)
{
	for (int tries = 0; tries < SOCK_ACCEPT_SKIP_MAX; tries++) {
		int fd;

		memset(peer, 0, sizeof(*peer));
		peer->len = sizeof(peer->u);
		fd = accept4(listen_fd, &peer->u.sa, &peer->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			sock_addr_unmap(peer);
			return fd;
		}
		if (errno == EAGAIN)
			return -E_AGAIN;
		if (!sock_is_peer_error(errno))
			return -E_SYS;
	}
	return -E_AGAIN;
}

/* Connecting ------------------------------------------------------------- */

int sock_connect_start(const struct sock_addr *addr, const struct sock_tuning *tuning)
{
	int fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -E_SYS;
	if (tuning != NULL && !sock_addr_is_unix(addr))
		sock_tune(fd, tuning);
	if (connect(fd, &addr->u.sa, addr->len) != 0 && errno != EINPROGRESS && errno != EINTR)
		return sock_fail(fd);
	return fd;
}

/*
 * A connect to a port of ours that nobody listens on may meet itself, when the
 * kernel picks that very port as its source. Such a "server" would echo.
 */
static bool sock_is_self_connected(int fd)
{
	struct sock_addr local;
	struct sock_addr remote;

	return sock_local_addr(fd, &local) == 0 && sock_remote_addr(fd, &remote) == 0 && !sock_addr_is_unix(&local) &&
	       sock_addr_equal(&local, &remote);
}

int sock_connect_result(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int err = 0;

	if (poll(&ready, 1, 0) == 0)
		return -E_AGAIN;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		return -E_SYS;
	if (err == 0 && sock_is_self_connected(fd))
		err = ECONNREFUSED;
	errno = err;
	return err == 0 ? 0 : -E_SYS;
}

/* Who is there ----------------------------------------------------------- */

int sock_peer_cred(int fd, uid_t *uid, pid_t *pid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return -E_SYS;
	/* A socket of another kind answers without a process. */
	if (cred.pid == 0 && cred.uid == (uid_t)-1) {
		errno = ENOTCONN;
		return -E_SYS;
	}
	if (uid != NULL)
		*uid = cred.uid;
	if (pid != NULL)
		*pid = cred.pid;
	return 0;
}

/* One end of a connection, as the call tells it. */
static int sock_ask_addr(int fd, struct sock_addr *addr, int (*ask)(int, struct sockaddr *, socklen_t *))
{
	memset(addr, 0, sizeof(*addr));
	addr->len = sizeof(addr->u);
	if (ask(fd, &addr->u.sa, &addr->len) == 0) {
		sock_addr_unmap(addr);
		return 0;
	}
	addr->len = 0;
	return -E_SYS;
}

int sock_local_addr(int fd, struct sock_addr *addr)
{
	return sock_ask_addr(fd, addr, getsockname);
}

int sock_remote_addr(int fd, struct sock_addr *addr)
{
	return sock_ask_addr(fd, addr, getpeername);
}

void sock_peer_set(struct sock_peer *peer, const struct sock_addr *addr)
{
	memset(peer, 0, sizeof(*peer));
	if (addr->len == 0)
		return;
	if (addr->u.sa.sa_family == AF_INET)
		memcpy(peer->ip, &addr->u.in.sin_addr, sizeof(addr->u.in.sin_addr));
	else if (addr->u.sa.sa_family == AF_INET6)
		memcpy(peer->ip, &addr->u.in6.sin6_addr, sizeof(addr->u.in6.sin6_addr));
	else
		return;
	peer->family = addr->u.sa.sa_family;
	peer->port = sock_addr_port(addr);
}

void sock_peer_set_fd(struct sock_peer *peer, int fd)
{
	pid_t pid;

	memset(peer, 0, sizeof(*peer));
	if (sock_peer_cred(fd, NULL, &pid) != 0)
		pid = 0;
	peer->family = AF_UNIX;
	memcpy(peer->ip, &pid, sizeof(pid));
}

pid_t sock_peer_pid(const struct sock_peer *peer)
{
	pid_t pid = 0;

	if (peer->family == AF_UNIX)
		memcpy(&pid, peer->ip, sizeof(pid));
	return pid;
}

void sock_peer_get(const struct sock_peer *peer, struct sock_addr *addr)
{
	memset(addr, 0, sizeof(*addr));
	if (peer->family == AF_INET) {
		addr->len = sizeof(addr->u.in);
		addr->u.in.sin_family = AF_INET;
		memcpy(&addr->u.in.sin_addr, peer->ip, sizeof(addr->u.in.sin_addr));
	} else if (peer->family == AF_INET6) {
		addr->len = sizeof(addr->u.in6);
		addr->u.in6.sin6_family = AF_INET6;
		memcpy(&addr->u.in6.sin6_addr, peer->ip, sizeof(addr->u.in6.sin6_addr));
	} else {
		return;
	}
	sock_addr_set_port(addr, peer->port);
}
