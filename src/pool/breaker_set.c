/*
 * A server gives one result per class: connect, login and overload when its
 * login has ended, protocol with the first answer that it has given to a client.
 * While a breaker is half open they are what trials are for, and each further
 * transaction of such a server counts like a trial. Successes of servers at work
 * are told only while somebody wants them (wants_results), since there are as
 * many as there are transactions.
 *
 * What is in refuses_until_us: 0, attempts are admitted; BREAKER_FOREVER, it was
 * opened by hand; else the time from which on an attempt may be admitted, with
 * SET_TRIAL when the first trial is under way, which may end sooner.
 */
#include "pool/breaker_set.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/str.h"

#define SET_TRIAL         (UINT64_C(1) << 63)

/* The longest wait that clients are told while the first trial runs. */
#define SET_TRIAL_LEFT_US USEC_PER_SEC

const char *failure_class_name(enum failure_class class)
{
	static const char *const names[] = {
#define X(id, name, help) name,
		FAILURE_CLASS_TABLE(X)
#undef X
	};

	ASSERT(class < FAILURE_CLASSES);
	return names[class];
}

struct breaker_set *breaker_set_new(struct breaker_news *news, const char *name, const struct breaker_conf *conf,
				    uint64_t now_us)
{
	struct breaker_set *set = xcalloc(1, sizeof(*set));

	set->news = news;
	set->name = xstrdup(name);
	set->conf = *conf;
	lock_init(&set->lock, LOCK_RANK_ENDPOINT);
	for (unsigned i = 0; i < FAILURE_CLASSES; i++)
		breaker_init(&set->breakers[i], now_us);
	return set;
}

void breaker_set_free(struct breaker_set *set)
{
	lock_fini(&set->lock);
	free(set->name);
	free(set);
}

bool breaker_set_is_on(struct breaker_set *set)
{
	bool is_on;

	lock_acquire(&set->lock);
	is_on = breaker_is_on(&set->conf);
	lock_release(&set->lock);
	return is_on;
}

/* ---- what is read without the lock, and what is told ---- */

static uint64_t breaker_set_refusal_locked(const struct breaker *b, bool awaits_probe)
{
	switch (b->state) {
	case BREAKER_OPEN:
		return b->until_us == 0 ? 1 : b->until_us;
	case BREAKER_HALF_OPEN:
		if (awaits_probe)
			return b->since_us + BREAKER_PATIENCE_US;
		return b->trials > 0 && b->successes == 0 ? SET_TRIAL | (b->trial_us + BREAKER_PATIENCE_US) : 0;
	default:
		return 0;
	}
}

/* Half open ones are closed by servers that serve; and failures in the middle of queries are held against those. */
static bool breaker_set_wants_results_locked(const struct breaker_set *set, uint64_t now_us)
{
	for (unsigned i = 0; i < FAILURE_CLASSES; i++)
		if (set->breakers[i].state == BREAKER_HALF_OPEN)
			return true;
	return breaker_is_shaky(&set->breakers[FAILURE_PROTOCOL], now_us);
}

/* Has to follow whatever was done to a breaker: makes known what it has come to. */
static void breaker_set_publish_locked(struct breaker_set *set, enum failure_class class,
				       const struct breaker_change *change, bool awaits_probe, uint64_t now_us)
{
	const struct breaker *b = &set->breakers[class];

	atomic_store_explicit(&set->refuses_until_us[class], breaker_set_refusal_locked(b, awaits_probe),
			      memory_order_relaxed);
	atomic_store_explicit(&set->wants_results, breaker_set_wants_results_locked(set, now_us), memory_order_relaxed);
	if (class == FAILURE_OVERLOAD && (b->state == BREAKER_CLOSED || atomic_load(&set->ejected_us) == 0))
		atomic_store_explicit(&set->ejected_us, b->state == BREAKER_CLOSED ? 0 : b->since_us,
				      memory_order_relaxed);
	if (change->from == change->to)
		return;
	breaker_describe(change, set->evidence[class], sizeof(set->evidence[class]));
	/* Of too many the last are lost: the first have brought the others about. */
	if (set->event_count < BREAKER_SET_EVENTS)
		set->events[set->event_count++] = (struct breaker_event){ .class = (uint8_t) class, .change = *change };
	atomic_store(&set->news->is_there, true);
}

