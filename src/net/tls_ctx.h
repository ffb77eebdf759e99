/*
 * What all TLS sessions of one kind have in common: versions, ciphers, our key
 * and certificate, whom we trust, the sessions that may be resumed. Built whole
 * and checked from settings, never changed afterwards, shared by reference
 * count; any thread. A reload that finds the same settings and the same files
 * keeps the context, and with it what was resumable.
 */
#ifndef PGSLUICE_NET_TLS_CTX_H
#define PGSLUICE_NET_TLS_CTX_H

#include "core/base.h"
#include "core/err.h"

struct ssl_ctx_st; /* OpenSSL's SSL_CTX */
struct ssl_st;     /* OpenSSL's SSL */

/* Room for the text of tls_ctx_new(). */
#define TLS_CTX_ERR_MAX 1024

/* What peers of a context are asked for. */
enum tls_verify {
	TLS_VERIFY_NONE,     /* to servers only: nothing is checked */
	TLS_VERIFY_OFFERED,  /* to clients only: a certificate is asked for, and checked when there is one */
	TLS_VERIFY_REQUIRED, /* the chain is checked; from clients: no certificate, no handshake */
};

/* The settings, as text. All strings may be NULL or empty: not set. Borrowed for the call. */
struct tls_setup {
	bool faces_clients; /* we are the TLS server; the settings are named client_tls_* */
	enum tls_verify verify;
	const char *key_file;
	const char *cert_file; /* ours, with the chain below it */
	const char *ca_file;   /* empty: those that the system trusts. Not read where nothing is checked */
	const char *protocols;
	const char *ciphers;
	const char *ciphers13;
	const char *dheparams; /* facing clients only, as is the next */
	const char *ecdhcurve;
	/*
	 * 0: no resumption and no tickets. Facing clients: else tickets, and so many sessions are remembered of those
	 * who cannot keep a ticket. To servers: else one session per target, of so many targets at most.
	 */
	unsigned session_cache;
};

struct tls_ctx;

/*
 * Builds a context and checks everything: 0, or -E_SYNTAX, -E_NOENT, -E_SYS,
 * -E_NOMEM with a text in `err` that names the setting and the file and says
 * what would be right. Warns in the log of a key that everybody may read and of
 * a certificate that is out of date. Reads files; control thread.
 */
int tls_ctx_new(const struct tls_setup *setup, struct tls_ctx **out, char *err, size_t err_size) MUSTCHECK;

/*
 * True when tls_ctx_new() would come to the same: same settings, and files with
 * the same content. A file that cannot be read is not the same, but for a key
 * that was read before this process gave up the right to: it is that of our
 * certificate, whose content is compared. The directory of the system's
 * certificates is not looked at. Control thread.
 */
bool tls_ctx_is_current(const struct tls_ctx *ctx, const struct tls_setup *setup);

/* True when our key or certificate, or those whom we trust, are not the same, whatever the settings are. */
bool tls_ctx_has_other_files(const struct tls_ctx *a, const struct tls_ctx *b);

struct tls_ctx *tls_ctx_hold(struct tls_ctx *ctx) MUSTCHECK;
/* Nulls the pointer; NULL inside is fine. */
void tls_ctx_release(struct tls_ctx **ctx);

/*
 * The context of OpenSSL, for net/tls.c only. It is set up so that writes may be partial and repeated from another
 * address, idle sessions hold no buffers, and no renegotiation or compression happens.
 */
struct ssl_ctx_st *tls_ctx_ssl(const struct tls_ctx *ctx);

/*
 * For net/tls.c, of a session towards a server, before its handshake: has it
 * resume what was agreed with this target (a name of the caller's choice, one
 * per host and port that were verified alike), if anything was, and has what
 * will be agreed kept for the next. NULL: neither. Any thread.
 */
void tls_ctx_resume(const struct tls_ctx *ctx, struct ssl_st *ssl, const char *target);

#endif
