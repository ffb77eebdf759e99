/*
 * The program: what the command line says, and the order in which things
 * start and end.
 *
 *     options -> configuration -> another user -> is there an instance already?
 *     -> background -> descriptors -> engine -> listening sockets -> pidfile
 *     -> threads -> the control loop, until a shutdown -> everything back
 *
 * The background comes before the engine, because threads do not survive a
 * fork; so what goes wrong after it is found in the log only.
 */
#include "core/base.h"

#include <event2/event.h>
#include <getopt.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "admin/admin.h"
#include "auth/ldap.h"
#include "auth/pam.h"
#include "check_diff.h"
#include "conf/conf.h"
#include "control.h"
#include "core/log.h"
#include "core/pidfile.h"
#include "core/str.h"
#include "core/systemd.h"
#include "core/version.h"
#include "daemon.h"
#include "main_options.h"
#include "net/sock.h"
#include "pool/engine.h"
#include "reload.h"
#include "takeover.h"
#include "watchdog.h"

/* What the command line asks for. */
struct main_options {
	bool daemon;
	bool reboot;
	bool quiet;
	bool check;
	bool diff;
	const char *diff_file; /* NULL: with the running instance */
	int verbose;
	const char *user;
	const char *file;
};

/* What an exit takes from the file system, an orderly one or one with a fatal error. */
static struct pidfile *main_pidfile;
static struct engine *main_engine; /* its Unix sockets; NULL before they are open and once they are closed */

static const struct option main_long[] = {
#define X(name, letter, kind, arg, help, about) { name, kind##_argument, NULL, letter },
	MAIN_OPTIONS(X)
#undef X
		{ NULL, 0, NULL, 0 },
};

static void main_print_help(const char *exe)
{
	static const struct {
		const char *name;
		char letter;
		int kind;
		const char *arg;
		const char *help;
	} rows[] = {
#define X(name, letter, kind, arg, help, about) { name, letter, kind##_argument, arg, help },
		MAIN_OPTIONS(X)
#undef X
	};

	printf("%s pools connections to PostgreSQL.\n\nUsage:\n  %s [OPTION]... CONFIG_FILE\n\nOptions:\n", exe, exe);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char left[40];

		str_format(left, sizeof(left), "--%s", rows[i].name);
		if (rows[i].kind == optional_argument)
			str_append(left, sizeof(left), "[=%s]", rows[i].arg);
		else if (rows[i].kind == required_argument)
			str_append(left, sizeof(left), "=%s", rows[i].arg);
		if (strchr(MAIN_LETTERS, rows[i].letter) != NULL)
			printf("  -%c, %-16s %s\n", rows[i].letter, left, rows[i].help);
		else
			printf("      %-16s %s\n", left, rows[i].help);
	}
	printf("\nThe manual pages pgsluice(1) and pgsluice(5) say more.\n");
}

/* The first line is what SHOW VERSION says: whoever has put this program in PgBouncer's place asks for PgBouncer's. */
static void main_print_version(const char *exe)
{
	const char *slash = strrchr(exe, '/');
	bool as_pgbouncer = strncmp(slash == NULL ? exe : slash + 1, "pgbouncer", 9) == 0;

	printf("%s\n", as_pgbouncer ? VERSION_AS_PGBOUNCER : VERSION_OWN);
	printf("libevent %s\n", event_get_version());
	printf("adns: evdns\n");
	printf("tls: %s\n", OpenSSL_version(OPENSSL_VERSION));
	printf("systemd: yes\n");
	printf("ldap: %s\n", ldap_is_supported() ? "yes" : "no");
	printf("pam: %s\n", pam_is_supported() ? "yes" : "no");
	printf("compatible with: PgBouncer %s\n", VERSION_COMPATIBLE);
}

static NORETURN void main_usage_error(const char *exe, const char *what)
{
	if (what != NULL)
		fprintf(stderr, "%s: %s\n", exe, what);
	fprintf(stderr, "Try \"%s --help\" for more information.\n", exe);
	exit(1);
}

