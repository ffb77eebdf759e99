/*
 * Loops.
 *
 * A turn: libevent waits and runs the callbacks of what is ready, then the
 * tasks run that the callbacks have put off. Tasks may queue tasks; the queue
 * is worked off with a budget, and while something is left the next wait does
 * not block.
 *
 * The mailbox is a list under a lock, plus an eventfd. A sender writes to the
 * eventfd only when it finds the list empty; the loop takes the whole list at
 * once. So a burst of messages costs one wake-up, and a message that a loop
 * sends to itself costs none: it is taken before the loop waits again. What was
 * taken is worked off with a budget, too: a thousand messages are no reason to
 * leave the sockets alone.
 *
 * How long the others have to wait for a loop is how long its turns are, from
 * the first callback that asks for the time to the last task. The longest is
 * kept (loop_load), which costs a second look at the clock in each turn.
 *
 * The base is made without locks (EVENT_BASE_FLAG_NOLOCK): no other thread
 * ever calls libevent for this base.
 */
#include "net/loop.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/log.h"
#include "core/str.h"

STAILQ_HEAD(msg_list, loop_msg);
TAILQ_HEAD(task_list, loop_task);

/* Tasks run in one turn before the sockets get their chance again. */
#define TASK_BUDGET    1024
/* Messages worked off in one turn, likewise. */
#define MAILBOX_BUDGET 64

struct loop {
	/* written by the own thread only */
	struct event_base *base;
	struct event *wake_event;
	struct loop_ticker tick; /* its event is NULL while there is none */
	struct task_list tasks;
	uint64_t now_us;       /* 0: not read in this turn yet */
	bool has_own;          /* the mailbox may have messages for which nobody was woken */
	struct msg_list batch; /* taken out of the mailbox, not worked off yet */
	int mail_left;         /* messages that may still be worked off in this turn */
	uint8_t *scratch;
	void *owner;
	pthread_t thread;
	bool has_thread;
	int nice; /* of the thread, added to that of the process */
	char name[24];

	/* written by the own thread, but for the reset to 0; read by any */
	_Atomic uint64_t longest_us;
	_Atomic uint64_t recent_us;

	/* shared */
	_Atomic bool stopping;
	int wake_fd CACHE_ALIGNED;
	struct lock lock;      /* protects inbox */
	struct msg_list inbox; /* messages not taken yet */
};

static _Thread_local struct loop *current_loop;

/* Works off some messages: those that were taken before, else those that are in the mailbox now. */
static void loop_drain_mailbox(struct loop *loop)
{
	bool was_taken = !STAILQ_EMPTY(&loop->batch);
	struct loop_msg *msg;

	if (!was_taken) {
		lock_acquire(&loop->lock);
		STAILQ_CONCAT(&loop->batch, &loop->inbox);
		lock_release(&loop->lock);
	}
	for (; loop->mail_left > 0 && (msg = STAILQ_FIRST(&loop->batch)) != NULL; loop->mail_left--) {
		STAILQ_REMOVE_HEAD(&loop->batch, next);
		msg->fn(loop, msg);
	}
	/* Whoever has posted meanwhile may have woken us for what we did not take. */
	if (was_taken || !STAILQ_EMPTY(&loop->batch))
		loop->has_own = true;
}

/* Works off all that is there, and what follows from it. */
static void loop_empty_mailbox(struct loop *loop)
{
	do {
		loop->has_own = false;
		loop->mail_left = MAILBOX_BUDGET;
		loop_drain_mailbox(loop);
	} while (loop->has_own);
}

static void loop_wake_cb(evutil_socket_t fd, short what UNUSED, void *arg)
{
	uint64_t count;
	ssize_t n UNUSED = read(fd, &count, sizeof(count));

	loop_now_us(arg);
	loop_drain_mailbox(arg);
}

struct loop *loop_new(const char *name, void *owner)
{
	struct loop *loop = xcalloc_aligned(sizeof(*loop));
	struct event_config *config = event_config_new();

	ASSERT(config != NULL);
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	loop->base = event_base_new_with_config(config);
	event_config_free(config);
	if (loop->base == NULL)
		log_fatal("could not create an event base: %s", strerror(errno));
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		log_fatal("could not create an eventfd: %s", strerror(errno));
	lock_init(&loop->lock, LOCK_RANK_MSGQ);
	STAILQ_INIT(&loop->inbox);
	STAILQ_INIT(&loop->batch);
	TAILQ_INIT(&loop->tasks);
	loop->owner = owner;
	loop->scratch = xmalloc(LOOP_SCRATCH_SIZE);
	str_copy(loop->name, sizeof(loop->name), name);
	loop->wake_event = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, loop_wake_cb, loop);
	ASSERT(loop->wake_event != NULL);
	event_add(loop->wake_event, NULL);
	return loop;
}

