/*
 * Who is probed: the endpoints of databases with several hosts or with
 * target_session_attrs, as long as pools of these databases are there, and any
 * endpoint for which somebody has asked (health_request_probe). They are looked
 * up anew once a second; a walk over the registry is cheap enough, and so
 * nothing has to be told of every pool that comes and goes.
 *
 * Endpoints that stand together in a list of hosts make up a group: a primary
 * and its standbys, mostly. Lists that overlap make one group. Groups grow
 * together, and end with their last member.
 *
 * When: each health_interval; every HEALTH_HASTE_US for some seconds after
 * something has changed, and while a group lacks what one of its databases needs
 * (there is no primary, or nobody answers). If that lasts longer than
 * HEALTH_SHORTAGE_US, each HEALTH_SLOW_US, as many poolers may ask. At a symptom
 * the whole group is asked at once, in parallel; then nobody waits for a host
 * that does not answer before the others are heard. A symptom that comes again
 * and again (an application that writes to a standby) has the group asked once
 * in HEALTH_HASTE_US and no more. An endpoint with an open breaker is asked in
 * haste, too, as an answer closes it sooner.
 *
 * What follows: each answer is judged together with the last ones of the group
 * (health_judge.c), the facts are put where everybody reads them (endpoint.h),
 * and if they have changed for somebody, each worker is visited once: it closes
 * servers where they no longer belong and opens others for those who wait
 * (janitor_apply_roles). Visits do not overlap; changes during one lead to
 * another.
 *
 * The other threads reach this by messages (health_post).
 *
 * In an online restart the next process is told what was found out last: else it
 * would trust an old primary that answers first, or alone.
 */
#include "pool/health.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "pool/health_probe.h"
#include "pool/health_saved.h"
#include "pool/janitor.h"
#include "pool/pool.h"
#include "pool/registry_walk.h"

#define HEALTH_HASTE_US    (USEC_PER_SEC / 4)
/* How long a group is asked in haste after something has changed. */
#define HEALTH_BURST_US    (5 * USEC_PER_SEC)
/* How long a group is asked in haste for what it lacks, and how often from then on. */
#define HEALTH_SHORTAGE_US (60 * USEC_PER_SEC)
#define HEALTH_SLOW_US     USEC_PER_SEC
#define HEALTH_SCAN_US     USEC_PER_SEC
/* How long an endpoint is probed that somebody has asked for. */
#define HEALTH_REQUEST_US  (30 * USEC_PER_SEC)
/* How many intervals an answer is believed. */
#define HEALTH_BELIEF      3
/* How long an endpoint is kept in mind that another process has known, without a pool that needs it. */
#define HEALTH_CARRIED_US  (3600 * USEC_PER_SEC)
/* Whom probes log in as when nobody has a password for us. */
#define HEALTH_NOBODY      "pgsluice"

struct health_group {
	TAILQ_HEAD(, health_target) members;
	unsigned attrs;          /* bits of target_session_attrs that its databases have */
	uint64_t hasty_until_us; /* probed in haste until then */
	uint64_t short_since_us; /* none of it is what one of these asks for; 0: that is not so */
	struct failover_watch watch;
	const struct health_target *primary; /* as judged last, or NULL */
};

struct health_target {
	UT_hash_handle hh; /* by endpoint */
	struct health *health;
	struct endpoint *endpoint; /* held */
	struct health_group *group;
	TAILQ_ENTRY(health_target) entry; /* in group->members */
	struct health_probe *probe;
	unsigned scan;               /* the last one that has found it in use */
	struct pool_conf *asker;     /* held during a scan: of the pool that says how to ask */
	bool is_set;                 /* it is known how to ask */
	uint64_t requested_until_us; /* somebody has asked for it */
	uint64_t carried_until_us;   /* another process has known it, and no pool here has needed it yet; 0: not so */
	bool is_tripped;             /* a breaker waits for a probe that succeeds */
	char database[64];           /* one of those that name it */
	uint64_t due_us;             /* the next probe */
	uint64_t asked_us;           /* the last one */
	uint64_t probed_us;          /* its answer; 0: none yet */
	struct health_facts facts;
	struct endpoint_facts told; /* what everybody was told last */
	uint64_t until_us;          /* ... and until when that is believed */
	uint64_t system_id;         /* the last one known, as are the next two */
	uint32_t timeline;
	bool was_primary;
	uint32_t newest;           /* timeline seen among those with the same data */
	uint64_t primary_since_us; /* 0: it was none when it was last asked */
};

