/*
 * SHOW FDS and SHOW HANDOVER: one row per socket, for a process that takes
 * over from this one. SHOW FDS has PgBouncer's columns; SHOW HANDOVER says
 * besides what only pgsluice has use for (pool/handover.h).
 *
 * The descriptors go with the rows, one with each, when everything is
 * suspended and the session is one of our own system user on a Unix socket;
 * from then on the sockets are shared with that process, and this one must not
 * say goodbye on any of them (engine->handed_over).
 */
#include "admin/show.h"
#include "core/alloc.h"
#include "net/sock.h"
#include "pool/handover.h"
#include "pool/handover_stmt.h"
#include "pool/health.h"
#include "pool/registry_walk.h"
#include "pool/route.h"
#include "pool/suspend.h"
#include "proto/build.h"

/* Longest text of a set of parameters, or of a state. */
#define FDS_TEXT_MAX (1024 * 1024)

struct fds_row {
	int64_t fd;
	const char *task;
	const char *user;
	const char *database;
	char addr[SOCK_ADDR_TEXT];
	int64_t port;
	int64_t cancel;
	int64_t link;
	const char *client_encoding;
	const char *std_strings;
	const char *datestyle;
	const char *timezone;
	const char *password;
	const char *scram_client_key;
	const char *scram_server_key;
	const char *parameters;
	const char *state;
};

#define COL(name, oid, kind, field, help)                              \
	{                                                              \
		name, oid, kind, offsetof(struct fds_row, field), help \
	}

#define FDS_COLUMNS                                                                                                    \
	COL("fd", OID_INT4, SHOW_INT, fd, "number of the descriptor in this process"),                                 \
		COL("task", OID_TEXT, SHOW_TEXT, task,                                                                 \
		    "pooler for a listening socket, client or server; statements for a file of these, salts for "      \
		    "their key, health for an endpoint"),                                                              \
		COL("user", OID_TEXT, SHOW_TEXT, user, "user of the session"),                                         \
		COL("database", OID_TEXT, SHOW_TEXT, database, "database of the session"),                             \
		COL("addr", OID_TEXT, SHOW_CHARS, addr, "address of the other end"),                                   \
		COL("port", OID_INT4, SHOW_INT, port, "port of the other end"),                                        \
		COL("cancel", OID_INT8, SHOW_INT, cancel, "cancel key, as a number"),                                  \
		COL("link", OID_INT4, SHOW_INT, link, "fd of the client or server it is linked to; 0: none"),          \
		COL("client_encoding", OID_TEXT, SHOW_TEXT, client_encoding, "parameter of the session"),              \
		COL("std_strings", OID_TEXT, SHOW_TEXT, std_strings, "parameter standard_conforming_strings"),         \
		COL("datestyle", OID_TEXT, SHOW_TEXT, datestyle, "parameter of the session"),                          \
		COL("timezone", OID_TEXT, SHOW_TEXT, timezone, "parameter of the session"),                            \
		COL("password", OID_TEXT, SHOW_TEXT, password, "what the user has logged in with, if no file has it"), \
		COL("scram_client_key", OID_BYTEA, SHOW_TEXT, scram_client_key,                                        \
		    "the user's key for SCRAM logins to servers"),                                                     \
		COL("scram_server_key", OID_BYTEA, SHOW_TEXT, scram_server_key, "the key that goes with it")

static const struct show_column fds_columns[] = { FDS_COLUMNS };

static const struct show_column handover_columns[] = {
	FDS_COLUMNS,
	COL("parameters", OID_TEXT, SHOW_TEXT, parameters, "all parameters that follow the session"),
	COL("state", OID_TEXT, SHOW_TEXT, state, "where the session stands, in the terms of this version"),
};

/* ---- on the workers ---- */

static int64_t fds_fill_addr(const struct sock_addr *addr, int64_t unix_port, char *dst, size_t size)
{
	sock_addr_host(addr, dst, size);
	return sock_addr_is_unix(addr) ? unix_port : sock_addr_port(addr);
}

/* A copy of what a buffer holds, as text that lives as long as the rows; the buffer is given back. */
static const char *fds_keep_buf(struct show_rows *out, struct buf *b, int err)
{
	const char *text = NULL;

	if (err == 0)
		err = buf_append(b, "", 1);
	if (err == 0)
		text = show_keep_text(out, (const char *)buf_ptr(b));
	buf_fini(b);
	return text;
}

