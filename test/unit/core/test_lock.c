#include "core/lock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct lock pool_lock;
static struct lock other_pool_lock;
static struct lock log_lock;

static int setup(void **state UNUSED)
{
	lock_init(&pool_lock, LOCK_RANK_POOL);
	lock_init(&other_pool_lock, LOCK_RANK_POOL);
	lock_init(&log_lock, LOCK_RANK_LOG);
	return 0;
}

static int teardown(void **state UNUSED)
{
	lock_fini(&pool_lock);
	lock_fini(&other_pool_lock);
	lock_fini(&log_lock);
	return 0;
}

static void test_rising_ranks(void **state UNUSED)
{
	for (int i = 0; i < 3; i++) {
		lock_acquire(&pool_lock);
		lock_assert_held(&pool_lock);
		lock_acquire(&log_lock);
		lock_assert_held(&pool_lock);
		lock_assert_held(&log_lock);
		lock_release(&log_lock);
		lock_release(&pool_lock);
	}
	lock_acquire(&log_lock);
	lock_release(&log_lock);
	lock_acquire(&pool_lock);
	lock_release(&pool_lock);
}

#define ROUNDS 20000
static unsigned counter; /* protected by pool_lock */

static void *count(void *arg UNUSED)
{
	for (int i = 0; i < ROUNDS; i++) {
		lock_acquire(&pool_lock);
		counter++;
		lock_release(&pool_lock);
	}
	return NULL;
}

static void test_excludes(void **state UNUSED)
{
	pthread_t threads[2];

	counter = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(counter, 2 * ROUNDS);
}

#ifdef ENABLE_DEBUG
static bool aborts(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = open("/dev/null", O_WRONLY);

		dup2(fd, STDERR_FILENO);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void fall(void)
{
	lock_acquire(&log_lock);
	lock_acquire(&pool_lock);
}

static void two_of_a_rank(void)
{
	lock_acquire(&pool_lock);
	lock_acquire(&other_pool_lock);
}

static void twice(void)
{
	lock_acquire(&pool_lock);
	lock_acquire(&pool_lock);
}

static void release_without(void)
{
	lock_release(&pool_lock);
}

static void release_in_wrong_order(void)
{
	lock_acquire(&pool_lock);
	lock_acquire(&log_lock);
	lock_release(&pool_lock);
}

static void not_held(void)
{
	lock_acquire(&pool_lock);
	lock_assert_held(&log_lock);
}

static void well_behaved(void)
{
	test_rising_ranks(NULL);
}

static void test_abuse_aborts(void **state UNUSED)
{
	assert_false(aborts(well_behaved));
	assert_true(aborts(fall));
	assert_true(aborts(two_of_a_rank));
	assert_true(aborts(twice));
	assert_true(aborts(release_without));
	assert_true(aborts(release_in_wrong_order));
	assert_true(aborts(not_held));
}
#else
static void test_abuse_aborts(void **state UNUSED)
{
	skip(); /* only --enable-debug looks */
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rising_ranks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_excludes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_abuse_aborts, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
