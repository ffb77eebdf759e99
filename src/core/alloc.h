/*
 * Allocation that does not return without memory: for start-up, configuration
 * and objects so small that a process without them cannot go on. Buffers that
 * grow with what a peer sends use struct buf, which reports failure instead.
 */
#ifndef PGSLUICE_CORE_ALLOC_H
#define PGSLUICE_CORE_ALLOC_H

#include "core/base.h"

void *xmalloc(size_t n) MUSTCHECK __attribute__((malloc));
void *xcalloc(size_t count, size_t n) MUSTCHECK __attribute__((malloc));
void *xrealloc(void *p, size_t n) MUSTCHECK;
/* NULL gives NULL. */
char *xstrdup(const char *s) MUSTCHECK;
/* Memory that begins at a cache line, zeroed; freed with free(). */
void *xcalloc_aligned(size_t n) MUSTCHECK;

/* Wipes, then frees, a NUL-terminated secret; NULL is fine. */
void free_secret(char *s);

#endif
