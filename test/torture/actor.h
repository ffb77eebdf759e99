#ifndef TORTURE_ACTOR_H
#define TORTURE_ACTOR_H

/*
 * An actor is what shapes know of a client: its name, its counter, its session parameters, its chance. The name is
 * new for each connection, and every row that an actor asks for carries name and counter, so that a row which
 * reaches somebody else, or reaches the right one at the wrong time, is seen at once.
 */
#include "ledger.h"
#include "rng.h"

/* The parameters that every pooler must keep apart between clients. */
#define PARAM_APPLICATION 0
#define PARAM_TIMEZONE    1
#define PARAM_DATESTYLE   2
#define PARAM_ENCODING    3
#define N_PARAMS          4

/* Names of named prepared statements per session, with --named. */
#define N_NAMED           6

extern const char *const param_names[N_PARAMS];

struct actor {
	struct rng rng;
	unsigned slot;              /* number of the client, also of its row in the table of counters */
	unsigned incarnation;       /* number of the connection */
	char who[32];               /* "s<slot>i<incarnation>" */
	int32_t seq;                /* counts up with each query */
	char param[N_PARAMS][64];   /* what the session's parameters are at the end of the script being written */
	int32_t named_seq[N_NAMED]; /* counter inside the text of each prepared statement; 0: not prepared */
	struct ledger *ledger;
};

#endif
