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
#include "pool/login_rules.h"
#include "pool/route.h"
#include "pool/verifiers.h"
#include "proto/build.h"
#include "proto/msg.h"

/* ---- limits ---- */

/* Counts the client under a limit (0: none); false when that is full. */
static bool login_count(atomic_uint *count, unsigned max)
{
	unsigned n = atomic_fetch_add_explicit(count, 1, memory_order_relaxed) + 1;

	return max == 0 || n <= max;
}

/* Who may log in to the console above all limits, to look into what is wrong. */
static bool login_is_admin(const struct login *login)
{
	return login_is_for_console(login) && conf_list_has(&login->snap->conf->admin_users, login->user);
}

static bool login_count_db(struct login *login)
{
	unsigned max = login_is_admin(login) ? 0 : route_max_db_clients(login->ctx->engine, login->db);

	login->is_counted_db = true;
	if (login_count(&login->db->clients, max))
		return true;
	login->is_over_limit = true;
	login_fail_limit(login, REASON_MAX_DB_CLIENTS, max);
	return false;
}

static bool login_count_user(struct login *login)
{
	const struct conf *conf = login->snap->conf;
	int limit = conf_max_user_client_connections(conf, conf_find_user(conf, login->user));
	unsigned max = login_is_admin(login) ? 0 : (unsigned)limit;

	login->is_counted_user = true;
	if (login_count(&login->account->clients, max))
		return true;
	login->is_over_limit = true;
	login_fail_limit(login, REASON_MAX_USER_CLIENTS, max);
	return false;
}

bool login_count_all(struct login *login)
{
	if (login->db != NULL && !login->is_counted_db && !login_count_db(login))
		return false;
	return login->account == NULL || login->is_counted_user || login_count_user(login);
}

/*
 * With PgBouncer a client counts before it has said who it is, so that anybody
 * may use up the limit of another. Under [pgsluice] it counts when that is known.
 */
