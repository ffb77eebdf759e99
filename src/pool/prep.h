/*
 * Who knows which prepared statements: the names that a client has given to
 * texts, and the texts that a server has been given; and what is undone when
 * the server did not do what was expected of it. See virtual.c for their use.
 *
 * Both are touched by the thread of their connection only.
 */
#ifndef PGSLUICE_POOL_PREP_H
#define PGSLUICE_POOL_PREP_H

#include <sys/queue.h>
#include <uthash.h>

#include "core/reason_tbl.h"
#include "pool/shape.h"
#include "pool/stmt.h"

/* ---- clients ---- */

/* What a client takes a statement for. */
struct prep_told {
	uint32_t shape; /* of its result, as the client was told when it asked; see shape.h */
	unsigned epoch; /* db->ddl_epoch when the client parsed it: it means the tables that there were then */
};

/* A name that a client has given to a text. A million of them is nothing unusual, so they are small. */
struct prep_name {
	struct prep_name *next; /* in its bucket */
	struct stmt *stmt;      /* held; NULL in a record that only needs the name */
	uint32_t hash;
	uint32_t len;
	struct prep_told told;
	char text[];
};

struct prep_client {
	struct prep_name **buckets; /* `size` of them, a power of two; NULL while there is no name */
	uint32_t size;
	uint32_t count;
	struct stmt *unnamed; /* the text of the unnamed statement, if it may be needed on another server; held */
	struct prep_told unnamed_told;
	uint32_t unnamed_count; /* of unnamed statements so far; never 0 when there was one */
	bool is_unsure;         /* the Parse of `unnamed` may yet turn out to have failed */
};

static inline struct slice prep_name_text(const struct prep_name *name)
{
	return slice_make(name->text, name->len);
}

/* A name, in no map yet; takes over the reference. NULL, and the reference is gone, when memory is short. */
struct prep_name *prep_name_new(struct slice name, struct stmt *stmt) MUSTCHECK;
/* Nulls the pointer; NULL inside is fine. */
void prep_name_free(struct prep_name **name);

struct prep_name *prep_client_find(const struct prep_client *pc, struct slice name);
/* One of the names for this text, or NULL; looks through all of them. */
struct prep_name *prep_client_find_stmt(const struct prep_client *pc, const struct stmt *stmt);
/* Takes over the name, which must be new; false when memory is short, and the name is still the caller's. */
bool prep_client_add(struct prep_client *pc, struct prep_name *name) MUSTCHECK;
/* Takes the name out; it is the caller's. */
void prep_client_remove(struct prep_client *pc, struct prep_name *name);
/* The client parses another unnamed statement; db_epoch: db->ddl_epoch. The last one's text is forgotten. */
void prep_client_begin_unnamed(struct prep_client *pc, unsigned db_epoch);
/* Forgets everything. */
void prep_client_clear(struct prep_client *pc);

/* ---- servers ---- */

/* A text that a server has been given. */
struct prep_entry {
	UT_hash_handle hh;              /* by stmt */
	TAILQ_ENTRY(prep_entry) recent; /* the one used last comes first */
	struct stmt *stmt;              /* held */
	uint64_t number;                /* of its name there */
	uint32_t shape;                 /* of its result there; see shape.h */
	unsigned epoch;                 /* prep_server.epoch when it was parsed */
	unsigned db_epoch;              /* db->ddl_epoch likewise */
	unsigned db_tables;             /* db->ddl_tables likewise */
	uint32_t doubted_by;            /* it was parsed again because a client had been told this shape */
	bool is_shapeless;              /* it was asked for, and is too long to be known */
	bool is_pending;                /* its Parse has not been answered yet */
	bool is_victim;                 /* a DEALLOCATE of the client will hit it; see virtual.c */
	bool is_spoiled;                /* the server cannot use it any more, as an error has shown */
};

TAILQ_HEAD(prep_recent, prep_entry);

/*
 * What is believed of a message that the server has not answered yet. The
 * entries of the tracker that are marked are its records, in the same order.
 */
enum prep_op {
	PREP_PARSE,    /* entry: will be there. name: was added to the client's map. If not, both go */
	PREP_UNNAMED,  /* the same for the client's unnamed statement */
	PREP_EVICT,    /* entry: was taken out of the map as it will be closed. If not, it is back */
	PREP_FORGET,   /* name: was taken out of the client's map. If not, it is back */
	PREP_DESCRIBE, /* the shape of a result will come: entry's, name's, the unnamed statement's. NULL: none, or gone
			  by then */
	PREP_PROVOKE,  /* an error is going to come, to be told in our words; name: for these, or NULL */
};

struct prep_record {
	enum prep_op op;
	enum reason why;  /* of PREP_PROVOKE */
	uint32_t unnamed; /* of PREP_DESCRIBE: prep_client.unnamed_count when it was asked for; 0: another statement */
	struct prep_name *name;
	struct prep_entry *entry;
};

