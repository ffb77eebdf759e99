/*
 * A mutex that knows its rank and its holder. Locks are taken in rising rank
 * only, and nothing under a lock makes a system call, allocates, logs or calls
 * back; the wrapper asserts rank and holder in debug builds.
 */
#ifndef PGSLUICE_CORE_LOCK_H
#define PGSLUICE_CORE_LOCK_H

#include "core/base.h"

#include <pthread.h>

/* In the order in which they may be taken. */
enum lock_rank {
	LOCK_RANK_REGISTRY = 1, /* tables of pools, databases and users */
	LOCK_RANK_POOL,         /* one pool; never two at a time */
	LOCK_RANK_ENDPOINTS,    /* table of endpoints */
	LOCK_RANK_ENDPOINT,     /* one endpoint; never two at a time */
	LOCK_RANK_AUTH,         /* answers of look-ups by query */
	LOCK_RANK_VARS,         /* interned parameter sets */
	LOCK_RANK_STMT,         /* texts of prepared statements */
	LOCK_RANK_DNS,          /* name cache */
	LOCK_RANK_JOB,          /* one queue of jobs for helper threads */
	LOCK_RANK_TLS,          /* sessions and ticket keys of a TLS context */
	LOCK_RANK_MSGQ,         /* mailbox of a loop */
	LOCK_RANK_LOG,          /* sink of the log */
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
};

void lock_init(struct lock *l, enum lock_rank rank);
void lock_fini(struct lock *l);
void lock_acquire(struct lock *l);
void lock_release(struct lock *l);
/* Asserts, in debug builds, that this thread holds the lock. */
void lock_assert_held(const struct lock *l);

#endif
