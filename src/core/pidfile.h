/*
 * The file that holds the process id while the process runs. It guards
 * against a second instance and tells scripts whom to signal.
 */
#ifndef PGSLUICE_CORE_PIDFILE_H
#define PGSLUICE_CORE_PIDFILE_H

#include "core/base.h"

struct pidfile;

/*
 * Looks whether the file allows a start: 0 when there is none, or when it was
 * left behind by a process that is gone (then it is removed and *stale is
 * set). -E_EXISTS: another instance seems to run, or the content is no process
 * id. -E_SYS with errno: the file cannot be read or removed.
 */
int pidfile_check(const char *path, bool *stale) MUSTCHECK;

/*
 * Creates the file with the id of this process, and locks it. 0, -E_EXISTS when it
 * has appeared in the meantime, -E_SYS with errno. *out is the caller's.
 */
int pidfile_create(const char *path, struct pidfile **out) MUSTCHECK;

/* Removes the file unless another process has put its own in its place; frees and nulls. NULL inside is fine. */
void pidfile_remove(struct pidfile **pidfile);

#endif
