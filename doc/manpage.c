/*
 * Parts of the manual pages that are made from tables: options, commands,
 * SHOW, settings, keys. All that is written here is in the macros of mdoc.
 *
 * Texts of the tables are plain English. They are filled to lines, and each
 * sentence begins a new one, as the macros want it for their spacing.
 */
#include "doc/manpage.h"

#include <ctype.h>

#include "admin/command.h"
#include "admin/show.h"
#include "conf/conf_int.h"
#include "main_options.h"

#define MANPAGE_COLUMNS  78
/* A name of a column that is longer stands on a line of its own. */
#define MANPAGE_TAG_MAX  22
#define MANPAGE_LINE_MAX 1024

/* A table that begins with so many columns of another one refers to that one. */
#define MANPAGE_SAME_MIN 5

/* ---- text ---- */

static void manpage_put_word(FILE *out, const char *word, size_t n)
{
	if (n > 0 && (word[0] == '.' || word[0] == '\''))
		fputs("\\&", out);
	for (size_t i = 0; i < n; i++) {
		if (word[i] == '\\')
			fputs("\\e", out);
		else if (word[i] == '(' && i + 1 < n && word[i + 1] == ')')
			fputs("(\\&", out); /* no function of C */
		else
			fputc(word[i], out);
	}
}

/* Sentences, as lines of their own. */
static void manpage_put_text(FILE *out, const char *text)
{
	size_t column = 0;

	while (*text != '\0') {
		size_t n = strcspn(text, " ");

		if (column > 0 && column + 1 + n > MANPAGE_COLUMNS) {
			fputc('\n', out);
			column = 0;
		}
		if (column > 0)
			fputc(' ', out);
		manpage_put_word(out, text, n);
		column += n + 1;
		if (text[n - 1] == '.') {
			fputc('\n', out);
			column = 0;
		}
		text += n;
		text += strspn(text, " ");
	}
	if (column > 0)
		fputc('\n', out);
}

/* ---- options ---- */

static void manpage_print_options(FILE *out)
{
	static const struct {
		const char *name;
		char letter;
		bool is_optional;
		const char *arg;
		const char *about;
	} rows[] = {
#define X(name, letter, kind, arg, help, about) { name, letter, #kind[0] == 'o', arg, about },
		MAIN_OPTIONS(X)
#undef X
	};

	fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		fputs(".It ", out);
		if (strchr(MAIN_LETTERS, rows[i].letter) != NULL)
			fprintf(out, "Fl %c%s%s , ", rows[i].letter, rows[i].arg != NULL ? " Ar " : "",
				rows[i].arg != NULL ? rows[i].arg : "");
		fprintf(out, "Fl Fl %s", rows[i].name);
		if (rows[i].is_optional)
			fprintf(out, " Ns Oo = Ns Ar %s Oc", rows[i].arg);
		else if (rows[i].arg != NULL)
			fprintf(out, " Ns = Ns Ar %s", rows[i].arg);
		fputc('\n', out);
		manpage_put_text(out, rows[i].about);
	}
	fputs(".El\n", out);
}

/* ---- commands ---- */

/* One form of a command, as SHOW HELP has it: words, <argument>, [<optional>]. */
static void manpage_put_form(FILE *out, const char *form, size_t len)
{
	const char *end = form + len;

	fputs(".It Ic", out);
	while (form < end) {
		size_t n = strcspn(form, " \n\t");

		if (form[0] == '[')
			fprintf(out, " Op Ar %.*s", (int)n - 4, form + 2);
		else if (form[0] == '<')
			fprintf(out, " Ar %.*s", (int)n - 2, form + 1);
		else
			fprintf(out, " %.*s", (int)n, form);
		form += n;
		form += strspn(form, " ");
		if (*form == '\n' || *form == '\t')
			break;
	}
}

static void manpage_put_command(FILE *out, const struct command *command)
{
	const char *form = command->help;

	if (form == NULL) {
		fprintf(out, ".It Ic %s Ar table\n", command->name);
		manpage_put_text(out, command->about);
		return;
	}
	while (*form != '\0') {
		size_t n = strcspn(form, "\n");

		manpage_put_form(out, form, n);
		fputs(command->arg == COMMAND_ARG_DRY_RUN ? " Op Ic DRY RUN\n" : "\n", out);
		form += n;
		form += strspn(form, "\n\t");
	}
	manpage_put_text(out, command->about);
}

static void manpage_print_commands(FILE *out)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; command_at(i) != NULL; i++)
		manpage_put_command(out, command_at(i));
	fputs(".El\n", out);
}

/* ---- SHOW ---- */

