/*
 * What the parts of a client's login share: login_turn.c (when it begins),
 * login.c (the connection, from its first byte to its end), login_auth.c (who
 * it is), login_rules.c (what it has to show for that), login_job.c and
 * login_names.c (what others are asked) and login_place.c (where it goes then).
 * All of it runs on the login's own loop.
 */
#ifndef PGSLUICE_POOL_LOGIN_INT_H
#define PGSLUICE_POOL_LOGIN_INT_H

#include "auth/auth.h"
#include "auth/hba.h"
#include "core/log.h"
#include "core/reason_tbl.h"
#include "net/sock.h"
#include "net/stream.h"
#include "pool/auth_query.h"
#include "pool/engine.h"
#include "pool/login.h"
#include "pool/prelogin.h"
#include "pool/registry.h"
#include "pool/replication.h"
#include "pool/report.h"
#include "proto/startup.h"

#define LOGIN_IN_MAX  (LOOP_SCRATCH_SIZE - 1)
#define LOGIN_OUT_MAX (STARTUP_MAX + 1024) /* every name of a startup packet may come back */

enum login_stage {
	LOGIN_STARTUP,
	LOGIN_TLS, /* the handshake is under way; then LOGIN_STARTUP again */
	LOGIN_AUTH,
	LOGIN_LOOKUP, /* somebody else was asked; nothing is read until the answer is there */
	LOGIN_OVER,   /* freed at the end of this turn */
};

/* What a console session may do. */
enum console_rights {
	CONSOLE_NONE, /* not a console session */
	CONSOLE_STATS,
	CONSOLE_ADMIN,
	CONSOLE_REFUSED, /* nothing, which it is told once it is known who it is */
};

struct login;

/*
 * A question to somebody else on behalf of a login: a part of whatever carries
 * it there and back. The answer comes to the login's own loop; by then the
 * login may be over.
 */
struct login_lookup {
	struct login *login;                          /* NULL: it is over, nobody waits for the answer */
	void (*on_gone)(struct login_lookup *lookup); /* or NULL: called when that happens */
};

struct login_rules;

struct login {
	TAILQ_ENTRY(login) entry;   /* in ctx->logins */
	struct prelogin_entry turn; /* in the budgets of its source */
	struct loop_ctx *ctx;
	struct snapshot *snap; /* in force when the startup packet came */
	struct stream stream;
	struct loop_task task;
	enum login_stage stage;
	enum console_rights console;
	bool is_unix;
	bool is_begun;        /* some of it was read: too late to begin with a handshake */
	bool has_long_key;    /* the client speaks protocol 3.2 */
	bool is_asked;        /* auth_query was asked about the user */
	bool is_costly;       /* it goes on with a new answer of that, which may mean to derive a verifier */
	bool is_counted_db;   /* in db->clients */
	bool is_counted_user; /* in account->clients */
	bool is_named;        /* the log shows who it is: the limits on the way there are behind it */
	bool is_over_limit;   /* it is refused for one of those */
	struct sock_peer peer;
	uint64_t id;
	uint64_t connect_us;
	struct auth *auth;
	struct ldap_options *ldap;   /* of the method ldap; the snapshot's */
	const struct hba_pam *pam;   /* of the method pam by a rule, or NULL; the snapshot's */
	struct login_rules *rules;   /* while rules decide about the method; see login_rules.h */
	struct login_lookup *lookup; /* under way, in LOGIN_LOOKUP */
	const uint8_t *pending; /* what the client sent behind the message at hand; valid while that is worked off */
	size_t pending_len;
	struct db *db;           /* held; NULL: unknown, or the console */
	struct account *account; /* held; NULL: unknown */
	struct varset *vars;
	struct auth_answer *found;       /* of auth_query; NULL: it was not asked, or knows nobody */
	char *typed;                     /* the name that was asked for, while there is `found` */
	struct replication *replication; /* NULL: an ordinary client */
	char user[STARTUP_USER_MAX + 1];
	char database[64];
};

