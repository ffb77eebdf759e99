/*
 * A statement outside of a transaction block is a transaction of its own. When
 * that fails for a conflict with others (40001, 40P01), nothing of it is left,
 * and it may be run again as if the client had sent it now, as long as the client
 * has not been told anything of the first run.
 *
 *     sent      its bytes are kept as they are sent (rerun.c)
 *     answered  nothing of the answer is passed on before it is clear that it is
 *               no such error: what may come before one, such as ParseComplete
 *               and RowDescription, is looked behind (repeat_look())
 *     failed    the rest of the answer is swallowed, up to ReadyForQuery
 *     waiting   the server goes to others, the client's bytes are put back in
 *               front of what else it has sent, and it waits (CL_REPEAT)
 *     again     it is idle, and its bytes are read, as if they came now
 *
 * What is repeated is one statement that has come as a whole, and of some kinds
 * only: CALL and DO may have committed a part, utility commands that begin
 * transactions of their own likewise. Which, and whether it is at all, decides
 * retry.c.
 *
 * A loss of the server is no such failure, since nobody knows what the server did
 * with the statement before. But if the first attempt to send has failed, it got
 * nothing.
 */
#include "pool/repeat.h"

#include <event2/event.h>
#include <event2/event_struct.h>

#include "core/alloc.h"
#include "pool/link.h"
#include "pool/query_timeout.h"
#include "pool/rerun.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

/* What is held back of an answer, at most. */
#define REPEAT_LOOK_MAX (16 * 1024)

struct repeat {
	struct event timer;
	unsigned runs; /* that have failed */
	enum retry_cause cause;
};

