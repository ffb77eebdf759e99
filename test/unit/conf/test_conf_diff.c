/*
 * What distinguishes two configurations.
 */
#include "conf_test.h"

#include "conf/conf_diff.h"

/* All changes, a line each. */
static void check_with(const char *header, const char *old_text, const char *fresh_text, const char *expected)
{
	char old_file[4096];
	char fresh_file[4096];
	char got[8192] = "";
	char line[2048];
	struct conf *old;
	struct conf *fresh;
	struct conf_diff *diff;

	str_format(old_file, sizeof(old_file), "%s%s", header, old_text);
	str_format(fresh_file, sizeof(fresh_file), "%s%s", header, fresh_text);
	old = load_good(old_file);
	fresh = load_good(fresh_file);
	diff = conf_diff_new(old, fresh);
	for (size_t i = 0; i < diff->count; i++) {
		conf_change_describe(&diff->changes[i], line, sizeof(line));
		str_append(got, sizeof(got), "%s\n", line);
	}
	assert_string_equal(got, expected);
	conf_diff_free(&diff);
	assert_null(diff);
	conf_release(&old);
	conf_release(&fresh);
}

static void check(const char *old_text, const char *fresh_text, const char *expected)
{
	check_with("[pgbouncer]\n", old_text, fresh_text, expected);
}

static void check_dbs(const char *old_text, const char *fresh_text, const char *expected)
{
	check_with("[pgbouncer]\n[databases]\n", old_text, fresh_text, expected);
}

static void test_settings_of_each_type(void **state UNUSED)
{
	check("", "", "");
	check("log_stats=1\n", "log_stats=on\n", "");
	check("log_stats=1\n", "log_stats=off\n", "change setting log_stats: 1 -> 0 (now)\n");
	check("", "default_pool_size=0x10\n", "change setting default_pool_size: 20 -> 16 (now)\n");
	check("query_timeout=1.5\n", "", "change setting query_timeout: 1.5 -> 0 (now)\n");
	check("", "max_packet_size=70000\n", "change setting max_packet_size: 2147483647 -> 70000 (now)\n");
	check("", "pool_mode=Transaction\n", "change setting pool_mode: session -> transaction (now)\n");
	check("admin_users=a\n", "admin_users=a, b\n", "change setting admin_users: a -> 'a, b' (now)\n");
	check("auth_file=x\n", "", "change setting auth_file: x -> unset (now)\n");
	check("", "server_reset_query=\n", "change setting server_reset_query: 'DISCARD ALL' -> '' (now)\n");
}

static void test_effects(void **state UNUSED)
{
	check("", "listen_port=7\nthreads=3\n",
	      "change setting listen_port: 6432 -> 7 (restart)\nchange setting threads: 0 -> 3 (restart)\n");
	check("", "pkt_buf=7\njob_name=x\n",
	      "change setting job_name: pgbouncer -> x (none)\nchange setting pkt_buf: 4096 -> 7 (none)\n");
}

static void test_long_values_are_cut(void **state UNUSED)
{
	char text[512] = "auth_file=";
	char expected[512] = "change setting auth_file: unset -> '";

	for (unsigned i = 0; i < 300; i++)
		str_append(text, sizeof(text), "x");
	for (unsigned i = 0; i < 160; i++)
		str_append(expected, sizeof(expected), "x");
	str_append(text, sizeof(text), "\n");
	str_append(expected, sizeof(expected), "...' (now)\n");
	check("", text, expected);
}

static void test_databases(void **state UNUSED)
{
	check_dbs("b=port=1\na=\nc=pool_size=3\n", "c=pool_size=3\na=\nb=port=1\n", ""); /* in any order */
	check_dbs("a=\n", "a=dbname=a\n", "");
	check_dbs("", "a=host=h pool_size=3 password=secret\n",
		  "add database a: dbname=a host=h port=5432 password=**** pool_size=3 (now)\n");
	check_dbs("a=host=h\n", "", "remove database a (now)\n");
	check_dbs("a=pool_size=1\n", "a=pool_mode=statement server_lifetime=5\n",
		  "change database a: pool_size 1 -> unset, pool_mode unset -> statement, "
		  "server_lifetime unset -> 5 (now)\n");
	check_dbs("a=user=u password=old\n", "a=user=u password=new\n",
		  "change database a: password not shown (now)\n");
	check_dbs("x=\nb=\nd=\n", "a=\nb=port=9\nc=\nx=\n",
		  "add database a: dbname=a port=5432 (now)\n"
		  "change database b: port 5432 -> 9 (now, new servers)\n"
		  "add database c: dbname=c port=5432 (now)\n"
		  "remove database d (now)\n");
}

/* Does a change of this key make server connections useless? */
static bool recycles(const char *pair)
{
	struct conf *old = load_good("[pgbouncer]\n[databases]\na=\n");
	struct conf_diff *diff;
	struct conf *fresh;
	char text[128];
	bool result;

	str_format(text, sizeof(text), "[pgbouncer]\n[databases]\na=%s\n", pair);
	fresh = load_good(text);
	diff = conf_diff_new(old, fresh);
	assert_int_equal(diff->count, 1);
	result = diff->changes[0].effect == CONF_EFFECT_RECYCLE;
	assert_int_equal(conf_db_same_server(&old->dbs[0], &fresh->dbs[0]), !result);
	conf_diff_free(&diff);
	conf_release(&old);
	conf_release(&fresh);
	return result;
}

