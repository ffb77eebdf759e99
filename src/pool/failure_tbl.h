/*
 * What the end of a server means, and which failures count for the breakers of
 * an endpoint. What is in neither table does not: errors of SQL, of one user or one database (28P01, 28000,
 * 3D000, 42501 ...), of our own configuration, and whatever is about our own
 * queue. doc/resilience.md shows the second table to people.
 */
#ifndef PGSLUICE_POOL_FAILURE_TBL_H
#define PGSLUICE_POOL_FAILURE_TBL_H

/* What else such an end means: flags of FAILURE_REASON_TABLE. */
enum failure_flag {
	FAILURE_F_LOSS = 1,    /* the server was lost: its client may go on without it, see survive.c */
	FAILURE_F_SYMPTOM = 2, /* a reason to look whether its host is still there */
	FAILURE_F_PLACE = 4,   /* the login had not come to anything that a client has a part in */
	FAILURE_F_OURS = 8,    /* the pooler has ended the login for reasons of its own: it has not failed */
};

/* clang-format off */

/*
 * Why a server was closed: the class that this counts for before it was
 * connected, before it was logged in, and while a query ran; what else it means.
 */
#define FAILURE_REASON_TABLE(X) \
	X(REASON_DNS_FAILED,       CONNECT, NONE,     NONE,     FAILURE_F_SYMPTOM | FAILURE_F_PLACE) \
	X(REASON_CONNECT_FAILED,   CONNECT, NONE,     NONE,     FAILURE_F_SYMPTOM | FAILURE_F_PLACE) \
	X(REASON_CONNECT_TIMEOUT,  CONNECT, OVERLOAD, NONE,     FAILURE_F_SYMPTOM | FAILURE_F_PLACE) \
	X(REASON_CANNOT_CONNECT,   NONE,    NONE,     NONE,     FAILURE_F_PLACE) \
	X(REASON_SSL_ANSWER,       NONE,    LOGIN,    NONE,     0) \
	X(REASON_SERVER_CRASH,     NONE,    LOGIN,    PROTOCOL, FAILURE_F_SYMPTOM | FAILURE_F_LOSS) \
	X(REASON_SERVER_SEND,      NONE,    LOGIN,    PROTOCOL, FAILURE_F_SYMPTOM | FAILURE_F_LOSS) \
	X(REASON_SERVER_PKT,       NONE,    LOGIN,    PROTOCOL, FAILURE_F_SYMPTOM | FAILURE_F_LOSS) \
	X(REASON_SERVER_HEADER,    NONE,    LOGIN,    PROTOCOL, FAILURE_F_SYMPTOM | FAILURE_F_LOSS) \
	X(REASON_BROKEN_PARAMETER, NONE,    LOGIN,    PROTOCOL, FAILURE_F_LOSS) \
	X(REASON_UNKNOWN_PKT,      NONE,    NONE,     NONE,     FAILURE_F_LOSS) \
	X(REASON_CUT_OFF,          NONE,    NONE,     NONE,     FAILURE_F_LOSS) \
	X(REASON_FENCED,           NONE,    NONE,     NONE,     FAILURE_F_LOSS) \
	X(REASON_CLOSE_NEEDED,     NONE,    NONE,     NONE,     FAILURE_F_LOSS) \
	X(REASON_OBSOLETE,         NONE,    NONE,     NONE,     FAILURE_F_LOSS) \
	X(REASON_DOUBT,            NONE,    NONE,     NONE,     FAILURE_F_LOSS) \
	X(REASON_QUERY_TIMEOUT,    NONE,    NONE,     NONE,     FAILURE_F_LOSS) \
	X(REASON_CONFIG_CHANGED,   NONE,    NONE,     NONE,     FAILURE_F_LOSS | FAILURE_F_OURS) \
	X(REASON_PAUSE,            NONE,    NONE,     NONE,     FAILURE_F_OURS) \
	X(REASON_SUSPEND_UNSAFE,   NONE,    NONE,     NONE,     FAILURE_F_OURS) \
	X(REASON_DB_REMOVED,       NONE,    NONE,     NONE,     FAILURE_F_OURS) \
	X(REASON_FAST_EXIT,        NONE,    NONE,     NONE,     FAILURE_F_OURS) \
	X(REASON_WRONG_ROLE,       NONE,    NONE,     NONE,     FAILURE_F_OURS)

/*
 * The state of the error with which a server has refused a login or ended a
 * session, before the reason of its close is looked at: a pattern, where a ?
 * stands for any letter or digit; the class at a login, and while a query ran;
 * whether a session that is told of it has a reason to look for the primary.
 * The first row that fits counts, and a state that is not here does not.
 */
#define FAILURE_STATE_TABLE(X) \
	X("25006", NONE,     NONE,     true,  "the server takes no writes") \
	X("53???", OVERLOAD, NONE,     false, "too many connections, no memory, disk full") \
	X("57P01", LOGIN,    NONE,     true,  "shut down; a single session may be ended like this, too") \
	X("57P02", LOGIN,    PROTOCOL, true,  "another process of the server has crashed") \
	X("57P03", OVERLOAD, NONE,     true,  "starting up, shutting down, or recovering")

/* clang-format on */

#endif
