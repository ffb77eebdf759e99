/*
 * From files to lines of fields.
 *
 *     file      lines; one that ends in a backslash goes on in the next
 *     line      fields between blanks; # begins a comment
 *     field     words between commas, with blanks around the commas if need be
 *     word      characters; "quoted" parts may hold blanks, commas and #, and a
 *               doubled quote is one
 *     @file     in the place of a word: the words of that file
 *     include file, include_if_exists file, include_dir directory
 *               a line of its own: the lines of those files
 *
 * That is PostgreSQL's form, with three differences on the safe side: a quote
 * must be closed; blanks before a comma do not end a field (PostgreSQL takes
 * "a ,b" for two fields, PgBouncer for one); and a backslash at the end of a
 * comment is part of the comment, since otherwise a stroke of the pen would
 * make a rule below it disappear.
 *
 * Whoever can write these files decides who gets in, so the limits here are
 * not against attackers but against a mistake that takes the process down:
 * files that include each other, or a log file taken for rules. Lines may hold
 * the password of an LDAP server, so all text is wiped before it is freed.
 */
#include "auth/rulefile.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "core/alloc.h"

#define RULEFILE_CHUNK 65536

/* ---- the file system ---- */

static void rulefile_free_text(char *text, size_t len)
{
	mem_wipe(text, len);
	free(text);
}

/* Twice the room for the text; the old one is wiped, as it may hold passwords of LDAP. */
static char *rulefile_grow(char *text, size_t size)
{
	char *grown = xmalloc(size * 2);

	memcpy(grown, text, size);
	mem_wipe(text, size);
	free(text);
	return grown;
}

static int rulefile_read_disk(void *ctx UNUSED, const char *path, size_t max, char **text, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = RULEFILE_CHUNK;
	ssize_t n = 1;
	int err;

	if (fd < 0)
		return -E_SYS;
	*len = 0;
	*text = xmalloc(size);
	while (n != 0) {
		if (*len == size) {
			*text = rulefile_grow(*text, size);
			size *= 2;
		}
		n = read(fd, *text + *len, size - *len);
		if (n > 0)
			*len += (size_t)n;
		if (*len > max)
			errno = EFBIG;
		if (*len > max || (n < 0 && errno != EINTR))
			break;
	}
	err = errno;
	close(fd);
	if (n == 0)
		return 0;
	rulefile_free_text(*text, *len);
	errno = err;
	return -E_SYS;
}

static int rulefile_list_disk(void *ctx UNUSED, const char *path, char ***names, size_t *count)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (dir == NULL)
		return -E_SYS;
	*names = NULL;
	*count = 0;
	while ((entry = readdir(dir)) != NULL) {
		*names = xrealloc(*names, (*count + 1) * sizeof(**names));
		(*names)[(*count)++] = xstrdup(entry->d_name);
	}
	closedir(dir);
	return 0;
}

const struct rulefile_io rulefile_disk = { rulefile_read_disk, rulefile_list_disk, NULL };

/* ---- one physical and one logical line ---- */

/* A file that is being read, and through `from` those that include it. */
struct rulefile_place {
	const struct rulefile_place *from; /* NULL: the first one */
	const char *path;
	unsigned depth;
};

/* What the reading of one file has at hand. */
struct rulefile_reader {
	const struct rulefile_io *io;
	struct rulefile *out;
	struct rulefile_place place;
};

/* The logical line in `line`->text, word by word. */
struct rulefile_cursor {
	struct rulefile_reader *reader;
	struct rulefile_line *line;
	const char *p;
};

PRINTF_LIKE(3, 4)
static void rulefile_set_fault(struct rulefile_line *line, const char *hint, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (line->fault != NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	line->fault = xstrdup(text);
	line->hint = xstrdup(hint);
}

static bool rulefile_is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* Where the comment of a physical line begins, or its end. `in_quote` goes on from one physical line to the next. */
static size_t rulefile_content(const char *text, size_t n, bool *in_quote)
{
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '"')
			*in_quote = !*in_quote;
		else if (text[i] == '#' && !*in_quote)
			return i;
	}
	return n;
}

