/*
 * The classifier of SQL texts as a filter, for test_classifier.py. A line of
 * input is the setting of standard_conforming_strings (1 or 0), a space, and
 * the text in hexadecimal. A line of output is the result, the number of
 * statements and the kinds, apart by tabs; then what classify_deallocate()
 * says, and the name in hexadecimal.
 */
#include "core/base.h"

#include "proto/classify.h"

/* Decodes in place; returns the bytes. */
static size_t program_unhex(char *line)
{
	size_t n = 0;

	for (; isxdigit((unsigned char)line[2 * n]) && isxdigit((unsigned char)line[2 * n + 1]); n++) {
		const char pair[3] = { line[2 * n], line[2 * n + 1], '\0' };

		line[n] = (char)strtoul(pair, NULL, 16);
	}
	return n;
}

static void program_answer(struct slice sql, bool scs)
{
	static const char *const answers[] = { "none", "name", "all" };
	struct classify_name name;
	struct classify c;
	int rc;

	classify_init(&c, scs ? CLASSIFY_F_SCS : 0);
	for (size_t i = 0; i < sql.n; i++)
		classify_feed(&c, sql.p + i, 1);
	rc = classify_end(&c);
	printf("%s\t%" PRIu64 "\t", err_str(rc), c.statements);
	for (unsigned i = 0; i < CLASSIFY_KINDS_N; i++)
		if (c.kinds & CLASSIFY_BIT(i))
			printf("%s,", classify_kind_name((enum classify_kind)i));
	printf("\t%s\t", answers[classify_deallocate(sql, scs, &name)]);
	for (unsigned i = 0; i < name.n; i++)
		printf("%02x", (unsigned char)name.text[i]);
	putchar('\n');
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, stdin) > 2) {
		size_t n = program_unhex(line + 2);

		program_answer(slice_make(line + 2, n), line[0] == '1');
	}
	free(line);
	return 0;
}
