#ifndef TORTURE_DIRECT_H
#define TORTURE_DIRECT_H

/*
 * A blocking session to PostgreSQL itself, past the pooler: sets up the tables and tells the truth at the end. Every
 * failure here ends the program with status 3, for there is nothing to test then.
 */
#include <stdbool.h>
#include <stdint.h>

struct direct;

/* Called per row with n text columns; NULL stands for an SQL null. The texts live until the callback returns. */
typedef void (*direct_row_fn)(void *arg, int n, char *const *cols);

/* Opens a session; host may be a directory with a Unix socket or an IPv4 address. */
struct direct *direct_open(const char *host, int port, const char *user, const char *dbname);
void direct_close(struct direct *d);

/* Runs SQL and hands the rows of all its results to row_fn (NULL: not wanted). */
void direct_query(struct direct *d, const char *sql, direct_row_fn row_fn, void *arg);

/* Runs SQL that may fail. Returns false when it did. */
bool direct_try(struct direct *d, const char *sql);

/* The first column of the first row as a number. */
int64_t direct_number(struct direct *d, const char *sql);

/*
 * Makes a socket and starts connecting it to host and port (both forms of host as above). Returns the descriptor, or
 * -errno. With nonblock the connection may still be under way.
 */
int direct_dial(const char *host, int port, int nonblock);

/* The port of this end of a TCP connection; 0 for others. */
unsigned direct_local_port(int fd);

#endif
