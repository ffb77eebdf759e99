/*
 * Runs scenarios: scripts of what clients, the played PostgreSQL, time and the
 * administrator do, in which order the loops take their turns, and what must
 * come of it. README.md has the language. Each scenario runs in a process of
 * its own; the result is TAP.
 */
#include <dirent.h>
#include <fnmatch.h>
#include <sys/socket.h>

#include "backend.h"
#include "check.h"
#include "core/alloc.h"
#include "fake.h"
#include "pool/cancel.h"
#include "pool/registry.h"
#include "pool/registry_walk.h"

#define WORDS_MAX 64
#define LINE_MAX_ 4096

struct script {
	const char *path;
	unsigned line;
	struct world *world;
	struct buf rest; /* kept back by "sends-part" */
};

/* The words of a line behind those that chose the command. */
struct args {
	char **word;
	unsigned count;
};

NORETURN static void script_fail(const struct script *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

NORETURN static void script_fail(const struct script *s, const char *fmt, ...)
{
	va_list ap;

	printf("# %s:%u: ", s->path, s->line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

static struct world *script_world(struct script *s)
{
	if (s->world->engine == NULL)
		world_start(s->world);
	return s->world;
}

static struct actor *script_actor(struct script *s, const char *name)
{
	struct actor *actor = world_actor(s->world, name);

	if (actor == NULL)
		script_fail(s, "there is no \"%s\"", name);
	return actor;
}

/* ---- configuration ---- */

/* Joins words from `from` on. */
static void script_join(const struct args *a, unsigned from, char *dst, size_t size)
{
	dst[0] = '\0';
	for (unsigned i = from; i < a->count; i++)
		str_append(dst, size, "%s%s", i > from ? " " : "", a->word[i]);
}

static void script_option(struct script *s, const char *section, struct args *a)
{
	char value[256];

	script_join(a, 1, value, sizeof(value));
	world_set(s->world, section, a->word[0], value);
}

static void cmd_set(struct script *s, struct args *a)
{
	script_option(s, "pgbouncer", a);
}

static void cmd_db(struct script *s, struct args *a)
{
	script_option(s, "databases", a);
}

static void cmd_no_db(struct script *s, struct args *a)
{
	world_set(s->world, "databases", a->word[0], NULL);
}

static void cmd_user(struct script *s, struct args *a)
{
	script_option(s, "users", a);
}

static void cmd_profile(struct script *s, struct args *a)
{
	s->world->is_sluice = strcmp(a->word[0], "pgsluice") == 0;
}

static void cmd_reload(struct script *s, struct args *a UNUSED)
{
	if (!world_reload(script_world(s)))
		script_fail(s, "the configuration is no good");
}

static void cmd_auto(struct script *s, struct args *a)
{
	bool on = a->count < 2 || strcmp(a->word[1], "on") == 0;

	if (strcmp(a->word[0], "login") == 0)
		s->world->auto_login = on;
	else if (strcmp(a->word[0], "answer") == 0)
		s->world->auto_answer = on;
	else
		script_fail(s, "auto is for login or answer");
}

/* ---- the world ---- */

static void cmd_listen(struct script *s, struct args *a)
{
	if (a->count != 2)
		script_fail(s, "listen N on|off");
	world_listen(script_world(s), (unsigned)atoi(a->word[0]), strcmp(a->word[1], "on") == 0);
}

static void cmd_connect(struct script *s, struct args *a)
{
	world_connect(script_world(s), a->word[0], (const char *const *)a->word + 1, a->count - 1);
}

static void cmd_arrive(struct script *s, struct args *a)
{
	world_connect(script_world(s), a->word[0], NULL, 0);
}

static void script_greet(struct script *s, struct actor *actor)
{
	char word[MSGTEXT_MAX] = "nothing";

	if (!world_read_greeting(actor)) {
		actor_peek(actor, word);
		script_fail(s, "%s was not greeted but got %s", actor->name, word);
	}
}

static void cmd_client(struct script *s, struct args *a)
{
	cmd_connect(s, a);
	world_run(s->world);
	script_greet(s, script_actor(s, a->word[0]));
}

static void cmd_cancel(struct script *s, struct args *a)
{
	if (a->count != 2)
		script_fail(s, "cancel NAME CLIENT");
	world_cancel(script_world(s), a->word[0], script_actor(s, a->word[1]));
}

static void cmd_run(struct script *s, struct args *a UNUSED)
{
	world_run(script_world(s));
}

/* The worker where an actor's connection lives. */
static struct worker *script_worker(struct script *s, const char *name)
{
	struct actor *actor = script_actor(s, name);
	struct client *client = actor_is_server(actor) ? NULL : world_find_client(s->world, actor);
	struct server *server = actor_is_server(actor) ? world_find_server(s->world, actor) : NULL;

	if (client == NULL && server == NULL)
		script_fail(s, "%s is on no worker", name);
	return client != NULL ? client->part->worker : server->part->worker;
}

static struct loop *script_loop(struct script *s, const char *name)
{
	if (strcmp(name, "control") == 0)
		return s->world->engine->control;
	if (strcmp(name, "login") == 0)
		return world_loop(s->world, s->world->engine->worker_count);
	if (name[0] == 'w' && isdigit((unsigned char)name[1]))
		return world_loop(s->world, (unsigned)atoi(name + 1));
	return script_worker(s, name)->ctx.loop;
}

static void cmd_step(struct script *s, struct args *a)
{
	script_world(s);
	for (unsigned i = 0; i < a->count; i++)
		world_step(s->world, script_loop(s, a->word[i]));
}

static void cmd_advance(struct script *s, struct args *a)
{
	char *unit;
	uint64_t n = strtoull(a->word[0], &unit, 10);

	script_world(s);
	if (strcmp(unit, "s") == 0)
		fake_advance(n * 1000000);
	else if (strcmp(unit, "ms") == 0)
		fake_advance(n * 1000);
	else if (strcmp(unit, "us") == 0)
		fake_advance(n);
	else
		script_fail(s, "advance takes s, ms or us");
}

/* Of everything, or of one database. */
static void script_pause(struct script *s, struct args *a, bool on)
{
	struct engine *engine = script_world(s)->engine;
	struct db *db;

	if (a->count == 0) {
		engine_set_mode(engine, on ? ENGINE_PAUSED : ENGINE_ACTIVE);
		return;
	}
	db = registry_get_db(engine, a->word[0], REGISTRY_ANY, NULL);
	if (db == NULL)
		script_fail(s, "there is no database \"%s\"", a->word[0]);
	atomic_store(&db->paused, on);
	engine_apply_pauses(engine);
	db_release(&db);
}

static void cmd_pause(struct script *s, struct args *a)
{
	script_pause(s, a, true);
}

static void cmd_resume(struct script *s, struct args *a)
{
	script_pause(s, a, false);
}

static void cmd_shutdown(struct script *s, struct args *a)
{
	bool servers = strcmp(a->word[0], "servers") == 0;

	engine_shutdown(script_world(s)->engine, servers ? SHUTDOWN_WAIT_FOR_SERVERS : SHUTDOWN_WAIT_FOR_CLIENTS);
}

/* ---- expectations ---- */

static const char *script_state(struct script *s, const struct actor *actor)
{
	static const char *const clients[] = {
#define X(id, name, action) #id,
		CLIENT_STATE_TABLE(X)
#undef X
	};
	static const char *const servers[] = {
#define X(id, name, action) #id,
		SERVER_STATE_TABLE(X)
#undef X
	};
	const struct client *client = actor_is_server(actor) ? NULL : world_find_client(s->world, actor);
	const struct server *server = actor_is_server(actor) ? world_find_server(s->world, actor) : NULL;

	if (client != NULL)
		return clients[client->state];
	return server != NULL ? servers[server->state] : "gone";
}

static unsigned script_cancels(struct script *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->world->engine->worker_count; i++) {
		struct pool *pool;

		TAILQ_FOREACH (pool, s->world->engine->pools, entry) {
			struct cancel_counts counts = cancel_count(s->world->engine->workers[i], pool);

			n += counts.waiting + counts.active + counts.own;
		}
	}
	return n;
}

static unsigned script_clients(const struct pool *pool)
{
	unsigned n = 0;

	for (unsigned i = 0; i < pool->engine->worker_count; i++)
		n += atomic_load(&pool->parts[i]->client_count);
	return n;
}

/* One count of a pool; false when there is none of that name. */
static bool script_count(struct script *s, const struct pool *pool, const char *key, unsigned *n)
{
	const struct {
		const char *key;
		unsigned n;
	} rows[] = {
		{ "waiters", pool->waiter_count },
		{ "dedicated", pool->dedicated_count },
		{ "idle", pool->idle },
		{ "servers", pool->servers },
		{ "logging_in", pool->logging_in },
		{ "travelling", pool->travelling },
		{ "failures", pool->failures },
		{ "clients", script_clients(pool) },
		{ "cancels", script_cancels(s) },
		{ "db_servers", atomic_load(&pool->db->servers) },
		{ "user_servers", atomic_load(&pool->account->servers) },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strcmp(rows[i].key, key) == 0) {
			*n = rows[i].n;
			return true;
		}
	return false;
}

/* Checks how many objects the registry has; false when that is not what is asked. */
static bool script_expect_registry(struct script *s, const char *key, unsigned n)
{
	struct registry_counts counts;
	size_t is;

	registry_count(s->world->engine, &counts);
	if (strcmp(key, "pools") == 0)
		is = counts.pools;
	else if (strcmp(key, "dbs") == 0)
		is = counts.dbs;
	else if (strcmp(key, "users") == 0)
		is = counts.accounts;
	else
		return false;
	if (is != n)
		script_fail(s, "there are %zu %s, not %u", is, key, n);
	return true;
}

static void script_expect(struct script *s, char *what)
{
	char *eq = strchr(what, '=');
	char *colon = strchr(what, ':');
	const char *pool_name = "db/u";
	char *key = what;
	struct pool *pool;
	unsigned n;

	if (eq == NULL)
		script_fail(s, "expect NAME=VALUE");
	*eq = '\0';
	if (world_actor(s->world, what) != NULL) {
		const char *state = script_state(s, world_actor(s->world, what));

		if (strcmp(state, eq + 1) != 0)
			script_fail(s, "%s is %s, not %s", what, state, eq + 1);
		return;
	}
	if (script_expect_registry(s, what, (unsigned)atoi(eq + 1)))
		return;
	if (colon != NULL) {
		*colon = '\0';
		pool_name = what;
		key = colon + 1;
	}
	pool = world_pool(s->world, pool_name);
	if (pool == NULL)
		script_fail(s, "there is no pool %s", pool_name);
	if (!script_count(s, pool, key, &n))
		script_fail(s, "nothing is called %s", key);
	if (n != (unsigned)atoi(eq + 1))
		script_fail(s, "%s of %s is %u, not %s", key, pool_name, n, eq + 1);
}

static void cmd_expect(struct script *s, struct args *a)
{
	script_world(s);
	for (unsigned i = 0; i < a->count; i++)
		script_expect(s, a->word[i]);
}

static void cmd_same(struct script *s, struct args *a)
{
	if (script_worker(s, a->word[0]) != script_worker(s, a->word[1]))
		script_fail(s, "%s and %s are on different workers", a->word[0], a->word[1]);
}

static void cmd_apart(struct script *s, struct args *a)
{
	if (script_worker(s, a->word[0]) == script_worker(s, a->word[1]))
		script_fail(s, "%s and %s are on the same worker", a->word[0], a->word[1]);
}

static void cmd_linked(struct script *s, struct args *a)
{
	struct client *client = world_find_client(s->world, script_actor(s, a->word[0]));
	struct server *server = world_find_server(s->world, script_actor(s, a->word[1]));

	if (client == NULL || server == NULL || client->server != server)
		script_fail(s, "%s and %s are not linked", a->word[0], a->word[1]);
}

/* ---- what actors do ---- */

static void verb_starts(struct script *s UNUSED, struct actor *actor, struct args *a)
{
	world_send_startup(actor, (const char *const *)a->word, a->count);
}

static void verb_greeted(struct script *s, struct actor *actor, struct args *a UNUSED)
{
	script_greet(s, actor);
}

/* "word^n" is the word n times; cuts it and returns n. */
static unsigned script_repeat(char *word)
{
	char *hat = strrchr(word, '^');

	if (hat == NULL)
		return 1;
	*hat = '\0';
	return (unsigned)atoi(hat + 1);
}

/* The bytes of all words. */
static void script_bytes(struct script *s, const struct actor *actor, struct args *a, unsigned from, struct buf *b)
{
	buf_init(b, 64 * 1024 * 1024);
	for (unsigned i = from; i < a->count; i++)
		for (unsigned n = script_repeat(a->word[i]); n > 0; n--)
			if (!msgtext_write(b, a->word[i], actor_is_server(actor)))
				script_fail(s, "\"%s\" is no message", a->word[i]);
}

static void verb_sends(struct script *s, struct actor *actor, struct args *a)
{
	struct buf b;

	script_bytes(s, actor, a, 0, &b);
	actor_send(actor, buf_ptr(&b), buf_len(&b));
	buf_fini(&b);
}

static void verb_sends_part(struct script *s, struct actor *actor, struct args *a)
{
	size_t n = (size_t)atoi(a->word[0]);

	buf_fini(&s->rest);
	script_bytes(s, actor, a, 1, &s->rest);
	ASSERT(n <= buf_len(&s->rest));
	actor_send(actor, buf_ptr(&s->rest), n);
	buf_consume(&s->rest, (uint32_t)n);
}

static void verb_sends_rest(struct script *s, struct actor *actor, struct args *a UNUSED)
{
	actor_send(actor, buf_ptr(&s->rest), buf_len(&s->rest));
	buf_fini(&s->rest);
}

static void verb_dribbles(struct script *s, struct actor *actor, struct args *a)
{
	struct buf b;

	script_bytes(s, actor, a, 0, &b);
	for (uint32_t i = 0; i < buf_len(&b); i++) {
		actor_send(actor, buf_ptr(&b) + i, 1);
		world_run(s->world);
	}
	buf_fini(&b);
}

static void script_get(struct script *s, struct actor *actor, const char *pattern)
{
	char word[MSGTEXT_MAX];

	if (!actor_next(actor, word))
		script_fail(s, "%s should get %s but gets %s", actor->name, pattern, actor->eof ? "eof" : "nothing");
	if (fnmatch(pattern, word, 0) != 0)
		script_fail(s, "%s should get %s but gets %s", actor->name, pattern, word);
}

static void verb_gets(struct script *s, struct actor *actor, struct args *a)
{
	const char *last = a->count > 0 ? a->word[a->count - 1] : "";
	bool more = strcmp(last, "...") == 0;
	bool eof = strcmp(last, "eof") == 0;
	bool nothing = strcmp(last, "nothing") == 0;
	char word[MSGTEXT_MAX];

	for (unsigned i = 0; i < a->count - (more || eof || nothing); i++)
		for (unsigned n = script_repeat(a->word[i]); n > 0; n--)
			script_get(s, actor, a->word[i]);
	if (more)
		return;
	if (actor_next(actor, word))
		script_fail(s, "%s gets %s, too", actor->name, word);
	if (!buf_is_empty(&actor->in))
		script_fail(s, "%s gets a part of a message, too", actor->name);
	if (actor->eof != eof)
		script_fail(s, "%s should%s be at the end", actor->name, eof ? "" : " not");
}

static void verb_closes(struct script *s UNUSED, struct actor *actor, struct args *a UNUSED)
{
	actor_close(actor);
}

static void verb_reads(struct script *s, struct actor *actor, struct args *a)
{
	size_t n = (size_t)atoi(a->word[0]);

	if (actor_read(actor, n) != n)
		script_fail(s, "%s cannot read %zu bytes", actor->name, n);
}

/* Reads all that comes while the world runs, to be looked at later. */
static void verb_drains(struct script *s, struct actor *actor, struct args *a UNUSED)
{
	while (actor_read(actor, SIZE_MAX) > 0)
		world_run(s->world);
}

static void verb_logs_in(struct script *s, struct actor *actor, struct args *a UNUSED)
{
	char word[MSGTEXT_MAX];

	if (actor_peek(actor, word) == 0 || !actor_next(actor, word) || strncmp(word, "startup:", 8) != 0)
		script_fail(s, "%s has no startup packet", actor->name);
	backend_login(actor);
}

static void verb_answers(struct script *s, struct actor *actor, struct args *a)
{
	for (unsigned n = a->count > 0 ? (unsigned)atoi(a->word[0]) : UINT_MAX; n > 0; n--)
		if (!backend_answer(actor)) {
			if (a->count > 0)
				script_fail(s, "%s has nothing to answer", actor->name);
			return;
		}
}

static void verb_fixed(struct script *s UNUSED, struct actor *actor, struct args *a)
{
	actor->is_fixed = a->count == 0 || strcmp(a->word[0], "on") == 0;
}

/* The pooler's socket towards this actor takes little at a time. */
static void verb_chokes(struct script *s, struct actor *actor, struct args *a UNUSED)
{
	struct client *client = actor_is_server(actor) ? NULL : world_find_client(s->world, actor);
	struct server *server = actor_is_server(actor) ? world_find_server(s->world, actor) : NULL;
	int size = 1;

	if (client == NULL && server == NULL)
		script_fail(s, "%s is not connected", actor->name);
	if (setsockopt(client != NULL ? client->stream.fd : server->stream.fd, SOL_SOCKET, SO_SNDBUF, &size,
		       sizeof(size)) != 0)
		script_fail(s, "SO_SNDBUF: %s", strerror(errno));
}

/* ---- lines ---- */

static void script_words(struct script *s, struct args *a);

/* The text with the number in the place of each %. */
static void script_number(const char *text, unsigned number, char *dst, size_t size)
{
	dst[0] = '\0';
	for (; *text != '\0'; text++) {
		if (*text == '%')
			str_append(dst, size, "%u", number);
		else
			str_append(dst, size, "%c", *text);
	}
}

/* A command for each number from 1 on. */
static void cmd_each(struct script *s, struct args *a)
{
	static char texts[WORDS_MAX][MSGTEXT_MAX];
	unsigned count = (unsigned)atoi(a->word[0]);

	for (unsigned number = 1; number <= count; number++) {
		char *words[WORDS_MAX];
		struct args rest = { words, a->count - 1 };

		for (unsigned i = 0; i < rest.count; i++) {
			script_number(a->word[i + 1], number, texts[i], sizeof(texts[i]));
			words[i] = texts[i];
		}
		script_words(s, &rest);
	}
}

static const struct {
	const char *name;
	unsigned args_min;
	void (*fn)(struct script *s, struct args *a);
} commands[] = {
	{ "set", 2, cmd_set },         { "db", 1, cmd_db },           { "no-db", 1, cmd_no_db },
	{ "user", 1, cmd_user },       { "reload", 0, cmd_reload },   { "auto", 1, cmd_auto },
	{ "listen", 2, cmd_listen },   { "client", 1, cmd_client },   { "connect", 1, cmd_connect },
	{ "arrive", 1, cmd_arrive },   { "cancel", 2, cmd_cancel },   { "run", 0, cmd_run },
	{ "step", 1, cmd_step },       { "advance", 1, cmd_advance }, { "pause", 0, cmd_pause },
	{ "resume", 0, cmd_resume },   { "expect", 1, cmd_expect },   { "same", 2, cmd_same },
	{ "apart", 2, cmd_apart },     { "linked", 2, cmd_linked },   { "shutdown", 1, cmd_shutdown },
	{ "profile", 1, cmd_profile }, { "each", 2, cmd_each },
};

static const struct {
	const char *name;
	unsigned args_min;
	void (*fn)(struct script *s, struct actor *actor, struct args *a);
} verbs[] = {
	{ "starts", 0, verb_starts },
	{ "greeted", 0, verb_greeted },
	{ "sends", 1, verb_sends },
	{ "sends-part", 2, verb_sends_part },
	{ "sends-rest", 0, verb_sends_rest },
	{ "dribbles", 1, verb_dribbles },
	{ "gets", 1, verb_gets },
	{ "closes", 0, verb_closes },
	{ "reads", 1, verb_reads },
	{ "drains", 0, verb_drains },
	{ "logs-in", 0, verb_logs_in },
	{ "answers", 0, verb_answers },
	{ "fixed", 0, verb_fixed },
	{ "chokes", 0, verb_chokes },
};

static void script_verb(struct script *s, struct args *a)
{
	struct actor *actor = script_actor(s, a->word[0]);
	struct args rest = { a->word + 2, a->count - 2 };

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (a->count >= 2 && strcmp(verbs[i].name, a->word[1]) == 0) {
			if (rest.count < verbs[i].args_min)
				script_fail(s, "words are missing");
			verbs[i].fn(s, actor, &rest);
			return;
		}
	script_fail(s, "%s cannot do that", actor->name);
}

static void script_words(struct script *s, struct args *a)
{
	struct args rest = { a->word + 1, a->count - 1 };

	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, a->word[0]) == 0) {
			if (rest.count < commands[i].args_min)
				script_fail(s, "words are missing");
			commands[i].fn(s, &rest);
			return;
		}
	script_verb(s, a);
}

