/*
 * A cancel request is never answered: who asks waits for its connection to be
 * closed, and PostgreSQL, or a peer, tells by closing that it has done what it
 * could. So the asker's connection is held and not read, the request goes on
 * over a connection of its own, and the end of the one is the end of the
 * other. Whether the asker is still there does not matter: some drivers hang
 * up at once, and mean it all the same.
 *
 *   init --> connect --> on_open --> send --> on_over --> close
 *                 \________ on_over (connect failed) ___/
 *
 * The key is what a request is worth, so it travels to a server as all else
 * does: if the server's own connection is encrypted, this one is, with the same
 * checks, or the request is not sent.
 */
#include "pool/cancel_io.h"

#include "core/log.h"
#include "core/str.h"
#include "pool/report.h"
#include "proto/build.h"

#define CANCEL_PACKET_MAX 512

void cancel_asker_end(struct cancel_asker *asker, struct engine *engine, const struct conf *conf, const char *where,
		      enum reason reason, uint64_t now_us)
{
	struct log_about about;

	report_about(&about, asker->ptr, asker->id, NULL, NULL);
	str_copy(about.pool, sizeof(about.pool), where);
	str_copy(about.peer, sizeof(about.peer), asker->peer);
	about.action = "cancel";
	report_close(conf, &about, reason_text(reason), now_us - asker->connect_us);
	atomic_fetch_sub_explicit(&engine->client_count, 1, memory_order_relaxed);
	stream_socket_close(&asker->socket);
}

static void conn_describe(const struct cancel_conn *conn, struct log_about *about)
{
	report_about(about, conn, conn->id, NULL, NULL);
	report_about_addr(about, &conn->addr, (int)conn->port);
	str_copy(about->pool, sizeof(about->pool), conn->where);
	about->kind = 'S';
	about->action = "cancel";
}

static void conn_log_failure(const struct cancel_conn *conn, int error)
{
	struct log_about about;

	conn_describe(conn, &about);
	log_warning_about(&about, "could not connect to deliver a cancel request: %s", strerror(error));
}

static void conn_log_open(const struct cancel_conn *conn)
{
	struct log_about about;

	if ((*conn->snap)->conf->log_connections == 0)
		return;
	conn_describe(conn, &about);
	report_connected(&about, &conn->addr, conn->stream.fd);
}

/* ---- callbacks of the stream ---- */

static void conn_open(struct cancel_conn *conn)
{
	conn->is_open = true;
	conn->ops->on_open(conn->owner);
}

static void conn_on_tls_step(struct cancel_conn *conn, enum server_tls_step step, enum reason reason)
{
	if (step == SERVER_TLS_PLAIN)
		conn_open(conn);
	else if (step == SERVER_TLS_FAILED)
		conn->ops->on_over(conn->owner, reason);
}

static void conn_on_connected(void *owner)
{
	struct cancel_conn *conn = owner;
	enum reason reason = REASON_CONNECT_FAILED;
	enum server_tls_step step;
	int err = sock_connect_result(conn->stream.fd);

	if (err == -E_AGAIN) {
		stream_detach(&conn->stream);
		stream_watch_connect(&conn->stream, conn->loop);
	} else if (err != 0) {
		conn_log_failure(conn, errno);
		conn->ops->on_over(conn->owner, REASON_CONNECT_FAILED);
	} else {
		conn_log_open(conn);
		step = server_tls_begin(&conn->tls, &conn->stream, &reason);
		conn_on_tls_step(conn, step, reason);
	}
}

static void conn_on_secured(void *owner, int err)
{
	struct cancel_conn *conn = owner;
	struct log_about about;

	conn_describe(conn, &about);
	if (server_tls_is_secured(&conn->stream, err, &about, (*conn->snap)->conf->log_connections != 0))
		conn_open(conn);
	else
		conn->ops->on_over(conn->owner, REASON_CONNECT_FAILED);
}

/* The other side answers by closing. */
static void conn_on_readable(void *owner)
{
	struct cancel_conn *conn = owner;
	enum reason reason = REASON_CONNECT_FAILED;
	uint8_t *data;
	size_t len;
	int err;

	if (!conn->is_open) {
		enum server_tls_step step = server_tls_on_answer(&conn->tls, &conn->stream, &reason);

		conn_on_tls_step(conn, step, reason);
		return;
	}
	err = stream_fill(&conn->stream, &data, &len);
	if (err != -E_AGAIN)
		conn->ops->on_over(conn->owner, REASON_CANCEL_SENT);
}

static void conn_on_drained(void *owner, int err)
{
	struct cancel_conn *conn = owner;

	if (err < 0)
		conn->ops->on_over(conn->owner, REASON_CANCEL_FAILED);
}

static const struct stream_ops conn_stream_ops = {
	.on_readable = conn_on_readable,
	.on_drained = conn_on_drained,
	.on_event = conn_on_connected,
	.on_secured = conn_on_secured,
};

/* ---- for the owner ---- */

void cancel_conn_init(struct cancel_conn *conn, struct engine *engine, const struct cancel_conn_ops *ops, void *owner)
{
	conn->engine = engine;
	conn->ops = ops;
	conn->owner = owner;
	conn->stream = (struct stream){ .fd = -1 };
	conn->addr = (struct sock_addr){ .len = 0 };
	conn->tls = (struct server_tls){ .ctx = NULL };
	conn->is_open = false;
	conn->id = engine_next_id(engine);
	conn->connect_us = loop_now_us(conn->loop);
	conn->sent_us = 0;
	atomic_fetch_add_explicit(&engine->cancel_conns, 1, memory_order_relaxed);
}

int cancel_conn_connect(struct cancel_conn *conn, const struct sock_addr *addr, const struct sock_tuning *tuning,
			struct server_tls *tls)
{
	int fd;

	if (tls != NULL)
		conn->tls = *tls;

	conn->addr = *addr;
	fd = sock_connect_start(addr, tuning);
	if (fd < 0) {
		conn_log_failure(conn, errno);
		return fd;
	}
	stream_init(&conn->stream, fd, &conn_stream_ops, conn, 64, CANCEL_PACKET_MAX);
	stream_watch_connect(&conn->stream, conn->loop);
	return 0;
}

int cancel_conn_send(struct cancel_conn *conn, uint32_t pid, const uint8_t *key, size_t key_len)
{
	struct buf b;
	int err;

	buf_init(&b, CANCEL_PACKET_MAX);
	err = build_cancel_request(&b, pid, slice_make(key, key_len));
	if (err == 0)
		err = stream_send_buf(&conn->stream, &b);
	buf_fini(&b);
	if (err < 0)
		return err;
	conn->sent_us = loop_now_us(conn->loop);
	stream_want_read(&conn->stream, true);
	return 0;
}

void cancel_conn_close(struct cancel_conn *conn, enum reason reason)
{
	struct log_about about;

	conn_describe(conn, &about);
	report_close((*conn->snap)->conf, &about, reason_text(reason), loop_now_us(conn->loop) - conn->connect_us);
	stream_close(&conn->stream);
	server_tls_fini(&conn->tls);
	atomic_fetch_sub_explicit(&conn->engine->cancel_conns, 1, memory_order_relaxed);
}