struct health {
	struct engine *engine;
	struct health_target *targets; /* uthash */
	struct event *timer;
	unsigned scan;
	uint64_t scanned_us;
	uint64_t interval_us; /* of the settings; 0: off */
	bool is_visiting;
	bool visit_again;
	atomic_bool is_on;                                      /* symptoms are of interest */
	struct health_failover failovers[HEALTH_FAILOVERS_MAX]; /* newest first */
	size_t failover_count;
	struct endpoint *awaited; /* held; the first login there ends failovers[0] */
};

/* ---- messages from other threads ---- */

enum health_event {
	HEALTH_SYMPTOM,
	HEALTH_LOGIN,
	HEALTH_REQUEST,
};

struct health_msg {
	struct loop_msg msg;
	enum health_event event;
	struct endpoint *endpoint; /* held */
	uint64_t now_us;
	char why[FAILOVER_WHY_MAX];
};

static void health_on_msg(struct loop *loop, struct loop_msg *base);

static void health_post(struct engine *engine, enum health_event event, struct endpoint *endpoint, const char *why)
{
	struct health_msg *msg = xcalloc(1, sizeof(*msg));

	msg->msg.fn = health_on_msg;
	msg->event = event;
	msg->endpoint = endpoint_hold(endpoint);
	msg->now_us = clock_mono_us();
	str_copy(msg->why, sizeof(msg->why), why);
	loop_post(engine->control, &msg->msg);
}

static void health_on_symptom(struct endpoint *endpoint, const char *why, void *arg)
{
	struct health *health = arg;

	if (atomic_load_explicit(&health->is_on, memory_order_relaxed))
		health_post(health->engine, HEALTH_SYMPTOM, endpoint, why);
}

static void health_on_login(struct endpoint *endpoint, void *arg)
{
	struct health *health = arg;

	health_post(health->engine, HEALTH_LOGIN, endpoint, "");
}

void health_request_probe(struct engine *engine, struct endpoint *endpoint)
{
	health_post(engine, HEALTH_REQUEST, endpoint, "");
}

/* ---- targets and groups ---- */

static void health_on_answer(void *arg, const struct health_facts *facts);
static void health_on_lost(void *arg);
static void health_visit(struct health *health);

static const struct health_probe_ops health_probe_ops = { .done = health_on_answer, .lost = health_on_lost };

static struct health_target *health_find(struct health *health, const struct endpoint *endpoint)
{
	struct health_target *target;

	HASH_FIND_PTR(health->targets, &endpoint, target);
	return target;
}

static struct health_target *health_get(struct health *health, struct endpoint *endpoint)
{
	struct health_target *target = health_find(health, endpoint);

	if (target != NULL)
		return target;
	target = xcalloc(1, sizeof(*target));
	target->health = health;
	target->endpoint = endpoint_hold(endpoint);
	target->told = endpoint_facts(endpoint);
	target->group = xcalloc(1, sizeof(*target->group));
	TAILQ_INIT(&target->group->members);
	TAILQ_INSERT_TAIL(&target->group->members, target, entry);
	target->probe = health_probe_new(health->engine->control, health->engine->dns, endpoint->host, endpoint->port,
					 &health_probe_ops, target);
	HASH_ADD_PTR(health->targets, endpoint, target);
	return target;
}

/* Stops asking there. What was found out so far is left to the caller. */
static void health_drop(struct health *health, struct health_target *target)
{
	struct health_group *group = target->group;

	pool_conf_release(&target->asker);
	HASH_DEL(health->targets, target);
	health_probe_free(&target->probe);
	TAILQ_REMOVE(&group->members, target, entry);
	if (group->primary == target)
		group->primary = NULL;
	if (TAILQ_EMPTY(&group->members))
		free(group);
	endpoint_release(&target->endpoint);
	free(target);
}

/* They stand in one list: from now on they are one group. */
static void health_join(struct health_target *a, struct health_target *b)
{
	struct health_group *into = a->group;
	struct health_group *from = b->group;
	struct health_target *target;

	if (into == from)
		return;
	while ((target = TAILQ_FIRST(&from->members)) != NULL) {
		TAILQ_REMOVE(&from->members, target, entry);
		TAILQ_INSERT_TAIL(&into->members, target, entry);
		target->group = into;
	}
	if (into->watch.primary[0] == '\0')
		into->watch = from->watch;
	if (into->primary == NULL)
		into->primary = from->primary;
	into->attrs |= from->attrs;
	free(from);
}

/* ---- how to ask ---- */

