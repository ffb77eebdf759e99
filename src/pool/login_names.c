/*
 * What a login by rules asks of others, one question at a time:
 *
 *     roles     whose member the user is: a query, see auth_query.c
 *     host      the addresses of a host name: the resolver
 *     client    the name of the client's address, as the address of that name
 *               confirms it: the C library, on a helper thread
 *     system    the name of a system user: likewise, as it may come from a
 *               directory service
 *
 * Each question is an object of its own, with the login_lookup in it: the login
 * may be over when the answer comes.
 */
#include <netdb.h>
#include <pwd.h>

#include "core/alloc.h"
#include "core/str.h"
#include "net/job.h"
#include "pool/auth_query.h"
#include "pool/login_rules.h"

/* The login goes on with what it knows now. */
static void login_names_go_on(struct login *login)
{
	login_rules_go(login);
	login_lookup_end(login);
}

/* ---- roles ---- */

struct login_roles_query {
	struct login_lookup lookup;
	struct loop_ctx *ctx;
	struct auth_ask *ask;
};

/* Notes an answer, which is taken over. */
static void login_names_take_roles(struct login *login, struct auth_answer *answer)
{
	struct login_rules *r = login->rules;
	bool is_known = answer->outcome == AUTH_OUTCOME_FOUND || answer->outcome == AUTH_OUTCOME_NONE;

	r->roles_state = is_known ? RULE_YES : RULE_FAILED;
	if (is_known)
		r->roles = answer;
	else
		auth_answer_release(&answer);
}

static void login_names_on_roles(void *arg, struct auth_answer *answer)
{
	struct login_roles_query *query = arg;
	struct login *login = login_lookup_answered(&query->lookup);

	ASSERT(login != NULL); /* nobody is called who has left */
	free(query);
	login_names_take_roles(login, answer);
	login_names_go_on(login);
}

static void login_names_on_roles_gone(struct login_lookup *lookup)
{
	struct login_roles_query *query = CONTAINER_OF(lookup, struct login_roles_query, lookup);

	auth_query_leave(query->ctx, &query->ask);
	free(query);
}

static void login_names_ask_roles(struct login *login)
{
	const struct auth_asker asker = {
		.snap = login->snap,
		.database = login->database,
		.user = login->user,
		.peer = &login->peer,
		.is_unix = login->is_unix,
	};
	struct login_roles_query *query;
	struct auth_answer *answer;
	struct log_about about;

	if (!auth_query_is_due(&asker)) {
		login_describe(login, &about);
		log_error_about(&about, "a rule names a group, and there is no auth_user to ask for its members");
		login->rules->roles_state = RULE_FAILED;
		login_rules_go(login);
		return;
	}
	query = xcalloc(1, sizeof(*query));
	query->ctx = login->ctx;
	query->lookup.on_gone = login_names_on_roles_gone;
	answer = auth_roles_lookup(login->ctx, &asker, login_names_on_roles, query, &query->ask);
	if (answer == NULL) {
		login_lookup_begin(login, &query->lookup);
		return;
	}
	free(query);
	login_names_take_roles(login, answer);
	login_rules_go(login);
}

/* ---- the addresses of a host name ---- */

struct login_host_query {
	struct login_lookup lookup;
	struct dns_request request;
	const char *name; /* belongs to the rules, which the login holds */
};

static enum rule_answer login_names_compare(const struct login *login, const struct dns_request *request)
{
	struct log_about about;
	struct sock_addr own;

	sock_peer_get(&login->peer, &own);
	for (unsigned i = 0; request->err == 0 && i < request->count; i++) {
		if (sock_addr_same_host(&request->addrs[i], &own))
			return RULE_YES;
	}
	if (request->err == 0 || request->err == -E_NOENT)
		return RULE_NO;
	login_describe(login, &about);
	log_warning_about(&about, "could not look up the host name \"%s\" of a rule: %s", request->name,
			  err_str(request->err));
	return RULE_FAILED;
}

static void login_names_on_host(struct dns_request *request)
{
	struct login_host_query *query = CONTAINER_OF(request, struct login_host_query, request);
	struct login *login = login_lookup_answered(&query->lookup);
	struct login_rules *r;

	if (login != NULL) {
		r = login->rules;
		r->hosts = xrealloc(r->hosts, (r->host_count + 1) * sizeof(*r->hosts));
		r->hosts[r->host_count++] = (struct login_host){ query->name, login_names_compare(login, request) };
	}
	free(query);
	if (login != NULL)
		login_names_go_on(login);
}

static void login_names_ask_host(struct login *login)
{
	struct login_host_query *query = xcalloc(1, sizeof(*query));

	query->name = login->rules->host;
	query->request.loop = login->ctx->loop;
	query->request.done = login_names_on_host;
	login_lookup_begin(login, &query->lookup);
	dns_lookup(login->ctx->engine->dns, query->name, 0, &query->request);
}

/* ---- what only the C library knows ---- */