static const char *fds_keep_var(struct show_rows *out, const struct varset *vars, const char *name)
{
	int i = vars_index(slice_of(name));

	return i < 0 ? NULL : show_keep_text(out, vars_get(vars, i));
}

static void fds_fill_vars(struct show_rows *out, struct fds_row *row, const struct varset *vars)
{
	struct buf b;

	row->client_encoding = fds_keep_var(out, vars, "client_encoding");
	row->std_strings = fds_keep_var(out, vars, "standard_conforming_strings");
	row->datestyle = fds_keep_var(out, vars, "DateStyle");
	row->timezone = fds_keep_var(out, vars, "TimeZone");
	buf_init(&b, FDS_TEXT_MAX);
	row->parameters = fds_keep_buf(out, &b, handover_save_vars(vars, &b));
}

static const char *fds_keep_bytes(struct show_rows *out, const uint8_t *p, size_t n)
{
	char text[2 * SCRAM_KEY_LEN + 3] = "\\x";
	const char *kept;

	for (size_t i = 0; i < n; i++)
		str_append(text, sizeof(text), "%02x", p[i]);
	kept = show_keep_text(out, text);
	mem_wipe(text, sizeof(text));
	return kept;
}

static void fds_set_keys(struct show_rows *out, struct fds_row *row, const struct scram_keys *keys)
{
	row->scram_client_key = fds_keep_bytes(out, keys->client_key, sizeof(keys->client_key));
	row->scram_server_key = fds_keep_bytes(out, keys->server_key, sizeof(keys->server_key));
}

/* What logs in to servers: it goes with the sockets only, and is not for whoever has a look. */
static void fds_fill_keys(struct show_rows *out, struct fds_row *row, const struct client *client)
{
	struct engine *engine = client->pool->engine;
	struct pool_secret *secret = NULL;
	struct scram_keys keys;

	if (client->account == client->pool->account && atomic_load(&engine->handed_over))
		secret = route_copy_secret(client->pool);
	if (secret != NULL) {
		row->password = show_keep_text(out, secret->secret.text);
		if (secret->has_keys)
			fds_set_keys(out, row, &secret->keys);
	} else if (route_copy_keys(engine, client->account, &keys)) {
		fds_set_keys(out, row, &keys);
		mem_wipe(&keys, sizeof(keys));
	}
	pool_secret_free(&secret);
}

/* As many bytes of a key as the column takes; the whole of a longer one is in the state. */
static int64_t fds_key(const uint8_t head[4], const uint8_t *tail)
{
	uint64_t key = 0;

	for (size_t i = 0; i < 4; i++)
		key = key << 8 | head[i];
	for (size_t i = 0; i < 4; i++)
		key = key << 8 | tail[i];
	return (int64_t)key;
}

static void fds_add_client(struct show_rows *out, const struct client *client)
{
	struct fds_row *row = show_add_row(out);
	struct sock_addr addr;
	struct buf b;

	row->fd = client->stream.fd;
	row->task = "client";
	row->user = show_keep_text(out, client->account->name);
	row->database = show_keep_text(out, client->pool->db->name);
	if (sock_remote_addr(client->stream.fd, &addr) == 0)
		row->port = fds_fill_addr(&addr, client->part->worker->ctx.snap->conf->listen_port, row->addr,
					  sizeof(row->addr));
	row->cancel = fds_key(client->cancel_key, client->cancel_key + 4);
	row->link = client->server == NULL ? 0 : client->server->stream.fd;
	fds_fill_vars(out, row, client->vars);
	fds_fill_keys(out, row, client);
	buf_init(&b, FDS_TEXT_MAX);
	row->state = fds_keep_buf(out, &b, handover_save_client(client, &b));
}

