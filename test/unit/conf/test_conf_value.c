/* Each type of setting, its range, its form in SHOW CONFIG, and the table as a whole. */
#include "conf_test.h"

#include "conf/conf_int.h"

/* Loads with one setting. */
static int load_setting(const char *key, const char *value, struct conf **conf)
{
	struct conf_error err;
	char text[512];
	int rc;

	str_format(text, sizeof(text), "[pgbouncer]\n%s = %s\n", key, value);
	rc = load_text(text, conf, &err);
	conf_error_fini(&err);
	return rc;
}

static void good(const char *key, const char *value, const char *shown)
{
	struct conf *conf;

	if (load_setting(key, value, &conf) != 0)
		fail_msg("%s = %s is refused", key, value);
	assert_shows(conf, key, shown);
	conf_release(&conf);
}

static void bad(const char *key, const char *value, int rc)
{
	struct conf *conf;

	if (load_setting(key, value, &conf) != rc)
		fail_msg("%s = %s is not refused with %s", key, value, err_str(rc));
}

static void test_int(void **state)
{
	good("default_pool_size", "7", "7");
	good("default_pool_size", "0x10", "16");
	good("default_pool_size", "010", "8");
	good("default_pool_size", "+3", "3");
	good("unix_socket_mode", "0777", "511");
	good("unix_socket_mode", "0", "0");
	good("max_db_connections", "-5", "-5");
	bad("default_pool_size", "", -E_SYNTAX);
	bad("default_pool_size", "x", -E_SYNTAX);
	bad("default_pool_size", "1x", -E_SYNTAX);
	bad("default_pool_size", "1.5", -E_SYNTAX);
	bad("default_pool_size", "'1'", -E_SYNTAX);
	bad("default_pool_size", "08", -E_SYNTAX);
	bad("default_pool_size", "on", -E_SYNTAX);
	bad("server_login_concurrency", "65536", -E_RANGE);
	bad("server_login_concurrency", "99999999999999999999", -E_RANGE);
	bad("listen_port", "-1", -E_RANGE);
	bad("unix_socket_mode", "-1", -E_RANGE);
}

/* What PgBouncer takes and cuts is no reason not to start, but for the profile that has no such files. */
static void test_numbers_out_of_range(void **state)
{
	static const char *const kinds[] = { "[pgsluice]", "[pgbouncer]" };

	good("default_pool_size", "2147483648", "2147483647");
	good("default_pool_size", "99999999999999999999", "2147483647");
	good("default_pool_size", "-1", "0");
	good("stats_period", "0", "1");
	good("max_packet_size", "1023", "1024");
	good("max_packet_size", "4294967296", "4294967295");
	good("max_packet_size", "-1", "4294967295");
	good("listen_backlog", "-1", "-1");
	good("listen_backlog", "-99999999999999999999", "-1");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct conf_error err;
		struct conf *conf;
		char text[128];

		str_format(text, sizeof(text), "%s\nmax_client_conn = -2\n", kinds[i]);
		assert_int_equal(load_text(text, &conf, &err), i == 0 ? -E_RANGE : 0);
		if (i == 1)
			assert_string_equal(err.messages[0].text,
					    "max_client_conn is out of range, 0 is taken instead");
		if (i == 1)
			conf_release(&conf);
		conf_error_fini(&err);
	}
}

static void test_uint(void **state)
{
	good("max_packet_size", "4294967295", "4294967295");
	good("max_packet_size", "1024", "1024");
	bad("server_login_concurrency", "0", -E_RANGE);
}

static void test_flag(void **state)
{
	good("syslog", "1", "1");
	good("syslog", "0", "0");
	good("syslog", "2", "2");
	good("syslog", "on", "1");
	good("syslog", "YES", "1");
	good("syslog", "true", "1");
	good("log_connections", "Off", "0");
	good("log_connections", "no", "0");
	good("log_connections", "false", "0");
	bad("syslog", "maybe", -E_SYNTAX);
	bad("syslog", "", -E_SYNTAX);
	bad("syslog", "99999999999", -E_RANGE);
}

static void test_time(void **state)
{
	struct conf *conf;

	good("query_timeout", "0", "0");
	good("query_timeout", "1.5", "1.5");
	good("query_timeout", ".25", "0.25");
	good("query_timeout", "1e3", "1000");
	good("query_timeout", "1000000", "1e+06");
	good("query_timeout", "0.1", "0.1");
	bad("query_timeout", "", -E_SYNTAX);
	bad("query_timeout", "1s", -E_SYNTAX);
	bad("query_timeout", "1,5", -E_SYNTAX);
	bad("query_timeout", "nan", -E_SYNTAX);
	bad("query_timeout", "inf", -E_RANGE);
	bad("query_timeout", "-1", -E_RANGE);
	bad("query_timeout", "1e30", -E_RANGE);
	bad("breaker_window", "0.5", -E_RANGE);
	assert_int_equal(load_setting("query_timeout", "0.3", &conf), 0);
	assert_int_equal(conf->query_timeout_us, 300000);
	conf_release(&conf);
}