static bool login_counts_late(const struct login *login)
{
	return login->snap->conf->profile == CONF_PROFILE_PGSLUICE;
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

static struct auth_asker login_asker(const struct login *login)
{
	return (struct auth_asker){
		.snap = login->snap,
		.database = login->database,
		.user = login->typed == NULL ? login->user : login->typed,
		.peer = &login->peer,
		.is_unix = login->is_unix,
	};
}

/* What was found before may have changed since. */
static void login_distrust(const struct login *login)
{
	const struct auth_asker asker = login_asker(login);

	if (login->is_asked || login->rules != NULL)
		auth_query_distrust(login->ctx, &asker);
}

/* Why it failed. What is wrong with a certificate or a map is for the administrator, always. */
static void login_log_failure(const struct login *login, const struct auth_out *out)
{
	bool is_setup = out->reason == AUTH_REASON_CERT || out->reason == AUTH_REASON_PEER;
	struct log_about about;

	if (out->detail[0] == '\0' || (!is_setup && login->ctx->snap->conf->log_connections == 0))
		return;
	login_describe(login, &about);
	if (is_setup)
		log_error_about(&about, "%s", out->detail);
	else
		log_info_about(&about, "%s: %s", auth_reason_text(out->reason), out->detail);
}

/* The client is who it says, by the word of others: what follows for a name that is new here. False: it has ended. */
static bool login_settle_foreign(struct login *login)
{
	const struct conf *conf = login->snap->conf;

	if (login->console == CONSOLE_STATS && !conf_list_has(&conf->stats_users, login->user)) {
		login_fail_reason(login, REASON_NOT_ALLOWED);
		return false;
	}
	if (login->account == NULL)
		login->account = registry_get_account(login->ctx->engine, login->user);
	return true;
}

static void login_deny(struct login *login, const struct auth_out *out)
{
	struct report report;

	login_log_failure(login, out);
	login_distrust(login);
	report_text(&report, login->snap->conf, auth_reason_text(out->reason), auth_reason_sqlstate(out->reason), NULL);
	login_fail(login, &report);
}

static void login_take_verdict(struct login *login, enum auth_verdict verdict, const struct auth_out *out)
{
	switch (verdict) {
	case AUTH_MORE:
		login->stage = LOGIN_AUTH;
		if (login_send_request(login, out))
			stream_want_read(&login->stream, true);
		break;
	case AUTH_JOB:
		login_job_begin(login);
		break;
	case AUTH_DONE:
		if (login_send_request(login, out) && (!auth_is_foreign(login->auth) || login_settle_foreign(login)))
			login_place(login);
		break;
	case AUTH_FAIL:
		login_deny(login, out);
		break;
	}
}

void login_auth_step(struct login *login, const uint8_t *payload, size_t n)
{
	struct auth_out out;
	enum auth_verdict verdict = auth_step(login->auth, payload, n, &out);

	login_take_verdict(login, verdict, &out);
}

void login_auth_answer(struct login *login, bool is_right, const char *detail)
{
	struct auth_out out;
	enum auth_verdict verdict = auth_answer(login->auth, is_right, detail, &out);

	login_take_verdict(login, verdict, &out);
}

/* A name that nobody knows; it goes through the same exchange as any other. */
static void login_log_stranger(const struct login *login)
{
	struct log_about about;

	login_describe(login, &about);
	log_stranger_about(&about, "no such user: %s", login->user);
}

/* The method for an auth_type that is one; see login_has_rules(). */
static enum auth_method login_method(const struct conf *conf)
{
	switch ((enum conf_auth_type)conf->auth_type) {
	case CONF_AUTH_ANY:
		return AUTH_METHOD_ANY;
	case CONF_AUTH_TRUST:
		return AUTH_METHOD_TRUST;
	case CONF_AUTH_PLAIN:
		return AUTH_METHOD_PLAIN;
	case CONF_AUTH_MD5:
		return AUTH_METHOD_MD5;
	case CONF_AUTH_SCRAM:
		return AUTH_METHOD_SCRAM;
	case CONF_AUTH_LDAP:
		return AUTH_METHOD_LDAP;
	case CONF_AUTH_PAM:
		return AUTH_METHOD_PAM;
	case CONF_AUTH_CERT:
	case CONF_AUTH_PEER:
	case CONF_AUTH_HBA:
		break;
	}
	UNREACHABLE();
}

/*
 * A name that nobody knows, or has no password, has the exchange that most
 * users have, so that it tells nothing in the usual case, where all secrets are
 * of one kind: auth_type md5 becomes SCRAM if it does so for most, and the
 * count of SCRAM is that of most.
 */
static void login_be_usual(const struct login *login, struct auth_setup *setup)
{
	unsigned iterations =
		login->is_asked ? atomic_load_explicit(&login->ctx->engine->found_iterations, memory_order_relaxed)
				: users_usual_iterations(login->snap->users);

	if (iterations == 0)
		return;
	if (setup->method == AUTH_METHOD_MD5)
		setup->method = AUTH_METHOD_SCRAM;
	setup->recipe.iterations = iterations;
}

void login_exchange(struct login *login, const struct user *user, const struct login_method *how)
{
	struct auth_setup setup = {
		.method = how->method,
		.user_name = login->user,
		.user = user,
		.recipe = verifiers_recipe(login->ctx->engine, login->snap->conf),
		.is_costly = login->is_costly || !users_are_derived(login->snap->users),
		.denied = how->denied,
	};
	uint8_t binding[TLS_BINDING_MAX];

	if (user == NULL || user->secret.type == SECRET_EMPTY)
		login_be_usual(login, &setup);
	if (login->stream.tls != NULL)
		setup.binding = slice_make(binding, tls_end_point(login->stream.tls, binding));
	login->ldap = how->ldap != NULL ? how->ldap : login->snap->ldap;
	login->pam = how->pam;
	if (setup.method == AUTH_METHOD_LDAP && login->ldap == NULL) {
		login_fail_reason(login, REASON_LDAP_OPTIONS);
		return;
	}
	login->auth = auth_new(&setup);
	mem_wipe(&setup.recipe, sizeof(setup.recipe));
	if (login->account == NULL && login->rules != NULL && !auth_is_foreign(login->auth))
		login_log_stranger(login);
	login_auth_step(login, NULL, 0);
}

/* True when LDAP or PAM judge every password. */
static bool login_is_judged(const struct conf *conf)
{
	return conf->auth_type == CONF_AUTH_LDAP || conf->auth_type == CONF_AUTH_PAM;
}

/* True when it takes more than auth_type to know the method, or who the client is. */
static bool login_has_rules(const struct conf *conf)
{
	return conf->auth_type == CONF_AUTH_HBA || conf->auth_type == CONF_AUTH_CERT ||
	       conf->auth_type == CONF_AUTH_PEER;
}

static void login_begin_auth(struct login *login, const struct user *user)
{
	const struct conf *conf = login->snap->conf;

	if (login_has_rules(conf)) {
		login_rules_begin(login, user);
	} else {
		const struct login_method how = { .method = login_method(conf) };

		login_exchange(login, user, &how);
	}
}

/* ---- names ---- */

/* Finds the database, and counts; false when the login has ended. */
static bool login_find_db(struct login *login)
{
	if (login_is_for_console(login))
		return true;
	login->db = registry_get_db(login->ctx->engine, login->database, REGISTRY_CONFIGURED, NULL);
	return login_counts_late(login) || login_count_all(login);
}

/* Registers the user, and counts; false when the login has ended. */
static bool login_find_user(struct login *login, const struct user *user)
{
	const struct conf *conf = login->snap->conf;
	const struct conf_user *conf_user = conf_find_user(conf, login->user);

	if (user == NULL && conf_user == NULL && conf->auth_type != CONF_AUTH_ANY)
		return true;
	login->account = registry_get_account(login->ctx->engine, login->user);
	return login_counts_late(login) || login_count_all(login);
}

/* True when the client is the user that runs this process, and names the console's own user. */
static bool login_is_owner(const struct login *login)
{
	uid_t uid;

	return login->is_unix && conf_is_console_name(login->user) &&
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
		login->console = CONSOLE_REFUSED;
	}
	if (login->console == CONSOLE_REFUSED && conf->profile == CONF_PROFILE_PGBOUNCER) {
		login_fail_reason(login, REASON_NOT_ALLOWED); /* before it has said who it is */
		return false;
	}
	return true;
}

