/*
 * What the tables say, as text for people: the reference in Markdown and the
 * commented sample file. doc/config.md and etc/pgsluice.ini are the output of
 * these functions; a test compares them, `make update-doc` writes them anew.
 */
#include "conf/conf_int.h"

#include "core/alloc.h"

#define CONF_DOC_COLUMNS 100

/* ---- reference ---- */

/* Text inside a cell of a Markdown table. */
static void conf_doc_put_cell(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (strchr("|*<", *text) != NULL)
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void conf_doc_put_default(FILE *out, const char *text)
{
	if (text == NULL)
		fputs("unset", out);
	else if (text[0] == '\0')
		fputs("empty", out);
	else
		fprintf(out, "`%s`", text);
}

static void conf_doc_put_defaults(FILE *out, const struct conf_row *row)
{
	const char *b = row->defaults[CONF_PROFILE_PGBOUNCER];
	const char *s = row->defaults[CONF_PROFILE_PGSLUICE];

	conf_doc_put_default(out, b);
	if (b == s || (b != NULL && s != NULL && strcmp(b, s) == 0))
		return;
	fputs("; in `[pgsluice]` ", out);
	conf_doc_put_default(out, s);
}

/* What a value may be. */
static void conf_doc_put_domain(FILE *out, const struct conf_row *row)
{
	switch (row->type) {
	case CONF_TYPE_FLAG:
		fputs("0 or 1", out);
		break;
	case CONF_TYPE_INT:
	case CONF_TYPE_UINT:
		if (row->max < INT_MAX)
			fprintf(out, "%lld to %lld", row->min, row->max);
		else if (row->min > INT_MIN)
			fprintf(out, "at least %lld", row->min);
		else
			fputs("whole number", out);
		if (row->unit[0] != '\0')
			fprintf(out, ", %s", row->unit);
		break;
	case CONF_TYPE_TIME:
		fputs(row->min > 0 ? "seconds, at least 1" : "seconds", out);
		break;
	case CONF_TYPE_ENUM:
		for (size_t i = 0; row->values[i] != NULL; i++)
			fprintf(out, "%s`%s`", i > 0 ? ", " : "", row->values[i]);
		break;
	case CONF_TYPE_STR:
		fputs("text", out);
		break;
	case CONF_TYPE_WORDS:
	case CONF_TYPE_CSV:
		fputs("list", out);
		break;
	}
}

static const char *conf_doc_state(unsigned flags)
{
	if ((flags & CONF_F_NOOP) != 0)
		return "no effect";
	if ((flags & CONF_F_RECYCLE) != 0)
		return "reload, with new server connections";
	return (flags & CONF_F_RESTART) != 0 ? "restart" : "reload";
}

static void conf_doc_print_group(FILE *out, enum conf_group group)
{
	fprintf(out, "\n### %s\n\n", conf_group_titles[group]);
	fputs("| setting | value | default | takes effect | meaning |\n|---|---|---|---|---|\n", out);
	for (size_t id = 0; id < CONF_ID_COUNT; id++) {
		const struct conf_row *row = &conf_rows[id];

		if (row->group != group)
			continue;
		fprintf(out, "| `%s` | ", row->name);
		conf_doc_put_domain(out, row);
		fputs(" | ", out);
		conf_doc_put_defaults(out, row);
		fprintf(out, " | %s | ", conf_doc_state(row->flags));
		conf_doc_put_cell(out, row->help);
		fputs(" |\n", out);
	}
}

static void conf_doc_print_keys(FILE *out, enum conf_entry_kind kind)
{
	fputs("\n| key | takes effect | meaning |\n|---|---|---|\n", out);
	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		fprintf(out, "| `%s` | %s | ", key->name, conf_doc_state(key->flags));
		conf_doc_put_cell(out, key->help);
		fputs(" |\n", out);
	}
}

