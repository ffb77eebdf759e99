#include "core/siphash.h"

#include <sys/random.h>

#include "core/log.h"

void siphash_new_key(uint8_t key[SIPHASH_KEY_LEN])
{
	if (getrandom(key, SIPHASH_KEY_LEN, 0) != SIPHASH_KEY_LEN)
		log_fatal("could not get random bytes: %s", strerror(errno));
}

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

static void siphash_init(uint64_t v[4], const uint8_t key[16])
{
	uint64_t k[2];

	memcpy(k, key, sizeof(k));
	v[0] = k[0] ^ UINT64_C(0x736f6d6570736575);
	v[1] = k[1] ^ UINT64_C(0x646f72616e646f6d);
	v[2] = k[0] ^ UINT64_C(0x6c7967656e657261);
	v[3] = k[1] ^ UINT64_C(0x7465646279746573);
}

static inline void siphash_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	siphash_round(v);
	siphash_round(v);
	v[0] ^= word;
}

static uint64_t siphash_finish(uint64_t v[4])
{
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		siphash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t siphash_u64(const uint8_t key[16], uint64_t value)
{
	uint64_t v[4];

	siphash_init(v, key);
	siphash_word(v, value);
	siphash_word(v, (uint64_t)sizeof(value) << 56); /* the length of the message, and no rest */
	return siphash_finish(v);
}

uint64_t siphash_bytes(const uint8_t key[16], const void *p, size_t n)
{
	const uint8_t *at = p;
	uint64_t last = (uint64_t)(n & 0xff) << 56;
	uint64_t v[4];
	uint64_t word;

	siphash_init(v, key);
	for (; n >= sizeof(word); n -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		siphash_word(v, word);
	}
	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)at[i] << (8 * i);
	siphash_word(v, last);
	return siphash_finish(v);
}
