/*
 * One TLS session on a connected, non-blocking socket. A stream owns it and
 * drives it; others ask it who is at the other end. Like its socket it belongs
 * to one thread at a time. OpenSSL writes to the socket in a way that makes the
 * process ignore SIGPIPE, or die. TLS 1.2 is RFC 5246, TLS 1.3 is RFC 8446.
 */
#ifndef PGSLUICE_NET_TLS_H
#define PGSLUICE_NET_TLS_H

#include "core/base.h"
#include "core/err.h"

struct tls;
struct tls_ctx;

#define TLS_RECORD_MAX  16384 /* bytes that one record carries at most */
#define TLS_INFO_MAX    128   /* text of tls_info(), with its NUL */
#define TLS_BINDING_MAX 64    /* bytes of a tls_end_point() */

/* The session in which we are the server. Holds the context. */
struct tls *tls_accept(struct tls_ctx *ctx, int fd) MUSTCHECK;

/* Whom we connect to. */
struct tls_target {
	const char *host; /* name or address; a name is told to the server (SNI); NULL: none */
	bool verify_name; /* the certificate must be for `host` */
	bool is_direct;   /* nothing was spoken before the handshake: the server must confirm the protocol (ALPN) */
	const char *key;  /* under which a session is kept and resumed; NULL: not at all */
};

/* The session in which we are the client. Holds the context; what `target` points to is copied. */
struct tls *tls_connect(struct tls_ctx *ctx, int fd, const struct tls_target *target) MUSTCHECK;

/* Tells the other side, as far as the socket takes it at once, and frees. The descriptor stays open. NULL inside is
 * fine. */
void tls_free(struct tls **tls);

/* What a call waits for when it returns -E_AGAIN. */
enum tls_want { TLS_WANT_READ, TLS_WANT_WRITE };
enum tls_want tls_want(const struct tls *tls);

/*
 * Goes on with the handshake: 0 when it is complete; -E_AGAIN; -E_EOF when the
 * other side closed; -E_PROTO when it failed, tls_error_text() says why.
 */
int tls_handshake(struct tls *tls) MUSTCHECK;

/* Why the handshake or what came after it has failed, for the log; lives as long as the session. */
const char *tls_error_text(const struct tls *tls);

/* Reads up to `size` bytes, of one record: 0 with *got > 0; -E_AGAIN; -E_EOF; -E_IO. */
int tls_read(struct tls *tls, void *p, size_t size, size_t *got) MUSTCHECK;

/*
 * Writes, in several records if it must: *sent bytes are taken, also when the
 * result is -E_AGAIN, -E_EOF or -E_IO. After -E_AGAIN the next call must begin
 * with the bytes that were not taken.
 */
int tls_write(struct tls *tls, const void *p, size_t n, size_t *sent) MUSTCHECK;

/* Bytes were read off the socket that tls_read() has not given out; perhaps not a whole record yet. */
bool tls_has_pending(const struct tls *tls);

/* Version, cipher and curve: "TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=X25519". Empty before the end of the handshake. */
void tls_info(const struct tls *tls, char *dst, size_t size);

/* The session continues an earlier one, without a key exchange of certificates. */
bool tls_is_resumed(const struct tls *tls);

/*
 * The tls-server-end-point of the session (RFC 5929): the hash of the server's
 * certificate, ours or the other side's. 0 bytes when its signature names no
 * hash. After the handshake.
 */
size_t tls_end_point(const struct tls *tls, uint8_t dst[TLS_BINDING_MAX]);

/* The other side has shown a certificate; it has passed the checks of the context. */
bool tls_has_peer_cert(const struct tls *tls);

/* The names in a certificate. */
enum tls_name {
	TLS_NAME_DNS, /* subjectAltName: dNSName */
	TLS_NAME_IP,  /* subjectAltName: iPAddress, as text */
	TLS_NAME_CN,  /* commonName of the subject */
	TLS_NAME_DN,  /* the whole subject, RFC 2253 */
};

/*
 * Calls fn for each name in the other side's certificate until it returns
 * false. Names with a NUL inside are left out. `name` is valid during the call.
 */
void tls_each_peer_name(const struct tls *tls, bool (*fn)(void *arg, enum tls_name kind, const char *name), void *arg);

#endif
