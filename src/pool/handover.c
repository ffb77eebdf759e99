/*
 * Sessions on their way from one process to another.
 *
 * The sockets travel as descriptors; the rest is text. For a client that is
 * its parameters, its cancel key and since when it does what it does; for a
 * server, besides, the model of what it owes (proto/track.h): so a query that
 * runs meanwhile is answered by the process that has taken over. Times are
 * those of the system's monotonic clock, which both processes share.
 *
 * What comes from PgBouncer has no such text. A server that is linked may then
 * owe anything. It stays with its client until that has an answer that ends a
 * transaction, and serves nobody else afterwards (track's `doubt`).
 *
 * Prepared statements travel in files of their own, see handover_stmt.c.
 *
 * Permits are taken whatever the limits say: the connections are there. Those
 * above a limit are closed by and by, as after a reload.
 */
#include "pool/handover.h"

#include <ctype.h>
#include <inttypes.h>
#include <sys/socket.h>

#include "conf/connstr.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/siphash.h"
#include "core/str.h"
#include "pool/handover_stmt.h"
#include "pool/link.h"
#include "pool/registry.h"
#include "pool/replication.h"
#include "pool/report.h"
#include "pool/route.h"
#include "pool/survive.h"
#include "proto/startup.h"

/* Longest text of a state, but for the queue of a server. */
#define HANDOVER_STATE_MAX       2048

#define HANDOVER_ERROR_MAX       4096

/*
 * PgBouncer numbers its names on servers as we do, and does not tell which are in
 * use: ours begin here then. It will never get there.
 */
#define HANDOVER_FOREIGN_NUMBERS ((uint64_t)1 << 40)

enum handover_unnamed {
	HANDOVER_UNNAMED_FOREIGN,
	HANDOVER_UNNAMED_OWN,
	HANDOVER_UNNAMED_SENT,        /* in the batch that is under way */
	HANDOVER_UNNAMED_SENT_BEFORE, /* in one that is not answered yet */
};

/* Bits of what a server has seen, see prep.h. */
#define HANDOVER_TABLES_SEEN     1
#define HANDOVER_DDL_SEEN        2
#define HANDOVER_CHANGE_EXPECTED 4

/* ---- giving ---- */

bool handover_can_give_client(const struct client *client)
{
	return client->parked && stream_tls(&client->stream) == NULL && client->state != CL_WELCOME &&
	       buf_is_empty(&client->stream.out) && client->gather.max == 0 &&
	       (client->state == CL_WAITING || client->stalled || client->blocked || buf_is_empty(&client->stream.in));
}

bool handover_can_give_server(const struct server *server)
{
	return server->parked && stream_tls(&server->stream) == NULL && (!server->dirty || server->client != NULL) &&
	       (server->state == SV_IDLE || server->state == SV_ACTIVE) && stream_is_clean(&server->stream) &&
	       !server->rerun.is_under_way;
}

/* Bytes in hexadecimal as the value of one item; `name` has a space before and an equals sign behind it. */
static int handover_save_bytes(const char *name, struct slice bytes, struct buf *b)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t len = (uint32_t)(strlen(name) + 2 * bytes.n);
	uint8_t *to = buf_reserve(b, len);

	if (to == NULL)
		return -E_NOMEM;
	to = (uint8_t *)mempcpy(to, name, strlen(name));
	for (size_t i = 0; i < bytes.n; i++) {
		to[2 * i] = (uint8_t)digits[(uint8_t)bytes.p[i] >> 4];
		to[2 * i + 1] = (uint8_t)digits[(uint8_t)bytes.p[i] & 15];
	}
	buf_commit(b, len);
	return 0;
}

/* What was read of a client, and waits. */
static int handover_save_pending(const struct buf *in, struct buf *b)
{
	return handover_save_bytes(" pending=", slice_make(buf_ptr(in), buf_len(in)), b);
}

/* The failed transaction that the client is in. */
static int handover_save_failed(const struct client *client, struct buf *b)
{
	struct survive_saved saved;
	char text[128];
	size_t n;
	int err;

	survive_save(client, &saved);
	n = str_format(text, sizeof(text), " failed=%" PRIu64 " failed_unnamed=%" PRIu64 " failed_portal=%" PRIu64,
		       saved.flags, saved.unnamed, saved.portal);
	err = buf_append(b, text, n);
	return err == 0 ? handover_save_bytes(" failed_errors=", saved.errors, b) : err;
}

