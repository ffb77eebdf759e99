/*
 * The login of a client, step by step.
 *
 * A login is in one state; the state says what the next payload means and
 * which function takes it. The method only chooses how it starts:
 *
 *     START -- any, trust, cert, peer, reject ----------------> done or failed
 *           -- plain -----> PASSWORD -------------------------> done or failed
 *           -- ldap, pam -> FOREIGN --> ASKED (a job) --------> done or failed
 *           -- md5 -------> MD5 ------------------------------> done or failed
 *           -- scram -----> SASL_INITIAL ---> SASL_RESPONSE --> done or failed
 *
 * md5 starts as SCRAM for a user whose secret is a SCRAM verifier, since md5
 * cannot be checked against one.
 *
 * What a failure tells. A name that is not known, a secret that the method
 * cannot use and a wrong password give the same messages in the same order.
 * They should take the same time, too: SCRAM has its mock, and derives for it
 * what some users need, when the caller says that these are about; md5 hashes
 * something in any case; plain, where one user's check costs thousands of
 * hashes (SCRAM verifier) and another's one, pays the high price for every
 * failure. What differs is for the log, in auth_out.detail.
 *
 * ldap and pam take the password and leave the question to the caller, who asks
 * somebody that may take long. Whether the name is known here does not matter
 * to them; the time they take is that of those who are asked.
 */
#include "auth/auth.h"

#include "auth/crypto.h"
#include "auth/md5.h"
#include "core/alloc.h"

#define AUTH_MAGIC            0x41555448U

/* Name of the mechanism with its NUL, and the message with its length. */
#define AUTH_SASL_INITIAL_MAX (sizeof(SCRAM_MECHANISM_PLUS) + 4 + SCRAM_MESSAGE_MAX)

/* state, longest payload of use, function that takes it */
#define AUTH_STATE_TABLE(X)                                                 \
	X(AUTH_START, 0, auth_take_start)                                   \
	X(AUTH_PASSWORD, AUTH_PAYLOAD_MAX, auth_take_password)              \
	X(AUTH_FOREIGN, AUTH_PAYLOAD_MAX, auth_take_foreign)                \
	X(AUTH_ASKED, AUTH_PAYLOAD_MAX, auth_take_nothing)                  \
	X(AUTH_MD5, MD5_SECRET_LEN + 1, auth_take_md5)                      \
	X(AUTH_SASL_INITIAL, AUTH_SASL_INITIAL_MAX, auth_take_sasl_initial) \
	X(AUTH_SASL_RESPONSE, SCRAM_MESSAGE_MAX, auth_take_sasl_response)   \
	X(AUTH_ENDED, AUTH_PAYLOAD_MAX, auth_take_nothing)

enum auth_state {
#define X(id, max, step) id,
	AUTH_STATE_TABLE(X)
#undef X
};

struct auth {
	unsigned magic;
	enum auth_method method;
	enum auth_state state;
	char *user_name;
	bool is_known;              /* the name is a user */
	struct secret secret;       /* of the user; empty for a name that is none */
	struct scram_recipe recipe; /* for what we derive */
	uint8_t salt[MD5_SALT_LEN]; /* sent, in AUTH_MD5 */
	struct scram_server *scram; /* while SCRAM runs; NULL also when OpenSSL gave no random bytes */
	bool offers_plus;           /* SCRAM can be bound to the client's TLS connection */
	const char *denied;         /* cert, peer: why the client is not the user, or NULL */
	const char *doom;           /* why the SCRAM exchange is a mock, or NULL */
	char *password;             /* what the client sent in clear text, once it was right, and while AUTH_ASKED */
};

static const char auth_no_random[] = "no random numbers from OpenSSL";
static const char auth_malformed_initial[] = "malformed SASLInitialResponse";

const char *auth_method_name(enum auth_method method)
{
	static const char *const names[] = {
#define X(id, name) [id] = name,
		AUTH_METHOD_TABLE(X)
#undef X
	};

	ASSERT((size_t)method < ARRAY_LEN(names));
	return names[method];
}

int auth_method_parse(const char *name, enum auth_method *out)
{
	for (int i = 0; i < AUTH_METHOD_COUNT; i++) {
		if (strcmp(name, auth_method_name((enum auth_method)i)) == 0) {
			*out = (enum auth_method)i;
			return 0;
		}
	}
	return -E_NOENT;
}

