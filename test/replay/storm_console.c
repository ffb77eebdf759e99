/*
 * The console's part of the storm. Every command must be answered once, with
 * its tag or with an error that it may have; and what an answer promises is
 * held against the world from then on:
 *
 *     PAUSE         no server is left, and none is opened before RESUME;
 *                   even before the answer none is given to a client
 *     KILL          whoever was there before is gone
 *     KILL_CLIENT   so is this one client
 *     RECONNECT     no server of before is handed out any more
 *     DISABLE       nobody who comes later is let in
 *
 * A promise ends when a command that takes it back is sent, not when that is
 * answered. PAUSE and what undoes it may cross; then nothing is promised.
 */
#include "storm.h"

#include <fnmatch.h>

#include "fake.h"

#define STORM_POOLS_MAX 8

enum storm_verb {
	STORM_PAUSE,
	STORM_RESUME,
	STORM_KILL,
	STORM_KILL_CLIENT,
	STORM_RECONNECT,
	STORM_DISABLE,
	STORM_ENABLE,
	STORM_RELOAD,
	STORM_SET,
	STORM_WAIT_CLOSE,
	STORM_SUSPEND,
	STORM_SHOW,
};

/* What follows the verb. */
enum storm_arg {
	ARG_NONE,
	ARG_DB, /* the name of a database, or nothing */
	ARG_NEED_DB,
	ARG_CLIENT, /* the number of a client */
	ARG_SET,    /* a setting and a number */
	ARG_SHOW,   /* a table */
};

struct storm_command {
	const char *text;
	enum storm_verb verb;
	enum storm_arg arg;
	unsigned weight;
	const char *errors; /* pattern of the errors that it may be answered with, "" for none */
};

static const struct storm_command storm_commands[] = {
	{ "PAUSE", STORM_PAUSE, ARG_DB, 8,
	  "@(already suspended/paused|no such database: *|PAUSE was undone*|canceled by the user)" },
	{ "RESUME", STORM_RESUME, ARG_DB, 24,
	  "@(pooler is not paused/suspended|database * is not paused|no such database: *)" },
	{ "KILL", STORM_KILL, ARG_DB, 3, "@(already suspended/paused|no such database: *)" },
	{ "KILL_CLIENT", STORM_KILL_CLIENT, ARG_CLIENT, 6, "client not found" },
	{ "RECONNECT", STORM_RECONNECT, ARG_DB, 8, "no such database: *" },
	{ "DISABLE", STORM_DISABLE, ARG_NEED_DB, 3, "no such database: *" },
	{ "ENABLE", STORM_ENABLE, ARG_NEED_DB, 9, "no such database: *" },
	{ "RELOAD", STORM_RELOAD, ARG_NONE, 10, "" },
	{ "SET", STORM_SET, ARG_SET, 8, "" },
	{ "WAIT_CLOSE", STORM_WAIT_CLOSE, ARG_DB, 6, "@(no such database: *|canceled by the user)" },
	{ "SUSPEND", STORM_SUSPEND, ARG_NONE, 5,
	  "@(already suspended/paused|cannot suspend with paused databases|SUSPEND was undone*|canceled by the user)" },
	{ "SHOW", STORM_SHOW, ARG_SHOW, 10, "" },
};

static const char *const storm_db_names[STORM_DBS] = { "db", "db2" };

/* ---- what is asked ---- */

static const struct storm_command *storm_pick_command(void)
{
	unsigned sum = 0;
	unsigned dice;
	size_t i = 0;

	for (size_t k = 0; k < ARRAY_LEN(storm_commands); k++)
		sum += storm_commands[k].weight;
	dice = fake_random(sum);
	while (dice >= storm_commands[i].weight)
		dice -= storm_commands[i++].weight;
	return &storm_commands[i];
}

