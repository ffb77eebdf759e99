/*
 * Reading and writing of message bodies. Both remember their first error, so
 * that code reads or writes all fields in a row and tests once: after an
 * error a reader gives zeros and empty slices, a writer drops what it is
 * given.
 */
#ifndef PGSLUICE_PROTO_WIRE_H
#define PGSLUICE_PROTO_WIRE_H

#include "core/base.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"

/* A cursor over bytes that somebody else owns. */
struct reader {
	const char *p; /* next byte; NULL only while n is 0 */
	size_t n;      /* bytes left */
	int err;       /* 0 or -E_PROTO: something was missing */
};

/* Starts at the first of n bytes; p may be NULL when n is 0. */
void rd_init(struct reader *r, const void *p, size_t n);
void rd_init_slice(struct reader *r, struct slice s);

/* The next number, sent in network byte order. */
uint8_t rd_u8(struct reader *r);
uint16_t rd_u16(struct reader *r);
uint32_t rd_u32(struct reader *r);
int32_t rd_i32(struct reader *r);

/*
 * The next n bytes, the bytes up to a NUL (which is consumed but not part of
 * the slice; it is an error when there is none), all bytes that are left. The
 * slices point into the input and are never NULL, also after an error.
 */
struct slice rd_bytes(struct reader *r, size_t n);
struct slice rd_cstr(struct reader *r);
struct slice rd_rest(struct reader *r);

/* Marks the input as bad, when the caller finds a value that may not be. */
void rd_fail(struct reader *r);

/* Bytes that are left; 0 after an error. */
static inline size_t rd_left(const struct reader *r)
{
	return r->n;
}

/* True when nothing failed and every byte was consumed. */
static inline bool rd_done(const struct reader *r)
{
	return r->err == 0 && r->n == 0;
}

/* One message under construction at the end of a buffer. */
struct writer {
	struct buf *buf; /* where it goes; owned by the caller */
	uint32_t start;  /* length of the buffer's content before the message */
	uint32_t len_at; /* offset of the length field, from `start` */
	int err;         /* 0 or the first -E_* */
};

/*
 * Begins a message of this type; type 0 begins a packet without a type byte,
 * as the first of a connection is. Nobody else may touch the buffer until
 * wr_end().
 */
void wr_begin(struct writer *w, struct buf *b, uint8_t type);

void wr_u8(struct writer *w, uint8_t v);
void wr_u16(struct writer *w, uint16_t v);
void wr_u32(struct writer *w, uint32_t v);
/* The bytes as they are. */
void wr_bytes(struct writer *w, const void *p, size_t n);
void wr_slice(struct writer *w, struct slice s);
/* A string with its NUL; a NUL inside of the slice is -E_RANGE. */
void wr_cstr(struct writer *w, const char *s);
void wr_str(struct writer *w, struct slice s);
/* Marks the message as impossible; err is -E_*. */
void wr_fail(struct writer *w, int err);

/*
 * Ends the message and writes its length. Returns 0, or the first error:
 * -E_NOSPACE, -E_NOMEM, -E_RANGE, -E_TOOBIG (2 GiB or more); then the buffer
 * is as it was before wr_begin(), so a message is there whole or not at all.
 */
int wr_end(struct writer *w) MUSTCHECK;

#endif
