#include "auth/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static bool matches(const char *text, const char *subject)
{
	struct pattern *p = NULL;
	char err[256] = "";
	bool yes;

	if (pattern_new(text, &p, err, sizeof(err)) < 0)
		fail_msg("%s: %s", text, err);
	yes = pattern_matches(p, subject, NULL);
	pattern_free(&p);
	assert_null(p);
	return yes;
}

static void check_refused(const char *text, const char *why)
{
	struct pattern *p = NULL;
	char err[256] = "";

	if (pattern_new(text, &p, err, sizeof(err)) == 0)
		fail_msg("%s was taken", text);
	assert_null(p);
	if (strstr(err, why) == NULL)
		fail_msg("%s: %s, not %s", text, err, why);
}

static void test_matches_anywhere_unless_anchored(void **state)
{
	assert_true(matches("b", "abc"));
	assert_false(matches("^b", "abc"));
	assert_true(matches("^a.c$", "abc"));
	assert_true(matches("^(a|bc)+$", "abca"));
	assert_false(matches("^(a|bc)+$", "abcb"));
	assert_true(matches("^a{2,3}$", "aaa"));
	assert_false(matches("^a{2,3}$", "aaaa"));
	assert_true(matches("^[]a-c]+$", "]b"));
	assert_true(matches("^[[:digit:]]+$", "12"));
	assert_false(matches("A", "a"));
}

static void test_escapes_mean_what_they_do_in_postgresql(void **state)
{
	assert_true(matches("^app\\d+$", "app12"));
	assert_false(matches("^app\\d+$", "appd"));
	assert_true(matches("^\\D$", "d"));
	assert_false(matches("^\\D$", "1"));
	assert_true(matches("^a\\.b$", "a.b"));
	assert_false(matches("^a\\.b$", "axb"));
	assert_true(matches("^\\w\\s\\W\\S$", "a -b"));
	assert_true(matches("^\\<a\\>\\'\\`$", "<a>'`"));
	assert_true(matches("^a\\{2\\}\\\\$", "a{2}\\"));
}

static void test_refuses_what_differs(void **state)
{
	check_refused("", "empty");
	check_refused("(a)\\1", "backslash");
	check_refused("\\mword", "backslash");
	check_refused("\\bword", "backslash");
	check_refused("a\\", "backslash at the end");
	check_refused("[\\d]", "backslash in brackets");
	check_refused("[a", "without its ]");
	check_refused("[[:alpha]", "without its :]");
	check_refused("[[:nope:]]", "");
	check_refused("[[=a=]]", "[=");
	check_refused("(?i)a", "(?");
	check_refused("a*?", "quantifier");
	check_refused("a+?", "quantifier");
	check_refused("a{2}?", "quantifier");
	check_refused("*a", "nothing that it could repeat");
	check_refused("^*a", "nothing that it could repeat");
	check_refused("a**", "nothing that it could repeat");
	check_refused("***=a", "nothing that it could repeat");
	check_refused("(+a)", "nothing that it could repeat");
	check_refused("a|", "empty alternative");
	check_refused("|a", "empty alternative");
	check_refused("(|a)", "empty alternative");
	check_refused("(a||b)", "empty alternative");
	check_refused("()", "empty");
	check_refused("(a", "");
	check_refused("a)", "");
	check_refused("a{x}", "{");
	check_refused("a{,2}", "{");
	check_refused("a{3,2}", "{");
	check_refused("[b-a]", "");
}

static void test_refuses_what_is_expensive(void **state)
{
	char text[PATTERN_MAX + 2];

	memset(text, 'a', sizeof(text));
	text[PATTERN_MAX + 1] = '\0';
	check_refused(text, "too long");
	text[PATTERN_MAX] = '\0';
	assert_false(matches(text, "a"));
	check_refused("a{1001}", "too often");
	check_refused("(a{100}){100}", "too often");
	check_refused("a{99999999999999999999}", "too often");
	memset(text, '(', 21);
	text[21] = '\0';
	check_refused(text, "too many parentheses");
	assert_true(matches("^(a{10}){100}$|b", "b"));
}

static void test_first_parentheses(void **state)
{
	struct pattern *p = NULL;
	struct slice group;
	char err[256];

	assert_int_equal(pattern_new("^(x)?(.*)@e$", &p, err, sizeof(err)), 0);
	assert_true(pattern_has_group(p));
	assert_true(pattern_matches(p, "xjoe@e", &group));
	assert_true(slice_eq_str(group, "x"));
	assert_true(pattern_matches(p, "joe@e", &group));
	assert_null(group.p);
	pattern_free(&p);
	assert_int_equal(pattern_new("^(.*)@e$", &p, err, sizeof(err)), 0);
	assert_true(pattern_matches(p, "@e", &group));
	assert_non_null(group.p);
	assert_int_equal(group.n, 0);
	pattern_free(&p);
	assert_int_equal(pattern_new("a", &p, err, sizeof(err)), 0);
	assert_false(pattern_has_group(p));
	assert_true(pattern_matches(p, "a", &group));
	assert_null(group.p);
	pattern_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches_anywhere_unless_anchored),
		cmocka_unit_test(test_escapes_mean_what_they_do_in_postgresql),
		cmocka_unit_test(test_refuses_what_differs),
		cmocka_unit_test(test_refuses_what_is_expensive),
		cmocka_unit_test(test_first_parentheses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
