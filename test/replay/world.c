#include "world.h"

#include <sys/socket.h>

#include "admin/admin.h"
#include "backend.h"
#include "check.h"
#include "core/alloc.h"
#include "fake.h"
#include "net/listen.h"
#include "net/sock.h"
#include "pool/login.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/startup.h"

/* Rounds of world_run() without any movement after which the world is at rest. */
#define WORLD_REST_ROUNDS 4
#define WORLD_ROUNDS_MAX  2000

/* ---- configuration ---- */

void world_set(struct world *world, const char *section, const char *name, const char *value)
{
	struct world_option *o = world->options;
	struct world_option *end = o + world->option_count;

	while (o < end && (strcmp(o->section, section) != 0 || strcmp(o->name, name) != 0))
		o++;
	if (value == NULL) {
		if (o < end)
			*o = world->options[--world->option_count];
		return;
	}
	if (o == end) {
		ASSERT(world->option_count < WORLD_OPTIONS_MAX);
		world->option_count++;
	}
	str_copy(o->section, sizeof(o->section), section);
	str_copy(o->name, sizeof(o->name), name);
	str_copy(o->value, sizeof(o->value), value);
}

/* Where the played PostgreSQL listens. */
static void world_backend_dir(char *dst, size_t size)
{
	str_format(dst, size, "@pgsluice-replay-%d", (int)getpid());
}

static void world_add_option(struct buf *text, const struct world_option *o)
{
	bool is_db = strcmp(o->section, "databases") == 0;
	char dir[64];
	char line[512];
	int err;

	world_backend_dir(dir, sizeof(dir));
	if (is_db)
		str_format(line, sizeof(line), "%s = host=%s%s %s\n", o->name, dir,
			   strstr(o->value, "port=") == NULL ? " port=1" : "", o->value);
	else
		str_format(line, sizeof(line), "%s = %s\n", o->name, o->value);
	err = buf_append(text, line, strlen(line));
	ASSERT(err == 0);
}

/* A conf_read_file: the configuration as text. */
static int world_read_conf(void *ctx, const char *path UNUSED, char **text, size_t *len)
{
	static const char *const sections[] = { "databases", "users", "pgbouncer" };
	const struct world *world = ctx;
	char head[32];
	struct buf b;
	int err;

	buf_init(&b, 64 * 1024);
	for (size_t s = 0; s < ARRAY_LEN(sections); s++) {
		bool is_main = strcmp(sections[s], "pgbouncer") == 0;

		str_format(head, sizeof(head), "[%s]\n", is_main && world->is_sluice ? "pgsluice" : sections[s]);
		err = buf_append(&b, head, strlen(head));
		ASSERT(err == 0);
		for (unsigned i = 0; i < world->option_count; i++)
			if (strcmp(world->options[i].section, sections[s]) == 0)
				world_add_option(&b, &world->options[i]);
	}
	*len = buf_len(&b);
	*text = slice_dup(slice_make(buf_ptr(&b), *len));
	buf_fini(&b);
	return 0;
}

/* A snapshot of the present configuration, or NULL. */
static struct snapshot *world_snapshot(struct world *world)
{
	static const char list[] = "\"u\" \"pw\"\n\"v\" \"pw\"\n";
	struct conf_error conf_err;
	struct users *users;
	struct conf *conf = NULL;
	char err[256];
	int rc;

	conf_error_init(&conf_err);
	if (conf_load_from(world_read_conf, world, "replay.ini", &conf, &conf_err) != 0) {
		for (size_t i = 0; i < conf_err.count; i++)
			printf("# %s\n", conf_err.messages[i].text);
		conf_error_fini(&conf_err);
		return NULL;
	}
	conf_error_fini(&conf_err);
	rc = users_parse(slice_of(list), "users", &users, err, sizeof(err));
	ASSERT(rc == 0);
	return snapshot_new(conf, users);
}

bool world_reload(struct world *world)
{
	struct snapshot *snap = world_snapshot(world);

	if (snap != NULL)
		engine_reload(world->engine, snap);
	return snap != NULL;
}

