#include "proto/startup.h"

#include "proto_test.h"

#include "proto/build.h"

/* Header of 8 bytes with any length and code. */
static struct slice startup_header(uint8_t dst[8], uint32_t len, uint32_t code)
{
	for (int i = 0; i < 4; i++) {
		dst[i] = (uint8_t)(len >> (24 - 8 * i));
		dst[4 + i] = (uint8_t)(code >> (24 - 8 * i));
	}
	return slice_make(dst, 8);
}

/* Parses a packet with this list behind its header. */
static enum startup_err parse_list(struct slice list, struct startup *s, struct slice *packet)
{
	struct startup_head head;
	uint8_t *p = malloc(8 + list.n);

	assert_non_null(p);
	startup_header(p, (uint32_t)(8 + list.n), PROTO_V3_0);
	memcpy(p + 8, list.p, list.n);
	*packet = slice_make(p, 8 + list.n);
	assert_int_equal(startup_peek(p, packet->n, &head), 0);
	assert_int_equal(head.kind, STARTUP_SESSION);
	return startup_parse(p, &head, s);
}

static void packet_free(struct slice packet)
{
	free((void *)(uintptr_t)packet.p);
}

static void lengths_are_checked(void **state)
{
	static const struct {
		uint32_t len;
		int err;
	} cases[] = {
		{ 0, -E_PROTO },
		{ 3, -E_PROTO },
		{ 4, -E_PROTO },
		{ 7, -E_PROTO },
		{ 8, 0 },
		{ 9, 0 },
		{ 65535, 0 },
		{ 65536, -E_PROTO },
		{ INT32_MAX, -E_PROTO },
		{ 0x80000000U, -E_PROTO },
		{ UINT32_MAX, -E_PROTO },
	};
	struct startup_head head;
	uint8_t p[8];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		startup_header(p, cases[i].len, PROTO_V3_0);
		assert_int_equal(startup_peek(p, 8, &head), cases[i].err);
		if (cases[i].err == 0)
			assert_int_equal(head.total, cases[i].len);
	}
}

static void a_short_header_waits(void **state)
{
	struct startup_head head;

	(void)state;
	for (size_t n = 0; n < 8; n++) {
		struct slice part = exact_copy(slice_make("\xff\xff\xff\xff\xff\xff\xff\xff", n));

		assert_int_equal(startup_peek(part.p, n, &head), -E_AGAIN);
		packet_free(part);
	}
	assert_int_equal(startup_peek(NULL, 0, &head), -E_AGAIN);
	assert_true(startup_is_tls(0x16));
	assert_false(startup_is_tls(0));
}

static void codes_are_classified(void **state)
{
	static const struct {
		uint32_t len, code;
		enum startup_kind kind;
		enum startup_err err;
		uint16_t minor;
	} cases[] = {
		{ 9, PROTO_V3_0, STARTUP_SESSION, STARTUP_OK, 0 },
		{ 9, PROTO_VERSION(3, 1), STARTUP_SESSION, STARTUP_OK, 1 },
		{ 9, PROTO_V3_2, STARTUP_SESSION, STARTUP_OK, 2 },
		{ 9, PROTO_VERSION(3, 65535), STARTUP_SESSION, STARTUP_OK, 65535 },
		{ 8, PROTO_SSL_REQUEST, STARTUP_SSL, STARTUP_OK, 0 },
		{ 9, PROTO_SSL_REQUEST, STARTUP_BAD, STARTUP_E_HEADER, 0 },
		{ 8, PROTO_GSSENC_REQUEST, STARTUP_GSSENC, STARTUP_OK, 0 },
		{ 12, PROTO_GSSENC_REQUEST, STARTUP_BAD, STARTUP_E_HEADER, 0 },
		{ 16, PROTO_CANCEL_REQUEST, STARTUP_CANCEL, STARTUP_OK, 0 },
		{ 17, PROTO_CANCEL_REQUEST, STARTUP_CANCEL, STARTUP_OK, 0 },
		{ 8 + 36, PROTO_CANCEL_REQUEST, STARTUP_CANCEL, STARTUP_OK, 0 },
		{ 8 + 260, PROTO_CANCEL_REQUEST, STARTUP_CANCEL, STARTUP_OK, 0 },
		{ 8, PROTO_CANCEL_REQUEST, STARTUP_BAD, STARTUP_E_CANCEL, 0 },
		{ 15, PROTO_CANCEL_REQUEST, STARTUP_BAD, STARTUP_E_CANCEL, 0 },
		{ 8 + 261, PROTO_CANCEL_REQUEST, STARTUP_BAD, STARTUP_E_CANCEL, 0 },
		{ 296, PROTO_V2_0, STARTUP_BAD, STARTUP_E_V2, 0 },
		{ 9, PROTO_VERSION(2, 1), STARTUP_BAD, STARTUP_E_HEADER, 0 },
		{ 9, PROTO_VERSION(4, 0), STARTUP_BAD, STARTUP_E_HEADER, 0 },
		{ 9, PROTO_VERSION(1, 0), STARTUP_BAD, STARTUP_E_HEADER, 0 },
		{ 9, 0, STARTUP_BAD, STARTUP_E_HEADER, 0 },
		{ 8, PROTO_VERSION(1234, 5681), STARTUP_BAD, STARTUP_E_HEADER, 0 },
		{ 8, UINT32_MAX, STARTUP_BAD, STARTUP_E_HEADER, 0 },
	};
	uint8_t p[8];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct startup_head head;

		startup_header(p, cases[i].len, cases[i].code);
		assert_int_equal(startup_peek(p, 8, &head), 0);
		assert_int_equal(head.kind, cases[i].kind);
		assert_int_equal(head.err, cases[i].err);
		assert_int_equal(head.minor, cases[i].minor);
	}
}

