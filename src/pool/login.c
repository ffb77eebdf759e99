/*
 * Logins of clients.
 *
 *   accept -> LOGIN_STARTUP -> LOGIN_AUTH -> handed to a worker or the console
 *         |        |  ^ |       |      ^
 *         |        |  | |       +------+ LOGIN_LOOKUP: somebody else is asked
 *         |        |  | +-> CancelRequest: handed to cancel.c
 *         |        |  +---- SSLRequest, GSSENCRequest: not granted
 *         v        v
 *         LOGIN_TLS: the handshake --> LOGIN_STARTUP
 *
 * Everything here comes from people who are not known yet: packets are
 * bounded, nothing is kept but what the struct has, and one timeout covers it
 * all. Unknown users go through the same exchange as known ones.
 *
 * The kernel reports a connection only when its first bytes are there
 * (tcp_defer_accept), so they are read at once; a login that needs no further
 * message never costs a registration with the event loop.
 */
#include "pool/login.h"

#include "core/alloc.h"
#include "core/str.h"
#include "pool/cancel.h"
#include "pool/login_int.h"
#include "pool/login_params.h"
#include "pool/tls_conf.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"

bool login_is_for_console(const struct login *login)
{
	return conf_is_console(login->snap->conf, login->database);
}

/* True once it is clear which pool the client will have. */
static bool login_has_pool(const struct login *login)
{
	return login->is_named && (login_is_for_console(login) || (login->db != NULL && login->account != NULL));
}

void login_describe(const struct login *login, struct log_about *about)
{
	report_about(about, login, login->id, login->database, login->user);
	report_about_peer(about, &login->peer, login->ctx->snap->conf->listen_port);
	about->action = "login";
	about->no_user = !login->is_named && !login->is_over_limit;
	about->no_database = !login_has_pool(login);
}

/* ---- the end of a login ---- */

static void login_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	free(CONTAINER_OF(task, struct login, task));
}

void login_over(struct login *login)
{
	struct loop_ctx *ctx = login->ctx;

	ASSERT(login->stage != LOGIN_OVER);
	login->stage = LOGIN_OVER;
	if (login->lookup != NULL) {
		login->lookup->login = NULL;
		if (login->lookup->on_gone != NULL)
			login->lookup->on_gone(login->lookup);
	}
	TAILQ_REMOVE(&ctx->logins, login, entry);
	login_turn_leave(login);
	atomic_fetch_sub_explicit(&ctx->login_count, 1, memory_order_relaxed);
	stream_close(&login->stream);
	auth_free(&login->auth);
	login_rules_free(&login->rules);
	auth_answer_release(&login->found);
	free(login->typed);
	vars_release(&login->vars);
	free(login->replication);
	db_release(&login->db);
	account_release(&login->account);
	snapshot_release(&login->snap);
	login->task.fn = login_free_task;
	loop_defer(ctx->loop, &login->task);
}

void login_drop(struct login *login)
{
	if (login->is_counted_db)
		atomic_fetch_sub_explicit(&login->db->clients, 1, memory_order_relaxed);
	if (login->is_counted_user)
		atomic_fetch_sub_explicit(&login->account->clients, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&login->ctx->engine->client_count, 1, memory_order_relaxed);
	login_over(login);
}

/* Ends the exchange with a reason that only the log is told. */
static void login_log_close(const struct login *login, const char *text)
{
	struct log_about about;

	login_describe(login, &about);
	report_close(login->ctx->snap->conf, &about, text, loop_now_us(login->ctx->loop) - login->connect_us);
}

void login_tell(struct login *login, const struct report *report)
{
	const struct conf *conf = login->ctx->snap->conf;
	struct log_about about;
	struct buf b;
	int err UNUSED;

	login_describe(login, &about);
	buf_init(&b, LOGIN_OUT_MAX);
	err = report_error(&b, conf, &about, "FATAL", report);
	if (err == 0)
		err = stream_send_buf(&login->stream, &b);
	buf_fini(&b);
	login_drop(login);
}

void login_fail(struct login *login, const struct report *report)
{
	struct log_about about;

	login_describe(login, &about);
	str_copy(about.sqlstate, sizeof(about.sqlstate), report->sqlstate);
	report_close(login->ctx->snap->conf, &about, report->text, loop_now_us(login->ctx->loop) - login->connect_us);
	login_tell(login, report);
}

