/* Look-ups by query: the batch, and every answer to it that there may be. */
#include "pool/auth_reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "proto/build.h"
#include "proto/msg.h"

static struct auth_reply reply;
static struct buf out;

static int setup(void **state UNUSED)
{
	reply = (struct auth_reply){ .kind = AUTH_KIND_USER };
	buf_init(&out, 1 << 20);
	return 0;
}

static int teardown(void **state UNUSED)
{
	auth_reply_fini(&reply);
	buf_fini(&out);
	return 0;
}

/* Feeds what was built, message by message; the verdict on the last one that was taken. */
static enum auth_reply_verdict feed(void)
{
	enum auth_reply_verdict verdict = AUTH_REPLY_MORE;
	struct frame f;

	while (verdict == AUTH_REPLY_MORE && frame_read(buf_ptr(&out), buf_len(&out), UINT64_MAX, &f) == 0) {
		verdict = auth_reply_feed(&reply, f.type,
					  slice_make(buf_ptr(&out) + FRAME_HEADER, (size_t)f.size - FRAME_HEADER));
		buf_consume(&out, (uint32_t)f.size);
		if (buf_is_empty(&out))
			break;
	}
	buf_clear(&out);
	return verdict;
}

static void put(int err)
{
	assert_int_equal(err, 0);
}

static void put_row(const char *a, const char *b, unsigned n)
{
	const struct slice values[] = { slice_of(a), slice_of(b), slice_of("c") };

	put(build_data_row(&out, values, n));
}

static void put_columns(unsigned n)
{
	const struct build_column cols[] = { { "a", OID_TEXT, false },
					     { "b", OID_TEXT, false },
					     { "c", OID_TEXT, false } };

	put(build_row_description(&out, cols, n));
}

static void put_greeting(void)
{
	put(build_auth_ok(&out));
	put(build_parameter_status(&out, slice_of("server_version"), slice_of("15")));
	put(build_backend_key(&out, 1, slice_of("abcd")));
	put(build_ready(&out, TX_IDLE));
}

static void put_path(void)
{
	put(build_parse_complete(&out));
	put(build_bind_complete(&out));
	put_row("pg_catalog, pg_temp", NULL, 1);
	put(build_command_complete(&out, "SELECT 1"));
}

static void put_begin(unsigned columns)
{
	put_greeting();
	put_path();
	put(build_parse_complete(&out));
	put(build_bind_complete(&out));
	put_columns(columns);
}

static void put_end(void)
{
	put(build_command_complete(&out, "SELECT 1"));
	put(build_ready(&out, TX_IDLE));
}

static void put_error(const char *severity, const char *sqlstate)
{
	struct build_report r = {
		.severity = slice_of(severity),
		.sqlstate = slice_of(sqlstate),
		.message = slice_of("no way"),
	};

	put(build_error(&out, &r));
}

static void test_found(void **state UNUSED)
{
	put_begin(2);
	put_row("joe", "secret", 2);
	put_end();
	assert_int_equal(feed(), AUTH_REPLY_READY);
	assert_int_equal(reply.outcome, AUTH_OUTCOME_FOUND);
	assert_string_equal(reply.name, "joe");
	assert_string_equal(reply.secret, "secret");
}

static void test_last_row_counts(void **state UNUSED)
{
	put_begin(2);
	put_row("joe", "one", 2);
	put_row("jim", NULL, 2);
	put_end();
	assert_int_equal(feed(), AUTH_REPLY_READY);
	assert_string_equal(reply.name, "jim");
	assert_null(reply.secret);
}

static void test_no_row(void **state UNUSED)
{
	put_begin(2);
	put_end();
	assert_int_equal(feed(), AUTH_REPLY_READY);
	assert_int_equal(reply.outcome, AUTH_OUTCOME_NONE);
}

static void test_notices_anywhere(void **state UNUSED)
{
	struct build_report r = { .severity = slice_of("NOTICE"),
				  .sqlstate = slice_of("00000"),
				  .message = slice_of("x") };

	put(build_notice(&out, &r));
	put_begin(2);
	put(build_notice(&out, &r));
	put(build_parameter_status(&out, slice_of("a"), slice_of("b")));
	put_end();
	assert_int_equal(feed(), AUTH_REPLY_READY);
}

static void test_columns(void **state UNUSED)
{
	put_begin(3);
	assert_int_equal(feed(), AUTH_REPLY_BROKEN);
	assert_int_equal(reply.outcome, AUTH_OUTCOME_FAILED);
	assert_string_equal(reply.text, "expected 2 columns from auth_query, not 3");
}

