/*
 * A server for three questions, each answered in one packet and then hung up
 * on. It is written by hand, as libevent's evhttp has no bound on the number of
 * connections. What strangers may use up here is small: HTTP_CONNS_MAX
 * connections, of which the oldest goes when one more comes, since who asks in
 * earnest is answered at once; HTTP_HEAD_MAX bytes of each; HTTP_TIME_MAX_US.
 * Whoever goes beyond that is hung up on without an answer. The body of a
 * request is not read, there is nothing to be said in one.
 *
 * A port that is taken, by the process that this one takes over from for
 * example, is tried again at each look, which is once a second: until then load
 * balancers take a healthy process for dead.
 */
#include "admin/http.h"

#include "admin/ready.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"

#define HTTP_CONNS_MAX   64
#define HTTP_HEAD_MAX    4096
#define HTTP_ANSWER_MAX  512
#define HTTP_NAME_SIZE   128 /* of a database, longer than any may be */
#define HTTP_TIME_MAX_US (5 * USEC_PER_SEC)

struct http_conn {
	TAILQ_ENTRY(http_conn) entry; /* in http->conns */
	struct http *http;
	struct stream stream;
	struct loop_task free_task;
	uint64_t since_us;
};

struct http {
	struct engine *engine;
	struct listener_set *listeners; /* NULL: not listening */
	char *address;                  /* the setting that is in force, or cannot be for now */
	bool has_failed;                /* to listen there, which has been logged */
	TAILQ_HEAD(, http_conn) conns;  /* oldest first */
	unsigned count;
};

/* ---- connections ---- */

static void http_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	free(CONTAINER_OF(task, struct http_conn, free_task));
}

static void http_close(struct http_conn *conn)
{
	TAILQ_REMOVE(&conn->http->conns, conn, entry);
	conn->http->count--;
	stream_close(&conn->stream);
	conn->free_task.fn = http_free_task;
	loop_defer(conn->http->engine->control, &conn->free_task);
}

/* ---- answers ---- */

struct http_answer {
	unsigned status;
	const char *body;
};

static const char *http_status_text(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} texts[] = {
		{ 200, "OK" },
		{ 400, "Bad Request" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 503, "Service Unavailable" },
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (texts[i].status == status)
			return texts[i].text;
	UNREACHABLE();
}

/* Says it and hangs up. */
static void http_answer(struct http_conn *conn, const struct http_answer *answer, bool with_body)
{
	char text[HTTP_ANSWER_MAX];
	size_t n;

	n = str_format(text, sizeof(text),
		       "HTTP/1.1 %u %s\r\n"
		       "Content-Type: text/plain; charset=utf-8\r\n"
		       "Content-Length: %zu\r\n"
		       "Cache-Control: no-store\r\n"
		       "%sConnection: close\r\n\r\n%s%s",
		       answer->status, http_status_text(answer->status), strlen(answer->body) + 1,
		       answer->status == 405 ? "Allow: GET, HEAD\r\n" : "", with_body ? answer->body : "",
		       with_body ? "\n" : "");
	stream_send_last(&conn->stream, text, n);
	http_close(conn);
}

/* ---- questions ---- */

static struct http_answer http_readiness(const char *reason)
{
	return reason == NULL ? (struct http_answer){ 200, "ready" } : (struct http_answer){ 503, reason };
}

/* The value of a hexadecimal digit, or -1. */
static int http_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undoes percent-encoding; false when that is broken, or the name too long for a database. */
static bool http_decode(struct slice from, char name[HTTP_NAME_SIZE])
{
	size_t n = 0;

	for (size_t i = 0; i < from.n; i++) {
		int c = (uint8_t)from.p[i];

		if (c == '%') {
			int high = i + 2 < from.n ? http_digit(from.p[i + 1]) : -1;
			int low = i + 2 < from.n ? http_digit(from.p[i + 2]) : -1;

			c = high < 0 || low < 0 ? 0 : high * 16 + low;
			i += 2;
		}
		if (c == 0 || n + 1 == HTTP_NAME_SIZE)
			return false;
		name[n++] = (char)c;
	}
	name[n] = '\0';
	return true;
}

static struct http_answer http_database(struct engine *engine, struct slice encoded)
{
	char name[HTTP_NAME_SIZE];
	const char *reason;

	if (!http_decode(encoded, name))
		return (struct http_answer){ 400, "bad name of a database" };
	if (!ready_find_db(engine, name, &reason))
		return (struct http_answer){ 404, "no such database" };
	return http_readiness(reason);
}

static struct http_answer http_route(struct engine *engine, struct slice path)
{
	static const char database[] = "/ready/";

	if (slice_eq_str(path, "/live"))
		return (struct http_answer){ 200, "live" };
	if (slice_eq_str(path, "/ready"))
		return http_readiness(ready_reason(engine));
	if (path.n >= sizeof(database) - 1 && memcmp(path.p, database, sizeof(database) - 1) == 0)
		return http_database(engine, slice_make(path.p + sizeof(database) - 1, path.n - sizeof(database) + 1));
	return (struct http_answer){ 404, "not found" };
}