struct world *world_new(uint64_t seed)
{
	static const char *const defaults[][2] = {
		{ "threads", "2" },           { "login_threads", "0" },
		{ "auth_type", "trust" },     { "pool_mode", "transaction" },
		{ "default_pool_size", "2" }, { "max_client_conn", "1000" },
		{ "server_check_query", "" }, { "server_reset_query", "" },
		{ "query_wait_notify", "0" }, { "unix_socket_dir", "" },
	};
	struct log_setup quiet = { .quiet = getenv("REPLAY_LOG") == NULL, .verbose = 2 };
	struct world *world = xcalloc(1, sizeof(*world));

	fake_reset(seed);
	log_configure(&quiet);
	world->auto_login = true;
	for (unsigned i = 0; i < WORLD_BACKENDS; i++)
		world->listeners[i] = -1;
	for (size_t i = 0; i < ARRAY_LEN(defaults); i++)
		world_set(world, "pgbouncer", defaults[i][0], defaults[i][1]);
	world_set(world, "databases", "db", "");
	return world;
}

/* ---- the program above the engine ---- */

static int world_on_reload(void *ctx, struct conf_diff **diff, struct conf_error *err UNUSED)
{
	struct world *world = ctx;
	struct snapshot *old = engine_snapshot(world->engine);
	struct snapshot *fresh;
	int rc = -E_SYNTAX;

	if (world_reload(world)) {
		fresh = engine_snapshot(world->engine);
		*diff = conf_diff_new(old->conf, fresh->conf);
		snapshot_release(&fresh);
		rc = 0;
	}
	snapshot_release(&old);
	return rc;
}

static int world_on_set(void *ctx, const char *key, const char *value, bool *tls_kept)
{
	const struct world *world = ctx;
	struct snapshot *old = engine_snapshot(world->engine);
	struct conf_error messages;
	struct conf *conf;
	int err;

	*tls_kept = false;
	conf_error_init(&messages);
	err = conf_set(old->conf, key, value, &conf, &messages);
	if (err == 0)
		engine_reload(world->engine, snapshot_new(conf, users_hold(old->users)));
	conf_error_fini(&messages);
	snapshot_release(&old);
	return err;
}

static void world_on_shutdown(void *ctx, enum engine_shutdown how, uint64_t timeout_us UNUSED)
{
	const struct world *world = ctx;

	engine_shutdown(world->engine, how);
}

static const struct admin_ops world_admin_ops = {
	.reload = world_on_reload,
	.set = world_on_set,
	.shutdown = world_on_shutdown,
};

void world_start(struct world *world)
{
	struct snapshot *snap = world_snapshot(world);

	if (snap == NULL)
		exit(1);
	for (unsigned i = 1; i <= WORLD_BACKENDS; i++)
		world_listen(world, i, true);
	world->engine = engine_new(snap, &admin_engine_ops);
	world->admin = admin_new(world->engine, &world_admin_ops, world);
}

void world_free(struct world **worldp)
{
	struct world *world = *worldp;

	*worldp = NULL;
	for (unsigned i = 1; i <= WORLD_BACKENDS; i++)
		world_listen(world, i, false);
	if (world->admin != NULL)
		admin_stop(world->admin);
	engine_free(&world->engine);
	admin_free(&world->admin);
	for (unsigned i = 0; i < world->actor_count; i++)
		actor_free(&world->actors[i]);
	free(world);
}

void world_sweep(struct world *world)
{
	for (unsigned i = 0; i < world->actor_count;) {
		struct actor *actor = world->actors[i];

		actor_flush(actor);
		if (actor->kind == ACTOR_NEW && actor->eof)
			actor_close(actor);
		if (actor->fd >= 0) {
			i++;
			continue;
		}
		actor_free(&world->actors[i]);
		world->actors[i] = world->actors[--world->actor_count];
	}
}

/* ---- the outside ---- */

