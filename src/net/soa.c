/*
 * Asking for a SOA record.
 *
 * Each name server is asked in turn, twice over, through a connected socket of
 * its own, so that the kernel drops what others send and tells us at once when
 * nobody listens there. An answer counts when its id and its question are ours.
 * It comes from the network: every offset is held against the length, and names
 * are skipped, never followed.
 */
#include "net/soa.h"

#include <event2/util.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/str.h"
#include "net/sock.h"

#define SOA_RESOLV_CONF "/etc/resolv.conf"
#define SOA_PORT        53
#define SOA_SERVERS_MAX 3
#define SOA_ROUNDS      2
#define SOA_TIMEOUT_US  (2 * USEC_PER_SEC)

#define SOA_HEADER      12
#define SOA_LABEL_MAX   63
#define SOA_NAME_MAX    255 /* with length bytes and the end */
#define SOA_TYPE        6
#define SOA_CLASS       1

struct soa_query {
	struct loop *loop;
	struct event *event;
	int fd; /* to the server being asked; -1 between two */
	unsigned tries;
	unsigned server_count;
	struct sock_addr servers[SOA_SERVERS_MAX];
	int err; /* when nobody answers */
	uint8_t question[SOA_MESSAGE_MAX];
	size_t question_len;
	soa_fn fn;
	void *arg;
};

/* Messages --------------------------------------------------------------- */

static void soa_put16(uint8_t *dst, unsigned value)
{
	dst[0] = (uint8_t)(value >> 8);
	dst[1] = (uint8_t)value;
}

static unsigned soa_get16(const uint8_t *src)
{
	return (unsigned)src[0] << 8 | src[1];
}

int soa_build(uint8_t dst[static SOA_MESSAGE_MAX], uint16_t id, const char *zone)
{
	size_t at = SOA_HEADER;

	memset(dst, 0, SOA_HEADER);
	soa_put16(dst, id);
	dst[2] = 1; /* recursion desired */
	soa_put16(dst + 4, 1);
	while (*zone != '\0') {
		size_t n = strcspn(zone, ".");

		if (n == 0 || n > SOA_LABEL_MAX || at + 1 + n + 1 > SOA_HEADER + SOA_NAME_MAX)
			return -E_SYNTAX;
		dst[at] = (uint8_t)n;
		memcpy(dst + at + 1, zone, n);
		at += 1 + n;
		zone += n + (zone[n] == '.');
	}
	if (at == SOA_HEADER)
		return -E_SYNTAX;
	dst[at++] = 0;
	soa_put16(dst + at, SOA_TYPE);
	soa_put16(dst + at + 2, SOA_CLASS);
	return (int)at + 4;
}

/* Where the name at `at` ends; 0 when it does not within the message. */
static size_t soa_skip_name(const uint8_t *data, size_t len, size_t at)
{
	while (at < len) {
		unsigned n = data[at];

		if (n == 0)
			return at + 1;
		if (n >= 0xc0)
			return at + 2 <= len ? at + 2 : 0;
		if (n > SOA_LABEL_MAX)
			return 0;
		at += 1 + n;
	}
	return 0;
}

/* The serial out of the data of a SOA record, which ends at `end`. */
static int soa_read_serial(const uint8_t *data, size_t at, size_t end, uint32_t *serial)
{
	at = soa_skip_name(data, end, at);
	if (at > 0)
		at = soa_skip_name(data, end, at);
	if (at == 0 || end - at < 20)
		return -E_CLOSED;
	*serial = (uint32_t)soa_get16(data + at) << 16 | soa_get16(data + at + 2);
	return 0;
}

/* The same question, whatever the case of its letters. */
static bool soa_is_same_question(const uint8_t *data, size_t len, const uint8_t *question, size_t q_len)
{
	if (len < q_len)
		return false;
	for (size_t i = SOA_HEADER; i < q_len; i++)
		if (tolower(data[i]) != tolower(question[i]))
			return false;
	return true;
}

int soa_parse(const uint8_t *data, size_t len, const uint8_t *question, size_t q_len, uint32_t *serial)
{
	size_t at = q_len;
	unsigned code;

	if (len < SOA_HEADER || memcmp(data, question, 2) != 0 || (data[2] & 0xf8) != 0x80)
		return -E_AGAIN;
	code = data[3] & 0x0f;
	/* A server that refuses may leave the question out. */
	if (code != 0 && code != 3)
		return -E_CLOSED;
	if (soa_get16(data + 4) != 1 || !soa_is_same_question(data, len, question, q_len))
		return -E_AGAIN;
	for (unsigned left = soa_get16(data + 6); left > 0; left--) {
		size_t rdata;
		size_t end;

		at = soa_skip_name(data, len, at);
		if (at == 0 || len - at < 10)
			return -E_CLOSED;
		rdata = at + 10;
		end = rdata + soa_get16(data + at + 8);
		if (end > len)
			return -E_CLOSED;
		if (soa_get16(data + at) == SOA_TYPE && soa_get16(data + at + 2) == SOA_CLASS)
			return soa_read_serial(data, rdata, end, serial);
		at = end;
	}
	return -E_NOENT;
}

