/*
 * TLS sessions.
 *
 * OpenSSL works on the socket itself. It reads ahead, so that a record costs
 * one system call instead of two; what it has read but not given out is asked
 * for with tls_has_pending(), since the kernel will not report it again.
 *
 * Writing in part is on: SSL_write() returns after each record, and what the
 * socket did not take must come again. The stream's outgoing buffer begins with
 * just these bytes, perhaps at another address, which is allowed.
 *
 * A wish to read while writing, or the reverse, can come up in a handshake
 * only, but for the answer to a KeyUpdate, which tls_read() may have to write.
 * Renegotiation is switched off in the context.
 *
 * SSL_read() does not return before it has data or the socket is empty, and a
 * peer that sends one KeyUpdate after the other gives it neither: it would keep
 * the thread, before anybody has logged in. Therefore each call may read from
 * the socket a few times only, and then finds it empty. Records are read ahead,
 * so that those of a good peer need one or two.
 *
 * The name in a server's certificate is checked here and not by OpenSSL while
 * it verifies the chain, for the sake of an address in the common name, which
 * OpenSSL does not look at and PgBouncer does.
 */
#include "net/tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "core/alloc.h"
#include "core/str.h"
#include "net/tls_ctx.h"

#define TLS_MAGIC     0x544c5331U
#define TLS_ERROR_MAX 200
#define TLS_READS_MAX 2 /* from the socket, in one call */

struct tls {
	unsigned magic;
	struct tls_ctx *ctx; /* held */
	SSL *ssl;
	char *host;       /* to be found in the certificate; NULL: not checked */
	bool is_direct;   /* the server must confirm the protocol */
	bool is_complete; /* the handshake is */
	bool is_broken;   /* nothing can be sent any more */
	int reads_left;   /* from the socket, in this call */
	enum tls_want want;
	char error[TLS_ERROR_MAX];
};

/* ---- birth and end ---- */

/* Before OpenSSL reads from the socket: what BIO_set_callback_ex() takes. Not positive: it finds nothing there. */
static long tls_before_io(BIO *bio, int op, const char *p UNUSED, size_t n UNUSED, int argi UNUSED, long argl UNUSED,
			  int ret, size_t *done UNUSED)
{
	struct tls *tls = (struct tls *)BIO_get_callback_arg(bio);

	if (op != BIO_CB_READ || tls->reads_left-- > 0)
		return ret;
	BIO_clear_retry_flags(bio);
	BIO_set_retry_read(bio);
	return -1;
}

static struct tls *tls_new(struct tls_ctx *ctx, int fd)
{
	BIO *bio;
	struct tls *tls = xcalloc(1, sizeof(*tls));

	tls->magic = TLS_MAGIC;
	tls->ctx = tls_ctx_hold(ctx);
	tls->ssl = SSL_new(tls_ctx_ssl(ctx));
	ASSERT(tls->ssl != NULL && SSL_set_fd(tls->ssl, fd) == 1); /* fails for want of memory only */
	bio = SSL_get_rbio(tls->ssl);
	BIO_set_callback_arg(bio, (char *)tls);
	BIO_set_callback_ex(bio, tls_before_io);
	return tls;
}

struct tls *tls_accept(struct tls_ctx *ctx, int fd)
{
	struct tls *tls = tls_new(ctx, fd);

	SSL_set_accept_state(tls->ssl);
	return tls;
}

