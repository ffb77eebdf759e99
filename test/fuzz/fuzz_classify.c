/*
 * SQL texts, fed in pieces. The first byte holds the flags, the second seeds
 * the sizes of the pieces. However a text is cut, the result is the same, and
 * what is put before it in comments, statements and semicolons changes it
 * only as it should.
 */
#include "fuzz.h"

#include "proto/classify.h"

struct fuzz_result {
	struct classify c;
	int rc;
};

static struct fuzz_result fuzz_classify(struct slice text, unsigned flags, unsigned seed)
{
	struct fuzz_result r;

	classify_init(&r.c, flags);
	while (text.n > 0) {
		struct slice piece = fuzz_take(&text, seed == 0 ? text.n : seed % 61 + 1);
		char *exact = malloc(piece.n); /* so that one byte too far is seen */

		ASSERT(exact != NULL);
		memcpy(exact, piece.p, piece.n);
		classify_feed(&r.c, exact, piece.n);
		free(exact);
		seed = seed * 1103515245 + 12345;
		seed += seed == 0;
	}
	r.rc = classify_end(&r.c);
	return r;
}

static void fuzz_same(const struct fuzz_result *a, const struct fuzz_result *b)
{
	ASSERT(a->rc == b->rc && a->c.statements == b->c.statements && a->c.kinds == b->c.kinds);
	ASSERT(a->c.name.n == b->c.name.n && memcmp(a->c.name.text, b->c.name.text, a->c.name.n) == 0);
}

/* The text between a statement and a comment that says something else. */
static void fuzz_wrap(struct slice text, unsigned flags, const struct fuzz_result *is)
{
	static const char before[] = "LISTEN a /* /* ; */ LOAD 'x'; */ -- ';\n ; ";
	struct fuzz_result r;
	char *all = malloc(sizeof(before) - 1 + text.n);

	ASSERT(all != NULL);
	memcpy(all, before, sizeof(before) - 1);
	if (text.n > 0)
		memcpy(all + sizeof(before) - 1, text.p, text.n);
	r = fuzz_classify(slice_make(all, sizeof(before) - 1 + text.n), flags, 0);
	free(all);
	ASSERT(r.rc == is->rc && r.c.statements == is->c.statements + 1);
	ASSERT(r.c.kinds == (is->c.kinds | CLASSIFY_BIT(CLASSIFY_LISTEN)));
}

static void fuzz_deallocate(struct slice text, unsigned flags, const struct fuzz_result *is)
{
	struct classify_name name;
	enum classify_deallocate d = classify_deallocate(text, (flags & CLASSIFY_F_SCS) != 0, &name);

	ASSERT(name.n < CLASSIFY_NAME_SIZE && (name.n > 0) == (d == CLASSIFY_DEALLOCATE_NAME));
	if (d == CLASSIFY_DEALLOCATE_NONE)
		return;
	ASSERT(is->rc == 0 && is->c.statements == 1);
	ASSERT(is->c.kinds ==
	       CLASSIFY_BIT(d == CLASSIFY_DEALLOCATE_NAME ? CLASSIFY_DEALLOCATE : CLASSIFY_DEALLOCATE_ALL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_make(data, size);
	unsigned flags = fuzz_take_u8(&text) & CLASSIFY_F_SCS;
	unsigned seed = fuzz_take_u8(&text);
	struct fuzz_result whole = fuzz_classify(text, flags, 0);
	struct fuzz_result pieces = fuzz_classify(text, flags, seed + 1);

	fuzz_same(&whole, &pieces);
	ASSERT(whole.rc == 0 || whole.rc == -E_SYNTAX || whole.rc == -E_TOOBIG);
	ASSERT((whole.c.statements == 0) == (whole.c.kinds == 0));
	ASSERT(whole.c.kinds < CLASSIFY_BIT(CLASSIFY_KINDS_N) && whole.c.name.n < CLASSIFY_NAME_SIZE);
	fuzz_wrap(text, flags, &whole);
	fuzz_deallocate(text, flags, &whole);
	return 0;
}
