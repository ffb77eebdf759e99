/*
 * Names and types of the columns of every SHOW table, against what monitoring
 * for PgBouncer expects: letters t, i, q, n, b for text, int4, int8, numeric, bytea. Behind a bar are those that only
 * [pgsluice] shows.
 */
#include "admin/show.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/build.h"

#define SOCKET_COLUMNS                                                                                   \
	"t:type t:user t:database t:replication t:state t:addr i:port t:local_addr i:local_port "        \
	"t:connect_time t:request_time i:wait i:wait_us i:close_needed t:ptr t:link i:remote_pid t:tls " \
	"t:application_name i:prepared_statements i:id"

#define SOCKET_DETAILS " i:recv_pos i:pkt_pos i:pkt_remain i:send_pos i:send_remain i:pkt_avail i:send_avail"

#define FDS_COLUMNS                                                                                    \
	"i:fd t:task t:user t:database t:addr i:port q:cancel i:link t:client_encoding t:std_strings " \
	"t:datestyle t:timezone t:password b:scram_client_key b:scram_server_key"

static const struct {
	const char *table;
	const char *columns;
} expected[] = {
	{ "VERSION", "t:version" },
	{ "STATE", "t:key t:value" },
	{ "CONFIG", "t:key t:value t:default t:changeable" },
	{ "DATABASES", "t:name t:host i:port t:database t:force_user i:pool_size i:min_pool_size i:reserve_pool_size "
		       "i:server_lifetime t:pool_mode t:load_balance_hosts i:max_connections i:current_connections "
		       "i:max_client_connections i:current_client_connections i:paused i:disabled" },
	{ "POOLS", "t:database t:user i:cl_active i:cl_waiting i:cl_active_cancel_req i:cl_waiting_cancel_req "
		   "i:sv_active i:sv_active_cancel i:sv_being_canceled i:sv_idle i:sv_used i:sv_tested i:sv_login "
		   "i:maxwait i:maxwait_us t:pool_mode t:load_balance_hosts | q:estimated_ms" },
	{ "PEER_POOLS", "i:peer_id i:cl_active_cancel_req i:cl_waiting_cancel_req i:sv_active_cancel i:sv_login" },
	{ "PEERS", "i:peer_id t:host i:port i:pool_size" },
	{ "CLIENTS", SOCKET_COLUMNS " | q:position q:age_ms q:deadline_ms q:estimated_ms" },
	{ "SERVERS", SOCKET_COLUMNS },
	{ "SOCKETS", SOCKET_COLUMNS SOCKET_DETAILS },
	{ "ACTIVE_SOCKETS", SOCKET_COLUMNS SOCKET_DETAILS },
	{ "USERS", "t:name t:pool_size t:reserve_pool_size t:pool_mode i:max_user_connections i:current_connections "
		   "i:max_user_client_connections i:current_client_connections" },
	{ "LISTS", "t:list i:items" },
	{ "MEM", "t:name i:size i:used i:free i:memtotal" },
	{ "DNS_HOSTS", "t:hostname q:ttl t:addrs" },
	{ "DNS_ZONES", "t:zonename q:serial i:count" },
	{ "STATS", "t:database n:total_server_assignment_count n:total_xact_count n:total_query_count "
		   "n:total_received n:total_sent n:total_xact_time n:total_query_time n:total_wait_time "
		   "n:total_client_parse_count n:total_server_parse_count n:total_bind_count "
		   "n:total_client_login_count n:avg_server_assignment_count n:avg_xact_count n:avg_query_count "
		   "n:avg_recv n:avg_sent n:avg_xact_time n:avg_query_time n:avg_wait_time "
		   "n:avg_client_parse_count n:avg_server_parse_count n:avg_bind_count n:avg_client_login_count" },
	{ "STATS_TOTALS", "t:database n:server_assignment_count n:xact_count n:query_count n:bytes_received "
			  "n:bytes_sent n:xact_time n:query_time n:wait_time n:client_parse_count "
			  "n:server_parse_count n:bind_count n:client_login_count" },
	{ "STATS_AVERAGES", "t:database n:server_assignment_count n:xact_count n:query_count n:bytes_received "
			    "n:bytes_sent n:xact_time n:query_time n:wait_time n:avg_client_parse_count "
			    "n:avg_server_parse_count n:avg_bind_count n:avg_client_login_count" },
	{ "TOTALS", "t:name n:value" },
	{ "FDS", FDS_COLUMNS },
	{ "HANDOVER", FDS_COLUMNS " t:parameters t:state" },
	{ "LOOPS", "t:loop q:longest_us q:recent_us" },
	{ "AUTH_CACHE", "t:name q:value t:meaning" },
	{ "QUEUE", "t:database t:user t:client_user q:client_id q:position q:age_ms q:deadline_ms q:estimated_ms" },
	{ "RETRIES", "t:database t:user t:sqlstate q:retried q:succeeded q:gave_up_attempts q:gave_up_deadline "
		     "q:gave_up_budget q:gave_up_begun" },
	{ "QUEUES", "t:database t:user q:waiting q:max_waiting q:maxwait_ms q:estimated_ms q:refused q:shed" },
	{ "READINESS", "t:database i:ready t:reason" },
	{ "BREAKERS", "t:endpoint t:database t:class t:state t:since q:failures_in_row q:successes q:failures q:opened "
		      "q:retry_ms t:reason t:last_failures" },
	{ "ENDPOINTS",
	  "t:endpoint t:database q:pools t:role t:reachable t:fenced t:read_only q:timeline t:system_id "
	  "q:lag_bytes q:lag_ms q:connections q:max_connections q:servers q:logins t:last_probe q:latency_us "
	  "t:error" },
	{ "FAILOVERS", "t:began t:database t:from t:to q:timeline t:symptom q:detect_ms q:elect_ms q:reconnect_ms" },
	{ "TIMEOUTS", "t:name q:value t:meaning" },
	{ "1", "i:?column?" },
	{ "client_encoding", "t:client_encoding" },
	{ "default_transaction_isolation", "t:default_transaction_isolation" },
	{ "standard_conforming_strings", "t:standard_conforming_strings" },
	{ "datestyle", "t:datestyle" },
	{ "timezone", "t:timezone" },
	{ "extra_float_digits", "t:extra_float_digits" },
};