/* The password of a user in auth_file, if it is there as it is. */
static const char *health_listed_password(const struct snapshot *snap, const char *user)
{
	const struct user *listed = users_find(snap->users, user);

	return listed != NULL && listed->secret.type == SECRET_PLAIN ? listed->secret.text : NULL;
}

/* Who asks, by the settings of a database; NULL: nobody has a login for us. */
static const char *health_user(const struct conf *conf, const struct conf_db *db)
{
	if (str_is_set(conf->health_user))
		return conf->health_user;
	return str_is_set(db->user) ? db->user : conf_auth_user(conf, db);
}

/* Fills in user and password. */
static void health_choose_login(const struct snapshot *snap, const struct conf_db *db, struct health_setup *setup)
{
	const struct conf *conf = snap->conf;

	setup->user = health_user(conf, db);
	if (setup->user == NULL)
		setup->user = HEALTH_NOBODY;
	else if (setup->user == conf->health_user)
		setup->password = conf->health_password;
	else if (setup->user == db->user)
		setup->password = db->password;
	if (!str_is_set(setup->password))
		setup->password = health_listed_password(snap, setup->user);
}

static void health_set_target(struct health_target *target, const struct snapshot *snap)
{
	const struct conf *conf = snap->conf;
	const struct conf_db *db = target->asker->db;
	struct health_setup setup = {
		.dbname = str_is_set(conf->health_dbname) ? conf->health_dbname : db->dbname,
		.query = conf->health_query,
		.tls_mode = (enum conf_sslmode)conf->server_tls_sslmode,
		.tls_direct = conf->server_tls_sslnegotiation == CONF_SSLNEG_DIRECT,
		.tls_ca = conf->server_tls_ca_file,
		.tls_cert = conf->server_tls_cert_file,
		.tls_key = conf->server_tls_key_file,
		.timeout_us = conf->health_timeout_us,
	};

	health_choose_login(snap, db, &setup);
	target->is_set = true;
	str_copy(target->database, sizeof(target->database), db->name);
	health_probe_set(target->probe, &setup);
}

/* The first database says how to ask, unless only a later one knows a login. */
static void health_offer_asker(struct health_target *target, const struct conf *conf, struct pool_conf *asker)
{
	if (target->asker != NULL &&
	    (health_user(conf, target->asker->db) != NULL || health_user(conf, asker->db) == NULL))
		return;
	pool_conf_release(&target->asker);
	target->asker = pool_conf_hold(asker);
}

/* ---- time ---- */

static bool health_is_hasty(const struct health_group *group, uint64_t now_us)
{
	return group->hasty_until_us > now_us ||
	       (group->short_since_us != 0 && now_us - group->short_since_us < HEALTH_SHORTAGE_US);
}

/* The time between two probes of an endpoint. */
static uint64_t health_pause(const struct health_target *target, uint64_t now_us)
{
	uint64_t interval_us = target->health->interval_us;
	uint64_t haste_us = UINT64_MAX;

	if (interval_us == 0)
		interval_us = USEC_PER_SEC;
	if (health_is_hasty(target->group, now_us) || target->is_tripped)
		haste_us = HEALTH_HASTE_US;
	else if (target->group->short_since_us != 0)
		haste_us = HEALTH_SLOW_US;
	return haste_us < interval_us ? haste_us : interval_us;
}

/* Something is wrong, or was just found out: all are asked, now and often; but not more than that. */
static void health_hurry(struct health_group *group, uint64_t now_us)
{
	bool was_hasty = group->hasty_until_us > now_us;
	struct health_target *target;

	group->hasty_until_us = now_us + HEALTH_BURST_US;
	TAILQ_FOREACH (target, &group->members, entry) {
		uint64_t soonest_us = target->asked_us + HEALTH_HASTE_US;

		target->due_us = was_hasty && soonest_us > now_us ? soonest_us : now_us;
	}
}

/* True when somebody of the group can be reached, and has the role that is asked for, or one that is not known. */
static bool health_has(const struct health_group *group, enum conf_session_attrs attrs)
{
	const struct health_target *target;

	TAILQ_FOREACH (target, &group->members, entry)
		if (!target->told.is_unreachable && endpoint_fits(&target->told, attrs))
			return true;
	return false;
}

/* Whether a database of the group has to do without the role that it needs. */
static void health_look_for_shortage(struct health_group *group, uint64_t now_us)
{
	bool is_short = false;

	for (unsigned attrs = 0; group->attrs >> attrs != 0; attrs++)
		is_short |= (group->attrs >> attrs & 1) != 0 && !health_has(group, attrs);
	if (!is_short) {
		group->short_since_us = 0;
	} else if (group->short_since_us == 0) {
		group->short_since_us = now_us;
		health_hurry(group, now_us);
	}
}

