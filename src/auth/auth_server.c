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
 * SCRAM is bound to the TLS connection when the server offers that and its
 * certificate has a hash. A server that does not offer it is told that we could
 * ("y"): if it did, and somebody took the offer out, it refuses the login.
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
	struct scram_keys keys;    /* when has_keys */
	bool is_tls;               /* the connection is encrypted */
	bool ignores_stripped_tls; /* of the setup */
	size_t binding_len;        /* bytes of binding; 0: there is none */
	uint8_t binding[SCRAM_END_POINT_MAX];
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

struct auth_server *auth_server_new(const struct auth_server_setup *setup)
{
	struct auth_server *as = xcalloc(1, sizeof(*as));

	ASSERT(setup->binding.n <= sizeof(as->binding) && (setup->binding.n == 0 || setup->is_tls));
	as->magic = AUTH_SERVER_MAGIC;
	as->user_name = xstrdup(setup->user_name);
	secret_copy(&as->secret, setup->secret);
	as->has_keys = setup->keys != NULL && (setup->secret == NULL || setup->secret->type == SECRET_SCRAM);
	if (as->has_keys)
		as->keys = *setup->keys;
	as->is_tls = setup->is_tls;
	as->ignores_stripped_tls = setup->ignores_stripped_tls;
	as->binding_len = setup->binding.n;
	if (as->binding_len > 0)
		memcpy(as->binding, setup->binding.p, as->binding_len);
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

/* Which of the mechanisms that we know a server offers. */
struct auth_server_offer {
	bool plain; /* SCRAM_MECHANISM */
	bool plus;  /* SCRAM_MECHANISM_PLUS */
};

/* Reads a list of NUL-terminated names that ends with an empty one. 0, or -E_PROTO when it does not end there. */
static int auth_server_read_offer(const uint8_t *body, size_t n, struct auth_server_offer *offer)
{
	*offer = (struct auth_server_offer){ false, false };
	while (n > 0) {
		const uint8_t *nul = memchr(body, '\0', n);
		struct slice name;

		if (nul == NULL)
			return -E_PROTO;
		name = slice_make(body, (size_t)(nul - body));
		if (name.n == 0)
			return n == 1 ? 0 : -E_PROTO;
		offer->plain = offer->plain || slice_eq_str(name, SCRAM_MECHANISM);
		offer->plus = offer->plus || slice_eq_str(name, SCRAM_MECHANISM_PLUS);
		body += name.n + 1;
		n -= name.n + 1;
	}
	return -E_PROTO;
}

/* The client's side with the keys or the password; NULL with the error set. */
static struct scram_client *auth_server_new_scram(struct auth_server *as, struct auth_server_out *out)
{
	struct scram_client *scram;

	if (as->has_keys) {
		scram = scram_client_new("", slice_make(NULL, 0), &as->keys, NULL);
	} else if (as->secret.type == SECRET_PLAIN || as->secret.type == SECRET_EMPTY) {
		scram = scram_client_new("", secret_slice(&as->secret), NULL, NULL);
	} else {
		out->error = AUTH_SERVER_PASSWORD_TYPE;
		return NULL;
	}
	if (scram == NULL) {
		out->error = AUTH_SERVER_UNSUPPORTED;
		out->detail = "no random numbers from OpenSSL";
	}
	return scram;
}

static enum auth_server_error auth_server_take_sasl(struct auth_server *as, const uint8_t *body, size_t n,
						    struct auth_server_out *out)
{
	struct auth_server_offer offer;
	struct slice first;
	bool is_plus;

	if (auth_server_read_offer(body, n, &offer) < 0)
		return auth_server_malformed(out);
	if (offer.plus && !as->is_tls && !as->ignores_stripped_tls) {
		out->detail = "server offers " SCRAM_MECHANISM_PLUS " without TLS: somebody between us has removed it";
		return AUTH_SERVER_UNSUPPORTED;
	}
	is_plus = offer.plus && as->binding_len > 0;
	if (!is_plus && !offer.plain)
		return AUTH_SERVER_MECHANISM;
	as->scram = auth_server_new_scram(as, out);
	if (as->scram == NULL)
		return out->error;
	if (is_plus)
		scram_client_bind(as->scram, SCRAM_FLAG_BOUND, slice_make(as->binding, as->binding_len));
	else if (as->binding_len > 0)
		scram_client_bind(as->scram, SCRAM_FLAG_COULD, slice_make(NULL, 0));
	scram_client_first(as->scram, &first);
	out->mechanism = is_plus ? SCRAM_MECHANISM_PLUS : SCRAM_MECHANISM;
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
			out->detail = rc == -E_PROTO ? scram_client_fault(as->scram) : "OpenSSL failed";
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
		out->detail = scram_client_fault(as->scram);
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
