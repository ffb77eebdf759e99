/*
 * The engine: start and end of the loops, and what concerns all of them.
 */
#include "pool/engine.h"

#include "auth/hba.h"
#include "auth/ldap_options.h"
#include "auth/scram.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/siphash.h"
#include "core/str.h"
#include "core/systemd.h"
#include "pool/auth_query.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/drain.h"
#include "pool/health.h"
#include "pool/janitor.h"
#include "pool/login.h"
#include "pool/peer.h"
#include "pool/pool_conf.h"
#include "pool/refresh.h"
#include "pool/refuse.h"
#include "pool/registry.h"
#include "pool/registry_walk.h"
#include "pool/route.h"
#include "pool/server.h"
#include "pool/shadow.h"
#include "pool/stmt.h"
#include "pool/survey.h"
#include "pool/suspend.h"
#include "pool/tls_conf.h"
#include "pool/verifiers.h"

#define SLOT_NONE             UINT32_MAX
#define SLOTS_MIN             64

/* Sockets that systemd may pass. */
#define ENGINE_LISTEN_FDS_MAX 64

/* How long a call into a library of a helper thread may hold up the end of the process, for each kind. */
#define ENGINE_JOB_PATIENCE   USEC_PER_SEC

/* ---- snapshots ---- */

/* What is wrong with them was said when the configuration was checked. */
static struct ldap_options *snapshot_ldap_options(const struct conf *conf)
{
	struct ldap_options *ldap;
	char err[512];

	if (!str_is_set(conf->auth_ldap_options))
		return NULL;
	if (ldap_options_parse(slice_of(conf->auth_ldap_options), &ldap, err, sizeof(err)) != 0)
		return NULL;
	return ldap;
}

struct snapshot *snapshot_new(struct conf *conf, struct users *users)
{
	struct snapshot *snap = xcalloc(1, sizeof(*snap));

	atomic_init(&snap->refs, 1);
	snap->template_version = 1;
	snap->conf = conf;
	snap->users = users;
	snap->ldap = snapshot_ldap_options(conf);
	return snap;
}

struct snapshot *snapshot_hold(struct snapshot *snap)
{
	atomic_fetch_add_explicit(&snap->refs, 1, memory_order_relaxed);
	return snap;
}

static void snapshot_free(struct snapshot *snap)
{
	conf_release(&snap->conf);
	users_release(&snap->users);
	tls_conf_release(&snap->tls);
	hba_release(&snap->hba);
	ldap_options_release(&snap->ldap);
	free(snap);
}

static void snapshot_on_free(struct loop *loop UNUSED, struct loop_msg *msg)
{
	snapshot_free(CONTAINER_OF(msg, struct snapshot, free_msg));
}

