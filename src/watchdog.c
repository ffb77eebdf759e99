/*
 * The watchdog.
 *
 * At each beat the control loop sends a question to every worker and every
 * login loop; a loop answers by taking the message out of its mailbox, which
 * it does between two turns. The last one to answer tells the control loop, and
 * only that message makes it send WATCHDOG=1: then all loops, the control loop
 * included, have turned since the beat.
 *
 *     control:   beat ---+---------------> told: WATCHDOG=1      beat ...
 *     loop 1:            +--> answer           ^
 *     loop 2:            +--------> answer ----+
 *
 * A round that is not over at the next beat goes on, and names the loops that
 * it waits for in the log; nothing is sent meanwhile. The objects of a round are
 * used again in the next, so a beat allocates nothing.
 */
#include "watchdog.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/systemd.h"

/* One loop, and the question on its way to it. */
struct watchdog_probe {
	struct loop_msg msg;
	struct watchdog *dog;
	struct loop *loop;
	atomic_bool answered;
};

struct watchdog {
	struct loop *control;
	struct loop_ticker beat;
	uint64_t asked_us; /* when this round began */
	bool is_asking;    /* a round is under way */
	atomic_uint left;  /* loops that have not answered in this round */
	struct loop_msg told;
	size_t count;
	struct watchdog_probe probes[];
};

static void watchdog_on_told(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct watchdog *dog = CONTAINER_OF(msg, struct watchdog, told);

	dog->is_asking = false;
	systemd_notify("WATCHDOG=1");
}

/* On the loop that was asked. */
static void watchdog_on_asked(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct watchdog_probe *probe = CONTAINER_OF(msg, struct watchdog_probe, msg);
	struct watchdog *dog = probe->dog;

	atomic_store(&probe->answered, true);
	if (atomic_fetch_sub(&dog->left, 1) == 1)
		loop_post(dog->control, &dog->told);
}

static void watchdog_ask(struct watchdog *dog)
{
	dog->is_asking = true;
	dog->asked_us = loop_now_us(dog->control);
	atomic_store(&dog->left, (unsigned)dog->count);
	for (size_t i = 0; i < dog->count; i++) {
		atomic_store(&dog->probes[i].answered, false);
		loop_post(dog->probes[i].loop, &dog->probes[i].msg);
	}
}

static void watchdog_on_beat(struct loop *loop UNUSED, void *arg)
{
	struct watchdog *dog = arg;
	uint64_t waited_us = loop_now_us(dog->control) - dog->asked_us;

	if (!dog->is_asking) {
		watchdog_ask(dog);
		return;
	}
	for (size_t i = 0; i < dog->count; i++)
		if (!atomic_load(&dog->probes[i].answered))
			log_error("watchdog: %s has not answered for %" PRIu64 " ms", loop_name(dog->probes[i].loop),
				  waited_us / 1000);
}

static void watchdog_add(struct watchdog *dog, struct loop *loop)
{
	struct watchdog_probe *probe = &dog->probes[dog->count++];

	probe->msg.fn = watchdog_on_asked;
	probe->dog = dog;
	probe->loop = loop;
}

struct watchdog *watchdog_new(struct engine *engine)
{
	uint64_t period_us = systemd_watchdog_us() / 2;
	struct watchdog *dog;

	if (period_us == 0)
		return NULL;
	dog = xcalloc(1, sizeof(*dog) + engine_loop_count(engine) * sizeof(dog->probes[0]));
	dog->control = engine->control;
	dog->told.fn = watchdog_on_told;
	for (unsigned i = 0; i < engine_loop_count(engine); i++)
		watchdog_add(dog, engine_loop_at(engine, i)->loop);
	loop_ticker_init(&dog->beat, engine->control, watchdog_on_beat, dog);
	loop_ticker_start(&dog->beat, period_us);
	return dog;
}

void watchdog_stop(struct watchdog *dog)
{
	if (dog != NULL)
		loop_ticker_fini(&dog->beat);
}

void watchdog_free(struct watchdog **watchdog)
{
	free(*watchdog);
	*watchdog = NULL;
}
