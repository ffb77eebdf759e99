/*
 * Helper threads.
 *
 *     asker's loop                     helper thread               asker's loop
 *     job_submit() --> waiting jobs --> work() --> loop_post() --> done(), free()
 *            \--> -E_NOSPACE
 *
 * The list and the counts are under one lock, and nothing happens under it but
 * that. Threads wait at a condition; they are started one by one when a job
 * finds none idle, so a pooler that needs no helpers has none.
 *
 * A source, such as the address of a client, may have half of the jobs that
 * there may be, at work or waiting, so that it does not lock out the others.
 * Sources are counted in a table by a keyed hash: two of them in one place share
 * what each would have, which nobody can bring about.
 *
 * A job comes back as a message to the loop that asked. Only that loop's
 * thread cancels it, and so no lock is needed for the question whether anybody
 * still wants the answer.
 *
 * The end. A library may hang where it pleases, so threads get some time and
 * no more. One that is left alone after that finds `is_abandoned` when it comes
 * back: the loops are gone then, and it frees its job itself. The queue has a
 * reference from its owner and one from each thread, so the last one frees it.
 */
#include "net/job.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/log.h"
#include "core/siphash.h"
#include "core/str.h"

/* Places for the counts of sources. */
#define JOB_SOURCES 2048

TAILQ_HEAD(job_list, job);

enum job_thread_state {
	JOB_THREAD_NONE,
	JOB_THREAD_ALIVE,
	JOB_THREAD_ENDED, /* to be joined */
};

struct job_thread {
	struct job_queue *queue;
	pthread_t id; /* of the thread that starts and joins it */
	enum job_thread_state state;
};

struct job_queue {
	char name[12];
	struct lock lock; /* protects all that follows */
	pthread_cond_t has_work;
	pthread_cond_t has_ended; /* a thread has, or has sent an answer: for job_queue_free() */
	struct job_list waiting;
	unsigned n_waiting;
	unsigned n_running;
	unsigned n_posting; /* answers on their way to their loops */
	unsigned max_threads;
	unsigned max_waiting;
	unsigned n_idle;  /* threads at has_work */
	unsigned n_alive; /* threads that were started and have not ended */
	unsigned refs;    /* the owner and each thread */
	bool is_closed;   /* no more jobs are taken */
	bool is_abandoned;
	struct job_thread threads[JOB_THREADS_MAX];
	uint8_t hash_key[SIPHASH_KEY_LEN]; /* constant */
	unsigned by_source[JOB_SOURCES];   /* jobs at work or waiting */
};

struct job_queue *job_queue_new(const char *name)
{
	struct job_queue *q = xcalloc(1, sizeof(*q));
	pthread_condattr_t attr;

	str_copy(q->name, sizeof(q->name), name);
	siphash_new_key(q->hash_key);
	lock_init(&q->lock, LOCK_RANK_JOB);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->has_work, &attr);
	pthread_cond_init(&q->has_ended, &attr);
	pthread_condattr_destroy(&attr);
	TAILQ_INIT(&q->waiting);
	q->max_threads = 1;
	q->refs = 1;
	return q;
}

/* Gives one reference back. */
static void job_queue_release(struct job_queue *q)
{
	bool is_last;

	lock_acquire(&q->lock);
	is_last = --q->refs == 0;
	lock_release(&q->lock);
	if (!is_last)
		return;
	ASSERT(TAILQ_EMPTY(&q->waiting));
	pthread_cond_destroy(&q->has_work);
	pthread_cond_destroy(&q->has_ended);
	lock_fini(&q->lock);
	free(q);
}

void job_queue_tune(struct job_queue *q, unsigned threads, unsigned max_waiting)
{
	ASSERT(threads >= 1 && threads <= JOB_THREADS_MAX);
	lock_acquire(&q->lock);
	q->max_threads = threads;
	q->max_waiting = max_waiting;
	lock_release(&q->lock);
	pthread_cond_broadcast(&q->has_work); /* for those that are too many now */
}

/* ---- shares ---- */

/* How many of the job's source there are; NULL: it has none. */
static unsigned *job_count_of(struct job_queue *q, const struct job *job)
{
	return job->has_source ? &q->by_source[siphash_u64(q->hash_key, job->source) % JOB_SOURCES] : NULL;
}

static bool job_has_room_locked(struct job_queue *q, const struct job *job)
{
	const unsigned *count = job_count_of(q, job);

	lock_assert_held(&q->lock);
	return count == NULL || 2 * *count < q->max_threads + q->max_waiting;
}

static void job_enter_locked(struct job_queue *q, const struct job *job)
{
	unsigned *count = job_count_of(q, job);

	lock_assert_held(&q->lock);
	if (count != NULL)
		*count += 1;
}