/* A setting that changes how many servers there may be, or for how long. */
static void storm_write_set(char *text, size_t size)
{
	static const struct {
		const char *name;
		unsigned limit;
	} settings[] = {
		{ "default_pool_size", 5 },   { "min_pool_size", 3 },        { "reserve_pool_size", 3 },
		{ "max_db_connections", 5 },  { "max_user_connections", 5 }, { "server_lifetime", 5 },
		{ "server_idle_timeout", 3 }, { "server_fast_close", 2 },    { "server_round_robin", 2 },
	};
	size_t i = fake_random(ARRAY_LEN(settings));

	str_append(text, size, " %s=%u", settings[i].name, fake_random(settings[i].limit));
}

static void storm_write_show(char *text, size_t size)
{
	static const char *const tables[] = { "POOLS",   "CLIENTS", "SERVERS", "DATABASES", "LISTS",
					      "SOCKETS", "STATS",   "USERS",   "STATE",     "CONFIG" };

	str_append(text, size, " %s", tables[fake_random(ARRAY_LEN(tables))]);
}

/* Somebody who is logged in, and whose number SHOW CLIENTS would give; NULL when there is none just now. */
static struct storm_client *storm_pick_victim(struct storm *s, uint64_t *id)
{
	struct storm_client *c;
	const struct client *client;

	if (s->client_count == 0)
		return NULL;
	c = &s->clients[fake_random(s->client_count)];
	client = c->greeted ? world_find_client(s->world, c->actor) : NULL;
	if (client == NULL)
		return NULL;
	*id = client->id;
	return c;
}

static bool storm_covers(unsigned scope, unsigned db)
{
	return scope == STORM_DBS || scope == db;
}

static unsigned storm_server_db(const struct actor *server)
{
	return strcmp(server->database, storm_db_names[1]) == 0;
}

/* True for what may take back an effect that another command's answer promises. */
static bool storm_takes_back(enum storm_verb verb)
{
	return verb == STORM_RESUME || verb == STORM_ENABLE || verb == STORM_RELOAD;
}

/* Such a command is sent, or a cancel request: what was promised holds no longer. */
static void storm_break_promises(struct storm *s, enum storm_verb verb, unsigned scope)
{
	struct storm_promise *p = &s->promise;
	bool enables = verb == STORM_ENABLE || verb == STORM_RELOAD;

	for (unsigned i = 0; i < STORM_CONSOLES_MAX; i++)
		s->consoles[i].undone = true;
	if (verb == STORM_RESUME)
		memset(p->quiet, 0, sizeof(p->quiet));
	for (unsigned db = 0; enables && db < STORM_DBS; db++)
		if (storm_covers(scope, db))
			p->disabled[db] = false;
	for (unsigned i = 0; enables && i < s->client_count; i++)
		if (storm_covers(scope, s->clients[i].db))
			s->clients[i].barred = false;
}

/* Something under way might still take back what is about to be asked for. */
static bool storm_is_crossed(const struct storm *s, const struct storm_console *own)
{
	for (unsigned i = 0; i < STORM_CONSOLES_MAX; i++) {
		const struct storm_console *k = &s->consoles[i];

		if (k != own && k->command != NULL && storm_takes_back(k->command->verb))
			return true;
	}
	return s->console_canceler != NULL;
}

static unsigned storm_console_bit(const struct storm *s, const struct storm_console *k)
{
	return 1u << (k - s->consoles);
}

/* Notes, before the command is sent, whom it must hit. */
static void storm_prepare(struct storm *s, const struct storm_console *k)
{
	unsigned bit = storm_console_bit(s, k);

	for (unsigned i = 0; k->command->verb == STORM_KILL && i < s->client_count; i++)
		if (s->clients[i].greeted && storm_covers(k->db, s->clients[i].db))
			s->clients[i].doomed |= bit;
	for (unsigned db = 0; k->command->verb == STORM_KILL && db < STORM_DBS; db++)
		s->promise.removed[db] |= storm_covers(k->db, db);
	for (unsigned i = 0; k->command->verb == STORM_RECONNECT && i < s->world->actor_count; i++) {
		struct actor *server = s->world->actors[i];

		if (server->kind == ACTOR_SERVER && server->logged_in && storm_covers(k->db, storm_server_db(server)))
			server->marks |= bit;
	}
}

