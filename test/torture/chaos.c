/*
 * A relay between the pooler and PostgreSQL that does what networks and failing servers do: it resets connections,
 * closes one half of them, holds bytes back, cuts and joins packets. All rates 0 make it transparent.
 *
 * One thread, one epoll descriptor. A pair is one connection from the pooler and its connection to the server, with a
 * buffer for each direction. Trouble is drawn per portion of bytes forwarded.
 *
 * Cancel requests are told apart by their first eight bytes, because one accident must not be simulated: when the
 * pooler sees the end of a cancel connection it may take the request for dealt with, and give the server to somebody
 * else. Were the connection cut behind the pooler's back after PostgreSQL has received the request, then the cancel
 * might hit that somebody, and the pooler could not know. So a cancel request is either lost before the server sees
 * anything of it, or it is delivered and the connection stays until the server closes it.
 *
 * With --sabotage the relay acts like a broken pooler (sabotage.h).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "direct.h"
#include "rng.h"
#include "sabotage.h"

#define CHAOS_BUFFER_BYTES 65536
#define CHAOS_CANCEL_CODE  80877102
#define CHAOS_SSL_CODE     80877103
#define CHAOS_CANCEL_EVERY 20000 /* microseconds between cancel requests of the sabotage */
#define CHAOS_PEEK_BYTES   8     /* of a new connection, before anything is forwarded */

struct chaos_options {
	int listen_port;
	const char *host;
	int port;
	unsigned reset_ppm;    /* portions after which the connection is reset */
	unsigned half_ppm;     /* portions after which one half is closed */
	unsigned delay_ppm;    /* portions before which there is a pause */
	unsigned delay_max_us; /* its greatest length */
	unsigned split_ppm;    /* portions that are cut to a few bytes */
	unsigned merge_ppm;    /* portions that are held back to be joined with later ones */
	unsigned cancel_ppm;   /* cancel requests that are lost */
	uint64_t seed;
	enum sabotage_kind sabotage;
	unsigned one_in; /* how rare sabotage is */
};

/* One direction of a pair. */
struct chaos_way {
	int from, to;     /* descriptors; side 0 is the pooler's, side 1 the server's */
	struct bytes buf; /* received, not yet forwarded */
	bool eof;         /* nothing more is taken */
	bool deaf;        /* because we say so: what still comes is thrown away */
	bool shut;        /* and the other side knows */
	int64_t hold_us;  /* nothing is forwarded before; 0: now */
	bool drawn;       /* trouble for the coming portion was drawn */
	size_t portion;   /* most bytes of the coming portion */
};

/* epoll reports one of the two ends of a pair. */
struct chaos_end {
	struct chaos_pair *pair;
	int side;
};

struct chaos_pair {
	LIST_ENTRY(chaos_pair) next;
	int fd[2];
	unsigned interest[2];
	struct chaos_end end[2];
	struct chaos_way way[2]; /* way[0] leads to the server */
	struct sabotage sabotage;
	bool peeked; /* the first bytes were looked at */
	bool is_cancel;
	bool dead;
};

static LIST_HEAD(, chaos_pair) chaos_pairs = LIST_HEAD_INITIALIZER(chaos_pairs);
static struct chaos_options opt = {
	.host = "127.0.0.1", .port = 5432, .delay_max_us = 20000, .seed = 1, .one_in = 500
};
static struct rng chaos_rng;
static int chaos_epoll;
static volatile sig_atomic_t chaos_stop;

static struct {
	unsigned long pairs, resets, halves, delays, splits, merges, cancels, cancels_lost;
} chaos_counts;

