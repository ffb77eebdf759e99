/*
 * Questions for a serial number: the messages byte by byte, then whole
 * exchanges with name servers that this test plays itself, and zones.
 */
#include "net/soa.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/str.h"
#include "net/dns_zone.h"
#include "net/sock.h"

/* ---- messages ---- */

static uint8_t question[SOA_MESSAGE_MAX];
static size_t question_len;

static void ask(const char *zone)
{
	int n = soa_build(question, 0x1234, zone);

	assert_true(n > 0);
	question_len = (size_t)n;
}

static void test_build(void **state UNUSED)
{
	static const char expected[] = "\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\4test\0\0\6\0\1";
	char name[300];

	ask("example.test");
	assert_int_equal(question_len, sizeof(expected) - 1);
	assert_memory_equal(question, expected, question_len);
	ask("example.test."); /* the root may be named */
	assert_memory_equal(question, expected, question_len);
	assert_int_equal(soa_build(question, 1, ""), -E_SYNTAX);
	assert_int_equal(soa_build(question, 1, "."), -E_SYNTAX);
	assert_int_equal(soa_build(question, 1, "a..b"), -E_SYNTAX);
	memset(name, 'x', sizeof(name));
	name[63] = '\0';
	ask(name);
	name[63] = 'x';
	name[64] = '\0';
	assert_int_equal(soa_build(question, 1, name), -E_SYNTAX);
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 2 == 0 ? 'x' : '.';
	name[253] = '\0';
	ask(name);
	assert_int_equal(question_len, 12 + 255 + 4);
	name[253] = '.';
	name[255] = '\0';
	assert_int_equal(soa_build(question, 1, name), -E_SYNTAX);
}

/* The question turned into an answer with these flags and records; its length. */
static size_t make_answer(uint8_t *dst, uint8_t code, uint8_t records, const void *tail, size_t tail_len)
{
	memcpy(dst, question, question_len);
	dst[2] = 0x81;
	dst[3] = 0x80 | code;
	dst[7] = records;
	memcpy(dst + question_len, tail, tail_len);
	return question_len + tail_len;
}

#define SOA_RECORD  "\xc0\x0c\0\6\0\1\0\0\0\1\0\x18\xc0\x0c\xc0\x0c\xde\xad\xbe\xef\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4"
#define TEXT_RECORD "\1x\0\0\x10\0\1\0\0\0\1\0\3\2hi"

static void test_parse(void **state UNUSED)
{
	static const char record[] = TEXT_RECORD SOA_RECORD;
	uint8_t answer[SOA_MESSAGE_MAX];
	uint32_t serial = 0;
	size_t len;

	ask("Example.test");
	len = make_answer(answer, 0, 2, record, sizeof(record) - 1);
	assert_int_equal(soa_parse(answer, len, question, question_len, &serial), 0);
	assert_int_equal(serial, 0xdeadbeef);
	answer[13] = 'e'; /* the server may write it otherwise */
	assert_int_equal(soa_parse(answer, len, question, question_len, &serial), 0);
	answer[13] = 'f';
	assert_int_equal(soa_parse(answer, len, question, question_len, &serial), -E_AGAIN);
	answer[13] = 'E';
	answer[0] ^= 1;
	assert_int_equal(soa_parse(answer, len, question, question_len, &serial), -E_AGAIN);
	answer[0] ^= 1;
	answer[2] = 1;
	assert_int_equal(soa_parse(answer, len, question, question_len, &serial), -E_AGAIN);

	len = make_answer(answer, 0, 1, record, sizeof(record) - 1);
	assert_int_equal(soa_parse(answer, len, question, question_len, &serial), -E_NOENT);
	len = make_answer(answer, 3, 0, "", 0);
	assert_int_equal(soa_parse(answer, len, question, question_len, &serial), -E_NOENT);
	len = make_answer(answer, 2, 0, "", 0);
	assert_int_equal(soa_parse(answer, len, question, question_len, &serial), -E_CLOSED);
	assert_int_equal(soa_parse(answer, 12, question, question_len, &serial), -E_CLOSED);
}

/* Whatever is missing at the end, it is noticed. */
static void test_cut_answers(void **state UNUSED)
{
	static const char record[] = TEXT_RECORD SOA_RECORD;
	uint8_t answer[SOA_MESSAGE_MAX];
	uint32_t serial;
	size_t len;

	ask("example.test");
	len = make_answer(answer, 0, 2, record, sizeof(record) - 1);
	for (size_t n = 0; n < len; n++) {
		uint8_t *exact = xmalloc(n + 1);

		memcpy(exact, answer, n);
		assert_true(soa_parse(exact, n, question, question_len, &serial) < 0);
		free(exact);
	}
}