/*
 * Takes a logical line off the text, from *at on. Its content, without comment
 * and joined, is appended to `dst`, which has room for the rest of the text.
 * Returns the number of physical lines.
 */
static unsigned rulefile_take_line(const char *text, size_t len, size_t *at, char *dst, size_t *n)
{
	bool in_quote = false;
	unsigned count = 0;

	*n = 0;
	while (*at < len) {
		const char *begin = text + *at;
		const char *newline = memchr(begin, '\n', len - *at);
		size_t whole = newline == NULL ? len - *at : (size_t)(newline - begin);
		size_t content = rulefile_content(begin, whole, &in_quote);
		bool has_comment = content < whole;

		*at += whole + (newline != NULL);
		count++;
		if (!has_comment && content > 0 && begin[content - 1] == '\r')
			content--;
		memcpy(dst + *n, begin, content);
		*n += content;
		if (has_comment || content == 0 || begin[content - 1] != '\\')
			break;
		(*n)--;
	}
	return count;
}

/* ---- words ---- */

static void rulefile_add_word(struct rulefile_field *field, char *text, bool quoted)
{
	/* The array grows when the count is a power of two. */
	if ((field->count & (field->count - 1)) == 0)
		field->words =
			xrealloc(field->words, (field->count == 0 ? 1 : field->count * 2) * sizeof(*field->words));
	field->words[field->count++] = (struct rulefile_word){ text, quoted };
}

static void rulefile_skip_blanks(struct rulefile_cursor *c)
{
	while (rulefile_is_blank(*c->p))
		c->p++;
}

/* Reads the word at the cursor, which is not at a blank or comma; NULL when its quotes are wrong. To be freed. */
static char *rulefile_read_word(struct rulefile_cursor *c, bool *quoted)
{
	char text[RULEFILE_WORD_MAX];
	bool in_quote = false;
	char *word;
	size_t n = 0;

	*quoted = *c->p == '"';
	for (; *c->p != '\0' && (in_quote || (*c->p != ',' && !rulefile_is_blank(*c->p))); c->p++) {
		if (*c->p == '"') {
			bool is_doubled = in_quote && c->p[1] == '"';

			if (!is_doubled) {
				in_quote = !in_quote;
				continue;
			}
			c->p++;
		}
		if (n == RULEFILE_WORD_MAX) {
			rulefile_set_fault(c->line, NULL, "a word is longer than %d bytes", RULEFILE_WORD_MAX);
			return NULL;
		}
		text[n++] = *c->p;
	}
	if (in_quote) {
		rulefile_set_fault(c->line, "each \" needs another one on the same line; inside of quotes \"\" is one",
				   "a quote is not closed");
		return NULL;
	}
	word = slice_dup(slice_make(text, n));
	mem_wipe(text, n);
	return word;
}

static int rulefile_open(struct rulefile_reader *r, struct rulefile_line *line, const char *name, bool may_lack,
			 char **path, char **text, size_t *len);
static void rulefile_read_names(struct rulefile_cursor *c, struct rulefile_field *field, const char *name);

/* Reads the words of one list; false when the line has a fault. */
static bool rulefile_read_list(struct rulefile_cursor *c, struct rulefile_field *field)
{
	bool quoted;

	for (;;) {
		char *text = rulefile_read_word(c, &quoted);

		if (text == NULL)
			return false;
		if (!quoted && text[0] == '@' && text[1] != '\0') {
			rulefile_read_names(c, field, text + 1);
			free(text);
		} else {
			rulefile_add_word(field, text, quoted);
		}
		if (c->line->fault != NULL)
			return false;
		rulefile_skip_blanks(c);
		if (*c->p != ',')
			return true;
		while (*c->p == ',' || rulefile_is_blank(*c->p))
			c->p++;
		if (*c->p == '\0') {
			rulefile_set_fault(c->line, NULL, "nothing follows the comma at the end");
			return false;
		}
	}
}

static void rulefile_fini_field(struct rulefile_field *field)
{
	for (size_t i = 0; i < field->count; i++)
		free_secret(field->words[i].text);
	free(field->words);
}

