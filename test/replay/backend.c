#include "backend.h"

#include <sys/socket.h>

#include "core/alloc.h"
#include "proto/frame.h"

#define BACKEND_FIRST_PID 1001

/* Names a connection after its first packet. */
static void backend_name(struct world *world, struct actor *actor, const char *word)
{
	if (strncmp(word, "cancel:", 7) == 0) {
		actor->kind = ACTOR_TARGET;
		actor->cancel_pid = (unsigned)atoi(word + 7);
		str_format(actor->name, sizeof(actor->name), "X%u", ++world->target_count);
		return;
	}
	actor->kind = ACTOR_SERVER;
	str_copy(actor->database, sizeof(actor->database), strchr(word, '/') + 1);
	actor->replicates = strchr(actor->database, '+') != NULL;
	actor->database[strcspn(actor->database, "+")] = '\0';
	actor->pid = BACKEND_FIRST_PID + world->server_count;
	str_format(actor->name, sizeof(actor->name), "S%u", ++world->server_count);
}

void backend_login(struct actor *server)
{
	static const char *const words[] = {
		"R:0",
		"S:server_version=15.0",
		"S:client_encoding=UTF8",
		"S:DateStyle=ISO, MDY",
		"S:TimeZone=UTC",
		"S:standard_conforming_strings=on",
		"S:application_name=",
		"S:IntervalStyle=postgres",
	};
	char key[32];
	bool ok = true;

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		ok &= actor_say(server, words[i]);
	str_format(key, sizeof(key), "K:%u", server->pid);
	ok &= actor_say(server, key) && actor_say(server, "Z:I");
	ASSERT(ok);
	server->logged_in = true;
}

static bool backend_accept_from(struct world *world, unsigned backend)
{
	int fd = accept(world->listeners[backend], NULL, NULL);
	struct actor *actor;

	if (fd < 0)
		return false;
	ASSERT(world->actor_count < WORLD_ACTORS_MAX);
	actor = actor_new(ACTOR_NEW, "new", fd);
	actor->backend = backend + 1;
	world->actors[world->actor_count++] = actor;
	return true;
}

bool backend_accept(struct world *world)
{
	char word[MSGTEXT_MAX];
	bool moved = false;

	for (unsigned i = 0; i < WORLD_BACKENDS; i++)
		while (world->listeners[i] >= 0 && backend_accept_from(world, i))
			moved = true;
	for (unsigned i = 0; i < world->actor_count; i++) {
		struct actor *actor = world->actors[i];

		if (actor->kind == ACTOR_NEW && actor->fd >= 0) {
			actor_read(actor, SIZE_MAX);
			if (actor_peek(actor, word) > 0) {
				backend_name(world, actor, word);
				moved = true;
			}
		}
		if (world->auto_login && actor->kind == ACTOR_SERVER && !actor->logged_in && actor->fd >= 0 &&
		    !actor->has_first && actor_next(actor, word)) {
			backend_login(actor);
			moved = true;
		}
	}
	return moved;
}

/* ---- queries ---- */

static void backend_say(struct actor *server, const char *fmt, const char *arg)
{
	char word[MSGTEXT_MAX + 16];
	bool ok;

	str_format(word, sizeof(word), "%s%s", fmt, arg);
	ok = actor_say(server, word);
	ASSERT(ok);
}

static void backend_ready(struct actor *server)
{
	const char status[2] = { server->status, '\0' };

	backend_say(server, "Z:", status);
}

static void backend_fail(struct actor *server, const char *text)
{
	backend_say(server, "E:22000:", text);
	if (server->status == 'T')
		server->status = 'E';
}

/* SET a='b';SET c='d'; as the pooler writes it. */
static void backend_set(struct actor *server, const char *sql)
{
	char word[MSGTEXT_MAX];

	while (strncmp(sql, "SET ", 4) == 0) {
		const char *eq = strchr(sql, '=');
		const char *end = eq == NULL ? NULL : strstr(eq, "';");

		if (end == NULL)
			break;
		str_format(word, sizeof(word), "S:%.*s=%.*s", (int)(eq - sql - 4), sql + 4, (int)(end - eq - 2),
			   eq + 2);
		backend_say(server, word, "");
		backend_say(server, "C:SET", "");
		sql = end + 2;
	}
}

