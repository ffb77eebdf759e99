/*
 * Streams.
 *
 * One libevent event per stream, re-assigned when the set of conditions
 * changes, since a struct event is the largest part of an idle connection.
 * The event is level-triggered and persistent: in the steady state nothing is
 * registered or deregistered, and a short read needs no second recv().
 *
 * Reading is switched off lazily. A stream whose owner does not want bytes
 * stays registered; only when bytes do arrive is it taken out of epoll. Most
 * pauses (a client that waits some microseconds for a server) are over first.
 *
 * TLS sits between the buffers and the socket. What it has decrypted, or read
 * ahead, and no buffer had room for, no event of the kernel will announce: then
 * tls_left is set, and the stream makes the event itself.
 */
#include "net/stream.h"

#include <poll.h>
#include <sys/socket.h>

static void stream_event_cb(evutil_socket_t fd, short what, void *arg);

void stream_init(struct stream *s, int fd, const struct stream_ops *ops, void *owner, uint32_t in_max, uint32_t out_max)
{
	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->ops = ops;
	s->owner = owner;
	s->fill_max = LOOP_SCRATCH_SIZE;
	buf_init(&s->in, in_max);
	buf_init(&s->out, out_max);
}

/* Has the owner called although the socket has nothing new, when it wants to read and TLS has something. */
static void stream_announce_left(struct stream *s)
{
	if (s->tls_left && s->want_read && (s->armed & EV_READ) != 0)
		event_active(&s->ev, EV_READ, 0);
}

/* Registers exactly the conditions `mask`. */
static void stream_arm(struct stream *s, short mask)
{
	if (s->armed == mask)
		return;
	if (s->armed != 0)
		event_del(&s->ev);
	s->armed = mask;
	if (mask != 0) {
		event_assign(&s->ev, loop_base(s->loop), s->fd, mask | EV_PERSIST, stream_event_cb, s);
		if (event_add(&s->ev, NULL) != 0)
			s->armed = 0;
	}
}

/* The conditions that the present state asks for. */
static void stream_rearm(struct stream *s)
{
	short mask = s->want_read ? EV_READ : 0;

	if (stream_is_choked(s) || s->tls_blocks)
		mask |= EV_WRITE;
	else if (!s->want_read && s->watching)
		mask = EV_READ | EV_CLOSED | EV_ET; /* edges: unread bytes and errors must not fire again and again */
	stream_arm(s, mask);
	stream_announce_left(s);
}

