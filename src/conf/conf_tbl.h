/*
 * Every setting of the [pgbouncer] / [pgsluice] section and every key of the
 * [databases], [users] and [peers] sections, one row each. The rows yield the
 * fields of struct conf, the parser, the range errors, SHOW CONFIG, the reload
 * difference, etc/pgsluice.ini and doc/config.md; a new setting is a new row
 * and nothing else.
 *
 * Rows stand in the order in which the documentation lists them; SHOW CONFIG
 * sorts. Defaults are text, read by the same parser as the file; NULL is "never
 * set". min and max bind INT, UINT and TIME (in seconds).
 */
#ifndef PGSLUICE_CONF_CONF_TBL_H
#define PGSLUICE_CONF_CONF_TBL_H

#include <limits.h>

/* clang-format off */

/*
 * Types:
 *   FLAG   an int, zero is off; on/yes/true and off/no/false are read as 1 and 0
 *   INT    int; UINT unsigned; both read in C notation, so 010 is eight
 *   TIME   seconds, fractions allowed; kept as uint64_t microseconds in name_us
 *   ENUM   one of a list of names, any case; kept as int, see the enums in conf.h
 *   STR    the rest of the line, as it is
 *   WORDS  names separated by commas or white space
 *   CSV    names separated by commas, white space around them dropped
 *
 * Flags:
 *   RELOAD   takes effect at a reload or by SET
 *   RESTART  takes effect at a start only
 *   SECRET   the value is never shown
 *   NOOP     has no effect by design
 *   CLAMP    under [pgbouncer] a number out of range is moved to the nearest in range, with a warning: PgBouncer
 *            takes it, so there are files that have it
 *   RECYCLE  a change makes server connections useless: those of the database whose key it is, or all
 */
#define CONF_F_RELOAD  (1u << 0)
#define CONF_F_RESTART (1u << 1)
#define CONF_F_SECRET  (1u << 2)
#define CONF_F_NOOP    (1u << 3)
#define CONF_F_RECYCLE (1u << 4)
#define CONF_F_CLAMP   (1u << 5)

/* short forms for the rows below */
#define CONF_R  CONF_F_RELOAD
#define CONF_RX (CONF_F_RELOAD | CONF_F_RECYCLE)
#define CONF_S  CONF_F_RESTART
#define CONF_RC (CONF_F_RELOAD | CONF_F_CLAMP)
#define CONF_SC (CONF_F_RESTART | CONF_F_CLAMP)
#define CONF_RN (CONF_F_RELOAD | CONF_F_NOOP)
#define CONF_SN (CONF_F_RESTART | CONF_F_NOOP)

#define CONF_TIME_MAX 10000000000LL /* seconds; some 317 years */

/* id, title of the group in the documentation */
#define CONF_GROUP_TABLE(X)                       \
	X(LISTEN, "Listening and process")        \
	X(LOG, "Logging")                         \
	X(THREADS, "Threads")                     \
	X(AUTH, "Authentication")                 \
	X(CONSOLE, "Console users")               \
	X(POOL, "Pool sizes and limits")          \
	X(SERVER, "Server connections")           \
	X(CLIENT, "Client sessions")              \
	X(TIMEOUT, "Timeouts")                    \
	X(QUEUE, "Waiting clients")               \
	X(DRAIN, "Drain and readiness")           \
	X(BREAKER, "Breakers")                    \
	X(HEALTH, "Health checks and endpoints")  \
	X(RETRY, "Retries")                       \
	X(DNS, "DNS")                             \
	X(TLS_CLIENT, "TLS from clients")         \
	X(TLS_SERVER, "TLS to servers")           \
	X(NET, "Network details")

/* The names an ENUM may have: X(enumerator, text). The enums stand in conf.h. */
#define CONF_VALUES_POOL_MODE(X)                       \
	X(CONF_POOL_SESSION, "session")                \
	X(CONF_POOL_TRANSACTION, "transaction")        \
	X(CONF_POOL_STATEMENT, "statement")
#define CONF_VALUES_AUTH_TYPE(X)                       \
	X(CONF_AUTH_ANY, "any")                        \
	X(CONF_AUTH_TRUST, "trust")                    \
	X(CONF_AUTH_PLAIN, "plain")                    \
	X(CONF_AUTH_MD5, "md5")                        \
	X(CONF_AUTH_SCRAM, "scram-sha-256")            \
	X(CONF_AUTH_CERT, "cert")                      \
	X(CONF_AUTH_PEER, "peer")                      \
	X(CONF_AUTH_HBA, "hba")                        \
	X(CONF_AUTH_LDAP, "ldap")                      \
	X(CONF_AUTH_PAM, "pam")
#define CONF_VALUES_SSLMODE(X)                         \
	X(CONF_SSL_DISABLE, "disable")                 \
	X(CONF_SSL_ALLOW, "allow")                     \
	X(CONF_SSL_PREFER, "prefer")                   \
	X(CONF_SSL_REQUIRE, "require")                 \
	X(CONF_SSL_VERIFY_CA, "verify-ca")             \
	X(CONF_SSL_VERIFY_FULL, "verify-full")
#define CONF_VALUES_SSLNEGOTIATION(X)                  \
	X(CONF_SSLNEG_POSTGRES, "postgres")            \
	X(CONF_SSLNEG_DIRECT, "direct")
#define CONF_VALUES_ERROR_STYLE(X)                     \
	X(CONF_ERROR_PGBOUNCER, "pgbouncer")           \
	X(CONF_ERROR_POSTGRES, "postgres")
#define CONF_VALUES_LOG_FORMAT(X)                      \
	X(CONF_LOG_TEXT, "text")                       \
	X(CONF_LOG_JSON, "json")
#define CONF_VALUES_SQL_PREPARE(X)                     \
	X(CONF_SQL_PREPARE_PIN, "pin")                 \
	X(CONF_SQL_PREPARE_REFUSE, "refuse")           \
	X(CONF_SQL_PREPARE_IGNORE, "ignore")