/* The fields of the line's text, those in front of a fault. */
static void rulefile_read_fields(struct rulefile_cursor *c)
{
	struct rulefile_line *line = c->line;

	for (;;) {
		struct rulefile_field field = { 0 };
		bool is_good;

		rulefile_skip_blanks(c);
		if (*c->p == '\0')
			break;
		if (*c->p == ',') {
			rulefile_set_fault(line, NULL, "a comma where a word is due");
			break;
		}
		is_good = rulefile_read_list(c, &field);
		field.rest = (size_t)(c->p - line->text);
		if (is_good && field.count == 0) {
			rulefile_set_fault(line, NULL, "a file of names has none");
			is_good = false;
		}
		if (!is_good) {
			rulefile_fini_field(&field);
			break;
		}
		line->fields = xrealloc(line->fields, (line->count + 1) * sizeof(*line->fields));
		line->fields[line->count++] = field;
	}
}

static void rulefile_fini_line(struct rulefile_line *line)
{
	for (size_t i = 0; i < line->count; i++)
		rulefile_fini_field(&line->fields[i]);
	free(line->fields);
	free_secret(line->text);
	free(line->fault);
	free(line->hint);
}

/* ---- files ---- */

/* A name in a file is relative to that file's directory. To be freed. */
static char *rulefile_resolve(const char *base, const char *name)
{
	const char *slash = strrchr(base, '/');
	size_t n = slash == NULL ? 0 : (size_t)(slash + 1 - base);
	size_t size = n + strlen(name) + 1;
	char *path;

	if (name[0] == '/' || n == 0)
		return xstrdup(name);
	path = xmalloc(size);
	memcpy(path, base, n);
	memcpy(path + n, name, size - n);
	return path;
}

/* Reads a file, and remembers it; the text is NUL-terminated. -E_SYS with errno. */
static int rulefile_slurp(struct rulefile_reader *r, const char *path, char **text, size_t *len)
{
	struct rulefile *out = r->out;
	size_t left = RULEFILE_TOTAL_MAX - out->bytes;
	int rc = r->io->read_file(r->io->ctx, path, left < RULEFILE_FILE_MAX ? left : RULEFILE_FILE_MAX, text, len);

	if (rc < 0)
		return rc;
	out->bytes += *len;
	out->files = xrealloc(out->files, (out->file_count + 1) * sizeof(*out->files));
	out->files[out->file_count++] = xstrdup(path);
	return 0;
}

/*
 * Reads the file that a line names. 0 with *path (to be freed) and *text (to
 * be freed); -E_NOENT when it is not there and may lack; another error has
 * become the fault of the line.
 */
static int rulefile_open(struct rulefile_reader *r, struct rulefile_line *line, const char *name, bool may_lack,
			 char **path, char **text, size_t *len)
{
	*path = rulefile_resolve(r->place.path, name);
	for (const struct rulefile_place *p = &r->place; p != NULL; p = p->from) {
		if (strcmp(p->path, *path) == 0) {
			rulefile_set_fault(line, NULL, "the file \"%s\" includes itself", *path);
			goto fail;
		}
	}
	if (r->place.depth >= RULEFILE_DEPTH_MAX) {
		rulefile_set_fault(line, NULL, "the file \"%s\" is included through more than %d others", *path,
				   RULEFILE_DEPTH_MAX);
		goto fail;
	}
	if (rulefile_slurp(r, *path, text, len) == 0)
		return 0;
	if (may_lack && errno == ENOENT) {
		free(*path);
		return -E_NOENT;
	}
	rulefile_set_fault(line, NULL, "could not read the file \"%s\": %s", *path, strerror(errno));
fail:
	free(*path);
	return -E_IO;
}

