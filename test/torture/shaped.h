#ifndef TORTURE_SHAPED_H
#define TORTURE_SHAPED_H

/*
 * Statements on tables whose columns change while they are used (ddl.h), and the one rule for their rows: they are as
 * the last description says that this client was given for the statement. A client that was told of a column "k3" of
 * type int4 must find the number 3 there, in each row, or be told that it cannot have it. The value of each column
 * follows from its name and type, so that nothing needs to be known of what the table looks like at the moment.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define N_SHAPED        4 /* statements of one client: the named ones, */
#define SHAPED_UNNAMED  3 /* and this one, for the unnamed statement and simple queries */
#define SHAPED_MAX_COLS 12
#define SHAPED_FIXED    2 /* columns in front that are the client's own: who and seq */

struct shaped_col {
	char name[8];
	uint32_t oid;
};

struct shaped {
	bool prepared;  /* it is, at the end of the script being written */
	bool unsure;    /* or perhaps not: something of it was answered by an error */
	bool told;      /* cols is the last description that came */
	unsigned table; /* which it reads from */
	struct shaped_col cols[SHAPED_MAX_COLS];
	int n_cols;
};

#define SHAPED_WHY_BYTES 256

/*
 * Take the description, a row, and the number in the tag behind the last of n_rows rows. Each returns false, with
 * why[SHAPED_WHY_BYTES], when it is wrong. A row begins with the bytes of `own`, its two first columns.
 */
bool shaped_take_description(struct shaped *sh, const uint8_t *body, size_t len, char *why);
bool shaped_check_row(const struct shaped *sh, bool binary, const uint8_t *own, size_t own_len, const uint8_t *body,
		      size_t len, char *why);
bool shaped_check_end(size_t n_rows, const uint8_t *body, size_t len, char *why);

/* Something of the statement was answered by an error. */
void shaped_refuse(struct shaped *sh);

#endif
