/*
 * Cancel keys: their layout, which peers of other makes rely on, and what
 * strangers may learn from them.
 */
#include "pool/cancel_key.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/alloc.h"

#define KEY_SLOT_BITS 22

static uint8_t key_secret[CANCEL_SECRET_LEN];

static int setup(void **state UNUSED)
{
	for (size_t i = 0; i < sizeof(key_secret); i++)
		key_secret[i] = (uint8_t)(7 * i + 3);
	return 0;
}

static uint64_t key_of(unsigned peer_id, unsigned worker, uint32_t slot, uint16_t generation)
{
	struct cancel_place place = { worker, slot, generation };
	uint8_t key[CANCEL_KEY_LEN];
	uint64_t v;

	cancel_key_make(key_secret, peer_id, &place, key);
	memcpy(&v, key, sizeof(v));
	return v;
}

static void check_round_trip(unsigned worker, uint32_t slot, uint16_t generation)
{
	uint64_t key = key_of(worker % 3 * 30000, worker, slot, generation);
	struct cancel_place place;
	struct cancel_key whole;

	cancel_key_set(&whole, &key, sizeof(key));
	place = cancel_key_place(key_secret, &whole);
	assert_int_equal(place.worker, worker);
	assert_int_equal(place.slot, slot);
	assert_int_equal(place.generation, generation);
}

static void test_round_trip(void **state UNUSED)
{
	static const uint16_t generations[] = { 0, 1, 2, 0x7fff, 0x8000, 0xffff };

	for (unsigned worker = 0; worker < 128; worker++)
		for (unsigned bit = 0; bit <= KEY_SLOT_BITS; bit++)
			for (size_t g = 0; g < ARRAY_LEN(generations); g++) {
				check_round_trip(worker, (1u << bit) - 1, generations[g]);
				if (bit < KEY_SLOT_BITS)
					check_round_trip(worker, 1u << bit, generations[g]);
			}
}

/* Keys in the bytes that peers see: the number, low byte first, and the count of hops. Computed by another program. */
static void test_known_answers(void **state UNUSED)
{
	static const struct {
		unsigned peer_id;
		struct cancel_place place;
		uint8_t key[CANCEL_KEY_LEN];
	} rows[] = {
		{ 0, { 0, 0, 1 }, { 0x2d, 0x73, 0x7a, 0x5d, 0x67, 0x32, 0x2e, 0x5b } },
		{ 1, { 0, 0, 1 }, { 0x2d, 0x01, 0x00, 0x5d, 0x67, 0x32, 0x2e, 0x5b } },
		{ 0x1234, { 0, 0, 1 }, { 0x2d, 0x34, 0x12, 0x5d, 0x67, 0x32, 0x2e, 0x5b } },
		{ 0xffff, { 3, 77, 65535 }, { 0x28, 0xff, 0xff, 0x8b, 0x05, 0x85, 0x95, 0xbb } },
		{ 16383, { 126, CANCEL_SLOTS_MAX - 1, 2 }, { 0x72, 0xff, 0x3f, 0x47, 0x88, 0x0e, 0xcb, 0xff } },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint8_t key[CANCEL_KEY_LEN];

		cancel_key_make(key_secret, rows[i].peer_id, &rows[i].place, key);
		assert_memory_equal(key, rows[i].key, CANCEL_KEY_LEN);
	}
}

