/*
 * Cancel keys: what the bytes that a client is given say to us, and to peers
 * of any make. The first four of them are the process id of the protocol, the
 * others its secret.
 */
#ifndef PGSLUICE_POOL_CANCEL_KEY_H
#define PGSLUICE_POOL_CANCEL_KEY_H

#include "core/base.h"
#include "core/buf.h"

#define CANCEL_KEY_LEN        8   /* of protocol 3.0 */
#define CANCEL_KEY_LONG       36  /* that we give out since protocol 3.2: 32 bytes of secret, as PostgreSQL does */
#define CANCEL_KEY_MAX        260 /* that the protocol allows */
#define CANCEL_SECRET_LEN     32

/* How many clients of one worker a key can tell apart. */
#define CANCEL_SLOTS_MAX      (1u << 22)

/* Keys of console sessions name no worker. */
#define CANCEL_WORKER_CONSOLE 127

/* Whose key it is. */
struct cancel_place {
	unsigned worker; /* below 128 */
	uint32_t slot;   /* below CANCEL_SLOTS_MAX */
	uint16_t generation;
};

/* A key of any length, ours or not: CANCEL_KEY_LEN to CANCEL_KEY_MAX bytes. */
struct cancel_key {
	uint16_t len;
	uint8_t bytes[CANCEL_KEY_MAX];
};

/*
 * Makes the key of a place, of the length of protocol 3.0. `secret` is the
 * process's own; `peer_id` is its number among peers, 1 to 65535, or 0 for
 * none. Any thread.
 */
void cancel_key_make(const uint8_t secret[CANCEL_SECRET_LEN], unsigned peer_id, const struct cancel_place *place,
		     uint8_t key[CANCEL_KEY_LEN]);

/* The long key that begins with a key made by cancel_key_make(); always the same. Any thread. */
void cancel_key_extend(const uint8_t secret[CANCEL_SECRET_LEN], const uint8_t head[CANCEL_KEY_LEN],
		       struct cancel_key *key);

/* Copies a key of n bytes, CANCEL_KEY_LEN to CANCEL_KEY_MAX. */
void cancel_key_set(struct cancel_key *key, const void *p, size_t n);

/* True for equal keys; the time that it takes tells no more than their lengths. */
bool cancel_key_equal(const struct cancel_key *a, const struct cancel_key *b);

/* Appends the BackendKeyData with this key: 0 or -E_*. */
int cancel_key_build(struct buf *b, const struct cancel_key *key) MUSTCHECK;

/* The place in a key; of a key that this process has not made, any. Any thread. */
struct cancel_place cancel_key_place(const uint8_t secret[CANCEL_SECRET_LEN], const struct cancel_key *key);

/* The peer that has made the key, if peers are configured at all. */
unsigned cancel_key_peer(const struct cancel_key *key);

/* Takes one from the times that the key may still be forwarded; false when that is none. */
bool cancel_key_spend(struct cancel_key *key);

/* Makes a key that was forwarded what it was when its client got it. */
void cancel_key_restore(struct cancel_key *key);

#endif
