/*
 * Streams through TLS: two of them, at the ends of one socket with small
 * buffers, on loops that the test steps itself. Whatever the sizes of the
 * pieces, whoever stops reading for a while and whichever loop a stream is on,
 * the bytes arrive, in order, and nobody is told that there is nothing while
 * the TLS layer has something.
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* cmocka needs those above */
#include <cmocka.h>

#include "core/str.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"
#include "net/tls_ctx.h"

#define TOTAL     (3 * 1000 * 1000) /* bytes in each direction */
#define OUT_MAX   (256 * 1024)
#define STEPS_MAX 1000000

static char dir[] = "/tmp/test_stream_tls.XXXXXX";
static char key_file[64];
static char cert_file[64];
static struct tls_ctx *server_ctx;
static struct tls_ctx *client_ctx;
static uint64_t random_state = 1;

static unsigned random_below(unsigned limit)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407U;
	return (unsigned)((random_state >> 33) % limit);
}

/* The byte at a place of the stream. */
static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i ^ (i >> 8) ^ (i >> 16));
}

struct end {
	struct stream stream;
	struct loop *loop;
	bool secured;
	int secured_err;
	bool closed;
	bool drained;
	size_t sent;     /* accepted by the stream */
	size_t received; /* consumed */
	size_t held;     /* of what was read last, not consumed */
};

static void end_on_readable(void *owner)
{
	struct end *e = owner;
	uint8_t *data;
	size_t len;
	size_t used;
	int err = stream_fill(&e->stream, &data, &len);

	if (err == -E_AGAIN)
		return;
	if (err < 0) {
		e->closed = true;
		stream_want_read(&e->stream, false);
		return;
	}
	/* Sometimes a part is left for later, as of a message that is not whole. */
	used = len > 5 && random_below(4) == 0 ? len - 5 : len;
	for (size_t i = 0; i < used; i++)
		if (data[i] != byte_at(e->received + i))
			fail_msg("byte %zu is %02x, expected %02x", e->received + i, data[i], byte_at(e->received + i));
	e->received += used;
	e->held = len - used;
	assert_int_equal(stream_hold(&e->stream, data + used, len - used), 0);
	if (random_below(3) == 0)
		stream_want_read(&e->stream, false);
}

static void end_on_drained(void *owner, int err)
{
	struct end *e = owner;

	assert_int_equal(err, 0);
	e->drained = true;
}

static void end_on_event(void *owner)
{
	fail_msg("nothing to be told");
}

static void end_on_secured(void *owner, int err)
{
	struct end *e = owner;

	assert_false(e->secured);
	e->secured = true;
	e->secured_err = err;
}

static const struct stream_ops end_ops = {
	.on_readable = end_on_readable,
	.on_drained = end_on_drained,
	.on_event = end_on_event,
	.on_secured = end_on_secured,
};

