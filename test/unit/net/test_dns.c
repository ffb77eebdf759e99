/*
 * A tiny name server on this host answers by the name it is asked for; a
 * resolv.conf in a temporary directory leads the resolver to it. The resolver
 * and the asker run on loops of their own, in two threads; the test's main
 * thread sends errands to both.
 */
#include "net/dns.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/str.h"

#define HOUR_US (3600 * USEC_PER_SEC)

static char test_dir[] = "/tmp/test_dns.XXXXXX";
static char test_resolv_conf[64];

/* The name server -------------------------------------------------------- */

static int server_fd;
static pthread_t server_thread;
static _Atomic bool server_stop;
static _Atomic bool server_hold;        /* leave "slow.test" unanswered for now */
static _Atomic unsigned server_a_count; /* questions for an A record */
static _Atomic unsigned server_moved;   /* what "moves.test" answers: 1 after its move */

struct packet {
	uint8_t bytes[512];
	size_t n;
};

static void packet_put(struct packet *p, const void *data, size_t n)
{
	ASSERT(p->n + n <= sizeof(p->bytes));
	memcpy(p->bytes + p->n, data, n);
	p->n += n;
}

/* One answer record for the name in the question; four bytes are an A record. */
static void packet_put_record(struct packet *p, const void *ip, uint8_t ip_len)
{
	uint8_t head[] = { 0xc0, 12, 0, ip_len == 4 ? 1 : 28, 0, 1, 0, 0, 0, 60, 0, ip_len };

	packet_put(p, head, sizeof(head));
	packet_put(p, ip, ip_len);
	p->bytes[7]++;
}

/* The name in the question as text; its length in the packet. */
static size_t packet_name(const struct packet *p, char *name, size_t size)
{
	size_t at = 12;

	name[0] = '\0';
	while (at < p->n && p->bytes[at] != 0) {
		str_append(name, size, "%s%.*s", name[0] == '\0' ? "" : ".", p->bytes[at],
			   (const char *)p->bytes + at + 1);
		at += 1u + p->bytes[at];
	}
	return at + 1 - 12;
}

static void server_answer(struct packet *p, const char *name, bool is_a)
{
	static const uint8_t v4[4][4] = { { 192, 0, 2, 1 }, { 192, 0, 2, 2 }, { 192, 0, 2, 3 }, { 192, 0, 2, 9 } };
	static const uint8_t v6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 7 };
	uint8_t many[4] = { 198, 51, 100, 0 };

	if (strcasecmp(name, "three.test") == 0 || strcasecmp(name, "slow.test") == 0) {
		for (int i = 0; i < 3 && is_a; i++)
			packet_put_record(p, v4[i], 4);
	} else if (strcasecmp(name, "both.test") == 0) {
		packet_put_record(p, is_a ? v4[0] : v6, is_a ? 4 : 16);
	} else if (strcasecmp(name, "six.test") == 0) {
		if (!is_a)
			packet_put_record(p, v6, 16);
	} else if (strcasecmp(name, "moves.test") == 0) {
		if (is_a)
			packet_put_record(p, v4[0], 4);
		if (is_a)
			packet_put_record(p, v4[server_moved ? 3 : 1], 4);
	} else if (strcasecmp(name, "many.test") == 0) {
		for (many[3] = 1; many[3] <= 20 && is_a; many[3]++)
			packet_put_record(p, many, 4);
	} else if (strcasecmp(name, "empty.test") == 0) {
		return;
	} else if (strncasecmp(name, "n-", 2) == 0) {
		if (is_a)
			packet_put_record(p, v4[0], 4);
	} else {
		p->bytes[3] |= strcasecmp(name, "broken.test") == 0 ? 2 : 3;
	}
}

