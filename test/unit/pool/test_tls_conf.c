/*
 * TLS as the settings want it: what a reload keeps, what makes servers of no
 * more use, and what settings cannot go together.
 */
#include "pool/tls_conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../net/tls_fixture.h"
#include "core/alloc.h"
#include "core/err.h"

static struct fixture_cert ca;
static struct fixture_cert other_ca;

static int make_files(void **state UNUSED)
{
	str_copy(fixture_dir, sizeof(fixture_dir), "/tmp/pgsluice-tls-XXXXXX");
	assert_non_null(mkdtemp(fixture_dir));
	ca = fixture_new_cert("authority", NULL, 30);
	other_ca = fixture_new_cert("other authority", NULL, 30);
	fixture_write("ca", &ca);
	return 0;
}

static int remove_files(void **state UNUSED)
{
	unlink(fixture_path("ca.crt"));
	unlink(fixture_path("ca.key"));
	fixture_free_cert(&ca);
	fixture_free_cert(&other_ca);
	return rmdir(fixture_dir);
}

static int read_text(void *text, const char *path UNUSED, char **out, size_t *len)
{
	*out = xstrdup(text);
	*len = strlen(*out);
	return 0;
}

/* The outcome for a file with this content, after what was in force before. */
static int make(const char *section, const char *settings, struct tls_conf *old, struct tls_conf **out)
{
	struct conf_error err;
	struct conf *conf;
	char text[2048];
	int rc;

	str_format(text, sizeof(text), "[%s]\n%s\n", section, settings);
	conf_error_init(&err);
	assert_int_equal(conf_load_from(read_text, text, "test.ini", &conf, &err), 0);
	rc = tls_conf_make(conf, old, out, &err);
	if (rc != 0)
		assert_non_null(err.what);
	conf_error_fini(&err);
	conf_release(&conf);
	return rc;
}

static struct tls_conf *must_make(const char *section, const char *settings, struct tls_conf *old)
{
	struct tls_conf *tls;

	assert_int_equal(make(section, settings, old, &tls), 0);
	return tls;
}

static void test_defaults(void **state UNUSED)
{
	static const char *const sections[] = { "pgbouncer", "pgsluice" };

	for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
		struct tls_conf *tls = must_make(sections[i], "", NULL);
		struct tls_conf *again = must_make(sections[i], "listen_port = 7000", tls);

		assert_int_equal(tls->client_mode, CONF_SSL_DISABLE);
		assert_null(tls->client);
		assert_int_equal(tls->server_mode, CONF_SSL_PREFER);
		assert_non_null(tls->server);
		assert_ptr_equal(tls, again);
		tls_conf_release(&again);
		tls_conf_release(&tls);
	}
}

static void test_server_settings(void **state UNUSED)
{
	static const char *const changes[] = {
		"server_tls_sslmode = require", "server_tls_sslnegotiation = direct", "server_tls_protocols = tlsv1.3",
		"server_tls_ca_file = /unread", "server_tls_ciphers = HIGH",
	};
	struct tls_conf *tls = must_make("pgbouncer", "", NULL);

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		struct tls_conf *fresh = must_make("pgbouncer", changes[i], tls);

		assert_int_not_equal(fresh->server_version, tls->server_version);
		tls_conf_release(&fresh);
	}
	tls_conf_release(&tls);
}

/* Nobody has TLS before and after: nothing has changed for anybody. */
static void test_settings_that_are_off(void **state UNUSED)
{
	struct tls_conf *tls = must_make("pgbouncer", "server_tls_sslmode = disable", NULL);
	struct tls_conf *fresh = must_make("pgbouncer", "server_tls_sslmode = disable\nserver_tls_ciphers = HIGH", tls);
	struct tls_conf *on = must_make("pgbouncer", "server_tls_sslmode = prefer", fresh);

	assert_null(fresh->server);
	assert_int_equal(fresh->server_version, tls->server_version);
	assert_int_not_equal(on->server_version, fresh->server_version);
	tls_conf_release(&on);
	tls_conf_release(&fresh);
	tls_conf_release(&tls);
}

/* A file with another content is another context; whether it replaces servers, the profile says. */
static void check_files(const char *section, bool replaces)
{
	char settings[512];
	struct tls_conf *fresh;
	struct tls_conf *tls;

	str_format(settings, sizeof(settings), "server_tls_sslmode = verify-ca\nserver_tls_ca_file = %s",
		   fixture_path("ca.crt"));
	fixture_write_certs("ca.crt", ca.cert, NULL);
	tls = must_make(section, settings, NULL);
	fixture_write_certs("ca.crt", ca.cert, other_ca.cert);
	fresh = must_make(section, settings, tls);
	assert_ptr_not_equal(fresh->server, tls->server);
	assert_int_equal(fresh->server_version != tls->server_version, replaces);
	tls_conf_release(&fresh);
	tls_conf_release(&tls);
}

static void test_files(void **state UNUSED)
{
	check_files("pgbouncer", false);
	check_files("pgsluice", true);
}

static void test_what_does_not_go_together(void **state UNUSED)
{
	static const char *const bad[] = {
		"auth_type = cert",
		"auth_type = cert\nclient_tls_sslmode = require",
		"client_tls_sslmode = verify-full",
		"client_tls_sslmode = prefer",
		"server_tls_sslmode = verify-full\nserver_tls_ca_file = /nowhere",
	};
	struct tls_conf *tls = must_make("pgbouncer", "", NULL);
	struct tls_conf *fresh;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(make("pgbouncer", bad[i], tls, &fresh) < 0);
		assert_null(fresh);
	}
	tls_conf_release(&tls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_server_settings),
		cmocka_unit_test(test_settings_that_are_off),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_what_does_not_go_together),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
