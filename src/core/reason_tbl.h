/*
 * Why a connection is closed, or a client told an error: one row each. Every
 * close passes a row; the log line, the text for the client and the SQLSTATE
 * come from it.
 *
 * X(id, text, sqlstate, detail, hint): where PgBouncer has the error, the text
 * is PgBouncer's, to the letter. The others are for error_style = postgres: the
 * state that PostgreSQL would use (under PgBouncer's style it is 08P01, unless
 * clients act by it), the facts, and what can be done about it; NULL where
 * there is nothing to add.
 *
 * Text and detail are templates. {name} is one of the facts in REASON_FACTS; a
 * part in [brackets], which may be nested, is left out when a fact in it is
 * not known, and so is a whole detail.
 */
#ifndef PGSLUICE_CORE_REASON_TBL_H
#define PGSLUICE_CORE_REASON_TBL_H

#include "core/base.h"

/* What a template may name: X(name) */
#define REASON_FACTS(X)                                                \
	X(database) /* name of the client's database */                \
	X(user)     /* whom the client has logged in as */             \
	X(server)   /* host and port */                                \
	X(error)    /* what the last attempt to connect came to */     \
	X(bytes)    /* the first bytes of a message, in hexadecimal */ \
	X(limit)    /* a number of connections */                      \
	X(timeout)  /* a setting, as a time */                         \
	X(time)     /* how long it took, or lasted */                  \
	X(name)     /* of a prepared statement */

/* clang-format off */