static void *server_main(void *arg UNUSED)
{
	struct pollfd ready = { .fd = server_fd, .events = POLLIN };

	while (!server_stop) {
		struct sock_addr peer = { .len = sizeof(peer.u) };
		struct packet p = { .n = 0 };
		char name[300];
		size_t name_len;
		ssize_t n;
		bool is_a;

		if (poll(&ready, 1, 20) != 1)
			continue;
		n = recvfrom(server_fd, p.bytes, sizeof(p.bytes), 0, &peer.u.sa, &peer.len);
		if (n < 17)
			continue;
		p.n = (size_t)n;
		name_len = packet_name(&p, name, sizeof(name));
		is_a = p.bytes[12 + name_len + 1] == 1;
		server_a_count += is_a;
		if (strcasecmp(name, "dead.test") == 0 || (server_hold && strcasecmp(name, "slow.test") == 0))
			continue;
		p.n = 12 + name_len + 4;
		p.bytes[2] = 0x81;
		p.bytes[3] = 0x80;
		p.bytes[10] = p.bytes[11] = 0; /* no records of an extension */
		server_answer(&p, name, is_a);
		sendto(server_fd, p.bytes, p.n, 0, &peer.u.sa, peer.len);
	}
	return NULL;
}

static void server_start(void)
{
	struct sock_addr addr;
	FILE *f;

	server_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(server_fd >= 0);
	assert_int_equal(sock_addr_parse(&addr, "127.0.0.1", 0), 0);
	assert_int_equal(bind(server_fd, &addr.u.sa, addr.len), 0);
	assert_int_equal(sock_local_addr(server_fd, &addr), 0);
	f = fopen(test_resolv_conf, "w");
	assert_non_null(f);
	fprintf(f, "nameserver 127.0.0.1:%u\ndomain invalid\noptions timeout:1 attempts:2 max-timeouts:100\n",
		sock_addr_port(&addr));
	fclose(f);
	assert_int_equal(pthread_create(&server_thread, NULL, server_main, NULL), 0);
}

/* Asking ----------------------------------------------------------------- */

static struct loop *test_resolver;
static struct loop *test_asker;
static struct dns *test_dns;
static _Atomic unsigned test_done;

/* Requests of the running test, freed at its end. */
static struct test_request {
	struct dns_request req;
	struct loop_msg ask; /* makes the asker's loop ask */
	const char *name;
	bool asking;
	_Atomic bool asked;
} * test_reqs[1200];
static size_t test_req_count;

static void test_sleep_ms(unsigned ms)
{
	struct timespec nap = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&nap, NULL);
}

static void test_start_with(const char *resolv_conf, uint64_t max_ttl_us, uint64_t nxdomain_ttl_us)
{
	struct dns_conf conf = { max_ttl_us, nxdomain_ttl_us, 0 };

	test_done = 0;
	server_a_count = 0;
	server_moved = 0;
	server_hold = false;
	test_resolver = loop_new("resolver", NULL);
	test_asker = loop_new("asker", NULL);
	test_dns = dns_new(test_resolver, resolv_conf, &conf);
	assert_non_null(test_dns);
	loop_start_thread(test_resolver);
	loop_start_thread(test_asker);
}

static void test_start(uint64_t max_ttl_us, uint64_t nxdomain_ttl_us)
{
	test_start_with(test_resolv_conf, max_ttl_us, nxdomain_ttl_us);
}

static void test_stop(struct loop *loop)
{
	loop_stop(loop);
	loop_join(loop);
}

static int teardown(void **state UNUSED)
{
	if (test_resolver != NULL) {
		test_stop(test_asker);
		test_stop(test_resolver);
	}
	dns_free(&test_dns);
	loop_free(&test_resolver);
	loop_free(&test_asker);
	while (test_req_count > 0)
		free(test_reqs[--test_req_count]);
	return 0;
}

static void test_done_fn(struct dns_request *req)
{
	struct test_request *r = req->arg;

	ASSERT(!r->asking); /* never within the call */
	ASSERT(loop_current() == NULL || loop_current() == test_asker);
	test_done++;
}

static void test_ask_fn(struct loop *loop, struct loop_msg *msg)
{
	struct test_request *r = CONTAINER_OF(msg, struct test_request, ask);

	r->req.loop = loop;
	r->req.done = test_done_fn;
	r->req.arg = r;
	r->asking = true;
	dns_lookup(test_dns, r->name, 5432, &r->req);
	r->asking = false;
	r->asked = true;
}

/* Has the asker ask; `name` must stay. */
static struct dns_request *test_ask(const char *name)
{
	struct test_request *r = xcalloc(1, sizeof(*r));

