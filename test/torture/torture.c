/*
 * Load generator that proves that a pooler never gives a client another client's rows.
 *
 * Many clients play random scripts of protocol messages through the pooler; all answers are known to the byte in
 * advance and carry the name and the counter of the client. client.c plays, shape_*.c write the scripts, check.c
 * judges, ledger.c remembers the writes and compares them in the end with what PostgreSQL itself says.
 *
 * Each thread has an epoll descriptor and a share of the clients; threads share counters (report.h) and the budget
 * for large messages (shape.c), nothing else. The exit status is 0 when nothing was wrong, 1 when something was, 2
 * for a bad command line, 3 when the test could not be carried out.
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bytes.h"
#include "client.h"
#include "console.h"
#include "ddl.h"
#include "direct.h"
#include "ledger.h"
#include "options.h"
#include "report.h"
#include "shape.h"

#define TORTURE_EVENTS      64
#define TORTURE_TICK_US     1000
#define TORTURE_PROGRESS_S  5
#define TORTURE_SETTLE_S    60 /* time for PostgreSQL to end what lost clients left behind */
#define TORTURE_MIN_SLEEPS  20 /* from so many on, some cancel request must have had an effect */
#define TORTURE_GRACE_S     30 /* on top of stall_s: time for clients to end */
#define TORTURE_MAX_THREADS 64

/* One thread with its clients. */
struct torture_worker {
	pthread_t thread;
	int epoll_fd;
	struct client **clients;
	unsigned n_clients;
};

static struct options opt = {
	.host = "127.0.0.1",
	.port = 6432,
	.user = "postgres",
	.dbname = "postgres",
	.clients = 200,
	.threads = 1,
	.duration_s = 30,
	.stall_s = 60,
	.disconnect_ppm = 20000,
	.cancel_ppm = 20000,
	.seed = 1,
	.chaos = true,
	.can = NEEDS_NAMED,
	.extra_dbname = "extra",
	.console_user = "boss",
	.console_log = "/dev/null",
	.console_ms = 60,
};

/* How far the test has come. */
static _Atomic enum client_phase torture_phase;

static const struct option torture_options[] = {
	{ "host", required_argument, NULL, 'h' },
	{ "port", required_argument, NULL, 'p' },
	{ "user", required_argument, NULL, 'U' },
	{ "dbname", required_argument, NULL, 'd' },
	{ "check-host", required_argument, NULL, 'H' },
	{ "check-port", required_argument, NULL, 'P' },
	{ "check-dbname", required_argument, NULL, 'D' },
	{ "clients", required_argument, NULL, 'c' },
	{ "threads", required_argument, NULL, 'j' },
	{ "duration", required_argument, NULL, 'T' },
	{ "stall", required_argument, NULL, 't' },
	{ "seed", required_argument, NULL, 's' },
	{ "only", required_argument, NULL, 'o' },
	{ "whole-startup", no_argument, NULL, 'w' },
	{ "always-application", no_argument, NULL, 'a' },
	{ "no-chaos", no_argument, NULL, 'N' },
	{ "basic", no_argument, NULL, 'b' },
	{ "strict", no_argument, NULL, 'n' },
	{ "no-ddl", no_argument, NULL, 'l' },
	{ "alone", no_argument, NULL, 'A' },
	{ "statement", no_argument, NULL, 'm' },
	{ "disconnects", required_argument, NULL, 'x' },
	{ "cancels", required_argument, NULL, 'k' },
	{ "console", required_argument, NULL, 'C' },
	{ "console-log", required_argument, NULL, 'L' },
	{ "console-ms", required_argument, NULL, 'M' },
	{ "console-sabotage", required_argument, NULL, 'S' },
	{ "restart", required_argument, NULL, 'R' },
	{ "pidfile", required_argument, NULL, 'F' },
	{ "help", no_argument, NULL, '?' },
	{ NULL, 0, NULL, 0 },
};

