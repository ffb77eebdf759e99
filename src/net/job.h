/*
 * Helper threads for functions that block: a library that asks an LDAP server,
 * a PAM module, the resolver of libc. A queue belongs to one kind of work, so
 * that what hangs there holds up nothing else, and it is bounded: a job that
 * finds it full is refused at once. No loop ever waits here.
 */
#ifndef PGSLUICE_NET_JOB_H
#define PGSLUICE_NET_JOB_H

#include "core/base.h"
#include "core/err.h"
#include "net/loop.h"

struct job;
struct job_queue;

/* No queue has more threads. */
#define JOB_THREADS_MAX 64

struct job_ops {
	/* Does it. Called on a helper thread; may block; sees nothing but the job. */
	void (*work)(struct job *job);
	/*
	 * The work is done. Called on the asker's loop, unless the job was cancelled. When no thread could be started
	 * for a job that waited, work() was not called: what the asker has put into the job must say that it failed.
	 */
	void (*done)(struct job *job);
	/* Frees the job with all it has, secrets wiped. Called last, on any thread. */
	void (*free)(struct job *job);
};

enum job_state { JOB_NEW, JOB_WAITING, JOB_RUNNING };

/*
 * A piece of work; embedded as a member of what it needs. The asker fills in
 * ops and loop, the rest is zero. Once submitted it belongs to the queue, which
 * frees it: the asker may keep the pointer for job_cancel() until done() has
 * been called, and touches nothing else.
 */
struct job {
	const struct job_ops *ops;
	struct loop *loop; /* of the asker; done() is called there */

	/* Who caused the job: no source may take all places; without has_source it is not counted. */
	bool has_source;
	uint64_t source;

	struct loop_msg msg;     /* private */
	TAILQ_ENTRY(job) entry;  /* private */
	struct job_queue *queue; /* private */
	enum job_state state;    /* private */
	bool is_cancelled;       /* private; the asker's thread */
};

/*
 * A queue without threads: they are started when there is work. `name` (up to
 * 11 bytes) stands in the names of its threads and in its log lines; it is
 * copied.
 */
struct job_queue *job_queue_new(const char *name) MUSTCHECK;

/*
 * How many threads work (1 to JOB_THREADS_MAX) and how many jobs may wait for
 * them. May be called again: threads that are too many end when their work is
 * done. Any thread.
 */
void job_queue_tune(struct job_queue *queue, unsigned threads, unsigned max_waiting);

/*
 * Hands a job to the helper threads; called by the thread of job->loop. 0, or
 * -E_NOSPACE when the threads are busy and the queue is full, -E_RANGE when half
 * of the jobs that there may be are of this source, -E_SYS when no thread could
 * be started, -E_CLOSED after job_queue_free() has begun; after an error the job
 * is still the caller's.
 */
int job_submit(struct job_queue *queue, struct job *job) MUSTCHECK;

/*
 * The asker has lost interest: done() will not be called. One that waits is
 * freed here and makes room, one that runs is freed when it comes back. Nulls
 * the pointer; NULL inside is fine. Called by the thread of the job's loop.
 */
void job_cancel(struct job **job);

/*
 * Ends the threads and frees the queue. Called when the loops have stopped,
 * none has been freed, and no asker will touch its job any more. Jobs that wait
 * are freed; what runs has `patience_us` to end. True when all threads have
 * ended; otherwise the others stay where they are, keep what they need, and
 * the process should leave by _exit(), since libraries do not bear being torn
 * down under a thread that uses them.
 */
bool job_queue_free(struct job_queue **queue, uint64_t patience_us);

#endif
