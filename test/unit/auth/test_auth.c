#include "auth/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/crypto.h"
#include "auth/md5.h"
#include "core/alloc.h"

#define ITERATIONS 4

#define SECRET_AS_SCRAM                                                                           \
	"SCRAM-SHA-256$64:MDEyMzQ1Njc4OWFiY2RlZg==$3SwsfEy6PbbkBwf/U6s1vR97AnRZzZlyVVukqFOA5Zs=:" \
	"xLosJ5GvHxgfOBsyRLAzGYJv2UK94GwUAwn6ZEHJa/c="
#define SECRET_AS_MD5 "md54a0a68b43b6cd5cf266fa02f196e2371" /* of "secret" and "alice" */

/* The payload of the message that a client would send. */
struct payload {
	uint8_t *p;
	size_t n;
};

static struct payload payload_of(const struct auth_server_out *out)
{
	struct payload m = { NULL, out->data_len };
	size_t name = 0;

	if (out->send == AUTH_SEND_SASL_INITIAL) {
		name = strlen(out->mechanism) + 1;
		m.n += name + 4;
	}
	m.p = xmalloc(m.n);
	if (name > 0) {
		memcpy(m.p, out->mechanism, name);
		for (size_t i = 0; i < 4; i++)
			m.p[name + i] = (uint8_t)(out->data_len >> (24 - 8 * i));
		name += 4;
	}
	if (out->data_len > 0)
		memcpy(m.p + name, out->data, out->data_len);
	return m;
}

static enum auth_verdict step(struct auth *a, struct payload m, struct auth_out *out)
{
	enum auth_verdict verdict = auth_step(a, m.p, m.n, out);

	free(m.p);
	return verdict;
}

/* A client with a password (NULL: none known) that came by TLS when `binding` is not empty. */
static struct auth_server *new_client(const char *password, struct slice binding)
{
	struct secret secret;
	struct auth_server *client;
	struct auth_server_setup setup = {
		.user_name = "alice",
		.secret = &secret,
		.binding = binding,
		.is_tls = binding.n > 0,
	};

	secret_init(&secret, slice_of(password));
	client = auth_server_new(&setup);
	secret_fini(&secret);
	return client;
}

/*
 * Logs in as a driver would; auth_server is our client. Returns the verdict,
 * and in *out how it ended.
 */
static enum auth_verdict log_in_bound(struct auth *a, const char *password, struct slice binding, struct auth_out *out)
{
	struct auth_server *client = new_client(password, binding);
	struct auth_server_out to_send;
	enum auth_verdict verdict = auth_step(a, NULL, 0, out);

	while (verdict == AUTH_MORE) {
		assert_int_equal(auth_server_step(client, out->request, out->body, out->body_len, &to_send), 0);
		verdict = step(a, payload_of(&to_send), out);
	}
	if (verdict == AUTH_DONE) {
		if (out->request != AUTH_REQ_OK)
			assert_int_equal(auth_server_step(client, out->request, out->body, out->body_len, &to_send), 0);
		assert_int_equal(auth_server_step(client, AUTH_REQ_OK, NULL, 0, &to_send), 0);
		assert_true(to_send.done);
	}
	auth_server_free(&client);
	return verdict;
}

static enum auth_verdict log_in(struct auth *a, const char *password, struct auth_out *out)
{
	return log_in_bound(a, password, slice_make(NULL, 0), out);
}

/* A login of alice, by TLS when `binding` is not empty. */
static struct auth *new_auth_bound(enum auth_method method, const struct user *user, int iterations,
				   struct slice binding)
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

static struct auth *new_auth(enum auth_method method, const struct user *user, int iterations)
{
	return new_auth_bound(method, user, iterations, slice_make(NULL, 0));
}

/* As above for a user "alice" with this secret, or an unknown one for NULL. */
static enum auth_verdict log_in_as(enum auth_method method, const char *stored, const char *password,
				   enum auth_reason *reason, const char **detail)
{
	struct user *user = stored == NULL ? NULL : user_new("alice", slice_of(stored));
	struct auth *a = new_auth(method, user, ITERATIONS);
	struct auth_out out;
	enum auth_verdict verdict;

	user_free(&user); /* the exchange has copies */
	verdict = log_in(a, password, &out);
	*reason = out.reason;
	*detail = out.detail;
	auth_free(&a);
	assert_null(a);
	return verdict;
}

