/*
 * From settings to rules.
 *
 * The files are read again at each reload, whether they were written or not:
 * a file of rules is small, and which others it includes only reading tells.
 */
#include "pool/hba_conf.h"

#include "core/log.h"

/* Where the words about a load go. */
static void hba_conf_say(void *ctx, enum log_level level, const char *text, const char *hint)
{
	struct conf_error *err = ctx;

	log_write(level, "%s", text);
	if (hint != NULL)
		log_write(level, "hint: %s", hint);
	if (level == LOG_LVL_ERROR)
		conf_error_set(err, hint, "%s", text);
}

static const char *hba_conf_path(const char *setting)
{
	return setting == NULL ? "" : setting;
}

static int hba_conf_load(const struct conf *conf, const struct hba *old, const struct rule_report *report,
			 struct hba **out)
{
	struct ident *ident = NULL;
	int rc = ident_load(&rulefile_disk, hba_conf_path(conf->auth_ident_file), report, &ident);

	/* Without maps the rules that name one are skipped, the others count. */
	if (rc < 0 && !report->is_strict && old == NULL)
		rc = ident_load(&rulefile_disk, "", report, &ident);
	if (rc < 0)
		return rc;
	rc = hba_load(&rulefile_disk, hba_conf_path(conf->auth_hba_file), ident, report, out);
	ident_release(&ident);
	return rc;
}

/*
 * Certificates of clients are checked against client_tls_ca_file. Without it
 * any authority that the system trusts could make anybody any user.
 */
static int hba_conf_check_authority(const struct conf *conf, const struct hba *hba, struct conf_error *err)
{
	static const char what[] = "%s:%u: certificates of clients are demanded, but client_tls_ca_file is not set, so "
				   "that any authority the system trusts counts";
	static const char hint[] = "name the file with the authorities that certify your clients";
	const struct hba_demand *demand = hba_first_cert(hba);

	if (demand == NULL || str_is_set(conf->client_tls_ca_file))
		return 0;
	if (conf->profile == CONF_PROFILE_PGBOUNCER) {
		log_warning(what, demand->file, demand->line);
		log_warning("hint: %s", hint);
		return 0;
	}
	log_error(what, demand->file, demand->line);
	log_error("hint: %s", hint);
	conf_error_set(err, hint, what, demand->file, demand->line);
	return -E_SYNTAX;
}

int hba_conf_make(const struct conf *conf, struct hba *old, struct hba **out, struct conf_error *err)
{
	struct rule_report report = { conf->profile == CONF_PROFILE_PGSLUICE, hba_conf_say, err };
	int rc;

	*out = NULL;
	if (conf->auth_type != CONF_AUTH_HBA)
		return 0;
	rc = hba_conf_load(conf, old, &report, out);
	if (rc == 0)
		rc = hba_conf_check_authority(conf, *out, err);
	if (rc < 0)
		hba_release(out);
	if (rc == 0 || report.is_strict)
		return rc;
	*out = old != NULL ? hba_hold(old) : hba_new_empty();
	if (old != NULL)
		log_warning("going on with the %zu rules of login that were read before", hba_count(old));
	else
		log_error("without the rules of login nobody can log in");
	return 0;
}