/* How many columns the one table shares with the beginning of the other, whole but for what only [pgsluice] shows of
 * it. */
static size_t manpage_same_columns(const struct show_table *table, const struct show_table *other)
{
	size_t n = show_column_count(other, CONF_PROFILE_PGBOUNCER);

	if (n < MANPAGE_SAME_MIN || n > table->column_count)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (strcmp(table->columns[i].name, other->columns[i].name) != 0 ||
		    strcmp(table->columns[i].help, other->columns[i].help) != 0)
			return 0;
	return n;
}

/* Keeps a mark at the end of a name from being taken for the end of a sentence. */
static const char *manpage_guard(const char *name)
{
	return ispunct((unsigned char)name[strlen(name) - 1]) ? "\\&" : "";
}

/* From one column up to another one, which is left out. */
static void manpage_put_columns(FILE *out, const struct show_table *table, size_t from, size_t end)
{
	size_t width = 0;

	if (from >= end)
		return;
	for (size_t i = from; i < end; i++)
		if (strlen(table->columns[i].name) > width)
			width = strlen(table->columns[i].name);
	if (width > MANPAGE_TAG_MAX)
		width = MANPAGE_TAG_MAX;
	fprintf(out, ".Pp\n.Bl -tag -width %zun -compact\n", width);
	for (size_t i = from; i < end; i++) {
		fprintf(out, ".It Va %s%s\n", table->columns[i].name, manpage_guard(table->columns[i].name));
		manpage_put_text(out, table->columns[i].help);
	}
	fputs(".El\n", out);
}

static void manpage_put_table(FILE *out, const struct show_table *table)
{
	size_t plain = show_column_count(table, CONF_PROFILE_PGBOUNCER);
	const struct show_table *like = NULL;
	size_t same = 0;

	for (size_t i = 0; show_at(i) != NULL && show_at(i) != table; i++) {
		size_t n = manpage_same_columns(table, show_at(i));

		if (n > same) {
			same = n;
			like = show_at(i);
		}
	}
	manpage_put_text(out, table->help);
	if (table->right == COMMAND_FOR_ADMIN)
		fputs("For\n.Cm admin_users\nonly.\n", out);
	if (same > 0)
		fprintf(out, "The columns are those of\n.Ic SHOW %s%s%s\n", like->name,
			like->own_count > 0 ? " under\n.Bq pgbouncer" : "", same < plain ? " ,\nand then:" : " .");
	manpage_put_columns(out, table, same, plain);
	if (table->own_count > 0)
		fputs(".Pp\nUnder\n.Bq pgsluice\nalso:\n", out);
	manpage_put_columns(out, table, plain, table->column_count);
}

/* Variables that mean nothing, all in one. */
static void manpage_put_fakes(FILE *out)
{
	for (size_t i = 0; show_at(i) != NULL; i++)
		if (show_is_fake_variable(show_at(i)->name))
			fprintf(out, ".It Ic SHOW %s\n", show_at(i)->name);
	for (size_t i = 0; show_at(i) != NULL; i++) {
		if (show_is_fake_variable(show_at(i)->name)) {
			manpage_put_text(out, show_at(i)->help);
			return;
		}
	}
}

static void manpage_print_show(FILE *out)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; show_at(i) != NULL; i++) {
		if (show_is_fake_variable(show_at(i)->name))
			continue;
		fprintf(out, ".It Ic %s %s\n", show_at(i)->needs_extended ? "SELECT" : "SHOW", show_at(i)->name);
		manpage_put_table(out, show_at(i));
	}
	manpage_put_fakes(out);
	fputs(".El\n", out);
}

static void manpage_print_dry_run(FILE *out)
{
	manpage_put_columns(out, &ctl_reload_changes, 0, ctl_reload_changes.column_count);
}

/* ---- settings ---- */

static const char *manpage_default(const char *text)
{
	if (text == NULL)
		return "unset";
	return text[0] == '\0' ? "empty" : text;
}

/* What a value may be. */
static void manpage_add_domain(char *dst, size_t size, const struct conf_row *row)
{
	switch (row->type) {
	case CONF_TYPE_FLAG:
		str_append(dst, size, "0 or 1");
		break;
	case CONF_TYPE_INT:
	case CONF_TYPE_UINT:
		if (row->max < INT_MAX)
			str_append(dst, size, "%lld to %lld", row->min, row->max);
		else if (row->min > INT_MIN)
			str_append(dst, size, "At least %lld", row->min);
		else
			str_append(dst, size, "Whole number");
		if (row->unit[0] != '\0')
			str_append(dst, size, ", %s", row->unit);
		break;
	case CONF_TYPE_TIME:
		str_append(dst, size, row->min > 0 ? "Seconds, at least %lld" : "Seconds", row->min);
		break;
	case CONF_TYPE_ENUM:
		str_append(dst, size, "One of");
		for (size_t i = 0; row->values[i] != NULL; i++)
			str_append(dst, size, "%s %s", i == 0 ? "" : ",", row->values[i]);
		break;
	case CONF_TYPE_STR:
		str_append(dst, size, "Text");
		break;
	case CONF_TYPE_WORDS:
	case CONF_TYPE_CSV:
		str_append(dst, size, "List");
		break;
	}
}

