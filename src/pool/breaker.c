/*
 * The circuit breaker. What it does is said in breaker.h; here is what must
 * stay true:
 *
 *  - breaker_turn() is the only place that changes the state.
 *  - The generation changes with every opening and every word by hand, and at
 *    no other time. So a trial whose result comes when the others have closed
 *    the breaker already counts as any attempt does, and one from before an
 *    opening does not.
 *  - `trials` counts the trials of this generation under way while the breaker
 *    is half open, and is 0 otherwise.
 *  - The window is looked at when a failure comes, since no success opens
 *    anything. Its parts are found by the time divided by their width, so that
 *    they need no tidying up: one with another number is empty.
 */
#include "pool/breaker.h"

#include "core/clock.h"
#include "core/str.h"

/* ---- the window ---- */

/* The part of the window for this moment, made fresh if it is of an earlier round. */
static struct breaker_bucket *breaker_bucket(struct breaker *b, const struct breaker_conf *conf, uint64_t now_us)
{
	uint64_t width_us = conf->window_us / BREAKER_BUCKETS;
	struct breaker_bucket *bucket;
	uint64_t number;

	if (width_us == 0)
		width_us = 1;
	if (b->width_us != width_us) {
		memset(b->buckets, 0, sizeof(b->buckets));
		b->width_us = width_us;
	}
	number = now_us / width_us;
	bucket = &b->buckets[number % BREAKER_BUCKETS];
	if (bucket->number != number)
		*bucket = (struct breaker_bucket){ .number = number };
	return bucket;
}

/* What the window holds at this moment. */
static struct breaker_bucket breaker_window(const struct breaker *b, uint64_t now_us)
{
	struct breaker_bucket sum = { .number = b->width_us == 0 ? 0 : now_us / b->width_us };

	for (size_t i = 0; i < BREAKER_BUCKETS; i++) {
		const struct breaker_bucket *bucket = &b->buckets[i];

		if (bucket->number > sum.number || bucket->number + BREAKER_BUCKETS <= sum.number)
			continue;
		sum.calls += bucket->calls;
		sum.failures += bucket->failures;
	}
	return sum;
}

/* Forgets what could open it. */
static void breaker_forget_results(struct breaker *b)
{
	b->failures_in_row = 0;
	memset(b->buckets, 0, sizeof(b->buckets));
}

/* ---- changes of state ---- */

static const char *breaker_last_text(const struct breaker *b)
{
	return b->note_count == 0 ? "" : b->notes[(b->note_count - 1) % BREAKER_NOTES].text;
}

/* The one place that changes the state. */
static void breaker_turn(struct breaker *b, enum breaker_state to, enum breaker_cause cause, uint64_t now_us,
			 struct breaker_change *change)
{
	change->from = b->state;
	change->to = to;
	change->cause = cause;
	change->failures = b->failures_in_row;
	change->calls = b->successes;
	change->span_us = now_us - b->since_us;
	change->open_us = 0;
	str_copy(change->last, sizeof(change->last), breaker_last_text(b));
	b->state = to;
	b->since_us = now_us;
	b->until_us = 0;
	b->trials = 0;
	b->successes = b->good = 0;
	b->is_probed = false;
	if (to == BREAKER_CLOSED) {
		b->is_misled = false;
		breaker_forget_results(b);
	}
}

/* For how long it opens this time: doubled for each time in a row, with jitter, to the cap. */
static uint64_t breaker_open_time(const struct breaker *b, const struct breaker_conf *conf, uint32_t dice)
{
	uint64_t time_us = conf->recovery_us;
	uint64_t jitter_us;

	for (unsigned i = 1; i < b->opens && time_us > 0 && time_us < conf->recovery_max_us; i++)
		time_us = time_us > conf->recovery_max_us / 2 ? conf->recovery_max_us : time_us * 2;
	/* The first time is as long as was asked for, and none is shorter. */
	jitter_us = time_us / 2 < time_us - conf->recovery_us ? time_us / 2 : time_us - conf->recovery_us;
	return time_us - (uint64_t)((double)jitter_us * dice / UINT32_MAX);
}

static void breaker_open(struct breaker *b, const struct breaker_conf *conf, enum breaker_cause cause, uint64_t now_us,
			 uint32_t dice, struct breaker_change *change)
{
	/* Forgotten: it has been closed for at least as long as it was open. */
	if (b->state == BREAKER_CLOSED && now_us - b->since_us >= b->open_us)
		b->opens = 0;
	breaker_turn(b, BREAKER_OPEN, cause, now_us, change);
	b->generation++;
	b->opens++;
	b->total_opens++;
	b->open_us = breaker_open_time(b, conf, dice);
	b->until_us = now_us + b->open_us;
	change->open_us = b->open_us;
}

/* ---- results ---- */

