/*
 * The extended protocol on the console, which console_extended allows, as the profile of pgsluice has it.
 */
#include "console_test.h"

static int setup(void **state UNUSED)
{
	return console_setup("pgsluice");
}

static struct buf out;

static int begin(void **state UNUSED)
{
	buf_init(&out, 1 << 20);
	return 0;
}

static int end(void **state UNUSED)
{
	buf_fini(&out);
	return 0;
}

static struct reply deliver(struct session *s)
{
	struct reply r;

	send_bytes(s, buf_ptr(&out), buf_len(&out));
	buf_clear(&out);
	read_reply(s, &r);
	return r;
}

static void add_parse(const char *name, const char *sql)
{
	assert_int_equal(build_parse(&out, slice_of(name), slice_of(sql), NULL, 0), 0);
}

static void add_bind(const char *portal, const char *name)
{
	assert_int_equal(build_bind(&out, slice_of(portal), slice_of(name), NULL, 0), 0);
}

static void add_execute(const char *portal)
{
	assert_int_equal(build_execute(&out, slice_of(portal), 0), 0);
}

static void add_describe(enum build_target target, const char *name)
{
	assert_int_equal(build_describe(&out, target, slice_of(name)), 0);
}

static void add_sync(void)
{
	assert_int_equal(build_sync(&out), 0);
}

static void test_one_batch(void **state UNUSED)
{
	struct session s = open_session(true);
	struct reply r;

	add_parse("", "SHOW POOLS");
	add_bind("", "");
	add_describe(TARGET_PORTAL, "");
	add_execute("");
	add_sync();
	r = deliver(&s);
	assert_string_equal(r.types, "12TDCZ");
	assert_string_equal(r.tag, "SHOW");
	assert_int_equal(r.rows, 1);
	close_session(&s);
}

static void test_named_statement_again_and_again(void **state UNUSED)
{
	struct session s = open_session(false);
	struct reply r;

	add_parse("v", "SHOW VERSION");
	add_describe(TARGET_STATEMENT, "v");
	add_sync();
	r = deliver(&s);
	assert_string_equal(r.types, "1tTZ");
	for (int i = 0; i < 5; i++) {
		add_bind("", "v");
		add_execute("");
		add_sync();
		r = deliver(&s);
		assert_string_equal(r.types, "2DCZ");
	}
	assert_int_equal(build_close(&out, TARGET_STATEMENT, slice_of("v")), 0);
	add_bind("", "v");
	add_sync();
	r = deliver(&s);
	assert_string_equal(r.types, "3EZ");
	assert_string_equal(r.state, "26000");
	close_session(&s);
}

static void test_commands(void **state UNUSED)
{
	struct session s = open_session(true);
	struct reply r;

	add_parse("", "PAUSE");
	add_bind("", "");
	add_describe(TARGET_PORTAL, "");
	add_execute("");
	add_parse("", "RESUME");
	add_bind("", "");
	add_execute("");
	add_sync();
	r = deliver(&s);
	assert_string_equal(r.types, "12nC12CZ");
	assert_string_equal(r.tag, "RESUME");
	assert_int_equal(atomic_load(&engine->mode), ENGINE_ACTIVE);
	expect_tag(&s, "SHOW VERSION", "SHOW");
	close_session(&s);
}

/* What RELOAD has changed comes as a notice; what it would change as rows. */
static void test_reload(void **state UNUSED)
{
	struct session s = open_session(true);
	struct reply r;

	add_parse("", "RELOAD");
	add_bind("", "");
	add_execute("");
	add_parse("", "RELOAD DRY RUN");
	add_bind("", "");
	add_describe(TARGET_PORTAL, "");
	add_execute("");
	add_sync();
	r = deliver(&s);
	assert_string_equal(r.types, "12NC12TDCZ");
	assert_int_equal(r.rows, 2);
	assert_string_equal(r.text, "settings: 1 changed; logins: 1 added");
	assert_string_equal(r.detail, "change setting query_timeout: 0 -> 5 (now)\nadd login bob (now)");
	assert_string_equal(r.tag, "RELOAD DRY RUN");
	assert_int_equal(atomic_exchange(&reloads, 0), 1);
	close_session(&s);
}

/* After an error nothing is answered up to Sync, not even a simple query. */
static void test_errors_skip_to_sync(void **state UNUSED)
{
	struct session s = open_session(false);
	struct reply r;

	add_parse("", "RELOAD");
	add_bind("", "");
	add_execute("");
	add_execute("");
	assert_int_equal(build_query(&out, slice_of("SHOW VERSION")), 0);
	add_sync();
	r = deliver(&s);
	assert_string_equal(r.types, "12EZ");
	assert_string_equal(r.text, "admin access needed");
	assert_int_equal(atomic_load(&reloads), 0);
	expect_tag(&s, "SHOW VERSION", "SHOW");
	close_session(&s);
}

static void test_what_is_missing(void **state UNUSED)
{
	struct session s = open_session(false);

	add_execute("nope");
	add_sync();
	assert_string_equal(deliver(&s).state, "34000");
	add_bind("", "nope");
	add_sync();
	assert_string_equal(deliver(&s).state, "26000");
	add_describe(TARGET_STATEMENT, "nope");
	add_sync();
	assert_string_equal(deliver(&s).state, "26000");
	add_parse("a", "SHOW VERSION");
	add_parse("a", "SHOW VERSION");
	add_sync();
	assert_string_equal(deliver(&s).state, "42P05");
	/* a portal ends at Sync */
	add_bind("p", "a");
	add_sync();
	assert_string_equal(deliver(&s).types, "2Z");
	add_execute("p");
	add_sync();
	assert_string_equal(deliver(&s).state, "34000");
	close_session(&s);
}