/* ---- what is in use ---- */

static void health_scan_pool(struct health *health, struct pool *pool)
{
	struct pool_conf *conf = pool->conf; /* written by this thread only */
	const struct endpoint_list *list = &conf->endpoints;
	bool is_watched = health->interval_us > 0 && (list->count > 1 || conf->attrs != CONF_ATTRS_ANY);
	struct health_target *first = NULL;

	for (unsigned i = 0; i < list->count; i++) {
		struct health_target *target =
			is_watched ? health_get(health, list->items[i]) : health_find(health, list->items[i]);

		if (target == NULL)
			continue;
		if (is_watched)
			target->scan = health->scan;
		target->carried_until_us = 0;
		health_offer_asker(target, health->engine->snap->conf, conf);
		if (first == NULL)
			first = target;
		else if (is_watched)
			health_join(first, target);
	}
	if (is_watched && first != NULL)
		first->group->attrs |= 1u << conf->attrs;
}

static void health_switch(struct health *health, bool is_on)
{
	atomic_store(&health->is_on, is_on);
	endpoints_set_probing(health->engine->endpoints, is_on);
}

/* Nobody needs it any more: what was found out there would never be corrected. */
static void health_forget(struct health *health, struct health_target *target, uint64_t now_us)
{
	if (endpoint_forget_probes(target->endpoint, now_us)) {
		log_info("endpoint %s is not probed any more: reachable, and fenced no more, as far as we know",
			 target->endpoint->name);
		health_visit(health);
	}
	health_drop(health, target);
}

static void health_scan(struct health *health, uint64_t now_us)
{
	struct health_target *target;
	struct health_target *next;
	struct pool **pools;
	size_t n;

	health->scan++;
	health->scanned_us = now_us;
	health->interval_us = health->engine->snap->conf->health_interval_us;
	health_switch(health, health->interval_us > 0);
	if (health->interval_us == 0 && health->targets == NULL)
		return;
	HASH_ITER (hh, health->targets, target, next)
		target->group->attrs = 0;
	n = registry_pools(health->engine, &pools);
	for (size_t i = 0; i < n; i++)
		health_scan_pool(health, pools[i]);
	free(pools);
	HASH_ITER (hh, health->targets, target, next)
		if (target->scan != health->scan && target->requested_until_us < now_us &&
		    target->carried_until_us < now_us)
			health_forget(health, target, now_us);
	HASH_ITER (hh, health->targets, target, next) {
		if (target->asker != NULL)
			health_set_target(target, health->engine->snap);
		pool_conf_release(&target->asker);
		health_look_for_shortage(target->group, now_us);
	}
}

/* ---- asking ---- */

static void health_ask(struct health_target *target, uint64_t now_us)
{
	if (!target->is_set || health_probe_is_busy(target->probe))
		return;
	target->asked_us = now_us;
	target->due_us = now_us + health_pause(target, now_us);
	atomic_store(&target->endpoint->is_suspect, false);
	health_probe_start(target->probe);
}

static void health_arm(struct health *health, uint64_t now_us)
{
	uint64_t next_us = health->scanned_us + HEALTH_SCAN_US;
	struct health_target *target;
	struct health_target *next;
	struct timeval delay;

	HASH_ITER (hh, health->targets, target, next)
		if (target->is_set && !health_probe_is_busy(target->probe) && target->due_us < next_us)
			next_us = target->due_us;
	next_us = next_us > now_us ? next_us - now_us : 0;
	delay = (struct timeval){ (time_t)(next_us / USEC_PER_SEC), (suseconds_t)(next_us % USEC_PER_SEC) };
	if (evtimer_add(health->timer, &delay) != 0)
		log_fatal("no memory");
}

/* Asks those whose time has come. A failure may be known at once and have others asked in this same turn. */
static void health_run(struct health *health)
{
	uint64_t now_us = clock_mono_us();
	struct health_target *target;
	struct health_target *next;

	if (now_us >= health->scanned_us + HEALTH_SCAN_US || health->scanned_us == 0)
		health_scan(health, now_us);
	HASH_ITER (hh, health->targets, target, next)
		if (target->due_us <= now_us)
			health_ask(target, now_us);
	health_arm(health, clock_mono_us());
}

static void health_on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	health_run(arg);
}

/* ---- what everybody is told ---- */

static void health_on_visited(void *arg);

