/*
 * The waits between attempts: their range and its ends, then random histories
 * against a model with numbers that cannot overflow, and crowds of clients that
 * must not come back together.
 */
#include "pool/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"

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

/* ---- random histories against a model ---- */

static uint32_t seed_now; /* of the history under way, for messages */
static uint32_t dice_state;

static uint32_t dice(void)
{
	dice_state ^= dice_state << 13;
	dice_state ^= dice_state >> 17;
	dice_state ^= dice_state << 5;
	return dice_state;
}

static void seed_is(uint32_t seed)
{
	seed_now = seed;
	dice_state = seed * 2654435761u;
}

#define CHECK(condition)                                                   \
	do {                                                               \
		if (!(condition))                                          \
			fail_msg("seed %u: not %s", seed_now, #condition); \
	} while (0)

__extension__ typedef unsigned __int128 wide;

/* min(cap, base * 2^attempt), and no less than the base. */
static uint64_t model_most(uint64_t base_us, uint64_t cap_us, unsigned attempt)
{
	wide most = base_us;

	if (base_us == 0 || cap_us <= base_us)
		return base_us;
	for (unsigned i = 0; i < attempt && most < cap_us; i++)
		most *= 2;
	return most < cap_us ? (uint64_t)most : cap_us;
}

/* The part of it that the dice say, rounded up. */
static uint64_t model_delay(uint64_t most_us, uint32_t d)
{
	wide product = (wide)most_us * ((wide)d + 1);

	return (uint64_t)((product + UINT32_MAX) >> 32);
}

/* Settings of all sizes, the ends of the range among them. */
static uint64_t random_time(void)
{
	static const uint64_t extremes[] = { 0, 1, 2, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX };
	uint64_t any = (uint64_t)dice() << 32 | dice();

	return dice() % 4 == 0 ? extremes[dice() % ARRAY_LEN(extremes)] : any >> dice() % 64;
}

/* Failures and successes of one who counts his failures in a row, as all do that use this. */
static void test_random_histories_agree_with_model(void **state UNUSED)
{
	for (uint32_t seed = 1; seed <= 500; seed++) {
		uint64_t base_us;
		uint64_t cap_us;
		uint64_t before_us = 0;
		unsigned failures = 0;

		seed_is(seed);
		base_us = random_time();
		cap_us = random_time();
		for (int i = 0; i < 400; i++) {
			uint64_t most_us = model_most(base_us, cap_us, failures);
			uint32_t d = dice() % 8 > 0 ? dice() : dice() % 2 == 0 ? 0 : UINT32_MAX;
			uint64_t delay_us = backoff_delay(base_us, cap_us, failures, d);

			CHECK(delay_us == model_delay(most_us, d));
			CHECK(delay_us <= most_us);
			CHECK(delay_us > 0 || base_us == 0);
			CHECK(backoff_delay(base_us, cap_us, failures, UINT32_MAX) == most_us);
			CHECK(most_us >= before_us); /* the range only grows in a row of failures */
			CHECK(d == UINT32_MAX || delay_us <= backoff_delay(base_us, cap_us, failures, d + 1));
			before_us = most_us;
			failures++;
			if (dice() % 100 == 0) {
				failures = 0;
				before_us = 0;
				CHECK(backoff_delay(base_us, cap_us, failures, UINT32_MAX) == base_us);
			}
		}
	}
}

/* Of many dice the mean is half of the range, and each tenth of the range has its tenth of them. */
static void test_random_dice_spread_over_the_range(void **state UNUSED)
{
	enum { N = 20000 };

	for (unsigned attempt = 0; attempt < 12; attempt++) {
		uint64_t most_us = model_most(BASE, CAP, attempt);
		double sum = 0;
		unsigned tenths[10] = { 0 };

		seed_is(attempt + 1);
		for (int i = 0; i < N; i++) {
			uint64_t delay_us = backoff_delay(BASE, CAP, attempt, dice());

			sum += (double)delay_us;
			tenths[(delay_us - 1) * 10 / most_us]++;
		}
		CHECK(sum / N > (double)most_us * 0.49 && sum / N < (double)most_us * 0.51);
		for (size_t i = 0; i < ARRAY_LEN(tenths); i++)
			CHECK(tenths[i] > N / 10 * 9 / 10 && tenths[i] < N / 10 * 11 / 10);
	}
}

/* ---- crowds ---- */

#define CROWD     4096
#define OUTAGE_US (60 * USEC_PER_SEC)
#define SLOT_US   (100 * (uint64_t)1000)
#define SLOTS     (OUTAGE_US / SLOT_US)

/*
 * All fail in the same moment, and again and again for a minute. Once the range
 * has grown to the cap no slot of time has many more attempts than another, and
 * when the server is back those who are left come spread over the whole cap.
 */
static void test_a_crowd_does_not_come_back_together(void **state UNUSED)
{
	for (uint32_t seed = 1; seed <= 5; seed++) {
		static unsigned slots[SLOTS];
		unsigned after[10] = { 0 };
		double usual = (double)CROWD * SLOT_US / ((double)CAP / 2); /* a wait is half of the cap in the mean */

		seed_is(seed);
		memset(slots, 0, sizeof(slots));
		for (int i = 0; i < CROWD; i++) {
			uint64_t now_us = 0;

			for (unsigned failures = 0; now_us < OUTAGE_US; failures++) {
				slots[now_us / SLOT_US]++;
				now_us += backoff_delay(BASE, CAP, failures, dice());
			}
			CHECK(now_us - OUTAGE_US <= CAP);
			after[(now_us - OUTAGE_US) * 10 / (CAP + 1)]++;
		}
		for (size_t i = SLOTS / 2; i < SLOTS; i++)
			CHECK(slots[i] > usual * 0.4 && slots[i] < usual * 1.6);
		for (size_t i = 0; i < ARRAY_LEN(after); i++)
			CHECK(after[i] < CROWD / 4);
		CHECK(after[9] > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_range_doubles_to_cap),
		cmocka_unit_test(test_many_attempts_stay_at_cap),
		cmocka_unit_test(test_never_nothing_unless_base_is),
		cmocka_unit_test(test_cap_below_base_is_base),
		cmocka_unit_test(test_jitter_covers_the_range_evenly),
		cmocka_unit_test(test_random_histories_agree_with_model),
		cmocka_unit_test(test_random_dice_spread_over_the_range),
		cmocka_unit_test(test_a_crowd_does_not_come_back_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
