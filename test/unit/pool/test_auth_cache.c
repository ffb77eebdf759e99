/* The cache of look-ups by query: how long, who waits, what is forgotten. */
#include "pool/auth_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"
#include "pool/engine.h"

#define SECOND USEC_PER_SEC

static struct auth_cache *cache;
static struct auth_policy policy;
static struct auth_question question;
static struct auth_runner runner;
static struct auth_ask ask;
static struct auth_entry *entry;
static struct loop_ctx ctx;

static int setup(void **state UNUSED)
{
	cache = auth_cache_new();
	policy = (struct auth_policy){ .now_us = 1000 * SECOND, .ttl_us = 60 * SECOND };
	question = (struct auth_question){ AUTH_KIND_USER, "db", "auth", "select $1", "joe" };
	runner = (struct auth_runner){ &ctx, 17 };
	ask = (struct auth_ask){ .arg = NULL };
	return 0;
}

static int teardown(void **state UNUSED)
{
	auth_cache_free(&cache);
	return 0;
}

static enum auth_cache_verdict look(struct auth_ask *who, struct auth_answer **answer)
{
	*answer = NULL;
	return auth_cache_ask(cache, &question, &policy, &runner, who, answer, &entry);
}

static struct auth_answer *make_answer(enum auth_reply_outcome outcome, const char *secret)
{
	struct auth_reply reply = { .kind = AUTH_KIND_USER, .outcome = outcome };
	struct auth_answer *answer;

	if (outcome == AUTH_OUTCOME_FOUND) {
		reply.name = slice_dup(slice_of("joe"));
		reply.secret = slice_dup(slice_of(secret));
	}
	answer = auth_answer_new(&reply);
	auth_reply_fini(&reply);
	return answer;
}

/* Settles the entry at hand; what all who wait were given comes back as a text: n times the secret, or -outcome-. */
static const char *settle(enum auth_reply_outcome outcome, const char *secret)
{
	static char text[128];
	struct auth_asks asks;
	struct auth_ask *one;

	text[0] = '\0';
	auth_cache_settle(cache, entry, make_answer(outcome, secret), &policy, &asks);
	while ((one = LIST_FIRST(&asks)) != NULL) {
		LIST_REMOVE(one, entry);
		if (one->answer->user != NULL)
			str_append(text, sizeof(text), "%s", one->answer->user->secret.text);
		else
			str_append(text, sizeof(text), "-%d-", one->answer->outcome);
		auth_answer_release(&one->answer);
	}
	return text;
}

static void fill(enum auth_reply_outcome outcome, const char *secret)
{
	struct auth_answer *answer;

	assert_int_equal(look(&ask, &answer), AUTH_CACHE_RUN);
	settle(outcome, secret);
}

static void expect_hit(const char *secret)
{
	struct auth_answer *answer;

	assert_int_equal(look(&ask, &answer), AUTH_CACHE_HIT);
	if (secret != NULL)
		assert_string_equal(answer->user->secret.text, secret);
	else
		assert_int_equal(answer->outcome, AUTH_OUTCOME_NONE);
	auth_answer_release(&answer);
}

static void expect_run(void)
{
	struct auth_answer *answer;

	assert_int_equal(look(&ask, &answer), AUTH_CACHE_RUN);
	assert_null(answer);
}

static void test_hit_until_ttl(void **state UNUSED)
{
	fill(AUTH_OUTCOME_FOUND, "a");
	expect_hit("a");
	policy.now_us += 60 * SECOND - 1;
	expect_hit("a");
	policy.now_us += 1;
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_FOUND, "b"), "b");
	expect_hit("b");
}

static void test_ttl_counts_as_it_is_now(void **state UNUSED)
{
	fill(AUTH_OUTCOME_FOUND, "a");
	policy.ttl_us = 0;
	expect_run();
	settle(AUTH_OUTCOME_FOUND, "b");
	policy.ttl_us = 60 * SECOND;
	expect_run(); /* nothing was kept while there was nothing to keep it for */
	settle(AUTH_OUTCOME_FOUND, "c");
}

