/*
 * Logins of clients.
 *
 *   accept -> LOGIN_STARTUP -> LOGIN_AUTH -> handed to a worker or the console
 *                  |  ^ |
 *      (SSLRequest +--+ +-> CancelRequest: handed to cancel.c)
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

#include "auth/auth.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/reason_tbl.h"
#include "core/str.h"
#include "net/sock.h"
#include "net/stream.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/login_params.h"
#include "pool/registry.h"
#include "pool/replication.h"
#include "pool/report.h"
#include "pool/route.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/startup.h"

#define LOGIN_IN_MAX  (LOOP_SCRATCH_SIZE - 1)
#define LOGIN_OUT_MAX (STARTUP_MAX + 1024) /* every name of a startup packet may come back */

enum login_stage {
	LOGIN_STARTUP,
	LOGIN_AUTH,
	LOGIN_OVER, /* freed at the end of this turn */
};

/* What a console session may do. */
enum console_rights {
	CONSOLE_NONE, /* not a console session */
	CONSOLE_STATS,
	CONSOLE_ADMIN,
};

struct login {
	TAILQ_ENTRY(login) entry; /* in ctx->logins */
	struct loop_ctx *ctx;
	struct snapshot *snap; /* in force when the startup packet came */
	struct stream stream;
	struct loop_task task;
	enum login_stage stage;
	enum console_rights console;
	bool is_unix;
	bool has_long_key; /* the client speaks protocol 3.2 */
	bool is_named;     /* the log shows who it is: the limits on the way there are behind it */
	struct sock_peer peer;
	uint64_t id;
	uint64_t connect_us;
	struct auth *auth;
	struct db *db;           /* held, and counted in db->clients; NULL: unknown, or the console */
	struct account *account; /* held, and counted in account->clients; NULL: unknown */
	struct varset *vars;
	struct replication *replication; /* NULL: an ordinary client */
	char user[STARTUP_USER_MAX + 1];
	char database[64];
};

static bool login_is_console_name(const char *database)
{
	return strcmp(database, "pgbouncer") == 0 || strcmp(database, "pgsluice") == 0;
}

/* True once it is clear which pool the client will have. */
static bool login_has_pool(const struct login *login)
{
	return login->is_named &&
	       (login_is_console_name(login->database) || (login->db != NULL && login->account != NULL));
}

static void login_describe(const struct login *login, struct log_about *about)
{
	report_about(about, login, login->id, login->database, login->user);
	report_about_peer(about, &login->peer, login->ctx->snap->conf->listen_port);
	about->action = "login";
	about->no_user = !login->is_named;
	about->no_database = !login_has_pool(login);
}

/* ---- the end of a login ---- */

static void login_free_task(struct loop *loop UNUSED, struct loop_task *task)
{
	free(CONTAINER_OF(task, struct login, task));
}

/* Ends the login; the descriptor is closed unless it was taken. Counts stay with whoever took them over. */
static void login_over(struct login *login)
{
	struct loop_ctx *ctx = login->ctx;

	ASSERT(login->stage != LOGIN_OVER);
	login->stage = LOGIN_OVER;
	TAILQ_REMOVE(&ctx->logins, login, entry);
	atomic_fetch_sub_explicit(&ctx->login_count, 1, memory_order_relaxed);
	stream_close(&login->stream);
	auth_free(&login->auth);
	vars_release(&login->vars);
	free(login->replication);
	db_release(&login->db);
	account_release(&login->account);
	snapshot_release(&login->snap);
	login->task.fn = login_free_task;
	loop_defer(ctx->loop, &login->task);
}