static void test_stored_against_method(void **state)
{
	static const char *const stored[] = { "secret", SECRET_AS_MD5, SECRET_AS_SCRAM, "", NULL };
	static const struct {
		enum auth_method method;
		bool good[5]; /* with the right password, per stored */
	} rows[] = {
		{ AUTH_METHOD_PLAIN, { true, true, true, false, false } },
		{ AUTH_METHOD_MD5, { true, true, true, false, false } },
		{ AUTH_METHOD_SCRAM, { true, false, true, false, false } },
		{ AUTH_METHOD_TRUST, { true, true, true, true, false } },
		{ AUTH_METHOD_ANY, { true, true, true, true, true } },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t j = 0; j < ARRAY_LEN(stored); j++) {
			bool asks = rows[i].method != AUTH_METHOD_TRUST && rows[i].method != AUTH_METHOD_ANY;
			enum auth_reason reason;
			const char *detail;
			enum auth_verdict verdict = log_in_as(rows[i].method, stored[j], "secret", &reason, &detail);

			if (verdict != (rows[i].good[j] ? AUTH_DONE : AUTH_FAIL))
				fail_msg("%s, secret %zu", auth_method_name(rows[i].method), j);
			verdict = log_in_as(rows[i].method, stored[j], "Secret", &reason, &detail);
			if (verdict != (rows[i].good[j] && !asks ? AUTH_DONE : AUTH_FAIL))
				fail_msg("%s, secret %zu, wrong password", auth_method_name(rows[i].method), j);
		}
	}
}

static void test_reasons_do_not_tell_why(void **state)
{
	static const char *const stored[] = { "secret", SECRET_AS_MD5, "", NULL };
	static const struct {
		enum auth_method method;
		enum auth_reason reason;
	} rows[] = {
		{ AUTH_METHOD_PLAIN, AUTH_REASON_PASSWORD },
		{ AUTH_METHOD_MD5, AUTH_REASON_PASSWORD },
		{ AUTH_METHOD_SCRAM, AUTH_REASON_SASL },
	};
	enum auth_reason reason;
	const char *detail;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t j = 0; j < ARRAY_LEN(stored); j++) {
			assert_int_equal(log_in_as(rows[i].method, stored[j], "x", &reason, &detail), AUTH_FAIL);
			assert_int_equal(reason, rows[i].reason);
			assert_string_not_equal(detail, "");
		}
	}
	log_in_as(AUTH_METHOD_SCRAM, SECRET_AS_MD5, "secret", &reason, &detail);
	assert_string_equal(detail, "SCRAM authentication failed: user has MD5 secret");
	log_in_as(AUTH_METHOD_MD5, SECRET_AS_SCRAM, "x", &reason, &detail);
	assert_int_equal(reason, AUTH_REASON_SASL);
	log_in_as(AUTH_METHOD_TRUST, NULL, "x", &reason, &detail);
	assert_int_equal(reason, AUTH_REASON_TRUST);
}

