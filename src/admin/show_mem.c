/*
 * SHOW MEM: what there is of each kind of object. Most counts may be read by
 * any thread; what servers hold besides themselves is counted by their workers.
 */
#include "admin/show.h"
#include "pool/client.h"
#include "pool/registry_walk.h"
#include "pool/server.h"
#include "pool/stmt.h"
#include "proto/build.h"

struct mem_row {
	const char *name;
	int64_t size;
	int64_t used;
	int64_t free;
	int64_t memtotal;
};

/* What the servers of a worker hold. */
struct mem_part_row {
	size_t requests;
	size_t statements;
};

#define COL(field, oid, kind, help)                                      \
	{                                                                \
#field, oid, kind, offsetof(struct mem_row, field), help \
	}

static const struct show_column show_mem_columns[] = {
	COL(name, OID_TEXT, SHOW_TEXT, "kind of object"),
	COL(size, OID_INT4, SHOW_INT, "bytes of one"),
	COL(used, OID_INT4, SHOW_INT, "how many there are"),
	COL(free, OID_INT4, SHOW_INT, "how many are kept for later use"),
	COL(memtotal, OID_INT4, SHOW_INT, "bytes of all"),
};

static bool show_visit_mem(struct show_visit *visit)
{
	const struct pool_part *part;
	const struct server *server;
	struct mem_part_row *row;

	if (visit->worker == NULL)
		return false;
	row = show_add_row(visit->rows);
	TAILQ_FOREACH (part, &visit->worker->parts, entry)
		TAILQ_FOREACH (server, &part->servers, entry) {
			row->requests += server->track.count;
			row->statements += server->prep.count;
		}
	return false;
}

/* Nothing is kept for later use here, so nothing is ever free. */
static struct mem_row *show_add_mem(struct show *show, const char *name, size_t size, size_t used)
{
	struct mem_row *row = show_add_row(&show->rows);

	row->name = name;
	row->size = (int64_t)size;
	row->used = (int64_t)used;
	row->memtotal = (int64_t)(size * used);
	return row;
}

/* The texts of prepared statements, whose memory is counted with that of the names that clients have for them. */
static void show_add_texts(struct show *show)
{
	size_t bytes;
	size_t texts = stmt_count(&bytes);

	show_add_mem(show, "prepared_statement_text_cache", sizeof(struct stmt), texts)->memtotal = (int64_t)bytes;
}

static void show_fill_mem(struct show *show)
{
	size_t worker_part = show->engine->worker_count * sizeof(struct pool_part);
	struct mem_part_row servers = { .requests = 0 };
	struct registry_counts counts;
	size_t set_size;
	size_t sets = vars_set_count(&set_size);

	for (unsigned i = 0; i < show->part_count; i++)
		for (size_t j = 0; j < show->parts[i].count; j++) {
			const struct mem_part_row *row = show_row(&show->parts[i], j);

			servers.requests += row->requests;
			servers.statements += row->statements;
		}
	registry_count(show->engine, &counts);
	show_add_mem(show, "user_cache", sizeof(struct account), counts.accounts);
	show_add_mem(show, "credentials_cache", sizeof(struct user), users_count(show->snap->users));
	show_add_mem(show, "db_cache", sizeof(struct db), counts.dbs);
	show_add_mem(show, "peer_cache", sizeof(struct conf_peer), show->snap->conf->peer_count);
	show_add_mem(show, "peer_pool_cache", 0, 0);
	show_add_mem(show, "pool_cache", sizeof(struct pool) + worker_part, counts.pools);
	show_add_mem(show, "outstanding_request_cache", sizeof(uint8_t), servers.requests);
	show_add_mem(show, "server_cache", sizeof(struct server), engine_server_count(show->engine));
	show_add_mem(show, "client_cache", sizeof(struct client), atomic_load(&show->engine->client_count));
	show_add_mem(show, "iobuf_cache", LOOP_SCRATCH_SIZE, engine_loop_count(show->engine) + 1);
	show_add_mem(show, "var_list_cache", set_size, sets);
	show_add_mem(show, "server_prepared_statement_cache", sizeof(struct prep_entry), servers.statements);
	show_add_texts(show);
}

const struct show_table show_mem = {
	.name = "MEM",
	.help = "Memory for objects, and the texts of prepared statements.",
	.right = COMMAND_FOR_STATS,
	.in_help = true,
	.columns = show_mem_columns,
	.column_count = ARRAY_LEN(show_mem_columns),
	.row_size = sizeof(struct mem_row),
	.part_row_size = sizeof(struct mem_part_row),
	.visit = show_visit_mem,
	.fill = show_fill_mem,
};