static int compare_keys(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

static void test_keys_differ(void **state UNUSED)
{
	size_t n = 0;
	size_t max = (size_t)4 * 64 * 64;
	uint64_t *keys = xcalloc(max, sizeof(keys[0]));

	for (unsigned worker = 0; worker < 4; worker++)
		for (uint32_t slot = 0; slot < 64; slot++)
			for (uint16_t generation = 1; generation <= 64; generation++)
				keys[n++] = key_of(5, worker, slot, generation);
	assert_int_equal(n, max);
	qsort(keys, n, sizeof(keys[0]), compare_keys);
	for (size_t i = 1; i < n; i++)
		assert_true(keys[i - 1] != keys[i]);
	free(keys);
}

/* Drivers read the first four bytes as a process id. */
static void test_fixed_bits(void **state UNUSED)
{
	for (uint32_t slot = 0; slot < 1000; slot++) {
		uint64_t v = key_of(slot * 65, slot % 128, slot, (uint16_t)(slot * 31));
		const uint8_t *key = (const uint8_t *)&v;
		struct cancel_key whole;

		cancel_key_set(&whole, &v, sizeof(v));
		assert_int_equal(key[0] & 0x80, 0);
		assert_int_equal(key[7] & 3, 3);
		if (slot > 0) {
			assert_int_equal(key[1], (slot * 65) & 0xff);
			assert_int_equal(key[2], slot * 65 >> 8);
			assert_int_equal(cancel_key_peer(&whole), slot * 65);
		}
	}
}

/* Three hops, and at home the key is what it was. */
static void test_hops(void **state UNUSED)
{
	uint64_t given = key_of(7, 1, 2, 3);
	struct cancel_key key;

	cancel_key_set(&key, &given, sizeof(given));
	for (unsigned left = 3; left > 0; left--) {
		assert_true(cancel_key_spend(&key));
		assert_int_equal(key.bytes[7] & 3, left - 1);
		assert_memory_equal(key.bytes, &given, CANCEL_KEY_LEN - 1);
		assert_int_equal(key.bytes[7] | 3, ((uint8_t *)&given)[7]);
	}
	assert_false(cancel_key_spend(&key));
	assert_int_equal(key.bytes[7] & 3, 0);
	cancel_key_restore(&key);
	assert_memory_equal(key.bytes, &given, CANCEL_KEY_LEN);
}

/* A long key begins like the short one, and says nothing more without the secret; each byte of it counts. */
static void test_long_keys(void **state UNUSED)
{
	uint8_t head[CANCEL_KEY_LEN];
	struct cancel_key key;
	struct cancel_key other;

	for (uint32_t slot = 0; slot < 1000; slot++) {
		struct cancel_place place = { slot % 100, slot, (uint16_t)(slot * 7) };
		struct cancel_place found;

		cancel_key_make(key_secret, slot, &place, head);
		cancel_key_extend(key_secret, head, &key);
		assert_int_equal(key.len, CANCEL_KEY_LONG);
		assert_memory_equal(key.bytes, head, sizeof(head));
		found = cancel_key_place(key_secret, &key);
		assert_true(found.worker == place.worker && found.slot == slot && found.generation == place.generation);
		cancel_key_extend(key_secret, head, &other);
		assert_true(cancel_key_equal(&key, &other));
		for (size_t i = 0; i < CANCEL_KEY_LONG; i++) {
			other.bytes[i] ^= 0x10;
			assert_false(cancel_key_equal(&key, &other));
			other.bytes[i] ^= 0x10;
		}
		for (other.len = CANCEL_KEY_LEN; other.len < CANCEL_KEY_LONG; other.len++)
			assert_false(cancel_key_equal(&key, &other));
	}
}

/* Of neighbours, and of processes, about half of the bits behind the head differ. */
static void test_long_keys_are_unlike(void **state UNUSED)
{
	uint8_t head[CANCEL_KEY_LEN];
	struct cancel_key keys[3];
	unsigned bits[2] = { 0 };

	for (uint16_t generation = 0; generation < 1000; generation++) {
		struct cancel_place place = { 0, 5, generation };

		cancel_key_make(key_secret, 1, &place, head);
		cancel_key_extend(key_secret, head, &keys[0]);
		key_secret[31] ^= 1;
		cancel_key_extend(key_secret, head, &keys[1]);
		key_secret[31] ^= 1;
		place.generation++;
		cancel_key_make(key_secret, 1, &place, head);
		cancel_key_extend(key_secret, head, &keys[2]);
		for (size_t i = CANCEL_KEY_LEN; i < CANCEL_KEY_LONG; i++)
			for (size_t k = 0; k < ARRAY_LEN(bits); k++)
				bits[k] += (unsigned)__builtin_popcount(keys[0].bytes[i] ^ keys[k + 1].bytes[i]);
	}
	assert_in_range(bits[0] / 1000, 110, 114);
	assert_in_range(bits[1] / 1000, 110, 114);
}

/* Whoever knows a key of a slot does not know the next one: about half of the 45 bits change. */
static void test_neighbours_are_unlike(void **state UNUSED)
{
	unsigned total = 0;
	unsigned least = 64;

	for (uint16_t generation = 0; generation < 1000; generation++) {
		uint64_t change = key_of(1, 0, 5, generation) ^ key_of(1, 0, 5, (uint16_t)(generation + 1));
		unsigned bits = (unsigned)__builtin_popcountll(change);

		total += bits;
		least = bits < least ? bits : least;
	}
	assert_in_range(total / 1000, 20, 25);
	assert_true(least >= 5);
}

/* Another process has other keys. */
static void test_secret_counts(void **state UNUSED)
{
	unsigned same = 0;

	for (uint32_t slot = 0; slot < 1000; slot++) {
		uint64_t ours = key_of(1, 0, slot, 1);

		key_secret[0] ^= 1;
		same += ours == key_of(1, 0, slot, 1);
		key_secret[0] ^= 1;
	}
	assert_int_equal(same, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_keys_differ),
		cmocka_unit_test(test_fixed_bits),
		cmocka_unit_test(test_hops),
		cmocka_unit_test(test_neighbours_are_unlike),
		cmocka_unit_test(test_secret_counts),
		cmocka_unit_test(test_long_keys),
		cmocka_unit_test(test_long_keys_are_unlike),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