/* ---- settings ---- */

void breaker_set_configure(struct breaker_set *set, const struct breaker_conf *conf, uint64_t now_us)
{
	struct breaker_change change;

	lock_acquire(&set->lock);
	set->conf = *conf;
	for (unsigned i = 0; i < FAILURE_CLASSES && !breaker_is_on(conf); i++) {
		(void)breaker_admit(&set->breakers[i], conf, now_us, false, &change); /* closes it */
		breaker_set_publish_locked(set, i, &change, false, now_us);
	}
	lock_release(&set->lock);
}

/* ---- admission ---- */

bool breaker_set_refuses(const struct breaker_set *set, uint64_t now_us, unsigned except, uint64_t *left_us)
{
	uint64_t longest_us = 0;

	for (unsigned i = 0; i < FAILURE_CLASSES; i++) {
		uint64_t word = atomic_load_explicit(&set->refuses_until_us[i], memory_order_relaxed);
		uint64_t until_us = word & ~SET_TRIAL;
		uint64_t class_us = until_us > now_us ? until_us - now_us : 0;

		if ((except & FAILURE_BIT(i)) != 0 || word == 0)
			continue;
		if (word == BREAKER_FOREVER)
			class_us = BREAKER_FOREVER;
		else if ((word & SET_TRIAL) != 0 && class_us > SET_TRIAL_LEFT_US)
			class_us = SET_TRIAL_LEFT_US;
		if (class_us > longest_us)
			longest_us = class_us;
	}
	*left_us = longest_us;
	return longest_us > 0;
}

/*
 * One class of it. That a probe is wanted is told once: those who wait ask again
 * whenever there is news.
 */
static bool breaker_set_ask_locked(struct breaker_set *set, enum failure_class class, uint64_t now_us, bool can_probe)
{
	struct breaker *b = &set->breakers[class];
	uint64_t before_us = atomic_load_explicit(&set->refuses_until_us[class], memory_order_relaxed);
	bool is_patient = b->state != BREAKER_HALF_OPEN || now_us < b->since_us + BREAKER_PATIENCE_US;
	struct breaker_change change;
	enum breaker_verdict verdict = breaker_admit(b, &set->conf, now_us, can_probe && is_patient, &change);
	bool awaits_probe = verdict == BREAKER_WANTS_PROBE;

	breaker_set_publish_locked(set, class, &change, awaits_probe, now_us);
	if (awaits_probe && breaker_set_refusal_locked(b, true) != before_us)
		atomic_store(&set->news->is_there, true);
	return verdict == BREAKER_ADMITS;
}

bool breaker_set_admit(struct breaker_set *set, uint64_t now_us, unsigned except, bool can_probe,
		       struct breaker_pass *pass)
{
	bool is_admitted = true;
	struct breaker_change none = { .from = BREAKER_CLOSED, .to = BREAKER_CLOSED };

	*pass = (struct breaker_pass){ .set = set };
	lock_acquire(&set->lock);
	for (unsigned i = 0; i < FAILURE_CLASSES; i++)
		if ((except & FAILURE_BIT(i)) == 0 && !breaker_set_ask_locked(set, i, now_us, can_probe))
			is_admitted = false;
	for (unsigned i = 0; is_admitted && i < FAILURE_CLASSES; i++) {
		if ((except & FAILURE_BIT(i)) != 0)
			continue;
		pass->tickets[i] = breaker_begin(&set->breakers[i], now_us);
		pass->owed |= FAILURE_BIT(i);
		breaker_set_publish_locked(set, i, &none, false, now_us);
	}
	lock_release(&set->lock);
	return is_admitted;
}

void breaker_set_explain(struct breaker_set *set, char *dst, size_t size)
{
	dst[0] = '\0';
	lock_acquire(&set->lock);
	for (unsigned i = 0; i < FAILURE_CLASSES; i++)
		if (set->breakers[i].state != BREAKER_CLOSED && dst[0] == '\0')
			str_format(dst, size, "%s: %s", failure_class_name(i), set->evidence[i]);
	lock_release(&set->lock);
}