/* True for an address in text, which no server name indication may have (RFC 6066, section 3). */
static bool tls_is_address(const char *host)
{
	uint8_t bytes[16];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

struct tls *tls_connect(struct tls_ctx *ctx, int fd, const struct tls_target *target)
{
	struct tls *tls = tls_new(ctx, fd);

	SSL_set_connect_state(tls->ssl);
	tls->want = TLS_WANT_WRITE; /* it is we who begin */
	if (target->host != NULL && !tls_is_address(target->host))
		(void)SSL_set_tlsext_host_name(tls->ssl, target->host);
	if (target->verify_name)
		tls->host = xstrdup(target->host == NULL ? "" : target->host);
	tls->is_direct = target->is_direct;
	tls_ctx_resume(ctx, tls->ssl, target->key);
	return tls;
}

void tls_free(struct tls **tlsp)
{
	struct tls *tls = *tlsp;

	*tlsp = NULL;
	if (tls == NULL)
		return;
	CHECK_OBJ(tls, TLS_MAGIC);
	ERR_clear_error();
	if (tls->is_complete && !tls->is_broken)
		(void)SSL_shutdown(tls->ssl);
	SSL_free(tls->ssl);
	ERR_clear_error();
	tls_ctx_release(&tls->ctx);
	free(tls->host);
	free(tls);
}

enum tls_want tls_want(const struct tls *tls)
{
	return tls->want;
}

/* ---- errors ---- */

const char *tls_error_text(const struct tls *tls)
{
	return tls->error;
}

/* The reason that OpenSSL gives, and of a certificate that failed the check, which check. */
static void tls_note_error(struct tls *tls, unsigned long code)
{
	long verify = SSL_get_verify_result(tls->ssl);
	const char *reason = ERR_reason_error_string(code);

	if (tls->error[0] != '\0')
		return;
	if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		str_format(tls->error, sizeof(tls->error), "%s: %s", reason, X509_verify_cert_error_string(verify));
	else
		str_copy(tls->error, sizeof(tls->error), reason == NULL ? "protocol error" : reason);
}

/* What the result of an operation on the session means; the error queue was empty before it. */
static int tls_result(struct tls *tls, int ret)
{
	unsigned long code;

	switch (SSL_get_error(tls->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		tls->want = TLS_WANT_READ;
		return -E_AGAIN;
	case SSL_ERROR_WANT_WRITE:
		tls->want = TLS_WANT_WRITE;
		return -E_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return -E_EOF;
	case SSL_ERROR_SYSCALL:
		tls->is_broken = true;
		return ret == 0 || errno == 0 || errno == EPIPE || errno == ECONNRESET ? -E_EOF : -E_IO;
	default:
		tls->is_broken = true;
		code = ERR_peek_error();
		if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
			return -E_EOF;
		tls_note_error(tls, code);
		return -E_IO;
	}
}

/* ---- the handshake ---- */

/* True when the certificate has no name of its own kind beside the subject, so that the common name counts. */
static bool tls_has_alt_names(X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool has = false;

	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		int type = sk_GENERAL_NAME_value(names, i)->type;

		has = has || type == GEN_DNS || type == GEN_IPADD;
	}
	GENERAL_NAMES_free(names);
	return has;
}

/* The common name of a certificate, when it has one that is text without a NUL; to be freed with OPENSSL_free(). */
static char *tls_common_name(X509 *cert)
{
	X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *text = NULL;
	int n;

	if (at < 0)
		return NULL;
	n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (n >= 0 && strlen((const char *)text) == (size_t)n)
		return (char *)text;
	OPENSSL_free(text);
	return NULL;
}

/* The server's certificate is for the host that we wanted (RFC 6125). */
static bool tls_is_for_host(X509 *cert, const char *host)
{
	char *name;
	bool is;

	if (!tls_is_address(host))
		return host[0] != '\0' &&
		       X509_check_host(cert, host, strlen(host), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
	if (X509_check_ip_asc(cert, host, 0) == 1)
		return true;
	if (tls_has_alt_names(cert))
		return false;
	name = tls_common_name(cert);
	is = name != NULL && strcmp(name, host) == 0;
	OPENSSL_free(name);
	return is;
}

/* What is to be checked beyond the chain: 0 or -E_PROTO. */
static int tls_check_server(struct tls *tls)
{
	X509 *cert = SSL_get0_peer_certificate(tls->ssl);
	const unsigned char *alpn;
	unsigned alpn_len;

	if (tls->host != NULL && (cert == NULL || !tls_is_for_host(cert, tls->host))) {
		str_format(tls->error, sizeof(tls->error), "server certificate is not for host \"%s\"", tls->host);
		return -E_PROTO;
	}
	SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_len);
	if (tls->is_direct && alpn_len == 0) {
		str_copy(tls->error, sizeof(tls->error),
			 "server does not confirm the protocol (ALPN), as direct negotiation demands");
		return -E_PROTO;
	}
	return 0;
}

int tls_handshake(struct tls *tls)
{
	int ret;

	CHECK_OBJ(tls, TLS_MAGIC);
	ERR_clear_error();
	errno = 0;
	tls->reads_left = TLS_READS_MAX;
	ret = SSL_do_handshake(tls->ssl);
	if (ret != 1) {
		ret = tls_result(tls, ret);
		if (ret == -E_IO && tls->error[0] != '\0')
			return -E_PROTO;
		if (ret != -E_AGAIN && tls->error[0] == '\0')
			str_copy(tls->error, sizeof(tls->error), "connection closed in the handshake");
		return ret;
	}
	tls->is_complete = true;
	return SSL_is_server(tls->ssl) ? 0 : tls_check_server(tls);
}

/* ---- bytes ---- */

int tls_read(struct tls *tls, void *p, size_t size, size_t *got)
{
	int ret;

	ERR_clear_error();
	errno = 0;
	tls->reads_left = TLS_READS_MAX;
	ret = SSL_read_ex(tls->ssl, p, size, got);
	return LIKELY(ret == 1) ? 0 : tls_result(tls, ret);
}

int tls_write(struct tls *tls, const void *p, size_t n, size_t *sent)
{
	int err = 0;

	*sent = 0;
	while (*sent < n) {
		size_t taken = 0;
		int ret;

		ERR_clear_error();
		errno = 0;
		ret = SSL_write_ex(tls->ssl, (const uint8_t *)p + *sent, n - *sent, &taken);
		if (UNLIKELY(ret != 1)) {
			err = tls_result(tls, ret);
			break;
		}
		*sent += taken;
	}
	/* Nothing that is read could let it go on. */
	return err == -E_AGAIN && tls->want == TLS_WANT_READ ? -E_IO : err;
}

bool tls_has_pending(const struct tls *tls)
{
	return SSL_has_pending(tls->ssl) == 1;
}

/* ---- who is there ---- */

void tls_info(const struct tls *tls, char *dst, size_t size)
{
	const char *curve = NULL;
	int group;

	dst[0] = '\0';
	if (!SSL_is_init_finished(tls->ssl))
		return; /* OpenSSL 3.0 would look for the group in a session that is not there yet */
	group = SSL_get_negotiated_group(tls->ssl);
	if (group != NID_undef)
		curve = SSL_group_to_name(tls->ssl, group);
	str_format(dst, size, "%s/%s%s%s", SSL_get_version(tls->ssl), SSL_get_cipher_name(tls->ssl),
		   curve == NULL ? "" : "/ECDH=", curve == NULL ? "" : curve);
}

bool tls_is_resumed(const struct tls *tls)
{
	return SSL_session_reused(tls->ssl) == 1;
}

/* The certificate of whichever side is the server. */
static X509 *tls_server_cert(const struct tls *tls)
{
	return SSL_is_server(tls->ssl) ? SSL_get_certificate(tls->ssl) : SSL_get0_peer_certificate(tls->ssl);
}

size_t tls_end_point(const struct tls *tls, uint8_t dst[TLS_BINDING_MAX])
{
	X509 *cert = tls_server_cert(tls);
	const EVP_MD *digest;
	unsigned n = 0;
	int nid;

	_Static_assert(EVP_MAX_MD_SIZE <= TLS_BINDING_MAX, "every digest fits");
	if (cert == NULL || X509_get_signature_info(cert, &nid, NULL, NULL, NULL) != 1)
		return 0;
	if (nid == NID_md5 || nid == NID_sha1)
		nid = NID_sha256; /* as the RFC demands */
	digest = EVP_get_digestbynid(nid);
	if (digest == NULL || X509_digest(cert, digest, dst, &n) != 1)
		return 0;
	return n;
}

bool tls_has_peer_cert(const struct tls *tls)
{
	return SSL_get0_peer_certificate(tls->ssl) != NULL;
}

/* One subjectAltName as text, or false for kinds that are not looked at and names with a NUL inside. */
static bool tls_alt_name_text(const GENERAL_NAME *name, enum tls_name *kind, char *dst, size_t size)
{
	const ASN1_STRING *s;
	size_t n;

	if (name->type == GEN_DNS) {
		s = name->d.dNSName;
		n = (size_t)ASN1_STRING_length(s);
		*kind = TLS_NAME_DNS;
		if (n >= size || memchr(ASN1_STRING_get0_data(s), '\0', n) != NULL)
			return false;
		str_copy_slice(dst, size, slice_make(ASN1_STRING_get0_data(s), n));
		return true;
	}
	if (name->type == GEN_IPADD) {
		s = name->d.iPAddress;
		n = (size_t)ASN1_STRING_length(s);
		*kind = TLS_NAME_IP;
		return (n == 4 || n == 16) &&
		       inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(s), dst, (socklen_t)size) != NULL;
	}
	return false;
}

