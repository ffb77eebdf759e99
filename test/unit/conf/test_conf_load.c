/* Whole loads: sections, messages, atomicity, includes, reload and SET. */
#include "conf_test.h"

#include <stdio.h>

static void test_smallest(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\n");

	assert_int_equal(conf->profile, CONF_PROFILE_PGBOUNCER);
	assert_int_equal(conf->listen_port, 6432);
	assert_string_equal(conf->file, "main");
	assert_string_equal(conf->conffile, "main");
	assert_null(conf->user);
	assert_null(conf->auth_file);
	assert_non_null(conf->logfile);
	assert_int_equal(conf->db_count, 0);
	assert_null(conf->autodb);
	assert_false(conf->set_in_file[CONF_ID_listen_port]);
	conf_release(&conf);
	assert_null(conf);
	conf_release(&conf);
}

static void test_profiles(void **state)
{
	struct conf *b = load_good("[pgbouncer]");
	struct conf *s = load_good("[pgsluice]");

	assert_int_equal(b->pool_mode, CONF_POOL_SESSION);
	assert_int_equal(s->pool_mode, CONF_POOL_TRANSACTION);
	assert_int_equal(b->auth_type, CONF_AUTH_MD5);
	assert_int_equal(s->auth_type, CONF_AUTH_SCRAM);
	assert_int_equal(b->max_client_conn, 100);
	assert_int_equal(s->max_client_conn, 10000);
	assert_int_equal(b->query_timeout_action, CONF_TIMEOUT_DISCONNECT);
	assert_int_equal(s->query_timeout_action, CONF_TIMEOUT_CANCEL);
	assert_int_equal(b->error_style, CONF_ERROR_PGBOUNCER);
	assert_int_equal(s->error_style, CONF_ERROR_POSTGRES);
	assert_int_equal(b->breaker_failure_threshold, 0);
	assert_true(s->breaker_failure_threshold > 0);
	assert_int_equal(s->profile, CONF_PROFILE_PGSLUICE);
	assert_string_equal(conf_show_default(s, CONF_ID_pool_mode), "transaction");
	conf_release(&b);
	conf_release(&s);
}

static void test_main_section(void **state)
{
	struct conf *conf;

	load_bad("", -E_SYNTAX, "main section missing from config file");
	load_bad("[databases]\na=\n", -E_SYNTAX, "main section missing from config file");
	load_bad("[foo]\na=1\n", -E_SYNTAX, "invalid section \"foo\" in configuration (main:1)");
	load_bad("[ pgbouncer]\n", -E_SYNTAX, "invalid section \" pgbouncer\" in configuration (main:1)");
	load_bad("[PgBouncer]\n", -E_SYNTAX, "invalid section \"PgBouncer\" in configuration (main:1)");
	load_bad("listen_port=1\n", -E_SYNTAX, "value without section: listen_port");
	load_bad("[pgbouncer]\n[databases]\na=\n[pgsluice]\n", -E_SYNTAX,
		 "invalid section \"pgsluice\" in configuration (main:4)");
	conf = load_good("[users]\nu=\n[databases]\na=\n[pgbouncer]\nlisten_port=1\n[databases]\nb=\n");
	assert_int_equal(conf->db_count, 2);
	assert_int_equal(conf->listen_port, 1);
	conf_release(&conf);
}

static void test_second_header_resets(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\nlisten_port=1\nuser=u\nadmin_users=a\n[databases]\na=\n"
				      "[pgbouncer]\nlisten_backlog=7\n");

	assert_int_equal(conf->listen_port, 6432);
	assert_int_equal(conf->listen_backlog, 7);
	assert_null(conf->user);
	assert_int_equal(conf->admin_users.count, 0);
	assert_false(conf->set_in_file[CONF_ID_listen_port]);
	assert_int_equal(conf->db_count, 1);
	conf_release(&conf);
}

static void test_last_of_two_counts(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\nlisten_port=1\nlisten_port=2\n");

	assert_int_equal(conf->listen_port, 2);
	conf_release(&conf);
}