static void a_cancel_request_gives_its_key(void **state)
{
	struct startup_head head;
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	assert_int_equal(build_cancel_request(&b, 0x01020304, LIT("\x05\x06\x07\x08")), 0);
	assert_int_equal(startup_peek(buf_ptr(&b), buf_len(&b), &head), 0);
	assert_int_equal(head.kind, STARTUP_CANCEL);
	assert_int_equal(head.total, buf_len(&b));
	assert_slice(startup_cancel_key(buf_ptr(&b), &head), "\x01\x02\x03\x04\x05\x06\x07\x08");
	buf_clear(&b);
	assert_int_equal(build_cancel_request(&b, 0x01020304, LIT("0123456789abcdef0123456789abcdef")), 0);
	assert_int_equal(startup_peek(buf_ptr(&b), buf_len(&b), &head), 0);
	assert_int_equal(head.kind, STARTUP_CANCEL);
	assert_slice(startup_cancel_key(buf_ptr(&b), &head), "\x01\x02\x03\x04"
							     "0123456789abcdef0123456789abcdef");
	buf_fini(&b);
}

static void fields_are_found(void **state)
{
	struct startup s;
	struct slice packet, name, value;
	size_t at = 0;

	(void)state;
	assert_int_equal(parse_list(LIT("TimeZone\0UTC\0user\0joe\0database\0db\0_pq_.x\0on\0options\0-c a=b\0"
					"application_name\0\0replication\0database\0DateStyle\0ISO\0\0"),
				    &s, &packet),
			 STARTUP_OK);
	assert_slice(s.user, "joe");
	assert_slice(s.database, "db");
	assert_slice(s.options, "-c a=b");
	assert_true(s.has_options);
	assert_slice(s.application_name, "");
	assert_true(s.has_application_name);
	assert_int_equal(s.replication, REPLICATION_LOGICAL);
	assert_int_equal(s.n_params, 2);
	assert_int_equal(s.n_extensions, 1);
	assert_int_equal(s.minor, 0);
	assert_true(startup_must_negotiate(&s, 0));
	assert_true(startup_params_next(&s, &at, &name, &value));
	assert_slice(name, "TimeZone");
	assert_slice(value, "UTC");
	assert_true(startup_params_next(&s, &at, &name, &value));
	assert_slice(name, "DateStyle");
	assert_slice(value, "ISO");
	assert_false(startup_params_next(&s, &at, &name, &value));
	assert_false(startup_params_next(&s, &at, &name, &value));
	at = 0;
	assert_true(startup_extensions_next(&s, &at, &name));
	assert_slice(name, "_pq_.x");
	assert_false(startup_extensions_next(&s, &at, &name));
	packet_free(packet);
}

static void absent_fields_are_empty(void **state)
{
	struct startup s;
	struct slice packet, name, value;
	size_t at = 0;

	(void)state;
	assert_int_equal(parse_list(LIT("\0"), &s, &packet), STARTUP_OK);
	assert_slice(s.user, "");
	assert_slice(s.database, "");
	assert_slice(s.application_name, "");
	assert_slice(s.options, "");
	assert_false(s.has_application_name);
	assert_false(s.has_options);
	assert_false(startup_must_negotiate(&s, 0));
	assert_int_equal(s.replication, REPLICATION_NONE);
	assert_int_equal(startup_check_user(&s), STARTUP_E_NO_USER);
	assert_false(startup_params_next(&s, &at, &name, &value));
	packet_free(packet);
}