/* ldap and pam ask for the password and leave the question to the caller, whether the name is known or not. */
/* No message that may be right is longer than what is gathered, and one that was not gathered fails alike. */
static void test_longest_payloads(void **state)
{
	static const struct {
		enum auth_method method;
		size_t max;
		enum auth_reason reason;
	} rows[] = {
		{ AUTH_METHOD_PLAIN, AUTH_PAYLOAD_MAX, AUTH_REASON_PASSWORD },
		{ AUTH_METHOD_LDAP, AUTH_PAYLOAD_MAX, AUTH_REASON_PASSWORD },
		{ AUTH_METHOD_MD5, MD5_SECRET_LEN + 1, AUTH_REASON_PASSWORD },
		{ AUTH_METHOD_SCRAM, sizeof(SCRAM_MECHANISM_PLUS) + 4 + SCRAM_MESSAGE_MAX, AUTH_REASON_SASL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct user *user = user_new("alice", slice_of("secret"));
		struct auth *a = new_auth(rows[i].method, user, ITERATIONS);
		struct auth_out out;

		assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
		assert_int_equal(auth_payload_max(a), rows[i].max);
		assert_int_equal(auth_step(a, (const uint8_t *)"", 0, &out), AUTH_FAIL);
		assert_int_equal(out.reason, rows[i].reason);
		auth_free(&a);
		user_free(&user);
	}
}

static void test_jobs(void **state)
{
	static const struct {
		enum auth_method method;
		enum auth_reason reason;
		const char *text;
	} rows[] = {
		{ AUTH_METHOD_LDAP, AUTH_REASON_LDAP, "LDAP authentication failed" },
		{ AUTH_METHOD_PAM, AUTH_REASON_PAM, "PAM authentication failed" },
	};
	struct user *user = user_new("alice", slice_of("another one"));
	struct auth_out out;

	for (size_t i = 0; i < 4 * ARRAY_LEN(rows); i++) {
		enum auth_method method = rows[i / 4].method;
		struct auth *a = new_auth(method, i % 2 == 0 ? NULL : user, ITERATIONS);
		bool is_right = i % 4 < 2;

		assert_int_equal(auth_method_of(a), method);
		assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
		assert_int_equal(out.request, 3);
		assert_int_equal(auth_step(a, (const uint8_t *)"secret", 7, &out), AUTH_JOB);
		assert_int_equal(out.request, 0);
		assert_string_equal(auth_plain_password(a), "secret");
		assert_int_equal(auth_answer(a, is_right, "the reason", &out), is_right ? AUTH_DONE : AUTH_FAIL);
		if (is_right) {
			assert_string_equal(auth_plain_password(a), "secret");
			assert_null(auth_scram_keys(a));
		} else {
			assert_null(auth_plain_password(a));
			assert_int_equal(out.reason, rows[i / 4].reason);
			assert_string_equal(auth_reason_text(out.reason), rows[i / 4].text);
			assert_string_equal(out.detail, "the reason");
		}
		auth_free(&a);
	}
	user_free(&user);
}

/* Nobody is asked about a password that is none. */
static void test_jobs_are_for_passwords(void **state)
{
	static const struct {
		const char *payload;
		size_t n;
		enum auth_reason reason;
	} rows[] = {
		{ "", 1, AUTH_REASON_EMPTY },
		{ "", 0, AUTH_REASON_PASSWORD },
		{ "x", 1, AUTH_REASON_PASSWORD },
		{ "a\0b", 4, AUTH_REASON_PASSWORD },
	};
	struct auth_out out;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct auth *a = new_auth(i % 2 == 0 ? AUTH_METHOD_LDAP : AUTH_METHOD_PAM, NULL, ITERATIONS);

		assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
		assert_int_equal(auth_step(a, (const uint8_t *)rows[i].payload, rows[i].n, &out), AUTH_FAIL);
		assert_int_equal(out.reason, rows[i].reason);
		assert_null(auth_plain_password(a));
		auth_free(&a);
	}
}

static void test_no_password_is_not_an_empty_one(void **state)
{
	static const enum auth_method methods[] = { AUTH_METHOD_PLAIN, AUTH_METHOD_MD5, AUTH_METHOD_SCRAM };
	enum auth_reason reason;
	const char *detail;

	/* The answer of md5 and SCRAM to a challenge is not empty when the password is. */
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		assert_int_equal(log_in_as(methods[i], "", "", &reason, &detail), AUTH_FAIL);
		assert_int_equal(log_in_as(methods[i], NULL, "", &reason, &detail), AUTH_FAIL);
	}
}

static void test_texts(void **state)
{
	assert_string_equal(auth_reason_text(AUTH_REASON_PASSWORD), "password authentication failed");
	assert_string_equal(auth_reason_text(AUTH_REASON_SASL), "SASL authentication failed");
	assert_string_equal(auth_reason_text(AUTH_REASON_TRUST), "\"trust\" authentication failed");
	assert_string_equal(auth_reason_text(AUTH_REASON_EMPTY), "empty password returned by client");
	assert_string_equal(auth_reason_text(AUTH_REASON_MECHANISM),
			    "client selected an invalid SASL authentication mechanism");
	for (int i = 0; i < AUTH_REASON_COUNT; i++)
		assert_int_equal(strlen(auth_reason_sqlstate((enum auth_reason)i)), 5);
	assert_string_equal(auth_reason_sqlstate(AUTH_REASON_PASSWORD), "28P01");
	assert_string_equal(auth_reason_sqlstate(AUTH_REASON_TRUST), "28000");
}

