/*
 * SHOW ENDPOINTS and SHOW FAILOVERS: what is known of the places where servers
 * listen, and what has happened to primaries.
 */
#include "admin/show.h"
#include "core/alloc.h"
#include "core/str.h"
#include "pool/health.h"
#include "pool/pool.h"
#include "pool/registry_walk.h"
#include "proto/build.h"

/* ---- SHOW ENDPOINTS ---- */

struct endpoint_row {
	const struct endpoint *endpoint;
	const char *name;
	const char *database;
	int64_t pools;
	const char *role;
	const char *reachable;
	const char *fenced;
	const char *read_only;
	int64_t timeline;
	const char *system_id;
	int64_t lag_bytes;
	int64_t lag_ms;
	int64_t connections;
	int64_t max_connections;
	int64_t servers;
	int64_t logins;
	uint64_t probed_us;
	int64_t latency_us;
	const char *error;
};

#define TEXT(s, name, help)                                                \
	{                                                                  \
#name, OID_TEXT, SHOW_TEXT, offsetof(struct s, name), help \
	}
#define INT(s, name, help)                                                \
	{                                                                 \
#name, OID_INT8, SHOW_INT, offsetof(struct s, name), help \
	}

static const struct show_column show_endpoint_columns[] = {
	{ "endpoint", OID_TEXT, SHOW_TEXT, offsetof(struct endpoint_row, name), "host and port" },
	TEXT(endpoint_row, database, "the first one in use that names it"),
	INT(endpoint_row, pools, "pools that may have servers there"),
	TEXT(endpoint_row, role, "primary, standby or unknown"),
	TEXT(endpoint_row, reachable, "yes, no, or unknown when nobody has probed it"),
	TEXT(endpoint_row, fenced, "yes for a primary that gets no writes, since there is a newer one"),
	TEXT(endpoint_row, read_only, "whether default_transaction_read_only is on"),
	INT(endpoint_row, timeline, "the last one that was seen; 0 when not known"),
	TEXT(endpoint_row, system_id, "the same for a primary and its standbys; NULL when not known"),
	INT(endpoint_row, lag_bytes,
	    "of a standby, behind what its primary had written when that was asked; -1 when not known"),
	INT(endpoint_row, lag_ms, "of a standby, since the last transaction it has replayed; -1 when not known"),
	INT(endpoint_row, connections, "in use there, by anybody; -1 when not known"),
	INT(endpoint_row, max_connections, "-1 when not known"),
	INT(endpoint_row, servers, "connections of ours there, those that are being opened included"),
	INT(endpoint_row, logins, "of them, not logged in yet"),
	{ "last_probe", OID_TEXT, SHOW_TIME, offsetof(struct endpoint_row, probed_us),
	  "when the last probe was answered, or given up; NULL: never" },
	INT(endpoint_row, latency_us, "how long that answer took"),
	TEXT(endpoint_row, error, "what went wrong with it"),
};

static const char *show_yes(bool yes)
{
	return yes ? "yes" : "no";
}

static void show_add_endpoint(const struct health_row *health, void *arg)
{
	struct show *show = arg;
	const struct endpoint *ep = health->endpoint;
	struct endpoint_facts facts = endpoint_facts(ep);
	struct endpoint_row *row = show_add_row(&show->rows);
	char id[24];

	*row = (struct endpoint_row){
		.endpoint = ep,
		.name = show_keep_text(&show->rows, ep->name),
		.role = endpoint_role_name(facts.role),
		.reachable = health->facts == NULL ? "unknown" : show_yes(!facts.is_unreachable),
		.fenced = show_yes(facts.is_fenced),
		.read_only = show_yes(facts.is_read_only),
		.lag_bytes = health->lag_bytes,
		.lag_ms = -1,
		.connections = -1,
		.max_connections = -1,
		.servers = atomic_load(&ep->servers),
		.logins = atomic_load(&ep->logging_in),
		.probed_us = health->probed_us,
	};
	if (health->facts == NULL)
		return;
	row->timeline = health->timeline;
	str_format(id, sizeof(id), "%" PRIu64, health->system_id);
	row->system_id = health->system_id == 0 ? NULL : show_keep_text(&show->rows, id);
	row->lag_ms = health->facts->lag_ms;
	row->connections = health->facts->connections;
	row->max_connections = health->facts->max_connections;
	row->latency_us = (int64_t)health->facts->latency_us;
	row->error = show_keep_text(&show->rows, health->facts->error);
}

