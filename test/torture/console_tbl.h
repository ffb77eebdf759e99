/*
 * The commands of the administrator, a row each; included by console.c.
 *
 * ACTION(sql, kind, per database, weight, window, window stays, undo, undo after at most ms, permitted errors)
 */
#define NO_DB    "no such database: *"
#define PAUSED   "already suspended/paused"
#define UNDONE   "* was undone before it was complete|canceled by the user"
#define NOT_NOW  "cannot suspend with paused databases"
#define NO_DRAIN "cannot drain while suspended|invalid command*"

ACTION("PAUSE", KIND_PAUSE, false, 3, -1, false, "RESUME", 1200, PAUSED "|" UNDONE)
ACTION("PAUSE %s", KIND_PAUSE, true, 6, -1, false, "RESUME %s", 1200, PAUSED "|" NO_DB "|" UNDONE)
ACTION("KILL", KIND_PLAIN, false, 1, WINDOW_KILL, false, "RESUME %s", 300, PAUSED)
ACTION("KILL %s", KIND_PLAIN, true, 2, WINDOW_KILL, false, "RESUME %s", 300, PAUSED "|" NO_DB)
ACTION("SHOW CLIENTS", KIND_VICTIM, false, 10, -1, false, NULL, 0, "")
ACTION("RECONNECT", KIND_PLAIN, false, 4, -1, false, NULL, 0, "")
ACTION("RECONNECT %s", KIND_PLAIN, true, 6, -1, false, NULL, 0, NO_DB)
ACTION("DISABLE %s", KIND_PLAIN, true, 2, WINDOW_DISABLE, true, "ENABLE %s", 500, NO_DB)
ACTION("DRAIN %s WITHIN 1", KIND_PLAIN, true, 3, WINDOW_DRAIN, true, "ENABLE %s", 1500, NO_DB "|" NO_DRAIN "|" UNDONE)
ACTION("WAIT_CLOSE", KIND_PLAIN, false, 3, -1, false, NULL, 0, "canceled by the user")
ACTION("WAIT_CLOSE %s", KIND_PLAIN, true, 3, -1, false, NULL, 0, NO_DB "|canceled by the user")
ACTION("RELOAD", KIND_SIZES, false, 14, -1, false, NULL, 0, "")
ACTION("RELOAD", KIND_VANISH, false, 2, WINDOW_REMOVE, true, "RELOAD", 600, "")
ACTION("SET", KIND_SET, false, 12, -1, false, NULL, 0, "")
ACTION("SET query_wait_timeout=1", KIND_PLAIN, false, 1, WINDOW_PATIENCE, true, "SET query_wait_timeout=120", 2500, "")
ACTION("SET max_client_conn=20", KIND_PLAIN, false, 1, WINDOW_FULL, true, "SET max_client_conn=5000", 400, "")
ACTION("SUSPEND", KIND_PLAIN, false, 2, WINDOW_SUSPEND, true, "RESUME", 500, PAUSED "|" NOT_NOW "|" UNDONE)
ACTION("SHOW", KIND_SHOW, false, 8, -1, false, NULL, 0, "")
