/*
 * Endpoints: one object per place, what is known of it, and the choice.
 */
#include "pool/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/clock.h"

#define NOW (100 * USEC_PER_SEC)

static struct endpoints *table;
static struct endpoint_list list;
static const struct breaker_conf no_breakers; /* no threshold, no rate */

/* With breakers that are off, so that there is nothing to be settled with a pass. */
static struct endpoint *choose_by(const struct endpoint_wish *wish)
{
	struct breaker_pass pass = { .set = NULL };
	struct endpoint *ep = endpoint_choose(wish, &pass);

	breaker_pass_abandon(&pass, wish->now_us);
	return ep;
}

static int setup(void **state UNUSED)
{
	static char names[][2] = { "a", "b", "c" };
	static char *hosts[] = { names[0], names[1], names[2] };
	struct conf_db db = { .host = { .items = hosts, .count = 3 }, .port = 5432 };

	table = endpoints_new();
	endpoint_list_make(&list, table, &db, NULL, &no_breakers, "");
	return 0;
}

static int teardown(void **state UNUSED)
{
	endpoint_list_free(&list);
	endpoints_free(&table);
	return 0;
}

static void know(unsigned i, enum endpoint_role role)
{
	const struct endpoint_facts facts = { .role = role };

	endpoint_set_facts(list.items[i], &facts, NOW + USEC_PER_SEC);
}

/* The choice by a letter, '-' for none; its count is given back. */
static char choose(enum conf_session_attrs attrs, unsigned turn, uint64_t now_us)
{
	const struct endpoint_wish wish = { .list = &list, .attrs = attrs, .turn = turn, .now_us = now_us };
	struct endpoint *ep = choose_by(&wish);
	char name = ep == NULL ? '-' : ep->host[0];

	endpoint_give(&ep, true);
	return name;
}

static void test_one_object_per_place(void **state UNUSED)
{
	struct endpoint *a = endpoint_get(table, "a", 5432);
	struct endpoint *other = endpoint_get(table, "a", 5433);
	struct endpoint *six = endpoint_get(table, "::1", 5433);

	assert_ptr_equal(a, list.items[0]);
	assert_ptr_not_equal(other, a);
	assert_string_equal(other->name, "a:5433");
	assert_string_equal(six->name, "[::1]:5433");
	endpoint_release(&a);
	endpoint_release(&other);
	endpoint_release(&six);
}

static void test_directory_stands_in_for_a_host(void **state UNUSED)
{
	struct conf_db db = { .port = 5432 };
	struct endpoint_list unix_list = { .count = 0 };
	struct endpoint_list none = { .count = 0 };

	endpoint_list_make(&unix_list, table, &db, "/tmp", &no_breakers, "");
	endpoint_list_make(&none, table, &db, "", &no_breakers, "");
	assert_int_equal(unix_list.count, 1);
	assert_string_equal(unix_list.items[0]->name, "/tmp:5432");
	assert_int_equal(none.count, 0);
	endpoint_list_free(&unix_list);
	endpoint_list_free(&none);
}

static void test_in_turn_when_nothing_is_known(void **state UNUSED)
{
	assert_int_equal(choose(CONF_ATTRS_ANY, 0, NOW), 'a');
	assert_int_equal(choose(CONF_ATTRS_ANY, 1, NOW), 'b');
	assert_int_equal(choose(CONF_ATTRS_ANY, 5, NOW), 'c');
	assert_int_equal(choose(CONF_ATTRS_PRIMARY, 4, NOW), 'b');
}

static void test_by_role(void **state UNUSED)
{
	know(0, ENDPOINT_STANDBY);
	know(1, ENDPOINT_PRIMARY);
	assert_int_equal(choose(CONF_ATTRS_PRIMARY, 0, NOW), 'b');
	assert_int_equal(choose(CONF_ATTRS_READ_WRITE, 2, NOW), 'b');
	assert_int_equal(choose(CONF_ATTRS_STANDBY, 1, NOW), 'a');
	assert_int_equal(choose(CONF_ATTRS_READ_ONLY, 1, NOW), 'a');
	assert_int_equal(choose(CONF_ATTRS_PREFER_STANDBY, 1, NOW), 'a');
	know(0, ENDPOINT_PRIMARY);
	know(2, ENDPOINT_PRIMARY);
	assert_int_equal(choose(CONF_ATTRS_STANDBY, 0, NOW), '-');
	assert_int_equal(choose(CONF_ATTRS_PREFER_STANDBY, 1, NOW), 'b');
}

/* Without probes nobody would notice a promotion. */
static void test_old_roles_are_unknown(void **state UNUSED)
{
	for (unsigned i = 0; i < 3; i++)
		know(i, ENDPOINT_STANDBY);
	assert_int_equal(choose(CONF_ATTRS_PRIMARY, 0, NOW), '-');
	assert_int_equal(choose(CONF_ATTRS_PRIMARY, 0, NOW + 2 * USEC_PER_SEC), 'a');
}