static void chaos_close(struct chaos_pair *p, bool reset)
{
	struct linger linger = { 1, 0 };

	for (int i = 0; i < 2; i++) {
		if (reset)
			setsockopt(p->fd[i], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(p->fd[i]);
		bytes_free(&p->way[i].buf);
	}
	sabotage_free(&p->sabotage);
	LIST_REMOVE(p, next);
	p->dead = true;
}

/* The dead are freed between two calls of epoll_wait(), whose events may name them. */
static void chaos_bury(struct chaos_pair **grave, int *n)
{
	while (*n)
		free(grave[--*n]);
}

static void chaos_watch(struct chaos_pair *p, int side)
{
	struct chaos_way *out = &p->way[!side];
	unsigned events = 0;
	struct epoll_event ev;

	if (p->way[side].deaf || (!p->way[side].eof && p->way[side].buf.len < CHAOS_BUFFER_BYTES))
		events |= EPOLLIN;
	if (out->buf.len && !out->hold_us && !out->shut)
		events |= EPOLLOUT;
	if (events == p->interest[side])
		return;
	p->interest[side] = events;
	ev = (struct epoll_event){ .events = events, .data.ptr = &p->end[side] };
	epoll_ctl(chaos_epoll, EPOLL_CTL_MOD, p->fd[side], &ev);
}

/* Looks at the first bytes from the pooler. Returns false when the pair is to be dropped. */
static bool chaos_peek(struct chaos_pair *p)
{
	struct chaos_way *w = &p->way[0];
	uint32_t code;

	if (w->buf.len < CHAOS_PEEK_BYTES)
		return true;
	code = bytes_get_u32(w->buf.data + 4);
	p->peeked = true;
	p->sabotage.raw_first = code == CHAOS_SSL_CODE;
	if (code != CHAOS_CANCEL_CODE)
		return true;
	p->is_cancel = true;
	chaos_counts.cancels++;
	if (!rng_chance(&chaos_rng, opt.cancel_ppm))
		return true;
	chaos_counts.cancels_lost++;
	return false;
}

/* Draws what happens to the next portion of a way. Returns false when the connection ends by it. */
static bool chaos_draw(struct chaos_pair *p, struct chaos_way *w, int64_t now)
{
	w->drawn = true;
	w->portion = SIZE_MAX;
	if (!p->is_cancel && rng_chance(&chaos_rng, opt.reset_ppm)) {
		chaos_counts.resets++;
		chaos_close(p, true);
		return false;
	}
	if (!p->is_cancel && rng_chance(&chaos_rng, opt.half_ppm)) {
		chaos_counts.halves++;
		w->eof = w->deaf = true;
		w->buf.len = rng_below(&chaos_rng, w->buf.len + 1);
	}
	if (rng_chance(&chaos_rng, opt.delay_ppm)) {
		chaos_counts.delays++;
		w->hold_us = now + (int64_t)rng_below(&chaos_rng, opt.delay_max_us);
	} else if (rng_chance(&chaos_rng, opt.merge_ppm)) {
		chaos_counts.merges++;
		w->hold_us = now + (int64_t)rng_range(&chaos_rng, 500, 3000);
	}
	if (rng_chance(&chaos_rng, opt.split_ppm)) {
		chaos_counts.splits++;
		w->portion = rng_range(&chaos_rng, 1, rng_one_in(&chaos_rng, 2) ? 6 : 2000);
	}
	return true;
}

/* Forwards what may be forwarded now. Returns false when the pair is gone. */
static bool chaos_forward(struct chaos_pair *p, int dir, int64_t now)
{
	struct chaos_way *w = &p->way[dir];

	while (w->buf.len && w->hold_us <= now) {
		size_t n = w->buf.len;
		ssize_t done;

		w->hold_us = 0;
		if (!w->drawn) {
			if (!chaos_draw(p, w, now))
				return false;
			continue;
		}
		n = n < w->portion ? n : w->portion;
		done = send(w->to, w->buf.data, n, MSG_NOSIGNAL);
		if (done < 0 && errno == EAGAIN)
			break;
		if (done < 0 && dir == 1 && !p->is_cancel) {
			/* As without a relay: who writes to a connection that was closed gets a reset. */
			chaos_close(p, true);
			return false;
		}
		if (done < 0) {
			/* The server is gone; its last words may still be on their way. */
			w->buf.len = 0;
			w->eof = true;
			break;
		}
		bytes_shift(&w->buf, (size_t)done);
		w->drawn = false;
	}
	if (w->eof && !w->buf.len && !w->shut) {
		w->shut = true;
		shutdown(w->to, SHUT_WR);
	}
	if (p->way[0].shut && p->way[1].shut) {
		chaos_close(p, false);
		return false;
	}
	return true;
}

/* Reads from one side. Returns false when the pair is gone. */
static bool chaos_read(struct chaos_pair *p, int dir)
{
	struct chaos_way *w = &p->way[dir];
	uint8_t data[CHAOS_BUFFER_BYTES];
	ssize_t n = recv(w->from, data, sizeof(data), 0);

	if (n < 0 && errno == EAGAIN)
		return true;
	if (n < 0 && errno == ECONNRESET && !p->is_cancel) {
		chaos_close(p, true);
		return false;
	}
	if (n <= 0) {
		w->eof = true;
		w->deaf = false;
		return true;
	}
	if (w->deaf)
		return true;
	if (dir == 0) {
		sabotage_to_server(opt.sabotage, opt.one_in, &chaos_rng, data, (size_t)n);
		bytes_add(&w->buf, data, (size_t)n);
		if (!p->peeked && !chaos_peek(p)) {
			chaos_close(p, false);
			return false;
		}
	} else if (opt.sabotage != SABOTAGE_OFF && !p->is_cancel) {
		sabotage_from_server(&p->sabotage, opt.sabotage, opt.one_in, &chaos_rng, data, (size_t)n, &w->buf);
	} else {
		bytes_add(&w->buf, data, (size_t)n);
	}
	return true;
}

static void chaos_on_event(const struct chaos_end *end, unsigned events, int64_t now)
{
	struct chaos_pair *p = end->pair;

	if (p->dead)
		return;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && (!p->way[end->side].eof || p->way[end->side].deaf))
		if (!chaos_read(p, end->side))
			return;
	for (int dir = 0; dir < 2; dir++)
		if ((dir || p->peeked || p->way[0].eof) && !chaos_forward(p, dir, now))
			return;
	/* A broken end that neither way can use any more would be reported for ever. */
	if ((events & (EPOLLHUP | EPOLLERR)) && p->way[end->side].eof && !p->way[end->side].deaf) {
		p->way[!end->side].buf.len = 0;
		p->way[!end->side].eof = true;
		p->way[!end->side].deaf = true; /* the other end may have to write before it reads what it is sent */
		if (!chaos_forward(p, !end->side, now))
			return;
	}
	chaos_watch(p, 0);
	chaos_watch(p, 1);
}

