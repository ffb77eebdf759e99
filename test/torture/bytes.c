#include "bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void *xrealloc(void *p, size_t n)
{
	p = realloc(p, n ? n : 1);
	if (!p) {
		fprintf(stderr, "out of memory (%zu bytes)\n", n);
		exit(3);
	}
	return p;
}

void *xmalloc(size_t n)
{
	return xrealloc(NULL, n);
}

void *xgrow(void *p, size_t *cap, size_t n, size_t size)
{
	if (n < *cap)
		return p;
	*cap = n * 2 + 16;
	return xrealloc(p, *cap * size);
}

int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void bytes_free(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){ NULL, 0, 0 };
}

void bytes_clear(struct bytes *b, size_t keep_bytes)
{
	b->len = 0;
	if (b->cap > keep_bytes)
		bytes_free(b);
}

uint8_t *bytes_grow(struct bytes *b, size_t n)
{
	if (b->cap - b->len < n) {
		size_t want = b->len + n;

		b->cap = want < 256 ? 256 : want + want / 2;
		b->data = xrealloc(b->data, b->cap);
	}
	b->len += n;
	return b->data + b->len - n;
}

void bytes_add(struct bytes *b, const void *data, size_t n)
{
	if (n)
		memcpy(bytes_grow(b, n), data, n);
}

void bytes_u8(struct bytes *b, unsigned v)
{
	*bytes_grow(b, 1) = (uint8_t)v;
}

void bytes_u16(struct bytes *b, unsigned v)
{
	bytes_put_u16(bytes_grow(b, 2), v);
}

void bytes_u32(struct bytes *b, uint32_t v)
{
	bytes_put_u32(bytes_grow(b, 4), v);
}

void bytes_cstr(struct bytes *b, const char *s)
{
	bytes_add(b, s, strlen(s) + 1);
}

void bytes_text(struct bytes *b, const char *s)
{
	bytes_add(b, s, strlen(s));
}

void bytes_printf(struct bytes *b, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	bytes_add(b, text, (size_t)n);
	free(text);
}

void bytes_shift(struct bytes *b, size_t n)
{
	if (!n)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

uint32_t bytes_get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

unsigned bytes_get_u16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

void bytes_put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

void bytes_put_u16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

size_t msg_begin(struct bytes *b, char type)
{
	size_t mark;

	if (type)
		bytes_u8(b, (uint8_t)type);
	mark = b->len;
	bytes_u32(b, 0);
	return mark;
}

void msg_end(struct bytes *b, size_t mark)
{
	bytes_put_u32(b->data + mark, (uint32_t)(b->len - mark));
}

const char *msg_field(const uint8_t *body, size_t len, char f)
{
	size_t at = 0;

	if (len == 0 || body[len - 1] != 0)
		return "";
	while (at < len && body[at] != 0) {
		const char *text = (const char *)body + at + 1;
		const uint8_t *end = memchr(text, 0, len - at - 1);

		if (!end)
			return "";
		if (body[at] == (uint8_t)f)
			return text;
		at = (size_t)(end - body) + 1;
	}
	return "";
}
