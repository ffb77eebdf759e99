/*
 * A reload reaches databases, users, pools and the workers' parts of them.
 */
#ifndef PGSLUICE_POOL_REFRESH_H
#define PGSLUICE_POOL_REFRESH_H

#include "pool/pool.h"

/*
 * Makes the settings of a snapshot (taken over) those of everything that is
 * registered. Workers take them up in their next turns. Control thread.
 */
void refresh_run(struct engine *engine, struct snapshot *snap);

/* True while the worker has not yet taken up all of the last reload. Own thread. */
bool refresh_is_running(const struct worker *worker);

/* A client or a part is about to leave its list. Own thread. */
void refresh_skip_client(struct worker *worker, const struct client *client);
void refresh_skip_part(struct worker *worker, const struct pool_part *part);

#endif
