/*
 * Maps from the names that others have given to a client, its system user or
 * its certificate, to names of users: auth_ident_file. Immutable, with a
 * reference count; any thread.
 *
 *     map    name-elsewhere        user
 *     ops    root                  postgres
 *     ops    /^(.*)@example\.com$  \1
 *     ops    alice                 all         any user
 *     ops    bob                   +readers    any that is a member of readers
 *     ops    carol                 /^app_      any that the expression matches
 */
#ifndef PGSLUICE_AUTH_IDENT_H
#define PGSLUICE_AUTH_IDENT_H

#include "auth/rulefile.h"
#include "core/base.h"
#include "core/err.h"
#include "core/log.h"

struct ident;

/* What is known about something that must be asked elsewhere. */
enum rule_answer {
	RULE_NO,
	RULE_YES,
	RULE_UNKNOWN, /* nobody has asked yet */
	RULE_FAILED,  /* it was asked, and there is no answer */
};

/* Whether the user that wants to log in is a member of a group. */
typedef enum rule_answer (*rule_ask_group)(void *ctx, const char *group);

/* Somebody who writes down what a load has to say. */
struct rule_report {
	bool is_strict; /* a fault refuses the file; else its line is skipped */
	/* Lines for the log, and for each fault what would be right (or NULL). */
	void (*say)(void *ctx, enum log_level level, const char *text, const char *hint);
	void *ctx;
};

/*
 * Reads the file. 0 with *out held once; -E_SYS when it cannot be read, or
 * -E_SYNTAX when it has a fault and the report is strict: *out is then
 * untouched, and the report knows why. An empty path gives a table without
 * maps.
 */
int ident_load(const struct rulefile_io *io, const char *path, const struct rule_report *report,
	       struct ident **out) MUSTCHECK;

struct ident *ident_hold(struct ident *ident);
/* Nulls the pointer; NULL inside is fine. */
void ident_release(struct ident **ident);

/* True when there is a line for that map. */
bool ident_has_map(const struct ident *ident, const char *map);

/* True when both have the same lines. */
bool ident_is_equal(const struct ident *a, const struct ident *b);

struct ident_question {
	const char *map;
	const char *name; /* elsewhere */
	bool ignore_case; /* of that name, where a line has no expression */
	const char *user; /* here */
	rule_ask_group ask;
	void *ctx; /* of ask */
};

/*
 * Whether who is called `name` elsewhere may be `user` here. RULE_UNKNOWN when
 * that depends on groups that `ask` does not know yet; RULE_FAILED when it
 * cannot be known, which is a no.
 */
enum rule_answer ident_matches(const struct ident *ident, const struct ident_question *q);

#endif
