/* Connect strings: what is a pair, what is an error, and the odd corners that files rely on. */
#include "conf/connstr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Reads all pairs into "[key=value][key=value]", followed by the final return code. */
static void check(const char *text, const char *expected)
{
	char got[512] = "";
	struct connstr cs;
	struct slice key;
	const char *value;
	int rc;

	connstr_init(&cs, text);
	while ((rc = connstr_next(&cs, &key, &value)) == 1)
		assert_true(str_append(got, sizeof(got), "[%.*s=%s]", (int)key.n, key.p, value));
	assert_true(str_append(got, sizeof(got), "%s", rc == 0 ? "" : rc == -E_SYNTAX ? "!" : "?"));
	connstr_fini(&cs);
	assert_string_equal(got, expected);
}

static void test_plain(void **state)
{
	check("", "");
	check("    ", "");
	check("host=a", "[host=a]");
	check("host=a port=5432  user=u ", "[host=a][port=5432][user=u]");
	check("  host = a   port  =1", "[host=a][port=1]");
	check("a=1 a=2", "[a=1][a=2]");
	check("a=b=c", "[a=b=c]");
}

static void test_quotes(void **state)
{
	check("q='select 1 ; select 2'", "[q=select 1 ; select 2]");
	check("q='it''s' p=1", "[q=it's][p=1]");
	check("q='a'' b'", "[q=a' b]");
	check("q=''''", "[q=']");
	check("q=a'b c='d", "[q=a'b]!");
	check("q=a'b'", "[q=a'b']");
	check("q='a\\' p=1", "[q=a\\][p=1]");
}

static void test_character_after_quote_is_swallowed(void **state)
{
	check("a='1'xb=2", "[a=1][b=2]");
	check("a='1' b=2", "[a=1][b=2]");
	check("a='1'x", "[a=1]");
	check("a='1'=2", "[a=1]!");
}

static void test_tab_is_no_separator(void **state)
{
	check("dbname=aa\tport=1", "[dbname=aa\tport=1]");
	check("\tdbname=a", "[\tdbname=a]");
}

static void test_errors(void **state)
{
	check("host", "!");
	check("host a=1", "!");
	check("=1", "!");
	check("host=", "!");
	check("host= ", "!");
	check("host=''", "!");
	check("host='a", "!");
	check("a=1 host=", "[a=1]!");
	check("host=a x", "[host=a]!");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_character_after_quote_is_swallowed),
		cmocka_unit_test(test_tab_is_no_separator),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
