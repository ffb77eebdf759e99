/*
 * A circuit breaker: from results and the time to whether an attempt may begin.
 * Pure policy: no clock, no dice, no lock, no log of its own. Whoever has one
 * protects it, gives it the time, and tells the world of its changes.
 *
 *               failures in a row, or their share
 *     CLOSED -------------------------------------> OPEN <-------------+
 *        ^                                           |                 |
 *        |                       its time is over,   |                 | a trial
 *        |                       or a probe says so  |                 | fails
 *        |  enough trials                            v                 |
 *        +---------------------------------------- HALF_OPEN ----------+
 *
 * Half open, one trial is admitted, then one more at once for each that has
 * succeeded, so that from wave to wave there are 1, 2, 4 ... A trial may take as
 * long as a query does: when the last one began BREAKER_PATIENCE_US ago, one more
 * is admitted beside those that have not ended. Where somebody can probe
 * the endpoint without a client, a probe must have succeeded before the first
 * trial. Only trials, and what goes on working after one has succeeded, decide
 * what becomes of a half open breaker: without any it stays so, since an answer
 * to a probe says little about load.
 *
 * Every attempt carries a ticket from its beginning to its end. A result of an
 * attempt that began before the breaker last opened is noted and decides
 * nothing: an answer from before the outage does not end it, nor does a timeout
 * that has been running since prolong it.
 *
 * How long it stays open doubles, with jitter, each time it opens again before
 * it has been closed for as long as it was open. A probe may end that time
 * early, unless the trial after such a probe has failed: then the probe sees
 * less than is wrong, and the time counts.
 */
#ifndef PGSLUICE_POOL_BREAKER_H
#define PGSLUICE_POOL_BREAKER_H

#include "core/base.h"

/* Parts of the sliding window: it moves by one of these at a time. */
#define BREAKER_BUCKETS     10

/* Failures that are remembered with their text, and its size with the NUL. */
#define BREAKER_NOTES       5
#define BREAKER_TEXT        128

/* Half open: how long a trial has the field to itself, and how long a probe is waited for. */
#define BREAKER_PATIENCE_US (10 * USEC_PER_SEC)

/* As a time that is left: nobody knows, it was opened by hand. */
#define BREAKER_FOREVER     UINT64_MAX

struct breaker_conf {
	unsigned failure_threshold; /* failures in a row that open it; 0: the count does not */
	unsigned failure_rate_pct;  /* share of failures within the window that opens it; 0: the share does not */
	uint64_t window_us;
	unsigned min_calls; /* results within the window below which the share says nothing */
	uint64_t recovery_us;
	uint64_t recovery_max_us;   /* to which recovery_us doubles; less than it: no doubling */
	unsigned success_threshold; /* trials that must succeed before it closes; 0 counts as 1 */
};

enum breaker_state {
	BREAKER_CLOSED,
	BREAKER_OPEN,
	BREAKER_HALF_OPEN,
};

/* Why a breaker has changed its state. */
enum breaker_cause {
	BREAKER_BY_COUNT,  /* opened: failures in a row */
	BREAKER_BY_RATE,   /* opened: share of failures */
	BREAKER_BY_TRIAL,  /* opened: a trial has failed; closed: enough have succeeded */
	BREAKER_BY_TIME,   /* half open: it has been open long enough */
	BREAKER_BY_PROBE,  /* half open: a probe has succeeded; opened: one has failed */
	BREAKER_BY_HAND,   /* by the console */
	BREAKER_BY_CONFIG, /* closed: breakers are off now */
};

/* What has happened to the state, with its evidence. Nothing when `from` and `to` are the same. */
struct breaker_change {
	enum breaker_state from;
	enum breaker_state to;
	enum breaker_cause cause;
	unsigned failures;       /* in a row, or within the window */
	unsigned calls;          /* results within the window, or trials that succeeded */
	uint64_t span_us;        /* length of the window, or time it was in the old state */
	uint64_t open_us;        /* opened: for how long; BREAKER_FOREVER */
	char last[BREAKER_TEXT]; /* text of the last failure */
};

struct breaker_note {
	uint64_t at_us;
	char text[BREAKER_TEXT];
};

/* Results of one part of the window. */
struct breaker_bucket {
	uint64_t number; /* at_us / width */
	unsigned calls;
	unsigned failures;
};

