#include "proto/parse.h"

#include "proto_test.h"

static void a_report_gives_its_fields(void **state)
{
	struct parse_report r;

	(void)state;
	assert_int_equal(parse_report(LIT("SFEHLER\0VERROR\0C42601\0Mbad\0Dmore\0Hhelp\0P12\0Fx.c\0\0"), &r), 0);
	assert_slice(r.severity, "ERROR");
	assert_slice(r.sqlstate, "42601");
	assert_slice(r.message, "bad");
	assert_slice(r.detail, "more");
	assert_slice(r.hint, "help");
}

/* A server that leaves fields out must not make anybody follow a NULL. */
static void each_field_may_be_missing(void **state)
{
	static const char *const fields[] = { "SERROR", "C42601", "Mbad", "Dmore", "Hhelp" };
	char body[64];

	(void)state;
	for (size_t skip = 0; skip < ARRAY_LEN(fields); skip++) {
		struct parse_report r;
		size_t n = 0;

		for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
			if (i == skip)
				continue;
			memcpy(body + n, fields[i], strlen(fields[i]) + 1);
			n += strlen(fields[i]) + 1;
		}
		body[n++] = '\0';
		assert_int_equal(parse_report(slice_make(body, n), &r), 0);
		assert_int_equal(r.severity.n, skip == 0 ? 0 : 5);
		assert_int_equal(r.sqlstate.n, skip == 1 ? 0 : 5);
		assert_int_equal(r.message.n, skip == 2 ? 0 : 3);
		assert_int_equal(r.detail.n, skip == 3 ? 0 : 4);
		assert_int_equal(r.hint.n, skip == 4 ? 0 : 4);
		assert_non_null(r.severity.p);
		assert_non_null(r.sqlstate.p);
		assert_non_null(r.message.p);
		assert_non_null(r.detail.p);
		assert_non_null(r.hint.p);
	}
}

static void a_report_that_is_cut_gives_what_has_come(void **state)
{
	static const char whole[] = "SFATAL\0VFATAL\0C57P01\0Mthe end\0Dmore\0";
	struct parse_report r;

	(void)state;
	assert_int_equal(parse_report(slice_make(whole, sizeof(whole) - 1), &r), -E_PROTO);
	assert_true(slice_eq_str(r.message, "the end"));
	assert_true(slice_eq_str(r.detail, "more"));
	for (size_t n = 0; n < sizeof(whole); n++) {
		assert_int_equal(parse_report(slice_make(whole, n), &r), -E_PROTO);
		assert_int_equal(r.severity.n, n < 7 ? 0 : 5);
		assert_int_equal(r.sqlstate.n, n < 21 ? 0 : 5);
		assert_int_equal(r.message.n, n < 22 ? 0 : n < 29 ? n - 22 : 7);
	}
}

static void a_report_may_be_empty_but_ends_exactly(void **state)
{
	struct parse_report r;

	(void)state;
	assert_int_equal(parse_report(LIT("\0"), &r), 0);
	assert_slice(r.severity, "");
	assert_slice(r.sqlstate, "");
	assert_int_equal(parse_report(LIT(""), &r), -E_PROTO);
	assert_int_equal(parse_report(slice_make(NULL, 0), &r), -E_PROTO);
	assert_int_equal(parse_report(LIT("\0x"), &r), -E_PROTO);
	assert_int_equal(parse_report(LIT("SERROR\0"), &r), -E_PROTO);
	assert_int_equal(parse_report(LIT("SERROR"), &r), -E_PROTO);
	assert_int_equal(parse_report(LIT("SERROR\0\0\0"), &r), -E_PROTO);
	assert_int_equal(parse_report(LIT("M\0\0"), &r), 0);
}

static void parameter_status_has_two_strings(void **state)
{
	struct slice name, value;

	(void)state;
	assert_int_equal(parse_parameter_status(LIT("TimeZone\0UTC\0"), &name, &value), 0);
	assert_slice(name, "TimeZone");
	assert_slice(value, "UTC");
	assert_int_equal(parse_parameter_status(LIT("\0\0"), &name, &value), 0);
	assert_int_equal(parse_parameter_status(LIT("a\0b"), &name, &value), -E_PROTO);
	assert_int_equal(parse_parameter_status(LIT("a\0"), &name, &value), -E_PROTO);
	assert_int_equal(parse_parameter_status(LIT("a\0b\0c"), &name, &value), -E_PROTO);
}

