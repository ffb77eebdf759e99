/*
 * Passwords that somebody else judges: an LDAP server, PAM. The login waits in
 * LOGIN_LOOKUP while a helper thread asks, and client_login_timeout rules as
 * ever; when the client goes away meanwhile, the question is taken back.
 *
 *     login_job_begin() --> helper thread --> login_auth_answer()
 *            \--> the queue is full, or half full of this client's address: refused at once
 *
 * The job has a copy of all that it needs, since the login may be over and the
 * configuration another one while it runs.
 */
#include <netdb.h>

#include "auth/hba.h"
#include "auth/ldap.h"
#include "auth/pam.h"
#include "core/alloc.h"
#include "core/str.h"
#include "net/job.h"
#include "pool/login_int.h"

struct login_job {
	struct job job;
	struct login_lookup lookup;
	struct ldap_options *ldap; /* held; NULL: PAM */
	char *service;             /* of PAM */
	char *user;
	char *password;
	struct sock_addr peer; /* len 0: on a Unix socket */
	bool use_hostname;     /* PAM is told the name of that address */
	int rc;                /* 0, or why the password is not right */
	char detail[256];
};

/* Where the client comes from, as PostgreSQL tells PAM. Asks the resolver for names, so it may block. */
static void login_job_rhost(const struct login_job *lj, char *dst, size_t size)
{
	if (lj->peer.len == 0)
		str_copy(dst, size, "[local]");
	else if (!lj->use_hostname || getnameinfo(&lj->peer.u.sa, lj->peer.len, dst, (socklen_t)size, NULL, 0, 0) != 0)
		sock_addr_host(&lj->peer, dst, size);
}

/* On a helper thread. */
static void login_job_work(struct job *job)
{
	struct login_job *lj = CONTAINER_OF(job, struct login_job, job);
	char rhost[NI_MAXHOST];
	struct pam_question question = {
		.service = lj->service,
		.user = lj->user,
		.password = lj->password,
		.rhost = rhost,
	};

	if (lj->ldap != NULL) {
		lj->rc = ldap_check(lj->ldap, lj->user, lj->password, lj->detail, sizeof(lj->detail));
		return;
	}
	login_job_rhost(lj, rhost, sizeof(rhost));
	lj->rc = pam_check(&question, lj->detail, sizeof(lj->detail));
}

static void login_job_done(struct job *job)
{
	struct login_job *lj = CONTAINER_OF(job, struct login_job, job);
	struct login *login = login_lookup_answered(&lj->lookup);
	struct log_about about;

	ASSERT(login != NULL); /* one that is over has cancelled its job */
	if (lj->rc != 0 && lj->rc != -E_AUTH) {
		login_describe(login, &about);
		log_warning_about(&about, "could not check the password: %s", lj->detail);
		lj->detail[0] = '\0';
	}
	login_auth_answer(login, lj->rc == 0, lj->detail);
	login_lookup_end(login);
}

static void login_job_free(struct job *job)
{
	struct login_job *lj = CONTAINER_OF(job, struct login_job, job);

	ldap_options_release(&lj->ldap);
	free(lj->service);
	free(lj->user);
	free_secret(lj->password);
	free(lj);
}

static const struct job_ops login_job_ops = {
	.work = login_job_work,
	.done = login_job_done,
	.free = login_job_free,
};

/* The login is over, and nobody wants the answer. */
static void login_job_on_gone(struct login_lookup *lookup)
{
	struct job *job = &CONTAINER_OF(lookup, struct login_job, lookup)->job;

	job_cancel(&job);
}

/* The question to PAM: what the rule says goes before the settings. */
static void login_job_set_pam(struct login_job *lj, const struct login *login)
{
	const struct hba_pam *pam = login->pam;
	const char *service = login->snap->conf->auth_pam_service;

	if (pam != NULL && pam->service != NULL)
		service = pam->service;
	lj->service = xstrdup(service);
	lj->use_hostname = pam != NULL && pam->use_hostname;
	if (!login->is_unix)
		sock_peer_get(&login->peer, &lj->peer);
}

void login_set_source(const struct login *login, struct job *job)
{
	bool is_local;

	if (login->is_unix)
		return;
	job->source = login_turn_source(login, &is_local);
	job->has_source = !is_local;
}

static struct login_job *login_job_new(const struct login *login)
{
	struct login_job *lj = xcalloc(1, sizeof(*lj));

	lj->job.ops = &login_job_ops;
	lj->job.loop = login->ctx->loop;
	login_set_source(login, &lj->job);
	lj->rc = -E_SYS; /* until the work is done */
	str_copy(lj->detail, sizeof(lj->detail), "there is no thread to ask with");
	lj->lookup.on_gone = login_job_on_gone;
	lj->user = xstrdup(login->user);
	lj->password = xstrdup(auth_plain_password(login->auth));
	if (auth_method_of(login->auth) == AUTH_METHOD_LDAP)
		lj->ldap = ldap_options_hold(login->ldap);
	else
		login_job_set_pam(lj, login);
	return lj;
}

void login_job_begin(struct login *login)
{
	struct engine *engine = login->ctx->engine;
	struct login_job *lj = login_job_new(login);
	bool is_ldap = lj->ldap != NULL;
	struct log_about about;
	int err = job_submit(engine->jobs[is_ldap ? ENGINE_JOB_LDAP : ENGINE_JOB_PAM], &lj->job);

	if (err == 0) {
		login_lookup_begin(login, &lj->lookup);
		return;
	}
	login_job_free(&lj->job);
	if (err == -E_NOSPACE || err == -E_RANGE) {
		login_describe(login, &about);
		log_warning_about(&about, "%s queue is %s, refusing the login", is_ldap ? "LDAP" : "PAM",
				  err == -E_NOSPACE ? "full" : "half full of the client's address");
	}
	login_fail_reason(login, REASON_AUTH_BUSY);
}
