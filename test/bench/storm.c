/*
 * Clients that log in with TLS and SCRAM, leave and come again, as fast as
 * they can: the storm after a network was down.
 *
 *   storm PORT CLIENTS SECONDS USER PASSWORD DATABASE [plain|tls|resume]
 *
 * Each client connects to 127.0.0.1, asks for TLS, logs in, waits for
 * ReadyForQuery, says Terminate and begins anew. With "resume" it goes on with
 * the TLS session that it had. At the end one line tells how many logins there
 * were, how many failed, and how long they took; a first failure is told at
 * once. One thread does all of it, with the pooler's own modules. SCRAM's keys
 * are computed once, since a machine that plays thousands of clients would
 * otherwise do nothing else.
 */
#include <signal.h>
#include <stdio.h>

#include "auth/base64.h"
#include "auth/crypto.h"
#include "auth/scram.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/str.h"
#include "net/loop.h"
#include "net/sock.h"
#include "net/stream.h"
#include "net/tls_ctx.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

#define STORM_IN_MAX  (LOOP_SCRATCH_SIZE - 1)
#define STORM_OUT_MAX 4096
#define STORM_SAMPLES 4000000

struct storm_client {
	struct stream stream;
	struct loop_task task;
	struct scram_client *scram;
	uint64_t begin_us;
	bool asked;       /* for TLS */
	char session[16]; /* under which its TLS session is kept */
};

static struct {
	struct loop *loop;
	struct tls_ctx *tls_ctx; /* NULL: plain text */
	struct sock_addr addr;
	const char *user;
	const char *password;
	const char *database;
	bool resumes;
	struct scram_keys keys;
	bool has_keys;
	char salt[2 * SCRAM_SALT_MAX]; /* the first that was seen, for which the keys are; empty: none yet */
	uint64_t end_us;
	uint32_t *samples; /* microseconds that each login took */
	size_t logins;
	size_t failures;
	size_t resumed;
} storm;

static void storm_connect(struct storm_client *c);

static void storm_again(struct loop *loop UNUSED, struct loop_task *task)
{
	storm_connect(CONTAINER_OF(task, struct storm_client, task));
}

/* Ends this connection; the next one begins after this turn. */
static void storm_leave(struct storm_client *c)
{
	stream_close(&c->stream);
	scram_client_free(&c->scram);
	loop_defer(storm.loop, &c->task);
}

static void storm_fail(struct storm_client *c, const char *why)
{
	if (storm.failures++ == 0)
		fprintf(stderr, "storm: %s\n", why);
	storm_leave(c);
}

/* Sends what was built; false when the connection is over. */
static bool storm_send(struct storm_client *c, struct buf *b, int err)
{
	if (err == 0)
		err = stream_send_buf(&c->stream, b);
	buf_fini(b);
	if (err < 0)
		storm_fail(c, "cannot send");
	return err >= 0;
}

static void storm_send_startup(struct storm_client *c)
{
	const struct build_pair pairs[] = {
		{ slice_of("user"), slice_of(storm.user) },
		{ slice_of("database"), slice_of(storm.database) },
	};
	struct buf b;

	buf_init(&b, STORM_OUT_MAX);
	if (storm_send(c, &b, build_startup(&b, PROTO_V3_0, pairs, ARRAY_LEN(pairs))))
		stream_want_read(&c->stream, true);
}

/* The attribute of a SCRAM message that begins with ",<name>=". */
static struct slice storm_attribute(struct slice message, char name)
{
	const char *end = message.p + message.n;

	for (const char *p = message.p; p + 2 < end; p++) {
		const char *comma;

		if (p[0] != ',' || p[1] != name || p[2] != '=')
			continue;
		p += 3;
		comma = memchr(p, ',', (size_t)(end - p));
		return slice_make(p, (size_t)((comma == NULL ? end : comma) - p));
	}
	return slice_make(NULL, 0);
}

/* The keys for the salt and the count that the server names; all clients are one user. */
static void storm_make_keys(struct slice server_first)
{
	static const char client_key[] = "Client Key";
	static const char server_key[] = "Server Key";
	struct slice salt64 = storm_attribute(server_first, 's');
	char count[16];
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t salted[CRYPTO_SHA256_LEN];
	ssize_t salt_len = base64_decode(salt, sizeof(salt), salt64);
	int err;

	str_copy_slice(count, sizeof(count), storm_attribute(server_first, 'i'));
	ASSERT(salt_len > 0);
	err = crypto_pbkdf2(storm.password, strlen(storm.password), salt, (size_t)salt_len,
			    (uint32_t)strtoul(count, NULL, 10), salted);
	if (err == 0)
		err = crypto_hmac(salted, sizeof(salted), &(struct crypto_part){ client_key, strlen(client_key) }, 1,
				  storm.keys.client_key);
	if (err == 0)
		err = crypto_hmac(salted, sizeof(salted), &(struct crypto_part){ server_key, strlen(server_key) }, 1,
				  storm.keys.server_key);
	ASSERT(err == 0);
	str_copy_slice(storm.salt, sizeof(storm.salt), salt64);
	storm.has_keys = true;
}

