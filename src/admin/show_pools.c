/*
 * SHOW POOLS: each worker counts its own clients and servers by state, the
 * control loop adds the counts up and asks the pools for their queues.
 *
 * With thousands of pools that takes a worker several slices. A part of a pool
 * may go or come meanwhile; their numbers tell where the last slice has ended.
 */
#include "admin/show.h"
#include "core/clock.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/queue.h"
#include "pool/registry_walk.h"
#include "pool/server.h"
#include "proto/build.h"

/* Parts and servers that a worker looks at in one turn, about. */
#define POOLS_SLICE 256

/* What is counted: name of the column, text for the manual. */
#define POOL_COUNT_TABLE(X)                                                                      \
	X(cl_active, "clients that are linked to a server or idle")                              \
	X(cl_waiting, "clients that wait for a server")                                          \
	X(cl_active_cancel_req, "cancel requests that are being passed on")                      \
	X(cl_waiting_cancel_req, "cancel requests that wait to be passed on")                    \
	X(sv_active, "servers linked to a client")                                               \
	X(sv_active_cancel, "connections that carry a cancel request")                           \
	X(sv_being_canceled, "servers that are free but for a cancel request under way to them") \
	X(sv_idle, "servers ready to use")                                                       \
	X(sv_used, "idle servers that are checked before their next use")                        \
	X(sv_tested, "servers that run the reset or check query")                                \
	X(sv_login, "servers that log in")

enum pool_count_id {
#define X(name, help) COUNT_##name,
	POOL_COUNT_TABLE(X)
#undef X
		COUNT_COUNT
};

/* What a worker says of its part of a pool. */
struct pool_part_row {
	const struct pool *pool;
	int64_t count[COUNT_COUNT];
};

struct pool_row {
	const char *database;
	const char *user;
	int64_t count[COUNT_COUNT];
	int64_t maxwait;
	int64_t maxwait_us;
	const char *pool_mode;
	const char *load_balance_hosts;
	int64_t estimate_ms;
};

static const struct show_column show_pools_columns[] = {
	{ "database", OID_TEXT, SHOW_TEXT, offsetof(struct pool_row, database), "database of the pool" },
	{ "user", OID_TEXT, SHOW_TEXT, offsetof(struct pool_row, user), "user of the pool" },
#define X(name, help) { #name, OID_INT4, SHOW_INT, offsetof(struct pool_row, count[COUNT_##name]), help },
	POOL_COUNT_TABLE(X)
#undef X
		{ "maxwait", OID_INT4, SHOW_INT, offsetof(struct pool_row, maxwait),
		  "seconds that the client first in the queue has waited" },
	{ "maxwait_us", OID_INT4, SHOW_INT, offsetof(struct pool_row, maxwait_us), "microseconds beyond these" },
	{ "pool_mode", OID_TEXT, SHOW_TEXT, offsetof(struct pool_row, pool_mode), "session, transaction or statement" },
	{ "load_balance_hosts", OID_TEXT, SHOW_TEXT, offsetof(struct pool_row, load_balance_hosts),
	  "how one of several hosts is chosen; NULL with one" },
	{ "estimated_ms", OID_INT8, SHOW_MAYBE, offsetof(struct pool_row, estimate_ms), SHOW_NEWCOMER_HELP },
};

/* ---- on the workers ---- */

static enum pool_count_id pool_server_column(const struct server *server, uint64_t now_us)
{
	switch (server->state) {
	case SV_LOGIN:
		return COUNT_sv_login;
	case SV_IDLE:
		return show_server_needs_check(server, now_us) ? COUNT_sv_used : COUNT_sv_idle;
	case SV_TRAVEL:
		return COUNT_sv_idle;
	case SV_ACTIVE:
		return COUNT_sv_active;
	case SV_TESTED:
		return COUNT_sv_tested;
	case SV_CANCELED:
		return COUNT_sv_being_canceled;
	case SV_CLOSED:
	case SERVER_STATES:
		break;
	}
	return COUNT_COUNT;
}

/* Returns how many were looked at. */
static unsigned pool_count_part(struct worker *worker, const struct pool_part *part, struct pool_part_row *row)
{
	uint64_t now_us = loop_now_us(worker->ctx.loop);
	const struct server *server;
	enum pool_count_id id;
	struct cancel_counts cancels = cancel_count(worker, part->pool);
	unsigned looked = 1;

	row->count[COUNT_cl_waiting] = part->waiting;
	row->count[COUNT_cl_active] = part->present - part->waiting;
	TAILQ_FOREACH (server, &part->servers, entry) {
		id = pool_server_column(server, now_us);
		if (id != COUNT_COUNT)
			row->count[id]++;
		looked++;
	}
	row->count[COUNT_cl_waiting_cancel_req] = cancels.waiting;
	row->count[COUNT_cl_active_cancel_req] = cancels.active;
	row->count[COUNT_sv_active_cancel] = cancels.sent;
	row->count[COUNT_sv_login] += cancels.opening;
	return looked;
}

