/*
 * Our login to a server, step by step.
 *
 * What may come when, and what takes it, is one table: a message without a row
 * for the state ends the login. A server that asks twice, starts SASL after it
 * took a password, or says AuthenticationOk before it has signed the SCRAM
 * exchange is refused that way.
 *
 *     START --- OK (trust) -------------------------------------> ended
 *           --- Password, MD5 --> ANSWERED --- OK --------------> ended
 *           --- SASL --> CHALLENGE --- SASLContinue --> SIGNATURE
 *                                      --- SASLFinal --> SIGNED --- OK --> ended
 *
 * Which secret answers which request:
 *
 *                   plaintext, empty   MD5 hash        SCRAM verifier
 *     Password      the text           the text        the text
 *     MD5           answers            answers         wrong password type
 *     SASL          answers            wrong type      with keys only
 *
 * The "text" of a hash is not a password of the server, but it is what
 * PgBouncer sends; a server behind a second pooler may even want it.
 */
#include "auth/auth.h"

#include "auth/md5.h"
#include "core/alloc.h"

#define AUTH_SERVER_MAGIC 0x41555353U

enum auth_server_state {
	AUTH_SERVER_START,     /* waits for a request or OK */
	AUTH_SERVER_ANSWERED,  /* sent a password, waits for OK */
	AUTH_SERVER_CHALLENGE, /* sent client-first, waits for server-first */
	AUTH_SERVER_FINAL,     /* sent client-final, waits for server-final */
	AUTH_SERVER_SIGNED,    /* the server has proved itself, waits for OK */
	AUTH_SERVER_ENDED,
};

struct auth_server {
	unsigned magic;
	enum auth_server_state state;
	char *user_name;
	struct secret secret;
	bool has_keys;
	struct scram_keys keys;       /* when has_keys */
	struct scram_client *scram;   /* while SCRAM runs */
	char md5[MD5_SECRET_LEN + 1]; /* the answer to MD5 */
};

/* Takes one request; 0 or what is wrong. */
typedef enum auth_server_error auth_server_take(struct auth_server *as, const uint8_t *body, size_t n,
						struct auth_server_out *out);

const char *auth_server_error_text(enum auth_server_error error)
{
	static const char *const texts[] = {
#define X(id, text) [id] = text,
		AUTH_SERVER_ERROR_TABLE(X)
#undef X
	};

	ASSERT((size_t)error < ARRAY_LEN(texts));
	return texts[error];
}

struct auth_server *auth_server_new(const char *user_name, const struct secret *secret, const struct scram_keys *keys)
{
	struct auth_server *as = xcalloc(1, sizeof(*as));

	as->magic = AUTH_SERVER_MAGIC;
	as->user_name = xstrdup(user_name);
	secret_copy(&as->secret, secret);
	as->has_keys = keys != NULL && (secret == NULL || secret->type == SECRET_SCRAM);
	if (as->has_keys)
		as->keys = *keys;
	return as;
}

void auth_server_free(struct auth_server **asp)
{
	struct auth_server *as = *asp;

	*asp = NULL;
	if (as == NULL)
		return;
	CHECK_OBJ(as, AUTH_SERVER_MAGIC);
	scram_client_free(&as->scram);
	secret_fini(&as->secret);
	free(as->user_name);
	mem_wipe(as, sizeof(*as));
	free(as);
}

static enum auth_server_error auth_server_malformed(struct auth_server_out *out)
{
	out->detail = "malformed authentication request";
	return AUTH_SERVER_UNSUPPORTED;
}

static void auth_server_send(struct auth_server *as, struct auth_server_out *out, enum auth_server_state next,
			     enum auth_send send, const void *data, size_t n)
{
	as->state = next;
	out->send = send;
	out->data = data;
	out->data_len = n;
}

static enum auth_server_error auth_server_take_ok(struct auth_server *as, const uint8_t *body, size_t n,
						  struct auth_server_out *out)
{
	if (n != 0)
		return auth_server_malformed(out);
	as->state = AUTH_SERVER_ENDED;
	out->done = true;
	return AUTH_SERVER_NONE;
}

static enum auth_server_error auth_server_take_password(struct auth_server *as, const uint8_t *body, size_t n,
							struct auth_server_out *out)
{
	if (n != 0)
		return auth_server_malformed(out);
	auth_server_send(as, out, AUTH_SERVER_ANSWERED, AUTH_SEND_PASSWORD, as->secret.text, as->secret.len + 1);
	return AUTH_SERVER_NONE;
}

static enum auth_server_error auth_server_take_md5(struct auth_server *as, const uint8_t *body, size_t n,
						   struct auth_server_out *out)
{
	char hashed[MD5_SECRET_LEN + 1];
	int rc = 0;

	if (n != MD5_SALT_LEN)
		return auth_server_malformed(out);
	if (as->secret.type == SECRET_SCRAM)
		return AUTH_SERVER_PASSWORD_TYPE;
	if (as->secret.type == SECRET_MD5)
		memcpy(hashed, as->secret.text, sizeof(hashed));
	else
		rc = md5_make_secret(secret_slice(&as->secret), as->user_name, hashed);
	if (rc == 0)
		rc = md5_make_response(hashed, body, as->md5);
	mem_wipe(hashed, sizeof(hashed));
	if (rc < 0) {
		out->detail = "OpenSSL has no MD5";
		return AUTH_SERVER_UNSUPPORTED;
	}
	auth_server_send(as, out, AUTH_SERVER_ANSWERED, AUTH_SEND_PASSWORD, as->md5, sizeof(as->md5));
	return AUTH_SERVER_NONE;
}

