/*
 * The janitor: what time brings about. Each worker looks through its own
 * clients and servers at each tick; nothing on the path of a query arms or
 * cancels a timer. A worker with thousands of pools does so in slices, with its
 * sockets served in between: the message `slice` goes on where the last turn
 * has left off. Only the janitor puts parts out of use, so the next one stays
 * where it is.
 */
#include "pool/janitor.h"

#include "core/log.h"
#include "pool/audit.h"
#include "pool/auth_query.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/drain.h"
#include "pool/link.h"
#include "pool/login.h"
#include "pool/query_timeout.h"
#include "pool/queue.h"
#include "pool/refuse.h"
#include "pool/report.h"
#include "pool/server.h"

/* Parts, servers and waiting clients that are looked at in one turn, about. */
#define JANITOR_SLICE        128

/* Passes from one audit to the next: about a second. */
#define JANITOR_AUDIT_PASSES 10

/* From a pass to one that comes before the next tick, at least. */
#define JANITOR_REST_US      5000

/* True when something that began at `since_us` has taken longer than the limit; 0 is no limit. */
static bool janitor_is_over(uint64_t now_us, uint64_t since_us, uint64_t limit_us)
{
	return limit_us > 0 && since_us > 0 && now_us > since_us && now_us - since_us > limit_us;
}

/* Tells a client, once, that it waits. */
static void janitor_notify(struct client *client, uint64_t now_us)
{
	const struct conf *conf = client->part->worker->ctx.snap->conf;
	uint64_t after_us = (uint64_t)conf->query_wait_notify * USEC_PER_SEC;
	struct buf b;
	int err;

	if (after_us == 0 || client->notified || now_us - client->wait_us < after_us + USEC_PER_SEC)
		return;
	client->notified = true;
	buf_init(&b, 1024);
	err = report_notice(&b, conf, "No server connection available in postgres backend, client being queued", NULL);
	if (err == 0)
		err = stream_send_buf(&client->stream, &b);
	buf_fini(&b);
	if (err < 0)
		client_drop(client, REASON_CLIENT_IO);
}

/* True when a client has waited longer than its query may take, if that counts. */
static bool janitor_query_is_over(const struct client *client, uint64_t now_us)
{
	uint64_t limit_us = query_timeout_limit_us(client);

	if (limit_us == 0 || client->replication != NULL || !client->part->conf->timeout_includes_wait)
		return false;
	if (janitor_is_over(now_us, client_open_since_us(client), limit_us))
		return true;
	janitor_expect(client->part->worker, client_open_since_us(client) + limit_us + 1 - now_us);
	return false;
}

/* Tells a client that would wait in vain, of which `budget` may still be told in this turn. */
static bool janitor_sheds(struct client *client, uint64_t now_us, unsigned *budget)
{
	struct pool_refusal refusal;

	if (LIKELY(!client->part->conf->queue_shed) || *budget == 0 || !queue_gives_up(client, now_us, &refusal))
		return false;
	refuse_client(client, &refusal, NULL);
	(*budget)--;
	return true;
}

/* A client in the queue; it may be closed here. */
static void janitor_waiting(struct client *client, uint64_t now_us, unsigned *budget)
{
	const struct conf *conf = client->part->worker->ctx.snap->conf;
	enum reason reason = REASON_NONE;

	if (atomic_load(&client->pool->engine->shutdown) == SHUTDOWN_WAIT_FOR_SERVERS)
		reason = REASON_SERVER_SHUTDOWN;
	else if (client->state == CL_WELCOME && client->replication == NULL &&
		 janitor_is_over(now_us, client->connect_us, conf->client_login_timeout_us))
		reason = REASON_LOGIN_TIMEOUT_DOWN;
	else if (janitor_query_is_over(client, now_us))
		reason = REASON_QUERY_TIMEOUT_QUEUE;
	else if (janitor_is_over(now_us, client_waits_since_us(client), client->query_wait_timeout_us))
		reason = REASON_QUERY_WAIT_TIMEOUT;
	if (reason == REASON_NONE && janitor_sheds(client, now_us, budget))
		return;
	if (reason == REASON_NONE && client->state == CL_WAITING && !pool_is_paused(client->pool))
		janitor_notify(client, now_us);
	/* One that is promised a server, which is on its way, is no longer in the queue. */
	if (reason == REASON_QUERY_TIMEOUT_QUEUE)
		query_timeout_expire(client);
	else if (reason != REASON_NONE && pool_dequeue(client->part, client))
		client_close(client, reason);
}

/* Returns how many were looked at. */
static unsigned janitor_clients(struct pool_part *part, uint64_t now_us)
{
	struct client *client;
	struct client *next;
	unsigned budget = JANITOR_SLICE;
	unsigned n = 0;

	if (part->waiting == 0 && part->timed == 0 && part->failed == 0)
		return 0; /* ten thousand idle clients are not looked at ten times a second */
	for (client = TAILQ_FIRST(&part->clients); client != NULL; client = next) {
		next = TAILQ_NEXT(client, entry);
		if (client->state == CL_WAITING || client->state == CL_WELCOME)
			janitor_waiting(client, now_us, &budget);
		else if (client->state == CL_IDLE &&
			 janitor_is_over(now_us, client->request_us, client->idle_timeout_us))
			client_close(client, REASON_CLIENT_IDLE_TIMEOUT);
		else if (client->state == CL_FAILED &&
			 janitor_is_over(now_us, client->request_us, part->conf->idle_transaction_timeout_us))
			client_close(client, REASON_IDLE_TX_TIMEOUT);
		n++;
	}
	return n;
}

