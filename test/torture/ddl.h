#ifndef TORTURE_DDL_H
#define TORTURE_DDL_H

/*
 * Tables and a view that get and lose columns all the time. Each column "k<digit>" holds the same value in every row,
 * which follows from its name and type (shaped.c). Clients change them through the pooler (shape_ddl.c); a thread with
 * a connection of its own does it behind the pooler's back.
 */
#include "bytes.h"
#include "options.h"
#include "rng.h"

#define DDL_TABLES 4 /* the last one is a view */
#define DDL_ROWS   3

struct direct;

/* Makes the tables. Exits on failure. */
void ddl_setup(struct direct *d);

/* Name of a table. */
const char *ddl_table(unsigned table);

/* Writes one or more statements that change some table, separated by semicolons. They may fail with DDL_SQLSTATES. */
void ddl_draw(struct rng *rng, struct bytes *sql);
extern const char ddl_sqlstates[];

/* What is to be sent in front of them in the same query, so that they wait for nobody for long. */
#define DDL_PREFIX "SET LOCAL lock_timeout = '100ms'; SET LOCAL client_min_messages = error; "

struct ddl;

/* Starts the thread, and ends it. */
struct ddl *ddl_start(const struct options *opt);
void ddl_stop(struct ddl *ddl);

#endif