static void health_visit(struct health *health)
{
	if (health->is_visiting) {
		health->visit_again = true;
		return;
	}
	health->is_visiting = true;
	engine_visit(health->engine, janitor_apply_roles, health_on_visited, health->engine);
}

static void health_on_visited(void *arg)
{
	struct health *health = ((struct engine *)arg)->health;

	if (health == NULL)
		return; /* the end */
	health->is_visiting = false;
	if (health->visit_again) {
		health->visit_again = false;
		health_visit(health);
	}
}

/* Says in the log what has changed, and why we think so. */
static void health_log_change(const struct health_target *target, const struct endpoint_facts *now)
{
	const struct endpoint_facts *was = &target->told;
	const struct health_facts *facts = &target->facts;
	const char *name = target->endpoint->name;

	if (now->is_unreachable && !was->is_unreachable)
		log_warning("endpoint %s is unreachable: %s", name, facts->error);
	else if (!now->is_unreachable && was->is_unreachable)
		log_info("endpoint %s is reachable again", name);
	if (now->role != was->role && now->role != ENDPOINT_ROLE_UNKNOWN)
		log_info("endpoint %s is a %s, was %s: timeline %u, system %" PRIu64, name,
			 endpoint_role_name(now->role), endpoint_role_name(was->role), facts->timeline,
			 facts->system_id);
	if (now->is_read_only != was->is_read_only)
		log_info("endpoint %s is read-only by default: %s", name, now->is_read_only ? "yes" : "no");
	if (now->is_fenced && !was->is_fenced)
		log_warning("endpoint %s gets no writes: its timeline is %u, another primary is on %u", name,
			    target->timeline, target->newest);
	else if (!now->is_fenced && was->is_fenced)
		log_info("endpoint %s is fenced no more", name);
}

/* Makes it known; true when that is news. */
static bool health_tell(struct health_target *target, const struct endpoint_facts *facts)
{
	bool is_news = facts->role != target->told.role || facts->is_read_only != target->told.is_read_only ||
		       facts->is_fenced != target->told.is_fenced ||
		       facts->is_unreachable != target->told.is_unreachable ||
		       facts->is_silent != target->told.is_silent;

	if (is_news)
		health_log_change(target, facts);
	target->told = *facts;
	endpoint_set_facts(target->endpoint, facts, target->until_us);
	return is_news;
}

/* What the answer says, but for the fence; what it leaves open stays as others have found it out. */
static struct endpoint_facts health_translate(struct health_target *target, uint64_t now_us)
{
	const struct health_facts *facts = &target->facts;
	struct endpoint_facts out = endpoint_facts(target->endpoint);
	uint64_t until_us = now_us + HEALTH_BELIEF * health_pause(target, now_us) +
			    target->health->engine->snap->conf->health_timeout_us;

	out.is_unreachable = !facts->is_reachable;
	out.is_silent = facts->is_silent;
	if (out.is_silent)
		atomic_store_explicit(&target->endpoint->silent_at, facts->silent_at, memory_order_relaxed);
	if (facts->knows_role) {
		out.role = facts->is_standby ? ENDPOINT_STANDBY : ENDPOINT_PRIMARY;
		out.is_read_only = facts->is_read_only;
	} else if (out.is_unreachable) {
		out.role = ENDPOINT_ROLE_UNKNOWN;
	}
	target->until_us = facts->knows_role || out.is_unreachable
				   ? until_us
				   : atomic_load_explicit(&target->endpoint->facts_until_us, memory_order_relaxed);
	return out;
}

/* ---- judging a group ---- */

/* The newest timeline of those with the same data, and when it became a primary. */
static void health_remember(struct health_target *target, uint64_t now_us)
{
	const struct health_facts *facts = &target->facts;
	struct health_target *other;

	if (!facts->knows_role)
		return;
	target->was_primary = !facts->is_standby;
	if (facts->is_standby)
		target->primary_since_us = 0;
	else if (target->primary_since_us == 0)
		target->primary_since_us = now_us;
	if (facts->system_id == 0)
		return;
	if (target->system_id != facts->system_id)
		target->newest = 0;
	target->system_id = facts->system_id;
	target->timeline = facts->timeline;
	if (target->newest < facts->timeline)
		target->newest = facts->timeline;
	TAILQ_FOREACH (other, &target->group->members, entry)
		if (other->system_id == target->system_id && target->newest < other->newest)
			target->newest = other->newest;
	TAILQ_FOREACH (other, &target->group->members, entry)
		if (other->system_id == target->system_id)
			other->newest = target->newest;
}