static void test_messages(void **state)
{
	load_bad("[pgbouncer]\nfoo=1\n", -E_SYNTAX, "unknown parameter: pgbouncer/foo");
	load_bad("[pgsluice]\nfoo=1\n", -E_SYNTAX, "unknown parameter: pgsluice/foo");
	load_bad("[pgbouncer]\n\n Listen_Port=1\n", -E_SYNTAX,
		 "invalid value \"1\" for parameter Listen_Port in configuration (main:3)");
	load_bad("[pgbouncer]\nlisten_port=1x\n", -E_SYNTAX,
		 "invalid value \"1x\" for parameter listen_port in configuration (main:2)");
	load_bad("[pgbouncer]\nlisten_prot=1\n", -E_SYNTAX, "hint: did you mean listen_port?");
	load_bad("[pgbouncer]\nlisten_port 1\n", -E_SYNTAX, "syntax error in configuration (main:2), stopping loading");
	load_bad("[pgbouncer]\nservice_name=x\n", -E_SYNTAX, "unknown parameter: pgbouncer/service_name");
	load_bad("[pgbouncer]\nauth_dbname=pgbouncer\n", -E_RANGE,
		 "cannot use the reserved \"pgbouncer\" database as an auth_dbname");
	load_bad("[pgsluice]\nauth_dbname=pgsluice\n", -E_RANGE,
		 "cannot use the reserved \"pgsluice\" database as an auth_dbname");
}

static void test_error_in_parts(void **state)
{
	struct mem_file files[] = { { "main", "[pgbouncer]\n%include sub\n", 0 },
				    { "sub", "\nlisten_port=70000\n", 0 },
				    { NULL, NULL, 0 } };
	struct conf_error err;
	struct conf *conf;

	assert_int_equal(load_files(files, &conf, &err), -E_RANGE);
	assert_string_equal(err.file, "sub");
	assert_int_equal(err.line, 2);
	assert_string_equal(err.what, "invalid value \"70000\" for parameter listen_port");
	assert_string_equal(err.hint, "listen_port is a whole number from 1 to 65535");
	assert_int_equal(err.count, 3);
	assert_string_equal(err.messages[2].text,
			    "error processing include file in configuration (main:2), stopping loading");
	assert_int_equal(err.messages[0].level, LOG_LVL_ERROR);
	conf_error_fini(&err);
	assert_null(err.what);
}

/* Asserts that the messages at ERROR are these, up to NULL, and no others. */
static void assert_errors(const struct conf_error *err, const char *const *texts)
{
	size_t n = 0;

	for (size_t i = 0; i < err->count; i++) {
		if (err->messages[i].level != LOG_LVL_ERROR)
			continue;
		assert_non_null(texts[n]);
		assert_string_equal(err->messages[i].text, texts[n++]);
	}
	assert_null(texts[n]);
}

static void test_every_bad_line_is_reported(void **state)
{
	static const char *const expected[] = {
		"unknown parameter: pgbouncer/pool_mod",
		"invalid value \"x\" for parameter pool_mod in configuration (main:2)",
		"hint: did you mean pool_mode?",
		"invalid port: 0",
		"invalid value \"port=0\" for parameter a in configuration (main:5)",
		"hint: port is a whole number from 1 to 65535",
		"invalid section \"nonsense\" in configuration (main:7)",
		"hint: the sections are [pgbouncer] or [pgsluice], [databases], [users] and [peers]",
		"unrecognized user parameter: sice",
		"invalid value \"sice=1\" for parameter u in configuration (main:10)",
		"hint: doc/config.md lists the keys",
		"syntax error in configuration (main:11), stopping loading",
		"hint: expected = after the name",
		NULL,
	};
	struct conf_error err;
	struct conf *conf;

	assert_int_equal(load_text("[pgbouncer]\npool_mod = x\nlisten_port = 7\n[databases]\na = port=0\nb =\n"
				   "[nonsense]\nx = 1\n[users]\nu = sice=1\nbroken\n[peers]\n0 = never read\n",
				   &conf, &err),
			 -E_SYNTAX);
	assert_null(conf);
	assert_errors(&err, expected);
	assert_string_equal(err.what, "unknown parameter: pgbouncer/pool_mod"); /* the first of them */
	assert_int_equal(err.line, 2);
	conf_error_fini(&err);
}

