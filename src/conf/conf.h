/*
 * The configuration: one immutable snapshot, shared by reference count. A load
 * builds and checks a whole new snapshot and hands it out only when everything
 * in it is right, so a bad file changes nothing.
 *
 * Any thread may read a snapshot that it holds, and hold or release it; loads
 * and changes happen on the control thread.
 */
#ifndef PGSLUICE_CONF_CONF_H
#define PGSLUICE_CONF_CONF_H

#include "core/base.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>

#include "conf/conf_tbl.h"

/* Which section header the file has; it picks the defaults. */
enum conf_profile {
	CONF_PROFILE_PGBOUNCER,
	CONF_PROFILE_PGSLUICE,
};

/* clang-format off */
#define CONF_X_ENUM(id, text) id,
enum conf_pool_mode       { CONF_VALUES_POOL_MODE(CONF_X_ENUM) };
enum conf_auth_type       { CONF_VALUES_AUTH_TYPE(CONF_X_ENUM) };
enum conf_sslmode         { CONF_VALUES_SSLMODE(CONF_X_ENUM) };
enum conf_sslnegotiation  { CONF_VALUES_SSLNEGOTIATION(CONF_X_ENUM) };
enum conf_error_style     { CONF_VALUES_ERROR_STYLE(CONF_X_ENUM) };
enum conf_log_format      { CONF_VALUES_LOG_FORMAT(CONF_X_ENUM) };
enum conf_sql_prepare     { CONF_VALUES_SQL_PREPARE(CONF_X_ENUM) };
enum conf_timeout_action  { CONF_VALUES_TIMEOUT_ACTION(CONF_X_ENUM) };
enum conf_gone_action     { CONF_VALUES_GONE_ACTION(CONF_X_ENUM) };
enum conf_open_action     { CONF_VALUES_OPEN_ACTION(CONF_X_ENUM) };
enum conf_session_attrs   { CONF_VALUES_SESSION_ATTRS(CONF_X_ENUM) };
enum conf_loss_action     { CONF_VALUES_LOSS_ACTION(CONF_X_ENUM) };
enum conf_retry           { CONF_VALUES_RETRY(CONF_X_ENUM) };
enum conf_protocol        { CONF_VALUES_PROTOCOL(CONF_X_ENUM) };
enum conf_load_balance    { CONF_VALUES_LOAD_BALANCE(CONF_X_ENUM) };
#undef CONF_X_ENUM

/* Number of a setting: CONF_ID_listen_port and so on, in table order. */
enum conf_id {
#define X(group, type, name, def_pgbouncer, def_pgsluice, min, max, unit, values, flags, help) CONF_ID_##name,
	CONF_TABLE(X)
#undef X
	CONF_ID_COUNT
};
/* clang-format on */

/* "Not set here, take it from the next wider scope", for ints and for times. */
#define CONF_INHERIT    (-1)
#define CONF_INHERIT_US UINT64_MAX

/* A parsed list; never changed after the load. */
struct conf_list {
	char *text;   /* as in the file; NULL when never set */
	char **items; /* count strings */
	size_t count;
};

/* True when the list has exactly this item. */
bool conf_list_has(const struct conf_list *list, const char *item);

/* The ports of a list of hosts: one for all of them, or one for each. */
struct conf_ports {
	int *items;
	size_t count;
};

/* One line of [databases], or one database made from the * line. */
struct conf_db {
	char *name;                     /* as clients ask for it */
	char *dbname;                   /* as the server knows it; never NULL */
	struct conf_list host;          /* count 0: Unix socket in unix_socket_dir */
	struct conf_ports ports;        /* never empty; see conf_db_port() */
	int port;                       /* of the first host */
	char *user;                     /* forced user, or NULL */
	char *password;                 /* of the forced user, or NULL */
	char *auth_user;                /* NULL: global */
	char *auth_query;               /* NULL: global */
	char *auth_dbname;              /* NULL: global */
	int pool_size;                  /* CONF_INHERIT, 0 is unlimited */
	int min_pool_size;              /* CONF_INHERIT */
	int reserve_pool_size;          /* CONF_INHERIT */
	int pool_mode;                  /* enum conf_pool_mode or CONF_INHERIT */
	int max_db_connections;         /* CONF_INHERIT, never 0 */
	int max_db_client_connections;  /* CONF_INHERIT, never 0 */
	int max_waiting_clients;        /* CONF_INHERIT, 0 is unlimited */
	uint64_t server_lifetime_us;    /* CONF_INHERIT_US, never 0 */
	uint64_t query_wait_timeout_us; /* CONF_INHERIT_US, 0 is off */
	uint64_t query_timeout_us;      /* CONF_INHERIT_US, 0 is off */
	int query_timeout_action;       /* enum conf_timeout_action or CONF_INHERIT */
	uint64_t cancel_grace_us;       /* CONF_INHERIT_US */
	int load_balance_hosts;         /* enum conf_load_balance */
	int target_session_attrs;       /* enum conf_session_attrs or CONF_INHERIT */
	char *connect_query;            /* or NULL */
	char *client_encoding;          /* or NULL */
	char *datestyle;                /* or NULL */
	char *timezone;                 /* or NULL */
	char *application_name;         /* or NULL */
	/* the breakers: counts are CONF_INHERIT when unset, times CONF_INHERIT_US */
	int breaker_failure_threshold;
	int breaker_failure_rate;
	int breaker_min_calls;
	int breaker_success_threshold;
	int breaker_max_eject;
	int breaker_open_action; /* enum conf_open_action */
	uint64_t breaker_window_us;
	uint64_t breaker_recovery_timeout_us;
	uint64_t breaker_recovery_max_us;
	int retry;              /* enum conf_retry or CONF_INHERIT */
	int retry_max_attempts; /* CONF_INHERIT, never 0 */
	int retry_budget;       /* CONF_INHERIT */

