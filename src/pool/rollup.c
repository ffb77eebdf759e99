/*
 * Two snapshots are kept of each pool: the one at the end of the last period
 * and the one before. Averages go from the older one to now, so they cover one
 * to two periods and never a moment only.
 *
 *     older              newer                  now
 *       |  last period     |  current period     |
 *       |<------- the averages of SHOW STATS --->|
 */
#include "pool/rollup.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "pool/registry_walk.h"

struct rollup_entry {
	UT_hash_handle hh;
	uint64_t pool_id; /* the key; 0 for the console */
	unsigned seen;    /* the last period in which the pool was there */
	struct stats_sum older;
	struct stats_sum newer;
};

struct rollup {
	struct engine *engine;
	const char *console_name;
	const struct stats *console;
	struct rollup_entry *entries; /* uthash by pool_id */
	unsigned period;
	uint64_t older_us;
	uint64_t newer_us;
};

/* What each average is a share of. */
static const enum stats_per rollup_per[STAT_COUNT] = {
#define X(id, per, help) [STAT_##id] = STATS_PER_##per,
	STATS_TABLE(X)
#undef X
};

struct rollup *rollup_new(struct engine *engine, const char *console_name, const struct stats *console, uint64_t now_us)
{
	struct rollup *r = xcalloc(1, sizeof(*r));

	r->engine = engine;
	r->console_name = console_name;
	r->console = console;
	r->older_us = now_us < USEC_PER_SEC ? 0 : now_us - USEC_PER_SEC; /* a first moment is no rate */
	r->newer_us = now_us;
	return r;
}

void rollup_free(struct rollup **rollup)
{
	struct rollup *r = *rollup;
	struct rollup_entry *e;
	struct rollup_entry *tmp;

	*rollup = NULL;
	if (r == NULL)
		return;
	HASH_ITER (hh, r->entries, e, tmp) {
		HASH_DEL(r->entries, e);
		free(e);
	}
	free(r);
}

void rollup_average(const struct stats_sum *from, const struct stats_sum *to, uint64_t period_us, struct stats_sum *avg)
{
	uint64_t delta[STAT_COUNT];

	for (size_t i = 0; i < STAT_COUNT; i++)
		delta[i] = to->value[i] - from->value[i];
	for (size_t i = 0; i < STAT_COUNT; i++) {
		uint64_t scale = 1;
		uint64_t per = 0;

		switch (rollup_per[i]) {
		case STATS_PER_SECOND:
			scale = USEC_PER_SEC;
			per = period_us;
			break;
		case STATS_PER_XACT:
			per = delta[STAT_xact_count];
			break;
		case STATS_PER_QUERY:
			per = delta[STAT_query_count];
			break;
		case STATS_PER_ASSIGNMENT:
			per = delta[STAT_server_assignment_count];
			break;
		}
		/* bytes of months times a million do not fit into 64 bits */
		avg->value[i] = per == 0 ? 0 : (uint64_t)((unsigned __int128)delta[i] * scale / per);
	}
}

static void rollup_add(struct stats_sum *to, const struct stats_sum *from)
{
	for (size_t i = 0; i < STAT_COUNT; i++)
		to->value[i] += from->value[i];
}

/* What has been counted until now; pool NULL is the console. */
static struct stats_sum rollup_read(struct rollup *r, struct pool *pool)
{
	struct stats_sum sum = { { 0 } };

	if (pool == NULL)
		stats_collect(r->console, &sum);
	else
		pool_stats(pool, &sum);
	return sum;
}

/* NULL for a pool that no snapshot was taken of yet: it began with zeros. */
static struct rollup_entry *rollup_find(struct rollup *r, const struct pool *pool)
{
	uint64_t id = pool == NULL ? 0 : pool->id;
	struct rollup_entry *e;

	HASH_FIND(hh, r->entries, &id, sizeof(id), e);
	return e;
}

static struct rollup_entry *rollup_get(struct rollup *r, const struct pool *pool)
{
	struct rollup_entry *e = rollup_find(r, pool);

	if (e != NULL)
		return e;
	e = xcalloc(1, sizeof(*e));
	e->pool_id = pool == NULL ? 0 : pool->id;
	HASH_ADD(hh, r->entries, pool_id, sizeof(e->pool_id), e);
	return e;
}

