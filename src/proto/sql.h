/*
 * The language of the admin console: one command of at most four words.
 *
 *     CMD [word] [;]
 *     RELOAD DRY RUN [;]
 *     CMD [word] WITHIN word [;]
 *     SET word (= | TO) (word | 'string') [;]
 *     BREAKER word (place | "place" | 'place') [;]
 *
 * A word is letters, digits and underscores, or anything in double quotes
 * with inner quotes doubled; a string is the same in single quotes. A place, a
 * host and a port, is anything without white space, quotes or semicolons. White
 * space may stand at either end and around the equals sign. There are no
 * comments.
 */
#ifndef PGSLUICE_PROTO_SQL_H
#define PGSLUICE_PROTO_SQL_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

/* Sizes of the parts, with NUL; as typed, quotes included, a part must be shorter. */
#define SQL_CMD_SIZE   16
#define SQL_ARG_SIZE   64
#define SQL_VALUE_SIZE 256

enum sql_form {
	SQL_CMD,     /* one word */
	SQL_CMD_ARG, /* a word and its argument; SELECT is for the caller to understand */
	SQL_SET,     /* SET arg = value */
	SQL_DRY_RUN, /* CMD DRY RUN; for the caller to say which command can */
	SQL_WITHIN,  /* CMD [arg] WITHIN value; likewise */
	SQL_PLACE,   /* BREAKER arg value */
};

struct sql_cmd {
	enum sql_form form;
	char cmd[SQL_CMD_SIZE]; /* as typed, compare without case; without quotes */
	char arg[SQL_ARG_SIZE]; /* "" when the form has none */
	char value[SQL_VALUE_SIZE];
};

/*
 * Takes a command apart. Returns 0; -E_SYNTAX when it has none of the forms
 * above ("invalid command"); -E_TOOBIG when it has but a part is too long
 * ("bad arguments").
 */
int sql_parse(struct slice text, struct sql_cmd *cmd) MUSTCHECK;

#endif