/* Bytes in hexadecimal, as a string. */
static void handover_write_hex(char *dst, size_t size, const uint8_t *p, size_t n)
{
	dst[0] = '\0';
	for (size_t i = 0; i < n; i++)
		str_append(dst, size, "%02x", p[i]);
}

/* The key of a client, where the column of SHOW FDS has no room for it. */
static int handover_save_key(const struct client *client, struct buf *b)
{
	char text[2 * CANCEL_KEY_MAX + 1];
	struct cancel_key key;
	int err;

	client_get_cancel_key(client, &key);
	if (key.len == CANCEL_KEY_LEN)
		return 0;
	handover_write_hex(text, sizeof(text), key.bytes, key.len);
	err = buf_append(b, " key=", 5);
	if (err == 0)
		err = buf_append(b, text, strlen(text));
	mem_wipe(text, sizeof(text));
	mem_wipe(&key, sizeof(key));
	return err;
}

/* What the client knows of the unnamed statement of its server, when that begins to count batches anew. */
static enum handover_unnamed handover_unnamed(const struct client *client)
{
	if (client->server == NULL || client->unnamed == UNNAMED_FOREIGN)
		return HANDOVER_UNNAMED_FOREIGN;
	if (client->unnamed == UNNAMED_OWN)
		return HANDOVER_UNNAMED_OWN;
	return client->unnamed_batch == client->server->prep.batch ? HANDOVER_UNNAMED_SENT
								   : HANDOVER_UNNAMED_SENT_BEFORE;
}

/* Those of a set as the value of one item, its quotes doubled: a list inside of the list. */
static int handover_save_set(const char *name, const struct varset *vars, struct buf *b)
{
	struct buf list;
	int err;

	if (vars == NULL)
		return 0;
	buf_init(&list, b->max);
	err = handover_save_vars(vars, &list);
	if (err == 0)
		err = buf_append(&list, "", 1);
	if (err == 0)
		err = buf_append(b, " ", 1);
	if (err == 0)
		err = handover_save_var(name, (const char *)buf_ptr(&list), b);
	buf_fini(&list);
	return err;
}

/* How long it has stood in the queue for what is open, up to now: the next process has it join the queue anew. */
static uint64_t handover_waited_us(const struct client *client)
{
	uint64_t now_us = loop_now_us(client->part->worker->ctx.loop);
	bool waits = client->state == CL_WAITING && now_us > client->wait_us;

	return client->waited_us + (waits ? now_us - client->wait_us : 0);
}

int handover_save_client(const struct client *client, struct buf *b)
{
	char text[HANDOVER_STATE_MAX];
	size_t n = str_format(
		text, sizeof(text),
		"id=%" PRIu64 " connect=%" PRIu64 " request=%" PRIu64 " query=%" PRIu64 " xact=%" PRIu64
		" hint=%" PRIu64 " waited=%" PRIu64 " skip=%d refused=%d replication=%d statements=%" PRIu32
		" unnamed=%d unnamed_count=%" PRIu32 " unsure=%d raw=%d resetting=%d hides=%d forgetting=%d",
		client->id, client->connect_us, client->request_us, client->query_us, client->xact_us, client->hint_us,
		handover_waited_us(client), client->skip_to_sync, client->refused_effect, client_replication(client),
		client->prep.count, handover_unnamed(client), client->prep.unnamed_count, client->prep.is_unsure,
		client->startup_is_raw, client->is_resetting, client->hides_reset, client->is_forgetting);
	int err = buf_append(b, text, n);

	if (err == 0)
		err = handover_save_key(client, b);
	if (err == 0)
		err = handover_save_set("startup", client->startup, b);
	if (err == 0)
		err = handover_save_set("before", client->vars_before, b);
	if (err == 0 && !buf_is_empty(&client->stream.in))
		err = handover_save_pending(&client->stream.in, b);
	if (err == 0 && client->survive != NULL)
		err = handover_save_failed(client, b);
	return err;
}

/* What tells servers of one definition of a database from those of another; the same in every process. */
static uint64_t handover_server_print(const struct conf_db *db)
{
	static const uint8_t key[16] = { 0 };
	const char *const texts[] = {
		db->dbname,          db->host.text, db->user,     db->connect_query,
		db->client_encoding, db->datestyle, db->timezone,
	};
	uint64_t print = 0;

	for (size_t i = 0; i < db->ports.count; i++)
		print = siphash_u64(key, print ^ (uint64_t)db->ports.items[i]);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		print = siphash_u64(key, print ^ (texts[i] == NULL ? 0 : i + 1));
		for (const char *p = texts[i]; p != NULL && *p != '\0'; p++)
			print = siphash_u64(key, print ^ (uint8_t)*p);
	}
	return print;
}

