#include "auth/rulefile.h"

#include "rules_test.h"

#include <sys/stat.h>

/* What was read, a line each: "file:number a|b,c|"q" !fault" with quoted words in quotes. */
static char got[8192];

static void describe(const struct rulefile *rf)
{
	got[0] = '\0';
	for (size_t i = 0; i < rf->count; i++) {
		const struct rulefile_line *line = &rf->lines[i];

		str_append(got, sizeof(got), "%s:%u", line->file, line->number);
		for (size_t j = 0; j < line->count; j++) {
			for (size_t k = 0; k < line->fields[j].count; k++) {
				const struct rulefile_word *word = &line->fields[j].words[k];

				str_append(got, sizeof(got), word->quoted ? "%s\"%s\"" : "%s%s",
					   k > 0   ? ","
					   : j > 0 ? "|"
						   : " ",
					   word->text);
			}
		}
		if (line->fault != NULL)
			str_append(got, sizeof(got), " !%s%s", line->is_blind ? "!" : "", line->fault);
		str_append(got, sizeof(got), "\n");
	}
}

static void check_files(const struct rules_file *files, const char *expected)
{
	struct rulefile_io io = rules_io(files);
	struct rulefile rf;

	assert_int_equal(rulefile_read(&io, files[0].path, &rf), 0);
	describe(&rf);
	assert_string_equal(got, expected);
	rulefile_fini(&rf);
}

static void check(const char *text, const char *expected)
{
	const struct rules_file files[] = { { "f", text, 0 }, { 0 } };

	check_files(files, expected);
}

static void test_lines_and_words(void **state)
{
	check("", "");
	check("\n \t \n# a comment\n", "");
	check("a b\tc\n", "f:1 a|b|c\n");
	check("a\r\nb", "f:1 a\nf:2 b\n");
	check("\n\na # b\n#c\nd#e", "f:3 a\nf:5 d\n");
	check("a,b c", "f:1 a,b|c\n");
	check("a, b ,c , d e", "f:1 a,b,c,d|e\n");
	check("a,,b", "f:1 a,b\n");
	check("\xef\xbb\xbfhost all", "f:1 host|all\n");
}

static void test_quotes(void **state)
{
	check("\"a b\" c", "f:1 \"a b\"|c\n");
	check("\"a,b\",c", "f:1 \"a,b\",c\n");
	check("\"a#b\"#c", "f:1 \"a#b\"\n");
	check("\"a\"\"b\"", "f:1 \"a\"b\"\n");
	check("a\"b c\"d", "f:1 ab cd\n");
	check("+\"a b\"", "f:1 +a b\n");
	check("\"\"", "f:1 \"\"\n");
	check("\"@x\"", "f:1 \"@x\"\n");
	check("a \"b\nc", "f:1 a !a quote is not closed\nf:2 c\n");
	check("a b,\"c", "f:1 a !a quote is not closed\n");
}

static void test_commas_that_separate_nothing(void **state)
{
	check("a ,", "f:1 !nothing follows the comma at the end\n");
	check(", a", "f:1 !a comma where a word is due\n");
}

static void test_continuation(void **state)
{
	check("a \\\nb\nc", "f:1 a|b\nf:3 c\n");
	check("a\\\nb", "f:1 ab\n");
	check("a \\\r\nb", "f:1 a|b\n");
	check("a \\\n# x\nb", "f:1 a\nf:3 b\n");
	check("\"a \\\n#b\"", "f:1 \"a #b\"\n");
	check("a \\", "f:1 a\n");
	/* What stands behind a comment is never part of it. */
	check("# x \\\nhost all\n", "f:2 host|all\n");
	check("a # x \\\nhost all\n", "f:1 a\nf:2 host|all\n");
}

static void test_bytes_that_cannot_be(void **state)
{
	const struct rules_file files[] = { { "f", "a b\0 reject\nc\n", 14 }, { 0 } };
	char *text = xmalloc(RULEFILE_LINE_MAX + 3);

	check_files(files, "f:1 !!it holds a zero byte\nf:2 c\n");
	memset(text, 'a', RULEFILE_LINE_MAX + 2);
	memcpy(text + RULEFILE_LINE_MAX + 1, "\n", 2);
	check(text, "f:1 !!it is longer than 65536 bytes\n");
	text[RULEFILE_LINE_MAX] = '\0';
	check(text, "f:1 !a word is longer than 2048 bytes\n");
	free(text);
}