/* Writes the command's argument behind its verb; false when it cannot be sent now. */
static bool storm_write_arg(struct storm *s, struct storm_console *k, char *text, size_t size)
{
	enum storm_arg arg = k->command->arg;
	struct storm_client *victim;
	uint64_t id = 0;

	if (arg == ARG_NEED_DB || (arg == ARG_DB && storm_chance(60))) {
		k->db = fake_random(STORM_DBS);
		str_append(text, size, " %s", storm_db_names[k->db]);
	} else if (arg == ARG_SET) {
		storm_write_set(text, size);
	} else if (arg == ARG_SHOW) {
		storm_write_show(text, size);
	} else if (arg == ARG_CLIENT) {
		victim = storm_pick_victim(s, &id);
		if (victim == NULL)
			return false;
		victim->killed = true;
		k->victim = victim->id;
		str_append(text, size, " %" PRIu64, id);
	}
	return true;
}

static void storm_ask(struct storm *s, struct storm_console *k)
{
	const struct storm_command *command = storm_pick_command();
	char text[128] = "Q:";
	struct buf b;

	str_append(text, sizeof(text), "%s", command->text);
	k->command = command;
	k->db = STORM_DBS;
	k->answered = false;
	if (!storm_write_arg(s, k, text, sizeof(text))) {
		k->command = NULL;
		return;
	}
	if (command->verb == STORM_RELOAD)
		storm_set_dbs(s);
	if (storm_takes_back(command->verb))
		storm_break_promises(s, command->verb, k->db);
	k->undone = storm_is_crossed(s, k);
	storm_prepare(s, k);
	storm_trace(s, "%s asks %s", k->actor->name, text);
	buf_init(&b, 1024);
	if (!msgtext_write(&b, text, false))
		abort();
	actor_send(k->actor, buf_ptr(&b), buf_len(&b));
	buf_fini(&b);
}

/* ---- what is answered ---- */

/* The client must be gone: behind what it was sent stands the end. */
static void storm_expect_gone(const struct storm *s, const struct storm_client *c, const char *why)
{
	while (!c->actor->eof && actor_read(c->actor, SIZE_MAX) > 0)
		continue;
	if (!c->actor->eof)
		storm_fail(s, "c%u is still there after %s", c->id, why);
}

/* The command has done what it is for. */
static void storm_on_success(struct storm *s, struct storm_console *k)
{
	unsigned bit = storm_console_bit(s, k);

	switch (k->command->verb) {
	case STORM_PAUSE:
		s->promise.quiet[k->db] = !k->undone;
		break;
	case STORM_DISABLE:
		s->promise.disabled[k->db] = !k->undone;
		break;
	case STORM_KILL:
		for (unsigned i = 0; i < s->client_count; i++)
			if ((s->clients[i].doomed & bit) != 0)
				storm_expect_gone(s, &s->clients[i], "KILL");
		break;
	case STORM_KILL_CLIENT:
		for (unsigned i = 0; i < s->client_count; i++)
			if (s->clients[i].id == k->victim)
				storm_expect_gone(s, &s->clients[i], "KILL_CLIENT");
		break;
	case STORM_RECONNECT:
		for (unsigned i = 0; i < s->world->actor_count; i++)
			s->world->actors[i]->is_old |= (s->world->actors[i]->marks & bit) != 0;
		break;
	default:
		break;
	}
}

static void storm_forget_marks(struct storm *s, const struct storm_console *k)
{
	unsigned bit = storm_console_bit(s, k);

	for (unsigned i = 0; i < s->client_count; i++)
		s->clients[i].doomed &= ~bit;
	for (unsigned i = 0; i < s->world->actor_count; i++)
		s->world->actors[i]->marks &= ~bit;
}

/* The text of "E:sqlstate:text". */
static const char *storm_error_text(const char *word)
{
	const char *text = strchr(word + 2, ':');

	return text == NULL ? word : text + 1;
}

