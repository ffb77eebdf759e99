/*
 * Keys of another process: found by all of their bytes, each at the place of
 * its client, and gone with it.
 */
#include "pool/carried_key.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/alloc.h"

static struct engine *engine;

static int setup(void **state UNUSED)
{
	engine = xcalloc(1, sizeof(*engine));
	lock_init(&engine->lock, LOCK_RANK_REGISTRY);
	return 0;
}

static int teardown(void **state UNUSED)
{
	assert_null(engine->carried_keys);
	lock_fini(&engine->lock);
	free(engine);
	return 0;
}

/* A key of n bytes, all of them but the last alike. */
static struct cancel_key key_of(size_t n, uint8_t last)
{
	struct cancel_key key;
	uint8_t bytes[CANCEL_KEY_MAX];

	memset(bytes, 7, sizeof(bytes));
	bytes[n - 1] = last;
	cancel_key_set(&key, bytes, n);
	return key;
}

/* The slot that a key leads to, -1: nowhere. */
static int slot_of(size_t n, uint8_t last)
{
	struct cancel_key key = key_of(n, last);
	struct cancel_place place;

	return carried_key_find(engine, &key, &place) ? (int)place.slot : -1;
}

static struct carried_key *carry(size_t n, uint8_t last, uint32_t slot)
{
	struct cancel_key key = key_of(n, last);
	struct carried_key *carried = carried_key_new(&key);
	struct cancel_key back;

	carried_key_get(carried, &back);
	assert_true(cancel_key_equal(&back, &key));
	carried_key_list(engine, carried, &(struct cancel_place){ 1, slot, 2 });
	return carried;
}

static void test_all_bytes_count(void **state UNUSED)
{
	static const size_t lengths[] = { CANCEL_KEY_LEN, CANCEL_KEY_LONG, CANCEL_KEY_MAX };
	struct carried_key *keys[2 * ARRAY_LEN(lengths)];

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		keys[i] = carry(lengths[i / 2], (uint8_t)(i % 2), (uint32_t)i);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		assert_int_equal(slot_of(lengths[i / 2], (uint8_t)(i % 2)), (int)i);
		assert_int_equal(slot_of(lengths[i / 2], 2), -1);
		assert_int_equal(slot_of(lengths[i / 2] - (i > 1), 7), -1);
	}
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		carried_key_free(engine, &keys[i]);
		assert_null(keys[i]);
		assert_int_equal(slot_of(lengths[i / 2], (uint8_t)(i % 2)), -1);
	}
	carried_key_free(engine, &keys[0]); /* of nothing */
}

/* The first of two stays, whichever of them goes. */
static void test_two_with_one_key(void **state UNUSED)
{
	struct carried_key *first = carry(CANCEL_KEY_LONG, 1, 10);
	struct carried_key *second = carry(CANCEL_KEY_LONG, 1, 20);

	assert_int_equal(slot_of(CANCEL_KEY_LONG, 1), 10);
	carried_key_free(engine, &second);
	assert_int_equal(slot_of(CANCEL_KEY_LONG, 1), 10);
	carried_key_free(engine, &first);
	assert_int_equal(slot_of(CANCEL_KEY_LONG, 1), -1);
}

/* A client may go before it has a place. */
static void test_never_listed(void **state UNUSED)
{
	struct cancel_key key = key_of(CANCEL_KEY_LONG, 1);
	struct carried_key *carried = carried_key_new(&key);

	assert_int_equal(slot_of(CANCEL_KEY_LONG, 1), -1);
	carried_key_free(engine, &carried);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_bytes_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_with_one_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_listed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
