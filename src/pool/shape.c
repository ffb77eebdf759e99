#include "pool/shape.h"

#include "core/siphash.h"

/* Bytes of a column behind its name: table, its column, type, length, modifier, format. */
#define SHAPE_COLUMN      18
#define SHAPE_TYPE_AT     6 /* in these: the type; its length follows from it */
#define SHAPE_MODIFIER_AT 12

static uint32_t shape_mix(uint32_t shape, const void *p, size_t n)
{
	static const uint8_t key[16] = { 0 }; /* no secret: shapes mean the same in the process that takes over */

	return shape * UINT32_C(0x9e3779b1) + (uint32_t)siphash_bytes(key, p, n);
}

uint32_t shape_of(struct slice body)
{
	const char *p = body.p;
	size_t left = body.n;
	uint32_t shape = 0;
	unsigned columns;

	if (left < 2)
		return SHAPE_UNKNOWN;
	columns = (unsigned)(uint8_t)p[0] << 8 | (uint8_t)p[1];
	p += 2;
	left -= 2;
	for (unsigned i = 0; i < columns; i++) {
		size_t n = left == 0 ? 0 : strnlen(p, left);

		if (left < n + 1 + SHAPE_COLUMN)
			return SHAPE_UNKNOWN;
		shape = shape_mix(shape, p, n);
		p += n + 1;
		shape = shape_mix(shape, p + SHAPE_TYPE_AT, 4);
		shape = shape_mix(shape, p + SHAPE_MODIFIER_AT, 4);
		p += SHAPE_COLUMN;
		left -= n + 1 + SHAPE_COLUMN;
	}
	return left > 0 ? SHAPE_UNKNOWN : shape | 2; /* neither of the two that mean something else */
}
