/*
 * Cancel keys. What reads a key is private to cancel.c, which is therefore
 * part of this program; requests under way are tested in test/replay.
 */
#include "pool/cancel.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/alloc.h"

static int setup(void **state)
{
	struct engine *engine = xcalloc_aligned(sizeof(*engine));

	for (size_t i = 0; i < sizeof(engine->cancel_secret); i++)
		engine->cancel_secret[i] = (uint8_t)(7 * i + 3);
	*state = engine;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static uint64_t key_of(const struct engine *engine, unsigned worker, uint32_t slot, uint16_t generation)
{
	uint8_t key[CANCEL_KEY_LEN];
	uint64_t v;

	cancel_key_make(engine, worker, slot, generation, key);
	memcpy(&v, key, sizeof(v));
	return v;
}

static void check_round_trip(const struct engine *engine, unsigned worker, uint32_t slot, uint16_t generation)
{
	uint64_t key = key_of(engine, worker, slot, generation);
	uint16_t generation_back;
	unsigned worker_back;
	uint32_t slot_back;

	cancel_key_read(engine, (const uint8_t *)&key, &worker_back, &slot_back, &generation_back);
	assert_int_equal(worker_back, worker);
	assert_int_equal(slot_back, slot);
	assert_int_equal(generation_back, generation);
}

static void test_round_trip(void **state)
{
	static const uint16_t generations[] = { 0, 1, 2, 0x7fff, 0x8000, 0xffff };

	for (unsigned worker = 0; worker < 128; worker++)
		for (unsigned bit = 0; bit <= CANCEL_SLOT_BITS; bit++)
			for (size_t g = 0; g < ARRAY_LEN(generations); g++) {
				check_round_trip(*state, worker, (1u << bit) - 1, generations[g]);
				if (bit < CANCEL_SLOT_BITS)
					check_round_trip(*state, worker, 1u << bit, generations[g]);
			}
}

static int compare_keys(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

static void test_keys_differ(void **state)
{
	size_t n = 0;
	size_t max = (size_t)4 * 64 * 64;
	uint64_t *keys = xcalloc(max, sizeof(keys[0]));

	for (unsigned worker = 0; worker < 4; worker++)
		for (uint32_t slot = 0; slot < 64; slot++)
			for (uint16_t generation = 1; generation <= 64; generation++)
				keys[n++] = key_of(*state, worker, slot, generation);
	assert_int_equal(n, max);
	qsort(keys, n, sizeof(keys[0]), compare_keys);
	for (size_t i = 1; i < n; i++)
		assert_true(keys[i - 1] != keys[i]);
	free(keys);
}

/* Drivers read the first four bytes as a process id; the two low bits are fixed. */
static void test_fixed_bits(void **state)
{
	for (uint32_t slot = 0; slot < 1000; slot++) {
		uint8_t key[CANCEL_KEY_LEN];

		cancel_key_make(*state, slot % 128, slot, (uint16_t)(slot * 31), key);
		assert_int_equal(key[0] & 0x80, 0);
		assert_int_equal(key[7] & 3, 3);
	}
}

/* Whoever knows a key of a slot does not know the next one: about half of the 45 bits change. */
static void test_neighbours_are_unlike(void **state)
{
	unsigned total = 0;
	unsigned least = 64;

	for (uint16_t generation = 0; generation < 1000; generation++) {
		uint64_t change = key_of(*state, 0, 5, generation) ^ key_of(*state, 0, 5, (uint16_t)(generation + 1));
		unsigned bits = (unsigned)__builtin_popcountll(change);

		total += bits;
		least = bits < least ? bits : least;
	}
	assert_in_range(total / 1000, 20, 25);
	assert_true(least >= 5);
}

/* Another process has other keys. */
static void test_secret_counts(void **state)
{
	struct engine *other = xcalloc_aligned(sizeof(*other));
	struct engine *engine = *state;
	unsigned same = 0;

	memcpy(other->cancel_secret, engine->cancel_secret, sizeof(other->cancel_secret));
	other->cancel_secret[0] ^= 1;
	for (uint32_t slot = 0; slot < 1000; slot++)
		same += key_of(engine, 0, slot, 1) == key_of(other, 0, slot, 1);
	assert_int_equal(same, 0);
	free(other);
}

#define CANCEL_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CANCEL_TEST(test_round_trip),    CANCEL_TEST(test_keys_differ),
		CANCEL_TEST(test_fixed_bits),    CANCEL_TEST(test_neighbours_are_unlike),
		CANCEL_TEST(test_secret_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
