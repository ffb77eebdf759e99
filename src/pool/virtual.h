/*
 * Virtual prepared statements: in transaction and statement mode a client's
 * statements follow it to whatever server it is linked to. For what clients see
 * of it see doc/differences.md, "Prepared statements".
 *
 * Called by link_client.c and link_server.c for the messages that they pass on;
 * own thread of the link.
 */
#ifndef PGSLUICE_POOL_VIRTUAL_H
#define PGSLUICE_POOL_VIRTUAL_H

#include "pool/link_int.h"
#include "proto/classify.h"
#include "proto/msg.h"

/* A query is waited for until this much of it is there: its first words tell whether more is needed. */
#define VIRTUAL_WORD_MAX 32

/* True when the client has names, or had and they may yet turn out to be there still. */
static inline bool virtual_may_have_names(const struct client *client)
{
	return client->prep.count > 0 || (client->server != NULL && client->server->prep.record_count > 0);
}

/* True for a query whose words matter. */
static inline bool virtual_minds_query(const struct link_walk *w)
{
	struct slice text = link_message_body(w);

	if (UNLIKELY(w->client->part->conf->sql_prepare == CONF_SQL_PREPARE_REFUSE) ||
	    UNLIKELY(virtual_may_have_names(w->client)) || UNLIKELY(classify_may_touch_session(text.p, text.n)))
		return true;
	return UNLIKELY(text.n < VIRTUAL_WORD_MAX && text.n + FRAME_HEADER < w->f.size) && slice_trim(text).n == 0;
}

/* True for a message that virtual_admit() decides about. */
static inline bool virtual_concerns(const struct link_walk *w)
{
	if (w->client->part->conf->prepared == 0 || UNLIKELY(w->client->replication != NULL))
		return false;
	switch (w->f.type) {
	case FE_QUERY:
		return virtual_minds_query(w);
	case FE_BIND:
	case FE_PARSE:
	case FE_DESCRIBE:
	case FE_CLOSE:
		return true;
	default:
		return false;
	}
}

/* Whether enough of the message is there to decide: ADMIT_SEND, ADMIT_MORE, or ADMIT_REFUSE. */
enum admit virtual_look(struct link_walk *w);

/*
 * What a client without a server says: true when it was answered without one,
 * and *admit says what becomes of it.
 */
bool virtual_answer_unlinked(struct link_walk *w, enum admit *admit);

/*
 * Decides about a message of a client with a server, which does not skip;
 * after virtual_look(). The tracker is told unless the result is ADMIT_SEND.
 */
enum admit virtual_admit(struct link_walk *w);

/* A Query goes to the server, which drops the unnamed statement. */
void virtual_drop_unnamed(struct link_walk *w);

/* All that was read has been worked off. */
void virtual_end_walk(struct link_walk *w);

/* A client may go on that had to wait for the server to settle what is open. */
bool virtual_may_go_on(const struct client *client);

/* The server has skipped messages of the batch that is being answered for an error, or is going to. */
void virtual_batch_failed(struct client *client);

/* All that the client has sent was answered. */
static inline void virtual_all_answered(struct client *client)
{
	client->is_forgetting = false;
	if (UNLIKELY(client->unnamed == UNNAMED_SENT)) {
		client->unnamed = UNNAMED_OWN;
		client->prep.is_unsure = false;
	}
}

/* Entries of the tracker that were marked have left it. */
void virtual_settle_marks(struct server *server);

/* True when the error that comes now was provoked by us. */
bool virtual_is_provoked(const struct server *server);

/* Writes what the client is told instead of the provoked error, or the error itself where it is another one. */
int virtual_report(const struct server *server, struct slice error, struct buf *b) MUSTCHECK;

/*
 * Writes the error with the client's name of a statement where it has ours: 0,
 * or -E_NOENT when it names none that the client knows.
 */
int virtual_rename_error(const struct server *server, struct slice error, struct buf *b) MUSTCHECK;

/* True when an answer tells what a statement returns that the pooler must know. */
bool virtual_is_describing(const struct server *server);

/* This is it: a RowDescription, of which `body` may be empty if it is too long, or NoData. */
void virtual_described(struct server *server, uint8_t type, struct slice body);

/* A statement was completed with this tag. */
void virtual_command_done(struct server *server, struct slice tag);

/* True for the first letters of tags that virtual_command_done() knows. */
static inline bool virtual_minds_tag(uint8_t first)
{
	return first == 'A' || first == 'C' || first == 'D' || first == 'P';
}

/*
 * True when nothing stands before the next message that could fail, or make names forgotten: no record is needed. Our
 * own SET may; then the server is closed.
 */
static inline bool virtual_is_certain(const struct server *server)
{
	const struct track *t = &server->track;

	return track_is_batch_start(t) && t->owed + server->setting_vars == t->count;
}

/* True when a batch that is sent now is a transaction of its own, and nothing stands before it. */
static inline bool virtual_is_fresh(const struct server *server)
{
	return server->track.status == TX_IDLE && virtual_is_certain(server);
}

/* The server is outside of a transaction. */
static inline void virtual_transaction_done(struct server *server)
{
	if (UNLIKELY(server->prep.ddl_seen | server->prep.tables_seen | server->prep.is_expecting_change)) {
		atomic_fetch_add_explicit(&server->pool->db->ddl_epoch, server->prep.ddl_seen, memory_order_relaxed);
		atomic_fetch_add_explicit(&server->pool->db->ddl_tables, server->prep.tables_seen,
					  memory_order_relaxed);
		server->prep.ddl_seen = server->prep.tables_seen = server->prep.is_expecting_change = false;
	}
}

#endif
