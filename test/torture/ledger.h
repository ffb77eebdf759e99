#ifndef TORTURE_LEDGER_H
#define TORTURE_LEDGER_H

/*
 * The ledger of one client: for each write that it ever made, how many rows it adds to the log table and what the
 * client knows about its outcome. At the end ledger_verify() compares all ledgers with the tables.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ledger_state {
	LEDGER_NEVER,   /* cannot have happened: not sent whole, failed, or rolled back */
	LEDGER_UNKNOWN, /* sent, but the answer was lost */
	LEDGER_DONE,    /* acknowledged */
};

struct ledger_entry {
	uint8_t state;   /* enum ledger_state */
	bool counts;     /* each row of it also adds one to the client's counter */
	uint16_t n_rows; /* rows in the log table when it happened */
};

struct ledger {
	struct ledger_entry *entries;
	size_t n, cap;
};

struct direct;

/* Adds an entry in state LEDGER_NEVER and returns its number. */
uint32_t ledger_add(struct ledger *l, unsigned n_rows, bool counts);

/* Creates the tables anew with one counter for each of n_slots clients. Exits on failure. */
void ledger_setup(struct direct *d, unsigned n_slots);

/*
 * Compares the n_slots ledgers with the tables and prints each difference (the first 20). Returns their number; the
 * totals of all states go to totals[3], indexed by enum ledger_state.
 */
unsigned ledger_verify(struct direct *d, const struct ledger *ledgers, unsigned n_slots, uint64_t totals[3]);

#endif