/* Freeing thousands of databases takes milliseconds, which no login and no query shall wait for. */
void snapshot_release(struct snapshot **snapp)
{
	struct snapshot *snap = *snapp;

	*snapp = NULL;
	if (snap == NULL || atomic_fetch_sub_explicit(&snap->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (snap->home == NULL || snap->home == loop_current()) {
		snapshot_free(snap);
		return;
	}
	snap->free_msg.fn = snapshot_on_free;
	loop_post(snap->home, &snap->free_msg);
}

struct snapshot *engine_snapshot(struct engine *engine)
{
	struct snapshot *snap;

	lock_acquire(&engine->lock);
	snap = snapshot_hold(engine->snap);
	lock_release(&engine->lock);
	return snap;
}

/* ---- workers ---- */

struct worker *worker_current(void)
{
	struct loop *loop = loop_current();

	return loop == NULL ? NULL : loop_owner(loop);
}

static void worker_grow_slots(struct worker *worker)
{
	uint32_t old = worker->slot_count;
	uint32_t count = old == 0 ? SLOTS_MIN : old * 2;

	ASSERT(count <= CANCEL_SLOTS_MAX);
	worker->slots = xrealloc(worker->slots, count * sizeof(worker->slots[0]));
	for (uint32_t i = old; i < count; i++)
		worker->slots[i] = (struct client_slot){ .next_free = i + 1 < count ? i + 1 : SLOT_NONE };
	worker->free_slot = old;
	worker->slot_count = count;
}

uint32_t worker_slot_take(struct worker *worker, struct client *client, uint16_t *generation)
{
	uint32_t slot;

	if (worker->free_slot == SLOT_NONE)
		worker_grow_slots(worker);
	slot = worker->free_slot;
	worker->free_slot = worker->slots[slot].next_free;
	worker->slots[slot].client = client;
	*generation = ++worker->slots[slot].generation;
	return slot;
}

void worker_slot_give(struct worker *worker, uint32_t slot)
{
	ASSERT(slot < worker->slot_count && worker->slots[slot].client != NULL);
	worker->slots[slot].client = NULL;
	worker->slots[slot].next_free = worker->free_slot;
	worker->free_slot = slot;
}

struct client *worker_slot_find(struct worker *worker, uint32_t slot, uint16_t generation)
{
	if (slot >= worker->slot_count || worker->slots[slot].generation != generation)
		return NULL;
	return worker->slots[slot].client;
}

static void loop_ctx_init(struct loop_ctx *ctx, struct engine *engine, struct loop *loop)
{
	ctx->engine = engine;
	ctx->loop = loop;
	ctx->snap = snapshot_hold(engine->snap);
	TAILQ_INIT(&ctx->logins);
	ctx->turns = login_turns_new(ctx);
	login_turns_reload(ctx->turns);
	TAILQ_INIT(&ctx->auth_runs);
}

static struct worker *worker_new(struct engine *engine, unsigned index)
{
	struct worker *worker = xcalloc_aligned(sizeof(*worker));
	char name[16];

	str_format(name, sizeof(name), "worker%u", index);
	worker->index = index;
	worker->free_slot = SLOT_NONE;
	TAILQ_INIT(&worker->parts);
	TAILQ_INIT(&worker->cancels);
	loop_ctx_init(&worker->ctx, engine, loop_new(name, worker));
	loop_set_tick(worker->ctx.loop, JANITOR_PERIOD_US, janitor_tick, worker);
	loop_alarm_init(&worker->wait_alarm, worker->ctx.loop, pool_on_alarm, worker);
	loop_alarm_init(&worker->janitor.alarm, worker->ctx.loop, janitor_on_alarm, worker);
	return worker;
}

static void login_tick(struct loop *loop, void *arg)
{
	login_sweep(arg, loop_now_us(loop));
	auth_query_sweep(arg, loop_now_us(loop));
}

static struct loop_ctx *login_ctx_new(struct engine *engine, unsigned index, const struct conf *conf)
{
	struct loop_ctx *ctx = xcalloc_aligned(sizeof(*ctx));
	char name[16];

	str_format(name, sizeof(name), "login%u", index);
	loop_ctx_init(ctx, engine, loop_new(name, NULL));
	loop_set_nice(ctx->loop, (int)conf->login_nice);
	loop_set_tick(ctx->loop, JANITOR_PERIOD_US, login_tick, ctx);
	return ctx;
}

/* ---- helper threads ---- */

static void engine_new_jobs(struct engine *engine)
{
	static const char *const names[] = {
#define X(id, name) [id] = name,
		ENGINE_JOB_TABLE(X)
#undef X
	};

	for (unsigned i = 0; i < ENGINE_JOB_COUNT; i++)
		engine->jobs[i] = job_queue_new(names[i]);
}

static void engine_tune_jobs(struct engine *engine, const struct conf *conf)
{
	for (unsigned i = 0; i < ENGINE_JOB_COUNT; i++)
		job_queue_tune(engine->jobs[i], conf->auth_helper_threads, conf->auth_helper_queue);
}

/* False when one of them hangs. */
static bool engine_free_jobs(struct engine *engine)
{
	bool all = true;

	for (unsigned i = 0; i < ENGINE_JOB_COUNT; i++)
		all = job_queue_free(&engine->jobs[i], ENGINE_JOB_PATIENCE) && all;
	return all;
}

/* ---- start ---- */

static void engine_address_gone(const char *name, const struct sock_addr *addr, void *arg);

static unsigned engine_thread_count(const struct conf *conf)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = conf->threads > 0 ? conf->threads : (unsigned)(online > 0 ? online : 1);

	return n < CANCEL_WORKER_CONSOLE ? n : CANCEL_WORKER_CONSOLE - 1;
}

static struct dns_conf engine_dns_conf(const struct conf *conf)
{
	return (struct dns_conf){
		.max_ttl_us = conf->dns_max_ttl_us,
		.nxdomain_ttl_us = conf->dns_nxdomain_ttl_us,
		.zone_check_us = conf->dns_zone_check_period_us,
	};
}

struct engine *engine_new(struct snapshot *snap, const struct engine_ops *ops)
{
	const struct conf *conf = snap->conf;
	struct engine *engine = xcalloc_aligned(sizeof(*engine));
	struct dns_conf dns_conf = engine_dns_conf(conf);

	engine->ops = ops;
	TAILQ_INIT(&engine->surveys);
	TAILQ_INIT(&engine->drains);
	engine->start_us = clock_mono_us();
	atomic_store(&engine->next_id, 1);
	atomic_store(&engine->found_iterations, SCRAM_ITERATIONS); /* what PostgreSQL makes by itself */
	siphash_new_key(engine->cancel_secret);
	siphash_new_key(engine->cancel_secret + SIPHASH_KEY_LEN);
	verifiers_make_salt_key(conf, engine->salt_key);
	vars_setup(conf->track_extra_parameters.text);
	shadow_setup();
	stmt_setup(engine->cancel_secret);
	stmt_set_limit(conf->prepared_statement_memory);
	engine->control = loop_new("control", engine);
	snap->home = engine->control;
	engine->snap = snap;
	engine->dns = dns_new(engine->control, conf->resolv_conf, &dns_conf);
	if (engine->dns == NULL)
		log_fatal("dns setup failed");
	dns_set_gone_hook(engine->dns, engine_address_gone, engine);
	engine->auth_cache = auth_cache_new();
	engine->endpoints = endpoints_new();
	refuse_init(engine);
	engine_new_jobs(engine);
	engine_tune_jobs(engine, conf);
	engine->peers = peers_new(engine);
	engine->worker_count = engine_thread_count(conf);
	engine->login_count = conf->login_threads;
	for (unsigned i = 0; i < engine->worker_count; i++)
		engine->workers[i] = worker_new(engine, i);
	engine->logins = xcalloc(engine->login_count, sizeof(engine->logins[0]));
	for (unsigned i = 0; i < engine->login_count; i++)
		engine->logins[i] = login_ctx_new(engine, i, conf);
	engine->suspend = suspend_new(engine);
	registry_init(engine);
	engine->health = health_new(engine);
	return engine;
}

static void engine_listen_conf(const struct conf *conf, struct listen_conf *listen)
{
	*listen = (struct listen_conf){
		.addrs = conf->listen_addr.text,
		.port = (uint16_t)conf->listen_port,
		.unix_dir = conf->unix_socket_dir,
		.unix_mode = (unsigned)conf->unix_socket_mode,
		.unix_group = conf->unix_socket_group,
		.tcp = {
			.backlog = conf->listen_backlog,
			.reuseport = conf->so_reuseport != 0,
			.defer_accept = conf->tcp_defer_accept != 0,
		},
	};
	pool_conf_fill_tuning(&listen->tcp.tuning, conf);
}

/* Settings that say where to listen and differ from their default; empty ones ask for nothing. */
static void engine_warn_ignored(const struct conf *conf)
{
	static const struct {
		enum conf_id id;
		const char *name;
	} settings[] = {
		{ CONF_ID_listen_addr, "listen_addr" },
		{ CONF_ID_unix_socket_dir, "unix_socket_dir" },
	};
	const char *values[] = { conf->listen_addr.text, conf->unix_socket_dir };

	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		const char *usual = conf_show_default(conf, settings[i].id);

		if (values[i] != NULL && values[i][0] != '\0' && (usual == NULL || strcmp(values[i], usual) != 0))
			log_warning("sockets passed from service manager, setting %s ignored", settings[i].name);
	}
}

