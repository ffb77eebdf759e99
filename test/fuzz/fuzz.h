/*
 * What the fuzz targets share. A target is a function over bytes; libFuzzer
 * or replay_main.c calls it. A property that does not hold is an ASSERT.
 */
#ifndef PGSLUICE_TEST_FUZZ_H
#define PGSLUICE_TEST_FUZZ_H

#include "core/base.h"
#include "core/str.h"

/* Tries one input; always returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* True when the slice lies inside of the input, or is empty. */
static inline bool fuzz_is_inside(struct slice s, struct slice input)
{
	if (s.n == 0)
		return s.p != NULL;
	return s.p >= input.p && s.n <= input.n && s.p <= input.p + (input.n - s.n);
}

/* Takes the first n bytes off the input, fewer when it has fewer. */
static inline struct slice fuzz_take(struct slice *input, size_t n)
{
	struct slice taken;

	if (n > input->n)
		n = input->n;
	taken = slice_make(input->p, n);
	if (n > 0) {
		input->p += n;
		input->n -= n;
	}
	return taken;
}

/* Takes one byte, 0 at the end. */
static inline uint8_t fuzz_take_u8(struct slice *input)
{
	struct slice s = fuzz_take(input, 1);

	return s.n > 0 ? (uint8_t)s.p[0] : 0;
}

#endif
