/*
 * Where a client goes once it is known who it is: to a worker of its pool, or
 * to the console.
 */
#include "core/alloc.h"
#include "core/str.h"
#include "pool/cancel.h"
#include "pool/client.h"
#include "pool/drain.h"
#include "pool/login_int.h"
#include "pool/route.h"

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

static void login_to_console(struct login *login)
{
	struct engine *engine = login->ctx->engine;
	struct console_handover *handover = xcalloc(1, sizeof(*handover) + login->pending_len);

	handover->msg.fn = engine->ops->console_adopt;
	handover->socket = stream_take(&login->stream);
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
	handover->pending_len = login->pending_len;
	if (login->pending_len > 0)
		memcpy(handover->pending, login->pending, login->pending_len);
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

/* What the client has logged in with serves for servers of its own pool, unless a file has it. */
static void login_store_secret(const struct login *login, struct pool *pool)
{
	if (login->auth != NULL && auth_is_foreign(login->auth))
		route_store_password(pool, auth_plain_password(login->auth));
	else if (login->found != NULL)
		route_store_secret(pool, &login->found->user->secret, auth_scram_keys(login->auth));
}

static void login_to_worker(struct login *login)
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
		.pending = login->pending,
		.pending_len = login->pending_len,
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
	if (strcmp(pool_user, login->user) == 0)
		login_store_secret(login, birth.pool);
	birth.socket = stream_take(&login->stream);
	birth.startup = vars_is_empty(login->vars) ? NULL : vars_hold(login->vars);
	login->vars = NULL;
	login->replication = NULL;
	login->account = NULL;
	client_hand_over(&birth);
	login_over(login);
}

/* True in a shutdown, unless it is a drain that is only announced. */
static bool login_is_too_late(const struct engine *engine)
{
	enum engine_shutdown shutdown = atomic_load(&engine->shutdown);

	return shutdown == SHUTDOWN_DRAIN ? atomic_load(&engine->drain) >= DRAIN_RUNNING : shutdown != SHUTDOWN_NONE;
}

void login_place(struct login *login)
{
	struct log_about about;
	struct engine *engine = login->ctx->engine;
	const struct scram_keys *keys = login->auth == NULL ? NULL : auth_scram_keys(login->auth);

	if (stream_is_choked(&login->stream)) {
		login_drop(login); /* does not read what a login consists of */
		return;
	}
	if (keys != NULL && login->account != NULL && login->found == NULL)
		route_store_keys(engine, login->account, keys);
	if (!login_count_all(login))
		return;
	if (login->console == CONSOLE_REFUSED) {
		login_fail_reason(login, REASON_NOT_ALLOWED);
		return;
	}
	if (login->console != CONSOLE_NONE) {
		login_to_console(login);
		return;
	}
	if (!login_turn_has_room(login)) { /* there was when it began */
		login_fail_limit(login, REASON_MAX_CLIENT_CONN, (unsigned)login->snap->conf->max_client_conn);
		return;
	}
	if (login->db == NULL) {
		/* One that the * entry makes: only now, so that strangers register nothing. */
		login_describe(login, &about);
		login->db = registry_get_db(engine, login->database, REGISTRY_ANY, &about);
		if (!login_count_all(login))
			return;
	}
	if (login->db == NULL || atomic_load(&login->db->removed)) {
		login_fail_no_db(login);
	} else if (atomic_load(&login->db->disabled)) {
		login_fail_reason(login, REASON_DB_DISABLED);
	} else if (login_is_too_late(engine)) {
		login_fail_reason(login, REASON_SHUTDOWN);
	} else if (drain_phase_of(engine, login->db) >= DRAIN_RUNNING) {
		login_fail_reason(login, REASON_DRAIN_LOGIN);
	} else {
		login_to_worker(login);
	}
}