/* Sockets that systemd has opened for us stand in for all that the configuration names. */
static struct listener_set *engine_open_listeners(const struct conf *conf, char *err, size_t err_size)
{
	struct listen_conf listen;
	int fds[ENGINE_LISTEN_FDS_MAX];
	size_t n = systemd_listen_fds(fds, ARRAY_LEN(fds));

	engine_listen_conf(conf, &listen);
	if (n == 0)
		return listener_set_open(&listen, err, err_size);
	engine_warn_ignored(conf);
	return listener_set_adopt(fds, n, &listen, false, err, err_size);
}

static void engine_attach_listeners(struct engine *engine)
{
	for (unsigned i = 0; i < engine->login_count; i++)
		listener_set_attach(engine->listeners, engine->logins[i]->loop, login_on_accept, engine->logins[i]);
	for (unsigned i = 0; engine->login_count == 0 && i < engine->worker_count; i++)
		listener_set_attach(engine->listeners, engine->workers[i]->ctx.loop, login_on_accept,
				    &engine->workers[i]->ctx);
}

int engine_listen(struct engine *engine, char *err, size_t err_size)
{
	engine->listeners = engine_open_listeners(engine->snap->conf, err, err_size);
	if (engine->listeners == NULL)
		return -E_SYS;
	engine_attach_listeners(engine);
	return 0;
}

