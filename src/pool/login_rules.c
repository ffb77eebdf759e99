/*
 * From rules to a method.
 *
 *   login_rules_begin() -> login_rules_go() -> a rule -> who the client is -> login_exchange()
 *                             ^       |
 *                             |       +-- something is not known: login_names_ask()
 *                             +------------------------------------------+
 *
 * Nothing is kept of an attempt that ends in a question but the answers: the
 * next one begins from the first rule, so that there is one way through it.
 *
 * cert and peer. PgBouncer compares the names of a certificate with the user's
 * as if they were host names: in any case, and "*.example.com" is everybody in
 * that domain. Under [pgbouncer] names are still compared in any case, and
 * addresses count, too; but a wildcard is a statement about hosts, and is
 * nobody here, under either profile. Under [pgsluice] the user's name stands in
 * the certificate as it is, as dNSName or commonName.
 */
#include "pool/login_rules.h"

#include "auth/ident.h"
#include "core/alloc.h"
#include "core/str.h"
#include "net/netif.h"

/* What auth_type alone demands. */
static const struct hba_demand login_demand_cert = { .method = AUTH_METHOD_CERT, .file = "" };
static const struct hba_demand login_demand_peer = { .method = AUTH_METHOD_PEER, .file = "" };

void login_rules_free(struct login_rules **rp)
{
	struct login_rules *r = *rp;

	*rp = NULL;
	if (r == NULL)
		return;
	auth_answer_release(&r->roles);
	free(r->hosts);
	free(r->client_name);
	free(r->system_name);
	free(r);
}

/* ---- what the rules ask for ---- */

static enum rule_answer login_rules_want(struct login_rules *r, enum login_question question)
{
	r->question = question;
	return RULE_UNKNOWN;
}

static enum rule_answer login_rules_ask_group(void *ctx, const char *group)
{
	const struct login *login = ctx;
	struct login_rules *r = login->rules;

	if (r->roles_state == RULE_UNKNOWN)
		return login_rules_want(r, LOGIN_ASK_ROLES);
	if (r->roles_state == RULE_YES)
		return auth_answer_has_role(r->roles, group) ? RULE_YES : RULE_NO;
	return r->roles_state;
}

/* Whether the client's own name ends so. */
static enum rule_answer login_rules_ask_suffix(struct login_rules *r, const char *suffix)
{
	size_t n = strlen(suffix);
	size_t len;

	if (r->client_state == RULE_UNKNOWN)
		return login_rules_want(r, LOGIN_ASK_CLIENT);
	if (r->client_state != RULE_YES)
		return r->client_state;
	len = strlen(r->client_name);
	return len > n && strcasecmp(r->client_name + len - n, suffix) == 0 ? RULE_YES : RULE_NO;
}

static enum rule_answer login_rules_ask_host(void *ctx, const char *name)
{
	const struct login *login = ctx;
	struct login_rules *r = login->rules;

	if (name[0] == '.')
		return login_rules_ask_suffix(r, name);
	for (size_t i = 0; i < r->host_count; i++) {
		if (strcmp(r->hosts[i].name, name) == 0)
			return r->hosts[i].answer;
	}
	r->host = name;
	return login_rules_want(r, LOGIN_ASK_HOST);
}

static bool login_rules_ask_own(void *ctx, bool whole_net)
{
	const struct login *login = ctx;
	struct sock_addr addr;

	sock_peer_get(&login->peer, &addr);
	return netif_has(&addr, whole_net);
}

/* ---- the rule ---- */

