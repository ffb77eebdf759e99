/*
 * Cancel requests.
 *
 * A key of eight bytes names the client: its worker, its slot there and the
 * generation of the slot, run through a keyed permutation, so that keys tell
 * nothing and cannot be guessed from one another. Nobody keeps a table of
 * keys: the login loop that reads the request finds the worker in it, the
 * worker finds the client, and compares the whole key.
 *
 *   byte 0      top bit 0 (drivers take the first number for a process id)
 *   bytes 1, 2  for the number of the instance
 *   byte 7      its two low bits are 1
 *   the other 45 bits: worker (7), slot (22), generation (16), permuted
 *
 * The request is delivered over a connection of its own to the address of the
 * server that works for the client at that moment. Until that connection has
 * ended the server is not given to anybody else (server->cancels), because
 * PostgreSQL signals the backend before it closes the connection. If the
 * client is done before the request was sent, it is not sent at all.
 */
#include "pool/cancel.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/siphash.h"
#include "core/str.h"
#include "net/sock.h"
#include "pool/link.h"
#include "pool/registry.h"
#include "proto/build.h"

#define CANCEL_SLOT_BITS  22
#define CANCEL_MAGIC      0x63616e63
#define CANCEL_PACKET_MAX 512

/* A request on its way; owned by the worker of the client it is for. */
struct cancel {
	uint32_t magic;
	TAILQ_ENTRY(cancel) entry; /* in worker->cancels */
	struct loop_msg msg;
	struct loop_task task;
	struct worker *worker;
	struct server *server; /* its target, while the request is under way */
	struct stream stream;  /* to PostgreSQL */
	struct pool *pool;     /* of the client, held; NULL: no client has that key */
	int client_fd;         /* the one who asks; closed at the end */
	bool sent;
	uint64_t start_us;
	char who[320]; /* asks, for the log */
	uint8_t key[CANCEL_KEY_LEN];
	uint32_t slot;
	uint16_t generation;
};

/* ---- keys ---- */

static uint32_t cancel_round(const struct engine *engine, unsigned round, uint32_t half)
{
	return (uint32_t)siphash_u64(engine->cancel_secret, (uint64_t)round << 32 | half);
}

/* A permutation of 45 bits: a Feistel network with halves of 22 and 23 bits. */
static uint64_t cancel_permute(const struct engine *engine, uint64_t v, bool inverse)
{
	uint32_t left = (uint32_t)(v >> 23) & 0x3fffff;
	uint32_t right = (uint32_t)v & 0x7fffff;

	for (unsigned i = 0; i < 4; i++) {
		unsigned round = inverse ? 3 - i : i;

		if (round % 2 == 0)
			right ^= cancel_round(engine, round, left) & 0x7fffff;
		else
			left ^= cancel_round(engine, round, right) & 0x3fffff;
	}
	return (uint64_t)left << 23 | right;
}

void cancel_key_make(const struct engine *engine, unsigned worker, uint32_t slot, uint16_t generation,
		     uint8_t key[CANCEL_KEY_LEN])
{
	uint64_t v = (uint64_t)worker << 38 | (uint64_t)slot << 16 | generation;

	ASSERT(worker < 128 && slot < 1u << CANCEL_SLOT_BITS);
	v = cancel_permute(engine, v, false);
	key[0] = (uint8_t)(v >> 38) & 0x7f;
	key[1] = engine->cancel_secret[16];
	key[2] = engine->cancel_secret[17];
	key[3] = (uint8_t)(v >> 30);
	key[4] = (uint8_t)(v >> 22);
	key[5] = (uint8_t)(v >> 14);
	key[6] = (uint8_t)(v >> 6);
	key[7] = (uint8_t)((v & 0x3f) << 2 | 3);
}