static void __attribute__((noreturn)) torture_usage(int status)
{
	printf("usage: torture [options]\n"
	       "  --host H, --port N       the pooler (IPv4 address or socket directory; 127.0.0.1, 6432)\n"
	       "  --user U, --dbname D     whom and what to log in to (postgres)\n"
	       "  --check-host H, --check-port N, --check-dbname D\n"
	       "                           PostgreSQL itself (the same as above)\n"
	       "  --clients N              concurrent clients (200)\n"
	       "  --threads N              threads of this program (1)\n"
	       "  --duration S             seconds (30)\n"
	       "  --stall S                seconds of silence that are a failure (60)\n"
	       "  --seed N                 seed of all chance (1)\n"
	       "  --only A,B,...           only these shapes of operations; -A,-B,...: all but these\n"
	       "  --whole-startup          do not split startup and cancel packets\n"
	       "  --always-application     do not log in without an application_name\n"
	       "  --no-chaos               servers are not lost: no session may be lost either\n"
	       "  --disconnects N          operations per million that the client leaves in the middle (20000)\n"
	       "  --cancels N              operations per million with a cancel request at any moment (20000)\n"
	       "  --basic                  the pooler knows no prepared statements and few parameters (PgBouncer "
	       "before 1.21)\n"
	       "  --strict                 unknown and taken names of statements are errors, not the end of the "
	       "session\n"
	       "  --alone                  each client has a server of its own: nothing is lost between transactions\n"
	       "  --statement              the pool mode is statement: transaction blocks end the session\n"
	       "  --no-ddl                 no tables are changed behind the pooler's back\n"
	       "  --console FILE           an administrator (user boss) is at work, who changes the pooler's ini "
	       "FILE,\n"
	       "                           in which the database \"extra\" is the same as that of --dbname\n"
	       "  --console-log FILE       what was done when\n"
	       "  --console-ms N           milliseconds between commands, on average (60)\n"
	       "  --restart COMMAND        every few seconds the pooler is started anew with -R by this shell command\n"
	       "  --pidfile FILE           of the pooler, for that\n"
	       "  --console-sabotage KIND  the administrator does not do what he says: pause resume kill leak lose\n"
	       "shapes:\n");
	for (int i = 0; i < N_SHAPES; i++)
		printf("  %-12s %s\n", shapes[i].name, shapes[i].help);
	exit(status);
}

