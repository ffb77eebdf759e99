/*
 * Look-ups by query.
 *
 *     login  -->  auth_cache_ask()  --- there is an answer ----------------> login goes on
 *                   |       |
 *                   |       +--- somebody is asking: wait for his answer --+
 *                   v                                                      v
 *                 a run  =======  an inner client  ------- auth_cache_settle() ---> messages to all who wait
 *                (this loop)  socketpair  (a worker)
 *
 * A run asks as any client of the pool (auth database, auth_user) would: it
 * has one end of a pair of sockets, and the other is handed to a worker as a
 * client that is logged in (client_hand_over). So the queue, its order and its
 * timeouts, the limits, logins to servers and what is done about their errors,
 * are those of every query, and there is not one line about look-ups on the
 * path of a query. Such a client has no parameters of its own, is not counted
 * as a client anywhere, and tells its run by the severity of an error whether
 * it was still waiting for a server: the person who logs in may know why, as
 * with PgBouncer, while what befell a server that was asked is for the log.
 *
 * A run belongs to the loop that began it, and not to the login: that may go
 * away. When nobody waits any more the run ends, and with it its client; the
 * server is closed if it was in the middle of the query.
 *
 * While there is an old answer that may be used (auth_query_stale) a run takes
 * two seconds at most.
 */
#include "pool/auth_query.h"

#include <sys/socket.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/reason_tbl.h"
#include "core/str.h"
#include "net/stream.h"
#include "pool/client.h"
#include "pool/registry.h"
#include "pool/report.h"
#include "proto/build.h"

/* What is sent in one go: the client keeps it until it is greeted, in less than a scratch buffer. */
#define AUTH_QUERY_BATCH_MAX     (LOOP_SCRATCH_SIZE - 1024)
/* How long the database is waited for while an old answer may be used. */
#define AUTH_QUERY_STALE_WAIT_US (2 * USEC_PER_SEC)

struct auth_run {
	TAILQ_ENTRY(auth_run) entry; /* in ctx->auth_runs */
	struct loop_ctx *ctx;
	struct snapshot *snap;
	struct auth_entry *of;
	struct stream stream;
	struct loop_task task; /* to be freed at the end of the turn */
	struct auth_reply reply;
	uint64_t id;
	uint64_t start_us;
	bool own_path; /* with the search_path of auth_user */
	bool is_over;
	char *database;
	char *auth_user;
	char *query;
	char *user;
};

/* What a look-up is to be made of; strings are the snapshot's or those of `made`. */
struct auth_place {
	struct conf_db *made; /* from the * line; NULL: the database has a line of its own, or is the console */
	struct auth_question question;
};

/* ---- settings ---- */

static void auth_place_fini(struct auth_place *place)
{
	conf_db_free(&place->made);
}

/* False when nobody can be asked. The database to ask is NULL for the console unless there is a global one. */
static bool auth_place_find(struct auth_place *place, const struct auth_asker *asker, enum auth_kind kind)
{
	const struct conf *conf = asker->snap->conf;
	const struct conf_db *db = conf_find_db(conf, asker->database);
	bool is_console = conf_is_console(conf, asker->database);
	const char *auth_user;

	*place = (struct auth_place){ .made = NULL };
	if (is_console)
		db = NULL;
	else if (db == NULL && conf_autodb(conf, asker->database, &place->made) != 0)
		return false;
	if (db == NULL)
		db = place->made;
	auth_user = conf_auth_user(conf, db);
	place->question = (struct auth_question){
		.kind = kind,
		.database = conf_auth_dbname(conf, db),
		.auth_user = auth_user,
		.query = kind == AUTH_KIND_USER ? conf_auth_query(conf, db) : conf->auth_roles_query,
		.user = asker->user,
	};
	if (place->question.database == NULL && !is_console)
		place->question.database = asker->database;
	return auth_user != NULL;
}

static struct auth_policy auth_query_policy(struct loop_ctx *ctx)
{
	return (struct auth_policy){
		.now_us = loop_now_us(ctx->loop),
		.ttl_us = ctx->snap->conf->auth_query_cache_ttl_us,
		.stale_us = ctx->snap->conf->auth_query_stale_us,
	};
}