static void job_leave_locked(struct job_queue *q, const struct job *job)
{
	unsigned *count = job_count_of(q, job);

	lock_assert_held(&q->lock);
	if (count != NULL)
		*count -= 1;
}

/* ---- a helper thread ---- */

/* Takes the first of those that wait out of the queue. */
static struct job *job_begin_locked(struct job_queue *q)
{
	struct job *job = TAILQ_FIRST(&q->waiting);

	lock_assert_held(&q->lock);
	TAILQ_REMOVE(&q->waiting, job, entry);
	q->n_waiting--;
	q->n_running++;
	job->state = JOB_RUNNING;
	return job;
}

/* Waits for a job; NULL when the thread is to end. */
static struct job *job_take_locked(struct job_queue *q)
{
	lock_assert_held(&q->lock);
	while (!q->is_closed && q->n_alive <= q->max_threads && TAILQ_EMPTY(&q->waiting)) {
		q->n_idle++;
		pthread_cond_wait(&q->has_work, &q->lock.mutex);
		q->n_idle--;
	}
	if (q->is_closed || q->n_alive > q->max_threads)
		return NULL;
	return job_begin_locked(q);
}

/* On the asker's loop. */
static void job_on_answer(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct job *job = CONTAINER_OF(msg, struct job, msg);

	if (!job->is_cancelled)
		job->ops->done(job);
	job->ops->free(job);
}

/*
 * Sends the job back. job_queue_free() waits for n_posting, so the loop is
 * there; when it has given up on this thread before, the loop may not be.
 */
static void job_answer(struct job_queue *q, struct job *job)
{
	bool is_abandoned;

	lock_acquire(&q->lock);
	q->n_running--;
	job_leave_locked(q, job);
	is_abandoned = q->is_abandoned;
	if (!is_abandoned)
		q->n_posting++;
	lock_release(&q->lock);
	if (is_abandoned) {
		job->ops->free(job);
		return;
	}
	loop_post(job->loop, &job->msg);
	lock_acquire(&q->lock);
	q->n_posting--;
	lock_release(&q->lock);
	pthread_cond_signal(&q->has_ended);
}

static void *job_thread_main(void *arg)
{
	struct job_thread *self = arg;
	struct job_queue *q = self->queue;
	struct job *job;

	log_set_thread(q->name);
	lock_acquire(&q->lock);
	while ((job = job_take_locked(q)) != NULL) {
		lock_release(&q->lock);
		job->ops->work(job);
		job_answer(q, job);
		lock_acquire(&q->lock);
	}
	self->state = JOB_THREAD_ENDED;
	q->n_alive--;
	lock_release(&q->lock);
	pthread_cond_signal(&q->has_work); /* the last wake-up may have been for one of the others */
	pthread_cond_signal(&q->has_ended);
	job_queue_release(q);
	return NULL;
}

/* ---- starting threads ---- */

/* Counts one more thread and gives its place, or NULL when there are enough. `join` tells whether one has ended there.
 */
static struct job_thread *job_thread_reserve_locked(struct job_queue *q, bool *join)
{
	struct job_thread *t = q->threads;

	lock_assert_held(&q->lock);
	if (q->n_waiting <= q->n_idle || q->n_alive >= q->max_threads)
		return NULL;
	while (t->state == JOB_THREAD_ALIVE) {
		t++;
		ASSERT(t < q->threads + JOB_THREADS_MAX);
	}
	*join = t->state == JOB_THREAD_ENDED;
	t->state = JOB_THREAD_ALIVE;
	q->n_alive++;
	q->refs++;
	return t;
}

/* Starts the thread of a place. Signals are for the control thread, so none may come here. */
static int job_thread_start(struct job_queue *q, struct job_thread *t, bool join)
{
	sigset_t all, before;
	int err;

	if (join)
		pthread_join(t->id, NULL);
	t->queue = q;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&t->id, NULL, job_thread_main, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err == 0) {
		pthread_setname_np(t->id, q->name);
		return 0;
	}
	log_error("could not start a thread for %s: %s", q->name, strerror(err));
	return -E_SYS;
}

/* ---- the asker's side ---- */

static void job_unqueue_locked(struct job_queue *q, struct job *job)
{
	lock_assert_held(&q->lock);
	TAILQ_REMOVE(&q->waiting, job, entry);
	q->n_waiting--;
	job_leave_locked(q, job);
	job->state = JOB_NEW;
}

/*
 * Undoes the reservation. Where no thread is left, the job is taken out again (-E_SYS), and those that other loops have
 * queued meanwhile, counting on this thread, go back as they are; 0 when others will do it.
 */