/* Takes a word off the front of a line, and one space behind it; empty when there is none. */
static struct slice http_take_word(struct slice *line)
{
	const char *end = line->n == 0 ? NULL : memchr(line->p, ' ', line->n);
	struct slice word = slice_make(line->p, end == NULL ? 0 : (size_t)(end - line->p));

	if (end != NULL)
		*line = slice_make(end + 1, line->n - word.n - 1);
	return word;
}

/* Works on the first line of a request: method, path, version. */
static void http_request(struct http_conn *conn, struct slice line)
{
	struct slice method = http_take_word(&line);
	struct slice path = http_take_word(&line);
	bool is_head = slice_eq_str(method, "HEAD");
	const char *query = path.n == 0 ? NULL : memchr(path.p, '?', path.n);
	struct http_answer answer;

	if (query != NULL)
		path.n = (size_t)(query - path.p);
	if (method.n == 0 || path.n == 0 || line.n != 8 || memcmp(line.p, "HTTP/1.", 7) != 0)
		answer = (struct http_answer){ 400, "bad request" };
	else if (!is_head && !slice_eq_str(method, "GET"))
		answer = (struct http_answer){ 405, "GET and HEAD only" };
	else
		answer = http_route(conn->http->engine, path);
	http_answer(conn, &answer, !is_head);
}

static struct slice http_first_line(struct slice head)
{
	const char *end = memmem(head.p, head.n, "\r\n", 2);

	return slice_make(head.p, end == NULL ? head.n : (size_t)(end - head.p));
}

static void http_on_readable(void *owner)
{
	struct http_conn *conn = owner;
	int err = stream_gather(&conn->stream);
	struct slice head;

	if (err == -E_AGAIN)
		return;
	if (err != 0 && err != -E_NOSPACE) {
		http_close(conn);
		return;
	}
	head = buf_is_empty(&conn->stream.in) ? slice_of("")
					      : slice_make(buf_ptr(&conn->stream.in), buf_len(&conn->stream.in));
	if (memmem(head.p, head.n, "\r\n\r\n", 4) != NULL)
		http_request(conn, http_first_line(head));
	else if (err == -E_NOSPACE)
		http_close(conn);
}

static void http_on_end(void *owner)
{
	http_close(owner);
}

static void http_on_drained(void *owner, int err UNUSED)
{
	http_close(owner); /* nothing is ever queued */
}

static const struct stream_ops http_stream_ops = {
	.on_readable = http_on_readable,
	.on_drained = http_on_drained,
	.on_event = http_on_end,
};

static void http_on_accept(struct loop *loop, int fd, const struct listener *from UNUSED,
			   const struct sock_addr *peer UNUSED, void *arg)
{
	struct http *http = arg;
	struct http_conn *conn = xcalloc(1, sizeof(*conn));

	if (http->count == HTTP_CONNS_MAX)
		http_close(TAILQ_FIRST(&http->conns));
	conn->http = http;
	conn->since_us = loop_now_us(loop);
	TAILQ_INSERT_TAIL(&http->conns, conn, entry);
	http->count++;
	stream_init(&conn->stream, fd, &http_stream_ops, conn, HTTP_HEAD_MAX, HTTP_ANSWER_MAX);
	stream_attach(&conn->stream, loop);
}

/* ---- listening ---- */

static void http_listen(struct http *http)
{
	struct listen_conf conf = { .tcp = { .backlog = HTTP_CONNS_MAX }, .is_retry = http->has_failed };
	char addr[256];
	char err[256];

	if (conf_split_address(http->address, addr, sizeof(addr), &conf.port) != 0)
		return; /* refused when the configuration was read */
	conf.addrs = addr;
	http->listeners = listener_set_open(&conf, err, sizeof(err));
	if (http->listeners != NULL) {
		listener_set_attach(http->listeners, http->engine->control, http_on_accept, http);
		http->has_failed = false;
		return;
	}
	if (!http->has_failed)
		log_warning("health_listen: cannot listen on %s, trying again each second", http->address);
	http->has_failed = true;
}

static void http_set_address(struct http *http, const char *address)
{
	listener_set_free(&http->listeners);
	free(http->address);
	http->address = xstrdup(address);
	http->has_failed = false;
}

void http_look(struct http *http, const char *address, uint64_t now_us)
{
	struct http_conn *conn;

	if (address == NULL)
		address = "";
	if (strcmp(http->address, address) != 0)
		http_set_address(http, address);
	if (http->listeners == NULL && http->address[0] != '\0')
		http_listen(http);
	while ((conn = TAILQ_FIRST(&http->conns)) != NULL && now_us - conn->since_us > HTTP_TIME_MAX_US)
		http_close(conn);
}

struct http *http_new(struct engine *engine)
{
	struct http *http = xcalloc(1, sizeof(*http));

	http->engine = engine;
	http->address = xstrdup("");
	TAILQ_INIT(&http->conns);
	return http;
}

void http_free(struct http **httpp)
{
	struct http *http = *httpp;
	struct http_conn *conn;

	*httpp = NULL;
	if (http == NULL)
		return;
	listener_set_free(&http->listeners);
	while ((conn = TAILQ_FIRST(&http->conns)) != NULL)
		http_close(conn);
	free(http->address);
	free(http);
}
