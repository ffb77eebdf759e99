#include "pool/queue_estimate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"

#define START (1000 * USEC_PER_SEC)
#define MS    1000

static struct queue_estimate e;
static uint64_t now_us;

static int setup(void **state UNUSED)
{
	e = (struct queue_estimate){ .grants = 0 };
	now_us = START;
	return 0;
}

/* So many grants, each this long after the one before. */
static void grants(unsigned count, unsigned servers, uint64_t step_us)
{
	for (unsigned i = 0; i < count; i++) {
		now_us += step_us;
		queue_estimate_grant(&e, servers, now_us);
	}
}

/* A queue that has been served at a steady rate, long enough to be known. */
static void learn(unsigned servers, uint64_t step_us)
{
	queue_estimate_begin(&e, now_us);
	for (int i = 0; i < 10000 && queue_estimate_wait(&e, 1, now_us) == QUEUE_UNKNOWN; i++)
		grants(1, servers, step_us);
	assert_int_not_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
}

static void test_unknown_until_rounds_are_complete(void **state UNUSED)
{
	queue_estimate_begin(&e, now_us);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
	grants((QUEUE_MARKS - 1) * 20, 20, 50 * MS);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
	grants(1, 20, 50 * MS);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), 50 * MS);
	assert_int_equal(queue_estimate_wait(&e, 1000, now_us), 1000 * 50 * MS);
}

static void test_rounds_of_few_servers_and_of_fast_ones(void **state UNUSED)
{
	queue_estimate_begin(&e, now_us);
	grants((QUEUE_MARKS - 1) * QUEUE_ROUND_GRANTS, 1, 50 * MS);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
	grants(1, 1, 50 * MS);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), 50 * MS);

	setup(NULL);
	queue_estimate_begin(&e, now_us);
	grants(3999, 4, 100);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
	grants(2, 4, 100);
	assert_int_equal(queue_estimate_wait(&e, 10, now_us), 1000);
}

static void test_time_without_a_queue_does_not_count(void **state UNUSED)
{
	learn(4, 50 * MS);
	for (int i = 0; i < 100; i++) {
		queue_estimate_end(&e, now_us);
		now_us += 5 * USEC_PER_SEC;
		queue_estimate_begin(&e, now_us);
		grants(1, 4, 50 * MS);
	}
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), 50 * MS);
}

static void test_old_knowledge_is_forgotten(void **state UNUSED)
{
	learn(4, 50 * MS);
	queue_estimate_end(&e, now_us);
	now_us += QUEUE_STALE_US + 1;
	assert_int_not_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
	queue_estimate_begin(&e, now_us);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
}

static void test_growth_is_another_pool(void **state UNUSED)
{
	learn(20, 50 * MS);
	grants(1, 19, 50 * MS);
	grants(1, 20, 50 * MS);
	assert_int_not_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
	grants(1, 23, 50 * MS);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
}

static void test_standstill(void **state UNUSED)
{
	uint64_t window_us;

	learn(4, 50 * MS);
	window_us = now_us - START;
	now_us += window_us / 2;
	assert_in_range(queue_estimate_wait(&e, 1, now_us), 51 * MS, 100 * MS); /* it grows while nothing happens */
	grants(1, 4, 0);
	assert_int_not_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
	now_us += 2 * window_us;
	assert_int_not_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
	grants(1, 4, 0); /* and is of no use once that is over */
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
}

static void test_reset(void **state UNUSED)
{
	learn(4, 50 * MS);
	queue_estimate_reset(&e);
	assert_int_equal(queue_estimate_wait(&e, 1, now_us), QUEUE_UNKNOWN);
}

static void test_margin_and_hysteresis(void **state UNUSED)
{
	uint64_t wait_us = 0;

	learn(4, 50 * MS);
	assert_false(queue_estimate_refuses(&e, 100, 4 * USEC_PER_SEC, now_us, &wait_us)); /* a quarter above */
	assert_true(queue_estimate_refuses(&e, 101, 4 * USEC_PER_SEC, now_us, &wait_us));
	assert_int_equal(wait_us, 101 * 50 * MS);
	assert_true(queue_estimate_refuses(&e, 81, 4 * USEC_PER_SEC, now_us, &wait_us));
	assert_false(queue_estimate_is_hopeless(&e, 81, 4 * USEC_PER_SEC, now_us, &wait_us));
	assert_true(queue_estimate_is_hopeless(&e, 101, 4 * USEC_PER_SEC, now_us, &wait_us));
	assert_false(queue_estimate_refuses(&e, 80, 4 * USEC_PER_SEC, now_us, &wait_us));
	assert_false(queue_estimate_refuses(&e, 81, 4 * USEC_PER_SEC, now_us, &wait_us));
}

