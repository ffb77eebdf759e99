/*
 * SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS: one row per connection,
 * described by the loop that owns it. Console sessions and cancel requests for
 * peers are added by the control loop.
 *
 * Clients are described in slices, by the slots that each has for its whole
 * life on a worker: a slice takes up where the last one ended, whatever came or
 * went between the two. Servers, of which there are few, are described in one
 * go; one that is between two workers at that moment is not shown.
 */
#include "admin/show.h"
#include "net/sock.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/login.h"
#include "pool/peer.h"
#include "pool/replication.h"
#include "pool/server.h"
#include "proto/build.h"

/* In one turn of a worker: rows of clients, and slots that are looked at for them. */
#define SOCKET_SLICE_ROWS  64
#define SOCKET_SLICE_SLOTS 1024

/* Where a row stands: with its pool, or behind all pools. */
enum socket_group {
	SOCKET_OF_POOL,
	SOCKET_OF_PEER,
	SOCKET_OF_LOGIN,
};

struct socket_row {
	const char *type; /* C or S */
	const char *user;
	const char *database;
	const char *pool_user; /* for the order of rows */
	const char *replication;
	const char *state;
	struct sock_peer addr;
	struct sock_peer local_addr;
	int64_t port;
	int64_t local_port;
	uint64_t connect_us;
	uint64_t request_us;
	int64_t wait;
	int64_t wait_us;
	int64_t close_needed;
	const void *ptr;
	const void *link;
	int64_t remote_pid;
	const char *tls;
	const char *application_name;
	int64_t prepared_statements;
	int64_t id;
	enum socket_group group;
	const void *pool; /* for comparison only */
	unsigned order;   /* of states within a pool */
	int64_t zero;
	int64_t in_bytes;
	int64_t out_bytes;
	int64_t body_left; /* of the message that is being handed on */
	struct show_waiter waiter;
};

#define COL(name, oid, kind, field, help)                                 \
	{                                                                 \
		name, oid, kind, offsetof(struct socket_row, field), help \
	}

/* The columns that all four tables begin with. */
#define SOCKET_COLUMNS                                                                                              \
	COL("type", OID_TEXT, SHOW_TEXT, type, "C for a client, S for a server"),                                   \
		COL("user", OID_TEXT, SHOW_TEXT, user, "user that logged in"),                                      \
		COL("database", OID_TEXT, SHOW_TEXT, database, "database as the pooler names it"),                  \
		COL("replication", OID_TEXT, SHOW_TEXT, replication,                                                \
		    "what the connection was opened for: none, logical, physical"),                                 \
		COL("state", OID_TEXT, SHOW_TEXT, state,                                                            \
		    "clients: active (linked to a server), idle, waiting; servers: active, idle, used (to be "      \
		    "checked), tested, new, active_cancel, being_canceled; of cancel requests: active_cancel_req, " \
		    "waiting_cancel_req"),                                                                          \
		COL("addr", OID_TEXT, SHOW_ADDR, addr, "address of the other end; unix for a Unix socket"),         \
		COL("port", OID_INT4, SHOW_INT, port, "port of the other end"),                                     \
		COL("local_addr", OID_TEXT, SHOW_ADDR, local_addr, "address of this end"),                          \
		COL("local_port", OID_INT4, SHOW_INT, local_port, "port of this end"),                              \
		COL("connect_time", OID_TEXT, SHOW_TIME, connect_us, "when the connection was made"),               \
		COL("request_time", OID_TEXT, SHOW_TIME, request_us, "when the last message came"),                 \
		COL("wait", OID_INT4, SHOW_INT, wait,                                                               \
		    "seconds since the query of the client came, which waits or runs"),                             \
		COL("wait_us", OID_INT4, SHOW_INT, wait_us, "microseconds beyond these"),                           \
		COL("close_needed", OID_INT4, SHOW_INT, close_needed,                                               \
		    "1 for a server that is closed when it is free"),                                               \
		COL("ptr", OID_TEXT, SHOW_PTR, ptr, "its name in the column link of others"),                       \
		COL("link", OID_TEXT, SHOW_PTR, link, "what it is linked to; empty: nothing"),                      \
		COL("remote_pid", OID_INT4, SHOW_INT, remote_pid, "process at the other end, if known"),            \
		COL("tls", OID_TEXT, SHOW_TEXT, tls, "TLS version and cipher; empty without TLS"),                  \
		COL("application_name", OID_TEXT, SHOW_TEXT, application_name, "application_name of the session"),  \
		COL("prepared_statements", OID_INT4, SHOW_INT, prepared_statements,                                 \
		    "of a client: named statements that follow it; of a server: those it was given"),               \
		COL("id", OID_INT4, SHOW_INT, id, "number for KILL_CLIENT; never used twice")

