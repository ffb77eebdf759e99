/*
 * The configuration is one snapshot: the ini file with the list of users that
 * it names. A reload builds a whole new one beside the old and swaps them only
 * when everything could be read, so a bad file changes nothing.
 */
#include "reload.h"

#include "core/log.h"
#include "core/str.h"

static struct {
	bool quiet;
	int verbose;
} reload_cli;

void reload_apply_log(const struct conf *conf, bool required)
{
	struct log_setup setup = {
		.quiet = reload_cli.quiet,
		.verbose = conf->verbose,
		.file = conf->logfile,
		.file_required = required,
		.syslog = conf->syslog != 0,
		.syslog_ident = conf->syslog_ident,
		.syslog_facility = conf->syslog_facility,
	};

	log_configure(&setup);
}

void reload_set_cli(bool quiet, int verbose)
{
	struct log_setup setup = { .quiet = quiet, .verbose = verbose };

	reload_cli.quiet = quiet;
	reload_cli.verbose = verbose;
	log_configure(&setup);
}

static void reload_log_messages(struct conf_error *err)
{
	for (size_t i = 0; i < err->count; i++)
		log_write(err->messages[i].level, "%s", err->messages[i].text);
	conf_error_fini(err);
}

/* What the file leaves open the command line says; then a word about what was read. */
static void reload_complete(struct conf *conf)
{
	if (!conf->set_in_file[CONF_ID_verbose])
		conf->verbose = reload_cli.verbose;
	log_debug("read %s: %zu databases, %zu users, %zu peers", conf->file, conf->db_count, conf->user_count,
		  conf->peer_count);
	for (size_t i = 0; i < conf->db_count; i++)
		log_noise("database %s: dbname=%s host=%s port=%d", conf->dbs[i].name, conf->dbs[i].dbname,
			  conf->dbs[i].host.count == 0 ? "" : conf->dbs[i].host.text, conf->dbs[i].port);
}

/*
 * The list of users of a configuration. A list that was never there does not
 * stand in the way of a reload: it is reported, and stays empty.
 */
static int reload_users(const struct conf *conf, const struct users *old, struct users **out)
{
	char text[512];
	int err;

	if (conf->auth_file == NULL || conf->auth_file[0] == '\0') {
		*out = users_new_empty();
		return 0;
	}
	err = users_load(conf->auth_file, out, text, sizeof(text));
	if (err == 0)
		return 0;
	log_error("%s", text);
	return err == -E_IO && (old == NULL || users_count(old) == 0) ? 0 : err;
}

/* False, with a word in the log, when serving this configuration would break what it promises. */
static bool reload_can_serve(const struct conf *conf)
{
	const char *setting = conf_demands_tls(conf);

	if (setting == NULL)
		return true;
	log_error("%s demands TLS, which this version does not speak", setting);
	return false;
}

bool reload_can_start(const struct snapshot *snap)
{
	conf_warn_later(snap->conf);
	return reload_can_serve(snap->conf);
}

struct snapshot *reload_first(const char *path)
{
	struct conf_error messages;
	struct users *users;
	struct conf *conf;
	int err;

	conf_error_init(&messages);
	err = conf_load(path, &conf, &messages);
	reload_log_messages(&messages);
	if (err != 0)
		return NULL;
	reload_complete(conf);
	/* at the start the entries before a fault are better than no service */
	if (reload_users(conf, NULL, &users) != 0)
		log_warning("going on with the %zu users before the fault", users_count(users));
	return snapshot_new(conf, users);
}

void reload_reopen_log(struct engine *engine)
{
	struct snapshot *snap = engine_snapshot(engine);

	reload_apply_log(snap->conf, false);
	snapshot_release(&snap);
}

int reload_run(struct engine *engine)
{
	struct snapshot *old = engine_snapshot(engine);
	struct snapshot *snap = NULL;
	struct users *users = NULL;
	struct conf *conf = NULL;
	struct conf_error messages;
	int err;

	conf_error_init(&messages);
	err = conf_reload(old->conf, &conf, &messages);
	reload_log_messages(&messages);
	if (err == 0 && !reload_can_serve(conf))
		err = -E_UNSUPPORTED;
	if (err == 0)
		err = reload_users(conf, old->users, &users);
	if (err != 0) {
		log_warning("config file loading failed");
		users_release(&users);
		conf_release(&conf);
	} else {
		reload_complete(conf);
		snap = snapshot_new(conf, users);
		reload_apply_log(conf, false);
		engine_reload(engine, snap);
	}
	snapshot_release(&old);
	return err;
}

int reload_set(struct engine *engine, const char *key, const char *value)
{
	struct snapshot *old = engine_snapshot(engine);
	struct conf_error messages;
	struct conf *conf = NULL;
	struct users *users;
	int err;

	conf_error_init(&messages);
	err = conf_set(old->conf, key, value, &conf, &messages);
	reload_log_messages(&messages);
	if (err == 0 && !reload_can_serve(conf)) {
		conf_release(&conf);
		err = -E_UNSUPPORTED;
	}
	if (err == 0) {
		users = users_hold(old->users);
		reload_apply_log(conf, false);
		engine_reload(engine, snapshot_new(conf, users));
	}
	snapshot_release(&old);
	return err;
}
