/*
 * From a file to a snapshot. The whole file with all it includes is read into a
 * snapshot that nobody else knows; only when every line is good is it handed
 * out. A bad line does not end the reading, so that one attempt shows all that
 * is wrong; bad syntax does, as what follows could mean anything. Each main
 * header, [pgbouncer] or [pgsluice], puts all settings back to that profile's
 * defaults: that is what PgBouncer does, and files with includes depend on it.
 *
 * Messages keep PgBouncer's words where PgBouncer has a line for the case. What
 * would be right comes last, in one line that begins with "hint: ". Values that
 * may hold a password are cut before they get into a message.
 */
#include "conf/conf_int.h"

#include <fcntl.h>

#include "conf/ini.h"
#include "core/alloc.h"

#define CONF_MAX_FILE   (256UL * 1024 * 1024)

/* Bad lines that are reported; the next one ends the reading. */
#define CONF_MAX_FAULTS 20

enum conf_section {
	CONF_SECTION_NONE,
	CONF_SECTION_MAIN,
	CONF_SECTION_DATABASES,
	CONF_SECTION_USERS,
	CONF_SECTION_PEERS,
	CONF_SECTION_UNKNOWN, /* the header was bad; its keys are skipped */
};

struct conf_loader {
	struct conf *conf; /* NULL until the first main header */
	struct conf_names *names;
	struct conf_error *err; /* of the line that is read, while one is; else of the whole load */
	enum conf_section section;
	unsigned fault_count;
	int first_rc;   /* of the first bad line */
	char *own_file; /* of a database that is called as our console, at own_line; NULL: none */
	unsigned own_line;
	conf_read_file read_file;
	void *read_ctx;
};

/* ---- sections ---- */

static int conf_load_bad_section(struct conf_loader *l, const char *name, const char *hint)
{
	conf_error_set(l->err, hint, "invalid section \"%s\"", name);
	l->section = CONF_SECTION_UNKNOWN;
	return -E_SYNTAX;
}

static int conf_load_begin_main(struct conf_loader *l, enum conf_profile profile)
{
	struct conf *fresh;

	if (l->conf != NULL && l->conf->profile != profile)
		return conf_load_bad_section(
			l, conf_profile_names[profile],
			"a configuration has [pgbouncer] or [pgsluice], not both: the header picks the defaults");
	fresh = conf_new(profile);
	conf_release(&l->conf);
	l->conf = fresh;
	l->section = CONF_SECTION_MAIN;
	return 0;
}

static int conf_load_begin_section(struct conf_loader *l, const char *name)
{
	static const struct {
		const char *name;
		enum conf_section section;
	} others[] = {
		{ "databases", CONF_SECTION_DATABASES },
		{ "users", CONF_SECTION_USERS },
		{ "peers", CONF_SECTION_PEERS },
	};

	for (unsigned profile = 0; profile < CONF_PROFILE_COUNT; profile++) {
		if (strcmp(name, conf_profile_names[profile]) == 0)
			return conf_load_begin_main(l, profile);
	}
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (strcmp(name, others[i].name) != 0)
			continue;
		l->section = others[i].section;
		return 0;
	}
	return conf_load_bad_section(l, name,
				     "the sections are [pgbouncer] or [pgsluice], [databases], [users] and [peers]");
}

/* ---- keys ---- */

static const char *conf_load_name_at(size_t i)
{
	return i < CONF_ID_COUNT ? conf_rows[i].name : NULL;
}

static int conf_load_unknown_setting(const char *key, enum conf_profile profile, struct conf_error *err)
{
	const char *nearest = conf_error_nearest(key, conf_load_name_at);
	char hint[128] = "doc/config.md lists the settings";

	if (nearest != NULL)
		str_format(hint, sizeof(hint), "did you mean %s?", nearest);
	conf_error_log(err, LOG_LVL_ERROR, "unknown parameter: %s/%s", conf_profile_names[profile], key);
	conf_error_set(err, hint, "unknown parameter: %s/%s", conf_profile_names[profile], key);
	return -E_NOENT;
}

static int conf_load_setting(struct conf_loader *l, const char *key, const char *value)
{
	enum conf_id id = conf_id_of(key);
	int rc;

	if (id == CONF_ID_COUNT) {
		rc = conf_load_unknown_setting(key, l->conf->profile, l->err);
		ASSERT(rc == -E_NOENT);
		return -E_SYNTAX;
	}
	rc = conf_value_set(l->conf, id, value, l->err);
	if (rc == 0)
		l->conf->set_in_file[id] = true;
	return rc;
}