/* The answer to a server-first message; false when the connection is over. */
static bool storm_on_challenge(struct storm_client *c, struct slice server_first)
{
	struct slice salt = storm_attribute(server_first, 's');
	struct slice out;
	struct buf b;

	if (storm.has_keys && !slice_eq_str(salt, storm.salt)) {
		/* PgBouncer makes up a salt each time: from now on each login computes its keys. */
		storm.has_keys = false;
		storm_leave(c);
		return false;
	}
	if (storm.salt[0] == '\0')
		storm_make_keys(server_first);
	if (scram_client_final(c->scram, server_first, &out) != 0)
		return storm_fail(c, "SCRAM fails"), false;
	buf_init(&b, STORM_OUT_MAX);
	return storm_send(c, &b, build_sasl_response(&b, out));
}

/* One Authentication message; false when the connection is over. */
static bool storm_on_auth(struct storm_client *c, struct slice body)
{
	struct parse_auth auth;
	struct slice out;
	struct buf b;

	if (parse_auth(body, &auth) != 0)
		return storm_fail(c, "broken Authentication message"), false;
	buf_init(&b, STORM_OUT_MAX);
	switch (auth.code) {
	case 0:
		return true;
	case 10:
		c->scram = scram_client_new("", storm.has_keys ? slice_make(NULL, 0) : slice_of(storm.password),
					    storm.has_keys ? &storm.keys : NULL, NULL);
		scram_client_first(c->scram, &out);
		return storm_send(c, &b, build_sasl_initial(&b, SCRAM_MECHANISM, out));
	case 11:
		return storm_on_challenge(c, auth.data);
	case 12:
		if (scram_client_verify(c->scram, auth.data) != 0)
			return storm_fail(c, "the server's signature is wrong"), false;
		return true;
	default:
		return storm_fail(c, "another authentication method"), false;
	}
}

static bool storm_on_message(struct storm_client *c, uint8_t type, struct slice body)
{
	static const uint8_t terminate[] = { FE_TERMINATE, 0, 0, 0, 4 };
	struct parse_report report;
	char text[200] = "error";

	switch (type) {
	case BE_AUTH:
		return storm_on_auth(c, body);
	case BE_ERROR:
		if (parse_report(body, &report) == 0)
			str_copy_slice(text, sizeof(text), report.message);
		return storm_fail(c, text), false;
	case BE_READY:
		if (storm.logins < STORM_SAMPLES)
			storm.samples[storm.logins] = (uint32_t)(clock_mono_us() - c->begin_us);
		storm.logins++;
		storm.resumed += stream_tls(&c->stream) != NULL && tls_is_resumed(stream_tls(&c->stream));
		stream_send_last(&c->stream, terminate, sizeof(terminate));
		storm_leave(c);
		return false;
	default:
		return true;
	}
}

/* The answer to SSLRequest. */
static void storm_on_answer(struct storm_client *c, const uint8_t *data, size_t len)
{
	struct tls_target target = { .host = "localhost", .key = storm.resumes ? c->session : NULL };

	if (len != 1 || data[0] != 'S')
		storm_fail(c, "TLS is refused");
	else
		stream_start_tls(&c->stream, tls_connect(storm.tls_ctx, c->stream.fd, &target));
}

static void storm_on_readable(void *owner)
{
	struct storm_client *c = owner;
	uint8_t *data;
	size_t len;
	size_t at = 0;
	int err = stream_fill(&c->stream, &data, &len);

	if (err == -E_AGAIN)
		return;
	if (err < 0) {
		storm_fail(c, "connection closed");
		return;
	}
	if (c->asked && stream_tls(&c->stream) == NULL) {
		storm_on_answer(c, data, len);
		return;
	}
	while (at < len) {
		struct frame f;

		err = frame_read(data + at, len - at, STORM_IN_MAX, &f);
		if (err == -E_AGAIN || (err == 0 && (size_t)f.size > len - at))
			break;
		if (err < 0) {
			storm_fail(c, "broken message");
			return;
		}
		if (!storm_on_message(c, f.type, slice_make(data + at + FRAME_HEADER, (size_t)f.size - FRAME_HEADER)))
			return;
		at += (size_t)f.size;
	}
	if (stream_hold(&c->stream, data + at, len - at) != 0)
		storm_fail(c, "too much");
}

static void storm_on_drained(void *owner, int err)
{
	if (err < 0)
		storm_fail(owner, "connection broken");
}

