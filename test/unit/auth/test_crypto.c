#include "auth/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void check_hex(const uint8_t *bytes, size_t n, const char *hex)
{
	char text[129];

	assert_int_equal(strlen(hex), 2 * n);
	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	assert_string_equal(text, hex);
}

static void test_sha256(void **state)
{
	uint8_t out[CRYPTO_SHA256_LEN];

	assert_int_equal(crypto_sha256("abc", 3, out), 0);
	check_hex(out, sizeof(out), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_hmac_parts_count_as_one_text(void **state)
{
	/* RFC 4231, case 2, in pieces; one of them empty. */
	const struct crypto_part parts[] = { { "what do ya ", 11 }, { NULL, 0 }, { "want for nothing?", 17 } };
	uint8_t out[CRYPTO_SHA256_LEN];

	assert_int_equal(crypto_hmac("Jefe", 4, parts, ARRAY_LEN(parts), out), 0);
	check_hex(out, sizeof(out), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

static void test_hmac_long_key_is_hashed(void **state)
{
	/* RFC 4231, case 6. */
	const struct crypto_part part = { "Test Using Larger Than Block-Size Key - Hash Key First", 54 };
	uint8_t key[131];
	uint8_t out[CRYPTO_SHA256_LEN];

	memset(key, 0xaa, sizeof(key));
	assert_int_equal(crypto_hmac(key, sizeof(key), &part, 1, out), 0);
	check_hex(out, sizeof(out), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void test_pbkdf2(void **state)
{
	uint8_t out[CRYPTO_SHA256_LEN];

	assert_int_equal(crypto_pbkdf2("password", 8, (const uint8_t *)"salt", 4, 1, out), 0);
	check_hex(out, sizeof(out), "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b");
	assert_int_equal(crypto_pbkdf2(NULL, 0, (const uint8_t *)"salt", 4, 1, out), 0);
}

static void test_random_differs(void **state)
{
	uint8_t a[16];
	uint8_t b[16];

	assert_int_equal(crypto_random(a, sizeof(a)), 0);
	assert_int_equal(crypto_random(b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256),
		cmocka_unit_test(test_hmac_parts_count_as_one_text),
		cmocka_unit_test(test_hmac_long_key_is_hashed),
		cmocka_unit_test(test_pbkdf2),
		cmocka_unit_test(test_random_differs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