#define CONF_VALUES_TIMEOUT_ACTION(X)                  \
	X(CONF_TIMEOUT_DISCONNECT, "disconnect")       \
	X(CONF_TIMEOUT_CANCEL, "cancel")
#define CONF_VALUES_LOSS_ACTION(X)                     \
	X(CONF_LOSS_DISCONNECT, "disconnect")          \
	X(CONF_LOSS_ERROR, "error")
#define CONF_VALUES_GONE_ACTION(X)                     \
	X(CONF_GONE_CLOSE, "close")                    \
	X(CONF_GONE_CANCEL, "cancel")
#define CONF_VALUES_OPEN_ACTION(X)                     \
	X(CONF_OPEN_FAIL, "fail")                      \
	X(CONF_OPEN_HOLD, "hold")
#define CONF_VALUES_SESSION_ATTRS(X)                   \
	X(CONF_ATTRS_ANY, "any")                       \
	X(CONF_ATTRS_READ_WRITE, "read-write")         \
	X(CONF_ATTRS_READ_ONLY, "read-only")           \
	X(CONF_ATTRS_PRIMARY, "primary")               \
	X(CONF_ATTRS_STANDBY, "standby")               \
	X(CONF_ATTRS_PREFER_STANDBY, "prefer-standby")
#define CONF_VALUES_RETRY(X)                           \
	X(CONF_RETRY_OFF, "off")                       \
	X(CONF_RETRY_SAFE, "safe")
#define CONF_VALUES_PROTOCOL(X)                        \
	X(CONF_PROTOCOL_3_0, "3.0")                    \
	X(CONF_PROTOCOL_3_2, "3.2")
#define CONF_VALUES_LOAD_BALANCE(X)                    \
	X(CONF_LOAD_BALANCE_ROUND_ROBIN, "round-robin") \
	X(CONF_LOAD_BALANCE_DISABLE, "disable")

/* Every list of names above; conf_value.c makes an array of each. */
#define CONF_VALUES_TABLE(X) \
	X(POOL_MODE) X(AUTH_TYPE) X(SSLMODE) X(SSLNEGOTIATION) X(ERROR_STYLE) X(LOG_FORMAT) X(SQL_PREPARE) \
	X(TIMEOUT_ACTION) X(GONE_ACTION) X(LOSS_ACTION) X(OPEN_ACTION) X(SESSION_ATTRS) X(RETRY) X(PROTOCOL) X(LOAD_BALANCE)

#define CONF_AUTH_QUERY_DEFAULT \
	"SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END " \
	"FROM pg_authid WHERE rolname=$1 AND rolcanlogin"

/* The user itself, and every role that it is a member of, directly or by way of another. */
#define CONF_AUTH_ROLES_QUERY_DEFAULT \
	"WITH RECURSIVE member(oid) AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1 " \
	"UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN member ON m.member = member.oid) " \
	"SELECT rolname FROM pg_catalog.pg_roles WHERE oid IN (SELECT oid FROM member)"

