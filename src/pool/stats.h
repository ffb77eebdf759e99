/*
 * Counters per pool and worker: plain numbers that one thread writes and any
 * thread reads. Sums are made on demand.
 */
#ifndef PGSLUICE_POOL_STATS_H
#define PGSLUICE_POOL_STATS_H

#include "core/base.h"

/* id, what its average is a share of (enum stats_per), help; in the order of SHOW STATS */
#define STATS_TABLE(X)                                                             \
	X(server_assignment_count, SECOND, "times a server was given to a client") \
	X(xact_count, SECOND, "transactions")                                      \
	X(query_count, SECOND, "queries")                                          \
	X(bytes_received, SECOND, "bytes from clients to servers")                 \
	X(bytes_sent, SECOND, "bytes from servers to clients")                     \
	X(xact_time, XACT, "microseconds inside of transactions")                  \
	X(query_time, QUERY, "microseconds from a query to its ReadyForQuery")     \
	X(wait_time, ASSIGNMENT, "microseconds that clients waited for a server")  \
	X(client_parse_count, SECOND, "named statements parsed by clients")        \
	X(server_parse_count, SECOND, "named statements parsed on servers")        \
	X(bind_count, SECOND, "executions of named statements")                    \
	X(client_login_count, SECOND, "logins of clients")

/* What an average is a share of. */
enum stats_per {
	STATS_PER_SECOND,
	STATS_PER_XACT,
	STATS_PER_QUERY,
	STATS_PER_ASSIGNMENT,
};

enum stat_id {
#define X(id, per, help) STAT_##id,
	STATS_TABLE(X)
#undef X
		STAT_COUNT
};

/* One thread's counters. */
struct stats {
	_Atomic uint64_t value[STAT_COUNT];
};

/* A sum at one moment. */
struct stats_sum {
	uint64_t value[STAT_COUNT];
};

/* Adds; the thread that owns the counters only, so no locked instruction is needed. */
static inline void stats_add(struct stats *s, enum stat_id id, uint64_t n)
{
	uint64_t old = atomic_load_explicit(&s->value[id], memory_order_relaxed);

	atomic_store_explicit(&s->value[id], old + n, memory_order_relaxed);
}

/* Adds the counters to a sum. Any thread. */
void stats_collect(const struct stats *s, struct stats_sum *sum);

#endif