/* What has been counted in a pool that is gone is forgotten with it. */
static void rollup_drop_gone(struct rollup *r)
{
	struct rollup_entry *e;
	struct rollup_entry *tmp;

	HASH_ITER (hh, r->entries, e, tmp) {
		if (e->seen == r->period)
			continue;
		HASH_DEL(r->entries, e);
		free(e);
	}
}

/* All pools and, as the last one, NULL for the console. */
static size_t rollup_pools(struct rollup *r, struct pool ***out)
{
	size_t n = registry_pools(r->engine, out);

	*out = xrealloc(*out, (n + 1) * sizeof(**out));
	(*out)[n] = NULL;
	return n + 1;
}

void rollup_tick(struct rollup *r, uint64_t now_us, struct rollup_row *last)
{
	struct stats_sum before = { { 0 } };
	struct pool **pools;
	size_t n = rollup_pools(r, &pools);

	memset(last, 0, sizeof(*last));
	r->period++;
	for (size_t i = 0; i < n; i++) {
		struct rollup_entry *e = rollup_get(r, pools[i]);

		e->seen = r->period;
		e->older = e->newer;
		e->newer = rollup_read(r, pools[i]);
		rollup_add(&before, &e->older);
		rollup_add(&last->total, &e->newer);
	}
	free(pools);
	rollup_drop_gone(r);
	r->older_us = r->newer_us;
	r->newer_us = now_us;
	rollup_average(&before, &last->total, r->newer_us - r->older_us, &last->avg);
}

/* Adds one pool to a row: the total, and in avg, for the time being, the older snapshot. */
static void rollup_collect(struct rollup *r, struct pool *pool, struct rollup_row *row)
{
	const struct rollup_entry *e = rollup_find(r, pool);
	struct stats_sum sum = rollup_read(r, pool);

	rollup_add(&row->total, &sum);
	if (e != NULL)
		rollup_add(&row->avg, &e->older);
}

/* Turns the older snapshot in avg into averages. */
static void rollup_finish(struct rollup *r, uint64_t now_us, struct rollup_row *row)
{
	struct stats_sum older = row->avg;

	rollup_average(&older, &row->total, now_us - r->older_us, &row->avg);
}

static const char *rollup_name(const struct rollup *r, const struct pool *pool)
{
	return pool == NULL ? r->console_name : pool->db->name;
}

static int rollup_compare_pools(const void *a, const void *b)
{
	const struct pool *x = *(struct pool *const *)a;
	const struct pool *y = *(struct pool *const *)b;

	return strcmp(x->db->name, y->db->name);
}

static int rollup_compare_rows(const void *a, const void *b)
{
	const struct rollup_row *x = a;
	const struct rollup_row *y = b;

	return strcmp(x->database, y->database);
}

size_t rollup_databases(struct rollup *r, uint64_t now_us, struct rollup_row **rows)
{
	struct pool **pools;
	size_t pool_count = rollup_pools(r, &pools);
	size_t n = 0;

	/* the pools of a database stand side by side, so its row is always the last one */
	qsort(pools, pool_count - 1, sizeof(pools[0]), rollup_compare_pools);
	*rows = xcalloc(pool_count, sizeof(**rows));
	for (size_t i = 0; i < pool_count; i++) {
		const char *name = rollup_name(r, pools[i]);

		if (n == 0 || strcmp((*rows)[n - 1].database, name) != 0)
			(*rows)[n++].database = name;
		rollup_collect(r, pools[i], &(*rows)[n - 1]);
	}
	for (size_t i = 0; i < n; i++)
		rollup_finish(r, now_us, *rows + i);
	qsort(*rows, n, sizeof(**rows), rollup_compare_rows);
	free(pools);
	return n;
}

void rollup_all(struct rollup *r, uint64_t now_us, struct rollup_row *row)
{
	struct pool **pools;
	size_t n = rollup_pools(r, &pools);

	memset(row, 0, sizeof(*row));
	for (size_t i = 0; i < n; i++)
		rollup_collect(r, pools[i], row);
	rollup_finish(r, now_us, row);
	free(pools);
}
