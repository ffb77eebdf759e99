/*
 * SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS: one row per connection,
 * described by the worker that owns it. Console sessions are added by the
 * control loop.
 */
#include "admin/show.h"
#include "net/sock.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/peer.h"
#include "pool/server.h"
#include "proto/build.h"

struct socket_row {
	const char *type; /* C or S */
	const char *user;
	const char *database;
	const char *pool_user; /* for the order of rows */
	const char *replication;
	const char *state;
	char addr[SOCK_ADDR_TEXT];
	int64_t port;
	char local_addr[SOCK_ADDR_TEXT];
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
	bool is_peer;  /* of a cancel request for a peer: comes last */
	int64_t order; /* of states within a pool */
	int64_t zero;
	int64_t in_bytes;
	int64_t out_bytes;
};

#define COL(name, oid, kind, field, help)                                 \
	{                                                                 \
		name, oid, kind, offsetof(struct socket_row, field), help \
	}

/* The columns that all four tables begin with. */
#define SOCKET_COLUMNS                                                                                             \
	COL("type", OID_TEXT, SHOW_TEXT, type, "C for a client, S for a server"),                                  \
		COL("user", OID_TEXT, SHOW_TEXT, user, "user that logged in"),                                     \
		COL("database", OID_TEXT, SHOW_TEXT, database, "database as the pooler names it"),                 \
		COL("replication", OID_TEXT, SHOW_TEXT, replication, "always none"),                               \
		COL("state", OID_TEXT, SHOW_TEXT, state,                                                           \
		    "clients: active (linked to a server), idle, waiting; servers: active, idle, used (to be "     \
		    "checked), tested, new, being_canceled"),                                                      \
		COL("addr", OID_TEXT, SHOW_CHARS, addr, "address of the other end; unix for a Unix socket"),       \
		COL("port", OID_INT4, SHOW_INT, port, "port of the other end"),                                    \
		COL("local_addr", OID_TEXT, SHOW_CHARS, local_addr, "address of this end"),                        \
		COL("local_port", OID_INT4, SHOW_INT, local_port, "port of this end"),                             \
		COL("connect_time", OID_TEXT, SHOW_TIME, connect_us, "when the connection was made"),              \
		COL("request_time", OID_TEXT, SHOW_TIME, request_us, "when the last message came"),                \
		COL("wait", OID_INT4, SHOW_INT, wait,                                                              \
		    "seconds since the query of the client came, which waits or runs"),                            \
		COL("wait_us", OID_INT4, SHOW_INT, wait_us, "microseconds beyond these"),                          \
		COL("close_needed", OID_INT4, SHOW_INT, close_needed,                                              \
		    "1 for a server that is closed when it is free"),                                              \
		COL("ptr", OID_TEXT, SHOW_PTR, ptr, "its name in the column link of others"),                      \
		COL("link", OID_TEXT, SHOW_PTR, link, "what it is linked to; empty: nothing"),                     \
		COL("remote_pid", OID_INT4, SHOW_INT, remote_pid, "process at the other end, if known"),           \
		COL("tls", OID_TEXT, SHOW_TEXT, tls, "TLS version and cipher; empty without TLS"),                 \
		COL("application_name", OID_TEXT, SHOW_TEXT, application_name, "application_name of the session"), \
		COL("prepared_statements", OID_INT4, SHOW_INT, prepared_statements, "always 0 in this version"),   \
		COL("id", OID_INT4, SHOW_INT, id, "number for KILL_CLIENT; never used twice")

static const struct show_column show_clients_columns[] = { SOCKET_COLUMNS };

static const struct show_column show_sockets_columns[] = {
	SOCKET_COLUMNS,
	COL("recv_pos", OID_INT4, SHOW_INT, zero, "always 0"),
	COL("pkt_pos", OID_INT4, SHOW_INT, zero, "always 0"),
	COL("pkt_remain", OID_INT4, SHOW_INT, zero, "always 0"),
	COL("send_pos", OID_INT4, SHOW_INT, zero, "always 0"),
	COL("send_remain", OID_INT4, SHOW_INT, zero, "always 0"),
	COL("pkt_avail", OID_INT4, SHOW_INT, in_bytes, "bytes received that wait"),
	COL("send_avail", OID_INT4, SHOW_INT, out_bytes, "bytes to be sent that wait"),
};

/* ---- on the workers ---- */

/* Address and port as shown: of a Unix socket, the port that names it. */
static int64_t socket_show_addr(const struct sock_addr *addr, int64_t unix_port, char *dst, size_t size)
{
	sock_addr_host(addr, dst, size);
	return sock_addr_is_unix(addr) ? unix_port : sock_addr_port(addr);
}

static void socket_fill_addrs(struct socket_row *row, int fd, int64_t unix_port)
{
	struct sock_addr addr;
	pid_t pid;

	if (fd < 0)
		return;
	if (sock_remote_addr(fd, &addr) == 0) {
		row->port = socket_show_addr(&addr, unix_port, row->addr, sizeof(row->addr));
		if (sock_addr_is_unix(&addr) && sock_peer_cred(fd, NULL, &pid) == 0)
			row->remote_pid = pid;
	}
	if (sock_local_addr(fd, &addr) == 0)
		row->local_port = socket_show_addr(&addr, unix_port, row->local_addr, sizeof(row->local_addr));
}