void login_fail_limit(struct login *login, enum reason reason, unsigned limit)
{
	const struct conf *conf = login->ctx->snap->conf;
	struct report_facts facts = { .known = { .database = login->database, .user = login->user } };
	struct report report;

	if (limit > 0)
		report_fact_limit(&facts, limit);
	if (reason == REASON_LOGIN_TIMEOUT)
		report_fact_timeout(&facts, conf->client_login_timeout_us);
	report_reason(&report, conf, reason, &facts.known);
	login_fail(login, &report);
}

void login_fail_reason(struct login *login, enum reason reason)
{
	login_fail_limit(login, reason, 0);
}

/* Closes without a word to the client. */
static void login_leave(struct login *login, enum reason reason)
{
	login_log_close(login, reason_text(reason));
	login_drop(login);
}

static void login_fail_startup(struct login *login, enum startup_err err, struct slice arg)
{
	struct report report;
	char text[256];

	if (!startup_err_text(err, arg, text, sizeof(text))) {
		login_leave(login, REASON_CANCEL_BAD);
		return;
	}
	report_text(&report, login->ctx->snap->conf, text, startup_err_sqlstate(err), startup_err_hint(err));
	login_fail(login, &report);
}

bool login_send(struct login *login, struct buf *b, int err)
{
	if (err == 0)
		err = stream_send_buf(&login->stream, b);
	buf_fini(b);
	if (err < 0)
		login_drop(login);
	return err >= 0;
}

/* ---- the startup packet ---- */

/* All parameters of the packet become the client's set; false when the login has ended. */
static bool login_take_params(struct login *login, const struct startup *startup)
{
	const struct conf *conf = login->snap->conf;
	struct login_params params;
	struct log_about about;
	enum startup_err err = login_params_read(&params, startup, conf);

	if (err == STARTUP_E_PARAM || err == STARTUP_E_OPTION) {
		login_describe(login, &about);
		log_warning_about(&about, "unsupported startup parameter%s: %.*s=%.*s",
				  err == STARTUP_E_OPTION ? " in options" : "", (int)params.bad_name.n,
				  params.bad_name.p, (int)params.bad_value.n, params.bad_value.p);
	}
	if (err != STARTUP_OK) {
		login_fail_startup(login, err, params.bad_name);
	} else {
		if (conf->application_name_add_host != 0)
			login_params_add_host(&params, login->is_unix, login->stream.fd, &login->peer,
					      conf->listen_port);
		login->vars = vars_make(params.values);
		if (startup->replication != REPLICATION_NONE)
			login->replication = replication_new(startup->replication, startup->options);
	}
	login_params_fini(&params);
	return err == STARTUP_OK;
}

/* Settles the version, and tells the client what we do not know; false when the login has ended. */
static bool login_negotiate(struct login *login, const struct startup *startup)
{
	bool is_old = login->snap->conf->max_protocol_version == CONF_PROTOCOL_3_0;
	uint16_t minor = startup_minor(startup, is_old ? 0 : 2);
	struct slice *names;
	size_t at = 0;
	struct buf b;
	int err;

	login->has_long_key = minor >= 2;
	if (!startup_must_negotiate(startup, minor))
		return true;
	names = xcalloc(startup->n_extensions + 1, sizeof(names[0]));
	for (unsigned i = 0; i < startup->n_extensions; i++)
		(void)startup_extensions_next(startup, &at, &names[i]);
	buf_init(&b, LOGIN_OUT_MAX);
	err = build_negotiate(&b, PROTO_VERSION(3, minor), names, startup->n_extensions);
	free(names);
	return login_send(login, &b, err);
}

/* True when this client speaks plain text and may not. */
static bool login_must_secure(const struct login *login)
{
	const struct tls_conf *tls = login->ctx->snap->tls;

	return tls != NULL && tls->client_mode >= CONF_SSL_REQUIRE && !login->is_unix && login->stream.tls == NULL;
}

/* The name is too long to be kept, but the log has it. */
static void login_log_long_user(const struct login *login, const struct startup *startup)
{
	struct log_about about;

	if (login->snap->conf->log_connections == 0)
		return;
	login_describe(login, &about);
	log_info_about(&about, "login failed: db=%.*s user=%.*s", (int)startup->database.n, startup->database.p,
		       (int)startup->user.n, startup->user.p);
}

