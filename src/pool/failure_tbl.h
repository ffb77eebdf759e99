/*
 * Which failures count for the breakers of an endpoint. What is in neither
 * table does not: errors of SQL, of one user or one database (28P01, 28000,
 * 3D000, 42501 ...), of our own configuration, and whatever is about our own
 * queue. doc/resilience.md shows the second table to people.
 */
#ifndef PGSLUICE_POOL_FAILURE_TBL_H
#define PGSLUICE_POOL_FAILURE_TBL_H

/* clang-format off */

/*
 * Why a server was closed, and the class that this counts for: before it was
 * connected, before it was logged in, and while a query ran.
 */
#define FAILURE_REASON_TABLE(X) \
	X(REASON_DNS_FAILED,       FAILURE_CONNECT, FAILURE_NONE,     FAILURE_NONE) \
	X(REASON_CONNECT_FAILED,   FAILURE_CONNECT, FAILURE_NONE,     FAILURE_NONE) \
	X(REASON_CONNECT_TIMEOUT,  FAILURE_CONNECT, FAILURE_OVERLOAD, FAILURE_NONE) \
	X(REASON_SSL_ANSWER,       FAILURE_NONE,    FAILURE_LOGIN,    FAILURE_NONE) \
	X(REASON_SERVER_CRASH,     FAILURE_NONE,    FAILURE_LOGIN,    FAILURE_PROTOCOL) \
	X(REASON_SERVER_SEND,      FAILURE_NONE,    FAILURE_LOGIN,    FAILURE_PROTOCOL) \
	X(REASON_SERVER_PKT,       FAILURE_NONE,    FAILURE_LOGIN,    FAILURE_PROTOCOL) \
	X(REASON_SERVER_HEADER,    FAILURE_NONE,    FAILURE_LOGIN,    FAILURE_PROTOCOL) \
	X(REASON_BROKEN_PARAMETER, FAILURE_NONE,    FAILURE_LOGIN,    FAILURE_PROTOCOL)

/*
 * The state of the error with which a server has refused a login or ended a
 * session, before the reason of its close is looked at: a pattern, where a ?
 * stands for any letter or digit; the class at a login, and while a query ran.
 * The first row that fits counts, and a state that is not here does not.
 */
#define FAILURE_STATE_TABLE(X) \
	X("53???", FAILURE_OVERLOAD, FAILURE_NONE,     "too many connections, no memory, disk full") \
	X("57P01", FAILURE_LOGIN,    FAILURE_NONE,     "shut down; a single session may be ended like this, too") \
	X("57P02", FAILURE_LOGIN,    FAILURE_PROTOCOL, "another process of the server has crashed") \
	X("57P03", FAILURE_OVERLOAD, FAILURE_NONE,     "starting up, shutting down, or recovering")

/* clang-format on */

#endif
