/*
 * The breaker: each transition by itself, then random sequences of events
 * against a model that is written as plainly as possible, with lists in place
 * of counters.
 */
#include "pool/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/str.h"

#define START (1000 * USEC_PER_SEC)

static const struct breaker_conf usual = {
	.failure_threshold = 5,
	.failure_rate_pct = 50,
	.window_us = 30 * USEC_PER_SEC,
	.min_calls = 20,
	.recovery_us = 30 * USEC_PER_SEC,
	.recovery_max_us = 300 * USEC_PER_SEC,
	.success_threshold = 3,
};

/* A breaker with a clock of its own. */
struct world {
	struct breaker b;
	struct breaker_conf conf;
	struct breaker_change change; /* of the last event */
	uint64_t now_us;
	uint32_t dice;
	bool can_probe;
};

static struct world world_new(void)
{
	struct world w = { .conf = usual, .now_us = START };

	breaker_init(&w.b, START);
	return w;
}

static void later(struct world *w, uint64_t ms)
{
	w->now_us += ms * 1000;
}

static enum breaker_verdict admit(struct world *w)
{
	return breaker_admit(&w->b, &w->conf, w->now_us, w->can_probe, &w->change);
}

static struct breaker_ticket begin(struct world *w)
{
	assert_int_equal(admit(w), BREAKER_ADMITS);
	return breaker_begin(&w->b, w->now_us);
}

static void fail_ticket(struct world *w, struct breaker_ticket ticket)
{
	breaker_failure(&w->b, &w->conf, ticket, w->now_us, "connect failed", w->dice, &w->change);
}

static void succeed_ticket(struct world *w, struct breaker_ticket ticket)
{
	breaker_success(&w->b, &w->conf, ticket, w->now_us, &w->change);
}

static void fail_times(struct world *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		fail_ticket(w, begin(w));
}

static void succeed_times(struct world *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		succeed_ticket(w, begin(w));
}

static void probe(struct world *w, bool is_ok)
{
	breaker_probe(&w->b, &w->conf, is_ok, w->now_us, w->dice, &w->change);
}

static void assert_change(const struct world *w, enum breaker_state from, enum breaker_state to, const char *evidence)
{
	char text[256];

	assert_int_equal(w->change.from, from);
	assert_int_equal(w->change.to, to);
	assert_int_equal(w->b.state, to);
	breaker_describe(&w->change, text, sizeof(text));
	assert_string_equal(text, evidence);
}

static void assert_no_change(const struct world *w, enum breaker_state state)
{
	assert_int_equal(w->change.from, w->change.to);
	assert_int_equal(w->b.state, state);
}

/* ---- closed ---- */

static void test_opens_by_failures_in_row(void **state UNUSED)
{
	struct world w = world_new();

	fail_times(&w, 4);
	assert_no_change(&w, BREAKER_CLOSED);
	fail_times(&w, 1);
	assert_change(&w, BREAKER_CLOSED, BREAKER_OPEN, "5 failures in a row, last: connect failed");
	assert_int_equal(w.change.open_us, 30 * USEC_PER_SEC);
	assert_int_equal(admit(&w), BREAKER_REFUSES);
	assert_int_equal(breaker_open_left_us(&w.b, w.now_us), 30 * USEC_PER_SEC);
}

static void test_success_ends_the_row(void **state UNUSED)
{
	struct world w = world_new();

	w.conf.failure_rate_pct = 0;
	for (unsigned i = 0; i < 50; i++) {
		fail_times(&w, 4);
		succeed_times(&w, 1);
	}
	assert_no_change(&w, BREAKER_CLOSED);
	assert_int_equal(w.b.total_failures, 200);
	assert_int_equal(w.b.total_successes, 50);
}

static void test_opens_by_rate(void **state UNUSED)
{
	struct world w = world_new();

	w.conf.failure_threshold = 0;
	for (unsigned i = 0; i < 10; i++) {
		fail_times(&w, 1);
		assert_no_change(&w, BREAKER_CLOSED); /* too few, whatever the share */
		if (i < 9)
			succeed_times(&w, 1);
	}
	fail_times(&w, 1);
	assert_change(&w, BREAKER_CLOSED, BREAKER_OPEN, "55 % of 20 attempts within 30 s failed, last: connect failed");
}