static void test_the_first_are_never_refused(void **state UNUSED)
{
	uint64_t wait_us = 0;

	learn(4, 50 * MS);
	assert_false(queue_estimate_refuses(&e, 4, 1, now_us, &wait_us));
	assert_false(queue_estimate_is_hopeless(&e, 4, 0, now_us, &wait_us));
	assert_true(queue_estimate_refuses(&e, 5, 1, now_us, &wait_us));
	assert_true(queue_estimate_is_hopeless(&e, 5, 0, now_us, &wait_us));
}

static void test_no_limit_and_extremes(void **state UNUSED)
{
	uint64_t wait_us = 0;

	learn(4, 50 * MS);
	assert_false(queue_estimate_refuses(&e, UINT64_MAX, QUEUE_UNKNOWN, now_us, &wait_us));
	assert_true(queue_estimate_refuses(&e, UINT64_MAX, 1000, now_us, &wait_us));
	assert_int_equal(wait_us, QUEUE_UNKNOWN - 1);
	assert_false(queue_estimate_refuses(&e, UINT64_MAX, QUEUE_UNKNOWN - 1, now_us, &wait_us));
}

static void test_clocks_of_other_loops_lag(void **state UNUSED)
{
	learn(4, 50 * MS);
	for (int i = 0; i < 100; i++) {
		now_us += 50 * MS;
		queue_estimate_grant(&e, 4, now_us - (i % 2 == 0 ? 60 * MS : 0));
	}
	assert_in_range(queue_estimate_wait(&e, 1, now_us - 60 * MS), 49 * MS, 51 * MS);
}

/* ---- random events against a model that remembers everything ---- */

#define MODEL_MAX 4096

struct model {
	uint64_t busy_us[MODEL_MAX]; /* of each grant since the last reset */
	unsigned count;
	uint64_t busy_now_us;
	uint64_t since_us; /* when the queue has become what it is */
	unsigned servers;
	bool is_busy;
};

static uint32_t dice_state;

static uint32_t dice(uint32_t below)
{
	dice_state = dice_state * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(dice_state >> 8) * below >> 24);
}

/* The estimate is that of some stretch of at least QUEUE_MARKS - 1 rounds that ends now, and nothing else. */
static void model_check(const struct model *m)
{
	uint64_t wait_us = queue_estimate_wait(&e, 1, now_us);

	if (wait_us == QUEUE_UNKNOWN)
		return;
	assert_true(m->count > (QUEUE_MARKS - 1) * (QUEUE_ROUND_GRANTS));
	for (unsigned i = 0; i + (QUEUE_MARKS - 1) * QUEUE_ROUND_GRANTS < m->count; i++)
		if (wait_us == (m->busy_now_us - m->busy_us[i]) / (m->count - 1 - i))
			return;
	fail_msg("%lu us is the rate of no stretch of the last %u grants", wait_us, m->count);
}

static void model_step(struct model *m)
{
	uint64_t step_us = dice(4) == 0 ? dice(400 * MS) : dice(20 * MS);

	now_us += step_us;
	if (m->is_busy)
		m->busy_now_us += step_us;
	switch (dice(40)) {
	case 0:
		if (m->is_busy)
			queue_estimate_end(&e, now_us);
		else
			queue_estimate_begin(&e, now_us);
		m->is_busy = !m->is_busy;
		break;
	case 1:
		m->servers = 1 + dice(10);
		break;
	case 2:
		if (dice(10) == 0) {
			queue_estimate_reset(&e);
			m->count = 0;
		}
		break;
	default:
		if (!m->is_busy || m->count == MODEL_MAX)
			break;
		queue_estimate_grant(&e, m->servers, now_us);
		if (e.mark_count == 1 && e.marks[0].grants == e.grants)
			m->count = 0; /* it has begun again: the model follows, and holds it to what comes */
		m->busy_us[m->count++] = m->busy_now_us;
	}
}

static void test_random_events(void **state UNUSED)
{
	for (uint32_t seed = 1; seed <= 300; seed++) {
		struct model m = { .servers = 4 };
		bool was_known = false;

		setup(NULL);
		dice_state = seed;
		for (int i = 0; i < 1500; i++) {
			model_step(&m);
			model_check(&m);
			was_known |= queue_estimate_wait(&e, 1, now_us) != QUEUE_UNKNOWN;
		}
		assert_true(was_known);
	}
}