static void test_enum(void **state)
{
	good("pool_mode", "Transaction", "transaction");
	good("pool_mode", "STATEMENT", "statement");
	good("auth_type", "scram-sha-256", "scram-sha-256");
	good("auth_type", "hba", "hba");
	good("server_tls_sslmode", "verify-full", "verify-full");
	bad("pool_mode", "sessions", -E_SYNTAX);
	bad("pool_mode", "", -E_SYNTAX);
	bad("pool_mode", "1", -E_SYNTAX);
}

static void test_str(void **state)
{
	good("server_check_query", "<empty>", "<empty>");
	good("server_check_query", "", "");
	good("server_check_query", "select 'a' ; x", "select 'a' ; x");
	good("user", "me", "me");
	good("pidfile", "\"/a b\"", "\"/a b\"");
}

static void assert_list(const struct conf_list *list, size_t count, const char *const *items)
{
	assert_int_equal(list->count, count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(list->items[i], items[i]);
}

static void test_lists(void **state)
{
	static const char *const words[] = { "a", "B", "c" };
	static const char *const csv[] = { "a b", "::1", "*" };
	struct conf *conf = load_good("[pgbouncer]\nadmin_users = a,B \t, c ,\nlisten_addr = a b ,::1,, *\n"
				      "track_extra_parameters=\n");

	assert_list(&conf->admin_users, 3, words);
	assert_list(&conf->listen_addr, 3, csv);
	assert_list(&conf->track_extra_parameters, 0, NULL);
	assert_list(&conf->stats_users, 0, NULL);
	assert_true(conf_list_has(&conf->admin_users, "B"));
	assert_false(conf_list_has(&conf->admin_users, "b"));
	assert_false(conf_list_has(&conf->admin_users, ""));
	assert_shows(conf, "admin_users", "a,B \t, c ,");
	conf_release(&conf);
}

static void test_secrets_are_masked(void **state)
{
	good("auth_ldap_options", "ldapbindpasswd=x", "****");
	good("auth_ldap_options", "", "");
}

static void test_never_set(void **state)
{
	struct conf *conf = load_good("[pgbouncer]");

	assert_shows(conf, "auth_user", NULL);
	assert_null(conf_show_default(conf, CONF_ID_auth_user));
	assert_shows(conf, "verbose", "0");
	assert_null(conf_show_default(conf, CONF_ID_verbose));
	assert_shows(conf, "conffile", "main");
	assert_string_equal(conf_show_default(conf, CONF_ID_unix_socket_mode), "0777");
	conf_release(&conf);
}

static void test_show_order(void **state)
{
	bool seen[CONF_ID_COUNT] = { false };

	for (size_t i = 0; i < CONF_ID_COUNT; i++) {
		enum conf_id id = conf_show_id(i);

		assert_false(seen[id]);
		seen[id] = true;
		if (i > 0)
			assert_true(strcmp(conf_key(conf_show_id(i - 1)), conf_key(id)) < 0);
	}
}

/* The settings of PgBouncer, with R where they can be changed at run time. */
static const char pgbouncer_settings[] =
	" listen_addr:S listen_port:S listen_backlog:S unix_socket_dir:S unix_socket_mode:S unix_socket_group:S"
	" so_reuseport:S user:S pidfile:S job_name:S conffile:R peer_id:R disable_pqexec:S application_name_add_host:R"
	" login_notify_message:R max_packet_size:R pkt_buf:S sbuf_loopcnt:R tcp_defer_accept:R tcp_keepalive:R"
	" tcp_keepcnt:R tcp_keepidle:R tcp_keepintvl:R tcp_user_timeout:R tcp_socket_buffer:R suspend_timeout:R"
	" logfile:R syslog:R syslog_ident:R syslog_facility:R log_connections:R log_disconnections:R"
	" log_pooler_errors:R log_stats:R stats_period:R verbose:R pool_mode:R default_pool_size:R min_pool_size:R"
	" reserve_pool_size:R reserve_pool_timeout:R max_client_conn:R max_db_connections:R"
	" max_db_client_connections:R max_user_connections:R max_user_client_connections:R server_round_robin:R"
	" pool_idle_timeout:R autodb_idle_timeout:R server_reset_query:R server_reset_query_always:R"
	" server_check_query:R server_check_delay:R server_lifetime:R server_idle_timeout:R server_connect_timeout:R"
	" server_login_retry:R server_fast_close:R max_prepared_statements:R track_extra_parameters:S"
	" ignore_startup_parameters:R query_timeout:R query_wait_timeout:R query_wait_notify:R cancel_wait_timeout:R"
	" client_idle_timeout:R idle_transaction_timeout:R transaction_timeout:R client_login_timeout:R dns_max_ttl:R"
	" dns_nxdomain_ttl:R dns_zone_check_period:R resolv_conf:S auth_type:R auth_file:R auth_hba_file:R"
	" auth_ident_file:R auth_user:R auth_query:R auth_dbname:R auth_ldap_options:R scram_iterations:R"
	" admin_users:R stats_users:R client_tls_sslmode:R client_tls_key_file:R client_tls_cert_file:R"
	" client_tls_ca_file:R client_tls_protocols:R client_tls_ciphers:R client_tls13_ciphers:R"
	" client_tls_dheparams:R client_tls_ecdhcurve:R server_tls_sslmode:R server_tls_ca_file:R"
	" server_tls_cert_file:R server_tls_key_file:R server_tls_protocols:R server_tls_ciphers:R"
	" server_tls13_ciphers:R ";

static void test_every_pgbouncer_setting_is_known(void **state)
{
	size_t known = 0;

	for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
		char entry[64];

		str_format(entry, sizeof(entry), " %s:%c ", conf_key(id), conf_is_changeable(id) ? 'R' : 'S');
		known += strstr(pgbouncer_settings, entry) != NULL;
	}
	assert_int_equal(known, 100);
}