/* ---- login_turn.c: when it begins ---- */

/* A new one: it begins, now or when it is its turn, or somebody's is closed for lack of room, perhaps its own. */
void login_turn_enter(struct login *login);

/* Where a TCP client comes from, as far as budgets go by it; *is_local: from this machine. */
uint64_t login_turn_source(const struct login *login, bool *is_local);

/* It is over: its place is somebody else's. */
void login_turn_leave(struct login *login);

/* One more client may log in (max_client_conn); logins that count for the budgets do not count for that as well. */
bool login_turn_has_room(const struct login *login);

/* ---- login.c: the connection ---- */

/* Reads the first bytes. */
void login_begin(struct login *login);

/* Who it is, for the log. */
void login_describe(const struct login *login, struct log_about *about);

/* The database that it asks for is the console. */
bool login_is_for_console(const struct login *login);

/* Ends the login; the descriptor is closed unless it was taken. Counts stay with whoever took them over. */
void login_over(struct login *login);

/* Ends a login that leads nowhere, without a word. */
void login_drop(struct login *login);

/* Tells the client why, and ends the login. */
void login_tell(struct login *login, const struct report *report);

/* Tells the client and the log why, and ends the login. */
void login_fail(struct login *login, const struct report *report);
void login_fail_reason(struct login *login, enum reason reason);
/* The same; `limit` is the one that is exceeded, or 0. */
void login_fail_limit(struct login *login, enum reason reason, unsigned limit);

/* Sends what was built with the result `err`, and gives the buffer back; false when the login has ended. */
bool login_send(struct login *login, struct buf *b, int err);

/* From now on the login waits for an answer: it reads nothing. */
void login_lookup_begin(struct login *login, struct login_lookup *lookup);

/*
 * The answer is there: the login that goes on, or NULL when it is over. What
 * the client has sent meanwhile is in login->pending until the caller calls
 * login_lookup_end(), after which the login may be over.
 */
struct login *login_lookup_answered(struct login_lookup *lookup) MUSTCHECK;
void login_lookup_end(struct login *login);

/* ---- login_auth.c: who it is ---- */

/* The startup packet was taken: user and database have names. */
void login_auth_begin(struct login *login);

/* How a client has to show who it is. */
struct login_method {
	enum auth_method method;
	const char *denied;        /* cert, peer, reject: why it is not the user, or not let in, for the log; or NULL */
	struct ldap_options *ldap; /* of a rule with ldap; NULL: auth_ldap_options */
	const struct hba_pam *pam; /* of a rule with pam; NULL: what auth_pam_service says */
};

/* The exchange begins; `user` is NULL when the name is unknown. The strings of `how` live as long as the login. */
void login_exchange(struct login *login, const struct user *user, const struct login_method *how);

/* An answer of the client in the exchange. */
void login_auth_step(struct login *login, const uint8_t *payload, size_t n);

/*
 * What those say who were asked by login_job_begin(); `detail` tells the log
 * why the password is not right. The login may be over then.
 */
void login_auth_answer(struct login *login, bool is_right, const char *detail);

/* Counts the client under its database and its user, where it is not yet; false when the login has ended. */
bool login_count_all(struct login *login);

/* ---- login_rules.c: what it has to show ---- */

/* Nulls the pointer; NULL inside is fine. */
void login_rules_free(struct login_rules **rules);
/* ---- login_job.c: passwords that others judge ---- */

/*
 * Has the client's password checked by an LDAP server or by PAM, whichever the
 * method is; login_auth_answer() follows. The login is over when there is no
 * room for the question.
 */
void login_job_begin(struct login *login);

/* Says whose job it is, so that one address does not have all of a queue; who is on this machine may. */
void login_set_source(const struct login *login, struct job *job);

/* ---- login_place.c: where it goes ---- */

/* The client is who it says: it goes to its worker or to the console. */
void login_place(struct login *login);

#endif