	ASSERT(test_req_count < ARRAY_LEN(test_reqs));
	test_reqs[test_req_count++] = r;
	r->ask.fn = test_ask_fn;
	r->name = name;
	loop_post(test_asker, &r->ask);
	while (!r->asked)
		sched_yield();
	return &r->req;
}

/* Waits until so many requests are back. */
static void test_wait(unsigned count)
{
	uint64_t deadline = clock_mono_us() + 60 * USEC_PER_SEC;

	while (test_done < count && clock_mono_us() < deadline)
		test_sleep_ms(1);
	assert_int_equal(test_done, count);
}

/* Asks and waits; the addresses as one text, or the error. */
static const char *test_resolve(const char *name)
{
	static char text[1024];
	char one[SOCK_ADDR_TEXT];
	struct dns_request *req = test_ask(name);

	test_wait(1);
	test_done = 0;
	text[0] = '\0';
	if (req->err != 0)
		str_format(text, sizeof(text), "%s", err_str(req->err));
	for (unsigned i = 0; i < req->count; i++) {
		sock_addr_format(&req->addrs[i], one, sizeof(one));
		str_append(text, sizeof(text), "%s%s", i == 0 ? "" : " ", one);
	}
	assert_int_equal(req->err == 0, req->count > 0);
	return text;
}

/* Runs a function on the resolver's loop and waits for its end. */
struct errand {
	struct loop_msg msg;
	void (*fn)(void);
	_Atomic bool done;
};

static void errand_fn(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct errand *errand = CONTAINER_OF(msg, struct errand, msg);

	errand->fn();
	errand->done = true;
}

static void test_on_resolver(void (*fn)(void))
{
	struct errand errand = { .msg.fn = errand_fn, .fn = fn };

	loop_post(test_resolver, &errand.msg);
	while (!errand.done)
		test_sleep_ms(1);
}

static void test_answers(void **state UNUSED)
{
	test_start(HOUR_US, HOUR_US);
	assert_string_equal(test_resolve("n-one.test"), "192.0.2.1:5432");
	assert_string_equal(test_resolve("six.test"), "[2001:db8::7]:5432");
	test_resolve("both.test");
	assert_non_null(strstr(test_resolve("both.test"), "192.0.2.1:5432"));
	assert_non_null(strstr(test_resolve("both.test"), "[2001:db8::7]:5432"));
	assert_string_equal(test_resolve("nobody.test"), "not found");
	assert_string_equal(test_resolve("empty.test"), "not found");
	assert_string_equal(test_resolve("broken.test"), "timed out");
	assert_string_equal(test_resolve("dead.test"), "timed out");
}

/* A name that stands in /etc/hosts of every machine. */
static void test_hosts_file(void **state UNUSED)
{
	test_start(HOUR_US, HOUR_US);
	assert_non_null(strstr(test_resolve("localhost"), ":5432"));
	assert_int_equal(server_a_count, 0);
}

static void test_bad_names(void **state UNUSED)
{
	char name[400];

	test_start(HOUR_US, HOUR_US);
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_string_equal(test_resolve(name), "not found");
	name[100] = '\0'; /* a label longer than 63 */
	test_resolve(name);
	test_resolve("");
	test_resolve(".");
	test_resolve("a..b");
	assert_string_equal(test_resolve("n-still.alive"), "192.0.2.1:5432");
}

static void test_rotation(void **state UNUSED)
{
	test_start(HOUR_US, HOUR_US);
	assert_string_equal(test_resolve("three.test"), "192.0.2.1:5432 192.0.2.2:5432 192.0.2.3:5432");
	assert_string_equal(test_resolve("three.test"), "192.0.2.2:5432 192.0.2.3:5432 192.0.2.1:5432");
	assert_string_equal(test_resolve("three.test"), "192.0.2.3:5432 192.0.2.1:5432 192.0.2.2:5432");
	assert_string_equal(test_resolve("three.test"), "192.0.2.1:5432 192.0.2.2:5432 192.0.2.3:5432");
	assert_int_equal(server_a_count, 1);
}

