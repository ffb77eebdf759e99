/*
 * A console with a real engine behind it, and a client at the other end of a
 * socket pair. The test is the client; the control loop has a thread of its
 * own. For inclusion into one test program each.
 */
#ifndef PGSLUICE_TEST_UNIT_ADMIN_CONSOLE_TEST_H
#define PGSLUICE_TEST_UNIT_ADMIN_CONSOLE_TEST_H

#include "admin/admin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "admin/show.h"
#include "core/alloc.h"
#include "core/log.h"
#include "pool/cancel.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/parse.h"

static struct engine *engine;
static struct admin *admin;

/* What the fake program was asked for. */
static atomic_int reloads;
static atomic_int reload_result;
static atomic_int shutdown_asked;
static char last_set[64];

/* What the fake reload has changed; nothing on an error, which it explains. */
static int fake_outcome(struct conf_diff **diff, struct conf_error *err)
{
	int rc = atomic_load(&reload_result);

	if (rc != 0) {
		conf_error_set(err, "did you mean pool_mode?", "unknown parameter: pgbouncer/pool_mod");
		return rc;
	}
	*diff = xcalloc(1, sizeof(**diff));
	conf_diff_add(*diff, CONF_CHANGE_SETTING, CONF_CHANGE_CHANGE, CONF_EFFECT_NOW, "query_timeout", "0 -> 5");
	conf_diff_add(*diff, CONF_CHANGE_LOGIN, CONF_CHANGE_ADD, CONF_EFFECT_NOW, "bob", "");
	return 0;
}

static int fake_reload(void *ctx UNUSED, struct conf_diff **diff, struct conf_error *err)
{
	atomic_fetch_add(&reloads, 1);
	return fake_outcome(diff, err);
}

static int fake_reload_try(void *ctx UNUSED, struct conf_diff **diff, struct conf_error *err)
{
	return fake_outcome(diff, err);
}

static int fake_set(void *ctx UNUSED, const char *key, const char *value, bool *tls_kept)
{
	*tls_kept = strcmp(key, "client_tls_key_file") == 0;
	str_format(last_set, sizeof(last_set), "%s=%s", key, value);
	return strcmp(value, "bad") == 0 ? -E_SYNTAX : 0;
}

static void fake_shutdown(void *ctx UNUSED, enum engine_shutdown how, uint64_t timeout_us UNUSED)
{
	atomic_store(&shutdown_asked, (int)how);
}

static const struct admin_ops fake_ops = { fake_reload, fake_reload_try, fake_set, fake_shutdown };

/* The context is the section header, which says the profile. */
static int read_conf(void *ctx, const char *path UNUSED, char **text, size_t *len)
{
	char conf[256];

	*len = str_format(conf, sizeof(conf),
			  "[databases]\napp = host=127.0.0.1 port=1\n[%s]\n"
			  "unix_socket_dir =\nthreads = 2\nauth_type = trust\n",
			  (const char *)ctx);
	*text = xstrdup(conf);
	return 0;
}

static int console_setup(const char *profile)
{
	const struct log_setup quiet = { .quiet = true };
	struct conf_error err;
	struct conf *conf;

	log_configure(&quiet);
	conf_error_init(&err);
	if (conf_load_from(read_conf, (void *)(uintptr_t)profile, "test.ini", &conf, &err) != 0)
		return -1;
	conf_error_fini(&err);
	engine = engine_new(snapshot_new(conf, users_new_empty()), &admin_engine_ops);
	admin = admin_new(engine, &fake_ops, NULL);
	engine_start(engine);
	loop_start_thread(engine->control);
	return 0;
}

static int console_teardown(void **state UNUSED)
{
	loop_stop(engine->control);
	loop_join(engine->control);
	admin_stop(admin);
	engine_free(&engine);
	admin_free(&admin);
	return 0;
}

/* ---- a client ---- */

struct session {
	int fd;
	uint8_t key[8];
};

struct reply {
	char types[64]; /* of the messages, rows counted once */
	char text[512]; /* of the error or notice */
	char detail[2048];
	char state[8];
	char tag[128];
	unsigned rows;
	bool closed;
};

static void read_exact(struct session *s, void *p, size_t n, bool *closed)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = recv(s->fd, (uint8_t *)p + got, n - got, 0);

		if (r <= 0) {
			*closed = true;
			return;
		}
		got += (size_t)r;
	}
}