static void login_rules_facts(struct login *login, struct hba_facts *facts)
{
	*facts = (struct hba_facts){
		.database = login->database,
		.user = login->user,
		.is_unix = login->is_unix,
		.is_tls = stream_tls(&login->stream) != NULL,
		.ask_group = login_rules_ask_group,
		.ask_host = login_rules_ask_host,
		.ask_own = login_rules_ask_own,
		.ctx = login,
	};
	if (login->replication != NULL)
		facts->replication = login->replication->mode == REPLICATION_PHYSICAL ? HBA_REPLICATION_PHYSICAL
										      : HBA_REPLICATION_LOGICAL;
	if (!login->is_unix) {
		facts->ip_len = login->peer.family == AF_INET ? 4 : 16;
		memcpy(facts->ip, login->peer.ip, facts->ip_len);
	}
}

/* Finds the rule; false when that takes an answer, or the login has ended. */
static bool login_rules_find(struct login *login)
{
	struct hba_facts facts;
	struct log_about about;

	login_rules_facts(login, &facts);
	switch (hba_match(login->snap->hba, &facts, &login->rules->demand)) {
	case HBA_FOUND:
		if (log_is_on(LOG_LVL_DEBUG)) {
			login_describe(login, &about);
			log_debug_about(&about, "line %u of %s matches: %s", login->rules->demand->line,
					login->rules->demand->file, auth_method_name(login->rules->demand->method));
		}
		return true;
	case HBA_NONE:
		login_fail_reason(login, REASON_NO_RULE);
		return false;
	case HBA_CANNOT_TELL:
		login_fail_reason(login, REASON_CONFIG);
		return false;
	case HBA_ASK:
		login_names_ask(login);
		return false;
	}
	UNREACHABLE();
}

/* ---- who the client is ---- */

/* The answer that stands for "yes, it is the user": RULE_YES with a reason in `denied` when it is not. */
static enum rule_answer login_rules_deny(struct login_rules *r, const char *why)
{
	str_copy(r->denied, sizeof(r->denied), why);
	return RULE_YES;
}

static struct ident_question login_rules_question(struct login *login, const char *name)
{
	return (struct ident_question){
		.map = login->rules->demand->map,
		.name = name,
		.user = login->user,
		.ask = login_rules_ask_group,
		.ctx = login,
	};
}

/* RULE_UNKNOWN when something has to be asked; else `denied` is filled in. */
static enum rule_answer login_rules_check_peer(struct login *login)
{
	struct login_rules *r = login->rules;
	struct ident_question q;

	if (!login->is_unix)
		return login_rules_deny(r, "Unix socket required");
	if (r->system_state == RULE_UNKNOWN)
		return login_rules_want(r, LOGIN_ASK_SYSTEM);
	if (r->system_state != RULE_YES)
		return login_rules_deny(r, "the name of the system user is not known");
	if (r->demand->map == NULL) {
		if (strcmp(r->system_name, login->user) != 0)
			str_format(r->denied, sizeof(r->denied), "system user \"%s\" is another one", r->system_name);
		return RULE_YES;
	}
	q = login_rules_question(login, r->system_name);
	switch (ident_matches(hba_ident(login->snap->hba), &q)) {
	case RULE_UNKNOWN:
		return RULE_UNKNOWN;
	case RULE_YES:
		return RULE_YES;
	default:
		str_format(r->denied, sizeof(r->denied), "ident map %s cannot be matched", r->demand->map);
		return RULE_YES;
	}
}

/* The search for the user among the names of a certificate. */
struct login_cert {
	struct login *login;
	bool is_lenient; /* as PgBouncer: in any case, and addresses, too */
	enum rule_answer best;
};

static bool login_rules_try_name(void *arg, enum tls_name kind, const char *name)
{
	struct login_cert *c = arg;
	const struct hba_demand *demand = c->login->rules->demand;
	const char *user = c->login->user;
	struct ident_question q;
	enum rule_answer answer;

	if (kind == TLS_NAME_DN || (kind == TLS_NAME_IP && !c->is_lenient))
		return true;
	if (demand->method == AUTH_METHOD_CERT && demand->map != NULL) {
		q = login_rules_question(c->login, name);
		q.ignore_case = c->is_lenient;
		answer = ident_matches(hba_ident(c->login->snap->hba), &q);
	} else if (c->is_lenient) {
		answer = strcasecmp(name, user) == 0 ? RULE_YES : RULE_NO;
	} else {
		answer = strcmp(name, user) == 0 ? RULE_YES : RULE_NO;
	}
	if (answer == RULE_YES || (answer == RULE_UNKNOWN && c->best != RULE_YES))
		c->best = answer;
	return answer != RULE_YES;
}

