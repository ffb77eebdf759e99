/*
 * Breakers change on any thread, mostly in the middle of something. So a change
 * only leaves word; the control loop then logs what has changed and sends round
 * the workers, each of which looks after its own clients and opens what may be
 * opened now. Whoever comes later is refused by pool_checkout(), and what
 * neither catches, such as a pool that loses its last server while a breaker is
 * open already, the janitor finds.
 */
#include "pool/refuse.h"

#include "pool/health.h"
#include "pool/queue.h"
#include "pool/report.h"

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

/* ---- telling them ---- */

static void refuse_close(struct client *client, const struct pool_refusal *refusal)
{
	struct report report;

	report_refusal(&report, client, refusal);
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
		refuse_close(client, &refusal);
	return is_due;
}

bool refuse_waiter(struct client *client, uint64_t now_us)
{
	struct pool *pool = client->pool;
	struct pool_refusal refusal;
	struct report report;
	bool is_due;

	lock_acquire(&pool->lock);
	is_due = client->queued && !pool_is_paused(pool) && refuse_is_due_locked(pool, now_us, &refusal);
	/* For whom the one trial is that is under way, they wait for it. */
	is_due = is_due && pool->logging_in == 0;
	if (is_due)
		queue_leave_locked(client, now_us);
	lock_release(&pool->lock);
	if (!is_due)
		return false;
	report_refusal(&report, client, &refusal);
	if (client->state == CL_WAITING && !client->is_inner)
		client_end_wait(client, &report);
	else
		client_close_report(client, &report);
	return true;
}

/* ---- changes ---- */

static void refuse_part(struct pool_part *part, uint64_t now_us)
{
	struct client *client;
	struct client *next;

	if (part->waiting > 0) {
		pool_retry_now(part->pool); /* an endpoint may take somebody again; the breakers know which */
		for (client = TAILQ_FIRST(&part->clients); client != NULL; client = next) {
			next = TAILQ_NEXT(client, entry);
			if (client->state == CL_WAITING || client->state == CL_WELCOME)
				refuse_waiter(client, now_us);
		}
	}
	pool_run(part);
}

static void refuse_on_visit(struct worker *worker, void *arg UNUSED)
{
	uint64_t now_us = loop_now_us(worker->ctx.loop);
	struct pool_part *part;

	if (worker->suspended)
		return; /* the janitor looks after them when that is over */
	TAILQ_FOREACH (part, &worker->parts, entry)
		refuse_part(part, now_us);
}

static void refuse_probe(struct endpoint *endpoint, void *arg)
{
	health_request_probe(arg, endpoint);
}

/* The control loop; the flag goes first, so that no change is left behind. */
static void refuse_on_news(struct loop *loop, struct loop_msg *msg)
{
	struct engine *engine = CONTAINER_OF(msg, struct engine, breaker_msg);

	(void)loop;
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