int engine_adopt_listeners(struct engine *engine, const int *fds, size_t count, char *err, size_t err_size)
{
	struct listen_conf listen;

	engine_listen_conf(engine->snap->conf, &listen);
	engine->listeners = listener_set_adopt(fds, count, &listen, true, err, err_size);
	if (engine->listeners == NULL)
		return -E_SYS;
	engine_attach_listeners(engine);
	return 0;
}

void engine_start(struct engine *engine)
{
	for (unsigned i = 0; i < engine_loop_count(engine); i++)
		loop_start_thread(engine_loop_at(engine, i)->loop);
	verifiers_begin(engine, engine->snap);
	route_prepare(engine);
}

/* ---- visits ---- */

struct visit {
	struct engine *engine;
	engine_visit_fn fn;
	engine_done_fn done;
	void *arg;
	atomic_uint left;
	struct loop_msg done_msg;
};

struct visit_msg {
	struct loop_msg msg;
	struct visit *visit;
};

static void engine_on_visit_done(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct visit *visit = CONTAINER_OF(msg, struct visit, done_msg);

	if (visit->done != NULL)
		visit->done(visit->arg);
	free(visit);
}

static void engine_on_visit(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct visit_msg *msg = CONTAINER_OF(base, struct visit_msg, msg);
	struct visit *visit = msg->visit;

	free(msg);
	visit->fn(worker_current(), visit->arg);
	if (atomic_fetch_sub_explicit(&visit->left, 1, memory_order_acq_rel) == 1)
		loop_post(visit->engine->control, &visit->done_msg);
}

void engine_visit(struct engine *engine, engine_visit_fn fn, engine_done_fn done, void *arg)
{
	struct visit *visit = xcalloc(1, sizeof(*visit));

	*visit = (struct visit){ .engine = engine, .fn = fn, .done = done, .arg = arg };
	visit->done_msg.fn = engine_on_visit_done;
	atomic_init(&visit->left, engine->worker_count);
	for (unsigned i = 0; i < engine->worker_count; i++) {
		struct visit_msg *msg = xcalloc(1, sizeof(*msg));

		msg->msg.fn = engine_on_visit;
		msg->visit = visit;
		loop_post(engine->workers[i]->ctx.loop, &msg->msg);
	}
}

