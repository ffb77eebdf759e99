#include "core/buf.h"

#include "core/str.h"

/* The smallest allocation; glibc serves it from the cache of the thread. */
#define BUF_MIN 512

void buf_init(struct buf *b, uint32_t max)
{
	memset(b, 0, sizeof(*b));
	b->max = max;
}

void buf_fini(struct buf *b)
{
	buf_clear(b);
}

/* Gives memory back. */
static void buf_free(const struct buf *b, uint8_t *data)
{
	if (b->is_secret && data != NULL)
		mem_wipe(data, b->size);
	free(data);
}

void buf_clear(struct buf *b)
{
	buf_free(b, b->data);
	b->data = NULL;
	b->head = b->tail = b->size = 0;
}

void buf_wipe(struct buf *b)
{
	if (b->data != NULL)
		mem_wipe(b->data, b->size);
	buf_clear(b);
}

/* Moves the content to the front, so that all free bytes stand behind it. */
static void buf_compact(struct buf *b)
{
	uint32_t len = buf_len(b);

	if (b->head == 0)
		return;
	memmove(b->data, b->data + b->head, len);
	b->head = 0;
	b->tail = len;
}

uint8_t *buf_reserve(struct buf *b, uint32_t n)
{
	uint32_t len = buf_len(b);
	uint64_t size;
	uint8_t *data;

	if (n > b->max - len)
		return NULL;
	if (b->data != NULL && n <= b->size - b->tail)
		return b->data + b->tail;
	if (b->data != NULL && n <= b->size - len) {
		buf_compact(b);
		return b->data + b->tail;
	}
	size = b->size > 0 ? b->size : BUF_MIN;
	while (size < (uint64_t)len + n)
		size *= 2;
	if (size > b->max)
		size = b->max;
	data = malloc(size > 0 ? (size_t)size : 1);
	if (data == NULL)
		return NULL;
	if (len > 0 && b->data != NULL)
		memcpy(data, b->data + b->head, len);
	buf_free(b, b->data);
	b->data = data;
	b->head = 0;
	b->tail = len;
	b->size = (uint32_t)size;
	return b->data + b->tail;
}

void buf_commit(struct buf *b, uint32_t n)
{
	ASSERT(n <= b->size - b->tail);
	b->tail += n;
}

int buf_append(struct buf *b, const void *p, size_t n)
{
	uint8_t *at;

	if (n == 0)
		return 0;
	if (n > buf_room(b))
		return -E_NOSPACE;
	at = buf_reserve(b, (uint32_t)n);
	if (at == NULL)
		return -E_NOMEM;
	memcpy(at, p, n);
	b->tail += (uint32_t)n;
	return 0;
}

void buf_consume(struct buf *b, uint32_t n)
{
	ASSERT(n <= buf_len(b));
	b->head += n;
	if (b->head == b->tail)
		buf_clear(b);
}

void buf_truncate(struct buf *b, uint32_t n)
{
	ASSERT(n <= buf_len(b));
	b->tail = b->head + n;
	if (n == 0)
		buf_clear(b);
}
