/*
 * What the tests of this layer share: files in memory, and loads of them.
 */
#ifndef PGSLUICE_TEST_CONF_TEST_H
#define PGSLUICE_TEST_CONF_TEST_H

#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/str.h"

/* A file; a list of them ends with path NULL. */
struct mem_file {
	const char *path;
	const char *text;
	size_t len; /* 0: strlen(text) */
};

/* A conf_read_file over such a list. */
static inline int mem_read(void *ctx, const char *path, char **text, size_t *len)
{
	for (const struct mem_file *f = ctx; f->path != NULL; f++) {
		if (strcmp(f->path, path) != 0)
			continue;
		*len = f->len > 0 ? f->len : strlen(f->text);
		*text = xmalloc(*len + 1);
		memcpy(*text, f->text, *len);
		return 0;
	}
	errno = ENOENT;
	return -E_SYS;
}

/* Loads "main" of the list. */
static inline int load_files(const struct mem_file *files, struct conf **out, struct conf_error *err)
{
	conf_error_init(err);
	*out = NULL;
	return conf_load_from(mem_read, (void *)(uintptr_t)files, "main", out, err);
}

static inline int load_text(const char *text, struct conf **out, struct conf_error *err)
{
	struct mem_file files[] = { { "main", text, 0 }, { NULL, NULL, 0 } };

	return load_files(files, out, err);
}

/* The snapshot of a text that must load. */
static inline struct conf *load_good(const char *text)
{
	struct conf_error err;
	struct conf *conf;
	int rc = load_text(text, &conf, &err);

	if (rc != 0)
		fail_msg("did not load: %s (%s:%u)", err.what, err.file, err.line);
	conf_error_fini(&err);
	return conf;
}

/* Asserts that a text does not load, with this message among the others. */
static inline void load_bad(const char *text, int rc, const char *message)
{
	struct conf_error err;
	struct conf *conf;
	bool found = false;

	assert_int_equal(load_text(text, &conf, &err), rc);
	assert_null(conf);
	assert_non_null(err.what);
	for (size_t i = 0; i < err.count; i++)
		found = found || strcmp(err.messages[i].text, message) == 0;
	if (!found)
		fail_msg("no message \"%s\", first is \"%s\"", message, err.count > 0 ? err.messages[0].text : "");
	conf_error_fini(&err);
}

/* The value of a setting as SHOW CONFIG has it. */
static inline void assert_shows(const struct conf *conf, const char *key, const char *expected)
{
	char *text;

	assert_int_not_equal(conf_id_of(key), CONF_ID_COUNT);
	text = conf_show_value(conf, conf_id_of(key));
	if (expected == NULL)
		assert_null(text);
	else
		assert_string_equal(text, expected);
	free(text);
}

#endif