/* ---- results ---- */

/* What a result is of. */
enum result {
	RESULT_SUCCESS,
	RESULT_FAILURE,
	RESULT_NONE,
};

static void breaker_set_result_locked(struct breaker_set *set, enum failure_class class, struct breaker_ticket ticket,
				      enum result result, const char *text, uint32_t dice, uint64_t now_us)
{
	struct breaker *b = &set->breakers[class];
	struct breaker_change change = { .from = b->state, .to = b->state };

	if (result == RESULT_SUCCESS)
		breaker_success(b, &set->conf, ticket, now_us, &change);
	else if (result == RESULT_FAILURE)
		breaker_failure(b, &set->conf, ticket, now_us, text, dice, &change);
	else
		breaker_abandon(b, ticket);
	breaker_set_publish_locked(set, class, &change, false, now_us);
}

/* Results of the same kind for some of the classes that are owed. */
static void breaker_pass_end(struct breaker_pass *pass, unsigned classes, enum result result, uint64_t now_us)
{
	struct breaker_set *set = pass->set;

	classes &= pass->owed;
	if (classes == 0)
		return;
	pass->owed &= (uint8_t)~classes;
	lock_acquire(&set->lock);
	for (unsigned i = 0; i < FAILURE_CLASSES; i++) {
		if ((classes & FAILURE_BIT(i)) == 0)
			continue;
		breaker_set_result_locked(set, i, pass->tickets[i], result, NULL, 0, now_us);
		pass->tickets[i] = breaker_vouch(pass->tickets[i]);
	}
	lock_release(&set->lock);
}

void breaker_pass_succeed(struct breaker_pass *pass, unsigned classes, uint64_t now_us)
{
	breaker_pass_end(pass, classes, RESULT_SUCCESS, now_us);
	if (pass->set != NULL)
		breaker_news_tell(pass->set->news);
}

void breaker_pass_abandon(struct breaker_pass *pass, uint64_t now_us)
{
	breaker_pass_end(pass, pass->owed, RESULT_NONE, now_us); /* which is no news */
}

void breaker_pass_fail(struct breaker_pass *pass, enum failure_class class, uint64_t began_us, const char *text,
		       uint64_t now_us)
{
	struct breaker_set *set = pass->set;
	uint32_t dice = arc4random();
	struct breaker_ticket ticket;

	if (set == NULL || class == FAILURE_NONE)
		return;
	ticket = pass->tickets[class];
	ticket.began_us = began_us;
	lock_acquire(&set->lock);
	/* What was opened before an outage is as good a witness as any while the breaker is closed. */
	if ((pass->owed & FAILURE_BIT(class)) == 0 && set->breakers[class].state == BREAKER_CLOSED)
		ticket = breaker_witness(&set->breakers[class], began_us);
	breaker_set_result_locked(set, class, ticket, RESULT_FAILURE, text, dice, now_us);
	lock_release(&set->lock);
	pass->owed &= (uint8_t)~FAILURE_BIT(class);
	breaker_news_tell(set->news);
}

static void breaker_pass_served_locked(struct breaker_pass *pass, enum failure_class class, uint64_t now_us)
{
	const struct breaker *b = &pass->set->breakers[class];
	struct breaker_ticket ticket = pass->tickets[class];

	if ((pass->owed & FAILURE_BIT(class)) == 0 && b->state == BREAKER_CLOSED) {
		if (class != FAILURE_PROTOCOL)
			return; /* that it serves is no news about logins */
		ticket = breaker_witness(b, 0);
	}
	breaker_set_result_locked(pass->set, class, ticket, RESULT_SUCCESS, NULL, 0, now_us);
	pass->tickets[class] = breaker_vouch(pass->tickets[class]);
}

void breaker_pass_served(struct breaker_pass *pass, bool is_over, uint64_t now_us)
{
	struct breaker_set *set = pass->set;
	bool counts = is_over ? !pass->is_told : pass->owed != 0;

	pass->is_told = !is_over && (pass->is_told || counts);
	if (!counts)
		return;
	lock_acquire(&set->lock);
	for (unsigned i = 0; i < FAILURE_CLASSES; i++)
		breaker_pass_served_locked(pass, i, now_us);
	lock_release(&set->lock);
	pass->owed = 0;
	breaker_news_tell(set->news);
}

