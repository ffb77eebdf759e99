/*
 * A stream is one connected socket on one loop: the descriptor, perhaps with
 * TLS on it, its event, the bytes that could not be sent yet and the bytes that
 * are not a whole message yet. It knows no PostgreSQL. The owner's callbacks
 * run on the loop's thread.
 *
 * Reading goes into the loop's scratch buffer (stream_fill), sending goes
 * straight to the socket (stream_send); a stream holds memory only for what is
 * left over in either direction.
 */
#ifndef PGSLUICE_NET_STREAM_H
#define PGSLUICE_NET_STREAM_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/uio.h>

#include "core/base.h"
#include "core/buf.h"
#include "net/loop.h"
#include "net/tls.h"

struct stream_ops {
	/* Bytes, the end or an error wait to be read; call stream_fill(). */
	void (*on_readable)(void *owner);
	/* The outgoing buffer, once full, is empty again. `err` is 0 or -E_*. */
	void (*on_drained)(void *owner, int err);
	/* A connect in progress has ended (stream_watch_connect), or the other side closed (stream_watch_close). */
	void (*on_event)(void *owner);
	/*
	 * The handshake of stream_start_tls() has ended: 0, or as tls_handshake() failed, whose text the log may
	 * tell. NULL where no handshake is started.
	 */
	void (*on_secured)(void *owner, int err);
};

struct stream {
	const struct stream_ops *ops;
	void *owner;
	struct loop *loop; /* NULL while detached */
	struct event ev;
	struct buf in;     /* read, but not consumed yet */
	struct buf out;    /* to be sent when the socket takes it */
	struct tls *tls;   /* owned; NULL: plain text */
	int fd;            /* -1 when closed */
	short armed;       /* what the event is registered for */
	uint32_t fill_max; /* bytes that one stream_fill() reads at most */
	uint32_t extra;    /* allowed on top of the maximum of out; see stream_allow() */
	bool want_read;
	bool watching;   /* for the other side to close, while not reading */
	bool connecting; /* writable means that the connect has ended */
	bool securing;   /* the handshake is under way */
	bool tls_left;   /* the TLS layer has bytes that the kernel will not report */
	bool tls_blocks; /* it has to write before it can read on */
};

/*
 * Takes over the descriptor, which must be non-blocking. `in_max` bounds what
 * stream_hold() keeps, `out_max` what stream_send() queues.
 */
void stream_init(struct stream *s, int fd, const struct stream_ops *ops, void *owner, uint32_t in_max,
		 uint32_t out_max);

/*
 * What is read and sent from now on may be a password: memory that is taken for
 * it is overwritten before it is given back.
 */
void stream_set_secret(struct stream *s, bool is_secret);

/* Registers the stream with a loop and starts reading. Own thread of that loop. */
void stream_attach(struct stream *s, struct loop *loop);

/* The same without reading yet: nothing is registered before stream_want_read(). */
void stream_attach_quiet(struct stream *s, struct loop *loop);

/* Takes the stream off its loop; it may then move to another thread. Buffers stay. */
void stream_detach(struct stream *s);

/* A connected socket without a stream: on its way from one owner to the next. */
struct stream_socket {
	int fd;
	struct tls *tls; /* NULL: plain text */
};

/* Detaches and gives the socket to the caller, with TLS if it has that; stream_close() then closes nothing. */
struct stream_socket stream_take(struct stream *s) MUSTCHECK;

/* Goes on with the TLS session of a socket that came from stream_take(). Before stream_attach(). NULL is fine. */
void stream_adopt_tls(struct stream *s, struct tls *tls);

/* Closes a socket that never got a stream again. */
void stream_socket_close(struct stream_socket *socket);

/*
 * Begins a handshake: the session is taken over, and all that follows goes
 * through it. Nothing may be held or queued. The owner hears on_secured(), not
 * before it has returned to the loop; until then it hears nothing else. The
 * stream must be attached.
 */
void stream_start_tls(struct stream *s, struct tls *tls);

/* The TLS session, or NULL: plain text. */
static inline struct tls *stream_tls(const struct stream *s)
{
	return s->tls;
}

/* Closes the descriptor and gives all memory back. May be called in a callback; twice is fine. */
void stream_close(struct stream *s);

static inline bool stream_is_open(const struct stream *s)
{
	return s->fd >= 0;
}

/*
 * Reads once. On 0, *data and *len give all bytes to work on: the held ones and
 * the new ones, contiguous, in the loop's scratch buffer; nothing is held any
 * more, so the caller passes what it does not consume to stream_hold() before
 * it returns. Fewer bytes than the scratch buffer has may be held. Else -E_AGAIN, -E_EOF or -E_IO (held bytes stay
 * held).
 */
int stream_fill(struct stream *s, uint8_t **data, size_t *len) MUSTCHECK;

/* The next byte that stream_fill() will give, which stays where it is: 0, -E_AGAIN, -E_EOF or -E_IO. Plain text only.
 */
int stream_peek(struct stream *s, uint8_t *byte) MUSTCHECK;

/* Keeps bytes for the next stream_fill(): 0, -E_NOSPACE or -E_NOMEM. */
int stream_hold(struct stream *s, const uint8_t *p, size_t n) MUSTCHECK;

/*
 * Appends what can be read to the held bytes, up to their maximum, without
 * handing anything out: 0, -E_AGAIN, -E_EOF, -E_IO, or -E_NOSPACE when full.
 */
int stream_gather(struct stream *s) MUSTCHECK;

/*
 * Sends, or queues behind what is queued already. Returns 0 when all was sent,
 * 1 when something is queued (on_drained follows), -E_IO/-E_EOF when the
 * connection is broken, -E_NOSPACE/-E_NOMEM when it cannot be queued.
 */
int stream_send(struct stream *s, const void *p, size_t n) MUSTCHECK;

/* The same for several pieces in one system call. The array is used up. */
int stream_sendv(struct stream *s, struct iovec *iov, int n) MUSTCHECK;

/* One last word before the stream is closed: what the socket does not take at once is lost. */
void stream_send_last(struct stream *s, const void *p, size_t n);

/* Lets the outgoing buffer take n bytes more than its maximum, until it is empty: for one large message of our own. */
void stream_allow(struct stream *s, uint32_t n);

/* Sends the content of a buffer and empties it; results as stream_send(). */
int stream_send_buf(struct stream *s, struct buf *b) MUSTCHECK;

/* True while sent bytes wait in the outgoing buffer. */
static inline bool stream_is_choked(const struct stream *s)
{
	return !buf_is_empty(&s->out);
}

/*
 * Switches reading. Off is lazy: the registration stays until something
 * arrives, so that a short pause costs no system call.
 */
void stream_want_read(struct stream *s, bool want);

/* Not reading, but on_event when the other side closes. Until stream_want_read(true). */
void stream_watch_close(struct stream *s);

/* on_event once when the connect started on the descriptor has ended. Before stream_attach(). */
void stream_watch_connect(struct stream *s, struct loop *loop);

/* False for bytes that neither side of this stream has seen to: held, queued, in the TLS layer. */
static inline bool stream_is_clean(const struct stream *s)
{
	return buf_is_empty(&s->in) && buf_is_empty(&s->out) && (s->tls == NULL || !tls_has_pending(s->tls));
}

#endif
