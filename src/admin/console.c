/*
 * A console session.
 *
 * One command runs at a time. Most are answered at once, some have to ask the
 * workers first, some wait for something to happen; until a command is
 * answered the session is `busy`: what the client sends meanwhile is kept, and
 * only a close is noticed.
 *
 *     on_readable -> console_process -> console_message -> command_run
 *                         ^                                    |
 *                         +---------- console_finish <---------+  now or later
 *
 * The text of a command lies in the stream's buffer while the command starts;
 * whoever closes the session must not look at it afterwards.
 */
#include "admin/console.h"

#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>

#include "admin/admin_int.h"
#include "admin/command.h"
#include "admin/extended.h"
#include "admin/show.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/version.h"
#include "net/sock.h"
#include "pool/registry.h"
#include "pool/report.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/parse.h"
#include "proto/track.h"

/* Longest message from a client; commands are far shorter. */
#define CONSOLE_MESSAGE_MAX  (16 * 1024)

/* What may wait to be worked on, and to be sent: SHOW CLIENTS has a row for each client. */
#define CONSOLE_IN_MAX       (32 * 1024)
#define CONSOLE_OUT_MAX      (64U * 1024 * 1024)

/* How long a process that takes over may leave what it asked for unread. */
#define CONSOLE_SEND_WAIT_MS 10000

/* Longest text of an error. */
#define CONSOLE_TEXT_MAX     2048

static void console_on_readable(void *owner);
static void console_on_drained(void *owner, int err);
static void console_on_event(void *owner);

static const struct stream_ops console_stream_ops = {
	.on_readable = console_on_readable,
	.on_drained = console_on_drained,
	.on_event = console_on_event,
};

static struct loop *console_loop(const struct console *c)
{
	return c->admin->engine->control;
}

void console_describe(const struct console *c, const struct conf *conf, struct log_about *about)
{
	report_about(about, c, c->id, c->database, c->user);
	report_about_peer(about, &c->peer, conf->listen_port);
	about->action = "console";
}

/* ---- the end ---- */

void console_free(struct console *c)
{
	if (c->account != NULL)
		atomic_fetch_sub_explicit(&c->account->clients, 1, memory_order_relaxed);
	account_release(&c->account);
	stream_close(&c->stream);
	buf_fini(&c->reply);
	extended_free(&c->extended);
	show_drop(&c->show);
	vars_release(&c->vars);
	db_release(&c->wait_db);
	free(c);
}

static void console_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	console_free(CONTAINER_OF(task, struct console, free_task));
}

static void console_log_close(const struct console *c, const char *why)
{
	struct snapshot *snap = engine_snapshot(c->admin->engine);
	struct log_about about;

	console_describe(c, snap->conf, &about);
	report_close(snap->conf, &about, why, loop_now_us(console_loop(c)) - c->connect_us);
	snapshot_release(&snap);
}

void console_close(struct console *c, const char *why)
{
	struct admin *admin = c->admin;

	if (c->closed)
		return;
	if (why != NULL)
		console_log_close(c, why);
	c->closed = true;
	TAILQ_REMOVE(&admin->consoles, c, entry);
	admin->console_count--;
	admin_session_gone(admin, c->id);
	atomic_fetch_sub_explicit(&admin->engine->client_count, 1, memory_order_relaxed);
	stream_close(&c->stream);
	c->free_task.fn = console_free_task;
	loop_defer(console_loop(c), &c->free_task);
}

/*
 * Adds an ErrorResponse to the reply, and the text to the log: the failure of a
 * command, and what the client was told.
 */
static void console_add_report(struct console *c, const char *severity, const struct report *report)
{
	struct snapshot *snap = engine_snapshot(c->admin->engine);
	struct log_about about;

	console_describe(c, snap->conf, &about);
	if (strcmp(severity, "ERROR") == 0) {
		about.is_bare = true;
		log_error_about(&about, "%s", report->text);
		about.is_bare = false;
	}
	console_note(c, report_error(&c->reply, snap->conf, &about, severity, report));
	snapshot_release(&snap);
}