/* Name servers ----------------------------------------------------------- */

/* The address behind "nameserver"; false when the line is another one. */
static bool soa_read_server(char *line, struct sock_addr *addr)
{
	char *save;
	char *word = strtok_r(line, " \t\r\n", &save);
	struct sockaddr_storage storage;
	int len = sizeof(storage);

	if (word == NULL || strcmp(word, "nameserver") != 0)
		return false;
	word = strtok_r(NULL, " \t\r\n", &save);
	if (word == NULL)
		return false;
	if (sock_addr_parse(addr, word, SOA_PORT) == 0)
		return true;
	/* with a port, as libevent understands it */
	if (evutil_parse_sockaddr_port(word, (struct sockaddr *)&storage, &len) != 0 ||
	    !sock_addr_set(addr, (struct sockaddr *)&storage, (socklen_t)len))
		return false;
	if (sock_addr_port(addr) == 0)
		sock_addr_set_port(addr, SOA_PORT);
	return true;
}

/* Those of resolv.conf, or the one on this host. */
static void soa_load_servers(struct soa_query *query, const char *resolv_conf)
{
	FILE *f = fopen(str_is_set(resolv_conf) ? resolv_conf : SOA_RESOLV_CONF, "re");
	char line[512];

	while (f != NULL && query->server_count < SOA_SERVERS_MAX && fgets(line, sizeof(line), f) != NULL)
		if (soa_read_server(line, &query->servers[query->server_count]))
			query->server_count++;
	if (f != NULL)
		fclose(f);
	if (query->server_count == 0 && sock_addr_parse(&query->servers[0], "127.0.0.1", SOA_PORT) == 0)
		query->server_count = 1;
}

/* The exchange ----------------------------------------------------------- */

static void soa_hang_up(struct soa_query *query)
{
	event_del(query->event);
	if (query->fd >= 0)
		close(query->fd);
	query->fd = -1;
}

static void soa_finish(struct soa_query *query, int err, uint32_t serial)
{
	soa_fn fn = query->fn;
	void *arg = query->arg;

	soa_cancel(&query);
	fn(err, serial, arg);
}

/* Sends the question to a server; false when that cannot be. */
static bool soa_send(struct soa_query *query, const struct sock_addr *server)
{
	const struct timeval timeout = { .tv_sec = SOA_TIMEOUT_US / USEC_PER_SEC };

	query->fd = socket(server->u.sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (query->fd < 0) {
		query->err = -E_SYS;
		return false;
	}
	if (connect(query->fd, &server->u.sa, server->len) != 0 ||
	    send(query->fd, query->question, query->question_len, MSG_NOSIGNAL) < 0)
		return false;
	event_assign(query->event, loop_base(query->loop), query->fd, EV_READ | EV_PERSIST,
		     event_get_callback(query->event), query);
	return event_add(query->event, &timeout) == 0;
}

/* Asks the next server; when there is none left the query has failed. */
static void soa_try_next(struct soa_query *query)
{
	while (query->tries < SOA_ROUNDS * query->server_count) {
		soa_hang_up(query);
		if (soa_send(query, &query->servers[query->tries++ % query->server_count]))
			return;
	}
	soa_finish(query, query->err, 0);
}

static void soa_on_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct soa_query *query = arg;
	uint8_t data[SOA_MESSAGE_MAX];
	uint32_t serial = 0;
	ssize_t n;
	int err;

	if ((what & EV_READ) == 0) {
		soa_try_next(query); /* the time is over, or the query has just begun */
		return;
	}
	n = recv(fd, data, sizeof(data), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	err = n < 0 ? -E_CLOSED : soa_parse(data, (size_t)n, query->question, query->question_len, &serial);
	if (err == -E_CLOSED)
		soa_try_next(query);
	else if (err != -E_AGAIN)
		soa_finish(query, err, serial);
}

struct soa_query *soa_ask(struct loop *loop, const char *resolv_conf, const char *zone, soa_fn fn, void *arg)
{
	struct soa_query *query = xcalloc(1, sizeof(*query));
	int len = soa_build(query->question, (uint16_t)arc4random(), zone);

	query->loop = loop;
	query->fd = -1;
	query->fn = fn;
	query->arg = arg;
	query->event = event_new(loop_base(loop), -1, 0, soa_on_event_cb, query);
	if (query->event == NULL)
		log_fatal("could not make an event: %s", strerror(errno));
	query->err = len > 0 ? -E_TIMEOUT : -E_NOENT;
	if (len > 0) {
		query->question_len = (size_t)len;
		soa_load_servers(query, resolv_conf);
	}
	event_active(query->event, EV_TIMEOUT, 0); /* begins in a later turn */
	return query;
}

void soa_cancel(struct soa_query **queryp)
{
	struct soa_query *query = *queryp;

	*queryp = NULL;
	if (query == NULL)
		return;
	soa_hang_up(query);
	event_free(query->event);
	free(query);
}