static void test_method_names(void **state)
{
	static const char *const names[] = { "any",  "trust", "plain",  "md5",  "scram-sha-256",
					     "cert", "peer",  "reject", "ldap", "pam" };
	enum auth_method method;

	assert_int_equal(ARRAY_LEN(names), AUTH_METHOD_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(auth_method_parse(names[i], &method), 0);
		assert_string_equal(auth_method_name(method), names[i]);
	}
	assert_int_equal(auth_method_parse("", &method), -E_NOENT);
	assert_int_equal(auth_method_parse("MD5", &method), -E_NOENT);
	assert_int_equal(auth_method_parse("scram", &method), -E_NOENT);
}

/* One login by a method that asks the client nothing. */
static void check_settled(enum auth_method method, const char *denied, bool is_known, enum auth_verdict verdict,
			  enum auth_reason reason, const char *detail)
{
	struct user *user = user_new("joe", slice_of(""));
	struct auth_setup setup = {
		.method = method,
		.user_name = "joe",
		.user = is_known ? user : NULL,
		.recipe.iterations = 1,
		.denied = denied,
	};
	struct auth *a = auth_new(&setup);
	struct auth_out out;

	assert_int_equal(auth_step(a, NULL, 0, &out), verdict);
	assert_int_equal(out.request, AUTH_REQ_OK);
	assert_int_equal(out.reason, reason);
	assert_string_equal(out.detail, detail);
	auth_free(&a);
	user_free(&user);
}

static void test_methods_that_others_settle(void **state)
{
	check_settled(AUTH_METHOD_CERT, NULL, true, AUTH_DONE, AUTH_REASON_NONE, "");
	check_settled(AUTH_METHOD_CERT, "not he", true, AUTH_FAIL, AUTH_REASON_CERT, "not he");
	check_settled(AUTH_METHOD_CERT, NULL, false, AUTH_FAIL, AUTH_REASON_CERT, "user is not known");
	check_settled(AUTH_METHOD_CERT, "not he", false, AUTH_FAIL, AUTH_REASON_CERT, "not he");
	check_settled(AUTH_METHOD_PEER, NULL, true, AUTH_DONE, AUTH_REASON_NONE, "");
	check_settled(AUTH_METHOD_PEER, "not he", true, AUTH_FAIL, AUTH_REASON_PEER, "not he");
	check_settled(AUTH_METHOD_PEER, NULL, false, AUTH_FAIL, AUTH_REASON_PEER, "user is not known");
	check_settled(AUTH_METHOD_REJECT, NULL, true, AUTH_FAIL, AUTH_REASON_REJECT, "");
}

static void test_requests(void **state)
{
	struct user *user = user_new("alice", slice_of("secret"));
	struct auth *a = new_auth(AUTH_METHOD_PLAIN, user, ITERATIONS);
	struct auth_out out;
	uint8_t salt[4];

	assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
	assert_int_equal(out.request, 3);
	assert_int_equal(out.body_len, 0);
	auth_free(&a);

	a = new_auth(AUTH_METHOD_MD5, user, ITERATIONS);
	assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
	assert_int_equal(out.request, 5);
	assert_int_equal(out.body_len, 4);
	memcpy(salt, out.body, 4);
	auth_free(&a);
	a = new_auth(AUTH_METHOD_MD5, NULL, ITERATIONS);
	assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
	assert_int_equal(out.request, 5);
	assert_memory_not_equal(salt, out.body, 4);
	auth_free(&a);

	a = new_auth(AUTH_METHOD_SCRAM, user, ITERATIONS);
	assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
	assert_int_equal(out.request, 10);
	assert_int_equal(out.body_len, 15);
	assert_memory_equal(out.body, "SCRAM-SHA-256\0", 15);
	auth_free(&a);
	user_free(&user);
}

static void test_empty_password(void **state)
{
	static const enum auth_method methods[] = { AUTH_METHOD_PLAIN, AUTH_METHOD_MD5 };
	static const char *const stored[] = { "secret", SECRET_AS_MD5, "", NULL };
	struct auth_out out;

	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		for (size_t j = 0; j < ARRAY_LEN(stored); j++) {
			struct user *user = stored[j] == NULL ? NULL : user_new("alice", slice_of(stored[j]));
			struct auth *a = new_auth(methods[i], user, ITERATIONS);

			assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
			assert_int_equal(auth_step(a, (const uint8_t *)"", 1, &out), AUTH_FAIL);
			assert_int_equal(out.reason, AUTH_REASON_EMPTY);
			auth_free(&a);
			user_free(&user);
		}
	}
}

