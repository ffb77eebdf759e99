/*
 * Signals, and the end.
 *
 *     HUP   reload                    INT   end when all servers are released
 *     USR1  pause                     TERM  end when all clients are gone
 *     USR2  resume                    QUIT  end now
 *
 * A second INT or TERM, in any order, ends the process at once, and so does the
 * first one while everything is suspended, with status 1. libevent turns signals
 * into callbacks of the control loop, so nothing here runs in a signal handler.
 *
 * A shutdown that waits is watched by a timer that runs only then: it looks
 * whether the sockets it waits for are gone.
 */
#include "control.h"

#include <signal.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/systemd.h"
#include "reload.h"

/* How often a shutdown that waits looks whether it may end. */
#define CONTROL_WATCH_US 50000

/* signal, handler */
#define CONTROL_SIGNALS(X)       \
	X(SIGHUP, control_hup)   \
	X(SIGINT, control_int)   \
	X(SIGTERM, control_term) \
	X(SIGQUIT, control_quit) \
	X(SIGUSR1, control_usr1) \
	X(SIGUSR2, control_usr2)

enum {
#define X(number, handler) CONTROL_INDEX_##number,
	CONTROL_SIGNALS(X)
#undef X
		CONTROL_SIGNAL_COUNT
};

struct control {
	struct engine *engine;
	struct event *signals[CONTROL_SIGNAL_COUNT];
	struct event *watch;
	int status; /* of the process, when it ends */
};

static bool control_is_stopping(const struct control *c)
{
	return atomic_load(&c->engine->shutdown) != SHUTDOWN_NONE;
}

struct engine *control_engine(const struct control *c)
{
	return c->engine;
}

int control_status(const struct control *c)
{
	return c->status;
}

void control_shutdown(struct control *c, enum engine_shutdown how)
{
	const struct timeval period = { .tv_usec = CONTROL_WATCH_US };

	engine_shutdown(c->engine, how);
	if (how != SHUTDOWN_NOW && event_add(c->watch, &period) != 0)
		log_fatal("could not set up the control timer");
}

static void control_watch(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct control *c = arg;

	if (!engine_is_drained(c->engine))
		return;
	log_info("%s connections dropped, exiting",
		 atomic_load(&c->engine->shutdown) == SHUTDOWN_WAIT_FOR_SERVERS ? "server" : "client");
	engine_shutdown(c->engine, SHUTDOWN_NOW);
}

static void control_hup(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct control *c = arg;
	struct conf_diff *diff = NULL;
	const char *before = log_set_action("reload");
	struct conf_error err;

	conf_error_init(&err);
	systemd_notify("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_mono_us());
	reload_reopen_log(c->engine);
	log_info("got SIGHUP, re-reading config");
	if (reload_run(c->engine, &diff, &err) != 0)
		log_warning("the configuration in force was kept");
	conf_diff_free(&diff);
	conf_error_fini(&err);
	log_set_action(before);
	systemd_notify("READY=1");
}

/* INT and TERM: the first waits, the next one does not. */
static void control_stop(struct control *c, const char *name, const char *text, enum engine_shutdown how)
{
	if (control_is_stopping(c)) {
		log_info("got %s while shutting down, fast exit", name);
		engine_shutdown(c->engine, SHUTDOWN_NOW);
		return;
	}
	systemd_notify("STOPPING=1");
	log_info("got %s, shutting down, %s", name, text);
	if (atomic_load(&c->engine->mode) == ENGINE_SUSPENDED) {
		/* Nobody is read, so nobody would ever be done. */
		log_write(LOG_LVL_FATAL, "everything is suspended, going down at once");
		c->status = 1;
		how = SHUTDOWN_NOW;
	}
	control_shutdown(c, how);
}

static void control_int(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	control_stop(arg, "SIGINT", "waiting for all servers connections to be released", SHUTDOWN_WAIT_FOR_SERVERS);
}

static void control_term(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	control_stop(arg, "SIGTERM", "waiting for all clients disconnect", SHUTDOWN_WAIT_FOR_CLIENTS);
}

static void control_quit(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct control *c = arg;

	log_info("got SIGQUIT, fast exit");
	engine_shutdown(c->engine, SHUTDOWN_NOW);
}

static void control_usr1(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct control *c = arg;

	if (atomic_load(&c->engine->mode) != ENGINE_ACTIVE) {
		log_info("got SIGUSR1, but already paused/suspended");
		return;
	}
	log_info("got SIGUSR1, pausing all activity");
	engine_set_mode(c->engine, ENGINE_PAUSED);
}

static void control_usr2(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct control *c = arg;

	if (control_is_stopping(c)) {
		log_info("got SIGUSR2 while shutting down, ignoring");
		return;
	}
	switch (atomic_load(&c->engine->mode)) {
	case ENGINE_ACTIVE:
		log_info("got SIGUSR2, but not paused/suspended");
		return;
	case ENGINE_PAUSED:
		log_info("got SIGUSR2, continuing from PAUSE");
		break;
	case ENGINE_SUSPENDED:
		log_info("got SIGUSR2, continuing from SUSPEND");
		break;
	}
	engine_set_mode(c->engine, ENGINE_ACTIVE);
}

/*
 * libevent puts back what was there before when an event is removed: so a
 * signal that comes while everything is being freed is ignored, and the exit
 * status stays 0.
 */
static struct event *control_add_signal(struct control *c, int number, event_callback_fn fn)
{
	struct event *ev = evsignal_new(loop_base(c->engine->control), number, fn, c);

	signal(number, SIG_IGN);
	if (ev == NULL || event_add(ev, NULL) != 0)
		log_fatal("could not set up signal %d", number);
	return ev;
}

struct control *control_new(struct engine *engine)
{
	struct control *c = xcalloc(1, sizeof(*c));

	c->engine = engine;
#define X(number, handler) c->signals[CONTROL_INDEX_##number] = control_add_signal(c, number, handler);
	CONTROL_SIGNALS(X)
#undef X
	c->watch = event_new(loop_base(engine->control), -1, EV_PERSIST, control_watch, c);
	if (c->watch == NULL)
		log_fatal("could not set up the control timer");
	return c;
}

void control_free(struct control **control)
{
	struct control *c = *control;

	*control = NULL;
	if (c == NULL)
		return;
	for (size_t i = 0; i < ARRAY_LEN(c->signals); i++)
		event_free(c->signals[i]);
	event_free(c->watch);
	free(c);
}
