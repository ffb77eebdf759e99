/*
 * What a query asks of the pooler in a comment.
 */
#ifndef PGSLUICE_POOL_QUERY_HINT_H
#define PGSLUICE_POOL_QUERY_HINT_H

#include "core/base.h"
#include "core/str.h"

/* A longer comment is not a hint. */
#define QUERY_HINT_MAX 128

/*
 * The limit that a query sets for itself by a comment with which it begins:
 *
 *     [slash]* pgsluice: timeout=250ms *[slash] select ...
 *
 * White space around the words is as you like, other settings in the same
 * comment are parted by commas and those unknown are passed over. The number is
 * whole, its unit ms (as without one), s or min. Returns microseconds; 0: the
 * text has no such comment, or one that says nothing. Any thread.
 */
uint64_t query_hint_timeout_us(struct slice text);

#endif
