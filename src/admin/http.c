/*
 * Three questions by HTTP, answered by libevent's evhttp on the control loop.
 *
 * evhttp bounds what one connection may send, and knows neither how many there
 * are nor how old they get. So each connection's bufferevent is made here, and
 * a reference to it kept, which keeps its descriptor open, too. It is given
 * back when the connection is HTTP_TIME_MAX_US old, or sooner when it is the
 * oldest of HTTP_CONNS_MAX and one more comes: whoever asks in earnest has been
 * answered by then. evhttp may have finished with it long before, which nobody
 * has to notice: the peer has seen the end of it as soon as it had its answer.
 * If evhttp has not, it is told of an error and hangs up. So it is when more
 * than HTTP_READ_MAX bytes wait for it, since it looks for the end of a line as
 * long as it takes once the headers are over. (A high watermark of the
 * bufferevent would have the loop spin: libevent calls again and again then.)
 *
 * A listener accepts once in a turn of the loop. Otherwise a burst could have as
 * many descriptors open as it likes, as they are closed between turns only.
 *
 * A port that is taken, by the process that this one takes over from for
 * example, is tried again at each look, which is once a second: until then load
 * balancers take a healthy process for dead.
 */
#include "admin/http.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "admin/ready.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"

#define HTTP_CONNS_MAX      64
#define HTTP_BACKLOG        1024 /* a crowd is accepted in some 100 ms, a SYN that is dropped comes again after 1 s */
#define HTTP_HEAD_MAX       4096
#define HTTP_READ_MAX       32768
#define HTTP_TIME_MAX_US    (5 * USEC_PER_SEC)
#define HTTP_LOG_INTERVAL_S 60

struct http_conn {
	TAILQ_ENTRY(http_conn) entry; /* in http->conns */
	struct http *http;
	struct bufferevent *bev; /* a reference besides that of evhttp */
	struct loop_task hang_up_task;
	uint64_t since_us;
};

struct http {
	struct engine *engine;
	struct evhttp *server;          /* NULL: not listening */
	struct listener_set *listeners; /* of the server */
	char *address;                  /* the setting that is in force, or cannot be for now */
	bool has_failed;                /* to listen there, which has been logged */
	struct loop_task accept_task;
	TAILQ_HEAD(, http_conn) conns; /* oldest first */
	unsigned count;
};

/* ---- connections ---- */

static void http_on_input(struct evbuffer *input, const struct evbuffer_cb_info *info UNUSED, void *arg)
{
	struct http_conn *conn = arg;

	if (evbuffer_get_length(input) > HTTP_READ_MAX)
		loop_defer(conn->http->engine->control, &conn->hang_up_task);
}

static void http_forget(struct http_conn *conn)
{
	TAILQ_REMOVE(&conn->http->conns, conn, entry);
	conn->http->count--;
	loop_cancel(conn->http->engine->control, &conn->hang_up_task);
	evbuffer_remove_cb(bufferevent_get_input(conn->bev), http_on_input, conn);
	bufferevent_decref(conn->bev);
	free(conn);
}

static void http_hang_up(struct http_conn *conn)
{
	bufferevent_trigger_event(conn->bev, BEV_EVENT_ERROR, 0); /* nobody hears it if evhttp has let go */
	http_forget(conn);
}

static void http_hang_up_task(struct loop *loop UNUSED, struct loop_task *task)
{
	http_hang_up(CONTAINER_OF(task, struct http_conn, hang_up_task));
}

static void http_accept_cb(struct evhttp_bound_socket *bound, void *arg)
{
	const bool *on = arg;

	if (*on)
		evconnlistener_enable(evhttp_bound_socket_get_listener(bound));
	else
		evconnlistener_disable(evhttp_bound_socket_get_listener(bound));
}

static void http_accept(struct http *http, bool on)
{
	if (http->server != NULL)
		evhttp_foreach_bound_socket(http->server, http_accept_cb, &on);
}

static void http_accept_task(struct loop *loop UNUSED, struct loop_task *task)
{
	http_accept(CONTAINER_OF(task, struct http, accept_task), true);
}

/* No descriptors or no memory: until the next look. */
static void http_on_accept_error(struct evconnlistener *listener, void *arg UNUSED)
{
	log_error_rarely(HTTP_LOG_INTERVAL_S, "health_listen: accept() failed: %s", strerror(errno));
	evconnlistener_disable(listener);
}

/* evhttp has accepted a connection and asks what it shall read it with. */
static struct bufferevent *http_on_accept(struct event_base *base, void *arg)
{
	struct http *http = arg;
	struct http_conn *conn = xcalloc(1, sizeof(*conn));

	if (http->count == HTTP_CONNS_MAX)
		http_hang_up(TAILQ_FIRST(&http->conns));
	conn->http = http;
	conn->hang_up_task.fn = http_hang_up_task;
	conn->since_us = loop_now_us(http->engine->control);
	conn->bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	ASSERT(conn->bev != NULL);
	bufferevent_incref(conn->bev);
	if (evbuffer_add_cb(bufferevent_get_input(conn->bev), http_on_input, conn) == NULL)
		UNREACHABLE();
	TAILQ_INSERT_TAIL(&http->conns, conn, entry);
	http->count++;
	http_accept(http, false);
	loop_defer(http->engine->control, &http->accept_task);
	return conn->bev;
}

