/*
 * Budgets before login.
 *
 * Everything a stranger can do before he has proved who he is costs us memory,
 * descriptors and processor time. So his logins are counted by where they come
 * from, and three rules hold.
 *
 * Room. When there are more unfinished logins than the maximum, the source with
 * most of them loses its oldest. Sources stand in lists by how many they have,
 * so the fullest is found without a search; where all have one, it is the one
 * that has it longest. An honest client is closed only when everybody else has
 * as few as it, and is older.
 *
 * Rate. A source has a theoretical time of arrival (GCRA, ITU-T I.371): each
 * login that begins moves it on by 1/rate, and one second ahead of now is as far
 * as it may go. What is too early waits, in order, and is not refused.
 *
 * Turns. Of all that wait, the sources take turns, each with its oldest. There
 * are PRELOGIN_PLACES places; who gets one is at work, until it is done or has
 * had the place for PRELOGIN_PLACE_US, since a client that answers slowly must
 * not keep the others from beginning. So the work that has piled up in the loop
 * is bounded, and the login of a newcomer begins after a few others, not after
 * all that were there before.
 *
 *   sources by count:  levels[1] a - b    levels[2] -    levels[3] c
 *   sources whose turn comes:  c - b      too fast: -
 *
 * A source is forgotten when it has no logins and its rate is untouched again,
 * which is a second later at most.
 */
#include "pool/prelogin.h"

#include <stdatomic.h>
#include <uthash.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/siphash.h"

/* Sources with more unfinished logins than this are all the same. */
#define PRELOGIN_LEVELS     1024
#define PRELOGIN_SECOND_NS  1000000000ULL

/* Sources without logins that one call looks at. */
#define PRELOGIN_FORGET_MAX 4

TAILQ_HEAD(prelogin_sources, prelogin_source);
TAILQ_HEAD(prelogin_entries, prelogin_entry);

/* In which list of those whose turn may come a source is. */
enum prelogin_line {
	PRELOGIN_LINE_NONE,  /* nobody of it waits */
	PRELOGIN_LINE_TURNS, /* may begin */
	PRELOGIN_LINE_FAST,  /* was too fast, and has to wait */
};

struct prelogin_source {
	UT_hash_handle hh;
	uint64_t number;
	uint64_t arrival_ns; /* theoretical, of the next login to begin */
	bool is_local;
	enum prelogin_line line;
	unsigned count;                           /* length of entries */
	struct prelogin_entries entries;          /* unfinished, the oldest first */
	struct prelogin_entries waiting;          /* of them, by turn_entry */
	TAILQ_ENTRY(prelogin_source) level_entry; /* in levels or, without entries, in resting */
	TAILQ_ENTRY(prelogin_source) line_entry;
};

struct prelogin {
	struct prelogin_limits limits;
	uint64_t interval_ns;              /* between two logins of a source; 0: no limit */
	uint8_t hash_key[SIPHASH_KEY_LEN]; /* so that nobody can choose addresses that collide */
	struct prelogin_source *by_number; /* uthash */
	struct prelogin_sources levels[PRELOGIN_LEVELS + 1];
	unsigned fullest;                /* the highest level that has somebody; 0: none */
	struct prelogin_sources resting; /* without unfinished logins, who became so last is last */
	struct prelogin_sources turns;
	struct prelogin_sources fast;
	struct prelogin_entries working; /* by turn_entry, who began first is first */
	unsigned working_count;
	/* written by the loop's thread only */
	atomic_uint source_count;
	atomic_uint unfinished;
	atomic_uint waiting;
	_Atomic uint64_t delayed;
	_Atomic uint64_t evicted;
};

/* One writer: no need for a locked instruction. */
#define PRELOGIN_COUNT(counter_, by_)                                                                       \
	atomic_store_explicit(&(counter_), atomic_load_explicit(&(counter_), memory_order_relaxed) + (by_), \
			      memory_order_relaxed)

struct prelogin *prelogin_new(void)
{
	struct prelogin *p = xcalloc(1, sizeof(*p));

