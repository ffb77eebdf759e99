/*
 * The life of a snapshot, and the values that follow from several scopes.
 *
 * A snapshot is made by one thread, is complete before it is published, and is
 * only read from then on. Hence no lock: the reference count is the one field
 * that changes.
 */
#include "conf/conf.h"

#include "conf/conf_int.h"
#include "core/alloc.h"

struct conf *conf_new(enum conf_profile profile)
{
	struct conf *conf = xcalloc(1, sizeof(*conf));

	conf->magic = CONF_MAGIC;
	conf->profile = profile;
	atomic_init(&conf->refs, 1);
	for (unsigned id = 0; id < CONF_ID_COUNT; id++)
		conf_value_set_default(conf, id);
	return conf;
}

void conf_attach_names(struct conf *conf, struct conf_names *names)
{
	ASSERT(conf->names == NULL);
	conf->names = conf_names_hold(names);
	conf->dbs = names->dbs;
	conf->db_count = names->db_count;
	conf->users = names->users;
	conf->user_count = names->user_count;
	conf->peers = names->peers;
	conf->peer_count = names->peer_count;
	conf->autodb = names->autodb;
}

struct conf *conf_hold(struct conf *conf)
{
	CHECK_OBJ(conf, CONF_MAGIC);
	atomic_fetch_add(&conf->refs, 1);
	return conf;
}

void conf_release(struct conf **ref)
{
	struct conf *conf = *ref;

	*ref = NULL;
	if (conf == NULL)
		return;
	CHECK_OBJ(conf, CONF_MAGIC);
	if (atomic_fetch_sub(&conf->refs, 1) > 1)
		return;
	for (unsigned id = 0; id < CONF_ID_COUNT; id++)
		conf_value_free(conf, id);
	conf_names_release(&conf->names);
	free(conf->file);
	conf->magic = 0;
	free(conf);
}

/* ---- effective values ---- */

enum conf_pool_mode conf_pool_mode(const struct conf *conf, const struct conf_db *db, const struct conf_user *user)
{
	if (user != NULL && user->pool_mode != CONF_INHERIT)
		return (enum conf_pool_mode)user->pool_mode;
	if (db != NULL && db->pool_mode != CONF_INHERIT)
		return (enum conf_pool_mode)db->pool_mode;
	return (enum conf_pool_mode)conf->pool_mode;
}

int conf_pool_size(const struct conf *conf, const struct conf_db *db, const struct conf_user *user)
{
	if (user != NULL && user->pool_size != CONF_INHERIT)
		return user->pool_size;
	if (db != NULL && db->pool_size != CONF_INHERIT)
		return db->pool_size;
	return conf->default_pool_size;
}

enum conf_session_attrs conf_target_session_attrs(const struct conf *conf, const struct conf_db *db)
{
	bool is_own = db != NULL && db->target_session_attrs != CONF_INHERIT;

	return (enum conf_session_attrs)(is_own ? db->target_session_attrs : conf->target_session_attrs);
}

int conf_min_pool_size(const struct conf *conf, const struct conf_db *db)
{
	return db != NULL && db->min_pool_size != CONF_INHERIT ? db->min_pool_size : conf->min_pool_size;
}

int conf_reserve_pool_size(const struct conf *conf, const struct conf_db *db, const struct conf_user *user)
{
	if (user != NULL && user->reserve_pool_size != CONF_INHERIT)
		return user->reserve_pool_size;
	if (db != NULL && db->reserve_pool_size != CONF_INHERIT)
		return db->reserve_pool_size;
	return conf->reserve_pool_size;
}

int conf_max_waiting_clients(const struct conf *conf, const struct conf_db *db)
{
	return db != NULL && db->max_waiting_clients != CONF_INHERIT ? db->max_waiting_clients
								     : (int)conf->max_waiting_clients;
}

/* The narrower limit where it is set, else the global one, of which all below 1 mean "none". */
static int conf_limit(int narrow, int global)
{
	if (narrow != CONF_INHERIT)
		return narrow;
	return global > 0 ? global : 0;
}

int conf_max_db_connections(const struct conf *conf, const struct conf_db *db)
{
	return conf_limit(db != NULL ? db->max_db_connections : CONF_INHERIT, conf->max_db_connections);
}

int conf_max_db_client_connections(const struct conf *conf, const struct conf_db *db)
{
	return conf_limit(db != NULL ? db->max_db_client_connections : CONF_INHERIT, conf->max_db_client_connections);
}

int conf_max_user_connections(const struct conf *conf, const struct conf_user *user)
{
	return conf_limit(user != NULL ? user->max_user_connections : CONF_INHERIT, conf->max_user_connections);
}

