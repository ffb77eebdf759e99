/*
 * Cancel keys that another process has given out and whose clients are here
 * now, after an online restart. They keep their keys, which say nothing to us.
 */
#ifndef PGSLUICE_POOL_CARRIED_KEY_H
#define PGSLUICE_POOL_CARRIED_KEY_H

#include "pool/cancel_key.h"
#include "pool/engine.h"

struct carried_key;

/* A key that leads nowhere yet; the caller's. Any thread. */
struct carried_key *carried_key_new(const struct cancel_key *key) MUSTCHECK;

/* The client of the key is at this place. Of two with one key only the first is ever found. Any thread. */
void carried_key_list(struct engine *engine, struct carried_key *carried, const struct cancel_place *place);

/* Takes the key out of the list and frees it; NULL inside is fine. Any thread. */
void carried_key_free(struct engine *engine, struct carried_key **carried);

/* The key itself. Any thread. */
void carried_key_get(const struct carried_key *carried, struct cancel_key *key);

/* The place of the client that has this very key; false when none has. Any thread. */
bool carried_key_find(struct engine *engine, const struct cancel_key *key, struct cancel_place *place);

#endif
