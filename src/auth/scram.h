/*
 * SCRAM-SHA-256 (RFC 5802, RFC 7677) in the dialect of PostgreSQL, as pure
 * steps: bytes in, bytes out. Both sides are here: the server side faces our
 * clients, the client side faces PostgreSQL.
 *
 *   client side                                   server side
 *   scram_client_first()  --- client-first -->    scram_server_first()
 *   scram_client_final()  <-- server-first ---
 *                         --- client-final -->    scram_server_final()
 *   scram_client_verify() <-- server-final ---
 *
 * Either side can bind the exchange to the TLS connection that it runs in
 * (SCRAM-SHA-256-PLUS, RFC 5929 tls-server-end-point): what both sign then
 * contains a hash of the server's certificate as each of them sees it, so that
 * nobody who ends the TLS in between with another certificate can pass the
 * messages on. The user name inside the exchange is ignored, as in PostgreSQL.
 * Objects belong to one thread.
 */
#ifndef PGSLUICE_AUTH_SCRAM_H
#define PGSLUICE_AUTH_SCRAM_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

#define SCRAM_MECHANISM      "SCRAM-SHA-256"
#define SCRAM_MECHANISM_PLUS "SCRAM-SHA-256-PLUS"
#define SCRAM_END_POINT_MAX  64 /* bytes of a hash of a certificate */
#define SCRAM_KEY_LEN        32
#define SCRAM_SALT_LEN       16   /* bytes of a salt that we make */
#define SCRAM_SALT_MAX       1024 /* bytes of a salt that we accept */
#define SCRAM_NONCE_LEN      18   /* random bytes of a nonce that we make */
#define SCRAM_MESSAGE_MAX    1024 /* bytes of a message from a client; PostgreSQL has the same bound */
#define SCRAM_SERVER_MAX     4096 /* bytes of a message from a server */
#define SCRAM_ITERATIONS     4096 /* default count for verifiers that we make */
/*
 * The iterations that a server may ask of us, and that a stored verifier may
 * have for a password in clear text. The sender's word decides how long a
 * thread computes, and with it all whom it serves: a million are some tenths of
 * a second.
 */
#define SCRAM_ITERATIONS_MAX 1000000

/* What a server keeps instead of the password. One allocation; the salt is at its end. */
struct scram_verifier {
	uint32_t iterations;               /* 1 to INT32_MAX */
	uint32_t salt_len;                 /* 1 to SCRAM_SALT_MAX */
	uint8_t stored_key[SCRAM_KEY_LEN]; /* SHA-256 of ClientKey */
	uint8_t server_key[SCRAM_KEY_LEN];
	uint8_t salt[];
};

/* What logs in to any server that holds the identical verifier. */
struct scram_keys {
	uint8_t client_key[SCRAM_KEY_LEN];
	uint8_t server_key[SCRAM_KEY_LEN];
};

/*
 * Parses SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, all of it
 * base64. Returns a fresh verifier, or NULL when the text is anything else.
 */
struct scram_verifier *scram_verifier_parse(struct slice text) MUSTCHECK;

/*
 * Computes the verifier of a password; costs `iterations` hashes. A NULL salt
 * means a random one of SCRAM_SALT_LEN bytes. The password is brought to its
 * normal form first, if it has one (saslprep.h). Returns 0 or -E_SYS.
 */
int scram_verifier_derive(struct slice password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
			  struct scram_verifier **out) MUSTCHECK;

/*
 * How verifiers of passwords are made for the exchanges with our clients. The
 * salt of a name follows from the name and the key, for one that is a user as
 * for one that is not: a salt that changes for some names when the process
 * starts anew, and not for others, would tell them apart.
 */
struct scram_recipe {
	uint8_t salt_key[SCRAM_KEY_LEN]; /* secret */
	uint32_t iterations;
};

/* The salt of that name; 0 or -E_SYS. */
int scram_recipe_salt(const struct scram_recipe *recipe, const char *user_name, uint8_t salt[SCRAM_SALT_LEN]) MUSTCHECK;

/* A copy. */
struct scram_verifier *scram_verifier_dup(const struct scram_verifier *v) MUSTCHECK;

/*
 * Wipes, frees and nulls; NULL inside is fine.
 */
void scram_verifier_free(struct scram_verifier **v);

/*
 * Whether a password in clear text is the verifier's. Costs its iterations;
 * counts above SCRAM_ITERATIONS_MAX never match.
 */
