/*
 * The commands that change something.
 *
 * A change is a flag that all threads read, or a message to each loop; the
 * command is answered when every loop has gone past it. Messages from one
 * sender arrive in order, so it is enough to send one more to each loop and to
 * wait until all have come back: what the client does after the answer meets
 * the change everywhere.
 */
#include "admin/admin_int.h"
#include "admin/command.h"
#include "admin/show.h"
#include "core/alloc.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/drain.h"
#include "pool/janitor.h"
#include "pool/peer.h"
#include "pool/refresh.h"
#include "pool/registry.h"
#include "pool/registry_walk.h"
#include "pool/server.h"

/* ---- the change has reached every loop ---- */

/* What follows when it has; the session is still there and its command not answered. */
typedef void (*ctl_then_fn)(struct console *console, struct db *db, const char *tag);

struct ctl_barrier {
	struct admin *admin;
	uint64_t console_id;
	ctl_then_fn then;
	struct db *db; /* held */
	char tag[SQL_ARG_SIZE + SQL_VALUE_SIZE + 8];
	atomic_uint left;
	struct loop_msg over;
};

struct ctl_barrier_msg {
	struct loop_msg msg;
	struct ctl_barrier *barrier;
};

static void ctl_on_barrier_over(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct ctl_barrier *b = CONTAINER_OF(msg, struct ctl_barrier, over);
	struct console *c = admin_find_console(b->admin, b->console_id);

	if (c != NULL)
		b->then(c, b->db, b->tag);
	db_release(&b->db);
	free(b);
}

static void ctl_on_barrier(struct loop *loop, struct loop_msg *base)
{
	struct ctl_barrier_msg *msg = CONTAINER_OF(base, struct ctl_barrier_msg, msg);
	const struct worker *worker = worker_current();
	struct ctl_barrier *b = msg->barrier;

	if (worker != NULL && refresh_is_running(worker)) {
		loop_post(loop, base); /* the change is a reload, which takes the worker several turns */
		return;
	}
	free(msg);
	if (atomic_fetch_sub_explicit(&b->left, 1, memory_order_acq_rel) == 1)
		loop_post(b->admin->engine->control, &b->over);
}

static void ctl_post_barrier(struct ctl_barrier *b, struct loop *loop)
{
	struct ctl_barrier_msg *msg = xcalloc(1, sizeof(*msg));

	msg->msg.fn = ctl_on_barrier;
	msg->barrier = b;
	loop_post(loop, &msg->msg);
}

/* Goes on with `then` when every loop has worked on what it was sent before. */
static void ctl_after_all_loops(struct console *c, ctl_then_fn then, struct db *db, const char *tag)
{
	struct engine *engine = c->admin->engine;
	struct ctl_barrier *b = xcalloc(1, sizeof(*b));

	b->admin = c->admin;
	b->console_id = c->id;
	b->then = then;
	b->db = db == NULL ? NULL : db_hold(db);
	str_copy(b->tag, sizeof(b->tag), tag);
	b->over.fn = ctl_on_barrier_over;
	atomic_init(&b->left, engine_loop_count(engine));
	admin_wait(c, CONSOLE_WAIT_WORKERS, NULL);
	for (unsigned i = 0; i < engine_loop_count(engine); i++)
		ctl_post_barrier(b, engine_loop_at(engine, i)->loop);
}

static void ctl_then_answer(struct console *c, struct db *db UNUSED, const char *tag)
{
	console_finish_tag(c, tag);
}

static void ctl_then_wait_paused(struct console *c, struct db *db, const char *tag UNUSED)
{
	admin_wait(c, db == NULL ? CONSOLE_WAIT_PAUSED : CONSOLE_WAIT_PAUSED_DB, db);
}

static void ctl_then_wait_drained(struct console *c, struct db *db, const char *tag UNUSED)
{
	admin_wait(c, CONSOLE_WAIT_DRAINED, db);
}

void ctl_answer_after_all_loops(struct console *c, const char *tag)
{
	ctl_after_all_loops(c, ctl_then_answer, NULL, tag);
}

/* ---- which database ---- */

/*
 * The database that the command names, held for the caller. NULL when the
 * command was answered with an error. `create`: one that the * entry makes is
 * registered if need be.
 */
static struct db *ctl_find_db(struct console *c, const char *name, const char *verb, bool create)
{
	struct engine *engine = c->admin->engine;
	struct db *db;