/* True when the other side has closed or reset, whatever bytes are still to be read. */
static bool stream_is_hung_up(const struct stream *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void stream_set_secret(struct stream *s, bool is_secret)
{
	s->in.is_secret = is_secret;
	s->out.is_secret = is_secret;
}

void stream_attach(struct stream *s, struct loop *loop)
{
	ASSERT(s->loop == NULL && s->fd >= 0);
	s->loop = loop;
	s->want_read = true;
	stream_rearm(s);
}

void stream_attach_quiet(struct stream *s, struct loop *loop)
{
	ASSERT(s->loop == NULL && s->fd >= 0);
	s->loop = loop;
	s->want_read = false;
}

struct stream_socket stream_take(struct stream *s)
{
	struct stream_socket socket = { s->fd, s->tls };

	stream_detach(s);
	s->fd = -1;
	s->tls = NULL;
	return socket;
}

void stream_adopt_tls(struct stream *s, struct tls *tls)
{
	ASSERT(s->loop == NULL && s->tls == NULL);
	s->tls = tls;
	s->tls_left = tls != NULL; /* bytes, or an end that was seen behind bytes; one look tells */
}

void stream_socket_close(struct stream_socket *socket)
{
	tls_free(&socket->tls);
	if (socket->fd >= 0)
		close(socket->fd);
	socket->fd = -1;
}

void stream_detach(struct stream *s)
{
	if (s->loop == NULL)
		return;
	stream_arm(s, 0);
	s->loop = NULL;
}

void stream_close(struct stream *s)
{
	struct stream_socket socket = stream_take(s);

	stream_socket_close(&socket);
	buf_clear(&s->in);
	buf_wipe(&s->out); /* it may be a password of ours, and this happens once */
}

/* What a recv() that gave nothing means. */
static int stream_recv_error(ssize_t n)
{
	if (n == 0)
		return -E_EOF;
	return errno == EAGAIN || errno == EWOULDBLOCK ? -E_AGAIN : -E_IO;
}

/* Through TLS: all that has come, as far as there is room. */
static int stream_recv_tls(struct stream *s, uint8_t *p, size_t size, size_t *got)
{
	size_t n;
	int err;

	*got = 0;
	do {
		err = tls_read(s->tls, p + *got, size - *got, &n);
		if (err == 0)
			*got += n;
	} while (err == 0 && *got < size && tls_has_pending(s->tls));
	/* An end or error behind bytes that are wanted first comes by itself: nothing more need come from the socket.
	 */
	s->tls_left = err == 0 ? tls_has_pending(s->tls) : *got > 0 && err != -E_AGAIN;
	stream_announce_left(s);
	if (err == -E_AGAIN && tls_want(s->tls) == TLS_WANT_WRITE) {
		s->tls_blocks = true;
		stream_rearm(s);
	}
	return *got > 0 ? 0 : err;
}

/* The one place where bytes come in. */
static int stream_recv(struct stream *s, void *p, size_t size, size_t *got)
{
	ssize_t n;

	if (UNLIKELY(s->tls != NULL))
		return stream_recv_tls(s, p, size, got);
	do {
		n = recv(s->fd, p, size, MSG_DONTWAIT);
	} while (UNLIKELY(n < 0 && errno == EINTR));
	if (LIKELY(n > 0)) {
		*got = (size_t)n;
		return 0;
	}
	return stream_recv_error(n);
}

int stream_fill(struct stream *s, uint8_t **data, size_t *len)
{
	uint8_t *scratch = loop_scratch(s->loop);
	uint32_t held = buf_len(&s->in);
	uint32_t room = LOOP_SCRATCH_SIZE - held;
	size_t got;
	int err;

	ASSERT(held < LOOP_SCRATCH_SIZE);
	err = stream_recv(s, scratch + held, room < s->fill_max ? room : s->fill_max, &got);

	if (UNLIKELY(err < 0))
		return err;
	if (UNLIKELY(held > 0)) {
		memcpy(scratch, buf_ptr(&s->in), held);
		buf_clear(&s->in);
	}
	*data = scratch;
	*len = held + got;
	return 0;
}

int stream_peek(struct stream *s, uint8_t *byte)
{
	ssize_t n;

	ASSERT(s->tls == NULL && buf_is_empty(&s->in));
	do {
		n = recv(s->fd, byte, 1, MSG_DONTWAIT | MSG_PEEK);
	} while (UNLIKELY(n < 0 && errno == EINTR));
	return n == 1 ? 0 : stream_recv_error(n);
}

int stream_hold(struct stream *s, const uint8_t *p, size_t n)
{
	return buf_append(&s->in, p, n);
}

int stream_gather(struct stream *s)
{
	uint8_t *scratch = loop_scratch(s->loop);
	size_t room = buf_room(&s->in);
	size_t got;
	int err;

	if (room == 0)
		return -E_NOSPACE;
	err = stream_recv(s, scratch, room < LOOP_SCRATCH_SIZE ? room : LOOP_SCRATCH_SIZE, &got);
	return err < 0 ? err : buf_append(&s->in, scratch, got);
}

/* What errno says of a send that took nothing. */
static int stream_write_error(void)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return -E_AGAIN;
	return errno == EPIPE || errno == ECONNRESET ? -E_EOF : -E_IO;
}

