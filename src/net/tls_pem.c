#include "net/tls_pem.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/str.h"

/* A bundle of all the roots of the web has a quarter of a megabyte. */
#define TLS_PEM_MAX (8 * 1024 * 1024)

void tls_pem_why(char *dst, size_t size)
{
	unsigned long code = ERR_peek_last_error();
	const char *text = code == 0 ? NULL : ERR_reason_error_string(code);

	str_copy(dst, size, text != NULL ? text : "no reason given");
	ERR_clear_error();
}

/* Reads to the end of an open file. */
static int tls_pem_read_fd(struct tls_pem *pem, int fd, char *why, size_t why_size)
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		str_copy(why, why_size, strerror(errno));
		return -E_SYS;
	}
	if (!S_ISREG(st.st_mode)) {
		str_copy(why, why_size, "not a file");
		return -E_SYS;
	}
	if (st.st_size > TLS_PEM_MAX) {
		str_format(why, why_size, "larger than %d bytes", TLS_PEM_MAX);
		return -E_TOOBIG;
	}
	pem->is_public = (st.st_mode & S_IROTH) != 0;
	pem->text = xcalloc(1, (size_t)st.st_size + 1);
	while (pem->size < (size_t)st.st_size) {
		ssize_t n = read(fd, pem->text + pem->size, (size_t)st.st_size - pem->size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			str_copy(why, why_size, strerror(errno));
			return -E_SYS;
		}
		if (n == 0)
			break; /* it has become shorter: what is there is judged */
		pem->size += (size_t)n;
	}
	return 0;
}

int tls_pem_read(struct tls_pem *pem, const char *path, char *why, size_t why_size)
{
	/* Not to wait for the writer of a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int err;

	*pem = (struct tls_pem){ .text = NULL };
	if (fd < 0) {
		str_copy(why, why_size, strerror(errno));
		pem->is_denied = errno == EACCES;
		return errno == ENOENT ? -E_NOENT : -E_SYS;
	}
	err = tls_pem_read_fd(pem, fd, why, why_size);
	close(fd);
	if (err != 0)
		tls_pem_free(pem);
	return err;
}

void tls_pem_free(struct tls_pem *pem)
{
	if (pem->text != NULL)
		mem_wipe(pem->text, pem->size);
	free(pem->text);
	*pem = (struct tls_pem){ .text = NULL };
}

static BIO *tls_pem_bio(const struct tls_pem *pem)
{
	return BIO_new_mem_buf(pem->text, (int)pem->size);
}

/* A pooler has nobody whom it could ask for a pass phrase. */
static int tls_pem_no_phrase_cb(char *buf UNUSED, int size UNUSED, int writing UNUSED, void *asked)
{
	*(bool *)asked = true;
	return -1;
}

EVP_PKEY *tls_pem_key(const struct tls_pem *pem, char *why, size_t why_size)
{
	bool is_encrypted = false;
	EVP_PKEY *key = NULL;
	BIO *bio;

	ERR_clear_error();
	bio = tls_pem_bio(pem);
	if (bio != NULL)
		key = PEM_read_bio_PrivateKey(bio, NULL, tls_pem_no_phrase_cb, &is_encrypted);
	BIO_free(bio);
	if (key == NULL && is_encrypted)
		str_copy(why, why_size,
			 "the key is encrypted, and there is nobody to ask for its pass phrase; "
			 "\"openssl pkey\" writes one without");
	else if (key == NULL && strstr(pem->text, "PRIVATE KEY-----") == NULL)
		str_copy(why, why_size, "no private key in it; it should have a line -----BEGIN PRIVATE KEY-----");
	else if (key == NULL)
		tls_pem_why(why, why_size);
	ERR_clear_error();
	return key;
}

/* Why the reading of certificates has ended: true when there are no more. */
static bool tls_pem_is_at_end(int count, char *why, size_t why_size)
{
	bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	char text[256];

	tls_pem_why(text, sizeof(text));
	if (at_end && count > 0)
		return true;
	if (at_end)
		str_copy(why, why_size, "no certificate in it; it should have a line -----BEGIN CERTIFICATE-----");
	else
		str_format(why, why_size, "certificate %d in it is damaged: %s", count + 1, text);
	return false;
}

STACK_OF(X509) * tls_pem_certs(const struct tls_pem *pem, char *why, size_t why_size)
{
	STACK_OF(X509) *certs = sk_X509_new_null();
	BIO *bio = tls_pem_bio(pem);
	X509 *cert;

	ERR_clear_error();
	while (certs != NULL && bio != NULL) {
		cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
		if (cert == NULL)
			break;
		if (sk_X509_push(certs, cert) == 0) {
			X509_free(cert);
			break;
		}
	}
	BIO_free(bio);
	if (certs != NULL && tls_pem_is_at_end(sk_X509_num(certs), why, why_size))
		return certs;
	sk_X509_pop_free(certs, X509_free);
	return NULL;
}