/* ---- reload, pause, shutdown ---- */

struct reload_msg {
	struct loop_msg msg;
	struct loop_ctx *ctx;
	struct snapshot *snap;
};

static void engine_on_reload(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct reload_msg *msg = CONTAINER_OF(base, struct reload_msg, msg);

	snapshot_release(&msg->ctx->snap);
	msg->ctx->snap = msg->snap;
	login_turns_reload(msg->ctx->turns);
	free(msg);
}

static void engine_post_reload(struct loop_ctx *ctx, struct snapshot *snap)
{
	struct reload_msg *msg = xcalloc(1, sizeof(*msg));

	msg->msg.fn = engine_on_reload;
	msg->ctx = ctx;
	msg->snap = snapshot_hold(snap);
	loop_post(ctx->loop, &msg->msg);
}

void engine_reload(struct engine *engine, struct snapshot *snap)
{
	struct dns_conf dns_conf = engine_dns_conf(snap->conf);
	struct listen_conf listen;

	dns_reconfigure(engine->dns, &dns_conf);
	engine_listen_conf(snap->conf, &listen);
	if (engine->listeners != NULL)
		listener_set_retune(engine->listeners, &listen.tcp);
	engine_tune_jobs(engine, snap->conf);
	snap->home = engine->control;
	for (unsigned i = 0; i < engine_loop_count(engine); i++)
		engine_post_reload(engine_loop_at(engine, i), snap);
	peers_reload(engine->peers, snap);
	verifiers_begin(engine, snap);
	refresh_run(engine, snap);
	health_reload(engine->health);
	route_prepare(engine);
}

static void engine_apply_mode(struct worker *worker, void *arg UNUSED)
{
	struct pool_part *part;

	janitor_apply_mode(worker);
	TAILQ_FOREACH (part, &worker->parts, entry)
		pool_run(part);
}

void engine_set_mode(struct engine *engine, enum engine_mode mode)
{
	enum engine_mode old = atomic_exchange(&engine->mode, mode);

	if (old == ENGINE_SUSPENDED && mode != ENGINE_SUSPENDED)
		suspend_end(engine->suspend);
	if (old != ENGINE_SUSPENDED && mode == ENGINE_SUSPENDED)
		suspend_begin(engine->suspend);
	engine_visit(engine, engine_apply_mode, NULL, NULL);
}

void engine_apply_pauses(struct engine *engine)
{
	engine_visit(engine, engine_apply_mode, NULL, NULL);
}

static void engine_on_shutdown_told(void *arg)
{
	struct engine *engine = arg;

	ASSERT(engine->shutdown_visits > 0);
	engine->shutdown_visits--;
}

void engine_update_turns_away(struct engine *engine)
{
	atomic_store(&engine->turns_away,
		     atomic_load(&engine->shutdown) == SHUTDOWN_WAIT_FOR_SERVERS || !TAILQ_EMPTY(&engine->drains));
}

void engine_shutdown(struct engine *engine, enum engine_shutdown how)
{
	atomic_store(&engine->shutdown, how);
	if (how == SHUTDOWN_NOW) {
		loop_stop(engine->control);
		return;
	}
	if (how != SHUTDOWN_DRAIN)
		(void)drain_end(engine, NULL);
	if (how != SHUTDOWN_DRAIN && engine->listeners != NULL)
		listener_set_close(engine->listeners, LISTEN_TCP);
	engine_update_turns_away(engine);
	if (how == SHUTDOWN_WAIT_FOR_SERVERS && atomic_load(&engine->mode) != ENGINE_PAUSED) {
		engine->shutdown_paused = true;
		engine_set_mode(engine, ENGINE_PAUSED);
	} else if (how != SHUTDOWN_WAIT_FOR_SERVERS && engine->shutdown_paused) {
		/* Clients get full service again; a pause that was there before is not ours to end. */
		engine->shutdown_paused = false;
		engine_set_mode(engine, ENGINE_ACTIVE);
	}
	engine->shutdown_visits++;
	engine_visit(engine, engine_apply_mode, engine_on_shutdown_told, engine);
}