static void console_add_error(struct console *c, const char *severity, const char *sqlstate, const char *hint,
			      const char *text)
{
	struct report report;

	report_text(&report, NULL, text, sqlstate, hint);
	console_add_report(c, severity, &report);
}

bool console_send(struct console *c)
{
	int err;

	err = stream_send_buf(&c->stream, &c->reply);
	if (err >= 0)
		return true;
	console_close(c, "unexpected eof");
	return false;
}

void console_fail(struct console *c, const char *text)
{
	if (c->closed)
		return;
	console_add_error(c, "FATAL", "08P01", NULL, text);
	if (console_send(c))
		console_close(c, text);
}

/* ---- replies ---- */

void console_note(struct console *c, int err)
{
	if (err < 0 && c->reply_err == 0)
		c->reply_err = err;
}

void console_finish(struct console *c)
{
	if (c->closed)
		return;
	if (c->reply_err != 0) {
		c->reply_err = 0;
		buf_clear(&c->reply);
		console_add_error(c, "ERROR", "53200", NULL, "result prepare failed");
		c->skip_to_sync = c->in_execute;
	}
	if (!c->in_execute)
		console_note(c, build_ready(&c->reply, TX_IDLE));
	if (c->reply_err != 0) {
		console_close(c, "out of memory");
		return;
	}
	c->busy = false;
	c->in_execute = false;
	c->canceled = false;
	c->wait = CONSOLE_WAIT_NOTHING;
	db_release(&c->wait_db);
	if (console_send(c))
		console_process(c);
}

void console_finish_tag(struct console *c, const char *tag)
{
	console_note(c, build_command_complete(&c->reply, tag));
	console_finish(c);
}

