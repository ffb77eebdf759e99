/*
 * Loading the configuration with the files it names, at the start and again
 * later, and handing it to the engine. Control thread only.
 */
#ifndef PGSLUICE_RELOAD_H
#define PGSLUICE_RELOAD_H

#include "conf/conf_diff.h"
#include "core/base.h"
#include "pool/engine.h"

/* Remembers what the command line says about the log and applies it; before the first load. */
void reload_set_cli(bool quiet, int verbose);

/* Loads for the start; logs what there is to say and returns NULL when the file is no good. Held for the caller. */
struct snapshot *reload_first(const char *path) MUSTCHECK;

/* Room for the text of reload_set_up_tls(). */
#define RELOAD_TLS_TEXT_MAX 2048

/* Reads keys and certificates, for the start: 0, or -E_* and a line for the log when something is wrong with them. */
int reload_set_up_tls(struct snapshot *snap, char *text, size_t size) MUSTCHECK;

/* Sets the log up as the configuration says; `required`: a log file that cannot be opened ends the process. */
void reload_apply_log(const struct conf *conf, bool required);

/* Opens the log file again at the next line, as logrotate expects, whatever a reload that follows finds. */
void reload_reopen_log(struct engine *engine);

/* What changes from a snapshot to another configuration and its users; to be freed by the caller. */
struct conf_diff *reload_compare(const struct snapshot *old, const struct conf *conf, const struct users *users,
				 const struct hba *hba) MUSTCHECK;

/*
 * Loads again and hands the result to the engine. Returns 0 and what has
 * changed in *diff, to be freed by the caller, with the connections that it
 * touches. When anything is wrong nothing changes: then the result is -E_*,
 * the log says all that is wrong, and `err` (initialised by the caller, who
 * also gives it back) has the first of it. So it is too under [pgbouncer] when
 * it is TLS that is wrong, but then all else has changed.
 */
int reload_run(struct engine *engine, struct conf_diff **diff, struct conf_error *err) MUSTCHECK;

/* RELOAD DRY RUN: the same, but nothing changes in any case. */
int reload_try(struct engine *engine, struct conf_diff **diff, struct conf_error *err) MUSTCHECK;

/*
 * SET: changes one setting until the next reload. 0, or -E_* after a line in the log. Under [pgbouncer] a setting of
 * TLS changes too when TLS cannot be set up like that and goes on as it was: then *tls_kept is set.
 */
int reload_set(struct engine *engine, const char *key, const char *value, bool *tls_kept) MUSTCHECK;

#endif
