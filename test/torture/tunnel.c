/*
 * A tunnel that speaks TLS on one side: so everything that torments a pooler in plain text does so through TLS.
 *
 *   tunnel --to-tls   --port P                  clients in plain text here, TLS to 127.0.0.1:P
 *   tunnel --from-tls --port P --cert F --key F  TLS here, plain text to 127.0.0.1:P
 *
 * It listens on a free port of 127.0.0.1 and prints "port N". Towards the pooler every second connection asks with
 * SSLRequest, the others begin with the handshake. From the pooler both are taken, and a connection that asks for
 * neither is closed: then the pooler has sent in plain text what it was told to encrypt.
 *
 * To the pooler it connects from 127.1.A.B for a client whose port is 256 * A + B: so whoever reads SHOW CLIENTS knows
 * it.
 *
 * What one side has sent before it ended is given to the other before that is ended, too.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <getopt.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE_MAX (64 * 1024) /* bytes that wait for a side; then the other is not read */

static const uint8_t ssl_request[8] = { 0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f };
static const uint8_t alpn[] = "\x0apostgresql";

static struct {
	struct event_base *base;
	SSL_CTX *ctx;
	bool to_tls;
	struct sockaddr_in target;
	unsigned long turn;
} tunnel;

struct pipe {
	struct bufferevent *from; /* who connected to us */
	struct bufferevent *to;
	struct event *first; /* --from-tls: what the connection begins with */
	bool is_ending;      /* one side is gone; the other gets what is left */
};

static void fail(const char *what)
{
	fprintf(stderr, "tunnel: %s\n", what);
	exit(1);
}

static void pipe_free(struct pipe *p)
{
	if (p->from != NULL)
		bufferevent_free(p->from);
	if (p->to != NULL)
		bufferevent_free(p->to);
	if (p->first != NULL) {
		close(event_get_fd(p->first));
		event_free(p->first);
	}
	free(p);
}

static struct bufferevent *pipe_other(const struct pipe *p, const struct bufferevent *side)
{
	return side == p->from ? p->to : p->from;
}

static void pipe_on_read(struct bufferevent *side, void *arg)
{
	struct pipe *p = arg;
	struct evbuffer *out = bufferevent_get_output(pipe_other(p, side));

	if (p->is_ending) { /* there is nobody to have it; but the handshake needs a side that reads */
		evbuffer_drain(bufferevent_get_input(side), evbuffer_get_length(bufferevent_get_input(side)));
		return;
	}
	evbuffer_add_buffer(out, bufferevent_get_input(side));
	if (evbuffer_get_length(out) > QUEUE_MAX)
		bufferevent_disable(side, EV_READ);
}

/* All that waited for this side has gone. */
static void pipe_on_written(struct bufferevent *side, void *arg)
{
	struct pipe *p = arg;

	if (p->is_ending)
		pipe_free(p);
	else
		bufferevent_enable(pipe_other(p, side), EV_READ);
}

static void pipe_on_event(struct bufferevent *side, short what, void *arg)
{
	struct pipe *p = arg;
	struct bufferevent *other = pipe_other(p, side);

	if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) == 0)
		return;
	pipe_on_read(side, p);
	if (p->is_ending || evbuffer_get_length(bufferevent_get_output(other)) == 0) {
		pipe_free(p);
		return;
	}
	p->is_ending = true;
	bufferevent_disable(side, EV_READ | EV_WRITE);
}

static void pipe_run(struct pipe *p, struct bufferevent *side)
{
	bufferevent_setcb(side, pipe_on_read, pipe_on_written, pipe_on_event, p);
	bufferevent_enable(side, EV_READ | EV_WRITE);
}

static SSL *new_session(void)
{
	SSL *ssl = SSL_new(tunnel.ctx);

	if (ssl == NULL)
		fail("out of memory");
	return ssl;
}

/* ---- --to-tls ---- */

static void to_on_event(struct bufferevent *side, short what, void *arg)
{
	struct pipe *p = arg;

	if ((what & BEV_EVENT_CONNECTED) == 0)
		pipe_free(p);
	else
		(void)!bufferevent_write(side, ssl_request, sizeof(ssl_request));
}

/* The answer to SSLRequest: the handshake goes on with the same descriptor. */
static void to_on_answer(struct bufferevent *side, void *arg)
{
	struct pipe *p = arg;
	struct evbuffer *in = bufferevent_get_input(side);
	int fd = bufferevent_getfd(side);
	char answer = '\0';

	if (evbuffer_get_length(in) != 1 || evbuffer_remove(in, &answer, 1) != 1 || answer != 'S')
		fail("the pooler refuses TLS, or says more than that");
	bufferevent_setfd(side, -1);
	bufferevent_free(side);
	p->to = bufferevent_openssl_socket_new(tunnel.base, fd, new_session(), BUFFEREVENT_SSL_CONNECTING,
					       BEV_OPT_CLOSE_ON_FREE);
	pipe_run(p, p->to);
	pipe_run(p, p->from);
}

