#include "core/systemd.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Where the sockets that are handed over begin. */
#define SYSTEMD_FDS_START  3
#define SYSTEMD_STATE_SIZE 1024

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

void systemd_notify(const char *fmt, ...)
{
	char state[SYSTEMD_STATE_SIZE];
	struct sockaddr_un addr;
	socklen_t len;
	ssize_t sent UNUSED;
	va_list args;
	int fd;

	if (!systemd_address(&addr, &len))
		return;
	va_start(args, fmt);
	vsnprintf(state, sizeof(state), fmt, args);
	va_end(args);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&addr, len);
	close(fd);
}

/* A number in the environment, or 0. */
static long systemd_number(const char *name)
{
	const char *text = getenv(name);
	char *end;
	long n;

	if (text == NULL || !isdigit((unsigned char)text[0]))
		return 0;
	errno = 0;
	n = strtol(text, &end, 10);
	return *end == '\0' && errno == 0 ? n : 0;
}

size_t systemd_listen_fds(int *fds, size_t max)
{
	long count = systemd_number("LISTEN_FDS");
	size_t n = 0;

	if (systemd_number("LISTEN_PID") != getpid() || count <= 0)
		return 0;
	for (long i = 0; i < count && n < max; i++) {
		int fd = SYSTEMD_FDS_START + (int)i;

		if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
			break;
		fds[n++] = fd;
	}
	return n;
}
