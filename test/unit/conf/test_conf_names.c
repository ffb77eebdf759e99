/* Databases, users and peers: their keys, the * line, and which scope wins. */
#include "conf_test.h"

static void test_database_defaults(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\n[databases]\nfoo =\n");
	const struct conf_db *db = conf_find_db(conf, "foo");

	assert_non_null(db);
	assert_string_equal(db->name, "foo");
	assert_string_equal(db->dbname, "foo");
	assert_int_equal(db->host.count, 0);
	assert_null(db->host.text);
	assert_int_equal(db->port, 5432);
	assert_null(db->user);
	assert_null(db->password);
	assert_int_equal(db->pool_size, CONF_INHERIT);
	assert_int_equal(db->min_pool_size, CONF_INHERIT);
	assert_int_equal(db->reserve_pool_size, CONF_INHERIT);
	assert_int_equal(db->pool_mode, CONF_INHERIT);
	assert_int_equal(db->max_db_connections, CONF_INHERIT);
	assert_true(db->server_lifetime_us == CONF_INHERIT_US);
	assert_true(db->query_wait_timeout_us == CONF_INHERIT_US);
	assert_int_equal(db->load_balance_hosts, CONF_LOAD_BALANCE_ROUND_ROBIN);
	assert_null(db->connect_query);
	assert_false(db->is_auto);
	assert_null(conf_find_db(conf, "bar"));
	assert_null(conf_find_db(conf, "Foo"));
	conf_release(&conf);
}

static void test_ports_of_hosts(void **state UNUSED)
{
	struct conf *conf = load_good("[pgbouncer]\n[databases]\n"
				      "one = host=a,b port=6\n"
				      "each = port=6,7 host=a,b target_session_attrs=read-write\n");
	const struct conf_db *one = conf_find_db(conf, "one");
	const struct conf_db *each = conf_find_db(conf, "each");
	struct conf_db *copy = conf_db_copy(each);
	struct conf_error err;
	struct conf *bad;

	assert_int_equal(conf_db_port(one, 0), 6);
	assert_int_equal(conf_db_port(one, 1), 6);
	assert_int_equal(conf_db_port(each, 0), 6);
	assert_int_equal(conf_db_port(each, 1), 7);
	assert_int_equal(copy->port, 6);
	assert_int_equal(conf_db_port(copy, 1), 7);
	assert_true(conf_db_is_equal(each, copy));
	assert_false(conf_db_is_equal(each, one));
	assert_int_equal(conf_target_session_attrs(conf, one), CONF_ATTRS_ANY);
	assert_int_equal(conf_target_session_attrs(conf, each), CONF_ATTRS_READ_WRITE);
	conf_db_free(&copy);
	conf_release(&conf);
	assert_int_equal(load_text("[pgbouncer]\n[databases]\na = host=x,y port=1,2,3\n", &bad, &err), -E_SYNTAX);
	conf_error_fini(&err);
	assert_int_equal(load_text("[pgbouncer]\n[databases]\na = host=x,y port=1,99999\n", &bad, &err), -E_RANGE);
	conf_error_fini(&err);
}