bool engine_is_drained(struct engine *engine)
{
	if (engine->shutdown_visits > 0)
		return false;
	switch (atomic_load(&engine->shutdown)) {
	case SHUTDOWN_WAIT_FOR_SERVERS:
		return engine_server_count(engine) == 0;
	case SHUTDOWN_DRAIN:
		return drain_is_complete(engine, NULL);
	default:
		return atomic_load(&engine->client_count) == 0;
	}
}

unsigned engine_login_total(const struct engine *engine)
{
	unsigned n = 0;

	for (unsigned i = 0; i < engine_loop_count(engine); i++)
		n += atomic_load(&engine_loop_at(engine, i)->login_count);
	return n;
}

unsigned engine_server_count(struct engine *engine)
{
	struct pool **pools;
	size_t count = registry_all_pools(engine, &pools);
	unsigned n = 0;

	for (size_t i = 0; i < count; i++) {
		struct pool_counts counts;

		pool_count(pools[i], &counts);
		n += counts.servers;
	}
	free(pools);
	return n;
}

/* ---- an address that a host name no longer has ---- */

/*
 * All workers are told, and a server may be on its way from one that has not
 * been told yet to one that has. So each server remembers how many addresses
 * had vanished when it was last asked; one that arrives somewhere and has
 * missed one is closed, whether that was its own or not.
 */
struct gone_address {
	struct sock_addr addr;
	unsigned epoch;
	char name[DNS_NAME_MAX + 1];
};

static bool engine_has_gone(const struct server *server, const struct gone_address *gone)
{
	return server->endpoint != NULL && server->part->conf->endpoints.count == 1 &&
	       strcmp(server->endpoint->host, gone->name) == 0 && sock_addr_same_host(&server->addr, &gone->addr);
}

static void engine_on_gone(struct worker *worker, void *arg)
{
	const struct gone_address *gone = arg;
	struct pool_part *part;
	struct server *server;

	TAILQ_FOREACH (part, &worker->parts, entry) {
		TAILQ_FOREACH (server, &part->servers, entry) {
			server->dirty |= engine_has_gone(server, gone);
			if (server->gone_epoch < gone->epoch)
				server->gone_epoch = gone->epoch;
		}
	}
}

/* Connections to it are closed when they are free. */
static void engine_address_gone(const char *name, const struct sock_addr *addr, void *arg)
{
	struct gone_address *gone = xcalloc(1, sizeof(*gone));
	struct engine *engine = arg;

	gone->addr = *addr;
	gone->epoch = atomic_fetch_add(&engine->gone_epoch, 1) + 1;
	str_copy(gone->name, sizeof(gone->name), name);
	engine_visit(engine, engine_on_gone, free, gone);
}

/* ---- the end ---- */

/* What another process goes on with is let go first: nothing may be said on it any more. */
static void engine_let_go(struct pool_part *part)
{
	struct client *client;
	struct server *server;

	TAILQ_FOREACH (client, &part->clients, entry)
		if (client->is_given)
			stream_close(&client->stream);
	TAILQ_FOREACH (server, &part->servers, entry)
		if (server->is_given)
			stream_close(&server->stream);
}

/*
 * The last thing that runs on a worker: everything it has is closed. Whoever
 * could not go on in another process, though most could, is told.
 */
