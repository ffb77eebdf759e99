/*
 * Contexts from settings: what is refused and in which words, what versions and
 * ciphers come out, who gets through a handshake, and when a reload may keep a
 * context.
 */
#include "net/tls_ctx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/err.h"
#include "tls_fixture.h"
#include "tls_pair.h"

static struct fixture_cert ca;
static struct fixture_cert other_ca;
static struct fixture_cert pooler;
static struct fixture_cert alice;
static struct fixture_cert stranger;

static const char *const files[] = {
	"ca.crt",    "ca.key",    "other.crt",    "other.key",    "pooler.crt", "pooler.key",
	"alice.crt", "alice.key", "stranger.crt", "stranger.key", "locked.key", "empty",
	"damaged",   "both.crt",  "leaf.crt",     "leaf.key",     "middle.crt",
};

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(fixture_path(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int make_files(void **state UNUSED)
{
	static const char template[] = "/tmp/pgsluice-tls-XXXXXX";

	str_copy(fixture_dir, sizeof(fixture_dir), template);
	assert_non_null(mkdtemp(fixture_dir));
	ca = fixture_new_cert("authority", NULL, 30);
	other_ca = fixture_new_cert("other authority", NULL, 30);
	pooler = fixture_new_cert("pooler.test", &ca, 30);
	alice = fixture_new_cert("alice", &ca, 30);
	stranger = fixture_new_cert("alice", &other_ca, 30);
	fixture_write("ca", &ca);
	fixture_write("other", &other_ca);
	fixture_write("pooler", &pooler);
	fixture_write("alice", &alice);
	fixture_write("stranger", &stranger);
	fixture_write_key("locked.key", pooler.key, "secret");
	write_text("empty", "");
	write_text("damaged", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	fixture_write_certs("both.crt", ca.cert, other_ca.cert);
	return 0;
}

static int remove_files(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		unlink(fixture_path(files[i]));
	fixture_free_cert(&ca);
	fixture_free_cert(&other_ca);
	fixture_free_cert(&pooler);
	fixture_free_cert(&alice);
	fixture_free_cert(&stranger);
	return rmdir(fixture_dir);
}

/* The settings of a pooler that clients can connect to. */
static struct tls_setup facing_clients(enum tls_verify verify)
{
	return (struct tls_setup){
		.faces_clients = true,
		.verify = verify,
		.key_file = fixture_path("pooler.key"),
		.cert_file = fixture_path("pooler.crt"),
		.ca_file = fixture_path("ca.crt"),
	};
}

static struct tls_setup to_servers(enum tls_verify verify, const char *who)
{
	char name[64];
	struct tls_setup setup = { .verify = verify, .ca_file = fixture_path("ca.crt") };

	if (who == NULL)
		return setup;
	str_format(name, sizeof(name), "%s.key", who);
	setup.key_file = fixture_path(name);
	str_format(name, sizeof(name), "%s.crt", who);
	setup.cert_file = fixture_path(name);
	return setup;
}

static struct tls_ctx *must_build(const struct tls_setup *setup)
{
	char err[TLS_CTX_ERR_MAX] = "";
	struct tls_ctx *ctx;

	if (tls_ctx_new(setup, &ctx, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return ctx;
}

/* ---- what is refused ---- */

static void must_refuse(const struct tls_setup *setup, const char *start, const char *part)
{
	char err[TLS_CTX_ERR_MAX] = "";
	struct tls_ctx *ctx;

	assert_true(tls_ctx_new(setup, &ctx, err, sizeof(err)) < 0);
	assert_null(ctx);
	if (strncmp(err, start, strlen(start)) != 0 || strstr(err, part) == NULL)
		fail_msg("\"%s\" does not begin with \"%s\" or lacks \"%s\"", err, start, part);
}

static void test_missing_pair(void **state UNUSED)
{
	struct tls_setup setup = { .faces_clients = true, .verify = TLS_VERIFY_OFFERED };

	must_refuse(&setup, "client_tls_key_file: ", "needs client_tls_key_file and client_tls_cert_file");
	setup.cert_file = fixture_path("pooler.crt");
	must_refuse(&setup, "client_tls_key_file: ", "pooler.crt");
	setup.key_file = setup.cert_file;
	setup.cert_file = "";
	must_refuse(&setup, "client_tls_cert_file: ", "pooler.crt");
	setup.faces_clients = false;
	setup.verify = TLS_VERIFY_NONE;
	must_refuse(&setup, "server_tls_cert_file: ", "must name");
	setup.key_file = NULL;
	assert_int_equal(setup.session_cache, 0);
	tls_ctx_release(&(struct tls_ctx *){ must_build(&setup) });
}

static void test_bad_files(void **state UNUSED)
{
	struct tls_setup setup = facing_clients(TLS_VERIFY_OFFERED);

	setup.key_file = fixture_path("missing");
	must_refuse(&setup, "client_tls_key_file: ", "/missing\": No such file");
	setup.key_file = fixture_dir;
	must_refuse(&setup, "client_tls_key_file: ", "not a file");
	setup.key_file = fixture_path("empty");
	must_refuse(&setup, "client_tls_key_file: ", "BEGIN PRIVATE KEY");
	setup.key_file = fixture_path("locked.key");
	must_refuse(&setup, "client_tls_key_file: ", "is encrypted");
	setup.key_file = fixture_path("alice.key");
	must_refuse(&setup, "client_tls_key_file: ", "does not belong to");
	setup.key_file = fixture_path("pooler.key");
	setup.cert_file = fixture_path("damaged");
	must_refuse(&setup, "client_tls_cert_file: ", "certificate 1 in it is damaged");
	setup.cert_file = fixture_path("pooler.key");
	must_refuse(&setup, "client_tls_cert_file: ", "BEGIN CERTIFICATE");
	setup.cert_file = fixture_path("pooler.crt");
	setup.ca_file = fixture_path("empty");
	must_refuse(&setup, "client_tls_ca_file: ", "no certificate in it");
	setup.ca_file = fixture_path("missing");
	must_refuse(&setup, "client_tls_ca_file: ", "No such file");
	setup.ca_file = fixture_path("ca.crt");
	tls_ctx_release(&(struct tls_ctx *){ must_build(&setup) });
}

static void test_bad_words(void **state UNUSED)
{
	struct tls_setup setup = facing_clients(TLS_VERIFY_OFFERED);

	setup.ciphers = "nonsense";
	must_refuse(&setup, "client_tls_ciphers: \"nonsense\": ", "openssl ciphers");
	setup.ciphers = NULL;
	setup.ciphers13 = "AES";
	must_refuse(&setup, "client_tls13_ciphers: \"AES\": ", "TLS_AES_256_GCM_SHA384");
	setup.ciphers13 = "";
	setup.dheparams = "legacy";
	must_refuse(&setup, "client_tls_dheparams: \"legacy\"", "auto or none");
	setup.dheparams = "none";
	setup.ecdhcurve = "round";
	must_refuse(&setup, "client_tls_ecdhcurve: \"round\"", "X25519");
	setup.ecdhcurve = "none";
	tls_ctx_release(&(struct tls_ctx *){ must_build(&setup) });
	setup.ecdhcurve = "prime256v1";
	tls_ctx_release(&(struct tls_ctx *){ must_build(&setup) });
}

/* Decrypted bytes may be passwords: OpenSSL must not keep them in its buffers. */
static void test_plaintext_is_wiped(void **state UNUSED)
{
	struct tls_setup setups[] = { facing_clients(TLS_VERIFY_OFFERED), to_servers(TLS_VERIFY_NONE, NULL) };

	for (size_t i = 0; i < ARRAY_LEN(setups); i++) {
		struct tls_ctx *ctx = must_build(&setups[i]);

		assert_true((SSL_CTX_get_options(tls_ctx_ssl(ctx)) & SSL_OP_CLEANSE_PLAINTEXT) != 0);
		tls_ctx_release(&ctx);
	}
}

/* ---- versions and ciphers ---- */

/* The versions as bits, 1.0 first. */
static unsigned versions_of(const char *list, bool faces_clients)
{
	static const uint64_t off[] = { SSL_OP_NO_TLSv1, SSL_OP_NO_TLSv1_1, SSL_OP_NO_TLSv1_2, SSL_OP_NO_TLSv1_3 };
	struct tls_setup setup = faces_clients ? facing_clients(TLS_VERIFY_OFFERED) : to_servers(TLS_VERIFY_NONE, NULL);
	struct tls_ctx *ctx;
	unsigned bits = 0;

	setup.protocols = list;
	ctx = must_build(&setup);
	for (int i = 0; i < 4; i++) {
		int version = TLS1_VERSION + i;

		if ((SSL_CTX_get_options(tls_ctx_ssl(ctx)) & off[i]) == 0 &&
		    version >= SSL_CTX_get_min_proto_version(tls_ctx_ssl(ctx)) &&
		    version <= SSL_CTX_get_max_proto_version(tls_ctx_ssl(ctx)))
			bits |= 1u << i;
	}
	tls_ctx_release(&ctx);
	return bits;
}

static void test_protocols(void **state UNUSED)
{
	static const struct {
		const char *list;
		unsigned versions;
	} good[] = {
		{ NULL, 12 },
		{ "", 12 },
		{ "secure", 12 },
		{ "default", 12 },
		{ "all", 15 },
		{ "tlsv1", 15 },
		{ "TLSv1.2", 4 },
		{ "tlsv1.3", 8 },
		{ "tlsv1.0 , tlsv1.3", 9 },
		{ "tlsv1.0:tlsv1.1:tlsv1.2", 7 },
		{ "all,!tlsv1.0,!tlsv1.1", 12 },
		{ "!tlsv1.3", 7 },
		{ "secure:! tlsv1.2", 8 },
	};
	static const char *const bad[] = { "sslv3", "legacy", "tlsv1.4", "secure,", ",", "!", "secure tlsv1.0" };
	struct tls_setup setup;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(versions_of(good[i].list, true), good[i].versions);
		assert_int_equal(versions_of(good[i].list, false), good[i].versions);
	}
	setup = facing_clients(TLS_VERIFY_OFFERED);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		setup.protocols = bad[i];
		must_refuse(&setup, "client_tls_protocols: ", "is no protocol");
	}
	setup.protocols = "secure,!secure";
	must_refuse(&setup, "client_tls_protocols: ", "leaves no protocol");
	setup = to_servers(TLS_VERIFY_NONE, NULL);
	setup.protocols = "legacy";
	must_refuse(&setup, "server_tls_protocols: ", "is no protocol");
}

static bool has_cipher(const struct tls_ctx *ctx, const char *part)
{
	STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(tls_ctx_ssl(ctx));

	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		if (strstr(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i)), part) != NULL)
			return true;
	}
	return false;
}

