/*
 * The few message bodies that the pooler reads. `body` is what follows the
 * type byte and the length. Each function returns 0, or -E_PROTO when the
 * body does not have the shape that the protocol prescribes, down to the last
 * byte; then the result is not to be used. Slices in a result point into the
 * body and are never NULL: what is absent is an empty string.
 */
#ifndef PGSLUICE_PROTO_PARSE_H
#define PGSLUICE_PROTO_PARSE_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"
#include "proto/msg.h"

/* --- from servers --- */

/* ErrorResponse and NoticeResponse. */
struct parse_report {
	struct slice severity; /* never translated (V) when the server sends that, else S */
	struct slice sqlstate;
	struct slice message;
	struct slice detail;
	struct slice hint;
	struct slice routine; /* of the source, that reports it */
};

/*
 * Reads a report: 0, or -E_PROTO when the body does not end where it should. Of
 * one that is cut, the fields are there that have come as a whole, and the
 * message as far as it has come.
 */
int parse_report(struct slice body, struct parse_report *r) MUSTCHECK;

/* True when the session ends with it. */
bool parse_report_is_fatal(const struct parse_report *r);

/* True when a prepared statement does not return the columns any more that it had when it was parsed. */
bool parse_is_changed_plan(const struct parse_report *r);

/* A DataRow of exactly n columns; NULL is an empty value. */
int parse_data_row(struct slice body, struct slice *values, unsigned n) MUSTCHECK;

int parse_parameter_status(struct slice body, struct slice *name, struct slice *value) MUSTCHECK;

/* The secret that goes with the process id; 4 bytes in protocol 3.0. */
#define BACKEND_KEY_MIN 4
#define BACKEND_KEY_MAX 256

int parse_backend_key(struct slice body, uint32_t *pid, struct slice *key) MUSTCHECK;

/* Refuses a status that does not exist. */
int parse_ready(struct slice body, enum tx_status *status) MUSTCHECK;

struct parse_auth {
	uint32_t code;     /* enum auth_code, or one that we do not know */
	struct slice data; /* salt, list of mechanisms, SASL data ... */
};

/*
 * Authentication. The data is checked for the requests that we can answer:
 * none for AUTH_OK and AUTH_CLEARTEXT, 4 bytes for AUTH_MD5, a well-formed
 * list for AUTH_SASL.
 */
int parse_auth(struct slice body, struct parse_auth *a) MUSTCHECK;

/*
 * Takes the next mechanism off the list in `data` of an AUTH_SASL request;
 * false at the end.
 */
bool parse_auth_mechanism_next(struct slice *list, struct slice *mechanism);

struct parse_negotiate {
	uint32_t version; /* newest that the server speaks */
	uint32_t n;       /* extensions that it does not know */
	struct slice names;
};

int parse_negotiate(struct slice body, struct parse_negotiate *n) MUSTCHECK;

/* Takes the next name off `names`; false at the end. */
bool parse_negotiate_next(struct slice *names, struct slice *name);

int parse_command_complete(struct slice body, struct slice *tag) MUSTCHECK;

/* --- from clients; auth/ reads their passwords and answers --- */

/* Bind: true when it names formats for several columns, so that the result must have as many; also when malformed. */
bool parse_bind_names_columns(struct slice body);

/* What stands behind the first string of a body that may be cut: empty when that has not come. */
struct slice parse_behind_string(struct slice body);

/* Query: the text without its NUL. */
int parse_query(struct slice body, struct slice *sql) MUSTCHECK;

#endif
