#ifndef TORTURE_BYTES_H
#define TORTURE_BYTES_H

/*
 * Growing byte strings and the few primitives of the wire protocol. The torture programs keep their own code for
 * this on purpose: a mistake shared with the pooler would hide itself. Running out of memory ends the program.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Storage is owned by the struct; all-zero is a valid empty string. */
struct bytes {
	uint8_t *data;
	size_t len;
	size_t cap;
};

/* Frees the storage and leaves an empty string. */
void bytes_free(struct bytes *b);

/* Empties the string; storage above keep_bytes is given back. */
void bytes_clear(struct bytes *b, size_t keep_bytes);

/* Appends room for n bytes and returns where they start (valid until the next append). */
uint8_t *bytes_grow(struct bytes *b, size_t n);

/* Appends n bytes. */
void bytes_add(struct bytes *b, const void *data, size_t n);
void bytes_u8(struct bytes *b, unsigned v);
void bytes_u16(struct bytes *b, unsigned v);
void bytes_u32(struct bytes *b, uint32_t v);
/* Appends a C string; cstr with its zero, text without. */
void bytes_cstr(struct bytes *b, const char *s);
void bytes_text(struct bytes *b, const char *s);
/* Appends formatted text without a zero. */
void bytes_printf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Removes the first n bytes. */
void bytes_shift(struct bytes *b, size_t n);

/* Big-endian numbers in raw memory. */
uint32_t bytes_get_u32(const uint8_t *p);
unsigned bytes_get_u16(const uint8_t *p);
void bytes_put_u32(uint8_t *p, uint32_t v);
void bytes_put_u16(uint8_t *p, unsigned v);

/*
 * Starts a message of a type (0: one without type byte, as at startup) and returns a mark; msg_end() with that mark
 * fills in the length.
 */
size_t msg_begin(struct bytes *b, char type);
void msg_end(struct bytes *b, size_t mark);

/*
 * Finds field f of an ErrorResponse or NoticeResponse body. Returns its text, or "" when it is absent or the body is
 * not well formed.
 */
const char *msg_field(const uint8_t *body, size_t len, char f);

/* malloc and realloc that end the program instead of failing. */
void *xmalloc(size_t n);
void *xrealloc(void *p, size_t n);

/* Grows the array *p of items of size bytes so that index n exists. */
void *xgrow(void *p, size_t *cap, size_t n, size_t size);

/* Microseconds of the monotonic clock. */
int64_t now_us(void);

#endif
