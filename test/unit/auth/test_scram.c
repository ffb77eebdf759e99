#include "auth/scram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/users.h"
#include "core/alloc.h"

/* The example of RFC 7677. */
#define RFC_CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define RFC_SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_NONCE        RFC_CLIENT_NONCE RFC_SERVER_NONCE
#define RFC_CLIENT_FIRST "n,,n=user,r=" RFC_CLIENT_NONCE
#define RFC_SERVER_FIRST "r=" RFC_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define RFC_CLIENT_FINAL "c=biws,r=" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
#define RFC_VERIFIER                                                                                \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

#define PROOF "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

static const struct slice no_password = { NULL, 0 };
static const struct scram_recipe recipe = { .salt_key = "key of one configuration", .iterations = 5 };

static void check_slice(struct slice s, const char *expected)
{
	assert_int_equal(s.n, strlen(expected));
	assert_memory_equal(s.p, expected, s.n);
}

static struct scram_server *rfc_server(void)
{
	struct scram_verifier *v = scram_verifier_parse(slice_of(RFC_VERIFIER));
	struct scram_server *s = scram_server_new(v, RFC_SERVER_NONCE);

	assert_non_null(s);
	scram_verifier_free(&v);
	return s;
}

/* The answers to messages in fresh memory of exactly their length. */
static int server_first(const char *text, size_t n)
{
	struct scram_server *s = rfc_server();
	char *copy = xmalloc(n);
	struct slice out;
	int rc;

	memcpy(copy, text, n);
	rc = scram_server_first(s, false, slice_make(copy, n), &out);
	free(copy);
	scram_server_free(&s);
	return rc;
}

static int server_final(const char *first, const char *text, size_t n)
{
	struct scram_server *s = rfc_server();
	char *copy = xmalloc(n);
	struct slice out;
	int rc;

	assert_int_equal(scram_server_first(s, false, slice_of(first), &out), 0);
	memcpy(copy, text, n);
	rc = scram_server_final(s, slice_make(copy, n), &out);
	assert_int_equal(rc == 0, scram_server_keys(s) != NULL);
	free(copy);
	scram_server_free(&s);
	return rc;
}

static struct scram_client *rfc_client(void)
{
	struct scram_client *c = scram_client_new("user", slice_of("pencil"), NULL, RFC_CLIENT_NONCE);

	assert_non_null(c);
	return c;
}

static int client_final(const char *text, size_t n)
{
	struct scram_client *c = rfc_client();
	char *copy = xmalloc(n);
	struct slice out;
	int rc;

	scram_client_first(c, &out);
	memcpy(copy, text, n);
	rc = scram_client_final(c, slice_make(copy, n), &out);
	free(copy);
	scram_client_free(&c);
	return rc;
}

static int client_verify(const char *text, size_t n)
{
	static struct scram_keys keys; /* saves the derivation; the signature is another one then */
	struct scram_client *c = scram_client_new("user", no_password, &keys, RFC_CLIENT_NONCE);
	char *copy = xmalloc(n);
	struct slice out;
	int rc;

	scram_client_first(c, &out);
	assert_int_equal(scram_client_final(c, slice_of(RFC_SERVER_FIRST), &out), 0);
	memcpy(copy, text, n);
	rc = scram_client_verify(c, slice_make(copy, n));
	free(copy);
	scram_client_free(&c);
	return rc;
}

static void test_rfc_server(void **state)
{
	struct scram_server *s = rfc_server();
	struct slice out;

	assert_int_equal(scram_server_first(s, false, slice_of(RFC_CLIENT_FIRST), &out), 0);
	check_slice(out, RFC_SERVER_FIRST);
	assert_null(scram_server_keys(s));
	assert_int_equal(scram_server_final(s, slice_of(RFC_CLIENT_FINAL), &out), 0);
	check_slice(out, RFC_SERVER_FINAL);
	assert_non_null(scram_server_keys(s));
	scram_server_free(&s);
	assert_null(s);
}

