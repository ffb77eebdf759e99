#ifndef TORTURE_SCRIPT_H
#define TORTURE_SCRIPT_H

/*
 * A script is one operation of a client, worked out in full before its first byte is sent: the bytes to send, the
 * steps (send up to here, wait for the answers so far, pause, fire a cancel request), and the list of the messages
 * that must come back, in order and almost always to the byte. Shapes (shape.h) write scripts, clients (client.h)
 * play them, check.h compares what comes.
 */
#include "bytes.h"

/* Storage above this is given back between scripts. */
#define SCRIPT_KEEP_BYTES (256 * 1024)

enum expect_kind {
	X_EXACT,  /* a message of this type with exactly this body */
	X_STREAM, /* any number of messages of this type; their bodies joined are exactly these bytes */
	X_ERROR,  /* ErrorResponse with this SQLSTATE and this text within its message */
	X_NOTICE, /* NoticeResponse with this text within its message */
	X_READY,  /* ReadyForQuery with this status */
	X_ERRORS, /* ErrorResponse with one of these SQLSTATEs, separated by spaces */
	X_SHAPE,  /* RowDescription of a table whose columns change; see shaped.h */
	X_SHAPED, /* rows as the last such description says, and then their CommandComplete */
};

struct expect {
	enum expect_kind kind;
	char type;        /* message type */
	char status;      /* X_READY: I, T or E */
	char sqlstate[6]; /* X_ERROR */
	size_t at;        /* where body or text starts in script.pool */
	size_t len;       /* its length */
	size_t asked;     /* the answer cannot come before this many bytes of script.out were sent */
	size_t alt;       /* when another message comes: the expectation that it may meet instead; 0: none */
	size_t then;      /* the expectation that follows this one; 0: the next in the list */
	int shaped;       /* X_SHAPE, X_SHAPED, X_ERRORS: number of the statement in script.shaped; -1: none */
	bool binary;      /* X_SHAPED: the rows are binary */
};

enum step_kind {
	STEP_SEND,   /* send script.out up to offset value */
	STEP_WAIT,   /* wait until value expectations are met */
	STEP_PAUSE,  /* do nothing for value microseconds */
	STEP_CANCEL, /* send a CancelRequest for this very session */
};

struct step {
	enum step_kind kind;
	size_t value;
};

/* How a write must end. */
enum write_fate {
	WRITE_OPEN,     /* its transaction is not at an end yet */
	WRITE_COMMITS,  /* done when expectation `ack` is met, possible once `commit_at` bytes were sent */
	WRITE_VANISHES, /* its transaction is rolled back, or it is never sent */
	WRITE_UNSURE,   /* the script was cut short around it */
};

struct script_write {
	enum write_fate fate;
	uint32_t op;      /* number in the ledger of this client */
	size_t sent_at;   /* offset of the first byte after the message that writes */
	size_t commit_at; /* offset of the first byte after the message that commits */
	size_t ack;       /* index of the expectation that says it is committed */
};

/* A session parameter that the script sets: which of PARAM_NAMES, and to what. */
struct script_set {
	int param;
	char value[64];
};

struct shaped;

struct script {
	const char *shape;     /* name of the shape, for reports */
	char tx;               /* transaction status at this point of the writing */
	bool dies;             /* the session is killed on the server by the script itself */
	size_t commits_at;     /* up to here must be sent for the next commit, if not to its end; 0: to its end */
	bool retire;           /* the session's state is unknown when the script is cut short */
	bool forget;           /* its prepared statements are */
	bool unnamed;          /* the unnamed statement was replaced or dropped by what was written so far */
	bool free_params;      /* any ParameterStatus may come */
	struct shaped *shaped; /* of the actor: what it was told */
	size_t heavy_bytes;    /* what it holds of the budget for large messages */
	struct bytes out;      /* what to send */
	struct bytes pool;     /* what expectations compare with */
	struct step *steps;    /* n_steps of them */
	size_t n_steps, cap_steps;
	struct expect *expects; /* n_expects of them */
	size_t n_expects, cap_expects;
	size_t *ends; /* offsets in out where messages end */
	size_t n_ends, cap_ends;
	struct script_write *writes;
	size_t n_writes, cap_writes;
	struct script_set *sets;
	size_t n_sets, cap_sets;
};

/* Empties a script for a shape of that name, keeping moderate storage. */
void script_reset(struct script *s, const char *shape);
void script_free(struct script *s);

/* Messages to the server. Lengths in bytes; text arguments are C strings. */
void script_send_query(struct script *s, const void *sql, size_t len);
void script_send_text(struct script *s, const char *sql);
void script_send_parse(struct script *s, const char *name, const void *sql, size_t len);
/* The same with the types of the first n_oids parameters. */
void script_send_typed_parse(struct script *s, const char *name, const void *sql, size_t len, const uint32_t *oids,
			     int n_oids);
/* params: n_params values, each as int32 length and bytes. */
void script_send_bind(struct script *s, const char *portal, const char *name, const struct bytes *params, int n_params,
		      bool binary_params, bool binary_results);
void script_send_describe(struct script *s, char what, const char *name);
void script_send_execute(struct script *s, const char *portal, uint32_t max_rows);
void script_send_close(struct script *s, char what, const char *name);
void script_send_sync(struct script *s);
void script_send_flush(struct script *s);
void script_send_copy_data(struct script *s, const void *data, size_t len);
void script_send_copy_done(struct script *s);
void script_send_copy_fail(struct script *s, const char *why);
/* A function call with text arguments and a text result; NULL arguments are SQL nulls. */
void script_send_function(struct script *s, uint32_t oid, const char *const *args, int n_args);

/* Messages from the server, in the order in which they must come. */
void script_expect(struct script *s, char type, const void *body, size_t len);
void script_expect_stream(struct script *s, char type, const void *data, size_t len);
void script_expect_tag(struct script *s, const char *tag);
void script_expect_error(struct script *s, const char *sqlstate, const char *text);
void script_expect_notice(struct script *s, const char *text);
/* An error with one of these SQLSTATEs; with shaped >= 0 it is one of that statement. */
void script_expect_errors(struct script *s, const char *sqlstates, int shaped);
/* The last expectation may be met as soon as the message that it answers has begun. */
void script_expect_early(struct script *s);
/* The description of such a statement, and its rows with their end; they begin with the len bytes of own. */
void script_expect_shape(struct script *s, int shaped);
void script_expect_shaped(struct script *s, int shaped, bool binary, const void *own, size_t len);
/*
 * Instead of the expectations from `from` on up to `mid`, those from `mid` on may come: with anywhere, whichever of
 * the former was to be next, else only instead of the first. Both ways go on with the next expectation to be written.
 */
void script_or(struct script *s, size_t from, size_t mid, bool anywhere);
/* ReadyForQuery with the status in s->tx. */
void script_expect_ready(struct script *s);

/* Steps. Everything written so far is sent before a wait or a cancel. */
void script_push(struct script *s);
void script_wait(struct script *s);
void script_pause(struct script *s, unsigned us);
void script_cancel(struct script *s);

/* Notes that the last message writes operation op. */
void script_write(struct script *s, uint32_t op);
/*
 * The last message, an Execute, commits already: what follows up to
 * script_commit(), its Sync, is not needed for that.
 */
void script_commit_executed(struct script *s);
/* All writes still open are committed by the last message, as the last expectation says; or they vanish. */
void script_commit(struct script *s);
void script_rollback(struct script *s);
/* Notes that the script sets a parameter. */
void script_set(struct script *s, int param, const char *value);

#endif
