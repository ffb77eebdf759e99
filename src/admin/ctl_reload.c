/*
 * RELOAD and RELOAD DRY RUN: asking the program above for it, and telling what
 * has changed or would.
 *
 * Under [pgbouncer] the answer to RELOAD is the tag and nothing else, as
 * programs expect that know PgBouncer; under [pgsluice] a notice comes first.
 * The dry run is our own, so its answer is a table under both.
 */
#include "admin/admin_int.h"
#include "admin/command.h"
#include "admin/show.h"
#include "core/alloc.h"
#include "core/str.h"
#include "proto/build.h"

#define CTL_RELOAD_FAILED "RELOAD failed, see logs for additional details"

/* Changes that the notice lists; RELOAD DRY RUN and the log have no such limit. */
#define CTL_RELOAD_LINES  50

#define CTL_RELOAD_LINE   (CONF_DETAIL_SIZE + 256)

/* ---- the table ---- */

struct ctl_reload_row {
	const char *action;
	const char *object;
	const char *name;
	const char *detail;
	const char *effect;
	int64_t servers;
	int64_t clients;
};

static const struct show_column ctl_reload_columns[] = {
	{ "action", OID_TEXT, SHOW_TEXT, offsetof(struct ctl_reload_row, action), "added, changed or removed" },
	{ "object", OID_TEXT, SHOW_TEXT, offsetof(struct ctl_reload_row, object), "what it is" },
	{ "name", OID_TEXT, SHOW_TEXT, offsetof(struct ctl_reload_row, name), "its name" },
	{ "detail", OID_TEXT, SHOW_TEXT, offsetof(struct ctl_reload_row, detail), "what differs, secrets left out" },
	{ "takes_effect", OID_TEXT, SHOW_TEXT, offsetof(struct ctl_reload_row, effect),
	  "when the change comes into force" },
	{ "servers", OID_INT4, SHOW_INT, offsetof(struct ctl_reload_row, servers),
	  "server connections that are replaced or closed" },
	{ "clients", OID_INT4, SHOW_INT, offsetof(struct ctl_reload_row, clients), "clients that are disconnected" },
};

const struct show_table ctl_reload_changes = {
	.name = "RELOAD DRY RUN",
	.help = "What RELOAD would change. Nothing is changed.",
	.right = COMMAND_FOR_ADMIN,
	.columns = ctl_reload_columns,
	.column_count = ARRAY_LEN(ctl_reload_columns),
	.row_size = sizeof(struct ctl_reload_row),
};

/* The rows point into the changes. */
static void ctl_reload_fill(struct show_rows *rows, const struct conf_diff *diff)
{
	for (size_t i = 0; i < diff->count; i++) {
		const struct conf_change *change = &diff->changes[i];
		struct ctl_reload_row *row = show_add_row(rows);

		row->action = conf_change_action_name(change->action);
		row->object = conf_change_object_name(change->object);
		row->name = change->name;
		row->detail = change->detail;
		row->effect = conf_change_effect_name(change->effect);
		row->servers = change->servers;
		row->clients = change->clients;
	}
}

/* ---- answers ---- */

/* The changes, a line each. */
static char *ctl_reload_list(const struct conf_diff *diff)
{
	size_t n = diff->count < CTL_RELOAD_LINES ? diff->count : CTL_RELOAD_LINES;
	size_t size = (n + 1) * CTL_RELOAD_LINE;
	char *text = xmalloc(size);
	char line[CTL_RELOAD_LINE];

	text[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		conf_change_describe(&diff->changes[i], line, sizeof(line));
		str_append(text, size, "%s%s", i > 0 ? "\n" : "", line);
	}
	if (n < diff->count)
		str_append(text, size, "\nand %zu more", diff->count - n);
	return text;
}

static void ctl_reload_notice(struct console *c, const struct conf_diff *diff)
{
	char summary[CTL_RELOAD_LINE];
	char *list;

	conf_diff_summarize(diff, summary, sizeof(summary));
	list = diff->count == 0 ? NULL : ctl_reload_list(diff);
	console_notice(c, summary, list);
	free(list);
}

/* "pool_mod is unknown (/etc/pgsluice.ini:4)". */
static void ctl_reload_first_error(const struct conf_error *err, char *dst, size_t size)
{
	str_copy(dst, size, err->what == NULL ? "the log says why" : err->what);
	if (err->file != NULL && err->line > 0)
		str_append(dst, size, " (%s:%u)", err->file, err->line);
	else if (err->file != NULL)
		str_append(dst, size, " (%s)", err->file);
}

static bool ctl_reload_is_talkative(const struct console *c)
{
	struct snapshot *snap = engine_snapshot(c->admin->engine);
	bool talkative = snap->conf->profile == CONF_PROFILE_PGSLUICE;

	snapshot_release(&snap);
	return talkative;
}

static void ctl_reload_now(struct console *c, const char *tag)
{
	struct admin *a = c->admin;
	struct conf_diff *diff = NULL;
	struct conf_error err;
	char detail[512];

	conf_error_init(&err);
	if (a->ops->reload(a->ctx, &diff, &err) != 0) {
		ctl_reload_first_error(&err, detail, sizeof(detail));
		console_finish_error_as(c, "F0000", CTL_RELOAD_FAILED, detail, err.hint);
	} else {
		if (ctl_reload_is_talkative(c))
			ctl_reload_notice(c, diff);
		ctl_answer_after_all_loops(c, tag);
	}
	conf_diff_free(&diff);
	conf_error_fini(&err);
}

static void ctl_reload_dry_run(struct console *c)
{
	struct show_rows rows = { .row_size = ctl_reload_changes.row_size };
	struct admin *a = c->admin;
	struct conf_diff *diff = NULL;
	struct conf_error err;
	char detail[512];
	char text[600];

	conf_error_init(&err);
	if (a->ops->reload_try(a->ctx, &diff, &err) != 0) {
		ctl_reload_first_error(&err, detail, sizeof(detail));
		str_format(text, sizeof(text), "RELOAD would fail: %s", detail);
		console_finish_error_as(c, "F0000", text, NULL, err.hint);
	} else {
		ctl_reload_fill(&rows, diff);
		if (!c->in_execute)
			show_send_columns(c, &ctl_reload_changes, NULL);
		show_send_rows(c, &ctl_reload_changes, &rows);
		console_finish_tag(c, ctl_reload_changes.name);
	}
	show_free_rows(&rows);
	conf_diff_free(&diff);
	conf_error_fini(&err);
}

void ctl_reload(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	if (cmd->form == SQL_DRY_RUN)
		ctl_reload_dry_run(c);
	else
		ctl_reload_now(c, command->name);
}
