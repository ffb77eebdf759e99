/*
 * The two login drivers. The first byte chooses the driver, the method and the
 * kind of the user, and whether there is TLS; then come messages, each with a length of two bytes in
 * front (and a code of one byte, for the driver that faces servers).
 */
#include "fuzz.h"

#include "auth/auth.h"

#define AS_SCRAM                                                                                 \
	"SCRAM-SHA-256$2:MDEyMzQ1Njc4OWFiY2RlZg==$3SwsfEy6PbbkBwf/U6s1vR97AnRZzZlyVVukqFOA5Zs=:" \
	"xLosJ5GvHxgfOBsyRLAzGYJv2UK94GwUAwn6ZEHJa/c="

/* What users have; NULL: unknown. */
static const char *const secrets[] = { NULL, "", "secret", "md54a0a68b43b6cd5cf266fa02f196e2371", AS_SCRAM };

static struct slice fuzz_take_message(struct slice *input)
{
	size_t n = (size_t)fuzz_take_u8(input) << 8;

	n |= fuzz_take_u8(input);
	return fuzz_take(input, n);
}

/* A login of alice, by TLS when `binding` is not empty. */
static struct auth *new_auth(enum auth_method method, const struct user *user, int iterations, struct slice binding)
{
	struct auth_setup setup = {
		.method = method,
		.user_name = "alice",
		.user = user,
		.recipe.iterations = (uint32_t)iterations,
		.binding = binding,
	};

	return auth_new(&setup);
}

static void fuzz_client(enum auth_method method, const char *secret, struct slice binding, struct slice input)
{
	struct user *user = secret == NULL ? NULL : user_new("alice", slice_of(secret));
	struct auth *a = new_auth(method, user, 1, binding);
	struct auth_out out;
	enum auth_verdict verdict = auth_step(a, NULL, 0, &out);

	while (verdict == AUTH_MORE && input.n > 0) {
		struct slice m = fuzz_take_message(&input);

		verdict = auth_step(a, (const uint8_t *)m.p, m.n, &out);
		ASSERT((verdict == AUTH_FAIL) == (out.reason != AUTH_REASON_NONE));
		ASSERT(verdict != AUTH_DONE || (secret != NULL && secret[0] != '\0'));
		ASSERT(out.body != NULL || out.body_len == 0);
	}
	if (verdict == AUTH_JOB) {
		ASSERT(auth_plain_password(a)[0] != '\0');
		verdict = auth_answer(a, false, "no", &out);
		ASSERT(verdict == AUTH_FAIL && out.reason != AUTH_REASON_NONE && auth_plain_password(a) == NULL);
	}
	auth_free(&a);
	user_free(&user);
}

static void fuzz_server(const char *secret, struct slice binding, struct slice input)
{
	struct user *user = secret == NULL ? NULL : user_new("alice", slice_of(secret));
	struct auth_server_setup setup = {
		.user_name = "alice",
		.secret = user == NULL ? NULL : &user->secret,
		.binding = binding,
		.is_tls = binding.n > 0,
	};
	struct auth_server *as = auth_server_new(&setup);
	struct auth_server_out out = { .done = false };
	bool signs = false;
	int rc = 0;

	while (rc == 0 && !out.done && input.n > 0) {
		uint32_t code = fuzz_take_u8(&input);
		struct slice m = fuzz_take_message(&input);

		rc = auth_server_step(as, code, (const uint8_t *)m.p, m.n, &out);
		ASSERT((rc < 0) == (out.error != AUTH_SERVER_NONE));
		ASSERT(out.send == AUTH_SEND_NONE || out.data != NULL);
		signs = signs || out.send == AUTH_SEND_SASL_INITIAL;
		/* Nobody here knows our nonce, so no SCRAM exchange can succeed. */
		ASSERT(!out.done || !signs);
	}
	auth_server_free(&as);
	user_free(&user);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = slice_make(data, size);
	static const enum auth_method methods[] = { AUTH_METHOD_ANY, AUTH_METHOD_TRUST, AUTH_METHOD_PLAIN,
						    AUTH_METHOD_MD5, AUTH_METHOD_SCRAM, AUTH_METHOD_LDAP,
						    AUTH_METHOD_PAM };
	uint8_t choice = fuzz_take_u8(&input);
	const char *secret = secrets[choice / 8 % ARRAY_LEN(secrets)];
	struct slice binding = choice / 8 / ARRAY_LEN(secrets) % 2 == 0 ? slice_of(NULL) : slice_of("hash");

	if (choice % 8 < ARRAY_LEN(methods))
		fuzz_client(methods[choice % 8], secret, binding, input);
	else
		fuzz_server(secret, binding, input);
	return 0;
}