/* clang-format off */
static const char conf_doc_intro[] =
	"# Configuration\n"
	"\n"
	"<!-- Made from src/conf/conf_tbl.h by `make update-doc`; edit that instead. -->\n"
	"\n"
	"## The file\n"
	"\n"
	"`pgsluice FILE` reads one file in PgBouncer's format. Its main section is either `[pgbouncer]`, with PgBouncer's\n"
	"defaults and visible behaviour, or `[pgsluice]`, with ours. Both know every setting; the header only picks the\n"
	"defaults, and one configuration has only one of them. Besides it there may be `[databases]`, `[users]` and `[peers]`.\n"
	"\n"
	"- A line is `key = value`. Blank lines, and lines that begin with `;` or `#`, are skipped; further right these two are\n"
	"  part of the value. Nothing continues a line.\n"
	"- A key is of ASCII letters, digits and `_ . - *`, or anything in single quotes: `'my db' = host=db1`.\n"
	"- The value is the rest of the line, without the blanks around it. Quotes belong to the value.\n"
	"- `%include PATH` reads another file at that place, 10 levels deep at most. The path is relative to the working\n"
	"  directory of the process. The current section goes on into the included file and out of it again.\n"
	"- A header `[pgbouncer]` or `[pgsluice]` puts all settings back to their defaults, a second one as well.\n"
	"- Of a setting given twice the last counts; a database, user or peer given twice is the last line alone.\n"
	"- Unknown sections, settings and keys, and values out of range, are errors. A bad file at the start ends the program; at\n"
	"  a reload nothing at all changes. What is wrong in the files that it names is below, under Reload.\n"
	"\n"
	"Whole numbers are read as in C: `0x10` is 16 and `010` is 8. Switches take 0 and 1, and also `on`, `off`, `yes`, `no`,\n"
	"`true` and `false`. Times are seconds without a unit; `0.5` is half a second.\n"
	"\n"
	"`pgsluice --check FILE` reads the file and reports what it means, in lines of fields separated by tabs. The first field\n"
	"is the kind: `file`, `profile`, `setting` (name, value, default), `database`, `user` and `peer` (name, then the keys\n"
	"that are set), and at the end `noop` (as `setting`), what is accepted without effect by design. Lines with a `#` in\n"
	"front are headings. Control characters are written as `\\xHH`, a backslash as `\\\\`; secrets as `****`.\n"
	"\n"
	"## Reload\n"
	"\n"
	"A reload (`RELOAD` on the console, or SIGHUP) reads the file again and puts in force what it says: all of it or, when\n"
	"anything in it is wrong, nothing. A setting that is no longer in the file returns to its default, and what `SET` has\n"
	"changed ends. A setting marked *restart* keeps its value until the next start; the log has a warning as long as the file\n"
	"says something else. A file with the other section header needs a restart as well. The keys of a database marked *with\n"
	"new server connections* replace the connections that were made before, each when it is free. The clients of a database\n"
	"that is gone are disconnected. `auth_file` is read again only when it was written since; when it cannot be read the users\n"
	"stay, and of a broken one the lines before the fault count.\n"
	"\n"
	"All or nothing goes for rules of login and for TLS as well, but only under `[pgsluice]`. Under `[pgbouncer]`, as PgBouncer\n"
	"does it, bad lines of `auth_hba_file` and `auth_ident_file` are skipped ([hba.md](hba.md)); and when TLS cannot be set up\n"
	"from its settings and files, `RELOAD` fails and TLS stays as it was, while all else is taken up ([tls.md](tls.md)).\n"
	"\n"
	"The log says in a line what has changed, and at `verbose = 1` each change; under `[pgsluice]` the console tells it as a\n"
	"notice, too. What a reload *would* change, and how many connections that touches, is shown without doing it by\n"
	"\n"
	"- `RELOAD DRY RUN` on the console, as rows: action, object, name, detail, when it takes effect, and the number of\n"
	"  server connections that are replaced or closed and of clients that are disconnected;\n"
	"- `pgsluice --check --diff FILE`, the same from the instance that runs with that file, as lines of fields separated by\n"
	"  tabs, `change` in front. It is asked on its Unix socket, by its own system user or by root;\n"
	"- `pgsluice --check --diff=OLD FILE`, which compares two files and asks nobody.\n"
	"\n"
	"The exit status of both is 0 when nothing differs, 2 when something does, and 1 when the file is wrong or the instance\n"
	"cannot be asked. A *login* among the objects is a line of `auth_file`. Secrets are never shown.\n"
	"\n"
	"## Settings: `[pgbouncer]` or `[pgsluice]`\n";

static const char conf_doc_databases[] =
	"\n"
	"## `[databases]`\n"
	"\n"
	"Each line is the name that clients ask for, and `key=value` pairs separated by spaces that say where it is. A value with\n"
	"spaces stands in single quotes, in which `''` is a quote. An empty line of pairs takes all defaults. The name has 63 bytes\n"
	"at most and is not `pgbouncer`, which is the console. The name `*` stands for every database without a line of its own.\n";

static const char conf_doc_users[] =
	"\n"
	"## `[users]`\n"
	"\n"
	"Each line is the name of a user and what applies to it. The pool keys, the query and transaction timeouts, and the keys of\n"
	"retries follow the user of the pool, which is the forced user of the database if it has one; the client keys follow the\n"
	"user that logs in.\n";

static const char conf_doc_peers[] =
	"\n"
	"## `[peers]`\n"
	"\n"
	"Each line is the `peer_id` of another process, from 1 to 65535, and where it is.\n";
/* clang-format on */

void conf_print_options(FILE *out)
{
	fputs(conf_doc_intro, out);
	for (unsigned group = 0; group < CONF_GROUP_COUNT; group++)
		conf_doc_print_group(out, group);
	fputs(conf_doc_databases, out);
	conf_doc_print_keys(out, CONF_ENTRY_DB);
	fputs(conf_doc_users, out);
	conf_doc_print_keys(out, CONF_ENTRY_USER);
	fputs(conf_doc_peers, out);
	conf_doc_print_keys(out, CONF_ENTRY_PEER);
}

