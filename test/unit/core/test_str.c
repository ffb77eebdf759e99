#include "core/str.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/alloc.h"

static void expect_slice(struct slice s, const char *text)
{
	assert_int_equal(s.n, strlen(text));
	assert_true(slice_eq_str(s, text));
}

static void test_equality(void **state UNUSED)
{
	static const char with_nul[] = "a\0b";

	assert_true(slice_eq(slice_of("abc"), slice_make("abcd", 3)));
	assert_false(slice_eq(slice_of("abc"), slice_of("abcd")));
	assert_false(slice_eq(slice_of("abc"), slice_of("abC")));
	assert_true(slice_eq(slice_of(NULL), slice_of("")));
	assert_true(slice_eq(slice_make(with_nul, 3), slice_make(with_nul, 3)));
	assert_false(slice_eq_str(slice_make(with_nul, 3), "a"));
	assert_true(slice_ieq(slice_of("SeT"), slice_of("sEt")));
	assert_false(slice_ieq(slice_of("set"), slice_of("sets")));
	assert_true(slice_ieq(slice_of(NULL), slice_of("")));
}

static void test_trim(void **state UNUSED)
{
	expect_slice(slice_trim(slice_of("  a b\t\r\n")), "a b");
	expect_slice(slice_trim(slice_of("a")), "a");
	expect_slice(slice_trim(slice_of(" \t ")), "");
	expect_slice(slice_trim(slice_of("")), "");
	expect_slice(slice_trim(slice_of(NULL)), "");
	expect_slice(slice_trim(slice_of("\xa0x\xff")), "\xa0x\xff");
}

static void test_cut(void **state UNUSED)
{
	expect_slice(slice_cut(slice_of("abc"), 3), "abc");
	expect_slice(slice_cut(slice_of("abc"), 2), "ab");
	expect_slice(slice_cut(slice_of("abc"), 0), "");
	expect_slice(slice_cut(slice_of(NULL), 5), "");
	expect_slice(slice_cut(slice_of("a\xc3\xa9"), 3), "a\xc3\xa9");
	expect_slice(slice_cut(slice_of("a\xc3\xa9"), 2), "a");
	expect_slice(slice_cut(slice_of("\xe2\x82\xac!"), 2), "");
	expect_slice(slice_cut(slice_of("\xa0\xa0\xa0"), 2), "");
}

static void test_dup(void **state UNUSED)
{
	char *copy = slice_dup(slice_make("abcdef", 3));

	assert_string_equal(copy, "abc");
	free(copy);
	copy = slice_dup(slice_of(NULL));
	assert_string_equal(copy, "");
	free(copy);
}

static void test_copy(void **state UNUSED)
{
	char dst[5];

	memset(dst, 'x', sizeof(dst));
	assert_true(str_copy(dst, 4, "abc"));
	assert_string_equal(dst, "abc");
	assert_false(str_copy(dst, 4, "abcd"));
	assert_string_equal(dst, "abc");
	assert_int_equal(dst[4], 'x');
	assert_false(str_copy(dst, 1, "a"));
	assert_string_equal(dst, "");
	assert_true(str_copy(dst, 1, ""));
	assert_true(str_copy(dst, 4, NULL));
	assert_string_equal(dst, "");
	assert_true(str_copy_slice(dst, 4, slice_make("wxyz", 2)));
	assert_string_equal(dst, "wx");
}

static void test_format(void **state UNUSED)
{
	char dst[6];

	assert_int_equal(str_format(dst, sizeof(dst), "%d-%s", 12, "ab"), 5);
	assert_string_equal(dst, "12-ab");
	assert_int_equal(str_format(dst, sizeof(dst), "%s", "too long"), 5);
	assert_string_equal(dst, "too l");
	assert_int_equal(str_format(dst, 1, "x"), 0);
	assert_string_equal(dst, "");
}

static void test_append(void **state UNUSED)
{
	char dst[8] = "";

	assert_true(str_append(dst, sizeof(dst), "%s", "abc"));
	assert_true(str_append(dst, sizeof(dst), "%d", 4567));
	assert_string_equal(dst, "abc4567");
	assert_true(str_append(dst, sizeof(dst), "%s", ""));
	assert_false(str_append(dst, sizeof(dst), "x"));
	assert_string_equal(dst, "abc4567");
	dst[5] = '\0';
	assert_false(str_append(dst, sizeof(dst), "xyz"));
	assert_string_equal(dst, "abc45xy");
}

static void test_memory(void **state UNUSED)
{
	char secret[] = "password";
	char *heap = xstrdup("password");
	static const char zeros[sizeof(secret)];

	assert_true(mem_equal_ct("abc", "abd", 2));
	assert_false(mem_equal_ct("abc", "abd", 3));
	assert_false(mem_equal_ct("\x01", "\x81", 1));
	assert_true(mem_equal_ct("a", "b", 0));
	mem_wipe(secret, 3);
	assert_memory_equal(secret, "\0\0\0sword", 8);
	mem_wipe(secret, sizeof(secret));
	assert_memory_equal(secret, zeros, sizeof(secret));
	mem_wipe(NULL, 0);
	free_secret(heap);
	free_secret(NULL);
}

static void test_alloc(void **state UNUSED)
{
	unsigned char *p = xcalloc_aligned(100);

	assert_int_equal((uintptr_t)p % CACHE_LINE, 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(p[i], 0);
	free(p);
	assert_null(xstrdup(NULL));
	p = xmalloc(0);
	assert_non_null(p);
	p = xrealloc(p, 10);
	assert_non_null(p);
	free(p);
	p = xcalloc(0, 0);
	assert_non_null(p);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equality), cmocka_unit_test(test_trim),   cmocka_unit_test(test_cut),
		cmocka_unit_test(test_dup),      cmocka_unit_test(test_copy),   cmocka_unit_test(test_format),
		cmocka_unit_test(test_append),   cmocka_unit_test(test_memory), cmocka_unit_test(test_alloc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