	siphash_new_key(p->hash_key);
	for (unsigned i = 0; i <= PRELOGIN_LEVELS; i++)
		TAILQ_INIT(&p->levels[i]);
	TAILQ_INIT(&p->resting);
	TAILQ_INIT(&p->turns);
	TAILQ_INIT(&p->fast);
	TAILQ_INIT(&p->working);
	return p;
}

static void prelogin_forget(struct prelogin *p, struct prelogin_source *s)
{
	TAILQ_REMOVE(&p->resting, s, level_entry);
	HASH_DELETE(hh, p->by_number, s);
	free(s);
}

void prelogin_free(struct prelogin **pp)
{
	struct prelogin *p = *pp;
	struct prelogin_source *s;

	*pp = NULL;
	if (p == NULL)
		return;
	ASSERT(p->fullest == 0);
	while ((s = TAILQ_FIRST(&p->resting)) != NULL)
		prelogin_forget(p, s);
	free(p);
}

void prelogin_set_limits(struct prelogin *p, const struct prelogin_limits *limits)
{
	p->limits = *limits;
	p->interval_ns = limits->rate == 0 ? 0 : PRELOGIN_SECOND_NS / limits->rate;
}

bool prelogin_is_on(const struct prelogin *p)
{
	return p->limits.max > 0 || p->limits.rate > 0;
}

/* What the first bits of `size` bits say. */
static uint64_t prelogin_cut(uint64_t bits, unsigned size, unsigned prefix)
{
	ASSERT(prefix >= 1 && prefix <= size);
	return bits >> (size - prefix) << (size - prefix);
}

uint64_t prelogin_source(const struct sock_peer *peer, const struct prelogin_prefixes *prefixes, bool *is_local)
{
	static const uint8_t local6[16] = { [15] = 1 };
	static const uint8_t local4[4] = { 127, 0, 0, 1 };
	uint64_t number = 0;

	if (peer->family == AF_INET6) {
		*is_local = memcmp(peer->ip, local6, sizeof(local6)) == 0;
		for (int i = 0; i < 8; i++)
			number = number << 8 | peer->ip[i];
		return prelogin_cut(number, 64, prefixes->ipv6);
	}
	*is_local = memcmp(peer->ip, local4, sizeof(local4)) == 0;
	for (int i = 0; i < 4; i++)
		number = number << 8 | peer->ip[i];
	/* No network of IPv6 begins with 0:ffff. */
	return 0xffffULL << 32 | prelogin_cut(number, 32, prefixes->ipv4);
}

/* ---- sources ---- */

static unsigned prelogin_level(const struct prelogin_source *s)
{
	return s->count < PRELOGIN_LEVELS ? s->count : PRELOGIN_LEVELS;
}

/* The lists that a source is in follow its count, which becomes `count`. */
static void prelogin_recount(struct prelogin *p, struct prelogin_source *s, unsigned count)
{
	unsigned before = prelogin_level(s);
	unsigned after;

	if (s->count == 0 || count == 0)
		PRELOGIN_COUNT(p->source_count, count == 0 ? -1U : 1U);
	TAILQ_REMOVE(before == 0 ? &p->resting : &p->levels[before], s, level_entry);
	s->count = count;
	after = prelogin_level(s);
	TAILQ_INSERT_TAIL(after == 0 ? &p->resting : &p->levels[after], s, level_entry);
	if (after > p->fullest)
		p->fullest = after;
	while (p->fullest > 0 && TAILQ_EMPTY(&p->levels[p->fullest]))
		p->fullest--;
}

static struct prelogin_source *prelogin_find(struct prelogin *p, uint64_t number, bool is_local)
{
	unsigned hash = (unsigned)siphash_u64(p->hash_key, number);
	struct prelogin_source *s;

	HASH_FIND_BYHASHVALUE(hh, p->by_number, &number, sizeof(number), hash, s);
	if (s != NULL)
		return s;
	s = xcalloc(1, sizeof(*s));
	s->number = number;
	s->is_local = is_local;
	TAILQ_INIT(&s->entries);
	TAILQ_INIT(&s->waiting);
	HASH_ADD_BYHASHVALUE(hh, p->by_number, number, sizeof(s->number), hash, s);
	TAILQ_INSERT_TAIL(&p->resting, s, level_entry);
	return s;
}