static void fds_add_server(struct show_rows *out, const struct server *server)
{
	struct fds_row *row = show_add_row(out);
	const uint8_t pid[4] = { (uint8_t)(server->backend_pid >> 24), (uint8_t)(server->backend_pid >> 16),
				 (uint8_t)(server->backend_pid >> 8), (uint8_t)server->backend_pid };
	struct buf b;

	row->fd = server->stream.fd;
	row->task = "server";
	row->user = show_keep_text(out, server->pool->account->name);
	row->database = show_keep_text(out, server->pool->db->name);
	row->port = fds_fill_addr(&server->addr, server_port(server), row->addr, sizeof(row->addr));
	row->cancel = fds_key(pid, server->backend_key);
	row->link = server->client == NULL ? 0 : server->client->stream.fd;
	fds_fill_vars(out, row, server->vars);
	buf_init(&b, FDS_TEXT_MAX);
	row->state = fds_keep_buf(out, &b, handover_save_server(server, &b));
}

/* What may be told of sessions, besides that they are there. */
struct fds_scope {
	bool is_plain;        /* nothing that is for pgsluice only */
	bool with_statements; /* those are told otherwise */
};

/*
 * True for what only pgsluice goes on with: a client that waits with what was
 * read of it, who replicates, and who is in a transaction that has lost its server.
 */
static bool fds_is_for_pgsluice(const struct client *client)
{
	return client->replication != NULL || client->state == CL_FAILED || !buf_is_empty(&client->stream.in);
}

static bool fds_may_give_client(const struct fds_scope *scope, const struct client *client)
{
	return handover_can_give_client(client) && !(scope->is_plain && fds_is_for_pgsluice(client)) &&
	       (scope->with_statements || client->prep.count == 0);
}

static bool fds_may_give_server(const struct fds_scope *scope, const struct server *server)
{
	if (!handover_can_give_server(server) || (scope->is_plain && prep_server_has_records(&server->prep)))
		return false;
	return scope->with_statements ||
	       (server->prep.count == 0 && (scope->is_plain || server->prep.record_count == 0));
}

/* Tells of the sessions; if somebody is about to take over they are given, and what is linked only together. */
static void fds_visit_sessions(struct worker *worker, struct show_rows *out, const struct fds_scope *scope)
{
	bool is_given = atomic_load(&worker->ctx.engine->handed_over);
	struct pool_part *part;
	struct client *client;
	struct server *server;

	TAILQ_FOREACH (part, &worker->parts, entry) {
		TAILQ_FOREACH (client, &part->clients, entry)
			if (fds_may_give_client(scope, client) &&
			    (client->server == NULL || fds_may_give_server(scope, client->server))) {
				fds_add_client(out, client);
				client->is_given = is_given;
			}
		TAILQ_FOREACH (server, &part->servers, entry)
			if (fds_may_give_server(scope, server) &&
			    (server->client == NULL || fds_may_give_client(scope, server->client))) {
				fds_add_server(out, server);
				server->is_given = is_given;
			}
	}
}

/*
 * Files with statements, one for each worker, which touches its own only. They
 * are open until the next ones are made, or the process ends.
 */
static int fds_stmt_files[ENGINE_WORKERS_MAX];

/* The row of a new file; false when there is none, though somebody is about to take over. */
static bool fds_add_statements(struct worker *worker, struct show_rows *out)
{
	struct fds_row *row;
	int fd;

	if (!atomic_load(&worker->ctx.engine->handed_over))
		return true;
	fd = handover_stmt_save(worker);
	if (fd < 0)
		return false;
	if (fds_stmt_files[worker->index] > 0)
		close(fds_stmt_files[worker->index]);
	fds_stmt_files[worker->index] = fd;
	row = show_add_row(out);
	row->fd = fd;
	row->task = HANDOVER_STMT_TASK;
	return true;
}

static bool fds_visit(struct show_visit *visit)
{
	const struct fds_scope scope = { .is_plain = true };

	if (visit->worker != NULL && visit->worker->suspended) /* else nothing can be given away */
		fds_visit_sessions(visit->worker, visit->rows, &scope);
	return false;
}

static bool handover_visit(struct show_visit *visit)
{
	struct fds_scope scope = { .is_plain = false };

	if (visit->worker == NULL || !visit->worker->suspended)
		return false;
	scope.with_statements = fds_add_statements(visit->worker, visit->rows);
	fds_visit_sessions(visit->worker, visit->rows, &scope);
	return false;
}

/* ---- on the control loop ---- */

