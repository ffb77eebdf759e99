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

/*
 * Warns of settings that do not act yet; false, with a word in the log, when serving the configuration would break what
 * it promises, such as TLS.
 */
bool reload_can_start(const struct snapshot *snap) MUSTCHECK;

/* Sets the log up as the configuration says; `required`: a log file that cannot be opened ends the process. */
void reload_apply_log(const struct conf *conf, bool required);

/* Opens the log file again at the next line, as logrotate expects, whatever a reload that follows finds. */
void reload_reopen_log(struct engine *engine);

/* What changes from a snapshot to another configuration and its users; to be freed by the caller. */
struct conf_diff *reload_compare(const struct snapshot *old, const struct conf *conf,
				 const struct users *users) MUSTCHECK;

/*
 * Loads again and hands the result to the engine. Returns 0 and what has
 * changed in *diff, to be freed by the caller, with the connections that it
 * touches. When anything is wrong nothing changes: then the result is -E_*,
 * the log says all that is wrong, and `err` (initialised by the caller, who
 * also gives it back) has the first of it.
 */
int reload_run(struct engine *engine, struct conf_diff **diff, struct conf_error *err) MUSTCHECK;

/* RELOAD DRY RUN: the same, but nothing changes in any case. */
int reload_try(struct engine *engine, struct conf_diff **diff, struct conf_error *err) MUSTCHECK;

/* SET: changes one setting until the next reload. 0, or -E_* after a line in the log. */
int reload_set(struct engine *engine, const char *key, const char *value) MUSTCHECK;

#endif
