/*
 * The rules of login that a configuration names: auth_hba_file with
 * auth_ident_file.
 */
#ifndef PGSLUICE_POOL_HBA_CONF_H
#define PGSLUICE_POOL_HBA_CONF_H

#include "auth/hba.h"
#include "conf/conf.h"
#include "core/base.h"

/*
 * Reads the rules if auth_type is hba; else *out is NULL. `old` are those in
 * force, or NULL. Under [pgbouncer] this always succeeds: what cannot be read is
 * an error in the log, the old rules go on, and without any nobody gets in.
 * Under [pgsluice] a fault is -E_SYS or -E_SYNTAX, all of them are in the log,
 * and the first one is in `err`. Reads files; control thread.
 */
int hba_conf_make(const struct conf *conf, struct hba *old, struct hba **out, struct conf_error *err) MUSTCHECK;

#endif
