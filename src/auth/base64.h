/*
 * Base64 as SCRAM needs it (RFC 4648, section 4): strict, no line breaks, no
 * white space, padding required, spare bits zero. A value that is not in the
 * one form that an encoder makes is refused.
 */
#ifndef PGSLUICE_AUTH_BASE64_H
#define PGSLUICE_AUTH_BASE64_H

#include "core/base.h"
#include "core/str.h"

/* Characters that n bytes become, without a terminating NUL. */
#define BASE64_ENCODED_LEN(n) (((n) + 2) / 3 * 4)

/* Bytes that n characters become at most. */
#define BASE64_DECODED_MAX(n) ((n) / 4 * 3)

/*
 * Encodes n bytes into dst, which has room for BASE64_ENCODED_LEN(n) + 1
 * bytes, and ends them with a NUL. Returns the characters written without it.
 */
size_t base64_encode(char *dst, size_t size, const uint8_t *src, size_t n);

/*
 * Decodes into dst: the bytes written, -E_SYNTAX when the text is not strict
 * base64, or -E_NOSPACE when dst has fewer than the bytes that come out. The
 * content of dst is undefined after an error.
 */
ssize_t base64_decode(uint8_t *dst, size_t size, struct slice src) MUSTCHECK;

#endif