static void engine_close_worker(struct worker *worker)
{
	bool is_handed_over = atomic_load(&worker->ctx.engine->handed_over);
	struct pool_part *part;

	login_close_all(&worker->ctx);
	auth_query_close_all(&worker->ctx);
	TAILQ_FOREACH (part, &worker->parts, entry) {
		struct client *client;
		struct server *server;
		struct server *next;

		if (is_handed_over)
			engine_let_go(part);
		while ((client = TAILQ_FIRST(&part->clients)) != NULL) {
			if (is_handed_over && !client->is_given)
				client_close(client, REASON_FAST_EXIT);
			else
				client_drop(client, REASON_FAST_EXIT);
		}
		for (server = TAILQ_FIRST(&part->servers); server != NULL; server = next) {
			next = TAILQ_NEXT(server, entry);
			server_close(server, REASON_FAST_EXIT);
		}
	}
	cancel_close_all(worker);
}

static void engine_leave_parts(struct worker *worker)
{
	struct pool_part *part;

	while ((part = TAILQ_FIRST(&worker->parts)) != NULL)
		pool_part_leave(part);
}

/*
 * Runs, in the control thread, what is left on a loop whose thread has ended:
 * messages on their way and tasks of the last turn.
 */
static void engine_settle(struct engine *engine)
{
	for (int round = 0; round < 4; round++) {
		for (unsigned i = 0; i < engine->worker_count; i++) {
			loop_run_left(engine->workers[i]->ctx.loop);
			engine_close_worker(engine->workers[i]);
			loop_run_left(engine->workers[i]->ctx.loop);
		}
		for (unsigned i = 0; i < engine->login_count; i++) {
			loop_run_left(engine->logins[i]->loop);
			login_close_all(engine->logins[i]);
			auth_query_close_all(engine->logins[i]);
			loop_run_left(engine->logins[i]->loop);
		}
		loop_run_left(engine->control);
	}
}

bool engine_free(struct engine **enginep)
{
	struct engine *engine = *enginep;
	bool all_ended;

	*enginep = NULL;
	if (engine == NULL)
		return true;
	atomic_store(&engine->mode, ENGINE_PAUSED);
	atomic_store(&engine->shutdown, SHUTDOWN_NOW);
	for (unsigned i = 0; i < engine_loop_count(engine); i++)
		loop_stop(engine_loop_at(engine, i)->loop);
	for (unsigned i = 0; i < engine_loop_count(engine); i++)
		loop_join(engine_loop_at(engine, i)->loop);
	refuse_fini(engine);
	if (atomic_load(&engine->handed_over))
		listener_set_disown_paths(engine->listeners);
	listener_set_free(&engine->listeners);
	engine_settle(engine);
	survey_end_all(engine);
	drain_end_all(engine);
	health_free(&engine->health);
	peers_free(&engine->peers);
	dns_free(&engine->dns);
	all_ended = engine_free_jobs(engine);
	engine_settle(engine);
	for (unsigned i = 0; i < engine->worker_count; i++)
		engine_leave_parts(engine->workers[i]);
	for (unsigned i = 0; i < engine->login_count; i++) {
		login_turns_free(&engine->logins[i]->turns);
		snapshot_release(&engine->logins[i]->snap);
		loop_free(&engine->logins[i]->loop);
		free(engine->logins[i]);
	}
	registry_fini(engine);
	for (unsigned i = 0; i < engine->worker_count; i++) {
		login_turns_free(&engine->workers[i]->ctx.turns);
		snapshot_release(&engine->workers[i]->ctx.snap);
		loop_alarm_fini(&engine->workers[i]->wait_alarm);
		loop_alarm_fini(&engine->workers[i]->janitor.alarm);
		loop_free(&engine->workers[i]->ctx.loop);
		free(engine->workers[i]->slots);
		free(engine->workers[i]);
	}
	auth_cache_free(&engine->auth_cache);
	endpoints_free(&engine->endpoints);
	suspend_free(&engine->suspend);
	loop_free(&engine->control);
	free(engine->logins);
	vars_teardown();
	stmt_teardown();
	mem_wipe(engine->cancel_secret, sizeof(engine->cancel_secret));
	mem_wipe(engine->salt_key, sizeof(engine->salt_key));
	free(engine);
	return all_ended;
}
