/*
 * The console as a whole: its sessions, the timer for commands that wait, and
 * the statistics that are rolled up each stats_period.
 *
 * A command that waits (PAUSE until the last server is gone) is looked at by a
 * timer that runs only while there is one. Each session waits for itself: what
 * another session does may make a wait pointless, and then it is told so.
 */
#include "admin/admin.h"

#include "admin/admin_int.h"
#include "admin/http.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/systemd.h"
#include "pool/cancel.h"
#include "pool/drain.h"
#include "pool/registry.h"
#include "pool/server.h"
#include "pool/suspend.h"

/* How often commands that wait are looked at. */
#define ADMIN_WAIT_PERIOD_US 50000

/* A period of the statistics is looked at each second, so that a new length of it counts at once. */
#define ADMIN_STATS_LOOK_US  USEC_PER_SEC
#define ADMIN_STATS_SLACK_US 100000

/* The engine hands sessions over without saying to whom: there is one console in a process. */
static struct admin *admin_instance;

bool admin_is_own_db(struct engine *engine, const char *name)
{
	struct snapshot *snap = engine_snapshot(engine);
	bool is_own = conf_is_console(snap->conf, name);

	snapshot_release(&snap);
	return is_own;
}

struct console *admin_find_console(struct admin *a, uint64_t id)
{
	struct console *c;

	TAILQ_FOREACH (c, &a->consoles, entry) {
		if (c->id == id)
			return c;
	}
	return NULL;
}

/* ---- waiting ---- */

/* What the workers are asked while WAIT_CLOSE waits: one count for each session that does. */
struct dirty_query {
	struct admin *admin;
	size_t n;
	struct {
		uint64_t console_id;
		const struct db *db;
		atomic_uint dirty;
	} sessions[];
};

static void admin_count_dirty(struct worker *worker, void *arg)
{
	struct dirty_query *q = arg;
	const struct pool_part *part;
	const struct server *server;

	TAILQ_FOREACH (part, &worker->parts, entry) {
		TAILQ_FOREACH (server, &part->servers, entry) {
			if (!server_is_unwanted(server) && !server_is_stale(server))
				continue;
			for (size_t i = 0; i < q->n; i++)
				if (q->sessions[i].db == NULL || q->sessions[i].db == part->pool->db)
					atomic_fetch_add(&q->sessions[i].dirty, 1);
		}
	}
}

static void admin_ask_dirty(struct admin *a);

/*
 * A server on its way between two workers is seen by neither. One that was
 * under way in one round has arrived, and was closed if need be, before the
 * next one begins: so two rounds without a find are the proof.
 */
static void admin_dirty_counted(void *arg)
{
	struct dirty_query *q = arg;
	struct admin *a = q->admin;
	bool again = false;

	a->dirty_visit = false;
	for (size_t i = 0; i < q->n; i++) {
		struct console *c = admin_find_console(a, q->sessions[i].console_id);

		if (c == NULL || c->wait != CONSOLE_WAIT_CLEAN)
			continue;
		c->clean_rounds = atomic_load(&q->sessions[i].dirty) == 0 ? c->clean_rounds + 1 : 0;
		again |= c->clean_rounds == 1;
		if (c->clean_rounds > 1)
			console_finish_tag(c, "WAIT_CLOSE");
	}
	free(q);
	if (again)
		admin_ask_dirty(a);
}

static void admin_ask_dirty(struct admin *a)
{
	struct dirty_query *q;
	struct console *c;

	if (a->dirty_visit)
		return;
	q = xcalloc(1, sizeof(*q) + a->console_count * sizeof(q->sessions[0]));
	q->admin = a;
	TAILQ_FOREACH (c, &a->consoles, entry) {
		if (c->wait != CONSOLE_WAIT_CLEAN)
			continue;
		q->sessions[q->n].console_id = c->id;
		q->sessions[q->n].db = c->wait_db;
		q->n++;
	}
	a->dirty_visit = true;
	engine_visit(a->engine, admin_count_dirty, admin_dirty_counted, q);
}

static void admin_check_drain(struct console *c)
{
	struct engine *engine = c->admin->engine;
	enum drain_phase phase = atomic_load(c->wait_db == NULL ? &engine->drain : &c->wait_db->drain);

	if (phase == DRAIN_NONE)
		console_finish_error(c, CONSOLE_E_UNDONE, "DRAIN");
	else if (drain_is_complete(engine, c->wait_db))
		console_finish_tag(c, "DRAIN");
}

