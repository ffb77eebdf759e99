#include "pool/prelogin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/clock.h"

#define START (1000 * USEC_PER_SEC)

/* A login of a test: which source, and the how manieth in all. */
struct login {
	struct prelogin_entry entry;
	unsigned source;
	unsigned number;
};

/* Logins and their budgets, with a clock of their own. */
struct world {
	struct prelogin *p;
	uint64_t now_us;
	struct login logins[4096];
	unsigned count;
};

static struct login *login_of(struct prelogin_entry *e)
{
	return e == NULL ? NULL : CONTAINER_OF(e, struct login, entry);
}

static struct world *world_new(unsigned max, unsigned rate)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->p = prelogin_new();
	w->now_us = START;
	prelogin_set_limits(w->p, &(struct prelogin_limits){ .max = max, .rate = rate });
	return w;
}

static void world_free(struct world *w)
{
	for (unsigned i = 0; i < w->count; i++)
		if (w->logins[i].entry.source != NULL)
			prelogin_remove(w->p, &w->logins[i].entry);
	prelogin_free(&w->p);
	assert_null(w->p);
	free(w);
}

static struct login *add(struct world *w, unsigned source)
{
	struct login *l = &w->logins[w->count];

	assert_true(w->count < ARRAY_LEN(w->logins));
	l->source = source;
	l->number = w->count++;
	prelogin_add(w->p, &l->entry, source, false, w->now_us);
	return l;
}

static struct login *next(struct world *w)
{
	return login_of(prelogin_next(w->p, w->now_us));
}

/* All that may begin now; how many. */
static unsigned begin_all(struct world *w)
{
	unsigned n = 0;

	while (next(w) != NULL)
		n++;
	return n;
}

static struct prelogin_counts count(const struct world *w)
{
	struct prelogin_counts counts;

	prelogin_count(w->p, &counts);
	return counts;
}

static void test_without_limits_it_is_off(void **state)
{
	struct world *w = world_new(0, 0);

	assert_false(prelogin_is_on(w->p));
	prelogin_set_limits(w->p, &(struct prelogin_limits){ .max = 1 });
	assert_true(prelogin_is_on(w->p));
	prelogin_set_limits(w->p, &(struct prelogin_limits){ .rate = 1 });
	assert_true(prelogin_is_on(w->p));
	world_free(w);
}

static void test_one_begins_at_once(void **state)
{
	struct world *w = world_new(10, 0);
	struct login *l = add(w, 1);

	assert_true(prelogin_has_waiting(w->p));
	assert_ptr_equal(next(w), l);
	assert_null(next(w));
	assert_false(prelogin_has_waiting(w->p));
	assert_int_equal(prelogin_wait_us(w->p, w->now_us), PRELOGIN_NEVER);
	assert_int_equal(count(w).unfinished, 1);
	assert_int_equal(count(w).sources, 1);
	prelogin_remove(w->p, &l->entry);
	assert_int_equal(count(w).unfinished, 0);
	assert_int_equal(count(w).sources, 0);
	assert_int_equal(count(w).delayed, 0);
	world_free(w);
}

/* Who has most pays with his oldest, not who came last, nor the oldest of all. */
static void test_victim_is_of_the_fullest_source(void **state)
{
	struct world *w = world_new(10, 0);
	struct login *first = add(w, 1);

	for (int i = 0; i < 9; i++)
		add(w, 2);
	assert_null(prelogin_victim(w->p));
	for (unsigned i = 0; i < 5; i++) { /* five strangers, and 2 loses its oldest for each */
		struct login *victim;

		add(w, 100 + i);
		victim = login_of(prelogin_victim(w->p));
		assert_non_null(victim);
		assert_int_equal(victim->source, 2);
		assert_int_equal(victim->number, 1 + i);
		prelogin_remove(w->p, &victim->entry);
		assert_null(prelogin_victim(w->p));
	}
	assert_non_null(first->entry.source);
	assert_int_equal(count(w).evicted, 5);
	world_free(w);
}