static void torture_parse(int argc, char **argv)
{
	char bad[32];
	int ch;

	while ((ch = getopt_long(argc, argv, "", torture_options, NULL)) != -1) {
		unsigned long n = optarg ? strtoul(optarg, NULL, 10) : 0;

		switch (ch) {
		case 'h':
			opt.host = optarg;
			break;
		case 'p':
			opt.port = (int)n;
			break;
		case 'U':
			opt.user = optarg;
			break;
		case 'd':
			opt.dbname = optarg;
			break;
		case 'H':
			opt.check_host = optarg;
			break;
		case 'P':
			opt.check_port = (int)n;
			break;
		case 'D':
			opt.check_dbname = optarg;
			break;
		case 'c':
			opt.clients = (unsigned)n;
			break;
		case 'j':
			opt.threads = (unsigned)n;
			break;
		case 'T':
			opt.duration_s = (unsigned)n;
			break;
		case 't':
			opt.stall_s = (unsigned)n;
			break;
		case 's':
			opt.seed = strtoull(optarg, NULL, 10);
			break;
		case 'o':
			opt.only = optarg;
			break;
		case 'w':
			opt.whole_startup = true;
			break;
		case 'a':
			opt.always_application = true;
			break;
		case 'N':
			opt.chaos = false;
			break;
		case 'b':
			opt.can = NEEDS_BASIC;
			break;
		case 'n':
			opt.can = NEEDS_STRICT;
			break;
		case 'l':
			opt.no_ddl = true;
			break;
		case 'A':
			opt.alone = true;
			break;
		case 'm':
			opt.statement = true;
			break;
		case 'x':
			opt.disconnect_ppm = (unsigned)n;
			break;
		case 'k':
			opt.cancel_ppm = (unsigned)n;
			break;
		case 'C':
			opt.console = true;
			opt.console_ini = optarg;
			break;
		case 'L':
			opt.console_log = optarg;
			break;
		case 'M':
			opt.console_ms = (unsigned)n;
			break;
		case 'R':
			opt.restart = optarg;
			break;
		case 'F':
			opt.pidfile = optarg;
			break;
		case 'S':
			opt.console_sabotage = optarg;
			break;
		default:
			torture_usage(optopt || ch != '?' ? 2 : 0);
		}
	}
	if (optind < argc || !opt.clients || !opt.threads || opt.threads > TORTURE_MAX_THREADS || !opt.stall_s)
		torture_usage(2);
	if (!shape_select(opt.only, opt.can, bad)) {
		fprintf(stderr, "no such shape: %s\n", bad);
		exit(2);
	}
	if (opt.restart && (!opt.pidfile || !opt.console))
		torture_usage(2);
	if (opt.console_sabotage && !console_knows_sabotage(opt.console_sabotage)) {
		fprintf(stderr, "no such sabotage: %s\n", opt.console_sabotage);
		exit(2);
	}
	opt.check_host = opt.check_host ? opt.check_host : opt.host;
	opt.check_port = opt.check_port ? opt.check_port : opt.port;
	opt.check_dbname = opt.check_dbname ? opt.check_dbname : opt.dbname;
}

/* One round of a thread's clients; returns how many are left. */
static unsigned torture_tick(struct torture_worker *w, int64_t now)
{
	enum client_phase phase = atomic_load_explicit(&torture_phase, memory_order_relaxed);
	unsigned left = 0;

	for (unsigned i = 0; i < w->n_clients; i++) {
		client_tick(w->clients[i], now, phase);
		left += !client_is_gone(w->clients[i]);
	}
	return left;
}

static void *torture_work(void *arg)
{
	struct torture_worker *w = arg;
	struct epoll_event events[TORTURE_EVENTS];
	int64_t ticked = 0;
	int64_t end = 0;
	unsigned left = 1;

	while (left) {
		int n = epoll_wait(w->epoll_fd, events, TORTURE_EVENTS, 1);
		int64_t now;

		for (int i = 0; i < n; i++)
			client_on_event(events[i].data.ptr, events[i].events);
		now = now_us();
		if (now - ticked < TORTURE_TICK_US)
			continue;
		ticked = now;
		left = torture_tick(w, now);
		if (!end && atomic_load_explicit(&torture_phase, memory_order_relaxed) != PHASE_RUN)
			end = now + (int64_t)(opt.stall_s + TORTURE_GRACE_S) * 1000000;
		if (end && now > end && left) {
			report_wrong_plain("clients that do not come to an end, or are not served any more");
			break;
		}
	}
	return NULL;
}

static void torture_start(struct torture_worker *w, unsigned index, struct ledger *ledgers)
{
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->clients = xmalloc((opt.clients / opt.threads + 1) * sizeof(*w->clients));
	w->n_clients = 0;
	for (unsigned slot = index; slot < opt.clients; slot += opt.threads)
		w->clients[w->n_clients++] = client_new(&opt, w->epoll_fd, slot, &ledgers[slot]);
	if (w->epoll_fd < 0 || pthread_create(&w->thread, NULL, torture_work, w) != 0) {
		perror("could not start a thread");
		exit(3);
	}
}

static void torture_finish(struct torture_worker *w)
{
	pthread_join(w->thread, NULL);
	for (unsigned i = 0; i < w->n_clients; i++)
		client_free(w->clients[i]);
	free(w->clients);
	close(w->epoll_fd);
}

static void torture_on_signal(int sig)
{
	(void)sig;
	atomic_store(&torture_phase, PHASE_STOP);
}

