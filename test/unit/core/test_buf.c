#include "core/buf.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static size_t wiped; /* bytes */

/* In place of the function of the C library. */
void explicit_bzero(void *p, size_t n)
{
	memset(p, 0, n);
	wiped += n;
}

static void put(struct buf *b, const char *text)
{
	assert_int_equal(buf_append(b, text, strlen(text)), 0);
}

static void expect(const struct buf *b, const char *text)
{
	assert_int_equal(buf_len(b), strlen(text));
	assert_memory_equal(buf_ptr(b), text, strlen(text));
}

static void test_empty(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 100);
	assert_true(buf_is_empty(&b));
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(buf_room(&b), 100);
	assert_null(b.data);
	buf_consume(&b, 0);
	buf_truncate(&b, 0);
	assert_int_equal(buf_append(&b, NULL, 0), 0);
	assert_null(b.data);
	buf_clear(&b);
	buf_fini(&b);
}

static void test_append_and_consume(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 1000);
	put(&b, "hello ");
	put(&b, "world");
	expect(&b, "hello world");
	assert_int_equal(buf_room(&b), 1000 - 11);
	buf_consume(&b, 6);
	expect(&b, "world");
	buf_truncate(&b, 3);
	expect(&b, "wor");
	put(&b, "k");
	expect(&b, "work");
	buf_fini(&b);
}

/* An empty buffer holds no memory, whichever way it became empty. */
static void test_gives_memory_back(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 1000);
	put(&b, "abc");
	assert_non_null(b.data);
	buf_consume(&b, 3);
	assert_null(b.data);
	assert_int_equal(b.size, 0);
	put(&b, "abc");
	buf_truncate(&b, 0);
	assert_null(b.data);
	put(&b, "abc");
	buf_clear(&b);
	assert_null(b.data);
	put(&b, "again");
	expect(&b, "again");
	buf_fini(&b);
	assert_null(b.data);
}

static void test_maximum(void **state UNUSED)
{
	static const uint8_t bytes[2000];
	struct buf b;

	buf_init(&b, 1000);
	assert_int_equal(buf_append(&b, bytes, 1001), -E_NOSPACE);
	assert_true(buf_is_empty(&b));
	assert_int_equal(buf_append(&b, bytes, 999), 0);
	assert_int_equal(buf_append(&b, bytes, 2), -E_NOSPACE);
	assert_int_equal(buf_len(&b), 999);
	assert_null(buf_reserve(&b, 2));
	assert_int_equal(buf_append(&b, bytes, 1), 0);
	assert_int_equal(buf_room(&b), 0);
	assert_int_equal(buf_append(&b, bytes, 1), -E_NOSPACE);
	assert_true(b.size <= 1000);
	/* What was consumed counts as room again. */
	buf_consume(&b, 500);
	assert_int_equal(buf_room(&b), 500);
	assert_int_equal(buf_append(&b, bytes, 500), 0);
	assert_int_equal(buf_append(&b, bytes, (size_t)UINT32_MAX + 1), -E_NOSPACE);
	buf_fini(&b);
}

static void test_max_of_zero(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 0);
	assert_int_equal(buf_append(&b, "x", 1), -E_NOSPACE);
	assert_null(buf_reserve(&b, 1));
	buf_fini(&b);
}

static void test_reserve_and_commit(void **state UNUSED)
{
	struct buf b;
	uint8_t *at;

	buf_init(&b, 1000);
	at = buf_reserve(&b, 10);
	assert_non_null(at);
	assert_true(buf_is_empty(&b));
	memcpy(at, "12345", 5);
	buf_commit(&b, 5);
	expect(&b, "12345");
	assert_int_equal(buf_reserve(&b, 5) - buf_ptr(&b), 5);
	buf_fini(&b);

	/* A reservation that comes to nothing gives its memory back on clearing. */
	assert_non_null(buf_reserve(&b, 10));
	buf_clear(&b);
	assert_null(b.data);
}