static void test_flood_of_one_source_hits_itself(void **state)
{
	struct world *w = world_new(100, 0);
	struct login *honest = add(w, 7);
	unsigned newest = 0;

	for (int i = 0; i < 3000; i++) {
		struct login *victim;

		newest = add(w, 666)->number;
		victim = login_of(prelogin_victim(w->p));
		if (victim != NULL) {
			assert_int_equal(victim->source, 666);
			prelogin_remove(w->p, &victim->entry);
		}
	}
	assert_non_null(honest->entry.source);
	assert_non_null(w->logins[newest].entry.source);
	assert_int_equal(count(w).unfinished, 100);
	world_free(w);
}

static void test_among_equals_the_oldest_pays(void **state)
{
	struct world *w = world_new(50, 0);

	for (unsigned i = 0; i < 50; i++)
		add(w, i);
	for (unsigned i = 0; i < 20; i++) {
		struct login *victim;

		add(w, 1000 + i);
		victim = login_of(prelogin_victim(w->p));
		assert_int_equal(victim->number, i);
		prelogin_remove(w->p, &victim->entry);
	}
	world_free(w);
}

static void test_smaller_maximum_takes_several(void **state)
{
	struct world *w = world_new(100, 0);
	struct prelogin_entry *victim;
	unsigned n = 0;

	for (unsigned i = 0; i < 90; i++)
		add(w, i % 3);
	prelogin_set_limits(w->p, &(struct prelogin_limits){ .max = 10 });
	while ((victim = prelogin_victim(w->p)) != NULL) {
		prelogin_remove(w->p, victim);
		n++;
	}
	assert_int_equal(n, 80);
	world_free(w);
}

static void test_more_of_one_source_than_levels(void **state)
{
	struct world *w = world_new(3000, 0);

	for (int i = 0; i < 2500; i++)
		add(w, 1);
	for (int i = 0; i < 501; i++)
		add(w, 2);
	assert_int_equal(login_of(prelogin_victim(w->p))->source, 1);
	world_free(w);
}

/* A second's worth at once, then one after the other, in order, and nobody is refused. */
static void test_rate(void **state)
{
	struct world *w = world_new(0, 100);
	unsigned begun = 0;

	for (int i = 0; i < 500; i++)
		add(w, 1);
	for (int ms = 0; ms < 4000; ms++) {
		struct login *l;

		while ((l = next(w)) != NULL) {
			assert_int_equal(l->number, begun);
			begun++;
			prelogin_remove(w->p, &l->entry); /* it is done, and has its place no longer */
		}
		assert_int_equal(begun, 100 + (unsigned)ms / 10);
		w->now_us += 1000;
	}
	assert_int_equal(begun, 499);
	assert_int_equal(count(w).waiting, 1);
	assert_int_equal(count(w).delayed, 399);
	world_free(w);
}

static void test_rate_of_one_in_a_second(void **state)
{
	struct world *w = world_new(0, 1);

	add(w, 1);
	add(w, 1);
	assert_int_equal(begin_all(w), 1);
	assert_int_equal(prelogin_wait_us(w->p, w->now_us), USEC_PER_SEC);
	w->now_us += USEC_PER_SEC - 1;
	assert_int_equal(begin_all(w), 0);
	assert_int_equal(prelogin_wait_us(w->p, w->now_us), 1);
	w->now_us += 1;
	assert_int_equal(begin_all(w), 1);
	world_free(w);
}

static void test_rate_is_that_of_each_source(void **state)
{
	struct world *w = world_new(0, 5);

	for (unsigned i = 0; i < 30; i++)
		add(w, i % 3);
	assert_int_equal(begin_all(w), 15);
	w->now_us += USEC_PER_SEC;
	assert_int_equal(begin_all(w), 15);
	world_free(w);
}

/* Who has used up his second does not get another by having no logins for a moment. */
static void test_rate_is_remembered(void **state)
{
	struct world *w = world_new(0, 10);

	for (int i = 0; i < 10; i++)
		add(w, 1);
	for (struct login *l; (l = next(w)) != NULL;)
		prelogin_remove(w->p, &l->entry);
	assert_int_equal(count(w).sources, 0);
	for (unsigned i = 0; i < 100; i++) { /* others come and go meanwhile */
		struct login *l = add(w, 100 + i);

		assert_ptr_equal(next(w), l);
		prelogin_remove(w->p, &l->entry);
	}
	add(w, 1);
	assert_int_equal(begin_all(w), 0);
	w->now_us += USEC_PER_SEC / 10;
	assert_int_equal(begin_all(w), 1);
	world_free(w);
}

