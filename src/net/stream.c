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

	if (stream_is_choked(s))
		mask |= EV_WRITE;
	else if (!s->want_read && s->watching)
		mask = EV_READ | EV_CLOSED | EV_ET; /* edges: unread bytes and errors must not fire again and again */
	stream_arm(s, mask);
}

/* True when the other side has closed or reset, whatever bytes are still to be read. */
static bool stream_is_hung_up(const struct stream *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
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

int stream_take_fd(struct stream *s)
{
	int fd = s->fd;

	stream_detach(s);
	s->fd = -1;
	return fd;
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
	stream_detach(s);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	buf_fini(&s->in);
	buf_fini(&s->out);
}

/* The one place where bytes come in. */
static int stream_recv(struct stream *s, void *p, size_t size, size_t *got)
{
	ssize_t n;

	do {
		n = recv(s->fd, p, size, MSG_DONTWAIT);
	} while (UNLIKELY(n < 0 && errno == EINTR));
	if (LIKELY(n > 0)) {
		*got = (size_t)n;
		return 0;
	}
	if (n == 0)
		return -E_EOF;
	return errno == EAGAIN || errno == EWOULDBLOCK ? -E_AGAIN : -E_IO;
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

/* As stream_write(), of several pieces. */
static int stream_writev(struct stream *s, struct iovec *iov, int n, size_t *sent)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)n };
	ssize_t r;

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

	if (err == -E_AGAIN)
		return;
	if (err == 0)
		buf_consume(&s->out, (uint32_t)sent);
	else
		buf_clear(&s->out); /* nobody will ever take it */
	if (stream_is_choked(s))
		return;
	stream_disallow(s);
	stream_rearm(s);
	s->ops->on_drained(s->owner, err);
}

static void stream_event_cb(evutil_socket_t fd UNUSED, short what, void *arg)
{
	struct stream *s = arg;

	if (UNLIKELY((what & EV_WRITE) != 0)) {
		if (s->connecting) {
			s->connecting = false;
			stream_arm(s, 0);
			s->ops->on_event(s->owner);
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
