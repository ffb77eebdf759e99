/*
 * What goes to one side of a link in one system call: spans of the bytes that
 * came in, where they lie, and between them pieces of our own. Lives on the
 * stack of the function that works off one read.
 */
#ifndef PGSLUICE_POOL_LINK_OUT_H
#define PGSLUICE_POOL_LINK_OUT_H

#include <sys/uio.h>

#include "core/base.h"
#include "net/stream.h"

#define LINK_OUT_PIECES 64
#define LINK_OUT_OWN    4096

struct link_out {
	int n;
	uint32_t own_len;
	struct iovec iov[LINK_OUT_PIECES];
	uint8_t own[LINK_OUT_OWN];
};

static inline void link_out_init(struct link_out *out)
{
	out->n = 0;
	out->own_len = 0;
}

/* True when so many more pieces fit, with so many bytes of our own. Else the caller sends first. */
static inline bool link_out_has_room(const struct link_out *out, int pieces, uint32_t own)
{
	return out->n + pieces <= LINK_OUT_PIECES && own <= LINK_OUT_OWN - out->own_len;
}

/* Adds bytes that stay where they are until all is sent. There must be room. */
static inline void link_out_add(struct link_out *out, const void *p, size_t n)
{
	if (n == 0)
		return;
	if (out->n > 0) {
		struct iovec *last = &out->iov[out->n - 1];

		if ((const uint8_t *)last->iov_base + last->iov_len == p) {
			last->iov_len += n;
			return;
		}
	}
	ASSERT(out->n < LINK_OUT_PIECES);
	out->iov[out->n++] = (struct iovec){ .iov_base = (void *)(uintptr_t)p, .iov_len = n };
}

/* Adds n bytes of our own, for the caller to write to. There must be room. */
static inline uint8_t *link_out_own(struct link_out *out, uint32_t n)
{
	uint8_t *p = out->own + out->own_len;

	ASSERT(n <= LINK_OUT_OWN - out->own_len);
	out->own_len += n;
	link_out_add(out, p, n);
	return p;
}

/* Sends all: as stream_send(). Empty afterwards. *bytes says how many. */
static inline int link_out_send(struct link_out *out, struct stream *s, size_t *bytes)
{
	int err;

	*bytes = 0;
	for (int i = 0; i < out->n; i++)
		*bytes += out->iov[i].iov_len;
	if (out->n <= 1)
		err = out->n == 0 ? 0 : stream_send(s, out->iov[0].iov_base, out->iov[0].iov_len);
	else
		err = stream_sendv(s, out->iov, out->n);
	link_out_init(out);
	return err;
}

#endif
