/*
 * The report of `pgsluice --check`: what the file makes of the settings, and,
 * at the end, what of it has no effect by design. Programs read it
 * too, so the layout is fixed: fields separated by one tab, the kind of line
 * first, headings after a #. Control characters in a field are written as \xHH,
 * a backslash as \\. Secrets never appear.
 */
#include "conf/conf_int.h"

#include "core/alloc.h"

static void conf_check_put_text(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < ' ' || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else if (c == '\\')
			fputs("\\\\", out);
		else
			fputc(c, out);
	}
}

/* One more field of the current line; NULL is empty. */
static void conf_check_put_field(FILE *out, const char *text)
{
	fputc('\t', out);
	if (text != NULL)
		conf_check_put_text(out, text);
}

static void conf_check_put_setting(FILE *out, const char *kind, const struct conf *conf, enum conf_id id)
{
	char *value = conf_show_value(conf, id);

	fputs(kind, out);
	conf_check_put_field(out, conf_rows[id].name);
	conf_check_put_field(out, value);
	conf_check_put_field(out, conf_show_default(conf, id));
	fputc('\n', out);
	free(value);
}

/* Settings whose value is not the profile's default and that do something. */
static void conf_check_print_settings(const struct conf *conf, FILE *out)
{
	struct conf *defaults = conf_new(conf->profile);

	fputs("# settings that differ from the defaults\n", out);
	for (size_t i = 0; i < CONF_ID_COUNT; i++) {
		enum conf_id id = conf_show_id(i);

		if (id == CONF_ID_conffile && !conf->set_in_file[id])
			continue;
		if ((conf_rows[id].flags & CONF_F_NOOP) == 0 && !conf_value_is_equal(conf, defaults, id))
			conf_check_put_setting(out, "setting", conf, id);
	}
	conf_release(&defaults);
}

/* The keys of an entry that are set, as key=value fields. */
static void conf_check_put_keys(FILE *out, enum conf_entry_kind kind, const void *entry)
{
	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		char *value = conf_entry_text(entry, key);

		if (value == NULL)
			continue;
		conf_check_put_field(out, key->name);
		fputc('=', out);
		conf_check_put_text(out, value);
		free(value);
	}
	fputc('\n', out);
}

static void conf_check_print_databases(const struct conf *conf, FILE *out)
{
	struct conf_db *any;

	fputs("# databases\n", out);
	for (size_t i = 0; i < conf->db_count; i++) {
		fputs("database", out);
		conf_check_put_field(out, conf->dbs[i].name);
		conf_check_put_keys(out, CONF_ENTRY_DB, &conf->dbs[i]);
	}
	if (conf_autodb(conf, "*", &any) == 0) {
		fputs("database\t*", out);
		conf_check_put_keys(out, CONF_ENTRY_DB, any);
		conf_db_free(&any);
	}
}

static void conf_check_print_users(const struct conf *conf, FILE *out)
{
	fputs("# users\n", out);
	for (size_t i = 0; i < conf->user_count; i++) {
		fputs("user", out);
		conf_check_put_field(out, conf->users[i].name);
		conf_check_put_keys(out, CONF_ENTRY_USER, &conf->users[i]);
	}
}

static void conf_check_print_peers(const struct conf *conf, FILE *out)
{
	fputs("# peers\n", out);
	for (size_t i = 0; i < conf->peer_count; i++) {
		fprintf(out, "peer\t%d", conf->peers[i].id);
		conf_check_put_keys(out, CONF_ENTRY_PEER, &conf->peers[i]);
	}
}

static void conf_check_print_noop(const struct conf *conf, FILE *out)
{
	fputs("# accepted, without effect by design\n", out);
	for (size_t i = 0; i < CONF_ID_COUNT; i++) {
		enum conf_id id = conf_show_id(i);

		if (conf->set_in_file[id] && (conf_rows[id].flags & CONF_F_NOOP) != 0)
			conf_check_put_setting(out, "noop", conf, id);
	}
}

void conf_print_check(const struct conf *conf, FILE *out)
{
	CHECK_OBJ(conf, CONF_MAGIC);
	fputs("# configuration\nfile", out);
	conf_check_put_field(out, conf->file);
	fprintf(out, "\nprofile\t%s\n", conf_profile_names[conf->profile]);
	conf_check_print_settings(conf, out);
	conf_check_print_databases(conf, out);
	conf_check_print_users(conf, out);
	conf_check_print_peers(conf, out);
	conf_check_print_noop(conf, out);
}
