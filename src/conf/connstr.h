/*
 * The values of [databases], [users] and [peers]: key=value pairs separated by
 * spaces. Pure functions over text.
 */
#ifndef PGSLUICE_CONF_CONNSTR_H
#define PGSLUICE_CONF_CONNSTR_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

/* Walks over the pairs of one string; which must outlive it. */
struct connstr {
	const char *next; /* what is still to be read */
	char *value;      /* room for the unquoted value, owned */
	size_t size;      /* of that room */
};

/* Begins at the start of a NUL-terminated text. */
void connstr_init(struct connstr *cs, const char *text);
void connstr_fini(struct connstr *cs);

/*
 * The next pair. Returns 1 and sets key and value, which stay valid until the
 * next call; 0 at the end; -E_SYNTAX for anything that is not key=value or has
 * an empty value. Quoted values have their quotes removed and '' made '.
 */
int connstr_next(struct connstr *cs, struct slice *key, const char **value) MUSTCHECK;

#endif