static void test_rate_forgets_what_left_the_window(void **state UNUSED)
{
	struct world w = world_new();

	w.conf.failure_threshold = 0;
	fail_times(&w, 19);
	later(&w, 31000);
	fail_times(&w, 1);
	assert_no_change(&w, BREAKER_CLOSED);
	fail_times(&w, 19);
	assert_change(&w, BREAKER_CLOSED, BREAKER_OPEN,
		      "100 % of 20 attempts within 30 s failed, last: connect failed");
}

static void test_low_rate_keeps_it_closed(void **state UNUSED)
{
	struct world w = world_new();

	for (unsigned i = 0; i < 200; i++) {
		succeed_times(&w, 2);
		fail_times(&w, 1);
		later(&w, 100);
	}
	assert_no_change(&w, BREAKER_CLOSED);
}

/* Several sessions that one crash has ended are one failure. */
static void test_failures_that_overlap_are_one(void **state UNUSED)
{
	struct world w = world_new();
	uint64_t began_us = w.now_us;

	later(&w, 100);
	for (unsigned i = 0; i < 100; i++)
		fail_ticket(&w, breaker_witness(&w.b, began_us));
	assert_no_change(&w, BREAKER_CLOSED);
	assert_int_equal(w.b.failures_in_row, 1);
	assert_int_equal(w.b.total_failures, 100);
	for (unsigned i = 0; i < 4; i++) {
		later(&w, 100);
		fail_ticket(&w, breaker_witness(&w.b, w.now_us - 10));
	}
	assert_int_equal(w.b.state, BREAKER_OPEN);
}

static void test_off_never_opens(void **state UNUSED)
{
	struct world w = world_new();

	w.conf.failure_threshold = w.conf.failure_rate_pct = 0;
	assert_false(breaker_is_on(&w.conf));
	fail_times(&w, 1000);
	assert_no_change(&w, BREAKER_CLOSED);
	assert_int_equal(w.b.total_failures, 1000);
}

static void test_new_window_length_forgets(void **state UNUSED)
{
	struct world w = world_new();

	w.conf.failure_threshold = 0;
	fail_times(&w, 19);
	w.conf.window_us = 60 * USEC_PER_SEC;
	fail_times(&w, 1);
	assert_no_change(&w, BREAKER_CLOSED);
}

static void test_shaky_while_failures_are_recent(void **state UNUSED)
{
	struct world w = world_new();

	assert_false(breaker_is_shaky(&w.b, w.now_us));
	fail_times(&w, 1);
	succeed_times(&w, 1);
	assert_true(breaker_is_shaky(&w.b, w.now_us));
	later(&w, 31000);
	assert_false(breaker_is_shaky(&w.b, w.now_us));
	fail_times(&w, 5);
	assert_true(breaker_is_shaky(&w.b, w.now_us));
}

/* ---- open ---- */

static struct world world_open(void)
{
	struct world w = world_new();

	fail_times(&w, 5);
	assert_int_equal(w.b.state, BREAKER_OPEN);
	return w;
}

static void test_half_open_when_time_is_over(void **state UNUSED)
{
	struct world w = world_open();

	later(&w, 29999);
	assert_int_equal(admit(&w), BREAKER_REFUSES);
	assert_no_change(&w, BREAKER_OPEN);
	assert_int_equal(breaker_open_left_us(&w.b, w.now_us), 1000);
	later(&w, 1);
	assert_int_equal(admit(&w), BREAKER_ADMITS);
	assert_change(&w, BREAKER_OPEN, BREAKER_HALF_OPEN, "it was open for 30.000 s");
	assert_int_equal(breaker_open_left_us(&w.b, w.now_us), 0);
}

static void test_results_from_before_it_opened_decide_nothing(void **state UNUSED)
{
	struct world w = world_new();
	struct breaker_ticket old[6];

	for (unsigned i = 0; i < 6; i++)
		old[i] = begin(&w);
	fail_times(&w, 5);
	succeed_ticket(&w, old[0]);
	assert_no_change(&w, BREAKER_OPEN);
	fail_ticket(&w, old[1]);
	assert_no_change(&w, BREAKER_OPEN);
	assert_int_equal(w.b.until_us, w.now_us + 30 * USEC_PER_SEC);
	later(&w, 30000);
	assert_int_equal(admit(&w), BREAKER_ADMITS);
	for (unsigned i = 2; i < 5; i++)
		succeed_ticket(&w, old[i]);
	assert_no_change(&w, BREAKER_HALF_OPEN);
	fail_ticket(&w, old[5]);
	assert_no_change(&w, BREAKER_HALF_OPEN);
	assert_int_equal(w.b.total_successes, 4);
	assert_int_equal(w.b.total_failures, 7);
}