static void main_parse_options(int argc, char **argv, struct main_options *o)
{
	int c;

	while ((c = getopt_long(argc, argv, MAIN_LETTERS, main_long, NULL)) != -1) {
		switch (c) {
		case 'd':
			o->daemon = true;
			break;
		case 'R':
			o->reboot = true;
			break;
		case 'q':
			o->quiet = true;
			break;
		case 'v':
			o->verbose++;
			break;
		case 'u':
			o->user = optarg;
			break;
		case 'c':
			o->check = true;
			break;
		case 'D':
			o->diff = true;
			o->diff_file = optarg;
			break;
		case 'V':
			main_print_version(argv[0]);
			exit(0);
		case 'h':
			main_print_help(argv[0]);
			exit(0);
		default:
			main_usage_error(argv[0], NULL);
		}
	}
	if (o->diff && !o->check)
		main_usage_error(argv[0], "--diff goes with --check");
	if (optind >= argc)
		main_usage_error(argv[0], "no configuration file specified");
	if (argc - optind > 1)
		main_usage_error(argv[0], "too many arguments: one configuration file is expected");
	o->file = argv[optind];
}

/* Ends the process when another one serves this configuration. */
static void main_refuse_second(const struct conf *conf)
{
	struct sock_addr addr;
	bool stale;
	int err;

	if (!systemd_has_sockets() && str_is_set(conf->unix_socket_dir) &&
	    sock_addr_set_unix_dir(&addr, conf->unix_socket_dir, (uint16_t)conf->listen_port) == 0 &&
	    sock_unix_is_served(&addr))
		log_fatal("unix socket is in use, cannot continue");
	if (!str_is_set(conf->pidfile))
		return;
	err = pidfile_check(conf->pidfile, &stale);
	if (err == -E_EXISTS)
		log_fatal("pidfile '%s' exists, another instance running?", conf->pidfile);
	if (err != 0)
		log_fatal("could not check pidfile '%s': %s", conf->pidfile, strerror(errno));
	if (stale)
		log_info("stale pidfile, removing");
}

static void main_write_pidfile(const struct conf *conf)
{
	int err;

	if (!str_is_set(conf->pidfile))
		return;
	err = pidfile_create(conf->pidfile, &main_pidfile);
	if (err == -E_EXISTS)
		log_fatal("pidfile '%s' exists, another instance running?", conf->pidfile);
	if (err != 0)
		log_fatal("could not write pidfile '%s': %s", conf->pidfile, strerror(errno));
}

static void main_exit_handler(void)
{
	if (main_engine != NULL)
		listener_set_unlink_paths(main_engine->listeners);
	pidfile_remove(&main_pidfile);
}

/*
 * -R: the sockets of the running instance, NULL when none runs. Everything else
 * that says that there is one says so rightly.
 */
static struct takeover *main_take_over(const struct conf *conf)
{
	struct takeover *takeover;

	if (conf->profile == CONF_PROFILE_PGBOUNCER)
		log_warning("online restart (-R) is deprecated: start a second instance beside this one with "
			    "so_reuseport and peers, then stop the first");
	takeover = takeover_begin(conf);
	if (takeover == NULL)
		log_info("no running instance found, starting as usual");
	return takeover;
}

/* Opens the listening sockets, or goes on with those of the instance before, which ends. */
static void main_listen(struct engine *engine, struct takeover *takeover, const struct conf *conf)
{
	const int *fds;
	size_t count;
	char err[256];

	if (takeover == NULL) {
		if (engine_listen(engine, err, sizeof(err)) != 0)
			log_fatal("%s", err);
		return;
	}
	count = takeover_listeners(takeover, &fds);
	if (engine_adopt_listeners(engine, fds, count, err, sizeof(err)) != 0)
		log_fatal("%s", err);
	takeover_end_other(takeover, conf);
}

/* Signals are the control thread's; the other threads inherit a mask that keeps them away. */
static void main_start_threads(struct engine *engine)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	engine_start(engine);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int main_reload(void *ctx, struct conf_diff **diff, struct conf_error *err)
{
	const char *before = log_set_action("reload");
	int rc;

	reload_reopen_log(control_engine(ctx));
	rc = reload_run(control_engine(ctx), diff, err);
	log_set_action(before);
	return rc;
}

static int main_reload_try(void *ctx, struct conf_diff **diff, struct conf_error *err)
{
	return reload_try(control_engine(ctx), diff, err);
}

static int main_set(void *ctx, const char *key, const char *value, bool *tls_kept)
{
	return reload_set(control_engine(ctx), key, value, tls_kept);
}

static void main_shutdown(void *ctx, enum engine_shutdown how, uint64_t timeout_us)
{
	if (how == SHUTDOWN_DRAIN)
		control_drain(ctx, timeout_us);
	else
		control_shutdown(ctx, how);
}

static const struct admin_ops main_admin_ops = {
	.reload = main_reload,
	.reload_try = main_reload_try,
	.set = main_set,
	.shutdown = main_shutdown,
};

