/*
 * SHOW TIMEOUTS: what has become of queries over their limit, and of the servers
 * of clients that went in the middle of their work. Workers count; here it is
 * added up.
 */
#include "admin/show.h"
#include "pool/query_timeout.h"
#include "proto/build.h"

struct timeout_row {
	const char *name;
	int64_t value;
	const char *meaning;
};

static const struct show_column show_timeouts_columns[] = {
	{ "name", OID_TEXT, SHOW_TEXT, offsetof(struct timeout_row, name), "of what" },
	{ "value", OID_INT8, SHOW_INT, offsetof(struct timeout_row, value), "how many since the start" },
	{ "meaning", OID_TEXT, SHOW_TEXT, offsetof(struct timeout_row, meaning), "in words" },
};

static bool show_visit_timeouts(struct show_visit *visit)
{
	struct query_timeout_counts *row;

	if (visit->worker == NULL)
		return false;
	row = show_add_row(visit->rows);
	*row = visit->worker->timeouts;
	return false;
}

static void show_add_timeout(struct show *show, const char *name, uint64_t value, const char *meaning)
{
	struct timeout_row *row = show_add_row(&show->rows);

	*row = (struct timeout_row){ name, (int64_t)value, meaning };
}

static void show_fill_timeouts(struct show *show)
{
	struct query_timeout_counts sum = { 0 };

	for (unsigned i = 0; i < show->part_count; i++)
		for (size_t j = 0; j < show->parts[i].count; j++) {
			const struct query_timeout_counts *row = show_row(&show->parts[i], j);

#define X(id, help) sum.id += row->id;
			QUERY_TIMEOUT_TABLE(X)
#undef X
		}
#define X(id, help) show_add_timeout(show, #id, sum.id, help);
	QUERY_TIMEOUT_TABLE(X)
#undef X
}

const struct show_table show_timeouts = {
	.name = "TIMEOUTS",
	.help = "Queries that took longer than they may, and servers whose client went in the middle of its work.",
	.right = COMMAND_FOR_STATS,
	.columns = show_timeouts_columns,
	.column_count = ARRAY_LEN(show_timeouts_columns),
	.row_size = sizeof(struct timeout_row),
	.part_row_size = sizeof(struct query_timeout_counts),
	.visit = show_visit_timeouts,
	.fill = show_fill_timeouts,
};
