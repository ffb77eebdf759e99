/*
 * Whether load balancers shall send clients here: SHOW READINESS and the answer
 * of http.c.
 */
#ifndef PGSLUICE_ADMIN_READY_H
#define PGSLUICE_ADMIN_READY_H

#include "pool/engine.h"

/* Why the pooler is not ready, in a word or two; NULL: it is. Control thread. */
const char *ready_reason(struct engine *engine);

/* The same for a database; false when there is none of that name. Control thread. */
bool ready_find_db(struct engine *engine, const char *name, const char **reason);

#endif
