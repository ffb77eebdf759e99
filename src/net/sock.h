/*
 * Sockets below the level of streams: addresses and their texts, listening,
 * connecting, accepting, the options of TCP, and who sits at the other end of
 * a Unix socket. Nothing here blocks, but for the name of a group.
 */
#ifndef PGSLUICE_NET_SOCK_H
#define PGSLUICE_NET_SOCK_H

#include "core/base.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * An address of a peer or of ourselves. All zero: none. The functions below that
 * make one turn IPv4 that is mapped into IPv6 (::ffff:192.0.2.1) into plain IPv4.
 */
struct sock_addr {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un; /* abstract: begins with a NUL byte, has none at the end */
	} u;
	socklen_t len; /* bytes of u in use */
};

/* Room for any text that the functions below write, with its NUL. */
#define SOCK_ADDR_TEXT 128

/* The options of a TCP connection; 0 leaves a value as the system has it. */
struct sock_tuning {
	bool keepalive;
	int keepidle_s;
	int keepintvl_s;
	int keepcnt;
	int user_timeout_ms;
	int buffer_bytes; /* for sending and for receiving, each */
};

/* Addresses ------------------------------------------------------------- */

/*
 * Reads an IPv4 or IPv6 literal, the latter with or without brackets and with
 * a zone such as %eth0. 0, or -E_SYNTAX when it is none (then it is a name).
 */
int sock_addr_parse(struct sock_addr *addr, const char *literal, uint16_t port) MUSTCHECK;

/* A Unix socket; a leading '@' stands for the abstract name space. -E_TOOBIG: the path is too long. */
int sock_addr_set_unix(struct sock_addr *addr, const char *path) MUSTCHECK;

/* The socket that PostgreSQL and poolers make in a directory (or under '@...') for a port. */
int sock_addr_set_unix_dir(struct sock_addr *addr, const char *dir, uint16_t port) MUSTCHECK;

/* True for a host that is a directory of Unix sockets, or a name in the abstract name space. */
static inline bool sock_host_is_unix(const char *host)
{
	return host[0] == '/' || host[0] == '@';
}

/* Where a server at such a host, or at an address, listens. 0; -E_SYNTAX: it is a name, to be looked up; -E_TOOBIG. */
int sock_addr_set_host(struct sock_addr *addr, const char *host, uint16_t port) MUSTCHECK;

/* Copies an address of the system; false when the family is not one of ours. */
bool sock_addr_set(struct sock_addr *addr, const struct sockaddr *sa, socklen_t len);

static inline bool sock_addr_is_unix(const struct sock_addr *addr)
{
	return addr->len > 0 && addr->u.sa.sa_family == AF_UNIX;
}

/* The port of a TCP address in host order; 0 for a Unix socket. */
uint16_t sock_addr_port(const struct sock_addr *addr);
void sock_addr_set_port(struct sock_addr *addr, uint16_t port);

/* Same family, address, port or path. */
bool sock_addr_equal(const struct sock_addr *a, const struct sock_addr *b);

/* Same family and address (or path), whatever the ports. */
bool sock_addr_same_host(const struct sock_addr *a, const struct sock_addr *b);

/* Each writes a NUL-terminated text, cut where dst ends, and returns its length. */

/* For a column: "192.0.2.1", "2001:db8::1", "unix". */
size_t sock_addr_host(const struct sock_addr *addr, char *dst, size_t size);

/* For the prefix of a log line: "192.0.2.1", "[2001:db8::1]", "unix", or "unix(PID)" when pid is not 0. */
size_t sock_addr_log_host(const struct sock_addr *addr, pid_t pid, char *dst, size_t size);

/* Whole: "192.0.2.1:5432", "[2001:db8::1]:5432", "unix:/tmp/.s.PGSQL.5432", "unix:@name". */
size_t sock_addr_format(const struct sock_addr *addr, char *dst, size_t size);

/* The path of a Unix socket, with '@' for the abstract name space; empty for others and for unnamed ones. */
size_t sock_addr_path(const struct sock_addr *addr, char *dst, size_t size);

