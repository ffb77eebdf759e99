/*
 * A byte relay: the floor of what standing between a client and PostgreSQL
 * costs. It knows no protocol, shares nothing, and opens one connection to the
 * server for each client. One thread, level-triggered epoll, per direction one
 * read and one write. The difference between its CPU time and that of a pooler
 * is the price of pooling; a benchmark that shows less than zero is broken.
 *
 * Writes block: the two ends are on the same machine and always drain. That
 * makes it unfit for anything but measuring.
 *
 *	relay LISTEN_PORT SERVER_PORT		both on 127.0.0.1
 */
#include "config.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK_BYTES = 65536, BATCH = 256, BACKLOG = 1024 };

/* One end of a relayed connection. Both ends are one allocation, the client's first. */
struct end {
	int fd;           /* -1 once closed */
	struct end *peer; /* the other end */
};

struct pair {
	struct end client;
	struct end server;
	struct pair *next_dead; /* closed in this batch, freed after it */
};

static int relay_socket(void)
{
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static struct sockaddr_in relay_address(const char *port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };

	addr.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return addr;
}

static int relay_watch(int epoll, int fd, void *tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = tag };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Takes one client from the listener and connects it; what fails is closed without a word. */
static void relay_accept(int epoll, int listener, const struct sockaddr_in *server)
{
	struct pair *p = calloc(1, sizeof(*p));
	int one = 1;

	if (p == NULL)
		return;
	p->client = (struct end){ accept(listener, NULL, NULL), &p->server };
	p->server = (struct end){ relay_socket(), &p->client };
	if (p->client.fd < 0 || p->server.fd < 0 ||
	    connect(p->server.fd, (const struct sockaddr *)server, sizeof(*server)) != 0)
		goto fail;
	setsockopt(p->client.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (relay_watch(epoll, p->client.fd, &p->client) != 0 || relay_watch(epoll, p->server.fd, &p->server) != 0)
		goto fail;
	return;
fail:
	if (p->client.fd >= 0)
		close(p->client.fd);
	if (p->server.fd >= 0)
		close(p->server.fd);
	free(p);
}

/* Moves what one end has to say to the other; false when either is gone. */
static bool relay_move(struct end *from)
{
	static char chunk[CHUNK_BYTES];
	ssize_t len = read(from->fd, chunk, sizeof(chunk));
	ssize_t done = 0;

	if (len <= 0)
		return false;
	while (done < len) {
		ssize_t n = write(from->peer->fd, chunk + done, (size_t)(len - done));

		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

static void relay_close(struct end *end)
{
	close(end->fd);
	close(end->peer->fd);
	end->fd = end->peer->fd = -1;
}

static void relay_run(int epoll, int listener, const struct sockaddr_in *server)
{
	struct epoll_event events[BATCH];

	for (;;) {
		int n = epoll_wait(epoll, events, BATCH, -1);
		struct pair *dead = NULL;

		for (int i = 0; i < n; i++) {
			struct end *end = events[i].data.ptr;

			if (end == NULL) {
				relay_accept(epoll, listener, server);
			} else if (end->fd >= 0 && !relay_move(end)) {
				/* The other end may still stand in this batch, so the memory stays until it is over. */
				struct pair *p = (struct pair *)(end < end->peer ? end : end->peer);

				relay_close(end);
				p->next_dead = dead;
				dead = p;
			}
		}
		while (dead != NULL) {
			struct pair *next = dead->next_dead;

			free(dead);
			dead = next;
		}
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in here, server;
	int listener = relay_socket();
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (argc != 3) {
		fprintf(stderr, "usage: relay LISTEN_PORT SERVER_PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	here = relay_address(argv[1]);
	server = relay_address(argv[2]);
	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) != 0 || listen(listener, BACKLOG) != 0 ||
	    relay_watch(epoll, listener, NULL) != 0) {
		perror("relay: cannot listen");
		return 1;
	}
	relay_run(epoll, listener, &server);
	return 0;
}
