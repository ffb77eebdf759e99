/* Every row of a table has a text, and the manual pages say what the tables say. */
#include "core/base.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "admin/command.h"
#include "admin/show.h"
#include "conf/conf_int.h"
#include "core/alloc.h"
#include "doc/manpage.h"
#include "main_options.h"
#include "pool/stats.h"

static FILE *open_source(const char *name)
{
	const char *srcdir = getenv("srcdir");
	char path[512];
	FILE *in;

	str_format(path, sizeof(path), "%s/%s", srcdir != NULL ? srcdir : ".", name);
	in = fopen(path, "r");
	if (in == NULL)
		fail_msg("cannot open %s", path);
	return in;
}

/* A page as the template and the tables make it; NULL when they do not fit. */
static char *print_page(FILE *from)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	bool ok;

	assert_non_null(out);
	ok = manpage_print(from, out);
	assert_int_equal(fclose(from), 0);
	assert_int_equal(fclose(out), 0);
	if (!ok) {
		free(text);
		text = NULL;
	}
	return text;
}

static char *print_template(const char *text)
{
	FILE *from = tmpfile();

	assert_non_null(from);
	assert_true(fputs(text, from) >= 0);
	rewind(from);
	return print_page(from);
}

static void assert_is_fresh(const char *page, const char *template)
{
	char *text = print_page(open_source(template));
	char *there = xcalloc(1, 1 << 20);
	FILE *in = open_source(page);

	assert_non_null(text);
	assert_true(fread(there, 1, (1 << 20) - 1, in) > 0);
	assert_int_equal(fclose(in), 0);
	if (strcmp(text, there) != 0)
		fail_msg("%s is not what %s and the tables say; run make update-doc", page, template);
	free(there);
	free(text);
}

static void test_pages_are_fresh(void **state UNUSED)
{
	assert_is_fresh("doc/pgsluice.1", "doc/pgsluice.1.in");
	assert_is_fresh("doc/pgsluice.5", "doc/pgsluice.5.in");
}

/* A sentence; `of` and `name` are for the message. */
static void assert_tells(const char *text, const char *of, const char *name)
{
	if (text == NULL || text[0] < '0' || text[0] > 'Z' || text[strlen(text) - 1] != '.')
		fail_msg("%s %s has no text that begins like a sentence and ends with a period", of, name);
}

/* Part of a sentence. */
static void assert_names(const char *text, const char *of, const char *name)
{
	if (text == NULL || text[0] == '\0' || text[strlen(text) - 1] == '.')
		fail_msg("%s %s has no text, or a period behind it", of, name);
}

static void assert_table_tells(const struct show_table *table)
{
	assert_tells(table->help, "SHOW", table->name);
	for (size_t i = 0; i < table->column_count; i++)
		assert_names(table->columns[i].help, table->name, table->columns[i].name);
}

static void test_every_row_has_a_text(void **state UNUSED)
{
	for (size_t i = 0; command_at(i) != NULL; i++)
		assert_tells(command_at(i)->about, "the command", command_at(i)->name);
	for (size_t i = 0; show_at(i) != NULL; i++)
		assert_table_tells(show_at(i));
	assert_table_tells(&ctl_reload_changes);
	for (size_t id = 0; id < CONF_ID_COUNT; id++)
		assert_tells(conf_rows[id].help, "the setting", conf_rows[id].name);
	for (int kind = 0; kind < CONF_ENTRY_KIND_COUNT; kind++)
		for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++)
			assert_tells(key->help, conf_entry_classes[kind].section, key->name);
#define X(name, letter, kind, arg, help, about) \
	assert_names(help, "the option", name); \
	assert_tells(about, "the option", name);
	MAIN_OPTIONS(X)
#undef X
#define X(id, per, help) assert_names(help, "the counter", #id);
	STATS_TABLE(X)
#undef X
}

static void test_template_without_parts(void **state UNUSED)
{
	char *text = print_template(".Sh NAME\nx@y\n");

	assert_non_null(text);
	assert_non_null(strstr(text, "\n.Sh NAME\nx@y\n"));
	free(text);
}

static void test_template_with_unknown_part(void **state UNUSED)
{
	assert_null(print_template("@NOTHING@\n"));
	assert_null(print_template("@OPTION@\n"));
}

static void test_parts(void **state UNUSED)
{
	char *text = print_template("@OPTIONS@\n@COMMANDS@\n@SHOW@\n@SETTINGS@\n");

	assert_non_null(text);
	assert_non_null(strstr(text, "\n.It Fl u Ar NAME , Fl Fl user Ns = Ns Ar NAME\n"));
	assert_non_null(strstr(text, "\n.It Fl Fl diff Ns Oo = Ns Ar OLD Oc\n"));
	assert_null(strstr(text, "Fl c "));
	assert_non_null(strstr(text, "\n.It Ic PAUSE Op Ar db\n"));
	assert_non_null(strstr(text, "\n.It Ic DISABLE Ar db\n"));
	assert_non_null(strstr(text, "\n.It Ic RELOAD Op Ic DRY RUN\n"));
	assert_non_null(strstr(text, "\n.It Ic SHUTDOWN\n.It Ic SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS\n"));
	assert_non_null(strstr(text, "\nThe columns are those of\n.Ic SHOW CLIENTS under\n.Bq pgbouncer .\n"));
	assert_non_null(strstr(text, "\n.Pp\nUnder\n.Bq pgsluice\nalso:\n.Pp\n"));
	assert_non_null(strstr(text, "\n.br\nOne of session, transaction, statement; default: session under "
				     "[pgbouncer],\ntransaction under [pgsluice]; reload.\n"));
	free(text);
}

/* What would look like a request of the formatter, and where lines end. */
static void test_lines(void **state UNUSED)
{
	char *text = print_template("@SETTINGS@\n@OPTIONS@\n@SHOW@\n");

	for (char *line = text; *line != '\0';) {
		size_t n = strcspn(line, "\n");

		assert_int_equal(line[n], '\n');
		line[n] = '\0';
		assert_true(n <= 80);
		assert_true(line[0] != '\'' && line[0] != ' ');
		if (line[0] != '.')
			assert_null(strstr(line, ". "));
		line += n + 1;
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_are_fresh),
		cmocka_unit_test(test_every_row_has_a_text),
		cmocka_unit_test(test_template_without_parts),
		cmocka_unit_test(test_template_with_unknown_part),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
