/*
 * Two machines, one upon the other.
 *
 * The lower one takes bytes and knows PostgreSQL's lexical rules. Its state is
 * what the next byte is inside of (CLASSIFY_LEX); each state has a function
 * that eats as many bytes as belong to it and names the next state. Nothing is
 * looked at twice and nothing ahead: what must wait for the byte behind (a dash
 * may begin a comment, a closing quote may be half of a doubled one) is a state
 * of its own, so a text may be cut anywhere. Rules that are easily forgotten:
 *
 *  - A string goes on after a line's end: 'a' <newline> 'b' is one constant,
 *    and E'a' <newline> 'b' has escapes in both. Comments with -- may stand
 *    between, those with stars may not.
 *  - The letter of E'', B'' or X'' is one only where no identifier precedes it.
 *    B'' and X'' know neither doubled quotes nor escapes.
 *  - A dollar inside of an identifier begins no quote; behind a number it does.
 *  - Of $tag$ without a match, the second dollar may begin the real end.
 *  - Comments nest.
 *
 * The upper machine (classify_tbl.h) takes tokens and looks for the words that
 * tell statements apart. A statement ends at a semicolon, except in parentheses
 * (the actions of CREATE RULE) and in the body of a routine, BEGIN ATOMIC ...
 * END. That END stands where a statement would begin, and no statement of a
 * body begins so; hence CASE ... END, and columns called "end", do not disturb.
 * Bodies nest as far as PostgreSQL's grammar is concerned.
 */
#include "proto/classify.h"

#include "proto/classify_tbl.h"

/* How much classify_deallocate() reads at once. */
#define CLASSIFY_PIECE 32

enum classify_string {
	STRING_PLAIN,  /* doubled quotes */
	STRING_ESCAPE, /* and backslashes */
	STRING_BITS,   /* neither */
};

/* What the next byte is inside of: X(id, function) */
#define CLASSIFY_LEX(X)                           \
	X(TEXT, classify_in_text)                 \
	X(WORD, classify_in_word)                 \
	X(DASH, classify_in_dash)                 \
	X(SLASH, classify_in_slash)               \
	X(LINE, classify_in_line)                 \
	X(COMMENT, classify_in_comment)           \
	X(STRING, classify_in_string)             \
	X(BACKSLASH, classify_in_backslash)       \
	X(AFTER, classify_in_after)               \
	X(AFTER_DASH, classify_in_after_dash)     \
	X(AFTER_LINE, classify_in_after_line)     \
	X(QUOTED, classify_in_quoted)             \
	X(QUOTED_AFTER, classify_in_quoted_after) \
	X(DOLLAR, classify_in_dollar)             \
	X(TAG, classify_in_tag)                   \
	X(BODY, classify_in_body)

enum classify_lex {
#define CLASSIFY_LEX_ID(id, fn) LEX_##id,
	CLASSIFY_LEX(CLASSIFY_LEX_ID)
#undef CLASSIFY_LEX_ID
};

/* A row of the table; `is` tells it from the holes. */
struct classify_row {
	uint32_t kinds;
	uint8_t to;
	bool is;
};

static const struct classify_row classify_rows[AT_COUNT][TK_COUNT] = {
#define CLASSIFY_ROW(from, token, to, kinds) [from][token] = { kinds, to, true },
	CLASSIFY_ROWS(CLASSIFY_ROW)
#undef CLASSIFY_ROW
};

static const struct slice classify_words[] = {
#define CLASSIFY_WORD_TEXT(id, text) { text, sizeof(text) - 1 },
	CLASSIFY_WORDS(CLASSIFY_WORD_TEXT)
#undef CLASSIFY_WORD_TEXT
};

/* The upper machine: tokens. */

static enum classify_token classify_find_word(const struct classify_name *w)
{
	for (size_t i = 0; i < ARRAY_LEN(classify_words); i++)
		if (classify_words[i].n == w->n && classify_words[i].p[0] == w->text[0] &&
		    memcmp(classify_words[i].p, w->text, w->n) == 0)
			return (enum classify_token)(TK_NAME + 1 + i);
	return TK_NAME;
}

