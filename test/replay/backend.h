/*
 * The played PostgreSQL: accepts the pooler's connections, logs them in, and
 * answers queries by itself when it is told to. What it answers to:
 *
 *   begin, commit, rollback   the transaction's state
 *   SET a='b';...             a ParameterStatus for each
 *   fail...                   an error
 *   copyin, copyout           COPY; copybad fails at the first data
 *   anything else             one row with the text of the query; big... another, long one before it
 */
#ifndef PGSLUICE_TEST_BACKEND_H
#define PGSLUICE_TEST_BACKEND_H

#include "world.h"

/* Accepts and names what the pooler has opened; logs it in when world->auto_login. True when anything moved. */
bool backend_accept(struct world *world);

/* Answers a startup packet that has been read. */
void backend_login(struct actor *server);

/* Answers the next message of the pooler, if a whole one is there; false when not. */
bool backend_answer(struct actor *server);

#endif