static void test_database_keys(void **state)
{
	struct conf *conf = load_good(
		"[pgbouncer]\n[databases]\n"
		"a = dbname=d host=h1,h2 port=99 user=u password='p''w' auth_user=au auth_query='select $1' "
		"auth_dbname=ad pool_size=0 min_pool_size=2 reserve_pool_size=3 pool_mode=STATEMENT "
		"max_db_connections=4 max_db_client_connections=5 server_lifetime=6 query_wait_timeout=0 "
		"load_balance_hosts=Disable connect_query='set x' client_encoding=utf8 datestyle=iso timezone=gmt "
		"application_name=app\n"
		"b = reserve_pool=9 pool_size=-3 max_db_connections=0 server_lifetime=0 query_wait_timeout=-1\n");
	const struct conf_db *a = conf_find_db(conf, "a");
	const struct conf_db *b = conf_find_db(conf, "b");

	assert_string_equal(a->dbname, "d");
	assert_int_equal(a->host.count, 2);
	assert_string_equal(a->host.items[1], "h2");
	assert_int_equal(a->port, 99);
	assert_string_equal(a->user, "u");
	assert_string_equal(a->password, "p'w");
	assert_string_equal(a->auth_user, "au");
	assert_string_equal(a->auth_query, "select $1");
	assert_string_equal(a->auth_dbname, "ad");
	assert_int_equal(a->pool_size, 0);
	assert_int_equal(a->min_pool_size, 2);
	assert_int_equal(a->reserve_pool_size, 3);
	assert_int_equal(a->pool_mode, CONF_POOL_STATEMENT);
	assert_int_equal(a->max_db_connections, 4);
	assert_int_equal(a->max_db_client_connections, 5);
	assert_int_equal(a->server_lifetime_us, 6000000);
	assert_int_equal(a->query_wait_timeout_us, 0);
	assert_int_equal(a->load_balance_hosts, CONF_LOAD_BALANCE_DISABLE);
	assert_string_equal(a->connect_query, "set x");
	assert_string_equal(a->client_encoding, "utf8");
	assert_string_equal(a->datestyle, "iso");
	assert_string_equal(a->timezone, "gmt");
	assert_string_equal(a->application_name, "app");

	assert_int_equal(b->reserve_pool_size, 9);
	assert_int_equal(b->pool_size, CONF_INHERIT);
	assert_int_equal(b->max_db_connections, CONF_INHERIT);
	assert_true(b->server_lifetime_us == CONF_INHERIT_US);
	assert_true(b->query_wait_timeout_us == CONF_INHERIT_US);
	conf_release(&conf);
}

static void test_database_errors(void **state)
{
	static const char name64[] = "[pgbouncer]\n[databases]\n"
				     "a123456789b123456789c123456789d123456789e123456789f123456789g123=\n";

	load_bad("[databases]\na=b\n", -E_SYNTAX, "syntax error in connection string");
	load_bad("[databases]\na=host=''\n", -E_SYNTAX,
		 "invalid value \"host=''\" for parameter a in configuration (main:2)");
	load_bad("[databases]\na=foo=1\n", -E_SYNTAX, "unrecognized connection parameter: foo");
	load_bad("[databases]\na=HOST=1\n", -E_SYNTAX, "unrecognized connection parameter: HOST");
	load_bad("[databases]\na=pol_size=1\n", -E_SYNTAX, "hint: did you mean pool_size?");
	load_bad("[databases]\na=port=0\n", -E_RANGE, "invalid port: 0");
	load_bad("[databases]\na=port=65536\n", -E_RANGE, "invalid port: 65536");
	load_bad("[databases]\na=port=x\n", -E_RANGE, "invalid port: x");
	load_bad("[databases]\na=pool_mode=x\n", -E_SYNTAX, "invalid pool mode: x");
	load_bad("[databases]\na=load_balance_hosts=x\n", -E_SYNTAX, "invalid load_balance_hosts: x");
	load_bad("[databases]\na=host=,\n", -E_SYNTAX,
		 "invalid value \"host=,\" for parameter a in configuration (main:2)");
	load_bad("[databases]\npgbouncer=\n", -E_RANGE, "database name \"pgbouncer\" is reserved");
	load_bad("[databases]\npgsluice=\n[pgsluice]\n", -E_RANGE, "database name \"pgsluice\" is reserved (main:2)");
	load_bad("[pgsluice]\n[databases]\npgsluice=\n", -E_RANGE, "database name \"pgsluice\" is reserved (main:3)");
	load_bad(name64, -E_RANGE,
		 "too long db name: a123456789b123456789c123456789d123456789e123456789f123456789g123");
}

static void test_counts_are_read_like_atoi(void **state)
{
	struct conf_error err;
	struct conf *conf;

	assert_int_equal(load_text("[pgbouncer]\n[databases]\na=pool_size=7.9 min_pool_size=abc "
				   "reserve_pool_size=010 max_db_connections=99999999999\n",
				   &conf, &err),
			 0);
	assert_int_equal(conf->dbs[0].pool_size, 7);
	assert_int_equal(conf->dbs[0].min_pool_size, 0);
	assert_int_equal(conf->dbs[0].reserve_pool_size, 10);
	assert_int_equal(conf->dbs[0].max_db_connections, INT_MAX);
	assert_int_equal(err.count, 2);
	assert_int_equal(err.messages[0].level, LOG_LVL_WARNING);
	assert_string_equal(err.messages[1].text, "\"abc\" is not a whole number, min_pool_size is taken as 0");
	conf_error_fini(&err);
	conf_release(&conf);
}

