/*
 * The configuration is one snapshot: the ini file with the list of users that
 * it names. A reload is a transaction in three steps:
 *
 *     plan     reads and checks the files, and compares them with what is in
 *              force: a new snapshot and the list of what it changes, with the
 *              connections that this touches
 *     apply    hands the snapshot to the engine
 *     report   the list, for the log and for whoever asked
 *
 * A bad file ends it in the first step, and nothing has changed. A dry run is
 * the same without the second.
 *
 * The list of users is a file of its own, and read again only when it was
 * written since, or when verifiers are to be derived with another count. One
 * that is not there any more leaves the users as they are. The rules of login
 * are further files, which are read again each time.
 *
 * Keys and certificates are read again each time. Those that are no good are a
 * bad file like any other under [pgsluice]. PgBouncer takes up everything else
 * and says that the reload has failed, and so does [pgbouncer]; TLS then goes on
 * as it was on both sides, modes included.
 */
#include "reload.h"

#include "auth/ldap.h"
#include "auth/pam.h"
#include "core/log.h"
#include "core/str.h"
#include "pool/hba_conf.h"
#include "pool/registry_walk.h"
#include "pool/tls_conf.h"

static struct {
	bool quiet;
	int verbose;
} reload_cli;

static void reload_configure_log(const struct conf *conf, bool required, bool keep_open)
{
	struct log_setup setup = {
		.quiet = reload_cli.quiet,
		.json = conf->log_format == CONF_LOG_JSON,
		.keep_open = keep_open,
		.verbose = conf->verbose,
		.rate_limit = (unsigned)conf->log_rate_limit,
		.file = conf->logfile,
		.file_required = required,
		.syslog = conf->syslog != 0,
		.syslog_ident = conf->syslog_ident,
		.syslog_facility = conf->syslog_facility,
	};

	log_configure(&setup);
}

void reload_apply_log(const struct conf *conf, bool required)
{
	reload_configure_log(conf, required, false);
}

void reload_set_cli(bool quiet, int verbose)
{
	struct log_setup setup = { .quiet = quiet, .verbose = verbose };

	reload_cli.quiet = quiet;
	reload_cli.verbose = verbose;
	log_configure(&setup);
}

