/*
 * Peers.
 *
 * Several processes may share an address (so_reuseport, or a balancer in front
 * of them), so a cancel request may reach another one than the session that it
 * is for. The key names the process that has made it, and whoever gets a
 * foreign one passes it on, as a plain CancelRequest: peers do not log in to
 * each other. The key counts how often it was passed on, so it cannot go in
 * circles.
 *
 *   peer_forward() --> peer->waiting --> peer->conns (sent) --> closed by the peer
 *
 * A peer has a pool of connections for one request each. As with servers, one
 * of them is opened at a time, and after a failure the next attempt waits for
 * server_login_retry; the connection is not bound to a request before it
 * stands. Requests that have to wait go away after cancel_wait_timeout. One
 * that was sent is bounded by the same time, counted anew: the peer has it,
 * but might never close.
 *
 * Everything here lives on the control loop: such requests are rare, and so
 * the counts need no lock, a reload finds nobody in the middle of anything,
 * and the console can look without asking.
 */
#include "pool/peer.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "pool/cancel.h"
#include "pool/pool_conf.h"
#include "proto/frame.h"

#define PEER_REQUEST_MAGIC 0x70726571
#define PEER_TICK_US       100000

/* A request on its way. */
struct peer_request {
	uint32_t magic;
	TAILQ_ENTRY(peer_request) entry; /* in peer->waiting, until it has a connection */
	struct loop_msg msg;
	struct engine *engine;
	struct cancel_asker asker;
	struct cancel_key key;
};

/* A connection to a peer. */
struct peer_conn {
	TAILQ_ENTRY(peer_conn) entry; /* in peer->conns */
	struct loop_task task;
	struct peer *peer;
	struct peer_request *request; /* NULL: not open yet */
	struct dns_request *dns;      /* under way; freed when it comes back */
	struct cancel_conn conn;
};

struct peer {
	TAILQ_ENTRY(peer) entry; /* in peers->list */
	struct peers *peers;
	int id;
	char *host;
	int port;
	unsigned size;                      /* connections at most; 0: no limit */
	TAILQ_HEAD(, peer_request) waiting; /* oldest first */
	TAILQ_HEAD(peer_conn_list, peer_conn) conns;
	unsigned conn_count;
	struct peer_conn *opening; /* in conns, without a request; NULL: none */
	bool failed;               /* the last attempt did */
	uint64_t attempt_us;       /* its beginning */
};

struct peers {
	struct engine *engine;
	struct snapshot *snap;     /* in force */
	TAILQ_HEAD(, peer) list;   /* by number */
	struct loop_ticker ticker; /* runs while requests or connections are under way */
};

static uint64_t peers_now_us(const struct peers *peers)
{
	return loop_now_us(peers->engine->control);
}

/* ---- the end of requests and connections ---- */

static void peer_end_request(struct peers *peers, struct peer_request *request, const char *where, enum reason reason)
{
	CHECK_OBJ(request, PEER_REQUEST_MAGIC);
	cancel_asker_end(&request->asker, peers->engine, peers->snap->conf, where, reason, peers_now_us(peers));
	request->magic = 0;
	free(request);
}

static void peer_describe(const struct peer *peer, char *dst, size_t size)
{
	str_format(dst, size, "peer-%d", peer->id);
}

/* Ends a request for a known peer. */
static void peer_end(struct peer *peer, struct peer_request *request, enum reason reason)
{
	char where[32];

	peer_describe(peer, where, sizeof(where));
	peer_end_request(peer->peers, request, where, reason);
}

static void peer_free_conn_task(struct loop *loop UNUSED, struct loop_task *task)
{
	free(CONTAINER_OF(task, struct peer_conn, task));
}

/* Closes a connection; `reason` is of the connection, `request_reason` of its request, if it has one. */
static void peer_close(struct peer_conn *pc, enum reason reason, enum reason request_reason)
{
	struct peer *peer = pc->peer;
	struct peer_request *request = pc->request;

	TAILQ_REMOVE(&peer->conns, pc, entry);
	peer->conn_count--;
	if (peer->opening == pc)
		peer->opening = NULL;
	if (pc->dns != NULL)
		pc->dns->cancelled = true;
	cancel_conn_close(&pc->conn, reason);
	if (request != NULL)
		peer_end(peer, request, request_reason);
	pc->task.fn = peer_free_conn_task;
	loop_defer(peer->peers->engine->control, &pc->task);
}

/* The attempt to connect has failed. */
static void peer_close_failed(struct peer_conn *pc, enum reason reason)
{
	pc->peer->failed = true;
	peer_close(pc, reason, reason);
}

