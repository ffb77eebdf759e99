#include "proto/wire.h"

#include "proto_test.h"

static void numbers_are_big_endian(void **state)
{
	struct reader r;

	(void)state;
	rd_init_slice(&r, LIT("\x01\x02\x03\x04\x05\x06\x07\xff\xff\xff\xfe"));
	assert_int_equal(rd_u8(&r), 1);
	assert_int_equal(rd_u16(&r), 0x0203);
	assert_int_equal(rd_u32(&r), 0x04050607);
	assert_int_equal(rd_i32(&r), -2);
	assert_true(rd_done(&r));
}

static void strings_end_at_their_nul(void **state)
{
	struct reader r;

	(void)state;
	rd_init_slice(&r, LIT("ab\0\0rest"));
	assert_slice(rd_cstr(&r), "ab");
	assert_slice(rd_cstr(&r), "");
	assert_false(rd_done(&r));
	assert_slice(rd_rest(&r), "rest");
	assert_true(rd_done(&r));
	assert_slice(rd_rest(&r), "");
	assert_true(rd_done(&r));
	assert_slice(rd_cstr(&r), "");
	assert_int_equal(r.err, -E_PROTO);
}

static void an_error_sticks(void **state)
{
	struct reader r;

	(void)state;
	rd_init_slice(&r, LIT("abc"));
	assert_int_equal(rd_u32(&r), 0);
	assert_int_equal(r.err, -E_PROTO);
	assert_int_equal(rd_left(&r), 0);
	assert_int_equal(rd_u8(&r), 0);
	assert_slice(rd_bytes(&r, 1), "");
	assert_slice(rd_bytes(&r, 0), "");
	assert_slice(rd_rest(&r), "");
	assert_slice(rd_cstr(&r), "");
	assert_false(rd_done(&r));
}

static void a_caller_can_fail_the_reader(void **state)
{
	struct reader r;

	(void)state;
	rd_init_slice(&r, LIT("abc"));
	rd_fail(&r);
	assert_int_equal(rd_u8(&r), 0);
	assert_false(rd_done(&r));
}

static void an_empty_input_is_done_but_gives_nothing(void **state)
{
	struct reader r;

	(void)state;
	rd_init(&r, NULL, 0);
	assert_true(rd_done(&r));
	assert_slice(rd_bytes(&r, 0), "");
	assert_true(rd_done(&r));
	assert_int_equal(rd_u8(&r), 0);
	assert_false(rd_done(&r));
}

/* A length from the network can be anything. */
static void huge_lengths_do_not_wrap(void **state)
{
	const size_t sizes[] = { 4, INT32_MAX, UINT32_MAX, SIZE_MAX, SIZE_MAX - 2, (size_t)-1000 };
	struct slice three = exact_copy(LIT("abc"));
	struct reader r;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		rd_init_slice(&r, three);
		assert_slice(rd_bytes(&r, sizes[i]), "");
		assert_int_equal(r.err, -E_PROTO);
	}
	free((void *)(uintptr_t)three.p);
}

static void every_truncation_is_noticed(void **state)
{
	const struct slice whole = LIT("\x01\x00\x02\x00\x00\x00\x03text\0xyz");
	struct reader r;

	(void)state;
	for (size_t n = 0; n <= whole.n; n++) {
		struct slice part = exact_copy(slice_make(whole.p, n));

		rd_init_slice(&r, part);
		(void)rd_u8(&r);
		(void)rd_u16(&r);
		(void)rd_u32(&r);
		(void)rd_cstr(&r);
		(void)rd_bytes(&r, 3);
		assert_int_equal(rd_done(&r), n == whole.n);
		free((void *)(uintptr_t)part.p);
	}
}

