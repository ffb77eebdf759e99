/*
 * Answers of look-ups by query: who has asked what, what came back, how long
 * it may be used again. One for the process, shared by the loops that log
 * clients in; any thread. No descriptors and no clock: the caller says how
 * late it is.
 */
#ifndef PGSLUICE_POOL_AUTH_CACHE_H
#define PGSLUICE_POOL_AUTH_CACHE_H

#include <sys/queue.h>

#include "auth/users.h"
#include "core/base.h"
#include "net/loop.h"
#include "pool/auth_reply.h"

struct auth_cache;
struct auth_entry;
struct snapshot;

/* What came back. Immutable, shared by reference count. */
struct auth_answer {
	atomic_uint refs;
	enum auth_kind kind;
	enum auth_reply_outcome outcome;
	struct user *user; /* of AUTH_KIND_USER, found; one without a secret has an empty one */
	char **roles;      /* of AUTH_KIND_ROLES, found: sorted by bytes */
	size_t role_count;
	/* a failure, as the client is told; empty: the log says all that there is to say */
	char text[AUTH_REPLY_TEXT_MAX];
	char sqlstate[6];
	size_t size;         /* bytes */
	atomic_bool is_used; /* see auth_answer_use() */
};

/* Takes what was read out of the reply. */
struct auth_answer *auth_answer_new(struct auth_reply *reply) MUSTCHECK;
/* A failure that is not a reply's. `text` NULL: the client is told no more than that there is one. */
struct auth_answer *auth_answer_new_failure(enum auth_reply_outcome outcome, const char *text,
					    const char *sqlstate) MUSTCHECK;
struct auth_answer *auth_answer_hold(struct auth_answer *answer) MUSTCHECK;
/* Nulls the pointer; NULL inside is fine. The last one wipes and frees. */
void auth_answer_release(struct auth_answer **answer);

/* True for the first login that goes on with the answer, false for all after it. */
bool auth_answer_use(struct auth_answer *answer);

/* True when the user is a member of the role, directly or not, as auth_roles_query sees it. */
bool auth_answer_has_role(const struct auth_answer *answer, const char *role);

/* A question; strings are only read. Equal ones have one answer. */
struct auth_question {
	enum auth_kind kind;
	const char *database;  /* where it is asked */
	const char *auth_user; /* by whom */
	const char *query;
	const char *user; /* the name that the client has given */
};

/* How long answers may be used, as it is configured now. */
struct auth_policy {
	uint64_t now_us;
	uint64_t ttl_us;
	uint64_t stale_us;
};

/* Who waits for an answer: a login, which may be gone before it comes. */
struct auth_ask;
typedef void (*auth_answer_fn)(void *arg, struct auth_answer *answer);
struct auth_ask {
	LIST_ENTRY(auth_ask) entry; /* protected by the cache's lock */
	bool is_listed;             /* likewise: no answer is on its way yet */
	struct auth_entry *of;      /* while is_listed */
	struct loop *loop;          /* where the answer goes */
	struct loop_msg msg;
	auth_answer_fn fn; /* takes the answer over; NULL: nobody waits any more. The loop's thread only */
	void *arg;
	struct auth_answer *answer;
};
LIST_HEAD(auth_asks, auth_ask);

/* Where a question is being asked. */
struct auth_runner {
	struct loop_ctx *ctx; /* its loop */
	uint64_t id;
};

struct auth_cache *auth_cache_new(void) MUSTCHECK;
/* Nothing may be in flight. */
void auth_cache_free(struct auth_cache **cache);

enum auth_cache_verdict {
	AUTH_CACHE_HIT,  /* *answer is held for the caller */
	AUTH_CACHE_WAIT, /* somebody is asking already: `ask` waits for the same answer */
	AUTH_CACHE_RUN,  /* the caller asks, and ends that with auth_cache_settle() or auth_cache_give_up(); `ask` waits
			  */
};

/*
 * Looks for an answer. `runner` is who will ask if the caller has to; *entry is
 * then what is to be settled.
 */
enum auth_cache_verdict auth_cache_ask(struct auth_cache *cache, const struct auth_question *question,
				       const struct auth_policy *policy, const struct auth_runner *runner,
				       struct auth_ask *ask, struct auth_answer **answer,
				       struct auth_entry **entry) MUSTCHECK;

/*
 * The answer is there; a reference is taken over. Those who waited are moved to
 * *asks, each with its own reference in ask->answer, for the caller to send it on.
 */
void auth_cache_settle(struct auth_cache *cache, struct auth_entry *entry, struct auth_answer *answer,
		       const struct auth_policy *policy, struct auth_asks *asks);

/* Ends the asking without an answer if nobody waits for it; false when somebody does. */
bool auth_cache_give_up(struct auth_cache *cache, struct auth_entry *entry) MUSTCHECK;

/*
 * Takes an ask out of its list; false when it is in none any more, and its
 * answer is on the way. *runner is who should be told that nobody waits any
 * more; its ctx is NULL when there is no need.
 */
bool auth_cache_leave(struct auth_cache *cache, struct auth_ask *ask, struct auth_runner *runner) MUSTCHECK;

/*
 * A login failed with this answer: it is not used again if it is older than a
 * second, so that a secret that was changed, or a user that was created, is
 * known at the next login, while whoever guesses cannot have the database asked
 * more than once a second.
 */
void auth_cache_distrust(struct auth_cache *cache, const struct auth_question *question,
			 const struct auth_policy *policy);

/* True when an answer that may be used while the database cannot be asked is there. */
bool auth_cache_has_stale(struct auth_cache *cache, const struct auth_entry *entry, const struct auth_policy *policy);

/*
 * Queries that have been found to need the search_path of auth_user: whether
 * this one is known for that, and that it is, or is not any more. Until the
 * next reload; some may be forgotten.
 */
bool auth_cache_needs_path(struct auth_cache *cache, const struct auth_question *question);
void auth_cache_note_path(struct auth_cache *cache, const struct auth_question *question, bool needs);

/* Forgets the answers of databases whose definition differs between the two. Control thread. */
void auth_cache_reload(struct auth_cache *cache, const struct snapshot *old, const struct snapshot *fresh);

/* What the cache has done since the start, and what it has: X(name, help) */
#define AUTH_CACHE_COUNTS(X)                                                                   \
	X(found, "users, and lists of roles, that are known")                                  \
	X(absent, "names that are known not to exist")                                         \
	X(asking, "look-ups under way")                                                        \
	X(memory, "bytes that all of these take")                                              \
	X(hits, "look-ups that were answered from memory")                                     \
	X(misses, "look-ups for which the database was asked")                                 \
	X(joined, "look-ups that waited for the answer to an equal one")                       \
	X(stale, "look-ups that an old answer had to do for, the database being out of reach") \
	X(failures, "askings that came to nothing")                                            \
	X(evicted, "answers that gave way to others")

struct auth_cache_counts {
#define X(name, help) uint64_t name;
	AUTH_CACHE_COUNTS(X)
#undef X
};

/* Copies the counts. Any thread. */
void auth_cache_count(struct auth_cache *cache, struct auth_cache_counts *counts);

#endif
