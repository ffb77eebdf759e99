#ifndef TORTURE_CANCEL_H
#define TORTURE_CANCEL_H

/*
 * A connection that carries a CancelRequest. It is polled, not watched: cancel_step() is called every few
 * milliseconds until it returns something else than CANCEL_BUSY.
 */
#include "options.h"
#include "rng.h"

enum cancel_result {
	CANCEL_BUSY, /* under way */
	CANCEL_DONE, /* the other side closed: whatever it did is done */
	CANCEL_CUT,  /* lost, or abandoned by us: it may still take effect at any time */
	CANCEL_BAD,  /* bytes came, which must never happen */
};

struct cancel {
	int fd;        /* -1: none under way */
	unsigned port; /* its own, 0: not known */
	int64_t started_us;
	uint8_t packet[16];
	size_t sent;   /* bytes of it */
	bool split;    /* send it byte by byte */
	bool abandon;  /* close right after sending */
	bool unharmed; /* nothing was injected: it must come to an end in time */
};

/* Starts a request with a key of 8 bytes. Returns false when no connection could be started. */
bool cancel_start(struct cancel *c, const struct options *opt, const uint8_t key[8], struct rng *rng);

/* Goes on with it; after any result but CANCEL_BUSY the descriptor is closed. */
enum cancel_result cancel_step(struct cancel *c);

void cancel_close(struct cancel *c);

#endif
