#include "proto/build.h"

#include "proto_test.h"

#include "core/err.h"
#include "proto/parse.h"
#include "proto/wire.h"

static struct buf b;

static int setup(void **state)
{
	(void)state;
	buf_init(&b, 1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	buf_fini(&b);
	return 0;
}

static const struct build_report report = {
	.severity = { "FATAL", 5 },
	.sqlstate = { "08P01", 5 },
	.message = { "no such user", 12 },
	.detail = { "why", 3 },
	.hint = { "do", 2 },
	.with_plain_severity = true,
};

static void reports_have_two_styles(void **state)
{
	struct build_report r = report;
	struct parse_report p;

	(void)state;
	assert_int_equal(build_error(&b, &r), 0);
	assert_slice(only_body(&b, BE_ERROR), "SFATAL\0VFATAL\0C08P01\0Mno such user\0Dwhy\0Hdo\0\0");
	assert_int_equal(parse_report(only_body(&b, BE_ERROR), &p), 0);
	assert_slice(p.severity, "FATAL");
	assert_slice(p.sqlstate, "08P01");
	assert_slice(p.message, "no such user");
	assert_slice(p.detail, "why");
	assert_slice(p.hint, "do");
	buf_clear(&b);
	r.with_plain_severity = false;
	assert_int_equal(build_notice(&b, &r), 0);
	assert_slice(only_body(&b, BE_NOTICE), "SFATAL\0C08P01\0Mno such user\0Dwhy\0Hdo\0\0");
	buf_clear(&b);
	r.with_plain_severity = true;
	r.hint = r.detail = slice_of("");
	assert_int_equal(build_notice(&b, &r), 0);
	assert_slice(only_body(&b, BE_NOTICE), "SFATAL\0VFATAL\0C08P01\0Mno such user\0\0");
}

static void a_nul_in_a_report_is_refused(void **state)
{
	struct build_report r = report;

	(void)state;
	r.message = LIT("a\0Mb");
	assert_int_equal(build_error(&b, &r), -E_RANGE);
	assert_true(buf_is_empty(&b));
}

static void authentication_requests_are_parsed_back(void **state)
{
	const uint8_t salt[4] = { 1, 0, 2, 3 };
	struct parse_auth a;
	struct slice m;

	(void)state;
	assert_int_equal(build_auth_ok(&b), 0);
	assert_int_equal(parse_auth(only_body(&b, BE_AUTH), &a), 0);
	assert_int_equal(a.code, AUTH_OK);
	buf_clear(&b);
	assert_int_equal(build_auth_cleartext(&b), 0);
	assert_int_equal(parse_auth(only_body(&b, BE_AUTH), &a), 0);
	assert_int_equal(a.code, AUTH_CLEARTEXT);
	buf_clear(&b);
	assert_int_equal(build_auth_md5(&b, salt), 0);
	assert_int_equal(parse_auth(only_body(&b, BE_AUTH), &a), 0);
	assert_int_equal(a.code, AUTH_MD5);
	assert_slice(a.data, "\x01\0\x02\x03");
	buf_clear(&b);
	assert_int_equal(build_auth_sasl(&b, LIT("SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")), 0);
	assert_int_equal(parse_auth(only_body(&b, BE_AUTH), &a), 0);
	assert_int_equal(a.code, AUTH_SASL);
	assert_true(parse_auth_mechanism_next(&a.data, &m));
	assert_slice(m, "SCRAM-SHA-256-PLUS");
	assert_true(parse_auth_mechanism_next(&a.data, &m));
	assert_slice(m, "SCRAM-SHA-256");
	assert_false(parse_auth_mechanism_next(&a.data, &m));
	buf_clear(&b);
	assert_int_equal(build_auth_sasl_continue(&b, LIT("r=x")), 0);
	assert_int_equal(parse_auth(only_body(&b, BE_AUTH), &a), 0);
	assert_int_equal(a.code, AUTH_SASL_CONTINUE);
	assert_slice(a.data, "r=x");
	buf_clear(&b);
	assert_int_equal(build_auth_sasl_final(&b, LIT("v=y")), 0);
	assert_int_equal(parse_auth(only_body(&b, BE_AUTH), &a), 0);
	assert_int_equal(a.code, AUTH_SASL_FINAL);
	assert_slice(a.data, "v=y");
}

static void session_messages_are_parsed_back(void **state)
{
	const struct slice names[] = { LIT("_pq_.a"), LIT("_pq_.b") };
	struct parse_negotiate n;
	struct slice name, value;
	enum tx_status status;
	uint32_t pid;

	(void)state;
	assert_int_equal(build_parameter_status(&b, LIT("TimeZone"), LIT("UTC")), 0);
	assert_int_equal(parse_parameter_status(only_body(&b, BE_PARAMETER_STATUS), &name, &value), 0);
	assert_slice(name, "TimeZone");
	assert_slice(value, "UTC");
	buf_clear(&b);
	assert_int_equal(build_backend_key(&b, 0x7fffffff, LIT("\0\1\2\3")), 0);
	assert_int_equal(parse_backend_key(only_body(&b, BE_BACKEND_KEY), &pid, &value), 0);
	assert_int_equal(pid, 0x7fffffff);
	assert_slice(value, "\0\1\2\3");
	buf_clear(&b);
	assert_int_equal(build_ready(&b, TX_FAILED), 0);
	assert_int_equal(parse_ready(only_body(&b, BE_READY), &status), 0);
	assert_int_equal(status, TX_FAILED);
	buf_clear(&b);
	assert_int_equal(build_negotiate(&b, PROTO_V3_0, names, 2), 0);
	assert_int_equal(parse_negotiate(only_body(&b, BE_NEGOTIATE), &n), 0);
	assert_int_equal(n.version, PROTO_V3_0);
	assert_int_equal(n.n, 2);
	assert_slice(n.names, "_pq_.a\0_pq_.b\0");
	buf_clear(&b);
	assert_int_equal(build_command_complete(&b, "SHOW"), 0);
	assert_int_equal(parse_command_complete(only_body(&b, BE_COMMAND_COMPLETE), &value), 0);
	assert_slice(value, "SHOW");
}

static void plain_messages_are_five_bytes(void **state)
{
	static const struct {
		int (*build)(struct buf *);
		uint8_t type;
	} cases[] = {
		{ build_empty_query, BE_EMPTY_QUERY },
		{ build_parse_complete, BE_PARSE_COMPLETE },
		{ build_bind_complete, BE_BIND_COMPLETE },
		{ build_close_complete, BE_CLOSE_COMPLETE },
		{ build_no_data, BE_NO_DATA },
		{ build_sync, FE_SYNC },
		{ build_terminate, FE_TERMINATE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(cases[i].build(&b), 0);
		assert_slice(only_body(&b, cases[i].type), "");
		buf_clear(&b);
	}
}

static void rows_have_their_shape(void **state)
{
	const struct build_column cols[] = { { "n", OID_INT4, false },
					     { "t", OID_TEXT, false },
					     { "q", OID_INT8, true } };
	const struct slice values[] = { LIT("42"), { NULL, 0 }, LIT("") };
	const uint32_t oids[] = { 23, 0x01020304 };

	(void)state;
	assert_int_equal(build_row_description(&b, cols, 3), 0);
	assert_slice(only_body(&b, BE_ROW_DESCRIPTION), "\0\x03"
							"n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0"
							"t\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
							"q\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01");
	buf_clear(&b);
	assert_int_equal(build_data_row(&b, values, 3), 0);
	assert_slice(only_body(&b, BE_DATA_ROW), "\0\x03\0\0\0\x02"
						 "42\xff\xff\xff\xff\0\0\0\0");
	buf_clear(&b);
	assert_int_equal(build_row_description(&b, NULL, 0), 0);
	assert_slice(only_body(&b, BE_ROW_DESCRIPTION), "\0\0");
	buf_clear(&b);
	assert_int_equal(build_data_row(&b, NULL, 0), 0);
	assert_slice(only_body(&b, BE_DATA_ROW), "\0\0");
	buf_clear(&b);
	assert_int_equal(build_parameter_description(&b, oids, 2), 0);
	assert_slice(only_body(&b, BE_PARAMETER_DESCRIPTION), "\0\x02\0\0\0\x17\x01\x02\x03\x04");
}

static void counts_have_a_limit(void **state)
{
	static uint32_t oids[65536];
	static struct slice values[65536];
	static struct build_column cols[32768];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cols); i++)
		cols[i] = (struct build_column){ "c", OID_TEXT, false };
	assert_int_equal(build_parameter_description(&b, oids, 65536), -E_RANGE);
	assert_int_equal(build_parse(&b, LIT(""), LIT(""), oids, 65536), -E_RANGE);
	assert_int_equal(build_bind(&b, LIT(""), LIT(""), values, 65536), -E_RANGE);
	assert_int_equal(build_data_row(&b, values, 32768), -E_RANGE);
	assert_int_equal(build_row_description(&b, cols, 32768), -E_RANGE);
	assert_true(buf_is_empty(&b));
	assert_int_equal(build_parameter_description(&b, oids, 65535), 0);
	assert_int_equal(only_body(&b, BE_PARAMETER_DESCRIPTION).n, 2 + 4 * 65535);
}

