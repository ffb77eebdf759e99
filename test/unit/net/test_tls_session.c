/*
 * Resumption: the life of the keys that seal tickets, and who may resume what,
 * towards clients and towards servers, in TLS 1.2 and 1.3.
 */
#include "net/tls_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "net/tls_ctx.h"
#include "tls_fixture.h"
#include "tls_pair.h"

static struct fixture_cert ca;
static struct fixture_cert pooler;
static struct fixture_cert alice;
static struct fixture_cert expired;

static const char *const versions[] = { "tlsv1.2", "tlsv1.3" };

static const char *const files[] = { "ca.crt",    "ca.key",      "pooler.crt",  "pooler.key", "alice.crt",
				     "alice.key", "expired.crt", "expired.key", "brief.crt",  "brief.key" };

static int make_files(void **state UNUSED)
{
	static const char template[] = "/tmp/pgsluice-tls-XXXXXX";

	str_copy(fixture_dir, sizeof(fixture_dir), template);
	assert_non_null(mkdtemp(fixture_dir));
	ca = fixture_new_cert("authority", NULL, 30);
	pooler = fixture_new_cert("pooler.test", &ca, 30);
	alice = fixture_new_cert("alice", &ca, 30);
	expired = fixture_new_cert("bob", &ca, -1);
	fixture_write("ca", &ca);
	fixture_write("pooler", &pooler);
	fixture_write("alice", &alice);
	fixture_write("expired", &expired);
	return 0;
}

static int remove_files(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		unlink(fixture_path(files[i]));
	fixture_free_cert(&ca);
	fixture_free_cert(&pooler);
	fixture_free_cert(&alice);
	fixture_free_cert(&expired);
	return rmdir(fixture_dir);
}

/* ---- keys ---- */

static void test_ticket_keys(void **state UNUSED)
{
	const uint64_t life_us = TLS_SESSION_LIFE_S * USEC_PER_SEC;
	struct tls_tickets *tickets = tls_tickets_new();
	struct tls_ticket_key first;
	struct tls_ticket_key second;
	struct tls_ticket_key found;

	assert_int_equal(tls_tickets_seal(tickets, 1000, &first), 0);
	assert_int_equal(tls_tickets_seal(tickets, 999 + life_us, &second), 0);
	assert_memory_equal(first.name, second.name, sizeof(first.name));
	assert_int_equal(tls_tickets_seal(tickets, 1000 + life_us, &second), 0);
	assert_memory_not_equal(first.name, second.name, sizeof(first.name));
	assert_memory_not_equal(first.cipher, second.cipher, sizeof(first.cipher));
	/* the older one opens for as long as its last ticket lives */
	assert_int_equal(tls_tickets_open(tickets, 999 + 2 * life_us, first.name, &found), 0);
	assert_memory_equal(found.mac, first.mac, sizeof(found.mac));
	assert_int_equal(tls_tickets_open(tickets, 1000 + 2 * life_us, first.name, &found), -E_NOENT);
	assert_int_equal(tls_tickets_open(tickets, 1000 + 2 * life_us, second.name, &found), 0);
	second.name[0] ^= 1;
	assert_int_equal(tls_tickets_open(tickets, 1000 + 2 * life_us, second.name, &found), -E_NOENT);
	tls_tickets_free(&tickets);
	tls_tickets_free(&tickets);
}

/* ---- whole handshakes ---- */

static struct tls_ctx *must_build(const struct tls_setup *setup)
{
	char err[TLS_CTX_ERR_MAX] = "";
	struct tls_ctx *ctx;

	if (tls_ctx_new(setup, &ctx, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return ctx;
}

static struct tls_ctx *build_server(const char *protocols, unsigned cache)
{
	struct tls_setup setup = {
		.faces_clients = true,
		.verify = TLS_VERIFY_REQUIRED,
		.key_file = fixture_path("pooler.key"),
		.cert_file = fixture_path("pooler.crt"),
		.ca_file = fixture_path("ca.crt"),
		.protocols = protocols,
		.session_cache = cache,
	};

	return must_build(&setup);
}

static struct tls_ctx *build_client(const char *who, unsigned cache)
{
	char name[64];
	struct tls_setup setup = {
		.verify = TLS_VERIFY_REQUIRED,
		.ca_file = fixture_path("ca.crt"),
		.session_cache = cache,
	};

	str_format(name, sizeof(name), "%s.key", who);
	setup.key_file = fixture_path(name);
	str_format(name, sizeof(name), "%s.crt", who);
	setup.cert_file = fixture_path(name);
	return must_build(&setup);
}

/* A handshake with a target: -1 failed, 0 complete, 1 resumed. */
static int shake(struct tls_ctx *client, struct tls_ctx *server, const char *target)
{
	struct fixture_pair pair = fixture_new_pair(tls_ctx_ssl(client), tls_ctx_ssl(server));
	int result = -1;

	tls_ctx_resume(client, pair.client, target);
	if (fixture_shake(&pair)) {
		result = SSL_session_reused(pair.server);
		assert_int_equal(SSL_session_reused(pair.client), result);
		assert_int_equal(SSL_get_verify_result(pair.client), X509_V_OK);
		/* both certificates are known either way */
		assert_non_null(SSL_SESSION_get0_peer(SSL_get_session(pair.server)));
		assert_non_null(SSL_SESSION_get0_peer(SSL_get_session(pair.client)));
	}
	SSL_shutdown(pair.client);
	SSL_shutdown(pair.server);
	fixture_free_pair(&pair);
	return result;
}

static void test_resumption(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct tls_ctx *server = build_server(versions[i], 100);
		/* two names in one place of so many are unlikely enough */
		struct tls_ctx *client = build_client("alice", 1000000);

		assert_int_equal(shake(client, server, "one:5432"), 0);
		assert_int_equal(shake(client, server, "one:5432"), 1);
		assert_int_equal(shake(client, server, "one:5432"), 1); /* and each leads to the next */
		assert_int_equal(shake(client, server, "two:5432"), 0);
		assert_int_equal(shake(client, server, NULL), 0);
		assert_int_equal(shake(client, server, "one:5432"), 1);
		assert_int_equal(shake(client, server, "two:5432"), 1);
		tls_ctx_release(&server);
		tls_ctx_release(&client);
	}
}

static void test_no_resumption(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		for (unsigned side = 0; side < 2; side++) {
			struct tls_ctx *server = build_server(versions[i], side == 0 ? 0 : 100);
			struct tls_ctx *client = build_client("alice", side == 1 ? 0 : 100);

			assert_int_equal(shake(client, server, "one:5432"), 0);
			assert_int_equal(shake(client, server, "one:5432"), 0);
			tls_ctx_release(&server);
			tls_ctx_release(&client);
		}
	}
}