	if (admin_is_own_db(engine, name)) {
		console_finish_error(c, CONSOLE_E_ADMIN_DB, verb, name);
		return NULL;
	}
	db = registry_get_db(engine, name, create ? REGISTRY_ANY : REGISTRY_CONFIGURED, NULL);
	if (db == NULL)
		console_finish_error(c, CONSOLE_E_NO_DB, name);
	return db;
}

/* The same for a command that needs one. */
static struct db *ctl_need_db(struct console *c, const char *name, const char *verb, bool create)
{
	if (name[0] != '\0')
		return ctl_find_db(c, name, verb, create);
	console_finish_error(c, CONSOLE_E_NEEDS_DB);
	return NULL;
}

/* ---- settings ---- */

void ctl_set(struct console *c, const struct command *command UNUSED, const struct sql_cmd *cmd)
{
	struct admin *a = c->admin;
	char tag[SQL_ARG_SIZE + SQL_VALUE_SIZE + 8];
	bool tls_kept = false;

	if (show_is_fake_variable(cmd->arg)) {
		console_notice(c, "SET ignored", NULL);
		console_finish_tag(c, "SET");
		return;
	}
	if (a->ops->set(a->ctx, cmd->arg, cmd->value, &tls_kept) != 0) {
		console_finish_error(c, CONSOLE_E_SET);
		return;
	}
	if (tls_kept)
		console_notice(c, "TLS settings could not be applied, still using old configuration", NULL);
	str_format(tag, sizeof(tag), "SET %s=%s", cmd->arg, cmd->value);
	ctl_answer_after_all_loops(c, tag);
}

/* ---- pausing ---- */

void ctl_pause(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct engine *engine = c->admin->engine;
	struct db *db = NULL;

	if (atomic_load(&engine->mode) != ENGINE_ACTIVE) {
		console_finish_error(c, CONSOLE_E_PAUSED);
		return;
	}
	if (cmd->arg[0] == '\0') {
		engine_set_mode(engine, ENGINE_PAUSED);
	} else {
		db = ctl_find_db(c, cmd->arg, "pause", true);
		if (db == NULL)
			return;
		atomic_store(&db->paused, true);
		engine_apply_pauses(engine);
	}
	ctl_after_all_loops(c, ctl_then_wait_paused, db, command->name);
	db_release(&db);
}

static bool ctl_has_paused_db(struct engine *engine)
{
	struct db **dbs;
	size_t n = registry_dbs(engine, &dbs);
	bool found = false;

	for (size_t i = 0; i < n; i++)
		found |= atomic_load(&dbs[i]->paused);
	free(dbs);
	return found;
}

void ctl_suspend(struct console *c, const struct command *command UNUSED, const struct sql_cmd *cmd UNUSED)
{
	struct engine *engine = c->admin->engine;

	if (atomic_load(&engine->mode) != ENGINE_ACTIVE) {
		console_finish_error(c, CONSOLE_E_PAUSED);
	} else if (ctl_has_paused_db(engine)) {
		console_finish_error(c, CONSOLE_E_PAUSED_DBS);
	} else {
		engine_set_mode(engine, ENGINE_SUSPENDED);
		admin_wait(c, CONSOLE_WAIT_SUSPENDED, NULL);
	}
}

static void ctl_resume_db(struct console *c, const struct command *command, const char *name)
{
	/* the console's own database is found like any other, and is never paused */
	bool is_own = admin_is_own_db(c->admin->engine, name);
	struct db *db = is_own ? NULL : ctl_find_db(c, name, "resume", false);
	bool was_drained;

	if (db == NULL && !is_own)
		return;
	was_drained = db != NULL && drain_end(c->admin->engine, db);
	if (db != NULL && (atomic_exchange(&db->paused, false) || was_drained)) {
		engine_apply_pauses(c->admin->engine);
		ctl_answer_after_all_loops(c, command->name);
	} else {
		console_finish_error(c, CONSOLE_E_DB_NOT_PAUSED, name);
	}
	db_release(&db);
}

