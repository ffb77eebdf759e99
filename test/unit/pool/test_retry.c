/*
 * When a statement that has failed is run again: each reason by itself, then
 * random batches and random lives of statements against models that are written
 * as plainly as possible.
 */
#include "pool/retry.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/str.h"

static struct retry_budget budget;
static uint64_t delay_us;

static int setup(void **state)
{
	(void)state;
	retry_budget_init(&budget);
	return 0;
}

static enum retry_outcome decide(unsigned runs, unsigned max_runs, uint64_t spent_us, uint64_t limit_us)
{
	struct retry_case c = {
		.cause = RETRY_CONFLICT,
		.is_repeatable = true,
		.runs = runs,
		.max_runs = max_runs,
		.spent_us = spent_us,
		.limit_us = limit_us,
		.dice = UINT32_MAX,
	};

	return retry_decide(&budget, &c, &delay_us);
}

static void attempts_have_a_limit(void **state)
{
	(void)state;
	assert_int_equal(decide(1, 3, 0, 0), RETRY_RETRIED);
	assert_int_equal(decide(2, 3, 0, 0), RETRY_RETRIED);
	assert_int_equal(decide(3, 3, 0, 0), RETRY_NO_ATTEMPTS);
	assert_int_equal(decide(1, 1, 0, 0), RETRY_NO_ATTEMPTS);
}

static void waits_grow_up_to_a_cap(void **state)
{
	uint64_t before = 0;

	(void)state;
	for (unsigned runs = 1; runs < 30; runs++) {
		retry_budget_init(&budget);
		assert_int_equal(decide(runs, 100, 0, 0), RETRY_RETRIED);
		assert_true(delay_us >= before);
		assert_true(delay_us <= USEC_PER_SEC);
		before = delay_us;
	}
	assert_int_equal(before, USEC_PER_SEC);
}

static void the_deadline_leaves_room_for_the_wait(void **state)
{
	(void)state;
	assert_int_equal(decide(1, 3, 0, 100000), RETRY_RETRIED);
	assert_int_equal(decide(1, 3, 100000 - delay_us, 100000), RETRY_NO_TIME);
	assert_int_equal(decide(1, 3, 100000 - delay_us - 1, 100000), RETRY_RETRIED);
	assert_int_equal(decide(1, 3, 100000, 100000), RETRY_NO_TIME);
	assert_int_equal(decide(1, 3, 200000, 100000), RETRY_NO_TIME);
}

static void what_is_refused_costs_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(decide(3, 3, 0, 0), RETRY_NO_ATTEMPTS);
		assert_int_equal(decide(1, 3, 9, 9), RETRY_NO_TIME);
	}
	assert_int_equal(decide(1, 3, 0, 0), RETRY_RETRIED);
}

static void the_budget_is_a_share(void **state)
{
	unsigned n = 0;

	(void)state;
	while (decide(1, 3, 0, 0) == RETRY_RETRIED)
		n++;
	assert_int_equal(n, RETRY_SAVINGS);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_NO_BUDGET);
	for (int i = 0; i < 4; i++)
		retry_budget_earn(&budget, 20);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_NO_BUDGET);
	retry_budget_earn(&budget, 20);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_RETRIED);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_NO_BUDGET);
	for (int i = 0; i < 1000; i++)
		retry_budget_earn(&budget, 0);
	assert_int_equal(decide(1, 3, 0, 0), RETRY_NO_BUDGET);
}

/* Whatever happens in whatever order, repetitions are never more than the share and the savings. */
static void repetitions_never_exceed_the_budget(void **state)
{
	uint64_t seed = 88172645463325252u;

	(void)state;
	for (unsigned percent = 0; percent <= 100; percent += 20) {
		double model = RETRY_SAVINGS;
		uint64_t statements = 0;
		uint64_t repeated = 0;

		retry_budget_init(&budget);
		for (int i = 0; i < 20000; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			if (seed % 3 != 0) {
				retry_budget_earn(&budget, percent);
				statements++;
				model += percent / 100.0;
				model = model > RETRY_SAVINGS ? RETRY_SAVINGS : model;
			} else {
				bool may = model > 1 - 1e-6;

				assert_int_equal(decide(1, 3, 0, 0), may ? RETRY_RETRIED : RETRY_NO_BUDGET);
				repeated += may;
				model -= may;
			}
			assert_true(repeated <= RETRY_SAVINGS + statements * percent / 100);
		}
	}
}