static void test_no_columns(void **state UNUSED)
{
	put_greeting();
	put_path();
	put(build_parse_complete(&out));
	put(build_bind_complete(&out));
	put(build_no_data(&out));
	assert_int_equal(feed(), AUTH_REPLY_BROKEN);
	assert_string_equal(reply.text, "expected 2 columns from auth_query, not 0");
}

static void expect_broken_row(const char *text)
{
	assert_int_equal(feed(), AUTH_REPLY_BROKEN);
	assert_int_equal(reply.outcome, AUTH_OUTCOME_FAILED);
	assert_string_equal(reply.text, text);
}

/* What a function returns that has found nobody, unless it returns a set; the name alone tells. */
static void test_null_name_is_none(void **state UNUSED)
{
	put_begin(2);
	put_row(NULL, NULL, 2);
	put_row(NULL, "x", 2);
	put_end();
	assert_int_equal(feed(), AUTH_REPLY_READY);
	assert_int_equal(reply.outcome, AUTH_OUTCOME_NONE);
}

static void test_row_of_another_shape(void **state UNUSED)
{
	put_begin(2);
	put_row("a", "b", 3);
	expect_broken_row("unexpected response from auth_query");
}

static void test_row_that_lies(void **state UNUSED)
{
	static const uint8_t bodies[][14] = {
		{ 0, 2, 0, 0, 0, 1, 'a', 0, 0, 0, 9, 'b' },               /* a value longer than the message */
		{ 0, 2, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff }, /* length -2 */
		{ 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 1, 'b' },                 /* a NUL in the name */
		{ 0, 2, 0, 0, 0, 1, 'a', 0, 0, 0, 1, 'b', 'c', 'd' },     /* bytes behind the row */
		{ 0, 2, 0x7f, 0xff, 0xff, 0xff, 'a' },
	};
	static const size_t sizes[] = { 12, 10, 12, 14, 7 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		setup(NULL);
		put_begin(2);
		assert_int_equal(feed(), AUTH_REPLY_MORE);
		assert_int_equal(auth_reply_feed(&reply, BE_DATA_ROW, slice_make(bodies[i], sizes[i])),
				 AUTH_REPLY_BROKEN);
		assert_string_equal(reply.text, "unexpected response from auth_query");
		teardown(NULL);
	}
	setup(NULL);
}

static void test_long_names(void **state UNUSED)
{
	char name[200];

	memset(name, 'n', sizeof(name));
	name[128] = '\0';
	put_begin(2);
	put_row(name, "x", 2);
	expect_broken_row("auth_query response contained a user name that is empty or too long");
}

static void test_errors(void **state UNUSED)
{
	static const struct {
		const char *severity;
		const char *sqlstate;
		enum auth_reply_verdict verdict;
		enum auth_reply_outcome outcome;
	} cases[] = {
		{ "ERROR", "22012", AUTH_REPLY_READY, AUTH_OUTCOME_FAILED },
		{ "ERROR", "57014", AUTH_REPLY_READY, AUTH_OUTCOME_DOWN },
		{ "ERROR", "53300", AUTH_REPLY_READY, AUTH_OUTCOME_DOWN },
		{ "ERROR", "42P01", AUTH_REPLY_NO_SCHEMA, AUTH_OUTCOME_FAILED },
		{ "ERROR", "42883", AUTH_REPLY_NO_SCHEMA, AUTH_OUTCOME_FAILED },
		{ "FATAL", "57P01", AUTH_REPLY_BROKEN, AUTH_OUTCOME_DOWN },
		{ "PANIC", "XX000", AUTH_REPLY_BROKEN, AUTH_OUTCOME_DOWN },
		{ AUTH_REPLY_WAITED, "57014", AUTH_REPLY_BROKEN, AUTH_OUTCOME_DOWN },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		setup(NULL);
		put_greeting();
		put_path();
		put_error(cases[i].severity, cases[i].sqlstate);
		if (strcmp(cases[i].severity, "ERROR") == 0)
			put(build_ready(&out, TX_IDLE));
		assert_int_equal(feed(), cases[i].verdict);
		assert_int_equal(reply.outcome, cases[i].outcome);
		assert_string_equal(reply.text, "no way");
		assert_int_equal(reply.waited, strcmp(cases[i].severity, AUTH_REPLY_WAITED) == 0);
		teardown(NULL);
	}
	setup(NULL);
}