static void make_files(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	FILE *f;

	assert_non_null(mkdtemp(dir));
	str_format(key_file, sizeof(key_file), "%s/key.pem", dir);
	str_format(cert_file, sizeof(cert_file), "%s/cert.pem", dir);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const uint8_t *)"localhost", -1,
				   -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	f = fopen(key_file, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(f), 0);
	f = fopen(cert_file, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, cert), 1);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(key_file, 0600), 0);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static int setup(void **state)
{
	struct tls_setup server = { .faces_clients = true, .verify = TLS_VERIFY_OFFERED, .session_cache = 10 };
	struct tls_setup client = { .verify = TLS_VERIFY_REQUIRED };
	char err[TLS_CTX_ERR_MAX] = "";

	assert_true(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	make_files();
	server.key_file = key_file;
	server.cert_file = cert_file;
	client.ca_file = cert_file;
	if (tls_ctx_new(&server, &server_ctx, err, sizeof(err)) != 0 ||
	    tls_ctx_new(&client, &client_ctx, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return 0;
}

static int teardown(void **state)
{
	tls_ctx_release(&server_ctx);
	tls_ctx_release(&client_ctx);
	assert_int_equal(unlink(key_file), 0);
	assert_int_equal(unlink(cert_file), 0);
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

struct pair {
	struct loop *loops[2];
	struct end ends[2]; /* the server's, the client's */
};

static void step(struct pair *p)
{
	loop_step(p->loops[0]);
	loop_step(p->loops[1]);
}

/* `size`: of the buffers of the sockets. */
static void make_pair_of(struct pair *p, const struct tls_target *target, int size)
{
	int fds[2];

	memset(p, 0, sizeof(*p));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	for (int i = 0; i < 2; i++) {
		struct end *e = &p->ends[i];

		assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
		p->loops[i] = loop_new(i == 0 ? "a" : "b", NULL);
		e->loop = p->loops[i];
		stream_init(&e->stream, fds[i], &end_ops, e, LOOP_SCRATCH_SIZE - 1, OUT_MAX);
		stream_attach_quiet(&e->stream, e->loop);
	}
	stream_start_tls(&p->ends[0].stream, tls_accept(server_ctx, fds[0]));
	stream_start_tls(&p->ends[1].stream, tls_connect(client_ctx, fds[1], target));
	for (int i = 0; i < 2; i++) {
		char text[TLS_INFO_MAX] = "?";

		tls_info(stream_tls(&p->ends[i].stream), text, sizeof(text));
		assert_string_equal(text, "");
	}
	for (int i = 0; i < 1000 && (!p->ends[0].secured || !p->ends[1].secured); i++)
		step(p);
	assert_true(p->ends[0].secured);
	assert_true(p->ends[1].secured);
	assert_int_equal(p->ends[0].secured_err, 0);
}

static void make_pair(struct pair *p, const struct tls_target *target)
{
	make_pair_of(p, target, 8 * 1024);
}

static void free_pair(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		stream_close(&p->ends[i].stream);
		loop_free(&p->loops[i]);
	}
}

/* Sends the next bytes, in one piece or several, of sizes around those of records and buffers. */
static void send_some(struct end *e)
{
	static const unsigned sizes[] = {
		1, 5, 4096, TLS_RECORD_MAX - 1, TLS_RECORD_MAX, TLS_RECORD_MAX + 1, 40000, 65535, 65536, 65537
	};
	static uint8_t bytes[3 * 70000];
	struct iovec iov[3];
	size_t n = 0;
	int pieces = (int)random_below(4);
	int err;

	for (int i = 0; i < 3; i++) {
		size_t len = sizes[random_below(ARRAY_LEN(sizes))] + random_below(3);

		if (len > TOTAL - e->sent - n)
			len = TOTAL - e->sent - n;
		iov[i] = (struct iovec){ bytes + n, len };
		n += len;
		if (i + 1 >= pieces)
			break;
	}
	for (size_t i = 0; i < n; i++)
		bytes[i] = byte_at(e->sent + i);
	err = pieces == 0 ? stream_send(&e->stream, bytes, n) : stream_sendv(&e->stream, iov, pieces);
	assert_true(err == 0 || err == 1);
	e->sent += n;
}

/* The stream goes to another loop; what TLS has read ahead goes with it. */
static void move(struct pair *p, struct end *e)
{
	struct stream_socket socket;
	struct buf in = e->stream.in;

	if (stream_is_choked(&e->stream))
		return;
	buf_init(&e->stream.in, 0);
	socket = stream_take(&e->stream);
	stream_close(&e->stream);
	e->loop = p->loops[random_below(2)];
	stream_init(&e->stream, socket.fd, &end_ops, e, LOOP_SCRATCH_SIZE - 1, OUT_MAX);
	stream_adopt_tls(&e->stream, socket.tls);
	e->stream.in = in;
	stream_attach(&e->stream, e->loop);
}

static bool is_done(const struct pair *p)
{
	return p->ends[0].received + p->ends[0].held == TOTAL && p->ends[1].received + p->ends[1].held == TOTAL;
}

static void send_both_ways(int size)
{
	struct pair p;
	int steps = 0;

	make_pair_of(&p, &(struct tls_target){ .host = "localhost", .verify_name = true }, size);
	while (!is_done(&p)) {
		assert_true(steps++ < STEPS_MAX);
		for (int i = 0; i < 2; i++) {
			struct end *e = &p.ends[i];

			if (!stream_is_choked(&e->stream) && e->sent < TOTAL)
				send_some(e);
			if (random_below(50) == 0)
				move(&p, e);
			if (random_below(2) == 0)
				stream_want_read(&e->stream, true);
		}
		step(&p);
	}
	assert_false(p.ends[0].closed);
	assert_false(p.ends[1].closed);
	free_pair(&p);
}

/* A buffer takes less than a record, or some records and a part of the next. */
static void test_bytes(void **state)
{
	static const int sizes[] = { 8 * 1024, 40 * 1024, 100 * 1024 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		send_both_ways(sizes[i]);
}

/* What comes right behind the handshake is told, though the kernel has no news of it. */
static void test_first_bytes(void **state)
{
	struct pair p;

	make_pair(&p, &(struct tls_target){ .host = NULL });
	p.ends[1].sent = 1;
	assert_int_equal(stream_send(&p.ends[1].stream, &(uint8_t){ byte_at(0) }, 1), 0);
	for (int i = 0; i < 1000 && p.ends[0].received == 0; i++)
		step(&p);
	assert_int_equal(p.ends[0].received, 1);
	assert_true(stream_is_clean(&p.ends[0].stream));
	free_pair(&p);
}

/* The end of one side is an end for the other, and not before all that was sent. */
static void test_end(void **state)
{
	struct pair p;

	make_pair(&p, &(struct tls_target){ .host = NULL });
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(stream_send(&p.ends[1].stream, &(uint8_t){ byte_at(i) }, 1), 0);
	stream_close(&p.ends[1].stream);
	for (int i = 0; i < 1000 && !p.ends[0].closed; i++) {
		stream_want_read(&p.ends[0].stream, true);
		step(&p);
	}
	assert_true(p.ends[0].closed);
	assert_int_equal(p.ends[0].received + p.ends[0].held, 10);
	free_pair(&p);
}

static void test_wrong_host(void **state)
{
	struct pair p;

	make_pair(&p, &(struct tls_target){ .host = "elsewhere.example", .verify_name = true });
	assert_int_equal(p.ends[1].secured_err, -E_PROTO);
	assert_string_equal(tls_error_text(stream_tls(&p.ends[1].stream)),
			    "server certificate is not for host \"elsewhere.example\"");
	free_pair(&p);
}

static bool note_name(void *arg, enum tls_name kind, const char *name)
{
	char *text = arg;

	str_format(text + strlen(text), 200 - strlen(text), "%d=%s ", (int)kind, name);
	return true;
}

static void test_facts(void **state)
{
	uint8_t ours[TLS_BINDING_MAX];
	uint8_t theirs[TLS_BINDING_MAX];
	char text[200] = "";
	struct pair p;

	make_pair(&p, &(struct tls_target){ .host = NULL });
	assert_int_equal(tls_end_point(stream_tls(&p.ends[0].stream), ours), 32);
	assert_int_equal(tls_end_point(stream_tls(&p.ends[1].stream), theirs), 32);
	assert_memory_equal(ours, theirs, 32);
	assert_false(tls_has_peer_cert(stream_tls(&p.ends[0].stream)));
	assert_true(tls_has_peer_cert(stream_tls(&p.ends[1].stream)));
	tls_each_peer_name(stream_tls(&p.ends[1].stream), note_name, text);
	assert_string_equal(text, "2=localhost 3=CN=localhost ");
	tls_info(stream_tls(&p.ends[0].stream), text, sizeof(text));
	assert_string_equal(text, "TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=x25519");
	free_pair(&p);
}

/* What the other side has not taken may be a password: its memory is overwritten, whoever gets it next. */
static void test_what_is_not_sent_is_wiped(void **state)
{
	static const char secret[] = "Xq7-not-sent-vR";
	char after[sizeof(secret)] = "";
	uint8_t filler[4096] = { 0 };
	struct stream s;
	off_t at;
	int fds[2];
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC); /* what was freed may be looked at in no other way */

	if (mem < 0)
		skip();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	stream_init(&s, fds[0], &end_ops, NULL, OUT_MAX, OUT_MAX);
	while (stream_send(&s, filler, sizeof(filler)) == 0)
		;
	assert_int_equal(stream_send(&s, secret, sizeof(secret)), 1);
	at = (off_t)(uintptr_t)(buf_ptr(&s.out) + buf_len(&s.out) - sizeof(secret));
	assert_int_equal(pread(mem, after, sizeof(after), at), sizeof(after));
	assert_memory_equal(after, secret, sizeof(secret));
	stream_close(&s);
	if (pread(mem, after, sizeof(after), at) == (ssize_t)sizeof(after))
		assert_memory_not_equal(after, secret, sizeof(secret));
	close(fds[1]);
	close(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes), cmocka_unit_test(test_first_bytes),
		cmocka_unit_test(test_end),   cmocka_unit_test(test_wrong_host),
		cmocka_unit_test(test_facts), cmocka_unit_test(test_what_is_not_sent_is_wiped),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
