/*
 * inih drives, and we hold the road. PgBouncer's dialect and inih's differ in
 * ways that would silently change values: inih cuts lines at 200 bytes, takes
 * " ;" as the start of a comment, ':' as a second '=', an indented line as a
 * continuation, and knows neither quoted keys nor includes. All of these can be
 * compiled or switched differently on each system, so none is relied upon.
 *
 * Therefore the reader callback, which inih calls for each next line, does not
 * hand out the lines of the file. It lexes one directive by our own rules, keeps
 * section, key and value aside, and hands inih a neutral line in their place:
 *
 *     [my section]                        [s1]
 *                                         begin = 1
 *     'my db' = host=a ; not a comment    k2 = 2
 *
 * The numbers are serial; the handler checks that what comes back is what went
 * out last and passes the real text on. inih keeps the sequence of sections and
 * keys, its limits never meet text of ours.
 *
 * Includes are a stack of files in the lexer. The current section is a property
 * of the stream that inih sees, hence it goes on across files both ways.
 */
#include "conf/ini.h"

#include <ini.h>

#include "core/alloc.h"
#include "core/str.h"

/* A file that is being read. */
struct conf_ini_file {
	char *path;      /* as given */
	char *text;      /* from read_file */
	size_t len;      /* of text */
	const char *pos; /* next byte to lex */
	const char *end; /* one past the last; a NUL in the file ends it early */
	const char *bol; /* begin of the current line */
	unsigned line;   /* number of the current line */
	bool has_fault;  /* an item of it, or of a file that it includes, was bad */
};

struct conf_ini_parser {
	const struct conf_ini_ops *ops;
	void *ctx;
	struct conf_ini_file files[CONF_INI_MAX_DEPTH + 1];
	unsigned depth;  /* files open; the last one is read */
	char *section;   /* current section, NULL before the first */
	char *key;       /* of the directive in flight; NULL when it is a section */
	char *value;     /* likewise */
	unsigned serial; /* number of the directive in flight */
	unsigned line;   /* its line, in the file on top */
	bool announce;   /* the header is out, its "begin" line is not */
	int result;      /* first error */
};

enum conf_ini_token {
	CONF_INI_END,
	CONF_INI_SECTION,
	CONF_INI_ENTRY,
	CONF_INI_ERROR,
};

static bool conf_ini_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool conf_ini_is_key_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c != '\0' && strchr("_.-*", c) != NULL);
}

static struct conf_ini_file *conf_ini_top(struct conf_ini_parser *p)
{
	ASSERT(p->depth > 0);
	return &p->files[p->depth - 1];
}

static enum conf_ini_token conf_ini_fail(struct conf_ini_parser *p, const char *what, const char *hint)
{
	struct conf_ini_file *f = conf_ini_top(p);

	p->result = -E_SYNTAX;
	p->ops->on_error(p->ctx, f->path, f->line, what, hint);
	return CONF_INI_ERROR;
}

static enum conf_ini_token conf_ini_syntax_error(struct conf_ini_parser *p, const char *hint)
{
	return conf_ini_fail(p, "syntax error in configuration", hint);
}

/* Opens a file on top of the stack; the caller has checked the depth. */
static int conf_ini_push(struct conf_ini_parser *p, struct slice path)
{
	struct conf_ini_file f = { .path = slice_dup(path), .line = 1 };
	int rc = p->ops->read_file(p->ctx, f.path, &f.text, &f.len);
	const char *nul;
	char what[512];

	if (rc < 0) {
		str_format(what, sizeof(what), "could not load file \"%s\": %s", f.path, strerror(errno));
		p->ops->on_error(p->ctx, f.path, 0, what, NULL);
		free(f.path);
		return p->result = rc;
	}
	nul = f.len == 0 ? NULL : memchr(f.text, '\0', f.len);
	f.pos = f.bol = f.text;
	f.end = nul != NULL ? nul : f.text + f.len;
	p->files[p->depth++] = f;
	return 0;
}