static void test_rfc_client(void **state)
{
	struct scram_client *c = rfc_client();
	struct slice out;

	scram_client_first(c, &out);
	check_slice(out, RFC_CLIENT_FIRST);
	assert_int_equal(scram_client_final(c, slice_of(RFC_SERVER_FIRST), &out), 0);
	check_slice(out, RFC_CLIENT_FINAL);
	assert_int_equal(scram_client_verify(c, slice_of(RFC_SERVER_FINAL)), 0);
	scram_client_free(&c);
	assert_null(c);
}

static void test_keys_recovered_by_a_server_log_in(void **state)
{
	struct scram_server *s = rfc_server();
	struct scram_keys keys;
	struct scram_client *c;
	struct slice out;

	assert_int_equal(scram_server_first(s, false, slice_of(RFC_CLIENT_FIRST), &out), 0);
	assert_int_equal(scram_server_final(s, slice_of(RFC_CLIENT_FINAL), &out), 0);
	keys = *scram_server_keys(s);
	scram_server_free(&s);

	c = scram_client_new("user", no_password, &keys, RFC_CLIENT_NONCE);
	scram_client_first(c, &out);
	assert_int_equal(scram_client_final(c, slice_of(RFC_SERVER_FIRST), &out), 0);
	check_slice(out, RFC_CLIENT_FINAL);
	assert_int_equal(scram_client_verify(c, slice_of(RFC_SERVER_FINAL)), 0);
	scram_client_free(&c);
}

/* Both sides of a login; the result of the server, and of the client in *verified. */
static int talk(struct scram_server *s, struct scram_client *c, int *verified)
{
	struct slice to_server;
	struct slice to_client;
	int rc;

	scram_client_first(c, &to_server);
	assert_int_equal(scram_server_first(s, false, to_server, &to_client), 0);
	assert_int_equal(scram_client_final(c, to_client, &to_server), 0);
	rc = scram_server_final(s, to_server, &to_client);
	*verified = rc == 0 ? scram_client_verify(c, to_client) : -1;
	return rc;
}

static void test_sides_talk(void **state)
{
	char *longest = xcalloc(65531, 1);
	const char *const passwords[] = { "secret",   "",     "with, comma = and ' \"", "\xc3\xa4\xe2\x82\xac",
					  "\xff\xfe", longest };

	memset(longest, 'x', 65530);
	for (size_t i = 0; i < ARRAY_LEN(passwords); i++) {
		for (size_t j = 0; j < ARRAY_LEN(passwords); j++) {
			struct scram_verifier *v;
			struct scram_server *s;
			struct scram_client *c = scram_client_new("", slice_of(passwords[j]), NULL, NULL);
			int verified;

			assert_int_equal(scram_verifier_derive(slice_of(passwords[i]), NULL, 0, 3, &v), 0);
			s = scram_server_new(v, NULL);
			assert_int_equal(talk(s, c, &verified), i == j ? 0 : -E_AUTH);
			assert_int_equal(scram_verifier_matches(v, slice_of(passwords[j])), i == j);
			if (i == j)
				assert_int_equal(verified, 0);
			scram_verifier_free(&v);
			scram_server_free(&s);
			scram_client_free(&c);
		}
	}
	free(longest);
}

static void test_salts_of_other_lengths(void **state)
{
	static const uint8_t salt[SCRAM_SALT_MAX] = { 1, 2, 3 };
	static const size_t lengths[] = { 1, 2, 12, 17, SCRAM_SALT_MAX };

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct scram_client *c = scram_client_new("", slice_of("p"), NULL, NULL);
		struct scram_verifier *v;
		struct scram_server *s;
		int verified;

		assert_int_equal(scram_verifier_derive(slice_of("p"), salt, lengths[i], 2, &v), 0);
		s = scram_server_new(v, NULL);
		assert_int_equal(talk(s, c, &verified), 0);
		assert_int_equal(verified, 0);
		scram_verifier_free(&v);
		scram_server_free(&s);
		scram_client_free(&c);
	}
}

/* The salt in a server-first message; the message stays. */
static struct slice salt_of(struct slice message)
{
	const char *p = memmem(message.p, message.n, ",s=", 3);
	const char *end;

