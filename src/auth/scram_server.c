/*
 * SCRAM-SHA-256, the side that checks a proof: what a client of the pooler
 * talks to. The shape of the messages:
 *
 *     client-first   n,,n=,r=<client nonce>
 *     server-first   r=<client nonce><server nonce>,s=<salt>,i=<count>
 *     client-final   c=biws,r=<both nonces>,p=<proof>
 *     server-final   v=<signature>
 *
 * The first letter is what the client says about channel binding, and c= is
 * the same and the hash of our certificate, in base64:
 *
 *                       PLUS offered      not offered
 *     n  cannot         fine              fine
 *     y  could          refused           fine
 *     p  does           only under PLUS   refused
 *
 * "y" from a client that was offered PLUS has not seen the offer: somebody who
 * ends its TLS has taken it out.
 *
 * A name that cannot log in gets a mock: a verifier that nobody can match, with
 * random keys and the salt that the name would have if it were a user with a
 * password. It takes the same path with the same work, so neither text nor time
 * tells whether the name exists; only the last comparison knows.
 */
#include "auth/scram.h"

#include "auth/scram_int.h"
#include "core/alloc.h"

#define SCRAM_SERVER_MAGIC 0x53435253U

enum scram_server_state {
	SCRAM_SERVER_NEW,        /* waits for client-first */
	SCRAM_SERVER_CHALLENGED, /* waits for client-final */
	SCRAM_SERVER_PROVEN,
	SCRAM_SERVER_FAILED,
};

struct scram_server {
	unsigned magic;
	enum scram_server_state state;
	bool doomed;              /* a mock: fails whatever the proof is */
	const char *fault;        /* what is wrong with the message that was refused */
	struct scram_verifier *v; /* what the proof is checked against */
	char *our_nonce;          /* our part of the nonce */
	char *nonce;              /* both parts */
	char *client_first_bare;  /* signed by both sides */
	char *server_first;       /* signed by both sides */
	struct scram_end_point end_point;
	char cbind[SCRAM_CBIND_SIZE]; /* what c= must say */
	char server_final[2 + SCRAM_KEY_TEXT_LEN + 1];
	struct scram_keys keys; /* valid in SCRAM_SERVER_PROVEN */
};

struct scram_server *scram_server_new(const struct scram_verifier *v, const char *nonce)
{
	char *our_nonce = scram_make_nonce(nonce);
	struct scram_server *s;

	if (our_nonce == NULL)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->magic = SCRAM_SERVER_MAGIC;
	s->v = scram_verifier_dup(v);
	s->our_nonce = our_nonce;
	s->fault = "";
	return s;
}

struct scram_server *scram_server_new_mock(const char *user_name, const struct scram_recipe *recipe)
{
	uint8_t salt[SCRAM_SALT_LEN];
	struct scram_verifier *v;
	struct scram_server *s = NULL;

	if (scram_recipe_salt(recipe, user_name, salt) < 0)
		return NULL;
	v = scram_verifier_new(salt, sizeof(salt), recipe->iterations);
	if (crypto_random(v->stored_key, SCRAM_KEY_LEN) == 0 && crypto_random(v->server_key, SCRAM_KEY_LEN) == 0)
		s = scram_server_new(v, NULL);
	if (s != NULL)
		s->doomed = true;
	scram_verifier_free(&v);
	return s;
}

void scram_server_free(struct scram_server **sp)
{
	struct scram_server *s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	CHECK_OBJ(s, SCRAM_SERVER_MAGIC);
	scram_verifier_free(&s->v);
	free(s->our_nonce);
	free(s->nonce);
	free(s->client_first_bare);
	free(s->server_first);
	mem_wipe(s, sizeof(*s));
	free(s);
}

void scram_server_bind(struct scram_server *s, struct slice end_point)
{
	CHECK_OBJ(s, SCRAM_SERVER_MAGIC);
	ASSERT(s->state == SCRAM_SERVER_NEW);
	scram_set_end_point(&s->end_point, end_point);
}

const char *scram_server_fault(const struct scram_server *s)
{
	CHECK_OBJ(s, SCRAM_SERVER_MAGIC);
	return s->fault;
}

