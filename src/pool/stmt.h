/*
 * The texts of prepared statements, one store for the whole process. A text is
 * kept once however many clients have prepared it under whatever names and
 * however many servers know it. Shared by reference count.
 *
 * A text is what stands in a Parse message behind the name: the query with its
 * NUL, the number of parameter types and the types. Equal texts are one object.
 */
#ifndef PGSLUICE_POOL_STMT_H
#define PGSLUICE_POOL_STMT_H

#include <uthash.h>

#include "core/base.h"
#include "core/str.h"
#include "proto/classify.h"

struct stmt {
	unsigned refs; /* protected by the lock of the store */
	UT_hash_handle hh;
	uint64_t hash;
	uint64_t number;             /* of its name on servers; never that of another text */
	enum classify_effect effect; /* on the transaction block that it is executed in */
	bool resets;                 /* it is RESET ALL or DISCARD ALL */
	size_t len;
	uint8_t body[];
};

/* What a statement is called on servers, with its number behind it. */
#define STMT_NAME_PREFIX "PGBOUNCER_"
/* The whole name with its NUL. */
#define STMT_NAME_SIZE   (sizeof(STMT_NAME_PREFIX) + 20)

/* Before any thread starts, and after all have ended. `key` makes hashes unforeseeable for strangers. */
void stmt_setup(const uint8_t key[16]);
void stmt_teardown(void);

/* Bytes that texts and names of statements may take; for what is added from now on. Any thread. */
void stmt_set_limit(size_t bytes);

/* True when the limit allows so many bytes more, at this moment. Any thread. */
bool stmt_has_room(size_t bytes);

/*
 * The statement with this text, with a reference for the caller; NULL when the
 * limit or the memory does not allow it. Any thread.
 */
struct stmt *stmt_intern(const uint8_t *body, size_t len) MUSTCHECK;

/*
 * The same for a text that need not be kept: only if it is there already, or
 * was asked for not long ago. Else NULL. Any thread.
 */
struct stmt *stmt_intern_again(const uint8_t *body, size_t len) MUSTCHECK;

/* Another reference; takes the lock of the table. Any thread. */
struct stmt *stmt_hold(struct stmt *stmt) MUSTCHECK;
/* Gives a reference back and nulls the pointer; NULL inside is fine. */
void stmt_release(struct stmt **stmt);

static inline bool stmt_has_text(const struct stmt *stmt, const uint8_t *body, size_t len)
{
	return stmt->len == len && memcmp(stmt->body, body, len) == 0;
}

/* A number that no statement has had. Any thread. */
uint64_t stmt_next_number(void);

/* Makes sure that no number up to this one is given out: they were in use before. Any thread. */
void stmt_skip_numbers(uint64_t number);

/* A hash of a name that a client has chosen. Any thread. */
uint32_t stmt_hash_name(struct slice name);

/*
 * Counts bytes that are kept besides texts, against the same limit: false when
 * that does not allow it. Any thread.
 */
bool stmt_claim(size_t bytes) MUSTCHECK;
void stmt_unclaim(size_t bytes);

/* How many texts there are, and the bytes that all takes. Any thread. */
size_t stmt_count(size_t *bytes);

#endif
