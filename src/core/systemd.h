/*
 * What systemd and a service say to each other: the service tells its state,
 * systemd may hand over sockets that listen already. Without systemd none of
 * this does anything. No library is needed: both are a few environment
 * variables and a datagram.
 */
#ifndef PGSLUICE_CORE_SYSTEMD_H
#define PGSLUICE_CORE_SYSTEMD_H

#include "core/base.h"

/* Sends a state, lines of NAME=VALUE, when there is somebody to hear it. Never blocks, cannot fail. Any thread. */
void systemd_notify(const char *fmt, ...) PRINTF_LIKE(1, 2);

/*
 * The listening sockets that were handed to this very process: writes at most
 * max descriptors, made close-on-exec, and returns how many. At the start,
 * before any thread.
 */
size_t systemd_listen_fds(int *fds, size_t max);

#endif
