/*
 * The service manager's side of the process, by its documented environment:
 *
 *     NOTIFY_SOCKET                where states are sent, one datagram each
 *     WATCHDOG_USEC, WATCHDOG_PID  how often it wants to hear WATCHDOG=1, and from whom
 *     LISTEN_FDS, LISTEN_PID       how many sockets stand ready from descriptor 3 on, and for whom
 *
 * All of it is read once, before the process goes to the background or starts a
 * thread: the sockets stay ours across a fork that the process ids in the
 * environment know nothing of. The socket for states is kept open, so that the
 * signs of life do not stop on the day on which descriptors run out.
 */
#include "core/systemd.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

/* Where the sockets that are handed over begin. */
#define SYSTEMD_FDS_START  3
#define SYSTEMD_STATE_SIZE 1024

/* How long a state may wait for a service manager that does not read. */
#define SYSTEMD_PATIENCE_S 1

/* Constant after systemd_init(). */
static struct {
	int notify_fd; /* -1: nobody listens */
	struct sockaddr_un notify_addr;
	socklen_t notify_len;
	size_t socket_count;
	uint64_t watchdog_us;
} systemd_env = { .notify_fd = -1 };

/* The address in NOTIFY_SOCKET; a name that begins with @ is an abstract one. */
static bool systemd_address(struct sockaddr_un *addr, socklen_t *len)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = path == NULL ? 0 : strlen(path);

	if (n < 2 || n >= sizeof(addr->sun_path) || (path[0] != '/' && path[0] != '@'))
		return false;
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path, path, n);
	if (path[0] == '@')
		addr->sun_path[0] = '\0';
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	return true;
}

static int systemd_open_notify(void)
{
	const struct timeval patience = { .tv_sec = SYSTEMD_PATIENCE_S };
	int fd;

	if (!systemd_address(&systemd_env.notify_addr, &systemd_env.notify_len))
		return -1;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A number in the environment, or 0. */
static uint64_t systemd_number(const char *name)
{
	const char *text = getenv(name);
	unsigned long long n;
	char *end;

	if (text == NULL || !isdigit((unsigned char)text[0]))
		return 0;
	errno = 0;
	n = strtoull(text, &end, 10);
	return *end == '\0' && errno == 0 ? n : 0;
}

/* How many of the descriptors announced really exist; they are made close-on-exec. */
static size_t systemd_count_sockets(void)
{
	uint64_t announced = systemd_number("LISTEN_FDS");
	size_t n = 0;

	if (systemd_number("LISTEN_PID") != (uint64_t)getpid())
		return 0;
	while (n < announced && fcntl(SYSTEMD_FDS_START + (int)n, F_SETFD, FD_CLOEXEC) == 0)
		n++;
	return n;
}

void systemd_init(void)
{
	bool for_us = getenv("WATCHDOG_PID") == NULL || systemd_number("WATCHDOG_PID") == (uint64_t)getpid();

	if (systemd_env.notify_fd >= 0)
		close(systemd_env.notify_fd);
	systemd_env.socket_count = systemd_count_sockets();
	systemd_env.notify_fd = systemd_open_notify();
	systemd_env.watchdog_us = for_us && systemd_env.notify_fd >= 0 ? systemd_number("WATCHDOG_USEC") : 0;
}

void systemd_notify(const char *fmt, ...)
{
	char state[SYSTEMD_STATE_SIZE];
	ssize_t sent UNUSED;
	va_list args;

	if (systemd_env.notify_fd < 0)
		return;
	va_start(args, fmt);
	vsnprintf(state, sizeof(state), fmt, args);
	va_end(args);
	sent = sendto(systemd_env.notify_fd, state, strlen(state), MSG_NOSIGNAL,
		      (const struct sockaddr *)&systemd_env.notify_addr, systemd_env.notify_len);
}

uint64_t systemd_watchdog_us(void)
{
	return systemd_env.watchdog_us;
}

bool systemd_has_sockets(void)
{
	return systemd_env.socket_count > 0;
}

size_t systemd_listen_fds(int *fds, size_t max)
{
	size_t n = systemd_env.socket_count < max ? systemd_env.socket_count : max;

	for (size_t i = 0; i < n; i++)
		fds[i] = SYSTEMD_FDS_START + (int)i;
	return n;
}
