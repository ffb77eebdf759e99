/*
 * The administrator.
 *
 * Three sessions: two issue commands, drawn from console_tbl.h by weight, and wait for their answers; the third takes
 * back what the others did when its time has come: RESUME after PAUSE, and so on. So a command that waits (PAUSE,
 * WAIT_CLOSE) holds up nothing, and commands cross each other. Now and then a session is dropped in the middle of a
 * command, or canceled.
 *
 * Every command must be answered in time, with its tag or with an error that its row permits.
 */
#include "console_int.h"

#include <fnmatch.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "report.h"

#define CONSOLE_STEP_US    2000
#define CONSOLE_ANSWER_US  (30 * 1000000LL)
#define CONSOLE_CONNECT_US (30 * 1000000LL)
#define CONSOLE_DROP_PPM   8000 /* steps of a session that waits, in which it is dropped */
#define CONSOLE_CANCEL_PPM 4000 /* ... or canceled */

static const struct console_action console_actions[] = {
#define ACTION(sql, kind, per_db, weight, window, stays, undo, undo_ms, errors) \
	{ sql, kind, per_db, weight, window, stays, undo, undo_ms, errors },
#include "console_tbl.h"
#undef ACTION
};

#define N_ACTIONS           (sizeof(console_actions) / sizeof(console_actions[0]))

/* What the answers to what takes something back may be. */
#define CONSOLE_UNDO_ERRORS "pooler is not paused/suspended|database * is not paused|" CONSOLE_AGAIN
/* ... after which it has to be tried again: the database is not there just now, or another process is about to be. */
#define CONSOLE_TAKEN       "another process is taking over"
#define CONSOLE_AGAIN       NO_DB "|" CONSOLE_TAKEN

static const char *const console_sabotages[N_CSABS] = { "", "pause", "resume", "kill", "leak", "lose" };

bool console_knows_sabotage(const char *name)
{
	for (int i = 1; i < N_CSABS; i++)
		if (strcmp(name, console_sabotages[i]) == 0)
			return true;
	return false;
}

void console_log(struct console *c, const char *fmt, ...)
{
	va_list ap;

	fprintf(c->log, "%9.3f ", (double)(now_us() - c->start_us) / 1e6);
	va_start(ap, fmt);
	vfprintf(c->log, fmt, ap);
	va_end(ap);
	fputc('\n', c->log);
}