static void test_ciphers(void **state UNUSED)
{
	static const char *const defaults[] = { "default", "secure", "normal", "fast", "", NULL };
	struct tls_setup setup = facing_clients(TLS_VERIFY_OFFERED);
	struct tls_ctx *ctx;

	for (size_t i = 0; i < ARRAY_LEN(defaults); i++) {
		setup.ciphers = defaults[i];
		ctx = must_build(&setup);
		assert_true(has_cipher(ctx, "ECDHE-RSA-AES256-GCM-SHA384"));
		tls_ctx_release(&ctx);
	}
	setup.ciphers = "ECDHE-RSA-AES128-GCM-SHA256";
	ctx = must_build(&setup);
	assert_true(has_cipher(ctx, "ECDHE-RSA-AES128-GCM-SHA256"));
	assert_false(has_cipher(ctx, "ECDHE-RSA-AES256"));
	tls_ctx_release(&ctx);
	/* nobody could be named by them */
	setup.ciphers = "ALL:aNULL:eNULL:@SECLEVEL=0";
	ctx = must_build(&setup);
	assert_false(has_cipher(ctx, "ADH"));
	assert_false(has_cipher(ctx, "AECDH"));
	assert_false(has_cipher(ctx, "NULL"));
	tls_ctx_release(&ctx);
	setup.ciphers = "default";
	setup.ecdhcurve = "none";
	ctx = must_build(&setup);
	assert_false(has_cipher(ctx, "ECDHE"));
	assert_true(has_cipher(ctx, "DHE"));
	tls_ctx_release(&ctx);
}

