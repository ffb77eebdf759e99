/* SHOW RETRIES: statements that failed and were run again, or not, by cause. */
#include "admin/show.h"
#include "pool/pool.h"
#include "pool/registry_walk.h"
#include "proto/build.h"

struct retry_row {
	const char *database;
	const char *user;
	const char *sqlstate;
	int64_t count[RETRY_OUTCOMES_N];
};

static const struct show_column show_retries_columns[] = {
	{ "database", OID_TEXT, SHOW_TEXT, offsetof(struct retry_row, database), "database of the pool" },
	{ "user", OID_TEXT, SHOW_TEXT, offsetof(struct retry_row, user), "user of the pool" },
	{ "sqlstate", OID_TEXT, SHOW_TEXT, offsetof(struct retry_row, sqlstate), "why statements failed" },
#define X(id, column, help) { column, OID_INT8, SHOW_INT, offsetof(struct retry_row, count[RETRY_##id]), help },
	RETRY_OUTCOMES(X)
#undef X
};

static int show_compare_retries(const void *a, const void *b)
{
	const struct retry_row *x = a;
	const struct retry_row *y = b;
	int order = strcmp(x->database, y->database);

	if (order == 0)
		order = strcmp(x->user, y->user);
	return order != 0 ? order : strcmp(x->sqlstate, y->sqlstate);
}

/* A row for each cause that there was. */
static void show_add_retries(struct show *show, const struct pool *pool)
{
	for (int cause = 0; cause < RETRY_CAUSES_N; cause++) {
		struct retry_row sum = { .sqlstate = retry_cause_sqlstate((enum retry_cause)cause) };
		int64_t all = 0;

		for (unsigned i = 0; i < show->engine->worker_count; i++)
			for (int id = 0; id < RETRY_OUTCOMES_N; id++)
				sum.count[id] += (int64_t)atomic_load_explicit(&pool->parts[i]->retries[cause][id],
									       memory_order_relaxed);
		for (int id = 0; id < RETRY_OUTCOMES_N; id++)
			all += sum.count[id];
		if (all == 0)
			continue;
		sum.database = show_keep_text(&show->rows, pool->db->name);
		sum.user = show_keep_text(&show->rows, pool->account->name);
		*(struct retry_row *)show_add_row(&show->rows) = sum;
	}
}

static void show_fill_retries(struct show *show)
{
	struct pool **pools;
	size_t n = registry_pools(show->engine, &pools);

	for (size_t i = 0; i < n; i++)
		show_add_retries(show, pools[i]);
	free(pools);
	show_sort(&show->rows, show_compare_retries);
}

const struct show_table show_retries = {
	.name = "RETRIES",
	.help = "Statements that failed and were run again, or could not be, by cause.",
	.right = COMMAND_FOR_STATS,
	.columns = show_retries_columns,
	.column_count = ARRAY_LEN(show_retries_columns),
	.row_size = sizeof(struct retry_row),
	.visit = show_await_loops,
	.fill = show_fill_retries,
};