static void backend_keys_have_4_to_256_bytes(void **state)
{
	char body[4 + 257] = "\0\0\x01\x02";
	struct slice key;
	uint32_t pid;

	(void)state;
	for (size_t n = 0; n <= sizeof(body); n++) {
		bool good = n >= 8 && n <= 260;

		assert_int_equal(parse_backend_key(slice_make(body, n), &pid, &key), good ? 0 : -E_PROTO);
		if (good) {
			assert_int_equal(pid, 0x102);
			assert_int_equal(key.n, n - 4);
		}
	}
}

static void ready_knows_three_letters(void **state)
{
	enum tx_status status;

	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		char body = (char)c;
		bool good = c == 'I' || c == 'T' || c == 'E';

		assert_int_equal(parse_ready(slice_make(&body, 1), &status), good ? 0 : -E_PROTO);
		if (good)
			assert_int_equal(status, c);
	}
	assert_int_equal(parse_ready(LIT(""), &status), -E_PROTO);
	assert_int_equal(parse_ready(LIT("II"), &status), -E_PROTO);
}

static void authentication_data_fits_its_code(void **state)
{
	static const struct {
		struct slice body;
		int err;
	} cases[] = {
		{ { "\0\0\0\0", 4 }, 0 },
		{ { "\0\0\0\0x", 5 }, -E_PROTO },
		{ { "\0\0\0", 3 }, -E_PROTO },
		{ { "", 0 }, -E_PROTO },
		{ { "\0\0\0\3", 4 }, 0 },
		{ { "\0\0\0\3x", 5 }, -E_PROTO },
		{ { "\0\0\0\5salt", 8 }, 0 },
		{ { "\0\0\0\5sal", 7 }, -E_PROTO },
		{ { "\0\0\0\5salty", 9 }, -E_PROTO },
		{ { "\0\0\0\nA\0BC\0\0", 10 }, 0 },
		{ { "\0\0\0\n\0", 5 }, 0 },
		{ { "\0\0\0\n", 4 }, -E_PROTO },
		{ { "\0\0\0\nA\0", 6 }, -E_PROTO },
		{ { "\0\0\0\nA", 5 }, -E_PROTO },
		{ { "\0\0\0\nA\0\0x", 8 }, -E_PROTO },
		{ { "\0\0\0\x0b", 4 }, 0 },
		{ { "\0\0\0\x0bhello", 9 }, 0 },
		{ { "\0\0\0\x0cv=x", 7 }, 0 },
		{ { "\0\0\0\7", 4 }, 0 },
		{ { "\xff\xff\xff\xffwhat", 8 }, 0 },
	};
	struct parse_auth a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(parse_auth(cases[i].body, &a), cases[i].err);
	assert_int_equal(a.code, UINT32_MAX);
	assert_slice(a.data, "what");
}

static void mechanisms_are_walked(void **state)
{
	struct parse_auth a;
	struct slice list, m;

	(void)state;
	assert_int_equal(parse_auth(LIT("\0\0\0\nSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"), &a), 0);
	list = a.data;
	assert_true(parse_auth_mechanism_next(&list, &m));
	assert_slice(m, "SCRAM-SHA-256-PLUS");
	assert_true(parse_auth_mechanism_next(&list, &m));
	assert_slice(m, "SCRAM-SHA-256");
	assert_false(parse_auth_mechanism_next(&list, &m));
	assert_false(parse_auth_mechanism_next(&list, &m));
}

static void negotiation_counts_its_names(void **state)
{
	struct parse_negotiate n;
	struct slice names, name;

	(void)state;
	assert_int_equal(parse_negotiate(LIT("\0\3\0\0\0\0\0\2_pq_.a\0_pq_.b\0"), &n), 0);
	assert_int_equal(n.version, PROTO_V3_0);
	assert_int_equal(n.n, 2);
	names = n.names;
	assert_true(parse_negotiate_next(&names, &name));
	assert_slice(name, "_pq_.a");
	assert_true(parse_negotiate_next(&names, &name));
	assert_slice(name, "_pq_.b");
	assert_false(parse_negotiate_next(&names, &name));
	assert_int_equal(parse_negotiate(LIT("\0\3\0\0\0\0\0\0"), &n), 0);
	assert_int_equal(parse_negotiate(LIT("\0\3\0\0\0\0\0"), &n), -E_PROTO);
	assert_int_equal(parse_negotiate(LIT("\0\3\0\0\0\0\0\1"), &n), -E_PROTO);
	assert_int_equal(parse_negotiate(LIT("\0\3\0\0\0\0\0\1a\0b\0"), &n), -E_PROTO);
	assert_int_equal(parse_negotiate(LIT("\0\3\0\0\xff\xff\xff\xff"
					     "a\0"),
					 &n),
			 -E_PROTO);
}