static void test_rest_of_a_line(void **state)
{
	const struct rules_file files[] = { { "f", "a b  c=\"d e\", f # g\n", 0 }, { 0 } };
	struct rulefile_io io = rules_io(files);
	struct rulefile rf;

	assert_int_equal(rulefile_read(&io, "f", &rf), 0);
	assert_string_equal(rf.lines[0].text + rf.lines[0].fields[1].rest, "c=\"d e\", f ");
	rulefile_fini(&rf);
}

static void test_files_of_names(void **state)
{
	const struct rules_file files[] = {
		{ "/etc/f", "a x,@names,y b\n@\nc @\"sub/more names\"\nd @missing e\n@empty\n@bad\n@loop z\n", 0 },
		{ "/etc/names", "# some\none two,three\n\"four 4\" @sub/more\\\nnames\ninclude nothing\n", 0 },
		{ "/etc/sub/morenames", "@/etc/leaf\n", 0 },
		{ "/etc/sub/more names", "six\n", 0 },
		{ "/etc/leaf", "leaf", 0 },
		{ "/etc/empty", "#\n", 0 },
		{ "/etc/bad", "x\ny \"z\n", 0 },
		{ "/etc/loop", "@loop2", 0 },
		{ "/etc/loop2", "@/etc/loop", 0 },
		{ 0 },
	};

	check_files(files, "/etc/f:1 a|x,one,two,three,\"four 4\",leaf,include,nothing,y|b\n"
			   "/etc/f:2 @\n"
			   "/etc/f:3 c|six\n"
			   "/etc/f:4 d !could not read the file \"/etc/missing\": No such file or directory\n"
			   "/etc/f:5 !a file of names has none\n"
			   "/etc/f:6 !a quote is not closed\n"
			   "/etc/f:7 !the file \"/etc/loop\" includes itself\n");
}

static void test_includes(void **state)
{
	const struct rules_file files[] = {
		{ "/etc/f",
		  "a\ninclude one\nb\ninclude_if_exists no\ninclude no\ninclude_dir d\n\"include\" x\ninclude x y\n"
		  "include x,y\nincluded x\ninclude f\ninclude_dir no\nc",
		  0 },
		{ "/etc/one", "1\ninclude d/2.conf\n3\n", 0 },
		{ "/etc/d/2.conf", "2", 0 },
		{ "/etc/d/9.conf", "9\n", 0 },
		{ "/etc/d/8.txt", "8\n", 0 },
		{ "/etc/d/1.conf", "1\n2\n", 0 },
		{ 0 },
	};

	check_files(files,
		    "/etc/f:1 a\n"
		    "/etc/one:1 1\n/etc/d/2.conf:1 2\n/etc/one:3 3\n"
		    "/etc/f:3 b\n"
		    "/etc/f:5 include|no !!could not read the file \"/etc/no\": No such file or directory\n"
		    "/etc/d/1.conf:1 1\n/etc/d/1.conf:2 2\n/etc/d/2.conf:1 2\n/etc/d/9.conf:1 9\n"
		    "/etc/f:7 \"include\"|x\n"
		    "/etc/f:8 include|x|y\n"
		    "/etc/f:9 include|x,y !!include takes one name\n"
		    "/etc/f:10 included|x\n"
		    "/etc/f:11 include|f !!the file \"/etc/f\" includes itself\n"
		    "/etc/f:12 include_dir|no !!could not read the directory \"/etc/no\": No such file or directory\n"
		    "/etc/f:13 c\n");
}

static void test_a_bad_include_in_an_include(void **state)
{
	const struct rules_file files[] = {
		{ "f", "include g\nlast\n", 0 },
		{ "g", "first\ninclude no\n", 0 },
		{ 0 },
	};

	check_files(files, "g:1 first\n"
			   "g:2 include|no !!could not read the file \"no\": No such file or directory\n"
			   "f:2 last\n");
}

static int read_endless(void *ctx, const char *path, size_t max, char **text, size_t *len)
{
	unsigned *n = ctx;

	(void)path;
	++*n;
	*text = xmalloc(64);
	*len = str_format(*text, 64, "include f%u\ninclude g%u\nx\n", *n, *n);
	if (*len <= max)
		return 0;
	free(*text);
	errno = EFBIG;
	return -E_SYS;
}

