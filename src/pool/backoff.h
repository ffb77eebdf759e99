/*
 * How long to wait before trying again: exponential, with full jitter and a
 * cap. Pure: the dice are the caller's.
 */
#ifndef PGSLUICE_POOL_BACKOFF_H
#define PGSLUICE_POOL_BACKOFF_H

#include "core/base.h"

/*
 * The delay in microseconds before the next attempt, when `attempt` of them
 * have failed before the one that has failed just now (0: it was the first).
 * It is spread evenly over (0, min(cap_us, base_us * 2^attempt)], so that those
 * who failed together do not come back together. `dice` are 32 random bits. A
 * cap below the base counts as the base. Any thread.
 */
uint64_t backoff_delay(uint64_t base_us, uint64_t cap_us, unsigned attempt, uint32_t dice);

#endif
