#include "pool/stats.h"

void stats_collect(const struct stats *s, struct stats_sum *sum)
{
	for (int i = 0; i < STAT_COUNT; i++)
		sum->value[i] += atomic_load_explicit(&s->value[i], memory_order_relaxed);
}