static int conf_load_database(struct conf_loader *l, const char *key, const char *value)
{
	struct conf_db db = { 0 };
	int rc;

	if (strcmp(key, "*") == 0) {
		free_secret(l->names->autodb);
		l->names->autodb = xstrdup(value);
		return 0;
	}
	rc = conf_entry_parse_db(&db, key, value, l->err);
	if (rc == 0)
		conf_names_add_db(l->names, &db);
	return rc;
}

static int conf_load_user(struct conf_loader *l, const char *key, const char *value)
{
	struct conf_user user = { 0 };
	int rc = conf_entry_parse_user(&user, key, value, l->err);

	if (rc == 0)
		conf_names_add_user(l->names, &user);
	return rc;
}

static int conf_load_peer(struct conf_loader *l, const char *key, const char *value)
{
	struct conf_peer peer = { 0 };
	int rc = conf_entry_parse_peer(&peer, key, value, l->err);

	if (rc == 0)
		conf_names_add_peer(l->names, &peer);
	return rc;
}

static int conf_load_entry(struct conf_loader *l, const char *key, const char *value)
{
	switch (l->section) {
	case CONF_SECTION_MAIN:
		return conf_load_setting(l, key, value);
	case CONF_SECTION_DATABASES:
		return conf_load_database(l, key, value);
	case CONF_SECTION_USERS:
		return conf_load_user(l, key, value);
	case CONF_SECTION_PEERS:
		return conf_load_peer(l, key, value);
	case CONF_SECTION_UNKNOWN:
		return 0;
	case CONF_SECTION_NONE:
		break;
	}
	conf_error_log(l->err, LOG_LVL_ERROR, "value without section: %s", key);
	conf_error_set(l->err, "a section header such as [pgbouncer] comes first", "value without section: %s", key);
	return -E_SYNTAX;
}

/* ---- callbacks of the ini parser ---- */

/* Where something begins that may be a password, under whatever name its key was meant to have; NULL: nowhere. */
static const char *conf_load_find_secret(const char *value)
{
	static const char *const words[] = { "pas", "pw", "secret" };
	const char *first = NULL;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		const char *found = strcasestr(value, words[i]);

		if (found != NULL && (first == NULL || found < first))
			first = found;
	}
	return first;
}

/*
 * The value for a message: nothing that may be a secret. From a word like
 * "password" on it is cut, as a connect string need not be well-formed here.
 */
static char *conf_load_printable(const struct conf_loader *l, const struct conf_ini_item *item)
{
	enum conf_id id = l->section == CONF_SECTION_MAIN ? conf_id_of(item->key) : CONF_ID_COUNT;
	const char *cut = conf_load_find_secret(item->value);
	size_t keep;
	size_t size;
	char *text;

	if (id != CONF_ID_COUNT)
		return xstrdup((conf_rows[id].flags & CONF_F_SECRET) != 0 ? "****" : item->value);
	if (cut == NULL)
		return xstrdup(item->value);
	keep = (size_t)(cut - item->value) + strspn(cut, "abcdefghijklmnopqrstuvwxyz_ABCDEFGHIJKLMNOPQRSTUVWXYZ");
	keep = item->value[keep] == '=' ? keep + 1 : (size_t)(cut - item->value);
	size = keep + sizeof("****");
	text = xmalloc(size);
	str_format(text, size, "%.*s****", (int)keep, item->value);
	return text;
}

/* Whether that name is free is known only with the main header, which may come later. */
static void conf_load_note_own(struct conf_loader *l, const struct conf_ini_item *item)
{
	if (l->section != CONF_SECTION_DATABASES || strcmp(item->key, CONF_CONSOLE_DB) != 0)
		return;
	free(l->own_file);
	l->own_file = xstrdup(item->file);
	l->own_line = item->line;
}

/* One line of the file; what there is to say about it goes to l->err. */
static int conf_load_item(struct conf_loader *l, const struct conf_ini_item *item)
{
	char *text;
	int rc;

	if (item->key == NULL) {
		rc = conf_load_begin_section(l, item->section);
		if (rc < 0)
			conf_error_log(l->err, LOG_LVL_ERROR, "invalid section \"%s\" in configuration (%s:%u)",
				       item->section, item->file, item->line);
	} else {
		rc = conf_load_entry(l, item->key, item->value);
		conf_load_note_own(l, item);
		if (rc < 0) {
			text = conf_load_printable(l, item);
			conf_error_log(l->err, LOG_LVL_ERROR,
				       "invalid value \"%s\" for parameter %s in configuration (%s:%u)", text,
				       item->key, item->file, item->line);
			free(text);
		}
	}
	if (rc < 0) {
		conf_error_place(l->err, item->file, item->line);
		if (l->err->hint != NULL)
			conf_error_log(l->err, LOG_LVL_ERROR, "hint: %s", l->err->hint);
	}
	return rc;
}