/* ---- handshakes ---- */

static bool shakes(const struct tls_setup *client, const struct tls_setup *server)
{
	struct tls_ctx *a = must_build(client);
	struct tls_ctx *b = must_build(server);
	struct fixture_pair pair = fixture_new_pair(tls_ctx_ssl(a), tls_ctx_ssl(b));
	bool ok = fixture_shake(&pair);

	fixture_free_pair(&pair);
	tls_ctx_release(&a);
	tls_ctx_release(&b);
	return ok;
}

static void test_versions_meet(void **state UNUSED)
{
	static const char *const lists[] = { "tlsv1.2", "tlsv1.3", "secure" };
	struct tls_setup server = facing_clients(TLS_VERIFY_OFFERED);
	struct tls_setup client = to_servers(TLS_VERIFY_REQUIRED, NULL);

	for (size_t i = 0; i < 3; i++) {
		for (size_t j = 0; j < 3; j++) {
			client.protocols = lists[i];
			server.protocols = lists[j];
			assert_int_equal(shakes(&client, &server), i == j || i == 2 || j == 2);
		}
	}
}

/* One handshake of each version with the client's certificate, or none. */
static void must_verify(enum tls_verify verify, const char *who, bool expected)
{
	static const char *const versions[] = { "tlsv1.2", "tlsv1.3" };
	struct tls_setup server = facing_clients(verify);
	struct tls_setup client = to_servers(TLS_VERIFY_REQUIRED, who);

	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		client.protocols = versions[i];
		assert_int_equal(shakes(&client, &server), expected);
	}
}

