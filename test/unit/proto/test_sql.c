#include "proto/sql.h"

#include "proto_test.h"

struct sql_case {
	const char *text;
	enum sql_form form;
	const char *cmd, *arg, *value;
};

static const struct sql_case sql_good[] = {
	{ "SHOW", SQL_CMD, "SHOW", "", "" },
	{ "show;", SQL_CMD, "show", "", "" },
	{ " \t\r\nRELOAD \n ; \n", SQL_CMD, "RELOAD", "", "" },
	{ "SHOW lists", SQL_CMD_ARG, "SHOW", "lists", "" },
	{ "Select Stats_2 ;", SQL_CMD_ARG, "Select", "Stats_2", "" },
	{ "PAUSE \"my-db\"", SQL_CMD_ARG, "PAUSE", "my-db", "" },
	{ "PAUSE \"a\"\"b;--\"", SQL_CMD_ARG, "PAUSE", "a\"b;--", "" },
	{ "PAUSE \"\"", SQL_CMD_ARG, "PAUSE", "", "" },
	{ "PAUSE \"\"\"\"", SQL_CMD_ARG, "PAUSE", "\"", "" },
	{ "\"show\" 1", SQL_CMD_ARG, "show", "1", "" },
	{ "set x", SQL_CMD_ARG, "set", "x", "" },
	{ " reload  Dry\tRUN ; ", SQL_DRY_RUN, "reload", "Dry", "" },
	{ "DRAIN WITHIN 5", SQL_WITHIN, "DRAIN", "", "5" },
	{ "drain within within 5;", SQL_WITHIN, "drain", "within", "5" },
	{ "DRAIN \"within\" within 5 ; ", SQL_WITHIN, "DRAIN", "within", "5" },
	{ " shutdown drain\twithin\n10", SQL_WITHIN, "shutdown", "drain", "10" },
	{ "DRAIN within", SQL_CMD_ARG, "DRAIN", "within", "" },
	{ "SET within = 5", SQL_SET, "SET", "within", "5" },
	{ "RELOAD DRY", SQL_CMD_ARG, "RELOAD", "DRY", "" },
	{ "SET dry = run", SQL_SET, "SET", "dry", "run" },
	{ "SET x=5", SQL_SET, "SET", "x", "5" },
	{ "set x = word ;", SQL_SET, "set", "x", "word" },
	{ "set x TO word", SQL_SET, "set", "x", "word" },
	{ "set x to'a''b c;'", SQL_SET, "set", "x", "a'b c;" },
	{ "set x='\"'", SQL_SET, "set", "x", "\"" },
	{ "set \"x\"to\"it's\"", SQL_SET, "set", "x", "it's" },
	{ "set x = ''", SQL_SET, "set", "x", "" },
	{ "set to to to", SQL_SET, "set", "to", "to" },
	{ "set x = '''';", SQL_SET, "set", "x", "'" },
	{ "BREAKER OPEN db1.example:5432", SQL_PLACE, "BREAKER", "OPEN", "db1.example:5432" },
	{ "breaker reset [::1]:5432 ;", SQL_PLACE, "breaker", "reset", "[::1]:5432" },
	{ "BREAKER CLOSE /tmp:5432;", SQL_PLACE, "BREAKER", "CLOSE", "/tmp:5432" },
	{ "BREAKER CLOSE \"a;b\"", SQL_PLACE, "BREAKER", "CLOSE", "a;b" },
	{ "BREAKER CLOSE 'a b' ;", SQL_PLACE, "BREAKER", "CLOSE", "a b" },
	{ "BREAKER OPEN", SQL_CMD_ARG, "BREAKER", "OPEN", "" },
};

static void forms_are_recognised(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sql_good); i++) {
		const struct sql_case *c = &sql_good[i];
		struct sql_cmd cmd;

		assert_int_equal(sql_parse(slice_of(c->text), &cmd), 0);
		assert_int_equal(cmd.form, c->form);
		assert_string_equal(cmd.cmd, c->cmd);
		assert_string_equal(cmd.arg, c->arg);
		assert_string_equal(cmd.value, c->value);
	}
}

