/*
 * The settings of a pool are first written down in a draft whose strings belong
 * to others. Most drafts of a reload equal what is in effect and are forgotten;
 * only of the others a copy is made.
 */
#include "pool/pool_conf.h"

#include "core/alloc.h"

static void pool_conf_fill_timeouts(struct pool_conf *pc, const struct conf *conf, const struct conf_db *db,
				    const struct conf_user *user)
{
	pc->reserve_timeout_us = conf->reserve_pool_timeout_us;
	pc->server_lifetime_us = conf_server_lifetime_us(conf, db);
	pc->server_idle_timeout_us = conf->server_idle_timeout_us;
	pc->server_connect_timeout_us = conf->server_connect_timeout_us;
	pc->server_login_retry_us = conf->server_login_retry_us;
	pc->server_check_delay_us = conf->server_check_delay_us;
	pc->query_timeout_us = conf_query_timeout_us(conf, db, user);
	pc->query_timeout_action = conf_query_timeout_action(conf, db, user);
	pc->cancel_grace_us = conf_cancel_grace_us(conf, db);
	pc->timeout_includes_wait = conf->timeout_includes_wait != 0;
	pc->query_hints = conf->query_timeout_hints != 0;
	pc->cancels_gone = conf->client_gone_action == CONF_GONE_CANCEL;
	pc->idle_transaction_timeout_us = conf_idle_transaction_timeout_us(conf, user);
	pc->transaction_timeout_us = conf_transaction_timeout_us(conf, user);
	pc->query_wait_timeout_us = conf_query_wait_timeout_us(conf, db, NULL);
	pc->client_idle_timeout_us = conf_client_idle_timeout_us(conf, NULL);
}

void pool_conf_fill_tuning(struct sock_tuning *tuning, const struct conf *conf)
{
	*tuning = (struct sock_tuning){
		.keepalive = conf->tcp_keepalive != 0,
		.keepidle_s = conf->tcp_keepidle,
		.keepintvl_s = conf->tcp_keepintvl,
		.keepcnt = conf->tcp_keepcnt,
		.user_timeout_ms = conf->tcp_user_timeout,
		.buffer_bytes = conf->tcp_socket_buffer,
	};
}

static void pool_conf_fill_queries(struct pool_conf *pc, const struct conf *conf)
{
	static char empty[] = "";

	if (conf->server_reset_query[0] != '\0' &&
	    (pc->mode == CONF_POOL_SESSION || conf->server_reset_query_always != 0))
		pc->reset_query = conf->server_reset_query;
	if (strcmp(conf->server_check_query, "<empty>") == 0)
		pc->check_query = empty;
	else if (conf->server_check_query[0] != '\0')
		pc->check_query = conf->server_check_query;
}

/* A setting of the database, or the general one. */
static unsigned pool_conf_count(int own, unsigned general)
{
	return own == CONF_INHERIT ? general : (unsigned)own;
}

static uint64_t pool_conf_time(uint64_t own_us, uint64_t general_us)
{
	return own_us == CONF_INHERIT_US ? general_us : own_us;
}

static void pool_conf_fill_breaker(struct pool_conf *pc, const struct conf *conf, const struct conf_db *db)
{
	unsigned rate = pool_conf_count(db->breaker_failure_rate, conf->breaker_failure_rate);

	pc->breaker = (struct breaker_conf){
		.failure_threshold = pool_conf_count(db->breaker_failure_threshold, conf->breaker_failure_threshold),
		.failure_rate_pct = rate > 100 ? 100 : rate,
		.window_us = pool_conf_time(db->breaker_window_us, conf->breaker_window_us),
		.min_calls = pool_conf_count(db->breaker_min_calls, conf->breaker_min_calls),
		.recovery_us = pool_conf_time(db->breaker_recovery_timeout_us, conf->breaker_recovery_timeout_us),
		.recovery_max_us = pool_conf_time(db->breaker_recovery_max_us, conf->breaker_recovery_max_us),
		.success_threshold = pool_conf_count(db->breaker_success_threshold, conf->breaker_success_threshold),
	};
	pc->has_own_breakers =
		db->breaker_failure_threshold != CONF_INHERIT || db->breaker_failure_rate != CONF_INHERIT ||
		db->breaker_window_us != CONF_INHERIT_US || db->breaker_min_calls != CONF_INHERIT ||
		db->breaker_recovery_timeout_us != CONF_INHERIT_US || db->breaker_recovery_max_us != CONF_INHERIT_US ||
		db->breaker_success_threshold != CONF_INHERIT;
	pc->max_eject = pool_conf_count(db->breaker_max_eject, conf->breaker_max_eject);
	pc->open_action = (enum conf_open_action)conf->breaker_open_action;
	if (db->breaker_open_action != CONF_INHERIT)
		pc->open_action = (enum conf_open_action)db->breaker_open_action;
}

