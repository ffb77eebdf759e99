/*
 * The link between a client and a server.
 *
 *     client socket                                           server socket
 *        | recv                                                     ^ send
 *        v                                                          |
 *     loop's scratch --> link_from_client(): heads of messages --> [span]
 *                         track_client() for each
 *        ^ send                                                     | recv
 *        |                                                          v
 *     [span] <-- link_from_server(): heads of messages <-- loop's scratch
 *                         track_server() for each
 *
 * Bytes are looked at where recv() has put them and are sent from there, see
 * link_client.c and link_server.c for the two directions.
 *
 * A client is linked when its first message needs a server, and unlinked when
 * the tracker says that the server owes nothing and is outside a transaction
 * (transaction and statement mode), or when the client goes (session mode).
 *
 * The server is brought to the client's parameters first. The SET commands go in
 * front of the client's own first message, in the same system call, when a
 * server of the pool has taken these values before; else they are waited for,
 * because a query must not run under other values than its client's. What one
 * database takes another may refuse, such as a client_encoding.
 *
 * Backpressure: what one side does not take at once is queued in its stream,
 * and the other side is not read until the queue is empty.
 */
#include "pool/link.h"

#include "pool/drain.h"
#include "pool/link_int.h"
#include "pool/repeat.h"
#include "pool/virtual.h"
#include "proto/msg.h"

void link_server_is_lost(struct server *server)
{
	server->track.broken = true;
	stream_want_read(&server->stream, true);
}

/* Makes them each other's. */
static void link_join(struct client *client, struct server *server)
{
	ASSERT(client->server == NULL && server->client == NULL);
	ASSERT(client->part == server->part && track_is_idle(&server->track));
	client->server = server;
	server->client = client;
	server->is_listed = false;
	server_set_state(server, SV_ACTIVE);
	server->active_us = server->request_us = loop_now_us(link_loop(client));
	stats_add(&client->part->stats, STAT_server_assignment_count, 1);
}

void link_attach(struct client *client, struct server *server)
{
	link_join(client, server);
	if (LIKELY(client->vars == server->vars)) {
		client_set_state(client, CL_ACTIVE);
	} else if (!link_vars_set(client, server)) {
		link_vars_adopt(client, server);
		client_set_state(client, CL_ACTIVE);
	} else if (link_vars_are_proven(client)) {
		client_set_state(client, CL_ACTIVE); /* they go in front of its first message */
	} else {
		/* A value that no server takes would let the query run under another one. */
		client_set_state(client, CL_HELD);
		if (stream_send_buf(&server->stream, &server->prelude) < 0)
			link_server_is_lost(server);
	}
}

void link_attach_own(struct client *client, struct server *server)
{
	link_join(client, server);
	link_vars_adopt(client, server);
	client_set_state(client, CL_ACTIVE);
}

void link_carried(struct client *client, struct server *server)
{
	ASSERT(client->server == NULL && server->client == NULL && client->part == server->part);
	client->server = server;
	server->client = client;
	server_set_state(server, SV_ACTIVE);
	client_set_state(client, CL_ACTIVE);
	link_vars_carried(client, server);
}

/* Unlinks the two, and leaves the server's records of statements alone. */
static void link_cut(struct client *client, struct server *server)
{
	ASSERT(client->server == server && server->client == client);
	client->cut = server->body_left > 0 && !server->swallow_body;
	server->cut = client->body_left > 0 && !client->discard_body;
	client->server = NULL;
	server->client = NULL;
	server->setting_vars = server->was_awaited = server->vars_due = false;
	server->reset = RESET_NONE;
	buf_fini(&server->prelude);
	query_timeout_forget(&server->timeout);
	rerun_forget(&server->rerun);
	server->rerun.is_under_way = server->rerun.is_due = false;
	server->rerun.begun = 0;
	client->stalled = client->is_forgetting = client->is_resetting = false;
	client->unnamed = UNNAMED_FOREIGN;
	stream_want_read(&server->stream, true);
}

void link_detach(struct client *client, struct server *server)
{
	link_cut(client, server);
	prep_server_abandon(&server->prep);
}

/* True when nothing of the client is under way to the server or back, in any of our buffers. */
static bool link_is_settled(const struct server *server, const struct client *client)
{
	return track_is_idle(&server->track) && server->body_left == 0 && stream_is_clean(&server->stream) &&
	       (client->body_left == 0 || client->discard_body);
}