static int conf_load_on_item_cb(void *ctx, const struct conf_ini_item *item)
{
	struct conf_loader *l = ctx;
	struct conf_error *all = l->err;
	struct conf_error err;
	int rc;

	conf_error_init(&err);
	l->err = &err;
	rc = conf_load_item(l, item);
	l->err = all;
	conf_error_take(all, &err);
	if (rc == 0)
		return 0;
	if (l->first_rc == 0)
		l->first_rc = rc;
	return ++l->fault_count < CONF_MAX_FAULTS ? 1 : rc;
}

static void conf_load_on_error_cb(void *ctx, const char *file, unsigned line, const char *what, const char *hint)
{
	struct conf_loader *l = ctx;

	if (line == 0)
		conf_error_log(l->err, LOG_LVL_ERROR, "%s", what);
	else
		conf_error_log(l->err, LOG_LVL_ERROR, "%s (%s:%u), stopping loading", what, file, line);
	if (hint != NULL)
		conf_error_log(l->err, LOG_LVL_ERROR, "hint: %s", hint);
	conf_error_set(l->err, hint, "%s", what);
	conf_error_place(l->err, file, line);
}

static void conf_load_on_include_failed_cb(void *ctx, const char *file, unsigned line)
{
	struct conf_loader *l = ctx;

	conf_error_log(l->err, LOG_LVL_ERROR,
		       "error processing include file in configuration (%s:%u), stopping loading", file, line);
}

static int conf_load_read_file_cb(void *ctx, const char *path, char **text, size_t *len)
{
	struct conf_loader *l = ctx;

	return l->read_file(l->read_ctx, path, text, len);
}

static const struct conf_ini_ops conf_load_ops = {
	.read_file = conf_load_read_file_cb,
	.on_item = conf_load_on_item_cb,
	.on_error = conf_load_on_error_cb,
	.on_include_failed = conf_load_on_include_failed_cb,
};

/* ---- whole loads ---- */

/* A * line that is no good makes no database; say so now rather than at each login. */
static void conf_load_check_autodb(const struct conf *conf, struct conf_error *err)
{
	struct conf_error trial_err;
	struct conf_db trial = { 0 };

	if (conf->autodb == NULL)
		return;
	conf_error_init(&trial_err);
	if (conf_entry_parse_db(&trial, "x", conf->autodb, &trial_err) == 0)
		conf_entry_fini_db(&trial);
	else
		conf_error_log(err, LOG_LVL_WARNING, "no database can be made from the * line of [databases]: %s",
			       trial_err.what);
	conf_error_fini(&trial_err);
}

/* Under [pgsluice] no database may hide behind the console, nor the console behind a database. */
static int conf_load_refuse_own(struct conf_loader *l)
{
	conf_error_log(l->err, LOG_LVL_ERROR, "database name \"%s\" is reserved (%s:%u)", CONF_CONSOLE_DB, l->own_file,
		       l->own_line);
	conf_error_set(l->err,
		       "it is the name of the console; give the database another one, and dbname=" CONF_CONSOLE_DB,
		       "database name \"%s\" is reserved", CONF_CONSOLE_DB);
	conf_error_place(l->err, l->own_file, l->own_line);
	conf_error_log(l->err, LOG_LVL_ERROR, "hint: %s", l->err->hint);
	return -E_RANGE;
}

/* What is left to do once every line is read. */
static int conf_load_finish(struct conf_loader *l, const char *path)
{
	struct conf *conf = l->conf;

	if (conf == NULL) {
		conf_error_log(l->err, LOG_LVL_ERROR, "main section missing from config file");
		conf_error_set(l->err, "add a section [pgbouncer] or [pgsluice]", "main section missing");
		conf_error_place(l->err, path, 0);
		conf_error_log(l->err, LOG_LVL_ERROR, "hint: %s", l->err->hint);
		return -E_SYNTAX;
	}
	if (l->own_file != NULL && conf->profile == CONF_PROFILE_PGSLUICE)
		return conf_load_refuse_own(l);
	conf_names_sort(l->names);
	conf_attach_names(conf, l->names);
	conf->file = xstrdup(path);
	if (!str_is_set(conf->conffile)) {
		free(conf->conffile);
		conf->conffile = xstrdup(path);
	}
	conf_load_check_autodb(conf, l->err);
	return 0;
}

