/*
 * The first packet has no type byte:
 *
 *     int32 length | int32 code | body
 *
 * The code is a protocol version or one of the requests that borrow its
 * place. A startup message's body is a list of name and value, each ended by
 * a NUL, and a single NUL behind the last pair, which must be the last byte
 * of the packet. startup_parse() checks that once; from then on the list can
 * be walked without a test, and the walkers only leave out what is not theirs.
 *
 * Names that the protocol itself defines are compared with case, as
 * PostgreSQL does; how to compare the others is for the reader of the list.
 */
#include "proto/startup.h"

#include "proto/msg.h"
#include "proto/wire.h"

#define STARTUP_EXTENSION "_pq_." /* begins the names that ask for extensions */

/* Writes the first bytes of a packet in hexadecimal behind the text in dst. */
static void startup_append_hex(struct slice bytes, char *dst, size_t size)
{
	for (size_t i = 0; i < bytes.n && i < STARTUP_HEADER; i++)
		(void)str_append(dst, size, "%02x", (unsigned)(uint8_t)bytes.p[i]);
}

static const struct startup_err_row {
	const char *text, *after, *sqlstate, *hint;
} startup_errs[] = { [STARTUP_OK] = { NULL, "", "00000", NULL },
#define X(id, text, after, sqlstate, hint) [id] = { text, after, sqlstate, hint },
		     STARTUP_ERR_TABLE(X)
#undef X
};

static const struct startup_err_row *startup_err_row(enum startup_err err)
{
	ASSERT((size_t)err < ARRAY_LEN(startup_errs));
	return &startup_errs[err];
}

bool startup_err_text(enum startup_err err, struct slice arg, char *dst, size_t size)
{
	const struct startup_err_row *row = startup_err_row(err);

	if (row->text == NULL)
		return false;
	(void)str_copy(dst, size, row->text);
	if (err == STARTUP_E_HEADER)
		startup_append_hex(arg, dst, size);
	else if (err == STARTUP_E_PARAM || err == STARTUP_E_OPTION)
		(void)str_append(dst, size, "%.*s", arg.n > INT32_MAX ? INT32_MAX : (int)arg.n, arg.n > 0 ? arg.p : "");
	(void)str_append(dst, size, "%s", row->after);
	return true;
}

const char *startup_err_sqlstate(enum startup_err err)
{
	return startup_err_row(err)->sqlstate;
}

const char *startup_err_hint(enum startup_err err)
{
	return startup_err_row(err)->hint;
}

/* What a code in the place of the version asks for; also checks fixed lengths. */
static void startup_classify(uint32_t code, struct startup_head *head)
{
	uint32_t total = head->total;

	head->kind = STARTUP_BAD;
	head->err = STARTUP_OK;
	head->minor = 0;
	if (code >> 16 == 3) {
		head->kind = STARTUP_SESSION;
		head->minor = (uint16_t)code;
	} else if (code == PROTO_SSL_REQUEST && total == STARTUP_HEADER) {
		head->kind = STARTUP_SSL;
	} else if (code == PROTO_GSSENC_REQUEST && total == STARTUP_HEADER) {
		head->kind = STARTUP_GSSENC;
	} else if (code == PROTO_CANCEL_REQUEST && total >= STARTUP_HEADER + STARTUP_KEY_MIN &&
		   total <= STARTUP_HEADER + STARTUP_KEY_MAX) {
		head->kind = STARTUP_CANCEL;
	} else if (code == PROTO_CANCEL_REQUEST) {
		head->err = STARTUP_E_CANCEL;
	} else if (code == PROTO_V2_0) {
		head->err = STARTUP_E_V2;
	} else {
		head->err = STARTUP_E_HEADER;
	}
}

int startup_peek(const void *p, size_t n, struct startup_head *head)
{
	struct reader r;
	uint32_t code;

	if (n < STARTUP_HEADER)
		return -E_AGAIN;
	rd_init(&r, p, STARTUP_HEADER);
	head->total = rd_u32(&r);
	code = rd_u32(&r);
	if (head->total < STARTUP_HEADER || head->total > STARTUP_MAX)
		return -E_PROTO;
	startup_classify(code, head);
	return 0;
}

struct slice startup_cancel_key(const void *packet, const struct startup_head *head)
{
	ASSERT(head->kind == STARTUP_CANCEL);
	return slice_make((const char *)packet + STARTUP_HEADER, head->total - STARTUP_HEADER);
}

/*
 * PostgreSQL's spelling of booleans: any beginning of a word that fits no
 * other one, without regard to case. Fills *on and returns true.
 */
static bool startup_parse_bool(struct slice value, bool *on)
{
	static const struct {
		const char *word;
		size_t least; /* characters that make it unique */
		bool on;
	} words[] = {
		{ "true", 1, true }, { "false", 1, false }, { "yes", 1, true }, { "no", 1, false },
		{ "on", 2, true },   { "off", 2, false },   { "1", 1, true },   { "0", 1, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		struct slice word = slice_of(words[i].word);

		if (value.n < words[i].least || value.n > word.n)
			continue;
		word.n = value.n;
		if (slice_ieq(value, word)) {
			*on = words[i].on;
			return true;
		}
	}
	return false;
}

enum startup_replication startup_replication(struct slice value)
{
	bool on = false;

	if (slice_eq_str(value, "database"))
		return REPLICATION_LOGICAL;
	return startup_parse_bool(value, &on) && on ? REPLICATION_PHYSICAL : REPLICATION_NONE;
}

/* Parameters that have a field of their own, and the two kinds of others. */
enum startup_key {
	KEY_USER,
	KEY_DATABASE,
	KEY_APPLICATION_NAME,
	KEY_OPTIONS,
	KEY_REPLICATION,
	KEY_EXTENSION,
	KEY_OTHER,
};

static enum startup_key startup_key_of(struct slice name)
{
	static const char *const names[] = {
		[KEY_USER] = "user",
		[KEY_DATABASE] = "database",
		[KEY_APPLICATION_NAME] = "application_name",
		[KEY_OPTIONS] = "options",
		[KEY_REPLICATION] = "replication",
	};
	size_t n = strlen(STARTUP_EXTENSION);

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (slice_eq_str(name, names[i]))
			return (enum startup_key)i;
	}
	if (name.n >= n && memcmp(name.p, STARTUP_EXTENSION, n) == 0)
		return KEY_EXTENSION;
	return KEY_OTHER;
}

