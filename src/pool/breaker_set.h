/*
 * The breakers of one endpoint, one per class of failures: for one database
 * whose line has settings of its own for breakers, or for all others together.
 *
 * Decisions are those of breaker.h. What is added here is the lock, what may be
 * read without it, which results a server gives in its life, and that changes
 * are told: the control loop logs them, and workers look after their queues.
 */
#ifndef PGSLUICE_POOL_BREAKER_SET_H
#define PGSLUICE_POOL_BREAKER_SET_H

#include "core/lock.h"
#include "pool/breaker.h"

/* id, name, what it counts */
#define FAILURE_CLASS_TABLE(X)                                                                    \
	X(FAILURE_CONNECT, "connect", "the network does not lead there, or nobody listens")       \
	X(FAILURE_LOGIN, "login", "it closes, or talks nonsense, before a login is complete")     \
	X(FAILURE_PROTOCOL, "protocol", "it closes, or talks nonsense, in the middle of a query") \
	X(FAILURE_OVERLOAD, "overload", "it says that it takes nobody, or does not get around to it")

enum failure_class {
#define X(id, name, help) id,
	FAILURE_CLASS_TABLE(X)
#undef X
		FAILURE_CLASSES,
	FAILURE_NONE = FAILURE_CLASSES, /* it says nothing about the endpoint */
};

#define FAILURE_BIT(class)   (1u << (class))

/* Changes that are kept until they are told. */
#define BREAKER_SET_EVENTS   16

#define BREAKER_EVIDENCE_MAX (BREAKER_TEXT + 80)

/* Names the breakers of databases without settings of their own. */
#define BREAKER_SET_COMMON   "*"

/* Who is to be told that breakers have changed; shared by all sets of a process. */
struct breaker_news {
	atomic_bool is_there;
	void (*fn)(void *arg); /* any thread, no lock held; NULL: nobody */
	void *arg;
};

struct breaker_event {
	uint8_t class;
	struct breaker_change change;
};

struct breaker_set {
	/* constant */
	struct breaker_news *news;
	char *name; /* of the database, or BREAKER_SET_COMMON */

	struct breaker_set *next; /* of the same endpoint; protected as the endpoint is */
	unsigned users;           /* settings of pools that name it; likewise */

	/* written under the lock, read by any */
	_Atomic uint64_t refuses_until_us[FAILURE_CLASSES]; /* see breaker_set_refuses() */
	_Atomic uint64_t ejected_us;                        /* since when the class overload is not closed; 0: it is */
	atomic_bool wants_results;                          /* of servers that serve; see breaker_pass_served() */

	struct lock lock;
	/* protected by lock */
	struct breaker_conf conf;
	struct breaker breakers[FAILURE_CLASSES];
	char evidence[FAILURE_CLASSES][BREAKER_EVIDENCE_MAX]; /* of the last change */
	struct breaker_event events[BREAKER_SET_EVENTS];
	unsigned event_count;
};

/* What one server is admitted with, and owes results for. Lives no longer than a reference to the endpoint. */
struct breaker_pass {
	struct breaker_set *set; /* NULL: no breakers */
	uint8_t owed;            /* FAILURE_BIT of each class without a result yet */
	bool is_told;            /* the transaction that is open has counted, as the first that it has served */
	struct breaker_ticket tickets[FAILURE_CLASSES];
};

/* One breaker, for SHOW. */
struct breaker_view {
	const char *class;
	struct breaker breaker;
	uint64_t left_us; /* as breaker_open_left_us() */
	char evidence[BREAKER_EVIDENCE_MAX];
};

enum breaker_hand {
	BREAKER_HAND_OPEN,
	BREAKER_HAND_CLOSE,
	BREAKER_HAND_RESET,
};

const char *failure_class_name(enum failure_class class);

/*
 * Closed ones, for connections of the database `name`, or "*" (copied); changes
 * are told to `news`. endpoint.c owns it, and frees it when nobody has a pointer.
 */