	assert_non_null(p);
	end = memchr(p + 1, ',', message.n - (size_t)(p + 1 - message.p));
	assert_non_null(end);
	return slice_make(p + 3, (size_t)(end - p - 3));
}

static void test_mock_looks_like_any_other(void **state)
{
	struct scram_verifier *v;
	struct scram_server *real;
	struct scram_server *mock[3];
	struct slice r;
	struct slice m[3];

	assert_int_equal(scram_verifier_derive(slice_of("p"), NULL, 0, 5, &v), 0);
	real = scram_server_new(v, NULL);
	scram_verifier_free(&v);
	mock[0] = scram_server_new_mock("nobody", &recipe);
	mock[1] = scram_server_new_mock("nobody", &recipe);
	mock[2] = scram_server_new_mock("nobody else", &recipe);
	assert_int_equal(scram_server_first(real, false, slice_of("n,,n=,r=abc"), &r), 0);
	for (size_t i = 0; i < ARRAY_LEN(mock); i++) {
		assert_int_equal(scram_server_first(mock[i], false, slice_of("n,,n=,r=abc"), &m[i]), 0);
		assert_int_equal(m[i].n, r.n);
		assert_int_equal(salt_of(m[i]).n, salt_of(r).n);
		assert_memory_equal(m[i].p + m[i].n - 4, ",i=5", 4);
	}
	assert_true(slice_eq(salt_of(m[0]), salt_of(m[1])));
	assert_false(slice_eq(salt_of(m[0]), salt_of(m[2])));
	assert_false(slice_eq(m[0], m[1])); /* the nonce is fresh */
	for (size_t i = 0; i < ARRAY_LEN(mock); i++)
		scram_server_free(&mock[i]);
	scram_server_free(&real);
}

/* Whether a name is a user must not show when another process of the configuration answers, or this one tomorrow. */
static void test_salt_follows_from_name_and_key(void **state)
{
	static const struct scram_recipe other = { .salt_key = "key of another configuration", .iterations = 5 };
	struct user *user = user_new("nobody", slice_of("password"));
	bool is_derived;
	const struct scram_verifier *v = user_verifier(user, &recipe, &is_derived);
	struct scram_server *server[3] = {
		scram_server_new(v, NULL),
		scram_server_new_mock("nobody", &recipe),
		scram_server_new_mock("nobody", &other),
	};
	struct slice m[3];

	for (size_t i = 0; i < ARRAY_LEN(server); i++)
		assert_int_equal(scram_server_first(server[i], false, slice_of("n,,n=,r=abc"), &m[i]), 0);
	assert_true(slice_eq(salt_of(m[0]), salt_of(m[1])));
	assert_false(slice_eq(salt_of(m[0]), salt_of(m[2])));
	for (size_t i = 0; i < ARRAY_LEN(server); i++)
		scram_server_free(&server[i]);
	user_free(&user);
}

static void test_mock_never_succeeds(void **state)
{
	static const char *const passwords[] = { "", "p", "nobody" };

	for (size_t i = 0; i < ARRAY_LEN(passwords); i++) {
		struct scram_server *s = scram_server_new_mock("nobody", &recipe);
		struct scram_client *c = scram_client_new("", slice_of(passwords[i]), NULL, NULL);
		int verified;

		assert_int_equal(talk(s, c, &verified), -E_AUTH);
		assert_null(scram_server_keys(s));
		scram_server_free(&s);
		scram_client_free(&c);
	}
}