static int show_compare_pointers(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct endpoint_row *)a)->endpoint;
	uintptr_t y = (uintptr_t)((const struct endpoint_row *)b)->endpoint;

	return x < y ? -1 : x > y;
}

static int show_compare_endpoints(const void *a, const void *b)
{
	return strcmp(((const struct endpoint_row *)a)->name, ((const struct endpoint_row *)b)->name);
}

/* Counts the pools of each; the rows are sorted by pointer. */
static void show_count_pools(struct show *show)
{
	struct pool **pools;
	size_t n = registry_pools(show->engine, &pools);

	for (size_t i = 0; i < n; i++) {
		struct pool_conf *conf = registry_pool_conf(pools[i]);

		for (unsigned j = 0; j < conf->endpoints.count; j++) {
			const struct endpoint_row key = { .endpoint = conf->endpoints.items[j] };
			struct endpoint_row *row =
				bsearch(&key, show->rows.data, show->rows.count, sizeof(key), show_compare_pointers);

			if (row != NULL && row->pools++ == 0)
				row->database = show_keep_text(&show->rows, pools[i]->db->name);
		}
		pool_conf_release(&conf);
	}
	free(pools);
}

static void show_fill_endpoints(struct show *show)
{
	health_each(show->engine->health, show_add_endpoint, show);
	if (show->rows.count == 0)
		return;
	show_sort(&show->rows, show_compare_pointers);
	show_count_pools(show);
	show_sort(&show->rows, show_compare_endpoints);
}

const struct show_table show_endpoints = {
	.name = "ENDPOINTS",
	.help = "Where servers listen, and what is known of each place: what it said at the last login or probe.",
	.right = COMMAND_FOR_STATS,
	.columns = show_endpoint_columns,
	.column_count = ARRAY_LEN(show_endpoint_columns),
	.row_size = sizeof(struct endpoint_row),
	.visit = show_await_loops,
	.fill = show_fill_endpoints,
};

/* ---- SHOW FAILOVERS ---- */

struct failover_row {
	uint64_t began_us;
	const char *database;
	const char *from;
	const char *to;
	int64_t timeline;
	const char *symptom;
	int64_t detect_ms;
	int64_t elect_ms;
	int64_t reconnect_ms;
};

static const struct show_column show_failover_columns[] = {
	{ "began", OID_TEXT, SHOW_TIME, offsetof(struct failover_row, began_us), "when the first symptom was seen" },
	TEXT(failover_row, database, "one of those that have these hosts"),
	TEXT(failover_row, from, "the old primary"),
	TEXT(failover_row, to, "the new one"),
	INT(failover_row, timeline, "that the new one has begun; 0 when not known"),
	TEXT(failover_row, symptom, "the first sign that something was wrong"),
	INT(failover_row, detect_ms, "from the symptom until a probe knew that the old primary was none any more"),
	INT(failover_row, elect_ms, "from the symptom until a probe has seen the new one"),
	INT(failover_row, reconnect_ms,
	    "from the symptom until the first server was logged in there; -1 when none was yet"),
};

static int64_t show_ms_between(uint64_t from_us, uint64_t to_us)
{
	return to_us == 0 ? -1 : (int64_t)((to_us - from_us) / 1000);
}

static void show_fill_failovers(struct show *show)
{
	const struct health_failover *all;
	size_t n = health_failovers(show->engine->health, &all);

	for (size_t i = 0; i < n; i++) {
		const struct failover *f = &all[i].failover;
		struct failover_row *row = show_add_row(&show->rows);

		*row = (struct failover_row){
			.began_us = f->began_us,
			.database = show_keep_text(&show->rows, all[i].database),
			.from = show_keep_text(&show->rows, f->from),
			.to = show_keep_text(&show->rows, f->to),
			.timeline = f->timeline,
			.symptom = show_keep_text(&show->rows, f->why),
			.detect_ms = show_ms_between(f->began_us, f->detected_us),
			.elect_ms = show_ms_between(f->began_us, f->elected_us),
			.reconnect_ms = show_ms_between(f->began_us, f->reconnect_us),
		};
	}
}

const struct show_table show_failovers = {
	.name = "FAILOVERS",
	.help = "The last times that another server became the primary, the newest first, and how long each step took.",
	.right = COMMAND_FOR_STATS,
	.columns = show_failover_columns,
	.column_count = ARRAY_LEN(show_failover_columns),
	.row_size = sizeof(struct failover_row),
	.fill = show_fill_failovers,
};
