/*
 * SHOW QUEUE and SHOW QUEUES: who waits for a server, and how fast the queues
 * are. Workers describe their clients in slices, as in SHOW CLIENTS; the places
 * follow from the order of the tickets when all have answered. So it is in SHOW
 * CLIENTS under [pgsluice], too.
 */
#include "admin/show.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "pool/client.h"
#include "pool/queue.h"
#include "pool/registry_walk.h"
#include "proto/build.h"

/* In one turn of a worker: rows, and slots that are looked at for them. */
#define WAITER_SLICE_ROWS  64
#define WAITER_SLICE_SLOTS 1024

struct waiter_row {
	const char *database;
	const char *user;
	const char *pool_user;
	int64_t client_id;
	struct show_waiter waiter;
};

#define WAITER(name, kind, field, help)                                                                       \
	{                                                                                                     \
		name, kind == SHOW_TEXT ? OID_TEXT : OID_INT8, kind, offsetof(struct waiter_row, field), help \
	}

static const struct show_column show_queue_columns[] = {
	WAITER("database", SHOW_TEXT, database, "database of the pool"),
	WAITER("user", SHOW_TEXT, pool_user, "user of the pool"),
	WAITER("client_user", SHOW_TEXT, user, "user that the client logged in as"),
	WAITER("client_id", SHOW_INT, client_id, "number of the client in SHOW CLIENTS"),
	SHOW_WAITER_COLUMNS(waiter_row, ""),
};

/* ---- in any table ---- */

int64_t show_wait_ms(uint64_t us)
{
	return us == QUEUE_UNKNOWN ? SHOW_NULL : (int64_t)(us / 1000);
}

const struct show_waiter show_no_waiter = {
	.position = SHOW_NULL,
	.age_ms = SHOW_NULL,
	.deadline_ms = SHOW_NULL,
	.estimate_ms = SHOW_NULL,
};

bool show_describe_waiter(const struct client *client, struct show_waiter *waiter)
{
	uint64_t now_us = loop_now_us(client->part->worker->ctx.loop);
	struct queue_place place;
	uint64_t age_us;

	*waiter = show_no_waiter;
	if ((client->state != CL_WAITING && client->state != CL_WELCOME) || !queue_get_place(client, now_us, &place))
		return false;
	age_us = now_us > client->wait_us ? now_us - client->wait_us : 0;
	waiter->pool = client->pool;
	waiter->ticket = place.ticket;
	waiter->client_id = client->id;
	waiter->age_ms = show_wait_ms(age_us);
	waiter->deadline_ms = show_wait_ms(client_wait_left_us(client, now_us, age_us));
	waiter->estimate_ms = show_wait_ms(place.wait_us);
	return true;
}

static int show_compare_places(const void *a, const void *b)
{
	const struct show_waiter *x = *(const struct show_waiter *const *)a;
	const struct show_waiter *y = *(const struct show_waiter *const *)b;

	if (x->pool != y->pool)
		return (uintptr_t)x->pool < (uintptr_t)y->pool ? -1 : 1;
	if (x->ticket != y->ticket)
		return x->ticket < y->ticket ? -1 : 1;
	return x->client_id < y->client_id ? -1 : x->client_id > y->client_id;
}

void show_rank_waiters(const struct show_rows *rows, size_t offset)
{
	struct show_waiter **order = xcalloc(rows->count + 1, sizeof(struct show_waiter *));
	size_t n = 0;

	for (size_t i = 0; i < rows->count; i++) {
		order[n] = (struct show_waiter *)((uint8_t *)show_row(rows, i) + offset);
		n += order[n]->pool != NULL;
	}
	qsort(order, n, sizeof(struct show_waiter *), show_compare_places);
	for (size_t i = 0; i < n; i++)
		order[i]->position = i > 0 && order[i - 1]->pool == order[i]->pool ? order[i - 1]->position + 1 : 1;
	free(order);
}

/* ---- SHOW QUEUE ---- */

static void queue_add_waiter(const struct client *client, struct show_rows *rows)
{
	struct show_waiter waiter;
	struct waiter_row *row;

	if (!show_describe_waiter(client, &waiter))
		return;
	row = show_add_row(rows);
	row->database = show_keep_text(rows, client->pool->db->name);
	row->pool_user = show_keep_text(rows, client->pool->account->name);
	row->user = show_keep_text(rows, client->account->name);
	row->client_id = (int64_t)client->id;
	row->waiter = waiter;
}

static bool show_visit_queue(struct show_visit *visit)
{
	const struct worker *worker = visit->worker;
	size_t rows_max = visit->rows->count + WAITER_SLICE_ROWS;
	uint64_t end = *visit->at + WAITER_SLICE_SLOTS;

	if (worker == NULL)
		return false;
	while (*visit->at < worker->slot_count && *visit->at < end && visit->rows->count < rows_max) {
		const struct client *client = worker->slots[(*visit->at)++].client;

		if (client != NULL)
			queue_add_waiter(client, visit->rows);
	}
	return *visit->at < worker->slot_count;
}