/* Answers the command of a session if what it waits for has come, or cannot come any more. */
static void admin_check_wait(struct console *c)
{
	const struct engine *engine = c->admin->engine;

	switch (c->wait) {
	case CONSOLE_WAIT_PAUSED:
		if (atomic_load(&engine->mode) != ENGINE_PAUSED)
			console_finish_error(c, CONSOLE_E_UNDONE, "PAUSE");
		else if (engine_server_count(c->admin->engine) == 0)
			console_finish_tag(c, "PAUSE");
		break;
	case CONSOLE_WAIT_PAUSED_DB:
		if (!atomic_load(&c->wait_db->paused))
			console_finish_error(c, CONSOLE_E_UNDONE, "PAUSE");
		else if (atomic_load(&c->wait_db->servers) == 0)
			console_finish_tag(c, "PAUSE");
		break;
	case CONSOLE_WAIT_SUSPENDED:
		if (atomic_load(&engine->mode) != ENGINE_SUSPENDED)
			console_finish_error(c, CONSOLE_E_UNDONE, "SUSPEND");
		else if (suspend_is_complete(engine->suspend))
			console_finish_tag(c, "SUSPEND");
		break;
	case CONSOLE_WAIT_CLEAN:
		admin_ask_dirty(c->admin);
		break;
	case CONSOLE_WAIT_DRAINED:
		admin_check_drain(c);
		break;
	case CONSOLE_WAIT_NOTHING:
	case CONSOLE_WAIT_WORKERS:
		break;
	}
}

void admin_wait(struct console *c, enum console_wait wait, struct db *db)
{
	struct admin *a = c->admin;

	c->wait = wait;
	db_release(&c->wait_db);
	c->wait_db = db == NULL ? NULL : db_hold(db);
	c->clean_rounds = 0;
	if (wait == CONSOLE_WAIT_WORKERS)
		return;
	if (c->canceled) {
		console_finish_error(c, CONSOLE_E_CANCELED);
		return;
	}
	if (!a->wait_ticker.is_running)
		loop_ticker_start(&a->wait_ticker, ADMIN_WAIT_PERIOD_US);
	admin_check_wait(c);
}

/* Everything stands still now. */
static void admin_on_suspended(void *arg)
{
	struct admin *a = arg;
	struct console *c;
	struct console *next;

	for (c = TAILQ_FIRST(&a->consoles); c != NULL; c = next) {
		next = TAILQ_NEXT(c, entry);
		if (c->wait == CONSOLE_WAIT_SUSPENDED)
			admin_check_wait(c);
	}
}

bool admin_is_taken(const struct console *c)
{
	return atomic_load(&c->admin->engine->handed_over) && c->admin->taker_id != c->id;
}

void admin_session_gone(struct admin *a, uint64_t id)
{
	bool is_taker = atomic_load(&a->engine->handed_over) && a->taker_id == id;

	if ((a->console_count > 0 && !is_taker) || atomic_load(&a->engine->mode) != ENGINE_SUSPENDED)
		return;
	log_info("admin disappeared when suspended, doing RESUME");
	engine_set_mode(a->engine, ENGINE_ACTIVE);
}

static bool admin_has_wait(const struct admin *a)
{
	const struct console *c;

	TAILQ_FOREACH (c, &a->consoles, entry) {
		if (c->wait != CONSOLE_WAIT_NOTHING && c->wait != CONSOLE_WAIT_WORKERS)
			return true;
	}
	return false;
}

static void admin_on_wait_tick(struct loop *loop UNUSED, void *arg)
{
	struct admin *a = arg;
	struct console *c;
	struct console *next;

	for (c = TAILQ_FIRST(&a->consoles); c != NULL; c = next) {
		next = TAILQ_NEXT(c, entry);
		admin_check_wait(c);
	}
	if (!admin_has_wait(a))
		loop_ticker_stop(&a->wait_ticker);
}

/* ---- statistics ---- */

/* The line of totals, with microseconds written as `unit`. */
static void admin_format_stats(char *dst, size_t size, const struct stats_sum *avg, const char *unit)
{
	const uint64_t *v = avg->value;

	str_format(dst, size,
		   "stats: %" PRIu64 " xacts/s, %" PRIu64 " queries/s, %" PRIu64 " client parses/s, %" PRIu64
		   " server parses/s, %" PRIu64 " binds/s, %" PRIu64 " client logins/s, in %" PRIu64
		   " B/s, out %" PRIu64 " B/s, xact %" PRIu64 " %s, query %" PRIu64 " %s, wait %" PRIu64 " %s",
		   v[STAT_xact_count], v[STAT_query_count], v[STAT_client_parse_count], v[STAT_server_parse_count],
		   v[STAT_bind_count], v[STAT_client_login_count], v[STAT_bytes_received], v[STAT_bytes_sent],
		   v[STAT_xact_time], unit, v[STAT_query_time], unit, v[STAT_wait_time], unit);
}

static void admin_report_stats(const struct stats_sum *avg, bool to_log)
{
	char text[512];

	if (to_log) {
		admin_format_stats(text, sizeof(text), avg, "us");
		log_info("%s", text);
	}
	admin_format_stats(text, sizeof(text), avg, "\u03bcs");
	systemd_notify("STATUS=%s", text);
}