static void test_includes_end(void **state)
{
	unsigned n = 0;
	struct rulefile_io io = { read_endless, rules_list, &n };
	struct rulefile rf;

	/* Each file includes two others: the depth ends it. */
	assert_int_equal(rulefile_read(&io, "f", &rf), 0);
	assert_int_equal(n, (2U << RULEFILE_DEPTH_MAX) - 1);
	assert_int_equal(rf.file_count, n);
	assert_non_null(strstr(rf.lines[0].fault, "through more than 10 others"));
	rulefile_fini(&rf);
}

static void test_too_many_lines(void **state)
{
	size_t len = 2 * ((size_t)RULEFILE_LINES_MAX + 10);
	char *text = xmalloc(len + 1);
	struct rules_file files[] = { { "f", text, len }, { 0 } };
	struct rulefile_io io = rules_io(files);
	struct rulefile rf;

	for (size_t i = 0; i < len; i += 2)
		memcpy(text + i, "a\n", 2);
	assert_int_equal(rulefile_read(&io, "f", &rf), 0);
	assert_int_equal(rf.count, RULEFILE_LINES_MAX + 1);
	assert_null(rf.lines[rf.count - 2].fault);
	assert_true(rf.lines[rf.count - 1].is_blind);
	rulefile_fini(&rf);
	free(text);
}

static void check_equal(const char *a, const char *b, bool expected)
{
	const struct rules_file files[] = { { "a", a, 0 }, { "b", b, 0 }, { "n", "x y", 0 }, { 0 } };
	struct rulefile_io io = rules_io(files);
	struct rulefile x;
	struct rulefile y;

	assert_int_equal(rulefile_read(&io, "a", &x), 0);
	assert_int_equal(rulefile_read(&io, "b", &y), 0);
	assert_int_equal(rulefile_is_equal(&x, &y), expected);
	rulefile_fini(&x);
	rulefile_fini(&y);
}

static void test_equality(void **state)
{
	check_equal("", "", true);
	check_equal("a b\n", "# c\na b", true);
	check_equal("a b\n", "a b\nc", false);
	check_equal("a b\n", "a \"b\"", false);
	check_equal("a @n", "a @n", true);
	check_equal("a @n", "a x,y", false);
}

static void test_the_disk(void **state)
{
	char dir[] = "/tmp/pgsluice-rules-XXXXXX";
	char path[64];
	struct rulefile rf;
	FILE *f;

	assert_non_null(mkdtemp(dir));
	str_format(path, sizeof(path), "%s/main", dir);
	assert_int_equal(rulefile_read(&rulefile_disk, path, &rf), -E_SYS);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(rulefile_read(&rulefile_disk, dir, &rf), -E_SYS);
	assert_int_equal(errno, EISDIR);
	rulefile_fini(&rf);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("one\ninclude_dir .\n", f);
	for (int i = 0; i < 30000; i++)
		fputs("# nothing\n", f);
	fputs("three\n", f);
	fclose(f);
	str_format(path, sizeof(path), "%s/a.conf", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("two\n", f);
	fclose(f);
	str_format(path, sizeof(path), "%s/main", dir);
	assert_int_equal(rulefile_read(&rulefile_disk, path, &rf), 0);
	assert_int_equal(rf.count, 3);
	assert_string_equal(rf.lines[1].fields[0].words[0].text, "two");
	assert_int_equal(rf.lines[2].number, 30003);
	rulefile_fini(&rf);
	assert_int_equal(unlink(path), 0);
	str_format(path, sizeof(path), "%s/a.conf", dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_and_words),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_commas_that_separate_nothing),
		cmocka_unit_test(test_continuation),
		cmocka_unit_test(test_bytes_that_cannot_be),
		cmocka_unit_test(test_rest_of_a_line),
		cmocka_unit_test(test_files_of_names),
		cmocka_unit_test(test_includes),
		cmocka_unit_test(test_a_bad_include_in_an_include),
		cmocka_unit_test(test_includes_end),
		cmocka_unit_test(test_too_many_lines),
		cmocka_unit_test(test_equality),
		cmocka_unit_test(test_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
