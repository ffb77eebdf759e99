#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "direct.h"

#define LEDGER_MAX_REPORTS 20

uint32_t ledger_add(struct ledger *l, unsigned n_rows, bool counts)
{
	l->entries = xgrow(l->entries, &l->cap, l->n, sizeof(*l->entries));
	l->entries[l->n] = (struct ledger_entry){ LEDGER_NEVER, counts, (uint16_t)n_rows };
	return (uint32_t)l->n++;
}

void ledger_setup(struct direct *d, unsigned n_slots)
{
	char sql[256];

	direct_query(d,
		     "SET client_min_messages = error;"
		     "DROP TABLE IF EXISTS torture_counter, torture_log, torture_copy;"
		     "CREATE TABLE torture_counter (slot int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 10);"
		     "CREATE TABLE torture_log (slot int NOT NULL, op bigint NOT NULL, part int NOT NULL);"
		     "CREATE UNLOGGED TABLE torture_copy (who text, seq int, v text)",
		     NULL, NULL);
	snprintf(sql, sizeof(sql), "INSERT INTO torture_counter SELECT g, 0 FROM generate_series(0, %u - 1) g",
		 n_slots);
	direct_query(d, sql, NULL, NULL);
}

/* What a verification has at hand while rows come. */
struct ledger_check {
	const struct ledger *ledgers;
	unsigned n_slots;
	uint32_t **seen;    /* rows in the log per slot and operation */
	uint64_t *counters; /* value of each client's counter */
	unsigned n_bad;
};

static void ledger_complain(struct ledger_check *k, const char *what, unsigned slot, uint64_t op, uint64_t got,
			    const char *want)
{
	if (k->n_bad++ < LEDGER_MAX_REPORTS)
		printf("WRONG write: client slot %u, %s %llu: the table says %llu, should be %s\n", slot, what,
		       (unsigned long long)op, (unsigned long long)got, want);
}

static void ledger_log_row(void *arg, int n, char *const *cols)
{
	struct ledger_check *k = arg;
	unsigned slot = (unsigned)strtoul(cols[0], NULL, 10);
	uint64_t op = strtoull(cols[1], NULL, 10);
	uint32_t count = (uint32_t)strtoul(cols[2], NULL, 10);
	uint32_t distinct = (uint32_t)strtoul(cols[3], NULL, 10);

	(void)n;
	if (slot >= k->n_slots || op >= k->ledgers[slot].n) {
		ledger_complain(k, "operation", slot, op, count, "absent (nobody ever started it)");
		return;
	}
	k->seen[slot][op] = count;
	if (distinct != count)
		ledger_complain(k, "distinct rows of operation", slot, op, distinct, "the number of its rows");
}

static void ledger_counter_row(void *arg, int n, char *const *cols)
{
	struct ledger_check *k = arg;
	unsigned slot = (unsigned)strtoul(cols[0], NULL, 10);

	(void)n;
	if (slot < k->n_slots)
		k->counters[slot] = strtoull(cols[1], NULL, 10);
}

static void ledger_verify_slot(struct ledger_check *k, unsigned slot, uint64_t totals[3])
{
	static const char *const want[] = { "0 rows: it cannot have happened", "all its rows, or none",
					    "all its rows: it was acknowledged" };
	const struct ledger *l = &k->ledgers[slot];
	uint64_t counted = 0;
	char text[32];

	for (size_t op = 0; op < l->n; op++) {
		const struct ledger_entry *e = &l->entries[op];
		uint32_t seen = k->seen[slot][op];
		bool all = seen == e->n_rows;
		bool good = e->state == LEDGER_DONE ? all : e->state == LEDGER_NEVER ? seen == 0 : all || seen == 0;

		totals[e->state]++;
		if (!good)
			ledger_complain(k, "operation", slot, op, seen, want[e->state]);
		if (e->counts)
			counted += seen;
	}
	if (counted != k->counters[slot]) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)counted);
		ledger_complain(k, "counter", slot, 0, k->counters[slot], text);
	}
}

unsigned ledger_verify(struct direct *d, const struct ledger *ledgers, unsigned n_slots, uint64_t totals[3])
{
	struct ledger_check k = { ledgers, n_slots, NULL, NULL, 0 };

	k.seen = xmalloc(n_slots * sizeof(*k.seen));
	k.counters = xmalloc(n_slots * sizeof(*k.counters));
	for (unsigned i = 0; i < n_slots; i++) {
		k.counters[i] = 0;
		k.seen[i] = xmalloc((ledgers[i].n + 1) * sizeof(**k.seen));
		memset(k.seen[i], 0, (ledgers[i].n + 1) * sizeof(**k.seen));
	}
	direct_query(d, "SELECT slot, op, count(*), count(DISTINCT part) FROM torture_log GROUP BY slot, op",
		     ledger_log_row, &k);
	direct_query(d, "SELECT slot, n FROM torture_counter", ledger_counter_row, &k);
	for (unsigned i = 0; i < n_slots; i++)
		ledger_verify_slot(&k, i, totals);
	for (unsigned i = 0; i < n_slots; i++)
		free(k.seen[i]);
	free(k.seen);
	free(k.counters);
	return k.n_bad;
}