/* A whole startup packet. */
static void login_on_startup(struct login *login, const uint8_t *packet, const struct startup_head *head)
{
	struct startup startup;
	enum startup_err err;

	login->snap = snapshot_hold(login->ctx->snap);
	if (login_must_secure(login)) {
		login_fail_reason(login, REASON_SSL_REQUIRED);
		return;
	}
	err = startup_parse(packet, head, &startup);
	if (err == STARTUP_OK && startup.user.n <= STARTUP_USER_MAX) {
		str_copy_slice(login->user, sizeof(login->user), startup.user);
		str_copy_slice(login->database, sizeof(login->database), startup.database);
	}
	if (err == STARTUP_OK && !login_take_params(login, &startup))
		return;
	if (err == STARTUP_OK)
		err = startup_check_user(&startup);
	if (err == STARTUP_E_USER_LONG)
		login_log_long_user(login, &startup);
	if (err != STARTUP_OK) {
		login_fail_startup(login, err, slice_make(NULL, 0));
		return;
	}
	if (!login_is_for_console(login) && !login_turn_has_room(login)) {
		login_fail_limit(login, REASON_MAX_CLIENT_CONN, (unsigned)login->snap->conf->max_client_conn);
		return;
	}
	if (!login_negotiate(login, &startup))
		return;
	login_auth_begin(login);
}

/* ---- bytes ---- */

/* True when this client may speak TLS. */
static bool login_may_secure(const struct login *login)
{
	const struct tls_conf *tls = login->ctx->snap->tls;

	return tls != NULL && tls->client != NULL && !login->is_unix && login->stream.tls == NULL;
}

static void login_start_tls(struct login *login)
{
	login->stage = LOGIN_TLS;
	stream_start_tls(&login->stream, tls_accept(login->ctx->snap->tls->client, login->stream.fd));
}

static void login_on_secured(void *owner, int err)
{
	struct login *login = owner;
	char info[TLS_INFO_MAX];
	struct log_about about;

	login_describe(login, &about);
	if (err != 0) {
		log_warning_about(&about, "TLS handshake error: %s", tls_error_text(login->stream.tls));
		login_drop(login);
		return;
	}
	login->stage = LOGIN_STARTUP;
	if (login->ctx->snap->conf->log_connections != 0) {
		tls_info(login->stream.tls, info, sizeof(info));
		log_info_about(&about, "SSL established: %s", info);
	}
}

/*
 * SSLRequest and GSSENCRequest, of which the first may be granted. What comes
 * with the request was sent in plain text by somebody, and must not be taken
 * for what comes through TLS. False when the login has ended.
 */
static bool login_on_encryption(struct login *login, bool is_ssl, size_t extra)
{
	bool is_granted = is_ssl && login_may_secure(login);

	if (is_ssl && login->stream.tls != NULL) {
		login_leave(login, REASON_SSL_TWICE);
		return false;
	}
	if (extra > 0) {
		login_fail_startup(login, is_ssl ? STARTUP_E_SSL_EXTRA : STARTUP_E_GSS_EXTRA, slice_make(NULL, 0));
		return false;
	}
	if (stream_send(&login->stream, is_granted ? "S" : "N", 1) != 0) {
		login_drop(login);
		return false;
	}
	if (is_granted)
		login_start_tls(login);
	return true;
}

/* Direct negotiation: the first byte of the connection is that of a handshake. True when there is nothing to be read.
 */
static bool login_begin_direct(struct login *login)
{
	uint8_t byte;

	if (login->is_begun || !login_may_secure(login))
		return false;
	if (stream_peek(&login->stream, &byte) != 0 || !startup_is_tls(byte))
		return false;
	login_start_tls(login);
	return true;
}

static void login_on_cancel(struct login *login, const uint8_t *packet, const struct startup_head *head)
{
	struct slice key = startup_cancel_key(packet, head);
	struct cancel_key copy;
	struct log_about about;
	struct cancel_asker asker = {
		.is_unix = login->is_unix,
		.id = login->id,
		.connect_us = login->connect_us,
		.ptr = login,
	};

	cancel_key_set(&copy, key.p, key.n);
	login_describe(login, &about);
	str_copy(asker.peer, sizeof(asker.peer), about.peer);
	asker.socket = stream_take(&login->stream);
	cancel_request(login->ctx, &asker, &copy);
	login_over(login);
}

/* A message with a type before the startup packet, which has none; returns how many bytes were used up. */
static size_t login_feed_typed(struct login *login, const uint8_t *data, size_t len)
{
	struct frame f;
	int err = frame_read(data, len, STARTUP_MAX, &f);

	if (err == -E_AGAIN)
		return 0;
	if (err < 0)
		login_fail_startup(login, STARTUP_E_HEADER, slice_make(data, len));
	else if (f.type == FE_PASSWORD)
		login_fail_startup(login, STARTUP_E_PASSWORD_FIRST, slice_make(NULL, 0));
	else
		login_leave(login, REASON_BAD_PACKET);
	return len;
}

