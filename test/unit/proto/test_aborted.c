/*
 * A transaction that has failed with its server: a script of messages, and what
 * is answered, a letter for each message; an error by its text, ReadyForQuery
 * with its status.
 */
#include "proto/aborted.h"

#include "proto_test.h"

#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

static struct aborted a;
static struct buf errors;
static struct buf in;
static struct buf out;
static char answer[256];
static enum aborted_verdict verdict;

/* The one name that the client has; its text, or NULL. */
static const char *named;
static bool is_full;

static bool find(void *arg, struct slice name, struct slice *sql)
{
	assert_ptr_equal(arg, &named);
	if (!slice_eq_str(name, "s") || named == NULL)
		return false;
	*sql = slice_of(named);
	return true;
}

static bool define(void *arg, struct slice name, struct slice body)
{
	assert_ptr_equal(arg, &named);
	assert_true(slice_eq_str(name, "s"));
	assert_true(body.n > 2);
	if (is_full)
		return false;
	named = "rollback";
	return true;
}

static void forget(void *arg, struct slice name)
{
	assert_ptr_equal(arg, &named);
	if (slice_eq_str(name, "s"))
		named = NULL;
}

static const struct aborted_names names = { find, define, forget };

static struct slice add_error(const char *text)
{
	struct build_report r = { slice_of("ERROR"), slice_of("25P02"), slice_of(text), .with_plain_severity = true };
	uint32_t at = buf_len(&errors);

	assert_int_equal(build_error(&errors, &r), 0);
	return slice_make(buf_ptr(&errors) + at, buf_len(&errors) - at);
}

static int setup(void **state)
{
	(void)state;
	buf_init(&errors, 65536);
	assert_non_null(buf_reserve(&errors, 4096)); /* what is in it stays where it is */
	buf_init(&in, 65536);
	buf_init(&out, 65536);
	a = (struct aborted){ .is_block = true, .names = &names, .arg = &named };
	a.errors.loss = add_error("loss");
	a.errors.refusal = add_error("refused");
	a.errors.several = add_error("several");
	named = NULL;
	is_full = false;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	buf_fini(&errors);
	buf_fini(&in);
	buf_fini(&out);
	return 0;
}

/* What has been said, as text; forgotten then. */
static const char *told(void)
{
	answer[0] = '\0';
	while (!buf_is_empty(&out)) {
		struct parse_report r;
		struct frame f = { 0 };
		struct slice body;

		assert_int_equal(frame_read(buf_ptr(&out), buf_len(&out), UINT64_MAX, &f), 0);
		body = slice_make(buf_ptr(&out) + FRAME_HEADER, (size_t)f.size - FRAME_HEADER);
		if (f.type == BE_ERROR) {
			assert_int_equal(parse_report(body, &r), 0);
			str_append(answer, sizeof(answer), "(%.*s)", (int)r.message.n, r.message.p);
		} else {
			str_append(answer, sizeof(answer), "%c", f.type);
		}
		if (f.type == BE_READY)
			str_append(answer, sizeof(answer), "%c", body.p[0]);
		if (f.type == BE_COMMAND_COMPLETE)
			assert_true(slice_eq(body, slice_make("ROLLBACK", 9)));
		buf_consume(&out, (uint32_t)f.size);
	}
	return answer;
}

/* Shows the message in `in`, which is the only one. */
static void take(int err)
{
	struct frame f = { 0 };

	assert_int_equal(err, 0);
	assert_int_equal(frame_read(buf_ptr(&in), buf_len(&in), UINT64_MAX, &f), 0);
	assert_int_equal(f.size, buf_len(&in));
	verdict =
		aborted_take(&a, f.type, slice_make(buf_ptr(&in) + FRAME_HEADER, (size_t)f.size - FRAME_HEADER), &out);
	buf_clear(&in);
}

static const char *says(int err)
{
	take(err);
	return told();
}

static const char *query(const char *sql)
{
	return says(build_query(&in, slice_of(sql)));
}

static void parse(const char *name, const char *sql)
{
	take(build_parse(&in, slice_of(name), slice_of(sql), NULL, 0));
}

static void bind(const char *name)
{
	take(build_bind(&in, slice_of(""), slice_of(name), NULL, 0));
}

static void execute(void)
{
	take(build_execute(&in, slice_of(""), 0));
}

static const char *sync_(void)
{
	return says(build_sync(&in));
}

static void bare(uint8_t type)
{
	uint8_t message[FRAME_HEADER] = { type, 0, 0, 0, 4 };

	take(buf_append(&in, message, sizeof(message)));
}

/* ---- what texts mean ---- */