static const struct show_column show_servers_columns[] = { SOCKET_COLUMNS };

static const struct show_column show_clients_columns[] = {
	SOCKET_COLUMNS,
	SHOW_WAITER_COLUMNS(socket_row, "; NULL when it does not wait"),
};

/* The buffers: what was read and waits to be understood begins at 0, as does what waits to be sent. */
static const struct show_column show_sockets_columns[] = {
	SOCKET_COLUMNS,
	COL("recv_pos", OID_INT4, SHOW_INT, in_bytes, "bytes received that wait"),
	COL("pkt_pos", OID_INT4, SHOW_INT, zero, "always 0"),
	COL("pkt_remain", OID_INT4, SHOW_INT, body_left, "bytes of the current message that have not come yet"),
	COL("send_pos", OID_INT4, SHOW_INT, zero, "always 0"),
	COL("send_remain", OID_INT4, SHOW_INT, zero, "always 0"),
	COL("pkt_avail", OID_INT4, SHOW_INT, in_bytes, "bytes received that wait"),
	COL("send_avail", OID_INT4, SHOW_INT, out_bytes, "bytes to be sent that wait"),
};

/* ---- on the loops ---- */

/* In the order in which the rows of a pool stand. */
static const char *const socket_client_states[] = { "active", "waiting", "active_cancel_req", "waiting_cancel_req" };
static const char *const socket_server_states[] = { "active", "idle",          "used",          "tested",
						    "new",    "active_cancel", "being_canceled" };

static unsigned socket_order(const char *const *states, size_t n, const char *state)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(state, states[i]) == 0)
			return i;
	return 0; /* an idle client stands among the active ones */
}

/* Sets the state that is shown, and the place of the row that goes with it. */
static void socket_set_state(struct socket_row *row, const char *state)
{
	bool is_client = row->type[0] == 'C';

	row->state = state;
	row->order = is_client ? socket_order(socket_client_states, ARRAY_LEN(socket_client_states), state)
			       : socket_order(socket_server_states, ARRAY_LEN(socket_server_states), state);
}

/* A port as shown: of a Unix socket, the one that names it. */
static int64_t socket_port(const struct sock_peer *end, int64_t unix_port)
{
	return end->family == AF_UNIX ? unix_port : end->port;
}

/* Asks the system for an end of the connection. */
static void socket_ask_end(struct sock_peer *end, int fd, int (*ask)(int fd, struct sock_addr *addr))
{
	struct sock_addr addr;

	if (ask(fd, &addr) != 0)
		return;
	sock_peer_set(end, &addr);
	if (sock_addr_is_unix(&addr))
		sock_peer_set_fd(end, fd);
}

static void socket_fill_addrs(struct socket_row *row, int fd, int64_t unix_port)
{
	if (fd < 0)
		return;
	if (row->addr.family == 0)
		socket_ask_end(&row->addr, fd, sock_remote_addr);
	socket_ask_end(&row->local_addr, fd, sock_local_addr);
	row->port = socket_port(&row->addr, unix_port);
	row->local_port = socket_port(&row->local_addr, unix_port);
	row->remote_pid = sock_peer_pid(&row->addr);
}

/* What all rows have in common. `peer` is the remote address where it is known, which saves a call; or NULL. */
static struct socket_row *socket_add_plain_row(struct show_rows *out, const char *type, int fd, const struct tls *tls,
					       const struct sock_peer *peer, int64_t unix_port)
{
	struct socket_row *row = show_add_row(out);
	char info[TLS_INFO_MAX] = "";

	row->type = type;
	row->replication = "none";
	if (tls != NULL)
		tls_info(tls, info, sizeof(info));
	row->tls = show_keep_text(out, info);
	row->application_name = "";
	row->pool_user = "";
	row->waiter = show_no_waiter;
	if (peer != NULL)
		row->addr = *peer;
	socket_fill_addrs(row, fd, unix_port);
	return row;
}

static struct socket_row *socket_add_row(struct show_rows *out, const char *type, const struct stream *stream,
					 const struct sock_peer *peer, int64_t unix_port)
{
	struct socket_row *row = socket_add_plain_row(out, type, stream->fd, stream_tls(stream), peer, unix_port);

	row->in_bytes = buf_len(&stream->in);
	row->out_bytes = buf_len(&stream->out);
	return row;
}

/* The row is one of this pool. */
static void socket_set_pool(struct show_rows *out, struct socket_row *row, const struct pool *pool)
{
	row->pool = pool;
	row->database = show_keep_text(out, pool->db->name);
	row->pool_user = show_keep_text(out, pool->account->name);
}