/* Splits at blanks outside of double quotes, which are taken off; '#' begins a comment. */
static void script_line(struct script *s, char *line)
{
	char *words[WORDS_MAX];
	struct args a = { words, 0 };
	char *to = line;

	for (;;) {
		bool quoted = false;

		line += strspn(line, " \t\r\n");
		if (*line == '\0' || *line == '#')
			break;
		if (a.count == WORDS_MAX)
			script_fail(s, "too many words");
		words[a.count++] = to;
		for (; *line != '\0' && (quoted || strchr(" \t\r\n", *line) == NULL); line++) {
			if (*line == '"')
				quoted = !quoted;
			else
				*to++ = *line;
		}
		if (*line != '\0')
			line++;
		*to++ = '\0';
	}
	if (a.count > 0)
		script_words(s, &a);
}

/* Everybody leaves, in good order; nothing may be left behind. */
static void script_end(struct script *s)
{
	struct world *world = script_world(s);

	s->line = 0;
	buf_fini(&s->rest);
	for (unsigned i = 0; i < world->actor_count; i++)
		if (!actor_is_server(world->actors[i]))
			actor_close(world->actors[i]);
	for (unsigned i = 0; i < world->actor_count; i++)
		if (world->actors[i]->kind == ACTOR_TARGET)
			actor_close(world->actors[i]);
	engine_set_mode(world->engine, ENGINE_ACTIVE);
	world->auto_answer = true;
	world_run(world);
	fake_advance(20 * 1000000);
	world_run(world);
	check_end(&s->world);
}

