/*
 * Signals, and the end.
 *
 *     HUP   reload                    INT   end when all servers are released
 *     USR1  pause                     TERM  end when all clients are gone
 *     USR2  resume                    QUIT  end now
 *
 * A second INT or TERM, in any order, ends the process at once, and so does the
 * first one while everything is suspended, with status 1. The signals are blocked
 * in every thread, and the control loop reads them from a descriptor: so nothing
 * here runs in a signal handler, and none can come at a bad moment.
 *
 * A shutdown that waits is watched by a timer that runs only then: it looks
 * whether the sockets it waits for are gone.
 */
#include "control.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/systemd.h"
#include "pool/drain.h"
#include "reload.h"

/* How often a shutdown that waits looks whether it may end. */
#define CONTROL_WATCH_US 50000

struct control {
	struct engine *engine;
	int signal_fd;
	struct event *signals; /* something is there to be read from signal_fd */
	struct loop_ticker watch;
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
	engine_shutdown(c->engine, how);
	if (how != SHUTDOWN_NOW)
		loop_ticker_start(&c->watch, CONTROL_WATCH_US);
}

void control_drain(struct control *c, uint64_t timeout_us)
{
	struct snapshot *snap = engine_snapshot(c->engine);
	struct drain_order order = {
		.delay_us = snap->conf->drain_delay_us,
		.timeout_us = timeout_us,
		.ends_process = true,
	};

	snapshot_release(&snap);
	if (!control_is_stopping(c))
		systemd_notify("STOPPING=1");
	control_shutdown(c, SHUTDOWN_DRAIN);
	drain_begin(c->engine, &order);
}

static void control_watch(struct loop *loop UNUSED, void *arg)
{
	struct control *c = arg;

	if (!engine_is_drained(c->engine))
		return;
	log_info("%s connections dropped, exiting",
		 atomic_load(&c->engine->shutdown) == SHUTDOWN_WAIT_FOR_SERVERS ? "server" : "client");
	engine_shutdown(c->engine, SHUTDOWN_NOW);
}

static void control_hup(struct control *c)
{
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

static void control_int(struct control *c)
{
	control_stop(c, "SIGINT", "waiting for all servers connections to be released", SHUTDOWN_WAIT_FOR_SERVERS);
}

static void control_term(struct control *c)
{
	control_stop(c, "SIGTERM", "waiting for all clients disconnect", SHUTDOWN_WAIT_FOR_CLIENTS);
}

static void control_quit(struct control *c)
{
	log_info("got SIGQUIT, fast exit");
	engine_shutdown(c->engine, SHUTDOWN_NOW);
}

static void control_usr1(struct control *c)
{
	if (atomic_load(&c->engine->mode) != ENGINE_ACTIVE) {
		log_info("got SIGUSR1, but already paused/suspended");
		return;
	}
	log_info("got SIGUSR1, pausing all activity");
	engine_set_mode(c->engine, ENGINE_PAUSED);
}

static void control_usr2(struct control *c)
{
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
		if (atomic_load(&c->engine->handed_over)) {
			log_info("got SIGUSR2, but another process is taking over");
			return;
		}
		log_info("got SIGUSR2, continuing from SUSPEND");
		break;
	}
	engine_set_mode(c->engine, ENGINE_ACTIVE);
}

static const struct {
	int number;
	void (*fn)(struct control *control);
} control_signals[] = {
	{ SIGHUP, control_hup },   { SIGINT, control_int },   { SIGTERM, control_term },
	{ SIGQUIT, control_quit }, { SIGUSR1, control_usr1 }, { SIGUSR2, control_usr2 },
};

static void control_on_signals(evutil_socket_t fd, short what UNUSED, void *arg)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		for (size_t i = 0; i < ARRAY_LEN(control_signals); i++)
			if ((uint32_t)control_signals[i].number == info.ssi_signo)
				control_signals[i].fn(arg);
}

/* They stay blocked for good: one that comes while everything is being freed must not change the exit status. */
static void control_take_signals(struct control *c)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(control_signals); i++)
		sigaddset(&set, control_signals[i].number);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	c->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (c->signal_fd < 0)
		log_fatal("could not set up the signals: %s", strerror(errno));
	c->signals =
		event_new(loop_base(c->engine->control), c->signal_fd, EV_READ | EV_PERSIST, control_on_signals, c);
	if (c->signals == NULL || event_add(c->signals, NULL) != 0)
		log_fatal("could not set up the signals");
}

struct control *control_new(struct engine *engine)
{
	struct control *c = xcalloc(1, sizeof(*c));

	c->engine = engine;
	control_take_signals(c);
	loop_ticker_init(&c->watch, engine->control, control_watch, c);
	return c;
}

void control_free(struct control **control)
{
	struct control *c = *control;

	*control = NULL;
	if (c == NULL)
		return;
	event_free(c->signals);
	loop_ticker_fini(&c->watch);
	close(c->signal_fd);
	free(c);
}