/* X(group, type, name, default in [pgbouncer], default in [pgsluice], min, max, unit, values, flags, help) */
#define CONF_TABLE(X) \
	X(LISTEN, CSV, listen_addr, "", "", 0, 0, "", NONE, CONF_S, \
	  "Addresses or host names to listen on, separated by commas; * is every IPv4 and IPv6 address; empty means no TCP.") \
	X(LISTEN, INT, listen_port, "6432", "6432", 1, 65535, "", NONE, CONF_S, \
	  "TCP port; it also names the Unix socket, .s.PGSQL.<port>.") \
	X(LISTEN, INT, listen_backlog, "128", "128", -1, INT_MAX, "", NONE, CONF_SC, \
	  "How many connections the kernel may keep waiting to be accepted; -1 is as many as it allows.") \
	X(LISTEN, STR, unix_socket_dir, "/tmp", "/tmp", 0, 0, "", NONE, CONF_S, \
	  "Directory of the Unix socket, and of the server's where a database has no host; " \
	  "@name is the abstract namespace; empty means none.") \
	X(LISTEN, INT, unix_socket_mode, "0777", "0777", 0, 07777, "", NONE, CONF_S, \
	  "Permissions of the Unix socket, octal with a leading 0.") \
	X(LISTEN, STR, unix_socket_group, "", "", 0, 0, "", NONE, CONF_S, \
	  "Group, name or number, that shall own the Unix socket; empty leaves it as created.") \
	X(LISTEN, STR, user, NULL, NULL, 0, 0, "", NONE, CONF_S, \
	  "System user to become after the start as root.") \
	X(LISTEN, STR, pidfile, "", "", 0, 0, "", NONE, CONF_S, \
	  "File that holds the process id; needed to run as a daemon.") \
	X(LISTEN, STR, conffile, NULL, NULL, 0, 0, "", NONE, CONF_R, \
	  "File that the next reload reads; unset means the one given at the start.") \
	X(LISTEN, INT, peer_id, "0", "0", 0, 65535, "", NONE, CONF_R, \
	  "Number of this process among its peers, for the routing of cancel requests; 0 means no peers.") \
	X(LISTEN, STR, job_name, "pgbouncer", "pgbouncer", 0, 0, "", NONE, CONF_SN, \
	  "Without effect; accepted because existing files may have it.") \
	X(LISTEN, TIME, suspend_timeout, "10", "10", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long SUSPEND waits for buffers to empty before it closes what is left; 0 waits for ever.") \
	\
	X(LOG, STR, logfile, "", "", 0, 0, "", NONE, CONF_R, \
	  "File to append log lines to, beside stderr; reopened at a reload.") \
	X(LOG, ENUM, log_format, "text", "text", 0, 0, "", LOG_FORMAT, CONF_R, \
	  "Form of a log line: text as PgBouncer writes it, or one JSON object per line.") \
	X(LOG, INT, log_rate_limit, "0", "20", 0, INT_MAX, "", NONE, CONF_R, \
	  "Warnings and errors from one place in the program, and lines about users that there are not, that are logged " \
	  "within 5 seconds; what exceeds it is counted and told in one line; 0 means no limit.") \
	X(LOG, FLAG, syslog, "0", "0", 0, 0, "", NONE, CONF_R, \
	  "Send log lines to syslog as well.") \
	X(LOG, STR, syslog_ident, "pgbouncer", "pgbouncer", 0, 0, "", NONE, CONF_R, \
	  "Program name that syslog records.") \
	X(LOG, STR, syslog_facility, "daemon", "daemon", 0, 0, "", NONE, CONF_R, \
	  "Facility for syslog: auth, authpriv, daemon, user, local0 to local7.") \
	X(LOG, FLAG, log_connections, "1", "1", 0, 0, "", NONE, CONF_R, \
	  "Log logins of clients and new connections to servers.") \
	X(LOG, FLAG, log_disconnections, "1", "1", 0, 0, "", NONE, CONF_R, \
	  "Log why a client or server connection was closed.") \
	X(LOG, FLAG, log_pooler_errors, "1", "1", 0, 0, "", NONE, CONF_R, \
	  "Log each error that the pooler itself sends to a client.") \
	X(LOG, FLAG, log_stats, "1", "1", 0, 0, "", NONE, CONF_R, \
	  "Log a line of totals each stats_period.") \
	X(LOG, INT, stats_period, "60", "60", 1, INT_MAX, "s", NONE, CONF_RC, \
	  "Length of the period over which averages are made.") \
	X(LOG, INT, verbose, NULL, NULL, 0, INT_MAX, "", NONE, CONF_RC, \
	  "1 logs debug lines, 2 or more logs everything; unset means as the command line says.") \
	X(LOG, ENUM, error_style, "pgbouncer", "postgres", 0, 0, "", ERROR_STYLE, CONF_R, \
	  "Form of the errors that the pooler itself sends: pgbouncer gives 08P01 and PgBouncer's words, " \
	  "postgres gives the fitting SQLSTATE with detail and hint.") \
	\
	X(THREADS, UINT, threads, "0", "0", 0, 256, "", NONE, CONF_S, \
	  "Threads that forward between clients and servers; 0 means one for each CPU online.") \
	X(THREADS, UINT, login_threads, "1", "1", 0, 64, "", NONE, CONF_S, \
	  "Threads that do TLS handshakes and authentication; 0 leaves that to the forwarding threads.") \
	X(THREADS, UINT, login_nice, "10", "10", 0, 19, "", NONE, CONF_S, \
	  "How much these threads yield to the forwarding ones and to other programs while there is more to do than the " \
	  "cores can: 0 not at all, 19 as far as the system can.") \
	\
	X(AUTH, ENUM, auth_type, "md5", "scram-sha-256", 0, 0, "", AUTH_TYPE, CONF_R, \
	  "How clients prove who they are; md5 turns to SCRAM for a user whose stored secret is SCRAM.") \
	X(AUTH, STR, auth_file, NULL, NULL, 0, 0, "", NONE, CONF_R, \
	  "File of users and secrets, lines of \"user\" \"secret\".") \
	X(AUTH, STR, auth_hba_file, "", "", 0, 0, "", NONE, CONF_R, \
	  "Rules that choose the method by address, database and user; read with auth_type hba.") \
	X(AUTH, STR, auth_ident_file, NULL, NULL, 0, 0, "", NONE, CONF_R, \
	  "Maps from certificate or system names to user names, for the rules of auth_hba_file.") \
	X(AUTH, STR, auth_user, NULL, NULL, 0, 0, "", NONE, CONF_R, \
	  "User that runs auth_query for clients that auth_file does not know.") \
	X(AUTH, STR, auth_query, CONF_AUTH_QUERY_DEFAULT, CONF_AUTH_QUERY_DEFAULT, 0, 0, "", NONE, CONF_R, \
	  "Query that gives the name and secret of the user $1; tables and functions need their schemas.") \
	X(AUTH, STR, auth_roles_query, CONF_AUTH_ROLES_QUERY_DEFAULT, CONF_AUTH_ROLES_QUERY_DEFAULT, 0, 0, "", NONE, \
	  CONF_R, \
	  "Query that gives the roles that the user $1 is a member of, for the groups in auth_hba_file.") \
	X(AUTH, STR, auth_dbname, NULL, NULL, 0, 0, "", NONE, CONF_R, \
	  "Database in which auth_query runs; unset means the one that the client asks for.") \
	X(AUTH, TIME, auth_query_cache_ttl, "0", "5", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long an answer of auth_query is used again; 0 asks at every login. A user that the server would refuse " \
	  "by now can still log in for that long. When a login fails with an answer that is older than a second, the " \
	  "next one asks: a changed password, and a new user, work then at the latest.") \
	X(AUTH, TIME, auth_query_stale, "0", "0", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long beyond that an answer may still be used while the server cannot be asked.") \
	X(AUTH, STR, auth_ldap_options, NULL, NULL, 0, 0, "", NONE, CONF_R | CONF_F_SECRET, \
	  "Options for auth_type ldap, in the form that an HBA line has.") \
	X(AUTH, STR, auth_pam_service, "pgbouncer", "pgsluice", 0, 0, "", NONE, CONF_R, \
	  "Service of PAM that auth_type pam asks: the name of a file in /etc/pam.d.") \
	X(AUTH, UINT, auth_helper_threads, "4", "4", 1, 64, "", NONE, CONF_R, \
	  "Threads that ask LDAP servers, as many that ask PAM, and as many that look for names of clients; each is " \
	  "started when there is work for it.") \
	X(AUTH, UINT, auth_helper_queue, "256", "256", 0, 65536, "", NONE, CONF_R, \
	  "Logins that may wait for each of these groups of threads; the next one is refused at once, and so is one of " \
	  "an address that has half of all there are, unless it is of this machine.") \
	X(AUTH, INT, scram_iterations, "4096", "4096", 1, INT_MAX, "", NONE, CONF_RC, \
	  "Rounds for the SCRAM verifiers made from plain secrets of auth_file.") \
	X(AUTH, STR, scram_salt_secret, "", "", 0, 0, "", NONE, CONF_S | CONF_F_SECRET, \
	  "Any long random text. The salts that SCRAM shows for names that are no users, and for those with plain " \
	  "secrets, follow from it. When empty they follow from client_tls_key_file, or from /etc/machine-id. Several " \
	  "processes behind one address need the same.") \
	X(AUTH, UINT, max_prelogin_conn, "0", "4096", 0, UINT_MAX, "", NONE, CONF_R, \
	  "TCP connections that may be in the middle of a login at once, beside max_client_conn. When there are more, the " \
	  "address with most of them loses its oldest. 0 means no limit of its own: they count for max_client_conn.") \
	X(AUTH, UINT, max_prelogin_rate, "0", "2000", 0, UINT_MAX, "", NONE, CONF_R, \
	  "Logins that one address may begin in a second; what exceeds it waits in order. Not for 127.0.0.1 and ::1. " \
	  "0 means no limit; for a pooler behind a proxy, which is one address for everybody.") \
	X(AUTH, UINT, prelogin_ipv4_prefix, "32", "32", 1, 32, "", NONE, CONF_R, \
	  "Addresses of IPv4 that have so many bits in common are one address to these two limits, and to the share of " \
	  "auth_helper_queue.") \
	X(AUTH, UINT, prelogin_ipv6_prefix, "64", "64", 1, 64, "", NONE, CONF_R, \
	  "The same for IPv6, where one customer of a provider has a network of 64 bits at least.") \
	\
	X(CONSOLE, WORDS, admin_users, "", "", 0, 0, "", NONE, CONF_R, \
	  "Users that may run every command of the console.") \
	X(CONSOLE, WORDS, stats_users, "", "", 0, 0, "", NONE, CONF_R, \
	  "Users that may run the SHOW commands of the console.") \
	X(CONSOLE, FLAG, console_extended, "0", "1", 0, 0, "", NONE, CONF_R, \
	  "Answer the extended query protocol on the console, too, for drivers that know no other; for new sessions.") \
	\
	X(POOL, ENUM, pool_mode, "session", "transaction", 0, 0, "", POOL_MODE, CONF_R, \
	  "When a server is given back: at the end of the session, of the transaction or of the statement.") \
	X(POOL, INT, default_pool_size, "20", "20", 0, INT_MAX, "", NONE, CONF_RC, \
	  "Servers for each pair of database and user; 0 means no limit.") \
	X(POOL, INT, min_pool_size, "0", "0", 0, INT_MAX, "", NONE, CONF_RC, \
	  "Servers to keep open for each pool in use.") \
	X(POOL, INT, reserve_pool_size, "0", "0", 0, INT_MAX, "", NONE, CONF_RC, \
	  "Servers that a pool may open beyond its size when clients wait too long.") \
	X(POOL, TIME, reserve_pool_timeout, "5", "5", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long a client waits before the reserve is opened; 0 turns the reserve off.") \
	X(POOL, INT, max_client_conn, "100", "10000", 0, INT_MAX, "", NONE, CONF_RC, \
	  "Client connections in all.") \
	X(POOL, INT, max_db_connections, "0", "0", INT_MIN, INT_MAX, "", NONE, CONF_RC, \
	  "Server connections for each database, over all users; 0 means no limit.") \
	X(POOL, INT, max_db_client_connections, "0", "0", INT_MIN, INT_MAX, "", NONE, CONF_RC, \
	  "Client connections for each database; 0 means no limit.") \
	X(POOL, INT, max_user_connections, "0", "0", INT_MIN, INT_MAX, "", NONE, CONF_RC, \
	  "Server connections for each user, over all databases; 0 means no limit.") \
	X(POOL, INT, max_user_client_connections, "0", "0", INT_MIN, INT_MAX, "", NONE, CONF_RC, \
	  "Client connections for each user; 0 means no limit.") \
	X(POOL, FLAG, server_round_robin, "0", "0", 0, 0, "", NONE, CONF_R, \
	  "Use the server that has been idle longest instead of the one used last.") \
	X(POOL, TIME, pool_idle_timeout, "0", "0", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Forget a pool without clients and servers after this time; 0 means never.") \
	X(POOL, TIME, autodb_idle_timeout, "3600", "3600", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Forget an unused database that was made from the * entry after this time; 0 means never.") \
	\
	X(SERVER, STR, server_reset_query, "DISCARD ALL", "DISCARD ALL", 0, 0, "", NONE, CONF_R, \
	  "Query to run on a server before it goes back to the pool, in session mode; empty means none.") \
	X(SERVER, FLAG, server_reset_query_always, "0", "0", 0, 0, "", NONE, CONF_R, \
	  "Run server_reset_query in every pool mode.") \
	X(SERVER, STR, server_check_query, "<empty>", "<empty>", 0, 0, "", NONE, CONF_R, \
	  "Query that shows that an idle server still works; <empty> sends a query without text, empty means no check.") \
	X(SERVER, TIME, server_check_delay, "30", "30", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Check a server that was idle longer than this before it is used; 0 checks always.") \
	X(SERVER, TIME, server_lifetime, "3600", "3600", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Close a server older than this when it is not in use; 0 uses each connection once.") \
	X(SERVER, TIME, server_idle_timeout, "600", "600", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Close a server that was idle longer than this; 0 means never.") \
	X(SERVER, TIME, server_connect_timeout, "15", "15", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Give up a connection to a server that is not logged in after this time; 0 means never.") \
	X(SERVER, TIME, server_login_retry, "15", "15", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long to wait after a failed login to a server before the next attempt.") \
	X(SERVER, UINT, server_login_concurrency, "4", "4", 1, 65535, "", NONE, CONF_R, \
	  "Logins to servers that one pool may have under way at once.") \
	X(SERVER, UINT, endpoint_login_concurrency, "0", "32", 0, 65535, "", NONE, CONF_R, \
	  "Logins to servers at one host and port that all pools together may have under way at once; 0 means no limit.") \
	X(SERVER, ENUM, server_max_protocol_version, "3.0", "3.2", 0, 0, "", PROTOCOL, CONF_R, \
	  "Newest version of the protocol to ask servers for; one that does not know it is spoken to in 3.0.") \
	X(SERVER, FLAG, server_fast_close, "0", "0", 0, 0, "", NONE, CONF_R, \
	  "In session mode, close servers marked for closing as soon as they are outside a transaction.") \
	\
	X(CLIENT, INT, max_prepared_statements, "200", "200", INT_MIN, INT_MAX, "", NONE, CONF_RC, \
	  "Prepared statements to keep on each server, in transaction and statement mode; 0 turns tracking off.") \
	X(CLIENT, FLAG, reuse_unnamed_statements, "0", "1", 0, 0, "", NONE, CONF_R, \
	  "Let unnamed statements of equal text share one prepared statement on the server.") \
	X(CLIENT, UINT, prepared_statement_memory, "268435456", "268435456", 65536, UINT_MAX, "bytes", NONE, CONF_R, \
	  "What the texts and names of prepared statements may take, of all clients together; beyond it no new ones are " \
	  "taken.") \
	X(CLIENT, ENUM, sql_prepare, "pin", "pin", 0, 0, "", SQL_PREPARE, CONF_R, \
	  "What becomes of PREPARE as an SQL command in transaction and statement mode: pin keeps the server for the " \
	  "client until it has deallocated its statements or leaves, refuse is an error, ignore leaves the statements " \
	  "to whoever gets the server next.") \
	X(CLIENT, CSV, track_extra_parameters, "IntervalStyle", "IntervalStyle", 0, 0, "", NONE, CONF_S, \
	  "Parameters, beyond the usual ones, that are kept for each client when it changes server; " \
	  "the server must report them.") \
	X(CLIENT, WORDS, ignore_startup_parameters, "", "extra_float_digits", 0, 0, "", NONE, CONF_R, \
	  "Start-up parameters to drop silently; options drops what is unknown inside options.") \
	X(CLIENT, ENUM, max_protocol_version, "3.0", "3.2", 0, 0, "", PROTOCOL, CONF_R, \
	  "Newest version of the protocol to speak with clients; 3.2 has longer keys for cancel requests.") \
	X(CLIENT, FLAG, application_name_add_host, "0", "0", 0, 0, "", NONE, CONF_R, \
	  "Add the address of the client to its application_name at login.") \
	X(CLIENT, STR, login_notify_message, "", "", 0, 0, "", NONE, CONF_R, \
	  "Notice to send to each client at the end of its login.") \
	X(CLIENT, FLAG, disable_pqexec, "0", "0", 0, 0, "", NONE, CONF_S, \
	  "Refuse the simple query protocol; the console takes it all the same.") \
	X(CLIENT, UINT, max_packet_size, "2147483647", "2147483647", 1024, UINT_MAX, "bytes", NONE, CONF_RC, \
	  "Longest message to let through; a longer one closes the connection.") \
	X(CLIENT, ENUM, server_loss_action, "disconnect", "error", 0, 0, "", LOSS_ACTION, CONF_R, \
	  "What a client meets in transaction and statement mode when its server is lost: disconnect closes it, error " \
	  "answers what it is owed by an error and keeps it.") \
	\
	X(TIMEOUT, TIME, query_timeout, "0", "0", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Longest time a query may run; 0 means no limit.") \
	X(TIMEOUT, ENUM, query_timeout_action, "disconnect", "cancel", 0, 0, "", TIMEOUT_ACTION, CONF_R, \
	  "What happens when query_timeout is over: disconnect closes both sides, cancel asks the server to stop the query.") \
	X(TIMEOUT, FLAG, query_timeout_hints, "0", "1", 0, 0, "", NONE, CONF_R, \
	  "Let a query set its own limit by a comment at its beginning, as in /* pgsluice: timeout=250ms */.") \
	X(TIMEOUT, TIME, cancel_grace, "5", "5", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long a cancelled query may go on before the server is closed after all; 0 closes at once.") \
	X(TIMEOUT, FLAG, timeout_includes_wait, "1", "1", 0, 0, "", NONE, CONF_R, \
	  "Count the time spent waiting for a server towards query_timeout.") \
	X(TIMEOUT, ENUM, client_gone_action, "close", "cancel", 0, 0, "", GONE_ACTION, CONF_R, \
	  "What becomes of the server of a client that goes in the middle of its work: close, or cancel, which stops the query, " \
	  "rolls back, and keeps the server.") \
	X(TIMEOUT, TIME, query_wait_timeout, "120", "120", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Longest time a client may wait for a server; 0 means no limit.") \
	X(TIMEOUT, INT, query_wait_notify, "5", "5", 0, INT_MAX, "s", NONE, CONF_RC, \
	  "Send a notice to a client that has waited longer than this; 0 means never.") \
	X(TIMEOUT, TIME, cancel_wait_timeout, "10", "10", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Longest time a cancel request may wait to be forwarded; 0 means no limit.") \
	X(TIMEOUT, FLAG, cancel_queued, "0", "1", 0, 0, "", NONE, CONF_R, \
	  "Let a cancel request end a query that still waits for a server, with 57014; 0 ignores it, as PgBouncer does.") \
	X(TIMEOUT, TIME, client_idle_timeout, "0", "0", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Close a client that was idle longer than this; 0 means never.") \
	X(TIMEOUT, TIME, idle_transaction_timeout, "0", "0", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Close a client that is idle inside a transaction longer than this; 0 means never.") \
	X(TIMEOUT, TIME, transaction_timeout, "0", "0", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Longest time a transaction may last; 0 means no limit.") \
	X(TIMEOUT, TIME, client_login_timeout, "60", "60", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Close a client that is not logged in after this time; 0 means never.") \
	\
	X(QUEUE, UINT, max_waiting_clients, "0", "0", 0, INT_MAX, "", NONE, CONF_R, \
	  "Clients of one pool that may wait for a server at once, beyond those for whom servers are being opened or still " \
	  "can be; one more gets an error at once and stays connected; 0 means no limit.") \
	X(QUEUE, FLAG, queue_shed, "0", "0", 0, 0, "", NONE, CONF_R, \
	  "Refuse a client at once that would wait for a server in vain: for longer than query_wait_timeout or " \
	  "query_timeout allow, as fast as the queue is. It stays connected.") \
	\
	X(DRAIN, STR, health_listen, "", "", 0, 0, "", NONE, CONF_R, \
	  "Where GET /live and GET /ready are answered by HTTP: host:port, *:port for every address, or a port of 127.0.0.1; " \
	  "empty means nowhere.") \
	X(DRAIN, TIME, drain_delay, "0", "0", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Time between the moment when DRAIN or SHUTDOWN DRAIN makes the pooler unready for load balancers, and the first " \
	  "client that is refused or closed.") \
	X(DRAIN, TIME, drain_timeout, "60", "60", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long after that a drain waits for open transactions before it closes their clients; 0 waits for ever.") \
	\
	X(BREAKER, UINT, breaker_failure_threshold, "0", "5", 0, UINT_MAX, "", NONE, CONF_R, \
	  "Failures in a row that open the breaker of an endpoint; 0 means that the count does not.") \
	X(BREAKER, UINT, breaker_failure_rate, "0", "50", 0, 100, "%", NONE, CONF_R, \
	  "Share of failed attempts within breaker_window that opens the breaker; 0 means that the share does not.") \
	X(BREAKER, TIME, breaker_window, "30", "30", 1, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Length of the window over which breaker_failure_rate is measured.") \
	X(BREAKER, UINT, breaker_min_calls, "20", "20", 1, UINT_MAX, "", NONE, CONF_R, \
	  "Attempts within the window below which breaker_failure_rate is not looked at.") \
	X(BREAKER, TIME, breaker_recovery_timeout, "30", "30", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long a breaker stays open before an attempt is let through.") \
	X(BREAKER, TIME, breaker_recovery_max, "300", "300", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Longest time to which breaker_recovery_timeout doubles while attempts go on to fail.") \
	X(BREAKER, UINT, breaker_success_threshold, "3", "3", 1, UINT_MAX, "", NONE, CONF_R, \
	  "Attempts that must succeed before the breaker closes again.") \
	X(BREAKER, ENUM, breaker_open_action, "fail", "fail", 0, 0, "", OPEN_ACTION, CONF_R, \
	  "What clients meet while the breaker is open: fail is an error at once, hold keeps them in the queue.") \
	X(BREAKER, UINT, breaker_max_eject, "50", "50", 0, 100, "%", NONE, CONF_R, \
	  "Share of several endpoints of a database that may be left out for overload at once; one may unless this is 0, all never.") \
	\
	X(HEALTH, TIME, health_interval, "0", "5", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Time between two probes of an endpoint, of databases with several hosts or with target_session_attrs; while " \
	  "something is wrong there it is 0.25 at most; 0 means no probes.") \
	X(HEALTH, TIME, health_timeout, "3", "3", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "When a probe without answer, connecting included, has failed; 0 means never.") \
	X(HEALTH, STR, health_query, "", "", 0, 0, "", NONE, CONF_R, \
	  "Query that a probe runs beside the built-in one, which also finds the role; an endpoint where it fails, or is " \
	  "too late, counts as unreachable. Empty means none.") \
	X(HEALTH, STR, health_user, "", "", 0, 0, "", NONE, CONF_R, \
	  "User that probes log in as; needs no rights. Empty means the forced user of a database, else auth_user. Without a " \
	  "login a probe sees only whether the server answers.") \
	X(HEALTH, STR, health_password, "", "", 0, 0, "", NONE, CONF_R | CONF_F_SECRET, \
	  "Password of that user; empty means the one in auth_file, if it is there in plain text.") \
	X(HEALTH, STR, health_dbname, "", "", 0, 0, "", NONE, CONF_R, \
	  "Database that probes log in to; empty means one of those that name the endpoint.") \
	X(HEALTH, ENUM, target_session_attrs, "any", "any", 0, 0, "", SESSION_ATTRS, CONF_R, \
	  "Role that a host must have to be used: any, read-write (a primary that takes writes), read-only, primary, standby, or " \
	  "prefer-standby (any, if there is no standby).") \
	\
	X(RETRY, ENUM, retry, "off", "off", 0, 0, "", RETRY, CONF_R, \
	  "Whether the pooler repeats statements that failed, in transaction and statement mode: safe repeats a single " \
	  "statement outside of a transaction that has left nothing behind, after a conflict with others (40001, 40P01) or " \
	  "when its server was lost before anything of it was sent.") \
	X(RETRY, UINT, retry_max_attempts, "3", "3", 1, 100, "", NONE, CONF_R, \
	  "Attempts in all, the first included.") \
	X(RETRY, UINT, retry_budget, "20", "20", 0, 100, "%", NONE, CONF_R, \
	  "Repetitions that statements may have, as a share of those that are sent outside of a transaction block, in each pool " \
	  "and worker.") \
	\
	X(DNS, TIME, dns_max_ttl, "15", "15", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long the address of a host name is used again.") \
	X(DNS, TIME, dns_nxdomain_ttl, "15", "15", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "How long a failed look-up is remembered.") \
	X(DNS, TIME, dns_zone_check_period, "0", "0", 0, CONF_TIME_MAX, "s", NONE, CONF_R, \
	  "Time between two looks at the serial number of the zone of each host name; a new one has all its names looked up " \
	  "again; 0 means none.") \
	X(DNS, STR, resolv_conf, "", "", 0, 0, "", NONE, CONF_S, \
	  "File to use instead of /etc/resolv.conf.") \
	\
	X(TLS_CLIENT, ENUM, client_tls_sslmode, "disable", "disable", 0, 0, "", SSLMODE, CONF_R, \
	  "Whether clients may or must use TLS, and whether they must show a certificate.") \
	X(TLS_CLIENT, STR, client_tls_key_file, "", "", 0, 0, "", NONE, CONF_R, \
	  "Private key of the pooler.") \
	X(TLS_CLIENT, STR, client_tls_cert_file, "", "", 0, 0, "", NONE, CONF_R, \
	  "Certificate of the pooler, followed by those of the authorities between it and the root.") \
	X(TLS_CLIENT, STR, client_tls_ca_file, "", "", 0, 0, "", NONE, CONF_R, \
	  "Root certificates that client certificates are checked against; empty means those of the system, which verify-full " \
	  "does not take: it needs a file.") \
	X(TLS_CLIENT, STR, client_tls_protocols, "secure", "secure", 0, 0, "", NONE, CONF_R, \
	  "Versions to allow: tlsv1.0 to tlsv1.3, all, or secure (1.2 and 1.3); !x removes one.") \
	X(TLS_CLIENT, STR, client_tls_ciphers, "default", "default", 0, 0, "", NONE, CONF_R, \
	  "Cipher list up to TLS 1.2, in OpenSSL's notation.") \
	X(TLS_CLIENT, STR, client_tls13_ciphers, NULL, NULL, 0, 0, "", NONE, CONF_R, \
	  "Cipher suites for TLS 1.3; unset means OpenSSL's.") \
	X(TLS_CLIENT, STR, client_tls_dheparams, "auto", "auto", 0, 0, "", NONE, CONF_R, \
	  "DHE key exchange: auto or none.") \
	X(TLS_CLIENT, STR, client_tls_ecdhcurve, "auto", "auto", 0, 0, "", NONE, CONF_R, \
	  "Curve for the ECDHE key exchange: auto, none (up to TLS 1.2) or a name.") \
	X(TLS_CLIENT, UINT, client_tls_session_cache, "0", "1000", 0, UINT_MAX, "", NONE, CONF_R, \
	  "More than 0 lets clients resume TLS sessions by tickets, and is how many sessions are remembered of clients of TLS 1.2 " \
	  "that keep no tickets; 0 means that every connection has a whole handshake.") \
	\
	X(TLS_SERVER, ENUM, server_tls_sslmode, "prefer", "prefer", 0, 0, "", SSLMODE, CONF_RX, \
	  "Whether to use TLS to servers, and what to check of their certificate.") \
	X(TLS_SERVER, ENUM, server_tls_sslnegotiation, "postgres", "postgres", 0, 0, "", SSLNEGOTIATION, CONF_RX, \
	  "How TLS begins: postgres asks first, direct starts with the handshake.") \
	X(TLS_SERVER, STR, server_tls_ca_file, "", "", 0, 0, "", NONE, CONF_RX, \
	  "Root certificates that servers are checked against; empty means those of the system.") \
	X(TLS_SERVER, STR, server_tls_key_file, "", "", 0, 0, "", NONE, CONF_RX, \
	  "Private key to show to servers.") \
	X(TLS_SERVER, STR, server_tls_cert_file, "", "", 0, 0, "", NONE, CONF_RX, \
	  "Certificate to show to servers.") \
	X(TLS_SERVER, STR, server_tls_protocols, "secure", "secure", 0, 0, "", NONE, CONF_RX, \
	  "Versions to allow, as for client_tls_protocols.") \
	X(TLS_SERVER, STR, server_tls_ciphers, "default", "default", 0, 0, "", NONE, CONF_RX, \
	  "Cipher list up to TLS 1.2, in OpenSSL's notation.") \
	X(TLS_SERVER, STR, server_tls13_ciphers, NULL, NULL, 0, 0, "", NONE, CONF_RX, \
	  "Cipher suites for TLS 1.3; unset means OpenSSL's.") \
	\
	X(NET, FLAG, so_reuseport, "0", "0", 0, 0, "", NONE, CONF_S, \
	  "Let several processes listen on the same TCP port.") \
	X(NET, FLAG, tcp_defer_accept, "1", "1", 0, 0, "", NONE, CONF_R, \
	  "Accept a TCP connection only once its first bytes are there, at most a second later.") \
	X(NET, INT, tcp_socket_buffer, "0", "0", 0, INT_MAX, "bytes", NONE, CONF_RC, \
	  "Kernel buffer of each TCP socket, both directions; 0 means the system's choice.") \
	X(NET, FLAG, tcp_keepalive, "1", "1", 0, 0, "", NONE, CONF_R, \
	  "Ask idle TCP connections for a sign of life.") \
	X(NET, INT, tcp_keepcnt, "0", "0", 0, INT_MAX, "", NONE, CONF_RC, \
	  "Unanswered signs after which a TCP connection is dead; 0 means the system's choice.") \
	X(NET, INT, tcp_keepidle, "0", "0", 0, INT_MAX, "s", NONE, CONF_RC, \
	  "Idle time before the first sign; 0 means the system's choice.") \
	X(NET, INT, tcp_keepintvl, "0", "0", 0, INT_MAX, "s", NONE, CONF_RC, \
	  "Time between two signs; 0 means the system's choice.") \
	X(NET, INT, tcp_user_timeout, "0", "0", 0, INT_MAX, "ms", NONE, CONF_RC, \
	  "How long sent bytes may stay unacknowledged before a TCP connection is dead; 0 means the system's choice.") \
	X(NET, INT, pkt_buf, "4096", "4096", 0, INT_MAX, "bytes", NONE, CONF_SN | CONF_F_CLAMP, \
	  "Without effect; buffers grow and shrink with what they hold.") \
	X(NET, INT, sbuf_loopcnt, "5", "5", 0, INT_MAX, "", NONE, CONF_RN | CONF_F_CLAMP, \
	  "Without effect; how much one connection may do per turn is chosen by the pooler.")

/*
 * Keys of a line in [databases]: X(type, name, flags, help). Types: STR; HOSTS;
 * PORT; PORTS, one or one for each host; SIZE, a count where a negative one
 * inherits; LIMIT, a count where 0 and less inherits; SECS0, whole seconds where
 * 0 and less inherits; SECS, whole seconds where less than 0 inherits; TIME,
 * seconds with fractions, likewise; MODE; BALANCE; ATTRS; ACTION, of query_timeout; OPEN, of breakers; RETRY.
 */
#define CONF_DB_TABLE(X) \
	X(STR, dbname, CONF_F_RECYCLE, "Database on the server; unset means the name of the entry.") \
	X(HOSTS, host, CONF_F_RECYCLE, "Host names or addresses, separated by commas, or the directory of a Unix socket; " \
	  "unset means unix_socket_dir.") \
	X(PORTS, port, CONF_F_RECYCLE, "Port of every host, or one for each, separated by commas; 5432 when unset.") \
	X(STR, user, CONF_F_RECYCLE, "User for the server; then all clients of the database share one pool.") \
	X(STR, password, CONF_F_SECRET, "Password of that user; unset means the one in auth_file.") \
	X(STR, auth_user, 0, "Instead of the setting auth_user.") \
	X(STR, auth_query, CONF_F_RECYCLE, "Instead of the setting auth_query.") \
	X(STR, auth_dbname, CONF_F_RECYCLE, "Instead of the setting auth_dbname.") \
	X(SIZE, pool_size, 0, "Instead of default_pool_size; negative inherits.") \
	X(SIZE, min_pool_size, 0, "Instead of min_pool_size; negative inherits.") \
	X(SIZE, reserve_pool_size, 0, "Instead of reserve_pool_size; negative inherits. reserve_pool is the same key.") \
	X(MODE, pool_mode, 0, "Instead of pool_mode.") \
	X(LIMIT, max_db_connections, 0, "Instead of max_db_connections; 0 inherits.") \
	X(LIMIT, max_db_client_connections, 0, "Instead of max_db_client_connections; 0 inherits.") \
	X(SIZE, max_waiting_clients, 0, "Instead of max_waiting_clients; negative inherits, 0 means no limit.") \
	X(SECS0, server_lifetime, 0, "Instead of server_lifetime, in whole seconds; 0 inherits.") \
	X(SECS, query_wait_timeout, 0, "Instead of query_wait_timeout, in whole seconds; 0 means no limit.") \
	X(TIME, query_timeout, 0, "Instead of query_timeout; 0 means no limit.") \
	X(ACTION, query_timeout_action, 0, "Instead of query_timeout_action.") \
	X(TIME, cancel_grace, 0, "Instead of cancel_grace.") \
	X(BALANCE, load_balance_hosts, CONF_F_RECYCLE, "How one of several hosts is chosen: round-robin or disable.") \
	X(ATTRS, target_session_attrs, 0, "Instead of target_session_attrs.") \
	X(SIZE, breaker_failure_threshold, 0, "Instead of breaker_failure_threshold; negative inherits. With this or one of the next " \
	  "six keys the database has breakers of its own.") \
	X(SIZE, breaker_failure_rate, 0, "Instead of breaker_failure_rate; negative inherits.") \
	X(TIME, breaker_window, 0, "Instead of breaker_window; negative inherits.") \
	X(SIZE, breaker_min_calls, 0, "Instead of breaker_min_calls; negative inherits.") \
	X(TIME, breaker_recovery_timeout, 0, "Instead of breaker_recovery_timeout; negative inherits.") \
	X(TIME, breaker_recovery_max, 0, "Instead of breaker_recovery_max; negative inherits.") \
	X(SIZE, breaker_success_threshold, 0, "Instead of breaker_success_threshold; negative inherits.") \
	X(SIZE, breaker_max_eject, 0, "Instead of breaker_max_eject; negative inherits.") \
	X(OPEN, breaker_open_action, 0, "Instead of breaker_open_action.") \
	X(RETRY, retry, 0, "Instead of retry.") \
	X(LIMIT, retry_max_attempts, 0, "Instead of retry_max_attempts; 0 inherits.") \
	X(SIZE, retry_budget, 0, "Instead of retry_budget; negative inherits.") \
	X(STR, connect_query, CONF_F_RECYCLE, "Query to run on each new connection before it is used.") \
	X(STR, client_encoding, 0, "Start-up parameter for the server.") \
	X(STR, datestyle, 0, "Start-up parameter for the server.") \
	X(STR, timezone, 0, "Start-up parameter for the server.") \
	X(STR, application_name, 0, "Start-up parameter for the server.")

/* Keys of a line in [users], as above. */
#define CONF_USER_TABLE(X) \
	X(MODE, pool_mode, 0, "Instead of the pool_mode of the database and of the settings.") \
	X(SIZE, pool_size, 0, "Instead of the pool_size of the database and default_pool_size; negative inherits.") \
	X(SIZE, reserve_pool_size, 0, "Instead of the reserve_pool_size of the database and of the settings; negative inherits.") \
	X(LIMIT, max_user_connections, 0, "Instead of max_user_connections; 0 inherits.") \
	X(LIMIT, max_user_client_connections, 0, "Instead of max_user_client_connections; 0 inherits.") \
	X(SECS0, query_timeout, 0, "Instead of query_timeout, in whole seconds; 0 inherits.") \
	X(ACTION, query_timeout_action, 0, "Instead of the query_timeout_action of the database and of the settings.") \
	X(SECS0, idle_transaction_timeout, 0, "Instead of idle_transaction_timeout, in whole seconds; 0 inherits.") \
	X(SECS0, transaction_timeout, 0, "Instead of transaction_timeout, in whole seconds; 0 inherits.") \
	X(SECS, query_wait_timeout, 0, "Instead of query_wait_timeout, in whole seconds; 0 means no limit.") \
	X(SECS0, client_idle_timeout, 0, "Instead of client_idle_timeout, in whole seconds; 0 inherits.") \
	X(RETRY, retry, 0, "Instead of the retry of the database and of the settings.") \
	X(LIMIT, retry_max_attempts, 0, "Instead of the retry_max_attempts of the database and of the settings; 0 inherits.") \
	X(SIZE, retry_budget, 0, "Instead of the retry_budget of the database and of the settings; negative inherits.")

/* Keys of a line in [peers], as above. */
#define CONF_PEER_TABLE(X) \
	X(STR, host, 0, "Address of the peer or directory of its Unix socket; must be there.") \
	X(PORT, port, 0, "Port of the peer; 6432 when unset.") \
	X(SIZE, pool_size, 0, "Connections for cancel requests; negative means default_pool_size.")

/* clang-format on */

#endif
