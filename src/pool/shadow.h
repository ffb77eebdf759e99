/*
 * The shadow check of debug builds (--enable-debug): what a server really has,
 * held against what the pooler believes of it.
 */
#ifndef PGSLUICE_POOL_SHADOW_H
#define PGSLUICE_POOL_SHADOW_H

#include "core/str.h"
#include "pool/server.h"

/* Switches it on: set to anything but nothing. */
#define SHADOW_ENV "PGSLUICE_SHADOW"

#ifdef ENABLE_DEBUG

/* Reads the environment; after vars_setup(), before any thread starts. */
void shadow_setup(void);

/* Begins a check of a server that is about to be idle: the query that is to be run on it. NULL: none. Own thread. */
const char *shadow_begin(struct server *server);

/* True while the answers of this server are those of a check, whose rows must be there as a whole. Own thread. */
bool shadow_is_reading(const struct server *server);

/* The body of a row of the answer. Own thread. */
void shadow_row(struct server *server, struct slice body);

/* The answer is complete: ends the process when there is a difference. True when it was that of a check. Own thread. */
bool shadow_end(struct server *server);

/* Gives back what a check holds that has no end. */
void shadow_fini(struct server *server);

#else

static inline void shadow_setup(void)
{
}

static inline const char *shadow_begin(struct server *server UNUSED)
{
	return NULL;
}

static inline bool shadow_is_reading(const struct server *server UNUSED)
{
	return false;
}

static inline void shadow_row(struct server *server UNUSED, struct slice body UNUSED)
{
}

static inline bool shadow_end(struct server *server UNUSED)
{
	return false;
}

static inline void shadow_fini(struct server *server UNUSED)
{
}

#endif

#endif
