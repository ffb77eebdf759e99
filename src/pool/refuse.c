/*
 * Breakers change on any thread, mostly in the middle of something. So a change
 * only leaves word; the control loop then logs what has changed and sends round
 * the workers, each of which looks after its own clients and opens what may be
 * opened now. Whoever comes later is refused by pool_checkout(), and what
 * neither catches, such as a pool that loses its last server while a breaker is
 * open already, the janitor finds.
 *
 * A worker may have ten thousands of clients that wait, and others to serve. So
 * it tells them in slices, by the slots that clients have for their whole life:
 * who comes meanwhile was asked by pool_checkout().
 *
 * Most of the time no breaker refuses anybody. That is seen without the lock of
 * a pool, in what breakers make known; what is done is decided under it.
 */
#include "pool/refuse.h"

#include "pool/health.h"
#include "pool/queue.h"
#include "pool/report.h"

/* Clients that are told in one turn of a worker, and slots that are looked at for them. */
#define REFUSE_SLICE       128
#define REFUSE_SLICE_SLOTS 4096

/* ---- is it due? ---- */

bool refuse_is_due_locked(const struct pool *pool, uint64_t now_us, struct pool_refusal *refusal)
{
	const struct pool_conf *conf = pool->conf;
	uint64_t left_us;
	unsigned index;

	if (conf->open_action != CONF_OPEN_FAIL || pool->servers > pool->logging_in)
		return false;
	if (!endpoint_list_refuses(&conf->endpoints, conf->max_eject, now_us, &left_us, &index))
		return false;
	*refusal = (struct pool_refusal){ .reason = REASON_BREAKER_OPEN, .wait_us = left_us, .endpoint = index };
	return true;
}

/* The same for those who stand in the queue already. For whom the one trial is that is under way, they wait for it. */
static bool refuse_waiters_are_due_locked(const struct pool *pool, uint64_t now_us, struct pool_refusal *refusal)
{
	return !pool_is_paused(pool) && pool->logging_in == 0 && refuse_is_due_locked(pool, now_us, refusal);
}

/*
 * False: it is not, by the settings that the worker has of the pool. Those of
 * the pool itself may be newer for a moment, and then the janitor asks again.
 */
static bool refuse_may_be_due(const struct pool_part *part, uint64_t now_us)
{
	const struct pool_conf *conf = part->conf;
	uint64_t left_us;
	unsigned index;

	return conf->open_action == CONF_OPEN_FAIL &&
	       UNLIKELY(endpoint_list_refuses(&conf->endpoints, conf->max_eject, now_us, &left_us, &index));
}

/* ---- telling them ---- */

/* True when only its request ends. Who logs in has none, and nobody would ask again for the pooler itself. */
static bool refuse_spares(const struct client *client, enum reason reason)
{
	if ((client->state != CL_WAITING && client->state != CL_HELD) || client->is_inner)
		return false;
	return reason != REASON_QUERY_TIMEOUT_QUEUE || client->part->conf->query_timeout_action == CONF_TIMEOUT_CANCEL;
}

void refuse_client(struct client *client, const struct pool_refusal *refusal, const struct client_message *message)
{
	bool is_spared = refuse_spares(client, refusal->reason);
	struct report report;

	report_refusal(&report, client, refusal);
	/* Clients act by the state, in whatever style. A timeout that ends the session is told as PgBouncer does. */
	report.is_server = is_spared || refusal->reason != REASON_QUERY_TIMEOUT_QUEUE;
	if (is_spared)
		client_end_request(client, &report, message);
	else
		client_close_report(client, &report);
}

bool refuse_newcomer(struct client *client)
{
	struct pool *pool = client->pool;
	struct pool_refusal refusal;
	bool is_due;

	lock_acquire(&pool->lock);
	is_due = !pool_is_paused(pool) &&
		 refuse_is_due_locked(pool, loop_now_us(client->part->worker->ctx.loop), &refusal);
	lock_release(&pool->lock);
	if (is_due)
		refuse_client(client, &refusal, NULL);
	return is_due;
}

/*
 * A client that waits: true when it was refused and taken out of the queue. One
 * with a query goes on, others are closed.
 */
