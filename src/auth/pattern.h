/*
 * Regular expressions in rules of login: POSIX extended ones, held to the part
 * on which POSIX and PostgreSQL agree, and to a size that costs no login
 * anything. What PostgreSQL reads in another way is an error, never another
 * meaning.
 */
#ifndef PGSLUICE_AUTH_PATTERN_H
#define PGSLUICE_AUTH_PATTERN_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

#define PATTERN_MAX 256 /* bytes of a regular expression */

struct pattern;

/*
 * Compiles an expression (without the slash in front). 0 with *out, to be
 * freed; or -E_SYNTAX with what is wrong with it in `err`.
 */
int pattern_new(const char *text, struct pattern **out, char *err, size_t errsize) MUSTCHECK;

/*
 * True when the expression matches anywhere in the subject; *group is then
 * what its first parentheses have matched, inside of the subject, with a p of
 * NULL when there are none or they took no part. `group` may be NULL. Any
 * thread; allocates.
 */
bool pattern_matches(const struct pattern *p, const char *subject, struct slice *group);

/* Whether there are parentheses. */
bool pattern_has_group(const struct pattern *p);

/* Frees and nulls; NULL inside is fine. */
void pattern_free(struct pattern **p);

#endif