/* A body's end stands where a statement would begin. */
static bool classify_end_body(struct classify *c, enum classify_token token)
{
	if (c->bodies == 0 || c->at != AT_START || token != TK_END)
		return false;
	c->bodies--;
	c->at = AT_REST;
	return true;
}

/* Keeps what follows DEALLOCATE, and drops it when more follows. */
static void classify_keep_name(struct classify *c, enum classify_token token)
{
	if (c->at != AT_DEALLOCATE && c->at != AT_DEALLOCATE_PREPARE && c->at != AT_DEALLOCATE_END)
		return;
	c->name.n = 0;
	if (c->at != AT_DEALLOCATE_END && token >= TK_NAME && token != TK_ALL)
		c->name = c->word;
}

static void classify_step(struct classify *c, enum classify_token token)
{
	const struct classify_row *row = &classify_rows[c->at][token];

	if (!row->is)
		row = &classify_rows[c->at][TK_ANY];
	c->at = row->to;
	if (c->bodies == 0 && (row->kinds & CLASSIFY_MORE) != 0)
		c->pending |= row->kinds & ~CLASSIFY_MORE;
	else if (c->bodies == 0 && row->kinds != KEEP)
		c->pending = row->kinds;
	if (c->at == AT_BODY) {
		c->bodies++;
		c->at = AT_START;
	}
}

static void classify_take_token(struct classify *c, enum classify_token token)
{
	if (token == TK_OPEN)
		c->depth++;
	else if (token == TK_CLOSE && c->depth > 0)
		c->depth--;
	c->begun = true;
	if (c->at == AT_REST || classify_end_body(c, token))
		return;
	if (token == TK_BEGIN && c->depth > 0)
		token = TK_NAME; /* of an argument */
	classify_keep_name(c, token);
	classify_step(c, token);
}

static void classify_take_word(struct classify *c)
{
	classify_take_token(c, c->at == AT_REST ? TK_NAME : classify_find_word(&c->word));
}

/* An identifier in quotes is no keyword, but may be the schema of temporary objects. */
static void classify_take_quoted(struct classify *c)
{
	enum classify_token token = classify_find_word(&c->word);

	classify_take_token(c, token == TK_PG_TEMP ? token : TK_NAME);
}

/* The statement ends; in a body, one of the body does. */
static void classify_take_end(struct classify *c)
{
	c->at = AT_START;
	if (c->bodies > 0)
		return;
	if (c->begun)
		c->statements++;
	c->kinds |= c->pending;
	c->pending = 0;
	c->begun = false;
}

static void classify_take_semicolon(struct classify *c)
{
	if (c->depth == 0)
		classify_take_end(c);
}

/* The lower machine: bytes. */

