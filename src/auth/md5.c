#include "auth/md5.h"

#include "auth/crypto.h"

/* "md5" and the digits of the hash of two parts in a row. */
static int md5_format(struct crypto_part a, struct crypto_part b, char out[MD5_SECRET_LEN + 1])
{
	static const char digits[] = "0123456789abcdef";
	struct crypto_part parts[2] = { a, b };
	uint8_t hash[CRYPTO_MD5_LEN];
	int rc = crypto_md5(parts, ARRAY_LEN(parts), hash);
	char *p = out + 3;

	if (rc < 0)
		return rc;
	memcpy(out, "md5", 3);
	for (size_t i = 0; i < sizeof(hash); i++) {
		*p++ = digits[hash[i] >> 4];
		*p++ = digits[hash[i] & 15];
	}
	*p = '\0';
	mem_wipe(hash, sizeof(hash));
	return 0;
}

int md5_make_secret(struct slice password, const char *user_name, char out[MD5_SECRET_LEN + 1])
{
	return md5_format((struct crypto_part){ password.p, password.n },
			  (struct crypto_part){ user_name, strlen(user_name) }, out);
}

int md5_make_response(const char secret[MD5_SECRET_LEN + 1], const uint8_t salt[MD5_SALT_LEN],
		      char out[MD5_SECRET_LEN + 1])
{
	return md5_format((struct crypto_part){ secret + 3, MD5_SECRET_LEN - 3 },
			  (struct crypto_part){ salt, MD5_SALT_LEN }, out);
}