static bool refuse_waiter(struct client *client, uint64_t now_us)
{
	struct pool *pool = client->pool;
	struct pool_refusal refusal;
	bool is_due;

	if (!refuse_may_be_due(client->part, now_us))
		return false;
	lock_acquire(&pool->lock);
	is_due = client->queued && refuse_waiters_are_due_locked(pool, now_us, &refusal);
	if (is_due)
		queue_leave_locked(client, now_us);
	lock_release(&pool->lock);
	if (is_due)
		refuse_client(client, &refusal, NULL);
	return is_due;
}

/* ---- telling all of a worker ---- */

/* Tells some; the rest is for the next turn. */
static void refuse_slice(struct worker *worker)
{
	struct refuse_walk *walk = &worker->refuse;
	uint64_t now_us = loop_now_us(worker->ctx.loop);
	unsigned looked = 0;
	unsigned told = 0;

	while (walk->at < worker->slot_count && looked++ < REFUSE_SLICE_SLOTS && told < REFUSE_SLICE) {
		struct client *client = worker->slots[walk->at++].client;

		if (client != NULL && (client->state == CL_WAITING || client->state == CL_WELCOME))
			told += refuse_waiter(client, now_us);
	}
	if (walk->at >= worker->slot_count && walk->is_outdated) {
		walk->is_outdated = false;
		walk->at = 0;
	}
	walk->is_under_way = walk->at < worker->slot_count;
	if (walk->is_under_way)
		loop_post(worker->ctx.loop, &walk->slice);
}

static void refuse_on_slice(struct loop *loop UNUSED, struct loop_msg *msg UNUSED)
{
	struct worker *worker = worker_current();

	if (worker->suspended)
		worker->refuse.is_under_way = false; /* the janitor looks after them when that is over */
	else
		refuse_slice(worker);
}

/* Begins to tell them, by a message to itself. */
static void refuse_begin(struct worker *worker)
{
	struct refuse_walk *walk = &worker->refuse;

	if (walk->is_under_way) {
		walk->is_outdated = true;
		return;
	}
	walk->slice.fn = refuse_on_slice;
	walk->at = 0;
	walk->is_under_way = true;
	walk->is_outdated = false;
	loop_post(worker->ctx.loop, &walk->slice);
}

void refuse_look(struct pool_part *part, uint64_t now_us)
{
	struct pool *pool = part->pool;
	struct pool_refusal refusal;
	bool is_due;

	if (part->waiting == 0 || LIKELY(!refuse_may_be_due(part, now_us)))
		return;
	lock_acquire(&pool->lock);
	is_due = refuse_waiters_are_due_locked(pool, now_us, &refusal);
	lock_release(&pool->lock);
	if (is_due)
		refuse_begin(part->worker);
}

/* ---- changes ---- */

static void refuse_on_visit(struct worker *worker, void *arg UNUSED)
{
	uint64_t now_us = loop_now_us(worker->ctx.loop);
	struct pool_part *part;

	if (worker->suspended)
		return; /* the janitor looks after them when that is over */
	TAILQ_FOREACH (part, &worker->parts, entry) {
		if (part->waiting > 0)
			pool_retry_for_breakers(part->pool); /* an endpoint may take somebody again; they know which */
		refuse_look(part, now_us);
		pool_run(part);
	}
}

static void refuse_probe(struct endpoint *endpoint, void *arg)
{
	health_request_probe(arg, endpoint);
}

/* The control loop; the flag goes first, so that no change is left behind. */
static void refuse_on_news(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct engine *engine = CONTAINER_OF(msg, struct engine, breaker_msg);

	atomic_store(&engine->breaker_posted, false);
	endpoints_log_news(engine->endpoints, refuse_probe, engine);
	if (atomic_load(&engine->shutdown) != SHUTDOWN_NOW)
		engine_visit(engine, refuse_on_visit, NULL, NULL);
}

static void refuse_tell(void *arg)
{
	struct engine *engine = arg;

	if (!atomic_exchange(&engine->breaker_posted, true))
		loop_post(engine->control, &engine->breaker_msg);
}

void refuse_init(struct engine *engine)
{
	engine->breaker_msg.fn = refuse_on_news;
	endpoints_set_news_hook(engine->endpoints, refuse_tell, engine);
}

void refuse_fini(struct engine *engine)
{
	endpoints_set_news_hook(engine->endpoints, NULL, NULL);
}