/* Closes the file on top; an include that was no good makes the file around it no good. */
static void conf_ini_pop(struct conf_ini_parser *p)
{
	struct conf_ini_file *f = conf_ini_top(p);
	bool has_fault = f->has_fault || p->result < 0;

	free(f->path);
	mem_wipe(f->text, f->len); /* connect strings hold passwords */
	free(f->text);
	p->depth--;
	if (!has_fault || p->depth == 0)
		return;
	f = conf_ini_top(p);
	f->has_fault = true;
	p->ops->on_include_failed(p->ctx, f->path, f->line);
}

/* Moves to the next thing that is neither blank nor comment; false at the end of the file. */
static bool conf_ini_skip_blank(struct conf_ini_file *f)
{
	for (; f->pos < f->end; f->pos++) {
		if (*f->pos == '\n') {
			f->bol = f->pos + 1;
			f->line++;
		} else if (*f->pos == ';' || *f->pos == '#') {
			const char *nl = memchr(f->pos, '\n', (size_t)(f->end - f->pos));

			f->pos = (nl != NULL ? nl : f->end) - 1; /* the loop steps onto it */
		} else if (!conf_ini_is_space(*f->pos)) {
			return true;
		}
	}
	return false;
}

/* What is left of the current line, without its newline. */
static struct slice conf_ini_rest_of_line(const struct conf_ini_file *f)
{
	const char *nl = memchr(f->pos, '\n', (size_t)(f->end - f->pos));

	return slice_make(f->pos, (size_t)((nl != NULL ? nl : f->end) - f->pos));
}

static struct slice conf_ini_skip_blanks(struct slice s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	return s;
}