static void note_message(struct reply *r, uint8_t type, struct slice body)
{
	struct parse_report report;
	struct slice tag;
	size_t n = strlen(r->types);

	if (type == BE_DATA_ROW)
		r->rows++;
	if (n + 1 < sizeof(r->types) && (n == 0 || type != BE_DATA_ROW || r->types[n - 1] != (char)BE_DATA_ROW))
		r->types[n] = (char)type;
	if (type == BE_ERROR || type == BE_NOTICE) {
		assert_int_equal(parse_report(body, &report), 0);
		str_copy_slice(r->text, sizeof(r->text), report.message);
		str_copy_slice(r->detail, sizeof(r->detail), report.detail);
		str_copy_slice(r->state, sizeof(r->state), report.sqlstate);
	} else if (type == BE_COMMAND_COMPLETE) {
		assert_int_equal(parse_command_complete(body, &tag), 0);
		str_copy_slice(r->tag, sizeof(r->tag), tag);
	}
}

/* Reads up to ReadyForQuery or the end. */
static void read_reply(struct session *s, struct reply *r)
{
	memset(r, 0, sizeof(*r));
	for (;;) {
		uint8_t head[FRAME_HEADER];
		struct frame f = { 0 };
		uint8_t *body;

		read_exact(s, head, sizeof(head), &r->closed);
		if (r->closed)
			return;
		assert_int_equal(frame_read(head, sizeof(head), 1 << 20, &f), 0);
		body = xmalloc(f.size);
		read_exact(s, body, f.size - FRAME_HEADER, &r->closed);
		assert_false(r->closed);
		note_message(r, f.type, slice_make(body, f.size - FRAME_HEADER));
		free(body);
		if (f.type == BE_READY)
			return;
	}
}

static struct session open_session_with(bool is_admin, const void *pending, size_t n)
{
	const struct timeval timeout = { .tv_sec = 20 };
	struct console_handover *h = xcalloc(1, sizeof(*h) + n);
	struct session s;
	struct reply r;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
	s.fd = fds[0];
	h->msg.fn = admin_engine_ops.console_adopt;
	h->socket.fd = fds[1];
	h->id = engine_next_id(engine);
	h->connect_us = 1;
	h->is_admin = is_admin;
	h->peer.family = AF_UNIX;
	cancel_key_make(engine->cancel_secret, 0, &(struct cancel_place){ CANCEL_WORKER_CONSOLE, (uint32_t)h->id, 7 },
			s.key);
	cancel_key_set(&h->cancel_key, s.key, sizeof(s.key));
	str_copy(h->user, sizeof(h->user), is_admin ? "boss" : "watcher");
	str_copy(h->database, sizeof(h->database), "pgbouncer");
	h->pending_len = n;
	if (n > 0)
		memcpy(h->pending, pending, n);
	atomic_fetch_add(&engine->client_count, 1);
	loop_post(engine->control, &h->msg);
	read_reply(&s, &r);
	assert_string_equal(r.types, "RSSSSSSSKZ");
	return s;
}

static UNUSED struct session open_session(bool is_admin)
{
	return open_session_with(is_admin, NULL, 0);
}

static void close_session(struct session *s)
{
	close(s->fd);
}

static UNUSED void send_bytes(struct session *s, const void *p, size_t n)
{
	assert_int_equal(send(s->fd, p, n, MSG_NOSIGNAL), n);
}

static UNUSED void send_query(struct session *s, const char *sql)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	assert_int_equal(build_query(&b, slice_of(sql)), 0);
	assert_int_equal(send(s->fd, buf_ptr(&b), buf_len(&b), MSG_NOSIGNAL), buf_len(&b));
	buf_fini(&b);
}

static UNUSED struct reply ask(struct session *s, const char *sql)
{
	struct reply r;

	send_query(s, sql);
	read_reply(s, &r);
	return r;
}

static UNUSED void expect_error(struct session *s, const char *sql, const char *text)
{
	struct reply r = ask(s, sql);

	assert_string_equal(r.types, "EZ");
	assert_string_equal(r.text, text);
	assert_string_equal(r.state, "08P01");
}

static UNUSED void expect_tag(struct session *s, const char *sql, const char *tag)
{
	struct reply r = ask(s, sql);

	assert_string_equal(r.text, "");
	assert_string_equal(r.tag, tag);
}

#endif