void ctl_resume(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct engine *engine = c->admin->engine;

	if (cmd->arg[0] != '\0') {
		ctl_resume_db(c, command, cmd->arg);
	} else if (atomic_load(&engine->shutdown) != SHUTDOWN_NONE) {
		console_finish_error(c, CONSOLE_E_SHUTTING_DOWN);
	} else if (drain_end(engine, NULL) && atomic_load(&engine->mode) == ENGINE_ACTIVE) {
		ctl_answer_after_all_loops(c, command->name);
	} else if (atomic_load(&engine->mode) == ENGINE_ACTIVE) {
		console_finish_error(c, CONSOLE_E_NOT_PAUSED);
	} else if (admin_is_taken(c)) {
		console_finish_error(c, CONSOLE_E_TAKEN);
	} else {
		engine_set_mode(engine, ENGINE_ACTIVE);
		ctl_answer_after_all_loops(c, command->name);
	}
}

void ctl_disable(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct db *db = ctl_need_db(c, cmd->arg, "disable", true);

	if (db == NULL)
		return;
	atomic_store(&db->disabled, true);
	db_release(&db);
	ctl_answer_after_all_loops(c, command->name);
}

void ctl_enable(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct db *db = ctl_need_db(c, cmd->arg, "enable", false);

	if (db == NULL)
		return;
	atomic_store(&db->disabled, false);
	(void)drain_end(c->admin->engine, db);
	db_release(&db);
	ctl_answer_after_all_loops(c, command->name);
}

/* ---- closing ---- */

static void ctl_apply_epoch(struct worker *worker, void *arg)
{
	janitor_apply_epoch(worker, arg);
}

void ctl_reconnect(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct engine *engine = c->admin->engine;
	struct db *db = NULL;
	struct pool **pools;
	size_t n;

	if (cmd->arg[0] != '\0') {
		db = ctl_find_db(c, cmd->arg, "reconnect", true);
		if (db == NULL)
			return;
	}
	n = registry_pools(engine, &pools);
	for (size_t i = 0; i < n; i++)
		if (db == NULL || pools[i]->db == db)
			pool_begin_epoch(pools[i]);
	free(pools);
	engine_visit(engine, ctl_apply_epoch, NULL, db);
	ctl_answer_after_all_loops(c, command->name);
	db_release(&db);
}

/* Clients that come from now on find a new pool, which is paused. */
static void ctl_kill_db(struct engine *engine, struct db *db)
{
	atomic_store(&db->paused, true);
	registry_remove_pools(engine, db);
}

/* Every database that has a pool. */
static void ctl_kill_all(struct engine *engine)
{
	struct pool **pools;
	size_t n = registry_pools(engine, &pools);

	for (size_t i = 0; i < n; i++)
		if (!atomic_load(&pools[i]->removed))
			ctl_kill_db(engine, pools[i]->db);
	free(pools);
}

void ctl_kill(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct engine *engine = c->admin->engine;
	struct db *db;

	if (atomic_load(&engine->mode) != ENGINE_ACTIVE) {
		console_finish_error(c, CONSOLE_E_PAUSED);
		return;
	}
	if (cmd->arg[0] == '\0') {
		ctl_kill_all(engine);
	} else {
		db = ctl_find_db(c, cmd->arg, "kill", true);
		if (db == NULL)
			return;
		ctl_kill_db(engine, db);
		db_release(&db);
	}
	ctl_answer_after_all_loops(c, command->name);
}

struct ctl_kill_visit {
	struct admin *admin;
	uint64_t console_id;
	uint64_t client_id;
	atomic_bool found;
};

static void ctl_find_and_kill(struct worker *worker, void *arg)
{
	struct ctl_kill_visit *v = arg;
	struct pool_part *part;
	struct client *client;

	if (cancel_kill(worker, v->client_id)) {
		atomic_store(&v->found, true);
		return;
	}
	TAILQ_FOREACH (part, &worker->parts, entry) {
		TAILQ_FOREACH (client, &part->clients, entry) {
			if (client->id != v->client_id || client->state == CL_CLOSED)
				continue;
			atomic_store(&v->found, true);
			client_close(client, REASON_KILLED);
			return;
		}
	}
}

static void ctl_kill_done(void *arg)
{
	struct ctl_kill_visit *v = arg;
	struct console *victim = admin_find_console(v->admin, v->client_id);
	struct console *c;

	if (victim != NULL && v->client_id != 0) {
		atomic_store(&v->found, true);
		console_fail(victim, reason_text(REASON_KILLED));
	} else if (peers_kill(v->admin->engine->peers, v->client_id)) {
		atomic_store(&v->found, true);
	}
	c = admin_find_console(v->admin, v->console_id);
	if (c != NULL && atomic_load(&v->found))
		console_finish_tag(c, "KILL_CLIENT");
	else if (c != NULL)
		console_finish_error(c, CONSOLE_E_NO_CLIENT);
	free(v);
}

