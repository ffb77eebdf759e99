/*
 * Shapes of results: the names and types of their columns, as a number. What a
 * client was told of a statement once must be what it gets of it later, from
 * whatever server.
 */
#ifndef PGSLUICE_POOL_SHAPE_H
#define PGSLUICE_POOL_SHAPE_H

#include "core/base.h"
#include "core/str.h"

/* Not known. */
#define SHAPE_UNKNOWN 0
/* Of a statement that returns no rows. */
#define SHAPE_NO_ROWS 1

/*
 * The shape that the body of a RowDescription tells; SHAPE_UNKNOWN when it is
 * malformed. Formats do not count, and neither do the tables that columns come
 * from: PostgreSQL compares the same ("cached plan must not change result
 * type"). Any thread.
 */
uint32_t shape_of(struct slice body);

#endif
