/*
 * Self-checks of debug builds (--enable-debug), while they run.
 */
#ifndef PGSLUICE_POOL_AUDIT_H
#define PGSLUICE_POOL_AUDIT_H

#include "pool/pool.h"

/*
 * Holds the counts of a pool, and what this worker's part of it has, against
 * the lists; ends the process where they differ. Nothing in builds without
 * debug. Own thread, between two callbacks.
 */
void audit_part(struct pool_part *part);

#endif
