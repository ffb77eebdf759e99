#include "auth/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"

#define SECRET_AS_SCRAM                                                                           \
	"SCRAM-SHA-256$64:MDEyMzQ1Njc4OWFiY2RlZg==$3SwsfEy6PbbkBwf/U6s1vR97AnRZzZlyVVukqFOA5Zs=:" \
	"xLosJ5GvHxgfOBsyRLAzGYJv2UK94GwUAwn6ZEHJa/c="
#define SECRET_AS_MD5 "md54a0a68b43b6cd5cf266fa02f196e2371" /* of "secret" and "alice" */
#define MECHANISMS    "SCRAM-SHA-256\0"

static struct auth_server *login(const char *text, const struct scram_keys *keys)
{
	struct secret secret;
	struct auth_server_setup setup = { .user_name = "alice", .keys = keys };
	struct auth_server *as;

	if (text == NULL)
		return auth_server_new(&setup);
	secret_init(&secret, slice_of(text));
	setup.secret = &secret;
	as = auth_server_new(&setup);
	secret_fini(&secret);
	return as;
}

/* A login with the password "secret". */
static struct auth_server *login_by(bool is_tls, const char *binding, bool ignores_stripped_tls)
{
	struct secret secret;
	struct auth_server_setup setup = {
		.user_name = "alice",
		.secret = &secret,
		.binding = slice_of(binding),
		.is_tls = is_tls,
		.ignores_stripped_tls = ignores_stripped_tls,
	};
	struct auth_server *as;

	secret_init(&secret, slice_of("secret"));
	as = auth_server_new(&setup);
	secret_fini(&secret);
	return as;
}

/* One step whose body lies in fresh memory of exactly its length. */
static int step(struct auth_server *as, uint32_t code, const void *body, size_t n, struct auth_server_out *out)
{
	uint8_t *copy = xmalloc(n);
	int rc;

	if (n > 0)
		memcpy(copy, body, n);
	rc = auth_server_step(as, code, copy, n, out);
	assert_int_equal(rc < 0, out->error != AUTH_SERVER_NONE);
	free(copy);
	return rc;
}

static enum auth_server_error first_error(const char *text, const struct scram_keys *keys, uint32_t code,
					  const void *body, size_t n)
{
	struct auth_server *as = login(text, keys);
	struct auth_server_out out;
	int rc = step(as, code, body, n, &out);

	assert_true(rc == 0 || rc == -E_AUTH);
	auth_server_free(&as);
	assert_null(as);
	return out.error;
}

static void test_requests_against_secrets(void **state)
{
	static const struct scram_keys keys;
	static const struct {
		const char *secret;
		bool keys;
		enum auth_server_error md5;
		enum auth_server_error sasl;
	} rows[] = {
		{ "secret", false, AUTH_SERVER_NONE, AUTH_SERVER_NONE },
		{ "secret", true, AUTH_SERVER_NONE, AUTH_SERVER_NONE },
		{ SECRET_AS_MD5, false, AUTH_SERVER_NONE, AUTH_SERVER_PASSWORD_TYPE },
		{ SECRET_AS_MD5, true, AUTH_SERVER_NONE, AUTH_SERVER_PASSWORD_TYPE },
		{ SECRET_AS_SCRAM, false, AUTH_SERVER_PASSWORD_TYPE, AUTH_SERVER_PASSWORD_TYPE },
		{ SECRET_AS_SCRAM, true, AUTH_SERVER_PASSWORD_TYPE, AUTH_SERVER_NONE },
		{ "", false, AUTH_SERVER_NONE, AUTH_SERVER_NONE },
		{ NULL, false, AUTH_SERVER_NONE, AUTH_SERVER_NONE },
		{ NULL, true, AUTH_SERVER_NONE, AUTH_SERVER_NONE },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct scram_keys *k = rows[i].keys ? &keys : NULL;

		assert_int_equal(first_error(rows[i].secret, k, 0, NULL, 0), AUTH_SERVER_NONE);
		assert_int_equal(first_error(rows[i].secret, k, 3, NULL, 0), AUTH_SERVER_NONE);
		assert_int_equal(first_error(rows[i].secret, k, 5, "\1\2\3\4", 4), rows[i].md5);
		assert_int_equal(first_error(rows[i].secret, k, 10, MECHANISMS, sizeof(MECHANISMS)), rows[i].sasl);
	}
}