static void test_which_keys_recycle_servers(void **state UNUSED)
{
	static const char *const yes[] = { "dbname=x",
					   "host=x",
					   "port=1",
					   "user=x",
					   "connect_query=x",
					   "auth_dbname=x",
					   "auth_query=x",
					   "load_balance_hosts=disable",
					   "port=5432,5433 host=a,b" };
	static const char *const no[] = { "password=x",           "pool_size=1",
					  "min_pool_size=1",      "reserve_pool=1",
					  "pool_mode=session",    "target_session_attrs=primary",
					  "max_db_connections=1", "max_db_client_connections=1",
					  "server_lifetime=1",    "query_wait_timeout=1",
					  "auth_user=x",          "client_encoding=x",
					  "datestyle=x",          "timezone=x",
					  "application_name=x" };

	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		assert_true(recycles(yes[i]));
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		assert_false(recycles(no[i]));
}

static void test_the_entry_for_all_others(void **state UNUSED)
{
	check_dbs("*=host=h\n", "*=  host=h\n", "");
	check_dbs("", "*=host=h\n", "add database *: dbname=* host=h port=5432 (now)\n");
	check_dbs("*=host=h\n", "", "remove database * (now)\n");
	check_dbs("*=host=h\n", "*=host=i pool_size=2\n",
		  "change database *: host h -> i, pool_size unset -> 2 (now, new servers)\n");
	check_dbs("*=pool_size=1\n", "*=nonsense=1\n", "remove database * (now)\n");
	/* a line of its own that comes or goes */
	check_dbs("*=host=h\na=host=h\n", "*=host=h\n", "remove database a: made by the * entry from now on (now)\n");
	check_dbs("*=host=h\na=host=i\n", "*=host=h\n",
		  "remove database a: made by the * entry from now on (now, new servers)\n");
	check_dbs("*=host=h\n", "*=host=h\na=host=h pool_size=1\n",
		  "add database a: dbname=a host=h port=5432 pool_size=1 (now)\n");
	check_dbs("*=host=h\n", "*=host=h\na=host=i\n",
		  "add database a: dbname=a host=i port=5432 (now, new servers)\n");
}

static void test_users_and_peers(void **state UNUSED)
{
	check("[users]\na=pool_size=1\nb=\n", "[users]\na=pool_size=2 client_idle_timeout=5\nc=query_timeout=3\n",
	      "change user a: pool_size 1 -> 2, client_idle_timeout unset -> 5 (now)\n"
	      "remove user b (now)\n"
	      "add user c: query_timeout=3 (now)\n");
	check("[peers]\n1=host=a\n10=host=a\n", "[peers]\n2=host=b port=7\n10=host=a\n",
	      "remove peer 1 (now)\nadd peer 2: host=b port=7 (now)\n");
}

/* ---- sums ---- */

static void test_nothing_has_changed(void **state UNUSED)
{
	struct conf *conf = load_good("[pgbouncer]\n[databases]\na=\n");
	struct conf_diff *diff = conf_diff_new(conf, conf);
	char text[128];

	conf_diff_summarize(diff, text, sizeof(text));
	assert_string_equal(text, "nothing has changed");
	conf_diff_touch(diff, "a", 1, 1); /* nothing to book it to */
	conf_diff_free(&diff);
	conf_release(&conf);
}

static void test_summary_and_touched_connections(void **state UNUSED)
{
	struct conf *old = load_good("[pgbouncer]\nquery_timeout=1\n[databases]\na=\nb=\n*=port=1\n");
	struct conf *fresh =
		load_good("[pgbouncer]\nlisten_port=7\npkt_buf=1\n[databases]\na=port=7\nc=\n[users]\nu=\n");
	struct conf_diff *diff = conf_diff_new(old, fresh);
	char text[512];

	conf_diff_touch(diff, "a", 3, 0);
	conf_diff_touch(diff, "b", 2, 4);
	conf_diff_touch(diff, "made", 1, 1);
	conf_diff_touch(diff, "made too", 1, 1);
	conf_diff_add(diff, CONF_CHANGE_LOGIN, CONF_CHANGE_REMOVE, CONF_EFFECT_NOW, "bob", "");
	conf_diff_summarize(diff, text, sizeof(text));
	assert_string_equal(text, "settings: 1 changed, 1 at a restart only, 1 without effect in this version; "
				  "databases: 1 added, 1 changed, 2 removed; users: 1 added; logins: 1 removed; "
				  "connections affected: 7 to servers, 6 of clients");
	conf_change_describe(&diff->changes[diff->db_begin], text, sizeof(text));
	assert_string_equal(text, "change database a: port 5432 -> 7 (now, new servers) [3 to servers, 0 of clients]");
	conf_change_describe(&diff->changes[diff->db_end], text, sizeof(text));
	assert_string_equal(text, "remove database * (now) [2 to servers, 2 of clients]");
	conf_diff_free(&diff);
	conf_release(&old);
	conf_release(&fresh);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings_of_each_type),
		cmocka_unit_test(test_effects),
		cmocka_unit_test(test_long_values_are_cut),
		cmocka_unit_test(test_databases),
		cmocka_unit_test(test_which_keys_recycle_servers),
		cmocka_unit_test(test_the_entry_for_all_others),
		cmocka_unit_test(test_users_and_peers),
		cmocka_unit_test(test_nothing_has_changed),
		cmocka_unit_test(test_summary_and_touched_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