static void first_packets_have_no_type(void **state)
{
	const struct build_pair params[] = { { LIT("user"), LIT("u") }, { LIT("options"), LIT("") } };
	const struct build_pair unnamed[] = { { LIT(""), LIT("u") } };

	(void)state;
	assert_int_equal(build_ssl_request(&b), 0);
	assert_slice(buf_slice(&b), "\0\0\0\x08\x04\xd2\x16\x2f");
	buf_clear(&b);
	assert_int_equal(build_cancel_request(&b, 1, LIT("\2\3\4\5")), 0);
	assert_slice(buf_slice(&b), "\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\1\2\3\4\5");
	buf_clear(&b);
	assert_int_equal(build_startup(&b, PROTO_V3_0, params, 2), 0);
	assert_slice(buf_slice(&b), "\0\0\0\x19\0\3\0\0user\0u\0options\0\0\0");
	buf_clear(&b);
	assert_int_equal(build_startup(&b, PROTO_V3_0, unnamed, 1), -E_RANGE);
	assert_true(buf_is_empty(&b));
}

static void password_messages_have_their_shape(void **state)
{
	(void)state;
	assert_int_equal(build_password(&b, LIT("secret")), 0);
	assert_slice(only_body(&b, FE_PASSWORD), "secret\0");
	buf_clear(&b);
	assert_int_equal(build_password(&b, LIT("sec\0ret")), -E_RANGE);
	assert_int_equal(build_sasl_initial(&b, "SCRAM-SHA-256", LIT("n,,n=,r=x")), 0);
	assert_slice(only_body(&b, FE_PASSWORD), "SCRAM-SHA-256\0\0\0\0\11n,,n=,r=x");
	buf_clear(&b);
	assert_int_equal(build_sasl_initial(&b, "X", slice_make(NULL, 0)), 0);
	assert_slice(only_body(&b, FE_PASSWORD), "X\0\377\377\377\377");
	buf_clear(&b);
	assert_int_equal(build_sasl_response(&b, LIT("c=biws")), 0);
	assert_slice(only_body(&b, FE_PASSWORD), "c=biws");
}

