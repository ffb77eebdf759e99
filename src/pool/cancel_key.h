/*
 * Cancel keys: what the eight bytes that a client is given say to us, and to
 * peers of any make.
 */
#ifndef PGSLUICE_POOL_CANCEL_KEY_H
#define PGSLUICE_POOL_CANCEL_KEY_H

#include "core/base.h"

#define CANCEL_KEY_LEN        8
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

/*
 * Makes the key of a place. `secret` is the process's own; `peer_id` is its
 * number among peers, 1 to 65535, or 0 for none. Any thread.
 */
void cancel_key_make(const uint8_t secret[CANCEL_SECRET_LEN], unsigned peer_id, const struct cancel_place *place,
		     uint8_t key[CANCEL_KEY_LEN]);

/* The place in a key; of a key that this process has not made, any. Any thread. */
struct cancel_place cancel_key_place(const uint8_t secret[CANCEL_SECRET_LEN], const uint8_t key[CANCEL_KEY_LEN]);

/* The peer that has made the key, if peers are configured at all. */
unsigned cancel_key_peer(const uint8_t key[CANCEL_KEY_LEN]);

/* Takes one from the times that the key may still be forwarded; false when that is none. */
bool cancel_key_spend(uint8_t key[CANCEL_KEY_LEN]);

/* Makes a key that was forwarded what it was when its client got it. */
void cancel_key_restore(uint8_t key[CANCEL_KEY_LEN]);

#endif
