/*
 * The periodic work of a worker: timeouts of clients and servers, lifetimes,
 * minimum pool sizes, waiting servers.
 */
#ifndef PGSLUICE_POOL_JANITOR_H
#define PGSLUICE_POOL_JANITOR_H

#include "pool/engine.h"

/* How often the tick runs. */
#define JANITOR_PERIOD_US 100000

/* The tick of a worker's loop; arg is the struct worker. */
void janitor_tick(struct loop *loop, void *arg);

/* Closes what PAUSE forbids: idle servers of paused pools. Own thread. */
void janitor_apply_pause(struct worker *worker);

#endif
