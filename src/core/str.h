/*
 * Slices: a pointer and a length into memory that somebody else owns. Slices
 * are passed down by value and never kept.
 */
#ifndef PGSLUICE_CORE_STR_H
#define PGSLUICE_CORE_STR_H

#include "core/base.h"

struct slice {
	const char *p; /* not NUL-terminated; may be NULL when n is 0 */
	size_t n;
};

/* A slice over a NUL-terminated string. */
static inline struct slice slice_of(const char *s)
{
	return (struct slice){ s, s == NULL ? 0 : strlen(s) };
}

static inline struct slice slice_make(const void *p, size_t n)
{
	return (struct slice){ (const char *)p, n };
}

/* Byte-wise equality. */
static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *b)
{
	return slice_eq(a, slice_of(b));
}

/* Equality without regard to ASCII case. */
bool slice_ieq(struct slice a, struct slice b);

/* The slice without white space at either end. */
struct slice slice_trim(struct slice s);

/* Its beginning, `max` bytes at most, that does not end inside of a character of UTF-8. */
struct slice slice_cut(struct slice s, size_t max);

/* A fresh NUL-terminated copy, to be freed by the caller; aborts without memory. */
char *slice_dup(struct slice s) MUSTCHECK;

/* True for a text that is there and not empty. */
static inline bool str_is_set(const char *text)
{
	return text != NULL && text[0] != '\0';
}

/*
 * Copies the string into dst, always NUL-terminated. Returns false when it was
 * cut because dst has only `size` bytes.
 */
bool str_copy(char *dst, size_t size, const char *src);
bool str_copy_slice(char *dst, size_t size, struct slice src);

/* snprintf that returns the bytes really stored (without the NUL). */
size_t str_format(char *dst, size_t size, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Appends to the NUL-terminated string in dst; returns false when cut. */
bool str_append(char *dst, size_t size, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Overwrites memory in a way that the compiler does not remove. */
void mem_wipe(void *p, size_t n);

/* Compares in time that depends on n only; true when equal. */
bool mem_equal_ct(const void *a, const void *b, size_t n);

#endif