/* ---- connections ---- */

static void peer_run(struct peer *peer);

static void peer_on_open(void *owner)
{
	struct peer_conn *pc = owner;
	struct peer *peer = pc->peer;
	struct peer_request *request = TAILQ_FIRST(&peer->waiting);

	peer->failed = false;
	if (request == NULL) {
		peer_close(pc, REASON_PEER_NOT_NEEDED, REASON_NONE);
		return;
	}
	peer->opening = NULL;
	TAILQ_REMOVE(&peer->waiting, request, entry);
	pc->request = request;
	if (cancel_conn_send(&pc->conn, frame_be32(request->key.bytes), request->key.bytes + 4,
			     request->key.len - 4u) != 0)
		peer_close(pc, REASON_CANCEL_FAILED, REASON_CANCEL_FAILED);
	peer_run(peer);
}

static void peer_on_over(void *owner, enum reason reason)
{
	struct peer_conn *pc = owner;
	struct peer *peer = pc->peer;

	if (pc->request == NULL)
		peer_close_failed(pc, reason);
	else
		peer_close(pc, reason, reason);
	peer_run(peer);
}

static const struct cancel_conn_ops peer_ops = {
	.on_open = peer_on_open,
	.on_over = peer_on_over,
};

static void peer_connect(struct peer_conn *pc, const struct sock_addr *addr)
{
	struct sock_tuning tuning;

	pool_conf_fill_tuning(&tuning, pc->peer->peers->snap->conf);
	if (cancel_conn_connect(&pc->conn, addr, &tuning, NULL) != 0)
		peer_close_failed(pc, REASON_CONNECT_FAILED);
}

static void peer_on_dns(struct dns_request *req)
{
	struct peer_conn *pc = req->arg;

	if (!req->cancelled) {
		pc->dns = NULL;
		if (req->err == 0) {
			peer_connect(pc, &req->addrs[0]);
		} else {
			log_warning("peer-%d: could not resolve host name \"%s\"", pc->peer->id, req->name);
			peer_close_failed(pc, REASON_DNS_FAILED);
		}
	}
	free(req);
}

static void peer_resolve(struct peer_conn *pc)
{
	struct engine *engine = pc->peer->peers->engine;
	struct dns_request *req = xcalloc(1, sizeof(*req));

	req->loop = engine->control;
	req->done = peer_on_dns;
	req->arg = pc;
	pc->dns = req;
	dns_lookup(engine->dns, pc->peer->host, (uint16_t)pc->peer->port, req);
}

static void peer_open(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct peer_conn *pc = xcalloc(1, sizeof(*pc));
	struct sock_addr addr;
	int err;

	pc->peer = peer;
	pc->conn.loop = peers->engine->control;
	pc->conn.snap = &peers->snap;
	pc->conn.port = (unsigned)peer->port;
	peer_describe(peer, pc->conn.where, sizeof(pc->conn.where));
	cancel_conn_init(&pc->conn, peers->engine, &peer_ops, pc);
	TAILQ_INSERT_TAIL(&peer->conns, pc, entry);
	peer->conn_count++;
	peer->opening = pc;
	peer->attempt_us = peers_now_us(peers);
	err = sock_addr_set_host(&addr, peer->host, (uint16_t)peer->port);
	if (err == 0)
		peer_connect(pc, &addr);
	else if (err == -E_SYNTAX)
		peer_resolve(pc);
	else
		peer_close_failed(pc, REASON_CANNOT_CONNECT);
}

static void peers_set_timer(struct peers *peers)
{
	if (!peers->ticker.is_running)
		loop_ticker_start(&peers->ticker, PEER_TICK_US);
}

/* Opens a connection if one is needed and allowed. */
static void peer_run(struct peer *peer)
{
	const struct conf *conf = peer->peers->snap->conf;

	if (TAILQ_EMPTY(&peer->waiting) || peer->opening != NULL)
		return;
	if (peer->size > 0 && peer->conn_count >= peer->size)
		return;
	if (peer->failed && peers_now_us(peer->peers) < peer->attempt_us + conf->server_login_retry_us)
		return;
	peer_open(peer);
}

/* ---- requests ---- */

static struct peer *peers_find(const struct peers *peers, int id)
{
	struct peer *peer;

	TAILQ_FOREACH (peer, &peers->list, entry)
		if (peer->id == id)
			return peer;
	return NULL;
}