static void test_what_is_sent(void **state)
{
	static const char *const secrets[] = { "secret", SECRET_AS_MD5, SECRET_AS_SCRAM, "", NULL };
	struct auth_server_out out;
	struct auth_server *as;

	for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
		as = login(secrets[i], NULL);
		assert_int_equal(step(as, 3, NULL, 0, &out), 0);
		assert_int_equal(out.send, AUTH_SEND_PASSWORD);
		assert_string_equal((const char *)out.data, secrets[i] == NULL ? "" : secrets[i]);
		assert_int_equal(out.data_len, strlen((const char *)out.data) + 1);
		assert_false(out.done);
		assert_int_equal(step(as, 0, NULL, 0, &out), 0);
		assert_int_equal(out.send, AUTH_SEND_NONE);
		assert_true(out.done);
		auth_server_free(&as);
	}
	for (size_t i = 0; i < 2; i++) {
		as = login(secrets[i], NULL);
		assert_int_equal(step(as, 5, "\1\2\3\4", 4, &out), 0);
		assert_int_equal(out.send, AUTH_SEND_PASSWORD);
		/* md5 of 4a0a…2371 and the salt */
		assert_string_equal((const char *)out.data, "md598a0412b9c31436fc53776e863350083");
		assert_int_equal(out.data_len, 36);
		assert_int_equal(step(as, 0, NULL, 0, &out), 0);
		assert_true(out.done);
		auth_server_free(&as);
	}
	as = login("secret", NULL);
	assert_int_equal(step(as, 10, MECHANISMS, sizeof(MECHANISMS), &out), 0);
	assert_int_equal(out.send, AUTH_SEND_SASL_INITIAL);
	assert_string_equal(out.mechanism, "SCRAM-SHA-256");
	assert_memory_equal(out.data, "n,,n=,r=", 8);
	auth_server_free(&as);
}