static void test_last_line_redefines(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\n[databases]\nb=port=1\na=port=1 user=x\nb=\na=port=2\nc=\n"
				      "[users]\nu=pool_size=3\nt=\nu=query_timeout=4\n"
				      "[peers]\n2=host=a\n1=host=b\n2=host=c port=7\n");

	assert_int_equal(conf->db_count, 3);
	assert_string_equal(conf->dbs[0].name, "a");
	assert_string_equal(conf->dbs[1].name, "b");
	assert_string_equal(conf->dbs[2].name, "c");
	assert_int_equal(conf_find_db(conf, "a")->port, 2);
	assert_null(conf_find_db(conf, "a")->user);
	assert_int_equal(conf_find_db(conf, "b")->port, 5432);
	assert_int_equal(conf->user_count, 2);
	assert_int_equal(conf_find_user(conf, "u")->pool_size, CONF_INHERIT);
	assert_int_equal(conf_find_user(conf, "u")->query_timeout_us, 4000000);
	assert_int_equal(conf->peer_count, 2);
	assert_string_equal(conf_find_peer(conf, 2)->host, "c");
	assert_int_equal(conf_find_peer(conf, 1)->port, 6432);
	assert_null(conf_find_peer(conf, 3));
	conf_release(&conf);
}

static void test_many_databases(void **state)
{
	char *text = xmalloc(200000);
	struct conf *conf;

	str_format(text, 200000, "[pgbouncer]\n[databases]\n");
	for (size_t i = 0, used = strlen(text); i < 3000; i++)
		used += str_format(text + used, 200000 - used, "db%zu=port=%zu\n", i * 7919 % 3000, i % 1000 + 1);
	conf = load_good(text);
	free(text);
	assert_int_equal(conf->db_count, 3000);
	for (size_t i = 0; i < 3000; i++) {
		char name[16];

		str_format(name, sizeof(name), "db%zu", i * 7919 % 3000);
		assert_int_equal(conf_find_db(conf, name)->port, i % 1000 + 1);
	}
	conf_release(&conf);
}

static void test_users(void **state)
{
	struct conf *conf = load_good(
		"[pgbouncer]\n[users]\n'a b' = pool_mode=transaction pool_size=1 reserve_pool_size=0 "
		"max_user_connections=2 max_user_client_connections=3 query_timeout=4 idle_transaction_timeout=5 "
		"transaction_timeout=6 query_wait_timeout=0 client_idle_timeout=7\nb=client_idle_timeout=0\n");
	const struct conf_user *u = conf_find_user(conf, "a b");

	assert_int_equal(u->pool_mode, CONF_POOL_TRANSACTION);
	assert_int_equal(u->pool_size, 1);
	assert_int_equal(u->reserve_pool_size, 0);
	assert_int_equal(u->max_user_connections, 2);
	assert_int_equal(u->max_user_client_connections, 3);
	assert_int_equal(u->query_timeout_us, 4000000);
	assert_int_equal(u->idle_transaction_timeout_us, 5000000);
	assert_int_equal(u->transaction_timeout_us, 6000000);
	assert_int_equal(u->query_wait_timeout_us, 0);
	assert_int_equal(u->client_idle_timeout_us, 7000000);
	assert_true(conf_find_user(conf, "b")->client_idle_timeout_us == CONF_INHERIT_US);
	conf_release(&conf);
	load_bad("[users]\na=host=x\n", -E_SYNTAX, "unrecognized user parameter: host");
}

static void test_peers(void **state)
{
	load_bad("[peers]\na=host=x\n", -E_RANGE, "invalid value \"host=x\" for parameter a in configuration (main:2)");
	load_bad("[peers]\n0=host=x\n", -E_RANGE, "hint: the name of a peer is a number from 1 to 65535");
	load_bad("[peers]\n65536=host=x\n", -E_RANGE, "hint: the name of a peer is a number from 1 to 65535");
	load_bad("[peers]\n99999999999999999999=host=x\n", -E_RANGE,
		 "hint: the name of a peer is a number from 1 to 65535");
	load_bad("[peers]\n1=port=7\n", -E_SYNTAX, "hint: add host=");
	load_bad("[peers]\n1=host=a user=u\n", -E_SYNTAX, "unrecognized connection parameter: user");
}

