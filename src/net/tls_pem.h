/*
 * Files with keys and certificates: read once, whole, and taken apart from
 * memory, so that what is checked, what is used and what is compared at the
 * next reload are the same bytes, whoever writes to the file meanwhile.
 */
#ifndef PGSLUICE_NET_TLS_PEM_H
#define PGSLUICE_NET_TLS_PEM_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "core/base.h"
#include "core/err.h"

/* The content of a file; all zero: none. */
struct tls_pem {
	char *text; /* with a NUL behind it */
	size_t size;
	bool is_public; /* everybody may read the file */
	bool is_denied; /* we may not; set when it could not be read */
};

/*
 * Reads a file: 0, -E_NOENT or -E_SYS when it cannot be read, -E_TOOBIG; then
 * `why` says so, without the name of the file. Blocks as files do.
 */
int tls_pem_read(struct tls_pem *pem, const char *path, char *why, size_t why_size) MUSTCHECK;

/* Wipes the content and gives it back. */
void tls_pem_free(struct tls_pem *pem);

/* The private key in it, to be freed by the caller; NULL with a text in `why`. Never asks for a pass phrase. */
EVP_PKEY *tls_pem_key(const struct tls_pem *pem, char *why, size_t why_size) MUSTCHECK;

/* The certificates in it, in their order, at least one, to be freed by the caller; NULL with a text in `why`. */
STACK_OF(X509) * tls_pem_certs(const struct tls_pem *pem, char *why, size_t why_size) MUSTCHECK;

/* What OpenSSL has complained of last, in words; forgets all its complaints. */
void tls_pem_why(char *dst, size_t size);

#endif
