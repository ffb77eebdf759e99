/*
 * Who a client is: its names are looked up and counted, and the exchange of
 * its method is driven to the end.
 *
 *   login_auth_begin() --> login_begin_auth() --> login_auth_step() ... --> login_place()
 *
 * Unknown users go through the same exchange as known ones.
 */
#include "core/alloc.h"
#include "core/str.h"
#include "pool/login_int.h"
#include "pool/route.h"
#include "proto/build.h"
#include "proto/msg.h"

/* ---- limits ---- */

/* Counts the client under a limit (0: none); false when that is full. */
static bool login_count(atomic_uint *count, unsigned max)
{
	unsigned n = atomic_fetch_add_explicit(count, 1, memory_order_relaxed) + 1;

	return max == 0 || n <= max;
}

bool login_count_db(struct login *login)
{
	bool is_admin = conf_list_has(&login->snap->conf->admin_users, login->user);
	unsigned max = is_admin ? 0 : route_max_db_clients(login->ctx->engine, login->db);

	if (login_count(&login->db->clients, max))
		return true;
	login_fail_limit(login, REASON_MAX_DB_CLIENTS, max);
	return false;
}

/* ---- the exchange ---- */

/* Sends what a step asks for; false when the login has ended. */
static bool login_send_request(struct login *login, const struct auth_out *out)
{
	struct slice body = slice_make(out->body, out->body_len);
	struct buf b;

	buf_init(&b, LOGIN_OUT_MAX);
	switch (out->request) {
	case AUTH_REQ_OK:
		return true;
	case AUTH_REQ_PASSWORD:
		return login_send(login, &b, build_auth_cleartext(&b));
	case AUTH_REQ_MD5:
		ASSERT(out->body_len == 4);
		return login_send(login, &b, build_auth_md5(&b, out->body));
	case AUTH_REQ_SASL:
		return login_send(login, &b, build_auth_sasl(&b, body));
	case AUTH_REQ_SASL_CONTINUE:
		return login_send(login, &b, build_auth_sasl_continue(&b, body));
	case AUTH_REQ_SASL_FINAL:
		return login_send(login, &b, build_auth_sasl_final(&b, body));
	}
	UNREACHABLE();
}

void login_auth_step(struct login *login, const uint8_t *payload, size_t n)
{
	struct log_about about;
	struct report report;
	struct auth_out out;

	switch (auth_step(login->auth, payload, n, &out)) {
	case AUTH_MORE:
		login->stage = LOGIN_AUTH;
		if (login_send_request(login, &out))
			stream_want_read(&login->stream, true);
		break;
	case AUTH_DONE:
		if (login_send_request(login, &out))
			login_place(login);
		break;
	case AUTH_FAIL:
		if (out.detail != NULL && out.detail[0] != '\0' && login->ctx->snap->conf->log_connections != 0) {
			login_describe(login, &about);
			log_info_about(&about, "%s: %s", auth_reason_text(out.reason), out.detail);
		}
		report_text(&report, login->snap->conf, auth_reason_text(out.reason), auth_reason_sqlstate(out.reason),
			    NULL);
		login_fail(login, &report);
		break;
	}
}

/* The method for auth_type; false when this build cannot do it, so that nobody gets in. */
static bool login_method(const struct conf *conf, enum auth_method *method)
{
	switch ((enum conf_auth_type)conf->auth_type) {
	case CONF_AUTH_ANY:
		*method = AUTH_METHOD_ANY;
		return true;
	case CONF_AUTH_TRUST:
		*method = AUTH_METHOD_TRUST;
		return true;
	case CONF_AUTH_PLAIN:
		*method = AUTH_METHOD_PLAIN;
		return true;
	case CONF_AUTH_MD5:
		*method = AUTH_METHOD_MD5;
		return true;
	case CONF_AUTH_SCRAM:
		*method = AUTH_METHOD_SCRAM;
		return true;
	default:
		return false;
	}
}

