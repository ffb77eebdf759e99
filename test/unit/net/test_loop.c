#include "net/loop.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/clock.h"

static struct loop *test_loop;
static int test_owner;

static int setup(void **state UNUSED)
{
	test_loop = loop_new("a name that is rather too long", &test_owner);
	return 0;
}

static int teardown(void **state UNUSED)
{
	loop_free(&test_loop);
	assert_null(test_loop);
	return 0;
}

static void test_sleep_ms(unsigned ms)
{
	struct timespec nap = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&nap, NULL);
}

/* Messages --------------------------------------------------------------- */

#define SENDERS      2
#define MSGS_PER_ONE 5000

struct note {
	struct loop_msg msg;
	unsigned sender;
	unsigned number;
};

static struct note notes[SENDERS][MSGS_PER_ONE];
static unsigned seen[SENDERS];

static void note_fn(struct loop *loop, struct loop_msg *msg)
{
	struct note *note = CONTAINER_OF(msg, struct note, msg);

	ASSERT(loop == test_loop && loop_current() == loop);
	ASSERT(note->number == seen[note->sender]);
	seen[note->sender]++;
	if (seen[0] == MSGS_PER_ONE && seen[1] == MSGS_PER_ONE)
		loop_stop(loop);
}

static void *sender_main(void *arg)
{
	struct note *mine = arg;

	for (unsigned i = 0; i < MSGS_PER_ONE; i++) {
		loop_post(test_loop, &mine[i].msg);
		if (i % 100 == 0)
			sched_yield();
	}
	return NULL;
}

/* Messages of one sender arrive in order, none is lost, and the loop wakes from its sleep for them. */
static void test_messages(void **state UNUSED)
{
	pthread_t senders[SENDERS];

	seen[0] = seen[1] = 0;
	loop_start_thread(test_loop);
	for (unsigned s = 0; s < SENDERS; s++) {
		for (unsigned i = 0; i < MSGS_PER_ONE; i++)
			notes[s][i] = (struct note){ { .fn = note_fn }, s, i };
		assert_int_equal(pthread_create(&senders[s], NULL, sender_main, notes[s]), 0);
	}
	loop_join(test_loop);
	for (unsigned s = 0; s < SENDERS; s++) {
		pthread_join(senders[s], NULL);
		assert_int_equal(seen[s], MSGS_PER_ONE);
	}
}

static _Atomic unsigned echoes;

static void echo_fn(struct loop *loop UNUSED, struct loop_msg *msg UNUSED)
{
	echoes++;
}

/* Each message to a sleeping loop wakes it: no wake-up is lost between "empty" and "asleep". */
static void test_wakes_up(void **state UNUSED)
{
	struct loop_msg msg = { .fn = echo_fn };

	echoes = 0;
	loop_start_thread(test_loop);
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t deadline = clock_mono_us() + 5 * USEC_PER_SEC;

		loop_post(test_loop, &msg);
		while (echoes == i && clock_mono_us() < deadline)
			sched_yield();
		assert_int_equal(echoes, i + 1);
	}
	loop_stop(test_loop);
	loop_join(test_loop);
}

static void repost_fn(struct loop *loop, struct loop_msg *msg)
{
	if (++echoes < 10)
		loop_post(loop, msg);
	else
		loop_stop(loop);
}

/* A message that is posted by a message comes in a later turn, and it comes. */
static void test_post_to_own_loop(void **state UNUSED)
{
	struct loop_msg msg = { .fn = repost_fn };

	echoes = 0;
	loop_post(test_loop, &msg);
	loop_run(test_loop);
	assert_int_equal(echoes, 10);
}

/* What nobody has taken runs when the loop is freed. */
/* However many messages there are, other work gets its turn; none is lost, none overtakes another. */
static void test_messages_in_slices(void **state UNUSED)
{
	enum { MANY = 1000 };
	unsigned before = 0;
	unsigned turns = 0;

	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < MANY; i++) {
		notes[0][i] = (struct note){ .msg.fn = note_fn, .number = i };
		loop_post(test_loop, &notes[0][i].msg);
	}
	while (seen[0] < MANY) {
		loop_step(test_loop);
		assert_in_range(seen[0] - before, 1, MANY / 10);
		before = seen[0];
		turns++;
		/* one more from outside, in the middle of it: its wake-up may be spent on those before */
		if (turns == 2) {
			notes[0][MANY] = (struct note){ .msg.fn = note_fn, .number = MANY };
			loop_post(test_loop, &notes[0][MANY].msg);
		}
	}
	loop_step(test_loop);
	assert_int_equal(seen[0], MANY + 1);
}

static void nap_fn(struct loop *loop UNUSED, struct loop_msg *msg UNUSED)
{
	test_sleep_ms(5);
}