static void cancel_key_read(const struct engine *engine, const uint8_t key[CANCEL_KEY_LEN], unsigned *worker,
			    uint32_t *slot, uint16_t *generation)
{
	uint64_t v = (uint64_t)(key[0] & 0x7f) << 38 | (uint64_t)key[3] << 30 | (uint64_t)key[4] << 22 |
		     (uint64_t)key[5] << 14 | (uint64_t)key[6] << 6 | key[7] >> 2;

	v = cancel_permute(engine, v, true);
	*worker = (unsigned)(v >> 38) & 0x7f;
	*slot = (uint32_t)(v >> 16) & ((1u << CANCEL_SLOT_BITS) - 1);
	*generation = (uint16_t)v;
}

/* A key made by another process. */
struct carried_key {
	UT_hash_handle hh;
	uint8_t key[CANCEL_KEY_LEN];
	unsigned worker;
	uint32_t slot;
	uint16_t generation;
};

static struct carried_key *cancel_find_carried_locked(struct engine *engine, const uint8_t key[CANCEL_KEY_LEN])
{
	struct carried_key *carried;

	HASH_FIND(hh, engine->carried_keys, key, CANCEL_KEY_LEN, carried);
	return carried;
}

void cancel_key_carry(struct engine *engine, const uint8_t key[CANCEL_KEY_LEN], unsigned worker, uint32_t slot,
		      uint16_t generation)
{
	struct carried_key *carried = xcalloc(1, sizeof(*carried));

	memcpy(carried->key, key, CANCEL_KEY_LEN);
	carried->worker = worker;
	carried->slot = slot;
	carried->generation = generation;
	lock_acquire(&engine->lock);
	if (cancel_find_carried_locked(engine, key) == NULL) {
		HASH_ADD(hh, engine->carried_keys, key, CANCEL_KEY_LEN, carried);
		carried = NULL;
	}
	lock_release(&engine->lock);
	free(carried); /* two clients with one key: only the first can be canceled */
}

void cancel_key_drop(struct engine *engine, const uint8_t key[CANCEL_KEY_LEN])
{
	struct carried_key *carried;

	lock_acquire(&engine->lock);
	carried = cancel_find_carried_locked(engine, key);
	if (carried != NULL)
		HASH_DEL(engine->carried_keys, carried);
	lock_release(&engine->lock);
	free(carried);
}

static void cancel_key_find(struct engine *engine, const uint8_t key[CANCEL_KEY_LEN], unsigned *worker, uint32_t *slot,
			    uint16_t *generation)
{
	const struct carried_key *carried;

	cancel_key_read(engine, key, worker, slot, generation);
	lock_acquire(&engine->lock);
	carried = cancel_find_carried_locked(engine, key);
	if (carried != NULL) {
		*worker = carried->worker;
		*slot = carried->slot;
		*generation = carried->generation;
	}
	lock_release(&engine->lock);
}

/* ---- the end of a request ---- */

static void cancel_log(struct loop_ctx *ctx, const char *who, enum reason reason, uint64_t start_us)
{
	if (ctx->snap->conf->log_disconnections != 0)
		log_info("%s closing because: %s (age=%" PRIu64 "s)", who, reason_text(reason),
			 (loop_now_us(ctx->loop) - start_us) / USEC_PER_SEC);
}

static void cancel_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	struct cancel *cancel = CONTAINER_OF(task, struct cancel, task);

	CHECK_OBJ(cancel, CANCEL_MAGIC);
	pool_release(&cancel->pool);
	cancel->magic = 0;
	free(cancel);
}

static void cancel_end(struct cancel *cancel, enum reason reason)
{
	struct server *server = cancel->server;
	struct engine *engine = cancel->worker->ctx.engine;

	cancel_log(&cancel->worker->ctx, cancel->who, reason, cancel->start_us);
	ASSERT(!cancel->task.queued);
	TAILQ_REMOVE(&cancel->worker->cancels, cancel, entry);
	stream_close(&cancel->stream);
	close(cancel->client_fd);
	atomic_fetch_sub_explicit(&engine->client_count, 1, memory_order_relaxed);
	cancel->server = NULL;
	cancel->task.fn = cancel_free_task;
	loop_defer(cancel->worker->ctx.loop, &cancel->task);
	if (server != NULL)
		server_cancel_ended(server);
}

/* ---- delivery ---- */