/* Ends the process where libraries must not be torn down, since a thread hangs in one of them. */
static NORETURN void main_leave(int status)
{
	main_exit_handler();
	fflush(NULL);
	_exit(status);
}

/* Runs until a shutdown and returns the exit status. Takes over the snapshot. */
static int main_run(struct snapshot *snap, struct takeover *takeover)
{
	struct engine *engine = engine_new(snapshot_hold(snap), &admin_engine_ops);
	struct control *control = control_new(engine);
	struct admin *admin = admin_new(engine, &main_admin_ops, control);
	struct watchdog *watchdog = watchdog_new(engine);
	bool is_successor = takeover != NULL;
	bool all_ended;
	int status;

	main_listen(engine, takeover, snap->conf);
	main_engine = engine;
	main_write_pidfile(snap->conf);
	if (takeover != NULL)
		takeover_finish(&takeover, engine);
	snapshot_release(&snap);
	main_start_threads(engine);
	log_info("process up: %s, libevent %s (%s), adns: evdns, tls: %s", PACKAGE_STRING, event_get_version(),
		 event_base_get_method(loop_base(engine->control)), OpenSSL_version(OPENSSL_VERSION));
	if (is_successor)
		systemd_notify("READY=1\nMAINPID=%ld\nWATCHDOG_USEC=%" PRIu64, (long)getpid(), systemd_watchdog_us());
	else
		systemd_notify("READY=1");
	log_set_action(NULL);
	loop_run(engine->control);
	log_set_action("stop");
	status = control_status(control);
	main_engine = NULL;
	watchdog_stop(watchdog);
	admin_stop(admin);
	control_free(&control);
	all_ended = engine_free(&engine);
	admin_free(&admin);
	watchdog_free(&watchdog);
	log_tell_held(true);
	if (!all_ended)
		main_leave(status);
	return status;
}

/* Keys and certificates, as far as this user may read them. */
static bool main_check_tls(struct snapshot *snap)
{
	char text[RELOAD_TLS_TEXT_MAX];
	bool ok = reload_set_up_tls(snap, text, sizeof(text)) == 0;

	if (!ok)
		log_error("%s", text);
	return ok;
}

/* --check --diff: the differences, and the exit status. */
static int main_check_diff(struct snapshot *snap, const struct main_options *o)
{
	struct snapshot *old;
	int status;

	if (o->diff_file == NULL)
		return check_diff_running(snap, o->user != NULL ? o->user : snap->conf->user);
	old = reload_first(o->diff_file);
	if (old == NULL)
		log_fatal("cannot load config file");
	status = check_diff_files(old, snap);
	if (!main_check_tls(snap))
		status = CHECK_DIFF_FAILED;
	snapshot_release(&old);
	return status;
}

/* --check: the report, and the exit status. */
static int main_check(struct snapshot *snap, const struct main_options *o)
{
	if (o->diff)
		return main_check_diff(snap, o);
	conf_print_check(snap->conf, stdout);
	return fflush(stdout) == 0 && main_check_tls(snap) ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct main_options o = { 0 };
	struct takeover *takeover = NULL;
	char tls_error[RELOAD_TLS_TEXT_MAX];
	struct snapshot *snap;
	const char *user;

	systemd_init();
	main_parse_options(argc, argv, &o);
	tzset();
	signal(SIGPIPE, SIG_IGN);
	log_set_action("start");
	reload_set_cli(o.quiet, o.verbose);
	snap = reload_first(o.file);
	if (snap == NULL)
		log_fatal("cannot load config file");
	if (o.check) {
		int status = main_check(snap, &o);

		snapshot_release(&snap);
		return status;
	}
	if (reload_set_up_tls(snap, tls_error, sizeof(tls_error)) != 0)
		log_fatal("%s", tls_error);
	user = o.user != NULL ? o.user : snap->conf->user;
	if (str_is_set(user))
		daemon_change_user(user);
	daemon_refuse_root();
	if (o.daemon && !str_is_set(snap->conf->pidfile))
		log_fatal("daemon needs pidfile configured");
	reload_apply_log(snap->conf, true);
	if (!o.reboot)
		main_refuse_second(snap->conf);
	if (o.daemon) {
		daemon_detach();
		reload_apply_log(snap->conf, true); /* stderr leads elsewhere now */
	}
	atexit(main_exit_handler);
	daemon_raise_fd_limit(snap->conf, users_count(snap->users));
	if (o.reboot)
		takeover = main_take_over(snap->conf);
	if (o.reboot && takeover == NULL)
		main_refuse_second(snap->conf);
	return main_run(snap, takeover);
}
