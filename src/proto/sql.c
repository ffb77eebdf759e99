/*
 * Recursive descent without the recursion: a cursor goes over the text once,
 * each sql_take_*() moves it behind what it recognised or leaves it alone.
 *
 * The form of the whole text is checked before the sizes of its parts, since
 * "invalid command" and "bad arguments" are different answers; therefore the
 * parts are kept as typed (struct sql_part) and copied at the end.
 */
#include "proto/sql.h"

/* A word or string as it was typed, with its quotes. */
struct sql_part {
	struct slice raw;
	char quote; /* ' or ", 0 for none */
};

static bool sql_is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool sql_is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Moves the cursor n bytes on and returns them. */
static struct slice sql_advance(struct slice *at, size_t n)
{
	struct slice taken = slice_make(at->p, n);

	at->p += n;
	at->n -= n;
	return taken;
}

/* Skips white space; true when there was some. */
static bool sql_take_space(struct slice *at)
{
	size_t n = 0;

	while (n < at->n && sql_is_space(at->p[n]))
		n++;
	sql_advance(at, n);
	return n > 0;
}

static bool sql_take_char(struct slice *at, char c)
{
	if (at->n == 0 || at->p[0] != c)
		return false;
	sql_advance(at, 1);
	return true;
}

/* Takes quoted text; two quotes in a row inside stand for one. */
static bool sql_take_quoted(struct slice *at, char quote, struct sql_part *part)
{
	size_t n = 1;

	if (at->n == 0 || at->p[0] != quote)
		return false;
	for (; n < at->n; n++) {
		if (at->p[n] != quote)
			continue;
		if (n + 1 == at->n || at->p[n + 1] != quote) {
			part->raw = sql_advance(at, n + 1);
			part->quote = quote;
			return true;
		}
		n++;
	}
	return false;
}

static bool sql_take_word(struct slice *at, struct sql_part *part)
{
	size_t n = 0;

	if (sql_take_quoted(at, '"', part))
		return true;
	while (n < at->n && sql_is_word(at->p[n]))
		n++;
	if (n == 0)
		return false;
	part->raw = sql_advance(at, n);
	part->quote = 0;
	return true;
}

/* Takes what stands for a place, unquoted. */
static bool sql_take_place(struct slice *at, struct sql_part *part)
{
	size_t n = 0;

	while (n < at->n && (unsigned char)at->p[n] > ' ' && strchr("'\";", at->p[n]) == NULL)
		n++;
	part->raw = sql_advance(at, n);
	part->quote = 0;
	return n > 0;
}

static bool sql_take_any_place(struct slice *at, struct sql_part *part)
{
	return sql_take_quoted(at, '"', part) || sql_take_quoted(at, '\'', part) || sql_take_place(at, part);
}

static bool sql_is_keyword(struct sql_part part, const char *keyword)
{
	return part.quote == 0 && slice_ieq(part.raw, slice_of(keyword));
}

static bool sql_take_keyword(struct slice *at, const char *keyword)
{
	struct slice behind = *at;
	struct sql_part word;

	if (!sql_take_word(&behind, &word) || !sql_is_keyword(word, keyword))
		return false;
	*at = behind;
	return true;
}

/* Takes "=" or TO. */
static bool sql_take_assign(struct slice *at)
{
	return sql_take_char(at, '=') || sql_take_keyword(at, "to");
}

/* True when nothing follows but white space and at most one semicolon. */
static bool sql_is_end(struct slice at)
{
	sql_take_space(&at);
	if (sql_take_char(&at, ';'))
		sql_take_space(&at);
	return at.n == 0;
}

/* Copies a part without its quotes; -E_TOOBIG when as typed it has `size` bytes or more. */
static int sql_copy(struct sql_part part, char *dst, size_t size)
{
	struct slice s = part.raw;
	size_t n = 0;

	if (s.n >= size)
		return -E_TOOBIG;
	if (part.quote != 0)
		s = slice_make(s.p + 1, s.n - 2);
	for (size_t i = 0; i < s.n; i++) {
		dst[n++] = s.p[i];
		if (part.quote != 0 && s.p[i] == part.quote)
			i++;
	}
	dst[n] = '\0';
	return 0;
}

/* The end of CMD [arg] WITHIN value; `at` is behind the argument, which is the keyword itself when there is none. */
static bool sql_split_within(struct slice at, struct sql_part *arg, struct sql_part *value)
{
	struct slice behind = at;
	bool has_arg = sql_take_keyword(&behind, "within") && sql_take_space(&behind);

	if (!has_arg && !sql_is_keyword(*arg, "within"))
		return false;
	if (has_arg)
		at = behind;
	else
		*arg = (struct sql_part){ { "", 0 }, 0 };
	return sql_take_word(&at, value) && sql_is_end(at);
}

/* Recognises the form and its parts; absent parts stay empty. */
static int sql_split(struct slice at, enum sql_form *form, struct sql_part parts[3])
{
	struct sql_part *cmd = &parts[0], *arg = &parts[1], *value = &parts[2];

	sql_take_space(&at);
	if (!sql_take_word(&at, cmd))
		return -E_SYNTAX;
	*form = SQL_CMD;
	if (sql_take_space(&at) && sql_take_word(&at, arg))
		*form = SQL_CMD_ARG;
	if (sql_is_end(at))
		return 0;
	sql_take_space(&at);
	if (*form == SQL_CMD_ARG && sql_is_keyword(*arg, "dry") && sql_take_keyword(&at, "run")) {
		*form = SQL_DRY_RUN;
		return sql_is_end(at) ? 0 : -E_SYNTAX;
	}
	if (*form == SQL_CMD_ARG && sql_is_keyword(*cmd, "breaker")) {
		*form = SQL_PLACE;
		return sql_take_any_place(&at, value) && sql_is_end(at) ? 0 : -E_SYNTAX;
	}
	if (*form == SQL_CMD_ARG && !sql_is_keyword(*cmd, "set") && sql_split_within(at, arg, value)) {
		*form = SQL_WITHIN;
		return 0;
	}
	if (*form != SQL_CMD_ARG || !sql_is_keyword(*cmd, "set") || !sql_take_assign(&at))
		return -E_SYNTAX;
	sql_take_space(&at);
	if (!sql_take_word(&at, value) && !sql_take_quoted(&at, '\'', value))
		return -E_SYNTAX;
	*form = SQL_SET;
	return sql_is_end(at) ? 0 : -E_SYNTAX;
}

int sql_parse(struct slice text, struct sql_cmd *cmd)
{
	struct sql_part parts[3] = { { { "", 0 }, 0 }, { { "", 0 }, 0 }, { { "", 0 }, 0 } };
	int err;

	memset(cmd, 0, sizeof(*cmd));
	err = sql_split(text.n > 0 ? text : slice_of(""), &cmd->form, parts);
	if (err == 0)
		err = sql_copy(parts[0], cmd->cmd, sizeof(cmd->cmd));
	if (err == 0)
		err = sql_copy(parts[1], cmd->arg, sizeof(cmd->arg));
	if (err == 0)
		err = sql_copy(parts[2], cmd->value, sizeof(cmd->value));
	return err;
}