bool scram_verifier_matches(const struct scram_verifier *v, struct slice password);

/* What a client says about channel binding. */
enum scram_flag {
	SCRAM_FLAG_NONE,  /* "n": it cannot */
	SCRAM_FLAG_COULD, /* "y": it could, but believes that the server cannot */
	SCRAM_FLAG_BOUND, /* "p=tls-server-end-point": it does; only under SCRAM_MECHANISM_PLUS */
};

struct scram_server;

/*
 * The server's side against a verifier (copied). `nonce` is our part of the
 * nonce, for tests; NULL means a random one. NULL when there is no randomness.
 */
struct scram_server *scram_server_new(const struct scram_verifier *v, const char *nonce) MUSTCHECK;

/*
 * The server's side for a name that cannot log in: it looks and costs like any
 * other whose verifier is there, and fails at the end. Its salt is that of the
 * recipe.
 */
struct scram_server *scram_server_new_mock(const char *user_name, const struct scram_recipe *recipe) MUSTCHECK;

/* Wipes, frees and nulls. */
void scram_server_free(struct scram_server **s);

/*
 * Tells that the client came by TLS and that SCRAM_MECHANISM_PLUS is offered to
 * it: `end_point` is the hash of our certificate, 1 to SCRAM_END_POINT_MAX
 * bytes, and copied. Before scram_server_first(), if at all.
 */
void scram_server_bind(struct scram_server *s, struct slice end_point);

/*
 * Takes the client-first message, gives the server-first message. `is_plus`:
 * the client has chosen SCRAM_MECHANISM_PLUS, which needs scram_server_bind().
 * *out points into the object and lives until the next call. 0; -E_PROTO for a
 * malformed message and one whose flag does not suit the mechanism, such as
 * "y" after PLUS was offered, which means that somebody removed the offer;
 * -E_UNSUPPORTED when the client insists on a channel binding that there is not.
 */
int scram_server_first(struct scram_server *s, bool is_plus, struct slice in, struct slice *out) MUSTCHECK;

/*
 * Takes the client-final message, gives the server-final message. 0; -E_PROTO
 * for a malformed message or one that is bound to another channel; -E_AUTH for
 * a wrong proof or a mock.
 */
int scram_server_final(struct scram_server *s, struct slice in, struct slice *out) MUSTCHECK;

/* What was wrong with the message that failed with -E_PROTO or -E_UNSUPPORTED, for the log; a constant. */
const char *scram_server_fault(const struct scram_server *s);

/* The keys that the client proved to have; NULL before scram_server_final() succeeded. */
const struct scram_keys *scram_server_keys(const struct scram_server *s);

struct scram_client;

/*
 * The client's side. Exactly one of password (a slice with a pointer) and
 * `keys` is given; both are copied. `name` goes into the exchange, "" for
 * PostgreSQL, without ',' and '='. `nonce` is for tests, NULL for a random one.
 * NULL when there is no randomness.
 */
struct scram_client *scram_client_new(const char *name, struct slice password, const struct scram_keys *keys,
				      const char *nonce) MUSTCHECK;

/* Wipes, frees and nulls. */
void scram_client_free(struct scram_client **c);

/*
 * What to say about channel binding; SCRAM_FLAG_NONE when this is not called.
 * `end_point`, for SCRAM_FLAG_BOUND, is the hash of the server's certificate, 1
 * to SCRAM_END_POINT_MAX bytes, and copied. Before scram_client_first().
 */
void scram_client_bind(struct scram_client *c, enum scram_flag flag, struct slice end_point);

/* Gives the client-first message. *out points into the object and lives until the next call. */
void scram_client_first(struct scram_client *c, struct slice *out);

/*
 * After scram_client_first(): takes the server-first message, gives the
 * client-final message; with a password it costs the server's iterations. 0; -E_PROTO for a malformed
 * message; -E_RANGE for more than SCRAM_ITERATIONS_MAX; -E_SYS.
 */
int scram_client_final(struct scram_client *c, struct slice in, struct slice *out) MUSTCHECK;

/*
 * Takes the server-final message: 0 when the server proved that it knows the
 * verifier; -E_AUTH for a wrong signature; -E_PROTO for a malformed message.
 */
int scram_client_verify(struct scram_client *c, struct slice in) MUSTCHECK;

/* What was wrong with the message that failed with -E_PROTO, for the log; a constant. */
const char *scram_client_fault(const struct scram_client *c);

#endif
