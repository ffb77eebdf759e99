/*
 * PostgreSQL is asked first, with an SSLRequest, and answers with one byte: S, and
 * the handshake follows, or N, and the connection is what it was. With direct
 * negotiation the handshake comes at once, and the server must confirm in it
 * that it speaks the protocol of PostgreSQL (ALPN), or the handshake of another
 * service could be mistaken for it.
 *
 * The byte is alone. Whatever comes with it was written by somebody who cannot
 * know the key, and would be taken for an answer to what we say later, in
 * secret; so it ends the connection. An E is what servers say that are older
 * than TLS in PostgreSQL, or are short of memory: nothing in their message can be
 * trusted, and it is not read.
 *
 * N is the only way from TLS to plain text, and only where the settings leave
 * it open. A handshake that fails is never followed by an attempt without: who
 * can break the one could read the other.
 */
#include "pool/server_tls.h"

#include "core/alloc.h"
#include "core/str.h"
#include "proto/build.h"

#define SERVER_TLS_KEY_MAX 300

void server_tls_init(struct server_tls *tls, const struct pool_conf *conf, const struct endpoint *endpoint)
{
	const char *host = endpoint == NULL ? NULL : endpoint->host;
	bool is_unix = host == NULL || sock_host_is_unix(host);
	size_t n;

	*tls = (struct server_tls){ .ctx = NULL };
	if (is_unix || conf->tls == NULL)
		return;
	tls->ctx = tls_ctx_hold(conf->tls);
	tls->host = xstrdup(host);
	n = strlen(host);
	if (n > 1 && host[n - 1] == '.')
		tls->host[n - 1] = '\0'; /* it says that a name is complete, and is no part of it */
	tls->port = endpoint->port;
	tls->is_required = conf->tls_mode >= CONF_SSL_REQUIRE;
	tls->verifies = conf->tls_mode == CONF_SSL_VERIFY_FULL;
	tls->is_direct = conf->tls_direct;
}

void server_tls_init_like(struct server_tls *tls, const struct server_tls *first, bool has_tls)
{
	*tls = (struct server_tls){ .ctx = NULL };
	if (!has_tls)
		return;
	*tls = *first;
	tls->ctx = tls_ctx_hold(first->ctx);
	tls->host = xstrdup(first->host);
	tls->is_required = true;
}

void server_tls_fini(struct server_tls *tls)
{
	tls_ctx_release(&tls->ctx);
	free(tls->host);
	tls->host = NULL;
}

static enum server_tls_step server_tls_shake(const struct server_tls *tls, struct stream *s)
{
	char key[SERVER_TLS_KEY_MAX];
	struct tls_target target = {
		.host = tls->host,
		.verify_name = tls->verifies,
		.is_direct = tls->is_direct,
		.key = key,
	};

	str_format(key, sizeof(key), "%s:%u", tls->host, tls->port);
	stream_start_tls(s, tls_connect(tls->ctx, s->fd, &target));
	return SERVER_TLS_SHAKES;
}

enum server_tls_step server_tls_begin(const struct server_tls *tls, struct stream *s, enum reason *reason)
{
	struct buf b;
	int err;

	if (tls->ctx == NULL)
		return SERVER_TLS_PLAIN;
	if (tls->is_direct)
		return server_tls_shake(tls, s);
	buf_init(&b, 64);
	err = build_ssl_request(&b);
	if (err == 0)
		err = stream_send_buf(s, &b);
	buf_fini(&b);
	if (err < 0) {
		*reason = REASON_SERVER_SEND;
		return SERVER_TLS_FAILED;
	}
	stream_want_read(s, true);
	return SERVER_TLS_ASKED;
}

enum server_tls_step server_tls_on_answer(const struct server_tls *tls, struct stream *s, enum reason *reason)
{
	enum server_tls_step step = SERVER_TLS_FAILED;
	uint8_t *data;
	size_t len;
	int err = stream_fill(s, &data, &len);

	if (err == -E_AGAIN)
		return SERVER_TLS_ASKED;
	if (err < 0)
		*reason = REASON_SERVER_CRASH;
	else if (data[0] != 'S' && data[0] != 'N')
		*reason = REASON_SSL_ANSWER;
	else if (len > 1)
		*reason = REASON_SSL_ANSWER_EXTRA;
	else if (data[0] == 'S')
		step = server_tls_shake(tls, s);
	else if (tls->is_required)
		*reason = REASON_SSL_REFUSED;
	else
		step = SERVER_TLS_PLAIN;
	return step;
}

bool server_tls_is_secured(struct stream *s, int err, const struct log_about *about, bool tell)
{
	char info[TLS_INFO_MAX];

	if (err != 0) {
		log_warning_about(about, "TLS handshake error: %s", tls_error_text(stream_tls(s)));
		return false;
	}
	if (tell) {
		tls_info(stream_tls(s), info, sizeof(info));
		log_info_about(about, "SSL established: %s", info);
	}
	return true;
}