static void cancel_send(struct cancel *cancel)
{
	struct server *server = cancel->server;
	struct buf b;
	int err;

	buf_init(&b, CANCEL_PACKET_MAX);
	err = build_cancel_request(&b, server->backend_pid, slice_make(server->backend_key, server->backend_key_len));
	if (err == 0)
		err = stream_send_buf(&cancel->stream, &b);
	buf_fini(&b);
	if (err != 0) {
		cancel_end(cancel, REASON_CANCEL_FAILED);
		return;
	}
	cancel->sent = true;
	stream_want_read(&cancel->stream, true);
}

static void cancel_on_connected(void *owner)
{
	struct cancel *cancel = owner;
	int err = sock_connect_result(cancel->stream.fd);

	if (err == -E_AGAIN) {
		stream_detach(&cancel->stream);
		stream_watch_connect(&cancel->stream, cancel->worker->ctx.loop);
	} else if (err != 0) {
		cancel_end(cancel, REASON_CANCEL_FAILED);
	} else {
		cancel_send(cancel);
	}
}

/* PostgreSQL answers by closing. */
static void cancel_on_readable(void *owner)
{
	struct cancel *cancel = owner;
	uint8_t *data;
	size_t len;
	int err = stream_fill(&cancel->stream, &data, &len);

	if (err != -E_AGAIN)
		cancel_end(cancel, REASON_CANCEL_SENT);
}

static void cancel_on_drained(void *owner, int err UNUSED)
{
	cancel_end(owner, REASON_CANCEL_FAILED);
}

static const struct stream_ops cancel_stream_ops = {
	.on_readable = cancel_on_readable,
	.on_drained = cancel_on_drained,
	.on_event = cancel_on_connected,
};

static void cancel_connect(struct cancel *cancel, struct server *server)
{
	int fd = sock_connect_start(&server->addr, &server->conf->tuning);

	if (fd < 0) {
		cancel_end(cancel, REASON_CANCEL_FAILED);
		return;
	}
	cancel->server = server;
	server->cancels++;
	stream_init(&cancel->stream, fd, &cancel_stream_ops, cancel, 64, CANCEL_PACKET_MAX);
	stream_watch_connect(&cancel->stream, cancel->worker->ctx.loop);
}

/* The request has reached the worker of the client. */
static void cancel_arrive(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct cancel *cancel = CONTAINER_OF(msg, struct cancel, msg);
	struct worker *worker = worker_current();
	struct client *client;

	CHECK_OBJ(cancel, CANCEL_MAGIC);
	client = worker_slot_find(worker, cancel->slot, cancel->generation);
	cancel->worker = worker;
	TAILQ_INSERT_TAIL(&worker->cancels, cancel, entry);
	if (client == NULL || !mem_equal_ct(client->cancel_key, cancel->key, CANCEL_KEY_LEN)) {
		cancel_end(cancel, REASON_CANCEL_UNKNOWN);
		return;
	}
	cancel->pool = pool_hold(client->pool);
	if (client->state == CL_WAITING) {
		cancel_end(cancel, client_cancel_wait(client) ? REASON_CANCEL_QUEUED : REASON_CANCEL_LATE);
	} else if (client->state == CL_HELD) {
		cancel_end(cancel, REASON_CANCEL_VARS);
	} else if (client->server == NULL || track_is_quiet(&client->server->track)) {
		cancel_end(cancel, REASON_CANCEL_IDLE);
	} else {
		cancel_connect(cancel, client->server);
	}
}

/* The key is one of a console session, or looks like one: the control loop knows. */
static void cancel_to_console(struct engine *engine, int fd, const uint8_t key[CANCEL_KEY_LEN], const char *who)
{
	struct console_cancel *cancel = xcalloc(1, sizeof(*cancel));

	cancel->msg.fn = engine->ops->console_cancel;
	cancel->fd = fd;
	memcpy(cancel->cancel_key, key, CANCEL_KEY_LEN);
	str_copy(cancel->who, sizeof(cancel->who), who);
	loop_post(engine->control, &cancel->msg);
}

