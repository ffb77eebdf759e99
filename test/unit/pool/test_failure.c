#include "pool/failure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_reasons_by_moment(void **state UNUSED)
{
	static const struct {
		enum reason reason;
		enum failure_class at[4];
	} rows[] = {
		{ REASON_CONNECT_FAILED, { FAILURE_CONNECT, FAILURE_NONE, FAILURE_NONE, FAILURE_NONE } },
		{ REASON_DNS_FAILED, { FAILURE_CONNECT, FAILURE_NONE, FAILURE_NONE, FAILURE_NONE } },
		{ REASON_CONNECT_TIMEOUT, { FAILURE_CONNECT, FAILURE_OVERLOAD, FAILURE_NONE, FAILURE_NONE } },
		{ REASON_SERVER_CRASH, { FAILURE_NONE, FAILURE_LOGIN, FAILURE_PROTOCOL, FAILURE_NONE } },
		{ REASON_SERVER_HEADER, { FAILURE_NONE, FAILURE_LOGIN, FAILURE_PROTOCOL, FAILURE_NONE } },
		{ REASON_PAUSE, { FAILURE_NONE, FAILURE_NONE, FAILURE_NONE, FAILURE_NONE } },
		{ REASON_QUERY_TIMEOUT, { FAILURE_NONE, FAILURE_NONE, FAILURE_NONE, FAILURE_NONE } },
		{ REASON_AUTHREQ, { FAILURE_NONE, FAILURE_NONE, FAILURE_NONE, FAILURE_NONE } },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (unsigned moment = 0; moment < 4; moment++)
			assert_int_equal(failure_classify(rows[i].reason, moment, ""), rows[i].at[moment]);
}

static void test_states_go_before_reasons(void **state UNUSED)
{
	static const struct {
		const char *sqlstate;
		enum failure_class at_login;
		enum failure_class at_query;
	} rows[] = {
		{ "53300", FAILURE_OVERLOAD, FAILURE_NONE }, { "53100", FAILURE_OVERLOAD, FAILURE_NONE },
		{ "57P03", FAILURE_OVERLOAD, FAILURE_NONE }, { "57P02", FAILURE_LOGIN, FAILURE_PROTOCOL },
		{ "57P01", FAILURE_LOGIN, FAILURE_NONE },    { "28P01", FAILURE_NONE, FAILURE_NONE },
		{ "28000", FAILURE_NONE, FAILURE_NONE },     { "3D000", FAILURE_NONE, FAILURE_NONE },
		{ "42501", FAILURE_NONE, FAILURE_NONE },     { "25P03", FAILURE_NONE, FAILURE_NONE },
		{ "53", FAILURE_NONE, FAILURE_NONE },        { "533000", FAILURE_NONE, FAILURE_NONE },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(failure_classify(REASON_LOGIN_FAILED, FAILURE_AT_LOGIN, rows[i].sqlstate),
				 rows[i].at_login);
		assert_int_equal(failure_classify(REASON_SERVER_CRASH, FAILURE_AT_QUERY, rows[i].sqlstate),
				 rows[i].at_query);
	}
}

static void test_what_else_an_end_means(void **state UNUSED)
{
	assert_true(failure_is_loss(REASON_SERVER_CRASH) && failure_is_symptom(REASON_SERVER_CRASH));
	assert_true(failure_is_loss(REASON_QUERY_TIMEOUT) && !failure_is_symptom(REASON_QUERY_TIMEOUT));
	assert_true(!failure_is_loss(REASON_CONNECT_FAILED) && failure_is_symptom(REASON_CONNECT_FAILED));
	assert_true(!failure_is_loss(REASON_IDLE_TX_TIMEOUT) && !failure_is_symptom(REASON_IDLE_TX_TIMEOUT));
	/* a login that fails, with our packet and with a client's */
	assert_true(failure_is_of_pool(REASON_LOGIN_FAILED, false));
	assert_false(failure_is_of_pool(REASON_LOGIN_FAILED, true));
	assert_true(failure_is_of_pool(REASON_CANNOT_CONNECT, false));
	assert_true(failure_is_of_pool(REASON_CANNOT_CONNECT, true));
	assert_false(failure_is_of_pool(REASON_PAUSE, false));
	assert_false(failure_is_of_pool(REASON_PAUSE, true));
	assert_true(failure_state_is_symptom("25006") && failure_state_is_symptom("57P01"));
	assert_true(!failure_state_is_symptom("53300") && !failure_state_is_symptom("42601"));
}

static void test_limits_of_one_role_or_database(void **state UNUSED)
{
	assert_true(failure_is_own_limit(slice_of("53300"), slice_of("InitializeSessionUserId")));
	assert_true(failure_is_own_limit(slice_of("53300"), slice_of("CheckMyDatabase")));
	assert_false(failure_is_own_limit(slice_of("53300"), slice_of("InitProcess")));
	assert_false(failure_is_own_limit(slice_of("53300"), slice_of("")));
	assert_false(failure_is_own_limit(slice_of("53400"), slice_of("CheckMyDatabase")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reasons_by_moment),
		cmocka_unit_test(test_states_go_before_reasons),
		cmocka_unit_test(test_what_else_an_end_means),
		cmocka_unit_test(test_limits_of_one_role_or_database),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
