#ifndef TORTURE_STARTUP_H
#define TORTURE_STARTUP_H

#include "actor.h"
#include "options.h"

/*
 * Writes the startup packet into an empty script. Session parameters are given at random, plainly or within
 * "options"; given[i] tells of which this is true, and the actor believes them.
 */
void startup_write(struct script *s, struct actor *a, struct rng *rng, const struct options *opt, const char *dbname,
		   bool given[N_PARAMS]);

#endif