static void test_last_failures_are_kept(void **state UNUSED)
{
	struct world w = world_new();
	char text[BREAKER_TEXT * 2];

	w.conf.failure_threshold = 0;
	for (unsigned i = 0; i < 7; i++) {
		str_format(text, sizeof(text), "failure %u", i);
		breaker_failure(&w.b, &w.conf, begin(&w), w.now_us + i, text, 0, &w.change);
	}
	assert_int_equal(w.b.note_count, 7);
	for (unsigned i = 2; i < 7; i++) {
		str_format(text, sizeof(text), "failure %u", i);
		assert_string_equal(w.b.notes[i % BREAKER_NOTES].text, text);
		assert_int_equal(w.b.notes[i % BREAKER_NOTES].at_us, w.now_us + i);
	}
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	breaker_failure(&w.b, &w.conf, begin(&w), w.now_us, text, 0, &w.change);
	assert_int_equal(strlen(w.b.notes[7 % BREAKER_NOTES].text), BREAKER_TEXT - 1);
}

/* ---- half open ---- */

static struct world world_half_open(void)
{
	struct world w = world_open();

	later(&w, 30000);
	assert_int_equal(admit(&w), BREAKER_ADMITS);
	return w;
}

static void test_trials_ramp_and_close(void **state UNUSED)
{
	struct world w = world_half_open();
	struct breaker_ticket t[4];

	t[0] = begin(&w);
	assert_int_equal(admit(&w), BREAKER_WAITS);
	succeed_ticket(&w, t[0]);
	for (unsigned i = 0; i < 2; i++)
		t[i] = begin(&w);
	assert_int_equal(admit(&w), BREAKER_WAITS);
	succeed_ticket(&w, t[0]);
	assert_no_change(&w, BREAKER_HALF_OPEN);
	for (unsigned i = 2; i < 4; i++)
		t[i] = begin(&w);
	assert_int_equal(admit(&w), BREAKER_WAITS); /* three are under way */
	w.conf.success_threshold = 4;
	succeed_ticket(&w, t[1]);
	assert_no_change(&w, BREAKER_HALF_OPEN);
	t[0] = begin(&w);
	t[1] = begin(&w);
	assert_int_equal(admit(&w), BREAKER_WAITS); /* four are */
	succeed_ticket(&w, t[2]);
	assert_change(&w, BREAKER_HALF_OPEN, BREAKER_CLOSED, "4 trials succeeded");
	/* The others count as any attempt does now. */
	fail_ticket(&w, t[0]);
	assert_int_equal(w.b.failures_in_row, 1);
	succeed_ticket(&w, t[1]);
	assert_int_equal(w.b.failures_in_row, 0);
	breaker_abandon(&w.b, t[3]);
	assert_no_change(&w, BREAKER_CLOSED);
}

static void test_failed_trial_opens_again(void **state UNUSED)
{
	struct world w = world_half_open();
	struct breaker_ticket other;

	succeed_times(&w, 1);
	other = begin(&w);
	fail_times(&w, 1);
	assert_change(&w, BREAKER_HALF_OPEN, BREAKER_OPEN, "a trial failed: connect failed");
	assert_int_equal(w.b.trials, 0);
	later(&w, 300000);
	assert_int_equal(admit(&w), BREAKER_ADMITS);
	succeed_ticket(&w, other); /* from before */
	assert_int_equal(w.b.successes, 0);
}

static void test_long_trial_makes_room_in_time(void **state UNUSED)
{
	struct world w = world_open();
	struct breaker_ticket first;
	struct breaker_ticket second;

	later(&w, 30000);
	first = begin(&w);
	later(&w, BREAKER_PATIENCE_US / 1000 - 1);
	assert_int_equal(admit(&w), BREAKER_WAITS);
	later(&w, 1);
	second = begin(&w);
	assert_int_equal(w.b.trials, 2);
	assert_int_equal(admit(&w), BREAKER_WAITS); /* one more at a time, not all at once */
	later(&w, BREAKER_PATIENCE_US / 1000);
	begin(&w);
	succeed_ticket(&w, second);
	succeed_ticket(&w, first); /* as late as it is, it has been begun since */
	assert_int_equal(w.b.good, 2);
	assert_int_equal(w.b.trials, 1);
}