#define REASON_TABLE(X) \
	/* the client's side */ \
	X(REASON_NONE, "", "00000", NULL, NULL) \
	X(REASON_CLIENT_CLOSE, "client close request", "00000", NULL, NULL) \
	X(REASON_CLIENT_EOF, "client unexpected eof", "08006", NULL, NULL) \
	X(REASON_CLIENT_IO, "unexpected eof", "08006", NULL, NULL) \
	X(REASON_BAD_HEADER, "bad packet header: '{bytes}'", "08P01", \
	  NULL, \
	  "Bytes were lost on the way, or the client does not speak the protocol of PostgreSQL.") \
	X(REASON_UNKNOWN_PKT, "unknown pkt", "08P01", \
	  "The client has sent a message that has no place here.", \
	  NULL) \
	X(REASON_BAD_PACKET, "bad packet", "08P01", NULL, NULL) \
	X(REASON_SSL_REQUIRED, "SSL required", "28000", \
	  "The pooler takes connections over TCP with TLS only.", \
	  "Set sslmode of the client to require or better.") \
	X(REASON_SSL_TWICE, "SSL req inside SSL", "08P01", NULL, NULL) \
	X(REASON_BROKEN_PARSE, "broken Parse packet", "08P01", NULL, NULL) \
	X(REASON_BROKEN_BIND, "broken Bind packet", "08P01", NULL, NULL) \
	X(REASON_BROKEN_DESCRIBE, "broken Describe packet", "08P01", NULL, NULL) \
	X(REASON_BROKEN_CLOSE, "broken Close packet", "08P01", NULL, NULL) \
	X(REASON_PREP_NAME_IN_USE, "prepared statement name is already in use", "42P05", \
	  NULL, \
	  "Close the statement, or give the new one another name.") \
	X(REASON_PREP_UNKNOWN_NAME, "prepared statement did not exist", "26000", NULL, NULL) \
	/* the client's, told as errors at their place in a pipeline */ \
	X(REASON_PREP_EXISTS, "prepared statement \"{name}\" already exists", "42P05", NULL, NULL) \
	X(REASON_PREP_MISSING, "prepared statement \"{name}\" does not exist", "26000", NULL, NULL) \
	X(REASON_PREP_NO_UNNAMED, "unnamed prepared statement does not exist", "26000", NULL, NULL) \
	X(REASON_PREP_SHAPE, "cached plan must not change result type", "0A000", \
	  "Prepared statement \"{name}\" returns other columns than it did when it was described.", \
	  "Prepare it again.") \
	X(REASON_SQL_PREPARE, "PREPARE as an SQL command is not allowed here", "0A000", \
	  "Servers are shared, and a statement that one client prepares in this way is one server's; sql_prepare " \
	  "is refuse.", \
	  "Prepare by the extended query protocol, which the pooler follows, or set sql_prepare to pin.") \
	X(REASON_PREP_MEMORY, "prepared statements take too much memory", "53400", \
	  "The pooler keeps the texts of prepared statements, of all clients together up to " \
	  "prepared_statement_memory.", \
	  "Close statements that are not needed, or raise prepared_statement_memory.") \
	X(REASON_PQEXEC, "PQexec disallowed", "0A000", \
	  "The setting disable_pqexec refuses simple queries.", \
	  "Use the extended query protocol.") \
	X(REASON_OOM, "out of memory", "53200", \
	  "The pooler has no memory, or no room, for what the client has sent.", \
	  NULL) \
	X(REASON_RESOURCES, "bouncer resources exhaustion", "53000", \
	  "The pooler has run out of a resource; its log says of which.", \
	  NULL) \
	X(REASON_CONFIG, "bouncer config error", "F0000", \
	  "The pooler cannot serve this login as it is configured; its log says why.", \
	  NULL) \
	X(REASON_LDAP_OPTIONS, "auth_ldap_options is null", "F0000", \
	  "The method of this login is ldap, and nothing says which server to ask.", \
	  "Set auth_ldap_options.") \
	X(REASON_AUTH_BUSY, "too many logins at once (auth_helper_queue)", "53300", \
	  "The threads that ask for passwords elsewhere are busy, and auth_helper_queue logins, or half as many from one " \
	  "address, wait for them already.", \
	  "Try again later.") \
	X(REASON_LOGIN_TIMEOUT, "client_login_timeout", "57014", \
	  "The login took longer than client_login_timeout, which is {timeout}.", \
	  NULL) \
	X(REASON_LOGIN_TIMEOUT_DOWN, "client_login_timeout (server down)", "57P03", \
	  "No server of database \"{database}\" could be reached within client_login_timeout, which is " \
	  "{timeout}[; the last attempt failed: {error}].", \
	  "Try again later, or look into the log of the pooler.") \
	X(REASON_MAX_CLIENT_CONN, "no more connections allowed (max_client_conn)", "53300", \
	  "The pooler takes {limit} clients.", \
	  "Close connections that are not needed, or raise max_client_conn.") \
	X(REASON_MAX_PRELOGIN, "too many unfinished logins (max_prelogin_conn)", "53300", \
	  "The pooler takes {limit} logins that are not finished, and most of them come from this client's address.", \
	  "Begin fewer connections at once, or raise max_prelogin_conn.") \
	X(REASON_MAX_DB_CLIENTS, "client connections exceeded (max_db_client_connections)", "53300", \
	  "Database \"{database}\" takes {limit} clients.", \
	  "Close connections that are not needed, or raise max_db_client_connections.") \
	X(REASON_MAX_USER_CLIENTS, "client connections exceeded (max_user_client_connections)", "53300", \
	  "User \"{user}\" may have {limit} connections.", \
	  "Close connections that are not needed, or raise max_user_client_connections.") \
	X(REASON_NO_DATABASE, "no such database: {database}", "3D000", \
	  "The pooler's configuration has no database of that name, and no * entry.", \
	  NULL) \
	X(REASON_DB_DISABLED, "database \"{database}\" is disabled", "55000", \
	  "An administrator has taken it out of service with DISABLE.", \
	  "Try again later.") \
	X(REASON_NOT_ALLOWED, "not allowed", "42501", \
	  "User \"{user}\" may not use the console.", \
	  "The settings admin_users and stats_users name those who may.") \
	X(REASON_NO_RULE, "no authentication method is found", "28000", \
	  "No rule of auth_hba_file is for this client, user \"{user}\" and database \"{database}\".", \
	  "An administrator can add one and reload the configuration.") \
	X(REASON_DRAIN_LOGIN, "database \"{database}\" is being drained", "57P03", \
	  "An administrator is taking it out of service with DRAIN.", \
	  "Try again later, or connect to another instance of the pooler.") \
	X(REASON_DRAIN, "terminating connection: the database is being drained", "57P01", \
	  "Database \"{database}\" is being taken out of service with DRAIN; nothing of this connection was under way.", \
	  "Connect again, to another instance of the pooler if there is one.") \
	X(REASON_DRAIN_TIMEOUT, "terminating connection: not finished when draining ended", "57P01", \
	  "The transaction was still open when the time was over that DRAIN or SHUTDOWN DRAIN gives; it is rolled back.", \
	  "Connect again, to another instance of the pooler if there is one.") \
	X(REASON_SHUTDOWN, "pooler is shutting down", "57P03", \
	  NULL, \
	  "Try again; another process may have taken its place.") \
	X(REASON_SERVER_SHUTDOWN, "server shutting down", "57P01", \
	  "The pooler is shutting down and gives out no more servers.", \
	  "Connect again; another process may have taken its place.") \
	X(REASON_QUERY_WAIT_TIMEOUT, "query_wait_timeout", "57014", \
	  "The query waited {time} for a server of database \"{database}\" as user \"{user}\" and was not sent; " \
	  "query_wait_timeout is {timeout}[; the last attempt to connect failed: {error}].", \
	  "Make transactions shorter, or raise the size of the pool or the timeout.") \
	X(REASON_QUERY_TIMEOUT_QUEUE, "query_timeout", "57014", \
	  "The query waited {time} for a server of database \"{database}\" as user \"{user}\" and was not sent; " \
	  "query_timeout is {timeout}[; the last attempt to connect failed: {error}].", \
	  "Make transactions shorter, or raise the size of the pool or the timeout.") \
	X(REASON_QUEUE_FULL, "too many clients wait for a server (max_waiting_clients)", "53300", \
	  "Of database \"{database}\" and user \"{user}\" {limit} clients wait for a server already; the query was not sent.", \
	  "Try again later, make transactions shorter, or raise the size of the pool or max_waiting_clients.") \
	X(REASON_QUEUE_SLOW, "the wait for a server would be too long (queue_shed)", "53300", \
	  "A server of database \"{database}\" for user \"{user}\" would be free in about {time}, and the query may wait " \
	  "for {timeout}; it was not sent.", \
	  NULL) \
	X(REASON_BREAKER_OPEN, "server is not available, the breaker of {server} is open", "08006", \
	  "No new connection is made for database \"{database}\" at present[: {error}].", \
	  NULL) \
	X(REASON_CACHED_ERROR, "server login has been failing, cached error: {error} (server_login_retry)", "08001", \
	  "No server of database \"{database}\" takes connections at present; the next attempt is made within " \
	  "{timeout}.", \
	  "Try again later, or look into the log of the pooler.") \
	X(REASON_CLIENT_IDLE_TIMEOUT, "client_idle_timeout", "57P05", \
	  "The client was idle for {time}; client_idle_timeout is {timeout}.", \
	  NULL) \
	X(REASON_DB_REMOVED, "database removed", "57P01", \
	  "Database \"{database}\" has left the configuration, or an administrator has cut it off with KILL.", \
	  NULL) \
	X(REASON_KILLED, "admin forced disconnect", "57P01", \
	  "An administrator has closed this connection with KILL_CLIENT.", \
	  NULL) \
	X(REASON_FAST_EXIT, "pooler exits", "57P01", \
	  NULL, \
	  "Connect again; another process may have taken its place.") \
	X(REASON_SUSPEND_TIMEOUT, "suspend_timeout", "57P01", \
	  "The connection could not be brought to rest within suspend_timeout, which is {timeout}.", \
	  NULL) \
	/* the server's side; also told to the linked client */ \
	X(REASON_SERVER_CRASH, "server conn crashed?", "08006", \
	  "The connection to the server[ at {server}] was lost; if a COMMIT was under way it may or may not " \
	  "have taken effect.", \
	  "The server's log may say why.") \
	X(REASON_SERVER_SEND, "server connection closed", "08006", \
	  "The connection to the server[ at {server}] was lost; if a COMMIT was under way it may or may not " \
	  "have taken effect.", \
	  "The server's log may say why.") \
	/* told to clients that outlive their server */ \
	X(REASON_COMMIT_LOST, "server connection was lost during COMMIT", "08007", \
	  "The connection to the server[ at {server}] was lost before it had answered COMMIT; the transaction may or " \
	  "may not have taken effect.", \
	  "Look for its effects before you repeat it.") \
	X(REASON_TX_LOST, "current transaction is aborted, commands ignored until end of transaction block", "25P02", \
	  "The connection to its server was lost, and nothing of it has taken effect.", \
	  "End it by ROLLBACK.") \
	X(REASON_TX_LOST_SEVERAL, "current transaction is aborted, commands ignored until end of transaction block", \
	  "25P02", \
	  "The connection to its server was lost, and nothing of it has taken effect.", \
	  "End it by ROLLBACK alone: of several commands in one message none was run.") \
	X(REASON_TX_REFUSED, "current transaction is aborted, commands ignored until end of transaction block", \
	  "25P02", \
	  "Its beginning was refused, and nothing of it has taken effect.", \
	  "End it by ROLLBACK, in a message of its own.") \
	X(REASON_CUT_OFF, "server host is out of reach", "08006", \
	  "The server[ at {server}] does not answer, and another one does; what was under way may or may not have taken " \
	  "effect.", \
	  "Look for its effects before you repeat it.") \
	X(REASON_FENCED, "server is not the primary any more", "57P01", \
	  "The server[ at {server}] has been replaced by another one; what was under way may or may not have taken effect.", \
	  "Look for its effects before you repeat it.") \
	X(REASON_CONNECT_STRING, "connect string changed", "57P01", NULL, NULL) \
	X(REASON_CONNECT_FAILED, "connect failed", "08001", \
	  "No connection to the server[ at {server}] could be made.", \
	  NULL) \
	X(REASON_CONNECT_TIMEOUT, "connect timeout", "08001", \
	  "The server[ at {server}] did not answer within server_connect_timeout.", \
	  NULL) \
	X(REASON_CANNOT_CONNECT, "cannot connect", "08001", \
	  "The entry of the database names neither a host nor a directory of Unix sockets.", \
	  NULL) \
	X(REASON_DNS_FAILED, "server DNS lookup failed", "08001", \
	  "No address is known for the server's host name.", \
	  NULL) \
	X(REASON_LOGIN_FAILED, "login failed", "08001", \
	  "The server[ at {server}] has refused the login of the pooler[: {error}].", \
	  NULL) \
	X(REASON_WRONG_ROLE, "server does not have the requested role", "08001", \
	  "The server[ at {server}] does not match target_session_attrs.", \
	  NULL) \
	X(REASON_SSL_REFUSED, "server refused SSL", "08001", \
	  "The server[ at {server}] does not offer TLS, which server_tls_sslmode demands.", \
	  "Switch ssl on in the configuration of the server.") \
	X(REASON_SSL_ANSWER, "bad sslreq answer", "08P01", \
	  "The server[ at {server}] does not understand a request for TLS.", \
	  NULL) \
	X(REASON_SSL_ANSWER_EXTRA, "received unencrypted data after SSL response", "08P01", \
	  "What came from the server[ at {server}] ahead of the handshake was not written by it.", \
	  "Somebody on the way may have tried to take part in the conversation.") \
	X(REASON_AUTHREQ, "failed to answer authreq", "08001", \
	  "The pooler cannot authenticate in the way that the server[ at {server}] asks for.", \
	  NULL) \
	X(REASON_CONNECT_QUERY, "exec_on_connect query failed", "08001", \
	  "The connect_query of the database left a transaction open.", \
	  NULL) \
	X(REASON_QUERY_TIMEOUT, "query timeout", "57014", \
	  "The query ran for {time}; query_timeout is {timeout}.", \
	  "Make the query faster, or raise query_timeout.") \
	X(REASON_QUERY_STOPPED, "canceling statement due to query_timeout", "57014", \
	  "The query ran for {time}; its limit is {timeout}.", \
	  "Make the query faster, or raise query_timeout, or the limit that its comment asks for.") \
	X(REASON_IDLE_TX_TIMEOUT, "idle transaction timeout", "25P03", \
	  "The transaction was idle for {time}; idle_transaction_timeout is {timeout}.", \
	  NULL) \
	X(REASON_TX_TIMEOUT, "transaction timeout", "25P04", \
	  "The transaction was open for {time}; transaction_timeout is {timeout}.", \
	  NULL) \
	X(REASON_STATEMENT_MODE, "transaction blocks not allowed in statement pooling mode", "0A000", \
	  NULL, \
	  "Leave BEGIN out, or set pool_mode to transaction for this database.") \
	X(REASON_SERVER_PARAMETER, "invalid server parameter", "22023", \
	  "The server refused a parameter that this client has set.", \
	  NULL) \
	X(REASON_SERVER_PKT, "unknown pkt from server", "08P01", \
	  "The server[ at {server}] has sent a message that has no place here.", \
	  NULL) \
	X(REASON_SERVER_HEADER, "bad pkt header", "08P01", \
	  "The server[ at {server}] has sent what is no message.", \
	  NULL) \
	X(REASON_BROKEN_PARAMETER, "broken ParameterStatus packet", "08P01", NULL, NULL) \
	X(REASON_CLIENT_GONE_NOT_READY, "client disconnect while server was not ready", "08006", NULL, NULL) \
	X(REASON_CLIENT_GONE_UNSENT, "client disconnect before everything was sent to the server", "08006", NULL, NULL) \
	X(REASON_DOUBT, "session state is in doubt", "08006", \
	  "What the server[ at {server}] has answered leaves open what its session is in.", \
	  "Look for the effects of what was under way before you repeat it.") \
	X(REASON_REPLICATION_LEFT, "replication client disconnected", "08006", NULL, NULL) \
	X(REASON_REPLICATION_OVER, "replication client was closed", "08006", NULL, NULL) \
	X(REASON_LIFETIME, "server lifetime over", "57P01", NULL, NULL) \
	X(REASON_IDLE_TIMEOUT, "server idle timeout", "57P01", NULL, NULL) \
	X(REASON_CONFIG_CHANGED, "database configuration changed", "57P01", \
	  "The connections of database \"{database}\" are being replaced.", \
	  "Connect again.") \
	X(REASON_CLOSE_NEEDED, "close_needed", "57P01", NULL, NULL) \
	X(REASON_IDLE_DIRTY, "SV_IDLE server got dirty", "08006", NULL, NULL) \
	X(REASON_OBSOLETE, "obsolete connection", "57P01", NULL, NULL) \
	X(REASON_TOO_MANY, "too many servers in the pool", "57P01", NULL, NULL) \
	X(REASON_EVICTED_POOL, "evicted for pool_size", "57P01", NULL, NULL) \
	X(REASON_EVICTED_DB, "evicted for max_db_connections", "57P01", NULL, NULL) \
	X(REASON_EVICTED_USER, "evicted for max_user_connections", "57P01", NULL, NULL) \
	X(REASON_PAUSE, "pause mode", "57P01", NULL, NULL) \
	X(REASON_SUSPEND_UNSAFE, "close unsafe file descriptors on suspend", "57P01", NULL, NULL) \
	X(REASON_RESET_FAILED, "reset query failed", "08006", NULL, NULL) \
	X(REASON_SESSION_STATE, "session state of a client that has left", "57P01", NULL, NULL) \
	X(REASON_TEST_FAILED, "test query failed", "08006", NULL, NULL) \
	/* cancel connections: the reason is only logged */ \
	X(REASON_CANCEL_SENT, "successfully sent cancel request", "00000", NULL, NULL) \
	X(REASON_CANCEL_UNKNOWN, "failed cancel request", "00000", NULL, NULL) \
	X(REASON_CANCEL_IDLE, "cancel request for idle client", "00000", NULL, NULL) \
	X(REASON_CANCEL_CONSOLE, "cancel request for console client", "00000", NULL, NULL) \
	X(REASON_CANCEL_VARS, "ignoring cancel request for server that is setting vars", "00000", NULL, NULL) \
	X(REASON_CANCEL_LATE, "not sending cancel request for client that is now idle", "00000", NULL, NULL) \
	X(REASON_CANCEL_QUEUED, "canceled a client that was waiting", "00000", NULL, NULL) \
	X(REASON_CANCEL_FAILED, "failed to send cancel request", "00000", NULL, NULL) \
	X(REASON_CANCEL_TIMEOUT, "cancel_wait_timeout", "00000", NULL, NULL) \
	X(REASON_CANCEL_BAD, "bad cancel request", "00000", NULL, NULL) \
	X(REASON_CANCEL_TTL, "failed to forward cancel request because its TTL was exhausted", "00000", NULL, NULL) \
	X(REASON_CANCEL_NO_PEER, "could not find peer to forward request to", "00000", NULL, NULL) \
	X(REASON_CANCEL_GIVEN_UP, "client gave up on cancel request, so we also give up forwarding to server", "00000", NULL, NULL) \
	X(REASON_PEER_REMOVED, "peer removed", "57P01", NULL, NULL) \
	X(REASON_PEER_NOT_NEEDED, "peer server was not necessary anymore, because client cancel connection was already closed", "00000", NULL, NULL)

/* clang-format on */

enum reason {
#define X(id, text, sqlstate, detail, hint) id,
	REASON_TABLE(X)
#undef X
		REASON_COUNT
};

/* Texts for the templates; NULL or "" is not known. */
struct reason_facts {
#define X(name) const char *name;
	REASON_FACTS(X)
#undef X
};

/* Text, as a template, SQLSTATE and hint of a row. The hint may be NULL. */
const char *reason_text(enum reason reason);
const char *reason_sqlstate(enum reason reason);
const char *reason_hint(enum reason reason);

/* Fills in a row's text or detail; cut where dst ends. `facts` NULL: none are known. */
void reason_write_text(enum reason reason, const struct reason_facts *facts, char *dst, size_t size);

/* The same for the detail: false, and nothing written, when there is none or a fact is missing. */
bool reason_write_detail(enum reason reason, const struct reason_facts *facts, char *dst, size_t size);

#endif
