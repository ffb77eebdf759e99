#include "core/clock.h"

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

time_t clock_mono_to_wall(uint64_t mono_us)
{
	int64_t age_us = (int64_t)(clock_mono_us() - mono_us);

	return (time_t)(((int64_t)clock_wall_us() - age_us) / (int64_t)USEC_PER_SEC);
}

void clock_format(time_t when, char *dst, size_t size)
{
	struct tm tm;

	if (localtime_r(&when, &tm) == NULL || strftime(dst, size, "%Y-%m-%d %H:%M:%S %Z", &tm) == 0)
		dst[0] = '\0';
}
