/*
 * Clients and servers on both sides of the real engine (see test/replay),
 * which does what the input says: what clients want and in which pieces they
 * send it, when servers answer and how much of it gets through, which loop
 * takes the next turn, who dies.
 *
 * Each client has two sessions: the pooler's, behind which servers are played
 * by session.c, and one for itself alone, a model that is given the same
 * messages without any pooler. Both must say the same, message by message; so
 * it is seen when an answer goes to another, gets lost, or is made of another's
 * statement. A client is excused from this when the server that works for it
 * dies, or when it has left the protocol itself.
 *
 * The first byte is the configuration. With its highest bit the input speaks
 * for the sockets itself: bytes as they come from either side, of which nothing
 * is expected but that the pooler stands. In the end all troubles cease, all
 * answers must come, and everybody leaves.
 */
#include "fuzz.h"

#include <stdarg.h>

#include "../replay/backend.h"
#include "../replay/check.h"
#include "../replay/fake.h"
#include "../replay/world.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "session.h"

#define LINK_CLIENTS  4
#define LINK_CONNECTS 24 /* of one input */
#define LINK_BUF_MAX  (64 * 1024 * 1024)
#define LINK_SERVERS  256

struct link_client {
	struct actor *actor; /* NULL: not there */
	unsigned id;
	unsigned serial;
	bool greeted;
	bool excused;
	bool unsynced;        /* extended messages without their Sync */
	bool has_failed;      /* a batch has */
	bool has_parsed;      /* the unnamed statement, in this batch */
	bool has_bound;       /* ... and has bound it there, so that it need not be kept */
	struct buf pending;   /* what it has not sent yet */
	struct buf expected;  /* what it must be answered to all it wanted, less what has come */
	struct session alone; /* without a pooler */
};

struct link_test {
	struct world *world;
	struct slice input;
	bool is_wild;
	bool is_session_mode;
	unsigned connects;
	struct link_client clients[LINK_CLIENTS];
	unsigned schema;                        /* of the database */
	struct session *sessions[LINK_SERVERS]; /* of the servers, by pid */
};

