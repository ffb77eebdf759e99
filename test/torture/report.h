#ifndef TORTURE_REPORT_H
#define TORTURE_REPORT_H

/*
 * Counting and telling. All functions may be called by any thread.
 */
#include <stdatomic.h>

#include "check.h"
#include "shape.h"

/* Plain counters: COUNT(name, what it counts), printed in this order. */
#define REPORT_COUNTS(COUNT)                                                                        \
	COUNT(ops, "operations finished")                                                           \
	COUNT(rows, "rows and copy data messages received")                                         \
	COUNT(bytes_in, "bytes received")                                                           \
	COUNT(bytes_out, "bytes sent")                                                              \
	COUNT(logins, "logins")                                                                     \
	COUNT(disconnects, "disconnects by the client in the middle")                               \
	COUNT(outlived, "servers lost that their client outlived")                                  \
	COUNT(faults, "sessions lost by faults")                                                    \
	COUNT(excused, "sessions ended by the administrator")                                       \
	COUNT(derailed, "operations cut short by a cancel")                                         \
	COUNT(cancels, "cancel requests sent")                                                      \
	COUNT(cancels_stale, "cancel requests sent with an old key")                                \
	COUNT(sleeps, "sleeping queries that were to be cancelled")                                 \
	COUNT(sleeps_hit, "sleeping queries that were cancelled")                                   \
	COUNT(carried, "operations begun and finished in sessions that a restart has carried over") \
	COUNT(carried_sleeps, "of these, sleeping queries that were to be cancelled")               \
	COUNT(carried_hits, "of these, that were cancelled")                                        \
	COUNT(suicides, "sessions that killed their own server")                                    \
	COUNT(unanswered, "cancel requests cut off")                                                \
	COUNT(named, "runs of named statements begun")                                              \
	COUNT(unnamed, "runs of unnamed statements begun, without a Parse of their own")            \
	COUNT(executed, "runs by EXECUTE begun")                                                    \
	COUNT(shaped_good, "results of tables whose columns change")                                \
	COUNT(shaped_refused, "errors instead of such results")                                     \
	COUNT(ddl_around, "changes of such tables behind the pooler's back")

struct report {
#define REPORT_FIELD(name, help) atomic_uint_fast64_t name;
	REPORT_COUNTS(REPORT_FIELD)
#undef REPORT_FIELD
	atomic_uint_fast64_t wrong;
	atomic_uint_fast64_t shape_done[N_SHAPES];
};

extern struct report report;

/* Adds n to a counter. */
#define report_add(name, n) atomic_fetch_add_explicit(&report.name, (n), memory_order_relaxed)

/* Counts a finished operation of the shape of that name. */
void report_shape(const char *shape);

/* Counts an error as a client saw it: its SQLSTATE, and with fatal also its text. */
void report_error(const char *sqlstate, const char *text, bool fatal);

/* Counts a session lost without a word, by the reason given. */
void report_loss(const char *reason);

/* What a complaint is about. */
struct report_case {
	const struct actor *actor;
	const struct script *script;
	const struct check *check;
	const char *state;   /* what the client was doing */
	size_t sent;         /* bytes of the script sent */
	char type;           /* of the offending message; 0: there is none */
	const uint8_t *body; /* its body */
	size_t len;          /* and the length of that */
};

/* Counts a failure; prints it in full unless many were printed already. */
void report_wrong(const struct report_case *rc, const char *why);

/* A failure without a script. */
void report_wrong_plain(const char *why);

/* The line of progress and the final account. */
void report_progress(double seconds);
void report_final(double seconds);

#endif