void breaker_init(struct breaker *b, uint64_t now_us)
{
	*b = (struct breaker){ .state = BREAKER_CLOSED, .since_us = now_us };
}

static void breaker_note(struct breaker *b, const char *text, uint64_t now_us)
{
	struct breaker_note *note = &b->notes[b->note_count % BREAKER_NOTES];

	note->at_us = now_us;
	str_copy(note->text, sizeof(note->text), text);
	b->note_count++;
	b->total_failures++;
}

/* Ends an attempt; true when its result decides something. */
static bool breaker_end(struct breaker *b, struct breaker_ticket ticket)
{
	if (ticket.generation != b->generation || b->state == BREAKER_OPEN)
		return false;
	if (b->state == BREAKER_CLOSED)
		return true;
	if (!ticket.is_trial)
		return ticket.vouches;
	ASSERT(b->trials > 0);
	b->trials--;
	return true;
}

static void breaker_check_closed(struct breaker *b, const struct breaker_conf *conf, uint64_t now_us, uint32_t dice,
				 struct breaker_change *change)
{
	struct breaker_bucket sum = breaker_window(b, now_us);

	if (conf->failure_threshold > 0 && b->failures_in_row >= conf->failure_threshold) {
		breaker_open(b, conf, BREAKER_BY_COUNT, now_us, dice, change);
	} else if (conf->failure_rate_pct > 0 && sum.calls >= conf->min_calls &&
		   (uint64_t)sum.failures * 100 >= (uint64_t)sum.calls * conf->failure_rate_pct) {
		breaker_open(b, conf, BREAKER_BY_RATE, now_us, dice, change);
		change->failures = sum.failures;
		change->calls = sum.calls;
		change->span_us = conf->window_us;
	}
}

void breaker_failure(struct breaker *b, const struct breaker_conf *conf, struct breaker_ticket ticket, uint64_t now_us,
		     const char *text, uint32_t dice, struct breaker_change *change)
{
	bool is_echo = ticket.began_us != 0 && ticket.began_us <= b->failed_us;
	bool was_probed = b->is_probed;
	struct breaker_bucket *bucket;

	change->to = change->from = b->state;
	breaker_note(b, text, now_us);
	if (!breaker_end(b, ticket))
		return;
	if (b->state == BREAKER_HALF_OPEN) {
		b->failed_us = now_us;
		breaker_open(b, conf, BREAKER_BY_TRIAL, now_us, dice, change);
		b->is_misled = b->is_misled || was_probed;
		return;
	}
	if (is_echo)
		return;
	b->failed_us = now_us;
	b->failures_in_row++;
	bucket = breaker_bucket(b, conf, now_us);
	bucket->calls++;
	bucket->failures++;
	breaker_check_closed(b, conf, now_us, dice, change);
}

void breaker_success(struct breaker *b, const struct breaker_conf *conf, struct breaker_ticket ticket, uint64_t now_us,
		     struct breaker_change *change)
{
	change->to = change->from = b->state;
	b->total_successes++;
	if (!breaker_end(b, ticket))
		return;
	if (b->state == BREAKER_CLOSED) {
		b->failures_in_row = 0;
		breaker_bucket(b, conf, now_us)->calls++;
		return;
	}
	b->successes++;
	b->good += ticket.is_trial;
	if (b->successes >= conf->success_threshold)
		breaker_turn(b, BREAKER_CLOSED, BREAKER_BY_TRIAL, now_us, change);
}

void breaker_abandon(struct breaker *b, struct breaker_ticket ticket)
{
	breaker_end(b, ticket);
}

void breaker_probe(struct breaker *b, const struct breaker_conf *conf, bool is_ok, uint64_t now_us, uint32_t dice,
		   struct breaker_change *change)
{
	change->to = change->from = b->state;
	if (b->state == BREAKER_OPEN && b->until_us != BREAKER_FOREVER && is_ok &&
	    (!b->is_misled || now_us >= b->until_us)) {
		breaker_turn(b, BREAKER_HALF_OPEN, BREAKER_BY_PROBE, now_us, change);
		b->is_probed = true;
	} else if (b->state == BREAKER_HALF_OPEN && is_ok) {
		b->is_probed = true;
	} else if (b->state == BREAKER_HALF_OPEN && b->trials == 0 && b->successes == 0) {
		breaker_open(b, conf, BREAKER_BY_PROBE, now_us, dice, change);
	}
}

/* ---- admission ---- */