static void test_client_first_forms(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} rows[] = {
		{ "n,,n=user,r=abc", 0 },
		{ "y,,n=user,r=abc", 0 },
		{ "n,,n=,r=abc", 0 },
		{ "n,,n=whoever=2C,r=abc", 0 },
		{ "n,,n=,r=~!", 0 },
		{ "n,,n=,r=abc,x=1,y=", 0 },
		{ "p=tls-server-end-point,,n=,r=abc", -E_UNSUPPORTED },
		{ "p=tls-unique,,n=,r=abc", -E_UNSUPPORTED },
		{ "p", -E_UNSUPPORTED },
		{ "", -E_PROTO },
		{ "N,,n=,r=abc", -E_PROTO },
		{ "x,,n=,r=abc", -E_PROTO },
		{ "n,n=,r=abc", -E_PROTO },
		{ "n,a=other,n=,r=abc", -E_PROTO },
		{ "n,,m=ext,n=,r=abc", -E_PROTO },
		{ "n,,r=abc", -E_PROTO },
		{ "n,,r=abc,n=", -E_PROTO },
		{ "n,,n=,r=", -E_PROTO },
		{ "n,,n=,r=a b", -E_PROTO },
		{ "n,,n=,r=\xc3\xa4", -E_PROTO },
		{ "n,,n=,r=a\x7f", -E_PROTO },
		{ "n,,n=,r=abc,", -E_PROTO },
		{ "n,,n=,r=abc,x", -E_PROTO },
		{ "n,,n=,r=abc,=1", -E_PROTO },
		{ "n,,n=,r=abc,1=1", -E_PROTO },
		{ "n,,n,r=abc", -E_PROTO },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (server_first(rows[i].text, strlen(rows[i].text)) != rows[i].rc)
			fail_msg("%s", rows[i].text);
	}
	assert_int_equal(server_first("n,,n=\0,r=abc", 12), -E_PROTO);
	assert_int_equal(server_first("n,,n=,r=abc\0", 12), -E_PROTO);
}

static void test_client_messages_have_a_bound(void **state)
{
	char text[SCRAM_MESSAGE_MAX + 2];

	memset(text, 'x', sizeof(text));
	memcpy(text, "n,,n=,r=", 8);
	assert_int_equal(server_first(text, SCRAM_MESSAGE_MAX), 0);
	assert_int_equal(server_first(text, SCRAM_MESSAGE_MAX + 1), -E_PROTO);
}