static struct slice conf_ini_trim_end(struct slice s)
{
	while (s.n > 0 && conf_ini_is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

static enum conf_ini_token conf_ini_lex_section(struct conf_ini_parser *p, struct slice rest)
{
	struct conf_ini_file *f = conf_ini_top(p);
	const char *close = memchr(rest.p, ']', rest.n);

	if (close == NULL)
		return conf_ini_syntax_error(p, "a section header ends with ] on the same line");
	free(p->section);
	p->section = slice_dup(slice_make(rest.p + 1, (size_t)(close - rest.p) - 1));
	f->pos = close + 1;
	return CONF_INI_SECTION;
}

/* Reads the key at the start of `rest`; false with the error reported. */
static bool conf_ini_lex_key(struct conf_ini_parser *p, struct slice *rest)
{
	size_t n = 0;

	if (rest->p[0] == '\'') {
		const char *close = memchr(rest->p + 1, '\'', rest->n - 1);

		if (close == NULL || close == rest->p + 1) {
			conf_ini_syntax_error(p, close == NULL ? "the name has no closing quote" : "the name is empty");
			return false;
		}
		n = (size_t)(close - rest->p) + 1;
		p->key = slice_dup(slice_make(rest->p + 1, n - 2));
	} else {
		while (n < rest->n && conf_ini_is_key_char(rest->p[n]))
			n++;
		if (n == 0) {
			conf_ini_syntax_error(
				p, "expected a name of letters, digits and _ . - *, or one in single quotes");
			return false;
		}
		p->key = slice_dup(slice_make(rest->p, n));
	}
	rest->p += n;
	rest->n -= n;
	return true;
}

static enum conf_ini_token conf_ini_lex_entry(struct conf_ini_parser *p, struct slice rest)
{
	struct conf_ini_file *f = conf_ini_top(p);
	const char *end = rest.p + rest.n;

	if (!conf_ini_lex_key(p, &rest))
		return CONF_INI_ERROR;
	rest = conf_ini_skip_blanks(rest);
	if (rest.n == 0 || rest.p[0] != '=')
		return conf_ini_syntax_error(p, "expected = after the name");
	rest = conf_ini_skip_blanks(slice_make(rest.p + 1, rest.n - 1));
	p->value = slice_dup(conf_ini_trim_end(rest));
	f->pos = end;
	return CONF_INI_ENTRY;
}

/* Takes an include directive; the new file is on top afterwards. */
static int conf_ini_lex_include(struct conf_ini_parser *p, struct slice rest)
{
	static const char word[] = "%include";
	struct conf_ini_file *f = conf_ini_top(p);
	struct slice path = slice_make(rest.p + sizeof(word) - 1, rest.n - (sizeof(word) - 1));
	struct slice trimmed = conf_ini_trim_end(conf_ini_skip_blanks(path));

	if (trimmed.n == 0 || trimmed.p == path.p) {
		conf_ini_syntax_error(p, "%include is followed by a blank and the name of a file");
		return -E_SYNTAX;
	}
	if (p->depth > CONF_INI_MAX_DEPTH) {
		conf_ini_fail(p, "include nesting level too deep", "files may include each other 10 levels deep");
		return -E_SYNTAX;
	}
	f->pos = rest.p + rest.n;
	if (conf_ini_push(p, trimmed) == 0)
		return 0;
	p->ops->on_include_failed(p->ctx, f->path, f->line);
	return p->result;
}

/* Lexes the next directive into the parser. */
static enum conf_ini_token conf_ini_lex(struct conf_ini_parser *p)
{
	for (;;) {
		struct conf_ini_file *f = conf_ini_top(p);
		struct slice rest;

		if (!conf_ini_skip_blank(f)) {
			if (p->depth == 1)
				return CONF_INI_END;
			conf_ini_pop(p);
			continue;
		}
		rest = conf_ini_rest_of_line(f);
		if ((size_t)(rest.p + rest.n - f->bol) > CONF_INI_MAX_LINE)
			return conf_ini_syntax_error(p, "a line may have 1048576 bytes");
		p->line = f->line;
		if (rest.p[0] == '[')
			return conf_ini_lex_section(p, rest);
		if (rest.n < 8 || memcmp(rest.p, "%include", 8) != 0)
			return conf_ini_lex_entry(p, rest);
		if (conf_ini_lex_include(p, rest) < 0)
			return CONF_INI_ERROR;
	}
}

static void conf_ini_drop_directive(struct conf_ini_parser *p)
{
	free(p->key);
	free_secret(p->value);
	p->key = p->value = NULL;
}

/* The reader that inih calls; like fgets(). */
static char *conf_ini_reader_cb(char *line, int size, void *stream)
{
	struct conf_ini_parser *p = stream;

	ASSERT(size > 32);
	if (p->result < 0)
		return NULL;
	if (p->announce) {
		p->announce = false;
		str_format(line, (size_t)size, "begin=%u\n", p->serial);
		return line;
	}
	conf_ini_drop_directive(p);
	p->serial++;
	switch (conf_ini_lex(p)) {
	case CONF_INI_SECTION:
		p->announce = true;
		str_format(line, (size_t)size, "[s%u]\n", p->serial);
		return line;
	case CONF_INI_ENTRY:
		str_format(line, (size_t)size, "k%u=%u\n", p->serial, p->serial);
		return line;
	case CONF_INI_END:
	case CONF_INI_ERROR:
		break;
	}
	return NULL;
}

/* The handler that inih calls for each neutral line; nonzero is success. */
static int conf_ini_handler_cb(void *user, const char *section UNUSED, const char *name, const char *value)
{
	struct conf_ini_parser *p = user;
	struct conf_ini_item item = {
		.section = p->section,
		.key = p->key,
		.value = p->value,
		.file = conf_ini_top(p)->path,
		.line = p->line,
	};
	int rc;

	if (name == NULL || value == NULL)
		return 1; /* some builds of inih announce headers as well */
	ASSERT(strtoul(value, NULL, 10) == p->serial && (p->key == NULL) == (strcmp(name, "begin") == 0));
	rc = p->ops->on_item(p->ctx, &item);
	if (rc != 0)
		conf_ini_top(p)->has_fault = true;
	if (rc < 0)
		p->result = rc;
	return rc >= 0;
}

int conf_ini_parse(const char *path, const struct conf_ini_ops *ops, void *ctx)
{
	struct conf_ini_parser p = { .ops = ops, .ctx = ctx };
	int rc = conf_ini_push(&p, slice_of(path));

	if (rc < 0)
		return rc;
	rc = ini_parse_stream(conf_ini_reader_cb, &p, conf_ini_handler_cb, &p);
	if (rc != 0 && p.result == 0)
		p.result = -E_NOMEM; /* nothing else can go wrong with neutral lines */
	while (p.depth > 0)
		conf_ini_pop(&p);
	conf_ini_drop_directive(&p);
	free(p.section);
	return p.result;
}