/* Something like a startup packet where a message with a type is due. */
static size_t login_feed_again(struct login *login, const uint8_t *data, size_t len)
{
	struct startup_head head;
	int err = startup_peek(data, len, &head);

	if (err == -E_AGAIN)
		return 0;
	login_fail_startup(login, err == 0 && head.kind == STARTUP_SESSION ? STARTUP_E_RESENT : STARTUP_E_HEADER,
			   slice_make(data, len));
	return len;
}

/* Bytes before the startup packet; returns how many were used up. */
static size_t login_feed_startup(struct login *login, const uint8_t *data, size_t len)
{
	struct startup_head head;
	int err;

	if (data[0] != 0)
		return login_feed_typed(login, data, len);
	err = startup_peek(data, len, &head);
	if (err == -E_AGAIN)
		return 0;
	if (err < 0) {
		login_fail_startup(login, STARTUP_E_HEADER, slice_make(data, len));
		return len;
	}
	if (head.kind == STARTUP_BAD) {
		login_fail_startup(login, head.err, slice_make(data, len));
		return len;
	}
	if (head.total > len)
		return 0;
	switch (head.kind) {
	case STARTUP_SSL:
	case STARTUP_GSSENC:
		return login_on_encryption(login, head.kind == STARTUP_SSL, len - head.total) ? head.total : len;
	case STARTUP_CANCEL:
		login_on_cancel(login, data, &head);
		return len;
	default:
		login->pending = data + head.total;
		login->pending_len = len - head.total;
		login_on_startup(login, data, &head);
		return login->stage == LOGIN_OVER ? len : head.total;
	}
}

/* An answer of the client during authentication; returns how many bytes were used up. */
static size_t login_feed_auth(struct login *login, uint8_t *data, size_t len)
{
	struct frame f;
	int err;

	if (data[0] == 0)
		return login_feed_again(login, data, len);
	err = frame_read(data, len, AUTH_PAYLOAD_MAX + FRAME_HEADER, &f);
	if (err == -E_AGAIN)
		return 0;
	if (err < 0) {
		login_fail_startup(login, STARTUP_E_HEADER, slice_make(data, len));
		return len;
	}
	if (f.type != FE_PASSWORD) {
		login_leave(login, REASON_BAD_PACKET);
		return len;
	}
	if (f.size > auth_payload_max(login->auth) + FRAME_HEADER) {
		login->pending_len = 0; /* what is behind it is not there to be told */
		login_auth_step(login, data, 0);
		return len;
	}
	if (f.size > len)
		return 0;
	login->pending = data + f.size;
	login->pending_len = len - (size_t)f.size;
	login_auth_step(login, data + FRAME_HEADER, (size_t)f.size - FRAME_HEADER);
	mem_wipe(data + FRAME_HEADER, (size_t)f.size - FRAME_HEADER); /* it may have been a password */
	return login->stage == LOGIN_OVER ? len : (size_t)f.size;
}

/* The bytes at hand, as far as the stage takes them; what is left is kept. */
static void login_feed(struct login *login, uint8_t *data, size_t len)
{
	size_t at = 0;
	int err;

	login->is_begun = true;
	while (at < len && (login->stage == LOGIN_STARTUP || login->stage == LOGIN_AUTH)) {
		size_t used = login->stage == LOGIN_STARTUP ? login_feed_startup(login, data + at, len - at)
							    : login_feed_auth(login, data + at, len - at);

		if (used == 0)
			break;
		at += used;
	}
	if (login->stage == LOGIN_OVER || login->stage == LOGIN_TLS)
		return; /* nothing is left of what the stage has taken */
	err = stream_hold(&login->stream, data + at, len - at);
	mem_wipe(data + at, len - at); /* a password that is not asked for yet, or not whole */
	if (err != 0)
		login_fail_reason(login, REASON_OOM);
	else if (login->stage == LOGIN_LOOKUP)
		stream_watch_close(&login->stream);
	else
		stream_want_read(&login->stream, true);
}

/* Reading has failed: the client has gone, or what came was not encrypted as it had to be, which is worth a line. */
static void login_lose(struct login *login)
{
	const char *text = login->stream.tls == NULL ? "" : tls_error_text(login->stream.tls);
	struct log_about about;

	if (text[0] != '\0') {
		login_describe(login, &about);
		log_warning_about(&about, "TLS error: %s", text);
	}
	login_drop(login);
}