/* One that does not answer is what it was last: a primary that was replaced meanwhile is fenced before it returns. */
static struct health_view health_view_of(const struct health_target *target)
{
	const struct health_facts *facts = &target->facts;

	return (struct health_view){
		.is_reachable = target->probed_us > 0 && facts->is_reachable && facts->knows_role,
		.is_primary = target->was_primary,
		.timeline = target->timeline,
		.newest = target->newest,
		.system_id = target->system_id,
		.primary_since_us = target->primary_since_us,
	};
}

static void health_log_failover(const struct failover *f)
{
	log_warning("failover: %s to %s, timeline %u (%s); noticed after %" PRIu64 " ms, new primary after %" PRIu64
		    " ms",
		    f->from, f->to, f->timeline, f->why, (f->detected_us - f->began_us) / 1000,
		    (f->elected_us - f->began_us) / 1000);
}

static void health_await_login(struct health *health, struct endpoint *endpoint)
{
	if (health->awaited != NULL)
		atomic_store(&health->awaited->is_awaited, false);
	endpoint_release(&health->awaited);
	health->awaited = endpoint_hold(endpoint);
	atomic_store(&endpoint->is_awaited, true);
}

static void health_record(struct health *health, const struct health_target *primary)
{
	struct health_failover *all = health->failovers;

	memmove(&all[1], &all[0], (HEALTH_FAILOVERS_MAX - 1) * sizeof(all[0]));
	if (health->failover_count < HEALTH_FAILOVERS_MAX)
		health->failover_count++;
	all[0].failover = primary->group->watch.open;
	str_copy(all[0].database, sizeof(all[0].database), primary->database);
	health_log_failover(&all[0].failover);
	health_await_login(health, primary->endpoint);
}

/* Follows the primary of the group of `asked`, which has just answered; true when something has happened. */
static bool health_follow(const struct health_target *asked, uint64_t now_us)
{
	struct health_group *group = asked->group;
	const struct health_target *primary = group->primary;
	const char *name = primary == NULL ? NULL : primary->endpoint->name;
	const char *why = asked->facts.error[0] != '\0' ? asked->facts.error : "the primary is none any more";

	switch (failover_look(&group->watch, name, primary == NULL ? 0 : primary->facts.timeline, why,
			      primary == NULL ? now_us : primary->asked_us, now_us)) {
	case FAILOVER_NOTHING:
	case FAILOVER_FIRST:
		return false;
	case FAILOVER_LOST:
		log_warning("primary %s is gone: %s", group->watch.primary, group->watch.open.why);
		return true;
	case FAILOVER_BACK:
		log_info("primary %s is back after %" PRIu64 " ms", group->watch.primary,
			 (now_us - group->watch.open.began_us) / 1000);
		return true;
	case FAILOVER_DONE:
		ASSERT(primary != NULL);
		health_record(asked->health, primary);
		return true;
	}
	UNREACHABLE();
}

/* Looks at a group after `asked` has answered. */
static void health_judge_group(struct health_target *asked, const struct endpoint_facts *answer, uint64_t now_us)
{
	struct health_group *group = asked->group;
	struct health_target *target;
	struct health_view *views;
	bool is_news = false;
	size_t n = 0;
	int primary;

	TAILQ_FOREACH (target, &group->members, entry)
		n++;
	views = xcalloc(n, sizeof(views[0]));
	n = 0;
	TAILQ_FOREACH (target, &group->members, entry)
		views[n++] = health_view_of(target);
	primary = health_judge(views, n);
	group->primary = NULL;
	n = 0;
	TAILQ_FOREACH (target, &group->members, entry) {
		struct endpoint_facts facts = target == asked ? *answer : target->told;

		facts.is_fenced = views[n].is_fenced;
		if (primary == (int)n)
			group->primary = target;
		if (target == asked || facts.is_fenced != target->told.is_fenced)
			is_news |= health_tell(target, &facts);
		n++;
	}
	if (health_is_one_system(views, n))
		is_news |= health_follow(asked, now_us);
	free(views);
	health_look_for_shortage(group, now_us);
	if (!is_news)
		return;
	health_hurry(group, now_us);
	health_visit(asked->health);
}

static void health_on_answer(void *arg, const struct health_facts *facts)
{
	struct health_target *target = arg;
	struct endpoint_facts answer;
	uint64_t now_us = clock_mono_us();

	target->facts = *facts;
	target->probed_us = now_us;
	health_remember(target, now_us);
	target->is_tripped = endpoint_probed(target->endpoint, facts->is_reachable, now_us);
	if (target->is_tripped)
		target->requested_until_us = now_us + HEALTH_REQUEST_US;
	answer = health_translate(target, now_us);
	health_judge_group(target, &answer, now_us);
	health_arm(target->health, now_us);
}