/*
 * A linked server on a host that has been left for another one. Whatever a host
 * writes after it was replaced as primary is lost, even what it reports as
 * committed. A host that does not answer new connections may have been replaced
 * as well; but a server there that still talks is proof that it has not.
 */
static enum reason janitor_left_behind(const struct server *server, uint64_t now_us)
{
	uint64_t timeout_us = server->part->worker->ctx.snap->conf->health_timeout_us;
	struct endpoint_facts facts;

	if (!server_is_misplaced(server))
		return REASON_NONE;
	facts = endpoint_facts(server->endpoint);
	if (facts.is_fenced)
		return REASON_FENCED;
	if (!facts.is_silent || !janitor_is_over(now_us, server->active_us, timeout_us))
		return REASON_NONE;
	return endpoint_is_silent_at(server->endpoint, &server->addr) ? REASON_CUT_OFF : REASON_NONE;
}

/* A linked server. */
static enum reason janitor_active(struct server *server, uint64_t now_us)
{
	const struct pool_conf *conf = server->part->conf;
	const struct client *client = server->client;
	bool is_quiet = track_is_quiet(&server->track);
	enum reason reason;

	if (server->replication != REPLICATION_NONE)
		return server->dirty ? REASON_CONFIG_CHANGED : REASON_NONE; /* a stream may last for years */
	reason = janitor_left_behind(server, now_us);
	if (reason != REASON_NONE)
		return reason;
	if (server_is_unwanted(server) && server->part->worker->ctx.snap->conf->server_fast_close != 0 &&
	    track_is_idle(&server->track))
		return REASON_CONFIG_CHANGED;
	reason = query_timeout_check(server, now_us);
	if (reason != REASON_NONE)
		return reason;
	if (is_quiet && server->track.status != TX_IDLE &&
	    janitor_is_over(now_us, server->active_us, conf->idle_transaction_timeout_us))
		return REASON_IDLE_TX_TIMEOUT;
	if (!track_is_idle(&server->track) && janitor_is_over(now_us, client->xact_us, conf->transaction_timeout_us))
		return REASON_TX_TIMEOUT;
	return REASON_NONE;
}

/* An idle server: closed for its age or for having nothing to do, a few at a time. */
static enum reason janitor_idle(struct server *server, uint64_t now_us)
{
	struct pool_part *part = server->part;
	const struct pool_conf *conf = part->conf;

	if (server_is_unwanted(server))
		return REASON_CONFIG_CHANGED;
	if (pool_is_paused(part->pool))
		return REASON_PAUSE;
	if (conf->server_lifetime_us > 0 && pool_claim_lifetime(part->pool, conf, now_us - server->connect_us, now_us))
		return REASON_LIFETIME;
	if (pool_claim_surplus(part->pool, server))
		return REASON_TOO_MANY;
	if (!janitor_is_over(now_us, server->request_us, conf->server_idle_timeout_us))
		return REASON_NONE;
	/* Others decide for theirs at the same time; the minimum is of the whole pool. */
	return pool_claim_close(part->pool, &server->permit, conf->min_size) ? REASON_IDLE_TIMEOUT : REASON_NONE;
}

static enum reason janitor_server(struct server *server, uint64_t now_us)
{
	const struct pool_conf *conf = server->part->conf;

	switch (server->state) {
	case SV_LOGIN:
		if (pool_is_paused(server->pool))
			return REASON_PAUSE;
		if (server->dirty)
			return REASON_CONFIG_CHANGED;
		return janitor_is_over(now_us, server->connect_us, conf->server_connect_timeout_us)
			       ? REASON_CONNECT_TIMEOUT
			       : REASON_NONE;
	case SV_TESTED:
		return janitor_is_over(now_us, server->request_us, conf->server_connect_timeout_us) ? REASON_TEST_FAILED
												    : REASON_NONE;
	case SV_ACTIVE:
		return janitor_active(server, now_us);
	case SV_IDLE:
		return janitor_idle(server, now_us);
	case SV_CANCELED:
		return cleanup_is_running(server) && cleanup_check(server, now_us) ? REASON_CLIENT_GONE_NOT_READY
										   : REASON_NONE;
	default:
		return REASON_NONE;
	}
}

/* Returns how many were looked at. */
static unsigned janitor_servers(struct pool_part *part, uint64_t now_us)
{
	struct server *server;
	struct server *next;
	unsigned n = 0;

	for (server = TAILQ_FIRST(&part->servers); server != NULL; server = next) {
		enum reason reason = janitor_server(server, now_us);

		next = TAILQ_NEXT(server, entry);
		if (reason != REASON_NONE)
			server_close(server, reason);
		n++;
	}
	return n;
}