static bool classify_is_space(char ch)
{
	return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

static bool classify_is_newline(char ch)
{
	return ch == '\n' || ch == '\r';
}

static bool classify_is_digit(char ch)
{
	return ch >= '0' && ch <= '9';
}

/* True for what an identifier or a dollar tag may begin with. */
static bool classify_is_letter(char ch)
{
	return ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z') || ch == '_' || ((unsigned char)ch & 0x80) != 0;
}

/* Appends to a word; false when it is full. */
static bool classify_put(struct classify_name *w, char ch)
{
	if (w->n == CLASSIFY_NAME_SIZE - 1)
		return false;
	w->text[w->n++] = ch;
	return true;
}

/* Opens a constant in single quotes. */
static void classify_open_string(struct classify *c, enum classify_string string)
{
	classify_take_token(c, TK_STRING);
	c->string = (uint8_t)string;
	c->lex = LEX_STRING;
}

static void classify_open_plain(struct classify *c)
{
	classify_open_string(c, c->flags & CLASSIFY_F_SCS ? STRING_PLAIN : STRING_ESCAPE);
}

/* Something was only an operator after all. */
static size_t classify_put_back(struct classify *c)
{
	c->lex = LEX_TEXT;
	classify_take_token(c, TK_OTHER);
	return 0;
}

/* One byte between tokens. */
static void classify_take_byte(struct classify *c, char ch)
{
	switch (ch) {
	case '\'':
		classify_open_plain(c);
		break;
	case '"':
		c->word.n = 0;
		c->lex = LEX_QUOTED;
		break;
	case '$':
		c->lex = LEX_DOLLAR;
		break;
	case '-':
		c->lex = LEX_DASH;
		break;
	case '/':
		c->lex = LEX_SLASH;
		break;
	case ';':
		classify_take_semicolon(c);
		break;
	case '(':
		classify_take_token(c, TK_OPEN);
		break;
	case ')':
		classify_take_token(c, TK_CLOSE);
		break;
	case '.':
		classify_take_token(c, TK_DOT);
		break;
	case '=':
		classify_take_token(c, TK_EQUAL);
		break;
	default:
		classify_take_token(c, TK_OTHER);
		break;
	}
}

static size_t classify_in_text(struct classify *c, const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && c->lex == LEX_TEXT; i++) {
		if (classify_is_space(p[i]))
			continue;
		if (classify_is_letter(p[i])) {
			c->word.n = 0;
			c->lex = LEX_WORD;
			return i;
		}
		classify_take_byte(c, p[i]);
	}
	return i;
}

/* True when the word is the letter of a string, whose quote comes next. */
static bool classify_open_prefixed(struct classify *c)
{
	if (c->word.n != 1)
		return false;
	switch (c->word.text[0]) {
	case 'e':
		classify_open_string(c, STRING_ESCAPE);
		return true;
	case 'b':
	case 'x':
		classify_open_string(c, STRING_BITS);
		return true;
	default:
		return false;
	}
}

static size_t classify_in_word(struct classify *c, const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (classify_is_letter(p[i]))
			classify_put(&c->word, p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i]);
		else if (classify_is_digit(p[i]) || p[i] == '$')
			classify_put(&c->word, p[i]);
		else
			break;
	}
	if (i == n)
		return n;
	if (p[i] == '\'' && classify_open_prefixed(c))
		return i + 1;
	c->lex = LEX_TEXT;
	classify_take_word(c);
	return i;
}

static size_t classify_in_dash(struct classify *c, const char *p, size_t n)
{
	if (p[0] != '-')
		return classify_put_back(c);
	c->lex = LEX_LINE;
	return 1;
}

static size_t classify_in_slash(struct classify *c, const char *p, size_t n)
{
	if (p[0] != '*')
		return classify_put_back(c);
	c->lex = LEX_COMMENT;
	c->comments = 1;
	c->before = 0;
	return 1;
}

static size_t classify_in_line(struct classify *c, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (classify_is_newline(p[i])) {
			c->lex = LEX_TEXT;
			return i + 1;
		}
	}
	return n;
}

static size_t classify_in_comment(struct classify *c, const char *p, size_t n)
{
	char before = c->before;
	size_t i;

	for (i = 0; i < n && c->comments > 0; i++) {
		if (before == '*' && p[i] == '/')
			c->comments--;
		else if (before == '/' && p[i] == '*')
			c->comments++;
		else {
			before = p[i];
			continue;
		}
		before = 0;
	}
	c->before = before;
	if (c->comments == 0)
		c->lex = LEX_TEXT;
	return i;
}

/* The first byte that does not stand for itself in a string of the kind. */
static const char *classify_find_quote(uint8_t string, const char *p, size_t n)
{
	if (string != STRING_ESCAPE)
		return memchr(p, '\'', n);
	for (size_t i = 0; i < n; i++)
		if (p[i] == '\'' || p[i] == '\\')
			return p + i;
	return NULL;
}

static size_t classify_in_string(struct classify *c, const char *p, size_t n)
{
	const char *at = classify_find_quote(c->string, p, n);

	if (at == NULL)
		return n;
	c->lex = *at == '\'' ? LEX_AFTER : LEX_BACKSLASH;
	c->direct = true;
	c->newline = false;
	return (size_t)(at - p) + 1;
}

