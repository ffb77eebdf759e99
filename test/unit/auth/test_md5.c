#include "auth/md5.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_stored_form(void **state)
{
	char out[MD5_SECRET_LEN + 1];

	assert_int_equal(md5_make_secret(slice_of("pencil"), "user", out), 0);
	assert_string_equal(out, "md520c46e3762c864548e296b33c3406aa9");
	assert_int_equal(md5_make_secret(slice_of(""), "user", out), 0);
	assert_string_equal(out, "md5ee11cbb19052e40b07aac0ca060c23ee");
}

static void test_answer_to_a_salt(void **state)
{
	static const uint8_t salt[MD5_SALT_LEN] = { 1, 2, 3, 4 };
	static const uint8_t other[MD5_SALT_LEN] = { 1, 2, 3, 5 };
	char out[MD5_SECRET_LEN + 1];

	assert_int_equal(md5_make_response("md520c46e3762c864548e296b33c3406aa9", salt, out), 0);
	assert_string_equal(out, "md54376eb6913b38f9aaff38dc7cf19ca76");
	assert_int_equal(md5_make_response("md520c46e3762c864548e296b33c3406aa9", other, out), 0);
	assert_string_not_equal(out, "md54376eb6913b38f9aaff38dc7cf19ca76");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stored_form),
		cmocka_unit_test(test_answer_to_a_salt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