static void repeat_count(struct pool_part *part, enum retry_cause cause, enum retry_outcome outcome)
{
	_Atomic uint64_t *count = &part->retries[cause][outcome];

	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* ---- what is repeated ---- */

static bool repeat_find_text(void *arg, struct slice name, struct slice *sql)
{
	const struct client *client = arg;
	const struct prep_name *known;
	const struct stmt *stmt = client->prep.unnamed;

	if (name.n > 0) {
		known = prep_client_find(&client->prep, name);
		stmt = known == NULL ? NULL : known->stmt;
	}
	if (stmt == NULL)
		return false;
	*sql = slice_make(stmt->body, stmt->len);
	return true;
}

/* True when the first `len` of the kept bytes are one whole statement that may be repeated. */
static bool repeat_is_repeatable(const struct server *server, uint32_t len)
{
	struct retry_names names = { repeat_find_text, server->client };

	return retry_is_repeatable(slice_make(server->rerun.bytes, len), &names);
}

/* ... and nothing else was sent since, of which more is to come. */
static bool repeat_is_whole(const struct server *server)
{
	return server->rerun.is_keeping && server->client->body_left == 0 &&
	       repeat_is_repeatable(server, server->rerun.len);
}

void repeat_begin(struct link_walk *w)
{
	struct client *client = w->client;
	struct server *server = client->server;

	if (w->f.type != FE_QUERY && w->f.type != FE_PARSE && w->f.type != FE_BIND)
		return;
	if (link_walk_avail(w) < w->f.size || w->f.size > RERUN_MAX || server->sql_statements > 0 || client->is_inner)
		return;
	if (client->repeat == NULL)
		retry_budget_earn(&client->part->retry_budget, client->part->conf->retry_budget);
	if (!server->rerun.is_keeping) { /* or it was begun by this Bind */
		rerun_begin(server, NULL);
		w->keep_from = w->at;
	}
	server->rerun.is_statement = server->rerun.is_keeping;
}

/* ---- the decision ---- */

/* The statement has failed: true when it is to be run again, rerun.delay_us from now. */
static bool repeat_decide(struct server *server, enum retry_cause cause, bool is_repeatable, bool has_begun)
{
	struct client *client = server->client;
	const struct pool_conf *conf = client->part->conf;
	uint64_t now_us = loop_now_us(link_loop(client));
	uint64_t since_us = query_timeout_since_us(client);
	struct retry_case c = {
		.cause = cause,
		.is_repeatable = is_repeatable,
		.in_block = server->track.status != TX_IDLE,
		.has_begun = has_begun,
		.runs = client->repeat == NULL ? 1 : client->repeat->runs + 1,
		.max_runs = conf->retry_max_attempts,
		.spent_us = since_us == 0 || since_us > now_us ? 0 : now_us - since_us,
		.limit_us = query_timeout_limit_us(client),
		.dice = arc4random(),
	};
	enum retry_outcome outcome = retry_decide(&client->part->retry_budget, &c, &server->rerun.delay_us);

	if (outcome != RETRY_NOT_MEANT)
		repeat_count(client->part, cause, outcome);
	if (outcome != RETRY_RETRIED)
		return false;
	if (client->repeat == NULL)
		client->repeat = xcalloc(1, sizeof(*client->repeat));
	client->repeat->runs = c.runs;
	client->repeat->cause = cause;
	return true;
}

/* ---- the answer ---- */

/* True for a message that may come before an error in the same answer, and has no rows in it. */
static bool repeat_precedes(uint8_t type)
{
	return type == BE_PARSE_COMPLETE || type == BE_BIND_COMPLETE || type == BE_PARAMETER_DESCRIPTION ||
	       type == BE_ROW_DESCRIPTION || type == BE_NO_DATA;
}

/* An error that comes at `p`, whole: true when the statement is repeated for it. */
static bool repeat_is_due(struct server *server, const uint8_t *p, uint64_t size)
{
	struct parse_report report;

	return parse_report(slice_make(p + FRAME_HEADER, (size_t)size - FRAME_HEADER), &report) == 0 &&
	       repeat_decide(server, retry_cause_of(report.sqlstate), true, false);
}

/*
 * Finds the message that decides, behind those that may come before an error:
 * its place in *at, its head in *f. 0, or -E_AGAIN when it has not come, or is an
 * error of which a part is missing, or -E_TOOBIG and others when what is before
 * it is not worth being held back.
 */
static int repeat_find(const uint8_t *p, size_t len, uint64_t max_size, size_t *at, struct frame *f)
{
	for (*at = 0;; *at += (size_t)f->size) {
		int err = frame_read(p + *at, len - *at, max_size, f);

		if (err != 0)
			return err;
		if (f->size > REPEAT_LOOK_MAX - *at)
			return -E_TOOBIG;
		if (f->type != BE_ERROR && !repeat_precedes(f->type))
			return 0;
		if (f->size > len - *at)
			return -E_AGAIN;
		if (f->type == BE_ERROR)
			return 0;
	}
}

/*
 * Most answers begin with something else than an error, and then nobody needs to
 * know what kind of statement it was: that is looked at last.
 */
int repeat_look(struct server *server, const uint8_t *p, size_t len, size_t *skip)
{
	struct rerun *r = &server->rerun;
	struct frame f;
	size_t at;
	int err;

	*skip = 0;
	if (server->client == NULL || r->is_under_way || r->is_unsent || track_head_is_ours(&server->track))
		return 0; /* what nothing was sent for is not its answer: the server's last words, mostly */
	err = repeat_find(p, len, server->part->conf->max_packet_size, &at, &f);
	if (LIKELY(err == 0 ? f.type != BE_ERROR : err != -E_AGAIN)) {
		r->is_statement = false;
		r->begun = r->len;
		return 0;
	}
	if (!repeat_is_whole(server)) {
		r->is_statement = false;
		return 0;
	}
	if (err != 0)
		return err;
	r->is_statement = false;
	r->is_due = repeat_is_due(server, p + at, f.size);
	if (r->is_due)
		*skip = at;
	return 0;
}

void repeat_answered(struct server *server, uint8_t type)
{
	struct client *client = server->client;

	if (client->repeat == NULL)
		return;
	if (type != BE_ERROR)
		repeat_count(client->part, client->repeat->cause, RETRY_SUCCEEDED);
	repeat_free(client);
}

void repeat_missed(struct server *server, struct slice body)
{
	uint32_t begun = server->rerun.begun;
	struct parse_report report;
	enum retry_cause cause;

	if (begun == 0 || server->client == NULL || parse_report(body, &report) != 0)
		return;
	cause = retry_cause_of(report.sqlstate);
	if (cause != RETRY_NO_CAUSE)
		(void)repeat_decide(server, cause, repeat_is_repeatable(server, begun), true); /* it is counted */
}

bool repeat_holds(struct server *server)
{
	struct rerun *r = &server->rerun;

	if (r->is_statement && !repeat_is_whole(server))
		r->is_statement = false;
	return r->is_statement;
}

/* ---- waiting ---- */

static void repeat_on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct client *client = arg;

	CHECK_OBJ(client, CLIENT_MAGIC);
	client_set_state(client, CL_IDLE);
	client_resume(client);
}

void repeat_wait(struct server *server)
{
	struct client *client = server->client;
	uint64_t delay_us = server->rerun.delay_us;
	struct timeval tv = { .tv_sec = (time_t)(delay_us / USEC_PER_SEC), .tv_usec = (long)(delay_us % USEC_PER_SEC) };
	int err;

	link_detach(client, server);
	client_set_state(client, CL_REPEAT);
	err = event_assign(&client->repeat->timer, loop_base(link_loop(client)), -1, 0, repeat_on_timer, client);
	if (err == 0)
		err = event_add(&client->repeat->timer, &tv);
	ASSERT(err == 0);
	server_free_to_pool(server);
}

bool repeat_takes_loss(struct server *server)
{
	struct client *client = server->client;
	struct rerun *r = &server->rerun;

	if (!r->is_statement || !r->is_unsent || client->state != CL_ACTIVE || client->send_failed ||
	    !repeat_decide(server, RETRY_UNSENT, repeat_is_whole(server), false))
		return false;
	return rerun_finish(server) == 0;
}

void repeat_free(struct client *client)
{
	if (client->repeat == NULL)
		return;
	if (client->state == CL_REPEAT || event_initialized(&client->repeat->timer))
		event_del(&client->repeat->timer);
	free(client->repeat);
	client->repeat = NULL;
}
