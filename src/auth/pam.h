/*
 * Asking PAM whether a password is right. The function blocks for as long as
 * the modules of the service please: for helper threads only.
 */
#ifndef PGSLUICE_AUTH_PAM_H
#define PGSLUICE_AUTH_PAM_H

#include "core/base.h"
#include "core/err.h"

/* Is the library part of this build? */
bool pam_is_supported(void);

struct pam_question {
	const char *service; /* the name of a file in /etc/pam.d */
	const char *user;
	const char *password;
	const char *rhost; /* where the client comes from */
};

/*
 * Authenticates the user and asks whether the account may be used now. 0: yes.
 * -E_AUTH: no; -E_IO: PAM could not be asked; -E_UNSUPPORTED: the build has no
 * PAM; then `detail` says more, for the log only. An empty password is never
 * right. Any thread.
 */
int pam_check(const struct pam_question *question, char *detail, size_t detail_size) MUSTCHECK;

#endif