static void single_strings_end_exactly(void **state)
{
	static int (*const parsers[])(struct slice, struct slice *) = {
		parse_command_complete,
		parse_query,
	};
	struct slice s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(parsers); i++) {
		assert_int_equal(parsers[i](LIT("SELECT 1\0"), &s), 0);
		assert_slice(s, "SELECT 1");
		assert_int_equal(parsers[i](LIT("\0"), &s), 0);
		assert_slice(s, "");
		assert_int_equal(parsers[i](LIT(""), &s), -E_PROTO);
		assert_int_equal(parsers[i](LIT("abc"), &s), -E_PROTO);
		assert_int_equal(parsers[i](LIT("abc\0d"), &s), -E_PROTO);
		assert_int_equal(parsers[i](LIT("abc\0\0"), &s), -E_PROTO);
	}
}

/* Runs one of the parsers over a body; the error code is all that counts. */
static int parse_nth(unsigned which, struct slice body)
{
	struct parse_negotiate n;
	struct parse_report r;
	struct parse_auth a;
	struct slice x, y;
	uint32_t pid;

	switch (which) {
	case 0:
		return parse_report(body, &r);
	case 1:
		return parse_parameter_status(body, &x, &y);
	case 2:
		return parse_backend_key(body, &pid, &x);
	case 3:
		return parse_auth(body, &a);
	default:
		return parse_negotiate(body, &n);
	}
}

static void a_bind_names_columns_with_several_formats(void **state)
{
	(void)state;
	/* portal, statement, formats and values of parameters, formats of columns */
	assert_false(parse_bind_names_columns(LIT("\0s\0\0\0\0\0\0\0")));
	assert_false(parse_bind_names_columns(LIT("p\0s\0\0\1\0\1\0\2\0\0\0\1x\377\377\377\377\0\1\0\1")));
	assert_true(parse_bind_names_columns(LIT("p\0s\0\0\1\0\1\0\2\0\0\0\1x\377\377\377\377\0\2\0\1\0\1")));
	assert_true(parse_bind_names_columns(LIT("\0s\0\0\0\0\0\0")));
	assert_true(parse_bind_names_columns(LIT("\0s\0\0\0\377\377\0\0\0\0")));
	assert_true(parse_bind_names_columns(LIT("\0s\0\0\0\0\1\177\377\377\377\0\0")));
}

static void every_truncation_is_noticed(void **state)
{
	const struct slice bodies[] = {
		LIT("SERROR\0C42601\0Mbad\0\0"), LIT("TimeZone\0UTC\0"),          LIT("\0\0\1\2\3\4\5\6"),
		LIT("\0\0\0\nA\0B\0\0"),         LIT("\0\3\0\0\0\0\0\1_pq_.a\0"),
	};

	(void)state;
	for (unsigned which = 0; which < ARRAY_LEN(bodies); which++) {
		for (size_t n = 0; n <= bodies[which].n; n++) {
			struct slice part = exact_copy(slice_make(bodies[which].p, n));

			assert_int_equal(parse_nth(which, part), n == bodies[which].n ? 0 : -E_PROTO);
			free((void *)(uintptr_t)part.p);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_report_gives_its_fields),
		cmocka_unit_test(each_field_may_be_missing),
		cmocka_unit_test(a_report_that_is_cut_gives_what_has_come),
		cmocka_unit_test(a_report_may_be_empty_but_ends_exactly),
		cmocka_unit_test(parameter_status_has_two_strings),
		cmocka_unit_test(backend_keys_have_4_to_256_bytes),
		cmocka_unit_test(ready_knows_three_letters),
		cmocka_unit_test(authentication_data_fits_its_code),
		cmocka_unit_test(mechanisms_are_walked),
		cmocka_unit_test(negotiation_counts_its_names),
		cmocka_unit_test(single_strings_end_exactly),
		cmocka_unit_test(a_bind_names_columns_with_several_formats),
		cmocka_unit_test(every_truncation_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
