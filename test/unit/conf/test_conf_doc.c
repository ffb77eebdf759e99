/* The report of --check, and that documentation and sample are those of the tables. */
#include "conf_test.h"

#include <stdio.h>

#include "core/str.h"

static char *printed(void (*print)(FILE *out))
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	print(out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static char *checked(const struct conf *conf)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	conf_print_check(conf, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

/* Path of a file of the source tree. */
static const char *source_path(const char *name, char *path, size_t size)
{
	const char *srcdir = getenv("srcdir");

	str_format(path, size, "%s/%s", srcdir != NULL ? srcdir : ".", name);
	return path;
}

static char *read_source(const char *name)
{
	char path[512];
	FILE *in = fopen(source_path(name, path, sizeof(path)), "r");
	char *text = xcalloc(1, 1 << 20);

	if (in == NULL)
		fail_msg("cannot open %s", path);
	assert_true(fread(text, 1, (1 << 20) - 1, in) > 0);
	assert_int_equal(fclose(in), 0);
	return text;
}

static void assert_is_fresh(const char *name, void (*print)(FILE *out))
{
	char *text = printed(print);
	char *file = read_source(name);

	if (strcmp(text, file) != 0)
		fail_msg("%s is not what the tables say; run make update-doc", name);
	free(text);
	free(file);
}

static void test_files_are_fresh(void **state)
{
	assert_is_fresh("doc/config.md", conf_print_options);
	assert_is_fresh("etc/pgsluice.ini", conf_print_sample);
}

static void test_every_key_is_documented(void **state)
{
	char *reference = read_source("doc/config.md");
	char *sample = read_source("etc/pgsluice.ini");

	for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
		char in_reference[64];
		char commented[64];
		char set[64];

		str_format(in_reference, sizeof(in_reference), "\n| `%s` | ", conf_key(id));
		str_format(commented, sizeof(commented), "\n;%s =", conf_key(id));
		str_format(set, sizeof(set), "\n%s =", conf_key(id));
		if (strstr(reference, in_reference) == NULL)
			fail_msg("%s is not in doc/config.md", conf_key(id));
		if (strstr(sample, commented) == NULL && strstr(sample, set) == NULL)
			fail_msg("%s is not in etc/pgsluice.ini", conf_key(id));
	}
	free(reference);
	free(sample);
}

static void test_sample_loads(void **state)
{
	struct conf_error err;
	struct conf *conf;
	char path[512];

	conf_error_init(&err);
	assert_int_equal(conf_load(source_path("etc/pgsluice.ini", path, sizeof(path)), &conf, &err), 0);
	assert_int_equal(err.count, 0);
	assert_int_equal(conf->profile, CONF_PROFILE_PGSLUICE);
	assert_true(conf_list_has(&conf->listen_addr, "127.0.0.1"));
	conf_release(&conf);
}

/* With every example made real the sample is still good, and changes no default. */
static void test_sample_loads_without_comments(void **state)
{
	char *sample = read_source("etc/pgsluice.ini");
	struct conf *conf;

	for (char *p = sample; (p = strstr(p, "\n;")) != NULL; p++) {
		if (p[2] != ';')
			p[1] = ' ';
	}
	conf = load_good(sample);
	for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
		const char *preset = conf_show_default(conf, id);

		if (id == CONF_ID_listen_addr || id == CONF_ID_auth_file || id == CONF_ID_unix_socket_mode ||
		    preset == NULL)
			continue;
		assert_true(conf->set_in_file[id]);
		assert_shows(conf, conf_key(id), preset);
	}
	assert_non_null(conf_find_db(conf, "shop"));
	assert_string_equal(conf_find_db(conf, "report")->connect_query, "SET work_mem = '64MB'");
	assert_non_null(conf->autodb);
	assert_non_null(conf_find_user(conf, "batch"));
	assert_non_null(conf_find_peer(conf, 1));
	free(sample);
	conf_release(&conf);
}

static void test_check_of_nothing(void **state)
{
	struct conf *conf = load_good("[pgsluice]\nlisten_port=6432\nserver_tls_sslmode=disable\n");
	char *text = checked(conf);

	assert_string_equal(text, "# configuration\n"
				  "file\tmain\n"
				  "profile\tpgsluice\n"
				  "# settings that differ from the defaults\n"
				  "setting\tserver_tls_sslmode\tdisable\tprefer\n"
				  "# databases\n"
				  "# users\n"
				  "# peers\n"
				  "# accepted, without effect by design\n");
	free(text);
	conf_release(&conf);
}

static void test_check_of_everything(void **state)
{
	struct conf *conf = load_good(
		"[databases]\n"
		"'a\tb' = password=topsecret connect_query='x\\y' auth_user=au\n"
		"* = host=h load_balance_hosts=disable auth_query=q\n"
		"[users]\nu=pool_mode=session query_wait_timeout=0\n"
		"[peers]\n3=host=p\n"
		"[pgbouncer]\nlisten_port=7\npkt_buf=9\nmax_prepared_statements=200\n"
		"auth_type=pam\nqueue_shed=1\nserver_lifetime=1.5\nauth_ldap_options=topsecret\nauth_file=f\n");
	char *text = checked(conf);

	assert_string_equal(text, "# configuration\n"
				  "file\tmain\n"
				  "profile\tpgbouncer\n"
				  "# settings that differ from the defaults\n"
				  "setting\tauth_file\tf\t\n"
				  "setting\tauth_ldap_options\t****\t\n"
				  "setting\tauth_type\tpam\tmd5\n"
				  "setting\tlisten_port\t7\t6432\n"
				  "setting\tqueue_shed\t1\t0\n"
				  "setting\tserver_lifetime\t1.5\t3600\n"
				  "# databases\n"
				  "database\ta\\x09b\tdbname=a\\x09b\tport=5432\tpassword=****\tauth_user=au\t"
				  "connect_query=x\\\\y\n"
				  "database\t*\tdbname=*\thost=h\tport=5432\tauth_query=q\tload_balance_hosts=disable\n"
				  "# users\n"
				  "user\tu\tpool_mode=session\tquery_wait_timeout=0\n"
				  "# peers\n"
				  "peer\t3\thost=p\tport=6432\n"
				  "# accepted, without effect by design\n"
				  "noop\tpkt_buf\t9\t4096\n");
	free(text);
	conf_release(&conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_are_fresh),  cmocka_unit_test(test_every_key_is_documented),
		cmocka_unit_test(test_sample_loads),     cmocka_unit_test(test_sample_loads_without_comments),
		cmocka_unit_test(test_check_of_nothing), cmocka_unit_test(test_check_of_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
