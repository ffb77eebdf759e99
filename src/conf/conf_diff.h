/*
 * What distinguishes two snapshots of the configuration: the report of a
 * reload, of RELOAD DRY RUN and of `--check --diff`.
 */
#ifndef PGSLUICE_CONF_CONF_DIFF_H
#define PGSLUICE_CONF_CONF_DIFF_H

#include "conf/conf.h"

/* clang-format off */

/* What has changed: X(enumerator, name of one, name of several) */
#define CONF_CHANGE_OBJECTS(X)                              \
	X(CONF_CHANGE_SETTING, "setting", "settings")       \
	X(CONF_CHANGE_DATABASE, "database", "databases")    \
	X(CONF_CHANGE_USER, "user", "users")                \
	X(CONF_CHANGE_PEER, "peer", "peers")                \
	X(CONF_CHANGE_LOGIN, "login", "logins")             \
	X(CONF_CHANGE_FILES, "files", "files")

/* How: X(enumerator, name, past tense) */
#define CONF_CHANGE_ACTIONS(X)                              \
	X(CONF_CHANGE_ADD, "add", "added")                  \
	X(CONF_CHANGE_CHANGE, "change", "changed")          \
	X(CONF_CHANGE_REMOVE, "remove", "removed")

/*
 * When it counts: X(enumerator, name). At once; at once, and server connections
 * made before are replaced; at the next start only; never, in this version.
 */
#define CONF_CHANGE_EFFECTS(X)                              \
	X(CONF_EFFECT_NOW, "now")                           \
	X(CONF_EFFECT_RECYCLE, "now, new servers")          \
	X(CONF_EFFECT_RESTART, "restart")                   \
	X(CONF_EFFECT_NONE, "none")

#define CONF_X_ENUM(id, ...) id,
enum conf_change_object { CONF_CHANGE_OBJECTS(CONF_X_ENUM) CONF_CHANGE_OBJECT_COUNT };
enum conf_change_action { CONF_CHANGE_ACTIONS(CONF_X_ENUM) CONF_CHANGE_ACTION_COUNT };
enum conf_change_effect { CONF_CHANGE_EFFECTS(CONF_X_ENUM) CONF_EFFECT_COUNT };
#undef CONF_X_ENUM
/* clang-format on */

/* Bytes of a detail, with NUL; what is longer is cut. */
#define CONF_DETAIL_SIZE 1024

struct conf_change {
	enum conf_change_object object;
	enum conf_change_action action;
	enum conf_change_effect effect;
	char *name;       /* of the setting, database ("*" for the entry of that name), user or peer */
	char *detail;     /* "1 -> 2", "port 5432 -> 6543, pool_size unset -> 7"; no secrets; may be "" */
	unsigned servers; /* connections that it replaces or closes; filled in by conf_diff_touch() */
	unsigned clients; /* connections that it ends; likewise */
};

/* Changes in the order settings, databases, users, peers, logins, files, each sorted by name. */
struct conf_diff {
	struct conf_change *changes;
	size_t count;
	size_t db_begin; /* the databases of the file, without "*" ... */
	size_t db_end;   /* ... end here */
};

/*
 * Compares a snapshot in force with one that shall follow. Settings that need a
 * restart are compared as well, so this comes before conf_keep_started().
 * The caller frees. Control thread.
 */
struct conf_diff *conf_diff_new(const struct conf *old, const struct conf *fresh) MUSTCHECK;

/* Nulls the pointer; NULL inside is fine. */
void conf_diff_free(struct conf_diff **diff);

/* Adds a change at the end; both texts are copied. */
void conf_diff_add(struct conf_diff *diff, enum conf_change_object object, enum conf_change_action action,
		   enum conf_change_effect effect, const char *name, const char *detail);

/*
 * Books connections that a change of this database touches: to the change of
 * that name, or of "*" when the file does not name it. Without such a change
 * nothing happens.
 */
void conf_diff_touch(struct conf_diff *diff, const char *database, unsigned servers, unsigned clients);

/* Books connections to the first change outside of [databases] that makes all of them useless, if there is one. */
void conf_diff_touch_all(struct conf_diff *diff, unsigned servers);

/* In one line: "settings: 2 changed; databases: 1 added; 3 server connections to replace" or "nothing has changed". */
void conf_diff_summarize(const struct conf_diff *diff, char *dst, size_t size);

/* One change in a line: "change setting query_timeout: 0 -> 5 (now)". */
void conf_change_describe(const struct conf_change *change, char *dst, size_t size);

const char *conf_change_object_name(enum conf_change_object object);
const char *conf_change_action_name(enum conf_change_action action);
const char *conf_change_effect_name(enum conf_change_effect effect);

#endif
