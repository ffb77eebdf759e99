/*
 * Actors: the far ends of the pooler's sockets, driven by the test. One is a
 * client, somebody who sends a cancel request, or PostgreSQL's end of a
 * connection that the pooler has made.
 */
#ifndef PGSLUICE_TEST_ACTOR_H
#define PGSLUICE_TEST_ACTOR_H

#include "core/base.h"
#include "core/buf.h"
#include "msgtext.h"

enum actor_kind {
	ACTOR_CLIENT,
	ACTOR_CANCELER, /* a client that shows a cancel key and nothing else */
	ACTOR_NEW,      /* accepted from the pooler; its first packet has not come */
	ACTOR_SERVER,   /* ... which was a startup packet */
	ACTOR_TARGET,   /* ... which was a cancel request */
};

struct actor {
	enum actor_kind kind;
	char name[16];
	int fd;         /* -1: this side has closed */
	bool eof;       /* the pooler has closed */
	bool has_first; /* the first packet was read */
	struct buf in;  /* read, not yet looked at */
	struct buf out; /* sent as soon as the socket takes it */
	bool holds;     /* ... but only by actor_trickle() */

	/* clients */
	int pooler_fd; /* descriptor of the other end */
	bool has_key;
	uint8_t key[8];

	/* servers */
	unsigned backend; /* which listening socket it came to */
	unsigned pid;
	unsigned cancel_pid; /* of a cancel request: whom it is for */
	char database[32];   /* asked for in the startup packet */
	unsigned marks;      /* storm: a bit for each console that has asked for its end */
	bool is_old;         /* storm: it was there before a RECONNECT */
	bool replicates;     /* so it was asked for in the startup packet */
	bool logged_in;
	bool is_fixed;    /* answers only what the script says, even when others answer by themselves */
	char status;      /* of the transaction, as ReadyForQuery tells it */
	bool skipping;    /* an extended message failed: nothing is answered up to the Sync */
	bool copying;     /* reads COPY data */
	bool copy_simple; /* ... for a simple query */
	bool copy_fails;  /* ... and will not like it */
	bool copy_both;   /* ... and sends each message of it back */
	char statement[MSGTEXT_MAX];
};

/* Takes the descriptor over; it is made non-blocking. */
struct actor *actor_new(enum actor_kind kind, const char *name, int fd) MUSTCHECK;
void actor_free(struct actor **actor);

/* Closes this side. Unread bytes make it a reset, as with any Unix socket. */
void actor_close(struct actor *actor);

/* True for the side that speaks as PostgreSQL. */
static inline bool actor_is_server(const struct actor *actor)
{
	return actor->kind >= ACTOR_NEW;
}

/* Sends, or keeps what the socket does not take; dropped when the pooler has closed. */
void actor_send(struct actor *actor, const void *p, size_t n);

/* Sends the message of a word; false when the word is none. */
bool actor_say(struct actor *actor, const char *word);

/* Sends what was kept, unless the actor holds it; true when that got anywhere. */
bool actor_flush(struct actor *actor);

/* Sends at most `max` bytes of what was kept. */
bool actor_trickle(struct actor *actor, size_t max);

/* Reads at most `max` bytes of what is there; returns how many. */
size_t actor_read(struct actor *actor, size_t max);

/* The next whole message as a word, taken off; false when there is none. Reads first. */
bool actor_next(struct actor *actor, char word[MSGTEXT_MAX]);

/* The same, but it stays; returns its size, 0 when there is none. */
size_t actor_peek(struct actor *actor, char word[MSGTEXT_MAX]);

#endif