	bool is_auto; /* made from the * line */
	unsigned seq; /* private: order in the file */
};

/* One line of [users]. */
struct conf_user {
	char *name;
	int pool_mode;                        /* enum conf_pool_mode or CONF_INHERIT */
	int pool_size;                        /* CONF_INHERIT, 0 is unlimited */
	int reserve_pool_size;                /* CONF_INHERIT */
	int max_user_connections;             /* CONF_INHERIT, never 0 */
	int max_user_client_connections;      /* CONF_INHERIT, never 0 */
	uint64_t query_timeout_us;            /* CONF_INHERIT_US, never 0 */
	int query_timeout_action;             /* enum conf_timeout_action or CONF_INHERIT */
	uint64_t idle_transaction_timeout_us; /* CONF_INHERIT_US, never 0 */
	uint64_t transaction_timeout_us;      /* CONF_INHERIT_US, never 0 */
	uint64_t query_wait_timeout_us;       /* CONF_INHERIT_US, 0 is off */
	uint64_t client_idle_timeout_us;      /* CONF_INHERIT_US, never 0 */
	int retry;                            /* enum conf_retry or CONF_INHERIT */
	int retry_max_attempts;               /* CONF_INHERIT, never 0 */
	int retry_budget;                     /* CONF_INHERIT */
	unsigned seq;                         /* private: order in the file */
};

/* One line of [peers]. */
struct conf_peer {
	int id;     /* 1 to 65535 */
	char *host; /* never NULL */
	int port;
	int pool_size; /* CONF_INHERIT */
	unsigned seq;  /* private: order in the file */
};

struct conf_names; /* the memory behind the three arrays below; shared by copies */

/* The C type of a setting, by its type in the table. */
#define CONF_FIELD_FLAG(name)  int name;
#define CONF_FIELD_INT(name)   int name;
#define CONF_FIELD_UINT(name)  unsigned name;
#define CONF_FIELD_TIME(name)  uint64_t name##_us;
#define CONF_FIELD_ENUM(name)  int name;
#define CONF_FIELD_STR(name)   char *name;
#define CONF_FIELD_WORDS(name) struct conf_list name;
#define CONF_FIELD_CSV(name)   struct conf_list name;

struct conf {
	uint32_t magic;
	atomic_uint refs; /* private */
	enum conf_profile profile;
	char *file; /* the file that this was read from */

	/* One field per setting. Strings are NULL only where the default is. */
#define X(group, type, name, def_pgbouncer, def_pgsluice, min, max, unit, values, flags, help) CONF_FIELD_##type(name)
	CONF_TABLE(X)
#undef X

	const struct conf_db *dbs; /* sorted by name, without * */
	size_t db_count;
	const struct conf_user *users; /* sorted by name */
	size_t user_count;
	const struct conf_peer *peers; /* sorted by id */
	size_t peer_count;
	const char *autodb; /* value of the * line, unparsed; NULL without one */

	struct conf_names *names;        /* private: owner of the arrays */
	bool set_in_file[CONF_ID_COUNT]; /* settings that the file, or SET since, names */
};

/* ---- messages and errors ---- */

/* A line for the log, without its prefix. */
struct conf_message {
	enum log_level level;
	char *text;
};

/*
 * What a load or a change has to say. The messages are PgBouncer's log lines in
 * their order, followed by ours; there may be warnings after a success as well.
 * The rest is the first error in parts; `what` is NULL after a success.
 */
