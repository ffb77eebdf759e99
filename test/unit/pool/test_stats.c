#include "pool/stats.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_add_and_collect(void **state)
{
	static struct stats one;
	static struct stats two;
	struct stats_sum sum = { .value = { 0 } };

	(void)state;
	stats_add(&one, STAT_query_count, 3);
	stats_add(&one, STAT_query_count, 0);
	stats_add(&one, STAT_query_time, UINT64_C(1) << 40);
	stats_add(&two, STAT_query_count, 4);
	stats_add(&two, STAT_client_login_count, 1);
	stats_collect(&one, &sum);
	stats_collect(&two, &sum);
	for (int i = 0; i < STAT_COUNT; i++) {
		uint64_t want = i == STAT_query_count          ? 7
				: i == STAT_query_time         ? UINT64_C(1) << 40
				: i == STAT_client_login_count ? 1
							       : 0;

		assert_int_equal(sum.value[i], want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_and_collect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