static void peer_arrive(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct peer_request *request = CONTAINER_OF(msg, struct peer_request, msg);
	struct peers *peers = request->engine->peers;
	struct peer *peer = peers_find(peers, (int)cancel_key_peer(&request->key));

	if (peer == NULL) {
		peer_end_request(peers, request, CANCEL_NOWHERE, REASON_CANCEL_NO_PEER);
		return;
	}
	TAILQ_INSERT_TAIL(&peer->waiting, request, entry);
	peers_set_timer(peers);
	peer_run(peer);
}

void peer_forward(struct engine *engine, const struct cancel_asker *asker, const struct cancel_key *key)
{
	struct peer_request *request = xcalloc(1, sizeof(*request));

	request->magic = PEER_REQUEST_MAGIC;
	request->engine = engine;
	request->asker = *asker;
	request->asker.ptr = request;
	request->key = *key;
	request->msg.fn = peer_arrive;
	loop_post(engine->control, &request->msg);
}

/* Ends the request of this asker at one peer; false when it is not there. */
static bool peer_kill(struct peer *peer, uint64_t asker_id)
{
	struct peer_request *request;
	struct peer_conn *pc;

	TAILQ_FOREACH (request, &peer->waiting, entry)
		if (request->asker.id == asker_id)
			break;
	if (request != NULL) {
		TAILQ_REMOVE(&peer->waiting, request, entry);
		peer_end(peer, request, REASON_KILLED);
		return true;
	}
	TAILQ_FOREACH (pc, &peer->conns, entry)
		if (pc->request != NULL && pc->request->asker.id == asker_id)
			break;
	if (pc == NULL)
		return false;
	peer_close(pc, REASON_CANCEL_GIVEN_UP, REASON_KILLED);
	peer_run(peer);
	return true;
}

bool peers_kill(struct peers *peers, uint64_t asker_id)
{
	struct peer *peer;

	TAILQ_FOREACH (peer, &peers->list, entry)
		if (peer_kill(peer, asker_id))
			return true;
	return false;
}

/* ---- time ---- */

static bool peer_is_over(uint64_t since_us, uint64_t limit_us, uint64_t now_us)
{
	return limit_us > 0 && since_us + limit_us <= now_us;
}

static void peer_sweep(struct peer *peer, const struct conf *conf, uint64_t now_us)
{
	struct peer_request *request;
	struct peer_conn *pc;
	struct peer_conn *next;

	while ((request = TAILQ_FIRST(&peer->waiting)) != NULL &&
	       peer_is_over(request->asker.request_us, conf->cancel_wait_timeout_us, now_us)) {
		TAILQ_REMOVE(&peer->waiting, request, entry);
		peer_end(peer, request, REASON_CANCEL_TIMEOUT);
	}
	for (pc = TAILQ_FIRST(&peer->conns); pc != NULL; pc = next) {
		next = TAILQ_NEXT(pc, entry);
		if (pc->request == NULL && peer_is_over(pc->conn.connect_us, conf->server_connect_timeout_us, now_us))
			peer_close_failed(pc, REASON_CONNECT_TIMEOUT);
		else if (pc->request != NULL && peer_is_over(pc->conn.sent_us, conf->cancel_wait_timeout_us, now_us))
			peer_close(pc, REASON_CANCEL_GIVEN_UP, REASON_CANCEL_TIMEOUT);
	}
	peer_run(peer);
}

static void peers_on_tick(struct loop *loop UNUSED, void *arg)
{
	struct peers *peers = arg;
	uint64_t now_us = peers_now_us(peers);
	bool is_busy = false;
	struct peer *peer;

	TAILQ_FOREACH (peer, &peers->list, entry) {
		peer_sweep(peer, peers->snap->conf, now_us);
		is_busy |= peer->conn_count > 0 || !TAILQ_EMPTY(&peer->waiting);
	}
	if (!is_busy)
		loop_ticker_stop(&peers->ticker);
}

/* ---- peers come and go ---- */

/* Before `next`, or at the end. */
static void peer_add(struct peers *peers, const struct conf_peer *conf, struct peer *next)
{
	struct peer *peer = xcalloc(1, sizeof(*peer));

	peer->peers = peers;
	peer->id = conf->id;
	TAILQ_INIT(&peer->waiting);
	TAILQ_INIT(&peer->conns);
	if (next != NULL)
		TAILQ_INSERT_BEFORE(next, peer, entry);
	else
		TAILQ_INSERT_TAIL(&peers->list, peer, entry);
}