/* What a client that was offered PLUS may say, by the mechanism that it has chosen. */
static void test_flags_where_plus_is_offered(void **state)
{
	static const struct {
		const char *text;
		bool is_plus;
		int rc;
		const char *fault;
	} rows[] = {
		{ "p=tls-server-end-point,,n=,r=abc", true, 0, NULL },
		{ "n,,n=,r=abc", false, 0, NULL },
		{ "n,,n=,r=abc", true, -E_PROTO, "client does not bind to the channel as it has chosen to" },
		{ "y,,n=,r=abc", false, -E_PROTO, "client has not seen the offer of SCRAM-SHA-256-PLUS" },
		{ "y,,n=,r=abc", true, -E_PROTO, "client has not seen the offer of SCRAM-SHA-256-PLUS" },
		{ "p=tls-server-end-point,,n=,r=abc", false, -E_PROTO,
		  "client binds to the channel without SCRAM-SHA-256-PLUS" },
		{ "p=tls-unique,,n=,r=abc", true, -E_UNSUPPORTED, "client requires an unknown channel binding" },
		{ "p=tls-server-end-pointx,,n=,r=abc", true, -E_UNSUPPORTED,
		  "client requires an unknown channel binding" },
		{ "p=tls-server-end-point,a=other,n=,r=abc", true, -E_UNSUPPORTED,
		  "client requires an unknown channel binding" },
		{ "p=tls-server-end-point,,", true, -E_PROTO, "malformed SCRAM message" },
		{ "p=,,n=,r=abc", true, -E_UNSUPPORTED, "client requires an unknown channel binding" },
		{ "p", true, -E_UNSUPPORTED, "client requires an unknown channel binding" },
		{ "P=tls-server-end-point,,n=,r=abc", true, -E_PROTO, "malformed SCRAM message" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scram_server *s = rfc_server();
		struct slice out;

		scram_server_bind(s, slice_of("hash"));
		if (scram_server_first(s, rows[i].is_plus, slice_of(rows[i].text), &out) != rows[i].rc)
			fail_msg("%s", rows[i].text);
		if (rows[i].fault != NULL)
			assert_string_equal(scram_server_fault(s), rows[i].fault);
		scram_server_free(&s);
	}
}

/* A bound exchange between a client that sees one certificate and a server that has another or the same. */
static int talk_bound(struct slice seen, struct slice own, int *verified)
{
	struct scram_verifier *v = scram_verifier_parse(slice_of(RFC_VERIFIER));
	struct scram_server *s = scram_server_new(v, NULL);
	struct scram_client *c = scram_client_new("", slice_of("pencil"), NULL, NULL);
	struct slice to_server;
	struct slice to_client;
	int rc;

	scram_verifier_free(&v);
	scram_server_bind(s, own);
	scram_client_bind(c, SCRAM_FLAG_BOUND, seen);
	scram_client_first(c, &to_server);
	assert_memory_equal(to_server.p, "p=tls-server-end-point,,n=,r=", 29);
	assert_int_equal(scram_server_first(s, true, to_server, &to_client), 0);
	assert_int_equal(scram_client_final(c, to_client, &to_server), 0);
	rc = scram_server_final(s, to_server, &to_client);
	*verified = rc == 0 ? scram_client_verify(c, to_client) : -1;
	if (rc == -E_PROTO)
		assert_string_equal(scram_server_fault(s), "channel binding does not match");
	scram_server_free(&s);
	scram_client_free(&c);
	return rc;
}

static void test_bound_exchange(void **state)
{
	static const char hash[SCRAM_END_POINT_MAX + 1] =
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	static const size_t lengths[] = { 1, 20, 28, 32, 48, 64 };
	int verified;

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		char other[SCRAM_END_POINT_MAX + 1];

		assert_int_equal(talk_bound(slice_make(hash, lengths[i]), slice_make(hash, lengths[i]), &verified), 0);
		assert_int_equal(verified, 0);
		memcpy(other, hash, sizeof(other));
		other[lengths[i] - 1] ^= 1;
		assert_int_equal(talk_bound(slice_make(hash, lengths[i]), slice_make(other, lengths[i]), &verified),
				 -E_PROTO);
	}
	assert_int_equal(talk_bound(slice_make(hash, 32), slice_make(hash, 48), &verified), -E_PROTO);
	assert_int_equal(talk_bound(slice_make(hash, 48), slice_make(hash, 32), &verified), -E_PROTO);
}

/* c= as other implementations write it: base64 of "p=tls-server-end-point,,hash". */
static void test_bound_final_as_on_the_wire(void **state)
{
	struct scram_client *c = rfc_client();
	struct slice out;

	scram_client_bind(c, SCRAM_FLAG_BOUND, slice_of("hash"));
	scram_client_first(c, &out);
	check_slice(out, "p=tls-server-end-point,,n=user,r=" RFC_CLIENT_NONCE);
	assert_int_equal(scram_client_final(c, slice_of(RFC_SERVER_FIRST), &out), 0);
	assert_memory_equal(out.p, "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsaGFzaA==,r=", 45);
	scram_client_free(&c);
}

static void test_unbound_final_where_plus_is_offered(void **state)
{
	struct scram_server *s = rfc_server();
	struct slice out;

	scram_server_bind(s, slice_of("hash"));
	assert_int_equal(scram_server_first(s, false, slice_of(RFC_CLIENT_FIRST), &out), 0);
	assert_int_equal(scram_server_final(s, slice_of(RFC_CLIENT_FINAL), &out), 0);
	scram_server_free(&s);
}

static void test_client_that_could_bind(void **state)
{
	struct scram_server *s = rfc_server();
	struct scram_client *c = scram_client_new("", slice_of("pencil"), NULL, NULL);
	struct slice out;
	int verified;

	scram_client_bind(c, SCRAM_FLAG_COULD, no_password);
	assert_int_equal(talk(s, c, &verified), 0);
	assert_int_equal(verified, 0);
	scram_server_free(&s);
	scram_client_free(&c);

	s = rfc_server();
	scram_server_bind(s, slice_of("hash"));
	c = scram_client_new("", slice_of("pencil"), NULL, NULL);
	scram_client_bind(c, SCRAM_FLAG_COULD, no_password);
	scram_client_first(c, &out);
	assert_int_equal(scram_server_first(s, false, out, &out), -E_PROTO);
	scram_server_free(&s);
	scram_client_free(&c);
}