int conf_max_user_client_connections(const struct conf *conf, const struct conf_user *user)
{
	return conf_limit(user != NULL ? user->max_user_client_connections : CONF_INHERIT,
			  conf->max_user_client_connections);
}

uint64_t conf_server_lifetime_us(const struct conf *conf, const struct conf_db *db)
{
	if (db != NULL && db->server_lifetime_us != CONF_INHERIT_US)
		return db->server_lifetime_us;
	return conf->server_lifetime_us;
}

uint64_t conf_query_wait_timeout_us(const struct conf *conf, const struct conf_db *db, const struct conf_user *user)
{
	if (user != NULL && user->query_wait_timeout_us != CONF_INHERIT_US)
		return user->query_wait_timeout_us;
	if (db != NULL && db->query_wait_timeout_us != CONF_INHERIT_US)
		return db->query_wait_timeout_us;
	return conf->query_wait_timeout_us;
}

uint64_t conf_client_idle_timeout_us(const struct conf *conf, const struct conf_user *user)
{
	if (user != NULL && user->client_idle_timeout_us != CONF_INHERIT_US)
		return user->client_idle_timeout_us;
	return conf->client_idle_timeout_us;
}

uint64_t conf_query_timeout_us(const struct conf *conf, const struct conf_db *db, const struct conf_user *user)
{
	if (user != NULL && user->query_timeout_us != CONF_INHERIT_US)
		return user->query_timeout_us;
	if (db != NULL && db->query_timeout_us != CONF_INHERIT_US)
		return db->query_timeout_us;
	return conf->query_timeout_us;
}

/* The narrowest of three that is set. */
static int conf_narrowest(int user, int db, int global)
{
	if (user != CONF_INHERIT)
		return user;
	return db != CONF_INHERIT ? db : global;
}

enum conf_timeout_action conf_query_timeout_action(const struct conf *conf, const struct conf_db *db,
						   const struct conf_user *user)
{
	return (enum conf_timeout_action)conf_narrowest(user != NULL ? user->query_timeout_action : CONF_INHERIT,
							db != NULL ? db->query_timeout_action : CONF_INHERIT,
							conf->query_timeout_action);
}

enum conf_retry conf_retry(const struct conf *conf, const struct conf_db *db, const struct conf_user *user)
{
	return (enum conf_retry)conf_narrowest(user != NULL ? user->retry : CONF_INHERIT,
					       db != NULL ? db->retry : CONF_INHERIT, conf->retry);
}

unsigned conf_retry_max_attempts(const struct conf *conf, const struct conf_db *db, const struct conf_user *user)
{
	return (unsigned)conf_narrowest(user != NULL ? user->retry_max_attempts : CONF_INHERIT,
					db != NULL ? db->retry_max_attempts : CONF_INHERIT,
					(int)conf->retry_max_attempts);
}

unsigned conf_retry_budget(const struct conf *conf, const struct conf_db *db, const struct conf_user *user)
{
	int percent = conf_narrowest(user != NULL ? user->retry_budget : CONF_INHERIT,
				     db != NULL ? db->retry_budget : CONF_INHERIT, (int)conf->retry_budget);

	return percent > 100 ? 100 : (unsigned)percent;
}

uint64_t conf_cancel_grace_us(const struct conf *conf, const struct conf_db *db)
{
	if (db != NULL && db->cancel_grace_us != CONF_INHERIT_US)
		return db->cancel_grace_us;
	return conf->cancel_grace_us;
}

uint64_t conf_idle_transaction_timeout_us(const struct conf *conf, const struct conf_user *user)
{
	if (user != NULL && user->idle_transaction_timeout_us != CONF_INHERIT_US)
		return user->idle_transaction_timeout_us;
	return conf->idle_transaction_timeout_us;
}

uint64_t conf_transaction_timeout_us(const struct conf *conf, const struct conf_user *user)
{
	if (user != NULL && user->transaction_timeout_us != CONF_INHERIT_US)
		return user->transaction_timeout_us;
	return conf->transaction_timeout_us;
}

/* The narrower text where it is set; an empty one is none. */
static const char *conf_text(const char *narrow, const char *global)
{
	const char *text = narrow != NULL ? narrow : global;

	return str_is_set(text) ? text : NULL;
}

const char *conf_auth_user(const struct conf *conf, const struct conf_db *db)
{
	return conf_text(db != NULL ? db->auth_user : NULL, conf->auth_user);
}

const char *conf_auth_dbname(const struct conf *conf, const struct conf_db *db)
{
	return conf_text(db != NULL ? db->auth_dbname : NULL, conf->auth_dbname);
}

const char *conf_auth_query(const struct conf *conf, const struct conf_db *db)
{
	return db != NULL && db->auth_query != NULL ? db->auth_query : conf->auth_query;
}