struct breaker_set *breaker_set_new(struct breaker_news *news, const char *name, const struct breaker_conf *conf,
				    uint64_t now_us) MUSTCHECK;
void breaker_set_free(struct breaker_set *set);

/* Other settings from now on: where these are none, what is open closes. Any thread; tells no news itself. */
void breaker_set_configure(struct breaker_set *set, const struct breaker_conf *conf, uint64_t now_us);

/* True when failures can open one of them. Any thread. */
bool breaker_set_is_on(struct breaker_set *set);

/*
 * Admits a server in all classes, into *pass, or in none: then false. `except`
 * are FAILURE_BITs of classes that are not asked. can_probe: as in
 * breaker_admit(). May be called under the lock of a pool; who does so calls
 * breaker_news_tell() when that is gone.
 */
bool breaker_set_admit(struct breaker_set *set, uint64_t now_us, unsigned except, bool can_probe,
		       struct breaker_pass *pass) MUSTCHECK;

/*
 * True while no attempt is admitted because of a breaker, but for trials that
 * are under way; *left_us: until that may be over, or BREAKER_FOREVER. Takes no
 * lock. Any thread.
 */
bool breaker_set_refuses(const struct breaker_set *set, uint64_t now_us, unsigned except, uint64_t *left_us);

/* The evidence against it: of a class that refuses, as "class: text"; "" when none does. Any thread, not hot. */
void breaker_set_explain(struct breaker_set *set, char *dst, size_t size);

/* ---- results; any thread, no lock held; NULL or empty passes are fine ---- */

/* Classes (FAILURE_BITs) in which the attempt has succeeded; the others owed stay so. */
void breaker_pass_succeed(struct breaker_pass *pass, unsigned classes, uint64_t now_us);

/*
 * The server has failed in this class; `text` for people. In a class where
 * nothing is owed any more, as one that has been at work since began_us (as in
 * struct breaker_ticket).
 */
void breaker_pass_fail(struct breaker_pass *pass, enum failure_class class, uint64_t began_us, const char *text,
		       uint64_t now_us);

/*
 * The server has answered what a client has asked; is_over: and no transaction
 * is open. Each transaction counts once, when it is over, but the first at its
 * first answer: transactions and sessions may be long, and others wait for that
 * result. Needs to be told only while results are owed or wanted:
 * breaker_pass_is_awaited().
 */
void breaker_pass_served(struct breaker_pass *pass, bool is_over, uint64_t now_us);

static inline bool breaker_pass_is_awaited(const struct breaker_pass *pass)
{
	return pass->set != NULL &&
	       (pass->owed != 0 || atomic_load_explicit(&pass->set->wants_results, memory_order_relaxed));
}

/* The results that are owed will not come soon, or never. May be called under the lock of a pool. */
void breaker_pass_abandon(struct breaker_pass *pass, uint64_t now_us);

/* A probe of the endpoint has succeeded, or failed. */
void breaker_set_probed(struct breaker_set *set, bool is_ok, uint64_t now_us);

/* ---- control thread ---- */

/* By the console, all classes. */
void breaker_set_by_hand(struct breaker_set *set, enum breaker_hand what, uint64_t now_us);

/* Logs what has changed since the last time; `endpoint` is its name. */
void breaker_set_log_news(struct breaker_set *set, const char *endpoint);

/* True when a successful probe would help: a breaker is open, not by hand, or half open without one. Any thread. */
bool breaker_set_wants_probe(struct breaker_set *set);

/* What SHOW tells of the breaker of a class. Any thread. */
void breaker_set_view(struct breaker_set *set, enum failure_class class, uint64_t now_us, struct breaker_view *view);

/* Tells that there is news, if there is. No lock held. */
static inline void breaker_news_tell(struct breaker_news *news)
{
	if (UNLIKELY(atomic_load_explicit(&news->is_there, memory_order_relaxed)) && news->fn != NULL &&
	    atomic_exchange(&news->is_there, false))
		news->fn(news->arg);
}

#endif