static void test_autodb(void **state)
{
	static const char long_name[] = "a123456789b123456789c123456789d123456789e123456789f123456789g123";
	struct conf *conf = load_good("[pgbouncer]\n[databases]\n*=port=1\n'*' = host=h port=7\n");
	struct conf_db *db = NULL;

	assert_int_equal(conf->db_count, 0);
	assert_string_equal(conf->autodb, "host=h port=7");
	assert_int_equal(conf_autodb(conf, "x", &db), 0);
	conf_release(&conf);
	/* It does not need the snapshot. */
	assert_string_equal(db->name, "x");
	assert_string_equal(db->dbname, "x");
	assert_string_equal(db->host.items[0], "h");
	assert_int_equal(db->port, 7);
	assert_true(db->is_auto);
	conf_db_free(&db);
	assert_null(db);

	conf = load_good("[pgbouncer]\n[databases]\n*=dbname=all\n");
	assert_int_equal(conf_autodb(conf, "x", &db), 0);
	assert_string_equal(db->dbname, "all");
	conf_db_free(&db);
	assert_int_equal(conf_autodb(conf, "", &db), -E_NOENT);
	assert_int_equal(conf_autodb(conf, "pgbouncer", &db), -E_NOENT);
	assert_int_equal(conf_autodb(conf, long_name, &db), -E_NOENT);
	conf_release(&conf);

	conf = load_good("[pgbouncer]\n[databases]\na=\n");
	assert_int_equal(conf_autodb(conf, "x", &db), -E_NOENT);
	conf_release(&conf);
	assert_null(db);
}

static void test_names_of_the_console(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\n[databases]\n*=\n");
	struct conf_db *db = NULL;

	assert_true(conf_is_console(conf, "pgbouncer") && conf_is_console(conf, "pgsluice"));
	assert_false(conf_is_console(conf, "postgres"));
	assert_int_equal(conf_autodb(conf, "pgsluice", &db), -E_NOENT);
	conf_release(&conf);
	/* PgBouncer has no console of that name. */
	conf = load_good("[databases]\npgsluice=port=7\n[pgbouncer]\n");
	assert_true(conf_is_console(conf, "pgbouncer"));
	assert_false(conf_is_console(conf, "pgsluice"));
	conf_release(&conf);
	conf = load_good("[pgsluice]\n");
	assert_true(conf_is_console(conf, "pgbouncer") && conf_is_console(conf, "pgsluice"));
	conf_release(&conf);
}

static void test_bad_autodb_is_a_warning(void **state)
{
	struct conf_db *db = NULL;
	struct conf_error err;
	struct conf *conf;

	assert_int_equal(load_text("[pgbouncer]\n[databases]\n*=port=0\n", &conf, &err), 0);
	assert_int_equal(err.count, 1);
	assert_int_equal(err.messages[0].level, LOG_LVL_WARNING);
	assert_int_equal(conf_autodb(conf, "x", &db), -E_SYNTAX);
	assert_null(db);
	conf_error_fini(&err);
	conf_release(&conf);
}

static void test_same_server(void **state)
{
	static const char *const same[] = { "password=x",        "pool_size=1",       "pool_mode=statement",
					    "auth_user=x",       "client_encoding=x", "server_lifetime=1",
					    "application_name=x" };
	static const char *const other[] = { "dbname=x",        "host=x",
					     "port=1",          "user=x",
					     "connect_query=x", "auth_dbname=x",
					     "auth_query=x",    "load_balance_hosts=disable" };
	struct conf *plain = load_good("[pgbouncer]\n[databases]\na=\n");

	for (size_t i = 0; i < ARRAY_LEN(same) + ARRAY_LEN(other); i++) {
		bool expect = i < ARRAY_LEN(same);
		struct conf *conf;
		char text[128];

		str_format(text, sizeof(text), "[pgbouncer]\n[databases]\na=%s\n",
			   expect ? same[i] : other[i - ARRAY_LEN(same)]);
		conf = load_good(text);
		assert_int_equal(conf_db_same_server(&plain->dbs[0], &conf->dbs[0]), expect);
		assert_int_equal(conf_db_same_server(&conf->dbs[0], &plain->dbs[0]), expect);
		conf_release(&conf);
	}
	assert_true(conf_db_same_server(&plain->dbs[0], &plain->dbs[0]));
	conf_release(&plain);
}

/* ---- precedence ---- */