static size_t classify_in_backslash(struct classify *c, const char *p, size_t n)
{
	c->lex = LEX_STRING;
	return 1;
}

/* Behind a string's closing quote, which may not have been its last. */
static size_t classify_in_after(struct classify *c, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\'' && (c->newline || (c->direct && c->string != STRING_BITS))) {
			c->lex = LEX_STRING;
			return i + 1;
		}
		c->direct = false;
		if (p[i] == '-') {
			c->lex = LEX_AFTER_DASH;
			return i + 1;
		}
		if (!classify_is_space(p[i])) {
			c->lex = LEX_TEXT;
			return i;
		}
		if (classify_is_newline(p[i]))
			c->newline = true;
	}
	return n;
}

static size_t classify_in_after_dash(struct classify *c, const char *p, size_t n)
{
	if (p[0] != '-')
		return classify_put_back(c);
	c->lex = LEX_AFTER_LINE;
	return 1;
}

static size_t classify_in_after_line(struct classify *c, const char *p, size_t n)
{
	size_t used = classify_in_line(c, p, n);

	if (c->lex == LEX_TEXT) {
		c->lex = LEX_AFTER;
		c->newline = true;
	}
	return used;
}

static size_t classify_in_quoted(struct classify *c, const char *p, size_t n)
{
	const char *quote = memchr(p, '"', n);
	size_t end = quote == NULL ? n : (size_t)(quote - p);

	for (size_t i = 0; i < end && c->word.n < CLASSIFY_NAME_SIZE - 1; i++)
		classify_put(&c->word, p[i]);
	if (quote == NULL)
		return n;
	c->lex = LEX_QUOTED_AFTER;
	return end + 1;
}

static size_t classify_in_quoted_after(struct classify *c, const char *p, size_t n)
{
	if (p[0] == '"') {
		classify_put(&c->word, '"');
		c->lex = LEX_QUOTED;
		return 1;
	}
	c->lex = LEX_TEXT;
	classify_take_quoted(c);
	return 0;
}

/* Behind a dollar: a parameter, or a quote with or without a tag. */
static size_t classify_in_dollar(struct classify *c, const char *p, size_t n)
{
	if (p[0] != '$' && !classify_is_letter(p[0]))
		return classify_put_back(c);
	c->word.n = 0;
	c->cut = false;
	c->lex = LEX_TAG;
	return 0;
}

static size_t classify_in_tag(struct classify *c, const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && (classify_is_letter(p[i]) || classify_is_digit(p[i])); i++)
		if (!classify_put(&c->word, p[i]))
			c->cut = true;
	if (i == n)
		return n;
	if (p[i] != '$')
		return i + classify_put_back(c);
	classify_take_token(c, TK_STRING);
	c->too_long = c->cut;
	c->lex = LEX_BODY;
	c->matched = 0;
	return i + 1;
}

/* Looks for the dollar, the tag and the other dollar. */
static size_t classify_in_body(struct classify *c, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (c->matched == 0) {
			const char *dollar = memchr(p + i, '$', n - i);

			if (dollar == NULL)
				return n;
			i = (size_t)(dollar - p);
			c->matched = 1;
		} else if (c->matched <= c->word.n) {
			c->matched = p[i] == c->word.text[c->matched - 1] ? c->matched + 1 : p[i] == '$';
		} else if (p[i] == '$') {
			c->lex = LEX_TEXT;
			return i + 1;
		} else {
			c->matched = 0;
		}
	}
	return n;
}

/* Runs the lower machine over n bytes. */
static void classify_run(struct classify *c, const char *p, size_t n)
{
	static size_t (*const functions[])(struct classify *, const char *, size_t) = {
#define CLASSIFY_LEX_FN(id, fn) fn,
		CLASSIFY_LEX(CLASSIFY_LEX_FN)
#undef CLASSIFY_LEX_FN
	};

	for (size_t i = 0; i < n && !c->too_long;)
		i += functions[c->lex](c, p + i, n - i);
}