int conf_load_from(conf_read_file read_file, void *ctx, const char *path, struct conf **out, struct conf_error *err)
{
	struct conf_loader l = {
		.names = conf_names_new(),
		.err = err,
		.read_file = read_file,
		.read_ctx = ctx,
	};
	int rc = conf_ini_parse(path, &conf_load_ops, &l);

	if (l.first_rc != 0)
		rc = l.first_rc;
	if (rc == 0)
		rc = conf_load_finish(&l, path);
	conf_names_release(&l.names);
	free(l.own_file);
	if (rc < 0) {
		conf_release(&l.conf);
		return rc;
	}
	*out = l.conf;
	return 0;
}

/* Reads all of an open file. */
static int conf_load_read_fd(int fd, char **text, size_t *len)
{
	size_t size = 0;
	size_t used = 0;
	char *data = NULL;
	ssize_t n;

	do {
		if (used == size) {
			size = size == 0 ? 16384 : 2 * size;
			data = xrealloc(data, size);
		}
		n = read(fd, data + used, size - used);
		if (n > 0)
			used += (size_t)n;
		if (used > CONF_MAX_FILE) {
			errno = EFBIG;
			n = -1;
			break;
		}
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0) {
		free(data);
		return -E_SYS;
	}
	*text = data;
	*len = used;
	return 0;
}

static int conf_load_read_disk_cb(void *ctx UNUSED, const char *path, char **text, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int saved;
	int rc;

	if (fd < 0)
		return -E_SYS;
	rc = conf_load_read_fd(fd, text, len);
	saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

int conf_load(const char *path, struct conf **out, struct conf_error *err)
{
	return conf_load_from(conf_load_read_disk_cb, NULL, path, out, err);
}

int conf_reload(const struct conf *old, struct conf **out, struct conf_error *err)
{
	struct conf *conf;
	int rc;

	CHECK_OBJ(old, CONF_MAGIC);
	rc = conf_load(old->conffile, &conf, err);
	if (rc < 0)
		return rc;
	if (conf->profile != old->profile) {
		conf_error_set(err, "restart to change from one to the other",
			       "the file has [%s], but this process was started with [%s]",
			       conf_profile_names[conf->profile], conf_profile_names[old->profile]);
		conf_error_place(err, conf->file, 0);
		conf_error_log(err, LOG_LVL_ERROR, "%s (%s)", err->what, conf->file);
		conf_error_log(err, LOG_LVL_ERROR, "hint: %s", err->hint);
		conf_release(&conf);
		return -E_SYNTAX;
	}
	*out = conf;
	return 0;
}

void conf_keep_started(struct conf *fresh, const struct conf *old)
{
	CHECK_OBJ(fresh, CONF_MAGIC);
	CHECK_OBJ(old, CONF_MAGIC);
	for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
		if ((conf_rows[id].flags & CONF_F_RESTART) != 0)
			conf_value_copy(fresh, old, id);
	}
}

static struct conf *conf_load_copy(const struct conf *old)
{
	struct conf *conf = conf_new(old->profile);

	for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
		conf_value_copy(conf, old, id);
		conf->set_in_file[id] = old->set_in_file[id];
	}
	conf->file = xstrdup(old->file);
	conf_attach_names(conf, old->names);
	return conf;
}

int conf_set(const struct conf *old, const char *key, const char *value, struct conf **out, struct conf_error *err)
{
	enum conf_id id = conf_id_of(key);
	struct conf *conf;
	int rc;

	CHECK_OBJ(old, CONF_MAGIC);
	if (id == CONF_ID_COUNT)
		return conf_load_unknown_setting(key, old->profile, err);
	conf = conf_load_copy(old);
	if (!conf_is_changeable(id)) {
		conf_error_log(err, LOG_LVL_WARNING, "parameter %s takes effect at a restart only", key);
		*out = conf;
		return 0;
	}
	rc = conf_value_set(conf, id, value, err);
	if (rc < 0) {
		conf_error_log(err, LOG_LVL_ERROR, "%s", err->what);
		if (err->hint != NULL)
			conf_error_log(err, LOG_LVL_ERROR, "hint: %s", err->hint);
		conf_release(&conf);
		return rc;
	}
	conf->set_in_file[id] = true; /* as if the file said so, until the next reload */
	*out = conf;
	return 0;
}
