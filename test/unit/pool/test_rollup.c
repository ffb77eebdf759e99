/* Averages: per second, and per transaction, query and assignment. */
#include "pool/rollup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct stats_sum nothing;

static void test_rates_are_per_second(void **state UNUSED)
{
	struct stats_sum to = { { 0 } };
	struct stats_sum avg;

	to.value[STAT_query_count] = 100;
	to.value[STAT_bytes_sent] = 5000;
	rollup_average(&nothing, &to, 2000000, &avg);
	assert_int_equal(avg.value[STAT_query_count], 50);
	assert_int_equal(avg.value[STAT_bytes_sent], 2500);
	assert_int_equal(avg.value[STAT_xact_count], 0);
}

static void test_times_are_shares(void **state UNUSED)
{
	struct stats_sum from = { { 0 } };
	struct stats_sum to = { { 0 } };
	struct stats_sum avg;

	from.value[STAT_xact_count] = 10;
	from.value[STAT_xact_time] = 1000;
	to.value[STAT_xact_count] = 14;
	to.value[STAT_xact_time] = 1400;
	to.value[STAT_query_count] = 8;
	to.value[STAT_query_time] = 80;
	to.value[STAT_server_assignment_count] = 3;
	to.value[STAT_wait_time] = 30;
	rollup_average(&from, &to, 60000000, &avg);
	assert_int_equal(avg.value[STAT_xact_time], 100);
	assert_int_equal(avg.value[STAT_query_time], 10);
	assert_int_equal(avg.value[STAT_wait_time], 10);
}

static void test_nothing_happened(void **state UNUSED)
{
	struct stats_sum to = { { 0 } };
	struct stats_sum avg;

	to.value[STAT_query_time] = 80; /* of a query that is not over */
	rollup_average(&nothing, &to, 0, &avg);
	for (size_t i = 0; i < STAT_COUNT; i++)
		assert_int_equal(avg.value[i], 0);
}

static void test_large_counts(void **state UNUSED)
{
	struct stats_sum to = { { 0 } };
	struct stats_sum avg;

	to.value[STAT_bytes_sent] = UINT64_C(1) << 60;
	rollup_average(&nothing, &to, 1000000, &avg);
	assert_true(avg.value[STAT_bytes_sent] == UINT64_C(1) << 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rates_are_per_second),
		cmocka_unit_test(test_times_are_shares),
		cmocka_unit_test(test_nothing_happened),
		cmocka_unit_test(test_large_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
