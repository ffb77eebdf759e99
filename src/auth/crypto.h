/*
 * The few primitives of the authentication methods, on top of OpenSSL. With
 * OpenSSL 3 every EVP_sha256() or HMAC() looks the algorithm up in its
 * providers anew, which costs more than the hash itself; so the digests are
 * fetched once per process and HMAC is built from the digest. Any thread.
 */
#ifndef PGSLUICE_AUTH_CRYPTO_H
#define PGSLUICE_AUTH_CRYPTO_H

#include "core/base.h"
#include "core/err.h"

#define CRYPTO_SHA256_LEN 32
#define CRYPTO_MD5_LEN    16

/* One part of a message that is hashed as if its parts stood in a row. */
struct crypto_part {
	const void *p;
	size_t n;
};

/* SHA-256 of n bytes; 0 or -E_SYS. */
int crypto_sha256(const void *p, size_t n, uint8_t out[CRYPTO_SHA256_LEN]) MUSTCHECK;

/* HMAC-SHA-256 over the parts in a row; 0 or -E_SYS. */
int crypto_hmac(const void *key, size_t key_len, const struct crypto_part *parts, size_t count,
		uint8_t out[CRYPTO_SHA256_LEN]) MUSTCHECK;

/*
 * PBKDF2 with HMAC-SHA-256, one block of output: milliseconds of CPU for the
 * usual 4096 iterations. `iterations` is at least 1. 0 or -E_SYS.
 */
int crypto_pbkdf2(const void *password, size_t password_len, const uint8_t *salt, size_t salt_len, uint32_t iterations,
		  uint8_t out[CRYPTO_SHA256_LEN]) MUSTCHECK;

/*
 * Calls of crypto_pbkdf2() since the start of the process. It is what a login
 * costs before all, so it tells whether two of them cost the same.
 */
uint64_t crypto_count_pbkdf2(void);

/* MD5 over the parts in a row; 0, or -E_UNSUPPORTED where OpenSSL has none (FIPS). */
int crypto_md5(const struct crypto_part *parts, size_t count, uint8_t out[CRYPTO_MD5_LEN]) MUSTCHECK;

/* Fills with random bytes from OpenSSL's generator; 0 or -E_SYS. */
int crypto_random(void *p, size_t n) MUSTCHECK;

#endif
