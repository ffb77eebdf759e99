/*
 * The layout of cancel keys.
 *
 *   byte 0      top bit 0 (drivers take the first number for a process id)
 *   bytes 1, 2  number of the process among its peers, low byte first; without
 *               peers two bytes of the secret
 *   byte 7      its two low bits: how often the key may still be forwarded;
 *               3 in a client's hands
 *   the other 45 bits: worker (7), slot (22), generation (16), permuted
 *
 * The fixed parts are those of PgBouncer since 1.21, so that processes of both
 * makes can be peers. The other bits are nobody's business but ours. They go
 * through a keyed permutation, so that keys tell nothing and cannot be guessed
 * from one another; and because it is a permutation, nobody keeps a table of
 * keys: whoever reads a key knows which worker to ask, and the worker knows
 * the client, and compares the whole key.
 */
#include "pool/cancel_key.h"

#include "core/siphash.h"

#define KEY_TTL_MASK 3

/* Each half of the network sees the other through this. */
static uint32_t key_round(const uint8_t *secret, unsigned round, uint32_t half)
{
	return (uint32_t)siphash_u64(secret, (uint64_t)round << 32 | half);
}

/* A permutation of 45 bits: a Feistel network with halves of 22 and 23 bits. */
static uint64_t key_permute(const uint8_t *secret, uint64_t v, bool inverse)
{
	uint32_t left = (uint32_t)(v >> 23) & 0x3fffff;
	uint32_t right = (uint32_t)v & 0x7fffff;

	for (unsigned i = 0; i < 4; i++) {
		unsigned round = inverse ? 3 - i : i;

		if (round % 2 == 0)
			right ^= key_round(secret, round, left) & 0x7fffff;
		else
			left ^= key_round(secret, round, right) & 0x3fffff;
	}
	return (uint64_t)left << 23 | right;
}

void cancel_key_make(const uint8_t secret[CANCEL_SECRET_LEN], unsigned peer_id, const struct cancel_place *place,
		     uint8_t key[CANCEL_KEY_LEN])
{
	uint64_t v = (uint64_t)place->worker << 38 | (uint64_t)place->slot << 16 | place->generation;

	ASSERT(place->worker < 128 && place->slot < CANCEL_SLOTS_MAX && peer_id <= UINT16_MAX);
	v = key_permute(secret, v, false);
	key[0] = (uint8_t)(v >> 38) & 0x7f;
	key[1] = peer_id > 0 ? (uint8_t)peer_id : secret[16];
	key[2] = peer_id > 0 ? (uint8_t)(peer_id >> 8) : secret[17];
	key[3] = (uint8_t)(v >> 30);
	key[4] = (uint8_t)(v >> 22);
	key[5] = (uint8_t)(v >> 14);
	key[6] = (uint8_t)(v >> 6);
	key[7] = (uint8_t)((v & 0x3f) << 2 | KEY_TTL_MASK);
}

struct cancel_place cancel_key_place(const uint8_t secret[CANCEL_SECRET_LEN], const uint8_t key[CANCEL_KEY_LEN])
{
	uint64_t v = (uint64_t)(key[0] & 0x7f) << 38 | (uint64_t)key[3] << 30 | (uint64_t)key[4] << 22 |
		     (uint64_t)key[5] << 14 | (uint64_t)key[6] << 6 | key[7] >> 2;

	v = key_permute(secret, v, true);
	return (struct cancel_place){
		.worker = (unsigned)(v >> 38) & 0x7f,
		.slot = (uint32_t)(v >> 16) & (CANCEL_SLOTS_MAX - 1),
		.generation = (uint16_t)v,
	};
}

unsigned cancel_key_peer(const uint8_t key[CANCEL_KEY_LEN])
{
	return (unsigned)key[2] << 8 | key[1];
}

bool cancel_key_spend(uint8_t key[CANCEL_KEY_LEN])
{
	if ((key[7] & KEY_TTL_MASK) == 0)
		return false;
	key[7]--;
	return true;
}

void cancel_key_restore(uint8_t key[CANCEL_KEY_LEN])
{
	key[7] |= KEY_TTL_MASK;
}