static void test_fenced_gets_no_writes(void **state UNUSED)
{
	const struct endpoint_facts fenced = { .role = ENDPOINT_PRIMARY, .is_fenced = true };

	for (unsigned i = 0; i < 3; i++)
		endpoint_set_facts(list.items[i], &fenced, NOW + USEC_PER_SEC);
	assert_int_equal(choose(CONF_ATTRS_PRIMARY, 0, NOW), '-');
	assert_int_equal(choose(CONF_ATTRS_READ_WRITE, 0, NOW + 5 * USEC_PER_SEC), '-');
	assert_int_equal(choose(CONF_ATTRS_ANY, 0, NOW), 'a');
}

static void test_unreachable_goes_last(void **state UNUSED)
{
	const struct endpoint_facts gone = { .is_unreachable = true };

	endpoint_set_facts(list.items[0], &gone, NOW + USEC_PER_SEC);
	assert_int_equal(choose(CONF_ATTRS_ANY, 0, NOW), 'b');
	endpoint_set_facts(list.items[1], &gone, NOW + USEC_PER_SEC);
	endpoint_set_facts(list.items[2], &gone, NOW + USEC_PER_SEC);
	assert_int_equal(choose(CONF_ATTRS_ANY, 0, NOW), 'a');
}

static void test_login_is_news(void **state UNUSED)
{
	struct endpoint_facts facts;

	know(0, ENDPOINT_STANDBY);
	endpoint_note_role(list.items[0], ENDPOINT_PRIMARY, false, NOW);
	facts = endpoint_facts(list.items[0]);
	assert_int_equal(facts.role, ENDPOINT_PRIMARY);
	assert_int_equal(choose(CONF_ATTRS_PRIMARY, 0, NOW), 'a');
}

static void test_logins_are_bounded(void **state UNUSED)
{
	struct endpoint_wish wish = { .list = &list, .attrs = CONF_ATTRS_ANY, .login_max = 1, .now_us = NOW };
	struct endpoint *taken[3];

	for (int i = 0; i < 3; i++) {
		taken[i] = choose_by(&wish);
		assert_ptr_equal(taken[i], list.items[i]);
	}
	assert_null(choose_by(&wish));
	endpoint_login_over(taken[1]);
	endpoint_give(&taken[1], false);
	taken[1] = choose_by(&wish);
	assert_ptr_equal(taken[1], list.items[1]);
	endpoint_give(&taken[1], true);
	endpoint_give(&taken[0], true);
	endpoint_give(&taken[2], true);
}

static unsigned symptoms;

static void count_symptom(struct endpoint *endpoint, const char *why UNUSED, void *arg UNUSED)
{
	assert_ptr_equal(endpoint, list.items[1]);
	symptoms++;
}

static void test_symptom_is_told_once(void **state UNUSED)
{
	endpoints_set_hooks(table, count_symptom, NULL, NULL);
	symptoms = 0;
	endpoint_symptom(list.items[1], "lost");
	endpoint_symptom(list.items[1], "lost");
	assert_int_equal(symptoms, 1);
	atomic_store(&list.items[1]->is_suspect, false);
	endpoint_symptom(list.items[1], "lost");
	assert_int_equal(symptoms, 2);
}

static unsigned logins;

static void count_login(struct endpoint *endpoint, void *arg UNUSED)
{
	assert_ptr_equal(endpoint, list.items[0]);
	logins++;
}

static void log_in(unsigned turn)
{
	struct endpoint_wish wish = { .list = &list, .attrs = CONF_ATTRS_ANY, .turn = turn, .now_us = NOW };
	struct endpoint *ep = choose_by(&wish);

	endpoint_login_done(ep);
	endpoint_give(&ep, false);
}

static void test_awaited_login_is_told_once(void **state UNUSED)
{
	endpoints_set_hooks(table, NULL, count_login, NULL);
	logins = 0;
	log_in(0);
	assert_int_equal(logins, 0);
	atomic_store(&list.items[0]->is_awaited, true);
	log_in(1);
	assert_int_equal(logins, 0);
	log_in(0);
	log_in(0);
	assert_int_equal(logins, 1);
}

static void test_another_role_is_a_symptom(void **state UNUSED)
{
	endpoints_set_hooks(table, count_symptom, NULL, NULL);
	symptoms = 0;
	endpoint_note_role(list.items[1], ENDPOINT_STANDBY, false, NOW);
	endpoint_note_role(list.items[1], ENDPOINT_STANDBY, false, NOW);
	assert_int_equal(symptoms, 0);
	endpoint_note_role(list.items[1], ENDPOINT_PRIMARY, false, NOW);
	assert_int_equal(symptoms, 1);
}

static bool leaves(unsigned i, enum conf_session_attrs attrs)
{
	return endpoint_is_to_leave(list.items[i], &list, attrs);
}