bool auth_query_is_due(const struct auth_asker *asker)
{
	struct auth_place place;
	bool is_due = auth_place_find(&place, asker, AUTH_KIND_USER);

	auth_place_fini(&place);
	return is_due;
}

/* ---- the end of a run ---- */

static void auth_ask_on_answer(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct auth_ask *ask = CONTAINER_OF(msg, struct auth_ask, msg);
	struct auth_answer *answer = ask->answer;
	auth_answer_fn fn = ask->fn;
	void *arg = ask->arg;

	free(ask);
	if (fn != NULL)
		fn(arg, answer);
	else
		auth_answer_release(&answer);
}

static void auth_run_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	struct auth_run *run = CONTAINER_OF(task, struct auth_run, task);

	free(run->database);
	free(run->auth_user);
	free(run->query);
	free(run->user);
	free(run);
}

static void auth_run_end(struct auth_run *run)
{
	ASSERT(!run->is_over);
	run->is_over = true;
	TAILQ_REMOVE(&run->ctx->auth_runs, run, entry);
	stream_close(&run->stream);
	auth_reply_fini(&run->reply);
	snapshot_release(&run->snap);
	run->task.fn = auth_run_free_task;
	loop_defer(run->ctx->loop, &run->task);
}

/* The answer, which is taken over, goes to all who wait; the run is over. */
static void auth_run_settle(struct auth_run *run, struct auth_answer *answer)
{
	struct auth_policy policy = auth_query_policy(run->ctx);
	struct auth_asks asks;
	struct auth_ask *ask;

	auth_cache_settle(run->ctx->engine->auth_cache, run->of, answer, &policy, &asks);
	while ((ask = LIST_FIRST(&asks)) != NULL) {
		LIST_REMOVE(ask, entry);
		ask->msg.fn = auth_ask_on_answer;
		loop_post(ask->loop, &ask->msg);
	}
	auth_run_end(run);
}

/* What went wrong, in PgBouncer's words; it is nobody's in particular. */
static void auth_run_log(const struct auth_run *run)
{
	const struct auth_reply *reply = &run->reply;
	struct log_about about;

	report_about(&about, run, run->id, run->database, run->auth_user);
	about.action = "auth_query";
	about.is_bare = true;
	log_error_about(&about, "S: error in auth_query: %s%s%s", reply->severity,
			reply->severity[0] == '\0' ? "" : ": ", reply->text);
}

static struct auth_question auth_run_question(const struct auth_run *run)
{
	return (struct auth_question){
		.kind = run->reply.kind,
		.database = run->database,
		.auth_user = run->auth_user,
		.query = run->query,
		.user = run->user,
	};
}

static void auth_run_finish(struct auth_run *run)
{
	const struct auth_reply *reply = &run->reply;
	const struct auth_question question = auth_run_question(run);
	bool is_good = reply->outcome == AUTH_OUTCOME_FOUND || reply->outcome == AUTH_OUTCOME_NONE;

	if (run->own_path)
		auth_cache_note_path(run->ctx->engine->auth_cache, &question, is_good);
	if ((reply->outcome == AUTH_OUTCOME_FAILED || reply->outcome == AUTH_OUTCOME_DOWN) && !reply->waited)
		auth_run_log(run);
	auth_run_settle(run, auth_answer_new(&run->reply));
}

static void auth_run_cut(struct auth_run *run, const char *text)
{
	auth_reply_cut(&run->reply, text);
	auth_run_finish(run);
}

/* ---- the answer ---- */

/* Sends the query once more, with the search_path that sessions of auth_user begin with. */
static void auth_run_again(struct auth_run *run)
{
	struct buf b;
	int err;

	run->own_path = true;
	auth_reply_again(&run->reply);
	buf_init(&b, AUTH_QUERY_BATCH_MAX);
	err = auth_reply_build(&b, slice_of(run->query), slice_of(run->user), true);
	if (err == 0)
		err = stream_send_buf(&run->stream, &b);
	buf_fini(&b);
	if (err < 0)
		auth_run_cut(run, "unable to send auth_query");
}

