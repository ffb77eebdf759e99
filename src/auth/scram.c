/*
 * SCRAM-SHA-256: what both sides share, and the stored verifier.
 *
 *     SaltedPassword = PBKDF2(password, salt, iterations)
 *     ClientKey      = HMAC(SaltedPassword, "Client Key")
 *     StoredKey      = SHA-256(ClientKey)
 *     ServerKey      = HMAC(SaltedPassword, "Server Key")
 *     AuthMessage    = client-first-bare , server-first , client-final-bare
 *     proof          = ClientKey XOR HMAC(StoredKey, AuthMessage)
 *     signature      = HMAC(ServerKey, AuthMessage)
 *
 * A verifier has StoredKey and ServerKey and so can check a proof and sign,
 * but cannot log in. Whoever checks a proof learns ClientKey, though, and with
 * it can log in to every server that has the same verifier: this is how a
 * pooler passes a login through without knowing the password.
 *
 * The password goes in in its normal form (saslprep.c), or as it is when it has
 * none.
 */
#include "auth/scram.h"

#include "auth/saslprep.h"
#include "auth/scram_int.h"
#include "core/alloc.h"

bool scram_read_any(struct scram_reader *r, char *name, struct slice *value)
{
	const char *comma;
	size_t len;

	if (!r->more || r->rest.n < 2 || !isalpha((unsigned char)r->rest.p[0]) || r->rest.p[1] != '=')
		return false;
	*name = r->rest.p[0];
	comma = memchr(r->rest.p, ',', r->rest.n);
	len = comma == NULL ? r->rest.n : (size_t)(comma - r->rest.p);
	*value = slice_make(r->rest.p + 2, len - 2);
	r->more = comma != NULL;
	len += r->more ? 1 : 0;
	r->rest = slice_make(r->rest.p + len, r->rest.n - len);
	return true;
}

bool scram_read(struct scram_reader *r, char name, struct slice *value)
{
	char found;

	return scram_read_any(r, &found, value) && found == name;
}

bool scram_nonce_is_valid(struct slice nonce)
{
	for (size_t i = 0; i < nonce.n; i++) {
		if (nonce.p[i] < 0x21 || nonce.p[i] > 0x7e || nonce.p[i] == ',')
			return false;
	}
	return nonce.n > 0;
}

const char *scram_gs2_header(enum scram_flag flag)
{
	static const char *const headers[] = {
		[SCRAM_FLAG_NONE] = "n,,",
		[SCRAM_FLAG_COULD] = "y,,",
		[SCRAM_FLAG_BOUND] = SCRAM_GS2_BOUND,
	};

	ASSERT((size_t)flag < ARRAY_LEN(headers));
	return headers[flag];
}

void scram_set_end_point(struct scram_end_point *end_point, struct slice hash)
{
	ASSERT(hash.n >= 1 && hash.n <= sizeof(end_point->hash));
	memcpy(end_point->hash, hash.p, hash.n);
	end_point->len = hash.n;
}

void scram_format_cbind(enum scram_flag flag, const struct scram_end_point *end_point, char dst[SCRAM_CBIND_SIZE])
{
	const char *header = scram_gs2_header(flag);
	size_t n = strlen(header);
	uint8_t raw[sizeof(SCRAM_GS2_BOUND) - 1 + SCRAM_END_POINT_MAX];

	memcpy(raw, header, n);
	if (flag == SCRAM_FLAG_BOUND) {
		memcpy(raw + n, end_point->hash, end_point->len);
		n += end_point->len;
	}
	base64_encode(dst, SCRAM_CBIND_SIZE, raw, n);
}

bool scram_parse_iterations(struct slice text, uint32_t *out)
{
	uint64_t value = 0;

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(text.p[i] - '0');
		if (value > INT32_MAX)
			return false;
	}
	*out = (uint32_t)value;
	return value > 0;
}

bool scram_parse_key(struct slice text, uint8_t key[SCRAM_KEY_LEN])
{
	return base64_decode(key, SCRAM_KEY_LEN, text) == SCRAM_KEY_LEN;
}

char *scram_make_nonce(const char *given)
{
	uint8_t raw[SCRAM_NONCE_LEN];
	char *text;

	if (given != NULL) {
		ASSERT(scram_nonce_is_valid(slice_of(given)));
		return xstrdup(given);
	}
	if (crypto_random(raw, sizeof(raw)) < 0)
		return NULL;
	text = xmalloc(SCRAM_NONCE_TEXT_LEN + 1);
	base64_encode(text, SCRAM_NONCE_TEXT_LEN + 1, raw, sizeof(raw));
	return text;
}

int scram_derive_keys(struct slice password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
		      struct scram_keys *out)
{
	static const struct crypto_part client_key = { "Client Key", 10 };
	static const struct crypto_part server_key = { "Server Key", 10 };
	uint8_t salted[SCRAM_KEY_LEN];
	char *normal = saslprep(password);
	struct slice used = normal == NULL ? password : slice_of(normal);
	int rc = crypto_pbkdf2(used.p, used.n, salt, salt_len, iterations, salted);

	free_secret(normal);
	if (rc == 0)
		rc = crypto_hmac(salted, sizeof(salted), &client_key, 1, out->client_key);
	if (rc == 0)
		rc = crypto_hmac(salted, sizeof(salted), &server_key, 1, out->server_key);
	mem_wipe(salted, sizeof(salted));
	return rc;
}

