/*
 * What the files of the storm share.
 */
#ifndef PGSLUICE_TEST_STORM_H
#define PGSLUICE_TEST_STORM_H

#include "world.h"

#define STORM_CLIENTS_MAX  12
#define STORM_CONSOLES_MAX 2

/* The databases of the storm: db and db2. */
#define STORM_DBS          2

struct storm_client {
	struct actor *actor;
	unsigned id;
	unsigned db; /* 0 or 1 */
	bool greeted;
	bool in_batch; /* extended messages without their Sync */
	bool leaves;   /* has sent Terminate */
	bool replicates;
	bool killed;     /* by KILL_CLIENT */
	unsigned doomed; /* by a KILL under way: a bit for each console */
	bool barred;     /* has connected while its database was disabled, which it is still */
	unsigned sent;   /* units */
	unsigned got;
	struct buf pending; /* what it wants to send */
};

struct storm_command;

/* A session of the console, with at most one command under way. */
struct storm_console {
	struct actor *actor; /* NULL: not there */
	bool greeted;
	const struct storm_command *command; /* NULL: none */
	unsigned db;                         /* which it is for; STORM_DBS: all */
	unsigned victim;                     /* KILL_CLIENT: number of the client */
	bool undone;                         /* something was issued meanwhile that may take its effect back */
	bool answered;                       /* the answer has come, ReadyForQuery has not */
};

/* What the commands answered so far promise, for each database and (last) for all. */
struct storm_promise {
	bool quiet[STORM_DBS + 1]; /* paused, and no server is left */
	bool disabled[STORM_DBS];  /* nobody new is let in */
	bool removed[STORM_DBS];   /* was removed or killed at some time: clients may be told so */
};

struct storm {
	struct world *world;
	uint64_t seed;
	unsigned event;
	struct storm_client clients[STORM_CLIENTS_MAX];
	unsigned client_count;
	unsigned next_id;
	struct actor *canceler; /* one cancel request at a time, so that its target is known */
	unsigned cancel_id;
	struct storm_console consoles[STORM_CONSOLES_MAX];
	struct actor *console_canceler; /* sends a cancel request for one of them */
	struct storm_promise promise;
	bool trace;
	bool calm; /* no more troubles */
};

/* Says what is wrong and ends the process. */
NORETURN void storm_fail(const struct storm *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* With REPLAY_TRACE, says what happens. */
void storm_trace(const struct storm *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* True in n of 100 cases. */
bool storm_chance(unsigned n);

/* New settings for the databases; db2 may vanish. Not in force before a reload. */
void storm_set_dbs(struct storm *s);

/* ---- the console ---- */

/* Something happens at one of the consoles: it comes, asks, is answered or goes. */
void storm_console_event(struct storm *s);

/* Holds the world against what the console's answers have promised. */
void storm_console_check(const struct storm *s);

/* One turn of a loop, in which no pool that is paused may give a client a server. */
void storm_console_step(const struct storm *s, struct loop *loop);

/* What a client is told before the end, which must have a reason. */
void storm_console_check_error(const struct storm *s, const struct storm_client *c, const char *word);

/* Takes back everything that keeps clients from being served. */
void storm_console_calm_down(struct storm *s);

/* All consoles go; every command must have been answered. */
void storm_console_end(struct storm *s);

#endif