static int show_compare_waiters(const void *a, const void *b)
{
	const struct waiter_row *x = a;
	const struct waiter_row *y = b;
	int order = 0;

	if (x->waiter.pool != y->waiter.pool)
		order = strcmp(x->database, y->database);
	if (order == 0 && x->waiter.pool != y->waiter.pool)
		order = strcmp(x->pool_user, y->pool_user);
	if (order == 0 && x->waiter.position != y->waiter.position)
		order = x->waiter.position < y->waiter.position ? -1 : 1;
	return order;
}

static void show_fill_queue(struct show *show)
{
	for (unsigned i = 0; i < show->part_count; i++)
		for (size_t j = 0; j < show->parts[i].count; j++)
			*(struct waiter_row *)show_add_row(&show->rows) =
				*(const struct waiter_row *)show_row(&show->parts[i], j);
	show_rank_waiters(&show->rows, offsetof(struct waiter_row, waiter));
	show_sort(&show->rows, show_compare_waiters);
}

const struct show_table show_queue = {
	.name = "QUEUE",
	.help = "The clients that wait for a server, in the order of their queues.",
	.right = COMMAND_FOR_STATS,
	.columns = show_queue_columns,
	.column_count = ARRAY_LEN(show_queue_columns),
	.row_size = sizeof(struct waiter_row),
	.part_row_size = sizeof(struct waiter_row),
	.visit = show_visit_queue,
	.fill = show_fill_queue,
};

/* ---- SHOW QUEUES ---- */

struct queue_row {
	const char *database;
	const char *user;
	int64_t waiting;
	int64_t max_waiting;
	int64_t maxwait_ms;
	int64_t estimate_ms;
	int64_t refused;
	int64_t shed;
};

#define QUEUE(name, kind, field, help)                                                                       \
	{                                                                                                    \
		name, kind == SHOW_TEXT ? OID_TEXT : OID_INT8, kind, offsetof(struct queue_row, field), help \
	}

static const struct show_column show_queues_columns[] = {
	QUEUE("database", SHOW_TEXT, database, "database of the pool"),
	QUEUE("user", SHOW_TEXT, user, "user of the pool"),
	QUEUE("waiting", SHOW_INT, waiting, "clients that wait with a query"),
	QUEUE("max_waiting", SHOW_INT, max_waiting, "how many may; 0: no limit"),
	QUEUE("maxwait_ms", SHOW_INT, maxwait_ms, "milliseconds that the first of them has waited"),
	QUEUE("estimated_ms", SHOW_MAYBE, estimate_ms, SHOW_NEWCOMER_HELP),
	QUEUE("refused", SHOW_INT, refused, "clients that were refused because of max_waiting_clients"),
	QUEUE("shed", SHOW_INT, shed, "clients that were refused because of queue_shed"),
};

static int show_compare_queues(const void *a, const void *b)
{
	const struct queue_row *x = a;
	const struct queue_row *y = b;
	int order = strcmp(x->database, y->database);

	return order != 0 ? order : strcmp(x->user, y->user);
}

static void show_fill_queues(struct show *show)
{
	uint64_t now_us = clock_mono_us();
	struct pool **pools;
	size_t n = registry_pools(show->engine, &pools);

	for (size_t i = 0; i < n; i++) {
		struct queue_row *row = show_add_row(&show->rows);
		struct queue_facts facts;

		queue_get_facts(pools[i], now_us, &facts);
		row->database = show_keep_text(&show->rows, pools[i]->db->name);
		row->user = show_keep_text(&show->rows, pools[i]->account->name);
		row->waiting = (int64_t)facts.waiting;
		row->max_waiting = facts.limit;
		if (facts.oldest_us > 0 && facts.oldest_us < now_us)
			row->maxwait_ms = show_wait_ms(now_us - facts.oldest_us);
		row->estimate_ms = show_wait_ms(facts.wait_us);
		row->refused = (int64_t)facts.refused;
		row->shed = (int64_t)facts.shed;
	}
	free(pools);
	show_sort(&show->rows, show_compare_queues);
}

const struct show_table show_queues = {
	.name = "QUEUES",
	.help = "The queues of the pools: how long they are, how fast, and how many clients were refused.",
	.right = COMMAND_FOR_STATS,
	.columns = show_queues_columns,
	.column_count = ARRAY_LEN(show_queues_columns),
	.row_size = sizeof(struct queue_row),
	.visit = show_await_loops,
	.fill = show_fill_queues,
};
