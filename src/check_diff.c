/*
 * The comparison is made by who knows both sides. Two files are compared here.
 * What is in force in a running process only that process knows, SETs and
 * secrets included, so it is asked: RELOAD DRY RUN on its console, over the Unix
 * socket that the file names. It compares with its own file, hence that must be
 * the file that is checked.
 *
 * The output is that of --check: fields separated by tabs, headings after a #.
 */
#include "check_diff.h"

#include <libpq-fe.h>
#include <pwd.h>
#include <sys/stat.h>

#include "core/log.h"
#include "core/str.h"
#include "daemon.h"
#include "net/sock.h"
#include "reload.h"

static const char check_diff_heading[] = "# change\taction\tobject\tname\tdetail\ttakes effect\tservers\tclients\n";

/* A field of the line; what could break the layout is written as \xHH. */
static void check_diff_put(const char *text)
{
	putchar('\t');
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < ' ' || c == 0x7f)
			printf("\\x%02x", c);
		else if (c == '\\')
			fputs("\\\\", stdout);
		else
			putchar(c);
	}
}

static int check_diff_finish(size_t changes)
{
	if (changes == 0)
		puts("# nothing differs");
	if (fflush(stdout) != 0)
		return CHECK_DIFF_FAILED;
	return changes == 0 ? CHECK_DIFF_SAME : CHECK_DIFF_DIFFERS;
}

/* ---- two files ---- */

int check_diff_files(const struct snapshot *old, const struct snapshot *fresh)
{
	struct conf_diff *diff = reload_compare(old, fresh->conf, fresh->users, fresh->hba);
	size_t count = diff->count;

	fputs(check_diff_heading, stdout);
	for (size_t i = 0; i < count; i++) {
		const struct conf_change *change = &diff->changes[i];

		fputs("change", stdout);
		check_diff_put(conf_change_action_name(change->action));
		check_diff_put(conf_change_object_name(change->object));
		check_diff_put(change->name);
		check_diff_put(change->detail);
		check_diff_put(conf_change_effect_name(change->effect));
		puts("\t\t"); /* no connections here */
	}
	conf_diff_free(&diff);
	return check_diff_finish(count);
}

/* ---- the running instance ---- */

/* As root: becomes the user of the instance. */
static void check_diff_become(const struct sock_addr *addr, const char *user)
{
	const struct passwd *owner = NULL;
	struct stat st;

	if (geteuid() != 0)
		return;
	if (str_is_set(user)) {
		daemon_change_user(user);
		return;
	}
	if (addr->u.un.sun_path[0] != '\0' && stat(addr->u.un.sun_path, &st) == 0 && st.st_uid != 0)
		owner = getpwuid(st.st_uid);
	if (owner != NULL)
		daemon_change_user(owner->pw_name);
}

static PGconn *check_diff_connect(const struct conf *conf)
{
	char port[16];
	const char *const names[] = { "host",    "port",       "dbname",          "user",
				      "sslmode", "gssencmode", "connect_timeout", "application_name",
				      NULL };
	const char *const values[] = {
		conf->unix_socket_dir, port, "pgbouncer", "pgbouncer", "disable", "disable", "10",
		"pgsluice --check",    NULL
	};

	str_format(port, sizeof(port), "%d", conf->listen_port);
	return PQconnectdbParams(names, values, 0);
}

/* Runs a command that returns rows; NULL, with a line in the log, when it does not. */
static PGresult *check_diff_ask(PGconn *pg, const char *sql)
{
	PGresult *res = PQexec(pg, sql);

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		return res;
	log_error("the running instance answers %s with: %s", sql, PQerrorMessage(pg));
	PQclear(res);
	return NULL;
}

/* Does the instance reload from this file? Its name for it is relative to its own directory. */
static bool check_diff_reads(PGconn *pg, const char *file)
{
	PGresult *res = check_diff_ask(pg, "SHOW CONFIG");
	const char *conffile = "";
	char path[4200];
	struct stat ours;
	struct stat theirs;
	pid_t pid = 0;
	bool same;

	if (res == NULL)
		return false;
	for (int i = 0; i < PQntuples(res); i++) {
		if (strcmp(PQgetvalue(res, i, 0), "conffile") == 0)
			conffile = PQgetvalue(res, i, 1);
	}
	if (conffile[0] == '/' || sock_peer_cred(PQsocket(pg), NULL, &pid) != 0)
		str_copy(path, sizeof(path), conffile);
	else
		str_format(path, sizeof(path), "/proc/%d/cwd/%s", (int)pid, conffile);
	same = stat(file, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
	       ours.st_ino == theirs.st_ino;
	if (!same)
		log_error("the running instance reads %s, not %s: compare two files with --diff=FILE", conffile, file);
	PQclear(res);
	return same;
}

static int check_diff_print_answer(PGconn *pg)
{
	PGresult *res = check_diff_ask(pg, "RELOAD DRY RUN");
	int rows;

	if (res == NULL)
		return CHECK_DIFF_FAILED;
	rows = PQntuples(res);
	fputs(check_diff_heading, stdout);
	for (int i = 0; i < rows; i++) {
		fputs("change", stdout);
		for (int column = 0; column < PQnfields(res); column++)
			check_diff_put(PQgetvalue(res, i, column));
		putchar('\n');
	}
	PQclear(res);
	return check_diff_finish((size_t)rows);
}

int check_diff_running(const struct snapshot *fresh, const char *user)
{
	const struct conf *conf = fresh->conf;
	int status = CHECK_DIFF_FAILED;
	struct sock_addr addr;
	PGconn *pg;

	if (!str_is_set(conf->unix_socket_dir) ||
	    sock_addr_set_unix_dir(&addr, conf->unix_socket_dir, (uint16_t)conf->listen_port) != 0) {
		log_error("without a Unix socket the running instance cannot be asked: compare two files with "
			  "--diff=FILE");
		return CHECK_DIFF_FAILED;
	}
	check_diff_become(&addr, user);
	pg = check_diff_connect(conf);
	if (PQstatus(pg) != CONNECTION_OK)
		log_error("no running instance lets us in: %s", PQerrorMessage(pg));
	else if (check_diff_reads(pg, conf->file))
		status = check_diff_print_answer(pg);
	PQfinish(pg);
	return status;
}