static bool show_visit_pools(struct show_visit *visit)
{
	const struct pool_part *part;
	unsigned looked = 0;

	if (visit->worker == NULL)
		return false;
	TAILQ_FOREACH (part, &visit->worker->parts, entry) {
		struct pool_part_row *row;

		if (part->number <= *visit->at)
			continue;
		if (looked >= POOLS_SLICE)
			return true;
		row = show_add_row(visit->rows);
		row->pool = part->pool;
		looked += pool_count_part(visit->worker, part, row);
		*visit->at = part->number;
	}
	return false;
}

/* ---- on the control loop ---- */

static int show_compare_parts(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct pool_part_row *)a)->pool;
	uintptr_t y = (uintptr_t)((const struct pool_part_row *)b)->pool;

	return x < y ? -1 : x > y;
}

/* Adds what the workers have said of the pool, each in a list that is sorted. */
static void show_add_counts(const struct show *show, const struct pool *pool, struct pool_row *row)
{
	const struct pool_part_row key = { .pool = pool };

	for (unsigned i = 0; i < show->part_count; i++) {
		const struct show_rows *rows = &show->parts[i];
		const struct pool_part_row *part = NULL;

		if (rows->count > 0)
			part = bsearch(&key, rows->data, rows->count, rows->row_size, show_compare_parts);
		for (size_t k = 0; part != NULL && k < COUNT_COUNT; k++)
			row->count[k] += part->count[k];
	}
}

/* Idle servers that were between two workers, where no worker has seen them. */
static void show_add_travelling(const struct pool_counts *counts, struct pool_row *row)
{
	int64_t missing = counts->servers;

	for (size_t id = COUNT_sv_active; id < COUNT_COUNT; id++)
		missing -= id == COUNT_sv_active_cancel ? 0 : row->count[id];
	if (missing > 0)
		row->count[COUNT_sv_idle] += missing < counts->travelling ? missing : counts->travelling;
}

static void show_add_pool(struct show *show, struct pool *pool)
{
	struct pool_conf *conf = registry_pool_conf(pool);
	struct pool_row *row = show_add_row(&show->rows);
	struct pool_counts counts;
	struct queue_facts facts;

	row->database = show_keep_text(&show->rows, pool->db->name);
	row->user = show_keep_text(&show->rows, pool->account->name);
	show_add_counts(show, pool, row);
	pool_count(pool, &counts);
	show_add_travelling(&counts, row);
	if (counts.oldest_wait_us > 0 && counts.oldest_wait_us < show->now_us) {
		row->maxwait = (int64_t)((show->now_us - counts.oldest_wait_us) / USEC_PER_SEC);
		row->maxwait_us = (int64_t)((show->now_us - counts.oldest_wait_us) % USEC_PER_SEC);
	}
	row->pool_mode = conf_pool_mode_name(conf->mode);
	if (conf->db->host.count > 1)
		row->load_balance_hosts = conf_load_balance_name((enum conf_load_balance)conf->db->load_balance_hosts);
	pool_conf_release(&conf);
	queue_get_facts(pool, show->now_us, &facts);
	row->estimate_ms = show_wait_ms(facts.wait_us);
}

static void show_add_console_pool(struct show *show)
{
	struct pool_row *row = show_add_row(&show->rows);

	row->database = show->admin->db_name;
	row->user = ADMIN_POOL_USER;
	row->count[COUNT_cl_active] = show->admin->console_count;
	row->pool_mode = conf_pool_mode_name(CONF_POOL_STATEMENT);
	row->estimate_ms = SHOW_NULL;
}

static int show_compare_pools(const void *a, const void *b)
{
	const struct pool_row *x = a;
	const struct pool_row *y = b;
	int order = strcmp(x->database, y->database);

	return order != 0 ? order : strcmp(x->user, y->user);
}

static void show_fill_pools(struct show *show)
{
	struct pool **pools;
	size_t n = registry_pools(show->engine, &pools);

	show->now_us = clock_mono_us();
	for (unsigned i = 0; i < show->part_count; i++)
		show_sort(&show->parts[i], show_compare_parts);
	for (size_t i = 0; i < n; i++)
		show_add_pool(show, pools[i]);
	free(pools);
	show_add_console_pool(show);
	show_sort(&show->rows, show_compare_pools);
}

const struct show_table show_pools = {
	.name = "POOLS",
	.help = "The pools, one for each pair of database and user that has been asked for, and the console.",
	.right = COMMAND_FOR_STATS,
	.in_help = true,
	.columns = show_pools_columns,
	.column_count = ARRAY_LEN(show_pools_columns),
	.own_count = 1,
	.row_size = sizeof(struct pool_row),
	.part_row_size = sizeof(struct pool_part_row),
	.visit = show_visit_pools,
	.fill = show_fill_pools,
};
