#include "pool/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define BASE UINT64_C(100000)
#define CAP  UINT64_C(15000000)

/* With the highest dice the delay is the whole range, so its doubling shows. */
static void test_range_doubles_to_cap(void **state UNUSED)
{
	static const uint64_t most[] = { 100000,  200000,  400000,   800000,   1600000,
					 3200000, 6400000, 12800000, 15000000, 15000000 };

	for (unsigned i = 0; i < ARRAY_LEN(most); i++)
		assert_int_equal(backoff_delay(BASE, CAP, i, UINT32_MAX), most[i]);
}

static void test_many_attempts_stay_at_cap(void **state UNUSED)
{
	assert_int_equal(backoff_delay(BASE, CAP, UINT32_MAX, UINT32_MAX), CAP);
	assert_int_equal(backoff_delay(1, UINT64_MAX, 63, UINT32_MAX), UINT64_C(1) << 63);
	assert_int_equal(backoff_delay(1, UINT64_MAX, 64, UINT32_MAX), UINT64_MAX);
}

static void test_never_nothing_unless_base_is(void **state UNUSED)
{
	assert_true(backoff_delay(BASE, CAP, 0, 0) > 0);
	assert_int_equal(backoff_delay(1, 1, 0, 0), 1);
	assert_int_equal(backoff_delay(0, CAP, 5, UINT32_MAX), 0);
}

static void test_cap_below_base_is_base(void **state UNUSED)
{
	assert_int_equal(backoff_delay(BASE, 0, 7, UINT32_MAX), BASE);
}

/* Full jitter: every part of the range gets its share of equally spaced dice. */
static void test_jitter_covers_the_range_evenly(void **state UNUSED)
{
	unsigned hits[16] = { 0 };

	for (uint32_t i = 0; i < 1600; i++) {
		uint64_t delay = backoff_delay(BASE, CAP, 3, i * (UINT32_MAX / 1600));

		assert_in_range(delay, 1, 800000);
		hits[(delay - 1) * 16 / 800000]++;
	}
	for (unsigned i = 0; i < ARRAY_LEN(hits); i++)
		assert_in_range(hits[i], 98, 102);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_range_doubles_to_cap),           cmocka_unit_test(test_many_attempts_stay_at_cap),
		cmocka_unit_test(test_never_nothing_unless_base_is),   cmocka_unit_test(test_cap_below_base_is_base),
		cmocka_unit_test(test_jitter_covers_the_range_evenly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