/* Content that moved towards the end is shifted to the front before the buffer grows. */
static void test_compaction(void **state UNUSED)
{
	struct buf b;
	uint32_t size;
	uint8_t byte;

	buf_init(&b, 100000);
	for (int i = 0; i < 400; i++) {
		byte = (uint8_t)i;
		assert_int_equal(buf_append(&b, &byte, 1), 0);
	}
	size = b.size;
	for (int i = 400; i < 20000; i++) {
		byte = (uint8_t)i;
		assert_int_equal(buf_append(&b, &byte, 1), 0);
		assert_int_equal(*buf_ptr(&b), (uint8_t)(i - 400));
		buf_consume(&b, 1);
		assert_int_equal(b.size, size);
	}
	buf_fini(&b);
}

static void test_growth_keeps_content(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 1u << 20);
	for (uint32_t i = 0; i < 1u << 18; i++) {
		assert_int_equal(buf_append(&b, &i, sizeof(i)), 0);
		/* Never more than twice what is needed. */
		assert_true(b.size <= 512 || b.size < 2 * buf_len(&b) + 8);
	}
	assert_int_equal(buf_room(&b), 0);
	for (uint32_t i = 0; i < 1u << 18; i++) {
		uint32_t value;

		memcpy(&value, buf_ptr(&b), sizeof(value));
		assert_int_equal(value, i);
		buf_consume(&b, sizeof(value));
	}
	assert_null(b.data);
}

/* Random steps against a plain model: every byte comes out once, in order. */
static void test_model(void **state UNUSED)
{
	enum { MAX = 5000 };
	struct buf b;
	uint64_t put_count = 0;
	uint64_t got_count = 0;
	uint32_t seed = 1;

	buf_init(&b, MAX);
	for (int step = 0; step < 20000; step++) {
		uint8_t bytes[1500];
		uint32_t n;

		seed = seed * 1664525u + 1013904223u;
		n = (seed >> 8) % sizeof(bytes);
		if (seed >> 31) {
			for (uint32_t i = 0; i < n; i++)
				bytes[i] = (uint8_t)((put_count + i) * 31);
			if (buf_append(&b, bytes, n) == 0)
				put_count += n;
			else
				assert_true(buf_len(&b) + n > MAX);
		} else {
			n = n < buf_len(&b) ? n : buf_len(&b);
			for (uint32_t i = 0; i < n; i++)
				assert_int_equal(buf_ptr(&b)[i], (uint8_t)((got_count + i) * 31));
			buf_consume(&b, n);
			got_count += n;
		}
		assert_int_equal(buf_len(&b), put_count - got_count);
	}
	assert_true(got_count > 1000000);
	buf_fini(&b);
}

static void test_wipe(void **state)
{
	struct buf b;

	buf_init(&b, 100);
	buf_wipe(&b); /* nothing is held */
	assert_int_equal(buf_append(&b, "secret", 6), 0);
	buf_consume(&b, 2);
	buf_wipe(&b);
	assert_true(buf_is_empty(&b));
	assert_int_equal(buf_append(&b, "again", 5), 0);
	buf_fini(&b);
}

/* Memory of a buffer for secrets is overwritten wherever it is given back, and only there. */
static void test_secrets(void **state)
{
	static const char text[400] = "secret";

	for (int is_secret = 0; is_secret <= 1; is_secret++) {
		struct buf b;
		size_t times = is_secret ? 1 : 0;

		wiped = 0;
		buf_init(&b, 4096);
		b.is_secret = is_secret != 0;
		assert_int_equal(buf_append(&b, text, sizeof(text)), 0);
		assert_int_equal(wiped, 0);
		assert_int_equal(buf_append(&b, text, sizeof(text)), 0);
		assert_int_equal(wiped, times * 512); /* it has grown */
		buf_consume(&b, 799);
		assert_int_equal(wiped, times * 512);
		buf_consume(&b, 1);
		assert_int_equal(wiped, times * (512 + 1024));
		assert_int_equal(buf_append(&b, text, 1), 0);
		buf_truncate(&b, 0);
		assert_int_equal(wiped, times * (512 + 1024 + 512));
		assert_int_equal(buf_append(&b, text, 1), 0);
		buf_fini(&b);
		assert_int_equal(wiped, times * (512 + 1024 + 512 + 512));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_append_and_consume),
		cmocka_unit_test(test_gives_memory_back),
		cmocka_unit_test(test_maximum),
		cmocka_unit_test(test_max_of_zero),
		cmocka_unit_test(test_reserve_and_commit),
		cmocka_unit_test(test_compaction),
		cmocka_unit_test(test_growth_keeps_content),
		cmocka_unit_test(test_wipe),
		cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