void world_listen(struct world *world, unsigned backend, bool on)
{
	int *fd = &world->listeners[backend - 1];
	struct sock_addr addr;
	const char *call;
	char dir[64];
	int err;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	if (!on)
		return;
	world_backend_dir(dir, sizeof(dir));
	err = sock_addr_set_unix_dir(&addr, dir, (uint16_t)backend);
	ASSERT(err == 0);
	*fd = sock_listen_unix(&addr, 0, NULL, 100, &call);
	ASSERT(*fd >= 0);
}

struct actor *world_actor(struct world *world, const char *name)
{
	for (unsigned i = 0; i < world->actor_count; i++)
		if (strcmp(world->actors[i]->name, name) == 0)
			return world->actors[i];
	return NULL;
}

struct accept_msg {
	struct loop_msg msg;
	struct loop_ctx *ctx;
	int fd;
};

/* What a listening socket's callback does, on the loop that logs the client in. */
static void world_on_accept(struct loop *loop, struct loop_msg *base)
{
	struct accept_msg *msg = CONTAINER_OF(base, struct accept_msg, msg);
	struct listener from = { .fd = -1 };
	struct sock_addr peer = { .len = 0 };

	if (sock_addr_set_unix(&from.addr, "/tmp/.s.PGSQL.6432") != 0)
		abort();
	login_on_accept(loop, msg->fd, &from, &peer, msg->ctx);
	free(msg);
}

/* The next in turn of the loops that log clients in. */
static struct loop_ctx *world_next_login(struct world *world)
{
	struct engine *engine = world->engine;
	unsigned turn = world->client_count++;

	if (engine->login_count > 0)
		return engine->logins[turn % engine->login_count];
	return &engine->workers[turn % engine->worker_count]->ctx;
}

static struct actor *world_add_client(struct world *world, enum actor_kind kind, const char *name, int sndbuf)
{
	struct accept_msg *msg = xcalloc(1, sizeof(*msg));
	struct actor *actor;
	int fds[2];

	ASSERT(world->actor_count < WORLD_ACTORS_MAX);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
		abort();
	if (sndbuf > 0 && setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)) != 0)
		abort();
	actor = actor_new(kind, name, fds[0]);
	actor->pooler_fd = fds[1];
	world->actors[world->actor_count++] = actor;
	msg->msg.fn = world_on_accept;
	msg->ctx = world_next_login(world);
	msg->fd = fds[1];
	loop_post(msg->ctx->loop, &msg->msg);
	return actor;
}

/* The value of "name=value" when that is its name. */
static const char *world_param(const char *param, const char *name)
{
	size_t n = strlen(name);

	return strncmp(param, name, n) == 0 && param[n] == '=' ? param + n + 1 : NULL;
}

void world_send_startup(struct actor *actor, const char *const *params, size_t count)
{
	struct build_pair pairs[16] = {
		{ slice_of("user"), slice_of("u") },
		{ slice_of("database"), slice_of("db") },
	};
	size_t n = 2;
	struct buf b;
	int err;

	for (size_t i = 0; i < count; i++) {
		const char *eq = strchr(params[i], '=');
		struct slice name = slice_make(params[i], eq == NULL ? 0 : (size_t)(eq - params[i]));

		ASSERT(eq != NULL && n < ARRAY_LEN(pairs));
		if (slice_eq_str(name, "sndbuf"))
			continue;
		if (slice_eq_str(name, "user"))
			pairs[0].value = slice_of(eq + 1);
		else if (slice_eq_str(name, "db"))
			pairs[1].value = slice_of(eq + 1);
		else
			pairs[n++] = (struct build_pair){ name, slice_of(eq + 1) };
	}
	buf_init(&b, 4096);
	err = build_startup(&b, PROTO_V3_0, pairs, n);
	ASSERT(err == 0);
	actor_send(actor, buf_ptr(&b), buf_len(&b));
	buf_fini(&b);
}

struct actor *world_connect(struct world *world, const char *name, const char *const *params, size_t count)
{
	struct actor *actor;
	int sndbuf = 0;