static const char *const sql_bad[] = {
	"",
	" ",
	";",
	"SHOW;;",
	"SHOW; SHOW",
	"SHOW a b",
	"DRAIN a WITHIN",
	"DRAIN a WITHIN 5 5",
	"DRAIN a WITHIN5",
	"DRAIN a \"WITHIN\" 5",
	"DRAIN a b WITHIN 5",
	"DRAIN WITHIN a 5",
	"DRAIN a WITHIN '5'",
	"DRAIN a WITHIN 5; x",
	"RELOAD DRY RUNS",
	"RELOAD DRY RUN RUN",
	"RELOAD \"DRY\" RUN",
	"SHOW a b c",
	"SHOW a.b",
	"SHOW 'a'",
	"SHOW \"a",
	"SHOW \"a\"\"",
	"SHOW\"a\"",
	"SHOW \"a\"b",
	"-- x",
	"SHOW /* x */ a",
	"'SHOW'",
	"set x 5",
	"set x =",
	"set x = ;",
	"set = 5",
	"set x == 5",
	"set x ; = 5",
	"set x to5",
	"set x \"to\" 5",
	"set x = a b",
	"set x = a-b",
	"set x = 'a",
	"set x = 'a'b'",
	"set x = 'a''",
	"set 'x' = a",
	"\"set\" x = 5",
	"show x = 5",
	"set x = 5 6",
	"setx = 5",
	"BREAKER OPEN a b",
	"BREAKER OPEN a'b'",
	"BREAKER OPEN \"a",
	"BREAKER OPEN ;;",
	"PAUSE OPEN a:1",
	"SHOW\vx",
	"SHOW \xc3\xa4",
};

static void anything_else_is_a_syntax_error(void **state)
{
	struct sql_cmd cmd;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sql_bad); i++)
		assert_int_equal(sql_parse(slice_of(sql_bad[i]), &cmd), -E_SYNTAX);
	assert_int_equal(sql_parse(slice_make(NULL, 0), &cmd), -E_SYNTAX);
	assert_int_equal(sql_parse(LIT("SHOW\0"), &cmd), -E_SYNTAX);
}

/* Text with `n` times c in the place of %s. */
static int sql_parse_with(const char *before, char c, size_t n, const char *after, struct sql_cmd *cmd)
{
	char text[1024];

	assert_true(str_copy(text, sizeof(text), before));
	for (size_t i = 0; i < n; i++)
		assert_true(str_append(text, sizeof(text), "%c", c));
	assert_true(str_append(text, sizeof(text), "%s", after));
	return sql_parse(slice_of(text), cmd);
}

static void parts_have_sizes(void **state)
{
	struct sql_cmd cmd;

	(void)state;
	assert_int_equal(sql_parse_with("", 'a', 15, "", &cmd), 0);
	assert_int_equal(strlen(cmd.cmd), 15);
	assert_int_equal(sql_parse_with("", 'a', 16, "", &cmd), -E_TOOBIG);
	assert_int_equal(sql_parse_with("show ", 'a', 63, "", &cmd), 0);
	assert_int_equal(strlen(cmd.arg), 63);
	assert_int_equal(sql_parse_with("show ", 'a', 64, "", &cmd), -E_TOOBIG);
	assert_int_equal(sql_parse_with("set x=", 'a', 255, "", &cmd), 0);
	assert_int_equal(strlen(cmd.value), 255);
	assert_int_equal(sql_parse_with("set x=", 'a', 256, "", &cmd), -E_TOOBIG);
}

static void quotes_count_for_the_size(void **state)
{
	struct sql_cmd cmd;

	(void)state;
	assert_int_equal(sql_parse_with("show \"", 'a', 61, "\"", &cmd), 0);
	assert_int_equal(strlen(cmd.arg), 61);
	assert_int_equal(sql_parse_with("show \"", 'a', 62, "\"", &cmd), -E_TOOBIG);
	assert_int_equal(sql_parse_with("show \"", '"', 60, "\"", &cmd), 0);
	assert_int_equal(strlen(cmd.arg), 30);
	assert_int_equal(sql_parse_with("set x='", 'a', 253, "'", &cmd), 0);
	assert_int_equal(sql_parse_with("set x='", 'a', 254, "'", &cmd), -E_TOOBIG);
}

/* A wrong form is told as such even when a part is also too long. */
static void syntax_comes_before_size(void **state)
{
	struct sql_cmd cmd;

	(void)state;
	assert_int_equal(sql_parse_with("show ", 'a', 64, " x", &cmd), -E_SYNTAX);
	assert_int_equal(sql_parse_with("", 'a', 500, " x y", &cmd), -E_SYNTAX);
}

static void every_truncation_is_read_within_bounds(void **state)
{
	const struct slice whole = LIT(" set \"a\"\"b\" to 'c''d' ; ");

	(void)state;
	for (size_t n = 0; n <= whole.n; n++) {
		struct slice part = exact_copy(slice_make(whole.p, n));
		struct sql_cmd cmd;
		int err = sql_parse(part, &cmd);

		/* A beginning of "set", set "a", set "a""b", and from there on the values 'c' and 'c''d'. */
		assert_int_equal(err == 0, (n >= 2 && n <= 5) || n == 8 || n == 11 || n == 12 || n == 18 || n >= 21);
		free((void *)(uintptr_t)part.p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_are_recognised),     cmocka_unit_test(anything_else_is_a_syntax_error),
		cmocka_unit_test(parts_have_sizes),         cmocka_unit_test(quotes_count_for_the_size),
		cmocka_unit_test(syntax_comes_before_size), cmocka_unit_test(every_truncation_is_read_within_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
