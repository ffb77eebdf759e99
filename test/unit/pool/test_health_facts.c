/* What probes read: rows of both questions, errors as libpq tells them. */
#include "core/base.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/err.h"
#include "pool/health_facts.h"

static void test_a_primary(void **state UNUSED)
{
	const char *const row[] = { "f", "off", "7", "7710794740323289753", "67108864", NULL, "12", "100" };
	struct health_facts facts;

	health_facts_init(&facts);
	assert_int_equal(health_facts_read(&facts, row, ARRAY_LEN(row)), 0);
	assert_true(facts.knows_role);
	assert_false(facts.is_standby);
	assert_false(facts.is_read_only);
	assert_int_equal(facts.timeline, 7);
	assert_true(facts.system_id == UINT64_C(7710794740323289753));
	assert_int_equal(facts.lsn, 67108864);
	assert_int_equal(facts.lag_ms, -1);
	assert_int_equal(facts.connections, 12);
	assert_int_equal(facts.max_connections, 100);
}

static void test_a_standby_that_knows_little(void **state UNUSED)
{
	const char *const row[] = { "t", "on", NULL, "", "x", "250", "-3", "99999999999999999999" };
	struct health_facts facts;

	health_facts_init(&facts);
	assert_int_equal(health_facts_read(&facts, row, ARRAY_LEN(row)), 0);
	assert_true(facts.is_standby);
	assert_true(facts.is_read_only);
	assert_int_equal(facts.timeline, 0);
	assert_int_equal(facts.system_id, 0);
	assert_int_equal(facts.lsn, 0);
	assert_int_equal(facts.lag_ms, 250);
	assert_int_equal(facts.connections, -1);
	assert_int_equal(facts.max_connections, -1);
}

static void test_the_short_row(void **state UNUSED)
{
	const char *const row[] = { "f", "on" };
	struct health_facts facts;

	health_facts_init(&facts);
	assert_int_equal(health_facts_read(&facts, row, ARRAY_LEN(row)), 0);
	assert_false(facts.is_standby);
	assert_true(facts.is_read_only);
	assert_int_equal(facts.connections, -1);
}

static void test_rows_of_somebody_else(void **state UNUSED)
{
	const char *const good[] = { "f", "off", "7" };
	const char *const odd_role[] = { "true", "off" };
	const char *const no_role[] = { NULL, "off" };
	const char *const odd_mode[] = { "f", "maybe" };
	struct health_facts facts;

	health_facts_init(&facts);
	assert_int_equal(health_facts_read(&facts, good, ARRAY_LEN(good)), -E_SYNTAX);
	assert_int_equal(health_facts_read(&facts, odd_role, 2), -E_SYNTAX);
	assert_int_equal(health_facts_read(&facts, no_role, 2), -E_SYNTAX);
	assert_int_equal(health_facts_read(&facts, odd_mode, 2), -E_SYNTAX);
	assert_int_equal(health_facts_read(&facts, NULL, 0), -E_SYNTAX);
	assert_false(facts.knows_role);
}

static void check_error(const char *message, const char *sqlstate, const char *text)
{
	char got_state[6];
	char got_text[HEALTH_ERROR_MAX];

	health_error_read(message, got_state, got_text, sizeof(got_text));
	assert_string_equal(got_state, sqlstate);
	assert_string_equal(got_text, text);
}

static void test_errors_of_the_server(void **state UNUSED)
{
	check_error("connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  57P03: the database system is "
		    "starting up\nLOCATION:  ProcessStartupPacket, postmaster.c:2404\n",
		    "57P03", "the database system is starting up");
	check_error("connection to server at \"::1\", port 5432 failed: FATAL:  28000: no pg_hba.conf entry\n", "28000",
		    "no pg_hba.conf entry");
	/* in the language of the server, without the words of newer versions of libpq in front */
	check_error("SCHWERWIEGEND:  53300: tut mir leid, schon zu viele Verbindungen\n", "53300",
		    "tut mir leid, schon zu viele Verbindungen");
	check_error("FATAL:  57P01: terminating connection due to administrator command\nserver closed the "
		    "connection unexpectedly\n",
		    "57P01", "terminating connection due to administrator command");
}

static void test_errors_on_the_way(void **state UNUSED)
{
	check_error("connection to server at \"127.0.0.1\", port 1 failed: Connection refused\n\tIs the server running "
		    "on that host and accepting TCP/IP connections?\n",
		    "", "Connection refused");
	check_error("connection to server at \"h\" (192.0.2.1), port 5432 failed: fe_sendauth: no password supplied\n",
		    "", "fe_sendauth: no password supplied");
	check_error("", "", "");
	check_error("a:  5", "", "a:  5");
	check_error("a:  57P0", "", "a:  57P0");
}

static void test_a_long_error_is_cut_between_characters(void **state UNUSED)
{
	char text[8];
	char sqlstate[6];

	health_error_read("FATAL:  57P03: abcdef\xc3\xa4", sqlstate, text, sizeof(text));
	assert_string_equal(text, "abcdef");
	assert_true(health_is_refusing(sqlstate));
	assert_false(health_is_refusing("53300"));
	assert_false(health_is_refusing(""));
}

static void test_questions_are_there(void **state UNUSED)
{
	for (int i = 0; i < HEALTH_QUESTIONS; i++)
		assert_true(strncmp(health_question_text((enum health_question)i), "SELECT ", 7) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_primary),
		cmocka_unit_test(test_a_standby_that_knows_little),
		cmocka_unit_test(test_the_short_row),
		cmocka_unit_test(test_rows_of_somebody_else),
		cmocka_unit_test(test_errors_of_the_server),
		cmocka_unit_test(test_errors_on_the_way),
		cmocka_unit_test(test_a_long_error_is_cut_between_characters),
		cmocka_unit_test(test_questions_are_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
