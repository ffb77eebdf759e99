#include "core/siphash.h"

static inline uint64_t siphash_rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline void siphash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = siphash_rotl(v[1], 13) ^ v[0];
	v[0] = siphash_rotl(v[0], 32);
	v[2] += v[3];
	v[3] = siphash_rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = siphash_rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = siphash_rotl(v[1], 17) ^ v[2];
	v[2] = siphash_rotl(v[2], 32);
}

uint64_t siphash_u64(const uint8_t key[16], uint64_t value)
{
	const uint64_t last = (uint64_t)sizeof(value) << 56; /* the length of the message, and no rest */
	uint64_t k[2];
	uint64_t v[4];

	memcpy(k, key, sizeof(k));
	v[0] = k[0] ^ UINT64_C(0x736f6d6570736575);
	v[1] = k[1] ^ UINT64_C(0x646f72616e646f6d);
	v[2] = k[0] ^ UINT64_C(0x6c7967656e657261);
	v[3] = k[1] ^ UINT64_C(0x7465646279746573);
	v[3] ^= value;
	siphash_round(v);
	siphash_round(v);
	v[0] ^= value;
	v[3] ^= last;
	siphash_round(v);
	siphash_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		siphash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