static void test_longest_turn(void **state UNUSED)
{
	struct loop_msg nap = { .fn = nap_fn };
	struct loop_load load;

	loop_load(test_loop, &load);
	assert_int_equal(load.longest_us, 0);
	loop_post(test_loop, &nap);
	loop_step(test_loop);
	loop_load(test_loop, &load);
	assert_in_range(load.recent_us, 5000, 60 * USEC_PER_SEC);
	assert_int_equal(load.longest_us, load.recent_us);
	loop_load(test_loop, &load);
	assert_int_equal(load.recent_us, 0); /* since the last look */
	assert_true(load.longest_us >= 5000);
}

static void test_free_runs_what_is_left(void **state UNUSED)
{
	struct loop *loop = loop_new("left", NULL);
	struct loop_msg msgs[3] = { { .fn = echo_fn }, { .fn = echo_fn }, { .fn = echo_fn } };

	echoes = 0;
	for (int i = 0; i < 3; i++)
		loop_post(loop, &msgs[i]);
	loop_free(&loop);
	assert_int_equal(echoes, 3);
	loop_free(&loop); /* NULL is fine */
}

static void test_stop_before_run(void **state UNUSED)
{
	loop_stop(test_loop);
	loop_run(test_loop); /* returns at once */
	loop_join(test_loop);
}

/* Tasks ------------------------------------------------------------------ */

#define TASKS 2500

struct job {
	struct loop_task task;
	unsigned number;
};

static struct job jobs[TASKS];
static unsigned jobs_run;
static unsigned turns; /* of the socket side while jobs were left */
static struct job late_jobs[2];

static void job_fn(struct loop *loop, struct loop_task *task)
{
	struct job *job = CONTAINER_OF(task, struct job, task);

	ASSERT(loop == test_loop && !task->queued);
	ASSERT(job->number == jobs_run);
	jobs_run++;
	if (jobs_run == TASKS)
		loop_stop(loop);
}

static void turn_fn(struct loop *loop, struct loop_msg *msg)
{
	if (jobs_run < TASKS) {
		turns++;
		loop_post(loop, msg);
	}
}

/* In the order queued; the sockets get their chance between batches; work that is left does not wait for an event. */
static void test_tasks_in_order(void **state UNUSED)
{
	static struct loop_msg msg; /* is still in the mailbox at the end */

	msg.fn = turn_fn;
	jobs_run = turns = 0;
	for (unsigned i = 0; i < TASKS; i++) {
		jobs[i] = (struct job){ { .fn = job_fn }, i };
		loop_defer(test_loop, &jobs[i].task);
		loop_defer(test_loop, &jobs[i].task); /* stays where it is */
	}
	loop_post(test_loop, &msg);
	loop_run(test_loop);
	assert_int_equal(jobs_run, TASKS);
	assert_in_range(turns, 2, 10);
}

/* The same without any event: a batch that exceeds the budget must not put the loop to sleep. */
static void test_tasks_do_not_sleep(void **state UNUSED)
{
	struct loop_msg msg = { .fn = echo_fn };

	jobs_run = 0;
	for (unsigned i = 0; i < TASKS; i++) {
		jobs[i] = (struct job){ { .fn = job_fn }, i };
		loop_defer(test_loop, &jobs[i].task);
	}
	loop_post(test_loop, &msg); /* ends the first wait, and no other */
	loop_run(test_loop);
	assert_int_equal(jobs_run, TASKS);
}

static void chain_fn(struct loop *loop, struct loop_task *task)
{
	if (++jobs_run < 5)
		loop_defer(loop, task);
	else
		loop_stop(loop);
}

static void start_chain_fn(struct loop *loop, struct loop_msg *msg UNUSED)
{
	loop_defer(loop, &late_jobs[0].task);
	loop_defer(loop, &late_jobs[1].task);
	loop_cancel(loop, &late_jobs[1].task);
	loop_cancel(loop, &late_jobs[1].task);
	ASSERT(!late_jobs[1].task.queued);
	ASSERT(jobs_run == 0); /* not within the callback */
}

static void never_fn(struct loop *loop UNUSED, struct loop_task *task UNUSED)
{
	UNREACHABLE();
}

/* A task may queue itself again, and may be taken back. */
static void test_task_requeue_and_cancel(void **state UNUSED)
{
	struct loop_msg msg = { .fn = start_chain_fn };

	jobs_run = 0;
	late_jobs[0].task = (struct loop_task){ .fn = chain_fn };
	late_jobs[1].task = (struct loop_task){ .fn = never_fn };
	loop_post(test_loop, &msg);
	loop_run(test_loop);
	assert_int_equal(jobs_run, 5);
}

/* Ticks and time --------------------------------------------------------- */

static unsigned ticks;

static void tick_fn(struct loop *loop, void *arg)
{
	ASSERT(arg == &ticks && loop_current() == loop);
	if (++ticks == 3)
		loop_stop(loop);
}