static void test_client_certificates(void **state UNUSED)
{
	must_verify(TLS_VERIFY_OFFERED, NULL, true);
	must_verify(TLS_VERIFY_OFFERED, "alice", true);
	must_verify(TLS_VERIFY_OFFERED, "stranger", false);
	must_verify(TLS_VERIFY_REQUIRED, NULL, false);
	must_verify(TLS_VERIFY_REQUIRED, "alice", true);
	must_verify(TLS_VERIFY_REQUIRED, "stranger", false);
}

static void test_server_certificates(void **state UNUSED)
{
	struct tls_setup server = facing_clients(TLS_VERIFY_OFFERED);
	struct tls_setup client = to_servers(TLS_VERIFY_REQUIRED, NULL);

	assert_true(shakes(&client, &server));
	client.ca_file = fixture_path("other.crt");
	assert_false(shakes(&client, &server));
	client.ca_file = fixture_path("both.crt");
	assert_true(shakes(&client, &server));
	client.ca_file = ""; /* the system does not know our authority */
	assert_false(shakes(&client, &server));
	client.verify = TLS_VERIFY_NONE;
	client.ca_file = fixture_path("missing"); /* and is not read */
	assert_true(shakes(&client, &server));
}

/* What a client offers, in ALPN's form; n is 0 for no offer. */
static bool shakes_with_alpn(const char *offer, size_t n)
{
	struct tls_setup setup = facing_clients(TLS_VERIFY_OFFERED);
	struct tls_ctx *server = must_build(&setup);
	SSL_CTX *client = SSL_CTX_new(TLS_client_method());
	struct fixture_pair pair;
	const unsigned char *chosen;
	unsigned len;
	bool ok;

	assert_int_equal(SSL_CTX_set_alpn_protos(client, (const unsigned char *)offer, (unsigned)n), 0);
	pair = fixture_new_pair(client, tls_ctx_ssl(server));
	ok = fixture_shake(&pair);
	SSL_get0_alpn_selected(pair.client, &chosen, &len);
	if (ok && n > 0)
		assert_true(len == 10 && memcmp(chosen, "postgresql", 10) == 0);
	fixture_free_pair(&pair);
	SSL_CTX_free(client);
	tls_ctx_release(&server);
	return ok;
}

static void test_alpn(void **state UNUSED)
{
	assert_true(shakes_with_alpn(NULL, 0));
	assert_true(shakes_with_alpn("\x0apostgresql", 11));
	assert_true(shakes_with_alpn("\x02h2\x0apostgresql", 14));
	assert_false(shakes_with_alpn("\x02h2", 3));
	assert_false(shakes_with_alpn("\x09postgresq", 10));
}

