/*
 * What the tests of rules and maps share: files in memory, and a report that
 * keeps all that was said.
 */
#ifndef PGSLUICE_TEST_RULES_H
#define PGSLUICE_TEST_RULES_H

#include "auth/ident.h"
#include "core/alloc.h"
#include "core/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct rules_file {
	const char *path; /* NULL: the last one */
	const char *text;
	size_t len; /* 0: up to its NUL */
};

static inline int rules_read(void *ctx, const char *path, size_t max, char **text, size_t *len)
{
	for (const struct rules_file *f = ctx; f->path != NULL; f++) {
		if (strcmp(f->path, path) != 0)
			continue;
		*len = f->len > 0 ? f->len : strlen(f->text);
		if (*len > max) {
			errno = EFBIG;
			return -E_SYS;
		}
		*text = xmalloc(*len + 1);
		memcpy(*text, f->text, *len);
		return 0;
	}
	errno = ENOENT;
	return -E_SYS;
}

/* The names of all files under the directory, in reverse order, and some that are no configuration. */
static inline int rules_list(void *ctx, const char *path, char ***names, size_t *count)
{
	const struct rules_file *files = ctx;
	size_t n = strlen(path);
	size_t total = 0;

	while (files[total].path != NULL)
		total++;
	*names = xcalloc(total + 3, sizeof(**names));
	*count = 0;
	for (size_t i = total; i > 0; i--) {
		const char *file = files[i - 1].path;

		if (strncmp(file, path, n) == 0 && file[n] == '/')
			(*names)[(*count)++] = xstrdup(file + n + 1);
	}
	if (*count == 0) {
		free(*names);
		errno = ENOENT;
		return -E_SYS;
	}
	(*names)[(*count)++] = xstrdup(".hidden.conf");
	(*names)[(*count)++] = xstrdup("notes.txt");
	(*names)[(*count)++] = xstrdup(".conf");
	return 0;
}

static inline struct rulefile_io rules_io(const struct rules_file *files)
{
	return (struct rulefile_io){ rules_read, rules_list, (void *)(uintptr_t)files };
}

/* What a load has said, a line each, as "W text" or "E text (hint)". */
static char rules_said[8192];

static inline void rules_say(void *ctx, enum log_level level, const char *text, const char *hint)
{
	(void)ctx;
	str_append(rules_said, sizeof(rules_said), "%c %s", level == LOG_LVL_WARNING ? 'W' : 'E', text);
	if (hint != NULL)
		str_append(rules_said, sizeof(rules_said), " (%s)", hint);
	str_append(rules_said, sizeof(rules_said), "\n");
}

static inline struct rule_report rules_report(bool is_strict)
{
	rules_said[0] = '\0';
	return (struct rule_report){ is_strict, rules_say, NULL };
}

static inline void rules_check_said(const char *part)
{
	if (strstr(rules_said, part) == NULL)
		fail_msg("\"%s\" is not in:\n%s", part, rules_said);
}

#endif
