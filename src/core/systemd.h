/*
 * What systemd and a service say to each other: the service tells its state and
 * that it is alive, systemd may hand over sockets that listen already. Without
 * systemd none of this does anything. No library is needed: it is a few
 * environment variables and datagrams.
 */
#ifndef PGSLUICE_CORE_SYSTEMD_H
#define PGSLUICE_CORE_SYSTEMD_H

#include "core/base.h"

/*
 * Reads what the service manager tells in the environment. Once, first thing in
 * main(), before a descriptor is opened; until then the functions below find
 * nobody there.
 */
void systemd_init(void);

/*
 * Sends a state, lines of NAME=VALUE, when there is somebody to hear it; waits
 * for a second at most when the service manager does not read. Cannot fail. Any
 * thread.
 */
void systemd_notify(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* How often, in microseconds, WATCHDOG=1 must be sent at the latest; 0: nobody waits for it. Any thread. */
uint64_t systemd_watchdog_us(void);

/* True when our listening sockets come from the service manager, who keeps them when we end. Any thread. */
bool systemd_has_sockets(void);

/* Those sockets: writes at most max descriptors, close-on-exec, and returns how many. Any thread. */
size_t systemd_listen_fds(int *fds, size_t max);

#endif