enum breaker_verdict breaker_admit(struct breaker *b, const struct breaker_conf *conf, uint64_t now_us, bool can_probe,
				   struct breaker_change *change)
{
	change->to = change->from = b->state;
	if (LIKELY(b->state == BREAKER_CLOSED))
		return BREAKER_ADMITS;
	if (b->until_us == BREAKER_FOREVER)
		return BREAKER_REFUSES;
	if (!breaker_is_on(conf)) {
		breaker_turn(b, BREAKER_CLOSED, BREAKER_BY_CONFIG, now_us, change);
		return BREAKER_ADMITS;
	}
	if (b->state == BREAKER_OPEN && now_us < b->until_us)
		return BREAKER_REFUSES;
	if (b->state == BREAKER_OPEN)
		breaker_turn(b, BREAKER_HALF_OPEN, BREAKER_BY_TIME, now_us, change);
	if (can_probe && !b->is_probed && b->successes == 0)
		return BREAKER_WANTS_PROBE;
	return b->trials <= b->good || now_us >= b->trial_us + BREAKER_PATIENCE_US ? BREAKER_ADMITS : BREAKER_WAITS;
}

struct breaker_ticket breaker_begin(struct breaker *b, uint64_t now_us)
{
	ASSERT(b->state != BREAKER_OPEN);
	if (b->state == BREAKER_HALF_OPEN) {
		b->trials++;
		b->trial_us = now_us;
	}
	return (struct breaker_ticket){ .generation = b->generation, .is_trial = b->state == BREAKER_HALF_OPEN };
}

struct breaker_ticket breaker_witness(const struct breaker *b, uint64_t began_us)
{
	return (struct breaker_ticket){ .generation = b->generation, .began_us = began_us };
}

uint64_t breaker_open_left_us(const struct breaker *b, uint64_t now_us)
{
	if (b->state != BREAKER_OPEN)
		return 0;
	if (b->until_us == BREAKER_FOREVER)
		return BREAKER_FOREVER;
	return b->until_us > now_us ? b->until_us - now_us : 0;
}

bool breaker_is_shaky(const struct breaker *b, uint64_t now_us)
{
	return b->state != BREAKER_CLOSED || b->failures_in_row > 0 || breaker_window(b, now_us).failures > 0;
}

/* ---- by hand ---- */

void breaker_force_open(struct breaker *b, uint64_t now_us, struct breaker_change *change)
{
	change->to = change->from = b->state;
	if (b->state == BREAKER_OPEN && b->until_us == BREAKER_FOREVER)
		return;
	breaker_turn(b, BREAKER_OPEN, BREAKER_BY_HAND, now_us, change);
	b->generation++;
	b->total_opens++;
	b->until_us = BREAKER_FOREVER;
	change->open_us = BREAKER_FOREVER;
}

void breaker_force_close(struct breaker *b, uint64_t now_us, struct breaker_change *change)
{
	change->to = change->from = b->state;
	b->generation++;
	if (b->state != BREAKER_CLOSED)
		breaker_turn(b, BREAKER_CLOSED, BREAKER_BY_HAND, now_us, change);
	else
		breaker_forget_results(b);
}

void breaker_reset(struct breaker *b, uint64_t now_us, struct breaker_change *change)
{
	uint32_t generation;

	breaker_force_close(b, now_us, change);
	generation = b->generation;
	breaker_init(b, now_us);
	b->generation = generation;
}

/* ---- for people ---- */

const char *breaker_state_name(enum breaker_state state)
{
	static const char *const names[] = {
		[BREAKER_CLOSED] = "closed",
		[BREAKER_OPEN] = "open",
		[BREAKER_HALF_OPEN] = "half_open",
	};

	return names[state];
}

static const char *breaker_plural(unsigned n)
{
	return n == 1 ? "" : "s";
}

size_t breaker_describe(const struct breaker_change *change, char *dst, size_t size)
{
	double span = (double)change->span_us / USEC_PER_SEC;

	switch (change->cause) {
	case BREAKER_BY_COUNT:
		return str_format(dst, size, "%u failure%s in a row, last: %s", change->failures,
				  breaker_plural(change->failures), change->last);
	case BREAKER_BY_RATE:
		return str_format(dst, size, "%u %% of %u attempts within %g s failed, last: %s",
				  (unsigned)((uint64_t)change->failures * 100 / change->calls), change->calls, span,
				  change->last);
	case BREAKER_BY_TRIAL:
		if (change->to == BREAKER_OPEN)
			return str_format(dst, size, "a trial failed: %s", change->last);
		return str_format(dst, size, "%u trial%s succeeded", change->calls, breaker_plural(change->calls));
	case BREAKER_BY_TIME:
		return str_format(dst, size, "it was open for %.3f s", span);
	case BREAKER_BY_PROBE:
		return str_format(dst, size, "a probe %s", change->to == BREAKER_OPEN ? "failed" : "succeeded");
	case BREAKER_BY_HAND:
		return str_format(dst, size, "the console said so");
	case BREAKER_BY_CONFIG:
		return str_format(dst, size, "breakers are off");
	}
	UNREACHABLE();
}