/* Waits until no server process is busy, and complains when some never are idle. */
static void torture_settle(struct direct *d)
{
	int64_t busy = 1;

	for (int i = 0; i < TORTURE_SETTLE_S * 4 && busy; i++) {
		busy = direct_number(d, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
					"AND pid <> pg_backend_pid() AND backend_type = 'client backend' "
					"AND state <> 'idle'");
		if (busy)
			usleep(250000);
	}
	if (busy)
		report_wrong_plain("all clients are gone, but servers are still busy or in a transaction");
}

static void torture_verify(struct ledger *ledgers)
{
	struct direct *d = direct_open(opt.check_host, opt.check_port, opt.user, opt.check_dbname);
	uint64_t totals[3] = { 0 };
	unsigned bad;

	torture_settle(d);
	bad = ledger_verify(d, ledgers, opt.clients, totals);
	report_add(wrong, bad);
	printf("writes: %llu acknowledged, %llu unknown, %llu cannot have happened; %u of them wrong\n",
	       (unsigned long long)totals[LEDGER_DONE], (unsigned long long)totals[LEDGER_UNKNOWN],
	       (unsigned long long)totals[LEDGER_NEVER], bad);
	direct_close(d);
}

static void torture_setup(void)
{
	struct direct *d = direct_open(opt.check_host, opt.check_port, opt.user, opt.check_dbname);

	ledger_setup(d, opt.clients);
	ddl_setup(d);
	direct_close(d);
}

/* Operations for as long as was asked for, the clients' share in threads of their own. */
static void torture_run(struct ledger *ledgers, int64_t start)
{
	struct torture_worker workers[TORTURE_MAX_THREADS];
	struct console *console = NULL;
	struct ddl *ddl = NULL;
	enum client_phase running = PHASE_RUN;

	for (unsigned i = 0; i < opt.threads; i++)
		torture_start(&workers[i], i, ledgers);
	if (opt.console)
		console = console_start(&opt);
	if (!opt.no_ddl)
		ddl = ddl_start(&opt);
	for (unsigned s = 1; s <= opt.duration_s && atomic_load(&torture_phase) == PHASE_RUN; s++) {
		sleep(1);
		if (s % TORTURE_PROGRESS_S == 0)
			report_progress((double)(now_us() - start) / 1e6);
	}
	if (console)
		console_settle(console);
	atomic_compare_exchange_strong(&torture_phase, &running, console ? PHASE_PROVE : PHASE_STOP);
	for (unsigned i = 0; i < opt.threads; i++)
		torture_finish(&workers[i]);
	if (ddl)
		ddl_stop(ddl);
	if (!console)
		return;
	console_account(console);
	console_print(console);
	console_free(console);
}

int main(int argc, char **argv)
{
	struct ledger *ledgers;
	int64_t start;

	torture_parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGINT, torture_on_signal);
	signal(SIGTERM, torture_on_signal);
	torture_setup();
	ledgers = xmalloc(opt.clients * sizeof(*ledgers));
	memset(ledgers, 0, opt.clients * sizeof(*ledgers));
	printf("seed %llu, %u clients\n", (unsigned long long)opt.seed, opt.clients);
	start = now_us();
	torture_run(ledgers, start);
	torture_verify(ledgers);
	report_final((double)(now_us() - start) / 1e6);
	if (report.sleeps >= TORTURE_MIN_SLEEPS && report.sleeps_hit == 0)
		report_wrong_plain("no cancel request ever had an effect");
	if (report.carried_sleeps >= TORTURE_MIN_SLEEPS && report.carried_hits == 0)
		report_wrong_plain("no cancel key has outlived a restart");
	for (unsigned i = 0; i < opt.clients; i++)
		free(ledgers[i].entries);
	free(ledgers);
	printf("%llu wrong\n", (unsigned long long)report.wrong);
	return report.wrong ? 1 : 0;
}
