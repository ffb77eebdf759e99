/*
 * Online restarts: a new process takes all sockets over while clients are at work. Whoever is logged in goes on with
 * the new process and notices nothing, but for those whose message cannot be brought to its end in time.
 *
 * A restart is refused while something is paused; then the new process ends and the old one goes on.
 */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bytes.h"
#include "console_int.h"

#define RESTART_LIMIT_US (60 * 1000000LL)
#define RESTART_MIN_US   300000
#define RESTART_MAX_US   3000000

static pid_t restart_read_pidfile(const struct console *c)
{
	FILE *f = fopen(c->opt->pidfile, "r");
	int pid = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%d", &pid) != 1)
		pid = 0;
	fclose(f);
	return pid;
}

/* True for a process that is no more, whoever has to wait for it. */
static bool restart_is_gone(pid_t pid)
{
	char path[64];
	char state = 'Z';
	FILE *f;

	waitpid(pid, NULL, WNOHANG);
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (f && fscanf(f, "%*d %*s %c", &state) != 1)
		state = 'Z';
	if (f)
		fclose(f);
	return state == 'Z';
}

static void restart_begin(struct console *c)
{
	struct console_restart *r = &c->restart;

	r->old = restart_read_pidfile(c);
	if (!r->old) {
		console_wrong(c, "there is no pidfile");
		r->next_us = INT64_MAX;
		return;
	}
	console_open_window(c, WINDOW_RESTART, SCOPE_ALL);
	console_open_window(c, WINDOW_REMOVE, SCOPE_ALL);
	console_doubt_pauses(c);
	r->since_us = now_us();
	r->pid = fork();
	if (r->pid == 0) {
		execl("/bin/sh", "sh", "-c", c->opt->restart, (char *)NULL);
		_exit(127);
	}
	console_log(c, "restart: %d shall take over from %d", (int)r->pid, (int)r->old);
}

static void restart_end(struct console *c)
{
	struct console_restart *r = &c->restart;

	console_close_window(c, WINDOW_RESTART, SCOPE_ALL);
	console_reload_later(c);
	console_doubt_pauses(c);
	r->since_us = now_us();
	r->next_us = r->since_us + (int64_t)rng_range(&c->rng, RESTART_MIN_US, RESTART_MAX_US);
	r->clean = !rng_one_in(&c->rng, 4);
	r->old = 0;
}

/* Looks whether the new process has taken over, or has given up. */
static void restart_look(struct console *c)
{
	struct console_restart *r = &c->restart;
	int status;

	if (waitpid(r->pid, &status, WNOHANG) == r->pid) {
		console_log(c, "restart: %d has ended, status %x", (int)r->pid, (unsigned)status);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 1 || restart_is_gone(r->old))
			console_wrong(c, "a restart fails: status %x", (unsigned)status);
		r->refused++;
		restart_end(c);
	} else if (restart_read_pidfile(c) == r->pid && restart_is_gone(r->old)) {
		console_log(c, "restart: %d has taken over", (int)r->pid);
		r->done++;
		excuse_set_restarted(now_us());
		restart_end(c);
	} else if (now_us() - r->since_us > RESTART_LIMIT_US) {
		console_wrong(c, "a restart takes too long");
		restart_end(c);
	}
}

void console_restart_step(struct console *c, bool stop)
{
	if (c->restart.old)
		restart_look(c);
	else if (c->opt->restart && !stop && now_us() >= c->restart.next_us &&
		 !(c->restart.clean && console_is_paused(c)))
		restart_begin(c);
}