static void test_another_loops_clock_is_behind(void **state UNUSED)
{
	fill(AUTH_OUTCOME_FOUND, "a");
	policy.now_us -= 5;
	expect_hit("a");
}

/* Whether a login that fails has the database asked must not depend on whether there is such a user. */
static void test_absent_and_found_are_alike_to_who_fails(void **state UNUSED)
{
	static const struct {
		enum auth_reply_outcome outcome;
		const char *secret;
	} kinds[] = { { AUTH_OUTCOME_FOUND, "a" }, { AUTH_OUTCOME_NONE, NULL } };

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		policy.now_us += 61 * SECOND;
		expect_run();
		settle(kinds[i].outcome, kinds[i].secret);
		for (int k = 0; k < 10; k++) {
			expect_hit(kinds[i].secret);
			auth_cache_distrust(cache, &question, &policy);
			policy.now_us += SECOND / 10;
		}
		expect_hit(kinds[i].secret); /* a second has passed: this one is the last */
		auth_cache_distrust(cache, &question, &policy);
		expect_run();
		settle(kinds[i].outcome, kinds[i].secret);
		policy.now_us += 60 * SECOND - 1;
		expect_hit(kinds[i].secret); /* nobody has failed with it */
		policy.now_us++;
		expect_run();
		settle(kinds[i].outcome, kinds[i].secret);
	}
}

static void test_failures_are_not_kept(void **state UNUSED)
{
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_FAILED, NULL), "-2-");
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_DOWN, NULL), "-3-");
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_FOUND, "a"), "a");
}

static void test_questions_differ_in_every_part(void **state UNUSED)
{
	const struct auth_question others[] = {
		{ AUTH_KIND_ROLES, "db", "auth", "select $1", "joe" },
		{ AUTH_KIND_USER, "db2", "auth", "select $1", "joe" },
		{ AUTH_KIND_USER, "db", "auth2", "select $1", "joe" },
		{ AUTH_KIND_USER, "db", "auth", "select $2", "joe" },
		{ AUTH_KIND_USER, "db", "auth", "select $1", "jim" },
		{ AUTH_KIND_USER, "db", "auths", "elect $1", "joe" },
	};

	fill(AUTH_OUTCOME_FOUND, "a");
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		question = others[i];
		expect_run();
		settle(AUTH_OUTCOME_FAILED, NULL);
	}
}

static void test_equal_questions_are_joined(void **state UNUSED)
{
	struct auth_ask others[3] = { { .arg = NULL } };
	struct auth_runner left;
	struct auth_answer *answer;

	policy.ttl_us = 0;
	expect_run();
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_int_equal(look(&others[i], &answer), AUTH_CACHE_WAIT);
	assert_true(auth_cache_leave(cache, &others[1], &left));
	assert_null(left.ctx);
	assert_string_equal(settle(AUTH_OUTCOME_FOUND, "a"), "aaa");
	assert_false(auth_cache_leave(cache, &others[0], &left));
}

static void test_nobody_waits_any_more(void **state UNUSED)
{
	struct auth_ask other = { .arg = NULL };
	struct auth_runner left;
	struct auth_answer *answer;

	expect_run();
	assert_int_equal(look(&other, &answer), AUTH_CACHE_WAIT);
	assert_true(auth_cache_leave(cache, &ask, &left));
	assert_null(left.ctx);
	assert_false(auth_cache_give_up(cache, entry));
	assert_true(auth_cache_leave(cache, &other, &left));
	assert_ptr_equal(left.ctx, &ctx);
	assert_int_equal(left.id, 17);
	assert_true(auth_cache_give_up(cache, entry));
	expect_run();
	settle(AUTH_OUTCOME_NONE, NULL);
}

static void test_stale(void **state UNUSED)
{
	policy.stale_us = 100 * SECOND;
	fill(AUTH_OUTCOME_FOUND, "a");
	policy.now_us += 61 * SECOND;
	expect_run();
	assert_true(auth_cache_has_stale(cache, entry, &policy));
	assert_string_equal(settle(AUTH_OUTCOME_DOWN, NULL), "a");
	expect_hit("a"); /* for a second nobody tries again */
	policy.now_us += 1 * SECOND;
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_FAILED, NULL), "-2-"); /* the database was asked */
	policy.now_us += 90 * SECOND;
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_DOWN, NULL), "a");
	policy.now_us += 60 * SECOND;
	expect_run();
	assert_false(auth_cache_has_stale(cache, entry, &policy));
	assert_string_equal(settle(AUTH_OUTCOME_DOWN, NULL), "-3-");
}

