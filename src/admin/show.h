/*
 * SHOW: result sets as tables of columns. A result is made in up to three
 * steps: each loop describes what it owns in a list of its own, the control
 * loop joins the lists and adds what it knows itself, and the rows are sent by
 * the columns' descriptions.
 *
 * None of this may be felt by those who are served meanwhile. A loop with
 * thousands of clients describes them in slices (pool/survey.h), and the rows
 * are sent in slices, with a rest between them, when the socket has taken the
 * last one: the control loop takes a small part of a core from the workers for
 * some time, and not all of it at once. So the answer to SHOW CLIENTS is not a
 * picture of one moment: each row is true for the moment at which it was made,
 * all of them within the time that the command takes; whoever was there during
 * all of that time is in it exactly once.
 */
#ifndef PGSLUICE_ADMIN_SHOW_H
#define PGSLUICE_ADMIN_SHOW_H

#include "admin/admin_int.h"
#include "admin/command.h"
#include "net/sock.h"
#include "pool/survey.h"

/* What a column finds at its offset in the row. */
enum show_kind {
	SHOW_TEXT,  /* const char *; NULL is SQL NULL */
	SHOW_CHARS, /* char[]; never NULL */
	SHOW_ADDR,  /* struct sock_peer: the address, or "unix"; empty for none */
	SHOW_INT,   /* int64_t */
	SHOW_MAYBE, /* int64_t; SHOW_NULL is SQL NULL */
	SHOW_TIME,  /* uint64_t, monotonic microseconds, shown as local time; 0 is SQL NULL */
	SHOW_PTR,   /* const void *; empty when NULL */
};

#define SHOW_NULL INT64_MIN

struct show_column {
	const char *name;
	uint32_t oid; /* enum type_oid */
	enum show_kind kind;
	size_t offset;
	const char *help; /* for the manual */
};

/* Columns of the widest table. */
#define SHOW_COLUMNS_MAX 32

/* Which columns the client wants in binary: none when count is 0, all or none when it is 1. */
struct show_formats {
	size_t count;
	bool is_binary[SHOW_COLUMNS_MAX];
};

/*
 * Rows of one size, and texts that rows point to. Rows are sent some time after
 * they were made: a text that may go before has to be kept with them.
 */
struct show_rows {
	size_t row_size;
	uint8_t *data;
	size_t count;
	size_t capacity;
	struct show_texts *texts;
};

/* A result under way. */
struct show {
	struct admin *admin;
	struct engine *engine;
	const struct show_table *table;
	struct snapshot *snap;
	uint64_t now_us;
	uint64_t console_id;
	struct console *console; /* whose reply the rows are; while they are sent */
	struct loop_alarm alarm; /* the next slice */
	size_t sent;             /* rows */
	struct show_rows rows;
	unsigned part_count;
	struct show_rows parts[]; /* one per loop, by the index of the survey */
};

/* A visit to a loop. */
struct show_visit {
	struct loop_ctx *ctx;
	struct worker *worker;  /* NULL on a login loop */
	bool with_own;          /* as show_has_own() */
	uint64_t *at;           /* 0 on the first call, then the visitor's own */
	struct show_rows *rows; /* what the loop has said so far */
};

struct show_table {
	const char *name; /* as in SHOW name */
	const char *help; /* for the manual: what the rows are, in sentences */
	enum command_right right;
	bool in_help;
	bool needs_extended; /* unknown to sessions that speak PgBouncer's dialect of the protocol only */
	const struct show_column *columns;
	size_t column_count;
	size_t own_count; /* the last so many columns are no part of PgBouncer's table: only [pgsluice] shows them */
	size_t row_size;
	size_t part_row_size; /* of what workers give */
	/* Adds what a loop has, on its thread; true: there is more, call again in another turn. NULL: nobody is asked.
	 */
	bool (*visit)(struct show_visit *visit);
	/* On the control loop; adds the rows. */
	void (*fill)(struct show *show);
	/* Called before any loop is asked; may be NULL. */
	void (*begin)(struct console *console);
	/* The descriptor to be sent along with a row, or -1; NULL: none ever. */
	int (*descriptor)(struct console *console, const void *row);
};

/* Goes on sending rows: the socket has taken the last ones. */
void show_resume(struct show *show);
/* The session is gone. Nulls the pointer; NULL inside is fine. */
void show_drop(struct show **show);

/*
 * A visit for tables whose figures the control loop reads itself. A loop counts
 * what it has done behind the calls that do it; so it is asked for nothing but
 * to come around once, and whatever a client has been answered before it asks
 * is in the figures.
 */
bool show_await_loops(struct show_visit *visit);