static void test_abandoned_trial_makes_room(void **state UNUSED)
{
	struct world w = world_half_open();
	struct breaker_ticket t = begin(&w);

	assert_int_equal(admit(&w), BREAKER_WAITS);
	breaker_abandon(&w.b, t);
	assert_int_equal(admit(&w), BREAKER_ADMITS);
	assert_no_change(&w, BREAKER_HALF_OPEN);
}

static void test_witnesses_do_not_decide_half_open(void **state UNUSED)
{
	struct world w = world_half_open();

	fail_ticket(&w, breaker_witness(&w.b, 0));
	assert_no_change(&w, BREAKER_HALF_OPEN);
	for (unsigned i = 0; i < 5; i++)
		succeed_ticket(&w, breaker_witness(&w.b, 0));
	assert_no_change(&w, BREAKER_HALF_OPEN);
	assert_int_equal(w.b.successes, 0);
}

/* One server that goes on serving closes it as well as several that are tried. */
static void test_what_a_trial_has_opened_vouches(void **state UNUSED)
{
	struct world w = world_half_open();
	struct breaker_ticket before = breaker_vouch((struct breaker_ticket){ .generation = w.b.generation - 1 });
	struct breaker_ticket t = begin(&w);

	succeed_ticket(&w, t);
	succeed_ticket(&w, before); /* it was there before the outage */
	assert_int_equal(w.b.successes, 1);
	for (unsigned i = 0; i < 2; i++)
		succeed_ticket(&w, breaker_vouch(t));
	assert_change(&w, BREAKER_HALF_OPEN, BREAKER_CLOSED, "3 trials succeeded");
	w = world_half_open();
	t = begin(&w);
	succeed_ticket(&w, t);
	fail_ticket(&w, breaker_vouch(t));
	assert_int_equal(w.b.state, BREAKER_OPEN);
}

static void test_open_time_doubles_to_cap(void **state UNUSED)
{
	static const uint64_t most_s[] = { 30, 60, 120, 240, 300, 300 };
	struct world w = world_open();

	for (unsigned i = 0; i < ARRAY_LEN(most_s); i++) {
		assert_int_equal(w.b.open_us, most_s[i] * USEC_PER_SEC);
		later(&w, most_s[i] * 1000);
		fail_times(&w, 1);
	}
	assert_int_equal(w.b.total_opens, 1 + ARRAY_LEN(most_s));
}

static void test_jitter_shortens_never_below_recovery(void **state UNUSED)
{
	struct world w = world_open();

	w.dice = UINT32_MAX;
	for (unsigned i = 0; i < 6; i++) {
		later(&w, 300000);
		fail_times(&w, 1);
		assert_in_range(w.b.open_us, w.conf.recovery_us, w.conf.recovery_max_us / 2);
	}
	assert_int_equal(w.b.open_us, w.conf.recovery_max_us / 2);
}

static void close_by_trials(struct world *w)
{
	later(w, (w->b.until_us - w->now_us) / 1000 + 1);
	succeed_times(w, 3);
	assert_int_equal(w->b.state, BREAKER_CLOSED);
}

static void test_quiet_time_forgets_the_doubling(void **state UNUSED)
{
	struct world w = world_open();

	close_by_trials(&w);
	later(&w, 29999);
	fail_times(&w, 5);
	assert_int_equal(w.b.open_us, 60 * USEC_PER_SEC);
	close_by_trials(&w);
	later(&w, 60000);
	fail_times(&w, 5);
	assert_int_equal(w.b.open_us, 30 * USEC_PER_SEC);
}

/* ---- probes ---- */

static void test_probe_comes_before_the_first_trial(void **state UNUSED)
{
	struct world w = world_open();

	w.can_probe = true;
	later(&w, 30000);
	assert_int_equal(admit(&w), BREAKER_WANTS_PROBE);
	assert_int_equal(w.b.state, BREAKER_HALF_OPEN);
	probe(&w, true);
	assert_no_change(&w, BREAKER_HALF_OPEN);
	assert_int_equal(admit(&w), BREAKER_ADMITS);
	succeed_times(&w, 3);
	assert_int_equal(w.b.state, BREAKER_CLOSED);
}