static void test_stale_without_ttl(void **state UNUSED)
{
	policy.ttl_us = 0;
	policy.stale_us = 100 * SECOND;
	fill(AUTH_OUTCOME_FOUND, "a");
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_DOWN, NULL), "a");
}

static void test_no_row_replaces_what_was_found(void **state UNUSED)
{
	policy.stale_us = 100 * SECOND;
	fill(AUTH_OUTCOME_FOUND, "a");
	policy.now_us += 61 * SECOND;
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_NONE, NULL), "-0-");
	expect_hit(NULL);
}

static void test_distrust(void **state UNUSED)
{
	fill(AUTH_OUTCOME_FOUND, "a");
	auth_cache_distrust(cache, &question, &policy);
	expect_hit("a"); /* it is young */
	policy.now_us += 1 * SECOND;
	auth_cache_distrust(cache, &question, &policy);
	expect_run();
	settle(AUTH_OUTCOME_FOUND, "b");
	auth_cache_distrust(cache, &question, &policy);
	expect_hit("b"); /* young again: who guesses does not have the database asked each time */
}

static void test_limits(void **state UNUSED)
{
	struct auth_cache_counts counts;
	char name[32];

	question.user = name;
	for (unsigned i = 0; i < 30000; i++) {
		str_format(name, sizeof(name), "found%u", i);
		fill(AUTH_OUTCOME_FOUND, "a");
	}
	for (unsigned i = 0; i < 5000; i++) {
		str_format(name, sizeof(name), "absent%u", i);
		fill(AUTH_OUTCOME_NONE, NULL);
	}
	auth_cache_count(cache, &counts);
	assert_int_equal(counts.found, 20000); /* names that do not exist have driven out nobody */
	assert_int_equal(counts.absent, 2000);
	assert_int_equal(counts.evicted, 13000);
	str_format(name, sizeof(name), "found%u", 29999);
	expect_hit("a");
	str_format(name, sizeof(name), "found%u", 1);
	expect_run();
	settle(AUTH_OUTCOME_FAILED, NULL);
}

static void test_limit_of_memory(void **state UNUSED)
{
	static char secret[60000];
	struct auth_cache_counts counts;
	char name[32];

	memset(secret, 's', sizeof(secret) - 1);
	question.user = name;
	for (unsigned i = 0; i < 1000; i++) {
		str_format(name, sizeof(name), "u%u", i);
		fill(AUTH_OUTCOME_FOUND, secret);
	}
	auth_cache_count(cache, &counts);
	assert_in_range(counts.memory, 60 << 20, 64 << 20);
	assert_in_range(counts.found, 400, 600);
}

static int read_conf(void *ctx_, const char *path UNUSED, char **text, size_t *len)
{
	*text = slice_dup(slice_of(ctx_));
	*len = strlen(*text);
	return 0;
}

static struct snapshot *make_snapshot(const char *databases)
{
	struct conf_error err;
	struct conf *conf;
	char text[256];

	str_format(text, sizeof(text), "[pgbouncer]\n[databases]\n%s\n", databases);
	conf_error_init(&err);
	assert_int_equal(conf_load_from(read_conf, text, "test.ini", &conf, &err), 0);
	conf_error_fini(&err);
	return snapshot_new(conf, users_new_empty());
}

static void reload(const char *from, const char *to)
{
	struct snapshot *old = make_snapshot(from);
	struct snapshot *fresh = make_snapshot(to);

	auth_cache_reload(cache, old, fresh);
	snapshot_release(&old);
	snapshot_release(&fresh);
}

