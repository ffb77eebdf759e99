#include "auth/ident.h"

#include "rules_test.h"

static struct ident *load(const char *text)
{
	const struct rules_file files[] = { { "ident", text, 0 }, { 0 } };
	struct rulefile_io io = rules_io(files);
	struct rule_report report = rules_report(true);
	struct ident *ident = NULL;

	if (ident_load(&io, "ident", &report, &ident) != 0)
		fail_msg("%s", rules_said);
	assert_string_equal(rules_said, "");
	return ident;
}

/* Everybody is in "readers", nobody in "none"; it is not known who is in "later", and never will be in "lost". */
static enum rule_answer ask_group(void *ctx, const char *group)
{
	(void)ctx;
	return strcmp(group, "readers") == 0 ? RULE_YES
	       : strcmp(group, "later") == 0 ? RULE_UNKNOWN
	       : strcmp(group, "lost") == 0  ? RULE_FAILED
					     : RULE_NO;
}

static enum rule_answer ask(const char *text, const char *name, const char *user)
{
	struct ident *ident = load(text);
	struct ident_question q = { .map = "m", .name = name, .user = user, .ask = ask_group };
	enum rule_answer answer = ident_matches(ident, &q);

	ident_release(&ident);
	assert_null(ident);
	return answer;
}

static void test_plain_names(void **state)
{
	assert_int_equal(ask("", "joe", "joe"), RULE_NO);
	assert_int_equal(ask("m joe app", "joe", "app"), RULE_YES);
	assert_int_equal(ask("m joe app", "joe", "joe"), RULE_NO);
	assert_int_equal(ask("m joe app", "Joe", "app"), RULE_NO);
	assert_int_equal(ask("m joe app", "jo", "app"), RULE_NO);
	assert_int_equal(ask("other joe app", "joe", "app"), RULE_NO);
	assert_int_equal(ask("m x y\n# no\nm joe app\n", "joe", "app"), RULE_YES);
	assert_int_equal(ask("m \"joe b\" \"my app\"", "joe b", "my app"), RULE_YES);
}

static void test_all_and_groups(void **state)
{
	assert_int_equal(ask("m joe all", "joe", "anybody"), RULE_YES);
	assert_int_equal(ask("m joe all", "sue", "anybody"), RULE_NO);
	assert_int_equal(ask("m joe \"all\"", "joe", "anybody"), RULE_NO);
	assert_int_equal(ask("m joe \"all\"", "joe", "all"), RULE_YES);
	assert_int_equal(ask("m joe +readers", "joe", "app"), RULE_YES);
	assert_int_equal(ask("m joe +none", "joe", "app"), RULE_NO);
	assert_int_equal(ask("m joe +none", "joe", "none"), RULE_YES);
	assert_int_equal(ask("m joe \"+readers\"", "joe", "app"), RULE_NO);
	assert_int_equal(ask("m joe +later", "joe", "app"), RULE_UNKNOWN);
	assert_int_equal(ask("m joe +later\nm joe app", "joe", "app"), RULE_YES);
	assert_int_equal(ask("m joe +lost\nm joe +later", "joe", "app"), RULE_UNKNOWN);
	assert_int_equal(ask("m joe +later\nm joe +lost", "joe", "app"), RULE_UNKNOWN);
	assert_int_equal(ask("m joe +lost\nm joe x", "joe", "app"), RULE_FAILED);
	assert_int_equal(ask("m sue +later", "joe", "app"), RULE_NO);
}

static void test_expressions(void **state)
{
	static const char domain[] = "m /^(.*)@example\\.com$ \\1\nm /^(a)b$ x\\1y\\1";

	assert_int_equal(ask(domain, "joe@example.com", "joe"), RULE_YES);
	assert_int_equal(ask(domain, "joe@example.com", "sue"), RULE_NO);
	assert_int_equal(ask(domain, "joe@example.org", "joe"), RULE_NO);
	assert_int_equal(ask(domain, "ab", "xay\\1"), RULE_YES);
	assert_int_equal(ask("m /^x(a)?$ \\1", "x", ""), RULE_NO);
	assert_int_equal(ask("m /^jo all", "joe", "app"), RULE_YES);
	assert_int_equal(ask("m joe /^app\\d$", "joe", "app1"), RULE_YES);
	assert_int_equal(ask("m joe /^app\\d$", "joe", "appd"), RULE_NO);
	assert_int_equal(ask("m joe \\1", "joe", "\\1"), RULE_YES);
	assert_int_equal(ask("m \"/^a, b$\" app", "a, b", "app"), RULE_YES);
}