static int job_thread_failed(struct job_queue *q, struct job_thread *t, struct job *job)
{
	struct job_list lost = TAILQ_HEAD_INITIALIZER(lost);
	struct job *other;
	bool is_lost;

	lock_acquire(&q->lock);
	t->state = JOB_THREAD_NONE;
	q->n_alive--;
	q->refs--;
	is_lost = q->n_alive == 0 && job->state == JOB_WAITING;
	if (is_lost)
		job_unqueue_locked(q, job);
	while (q->n_alive == 0 && !TAILQ_EMPTY(&q->waiting)) {
		other = job_begin_locked(q);
		TAILQ_INSERT_TAIL(&lost, other, entry);
	}
	lock_release(&q->lock);
	while ((other = TAILQ_FIRST(&lost)) != NULL) {
		TAILQ_REMOVE(&lost, other, entry);
		job_answer(q, other);
	}
	return is_lost ? -E_SYS : 0;
}

int job_submit(struct job_queue *q, struct job *job)
{
	struct job_thread *fresh = NULL;
	bool join = false;
	int err = 0;

	ASSERT(job->state == JOB_NEW && job->loop != NULL);
	job->queue = q;
	job->msg.fn = job_on_answer;
	lock_acquire(&q->lock);
	if (q->is_closed) {
		err = -E_CLOSED;
	} else if (q->n_waiting + q->n_running >= q->max_threads + q->max_waiting) {
		err = -E_NOSPACE;
	} else if (!job_has_room_locked(q, job)) {
		err = -E_RANGE;
	} else {
		TAILQ_INSERT_TAIL(&q->waiting, job, entry);
		q->n_waiting++;
		job_enter_locked(q, job);
		job->state = JOB_WAITING;
		fresh = job_thread_reserve_locked(q, &join);
	}
	lock_release(&q->lock);
	if (err != 0)
		return err;
	pthread_cond_signal(&q->has_work);
	if (fresh != NULL && job_thread_start(q, fresh, join) != 0)
		return job_thread_failed(q, fresh, job);
	return 0;
}

void job_cancel(struct job **jobp)
{
	struct job *job = *jobp;
	bool was_waiting;

	*jobp = NULL;
	if (job == NULL)
		return;
	lock_acquire(&job->queue->lock);
	was_waiting = job->state == JOB_WAITING;
	if (was_waiting)
		job_unqueue_locked(job->queue, job);
	lock_release(&job->queue->lock);
	if (was_waiting)
		job->ops->free(job);
	else
		job->is_cancelled = true;
}

/* ---- the end ---- */

/* Closes the queue and frees the jobs that nobody has begun. */
static void job_queue_close(struct job_queue *q)
{
	struct job_list left = TAILQ_HEAD_INITIALIZER(left);
	struct job *job;

	lock_acquire(&q->lock);
	q->is_closed = true;
	TAILQ_CONCAT(&left, &q->waiting, entry);
	q->n_waiting = 0;
	lock_release(&q->lock);
	pthread_cond_broadcast(&q->has_work);
	while ((job = TAILQ_FIRST(&left)) != NULL) {
		TAILQ_REMOVE(&left, job, entry);
		job->ops->free(job);
	}
}

/* Waits for the threads; returns how many are left alone. */
static unsigned job_queue_wait(struct job_queue *q, uint64_t patience_us)
{
	uint64_t until_us = clock_mono_us() + patience_us;
	struct timespec until = {
		.tv_sec = (time_t)(until_us / USEC_PER_SEC),
		.tv_nsec = (long)(until_us % USEC_PER_SEC) * 1000,
	};
	unsigned left;
	int err = 0;

	lock_acquire(&q->lock);
	while (q->n_alive > 0 && err == 0)
		err = pthread_cond_timedwait(&q->has_ended, &q->lock.mutex, &until);
	left = q->n_alive;
	q->is_abandoned = left > 0;
	while (q->n_posting > 0)
		pthread_cond_wait(&q->has_ended, &q->lock.mutex);
	lock_release(&q->lock);
	return left;
}

bool job_queue_free(struct job_queue **qp, uint64_t patience_us)
{
	struct job_queue *q = *qp;
	enum job_thread_state state;
	unsigned left;

	*qp = NULL;
	if (q == NULL)
		return true;
	job_queue_close(q);
	left = job_queue_wait(q, patience_us);
	for (unsigned i = 0; i < JOB_THREADS_MAX; i++) {
		lock_acquire(&q->lock);
		state = q->threads[i].state;
		lock_release(&q->lock);
		if (state == JOB_THREAD_ENDED)
			pthread_join(q->threads[i].id, NULL);
		else if (state == JOB_THREAD_ALIVE)
			pthread_detach(q->threads[i].id);
	}
	if (left > 0)
		log_warning("%s: %u calls into a library have not returned; leaving them", q->name, left);
	job_queue_release(q);
	return left == 0;
}