static void the_database_defaults_to_the_user(void **state)
{
	struct startup s;
	struct slice packet;

	(void)state;
	assert_int_equal(parse_list(LIT("user\0joe\0\0"), &s, &packet), STARTUP_OK);
	assert_slice(s.database, "joe");
	packet_free(packet);
	assert_int_equal(parse_list(LIT("database\0\0user\0joe\0\0"), &s, &packet), STARTUP_OK);
	assert_slice(s.database, "joe");
	packet_free(packet);
}

static void the_last_of_two_counts_and_case_matters(void **state)
{
	struct startup s;
	struct slice packet;

	(void)state;
	assert_int_equal(parse_list(LIT("user\0a\0user\0b\0USER\0c\0_PQ_.x\0\0\0"), &s, &packet), STARTUP_OK);
	assert_slice(s.user, "b");
	assert_int_equal(s.n_params, 2);
	assert_int_equal(s.n_extensions, 0);
	packet_free(packet);
}

static void the_layout_is_exact(void **state)
{
	struct startup s;
	struct slice packet;

	(void)state;
	static const struct {
		struct slice list;
		enum startup_err err;
	} cases[] = {
		{ { "", 0 }, STARTUP_E_LAYOUT },
		{ { "\0\0", 2 }, STARTUP_E_LAYOUT },
		{ { "user\0joe\0", 9 }, STARTUP_E_LAYOUT },
		{ { "user\0joe", 8 }, STARTUP_E_LAYOUT },
		{ { "user\0joe\0\0x", 11 }, STARTUP_E_LAYOUT },
		{ { "user\0joe\0x\0", 11 }, STARTUP_E_LAYOUT },
		{ { "user\0", 5 }, STARTUP_E_LAYOUT },
		{ { "user\0\0", 6 }, STARTUP_E_LAYOUT },
		{ { "user\0\0\0", 7 }, STARTUP_OK },
		{ { "u", 1 }, STARTUP_E_LAYOUT },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(parse_list(cases[i].list, &s, &packet), cases[i].err);
		packet_free(packet);
	}
}

static void every_truncation_is_a_layout_error(void **state)
{
	const struct slice whole = LIT("user\0joe\0database\0db\0_pq_.a\0b\0TimeZone\0UTC\0\0");

	(void)state;
	for (size_t n = 0; n <= whole.n; n++) {
		struct startup s;
		struct slice packet;

		assert_int_equal(parse_list(slice_make(whole.p, n), &s, &packet),
				 n == whole.n ? STARTUP_OK : STARTUP_E_LAYOUT);
		packet_free(packet);
	}
}

static void the_number_of_parameters_is_bounded(void **state)
{
	(void)state;
	for (size_t count = STARTUP_PARAM_MAX; count <= STARTUP_PARAM_MAX + 1; count++) {
		char list[(STARTUP_PARAM_MAX + 1) * 4 + 1];
		struct startup s;
		struct slice packet, name, value;
		size_t at = 0, seen = 0;

		for (size_t i = 0; i < count; i++)
			memcpy(list + 4 * i, "n\0v\0", 4);
		list[4 * count] = '\0';
		if (count <= STARTUP_PARAM_MAX) {
			assert_int_equal(parse_list(slice_make(list, 4 * count + 1), &s, &packet), STARTUP_OK);
			while (startup_params_next(&s, &at, &name, &value))
				seen++;
			assert_int_equal(seen, count);
			assert_int_equal(s.n_params, count);
		} else {
			assert_int_equal(parse_list(slice_make(list, 4 * count + 1), &s, &packet), STARTUP_E_TOO_MANY);
		}
		packet_free(packet);
	}
}

static void the_longest_packet_is_read(void **state)
{
	const uint32_t size = STARTUP_MAX - 8;
	char *list = malloc(size);
	struct startup s;
	struct slice packet;

	(void)state;
	assert_non_null(list);
	memset(list, 'x', size);
	memcpy(list, "user", 5);
	list[size - 2] = list[size - 1] = '\0';
	assert_int_equal(parse_list(slice_make(list, size), &s, &packet), STARTUP_OK);
	assert_int_equal(s.user.n, size - 7);
	assert_int_equal(startup_check_user(&s), STARTUP_E_USER_LONG);
	packet_free(packet);
	free(list);
}

static void user_names_have_a_length(void **state)
{
	struct startup s;
	char name[130];

	(void)state;
	memset(&s, 0, sizeof(s));
	memset(name, 'u', sizeof(name));
	s.user = slice_make(name, 127);
	assert_int_equal(startup_check_user(&s), STARTUP_OK);
	s.user = slice_make(name, 128);
	assert_int_equal(startup_check_user(&s), STARTUP_E_USER_LONG);
}