static void chaos_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN };
	struct chaos_pair *p;
	int one = 1;
	int to;

	if (fd < 0)
		return;
	to = direct_dial(opt.host, opt.port, 1);
	if (to < 0) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	p = xmalloc(sizeof(*p));
	memset(p, 0, sizeof(*p));
	p->fd[0] = p->way[0].from = p->way[1].to = fd;
	p->fd[1] = p->way[1].from = p->way[0].to = to;
	for (int i = 0; i < 2; i++) {
		p->end[i] = (struct chaos_end){ p, i };
		p->interest[i] = ev.events;
		ev.data.ptr = &p->end[i];
		epoll_ctl(chaos_epoll, EPOLL_CTL_ADD, p->fd[i], &ev);
	}
	LIST_INSERT_HEAD(&chaos_pairs, p, next);
	chaos_counts.pairs++;
}

/* Sends a cancel request for a session of a random pair: what a pooler does that mixes its keys up. */
static void chaos_send_cancel(void)
{
	struct chaos_pair *p;
	uint8_t packet[16];
	int fd;

	LIST_FOREACH (p, &chaos_pairs, next)
		if (p->sabotage.has_key && rng_one_in(&chaos_rng, 8))
			break;
	fd = p ? direct_dial(opt.host, opt.port, 0) : -1;
	if (fd < 0)
		return;
	bytes_put_u32(packet, sizeof(packet));
	bytes_put_u32(packet + 4, CHAOS_CANCEL_CODE);
	memcpy(packet + 8, p->sabotage.key, 8);
	(void)!send(fd, packet, sizeof(packet), MSG_NOSIGNAL);
	close(fd);
	sabotage_note();
}

/* Pauses that are over. Returns how long to sleep at most, in milliseconds. */
static int chaos_tick(int64_t now)
{
	struct chaos_pair *p, *next;
	int timeout = 100;

	for (p = LIST_FIRST(&chaos_pairs); p; p = next) {
		bool alive = true;

		next = LIST_NEXT(p, next);
		for (int dir = 0; dir < 2 && alive; dir++) {
			if (!p->way[dir].hold_us)
				continue;
			timeout = 1;
			if (p->way[dir].hold_us <= now)
				alive = chaos_forward(p, dir, now);
		}
		if (alive) {
			chaos_watch(p, 0);
			chaos_watch(p, 1);
		} else {
			free(p);
		}
	}
	return opt.sabotage == SABOTAGE_CANCEL ? 1 : timeout;
}

static int chaos_listen(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.listen_port) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(fd, 1000) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) < 0) {
		perror("chaos: could not listen");
		exit(3);
	}
	printf("port %d\n", ntohs(in.sin_port));
	fflush(stdout);
	return fd;
}

static void chaos_on_signal(int sig)
{
	(void)sig;
	chaos_stop = 1;
}