/* The place where bytes go out: *sent bytes were taken; 0, -E_AGAIN, -E_EOF or -E_IO. */
static int stream_write(struct stream *s, const void *p, size_t n, size_t *sent)
{
	ssize_t r;

	if (UNLIKELY(s->tls != NULL))
		return tls_write(s->tls, p, n, sent);
	do {
		r = send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (UNLIKELY(r < 0 && errno == EINTR));
	*sent = r < 0 ? 0 : (size_t)r;
	return LIKELY(r >= 0) ? 0 : stream_write_error();
}

int stream_send(struct stream *s, const void *p, size_t n)
{
	size_t sent = 0;
	int err;

	if (n == 0)
		return stream_is_choked(s);
	if (LIKELY(!stream_is_choked(s))) {
		err = stream_write(s, p, n, &sent);
		if (LIKELY(sent == n))
			return 0;
		if (err < 0 && err != -E_AGAIN)
			return err;
	}
	err = buf_append(&s->out, (const uint8_t *)p + sent, n - sent);
	if (err < 0)
		return err;
	if (s->loop != NULL)
		stream_rearm(s);
	return 1;
}

/* Pieces on their way through TLS: they share records, each of which costs a system call and some bytes of its own. */
struct stream_record {
	size_t n;
	uint8_t bytes[TLS_RECORD_MAX];
};

static int stream_write_record(struct stream *s, struct stream_record *record, size_t *sent)
{
	size_t taken;
	int err = tls_write(s->tls, record->bytes, record->n, &taken);

	*sent += taken;
	record->n = 0;
	return err;
}

/* One piece; what does not fill a record stays in it. */
static int stream_write_piece(struct stream *s, struct stream_record *record, const uint8_t *p, size_t n, size_t *sent)
{
	size_t taken;
	int err = 0;

	if (record->n == 0 && n >= sizeof(record->bytes)) {
		err = tls_write(s->tls, p, n, &taken);
		*sent += taken;
		return err;
	}
	while (err == 0 && n > 0) {
		size_t room = sizeof(record->bytes) - record->n;
		size_t part = n < room ? n : room;

		memcpy(record->bytes + record->n, p, part);
		record->n += part;
		p += part;
		n -= part;
		if (part == room)
			err = stream_write_record(s, record, sent);
	}
	return err;
}

static int stream_writev_tls(struct stream *s, const struct iovec *iov, int n, size_t *sent)
{
	struct stream_record record;
	int err = 0;

	record.n = 0;
	*sent = 0;
	for (; err == 0 && n > 0; iov++, n--)
		err = stream_write_piece(s, &record, iov->iov_base, iov->iov_len, sent);
	return err == 0 ? stream_write_record(s, &record, sent) : err;
}

/* As stream_write(), of several pieces. */
static int stream_writev(struct stream *s, struct iovec *iov, int n, size_t *sent)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)n };
	ssize_t r;

	if (UNLIKELY(s->tls != NULL))
		return stream_writev_tls(s, iov, n, sent);
	do {
		r = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (UNLIKELY(r < 0 && errno == EINTR));
	*sent = r < 0 ? 0 : (size_t)r;
	return LIKELY(r >= 0) ? 0 : stream_write_error();
}

int stream_sendv(struct stream *s, struct iovec *iov, int n)
{
	size_t sent = 0;
	int err;

	if (LIKELY(!stream_is_choked(s))) {
		err = stream_writev(s, iov, n, &sent);
		if (err < 0 && err != -E_AGAIN)
			return err;
	}
	for (; n > 0; iov++, n--) {
		if (sent >= iov->iov_len) {
			sent -= iov->iov_len;
			continue;
		}
		err = buf_append(&s->out, (const uint8_t *)iov->iov_base + sent, iov->iov_len - sent);
		if (err < 0)
			return err;
		sent = 0;
	}
	if (!stream_is_choked(s))
		return 0;
	if (s->loop != NULL)
		stream_rearm(s);
	return 1;
}

void stream_send_last(struct stream *s, const void *p, size_t n)
{
	size_t sent;

	(void)stream_write(s, p, n, &sent);
}

