/*
 * Message headers: one type byte and a length that counts itself. Nothing but
 * the five header bytes is needed to know where the next message begins.
 */
#ifndef PGSLUICE_PROTO_FRAME_H
#define PGSLUICE_PROTO_FRAME_H

#include "core/base.h"
#include "core/err.h"

#define FRAME_HEADER 5

/* The bytes of a message without a body. */
#define FRAME_EMPTY(type)          \
	{                          \
		(type), 0, 0, 0, 4 \
	}

struct frame {
	uint8_t type;
	uint64_t size; /* of the whole message: header and body */
};

static inline uint32_t frame_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

/*
 * Reads the header at p. Returns 0, -E_AGAIN when fewer than five bytes are
 * there, -E_PROTO when the length is impossible, -E_TOOBIG when the message is
 * larger than max_size.
 */
static inline int frame_read(const uint8_t *p, size_t avail, uint64_t max_size, struct frame *f)
{
	uint32_t len;

	if (avail < FRAME_HEADER)
		return -E_AGAIN;
	len = frame_be32(p + 1);
	if (UNLIKELY(len < 4 || len > INT32_MAX))
		return -E_PROTO;
	f->type = p[0];
	f->size = (uint64_t)len + 1;
	return UNLIKELY(f->size > max_size) ? -E_TOOBIG : 0;
}

/*
 * How many bytes at p are whole messages of this one type, read as far as
 * they go. For the bulk of a result, of which only lengths matter.
 */
static inline size_t frame_run(const uint8_t *p, size_t avail, uint8_t type, uint64_t max_size)
{
	size_t at = 0;

	while (avail - at >= FRAME_HEADER && p[at] == type) {
		uint64_t size = (uint64_t)frame_be32(p + at + 1) + 1;

		if (size < FRAME_HEADER || size > max_size || size > avail - at)
			break;
		at += size;
	}
	return at;
}

#endif
