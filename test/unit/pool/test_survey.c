/* Surveys: every loop is asked, in slices, and the answer comes once, also when the engine ends in between. */
#include "pool/survey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/log.h"

#define LOOPS_MAX 8

struct probe {
	uint32_t slices; /* per loop; UINT32_MAX: without end */
	atomic_uint seen[LOOPS_MAX];
	atomic_uint workers;
	atomic_uint done;
};

static struct engine *engine;

/* Nobody comes in here. */
static const struct engine_ops no_ops = { NULL, NULL };

static int read_conf(void *ctx UNUSED, const char *path UNUSED, char **text, size_t *len)
{
	*text = xstrdup("[pgbouncer]\nunix_socket_dir =\nthreads = 3\nlogin_threads = 2\nauth_type = trust\n");
	*len = strlen(*text);
	return 0;
}

static int setup(void **state UNUSED)
{
	const struct log_setup quiet = { .quiet = true };
	struct conf_error err;
	struct conf *conf;

	log_configure(&quiet);
	conf_error_init(&err);
	if (conf_load_from(read_conf, NULL, "test.ini", &conf, &err) != 0)
		return -1;
	conf_error_fini(&err);
	engine = engine_new(snapshot_new(conf, users_new_empty()), &no_ops);
	engine_start(engine);
	loop_start_thread(engine->control);
	return 0;
}

static int teardown(void **state UNUSED)
{
	loop_stop(engine->control);
	loop_join(engine->control);
	engine_free(&engine);
	return 0;
}

static bool probe_slice(struct loop_ctx *ctx, struct worker *worker, unsigned index, uint64_t *at, void *arg)
{
	struct probe *p = arg;

	assert_true(loop_current() == ctx->loop);
	assert_true(worker == worker_current());
	assert_true(atomic_fetch_add(&p->seen[index], 1) == *at);
	atomic_fetch_add(&p->workers, worker != NULL && *at == 0);
	return ++*at < p->slices;
}

static void probe_done(void *arg)
{
	struct probe *p = arg;

	atomic_fetch_add(&p->done, 1);
}

/* Surveys are started on the control loop. */
struct start_msg {
	struct loop_msg msg;
	struct probe *probe;
};

static void on_start(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct start_msg *msg = CONTAINER_OF(base, struct start_msg, msg);

	survey_start(engine, probe_slice, probe_done, msg->probe);
	free(msg);
}

static void start(struct probe *p)
{
	struct start_msg *msg = xcalloc(1, sizeof(*msg));

	msg->msg.fn = on_start;
	msg->probe = p;
	loop_post(engine->control, &msg->msg);
}

/* The time is only an end for a test that fails. */
static void wait_for(atomic_uint *n, unsigned wanted)
{
	for (int i = 0; i < 20000 && atomic_load(n) < wanted; i++)
		usleep(1000);
	assert_true(atomic_load(n) >= wanted);
}

static void test_one_slice(void **state UNUSED)
{
	struct probe p = { .slices = 1 };

	assert_int_equal(engine_loop_count(engine), 5);
	start(&p);
	wait_for(&p.done, 1);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(atomic_load(&p.seen[i]), 1);
	assert_int_equal(atomic_load(&p.workers), 3);
}

static void test_many_slices(void **state UNUSED)
{
	struct probe p = { .slices = 20 };
	struct probe q = { .slices = 7 };

	start(&p);
	start(&q);
	wait_for(&p.done, 1);
	wait_for(&q.done, 1);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(atomic_load(&p.seen[i]), 20);
		assert_int_equal(atomic_load(&q.seen[i]), 7);
	}
}

/* Nothing is left over, and `done` has run, when the engine ends in the middle. */
static void test_end_of_the_engine(void **state)
{
	struct probe p = { .slices = UINT32_MAX };

	start(&p);
	wait_for(&p.seen[0], 3);
	teardown(state);
	assert_int_equal(atomic_load(&p.done), 1);
	assert_int_equal(setup(state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_slice),
		cmocka_unit_test(test_many_slices),
		cmocka_unit_test(test_end_of_the_engine),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