/* Refuses a message with the reason for the log. */
static int scram_server_refuse(struct scram_server *s, int err, const char *fault)
{
	s->fault = fault;
	return err;
}

/* Messages are text within bounds. */
static bool scram_server_may_read(struct slice in)
{
	return in.n > 0 && in.n <= SCRAM_MESSAGE_MAX && memchr(in.p, '\0', in.n) == NULL;
}

/* Whether what the client says about channel binding suits what it was offered and has chosen. */
static int scram_server_check_flag(struct scram_server *s, bool is_plus, enum scram_flag flag)
{
	bool is_offered = s->end_point.len > 0;

	if (flag == SCRAM_FLAG_BOUND && !is_offered)
		return scram_server_refuse(s, -E_UNSUPPORTED, "client requires channel binding, which needs TLS");
	if (flag == SCRAM_FLAG_BOUND && !is_plus)
		return scram_server_refuse(s, -E_PROTO, "client binds to the channel without " SCRAM_MECHANISM_PLUS);
	if (flag == SCRAM_FLAG_COULD && is_offered)
		return scram_server_refuse(s, -E_PROTO, "client has not seen the offer of " SCRAM_MECHANISM_PLUS);
	if (flag == SCRAM_FLAG_NONE && is_plus)
		return scram_server_refuse(s, -E_PROTO, "client does not bind to the channel as it has chosen to");
	return 0;
}

/*
 * Reads the gs2 header: the flag and two commas, between which an identity to
 * act as could stand; nobody has one.
 */
static int scram_server_read_gs2(struct scram_server *s, bool is_plus, struct slice *in)
{
	for (enum scram_flag flag = SCRAM_FLAG_NONE; flag <= SCRAM_FLAG_BOUND; flag++) {
		const char *header = scram_gs2_header(flag);
		size_t n = strlen(header);

		if (in->n < n || memcmp(in->p, header, n) != 0)
			continue;
		*in = slice_make(in->p + n, in->n - n);
		scram_format_cbind(flag, &s->end_point, s->cbind);
		return scram_server_check_flag(s, is_plus, flag);
	}
	if (in->p[0] == 'p')
		return scram_server_refuse(s, -E_UNSUPPORTED, "client requires an unknown channel binding");
	return -E_PROTO;
}

/* Reads the rest of client-first: a name that does not matter, the nonce, and extensions that nobody asked for. */
static int scram_server_read_bare(struct slice bare, struct slice *nonce)
{
	struct scram_reader r = scram_reader_make(bare);
	struct slice value;
	char name;

	if (!scram_read(&r, 'n', &value) || !scram_read(&r, 'r', nonce) || !scram_nonce_is_valid(*nonce))
		return -E_PROTO;
	while (!scram_reader_at_end(&r)) {
		if (!scram_read_any(&r, &name, &value))
			return -E_PROTO;
	}
	return 0;
}

/* The server-first message. */
static char *scram_server_format_first(const struct scram_server *s)
{
	size_t salt_size = BASE64_ENCODED_LEN(s->v->salt_len) + 1;
	size_t size = strlen(s->nonce) + salt_size + 32;
	char *salt = xmalloc(salt_size);
	char *text = xmalloc(size);

	base64_encode(salt, salt_size, s->v->salt, s->v->salt_len);
	str_format(text, size, "r=%s,s=%s,i=%" PRIu32, s->nonce, salt, s->v->iterations);
	free(salt);
	return text;
}

int scram_server_first(struct scram_server *s, bool is_plus, struct slice in, struct slice *out)
{
	struct slice nonce;
	size_t size;
	int rc;

	CHECK_OBJ(s, SCRAM_SERVER_MAGIC);
	ASSERT(s->state == SCRAM_SERVER_NEW);
	ASSERT(!is_plus || s->end_point.len > 0);
	s->state = SCRAM_SERVER_FAILED;
	s->fault = "malformed SCRAM message";
	if (!scram_server_may_read(in))
		return -E_PROTO;
	rc = scram_server_read_gs2(s, is_plus, &in);
	if (rc == 0)
		rc = scram_server_read_bare(in, &nonce);
	if (rc < 0)
		return rc;
	s->client_first_bare = slice_dup(in);
	size = nonce.n + strlen(s->our_nonce) + 1;
	s->nonce = xmalloc(size);
	str_format(s->nonce, size, "%.*s%s", (int)nonce.n, nonce.p, s->our_nonce);
	s->server_first = scram_server_format_first(s);
	s->state = SCRAM_SERVER_CHALLENGED;
	*out = slice_of(s->server_first);
	return 0;
}