struct login_name_job {
	struct job job;
	struct login_lookup lookup;
	enum login_question question; /* LOGIN_ASK_CLIENT or LOGIN_ASK_SYSTEM */
	struct sock_addr addr;        /* of the client */
	uid_t uid;                    /* of the system user */
	enum rule_answer state;       /* RULE_YES: `name` is the answer */
	char name[NI_MAXHOST];
};

/* True when one of the addresses of the name is that of the client. */
static bool login_names_confirm(const struct login_name_job *query, const struct addrinfo *list)
{
	struct sock_addr addr;

	for (; list != NULL; list = list->ai_next) {
		if (sock_addr_set(&addr, list->ai_addr, list->ai_addrlen) && sock_addr_same_host(&addr, &query->addr))
			return true;
	}
	return false;
}

static void login_names_work_client(struct login_name_job *query)
{
	const struct addrinfo hints = { .ai_family = query->addr.u.sa.sa_family, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	int rc =
		getnameinfo(&query->addr.u.sa, query->addr.len, query->name, sizeof(query->name), NULL, 0, NI_NAMEREQD);

	/* Whoever owns an address may give it any name; only the owner of the name can confirm that. */
	if (rc == 0)
		rc = getaddrinfo(query->name, NULL, &hints, &list);
	if (rc == 0)
		query->state = login_names_confirm(query, list) ? RULE_YES : RULE_NO;
	else
		query->state = rc == EAI_NONAME ? RULE_NO : RULE_FAILED;
	if (list != NULL)
		freeaddrinfo(list);
}

static void login_names_work_system(struct login_name_job *query)
{
	char buf[16384];
	struct passwd pw;
	struct passwd *found = NULL;

	query->state = getpwuid_r(query->uid, &pw, buf, sizeof(buf), &found) != 0 ? RULE_FAILED : RULE_NO;
	if (found != NULL && str_copy(query->name, sizeof(query->name), found->pw_name))
		query->state = RULE_YES;
}

static void login_names_on_work(struct job *job)
{
	struct login_name_job *query = CONTAINER_OF(job, struct login_name_job, job);

	if (query->question == LOGIN_ASK_CLIENT)
		login_names_work_client(query);
	else
		login_names_work_system(query);
}

static void login_names_take_name(struct login_rules *r, const struct login_name_job *query)
{
	enum rule_answer *state = query->question == LOGIN_ASK_CLIENT ? &r->client_state : &r->system_state;
	char **name = query->question == LOGIN_ASK_CLIENT ? &r->client_name : &r->system_name;

	*state = query->state;
	if (query->state == RULE_YES)
		*name = xstrdup(query->name);
}

static void login_names_on_done(struct job *job)
{
	struct login_name_job *query = CONTAINER_OF(job, struct login_name_job, job);
	struct login *login = login_lookup_answered(&query->lookup);

	ASSERT(login != NULL); /* else the job was cancelled */
	login_names_take_name(login->rules, query);
	login_names_go_on(login);
}

static void login_names_on_free(struct job *job)
{
	free(CONTAINER_OF(job, struct login_name_job, job));
}

static const struct job_ops login_names_ops = {
	.work = login_names_on_work,
	.done = login_names_on_done,
	.free = login_names_on_free,
};

static void login_names_on_job_gone(struct login_lookup *lookup)
{
	struct job *job = &CONTAINER_OF(lookup, struct login_name_job, lookup)->job;

	job_cancel(&job);
}

static void login_names_ask_job(struct login *login)
{
	struct login_name_job *query = xcalloc(1, sizeof(*query));
	struct log_about about;
	int err = 0;

	query->job.ops = &login_names_ops;
	query->job.loop = login->ctx->loop;
	query->lookup.on_gone = login_names_on_job_gone;
	query->question = login->rules->question;
	query->state = RULE_FAILED;
	login_set_source(login, &query->job);
	if (query->question == LOGIN_ASK_CLIENT)
		sock_peer_get(&login->peer, &query->addr);
	else
		err = sock_peer_cred(login->stream.fd, &query->uid, NULL);
	if (err == 0)
		err = job_submit(login->ctx->engine->jobs[ENGINE_JOB_NAMES], &query->job);
	if (err == 0) {
		login_lookup_begin(login, &query->lookup);
		return;
	}
	login_describe(login, &about);
	log_warning_about(&about, "could not look up the name of the %s: %s",
			  query->question == LOGIN_ASK_CLIENT ? "client's address" : "system user",
			  err == -E_RANGE ? "too many at once from there" : err_str(err));
	login_names_take_name(login->rules, query);
	free(query);
	login_rules_go(login);
}

void login_names_ask(struct login *login)
{
	switch (login->rules->question) {
	case LOGIN_ASK_ROLES:
		login_names_ask_roles(login);
		return;
	case LOGIN_ASK_HOST:
		login_names_ask_host(login);
		return;
	case LOGIN_ASK_CLIENT:
	case LOGIN_ASK_SYSTEM:
		login_names_ask_job(login);
		return;
	case LOGIN_ASK_NOTHING:
		break;
	}
	UNREACHABLE();
}
