#ifndef TORTURE_ACTOR_H
#define TORTURE_ACTOR_H

/*
 * An actor is what shapes know of a client: its name, its counter, its session parameters, its chance. The name is
 * new for each connection, and every row that an actor asks for carries name and counter, so that a row which
 * reaches somebody else, or reaches the right one at the wrong time, is seen at once.
 */
#include "ledger.h"
#include "rng.h"
#include "shaped.h"
#include "statements.h"

/* The session parameters that rows carry. */
#define PARAM_APPLICATION 0
#define PARAM_TIMEZONE    1
#define PARAM_DATESTYLE   2
#define PARAM_ENCODING    3
#define PARAM_INTERVAL    4
#define PARAM_SEARCH_PATH 5 /* not reported by PostgreSQL before 18: only ever set within transactions */
#define N_PARAMS          6
#define N_REPORTED        5 /* so many of them are, and poolers keep them apart */

extern const char *const param_names[N_PARAMS];

struct actor {
	struct rng rng;
	unsigned slot;                /* number of the client, also of its row in the table of counters */
	unsigned incarnation;         /* number of the connection */
	char who[32];                 /* "s<slot>i<incarnation>" */
	int32_t seq;                  /* counts up with each query */
	char param[N_PARAMS][64];     /* what the session's parameters are at the end of the script being written */
	bool alone;                   /* nobody else uses its server: the pool mode is session, or there is no pooler */
	bool strict;                  /* the pooler answers unknown and duplicate names of statements as PostgreSQL */
	unsigned n_settable;          /* so many parameters can be set for the session, in the order above */
	struct statements statements; /* at the end of the script being written */
	struct shaped shaped[N_SHAPED]; /* on tables whose columns change */
	struct ledger *ledger;
};

#endif
