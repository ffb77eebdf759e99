/*
 * SCRAM-SHA-256, the side that proves: how the pooler logs in to PostgreSQL.
 * The server is not trusted: it may be anybody who answers at that address, so
 * every length and form is checked, the count of iterations has a ceiling, and
 * the login is good only after the server has signed as well.
 *
 * It starts from a password, or from the keys that a client of the pooler
 * proved to have. With keys the salt and the count of the server do not matter,
 * since a verifier made from other ones is another verifier, and then the
 * server refuses the proof.
 */
#include "auth/scram.h"

#include "auth/scram_int.h"
#include "core/alloc.h"

#define SCRAM_CLIENT_MAGIC 0x53435243U

enum scram_client_state {
	SCRAM_CLIENT_NEW,    /* waits for server-first */
	SCRAM_CLIENT_PROVEN, /* waits for server-final */
	SCRAM_CLIENT_VERIFIED,
	SCRAM_CLIENT_FAILED,
};

struct scram_client {
	unsigned magic;
	enum scram_client_state state;
	enum scram_flag flag;             /* about channel binding */
	struct scram_end_point end_point; /* of SCRAM_FLAG_BOUND */
	const char *fault;                /* what is wrong with the message that was refused */
	char *name;                       /* in client-first */
	char *nonce;                      /* our part of the nonce */
	char *first;                      /* client-first, once it was given */
	char *final;                      /* client-final */
	char *password;                   /* NULL: keys were given */
	size_t password_len;              /* bytes of password */
	struct scram_keys keys;           /* given, or made from the password by scram_client_final() */
	uint8_t signature[SCRAM_KEY_LEN]; /* what the server must send; valid in SCRAM_CLIENT_PROVEN */
};

/* What server-first says; slices into the message. */
struct scram_server_first {
	struct slice nonce;
	size_t salt_len;
	uint32_t iterations;
	uint8_t salt[SCRAM_SALT_MAX];
};

struct scram_client *scram_client_new(const char *name, struct slice password, const struct scram_keys *keys,
				      const char *nonce)
{
	char *our_nonce;
	struct scram_client *c;

	ASSERT((password.p != NULL) != (keys != NULL));
	ASSERT(strpbrk(name, ",=") == NULL);
	our_nonce = scram_make_nonce(nonce);
	if (our_nonce == NULL)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->magic = SCRAM_CLIENT_MAGIC;
	c->nonce = our_nonce;
	if (keys != NULL) {
		c->keys = *keys;
	} else {
		c->password = slice_dup(password);
		c->password_len = password.n;
	}
	c->name = xstrdup(name);
	c->fault = "";
	return c;
}

void scram_client_free(struct scram_client **cp)
{
	struct scram_client *c = *cp;

	*cp = NULL;
	if (c == NULL)
		return;
	CHECK_OBJ(c, SCRAM_CLIENT_MAGIC);
	if (c->password != NULL)
		mem_wipe(c->password, c->password_len);
	free(c->password);
	free(c->name);
	free(c->nonce);
	free(c->first);
	free(c->final);
	mem_wipe(c, sizeof(*c));
	free(c);
}

void scram_client_bind(struct scram_client *c, enum scram_flag flag, struct slice end_point)
{
	CHECK_OBJ(c, SCRAM_CLIENT_MAGIC);
	ASSERT(c->state == SCRAM_CLIENT_NEW && c->first == NULL);
	c->flag = flag;
	if (flag == SCRAM_FLAG_BOUND)
		scram_set_end_point(&c->end_point, end_point);
}

const char *scram_client_fault(const struct scram_client *c)
{
	CHECK_OBJ(c, SCRAM_CLIENT_MAGIC);
	return c->fault;
}

void scram_client_first(struct scram_client *c, struct slice *out)
{
	const char *header;
	size_t size;

	CHECK_OBJ(c, SCRAM_CLIENT_MAGIC);
	ASSERT(c->state == SCRAM_CLIENT_NEW && c->first == NULL);
	header = scram_gs2_header(c->flag);
	size = strlen(header) + strlen(c->name) + strlen(c->nonce) + sizeof("n=,r=");
	c->first = xmalloc(size);
	str_format(c->first, size, "%sn=%s,r=%s", header, c->name, c->nonce);
	*out = slice_of(c->first);
}

static bool scram_client_may_read(struct slice in)
{
	return in.n > 0 && in.n <= SCRAM_SERVER_MAX && memchr(in.p, '\0', in.n) == NULL;
}

