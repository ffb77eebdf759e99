#include "core/str.h"

#include <stdarg.h>

#include "core/alloc.h"

bool slice_ieq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

struct slice slice_trim(struct slice s)
{
	while (s.n > 0 && isspace((unsigned char)s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && isspace((unsigned char)s.p[s.n - 1]))
		s.n--;
	return s;
}

struct slice slice_cut(struct slice s, size_t max)
{
	if (s.n <= max)
		return s;
	s.n = max;
	while (s.n > 0 && ((unsigned char)s.p[s.n] & 0xc0) == 0x80)
		s.n--;
	return s;
}

char *slice_dup(struct slice s)
{
	char *copy = xmalloc(s.n + 1);

	if (s.n > 0)
		memcpy(copy, s.p, s.n);
	copy[s.n] = '\0';
	return copy;
}

bool str_copy_slice(char *dst, size_t size, struct slice src)
{
	size_t n = src.n;
	bool whole = true;

	ASSERT(size > 0);
	if (n >= size) {
		n = size - 1;
		whole = false;
	}
	if (n > 0)
		memcpy(dst, src.p, n);
	dst[n] = '\0';
	return whole;
}

bool str_copy(char *dst, size_t size, const char *src)
{
	return str_copy_slice(dst, size, slice_of(src));
}

size_t str_format(char *dst, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	ASSERT(size > 0);
	va_start(ap, fmt);
	n = vsnprintf(dst, size, fmt, ap);
	va_end(ap);
	if (n < 0) {
		dst[0] = '\0';
		return 0;
	}
	return (size_t)n < size ? (size_t)n : size - 1;
}

bool str_append(char *dst, size_t size, const char *fmt, ...)
{
	size_t used = strlen(dst);
	va_list ap;
	int n;

	ASSERT(used < size);
	va_start(ap, fmt);
	n = vsnprintf(dst + used, size - used, fmt, ap);
	va_end(ap);
	return n >= 0 && (size_t)n < size - used;
}

void mem_wipe(void *p, size_t n)
{
	if (n > 0)
		explicit_bzero(p, n);
}

bool mem_equal_ct(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = a;
	const volatile unsigned char *y = b;
	unsigned char diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= x[i] ^ y[i];
	return diff == 0;
}
