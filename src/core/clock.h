/*
 * Time. Durations and deadlines are microseconds of the monotonic clock;
 * loops keep a cached "now" (net/loop.h), this is where it comes from.
 */
#ifndef PGSLUICE_CORE_CLOCK_H
#define PGSLUICE_CORE_CLOCK_H

#include "core/base.h"

#define USEC_PER_SEC UINT64_C(1000000)

/* Monotonic microseconds; never 0. */
uint64_t clock_mono_us(void);

/* Wall clock, microseconds since the epoch. */
uint64_t clock_wall_us(void);

/* "YYYY-MM-DD HH:MM:SS TZ" in local time, for the monotonic time given. */
void clock_format_mono(uint64_t mono_us, char *dst, size_t size);

#endif