static void test_this_machine_has_no_rate(void **state)
{
	struct world *w = world_new(0, 1);

	for (unsigned i = 0; i < 50; i++) {
		struct login *l = &w->logins[w->count++];

		prelogin_add(w->p, &l->entry, 1, true, w->now_us);
	}
	assert_int_equal(begin_all(w), 50);
	world_free(w);
}

/* A second after the last login of anybody there is nobody left to remember, however busy this machine was. */
static void test_this_machine_holds_up_no_memory(void **state)
{
	struct world *w = world_new(0, 1);

	for (unsigned i = 0; i < 50; i++) {
		struct login *l = &w->logins[w->count++];

		prelogin_add(w->p, &l->entry, 1, true, w->now_us);
		assert_ptr_equal(next(w), l);
		prelogin_remove(w->p, &l->entry);
	}
	for (unsigned i = 0; i < 50; i++) {
		struct login *l = add(w, 100 + i);

		assert_ptr_equal(next(w), l);
		prelogin_remove(w->p, &l->entry);
	}
	w->now_us += USEC_PER_SEC;
	for (unsigned i = 0; i < 50; i++)
		assert_null(next(w));
	/* Only a source that is met for the first time asks whether it is this machine. */
	for (unsigned i = 0; i < 10; i++)
		prelogin_add(w->p, &w->logins[w->count++].entry, 149, true, w->now_us);
	assert_int_equal(begin_all(w), 10);
	world_free(w);
}

static void test_faster_rate_frees_those_who_wait(void **state)
{
	struct world *w = world_new(0, 1);

	for (int i = 0; i < 20; i++)
		add(w, 1);
	assert_int_equal(begin_all(w), 1);
	prelogin_set_limits(w->p, &(struct prelogin_limits){ .rate = 0 });
	assert_int_equal(begin_all(w), 19);
	world_free(w);
}

static void test_places_are_bounded(void **state)
{
	struct world *w = world_new(1000, 0);
	struct login *first;

	for (int i = 0; i < 200; i++)
		add(w, 1);
	first = next(w);
	assert_int_equal(begin_all(w), PRELOGIN_PLACES - 1);
	assert_int_equal(prelogin_wait_us(w->p, w->now_us), PRELOGIN_PLACE_US);
	/* one is done: one more may begin */
	prelogin_remove(w->p, &first->entry);
	assert_int_equal(begin_all(w), 1);
	/* the others answer slowly: after a while they keep nobody from beginning */
	w->now_us += PRELOGIN_PLACE_US - 1;
	assert_int_equal(begin_all(w), 0);
	assert_int_equal(prelogin_wait_us(w->p, w->now_us), 1);
	w->now_us += 1;
	assert_int_equal(begin_all(w), PRELOGIN_PLACES);
	assert_int_equal(count(w).waiting, 200 - 2 * PRELOGIN_PLACES - 1);
	assert_int_equal(count(w).unfinished, 199);
	world_free(w);
}

/* A newcomer begins after a few others, however many of one source were there before him. */
static void test_sources_take_turns(void **state)
{
	struct world *w = world_new(4000, 0);
	struct login *working[PRELOGIN_PLACES];
	struct login *honest[3];
	unsigned order[6];

	for (int i = 0; i < 3000; i++)
		add(w, 666);
	for (unsigned i = 0; i < PRELOGIN_PLACES; i++)
		working[i] = next(w);
	for (unsigned i = 0; i < 3; i++)
		honest[i] = add(w, 1 + i % 2);
	for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
		prelogin_remove(w->p, &working[i]->entry);
		order[i] = next(w)->source;
	}
	assert_int_equal(order[0], 666);
	assert_int_equal(order[1], 1);
	assert_int_equal(order[2], 2);
	assert_int_equal(order[3], 666);
	assert_int_equal(order[4], 1);
	assert_int_equal(order[5], 666);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(honest[i]->entry.stage, PRELOGIN_WORKING);
	world_free(w);
}

