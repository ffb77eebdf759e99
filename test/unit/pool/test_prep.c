/* Names of clients, entries of servers, records that come true or are undone; and the store of texts below them. */
#include "pool/prep.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct prep_client pc;
static struct prep_server ps;

static int setup(void **state UNUSED)
{
	static const uint8_t key[16] = "0123456789abcdef";

	stmt_setup(key);
	stmt_set_limit(1 << 20);
	memset(&pc, 0, sizeof(pc));
	prep_server_init(&ps);
	return 0;
}

/* Everything goes, and no text and no byte may be left. */
static int teardown(void **state UNUSED)
{
	size_t bytes;

	prep_client_clear(&pc);
	prep_server_fini(&ps);
	assert_int_equal(stmt_count(&bytes), 0);
	assert_int_equal(bytes, 0);
	stmt_teardown();
	return 0;
}

/* A text as Parse has it. */
static struct stmt *text(const char *sql)
{
	uint8_t body[64] = { 0 };
	size_t n = strlen(sql);

	memcpy(body, sql, n);
	return stmt_intern(body, n + 3);
}

static struct prep_name *name_of(const char *name, const char *sql)
{
	struct prep_name *n = prep_name_new(slice_of(name), text(sql));

	assert_non_null(n);
	assert_true(prep_client_add(&pc, n));
	return n;
}

static bool knows(const char *name)
{
	return prep_client_find(&pc, slice_of(name)) != NULL;
}

static struct prep_entry *entry_of(const char *sql)
{
	struct stmt *stmt = text(sql);
	struct prep_entry *entry = prep_server_add(&ps, stmt, stmt->number);

	assert_non_null(entry);
	stmt_release(&stmt);
	return entry;
}

static bool has(const char *sql)
{
	struct stmt *stmt = text(sql);
	bool found = prep_server_find(&ps, stmt) != NULL;

	stmt_release(&stmt);
	return found;
}

static void record(enum prep_op op, struct prep_name *name, struct prep_entry *entry)
{
	assert_true(prep_server_reserve(&ps, 1));
	prep_server_record(&ps, (struct prep_record){ .op = op, .name = name, .entry = entry });
}

/* What a Parse that goes to the server does. */
static void parse(const char *name, const char *sql)
{
	record(PREP_PARSE, name_of(name, sql), entry_of(sql));
}

static void close_name(const char *name)
{
	struct prep_name *n = prep_client_find(&pc, slice_of(name));

	prep_client_remove(&pc, n);
	record(PREP_FORGET, n, NULL);
}

static void evict(struct prep_entry *entry)
{
	prep_server_remove(&ps, entry);
	record(PREP_EVICT, NULL, entry);
}

static void test_equal_texts_are_one(void **state UNUSED)
{
	struct stmt *a = text("select 1");
	struct stmt *b = text("select 1");
	struct stmt *c = stmt_intern((const uint8_t *)"select 1\0\0\1\0\0\0\x17", 15); /* with a type */

	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, c);
	assert_true(a->number != c->number);
	stmt_release(&a);
	assert_null(a);
	assert_int_equal(stmt_count(&(size_t){ 0 }), 2);
	stmt_release(&b);
	stmt_release(&c);
}

static void test_numbers_are_never_used_again(void **state UNUSED)
{
	struct stmt *a = text("select 1");
	uint64_t number = a->number;

	stmt_release(&a);
	a = text("select 1");
	assert_true(a->number > number);
	number = stmt_next_number();
	stmt_skip_numbers(number + 100);
	assert_true(stmt_next_number() > number + 100);
	stmt_release(&a);
}

static void test_what_there_is_room_for(void **state UNUSED)
{
	struct stmt *a;

	stmt_set_limit(1000);
	assert_true(stmt_claim(900));
	assert_false(stmt_has_room(200));
	a = text("select 'too much'");
	assert_null(a);
	assert_null(prep_name_new(slice_of("a name, even, that is too long for what is left of all these bytes that "
					   "there were in the beginning, which it is not by much"),
				  NULL));
	stmt_unclaim(900);
	a = text("select 'too much'");
	assert_non_null(a);
	stmt_release(&a);
}

static void test_names_by_the_hundred(void **state UNUSED)
{
	char name[16];

	for (int i = 0; i < 500; i++) {
		str_format(name, sizeof(name), "s%d", i);
		name_of(name, "select 1");
	}
	assert_int_equal(pc.count, 500);
	for (int i = 0; i < 500; i += 2) {
		struct prep_name *n;

		str_format(name, sizeof(name), "s%d", i);
		n = prep_client_find(&pc, slice_of(name));
		prep_client_remove(&pc, n);
		prep_name_free(&n);
	}
	for (int i = 0; i < 500; i++) {
		str_format(name, sizeof(name), "s%d", i);
		assert_int_equal(knows(name), i % 2);
	}
	assert_false(knows("s"));
	assert_false(knows("s1 "));
}

static void test_the_oldest_is_the_one_used_last_of_all(void **state UNUSED)
{
	struct prep_entry *a = entry_of("a");
	struct prep_entry *b = entry_of("b");
	struct prep_entry *c = entry_of("c");

	assert_null(prep_server_oldest(&ps)); /* nobody knows yet whether the server has them */
	a->is_pending = b->is_pending = c->is_pending = false;
	assert_ptr_equal(prep_server_oldest(&ps), a);
	prep_server_touch(&ps, a);
	assert_ptr_equal(prep_server_oldest(&ps), b);
	b->is_pending = true;
	assert_ptr_equal(prep_server_oldest(&ps), c);
	assert_ptr_equal(prep_server_find_number(&ps, b->number), b);
	assert_null(prep_server_find_number(&ps, c->number + 1));
	c->is_victim = true;
	assert_ptr_equal(prep_server_victim(&ps), c);
}