const char *auth_reason_text(enum auth_reason reason)
{
	static const char *const texts[] = {
#define X(id, sqlstate, text) [id] = text,
		AUTH_REASON_TABLE(X)
#undef X
	};

	ASSERT((size_t)reason < ARRAY_LEN(texts));
	return texts[reason];
}

const char *auth_reason_sqlstate(enum auth_reason reason)
{
	static const char *const codes[] = {
#define X(id, sqlstate, text) [id] = sqlstate,
		AUTH_REASON_TABLE(X)
#undef X
	};

	ASSERT((size_t)reason < ARRAY_LEN(codes));
	return codes[reason];
}

/* One derivation for nothing. */
static void auth_derive_in_vain(const struct auth *a, struct slice password)
{
	struct scram_verifier *wasted = NULL;

	if (scram_verifier_derive(password, NULL, 0, a->recipe.iterations, &wasted) == 0)
		scram_verifier_free(&wasted);
}

/* The exchange against the user's verifier, or a mock with the reason why. */
static struct scram_server *auth_new_scram(struct auth *a, const struct user *user, bool is_costly)
{
	bool is_derived = false;
	const struct scram_verifier *v = user == NULL ? NULL : user_verifier(user, &a->recipe, &is_derived);

	if (is_costly && !is_derived)
		auth_derive_in_vain(a, slice_of("password"));
	if (v != NULL)
		return scram_server_new(v, NULL);
	if (user == NULL)
		a->doom = "user is not known";
	else if (user->secret.type == SECRET_MD5)
		a->doom = "SCRAM authentication failed: user has MD5 secret";
	else if (user->secret.type == SECRET_EMPTY)
		a->doom = "user has no password";
	else
		a->doom = auth_no_random;
	return scram_server_new_mock(a->user_name, &a->recipe);
}

static void auth_prepare_scram(struct auth *a, const struct auth_setup *setup)
{
	a->scram = auth_new_scram(a, setup->user, setup->is_costly);
	a->offers_plus = setup->binding.n > 0;
	if (a->scram != NULL && a->offers_plus)
		scram_server_bind(a->scram, setup->binding);
}

struct auth *auth_new(const struct auth_setup *setup)
{
	struct auth *a = xcalloc(1, sizeof(*a));
	const struct user *user = setup->user;

	ASSERT((size_t)setup->method < AUTH_METHOD_COUNT);
	ASSERT(setup->recipe.iterations >= 1);
	a->magic = AUTH_MAGIC;
	a->user_name = xstrdup(setup->user_name);
	a->is_known = user != NULL;
	secret_copy(&a->secret, user == NULL ? NULL : &user->secret);
	a->recipe = setup->recipe;
	a->method = setup->method;
	a->denied = setup->denied;
	if (a->method == AUTH_METHOD_MD5 && a->secret.type == SECRET_SCRAM)
		a->method = AUTH_METHOD_SCRAM;
	if (a->method == AUTH_METHOD_SCRAM)
		auth_prepare_scram(a, setup);
	return a;
}

void auth_free(struct auth **ap)
{
	struct auth *a = *ap;

	*ap = NULL;
	if (a == NULL)
		return;
	CHECK_OBJ(a, AUTH_MAGIC);
	scram_server_free(&a->scram);
	secret_fini(&a->secret);
	free_secret(a->password);
	free(a->user_name);
	mem_wipe(a, sizeof(*a));
	free(a);
}

static enum auth_verdict auth_more(struct auth *a, struct auth_out *out, enum auth_state next,
				   enum auth_request request, const void *body, size_t n)
{
	a->state = next;
	out->request = request;
	out->body = body;
	out->body_len = n;
	return AUTH_MORE;
}

static enum auth_verdict auth_done(struct auth *a)
{
	a->state = AUTH_ENDED;
	return AUTH_DONE;
}

static enum auth_verdict auth_fail(struct auth *a, struct auth_out *out, enum auth_reason reason, const char *detail)
{
	a->state = AUTH_ENDED;
	out->reason = reason;
	out->detail = detail;
	return AUTH_FAIL;
}

/* What the log says when a password was not right. */
static const char *auth_mismatch_detail(const struct auth *a)
{
	if (!a->is_known)
		return "user is not known";
	return a->secret.type == SECRET_EMPTY ? "user has no password" : "wrong password";
}

static enum auth_verdict auth_start_any(struct auth *a, struct auth_out *out)
{
	return auth_done(a);
}

