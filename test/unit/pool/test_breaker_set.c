/*
 * The breakers of an endpoint together: what is told to others, and when; and
 * which answers of a server count.
 */
#include "pool/breaker_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"

#define START (1000 * USEC_PER_SEC)

static const struct breaker_conf usual = {
	.failure_threshold = 1,
	.window_us = 30 * USEC_PER_SEC,
	.recovery_us = 5 * USEC_PER_SEC,
	.recovery_max_us = 5 * USEC_PER_SEC,
	.success_threshold = 3,
};

/* A set with a clock of its own. */
struct world {
	struct breaker_news news;
	struct breaker_set *set;
	uint64_t now_us;
	unsigned told;
};

static void world_on_news(void *arg)
{
	struct world *w = arg;

	w->told++;
}

static bool admit(struct world *w, bool can_probe, struct breaker_pass *pass)
{
	bool is_admitted = breaker_set_admit(w->set, w->now_us, 0, can_probe, pass);

	breaker_news_tell(&w->news);
	return is_admitted;
}

static struct breaker_pass begin(struct world *w)
{
	struct breaker_pass pass;

	assert_true(admit(w, false, &pass));
	return pass;
}

static bool is_refused(const struct world *w, uint64_t *left_us)
{
	return breaker_set_refuses(w->set, w->now_us, 0, left_us);
}

/* All but what only a client can show. */
static void log_in(struct world *w, struct breaker_pass *pass)
{
	breaker_pass_succeed(pass,
			     FAILURE_BIT(FAILURE_CONNECT) | FAILURE_BIT(FAILURE_LOGIN) | FAILURE_BIT(FAILURE_OVERLOAD),
			     w->now_us);
}

static const struct breaker *protocol(const struct world *w)
{
	return &w->set->breakers[FAILURE_PROTOCOL];
}

/* The class protocol is open, its time is over, and nobody has asked yet. */
static void world_init(struct world *w)
{
	struct breaker_pass pass;

	*w = (struct world){ .now_us = START };
	w->news.fn = world_on_news;
	w->news.arg = w;
	w->set = breaker_set_new(&w->news, BREAKER_SET_COMMON, &usual, START);
	pass = begin(w);
	log_in(w, &pass);
	breaker_pass_fail(&pass, FAILURE_PROTOCOL, 0, "server conn crashed?", w->now_us);
	assert_int_equal(w->told, 1);
	w->now_us += usual.recovery_us;
	w->told = 0;
}

static void test_wish_for_a_probe_is_told_once(void **state UNUSED)
{
	struct breaker_pass pass;
	struct world w;

	world_init(&w);
	assert_false(admit(&w, true, &pass));
	assert_int_equal(protocol(&w)->state, BREAKER_HALF_OPEN);
	assert_int_equal(w.told, 1);
	assert_true(breaker_set_wants_probe(w.set));
	for (unsigned i = 0; i < 10; i++)
		assert_false(admit(&w, true, &pass));
	assert_int_equal(w.told, 1);
	breaker_set_probed(w.set, true, w.now_us);
	assert_int_equal(w.told, 2); /* those who wait may go */
	assert_true(admit(&w, true, &pass));
	breaker_set_free(w.set);
}

static void test_probe_without_answer_is_not_waited_for_in_vain(void **state UNUSED)
{
	struct breaker_pass pass;
	struct world w;
	uint64_t left_us;

	world_init(&w);
	assert_false(admit(&w, true, &pass));
	w.now_us += BREAKER_PATIENCE_US - 1;
	assert_true(is_refused(&w, &left_us));
	assert_false(admit(&w, true, &pass));
	w.now_us++;
	assert_false(is_refused(&w, &left_us));
	assert_true(admit(&w, true, &pass));
	breaker_set_free(w.set);
}

static void test_long_trial_refuses_for_a_while(void **state UNUSED)
{
	struct breaker_pass pass;
	struct world w;
	uint64_t left_us;

	world_init(&w);
	begin(&w);
	assert_true(is_refused(&w, &left_us));
	assert_int_equal(left_us, USEC_PER_SEC);
	assert_false(admit(&w, false, &pass));
	w.now_us += BREAKER_PATIENCE_US - 1000;
	assert_true(is_refused(&w, &left_us));
	assert_int_equal(left_us, 1000);
	w.now_us += 1000;
	assert_false(is_refused(&w, &left_us));
	begin(&w);
	assert_true(is_refused(&w, &left_us));
	breaker_set_free(w.set);
}

static void test_first_answer_counts_and_its_transaction_once(void **state UNUSED)
{
	struct breaker_pass trial;
	struct breaker_pass second;
	struct world w;
	uint64_t left_us;

	world_init(&w);
	trial = begin(&w);
	log_in(&w, &trial);
	assert_true(breaker_pass_is_awaited(&trial));
	breaker_pass_served(&trial, false, w.now_us); /* BEGIN */
	assert_int_equal(protocol(&w)->good, 1);
	assert_false(is_refused(&w, &left_us));
	second = begin(&w);
	breaker_pass_served(&trial, false, w.now_us);
	breaker_pass_served(&trial, true, w.now_us); /* COMMIT */
	assert_int_equal(protocol(&w)->successes, 1);
	breaker_pass_served(&trial, false, w.now_us);
	assert_int_equal(protocol(&w)->successes, 1);
	breaker_pass_served(&trial, true, w.now_us); /* the next transaction */
	assert_int_equal(protocol(&w)->successes, 2);
	breaker_pass_abandon(&second, w.now_us);
	breaker_pass_served(&trial, true, w.now_us);
	assert_int_equal(protocol(&w)->state, BREAKER_CLOSED);
	breaker_set_free(w.set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wish_for_a_probe_is_told_once),
		cmocka_unit_test(test_probe_without_answer_is_not_waited_for_in_vain),
		cmocka_unit_test(test_long_trial_refuses_for_a_while),
		cmocka_unit_test(test_first_answer_counts_and_its_transaction_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