static void test_probes_alone_do_not_close(void **state UNUSED)
{
	struct world w = world_new();

	w.can_probe = true;
	fail_times(&w, 5);
	later(&w, 30000);
	assert_int_equal(admit(&w), BREAKER_WANTS_PROBE);
	for (int i = 0; i < 100; i++) {
		later(&w, 1000);
		probe(&w, true);
		assert_no_change(&w, BREAKER_HALF_OPEN);
	}
	begin(&w);
	assert_int_equal(admit(&w), BREAKER_WAITS);
}

static void test_failed_probe_opens_again(void **state UNUSED)
{
	struct world w = world_open();

	w.can_probe = true;
	later(&w, 30000);
	assert_int_equal(admit(&w), BREAKER_WANTS_PROBE);
	probe(&w, false);
	assert_change(&w, BREAKER_HALF_OPEN, BREAKER_OPEN, "a probe failed");
	assert_int_equal(w.b.open_us, 60 * USEC_PER_SEC);
}

static void test_probe_ends_open_time_early(void **state UNUSED)
{
	struct world w = world_open();

	w.can_probe = true;
	later(&w, 1000);
	probe(&w, false);
	assert_no_change(&w, BREAKER_OPEN);
	probe(&w, true);
	assert_change(&w, BREAKER_OPEN, BREAKER_HALF_OPEN, "a probe succeeded");
	assert_int_equal(admit(&w), BREAKER_ADMITS);
}

static void test_probe_that_misled_ends_nothing_early(void **state UNUSED)
{
	struct world w = world_open();

	w.can_probe = true;
	probe(&w, true);
	fail_times(&w, 1);
	assert_int_equal(w.b.state, BREAKER_OPEN);
	later(&w, 59999);
	probe(&w, true);
	assert_no_change(&w, BREAKER_OPEN);
	later(&w, 1);
	probe(&w, true);
	assert_int_equal(w.b.state, BREAKER_HALF_OPEN);
	succeed_times(&w, 3);
	fail_times(&w, 5);
	probe(&w, true);
	assert_int_equal(w.b.state, BREAKER_HALF_OPEN); /* forgiven by having closed */
}

static void test_probes_decide_nothing_beside_trials(void **state UNUSED)
{
	struct world w = world_half_open();
	struct breaker_ticket t = begin(&w);

	probe(&w, false);
	assert_no_change(&w, BREAKER_HALF_OPEN);
	succeed_ticket(&w, t);
	probe(&w, false);
	assert_no_change(&w, BREAKER_HALF_OPEN);
	w = world_new();
	probe(&w, false);
	assert_no_change(&w, BREAKER_CLOSED);
}

/* ---- by hand and by configuration ---- */

static void test_forced_open_stays_open(void **state UNUSED)
{
	struct world w = world_new();

	w.conf.failure_threshold = w.conf.failure_rate_pct = 0; /* works where breakers are off, too */
	breaker_force_open(&w.b, w.now_us, &w.change);
	assert_change(&w, BREAKER_CLOSED, BREAKER_OPEN, "the console said so");
	later(&w, 1000 * 1000 * 1000);
	assert_int_equal(admit(&w), BREAKER_REFUSES);
	probe(&w, true);
	assert_no_change(&w, BREAKER_OPEN);
	assert_true(breaker_open_left_us(&w.b, w.now_us) == BREAKER_FOREVER);
	breaker_force_open(&w.b, w.now_us, &w.change);
	assert_no_change(&w, BREAKER_OPEN);
	breaker_force_close(&w.b, w.now_us, &w.change);
	assert_change(&w, BREAKER_OPEN, BREAKER_CLOSED, "the console said so");
	assert_int_equal(admit(&w), BREAKER_ADMITS);
}