static void prelogin_line_up(struct prelogin *p, struct prelogin_source *s, enum prelogin_line line)
{
	if (s->line == PRELOGIN_LINE_TURNS)
		TAILQ_REMOVE(&p->turns, s, line_entry);
	else if (s->line == PRELOGIN_LINE_FAST)
		TAILQ_REMOVE(&p->fast, s, line_entry);
	s->line = line;
	if (line == PRELOGIN_LINE_TURNS)
		TAILQ_INSERT_TAIL(&p->turns, s, line_entry);
	else if (line == PRELOGIN_LINE_FAST)
		TAILQ_INSERT_TAIL(&p->fast, s, line_entry);
}

/* How long until a source may begin its next login. */
static uint64_t prelogin_early_us(const struct prelogin *p, const struct prelogin_source *s, uint64_t now_us)
{
	uint64_t allowed_ns = now_us * 1000 + PRELOGIN_SECOND_NS - p->interval_ns;

	if (p->interval_ns == 0 || s->is_local || s->arrival_ns <= allowed_ns)
		return 0;
	return (s->arrival_ns - allowed_ns + 999) / 1000;
}

/* Sources without logins whose rate is as if they had never been here. */
static void prelogin_forget_some(struct prelogin *p, uint64_t now_us)
{
	struct prelogin_source *s;

	for (int i = 0; i < PRELOGIN_FORGET_MAX && (s = TAILQ_FIRST(&p->resting)) != NULL; i++) {
		if (p->interval_ns != 0 && s->arrival_ns > now_us * 1000)
			break;
		prelogin_forget(p, s);
	}
}

/* ---- logins ---- */

void prelogin_add(struct prelogin *p, struct prelogin_entry *e, uint64_t number, bool is_local, uint64_t now_us)
{
	struct prelogin_source *s = prelogin_find(p, number, is_local);

	e->source = s;
	e->stage = PRELOGIN_WAITING;
	e->since_us = now_us;
	TAILQ_INSERT_TAIL(&s->entries, e, source_entry);
	TAILQ_INSERT_TAIL(&s->waiting, e, turn_entry);
	prelogin_recount(p, s, s->count + 1);
	if (s->line == PRELOGIN_LINE_NONE)
		prelogin_line_up(p, s, PRELOGIN_LINE_TURNS);
	PRELOGIN_COUNT(p->unfinished, 1U);
	PRELOGIN_COUNT(p->waiting, 1U);
}

/* It does not wait any more. */
static void prelogin_unwait(struct prelogin *p, struct prelogin_entry *e)
{
	struct prelogin_source *s = e->source;

	TAILQ_REMOVE(&s->waiting, e, turn_entry);
	if (TAILQ_EMPTY(&s->waiting))
		prelogin_line_up(p, s, PRELOGIN_LINE_NONE);
	PRELOGIN_COUNT(p->waiting, -1U);
}

/* It gives its place to somebody else. */
static void prelogin_unplace(struct prelogin *p, struct prelogin_entry *e)
{
	TAILQ_REMOVE(&p->working, e, turn_entry);
	p->working_count--;
	e->stage = PRELOGIN_SLOW;
}

void prelogin_remove(struct prelogin *p, struct prelogin_entry *e)
{
	struct prelogin_source *s = e->source;

	if (e->stage == PRELOGIN_WAITING)
		prelogin_unwait(p, e);
	else if (e->stage == PRELOGIN_WORKING)
		prelogin_unplace(p, e);
	TAILQ_REMOVE(&s->entries, e, source_entry);
	prelogin_recount(p, s, s->count - 1);
	PRELOGIN_COUNT(p->unfinished, -1U);
	e->source = NULL;
}

