/*
 * The dialect, line by line: what is a section, a key, a value, a comment, and
 * that none of inih's own rules shows through.
 */
#include "conf/ini.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/str.h"

/* What the callbacks saw, as text. */
struct trace {
	const char *const *files; /* path, text, path, text, NULL */
	char got[4096];
	int refuse; /* on_item refuses the item of this number; 0 none */
	int items;
};

static int trace_read(void *ctx, const char *path, char **text, size_t *len)
{
	struct trace *t = ctx;

	for (const char *const *f = t->files; f[0] != NULL; f += 2) {
		if (strcmp(f[0], path) != 0)
			continue;
		*text = xstrdup(f[1]);
		*len = strlen(f[1]);
		return 0;
	}
	errno = ENOENT;
	return -E_SYS;
}

static int trace_item(void *ctx, const struct conf_ini_item *item)
{
	struct trace *t = ctx;

	if (item->key == NULL)
		str_append(t->got, sizeof(t->got), "%s:%u[%s]\n", item->file, item->line, item->section);
	else
		str_append(t->got, sizeof(t->got), "%s:%u %s|%s|%s\n", item->file, item->line,
			   item->section == NULL ? "-" : item->section, item->key, item->value);
	return ++t->items == t->refuse ? -E_RANGE : 0;
}

static void trace_error(void *ctx, const char *file, unsigned line, const char *what, const char *hint)
{
	struct trace *t = ctx;

	str_append(t->got, sizeof(t->got), "%s:%u error: %s; %s\n", file, line, what, hint == NULL ? "" : hint);
}

static void trace_include_failed(void *ctx, const char *file, unsigned line)
{
	struct trace *t = ctx;

	str_append(t->got, sizeof(t->got), "%s:%u include failed\n", file, line);
}

static const struct conf_ini_ops trace_ops = { trace_read, trace_item, trace_error, trace_include_failed };

static void check_files(const char *const *files, int rc, const char *expected)
{
	struct trace t = { .files = files };

	assert_int_equal(conf_ini_parse("m", &trace_ops, &t), rc);
	assert_string_equal(t.got, expected);
}

static void check(const char *text, int rc, const char *expected)
{
	const char *files[] = { "m", text, NULL };

	check_files(files, rc, expected);
}

static void test_plain(void **state)
{
	check("", 0, "");
	check("\n\n", 0, "");
	check("[a]\nk=v\n", 0, "m:1[a]\nm:2 a|k|v\n");
	check("[a]\nk=v", 0, "m:1[a]\nm:2 a|k|v\n");
	check("k=v", 0, "m:1 -|k|v\n");
	check("[a]\r\nk = v \t\r\n", 0, "m:1[a]\nm:2 a|k|v\n");
	check("[a]\nk\t = \t v\n", 0, "m:1[a]\nm:2 a|k|v\n");
	check("[a]\nk=\nl = \n", 0, "m:1[a]\nm:2 a|k|\nm:3 a|l|\n");
	check("[a]\nk=1\nk=2\n[a]\n", 0, "m:1[a]\nm:2 a|k|1\nm:3 a|k|2\nm:4[a]\n");
}

static void test_comments(void **state)
{
	check("; c\n# c\n  ; [x]\n\t# k=v\n[a]\n", 0, "m:5[a]\n");
	check("[a]\nk = select 1 ; select 2 # x\n", 0, "m:1[a]\nm:2 a|k|select 1 ; select 2 # x\n");
	check("[a]\nk=;v\n", 0, "m:1[a]\nm:2 a|k|;v\n");
	check(";", 0, "");
}

static void test_indented_lines_are_no_continuation(void **state)
{
	check("[a]\nk=1\n  l=2\n\tm=3\n", 0, "m:1[a]\nm:2 a|k|1\nm:3 a|l|2\nm:4 a|m|3\n");
	check("  [a]\n", 0, "m:1[a]\n");
	check("[a]\nk=1\n  more\n", -E_SYNTAX,
	      "m:1[a]\nm:2 a|k|1\nm:3 error: syntax error in configuration; expected = after the name\n");
}