/* An error in the middle of the rows: what was read of them does not count. */
static void test_error_behind_rows(void **state UNUSED)
{
	put_begin(2);
	put_row("joe", "secret", 2);
	put_error("ERROR", "22012");
	put(build_ready(&out, TX_IDLE));
	assert_int_equal(feed(), AUTH_REPLY_READY);
	assert_int_equal(reply.outcome, AUTH_OUTCOME_FAILED);
}

static void test_second_batch(void **state UNUSED)
{
	put_greeting();
	put_path();
	put_error("ERROR", "42P01");
	put(build_ready(&out, TX_IDLE));
	assert_int_equal(feed(), AUTH_REPLY_NO_SCHEMA);
	auth_reply_again(&reply);
	put_path();
	put(build_parse_complete(&out));
	put(build_bind_complete(&out));
	put_columns(2);
	put_row("joe", "secret", 2);
	put_end();
	assert_int_equal(feed(), AUTH_REPLY_READY);
	assert_int_equal(reply.outcome, AUTH_OUTCOME_FOUND);
}

static void test_what_has_no_place(void **state UNUSED)
{
	static const uint8_t types[] = { BE_COPY_OUT,       BE_DATA_ROW, BE_READY, BE_PORTAL_SUSPENDED,
					 BE_CLOSE_COMPLETE, 0,           '?' };

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		setup(NULL);
		put_greeting();
		assert_int_equal(feed(), AUTH_REPLY_MORE);
		assert_int_equal(auth_reply_feed(&reply, types[i], slice_make("", 0)), AUTH_REPLY_BROKEN);
		assert_int_equal(reply.outcome, AUTH_OUTCOME_FAILED);
		teardown(NULL);
	}
	setup(NULL);
}

/* Whoever leaves a transaction open has written a query that is no query. */
static void test_open_transaction(void **state UNUSED)
{
	put_begin(2);
	put_row("joe", "secret", 2);
	put(build_command_complete(&out, "SELECT 1"));
	put(build_ready(&out, TX_BLOCK));
	assert_int_equal(feed(), AUTH_REPLY_BROKEN);
	assert_int_equal(reply.outcome, AUTH_OUTCOME_FAILED);
}

static void test_roles(void **state UNUSED)
{
	char name[8];

	reply.kind = AUTH_KIND_ROLES;
	put_begin(1);
	for (unsigned i = 0; i < 100; i++) {
		str_format(name, sizeof(name), "r%u", i);
		put_row(name, NULL, 1);
	}
	put_row(NULL, NULL, 1);
	put_end();
	assert_int_equal(feed(), AUTH_REPLY_READY);
	assert_int_equal(reply.role_count, 100);
	assert_string_equal(reply.roles[99], "r99");
}

static void test_roles_have_one_column(void **state UNUSED)
{
	reply.kind = AUTH_KIND_ROLES;
	put_begin(2);
	assert_int_equal(feed(), AUTH_REPLY_BROKEN);
	assert_string_equal(reply.text, "expected 1 column from auth_roles_query, not 2");
}

static void test_batch(void **state UNUSED)
{
	static const char wanted[] = "PBEPBDES";
	struct frame f;
	size_t n = 0;

	put(auth_reply_build(&out, slice_of("select $1, $1"), slice_of("joe"), false));
	assert_non_null(memmem(buf_ptr(&out), buf_len(&out), "'pg_catalog, pg_temp', true", 27));
	assert_non_null(memmem(buf_ptr(&out), buf_len(&out), "\0\0\0\3joe", 7));
	while (frame_read(buf_ptr(&out), buf_len(&out), UINT64_MAX, &f) == 0) {
		assert_int_equal(f.type, wanted[n++]);
		buf_consume(&out, (uint32_t)f.size);
		if (buf_is_empty(&out))
			break;
	}
	assert_int_equal(n, strlen(wanted));
}

static void test_batch_is_whole_or_not_there(void **state UNUSED)
{
	struct buf small;

	buf_init(&small, 100);
	put(buf_append(&small, "x", 1));
	assert_int_not_equal(auth_reply_build(&small, slice_of("select $1, $1"), slice_of("joe"), false), 0);
	assert_int_equal(buf_len(&small), 1);
	buf_fini(&small);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_found),
		T(test_last_row_counts),
		T(test_no_row),
		T(test_notices_anywhere),
		T(test_columns),
		T(test_no_columns),
		T(test_null_name_is_none),
		T(test_row_of_another_shape),
		T(test_row_that_lies),
		T(test_long_names),
		T(test_errors),
		T(test_error_behind_rows),
		T(test_second_batch),
		T(test_what_has_no_place),
		T(test_open_transaction),
		T(test_roles),
		T(test_roles_have_one_column),
		T(test_batch),
		T(test_batch_is_whole_or_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