static void fds_add_listeners(struct show *show)
{
	const struct listener_set *set = show->engine->listeners;

	for (size_t i = 0; set != NULL && i < listener_set_count(set); i++) {
		const struct listener *listener = listener_set_get(set, i);
		struct fds_row *row = show_add_row(&show->rows);

		row->fd = listener->fd;
		row->task = "pooler";
		row->port = fds_fill_addr(&listener->addr, show->snap->conf->listen_port, row->addr, sizeof(row->addr));
	}
}

static void fds_fill(struct show *show)
{
	fds_add_listeners(show);
	for (unsigned i = 0; i < show->part_count; i++)
		for (size_t j = 0; j < show->parts[i].count; j++)
			memcpy(show_add_row(&show->rows), show_row(&show->parts[i], j), sizeof(struct fds_row));
}

/*
 * True when rows that have no descriptor of their own can be told to whoever
 * takes over: with each of them goes one of a listening socket.
 */
static bool handover_is_for_taker(const struct engine *engine)
{
	return atomic_load(&engine->handed_over) && engine->listeners != NULL &&
	       listener_set_count(engine->listeners) > 0;
}

/* The key of the salts. */
static void handover_add_salt_key(struct show *show)
{
	const struct engine *engine = show->engine;
	struct fds_row *row = show_add_row(&show->rows);

	row->fd = listener_set_get(engine->listeners, 0)->fd;
	row->task = HANDOVER_SALTS_TASK;
	row->scram_server_key = fds_keep_bytes(&show->rows, engine->salt_key, sizeof(engine->salt_key));
}

static void handover_add_endpoint(const char *text, void *arg)
{
	struct show *show = arg;
	struct fds_row *row = show_add_row(&show->rows);

	row->fd = listener_set_get(show->engine->listeners, 0)->fd;
	row->task = HANDOVER_HEALTH_TASK;
	row->state = show_keep_text(&show->rows, text);
}

static void handover_fill(struct show *show)
{
	fds_fill(show);
	if (!handover_is_for_taker(show->engine))
		return;
	handover_add_salt_key(show);
	health_save(show->engine->health, handover_add_endpoint, show);
}

/*
 * The session becomes the one that takes over, if it may. Already here, not
 * with the first row: what other sessions do to a connection after a loop has
 * told of it would meet a socket that is on its way to another process.
 */
static void fds_begin(struct console *console)
{
	struct engine *engine = console->admin->engine;
	uid_t uid;

	if (console->peer.family != AF_UNIX || !suspend_is_complete(engine->suspend) || admin_is_taken(console) ||
	    sock_peer_cred(console->stream.fd, &uid, NULL) != 0 || uid != geteuid())
		return;
	atomic_store(&engine->handed_over, true);
	console->admin->taker_id = console->id;
}

/* The descriptor that goes with a row; -1 for sessions that must not have it. */
static int fds_descriptor(struct console *console, const void *row)
{
	const struct admin *admin = console->admin;

	if (!atomic_load(&admin->engine->handed_over) || admin->taker_id != console->id)
		return -1;
	return (int)((const struct fds_row *)row)->fd;
}

const struct show_table show_fds = {
	.name = "FDS",
	.help = "All sockets, for a process that takes over. The sockets themselves go with the rows when everything "
		"is "
		"suspended and the session is one of the same system user on the Unix socket.",
	.right = COMMAND_FOR_ADMIN,
	.in_help = true,
	.columns = fds_columns,
	.column_count = ARRAY_LEN(fds_columns),
	.row_size = sizeof(struct fds_row),
	.part_row_size = sizeof(struct fds_row),
	.visit = fds_visit,
	.fill = fds_fill,
	.begin = fds_begin,
	.descriptor = fds_descriptor,
};

const struct show_table show_handover = {
	.name = "HANDOVER",
	.help = "As SHOW FDS, for another pgsluice, which carries more over.",
	.right = COMMAND_FOR_ADMIN,
	.columns = handover_columns,
	.column_count = ARRAY_LEN(handover_columns),
	.row_size = sizeof(struct fds_row),
	.part_row_size = sizeof(struct fds_row),
	.visit = handover_visit,
	.fill = handover_fill,
	.begin = fds_begin,
	.descriptor = fds_descriptor,
};