/* How a change of the value comes into force. */
static const char *manpage_effect(unsigned flags)
{
	if ((flags & CONF_F_NOOP) != 0)
		return "no effect";
	return (flags & CONF_F_RESTART) != 0 ? "restart" : "reload";
}

/* "Seconds; default: 15; reload." */
static void manpage_put_facts(FILE *out, const struct conf_row *row)
{
	const char *b = manpage_default(row->defaults[CONF_PROFILE_PGBOUNCER]);
	const char *s = manpage_default(row->defaults[CONF_PROFILE_PGSLUICE]);
	char facts[MANPAGE_LINE_MAX] = "";

	manpage_add_domain(facts, sizeof(facts), row);
	str_append(facts, sizeof(facts), "; default: %s", b);
	if (strcmp(b, s) != 0)
		str_append(facts, sizeof(facts), " under [pgbouncer], %s under [pgsluice]", s);
	str_append(facts, sizeof(facts), "; %s.", manpage_effect(row->flags));
	fputs(".br\n", out);
	manpage_put_text(out, facts);
}

static void manpage_print_settings(FILE *out)
{
	for (unsigned group = 0; group < CONF_GROUP_COUNT; group++) {
		fprintf(out, ".Ss %s\n.Bl -tag -width Ds\n", conf_group_titles[group]);
		for (size_t id = 0; id < CONF_ID_COUNT; id++) {
			if (conf_rows[id].group != group)
				continue;
			fprintf(out, ".It Cm %s\n", conf_rows[id].name);
			manpage_put_text(out, conf_rows[id].help);
			manpage_put_facts(out, &conf_rows[id]);
		}
		fputs(".El\n", out);
	}
}

static void manpage_put_keys(FILE *out, enum conf_entry_kind kind)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		fprintf(out, ".It Cm %s\n", key->name);
		manpage_put_text(out, key->help);
		if ((key->flags & CONF_F_RECYCLE) != 0)
			fputs("A change replaces the server connections.\n", out);
	}
	fputs(".El\n", out);
}

static void manpage_print_databases(FILE *out)
{
	manpage_put_keys(out, CONF_ENTRY_DB);
}

static void manpage_print_users(FILE *out)
{
	manpage_put_keys(out, CONF_ENTRY_USER);
}

static void manpage_print_peers(FILE *out)
{
	manpage_put_keys(out, CONF_ENTRY_PEER);
}

/* ---- templates ---- */

/* name in the template, part */
static const struct {
	const char *name;
	void (*print)(FILE *out);
} manpage_parts[] = {
	{ "OPTIONS", manpage_print_options },   { "COMMANDS", manpage_print_commands },
	{ "SHOW", manpage_print_show },         { "DRY_RUN", manpage_print_dry_run },
	{ "SETTINGS", manpage_print_settings }, { "DATABASES", manpage_print_databases },
	{ "USERS", manpage_print_users },       { "PEERS", manpage_print_peers },
};

/* The part named by a line "@NAME@\n"; false when there is none of that name. */
static bool manpage_print_part(FILE *out, const char *line)
{
	size_t n = strcspn(line + 1, "@");

	for (size_t i = 0; i < ARRAY_LEN(manpage_parts); i++) {
		if (strlen(manpage_parts[i].name) == n && strncmp(manpage_parts[i].name, line + 1, n) == 0) {
			manpage_parts[i].print(out);
			return true;
		}
	}
	return false;
}

bool manpage_print(FILE *from, FILE *out)
{
	char line[MANPAGE_LINE_MAX];

	fputs(".\\\" Made from a template and the tables of the program by \"make update-doc\";\n"
	      ".\\\" edit doc/*.in or the tables instead.\n",
	      out);
	while (fgets(line, sizeof(line), from) != NULL) {
		if (line[0] != '@')
			fputs(line, out);
		else if (!manpage_print_part(out, line))
			return false;
	}
	return ferror(from) == 0 && fflush(out) == 0 && ferror(out) == 0;
}