static enum auth_reason answer_password(enum auth_method method, const struct user *user, const void *payload, size_t n)
{
	struct auth *a = new_auth(method, user, ITERATIONS);
	uint8_t *copy = xmalloc(n);
	struct auth_out out;
	enum auth_verdict verdict;

	if (n > 0)
		memcpy(copy, payload, n);
	assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
	verdict = auth_step(a, copy, n, &out);
	assert_true(verdict == AUTH_DONE || verdict == AUTH_FAIL);
	assert_int_equal(verdict == AUTH_DONE, out.reason == AUTH_REASON_NONE);
	free(copy);
	auth_free(&a);
	return out.reason;
}

static void test_malformed_passwords(void **state)
{
	static const enum auth_method methods[] = { AUTH_METHOD_PLAIN, AUTH_METHOD_MD5 };
	struct user *user = user_new("alice", slice_of("secret"));

	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		assert_int_equal(answer_password(methods[i], user, "", 0), AUTH_REASON_PASSWORD);
		assert_int_equal(answer_password(methods[i], user, "secret", 6), AUTH_REASON_PASSWORD);
		assert_int_equal(answer_password(methods[i], user, "secret\0", 8), AUTH_REASON_PASSWORD);
		assert_int_equal(answer_password(methods[i], user, "\0secret", 8), AUTH_REASON_PASSWORD);
	}
	for (size_t n = 2; n < 7; n++)
		assert_int_equal(answer_password(AUTH_METHOD_PLAIN, user, "secret", n), AUTH_REASON_PASSWORD);
	assert_int_equal(answer_password(AUTH_METHOD_PLAIN, user, "secret", 7), AUTH_REASON_NONE);
	assert_int_equal(answer_password(AUTH_METHOD_PLAIN, user, "secretx", 8), AUTH_REASON_PASSWORD);
	user_free(&user);
}

static void test_longest_password(void **state)
{
	char *longest = xcalloc(SECRET_MAX + 3, 1);
	struct user *user;
	enum auth_reason reason;
	const char *detail;

	memset(longest, 'x', SECRET_MAX);
	user = user_new("alice", slice_of(longest));
	assert_int_equal(answer_password(AUTH_METHOD_PLAIN, user, longest, SECRET_MAX + 1), AUTH_REASON_NONE);
	longest[SECRET_MAX - 1] = 'y';
	assert_int_equal(answer_password(AUTH_METHOD_PLAIN, user, longest, SECRET_MAX + 1), AUTH_REASON_PASSWORD);
	longest[SECRET_MAX] = 'x';
	assert_int_equal(answer_password(AUTH_METHOD_PLAIN, user, longest, SECRET_MAX + 2), AUTH_REASON_PASSWORD);
	user_free(&user);

	longest[SECRET_MAX] = '\0';
	assert_int_equal(log_in_as(AUTH_METHOD_SCRAM, longest, longest, &reason, &detail), AUTH_DONE);
	assert_int_equal(log_in_as(AUTH_METHOD_MD5, longest, longest, &reason, &detail), AUTH_DONE);
	assert_int_equal(log_in_as(AUTH_METHOD_PLAIN, longest, longest, &reason, &detail), AUTH_DONE);
	free(longest);
}

static void test_md5_hash_is_no_password(void **state)
{
	struct user *user = user_new("alice", slice_of(SECRET_AS_MD5));

	assert_int_equal(answer_password(AUTH_METHOD_PLAIN, user, SECRET_AS_MD5, 36), AUTH_REASON_PASSWORD);
	assert_int_equal(answer_password(AUTH_METHOD_MD5, user, SECRET_AS_MD5, 36), AUTH_REASON_PASSWORD);
	user_free(&user);
	user = user_new("alice", slice_of(SECRET_AS_SCRAM));
	assert_int_equal(answer_password(AUTH_METHOD_PLAIN, user, SECRET_AS_SCRAM, sizeof(SECRET_AS_SCRAM)),
			 AUTH_REASON_PASSWORD);
	user_free(&user);
}

/* One SASLInitialResponse against a fresh login; AUTH_MORE becomes AUTH_REASON_NONE. */
static enum auth_reason answer_sasl_bound(const char *stored, struct slice binding, const void *payload, size_t n)
{
	struct user *user = stored == NULL ? NULL : user_new("alice", slice_of(stored));
	struct auth *a = new_auth_bound(AUTH_METHOD_SCRAM, user, ITERATIONS, binding);
	uint8_t *copy = xmalloc(n);
	struct auth_out out;
	enum auth_verdict verdict;

