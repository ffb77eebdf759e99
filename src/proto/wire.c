#include "proto/wire.h"

/* Where empty slices point, so that they are never NULL. */
static const char wire_nothing[1] = "";

void rd_init(struct reader *r, const void *p, size_t n)
{
	ASSERT(p != NULL || n == 0);
	r->p = p != NULL ? p : wire_nothing;
	r->n = n;
	r->err = 0;
}

void rd_init_slice(struct reader *r, struct slice s)
{
	rd_init(r, s.p, s.n);
}

void rd_fail(struct reader *r)
{
	r->err = -E_PROTO;
	r->p = wire_nothing;
	r->n = 0;
}

struct slice rd_bytes(struct reader *r, size_t n)
{
	struct slice s;

	if (n > r->n) {
		rd_fail(r);
		return slice_make(wire_nothing, 0);
	}
	s = slice_make(r->p, n);
	r->p += n;
	r->n -= n;
	return s;
}

struct slice rd_cstr(struct reader *r)
{
	const char *end = r->n > 0 ? memchr(r->p, '\0', r->n) : NULL;
	struct slice s;

	if (end == NULL) {
		rd_fail(r);
		return slice_make(wire_nothing, 0);
	}
	s = rd_bytes(r, (size_t)(end - r->p) + 1);
	s.n--;
	return s;
}

struct slice rd_rest(struct reader *r)
{
	return rd_bytes(r, r->n);
}

/* The next n bytes, at most four, as one number; 0 when they are missing. */
static uint32_t rd_number(struct reader *r, size_t n)
{
	struct slice s = rd_bytes(r, n);
	uint32_t v = 0;

	for (size_t i = 0; i < s.n; i++)
		v = v << 8 | (uint8_t)s.p[i];
	return v;
}

uint8_t rd_u8(struct reader *r)
{
	return (uint8_t)rd_number(r, 1);
}

uint16_t rd_u16(struct reader *r)
{
	return (uint16_t)rd_number(r, 2);
}

uint32_t rd_u32(struct reader *r)
{
	return rd_number(r, 4);
}

int32_t rd_i32(struct reader *r)
{
	return (int32_t)rd_number(r, 4);
}

void wr_begin(struct writer *w, struct buf *b, uint8_t type)
{
	w->buf = b;
	w->start = buf_len(b);
	w->len_at = type != 0 ? 1 : 0;
	w->err = 0;
	if (type != 0)
		wr_u8(w, type);
	wr_u32(w, 0);
}

void wr_fail(struct writer *w, int err)
{
	ASSERT(err < 0);
	if (w->err == 0)
		w->err = err;
}

void wr_bytes(struct writer *w, const void *p, size_t n)
{
	if (w->err == 0)
		w->err = buf_append(w->buf, p, n);
}

void wr_slice(struct writer *w, struct slice s)
{
	wr_bytes(w, s.p, s.n);
}

void wr_u8(struct writer *w, uint8_t v)
{
	wr_bytes(w, &v, 1);
}

void wr_u16(struct writer *w, uint16_t v)
{
	uint8_t bytes[2] = { (uint8_t)(v >> 8), (uint8_t)v };

	wr_bytes(w, bytes, sizeof(bytes));
}

/* A number in network byte order. */
static void wr_encode_u32(uint8_t dst[4], uint32_t v)
{
	dst[0] = (uint8_t)(v >> 24);
	dst[1] = (uint8_t)(v >> 16);
	dst[2] = (uint8_t)(v >> 8);
	dst[3] = (uint8_t)v;
}

void wr_u32(struct writer *w, uint32_t v)
{
	uint8_t bytes[4];

	wr_encode_u32(bytes, v);
	wr_bytes(w, bytes, sizeof(bytes));
}

void wr_cstr(struct writer *w, const char *s)
{
	wr_bytes(w, s, strlen(s) + 1);
}

void wr_str(struct writer *w, struct slice s)
{
	if (s.n > 0 && memchr(s.p, '\0', s.n) != NULL)
		wr_fail(w, -E_RANGE);
	wr_slice(w, s);
	wr_u8(w, 0);
}

int wr_end(struct writer *w)
{
	uint32_t len;

	if (w->err == 0 && buf_len(w->buf) - w->start - w->len_at > INT32_MAX)
		w->err = -E_TOOBIG;
	if (w->err != 0) {
		buf_truncate(w->buf, w->start);
		return w->err;
	}
	len = buf_len(w->buf) - w->start - w->len_at;
	wr_encode_u32(buf_ptr(w->buf) + w->start + w->len_at, len);
	return 0;
}