int scram_sign(const uint8_t key[SCRAM_KEY_LEN], const struct scram_auth_message *m, uint8_t signature[SCRAM_KEY_LEN])
{
	const struct crypto_part parts[] = {
		{ m->client_first_bare.p, m->client_first_bare.n }, { ",", 1 },
		{ m->server_first.p, m->server_first.n },           { ",", 1 },
		{ m->client_final_bare.p, m->client_final_bare.n },
	};

	return crypto_hmac(key, SCRAM_KEY_LEN, parts, ARRAY_LEN(parts), signature);
}

struct scram_verifier *scram_verifier_new(const uint8_t *salt, size_t salt_len, uint32_t iterations)
{
	struct scram_verifier *v = xcalloc(1, sizeof(*v) + salt_len);

	v->iterations = iterations;
	v->salt_len = (uint32_t)salt_len;
	if (salt_len > 0)
		memcpy(v->salt, salt, salt_len);
	return v;
}

/* Cuts off what stands before the separator; false when there is none. */
static bool scram_cut(struct slice *rest, char separator, struct slice *head)
{
	const char *at = rest->n == 0 ? NULL : memchr(rest->p, separator, rest->n);

	if (at == NULL)
		return false;
	*head = slice_make(rest->p, (size_t)(at - rest->p));
	*rest = slice_make(at + 1, rest->n - head->n - 1);
	return true;
}

struct scram_verifier *scram_verifier_parse(struct slice text)
{
	struct slice mechanism;
	struct slice count;
	struct slice salt_text;
	struct slice stored_key;
	uint8_t salt[SCRAM_SALT_MAX];
	ssize_t salt_len;
	uint32_t iterations;
	struct scram_verifier *v;

	if (!scram_cut(&text, '$', &mechanism) || !slice_eq_str(mechanism, SCRAM_MECHANISM) ||
	    !scram_cut(&text, ':', &count) || !scram_cut(&text, '$', &salt_text) || !scram_cut(&text, ':', &stored_key))
		return NULL;
	if (!scram_parse_iterations(count, &iterations))
		return NULL;
	salt_len = base64_decode(salt, sizeof(salt), salt_text);
	if (salt_len <= 0)
		return NULL;
	v = scram_verifier_new(salt, (size_t)salt_len, iterations);
	if (!scram_parse_key(stored_key, v->stored_key) || !scram_parse_key(text, v->server_key))
		scram_verifier_free(&v);
	return v;
}

int scram_verifier_derive(struct slice password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
			  struct scram_verifier **out)
{
	uint8_t random_salt[SCRAM_SALT_LEN];
	struct scram_keys keys;
	struct scram_verifier *v;
	int rc = 0;

	*out = NULL;
	if (salt == NULL) {
		rc = crypto_random(random_salt, sizeof(random_salt));
		if (rc < 0)
			return rc;
		salt = random_salt;
		salt_len = sizeof(random_salt);
	}
	ASSERT(salt_len >= 1 && salt_len <= SCRAM_SALT_MAX);
	v = scram_verifier_new(salt, salt_len, iterations);
	rc = scram_derive_keys(password, salt, salt_len, iterations, &keys);
	if (rc == 0)
		rc = crypto_sha256(keys.client_key, SCRAM_KEY_LEN, v->stored_key);
	if (rc == 0) {
		memcpy(v->server_key, keys.server_key, SCRAM_KEY_LEN);
		*out = v;
		v = NULL;
	}
	scram_verifier_free(&v);
	mem_wipe(&keys, sizeof(keys));
	return rc;
}

int scram_recipe_salt(const struct scram_recipe *recipe, const char *user_name, uint8_t salt[SCRAM_SALT_LEN])
{
	const struct crypto_part parts[] = { { "salt:", 5 }, { user_name, strlen(user_name) } };
	uint8_t mac[CRYPTO_SHA256_LEN];
	int rc = crypto_hmac(recipe->salt_key, sizeof(recipe->salt_key), parts, ARRAY_LEN(parts), mac);

	memcpy(salt, mac, SCRAM_SALT_LEN);
	return rc;
}

struct scram_verifier *scram_verifier_dup(const struct scram_verifier *v)
{
	struct scram_verifier *copy = scram_verifier_new(v->salt, v->salt_len, v->iterations);

	memcpy(copy->stored_key, v->stored_key, SCRAM_KEY_LEN);
	memcpy(copy->server_key, v->server_key, SCRAM_KEY_LEN);
	return copy;
}

void scram_verifier_free(struct scram_verifier **vp)
{
	struct scram_verifier *v = *vp;

	*vp = NULL;
	if (v == NULL)
		return;
	mem_wipe(v, sizeof(*v) + v->salt_len);
	free(v);
}

bool scram_verifier_matches(const struct scram_verifier *v, struct slice password)
{
	struct scram_verifier *other = NULL;
	bool same_stored;
	bool same_server;

	if (v->iterations > SCRAM_ITERATIONS_MAX)
		return false;
	if (scram_verifier_derive(password, v->salt, v->salt_len, v->iterations, &other) < 0)
		return false;
	same_stored = mem_equal_ct(v->stored_key, other->stored_key, SCRAM_KEY_LEN);
	same_server = mem_equal_ct(v->server_key, other->server_key, SCRAM_KEY_LEN);
	scram_verifier_free(&other);
	return same_stored && same_server;
}