static void socket_fill_wait(struct socket_row *row, uint64_t now_us, uint64_t since_us)
{
	if (since_us == 0 || since_us > now_us)
		return;
	row->wait = (int64_t)((now_us - since_us) / USEC_PER_SEC);
	row->wait_us = (int64_t)((now_us - since_us) % USEC_PER_SEC);
}

static const char *socket_app_name(struct show_rows *out, const struct varset *vars)
{
	const char *name = vars == NULL ? NULL : vars_get(vars, vars_application_name());

	return name == NULL ? "" : show_keep_text(out, name);
}

static void socket_add_client(const struct show_visit *visit, const struct client *client)
{
	uint64_t now_us = loop_now_us(visit->ctx->loop);
	struct show_rows *out = visit->rows;
	struct socket_row *row;

	row = socket_add_row(out, "C", &client->stream, &client->peer, visit->ctx->snap->conf->listen_port);
	socket_set_pool(out, row, client->pool);
	row->user = show_keep_text(out, client->account->name);
	row->replication = replication_name(client_replication(client));
	row->body_left = (int64_t)client->body_left;
	socket_set_state(row, client_state_name(client->state));
	row->connect_us = client->connect_us;
	row->request_us = client->request_us;
	socket_fill_wait(row, now_us, client->query_us);
	row->ptr = client;
	row->link = client->server != NULL ? client->server : client->awaits;
	row->application_name = socket_app_name(out, client->vars);
	row->prepared_statements = client->prep.count;
	row->id = (int64_t)client->id;
	if (visit->with_own)
		show_describe_waiter(client, &row->waiter);
}

bool show_server_needs_check(const struct server *server, uint64_t now_us)
{
	const struct pool_conf *conf = server->part->conf;
	uint64_t since_us;

	if (server->state != SV_IDLE || conf->check_query == NULL)
		return false;
	lock_acquire(&server->pool->lock);
	since_us = server->idle_us;
	lock_release(&server->pool->lock);
	return since_us > 0 && now_us > since_us && now_us - since_us > conf->server_check_delay_us;
}

static void socket_add_server(const struct pool_part *part, const struct server *server, struct show_rows *out)
{
	uint64_t now_us = loop_now_us(part->worker->ctx.loop);
	struct socket_row *row;

	row = socket_add_row(out, "S", &server->stream, NULL, server_port(server));
	socket_set_pool(out, row, part->pool);
	row->user = row->pool_user;
	row->body_left = (int64_t)server->body_left;
	socket_set_state(row, show_server_needs_check(server, now_us) ? "used" : server_state_name(server->state));
	row->connect_us = server->connect_us;
	row->request_us = server->request_us;
	row->close_needed = server_is_unwanted(server);
	row->ptr = server;
	row->link = server->client != NULL ? server->client : server->awaited_by;
	row->replication = replication_name(server->replication);
	if (row->remote_pid == 0)
		row->remote_pid = server->backend_pid;
	row->application_name = socket_app_name(out, server->vars);
	row->prepared_statements = server->prep.count;
	row->id = (int64_t)server->id;
}

/* ---- cancel requests; on the thread that owns them ---- */

struct socket_cancels {
	struct show_rows *rows;
	int64_t listen_port;
};

static void socket_fill_cancel(struct show_rows *out, struct socket_row *row, const struct cancel_view *view)
{
	bool is_sent = view->conn != NULL && view->conn->sent_us > 0;

	row->user = "(nouser)";
	row->database = "(nodb)";
	row->group = view->pool == NULL ? SOCKET_OF_PEER : SOCKET_OF_POOL;
	if (view->pool != NULL)
		socket_set_pool(out, row, view->pool);
	if (row->type[0] == 'C')
		socket_set_state(row, is_sent ? "active_cancel_req" : "waiting_cancel_req");
	else
		socket_set_state(row, is_sent ? "active_cancel" : "new");
}

/* Who asks. */
static void socket_add_asker(const struct cancel_view *view, void *arg)
{
	const struct socket_cancels *to = arg;
	const struct cancel_asker *asker = view->asker;
	struct socket_row *row;

	if (asker == NULL)
		return;
	row = socket_add_plain_row(to->rows, "C", asker->socket.fd, asker->socket.tls, NULL, to->listen_port);
	socket_fill_cancel(to->rows, row, view);
	row->connect_us = asker->connect_us;
	row->request_us = asker->request_us;
	row->ptr = asker->ptr;
	row->link = view->conn;
	row->id = (int64_t)asker->id;
}

