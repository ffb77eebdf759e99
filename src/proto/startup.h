/*
 * The first packet of a connection, before anything is known about the peer:
 * requests for encryption, cancel requests and the startup message itself.
 *
 * It comes from anyone who reaches the port, so everything is bounded and
 * nothing is allocated: the parsed form is slices into the packet, and lists
 * are walked in place.
 */
#ifndef PGSLUICE_PROTO_STARTUP_H
#define PGSLUICE_PROTO_STARTUP_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

#define STARTUP_HEADER    8     /* length and code */
#define STARTUP_MAX       65535 /* longest packet, with its length field */
#define STARTUP_PARAM_MAX 1024  /* most parameters in one packet */
#define STARTUP_USER_MAX  127   /* longest user name */
#define STARTUP_KEY_MIN   8     /* key in a cancel request: process id and secret, 4 bytes in protocol 3.0 */
#define STARTUP_KEY_MAX   260   /* ... and up to 256 since 3.2 */

/*
 * What can be wrong, with the text for the client: constant, text, text after
 * the argument, SQLSTATE that PostgreSQL would use, hint or NULL. An error
 * whose text is NULL closes without a word.
 */
/* clang-format off */

#define STARTUP_ERR_TABLE(X) \
	X(STARTUP_E_HEADER, "bad packet header: '", "'", "08P01", NULL) \
	X(STARTUP_E_CANCEL, NULL, "", "08P01", NULL) \
	X(STARTUP_E_SSL_EXTRA, "received unencrypted data after SSL request", "", "08P01", \
	  "It is a fault of the client, or somebody in between adds to what it sends.") \
	X(STARTUP_E_GSS_EXTRA, "received unencrypted data after GSSAPI encryption request", "", "08P01", \
	  "It is a fault of the client, or somebody in between adds to what it sends.") \
	X(STARTUP_E_V2, "old V2 protocol not supported", "", "0A000", NULL) \
	X(STARTUP_E_SSL_REQUIRED, "SSL required", "", "28000", "Set sslmode=require.") \
	X(STARTUP_E_RESENT, "client re-sent startup pkt", "", "08P01", NULL) \
	X(STARTUP_E_PASSWORD_FIRST, "client password pkt before startup packet", "", "08P01", NULL) \
	X(STARTUP_E_LAYOUT, "invalid startup packet layout: expected terminator as last byte", "", "08P01", NULL) \
	X(STARTUP_E_TOO_MANY, "too many startup parameters", "", "54000", NULL) \
	X(STARTUP_E_NO_USER, "no username supplied", "", "28000", NULL) \
	X(STARTUP_E_USER_LONG, "username too long", "", "28000", NULL) \
	X(STARTUP_E_PARAM, "unsupported startup parameter: ", "", "0A000", \
	  "The setting ignore_startup_parameters of the pooler names what it shall overlook.") \
	X(STARTUP_E_OPTION, "unsupported startup parameter in options: ", "", "0A000", \
	  "The setting ignore_startup_parameters of the pooler names what it shall overlook.") \
	X(STARTUP_E_OPTION_SYNTAX, \
	  "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed", "", "0A000", NULL)

/* clang-format on */

enum startup_err {
	STARTUP_OK = 0,
#define X(id, text, after, sqlstate, hint) id,
	STARTUP_ERR_TABLE(X)
#undef X
};

/*
 * Writes the text for the client into dst and returns true, or returns false
 * when this error is not told. `arg` is the name of the parameter for
 * STARTUP_E_PARAM and STARTUP_E_OPTION, the first bytes of the packet for
 * STARTUP_E_HEADER (given here as they came, shown in hexadecimal, at most 8),
 * and without meaning for the rest.
 */
bool startup_err_text(enum startup_err err, struct slice arg, char *dst, size_t size);

/* SQLSTATE and hint of an error that is told; the hint may be NULL. */
const char *startup_err_sqlstate(enum startup_err err);
const char *startup_err_hint(enum startup_err err);

enum startup_kind {
	STARTUP_SESSION, /* protocol 3, any minor version */
	STARTUP_SSL,     /* may we speak TLS? */
	STARTUP_GSSENC,  /* may we speak GSSAPI encryption? */
	STARTUP_CANCEL,  /* cancel request with a key of a length that the protocol knows */
	STARTUP_BAD,     /* see `err` of the head */
};