/* ---- signs of trouble ---- */

static void health_alarm(struct health_target *target, const char *why, uint64_t when_us)
{
	uint64_t now_us = clock_mono_us();

	if (strcmp(target->group->watch.primary, target->endpoint->name) == 0)
		failover_symptom(&target->group->watch, why, when_us);
	log_debug("endpoint %s: symptom: %s", target->endpoint->name, why);
	health_hurry(target->group, now_us);
	health_run(target->health);
}

static void health_on_lost(void *arg)
{
	struct health_target *target = arg;

	health_alarm(target, "the connection of the probe was closed", clock_mono_us());
}

static void health_on_request(struct health *health, struct endpoint *endpoint)
{
	struct health_target *target = health_get(health, endpoint);
	uint64_t now_us = clock_mono_us();

	target->requested_until_us = now_us + HEALTH_REQUEST_US;
	target->due_us = now_us;
	health_scan(health, now_us);
	health_run(health);
}

static void health_on_first_login(struct health *health, const struct endpoint *endpoint, uint64_t now_us)
{
	struct failover *f = &health->failovers[0].failover;

	if (health->awaited != endpoint)
		return;
	endpoint_release(&health->awaited);
	f->reconnect_us = now_us;
	log_info("failover: first server at %s after %" PRIu64 " ms", f->to, (now_us - f->began_us) / 1000);
}

static void health_on_msg(struct loop *loop, struct loop_msg *base)
{
	struct health_msg *msg = CONTAINER_OF(base, struct health_msg, msg);
	struct engine *engine = loop_owner(loop);
	struct health *health = engine->health;
	struct health_target *target = health == NULL ? NULL : health_find(health, msg->endpoint);

	if (health != NULL && msg->event == HEALTH_LOGIN)
		health_on_first_login(health, msg->endpoint, msg->now_us);
	else if (health != NULL && msg->event == HEALTH_REQUEST)
		health_on_request(health, msg->endpoint);
	else if (target != NULL)
		health_alarm(target, msg->why, msg->now_us);
	endpoint_release(&msg->endpoint);
	free(msg);
}

/* ---- from one process to another ---- */

/* Bits of what everybody was told, besides the role. */
#define HEALTH_READ_ONLY   1
#define HEALTH_FENCED      2
#define HEALTH_UNREACHABLE 4
#define HEALTH_SILENT      8

static uint64_t health_pack_told(const struct endpoint_facts *facts)
{
	return (facts->is_read_only ? HEALTH_READ_ONLY : 0) | (facts->is_fenced ? HEALTH_FENCED : 0) |
	       (facts->is_unreachable ? HEALTH_UNREACHABLE : 0) | (facts->is_silent ? HEALTH_SILENT : 0);
}

static int health_write(const struct health_target *target, struct buf *b)
{
	const struct endpoint_facts facts = endpoint_facts(target->endpoint);
	const struct health_saved saved = {
		.host = target->endpoint->host,
		.port = target->endpoint->port,
		.system = target->system_id,
		.timeline = target->timeline,
		.newest = target->newest,
		.primary = target->was_primary,
		.since = target->primary_since_us,
		.watched = strcmp(target->group->watch.primary, target->endpoint->name) == 0,
		.role = facts.role,
		.told = health_pack_told(&facts),
		.until = atomic_load(&target->endpoint->facts_until_us),
	};
	return health_saved_write(&saved, b);
}

void health_save(struct health *health, void (*fn)(const char *text, void *arg), void *arg)
{
	struct health_target *target;
	struct health_target *next;

	HASH_ITER (hh, health->targets, target, next) {
		struct buf b;

		if (target->probed_us == 0 && target->carried_until_us == 0)
			continue;
		buf_init(&b, HEALTH_SAVED_MAX);
		if (health_write(target, &b) == 0)
			fn((const char *)buf_ptr(&b), arg);
		buf_fini(&b);
	}
}