/* Puts one parameter where it belongs. */
static void startup_take(struct startup *s, struct slice name, struct slice value)
{
	switch (startup_key_of(name)) {
	case KEY_USER:
		s->user = value;
		break;
	case KEY_DATABASE:
		s->database = value;
		break;
	case KEY_APPLICATION_NAME:
		s->application_name = value;
		s->has_application_name = true;
		break;
	case KEY_OPTIONS:
		s->options = value;
		s->has_options = true;
		break;
	case KEY_REPLICATION:
		s->replication = startup_replication(value);
		break;
	case KEY_EXTENSION:
		s->n_extensions++;
		break;
	case KEY_OTHER:
		s->n_params++;
		break;
	}
}

enum startup_err startup_parse(const void *packet, const struct startup_head *head, struct startup *s)
{
	const struct slice none = { "", 0 };
	unsigned count = 0;
	struct reader r;
	struct slice name, value;

	ASSERT(head->kind == STARTUP_SESSION && head->total >= STARTUP_HEADER && head->total <= STARTUP_MAX);
	memset(s, 0, sizeof(*s));
	s->minor = head->minor;
	s->user = s->database = s->application_name = s->options = none;
	s->list = slice_make((const char *)packet + STARTUP_HEADER, head->total - STARTUP_HEADER);
	rd_init_slice(&r, s->list);
	while ((name = rd_cstr(&r)).n > 0) {
		value = rd_cstr(&r);
		if (++count > STARTUP_PARAM_MAX)
			return STARTUP_E_TOO_MANY;
		startup_take(s, name, value);
	}
	if (!rd_done(&r))
		return STARTUP_E_LAYOUT;
	s->list.n--;
	if (s->database.n == 0)
		s->database = s->user;
	return STARTUP_OK;
}

enum startup_err startup_check_user(const struct startup *s)
{
	if (s->user.n == 0)
		return STARTUP_E_NO_USER;
	return s->user.n > STARTUP_USER_MAX ? STARTUP_E_USER_LONG : STARTUP_OK;
}

/* The next parameter of one kind, from offset *at on. */
static bool startup_next_of(const struct startup *s, enum startup_key kind, size_t *at, struct slice *name,
			    struct slice *value)
{
	struct reader r;

	ASSERT(*at <= s->list.n);
	rd_init(&r, s->list.p + *at, s->list.n - *at);
	while (rd_left(&r) > 0) {
		*name = rd_cstr(&r);
		*value = rd_cstr(&r);
		*at = s->list.n - rd_left(&r);
		if (startup_key_of(*name) == kind)
			return true;
	}
	return false;
}

bool startup_params_next(const struct startup *s, size_t *at, struct slice *name, struct slice *value)
{
	return startup_next_of(s, KEY_OTHER, at, name, value);
}

bool startup_extensions_next(const struct startup *s, size_t *at, struct slice *name)
{
	struct slice value;

	return startup_next_of(s, KEY_EXTENSION, at, name, &value);
}

void startup_options_init(struct startup_options *it, struct slice options, char *word, size_t size)
{
	ASSERT(size >= options.n);
	it->rest = options.n > 0 ? options : slice_of("");
	it->word = word;
	it->size = size;
	it->err = STARTUP_OK;
}

/* C's white space, whatever the locale. */
static bool startup_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * The next word of the options, without its escapes: a backslash takes the
 * next character as it is, also a space. False at the end.
 */
static bool startup_options_word(struct startup_options *it, struct slice *word)
{
	const char *p = it->rest.p, *end = p + it->rest.n;
	size_t n = 0;

	while (p < end && startup_is_space(*p))
		p++;
	if (p == end) {
		it->rest = slice_make(p, 0);
		return false;
	}
	for (; p < end && !startup_is_space(*p); p++) {
		if (*p == '\\' && ++p == end)
			break;
		ASSERT(n < it->size);
		it->word[n++] = *p;
	}
	it->rest = slice_make(p, (size_t)(end - p));
	*word = slice_make(it->word, n);
	return true;
}

/* Without its first n bytes. */
static struct slice startup_skip(struct slice s, size_t n)
{
	return slice_make(s.p + n, s.n - n);
}

bool startup_options_next(struct startup_options *it, struct slice *name, struct slice *value)
{
	struct slice word;
	const char *eq = NULL;

	if (it->err != STARTUP_OK || !startup_options_word(it, &word))
		return false;
	if (slice_eq_str(word, "-c")) {
		if (!startup_options_word(it, &word))
			word.n = 0;
	} else if (word.n > 2 && (memcmp(word.p, "-c", 2) == 0 || memcmp(word.p, "--", 2) == 0)) {
		word = startup_skip(word, 2);
	} else {
		word.n = 0;
	}
	if (word.n > 0)
		eq = memchr(word.p, '=', word.n);
	if (eq == NULL) {
		it->err = STARTUP_E_OPTION_SYNTAX;
		return false;
	}
	*name = slice_make(word.p, (size_t)(eq - word.p));
	*value = startup_skip(word, name->n + 1);
	return true;
}