static void queries_have_their_shape(void **state)
{
	const uint32_t oids[] = { 25 };
	const struct slice values[] = { LIT("joe"), { NULL, 0 } };
	struct slice sql;

	(void)state;
	assert_int_equal(build_query(&b, LIT("SELECT 1")), 0);
	assert_int_equal(parse_query(only_body(&b, FE_QUERY), &sql), 0);
	assert_slice(sql, "SELECT 1");
	buf_clear(&b);
	assert_int_equal(build_parse(&b, LIT("s"), LIT("q"), oids, 1), 0);
	assert_slice(only_body(&b, FE_PARSE), "s\0q\0\0\1\0\0\0\x19");
	buf_clear(&b);
	assert_int_equal(build_parse(&b, LIT(""), LIT("q"), NULL, 0), 0);
	assert_slice(only_body(&b, FE_PARSE), "\0q\0\0\0");
	buf_clear(&b);
	assert_int_equal(build_bind(&b, LIT("p"), LIT("s"), values, 2), 0);
	assert_slice(only_body(&b, FE_BIND), "p\0s\0\0\0\0\2\0\0\0\3joe\xff\xff\xff\xff\0\0");
	buf_clear(&b);
	assert_int_equal(build_describe(&b, TARGET_STATEMENT, LIT("s")), 0);
	assert_slice(only_body(&b, FE_DESCRIBE), "Ss\0");
	buf_clear(&b);
	assert_int_equal(build_close(&b, TARGET_PORTAL, LIT("")), 0);
	assert_slice(only_body(&b, FE_CLOSE), "P\0");
	buf_clear(&b);
	assert_int_equal(build_execute(&b, LIT("p"), 258), 0);
	assert_slice(only_body(&b, FE_EXECUTE), "p\0\0\0\1\2");
}

/* Whatever is the room, a message is there whole or not at all. */
static void messages_are_whole_or_absent(void **state)
{
	const struct slice values[] = { LIT("42"), { NULL, 0 }, LIT("") };
	const uint32_t whole_error = 5 + 45, whole_row = 5 + 16;

	(void)state;
	for (uint32_t max = 0; max < 100; max++) {
		struct buf small;
		int err;

		buf_init(&small, max);
		err = build_error(&small, &report);
		assert_int_equal(err, max >= whole_error ? 0 : -E_NOSPACE);
		assert_int_equal(buf_len(&small), err == 0 ? whole_error : 0);
		buf_clear(&small);
		err = build_data_row(&small, values, 3);
		assert_int_equal(err, max >= whole_row ? 0 : -E_NOSPACE);
		assert_int_equal(buf_len(&small), err == 0 ? whole_row : 0);
		buf_fini(&small);
	}
}

static void messages_follow_each_other(void **state)
{
	(void)state;
	assert_int_equal(build_auth_ok(&b), 0);
	assert_int_equal(build_ready(&b, TX_IDLE), 0);
	assert_slice(buf_slice(&b), "R\0\0\0\x08\0\0\0\0Z\0\0\0\5I");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reports_have_two_styles),
		TEST(a_nul_in_a_report_is_refused),
		TEST(authentication_requests_are_parsed_back),
		TEST(session_messages_are_parsed_back),
		TEST(plain_messages_are_five_bytes),
		TEST(rows_have_their_shape),
		TEST(counts_have_a_limit),
		TEST(first_packets_have_no_type),
		TEST(password_messages_have_their_shape),
		TEST(queries_have_their_shape),
		TEST(messages_are_whole_or_absent),
		TEST(messages_follow_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