static void storm_on_answer(struct storm *s, struct storm_console *k, const char *word)
{
	const char *tag = k->command == NULL ? "" : k->command->text;

	storm_trace(s, "%s gets %s", k->actor->name, word);
	if (strchr("TDN", word[0]) != NULL && !k->answered && k->command != NULL)
		return;
	if (word[0] == 'Z' && k->answered) {
		storm_forget_marks(s, k);
		k->command = NULL;
		k->answered = false;
	} else if (word[0] == 'C' && k->command != NULL && !k->answered && strncmp(word + 2, tag, strlen(tag)) == 0) {
		k->answered = true;
		storm_on_success(s, k);
	} else if (word[0] == 'E' && k->command != NULL && !k->answered &&
		   fnmatch(k->command->errors, storm_error_text(word), FNM_EXTMATCH) == 0) {
		k->answered = true;
	} else {
		storm_fail(s, "%s gets %s as answer to %s", k->actor->name, word, k->command == NULL ? "nothing" : tag);
	}
}

static void storm_console_receive(struct storm *s, struct storm_console *k)
{
	char word[MSGTEXT_MAX];

	if (!k->greeted) {
		k->greeted = world_read_greeting(k->actor);
		return;
	}
	while (actor_next(k->actor, word))
		storm_on_answer(s, k, word);
	if (k->actor->eof)
		storm_fail(s, "%s was closed", k->actor->name);
}

/* ---- events ---- */

static void storm_console_connect(struct storm *s, struct storm_console *k)
{
	static const char *const owner[] = { "user=pgbouncer", "db=pgbouncer" };
	char name[16];

	str_format(name, sizeof(name), "k%u", ++s->next_id);
	*k = (struct storm_console){ .actor = world_connect(s->world, name, owner, ARRAY_LEN(owner)) };
	storm_trace(s, "%s connects", name);
}

static void storm_console_close(struct storm *s, struct storm_console *k)
{
	storm_trace(s, "%s goes", k->actor->name);
	if (k->command != NULL && storm_takes_back(k->command->verb))
		return; /* it would have to be remembered until it has surely been worked off */
	storm_forget_marks(s, k);
	actor_close(k->actor);
	*k = (struct storm_console){ .actor = NULL };
}

/* Somebody presses Ctrl-C, which undoes a PAUSE of everything. */
static void storm_console_cancel(struct storm *s, const struct storm_console *k)
{
	if (s->console_canceler != NULL)
		return;
	storm_trace(s, "%s is to be canceled", k->actor->name);
	storm_break_promises(s, STORM_RESUME, STORM_DBS);
	s->console_canceler = world_cancel(s->world, "KK", k->actor);
}

static void storm_console_sweep(struct storm *s)
{
	if (s->console_canceler == NULL)
		return;
	actor_read(s->console_canceler, SIZE_MAX);
	if (!s->console_canceler->eof)
		return;
	actor_close(s->console_canceler);
	s->console_canceler = NULL;
}

void storm_console_event(struct storm *s)
{
	struct storm_console *k = &s->consoles[fake_random(STORM_CONSOLES_MAX)];

	storm_console_sweep(s);
	if (k->actor == NULL)
		storm_console_connect(s, k);
	else if (!k->greeted || storm_chance(60))
		storm_console_receive(s, k);
	else if (k->command == NULL)
		storm_ask(s, k);
	else if (storm_chance(2))
		storm_console_cancel(s, k);
	else if (storm_chance(2))
		storm_console_close(s, k);
}

/* ---- what must hold ---- */

void storm_console_check(const struct storm *s)
{
	const struct world *world = s->world;
	const struct pool *pool;

	TAILQ_FOREACH (pool, world->engine->pools, entry) {
		unsigned db = strcmp(pool->db->name, storm_db_names[1]) == 0;

		if ((s->promise.quiet[STORM_DBS] || s->promise.quiet[db]) && pool->servers > 0)
			storm_fail(s, "%s is paused and has %u servers", pool->name, pool->servers);
	}
	for (unsigned i = 0; i < world->actor_count; i++) {
		const struct actor *actor = world->actors[i];
		const struct server *server = actor->is_old ? world_find_server(world, actor) : NULL;

		if (server != NULL && !server->dirty)
			storm_fail(s, "%s has survived RECONNECT", actor->name);
	}
}

/* Pools that are paused now, and how often each has given a server to a client. */
struct storm_links {
	struct {
		struct pool *pool;
		uint64_t links;
	} rows[STORM_POOLS_MAX];
	unsigned count;
};