void cancel_request(struct loop_ctx *ctx, int fd, const uint8_t key[CANCEL_KEY_LEN], const char *who)
{
	struct engine *engine = ctx->engine;
	uint64_t now_us = loop_now_us(ctx->loop);
	struct cancel *cancel;
	uint16_t generation;
	unsigned worker;
	uint32_t slot;

	cancel_key_find(engine, key, &worker, &slot, &generation);
	if (worker == CANCEL_WORKER_CONSOLE) {
		cancel_to_console(engine, fd, key, who);
		return;
	}
	if (worker >= engine->worker_count) {
		cancel_log(ctx, who, REASON_CANCEL_UNKNOWN, now_us);
		atomic_fetch_sub_explicit(&engine->client_count, 1, memory_order_relaxed);
		close(fd);
		return;
	}
	cancel = xcalloc(1, sizeof(*cancel));
	cancel->magic = CANCEL_MAGIC;
	cancel->client_fd = fd;
	str_copy(cancel->who, sizeof(cancel->who), who);
	cancel->start_us = now_us;
	cancel->stream.fd = -1;
	memcpy(cancel->key, key, CANCEL_KEY_LEN);
	cancel->slot = slot;
	cancel->generation = generation;
	cancel->msg.fn = cancel_arrive;
	loop_post(engine->workers[worker]->ctx.loop, &cancel->msg);
}

/* ---- from outside ---- */

void cancel_detach(struct worker *worker, struct server *server)
{
	struct cancel *cancel;
	struct cancel *next;
	bool is_closed = server->state == SV_CLOSED;

	if (LIKELY(server->cancels == 0))
		return;
	for (cancel = TAILQ_FIRST(&worker->cancels); cancel != NULL; cancel = next) {
		next = TAILQ_NEXT(cancel, entry);
		if (cancel->server != server || (cancel->sent && !is_closed))
			continue;
		/* The server itself is in the hands of the caller: nothing follows from its last cancel. */
		cancel->server = NULL;
		server->cancels--;
		cancel_end(cancel, cancel->sent ? REASON_CANCEL_SENT : REASON_CANCEL_LATE);
	}
}

/* PostgreSQL has the request but does not close: nobody knows when its signal comes, so the server is not used again.
 */
static void cancel_give_up(struct cancel *cancel)
{
	struct server *server = cancel->server;

	cancel->server = NULL;
	cancel_end(cancel, REASON_CANCEL_TIMEOUT);
	if (server == NULL)
		return;
	server->cancels--;
	server->dirty = true;
	if (server->state == SV_CANCELED)
		server_close(server, REASON_DOUBT);
}

void cancel_sweep(struct worker *worker, uint64_t now_us)
{
	uint64_t timeout_us = worker->ctx.snap->conf->cancel_wait_timeout_us;
	struct cancel *cancel;

	if (timeout_us == 0)
		return;
	/* They stand in order of arrival; the end of one may end others for the same server. */
	while ((cancel = TAILQ_FIRST(&worker->cancels)) != NULL && cancel->start_us + timeout_us <= now_us) {
		if (cancel->sent)
			cancel_give_up(cancel);
		else
			cancel_end(cancel, REASON_CANCEL_TIMEOUT);
	}
}

void cancel_close_all(struct worker *worker)
{
	struct cancel *cancel;

	while ((cancel = TAILQ_FIRST(&worker->cancels)) != NULL)
		cancel_end(cancel, REASON_FAST_EXIT);
}

void cancel_end_pool(struct worker *worker, const struct pool *pool)
{
	struct cancel *cancel;

	do {
		TAILQ_FOREACH (cancel, &worker->cancels, entry)
			if (cancel->pool == pool)
				break;
		if (cancel != NULL)
			cancel_end(cancel, REASON_DB_REMOVED);
	} while (cancel != NULL);
}

void cancel_count(struct worker *worker, const struct pool *pool, unsigned *waiting, unsigned *active)
{
	struct cancel *cancel;

	*waiting = *active = 0;
	TAILQ_FOREACH (cancel, &worker->cancels, entry) {
		if (cancel->pool == pool && cancel->sent)
			++*active;
		else if (cancel->pool == pool)
			++*waiting;
	}
}