static void test_mechanism_lists(void **state)
{
	static const struct {
		const char *p;
		size_t n;
		enum auth_server_error error;
	} rows[] = {
		{ "SCRAM-SHA-256\0", 15, AUTH_SERVER_NONE },
		{ "SCRAM-SHA-1\0SCRAM-SHA-256\0", 27, AUTH_SERVER_NONE },
		{ "SCRAM-SHA-256\0OAUTHBEARER\0", 27, AUTH_SERVER_NONE },
		{ "SCRAM-SHA-1-PLUS\0", 18, AUTH_SERVER_MECHANISM },
		{ "scram-sha-256\0", 15, AUTH_SERVER_MECHANISM },
		{ "", 1, AUTH_SERVER_MECHANISM },
		{ "", 0, AUTH_SERVER_UNSUPPORTED },
		{ "SCRAM-SHA-256", 14, AUTH_SERVER_UNSUPPORTED },
		{ "SCRAM-SHA-256", 13, AUTH_SERVER_UNSUPPORTED },
		{ "SCRAM-SHA-256\0\0", 16, AUTH_SERVER_UNSUPPORTED },
		{ "\0SCRAM-SHA-256\0", 16, AUTH_SERVER_UNSUPPORTED },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(first_error("secret", NULL, 10, rows[i].p, rows[i].n), rows[i].error);
}

/* What we choose from an offer, and what we say about channel binding, by what we have. */
static void test_choice_of_a_mechanism(void **state)
{
	static const char both[] = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0";
	static const char turned[] = "SCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0";
	static const char plain[] = "SCRAM-SHA-256\0";
	static const char plus[] = "SCRAM-SHA-256-PLUS\0";
	static const struct {
		bool is_tls;
		const char *binding;
		bool ignores_stripped_tls;
		const char *offer;
		size_t offer_len;
		const char *begin; /* of client-first; NULL: refused */
		enum auth_server_error error;
	} rows[] = {
		{ true, "hash", false, both, sizeof(both), "p=tls-server-end-point,,", AUTH_SERVER_NONE },
		{ true, "hash", false, turned, sizeof(turned), "p=tls-server-end-point,,", AUTH_SERVER_NONE },
		{ true, "hash", false, plus, sizeof(plus), "p=tls-server-end-point,,", AUTH_SERVER_NONE },
		{ true, "hash", false, plain, sizeof(plain), "y,,", AUTH_SERVER_NONE },
		{ true, NULL, false, both, sizeof(both), "n,,", AUTH_SERVER_NONE },
		{ true, NULL, false, plain, sizeof(plain), "n,,", AUTH_SERVER_NONE },
		{ true, NULL, false, plus, sizeof(plus), NULL, AUTH_SERVER_MECHANISM },
		{ false, NULL, false, plain, sizeof(plain), "n,,", AUTH_SERVER_NONE },
		{ false, NULL, false, both, sizeof(both), NULL, AUTH_SERVER_UNSUPPORTED },
		{ false, NULL, false, plus, sizeof(plus), NULL, AUTH_SERVER_UNSUPPORTED },
		{ false, NULL, true, both, sizeof(both), "n,,", AUTH_SERVER_NONE },
		{ false, NULL, true, plus, sizeof(plus), NULL, AUTH_SERVER_MECHANISM },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct auth_server *as = login_by(rows[i].is_tls, rows[i].binding, rows[i].ignores_stripped_tls);
		struct auth_server_out out;

		if (step(as, 10, rows[i].offer, rows[i].offer_len, &out) != (rows[i].begin == NULL ? -E_AUTH : 0))
			fail_msg("row %zu", i);
		assert_int_equal(out.error, rows[i].error);
		if (rows[i].begin != NULL) {
			assert_memory_equal(out.data, rows[i].begin, strlen(rows[i].begin));
			assert_string_equal(out.mechanism,
					    rows[i].begin[0] == 'p' ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256");
		}
		auth_server_free(&as);
	}
}

static void test_malformed_and_unknown_requests(void **state)
{
	static const uint32_t unknown[] = { 1, 2, 4, 6, 7, 8, 9, 11, 12, 13, 0xffffffff };

	for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
		assert_int_equal(first_error("secret", NULL, unknown[i], "\1\2\3\4", 4), AUTH_SERVER_UNSUPPORTED);
	assert_int_equal(first_error("secret", NULL, 0, "x", 1), AUTH_SERVER_UNSUPPORTED);
	assert_int_equal(first_error("secret", NULL, 3, "x", 1), AUTH_SERVER_UNSUPPORTED);
	for (size_t n = 0; n < 9; n++)
		assert_int_equal(first_error("secret", NULL, 5, "12345678", n),
				 n == 4 ? AUTH_SERVER_NONE : AUTH_SERVER_UNSUPPORTED);
}

static void test_nothing_may_follow_a_password(void **state)
{
	static const uint32_t codes[] = { 3, 5, 10, 11, 12 };
	struct auth_server_out out;

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct auth_server *as = login("secret", NULL);

		assert_int_equal(step(as, 3, NULL, 0, &out), 0);
		assert_int_equal(step(as, codes[i], "1234", 4, &out), -E_AUTH);
		assert_int_equal(out.error, AUTH_SERVER_UNSUPPORTED);
		assert_string_equal(out.detail, "unexpected authentication request");
		auth_server_free(&as);
	}
}

/* A server of our own that talks SCRAM, and a login to it. */
struct pair {
	struct scram_server *server;
	struct auth_server *login;
};

static struct pair pair_start(const char *secret, const struct scram_keys *keys)
{
	struct scram_verifier *v = scram_verifier_parse(slice_of(SECRET_AS_SCRAM));
	struct pair p = { scram_server_new(v, NULL), login(secret, keys) };

	scram_verifier_free(&v);
	return p;
}

static void pair_end(struct pair *p)
{
	scram_server_free(&p->server);
	auth_server_free(&p->login);
}

/* Runs up to where the login waits for server-first; gives that message. */
static struct slice pair_to_challenge(struct pair *p)
{
	struct auth_server_out out;
	struct slice challenge;

	assert_int_equal(step(p->login, 10, MECHANISMS, sizeof(MECHANISMS), &out), 0);
	assert_int_equal(scram_server_first(p->server, false, slice_make(out.data, out.data_len), &challenge), 0);
	return challenge;
}

/* Runs up to where the login waits for server-final; gives that message. */
static struct slice pair_to_final(struct pair *p)
{
	struct slice challenge = pair_to_challenge(p);
	struct auth_server_out out;
	struct slice final;

	assert_int_equal(step(p->login, 11, challenge.p, challenge.n, &out), 0);
	assert_int_equal(out.send, AUTH_SEND_SASL);
	assert_int_equal(scram_server_final(p->server, slice_make(out.data, out.data_len), &final), 0);
	return final;
}

static void test_scram_with_password_and_with_keys(void **state)
{
	struct scram_keys keys;
	struct auth_server_out out;

	for (int i = 0; i < 3; i++) {
		static const char *const secrets[] = { "secret", SECRET_AS_SCRAM, NULL };
		struct pair p = pair_start(secrets[i], i == 0 ? NULL : &keys);
		struct slice final = pair_to_final(&p);

		assert_int_equal(step(p.login, 12, final.p, final.n, &out), 0);
		assert_int_equal(out.send, AUTH_SEND_NONE);
		assert_false(out.done);
		assert_int_equal(step(p.login, 0, NULL, 0, &out), 0);
		assert_true(out.done);
		keys = *scram_server_keys(p.server);
		pair_end(&p);
	}
}

static void test_server_must_sign(void **state)
{
	struct auth_server_out out;
	struct pair p = pair_start("secret", NULL);

	/* AuthenticationOk at once after client-first */
	pair_to_challenge(&p);
	assert_int_equal(step(p.login, 0, NULL, 0, &out), -E_AUTH);
	assert_int_equal(out.error, AUTH_SERVER_UNVERIFIED);
	pair_end(&p);

	/* after client-final */
	p = pair_start("secret", NULL);
	pair_to_final(&p);
	assert_int_equal(step(p.login, 0, NULL, 0, &out), -E_AUTH);
	assert_int_equal(out.error, AUTH_SERVER_UNVERIFIED);
	assert_false(out.done);
	pair_end(&p);

	/* with a signature of the right form */
	p = pair_start("secret", NULL);
	pair_to_final(&p);
	assert_int_equal(step(p.login, 12, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", 46, &out), -E_AUTH);
	assert_int_equal(out.error, AUTH_SERVER_SIGNATURE);
	pair_end(&p);

	/* with an error instead */
	p = pair_start("secret", NULL);
	pair_to_final(&p);
	assert_int_equal(step(p.login, 12, "e=other-error", 13, &out), -E_AUTH);
	assert_int_equal(out.error, AUTH_SERVER_UNVERIFIED);
	pair_end(&p);
}

static void test_scram_messages_in_wrong_order(void **state)
{
	static const uint32_t codes[] = { 3, 5, 10, 11, 12 };
	struct auth_server_out out;

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct pair p;

		if (codes[i] != 11) {
			p = pair_start("secret", NULL);
			pair_to_challenge(&p);
			assert_int_equal(step(p.login, codes[i], "1234", 4, &out), -E_AUTH);
			assert_int_equal(out.error, AUTH_SERVER_UNSUPPORTED);
			pair_end(&p);
		}
		if (codes[i] != 12) {
			p = pair_start("secret", NULL);
			pair_to_final(&p);
			assert_int_equal(step(p.login, codes[i], "1234", 4, &out), -E_AUTH);
			assert_int_equal(out.error, AUTH_SERVER_UNSUPPORTED);
			pair_end(&p);
		}
	}
}

static void test_messages_cut_at_each_byte(void **state)
{
	struct auth_server_out out;
	size_t whole = SIZE_MAX;

	for (size_t n = 0; n < whole; n++) {
		struct pair p = pair_start("secret", NULL);
		struct slice challenge = pair_to_challenge(&p);
		int rc = step(p.login, 11, challenge.p, n, &out);

		whole = challenge.n;
		/* "i=6" of "i=64" is whole again, and then the server would refuse the proof. */
		assert_int_equal(rc, n == whole - 1 ? 0 : -E_AUTH);
		pair_end(&p);
	}
	whole = SIZE_MAX;
	for (size_t n = 0; n < whole; n++) {
		struct pair p = pair_start("secret", NULL);
		struct slice final = pair_to_final(&p);

		whole = final.n;
		assert_int_equal(step(p.login, 12, final.p, n, &out), -E_AUTH);
		assert_int_equal(out.error, AUTH_SERVER_UNVERIFIED);
		pair_end(&p);
	}
}

static void test_huge_counts_are_refused(void **state)
{
	struct pair p = pair_start("secret", NULL);
	struct slice challenge = pair_to_challenge(&p);
	struct auth_server_out out;
	char text[256];

	str_format(text, sizeof(text), "%.*s000000", (int)challenge.n, challenge.p); /* 64 million */
	assert_int_equal(step(p.login, 11, text, strlen(text), &out), -E_AUTH);
	assert_int_equal(out.error, AUTH_SERVER_UNSUPPORTED);
	assert_string_equal(out.detail, "server asks for too many SCRAM iterations");
	pair_end(&p);
}

static void test_nonce_of_somebody_else(void **state)
{
	static const char text[] = "r=AAAAAAAAAAAAAAAAAAAAAAAAxyz,s=QQ==,i=1";
	struct pair p = pair_start("secret", NULL);
	struct auth_server_out out;

	pair_to_challenge(&p);
	assert_int_equal(step(p.login, 11, text, strlen(text), &out), -E_AUTH);
	assert_int_equal(out.error, AUTH_SERVER_UNSUPPORTED);
	pair_end(&p);
}

static void test_texts(void **state)
{
	assert_string_equal(auth_server_error_text(AUTH_SERVER_PASSWORD_TYPE),
			    "server login failed: wrong password type");
	assert_string_equal(auth_server_error_text(AUTH_SERVER_MECHANISM),
			    "server login failed: none of the server's SASL authentication mechanisms are supported");
	assert_string_equal(auth_server_error_text(AUTH_SERVER_UNVERIFIED),
			    "server login failed: failed to verify server signature");
	assert_string_equal(auth_server_error_text(AUTH_SERVER_SIGNATURE),
			    "server login failed: invalid server signature");
	assert_string_equal(auth_server_error_text(AUTH_SERVER_UNSUPPORTED), "failed to answer authreq");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_against_secrets),
		cmocka_unit_test(test_what_is_sent),
		cmocka_unit_test(test_mechanism_lists),
		cmocka_unit_test(test_choice_of_a_mechanism),
		cmocka_unit_test(test_malformed_and_unknown_requests),
		cmocka_unit_test(test_nothing_may_follow_a_password),
		cmocka_unit_test(test_scram_with_password_and_with_keys),
		cmocka_unit_test(test_server_must_sign),
		cmocka_unit_test(test_scram_messages_in_wrong_order),
		cmocka_unit_test(test_messages_cut_at_each_byte),
		cmocka_unit_test(test_huge_counts_are_refused),
		cmocka_unit_test(test_nonce_of_somebody_else),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
