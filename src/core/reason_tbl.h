/*
 * Why a connection is closed, or a client told an error: one row each. Every
 * close passes a row; the log line, the text for the client and the SQLSTATE
 * come from it.
 *
 * X(id, text, sqlstate): the text is PgBouncer's, to the letter; the sqlstate
 * is what PostgreSQL would use, for error_style = postgres (under PgBouncer's
 * style it is always 08P01).
 */
#ifndef PGSLUICE_CORE_REASON_TBL_H
#define PGSLUICE_CORE_REASON_TBL_H

#include "core/base.h"

#define REASON_TABLE(X)                                                                                        \
	/* the client's side */                                                                                \
	X(REASON_NONE, "", "00000")                                                                            \
	X(REASON_CLIENT_CLOSE, "client close request", "00000")                                                \
	X(REASON_CLIENT_EOF, "client unexpected eof", "08006")                                                 \
	X(REASON_CLIENT_IO, "unexpected eof", "08006")                                                         \
	X(REASON_BAD_HEADER, "bad packet header", "08P01")                                                     \
	X(REASON_BAD_PACKET, "bad packet", "08P01")                                                            \
	X(REASON_UNKNOWN_PKT, "unknown pkt", "08P01")                                                          \
	X(REASON_PQEXEC, "PQexec disallowed", "0A000")                                                         \
	X(REASON_OOM, "out of memory", "53200")                                                                \
	X(REASON_RESOURCES, "bouncer resources exhaustion", "53000")                                           \
	X(REASON_CONFIG, "bouncer config error", "F0000")                                                      \
	X(REASON_LOGIN_TIMEOUT, "client_login_timeout", "08P01")                                               \
	X(REASON_LOGIN_TIMEOUT_DOWN, "client_login_timeout (server down)", "57P03")                            \
	X(REASON_MAX_CLIENT_CONN, "no more connections allowed (max_client_conn)", "53300")                    \
	X(REASON_MAX_DB_CLIENTS, "client connections exceeded (max_db_client_connections)", "53300")           \
	X(REASON_MAX_USER_CLIENTS, "client connections exceeded (max_user_client_connections)", "53300")       \
	X(REASON_NOT_ALLOWED, "not allowed", "42501")                                                          \
	X(REASON_SHUTDOWN, "pooler is shutting down", "57P01")                                                 \
	X(REASON_SERVER_SHUTDOWN, "server shutting down", "57P01")                                             \
	X(REASON_QUERY_WAIT_TIMEOUT, "query_wait_timeout", "57014")                                            \
	X(REASON_QUERY_TIMEOUT_QUEUE, "query_timeout", "57014")                                                \
	X(REASON_CLIENT_IDLE_TIMEOUT, "client_idle_timeout", "57P05")                                          \
	X(REASON_DB_REMOVED, "database removed", "57P01")                                                      \
	X(REASON_KILLED, "admin forced disconnect", "57P01")                                                   \
	X(REASON_FAST_EXIT, "pooler exits", "57P01")                                                           \
	X(REASON_SUSPEND_TIMEOUT, "suspend_timeout", "57P01")                                                  \
	/* the server's side; also told to the linked client */                                                \
	X(REASON_SERVER_CRASH, "server conn crashed?", "08006")                                                \
	X(REASON_SERVER_SEND, "server connection closed", "08006")                                             \
	X(REASON_CONNECT_STRING, "connect string changed", "57P01")                                            \
	X(REASON_CONNECT_FAILED, "connect failed", "08001")                                                    \
	X(REASON_CONNECT_TIMEOUT, "connect timeout", "08001")                                                  \
	X(REASON_CANNOT_CONNECT, "cannot connect", "08001")                                                    \
	X(REASON_DNS_FAILED, "server DNS lookup failed", "08001")                                              \
	X(REASON_LOGIN_FAILED, "login failed", "08001")                                                        \
	X(REASON_AUTHREQ, "failed to answer authreq", "08001")                                                 \
	X(REASON_CONNECT_QUERY, "exec_on_connect query failed", "08001")                                       \
	X(REASON_QUERY_TIMEOUT, "query timeout", "57014")                                                      \
	X(REASON_IDLE_TX_TIMEOUT, "idle transaction timeout", "25P03")                                         \
	X(REASON_TX_TIMEOUT, "transaction timeout", "25P04")                                                   \
	X(REASON_STATEMENT_MODE, "transaction blocks not allowed in statement pooling mode", "0A000")          \
	X(REASON_SERVER_PARAMETER, "invalid server parameter", "22023")                                        \
	X(REASON_SERVER_PKT, "unknown pkt from server", "08P01")                                               \
	X(REASON_SERVER_HEADER, "bad pkt header", "08P01")                                                     \
	X(REASON_BROKEN_PARAMETER, "broken ParameterStatus packet", "08P01")                                   \
	X(REASON_CLIENT_GONE_NOT_READY, "client disconnect while server was not ready", "08006")               \
	X(REASON_CLIENT_GONE_UNSENT, "client disconnect before everything was sent to the server", "08006")    \
	X(REASON_DOUBT, "session state is in doubt", "08006")                                                  \
	X(REASON_LIFETIME, "server lifetime over", "57P01")                                                    \
	X(REASON_IDLE_TIMEOUT, "server idle timeout", "57P01")                                                 \
	X(REASON_CONFIG_CHANGED, "database configuration changed", "57P01")                                    \
	X(REASON_CLOSE_NEEDED, "close_needed", "57P01")                                                        \
	X(REASON_IDLE_DIRTY, "SV_IDLE server got dirty", "08006")                                              \
	X(REASON_OBSOLETE, "obsolete connection", "57P01")                                                     \
	X(REASON_TOO_MANY, "too many servers in the pool", "57P01")                                            \
	X(REASON_EVICTED, "evicted", "57P01")                                                                  \
	X(REASON_PAUSE, "pause mode", "57P01")                                                                 \
	X(REASON_SUSPEND_UNSAFE, "close unsafe file descriptors on suspend", "57P01")                          \
	X(REASON_RESET_FAILED, "reset query failed", "08006")                                                  \
	X(REASON_TEST_FAILED, "test query failed", "08006")                                                    \
	/* cancel connections: the reason is only logged */                                                    \
	X(REASON_CANCEL_SENT, "successfully sent cancel request", "00000")                                     \
	X(REASON_CANCEL_UNKNOWN, "failed cancel request", "00000")                                             \
	X(REASON_CANCEL_IDLE, "cancel request for idle client", "00000")                                       \
	X(REASON_CANCEL_CONSOLE, "cancel request for console client", "00000")                                 \
	X(REASON_CANCEL_VARS, "ignoring cancel request for server that is setting vars", "00000")              \
	X(REASON_CANCEL_LATE, "not sending cancel request for client that is now idle", "00000")               \
	X(REASON_CANCEL_QUEUED, "canceled a client that was waiting", "00000")                                 \
	X(REASON_CANCEL_FAILED, "failed to send cancel request", "00000")                                      \
	X(REASON_CANCEL_TIMEOUT, "cancel_wait_timeout", "00000")                                               \
	X(REASON_CANCEL_BAD, "bad cancel request", "00000")                                                    \
	X(REASON_CANCEL_TTL, "failed to forward cancel request because its TTL was exhausted", "00000")        \
	X(REASON_CANCEL_NO_PEER, "could not find peer to forward request to", "00000")                         \
	X(REASON_CANCEL_GIVEN_UP, "client gave up on cancel request, so we also give up forwarding to server", \
	  "00000")                                                                                             \
	X(REASON_PEER_REMOVED, "peer removed", "57P01")                                                        \
	X(REASON_PEER_NOT_NEEDED,                                                                              \
	  "peer server was not necessary anymore, because client cancel connection was already closed", "00000")

enum reason {
#define X(id, text, sqlstate) id,
	REASON_TABLE(X)
#undef X
		REASON_COUNT
};

/* Text and SQLSTATE of a row. */
const char *reason_text(enum reason reason);
const char *reason_sqlstate(enum reason reason);

#endif
