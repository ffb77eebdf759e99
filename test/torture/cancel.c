#include "cancel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "direct.h"

#define CANCEL_CODE 80877102

bool cancel_start(struct cancel *c, const struct options *opt, const uint8_t key[8], struct rng *rng)
{
	c->fd = direct_dial(opt->host, opt->port, 1);
	if (c->fd < 0) {
		c->fd = -1;
		return false;
	}
	bytes_put_u32(c->packet, sizeof(c->packet));
	bytes_put_u32(c->packet + 4, CANCEL_CODE);
	memcpy(c->packet + 8, key, 8);
	c->port = direct_local_port(c->fd);
	c->started_us = now_us();
	c->sent = 0;
	c->split = rng_one_in(rng, 8) && !opt->whole_startup;
	c->abandon = rng_one_in(rng, 10);
	c->unharmed = !c->abandon;
	return true;
}

void cancel_close(struct cancel *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static enum cancel_result cancel_end(struct cancel *c, enum cancel_result result)
{
	cancel_close(c);
	return result;
}

enum cancel_result cancel_step(struct cancel *c)
{
	uint8_t byte;
	ssize_t n;

	while (c->sent < sizeof(c->packet)) {
		size_t len = c->split ? 1 : sizeof(c->packet) - c->sent;

		n = send(c->fd, c->packet + c->sent, len, MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINPROGRESS || errno == ENOTCONN))
			return CANCEL_BUSY;
		if (n < 0)
			return cancel_end(c, CANCEL_CUT);
		c->sent += (size_t)n;
		if (c->split && c->sent < sizeof(c->packet))
			return CANCEL_BUSY;
	}
	if (c->abandon)
		return cancel_end(c, CANCEL_CUT);
	n = recv(c->fd, &byte, 1, 0);
	if (n == 1)
		return cancel_end(c, CANCEL_BAD);
	if (n == 0)
		return cancel_end(c, CANCEL_DONE);
	if (errno == EAGAIN)
		return CANCEL_BUSY;
	return cancel_end(c, CANCEL_CUT);
}
