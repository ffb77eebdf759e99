/*
 * A world for one test: the real engine without its threads, its loops stepped
 * by hand in any order, clients on socket pairs, and PostgreSQL played on
 * listening Unix sockets of the same process. Time is fake.h's.
 */
#ifndef PGSLUICE_TEST_WORLD_H
#define PGSLUICE_TEST_WORLD_H

#include "actor.h"
#include "pool/client.h"
#include "pool/engine.h"
#include "pool/server.h"

/* Listening sockets of the played PostgreSQL; "port=1" and so on in a connect string. */
#define WORLD_BACKENDS    2
#define WORLD_ACTORS_MAX  256
#define WORLD_OPTIONS_MAX 64

/* A line of the configuration. */
struct world_option {
	char section[16];
	char name[48];
	char value[256];
};

struct world {
	struct engine *engine; /* NULL before the start */
	struct admin *admin;   /* the console; its owner is "user=pgbouncer db=pgbouncer" */
	struct actor *actors[WORLD_ACTORS_MAX];
	unsigned actor_count;
	struct world_option options[WORLD_OPTIONS_MAX];
	unsigned option_count;
	bool is_sluice; /* the settings stand under [pgsluice] */
	int listeners[WORLD_BACKENDS];
	bool auto_login;  /* servers answer startup packets by themselves */
	bool auto_answer; /* and queries */
	bool is_loose;    /* invariants are not checked at each step */
	unsigned server_count;
	unsigned target_count;
	unsigned client_count;
};

/* An empty world with one database "db", users u and v, two workers, no login thread and no log. */
struct world *world_new(uint64_t seed) MUSTCHECK;
void world_free(struct world **world);

/* Frees the actors that nothing can happen to any more. */
void world_sweep(struct world *world);

/* Sets a line of the configuration; value NULL removes it. A database without port gets port=1. */
void world_set(struct world *world, const char *section, const char *name, const char *value);

/* Builds the engine; ends the process when the configuration is no good. */
void world_start(struct world *world);

/* Loads the configuration anew and hands it to the engine; false when it is no good. */
bool world_reload(struct world *world);

/* ---- the outside ---- */

/*
 * A client connects and sends a startup packet with these parameters ("name=value", user and database have
 * defaults) unless `params` is NULL. "sndbuf=N" is the size of the pooler's socket buffer.
 */
struct actor *world_connect(struct world *world, const char *name, const char *const *params, size_t count);

/* Sends the startup packet of a client that has connected only. */
void world_send_startup(struct actor *actor, const char *const *params, size_t count);

/* Somebody connects and asks for the cancel of what the client does. */
struct actor *world_cancel(struct world *world, const char *name, const struct actor *client);

/* Opens or closes a listening socket of the played PostgreSQL, 1 to WORLD_BACKENDS. */
void world_listen(struct world *world, unsigned backend, bool on);

struct actor *world_actor(struct world *world, const char *name);

/* Reads a client's greeting, all of which must be there, and keeps its cancel key. */
bool world_read_greeting(struct actor *client);

/* ---- the inside ---- */

/* One turn of one loop. */
void world_step(struct world *world, struct loop *loop);

/* Turns of all loops and of the played PostgreSQL until nothing moves any more. */
void world_run(struct world *world);

/* All loops: the workers, the login loops, the control loop. */
unsigned world_loop_count(const struct world *world);
struct loop *world_loop(const struct world *world, unsigned i);

/* What the pooler has for an actor; NULL: nothing (any more), or it is on its way between loops. */
struct client *world_find_client(const struct world *world, const struct actor *actor);
struct server *world_find_server(const struct world *world, const struct actor *actor);

/* The pool "db/user", or NULL. */
struct pool *world_pool(const struct world *world, const char *name);

#endif
