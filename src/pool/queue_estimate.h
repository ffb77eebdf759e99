/*
 * How long a place in a pool's queue takes: a policy, pure arithmetic on what
 * it is told and the time that comes with it. Its owner calls it under the
 * pool's lock; every function takes constant time.
 */
#ifndef PGSLUICE_POOL_QUEUE_ESTIMATE_H
#define PGSLUICE_POOL_QUEUE_ESTIMATE_H

#include "core/base.h"

/* Ends of rounds that are remembered: the estimate looks back on one less of these, and the round that runs. */
#define QUEUE_MARKS        5
/* A round has at least as many grants, or as the pool has servers, and lasts at least this long. */
#define QUEUE_ROUND_GRANTS 4
#define QUEUE_ROUND_US     100000
/* What was seen before the queue was empty for this long says nothing any more. */
#define QUEUE_STALE_US     10000000

/* No estimate can be made; and: no limit. */
#define QUEUE_UNKNOWN      UINT64_MAX

struct queue_mark {
	uint64_t busy_us;
	uint64_t grants;
};

struct queue_estimate {
	struct queue_mark marks[QUEUE_MARKS]; /* a ring; the next one goes to marks[mark_count % QUEUE_MARKS] */
	uint64_t mark_count;                  /* ever made since the beginning or the last reset */
	uint64_t grants;                      /* servers given to clients of the queue, ever */
	uint64_t busy_us;                     /* time in which somebody waited, until at_us */
	uint64_t granted_us;                  /* busy_us at the last grant */
	uint64_t at_us;                       /* the last event */
	unsigned servers;                     /* that served at the last grant */
	bool is_busy;                         /* somebody waits */
	bool is_shedding;                     /* the last newcomer was refused */
};

/* Forgets what was learnt: service stood still, or is of another kind from now on. */
void queue_estimate_reset(struct queue_estimate *e);

/* The first client has joined an empty queue; the last one has left it. `now_us` may lag a little behind other calls.
 */
void queue_estimate_begin(struct queue_estimate *e, uint64_t now_us);
void queue_estimate_end(struct queue_estimate *e, uint64_t now_us);

/* A client of the queue is given a server; `servers` can be given out by the pool now. */
void queue_estimate_grant(struct queue_estimate *e, unsigned servers, uint64_t now_us);

/* Microseconds until whoever stands at this place, from 1 on, has a server; QUEUE_UNKNOWN. */
uint64_t queue_estimate_wait(const struct queue_estimate *e, uint64_t position, uint64_t now_us);

/*
 * True when a newcomer at this place would wait in vain, who may wait for
 * `limit_us`; the estimate is stored in *wait_us.
 */
bool queue_estimate_refuses(struct queue_estimate *e, uint64_t position, uint64_t limit_us, uint64_t now_us,
			    uint64_t *wait_us);

/* The same for somebody who stands in the queue and has `left_us` left. */
bool queue_estimate_is_hopeless(const struct queue_estimate *e, uint64_t position, uint64_t left_us, uint64_t now_us,
				uint64_t *wait_us);

#endif
