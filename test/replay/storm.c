/*
 * Random events from fixed seeds: which loop takes the next turn, what clients
 * send and in which pieces, when the played PostgreSQL answers, refuses or
 * dies, cancels, time, and what is asked at the console (storm_console.c). After each turn the invariants of
 * check.c are looked at; besides, every client knows what it has asked:
 *
 *     A unit is what one ReadyForQuery ends. Its text carries the number of
 *     the client and of the unit, and PostgreSQL sends it back, so each row
 *     says whose it is. A client that gets another's row, or its own out of
 *     order, ends the test.
 *
 * In the end all troubles cease, and every client that is still there must get
 * all its answers; or, with every fourth seed, the engine ends as it stands.
 */
#include "storm.h"

#include <sys/socket.h>

#include "backend.h"
#include "check.h"
#include "core/alloc.h"
#include "fake.h"

#define STORM_SEEDS      200
#define STORM_EVENTS     4000
#define STORM_END_ROUNDS 120
#define STORM_SECONDS    120 /* of real time, after which a loop must be turning for ever */

void storm_fail(const struct storm *s, const char *fmt, ...)
{
	va_list ap;

	printf("# seed %" PRIu64 ", event %u: ", s->seed, s->event);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

void storm_trace(const struct storm *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->trace)
		return;
	printf("%u: ", s->event);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

bool storm_chance(unsigned n)
{
	return fake_random(100) < n;
}

/* ---- the configuration ---- */

static void storm_set(struct storm *s, const char *section, const char *name, unsigned value)
{
	char text[64];

	str_format(text, sizeof(text), "%u", value);
	world_set(s->world, section, name, text);
}

void storm_set_dbs(struct storm *s)
{
	char text[128];

	str_format(text, sizeof(text), "port=%u pool_size=%u", 1 + fake_random(2), 1 + fake_random(4));
	world_set(s->world, "databases", "db", text);
	if (storm_chance(90)) {
		world_set(s->world, "databases", "db2", "pool_size=2");
		return;
	}
	world_set(s->world, "databases", "db2", NULL);
	s->promise.removed[1] = true;
}

static void storm_configure(struct storm *s)
{
	static const char *const modes[] = { "transaction", "transaction", "transaction", "session", "statement" };
	static const struct {
		const char *name;
		unsigned limit; /* values from 0 to less than this */
	} sometimes[] = {
		{ "max_db_connections", 4 },  { "max_user_connections", 4 },      { "reserve_pool_size", 3 },
		{ "min_pool_size", 3 },       { "query_wait_timeout", 4 },        { "query_timeout", 4 },
		{ "server_idle_timeout", 3 }, { "server_lifetime", 5 },           { "server_round_robin", 2 },
		{ "server_check_delay", 2 },  { "server_reset_query_always", 2 }, { "idle_transaction_timeout", 3 },
		{ "client_idle_timeout", 5 }, { "cancel_wait_timeout", 2 },       { "query_wait_notify", 2 },
		{ "cancel_queued", 2 },       { "timeout_includes_wait", 2 },     { "cancel_grace", 3 },
	};

	s->world->is_sluice = storm_chance(30);
	storm_set(s, "pgbouncer", "threads", 1 + fake_random(4));
	storm_set(s, "pgbouncer", "login_threads", fake_random(2));
	world_set(s->world, "pgbouncer", "pool_mode", modes[fake_random(ARRAY_LEN(modes))]);
	storm_set(s, "pgbouncer", "server_login_retry", 1);
	storm_set(s, "pgbouncer", "reserve_pool_timeout", 1);
	storm_set(s, "pgbouncer", "server_login_concurrency", 1 + fake_random(3));
	for (size_t i = 0; i < ARRAY_LEN(sometimes); i++)
		if (storm_chance(25))
			storm_set(s, "pgbouncer", sometimes[i].name, fake_random(sometimes[i].limit));
	if (storm_chance(40))
		world_set(s->world, "pgbouncer", "query_timeout_action", "cancel");
	if (storm_chance(40))
		world_set(s->world, "pgbouncer", "client_gone_action", "cancel");
	if (storm_chance(40))
		world_set(s->world, "pgbouncer", "server_check_query", storm_chance(50) ? "<empty>" : "select 1");
	if (storm_chance(60))
		world_set(s->world, "pgbouncer", "server_reset_query", "DISCARD ALL");
	storm_set_dbs(s);
}

/* ---- clients ---- */

static void storm_connect(struct storm *s)
{
	struct storm_client *c = &s->clients[s->client_count];
	const char *params[5];
	char name[16];
	size_t n = 0;

	if (s->client_count == STORM_CLIENTS_MAX)
		return;
	*c = (struct storm_client){ .id = ++s->next_id };
	str_format(name, sizeof(name), "c%u", c->id);
	if (storm_chance(30))
		params[n++] = "user=v";
	c->db = storm_chance(30);
	if (c->db == 1)
		params[n++] = "db=db2";
	if (storm_chance(20))
		params[n++] = storm_chance(50) ? "application_name=one" : "application_name=two";
	if (storm_chance(10))
		params[n++] = "sndbuf=1";
	c->replicates = storm_chance(15);
	if (c->replicates)
		params[n++] = storm_chance(50) ? "replication=database" : "replication=yes";
	c->barred = s->promise.disabled[c->db];
	c->actor = world_connect(s->world, name, params, n);
	buf_init(&c->pending, 64 * 1024 * 1024);
	s->client_count++;
	storm_trace(s, "%s connects%s", name, c->replicates ? " and replicates" : "");
}

static void storm_want(struct storm_client *c, const char *before, const char *tag)
{
	char word[256];
	bool ok;

	str_format(word, sizeof(word), "%s%s", before, tag);
	ok = msgtext_write(&c->pending, word, false);
	ASSERT(ok);
}

/* A batch of the extended protocol, or a part of one. */
static void storm_want_batch(struct storm_client *c, const char *tag)
{
	storm_want(c, storm_chance(15) ? "P:fail " : "P:", tag);
	storm_want(c, "B", "");
	if (storm_chance(50))
		storm_want(c, "D", "");
	for (unsigned n = 1 + fake_random(2); n > 0; n--)
		storm_want(c, "E", "");
	if (storm_chance(20))
		storm_want(c, "C", "");
	if (storm_chance(20))
		storm_want(c, "H", "");
	c->in_batch = storm_chance(20);
	if (!c->in_batch)
		storm_want(c, "S", "");
}

static void storm_want_copy(struct storm_client *c, const char *tag)
{
	bool is_bad = storm_chance(20);
	bool is_simple = storm_chance(60);

	if (is_simple) {
		storm_want(c, is_bad ? "Q:copybad " : "Q:copyin ", tag);
	} else {
		storm_want(c, is_bad ? "P:copybad " : "P:copyin ", tag);
		storm_want(c, "B", "");
		storm_want(c, "E", "");
	}
	for (unsigned n = fake_random(4); n > 0; n--)
		storm_want(c, storm_chance(80) ? "d:data" : "d*70000", "");
	storm_want(c, storm_chance(80) ? "c" : "f:stop", "");
	c->in_batch = !is_simple && storm_chance(20);
	if (!is_simple && !c->in_batch)
		storm_want(c, "S", "");
}

/* Data both ways. */
static void storm_want_stream(struct storm_client *c, const char *tag)
{
	storm_want(c, "Q:stream ", tag);
	for (unsigned n = fake_random(5); n > 0; n--) {
		if (storm_chance(80))
			storm_want(c, "d:", tag);
		else
			storm_want(c, "d*70000", "");
	}
	storm_want(c, storm_chance(90) ? "c" : "f:stop", "");
}

static void storm_want_unit(struct storm *s, struct storm_client *c)
{
	char tag[64];

	if (c->leaves || !c->greeted)
		return;
	if (c->in_batch) {
		storm_want(c, "S", "");
		c->in_batch = false;
		return;
	}
	str_format(tag, sizeof(tag), "c%u.u%u.", c->id, c->sent++);
	storm_trace(s, "c%u wants %s", c->id, tag);
	if (c->replicates && storm_chance(40)) {
		storm_want_stream(c, tag);
		return;
	}
	switch (fake_random(13)) {
	case 0:
		storm_want(c, "Q:begin ", tag);
		break;
	case 1:
		storm_want(c, "Q:commit ", tag);
		break;
	case 2:
		storm_want(c, "Q:fail ", tag);
		break;
	case 3:
		storm_want(c, "Q:copyout ", tag);
		break;
	case 4:
		storm_want_copy(c, tag);
		break;
	case 5:
		storm_want(c, "F", "");
		break;
	case 6:
		storm_want(c, "Q*60000", "");
		break;
	case 7:
		storm_want(c, storm_chance(20) ? "Q:big " : "Q:", tag);
		break;
	case 8:
	case 9:
	case 10:
		storm_want_batch(c, tag);
		break;
	default:
		storm_want(c, "Q:", tag);
		break;
	}
}

/* Sends a part of what the client wants to send, mostly all. */
static void storm_send(struct storm *s, struct storm_client *c)
{
	uint32_t n = buf_len(&c->pending);

	if (n == 0 || c->actor->fd < 0)
		return;
	if (storm_chance(20))
		n = 1 + fake_random(n);
	storm_trace(s, "c%u sends %u bytes", c->id, n);
	actor_send(c->actor, buf_ptr(&c->pending), n);
	buf_consume(&c->pending, n);
}

/* The number behind a letter in "c12.u34.", or UINT_MAX. */
static unsigned storm_number(const char *tag, char letter)
{
	const char *at = strchr(tag, letter);

	return at != NULL && isdigit((unsigned char)at[1]) ? (unsigned)atoi(at + 1) : UINT_MAX;
}

/* The tag inside of a message's text, or NULL. */
static const char *storm_tag(const char *word)
{
	for (const char *at = strchr(word, 'c'); at != NULL; at = strchr(at + 1, 'c'))
		if (isdigit((unsigned char)at[1]) && strstr(at, ".u") != NULL)
			return at;
	return NULL;
}

static void storm_check_message(const struct storm *s, struct storm_client *c, const char *word)
{
	const char *tag = storm_tag(word);

	storm_trace(s, "c%u gets %s", c->id, word);
	if (tag != NULL && storm_number(tag, 'c') != c->id)
		storm_fail(s, "c%u gets what is for another: %s", c->id, word);
	if (tag != NULL && storm_number(tag, 'u') != c->got)
		storm_fail(s, "c%u gets %s as answer to unit %u", c->id, word, c->got);
	if (word[0] == 'Z' && ++c->got > c->sent)
		storm_fail(s, "c%u gets one answer more than it asked for", c->id);
	if (word[0] == 'E')
		storm_console_check_error(s, c, word);
}

static void storm_receive(struct storm *s, struct storm_client *c)
{
	char word[MSGTEXT_MAX];

	actor_read(c->actor, storm_chance(20) ? 100 : SIZE_MAX);
	if (!c->greeted) {
		c->greeted = world_read_greeting(c->actor);
		if (!c->greeted)
			return;
		storm_trace(s, "c%u is greeted", c->id);
		if (c->barred)
			storm_fail(s, "c%u is let in to a database that is disabled", c->id);
	}
	while (actor_peek(c->actor, word) > 0) {
		size_t n = actor_peek(c->actor, word);

		c->actor->has_first = true;
		buf_consume(&c->actor->in, (uint32_t)n);
		storm_check_message(s, c, word);
	}
}

static void storm_forget(struct storm *s, struct storm_client *c)
{
	actor_close(c->actor);
	buf_fini(&c->pending);
	*c = s->clients[--s->client_count];
}

static void storm_client_event(struct storm *s)
{
	struct storm_client *c;

	if (s->client_count == 0)
		return;
	c = &s->clients[fake_random(s->client_count)];
	switch (fake_random(24)) {
	case 0:
		if (!storm_chance(20))
			break;
		storm_trace(s, "c%u hangs up", c->id);
		storm_forget(s, c);
		break;
	case 1:
		if (c->greeted && !c->in_batch && !c->leaves && storm_chance(30)) {
			storm_want(c, storm_chance(50) ? "X" : "raw:7a00000004", "");
			c->leaves = true;
		}
		break;
	case 2:
	case 3:
	case 4:
	case 5:
	case 6:
	case 7:
		if (c->sent < c->got + 4)
			storm_want_unit(s, c);
		break;
	case 8:
	case 9:
	case 10:
	case 11:
	case 12:
	case 13:
		storm_send(s, c);
		break;
	default:
		storm_receive(s, c);
		if (c->actor->eof && !s->calm) {
			storm_trace(s, "c%u is at the end", c->id);
			storm_forget(s, c);
		}
		break;
	}
}

/* ---- servers ---- */

/* Some server of the played PostgreSQL, or NULL. */
static struct actor *storm_server(struct storm *s)
{
	for (unsigned tries = 0; tries < 5 && s->world->actor_count > 0; tries++) {
		struct actor *actor = s->world->actors[fake_random(s->world->actor_count)];

		if (actor->kind == ACTOR_SERVER && actor->fd >= 0)
			return actor;
	}
	return NULL;
}

static void storm_login(struct storm *s, struct actor *server)
{
	char word[MSGTEXT_MAX];

	if (!actor_next(server, word)) {
		if (server->eof)
			actor_close(server);
		return;
	}
	if (storm_chance(94)) {
		storm_trace(s, "%s logs in", server->name);
		server->holds = storm_chance(40);
		backend_login(server);
		return;
	}
	storm_trace(s, "%s refuses", server->name);
	if (storm_chance(70) && !actor_say(server, "E:53300:sorry, too many clients already"))
		abort();
	actor_close(server);
}

/* What PostgreSQL may do at any time: say something unasked, or end. */
static void storm_server_trouble(struct storm *s, struct actor *server)
{
	static const char *const words[] = { "N:01000:beware", "A", "S:TimeZone=GMT", "S:TimeZone=UTC" };
	unsigned choice = fake_random(ARRAY_LEN(words) + 3);

	if (choice < ARRAY_LEN(words)) {
		storm_trace(s, "%s says %s", server->name, words[choice]);
		if (!actor_say(server, words[choice]))
			abort();
		return;
	}
	storm_trace(s, "%s dies", server->name);
	actor_trickle(server, storm_chance(50) ? SIZE_MAX : 7);
	server->holds = false;
	if (choice == ARRAY_LEN(words) && !actor_say(server, "E:57P01:terminating connection"))
		abort();
	actor_close(server);
}

/* From now on the server takes little at a time. */
static void storm_choke(struct storm *s, const struct actor *server)
{
	const struct server *found = world_find_server(s->world, server);
	int size = 1;

	if (found == NULL)
		return;
	storm_trace(s, "%s chokes", server->name);
	if (setsockopt(found->stream.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) != 0)
		abort();
}

static void storm_server_event(struct storm *s)
{
	struct actor *server = storm_server(s);

	if (server == NULL)
		return;
	if (!buf_is_empty(&server->out) && storm_chance(70))
		actor_trickle(server, storm_chance(50) ? 1 + fake_random(30) : SIZE_MAX);
	else if (!server->logged_in)
		storm_login(s, server);
	else if (storm_chance(1))
		storm_choke(s, server);
	else if (storm_chance(2))
		storm_server_trouble(s, server);
	else
		for (unsigned n = storm_chance(50) ? 1 : 1000; n > 0 && backend_answer(server); n--)
			storm_trace(s, "%s answers", server->name);
}

/* ---- cancels ---- */

static void storm_cancel(struct storm *s)
{
	struct storm_client *c;

	if (s->client_count == 0 || s->canceler != NULL)
		return;
	for (unsigned i = 0; i < s->world->actor_count; i++)
		if (s->world->actors[i]->kind == ACTOR_TARGET || s->world->actors[i]->kind == ACTOR_NEW)
			return;
	c = &s->clients[fake_random(s->client_count)];
	if (!c->greeted)
		return;
	s->canceler = world_cancel(s->world, "K", c->actor);
	s->cancel_id = c->id;
	storm_trace(s, "c%u is to be canceled", c->id);
}

/* True when the pooler itself may have asked to stop what the client `id` has under way there, or had when it went. */
static bool storm_cancel_is_own(const struct storm *s, const struct actor *actor, unsigned id)
{
	const struct server *server = world_find_server(s->world, actor);

	if (server == NULL || server->client == NULL)
		return server != NULL && server->state == SV_CANCELED;
	for (unsigned i = 0; i < s->client_count; i++)
		if (s->clients[i].id == id)
			return server->timeout.holds &&
			       world_find_client(s->world, s->clients[i].actor) == server->client;
	return false;
}

/* The postmaster has read a cancel request: whatever its target works on must be what the request was for. */
static void storm_cancel_arrived(struct storm *s, struct actor *target)
{
	char word[MSGTEXT_MAX];

	for (unsigned i = 0; i < s->world->actor_count; i++) {
		struct actor *server = s->world->actors[i];
		const char *tag;

		if (server->kind != ACTOR_SERVER || server->pid != target->cancel_pid || server->fd < 0)
			continue;
		actor_read(server, SIZE_MAX);
		tag = actor_peek(server, word) > 0 ? storm_tag(word) : NULL;
		if (tag != NULL && storm_number(tag, 'c') != s->cancel_id &&
		    !storm_cancel_is_own(s, server, storm_number(tag, 'c')))
			storm_fail(s, "cancel for c%u reaches %s of another", s->cancel_id, word);
	}
	storm_trace(s, "%s is delivered", target->name);
	actor_close(target);
}

static void storm_cancel_event(struct storm *s)
{
	for (unsigned i = 0; i < s->world->actor_count; i++) {
		struct actor *actor = s->world->actors[i];

		if (actor->kind == ACTOR_TARGET && actor->fd >= 0 && storm_chance(30))
			storm_cancel_arrived(s, actor);
	}
	if (s->canceler == NULL)
		return;
	actor_read(s->canceler, SIZE_MAX);
	if (s->canceler->eof) {
		actor_close(s->canceler);
		s->canceler = NULL;
	}
}

/* ---- everything else ---- */

static void storm_listen_event(struct storm *s)
{
	bool on = storm_chance(80);

	storm_trace(s, "listening %s", on ? "on" : "off");
	for (unsigned i = 1; on && i <= WORLD_BACKENDS; i++)
		world_listen(s->world, i, true);
	if (!on)
		world_listen(s->world, 1 + fake_random(WORLD_BACKENDS), false);
}

static void storm_time_event(struct storm *s)
{
	static const unsigned spans[] = { 100, 600, 1100, 1100, 20000, 110000, 300000, 1100000, 3000000 };
	unsigned us = spans[fake_random(storm_chance(90) ? 5 : ARRAY_LEN(spans))];

	storm_trace(s, "%u us pass", us);
	fake_advance(us);
}

/* One loop takes a turn, or all of them do, beginning anywhere. */
static void storm_step(struct storm *s)
{
	unsigned count = world_loop_count(s->world);
	unsigned first = fake_random(count);

	for (unsigned n = storm_chance(30) ? count : 1; n > 0; n--, first++) {
		struct loop *loop = world_loop(s->world, first % count);

		storm_trace(s, "%s turns", loop_name(loop));
		storm_console_step(s, loop);
	}
}

static void storm_event(struct storm *s)
{
	unsigned dice = fake_random(1000);

	if (s->seed % 3 == 0 && storm_chance(6))
		storm_console_event(s); /* an administrator in panic */
	if (dice < 390)
		storm_step(s);
	else if (dice < 690)
		storm_client_event(s);
	else if (dice < 870)
		storm_server_event(s);
	else if (dice < 910)
		backend_accept(s->world);
	else if (dice < 930)
		storm_connect(s);
	else if (dice < 940)
		storm_cancel(s);
	else if (dice < 960)
		storm_cancel_event(s);
	else if (dice < 962)
		storm_listen_event(s);
	else if (dice < 976)
		storm_time_event(s);
	else if (dice < 980)
		world_sweep(s->world);
	else
		storm_console_event(s);
	storm_console_check(s);
}

/* ---- the end ---- */

/* Clients send what they had begun to send, and end their batches. */
static void storm_finish_requests(struct storm *s)
{
	for (unsigned i = 0; i < s->client_count; i++) {
		struct storm_client *c = &s->clients[i];

		if (c->in_batch)
			storm_want(c, "S", "");
		c->in_batch = false;
		if (!buf_is_empty(&c->pending))
			actor_send(c->actor, buf_ptr(&c->pending), buf_len(&c->pending));
		buf_clear(&c->pending);
	}
}

/* Whoever has all its answers leaves and makes room. */
static void storm_leave(struct storm *s)
{
	for (unsigned i = 0; i < s->client_count;) {
		struct storm_client *c = &s->clients[i];

		storm_receive(s, c);
		if (c->actor->eof || (c->greeted && c->got == c->sent)) {
			storm_trace(s, "c%u is content", c->id);
			storm_forget(s, c);
		} else {
			i++;
		}
	}
}

/* Somebody has not got all that was asked for: says how it stands. */
NORETURN static void storm_fail_hanging(const struct storm *s, const struct storm_client *c)
{
	const struct client *client = world_find_client(s->world, c->actor);
	const struct server *server = client == NULL ? NULL : client->server;

	if (client != NULL)
		printf("# c%u is %s, %s, in %u, out %u, body %" PRIu64 ", blocked %d, parked %d\n", c->id,
		       client_state_name(client->state), client->stream.want_read ? "read" : "not read",
		       buf_len(&client->stream.in), buf_len(&client->stream.out), client->body_left, client->blocked,
		       client->parked);
	if (server != NULL)
		printf("# its server owes %u, is in '%c', %s, in %u, out %u, body %" PRIu64 ", parked %d\n",
		       server->track.count, server->track.status, server->stream.want_read ? "read" : "not read",
		       buf_len(&server->stream.in), buf_len(&server->stream.out), server->body_left, server->parked);
	storm_fail(s, "c%u hangs: %s, sent %u, got %u", c->id, c->greeted ? "greeted" : "not greeted", c->sent, c->got);
}

/* Nothing fails any more; whoever still asks is answered. */
static void storm_calm_down(struct storm *s)
{
	struct world *world = s->world;

	s->calm = true;
	storm_trace(s, "calm");
	world->auto_login = world->auto_answer = true;
	storm_console_calm_down(s);
	for (unsigned i = 1; i <= WORLD_BACKENDS; i++)
		world_listen(world, i, true);
	storm_finish_requests(s);
	for (unsigned i = 0; i < world->actor_count; i++)
		world->actors[i]->holds = false;
	for (unsigned round = 0; round < STORM_END_ROUNDS; round++) {
		world_run(world);
		fake_advance(1100);
		world_run(world);
		check_nobody_waits_in_vain(world);
		for (unsigned i = 0; i < world->actor_count; i++)
			if (world->actors[i]->kind == ACTOR_TARGET && world->actors[i]->fd >= 0)
				storm_cancel_arrived(s, world->actors[i]);
		storm_leave(s);
		fake_advance(50000);
	}
	if (s->client_count > 0)
		storm_fail_hanging(s, &s->clients[0]);
}

static void storm_end(struct storm *s)
{
	struct world *world = s->world;

	while (s->client_count > 0)
		storm_forget(s, &s->clients[0]);
	if (s->canceler != NULL)
		actor_close(s->canceler);
	storm_console_end(s);
	world_run(world);
	fake_advance(20 * 1000000);
	world_run(world);
	check_end(&s->world);
}

/* The engine ends in the middle of everything. */
static void storm_abandon(struct storm *s)
{
	for (unsigned i = 0; i < s->client_count; i++)
		buf_fini(&s->clients[i].pending);
	world_free(&s->world);
}

/* A seed, and how many events. */
struct storm_task {
	uint64_t seed;
	unsigned events;
};

static int storm_run(const void *arg)
{
	const struct storm_task *task = arg;
	uint64_t seed = task->seed;
	struct storm s = { .seed = seed, .world = world_new(seed), .trace = getenv("REPLAY_TRACE") != NULL };

	alarm(STORM_SECONDS);
	s.world->auto_login = false;
	storm_configure(&s);
	world_start(s.world);
	for (s.event = 0; s.event < task->events; s.event++)
		storm_event(&s);
	if (seed % 4 == 0) {
		storm_abandon(&s);
	} else {
		storm_calm_down(&s);
		storm_end(&s);
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned events = argc > 2 ? (unsigned)atoi(argv[2]) : STORM_EVENTS;
	unsigned failed = 0;

	if (argc > 1 && strcmp(argv[1], "all") != 0)
		return storm_run(&(struct storm_task){ strtoull(argv[1], NULL, 10), events });
	for (uint64_t seed = 1; seed <= STORM_SEEDS; seed++) {
		if (check_in_child(storm_run, &(struct storm_task){ seed, events }))
			continue;
		printf("# seed %" PRIu64 " fails: storm %" PRIu64 " %u\n", seed, seed, events);
		failed++;
	}
	printf("1..1\n%s 1 - %u seeds of %u events\n", failed > 0 ? "not ok" : "ok", STORM_SEEDS, events);
	return failed > 0;
}
