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

/* True when a client may outlive a server that has ended for this reason, as far as the reason goes. */
bool failure_is_loss(enum reason reason);

/* True when the reason, or an error in the middle of a session, may mean that the host is no primary, or gone. */
bool failure_is_symptom(enum reason reason);
bool failure_state_is_symptom(const char *sqlstate);

/*
 * True when a login that has ended for this reason is a failure of its pool.
 * Administrative ends say nothing about the server. Nor does what becomes of a
 * startup packet that a client has filled (has_own_packet): its user may not
 * replicate, its options may be nonsense, or more than the server reads.
 */
bool failure_is_of_pool(enum reason reason, bool has_own_packet);

/*
 * True when an error 53300 is about the limit of a single role or database, as
 * its routine tells: the server has room for others.
 */
bool failure_is_own_limit(struct slice sqlstate, struct slice routine);

#endif