static enum auth_verdict auth_start_trust(struct auth *a, struct auth_out *out)
{
	return a->is_known ? auth_done(a) : auth_fail(a, out, AUTH_REASON_TRUST, "user is not known");
}

/* cert and peer: others have said already who the client is. */
static enum auth_verdict auth_settle(struct auth *a, struct auth_out *out, enum auth_reason reason)
{
	const char *detail = a->denied == NULL && !a->is_known ? "user is not known" : a->denied;

	return detail == NULL ? auth_done(a) : auth_fail(a, out, reason, detail);
}

static enum auth_verdict auth_start_cert(struct auth *a, struct auth_out *out)
{
	return auth_settle(a, out, AUTH_REASON_CERT);
}

static enum auth_verdict auth_start_peer(struct auth *a, struct auth_out *out)
{
	return auth_settle(a, out, AUTH_REASON_PEER);
}

static enum auth_verdict auth_start_reject(struct auth *a, struct auth_out *out)
{
	return auth_fail(a, out, AUTH_REASON_REJECT, a->denied == NULL ? "" : a->denied);
}

static enum auth_verdict auth_start_plain(struct auth *a, struct auth_out *out)
{
	return auth_more(a, out, AUTH_PASSWORD, AUTH_REQ_PASSWORD, NULL, 0);
}

static enum auth_verdict auth_start_md5(struct auth *a, struct auth_out *out)
{
	if (crypto_random(a->salt, sizeof(a->salt)) < 0)
		return auth_fail(a, out, AUTH_REASON_PASSWORD, auth_no_random);
	return auth_more(a, out, AUTH_MD5, AUTH_REQ_MD5, a->salt, sizeof(a->salt));
}

static enum auth_verdict auth_start_scram(struct auth *a, struct auth_out *out)
{
	/* Lists of names, each with its NUL, and an empty one. */
	static const char plain[] = SCRAM_MECHANISM "\0";
	static const char plus[] = SCRAM_MECHANISM_PLUS "\0" SCRAM_MECHANISM "\0";

	if (a->scram == NULL)
		return auth_fail(a, out, AUTH_REASON_SASL, auth_no_random);
	return auth_more(a, out, AUTH_SASL_INITIAL, AUTH_REQ_SASL, a->offers_plus ? plus : plain,
			 a->offers_plus ? sizeof(plus) : sizeof(plain));
}

static enum auth_verdict auth_start_foreign(struct auth *a, struct auth_out *out)
{
	return auth_more(a, out, AUTH_FOREIGN, AUTH_REQ_PASSWORD, NULL, 0);
}

static enum auth_verdict auth_take_start(struct auth *a, const uint8_t *payload, size_t n, struct auth_out *out)
{
	static enum auth_verdict (*const starts[])(struct auth *, struct auth_out *) = {
		[AUTH_METHOD_ANY] = auth_start_any,      [AUTH_METHOD_TRUST] = auth_start_trust,
		[AUTH_METHOD_PLAIN] = auth_start_plain,  [AUTH_METHOD_MD5] = auth_start_md5,
		[AUTH_METHOD_SCRAM] = auth_start_scram,  [AUTH_METHOD_CERT] = auth_start_cert,
		[AUTH_METHOD_PEER] = auth_start_peer,    [AUTH_METHOD_REJECT] = auth_start_reject,
		[AUTH_METHOD_LDAP] = auth_start_foreign, [AUTH_METHOD_PAM] = auth_start_foreign,
	};

	_Static_assert(ARRAY_LEN(starts) == AUTH_METHOD_COUNT, "each method has a start");
	ASSERT(n == 0);
	return starts[a->method](a, out);
}

/* The string of a PasswordMessage, without its NUL; or the reason why there is none that could be right. */
static enum auth_reason auth_read_password(const uint8_t *payload, size_t n, struct slice *password)
{
	if (n == 0 || n > AUTH_PAYLOAD_MAX || memchr(payload, '\0', n) != payload + n - 1)
		return AUTH_REASON_PASSWORD;
	*password = slice_make(payload, n - 1);
	return n == 1 ? AUTH_REASON_EMPTY : AUTH_REASON_NONE;
}

