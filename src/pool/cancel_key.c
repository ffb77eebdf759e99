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
 *
 * Since protocol 3.2 a key may be longer. A long key begins with those same
 * eight bytes, so that it finds its way like any other, through peers too. What
 * follows them is a keyed function of them, so nobody has to keep it either: a
 * client costs no more memory for it. The whole secret takes more guesses than
 * anybody has, where one of four bytes takes some thousand millions.
 */
#include "pool/cancel_key.h"

#include "core/siphash.h"
#include "proto/build.h"
#include "proto/frame.h"

#define KEY_TTL_MASK    3

/* The half of the secret that long keys are made with; of it, without peers, two bytes stand in every key. */
#define KEY_LONG_SECRET 16

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

/* One of the words behind the first eight bytes: a keyed function of them, with a key of its own. */
static uint64_t key_word(const uint8_t *secret, uint64_t index, uint64_t head)
{
	uint64_t halves[2] = { siphash_u64(secret, 2 * index), siphash_u64(secret, 2 * index + 1) };
	uint8_t key[sizeof(halves)];

	memcpy(key, halves, sizeof(key));
	return siphash_u64(key, head);
}

void cancel_key_extend(const uint8_t secret[CANCEL_SECRET_LEN], const uint8_t head[CANCEL_KEY_LEN],
		       struct cancel_key *key)
{
	uint64_t value;

	memcpy(&value, head, sizeof(value));
	cancel_key_set(key, head, CANCEL_KEY_LEN);
	key->len = CANCEL_KEY_LONG;
	for (size_t at = CANCEL_KEY_LEN; at < CANCEL_KEY_LONG; at += sizeof(uint64_t)) {
		uint64_t word = key_word(secret + KEY_LONG_SECRET, at, value);
		size_t left = CANCEL_KEY_LONG - at;

		memcpy(key->bytes + at, &word, left < sizeof(word) ? left : sizeof(word));
	}
}

void cancel_key_set(struct cancel_key *key, const void *p, size_t n)
{
	ASSERT(n >= CANCEL_KEY_LEN && n <= CANCEL_KEY_MAX);
	key->len = (uint16_t)n;
	memcpy(key->bytes, p, n);
}

bool cancel_key_equal(const struct cancel_key *a, const struct cancel_key *b)
{
	return a->len == b->len && mem_equal_ct(a->bytes, b->bytes, a->len);
}

int cancel_key_build(struct buf *b, const struct cancel_key *key)
{
	return build_backend_key(b, frame_be32(key->bytes), slice_make(key->bytes + 4, key->len - 4u));
}

struct cancel_place cancel_key_place(const uint8_t secret[CANCEL_SECRET_LEN], const struct cancel_key *from)
{
	const uint8_t *key = from->bytes;
	uint64_t v = (uint64_t)(key[0] & 0x7f) << 38 | (uint64_t)key[3] << 30 | (uint64_t)key[4] << 22 |
		     (uint64_t)key[5] << 14 | (uint64_t)key[6] << 6 | key[7] >> 2;

	v = key_permute(secret, v, true);
	return (struct cancel_place){
		.worker = (unsigned)(v >> 38) & 0x7f,
		.slot = (uint32_t)(v >> 16) & (CANCEL_SLOTS_MAX - 1),
		.generation = (uint16_t)v,
	};
}

unsigned cancel_key_peer(const struct cancel_key *key)
{
	return (unsigned)key->bytes[2] << 8 | key->bytes[1];
}

bool cancel_key_spend(struct cancel_key *key)
{
	if ((key->bytes[7] & KEY_TTL_MASK) == 0)
		return false;
	key->bytes[7]--;
	return true;
}

void cancel_key_restore(struct cancel_key *key)
{
	key->bytes[7] |= KEY_TTL_MASK;
}
