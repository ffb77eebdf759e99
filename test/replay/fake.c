#include "fake.h"

#include <sys/syscall.h>
#include <time.h>

#define FAKE_START_US UINT64_C(1000000000000)

static uint64_t now_us = FAKE_START_US;
static uint64_t state = 1;
static bool is_real = true; /* until the first fake_reset() */

void fake_reset(uint64_t seed)
{
	is_real = false;
	now_us = FAKE_START_US;
	state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

void fake_stop(void)
{
	is_real = true;
}

void fake_advance(uint64_t us)
{
	now_us += us;
}

uint64_t fake_now_us(void)
{
	return now_us;
}

/* splitmix64 */
static uint64_t fake_next(void)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

unsigned fake_random(unsigned limit)
{
	ASSERT(limit > 0);
	return (unsigned)(fake_next() % limit);
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	if (is_real)
		return (int)syscall(SYS_clock_gettime, id, ts);
	ts->tv_sec = (time_t)(now_us / 1000000);
	ts->tv_nsec = (long)(now_us % 1000000) * 1000;
	return 0;
}

uint32_t arc4random(void)
{
	return (uint32_t)fake_next();
}