/* A name may have several addresses: the probe has asked at one of them. */
static void test_silence_is_of_an_address(void **state UNUSED)
{
	const struct endpoint_facts silent = { .is_unreachable = true, .is_silent = true };
	struct endpoint *ep = list.items[0];
	struct sock_addr asked;
	struct sock_addr other;

	assert_int_equal(sock_addr_parse(&asked, "192.0.2.1", 5432), 0);
	assert_int_equal(sock_addr_parse(&other, "192.0.2.2", 5432), 0);
	assert_false(endpoint_is_silent_at(ep, &asked));
	endpoint_set_facts(ep, &silent, NOW);
	atomic_store(&ep->silent_at, endpoint_mark(&asked));
	assert_true(endpoint_is_silent_at(ep, &asked));
	assert_false(endpoint_is_silent_at(ep, &other));
	endpoint_note_role(ep, ENDPOINT_PRIMARY, false, NOW);
	assert_false(endpoint_is_silent_at(ep, &asked));
}

static void test_probes_end(void **state UNUSED)
{
	const struct endpoint_facts all = {
		.role = ENDPOINT_PRIMARY, .is_fenced = true, .is_unreachable = true, .is_silent = true
	};
	struct endpoint_facts left;

	endpoint_set_facts(list.items[0], &all, NOW + USEC_PER_SEC);
	assert_true(endpoint_forget_probes(list.items[0], NOW));
	left = endpoint_facts(list.items[0]);
	assert_int_equal(left.role, ENDPOINT_PRIMARY);
	assert_false(left.is_fenced || left.is_unreachable || left.is_silent);
	assert_false(endpoint_forget_probes(list.items[0], NOW));
}

static void test_who_is_to_leave(void **state UNUSED)
{
	const struct endpoint_facts gone = { .is_unreachable = true };

	assert_false(leaves(0, CONF_ATTRS_PRIMARY));
	know(0, ENDPOINT_STANDBY);
	assert_true(leaves(0, CONF_ATTRS_PRIMARY));
	assert_false(leaves(0, CONF_ATTRS_ANY));
	/* from where nothing comes back, but only if there is something better */
	endpoint_set_facts(list.items[0], &gone, NOW + USEC_PER_SEC);
	assert_false(leaves(0, CONF_ATTRS_PRIMARY));
	assert_true(leaves(0, CONF_ATTRS_ANY));
	know(1, ENDPOINT_PRIMARY);
	assert_true(leaves(0, CONF_ATTRS_PRIMARY));
	/* to what is preferred */
	assert_false(leaves(1, CONF_ATTRS_PREFER_STANDBY));
	know(2, ENDPOINT_STANDBY);
	assert_true(leaves(1, CONF_ATTRS_PREFER_STANDBY));
	assert_false(leaves(2, CONF_ATTRS_PREFER_STANDBY));
}

/* The endpoint of the list for an address, as a number; -1: unknown. */
static int found(const struct endpoint_list *in, const char *address, uint16_t port)
{
	struct sock_addr addr;
	struct endpoint *ep;
	int at = -1;

	assert_int_equal(sock_addr_parse(&addr, address, port), 0);
	ep = endpoint_list_find(in, &addr);
	for (unsigned i = 0; i < in->count; i++)
		if (in->items[i] == ep)
			at = (int)i;
	endpoint_release(&ep);
	return at;
}

static void test_endpoint_of_an_address(void **state UNUSED)
{
	struct endpoint *items[] = {
		endpoint_get(table, "127.0.0.1", 5432),
		endpoint_get(table, "::1", 5432),
		endpoint_get(table, "name", 5433),
		endpoint_get(table, "/tmp", 5434),
	};
	const struct endpoint_list all = { .count = 4, .items = items };
	const struct endpoint_list one = { .count = 1, .items = &items[2] };

	assert_int_equal(found(&all, "127.0.0.1", 5432), 0);
	assert_int_equal(found(&all, "::1", 5432), 1);
	assert_int_equal(found(&all, "192.0.2.1", 5433), 2);
	assert_int_equal(found(&all, "192.0.2.1", 5432), -1);
	assert_int_equal(found(&one, "192.0.2.1", 1), 0);
	for (unsigned i = 0; i < ARRAY_LEN(items); i++)
		endpoint_release(&items[i]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_object_per_place),
		TEST(test_directory_stands_in_for_a_host),
		TEST(test_in_turn_when_nothing_is_known),
		TEST(test_by_role),
		TEST(test_old_roles_are_unknown),
		TEST(test_fenced_gets_no_writes),
		TEST(test_unreachable_goes_last),
		TEST(test_login_is_news),
		TEST(test_logins_are_bounded),
		TEST(test_symptom_is_told_once),
		TEST(test_awaited_login_is_told_once),
		TEST(test_another_role_is_a_symptom),
		TEST(test_silence_is_of_an_address),
		TEST(test_probes_end),
		TEST(test_who_is_to_leave),
		TEST(test_endpoint_of_an_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