/* ---- questions and answers ---- */

/* Says it and hangs up. */
static void http_answer(struct evhttp_request *req, int status, const char *text)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	char length[24];

	str_format(length, sizeof(length), "%zu", strlen(text) + 1);
	evhttp_add_header(headers, "Content-Type", "text/plain; charset=utf-8");
	evhttp_add_header(headers, "Content-Length", length);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "Connection", "close");
	evhttp_remove_header(evhttp_request_get_input_headers(req), "Connection"); /* whatever it wishes */
	if (evhttp_request_get_command(req) != EVHTTP_REQ_HEAD)
		evbuffer_add_printf(evhttp_request_get_output_buffer(req), "%s\n", text);
	evhttp_send_reply(req, status, NULL, NULL);
}

static void http_answer_readiness(struct evhttp_request *req, const char *reason)
{
	if (reason == NULL)
		http_answer(req, HTTP_OK, "ready");
	else
		http_answer(req, HTTP_SERVUNAVAIL, reason);
}

static void http_answer_database(struct evhttp_request *req, struct engine *engine, const char *encoded)
{
	size_t n;
	char *name = evhttp_uridecode(encoded, 0, &n);
	const char *reason;

	ASSERT(name != NULL);
	if (strlen(name) == n && ready_find_db(engine, name, &reason))
		http_answer_readiness(req, reason);
	else
		http_answer(req, HTTP_NOTFOUND, "no such database");
	free(name);
}

static void http_on_request(struct evhttp_request *req, void *arg)
{
	static const char database[] = "/ready/";
	struct engine *engine = ((struct http *)arg)->engine;
	enum evhttp_cmd_type method = evhttp_request_get_command(req);
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));

	if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", "GET, HEAD");
		http_answer(req, HTTP_BADMETHOD, "GET and HEAD only");
	} else if (strcmp(path, "/live") == 0) {
		http_answer(req, HTTP_OK, "live");
	} else if (strcmp(path, "/ready") == 0) {
		http_answer_readiness(req, ready_reason(engine));
	} else if (strncmp(path, database, sizeof(database) - 1) == 0) {
		http_answer_database(req, engine, path + sizeof(database) - 1);
	} else {
		http_answer(req, HTTP_NOTFOUND, "not found");
	}
}

/* ---- listening ---- */

static void http_serve(struct http *http)
{
	struct event_base *base = loop_base(http->engine->control);

	http->server = evhttp_new(base);
	ASSERT(http->server != NULL);
	evhttp_set_max_headers_size(http->server, HTTP_HEAD_MAX);
	evhttp_set_max_body_size(http->server, 0);
	evhttp_set_allowed_methods(http->server, UINT16_MAX); /* http_on_request() has an answer that says which */
	evhttp_set_bevcb(http->server, http_on_accept, http);
	evhttp_set_gencb(http->server, http_on_request, http);
	for (size_t i = 0; i < listener_set_count(http->listeners); i++) {
		int fd = listener_set_get(http->listeners, i)->fd;
		struct evconnlistener *listener = evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);

		ASSERT(listener != NULL);
		evconnlistener_set_error_cb(listener, http_on_accept_error);
		if (evhttp_bind_listener(http->server, listener) == NULL)
			UNREACHABLE();
	}
}

static void http_listen(struct http *http)
{
	struct listen_conf conf = { .tcp = { .backlog = HTTP_BACKLOG }, .is_retry = http->has_failed };
	char addr[256];
	char err[256];

	if (conf_split_address(http->address, addr, sizeof(addr), &conf.port) != 0)
		return; /* refused when the configuration was read */
	conf.addrs = addr;
	http->listeners = listener_set_open(&conf, err, sizeof(err));
	if (http->listeners != NULL) {
		http_serve(http);
		http->has_failed = false;
		return;
	}
	if (!http->has_failed)
		log_warning("health_listen: cannot listen on %s, trying again each second", http->address);
	http->has_failed = true;
}

/* Ends all connections, too. */
static void http_unlisten(struct http *http)
{
	struct http_conn *conn;

	if (http->server == NULL)
		return;
	evhttp_free(http->server);
	http->server = NULL;
	listener_set_free(&http->listeners);
	while ((conn = TAILQ_FIRST(&http->conns)) != NULL)
		http_forget(conn);
}

static void http_set_address(struct http *http, const char *address)
{
	http_unlisten(http);
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
	if (http->server == NULL && http->address[0] != '\0')
		http_listen(http);
	while ((conn = TAILQ_FIRST(&http->conns)) != NULL && now_us - conn->since_us > HTTP_TIME_MAX_US)
		http_hang_up(conn);
	http_accept(http, true);
}

struct http *http_new(struct engine *engine)
{
	struct http *http = xcalloc(1, sizeof(*http));

	http->engine = engine;
	http->address = xstrdup("");
	http->accept_task.fn = http_accept_task;
	TAILQ_INIT(&http->conns);
	return http;
}

void http_free(struct http **httpp)
{
	struct http *http = *httpp;

	*httpp = NULL;
	if (http == NULL)
		return;
	loop_cancel(http->engine->control, &http->accept_task);
	http_unlisten(http);
	free(http->address);
	free(http);
}
