/*
 * Time. Durations and deadlines are microseconds of the monotonic clock;
 * loops keep a cached "now" (net/loop.h), this is where it comes from.
 */
#ifndef PGSLUICE_CORE_CLOCK_H
#define PGSLUICE_CORE_CLOCK_H

#include <time.h>

#include "core/base.h"

#define USEC_PER_SEC UINT64_C(1000000)

/* Monotonic microseconds; never 0. */
uint64_t clock_mono_us(void);

/* Wall clock, microseconds since the epoch. */
uint64_t clock_wall_us(void);

/* The wall clock's seconds at a monotonic time. */
time_t clock_mono_to_wall(uint64_t mono_us);

/* "YYYY-MM-DD HH:MM:SS TZ" in local time. */
void clock_format(time_t when, char *dst, size_t size);

#endif