static void test_keys(void **state)
{
	check("[a]\nA.b-c_9*=1\n*=2\n", 0, "m:1[a]\nm:2 a|A.b-c_9*|1\nm:3 a|*|2\n");
	check("[a]\n'my db'=1\n'a:b=c;d'= 2\n'*'=3\n", 0, "m:1[a]\nm:2 a|my db|1\nm:3 a|a:b=c;d|2\nm:4 a|*|3\n");
	check("[a]\nk:l=1\n", -E_SYNTAX,
	      "m:1[a]\nm:2 error: syntax error in configuration; expected = after the name\n");
	check("[a]\nk: v\n", -E_SYNTAX,
	      "m:1[a]\nm:2 error: syntax error in configuration; expected = after the name\n");
	check("[a]\n\"k\"=1\n", -E_SYNTAX,
	      "m:1[a]\nm:2 error: syntax error in configuration; expected a name of letters, digits and _ . - *, "
	      "or one in single quotes\n");
	check("''=1", -E_SYNTAX, "m:1 error: syntax error in configuration; the name is empty\n");
	check("'a=1\n'=2", -E_SYNTAX, "m:1 error: syntax error in configuration; the name has no closing quote\n");
	check("k\n=1", -E_SYNTAX, "m:1 error: syntax error in configuration; expected = after the name\n");
	check("=1", -E_SYNTAX,
	      "m:1 error: syntax error in configuration; expected a name of letters, digits and _ . - *, "
	      "or one in single quotes\n");
}

static void test_values_are_verbatim(void **state)
{
	check("[a]\nk = 'x' \"y\"\n", 0, "m:1[a]\nm:2 a|k|'x' \"y\"\n");
	check("[a]\nk = =a:b=c [d]\n", 0, "m:1[a]\nm:2 a|k|=a:b=c [d]\n");
	check("[a]\nk = a\\\nl=1\n", 0, "m:1[a]\nm:2 a|k|a\\\nm:3 a|l|1\n");
	check("[a]\nk = %include x\n", 0, "m:1[a]\nm:2 a|k|%include x\n");
}

static void test_sections(void **state)
{
	check("[ a b ]\n", 0, "m:1[ a b ]\n");
	check("[]\nk=1\n", 0, "m:1[]\nm:2 |k|1\n");
	check("[a] k=v\n[b] ; c\n[c][d] l = w ]\n", 0, "m:1[a]\nm:1 a|k|v\nm:2[b]\nm:3[c]\nm:3[d]\nm:3 d|l|w ]\n");
	check("[a\n]", -E_SYNTAX,
	      "m:1 error: syntax error in configuration; a section header ends with ] on the same line\n");
}

static void test_section_names_may_be_long(void **state)
{
	char text[3000];
	char expected[3000];

	memset(text, 's', 1000);
	text[0] = '[';
	memcpy(text + 1000, "]k=v", 5);
	str_format(expected, sizeof(expected), "m:1%.1001s\n", text);
	str_append(expected, sizeof(expected), "m:1 %.999s|k|v\n", text + 1);
	check(text, 0, expected);
}

static void test_long_lines(void **state)
{
	size_t sizes[] = { 199, 200, 201, 5000, CONF_INI_MAX_LINE - 2 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		char *text = xmalloc(sizes[i] + 16);
		struct trace t = { .files = (const char *const[]){ "m", text, NULL } };

		memset(text, 'x', sizes[i] + 2);
		memcpy(text, "k=", 2);
		text[sizes[i] + 1] = ';'; /* must arrive */
		memcpy(text + sizes[i] + 2, "\nl=1", 5);
		assert_int_equal(conf_ini_parse("m", &trace_ops, &t), 0);
		assert_int_equal(t.items, 2);
		free(text);
	}
}