static void admin_on_stats_tick(struct loop *loop UNUSED, void *arg)
{
	struct admin *a = arg;
	struct snapshot *snap = engine_snapshot(a->engine);
	uint64_t now = loop_now_us(a->engine->control);
	uint64_t period_us = (uint64_t)snap->conf->stats_period * USEC_PER_SEC;
	struct rollup_row last;

	log_tell_held(false);
	http_look(a->http, snap->conf->health_listen, now);
	if (now - a->stats_us + ADMIN_STATS_SLACK_US < period_us) {
		snapshot_release(&snap);
		return;
	}
	a->stats_us = now;
	rollup_tick(a->rollup, loop_now_us(a->engine->control), &last);
	admin_report_stats(&last.avg, snap->conf->log_stats != 0);
	snapshot_release(&snap);
}

/* ---- sessions ---- */

static void admin_adopt(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct console_handover *h = CONTAINER_OF(msg, struct console_handover, msg);

	ASSERT(admin_instance != NULL);
	if (admin_instance->stopped) {
		stream_socket_close(&h->socket);
		if (h->account != NULL)
			atomic_fetch_sub_explicit(&h->account->clients, 1, memory_order_relaxed);
		account_release(&h->account);
		vars_release(&h->vars);
	} else {
		console_new(admin_instance, h);
	}
	mem_wipe(h, sizeof(*h));
	free(h);
}

static struct console *admin_find_key(struct admin *a, const struct cancel_key *key)
{
	struct console *c;

	TAILQ_FOREACH (c, &a->consoles, entry)
		if (cancel_key_equal(&c->cancel_key, key))
			return c;
	return NULL;
}

/* Ends a wait of this session; a PAUSE or SUSPEND of everything is undone, a PAUSE of a database stays. */
static void admin_cancel_wait(struct console *c)
{
	struct engine *engine = c->admin->engine;

	if (atomic_load(&engine->mode) != ENGINE_ACTIVE && atomic_load(&engine->shutdown) == SHUTDOWN_NONE &&
	    !admin_is_taken(c))
		engine_set_mode(engine, ENGINE_ACTIVE);
	if (c->wait == CONSOLE_WAIT_WORKERS)
		c->canceled = true; /* the wait that follows is over before it begins */
	else if (c->wait != CONSOLE_WAIT_NOTHING)
		console_finish_error(c, CONSOLE_E_CANCELED);
}

static void admin_cancel(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct console_cancel *cancel = CONTAINER_OF(msg, struct console_cancel, msg);
	struct admin *a = admin_instance;
	struct snapshot *snap;
	struct console *c;

	ASSERT(a != NULL);
	snap = engine_snapshot(a->engine);
	c = admin_find_key(a, &cancel->key);
	if (c != NULL && c->is_admin)
		admin_cancel_wait(c);
	cancel_asker_end(&cancel->asker, a->engine, snap->conf, CANCEL_NOWHERE,
			 c == NULL ? REASON_CANCEL_UNKNOWN : REASON_CANCEL_CONSOLE, loop_now_us(a->engine->control));
	snapshot_release(&snap);
	free(cancel);
}

const struct engine_ops admin_engine_ops = {
	.console_adopt = admin_adopt,
	.console_cancel = admin_cancel,
};

struct admin *admin_new(struct engine *engine, const struct admin_ops *ops, void *ctx)
{
	struct snapshot *snap = engine_snapshot(engine);
	struct admin *a = xcalloc(1, sizeof(*a));

	ASSERT(admin_instance == NULL);
	admin_instance = a;
	a->engine = engine;
	a->ops = ops;
	a->ctx = ctx;
	a->profile = snap->conf->profile;
	a->db_name = a->profile == CONF_PROFILE_PGSLUICE ? CONF_CONSOLE_DB : CONF_CONSOLE_DB_PGBOUNCER;
	TAILQ_INIT(&a->consoles);
	a->rollup = rollup_new(engine, a->db_name, &a->stats, clock_mono_us());
	loop_ticker_init(&a->wait_ticker, engine->control, admin_on_wait_tick, a);
	loop_ticker_init(&a->stats_ticker, engine->control, admin_on_stats_tick, a);
	a->stats_us = clock_mono_us();
	loop_ticker_start(&a->stats_ticker, ADMIN_STATS_LOOK_US);
	suspend_on_complete(engine->suspend, admin_on_suspended, a);
	a->http = http_new(engine);
	http_look(a->http, snap->conf->health_listen, a->stats_us);
	snapshot_release(&snap);
	return a;
}

void admin_stop(struct admin *a)
{
	struct console *c;

	while ((c = TAILQ_FIRST(&a->consoles)) != NULL) {
		TAILQ_REMOVE(&a->consoles, c, entry);
		console_free(c);
	}
	suspend_on_complete(a->engine->suspend, NULL, NULL);
	http_free(&a->http);
	loop_ticker_fini(&a->wait_ticker);
	loop_ticker_fini(&a->stats_ticker);
	a->stopped = true;
}

void admin_free(struct admin **admin)
{
	struct admin *a = *admin;

	*admin = NULL;
	if (a == NULL)
		return;
	ASSERT(a->stopped);
	rollup_free(&a->rollup);
	free(a);
	admin_instance = NULL;
}