struct prelogin_entry *prelogin_victim(struct prelogin *p)
{
	if (p->limits.max == 0 || atomic_load_explicit(&p->unfinished, memory_order_relaxed) <= p->limits.max)
		return NULL;
	PRELOGIN_COUNT(p->evicted, 1U);
	return TAILQ_FIRST(&TAILQ_FIRST(&p->levels[p->fullest])->entries);
}

/* Places of those who have had theirs for long enough are free, and sources that were too fast may be in time now. */
static void prelogin_go_on(struct prelogin *p, uint64_t now_us)
{
	struct prelogin_entry *e;
	struct prelogin_source *s;
	struct prelogin_source *next;

	while ((e = TAILQ_FIRST(&p->working)) != NULL && e->since_us + PRELOGIN_PLACE_US <= now_us)
		prelogin_unplace(p, e);
	for (s = TAILQ_FIRST(&p->fast); s != NULL; s = next) {
		next = TAILQ_NEXT(s, line_entry);
		if (prelogin_early_us(p, s, now_us) == 0)
			prelogin_line_up(p, s, PRELOGIN_LINE_TURNS);
	}
	prelogin_forget_some(p, now_us);
}

static void prelogin_begin(struct prelogin *p, struct prelogin_entry *e, uint64_t now_us)
{
	struct prelogin_source *s = e->source;
	uint64_t now_ns = now_us * 1000;

	prelogin_unwait(p, e);
	if (s->line == PRELOGIN_LINE_TURNS) /* others of it still wait: behind those of other sources */
		prelogin_line_up(p, s, PRELOGIN_LINE_TURNS);
	if (!s->is_local) /* nothing bounds how far it would run ahead */
		s->arrival_ns = (s->arrival_ns > now_ns ? s->arrival_ns : now_ns) + p->interval_ns;
	e->stage = PRELOGIN_WORKING;
	if (now_us > e->since_us)
		PRELOGIN_COUNT(p->delayed, 1U);
	e->since_us = now_us;
	TAILQ_INSERT_TAIL(&p->working, e, turn_entry);
	p->working_count++;
}

struct prelogin_entry *prelogin_next(struct prelogin *p, uint64_t now_us)
{
	struct prelogin_source *s;
	struct prelogin_entry *e;

	prelogin_go_on(p, now_us);
	while (p->working_count < PRELOGIN_PLACES && (s = TAILQ_FIRST(&p->turns)) != NULL) {
		if (prelogin_early_us(p, s, now_us) > 0) {
			prelogin_line_up(p, s, PRELOGIN_LINE_FAST);
			continue;
		}
		e = TAILQ_FIRST(&s->waiting);
		prelogin_begin(p, e, now_us);
		return e;
	}
	return NULL;
}

bool prelogin_has_waiting(const struct prelogin *p)
{
	return atomic_load_explicit(&p->waiting, memory_order_relaxed) > 0;
}

uint64_t prelogin_wait_us(const struct prelogin *p, uint64_t now_us)
{
	uint64_t wait_us = PRELOGIN_NEVER;
	const struct prelogin_source *s;

	if (!TAILQ_EMPTY(&p->turns)) {
		uint64_t free_us = TAILQ_FIRST(&p->working)->since_us + PRELOGIN_PLACE_US;

		wait_us = free_us > now_us ? free_us - now_us : 0;
	}
	TAILQ_FOREACH (s, &p->fast, line_entry) {
		uint64_t early_us = prelogin_early_us(p, s, now_us);

		if (early_us < wait_us)
			wait_us = early_us;
	}
	return wait_us;
}

void prelogin_count(const struct prelogin *p, struct prelogin_counts *counts)
{
	counts->sources = atomic_load_explicit(&p->source_count, memory_order_relaxed);
	counts->unfinished = atomic_load_explicit(&p->unfinished, memory_order_relaxed);
	counts->waiting = atomic_load_explicit(&p->waiting, memory_order_relaxed);
	counts->delayed = atomic_load_explicit(&p->delayed, memory_order_relaxed);
	counts->evicted = atomic_load_explicit(&p->evicted, memory_order_relaxed);
}