/* All fields are for reading by others; zeroed memory is not enough, see breaker_init(). */
struct breaker {
	enum breaker_state state;
	uint64_t since_us; /* when it took this state */
	uint64_t until_us; /* OPEN: when that ends; BREAKER_FOREVER: opened by hand */
	uint64_t open_us;  /* for how long it was opened last */
	unsigned opens;    /* times it has opened with no quiet time between */
	uint32_t generation;
	unsigned failures_in_row;
	uint64_t failed_us; /* when the last failure came that counted; 0: never */
	/* HALF_OPEN: */
	bool is_probed;     /* a probe has succeeded */
	bool is_misled;     /* a trial has failed after that, since it was closed */
	unsigned trials;    /* under way */
	uint64_t trial_us;  /* when the last of them began */
	unsigned successes; /* of trials, and of what they have opened */
	unsigned good;      /* of these, of trials: for the ramp */
	/* the window */
	uint64_t width_us; /* of a bucket; another one makes the window new */
	struct breaker_bucket buckets[BREAKER_BUCKETS];
	/* since the start or the last reset */
	uint64_t total_successes;
	uint64_t total_failures;
	uint64_t total_opens;
	unsigned note_count; /* failures ever noted; the last is notes[(note_count - 1) % BREAKER_NOTES] */
	struct breaker_note notes[BREAKER_NOTES];
};

/* An attempt under way. */
struct breaker_ticket {
	uint32_t generation;
	bool is_trial;     /* counted in breaker->trials */
	bool vouches;      /* of what has come out of an attempt that is over */
	uint64_t began_us; /* not 0: a failure is the same one as any other since then */
};

/* Whether an attempt may begin. */
enum breaker_verdict {
	BREAKER_ADMITS,
	BREAKER_REFUSES,     /* it is open */
	BREAKER_WANTS_PROBE, /* half open, and nobody has probed: ask for that, begin nothing */
	BREAKER_WAITS,       /* half open, and as many trials are under way as may be */
};

/* A closed breaker without a past. */
void breaker_init(struct breaker *b, uint64_t now_us);

/* True when failures can open it. */
static inline bool breaker_is_on(const struct breaker_conf *conf)
{
	return conf->failure_threshold > 0 || conf->failure_rate_pct > 0;
}

/*
 * Whether an attempt may begin now; can_probe: somebody is able to probe and
 * will call breaker_probe(). Ends the open time when it is over. Whoever is
 * admitted and wants to, goes on with breaker_begin() before any other call.
 */
enum breaker_verdict breaker_admit(struct breaker *b, const struct breaker_conf *conf, uint64_t now_us, bool can_probe,
				   struct breaker_change *change);

/* The ticket of an attempt that was admitted. It ends in breaker_success(), breaker_failure() or breaker_abandon(). */
struct breaker_ticket breaker_begin(struct breaker *b, uint64_t now_us);

/*
 * For further results of what has come out of an attempt that has not failed: a
 * server that goes on serving is as good as a trial that succeeds.
 */
static inline struct breaker_ticket breaker_vouch(struct breaker_ticket ended)
{
	return (struct breaker_ticket){ .generation = ended.generation, .vouches = true };
}

/*
 * A ticket for a result that nobody asked admission for: something that was
 * going on since began_us (as in struct breaker_ticket), and is no trial.
 */
struct breaker_ticket breaker_witness(const struct breaker *b, uint64_t began_us);

/* The attempt has ended without telling anything. */
void breaker_abandon(struct breaker *b, struct breaker_ticket ticket);

/* The attempt has succeeded; *change is what follows from it, here and below. */
void breaker_success(struct breaker *b, const struct breaker_conf *conf, struct breaker_ticket ticket, uint64_t now_us,
		     struct breaker_change *change);

/* `text` says what has failed, for people; `dice` are 32 random bits. */
void breaker_failure(struct breaker *b, const struct breaker_conf *conf, struct breaker_ticket ticket, uint64_t now_us,
		     const char *text, uint32_t dice, struct breaker_change *change);

/* The result of a probe: of consequence for a breaker that is open (not by hand) or half open. `dice` as above. */
void breaker_probe(struct breaker *b, const struct breaker_conf *conf, bool is_ok, uint64_t now_us, uint32_t dice,
		   struct breaker_change *change);

/* Microseconds until an open breaker may admit an attempt; 0 when it is not open, BREAKER_FOREVER by hand. */
uint64_t breaker_open_left_us(const struct breaker *b, uint64_t now_us);

/*
 * True while failures are recent enough that successes are worth reporting:
 * there are some in a row or within the window, or it is not closed.
 */
bool breaker_is_shaky(const struct breaker *b, uint64_t now_us);

/* By hand: open until told otherwise; closed, as it would be after a good trial; closed, and everything forgotten. */
void breaker_force_open(struct breaker *b, uint64_t now_us, struct breaker_change *change);
void breaker_force_close(struct breaker *b, uint64_t now_us, struct breaker_change *change);
void breaker_reset(struct breaker *b, uint64_t now_us, struct breaker_change *change);

/* The name of a state as SHOW tells it: closed, open, half_open. */
const char *breaker_state_name(enum breaker_state state);

/*
 * The evidence of a change as text without a period, such as "5 failures in a
 * row, last: connect failed". Returns its length.
 */
size_t breaker_describe(const struct breaker_change *change, char *dst, size_t size);

#endif
