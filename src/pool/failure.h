/*
 * What the end of a server says about its endpoint. Pure.
 */
#ifndef PGSLUICE_POOL_FAILURE_H
#define PGSLUICE_POOL_FAILURE_H

#include "core/reason_tbl.h"
#include "core/str.h"
#include "pool/breaker_set.h"

/* How far a server had come. */
enum failure_moment {
	FAILURE_AT_CONNECT, /* there is no connection yet */
	FAILURE_AT_LOGIN,
	FAILURE_AT_QUERY, /* it has something to do */
	FAILURE_AT_REST,  /* it has not: its end is of no interest */
};

/*
 * The class that the end counts for, FAILURE_NONE for none. `sqlstate` is that
 * of the server's own error that has led to it, "" when there was none.
 */
enum failure_class failure_classify(enum reason reason, enum failure_moment moment, const char *sqlstate);

/*
 * True when an error 53300 is about the limit of a single role or database, as
 * its routine tells: the server has room for others.
 */
bool failure_is_own_limit(struct slice sqlstate, struct slice routine);

#endif
