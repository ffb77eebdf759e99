#ifndef TORTURE_RNG_H
#define TORTURE_RNG_H

/*
 * The only source of chance in the torture programs: a small generator with its state in the open, so that every
 * client has its own stream of numbers and a run can be repeated from its seed.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
	uint64_t state;
};

/* The next 64 random bits (Sebastiano Vigna's splitmix64). */
static inline uint64_t rng_next(struct rng *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* A generator that is far away from those with another seed or another stream number. */
static inline struct rng rng_make(uint64_t seed, uint64_t stream)
{
	struct rng r = { seed * 0xd1342543de82ef95ull + stream };

	r.state = rng_next(&r) ^ (stream << 17);
	return r;
}

/* A number from 0 to n - 1; 0 when n is 0. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return n ? rng_next(r) % n : 0;
}

/* A number from low to high, both included. */
static inline uint64_t rng_range(struct rng *r, uint64_t low, uint64_t high)
{
	return low + rng_below(r, high - low + 1);
}

/* True in ppm of a million cases. */
static inline bool rng_chance(struct rng *r, unsigned ppm)
{
	return rng_below(r, 1000000) < ppm;
}

/* True in one of n cases. */
static inline bool rng_one_in(struct rng *r, unsigned n)
{
	return rng_below(r, n) == 0;
}

#endif