void loop_free(struct loop **loopp)
{
	struct loop *loop = *loopp;

	*loopp = NULL;
	if (loop == NULL)
		return;
	ASSERT(!loop->has_thread);
	loop_empty_mailbox(loop);
	if (loop->tick.event != NULL)
		loop_ticker_fini(&loop->tick);
	event_free(loop->wake_event);
	event_base_free(loop->base);
	close(loop->wake_fd);
	lock_fini(&loop->lock);
	free(loop->scratch);
	free(loop);
}

/* Returns true when tasks are left over. */
static bool loop_run_tasks(struct loop *loop)
{
	struct loop_task *task;

	for (int budget = TASK_BUDGET; budget > 0; budget--) {
		task = TAILQ_FIRST(&loop->tasks);
		if (task == NULL)
			return false;
		TAILQ_REMOVE(&loop->tasks, task, next);
		task->queued = false;
		task->fn(loop, task);
	}
	return !TAILQ_EMPTY(&loop->tasks);
}

static void loop_note_longest(_Atomic uint64_t *longest_us, uint64_t us)
{
	if (UNLIKELY(us > atomic_load_explicit(longest_us, memory_order_relaxed)))
		atomic_store_explicit(longest_us, us, memory_order_relaxed);
}

/* Notes how long the turn was that ends now. */
static void loop_measure(struct loop *loop)
{
	uint64_t us;

	if (loop->now_us == 0)
		return; /* nobody has asked for the time */
	us = clock_mono_us() - loop->now_us;
	loop_note_longest(&loop->longest_us, us);
	loop_note_longest(&loop->recent_us, us);
}

/* One turn. Returns true when something is left that must not wait for the sockets. */
static bool loop_turn(struct loop *loop, int flags)
{
	bool more;

	loop->now_us = 0;
	loop->mail_left = MAILBOX_BUDGET;
	event_base_loop(loop->base, flags);
	more = loop_run_tasks(loop);
	if (loop->has_own) {
		loop->has_own = false;
		loop_drain_mailbox(loop);
		more = loop_run_tasks(loop) || loop->has_own;
	}
	loop_measure(loop);
	return more;
}

void loop_run(struct loop *loop)
{
	bool more = false;

	current_loop = loop;
	log_set_thread(loop->name);
	while (!atomic_load_explicit(&loop->stopping, memory_order_relaxed))
		more = loop_turn(loop, more ? EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE);
	current_loop = NULL;
	log_set_thread("main");
}

