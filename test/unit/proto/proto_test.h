/*
 * What the unit tests of the protocol layer share: cmocka with its needs, and
 * short ways to write bytes and to take messages out of a buffer.
 */
#ifndef PGSLUICE_TEST_PROTO_TEST_H
#define PGSLUICE_TEST_PROTO_TEST_H

#include "core/base.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/str.h"

/* A slice over a string literal, inner NULs included, without the last one. */
#define LIT(s) slice_make(s, sizeof(s) - 1)

#define assert_slice(actual, literal)                                           \
	do {                                                                    \
		struct slice slice_is_ = (actual);                              \
		assert_non_null(slice_is_.p);                                   \
		assert_int_equal(slice_is_.n, sizeof(literal) - 1);             \
		assert_memory_equal(slice_is_.p, literal, sizeof(literal) - 1); \
	} while (0)

/* The content of the buffer. */
static inline struct slice buf_slice(const struct buf *b)
{
	return buf_is_empty(b) ? slice_of("") : slice_make(buf_ptr(b), buf_len(b));
}

/*
 * A copy of the bytes in a block of exactly that size, so that a sanitizer
 * sees a read behind the end. The caller frees `p`.
 */
static inline struct slice exact_copy(struct slice s)
{
	char *p = malloc(s.n > 0 ? s.n : 1);

	assert_non_null(p);
	if (s.n > 0)
		memcpy(p, s.p, s.n);
	return slice_make(p, s.n);
}

/* The body of the only message in the buffer, after its header was checked. */
static inline struct slice only_body(const struct buf *b, uint8_t type)
{
	struct slice all = buf_slice(b);
	const uint8_t *p = (const uint8_t *)all.p;

	assert_true(all.n >= 5);
	assert_int_equal(p[0], type);
	assert_int_equal((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4], all.n - 1);
	return slice_make(all.p + 5, all.n - 5);
}

#endif
