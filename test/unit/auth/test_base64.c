#include "auth/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/err.h"

static ssize_t decode(const char *text, uint8_t *dst, size_t size)
{
	return base64_decode(dst, size, slice_of(text));
}

static void test_known_values(void **state)
{
	static const struct {
		const char *plain;
		const char *coded;
	} rows[] = {
		{ "", "" },
		{ "f", "Zg==" },
		{ "fo", "Zm8=" },
		{ "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[16];
		uint8_t bytes[16];
		size_t n = strlen(rows[i].plain);

		assert_int_equal(base64_encode(text, sizeof(text), (const uint8_t *)rows[i].plain, n),
				 strlen(rows[i].coded));
		assert_string_equal(text, rows[i].coded);
		assert_int_equal(decode(rows[i].coded, bytes, n), (int)n);
		assert_memory_equal(bytes, rows[i].plain, n);
		if (n > 0)
			assert_int_equal(decode(rows[i].coded, bytes, n - 1), -E_NOSPACE);
	}
}

static void test_all_bytes_survive(void **state)
{
	uint8_t in[256];
	uint8_t out[256];
	char text[BASE64_ENCODED_LEN(sizeof(in)) + 1];

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 167 + 13);
	for (size_t n = 0; n <= sizeof(in); n++) {
		size_t len = base64_encode(text, sizeof(text), in, n);

		assert_int_equal(len, BASE64_ENCODED_LEN(n));
		assert_true(n <= BASE64_DECODED_MAX(len));
		assert_int_equal(decode(text, out, sizeof(out)), (int)n);
		assert_memory_equal(in, out, n);
	}
}

static void test_anything_else_is_refused(void **state)
{
	static const char *const bad[] = {
		"Z",     "Zg",   "Zg=",    "Zg===", "=Zg=",     "Z===",     "====",     "Zh==", "Zm9=",    "Zm9v ",
		" Zm9v", "Zm 9", "Zm9v\n", "Zm\n=", "Zm9v====", "Zg==Zg==", "Zm8=Zm8=", "Zm-_", "Zm9\x80", "Z=9v",
	};
	uint8_t bytes[16];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(decode(bad[i], bytes, sizeof(bytes)), -E_SYNTAX);
	assert_int_equal(base64_decode(bytes, sizeof(bytes), slice_make("Zm\0v", 4)), -E_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_values),
		cmocka_unit_test(test_all_bytes_survive),
		cmocka_unit_test(test_anything_else_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
