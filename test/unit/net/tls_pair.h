/*
 * Handshakes for the tests of TLS: pairs of sessions that talk through memory.
 */
#ifndef PGSLUICE_TEST_TLS_PAIR_H
#define PGSLUICE_TEST_TLS_PAIR_H

#include <openssl/ssl.h>

/* Two sessions, connected through memory. */
struct fixture_pair {
	SSL *client;
	SSL *server;
};

static struct fixture_pair fixture_new_pair(struct ssl_ctx_st *client, struct ssl_ctx_st *server)
{
	struct fixture_pair pair = { .client = SSL_new(client), .server = SSL_new(server) };
	BIO *a;
	BIO *b;

	assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
	SSL_set_bio(pair.client, a, a);
	SSL_set_bio(pair.server, b, b);
	SSL_set_connect_state(pair.client);
	SSL_set_accept_state(pair.server);
	return pair;
}

static void fixture_free_pair(struct fixture_pair *pair)
{
	SSL_free(pair->client);
	SSL_free(pair->server);
}

static bool fixture_waits(SSL *ssl, int ret)
{
	return SSL_get_error(ssl, ret) == SSL_ERROR_WANT_READ;
}

/* True when both sides have completed, and have read what the other sent behind that. */
static bool fixture_shake(struct fixture_pair *pair)
{
	char byte;

	for (int i = 0; i < 10; i++) {
		int c = SSL_do_handshake(pair->client);
		int s = SSL_do_handshake(pair->server);

		if ((c != 1 && !fixture_waits(pair->client, c)) || (s != 1 && !fixture_waits(pair->server, s)))
			return false;
		if (c == 1 && s == 1) {
			/* the client learns of a refused certificate, and of tickets, by reading */
			c = SSL_read(pair->client, &byte, 1);
			return fixture_waits(pair->client, c);
		}
	}
	return false;
}

#endif