struct prep_server {
	struct prep_entry *table;
	struct prep_recent recent;
	unsigned count;
	unsigned epoch;   /* counts commands that may have changed what statements return, seen on this server */
	bool tables_seen; /* tables came or went since the last transaction has ended */
	bool ddl_seen;    /* ... since the last transaction has ended */
	bool is_expecting_change; /* a client was left to a statement that may not return the same any more, likewise */
	struct prep_record *records;
	uint32_t record_head;
	uint32_t record_count;
	uint32_t record_size;
	uint64_t batch;         /* counts ends of batches that the client has sent */
	uint64_t records_batch; /* in which the records were made: all in the same one */
};

void prep_server_init(struct prep_server *ps);
void prep_server_fini(struct prep_server *ps);

struct prep_entry *prep_server_find(const struct prep_server *ps, const struct stmt *stmt);
/* The same by its number on the server; looks through all of them. */
struct prep_entry *prep_server_find_number(const struct prep_server *ps, uint64_t number);
/*
 * The same by its name there, which stands somewhere in a text, such as an
 * error in whatever language; *name is where. NULL: it names none.
 */
struct prep_entry *prep_server_find_named(const struct prep_server *ps, struct slice text, struct slice *name);
/* A new entry that is in no map, with a reference of its own; NULL without memory. */
struct prep_entry *prep_entry_new(struct stmt *stmt, uint64_t number) MUSTCHECK;
/* A new entry, pending, used last, with a reference of its own; NULL without memory. */
struct prep_entry *prep_server_add(struct prep_server *ps, struct stmt *stmt, uint64_t number) MUSTCHECK;
/* Makes it the one used last. */
void prep_server_touch(struct prep_server *ps, struct prep_entry *entry);
/* Takes an entry out of the map; it is the caller's. */
void prep_server_remove(struct prep_server *ps, struct prep_entry *entry);
/* The entry that was not used for longest, among those that are not pending; NULL: none. */
struct prep_entry *prep_server_oldest(struct prep_server *ps);
/* The oldest entry that is a victim, and not pending: no answer to what is behind it can have come. NULL: none. */
struct prep_entry *prep_server_victim(struct prep_server *ps);
/* The server has forgotten this entry, which must not be pending. Nulls the pointer. */
void prep_server_drop(struct prep_server *ps, struct prep_entry **entryp);
/* The server has forgotten all that it had been given. */
void prep_server_clear(struct prep_server *ps);
void prep_entry_free(struct prep_entry **entry);

/*
 * True while records of an earlier batch than the one that is being sent are
 * open: no new ones can be made before they are settled, for those would have to
 * be undone without these.
 */
static inline bool prep_server_is_held_up(const struct prep_server *ps)
{
	return UNLIKELY(ps->record_count > 0) && ps->records_batch != ps->batch;
}

/* True when this name was added to the client's map by a message that is not answered yet, and may fail. */
bool prep_server_doubts(const struct prep_server *ps, const struct prep_name *name);

/* Makes room for n records; false without memory. */
bool prep_server_reserve(struct prep_server *ps, uint32_t n) MUSTCHECK;
/* Adds a record; there must be room, and it must not be held up. */
void prep_server_record(struct prep_server *ps, struct prep_record record);
/* A name for this text that a message which is not answered yet has taken out of the client's map, or NULL. */
const struct prep_name *prep_server_find_forgotten(const struct prep_server *ps, const struct stmt *stmt);
/* True when there are records besides those that only ask for the shape of an unnamed statement. */
bool prep_server_has_records(const struct prep_server *ps);
/* The oldest record; there must be one. */
const struct prep_record *prep_server_record_head(const struct prep_server *ps);
/* One of them, the oldest being 0; it must be there. Entry and name may be changed by whoever fills in the records. */
struct prep_record *prep_server_record_at(const struct prep_server *ps, uint32_t i);

/* So many of the oldest records have come true. */
void prep_server_done(struct prep_server *ps, uint32_t n);
/* So many have not, and are undone, the newest first. pc: of the client; NULL after prep_server_disown(). */
void prep_server_undo(struct prep_server *ps, struct prep_client *pc, uint32_t n);
/* The server has forgotten what the client had parsed there; what is still to be parsed stays. */
void prep_client_forget(struct prep_client *pc, struct prep_server *ps);
/* What was asked for by the oldest record, a PREP_DESCRIBE, is known. pc: of the client; NULL when it has gone. */
void prep_server_described(struct prep_server *ps, struct prep_client *pc, uint32_t shape);
/* The client has left: what is still to be settled is about the server alone. */
void prep_server_disown(struct prep_server *ps);
/* The client has left and the server is of no use: nothing is left to be settled. */
void prep_server_abandon(struct prep_server *ps);

#endif