static void login_begin_auth(struct login *login, const struct user *user)
{
	const struct conf *conf = login->snap->conf;
	struct auth_setup setup = {
		.user_name = login->user,
		.user = user,
		.scram_iterations = conf->scram_iterations,
	};
	uint8_t binding[TLS_BINDING_MAX];

	if (login->stream.tls != NULL)
		setup.binding = slice_make(binding, tls_end_point(login->stream.tls, binding));

	if (!login_method(conf, &setup.method)) {
		log_error("auth_type \"%s\" is not supported yet", conf_auth_type_name(conf->auth_type));
		login_fail_reason(login, REASON_CONFIG);
		return;
	}
	login->auth = auth_new(&setup);
	login_auth_step(login, NULL, 0);
}

/* ---- names ---- */

/* Finds and counts database and user; false when the login has ended. */
static bool login_find(struct login *login, const struct user *user)
{
	struct engine *engine = login->ctx->engine;
	const struct conf *conf = login->snap->conf;
	const struct conf_user *conf_user = conf_find_user(conf, login->user);
	bool is_admin = conf_list_has(&conf->admin_users, login->user);
	unsigned max;

	if (!login_is_console_name(login->database)) {
		login->db = registry_get_db(engine, login->database, REGISTRY_CONFIGURED, NULL);
		if (login->db != NULL && !login_count_db(login))
			return false;
	}
	if (user == NULL && conf_user == NULL && conf->auth_type != CONF_AUTH_ANY)
		return true;
	login->account = registry_get_account(engine, login->user);
	max = is_admin ? 0 : (unsigned)conf_max_user_client_connections(conf, conf_user);
	if (!login_count(&login->account->clients, max)) {
		login_fail_limit(login, REASON_MAX_USER_CLIENTS, max);
		return false;
	}
	return true;
}

/* True when the client is the user that runs this process, and names the console's own user. */
static bool login_is_owner(const struct login *login)
{
	uid_t uid;

	return login->is_unix && login_is_console_name(login->user) &&
	       sock_peer_cred(login->stream.fd, &uid, NULL) == 0 && uid == geteuid();
}

/* Who may use the console; false when the login has ended or is complete. */
static bool login_check_console(struct login *login, const struct user *user)
{
	const struct conf *conf = login->snap->conf;
	struct log_about about;

	login->console = CONSOLE_STATS;
	if (login_is_owner(login)) {
		login->console = CONSOLE_ADMIN;
		if (conf->log_connections != 0) {
			login_describe(login, &about);
			log_info_about(&about, "pgbouncer access from unix socket");
		}
		login_place(login);
		return false;
	}
	if (conf_list_has(&conf->admin_users, login->user)) {
		login->console = CONSOLE_ADMIN;
	} else if (!conf_list_has(&conf->stats_users, login->user) && conf->auth_type != CONF_AUTH_ANY &&
		   user != NULL) {
		login_fail_reason(login, REASON_NOT_ALLOWED);
		return false;
	}
	return true;
}

/* A name that nobody knows; it goes through the same exchange as any other. */
static void login_log_stranger(const struct login *login)
{
	struct log_about about;

	login_describe(login, &about);
	log_info_about(&about, "no such user: %s", login->user);
}

static void login_log_attempt(const struct login *login)
{
	struct log_about about;
	char tls[TLS_INFO_MAX] = "no";

	if (login->snap->conf->log_connections == 0)
		return;
	login_describe(login, &about);
	if (login->stream.tls != NULL)
		tls_info(login->stream.tls, tls, sizeof(tls));
	log_info_about(&about, "login attempt: db=%s user=%s tls=%s replication=%s", login->database, login->user, tls,
		       replication_value(login->replication == NULL ? REPLICATION_NONE : login->replication->mode));
}

void login_auth_begin(struct login *login)
{
	const struct user *user = users_find(login->snap->users, login->user);

	if (!login_find(login, user))
		return;
	if (login->account == NULL)
		login_log_stranger(login);
	login->is_named = true;
	login_log_attempt(login);
	if (login_is_console_name(login->database) && !login_check_console(login, user))
		return;
	login_begin_auth(login, user);
}