void breaker_set_probed(struct breaker_set *set, bool is_ok, uint64_t now_us)
{
	uint32_t dice = arc4random();
	struct breaker_change change;

	lock_acquire(&set->lock);
	for (unsigned i = 0; i < FAILURE_CLASSES; i++) {
		bool was_probed = set->breakers[i].is_probed;

		breaker_probe(&set->breakers[i], &set->conf, is_ok, now_us, dice, &change);
		breaker_set_publish_locked(set, i, &change, false, now_us);
		if (set->breakers[i].is_probed != was_probed)
			atomic_store(&set->news->is_there, true); /* trials have waited for it */
	}
	lock_release(&set->lock);
	breaker_news_tell(set->news);
}

/* ---- for people ---- */

void breaker_set_by_hand(struct breaker_set *set, enum breaker_hand what, uint64_t now_us)
{
	struct breaker_change change;

	lock_acquire(&set->lock);
	for (unsigned i = 0; i < FAILURE_CLASSES; i++) {
		if (what == BREAKER_HAND_OPEN)
			breaker_force_open(&set->breakers[i], now_us, &change);
		else if (what == BREAKER_HAND_CLOSE)
			breaker_force_close(&set->breakers[i], now_us, &change);
		else
			breaker_reset(&set->breakers[i], now_us, &change);
		breaker_set_publish_locked(set, i, &change, false, now_us);
	}
	lock_release(&set->lock);
	breaker_news_tell(set->news);
}

static void breaker_set_log(const struct breaker_set *set, const char *endpoint, const struct breaker_event *event)
{
	const struct breaker_change *change = &event->change;
	char evidence[BREAKER_EVIDENCE_MAX];
	char how_long[48] = "";

	breaker_describe(change, evidence, sizeof(evidence));
	if (change->to == BREAKER_OPEN && change->open_us != BREAKER_FOREVER)
		str_format(how_long, sizeof(how_long), " for %.3f s", (double)change->open_us / USEC_PER_SEC);
	if (change->to == BREAKER_OPEN)
		log_warning("breaker of %s (database %s, class %s): %s -> open%s: %s", endpoint, set->name,
			    failure_class_name(event->class), breaker_state_name(change->from), how_long, evidence);
	else
		log_info("breaker of %s (database %s, class %s): %s -> %s: %s", endpoint, set->name,
			 failure_class_name(event->class), breaker_state_name(change->from),
			 breaker_state_name(change->to), evidence);
}

void breaker_set_log_news(struct breaker_set *set, const char *endpoint)
{
	struct breaker_event events[BREAKER_SET_EVENTS];
	unsigned count;

	lock_acquire(&set->lock);
	count = set->event_count;
	memcpy(events, set->events, count * sizeof(events[0]));
	set->event_count = 0;
	lock_release(&set->lock);
	for (unsigned i = 0; i < count; i++)
		breaker_set_log(set, endpoint, &events[i]);
}

bool breaker_set_wants_probe(struct breaker_set *set)
{
	bool wants = false;

	lock_acquire(&set->lock);
	for (unsigned i = 0; i < FAILURE_CLASSES; i++) {
		const struct breaker *b = &set->breakers[i];

		wants |= b->state == BREAKER_OPEN && b->until_us != BREAKER_FOREVER;
		wants |= b->state == BREAKER_HALF_OPEN && !b->is_probed && b->successes == 0;
	}
	lock_release(&set->lock);
	return wants;
}

void breaker_set_view(struct breaker_set *set, enum failure_class class, uint64_t now_us, struct breaker_view *view)
{
	view->class = failure_class_name(class);
	lock_acquire(&set->lock);
	view->breaker = set->breakers[class];
	str_copy(view->evidence, sizeof(view->evidence), set->evidence[class]);
	lock_release(&set->lock);
	view->left_us = breaker_open_left_us(&view->breaker, now_us);
}