/* Begins to connect, on behalf of the client with this port. */
static int to_dial(unsigned port)
{
	struct sockaddr_in self = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f010000u | port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&self, sizeof(self)) != 0)
		fail("no socket");
	if (connect(fd, (struct sockaddr *)&tunnel.target, sizeof(tunnel.target)) == 0 || errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

static void to_begin(struct pipe *p, int from_fd, unsigned port)
{
	int fd = to_dial(port);

	p->from = bufferevent_socket_new(tunnel.base, from_fd, BEV_OPT_CLOSE_ON_FREE);
	if (fd < 0) {
		pipe_free(p);
		return;
	}
	if (tunnel.turn++ % 2 == 0) {
		p->to = bufferevent_socket_new(tunnel.base, fd, BEV_OPT_CLOSE_ON_FREE);
		bufferevent_setcb(p->to, to_on_answer, NULL, to_on_event, p);
		bufferevent_enable(p->to, EV_READ | EV_WRITE);
		bufferevent_socket_connect(p->to, NULL, 0); /* has begun */
	} else {
		p->to = bufferevent_openssl_socket_new(tunnel.base, fd, new_session(), BUFFEREVENT_SSL_CONNECTING,
						       BEV_OPT_CLOSE_ON_FREE);
		pipe_run(p, p->to);
		pipe_run(p, p->from);
	}
}

/* ---- --from-tls ---- */

static void from_on_first(evutil_socket_t fd, short what, void *arg)
{
	struct pipe *p = arg;
	uint8_t bytes[sizeof(ssl_request)];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_PEEK);

	if (n <= 0) {
		pipe_free(p);
		return;
	}
	if (bytes[0] == ssl_request[0] && n < (ssize_t)sizeof(ssl_request))
		return;
	if (bytes[0] == ssl_request[0]) {
		if (memcmp(bytes, ssl_request, sizeof(ssl_request)) != 0)
			fail("the pooler speaks plain text");
		if (recv(fd, bytes, sizeof(bytes), 0) != n || send(fd, "S", 1, MSG_NOSIGNAL) != 1) {
			pipe_free(p);
			return;
		}
	}
	event_free(p->first);
	p->first = NULL;
	p->from = bufferevent_openssl_socket_new(tunnel.base, fd, new_session(), BUFFEREVENT_SSL_ACCEPTING,
						 BEV_OPT_CLOSE_ON_FREE);
	p->to = bufferevent_socket_new(tunnel.base, -1, BEV_OPT_CLOSE_ON_FREE);
	pipe_run(p, p->from);
	pipe_run(p, p->to);
	if (bufferevent_socket_connect(p->to, (struct sockaddr *)&tunnel.target, sizeof(tunnel.target)) != 0)
		pipe_free(p);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *addr, int len, void *arg)
{
	struct pipe *p = calloc(1, sizeof(*p));

	if (p == NULL)
		fail("out of memory");
	if (tunnel.to_tls) {
		to_begin(p, fd, ntohs(((struct sockaddr_in *)addr)->sin_port));
		return;
	}
	p->first = event_new(tunnel.base, fd, EV_READ | EV_PERSIST, from_on_first, p);
	event_add(p->first, NULL);
}

/* ---- the start ---- */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned len,
			   void *arg)
{
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, n, alpn, sizeof(alpn) - 1, in, len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static void make_context(const char *cert, const char *key)
{
	tunnel.ctx = SSL_CTX_new(TLS_method());
	if (tunnel.ctx == NULL)
		fail("no TLS");
	if (tunnel.to_tls) {
		SSL_CTX_set_alpn_protos(tunnel.ctx, alpn, sizeof(alpn) - 1);
		return;
	}
	SSL_CTX_set_alpn_select_cb(tunnel.ctx, choose_protocol, NULL);
	if (SSL_CTX_use_certificate_chain_file(tunnel.ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tunnel.ctx, key, SSL_FILETYPE_PEM) != 1)
		fail("the certificate or the key cannot be used");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "to-tls", no_argument, NULL, 't' },     { "from-tls", no_argument, NULL, 'f' },
		{ "port", required_argument, NULL, 'p' }, { "cert", required_argument, NULL, 'c' },
		{ "key", required_argument, NULL, 'k' },  { NULL, 0, NULL, 0 },
	};
	struct sockaddr_in self = { .sin_family = AF_INET };
	socklen_t len = sizeof(self);
	const char *cert = "";
	const char *key = "";
	struct evconnlistener *listener;
	int c;

	tunnel.target.sin_family = AF_INET;
	tunnel.target.sin_addr.s_addr = self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't':
			tunnel.to_tls = true;
			break;
		case 'f':
			break;
		case 'p':
			tunnel.target.sin_port = htons((uint16_t)atoi(optarg));
			break;
		case 'c':
			cert = optarg;
			break;
		case 'k':
			key = optarg;
			break;
		default:
			return 2;
		}
	}
	signal(SIGPIPE, SIG_IGN);
	make_context(cert, key);
	tunnel.base = event_base_new();
	listener = evconnlistener_new_bind(tunnel.base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 4096,
					   (struct sockaddr *)&self, sizeof(self));
	if (listener == NULL || getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&self, &len) != 0)
		fail("cannot listen");
	printf("port %u\n", ntohs(self.sin_port));
	fflush(stdout);
	event_base_dispatch(tunnel.base);
	return 0;
}