/* One statement; false when COPY data must come first. */
static bool backend_execute(struct actor *server, const char *sql)
{
	if (strncmp(sql, "fail", 4) == 0) {
		backend_fail(server, sql);
	} else if (server->status == 'E' && strncasecmp(sql, "rollback", 8) != 0 && strncmp(sql, "commit", 6) != 0) {
		backend_fail(server, "current transaction is aborted");
	} else if (strncmp(sql, "begin", 5) == 0) {
		server->status = 'T';
		backend_say(server, "C:BEGIN", "");
	} else if (strncmp(sql, "commit", 6) == 0 || strncasecmp(sql, "rollback", 8) == 0) {
		server->status = 'I';
		backend_say(server, "C:COMMIT", "");
	} else if (strncmp(sql, "copyin", 6) == 0 || strncmp(sql, "copybad", 7) == 0) {
		backend_say(server, "G", "");
		server->copying = true;
		server->copy_fails = sql[4] == 'b';
		return false;
	} else if (strncmp(sql, "stream", 6) == 0 && server->replicates) {
		backend_say(server, "W", "");
		server->copying = server->copy_both = true;
		return false;
	} else if (strncmp(sql, "copyout", 7) == 0) {
		backend_say(server, "H", "");
		backend_say(server, "d:", sql);
		backend_say(server, "c", "");
		backend_say(server, "C:COPY", "");
	} else {
		if (strncmp(sql, "big", 3) == 0)
			backend_say(server, "D*150000", "");
		backend_say(server, "D:", sql);
		backend_say(server, "C:SELECT", "");
	}
	return true;
}

static void backend_query(struct actor *server, const char *sql)
{
	if (sql[0] == '\0') {
		backend_say(server, "I", "");
	} else if (strncmp(sql, "SET ", 4) == 0) {
		backend_set(server, sql);
	} else if (strncmp(sql, "DISCARD", 7) == 0) {
		backend_say(server, "C:DISCARD", "");
	} else if (!backend_execute(server, sql)) {
		server->copy_simple = true;
		return;
	}
	backend_ready(server);
}

/* A message of the extended protocol. */
static void backend_extended(struct actor *server, const char *word)
{
	if (word[0] == 'S') {
		server->skipping = false;
		backend_ready(server);
		return;
	}
	if (server->skipping)
		return;
	switch (word[0]) {
	case 'P':
		str_copy(server->statement, sizeof(server->statement), word + strcspn(word, ":") + 1);
		backend_say(server, "1", "");
		break;
	case 'B':
		backend_say(server, "2", "");
		break;
	case 'D':
		backend_say(server, "n", "");
		break;
	case 'C':
		backend_say(server, "3", "");
		break;
	case 'E':
		server->copy_simple = false;
		server->skipping = strncmp(server->statement, "fail", 4) == 0 || server->status == 'E';
		backend_execute(server, server->statement);
		break;
	default:
		break;
	}
}

static void backend_copy(struct actor *server, const char *word)
{
	if (server->copy_both && word[0] == 'd') {
		backend_say(server, word, "");
		return;
	}
	if (server->copy_both && word[0] == 'c')
		backend_say(server, "c", "");
	if (word[0] == 'c') {
		backend_say(server, "C:COPY", "");
	} else if (word[0] == 'f' || (word[0] == 'd' && server->copy_fails)) {
		backend_fail(server, "COPY failed");
		server->skipping = !server->copy_simple;
	} else {
		return; /* data; Sync and Flush are ignored */
	}
	server->copying = server->copy_both = false;
	if (server->copy_simple)
		backend_ready(server);
}

bool backend_answer(struct actor *server)
{
	char word[MSGTEXT_MAX];

	if (server->kind != ACTOR_SERVER || server->fd < 0 || !server->logged_in || !actor_next(server, word)) {
		if (server->eof)
			actor_close(server);
		return false;
	}
	if (word[0] == 'X')
		actor_close(server);
	else if (server->copying)
		backend_copy(server, word);
	else if (word[0] == 'Q' && !server->skipping)
		backend_query(server, word + 2);
	else if (word[0] == 'F' && !server->skipping)
		backend_say(server, "V", ""), backend_ready(server);
	else if (strchr("cdf", word[0]) == NULL)
		backend_extended(server, word);
	return true;
}