void classify_init(struct classify *c, unsigned flags)
{
	memset(c, 0, sizeof(*c));
	c->flags = (uint8_t)flags;
	c->lex = LEX_TEXT;
	c->at = AT_START;
}

void classify_feed(struct classify *c, const char *p, size_t n)
{
	const char *nul = n == 0 ? NULL : memchr(p, '\0', n);

	if (c->ended)
		return;
	c->ended = nul != NULL;
	classify_run(c, p, c->ended ? (size_t)(nul - p) : n);
}

int classify_end(struct classify *c)
{
	bool open;

	classify_run(c, " ", 1); /* what waits for the byte behind has waited long enough */
	open = c->lex == LEX_STRING || c->lex == LEX_QUOTED || c->lex == LEX_COMMENT || c->lex == LEX_BODY;
	c->ended = true;
	c->bodies = 0;
	classify_take_end(c);
	if (c->too_long)
		return -E_TOOBIG;
	return open ? -E_SYNTAX : 0;
}

/* The effect of a text that has come to its end. */
static enum classify_effect classify_end_effect(struct classify *c)
{
	const uint32_t commits = CLASSIFY_BIT(CLASSIFY_COMMIT) | CLASSIFY_BIT(CLASSIFY_PREPARE_TRANSACTION);
	const uint32_t rolls_back = CLASSIFY_BIT(CLASSIFY_ROLLBACK);
	bool is_one;

	if (classify_end(c) == -E_TOOBIG)
		return CLASSIFY_EFFECT_UNSEEN;
	if ((c->kinds & (CLASSIFY_BIT(CLASSIFY_TRANSACTION) | commits)) == 0)
		return CLASSIFY_EFFECT_NONE;
	is_one = c->statements == 1 && (c->kinds & CLASSIFY_BIT(CLASSIFY_CHAIN)) == 0;
	if ((c->kinds & commits) != 0)
		return is_one ? CLASSIFY_EFFECT_COMMIT : CLASSIFY_EFFECT_COMMITS;
	return is_one && (c->kinds & rolls_back) != 0 ? CLASSIFY_EFFECT_ROLLBACK : CLASSIFY_EFFECT_BLOCK;
}

/* True when the text may mean something else without standard_conforming_strings. */
static bool classify_is_ambiguous(struct slice sql)
{
	return sql.n > 0 && memchr(sql.p, '\\', sql.n) != NULL;
}

void classify_pieces_init(struct classify_pieces *p)
{
	classify_init(&p->with, CLASSIFY_F_SCS);
	p->is_split = false;
}

void classify_pieces_feed(struct classify_pieces *p, struct slice sql)
{
	if (!p->is_split && classify_is_ambiguous(sql)) {
		p->without = p->with;
		p->without.flags = 0;
		if (p->without.string == STRING_PLAIN)
			p->without.string = STRING_ESCAPE;
		p->is_split = true;
	}
	classify_feed(&p->with, sql.p, sql.n);
	if (p->is_split)
		classify_feed(&p->without, sql.p, sql.n);
}

enum classify_effect classify_pieces_end(struct classify_pieces *p)
{
	enum classify_effect with = classify_end_effect(&p->with);
	enum classify_effect without = p->is_split ? classify_end_effect(&p->without) : with;

	return with > without ? with : without;
}

enum classify_effect classify_effect(struct slice sql)
{
	struct classify_pieces p;

	classify_pieces_init(&p);
	classify_pieces_feed(&p, sql);
	return classify_pieces_end(&p);
}

/* The text from its first word on; empty when there is none. */
static struct slice classify_first_word(struct slice sql)
{
	struct classify c;

	classify_init(&c, CLASSIFY_F_SCS);
	for (size_t i = 0; i < sql.n && !c.ended; i++) {
		classify_feed(&c, sql.p + i, 1);
		if (c.lex == LEX_WORD)
			return slice_make(sql.p + i, sql.n - i);
	}
	return slice_of("");
}