static void causes_have_states(void **state)
{
	(void)state;
	assert_string_equal(retry_cause_sqlstate(RETRY_CONFLICT), "40001");
	assert_string_equal(retry_cause_sqlstate(RETRY_DEADLOCK), "40P01");
	assert_string_equal(retry_cause_sqlstate(RETRY_UNSENT), "08006");
	assert_int_equal(retry_cause_of(slice_of("40001")), RETRY_CONFLICT);
	assert_int_equal(retry_cause_of(slice_of("40P01")), RETRY_DEADLOCK);
	assert_int_equal(retry_cause_of(slice_of("08006")),
			 RETRY_NO_CAUSE); /* said by a server, it has got something */
	assert_int_equal(retry_cause_of(slice_of("40002")), RETRY_NO_CAUSE);
	assert_int_equal(retry_cause_of(slice_of("")), RETRY_NO_CAUSE);
}

/* Each of these alone keeps a statement from being repeated, and from being counted, or charged for. */
static void what_is_never_repeated(void **state)
{
	struct retry_case good = { .cause = RETRY_CONFLICT, .is_repeatable = true, .runs = 1, .max_runs = 3 };
	struct retry_case c;

	(void)state;
	for (int i = 0; i < 4; i++) {
		c = good;
		if (i == 0)
			c.cause = RETRY_NO_CAUSE;
		else if (i == 1)
			c.is_repeatable = false;
		else if (i == 2)
			c.in_block = true;
		else
			c.has_begun = true;
		for (int k = 0; k < 100; k++)
			assert_int_equal(retry_decide(&budget, &c, &delay_us), i < 3 ? RETRY_NOT_MEANT : RETRY_BEGUN);
	}
	for (int k = 0; k < RETRY_SAVINGS; k++)
		assert_int_equal(retry_decide(&budget, &good, &delay_us), RETRY_RETRIED);
}

/* That an answer has begun is the reason only where nothing else is. */
static void a_begun_answer_is_the_last_reason(void **state)
{
	struct retry_case c = {
		.cause = RETRY_CONFLICT, .is_repeatable = true, .has_begun = true, .runs = 3, .max_runs = 3
	};

	(void)state;
	assert_int_equal(retry_decide(&budget, &c, &delay_us), RETRY_NO_ATTEMPTS);
	c.runs = c.limit_us = c.spent_us = 1;
	assert_int_equal(retry_decide(&budget, &c, &delay_us), RETRY_NO_TIME);
	c.limit_us = 0;
	assert_int_equal(retry_decide(&budget, &c, &delay_us), RETRY_BEGUN);
	budget.hundredths = 99;
	assert_int_equal(retry_decide(&budget, &c, &delay_us), RETRY_NO_BUDGET);
	c.in_block = true;
	assert_int_equal(retry_decide(&budget, &c, &delay_us), RETRY_NOT_MEANT);
}

static void who_met_a_dead_server_does_not_wait(void **state)
{
	struct retry_case c = {
		.cause = RETRY_UNSENT, .is_repeatable = true, .runs = 2, .max_runs = 3, .limit_us = 10, .spent_us = 9
	};

	(void)state;
	assert_int_equal(retry_decide(&budget, &c, &delay_us), RETRY_RETRIED);
	assert_int_equal(delay_us, 0);
	c.spent_us = 10;
	assert_int_equal(retry_decide(&budget, &c, &delay_us), RETRY_NO_TIME);
}

/* ---- random batches against a model ---- */

static uint32_t seed_now; /* of the sequence under way, for messages */
static uint32_t dice_state;

static uint32_t dice(void)
{
	dice_state ^= dice_state << 13;
	dice_state ^= dice_state >> 17;
	dice_state ^= dice_state << 5;
	return dice_state;
}

static void seed_is(uint32_t seed)
{
	seed_now = seed;
	dice_state = seed * 2654435761u;
}