/* The connection that carries the request. */
static void socket_add_carrier(const struct cancel_view *view, void *arg)
{
	const struct socket_cancels *to = arg;
	const struct cancel_conn *conn = view->conn;
	struct socket_row *row;

	if (conn == NULL)
		return;
	row = socket_add_plain_row(to->rows, "S", conn->stream.fd, stream_tls(&conn->stream), NULL, conn->port);
	socket_fill_cancel(to->rows, row, view);
	if (view->pool != NULL)
		row->user = row->pool_user;
	row->connect_us = conn->connect_us;
	row->request_us = conn->sent_us > 0 ? conn->sent_us : conn->connect_us;
	row->ptr = conn;
	row->link = view->asker == NULL ? NULL : view->asker->ptr;
	row->id = (int64_t)conn->id;
}

/* ---- logins ---- */

static void socket_add_login(const struct login_view *view, void *arg)
{
	const struct socket_cancels *to = arg;
	struct socket_row *row = socket_add_row(to->rows, "C", view->stream, NULL, to->listen_port);

	row->group = SOCKET_OF_LOGIN;
	row->user = view->user[0] == '\0' ? "(nouser)" : show_keep_text(to->rows, view->user);
	row->database = "(nodb)";
	row->state = "login";
	row->connect_us = row->request_us = view->connect_us;
	row->ptr = view->ptr;
	row->id = (int64_t)view->id;
}

/* ---- the visits ---- */

/* The next slice of the worker's clients; true when there are more. */
static bool socket_visit_clients(struct show_visit *visit)
{
	const struct worker *worker = visit->worker;
	size_t rows_max = visit->rows->count + SOCKET_SLICE_ROWS;
	uint64_t end = *visit->at + SOCKET_SLICE_SLOTS;

	while (*visit->at < worker->slot_count && *visit->at < end && visit->rows->count < rows_max) {
		const struct client *client = worker->slots[(*visit->at)++].client;

		if (client != NULL)
			socket_add_client(visit, client);
	}
	return *visit->at < worker->slot_count;
}

/* All servers, or all but those that only wait for the end of a cancel request. */
static void socket_visit_servers(const struct show_visit *visit, bool with_canceled)
{
	const struct pool_part *part;
	const struct server *server;

	TAILQ_FOREACH (part, &visit->worker->parts, entry)
		TAILQ_FOREACH (server, &part->servers, entry)
			if (server->state != SV_CLOSED && (with_canceled || server->state != SV_CANCELED))
				socket_add_server(part, server, visit->rows);
}

static bool show_visit_clients(struct show_visit *visit)
{
	struct socket_cancels to = { visit->rows, visit->ctx->snap->conf->listen_port };

	if (visit->worker == NULL)
		return false;
	if (*visit->at == 0)
		cancel_each(visit->worker, socket_add_asker, &to);
	return socket_visit_clients(visit);
}

static bool show_visit_servers(struct show_visit *visit)
{
	struct socket_cancels to = { visit->rows, visit->ctx->snap->conf->listen_port };

	if (visit->worker == NULL)
		return false;
	socket_visit_servers(visit, true);
	cancel_each(visit->worker, socket_add_carrier, &to);
	return false;
}

/* In SHOW SOCKETS a state says which side it is about: cl_active, sv_idle. */
static void socket_prefix_states(struct show_rows *out, size_t from)
{
	for (size_t i = from; i < out->count; i++) {
		struct socket_row *row = show_row(out, i);
		bool is_client = row->type[0] == 'C';
		const char *shown = row->state;
		char state[40];

		if (strcmp(shown, is_client ? "idle" : "new") == 0)
			shown = is_client ? "active" : "login";
		str_format(state, sizeof(state), "%s_%s", is_client ? "cl" : "sv", shown);
		row->state = show_keep_text(out, state);
	}
}

/* What has to do with cancel requests is left out here. */
static bool show_visit_sockets(struct show_visit *visit)
{
	struct socket_cancels to = { visit->rows, visit->ctx->snap->conf->listen_port };
	size_t from = visit->rows->count;
	bool more = false;

	if (*visit->at == 0)
		login_each(visit->ctx, socket_add_login, &to);
	if (*visit->at == 0 && visit->worker != NULL)
		socket_visit_servers(visit, false);
	if (visit->worker != NULL)
		more = socket_visit_clients(visit);
	socket_prefix_states(visit->rows, from);
	return more;
}

/* ---- on the control loop ---- */

