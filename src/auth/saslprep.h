/*
 * SASLprep (RFC 4013), the normal form of a password in SCRAM, as PostgreSQL
 * and libpq apply it.
 */
#ifndef PGSLUICE_AUTH_SASLPREP_H
#define PGSLUICE_AUTH_SASLPREP_H

#include "core/base.h"
#include "core/str.h"

/* Longer passwords are used as they are: their normal form costs more than a stranger may ask for. */
#define SASLPREP_MAX 4096

/*
 * The normal form of a password in UTF-8, to be wiped and freed by the caller;
 * or NULL when the password is to be used as it is: because it is ASCII, or
 * because it has no normal form (other encodings, characters that SASLprep
 * forbids or that Unicode 3.2 did not have, mixed directions, nothing left), or
 * because this build has no library for it.
 */
char *saslprep(struct slice password) MUSTCHECK;

#endif
