/*
 * Prepared statements of sessions that pass from one process to another: what
 * clients call how, and what servers have, with the texts. Beside the rows of
 * SHOW HANDOVER, in files in memory, as texts may be of any length.
 */
#ifndef PGSLUICE_POOL_HANDOVER_STMT_H
#define PGSLUICE_POOL_HANDOVER_STMT_H

#include "pool/client.h"
#include "pool/server.h"

/* The value of the column `task` in the row of a file. */
#define HANDOVER_STMT_TASK "statements"

/*
 * A file with the statements of all suspended sessions of the worker: its
 * descriptor, which is the caller's, or -1 when it cannot be made. Own thread.
 */
int handover_stmt_save(struct worker *worker) MUSTCHECK;

/* What was read from files. */
struct handover_stmts;

/*
 * Reads the files. What is damaged is left out, and so are texts that the limit
 * of memory does not allow. No number that was in use is given out again.
 * Control thread.
 */
struct handover_stmts *handover_stmt_load(const int *fds, size_t count) MUSTCHECK;

/*
 * Gives a client its names, or a server its statements: false unless they are as
 * many as `count` says. Whose they are is told by the number of its descriptor
 * in the other process. Control thread.
 */
bool handover_stmt_give_client(const struct handover_stmts *stmts, int64_t old_fd, struct prep_client *pc,
			       uint64_t count) MUSTCHECK;
bool handover_stmt_give_server(const struct handover_stmts *stmts, int64_t old_fd, struct server *server,
			       uint64_t count) MUSTCHECK;

/* How many records there are of a server: what it was sent and has not answered. Control thread. */
uint32_t handover_stmt_count_records(const struct handover_stmts *stmts, int64_t old_fd);

/*
 * Gives a server its records, once it has its statements; `pc` has all names of
 * its client already. Control thread.
 */
void handover_stmt_give_records(const struct handover_stmts *stmts, int64_t old_fd, struct server *server,
				const struct prep_client *pc);

/* Gives back what nobody has taken. Nulls the pointer. */
void handover_stmt_free(struct handover_stmts **stmts);

#endif