static void test_parameters_are_refused(void **state UNUSED)
{
	struct session s = open_session(false);
	const struct slice value = slice_of("1");
	struct reply r;

	add_parse("", "SHOW VERSION");
	assert_int_equal(build_bind(&out, slice_of(""), slice_of(""), &value, 1), 0);
	add_sync();
	r = deliver(&s);
	assert_string_equal(r.types, "1EZ");
	assert_string_equal(r.text, "commands of the console have no parameters");
	close_session(&s);
}

/* Reads the first row after the head of the message; the rest up to ReadyForQuery is dropped. */
static size_t first_row(struct session *s, uint8_t *dst, size_t size)
{
	bool closed = false;
	size_t got = 0;

	for (;;) {
		uint8_t head[FRAME_HEADER];
		uint8_t body[4096];
		size_t n;

		read_exact(s, head, sizeof(head), &closed);
		assert_false(closed);
		n = frame_be32(head + 1) - 4;
		assert_true(n <= sizeof(body));
		read_exact(s, body, n, &closed);
		assert_false(closed);
		if (head[0] == BE_DATA_ROW && got == 0) {
			got = n < size ? n : size;
			memcpy(dst, body, got);
		}
		if (head[0] == BE_READY)
			return got;
	}
}

static void test_binary_results(void **state UNUSED)
{
	/* Bind of the unnamed portal and statement: no parameters, all results in binary */
	static const uint8_t bind_binary[] = { 'B', 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1 };
	/* two columns: the name as text, 2 as int4 */
	static const uint8_t databases[] = { 0,   2,   0,   0, 0, 9, 'd', 'a', 't', 'a', 'b', 'a',
					     's', 'e', 's', 0, 0, 0, 4,   0,   0,   0,   2 };
	/* ... 0 as numeric: no digits */
	static const uint8_t zero[] = { 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0 };
	struct session s = open_session(false);
	uint8_t row[64];
	size_t n;

	add_parse("", "SHOW LISTS");
	assert_int_equal(buf_append(&out, bind_binary, sizeof(bind_binary)), 0);
	add_execute("");
	add_sync();
	send_bytes(&s, buf_ptr(&out), buf_len(&out));
	buf_clear(&out);
	assert_int_equal(first_row(&s, row, sizeof(row)), sizeof(databases));
	assert_memory_equal(row, databases, sizeof(databases));

	add_parse("", "SHOW TOTALS");
	assert_int_equal(buf_append(&out, bind_binary, sizeof(bind_binary)), 0);
	add_execute("");
	add_sync();
	send_bytes(&s, buf_ptr(&out), buf_len(&out));
	buf_clear(&out);
	n = first_row(&s, row, sizeof(row));
	assert_true(n > sizeof(zero));
	assert_memory_equal(row + n - sizeof(zero), zero, sizeof(zero));
	close_session(&s);
}

static void test_broken_messages(void **state UNUSED)
{
	static const struct {
		uint8_t type;
		const char *body;
		size_t n;
	} rows[] = {
		{ FE_PARSE, "", 0 },
		{ FE_PARSE, "a\0SHOW POOLS\0\0\1", 15 },
		{ FE_BIND, "\0\0\0\0\0\0", 6 },
		{ FE_BIND, "\0\0\0\0\0\0\0\1\0\2", 10 },
		{ FE_DESCRIBE, "X\0", 2 },
		{ FE_DESCRIBE, "S", 1 },
		{ FE_EXECUTE, "\0\0\0", 3 },
		{ FE_CLOSE, "Sabc", 4 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct session s = open_session(true);
		const uint8_t head[FRAME_HEADER] = { rows[i].type, 0, 0, 0, (uint8_t)(rows[i].n + 4) };
		struct reply r;

		assert_int_equal(buf_append(&out, head, sizeof(head)), 0);
		assert_int_equal(buf_append(&out, rows[i].body, rows[i].n), 0);
		add_sync();
		r = deliver(&s);
		assert_string_equal(r.types, "EZ");
		assert_string_equal(r.state, "08P01");
		close_session(&s);
	}
}

static void test_statements_are_bounded(void **state UNUSED)
{
	struct session s = open_session(true);
	struct reply r;
	char name[16];

	for (int i = 0; i < 257; i++) {
		str_format(name, sizeof(name), "s%d", i);
		add_parse(name, "SHOW VERSION");
	}
	add_sync();
	r = deliver(&s);
	assert_string_equal(r.state, "53400");
	expect_tag(&s, "SHOW VERSION", "SHOW");
	close_session(&s);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(test_one_batch),
		TEST(test_named_statement_again_and_again),
		TEST(test_commands),
		TEST(test_reload),
		TEST(test_errors_skip_to_sync),
		TEST(test_what_is_missing),
		TEST(test_parameters_are_refused),
		TEST(test_binary_results),
		TEST(test_broken_messages),
		TEST(test_statements_are_bounded),
	};

	return cmocka_run_group_tests(tests, setup, console_teardown);
}