/* A client that keeps no ticket resumes what the server remembers. */
static void test_session_ids(void **state UNUSED)
{
	struct tls_ctx *server = build_server("tlsv1.2", 100);
	struct tls_ctx *client = build_client("alice", 100);

	SSL_CTX_set_options(tls_ctx_ssl(client), SSL_OP_NO_TICKET);
	assert_int_equal(shake(client, server, "one:5432"), 0);
	assert_int_equal(shake(client, server, "one:5432"), 1);
	assert_int_equal(SSL_CTX_sess_number(tls_ctx_ssl(server)), 1);
	tls_ctx_release(&server);
	tls_ctx_release(&client);
}

/* A session from before does not help whoever is not trusted any more. */
static void test_other_context(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct tls_ctx *server = build_server(versions[i], 100);
		struct tls_ctx *client = build_client("alice", 100);
		struct fixture_cert other = fixture_new_cert("other authority", NULL, 30);

		assert_int_equal(shake(client, server, "one:5432"), 0);
		assert_int_equal(shake(client, server, "one:5432"), 1);
		tls_ctx_release(&server);
		/* the same settings, the same file, another content */
		fixture_write_certs("ca.crt", other.cert, NULL);
		server = build_server(versions[i], 100);
		fixture_write_certs("ca.crt", ca.cert, NULL);
		assert_int_equal(shake(client, server, "one:5432"), -1);
		tls_ctx_release(&server);
		tls_ctx_release(&client);
		fixture_free_cert(&other);
	}
}

static void ignore_time(struct tls_ctx *ctx)
{
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(tls_ctx_ssl(ctx)), X509_V_FLAG_NO_CHECK_TIME);
}

/* A certificate that expires while a session can be resumed: here it had, when the session was agreed. */
static void test_expired_client(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct tls_ctx *server = build_server(versions[i], 100);
		struct tls_ctx *client = build_client("expired", 100);

		assert_int_equal(shake(client, server, "one:5432"), -1);
		ignore_time(server);
		assert_int_equal(shake(client, server, "one:5432"), 0);
		assert_int_equal(shake(client, server, "one:5432"), 0);
		tls_ctx_release(&server);
		tls_ctx_release(&client);
	}
}

/* ... and here it will soon: a session that the server itself remembers is forgotten with it. */
static void test_brief_client(void **state UNUSED)
{
	struct fixture_cert brief = fixture_new_cert_for("bob", &ca, 600);
	struct tls_ctx *server = build_server("tlsv1.2", 100);
	struct tls_ctx *client;
	struct fixture_pair pair;

	fixture_write("brief", &brief);
	client = build_client("brief", 0); /* and no tickets */
	pair = fixture_new_pair(tls_ctx_ssl(client), tls_ctx_ssl(server));
	assert_true(fixture_shake(&pair));
	assert_int_equal(SSL_CTX_sess_number(tls_ctx_ssl(server)), 1);
	assert_in_range(SSL_SESSION_get_timeout(SSL_get_session(pair.server)), 1, 600);
	fixture_free_pair(&pair);
	tls_ctx_release(&server);
	tls_ctx_release(&client);
	fixture_free_cert(&brief);
}

static void test_expired_server(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct tls_setup setup = {
			.faces_clients = true,
			.verify = TLS_VERIFY_REQUIRED,
			.key_file = fixture_path("expired.key"),
			.cert_file = fixture_path("expired.crt"),
			.ca_file = fixture_path("ca.crt"),
			.protocols = versions[i],
			.session_cache = 100,
		};
		struct tls_ctx *server = must_build(&setup);
		struct tls_ctx *client = build_client("alice", 100);

		ignore_time(client);
		assert_int_equal(shake(client, server, "one:5432"), 0);
		assert_int_equal(shake(client, server, "one:5432"), 0);
		tls_ctx_release(&server);
		tls_ctx_release(&client);
	}
}

/* A place for one session: the last target has it. */
static void test_bound(void **state UNUSED)
{
	struct tls_ctx *server = build_server("tlsv1.3", 100);
	struct tls_ctx *client = build_client("alice", 1);

	assert_int_equal(shake(client, server, "one:5432"), 0);
	assert_int_equal(shake(client, server, "two:5432"), 0);
	assert_int_equal(shake(client, server, "two:5432"), 1);
	assert_int_equal(shake(client, server, "one:5432"), 0);
	tls_ctx_release(&server);
	tls_ctx_release(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ticket_keys),   cmocka_unit_test(test_resumption),
		cmocka_unit_test(test_no_resumption), cmocka_unit_test(test_session_ids),
		cmocka_unit_test(test_other_context), cmocka_unit_test(test_expired_client),
		cmocka_unit_test(test_brief_client),  cmocka_unit_test(test_expired_server),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
