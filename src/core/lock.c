#include "core/lock.h"

#ifdef ENABLE_DEBUG
/* The locks this thread holds, innermost last. */
#define HELD_MAX 8
static _Thread_local const struct lock *held[HELD_MAX];
static _Thread_local int held_count;

static void note_acquire(const struct lock *l)
{
	if (held_count > 0)
		ASSERT(held[held_count - 1]->rank < l->rank);
	ASSERT(held_count < HELD_MAX);
	held[held_count++] = l;
}

static void note_release(const struct lock *l)
{
	ASSERT(held_count > 0 && held[held_count - 1] == l);
	held_count--;
}
#else
static inline void note_acquire(const struct lock *l UNUSED)
{
}
static inline void note_release(const struct lock *l UNUSED)
{
}
#endif

void lock_init(struct lock *l, enum lock_rank rank)
{
	int err = pthread_mutex_init(&l->mutex, NULL);

	ASSERT(err == 0);
	l->rank = rank;
}

void lock_fini(struct lock *l)
{
	int err = pthread_mutex_destroy(&l->mutex);

	ASSERT(err == 0);
}

void lock_acquire(struct lock *l)
{
	int err;

	note_acquire(l);
	err = pthread_mutex_lock(&l->mutex);
	ASSERT(err == 0);
}

void lock_release(struct lock *l)
{
	int err;

	note_release(l);
	err = pthread_mutex_unlock(&l->mutex);
	ASSERT(err == 0);
}

void lock_assert_held(const struct lock *l UNUSED)
{
#ifdef ENABLE_DEBUG
	for (int i = 0; i < held_count; i++)
		if (held[i] == l)
			return;
	UNREACHABLE();
#endif
}