void janitor_apply_mode(struct worker *worker)
{
	bool is_refusing = atomic_load(&worker->ctx.engine->shutdown) == SHUTDOWN_WAIT_FOR_SERVERS;
	uint64_t now_us = loop_now_us(worker->ctx.loop);
	struct pool_part *part;

	TAILQ_FOREACH (part, &worker->parts, entry) {
		if (is_refusing)
			janitor_clients(part, now_us);
		if (pool_is_paused(part->pool))
			janitor_servers(part, now_us);
	}
}

void janitor_apply_epoch(struct worker *worker, const struct db *db)
{
	uint64_t now_us = loop_now_us(worker->ctx.loop);
	struct pool_part *part;
	struct server *server;

	TAILQ_FOREACH (part, &worker->parts, entry) {
		if (db != NULL && part->pool->db != db)
			continue;
		TAILQ_FOREACH (server, &part->servers, entry)
			server->dirty |= server_is_stale(server);
		if (worker->suspended)
			continue; /* answers may have come that are not read */
		janitor_servers(part, now_us);
		pool_run(part);
	}
}

void janitor_apply_roles(struct worker *worker, void *arg UNUSED)
{
	uint64_t now_us = loop_now_us(worker->ctx.loop);
	struct pool_part *part;
	struct server *server;

	TAILQ_FOREACH (part, &worker->parts, entry) {
		if (part->conf->endpoints.count == 1 && part->conf->attrs == CONF_ATTRS_ANY)
			continue;
		TAILQ_FOREACH (server, &part->servers, entry)
			server_note_place(server);
		pool_retry_for_roles(part->pool);
		if (worker->suspended)
			continue;
		janitor_servers(part, now_us);
		pool_run(part);
	}
}

/* Returns about how much there was to do. */
static unsigned janitor_part(struct pool_part *part, uint64_t now_us)
{
	unsigned cost = 1 + janitor_clients(part, now_us) + janitor_servers(part, now_us);
	uint64_t period_us = query_timeout_period_us(part);

	if (UNLIKELY(period_us > 0))
		janitor_expect(part->worker, period_us);
	refuse_look(part, now_us);
	pool_run(part);
	if (part->worker->janitor.is_auditing)
		audit_part(part);
	if (pool_part_is_empty(part))
		pool_part_leave(part);
	return cost;
}

static bool janitor_may_drain(const struct worker *worker)
{
	return UNLIKELY(atomic_load_explicit(&worker->ctx.engine->turns_away, memory_order_relaxed));
}

/* Looks through some parts; the rest is for the next turn. */
static void janitor_slice(struct worker *worker)
{
	struct janitor *janitor = &worker->janitor;
	struct loop *loop = worker->ctx.loop;
	uint64_t now_us = loop_now_us(loop);
	unsigned done = 0;

	while (janitor->next != NULL && done < JANITOR_SLICE) {
		struct pool_part *part = janitor->next;

		if (janitor_may_drain(worker) && drain_part(part, JANITOR_SLICE, &done))
			continue; /* goes on with it in the next turn */
		janitor->next = TAILQ_NEXT(part, entry);
		done += janitor_part(part, now_us);
	}
	if (janitor->next != NULL)
		loop_post(loop, &janitor->slice);
}

static void janitor_on_slice(struct loop *loop UNUSED, struct loop_msg *msg UNUSED)
{
	struct worker *worker = worker_current();

	if (worker->suspended)
		worker->janitor.next = NULL;
	else
		janitor_slice(worker);
}

/* Begins a pass. */
static void janitor_begin(struct worker *worker, bool is_auditing)
{
	worker->janitor.slice.fn = janitor_on_slice;
	worker->janitor.is_auditing = is_auditing;
	worker->janitor.next = TAILQ_FIRST(&worker->parts);
	janitor_slice(worker);
}

void janitor_expect(struct worker *worker, uint64_t delay_us)
{
	if (delay_us < 2 * JANITOR_PERIOD_US)
		loop_alarm_set(&worker->janitor.alarm, delay_us < JANITOR_REST_US ? JANITOR_REST_US : delay_us);
}

void janitor_on_alarm(struct loop *loop UNUSED, void *arg)
{
	struct worker *worker = arg;

	if (worker->suspended)
		return;
	if (worker->janitor.next != NULL) {
		janitor_expect(worker, 0); /* it may have been there already */
		return;
	}
	janitor_begin(worker, false);
}

void janitor_kick(struct worker *worker)
{
	if (!worker->suspended && worker->janitor.next == NULL)
		janitor_begin(worker, ++worker->janitor.passes % JANITOR_AUDIT_PASSES == 0);
}

void janitor_tick(struct loop *loop, void *arg)
{
	struct worker *worker = arg;
	uint64_t now_us = loop_now_us(loop);

	if (worker->suspended)
		return;
	janitor_kick(worker);
	cancel_sweep(worker, now_us);
	login_sweep(&worker->ctx, now_us);
	auth_query_sweep(&worker->ctx, now_us);
}
