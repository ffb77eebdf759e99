#include "net/job.h"

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/clock.h"

#define PATIENCE_US (30 * USEC_PER_SEC)

/* One job of the tests: it tells that it runs, waits until it may go on, and notes what is called where. */
struct task {
	struct job job;
	sem_t *gate; /* NULL: does not wait */
	unsigned number;
};

static struct loop *test_loop;
static struct job_queue *queue;
static sem_t began;
static sem_t freed;
static sem_t gate;
static atomic_uint works;
static atomic_uint at_once;
static atomic_uint at_once_max;
static unsigned dones; /* test_loop's thread */

/* When set, no thread can be started, and this happens instead. */
static void (*instead_of_thread)(void);

/* In place of the function of the C library. */
int pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	void *found = dlsym(RTLD_NEXT, "pthread_create");

	if (instead_of_thread != NULL) {
		instead_of_thread();
		return EAGAIN;
	}
	memcpy(&real, &found, sizeof(real));
	return real(id, attr, fn, arg);
}

static void test_wait(sem_t *sem)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	while (sem_timedwait(sem, &until) != 0)
		assert_int_equal(errno, EINTR);
}

static void task_work(struct job *job)
{
	struct task *task = CONTAINER_OF(job, struct task, job);
	unsigned now = atomic_fetch_add(&at_once, 1) + 1;
	unsigned max = atomic_load(&at_once_max);

	ASSERT(loop_current() == NULL);
	while (now > max && !atomic_compare_exchange_weak(&at_once_max, &max, now))
		;
	sem_post(&began);
	if (task->gate != NULL)
		test_wait(task->gate);
	task->number++;
	atomic_fetch_add(&works, 1);
	atomic_fetch_sub(&at_once, 1);
}

static void task_done(struct job *job)
{
	ASSERT(loop_current() == job->loop);
	ASSERT(CONTAINER_OF(job, struct task, job)->number % 2 == 1);
	dones++;
}

static void task_free(struct job *job)
{
	free(CONTAINER_OF(job, struct task, job));
	sem_post(&freed);
}

static const struct job_ops task_ops = { .work = task_work, .done = task_done, .free = task_free };

static struct task *task_new(struct loop *loop, sem_t *wait_for)
{
	struct task *task = xcalloc(1, sizeof(*task));

	task->job.ops = &task_ops;
	task->job.loop = loop;
	task->gate = wait_for;
	return task;
}

static struct job *submit(sem_t *wait_for)
{
	struct task *task = task_new(test_loop, wait_for);

	assert_int_equal(job_submit(queue, &task->job), 0);
	return &task->job;
}

/* Turns the loop until so many jobs were answered. */
static void turn_until(unsigned want)
{
	uint64_t deadline = clock_mono_us() + 60 * USEC_PER_SEC;

	while (dones < want) {
		assert_true(clock_mono_us() < deadline);
		loop_step(test_loop);
	}
}

static void turn_until_freed(unsigned want)
{
	uint64_t deadline = clock_mono_us() + 60 * USEC_PER_SEC;

	while (want > 0) {
		assert_true(clock_mono_us() < deadline);
		loop_step(test_loop);
		if (sem_trywait(&freed) == 0)
			want--;
	}
}

static int setup(void **state UNUSED)
{
	sem_init(&began, 0, 0);
	sem_init(&freed, 0, 0);
	sem_init(&gate, 0, 0);
	works = at_once = at_once_max = 0;
	dones = 0;
	test_loop = loop_new("asker", NULL);
	queue = job_queue_new("test");
	job_queue_tune(queue, 2, 3);
	return 0;
}

static int teardown(void **state UNUSED)
{
	assert_true(job_queue_free(&queue, PATIENCE_US));
	assert_null(queue);
	loop_free(&test_loop);
	sem_destroy(&began);
	sem_destroy(&freed);
	sem_destroy(&gate);
	return 0;
}

/* Work happens elsewhere, the answer comes to the loop that asked, and each job is freed once. */
static void test_answer(void **state UNUSED)
{
	for (unsigned i = 0; i < 200; i++) {
		submit(NULL);
		turn_until(i + 1);
		test_wait(&freed);
	}
	assert_int_equal(works, 200);
	assert_int_equal(sem_trywait(&freed), -1);
}

static struct loop *other_loop;
static unsigned failures;

static void task_failed(struct job *job)
{
	ASSERT(loop_current() == job->loop && CONTAINER_OF(job, struct task, job)->number == 0);
	failures++;
}

static const struct job_ops failed_ops = { .work = task_work, .done = task_failed, .free = task_free };

static void submit_from_other_loops(void)
{
	for (unsigned i = 0; i < 3; i++) {
		struct task *task = task_new(other_loop, NULL);

		task->job.ops = &failed_ops;
		assert_int_equal(job_submit(queue, &task->job), 0);
	}
}