void loop_step(struct loop *loop)
{
	ASSERT(!loop->has_thread && current_loop == NULL);
	current_loop = loop;
	loop_turn(loop, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	current_loop = NULL;
}

/* Linux keeps a priority per thread, and means the calling one here; see setpriority(2). */
static void loop_apply_nice(const struct loop *loop)
{
	int before;

	if (loop->nice == 0)
		return;
	before = getpriority(PRIO_PROCESS, 0);
	if (setpriority(PRIO_PROCESS, 0, before + loop->nice) != 0)
		log_warning("could not lower the priority of thread %s: %s", loop->name, strerror(errno));
}

static void *loop_thread(void *arg)
{
	struct loop *loop = arg;

	pthread_setname_np(pthread_self(), loop->name);
	loop_apply_nice(loop);
	loop_run(loop);
	return NULL;
}

void loop_set_nice(struct loop *loop, int nice)
{
	ASSERT(!loop->has_thread);
	loop->nice = nice;
}

void loop_start_thread(struct loop *loop)
{
	int err = pthread_create(&loop->thread, NULL, loop_thread, loop);

	if (err != 0)
		log_fatal("could not create a thread: %s", strerror(err));
	loop->has_thread = true;
}

void loop_join(struct loop *loop)
{
	if (loop->has_thread)
		pthread_join(loop->thread, NULL);
	loop->has_thread = false;
}

void loop_run_left(struct loop *loop)
{
	struct loop *before = current_loop;

	ASSERT(!loop->has_thread);
	current_loop = loop;
	loop->now_us = 0;
	loop_empty_mailbox(loop);
	while (loop_run_tasks(loop))
		;
	current_loop = before;
}

static void loop_wake(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t n UNUSED = write(loop->wake_fd, &one, sizeof(one));
}

void loop_stop(struct loop *loop)
{
	atomic_store_explicit(&loop->stopping, true, memory_order_relaxed);
	loop_wake(loop);
}

void loop_post(struct loop *target, struct loop_msg *msg)
{
	bool was_empty;

	ASSERT(msg->fn != NULL);
	lock_acquire(&target->lock);
	was_empty = STAILQ_EMPTY(&target->inbox);
	STAILQ_INSERT_TAIL(&target->inbox, msg, next);
	lock_release(&target->lock);
	if (!was_empty)
		return;
	if (target == current_loop)
		target->has_own = true;
	else
		loop_wake(target);
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
	ASSERT(task->fn != NULL);
	if (task->queued)
		return;
	task->queued = true;
	TAILQ_INSERT_TAIL(&loop->tasks, task, next);
}

void loop_cancel(struct loop *loop, struct loop_task *task)
{
	if (!task->queued)
		return;
	task->queued = false;
	TAILQ_REMOVE(&loop->tasks, task, next);
}

/* ---- timers ---- */

static struct event *loop_new_timer(struct loop *loop, short flags, event_callback_fn fn, void *arg)
{
	struct event *event = event_new(loop->base, -1, flags, fn, arg);

	if (event == NULL)
		log_fatal("could not make a timer");
	return event;
}

static void loop_set_timer(struct event *event, uint64_t us)
{
	const struct timeval tv = {
		.tv_sec = (time_t)(us / USEC_PER_SEC),
		.tv_usec = (suseconds_t)(us % USEC_PER_SEC),
	};

	if (event_add(event, &tv) != 0)
		log_fatal("could not set a timer");
}

static void loop_ticker_cb(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct loop_ticker *ticker = arg;

	loop_now_us(ticker->loop);
	ticker->fn(ticker->loop, ticker->arg);
}

void loop_ticker_init(struct loop_ticker *ticker, struct loop *loop, loop_tick_fn fn, void *arg)
{
	*ticker = (struct loop_ticker){ .loop = loop, .fn = fn, .arg = arg };
	ticker->event = loop_new_timer(loop, EV_PERSIST, loop_ticker_cb, ticker);
}

void loop_ticker_fini(struct loop_ticker *ticker)
{
	event_free(ticker->event);
	ticker->event = NULL;
}

void loop_ticker_start(struct loop_ticker *ticker, uint64_t period_us)
{
	ASSERT(period_us > 0);
	ticker->is_running = true;
	loop_set_timer(ticker->event, period_us);
}

void loop_ticker_stop(struct loop_ticker *ticker)
{
	ticker->is_running = false;
	event_del(ticker->event);
}

void loop_set_tick(struct loop *loop, uint64_t period_us, loop_tick_fn fn, void *arg)
{
	if (loop->tick.event != NULL)
		loop_ticker_fini(&loop->tick);
	loop_ticker_init(&loop->tick, loop, fn, arg);
	if (period_us > 0)
		loop_ticker_start(&loop->tick, period_us);
}

static void loop_alarm_cb(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct loop_alarm *alarm = arg;

	loop_now_us(alarm->loop);
	alarm->due_us = 0;
	alarm->fn(alarm->loop, alarm->arg);
}

void loop_alarm_init(struct loop_alarm *alarm, struct loop *loop, loop_tick_fn fn, void *arg)
{
	*alarm = (struct loop_alarm){ .loop = loop, .fn = fn, .arg = arg };
	alarm->event = loop_new_timer(loop, 0, loop_alarm_cb, alarm);
}

void loop_alarm_fini(struct loop_alarm *alarm)
{
	event_free(alarm->event);
	alarm->event = NULL;
}

void loop_alarm_set(struct loop_alarm *alarm, uint64_t delay_us)
{
	if (alarm->due_us == 0 || alarm->due_us > loop_now_us(alarm->loop) + delay_us)
		loop_alarm_move(alarm, delay_us);
}

void loop_alarm_move(struct loop_alarm *alarm, uint64_t delay_us)
{
	alarm->due_us = loop_now_us(alarm->loop) + delay_us;
	loop_set_timer(alarm->event, delay_us);
}

void loop_alarm_cancel(struct loop_alarm *alarm)
{
	alarm->due_us = 0;
	event_del(alarm->event);
}

uint64_t loop_now_us(struct loop *loop)
{
	if (loop->now_us == 0)
		loop->now_us = clock_mono_us();
	return loop->now_us;
}

void loop_load(struct loop *loop, struct loop_load *load)
{
	load->longest_us = atomic_load_explicit(&loop->longest_us, memory_order_relaxed);
	load->recent_us = atomic_exchange_explicit(&loop->recent_us, 0, memory_order_relaxed);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

void *loop_owner(const struct loop *loop)
{
	return loop->owner;
}

const char *loop_name(const struct loop *loop)
{
	return loop->name;
}

struct loop *loop_current(void)
{
	return current_loop;
}

uint8_t *loop_scratch(struct loop *loop)
{
	return loop->scratch;
}