static void test_tick(void **state UNUSED)
{
	uint64_t begin_us = clock_mono_us();

	ticks = 0;
	loop_set_tick(test_loop, 3600 * USEC_PER_SEC, tick_fn, &ticks);
	loop_set_tick(test_loop, 20000, tick_fn, &ticks); /* replaces the first */
	loop_run(test_loop);
	assert_int_equal(ticks, 3);
	/* Three periods, less a step of the coarse clock that libevent reads. */
	assert_true(clock_mono_us() - begin_us >= 45000);
}

static void stop_fn(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	loop_stop(arg);
}

static void test_tick_off(void **state UNUSED)
{
	struct timeval soon = { .tv_usec = 30000 };

	ticks = 0;
	loop_set_tick(test_loop, 1000, tick_fn, &ticks);
	loop_set_tick(test_loop, 0, tick_fn, &ticks);
	event_base_once(loop_base(test_loop), -1, EV_TIMEOUT, stop_fn, test_loop, &soon);
	loop_run(test_loop);
	assert_int_equal(ticks, 0);
}

static void count_fn(struct loop *loop UNUSED, void *arg)
{
	++*(int *)arg;
}

static void end_fn(struct loop *loop, void *arg UNUSED)
{
	loop_stop(loop);
}

/* An alarm that is set keeps the sooner time, one that is moved the last; one that is cancelled is none. */
static void test_alarms(void **state UNUSED)
{
	int sooner = 0, moved = 0, cancelled = 0;
	struct loop_alarm a, b, c, end;

	loop_alarm_init(&a, test_loop, count_fn, &sooner);
	loop_alarm_init(&b, test_loop, count_fn, &moved);
	loop_alarm_init(&c, test_loop, count_fn, &cancelled);
	loop_alarm_init(&end, test_loop, end_fn, NULL);
	loop_alarm_set(&a, 1000);
	loop_alarm_set(&a, 3600 * USEC_PER_SEC);
	loop_alarm_set(&b, 1000);
	loop_alarm_move(&b, 3600 * USEC_PER_SEC);
	loop_alarm_set(&c, 1000);
	loop_alarm_cancel(&c);
	assert_true(c.due_us == 0);
	loop_alarm_set(&end, 30000);
	loop_run(test_loop);
	assert_int_equal(sooner, 1);
	assert_int_equal(moved, 0);
	assert_int_equal(cancelled, 0);
	loop_alarm_fini(&a);
	loop_alarm_fini(&b);
	loop_alarm_fini(&c);
	loop_alarm_fini(&end);
}

static void test_tickers(void **state UNUSED)
{
	struct loop_ticker stopped, runs;
	int count = 0;

	ticks = 0;
	loop_ticker_init(&stopped, test_loop, count_fn, &count);
	loop_ticker_init(&runs, test_loop, tick_fn, &ticks); /* ends the loop at the third */
	assert_false(runs.is_running);
	loop_ticker_start(&stopped, 1000);
	loop_ticker_stop(&stopped);
	loop_ticker_start(&runs, 1000);
	assert_true(runs.is_running && !stopped.is_running);
	loop_run(test_loop);
	assert_int_equal(ticks, 3);
	assert_int_equal(count, 0);
	loop_ticker_fini(&stopped);
	loop_ticker_fini(&runs);
}

static uint64_t turn_times[3];

static void time_fn(struct loop *loop, struct loop_msg *msg UNUSED)
{
	struct timeval next_turn = { .tv_usec = 1000 };

	turn_times[0] = loop_now_us(loop);
	test_sleep_ms(5);
	turn_times[1] = loop_now_us(loop);
	/* Not by a message: what a loop posts to itself may still come in this turn. */
	event_base_once(loop_base(loop), -1, EV_TIMEOUT, stop_fn, loop, &next_turn);
}

/* The time stands still within a turn and is read again in the next. */
static void test_now(void **state UNUSED)
{
	struct loop_msg msg = { .fn = time_fn };
	uint64_t before = clock_mono_us();

	loop_post(test_loop, &msg);
	loop_run(test_loop);
	turn_times[2] = loop_now_us(test_loop);
	assert_true(turn_times[0] >= before);
	assert_int_equal(turn_times[1], turn_times[0]);
	assert_true(turn_times[2] >= turn_times[0] + 5000);
}

static void test_properties(void **state UNUSED)
{
	assert_ptr_equal(loop_owner(test_loop), &test_owner);
	assert_string_equal(loop_name(test_loop), "a name that is rather t");
	assert_null(loop_current());
	memset(loop_scratch(test_loop), 0xff, LOOP_SCRATCH_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wakes_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_post_to_own_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_messages_in_slices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_longest_turn, setup, teardown),
		cmocka_unit_test(test_free_runs_what_is_left),
		cmocka_unit_test_setup_teardown(test_stop_before_run, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tasks_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tasks_do_not_sleep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_task_requeue_and_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tick, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tick_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_alarms, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tickers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_now, setup, teardown),
		cmocka_unit_test_setup_teardown(test_properties, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