static void test_too_long_line(void **state)
{
	char *text = xmalloc(CONF_INI_MAX_LINE + 16);

	memset(text, 'x', CONF_INI_MAX_LINE + 1);
	memcpy(text, "k=", 2);
	text[CONF_INI_MAX_LINE + 1] = '\0';
	check(text, -E_SYNTAX, "m:1 error: syntax error in configuration; a line may have 1048576 bytes\n");
	text[0] = ';';
	check(text, 0, "");
	free(text);
}

static void test_include(void **state)
{
	const char *good[] = {
		"m", "[a]\nk=1\n%include sub dir/f \nl=2\n%include\te", "sub dir/f", "i=3\n[b]\nj=4\n", "e", "", NULL
	};
	const char *deep[] = { "m", "%include m\n", NULL };
	const char *gone[] = { "m", "\n%include f", "f", "%include g\n", NULL };

	check_files(good, 0, "m:1[a]\nm:2 a|k|1\nsub dir/f:1 a|i|3\nsub dir/f:2[b]\nsub dir/f:3 b|j|4\nm:4 b|l|2\n");
	check_files(deep, -E_SYNTAX,
		    "m:1 error: include nesting level too deep; files may include each other 10 levels deep\n"
		    "m:1 include failed\nm:1 include failed\nm:1 include failed\nm:1 include failed\n"
		    "m:1 include failed\nm:1 include failed\nm:1 include failed\nm:1 include failed\n"
		    "m:1 include failed\nm:1 include failed\n");
	check_files(gone, -E_SYS,
		    "g:0 error: could not load file \"g\": No such file or directory; \n"
		    "f:1 include failed\nm:2 include failed\n");
	check("%include", -E_SYNTAX,
	      "m:1 error: syntax error in configuration; %include is followed by a blank and the name of a file\n");
	check("%include  \n", -E_SYNTAX,
	      "m:1 error: syntax error in configuration; %include is followed by a blank and the name of a file\n");
	check("%includex", -E_SYNTAX,
	      "m:1 error: syntax error in configuration; %include is followed by a blank and the name of a file\n");
}

/* m includes f1, f1 includes f2 and so on up to f10, which has a key: allowed. */
static void test_ten_levels_are_allowed(void **state)
{
	char text[10][32];
	char path[11][8];
	const char *files[23];
	size_t n = 0;

	for (int i = 0; i < 10; i++) {
		str_format(path[i], sizeof(path[i]), i == 0 ? "m" : "f%d", i);
		str_format(text[i], sizeof(text[i]), "%%include f%d", i + 1);
		files[n++] = path[i];
		files[n++] = text[i];
	}
	files[n++] = "f10";
	files[n++] = "k=v";
	files[n] = NULL;
	check_files(files, 0, "f10:1 -|k|v\n");
}

static void test_missing_file(void **state)
{
	const char *files[] = { NULL };

	check_files(files, -E_SYS, "m:0 error: could not load file \"m\": No such file or directory; \n");
}

/* PgBouncer does not know the mark either; inih would skip it. */
static void test_byte_order_mark_is_an_error(void **state)
{
	check("\xef\xbb\xbf[a]\n", -E_SYNTAX,
	      "m:1 error: syntax error in configuration; expected a name of letters, digits and _ . - *, "
	      "or one in single quotes\n");
}

static void test_refused_item_ends_the_parse(void **state)
{
	const char *files[] = { "m", "[a]\n%include f\nz=1", "f", "k=v\nl=w\n", NULL };
	struct trace t = { .files = files, .refuse = 2 };

	assert_int_equal(conf_ini_parse("m", &trace_ops, &t), -E_RANGE);
	assert_string_equal(t.got, "m:1[a]\nf:1 a|k|v\nm:2 include failed\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_comments),
		cmocka_unit_test(test_indented_lines_are_no_continuation),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_values_are_verbatim),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_section_names_may_be_long),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_too_long_line),
		cmocka_unit_test(test_include),
		cmocka_unit_test(test_ten_levels_are_allowed),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_byte_order_mark_is_an_error),
		cmocka_unit_test(test_refused_item_ends_the_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
