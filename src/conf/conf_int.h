/*
 * What the files of this layer share and nobody else sees.
 */
#ifndef PGSLUICE_CONF_CONF_INT_H
#define PGSLUICE_CONF_CONF_INT_H

#include "conf/conf.h"

#include "core/str.h"

#define CONF_MAGIC         0x436f4e66
#define CONF_MAX_DB_NAME   63
#define CONF_MAX_USERNAME  127

#define CONF_PROFILE_COUNT (CONF_PROFILE_PGSLUICE + 1)

/* ---- conf_show.c ---- */

/* The main section's header of each profile. */
extern const char *const conf_profile_names[CONF_PROFILE_COUNT];

/* ---- conf_error.c ---- */

/* Where the error recorded last is, unless that is known already. */
void conf_error_place(struct conf_error *err, const char *file, unsigned line);

/* Moves the lines for the log to `err`, and the error unless it has one already. `from` is empty afterwards. */
void conf_error_take(struct conf_error *err, struct conf_error *from);

/*
 * The name of a list that is most like `word`, for "did you mean"; NULL when
 * none is near. name_at(i) gives the names, up to NULL.
 */
const char *conf_error_nearest(const char *word, const char *(*name_at)(size_t i));

/* ---- conf_value.c: one setting ---- */

enum conf_type {
	CONF_TYPE_FLAG,
	CONF_TYPE_INT,
	CONF_TYPE_UINT,
	CONF_TYPE_TIME,
	CONF_TYPE_ENUM,
	CONF_TYPE_STR,
	CONF_TYPE_WORDS,
	CONF_TYPE_CSV,
};

enum conf_group {
#define X(id, title) CONF_GROUP_##id,
	CONF_GROUP_TABLE(X)
#undef X
		CONF_GROUP_COUNT
};

/* A row of CONF_TABLE. */
struct conf_row {
	enum conf_group group;
	enum conf_type type;
	const char *name;
	const char *defaults[2]; /* by enum conf_profile */
	long long min;
	long long max;
	const char *unit;
	const char *const *values; /* names of an enum, NULL at the end */
	unsigned flags;
	const char *help;
	size_t offset; /* of the field in struct conf */
};

extern const struct conf_row conf_rows[CONF_ID_COUNT];
extern const char *const conf_group_titles[CONF_GROUP_COUNT];

/* Reads `text` into the field; the old value is freed. On an error err says why and nothing is changed. */
int conf_value_set(struct conf *conf, enum conf_id id, const char *text, struct conf_error *err) MUSTCHECK;
void conf_value_set_default(struct conf *conf, enum conf_id id);
void conf_value_copy(struct conf *dst, const struct conf *src, enum conf_id id);
void conf_value_free(struct conf *conf, enum conf_id id);
bool conf_value_is_equal(const struct conf *a, const struct conf *b, enum conf_id id);
/* The value as in the file, secrets as well; NULL when never set. */
char *conf_value_text(const struct conf *conf, enum conf_id id) MUSTCHECK;

/* Index of a name, any case, in a list that ends with NULL; -1 when it is not there. */
int conf_value_find_name(const char *const *names, const char *text);
extern const char *const conf_names_POOL_MODE[];
extern const char *const conf_names_AUTH_TYPE[];
extern const char *const conf_names_SSLMODE[];
extern const char *const conf_names_LOAD_BALANCE[];
extern const char *const conf_names_SESSION_ATTRS[];
extern const char *const conf_names_TIMEOUT_ACTION[];
extern const char *const conf_names_OPEN_ACTION[];
extern const char *const conf_names_RETRY[];

/* Splits; an element is never empty. `words`: white space separates as well. */
void conf_list_parse(struct conf_list *list, const char *text, bool words);
void conf_list_free(struct conf_list *list);

/* ---- conf_entry.c: one line of [databases], [users] or [peers] ---- */

enum conf_entry_type {
	CONF_ENTRY_STR,
	CONF_ENTRY_HOSTS,
	CONF_ENTRY_PORT,
	CONF_ENTRY_PORTS,
	CONF_ENTRY_SIZE,
	CONF_ENTRY_LIMIT,
	CONF_ENTRY_SECS0,
	CONF_ENTRY_SECS,
	CONF_ENTRY_TIME,
	CONF_ENTRY_MODE,
	CONF_ENTRY_BALANCE,
	CONF_ENTRY_ATTRS,
	CONF_ENTRY_ACTION,
	CONF_ENTRY_OPEN,
	CONF_ENTRY_RETRY,
};

/* A row of CONF_DB_TABLE, CONF_USER_TABLE or CONF_PEER_TABLE. */
struct conf_entry_key {
	enum conf_entry_type type;
	const char *name;
	unsigned flags;
	const char *help;
	size_t offset; /* of the field in the struct of the entry */
};

enum conf_entry_kind { CONF_ENTRY_DB, CONF_ENTRY_USER, CONF_ENTRY_PEER, CONF_ENTRY_KIND_COUNT };

struct conf_entry_class {
	const char *section;               /* where such lines stand */
	const char *noun;                  /* for messages */
	const struct conf_entry_key *keys; /* name NULL at the end */
};

extern const struct conf_entry_class conf_entry_classes[CONF_ENTRY_KIND_COUNT];

/*
 * Makes an entry from a line into zeroed memory. Returns 0, -E_SYNTAX or
 * -E_RANGE with err filled and nothing left to free.
 */
int conf_entry_parse_db(struct conf_db *db, const char *name, const char *text, struct conf_error *err) MUSTCHECK;
int conf_entry_parse_user(struct conf_user *user, const char *name, const char *text, struct conf_error *err) MUSTCHECK;
int conf_entry_parse_peer(struct conf_peer *peer, const char *name, const char *text, struct conf_error *err) MUSTCHECK;
void conf_entry_fini_db(struct conf_db *db);
void conf_entry_fini_user(struct conf_user *user);
void conf_entry_fini_peer(struct conf_peer *peer);

/* The value of a key as in the file, a secret as "****"; NULL when it is not set. `entry` is the struct. */
char *conf_entry_text(const void *entry, const struct conf_entry_key *key) MUSTCHECK;
/* Whether two entries of one kind agree in that key. */
bool conf_entry_is_equal(const void *a, const void *b, const struct conf_entry_key *key);
/* Copies that key to an entry in which it is not set. */
void conf_entry_copy(void *to, const void *from, const struct conf_entry_key *key);

/* ---- conf_names.c: the arrays of entries ---- */

struct conf_names {
	atomic_uint refs;
	struct conf_db *dbs;
	size_t db_count;
	struct conf_user *users;
	size_t user_count;
	struct conf_peer *peers;
	size_t peer_count;
	char *autodb;
};

/* Empty, with one reference; the others are given back, by any thread, as usual. */
struct conf_names *conf_names_new(void) MUSTCHECK;
struct conf_names *conf_names_hold(struct conf_names *names);
void conf_names_release(struct conf_names **names);
/* The entry goes over to the array. */
void conf_names_add_db(struct conf_names *names, const struct conf_db *db);
void conf_names_add_user(struct conf_names *names, const struct conf_user *user);
void conf_names_add_peer(struct conf_names *names, const struct conf_peer *peer);
/* Sorts; of several entries of one name only the last stays. Called once, after the last add. */
void conf_names_sort(struct conf_names *names);

/* ---- conf.c ---- */

/* A snapshot held once, all settings at their defaults, without names. */
struct conf *conf_new(enum conf_profile profile) MUSTCHECK;
/* Makes the public view of the names; takes a reference of its own. */
void conf_attach_names(struct conf *conf, struct conf_names *names);

#endif
