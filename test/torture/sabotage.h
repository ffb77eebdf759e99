#ifndef TORTURE_SABOTAGE_H
#define TORTURE_SABOTAGE_H

/*
 * Makes the relay do what a broken pooler might do, to prove that the generator notices. Works on the bytes from the
 * server, message by message, except for the last four kinds, which work on those to the server.
 */
#include "bytes.h"
#include "rng.h"

enum sabotage_kind {
	SABOTAGE_OFF,
	SABOTAGE_CROSS,  /* a row is replaced by one of another connection */
	SABOTAGE_DOUBLE, /* a row comes twice */
	SABOTAGE_DROP,   /* a row is missing */
	SABOTAGE_SWAP,   /* two rows that follow each other change places */
	SABOTAGE_STATUS, /* ReadyForQuery says T instead of I */
	SABOTAGE_BYTE,   /* one byte of a row is changed */
	SABOTAGE_MUTE,   /* a ReadyForQuery is missing */
	SABOTAGE_CANCEL, /* a cancel request hits a server for which nobody asked (done by the relay) */
	SABOTAGE_TOLD,   /* a RowDescription names a column of a table that changes wrongly */
	SABOTAGE_CODE,   /* an error has another SQLSTATE */
	SABOTAGE_WRITE,  /* a counter is increased by two */
	SABOTAGE_MIX,    /* a statement is parsed with the text of another one */
	SABOTAGE_PARAM,  /* a session parameter gets another value */
	SABOTAGE_LEAK,   /* a parameter that is set for a transaction stays */
	N_SABOTAGES
};

/* What the sabotage of one connection remembers. */
struct sabotage {
	struct bytes part; /* the message that is being gathered */
	struct bytes held; /* SABOTAGE_SWAP: a row held back */
	uint64_t through;  /* bytes of a long message still to be passed on unseen */
	bool raw_first;    /* the next byte is the answer to an SSLRequest */
	uint8_t key[12];   /* body of BackendKeyData */
	bool has_key;
};

/* The kind of a name such as "cross"; -1 when there is none. */
int sabotage_parse(const char *name);

/* Takes n bytes from the server and appends to out what goes to the pooler. one_in says how rare sabotage is. */
void sabotage_from_server(struct sabotage *s, enum sabotage_kind kind, unsigned one_in, struct rng *rng,
			  const uint8_t *data, size_t n, struct bytes *out);

/* Changes bytes on their way to the server in place. */
void sabotage_to_server(enum sabotage_kind kind, unsigned one_in, struct rng *rng, uint8_t *data, size_t n);

/* How many times something was spoilt. */
unsigned sabotage_count(void);
/* Counts one that the caller did itself. */
void sabotage_note(void);

void sabotage_free(struct sabotage *s);

#endif
