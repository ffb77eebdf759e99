/*
 * A client that goes in the middle of its work leaves a server that owes answers
 * to nobody, maybe in the middle of a transaction. Closing it costs a login and
 * leaves the query running, because PostgreSQL does not notice before it has
 * something to send. So it is brought to rest instead:
 *
 *     client gone --> cancel request; CopyFail if it reads COPY data
 *                 --> answers are swallowed until none is owed
 *                 --> Sync, if it skips to one that the client has not sent
 *                 --> ROLLBACK, if it is inside of a transaction
 *                 --> back to the pool as any server: server_free_to_pool()
 *
 * The tracker says when each step is done; what it expects for the client comes
 * to nobody. Nothing of our own is sent while a cancel request is under way,
 * which could hit that. Where the client has left half a message, where both
 * sides send COPY data, where a Sync was sent among COPY data and may have been
 * swallowed, or where the tracker is in doubt, the server is closed as ever; so
 * it is when all this takes longer than cancel_grace.
 *
 * A client that says goodbye behind a query, and does not wait for the answer,
 * may count on its being run, as a server of its own would do. Such a query has
 * cancel_grace to end by itself before it is stopped.
 */
#include "pool/cleanup.h"

#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/server.h"
#include "pool/virtual.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"

bool cleanup_is_possible(const struct server *server)
{
	const struct client *client = server->client;
	const struct pool_conf *conf = server->part->conf;
	const struct track *t = &server->track;

	if (!conf->cancels_gone || conf->cancel_grace_us == 0 || server_is_unwanted(server) ||
	    server->part->worker->suspended || server->parked || server->replication != REPLICATION_NONE)
		return false;
	if (client->body_left > 0 && !client->discard_body)
		return false;
	return !track_is_lost(t) && !t->copy_both && !t->copy_sync && !t->tainted && !server->setting_vars &&
	       !server->rerun.is_under_way && server->sql_statements == 0;
}

/* Sends a message of our own that has no body. */
static void cleanup_send(struct server *server, uint8_t type)
{
	const uint8_t message[] = FRAME_EMPTY(type);

	if (!track_ours(&server->track, type) || stream_send(&server->stream, message, sizeof(message)) < 0)
		server_close(server, REASON_SERVER_SEND);
}

static void cleanup_end(struct server *server)
{
	struct worker *worker = server->part->worker;

	server->cleanup.since_us = 0;
	virtual_transaction_done(server);
	if (track_is_idle(&server->track) && stream_is_clean(&server->stream) && server->body_left == 0 &&
	    server->sql_statements == 0) {
		worker->timeouts.gone_kept++;
		server_free_to_pool(server);
	} else {
		worker->timeouts.gone_closed++;
		server_close(server, REASON_CLIENT_GONE_NOT_READY);
	}
}

void cleanup_settle(struct server *server)
{
	const struct track *t = &server->track;

	if (!track_is_quiet(t) || server->body_left > 0)
		return;
	cancel_withdraw(server->part->worker, server);
	if (server->cancels > 0)
		return;
	if (t->skip) {
		cleanup_send(server, FE_SYNC);
	} else if (!server->cleanup.is_undone && (t->status != TX_IDLE || t->unsynced)) {
		server->cleanup.is_undone = true;
		server_send_own(server, "", "ROLLBACK");
	} else {
		cleanup_end(server);
	}
}

/* Stops what is under way. */
static void cleanup_stop(struct server *server)
{
	server->cleanup.is_patient = false;
	server->cleanup.since_us = loop_now_us(server->part->worker->ctx.loop);
	cancel_server(server);
}

void cleanup_begin(struct server *server, bool is_patient)
{
	struct worker *worker = server->part->worker;

	worker->timeouts.gone++;
	server->cleanup = (struct cleanup){ .since_us = loop_now_us(worker->ctx.loop), .is_patient = is_patient };
	server->swallow_body = true;
	prep_server_disown(&server->prep);
	server_set_state(server, SV_CANCELED);
	cancel_withdraw(worker, server);
	server_fail_copy(server, REASON_CLIENT_GONE_NOT_READY);
	if (server->track.unsynced && !server->track.skip)
		cleanup_send(server, FE_FLUSH); /* or its answers would stay there */
	if (server->state == SV_CLOSED)
		return;
	if (!is_patient && !track_is_quiet(&server->track))
		cleanup_stop(server);
	cleanup_settle(server);
}

bool cleanup_check(struct server *server, uint64_t now_us)
{
	if (now_us - server->cleanup.since_us <= server->part->conf->cancel_grace_us)
		return false;
	if (server->cleanup.is_patient && !track_is_quiet(&server->track)) {
		cleanup_stop(server);
		return false;
	}
	server->part->worker->timeouts.gone_closed++;
	return true;
}