#define CHECK(condition)                                                   \
	do {                                                               \
		if (!(condition))                                          \
			fail_msg("seed %u: not %s", seed_now, #condition); \
	} while (0)

static const struct {
	const char *sql;
	bool may;
} texts[] = {
	{ "select 1", true },
	{ "UPDATE t SET i = i + 1;", true },
	{ "/* pgsluice: timeout=1s */ with a as (insert into t values (1) returning *) select * from a", true },
	{ "insert into t values (';')", true },
	{ "commit", false },
	{ "COMMIT; select 1", false },
	{ "select 1; select 2", false },
	{ "begin", false },
	{ "rollback", false },
	{ "call p()", false },
	{ "do $$ begin commit; end $$", false },
	{ "vacuum t", false },
	{ "prepare transaction 'x'", false },
	{ "copy t from stdin", false },
	{ "set a = 1", false },
	{ "", false },
};

/* A statement that the client has prepared before, by the number of its text. */
#define KNOWN_PLAIN "plain"
#define KNOWN_CALL  "call"

struct message {
	char type;
	const char *name; /* P: statement; B, E: portal */
	const char *stmt; /* B */
	unsigned text;    /* Q, P */
};

#define BATCH_MAX 8

struct batch {
	struct message messages[BATCH_MAX];
	unsigned count;
	int unnamed; /* text that was parsed without a name before; -1: none */
	uint8_t bytes[4096];
	size_t len;
};

static bool batch_find(void *arg, struct slice name, struct slice *sql)
{
	const struct batch *b = arg;

	if (slice_eq_str(name, KNOWN_PLAIN))
		*sql = slice_of(texts[0].sql);
	else if (slice_eq_str(name, KNOWN_CALL))
		*sql = slice_of("call p()");
	else if (name.n == 0 && b->unnamed >= 0)
		*sql = slice_of(texts[b->unnamed].sql);
	else
		return false;
	return true;
}

/* The rule: a Query, or one statement bound and executed, whose text is of the right kind. */
static bool model_repeats(const struct batch *b)
{
	const struct message *parse = NULL;
	const struct message *bind = NULL;
	const struct message *last = NULL;
	char order[BATCH_MAX + 1] = "";

	for (unsigned i = 0; i < b->count; i++) {
		last = &b->messages[i];
		if (last->type == 'P')
			parse = last;
		if (last->type == 'B')
			bind = last;
		if (last->type != 'D')
			str_append(order, sizeof(order), "%c", last->type);
	}
	if (strcmp(order, "Q") == 0)
		return b->count == 1 && texts[last->text].may;
	if ((strcmp(order, "PBES") != 0 && strcmp(order, "BES") != 0) || last->type != 'S')
		return false;
	for (unsigned i = 0; i < b->count; i++)
		if (b->messages[i].type == 'E' && strcmp(b->messages[i].name, bind->name) != 0)
			return false;
	if (parse != NULL && (parse->name[0] != '\0' || !texts[parse->text].may))
		return false;
	if (strcmp(bind->stmt, KNOWN_PLAIN) == 0)
		return true;
	if (bind->stmt[0] != '\0')
		return false;
	return parse != NULL || (b->unnamed >= 0 && texts[b->unnamed].may);
}

static void batch_put(struct batch *b, const void *p, size_t n)
{
	assert_true(n <= sizeof(b->bytes) - b->len);
	memcpy(b->bytes + b->len, p, n);
	b->len += n;
}

static void batch_put_text(struct batch *b, const char *text)
{
	batch_put(b, text, strlen(text) + 1);
}

static void batch_put_message(struct batch *b, const struct message *m)
{
	size_t start = b->len;
	uint32_t size;

	batch_put(b, &m->type, 1);
	batch_put(b, "\0\0\0", 4);
	switch (m->type) {
	case 'Q':
		batch_put_text(b, texts[m->text].sql);
		break;
	case 'P':
		batch_put_text(b, m->name);
		batch_put_text(b, texts[m->text].sql);
		batch_put(b, "\0", 2);
		break;
	case 'B':
		batch_put_text(b, m->name);
		batch_put_text(b, m->stmt);
		batch_put(b, "\0\0\0\0\0", 6);
		break;
	case 'D':
	case 'C':
		batch_put(b, "S", 1);
		batch_put_text(b, m->name);
		break;
	case 'E':
		batch_put_text(b, m->name);
		batch_put(b, "\0\0\0", 4);
		break;
	default:
		break;
	}
	size = __builtin_bswap32((uint32_t)(b->len - start - 1));
	memcpy(b->bytes + start + 1, &size, sizeof(size));
}

static struct message message_random(char type)
{
	static const char *const names[] = { "", "", "", KNOWN_PLAIN, KNOWN_CALL, "unknown" };

	return (struct message){
		.type = type,
		.name = dice() % 8 > 0 ? "" : names[dice() % ARRAY_LEN(names)],
		.stmt = names[dice() % ARRAY_LEN(names)],
		.text = dice() % (dice() % 2 == 0 ? 4 : (unsigned)ARRAY_LEN(texts)),
	};
}

/* Mostly what clients send, and what differs a little from that. */
static void batch_make(struct batch *b)
{
	static const char *const usual[] = { "Q", "PBDES", "PDBES", "BDES", "BES", "PBES", "S", "PBESQ", "QQ", "PBE" };
	static const char types[] = "QPBDESCHFdXp";
	char order[BATCH_MAX + 1];
	size_t n;

	str_copy(order, sizeof(order), usual[dice() % ARRAY_LEN(usual)]);
	n = strlen(order);
	if (dice() % 4 == 0)
		order[dice() % n] = types[dice() % (sizeof(types) - 1)];
	if (dice() % 4 == 0 && n < BATCH_MAX) {
		size_t at = dice() % (n + 1);

		memmove(order + at + 1, order + at, n - at + 1);
		order[at] = types[dice() % (sizeof(types) - 1)];
	}
	b->count = 0;
	b->len = 0;
	b->unnamed = (int)(dice() % (ARRAY_LEN(texts) + 1)) - 1;
	for (const char *type = order; *type != '\0'; type++) {
		b->messages[b->count] = message_random(*type);
		batch_put_message(b, &b->messages[b->count++]);
	}
}

static bool batch_repeats(struct batch *b, size_t len)
{
	struct retry_names names = { batch_find, b };

	return retry_is_repeatable(slice_make(b->bytes, len), &names);
}

static void random_batches_agree_with_model(void **state)
{
	struct batch b;
	unsigned repeatable = 0;

	(void)state;
	for (uint32_t seed = 1; seed <= 20000; seed++) {
		seed_is(seed);
		batch_make(&b);
		CHECK(batch_repeats(&b, b.len) == model_repeats(&b));
		repeatable += model_repeats(&b);
		for (size_t len = 0; model_repeats(&b) && len < b.len; len++)
			CHECK(!batch_repeats(&b, len)); /* a part of it is no statement */
	}
	assert_in_range(repeatable, 2000, 18000); /* else nothing was tested */
}

/* Whatever bytes there are, they are looked at within their bounds. */
static void random_bytes_do_no_harm(void **state)
{
	struct batch b;

	(void)state;
	for (uint32_t seed = 1; seed <= 5000; seed++) {
		uint8_t *copy;

		seed_is(seed);
		batch_make(&b);
		for (uint32_t i = dice() % 4; i > 0; i--)
			b.bytes[dice() % b.len] = (uint8_t)dice();
		copy = malloc(b.len);
		assert_non_null(copy);
		memcpy(copy, b.bytes, b.len);
		(void)!retry_is_repeatable(slice_make(copy, b.len), &(struct retry_names){ batch_find, &b });
		free(copy);
	}
}

/* ---- random lives of statements against a model ---- */

/* A pool with a clock of its own, and what is known of it without the budget's arithmetic. */
struct life {
	uint64_t now_us;
	unsigned percent;
	unsigned max_runs;
	uint64_t limit_us;
	double money; /* repetitions that may be made */
	uint64_t statements;
	uint64_t repeated;
	unsigned outcomes[RETRY_OUTCOMES_N + 1];
};

static const char *const life_states[] = { "40001", "40P01", "40001", "23505", "57014", "08006", "57P01", "25P02", "" };

/* What must come of a run that has failed. */
static enum retry_outcome model_decide(const struct life *l, const struct retry_case *c, const char *sqlstate,
				       uint64_t began_us, uint64_t delay)
{
	bool is_conflict = strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0;
	bool is_unsent = c->cause == RETRY_UNSENT;

	if ((!is_conflict && !is_unsent) || !c->is_repeatable || c->in_block)
		return RETRY_NOT_MEANT;
	if (c->runs >= l->max_runs)
		return RETRY_NO_ATTEMPTS;
	if (l->limit_us > 0 && l->now_us + delay >= began_us + l->limit_us)
		return RETRY_NO_TIME;
	if (l->money < 1 - 1e-6)
		return RETRY_NO_BUDGET;
	return c->has_begun ? RETRY_BEGUN : RETRY_RETRIED;
}

static void life_check_delay(const struct retry_case *c, uint64_t delay)
{
	uint64_t most = 10000;

	for (unsigned i = 1; i < c->runs && most < USEC_PER_SEC; i++)
		most *= 2;
	most = most > USEC_PER_SEC ? USEC_PER_SEC : most;
	if (c->cause == RETRY_UNSENT)
		CHECK(delay == 0);
	else
		CHECK(delay > 0 && delay <= most);
}

/* One statement, from its first run to success or to the error that its client is told. */
static void life_run_statement(struct life *l)
{
	struct batch b;
	uint64_t began_us = l->now_us;
	bool in_block = dice() % 8 == 0;
	unsigned failing_pct = 100 - dice() % 5 * 20;

	batch_make(&b);
	if (dice() % 2 == 0) { /* one that may be */
		b.messages[0] = (struct message){ .type = 'Q', .text = dice() % 4 };
		b.count = 1;
		b.len = 0;
		batch_put_message(&b, &b.messages[0]);
	}
	retry_budget_earn(&budget, l->percent);
	l->statements++;
	l->money += l->percent / 100.0;
	l->money = l->money > RETRY_SAVINGS ? RETRY_SAVINGS : l->money;
	for (unsigned runs = 1;; runs++) {
		const char *sqlstate = life_states[dice() % ARRAY_LEN(life_states)];
		bool is_unsent = dice() % 5 == 0;
		struct retry_case c;
		enum retry_outcome outcome;
		uint64_t delay;

		CHECK(runs <= l->max_runs);
		l->now_us += is_unsent ? 0 : dice() % 20000;
		if (dice() % 100 >= failing_pct)
			return;
		c = (struct retry_case){
			.cause = is_unsent ? RETRY_UNSENT : retry_cause_of(slice_of(sqlstate)),
			.is_repeatable = batch_repeats(&b, b.len),
			.in_block = in_block,
			.has_begun = !is_unsent && dice() % 6 == 0,
			.runs = runs,
			.max_runs = l->max_runs,
			.spent_us = l->now_us - began_us,
			.limit_us = l->limit_us,
			.dice = dice(),
		};
		outcome = retry_decide(&budget, &c, &delay);
		life_check_delay(&c, delay);
		CHECK(outcome == model_decide(l, &c, is_unsent ? "" : sqlstate, began_us, delay));
		CHECK(outcome != RETRY_RETRIED || model_repeats(&b));
		l->outcomes[outcome]++;
		if (outcome != RETRY_RETRIED)
			return;
		l->money -= 1;
		l->repeated++;
		CHECK(l->repeated <= RETRY_SAVINGS + l->statements * l->percent / 100);
		l->now_us += delay;
		CHECK(l->limit_us == 0 || l->now_us < began_us + l->limit_us);
	}
}

static void random_lives_agree_with_model(void **state)
{
	unsigned outcomes[RETRY_OUTCOMES_N + 1] = { 0 };

	(void)state;
	for (uint32_t seed = 1; seed <= 300; seed++) {
		static const unsigned limits_ms[] = { 0, 1, 20, 100, 5000 };
		struct life l = { .now_us = 1000 * USEC_PER_SEC, .money = RETRY_SAVINGS };

		seed_is(seed);
		retry_budget_init(&budget);
		l.percent = dice() % 11 * 10;
		l.max_runs = 1 + dice() % 8;
		l.limit_us = limits_ms[dice() % ARRAY_LEN(limits_ms)] * 1000;
		for (int i = 0; i < 300; i++)
			life_run_statement(&l);
		for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
			outcomes[i] += l.outcomes[i];
	}
	for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
		if (i != RETRY_SUCCEEDED) /* which is no decision */
			assert_true(outcomes[i] > 300);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(attempts_have_a_limit),
		TEST(waits_grow_up_to_a_cap),
		TEST(the_deadline_leaves_room_for_the_wait),
		TEST(what_is_refused_costs_nothing),
		TEST(the_budget_is_a_share),
		TEST(repetitions_never_exceed_the_budget),
		TEST(causes_have_states),
		TEST(what_is_never_repeated),
		TEST(a_begun_answer_is_the_last_reason),
		TEST(who_met_a_dead_server_does_not_wait),
		TEST(random_batches_agree_with_model),
		TEST(random_bytes_do_no_harm),
		TEST(random_lives_agree_with_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
