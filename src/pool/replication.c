/*
 * Replication. A client that asks for it in its startup packet gets a server
 * that was opened with the same request, with its parameters and with its
 * options as they came: PostgreSQL takes no SET on a connection for physical
 * replication.
 *
 *     CL_WELCOME, in the queue of dedicated.c
 *         |  its turn: server_open(), client->awaits <-> server->awaited_by
 *         v
 *     CL_WELCOME, granted  <------ put back: PAUSE, SUSPEND, other settings
 *         |  the server has logged in
 *         v
 *     CL_ACTIVE, linked and greeted, until either side ends
 *
 * The greeting is that of its own server, and the pool's is never made from
 * one of these: it has the parameters of this client. So a client that cannot
 * replicate is told so when it connects.
 *
 * From then on the link is one of session mode: server_pool_mode(). Timeouts of
 * queries and transactions do not count: a stream is one query, and may last
 * for years.
 */
#include "pool/replication.h"

#include "core/alloc.h"
#include "pool/client.h"
#include "pool/dedicated.h"
#include "pool/link.h"
#include "pool/server.h"

struct replication *replication_new(enum startup_replication mode, struct slice options)
{
	struct replication *r = xcalloc(1, sizeof(*r) + options.n + 1);

	ASSERT(mode != REPLICATION_NONE);
	r->mode = mode;
	if (options.n > 0)
		memcpy(r->options, options.p, options.n);
	return r;
}

const char *replication_value(enum startup_replication mode)
{
	static const char *const values[] = {
		[REPLICATION_NONE] = "no",
		[REPLICATION_LOGICAL] = "database",
		[REPLICATION_PHYSICAL] = "yes",
	};

	return values[mode];
}

const char *replication_name(enum startup_replication mode)
{
	static const char *const names[] = {
		[REPLICATION_NONE] = "none",
		[REPLICATION_LOGICAL] = "logical",
		[REPLICATION_PHYSICAL] = "physical",
	};

	return names[mode];
}

void replication_wait(struct client *client)
{
	if (atomic_load(&client->pool->engine->shutdown) == SHUTDOWN_WAIT_FOR_SERVERS) {
		client_close(client, REASON_SERVER_SHUTDOWN);
		return;
	}
	client_set_state(client, CL_WELCOME);
	dedicated_enqueue(client);
}

void replication_begin(struct server *server, struct client *client)
{
	ASSERT(client->granted && client->awaits == NULL && client->part == server->part);
	server->replication = client->replication->mode;
	server->awaited_by = client;
	client->awaits = server;
}

/* Neither waits for the other any more. */
static struct client *replication_part(struct server *server)
{
	struct client *client = server->awaited_by;

	ASSERT(client->awaits == server);
	server->awaited_by = NULL;
	client->awaits = NULL;
	client->granted = false;
	return client;
}

size_t replication_pairs(const struct server *server, struct build_pair *pairs)
{
	const struct client *client = server->awaited_by;
	size_t n = 0;

	pairs[n++] = (struct build_pair){ slice_of("replication"), slice_of(replication_value(server->replication)) };
	for (int i = 0; i < vars_count(); i++)
		if (vars_get(client->vars, i) != NULL)
			pairs[n++] = (struct build_pair){ slice_of(vars_name(i)), slice_of(vars_get(client->vars, i)) };
	if (client->replication->options[0] != '\0')
		pairs[n++] = (struct build_pair){ slice_of("options"), slice_of(client->replication->options) };
	ASSERT(n <= REPLICATION_PAIRS_MAX);
	return n;
}

void replication_logged_in(struct server *server, const struct welcome *welcome)
{
	struct client *client = replication_part(server);

	stats_add(&client->part->stats, STAT_wait_time, loop_now_us(client->part->worker->ctx.loop) - client->wait_us);
	link_attach_own(client, server);
	if (client_send_greeting(client, welcome))
		client_resume(client);
}

struct client *replication_abandon(struct server *server, enum reason reason)
{
	struct client *client;

	if (LIKELY(server->awaited_by == NULL))
		return NULL;
	client = replication_part(server);
	if (reason != REASON_PAUSE && reason != REASON_SUSPEND_UNSAFE && reason != REASON_CONFIG_CHANGED)
		return client;
	dedicated_requeue(client);
	return NULL;
}

void replication_client_gone(struct client *client)
{
	struct server *server = client->awaits;

	if (LIKELY(server == NULL))
		return;
	(void)replication_part(server);
	server_close(server, REASON_REPLICATION_LEFT);
}
