#include "auth/base64.h"

#include "core/err.h"

/*
 * Values of the digits; everything else, the padding included, is -1. Nonces,
 * salts and proofs travel in the open, so a table lookup leaks nothing that
 * matters; the keys of stored verifiers are parsed once per load.
 */
static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return -1;
}

size_t base64_encode(char *dst, size_t size, const uint8_t *src, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t len = 0;

	ASSERT(size > BASE64_ENCODED_LEN(n));
	for (size_t i = 0; i < n; i += 3) {
		size_t have = n - i < 3 ? n - i : 3;
		uint32_t group = (uint32_t)src[i] << 16;

		if (have > 1)
			group |= (uint32_t)src[i + 1] << 8;
		if (have > 2)
			group |= src[i + 2];
		dst[len++] = digits[group >> 18];
		dst[len++] = digits[group >> 12 & 63];
		dst[len++] = have > 1 ? digits[group >> 6 & 63] : '=';
		dst[len++] = have > 2 ? digits[group & 63] : '=';
	}
	dst[len] = '\0';
	return len;
}

/*
 * Decodes one group of four characters into up to three bytes and returns how
 * many, or -E_SYNTAX. Padding is allowed in the last group only.
 */
static int base64_decode_group(uint8_t out[3], const char *p, bool is_last)
{
	int pad = 0;
	uint32_t group = 0;

	if (is_last && p[3] == '=')
		pad = p[2] == '=' ? 2 : 1;
	for (int i = 0; i < 4; i++) {
		int digit = i < 4 - pad ? base64_digit(p[i]) : 0;

		if (digit < 0)
			return -E_SYNTAX;
		group = group << 6 | (uint32_t)digit;
	}
	/* The bits under the padding must be zero, or two texts would mean the same. */
	if ((group & ((1U << (8 * pad)) - 1)) != 0)
		return -E_SYNTAX;
	out[0] = (uint8_t)(group >> 16);
	out[1] = (uint8_t)(group >> 8);
	out[2] = (uint8_t)group;
	return 3 - pad;
}

ssize_t base64_decode(uint8_t *dst, size_t size, struct slice src)
{
	size_t len = 0;

	if (src.n % 4 != 0)
		return -E_SYNTAX;
	for (size_t i = 0; i < src.n; i += 4) {
		uint8_t group[3];
		int n = base64_decode_group(group, src.p + i, i + 4 == src.n);

		if (n < 0)
			return n;
		if ((size_t)n > size - len)
			return -E_NOSPACE;
		memcpy(dst + len, group, (size_t)n);
		len += (size_t)n;
	}
	return (ssize_t)len;
}
