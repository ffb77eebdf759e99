/*
 * SipHash-2-4 (Aumasson, Bernstein, 2012) of one 64-bit number: a keyed
 * function that costs nanoseconds, where a stranger must not be able to
 * foresee the result.
 */
#ifndef PGSLUICE_CORE_SIPHASH_H
#define PGSLUICE_CORE_SIPHASH_H

#include "core/base.h"

uint64_t siphash_u64(const uint8_t key[16], uint64_t value);

#endif