/* True for one statement of no special kind, for a session with these CLASSIFY_F_*. */
static bool classify_is_one_other(struct slice sql, unsigned flags)
{
	struct classify c;

	classify_init(&c, flags);
	classify_feed(&c, sql.p, sql.n);
	return classify_end(&c) == 0 && c.statements == 1 && c.kinds == CLASSIFY_BIT(CLASSIFY_OTHER);
}

bool classify_is_plain(struct slice sql)
{
	static const char *const words[] = {
		"select", "insert", "update", "delete", "merge", "values", "table", "with"
	};
	struct slice rest = classify_first_word(sql);

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		size_t n = strlen(words[i]);

		if (rest.n > n && strncasecmp(rest.p, words[i], n) == 0 && !classify_is_letter(rest.p[n]))
			return classify_is_one_other(sql, CLASSIFY_F_SCS) &&
			       (!classify_is_ambiguous(sql) || classify_is_one_other(sql, 0));
	}
	return false;
}

bool classify_resets_all(struct slice sql)
{
	struct classify c;
	int err UNUSED;

	classify_init(&c, CLASSIFY_F_SCS);
	classify_feed(&c, sql.p, sql.n);
	err = classify_end(&c); /* of what has not come yet, the tag will tell */
	return (c.kinds & (CLASSIFY_BIT(CLASSIFY_RESET_ALL) | CLASSIFY_BIT(CLASSIFY_DISCARD_ALL))) != 0;
}

const char *classify_kind_name(enum classify_kind kind)
{
	static const char *const names[] = {
#define CLASSIFY_KIND_NAME(id, name) name,
		CLASSIFY_KINDS(CLASSIFY_KIND_NAME)
#undef CLASSIFY_KIND_NAME
	};

	ASSERT((size_t)kind < ARRAY_LEN(names));
	return names[kind];
}

/* A look at the first word, if nothing but white space and semicolons is before it: false when it is no DEALLOCATE. */
static bool classify_may_deallocate(struct slice sql)
{
	static const char word[] = "deallocate";
	size_t i = 0;

	while (i < sql.n && (classify_is_space(sql.p[i]) || sql.p[i] == ';'))
		i++;
	if (i == sql.n || sql.p[i] == '-' || sql.p[i] == '/')
		return i < sql.n;
	return sql.n - i > sizeof(word) && strncasecmp(sql.p + i, word, sizeof(word) - 1) == 0;
}

enum classify_deallocate classify_deallocate(struct slice sql, bool scs, struct classify_name *name)
{
	const uint32_t wanted = CLASSIFY_BIT(CLASSIFY_DEALLOCATE) | CLASSIFY_BIT(CLASSIFY_DEALLOCATE_ALL);
	struct classify c;

	name->n = 0;
	if (!classify_may_deallocate(sql))
		return CLASSIFY_DEALLOCATE_NONE;
	classify_init(&c, scs ? CLASSIFY_F_SCS : 0);
	for (size_t at = 0; at < sql.n; at += CLASSIFY_PIECE) {
		classify_feed(&c, sql.p + at, sql.n - at < CLASSIFY_PIECE ? sql.n - at : CLASSIFY_PIECE);
		if (((c.kinds | c.pending) & ~wanted) != 0)
			return CLASSIFY_DEALLOCATE_NONE;
	}
	if (classify_end(&c) != 0 || c.statements != 1)
		return CLASSIFY_DEALLOCATE_NONE;
	if (c.kinds == CLASSIFY_BIT(CLASSIFY_DEALLOCATE_ALL))
		return CLASSIFY_DEALLOCATE_EVERY;
	if (c.kinds != CLASSIFY_BIT(CLASSIFY_DEALLOCATE) || c.name.n == 0)
		return CLASSIFY_DEALLOCATE_NONE;
	*name = c.name;
	return CLASSIFY_DEALLOCATE_NAME;
}