/* The maximum is what it was. */
static void stream_disallow(struct stream *s)
{
	s->out.max -= s->extra;
	s->extra = 0;
}

void stream_allow(struct stream *s, uint32_t n)
{
	if (!stream_is_choked(s))
		stream_disallow(s);
	if (n > INT32_MAX - s->out.max)
		n = INT32_MAX - s->out.max;
	s->out.max += n;
	s->extra += n;
}

int stream_send_buf(struct stream *s, struct buf *b)
{
	int err = stream_send(s, buf_is_empty(b) ? NULL : buf_ptr(b), buf_len(b));

	buf_clear(b);
	return err;
}

/* Sends what is queued; tells the owner when the queue is empty or the connection broken. */
static void stream_flush(struct stream *s)
{
	size_t sent;
	int err = stream_write(s, buf_ptr(&s->out), buf_len(&s->out), &sent);

	if (err == 0 || err == -E_AGAIN)
		buf_consume(&s->out, (uint32_t)sent); /* TLS may have sent some records and no more */
	else
		buf_wipe(&s->out); /* nobody will ever take it */
	if (err == -E_AGAIN)
		return;
	if (stream_is_choked(s))
		return;
	stream_disallow(s);
	stream_rearm(s);
	s->ops->on_drained(s->owner, err);
}

/* ---- the handshake ---- */

void stream_start_tls(struct stream *s, struct tls *tls)
{
	ASSERT(s->loop != NULL && s->tls == NULL && stream_is_clean(s));
	s->tls = tls;
	s->securing = true;
	stream_arm(s, tls_want(tls) == TLS_WANT_WRITE ? EV_WRITE : EV_READ);
}

static void stream_secure(struct stream *s)
{
	int err = tls_handshake(s->tls);

	if (err == -E_AGAIN) {
		stream_arm(s, tls_want(s->tls) == TLS_WANT_WRITE ? EV_WRITE : EV_READ);
		return;
	}
	s->securing = false;
	s->want_read = err == 0;
	s->tls_left = err == 0 && tls_has_pending(s->tls); /* what came behind the handshake was read ahead */
	stream_rearm(s);
	s->ops->on_secured(s->owner, err);
}

static void stream_event_cb(evutil_socket_t fd UNUSED, short what, void *arg)
{
	struct stream *s = arg;

	if (UNLIKELY(s->securing)) {
		stream_secure(s);
		return;
	}
	if (UNLIKELY((what & EV_WRITE) != 0)) {
		if (s->connecting) {
			s->connecting = false;
			stream_arm(s, 0);
			s->ops->on_event(s->owner);
		} else if (s->tls_blocks) {
			s->tls_blocks = false;
			stream_rearm(s);
			if (s->want_read)
				s->ops->on_readable(s->owner);
		} else if (stream_is_choked(s)) {
			stream_flush(s);
		} else {
			stream_rearm(s);
		}
		return; /* the owner may be gone; level-triggered readiness comes again */
	}
	if (UNLIKELY(!s->want_read)) {
		if (!s->watching)
			stream_rearm(s);
		else if (stream_is_hung_up(s))
			s->ops->on_event(s->owner);
		return;
	}
	s->ops->on_readable(s->owner);
}

void stream_want_read(struct stream *s, bool want)
{
	s->want_read = want;
	s->watching = false;
	if (want && (s->armed & (EV_READ | EV_CLOSED)) != EV_READ && s->loop != NULL)
		stream_rearm(s);
	else
		stream_announce_left(s);
}

void stream_watch_close(struct stream *s)
{
	s->want_read = false;
	s->watching = true;
	stream_rearm(s);
	/* An edge that has passed does not come again. */
	if (stream_is_hung_up(s))
		s->ops->on_event(s->owner);
}

void stream_watch_connect(struct stream *s, struct loop *loop)
{
	ASSERT(s->loop == NULL);
	s->loop = loop;
	s->connecting = true;
	stream_arm(s, EV_WRITE);
}