/* ---- exchanges ---- */

static struct loop *loop;
static char resolv_conf[] = "/tmp/test_soa.XXXXXX";

struct server {
	int fd;
	uint16_t port;
	uint32_t serial;
	unsigned asked;
};

static void server_open(struct server *s)
{
	struct sock_addr addr;

	*s = (struct server){ .fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) };
	assert_int_equal(sock_addr_parse(&addr, "127.0.0.1", 0), 0);
	assert_int_equal(bind(s->fd, &addr.u.sa, addr.len), 0);
	assert_int_equal(sock_local_addr(s->fd, &addr), 0);
	s->port = sock_addr_port(&addr);
}

/* Takes a question if there is one, and answers it with a code. */
static void server_serve(struct server *s, uint8_t code)
{
	char tail[] = SOA_RECORD;
	struct sock_addr peer = { .len = sizeof(peer.u) };
	uint8_t answer[SOA_MESSAGE_MAX];
	ssize_t n = recvfrom(s->fd, question, sizeof(question), 0, &peer.u.sa, &peer.len);

	if (n < 0)
		return;
	s->asked++;
	question_len = (size_t)n;
	for (int i = 0; i < 4; i++)
		tail[16 + i] = (char)(s->serial >> (24 - 8 * i));
	n = (ssize_t)make_answer(answer, code, code == 0, tail, code == 0 ? sizeof(tail) - 1 : 0);
	assert_int_equal(sendto(s->fd, answer, (size_t)n, 0, &peer.u.sa, peer.len), n);
}