static uint64_t storm_count_links(struct pool *pool)
{
	struct stats_sum sum = { .value = { 0 } };

	pool_stats(pool, &sum);
	return sum.value[STAT_server_assignment_count];
}

void storm_console_step(const struct storm *s, struct loop *loop)
{
	struct storm_links before = { .count = 0 };
	struct pool *pool;

	TAILQ_FOREACH (pool, s->world->engine->pools, entry) {
		if (!pool_is_paused(pool) || before.count == STORM_POOLS_MAX)
			continue;
		before.rows[before.count].pool = pool;
		before.rows[before.count++].links = storm_count_links(pool);
	}
	world_step(s->world, loop);
	TAILQ_FOREACH (pool, s->world->engine->pools, entry)
		for (unsigned i = 0; i < before.count; i++)
			if (before.rows[i].pool == pool && storm_count_links(pool) > before.rows[i].links)
				storm_fail(s, "%s is paused and gives a client a server", pool->name);
}

void storm_console_check_error(const struct storm *s, const struct storm_client *c, const char *word)
{
	static const char *const ends[] = { "close_needed",
					    "pause mode",
					    "database configuration changed",
					    "obsolete",
					    "evicted",
					    "too many servers in the pool",
					    "server lifetime",
					    "server idle timeout",
					    "database removed" };
	const char *text = storm_error_text(word);
	const char *failure = strstr(text, "cached error: ");

	for (size_t i = 0; failure != NULL && i < ARRAY_LEN(ends); i++)
		if (strncmp(ends[i], failure + strlen("cached error: "), strlen(ends[i])) == 0)
			storm_fail(s, "c%u is told that logins fail, which does not follow from %s", c->id, failure);
	if (strcmp(text, "admin forced disconnect") == 0 && !c->killed)
		storm_fail(s, "c%u is told of a KILL_CLIENT that was for somebody else", c->id);
	if (strcmp(text, "database removed") == 0 && !s->promise.removed[c->db])
		storm_fail(s, "c%u is told that its database was removed, which is there", c->id);
}

/* ---- the end ---- */

void storm_console_calm_down(struct storm *s)
{
	static const char *const params[] = { "user=pgbouncer", "db=pgbouncer" };
	static const char *const words[] = { "Q:RESUME",
					     "Q:RESUME db",
					     "Q:RESUME db2",
					     "Q:ENABLE db",
					     "Q:ENABLE db2",
					     "Q:SET max_db_connections=0",
					     "Q:SET max_user_connections=0" };
	struct actor *actor = world_connect(s->world, "calm", params, ARRAY_LEN(params));
	char word[MSGTEXT_MAX];
	unsigned answers = 0;
	struct buf b;

	storm_break_promises(s, STORM_RESUME, STORM_DBS);
	storm_break_promises(s, STORM_RELOAD, STORM_DBS);
	buf_init(&b, 4096);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (!msgtext_write(&b, words[i], false))
			abort();
	actor_send(actor, buf_ptr(&b), buf_len(&b));
	buf_fini(&b);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		world_run(s->world); /* which ends when nothing comes from outside any more */
	if (!world_read_greeting(actor))
		storm_fail(s, "the console does not let anybody in");
	while (actor_next(actor, word))
		answers += word[0] == 'Z';
	if (answers != ARRAY_LEN(words))
		storm_fail(s, "the console has answered %u of %zu commands", answers, ARRAY_LEN(words));
	actor_close(actor);
}

void storm_console_end(struct storm *s)
{
	for (unsigned i = 0; i < STORM_CONSOLES_MAX; i++) {
		struct storm_console *k = &s->consoles[i];

		if (k->actor == NULL)
			continue;
		storm_console_receive(s, k);
		storm_console_receive(s, k);
		if (!k->greeted || k->command != NULL)
			storm_fail(s, "%s is not answered: %s", k->actor->name,
				   k->greeted ? k->command->text : "its login");
		actor_close(k->actor);
	}
	if (s->console_canceler != NULL)
		actor_close(s->console_canceler);
}