void health_load(struct health *health, const char *text)
{
	struct health_target *target;
	struct endpoint *endpoint;
	struct endpoint_facts facts;
	struct health_saved saved;

	if (health->engine->snap->conf->health_interval_us == 0)
		return; /* nobody would ever find out that it is otherwise by now */
	if (health_saved_read(&saved, text) != 0) {
		log_warning("what the other process knows of an endpoint cannot be read");
		health_saved_fini(&saved);
		return;
	}
	facts = (struct endpoint_facts){
		.role = saved.role < ENDPOINT_ROLES ? (enum endpoint_role)saved.role : ENDPOINT_ROLE_UNKNOWN,
		.is_read_only = (saved.told & HEALTH_READ_ONLY) != 0,
		.is_fenced = (saved.told & HEALTH_FENCED) != 0,
		.is_unreachable = (saved.told & HEALTH_UNREACHABLE) != 0,
		.is_silent = (saved.told & HEALTH_SILENT) != 0,
	};
	endpoint = endpoint_get(health->engine->endpoints, saved.host, (uint16_t)saved.port);
	endpoint_set_facts(endpoint, &facts, saved.until);
	target = health_get(health, endpoint);
	target->carried_until_us = clock_mono_us() + HEALTH_CARRIED_US;
	target->until_us = saved.until;
	target->system_id = saved.system;
	target->timeline = (uint32_t)saved.timeline;
	target->newest = (uint32_t)saved.newest;
	target->was_primary = saved.primary != 0;
	target->primary_since_us = saved.since;
	if (saved.watched != 0)
		str_copy(target->group->watch.primary, sizeof(target->group->watch.primary), endpoint->name);
	endpoint_release(&endpoint);
	health_saved_fini(&saved);
}

/* ---- start, end, tables ---- */

struct health *health_new(struct engine *engine)
{
	struct health *health = xcalloc(1, sizeof(*health));

	health->engine = engine;
	health_probe_prepare();
	health->timer = event_new(loop_base(engine->control), -1, 0, health_on_timer, health);
	if (health->timer == NULL)
		log_fatal("no memory");
	health_switch(health, engine->snap->conf->health_interval_us > 0);
	endpoints_set_hooks(engine->endpoints, health_on_symptom, health_on_login, health);
	health_arm(health, clock_mono_us());
	return health;
}

void health_free(struct health **healthp)
{
	struct health *health = *healthp;
	struct health_target *target;
	struct health_target *next;

	*healthp = NULL;
	if (health == NULL)
		return;
	endpoints_set_hooks(health->engine->endpoints, NULL, NULL, NULL);
	HASH_ITER (hh, health->targets, target, next)
		health_drop(health, target);
	endpoint_release(&health->awaited);
	event_free(health->timer);
	free(health);
}

/* True for an endpoint that databases have, or may have. */
static bool health_is_named(const struct conf *conf, const struct endpoint *endpoint)
{
	for (size_t i = 0; i < conf->db_count; i++)
		for (size_t j = 0; j < conf->dbs[i].host.count; j++)
			if (strcmp(conf->dbs[i].host.items[j], endpoint->host) == 0 &&
			    conf_db_port(&conf->dbs[i], j) == endpoint->port)
				return true;
	return conf->autodb != NULL;
}

void health_reload(struct health *health)
{
	const struct conf *conf = health->engine->snap->conf;
	struct health_target *target;
	struct health_target *next;

	HASH_ITER (hh, health->targets, target, next)
		if (target->carried_until_us != 0 && !health_is_named(conf, target->endpoint))
			target->carried_until_us = 0;
	health->scanned_us = 0;
	health_run(health);
}

struct health_walk {
	struct health *health;
	void (*fn)(const struct health_row *row, void *arg);
	void *arg;
};

static void health_each_endpoint(struct endpoint *endpoint, void *arg)
{
	const struct health_walk *walk = arg;
	const struct health_target *target = health_find(walk->health, endpoint);
	struct health_row row = { .endpoint = endpoint, .lag_bytes = -1 };
	uint64_t written;

	if (target != NULL && target->probed_us > 0) {
		row.facts = &target->facts;
		row.probed_us = target->probed_us;
		row.timeline = target->timeline;
		row.system_id = target->system_id;
		written = target->group->primary == NULL ? 0 : target->group->primary->facts.lsn;
		if (target->facts.is_standby && target->facts.lsn != 0 && written != 0)
			row.lag_bytes = written > target->facts.lsn ? (int64_t)(written - target->facts.lsn) : 0;
	}
	walk->fn(&row, walk->arg);
}

void health_each(struct health *health, void (*fn)(const struct health_row *row, void *arg), void *arg)
{
	struct health_walk walk = { .health = health, .fn = fn, .arg = arg };

	endpoints_each(health->engine->endpoints, health_each_endpoint, &walk);
}

size_t health_failovers(const struct health *health, const struct health_failover **out)
{
	*out = health->failovers;
	return health->failover_count;
}
