/*
 * The account at the end, when all clients have left: nothing may be counted that is not there, on neither side.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "console_int.h"
#include "direct.h"
#include "report.h"

#define ACCOUNT_TRY_US    200000
#define ACCOUNT_LIMIT_US  (20 * 1000000LL)
#define ACCOUNT_WHY_BYTES 400

#define ACCOUNT_PG_COUNT                                                                       \
	"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> " \
	"pg_backend_pid() AND backend_type = 'client backend'"

struct account {
	struct console *console;
	PGconn *conn;
	struct direct *direct;
	char why[ACCOUNT_WHY_BYTES]; /* what does not add up; "" when all does */
};

static void account_blame(struct account *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void account_blame(struct account *a, const char *fmt, ...)
{
	va_list ap;

	if (a->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(a->why, sizeof(a->why), fmt, ap);
	va_end(ap);
}

static PGresult *account_show(struct account *a, const char *sql)
{
	PGresult *res = PQexec(a->conn, sql);

	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		account_blame(a, "%s: %s", sql, PQerrorMessage(a->conn));
	return res;
}

/* A number in a row; -1 when there is no such column. */
static long account_number(const PGresult *res, int row, const char *column)
{
	int col = PQfnumber(res, column);

	return col < 0 ? -1 : atol(PQgetvalue(res, row, col));
}

/* The row whose first column is this; -1 when there is none. */
static int account_row(const PGresult *res, const char *first)
{
	for (int row = 0; row < PQntuples(res); row++)
		if (strcmp(PQgetvalue(res, row, 0), first) == 0)
			return row;
	return -1;
}

/* The servers of a database's pools, which must all be free. */
static long account_pools(struct account *a, const char *db)
{
	static const char *const zero[] = {
		"cl_active", "cl_waiting",       "cl_active_cancel_req", "cl_waiting_cancel_req",
		"sv_active", "sv_active_cancel", "sv_being_canceled",    "sv_tested",
		"sv_login"
	};
	PGresult *res = account_show(a, "SHOW POOLS");
	long servers = 0;

	for (int row = 0; row < PQntuples(res); row++) {
		if (strcmp(PQgetvalue(res, row, 0), db) != 0)
			continue;
		for (size_t i = 0; i < sizeof(zero) / sizeof(zero[0]); i++)
			if (account_number(res, row, zero[i]) != 0)
				account_blame(a, "SHOW POOLS: %s of %s is %ld, and there are no clients", zero[i], db,
					      account_number(res, row, zero[i]));
		servers += account_number(res, row, "sv_idle") + account_number(res, row, "sv_used");
	}
	PQclear(res);
	return servers;
}

static void account_expect(struct account *a, const PGresult *res, const char *table, const char *name,
			   const char *column, long wanted)
{
	int row = account_row(res, name);
	long n = row < 0 ? 0 : account_number(res, row, column);

	if (n != wanted)
		account_blame(a, "%s: %s of %s is %ld, not %ld", table, column, name, n, wanted);
}

/* Compares everything; a->why says what differs. */
static void account_check(struct account *a)
{
	const struct console *c = a->console;
	PGresult *dbs = account_show(a, "SHOW DATABASES");
	PGresult *users = account_show(a, "SHOW USERS");
	PGresult *lists = account_show(a, "SHOW LISTS");
	long total = 0;
	int64_t real;

	for (int i = 0; i < N_DBS; i++) {
		long servers = account_pools(a, c->dbs[i]);

		account_expect(a, dbs, "SHOW DATABASES", c->dbs[i], "current_connections", servers);
		account_expect(a, dbs, "SHOW DATABASES", c->dbs[i], "current_client_connections", 0);
		total += servers;
	}
	account_expect(a, users, "SHOW USERS", c->opt->user, "current_connections", total);
	account_expect(a, users, "SHOW USERS", c->opt->user, "current_client_connections", 0);
	account_expect(a, lists, "SHOW LISTS", "used_servers", "items", total);
	account_expect(a, lists, "SHOW LISTS", "used_clients", "items", 1); /* we ourselves */
	account_expect(a, lists, "SHOW LISTS", "login_clients", "items", 0);
	real = direct_number(a->direct, ACCOUNT_PG_COUNT);
	if (real != total)
		account_blame(a, "the pooler says it has %ld servers, PostgreSQL says %lld", total, (long long)real);
	PQclear(dbs);
	PQclear(users);
	PQclear(lists);
}

/* Tries until everything is right, for a while. */
static void account_settle(struct account *a, const char *when)
{
	int64_t end = now_us() + ACCOUNT_LIMIT_US;
	char text[ACCOUNT_WHY_BYTES + 40];

	for (;;) {
		a->why[0] = 0;
		account_check(a);
		if (!a->why[0])
			return;
		if (now_us() > end)
			break;
		usleep(ACCOUNT_TRY_US);
	}
	snprintf(text, sizeof(text), "%s: %s", when, a->why);
	report_wrong_plain(text);
}

/* A PAUSE must come to its end, and then no server may be left. */
static void account_pause(struct account *a)
{
	int64_t start = now_us();
	PGresult *res = PQexec(a->conn, "PAUSE");

	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		report_wrong_plain("PAUSE at the end is refused");
	PQclear(res);
	if (now_us() - start > ACCOUNT_LIMIT_US)
		report_wrong_plain("PAUSE at the end takes too long");
	account_settle(a, "after all clients have left, under PAUSE");
	a->why[0] = 0;
	for (int i = 0; i < N_DBS; i++)
		if (account_pools(a, a->console->dbs[i]) > 0)
			report_wrong_plain("servers are left after PAUSE");
	PQclear(PQexec(a->conn, "RESUME"));
}

void console_account(struct console *c)
{
	const struct options *opt = c->opt;
	struct account a = { .console = c, .conn = console_open(c) };
	struct direct *extra = NULL;

	if (!a.conn)
		return;
	a.direct = direct_open(opt->check_host, opt->check_port, opt->user, opt->check_dbname);
	if (c->sabotage == CSAB_LEAK)
		extra = direct_open(opt->check_host, opt->check_port, opt->user, opt->check_dbname);
	account_settle(&a, "after all clients have left");
	account_pause(&a);
	if (extra)
		direct_close(extra);
	direct_close(a.direct);
	PQfinish(a.conn);
}