/*
 * True when the client has got everything it asked for, and keeps nothing on
 * the server, though the session may not be fit for another.
 */
static bool link_is_answered(const struct server *server)
{
	return track_is_quiet(&server->track) && server->track.status == TX_IDLE && !server->track.skip &&
	       !server->track.unsynced && server_pool_mode(server) != CONF_POOL_SESSION && server->sql_statements == 0;
}

bool link_is_between(const struct client *client)
{
	return client->server != NULL && link_is_settled(client->server, client) && !stream_is_choked(&client->stream);
}

/* A session that keeps its server ends between two transactions when its database is drained. */
static void link_end_session(struct client *client)
{
	enum reason reason;

	if (LIKELY(!atomic_load_explicit(&client->pool->engine->turns_away, memory_order_relaxed)) ||
	    !link_is_between(client))
		return;
	reason = drain_reason(client);
	if (reason != REASON_NONE)
		client_close(client, reason);
}

/* A batch that has failed for a reason of ours is at its end, and is run again. */
static void link_run_again(struct server *server)
{
	struct client *client = server->client;

	if (!track_is_idle(&server->track) || rerun_finish(server) != 0) {
		server_close(server, REASON_SERVER_CRASH);
		return;
	}
	client->stalled = false; /* what it waited for comes again */
	if (server->rerun.is_due)
		repeat_wait(server);
	else
		client_resume(client);
}

/* False for a client that has sent more than was looked at: the server has it, and will answer, or not. */
static bool link_is_between_messages(const struct server *server)
{
	const struct client *client = server->client;

	return !server->track.strayed && (client->body_left == 0 || client->discard_body);
}

void link_settle(struct server *server)
{
	struct client *client = server->client;

	if (server->state == SV_CLOSED)
		return;
	if (client == NULL) {
		if (server->state == SV_TESTED && track_is_quiet(&server->track))
			server_test_done(server);
		else if (cleanup_is_running(server))
			cleanup_settle(server);
		return;
	}
	if (UNLIKELY(client->send_failed)) {
		client_drop(client, REASON_CLIENT_IO);
		return;
	}
	if (UNLIKELY(server->rerun.is_under_way)) {
		if (track_is_quiet(&server->track))
			link_run_again(server);
		return;
	}
	if (UNLIKELY(client->state == CL_HELD))
		return;
	if (UNLIKELY(server->was_awaited)) {
		server->was_awaited = false; /* the server is idle, but the client's message has yet to come */
		return;
	}
	if (UNLIKELY(client->stalled) && virtual_may_go_on(client)) {
		client->stalled = false;
		client_resume(client);
		return;
	}
	if (UNLIKELY(client->blocked) && server->track.count < TRACK_MAX / 2) {
		client->blocked = false;
		client_resume(client);
		return;
	}
	if (UNLIKELY(server->track.doubt) && link_is_answered(server) && link_is_between_messages(server)) {
		/* The client has all its answers; what else may come is for nobody. */
		link_detach(client, server);
		server_close(server, REASON_DOUBT);
		client_unlinked(client);
		return;
	}
	if (server_pool_mode(server) == CONF_POOL_SESSION || server->sql_statements > 0) {
		link_end_session(client);
		return;
	}
	if (!link_is_settled(server, client))
		return;
	link_detach(client, server);
	server_free_to_pool(server);
	client_unlinked(client);
}

void link_client_gone(struct client *client)
{
	struct server *server = client->server;
	bool settled = link_is_settled(server, client);
	bool is_ready = track_is_idle(&server->track);

	if (!settled && cleanup_is_possible(server)) {
		link_cut(client, server);
		cleanup_begin(server, client->has_said_goodbye);
		return;
	}
	link_detach(client, server);
	if (settled && server->replication != REPLICATION_NONE)
		server_close(server, REASON_REPLICATION_OVER);
	else if (settled && server->sql_statements > 0)
		server_close(server, REASON_SESSION_STATE);
	else if (settled)
		server_free_to_pool(server);
	else if (is_ready)
		server_close(server, REASON_CLIENT_GONE_UNSENT);
	else
		server_close(server, REASON_CLIENT_GONE_NOT_READY);
}