static void reload_log_messages(const struct conf_error *err)
{
	for (size_t i = 0; i < err->count; i++)
		log_write(err->messages[i].level, "%s", err->messages[i].text);
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
 * The list of users of a configuration; `old` is what is in force, NULL at the
 * start. A file that cannot be read leaves that in force. Of a broken file the
 * entries before the fault count, as with PgBouncer.
 */
static struct users *reload_users(const struct conf *conf, const struct snapshot *old)
{
	struct users *users;
	char text[512];
	int err;

	if (!str_is_set(conf->auth_file))
		return users_new_empty();
	if (old != NULL && users_is_current(old->users, conf->auth_file) &&
	    old->conf->scram_iterations == conf->scram_iterations)
		return users_hold(old->users);
	err = users_load(conf->auth_file, &users, text, sizeof(text));
	if (old != NULL)
		users_inherit(users, old->users, (uint32_t)conf->scram_iterations);
	if (err == 0)
		return users;
	log_error("%s", text);
	if (err == -E_SYNTAX) {
		log_warning("going on with the %zu users before the fault", users_count(users));
	} else if (old != NULL && users_count(old->users) > 0) {
		log_warning("going on with the %zu users that were read before", users_count(old->users));
		users_release(&users);
		users = users_hold(old->users);
	}
	return users;
}

/* Can this build do what auth_type asks for? */
static bool reload_has_method(int auth_type)
{
	return !(auth_type == CONF_AUTH_LDAP && !ldap_is_supported()) &&
	       !(auth_type == CONF_AUTH_PAM && !pam_is_supported());
}

/*
 * Looks at what the layers below cannot check: 0, or -E_* with a word in the
 * log and in `err`. Bad options that nobody uses are a warning.
 */
static int reload_check_auth(const struct conf *conf, struct conf_error *err)
{
	const char *options = conf->auth_ldap_options;
	bool uses_ldap = conf->auth_type == CONF_AUTH_LDAP || conf->auth_type == CONF_AUTH_HBA;
	struct ldap_options *ldap;
	char text[512];
	int rc;

	if (!reload_has_method(conf->auth_type)) {
		conf_error_set(err, "configure with the library there, or choose another auth_type",
			       "%s: %s is not supported by this build", conf->file,
			       conf_auth_type_name((enum conf_auth_type)conf->auth_type));
		log_error("%s", err->what);
		return -E_UNSUPPORTED;
	}
	if (!str_is_set(options)) {
		if (conf->auth_type == CONF_AUTH_LDAP)
			log_warning("auth_type is ldap, but auth_ldap_options is not set: nobody can log in");
		return 0;
	}
	rc = ldap_options_parse(slice_of(options), &ldap, text, sizeof(text));
	ldap_options_release(&ldap);
	if (rc != 0)
		log_write(uses_ldap ? LOG_LVL_ERROR : LOG_LVL_WARNING, "%s: auth_ldap_options: %s", conf->file, text);
	if (rc == 0 || !uses_ldap)
		return 0;
	conf_error_set(err, NULL, "%s: auth_ldap_options: %s", conf->file, text);
	return rc;
}

int reload_set_up_tls(struct snapshot *snap, char *text, size_t size)
{
	struct conf_error err;
	int rc;

	conf_error_init(&err);
	rc = tls_conf_make(snap->conf, NULL, &snap->tls, &err);
	if (rc != 0)
		str_format(text, size, "TLS setup failed: %s%s%s", err.what, err.hint == NULL ? "" : "; ",
			   err.hint == NULL ? "" : err.hint);
	conf_error_fini(&err);
	return rc;
}

/* The configuration, which is taken over, with the files that it names. NULL when one of them is not to be used. */
static struct snapshot *reload_make_first(struct conf *conf)
{
	struct conf_error messages;
	struct snapshot *snap = NULL;
	struct hba *hba = NULL;

	conf_error_init(&messages);
	if (hba_conf_make(conf, NULL, &hba, &messages) == 0) {
		snap = snapshot_new(conf, reload_users(conf, NULL));
		snap->hba = hba;
	} else {
		conf_release(&conf);
	}
	conf_error_fini(&messages);
	return snap;
}

struct snapshot *reload_first(const char *path)
{
	struct conf_error messages;
	struct conf *conf;
	int err;

	conf_error_init(&messages);
	err = conf_load(path, &conf, &messages);
	reload_log_messages(&messages);
	if (err == 0) {
		err = reload_check_auth(conf, &messages);
		if (err != 0)
			conf_release(&conf);
	}
	conf_error_fini(&messages);
	if (err != 0)
		return NULL;
	reload_complete(conf);
	return reload_make_first(conf);
}

void reload_reopen_log(struct engine *engine)
{
	struct snapshot *snap = engine_snapshot(engine);

	reload_apply_log(snap->conf, false);
	snapshot_release(&snap);
}

/* ---- the transaction ---- */

/* What would follow the snapshot in force. */
struct reload_plan {
	struct snapshot *old;
	struct conf *conf;
	struct users *users;
	struct hba *hba;
	struct tls_conf *tls;
	int tls_rc; /* not 0: why `tls` is that in force */
	struct conf_diff *diff;
};

static void reload_on_user_cb(void *ctx, enum users_change change, const char *name)
{
	static const enum conf_change_action actions[] = {
		[USERS_ADDED] = CONF_CHANGE_ADD,
		[USERS_CHANGED] = CONF_CHANGE_CHANGE,
		[USERS_REMOVED] = CONF_CHANGE_REMOVE,
	};

	conf_diff_add(ctx, CONF_CHANGE_LOGIN, actions[change], CONF_EFFECT_NOW, name, "");
}

struct conf_diff *reload_compare(const struct snapshot *old, const struct conf *conf, const struct users *users,
				 const struct hba *hba)
{
	struct conf_diff *diff = conf_diff_new(old->conf, conf);

	users_compare(old->users, users, reload_on_user_cb, diff);
	/* That there are rules, or none any more, the settings say. */
	if (old->hba != NULL && hba != NULL && !hba_is_equal(old->hba, hba))
		conf_diff_add(diff, CONF_CHANGE_FILES, CONF_CHANGE_CHANGE, CONF_EFFECT_NOW, "auth_hba_file",
			      "rules of login");
	return diff;
}

static void reload_on_touched_cb(void *ctx, const char *database, unsigned servers, unsigned clients)
{
	conf_diff_touch(ctx, database, servers, clients);
}

static void reload_plan_fini(struct reload_plan *plan)
{
	snapshot_release(&plan->old);
	conf_release(&plan->conf);
	users_release(&plan->users);
	hba_release(&plan->hba);
	tls_conf_release(&plan->tls);
	conf_diff_free(&plan->diff);
}

/* TLS as it would be; what is wrong with it goes to the log and, if that is the first fault, to `err`. */
static int reload_plan_tls(struct reload_plan *plan, struct conf_error *err)
{
	struct tls_conf *old = plan->old->tls;
	struct conf_error own;

	conf_error_init(&own);
	plan->tls_rc = tls_conf_make(plan->conf, old, &plan->tls, &own);
	if (plan->tls_rc != 0) {
		log_error("TLS setup failed: %s", own.what);
		if (own.hint != NULL)
			log_error("hint: %s", own.hint);
		conf_error_set(err, own.hint, "%s", own.what);
		plan->tls = old == NULL ? NULL : tls_conf_hold(old);
	}
	conf_error_fini(&own);
	return plan->conf->profile == CONF_PROFILE_PGSLUICE ? plan->tls_rc : 0;
}

/* Files with another content are no setting that has changed, but a change all the same. */
static void reload_add_tls_files(struct reload_plan *plan)
{
	const struct tls_conf *old = plan->old->tls;
	const struct tls_conf *fresh = plan->tls;
	bool recycles = plan->conf->profile == CONF_PROFILE_PGSLUICE;

	if (old == NULL || fresh == NULL)
		return;
	if (old->client != NULL && fresh->client != NULL && tls_ctx_has_other_files(old->client, fresh->client))
		conf_diff_add(plan->diff, CONF_CHANGE_FILES, CONF_CHANGE_CHANGE, CONF_EFFECT_NOW, "client_tls",
			      "key or certificates");
	if (old->server != NULL && fresh->server != NULL && tls_ctx_has_other_files(old->server, fresh->server))
		conf_diff_add(plan->diff, CONF_CHANGE_FILES, CONF_CHANGE_CHANGE,
			      recycles ? CONF_EFFECT_RECYCLE : CONF_EFFECT_NOW, "server_tls", "key or certificates");
}

/* On an error the plan is empty, the log says why and so does `err`. */
static int reload_plan(struct engine *engine, struct reload_plan *plan, struct conf_error *err)
{
	int rc;

	*plan = (struct reload_plan){ .old = engine_snapshot(engine) };
	rc = conf_reload(plan->old->conf, &plan->conf, err);
	reload_log_messages(err);
	if (rc == 0)
		rc = reload_check_auth(plan->conf, err);
	if (rc == 0)
		rc = hba_conf_make(plan->conf, plan->old->hba, &plan->hba, err);
	if (rc == 0)
		rc = reload_plan_tls(plan, err);
	if (rc != 0) {
		reload_plan_fini(plan);
		return rc;
	}
	reload_complete(plan->conf);
	plan->users = reload_users(plan->conf, plan->old);
	plan->diff = reload_compare(plan->old, plan->conf, plan->users, plan->hba);
	reload_add_tls_files(plan);
	registry_touched_by(engine, plan->old->conf, plan->conf, reload_on_touched_cb, plan->diff);
	conf_diff_touch_all(plan->diff, engine_server_count(engine));
	return 0;
}

/* Longest line of the report in the log. */
#define RELOAD_LINE_SIZE (CONF_DETAIL_SIZE + 256)

static void reload_log_diff(const struct conf_diff *diff)
{
	char line[RELOAD_LINE_SIZE];

	for (size_t i = 0; i < diff->count; i++) {
		const struct conf_change *change = &diff->changes[i];

		if (change->effect == CONF_EFFECT_RESTART) {
			log_warning("parameter %s takes effect at a restart only: %s", change->name, change->detail);
		} else if (log_is_on(LOG_LVL_DEBUG)) {
			conf_change_describe(change, line, sizeof(line));
			log_debug("reload: %s", line);
		}
	}
	conf_diff_summarize(diff, line, sizeof(line));
	log_info("reload: %s", line);
}

/* Moves what is planned into a snapshot. */
static struct snapshot *reload_take_snapshot(struct reload_plan *plan)
{
	struct snapshot *snap = snapshot_new(plan->conf, plan->users);

	snap->hba = plan->hba;
	snap->tls = plan->tls;
	plan->conf = NULL;
	plan->users = NULL;
	plan->hba = NULL;
	plan->tls = NULL;
	return snap;
}

int reload_run(struct engine *engine, struct conf_diff **diff, struct conf_error *err)
{
	struct reload_plan plan;
	int rc = reload_plan(engine, &plan, err);

	if (rc != 0) {
		log_warning("config file loading failed");
		return rc;
	}
	conf_keep_started(plan.conf, plan.old->conf);
	reload_apply_log(plan.conf, false);
	engine_reload(engine, reload_take_snapshot(&plan));
	reload_log_diff(plan.diff); /* who reads of it finds it done */
	rc = plan.tls_rc;
	if (rc != 0) {
		log_error("TLS configuration could not be reloaded, keeping old configuration");
	} else {
		*diff = plan.diff;
		plan.diff = NULL;
	}
	reload_plan_fini(&plan);
	return rc;
}

int reload_try(struct engine *engine, struct conf_diff **diff, struct conf_error *err)
{
	struct reload_plan plan;
	int rc = reload_plan(engine, &plan, err);

	if (rc != 0)
		return rc;
	rc = plan.tls_rc;
	if (rc == 0) {
		*diff = plan.diff;
		plan.diff = NULL;
	}
	reload_plan_fini(&plan);
	return rc;
}

static bool reload_is_same_text(const char *a, const char *b)
{
	return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) == 0;
}