	for (size_t i = 0; i < count; i++)
		if (world_param(params[i], "sndbuf") != NULL)
			sndbuf = atoi(world_param(params[i], "sndbuf"));
	actor = world_add_client(world, ACTOR_CLIENT, name, sndbuf);
	if (params != NULL)
		world_send_startup(actor, params, count);
	return actor;
}

struct actor *world_cancel(struct world *world, const char *name, const struct actor *client)
{
	struct actor *actor = world_add_client(world, ACTOR_CANCELER, name, 0);
	struct buf b;
	int err;

	ASSERT(client->has_key);
	buf_init(&b, 64);
	err = build_cancel_request(&b, frame_be32(client->key), slice_make(client->key + 4, 4));
	ASSERT(err == 0);
	actor_send(actor, buf_ptr(&b), buf_len(&b));
	buf_fini(&b);
	return actor;
}

bool world_read_greeting(struct actor *client)
{
	char word[MSGTEXT_MAX] = "";

	actor_read(client, SIZE_MAX);
	while (actor_peek(client, word) > 0) {
		if (strcmp(word, "K") == 0) {
			memcpy(client->key, buf_ptr(&client->in) + FRAME_HEADER, sizeof(client->key));
			client->has_key = true;
		}
		if (strchr("RSKZ", word[0]) == NULL || !actor_next(client, word))
			return false;
		if (strcmp(word, "Z:I") == 0)
			return client->has_key;
	}
	return false;
}

/* ---- the inside ---- */

unsigned world_loop_count(const struct world *world)
{
	return world->engine->worker_count + world->engine->login_count + 1;
}

struct loop *world_loop(const struct world *world, unsigned i)
{
	struct engine *engine = world->engine;

	if (i < engine->worker_count)
		return engine->workers[i]->ctx.loop;
	i -= engine->worker_count;
	return i < engine->login_count ? engine->logins[i]->loop : engine->control;
}

void world_step(struct world *world, struct loop *loop)
{
	loop_step(loop);
	if (!world->is_loose)
		check_invariants(world);
}

/* True when the played PostgreSQL, or a socket that was full, has got any further. */
static bool world_play(struct world *world)
{
	bool moved = backend_accept(world);

	for (unsigned i = 0; i < world->actor_count; i++) {
		struct actor *actor = world->actors[i];

		moved |= actor_flush(actor);
		while (world->auto_answer && actor->kind == ACTOR_SERVER && !actor->is_fixed && backend_answer(actor))
			moved = true;
	}
	return moved;
}

void world_run(struct world *world)
{
	unsigned rest = 0;

	for (unsigned round = 0; rest < WORLD_REST_ROUNDS && round < WORLD_ROUNDS_MAX; round++) {
		for (unsigned i = 0; i < world_loop_count(world); i++)
			world_step(world, world_loop(world, i));
		rest = world_play(world) ? 0 : rest + 1;
	}
}

struct client *world_find_client(const struct world *world, const struct actor *actor)
{
	for (unsigned i = 0; i < world->engine->worker_count; i++) {
		struct pool_part *part;
		struct client *client;

		TAILQ_FOREACH (part, &world->engine->workers[i]->parts, entry)
			TAILQ_FOREACH (client, &part->clients, entry)
				if (actor->has_key ? memcmp(client->cancel_key, actor->key, sizeof(actor->key)) == 0
						   : client->stream.fd == actor->pooler_fd)
					return client;
	}
	return NULL;
}

struct server *world_find_server(const struct world *world, const struct actor *actor)
{
	for (unsigned i = 0; i < world->engine->worker_count; i++) {
		struct pool_part *part;
		struct server *server;

		TAILQ_FOREACH (part, &world->engine->workers[i]->parts, entry)
			TAILQ_FOREACH (server, &part->servers, entry)
				if (server->backend_pid == actor->pid)
					return server;
	}
	return NULL;
}

struct pool *world_pool(const struct world *world, const char *name)
{
	struct pool *found = NULL;
	struct pool *pool;

	/* one that was removed may still be there beside its successor, which comes later */
	TAILQ_FOREACH (pool, world->engine->pools, entry)
		if (strcmp(pool->name, name) == 0)
			found = pool;
	return found;
}
