/*
 * PgBouncer's ini dialect: sections, key = value lines, comments and includes.
 * Knows nothing of what keys mean.
 */
#ifndef PGSLUICE_CONF_INI_H
#define PGSLUICE_CONF_INI_H

#include "core/base.h"
#include "core/err.h"

/* Includes may nest this deep; a line may be this long. */
#define CONF_INI_MAX_DEPTH 10
#define CONF_INI_MAX_LINE  (1024 * 1024)

/* What a line says: a section begins (key and value NULL), or a key has a value. */
struct conf_ini_item {
	const char *section; /* NULL before the first header */
	const char *key;     /* quotes removed */
	const char *value;   /* blanks around it removed, else untouched */
	const char *file;    /* where it stands */
	unsigned line;       /* from 1 */
};

struct conf_ini_ops {
	/* Same contract as conf_read_file in conf.h. */
	int (*read_file)(void *ctx, const char *path, char **text, size_t *len);
	/*
	 * Returns 0 to go on; 1 to go on although the item is bad, so that the
	 * includes that led here count as failed; or -E_*, which ends the parse
	 * and becomes its result.
	 */
	int (*on_item)(void *ctx, const struct conf_ini_item *item);
	/* The dialect itself is broken at this place; the parse ends afterwards. */
	void (*on_error)(void *ctx, const char *file, unsigned line, const char *what, const char *hint);
	/* An include at this place failed; called from the innermost outwards. */
	void (*on_include_failed)(void *ctx, const char *file, unsigned line);
};

/*
 * Reads `path` and what it includes, in order. Returns 0, what on_item returned,
 * -E_SYNTAX after on_error, or -E_SYS when a file cannot be read (on_error has
 * been called for it as well, with line 0).
 */
int conf_ini_parse(const char *path, const struct conf_ini_ops *ops, void *ctx) MUSTCHECK;

#endif