static void write_resolv_conf(const char *text)
{
	FILE *f = fopen(resolv_conf, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int setup(void **state UNUSED)
{
	int fd = mkstemp(resolv_conf);

	loop = loop_new("test", NULL);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state UNUSED)
{
	unlink(resolv_conf);
	memcpy(resolv_conf + sizeof(resolv_conf) - 7, "XXXXXX", 6);
	loop_free(&loop);
	return 0;
}

struct outcome {
	bool done;
	int err;
	uint32_t serial;
};

static void on_serial(int err, uint32_t serial, void *arg)
{
	struct outcome *o = arg;

	assert_false(o->done);
	*o = (struct outcome){ true, err, serial };
}

/* Refused by one, unknown to nobody: the second server's word counts, and a closed port costs no time. */
static void test_next_server(void **state UNUSED)
{
	struct server dead;
	struct server bad;
	struct server good;
	struct outcome o = { false, 0, 0 };
	struct soa_query *query;
	char text[256];

	server_open(&dead);
	server_open(&bad);
	server_open(&good);
	good.serial = 77;
	close(dead.fd);
	str_format(text, sizeof(text),
		   "# comment\nnameserver\nnameserver nonsense\nsearch x\n"
		   "nameserver 127.0.0.1:%u\n nameserver\t127.0.0.1:%u \nnameserver [127.0.0.1]:1\n"
		   "nameserver 127.0.0.1:%u\n",
		   dead.port, bad.port, good.port);
	write_resolv_conf(text);
	query = soa_ask(loop, resolv_conf, "example.test", on_serial, &o);
	assert_non_null(query);
	assert_false(o.done);
	while (!o.done) {
		loop_step(loop);
		server_serve(&bad, 5);
		server_serve(&good, 0);
	}
	assert_int_equal(o.err, 0);
	assert_int_equal(o.serial, 77);
	assert_int_equal(bad.asked, 1);
	assert_int_equal(good.asked, 1);
	close(bad.fd);
	close(good.fd);
}

static void test_nobody_there(void **state UNUSED)
{
	struct server dead;
	struct outcome o = { false, 0, 0 };
	char text[64];

	server_open(&dead);
	close(dead.fd);
	str_format(text, sizeof(text), "nameserver 127.0.0.1:%u\n", dead.port);
	write_resolv_conf(text);
	assert_non_null(soa_ask(loop, resolv_conf, "example.test", on_serial, &o));
	while (!o.done)
		loop_step(loop);
	assert_int_equal(o.err, -E_TIMEOUT);
	o.done = false;
	assert_non_null(soa_ask(loop, resolv_conf, "no..name", on_serial, &o));
	while (!o.done)
		loop_step(loop);
	assert_int_equal(o.err, -E_NOENT);
}

static void test_cancel(void **state UNUSED)
{
	struct server silent;
	struct outcome o = { false, 0, 0 };
	struct soa_query *query;
	char text[64];

	server_open(&silent);
	str_format(text, sizeof(text), "nameserver 127.0.0.1:%u\n", silent.port);
	write_resolv_conf(text);
	query = soa_ask(loop, resolv_conf, "example.test", on_serial, &o);
	soa_cancel(&query); /* before it began */
	query = soa_ask(loop, resolv_conf, "example.test", on_serial, &o);
	loop_step(loop);
	soa_cancel(&query);
	assert_null(query);
	loop_step(loop);
	assert_false(o.done);
	close(silent.fd);
}

/* ---- zones ---- */

static char changed[64];

static void on_changed(const struct dns_zone *zone, void *arg)
{
	assert_ptr_equal(arg, changed);
	assert_non_null(zone);
	str_append(changed, sizeof(changed), "!");
}

static void add_row(const struct dns_zone_row *row, void *arg)
{
	str_append(arg, 256, "%s:%u:%u ", row->name, row->serial, row->count);
}

static void check_rows(const struct dns_zones *zones, const char *expected)
{
	char rows[256] = "";

	dns_zones_show(zones, add_row, rows);
	assert_string_equal(rows, expected);
}

/* Lets the server answer until it has been asked that often. */
static void serve_until(struct server *s, unsigned asked)
{
	while (s->asked < asked) {
		loop_step(loop);
		server_serve(s, 0);
	}
	for (int i = 0; i < 3; i++)
		loop_step(loop); /* the answer arrives */
}

static void test_zone_serials(void **state UNUSED)
{
	struct server s;
	struct dns_zones *zones;
	struct dns_zone *a;
	struct dns_zone *b;
	char text[64];

	server_open(&s);
	str_format(text, sizeof(text), "nameserver 127.0.0.1:%u\n", s.port);
	write_resolv_conf(text);
	changed[0] = '\0';
	zones = dns_zones_new(loop, resolv_conf, on_changed, changed);
	assert_null(dns_zone_join(zones, "localhost"));
	assert_null(dns_zone_join(zones, "localhost."));
	a = dns_zone_join(zones, "a.example.test");
	b = dns_zone_join(zones, "b.EXAMPLE.test");
	assert_ptr_equal(a, b);
	assert_int_equal(dns_zones_count(zones), 1);
	for (int i = 0; i < 3; i++)
		loop_step(loop);
	server_serve(&s, 0);
	assert_int_equal(s.asked, 0); /* not watched yet */
	check_rows(zones, "example.test:0:2 ");

	s.serial = 5;
	dns_zones_set_period(zones, 1000);
	serve_until(&s, 1);
	check_rows(zones, "example.test:5:2 ");
	assert_string_equal(changed, ""); /* the first is no change */
	s.serial = 4;
	serve_until(&s, 3);
	check_rows(zones, "example.test:5:2 "); /* neither is one that goes back */
	s.serial = 6;
	serve_until(&s, 5);
	assert_string_equal(changed, "!");
	s.serial = 0x80000005; /* half the circle, just still ahead */
	serve_until(&s, 7);
	assert_string_equal(changed, "!!");
	s.serial = 1; /* round the circle */
	serve_until(&s, 9);
	assert_string_equal(changed, "!!!");
	check_rows(zones, "example.test:1:2 ");

	dns_zones_set_period(zones, 0);
	dns_zone_leave(zones, &a);
	check_rows(zones, "example.test:1:1 ");
	dns_zone_leave(zones, &b);
	assert_null(b);
	dns_zone_leave(zones, &b);
	assert_int_equal(dns_zones_count(zones), 0);
	dns_zones_free(&zones);
	close(s.fd);
}

/* A zone goes while its question is under way. */
static void test_zone_leaves(void **state UNUSED)
{
	struct server silent;
	struct dns_zones *zones;
	struct dns_zone *zone[20];
	char text[64];

	server_open(&silent);
	str_format(text, sizeof(text), "nameserver 127.0.0.1:%u\n", silent.port);
	write_resolv_conf(text);
	zones = dns_zones_new(loop, resolv_conf, on_changed, changed);
	dns_zones_set_period(zones, 3600 * USEC_PER_SEC);
	for (size_t i = 0; i < ARRAY_LEN(zone); i++) {
		char host[32];

		str_format(host, sizeof(host), "h.zone%zu", i);
		zone[i] = dns_zone_join(zones, host);
	}
	loop_step(loop);
	loop_step(loop);
	for (size_t i = 0; i < ARRAY_LEN(zone); i++)
		dns_zone_leave(zones, &zone[i]);
	loop_step(loop);
	dns_zones_free(&zones);
	close(silent.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_cut_answers),
		cmocka_unit_test_setup_teardown(test_next_server, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zone_serials, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zone_leaves, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