static void test_many_bad_lines_end_the_reading(void **state)
{
	char text[4096] = "[pgbouncer]\n";
	struct conf_error err;
	struct conf *conf;
	size_t lines = 0;

	for (unsigned i = 0; i < 100; i++)
		str_append(text, sizeof(text), "listen_port = %u\n", 70000 + i);
	assert_int_equal(load_text(text, &conf, &err), -E_RANGE);
	for (size_t i = 0; i < err.count; i++)
		lines += strstr(err.messages[i].text, "(main:") != NULL;
	assert_int_equal(lines, 20);
	conf_error_fini(&err);
}

static void test_secrets_stay_out_of_messages(void **state)
{
	static const char *const texts[] = {
		"[databases]\na=host=h PassWord=topsecret port=0\n[pgbouncer]\n",
		"[databases]\na=password=topsecret x\n[pgbouncer]\n",
		"[databases]\na=password='topsecret\n[pgbouncer]\n",
		"[databases]\na=hots=1 password='topsecret'\n[pgbouncer]\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct conf_error err;
		struct conf *conf;

		assert_true(load_text(texts[i], &conf, &err) < 0);
		for (size_t m = 0; m < err.count; m++)
			assert_null(strstr(err.messages[m].text, "topsecret"));
		assert_null(strstr(err.what, "topsecret"));
		conf_error_fini(&err);
	}
}

static void test_nothing_is_handed_out_on_error(void **state)
{
	struct conf *old = load_good("[pgbouncer]\nlisten_backlog=5\n");
	struct mem_file files[] = { { "main", "[pgbouncer]\nlisten_backlog=6\n[databases]\na=port=0\n", 0 },
				    { NULL, NULL, 0 } };
	struct conf_error err;
	struct conf *out = old;

	conf_error_init(&err);
	assert_int_equal(conf_load_from(mem_read, files, "main", &out, &err), -E_RANGE);
	assert_ptr_equal(out, old);
	assert_int_equal(old->listen_backlog, 5);
	conf_error_fini(&err);
	conf_release(&old);
}

static void test_sections_go_on_across_includes(void **state)
{
	struct mem_file files[] = { { "main", "[pgbouncer]\n%include one\nlisten_backlog=9\n", 0 },
				    { "one", "listen_port=7\n[databases]\na=\n%include two\n", 0 },
				    { "two", "b=\n[pgbouncer]\n", 0 },
				    { NULL, NULL, 0 } };
	struct conf_error err;
	struct conf *conf;

	assert_int_equal(load_files(files, &conf, &err), 0);
	assert_int_equal(conf->listen_port, 6432); /* the header in "two" has reset it */
	assert_int_equal(conf->listen_backlog, 9);
	assert_int_equal(conf->db_count, 2);
	conf_error_fini(&err);
	conf_release(&conf);
}

static void test_nul_ends_the_file(void **state)
{
	static const char text[] = "[pgbouncer]\nlisten_port=7\0\n[broken";
	struct mem_file files[] = { { "main", text, sizeof(text) - 1 }, { NULL, NULL, 0 } };
	struct conf_error err;
	struct conf *conf;

	assert_int_equal(load_files(files, &conf, &err), 0);
	assert_int_equal(conf->listen_port, 7);
	conf_error_fini(&err);
	conf_release(&conf);
}

/* What inih would make of these lines by itself is wrong in each case. */
static void test_values_that_inih_would_spoil(void **state)
{
	static const char host[] = "h0123456789,";
	char text[8192] = "[pgbouncer]\nserver_reset_query = a ; b # c\n"
			  "[databases]\n"
			  "  'my db' = connect_query='select 1 ; select 2'\n"
			  "  'a:b'=port=1\n"
			  "\tlong = host=";
	const struct conf_db *db;
	struct conf *conf;

	for (int i = 0; i < 417; i++)
		str_append(text, sizeof(text), "%s", host);
	str_append(text, sizeof(text), "end port=99\nnext=\n");
	conf = load_good(text);
	assert_string_equal(conf->server_reset_query, "a ; b # c");
	assert_string_equal(conf_find_db(conf, "my db")->connect_query, "select 1 ; select 2");
	assert_int_equal(conf_find_db(conf, "a:b")->port, 1);
	db = conf_find_db(conf, "long");
	assert_int_equal(strlen(db->host.text), 417 * (sizeof(host) - 1) + 3);
	assert_int_equal(db->host.count, 418);
	assert_string_equal(db->host.items[417], "end");
	assert_int_equal(db->port, 99);
	assert_non_null(conf_find_db(conf, "next"));
	conf_release(&conf);
}

