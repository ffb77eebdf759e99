/*
 * A loop is one thread with one event_base, one mailbox and one cached clock.
 * Everything a loop owns is touched by its own thread only; other threads
 * reach it by posting a message.
 */
#ifndef PGSLUICE_NET_LOOP_H
#define PGSLUICE_NET_LOOP_H

#include <event2/event.h>
#include <sys/queue.h>

#include "core/base.h"

struct loop;

/*
 * A message to a loop. It is embedded as a member of what it carries; posting
 * hands the whole over to the target, whose `fn` frees or keeps it.
 */
struct loop_msg {
	STAILQ_ENTRY(loop_msg) next;
	void (*fn)(struct loop *loop, struct loop_msg *msg);
};

/*
 * Work put off to the end of the current turn, so that callbacks do not
 * recurse. Embedded like a message; queued at most once at a time.
 */
struct loop_task {
	TAILQ_ENTRY(loop_task) next;
	void (*fn)(struct loop *loop, struct loop_task *task);
	bool queued;
};

/* Called every `period_us` by the loop's thread. */
typedef void (*loop_tick_fn)(struct loop *loop, void *arg);

/* A loop that is not running yet. `name` is copied; `owner` is for loop_owner(). */
struct loop *loop_new(const char *name, void *owner);

/* Frees a loop that does not run any more; messages left in its mailbox are leaked to nobody: they run first. */
void loop_free(struct loop **loop);

/* Runs in the calling thread until loop_stop(). */
void loop_run(struct loop *loop);

/*
 * One turn in the calling thread, without waiting for anything: for tests that
 * run several loops in an order of their own. Not for a loop with a thread.
 */
void loop_step(struct loop *loop);

/* How much its thread yields to others, before it is started: 0, as the process does, to 19, to everybody. */
void loop_set_nice(struct loop *loop, int nice);

/* Starts a thread that runs the loop. */
void loop_start_thread(struct loop *loop);

/* Waits for the thread of loop_start_thread() to end. */
void loop_join(struct loop *loop);

/* Runs, in the calling thread, the messages and tasks of a loop whose thread has ended. */
void loop_run_left(struct loop *loop);

/* Makes loop_run() return after the current turn. Any thread. */
void loop_stop(struct loop *loop);

/*
 * Sends a message. Any thread. The target is woken only when its mailbox was
 * empty. Messages from one sender arrive in order.
 */
void loop_post(struct loop *target, struct loop_msg *msg);

/* Queues a task for the end of this turn; a task already queued stays where it is. Own thread. */
void loop_defer(struct loop *loop, struct loop_task *task);

/* Takes a task out of the queue if it is there. Own thread. */
void loop_cancel(struct loop *loop, struct loop_task *task);

/* Sets the periodic tick of the loop as such; period 0 switches it off. May be called again to change it. Own thread or
 * before the start. */
void loop_set_tick(struct loop *loop, uint64_t period_us, loop_tick_fn fn, void *arg);

/*
 * Calls a function once, when its time has come. A member of what it is about;
 * any number of them in a loop. Own thread, or before the loop runs.
 */
struct loop_alarm {
	struct event *event;
	struct loop *loop;
	uint64_t due_us; /* 0: not set */
	loop_tick_fn fn;
	void *arg;
};

void loop_alarm_init(struct loop_alarm *alarm, struct loop *loop, loop_tick_fn fn, void *arg);

/* Before the loop is freed. */
void loop_alarm_fini(struct loop_alarm *alarm);

/* In delay_us, or a little later; one that is set already and comes sooner stays. */
void loop_alarm_set(struct loop_alarm *alarm, uint64_t delay_us);

/* The same, whether or not it comes sooner. */
void loop_alarm_move(struct loop_alarm *alarm, uint64_t delay_us);

/* It is not set any more. */
void loop_alarm_cancel(struct loop_alarm *alarm);

/*
 * Calls a function again and again. A member of what it is about; any number of
 * them in a loop. Own thread, or before the loop runs.
 */
struct loop_ticker {
	struct event *event;
	struct loop *loop;
	loop_tick_fn fn;
	void *arg;
	bool is_running;
};

void loop_ticker_init(struct loop_ticker *ticker, struct loop *loop, loop_tick_fn fn, void *arg);

/* Before the loop is freed. */
void loop_ticker_fini(struct loop_ticker *ticker);

/* Each period_us from now on; one that runs begins anew. */
void loop_ticker_start(struct loop_ticker *ticker, uint64_t period_us);

void loop_ticker_stop(struct loop_ticker *ticker);

/* Monotonic microseconds, read at most once a turn. Own thread. */
uint64_t loop_now_us(struct loop *loop);

/* How long turns of a loop took. */
struct loop_load {
	uint64_t longest_us; /* since the start */
	uint64_t recent_us;  /* since the last call */
};

/* Any thread. */
void loop_load(struct loop *loop, struct loop_load *load);

/* What it was made of; constant. */
struct event_base *loop_base(struct loop *loop);
void *loop_owner(const struct loop *loop);
const char *loop_name(const struct loop *loop);

/* The loop that this thread runs, or NULL. */
struct loop *loop_current(void);

/*
 * The loop's scratch buffer: what a readable connection is read into. Its
 * content is valid only until the callback that filled it returns.
 */
#define LOOP_SCRATCH_SIZE (64 * 1024)
uint8_t *loop_scratch(struct loop *loop);

#endif
