/*
 * The store of statement texts.
 *
 * One table under one lock, which is taken when a client parses a statement
 * that it had not parsed just before, and when the last user of a text goes;
 * never for a statement that is executed. Allocation happens outside of the
 * lock: who does not find a text makes the object first and looks again.
 *
 * Texts that clients parse without a name come and go. Only those that come
 * again are worth an entry, so a first sight leaves nothing but a part of its
 * hash in a table of fixed size.
 */
#include "pool/stmt.h"

#include "core/lock.h"
#include "core/siphash.h"

/* Texts that were seen once; a power of two. */
#define STMT_SIGHTS 8192

static struct lock table_lock;
static struct stmt *table; /* protected by table_lock */
static uint8_t hash_key[16];
static atomic_size_t used_bytes;
static atomic_size_t limit_bytes;
static _Atomic uint64_t last_number;
static _Atomic uint32_t sights[STMT_SIGHTS];

void stmt_setup(const uint8_t key[16])
{
	memcpy(hash_key, key, sizeof(hash_key));
	lock_init(&table_lock, LOCK_RANK_STMT);
	atomic_store(&limit_bytes, SIZE_MAX);
}

void stmt_teardown(void)
{
	ASSERT(table == NULL);
	lock_fini(&table_lock);
}

void stmt_set_limit(size_t bytes)
{
	atomic_store(&limit_bytes, bytes);
}

bool stmt_has_room(size_t bytes)
{
	size_t limit = atomic_load(&limit_bytes);
	size_t used = atomic_load(&used_bytes);

	return used <= limit && bytes <= limit - used;
}

uint64_t stmt_next_number(void)
{
	return atomic_fetch_add(&last_number, 1) + 1;
}

void stmt_skip_numbers(uint64_t number)
{
	uint64_t have = atomic_load(&last_number);

	while (have < number && !atomic_compare_exchange_weak(&last_number, &have, number))
		continue;
}

uint32_t stmt_hash_name(struct slice name)
{
	return (uint32_t)siphash_bytes(hash_key, name.p, name.n);
}

bool stmt_claim(size_t bytes)
{
	size_t limit = atomic_load(&limit_bytes);

	if (bytes <= limit && atomic_fetch_add(&used_bytes, bytes) <= limit - bytes)
		return true;
	if (bytes <= limit)
		atomic_fetch_sub(&used_bytes, bytes);
	return false;
}

void stmt_unclaim(size_t bytes)
{
	atomic_fetch_sub(&used_bytes, bytes);
}

size_t stmt_count(size_t *bytes)
{
	size_t n;

	lock_acquire(&table_lock);
	n = HASH_COUNT(table);
	lock_release(&table_lock);
	*bytes = atomic_load(&used_bytes);
	return n;
}

static struct stmt *stmt_find_locked(const uint8_t *body, size_t len, uint64_t hash)
{
	struct stmt *stmt;

	lock_assert_held(&table_lock);
	HASH_FIND_BYHASHVALUE(hh, table, body, len, (unsigned)hash, stmt);
	if (stmt != NULL)
		stmt->refs++;
	return stmt;
}

static struct stmt *stmt_find(const uint8_t *body, size_t len, uint64_t hash)
{
	struct stmt *stmt;

	lock_acquire(&table_lock);
	stmt = stmt_find_locked(body, len, hash);
	lock_release(&table_lock);
	return stmt;
}

/* The price of a look, by which most texts are no RESET; a comment may stand in front of one. */
static bool stmt_may_reset(const char *text, size_t len)
{
	return classify_may_reset(text, len) || (len > 0 && (text[0] == '/' || text[0] == '-'));
}

/* A candidate that is not in the table yet. */
static struct stmt *stmt_new(const uint8_t *body, size_t len, uint64_t hash)
{
	struct stmt *stmt;

	if (!stmt_claim(sizeof(*stmt) + len))
		return NULL;
	stmt = malloc(sizeof(*stmt) + len);
	if (stmt == NULL) {
		stmt_unclaim(sizeof(*stmt) + len);
		return NULL;
	}
	memset(stmt, 0, sizeof(*stmt));
	stmt->refs = 1;
	stmt->hash = hash;
	stmt->len = len;
	memcpy(stmt->body, body, len);
	if (classify_may_transact((const char *)body, len)) /* one statement, whose first words tell */
		stmt->effect = classify_effect(slice_make(body, len));
	stmt->resets = stmt_may_reset((const char *)body, len) && classify_resets_all(slice_make(body, len));
	return stmt;
}

static void stmt_free(struct stmt *stmt)
{
	stmt_unclaim(sizeof(*stmt) + stmt->len);
	free(stmt);
}

static struct stmt *stmt_add(const uint8_t *body, size_t len, uint64_t hash)
{
	struct stmt *fresh = stmt_new(body, len, hash);
	struct stmt *found;

	if (fresh == NULL)
		return NULL;
	lock_acquire(&table_lock);
	found = stmt_find_locked(body, len, hash);
	if (found == NULL) {
		fresh->number = stmt_next_number();
		HASH_ADD_KEYPTR_BYHASHVALUE(hh, table, fresh->body, fresh->len, (unsigned)hash, fresh);
	}
	lock_release(&table_lock);
	if (found == NULL)
		return fresh;
	stmt_free(fresh);
	return found;
}

struct stmt *stmt_intern(const uint8_t *body, size_t len)
{
	uint64_t hash = siphash_bytes(hash_key, body, len);
	struct stmt *stmt = stmt_find(body, len, hash);

	return stmt != NULL ? stmt : stmt_add(body, len, hash);
}

struct stmt *stmt_intern_again(const uint8_t *body, size_t len)
{
	uint64_t hash = siphash_bytes(hash_key, body, len);
	uint32_t mark = (uint32_t)(hash >> 32) | 1;
	struct stmt *stmt = stmt_find(body, len, hash);

	if (stmt != NULL)
		return stmt;
	if (atomic_exchange_explicit(&sights[hash % STMT_SIGHTS], mark, memory_order_relaxed) != mark)
		return NULL;
	return stmt_add(body, len, hash);
}

struct stmt *stmt_hold(struct stmt *stmt)
{
	lock_acquire(&table_lock);
	ASSERT(stmt->refs > 0);
	stmt->refs++;
	lock_release(&table_lock);
	return stmt;
}

void stmt_release(struct stmt **stmtp)
{
	struct stmt *stmt = *stmtp;
	bool is_last;

	*stmtp = NULL;
	if (stmt == NULL)
		return;
	lock_acquire(&table_lock);
	ASSERT(stmt->refs > 0);
	is_last = --stmt->refs == 0;
	if (is_last)
		HASH_DEL(table, stmt);
	lock_release(&table_lock);
	if (is_last)
		stmt_free(stmt);
}
