/*
 * A survey goes in rounds: each loop that has not finished looks at a slice,
 * and the last of them tells the control loop, which begins the next round
 * after a rest. So a loop serves its clients between two slices, and all the
 * loops together, however many they are, take a small part of the cores from
 * the servers on the same machine.
 */
#include "pool/survey.h"

#include "core/alloc.h"

/* Between two rounds. */
#define SURVEY_REST_US 1000

/* What one loop is asked. */
struct survey_part {
	struct loop_msg msg;
	struct survey *survey;
	struct loop_ctx *ctx;
	struct worker *worker;
	unsigned index;
	uint64_t at;
	bool is_over;
};

struct survey {
	TAILQ_ENTRY(survey) entry; /* in engine->surveys */
	struct engine *engine;
	survey_fn fn;
	engine_done_fn done;
	void *arg;
	struct loop_alarm alarm; /* the next round */
	struct loop_msg round_msg;
	atomic_uint left; /* parts that have not answered in this round */
	unsigned part_count;
	struct survey_part parts[];
};

static void survey_end(struct survey *s)
{
	TAILQ_REMOVE(&s->engine->surveys, s, entry);
	loop_alarm_fini(&s->alarm);
	s->done(s->arg);
	free(s);
}

static void survey_on_slice(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct survey_part *part = CONTAINER_OF(msg, struct survey_part, msg);
	struct survey *s = part->survey;

	part->is_over = !s->fn(part->ctx, part->worker, part->index, &part->at, s->arg);
	if (atomic_fetch_sub_explicit(&s->left, 1, memory_order_acq_rel) == 1)
		loop_post(s->engine->control, &s->round_msg);
}

static unsigned survey_count_open(const struct survey *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->part_count; i++)
		n += !s->parts[i].is_over;
	return n;
}

static void survey_begin_round(struct survey *s)
{
	unsigned open = survey_count_open(s);

	atomic_store(&s->left, open);
	/* A part belongs to its loop from the moment that it is posted: who is asked is decided before. */
	for (unsigned i = 0, posted = 0; posted < open; i++) {
		if (s->parts[i].is_over)
			continue;
		posted++;
		loop_post(s->parts[i].ctx->loop, &s->parts[i].msg);
	}
}

static void survey_on_alarm(struct loop *loop UNUSED, void *arg)
{
	survey_begin_round(arg);
}

/* All have answered: rests before the next round. */
static void survey_on_round(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct survey *s = CONTAINER_OF(msg, struct survey, round_msg);

	if (survey_count_open(s) == 0 || atomic_load(&s->engine->shutdown) == SHUTDOWN_NOW)
		survey_end(s);
	else
		loop_alarm_set(&s->alarm, SURVEY_REST_US);
}

static void survey_add_part(struct survey *s, struct loop_ctx *ctx, struct worker *worker)
{
	struct survey_part *part = &s->parts[s->part_count];

	part->msg.fn = survey_on_slice;
	part->survey = s;
	part->ctx = ctx;
	part->worker = worker;
	part->index = s->part_count++;
}

void survey_start(struct engine *engine, survey_fn fn, engine_done_fn done, void *arg)
{
	struct survey *s = xcalloc(1, sizeof(*s) + engine_loop_count(engine) * sizeof(s->parts[0]));

	s->engine = engine;
	s->fn = fn;
	s->done = done;
	s->arg = arg;
	s->round_msg.fn = survey_on_round;
	loop_alarm_init(&s->alarm, engine->control, survey_on_alarm, s);
	for (unsigned i = 0; i < engine->worker_count; i++)
		survey_add_part(s, &engine->workers[i]->ctx, engine->workers[i]);
	for (unsigned i = 0; i < engine->login_count; i++)
		survey_add_part(s, engine->logins[i], NULL);
	TAILQ_INSERT_TAIL(&engine->surveys, s, entry);
	survey_begin_round(s);
}

void survey_end_all(struct engine *engine)
{
	struct survey *s;
	struct survey *next;

	for (s = TAILQ_FIRST(&engine->surveys); s != NULL; s = next) {
		next = TAILQ_NEXT(s, entry);
		survey_end(s);
	}
}