static void test_what_parentheses_matched_is_a_plain_name(void **state)
{
	assert_int_equal(ask("m /^(.*)$ \\1", "all", "joe"), RULE_NO);
	assert_int_equal(ask("m /^(.*)$ \\1", "all", "all"), RULE_YES);
	assert_int_equal(ask("m /^(.*)$ \\1", "+readers", "joe"), RULE_NO);
	assert_int_equal(ask("m /^(.*)$ \\1", "/j", "joe"), RULE_NO);
}

static void test_a_name_that_is_too_long(void **state)
{
	char name[301];
	char user[128];

	memset(name, 'a', 300);
	name[300] = '\0';
	memset(user, 'a', 127);
	user[127] = '\0';
	assert_int_equal(ask("m /^(.*)$ \\1", name, user), RULE_NO);
	name[127] = '\0';
	assert_int_equal(ask("m /^(.*)$ \\1", name, user), RULE_YES);
}

static void test_case_of_names(void **state)
{
	struct ident *ident = load("m Joe app\nm /^sue$ app");
	struct ident_question q = { .map = "m", .name = "jOE", .ignore_case = true, .user = "app", .ask = ask_group };

	assert_int_equal(ident_matches(ident, &q), RULE_YES);
	q.name = "Sue";
	assert_int_equal(ident_matches(ident, &q), RULE_NO);
	q.name = "Joe";
	q.user = "App";
	assert_int_equal(ident_matches(ident, &q), RULE_NO);
	ident_release(&ident);
}

static void check_fault(const char *line, const char *fault)
{
	char text[256];
	const struct rules_file files[] = { { "d/ident", text, 0 }, { 0 } };
	struct rulefile_io io = rules_io(files);
	struct rule_report report = rules_report(true);
	struct ident *ident = NULL;

	str_format(text, sizeof(text), "m a b\n%s\nm c d\n", line);
	assert_int_equal(ident_load(&io, "d/ident", &report, &ident), -E_SYNTAX);
	assert_null(ident);
	rules_check_said("E could not parse ident config line 2 of d/ident: ");
	rules_check_said(fault);
	report = rules_report(false);
	assert_int_equal(ident_load(&io, "d/ident", &report, &ident), 0);
	rules_check_said("W could not parse ident config line 2 of d/ident: ");
	assert_true(ident_matches(ident, &(struct ident_question){
						 .map = "m", .name = "a", .user = "b", .ask = ask_group }) == RULE_YES);
	assert_true(ident_matches(ident, &(struct ident_question){
						 .map = "m", .name = "c", .user = "d", .ask = ask_group }) == RULE_YES);
	ident_release(&ident);
}

static void test_faults(void **state)
{
	check_fault("m x", "2 fields instead of three (map name-elsewhere user)");
	check_fault("m x y z", "4 fields");
	check_fault("m x,y z", "a list of names");
	check_fault("m x \"\"", "an empty name");
	check_fault("m x \"y", "a quote is not closed");
	check_fault("m /[ y", "bad regular expression \"/[\"");
	check_fault("m x /[", "bad regular expression \"/[\"");
	check_fault("m /(x) /[", "bad regular expression \"/[\"");
	check_fault("m /x \\1", "\\1 without parentheses");
	check_fault("m x +", "no name of a group");
	check_fault("include nothing", "could not read the file \"d/nothing\"");
}

static void test_files(void **state)
{
	const struct rules_file files[] = { { "a", "include b\n", 0 }, { "b", "m joe app\n", 0 }, { 0 } };
	struct rulefile_io io = rules_io(files);
	struct rule_report report = rules_report(false);
	struct ident *ident = NULL;
	struct ident *same;
	struct ident *empty = NULL;

	assert_int_equal(ident_load(&io, "a", &report, &ident), 0);
	assert_true(ident_has_map(ident, "m"));
	assert_false(ident_has_map(ident, "n"));
	same = load("m joe app");
	assert_true(ident_is_equal(ident, same));
	ident_release(&same);
	same = load("m joe app2");
	assert_false(ident_is_equal(ident, same));
	ident_release(&same);
	assert_int_equal(ident_load(&io, "c", &report, &empty), -E_SYS);
	assert_null(empty);
	rules_check_said("E could not open ident config file c: No such file or directory");
	assert_int_equal(ident_load(&io, "", &report, &empty), 0);
	assert_false(ident_has_map(empty, "m"));
	ident_release(&empty);
	same = ident_hold(ident);
	ident_release(&ident);
	assert_true(ident_has_map(same, "m"));
	ident_release(&same);
	ident_release(&same);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_names),
		cmocka_unit_test(test_all_and_groups),
		cmocka_unit_test(test_expressions),
		cmocka_unit_test(test_what_parentheses_matched_is_a_plain_name),
		cmocka_unit_test(test_a_name_that_is_too_long),
		cmocka_unit_test(test_case_of_names),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