/* What the transaction under way has done that statements have to do with. */
static int handover_seen(const struct prep_server *ps)
{
	return (ps->tables_seen ? HANDOVER_TABLES_SEEN : 0) | (ps->ddl_seen ? HANDOVER_DDL_SEEN : 0) |
	       (ps->is_expecting_change ? HANDOVER_CHANGE_EXPECTED : 0);
}

/* A query that was asked to stop; the request for that is not under way any more. */
static int handover_save_timeout(const struct query_timeout *t, struct buf *b)
{
	char text[160];
	size_t n = str_format(text, sizeof(text),
			      " over=%" PRIu64 " over_since=%" PRIu64 " over_limit=%" PRIu64 " restart=%" PRIu64,
			      t->is_over ? t->over_us : 0, t->since_us, t->limit_us, t->restart_us);

	return buf_append(b, text, n);
}

int handover_save_server(const struct server *server, struct buf *b)
{
	char text[HANDOVER_STATE_MAX];
	char secret[2 * SERVER_KEY_MAX + 1];
	size_t n;
	int err;

	handover_write_hex(secret, sizeof(secret), server->backend_key, server->backend_key_len);
	n = str_format(text, sizeof(text),
		       "id=%" PRIu64 " connect=%" PRIu64 " request=%" PRIu64 " active=%" PRIu64 " conf=%" PRIx64
		       " dirty=%d replication=%d statements=%u pinned=%u seen=%d reset=%d pid=%" PRIu32 " key=%s",
		       server->id, server->connect_us, server->request_us, server->active_us,
		       handover_server_print(server->conf->db), server->dirty || server_is_stale(server),
		       server->replication, server->prep.count, server->sql_statements, handover_seen(&server->prep),
		       server->reset, server->backend_pid, secret[0] == '\0' ? "-" : secret);
	mem_wipe(secret, sizeof(secret));
	err = buf_append(b, text, n);
	if (err == 0)
		err = handover_save_timeout(&server->timeout, b);
	if (err == 0)
		err = buf_append(b, " track=", 7);
	if (err == 0)
		err = track_save(&server->track, b);
	return err == 0 ? handover_save_set("defaults", server->defaults, b) : err;
}

/* A value that may be empty, as connect strings cannot have it: with an equals sign in front. */
int handover_save_var(const char *name, const char *value, struct buf *b)
{
	int err = buf_append(b, name, strlen(name));

	if (err == 0)
		err = buf_append(b, "='=", 3);
	for (; err == 0 && *value != '\0'; value++) {
		if (*value == '\'')
			err = buf_append(b, "'", 1);
		if (err == 0)
			err = buf_append(b, value, 1);
	}
	return err == 0 ? buf_append(b, "' ", 2) : err;
}

int handover_save_vars(const struct varset *vars, struct buf *b)
{
	int err = 0;

	for (int i = 0; err == 0 && i < vars_count(); i++)
		if (vars_get(vars, i) != NULL)
			err = handover_save_var(vars_name(i), vars_get(vars, i), b);
	return err;
}

/* ---- reading ---- */

/* A reference for the caller; what cannot be read is unset. */
static struct varset *handover_load_vars(const char *text)
{
	struct slice values[VARS_MAX] = { { NULL, 0 } };
	char *copies[VARS_MAX] = { NULL };
	struct varset *set;
	struct connstr cs;
	struct slice key;
	const char *value;
	int err;

	connstr_init(&cs, text == NULL ? "" : text);
	while ((err = connstr_next(&cs, &key, &value)) == 1) {
		int i = vars_index(key);

		if (value[0] != '=')
			break;
		if (i < 0 || copies[i] != NULL)
			continue; /* tracked by the other process only */
		copies[i] = xstrdup(value + 1);
		values[i] = slice_of(copies[i]);
	}
	connstr_fini(&cs);
	if (err != 0)
		log_warning("the parameters of a session cannot be read: %s", text);
	set = vars_make(values);
	for (int i = 0; i < VARS_MAX; i++)
		free(copies[i]);
	return set;
}

