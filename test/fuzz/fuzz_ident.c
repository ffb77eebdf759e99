/*
 * Files of maps. The first line of the input is the name elsewhere, the second
 * the user, the rest is the file. A refused file is one with a fault, and a
 * map without a line matches nobody.
 */
#include "fuzz.h"

#include "auth/ident.h"
#include "core/alloc.h"

static int fuzz_read(void *ctx, const char *path, size_t max, char **text, size_t *len)
{
	const struct slice *file = ctx;

	if (strcmp(path, "ident") != 0 || file->n > max) {
		errno = ENOENT;
		return -E_SYS;
	}
	*len = file->n;
	*text = xmalloc(*len + 1);
	if (*len > 0)
		memcpy(*text, file->p, *len);
	return 0;
}

static int fuzz_list(void *ctx UNUSED, const char *path UNUSED, char ***names UNUSED, size_t *count UNUSED)
{
	errno = ENOENT;
	return -E_SYS;
}

static void fuzz_say(void *ctx, enum log_level level UNUSED, const char *text, const char *hint UNUSED)
{
	ASSERT(text[0] != '\0');
	++*(unsigned *)ctx;
}

static enum rule_answer fuzz_ask(void *ctx UNUSED, const char *group)
{
	ASSERT(group[0] != '\0');
	return (enum rule_answer)(group[0] & 3);
}

/* The next line of the input as a string. */
static char *fuzz_take_line(struct slice *input)
{
	const char *end = input->n == 0 ? NULL : memchr(input->p, '\n', input->n);
	struct slice line = fuzz_take(input, end == NULL ? input->n : (size_t)(end - input->p) + 1);

	return slice_dup(slice_make(line.p, end == NULL ? line.n : line.n - 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_make(data, size);
	char *name = fuzz_take_line(&text);
	char *user = fuzz_take_line(&text);
	struct rulefile_io io = { fuzz_read, fuzz_list, &text };
	unsigned faults = 0;
	struct rule_report report = { false, fuzz_say, &faults };
	struct ident *ident = NULL;
	struct ident *strict = NULL;
	struct ident_question q = { .map = "m", .name = name, .user = user, .ask = fuzz_ask };
	int rc = ident_load(&io, "ident", &report, &ident);

	ASSERT(rc == 0);
	report.is_strict = true;
	rc = ident_load(&io, "ident", &report, &strict);
	ASSERT((rc == 0) == (faults == 0) && (rc == 0) == (strict != NULL));
	ASSERT(ident_matches(ident, &q) == RULE_NO || ident_has_map(ident, "m"));
	if (strict != NULL) {
		ASSERT(ident_is_equal(ident, strict));
		ASSERT(ident_matches(ident, &q) == ident_matches(strict, &q));
	}
	ident_release(&ident);
	ident_release(&strict);
	free(name);
	free(user);
	return 0;
}
