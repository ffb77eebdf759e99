/*
 * Signs of life for the service manager: WATCHDOG=1 goes out twice in the time
 * that it allows, but only when every loop of the process has answered. So a
 * hung worker ends in a restart, not in a process that looks well.
 */
#ifndef PGSLUICE_WATCHDOG_H
#define PGSLUICE_WATCHDOG_H

#include "pool/engine.h"

struct watchdog;

/* Begins with the control loop; NULL when nobody waits for signs of life. Control thread, like all functions here. */
struct watchdog *watchdog_new(struct engine *engine) MUSTCHECK;

/* No more beats; the control loop has stopped, the engine is still there. NULL is fine. */
void watchdog_stop(struct watchdog *watchdog);

/* After the engine has ended, as answers may be on their way until then. Nulls the pointer; NULL inside is fine. */
void watchdog_free(struct watchdog **watchdog);

#endif
