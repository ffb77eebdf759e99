/*
 * What is known of an endpoint, as text, on its way from one process to the
 * next. Pure.
 */
#ifndef PGSLUICE_POOL_HEALTH_SAVED_H
#define PGSLUICE_POOL_HEALTH_SAVED_H

#include "core/base.h"
#include "core/buf.h"

/* What is said of an endpoint, besides its host; each a number. For what they are see struct health_target. */
#define HEALTH_SAVED(X) \
	X(port)         \
	X(system)       \
	X(timeline)     \
	X(newest)       \
	X(primary)      \
	X(since)        \
	X(watched)      \
	X(role)         \
	X(told)         \
	X(until)

struct health_saved {
#define X(name) uint64_t name;
	HEALTH_SAVED(X)
#undef X
	const char *host;
	char *host_room; /* owned; what health_saved_read() has found */
};

/* The longest text. */
#define HEALTH_SAVED_MAX 2048

/* Appends it as a string: 0, -E_NOSPACE or -E_NOMEM. */
int health_saved_write(const struct health_saved *saved, struct buf *b) MUSTCHECK;

/*
 * Reads one: 0, or -E_SYNTAX when it has no place, or is no list of items. Items
 * of other versions are passed over. To be given back in any case.
 */
int health_saved_read(struct health_saved *saved, const char *text) MUSTCHECK;
void health_saved_fini(struct health_saved *saved);

#endif
