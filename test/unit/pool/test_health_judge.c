/* Fencing, elections, and the course of failovers. */
#include "core/base.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "pool/health_judge.h"

/* A primary that can be reached; the timelines that were seen are equal to its own. */
static struct health_view primary(uint32_t timeline, uint64_t since_us)
{
	return (struct health_view){
		.is_reachable = true,
		.is_primary = true,
		.timeline = timeline,
		.newest = timeline,
		.system_id = 7,
		.primary_since_us = since_us,
	};
}

static struct health_view standby(uint32_t timeline)
{
	struct health_view view = primary(timeline, 0);

	view.is_primary = false;
	return view;
}

static void test_one_primary(void **state UNUSED)
{
	struct health_view views[] = { standby(1), primary(1, 10), standby(1) };

	assert_int_equal(health_judge(views, 3), 1);
	assert_false(views[0].is_fenced || views[1].is_fenced || views[2].is_fenced);
	assert_int_equal(health_judge(views, 0), -1);
	views[1].is_reachable = false;
	assert_int_equal(health_judge(views, 3), -1);
	assert_false(views[1].is_fenced);
}

static void test_an_older_timeline_is_fenced(void **state UNUSED)
{
	struct health_view views[] = { primary(1, 10), primary(2, 20) };

	views[0].newest = 2;
	assert_int_equal(health_judge(views, 2), 1);
	assert_true(views[0].is_fenced);
	assert_false(views[1].is_fenced);
	/* even while the newer one is away */
	views[1].is_reachable = false;
	assert_int_equal(health_judge(views, 2), -1);
	assert_true(views[0].is_fenced);
}

static void test_a_standby_is_not_fenced(void **state UNUSED)
{
	struct health_view views[] = { standby(1), primary(2, 20) };

	views[0].newest = 2;
	assert_int_equal(health_judge(views, 2), 1);
	assert_false(views[0].is_fenced);
}

static void test_two_of_one_timeline(void **state UNUSED)
{
	struct health_view views[] = { primary(2, 30), primary(2, 20), primary(2, 40) };

	assert_int_equal(health_judge(views, 3), 1);
	assert_true(views[0].is_fenced && views[2].is_fenced);
}

static void test_unknown_timelines(void **state UNUSED)
{
	struct health_view views[] = { primary(0, 10), primary(0, 20) };

	assert_int_equal(health_judge(views, 2), 1);
	assert_true(views[0].is_fenced);
	assert_false(views[1].is_fenced);
}

static void test_systems_do_not_judge_each_other(void **state UNUSED)
{
	struct health_view views[] = { primary(1, 10), primary(2, 20) };

	views[1].system_id = 8;
	assert_int_equal(health_judge(views, 2), 0);
	assert_false(views[0].is_fenced || views[1].is_fenced);
	assert_false(health_is_one_system(views, 2));
	views[1].system_id = 0;
	assert_true(health_is_one_system(views, 2));
}

static void test_a_failover(void **state UNUSED)
{
	struct failover_watch watch = { .is_open = false };

	failover_symptom(&watch, "too early", 1);
	assert_false(watch.is_open);
	assert_int_equal(failover_look(&watch, NULL, 0, "none yet", 1, 2), FAILOVER_NOTHING);
	assert_int_equal(failover_look(&watch, "a", 1, NULL, 2, 3), FAILOVER_FIRST);
	assert_int_equal(failover_look(&watch, "a", 1, NULL, 3, 4), FAILOVER_NOTHING);
	failover_symptom(&watch, "57P01", 100);
	failover_symptom(&watch, "server crash", 101);
	/* the answer to an older question */
	assert_int_equal(failover_look(&watch, "a", 1, NULL, 99, 102), FAILOVER_NOTHING);
	assert_true(watch.is_open);
	assert_int_equal(failover_look(&watch, NULL, 0, "refused", 100, 110), FAILOVER_LOST);
	assert_int_equal(failover_look(&watch, NULL, 0, "refused", 110, 120), FAILOVER_NOTHING);
	assert_int_equal(failover_look(&watch, "b", 2, NULL, 120, 130), FAILOVER_DONE);
	assert_int_equal(watch.open.began_us, 100);
	assert_int_equal(watch.open.detected_us, 110);
	assert_int_equal(watch.open.elected_us, 130);
	assert_int_equal(watch.open.timeline, 2);
	assert_string_equal(watch.open.from, "a");
	assert_string_equal(watch.open.to, "b");
	assert_string_equal(watch.open.why, "57P01");
	assert_int_equal(failover_look(&watch, "b", 2, NULL, 131, 132), FAILOVER_NOTHING);
}

static void test_a_primary_that_comes_back(void **state UNUSED)
{
	struct failover_watch watch = { .is_open = false };

	assert_int_equal(failover_look(&watch, "a", 1, NULL, 2, 3), FAILOVER_FIRST);
	/* a symptom that means nothing */
	failover_symptom(&watch, "25006", 10);
	assert_int_equal(failover_look(&watch, "a", 1, NULL, 10, 11), FAILOVER_NOTHING);
	assert_false(watch.is_open);
	assert_int_equal(failover_look(&watch, NULL, 0, "refused", 20, 21), FAILOVER_LOST);
	assert_int_equal(failover_look(&watch, "a", 1, NULL, 22, 23), FAILOVER_BACK);
	/* a switchover without any symptom */
	assert_int_equal(failover_look(&watch, "b", 2, NULL, 30, 31), FAILOVER_DONE);
	assert_int_equal(watch.open.began_us, 31);
	assert_int_equal(watch.open.detected_us, 31);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_primary),
		cmocka_unit_test(test_an_older_timeline_is_fenced),
		cmocka_unit_test(test_a_standby_is_not_fenced),
		cmocka_unit_test(test_two_of_one_timeline),
		cmocka_unit_test(test_unknown_timelines),
		cmocka_unit_test(test_systems_do_not_judge_each_other),
		cmocka_unit_test(test_a_failover),
		cmocka_unit_test(test_a_primary_that_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