/* What a state says; 0 where it says nothing. */
struct handover_state {
	uint64_t id;
	uint64_t connect;
	uint64_t request;
	uint64_t query;
	uint64_t xact;
	uint64_t hint;
	uint64_t waited;
	uint64_t skip;
	uint64_t refused; /* enum classify_effect */
	uint64_t active;
	uint64_t conf;
	uint64_t dirty;
	uint64_t replication;
	uint64_t statements;
	uint64_t pinned;
	uint64_t seen;
	uint64_t over; /* of struct query_timeout, 0: not is_over; as are the next ones */
	uint64_t over_since;
	uint64_t over_limit;
	uint64_t restart;
	uint64_t unnamed; /* enum handover_unnamed */
	uint64_t unnamed_count;
	uint64_t unsure;
	uint64_t raw;
	uint64_t resetting;
	uint64_t hides;
	uint64_t forgetting;
	uint64_t reset;        /* enum server_reset */
	struct varset *vars;   /* what the client began with, or the server; NULL: not known */
	struct varset *before; /* what the client had before its transaction changed it; NULL: it has not */
	uint64_t pid;
	uint8_t key[CANCEL_KEY_MAX]; /* of a client; of a server the secret alone */
	uint16_t key_len;
	struct track track;
	bool has_track;
	uint8_t *pending; /* owned */
	size_t pending_len;
	uint64_t failed; /* of struct survive_saved, as are the next ones */
	uint64_t failed_unnamed;
	uint64_t failed_portal;
	uint8_t *failed_errors; /* owned; NULL: it is in no failed transaction */
	size_t failed_errors_len;
	struct survive *survive; /* made of these, for the client */
};

/* name, base */
#define HANDOVER_NUMBERS(X)   \
	X(id, 10)             \
	X(connect, 10)        \
	X(request, 10)        \
	X(query, 10)          \
	X(xact, 10)           \
	X(hint, 10)           \
	X(waited, 10)         \
	X(skip, 10)           \
	X(refused, 10)        \
	X(active, 10)         \
	X(conf, 16)           \
	X(dirty, 10)          \
	X(replication, 10)    \
	X(statements, 10)     \
	X(pinned, 10)         \
	X(seen, 10)           \
	X(over, 10)           \
	X(over_since, 10)     \
	X(over_limit, 10)     \
	X(restart, 10)        \
	X(unnamed, 10)        \
	X(unnamed_count, 10)  \
	X(unsure, 10)         \
	X(raw, 10)            \
	X(resetting, 10)      \
	X(hides, 10)          \
	X(forgetting, 10)     \
	X(reset, 10)          \
	X(pid, 10)            \
	X(failed, 10)         \
	X(failed_unnamed, 10) \
	X(failed_portal, 10)