static void pool_conf_fill_tls(struct pool_conf *pc, const struct tls_conf *tls)
{
	if (tls == NULL)
		return;
	pc->tls = tls->server;
	pc->tls_mode = tls->server_mode;
	pc->tls_direct = tls->server_direct;
	pc->tls_version = tls->server_version;
}

/* Everything but database and secret; the strings stay with the configuration. */
static void pool_conf_draft(struct pool_conf *pc, const struct conf *conf, const struct conf_db *db,
			    const char *user_name)
{
	const struct conf_user *user = conf_find_user(conf, user_name);

	pc->mode = conf_pool_mode(conf, db, user);
	pc->size = (unsigned)conf_pool_size(conf, db, user);
	pc->min_size = (unsigned)conf_min_pool_size(conf, db);
	pc->reserve_size = (unsigned)conf_reserve_pool_size(conf, db, user);
	pc->max_waiting = (unsigned)conf_max_waiting_clients(conf, db);
	pc->queue_shed = conf->queue_shed != 0;
	pc->login_concurrency = conf->server_login_concurrency;
	pc->max_packet_size = conf->max_packet_size;
	pc->prepared = pc->mode == CONF_POOL_SESSION ? 0 : conf->max_prepared_statements;
	pc->reuse_unnamed = pc->prepared != 0 && conf->reuse_unnamed_statements != 0;
	pc->sql_prepare = (enum conf_sql_prepare)conf->sql_prepare;
	pc->retry = pc->mode != CONF_POOL_SESSION && conf_retry(conf, db, user) == CONF_RETRY_SAFE;
	pc->retry_max_attempts = conf_retry_max_attempts(conf, db, user);
	pc->retry_budget = conf_retry_budget(conf, db, user);
	pc->outlive = conf->server_loss_action == CONF_LOSS_ERROR;
	pc->round_robin = conf->server_round_robin != 0;
	pc->backoff = conf->profile == CONF_PROFILE_PGSLUICE;
	pc->unix_dir = conf->unix_socket_dir;
	pc->attrs = conf_target_session_attrs(conf, db);
	pc->endpoint_login_max = conf->endpoint_login_concurrency;
	pool_conf_fill_timeouts(pc, conf, db, user);
	pool_conf_fill_breaker(pc, conf, db);
	pool_conf_fill_tuning(&pc->tuning, conf);
	pool_conf_fill_queries(pc, conf);
	pc->is_forced = db->user != NULL && strcmp(db->user, user_name) == 0;
}

/* The text of the secret for servers: of the connect string, else of the list of users; NULL: there is none. */
static const char *pool_conf_secret_text(const struct conf_db *db, const struct user *listed)
{
	if (db->user != NULL && str_is_set(db->password))
		return db->password;
	return listed == NULL ? NULL : listed->secret.text;
}

static bool pool_conf_same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool pool_conf_same_tuning(const struct sock_tuning *a, const struct sock_tuning *b)
{
	return a->keepalive == b->keepalive && a->keepidle_s == b->keepidle_s && a->keepintvl_s == b->keepintvl_s &&
	       a->keepcnt == b->keepcnt && a->user_timeout_ms == b->user_timeout_ms &&
	       a->buffer_bytes == b->buffer_bytes;
}