static const char scopes[] =
	"[pgbouncer]\npool_mode=session\ndefault_pool_size=10\nmin_pool_size=1\nreserve_pool_size=2\n"
	"max_db_connections=30\nmax_db_client_connections=31\nmax_user_connections=32\n"
	"max_user_client_connections=33\nserver_lifetime=40\nquery_wait_timeout=41\nclient_idle_timeout=42\n"
	"query_timeout=43\nidle_transaction_timeout=44\ntransaction_timeout=45\nauth_user=gu\nauth_dbname=gd\n"
	"auth_query=gq\n"
	"[databases]\n"
	"set=pool_mode=transaction pool_size=0 min_pool_size=0 reserve_pool_size=0 max_db_connections=50 "
	"max_db_client_connections=51 server_lifetime=60 query_wait_timeout=0 auth_user=du auth_dbname=dd "
	"auth_query=dq\n"
	"unset=\n"
	"[users]\n"
	"set=pool_mode=statement pool_size=5 reserve_pool_size=6 max_user_connections=70 "
	"max_user_client_connections=71 query_timeout=80 idle_transaction_timeout=81 transaction_timeout=82 "
	"query_wait_timeout=83 client_idle_timeout=84\n"
	"zero=pool_size=0 reserve_pool_size=0 query_timeout=0 query_wait_timeout=0\n"
	"unset=\n";

static void test_precedence_of_databases(void **state)
{
	struct conf *conf = load_good(scopes);
	const struct conf_db *set = conf_find_db(conf, "set");
	const struct conf_db *unset = conf_find_db(conf, "unset");

	assert_int_equal(conf_pool_mode(conf, NULL, NULL), CONF_POOL_SESSION);
	assert_int_equal(conf_pool_mode(conf, unset, NULL), CONF_POOL_SESSION);
	assert_int_equal(conf_pool_mode(conf, set, NULL), CONF_POOL_TRANSACTION);
	assert_int_equal(conf_pool_size(conf, NULL, NULL), 10);
	assert_int_equal(conf_pool_size(conf, unset, NULL), 10);
	assert_int_equal(conf_pool_size(conf, set, NULL), 0);
	assert_int_equal(conf_min_pool_size(conf, NULL), 1);
	assert_int_equal(conf_min_pool_size(conf, set), 0);
	assert_int_equal(conf_reserve_pool_size(conf, unset, NULL), 2);
	assert_int_equal(conf_reserve_pool_size(conf, set, NULL), 0);
	assert_int_equal(conf_max_db_connections(conf, NULL), 30);
	assert_int_equal(conf_max_db_connections(conf, unset), 30);
	assert_int_equal(conf_max_db_connections(conf, set), 50);
	assert_int_equal(conf_max_db_client_connections(conf, unset), 31);
	assert_int_equal(conf_max_db_client_connections(conf, set), 51);
	assert_int_equal(conf_server_lifetime_us(conf, unset), 40000000);
	assert_int_equal(conf_server_lifetime_us(conf, set), 60000000);
	assert_int_equal(conf_query_wait_timeout_us(conf, unset, NULL), 41000000);
	assert_int_equal(conf_query_wait_timeout_us(conf, set, NULL), 0);
	assert_string_equal(conf_auth_user(conf, NULL), "gu");
	assert_string_equal(conf_auth_user(conf, set), "du");
	assert_string_equal(conf_auth_dbname(conf, unset), "gd");
	assert_string_equal(conf_auth_dbname(conf, set), "dd");
	assert_string_equal(conf_auth_query(conf, unset), "gq");
	assert_string_equal(conf_auth_query(conf, set), "dq");
	conf_release(&conf);
}