static void login_on_readable(void *owner)
{
	struct login *login = owner;
	uint8_t *data;
	size_t len;
	int err;

	if (login_begin_direct(login))
		return;
	err = stream_fill(&login->stream, &data, &len);
	if (err == -E_AGAIN)
		stream_want_read(&login->stream, true);
	else if (err < 0)
		login_lose(login);
	else
		login_feed(login, data, len);
}

/* ---- waiting for somebody else's answer ---- */

void login_lookup_begin(struct login *login, struct login_lookup *lookup)
{
	ASSERT(login->lookup == NULL && login->stage != LOGIN_OVER);
	login->stage = LOGIN_LOOKUP;
	login->lookup = lookup;
	lookup->login = login;
}

struct login *login_lookup_answered(struct login_lookup *lookup)
{
	struct login *login = lookup->login;

	if (login == NULL)
		return NULL;
	ASSERT(login->stage == LOGIN_LOOKUP && login->lookup == lookup);
	login->lookup = NULL;
	login->stage = LOGIN_AUTH;
	login->pending = buf_is_empty(&login->stream.in) ? NULL : buf_ptr(&login->stream.in);
	login->pending_len = buf_len(&login->stream.in);
	return login;
}

void login_lookup_end(struct login *login)
{
	uint8_t *scratch = loop_scratch(login->ctx->loop);
	size_t n = buf_len(&login->stream.in);

	if (login->stage != LOGIN_AUTH)
		return;
	/* Held bytes are worked off as if they had just been read. */
	if (n > 0)
		memcpy(scratch, buf_ptr(&login->stream.in), n);
	buf_wipe(&login->stream.in);
	login_feed(login, scratch, n);
}

static void login_on_drained(void *owner, int err)
{
	if (err < 0)
		login_drop(owner);
}

static void login_on_event(void *owner)
{
	login_drop(owner);
}

static const struct stream_ops login_stream_ops = {
	.on_readable = login_on_readable,
	.on_drained = login_on_drained,
	.on_event = login_on_event,
	.on_secured = login_on_secured,
};

void login_on_accept(struct loop *loop, int fd, const struct listener *from, const struct sock_addr *peer, void *arg)
{
	struct loop_ctx *ctx = arg;
	struct login *login = xcalloc(1, sizeof(*login));

	login->ctx = ctx;
	login->id = engine_next_id(ctx->engine);
	login->connect_us = loop_now_us(loop);
	login->is_unix = sock_addr_is_unix(&from->addr);
	if (login->is_unix)
		sock_peer_set_fd(&login->peer, fd);
	else
		sock_peer_set(&login->peer, peer);
	TAILQ_INSERT_TAIL(&ctx->logins, login, entry);
	atomic_fetch_add_explicit(&ctx->login_count, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&ctx->engine->client_count, 1, memory_order_relaxed);
	stream_init(&login->stream, fd, &login_stream_ops, login, LOGIN_IN_MAX, LOGIN_OUT_MAX);
	stream_set_secret(&login->stream, true);
	stream_attach_quiet(&login->stream, loop);
	login_turn_enter(login);
}

void login_begin(struct login *login)
{
	login_on_readable(login);
}

void login_sweep(struct loop_ctx *ctx, uint64_t now_us)
{
	uint64_t timeout_us = ctx->snap->conf->client_login_timeout_us;
	struct login *login;

	if (timeout_us == 0)
		return;
	/* They stand in order of arrival. */
	while ((login = TAILQ_FIRST(&ctx->logins)) != NULL && login->connect_us + timeout_us <= now_us)
		login_fail_reason(login, REASON_LOGIN_TIMEOUT);
}

void login_close_all(struct loop_ctx *ctx)
{
	struct login *login;

	while ((login = TAILQ_FIRST(&ctx->logins)) != NULL)
		login_drop(login);
}

void login_fail_all(struct loop_ctx *ctx, enum reason reason)
{
	struct login *login;
	struct login *next;

	for (login = TAILQ_FIRST(&ctx->logins); login != NULL; login = next) {
		next = TAILQ_NEXT(login, entry);
		login_fail_reason(login, reason);
	}
}

void login_each(const struct loop_ctx *ctx, login_view_fn fn, void *arg)
{
	const struct login *login;

	TAILQ_FOREACH (login, &ctx->logins, entry)
		fn(&(struct login_view){ &login->stream, login->id, login->connect_us, login->user, login }, arg);
}