static const struct option chaos_long_options[] = {
	{ "listen", required_argument, NULL, 'l' },    { "host", required_argument, NULL, 'h' },
	{ "port", required_argument, NULL, 'p' },      { "reset", required_argument, NULL, 'r' },
	{ "half", required_argument, NULL, 'f' },      { "delay", required_argument, NULL, 'd' },
	{ "delay-max", required_argument, NULL, 'D' }, { "split", required_argument, NULL, 's' },
	{ "merge", required_argument, NULL, 'm' },     { "cancel", required_argument, NULL, 'c' },
	{ "seed", required_argument, NULL, 'S' },      { "sabotage", required_argument, NULL, 'x' },
	{ "one-in", required_argument, NULL, 'n' },    { NULL, 0, NULL, 0 },
};

static void __attribute__((noreturn)) chaos_usage(void)
{
	fprintf(stderr, "usage: chaos --listen PORT (0: any, it is printed) --host H --port N (of PostgreSQL)\n"
			"  rates per million portions: --reset --half --delay --split --merge\n"
			"  --cancel N      cancel requests lost, per million\n"
			"  --delay-max US  --seed N\n"
			"  --sabotage cross|double|drop|swap|status|byte|mute|cancel|write  --one-in N\n");
	exit(2);
}

static void chaos_parse(int argc, char **argv)
{
	int ch, kind;

	while ((ch = getopt_long(argc, argv, "", chaos_long_options, NULL)) != -1) {
		unsigned n = optarg ? (unsigned)strtoul(optarg, NULL, 10) : 0;

		switch (ch) {
		case 'l':
			opt.listen_port = (int)n;
			break;
		case 'h':
			opt.host = optarg;
			break;
		case 'p':
			opt.port = (int)n;
			break;
		case 'r':
			opt.reset_ppm = n;
			break;
		case 'f':
			opt.half_ppm = n;
			break;
		case 'd':
			opt.delay_ppm = n;
			break;
		case 'D':
			opt.delay_max_us = n;
			break;
		case 's':
			opt.split_ppm = n;
			break;
		case 'm':
			opt.merge_ppm = n;
			break;
		case 'c':
			opt.cancel_ppm = n;
			break;
		case 'S':
			opt.seed = n;
			break;
		case 'n':
			opt.one_in = n ? n : 1;
			break;
		case 'x':
			kind = sabotage_parse(optarg);
			if (kind < 0)
				chaos_usage();
			opt.sabotage = (enum sabotage_kind)kind;
			break;
		default:
			chaos_usage();
		}
	}
}

static void chaos_loop(int listener)
{
	struct epoll_event events[64];
	struct chaos_pair *grave[128];
	int64_t cancelled = now_us();
	int timeout = 100;

	while (!chaos_stop) {
		int n = epoll_wait(chaos_epoll, events, 64, timeout);
		int dead = 0;
		int64_t now = now_us();

		for (int i = 0; i < n; i++) {
			struct chaos_end *end = events[i].data.ptr;
			bool before;

			if (!end) {
				chaos_accept(listener);
				continue;
			}
			before = end->pair->dead;
			chaos_on_event(end, events[i].events, now);
			if (!before && end->pair->dead)
				grave[dead++] = end->pair;
		}
		chaos_bury(grave, &dead);
		if (opt.sabotage == SABOTAGE_CANCEL && now - cancelled > CHAOS_CANCEL_EVERY) {
			cancelled = now;
			chaos_send_cancel();
		}
		timeout = chaos_tick(now);
	}
}

int main(int argc, char **argv)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
	int listener;

	chaos_parse(argc, argv);
	signal(SIGTERM, chaos_on_signal);
	signal(SIGINT, chaos_on_signal);
	chaos_rng = rng_make(opt.seed, 77);
	chaos_epoll = epoll_create1(EPOLL_CLOEXEC);
	listener = chaos_listen();
	epoll_ctl(chaos_epoll, EPOLL_CTL_ADD, listener, &ev);
	chaos_loop(listener);
	printf("chaos: %lu connections, %lu resets, %lu half-closed, %lu delays, %lu splits, %lu merges, "
	       "%lu cancel requests (%lu lost), %u sabotaged\n",
	       chaos_counts.pairs, chaos_counts.resets, chaos_counts.halves, chaos_counts.delays, chaos_counts.splits,
	       chaos_counts.merges, chaos_counts.cancels, chaos_counts.cancels_lost, sabotage_count());
	return 0;
}