struct conf_error {
	char *file;    /* NULL when the error is in no file */
	unsigned line; /* 0 when it is in no line */
	char *what;    /* what is wrong */
	char *hint;    /* what would be right; may be NULL */
	struct conf_message *messages;
	size_t count;
};

void conf_error_init(struct conf_error *err);
/* Frees what it holds; it may be used again. */
void conf_error_fini(struct conf_error *err);

/* Adds a line for the log. */
void conf_error_log(struct conf_error *err, enum log_level level, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * Records what is wrong, and what would be right in `hint` (may be NULL, is
 * copied), unless an earlier error stands there. Adds no line for the log.
 */
void conf_error_set(struct conf_error *err, const char *hint, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* ---- loading ---- */

/*
 * Reads a file. Ownership of the text (allocated with malloc, not necessarily
 * NUL-terminated) goes to the caller. 0, or -E_SYS with errno set.
 */
typedef int (*conf_read_file)(void *ctx, const char *path, char **text, size_t *len);

/*
 * Reads and checks a file with everything it includes. On success *out is a new
 * snapshot held once; on failure *out is untouched and err says why. Returns 0,
 * -E_SYS (a file cannot be read), -E_SYNTAX or -E_RANGE. `err` has been
 * initialised; it may hold warnings after a success.
 */
int conf_load(const char *path, struct conf **out, struct conf_error *err) MUSTCHECK;

/* The same with another source of files, for tests and fuzzing. */
int conf_load_from(conf_read_file read_file, void *ctx, const char *path, struct conf **out,
		   struct conf_error *err) MUSTCHECK;

/*
 * Loads old->conffile, for a process that runs with `old`. A file of another
 * profile is an error: what differs most between the profiles cannot change
 * while connections are served. Nothing is taken from `old` yet, so that the
 * two can be compared; see conf_keep_started(). Errors as conf_load().
 */
int conf_reload(const struct conf *old, struct conf **out, struct conf_error *err) MUSTCHECK;

/* Gives settings that need a restart the value they have in `old`. Before `fresh` is shared. */
void conf_keep_started(struct conf *fresh, const struct conf *old);

/*
 * SET: a copy of `old` with one setting changed, held once. A setting that needs
 * a restart keeps its value, which is a success with a message. Returns 0,
 * -E_NOENT (no such setting), -E_SYNTAX or -E_RANGE.
 */
int conf_set(const struct conf *old, const char *key, const char *value, struct conf **out,
	     struct conf_error *err) MUSTCHECK;

/* Another reference; returns its argument. Any thread. */
struct conf *conf_hold(struct conf *conf);

/* Gives a reference back and nulls the pointer; *conf may be NULL. Any thread. */
void conf_release(struct conf **conf);

/* ---- databases and users ---- */

/* The console is a database of its own, under both names. */
#define CONF_CONSOLE_DB           "pgsluice"
#define CONF_CONSOLE_DB_PGBOUNCER "pgbouncer"

/* True for one of these names. */
bool conf_is_console_name(const char *name);

/*
 * True when a client that asks for the database `name` gets to the console.
 * Under [pgbouncer] a line of [databases] takes precedence over the name that
 * PgBouncer's console does not have; under [pgsluice] there is no such line.
 */
bool conf_is_console(const struct conf *conf, const char *name);

/* NULL when the file has no such line. Valid as long as the snapshot is held. */
const struct conf_db *conf_find_db(const struct conf *conf, const char *name);
const struct conf_user *conf_find_user(const struct conf *conf, const char *name);
const struct conf_peer *conf_find_peer(const struct conf *conf, int id);

/*
 * Makes the database `name` from the * line; it is the caller's, independent of
 * the snapshot, and goes with conf_db_free(). -E_NOENT when there is no * line
 * or the name cannot be one, -E_SYNTAX when the line is no good for it.
 */
int conf_autodb(const struct conf *conf, const char *name, struct conf_db **out) MUSTCHECK;
/* Takes *db and nulls it; *db may be NULL. */
void conf_db_free(struct conf_db **db);

/* The port of the i-th host; of the only one, when there is no list. */
int conf_db_port(const struct conf_db *db, size_t i);

/* True when both have the same * line, or none. */
bool conf_same_autodb(const struct conf *a, const struct conf *b);

/* A copy of its own, for conf_db_free(). */
struct conf_db *conf_db_copy(const struct conf_db *db) MUSTCHECK;

/* True when all keys are equal. */
bool conf_db_is_equal(const struct conf_db *a, const struct conf_db *b);

/* True when connections made for one definition may go on to be used under the other. */
bool conf_db_same_server(const struct conf_db *a, const struct conf_db *b);

/* ---- effective values: db and user may be NULL ---- */

/* User, then database, then global. Replication connections are always in session mode; that is the caller's. */
enum conf_pool_mode conf_pool_mode(const struct conf *conf, const struct conf_db *db, const struct conf_user *user);
/* Servers; 0 is unlimited. */
int conf_pool_size(const struct conf *conf, const struct conf_db *db, const struct conf_user *user);
enum conf_session_attrs conf_target_session_attrs(const struct conf *conf, const struct conf_db *db);
int conf_min_pool_size(const struct conf *conf, const struct conf_db *db);
int conf_reserve_pool_size(const struct conf *conf, const struct conf_db *db, const struct conf_user *user);
/* Clients; 0 is unlimited, never negative. */
int conf_max_waiting_clients(const struct conf *conf, const struct conf_db *db);
/* Connections; 0 is unlimited, never negative. */
int conf_max_db_connections(const struct conf *conf, const struct conf_db *db);
int conf_max_db_client_connections(const struct conf *conf, const struct conf_db *db);
int conf_max_user_connections(const struct conf *conf, const struct conf_user *user);
int conf_max_user_client_connections(const struct conf *conf, const struct conf_user *user);
/* Microseconds; 0 means single use. */
uint64_t conf_server_lifetime_us(const struct conf *conf, const struct conf_db *db);
/* Microseconds; 0 is off. The user is the one that the client presented. */
uint64_t conf_query_wait_timeout_us(const struct conf *conf, const struct conf_db *db, const struct conf_user *user);
uint64_t conf_client_idle_timeout_us(const struct conf *conf, const struct conf_user *user);
/* Microseconds; 0 is off. The user is the one of the pool. */
uint64_t conf_query_timeout_us(const struct conf *conf, const struct conf_db *db, const struct conf_user *user);
enum conf_timeout_action conf_query_timeout_action(const struct conf *conf, const struct conf_db *db,
						   const struct conf_user *user);
uint64_t conf_cancel_grace_us(const struct conf *conf, const struct conf_db *db);
/* Whether statements are repeated, how often they are run at most, and the share that may be, in percent: likewise. */
enum conf_retry conf_retry(const struct conf *conf, const struct conf_db *db, const struct conf_user *user);
unsigned conf_retry_max_attempts(const struct conf *conf, const struct conf_db *db, const struct conf_user *user);
unsigned conf_retry_budget(const struct conf *conf, const struct conf_db *db, const struct conf_user *user);
uint64_t conf_idle_transaction_timeout_us(const struct conf *conf, const struct conf_user *user);
uint64_t conf_transaction_timeout_us(const struct conf *conf, const struct conf_user *user);
/* NULL when there is none; an empty setting counts as none. */
const char *conf_auth_user(const struct conf *conf, const struct conf_db *db);
const char *conf_auth_dbname(const struct conf *conf, const struct conf_db *db);
/* Never NULL. */
const char *conf_auth_query(const struct conf *conf, const struct conf_db *db);

/*
 * Takes an address apart that is written host:port, [host]:port, *:port or port,
 * which is of 127.0.0.1: 0, or -E_SYNTAX.
 */
int conf_split_address(const char *text, char *host, size_t host_size, uint16_t *port) MUSTCHECK;

/* ---- the table, for SHOW CONFIG, --check and the documentation ---- */

/* The i-th setting in the order of SHOW CONFIG; i < CONF_ID_COUNT. */
enum conf_id conf_show_id(size_t i);
/* The number of a setting, or CONF_ID_COUNT when there is none of that name. */
enum conf_id conf_id_of(const char *key);
const char *conf_key(enum conf_id id);
unsigned conf_flags(enum conf_id id);
/* False: takes effect at a start only. */
bool conf_is_changeable(enum conf_id id);
/*
 * The value as SHOW CONFIG prints it, to be freed by the caller; NULL for a
 * string that was never set. A secret comes as "****".
 */
char *conf_show_value(const struct conf *conf, enum conf_id id);
/* The default under the snapshot's profile, as text; NULL when there is none. */
const char *conf_show_default(const struct conf *conf, enum conf_id id);
/* Name of an enum's value, as in the file. */
const char *conf_pool_mode_name(enum conf_pool_mode mode);
const char *conf_sslmode_name(enum conf_sslmode mode);
const char *conf_auth_type_name(enum conf_auth_type type);
const char *conf_load_balance_name(enum conf_load_balance balance);

/*
 * Report for `pgsluice --check`: lines of fields separated by tabs, the kind of
 * line first; lines that begin with # are headings. See doc/config.md.
 */
void conf_print_check(const struct conf *conf, FILE *out);

/* The reference of every setting and key, in Markdown: the text of doc/config.md. */
void conf_print_options(FILE *out);

/* A commented file with every setting: the text of etc/pgsluice.ini. */
void conf_print_sample(FILE *out);

#endif
