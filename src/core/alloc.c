#include "core/alloc.h"

#include "core/str.h"

static void *check(void *p)
{
	if (UNLIKELY(p == NULL)) {
		static const char text[] = "pgsluice: out of memory\n";
		ssize_t written UNUSED = write(STDERR_FILENO, text, sizeof(text) - 1);
		abort();
	}
	return p;
}

void *xmalloc(size_t n)
{
	return check(malloc(n > 0 ? n : 1));
}

void *xcalloc(size_t count, size_t n)
{
	return check(calloc(count > 0 ? count : 1, n > 0 ? n : 1));
}

void *xrealloc(void *p, size_t n)
{
	return check(realloc(p, n > 0 ? n : 1));
}

char *xstrdup(const char *s)
{
	return s == NULL ? NULL : check(strdup(s));
}

void *xcalloc_aligned(size_t n)
{
	size_t rounded = (n + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	void *p = check(aligned_alloc(CACHE_LINE, rounded));

	memset(p, 0, rounded);
	return p;
}

void free_secret(char *s)
{
	if (s == NULL)
		return;
	mem_wipe(s, strlen(s));
	free(s);
}
