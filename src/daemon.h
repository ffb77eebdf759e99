/*
 * What a daemon does to itself before it begins to work: another user, the
 * background, more descriptors.
 */
#ifndef PGSLUICE_DAEMON_H
#define PGSLUICE_DAEMON_H

#include "conf/conf.h"
#include "core/base.h"

/* Becomes that system user with its groups; nothing happens when we are that user already. Fatal when it fails. */
void daemon_change_user(const char *name);

/* Fatal when we are root. */
void daemon_refuse_root(void);

/* Goes to the background: the caller returns as another process, the first one exits with status 0. */
void daemon_detach(void);

/* Logs the limit of descriptors next to what the configuration may need, and raises it as far as it goes. */
void daemon_raise_fd_limit(const struct conf *conf, size_t user_count);

#endif
