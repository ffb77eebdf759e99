/*
 * The parameters of a client and those of its server.
 *
 * A server is brought to the values of its client by SET commands, in front of
 * the client's first message: see link.c.
 *
 * RESET is to return to what the session began with, which for PostgreSQL is
 * what the server's startup packet said, and for the client is what its own
 * said. So after RESET, RESET ALL or DISCARD ALL the server's values are not
 * the client's, and what the server reports is not what the client is told:
 *
 *     client                     server
 *       RESET ALL -->              RESET ALL -->
 *                                    <-- CommandComplete RESET
 *                                    <-- ParameterStatus UTC     is kept back
 *       <-- ParameterStatus Tokyo
 *       <-- ReadyForQuery            <-- ReadyForQuery
 *       SELECT 1 -->               SET TimeZone='Tokyo'; SELECT 1 -->
 *
 * Tags tell that something was reset. DISCARD ALL is clear; of RESET only a
 * look at the text tells whether it was all, and texts are looked at when their
 * first word allows that. Of others those parameters count as reset that have
 * become what the server had at first; when a client has given one just that
 * value by SET, nothing would become it, and all its texts are looked at.
 *
 * Where a link ends with that answer, the next one begins with the SET, as any;
 * where it does not, in session mode and inside of a transaction block, the SET
 * goes in front of the client's next message. What is rolled back takes our SET
 * with it, and the server reports that. A transaction that fails on the way
 * leaves the client with what the server reports afterwards.
 *
 * A client may have sent more behind a RESET before it was answered. If the
 * text was looked at, that has waited here (client->is_resetting); or else a SET
 * to what the server has just gone back to would change nothing there, be told
 * to nobody, and be undone by ours. So texts that begin like a RESET are looked
 * at as a whole, whatever the pieces that they come in; and of a statement that
 * was prepared under a name it is known when it is bound (stmt->resets). Where
 * names are not kept, as in session mode, it is not, and then such a SET is lost.
 */
#include "core/log.h"
#include "pool/cancel.h"
#include "pool/link_int.h"
#include "proto/build.h"
#include "proto/classify.h"
#include "proto/msg.h"

static void link_vars_log(const struct server *server, const struct buf *sql)
{
	struct log_about about;

	server_describe(server, &about);
	log_debug_about(&about, "varcache_apply: %.*s", (int)buf_len(sql), (const char *)buf_ptr(sql));
}

/* The server spells values in another way than the client does. */
static void link_vars_log_canonical(const struct client *client, const struct varset *server_vars)
{
	struct log_about about;

	client_describe(client, &about);
	for (int i = 0; i < vars_count(); i++) {
		const char *have = vars_get(client->vars, i);
		const char *canonical = vars_get(server_vars, i);

		if (have != NULL && canonical != NULL && strcmp(have, canonical) != 0)
			log_debug_about(&about, "varcache_set_canonical: setting %s to its canonical version %s -> %s",
					vars_name(i), have, canonical);
	}
}

bool link_vars_set(struct client *client, struct server *server)
{
	uint32_t max = vars_diff_max(client->vars);
	struct buf sql;
	int count;
	int err;

	buf_init(&sql, max);
	buf_fini(&server->prelude);
	buf_init(&server->prelude, max + 16);
	count = vars_diff(server->vars, client->vars, &sql);
	if (count > 0) {
		if (log_is_on(LOG_LVL_DEBUG))
			link_vars_log(server, &sql);
		err = build_query(&server->prelude, slice_make(buf_ptr(&sql), buf_len(&sql)));
		ASSERT(err == 0);
		server->ours_failed = false;
		server->setting_vars = track_ours(&server->track, FE_QUERY);
		ASSERT(server->setting_vars);
	}
	buf_fini(&sql);
	return count > 0;
}

void link_vars_adopt(struct client *client, struct server *server)
{
	struct varset *set;

	vars_recode(&server->vars, client->vars);
	set = vars_hold(server->vars);
	if (log_is_on(LOG_LVL_DEBUG))
		link_vars_log_canonical(client, server->vars);
	if (UNLIKELY(client->startup_is_raw)) {
		vars_respell(&client->startup, server->vars);
		client->startup_is_raw = false;
	}
	vars_fill(&set, client->vars);
	vars_release(&client->vars);
	client->vars = set;
}

/* Where the pool remembers that its servers take the values of this client. */
static _Atomic uint64_t *link_vars_proof(const struct client *client)
{
	return &client->pool->proven_vars[vars_serial(client->vars) % POOL_PROVEN_MAX];
}

bool link_vars_are_proven(const struct client *client)
{
	return atomic_load_explicit(link_vars_proof(client), memory_order_relaxed) == vars_serial(client->vars);
}

