/*
 * Servers that were connected under other settings of TLS are replaced: what
 * the administrator has decided shall hold for all of them. PgBouncer looks at
 * the settings only, so under [pgbouncer] a file with a new content is used
 * from the next connection on; under [pgsluice] it replaces servers like a
 * setting does, since what was taken out of a file shall not go on to be
 * trusted.
 */
#include "pool/tls_conf.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"

/* Servers with which a session can be resumed, at most. */
#define TLS_CONF_TARGETS   256

#define TLS_CONF_WORDS_MAX 16384

/* What the setup of a context cannot know. */
static int tls_conf_check(const struct conf *conf, struct conf_error *err)
{
	const bool has_ca = str_is_set(conf->client_tls_ca_file);

	if (conf->auth_type == CONF_AUTH_CERT && conf->client_tls_sslmode != CONF_SSL_VERIFY_FULL) {
		conf_error_set(err, "set client_tls_sslmode = verify-full",
			       "auth_type = cert takes clients by their certificates, which client_tls_sslmode does "
			       "not demand");
		return -E_SYNTAX;
	}
	if (conf->client_tls_sslmode == CONF_SSL_VERIFY_FULL && !has_ca) {
		conf_error_set(err, "name the file with the authorities that certify your clients",
			       "client_tls_ca_file: not set; client_tls_sslmode = verify-full needs it");
		return -E_SYNTAX;
	}
	return 0;
}

static struct tls_setup tls_conf_client_setup(const struct conf *conf)
{
	return (struct tls_setup){
		.faces_clients = true,
		.verify = conf->client_tls_sslmode >= CONF_SSL_VERIFY_CA ? TLS_VERIFY_REQUIRED : TLS_VERIFY_OFFERED,
		.key_file = conf->client_tls_key_file,
		.cert_file = conf->client_tls_cert_file,
		.ca_file = conf->client_tls_ca_file,
		.protocols = conf->client_tls_protocols,
		.ciphers = conf->client_tls_ciphers,
		.ciphers13 = conf->client_tls13_ciphers,
		.dheparams = conf->client_tls_dheparams,
		.ecdhcurve = conf->client_tls_ecdhcurve,
		.session_cache = conf->client_tls_session_cache,
	};
}

static struct tls_setup tls_conf_server_setup(const struct conf *conf)
{
	return (struct tls_setup){
		.verify = conf->server_tls_sslmode >= CONF_SSL_VERIFY_CA ? TLS_VERIFY_REQUIRED : TLS_VERIFY_NONE,
		.key_file = conf->server_tls_key_file,
		.cert_file = conf->server_tls_cert_file,
		.ca_file = conf->server_tls_ca_file,
		.protocols = conf->server_tls_protocols,
		.ciphers = conf->server_tls_ciphers,
		.ciphers13 = conf->server_tls13_ciphers,
		.session_cache = TLS_CONF_TARGETS,
	};
}

/* The old context if it is what the setup asks for, else a new one. */
static int tls_conf_context(const struct tls_setup *setup, struct tls_ctx *old, struct tls_ctx **out,
			    struct conf_error *err)
{
	char text[TLS_CTX_ERR_MAX];
	int rc;

	if (old != NULL && tls_ctx_is_current(old, setup)) {
		*out = tls_ctx_hold(old);
		return 0;
	}
	rc = tls_ctx_new(setup, out, text, sizeof(text));
	if (rc != 0)
		conf_error_set(err, NULL, "%s", text);
	return rc;
}

/* All settings towards servers in one text, to be freed by the caller. */
static char *tls_conf_server_words(const struct conf *conf)
{
	static const enum conf_id ids[] = {
		CONF_ID_server_tls_sslmode,  CONF_ID_server_tls_sslnegotiation, CONF_ID_server_tls_ca_file,
		CONF_ID_server_tls_key_file, CONF_ID_server_tls_cert_file,      CONF_ID_server_tls_protocols,
		CONF_ID_server_tls_ciphers,  CONF_ID_server_tls13_ciphers,
	};
	char *words = xcalloc(1, TLS_CONF_WORDS_MAX);

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		char *value = conf_show_value(conf, ids[i]);

		str_append(words, TLS_CONF_WORDS_MAX, "%s\n", value == NULL ? "" : value);
		free(value);
	}
	return words;
}