static void test_forced_close_keeps_the_past_and_reset_does_not(void **state UNUSED)
{
	struct world w = world_open();
	struct breaker_ticket old = breaker_witness(&w.b, 0);

	breaker_force_close(&w.b, w.now_us, &w.change);
	assert_int_equal(w.b.note_count, 5);
	assert_int_equal(w.b.total_opens, 1);
	fail_ticket(&w, old);
	assert_int_equal(w.b.failures_in_row, 0);
	fail_times(&w, 5);
	assert_int_equal(w.b.open_us, 60 * USEC_PER_SEC);
	old = breaker_witness(&w.b, 0);
	breaker_reset(&w.b, w.now_us, &w.change);
	assert_change(&w, BREAKER_OPEN, BREAKER_CLOSED, "the console said so");
	assert_int_equal(w.b.note_count, 0);
	fail_ticket(&w, old);
	assert_int_equal(w.b.failures_in_row, 0);
	assert_int_equal(w.b.total_failures, 1);
	fail_times(&w, 5);
	assert_int_equal(w.b.open_us, 30 * USEC_PER_SEC);
}

static void test_switched_off_while_open_closes(void **state UNUSED)
{
	struct world w = world_open();

	w.conf.failure_threshold = w.conf.failure_rate_pct = 0;
	assert_int_equal(admit(&w), BREAKER_ADMITS);
	assert_change(&w, BREAKER_OPEN, BREAKER_CLOSED, "breakers are off");
}

/* ---- random sequences against a model ---- */

#define MODEL_MAX 4096

/* A result that counted while it was closed, since it was last closed. */
struct model_result {
	uint64_t at_us;
	bool is_ok;
};

struct model_ticket {
	struct breaker_ticket ticket;
	unsigned round; /* in which it began */
	uint64_t began_us;
	bool is_trial;
	bool vouches;
	bool is_over;
};

/* The breaker again, by lists. */
struct model {
	enum breaker_state state;
	uint64_t until_us;
	uint64_t since_us;
	uint64_t open_us;
	bool is_forced;
	bool is_probed;
	bool is_misled;
	unsigned round; /* times it has opened or been told something */
	unsigned opens; /* since the last quiet time */
	unsigned successes;
	unsigned good;
	struct model_result results[MODEL_MAX];
	unsigned result_count;
	struct model_ticket tickets[MODEL_MAX];
	unsigned ticket_count;
};

static uint32_t model_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static unsigned model_trials(const struct model *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->ticket_count; i++)
		n += m->tickets[i].is_trial && !m->tickets[i].is_over && m->tickets[i].round == m->round;
	return n;
}

/* When the last one began, of those since it has opened; ticket by ticket, over or not. */
static uint64_t model_last_trial_us(const struct model *m)
{
	uint64_t last_us = 0;

	for (unsigned i = 0; i < m->ticket_count; i++)
		if (m->tickets[i].began_us > last_us && m->tickets[i].round == m->round)
			last_us = m->tickets[i].began_us;
	return last_us;
}

static void model_close(struct model *m, uint64_t now_us)
{
	m->state = BREAKER_CLOSED;
	m->since_us = now_us;
	m->result_count = 0;
	m->is_forced = m->is_misled = false;
}

/* Opens; the length, which has dice in it, is taken from the breaker and held against its bounds. */
static void model_open(struct model *m, const struct world *w)
{
	uint64_t most_us = w->conf.recovery_us;

	if (m->state == BREAKER_CLOSED && w->now_us >= m->since_us + m->open_us)
		m->opens = 0;
	for (unsigned i = 0; i < m->opens && most_us < w->conf.recovery_max_us; i++)
		most_us *= 2;
	if (most_us > w->conf.recovery_max_us)
		most_us = w->conf.recovery_max_us;
	assert_in_range(w->b.open_us, most_us / 2, most_us);
	assert_true(w->b.open_us >= w->conf.recovery_us);
	m->state = BREAKER_OPEN;
	m->since_us = w->now_us;
	m->open_us = w->b.open_us;
	m->until_us = w->now_us + m->open_us;
	m->opens++;
	m->round++;
}

static bool model_must_open(const struct model *m, const struct world *w)
{
	uint64_t width_us = w->conf.window_us / BREAKER_BUCKETS;
	unsigned row = 0;
	unsigned calls = 0;
	unsigned failures = 0;

	for (unsigned i = m->result_count; i > 0 && !m->results[i - 1].is_ok; i--)
		row++;
	for (unsigned i = 0; i < m->result_count; i++) {
		if (m->results[i].at_us / width_us + BREAKER_BUCKETS <= w->now_us / width_us)
			continue;
		calls++;
		failures += !m->results[i].is_ok;
	}
	if (w->conf.failure_threshold > 0 && row >= w->conf.failure_threshold)
		return true;
	return w->conf.failure_rate_pct > 0 && calls >= w->conf.min_calls &&
	       failures * 100 >= calls * w->conf.failure_rate_pct;
}

