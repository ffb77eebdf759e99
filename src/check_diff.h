/*
 * `pgsluice --check --diff`: how a configuration differs from another one.
 */
#ifndef PGSLUICE_CHECK_DIFF_H
#define PGSLUICE_CHECK_DIFF_H

#include "core/base.h"
#include "pool/engine.h"

/* Exit statuses: nothing differs, the comparison could not be made, something differs. */
enum check_diff_status {
	CHECK_DIFF_SAME = 0,
	CHECK_DIFF_FAILED = 1,
	CHECK_DIFF_DIFFERS = 2,
};

/* Prints what would change from `old` to `fresh`; an exit status. */
int check_diff_files(const struct snapshot *old, const struct snapshot *fresh);

/*
 * Asks the instance that listens on the Unix socket of `fresh` what a RELOAD
 * would change, and prints that; an exit status. It must have been started with
 * the same file. As root the process becomes `user`, or if that is NULL or empty
 * the owner of the socket: only the instance's own user is let in without a
 * password.
 */
int check_diff_running(const struct snapshot *fresh, const char *user);

#endif