struct startup_head {
	enum startup_kind kind;
	enum startup_err err; /* why kind is STARTUP_BAD, else STARTUP_OK */
	uint32_t total;       /* length of the whole packet in bytes */
	uint16_t minor;       /* minor version of a STARTUP_SESSION */
};

/*
 * Looks at the first n bytes of a connection. Returns 0 and fills the head;
 * -E_AGAIN when fewer than STARTUP_HEADER bytes are there; -E_PROTO when the
 * length cannot be (answer: STARTUP_E_HEADER). The rest of the packet may
 * still be missing: the caller waits for `total` bytes.
 */
int startup_peek(const void *p, size_t n, struct startup_head *head) MUSTCHECK;

/* True when this first byte of a connection starts a TLS handshake, not a packet. */
static inline bool startup_is_tls(uint8_t first)
{
	return first == 0x16;
}

/* The key of a whole STARTUP_CANCEL packet, as a slice into it. */
struct slice startup_cancel_key(const void *packet, const struct startup_head *head);

enum startup_replication {
	REPLICATION_NONE,
	REPLICATION_LOGICAL,
	REPLICATION_PHYSICAL,
};

/* The meaning of the parameter's value: "database", a boolean; anything else is none. */
enum startup_replication startup_replication(struct slice value);

/* A startup message; all slices point into the packet, absent ones are empty. */
struct startup {
	uint16_t minor;        /* minor version the client asked for */
	struct slice user;     /* may be empty, see startup_check_user() */
	struct slice database; /* the user name when not given or empty */
	struct slice application_name;
	struct slice options;      /* raw, see startup_options_next() */
	bool has_application_name; /* it was given, maybe empty */
	bool has_options;
	enum startup_replication replication;
	unsigned n_params;     /* parameters that startup_params_next() gives */
	unsigned n_extensions; /* names that startup_extensions_next() gives */
	struct slice list;     /* all parameters as they came, without the terminator */
};

/*
 * Parses a whole STARTUP_SESSION packet. Where a parameter comes twice the
 * last one counts. Returns STARTUP_OK, STARTUP_E_LAYOUT or STARTUP_E_TOO_MANY.
 */
enum startup_err startup_parse(const void *packet, const struct startup_head *head, struct startup *s) MUSTCHECK;

/*
 * The minor version to speak with a client, who asked for one, when `newest` is
 * the newest that we speak. A version 3.1 has never existed.
 */
static inline uint16_t startup_minor(const struct startup *s, uint16_t newest)
{
	return s->minor >= 2 && newest >= 2 ? 2 : 0;
}

/* True when the client must be told NegotiateProtocolVersion, with the minor version that is spoken. */
static inline bool startup_must_negotiate(const struct startup *s, uint16_t minor)
{
	return s->minor != minor || s->n_extensions > 0;
}

/* STARTUP_E_NO_USER, STARTUP_E_USER_LONG or STARTUP_OK. */
enum startup_err startup_check_user(const struct startup *s) MUSTCHECK;

/*
 * Walks the parameters that have no field in struct startup: set *at to 0,
 * then each call gives one and returns true, or returns false at the end.
 * startup_extensions_next() gives the names that begin with "_pq_.", in the
 * same way; startup_params_next() leaves them out.
 */
bool startup_params_next(const struct startup *s, size_t *at, struct slice *name, struct slice *value);
bool startup_extensions_next(const struct startup *s, size_t *at, struct slice *name);

/* A walk through the `options` parameter. */
struct startup_options {
	struct slice rest;    /* not yet looked at */
	char *word;           /* holds the words without their backslashes; the caller's */
	size_t size;          /* of `word` in bytes */
	enum startup_err err; /* why the walk ended, STARTUP_OK at the end of the text */
};

/*
 * Begins a walk. `word` must have at least options.n bytes, for a text that
 * may be one single word, and live as long as the slices that the walk gives.
 */
void startup_options_init(struct startup_options *it, struct slice options, char *word, size_t size);

/*
 * Gives the next setting, written -c name=value, -cname=value or
 * --name=value, with backslash escapes resolved; name and value are valid
 * until the next call. False at the end, or with err set to
 * STARTUP_E_OPTION_SYNTAX for anything else.
 */
bool startup_options_next(struct startup_options *it, struct slice *name, struct slice *value);

#endif