/*
 * Looks for our mechanism in a list of NUL-terminated names that ends with an
 * empty one. -E_PROTO when the list does not end there, -E_NOENT when the
 * mechanism is not in it.
 */
static int auth_server_find_mechanism(const uint8_t *body, size_t n)
{
	int rc = -E_NOENT;

	while (n > 0) {
		const uint8_t *nul = memchr(body, '\0', n);
		size_t len;

		if (nul == NULL)
			return -E_PROTO;
		len = (size_t)(nul - body);
		if (len == 0)
			return n == 1 ? rc : -E_PROTO;
		if (slice_eq_str(slice_make(body, len), SCRAM_MECHANISM))
			rc = 0;
		body += len + 1;
		n -= len + 1;
	}
	return -E_PROTO;
}

static enum auth_server_error auth_server_take_sasl(struct auth_server *as, const uint8_t *body, size_t n,
						    struct auth_server_out *out)
{
	int rc = auth_server_find_mechanism(body, n);
	struct slice first;

	if (rc == -E_PROTO)
		return auth_server_malformed(out);
	if (rc < 0)
		return AUTH_SERVER_MECHANISM;
	if (as->has_keys)
		as->scram = scram_client_new("", slice_make(NULL, 0), &as->keys, NULL);
	else if (as->secret.type == SECRET_PLAIN || as->secret.type == SECRET_EMPTY)
		as->scram = scram_client_new("", secret_slice(&as->secret), NULL, NULL);
	else
		return AUTH_SERVER_PASSWORD_TYPE;
	if (as->scram == NULL) {
		out->detail = "no random numbers from OpenSSL";
		return AUTH_SERVER_UNSUPPORTED;
	}
	scram_client_first(as->scram, &first);
	out->mechanism = SCRAM_MECHANISM;
	auth_server_send(as, out, AUTH_SERVER_CHALLENGE, AUTH_SEND_SASL_INITIAL, first.p, first.n);
	return AUTH_SERVER_NONE;
}

static enum auth_server_error auth_server_take_continue(struct auth_server *as, const uint8_t *body, size_t n,
							struct auth_server_out *out)
{
	struct slice final;
	int rc = scram_client_final(as->scram, slice_make(body, n), &final);

	if (rc < 0) {
		if (rc == -E_RANGE)
			out->detail = "server asks for too many SCRAM iterations";
		else
			out->detail = rc == -E_PROTO ? "malformed SCRAM message of the server" : "OpenSSL failed";
		return AUTH_SERVER_UNSUPPORTED;
	}
	auth_server_send(as, out, AUTH_SERVER_FINAL, AUTH_SEND_SASL, final.p, final.n);
	return AUTH_SERVER_NONE;
}

static enum auth_server_error auth_server_take_final(struct auth_server *as, const uint8_t *body, size_t n,
						     struct auth_server_out *out)
{
	int rc = scram_client_verify(as->scram, slice_make(body, n));

	if (rc == -E_AUTH)
		return AUTH_SERVER_SIGNATURE;
	if (rc < 0) {
		out->detail = "malformed SCRAM message of the server";
		return AUTH_SERVER_UNVERIFIED;
	}
	as->state = AUTH_SERVER_SIGNED;
	return AUTH_SERVER_NONE;
}

static const struct {
	enum auth_server_state state;
	uint32_t code; /* enum auth_request */
	auth_server_take *take;
} auth_server_rows[] = {
	{ AUTH_SERVER_START, AUTH_REQ_OK, auth_server_take_ok },
	{ AUTH_SERVER_START, AUTH_REQ_PASSWORD, auth_server_take_password },
	{ AUTH_SERVER_START, AUTH_REQ_MD5, auth_server_take_md5 },
	{ AUTH_SERVER_START, AUTH_REQ_SASL, auth_server_take_sasl },
	{ AUTH_SERVER_ANSWERED, AUTH_REQ_OK, auth_server_take_ok },
	{ AUTH_SERVER_CHALLENGE, AUTH_REQ_SASL_CONTINUE, auth_server_take_continue },
	{ AUTH_SERVER_FINAL, AUTH_REQ_SASL_FINAL, auth_server_take_final },
	{ AUTH_SERVER_SIGNED, AUTH_REQ_OK, auth_server_take_ok },
};

/* What a message without a row means. */
static enum auth_server_error auth_server_refuse(const struct auth_server *as, uint32_t code,
						 struct auth_server_out *out)
{
	if (code == AUTH_REQ_OK) {
		out->detail = "server accepted the login before the SCRAM exchange was complete";
		return AUTH_SERVER_UNVERIFIED;
	}
	out->detail = as->state == AUTH_SERVER_START ? "authentication method of the server is not supported"
						     : "unexpected authentication request";
	return AUTH_SERVER_UNSUPPORTED;
}

int auth_server_step(struct auth_server *as, uint32_t code, const uint8_t *body, size_t n, struct auth_server_out *out)
{
	auth_server_take *take = NULL;

	CHECK_OBJ(as, AUTH_SERVER_MAGIC);
	ASSERT(as->state != AUTH_SERVER_ENDED);
	memset(out, 0, sizeof(*out));
	out->detail = "";
	for (size_t i = 0; i < ARRAY_LEN(auth_server_rows); i++) {
		if (auth_server_rows[i].state == as->state && auth_server_rows[i].code == code)
			take = auth_server_rows[i].take;
	}
	out->error = take == NULL ? auth_server_refuse(as, code, out) : take(as, body, n, out);
	if (out->error == AUTH_SERVER_NONE)
		return 0;
	as->state = AUTH_SERVER_ENDED;
	return -E_AUTH;
}