static void link_trace(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* With REPLAY_TRACE, says what happens. */
static void link_trace(const char *fmt, ...)
{
	va_list ap;

	if (LIKELY(getenv("REPLAY_TRACE") == NULL))
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* Servers that have died by the input's will. */
static unsigned link_deaths;

/* Names that are wrong end a session. */
static bool link_is_pgbouncer;

/* A server has forgotten statements, by the input's will. */
static bool link_has_lost;

/* ---- clients ---- */

static void link_connect(struct link_test *t, struct link_client *c, uint8_t what)
{
	static const char *const params[] = { "application_name=one", "application_name=two", "TimeZone=GMT" };
	const char *chosen = params[what % ARRAY_LEN(params)];
	char name[16];

	if (c->actor != NULL || t->connects == LINK_CONNECTS)
		return;
	memset(c, 0, sizeof(*c));
	c->id = ++t->connects;
	str_format(name, sizeof(name), "c%u", c->id);
	c->excused = t->is_wild;
	c->actor = world_connect(t->world, name, &chosen, what % 4 < ARRAY_LEN(params));
	buf_init(&c->pending, LINK_BUF_MAX);
	buf_init(&c->expected, LINK_BUF_MAX);
	session_init(&c->alone, NULL);
}

static void link_forget(struct link_client *c)
{
	if (c->actor == NULL)
		return;
	actor_close(c->actor);
	buf_fini(&c->pending);
	buf_fini(&c->expected);
	c->actor = NULL;
}

/* Appends one message to what the client wants to send: its type and details are chosen by two bytes. */
static void link_build(struct link_client *c, uint8_t what, uint8_t more)
{

	static const char words[16][8] = { "Q", "P", "B", "D",      "E", "S",    "C", "H",
					   "P", "E", "F", "d:data", "c", "f:no", "X", "B" };
	static const char *const texts[16] = { "one",   "two",          "begin",          "commit", "rollback", "bad",
					       "fail",  "big",          "none",           "copyin", "copyout",  "",
					       "alter", "deallocate a", "DEALLOCATE ALL", "begin" };
	static const char *const names[] = { "", "a", "b", "PGBOUNCER_1" };
	struct slice name = slice_of(names[what >> 4 & 3]);
	struct slice portal = slice_of(what & 64 ? "p" : "");
	const char *word = words[what & 15];
	const char *text = texts[more & 15];
	char own[SESSION_TEXT];
	bool is_marked;
	struct slice value = slice_make(own, 0);
	int err = 0;

	/* with more words behind it a DEALLOCATE is none */
	is_marked = (more & 16) != 0 && text[0] != '\0' && (more & 15) != 13 && (more & 15) != 14;
	str_format(own, sizeof(own), is_marked ? "%s c%u" : "%s", text, c->id);
	switch (word[0]) {
	case FE_QUERY:
		err = build_query(&c->pending, slice_of(own));
		break;
	case FE_PARSE:
		err = build_parse(&c->pending, name, slice_of(own), NULL, 0);
		break;
	case FE_BIND:
		value.n = str_format(own, sizeof(own), "%sc%u.%u", (more & 31) == 31 ? "bad " : "", c->id, c->serial++);
		err = build_bind(&c->pending, portal, name, &value, 1);
		break;
	case FE_DESCRIBE:
		err = build_describe(&c->pending, more & 1 ? TARGET_PORTAL : TARGET_STATEMENT,
				     more & 1 ? portal : name);
		break;
	case FE_CLOSE:
		err = build_close(&c->pending, more & 1 ? TARGET_PORTAL : TARGET_STATEMENT, more & 1 ? portal : name);
		break;
	case FE_EXECUTE:
		err = build_execute(&c->pending, portal, 0);
		break;
	default:
		err = msgtext_write(&c->pending, word, false) ? 0 : -E_RANGE;
		break;
	}
	ASSERT(err == 0);
}

/* The client wants something more, and so does the session that it would have for itself. */
static void link_want(struct link_client *c, uint8_t what, uint8_t more)
{
	uint32_t before;
	const uint8_t *p;

	if (c->actor == NULL || c->alone.dead)
		return;
	before = buf_len(&c->pending);
	link_build(c, what, more);
	p = buf_ptr(&c->pending) + before;
	session_take(&c->alone, p[0], slice_make(p + FRAME_HEADER, buf_len(&c->pending) - before - FRAME_HEADER),
		     &c->expected);
	c->excused |= c->alone.dead;
	c->has_failed |= c->alone.skip;
	/* the pooler takes the name away when it is parsed, not when it is run */
	c->excused |= p[0] == FE_PARSE && (what & 15) % 7 == 1 && (more & 15) == 13;
	c->has_bound |= p[0] == FE_BIND && (what & 48) == 0 && c->has_parsed;
	c->has_parsed = p[0] != FE_SYNC && (c->has_parsed || (p[0] == FE_PARSE && (what & 48) == 0));
	if (p[0] == FE_SYNC)
		c->unsynced = false;
	else if (strchr("PBDEC", p[0]) != NULL)
		c->unsynced = true;
	link_trace("c%u wants %c %x %x", c->id, p[0], what, more);
}

/* Sends n bytes of what the client wants to send, or all. */
static void link_send(struct link_client *c, uint32_t n)
{
	uint32_t len = c->actor == NULL || !c->greeted ? 0 : buf_len(&c->pending);

	if (n == 0 || n > len)
		n = len;
	if (n == 0)
		return;
	link_trace("c%u sends %u bytes", c->id, n);
	actor_send(c->actor, buf_ptr(&c->pending), n);
	buf_consume(&c->pending, n);
}

/* ---- what clients get ---- */

/* The next message of a buffer as a word; its size, or 0. */
static size_t link_peek(const struct buf *b, char word[MSGTEXT_MAX])
{
	word[0] = '\0';
	return buf_is_empty(b) ? 0 : msgtext_read(buf_ptr(b), buf_len(b), true, false, word);
}

NORETURN static void link_fail(const struct link_client *c, const char *got, const char *expected)
{
	fprintf(stderr, "c%u gets %s instead of %s\n", c->id, got, expected);
	abort();
}

/* A message that answers nothing. */
static bool link_is_async(char type)
{
	return type == BE_NOTICE || type == BE_NOTIFICATION || type == BE_PARAMETER_STATUS;
}

/* Errors of statements that run. Of the others more than one may apply, and which is found first is no matter. */
static bool link_is_of_run(const char *word)
{
	return strncmp(word, "E:22012", 7) == 0 || strncmp(word, "E:57014", 7) == 0;
}

/* True when the two say the same. */
static bool link_is_same(const struct buf *got, size_t n, const char *word, const struct buf *expected, size_t m,
			 const char *other)
{
	if (word[0] == BE_ERROR && other[0] == BE_ERROR && !link_is_of_run(word) && !link_is_of_run(other))
		return true;
	return n == m && memcmp(buf_ptr(got), buf_ptr(expected), n) == 0;
}

/* PgBouncer, and we in its place, end a session at once for names of which PostgreSQL only says that they are wrong. */
static bool link_is_stricter(const char *word)
{
	return strncmp(word, "E:08P01:prepared statement ", 27) == 0;
}

/* An unnamed statement that was parsed in a batch that has failed, or has bound it, may be forgotten. */
static bool link_is_forgetful(const char *word)
{
	return strcmp(word, "E:26000:unnamed prepared statement does not exist") == 0;
}

/* Statements that have changed, or are gone, are parsed again out of sight; but not in the middle of a transaction. */
static bool link_is_of_server(const char *word)
{
	return strncmp(word, "E:0A000", 7) == 0 || (link_has_lost && strcmp(word, "E:26000:" SESSION_MISSING) == 0);
}

/* A Parse that the pooler answers itself succeeds in an aborted transaction, too; what uses it fails. */
static bool link_is_hasty(const char *word, const char *expected)
{
	return word[0] == BE_PARSE_COMPLETE && strstr(expected, "E:25P02") == expected;
}

/* Holds what has come against what the client would have got alone. */
static void link_compare(struct link_client *c)
{
	char word[MSGTEXT_MAX], other[MSGTEXT_MAX];
	size_t n, m;

	while ((n = link_peek(&c->actor->in, word)) > 0) {
		link_trace("c%u gets %s", c->id, word);
		c->excused |= link_is_of_server(word);
		c->excused |= link_is_stricter(word) || ((c->has_failed || c->has_bound) && link_is_forgetful(word));
		c->excused |= link_deaths > 0 && strstr(word, "server conn crashed?") != NULL;
		if (!link_is_async(word[0]) && !c->excused) {
			m = link_peek(&c->expected, other);
			c->excused = link_is_hasty(word, other);
			if (c->excused)
				continue;
			if (m == 0 || !link_is_same(&c->actor->in, n, word, &c->expected, m, other))
				link_fail(c, word, m == 0 ? "nothing" : other);
			buf_consume(&c->expected, (uint32_t)m);
		}
		buf_consume(&c->actor->in, (uint32_t)n);
	}
}

static void link_receive(struct link_client *c)
{
	if (c->actor == NULL)
		return;
	actor_read(c->actor, SIZE_MAX);
	if (!c->greeted && !c->actor->eof) {
		c->greeted = world_read_greeting(c->actor);
		c->actor->has_first = true;
	}
	if (c->greeted)
		link_compare(c);
	if (!c->actor->eof)
		return;
	/* in the middle of a message of the server nothing can be said */
	c->excused |= !buf_is_empty(&c->actor->in) && link_is_pgbouncer;
	if (!c->excused)
		link_fail(c, "the end", "an answer");
	link_forget(c);
}

/* ---- servers ---- */

/* The nth of the servers that are there, or NULL. */
static struct actor *link_server(const struct link_test *t, unsigned n)
{
	struct actor *servers[WORLD_ACTORS_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < t->world->actor_count; i++) {
		struct actor *actor = t->world->actors[i];

		if (actor->kind == ACTOR_SERVER && actor->fd >= 0 && actor->logged_in)
			servers[count++] = actor;
	}
	return count == 0 ? NULL : servers[n % count];
}

static struct session *link_session(struct link_test *t, const struct actor *server)
{
	struct session **s = &t->sessions[(server->pid - 1001) % LINK_SERVERS];

	ASSERT(t->world->server_count < LINK_SERVERS);
	if (*s == NULL) {
		*s = malloc(sizeof(**s));
		ASSERT(*s != NULL);
		session_init(*s, &t->schema);
	}
	return *s;
}

/* The server answers up to n messages; false when there was none. */
static bool link_answer(struct link_test *t, struct actor *server, unsigned n)
{
	struct session *s = link_session(t, server);
	bool moved = false;
	struct frame f;
	struct buf out;

	actor_read(server, SIZE_MAX);
	buf_init(&out, LINK_BUF_MAX);
	for (; n > 0 && !buf_is_empty(&server->in); n--, moved = true) {
		const uint8_t *p = buf_ptr(&server->in);

		if (frame_read(p, buf_len(&server->in), UINT64_MAX, &f) != 0 || f.size > buf_len(&server->in))
			break;
		link_trace("%s takes %c %.20s", server->name, f.type, (const char *)p + FRAME_HEADER);
		session_take(s, f.type, slice_make(p + FRAME_HEADER, f.size - FRAME_HEADER), &out);
		buf_consume(&server->in, (uint32_t)f.size);
	}
	if (!buf_is_empty(&out))
		actor_send(server, buf_ptr(&out), buf_len(&out));
	buf_fini(&out);
	if ((s->dead && buf_is_empty(&server->out)) || server->eof)
		actor_close(server);
	return moved;
}

/* Whom the pooler has joined with the server; NULL: nobody of ours. */
static struct link_client *link_partner(struct link_test *t, const struct actor *actor)
{
	const struct server *server = world_find_server(t->world, actor);

	for (unsigned i = 0; server != NULL && server->client != NULL && i < LINK_CLIENTS; i++) {
		struct link_client *c = &t->clients[i];

		if (c->actor != NULL && world_find_client(t->world, c->actor) == server->client)
			return c;
	}
	return NULL;
}

static void link_kill(struct link_test *t, struct actor *server)
{
	struct link_client *c = link_partner(t, server);

	link_trace("%s dies", server->name);
	if (c != NULL)
		c->excused = true;
	link_deaths++; /* others may be joined with it before the pooler notices */
	actor_close(server);
}

/* Something that nobody has asked for, which a server may say at any time. */
static void link_say(struct link_test *t, struct actor *server, unsigned what)
{
	static const char *const words[] = { "N:01000:beware", "S:application_name=one", "S:TimeZone=UTC" };
	bool ok = actor_say(server, words[what % ARRAY_LEN(words)]);

	ASSERT(ok);
}

/* ---- everybody ---- */

static void link_receive_all(struct link_test *t)
{
	for (unsigned i = 0; i < LINK_CLIENTS; i++)
		link_receive(&t->clients[i]);
}

/* Everything moves until nothing does. */
static void link_rest(struct link_test *t)
{
	bool moved = true;

	for (unsigned round = 0; moved && round < 1000; round++) {
		moved = false;
		world_run(t->world);
		link_receive_all(t);
		for (unsigned i = 0; i < t->world->actor_count; i++) {
			struct actor *actor = t->world->actors[i];

			if (actor->kind == ACTOR_SERVER && actor->fd >= 0 && actor->logged_in)
				moved |= link_answer(t, actor, UINT_MAX) || !buf_is_empty(&actor->out);
		}
	}
	world_sweep(t->world);
}

/* Bytes of the input as they are. */
static void link_speak(struct link_test *t, struct actor *actor)
{
	struct slice bytes = fuzz_take(&t->input, fuzz_take_u8(&t->input));

	if (actor != NULL && bytes.n > 0)
		actor_send(actor, bytes.p, bytes.n);
}

static void link_misc(struct link_test *t, unsigned low)
{
	struct link_client *c = &t->clients[low & 3];
	uint8_t what = fuzz_take_u8(&t->input);
	struct actor *server = link_server(t, what >> 4);

	if (low < 4)
		link_connect(t, c, what);
	else if (low < 8)
		link_forget(c);
	else if (low < 10)
		fake_advance(what * UINT64_C(4000));
	else if (server == NULL)
		return;
	else if (low < 12)
		link_say(t, server, what);
	else if (low == 12)
		link_kill(t, server);
	else if (low == 13)
		session_lose(link_session(t, server)), link_has_lost = true;
	else
		server->holds = low == 14;
}

static void link_op(struct link_test *t)
{
	uint8_t op = fuzz_take_u8(&t->input);
	struct link_client *c = &t->clients[op & 3];
	struct actor *server = link_server(t, op & 3);
	uint8_t what;

	switch (op >> 4) {
	case 7:
	case 8:
		if (t->is_wild)
			link_speak(t, c->greeted ? c->actor : NULL);
		else
			link_send(c, fuzz_take_u8(&t->input));
		break;
	case 9:
		if (t->is_wild)
			link_speak(t, server);
		else if (server != NULL)
			link_answer(t, server, (op & 12) == 12 ? UINT_MAX : 1u + (op >> 2 & 3));
		break;
	case 10:
		if (server != NULL)
			actor_trickle(server, fuzz_take_u8(&t->input) + 1);
		break;
	case 11:
	case 12:
		world_step(t->world, world_loop(t->world, op % world_loop_count(t->world)));
		break;
	case 13:
		world_run(t->world);
		link_receive_all(t);
		break;
	case 14:
		link_misc(t, op & 15);
		break;
	case 15:
		for (unsigned i = 0; i < LINK_CLIENTS; i++)
			link_send(&t->clients[i], 0);
		link_rest(t);
		break;
	default:
		what = fuzz_take_u8(&t->input);
		link_want(c, what, fuzz_take_u8(&t->input));
		break;
	}
}

/* ---- beginning and end ---- */

static void link_begin(struct link_test *t, uint8_t conf)
{
	static const char *const kept[] = { "200", "1", "2", "3" };
	struct world *world = world_new(1);

	t->world = world;
	t->is_wild = conf & 128;
	t->is_session_mode = (conf & 12) == 12;
	world->is_sluice = !(conf & 64);
	link_is_pgbouncer = !world->is_sluice;
	world_set(world, "pgbouncer", "threads", conf & 1 ? "2" : "1");
	world_set(world, "pgbouncer", "default_pool_size", conf & 2 ? "2" : "1");
	world_set(world, "pgbouncer", "pool_mode", t->is_session_mode ? "session" : "transaction");
	world_set(world, "pgbouncer", "server_reset_query", "DISCARD ALL");
	world_set(world, "pgbouncer", "max_prepared_statements", kept[conf >> 4 & 3]);
	world_set(world, "pgbouncer", "query_wait_timeout", "0");
	world_set(world, "pgbouncer", "client_login_timeout", "0");
	world_start(world);
	link_connect(t, &t->clients[0], 3);
	link_connect(t, &t->clients[1], 3);
	link_rest(t);
	ASSERT(t->clients[0].greeted && t->clients[1].greeted);
}

/* Clients end what they have begun, so that they get out of the link. */
static void link_conclude(struct link_client *c)
{
	enum { COPY_DONE = 12, SYNC = 5, QUERY = 0, ROLLBACK = 4 };

	if (c->actor == NULL)
		return;
	if (c->alone.dead) { /* PostgreSQL would have thrown it out; the pooler may wait for what it says next */
		link_forget(c);
		return;
	}
	if (c->alone.copying)
		link_want(c, COPY_DONE, 0);
	if (c->unsynced || c->alone.skip)
		link_want(c, SYNC, 0);
	if (c->alone.status != 'I')
		link_want(c, QUERY, ROLLBACK);
	link_send(c, 0);
}

/* Clients that keep their server have to leave before others can be served. */
static void link_make_room(struct link_test *t)
{
	for (unsigned i = 0; i < LINK_CLIENTS; i++) {
		struct link_client *c = &t->clients[i];

		if (c->actor != NULL && c->greeted && (c->excused || buf_is_empty(&c->expected)))
			link_forget(c);
	}
}

static void link_calm_down(struct link_test *t)
{
	for (unsigned i = 0; i < t->world->actor_count; i++)
		t->world->actors[i]->holds = false;
	for (unsigned round = 0; round < LINK_CLIENTS + 1; round++) {
		link_rest(t);
		for (unsigned i = 0; i < LINK_CLIENTS; i++)
			link_conclude(&t->clients[i]);
		link_rest(t);
		if (t->is_session_mode)
			link_make_room(t);
		fake_advance(1100000);
	}
	for (unsigned i = 0; i < LINK_CLIENTS; i++) {
		struct link_client *c = &t->clients[i];
		char word[MSGTEXT_MAX];

		if (c->actor == NULL || c->excused)
			continue;
		if (!c->greeted || link_peek(&c->expected, word) > 0)
			link_fail(c, "nothing more", c->greeted ? word : "the greeting");
		if (!t->is_session_mode && world_find_client(t->world, c->actor)->server != NULL)
			link_fail(c, "a server", "freedom");
	}
}

/* What the pooler believes of a server that is at rest, against what that has. */
static void link_check_statements(struct link_test *t, const struct actor *actor)
{
	const struct server *server = world_find_server(t->world, actor);
	const struct session *s = link_session(t, actor);
	const struct prep_entry *entry;
	char name[SESSION_NAME];

	if (server == NULL || server->state != SV_IDLE || t->is_session_mode)
		return;
	TAILQ_FOREACH (entry, &server->prep.recent, recent) {
		const char *text;

		str_format(name, sizeof(name), "PGBOUNCER_%" PRIu64, entry->number);
		text = session_text(s, name);
		ASSERT(text != NULL && strcmp(text, (const char *)entry->stmt->body) == 0);
		ASSERT(!entry->is_pending);
	}
	ASSERT(session_count(s) == server->prep.count && server->prep.record_count == 0);
}

static void link_end(struct link_test *t)
{
	for (unsigned i = 0; !t->is_wild && !link_has_lost && i < t->world->actor_count; i++)
		if (t->world->actors[i]->kind == ACTOR_SERVER && t->world->actors[i]->logged_in)
			link_check_statements(t, t->world->actors[i]);
	for (unsigned i = 0; i < LINK_CLIENTS; i++)
		link_forget(&t->clients[i]);
	link_rest(t);
	fake_advance(20 * 1000000);
	link_rest(t);
	check_end(&t->world);
	for (unsigned i = 0; i < LINK_SERVERS; i++)
		free(t->sessions[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct link_test t;

	memset(&t, 0, sizeof(t));
	link_deaths = 0;
	link_has_lost = false;
	t.input = slice_make(data, size);
	link_begin(&t, fuzz_take_u8(&t.input));
	while (t.input.n > 0)
		link_op(&t);
	link_calm_down(&t);
	link_end(&t);
	fake_stop();
	return 0;
}
