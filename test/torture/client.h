#ifndef TORTURE_CLIENT_H
#define TORTURE_CLIENT_H

/*
 * A client: connects, logs in, plays script after script, judges all that comes, and every now and then leaves at a
 * random byte to come back under another name. Clients of one thread share an epoll descriptor; nothing of a client
 * is touched by another thread.
 */
#include "ledger.h"
#include "options.h"

struct client;

/* Makes the client of a slot; ledger and opt must outlive it. */
struct client *client_new(const struct options *opt, int epoll_fd, unsigned slot, struct ledger *ledger);
void client_free(struct client *c);

/* What epoll reported for the client. */
void client_on_event(struct client *c, unsigned events);

/* What is asked of clients as a whole. */
enum client_phase {
	PHASE_RUN,   /* one operation after the other */
	PHASE_PROVE, /* finish CLIENT_PROOF more of them, to show that everybody is served, and go */
	PHASE_STOP,  /* start none */
};

/* To be called every few milliseconds: timers. */
void client_tick(struct client *c, int64_t now, enum client_phase phase);

/* True when a stopped client has come to its end. */
bool client_is_gone(const struct client *c);

#endif