static void test_many_addresses(void **state UNUSED)
{
	struct dns_request *req;

	test_start(HOUR_US, HOUR_US);
	req = test_ask("many.test");
	test_wait(1);
	assert_int_equal(req->err, 0);
	assert_int_equal(req->count, DNS_ADDRS_MAX);
}

static void test_cache_of_answers(void **state UNUSED)
{
	test_start(USEC_PER_SEC, HOUR_US);
	test_resolve("three.test");
	test_resolve("three.test");
	assert_int_equal(server_a_count, 1);
	test_sleep_ms(1100);
	assert_string_equal(test_resolve("three.test"), "192.0.2.3:5432 192.0.2.1:5432 192.0.2.2:5432");
	assert_int_equal(server_a_count, 2);
}

static void test_cache_of_failures(void **state UNUSED)
{
	unsigned asked;

	test_start(HOUR_US, USEC_PER_SEC);
	test_resolve("nobody.test");
	asked = server_a_count;
	assert_string_equal(test_resolve("nobody.test"), "not found");
	assert_int_equal(server_a_count, asked);
	test_sleep_ms(1100);
	assert_string_equal(test_resolve("nobody.test"), "not found");
	assert_true(server_a_count > asked);
}

static void test_no_cache(void **state UNUSED)
{
	test_start(0, 0);
	test_resolve("three.test");
	test_resolve("three.test");
	assert_int_equal(server_a_count, 2);
}

static void shorten_ttl(void)
{
	struct dns_conf conf = { 0, 0, 0 };

	dns_reconfigure(test_dns, &conf);
}

static void test_reconfigure(void **state UNUSED)
{
	test_start(HOUR_US, HOUR_US);
	test_resolve("three.test");
	test_on_resolver(shorten_ttl);
	test_resolve("three.test"); /* keeps the life it was born with */
	assert_int_equal(server_a_count, 1);
	test_resolve("n-one.test");
	test_resolve("n-one.test");
	assert_int_equal(server_a_count, 3);
}

static struct dns_counts counted;

static void count_names(void)
{
	dns_count(test_dns, &counted);
}

/* Questions for a name that is being looked up join; others do not wait for it. */
static void test_joined(void **state UNUSED)
{
	struct dns_request *reqs[20];

	test_start(HOUR_US, HOUR_US);
	server_hold = true;
	for (size_t i = 0; i < ARRAY_LEN(reqs); i++) {
		reqs[i] = test_ask("slow.test");
		reqs[i]->cancelled = i % 2 == 0; /* changes nothing here */
	}
	test_ask("n-other.test");
	test_wait(1);
	test_on_resolver(count_names);
	assert_int_equal(counted.names, 2);
	assert_int_equal(counted.queries, 1);
	server_hold = false; /* the answer comes when the question is repeated */
	test_wait(1 + ARRAY_LEN(reqs));
	assert_true(server_a_count < ARRAY_LEN(reqs)); /* one question, and its repetitions */
	for (size_t i = 0; i < ARRAY_LEN(reqs); i++) {
		assert_int_equal(reqs[i]->err, 0);
		assert_int_equal(reqs[i]->count, 3);
		assert_true(sock_addr_equal(&reqs[i]->addrs[0], &reqs[(i + 3) % ARRAY_LEN(reqs)]->addrs[0]) || i >= 17);
		assert_false(sock_addr_equal(&reqs[i]->addrs[0], &reqs[i]->addrs[1]));
	}
}

static char gone_text[256];

static void on_gone(const char *name, const struct sock_addr *addr, void *arg)
{
	char host[SOCK_ADDR_TEXT];

	ASSERT(arg == gone_text);
	sock_addr_host(addr, host, sizeof(host));
	str_append(gone_text, sizeof(gone_text), "%s %s;", name, host);
}

static void set_gone_hook(void)
{
	dns_set_gone_hook(test_dns, on_gone, gone_text);
}

static void test_gone(void **state UNUSED)
{
	gone_text[0] = '\0';
	test_start(0, 0);
	test_on_resolver(set_gone_hook);
	test_resolve("moves.test");
	test_resolve("moves.test");
	assert_string_equal(gone_text, "");
	server_moved = 1;
	test_resolve("moves.test");
	assert_string_equal(gone_text, "moves.test 192.0.2.2;");
	test_resolve("moves.test");
	assert_string_equal(gone_text, "moves.test 192.0.2.2;");
}