static char type_letter(uint32_t oid)
{
	switch (oid) {
	case OID_TEXT:
		return 't';
	case OID_INT4:
		return 'i';
	case OID_INT8:
		return 'q';
	case OID_NUMERIC:
		return 'n';
	case OID_BYTEA:
		return 'b';
	default:
		return '?';
	}
}

static void test_columns(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		const struct show_table *table = show_find(expected[i].table);
		char text[2048] = "";
		size_t plain;

		assert_non_null(table);
		plain = show_column_count(table, CONF_PROFILE_PGBOUNCER);
		assert_int_equal(show_column_count(table, CONF_PROFILE_PGSLUICE), table->column_count);
		for (size_t j = 0; j < table->column_count; j++)
			str_append(text, sizeof(text), "%s%s%c:%s", j == 0 ? "" : " ", j == plain ? "| " : "",
				   type_letter(table->columns[j].oid), table->columns[j].name);
		assert_string_equal(text, expected[i].columns);
	}
}

static void test_every_table_is_expected(void **state UNUSED)
{
	size_t n = 0;

	while (show_at(n) != NULL)
		n++;
	assert_int_equal(n, ARRAY_LEN(expected) + 1); /* and HELP */
}

/* A column must lie inside of its row. */
static void test_offsets(void **state UNUSED)
{
	for (size_t i = 0; show_at(i) != NULL; i++) {
		const struct show_table *table = show_at(i);

		for (size_t j = 0; j < table->column_count; j++)
			assert_true(table->columns[j].offset < table->row_size);
		if (table->visit != NULL && table->visit != show_await_loops)
			assert_true(table->part_row_size > 0);
	}
}

static void test_find(void **state UNUSED)
{
	assert_ptr_equal(show_find("pools"), show_find("POOLS"));
	assert_null(show_find("nope"));
	assert_null(show_find(""));
	assert_true(show_is_fake_variable("TimeZone"));
	assert_false(show_is_fake_variable("pool_mode"));
}

static void test_rows(void **state UNUSED)
{
	struct show_rows rows = { .row_size = sizeof(uint64_t) };

	for (uint64_t i = 0; i < 100; i++) {
		uint64_t *row = show_add_row(&rows);

		assert_true(*row == 0);
		*row = i;
	}
	assert_int_equal(rows.count, 100);
	assert_true(*(uint64_t *)show_row(&rows, 99) == 99);
	assert_null(show_keep_text(&rows, NULL));
	free(rows.data);
}

struct waiting_row {
	const char *text;
	struct show_waiter waiter;
};

static void add_waiting(struct show_rows *rows, const void *pool, uint64_t ticket, uint64_t client_id)
{
	struct waiting_row *row = show_add_row(rows);

	row->waiter = show_no_waiter;
	row->waiter.pool = pool;
	row->waiter.ticket = ticket;
	row->waiter.client_id = client_id;
}

/* Each queue is numbered for itself, by tickets, and clients with the same one by their ids. */
static void test_rank(void **state UNUSED)
{
	static const int64_t positions[] = { 2, SHOW_NULL, 1, 1, 4, 3, SHOW_NULL, 2 };
	struct show_rows rows = { .row_size = sizeof(struct waiting_row) };
	const int pools[2] = { 0 };

	show_rank_waiters(&rows, offsetof(struct waiting_row, waiter));
	add_waiting(&rows, &pools[0], 7, 1);
	add_waiting(&rows, NULL, 0, 2);
	add_waiting(&rows, &pools[1], 5, 3);
	add_waiting(&rows, &pools[0], 3, 4);
	add_waiting(&rows, &pools[0], 9, 6);
	add_waiting(&rows, &pools[0], 9, 5);
	add_waiting(&rows, NULL, 0, 7);
	add_waiting(&rows, &pools[1], UINT64_MAX, 8);
	show_rank_waiters(&rows, offsetof(struct waiting_row, waiter));
	for (size_t i = 0; i < rows.count; i++)
		assert_true(((struct waiting_row *)show_row(&rows, i))->waiter.position == positions[i]);
	show_free_rows(&rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns), cmocka_unit_test(test_every_table_is_expected),
		cmocka_unit_test(test_offsets), cmocka_unit_test(test_find),
		cmocka_unit_test(test_rows),    cmocka_unit_test(test_rank),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
