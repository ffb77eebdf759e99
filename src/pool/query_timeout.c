/*
 * Queries over their limit.
 *
 *   query_timeout           cancel request          cancel_grace over
 *   ---------------> over ----------------> asked ---------------------> server closed
 *                                             |
 *                                             +--> 57014 comes: told in our words
 *                                             +--> anything else comes: goes to the client
 *
 * Nothing is done for a query while it runs. The janitor looks at what is under
 * way at each of its passes, and has itself woken in between where a limit falls
 * there; a query that asks for less than a period or two does so itself when it
 * begins. So a limit is kept to within some milliseconds, and the path of a
 * query has no timer.
 *
 * The request is one of our own, by the same way as those of clients (cancel.c),
 * with the same promise: the server goes to nobody else before it has ended.
 * PostgreSQL's signal has no address but the backend, so the client of the
 * query has to be kept from the server, too, lest its next query be hit: while a
 * request is under way the client's messages wait (`holds`). When the query ends
 * before the request was sent, that is withdrawn.
 *
 * PostgreSQL does not listen while it waits for data of COPY; there CopyFail
 * stops it at once, with the same state in its error. The request goes out all
 * the same, because it may be at work on data that came before.
 *
 * In a pipeline the limit counts from the beginning, as query_time does. When
 * one of its queries was stopped, those behind it have the limit for themselves.
 */
#include "pool/query_timeout.h"

#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/janitor.h"
#include "pool/query_hint.h"
#include "pool/refuse.h"
#include "pool/report.h"
#include "pool/server.h"
#include "proto/parse.h"

#define QUERY_TIMEOUT_STATE     "57014"

/* Limits below this are looked after more often than the janitor's period ... */
#define QUERY_TIMEOUT_SHORT_US  (JANITOR_PERIOD_US * 3 / 2)
/* ... that is, so often. */
#define QUERY_TIMEOUT_PERIOD_US 20000

static struct worker *query_timeout_worker(const struct client *client)
{
	return client->part->worker;
}

/* ---- limits ---- */

uint64_t query_timeout_limit_us(const struct client *client)
{
	uint64_t limit_us = client->part->conf->query_timeout_us;

	if (client->hint_us > 0 && (limit_us == 0 || client->hint_us < limit_us))
		return client->hint_us;
	return limit_us;
}

uint64_t query_timeout_since_us(const struct client *client)
{
	const struct server *server = client->server;
	uint64_t since_us = client->query_us;

	if (since_us == 0)
		return 0;
	if (!client->part->conf->timeout_includes_wait)
		since_us += client->waited_us;
	return server != NULL && server->timeout.restart_us > since_us ? server->timeout.restart_us : since_us;
}

void query_timeout_hint(struct client *client, struct slice text)
{
	uint64_t hint_us;

	if (!client->part->conf->query_hints)
		return;
	hint_us = query_hint_timeout_us(text);
	if (hint_us == 0 || (client->hint_us > 0 && client->hint_us <= hint_us))
		return;
	client->hint_us = hint_us;
	if (hint_us < QUERY_TIMEOUT_SHORT_US)
		janitor_expect(query_timeout_worker(client), hint_us);
}

uint64_t query_timeout_period_us(const struct pool_part *part)
{
	uint64_t limit_us = part->conf->query_timeout_us;

	return limit_us > 0 && limit_us < QUERY_TIMEOUT_SHORT_US ? QUERY_TIMEOUT_PERIOD_US : 0;
}

/* ---- the ladder ---- */

static void query_timeout_begin(struct server *server, uint64_t since_us, uint64_t now_us)
{
	struct query_timeout *t = &server->timeout;

	t->is_over = true;
	t->over_us = now_us;
	t->since_us = since_us;
	t->limit_us = query_timeout_limit_us(server->client);
	if (server->client->body_left == 0)
		server_fail_copy(server, REASON_QUERY_TIMEOUT);
	if (t->holds)
		return; /* a request for what came before in the pipeline is still under way */
	t->holds = true;
	cancel_server(server);
}

/* Closes the server: what comes of the client is up to server_close(). */
static enum reason query_timeout_close(struct server *server)
{
	query_timeout_worker(server->client)->timeouts.closed++;
	return REASON_QUERY_TIMEOUT;
}

bool query_timeout_is_unsent(const struct server *server)
{
	const struct client *client = server->client;

	return client->state == CL_HELD && !client->is_inner &&
	       server->part->conf->query_timeout_action == CONF_TIMEOUT_CANCEL;
}

