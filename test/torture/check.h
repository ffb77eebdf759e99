#ifndef TORTURE_CHECK_H
#define TORTURE_CHECK_H

/*
 * Compares messages from the server with the expectations of a script, one after the other. This is the judge: it
 * forgives nothing but what the callers of it explicitly forgive.
 */
#include "script.h"

/* How far the answers to a script have come. */
struct check {
	size_t next;     /* index of the next expectation */
	size_t streamed; /* bytes of it that came already, for X_STREAM, or rows, for X_SHAPED */
};

#define CHECK_WHY_BYTES 256

/*
 * Takes one whole message. sent is how many bytes of script->out the kernel took so far. Returns true when the
 * message is right; else why[CHECK_WHY_BYTES] says what is wrong with it.
 */
bool check_message(struct check *k, const struct script *s, size_t sent, char type, const uint8_t *body, size_t len,
		   char *why);

/*
 * Judges the beginning of a message that ended too early because the connection broke: its total length is len, but
 * only have bytes of the body came. Returns true when these bytes are the beginning of what had to come.
 */
bool check_fragment(const struct check *k, const struct script *s, char type, const uint8_t *body, size_t have,
		    size_t len, char *why);

/* Writes what expectation number index wants, in words, to text. */
void check_describe(const struct script *s, size_t index, char *text, size_t size);

#endif
