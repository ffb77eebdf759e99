/*
 * Certificates for the tests of TLS: authorities and what they sign, made on the
 * spot, in a directory of the test's own.
 */
#ifndef PGSLUICE_TEST_TLS_FIXTURE_H
#define PGSLUICE_TEST_TLS_FIXTURE_H

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "core/str.h"
#include "net/tls_ctx.h"

#define FIXTURE_PATH_MAX 300
#define FIXTURE_DAY_S    86400L

static char fixture_dir[128];

/* A key with the certificate for it. */
struct fixture_cert {
	EVP_PKEY *key;
	X509 *cert;
};

static const char *fixture_path(const char *name)
{
	static char paths[64][FIXTURE_PATH_MAX];
	static unsigned turn;
	char *path = paths[turn++ % 64];

	str_format(path, FIXTURE_PATH_MAX, "%s/%s", fixture_dir, name);
	return path;
}

static EVP_PKEY *fixture_new_key(void)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	EVP_PKEY *key = NULL;

	assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
	assert_int_equal(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, NID_X9_62_prime256v1), 1);
	assert_int_equal(EVP_PKEY_keygen(ctx, &key), 1);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

/* A certificate for a name, signed by `issuer`, or by itself when that is NULL, valid for so long from now. */
static struct fixture_cert fixture_new_cert_for(const char *name, const struct fixture_cert *issuer, long seconds)
{
	static long serial = 1;
	struct fixture_cert made = { .key = fixture_new_key(), .cert = X509_new() };
	X509_NAME *subject = X509_get_subject_name(made.cert);

	X509_set_version(made.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(made.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(made.cert), -30 * FIXTURE_DAY_S);
	X509_gmtime_adj(X509_getm_notAfter(made.cert), seconds);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(made.cert, issuer == NULL ? subject : X509_get_subject_name(issuer->cert));
	X509_set_pubkey(made.cert, made.key);
	if (issuer == NULL) {
		X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

		X509_add_ext(made.cert, ext, -1);
		X509_EXTENSION_free(ext);
	}
	assert_true(X509_sign(made.cert, issuer == NULL ? made.key : issuer->key, EVP_sha256()) > 0);
	return made;
}

static struct fixture_cert fixture_new_cert(const char *name, const struct fixture_cert *issuer, int days)
{
	return fixture_new_cert_for(name, issuer, days * FIXTURE_DAY_S);
}

static void fixture_free_cert(struct fixture_cert *made)
{
	EVP_PKEY_free(made->key);
	X509_free(made->cert);
}

/* Writes up to two certificates to one file. */
static void fixture_write_certs(const char *name, X509 *first, X509 *second)
{
	FILE *f = fopen(fixture_path(name), "w");

	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, first), 1);
	if (second != NULL)
		assert_int_equal(PEM_write_X509(f, second), 1);
	fclose(f);
}

static void fixture_write_key(const char *name, EVP_PKEY *key, const char *phrase)
{
	FILE *f = fopen(fixture_path(name), "w");

	assert_non_null(f);
	assert_int_equal(PEM_write_PrivateKey(f, key, phrase == NULL ? NULL : EVP_aes_128_cbc(), NULL, 0, NULL,
					      (void *)(uintptr_t)phrase),
			 1);
	fclose(f);
	assert_int_equal(chmod(fixture_path(name), 0600), 0);
}

/* "x.crt" and "x.key". */
static void fixture_write(const char *name, const struct fixture_cert *made)
{
	char file[64];

	str_format(file, sizeof(file), "%s.crt", name);
	fixture_write_certs(file, made->cert, NULL);
	str_format(file, sizeof(file), "%s.key", name);
	fixture_write_key(file, made->key, NULL);
}

#endif