static void a_message_gets_its_length(void **state)
{
	struct writer w;
	struct buf b;

	(void)state;
	buf_init(&b, 1024);
	wr_begin(&w, &b, 'Q');
	wr_u8(&w, 1);
	wr_u16(&w, 0x0203);
	wr_u32(&w, 0x04050607);
	wr_cstr(&w, "hi");
	wr_str(&w, LIT("yo"));
	wr_slice(&w, LIT("a\0b"));
	wr_bytes(&w, "c", 1);
	assert_int_equal(wr_end(&w), 0);
	assert_slice(buf_slice(&b), "Q\0\0\0\x15\x01\x02\x03\x04\x05\x06\x07hi\0yo\0a\0bc");

	wr_begin(&w, &b, 0);
	wr_u8(&w, 9);
	assert_int_equal(wr_end(&w), 0);
	assert_memory_equal(buf_ptr(&b) + 22, "\0\0\0\x05\x09", 5);
	assert_int_equal(buf_len(&b), 27);
	buf_fini(&b);
}

/* What stands before the message may have been partly consumed, and may move. */
static void a_message_follows_what_is_there(void **state)
{
	char filler[600];
	struct writer w;
	struct buf b;

	(void)state;
	memset(filler, 'f', sizeof(filler));
	buf_init(&b, 4096);
	assert_int_equal(buf_append(&b, filler, 500), 0);
	buf_consume(&b, 490);
	wr_begin(&w, &b, 'D');
	wr_bytes(&w, filler, sizeof(filler));
	assert_int_equal(wr_end(&w), 0);
	assert_int_equal(buf_len(&b), 10 + 5 + 600);
	assert_memory_equal(buf_ptr(&b),
			    "ffffffffffD\0\0\x02\x5c"
			    "f",
			    16);
	buf_fini(&b);
}

static void a_message_without_room_is_absent(void **state)
{
	(void)state;
	for (uint32_t max = 3; max < 3 + 5 + 7; max++) {
		struct writer w;
		struct buf b;

		buf_init(&b, max);
		assert_int_equal(buf_append(&b, "abc", 3), 0);
		wr_begin(&w, &b, 'X');
		wr_u32(&w, 1);
		wr_cstr(&w, "ab");
		assert_int_equal(wr_end(&w), -E_NOSPACE);
		assert_slice(buf_slice(&b), "abc");
		buf_fini(&b);
	}
}

static void a_short_field_does_not_sneak_in_after_an_error(void **state)
{
	struct writer w;
	struct buf b;

	(void)state;
	buf_init(&b, 10);
	wr_begin(&w, &b, 'X');
	wr_bytes(&w, "0123456789", 10);
	wr_u8(&w, 1);
	assert_int_equal(wr_end(&w), -E_NOSPACE);
	assert_true(buf_is_empty(&b));

	wr_begin(&w, &b, 'X');
	wr_fail(&w, -E_RANGE);
	wr_fail(&w, -E_TOOBIG);
	assert_int_equal(wr_end(&w), -E_RANGE);
	assert_true(buf_is_empty(&b));
	buf_fini(&b);
}

static void a_nul_inside_a_string_is_refused(void **state)
{
	struct writer w;
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	wr_begin(&w, &b, 'X');
	wr_str(&w, LIT("a\0b"));
	assert_int_equal(wr_end(&w), -E_RANGE);
	assert_true(buf_is_empty(&b));

	wr_begin(&w, &b, 'X');
	wr_str(&w, slice_make(NULL, 0));
	assert_int_equal(wr_end(&w), 0);
	assert_slice(buf_slice(&b), "X\0\0\0\x05\0");
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_big_endian),
		cmocka_unit_test(strings_end_at_their_nul),
		cmocka_unit_test(an_error_sticks),
		cmocka_unit_test(a_caller_can_fail_the_reader),
		cmocka_unit_test(an_empty_input_is_done_but_gives_nothing),
		cmocka_unit_test(huge_lengths_do_not_wrap),
		cmocka_unit_test(every_truncation_is_noticed),
		cmocka_unit_test(a_message_gets_its_length),
		cmocka_unit_test(a_message_follows_what_is_there),
		cmocka_unit_test(a_message_without_room_is_absent),
		cmocka_unit_test(a_short_field_does_not_sneak_in_after_an_error),
		cmocka_unit_test(a_nul_inside_a_string_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
