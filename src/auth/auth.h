/*
 * Authentication as a driver of pure steps. The login code gives the payload
 * of each message and sends what comes back; nothing here knows a socket, a
 * clock or the framing of messages.
 *
 *   struct auth *a = auth_new(&setup);
 *   verdict = auth_step(a, NULL, 0, &out);              // starts
 *   while (verdict == AUTH_MORE) {
 *           send Authentication(out.request, out.body);
 *           verdict = auth_step(a, payload of 'p', its length, &out);
 *   }
 *   if (verdict == AUTH_JOB)
 *           verdict = auth_answer(a, whether auth_plain_password(a) is right, why not, &out);
 *   AUTH_DONE: send Authentication(out.request, out.body) unless it is
 *              AUTH_REQ_OK; AuthenticationOk follows when the pool is ready
 *   AUTH_FAIL: send auth_reason_text(out.reason), log out.detail
 */
#ifndef PGSLUICE_AUTH_AUTH_H
#define PGSLUICE_AUTH_AUTH_H

#include "auth/scram.h"
#include "auth/secret.h"
#include "auth/users.h"
#include "core/base.h"
#include "core/err.h"

/*
 * Longest payload that auth_step() looks at: the longest password and its NUL.
 * The reader of messages need not gather more.
 */
#define AUTH_PAYLOAD_MAX (SECRET_MAX + 1)

/* id, value of auth_type; "reject" is for rules only */
#define AUTH_METHOD_TABLE(X)                  \
	X(AUTH_METHOD_ANY, "any")             \
	X(AUTH_METHOD_TRUST, "trust")         \
	X(AUTH_METHOD_PLAIN, "plain")         \
	X(AUTH_METHOD_MD5, "md5")             \
	X(AUTH_METHOD_SCRAM, "scram-sha-256") \
	X(AUTH_METHOD_CERT, "cert")           \
	X(AUTH_METHOD_PEER, "peer")           \
	X(AUTH_METHOD_REJECT, "reject")       \
	X(AUTH_METHOD_LDAP, "ldap")           \
	X(AUTH_METHOD_PAM, "pam")

enum auth_method {
#define X(id, name) id,
	AUTH_METHOD_TABLE(X)
#undef X
		AUTH_METHOD_COUNT
};

/* Value of auth_type for a method. */
const char *auth_method_name(enum auth_method method);

/* The method for a value of auth_type: 0, or -E_NOENT for a name that is none. */
int auth_method_parse(const char *name, enum auth_method *out) MUSTCHECK;

/* id, SQLSTATE in the strict style (the other style is always 08P01), text for the client */
#define AUTH_REASON_TABLE(X)                                               \
	X(AUTH_REASON_NONE, "00000", "")                                   \
	X(AUTH_REASON_PASSWORD, "28P01", "password authentication failed") \
	X(AUTH_REASON_SASL, "28P01", "SASL authentication failed")         \
	X(AUTH_REASON_TRUST, "28000", "\"trust\" authentication failed")   \
	X(AUTH_REASON_CERT, "28000", "certificate authentication failed")  \
	X(AUTH_REASON_PEER, "28000", "unix socket login rejected")         \
	X(AUTH_REASON_REJECT, "28000", "login rejected")                   \
	X(AUTH_REASON_LDAP, "28000", "LDAP authentication failed")         \
	X(AUTH_REASON_PAM, "28000", "PAM authentication failed")           \
	X(AUTH_REASON_EMPTY, "28P01", "empty password returned by client") \
	X(AUTH_REASON_MECHANISM, "08P01", "client selected an invalid SASL authentication mechanism")

enum auth_reason {
#define X(id, sqlstate, text) id,
	AUTH_REASON_TABLE(X)
#undef X
		AUTH_REASON_COUNT
};

/* What the client is told, and with which SQLSTATE; constant. */
const char *auth_reason_text(enum auth_reason reason);
const char *auth_reason_sqlstate(enum auth_reason reason);

/* Codes of the Authentication messages ('R') that this layer knows. */
enum auth_request {
	AUTH_REQ_OK = 0,
	AUTH_REQ_PASSWORD = 3,
	AUTH_REQ_MD5 = 5,
	AUTH_REQ_SASL = 10,
	AUTH_REQ_SASL_CONTINUE = 11,
	AUTH_REQ_SASL_FINAL = 12,
};

enum auth_verdict {
	AUTH_MORE, /* send the request, then give the client's answer */
	AUTH_JOB,  /* ask somebody else whether auth_plain_password() is right, then call auth_answer() */
	AUTH_DONE, /* the client is who it says */
	AUTH_FAIL,
};

struct auth_out {
	uint32_t request;        /* enum auth_request to send; AUTH_REQ_OK: nothing to send */
	const uint8_t *body;     /* what follows the code; lives until the next step */
	size_t body_len;         /* bytes of body */
	enum auth_reason reason; /* of an AUTH_FAIL */
	const char *detail;      /* why, for the log, never for the client; "" when there is no more to say */
};

struct auth;

/* What is known of a login before its exchange begins; auth_new() copies what it needs. */
struct auth_setup {
	enum auth_method method;
	const char *user_name;
	const struct user *user;    /* NULL: the name is unknown; the exchange runs like any other and fails */
	struct scram_recipe recipe; /* for verifiers that are derived */
	/*
	 * Others with that exchange derive a verifier in auth_new() just now: this one takes as long, though it need
	 * not.
	 */
	bool is_costly;
	const char *denied;   /* cert, peer, reject: why the client is not let in, or NULL; not copied */
	struct slice binding; /* what a client that came by TLS may bind to: tls-server-end-point; empty: nothing */
};

