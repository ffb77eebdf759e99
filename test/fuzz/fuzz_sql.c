/*
 * The console's tokenizer. What it understood must come out the same when it
 * is written again with quotes around every part.
 */
#include "fuzz.h"

#include "proto/sql.h"

/* Appends a part in quotes. */
static void fuzz_quote(char *dst, size_t size, const char *part, char quote)
{
	ASSERT(str_append(dst, size, "%c", quote));
	for (; *part != '\0'; part++)
		ASSERT(str_append(dst, size, *part == quote ? "%c%c" : "%c", *part, quote));
	ASSERT(str_append(dst, size, "%c ", quote));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sql_cmd cmd, again;
	char text[1024] = " ";
	int err = sql_parse(slice_make(data, size), &cmd);

	if (err != 0) {
		ASSERT(err == -E_SYNTAX || err == -E_TOOBIG);
		return 0;
	}
	ASSERT(strlen(cmd.cmd) < SQL_CMD_SIZE && strlen(cmd.arg) < SQL_ARG_SIZE && strlen(cmd.value) < SQL_VALUE_SIZE);
	if (cmd.form == SQL_SET)
		ASSERT(str_append(text, sizeof(text), "set "));
	else
		fuzz_quote(text, sizeof(text), cmd.cmd, '"');
	if (cmd.form == SQL_DRY_RUN) /* keywords, which are never quoted */
		ASSERT(strcasecmp(cmd.arg, "dry") == 0 && str_append(text, sizeof(text), "%s run", cmd.arg));
	else if (cmd.form != SQL_CMD)
		fuzz_quote(text, sizeof(text), cmd.arg, '"');
	if (cmd.form == SQL_SET) {
		ASSERT(str_append(text, sizeof(text), "= "));
		fuzz_quote(text, sizeof(text), cmd.value, '\'');
	}
	err = sql_parse(slice_of(text), &again);
	if (err == -E_TOOBIG)
		return 0; /* the quotes made it so */
	ASSERT(err == 0 && again.form == cmd.form);
	ASSERT(cmd.form == SQL_SET || strcmp(again.cmd, cmd.cmd) == 0);
	ASSERT(strcmp(again.arg, cmd.arg) == 0 && strcmp(again.value, cmd.value) == 0);
	return 0;
}
