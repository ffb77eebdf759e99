/*
 * Asking an LDAP server whether a password is right. The function blocks, for
 * as long as servers and name servers please: for helper threads only.
 */
#ifndef PGSLUICE_AUTH_LDAP_H
#define PGSLUICE_AUTH_LDAP_H

#include "auth/ldap_options.h"
#include "core/base.h"
#include "core/err.h"

/* Is the library part of this build? */
bool ldap_is_supported(void);

/*
 * Binds as the user, with a name made of prefix and suffix or with the one that
 * a search has found. 0: the password is right. -E_AUTH: the server says no;
 * -E_IO: it could not be asked; -E_UNSUPPORTED: the build has no LDAP; then
 * `detail` says more, for the log only. An empty password is never right,
 * whatever the server thinks of it (an unauthenticated bind, RFC 4513, 5.1.2).
 * Any thread.
 */
int ldap_check(const struct ldap_options *o, const char *user, const char *password, char *detail,
	       size_t detail_size) MUSTCHECK;

#endif