/*
 * A login of a client. With AUTH_METHOD_ANY the caller must have checked that
 * the database has a forced user. SCRAM for a user with a plaintext secret
 * whose verifier is not there yet costs a derivation here.
 */
struct auth *auth_new(const struct auth_setup *setup) MUSTCHECK;

/*
 * The longest payload that can be right in the next step: there is no need to
 * gather more, and the step may be given nothing at all in the place of one that
 * is longer, which fails in the same way. At most AUTH_PAYLOAD_MAX.
 */
size_t auth_payload_max(const struct auth *a);

/*
 * One step. The first call has n = 0; each later one has the whole payload of
 * a PasswordMessage, SASLInitialResponse or SASLResponse (they share the type
 * 'p'; the state says which it is). Must not be called after AUTH_JOB,
 * AUTH_DONE or AUTH_FAIL.
 */
enum auth_verdict auth_step(struct auth *a, const uint8_t *payload, size_t n, struct auth_out *out) MUSTCHECK;

/*
 * After AUTH_JOB: what those say who were asked. `detail` (for the log; it must
 * live as long as `out`) tells why the password is not right. The result is
 * AUTH_DONE or AUTH_FAIL.
 */
enum auth_verdict auth_answer(struct auth *a, bool is_right, const char *detail, struct auth_out *out) MUSTCHECK;

/* True for the methods that have the password judged by others (AUTH_JOB), who know users of their own. */
bool auth_is_foreign(const struct auth *a);

/* The method of a login, which is not always the one that was asked for: md5 becomes SCRAM for some users. */
enum auth_method auth_method_of(const struct auth *a);

/*
 * After AUTH_DONE: the keys that log in to servers with the identical
 * verifier, when a SCRAM exchange ran against a stored verifier; else NULL.
 * They belong to the presented identity: use them only for a pool whose user
 * that is.
 */
const struct scram_keys *auth_scram_keys(const struct auth *a);

/* After AUTH_JOB or AUTH_DONE: the password that the client sent in clear text, or NULL. */
const char *auth_plain_password(const struct auth *a);

/* Wipes, frees and nulls; NULL inside is fine. */
void auth_free(struct auth **a);

/* id, text for the client that waits and for the log */
#define AUTH_SERVER_ERROR_TABLE(X)                                                                  \
	X(AUTH_SERVER_NONE, "")                                                                     \
	X(AUTH_SERVER_UNSUPPORTED, "failed to answer authreq")                                      \
	X(AUTH_SERVER_PASSWORD_TYPE, "server login failed: wrong password type")                    \
	X(AUTH_SERVER_MECHANISM,                                                                    \
	  "server login failed: none of the server's SASL authentication mechanisms are supported") \
	X(AUTH_SERVER_UNVERIFIED, "server login failed: failed to verify server signature")         \
	X(AUTH_SERVER_SIGNATURE, "server login failed: invalid server signature")

enum auth_server_error {
#define X(id, text) id,
	AUTH_SERVER_ERROR_TABLE(X)
#undef X
		AUTH_SERVER_ERROR_COUNT
};

const char *auth_server_error_text(enum auth_server_error error);

/* What to send to a server; all of them are messages of type 'p'. */
enum auth_send {
	AUTH_SEND_NONE,
	AUTH_SEND_PASSWORD,     /* PasswordMessage: data is the string with its NUL */
	AUTH_SEND_SASL_INITIAL, /* SASLInitialResponse: mechanism, int32 length, data */
	AUTH_SEND_SASL,         /* SASLResponse: data */
};

struct auth_server_out {
	enum auth_send send;
	const char *mechanism; /* of AUTH_SEND_SASL_INITIAL */
	const uint8_t *data;   /* lives until the next step */
	size_t data_len;
	bool done;                    /* AuthenticationOk was taken: logged in */
	enum auth_server_error error; /* when the step fails */
	const char *detail;           /* more about it for the log; "" when there is no more to say */
};

struct auth_server;

/* What is known before our login to a server; auth_server_new() copies what it needs. */
struct auth_server_setup {
	const char *user_name;
	const struct secret *secret;   /* NULL: none known, treated as the empty password */
	const struct scram_keys *keys; /* may be NULL; count only for a secret that is a SCRAM verifier or NULL */
	struct slice binding;          /* tls-server-end-point of the server's certificate; empty: there is none */
	bool is_tls;                   /* the connection is encrypted */
	/*
	 * A server that offers SCRAM_MECHANISM_PLUS although the connection is in plain text believes that it has TLS:
	 * somebody ends it in between. PgBouncer does not look at that, so there are places where it is meant to be.
	 */
	bool ignores_stripped_tls;
};

/* Our login to a server. */
struct auth_server *auth_server_new(const struct auth_server_setup *setup) MUSTCHECK;

/*
 * Takes one Authentication message of the server: its code and what follows.
 * 0, or -E_AUTH with out->error and out->detail, and the connection must be
 * closed. Must not be called again after a failure or after out->done.
 */
int auth_server_step(struct auth_server *as, uint32_t code, const uint8_t *body, size_t n,
		     struct auth_server_out *out) MUSTCHECK;

/* Wipes, frees and nulls; NULL inside is fine. */
void auth_server_free(struct auth_server **as);

#endif