/* It is over its limit, and has not been asked to stop. */
static enum reason query_timeout_step(struct server *server, uint64_t since_us, uint64_t now_us)
{
	const struct pool_conf *conf = server->part->conf;
	uint64_t end_us = since_us + query_timeout_limit_us(server->client) + conf->cancel_grace_us;

	if (query_timeout_is_unsent(server))
		return REASON_QUERY_TIMEOUT; /* there is nothing to cancel */
	if (conf->query_timeout_action == CONF_TIMEOUT_DISCONNECT || conf->cancel_grace_us == 0)
		return query_timeout_close(server);
	if (server->client->state == CL_ACTIVE && !server->rerun.is_under_way) {
		query_timeout_begin(server, since_us, now_us);
		return REASON_NONE;
	}
	/* What the server is at is not the client's query, which has yet to be sent. */
	return now_us > end_us ? query_timeout_close(server) : REASON_NONE;
}

enum reason query_timeout_check(struct server *server, uint64_t now_us)
{
	struct query_timeout *t = &server->timeout;
	uint64_t limit_us = query_timeout_limit_us(server->client);
	uint64_t since_us;

	if (t->is_over && track_is_quiet(&server->track))
		query_timeout_answered(server); /* of a batch without Sync */
	if (t->is_over)
		return now_us - t->over_us > server->part->conf->cancel_grace_us ? query_timeout_close(server)
										 : REASON_NONE;
	since_us = query_timeout_since_us(server->client);
	if (limit_us == 0 || since_us == 0 || track_is_quiet(&server->track))
		return REASON_NONE;
	if (now_us > since_us + limit_us)
		return query_timeout_step(server, since_us, now_us);
	janitor_expect(server->part->worker, since_us + limit_us + 1 - now_us);
	return REASON_NONE;
}

void query_timeout_end_unsent(struct client *client)
{
	struct worker *worker = query_timeout_worker(client);
	struct pool_refusal refusal = {
		.reason = REASON_QUERY_TIMEOUT_QUEUE,
		.wait_us = loop_now_us(worker->ctx.loop) - client_open_since_us(client),
		.left_us = query_timeout_limit_us(client),
	};

	worker->timeouts.expired++;
	refuse_client(client, &refusal, NULL);
}

bool query_timeout_expire(struct client *client)
{
	if (!pool_dequeue(client->part, client))
		return false;
	query_timeout_end_unsent(client);
	return true;
}

/* ---- answers ---- */

/* The error of a query that has been stopped, in our words. */
static int query_timeout_report(const struct server *server, struct slice error, struct buf *b)
{
	const struct query_timeout *t = &server->timeout;
	const struct conf *conf = server->part->worker->ctx.snap->conf;
	struct report_facts facts = { .known = { .database = server->pool->db->name } };
	struct parse_report cause;
	struct log_about about;
	struct report report;

	if (parse_report(error, &cause) != 0 || !slice_eq_str(cause.sqlstate, QUERY_TIMEOUT_STATE))
		return -E_NOENT;
	report_fact_timeout(&facts, t->limit_us);
	report_fact_time(&facts, loop_now_us(server->part->worker->ctx.loop) - t->since_us);
	report_reason(&report, conf, REASON_QUERY_STOPPED, &facts.known);
	report.is_server = true;
	client_describe(server->client, &about);
	return report_error(b, conf, &about, "ERROR", &report);
}

/* What was over its limit is no longer under way. */
static void query_timeout_end(struct server *server, uint64_t *counter)
{
	struct worker *worker = server->part->worker;

	(*counter)++;
	server->timeout.is_over = false;
	server->timeout.restart_us = loop_now_us(worker->ctx.loop);
	cancel_withdraw(worker, server);
}

int query_timeout_on_error(struct server *server, struct slice error, struct buf *b)
{
	struct query_timeout_counts *counts = &server->part->worker->timeouts;
	int err = query_timeout_report(server, error, b);

	query_timeout_end(server, err == 0 ? &counts->canceled : &counts->finished);
	return err;
}

void query_timeout_answered(struct server *server)
{
	query_timeout_end(server, &server->part->worker->timeouts.finished);
}

void query_timeout_request_over(struct server *server)
{
	server->timeout.holds = false;
	if (server->client != NULL && server->client->state == CL_ACTIVE)
		client_resume(server->client);
}