static void test_precedence_of_users(void **state)
{
	struct conf *conf = load_good(scopes);
	const struct conf_db *db = conf_find_db(conf, "set");
	const struct conf_user *set = conf_find_user(conf, "set");
	const struct conf_user *zero = conf_find_user(conf, "zero");
	const struct conf_user *unset = conf_find_user(conf, "unset");

	assert_int_equal(conf_pool_mode(conf, db, set), CONF_POOL_STATEMENT);
	assert_int_equal(conf_pool_mode(conf, db, unset), CONF_POOL_TRANSACTION);
	assert_int_equal(conf_pool_size(conf, db, set), 5);
	assert_int_equal(conf_pool_size(conf, NULL, zero), 0);
	assert_int_equal(conf_pool_size(conf, NULL, unset), 10);
	assert_int_equal(conf_reserve_pool_size(conf, db, set), 6);
	assert_int_equal(conf_reserve_pool_size(conf, NULL, zero), 0);
	assert_int_equal(conf_max_user_connections(conf, set), 70);
	assert_int_equal(conf_max_user_connections(conf, unset), 32);
	assert_int_equal(conf_max_user_client_connections(conf, set), 71);
	assert_int_equal(conf_max_user_client_connections(conf, NULL), 33);
	assert_int_equal(conf_query_timeout_us(conf, NULL, set), 80000000);
	assert_int_equal(conf_query_timeout_us(conf, NULL, zero), 43000000);
	assert_int_equal(conf_idle_transaction_timeout_us(conf, set), 81000000);
	assert_int_equal(conf_idle_transaction_timeout_us(conf, NULL), 44000000);
	assert_int_equal(conf_transaction_timeout_us(conf, set), 82000000);
	assert_int_equal(conf_transaction_timeout_us(conf, unset), 45000000);
	assert_int_equal(conf_query_wait_timeout_us(conf, db, set), 83000000);
	assert_int_equal(conf_query_wait_timeout_us(conf, NULL, zero), 0);
	assert_int_equal(conf_query_wait_timeout_us(conf, NULL, unset), 41000000);
	assert_int_equal(conf_client_idle_timeout_us(conf, set), 84000000);
	/* One user's timeout says nothing about the others. */
	assert_int_equal(conf_client_idle_timeout_us(conf, unset), 42000000);
	conf_release(&conf);
}

/* User before database before all. */
static void test_precedence_of_retries(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\nretry=safe\nretry_max_attempts=7\nretry_budget=30\n"
				      "[databases]\nset=retry=off retry_max_attempts=5 retry_budget=101\n"
				      "unset=retry_max_attempts=0 retry_budget=-1\n"
				      "[users]\nset=retry=SAFE retry_max_attempts=1 retry_budget=0\nunset=\n");
	const struct conf_db *db = conf_find_db(conf, "set");
	const struct conf_db *other_db = conf_find_db(conf, "unset");
	const struct conf_user *user = conf_find_user(conf, "set");
	const struct conf_user *other_user = conf_find_user(conf, "unset");

	assert_int_equal(conf_retry(conf, NULL, NULL), CONF_RETRY_SAFE);
	assert_int_equal(conf_retry(conf, other_db, other_user), CONF_RETRY_SAFE);
	assert_int_equal(conf_retry(conf, db, other_user), CONF_RETRY_OFF);
	assert_int_equal(conf_retry(conf, db, user), CONF_RETRY_SAFE);
	assert_int_equal(conf_retry_max_attempts(conf, other_db, NULL), 7);
	assert_int_equal(conf_retry_max_attempts(conf, db, other_user), 5);
	assert_int_equal(conf_retry_max_attempts(conf, db, user), 1);
	assert_int_equal(conf_retry_budget(conf, other_db, other_user), 30);
	assert_int_equal(conf_retry_budget(conf, db, NULL), 100);
	assert_int_equal(conf_retry_budget(conf, db, user), 0);
	conf_release(&conf);
}

static void test_limits_below_one_are_none(void **state)
{
	struct conf *conf = load_good("[pgbouncer]\nmax_db_connections=-1\nmax_user_connections=-7\nauth_user=\n");

	assert_int_equal(conf_max_db_connections(conf, NULL), 0);
	assert_int_equal(conf_max_user_connections(conf, NULL), 0);
	assert_null(conf_auth_user(conf, NULL));
	assert_null(conf_auth_dbname(conf, NULL));
	conf_release(&conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_database_defaults),
		cmocka_unit_test(test_database_keys),
		cmocka_unit_test(test_ports_of_hosts),
		cmocka_unit_test(test_database_errors),
		cmocka_unit_test(test_counts_are_read_like_atoi),
		cmocka_unit_test(test_last_line_redefines),
		cmocka_unit_test(test_many_databases),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_peers),
		cmocka_unit_test(test_autodb),
		cmocka_unit_test(test_names_of_the_console),
		cmocka_unit_test(test_bad_autodb_is_a_warning),
		cmocka_unit_test(test_same_server),
		cmocka_unit_test(test_precedence_of_databases),
		cmocka_unit_test(test_precedence_of_users),
		cmocka_unit_test(test_precedence_of_retries),
		cmocka_unit_test(test_limits_below_one_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
