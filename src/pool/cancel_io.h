/*
 * The two connections of a cancel request: the one it came by, and the one
 * that carries it on.
 */
#ifndef PGSLUICE_POOL_CANCEL_IO_H
#define PGSLUICE_POOL_CANCEL_IO_H

#include "core/log.h"
#include "core/reason_tbl.h"
#include "net/sock.h"
#include "net/stream.h"
#include "pool/engine.h"
#include "pool/server_tls.h"

/* Who asks: a connection that is kept open, without a word, until the outcome is known. */
struct cancel_asker {
	struct stream_socket socket;
	bool is_unix;
	uint64_t id;
	uint64_t connect_us;
	uint64_t request_us;     /* the request was read */
	const void *ptr;         /* the object that holds this; its name in the log and in SHOW */
	char peer[LOG_NAME_MAX]; /* host and port, for the log */
};

/*
 * Closes the connection, takes it off the count of clients, and says why in
 * the log. `where` stands for database and user in the line. Own thread of
 * whoever holds the object; `conf` is the configuration in force there.
 */
void cancel_asker_end(struct cancel_asker *asker, struct engine *engine, const struct conf *conf, const char *where,
		      enum reason reason, uint64_t now_us);

/* Room for the part of a log prefix that says whose connection it is. */
#define CANCEL_WHERE_MAX 200

/* What the owner of a connection that carries a request is told. It is never told anything in its own calls. */
struct cancel_conn_ops {
	/* The connection stands; the owner calls cancel_conn_send() or cancel_conn_close(). */
	void (*on_open)(void *owner);
	/*
	 * REASON_CONNECT_FAILED, or why there is no TLS; REASON_CANCEL_FAILED when the request could not be sent;
	 * REASON_CANCEL_SENT when it was, and the other side has closed, which is its answer. The owner calls
	 * cancel_conn_close().
	 */
	void (*on_over)(void *owner, enum reason reason);
};

/* A connection that carries one request; a part of its owner, and like it owned by one loop. */
struct cancel_conn {
	const struct cancel_conn_ops *ops;
	void *owner;
	struct engine *engine;
	struct loop *loop;
	struct snapshot **snap; /* the configuration in force on this loop */
	struct stream stream;
	struct sock_addr addr; /* none while a name is looked up */
	unsigned port;
	struct server_tls tls; /* plain text: all zero */
	bool is_open;          /* the owner has heard on_open() */
	uint64_t id;
	uint64_t connect_us;
	uint64_t sent_us;             /* 0: not yet */
	char where[CANCEL_WHERE_MAX]; /* whose it is, for the log */
};

/* Prepares the connection: it counts as one from here until cancel_conn_close(). Loop, snap and where must be set. */
void cancel_conn_init(struct cancel_conn *conn, struct engine *engine, const struct cancel_conn_ops *ops, void *owner);

/*
 * Begins to connect: 0, or -E_SYS after a word in the log; the owner then closes it. `tls` is taken over; NULL: plain
 * text.
 */
int cancel_conn_connect(struct cancel_conn *conn, const struct sock_addr *addr, const struct sock_tuning *tuning,
			struct server_tls *tls) MUSTCHECK;

/* Sends a request with a server's, or a client's, process id and the rest of its key: 0 or -E_*. */
int cancel_conn_send(struct cancel_conn *conn, uint32_t pid, const uint8_t *key, size_t key_len) MUSTCHECK;

/* Closes the connection, in whatever state, and says why in the log. */
void cancel_conn_close(struct cancel_conn *conn, enum reason reason);

/* A request under way as SHOW tells it. */
struct cancel_view {
	const struct pool *pool;          /* of its client; NULL: it goes to a peer */
	const struct cancel_asker *asker; /* NULL: a connection that no request is bound to yet, or one of our own */
	const struct cancel_conn *conn;   /* NULL: none yet */
};
typedef void (*cancel_view_fn)(const struct cancel_view *view, void *arg);

#endif
