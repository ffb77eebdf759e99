/*
 * What must be true of the engine between any two turns of its loops, and what
 * must be true when everybody has gone.
 */
#ifndef PGSLUICE_TEST_CHECK_H
#define PGSLUICE_TEST_CHECK_H

#include "world.h"

/* Ends the process with a message when an invariant does not hold. */
void check_invariants(const struct world *world);

/*
 * The same for a world at rest, in which every client in a queue has waited
 * for longer than the slack: nobody waits while there is a server for it, or
 * room for one more.
 */
void check_nobody_waits_in_vain(const struct world *world);

/* The same for what may not be left once no client is connected and nothing is under way: counts, slots, queues. */
void check_no_clients(const struct world *world);

/* No client is connected and nothing is under way: the servers end, and the world; nothing may be left over. */
void check_end(struct world **worldp);

/* Calls run(arg) in a process of its own: true when that ends with 0. */
bool check_in_child(int (*run)(const void *arg), const void *arg);

#endif
