/*
 * SipHash-2-4 (Aumasson, Bernstein, 2012): a keyed function that costs
 * nanoseconds, where a stranger must not be able to foresee the result. Words
 * are read as the machine has them: results are compared within one process.
 */
#ifndef PGSLUICE_CORE_SIPHASH_H
#define PGSLUICE_CORE_SIPHASH_H

#include "core/base.h"

#define SIPHASH_KEY_LEN 16

/* A key that nobody can foresee. Without random bytes the process ends. */
void siphash_new_key(uint8_t key[SIPHASH_KEY_LEN]);

/* Of one 64-bit number. */
uint64_t siphash_u64(const uint8_t key[16], uint64_t value);

/* Of n bytes. */
uint64_t siphash_bytes(const uint8_t key[16], const void *p, size_t n);

#endif