static int show_compare_sockets(const void *a, const void *b)
{
	const struct socket_row *x = a;
	const struct socket_row *y = b;
	int order = (int)x->group - (int)y->group;

	if (order == 0 && x->pool != y->pool)
		order = strcmp(x->database, y->database);
	if (order == 0 && x->pool != y->pool)
		order = strcmp(x->pool_user, y->pool_user);
	if (order == 0)
		order = x->type[0] - y->type[0];
	if (order == 0 && x->order != y->order)
		order = x->order < y->order ? -1 : 1;
	if (order == 0 && x->id != y->id)
		order = x->id < y->id ? -1 : 1;
	return order;
}

/* Joins what the workers have found. Texts stay with the workers' lists. */
static void show_join_sockets(struct show *show)
{
	for (unsigned i = 0; i < show->part_count; i++)
		for (size_t j = 0; j < show->parts[i].count; j++)
			*(struct socket_row *)show_add_row(&show->rows) =
				*(const struct socket_row *)show_row(&show->parts[i], j);
}

static void show_add_consoles(struct show *show)
{
	const struct console *c;

	TAILQ_FOREACH (c, &show->admin->consoles, entry) {
		struct socket_row *row =
			socket_add_row(&show->rows, "C", &c->stream, NULL, show->snap->conf->listen_port);

		row->user = show_keep_text(&show->rows, c->user);
		row->pool_user = ADMIN_POOL_USER;
		row->database = show->admin->db_name;
		socket_set_state(row, "idle");
		row->connect_us = c->connect_us;
		row->request_us = c->request_us;
		socket_fill_wait(row, loop_now_us(show->engine->control), c->query_us);
		row->ptr = c;
		row->application_name = socket_app_name(&show->rows, c->vars);
		row->id = (int64_t)c->id;
	}
}

static void show_add_peers(struct show *show, cancel_view_fn fn)
{
	struct socket_cancels to = { &show->rows, show->snap->conf->listen_port };

	peers_each_request(show->engine->peers, fn, &to);
}

static void show_fill_clients(struct show *show)
{
	show_join_sockets(show);
	show_add_consoles(show);
	show_add_peers(show, socket_add_asker);
	if (show_has_own(show))
		show_rank_waiters(&show->rows, offsetof(struct socket_row, waiter));
	show_sort(&show->rows, show_compare_sockets);
}

static void show_fill_servers(struct show *show)
{
	show_join_sockets(show);
	show_add_peers(show, socket_add_carrier);
	show_sort(&show->rows, show_compare_sockets);
}

static void show_fill_sockets(struct show *show)
{
	size_t from;

	show_join_sockets(show);
	from = show->rows.count;
	show_add_consoles(show);
	socket_prefix_states(&show->rows, from);
	show_sort(&show->rows, show_compare_sockets);
}

static bool socket_is_active(const struct socket_row *row)
{
	return row->in_bytes > 0 || row->out_bytes > 0;
}

/* Those with something in a buffer. */
static void show_fill_active_sockets(struct show *show)
{
	size_t kept = 0;

	show_fill_sockets(show);
	for (size_t i = 0; i < show->rows.count; i++) {
		const struct socket_row *row = show_row(&show->rows, i);

		if (socket_is_active(row))
			*(struct socket_row *)show_row(&show->rows, kept++) = *row;
	}
	show->rows.count = kept;
}

#define SOCKET_SHOW(variable, text, cols, own, visitor, filler, about) \
	const struct show_table variable = {                           \
		.name = text,                                          \
		.help = about,                                         \
		.right = COMMAND_FOR_STATS,                            \
		.in_help = true,                                       \
		.columns = cols,                                       \
		.column_count = ARRAY_LEN(cols),                       \
		.own_count = own,                                      \
		.row_size = sizeof(struct socket_row),                 \
		.part_row_size = sizeof(struct socket_row),            \
		.visit = visitor,                                      \
		.fill = filler,                                        \
	}

SOCKET_SHOW(show_clients, "CLIENTS", show_clients_columns,
	    ARRAY_LEN(show_clients_columns) - ARRAY_LEN(show_servers_columns), show_visit_clients, show_fill_clients,
	    "The clients that have logged in, and the sessions of the console.");
SOCKET_SHOW(show_servers, "SERVERS", show_servers_columns, 0, show_visit_servers, show_fill_servers,
	    "The connections to servers.");
SOCKET_SHOW(show_sockets, "SOCKETS", show_sockets_columns, 0, show_visit_sockets, show_fill_sockets,
	    "Clients and servers, those that log in included, with the state of their buffers.");
SOCKET_SHOW(show_active_sockets, "ACTIVE_SOCKETS", show_sockets_columns, 0, show_visit_sockets,
	    show_fill_active_sockets, "Those among them that have something in a buffer.");