/* The handler of SHOW. */
void show_run(struct console *console, const struct command *command, const struct sql_cmd *cmd);

/* The table of that name, compared without case; NULL when there is none. */
const struct show_table *show_find(const char *name);
/* The i-th table, NULL behind the last. */
const struct show_table *show_at(size_t i);

/* True for the variables that drivers set and ask for, which mean nothing here. */
bool show_is_fake_variable(const char *name);

/* How many columns of the table are shown under the profile. */
size_t show_column_count(const struct show_table *table, enum conf_profile profile);

/* True when the table has columns that PgBouncer's does not have, and they are shown. Any thread. */
bool show_has_own(const struct show *show);

/* Adds the description of a table's columns to the reply; formats NULL: all text. */
void show_send_columns(struct console *console, const struct show_table *table, const struct show_formats *formats);

/* Adds rows to the reply, in the formats that the command that runs was asked for. */
void show_send_rows(struct console *console, const struct show_table *table, const struct show_rows *rows);

/* A new row, all zero; valid until the next one is added. */
void *show_add_row(struct show_rows *rows);
/* The i-th row. */
void *show_row(const struct show_rows *rows, size_t i);
/* Sorts as qsort() does. */
void show_sort(struct show_rows *rows, int (*compare)(const void *, const void *));
/* Frees the rows and their texts, not the struct. */
void show_free_rows(struct show_rows *rows);
/* A copy of the text that lives as long as the rows, and is wiped then; NULL gives NULL. */
const char *show_keep_text(struct show_rows *rows, const char *text);

struct client;
struct server;

/* True for an idle server that is to be checked before it is used: it counts as "used". On its worker's thread. */
bool show_server_needs_check(const struct server *server, uint64_t now_us);

/* ---- those who wait; see show_queue.c ---- */

/* What rows of several tables tell about a client in the queue of a pool. */
struct show_waiter {
	const void *pool; /* for comparison only; NULL: it does not wait, and the figures are SHOW_NULL */
	uint64_t ticket;
	uint64_t client_id;
	int64_t position;
	int64_t age_ms;
	int64_t deadline_ms;
	int64_t estimate_ms;
};

/* Of nobody who waits. */
extern const struct show_waiter show_no_waiter;

/* What the column says that tells for how long a newcomer would wait. */
#define SHOW_NEWCOMER_HELP "milliseconds that one more would wait, as fast as the queue is; NULL: not known"

/* A wait in milliseconds; SHOW_NULL when it is QUEUE_UNKNOWN. */
int64_t show_wait_ms(uint64_t us);

/* The columns of rows with such a member `waiter`; `without` is added to the helps of those that may be NULL for it. */
#define SHOW_WAITER_COLUMN(type, name, field, help)                                   \
	{                                                                             \
		name, OID_INT8, SHOW_MAYBE, offsetof(struct type, waiter.field), help \
	}
#define SHOW_WAITER_COLUMNS(type, without)                                                                          \
	SHOW_WAITER_COLUMN(type, "position", position, "its place in the queue of the pool, from 1 on" without),    \
		SHOW_WAITER_COLUMN(type, "age_ms", age_ms, "milliseconds that it has waited in the queue" without), \
		SHOW_WAITER_COLUMN(type, "deadline_ms", deadline_ms,                                                \
				   "milliseconds until its time is over; NULL: it has no limit" without),           \
		SHOW_WAITER_COLUMN(                                                                                 \
			type, "estimated_ms", estimate_ms,                                                          \
			"milliseconds until it has a server, as fast as the queue is; NULL: not known" without)

/*
 * Fills in all but the position, which is SHOW_NULL; false when the client does
 * not wait, and *waiter is show_no_waiter. On its worker's thread.
 */
bool show_describe_waiter(const struct client *client, struct show_waiter *waiter);

/* Numbers those who wait, queue by queue; they are at that offset of the rows. n log n. Control thread. */
void show_rank_waiters(const struct show_rows *rows, size_t offset);

/* ---- tables in other files ---- */

extern const struct show_table show_databases, show_users, show_config, show_lists, show_mem, show_state, show_version,
	show_peers, show_peer_pools, show_dns_hosts, show_dns_zones;
extern const struct show_table show_pools, show_clients, show_servers, show_sockets, show_active_sockets;
extern const struct show_table show_fds, show_handover, show_loops, show_auth_cache;
extern const struct show_table show_queue, show_queues, show_readiness, show_timeouts, show_breakers, show_retries;
extern const struct show_table show_stats, show_stats_totals, show_stats_averages, show_totals;

extern const struct show_table show_endpoints, show_failovers;

/* What RELOAD DRY RUN returns. */
extern const struct show_table ctl_reload_changes;

#endif