static void test_removed_in_each_stage(void **state)
{
	struct world *w = world_new(1000, 0);
	struct login *slow = add(w, 1);
	struct login *working;
	struct login *waiting = NULL;

	assert_ptr_equal(next(w), slow);
	w->now_us += PRELOGIN_PLACE_US;
	working = add(w, 1);
	assert_ptr_equal(next(w), working);
	assert_int_equal(slow->entry.stage, PRELOGIN_SLOW);
	for (int i = 0; i < PRELOGIN_PLACES; i++)
		waiting = add(w, 2);
	assert_int_equal(begin_all(w), PRELOGIN_PLACES - 1);
	assert_int_equal(waiting->entry.stage, PRELOGIN_WAITING);
	prelogin_remove(w->p, &waiting->entry);
	assert_false(prelogin_has_waiting(w->p));
	prelogin_remove(w->p, &slow->entry);
	prelogin_remove(w->p, &working->entry);
	assert_int_equal(count(w).unfinished, PRELOGIN_PLACES - 1);
	assert_int_equal(count(w).sources, 1);
	world_free(w);
}

/* What must hold whatever happened. */
static void check_invariants(const struct world *w, unsigned max)
{
	unsigned per_source[8] = { 0 };
	unsigned working = 0;
	unsigned waiting = 0;
	unsigned sources = 0;
	struct prelogin_counts counts = count(w);

	for (unsigned i = 0; i < w->count; i++) {
		const struct prelogin_entry *e = &w->logins[i].entry;

		if (e->source == NULL)
			continue;
		sources += per_source[w->logins[i].source]++ == 0;
		working += e->stage == PRELOGIN_WORKING;
		waiting += e->stage == PRELOGIN_WAITING;
	}
	assert_true(working <= PRELOGIN_PLACES);
	assert_int_equal(counts.waiting, waiting);
	assert_int_equal(counts.sources, sources);
	assert_true(max == 0 || counts.unfinished <= max);
	for (unsigned i = 1; i < ARRAY_LEN(per_source); i++)
		per_source[0] += per_source[i];
	assert_int_equal(counts.unfinished, per_source[0]);
}

/* No source has more than the one that pays, and of that one none is older. */
static void check_victim(const struct world *w, const struct login *victim)
{
	unsigned per_source[8] = { 0 };

	for (unsigned i = 0; i < w->count; i++) {
		if (w->logins[i].entry.source == NULL)
			continue;
		per_source[w->logins[i].source]++;
		assert_true(w->logins[i].source != victim->source || i >= victim->number);
	}
	for (unsigned i = 0; i < ARRAY_LEN(per_source); i++)
		assert_true(per_source[i] <= per_source[victim->source]);
}

static void test_random_logins(void **state)
{
	static const struct prelogin_limits limits[] = { { 0, 0 }, { 50, 0 }, { 90, 40 }, { 0, 7 }, { 3, 1 } };
	unsigned seed = 1;

	for (unsigned round = 0; round < 10; round++) {
		const struct prelogin_limits *l = &limits[round % ARRAY_LEN(limits)];
		struct world *w = world_new(l->max, l->rate);

		while (w->count < 2000) {
			unsigned dice = (unsigned)rand_r(&seed);
			struct prelogin_entry *victim;

			if (dice % 4 == 0 && w->count > 0) {
				struct login *any = &w->logins[dice / 4 % w->count];

				if (any->entry.source != NULL)
					prelogin_remove(w->p, &any->entry);
			} else if (dice % 4 == 1) {
				w->now_us += dice / 4 % 100000;
			} else {
				add(w, dice / 4 % 32 < 20 ? 0 : dice / 4 % 8);
			}
			while ((victim = prelogin_victim(w->p)) != NULL) {
				check_victim(w, login_of(victim));
				prelogin_remove(w->p, victim);
			}
			begin_all(w);
			if (prelogin_has_waiting(w->p))
				assert_true(prelogin_wait_us(w->p, w->now_us) > 0 &&
					    prelogin_wait_us(w->p, w->now_us) <= USEC_PER_SEC);
			else
				assert_int_equal(prelogin_wait_us(w->p, w->now_us), PRELOGIN_NEVER);
			if (w->count % 50 == 0)
				check_invariants(w, l->max);
		}
		world_free(w);
	}
}

static struct prelogin_prefixes prefixes = { 32, 64 };

