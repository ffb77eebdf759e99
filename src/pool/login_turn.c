/*
 * Whose login begins when: the budgets of prelogin.c for the logins of one loop.
 *
 *   login_on_accept() --> login_turn_enter() --- its turn ---> login_begin() ... login_over() --> login_turn_leave()
 *                               |                                                                       |
 *                               +--> others are closed for it               whoever waits may begin <---+
 *
 * A login that waits is a socket and a struct; nothing is read from it. The
 * time for logins runs, though.
 *
 * Each loop that accepts has its share of the limits, so that no loop asks
 * another, and a source that floods one of them does not touch the budget of
 * those that the kernel gave to another. Clients of Unix sockets are on this
 * machine, where the permissions of the socket say who may come: they count for
 * nothing, and so an administrator comes in by that way whatever happens here.
 */
#include "core/alloc.h"
#include "pool/login_int.h"

struct login_turns {
	struct loop_ctx *ctx;
	struct prelogin *prelogin;
	struct loop_alarm alarm; /* somebody who waits may begin */
	struct loop_task task;   /* the same, at the end of this turn */
};

/* A loop's share of a limit of the process; a limit leaves something to each. */
static unsigned login_turn_share(unsigned limit, unsigned loops)
{
	return limit / loops + (limit % loops != 0);
}

void login_turns_reload(struct login_turns *t)
{
	const struct engine *engine = t->ctx->engine;
	const struct conf *conf = t->ctx->snap->conf;
	unsigned loops = engine->login_count > 0 ? engine->login_count : engine->worker_count;
	struct prelogin_limits limits = {
		.max = login_turn_share(conf->max_prelogin_conn, loops),
		.rate = login_turn_share(conf->max_prelogin_rate, loops),
	};

	prelogin_set_limits(t->prelogin, &limits);
}

/* Everybody whose turn it is begins; the alarm is set for the next one. */
static void login_turn_run(struct login_turns *t)
{
	struct loop *loop = t->ctx->loop;
	struct prelogin_entry *e;
	uint64_t wait_us;

	while ((e = prelogin_next(t->prelogin, loop_now_us(loop))) != NULL)
		login_begin(CONTAINER_OF(e, struct login, turn));
	wait_us = prelogin_wait_us(t->prelogin, loop_now_us(loop));
	if (wait_us != PRELOGIN_NEVER)
		loop_alarm_move(&t->alarm, wait_us);
}

static void login_turn_on_alarm(struct loop *loop UNUSED, void *arg)
{
	login_turn_run(arg);
}

static void login_turn_on_task(struct loop *loop UNUSED, struct loop_task *task)
{
	login_turn_run(CONTAINER_OF(task, struct login_turns, task));
}

struct login_turns *login_turns_new(struct loop_ctx *ctx)
{
	struct login_turns *t = xcalloc(1, sizeof(*t));

	t->ctx = ctx;
	t->prelogin = prelogin_new();
	t->task.fn = login_turn_on_task;
	loop_alarm_init(&t->alarm, ctx->loop, login_turn_on_alarm, t);
	return t;
}

void login_turns_free(struct login_turns **tp)
{
	struct login_turns *t = *tp;

	*tp = NULL;
	loop_alarm_fini(&t->alarm);
	prelogin_free(&t->prelogin);
	free(t);
}

void login_turns_count(const struct login_turns *t, struct prelogin_counts *counts)
{
	prelogin_count(t->prelogin, counts);
}

static void login_turn_evict(struct login *login)
{
	const struct conf *conf = login->ctx->snap->conf;
	struct report_facts facts = { .known = { .database = login->database, .user = login->user } };
	char host[SOCK_ADDR_TEXT];
	struct sock_addr addr;
	struct report report;

	sock_peer_get(&login->peer, &addr);
	sock_addr_host(&addr, host, sizeof(host));
	log_warning_rarely(
		1, "more unfinished logins than max_prelogin_conn (%u): closing the oldest of %s, which has most",
		conf->max_prelogin_conn, host);
	report_fact_limit(&facts, conf->max_prelogin_conn);
	report_reason(&report, conf, REASON_MAX_PRELOGIN, &facts.known);
	login_tell(login, &report);
}

uint64_t login_turn_source(const struct login *login, bool *is_local)
{
	const struct conf *conf = login->ctx->snap->conf;
	const struct prelogin_prefixes prefixes = { conf->prelogin_ipv4_prefix, conf->prelogin_ipv6_prefix };

	return prelogin_source(&login->peer, &prefixes, is_local);
}

void login_turn_enter(struct login *login)
{
	struct login_turns *t = login->ctx->turns;
	struct prelogin_entry *victim;
	bool is_local;
	uint64_t source;

	if (login->is_unix || !prelogin_is_on(t->prelogin)) {
		login_begin(login);
		return;
	}
	source = login_turn_source(login, &is_local);
	prelogin_add(t->prelogin, &login->turn, source, is_local, loop_now_us(login->ctx->loop));
	atomic_fetch_add_explicit(&login->ctx->engine->unfinished_count, 1, memory_order_relaxed);
	while ((victim = prelogin_victim(t->prelogin)) != NULL)
		login_turn_evict(CONTAINER_OF(victim, struct login, turn));
	login_turn_run(t);
}

void login_turn_leave(struct login *login)
{
	struct login_turns *t = login->ctx->turns;

	if (login->turn.source == NULL)
		return;
	prelogin_remove(t->prelogin, &login->turn);
	atomic_fetch_sub_explicit(&login->ctx->engine->unfinished_count, 1, memory_order_relaxed);
	if (prelogin_has_waiting(t->prelogin))
		loop_defer(login->ctx->loop, &t->task);
}

bool login_turn_has_room(const struct login *login)
{
	const struct engine *engine = login->ctx->engine;
	unsigned max = (unsigned)login->snap->conf->max_client_conn;
	unsigned clients = atomic_load_explicit(&engine->client_count, memory_order_relaxed) - 1;
	unsigned unfinished = atomic_load_explicit(&engine->unfinished_count, memory_order_relaxed);

	if (login->turn.source != NULL)
		unfinished--;
	/* The two are read one after the other, so that the difference may be short of nothing. */
	return clients < unfinished || clients - unfinished < max;
}
