/* The vector of the SipHash paper's reference code: key 00 01 ... 0f, message 00 01 ... 07. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/siphash.h"

static void test_vector(void **state UNUSED)
{
	uint8_t key[16];
	uint64_t message;
	uint8_t bytes[8];

	for (unsigned i = 0; i < 16; i++)
		key[i] = (uint8_t)i;
	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)i;
	memcpy(&message, bytes, sizeof(message));
	assert_true(siphash_u64(key, message) == UINT64_C(0x93f5f5799a932462));
}

static void test_key_matters(void **state UNUSED)
{
	uint8_t key[16] = { 0 };
	uint64_t first = siphash_u64(key, 1);

	key[15] = 1;
	assert_true(siphash_u64(key, 1) != first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vector),
		cmocka_unit_test(test_key_matters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
