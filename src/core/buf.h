/*
 * Bounded byte buffer: contiguous, consumed at the head, filled at the tail.
 * It is born with a maximum and never grows past it. It holds no memory while
 * it is empty, so that an idle connection costs none.
 *
 *     data          head            tail            size        max
 *      |  consumed   |   content     |    free       |   growth  |
 */
#ifndef PGSLUICE_CORE_BUF_H
#define PGSLUICE_CORE_BUF_H

#include "core/base.h"
#include "core/err.h"

struct buf {
	uint8_t *data; /* NULL while no memory is held */
	uint32_t head; /* first byte of the content */
	uint32_t tail; /* one past the last byte of the content */
	uint32_t size; /* bytes allocated */
	uint32_t max;  /* bytes that may be allocated */
	/* The content may be a password: memory is overwritten before it is given back, also when the buffer grows. */
	bool is_secret;
};

/* An empty buffer that may hold up to `max` bytes. Holds no memory yet. */
void buf_init(struct buf *b, uint32_t max);

/* Gives the memory back; the buffer is empty and may be used again. */
void buf_fini(struct buf *b);

static inline uint32_t buf_len(const struct buf *b)
{
	return b->tail - b->head;
}

static inline bool buf_is_empty(const struct buf *b)
{
	return b->tail == b->head;
}

/* The content; valid until the next call that changes the buffer. */
static inline uint8_t *buf_ptr(const struct buf *b)
{
	return b->data + b->head;
}

/* How many more bytes the maximum allows. */
static inline uint32_t buf_room(const struct buf *b)
{
	return b->max - buf_len(b);
}

/*
 * Makes room for n more bytes behind the content and returns where they go, or
 * NULL when the maximum or the memory does not allow it. buf_commit() then
 * says how many were really written.
 */
uint8_t *buf_reserve(struct buf *b, uint32_t n) MUSTCHECK;
void buf_commit(struct buf *b, uint32_t n);

/* Copies n bytes behind the content: 0, -E_NOSPACE or -E_NOMEM (nothing copied). */
int buf_append(struct buf *b, const void *p, size_t n) MUSTCHECK;

/* Drops n bytes at the head; an empty buffer gives its memory back. */
void buf_consume(struct buf *b, uint32_t n);

/* Drops everything and gives the memory back. */
void buf_clear(struct buf *b);

/* The same, and overwrites the memory first: the content was, or may have been, a secret. */
void buf_wipe(struct buf *b);

/* Drops all content behind the first n bytes. */
void buf_truncate(struct buf *b, uint32_t n);

#endif
