/*
 * Every message that the pooler itself says, to clients and to servers. Each
 * function appends one whole message to the buffer and returns 0, or leaves
 * the buffer as it was and returns -E_NOSPACE, -E_NOMEM, -E_TOOBIG, or
 * -E_RANGE for a value that the message cannot carry (a NUL inside of a
 * string, too many columns). Arguments are only read.
 */
#ifndef PGSLUICE_PROTO_BUILD_H
#define PGSLUICE_PROTO_BUILD_H

#include "core/base.h"
#include "core/buf.h"
#include "core/str.h"
#include "proto/msg.h"

/* A name with its value. */
struct build_pair {
	struct slice name;
	struct slice value;
};

/* --- to clients --- */

/* An error or a notice. Empty detail and hint are left out. */
struct build_report {
	struct slice severity; /* FATAL, ERROR, NOTICE ... */
	struct slice sqlstate; /* five characters */
	struct slice message;
	struct slice detail;
	struct slice hint;
	struct slice routine;     /* of a server's source, by which some drivers know errors */
	bool with_plain_severity; /* the field V, which PgBouncer does not send */
};

int build_error(struct buf *b, const struct build_report *r) MUSTCHECK;
int build_notice(struct buf *b, const struct build_report *r) MUSTCHECK;

/* An ErrorResponse with this body, where `name`, which points into it, is replaced. */
int build_renamed_error(struct buf *b, struct slice body, struct slice name, struct slice instead) MUSTCHECK;

int build_auth_ok(struct buf *b) MUSTCHECK;
int build_auth_cleartext(struct buf *b) MUSTCHECK;
int build_auth_md5(struct buf *b, const uint8_t salt[4]) MUSTCHECK;
/* Offers mechanisms: names with a NUL each, in this order, and an empty one. */
int build_auth_sasl(struct buf *b, struct slice mechanisms) MUSTCHECK;
int build_auth_sasl_continue(struct buf *b, struct slice data) MUSTCHECK;
int build_auth_sasl_final(struct buf *b, struct slice data) MUSTCHECK;

int build_parameter_status(struct buf *b, struct slice name, struct slice value) MUSTCHECK;
/* The key is 4 bytes in protocol 3.0, up to 256 since 3.2. */
int build_backend_key(struct buf *b, uint32_t pid, struct slice key) MUSTCHECK;
int build_ready(struct buf *b, enum tx_status status) MUSTCHECK;
/* `version` is the newest that we speak; n names of extensions that we do not know. */
int build_negotiate(struct buf *b, uint32_t version, const struct slice *names, size_t n) MUSTCHECK;

int build_command_complete(struct buf *b, const char *tag) MUSTCHECK;
int build_empty_query(struct buf *b) MUSTCHECK;
int build_parse_complete(struct buf *b) MUSTCHECK;
int build_bind_complete(struct buf *b) MUSTCHECK;
int build_close_complete(struct buf *b) MUSTCHECK;
int build_no_data(struct buf *b) MUSTCHECK;
int build_parameter_description(struct buf *b, const uint32_t *oids, size_t n) MUSTCHECK;

/* Types of the columns that we send. */
enum type_oid {
	OID_BYTEA = 17,
	OID_INT8 = 20,
	OID_INT4 = 23,
	OID_TEXT = 25,
	OID_NUMERIC = 1700,
};

struct build_column {
	const char *name;
	uint32_t oid;   /* enum type_oid, or another type of variable length */
	bool is_binary; /* the format of its values */
};

/* Columns that belong to no table. */
int build_row_description(struct buf *b, const struct build_column *cols, size_t n) MUSTCHECK;
/* A value whose pointer is NULL is SQL NULL; an empty string needs a pointer. */
int build_data_row(struct buf *b, const struct slice *values, size_t n) MUSTCHECK;

/* --- to servers --- */

int build_ssl_request(struct buf *b) MUSTCHECK;
int build_cancel_request(struct buf *b, uint32_t pid, struct slice key) MUSTCHECK;
/* Names may not be empty, because an empty name ends the list. */
int build_startup(struct buf *b, uint32_t version, const struct build_pair *params, size_t n) MUSTCHECK;
int build_password(struct buf *b, struct slice password) MUSTCHECK;
/* `data.p` NULL: the mechanism without an initial response. */
int build_sasl_initial(struct buf *b, const char *mechanism, struct slice data) MUSTCHECK;
int build_sasl_response(struct buf *b, struct slice data) MUSTCHECK;
int build_query(struct buf *b, struct slice sql) MUSTCHECK;
int build_sync(struct buf *b) MUSTCHECK;
int build_copy_fail(struct buf *b, struct slice why) MUSTCHECK;
int build_terminate(struct buf *b) MUSTCHECK;

/* Empty names stand for the unnamed statement and portal. */
int build_parse(struct buf *b, struct slice statement, struct slice sql, const uint32_t *oids, size_t n) MUSTCHECK;
/* Parameters and results in text format; a value whose pointer is NULL is SQL NULL. */
int build_bind(struct buf *b, struct slice portal, struct slice statement, const struct slice *values,
	       size_t n) MUSTCHECK;

/* What Describe and Close name. */
enum build_target {
	TARGET_STATEMENT = 'S',
	TARGET_PORTAL = 'P',
};

int build_describe(struct buf *b, enum build_target target, struct slice name) MUSTCHECK;
int build_close(struct buf *b, enum build_target target, struct slice name) MUSTCHECK;
/* max_rows 0: all. */
int build_execute(struct buf *b, struct slice portal, uint32_t max_rows) MUSTCHECK;

#endif