static void test_records_come_true(void **state UNUSED)
{
	parse("a", "one");
	parse("b", "two");
	close_name("a");
	assert_true(prep_server_doubts(&ps, prep_client_find(&pc, slice_of("b"))));
	prep_server_done(&ps, 3);
	assert_int_equal(ps.record_count, 0);
	assert_false(knows("a"));
	assert_true(knows("b") && has("one") && has("two"));
	assert_false(prep_server_doubts(&ps, prep_client_find(&pc, slice_of("b"))));
	evict(prep_server_oldest(&ps));
	prep_server_done(&ps, 1);
	assert_true(!has("one") && has("two"));
}

static void test_records_are_undone_from_the_newest(void **state UNUSED)
{
	parse("a", "one");
	prep_server_done(&ps, 1);
	/* Close, the same name again, Close of that, an eviction, and something else under the name */
	close_name("a");
	parse("a", "two");
	close_name("a");
	evict(prep_server_oldest(&ps));
	parse("a", "three");
	assert_true(!has("one") && has("two") && has("three"));
	prep_server_undo(&ps, &pc, ps.record_count);
	assert_true(has("one") && !has("two") && !has("three"));
	assert_int_equal(ps.count, 1);
	assert_int_equal(pc.count, 1);
	assert_memory_equal(prep_client_find(&pc, slice_of("a"))->stmt->body, "one", 4);
}

static void test_a_part_comes_true(void **state UNUSED)
{
	parse("a", "one");
	parse("b", "two");
	close_name("a");
	prep_server_done(&ps, 1);
	prep_server_undo(&ps, &pc, 2);
	assert_true(knows("a") && !knows("b"));
	assert_true(has("one") && !has("two"));
}

static void test_a_later_batch_is_held_up(void **state UNUSED)
{
	assert_false(prep_server_is_held_up(&ps));
	parse("a", "one");
	assert_false(prep_server_is_held_up(&ps));
	ps.batch++;
	assert_true(prep_server_is_held_up(&ps));
	prep_server_done(&ps, 1);
	assert_false(prep_server_is_held_up(&ps));
}

static void test_many_records(void **state UNUSED)
{
	char name[16];

	for (int i = 0; i < 200; i++) {
		str_format(name, sizeof(name), "s%d", i);
		parse(name, name);
		if (i % 3 == 0)
			prep_server_done(&ps, 1);
	}
	assert_int_equal(ps.record_count, 200 - 67);
	prep_server_undo(&ps, &pc, ps.record_count);
	assert_int_equal(pc.count, 67);
	assert_int_equal(ps.count, 67);
}

static void test_a_server_that_forgets(void **state UNUSED)
{
	parse("a", "one");
	parse("b", "two");
	prep_server_done(&ps, 2);
	evict(prep_server_oldest(&ps));
	close_name("b");
	parse("c", "three");
	/* DISCARD ALL in front of all these: what is still to come stays */
	prep_server_clear(&ps);
	prep_client_forget(&pc, &ps);
	assert_true(!has("one") && !has("two") && has("three"));
	assert_true(!knows("a") && !knows("b") && knows("c"));
	prep_server_undo(&ps, &pc, 3);
	assert_int_equal(ps.count, 0);
	assert_int_equal(pc.count, 0);
}

static void test_a_server_that_is_given_up(void **state UNUSED)
{
	parse("a", "one");
	parse("b", "two");
	prep_server_done(&ps, 1);
	evict(prep_server_oldest(&ps));
	close_name("a");
	record(PREP_PROVOKE, prep_name_new(slice_of("nobody"), NULL), NULL);
	prep_server_abandon(&ps);
	assert_int_equal(ps.record_count, 0);
	assert_true(knows("b"));
}

static void test_shapes_are_told_to_entry_and_name(void **state UNUSED)
{
	struct prep_name *name;
	struct prep_entry *entry;

	parse("a", "one");
	prep_server_done(&ps, 1);
	name = prep_client_find(&pc, slice_of("a"));
	entry = prep_server_oldest(&ps);
	record(PREP_DESCRIBE, name, entry);
	prep_server_described(&ps, &pc, 77);
	prep_server_done(&ps, 1);
	assert_int_equal(name->told.shape, 77);
	assert_int_equal(entry->shape, 77);
	/* both are gone when the answer comes */
	record(PREP_DESCRIBE, name, entry);
	prep_server_clear(&ps);
	prep_client_forget(&pc, &ps);
	prep_server_described(&ps, &pc, 78);
	prep_server_done(&ps, 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_equal_texts_are_one),
		TEST(test_numbers_are_never_used_again),
		TEST(test_what_there_is_room_for),
		TEST(test_names_by_the_hundred),
		TEST(test_the_oldest_is_the_one_used_last_of_all),
		TEST(test_records_come_true),
		TEST(test_records_are_undone_from_the_newest),
		TEST(test_a_part_comes_true),
		TEST(test_a_later_batch_is_held_up),
		TEST(test_many_records),
		TEST(test_a_server_that_forgets),
		TEST(test_a_server_that_is_given_up),
		TEST(test_shapes_are_told_to_entry_and_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