/*
 * Reads client-final: the channel binding and the nonce must be what we
 * expect, the proof is the last attribute. *bare is all before the proof.
 */
static int scram_server_read_final(struct scram_server *s, struct slice in, struct slice *bare,
				   uint8_t proof[SCRAM_KEY_LEN])
{
	struct scram_reader r = scram_reader_make(in);
	struct slice value;
	char name;

	if (!scram_read(&r, 'c', &value))
		return -E_PROTO;
	if (!slice_eq_str(value, s->cbind))
		return scram_server_refuse(s, -E_PROTO, "channel binding does not match");
	if (!scram_read(&r, 'r', &value))
		return -E_PROTO;
	if (!slice_eq_str(value, s->nonce))
		return scram_server_refuse(s, -E_PROTO, "SCRAM nonce does not match");
	do {
		/* Without the comma before the attribute that is about to be read. */
		*bare = slice_make(in.p, in.n - r.rest.n);
		if (!scram_read_any(&r, &name, &value))
			return -E_PROTO;
		bare->n--;
	} while (name != 'p');
	if (!scram_reader_at_end(&r) || !scram_parse_key(value, proof))
		return -E_PROTO;
	return 0;
}

/* Recovers ClientKey from the proof and looks whether it is the one. 0, -E_AUTH or -E_SYS. */
static int scram_server_check_proof(struct scram_server *s, const struct scram_auth_message *m,
				    const uint8_t proof[SCRAM_KEY_LEN])
{
	uint8_t signature[SCRAM_KEY_LEN];
	uint8_t stored_key[SCRAM_KEY_LEN];
	int rc = scram_sign(s->v->stored_key, m, signature);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < SCRAM_KEY_LEN; i++)
		s->keys.client_key[i] = proof[i] ^ signature[i];
	mem_wipe(signature, sizeof(signature)); /* with the proof, it gives the key */
	rc = crypto_sha256(s->keys.client_key, SCRAM_KEY_LEN, stored_key);
	if (rc < 0)
		return rc;
	if (!mem_equal_ct(stored_key, s->v->stored_key, SCRAM_KEY_LEN) || s->doomed)
		return -E_AUTH;
	return 0;
}

int scram_server_final(struct scram_server *s, struct slice in, struct slice *out)
{
	struct scram_auth_message m;
	uint8_t proof[SCRAM_KEY_LEN];
	uint8_t signature[SCRAM_KEY_LEN];
	int rc;

	CHECK_OBJ(s, SCRAM_SERVER_MAGIC);
	ASSERT(s->state == SCRAM_SERVER_CHALLENGED);
	s->state = SCRAM_SERVER_FAILED;
	if (!scram_server_may_read(in))
		return -E_PROTO;
	m.client_first_bare = slice_of(s->client_first_bare);
	m.server_first = slice_of(s->server_first);
	rc = scram_server_read_final(s, in, &m.client_final_bare, proof);
	if (rc == 0)
		rc = scram_server_check_proof(s, &m, proof);
	if (rc == 0)
		rc = scram_sign(s->v->server_key, &m, signature);
	if (rc < 0)
		return rc;
	memcpy(s->keys.server_key, s->v->server_key, SCRAM_KEY_LEN);
	memcpy(s->server_final, "v=", 2);
	base64_encode(s->server_final + 2, sizeof(s->server_final) - 2, signature, sizeof(signature));
	s->state = SCRAM_SERVER_PROVEN;
	*out = slice_of(s->server_final);
	return 0;
}

const struct scram_keys *scram_server_keys(const struct scram_server *s)
{
	CHECK_OBJ(s, SCRAM_SERVER_MAGIC);
	return s->state == SCRAM_SERVER_PROVEN ? &s->keys : NULL;
}