static void storm_on_connected(void *owner)
{
	struct storm_client *c = owner;
	struct buf b;

	if (sock_connect_result(c->stream.fd) != 0) {
		storm_fail(c, "cannot connect");
		return;
	}
	if (storm.tls_ctx == NULL) {
		storm_send_startup(c);
		return;
	}
	c->asked = true;
	buf_init(&b, STORM_OUT_MAX);
	if (storm_send(c, &b, build_ssl_request(&b)))
		stream_want_read(&c->stream, true);
}

static void storm_on_secured(void *owner, int err)
{
	struct storm_client *c = owner;

	if (err != 0)
		storm_fail(c, tls_error_text(stream_tls(&c->stream)));
	else
		storm_send_startup(c);
}

static const struct stream_ops storm_ops = {
	.on_readable = storm_on_readable,
	.on_drained = storm_on_drained,
	.on_event = storm_on_connected,
	.on_secured = storm_on_secured,
};

static void storm_connect(struct storm_client *c)
{
	uint64_t now_us = clock_mono_us();
	int fd;

	if (now_us >= storm.end_us) {
		loop_stop(storm.loop);
		return;
	}
	fd = sock_connect_start(&storm.addr, NULL);
	if (fd < 0) {
		storm.failures++;
		fprintf(stderr, "storm: %s\n", strerror(errno));
		loop_stop(storm.loop);
		return;
	}
	c->begin_us = now_us;
	c->asked = false;
	stream_init(&c->stream, fd, &storm_ops, c, STORM_IN_MAX, STORM_OUT_MAX);
	stream_watch_connect(&c->stream, storm.loop);
}

/* Sessions without a login under way still end in time. */
static void storm_tick(struct loop *loop, void *arg UNUSED)
{
	if (clock_mono_us() >= storm.end_us)
		loop_stop(loop);
}

static int storm_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Milliseconds that so many of a hundred logins took at most. */
static double storm_percentile(size_t n, size_t percent)
{
	size_t at = n * percent / 100;

	return n == 0 ? 0.0 : storm.samples[at] / 1000.0;
}

static void storm_report(uint64_t seconds)
{
	size_t n = storm.logins < STORM_SAMPLES ? storm.logins : STORM_SAMPLES;

	qsort(storm.samples, n, sizeof(storm.samples[0]), storm_compare);
	printf("logins=%zu failures=%zu resumed=%zu per_second=%.0f p50_ms=%.2f p99_ms=%.2f\n", storm.logins,
	       storm.failures, storm.resumed, (double)storm.logins / (double)seconds, storm_percentile(n, 50),
	       storm_percentile(n, 99));
}

static bool storm_set_mode(const char *mode)
{
	struct tls_setup setup = { .session_cache = 10000 };
	char err[TLS_CTX_ERR_MAX];

	if (strcmp(mode, "plain") == 0)
		return true;
	if (strcmp(mode, "resume") == 0)
		storm.resumes = true;
	else if (strcmp(mode, "tls") != 0)
		return false;
	if (tls_ctx_new(&setup, &storm.tls_ctx, err, sizeof(err)) == 0)
		return true;
	fprintf(stderr, "storm: %s\n", err);
	return false;
}

int main(int argc, char **argv)
{
	struct storm_client *clients;
	unsigned long count;
	unsigned long seconds;

	if (argc < 7 || !storm_set_mode(argc > 7 ? argv[7] : "tls")) {
		fprintf(stderr, "usage: %s PORT CLIENTS SECONDS USER PASSWORD DATABASE [plain|tls|resume]\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	count = strtoul(argv[2], NULL, 10);
	seconds = strtoul(argv[3], NULL, 10);
	storm.user = argv[4];
	storm.password = argv[5];
	storm.database = argv[6];
	if (sock_addr_parse(&storm.addr, "127.0.0.1", (uint16_t)strtoul(argv[1], NULL, 10)) != 0)
		return 2;
	storm.samples = xcalloc(STORM_SAMPLES, sizeof(storm.samples[0]));
	storm.loop = loop_new("storm", NULL);
	storm.end_us = clock_mono_us() + seconds * 1000000;
	clients = xcalloc(count, sizeof(clients[0]));
	loop_set_tick(storm.loop, 100000, storm_tick, NULL);
	for (unsigned long i = 0; i < count; i++) {
		clients[i].task.fn = storm_again;
		clients[i].stream.fd = -1;
		str_format(clients[i].session, sizeof(clients[i].session), "%lu", i);
		storm_connect(&clients[i]);
	}
	loop_run(storm.loop);
	storm_report(seconds);
	for (unsigned long i = 0; i < count; i++) {
		stream_close(&clients[i].stream);
		scram_client_free(&clients[i].scram);
	}
	loop_free(&storm.loop);
	tls_ctx_release(&storm.tls_ctx);
	free(clients);
	free(storm.samples);
	return storm.logins == 0;
}
