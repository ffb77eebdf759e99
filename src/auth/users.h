/*
 * The list of users (auth_file): an immutable table with a reference count.
 * One thread builds it; then any thread may look up, hold and release it.
 */
#ifndef PGSLUICE_AUTH_USERS_H
#define PGSLUICE_AUTH_USERS_H

#include "auth/secret.h"
#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

#define USERS_NAME_MAX 127 /* bytes of a user name */

struct users;

struct user {
	const char *name;
	struct secret secret;
};

/*
 * Reads a file in the form of PgBouncer's userlist.txt. *out is always a table
 * with one reference, to be released: when the file cannot be read it is
 * empty, and when the text is broken it has the entries before the fault. The
 * return value says which: 0, -E_IO (cannot be opened or read) or -E_SYNTAX;
 * `err` then has a text for the log that names file and line. The last of
 * several entries of one name counts.
 */
int users_load(const char *path, struct users **out, char *err, size_t errsize) MUSTCHECK;

/* The same from memory; `name` stands for the file in errors. */
int users_parse(struct slice text, const char *name, struct users **out, char *err, size_t errsize) MUSTCHECK;

/*
 * True when the file of that name is the one that this table was read from, and
 * has not been written since: same inode, owner, mode, time and size.
 */
bool users_is_current(const struct users *u, const char *path);

/* How a user of one table differs from that of another. */
enum users_change { USERS_ADDED, USERS_CHANGED, USERS_REMOVED };

/* Calls fn for each user that only one of the tables has or whose secret differs, sorted by name. */
void users_compare(const struct users *old, const struct users *fresh,
		   void (*fn)(void *ctx, enum users_change change, const char *name), void *ctx);

/* A table without users. */
struct users *users_new_empty(void) MUSTCHECK;

/* One more reference; returns its argument. Any thread. */
struct users *users_hold(struct users *u);

/* Gives one reference back and nulls the pointer; the last one wipes and frees. Any thread. */
void users_release(struct users **u);

/* The user of that name or NULL; lives as long as the table. */
const struct user *users_find(const struct users *u, const char *name);

/* Number of users, and each of them, sorted by name (bytes). */
size_t users_count(const struct users *u);
const struct user *users_at(const struct users *u, size_t i);

/*
 * What somebody who is none of them should look like: when more than half have
 * a SCRAM verifier as their secret, the iterations that most of these have;
 * else 0.
 */
uint32_t users_usual_iterations(const struct users *u);

/*
 * A user on its own, for what auth_query or a connect string gives. The
 * secret has no NUL inside. user_free() wipes, frees and nulls; it is not for
 * users of a table.
 */
struct user *user_new(const char *name, struct slice secret) MUSTCHECK;
void user_free(struct user **user);

/*
 * The SCRAM verifier of a user: the stored one, or for a plaintext secret one
 * that is derived at the first call and kept as long as the user lives; later
 * calls with another recipe still give that one. *is_derived: this call has
 * derived, which costs the recipe's iterations. NULL for other secrets and when
 * OpenSSL fails. Any thread; threads that ask for the first time together may
 * derive more than once, but all get the same.
 */
const struct scram_verifier *user_verifier(const struct user *user, const struct scram_recipe *recipe,
					   bool *is_derived);

/*
 * Derives the verifiers of all users with plaintext secrets, ahead of their
 * logins, a slice at a time: goes on at *at (0 at the beginning) and returns
 * true when there is nothing left to do, after at most `max` derivations. Any
 * thread, besides those that look up; one at a time.
 */
bool users_derive(struct users *u, const struct scram_recipe *recipe, size_t *at, unsigned max) MUSTCHECK;

/*
 * True when no user of the table is without the verifier that its secret allows:
 * none has a plaintext secret, or users_derive() has been through. Before that
 * the first login of some users costs a derivation, and so all should.
 */
bool users_are_derived(const struct users *u);

/*
 * Before anybody else sees the table: users whose name and plaintext secret are
 * those of the other have its verifiers, if they are made with so many
 * iterations.
 */
void users_inherit(struct users *u, const struct users *old, uint32_t iterations);

#endif