void console_finish_error(struct console *c, const char *sqlstate, const char *hint, const char *fmt, ...)
{
	char text[CONSOLE_TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	console_add_error(c, "ERROR", sqlstate, hint, text);
	c->skip_to_sync = c->in_execute;
	console_finish(c);
}

void console_finish_error_as(struct console *c, const char *sqlstate, const char *text, const char *detail,
			     const char *hint)
{
	struct report report;

	report_server(&report, text, sqlstate);
	str_copy(report.detail, sizeof(report.detail), detail == NULL ? "" : detail);
	report.hint = hint;
	console_add_report(c, "ERROR", &report);
	c->skip_to_sync = c->in_execute;
	console_finish(c);
}

void console_notice(struct console *c, const char *text, const char *detail)
{
	struct snapshot *snap = engine_snapshot(c->admin->engine);

	console_note(c, report_notice(&c->reply, snap->conf, text, detail));
	snapshot_release(&snap);
}

/* Waits until the socket takes more; false when that takes too long. */
static bool console_wait_writable(const struct console *c)
{
	struct pollfd p = { .fd = c->stream.fd, .events = POLLOUT };

	return poll(&p, 1, CONSOLE_SEND_WAIT_MS) == 1 && (p.revents & POLLOUT) != 0;
}

/* Sends bytes with a descriptor attached to the first of them: how many were sent, or -1. */
static ssize_t console_sendmsg(const struct console *c, const uint8_t *p, size_t n, int fd)
{
	union {
		struct cmsghdr head;
		uint8_t room[CMSG_SPACE(sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		msg.msg_control = control.room;
		msg.msg_controllen = sizeof(control.room);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	return sendmsg(c->stream.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* All bytes of a buffer; the descriptor goes with the first. */
static bool console_send_all(const struct console *c, const struct buf *b, int fd)
{
	size_t at = 0;

	while (at < buf_len(b)) {
		ssize_t n = console_sendmsg(c, buf_ptr(b) + at, buf_len(b) - at, fd);

		if (n > 0) {
			at += (size_t)n;
			fd = -1;
		} else if ((errno != EAGAIN && errno != EINTR) || !console_wait_writable(c)) {
			return false;
		}
	}
	return true;
}

void console_send_descriptor(struct console *c, int fd)
{
	bool sent;

	if (fd < 0 || c->closed)
		return;
	/* What was said before must not take the descriptor for its own. */
	sent = c->reply_err == 0 && console_send_all(c, &c->stream.out, -1) && console_send_all(c, &c->reply, fd);
	buf_clear(&c->stream.out);
	buf_clear(&c->reply);
	if (!sent)
		console_close(c, "unexpected eof");
}

/* ---- messages ---- */

void console_run(struct console *c, struct slice text)
{
	if (c->query_us == 0) {
		c->query_us = c->request_us;
		stats_add(&c->admin->stats, STAT_query_count, 1);
		stats_add(&c->admin->stats, STAT_xact_count, 1);
	}
	c->busy = true;
	command_run(c, text);
}

static void console_query(struct console *c, struct slice body)
{
	struct slice text;

	if (parse_query(body, &text) != 0)
		console_fail(c, "incomplete query");
	else
		console_run(c, text);
}

/* A message that the console does not know: an error that a driver can read, then the end. */
static void console_refuse(struct console *c, const char *text)
{
	console_add_error(c, "ERROR", "0A000", NULL, text);
	console_note(c, build_ready(&c->reply, TX_IDLE));
	console_fail(c, "bad packet");
}

/* One that no client may send, to whomever it is connected. */
static void console_refuse_unknown(struct console *c, uint8_t type)
{
	struct snapshot *snap = engine_snapshot(c->admin->engine);
	struct log_about about;

	console_describe(c, snap->conf, &about);
	log_error_about(&about, "unknown pkt from client: %d/0x%x", type, type);
	snapshot_release(&snap);
	console_fail(c, reason_text(REASON_UNKNOWN_PKT));
}

static void console_message(struct console *c, uint8_t type, struct slice body)
{
	char text[80];

	if (c->extended != NULL && extended_message(c, type, body))
		return;
	switch (type) {
	case FE_QUERY:
		console_query(c, body);
		break;
	case FE_TERMINATE:
		console_close(c, "client close request");
		break;
	case FE_PARSE:
	case FE_BIND:
	case FE_EXECUTE:
		console_refuse(c, "extended query protocol not supported by admin console");
		break;
	default:
		if (!track_knows_client(type)) {
			console_refuse_unknown(c, type);
			break;
		}
		str_format(text, sizeof(text), "unsupported packet type for admin console: %d", type);
		console_refuse(c, text);
		break;
	}
}

static void console_bad_header(struct console *c, const uint8_t *p, size_t n)
{
	char text[80] = "bad packet header: '";

	for (size_t i = 0; i < n && i < FRAME_HEADER; i++)
		str_append(text, sizeof(text), "%02x", p[i]);
	str_append(text, sizeof(text), "'");
	console_fail(c, text);
}

/* Works on one message; false when there is no whole one. */
static bool console_step(struct console *c)
{
	struct buf *in = &c->stream.in;
	struct frame f;
	int err = frame_read(buf_ptr(in), buf_len(in), CONSOLE_MESSAGE_MAX, &f);

	if (err == -E_AGAIN)
		return false;
	if (err == -E_TOOBIG) {
		console_fail(c, "incomplete pkt");
		return false;
	}
	if (err != 0) {
		console_bad_header(c, buf_ptr(in), buf_len(in));
		return false;
	}
	if (buf_len(in) < f.size)
		return false;
	c->request_us = loop_now_us(console_loop(c));
	console_message(c, f.type, slice_make(buf_ptr(in) + FRAME_HEADER, f.size - FRAME_HEADER));
	if (!c->closed)
		buf_consume(in, (uint32_t)f.size);
	return !c->closed;
}

void console_process(struct console *c)
{
	if (c->processing || c->closed)
		return;
	c->processing = true;
	while (!c->busy && !stream_is_choked(&c->stream) && console_step(c))
		continue;
	c->processing = false;
	if (c->closed)
		return;
	if (c->busy)
		stream_watch_close(&c->stream);
	else
		stream_want_read(&c->stream, !stream_is_choked(&c->stream));
}

static void console_on_readable(void *owner)
{
	struct console *c = owner;
	int err = stream_gather(&c->stream);

	if (err == -E_AGAIN)
		return;
	if (err == 0)
		console_process(c);
	else if (err == -E_NOSPACE)
		console_fail(c, "incomplete pkt");
	else
		console_close(c, "client unexpected eof");
}

static void console_on_drained(void *owner, int err)
{
	struct console *c = owner;

	if (err != 0)
		console_close(c, "unexpected eof");
	else if (c->show != NULL)
		show_resume(c->show);
	else
		console_process(c);
}

static void console_on_event(void *owner)
{
	console_close(owner, "client unexpected eof");
}

/* ---- the beginning ---- */

/* Tracked parameters of the startup packet are told back, as they came. */
static void console_echo_params(struct console *c)
{
	for (int i = 0; c->vars != NULL && i < vars_count(); i++) {
		const char *value = vars_get(c->vars, i);

		if (value != NULL)
			console_note(c, build_parameter_status(&c->reply, slice_of(vars_name(i)), slice_of(value)));
	}
}

static void console_welcome(struct console *c)
{
	bool as_pgbouncer = strcmp(c->admin->db_name, CONF_CONSOLE_DB_PGBOUNCER) == 0;
	const char *const params[][2] = {
		{ "server_version", as_pgbouncer ? VERSION_OF_CONSOLE_AS_PGBOUNCER : VERSION_OF_CONSOLE },
		{ "client_encoding", "UTF8" },
		{ "server_encoding", "UTF8" },
		{ "DateStyle", "ISO" },
		{ "TimeZone", "GMT" },
		{ "standard_conforming_strings", "on" },
		{ "is_superuser", "on" },
	};
	struct snapshot *snap = engine_snapshot(c->admin->engine);

	console_note(c, build_auth_ok(&c->reply));
	for (size_t i = 0; i < ARRAY_LEN(params); i++)
		console_note(c, build_parameter_status(&c->reply, slice_of(params[i][0]), slice_of(params[i][1])));
	console_echo_params(c);
	console_note(c, cancel_key_build(&c->reply, &c->cancel_key));
	console_note(c, report_login_notice(&c->reply, snap->conf));
	snapshot_release(&snap);
	stats_add(&c->admin->stats, STAT_client_login_count, 1);
	console_finish(c);
}

static bool console_speaks_extended(struct engine *engine)
{
	struct snapshot *snap = engine_snapshot(engine);
	bool is_on = snap->conf->console_extended != 0;

	snapshot_release(&snap);
	return is_on;
}

struct console *console_new(struct admin *admin, const struct console_handover *h)
{
	struct console *c = xcalloc(1, sizeof(*c));

	c->admin = admin;
	c->id = h->id;
	c->connect_us = h->connect_us;
	c->request_us = h->connect_us;
	c->is_admin = h->is_admin;
	c->peer = h->peer;
	c->cancel_key = h->cancel_key;
	str_copy(c->user, sizeof(c->user), h->user);
	str_copy(c->database, sizeof(c->database), h->database);
	c->account = h->account;
	c->vars = h->vars;
	if (console_speaks_extended(admin->engine))
		c->extended = extended_new();
	buf_init(&c->reply, CONSOLE_OUT_MAX);
	stream_init(&c->stream, h->socket.fd, &console_stream_ops, c, CONSOLE_IN_MAX, CONSOLE_OUT_MAX);
	stream_adopt_tls(&c->stream, h->socket.tls);
	TAILQ_INSERT_TAIL(&admin->consoles, c, entry);
	admin->console_count++;
	stream_attach(&c->stream, console_loop(c));
	if (stream_hold(&c->stream, h->pending, h->pending_len) != 0)
		console_fail(c, "incomplete pkt");
	else
		console_welcome(c);
	return c;
}