static unsigned tls_conf_version(const struct conf *conf, const struct tls_conf *tls, const struct tls_conf *old)
{
	bool has_changed;

	if (old == NULL)
		return 1;
	has_changed = strcmp(tls->server_words, old->server_words) != 0;
	if (conf->profile == CONF_PROFILE_PGSLUICE && tls->server != old->server)
		has_changed = true;
	if (tls->server == NULL && old->server == NULL)
		has_changed = false;
	return old->server_version + has_changed;
}

static bool tls_conf_is_equal(const struct tls_conf *a, const struct tls_conf *b)
{
	return a->client_mode == b->client_mode && a->client == b->client && a->server_mode == b->server_mode &&
	       a->server_direct == b->server_direct && a->server == b->server &&
	       strcmp(a->server_words, b->server_words) == 0;
}

/* What is allowed, but may not be what was meant. */
static void tls_conf_warn(const struct conf *conf, const struct tls_conf *tls, const struct tls_conf *old)
{
	bool is_new_client = tls->client != NULL && (old == NULL || old->client != tls->client);
	bool is_new_server = tls->server != NULL && (old == NULL || old->server != tls->server);

	if (is_new_client && tls->client_mode == CONF_SSL_VERIFY_CA && !str_is_set(conf->client_tls_ca_file))
		log_warning("client_tls_ca_file is not set: certificates of all authorities that the system trusts "
			    "are taken for those of clients");
	if (is_new_server && tls->server_mode < CONF_SSL_VERIFY_CA && str_is_set(conf->server_tls_ca_file))
		log_warning("server_tls_ca_file is not used: server_tls_sslmode = %s checks nothing, verify-full does",
			    conf_sslmode_name(tls->server_mode));
}

static int tls_conf_fill(struct tls_conf *tls, const struct conf *conf, const struct tls_conf *old,
			 struct conf_error *err)
{
	struct tls_setup setup;
	int rc = tls_conf_check(conf, err);

	tls->client_mode = (enum conf_sslmode)conf->client_tls_sslmode;
	tls->server_mode = (enum conf_sslmode)conf->server_tls_sslmode;
	tls->server_direct = conf->server_tls_sslnegotiation == CONF_SSLNEG_DIRECT;
	tls->server_words = tls_conf_server_words(conf);
	if (rc == 0 && tls->client_mode != CONF_SSL_DISABLE) {
		setup = tls_conf_client_setup(conf);
		rc = tls_conf_context(&setup, old == NULL ? NULL : old->client, &tls->client, err);
	}
	if (rc == 0 && tls->server_mode != CONF_SSL_DISABLE) {
		setup = tls_conf_server_setup(conf);
		rc = tls_conf_context(&setup, old == NULL ? NULL : old->server, &tls->server, err);
	}
	if (rc != 0)
		return rc;
	tls->server_version = tls_conf_version(conf, tls, old);
	tls_conf_warn(conf, tls, old);
	return 0;
}

int tls_conf_make(const struct conf *conf, struct tls_conf *old, struct tls_conf **out, struct conf_error *err)
{
	struct tls_conf *tls = xcalloc(1, sizeof(*tls));
	int rc;

	atomic_init(&tls->refs, 1);
	rc = tls_conf_fill(tls, conf, old, err);
	if (rc == 0 && old != NULL && tls_conf_is_equal(tls, old))
		*out = tls_conf_hold(old);
	else if (rc == 0)
		*out = tls_conf_hold(tls);
	else
		*out = NULL;
	tls_conf_release(&tls);
	return rc;
}

struct tls_conf *tls_conf_hold(struct tls_conf *tls)
{
	atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
	return tls;
}

void tls_conf_release(struct tls_conf **ref)
{
	struct tls_conf *tls = *ref;

	*ref = NULL;
	if (tls == NULL || atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) != 1)
		return;
	tls_ctx_release(&tls->client);
	tls_ctx_release(&tls->server);
	free(tls->server_words);
	free(tls);
}
