/*
 * Ready means that a new connection is of use. A drain turns the flag before it
 * does anything else. A PAUSE does not: it is for clients not to notice, and if
 * every pooler of a group were taken out for it, they would.
 */
#include "admin/ready.h"

#include "admin/admin_int.h"
#include "admin/show.h"
#include "pool/registry_walk.h"
#include "proto/build.h"

const char *ready_reason(struct engine *engine)
{
	if (atomic_load(&engine->shutdown) != SHUTDOWN_NONE)
		return "shutting down";
	if (atomic_load(&engine->drain) != DRAIN_NONE)
		return "draining";
	return atomic_load(&engine->mode) == ENGINE_SUSPENDED ? "suspended" : NULL;
}

static const char *ready_reason_of(struct engine *engine, const struct db *db)
{
	const char *reason = ready_reason(engine);

	if (reason != NULL)
		return reason;
	if (atomic_load(&db->drain) != DRAIN_NONE)
		return "draining";
	return atomic_load(&db->disabled) ? "disabled" : NULL;
}

/* A database that nobody has asked for yet exists in the configuration only. */
static bool ready_is_configured(struct engine *engine, const char *name)
{
	struct snapshot *snap = engine_snapshot(engine);
	bool is_there = conf_find_db(snap->conf, name) != NULL || snap->conf->autodb != NULL;

	snapshot_release(&snap);
	return is_there;
}

bool ready_find_db(struct engine *engine, const char *name, const char **reason)
{
	const struct db *db;

	if (name[0] == '\0' || admin_is_own_db(engine, name))
		return false;
	db = registry_find_db(engine, name);
	if (db == NULL && !ready_is_configured(engine, name))
		return false;
	*reason = db == NULL ? ready_reason(engine) : ready_reason_of(engine, db);
	return true;
}

/* ---- SHOW READINESS ---- */

struct ready_row {
	const char *database;
	int64_t ready;
	const char *reason;
};

static const struct show_column show_readiness_columns[] = {
	{ "database", OID_TEXT, SHOW_TEXT, offsetof(struct ready_row, database), "NULL: the pooler as a whole" },
	{ "ready", OID_INT4, SHOW_INT, offsetof(struct ready_row, ready), "1: new connections are welcome" },
	{ "reason", OID_TEXT, SHOW_TEXT, offsetof(struct ready_row, reason),
	  "why they are not: draining, shutting down, suspended, disabled; else NULL" },
};

static void ready_add_row(struct show *show, const char *database, const char *reason)
{
	struct ready_row *row = show_add_row(&show->rows);

	row->database = show_keep_text(&show->rows, database);
	row->ready = reason == NULL;
	row->reason = reason;
}

static void show_fill_readiness(struct show *show)
{
	struct db **dbs;
	size_t n = registry_dbs(show->engine, &dbs);

	ready_add_row(show, NULL, ready_reason(show->engine));
	for (size_t i = 0; i < n; i++)
		ready_add_row(show, dbs[i]->name, ready_reason_of(show->engine, dbs[i]));
	free(dbs);
}

const struct show_table show_readiness = {
	.name = "READINESS",
	.help = "Whether load balancers shall send clients here: a row for the pooler, and one for each database.",
	.right = COMMAND_FOR_STATS,
	.columns = show_readiness_columns,
	.column_count = ARRAY_LEN(show_readiness_columns),
	.row_size = sizeof(struct ready_row),
	.fill = show_fill_readiness,
};