/* ---- a simulated pool: does it refuse those, and only those, who would wait in vain? ---- */

#define SIM_WAITERS 4096
#define SIM_SERVERS 64

struct sim {
	unsigned servers;
	uint64_t service_us;
	uint64_t limit_us;
	uint64_t free_at_us[SIM_SERVERS];
	uint64_t joined_us[SIM_WAITERS];
	bool would_be_refused[SIM_WAITERS];
	uint64_t head;
	uint64_t tail;
	unsigned served;
	unsigned late;
	unsigned wronged;
	unsigned refused;
};

/* Nobody is turned away here: what befalls whom the policy would refuse shows whether it was right. */
static void sim_join(struct sim *s)
{
	uint64_t wait_us;

	if (s->tail - s->head == SIM_WAITERS)
		return;
	if (s->head == s->tail)
		queue_estimate_begin(&e, now_us);
	s->joined_us[s->tail % SIM_WAITERS] = now_us;
	s->would_be_refused[s->tail % SIM_WAITERS] =
		queue_estimate_refuses(&e, s->tail - s->head + 1, s->limit_us, now_us, &wait_us);
	s->tail++;
}

static void sim_serve(struct sim *s, unsigned server)
{
	uint64_t i = s->head % SIM_WAITERS;
	bool is_late = now_us - s->joined_us[i] > s->limit_us;

	queue_estimate_grant(&e, s->servers, now_us);
	s->served++;
	s->refused += s->would_be_refused[i];
	s->late += is_late && !s->would_be_refused[i];
	s->wronged += !is_late && s->would_be_refused[i];
	if (++s->head == s->tail)
		queue_estimate_end(&e, now_us);
	s->free_at_us[server] = now_us + s->service_us;
}

static void sim_run(struct sim *s, unsigned joins_per_s, bool in_waves)
{
	for (unsigned i = 0; i < s->servers; i++)
		s->free_at_us[i] = now_us + (in_waves ? s->service_us : s->service_us * i / s->servers);
	for (unsigned ms = 0; ms < 120000; ms++) {
		now_us += MS;
		for (unsigned i = 0; i < s->servers; i++)
			if (now_us >= s->free_at_us[i] && s->head != s->tail)
				sim_serve(s, i);
		if (dice(1000) < joins_per_s)
			sim_join(s);
	}
}

static void test_simulated_pools(void **state UNUSED)
{
	for (uint32_t seed = 1; seed <= 40; seed++) {
		struct sim s = { .limit_us = 5 * USEC_PER_SEC };
		unsigned rate;

		setup(NULL);
		dice_state = seed;
		s.servers = 1 + dice(SIM_SERVERS - 1);
		s.service_us = (uint64_t)s.servers * MS * (2 + dice(20));
		rate = (unsigned)(s.servers * USEC_PER_SEC / s.service_us);
		sim_run(&s, rate * 12 / 10, seed % 2 == 0);
		assert_true(s.served > 1000);
		assert_int_equal(s.wronged, 0);
		assert_in_range(s.late, 0, s.refused / 4); /* those who came before it was sure */
		setup(NULL);
		memset(s.free_at_us, 0, sizeof(s.free_at_us));
		s.head = s.tail = s.served = s.late = s.refused = 0;
		sim_run(&s, rate * 9 / 10, seed % 2 == 0);
		assert_int_equal(s.wronged + s.late, 0); /* nobody waits for long where there is room */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_unknown_until_rounds_are_complete, setup),
		cmocka_unit_test_setup(test_rounds_of_few_servers_and_of_fast_ones, setup),
		cmocka_unit_test_setup(test_time_without_a_queue_does_not_count, setup),
		cmocka_unit_test_setup(test_old_knowledge_is_forgotten, setup),
		cmocka_unit_test_setup(test_growth_is_another_pool, setup),
		cmocka_unit_test_setup(test_standstill, setup),
		cmocka_unit_test_setup(test_reset, setup),
		cmocka_unit_test_setup(test_margin_and_hysteresis, setup),
		cmocka_unit_test_setup(test_the_first_are_never_refused, setup),
		cmocka_unit_test_setup(test_no_limit_and_extremes, setup),
		cmocka_unit_test_setup(test_clocks_of_other_loops_lag, setup),
		cmocka_unit_test_setup(test_random_events, setup),
		cmocka_unit_test_setup(test_simulated_pools, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