/* The text of a file without a mark of its encoding in front. */
static size_t rulefile_skip_mark(const char *text, size_t len)
{
	return len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

/* All words of a file of names become words of the field; a fault becomes the line's. */
static void rulefile_read_names(struct rulefile_cursor *c, struct rulefile_field *field, const char *name)
{
	struct rulefile_reader inner = *c->reader;
	struct rulefile_cursor names = { &inner, c->line, NULL };
	char *path;
	char *text;
	char *line;
	size_t len;
	size_t at;
	size_t n;

	if (rulefile_open(c->reader, c->line, name, false, &path, &text, &len) < 0)
		return;
	inner.place = (struct rulefile_place){ &c->reader->place, path, c->reader->place.depth + 1 };
	line = xmalloc(len + 1);
	for (at = rulefile_skip_mark(text, len); at < len && c->line->fault == NULL;) {
		(void)rulefile_take_line(text, len, &at, line, &n);
		line[n] = '\0';
		if (strlen(line) != n)
			rulefile_set_fault(c->line, NULL, "the file \"%s\" holds a zero byte", path);
		names.p = line;
		while (c->line->fault == NULL) {
			while (*names.p == ',' || rulefile_is_blank(*names.p))
				names.p++;
			if (*names.p == '\0' || !rulefile_read_list(&names, field))
				break;
		}
	}
	rulefile_free_text(line, len);
	rulefile_free_text(text, len);
	free(path);
}

static void rulefile_read_text(struct rulefile_reader *r, const char *text, size_t len);

/* The lines of another file in the place of the line; a fault becomes the line's. */
static void rulefile_include(struct rulefile_reader *r, struct rulefile_line *line, const char *name, bool may_lack)
{
	struct rulefile_reader inner = *r;
	char *path;
	char *text;
	size_t len;

	if (rulefile_open(r, line, name, may_lack, &path, &text, &len) < 0)
		return;
	inner.place = (struct rulefile_place){ &r->place, path, r->place.depth + 1 };
	rulefile_read_text(&inner, text, len);
	rulefile_free_text(text, len);
	free(path);
}

static int rulefile_compare_names(const void *a, const void *b)
{
	const char *const *x = a;
	const char *const *y = b;

	return strcmp(*x, *y);
}

/* As PostgreSQL: names that end in .conf and do not begin with a dot, sorted by bytes. */
static bool rulefile_is_conf(const char *name)
{
	size_t n = strlen(name);

	return name[0] != '.' && n > 5 && strcmp(name + n - 5, ".conf") == 0;
}

static void rulefile_include_dir(struct rulefile_reader *r, struct rulefile_line *line, const char *name)
{
	char *dir = rulefile_resolve(r->place.path, name);
	char **names = NULL;
	size_t count = 0;

	if (r->io->list_dir(r->io->ctx, dir, &names, &count) < 0) {
		rulefile_set_fault(line, NULL, "could not read the directory \"%s\": %s", dir, strerror(errno));
		free(dir);
		return;
	}
	if (count > 0)
		qsort(names, count, sizeof(*names), rulefile_compare_names);
	for (size_t i = 0; i < count; i++) {
		if (rulefile_is_conf(names[i])) {
			size_t size = strlen(name) + strlen(names[i]) + 2;
			char *path = xmalloc(size);

			str_format(path, size, "%s/%s", name, names[i]);
			rulefile_include(r, line, path, false);
			free(path);
		}
		free(names[i]);
	}
	free(names);
	free(dir);
}

/* True when the line says that others stand in its place, which are then there. A fault becomes the line's. */
static bool rulefile_follow(struct rulefile_reader *r, struct rulefile_line *line)
{
	const char *word;
	const char *name;

	if (line->fault != NULL || line->count != 2 || line->fields[0].count != 1 || line->fields[0].words[0].quoted)
		return false;
	word = line->fields[0].words[0].text;
	name = line->fields[1].words[0].text;
	if (strncmp(word, "include", 7) != 0)
		return false;
	if (line->fields[1].count != 1) {
		rulefile_set_fault(line, "quote a name with a comma", "%s takes one name", word);
		line->is_blind = true;
		return false;
	}
	if (strcmp(word, "include") == 0)
		rulefile_include(r, line, name, false);
	else if (strcmp(word, "include_if_exists") == 0)
		rulefile_include(r, line, name, true);
	else if (strcmp(word, "include_dir") == 0)
		rulefile_include_dir(r, line, name);
	else
		return false;
	line->is_blind = line->fault != NULL;
	return !line->is_blind;
}

static void rulefile_add_line(struct rulefile *out, const struct rulefile_line *line)
{
	if (out->count == out->room) {
		out->room = out->room == 0 ? 32 : out->room * 2;
		out->lines = xrealloc(out->lines, out->room * sizeof(*out->lines));
	}
	out->lines[out->count++] = *line;
}

static bool rulefile_is_empty(const char *text)
{
	while (rulefile_is_blank(*text))
		text++;
	return *text == '\0';
}

/* A logical line: to the list, or what it includes. Takes what `line` holds. */
static void rulefile_take(struct rulefile_reader *r, struct rulefile_line *line, size_t n)
{
	struct rulefile_cursor c = { r, line, line->text };

	if (strlen(line->text) != n)
		rulefile_set_fault(line, NULL, "it holds a zero byte");
	else if (n > RULEFILE_LINE_MAX)
		rulefile_set_fault(line, NULL, "it is longer than %d bytes", RULEFILE_LINE_MAX);
	else if (r->out->count >= RULEFILE_LINES_MAX)
		rulefile_set_fault(line, NULL, "there are more than %d lines", RULEFILE_LINES_MAX);
	line->is_blind = line->fault != NULL;
	if (!line->is_blind)
		rulefile_read_fields(&c);
	if (rulefile_follow(r, line) || (line->fault == NULL && line->count == 0))
		rulefile_fini_line(line);
	else
		rulefile_add_line(r->out, line);
}

/* All lines of a text; its file is the last one that was read. */
static void rulefile_read_text(struct rulefile_reader *r, const char *text, size_t len)
{
	const char *file = r->out->files[r->out->file_count - 1];
	char *joined = xmalloc(len + 1);
	unsigned number = 1;
	size_t n;

	for (size_t at = rulefile_skip_mark(text, len); at < len && r->out->count <= RULEFILE_LINES_MAX;) {
		struct rulefile_line line = { .file = file, .number = number };

		number += rulefile_take_line(text, len, &at, joined, &n);
		joined[n] = '\0';
		if (strlen(joined) == n && rulefile_is_empty(joined))
			continue;
		line.text = xmalloc(n + 1);
		memcpy(line.text, joined, n + 1);
		rulefile_take(r, &line, n);
	}
	rulefile_free_text(joined, len);
}

int rulefile_read(const struct rulefile_io *io, const char *path, struct rulefile *out)
{
	struct rulefile_reader r = { io, out, { NULL, path, 0 } };
	char *text;
	size_t len;
	int rc;

	*out = (struct rulefile){ 0 };
	rc = rulefile_slurp(&r, path, &text, &len);
	if (rc < 0)
		return rc;
	rulefile_read_text(&r, text, len);
	rulefile_free_text(text, len);
	return 0;
}

void rulefile_fini(struct rulefile *rf)
{
	for (size_t i = 0; i < rf->count; i++)
		rulefile_fini_line(&rf->lines[i]);
	for (size_t i = 0; i < rf->file_count; i++)
		free(rf->files[i]);
	free(rf->lines);
	free(rf->files);
	*rf = (struct rulefile){ 0 };
}

static bool rulefile_is_same_field(const struct rulefile_field *a, const struct rulefile_field *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (a->words[i].quoted != b->words[i].quoted || strcmp(a->words[i].text, b->words[i].text) != 0)
			return false;
	}
	return true;
}

static bool rulefile_is_same_line(const struct rulefile_line *a, const struct rulefile_line *b)
{
	if (a->count != b->count || strcmp(a->text, b->text) != 0)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (!rulefile_is_same_field(&a->fields[i], &b->fields[i]))
			return false;
	}
	return true;
}

bool rulefile_is_equal(const struct rulefile *a, const struct rulefile *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (!rulefile_is_same_line(&a->lines[i], &b->lines[i]))
			return false;
	}
	return true;
}
