/*
 * Connect strings. What was understood must come out the same when every value
 * is written again in quotes.
 */
#include "fuzz.h"

#include "conf/connstr.h"
#include "core/alloc.h"

/* Appends key='value' with the quotes doubled; returns the new end. */
static char *fuzz_write_pair(char *p, struct slice key, const char *value)
{
	memcpy(p, key.p, key.n);
	p += key.n;
	*p++ = '=';
	*p++ = '\'';
	for (; *value != '\0'; value++) {
		if (*value == '\'')
			*p++ = '\'';
		*p++ = *value;
	}
	*p++ = '\'';
	*p++ = ' ';
	*p = '\0';
	return p;
}

/* Reads `text` and writes what was understood to `copy`; returns the last return code. */
static int fuzz_rewrite(const char *text, char *copy)
{
	struct slice whole = slice_of(text);
	struct connstr cs;
	struct slice key;
	const char *value;
	int rc;

	*copy = '\0';
	connstr_init(&cs, text);
	while ((rc = connstr_next(&cs, &key, &value)) == 1) {
		ASSERT(key.n > 0 && fuzz_is_inside(key, whole));
		ASSERT(value[0] != '\0' && strlen(value) < whole.n);
		copy = fuzz_write_pair(copy, key, value);
	}
	ASSERT(rc == 0 || rc == -E_SYNTAX);
	connstr_fini(&cs);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = slice_dup(slice_make(data, size));
	char *first = xmalloc(4 * size + 16);
	char *second = xmalloc(12 * size + 16);
	int rc;

	fuzz_rewrite(text, first);
	rc = fuzz_rewrite(first, second);
	ASSERT(rc == 0 && strcmp(first, second) == 0);
	free(text);
	free(first);
	free(second);
	return 0;
}