/*
 * Who a client is in as few bytes as it needs, for objects of which there are many: the address of a TCP peer, or the
 * process behind a Unix socket. All zero: unknown.
 */
struct sock_peer {
	uint8_t ip[16]; /* IPv4 in the first four */
	uint16_t port;  /* host order */
	uint16_t family;
};

/* Keeps a TCP address; any other leaves none. */
void sock_peer_set(struct sock_peer *peer, const struct sock_addr *addr);
/* Keeps the process at the other end of a Unix socket, as far as it is known; sock_peer_get() then gives no address. */
void sock_peer_set_fd(struct sock_peer *peer, int fd);
/* The process id, or 0. */
pid_t sock_peer_pid(const struct sock_peer *peer);
/* Gives it back; len is 0 when there is none. */
void sock_peer_get(const struct sock_peer *peer, struct sock_addr *addr);

/* Listening ------------------------------------------------------------- */

/* Options of a listening TCP socket. What accepted sockets inherit is set here, so that accepting costs no call. */
struct sock_listen_opts {
	int backlog;
	bool reuseport;
	bool defer_accept; /* do not wake us before the first byte is there */
	struct sock_tuning tuning;
};

/* False when the system knows no SO_REUSEPORT. */
bool sock_can_reuseport(void);

/*
 * A listening non-blocking socket: the fd, or -E_SYS with errno set and *call
 * naming the call that failed. IPv6 sockets serve IPv6 only.
 */
int sock_listen_tcp(const struct sock_addr *addr, const struct sock_listen_opts *opts, const char **call) MUSTCHECK;

/* Changes the options of a listening TCP socket for the connections to come; 0, or -E_SYS for any that failed. */
int sock_retune_listen(int fd, const struct sock_listen_opts *opts);

/*
 * A listening Unix socket. `mode` and `group` (a name or a number; NULL or
 * empty: leave) are ignored for abstract names. A socket that nobody serves is
 * replaced. Returns the fd, or
 *   -E_EXISTS  somebody serves this socket, or a PostgreSQL holds its lock file
 *   -E_NOENT   no such group
 *   -E_SYS     with errno and *call, as above
 */
int sock_listen_unix(const struct sock_addr *addr, unsigned mode, const char *group, int backlog,
		     const char **call) MUSTCHECK;

/* True when a process accepts connections at this Unix socket. */
bool sock_unix_is_served(const struct sock_addr *addr);

/* True when there is a "<path>.lock", as PostgreSQL makes one. */
bool sock_unix_is_locked(const struct sock_addr *addr);

/*
 * Accepts one connection as a non-blocking socket and says who it is: the fd,
 * -E_AGAIN when none waits, or -E_SYS with errno when the system has no room.
 * Connections that died before they were accepted are skipped.
 */
int sock_accept(int listen_fd, struct sock_addr *peer) MUSTCHECK;

/* Connecting ------------------------------------------------------------ */

/*
 * Begins to connect with a fresh non-blocking socket; `tuning` may be NULL and
 * counts for TCP only. Returns the fd (wait until it is writable, then ask
 * sock_connect_result()) or -E_SYS with errno.
 */
int sock_connect_start(const struct sock_addr *addr, const struct sock_tuning *tuning) MUSTCHECK;

/* How a connect ended: 0, -E_AGAIN while it is under way, or -E_SYS with errno. */
int sock_connect_result(int fd) MUSTCHECK;

/* Applies the options and TCP_NODELAY to a TCP socket: 0, or -E_SYS for any that failed, after trying all. */
int sock_tune(int fd, const struct sock_tuning *tuning);

/* Who is there ---------------------------------------------------------- */

/* User and process at the other end of a Unix socket: 0 or -E_SYS. Either pointer may be NULL. */
int sock_peer_cred(int fd, uid_t *uid, pid_t *pid) MUSTCHECK;

/* Our end, the other end: 0 or -E_SYS with errno. */
int sock_local_addr(int fd, struct sock_addr *addr) MUSTCHECK;
int sock_remote_addr(int fd, struct sock_addr *addr) MUSTCHECK;

#endif
