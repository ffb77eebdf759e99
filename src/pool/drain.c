/*
 * A drain goes through its phases by a timer of the control loop:
 *
 *     DRAIN_ANNOUNCED   the readiness flag has turned, nothing else: load balancers look at it from time to time
 *          | delay
 *     DRAIN_RUNNING     logins are refused, clients are closed with 57P01 where no transaction of theirs is open
 *          | timeout
 *     DRAIN_OVER        the others are closed as well
 *
 * The phase is an atomic of the database, or of the engine for all of them.
 * Workers are told when it changes, and go through their clients (janitor.c),
 * in slices; a client that begins a transaction in the meantime asks
 * engine->turns_away, the one flag for all reasons not to let it (link_client.c),
 * and a session is looked at when a transaction of its ends (link.c).
 *
 * A database that has been drained takes no clients until the drain is ended.
 * When the whole process drains for its end, it stops listening where others may
 * take over, and control.c ends it when nobody is left.
 */
#include "pool/drain.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/systemd.h"
#include "pool/client.h"
#include "pool/janitor.h"
#include "pool/link.h"
#include "pool/registry.h"
#include "pool/registry_walk.h"

struct drain {
	TAILQ_ENTRY(drain) entry; /* in engine->drains */
	struct engine *engine;
	struct loop_alarm alarm;  /* the next phase */
	struct drain_order order; /* its database is held */
};

/* ---- what holds for a client; any thread ---- */

enum reason drain_reason(const struct client *client)
{
	const struct engine *engine = client->pool->engine;

	if (drain_phase_of(engine, client->pool->db) < DRAIN_RUNNING || client->is_inner)
		return REASON_NONE; /* look-ups are for logins to other databases, too, and end soon */
	return atomic_load(&engine->shutdown) == SHUTDOWN_DRAIN ? REASON_SERVER_SHUTDOWN : REASON_DRAIN;
}

/* True when the client has nothing open, and has got everything that it was sent. */
static bool drain_may_close(struct client *client)
{
	switch (client->state) {
	case CL_IDLE:
		return !stream_is_choked(&client->stream);
	case CL_WAITING:
	case CL_WELCOME:
		return pool_dequeue(client->part, client); /* else it is promised a server, which is on its way */
	case CL_ACTIVE:
		return link_is_between(client);
	default:
		return false;
	}
}

bool drain_part(struct pool_part *part, unsigned budget, unsigned *closed)
{
	bool is_over = drain_phase_of(part->pool->engine, part->pool->db) == DRAIN_OVER;
	unsigned n = 0;
	struct client *client;
	struct client *next;

	for (client = TAILQ_FIRST(&part->clients); client != NULL && n < budget; client = next) {
		enum reason reason = drain_reason(client);

		next = TAILQ_NEXT(client, entry);
		if (reason == REASON_NONE || client->state == CL_NEW)
			continue;
		if (!drain_may_close(client))
			reason = is_over ? REASON_DRAIN_TIMEOUT : REASON_NONE;
		if (reason == REASON_NONE)
			continue;
		client_close(client, reason);
		n++;
	}
	*closed += n;
	return client != NULL;
}

/* ---- the phases ---- */

static const char *drain_name(const struct drain *d)
{
	return d->order.db == NULL ? "all databases" : d->order.db->name;
}

static _Atomic enum drain_phase *drain_phase(const struct drain *d)
{
	return d->order.db == NULL ? &d->engine->drain : &d->order.db->drain;
}

static void drain_on_worker(struct worker *worker, void *arg UNUSED)
{
	janitor_kick(worker);
}

static void drain_set_phase(struct drain *d, enum drain_phase phase)
{
	atomic_store(drain_phase(d), phase);
	engine_update_turns_away(d->engine);
	if (d->order.ends_process)
		systemd_notify("STATUS=draining, clients left: %u", drain_client_count(d->engine));
	engine_visit(d->engine, drain_on_worker, NULL, NULL);
}

static void drain_run(struct drain *d)
{
	log_info("draining %s: closing clients at the end of their transactions", drain_name(d));
	if (d->order.ends_process && d->engine->listeners != NULL)
		listener_set_close(d->engine->listeners, LISTEN_TCP);
	drain_set_phase(d, DRAIN_RUNNING);
	if (d->order.timeout_us > 0)
		loop_alarm_move(&d->alarm, d->order.timeout_us);
}

static void drain_on_alarm(struct loop *loop UNUSED, void *arg)
{
	struct drain *d = arg;

	if (atomic_load(drain_phase(d)) == DRAIN_ANNOUNCED) {
		drain_run(d);
	} else {
		log_info("draining %s: the time is over, closing all clients", drain_name(d));
		drain_set_phase(d, DRAIN_OVER);
	}
}

/* ---- beginning and ending ---- */

static struct drain *drain_find(struct engine *engine, const struct db *db)
{
	struct drain *d;

	TAILQ_FOREACH (d, &engine->drains, entry) {
		if (d->order.db == db)
			return d;
	}
	return NULL;
}

static struct drain *drain_new(struct engine *engine, struct db *db)
{
	struct drain *d = xcalloc(1, sizeof(*d));

	d->engine = engine;
	d->order.db = db == NULL ? NULL : db_hold(db);
	loop_alarm_init(&d->alarm, engine->control, drain_on_alarm, d);
	TAILQ_INSERT_TAIL(&engine->drains, d, entry);
	return d;
}

static void drain_free(struct drain *d)
{
	loop_alarm_fini(&d->alarm);
	db_release(&d->order.db);
	free(d);
}

void drain_begin(struct engine *engine, const struct drain_order *order)
{
	struct drain *d = drain_find(engine, order->db);
	bool is_running = d != NULL && atomic_load(drain_phase(d)) >= DRAIN_RUNNING;

	ASSERT(order->db == NULL || !order->ends_process);
	if (d == NULL)
		d = drain_new(engine, order->db);
	d->order.delay_us = order->delay_us;
	d->order.timeout_us = order->timeout_us;
	d->order.ends_process |= order->ends_process;
	loop_alarm_cancel(&d->alarm);
	if (is_running || order->delay_us == 0) {
		drain_run(d);
		return;
	}
	log_info("draining %s: announced", drain_name(d));
	drain_set_phase(d, DRAIN_ANNOUNCED);
	loop_alarm_move(&d->alarm, order->delay_us);
}

bool drain_end(struct engine *engine, struct db *db)
{
	struct drain *d = drain_find(engine, db);

	if (d == NULL)
		return false;
	log_info("draining %s: ended", drain_name(d));
	atomic_store(drain_phase(d), DRAIN_NONE);
	TAILQ_REMOVE(&engine->drains, d, entry);
	drain_free(d);
	engine_update_turns_away(engine);
	return true;
}

void drain_end_all(struct engine *engine)
{
	struct drain *d;

	while ((d = TAILQ_FIRST(&engine->drains)) != NULL) {
		TAILQ_REMOVE(&engine->drains, d, entry);
		drain_free(d);
	}
}

/* ---- is it done? ---- */

unsigned drain_client_count(struct engine *engine)
{
	struct db **dbs;
	size_t count = registry_dbs(engine, &dbs);
	unsigned n = 0;

	for (size_t i = 0; i < count; i++)
		n += atomic_load(&dbs[i]->clients);
	free(dbs);
	return n;
}

bool drain_is_complete(struct engine *engine, const struct db *db)
{
	if (db == NULL)
		return atomic_load(&engine->drain) >= DRAIN_RUNNING && drain_client_count(engine) == 0;
	return drain_phase_of(engine, db) >= DRAIN_RUNNING && atomic_load(&db->clients) == 0;
}
