/*
 * The errors of the console: a macro for each, which stands for three arguments
 * of console_finish_error(): SQLSTATE, hint (or NULL), and the format of the
 * text. So the compiler compares the format with what follows it. Texts of
 * errors that PgBouncer has are PgBouncer's.
 */
#ifndef PGSLUICE_ADMIN_CONSOLE_ERRORS_H
#define PGSLUICE_ADMIN_CONSOLE_ERRORS_H

#define CONSOLE_E_HINT_STATE "SHOW STATE tells whether everything is paused, SHOW DATABASES which database is."

/* commands as such */
#define CONSOLE_E_INVALID    "42601", NULL, "invalid command '%.*s', use SHOW HELP;"
#define CONSOLE_E_BAD_ARGS   "42601", NULL, "bad arguments"
#define CONSOLE_E_RIGHTS     "42501", "The setting admin_users names those who may do this.", "admin access needed"
#define CONSOLE_E_CANCELED   "57014", NULL, "canceled by the user"
#define CONSOLE_E_TAKEN \
	"55000", "Wait until that process has taken over, or has given up.", "another process is taking over"

/* what a command names */
#define CONSOLE_E_ADMIN_DB        "42501", NULL, "cannot %s admin db: %s"
#define CONSOLE_E_NO_DB           "3D000", "SHOW DATABASES lists the databases.", "no such database: %s"
#define CONSOLE_E_NEEDS_DB        "42601", "SHOW DATABASES lists the databases.", "a database is required"
#define CONSOLE_E_NO_ENDPOINT     "42704", "SHOW ENDPOINTS lists them.", "no such endpoint: %s"
#define CONSOLE_E_NO_CLIENT       "42704", "SHOW CLIENTS lists the clients.", "client not found"
#define CONSOLE_E_BAD_CLIENT      "22P02", "SHOW CLIENTS lists the clients.", "invalid client pointer supplied"
#define CONSOLE_E_BAD_SECONDS     "22P02", "WITHIN takes whole seconds, such as 60.", "invalid number of seconds: %s"
#define CONSOLE_E_SET             "22023", "The log says why; SHOW CONFIG lists the settings.", "SET failed"

/* PAUSE, SUSPEND, DRAIN, RESUME */
#define CONSOLE_E_PAUSED          "55000", CONSOLE_E_HINT_STATE, "already suspended/paused"
#define CONSOLE_E_PAUSED_DBS      "55000", CONSOLE_E_HINT_STATE, "cannot suspend with paused databases"
#define CONSOLE_E_NOT_PAUSED      "55000", CONSOLE_E_HINT_STATE, "pooler is not paused/suspended"
#define CONSOLE_E_DB_NOT_PAUSED   "55000", CONSOLE_E_HINT_STATE, "database %s is not paused"
#define CONSOLE_E_DRAIN_SUSPENDED "55000", "End that with RESUME first.", "cannot drain while suspended"
#define CONSOLE_E_SHUTTING_DOWN   "57P01", NULL, "pooler is shutting down"
#define CONSOLE_E_UNDONE          "57014", NULL, "%s was undone before it was complete"

/* the extended protocol */
#define CONSOLE_E_MALFORMED       "08P01", NULL, "malformed message of the extended protocol"
#define CONSOLE_E_PARAMETERS      "08P01", NULL, "commands of the console have no parameters"
#define CONSOLE_E_TEXTS           "53400", "Close some of them.", "too many prepared statements on the console"
#define CONSOLE_E_STATEMENT_TWICE "42P05", NULL, "prepared statement \"%.*s\" already exists"
#define CONSOLE_E_CURSOR_TWICE    "42P03", NULL, "cursor \"%.*s\" already exists"
#define CONSOLE_E_NO_STATEMENT    "26000", NULL, "prepared statement \"%.*s\" does not exist"
#define CONSOLE_E_NO_PORTAL       "34000", NULL, "portal \"%.*s\" does not exist"

#endif