void console_wrong(struct console *c, const char *fmt, ...)
{
	char why[CONSOLE_SQL_BYTES + 2 * CONSOLE_TEXT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	console_log(c, "WRONG: %s", why);
	report_wrong_plain(why);
}

/* ---- what is in force ---- */

static bool console_covers(unsigned scope, unsigned db)
{
	return scope == SCOPE_ALL || scope == db;
}

void console_open_window(struct console *c, int window, unsigned scope)
{
	for (unsigned db = 0; window >= 0 && db < N_DBS; db++) {
		if (!console_covers(window == WINDOW_REMOVE ? 1 : scope, db) || c->sabotage == CSAB_KILL)
			continue;
		c->open[window][db]++;
		excuse_open((enum excuse_window)window, db);
	}
}

void console_close_window(struct console *c, int window, unsigned scope)
{
	for (unsigned db = 0; window >= 0 && db < N_DBS; db++) {
		if (!console_covers(window == WINDOW_REMOVE ? 1 : scope, db) || !c->open[window][db])
			continue;
		if (--c->open[window][db] == 0)
			excuse_close((enum excuse_window)window, db);
	}
}

/* Tells the clients since when no server may be handed out. */
static void console_tell_paused(struct console *c)
{
	for (unsigned db = 0; db < N_DBS; db++) {
		int64_t all = c->paused_us[SCOPE_ALL];
		int64_t own = c->paused_us[db];

		excuse_set_paused(db, !all ? own : !own || all < own ? all : own);
	}
}

void console_doubt_pauses(struct console *c)
{
	memset(c->paused_us, 0, sizeof(c->paused_us));
	console_tell_paused(c);
	for (int i = 0; i < CONSOLE_SESSIONS; i++)
		c->sessions[i].undone = true;
}

/* True while something may be under way that ends pauses. */
static bool console_is_doubtful(const struct console *c)
{
	for (int i = 0; i < CONSOLE_SESSIONS; i++)
		if (c->sessions[i].state == SESSION_BUSY && c->sessions[i].resumes)
			return true;
	return false;
}

static void console_add_undo(struct console *c, const struct console_action *a, unsigned scope)
{
	if (c->n_undos == CONSOLE_UNDOS) {
		console_wrong(c,
			      "the administrator does not get through: nothing that is to be taken back is answered");
		return;
	}
	c->undos[c->n_undos++] = (struct console_undo){
		.due_us = now_us() + (int64_t)rng_below(&c->rng, a->undo_ms * 1000),
		.action = a,
		.scope = scope,
	};
}

bool console_pauses(const struct console_action *a)
{
	return a->undo && strncmp(a->undo, "RESUME", 6) == 0;
}

bool console_is_paused(const struct console *c)
{
	for (unsigned i = 0; i < c->n_undos; i++)
		if (console_pauses(c->undos[i].action))
			return true;
	for (int i = 0; i < CONSOLE_SESSIONS; i++)
		if (c->sessions[i].state == SESSION_BUSY && console_pauses(c->sessions[i].action))
			return true;
	return false;
}

void console_reload_later(struct console *c)
{
	for (size_t i = 0; i < N_ACTIONS; i++)
		if (console_actions[i].kind == KIND_VANISH) {
			c->vanished++;
			console_add_undo(c, &console_actions[i], SCOPE_ALL);
		}
}

/* A command has been sent that has to be taken back. */
static void console_plan_undo(struct console *c, const struct console_action *a, unsigned scope)
{
	if (!a->undo)
		return;
	if (scope != SCOPE_ALL || !strstr(a->undo, "%s")) {
		console_add_undo(c, a, scope);
		return;
	}
	for (unsigned db = 0; db < N_DBS; db++)
		console_add_undo(c, a, db);
}

/* ---- the file ---- */

static const struct {
	const char *name;
	unsigned low, high;
} console_sizes[] = {
	{ "default_pool_size", 1, 30 },   { "min_pool_size", 0, 10 },           { "reserve_pool_size", 0, 5 },
	{ "reserve_pool_timeout", 1, 3 }, { "max_db_connections", 5, 60 },      { "max_user_connections", 5, 60 },
	{ "server_lifetime", 1, 20 },     { "server_idle_timeout", 1, 20 },     { "server_round_robin", 0, 1 },
	{ "server_check_delay", 0, 2 },   { "max_prepared_statements", 1, 30 }, { "reuse_unnamed_statements", 0, 1 },
};

#define CONSOLE_NAMED_SIZES 2 /* at the end: only for poolers that keep prepared statements */

const char *console_pick_size(struct console *c, unsigned *value)
{
	size_t n = sizeof(console_sizes) / sizeof(console_sizes[0]);
	size_t i = rng_below(&c->rng, c->opt->can >= NEEDS_NAMED ? n : n - CONSOLE_NAMED_SIZES);

	*value = (unsigned)rng_range(&c->rng, console_sizes[i].low, console_sizes[i].high);
	return console_sizes[i].name;
}

/* The text without the line of the extra database, in place. */
static void console_cut_extra(const struct console *c, char *text)
{
	char start[80];
	char *at;

	snprintf(start, sizeof(start), "\n%s = ", c->dbs[1]);
	at = strstr(text, start);
	if (at) {
		char *end = strchr(at + 1, '\n');

		memmove(at, end, strlen(end) + 1);
	}
}

void console_write_ini(struct console *c, bool sizes, bool extra)
{
	char path[512];
	char *text = xmalloc(strlen(c->ini) + 1);
	FILE *f;

	snprintf(path, sizeof(path), "%s.new", c->opt->console_ini);
	memcpy(text, c->ini, strlen(c->ini) + 1);
	if (!extra)
		console_cut_extra(c, text);
	f = fopen(path, "w");
	if (!f) {
		perror(path);
		exit(3);
	}
	fputs(text, f);
	for (unsigned n = sizes ? 1 + (unsigned)rng_below(&c->rng, 4) : 0; n > 0; n--) {
		unsigned value;
		const char *name = console_pick_size(c, &value);

		fprintf(f, "%s = %u\n", name, value);
	}
	free(text);
	if (fclose(f) != 0 || rename(path, c->opt->console_ini) != 0) {
		perror(path);
		exit(3);
	}
}

static void console_read_ini(struct console *c)
{
	FILE *f = fopen(c->opt->console_ini, "r");
	struct bytes b = { 0 };
	char line[512];

	if (!f) {
		perror(c->opt->console_ini);
		exit(3);
	}
	while (fgets(line, sizeof(line), f))
		bytes_text(&b, line);
	fclose(f);
	bytes_u8(&b, 0);
	c->ini = (char *)b.data;
}

/* ---- sessions ---- */

static void session_conninfo(const struct console *c, char *text, size_t size)
{
	snprintf(text, size, "host=%s port=%d user=%s dbname=pgbouncer sslmode=disable gssencmode=disable",
		 c->opt->host, c->opt->port, c->opt->console_user);
}

PGconn *console_open(struct console *c)
{
	char info[256];
	PGconn *conn;

	session_conninfo(c, info, sizeof(info));
	conn = PQconnectdb(info);
	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	console_wrong(c, "console: %s", PQerrorMessage(conn));
	PQfinish(conn);
	return NULL;
}

static void session_drop(struct session *s)
{
	PQfinish(s->conn);
	*s = (struct session){ .state = SESSION_DOWN };
}

/* What the session was to take back is still to be taken back. */
static void session_undo_again(struct console *c, const struct session *s)
{
	c->vanished += s->action->kind == KIND_VANISH;
	console_add_undo(c, s->action, s->scope);
}

/* The session is lost: wrong, unless the process has just been replaced. */
static void session_lost(struct console *c, struct session *s)
{
	char why[CONSOLE_TEXT_BYTES];

	snprintf(why, sizeof(why), "%s", PQerrorMessage(s->conn));
	console_log(c, "%d lost: %s", (int)(s - c->sessions), why);
	if (!c->open[WINDOW_RESTART][0] && s->opened_us > c->restart.since_us)
		console_wrong(c, "console: \"%s\": %s", s->sql, why);
	if (s->state == SESSION_BUSY && s->is_undo) {
		session_undo_again(c, s);
	} else if (s->state == SESSION_BUSY && !s->action->window_stays) {
		console_close_window(c, s->action->window, s->scope);
	}
	session_drop(s);
}

static void session_start(struct console *c, struct session *s)
{
	char info[256];

	session_conninfo(c, info, sizeof(info));
	s->conn = PQconnectStart(info);
	s->state = SESSION_CONNECTING;
	s->sent_us = s->opened_us = now_us();
	if (!s->conn || PQstatus(s->conn) == CONNECTION_BAD)
		session_drop(s);
}

static void session_connecting(struct console *c, struct session *s)
{
	struct pollfd pfd = { .fd = PQsocket(s->conn), .events = POLLIN | POLLOUT };

	if (poll(&pfd, 1, 0) <= 0)
		return;
	switch (PQconnectPoll(s->conn)) {
	case PGRES_POLLING_OK:
		PQsetnonblocking(s->conn, 1);
		s->state = SESSION_IDLE;
		break;
	case PGRES_POLLING_FAILED:
		session_lost(c, s);
		usleep(100000);
		break;
	default:
		break;
	}
}

static void session_send(struct console *c, struct session *s)
{
	s->state = SESSION_BUSY;
	s->sent_us = now_us();
	s->error[0] = s->tag[0] = 0;
	s->again = false;
	s->resumes = strncmp(s->sql, "RESUME", 6) == 0 || strncmp(s->sql, "RELOAD", 6) == 0;
	if (s->resumes)
		console_doubt_pauses(c);
	s->undone = console_is_doubtful(c);
	console_log(c, "%d > %s", (int)(s - c->sessions), s->sql);
	c->total++;
	if (c->sabotage == CSAB_PAUSE && strncmp(s->sql, "PAUSE", 5) == 0)
		PQsendQuery(s->conn, "SHOW VERSION");
	else if (c->sabotage != CSAB_LOSE || c->total % 100)
		PQsendQuery(s->conn, s->sql);
}

/* The command of a row, with the database for %s. */
static void session_word(const struct console *c, struct session *s, const char *text)
{
	int n = (int)strcspn(text, "%");

	snprintf(s->sql, sizeof(s->sql), "%.*s%s", n, text, text[n] ? c->dbs[s->scope] : "");
}

/* A session is free: issues a command for a scope. */
static void session_issue(struct console *c, struct session *s, const struct console_action *a)
{
	unsigned value;

	s->action = a;
	s->is_undo = false;
	s->scope = a->per_db ? (unsigned)rng_below(&c->rng, N_DBS) : SCOPE_ALL;
	session_word(c, s, a->sql);
	c->issued[a - console_actions]++;
	if (a->kind == KIND_SET) {
		const char *name = console_pick_size(c, &value);

		snprintf(s->sql, sizeof(s->sql), "SET %s=%u", name, value);
	} else if (a->kind == KIND_SHOW) {
		static const char *const tables[] = { "POOLS", "SERVERS", "DATABASES", "LISTS",  "SOCKETS",
						      "STATS", "USERS",   "CONFIG",    "TOTALS", "STATE" };

		snprintf(s->sql, sizeof(s->sql), "SHOW %s",
			 tables[rng_below(&c->rng, sizeof(tables) / sizeof(tables[0]))]);
	} else if (a->kind == KIND_SIZES || a->kind == KIND_VANISH) {
		c->vanished += a->kind == KIND_VANISH;
		console_write_ini(c, true, c->vanished == 0);
	}
	console_open_window(c, a->window, s->scope);
	console_plan_undo(c, a, s->scope);
	session_send(c, s);
}

/* Takes something back. */
static void session_undo(struct console *c, struct session *s, const struct console_undo *undo)
{
	s->action = undo->action;
	s->is_undo = true;
	s->scope = undo->scope;
	session_word(c, s, undo->action->undo);
	if (undo->action->kind == KIND_VANISH) {
		c->vanished--;
		console_write_ini(c, true, c->vanished == 0);
	}
	session_send(c, s);
}

/* The port of a client: that of its connection, or the one that a tunnel has put into its address (tunnel.c). */
static unsigned session_client_port(const char *addr, const char *port)
{
	unsigned a;
	unsigned b;

	if (sscanf(addr, "127.1.%u.%u", &a, &b) == 2)
		return 256 * a + b;
	return (unsigned)atoi(port);
}

/* Of the clients in a result of SHOW CLIENTS one is to be killed; false when there is none. */
static bool session_pick_victim(struct console *c, struct session *s, const PGresult *res)
{
	int id = PQfnumber(res, "id");
	int addr = PQfnumber(res, "addr");
	int port = PQfnumber(res, "port");
	int db = PQfnumber(res, "database");
	int row;

	if (id < 0 || addr < 0 || port < 0 || db < 0 || !PQntuples(res))
		return false;
	row = (int)rng_below(&c->rng, (uint64_t)PQntuples(res));
	if (strcmp(PQgetvalue(res, row, db), c->dbs[0]) != 0 && strcmp(PQgetvalue(res, row, db), c->dbs[1]) != 0)
		return false;
	if (c->sabotage != CSAB_KILL)
		excuse_kill_port(session_client_port(PQgetvalue(res, row, addr), PQgetvalue(res, row, port)));
	snprintf(s->sql, sizeof(s->sql), "KILL_CLIENT %s", PQgetvalue(res, row, id));
	return true;
}

/* True when the text is among the patterns, which are separated by bars. */
static bool console_permits(const char *patterns, const char *text)
{
	char all[2 * CONSOLE_TEXT_BYTES];

	snprintf(all, sizeof(all), "@(%s)", patterns);
	return patterns[0] && fnmatch(all, text, FNM_EXTMATCH) == 0;
}

/* The answer has come as a whole. */
static void session_answered(struct console *c, struct session *s)
{
	const struct console_action *a = s->action;
	const char *permitted = s->is_undo ? CONSOLE_UNDO_ERRORS : a->errors;
	bool is_kill = strncmp(s->sql, "KILL_CLIENT", 11) == 0;

	s->state = SESSION_IDLE;
	console_log(c, "%d < %s%s", (int)(s - c->sessions), s->error[0] ? "error: " : s->tag, s->error);
	if (s->error[0]) {
		c->refused++;
		if (!console_permits(is_kill ? "client not found" : permitted, s->error) &&
		    !(c->opt->restart && console_permits(CONSOLE_TAKEN, s->error)))
			console_wrong(c, "\"%s\" was answered with \"%s\"", s->sql, s->error);
	} else if (strncmp(s->tag, s->sql, strcspn(s->sql, " ")) != 0 && c->sabotage != CSAB_PAUSE) {
		console_wrong(c, "\"%s\" was answered with \"%s\"", s->sql, s->tag);
	} else if (a->kind == KIND_PAUSE && !s->is_undo && !s->undone) {
		c->paused_us[s->scope] = now_us();
		console_tell_paused(c);
	}
	if (s->is_undo && console_permits(CONSOLE_AGAIN, s->error))
		session_undo_again(c, s);
	else if (a->window_stays == s->is_undo)
		console_close_window(c, a->window, s->scope);
}

/* Reads what has come for a session that waits. */
static void session_read(struct console *c, struct session *s)
{
	PGresult *res;

	PQflush(s->conn);
	if (!PQconsumeInput(s->conn)) {
		session_lost(c, s);
		return;
	}
	while (!PQisBusy(s->conn)) {
		res = PQgetResult(s->conn);
		if (!res) {
			if (s->again)
				session_send(c, s);
			else
				session_answered(c, s);
			return;
		}
		if (PQresultStatus(res) == PGRES_FATAL_ERROR) {
			const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

			snprintf(s->error, sizeof(s->error), "%s", text ? text : PQerrorMessage(s->conn));
		} else if (s->action->kind == KIND_VICTIM && PQnfields(res) > 0) {
			s->again = session_pick_victim(c, s, res);
		}
		snprintf(s->tag, sizeof(s->tag), "%s", PQcmdStatus(res));
		PQclear(res);
	}
	if (now_us() - s->sent_us > CONSOLE_ANSWER_US) {
		console_wrong(c, "\"%s\" is not answered", s->sql);
		session_drop(s);
	}
}

/* Something happens to a command that waits, now and then. */
static void session_disturb(struct console *c, struct session *s)
{
	bool may_cancel = !c->open[WINDOW_SUSPEND][0] && !c->open[WINDOW_RESTART][0];
	char why[256];

	if (s->action->window >= 0 || (s->action->kind != KIND_PAUSE && s->action->kind != KIND_PLAIN))
		return;
	if (rng_chance(&c->rng, CONSOLE_DROP_PPM)) {
		console_log(c, "%d dropped", (int)(s - c->sessions));
		session_drop(s);
	} else if (may_cancel && rng_chance(&c->rng, CONSOLE_CANCEL_PPM)) {
		PGcancel *cancel = PQgetCancel(s->conn);

		console_log(c, "%d canceled", (int)(s - c->sessions));
		console_doubt_pauses(c);
		if (!PQcancel(cancel, why, sizeof(why)))
			console_wrong(c, "cancel request of the console: %s", why);
		PQfreeCancel(cancel);
	}
}

static void session_step(struct console *c, struct session *s)
{
	switch (s->state) {
	case SESSION_DOWN:
		session_start(c, s);
		break;
	case SESSION_CONNECTING:
		session_connecting(c, s);
		if (s->state == SESSION_CONNECTING && now_us() - s->sent_us > CONSOLE_CONNECT_US) {
			console_wrong(c, "console: nobody is let in");
			session_drop(s);
		}
		break;
	case SESSION_BUSY:
		session_read(c, s);
		if (s->state == SESSION_BUSY && s < &c->sessions[CONSOLE_SESSIONS - 1])
			session_disturb(c, s);
		break;
	case SESSION_IDLE:
		if (!c->restart.old && s->opened_us < c->restart.since_us)
			session_drop(s); /* of the process before */
		break;
	}
}

/* ---- the thread ---- */

static const struct console_action *console_pick(struct console *c)
{
	bool must_not_pause = c->opt->restart && c->restart.clean && now_us() >= c->restart.next_us;
	unsigned sum = 0;
	unsigned dice;
	size_t i;

	for (size_t k = 0; k < N_ACTIONS; k++)
		sum += console_actions[k].weight;
	do {
		dice = (unsigned)rng_below(&c->rng, sum);
		for (i = 0; dice >= console_actions[i].weight; i++)
			dice -= console_actions[i].weight;
	} while (must_not_pause && console_pauses(&console_actions[i]));
	return &console_actions[i];
}

/* The undo that is due first, taken off; false when none is. With all, none is too early. */
static bool console_next_undo(struct console *c, struct console_undo *undo, bool all)
{
	unsigned first = 0;

	if (!c->n_undos)
		return false;
	for (unsigned i = 1; i < c->n_undos; i++)
		if (c->undos[i].due_us < c->undos[first].due_us)
			first = i;
	if (!all && c->undos[first].due_us > now_us())
		return false;
	*undo = c->undos[first];
	c->undos[first] = c->undos[--c->n_undos];
	return true;
}

/*
 * Issues some command. SUSPEND only when the session that ends it is there: nobody is let in meanwhile, not even to the
 * console.
 */
static void console_issue(struct console *c, struct session *s, const struct session *last)
{
	const struct console_action *a = console_pick(c);

	if (a->window != WINDOW_SUSPEND || (last->state == SESSION_IDLE && !c->restart.old))
		session_issue(c, s, a);
}

/* One step of all sessions; with stop, nothing new is issued. True when all is quiet. */
static bool console_step(struct console *c, bool stop, int64_t *next_us)
{
	struct session *last = &c->sessions[CONSOLE_SESSIONS - 1];
	struct console_undo undo;
	bool quiet = c->n_undos == 0 && !c->restart.old;

	console_restart_step(c, stop);
	for (int i = 0; i < CONSOLE_SESSIONS; i++) {
		struct session *s = &c->sessions[i];

		session_step(c, s);
		if (s != last && s->state == SESSION_IDLE && !stop && now_us() >= *next_us) {
			*next_us = now_us() + (int64_t)rng_below(&c->rng, 2000ull * c->opt->console_ms);
			console_issue(c, s, last);
		}
		quiet = quiet && (s->state == SESSION_IDLE || (s != last && s->state == SESSION_DOWN));
	}
	if (last->state == SESSION_IDLE && console_next_undo(c, &undo, stop)) {
		session_undo(c, last, &undo);
		quiet = false;
	}
	return quiet;
}

static void *console_work(void *arg)
{
	struct console *c = arg;
	int64_t next_us = now_us();
	int64_t end_us = 0;

	for (;;) {
		bool stop = atomic_load(&c->stop);

		if (stop && !end_us)
			end_us = now_us() + 3 * CONSOLE_ANSWER_US;
		if (console_step(c, stop, &next_us) && stop)
			break;
		if (stop && now_us() > end_us) {
			console_wrong(c, "the console does not come to rest");
			break;
		}
		usleep(CONSOLE_STEP_US);
	}
	return NULL;
}

struct console *console_start(const struct options *opt)
{
	struct console *c = xmalloc(sizeof(*c));

	memset(c, 0, sizeof(*c));
	c->opt = opt;
	c->rng = rng_make(opt->seed, 1ull << 60);
	c->start_us = now_us();
	c->dbs[0] = opt->dbname;
	c->dbs[1] = opt->extra_dbname;
	c->log = fopen(opt->console_log, "w");
	for (int i = 1; opt->console_sabotage && i < N_CSABS; i++)
		if (strcmp(opt->console_sabotage, console_sabotages[i]) == 0)
			c->sabotage = (enum console_sabotage)i;
	if (!c->log) {
		perror(opt->console_log);
		exit(3);
	}
	console_read_ini(c);
	if (pthread_create(&c->thread, NULL, console_work, c) != 0) {
		perror("could not start a thread");
		exit(3);
	}
	return c;
}

/* ---- the end ---- */

/* A command that must succeed, or must find nothing to do. */
static void console_do(struct console *c, PGconn *conn, const char *sql)
{
	PGresult *res = PQexec(conn, sql);
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	console_log(c, "end: %s: %s", sql, text ? text : PQcmdStatus(res));
	if (PQresultStatus(res) == PGRES_FATAL_ERROR && !console_permits(CONSOLE_UNDO_ERRORS, text ? text : ""))
		console_wrong(c, "\"%s\" was answered with \"%s\"", sql, text ? text : PQerrorMessage(conn));
	PQclear(res);
}

void console_settle(struct console *c)
{
	char sql[CONSOLE_SQL_BYTES];
	PGconn *conn;

	atomic_store(&c->stop, true);
	pthread_join(c->thread, NULL);
	for (int i = 0; i < CONSOLE_SESSIONS; i++)
		session_drop(&c->sessions[i]);
	console_write_ini(c, false, true);
	conn = console_open(c);
	if (!conn)
		return;
	console_do(c, conn, "RELOAD");
	console_do(c, conn, "RESUME");
	for (unsigned db = 0; db < N_DBS; db++) {
		snprintf(sql, sizeof(sql), "RESUME %s", c->dbs[db]);
		console_do(c, conn, sql);
		snprintf(sql, sizeof(sql), "ENABLE %s", c->dbs[db]);
		console_do(c, conn, sql);
	}
	if (c->sabotage == CSAB_RESUME)
		console_do(c, conn, "PAUSE");
	PQfinish(conn);
	console_doubt_pauses(c);
	for (int w = 0; w < N_WINDOWS; w++)
		for (unsigned db = 0; db < N_DBS; db++)
			if (c->open[w][db])
				excuse_close((enum excuse_window)w, db);
}

void console_print(const struct console *c)
{
	printf("commands of the administrator: %u, %u of them refused\n", c->total, c->refused);
	if (c->opt->restart)
		printf("  %10u  restarts, and %u that were refused\n", c->restart.done, c->restart.refused);
	for (size_t i = 0; i < N_ACTIONS; i++)
		printf("  %10u  %s%s\n", c->issued[i], console_actions[i].sql,
		       console_actions[i].kind == KIND_VANISH ? " without the extra database" : "");
}

void console_free(struct console *c)
{
	fclose(c->log);
	free(c->ini);
	free(c);
}