/* ---- files on disk ---- */

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fputs(text, f) < 0, 0);
	assert_int_equal(fclose(f), 0);
}

/* A directory of our own to be in, so that relative includes can be tried. */
static int enter_directory(void **state)
{
	static char name[sizeof("conf_load.XXXXXX")];

	memcpy(name, "conf_load.XXXXXX", sizeof(name));
	if (mkdtemp(name) == NULL || chdir(name) != 0)
		return -1;
	*state = name;
	return 0;
}

static int leave_directory(void **state)
{
	static const char *const files[] = { "c.ini", "sub.ini", "d.ini" };

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		unlink(files[i]);
	return chdir("..") != 0 || rmdir(*state) != 0;
}

static struct conf *load_file(const char *path)
{
	struct conf_error err;
	struct conf *conf;

	conf_error_init(&err);
	assert_int_equal(conf_load(path, &conf, &err), 0);
	conf_error_fini(&err);
	return conf;
}

static void test_files(void **state)
{
	struct conf_error err;
	struct conf *conf;

	write_file("c.ini", "[pgbouncer]\n%include sub.ini\n");
	write_file("sub.ini", "listen_port=99\n");
	conf = load_file("./c.ini");
	assert_int_equal(conf->listen_port, 99);
	assert_string_equal(conf->file, "./c.ini");
	conf_release(&conf);

	conf_error_init(&err);
	assert_int_equal(conf_load("none.ini", &conf, &err), -E_SYS);
	assert_string_equal(err.messages[0].text, "could not load file \"none.ini\": No such file or directory");
	conf_error_fini(&err);
	assert_int_equal(conf_load(".", &conf, &err), -E_SYS);
	assert_string_equal(err.messages[0].text, "could not load file \".\": Is a directory");
	conf_error_fini(&err);
}

static void test_reload(void **state)
{
	struct conf_error err;
	struct conf *old;
	struct conf *new;

	write_file("c.ini", "[pgbouncer]\nlisten_port=1\nquery_timeout=5\nauth_user=x\nuser=me\nthreads=3\n");
	old = load_file("c.ini");
	write_file("c.ini", "[pgbouncer]\nlisten_port=2\nthreads=3\n[databases]\na=\n");
	conf_error_init(&err);
	assert_int_equal(conf_reload(old, &new, &err), 0);
	assert_int_equal(new->listen_port, 2); /* what the file says, to be compared */
	conf_keep_started(new, old);
	assert_int_equal(new->listen_port, 1); /* restart only */
	assert_string_equal(new->user, "me");
	assert_int_equal(new->threads, 3);
	assert_int_equal(new->query_timeout_us, 0); /* omitted: the default again */
	assert_null(new->auth_user);                /* the same where the default is "never set" */
	assert_int_equal(new->db_count, 1);
	assert_int_equal(err.count, 0);
	conf_release(&new);

	write_file("c.ini", "[pgbouncer]\nquery_timeout=x\n");
	new = NULL;
	assert_int_equal(conf_reload(old, &new, &err), -E_SYNTAX);
	assert_null(new);
	conf_error_fini(&err);
	conf_release(&old);
}

static void test_a_reload_does_not_change_the_profile(void **state)
{
	struct conf_error err;
	struct conf *old;
	struct conf *new = NULL;

	write_file("c.ini", "[pgbouncer]\n");
	old = load_file("c.ini");
	write_file("c.ini", "[pgsluice]\n");
	conf_error_init(&err);
	assert_int_equal(conf_reload(old, &new, &err), -E_SYNTAX);
	assert_null(new);
	assert_string_equal(err.what, "the file has [pgsluice], but this process was started with [pgbouncer]");
	assert_string_equal(err.file, "c.ini");
	assert_int_equal(err.count, 2);
	conf_error_fini(&err);
	conf_release(&old);
}

static void test_conffile_names_the_next_file(void **state)
{
	struct conf_error err;
	struct conf *old;
	struct conf *set;
	struct conf *new;

	write_file("c.ini", "[pgbouncer]\n");
	write_file("d.ini", "[pgbouncer]\nquery_timeout=7\n");
	old = load_file("c.ini");
	conf_error_init(&err);
	assert_int_equal(conf_set(old, "conffile", "d.ini", &set, &err), 0);
	assert_int_equal(conf_reload(set, &new, &err), 0);
	assert_int_equal(new->query_timeout_us, 7000000);
	assert_string_equal(new->conffile, "d.ini");
	conf_release(&old);
	conf_release(&set);
	conf_release(&new);
	conf_error_fini(&err);
}