/* Reads r=<our nonce><more>,s=<salt>,i=<count> and nothing behind it. */
static int scram_client_read_first(struct scram_client *c, struct slice in, struct scram_server_first *f)
{
	struct scram_reader r = scram_reader_make(in);
	size_t our_len = strlen(c->nonce);
	struct slice salt;
	struct slice count;
	ssize_t len;

	if (!scram_read(&r, 'r', &f->nonce) || !scram_read(&r, 's', &salt) || !scram_read(&r, 'i', &count) ||
	    !scram_reader_at_end(&r))
		return -E_PROTO;
	if (!scram_nonce_is_valid(f->nonce) || f->nonce.n <= our_len || memcmp(f->nonce.p, c->nonce, our_len) != 0) {
		c->fault = "SCRAM nonce of the server does not begin with ours";
		return -E_PROTO;
	}
	len = base64_decode(f->salt, sizeof(f->salt), salt);
	if (len <= 0 || !scram_parse_iterations(count, &f->iterations))
		return -E_PROTO;
	f->salt_len = (size_t)len;
	return f->iterations > SCRAM_ITERATIONS_MAX ? -E_RANGE : 0;
}

/* Computes proof and expected signature, and appends the proof to c->final. */
static int scram_client_prove(struct scram_client *c, struct slice server_first, size_t final_size)
{
	struct scram_auth_message m = {
		.client_first_bare = slice_of(c->first + strlen(scram_gs2_header(c->flag))),
		.server_first = server_first,
		.client_final_bare = slice_of(c->final),
	};
	uint8_t stored_key[SCRAM_KEY_LEN];
	uint8_t proof[SCRAM_KEY_LEN];
	char text[SCRAM_KEY_TEXT_LEN + 1];
	int rc = crypto_sha256(c->keys.client_key, SCRAM_KEY_LEN, stored_key);

	if (rc == 0)
		rc = scram_sign(stored_key, &m, proof);
	if (rc == 0)
		rc = scram_sign(c->keys.server_key, &m, c->signature);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < SCRAM_KEY_LEN; i++)
		proof[i] ^= c->keys.client_key[i];
	base64_encode(text, sizeof(text), proof, sizeof(proof));
	ASSERT(str_append(c->final, final_size, ",p=%s", text));
	return 0;
}

int scram_client_final(struct scram_client *c, struct slice in, struct slice *out)
{
	char cbind[SCRAM_CBIND_SIZE];
	struct scram_server_first f;
	size_t size;
	int rc;

	CHECK_OBJ(c, SCRAM_CLIENT_MAGIC);
	ASSERT(c->state == SCRAM_CLIENT_NEW && c->first != NULL);
	c->state = SCRAM_CLIENT_FAILED;
	c->fault = "malformed SCRAM message of the server";
	if (!scram_client_may_read(in))
		return -E_PROTO;
	rc = scram_client_read_first(c, in, &f);
	if (rc == 0 && c->password != NULL)
		rc = scram_derive_keys(slice_make(c->password, c->password_len), f.salt, f.salt_len, f.iterations,
				       &c->keys);
	if (rc < 0)
		return rc;
	scram_format_cbind(c->flag, &c->end_point, cbind);
	size = strlen(cbind) + f.nonce.n + SCRAM_KEY_TEXT_LEN + sizeof("c=,r=,p=");
	c->final = xmalloc(size);
	str_format(c->final, size, "c=%s,r=%.*s", cbind, (int)f.nonce.n, f.nonce.p);
	rc = scram_client_prove(c, in, size);
	if (rc < 0)
		return rc;
	c->state = SCRAM_CLIENT_PROVEN;
	*out = slice_of(c->final);
	return 0;
}

int scram_client_verify(struct scram_client *c, struct slice in)
{
	struct scram_reader r = scram_reader_make(in);
	struct slice value;
	uint8_t signature[SCRAM_KEY_LEN];

	CHECK_OBJ(c, SCRAM_CLIENT_MAGIC);
	ASSERT(c->state == SCRAM_CLIENT_PROVEN);
	c->state = SCRAM_CLIENT_FAILED;
	if (!scram_client_may_read(in) || !scram_read(&r, 'v', &value) || !scram_reader_at_end(&r) ||
	    !scram_parse_key(value, signature))
		return -E_PROTO;
	if (!mem_equal_ct(signature, c->signature, SCRAM_KEY_LEN))
		return -E_AUTH;
	c->state = SCRAM_CLIENT_VERIFIED;
	return 0;
}