static uint64_t source_of(uint16_t family, const uint8_t ip[16], bool *is_local)
{
	struct sock_peer peer = { .family = family };

	memcpy(peer.ip, ip, sizeof(peer.ip));
	return prelogin_source(&peer, &prefixes, is_local);
}

static void test_sources_are_networks(void **state)
{
	const uint8_t a[16] = { 10, 1, 2, 3 };
	const uint8_t b[16] = { 10, 1, 2, 200 };
	const uint8_t c[16] = { 10, 1, 3, 3 };
	const uint8_t d[16] = { 0x20, 1, 0xd, 0xb8, 0, 0, 0x12, 0x34 };
	const uint8_t e[16] = { 0x20, 1, 0xd, 0xb8, 0, 0, 0x12, 0x99 };
	const uint8_t f[16] = { 0x20, 1, 0xd, 0xb8, 0, 0, 0x13, 0x34 };
	bool is_local;

	assert_true(source_of(AF_INET, a, &is_local) != source_of(AF_INET, b, &is_local));
	assert_true(source_of(AF_INET6, d, &is_local) != source_of(AF_INET6, e, &is_local));
	prefixes = (struct prelogin_prefixes){ 24, 56 };
	assert_true(source_of(AF_INET, a, &is_local) == source_of(AF_INET, b, &is_local));
	assert_true(source_of(AF_INET, a, &is_local) != source_of(AF_INET, c, &is_local));
	assert_true(source_of(AF_INET6, d, &is_local) == source_of(AF_INET6, e, &is_local));
	assert_true(source_of(AF_INET6, d, &is_local) != source_of(AF_INET6, f, &is_local));
	prefixes = (struct prelogin_prefixes){ 1, 1 };
	assert_true(source_of(AF_INET, a, &is_local) == source_of(AF_INET, c, &is_local));
	assert_true(source_of(AF_INET, a, &is_local) != source_of(AF_INET6, d, &is_local));
	prefixes = (struct prelogin_prefixes){ 32, 64 };
}

static void test_sources_of_addresses(void **state)
{
	static const uint8_t v4[][16] = { { 192, 0, 2, 1 }, { 192, 0, 2, 2 }, { 127, 0, 0, 1 }, { 127, 0, 0, 2 } };
	static const uint8_t v6[][16] = { { 0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 9, [15] = 1 },
					  { 0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 8, [15] = 7 },
					  { 0x20, 1, 0xd, 0xb8, 1, 2, 3, 5, [15] = 1 },
					  { [15] = 1 } };
	bool is_local;

	assert_int_not_equal(source_of(AF_INET, v4[0], &is_local), source_of(AF_INET, v4[1], &is_local));
	assert_false(is_local);
	source_of(AF_INET, v4[2], &is_local);
	assert_true(is_local);
	source_of(AF_INET, v4[3], &is_local);
	assert_false(is_local);
	assert_int_equal(source_of(AF_INET6, v6[0], &is_local), source_of(AF_INET6, v6[1], &is_local));
	assert_int_not_equal(source_of(AF_INET6, v6[0], &is_local), source_of(AF_INET6, v6[2], &is_local));
	assert_false(is_local);
	source_of(AF_INET6, v6[3], &is_local);
	assert_true(is_local);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_limits_it_is_off),
		cmocka_unit_test(test_one_begins_at_once),
		cmocka_unit_test(test_victim_is_of_the_fullest_source),
		cmocka_unit_test(test_flood_of_one_source_hits_itself),
		cmocka_unit_test(test_among_equals_the_oldest_pays),
		cmocka_unit_test(test_smaller_maximum_takes_several),
		cmocka_unit_test(test_more_of_one_source_than_levels),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_rate_of_one_in_a_second),
		cmocka_unit_test(test_rate_is_that_of_each_source),
		cmocka_unit_test(test_rate_is_remembered),
		cmocka_unit_test(test_this_machine_has_no_rate),
		cmocka_unit_test(test_this_machine_holds_up_no_memory),
		cmocka_unit_test(test_faster_rate_frees_those_who_wait),
		cmocka_unit_test(test_places_are_bounded),
		cmocka_unit_test(test_sources_take_turns),
		cmocka_unit_test(test_removed_in_each_stage),
		cmocka_unit_test(test_random_logins),
		cmocka_unit_test(test_sources_of_addresses),
		cmocka_unit_test(test_sources_are_networks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