/* As login_rules_check_peer(). */
static enum rule_answer login_rules_check_cert(struct login *login)
{
	struct login_rules *r = login->rules;
	const struct hba_demand *demand = r->demand;
	const struct tls *tls = stream_tls(&login->stream);
	struct login_cert c = {
		.login = login,
		.is_lenient = login->snap->conf->profile == CONF_PROFILE_PGBOUNCER,
		.best = RULE_NO,
	};

	if (tls == NULL)
		return login_rules_deny(r, "TLS connection required");
	if (!tls_has_peer_cert(tls))
		return login_rules_deny(r, "TLS client certificate required");
	if (demand->method != AUTH_METHOD_CERT && demand->clientcert == HBA_CLIENTCERT_CA)
		return RULE_YES;
	tls_each_peer_name(tls, login_rules_try_name, &c);
	if (c.best != RULE_NO)
		return c.best;
	if (demand->method == AUTH_METHOD_CERT && demand->map != NULL)
		str_format(r->denied, sizeof(r->denied), "ident map: %s does not have a match", demand->map);
	else
		str_copy(r->denied, sizeof(r->denied), "TLS certificate name mismatch");
	return RULE_YES;
}

/* ---- on to the exchange ---- */

void login_rules_go(struct login *login)
{
	struct login_rules *r = login->rules;
	struct login_method how = { 0 };

	r->question = LOGIN_ASK_NOTHING;
	r->denied[0] = '\0';
	if (r->demand == NULL && !login_rules_find(login))
		return;
	how.method = r->demand->method;
	if (how.method == AUTH_METHOD_PEER) {
		if (login_rules_check_peer(login) == RULE_UNKNOWN)
			goto ask;
	} else if (how.method == AUTH_METHOD_CERT || r->demand->clientcert != HBA_CLIENTCERT_ANY) {
		if (login_rules_check_cert(login) == RULE_UNKNOWN)
			goto ask;
		/* A certificate that is wrong is so whatever the password. */
		if (r->denied[0] != '\0')
			how.method = AUTH_METHOD_CERT;
	} else if (how.method == AUTH_METHOD_REJECT) {
		str_format(r->denied, sizeof(r->denied), "line %u of %s", r->demand->line, r->demand->file);
	}
	how.denied = r->denied[0] == '\0' ? NULL : r->denied;
	how.ldap = r->demand->ldap;
	how.pam = &r->demand->pam;
	login_exchange(login, r->user, &how);
	return;
ask:
	login_names_ask(login);
}

bool login_rules_may_admit(struct login *login)
{
	struct hba_facts facts;

	if (login->snap->conf->auth_type != CONF_AUTH_HBA)
		return true;
	login_rules_facts(login, &facts);
	return hba_may_admit(login->snap->hba, &facts);
}

void login_rules_begin(struct login *login, const struct user *user)
{
	struct login_rules *r = xcalloc(1, sizeof(*r));

	ASSERT(login->rules == NULL);
	login->rules = r;
	r->user = user;
	r->roles_state = RULE_UNKNOWN;
	r->client_state = RULE_UNKNOWN;
	r->system_state = RULE_UNKNOWN;
	if (login->snap->conf->auth_type == CONF_AUTH_CERT)
		r->demand = &login_demand_cert;
	else if (login->snap->conf->auth_type == CONF_AUTH_PEER)
		r->demand = &login_demand_peer;
	login_rules_go(login);
}