static void only_one_plain_end_ends_it(void **state)
{
	static const struct {
		const char *text;
		enum aborted_text is;
	} cases[] = {
		{ "rollback", ABORTED_ROLLBACK },
		{ " ABORT  WORK ; ", ABORTED_ROLLBACK },
		{ "/* x */ rollback transaction and no chain -- y", ABORTED_ROLLBACK },
		{ "commit", ABORTED_COMMIT },
		{ "END TRANSACTION", ABORTED_COMMIT },
		{ "", ABORTED_EMPTY },
		{ " ; -- nothing", ABORTED_EMPTY },
		{ "rollback to savepoint x", ABORTED_OTHER },
		{ "rollback work to x", ABORTED_OTHER },
		{ "commit and chain", ABORTED_OTHER },
		{ "rollback and chain", ABORTED_OTHER },
		{ "rollback prepared 'x'", ABORTED_OTHER },
		{ "commit prepared 'x'", ABORTED_OTHER },
		{ "prepare transaction 'x'", ABORTED_OTHER },
		{ "release x", ABORTED_OTHER },
		{ "begin", ABORTED_OTHER },
		{ "select 1", ABORTED_OTHER },
		{ "select 'rollback'", ABORTED_OTHER },
		{ "rollback; begin", ABORTED_SEVERAL },
		{ "rollback; rollback", ABORTED_SEVERAL },
		{ "select 1; commit", ABORTED_SEVERAL },
		{ "rollback /* open", ABORTED_OTHER },
		{ "rollback 'open", ABORTED_OTHER },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (aborted_judge(slice_of(cases[i].text)) != cases[i].is)
			fail_msg("%s is %d", cases[i].text, (int)aborted_judge(slice_of(cases[i].text)));
}

/* ---- simple queries ---- */

static void the_loss_is_told_once(void **state)
{
	(void)state;
	assert_string_equal(query("select 1"), "(loss)ZE");
	assert_string_equal(query("select 1"), "(refused)ZE");
	assert_string_equal(query("rollback; begin"), "(several)ZE");
	assert_string_equal(query("begin"), "(refused)ZE");
	assert_string_equal(query("savepoint x"), "(refused)ZE");
	assert_string_equal(query(""), "IZE");
	assert_int_equal(verdict, ABORTED_GOES_ON);
	assert_string_equal(query("rollback"), "CZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void rollback_needs_no_error(void **state)
{
	(void)state;
	assert_string_equal(query(";"), "IZE");
	assert_string_equal(query("rollback"), "CZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void commit_is_no_success_to_who_does_not_know(void **state)
{
	(void)state;
	assert_string_equal(query("commit"), "(loss)ZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void commit_rolls_back_for_who_knows(void **state)
{
	(void)state;
	a.is_told = true;
	assert_string_equal(query("commit"), "CZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void function_calls_are_refused(void **state)
{
	(void)state;
	bare(FE_FUNCTION_CALL);
	assert_string_equal(told(), "(loss)ZE");
}

/* ---- the extended protocol ---- */

static void a_batch_is_skipped_to_its_sync(void **state)
{
	(void)state;
	parse("", "select 1");
	bind("");
	execute();
	assert_string_equal(told(), "(loss)");
	take(build_query(&in, slice_of("rollback"))); /* it is skipped as well */
	bare(FE_FLUSH);
	assert_string_equal(told(), "");
	assert_string_equal(sync_(), "ZE");
	parse("s", "select 1");
	assert_string_equal(told(), "(refused)");
	assert_null(named);
	assert_string_equal(sync_(), "ZE");
	bind("s");
	assert_string_equal(told(), "(refused)");
	assert_string_equal(sync_(), "ZE");
	execute();
	assert_string_equal(told(), "(refused)");
	assert_string_equal(sync_(), "ZE");
}

static void rollback_in_a_batch(void **state)
{
	(void)state;
	parse("", "rollback");
	bind("");
	take(build_describe(&in, TARGET_PORTAL, slice_of("")));
	execute();
	assert_string_equal(told(), "12nC");
	assert_int_equal(verdict, ABORTED_GOES_ON);
	bare(FE_FLUSH);
	assert_string_equal(sync_(), "ZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void named_statements_end_it(void **state)
{
	(void)state;
	parse("s", "rollback");
	take(build_describe(&in, TARGET_STATEMENT, slice_of("s")));
	bare(FE_FLUSH);
	assert_string_equal(told(), "1tn");
	assert_string_equal(named, "rollback");
	bind("s");
	execute();
	assert_string_equal(told(), "2C");
	assert_string_equal(sync_(), "ZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void a_name_that_was_there_before(void **state)
{
	(void)state;
	named = "COMMIT";
	bind("s");
	execute();
	assert_string_equal(told(), "2(loss)");
	assert_string_equal(sync_(), "ZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void a_name_that_cannot_be_kept(void **state)
{
	(void)state;
	is_full = true;
	parse("s", "rollback");
	assert_string_equal(told(), "(loss)");
	assert_string_equal(sync_(), "ZE");
}

static void names_can_be_closed(void **state)
{
	(void)state;
	named = "select 1";
	take(build_close(&in, TARGET_STATEMENT, slice_of("s")));
	take(build_close(&in, TARGET_PORTAL, slice_of("p")));
	assert_string_equal(told(), "33");
	assert_null(named);
	parse("", "rollback");
	take(build_close(&in, TARGET_STATEMENT, slice_of("")));
	bind("");
	assert_string_equal(told(), "13(loss)");
}

static void what_follows_the_end_is_for_a_server(void **state)
{
	(void)state;
	parse("", "rollback");
	bind("");
	execute();
	assert_string_equal(told(), "12C");
	parse("", "begin");
	assert_int_equal(verdict, ABORTED_LEAVES);
	assert_string_equal(told(), "");
}

static void portals_with_names_are_refused(void **state)
{
	(void)state;
	parse("", "rollback");
	take(build_bind(&in, slice_of("p"), slice_of(""), NULL, 0));
	assert_string_equal(told(), "1(loss)");
}

/* ---- without a block ---- */

static void a_batch_without_a_block_is_void(void **state)
{
	(void)state;
	a.is_block = false;
	assert_string_equal(sync_(), "(loss)ZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void more_of_such_a_batch_is_skipped(void **state)
{
	(void)state;
	a.is_block = false;
	parse("", "rollback");
	execute();
	assert_string_equal(told(), "(loss)");
	assert_string_equal(sync_(), "ZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

static void such_a_batch_may_be_known_to_have_failed(void **state)
{
	(void)state;
	a.is_block = false;
	a.is_told = a.is_skipping = true;
	execute();
	bare(FE_COPY_DATA);
	assert_string_equal(told(), "");
	assert_string_equal(sync_(), "ZI");
	assert_int_equal(verdict, ABORTED_ENDS);
}

/* ---- the rest ---- */

static void the_rest_of_a_copy_vanishes(void **state)
{
	(void)state;
	bare(FE_COPY_DATA);
	bare(FE_COPY_DONE);
	bare(FE_COPY_FAIL);
	assert_string_equal(told(), "");
	assert_int_equal(verdict, ABORTED_GOES_ON);
}

static void long_messages_are_refused(void **state)
{
	(void)state;
	verdict = aborted_take_long(&a, FE_PARSE, &out);
	assert_string_equal(told(), "(loss)");
	verdict = aborted_take_long(&a, FE_BIND, &out);
	assert_string_equal(told(), "");
	assert_string_equal(sync_(), "ZE");
	verdict = aborted_take_long(&a, FE_QUERY, &out);
	assert_string_equal(told(), "(refused)ZE");
	verdict = aborted_take_long(&a, FE_COPY_DATA, &out);
	assert_string_equal(told(), "");
	assert_int_equal(verdict, ABORTED_GOES_ON);
}

static void nonsense_fails(void **state)
{
	static const char *const bodies[] = { "P", "PP", "Bx", "Dx", "DSx", "CP", "E", "Ex", "?" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		a.is_skipping = false;
		assert_int_equal(aborted_take(&a, (uint8_t)bodies[i][0], slice_of(bodies[i] + 1), &out), ABORTED_FAILS);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_one_plain_end_ends_it),
		TEST(the_loss_is_told_once),
		TEST(rollback_needs_no_error),
		TEST(commit_is_no_success_to_who_does_not_know),
		TEST(commit_rolls_back_for_who_knows),
		TEST(function_calls_are_refused),
		TEST(a_batch_is_skipped_to_its_sync),
		TEST(rollback_in_a_batch),
		TEST(named_statements_end_it),
		TEST(a_name_that_was_there_before),
		TEST(a_name_that_cannot_be_kept),
		TEST(names_can_be_closed),
		TEST(what_follows_the_end_is_for_a_server),
		TEST(portals_with_names_are_refused),
		TEST(a_batch_without_a_block_is_void),
		TEST(more_of_such_a_batch_is_skipped),
		TEST(such_a_batch_may_be_known_to_have_failed),
		TEST(the_rest_of_a_copy_vanishes),
		TEST(long_messages_are_refused),
		TEST(nonsense_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
