/*
 * Budgets of clients that are not logged in yet, by where they come from: how
 * many may be unfinished, how many of one source may begin in a second, and
 * whose turn it is. Of one loop and touched by its thread only, but for
 * prelogin_count(). Knows no socket and no clock.
 *
 *     prelogin_add() ---> waits ---> prelogin_next(): begins ---> prelogin_remove()
 *            |                                                          ^
 *            +---> prelogin_victim(): somebody else's place is needed --+
 */
#ifndef PGSLUICE_POOL_PRELOGIN_H
#define PGSLUICE_POOL_PRELOGIN_H

#include <sys/queue.h>

#include "core/base.h"
#include "net/sock.h"

/* Logins that may be at work on one loop at once, and how long each counts as such. */
#define PRELOGIN_PLACES   64
#define PRELOGIN_PLACE_US (250 * 1000)

/* Result of prelogin_wait_us(): there is nothing to wait for. */
#define PRELOGIN_NEVER    UINT64_MAX

enum prelogin_stage {
	PRELOGIN_WAITING, /* for its turn */
	PRELOGIN_WORKING, /* has one of the places */
	PRELOGIN_SLOW,    /* has had one for PRELOGIN_PLACE_US, and goes on without */
};

struct prelogin;
struct prelogin_source;

/* An unfinished login: a part of what it belongs to. Its fields are for prelogin.c. */
struct prelogin_entry {
	struct prelogin_source *source; /* NULL: not added, or removed */
	enum prelogin_stage stage;
	uint64_t since_us;                        /* when it came; from PRELOGIN_WORKING on, when it began */
	TAILQ_ENTRY(prelogin_entry) source_entry; /* all of one source, by arrival */
	TAILQ_ENTRY(prelogin_entry) turn_entry;   /* of one source that wait, or of all that work */
};

/* Limits of one loop; 0: none. */
struct prelogin_limits {
	unsigned max;  /* unfinished logins */
	unsigned rate; /* logins of one source that may begin in a second */
};

/* What SHOW tells. */
struct prelogin_counts {
	unsigned sources;    /* with unfinished logins */
	unsigned unfinished; /* logins */
	unsigned waiting;    /* of these, for their turn */
	uint64_t delayed;    /* began later than they came, since the start */
	uint64_t evicted;    /* were closed to make room, since the start */
};

/* Without limits; shared by all loops. */
struct prelogin *prelogin_new(void) MUSTCHECK;

/* Nothing may be added any more. Nulls; NULL inside is fine. */
void prelogin_free(struct prelogin **p);

/* New limits; who waits goes on waiting, by the new rate. */
void prelogin_set_limits(struct prelogin *p, const struct prelogin_limits *limits);

/* Where there is no limit nobody needs to be added. */
bool prelogin_is_on(const struct prelogin *p);

/* How many bits of an address say where somebody comes from. */
struct prelogin_prefixes {
	unsigned ipv4; /* 1 to 32 */
	unsigned ipv6; /* 1 to 64: of the rest one customer of a provider has as many as he likes */
};

/*
 * The source that a TCP client counts for: the first bits of its address (one
 * of IPv4 also where it is mapped into IPv6). *is_local: it is this machine
 * itself, 127.0.0.1 or ::1, whose rate is not limited.
 */
uint64_t prelogin_source(const struct sock_peer *peer, const struct prelogin_prefixes *prefixes, bool *is_local);

/* One more, which waits for prelogin_next(). */
void prelogin_add(struct prelogin *p, struct prelogin_entry *e, uint64_t source, bool is_local, uint64_t now_us);

/*
 * Whom to close when there are more than the maximum: of the source that has
 * most unfinished logins the oldest, so that whoever opens many pays himself.
 * NULL: there is room. The caller closes, which removes; it then counts as
 * evicted. Call until it returns NULL.
 */
struct prelogin_entry *prelogin_victim(struct prelogin *p);

/*
 * The next that may begin, or NULL. Sources take turns, so that one with a
 * thousand logins does not keep out one with a single one; within a source the
 * order is that of arrival.
 */
struct prelogin_entry *prelogin_next(struct prelogin *p, uint64_t now_us);

/*
 * How long until prelogin_next() may have somebody although nothing else
 * happens; PRELOGIN_NEVER: nobody waits. To be asked after it has returned NULL.
 */
uint64_t prelogin_wait_us(const struct prelogin *p, uint64_t now_us);

/* Somebody waits for his turn. */
bool prelogin_has_waiting(const struct prelogin *p);

/* It has ended in one way or the other. */
void prelogin_remove(struct prelogin *p, struct prelogin_entry *e);

/* Any thread; the numbers belong to about the same moment. */
void prelogin_count(const struct prelogin *p, struct prelogin_counts *counts);

#endif
