/*
 * The pam method: pam_authenticate(), then pam_acct_mgmt(), which knows about
 * expired accounts and about hours and hosts.
 *
 * PAM asks back through a conversation. We have one answer, the password, and
 * give it once, to the first question whose answer is not to be seen: it is not
 * for a module behind that asks for something else.
 *
 * Modules start programs (pam_exec, pam_unix). Those are not to inherit what a
 * helper thread of a server has: blocked signals, SIGPIPE ignored. They would be
 * deaf to timeout(1) and write into closed pipes for ever.
 */
#include "auth/pam.h"

#include "core/alloc.h"
#include "core/str.h"

#ifdef HAVE_PAM

#include <pthread.h>
#include <security/pam_appl.h>
#include <signal.h>

struct pam_talk {
	const char *password;
	bool was_given;
	char *detail;
	size_t detail_size;
};

static pthread_once_t pam_once = PTHREAD_ONCE_INIT;
static _Thread_local bool pam_is_asking; /* this thread is in the library */

bool pam_is_supported(void)
{
	return true;
}

/* In the child of a fork. */
static void pam_on_fork(void)
{
	sigset_t none;

	if (!pam_is_asking)
		return;
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
}

static void pam_watch_forks(void)
{
	int err = pthread_atfork(NULL, NULL, pam_on_fork);

	ASSERT(err == 0);
}

static void pam_free_answers(struct pam_response *answers, int n)
{
	for (int i = 0; i < n; i++)
		free_secret(answers[i].resp);
	free(answers);
}

/* One question; PAM frees the answer with free(). */
static int pam_answer_one(struct pam_talk *talk, const struct pam_message *message, struct pam_response *answer)
{
	switch (message->msg_style) {
	case PAM_PROMPT_ECHO_OFF:
		if (talk->was_given)
			return PAM_CONV_ERR;
		talk->was_given = true;
		answer->resp = strdup(talk->password);
		return answer->resp == NULL ? PAM_BUF_ERR : PAM_SUCCESS;
	case PAM_ERROR_MSG:
		str_format(talk->detail, talk->detail_size, "%s", message->msg == NULL ? "" : message->msg);
		return PAM_SUCCESS;
	case PAM_TEXT_INFO:
		return PAM_SUCCESS;
	default:
		return PAM_CONV_ERR;
	}
}

static int pam_converse_cb(int n, const struct pam_message **messages, struct pam_response **out, void *arg)
{
	struct pam_response *answers;

	*out = NULL;
	if (n <= 0 || n > PAM_MAX_NUM_MSG)
		return PAM_CONV_ERR;
	answers = calloc((size_t)n, sizeof(*answers));
	if (answers == NULL)
		return PAM_BUF_ERR;
	for (int i = 0; i < n; i++) {
		int rc = pam_answer_one(arg, messages[i], &answers[i]);

		if (rc != PAM_SUCCESS) {
			pam_free_answers(answers, n);
			return rc;
		}
	}
	*out = answers;
	return PAM_SUCCESS;
}

/* Puts what failed before what a module has said about it. */
static int pam_fail(struct pam_talk *talk, pam_handle_t *pam, const char *what, int rc)
{
	char said[256];

	str_copy(said, sizeof(said), talk->detail);
	str_format(talk->detail, talk->detail_size, "%s: %s%s%s", what, pam_strerror(pam, rc),
		   *said == '\0' ? "" : ": ", said);
	switch (rc) {
	case PAM_ABORT:
	case PAM_AUTHINFO_UNAVAIL:
	case PAM_BUF_ERR:
	case PAM_SERVICE_ERR:
	case PAM_SYSTEM_ERR:
	case PAM_OPEN_ERR:
	case PAM_SYMBOL_ERR:
	case PAM_MODULE_UNKNOWN:
		return -E_IO;
	default:
		return -E_AUTH;
	}
}

int pam_check(const struct pam_question *question, char *detail, size_t detail_size)
{
	struct pam_talk talk = { .password = question->password, .detail = detail, .detail_size = detail_size };
	const struct pam_conv conv = { .conv = pam_converse_cb, .appdata_ptr = &talk };
	const char *what = "pam_start";
	pam_handle_t *pam = NULL;
	int err;
	int rc;

	detail[0] = '\0';
	if (question->password[0] == '\0') {
		str_format(detail, detail_size, "empty password");
		return -E_AUTH;
	}
	pthread_once(&pam_once, pam_watch_forks);
	pam_is_asking = true;
	rc = pam_start(question->service, question->user, &conv, &pam);
	if (rc == PAM_SUCCESS) {
		what = "pam_set_item(PAM_RHOST)";
		rc = pam_set_item(pam, PAM_RHOST, question->rhost);
	}
	if (rc == PAM_SUCCESS) {
		what = "pam_authenticate";
		rc = pam_authenticate(pam, 0);
	}
	if (rc == PAM_SUCCESS) {
		what = "pam_acct_mgmt";
		rc = pam_acct_mgmt(pam, 0);
	}
	err = rc == PAM_SUCCESS ? 0 : pam_fail(&talk, pam, what, rc);
	if (pam != NULL)
		pam_end(pam, rc);
	pam_is_asking = false;
	return err;
}

#else /* !HAVE_PAM */

bool pam_is_supported(void)
{
	return false;
}

int pam_check(const struct pam_question *question UNUSED, char *detail, size_t detail_size)
{
	str_format(detail, detail_size, "pam is not supported by this build");
	return -E_UNSUPPORTED;
}

#endif
