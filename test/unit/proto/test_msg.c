#include "proto/msg.h"

#include "proto_test.h"

static void names_follow_the_tables(void **state)
{
	(void)state;
	assert_string_equal(msg_fe_name('Q'), "Query");
	assert_string_equal(msg_be_name('Z'), "ReadyForQuery");
	assert_string_equal(msg_fe_name('S'), "Sync");
	assert_string_equal(msg_be_name('S'), "ParameterStatus");
	assert_string_equal(msg_fe_name(FE_PASSWORD), "PasswordMessage");
	assert_string_equal(msg_be_name(BE_PARSE_COMPLETE), "ParseComplete");
}

static void each_byte_has_a_name(void **state)
{
	unsigned fe = 0, be = 0;

	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		assert_non_null(msg_fe_name((uint8_t)c));
		assert_non_null(msg_be_name((uint8_t)c));
		fe += strcmp(msg_fe_name((uint8_t)c), "unknown") != 0;
		be += strcmp(msg_be_name((uint8_t)c), "unknown") != 0;
	}
	assert_int_equal(fe, 14);
	assert_int_equal(be, 24);
}

static void request_codes_have_their_values(void **state)
{
	(void)state;
	assert_int_equal(PROTO_V3_0, 196608);
	assert_int_equal(PROTO_CANCEL_REQUEST, 80877102);
	assert_int_equal(PROTO_SSL_REQUEST, 80877103);
	assert_int_equal(PROTO_GSSENC_REQUEST, 80877104);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_follow_the_tables),
		cmocka_unit_test(each_byte_has_a_name),
		cmocka_unit_test(request_codes_have_their_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