/* Equality whose time does not tell where two texts differ, nor how long ours is. */
static bool auth_is_same_text(struct slice a, struct slice b)
{
	uint8_t x[CRYPTO_SHA256_LEN];
	uint8_t y[CRYPTO_SHA256_LEN];
	bool same = crypto_sha256(a.p, a.n, x) == 0 && crypto_sha256(b.p, b.n, y) == 0 && mem_equal_ct(x, y, sizeof(x));

	mem_wipe(x, sizeof(x));
	mem_wipe(y, sizeof(y));
	return same;
}

/* Whether the password is the user's. Any failure costs one derivation of SCRAM keys. */
static bool auth_is_right_password(const struct auth *a, struct slice password)
{
	char hashed[MD5_SECRET_LEN + 1];
	bool right = false;

	switch (a->secret.type) {
	case SECRET_SCRAM:
		return scram_verifier_matches(a->secret.scram, password);
	case SECRET_PLAIN:
		right = auth_is_same_text(password, secret_slice(&a->secret));
		break;
	case SECRET_MD5:
		right = md5_make_secret(password, a->user_name, hashed) == 0 &&
			mem_equal_ct(hashed, a->secret.text, MD5_SECRET_LEN);
		mem_wipe(hashed, sizeof(hashed));
		break;
	case SECRET_EMPTY:
		break;
	}
	if (!right)
		auth_derive_in_vain(a, password);
	return right;
}

static enum auth_verdict auth_take_password(struct auth *a, const uint8_t *payload, size_t n, struct auth_out *out)
{
	struct slice password;
	enum auth_reason reason;

	reason = auth_read_password(payload, n, &password);
	if (reason != AUTH_REASON_NONE)
		return auth_fail(a, out, reason, "empty or malformed password message");
	if (!auth_is_right_password(a, password))
		return auth_fail(a, out, AUTH_REASON_PASSWORD, auth_mismatch_detail(a));
	a->password = slice_dup(password);
	return auth_done(a);
}

static enum auth_verdict auth_take_foreign(struct auth *a, const uint8_t *payload, size_t n, struct auth_out *out)
{
	struct slice password;
	enum auth_reason reason = auth_read_password(payload, n, &password);

	/* LDAP servers let everybody in who sends none. */
	if (reason != AUTH_REASON_NONE)
		return auth_fail(a, out, reason, "empty or malformed password message");
	a->password = slice_dup(password);
	a->state = AUTH_ASKED;
	return AUTH_JOB;
}

enum auth_verdict auth_answer(struct auth *a, bool is_right, const char *detail, struct auth_out *out)
{
	CHECK_OBJ(a, AUTH_MAGIC);
	ASSERT(a->state == AUTH_ASKED);
	memset(out, 0, sizeof(*out));
	out->detail = "";
	if (is_right)
		return auth_done(a);
	free_secret(a->password);
	a->password = NULL;
	return auth_fail(a, out, a->method == AUTH_METHOD_LDAP ? AUTH_REASON_LDAP : AUTH_REASON_PAM, detail);
}

bool auth_is_foreign(const struct auth *a)
{
	CHECK_OBJ(a, AUTH_MAGIC);
	return a->method == AUTH_METHOD_LDAP || a->method == AUTH_METHOD_PAM;
}

enum auth_method auth_method_of(const struct auth *a)
{
	CHECK_OBJ(a, AUTH_MAGIC);
	return a->method;
}

/* The answer that the salt asks for; for a user who cannot log in, one that takes as long. 0 or -E_UNSUPPORTED. */
static int auth_expected_md5(const struct auth *a, char expected[MD5_SECRET_LEN + 1])
{
	char hashed[MD5_SECRET_LEN + 1];
	int rc = 0;

	if (a->secret.type == SECRET_MD5)
		memcpy(hashed, a->secret.text, sizeof(hashed));
	else
		rc = md5_make_secret(secret_slice(&a->secret), a->user_name, hashed);
	if (rc == 0)
		rc = md5_make_response(hashed, a->salt, expected);
	mem_wipe(hashed, sizeof(hashed));
	return rc;
}

static enum auth_verdict auth_take_md5(struct auth *a, const uint8_t *payload, size_t n, struct auth_out *out)
{
	struct slice answer;
	char expected[MD5_SECRET_LEN + 1];
	enum auth_reason reason;

