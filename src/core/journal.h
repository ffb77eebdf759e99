/*
 * The journal of systemd, spoken to in its own protocol: one datagram a line,
 * so that each keeps its priority and needs no time of its own.
 */
#ifndef PGSLUICE_CORE_JOURNAL_H
#define PGSLUICE_CORE_JOURNAL_H

#include "core/base.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* True when stderr is a stream into the journal: JOURNAL_STREAM names its device and inode. */
bool journal_is_stderr(void);

/*
 * Writes the datagram for one message: PRIORITY (as for syslog),
 * SYSLOG_IDENTIFIER and MESSAGE. Returns its length, or 0 when it does not fit.
 */
size_t journal_encode(char *dst, size_t size, int priority, const char *ident, const char *text, size_t n);

/* Opens the socket through which journal_send() speaks: 0 or -E_SYS. Control thread only; again is no harm. */
int journal_open(void) MUSTCHECK;

/* Sends a message to the socket at `path`: 0 or -E_SYS, -E_NOSPACE. Any thread after journal_open(). */
int journal_send(const char *path, int priority, const char *text, size_t n) MUSTCHECK;

#endif
