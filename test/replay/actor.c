#include "actor.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "core/alloc.h"

#define ACTOR_BUF_MAX (64 * 1024 * 1024)

struct actor *actor_new(enum actor_kind kind, const char *name, int fd)
{
	struct actor *actor = xcalloc(1, sizeof(*actor));

	actor->kind = kind;
	str_copy(actor->name, sizeof(actor->name), name);
	actor->fd = fd;
	actor->pooler_fd = -1;
	actor->status = 'I';
	buf_init(&actor->in, ACTOR_BUF_MAX);
	buf_init(&actor->out, ACTOR_BUF_MAX);
	if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		abort();
	return actor;
}

void actor_free(struct actor **actorp)
{
	struct actor *actor = *actorp;

	*actorp = NULL;
	actor_close(actor);
	buf_fini(&actor->in);
	buf_fini(&actor->out);
	free(actor);
}

void actor_close(struct actor *actor)
{
	if (actor->fd >= 0)
		close(actor->fd);
	actor->fd = -1;
	buf_clear(&actor->out);
}

bool actor_trickle(struct actor *actor, size_t max)
{
	size_t len = buf_len(&actor->out);
	ssize_t n;

	if (actor->fd < 0 || len == 0)
		return false;
	n = send(actor->fd, buf_ptr(&actor->out), len < max ? len : max, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		buf_consume(&actor->out, (uint32_t)n);
	else if (errno != EAGAIN)
		buf_clear(&actor->out);
	return n > 0;
}

bool actor_flush(struct actor *actor)
{
	return !actor->holds && actor_trickle(actor, SIZE_MAX);
}

void actor_send(struct actor *actor, const void *p, size_t n)
{
	if (buf_append(&actor->out, p, n) != 0)
		abort();
	actor_flush(actor);
}

bool actor_say(struct actor *actor, const char *word)
{
	struct buf b;
	bool ok;

	buf_init(&b, ACTOR_BUF_MAX);
	ok = msgtext_write(&b, word, actor_is_server(actor));
	if (ok && !buf_is_empty(&b))
		actor_send(actor, buf_ptr(&b), buf_len(&b));
	buf_fini(&b);
	return ok;
}

size_t actor_read(struct actor *actor, size_t max)
{
	static uint8_t chunk[64 * 1024];
	size_t total = 0;

	while (actor->fd >= 0 && !actor->eof && total < max) {
		size_t want = max - total < sizeof(chunk) ? max - total : sizeof(chunk);
		ssize_t n = recv(actor->fd, chunk, want, MSG_DONTWAIT);

		if (n > 0) {
			if (buf_append(&actor->in, chunk, (size_t)n) != 0)
				abort();
			total += (size_t)n;
		} else if (n == 0 || errno != EAGAIN) {
			actor->eof = true;
		} else {
			break;
		}
	}
	return total;
}

size_t actor_peek(struct actor *actor, char word[MSGTEXT_MAX])
{
	if (buf_is_empty(&actor->in))
		return 0;
	return msgtext_read(buf_ptr(&actor->in), buf_len(&actor->in), !actor_is_server(actor), !actor->has_first, word);
}

bool actor_next(struct actor *actor, char word[MSGTEXT_MAX])
{
	size_t n;

	actor_read(actor, SIZE_MAX);
	n = actor_peek(actor, word);
	if (n == 0)
		return false;
	actor->has_first = true;
	buf_consume(&actor->in, (uint32_t)n);
	return true;
}