/* ---- sample ---- */

/* Settings that the sample sets, so that it starts as it is. */
static const struct {
	enum conf_id id;
	const char *value;
} conf_doc_sample_values[] = {
	{ CONF_ID_listen_addr, "127.0.0.1" },
	{ CONF_ID_auth_file, PGSLUICE_SYSCONFDIR "/userlist.txt" },
};

/* Prints words with a prefix on each line. */
static void conf_doc_put_comment(FILE *out, const char *prefix, const char *text)
{
	size_t column = 0;

	while (*text != '\0') {
		size_t n = strcspn(text, " ");

		if (column > 0 && column + 1 + n > CONF_DOC_COLUMNS) {
			fputc('\n', out);
			column = 0;
		}
		column += (size_t)fprintf(out, "%s%.*s", column == 0 ? prefix : " ", (int)n, text);
		text += n;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

static const char *conf_doc_sample_value(enum conf_id id)
{
	for (size_t i = 0; i < ARRAY_LEN(conf_doc_sample_values); i++) {
		if (conf_doc_sample_values[i].id == id)
			return conf_doc_sample_values[i].value;
	}
	return NULL;
}

static void conf_doc_print_sample_setting(FILE *out, enum conf_id id)
{
	const struct conf_row *row = &conf_rows[id];
	const char *value = conf_doc_sample_value(id);
	const char *preset = row->defaults[CONF_PROFILE_PGSLUICE];

	fputc('\n', out);
	conf_doc_put_comment(out, ";; ", row->help);
	if (row->type == CONF_TYPE_ENUM) {
		fputs(";; One of:", out);
		for (size_t i = 0; row->values[i] != NULL; i++)
			fprintf(out, "%s %s", i > 0 ? "," : "", row->values[i]);
		fputc('\n', out);
	} else if (row->unit[0] != '\0') {
		fprintf(out, ";; Unit: %s\n", row->unit);
	}
	if (preset == NULL && row->type == CONF_TYPE_INT)
		preset = "0";
	if (value != NULL)
		fprintf(out, "%s = %s\n", row->name, value);
	else if (!str_is_set(preset))
		fprintf(out, ";%s =\n", row->name);
	else
		fprintf(out, ";%s = %s\n", row->name, preset);
}

/* clang-format off */
static const char conf_doc_sample_head[] =
	";; Sample configuration of pgsluice; the reference is doc/config.md.\n"
	";;\n"
	";; Lines that begin with ; or # are comments. Settings that are commented out show their default.\n"
	";; With [pgbouncer] instead of [pgsluice] as the main header, PgBouncer's defaults hold.\n"
	"\n"
	"[databases]\n"
	"\n"
	";; name = where it is. Keys that are left out have these meanings:\n";

static const char conf_doc_sample_databases[] =
	"\n"
	";; A database of the same name behind the local Unix socket:\n"
	";app =\n"
	"\n"
	";; Another host, another name there, and a pool of its own size:\n"
	";shop = host=db1.example.com port=5432 dbname=shop_prod pool_size=40\n"
	"\n"
	";; All clients share the connections of one user:\n"
	";report = host=db2.example.com user=report password=secret connect_query='SET work_mem = ''64MB'''\n"
	"\n"
	";; Every other database:\n"
	";* = host=db1.example.com\n"
	"\n"
	"[users]\n"
	"\n"
	";; name = what applies to this user:\n";

static const char conf_doc_sample_users[] =
	"\n"
	";batch = pool_mode=session query_timeout=3600\n"
	"\n"
	"[peers]\n"
	"\n"
	";; id = another process that gets the cancel requests for its own clients.\n";

static const char conf_doc_sample_peers[] =
	"\n"
	";1 = host=/run/pgsluice-1\n"
	"\n"
	"[pgsluice]\n";
/* clang-format on */

static void conf_doc_print_sample_keys(FILE *out, enum conf_entry_kind kind)
{
	char text[512];

	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		str_format(text, sizeof(text), "%s: %s", key->name, key->help);
		conf_doc_put_comment(out, ";;   ", text);
	}
}

void conf_print_sample(FILE *out)
{
	fputs(conf_doc_sample_head, out);
	conf_doc_print_sample_keys(out, CONF_ENTRY_DB);
	fputs(conf_doc_sample_databases, out);
	conf_doc_print_sample_keys(out, CONF_ENTRY_USER);
	fputs(conf_doc_sample_users, out);
	conf_doc_print_sample_keys(out, CONF_ENTRY_PEER);
	fputs(conf_doc_sample_peers, out);
	for (unsigned group = 0; group < CONF_GROUP_COUNT; group++) {
		fprintf(out, "\n;;;\n;;; %s\n;;;\n", conf_group_titles[group]);
		for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
			if (conf_rows[id].group == group)
				conf_doc_print_sample_setting(out, id);
		}
	}
}