static enum breaker_verdict model_admit(struct model *m, const struct world *w)
{
	if (m->state == BREAKER_OPEN && (m->is_forced || w->now_us < m->until_us))
		return BREAKER_REFUSES;
	if (m->state == BREAKER_CLOSED)
		return BREAKER_ADMITS;
	if (m->state == BREAKER_OPEN) {
		m->state = BREAKER_HALF_OPEN;
		m->successes = m->good = 0;
		m->is_probed = false;
	}
	if (w->can_probe && !m->is_probed && m->successes == 0)
		return BREAKER_WANTS_PROBE;
	if (model_trials(m) < m->good + 1 || w->now_us - model_last_trial_us(m) >= BREAKER_PATIENCE_US)
		return BREAKER_ADMITS;
	return BREAKER_WAITS;
}

static void model_end(struct model *m, struct world *w, struct model_ticket *t, bool is_ok)
{
	t->is_over = true;
	if (t->round != m->round || m->state == BREAKER_OPEN)
		return;
	if (m->state == BREAKER_CLOSED) {
		m->results[m->result_count++] = (struct model_result){ w->now_us, is_ok };
		if (!is_ok && model_must_open(m, w))
			model_open(m, w);
	} else if ((t->is_trial || t->vouches) && !is_ok) {
		bool was_probed = m->is_probed;

		model_open(m, w);
		m->is_misled = m->is_misled || was_probed;
	} else if (t->is_trial || t->vouches) {
		m->good += t->is_trial;
		if (++m->successes >= w->conf.success_threshold)
			model_close(m, w->now_us);
	}
}

static void model_probe(struct model *m, const struct world *w, bool is_ok)
{
	if (m->state == BREAKER_OPEN && !m->is_forced && is_ok && (!m->is_misled || w->now_us >= m->until_us)) {
		m->state = BREAKER_HALF_OPEN;
		m->successes = m->good = 0;
		m->is_probed = true;
	} else if (m->state == BREAKER_HALF_OPEN && is_ok) {
		m->is_probed = true;
	} else if (m->state == BREAKER_HALF_OPEN && m->successes == 0 && model_trials(m) == 0) {
		model_open(m, w);
	}
}

static void model_hand(struct model *m, struct world *w, uint32_t what)
{
	if (what == 0) {
		breaker_force_open(&w->b, w->now_us, &w->change);
		m->round += !m->is_forced;
		m->since_us = w->now_us;
		m->state = BREAKER_OPEN;
		m->is_forced = true;
		return;
	}
	if (what == 1) {
		breaker_force_close(&w->b, w->now_us, &w->change);
	} else {
		breaker_reset(&w->b, w->now_us, &w->change);
		m->opens = 0;
		m->open_us = 0;
	}
	m->round++;
	m->result_count = 0;
	if (m->state != BREAKER_CLOSED || what == 2)
		model_close(m, w->now_us);
}

/* One end of an attempt that is under way, if there is one. */
static void model_end_some(struct model *m, struct world *w, uint32_t dice, unsigned failing_pct)
{
	for (unsigned i = 0; i < m->ticket_count; i++) {
		struct model_ticket *t = &m->tickets[(dice + i) % m->ticket_count];
		uint32_t what = (dice >> 8) % 100;

		if (t->is_over)
			continue;
		if (what < 5) {
			breaker_abandon(&w->b, t->ticket);
			t->is_over = true;
		} else if (what < 5 + failing_pct) {
			fail_ticket(w, t->ticket);
			model_end(m, w, t, false);
		} else {
			succeed_ticket(w, t->ticket);
			model_end(m, w, t, true);
			/* Sometimes it goes on: another result is to come. */
			if (dice % 3 == 0) {
				t->ticket = breaker_vouch(t->ticket);
				t->is_over = t->is_trial = false;
				t->vouches = true;
			}
		}
		return;
	}
}