static bool pool_conf_same_breaker(const struct breaker_conf *a, const struct breaker_conf *b)
{
	return a->failure_threshold == b->failure_threshold && a->failure_rate_pct == b->failure_rate_pct &&
	       a->window_us == b->window_us && a->min_calls == b->min_calls && a->recovery_us == b->recovery_us &&
	       a->recovery_max_us == b->recovery_max_us && a->success_threshold == b->success_threshold;
}

static bool pool_conf_is_equal(const struct pool_conf *a, const struct pool_conf *b)
{
#define X(type, name)           \
	if (a->name != b->name) \
		return false;
	POOL_CONF_NUMBERS(X)
#undef X
#define X(name)                                     \
	if (!pool_conf_same_text(a->name, b->name)) \
		return false;
	POOL_CONF_TEXTS(X)
#undef X
	return a->tls == b->tls && pool_conf_same_tuning(&a->tuning, &b->tuning) &&
	       pool_conf_same_breaker(&a->breaker, &b->breaker);
}

static struct pool_conf *pool_conf_copy(const struct pool_conf *draft, const struct conf_db *db,
					struct endpoints *endpoints)
{
	struct pool_conf *pc = xcalloc(1, sizeof(*pc));

	atomic_init(&pc->refs, 1);
#define X(type, name) pc->name = draft->name;
	POOL_CONF_NUMBERS(X)
#undef X
#define X(name) pc->name = xstrdup(draft->name);
	POOL_CONF_TEXTS(X)
#undef X
	pc->db = conf_db_copy(db);
	pc->breaker = draft->breaker;
	endpoint_list_make(&pc->endpoints, endpoints, db, pc->unix_dir, &pc->breaker,
			   pc->has_own_breakers ? db->name : BREAKER_SET_COMMON);
	pc->tuning = draft->tuning;
	pc->tls = draft->tls == NULL ? NULL : tls_ctx_hold(draft->tls);
	return pc;
}

struct pool_conf *pool_conf_make(const struct conf *conf, const struct users *users, const struct tls_conf *tls,
				 struct endpoints *endpoints, const struct conf_db *db, const char *user,
				 unsigned template_version, struct pool_conf *old)
{
	const struct user *listed = users_find(users, user);
	const char *secret = pool_conf_secret_text(db, listed);
	struct pool_conf draft = { .template_version = template_version };
	struct pool_conf *pc;

	pool_conf_draft(&draft, conf, db, user);
	pool_conf_fill_tls(&draft, tls);
	if (old != NULL && pool_conf_is_equal(old, &draft) && conf_db_is_equal(old->db, db) &&
	    pool_conf_same_text(old->secret.text, secret == NULL ? "" : secret))
		return old;
	pc = pool_conf_copy(&draft, db, endpoints);
	if (listed != NULL && secret == listed->secret.text)
		secret_copy(&pc->secret, &listed->secret);
	else
		secret_init(&pc->secret, slice_of(secret == NULL ? "" : secret));
	return pc;
}

struct pool_conf *pool_conf_hold(struct pool_conf *conf)
{
	atomic_fetch_add_explicit(&conf->refs, 1, memory_order_relaxed);
	return conf;
}

void pool_conf_release(struct pool_conf **confp)
{
	struct pool_conf *conf = *confp;

	*confp = NULL;
	if (conf == NULL || atomic_fetch_sub_explicit(&conf->refs, 1, memory_order_acq_rel) != 1)
		return;
#define X(name) free(conf->name);
	POOL_CONF_TEXTS(X)
#undef X
	endpoint_list_free(&conf->endpoints);
	conf_db_free(&conf->db);
	tls_ctx_release(&conf->tls);
	secret_fini(&conf->secret);
	free(conf);
}

bool pool_conf_same_server(const struct pool_conf *a, const struct pool_conf *b)
{
	bool both_auto = a->template_version > 0 && b->template_version > 0;

	return a->tls_version == b->tls_version && conf_db_same_server(a->db, b->db) &&
	       (!both_auto || a->template_version == b->template_version);
}