	reason = auth_read_password(payload, n, &answer);
	if (reason != AUTH_REASON_NONE)
		return auth_fail(a, out, reason, "empty or malformed password message");
	if (auth_expected_md5(a, expected) < 0)
		return auth_fail(a, out, AUTH_REASON_PASSWORD, "OpenSSL has no MD5");
	if (answer.n != MD5_SECRET_LEN || !mem_equal_ct(answer.p, expected, MD5_SECRET_LEN) ||
	    a->secret.type == SECRET_EMPTY)
		return auth_fail(a, out, AUTH_REASON_PASSWORD, auth_mismatch_detail(a));
	return auth_done(a);
}

/* The verdict for an error of the exchange. */
static enum auth_verdict auth_fail_scram(struct auth *a, struct auth_out *out, int rc)
{
	const char *detail;

	if (rc == -E_UNSUPPORTED || rc == -E_PROTO)
		detail = scram_server_fault(a->scram);
	else if (a->doom != NULL)
		detail = a->doom;
	else
		detail = rc == -E_AUTH ? "wrong password" : "OpenSSL failed";
	return auth_fail(a, out, AUTH_REASON_SASL, detail);
}

static uint32_t auth_get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* SASLInitialResponse: name of the mechanism with its NUL, length of the data, the data and nothing behind it. */
static enum auth_verdict auth_take_sasl_initial(struct auth *a, const uint8_t *payload, size_t n, struct auth_out *out)
{
	const uint8_t *nul = n == 0 ? NULL : memchr(payload, '\0', n);
	struct slice mechanism;
	struct slice data;
	struct slice challenge;
	bool is_plus;
	int rc;

	if (nul == NULL)
		return auth_fail(a, out, AUTH_REASON_SASL, auth_malformed_initial);
	mechanism = slice_make(payload, (size_t)(nul - payload));
	is_plus = a->offers_plus && slice_eq_str(mechanism, SCRAM_MECHANISM_PLUS);
	if (!is_plus && !slice_eq_str(mechanism, SCRAM_MECHANISM))
		return auth_fail(a, out, AUTH_REASON_MECHANISM, "");
	data = slice_make(nul + 1, n - mechanism.n - 1);
	if (data.n < 4 || auth_get_u32((const uint8_t *)data.p) != data.n - 4)
		return auth_fail(a, out, AUTH_REASON_SASL, auth_malformed_initial);
	rc = scram_server_first(a->scram, is_plus, slice_make(data.p + 4, data.n - 4), &challenge);
	if (rc < 0)
		return auth_fail_scram(a, out, rc);
	return auth_more(a, out, AUTH_SASL_RESPONSE, AUTH_REQ_SASL_CONTINUE, challenge.p, challenge.n);
}

static enum auth_verdict auth_take_sasl_response(struct auth *a, const uint8_t *payload, size_t n, struct auth_out *out)
{
	struct slice signature;
	int rc = scram_server_final(a->scram, slice_make(payload, n), &signature);

	if (rc < 0)
		return auth_fail_scram(a, out, rc);
	out->request = AUTH_REQ_SASL_FINAL;
	out->body = (const uint8_t *)signature.p;
	out->body_len = signature.n;
	return auth_done(a);
}

NORETURN static enum auth_verdict auth_take_nothing(struct auth *a, const uint8_t *payload, size_t n,
						    struct auth_out *out)
{
	UNREACHABLE();
}

size_t auth_payload_max(const struct auth *a)
{
	static const size_t max[] = {
#define X(id, max, step) [id] = max,
		AUTH_STATE_TABLE(X)
#undef X
	};

	CHECK_OBJ(a, AUTH_MAGIC);
	return max[a->state];
}

enum auth_verdict auth_step(struct auth *a, const uint8_t *payload, size_t n, struct auth_out *out)
{
	static enum auth_verdict (*const steps[])(struct auth *, const uint8_t *, size_t, struct auth_out *) = {
#define X(id, max, step) [id] = step,
		AUTH_STATE_TABLE(X)
#undef X
	};

	CHECK_OBJ(a, AUTH_MAGIC);
	memset(out, 0, sizeof(*out));
	out->detail = "";
	return steps[a->state](a, payload, n, out);
}

const struct scram_keys *auth_scram_keys(const struct auth *a)
{
	CHECK_OBJ(a, AUTH_MAGIC);
	if (a->secret.type != SECRET_SCRAM || a->scram == NULL)
		return NULL;
	return scram_server_keys(a->scram);
}

const char *auth_plain_password(const struct auth *a)
{
	CHECK_OBJ(a, AUTH_MAGIC);
	return a->password;
}