static void test_mock_with_binding_looks_alike(void **state)
{
	struct scram_server *mock = scram_server_new_mock("nobody", &recipe);
	struct scram_server *real = rfc_server();
	struct scram_client *c = scram_client_new("", slice_of("pencil"), NULL, NULL);
	struct slice in;
	struct slice m;
	struct slice r;

	scram_server_bind(mock, slice_of("hash"));
	scram_server_bind(real, slice_of("hash"));
	scram_client_bind(c, SCRAM_FLAG_BOUND, slice_of("hash"));
	scram_client_first(c, &in);
	assert_int_equal(scram_server_first(mock, true, in, &m), 0);
	assert_int_equal(scram_server_first(real, true, in, &r), 0);
	assert_int_equal(salt_of(m).n, salt_of(r).n);
	assert_int_equal(scram_client_final(c, m, &in), 0);
	assert_int_equal(scram_server_final(mock, in, &m), -E_AUTH);
	scram_server_free(&mock);
	scram_server_free(&real);
	scram_client_free(&c);
}

static void test_client_final_forms(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} rows[] = {
		{ RFC_CLIENT_FINAL, 0 },
		{ "c=biws,r=" RFC_NONCE ",x=1,p=" PROOF, -E_AUTH },
		{ "c=eSws,r=" RFC_NONCE ",p=" PROOF, -E_PROTO },
		{ "c=,r=" RFC_NONCE ",p=" PROOF, -E_PROTO },
		{ "c=biws=,r=" RFC_NONCE ",p=" PROOF, -E_PROTO },
		{ "c=cD10bHMtdW5pcXVlLCw=,r=" RFC_NONCE ",p=" PROOF, -E_PROTO },
		{ "r=" RFC_NONCE ",p=" PROOF, -E_PROTO },
		{ "c=biws,p=" PROOF, -E_PROTO },
		{ "c=biws,p=" PROOF ",r=" RFC_NONCE, -E_PROTO },
		{ "c=biws,r=,p=" PROOF, -E_PROTO },
		{ "c=biws,r=" RFC_CLIENT_NONCE ",p=" PROOF, -E_PROTO },
		{ "c=biws,r=" RFC_SERVER_NONCE ",p=" PROOF, -E_PROTO },
		{ "c=biws,r=" RFC_NONCE "x,p=" PROOF, -E_PROTO },
		{ "c=biws,r=" RFC_NONCE, -E_PROTO },
		{ "c=biws,r=" RFC_NONCE ",", -E_PROTO },
		{ "c=biws,r=" RFC_NONCE ",p=", -E_PROTO },
		{ "c=biws,r=" RFC_NONCE ",p=AAAA", -E_PROTO },
		{ "c=biws,r=" RFC_NONCE ",p=AAAA" PROOF, -E_PROTO },
		{ "c=biws,r=" RFC_NONCE ",p=" PROOF ",x=1", -E_PROTO },
		{ "c=biws,r=" RFC_NONCE ",p=" PROOF ",", -E_PROTO },
		{ "c=biws,r=" RFC_NONCE ",p=" PROOF " ", -E_PROTO },
		{ "c=biws,r=" RFC_NONCE ",p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", -E_AUTH },
		{ "", -E_PROTO },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (server_final(RFC_CLIENT_FIRST, rows[i].text, strlen(rows[i].text)) != rows[i].rc)
			fail_msg("%s", rows[i].text);
	}
	/* A client that said "y" must say so again. */
	assert_int_equal(server_final("y,,n=user,r=" RFC_CLIENT_NONCE, RFC_CLIENT_FINAL, strlen(RFC_CLIENT_FINAL)),
			 -E_PROTO);
	assert_int_equal(server_final("y,,n=user,r=" RFC_CLIENT_NONCE, "c=eSws,r=" RFC_NONCE ",p=" PROOF,
				      strlen(RFC_CLIENT_FINAL)),
			 -E_AUTH);
}