bool link_vars_done(struct server *server)
{
	struct client *client = server->client;

	server->setting_vars = false;
	if (server->ours_failed || server->track.status == TX_FAILED ||
	    (server->track.status != TX_IDLE && !server->vars_due))
		return false;
	server->vars_due = false;
	link_vars_adopt(client, server);
	if (!link_vars_are_proven(client))
		atomic_store_explicit(link_vars_proof(client), vars_serial(client->vars), memory_order_relaxed);
	cancel_vars_done(client->part->worker, server);
	if (client->state == CL_HELD) {
		client_set_state(client, CL_ACTIVE);
		server->was_awaited = true;
		client_resume(client);
	}
	return true;
}

/* ---- RESET ---- */

void link_vars_changed(struct client *client, const struct server *server)
{
	if (client->startup == NULL)
		return;
	client->startup_is_raw = false; /* has been spelled alike, or would have been by now */
	client->hides_reset =
		server->defaults != NULL && vars_are_hidden(client->vars, client->startup, server->defaults);
}

void link_vars_carried(struct client *client, struct server *server)
{
	bool was_raw = client->startup_is_raw;

	link_vars_changed(client, server);
	client->startup_is_raw = was_raw;
	server->vars_due = client->vars != server->vars && server->replication == REPLICATION_NONE;
	client->is_resetting |= server->vars_due;
}

bool link_vars_will_reset(struct slice text)
{
	return classify_resets_all(slice_make(text.p, text.n < LINK_VARS_LOOK_MAX ? text.n : LINK_VARS_LOOK_MAX));
}

bool link_vars_must_wait(struct client *client)
{
	const struct server *server = client->server;

	if (server != NULL && !track_is_batch_start(&server->track))
		return false; /* it belongs to what was begun before */
	client->is_resetting = server != NULL && track_open_batches(&server->track) > 0;
	return client->is_resetting;
}

void link_vars_tag(struct server *server, struct slice tag)
{
	const struct client *client = server->client;

	if (client == NULL || client->startup == NULL || server->replication != REPLICATION_NONE ||
	    track_head_is_ours(&server->track))
		return;
	if (slice_eq_str(tag, "DISCARD ALL"))
		server->reset = RESET_ALL;
	else if (slice_eq_str(tag, "RESET") && server->reset != RESET_ALL)
		server->reset = client->is_resetting ? RESET_ALL : RESET_SOME;
	else if (slice_eq_str(tag, "ROLLBACK"))
		link_vars_undone(server);
}

/* Writes to `b` what the client must be told that has been told `before`. */
static int link_vars_tell(const struct client *client, const struct varset *before, struct buf *b)
{
	int err = 0;

	for (int i = 0; err == 0 && i < vars_count(); i++) {
		const char *was = vars_get(before, i);
		const char *is = vars_get(client->vars, i);

		if (is != NULL && (was == NULL || strcmp(was, is) != 0))
			err = build_parameter_status(b, slice_of(vars_name(i)), slice_of(is));
	}
	return err;
}

int link_vars_reset(struct server *server, struct buf *b)
{
	struct client *client = server->client;
	enum server_reset reset = server->reset;
	struct varset *before;
	bool stays;
	int err;

	if (server->track.status == TX_FAILED) {
		server->reset = RESET_IN_DOUBT;
		server->vars_due = false;
		return 0;
	}
	if (reset == RESET_NONE)
		return 0; /* nothing new is due */
	server->reset = RESET_NONE;
	before = vars_hold(client->vars);
	if (server->track.status != TX_IDLE)
		link_vars_keep(client);
	stays = reset == RESET_IN_DOUBT || track_is_lost(&server->track); /* nothing of ours goes to a lost session */
	vars_reset(&client->vars, server->vars, stays ? NULL : client->startup, server->defaults, reset == RESET_ALL);
	err = link_vars_tell(client, before, b);
	vars_release(&before);
	link_vars_changed(client, server);
	server->vars_due = client->vars != server->vars;
	client->is_resetting = server->vars_due;
	return err;
}

int link_vars_lose(struct client *client, const struct server *server, struct buf *b)
{
	struct varset *told = client->vars;
	int err;

	if (client->vars_before == NULL)
		return 0;
	client->vars = client->vars_before;
	client->vars_before = NULL;
	err = link_vars_tell(client, told, b);
	vars_release(&told);
	link_vars_changed(client, server);
	return err;
}

void link_vars_restore(struct client *client, uint8_t type)
{
	struct server *server = client->server;

	if (client->body_left > 0 || type == FE_TERMINATE || server->setting_vars || !track_is_quiet(&server->track) ||
	    !track_is_batch_start(&server->track) || server->track.status == TX_FAILED || track_is_lost(&server->track))
		return;
	if (!link_vars_set(client, server)) {
		link_vars_adopt(client, server);
		server->vars_due = false;
	}
}