/*
 * A name without a schema: for PgBouncer's files there is a second attempt,
 * with the path they have always had, which from then on is the only one.
 */
static void auth_run_no_schema(struct auth_run *run)
{
	struct log_about about;

	report_about(&about, run, run->id, run->database, run->auth_user);
	about.is_bare = true;
	if (run->own_path) {
		auth_run_finish(run);
	} else if (run->snap->conf->profile != CONF_PROFILE_PGBOUNCER) {
		log_error_about(&about,
				"the query runs with search_path pg_catalog: its tables and functions need the names "
				"of their schemas: %s",
				run->query);
		auth_run_finish(run);
	} else {
		log_warning_about(&about,
				  "names in auth_query should have schemas, it runs again with the search_path of "
				  "user %s: %s: %s",
				  run->auth_user, run->reply.text, run->query);
		auth_run_again(run);
	}
}

/* One message; false when the run is over. */
static bool auth_run_on_message(struct auth_run *run, const uint8_t *message, const struct frame *f)
{
	struct slice body = slice_make(message + FRAME_HEADER, (size_t)f->size - FRAME_HEADER);

	switch (auth_reply_feed(&run->reply, f->type, body)) {
	case AUTH_REPLY_MORE:
		return true;
	case AUTH_REPLY_NO_SCHEMA:
		auth_run_no_schema(run);
		return !run->is_over;
	case AUTH_REPLY_READY:
	case AUTH_REPLY_BROKEN:
		auth_run_finish(run);
		return false;
	}
	UNREACHABLE();
}

static void auth_run_read(struct auth_run *run, const uint8_t *data, size_t len)
{
	size_t at = 0;

	while (at < len) {
		struct frame f;
		int err = frame_read(data + at, len - at, AUTH_REPLY_MESSAGE_MAX, &f);
		if (err == -E_AGAIN || (err == 0 && f.size > len - at))
			break;
		if (err < 0) {
			auth_run_cut(run, "unexpected response from auth_query");
			return;
		}
		at += (size_t)f.size;
		if (!auth_run_on_message(run, data + at - f.size, &f))
			return;
	}
	if (stream_hold(&run->stream, data + at, len - at) != 0)
		auth_run_cut(run, "out of memory");
}

static void auth_run_on_readable(void *owner)
{
	struct auth_run *run = owner;
	uint8_t *data;
	size_t len;
	int err = stream_fill(&run->stream, &data, &len);

	if (err == -E_AGAIN)
		return;
	if (err < 0) {
		auth_run_cut(run, "server conn crashed?");
		return;
	}
	auth_run_read(run, data, len);
	mem_wipe(data, len); /* there are secrets of users in it */
}

static void auth_run_on_drained(void *owner, int err)
{
	if (err < 0)
		auth_run_cut(owner, "unable to send auth_query");
}

static void auth_run_on_event(void *owner)
{
	auth_run_cut(owner, "server conn crashed?");
}

static const struct stream_ops auth_run_stream_ops = {
	.on_readable = auth_run_on_readable,
	.on_drained = auth_run_on_drained,
	.on_event = auth_run_on_event,
};

/* ---- the beginning ---- */

/* Hands the inner client to a worker; false without sockets. */
static bool auth_run_connect(struct auth_run *run, struct pool *pool, const struct buf *batch,
			     const struct auth_asker *asker)
{
	struct client_birth birth = {
		.id = run->id,
		.connect_us = run->start_us,
		.is_inner = true,
		.is_unix = asker->is_unix,
		.peer = *asker->peer,
		.pending = buf_ptr(batch),
		.pending_len = buf_len(batch),
	};
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
		return false;
	birth.socket = (struct stream_socket){ .fd = fds[1] };
	birth.pool = pool_hold(pool);
	birth.account = registry_get_account(run->ctx->engine, run->auth_user);
	birth.vars = vars_make_empty();
	client_hand_over(&birth);
	stream_init(&run->stream, fds[0], &auth_run_stream_ops, run, AUTH_REPLY_MESSAGE_MAX, AUTH_QUERY_BATCH_MAX);
	stream_set_secret(&run->stream, true);
	stream_attach(&run->stream, run->ctx->loop);
	return true;
}

