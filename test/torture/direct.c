#include "direct.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bytes.h"

#define DIRECT_MAX_COLS 16

struct direct {
	int fd;
	bool lenient; /* an ErrorResponse is an answer like others */
	struct bytes in;
};

static void __attribute__((noreturn)) direct_fail(const char *what, const char *detail)
{
	fprintf(stderr, "direct connection: %s: %s\n", what, detail);
	exit(3);
}

static socklen_t direct_address(const char *host, int port, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof(*ss));
	if (host[0] == '/') {
		struct sockaddr_un *un = (struct sockaddr_un *)ss;

		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%.80s/.s.PGSQL.%d", host, port);
		return sizeof(*un);
	} else {
		struct sockaddr_in *in = (struct sockaddr_in *)ss;

		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)port);
		if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
			direct_fail("not an IPv4 address or a directory", host);
		return sizeof(*in);
	}
}

int direct_dial(const char *host, int port, int nonblock)
{
	struct sockaddr_storage ss;
	socklen_t len = direct_address(host, port, &ss);
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0);
	int one = 1;

	if (fd < 0)
		return -errno;
	if (ss.ss_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

unsigned direct_local_port(int fd)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);

	if (getsockname(fd, (struct sockaddr *)&in, &len) != 0 || in.sin_family != AF_INET)
		return 0;
	return ntohs(in.sin_port);
}

static void direct_send(struct direct *d, const struct bytes *b)
{
	size_t at = 0;

	while (at < b->len) {
		ssize_t n = send(d->fd, b->data + at, b->len - at, MSG_NOSIGNAL);

		if (n < 0)
			direct_fail("send", strerror(errno));
		at += (size_t)n;
	}
}

static void direct_read(struct direct *d, uint8_t *p, size_t len)
{
	while (len > 0) {
		ssize_t n = recv(d->fd, p, len, 0);

		if (n <= 0)
			direct_fail("recv", n ? strerror(errno) : "closed");
		p += n;
		len -= (size_t)n;
	}
}

/* Reads one message into d->in (its body) and returns its type; an ErrorResponse ends the program, unless lenient. */
static char direct_next(struct direct *d)
{
	uint8_t head[5];
	uint32_t len;

	direct_read(d, head, sizeof(head));
	len = bytes_get_u32(head + 1);
	if (len < 4 || len > 64 * 1024 * 1024)
		direct_fail("bad message length", "");
	bytes_clear(&d->in, SIZE_MAX);
	direct_read(d, bytes_grow(&d->in, len - 4), len - 4);
	if (head[0] == 'E' && !d->lenient)
		direct_fail("error", msg_field(d->in.data, d->in.len, 'M'));
	return (char)head[0];
}

struct direct *direct_open(const char *host, int port, const char *user, const char *dbname)
{
	struct direct *d = xmalloc(sizeof(*d));
	struct bytes b = { 0 };
	size_t mark = msg_begin(&b, 0);

	*d = (struct direct){ .fd = direct_dial(host, port, 0) };
	if (d->fd < 0)
		direct_fail("connect", strerror(-d->fd));
	bytes_u32(&b, 3 << 16);
	bytes_cstr(&b, "user");
	bytes_cstr(&b, user);
	bytes_cstr(&b, "database");
	bytes_cstr(&b, dbname);
	bytes_u8(&b, 0);
	msg_end(&b, mark);
	direct_send(d, &b);
	bytes_free(&b);
	while (direct_next(d) != 'Z')
		;
	return d;
}

void direct_close(struct direct *d)
{
	close(d->fd);
	bytes_free(&d->in);
	free(d);
}

static void direct_row(struct direct *d, direct_row_fn row_fn, void *arg)
{
	char *cols[DIRECT_MAX_COLS];
	int n = (int)bytes_get_u16(d->in.data);
	size_t at = 2;
	char *text = xmalloc(d->in.len + DIRECT_MAX_COLS);
	char *p = text;

	for (int i = 0; i < n && i < DIRECT_MAX_COLS; i++) {
		uint32_t len = bytes_get_u32(d->in.data + at);

		at += 4;
		cols[i] = NULL;
		if (len == UINT32_MAX)
			continue;
		cols[i] = p;
		memcpy(p, d->in.data + at, len);
		p[len] = 0;
		p += len + 1;
		at += len;
	}
	row_fn(arg, n, cols);
	free(text);
}

static void direct_send_query(struct direct *d, const char *sql)
{
	struct bytes b = { 0 };
	size_t mark = msg_begin(&b, 'Q');

	bytes_cstr(&b, sql);
	msg_end(&b, mark);
	direct_send(d, &b);
	bytes_free(&b);
}

bool direct_try(struct direct *d, const char *sql)
{
	bool good = true;
	char type;

	d->lenient = true;
	direct_send_query(d, sql);
	while ((type = direct_next(d)) != 'Z')
		good = good && type != 'E';
	d->lenient = false;
	return good;
}

void direct_query(struct direct *d, const char *sql, direct_row_fn row_fn, void *arg)
{
	char type;

	direct_send_query(d, sql);
	while ((type = direct_next(d)) != 'Z')
		if (type == 'D' && row_fn)
			direct_row(d, row_fn, arg);
}

static void direct_number_row(void *arg, int n, char *const *cols)
{
	if (n > 0 && cols[0])
		*(int64_t *)arg = strtoll(cols[0], NULL, 10);
}

int64_t direct_number(struct direct *d, const char *sql)
{
	int64_t v = 0;

	direct_query(d, sql, direct_number_row, &v);
	return v;
}