void ctl_kill_client(struct console *c, const struct command *command UNUSED, const struct sql_cmd *cmd)
{
	struct ctl_kill_visit *v;
	unsigned long long id;
	char *end;

	id = strtoull(cmd->arg, &end, 10); /* one that is too large is that of nobody */
	if (!isdigit((unsigned char)cmd->arg[0]) || *end != '\0') {
		console_finish_error(c, CONSOLE_E_BAD_CLIENT);
		return;
	}
	v = xcalloc(1, sizeof(*v));
	v->admin = c->admin;
	v->console_id = c->id;
	v->client_id = id;
	admin_wait(c, CONSOLE_WAIT_WORKERS, NULL);
	engine_visit(c->admin->engine, ctl_find_and_kill, ctl_kill_done, v);
}

void ctl_wait_close(struct console *c, const struct command *command UNUSED, const struct sql_cmd *cmd)
{
	struct db *db = NULL;

	if (cmd->arg[0] != '\0') {
		db = ctl_find_db(c, cmd->arg, "wait in", true);
		if (db == NULL)
			return;
	}
	admin_wait(c, CONSOLE_WAIT_CLEAN, db);
	db_release(&db);
}

/*
 * The time of a drain: that of the command, or drain_timeout. False when the
 * command was answered with an error.
 */
static bool ctl_drain_timeout(struct console *c, const struct sql_cmd *cmd, uint64_t *timeout_us)
{
	struct snapshot *snap;
	unsigned long seconds;
	char *end;

	if (atomic_load(&c->admin->engine->mode) == ENGINE_SUSPENDED) {
		console_finish_error(c, CONSOLE_E_DRAIN_SUSPENDED);
		return false;
	}
	if (cmd->form != SQL_WITHIN) {
		snap = engine_snapshot(c->admin->engine);
		*timeout_us = snap->conf->drain_timeout_us;
		snapshot_release(&snap);
		return true;
	}
	errno = 0;
	seconds = strtoul(cmd->value, &end, 10);
	if (!isdigit((unsigned char)cmd->value[0]) || *end != '\0' || errno != 0 || seconds > CONF_TIME_MAX) {
		console_finish_error(c, CONSOLE_E_BAD_SECONDS, cmd->value);
		return false;
	}
	*timeout_us = seconds * USEC_PER_SEC;
	return true;
}

void ctl_drain(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct engine *engine = c->admin->engine;
	struct drain_order order = { .db = NULL };
	struct snapshot *snap;

	if (!ctl_drain_timeout(c, cmd, &order.timeout_us))
		return;
	if (atomic_load(&engine->shutdown) != SHUTDOWN_NONE) {
		console_finish_error(c, CONSOLE_E_SHUTTING_DOWN);
		return;
	}
	if (cmd->arg[0] != '\0') {
		order.db = ctl_find_db(c, cmd->arg, "drain", true);
		if (order.db == NULL)
			return;
	}
	snap = engine_snapshot(engine);
	order.delay_us = snap->conf->drain_delay_us;
	snapshot_release(&snap);
	drain_begin(engine, &order);
	ctl_after_all_loops(c, ctl_then_wait_drained, order.db, command->name);
	db_release(&order.db);
}

int ctl_shutdown_word(const char *text)
{
	static const struct command_word words[] = {
		{ "", SHUTDOWN_NOW },
		{ "WAIT_FOR_SERVERS", SHUTDOWN_WAIT_FOR_SERVERS },
		{ "WAIT_FOR_CLIENTS", SHUTDOWN_WAIT_FOR_CLIENTS },
		{ "DRAIN", SHUTDOWN_DRAIN },
	};

	return command_find_word(words, ARRAY_LEN(words), text);
}

void ctl_shutdown(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	enum engine_shutdown how = (enum engine_shutdown)ctl_shutdown_word(cmd->arg);
	struct admin *a = c->admin;
	uint64_t timeout_us = 0;

	if (how == SHUTDOWN_DRAIN && !ctl_drain_timeout(c, cmd, &timeout_us))
		return;
	a->ops->shutdown(a->ctx, how, timeout_us);
	if (how != SHUTDOWN_NOW) /* there the end of the process is the answer */
		console_finish_tag(c, command->name);
}
