/*
 * The keys of other processes, in a table of the engine: made by an online
 * restart, and gone one by one as its clients go. A key is found by all of its
 * bytes, so that neither the beginning of a long one nor a short one with
 * something behind it finds anybody.
 */
#include "pool/carried_key.h"

#include <uthash.h>

#include "core/alloc.h"

struct carried_key {
	UT_hash_handle hh;
	bool is_listed; /* in engine->carried_keys; protected by engine->lock, as the place is */
	struct cancel_place place;
	uint16_t len;
	uint8_t bytes[];
};

struct carried_key *carried_key_new(const struct cancel_key *key)
{
	struct carried_key *carried = xcalloc(1, sizeof(*carried) + key->len);

	carried->len = key->len;
	memcpy(carried->bytes, key->bytes, key->len);
	return carried;
}

static struct carried_key *carried_key_find_locked(struct engine *engine, const uint8_t *bytes, size_t len)
{
	struct carried_key *carried;

	HASH_FIND(hh, engine->carried_keys, bytes, len, carried);
	return carried;
}

void carried_key_list(struct engine *engine, struct carried_key *carried, const struct cancel_place *place)
{
	lock_acquire(&engine->lock);
	carried->place = *place;
	if (carried_key_find_locked(engine, carried->bytes, carried->len) == NULL) {
		HASH_ADD_KEYPTR(hh, engine->carried_keys, carried->bytes, carried->len, carried);
		carried->is_listed = true;
	}
	lock_release(&engine->lock);
}

void carried_key_free(struct engine *engine, struct carried_key **carriedp)
{
	struct carried_key *carried = *carriedp;

	*carriedp = NULL;
	if (carried == NULL)
		return;
	lock_acquire(&engine->lock);
	if (carried->is_listed)
		HASH_DEL(engine->carried_keys, carried);
	lock_release(&engine->lock);
	free(carried);
}

void carried_key_get(const struct carried_key *carried, struct cancel_key *key)
{
	cancel_key_set(key, carried->bytes, carried->len);
}

bool carried_key_find(struct engine *engine, const struct cancel_key *key, struct cancel_place *place)
{
	const struct carried_key *carried;

	lock_acquire(&engine->lock);
	carried = carried_key_find_locked(engine, key->bytes, key->len);
	if (carried != NULL)
		*place = carried->place;
	lock_release(&engine->lock);
	return carried != NULL;
}