/* Bytes of an even number of hexadecimal digits, up to `max` of them; how many. */
static size_t handover_read_hex(uint8_t *dst, size_t max, const char *hex)
{
	size_t n = 0;

	while (n < max && isxdigit((unsigned char)hex[2 * n]) && isxdigit((unsigned char)hex[2 * n + 1])) {
		const char digits[3] = { hex[2 * n], hex[2 * n + 1], '\0' };

		dst[n++] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return n;
}

/* Bytes of any length, for the caller to free. */
static int handover_read_bytes(uint8_t **bytes, size_t *len, const char *hex)
{
	size_t size = strlen(hex) / 2;

	if (size > CLIENT_IN_MAX + RERUN_MAX) /* a batch that is run again stands in front of what was read */
		return -E_TOOBIG;
	free(*bytes);
	*bytes = xmalloc(size + 1);
	*len = handover_read_hex(*bytes, size, hex);
	return *len == size ? 0 : -E_SYNTAX;
}

static int handover_read_item(struct handover_state *s, struct slice key, const char *value)
{
#define X(name, base)                 \
	if (slice_eq_str(key, #name)) \
		s->name = strtoull(value, NULL, base);
	HANDOVER_NUMBERS(X)
#undef X
	if (slice_eq_str(key, "key"))
		s->key_len = (uint16_t)handover_read_hex(s->key, sizeof(s->key), value);
	if (slice_eq_str(key, "pending"))
		return handover_read_bytes(&s->pending, &s->pending_len, value);
	if (slice_eq_str(key, "failed_errors"))
		return handover_read_bytes(&s->failed_errors, &s->failed_errors_len, value);
	if (slice_eq_str(key, "startup") || slice_eq_str(key, "defaults")) {
		vars_release(&s->vars);
		s->vars = handover_load_vars(value[0] == '=' ? value + 1 : "");
	}
	if (slice_eq_str(key, "before")) {
		vars_release(&s->before);
		s->before = handover_load_vars(value[0] == '=' ? value + 1 : "");
	}
	if (!slice_eq_str(key, "track"))
		return 0; /* what a later version says besides is not for us */
	s->has_track = true;
	return track_load(&s->track, slice_of(value));
}

/* Reads a state; the tracker is to be given back in any case. */
static int handover_read_state(struct handover_state *s, const char *text)
{
	struct connstr cs;
	struct slice key;
	const char *value;
	int err;

	*s = (struct handover_state){ .id = 0 };
	track_init(&s->track);
	if (text == NULL)
		return 0;
	connstr_init(&cs, text);
	while ((err = connstr_next(&cs, &key, &value)) == 1) {
		err = handover_read_item(s, key, value);
		if (err != 0)
			break;
	}
	connstr_fini(&cs);
	return err;
}

static void handover_state_fini(struct handover_state *s)
{
	track_fini(&s->track);
	vars_release(&s->vars);
	vars_release(&s->before);
	free(s->pending);
	free(s->failed_errors);
}

void handover_session_fini(struct handover_session *session)
{
	if (session->fd >= 0)
		close(session->fd);
	session->fd = -1;
	free(session->parameters);
	free(session->user);
	free(session->database);
	free(session->state);
	free_secret(session->password);
	mem_wipe(session, sizeof(*session));
	session->fd = -1;
}

/* ---- taking ---- */

/* A client, a server, or both linked, on their way to the worker. */
struct handover_msg {
	struct loop_msg msg;
	struct pool *pool; /* held */
	struct client *client;
	struct server *server;
};

struct handover {
	struct engine *engine;
	size_t count;
	struct handover_session **by_fd; /* sorted by old_fd */
	struct handover_stmts *stmts;
	uint64_t last_id;
	unsigned turn; /* of the home worker that gets the next idle server */
	unsigned clients;
	unsigned servers;
};

static void handover_on_arrival(struct loop *loop UNUSED, struct loop_msg *base)
{
	struct handover_msg *msg = CONTAINER_OF(base, struct handover_msg, msg);
	struct pool_part *part = pool_part_get(msg->pool, worker_current());
	struct client *client = msg->client;
	struct server *server = msg->server;

	pool_release(&msg->pool);
	free(msg);
	if (client != NULL)
		client_carried(client, part);
	if (server != NULL)
		server_carried(server, part);
	if (client != NULL && server != NULL) {
		link_carried(client, server);
		if (!buf_is_empty(&client->stream.in))
			client_resume(client); /* what it has said waits for answers, or for a boundary */
		link_settle(server);
	} else if (client != NULL) {
		client_set_state(client, CL_IDLE);
		if (client->survive != NULL)
			survive_carried(client);
		client_resume(client); /* works on what the other process has read of it */
	} else {
		server_free(server);
	}
}

static int handover_compare(const void *a, const void *b)
{
	const struct handover_session *x = *(struct handover_session *const *)a;
	const struct handover_session *y = *(struct handover_session *const *)b;

	return (x->old_fd > y->old_fd) - (x->old_fd < y->old_fd);
}

/* The session that this one is linked to, if both say so. */
static struct handover_session *handover_partner(const struct handover *h, const struct handover_session *session)
{
	struct handover_session wanted = { .old_fd = session->link };
	struct handover_session *key = &wanted;
	struct handover_session **found;

	if (session->link <= 0)
		return NULL;
	found = bsearch(&key, h->by_fd, h->count, sizeof(h->by_fd[0]), handover_compare);
	if (found == NULL || (*found)->link != session->old_fd || (*found)->is_server == session->is_server ||
	    (*found)->fd < 0)
		return NULL;
	return *found;
}

/* The pool of a session, held; NULL when its database or user is not there any more. */
/* True for a user that runs auth_query: it has pools on databases whose clients are somebody else. */
static bool handover_is_auth_user(const struct conf *conf, const char *user)
{
	for (size_t i = 0; i < conf->db_count; i++) {
		const char *name = conf_auth_user(conf, &conf->dbs[i]);

		if (name != NULL && strcmp(name, user) == 0)
			return true;
	}
	return false;
}

static struct pool *handover_pool(struct handover *h, const struct handover_session *session)
{
	struct db *db = registry_get_db(h->engine, session->database, REGISTRY_ANY, NULL);
	char forced[STARTUP_USER_MAX + 1];
	const char *user = session->user;
	struct pool *pool = NULL;
	bool has_place = db != NULL && !atomic_load(&db->disabled);

	if (has_place && route_forced_user(h->engine, db, forced, sizeof(forced)) &&
	    !(session->is_server && handover_is_auth_user(h->engine->snap->conf, user))) {
		has_place = !session->is_server || strcmp(user, forced) == 0;
		user = forced;
	}
	if (has_place)
		pool = registry_get_pool(h->engine, db, user);
	db_release(&db);
	return pool;
}

static void handover_take_addr(int fd, bool *is_unix, struct sock_peer *peer)
{
	struct sock_addr addr;

	*is_unix = false;
	memset(peer, 0, sizeof(*peer));
	if (sock_remote_addr(fd, &addr) != 0)
		return;
	*is_unix = sock_addr_is_unix(&addr);
	if (!*is_unix)
		sock_peer_set(peer, &addr);
}

static enum startup_replication handover_replication(const struct handover_state *state)
{
	return state->replication == REPLICATION_PHYSICAL ? REPLICATION_PHYSICAL : REPLICATION_LOGICAL;
}

static void handover_fill_unnamed(struct client *client, const struct handover_state *state)
{
	client->prep.is_unsure = state->unsure != 0;
	client->prep.unnamed_count = (uint32_t)state->unnamed_count;
	switch ((enum handover_unnamed)state->unnamed) {
	case HANDOVER_UNNAMED_FOREIGN:
		break;
	case HANDOVER_UNNAMED_OWN:
		client->unnamed = UNNAMED_OWN;
		break;
	case HANDOVER_UNNAMED_SENT:
	case HANDOVER_UNNAMED_SENT_BEFORE:
		client->unnamed = UNNAMED_SENT;
		client->unnamed_batch = state->unnamed == HANDOVER_UNNAMED_SENT ? 0 : UINT64_MAX;
		break;
	}
}

/* What the user has logged in with; where LDAP or PAM judge that is a password, whatever it looks like. */
static void handover_store_secret(struct pool *pool, int auth_type, const struct handover_session *session)
{
	struct secret secret;

	if (auth_type == CONF_AUTH_LDAP || auth_type == CONF_AUTH_PAM) {
		route_store_password(pool, session->password);
		return;
	}
	secret_init(&secret, slice_of(session->password));
	route_store_secret(pool, &secret, session->has_keys ? &session->keys : NULL);
	secret_fini(&secret);
}

static struct client *handover_make_client(struct handover *h, struct handover_session *session, struct pool_part *part,
					   struct handover_state *state, struct prep_client *prep)
{
	struct account *account = registry_get_account(h->engine, session->user);
	struct client_birth birth = {
		.socket = { session->fd, NULL },
		.pool = pool_hold(part->pool),
		.account = account,
		.vars = handover_load_vars(session->parameters),
		.startup = state->vars,
		.id = state->id != 0 ? state->id : engine_next_id(h->engine),
		.connect_us = state->connect != 0 ? state->connect : loop_now_us(h->engine->control),
		.pending = state->pending,
		.pending_len = state->pending_len,
	};
	struct cancel_key key;
	struct client *client;

	if (state->replication != REPLICATION_NONE)
		birth.replication = replication_new(handover_replication(state), slice_of(""));
	handover_take_addr(session->fd, &birth.is_unix, &birth.peer);
	if (session->password != NULL && part->pool->account == account)
		handover_store_secret(part->pool, part->worker->ctx.snap->conf->auth_type, session);
	else if (session->has_keys)
		route_store_keys(h->engine, account, &session->keys);
	if (state->key_len >= CANCEL_KEY_LEN)
		cancel_key_set(&key, state->key, state->key_len);
	else
		cancel_key_set(&key, session->key, sizeof(session->key));
	client = client_carry(&birth, part, &key);
	client->request_us = state->request != 0 ? state->request : loop_now_us(h->engine->control);
	client->query_us = state->query;
	client->xact_us = state->xact;
	client->hint_us = state->hint;
	client->waited_us = state->waited;
	client->vars_before = state->before;
	state->vars = state->before = NULL; /* taken over */
	client->startup_is_raw = state->raw != 0;
	client->is_resetting = state->resetting != 0;
	client->hides_reset = state->hides != 0;
	client->is_forgetting = state->forgetting != 0;
	client->skip_to_sync = state->skip != 0;
	if (state->refused <= CLASSIFY_EFFECT_UNSEEN)
		client->refused_effect = (enum classify_effect)state->refused;
	client->survive = state->survive;
	client->prep = *prep;
	*prep = (struct prep_client){ .size = 0 };
	handover_fill_unnamed(client, state);
	if (birth.id > h->last_id)
		h->last_id = birth.id;
	session->fd = -1;
	h->clients++;
	return client;
}

static void handover_fill_server(struct handover *h, struct server *server, struct handover_session *session,
				 struct handover_state *state)
{
	const struct conf_db *db = server->conf->db;
	uint64_t now = loop_now_us(h->engine->control);

	server->id = state->id != 0 ? state->id : engine_next_id(h->engine);
	server->connect_us = state->connect != 0 ? state->connect : now;
	server->request_us = state->request != 0 ? state->request : now;
	server->active_us = state->active != 0 ? state->active : now;
	server->backend_pid = (uint32_t)session->key[0] << 24 | (uint32_t)session->key[1] << 16 |
			      (uint32_t)session->key[2] << 8 | session->key[3];
	memcpy(server->backend_key, session->key + 4, 4);
	server->backend_key_len = 4;
	if (state->key_len > 0 && state->key_len <= SERVER_KEY_MAX) {
		server->backend_pid = (uint32_t)state->pid;
		memcpy(server->backend_key, state->key, state->key_len);
		server->backend_key_len = state->key_len;
	}
	server->sql_statements = (unsigned)state->pinned;
	server->timeout = (struct query_timeout){
		.is_over = state->over != 0,
		.over_us = state->over,
		.since_us = state->over_since,
		.limit_us = state->over_limit,
		.restart_us = state->restart,
	};
	server->prep.tables_seen = (state->seen & HANDOVER_TABLES_SEEN) != 0;
	server->prep.ddl_seen = (state->seen & HANDOVER_DDL_SEEN) != 0;
	server->prep.is_expecting_change = (state->seen & HANDOVER_CHANGE_EXPECTED) != 0;
	server->defaults = state->vars;
	state->vars = NULL; /* taken over */
	if (state->reset <= RESET_IN_DOUBT)
		server->reset = (enum server_reset)state->reset;
	server->track = state->track;
	track_init(&state->track); /* taken over */
	if (!state->has_track && session->link > 0) {
		server->track.status = TX_BLOCK;
		server->track.doubt = true;
	}
	if (state->replication != REPLICATION_NONE)
		server->replication = handover_replication(state);
	/* It was not to be used again, or was opened under another definition of the database. */
	if (state->dirty != 0 || (state->conf != 0 && state->conf != handover_server_print(db)))
		server->dirty = true;
	if (server->id > h->last_id)
		h->last_id = server->id;
}

/* Makes the failed transaction that a client is in, which has no server; false when it cannot be read. */
static bool handover_load_failed(struct handover_state *state, bool has_server)
{
	struct survive_saved saved = {
		.flags = state->failed,
		.unnamed = state->failed_unnamed,
		.portal = state->failed_portal,
		.errors = slice_make(state->failed_errors, state->failed_errors_len),
	};

	if (state->failed_errors == NULL)
		return true;
	if (!has_server)
		state->survive = survive_load(&saved);
	return state->survive != NULL;
}

/* NULL when what is said of it cannot be understood: then it cannot be used. `prep`: of its client. */
static struct server *handover_make_server(struct handover *h, struct handover_session *session, struct pool_part *part,
					   const struct prep_client *prep)
{
	struct handover_state state;
	struct server *server;

	if (handover_read_state(&state, session->state) != 0 ||
	    track_marks(&state.track) != handover_stmt_count_records(h->stmts, session->old_fd)) {
		log_warning("the state of a server of %s/%s cannot be read", session->database, session->user);
		handover_state_fini(&state);
		return NULL;
	}
	server = server_carry(part, session->fd, handover_load_vars(session->parameters), session->link > 0);
	handover_fill_server(h, server, session, &state);
	if (!handover_stmt_give_server(h->stmts, session->old_fd, server, state.statements))
		server->dirty = true; /* it has more than we know of, under names that are never given again */
	handover_stmt_give_records(h->stmts, session->old_fd, server, prep);
	handover_state_fini(&state);
	session->fd = -1;
	h->servers++;
	return server;
}

static struct pool_part *handover_next_home(struct handover *h, struct pool *pool)
{
	unsigned homes = atomic_load(&pool->home_count);

	return pool->parts[(pool->first_home + h->turn++ % homes) % h->engine->worker_count];
}

/* Tells a client that it cannot go on, if its socket takes that at once: nobody waits here. It is closed later. */
static void handover_turn_away(const struct handover *h, const struct handover_session *session, enum reason reason)
{
	const struct reason_facts facts = { .database = session->database, .user = session->user };
	struct report report;
	ssize_t sent UNUSED;
	struct buf b;

	report_reason(&report, h->engine->snap->conf, reason, &facts);
	buf_init(&b, HANDOVER_ERROR_MAX);
	if (report_build(&b, h->engine->snap->conf, "FATAL", &report) == 0)
		sent = send(session->fd, buf_ptr(&b), buf_len(&b), MSG_DONTWAIT | MSG_NOSIGNAL);
	buf_fini(&b);
}

/* Takes a client, or a server, or both. */
static void handover_take_pair(struct handover *h, struct handover_session *client, struct handover_session *server)
{
	const struct handover_session *one = client != NULL ? client : server;
	struct pool *pool;
	struct handover_state state = { .id = 0 };
	struct prep_client prep = { .size = 0 };
	struct pool_part *part;
	struct handover_msg *msg;

	ASSERT(one != NULL);
	pool = handover_pool(h, one);
	if (pool == NULL) {
		log_info("not taking over a %s of %s/%s: the configuration has no place for it",
			 client != NULL ? "client" : "server", one->database, one->user);
		if (client != NULL)
			handover_turn_away(h, client, REASON_DB_REMOVED);
		return;
	}
	if (client != NULL && (handover_read_state(&state, client->state) != 0 ||
			       !handover_stmt_give_client(h->stmts, client->old_fd, &prep, state.statements) ||
			       !handover_load_failed(&state, server != NULL))) {
		log_warning("not taking over a client of %s/%s: its state cannot be read", client->database,
			    client->user);
		handover_turn_away(h, client, REASON_FAST_EXIT);
		prep_client_clear(&prep);
		handover_state_fini(&state);
		pool_release(&pool);
		return;
	}
	part = client != NULL ? client_home(pool) : handover_next_home(h, pool);
	msg = xcalloc(1, sizeof(*msg));
	msg->msg.fn = handover_on_arrival;
	msg->pool = pool;
	if (server != NULL)
		msg->server = handover_make_server(h, server, part, &prep);
	if (client != NULL && (server == NULL || msg->server != NULL))
		msg->client = handover_make_client(h, client, part, &state, &prep);
	else if (client != NULL)
		handover_turn_away(h, client, REASON_FAST_EXIT);
	prep_client_clear(&prep);
	handover_state_fini(&state);
	if (msg->client == NULL && msg->server == NULL) {
		pool_release(&msg->pool);
		free(msg);
	} else {
		loop_post(part->worker->ctx.loop, &msg->msg);
	}
}

/* Names of servers that came without a word about them are never given again. */
static void handover_skip_numbers(const struct handover_session *sessions, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (sessions[i].is_server && sessions[i].state == NULL)
			stmt_skip_numbers(HANDOVER_FOREIGN_NUMBERS);
}

void handover_take(struct engine *engine, struct handover_session *sessions, size_t count, const int *stmt_files,
		   size_t stmt_file_count)
{
	struct handover h = {
		.engine = engine,
		.count = count,
	};

	handover_skip_numbers(sessions, count);
	h.stmts = handover_stmt_load(stmt_files, stmt_file_count);
	h.by_fd = xcalloc(count + 1, sizeof(struct handover_session *));
	for (size_t i = 0; i < count; i++)
		h.by_fd[i] = &sessions[i];
	qsort(h.by_fd, count, sizeof(h.by_fd[0]), handover_compare);
	for (size_t i = 0; i < count; i++) {
		struct handover_session *session = &sessions[i];
		struct handover_session *partner = handover_partner(&h, session);

		if (session->fd < 0)
			continue; /* was taken with its partner */
		if (session->link > 0 && partner == NULL) {
			log_warning("a linked session of %s/%s came without its partner", session->database,
				    session->user);
			if (!session->is_server)
				handover_turn_away(&h, session, REASON_FAST_EXIT);
		} else if (session->is_server) {
			handover_take_pair(&h, partner, session);
		} else {
			handover_take_pair(&h, session, partner);
		}
	}
	for (size_t i = 0; i < count; i++)
		handover_session_fini(&sessions[i]);
	if (atomic_load(&engine->next_id) <= h.last_id)
		atomic_store(&engine->next_id, h.last_id + 1);
	log_info("took over %u clients and %u servers", h.clients, h.servers);
	handover_stmt_free(&h.stmts);
	free(h.by_fd);
}
