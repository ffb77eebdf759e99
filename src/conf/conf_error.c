#include "conf/conf_int.h"

#include <stdarg.h>

#include "core/alloc.h"

void conf_error_init(struct conf_error *err)
{
	*err = (struct conf_error){ 0 };
}

void conf_error_fini(struct conf_error *err)
{
	for (size_t i = 0; i < err->count; i++)
		free(err->messages[i].text);
	free(err->messages);
	free(err->file);
	free(err->what);
	free(err->hint);
	conf_error_init(err);
}

PRINTF_LIKE(1, 0) static char *conf_error_vformat(const char *fmt, va_list ap)
{
	va_list again;
	char *text;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	ASSERT(n >= 0);
	text = xmalloc((size_t)n + 1);
	n = vsnprintf(text, (size_t)n + 1, fmt, ap);
	ASSERT(n >= 0);
	return text;
}

void conf_error_log(struct conf_error *err, enum log_level level, const char *fmt, ...)
{
	va_list ap;

	err->messages = xrealloc(err->messages, (err->count + 1) * sizeof(*err->messages));
	va_start(ap, fmt);
	err->messages[err->count++] = (struct conf_message){ level, conf_error_vformat(fmt, ap) };
	va_end(ap);
}

void conf_error_set(struct conf_error *err, const char *hint, const char *fmt, ...)
{
	va_list ap;

	if (err->what != NULL)
		return;
	va_start(ap, fmt);
	err->what = conf_error_vformat(fmt, ap);
	va_end(ap);
	err->hint = xstrdup(hint);
}

void conf_error_place(struct conf_error *err, const char *file, unsigned line)
{
	if (err->file != NULL)
		return;
	err->file = xstrdup(file);
	err->line = line;
}

void conf_error_take(struct conf_error *err, struct conf_error *from)
{
	if (from->count > 0) {
		err->messages = xrealloc(err->messages, (err->count + from->count) * sizeof(*err->messages));
		memcpy(err->messages + err->count, from->messages, from->count * sizeof(*err->messages));
		err->count += from->count;
		from->count = 0;
	}
	if (err->what == NULL && from->what != NULL) {
		err->what = from->what;
		err->hint = from->hint;
		err->file = from->file;
		err->line = from->line;
		from->what = from->hint = from->file = NULL;
	}
	conf_error_fini(from);
}

#define CONF_NEAREST_MAX 48 /* longer words have no namesake */

static unsigned conf_error_min3(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;

	return least < c ? least : c;
}

/* How many single-letter changes lead from one word to the other. */
static unsigned conf_error_distance(const char *a, const char *b)
{
	unsigned row[CONF_NEAREST_MAX + 1];
	size_t bn = strlen(b);

	ASSERT(bn <= CONF_NEAREST_MAX);
	for (unsigned j = 0; j <= bn; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1] != '\0'; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= bn; j++) {
			unsigned above = row[j];

			row[j] = conf_error_min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[bn];
}

const char *conf_error_nearest(const char *word, const char *(*name_at)(size_t i))
{
	size_t len = strlen(word);
	unsigned best = (unsigned)(len / 3) + 2; /* one more than is still near */
	const char *nearest = NULL;
	const char *name;

	if (len > CONF_NEAREST_MAX)
		return NULL;
	for (size_t i = 0; (name = name_at(i)) != NULL; i++) {
		unsigned distance;

		if (strlen(name) > CONF_NEAREST_MAX)
			continue;
		distance = conf_error_distance(word, name);
		if (distance < best) {
			best = distance;
			nearest = name;
		}
	}
	return nearest;
}