static char shown_text[1024];

static void show_row(const struct dns_row *row, void *arg UNUSED)
{
	ASSERT(row->ttl_s == 3599 || row->ttl_s == 3600);
	str_append(shown_text, sizeof(shown_text), "%s=%u;", row->name, row->count);
	for (unsigned i = 0; i < row->count; i++)
		ASSERT(sock_addr_port(&row->addrs[i]) == 0);
}

static void show_all(void)
{
	shown_text[0] = '\0';
	dns_show(test_dns, show_row, NULL);
}

static void test_show(void **state UNUSED)
{
	test_start(HOUR_US, HOUR_US);
	test_on_resolver(show_all);
	assert_string_equal(shown_text, "");
	test_resolve("three.test");
	test_resolve("nobody.test");
	test_on_resolver(show_all);
	assert_non_null(strstr(shown_text, "three.test=3;"));
	assert_non_null(strstr(shown_text, "nobody.test=0;"));
}

/* Names that nobody asks for any more do not pile up for ever. */
static void test_forgets(void **state UNUSED)
{
	char name[32];

	test_start(0, 0);
	for (unsigned i = 0; i < 1100; i++) {
		str_format(name, sizeof(name), "n-%u.test", i);
		test_ask(name);
		test_wait(i + 1);
	}
	test_on_resolver(count_names);
	assert_int_equal(counted.queries, 0);
	assert_in_range(counted.names, 1, 1024);
}

/* At the end of the process, whoever still waits gets an answer. */
static void test_free_in_flight(void **state UNUSED)
{
	struct dns_request *waiting;
	struct dns_request *unread;

	test_start(HOUR_US, HOUR_US);
	server_hold = true;
	waiting = test_ask("slow.test");
	test_on_resolver(count_names);
	assert_int_equal(counted.queries, 1);
	test_stop(test_resolver);
	unread = test_ask("n-unread.test");
	test_stop(test_asker);
	dns_free(&test_dns);
	loop_free(&test_resolver);
	loop_free(&test_asker);
	assert_int_equal(test_done, 2);
	assert_int_equal(waiting->err, -E_CLOSED);
	assert_int_equal(unread->err, -E_CLOSED);
}

static void test_no_resolv_conf(void **state UNUSED)
{
	test_start_with("/nonexistent/resolv.conf", HOUR_US, HOUR_US);
	assert_non_null(strstr(test_resolve("localhost"), ":5432"));
}

static int group_setup(void **state UNUSED)
{
	if (mkdtemp(test_dir) == NULL)
		return -1;
	str_format(test_resolv_conf, sizeof(test_resolv_conf), "%s/resolv.conf", test_dir);
	server_start();
	log_configure(&(struct log_setup){ .quiet = true });
	return 0;
}

static int group_teardown(void **state UNUSED)
{
	server_stop = true;
	pthread_join(server_thread, NULL);
	close(server_fd);
	unlink(test_resolv_conf);
	return rmdir(test_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_answers, teardown),
		cmocka_unit_test_teardown(test_hosts_file, teardown),
		cmocka_unit_test_teardown(test_bad_names, teardown),
		cmocka_unit_test_teardown(test_rotation, teardown),
		cmocka_unit_test_teardown(test_many_addresses, teardown),
		cmocka_unit_test_teardown(test_cache_of_answers, teardown),
		cmocka_unit_test_teardown(test_cache_of_failures, teardown),
		cmocka_unit_test_teardown(test_no_cache, teardown),
		cmocka_unit_test_teardown(test_reconfigure, teardown),
		cmocka_unit_test_teardown(test_joined, teardown),
		cmocka_unit_test_teardown(test_gone, teardown),
		cmocka_unit_test_teardown(test_show, teardown),
		cmocka_unit_test_teardown(test_forgets, teardown),
		cmocka_unit_test_teardown(test_free_in_flight, teardown),
		cmocka_unit_test_teardown(test_no_resolv_conf, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