/* ---- SET ---- */

static void test_set(void **state)
{
	struct conf *old =
		load_good("[pgbouncer]\nadmin_users=a\nlisten_port=5\n[databases]\ndb=port=3\n[users]\nu=\n");
	struct conf_error err;
	struct conf *new;

	conf_error_init(&err);
	assert_int_equal(conf_set(old, "query_timeout", "1.5", &new, &err), 0);
	assert_int_equal(new->query_timeout_us, 1500000);
	assert_int_equal(old->query_timeout_us, 0);
	assert_true(new->set_in_file[CONF_ID_query_timeout]);
	assert_false(old->set_in_file[CONF_ID_query_timeout]);
	assert_int_equal(err.count, 0);
	assert_ptr_not_equal(new->admin_users.items, old->admin_users.items);
	conf_release(&old);
	/* The copy lives on its own. */
	assert_true(conf_list_has(&new->admin_users, "a"));
	assert_int_equal(new->listen_port, 5);
	assert_true(new->set_in_file[CONF_ID_listen_port]);
	assert_int_equal(conf_find_db(new, "db")->port, 3);
	assert_non_null(conf_find_user(new, "u"));
	conf_release(&new);
}

static void test_set_refuses(void **state)
{
	struct conf *old = load_good("[pgbouncer]\n");
	struct conf_error err;
	struct conf *new = NULL;

	conf_error_init(&err);
	assert_int_equal(conf_set(old, "nonsense", "1", &new, &err), -E_NOENT);
	assert_string_equal(err.messages[0].text, "unknown parameter: pgbouncer/nonsense");
	conf_error_fini(&err);
	assert_int_equal(conf_set(old, "query_timeout", "x", &new, &err), -E_SYNTAX);
	assert_string_equal(err.messages[0].text, "invalid value \"x\" for parameter query_timeout");
	conf_error_fini(&err);
	assert_int_equal(conf_set(old, "peer_id", "70000", &new, &err), -E_RANGE);
	conf_error_fini(&err);
	assert_null(new);
	conf_release(&old);
}

static void test_set_ignores_what_needs_a_restart(void **state)
{
	struct conf *old = load_good("[pgbouncer]\n");
	struct conf_error err;
	struct conf *new = NULL;

	conf_error_init(&err);
	assert_int_equal(conf_set(old, "listen_port", "77", &new, &err), 0);
	assert_int_equal(new->listen_port, 6432);
	assert_int_equal(err.count, 1);
	assert_null(err.what);
	conf_error_fini(&err);
	conf_release(&old);
	conf_release(&new);
}

static void test_hold(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\n");
	struct conf *again = conf_hold(conf);

	assert_ptr_equal(conf, again);
	conf_release(&conf);
	assert_int_equal(again->listen_port, 6432);
	conf_release(&again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_smallest),
		cmocka_unit_test(test_profiles),
		cmocka_unit_test(test_main_section),
		cmocka_unit_test(test_second_header_resets),
		cmocka_unit_test(test_last_of_two_counts),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_error_in_parts),
		cmocka_unit_test(test_secrets_stay_out_of_messages),
		cmocka_unit_test(test_every_bad_line_is_reported),
		cmocka_unit_test(test_many_bad_lines_end_the_reading),
		cmocka_unit_test(test_nothing_is_handed_out_on_error),
		cmocka_unit_test(test_sections_go_on_across_includes),
		cmocka_unit_test(test_nul_ends_the_file),
		cmocka_unit_test(test_values_that_inih_would_spoil),
		cmocka_unit_test_setup_teardown(test_files, enter_directory, leave_directory),
		cmocka_unit_test_setup_teardown(test_reload, enter_directory, leave_directory),
		cmocka_unit_test_setup_teardown(test_a_reload_does_not_change_the_profile, enter_directory,
						leave_directory),
		cmocka_unit_test_setup_teardown(test_conffile_names_the_next_file, enter_directory, leave_directory),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_set_refuses),
		cmocka_unit_test(test_set_ignores_what_needs_a_restart),
		cmocka_unit_test(test_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