static void test_rows_are_complete(void **state)
{
	for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
		const struct conf_row *row = &conf_rows[id];
		unsigned when = row->flags & (CONF_F_RELOAD | CONF_F_RESTART);

		assert_true(strlen(row->help) >= 10 && row->help[strlen(row->help) - 1] == '.');
		assert_true(when == CONF_F_RELOAD || when == CONF_F_RESTART);
		assert_int_equal(row->type == CONF_TYPE_ENUM, row->values != NULL);
		assert_true(conf_id_of(row->name) == id);
		if (row->type <= CONF_TYPE_TIME && row->type != CONF_TYPE_FLAG)
			assert_true(row->min < row->max);
		if (row->type != CONF_TYPE_STR && strcmp(row->name, "verbose") != 0)
			assert_true(row->defaults[0] != NULL && row->defaults[1] != NULL);
	}
}

/* What SHOW CONFIG prints can be written into a file again. */
static void test_shown_values_can_be_read(void **state)
{
	for (int profile = 0; profile < CONF_PROFILE_COUNT; profile++) {
		struct conf *conf = conf_new(profile);
		struct conf_error err;

		conf_error_init(&err);
		for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
			char *text = conf_show_value(conf, id);

			if (text != NULL)
				assert_int_equal(conf_value_set(conf, id, text, &err), 0);
			free(text);
		}
		conf_error_fini(&err);
		conf_release(&conf);
	}
}

static void test_addresses(void **state UNUSED)
{
	static const struct {
		const char *text;
		const char *host; /* NULL: none */
		uint16_t port;
	} cases[] = {
		{ "8008", "127.0.0.1", 8008 },
		{ "*:1", "*", 1 },
		{ "10.0.0.1:65535", "10.0.0.1", 65535 },
		{ "health.internal:80", "health.internal", 80 },
		{ "[::1]:8008", "::1", 8008 },
		{ "[::]:08008", "::", 8008 },
		{ "", NULL, 0 },
		{ "0", NULL, 0 },
		{ "65536", NULL, 0 },
		{ "123456", NULL, 0 },
		{ "80x", NULL, 0 },
		{ "-1", NULL, 0 },
		{ "host", NULL, 0 },
		{ "host:", NULL, 0 },
		{ ":80", NULL, 0 },
		{ "::1:80", NULL, 0 },
		{ "[]:80", NULL, 0 },
		{ "[::1]", NULL, 0 },
		{ "a23456789012345678901234567890123:80", NULL, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char host[32] = "";
		uint16_t port = 0;
		int err = conf_split_address(cases[i].text, host, sizeof(host), &port);

		assert_int_equal(err, cases[i].host == NULL ? -E_SYNTAX : 0);
		if (cases[i].host != NULL)
			assert_string_equal(host, cases[i].host);
		assert_int_equal(port, cases[i].port);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_int),
		cmocka_unit_test(test_numbers_out_of_range),
		cmocka_unit_test(test_uint),
		cmocka_unit_test(test_flag),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_enum),
		cmocka_unit_test(test_str),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_secrets_are_masked),
		cmocka_unit_test(test_never_set),
		cmocka_unit_test(test_show_order),
		cmocka_unit_test(test_every_pgbouncer_setting_is_known),
		cmocka_unit_test(test_rows_are_complete),
		cmocka_unit_test(test_shown_values_can_be_read),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
