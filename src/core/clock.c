#include "core/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;
	int err = clock_gettime(id, &ts);

	ASSERT(err == 0);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_mono_us(void)
{
	return read_clock(CLOCK_MONOTONIC) + 1;
}

uint64_t clock_wall_us(void)
{
	return read_clock(CLOCK_REALTIME);
}

void clock_format_mono(uint64_t mono_us, char *dst, size_t size)
{
	int64_t age_us = (int64_t)(clock_mono_us() - mono_us);
	time_t when = (time_t)(((int64_t)clock_wall_us() - age_us) / (int64_t)USEC_PER_SEC);
	struct tm tm;

	if (localtime_r(&when, &tm) == NULL || strftime(dst, size, "%Y-%m-%d %H:%M:%S %Z", &tm) == 0)
		dst[0] = '\0';
}
