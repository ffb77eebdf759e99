#include "pool/backoff.h"

uint64_t backoff_delay(uint64_t base_us, uint64_t cap_us, unsigned attempt, uint32_t dice)
{
	uint64_t most_us = base_us;
	uint64_t share;

	/* Step by step: nothing overflows, and the cap ends it early. */
	while (attempt-- > 0 && most_us > 0 && most_us < cap_us)
		most_us = most_us > cap_us / 2 ? cap_us : most_us * 2;
	/* most_us * (dice + 1) / 2^32 without a product of more than 64 bits. */
	share = (uint64_t)dice + 1;
	return (most_us >> 32) * share + (((most_us & UINT32_MAX) * share + UINT32_MAX) >> 32);
}