static void test_cut_messages_of_a_client(void **state)
{
	for (size_t n = 0; n < strlen(RFC_CLIENT_FINAL); n++)
		assert_int_equal(server_final(RFC_CLIENT_FIRST, RFC_CLIENT_FINAL, n), -E_PROTO);
	for (size_t n = 0; n < strlen("n,,n=user,r=") + 1; n++)
		assert_int_equal(server_first(RFC_CLIENT_FIRST, n), -E_PROTO);
}

static void test_each_bit_of_the_proof_counts(void **state)
{
	for (size_t i = strlen(RFC_CLIENT_FINAL) - strlen(PROOF); i < strlen(RFC_CLIENT_FINAL) - 1; i++) {
		char text[] = RFC_CLIENT_FINAL;

		text[i] = text[i] == 'A' ? 'B' : 'A';
		assert_true(server_final(RFC_CLIENT_FIRST, text, strlen(text)) < 0);
	}
}

static void test_server_first_forms(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} rows[] = {
		{ "r=" RFC_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", 0 },
		{ "r=" RFC_NONCE ",s=QQ==,i=1", 0 },
		{ "r=" RFC_NONCE ",s=QQ==,i=10000001", -E_RANGE },
		{ "r=" RFC_NONCE ",s=QQ==,i=2147483647", -E_RANGE },
		{ "r=" RFC_NONCE ",s=QQ==,i=2147483648", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==,i=99999999999999999999999999", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==,i=0", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==,i=-1", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==,i=+1", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==,i=1 ", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==,i=", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==", -E_PROTO },
		{ "r=" RFC_NONCE ",s=,i=1", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ=,i=1", -E_PROTO },
		{ "r=" RFC_NONCE ",s=Q?==,i=1", -E_PROTO },
		{ "r=" RFC_NONCE ",i=1", -E_PROTO },
		{ "r=" RFC_NONCE ",i=1,s=QQ==", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==,i=1,", -E_PROTO },
		{ "r=" RFC_NONCE ",s=QQ==,i=1,x=y", -E_PROTO },
		{ "m=x,r=" RFC_NONCE ",s=QQ==,i=1", -E_PROTO },
		{ "r=" RFC_CLIENT_NONCE ",s=QQ==,i=1", -E_PROTO },
		{ "r=rOprNGfwEbeRWgbNEkq,s=QQ==,i=1", -E_PROTO },
		{ "r=xOprNGfwEbeRWgbNEkqOabc,s=QQ==,i=1", -E_PROTO },
		{ "r=" RFC_SERVER_NONCE ",s=QQ==,i=1", -E_PROTO },
		{ "r=" RFC_CLIENT_NONCE " x,s=QQ==,i=1", -E_PROTO },
		{ "r=,s=QQ==,i=1", -E_PROTO },
		{ "s=QQ==,i=1", -E_PROTO },
		{ "e=other-error", -E_PROTO },
		{ "", -E_PROTO },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (client_final(rows[i].text, strlen(rows[i].text)) != rows[i].rc)
			fail_msg("%s", rows[i].text);
	}
	assert_int_equal(client_final("r=" RFC_NONCE "\0,s=QQ==,i=1", strlen(RFC_NONCE) + 14), -E_PROTO);
	for (size_t n = 0; n < strlen(RFC_SERVER_FIRST) - 4; n++)
		assert_int_equal(client_final(RFC_SERVER_FIRST, n), -E_PROTO);
}

/* A server-first message with so many characters behind our nonce and in the salt. */
static int client_final_filled(size_t in_nonce, size_t in_salt)
{
	size_t size = in_nonce + in_salt + 64;
	char *text = xmalloc(size);
	size_t n = str_format(text, size, "r=%s", RFC_CLIENT_NONCE);
	int rc;

	memset(text + n, 'x', in_nonce);
	n += in_nonce;
	n += str_format(text + n, size - n, ",s=");
	memset(text + n, 'A', in_salt);
	n += in_salt;
	n += str_format(text + n, size - n, ",i=1");
	rc = client_final(text, n);
	free(text);
	return rc;
}

static void test_long_nonces_and_salts_of_a_server(void **state)
{
	size_t rest = strlen("r=" RFC_CLIENT_NONCE ",s=AAAA,i=1");

	assert_int_equal(client_final_filled(1, 4), 0);
	assert_int_equal(client_final_filled(SCRAM_SERVER_MAX - rest, 4), 0);
	assert_int_equal(client_final_filled(SCRAM_SERVER_MAX - rest + 1, 4), -E_PROTO);
	assert_int_equal(client_final_filled(1000000, 4), -E_PROTO);
	assert_int_equal(client_final_filled(1, SCRAM_SALT_MAX / 3 * 4), 0);
	assert_int_equal(client_final_filled(1, SCRAM_SALT_MAX / 3 * 4 + 4), -E_PROTO);
	assert_int_equal(client_final_filled(1, 1000000), -E_PROTO);
}

static void test_server_final_forms(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} rows[] = {
		{ RFC_SERVER_FINAL, -E_AUTH }, /* of other keys */
		{ RFC_SERVER_FINAL ",", -E_PROTO },
		{ RFC_SERVER_FINAL ",x=1", -E_PROTO },
		{ "v=", -E_PROTO },
		{ "v=AAAA", -E_PROTO },
		{ "v=AAAA6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", -E_PROTO },
		{ "e=invalid-proof", -E_PROTO },
		{ "", -E_PROTO },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (client_verify(rows[i].text, strlen(rows[i].text)) != rows[i].rc)
			fail_msg("%s", rows[i].text);
	}
	for (size_t n = 0; n < strlen(RFC_SERVER_FINAL); n++)
		assert_int_equal(client_verify(RFC_SERVER_FINAL, n), -E_PROTO);
}

static void test_nonces_are_fresh(void **state)
{
	struct scram_client *a = scram_client_new("", slice_of("p"), NULL, NULL);
	struct scram_client *b = scram_client_new("", slice_of("p"), NULL, NULL);
	struct slice x;
	struct slice y;

	scram_client_first(a, &x);
	scram_client_first(b, &y);
	assert_int_equal(x.n, strlen("n,,n=,r=") + 24);
	assert_false(slice_eq(x, y));
	scram_client_free(&a);
	scram_client_free(&b);
}

static void test_huge_counts_never_match(void **state)
{
	struct scram_verifier *v = scram_verifier_parse(
		slice_of("SCRAM-SHA-256$2147483647:QQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
			 "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="));

	assert_non_null(v);
	assert_false(scram_verifier_matches(v, slice_of("p")));
	scram_verifier_free(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc_server),
		cmocka_unit_test(test_rfc_client),
		cmocka_unit_test(test_keys_recovered_by_a_server_log_in),
		cmocka_unit_test(test_sides_talk),
		cmocka_unit_test(test_salts_of_other_lengths),
		cmocka_unit_test(test_mock_looks_like_any_other),
		cmocka_unit_test(test_salt_follows_from_name_and_key),
		cmocka_unit_test(test_mock_never_succeeds),
		cmocka_unit_test(test_client_first_forms),
		cmocka_unit_test(test_client_messages_have_a_bound),
		cmocka_unit_test(test_flags_where_plus_is_offered),
		cmocka_unit_test(test_bound_exchange),
		cmocka_unit_test(test_bound_final_as_on_the_wire),
		cmocka_unit_test(test_unbound_final_where_plus_is_offered),
		cmocka_unit_test(test_client_that_could_bind),
		cmocka_unit_test(test_mock_with_binding_looks_alike),
		cmocka_unit_test(test_client_final_forms),
		cmocka_unit_test(test_cut_messages_of_a_client),
		cmocka_unit_test(test_each_bit_of_the_proof_counts),
		cmocka_unit_test(test_server_first_forms),
		cmocka_unit_test(test_long_nonces_and_salts_of_a_server),
		cmocka_unit_test(test_server_final_forms),
		cmocka_unit_test(test_nonces_are_fresh),
		cmocka_unit_test(test_huge_counts_never_match),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