/* The whole subject, as RFC 2253 writes it; NULL when memory is short. To be freed with OPENSSL_free(). */
static char *tls_subject(X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;
	const char *p;
	long n;

	if (bio == NULL)
		return NULL;
	if (X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
		n = BIO_get_mem_data(bio, &p);
		if (n >= 0 && memchr(p, '\0', (size_t)n) == NULL)
			text = OPENSSL_strndup(p, (size_t)n);
	}
	BIO_free(bio);
	return text;
}

void tls_each_peer_name(const struct tls *tls, bool (*fn)(void *arg, enum tls_name kind, const char *name), void *arg)
{
	X509 *cert = SSL_get0_peer_certificate(tls->ssl);
	GENERAL_NAMES *names;
	bool goes_on = true;
	char *text;

	if (cert == NULL)
		return;
	names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	for (int i = 0; goes_on && names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		enum tls_name kind;
		char alt[256];

		if (tls_alt_name_text(sk_GENERAL_NAME_value(names, i), &kind, alt, sizeof(alt)))
			goes_on = fn(arg, kind, alt);
	}
	GENERAL_NAMES_free(names);
	text = goes_on ? tls_common_name(cert) : NULL;
	if (text != NULL)
		goes_on = fn(arg, TLS_NAME_CN, text);
	OPENSSL_free(text);
	text = goes_on ? tls_subject(cert) : NULL;
	if (text != NULL)
		(void)fn(arg, TLS_NAME_DN, text);
	OPENSSL_free(text);
}