/* True when names that are not in auth_file may be as good as any; login_exchange() knows for rules. */
static bool login_asks_others(const struct login *login)
{
	return login_is_judged(login->snap->conf) || login_has_rules(login->snap->conf);
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

/* The user is known, or it is known that nobody knows it. */
static void login_auth_user(struct login *login, const struct user *user)
{
	if (!login_find_user(login, user))
		return;
	if (login->account == NULL && !login_asks_others(login))
		login_log_stranger(login);
	login->is_named = true;
	login_log_attempt(login);
	if (login_is_for_console(login) && !login_check_console(login, user))
		return;
	login_begin_auth(login, user);
}

/* ---- users that a database knows ---- */

/* A login that waits for an answer of auth_query. */
struct login_query {
	struct login_lookup lookup;
	struct loop_ctx *ctx;
	struct auth_ask *ask;
};

/* The database could not be asked, or the query is no good. */
static void login_fail_query(struct login *login, const struct auth_answer *answer)
{
	struct report report;

	if (answer->text[0] == '\0') {
		login_fail_reason(login, REASON_CONFIG);
		return;
	}
	report_server(&report, answer->text, answer->sqlstate);
	login_fail(login, &report);
}

/* What those look like whom the database knows. */
static void login_note_found(const struct login *login, const struct user *user)
{
	unsigned iterations = user->secret.type == SECRET_SCRAM ? user->secret.scram->iterations : 0;

	atomic_store_explicit(&login->ctx->engine->found_iterations, iterations, memory_order_relaxed);
	atomic_store_explicit(&login->ctx->engine->found_plain, user->secret.type == SECRET_PLAIN,
			      memory_order_relaxed);
}

/*
 * Where the database has passwords in plain text, SCRAM derives a verifier for
 * each answer that names a user; an answer that there is none costs as much.
 */
static bool login_is_costly(const struct login *login, struct auth_answer *answer)
{
	return auth_answer_use(answer) && atomic_load_explicit(&login->ctx->engine->found_plain, memory_order_relaxed);
}

/* Goes on with an answer, which is taken over. */
static void login_take_answer(struct login *login, struct auth_answer *answer)
{
	switch (answer->outcome) {
	case AUTH_OUTCOME_FOUND:
		/* From here on the client is whom the database names, as if it had said so. */
		login->typed = xstrdup(login->user);
		login->found = answer;
		login_note_found(login, answer->user);
		login->is_costly = login_is_costly(login, answer);
		str_copy(login->user, sizeof(login->user), answer->user->name);
		login_auth_user(login, answer->user);
		return;
	case AUTH_OUTCOME_NONE:
		login->is_costly = login_is_costly(login, answer);
		login_auth_user(login, NULL);
		break;
	case AUTH_OUTCOME_FAILED:
	case AUTH_OUTCOME_DOWN:
		login_fail_query(login, answer);
		break;
	}
	auth_answer_release(&answer);
}

static void login_on_answer(void *arg, struct auth_answer *answer)
{
	struct login_query *query = arg;
	struct login *login = login_lookup_answered(&query->lookup);

	ASSERT(login != NULL); /* nobody is called who has left */
	free(query);
	login_take_answer(login, answer);
	login_lookup_end(login);
}

static void login_on_query_gone(struct login_lookup *lookup)
{
	struct login_query *query = CONTAINER_OF(lookup, struct login_query, lookup);

	auth_query_leave(query->ctx, &query->ask);
	free(query);
}

/* True when the database is to be asked for the user, whom no file knows. */
static bool login_must_ask(struct login *login)
{
	const struct auth_asker asker = login_asker(login);

	if (login->snap->conf->auth_type == CONF_AUTH_ANY)
		return false;
	if (login_is_for_console(login) && login_is_owner(login))
		return false;
	if (!login_rules_may_admit(login))
		return false;
	return auth_query_is_due(&asker);
}

/*
 * LDAP and PAM know users of their own, all of them: whoever sets auth_user for
 * a database as well has something else in mind. False when the login has ended.
 */
static bool login_check_query_method(struct login *login)
{
	int type = login->snap->conf->auth_type;
	struct log_about about;

	if (!login_is_judged(login->snap->conf) || login_is_for_console(login) || !login_must_ask(login))
		return true;
	login_describe(login, &about);
	log_error_about(&about, "%s can't be used together with database authorization",
			type == CONF_AUTH_PAM ? "PAM" : "LDAP");
	login_fail_reason(login, REASON_CONFIG);
	return false;
}

static void login_ask(struct login *login)
{
	struct login_query *query = xcalloc(1, sizeof(*query));
	struct auth_asker asker = login_asker(login);
	struct auth_answer *answer;
	struct log_about about;

	login_describe(login, &about);
	asker.about = &about;
	login->is_asked = true;
	query->ctx = login->ctx;
	query->lookup.on_gone = login_on_query_gone;
	answer = auth_query_lookup(login->ctx, &asker, login_on_answer, query, &query->ask);
	if (answer == NULL) {
		login_lookup_begin(login, &query->lookup);
		return;
	}
	free(query);
	login_take_answer(login, answer);
}

void login_auth_begin(struct login *login)
{
	const struct user *user = users_find(login->snap->users, login->user);

	if (!login_find_db(login))
		return;
	if (!login_check_query_method(login))
		return;
	if (user != NULL || login_is_judged(login->snap->conf) || !login_must_ask(login))
		login_auth_user(login, user);
	else
		login_ask(login);
}
