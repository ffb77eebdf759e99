/*
 * Which of several servers with the same data takes the writes, and what
 * becomes of it over time: fencing, elections and failovers. Pure: facts and
 * times come in, decisions go out.
 */
#ifndef PGSLUICE_POOL_HEALTH_JUDGE_H
#define PGSLUICE_POOL_HEALTH_JUDGE_H

#include "core/base.h"

/* One server of a group. */
struct health_view {
	bool is_reachable;
	bool is_primary;           /* it says so */
	uint32_t timeline;         /* 0: not known */
	uint32_t newest;           /* timeline that was ever seen among those with its data; 0: none */
	uint64_t system_id;        /* which data it has; 0: not known, like the others that do not know it */
	uint64_t primary_since_us; /* when it was seen as a primary for the first time since it was none */
	bool is_fenced;            /* the answer: it gets no writes, whatever it says */
};

/*
 * Fences primaries that are behind: one whose timeline is older than one that was
 * seen, and of two that can be reached one. The newer timeline wins; if it is
 * the same, who was there first; if it is not known, who came last. Returns the
 * index of the primary that is left, of the first when there are several
 * systems, or -1.
 */
int health_judge(struct health_view *views, size_t count);

/* True when the servers of a group that are known have the same data. */
bool health_is_one_system(const struct health_view *views, size_t count);

#define FAILOVER_NAME_MAX 300 /* names that a name server knows are shorter, with their port */
#define FAILOVER_WHY_MAX  96

/* How one failover went; times are monotonic, 0: not yet. */
struct failover {
	uint64_t began_us;     /* the first symptom */
	uint64_t detected_us;  /* it was certain that the old primary is none any more */
	uint64_t elected_us;   /* the new one was seen */
	uint64_t reconnect_us; /* the first server has logged in there */
	uint32_t timeline;     /* of the new one; 0: not known */
	char from[FAILOVER_NAME_MAX];
	char to[FAILOVER_NAME_MAX];
	char why[FAILOVER_WHY_MAX]; /* the symptom */
};

/* What is followed of one group. All zero: nothing was seen yet. */
struct failover_watch {
	char primary[FAILOVER_NAME_MAX]; /* the last one; "": none was seen */
	bool is_open;                    /* there are signs that it is gone */
	struct failover open;
};

/* What a look at the group has shown. */
enum failover_step {
	FAILOVER_NOTHING, /* that is new */
	FAILOVER_FIRST,   /* a primary, for the first time */
	FAILOVER_LOST,    /* there is no primary any more */
	FAILOVER_BACK,    /* the old one is back */
	FAILOVER_DONE,    /* there is another one: `open` tells about it until the next step */
};

/* A sign that the primary is in trouble; the first one counts. */
void failover_symptom(struct failover_watch *watch, const char *why, uint64_t now_us);

/*
 * What was seen: the name of the present primary and its timeline, or NULL with
 * the reason why there is none. `asked_us` is when it was asked: an answer to an
 * older question does not outweigh a symptom.
 */
enum failover_step failover_look(struct failover_watch *watch, const char *primary, uint32_t timeline, const char *why,
				 uint64_t asked_us, uint64_t now_us);

#endif