static void our_own_startup_is_understood(void **state)
{
	const struct build_pair params[] = { { LIT("user"), LIT("u") }, { LIT("database"), LIT("d") } };
	struct startup_head head;
	struct startup s;
	struct buf b;

	(void)state;
	buf_init(&b, 200);
	assert_int_equal(build_startup(&b, PROTO_V3_2, params, 2), 0);
	assert_int_equal(startup_peek(buf_ptr(&b), buf_len(&b), &head), 0);
	assert_int_equal(head.total, buf_len(&b));
	assert_int_equal(startup_parse(buf_ptr(&b), &head, &s), STARTUP_OK);
	assert_slice(s.user, "u");
	assert_slice(s.database, "d");
	assert_int_equal(s.minor, 2);
	assert_true(startup_must_negotiate(&s, 0));
	assert_false(startup_must_negotiate(&s, 2));
	buf_clear(&b);
	assert_int_equal(build_ssl_request(&b), 0);
	assert_int_equal(startup_peek(buf_ptr(&b), buf_len(&b), &head), 0);
	assert_int_equal(head.kind, STARTUP_SSL);
	buf_fini(&b);
}

static void versions_are_settled(void **state)
{
	static const struct {
		uint16_t asked, newest, spoken;
		unsigned n_extensions;
		bool is_told;
	} cases[] = {
		{ 0, 0, 0, 0, false },    { 0, 0, 0, 1, true },  { 1, 0, 0, 0, true }, { 2, 0, 0, 0, true },
		{ 9999, 0, 0, 0, true },  { 0, 2, 0, 0, false }, { 0, 2, 0, 1, true }, { 1, 2, 0, 0, true },
		{ 2, 2, 2, 0, false },    { 2, 2, 2, 1, true },  { 3, 2, 2, 0, true }, { 9999, 2, 2, 1, true },
		{ 65535, 2, 2, 0, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct startup s = { .minor = cases[i].asked, .n_extensions = cases[i].n_extensions };

		assert_int_equal(startup_minor(&s, cases[i].newest), cases[i].spoken);
		assert_int_equal(startup_must_negotiate(&s, cases[i].spoken), cases[i].is_told);
	}
}

static void replication_has_three_values(void **state)
{
	static const struct {
		const char *value;
		enum startup_replication mode;
	} cases[] = {
		{ "database", REPLICATION_LOGICAL }, { "Database", REPLICATION_NONE },
		{ "databas", REPLICATION_NONE },     { "true", REPLICATION_PHYSICAL },
		{ "T", REPLICATION_PHYSICAL },       { "tr", REPLICATION_PHYSICAL },
		{ "yes", REPLICATION_PHYSICAL },     { "y", REPLICATION_PHYSICAL },
		{ "ON", REPLICATION_PHYSICAL },      { "o", REPLICATION_NONE },
		{ "1", REPLICATION_PHYSICAL },       { "10", REPLICATION_NONE },
		{ "0", REPLICATION_NONE },           { "off", REPLICATION_NONE },
		{ "false", REPLICATION_NONE },       { "", REPLICATION_NONE },
		{ "truex", REPLICATION_NONE },       { "no", REPLICATION_NONE },
		{ "physical", REPLICATION_NONE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(startup_replication(slice_of(cases[i].value)), cases[i].mode);
	assert_int_equal(startup_replication(slice_make(NULL, 0)), REPLICATION_NONE);
}

/* The settings as "name=value|...", with "!" at the end for a syntax error. */
static const char *walk_options(const char *options)
{
	static char out[256];
	struct slice text = exact_copy(slice_of(options));
	char *word = malloc(text.n > 0 ? text.n : 1);
	struct startup_options it;
	struct slice name, value;

	assert_non_null(word);
	out[0] = '\0';
	startup_options_init(&it, text, word, text.n);
	while (startup_options_next(&it, &name, &value))
		assert_true(str_append(out, sizeof(out), "%.*s=%.*s|", (int)name.n, name.p, (int)value.n, value.p));
	assert_false(startup_options_next(&it, &name, &value));
	if (it.err != STARTUP_OK) {
		assert_int_equal(it.err, STARTUP_E_OPTION_SYNTAX);
		assert_true(str_append(out, sizeof(out), "!"));
	}
	free(word);
	packet_free(text);
	return out;
}

static void options_are_walked(void **state)
{
	(void)state;
	assert_string_equal(walk_options(""), "");
	assert_string_equal(walk_options(" \t\n\v\f\r"), "");
	assert_string_equal(walk_options("-c a=b"), "a=b|");
	assert_string_equal(walk_options("-ca=b"), "a=b|");
	assert_string_equal(walk_options("--a=b"), "a=b|");
	assert_string_equal(walk_options("  -c   a=b -cc=d\t--e-f=g "), "a=b|c=d|e-f=g|");
	assert_string_equal(walk_options("-c a="), "a=|");
	assert_string_equal(walk_options("-c =b --=c -c="), "=b|=c|=|");
	assert_string_equal(walk_options("-c a=b=c"), "a=b=c|");
	assert_string_equal(walk_options("-c a=b\\ c\\\\d"), "a=b c\\d|");
	assert_string_equal(walk_options("-c search_path=a,\\ b --x=\\-c"), "search_path=a, b|x=-c|");
	assert_string_equal(walk_options("\\-\\c a=b"), "a=b|");
	assert_string_equal(walk_options("-c a=b\\"), "a=b|");
}

static void other_options_are_refused(void **state)
{
	static const char *const bad[] = {
		"-c", "-c a", "-ca", "--a", "--", "-", "a=b", "-d a=b", "-C a=b", "\\", "-c \\", "-c -c a=b",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_string_equal(walk_options(bad[i]), "!");
	assert_string_equal(walk_options("-c a=b -x --c=d"), "a=b|!");
}

static void errors_have_texts(void **state)
{
	char text[128];

	(void)state;
	assert_true(
		startup_err_text(STARTUP_E_HEADER, LIT("\x00\x00\xff\x08\x04\xd2\x16\x2fmore"), text, sizeof(text)));
	assert_string_equal(text, "bad packet header: '0000ff0804d2162f'");
	assert_true(startup_err_text(STARTUP_E_HEADER, LIT("\x80"), text, sizeof(text)));
	assert_string_equal(text, "bad packet header: '80'");
	assert_true(startup_err_text(STARTUP_E_PARAM, LIT("geqo"), text, sizeof(text)));
	assert_string_equal(text, "unsupported startup parameter: geqo");
	assert_true(startup_err_text(STARTUP_E_OPTION, LIT("geqo"), text, sizeof(text)));
	assert_string_equal(text, "unsupported startup parameter in options: geqo");
	assert_true(startup_err_text(STARTUP_E_OPTION_SYNTAX, slice_make(NULL, 0), text, sizeof(text)));
	assert_string_equal(
		text, "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed");
	assert_true(startup_err_text(STARTUP_E_V2, LIT("x"), text, sizeof(text)));
	assert_string_equal(text, "old V2 protocol not supported");
	assert_false(startup_err_text(STARTUP_E_CANCEL, LIT("x"), text, sizeof(text)));
	assert_false(startup_err_text(STARTUP_OK, LIT("x"), text, sizeof(text)));
	assert_true(startup_err_text(STARTUP_E_NO_USER, LIT(""), text, 8));
	assert_string_equal(text, "no user");
}

static void every_error_has_a_state(void **state)
{
	static const enum startup_err errs[] = {
#define X(id, text, after, sqlstate, hint) id,
		STARTUP_ERR_TABLE(X)
#undef X
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(errs); i++) {
		const char *hint = startup_err_hint(errs[i]);

		assert_int_equal(strspn(startup_err_sqlstate(errs[i]), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 5);
		assert_int_equal(strlen(startup_err_sqlstate(errs[i])), 5);
		assert_true(hint == NULL || (isupper((unsigned char)hint[0]) && hint[strlen(hint) - 1] == '.'));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths_are_checked),
		cmocka_unit_test(a_short_header_waits),
		cmocka_unit_test(codes_are_classified),
		cmocka_unit_test(a_cancel_request_gives_its_key),
		cmocka_unit_test(fields_are_found),
		cmocka_unit_test(absent_fields_are_empty),
		cmocka_unit_test(the_database_defaults_to_the_user),
		cmocka_unit_test(the_last_of_two_counts_and_case_matters),
		cmocka_unit_test(the_layout_is_exact),
		cmocka_unit_test(every_truncation_is_a_layout_error),
		cmocka_unit_test(the_number_of_parameters_is_bounded),
		cmocka_unit_test(the_longest_packet_is_read),
		cmocka_unit_test(user_names_have_a_length),
		cmocka_unit_test(our_own_startup_is_understood),
		cmocka_unit_test(versions_are_settled),
		cmocka_unit_test(replication_has_three_values),
		cmocka_unit_test(options_are_walked),
		cmocka_unit_test(other_options_are_refused),
		cmocka_unit_test(every_error_has_a_state),
		cmocka_unit_test(errors_have_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
