/* When a statement that has failed is run again: attempts, time, and the budget, also against a simple model. */
#include "pool/retry.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/clock.h"

static struct retry_budget budget;
static uint64_t delay_us;

static int setup(void **state)
{
	(void)state;
	retry_budget_init(&budget);
	return 0;
}

static enum retry_outcome decide(unsigned runs, unsigned max_runs, uint64_t spent_us, uint64_t limit_us)
{
	struct retry_case c = { runs, max_runs, spent_us, limit_us, UINT32_MAX };

	return retry_decide(&budget, &c, &delay_us);
}

static void attempts_have_a_limit(void **state)
{
	(void)state;
	assert_int_equal(decide(1, 3, 0, 0), RETRY_RETRIED);
	assert_int_equal(decide(2, 3, 0, 0), RETRY_RETRIED);
	assert_int_equal(decide(3, 3, 0, 0), RETRY_NO_ATTEMPTS);
	assert_int_equal(decide(1, 1, 0, 0), RETRY_NO_ATTEMPTS);
}

static void waits_grow_up_to_a_cap(void **state)
{
	uint64_t before = 0;

	(void)state;
	for (unsigned runs = 1; runs < 30; runs++) {
		retry_budget_init(&budget);
		assert_int_equal(decide(runs, 100, 0, 0), RETRY_RETRIED);
		assert_true(delay_us >= before);
		assert_true(delay_us <= USEC_PER_SEC);
		before = delay_us;
	}
	assert_int_equal(before, USEC_PER_SEC);
}

static void the_deadline_leaves_room_for_the_wait(void **state)
{
	(void)state;
	assert_int_equal(decide(1, 3, 0, 100000), RETRY_RETRIED);
	assert_int_equal(decide(1, 3, 100000 - delay_us, 100000), RETRY_NO_TIME);
	assert_int_equal(decide(1, 3, 100000 - delay_us - 1, 100000), RETRY_RETRIED);
	assert_int_equal(decide(1, 3, 100000, 100000), RETRY_NO_TIME);
	assert_int_equal(decide(1, 3, 200000, 100000), RETRY_NO_TIME);
}

static void what_is_refused_costs_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(decide(3, 3, 0, 0), RETRY_NO_ATTEMPTS);
		assert_int_equal(decide(1, 3, 9, 9), RETRY_NO_TIME);
	}
	assert_int_equal(decide(1, 3, 0, 0), RETRY_RETRIED);
}

static void the_budget_is_a_share(void **state)
{
	unsigned n = 0;

	(void)state;
	while (decide(1, 3, 0, 0) == RETRY_RETRIED)
		n++;
	assert_int_equal(n, RETRY_SAVINGS);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_NO_BUDGET);
	for (int i = 0; i < 4; i++)
		retry_budget_earn(&budget, 20);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_NO_BUDGET);
	retry_budget_earn(&budget, 20);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_RETRIED);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_NO_BUDGET);
	for (int i = 0; i < 1000; i++)
		retry_budget_earn(&budget, 0);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_NO_BUDGET);
}

/* Whatever happens in whatever order, repetitions are never more than the share and the savings. */
static void repetitions_never_exceed_the_budget(void **state)
{
	uint64_t seed = 88172645463325252u;

	(void)state;
	for (unsigned percent = 0; percent <= 100; percent += 20) {
		double model = RETRY_SAVINGS;
		uint64_t statements = 0;
		uint64_t repeated = 0;

		retry_budget_init(&budget);
		for (int i = 0; i < 20000; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			if (seed % 3 != 0) {
				retry_budget_earn(&budget, percent);
				statements++;
				model += percent / 100.0;
				model = model > RETRY_SAVINGS ? RETRY_SAVINGS : model;
			} else {
				bool may = model > 1 - 1e-6;

				assert_int_equal(decide(1, 3, 0, 0), may ? RETRY_RETRIED : RETRY_NO_BUDGET);
				repeated += may;
				model -= may;
			}
			assert_true(repeated <= RETRY_SAVINGS + statements * percent / 100);
		}
	}
}

static void causes_have_states(void **state)
{
	(void)state;
	assert_string_equal(retry_cause_sqlstate(RETRY_CONFLICT), "40001");
	assert_string_equal(retry_cause_sqlstate(RETRY_DEADLOCK), "40P01");
	assert_string_equal(retry_cause_sqlstate(RETRY_UNSENT), "08006");
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(attempts_have_a_limit),
		TEST(waits_grow_up_to_a_cap),
		TEST(the_deadline_leaves_room_for_the_wait),
		TEST(what_is_refused_costs_nothing),
		TEST(the_budget_is_a_share),
		TEST(repetitions_never_exceed_the_budget),
		TEST(causes_have_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
