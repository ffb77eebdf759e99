/*
 * Session parameters that the pooler keeps per client and restores on the
 * server that serves it: DateStyle, client_encoding, TimeZone,
 * standard_conforming_strings, application_name and those of
 * track_extra_parameters.
 *
 * The values of one session are one immutable set. Equal sets are one object
 * (they are interned process-wide), so that a thousand clients of one
 * application cost one set, and "has this server what this client wants" is
 * one comparison of pointers on the path of a query.
 */
#ifndef PGSLUICE_POOL_VARS_H
#define PGSLUICE_POOL_VARS_H

#include "core/base.h"
#include "core/buf.h"
#include "core/str.h"

/* Tracked parameters at most. */
#define VARS_MAX 32

struct varset;

/*
 * Fixes the list of names for the life of the process: the five of the
 * protocol and the extra ones (comma separated; may be NULL). Before any
 * thread starts.
 */
void vars_setup(const char *extra);
void vars_teardown(void);

/* How many parameters are tracked, and the name of each. */
int vars_count(void);
const char *vars_name(int i);

/* Index of a tracked parameter, compared without regard to case; -1 when not tracked. */
int vars_index(struct slice name);

/* The index of application_name. */
int vars_application_name(void);

/*
 * The set with these values; values[i].p NULL means unset. Returns a reference
 * that the caller owns. Any thread.
 */
struct varset *vars_make(const struct slice values[VARS_MAX]) MUSTCHECK;

/* The set in which all are unset. */
struct varset *vars_make_empty(void) MUSTCHECK;

/* Replaces *set by the set with one value changed. */
void vars_change(struct varset **set, int i, struct slice value);

/* Replaces *set by one where its unset values are taken from `defaults`. */
void vars_fill(struct varset **set, const struct varset *defaults);

/*
 * Replaces *set, of a server that has the values of a client, by one with the
 * client's bytes where they are not ASCII. The server does not repeat a value
 * when only the encoding changes that it was reported in.
 */
void vars_recode(struct varset **set, const struct varset *client);

/*
 * Replaces the values of *set by those that `spelled` has for them, where both
 * know one: the same values, as the server spells them.
 */
void vars_respell(struct varset **set, const struct varset *spelled);

/*
 * Replaces *set, what the client was told, by what holds in a session of its
 * own after RESET. `now`: what the server has after it. `startup`: what the
 * client has begun with; NULL: nothing of that counts. `defaults`: what the
 * server has begun with; what is something else now was set behind the RESET.
 * NULL: not known, nothing was. `all`: everything was reset, and not only what
 * has become this default by it.
 */
void vars_reset(struct varset **set, const struct varset *now, const struct varset *startup,
		const struct varset *defaults, bool all);

/*
 * True when a value of `set` is what the server has begun with, but not what
 * the client has: that a RESET brings it back does not show.
 */
bool vars_are_hidden(const struct varset *set, const struct varset *startup, const struct varset *defaults);

/* True when no value is known. */
bool vars_is_empty(const struct varset *set);

/* How many sets there are, and the size of one without its values. Any thread. */
size_t vars_set_count(size_t *set_size);

struct varset *vars_hold(struct varset *set) MUSTCHECK;
/* Gives a reference back and nulls the pointer; NULL inside is fine. */
void vars_release(struct varset **set);

/* The value, or NULL when unset. Valid while the set is held. */
const char *vars_get(const struct varset *set, int i);

/* A number that no other set of this process ever has, never 0. Any thread. */
uint64_t vars_serial(const struct varset *set);

/*
 * Writes the commands (SET, or SELECT set_config) that turn a server with the
 * values `have` into one with the values `want`, and returns their number: only
 * parameters that both know and that differ by more than case. `sql` gets no
 * trailing NUL, and is ASCII, so that it means the same in any encoding.
 */
int vars_diff(const struct varset *have, const struct varset *want, struct buf *sql);

/* The longest text that vars_diff() may write for these values, in bytes. */
uint32_t vars_diff_max(const struct varset *want);

#endif