static void peer_drop(struct peer *peer, enum reason reason)
{
	struct peer_request *request;
	struct peer_conn *pc;

	while ((request = TAILQ_FIRST(&peer->waiting)) != NULL) {
		TAILQ_REMOVE(&peer->waiting, request, entry);
		peer_end(peer, request, reason);
	}
	while ((pc = TAILQ_FIRST(&peer->conns)) != NULL)
		peer_close(pc, reason, reason);
	TAILQ_REMOVE(&peer->peers->list, peer, entry);
	free(peer->host);
	free(peer);
}

/* Takes over what the line says; requests that were sent already are left to end where they are. */
static void peer_update(struct peer *peer, const struct conf *conf, const struct conf_peer *line)
{
	bool is_same = peer->host != NULL && strcmp(peer->host, line->host) == 0 && peer->port == line->port;

	peer->size = (unsigned)(line->pool_size == CONF_INHERIT ? conf->default_pool_size : line->pool_size);
	if (is_same)
		return;
	free(peer->host);
	peer->host = xstrdup(line->host);
	peer->port = line->port;
	peer->failed = false;
	if (peer->opening != NULL)
		peer_close(peer->opening, REASON_CONNECT_STRING, REASON_NONE);
}

void peers_reload(struct peers *peers, const struct snapshot *snap)
{
	const struct conf *conf = snap->conf;
	struct peer *peer = TAILQ_FIRST(&peers->list);
	size_t i = 0;

	snapshot_release(&peers->snap);
	peers->snap = snapshot_hold((struct snapshot *)snap);
	/* Both are in the order of their numbers. */
	while (peer != NULL || i < conf->peer_count) {
		struct peer *next = peer == NULL ? NULL : TAILQ_NEXT(peer, entry);

		if (i == conf->peer_count || (peer != NULL && peer->id < conf->peers[i].id)) {
			log_warning("dropping peer %d as it does not exist anymore", peer->id);
			peer_drop(peer, REASON_PEER_REMOVED);
			peer = next;
		} else if (peer == NULL || peer->id > conf->peers[i].id) {
			peer_add(peers, &conf->peers[i++], peer);
		} else {
			peer = next;
			i++;
		}
	}
	i = 0;
	TAILQ_FOREACH (peer, &peers->list, entry) {
		peer_update(peer, conf, &conf->peers[i++]);
		peer_run(peer);
	}
}

struct peers *peers_new(struct engine *engine)
{
	struct peers *peers = xcalloc(1, sizeof(*peers));

	peers->engine = engine;
	TAILQ_INIT(&peers->list);
	loop_ticker_init(&peers->ticker, engine->control, peers_on_tick, peers);
	peers_reload(peers, engine->snap);
	return peers;
}

void peers_free(struct peers **peersp)
{
	struct peers *peers = *peersp;
	struct peer *peer;
	struct peer *next;

	*peersp = NULL;
	if (peers == NULL)
		return;
	for (peer = TAILQ_FIRST(&peers->list); peer != NULL; peer = next) {
		next = TAILQ_NEXT(peer, entry);
		peer_drop(peer, REASON_FAST_EXIT);
	}
	loop_ticker_fini(&peers->ticker);
	snapshot_release(&peers->snap);
	free(peers);
}

/* ---- for the console ---- */

void peers_each(const struct peers *peers, peer_info_fn fn, void *arg)
{
	const struct peer *peer;

	TAILQ_FOREACH (peer, &peers->list, entry) {
		const struct peer_request *request;
		struct peer_info info = {
			.id = peer->id,
			.host = peer->host,
			.port = peer->port,
			.pool_size = (int)peer->size,
			.opening = peer->opening != NULL,
			.is_used = peer->attempt_us != 0 || !TAILQ_EMPTY(&peer->waiting),
		};

		info.active = peer->conn_count - info.opening;
		TAILQ_FOREACH (request, &peer->waiting, entry)
			info.waiting++;
		fn(&info, arg);
	}
}

void peers_each_request(const struct peers *peers, cancel_view_fn fn, void *arg)
{
	const struct peer_request *request;
	const struct peer_conn *pc;
	const struct peer *peer;

	TAILQ_FOREACH (peer, &peers->list, entry) {
		TAILQ_FOREACH (request, &peer->waiting, entry)
			fn(&(struct cancel_view){ .asker = &request->asker }, arg);
		TAILQ_FOREACH (pc, &peer->conns, entry)
			fn(
				&(struct cancel_view){
					.asker = pc->request == NULL ? NULL : &pc->request->asker,
					.conn = &pc->conn,
				},
				arg);
	}
}