static int script_run(const void *arg)
{
	const char *path = arg;
	struct script s = { .path = path, .world = world_new(1) };
	FILE *f = fopen(path, "r");
	char line[LINE_MAX_];

	if (f == NULL)
		script_fail(&s, "could not open: %s", strerror(errno));
	buf_init(&s.rest, 0);
	while (fgets(line, sizeof(line), f) != NULL) {
		s.line++;
		script_line(&s, line);
	}
	fclose(f);
	script_end(&s);
	return 0;
}

/* ---- all of them ---- */

static int replay_filter(const struct dirent *entry)
{
	return fnmatch("*.replay", entry->d_name, 0) == 0;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir");
	struct dirent **names;
	char dir[512];
	unsigned failed = 0;
	int count;

	if (argc > 1) {
		for (int i = 1; i < argc; i++) {
			bool ok = check_in_child(script_run, argv[i]);

			printf("%s %d - %s\n", ok ? "ok" : "not ok", i, argv[i]);
			failed += !ok;
		}
		return failed > 0;
	}
	str_format(dir, sizeof(dir), "%s/test/replay/scenarios", srcdir == NULL ? "." : srcdir);
	count = scandir(dir, &names, replay_filter, alphasort);
	if (count <= 0) {
		fprintf(stderr, "no scenarios in \"%s\"\n", dir);
		return 1;
	}
	printf("1..%d\n", count);
	for (int i = 0; i < count; i++) {
		char path[1024];
		bool ok;

		str_format(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		ok = check_in_child(script_run, path);
		printf("%s %d - %s\n", ok ? "ok" : "not ok", i + 1, names[i]->d_name);
		failed += !ok;
		free(names[i]);
	}
	free(names);
	return failed > 0;
}