static void model_begin(struct model *m, struct world *w)
{
	enum breaker_verdict expected = model_admit(m, w);

	assert_int_equal(admit(w), expected);
	if (expected != BREAKER_ADMITS)
		return;
	m->tickets[m->ticket_count++] = (struct model_ticket){
		.ticket = breaker_begin(&w->b, w->now_us),
		.round = m->round,
		.began_us = w->now_us,
		.is_trial = m->state == BREAKER_HALF_OPEN,
	};
}

static unsigned model_run(uint32_t seed)
{
	struct world w = world_new();
	struct model *m = calloc(1, sizeof(*m));
	unsigned changes = 0;

	assert_non_null(m);
	m->since_us = START;
	w.conf.failure_threshold = model_random(&seed) % 4 == 0 ? 0 : 1 + model_random(&seed) % 6;
	w.conf.failure_rate_pct = w.conf.failure_threshold == 0 ? 50 : model_random(&seed) % 2 * 30;
	w.conf.min_calls = 1 + model_random(&seed) % 10;
	w.conf.success_threshold = 1 + model_random(&seed) % 5;
	w.can_probe = model_random(&seed) % 2;
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t what = model_random(&seed) % 1000;
		uint32_t dice = model_random(&seed);
		/* Good and bad times alternate. */
		unsigned failing_pct = i / 200 % 2 == 0 ? 10 : 80;
		enum breaker_state was = m->state;

		w.dice = model_random(&seed);
		if (what < 400)
			model_begin(m, &w);
		else if (what < 750)
			model_end_some(m, &w, dice, failing_pct);
		else if (what < 900)
			later(&w, dice % 5000);
		else if (what < 920)
			later(&w, dice % 400000);
		else if (what < 990) {
			probe(&w, dice % 100 >= failing_pct);
			model_probe(m, &w, dice % 100 >= failing_pct);
		} else if (what < 993)
			model_hand(m, &w, dice % 3);
		assert_int_equal(w.b.state, m->state);
		assert_int_equal(w.b.trials, m->state == BREAKER_HALF_OPEN ? model_trials(m) : 0);
		changes += was != m->state;
	}
	free(m);
	return changes;
}

static void test_random_sequences_agree_with_model(void **state UNUSED)
{
	unsigned changes = 0;

	for (uint32_t seed = 1; seed <= 300; seed++)
		changes += model_run(seed * 2654435761u);
	assert_true(changes > 300 * 10); /* else nothing was tested */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opens_by_failures_in_row),
		cmocka_unit_test(test_success_ends_the_row),
		cmocka_unit_test(test_opens_by_rate),
		cmocka_unit_test(test_rate_forgets_what_left_the_window),
		cmocka_unit_test(test_low_rate_keeps_it_closed),
		cmocka_unit_test(test_failures_that_overlap_are_one),
		cmocka_unit_test(test_off_never_opens),
		cmocka_unit_test(test_new_window_length_forgets),
		cmocka_unit_test(test_shaky_while_failures_are_recent),
		cmocka_unit_test(test_half_open_when_time_is_over),
		cmocka_unit_test(test_results_from_before_it_opened_decide_nothing),
		cmocka_unit_test(test_last_failures_are_kept),
		cmocka_unit_test(test_trials_ramp_and_close),
		cmocka_unit_test(test_failed_trial_opens_again),
		cmocka_unit_test(test_long_trial_makes_room_in_time),
		cmocka_unit_test(test_abandoned_trial_makes_room),
		cmocka_unit_test(test_witnesses_do_not_decide_half_open),
		cmocka_unit_test(test_what_a_trial_has_opened_vouches),
		cmocka_unit_test(test_open_time_doubles_to_cap),
		cmocka_unit_test(test_jitter_shortens_never_below_recovery),
		cmocka_unit_test(test_quiet_time_forgets_the_doubling),
		cmocka_unit_test(test_probe_comes_before_the_first_trial),
		cmocka_unit_test(test_probes_alone_do_not_close),
		cmocka_unit_test(test_failed_probe_opens_again),
		cmocka_unit_test(test_probe_ends_open_time_early),
		cmocka_unit_test(test_probe_that_misled_ends_nothing_early),
		cmocka_unit_test(test_probes_decide_nothing_beside_trials),
		cmocka_unit_test(test_forced_open_stays_open),
		cmocka_unit_test(test_forced_close_keeps_the_past_and_reset_does_not),
		cmocka_unit_test(test_switched_off_while_open_closes),
		cmocka_unit_test(test_random_sequences_agree_with_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