/* Ends a login that leads nowhere. */
static void login_drop(struct login *login)
{
	if (login->db != NULL)
		atomic_fetch_sub_explicit(&login->db->clients, 1, memory_order_relaxed);
	if (login->account != NULL)
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

static void login_fail(struct login *login, const struct report *report)
{
	const struct conf *conf = login->ctx->snap->conf;
	struct log_about about;
	struct buf b;
	int err UNUSED;

	login_describe(login, &about);
	str_copy(about.sqlstate, sizeof(about.sqlstate), report->sqlstate);
	report_close(conf, &about, report->text, loop_now_us(login->ctx->loop) - login->connect_us);
	buf_init(&b, LOGIN_OUT_MAX);
	err = report_error(&b, conf, &about, "FATAL", report);
	if (err == 0)
		err = stream_send_buf(&login->stream, &b);
	buf_fini(&b);
	login_drop(login);
}

/* `limit`: the one that is exceeded, or 0. */
static void login_fail_limit(struct login *login, enum reason reason, unsigned limit)
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

static void login_fail_reason(struct login *login, enum reason reason)
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

/* Sends a message of the exchange; false when the login has ended. */
static bool login_send(struct login *login, struct buf *b, int err)
{
	if (err == 0)
		err = stream_send_buf(&login->stream, b);
	buf_fini(b);
	if (err < 0)
		login_drop(login);
	return err >= 0;
}

/* ---- limits ---- */

/* Counts the client under a limit (0: none); false when that is full. */
static bool login_count(atomic_uint *count, unsigned max)
{
	unsigned n = atomic_fetch_add_explicit(count, 1, memory_order_relaxed) + 1;

	return max == 0 || n <= max;
}

/* Counts the client under its database; false when the login has ended. */
static bool login_count_db(struct login *login)
{
	bool is_admin = conf_list_has(&login->snap->conf->admin_users, login->user);
	unsigned max = is_admin ? 0 : route_max_db_clients(login->ctx->engine, login->db);

	if (login_count(&login->db->clients, max))
		return true;
	login_fail_limit(login, REASON_MAX_DB_CLIENTS, max);
	return false;
}

/* ---- after authentication ---- */

/* Keys of console sessions name no place: the control loop compares them all. */
static void login_make_console_key(const struct login *login, struct cancel_key *key)
{
	struct engine *engine = login->ctx->engine;
	uint32_t random = arc4random();
	struct cancel_place place = { CANCEL_WORKER_CONSOLE, random % CANCEL_SLOTS_MAX, (uint16_t)(random >> 16) };
	uint8_t head[CANCEL_KEY_LEN];

	cancel_key_make(engine->cancel_secret, (unsigned)login->snap->conf->peer_id, &place, head);
	cancel_key_set(key, head, sizeof(head));
	if (!login->has_long_key)
		return;
	cancel_key_extend(engine->cancel_secret, head, key);
	atomic_store_explicit(&engine->has_long_keys, true, memory_order_relaxed);
}

static void login_to_console(struct login *login, const uint8_t *pending, size_t pending_len)
{
	struct engine *engine = login->ctx->engine;
	struct console_handover *handover = xcalloc(1, sizeof(*handover) + pending_len);

	handover->msg.fn = engine->ops->console_adopt;
	handover->fd = stream_take_fd(&login->stream);
	handover->id = login->id;
	handover->connect_us = login->connect_us;
	handover->is_admin = login->console == CONSOLE_ADMIN;
	handover->peer = login->peer;
	login_make_console_key(login, &handover->cancel_key);
	str_copy(handover->user, sizeof(handover->user), login->user);
	str_copy(handover->database, sizeof(handover->database), login->database);
	handover->account = login->account;
	handover->vars = login->vars;
	login->account = NULL;
	login->vars = NULL;
	handover->pending_len = pending_len;
	if (pending_len > 0)
		memcpy(handover->pending, pending, pending_len);
	loop_post(engine->control, &handover->msg);
	login_over(login);
}

/* A database that is not there. */
static void login_fail_no_db(struct login *login)
{
	struct log_about about;

	if (login->snap->conf->log_connections != 0) {
		login_describe(login, &about);
		log_info_about(&about, "login failed: db=%s user=%s", login->database, login->user);
	}
	login_fail_reason(login, REASON_NO_DATABASE);
}

static void login_to_worker(struct login *login, const uint8_t *pending, size_t pending_len)
{
	struct engine *engine = login->ctx->engine;
	const struct conf *conf = login->snap->conf;
	char pool_user[STARTUP_USER_MAX + 1];
	struct log_about about;
	struct client_birth birth = {
		.id = login->id,
		.connect_us = login->connect_us,
		.account = login->account,
		.vars = login->vars,
		.replication = login->replication,
		.is_unix = login->is_unix,
		.has_long_key = login->has_long_key,
		.peer = login->peer,
		.pending = pending,
		.pending_len = pending_len,
	};

	if (!route_forced_user(engine, login->db, pool_user, sizeof(pool_user))) {
		if (conf->auth_type == CONF_AUTH_ANY) {
			login_describe(login, &about);
			about.is_bare = true;
			log_error_about(&about, "auth_type=any requires forced user");
			login_fail_reason(login, REASON_CONFIG);
			return;
		}
		str_copy(pool_user, sizeof(pool_user), login->user);
	}
	birth.pool = registry_get_pool(engine, login->db, pool_user);
	if (birth.pool == NULL) {
		login_fail_no_db(login);
		return;
	}
	birth.fd = stream_take_fd(&login->stream);
	birth.startup = vars_is_empty(login->vars) ? NULL : vars_hold(login->vars);
	login->vars = NULL;
	login->replication = NULL;
	login->account = NULL;
	client_hand_over(engine, &birth);
	login_over(login);
}

/* The client is who it says; `pending` is what it sent behind its last message. */
static void login_done(struct login *login, const uint8_t *pending, size_t pending_len)
{
	struct log_about about;
	struct engine *engine = login->ctx->engine;
	const struct scram_keys *keys = login->auth == NULL ? NULL : auth_scram_keys(login->auth);

	if (stream_is_choked(&login->stream)) {
		login_drop(login); /* does not read what a login consists of */
		return;
	}
	if (keys != NULL && login->account != NULL)
		route_store_keys(engine, login->account, keys);
	if (login->console != CONSOLE_NONE) {
		login_to_console(login, pending, pending_len);
		return;
	}
	if (login->db == NULL) {
		/* One that the * entry makes: only now, so that strangers register nothing. */
		login_describe(login, &about);
		login->db = registry_get_db(engine, login->database, REGISTRY_ANY, &about);
		if (login->db != NULL && !login_count_db(login))
			return;
	}
	if (login->db == NULL || atomic_load(&login->db->removed)) {
		login_fail_no_db(login);
	} else if (atomic_load(&login->db->disabled)) {
		login_fail_reason(login, REASON_DB_DISABLED);
	} else if (atomic_load(&engine->shutdown) != SHUTDOWN_NONE) {
		login_fail_reason(login, REASON_SHUTDOWN);
	} else {
		login_to_worker(login, pending, pending_len);
	}
}

/* ---- authentication ---- */

/* Sends what a step asks for; false when the login has ended. */
static bool login_send_request(struct login *login, const struct auth_out *out)
{
	static const char *const mechanisms[] = { SCRAM_MECHANISM };
	struct slice body = slice_make(out->body, out->body_len);
	struct buf b;

	buf_init(&b, LOGIN_OUT_MAX);
	switch (out->request) {
	case AUTH_REQ_OK:
		return true;
	case AUTH_REQ_PASSWORD:
		return login_send(login, &b, build_auth_cleartext(&b));
	case AUTH_REQ_MD5:
		ASSERT(out->body_len == 4);
		return login_send(login, &b, build_auth_md5(&b, out->body));
	case AUTH_REQ_SASL:
		return login_send(login, &b, build_auth_sasl(&b, mechanisms, ARRAY_LEN(mechanisms)));
	case AUTH_REQ_SASL_CONTINUE:
		return login_send(login, &b, build_auth_sasl_continue(&b, body));
	case AUTH_REQ_SASL_FINAL:
		return login_send(login, &b, build_auth_sasl_final(&b, body));
	}
	UNREACHABLE();
}

/* One step of the exchange; `pending` is what follows the client's message. */
static void login_step(struct login *login, const uint8_t *payload, size_t n, const uint8_t *pending,
		       size_t pending_len)
{
	struct log_about about;
	struct report report;
	struct auth_out out;

	switch (auth_step(login->auth, payload, n, &out)) {
	case AUTH_MORE:
		login->stage = LOGIN_AUTH;
		if (login_send_request(login, &out))
			stream_want_read(&login->stream, true);
		break;
	case AUTH_DONE:
		if (login_send_request(login, &out))
			login_done(login, pending, pending_len);
		break;
	case AUTH_FAIL:
		if (out.detail != NULL && out.detail[0] != '\0' && login->ctx->snap->conf->log_connections != 0) {
			login_describe(login, &about);
			log_info_about(&about, "%s: %s", auth_reason_text(out.reason), out.detail);
		}
		report_text(&report, login->snap->conf, auth_reason_text(out.reason), auth_reason_sqlstate(out.reason),
			    NULL);
		login_fail(login, &report);
		break;
	}
}

/* The method for auth_type; false when this build cannot do it, so that nobody gets in. */
static bool login_method(const struct conf *conf, enum auth_method *method)
{
	switch ((enum conf_auth_type)conf->auth_type) {
	case CONF_AUTH_ANY:
		*method = AUTH_METHOD_ANY;
		return true;
	case CONF_AUTH_TRUST:
		*method = AUTH_METHOD_TRUST;
		return true;
	case CONF_AUTH_PLAIN:
		*method = AUTH_METHOD_PLAIN;
		return true;
	case CONF_AUTH_MD5:
		*method = AUTH_METHOD_MD5;
		return true;
	case CONF_AUTH_SCRAM:
		*method = AUTH_METHOD_SCRAM;
		return true;
	default:
		return false;
	}
}

static void login_begin_auth(struct login *login, const struct user *user, const uint8_t *pending, size_t pending_len)
{
	const struct conf *conf = login->snap->conf;
	enum auth_method method;

	if (!login_method(conf, &method)) {
		log_error("auth_type \"%s\" is not supported yet", conf_auth_type_name(conf->auth_type));
		login_fail_reason(login, REASON_CONFIG);
		return;
	}
	login->auth = auth_new(method, login->user, user, conf->scram_iterations);
	login_step(login, NULL, 0, pending, pending_len);
}

/* ---- the startup packet ---- */

/* All parameters of the packet become the client's set; false when the login has ended. */
static bool login_take_params(struct login *login, const struct startup *startup)
{
	const struct conf *conf = login->snap->conf;
	struct login_params params;
	struct log_about about;
	enum startup_err err = login_params_read(&params, startup, conf);

	if (err == STARTUP_E_PARAM) {
		login_describe(login, &about);
		log_warning_about(&about, "unsupported startup parameter: %.*s=%.*s", (int)params.bad_name.n,
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

/* Finds and counts database and user; false when the login has ended. */
static bool login_find(struct login *login, const struct user *user)
{
	struct engine *engine = login->ctx->engine;
	const struct conf *conf = login->snap->conf;
	const struct conf_user *conf_user = conf_find_user(conf, login->user);
	bool is_admin = conf_list_has(&conf->admin_users, login->user);
	unsigned max;

	if (!login_is_console_name(login->database)) {
		login->db = registry_get_db(engine, login->database, REGISTRY_CONFIGURED, NULL);
		if (login->db != NULL && !login_count_db(login))
			return false;
	}
	if (user == NULL && conf_user == NULL && conf->auth_type != CONF_AUTH_ANY)
		return true;
	login->account = registry_get_account(engine, login->user);
	max = is_admin ? 0 : (unsigned)conf_max_user_client_connections(conf, conf_user);
	if (!login_count(&login->account->clients, max)) {
		login_fail_limit(login, REASON_MAX_USER_CLIENTS, max);
		return false;
	}
	return true;
}

/* True when the client is the user that runs this process, and names the console's own user. */
static bool login_is_owner(const struct login *login)
{
	uid_t uid;

	return login->is_unix && login_is_console_name(login->user) &&
	       sock_peer_cred(login->stream.fd, &uid, NULL) == 0 && uid == geteuid();
}

/* Who may use the console; false when the login has ended or is complete. */
static bool login_check_console(struct login *login, const struct user *user, const uint8_t *pending,
				size_t pending_len)
{
	const struct conf *conf = login->snap->conf;
	struct log_about about;

	login->console = CONSOLE_STATS;
	if (login_is_owner(login)) {
		login->console = CONSOLE_ADMIN;
		if (conf->log_connections != 0) {
			login_describe(login, &about);
			log_info_about(&about, "pgbouncer access from unix socket");
		}
		login_done(login, pending, pending_len);
		return false;
	}
	if (conf_list_has(&conf->admin_users, login->user)) {
		login->console = CONSOLE_ADMIN;
	} else if (!conf_list_has(&conf->stats_users, login->user) && conf->auth_type != CONF_AUTH_ANY &&
		   user != NULL) {
		login_fail_reason(login, REASON_NOT_ALLOWED);
		return false;
	}
	return true;
}

/* A name that nobody knows; it goes through the same exchange as any other. */
static void login_log_stranger(const struct login *login)
{
	struct log_about about;

	login_describe(login, &about);
	log_info_about(&about, "no such user: %s", login->user);
}

static void login_log_attempt(const struct login *login)
{
	struct log_about about;

	if (login->snap->conf->log_connections == 0)
		return;
	login_describe(login, &about);
	log_info_about(&about, "login attempt: db=%s user=%s tls=no replication=%s", login->database, login->user,
		       replication_value(login->replication == NULL ? REPLICATION_NONE : login->replication->mode));
}

/* A whole startup packet; `pending` is what follows it. */
static void login_on_startup(struct login *login, const uint8_t *packet, const struct startup_head *head,
			     const uint8_t *pending, size_t pending_len)
{
	struct engine *engine = login->ctx->engine;
	const struct user *user;
	struct startup startup;
	enum startup_err err;
	unsigned max_clients;

	login->snap = snapshot_hold(login->ctx->snap);
	err = startup_parse(packet, head, &startup);
	if (err == STARTUP_OK && startup.user.n <= STARTUP_USER_MAX) {
		str_copy_slice(login->user, sizeof(login->user), startup.user);
		str_copy_slice(login->database, sizeof(login->database), startup.database);
	}
	if (err == STARTUP_OK && !login_take_params(login, &startup))
		return;
	if (err == STARTUP_OK)
		err = startup_check_user(&startup);
	if (err != STARTUP_OK) {
		login_fail_startup(login, err, slice_make(NULL, 0));
		return;
	}
	max_clients = (unsigned)login->snap->conf->max_client_conn;
	if (atomic_load_explicit(&engine->client_count, memory_order_relaxed) > max_clients &&
	    !login_is_console_name(login->database)) {
		login_fail_limit(login, REASON_MAX_CLIENT_CONN, max_clients);
		return;
	}
	if (!login_negotiate(login, &startup))
		return;
	user = users_find(login->snap->users, login->user);
	if (!login_find(login, user))
		return;
	if (login->account == NULL)
		login_log_stranger(login);
	login->is_named = true;
	login_log_attempt(login);
	if (login_is_console_name(login->database) && !login_check_console(login, user, pending, pending_len))
		return;
	login_begin_auth(login, user, pending, pending_len);
}

/* ---- bytes ---- */

/* SSLRequest and GSSENCRequest: not offered. False when the login has ended. */
static bool login_refuse(struct login *login, bool is_ssl, size_t extra)
{
	if (extra > 0) {
		login_fail_startup(login, is_ssl ? STARTUP_E_SSL_EXTRA : STARTUP_E_GSS_EXTRA, slice_make(NULL, 0));
		return false;
	}
	if (stream_send(&login->stream, "N", 1) < 0) {
		login_drop(login);
		return false;
	}
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
	asker.fd = stream_take_fd(&login->stream);
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
		return login_refuse(login, head.kind == STARTUP_SSL, len - head.total) ? head.total : len;
	case STARTUP_CANCEL:
		login_on_cancel(login, data, &head);
		return len;
	default:
		login_on_startup(login, data, &head, data + head.total, len - head.total);
		return login->stage == LOGIN_OVER ? len : head.total;
	}
}

/* An answer of the client during authentication; returns how many bytes were used up. */
static size_t login_feed_auth(struct login *login, const uint8_t *data, size_t len)
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
	if (f.size > len)
		return 0;
	login_step(login, data + FRAME_HEADER, (size_t)f.size - FRAME_HEADER, data + f.size, len - (size_t)f.size);
	return login->stage == LOGIN_OVER ? len : (size_t)f.size;
}

static void login_on_readable(void *owner)
{
	struct login *login = owner;
	uint8_t *data;
	size_t len;
	size_t at = 0;
	int err = stream_fill(&login->stream, &data, &len);

	if (err == -E_AGAIN) {
		stream_want_read(&login->stream, true);
		return;
	}
	if (err < 0) {
		login_drop(login);
		return;
	}
	while (at < len && login->stage != LOGIN_OVER) {
		size_t used = login->stage == LOGIN_STARTUP ? login_feed_startup(login, data + at, len - at)
							    : login_feed_auth(login, data + at, len - at);

		if (used == 0)
			break;
		at += used;
	}
	if (login->stage == LOGIN_OVER)
		return;
	if (stream_hold(&login->stream, data + at, len - at) != 0)
		login_fail_reason(login, REASON_OOM);
	else
		stream_want_read(&login->stream, true);
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
	stream_attach_quiet(&login->stream, loop);
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