/* The rules of login under the copy of a configuration with one other value: only some values touch them. */
static int reload_set_rules(struct reload_plan *plan)
{
	const struct conf *was = plan->old->conf;
	struct conf_error err;
	int rc;

	if (plan->old->hba != NULL && plan->conf->auth_type == CONF_AUTH_HBA &&
	    reload_is_same_text(was->auth_hba_file, plan->conf->auth_hba_file) &&
	    reload_is_same_text(was->auth_ident_file, plan->conf->auth_ident_file)) {
		plan->hba = hba_hold(plan->old->hba);
		return 0;
	}
	conf_error_init(&err);
	rc = hba_conf_make(plan->conf, plan->old->hba, &plan->hba, &err);
	conf_error_fini(&err);
	return rc;
}

/* Puts the copy of a configuration with one other value into force. */
static int reload_set_plan(struct engine *engine, struct reload_plan *plan, const char *key, bool *tls_kept)
{
	struct conf_error err;
	int rc = reload_set_rules(plan);

	if (rc != 0)
		return rc;
	if (strstr(key, "_tls") == NULL) {
		plan->tls = plan->old->tls == NULL ? NULL : tls_conf_hold(plan->old->tls);
	} else {
		conf_error_init(&err);
		rc = reload_plan_tls(plan, &err);
		conf_error_fini(&err);
	}
	if (rc != 0)
		return rc;
	*tls_kept = plan->tls_rc != 0;
	if (*tls_kept)
		log_error("TLS configuration could not be reloaded, keeping old configuration");
	plan->users = users_hold(plan->old->users);
	reload_configure_log(plan->conf, false, true);
	engine_reload(engine, reload_take_snapshot(plan));
	return 0;
}

int reload_set(struct engine *engine, const char *key, const char *value, bool *tls_kept)
{
	struct reload_plan plan = { .old = engine_snapshot(engine) };
	struct conf_error messages;
	int rc;

	*tls_kept = false;
	conf_error_init(&messages);
	rc = conf_set(plan.old->conf, key, value, &plan.conf, &messages);
	reload_log_messages(&messages);
	if (rc == 0)
		rc = reload_check_auth(plan.conf, &messages);
	conf_error_fini(&messages);
	if (rc == 0)
		rc = reload_set_plan(engine, &plan, key, tls_kept);
	reload_plan_fini(&plan);
	return rc;
}