/* ---- the chain below our certificate ---- */

static int chain_length(const struct tls_setup *setup)
{
	struct tls_ctx *ctx = must_build(setup);
	STACK_OF(X509) *chain = NULL;
	int n;

	assert_int_equal(SSL_CTX_get0_chain_certs(tls_ctx_ssl(ctx), &chain), 1);
	n = chain == NULL ? 0 : sk_X509_num(chain);
	tls_ctx_release(&ctx);
	return n;
}

/* Found once among those that are trusted, not in each handshake; what stands in the file is enough. */
static void test_chain(void **state UNUSED)
{
	struct fixture_cert middle = fixture_new_cert("middle", &ca, 30);
	struct fixture_cert leaf = fixture_new_cert("pooler.test", &middle, 30);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
	struct tls_setup setup = facing_clients(TLS_VERIFY_OFFERED);

	X509_add_ext(middle.cert, ext, -1);
	X509_EXTENSION_free(ext);
	assert_true(X509_sign(middle.cert, ca.key, EVP_sha256()) > 0);
	assert_int_equal(chain_length(&setup), 0);
	fixture_write("leaf", &leaf);
	fixture_write_certs("middle.crt", ca.cert, middle.cert);
	setup.cert_file = fixture_path("leaf.crt");
	setup.key_file = fixture_path("leaf.key");
	assert_int_equal(chain_length(&setup), 0);
	setup.ca_file = fixture_path("middle.crt");
	assert_int_equal(chain_length(&setup), 1);
	fixture_write_certs("leaf.crt", leaf.cert, middle.cert);
	assert_int_equal(chain_length(&setup), 1);
	fixture_free_cert(&middle);
	fixture_free_cert(&leaf);
}

/* ---- what a reload keeps ---- */

static void test_is_current(void **state UNUSED)
{
	struct tls_setup setup = facing_clients(TLS_VERIFY_OFFERED);
	struct tls_ctx *ctx = must_build(&setup);
	struct tls_ctx *again = tls_ctx_hold(ctx);

	tls_ctx_release(&again);
	assert_null(again);
	again = must_build(&setup);
	assert_false(tls_ctx_has_other_files(ctx, again));
	tls_ctx_release(&again);
	setup.ca_file = fixture_path("both.crt");
	again = must_build(&setup);
	assert_true(tls_ctx_has_other_files(ctx, again));
	tls_ctx_release(&again);
	setup.ca_file = fixture_path("ca.crt");
	assert_true(tls_ctx_is_current(ctx, &setup));
	/* the same bytes, written anew */
	fixture_write_certs("ca.crt", ca.cert, NULL);
	assert_true(tls_ctx_is_current(ctx, &setup));
	fixture_write_certs("ca.crt", ca.cert, other_ca.cert);
	assert_false(tls_ctx_is_current(ctx, &setup));
	assert_int_equal(unlink(fixture_path("ca.crt")), 0);
	assert_false(tls_ctx_is_current(ctx, &setup));
	fixture_write_certs("ca.crt", ca.cert, NULL);
	assert_true(tls_ctx_is_current(ctx, &setup));
	setup.protocols = "tlsv1.3";
	assert_false(tls_ctx_is_current(ctx, &setup));
	setup.protocols = NULL;
	setup.session_cache = 1;
	assert_false(tls_ctx_is_current(ctx, &setup));
	setup.session_cache = 0;
	setup.verify = TLS_VERIFY_REQUIRED;
	assert_false(tls_ctx_is_current(ctx, &setup));
	setup.verify = TLS_VERIFY_OFFERED;
	assert_true(tls_ctx_is_current(ctx, &setup));
	tls_ctx_release(&ctx);
	tls_ctx_release(&ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_pair),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_bad_words),
		cmocka_unit_test(test_plaintext_is_wiped),
		cmocka_unit_test(test_protocols),
		cmocka_unit_test(test_ciphers),
		cmocka_unit_test(test_versions_meet),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_server_certificates),
		cmocka_unit_test(test_alpn),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_is_current),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