/* The only thread cannot be started: others who have counted on it are told as well. */
static void test_no_thread(void **state UNUSED)
{
	struct task *task = task_new(test_loop, NULL);

	other_loop = loop_new("other", NULL);
	failures = 0;
	job_queue_tune(queue, 1, 3);
	instead_of_thread = submit_from_other_loops;
	assert_int_equal(job_submit(queue, &task->job), -E_SYS);
	instead_of_thread = NULL;
	loop_run_left(other_loop);
	assert_int_equal(failures, 3);
	assert_int_equal(works, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(sem_trywait(&freed), 0);
	assert_int_equal(job_submit(queue, &task->job), 0); /* there is room again, and a thread */
	turn_until(1);
	loop_free(&other_loop);
}

/* As many at once as there are threads, no more. */
static void test_threads(void **state UNUSED)
{
	for (unsigned i = 0; i < 5; i++)
		submit(&gate);
	test_wait(&began);
	test_wait(&began);
	for (unsigned i = 0; i < 5; i++)
		sem_post(&gate);
	turn_until(5);
	assert_int_equal(at_once_max, 2);
}

/* Two threads and three places: the sixth is refused at once, until one of them has gone. */
static void test_full(void **state UNUSED)
{
	struct task *extra = task_new(test_loop, NULL);
	struct job *last;

	for (unsigned i = 0; i < 4; i++)
		submit(&gate);
	last = submit(&gate);
	assert_int_equal(job_submit(queue, &extra->job), -E_NOSPACE);
	job_cancel(&last); /* its turn cannot have come */
	assert_null(last);
	test_wait(&freed);
	assert_int_equal(job_submit(queue, &extra->job), 0);
	for (unsigned i = 0; i < 4; i++)
		sem_post(&gate);
	turn_until(5);
	assert_int_equal(works, 5);
}

static int submit_of(struct task **task, uint64_t source)
{
	*task = task_new(test_loop, &gate);
	(*task)->job.has_source = true;
	(*task)->job.source = source;
	return job_submit(queue, &(*task)->job);
}

/* A source has half of what there may be, at work or waiting, and the others have the rest. */
static void test_share(void **state UNUSED)
{
	struct task *tasks[7];
	struct job *last;

	job_queue_tune(queue, 1, 5);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(submit_of(&tasks[i], 1), 0);
	assert_int_equal(submit_of(&tasks[3], 1), -E_RANGE);
	assert_int_equal(submit_of(&tasks[4], 2), 0);
	last = &tasks[2]->job;
	job_cancel(&last);
	test_wait(&freed);
	assert_int_equal(job_submit(queue, &tasks[3]->job), 0); /* who leaves makes room for his own */
	assert_int_equal(submit_of(&tasks[5], 1), -E_RANGE);
	for (unsigned i = 0; i < 4; i++)
		sem_post(&gate);
	turn_until(4);
	assert_int_equal(works, 4);
	assert_int_equal(job_submit(queue, &tasks[5]->job), 0); /* and so does who has been answered */
	sem_post(&gate);
	turn_until(5);
}

/* One that nobody wants any more while it runs: freed, and not answered. */
static void test_cancel_running(void **state UNUSED)
{
	struct job *job = submit(&gate);

	test_wait(&began);
	job_cancel(&job);
	assert_int_equal(sem_trywait(&freed), -1);
	sem_post(&gate);
	turn_until_freed(1);
	assert_int_equal(works, 1);
	assert_int_equal(dones, 0);
	job_cancel(&job); /* nothing to cancel */
}

/* The answer is in the mailbox when the asker goes. */
static void test_cancel_answered(void **state UNUSED)
{
	struct job *first;

	job_queue_tune(queue, 1, 3);
	first = submit(NULL);
	submit(&gate);
	test_wait(&began);
	test_wait(&began); /* the one thread has sent the first answer */
	job_cancel(&first);
	sem_post(&gate);
	turn_until_freed(2);
	assert_int_equal(works, 2);
	assert_int_equal(dones, 1);
}

/* Fewer threads, then more, while there is work. */
static void test_tune(void **state UNUSED)
{
	job_queue_tune(queue, 4, 100);
	for (unsigned i = 0; i < 4; i++)
		submit(&gate);
	for (unsigned i = 0; i < 4; i++)
		test_wait(&began);
	job_queue_tune(queue, 1, 100);
	for (unsigned i = 0; i < 4; i++)
		sem_post(&gate);
	turn_until(4);
	at_once_max = 0;
	for (unsigned i = 0; i < 20; i++)
		submit(NULL);
	turn_until(24);
	assert_int_equal(at_once_max, 1);
	while (sem_trywait(&began) == 0)
		;
	job_queue_tune(queue, 6, 100);
	for (unsigned i = 0; i < 6; i++)
		submit(&gate);
	for (unsigned i = 0; i < 6; i++)
		test_wait(&began);
	for (unsigned i = 0; i < 6; i++)
		sem_post(&gate);
	turn_until(30);
	assert_int_equal(at_once_max, 6);
}

/* What hangs in one queue does not hold up another. */
static void test_queues_apart(void **state UNUSED)
{
	struct job_queue *other = job_queue_new("other");
	struct task *task = task_new(test_loop, NULL);

	job_queue_tune(queue, 1, 3);
	submit(&gate);
	test_wait(&began);
	assert_int_equal(job_submit(other, &task->job), 0);
	turn_until(1);
	sem_post(&gate);
	turn_until(2);
	assert_true(job_queue_free(&other, PATIENCE_US));
}

/* The end with one that runs and one that waits: the first is let finish, the second is not begun. */
static void test_free_waits(void **state UNUSED)
{
	job_queue_tune(queue, 1, 3);
	submit(NULL);
	test_wait(&began);
	submit(&gate);
	test_wait(&began);
	submit(NULL);
	sem_post(&gate);
	assert_true(job_queue_free(&queue, PATIENCE_US));
	loop_run_left(test_loop);
	assert_true(works == 2 || works == 3);
	assert_int_equal(works, dones);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(sem_trywait(&freed), 0);
}

/* The end with a call that does not return: it is left alone, and frees its job when it does, without a loop. */
static void test_free_leaves(void **state UNUSED)
{
	struct task *task;

	submit(&gate);
	test_wait(&began);
	assert_false(job_queue_free(&queue, 1000));
	assert_null(queue);
	loop_free(&test_loop);
	sem_post(&gate);
	test_wait(&freed);
	assert_int_equal(works, 1);
	assert_int_equal(dones, 0);
	test_loop = loop_new("again", NULL);
	queue = job_queue_new("again");
	task = task_new(test_loop, NULL);
	assert_int_equal(job_submit(queue, &task->job), 0);
	turn_until(1);
}

/* ---- several askers, with threads of their own ---- */

#define ASKERS  3
#define ROUNDS  400
#define IN_HAND 4

struct asker {
	struct loop *loop;
	struct loop_msg start;
	struct job *hand[IN_HAND];
	unsigned asked, answered, cancelled, refused;
};

struct ask {
	struct job job;
	struct asker *asker;
	unsigned place;
	unsigned value;
};

static atomic_uint asks;

static void asker_turn(struct asker *a);

static void ask_work(struct job *job)
{
	CONTAINER_OF(job, struct ask, job)->value = 42;
}

static void ask_done(struct job *job)
{
	struct ask *ask = CONTAINER_OF(job, struct ask, job);
	struct asker *a = ask->asker;

	ASSERT(ask->value == 42 && a->hand[ask->place] == job);
	a->hand[ask->place] = NULL;
	a->answered++;
	asker_turn(a);
}

static void ask_free(struct job *job)
{
	struct ask *ask = CONTAINER_OF(job, struct ask, job);

	atomic_fetch_sub(&asks, 1);
	free(ask);
}

static const struct job_ops ask_ops = { .work = ask_work, .done = ask_done, .free = ask_free };

/* Fills its hand, and throws away some of what it holds. */
static void asker_turn(struct asker *a)
{
	for (unsigned i = 0; i < IN_HAND; i++) {
		struct ask *ask;

		if (a->hand[i] != NULL && a->asked % 3 == 0) {
			job_cancel(&a->hand[i]);
			a->cancelled++;
		}
		if (a->hand[i] != NULL || a->asked == ROUNDS)
			continue;
		ask = xcalloc(1, sizeof(*ask));
		*ask = (struct ask){ .job = { .ops = &ask_ops, .loop = a->loop }, .asker = a, .place = i };
		atomic_fetch_add(&asks, 1);
		if (job_submit(queue, &ask->job) == 0) {
			a->hand[i] = &ask->job;
			a->asked++;
		} else {
			a->refused++;
			ask_free(&ask->job);
		}
	}
	for (unsigned i = 0; i < IN_HAND; i++)
		if (a->hand[i] != NULL)
			return; /* its answer brings us back */
	if (a->asked == ROUNDS)
		loop_stop(a->loop);
	else
		loop_post(a->loop, &a->start);
}

static void asker_start(struct loop *loop UNUSED, struct loop_msg *msg)
{
	asker_turn(CONTAINER_OF(msg, struct asker, start));
}

static void test_askers(void **state UNUSED)
{
	struct asker askers[ASKERS] = { 0 };

	job_queue_tune(queue, 3, ASKERS);
	for (unsigned i = 0; i < ASKERS; i++) {
		askers[i].loop = loop_new("asker", NULL);
		askers[i].start.fn = asker_start;
		loop_post(askers[i].loop, &askers[i].start);
		loop_start_thread(askers[i].loop);
	}
	for (unsigned i = 0; i < ASKERS; i++)
		loop_join(askers[i].loop);
	assert_true(job_queue_free(&queue, PATIENCE_US));
	for (unsigned i = 0; i < ASKERS; i++) {
		loop_free(&askers[i].loop);
		assert_int_equal(askers[i].asked, ROUNDS);
		assert_int_equal(askers[i].answered + askers[i].cancelled, ROUNDS);
		assert_true(askers[i].answered > 0);
	}
	assert_int_equal(asks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_share, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_running, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tune, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queues_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_leaves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_askers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