	if (n > 0)
		memcpy(copy, payload, n);
	assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
	verdict = auth_step(a, copy, n, &out);
	assert_true(verdict == AUTH_MORE || verdict == AUTH_FAIL);
	assert_int_equal(verdict == AUTH_MORE, out.reason == AUTH_REASON_NONE);
	free(copy);
	auth_free(&a);
	user_free(&user);
	return out.reason;
}

static enum auth_reason answer_sasl(const char *stored, const void *payload, size_t n)
{
	return answer_sasl_bound(stored, slice_make(NULL, 0), payload, n);
}

static void test_sasl_initial_forms(void **state)
{
	static const char good[] = "SCRAM-SHA-256\0\0\0\0\013n,,n=,r=abc";
	static const struct {
		const char *p;
		size_t n;
		enum auth_reason reason;
	} rows[] = {
		{ good, sizeof(good) - 1, AUTH_REASON_NONE },
		{ good, sizeof(good), AUTH_REASON_SASL },
		{ "SCRAM-SHA-256\0\0\0\0\012n,,n=,r=abc", 29, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256\0\0\0\0\014n,,n=,r=abc", 29, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256\0\177\377\377\377n,,n=,r=abc", 29, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256\0\377\377\377\377n,,n=,r=abc", 29, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256\0\377\377\377\377", 18, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256\0\0\0\0\0", 18, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256\0\0\0\0\013p=x,n=,r=ab", 29, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256-PLUS\0\0\0\0\013n,,n=,r=abc", 34, AUTH_REASON_MECHANISM },
		{ "scram-sha-256\0\0\0\0\013n,,n=,r=abc", 29, AUTH_REASON_MECHANISM },
		{ "\0\0\0\0\013n,,n=,r=abc", 16, AUTH_REASON_MECHANISM },
		{ "", 1, AUTH_REASON_MECHANISM },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(answer_sasl("secret", rows[i].p, rows[i].n), rows[i].reason);
		assert_int_equal(answer_sasl(NULL, rows[i].p, rows[i].n), rows[i].reason);
	}
	for (size_t n = 0; n < sizeof(good) - 1; n++)
		assert_int_equal(answer_sasl("secret", good, n), AUTH_REASON_SASL);
}

static void test_sasl_initial_forms_with_tls(void **state)
{
	static const struct {
		const char *p;
		size_t n;
		enum auth_reason reason;
	} rows[] = {
		{ "SCRAM-SHA-256\0\0\0\0\013n,,n=,r=abc", 29, AUTH_REASON_NONE },
		{ "SCRAM-SHA-256\0\0\0\0\013y,,n=,r=abc", 29, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256-PLUS\0\0\0\0\040p=tls-server-end-point,,n=,r=abc", 55, AUTH_REASON_NONE },
		{ "SCRAM-SHA-256\0\0\0\0\040p=tls-server-end-point,,n=,r=abc", 50, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256-PLUS\0\0\0\0\013n,,n=,r=abc", 34, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256-PLUS\0\0\0\0\013y,,n=,r=abc", 34, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256-PLUS\0\0\0\0\0", 23, AUTH_REASON_SASL },
		{ "SCRAM-SHA-256-PLUS\0", 19, AUTH_REASON_SASL },
		{ "SCRAM-SHA-1-PLUS\0\0\0\0\013n,,n=,r=abc", 32, AUTH_REASON_MECHANISM },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		static const char *const stored[] = { "secret", SECRET_AS_SCRAM, "", NULL };

		for (size_t j = 0; j < ARRAY_LEN(stored); j++)
			assert_int_equal(answer_sasl_bound(stored[j], slice_of("hash"), rows[i].p, rows[i].n),
					 rows[i].reason);
	}
}

static void test_mechanisms_offered_with_tls(void **state)
{
	struct auth *a = new_auth_bound(AUTH_METHOD_SCRAM, NULL, ITERATIONS, slice_of("hash"));
	struct auth_out out;

	assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
	assert_int_equal(out.request, 10);
	assert_int_equal(out.body_len, 34);
	assert_memory_equal(out.body, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0", 34);
	auth_free(&a);
}

static void test_binding_of_both_sides(void **state)
{
	static const struct {
		const char *ours; /* NULL: no TLS, or a certificate without a hash */
		const char *theirs;
		enum auth_verdict verdict;
		const char *detail; /* in the log */
	} rows[] = {
		{ "hash", "hash", AUTH_DONE, "" },
		{ "hash", "Hash", AUTH_FAIL, "channel binding does not match" },
		{ NULL, "hash", AUTH_DONE, "" }, /* they say that they could, and nobody contradicts */
	};
	struct user *user = user_new("alice", slice_of(SECRET_AS_SCRAM));

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		/* md5 becomes SCRAM for this user, with everything that belongs to it */
		static const enum auth_method methods[] = { AUTH_METHOD_SCRAM, AUTH_METHOD_MD5 };

		for (size_t j = 0; j < ARRAY_LEN(methods); j++) {
			struct auth *a = new_auth_bound(methods[j], user, ITERATIONS, slice_of(rows[i].ours));
			struct auth_out out;

			assert_int_equal(log_in_bound(a, "secret", slice_of(rows[i].theirs), &out), rows[i].verdict);
			assert_string_equal(out.detail, rows[i].detail);
			assert_int_equal(out.reason,
					 rows[i].verdict == AUTH_DONE ? AUTH_REASON_NONE : AUTH_REASON_SASL);
			auth_free(&a);
		}
	}
	user_free(&user);
}

/* A full exchange whose last answer is cut to n bytes; the length of the whole answer is returned. */
static size_t cut_final(size_t n, enum auth_verdict expected)
{
	struct user *user = user_new("alice", slice_of(SECRET_AS_SCRAM));
	struct auth *a = new_auth(AUTH_METHOD_SCRAM, user, ITERATIONS);
	struct auth_server *client = new_client("secret", slice_make(NULL, 0));
	struct auth_server_out to_send;
	struct auth_out out;
	struct payload m;
	size_t whole;

	assert_int_equal(auth_step(a, NULL, 0, &out), AUTH_MORE);
	assert_int_equal(auth_server_step(client, out.request, out.body, out.body_len, &to_send), 0);
	assert_int_equal(step(a, payload_of(&to_send), &out), AUTH_MORE);
	assert_int_equal(auth_server_step(client, out.request, out.body, out.body_len, &to_send), 0);
	m = payload_of(&to_send);
	whole = m.n;
	m.n = n < whole ? n : whole;
	m.p = xrealloc(m.p, m.n);
	assert_int_equal(step(a, m, &out), expected);
	assert_int_equal(out.reason, expected == AUTH_FAIL ? AUTH_REASON_SASL : AUTH_REASON_NONE);
	assert_int_equal(auth_scram_keys(a) != NULL, expected == AUTH_DONE);
	auth_server_free(&client);
	auth_free(&a);
	user_free(&user);
	return whole;
}

static void test_sasl_response_cut_at_each_byte(void **state)
{
	size_t whole = cut_final(SIZE_MAX, AUTH_DONE);

	for (size_t n = 0; n < whole; n++)
		assert_int_equal(cut_final(n, AUTH_FAIL), whole);
}

static void test_keys_and_passwords_for_servers(void **state)
{
	static const struct {
		enum auth_method method;
		const char *stored;
		bool keys;
		bool password;
	} rows[] = {
		{ AUTH_METHOD_SCRAM, SECRET_AS_SCRAM, true, false },
		{ AUTH_METHOD_MD5, SECRET_AS_SCRAM, true, false },
		{ AUTH_METHOD_SCRAM, "secret", false, false },
		{ AUTH_METHOD_MD5, "secret", false, false },
		{ AUTH_METHOD_MD5, SECRET_AS_MD5, false, false },
		{ AUTH_METHOD_PLAIN, SECRET_AS_SCRAM, false, true },
		{ AUTH_METHOD_PLAIN, SECRET_AS_MD5, false, true },
		{ AUTH_METHOD_TRUST, SECRET_AS_SCRAM, false, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct user *user = user_new("alice", slice_of(rows[i].stored));
		struct auth *a = new_auth(rows[i].method, user, ITERATIONS);
		struct auth_out out;

		assert_int_equal(log_in(a, "secret", &out), AUTH_DONE);
		assert_int_equal(auth_scram_keys(a) != NULL, rows[i].keys);
		assert_int_equal(auth_plain_password(a) != NULL, rows[i].password);
		if (rows[i].password)
			assert_string_equal(auth_plain_password(a), "secret");
		auth_free(&a);
		user_free(&user);
	}
}

static void test_no_password_after_a_failure(void **state)
{
	struct auth *a = new_auth(AUTH_METHOD_PLAIN, NULL, ITERATIONS);
	struct auth_out out;

	assert_int_equal(log_in(a, "secret", &out), AUTH_FAIL);
	assert_null(auth_plain_password(a));
	assert_null(auth_scram_keys(a));
	auth_free(&a);
	auth_free(&a);
}

static void test_plaintext_user_is_derived_once(void **state)
{
	struct user *user = user_new("alice", slice_of("secret"));
	const struct scram_recipe other = { .iterations = 1 };
	const struct scram_verifier *v = NULL;
	struct auth_out out;
	bool is_derived;

	for (int i = 0; i < 3; i++) {
		struct auth *a = new_auth(AUTH_METHOD_SCRAM, user, ITERATIONS + i);

		assert_int_equal(log_in(a, "secret", &out), AUTH_DONE);
		auth_free(&a);
		if (v == NULL)
			v = user_verifier(user, &other, &is_derived);
		assert_ptr_equal(user_verifier(user, &other, &is_derived), v);
		assert_int_equal(v->iterations, ITERATIONS);
	}
	user_free(&user);
}

/* Derivations on our side of a login with a wrong password; what the client derives is the last argument. */
static unsigned count_derivations(enum auth_method method, const struct user *user, bool is_costly, unsigned client)
{
	struct auth_setup setup = {
		.method = method,
		.user_name = "alice",
		.user = user,
		.recipe.iterations = ITERATIONS,
		.is_costly = is_costly,
	};
	uint64_t before = crypto_count_pbkdf2();
	struct auth *a = auth_new(&setup);
	struct auth_out out;

	assert_int_equal(log_in(a, "wrong", &out), AUTH_FAIL);
	auth_free(&a);
	return (unsigned)(crypto_count_pbkdf2() - before) - client;
}

/*
 * Whoever fails to log in has cost the same, whether the name is known or not,
 * whatever the secret is, and whether its verifier is there already.
 */
static void test_failures_cost_the_same(void **state)
{
	static const char *const secrets[] = { NULL, "", "secret", SECRET_AS_SCRAM, SECRET_AS_MD5 };
	static const struct {
		enum auth_method method;
		bool is_costly;
		unsigned client; /* derivations on its side */
		unsigned ours;
	} rows[] = {
		{ AUTH_METHOD_SCRAM, true, 1, 1 },
		{ AUTH_METHOD_SCRAM, false, 1, 0 },
		{ AUTH_METHOD_PLAIN, false, 0, 1 },
	};
	bool is_derived;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t j = 0; j < ARRAY_LEN(secrets); j++) {
			struct user *user = secrets[j] == NULL ? NULL : user_new("alice", slice_of(secrets[j]));
			const struct scram_recipe recipe = { .iterations = ITERATIONS };

			/* Where logins are cheap, what they need was derived ahead. */
			if (user != NULL && !rows[i].is_costly)
				(void)user_verifier(user, &recipe, &is_derived);
			for (int again = 0; again < 2; again++)
				assert_int_equal(
					count_derivations(rows[i].method, user, rows[i].is_costly, rows[i].client),
					rows[i].ours);
			user_free(&user);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stored_against_method),
		cmocka_unit_test(test_reasons_do_not_tell_why),
		cmocka_unit_test(test_failures_cost_the_same),
		cmocka_unit_test(test_longest_payloads),
		cmocka_unit_test(test_jobs),
		cmocka_unit_test(test_jobs_are_for_passwords),
		cmocka_unit_test(test_no_password_is_not_an_empty_one),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_method_names),
		cmocka_unit_test(test_methods_that_others_settle),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_empty_password),
		cmocka_unit_test(test_malformed_passwords),
		cmocka_unit_test(test_longest_password),
		cmocka_unit_test(test_md5_hash_is_no_password),
		cmocka_unit_test(test_sasl_initial_forms),
		cmocka_unit_test(test_sasl_initial_forms_with_tls),
		cmocka_unit_test(test_mechanisms_offered_with_tls),
		cmocka_unit_test(test_binding_of_both_sides),
		cmocka_unit_test(test_sasl_response_cut_at_each_byte),
		cmocka_unit_test(test_keys_and_passwords_for_servers),
		cmocka_unit_test(test_no_password_after_a_failure),
		cmocka_unit_test(test_plaintext_user_is_derived_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
