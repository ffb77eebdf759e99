/*
 * The one header that every source file of pgsluice includes first: integer
 * types, the assertion macros, the attributes, and the list of libc functions
 * that nobody may call.
 */
#ifndef PGSLUICE_CORE_BASE_H
#define PGSLUICE_CORE_BASE_H

#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>
#include <unistd.h>

/* The result must be looked at. */
#define MUSTCHECK                       __attribute__((warn_unused_result))
#define NORETURN                        __attribute__((noreturn))
#define PRINTF_LIKE(fmt, args)          __attribute__((format(printf, fmt, args)))
#define UNUSED                          __attribute__((unused))
#define LIKELY(x)                       __builtin_expect(!!(x), 1)
#define UNLIKELY(x)                     __builtin_expect(!!(x), 0)

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))

/* Size of a cache line; what different threads write stands apart by it. */
#define CACHE_LINE                      64
#define CACHE_ALIGNED                   __attribute__((aligned(CACHE_LINE)))

/*
 * ASSERT stays on in production: a broken invariant must end the process with
 * its state on record rather than hand one client the rows of another.
 */
#define ASSERT(expr)                    (LIKELY(expr) ? (void)0 : base_assert_fail(#expr, __FILE__, __LINE__, __func__))

/* Must never be reached. */
#define UNREACHABLE()                   base_assert_fail("unreachable", __FILE__, __LINE__, __func__)

/*
 * Objects that others point to begin with a magic number; entry points check
 * it, so that a stale pointer is found where it is used.
 */
#define CHECK_OBJ(ptr, magic_value)     ASSERT((ptr) != NULL && (ptr)->magic == (magic_value))

/* The object that holds `member` at `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/*
 * Prints the failed expression and calls the dump hook, then aborts.
 * Safe from any thread.
 */
NORETURN void base_assert_fail(const char *expr, const char *file, int line, const char *func);

/*
 * Sets the function that writes the program's state to stderr before an abort;
 * it must not allocate or lock. Called once, at start.
 */
void base_set_dump_hook(void (*hook)(void));

/* <alloca.h> defines it as a macro, which cannot be poisoned. */
#undef alloca
#pragma GCC poison strcpy strcat sprintf vsprintf strtok gets alloca strncpy strncat

#endif