/* What all rows have in common. */
static struct socket_row *socket_add_plain_row(struct show_rows *out, const char *type, int fd, int64_t unix_port)
{
	struct socket_row *row = show_add_row(out);

	row->type = type;
	row->replication = "none";
	row->tls = "";
	row->application_name = "";
	socket_fill_addrs(row, fd, unix_port);
	return row;
}

static struct socket_row *socket_add_row(struct show_rows *out, const char *type, const struct stream *stream,
					 int64_t unix_port)
{
	struct socket_row *row = socket_add_plain_row(out, type, stream->fd, unix_port);

	row->in_bytes = buf_len(&stream->in);
	row->out_bytes = buf_len(&stream->out);
	return row;
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

static void socket_add_client(const struct pool_part *part, const struct client *client, struct show_rows *out)
{
	uint64_t now_us = loop_now_us(part->worker->ctx.loop);
	struct socket_row *row;

	if (client->state == CL_CLOSED)
		return;
	row = socket_add_row(out, "C", &client->stream, part->worker->ctx.snap->conf->listen_port);
	row->user = client->account->name;
	row->pool_user = part->pool->account->name;
	row->database = part->pool->db->name;
	row->state = client_state_name(client->state);
	row->order = client->state == CL_WAITING || client->state == CL_WELCOME;
	row->connect_us = client->connect_us;
	row->request_us = client->request_us;
	socket_fill_wait(row, now_us, client->query_us);
	row->ptr = client;
	row->link = client->server;
	row->application_name = socket_app_name(out, client->vars);
	row->id = (int64_t)client->id;
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

	row = socket_add_row(out, "S", &server->stream, part->conf->db->port);
	row->user = part->pool->account->name;
	row->pool_user = row->user;
	row->database = part->pool->db->name;
	row->state = show_server_needs_check(server, now_us) ? "used" : server_state_name(server->state);
	row->order = server->state;
	row->connect_us = server->connect_us;
	row->request_us = server->request_us;
	row->close_needed = server->dirty;
	row->ptr = server;
	row->link = server->client;
	if (row->remote_pid == 0)
		row->remote_pid = server->backend_pid;
	row->application_name = socket_app_name(out, server->vars);
	row->id = (int64_t)server->id;
}

/* ---- cancel requests; on the thread that owns them ---- */

/* Cancel connections stand behind the others of their pool. */
#define SOCKET_ORDER_CANCEL 100

struct socket_cancels {
	struct show_rows *rows;
	int64_t listen_port;
};

static void socket_fill_cancel(struct socket_row *row, const struct cancel_view *view)
{
	bool is_sent = view->conn != NULL && view->conn->sent_us > 0;

	row->user = "(nouser)";
	row->pool_user = view->pool == NULL ? "" : view->pool->account->name;
	row->database = view->pool == NULL ? "(nodb)" : view->pool->db->name;
	row->is_peer = view->pool == NULL;
	row->order = SOCKET_ORDER_CANCEL + is_sent;
	if (row->type[0] == 'C')
		row->state = is_sent ? "active_cancel_req" : "waiting_cancel_req";
	else
		row->state = is_sent ? "active_cancel" : "new";
}

/* Who asks. */
static void socket_add_asker(const struct cancel_view *view, void *arg)
{
	const struct socket_cancels *to = arg;
	const struct cancel_asker *asker = view->asker;
	struct socket_row *row;

	if (asker == NULL)
		return;
	row = socket_add_plain_row(to->rows, "C", asker->fd, to->listen_port);
	socket_fill_cancel(row, view);
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
	row = socket_add_plain_row(to->rows, "S", conn->stream.fd, conn->port);
	socket_fill_cancel(row, view);
	if (view->pool != NULL)
		row->user = row->pool_user;
	row->connect_us = conn->connect_us;
	row->request_us = conn->sent_us > 0 ? conn->sent_us : conn->connect_us;
	row->ptr = conn;
	row->link = view->asker == NULL ? NULL : view->asker->ptr;
	row->id = (int64_t)conn->id;
}

/* ---- the visits ---- */

static void socket_visit_clients(struct worker *worker, struct show_rows *out)
{
	const struct pool_part *part;
	const struct client *client;

	TAILQ_FOREACH (part, &worker->parts, entry)
		TAILQ_FOREACH (client, &part->clients, entry)
			socket_add_client(part, client, out);
}

/* All servers, or all but those that only wait for the end of a cancel request. */
static void socket_visit_servers(struct worker *worker, bool with_canceled, struct show_rows *out)
{
	const struct pool_part *part;
	const struct server *server;

	TAILQ_FOREACH (part, &worker->parts, entry)
		TAILQ_FOREACH (server, &part->servers, entry)
			if (server->state != SV_CLOSED && (with_canceled || server->state != SV_CANCELED))
				socket_add_server(part, server, out);
}

static void show_visit_clients(struct worker *worker, struct show_rows *out)
{
	struct socket_cancels to = { out, worker->ctx.snap->conf->listen_port };

	socket_visit_clients(worker, out);
	cancel_each(worker, socket_add_asker, &to);
}

static void show_visit_servers(struct worker *worker, struct show_rows *out)
{
	struct socket_cancels to = { out, worker->ctx.snap->conf->listen_port };

	socket_visit_servers(worker, true, out);
	cancel_each(worker, socket_add_carrier, &to);
}

/* In SHOW SOCKETS a state says which side it is about: cl_active, sv_idle. */
static void socket_prefix_states(struct show_rows *out, size_t from)
{
	for (size_t i = from; i < out->count; i++) {
		struct socket_row *row = show_row(out, i);
		char state[40];

		if (row->type[0] == 'C')
			str_format(state, sizeof(state), "cl_%s",
				   strcmp(row->state, "waiting") == 0 ? "waiting" : "active");
		else
			str_format(state, sizeof(state), "sv_%s",
				   strcmp(row->state, "new") == 0 ? "login" : row->state);
		row->state = show_keep_text(out, state);
	}
}

/* What has to do with cancel requests is left out here. */
static void show_visit_sockets(struct worker *worker, struct show_rows *out)
{
	socket_visit_clients(worker, out);
	socket_visit_servers(worker, false, out);
	socket_prefix_states(out, 0);
}

/* ---- on the control loop ---- */

static int show_compare_sockets(const void *a, const void *b)
{
	const struct socket_row *x = a;
	const struct socket_row *y = b;
	int order = x->is_peer - y->is_peer;

	if (order == 0)
		order = strcmp(x->database, y->database);
	if (order == 0)
		order = strcmp(x->pool_user, y->pool_user);
	if (order == 0)
		order = strcmp(x->type, y->type);
	if (order == 0 && x->order != y->order)
		order = x->order < y->order ? -1 : 1;
	if (order == 0 && x->id != y->id)
		order = x->id < y->id ? -1 : 1;
	return order;
}

static bool socket_is_active(const struct socket_row *row)
{
	return row->in_bytes > 0 || row->out_bytes > 0;
}

/* Joins what the workers have found. Texts stay with the workers' lists. */
static void show_join_sockets(struct show *show, bool only_active)
{
	for (unsigned i = 0; i < show->part_count; i++) {
		for (size_t j = 0; j < show->parts[i].count; j++) {
			const struct socket_row *row = show_row(&show->parts[i], j);

			if (!only_active || socket_is_active(row))
				*(struct socket_row *)show_add_row(&show->rows) = *row;
		}
	}
}

static void show_add_consoles(struct show *show)
{
	const struct console *c;

	TAILQ_FOREACH (c, &show->admin->consoles, entry) {
		struct socket_row *row = socket_add_row(&show->rows, "C", &c->stream, show->snap->conf->listen_port);

		row->user = c->user;
		row->pool_user = ADMIN_POOL_USER;
		row->database = show->admin->db_name;
		row->state = "idle";
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
	show_join_sockets(show, false);
	show_add_consoles(show);
	show_add_peers(show, socket_add_asker);
	show_sort(&show->rows, show_compare_sockets);
}

static void show_fill_servers(struct show *show)
{
	show_join_sockets(show, false);
	show_add_peers(show, socket_add_carrier);
	show_sort(&show->rows, show_compare_sockets);
}

static void show_fill_sockets(struct show *show)
{
	size_t from;

	show_join_sockets(show, false);
	from = show->rows.count;
	show_add_consoles(show);
	socket_prefix_states(&show->rows, from);
	show_sort(&show->rows, show_compare_sockets);
}

static void show_fill_active_sockets(struct show *show)
{
	show_join_sockets(show, true);
	show_sort(&show->rows, show_compare_sockets);
}

#define SOCKET_SHOW(variable, text, cols, visitor, filler, about) \
	const struct show_table variable = {                      \
		.name = text,                                     \
		.help = about,                                    \
		.right = COMMAND_FOR_STATS,                       \
		.in_help = true,                                  \
		.columns = cols,                                  \
		.column_count = ARRAY_LEN(cols),                  \
		.row_size = sizeof(struct socket_row),            \
		.part_row_size = sizeof(struct socket_row),       \
		.visit = visitor,                                 \
		.fill = filler,                                   \
	}

SOCKET_SHOW(show_clients, "CLIENTS", show_clients_columns, show_visit_clients, show_fill_clients,
	    "The clients that have logged in, and the sessions of the console.");
SOCKET_SHOW(show_servers, "SERVERS", show_clients_columns, show_visit_servers, show_fill_servers,
	    "The connections to servers.");
SOCKET_SHOW(show_sockets, "SOCKETS", show_sockets_columns, show_visit_sockets, show_fill_sockets,
	    "Clients and servers, with the state of their buffers.");
SOCKET_SHOW(show_active_sockets, "ACTIVE_SOCKETS", show_sockets_columns, show_visit_sockets, show_fill_active_sockets,
	    "Those among them that have something in a buffer.");
