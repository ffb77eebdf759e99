/*
 * SHOW STATS and its relatives: the counters of pool/stats.h, each under the
 * names that PgBouncer gives it in each of the tables, which do not agree with
 * each other. The names are what monitoring looks for.
 */
#include "admin/show.h"
#include "proto/build.h"

/*
 * The counter, and its name in: SHOW STATS (after total_ and avg_),
 * SHOW STATS_TOTALS, SHOW STATS_AVERAGES, SHOW TOTALS (after total_ and avg_).
 */
#define SHOW_STATS_TABLE(X)                                                                                  \
	X(server_assignment_count, "total_server_assignment_count", "avg_server_assignment_count",           \
	  "server_assignment_count", "server_assignment_count", "server_assignment_count")                   \
	X(xact_count, "total_xact_count", "avg_xact_count", "xact_count", "xact_count", "xact_count")        \
	X(query_count, "total_query_count", "avg_query_count", "query_count", "query_count", "query_count")  \
	X(bytes_received, "total_received", "avg_recv", "bytes_received", "bytes_received", "client_bytes")  \
	X(bytes_sent, "total_sent", "avg_sent", "bytes_sent", "bytes_sent", "server_bytes")                  \
	X(xact_time, "total_xact_time", "avg_xact_time", "xact_time", "xact_time", "xact_time")              \
	X(query_time, "total_query_time", "avg_query_time", "query_time", "query_time", "query_time")        \
	X(wait_time, "total_wait_time", "avg_wait_time", "wait_time", "wait_time", "wait_time")              \
	X(client_parse_count, "total_client_parse_count", "avg_client_parse_count", "client_parse_count",    \
	  "avg_client_parse_count", "ps_client_parse_count")                                                 \
	X(server_parse_count, "total_server_parse_count", "avg_server_parse_count", "server_parse_count",    \
	  "avg_server_parse_count", "ps_server_parse_count")                                                 \
	X(bind_count, "total_bind_count", "avg_bind_count", "bind_count", "avg_bind_count", "ps_bind_count") \
	X(client_login_count, "total_client_login_count", "avg_client_login_count", "client_login_count",    \
	  "avg_client_login_count", "client_login_count")

/* Texts for the manual, by the name of the counter. */
#define SHOW_PER_SECOND     "per second"
#define SHOW_PER_XACT       "per transaction"
#define SHOW_PER_QUERY      "per query"
#define SHOW_PER_ASSIGNMENT "per time a server was given to a client"
#define X(id, per, help)                               \
	static const char show_help_sum_##id[] = help; \
	static const char show_help_avg_##id[] = help ", " SHOW_PER_##per;
STATS_TABLE(X)
#undef X

/* 64 bits of a counter are shown as they are: the cast of show_value() would matter after 2^63 only. */
#define TOTAL(id)   offsetof(struct rollup_row, total.value[STAT_##id])
#define AVERAGE(id) offsetof(struct rollup_row, avg.value[STAT_##id])
#define DATABASE_COL                                                                                           \
	{                                                                                                      \
		"database", OID_TEXT, SHOW_TEXT, offsetof(struct rollup_row, database), "name of the database" \
	}

static const struct show_column show_stats_columns[] = { DATABASE_COL,
#define X(id, in_sums, in_rates, in_totals, in_averages, in_all) \
	{ in_sums, OID_NUMERIC, SHOW_INT, TOTAL(id), show_help_sum_##id },
							 SHOW_STATS_TABLE(X)
#undef X
#define X(id, in_sums, in_rates, in_totals, in_averages, in_all) \
	{ in_rates, OID_NUMERIC, SHOW_INT, AVERAGE(id), show_help_avg_##id },
								 SHOW_STATS_TABLE(X)
#undef X
};

static const struct show_column show_stats_totals_columns[] = { DATABASE_COL,
#define X(id, in_sums, in_rates, in_totals, in_averages, in_all) \
	{ in_totals, OID_NUMERIC, SHOW_INT, TOTAL(id), show_help_sum_##id },
								SHOW_STATS_TABLE(X)
#undef X
};

static const struct show_column show_stats_averages_columns[] = { DATABASE_COL,
#define X(id, in_sums, in_rates, in_totals, in_averages, in_all) \
	{ in_averages, OID_NUMERIC, SHOW_INT, AVERAGE(id), show_help_avg_##id },
								  SHOW_STATS_TABLE(X)
#undef X
};

static void show_fill_stats(struct show *show)
{
	struct rollup_row *rows;
	size_t n = rollup_databases(show->admin->rollup, show->now_us, &rows);

	for (size_t i = 0; i < n; i++) {
		struct rollup_row *row = show_add_row(&show->rows);

		*row = rows[i];
		row->database = show_keep_text(&show->rows, rows[i].database);
	}
	free(rows);
}

#define STATS_SHOW(variable, text, cols, about)        \
	const struct show_table variable = {           \
		.name = text,                          \
		.help = about,                         \
		.right = COMMAND_FOR_STATS,            \
		.in_help = true,                       \
		.columns = cols,                       \
		.column_count = ARRAY_LEN(cols),       \
		.row_size = sizeof(struct rollup_row), \
		.visit = show_await_loops,             \
		.fill = show_fill_stats,               \
	}

STATS_SHOW(show_stats, "STATS", show_stats_columns,
	   "Counters of each database since the start, and their averages over the last one to two stats_period.");
STATS_SHOW(show_stats_totals, "STATS_TOTALS", show_stats_totals_columns, "The first half of SHOW STATS.");
STATS_SHOW(show_stats_averages, "STATS_AVERAGES", show_stats_averages_columns, "The second half of SHOW STATS.");

/* ---- SHOW TOTALS ---- */

struct show_total_row {
	const char *name;
	int64_t value;
};

static const struct show_column show_totals_columns[] = {
	{ "name", OID_TEXT, SHOW_TEXT, offsetof(struct show_total_row, name), "total_ or avg_ and the counter" },
	{ "value", OID_NUMERIC, SHOW_INT, offsetof(struct show_total_row, value), "its value" },
};

static void show_add_total(struct show *show, const char *name, uint64_t value)
{
	struct show_total_row *row = show_add_row(&show->rows);

	row->name = name;
	row->value = (int64_t)value;
}

static void show_fill_totals(struct show *show)
{
	struct rollup_row all;

	rollup_all(show->admin->rollup, show->now_us, &all);
#define X(id, in_sums, in_rates, in_totals, in_averages, in_all) \
	show_add_total(show, "total_" in_all, all.total.value[STAT_##id]);
	SHOW_STATS_TABLE(X)
#undef X
#define X(id, in_sums, in_rates, in_totals, in_averages, in_all) \
	show_add_total(show, "avg_" in_all, all.avg.value[STAT_##id]);
	SHOW_STATS_TABLE(X)
#undef X
}

const struct show_table show_totals = {
	.name = "TOTALS",
	.help = "SHOW STATS summed over all databases, a row for each counter.",
	.right = COMMAND_FOR_STATS,
	.in_help = true,
	.columns = show_totals_columns,
	.column_count = ARRAY_LEN(show_totals_columns),
	.row_size = sizeof(struct show_total_row),
	.visit = show_await_loops,
	.fill = show_fill_totals,
};