static void test_reload(void **state UNUSED)
{
	static const struct {
		const char *from;
		const char *to;
		bool is_kept;
	} cases[] = {
		{ "db = host=a", "db = host=a", true },
		{ "db = host=a", "db = host=a pool_size=3\nother = host=b", true },
		{ "db = host=a", "db = host=b", false },
		{ "db = host=a", "other = host=a", false },
		{ "db = host=a", "* = host=a", false },
		{ "* = host=a", "* = host=a", true },
		{ "* = host=a", "* = host=b", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		teardown(NULL);
		setup(NULL);
		fill(AUTH_OUTCOME_FOUND, "a");
		reload(cases[i].from, cases[i].to);
		if (cases[i].is_kept) {
			expect_hit("a");
		} else {
			expect_run();
			settle(AUTH_OUTCOME_FOUND, "b");
		}
	}
}

/* The answer of the old database is for those who have asked it, and for nobody after; neither is the one before. */
static void test_reload_while_it_is_asked(void **state UNUSED)
{
	policy.stale_us = 1000 * SECOND;
	fill(AUTH_OUTCOME_FOUND, "a");
	policy.now_us += 61 * SECOND;
	expect_run();
	reload("db = host=a", "db = host=b");
	assert_false(auth_cache_has_stale(cache, entry, &policy));
	assert_string_equal(settle(AUTH_OUTCOME_FOUND, "b"), "b");
	expect_run();
	assert_string_equal(settle(AUTH_OUTCOME_DOWN, NULL), "-3-");
}

static void test_paths(void **state UNUSED)
{
	assert_false(auth_cache_needs_path(cache, &question));
	auth_cache_note_path(cache, &question, true);
	assert_true(auth_cache_needs_path(cache, &question));
	question.user = "jim";
	assert_true(auth_cache_needs_path(cache, &question)); /* it is a matter of the query */
	question.query = "select $2";
	assert_false(auth_cache_needs_path(cache, &question));
	question.query = "select $1";
	reload("db = host=a", "db = host=a");
	assert_false(auth_cache_needs_path(cache, &question));
	auth_cache_note_path(cache, &question, true);
	auth_cache_note_path(cache, &question, false);
	assert_false(auth_cache_needs_path(cache, &question));
}

static void test_counts(void **state UNUSED)
{
	struct auth_cache_counts counts;

	fill(AUTH_OUTCOME_FOUND, "a");
	expect_hit("a");
	expect_hit("a");
	question.user = "jim";
	expect_run();
	auth_cache_count(cache, &counts);
	assert_int_equal(counts.hits, 2);
	assert_int_equal(counts.misses, 2);
	assert_int_equal(counts.asking, 1);
	settle(AUTH_OUTCOME_FAILED, NULL);
	auth_cache_count(cache, &counts);
	assert_int_equal(counts.asking, 0);
	assert_int_equal(counts.failures, 1);
}

static void test_roles(void **state UNUSED)
{
	struct auth_reply reply = { .kind = AUTH_KIND_ROLES, .outcome = AUTH_OUTCOME_FOUND };
	struct auth_answer *answer;

	reply.roles = malloc(3 * sizeof(reply.roles[0]));
	reply.roles[reply.role_count++] = slice_dup(slice_of("b"));
	reply.roles[reply.role_count++] = slice_dup(slice_of("c"));
	reply.roles[reply.role_count++] = slice_dup(slice_of("a"));
	answer = auth_answer_new(&reply);
	assert_true(auth_answer_has_role(answer, "a"));
	assert_true(auth_answer_has_role(answer, "c"));
	assert_false(auth_answer_has_role(answer, "B"));
	assert_false(auth_answer_has_role(answer, ""));
	auth_answer_release(&answer);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_hit_until_ttl),
		T(test_ttl_counts_as_it_is_now),
		T(test_another_loops_clock_is_behind),
		T(test_absent_and_found_are_alike_to_who_fails),
		T(test_failures_are_not_kept),
		T(test_questions_differ_in_every_part),
		T(test_equal_questions_are_joined),
		T(test_nobody_waits_any_more),
		T(test_stale),
		T(test_stale_without_ttl),
		T(test_no_row_replaces_what_was_found),
		T(test_distrust),
		T(test_limits),
		T(test_limit_of_memory),
		T(test_reload),
		T(test_reload_while_it_is_asked),
		T(test_paths),
		T(test_counts),
		T(test_roles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