static void auth_run_start(struct loop_ctx *ctx, uint64_t id, const struct auth_asker *asker,
			   const struct auth_question *question, struct pool *pool, struct auth_entry *of)
{
	struct auth_run *run = xcalloc(1, sizeof(*run));
	struct buf batch;

	run->ctx = ctx;
	run->snap = snapshot_hold(ctx->snap);
	run->of = of;
	run->id = id;
	run->start_us = loop_now_us(ctx->loop);
	run->database = xstrdup(question->database);
	run->auth_user = xstrdup(question->auth_user);
	run->query = xstrdup(question->query);
	run->user = xstrdup(question->user);
	run->reply.kind = question->kind;
	run->stream.fd = -1;
	TAILQ_INSERT_TAIL(&ctx->auth_runs, run, entry);
	run->own_path = run->snap->conf->profile == CONF_PROFILE_PGBOUNCER &&
			auth_cache_needs_path(ctx->engine->auth_cache, question);
	buf_init(&batch, AUTH_QUERY_BATCH_MAX);
	if (auth_reply_build(&batch, slice_of(run->query), slice_of(run->user), run->own_path) != 0)
		auth_run_cut(run, "the query is too long");
	else if (!auth_run_connect(run, pool, &batch, asker))
		auth_run_cut(run, strerror(errno));
	buf_fini(&batch);
}

/* ---- asking ---- */

/* The pool to ask, held; or NULL, and *failure says what the client is told. */
static struct pool *auth_query_pool(struct loop_ctx *ctx, const struct auth_question *question,
				    const struct log_about *about, struct auth_answer **failure)
{
	struct engine *engine = ctx->engine;
	const char *name = question->database;
	struct pool *pool = NULL;
	struct db *db = NULL;
	char text[128];

	text[0] = '\0';
	if (name == NULL || conf_is_console(ctx->snap->conf, name)) {
		log_error_about(about, "cannot use the reserved \"%s\" database as an auth_dbname",
				name == NULL ? CONF_CONSOLE_DB_PGBOUNCER : name);
	} else {
		db = registry_get_db(engine, name, REGISTRY_ANY, about);
		if (db != NULL && atomic_load(&db->disabled))
			str_format(text, sizeof(text), "authentication database \"%s\" is disabled", name);
		else if (db != NULL)
			pool = registry_get_pool(engine, db, question->auth_user);
		if (pool == NULL && text[0] == '\0')
			log_error_about(about, "authentication database \"%s\" is not configured.", name);
	}
	db_release(&db);
	if (pool == NULL)
		*failure = auth_answer_new_failure(AUTH_OUTCOME_FAILED, text[0] == '\0' ? NULL : text, "55000");
	return pool;
}

static struct auth_answer *auth_query_ask(struct loop_ctx *ctx, const struct auth_asker *asker,
					  const struct auth_question *question, auth_answer_fn fn, void *arg,
					  struct auth_ask **askp)
{
	struct auth_policy policy = auth_query_policy(ctx);
	struct auth_runner runner = { ctx, engine_next_id(ctx->engine) };
	struct auth_answer *answer = NULL;
	struct auth_entry *entry;
	struct auth_ask *ask;
	struct pool *pool;

	*askp = NULL;
	pool = auth_query_pool(ctx, question, asker->about, &answer);
	if (pool == NULL)
		return answer;
	ask = xcalloc(1, sizeof(*ask));
	ask->loop = ctx->loop;
	ask->fn = fn;
	ask->arg = arg;
	switch (auth_cache_ask(ctx->engine->auth_cache, question, &policy, &runner, ask, &answer, &entry)) {
	case AUTH_CACHE_HIT:
		free(ask);
		ask = NULL;
		break;
	case AUTH_CACHE_WAIT:
		break;
	case AUTH_CACHE_RUN:
		auth_run_start(ctx, runner.id, asker, question, pool, entry);
		break;
	}
	pool_release(&pool);
	*askp = ask;
	return answer;
}

