#include "auth/crypto.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/str.h"

#define CRYPTO_HMAC_BLOCK 64

/*
 * What is fetched once and lives as long as the process. OpenSSL 1.1.1 has no
 * providers; there the digests are constants of the library.
 */
static struct {
	const EVP_MD *sha256;
	const EVP_MD *md5; /* NULL where the provider has none */
} crypto_digests;

static pthread_once_t crypto_once = PTHREAD_ONCE_INIT;

static _Atomic uint64_t crypto_pbkdf2_calls;

static void crypto_fetch_digests(void)
{
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
	crypto_digests.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	crypto_digests.md5 = EVP_MD_fetch(NULL, "MD5", NULL);
#else
	crypto_digests.sha256 = EVP_sha256();
	crypto_digests.md5 = EVP_md5();
#endif
}

static const EVP_MD *crypto_get_sha256(void)
{
	ASSERT(pthread_once(&crypto_once, crypto_fetch_digests) == 0);
	return crypto_digests.sha256;
}

static const EVP_MD *crypto_get_md5(void)
{
	ASSERT(pthread_once(&crypto_once, crypto_fetch_digests) == 0);
	return crypto_digests.md5;
}

/* Hashes `first` and then the parts with a context that the caller owns. */
static bool crypto_digest(EVP_MD_CTX *ctx, const EVP_MD *md, struct crypto_part first, const struct crypto_part *parts,
			  size_t count, uint8_t *out)
{
	if (!EVP_DigestInit_ex(ctx, md, NULL) || !EVP_DigestUpdate(ctx, first.p, first.n))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (parts[i].n > 0 && !EVP_DigestUpdate(ctx, parts[i].p, parts[i].n))
			return false;
	}
	return EVP_DigestFinal_ex(ctx, out, NULL) == 1;
}

int crypto_sha256(const void *p, size_t n, uint8_t out[CRYPTO_SHA256_LEN])
{
	const EVP_MD *md = crypto_get_sha256();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = md != NULL && ctx != NULL && crypto_digest(ctx, md, (struct crypto_part){ p, n }, NULL, 0, out);

	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -E_SYS;
}

int crypto_hmac(const void *key, size_t key_len, const struct crypto_part *parts, size_t count,
		uint8_t out[CRYPTO_SHA256_LEN])
{
	const EVP_MD *md = crypto_get_sha256();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t pad[CRYPTO_HMAC_BLOCK] = { 0 };
	uint8_t inner[CRYPTO_SHA256_LEN];
	struct crypto_part second = { inner, sizeof(inner) };
	bool ok = md != NULL && ctx != NULL;

	if (ok && key_len > sizeof(pad))
		ok = crypto_digest(ctx, md, (struct crypto_part){ key, key_len }, NULL, 0, pad);
	else if (ok && key_len > 0)
		memcpy(pad, key, key_len);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36;
	ok = ok && crypto_digest(ctx, md, (struct crypto_part){ pad, sizeof(pad) }, parts, count, inner);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36 ^ 0x5c;
	ok = ok && crypto_digest(ctx, md, (struct crypto_part){ pad, sizeof(pad) }, &second, 1, out);
	EVP_MD_CTX_free(ctx);
	mem_wipe(pad, sizeof(pad));
	mem_wipe(inner, sizeof(inner));
	return ok ? 0 : -E_SYS;
}

int crypto_pbkdf2(const void *password, size_t password_len, const uint8_t *salt, size_t salt_len, uint32_t iterations,
		  uint8_t out[CRYPTO_SHA256_LEN])
{
	const EVP_MD *md = crypto_get_sha256();

	ASSERT(iterations >= 1 && iterations <= INT_MAX);
	ASSERT(password_len <= INT_MAX && salt_len <= INT_MAX);
	atomic_fetch_add_explicit(&crypto_pbkdf2_calls, 1, memory_order_relaxed);
	if (md == NULL || !PKCS5_PBKDF2_HMAC(password_len > 0 ? password : "", (int)password_len, salt, (int)salt_len,
					     (int)iterations, md, CRYPTO_SHA256_LEN, out))
		return -E_SYS;
	return 0;
}

uint64_t crypto_count_pbkdf2(void)
{
	return atomic_load_explicit(&crypto_pbkdf2_calls, memory_order_relaxed);
}

int crypto_md5(const struct crypto_part *parts, size_t count, uint8_t out[CRYPTO_MD5_LEN])
{
	const EVP_MD *md = crypto_get_md5();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = md != NULL && ctx != NULL && crypto_digest(ctx, md, (struct crypto_part){ "", 0 }, parts, count, out);

	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -E_UNSUPPORTED;
}

int crypto_random(void *p, size_t n)
{
	ASSERT(n <= INT_MAX);
	return RAND_bytes(p, (int)n) == 1 ? 0 : -E_SYS;
}
