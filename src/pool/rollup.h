/*
 * Sums and averages of the counters, per database and over all, as SHOW STATS
 * and the log line of log_stats give them. Control thread only.
 */
#ifndef PGSLUICE_POOL_ROLLUP_H
#define PGSLUICE_POOL_ROLLUP_H

#include "pool/pool.h"

struct rollup;

/* Sums, and what they are per second, or per transaction, query or assignment for the times. */
struct rollup_row {
	const char *database; /* lives until the engine ends */
	struct stats_sum total;
	struct stats_sum avg;
};

/* `console` has the counters of the console's database, which is no pool; its owner outlives the rollup. */
struct rollup *rollup_new(struct engine *engine, const char *console_name, const struct stats *console,
			  uint64_t now_us) MUSTCHECK;
void rollup_free(struct rollup **rollup);

/* Ends a period: takes a snapshot of every pool. *last gets the sum at its end and the averages over it. */
void rollup_tick(struct rollup *rollup, uint64_t now_us, struct rollup_row *last);

/*
 * One row for each database that has a pool, and for the console, sorted by
 * name; the array is the caller's. Averages are over the time since the
 * snapshot before the last one. Returns how many.
 */
size_t rollup_databases(struct rollup *rollup, uint64_t now_us, struct rollup_row **rows);

/* The same over all databases. */
void rollup_all(struct rollup *rollup, uint64_t now_us, struct rollup_row *row);

/* The averages of what has been counted between two sums. Pure. */
void rollup_average(const struct stats_sum *from, const struct stats_sum *to, uint64_t period_us,
		    struct stats_sum *avg);

#endif