static struct auth_answer *auth_query_find(struct loop_ctx *ctx, const struct auth_asker *asker, enum auth_kind kind,
					   auth_answer_fn fn, void *arg, struct auth_ask **ask)
{
	struct auth_answer *answer;
	struct auth_place place;

	*ask = NULL;
	if (auth_place_find(&place, asker, kind))
		answer = auth_query_ask(ctx, asker, &place.question, fn, arg, ask);
	else
		answer = auth_answer_new_failure(AUTH_OUTCOME_FAILED, NULL, NULL); /* a reload has taken it away */
	auth_place_fini(&place);
	return answer;
}

struct auth_answer *auth_query_lookup(struct loop_ctx *ctx, const struct auth_asker *asker, auth_answer_fn fn,
				      void *arg, struct auth_ask **ask)
{
	return auth_query_find(ctx, asker, AUTH_KIND_USER, fn, arg, ask);
}

struct auth_answer *auth_roles_lookup(struct loop_ctx *ctx, const struct auth_asker *asker, auth_answer_fn fn,
				      void *arg, struct auth_ask **ask)
{
	return auth_query_find(ctx, asker, AUTH_KIND_ROLES, fn, arg, ask);
}

/* ---- leaving ---- */

/* To the loop of a run for which nobody waits any more. */
struct auth_end_msg {
	struct loop_msg msg;
	struct auth_runner runner;
};

static void auth_run_abandon(struct loop_ctx *ctx, uint64_t id)
{
	struct auth_run *run;

	TAILQ_FOREACH (run, &ctx->auth_runs, entry)
		if (run->id == id)
			break;
	/* Meanwhile it may have ended, or somebody may have joined it. */
	if (run != NULL && auth_cache_give_up(ctx->engine->auth_cache, run->of))
		auth_run_end(run);
}

static void auth_run_on_abandon(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct auth_end_msg *msg = CONTAINER_OF(base, struct auth_end_msg, msg);

	auth_run_abandon(msg->runner.ctx, msg->runner.id);
	free(msg);
}

void auth_query_leave(struct loop_ctx *ctx, struct auth_ask **askp)
{
	struct auth_ask *ask = *askp;
	struct auth_runner runner;

	*askp = NULL;
	if (ask == NULL)
		return;
	if (!auth_cache_leave(ctx->engine->auth_cache, ask, &runner)) {
		ask->fn = NULL; /* freed when the answer is there */
		return;
	}
	free(ask);
	if (runner.ctx == ctx) {
		auth_run_abandon(ctx, runner.id);
	} else if (runner.ctx != NULL) {
		struct auth_end_msg *msg = xcalloc(1, sizeof(*msg));

		msg->msg.fn = auth_run_on_abandon;
		msg->runner = runner;
		loop_post(runner.ctx->loop, &msg->msg);
	}
}

void auth_query_distrust(struct loop_ctx *ctx, const struct auth_asker *asker)
{
	struct auth_policy policy = auth_query_policy(ctx);
	struct auth_place place;

	for (enum auth_kind kind = AUTH_KIND_USER; kind <= AUTH_KIND_ROLES; kind++) {
		if (auth_place_find(&place, asker, kind) && place.question.database != NULL)
			auth_cache_distrust(ctx->engine->auth_cache, &place.question, &policy);
		auth_place_fini(&place);
	}
}

void auth_query_sweep(struct loop_ctx *ctx, uint64_t now_us)
{
	struct auth_policy policy = auth_query_policy(ctx);
	struct auth_run *run;
	struct auth_run *next;

	/* They stand in the order in which they began. */
	for (run = TAILQ_FIRST(&ctx->auth_runs); run != NULL; run = next) {
		next = TAILQ_NEXT(run, entry);
		if (now_us < run->start_us + AUTH_QUERY_STALE_WAIT_US)
			break;
		if (auth_cache_has_stale(ctx->engine->auth_cache, run->of, &policy))
			auth_run_cut(run, "no answer for two seconds, the last one is used again");
	}
}

void auth_query_close_all(struct loop_ctx *ctx)
{
	struct auth_run *run;

	while ((run = TAILQ_FIRST(&ctx->auth_runs)) != NULL)
		auth_run_cut(run, "pooler exits");
}
