/*
 * How a connection to a server comes by TLS, between the connect and the first
 * message: that of a login, or that of a cancel request. Own thread of the
 * stream's loop.
 */
#ifndef PGSLUICE_POOL_SERVER_TLS_H
#define PGSLUICE_POOL_SERVER_TLS_H

#include "core/log.h"
#include "core/reason_tbl.h"
#include "net/stream.h"
#include "pool/pool_conf.h"

/* What is asked of a server, and who it should be. */
struct server_tls {
	struct tls_ctx *ctx; /* held; NULL: plain text */
	char *host;          /* as the configuration names it; NULL: a Unix socket, which is plain text */
	unsigned port;
	bool is_required; /* a server that has no TLS will not do */
	bool verifies;    /* the certificate must be for that host */
	bool is_direct;   /* the handshake comes first */
};

enum server_tls_step {
	SERVER_TLS_PLAIN,  /* it goes on in plain text */
	SERVER_TLS_ASKED,  /* server_tls_on_answer() when the stream is readable */
	SERVER_TLS_SHAKES, /* the stream will call on_secured() */
	SERVER_TLS_FAILED, /* *reason says why */
};

/* As a pool's settings have it, for the element `host` of the list of hosts (NULL: a Unix socket). */
void server_tls_init(struct server_tls *tls, const struct pool_conf *conf, const struct endpoint *endpoint);

/* For another connection to a server whose first one has come by TLS, or has not: this one goes the same way. */
void server_tls_init_like(struct server_tls *tls, const struct server_tls *first, bool has_tls);

/* Gives back what it holds; may be called twice. */
void server_tls_fini(struct server_tls *tls);

/* The connect is complete. */
enum server_tls_step server_tls_begin(const struct server_tls *tls, struct stream *s, enum reason *reason) MUSTCHECK;

/* Something is to be read, or the end. Stays at SERVER_TLS_ASKED when there was nothing. */
enum server_tls_step server_tls_on_answer(const struct server_tls *tls, struct stream *s,
					  enum reason *reason) MUSTCHECK;

/*
 * The handshake has ended, with the result that on_secured() had: true when it succeeded. Says so in the log, or why
 * not; `about` is whose connection it is, `tell` whether success is worth a line.
 */
bool server_tls_is_secured(struct stream *s, int err, const struct log_about *about, bool tell) MUSTCHECK;

#endif
