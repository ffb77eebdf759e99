/*
 * The tables that need no worker: what the configuration says, together with
 * counts that any thread may read.
 */
#include "admin/show.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/version.h"
#include "pool/client.h"
#include "pool/login.h"
#include "pool/peer.h"
#include "pool/prelogin.h"
#include "pool/registry_walk.h"
#include "pool/server.h"
#include "proto/build.h"

#define TEXT(row, field, help)                                                 \
	{                                                                      \
#field, OID_TEXT, SHOW_TEXT, offsetof(struct row, field), help \
	}
#define CHARS(row, field, help)                                                 \
	{                                                                       \
#field, OID_TEXT, SHOW_CHARS, offsetof(struct row, field), help \
	}
#define INT(row, field, help)                                                 \
	{                                                                     \
#field, OID_INT4, SHOW_INT, offsetof(struct row, field), help \
	}

#define VISITED(variable, text, row, cols, visitor, filler, about) \
	const struct show_table variable = {                       \
		.name = text,                                      \
		.help = about,                                     \
		.right = COMMAND_FOR_STATS,                        \
		.in_help = true,                                   \
		.columns = cols,                                   \
		.column_count = ARRAY_LEN(cols),                   \
		.row_size = sizeof(struct row),                    \
		.visit = visitor,                                  \
		.fill = filler,                                    \
	}

#define TABLE(variable, text, row, cols, filler, about) VISITED(variable, text, row, cols, NULL, filler, about)

/* With counts of connections among the columns. */
#define COUNTED(variable, text, row, cols, filler, about) \
	VISITED(variable, text, row, cols, show_await_loops, filler, about)

/* Whole seconds, as PgBouncer shows times. */
static int64_t show_seconds(uint64_t us)
{
	return (int64_t)(us / USEC_PER_SEC);
}

/* ---- SHOW DATABASES ---- */

struct database_row {
	const char *name;
	const char *host;
	int64_t port;
	const char *database;
	const char *force_user;
	int64_t pool_size;
	int64_t min_pool_size;
	int64_t reserve_pool_size;
	int64_t server_lifetime;
	const char *pool_mode;
	const char *load_balance_hosts;
	int64_t max_connections;
	int64_t current_connections;
	int64_t max_client_connections;
	int64_t current_client_connections;
	int64_t paused;
	int64_t disabled;
};

static const struct show_column show_databases_columns[] = {
	TEXT(database_row, name, "name of the entry"),
	TEXT(database_row, host, "where the servers are; NULL for the Unix socket"),
	INT(database_row, port, "port of the servers"),
	TEXT(database_row, database, "its name on the server"),
	TEXT(database_row, force_user, "user of all its server connections; NULL unless the entry has one"),
	INT(database_row, pool_size, "servers for each user"),
	INT(database_row, min_pool_size, "servers kept open for each user"),
	INT(database_row, reserve_pool_size, "servers beyond pool_size"),
	INT(database_row, server_lifetime, "seconds after which servers are closed"),
	TEXT(database_row, pool_mode, "mode of the entry; NULL unless it has one"),
	TEXT(database_row, load_balance_hosts, "how one of several hosts is chosen; NULL with one"),
	INT(database_row, max_connections, "limit of server connections; 0: none"),
	INT(database_row, current_connections, "server connections now"),
	INT(database_row, max_client_connections, "limit of client connections; 0: none"),
	INT(database_row, current_client_connections, "client connections now"),
	INT(database_row, paused, "1 after PAUSE or KILL of this database"),
	INT(database_row, disabled, "1 after DISABLE of this database"),
};

/* `db` is NULL for a database that nobody has named yet. */
static void show_add_database(struct show *show, const struct conf_db *cdb, const struct db *db)
{
	const struct conf *conf = show->snap->conf;
	struct database_row *row = show_add_row(&show->rows);

	row->name = show_keep_text(&show->rows, cdb->name);
	row->host = cdb->host.count == 0 ? NULL : show_keep_text(&show->rows, cdb->host.text);
	row->port = cdb->port;
	row->database = show_keep_text(&show->rows, cdb->dbname);
	row->force_user = show_keep_text(&show->rows, cdb->user);
	row->pool_size = conf_pool_size(conf, cdb, NULL);
	row->min_pool_size = conf_min_pool_size(conf, cdb);
	row->reserve_pool_size = conf_reserve_pool_size(conf, cdb, NULL);
	row->server_lifetime = show_seconds(conf_server_lifetime_us(conf, cdb));
	if (cdb->pool_mode != CONF_INHERIT)
		row->pool_mode = conf_pool_mode_name((enum conf_pool_mode)cdb->pool_mode);
	if (cdb->host.count > 1)
		row->load_balance_hosts = conf_load_balance_name((enum conf_load_balance)cdb->load_balance_hosts);
	row->max_connections = conf_max_db_connections(conf, cdb);
	row->max_client_connections = conf_max_db_client_connections(conf, cdb);
	if (db == NULL)
		return;
	row->current_connections = atomic_load(&db->servers);
	row->current_client_connections = atomic_load(&db->clients);
	row->paused = atomic_load(&db->paused);
	row->disabled = atomic_load(&db->disabled);
}

static bool show_is_db_used(const struct db *db)
{
	return atomic_load(&db->servers) > 0 || atomic_load(&db->clients) > 0;
}

/* A database made from the * line is shown while it is in use. */
static void show_add_auto_database(struct show *show, const struct db *db)
{
	if (db->auto_conf != NULL && show_is_db_used(db))
		show_add_database(show, db->auto_conf, db);
}

static void show_add_console_database(struct show *show)
{
	struct database_row *row = show_add_row(&show->rows);

	row->name = show->admin->db_name;
	row->port = show->snap->conf->listen_port;
	row->database = show->admin->db_name;
	row->force_user = ADMIN_POOL_USER;
	row->pool_size = ADMIN_POOL_SIZE;
	row->server_lifetime = show_seconds(show->snap->conf->server_lifetime_us);
	row->pool_mode = conf_pool_mode_name(CONF_POOL_STATEMENT);
	row->max_connections = show->snap->conf->max_db_connections;
	row->max_client_connections = show->snap->conf->max_db_client_connections;
	row->current_client_connections = show->admin->console_count;
}

/* Rows that begin with their name. */
static int show_compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void show_fill_databases(struct show *show)
{
	const struct conf *conf = show->snap->conf;
	struct db **dbs;
	size_t n;

	for (size_t i = 0; i < conf->db_count; i++)
		show_add_database(show, &conf->dbs[i], registry_find_db(show->engine, conf->dbs[i].name));
	n = registry_dbs(show->engine, &dbs);
	for (size_t i = 0; i < n; i++)
		show_add_auto_database(show, dbs[i]);
	free(dbs);
	show_add_console_database(show);
	show_sort(&show->rows, show_compare_names);
}

COUNTED(show_databases, "DATABASES", database_row, show_databases_columns, show_fill_databases,
	"The databases of the configuration, those made from the * entry that are in use, and the console.");

/* ---- SHOW USERS ---- */

struct user_row {
	const char *name;
	char pool_size[16]; /* empty when unset */
	char reserve_pool_size[16];
	const char *pool_mode;
	int64_t max_user_connections;
	int64_t current_connections;
	int64_t max_user_client_connections;
	int64_t current_client_connections;
};

static const struct show_column show_users_columns[] = {
	TEXT(user_row, name, "name of the user"),
	CHARS(user_row, pool_size, "pool_size of the entry in [users]; empty unless set"),
	CHARS(user_row, reserve_pool_size, "the same of reserve_pool_size"),
	TEXT(user_row, pool_mode, "mode of the entry in [users]; NULL unless set"),
	INT(user_row, max_user_connections, "limit of server connections; 0: none"),
	INT(user_row, current_connections, "server connections now"),
	INT(user_row, max_user_client_connections, "limit of client connections; 0: none"),
	INT(user_row, current_client_connections, "client connections now"),
};

/* Names from several sources; a name may come more than once. */
static void show_add_user(struct show *show, const char *name)
{
	struct user_row *row;

	if (!str_is_set(name))
		return;
	row = show_add_row(&show->rows);
	row->name = show_keep_text(&show->rows, name);
}

static void show_add_all_users(struct show *show)
{
	const struct conf *conf = show->snap->conf;
	const struct users *users = show->snap->users;
	struct account **accounts;
	size_t n;

	for (size_t i = 0; i < users_count(users); i++)
		show_add_user(show, users_at(users, i)->name);
	for (size_t i = 0; i < conf->user_count; i++)
		show_add_user(show, conf->users[i].name);
	for (size_t i = 0; i < conf->db_count; i++)
		show_add_user(show, conf->dbs[i].user);
	show_add_user(show, conf->auth_user);
	show_add_user(show, ADMIN_POOL_USER); /* forced on the console's database */
	n = registry_accounts(show->engine, &accounts);
	for (size_t i = 0; i < n; i++)
		show_add_user(show, accounts[i]->name);
	free(accounts);
}

/* Leaves one row of each name in sorted rows. */
static void show_drop_doubles(struct show_rows *rows)
{
	size_t kept = 0;

	for (size_t i = 0; i < rows->count; i++) {
		const struct user_row *row = show_row(rows, i);

		if (kept > 0 && strcmp(((struct user_row *)show_row(rows, kept - 1))->name, row->name) == 0)
			continue;
		*(struct user_row *)show_row(rows, kept++) = *row;
	}
	rows->count = kept;
}

static void show_fill_user(struct show *show, struct user_row *row)
{
	const struct conf *conf = show->snap->conf;
	const struct conf_user *user = conf_find_user(conf, row->name);
	const struct account *account = registry_find_account(show->engine, row->name);

	row->max_user_connections = conf_max_user_connections(conf, user);
	row->max_user_client_connections = conf_max_user_client_connections(conf, user);
	if (account != NULL) {
		row->current_connections = atomic_load(&account->servers);
		row->current_client_connections = atomic_load(&account->clients);
	}
	if (user == NULL)
		return;
	if (user->pool_size != CONF_INHERIT)
		str_format(row->pool_size, sizeof(row->pool_size), "%9d", user->pool_size);
	if (user->reserve_pool_size != CONF_INHERIT)
		str_format(row->reserve_pool_size, sizeof(row->reserve_pool_size), "%9d", user->reserve_pool_size);
	if (user->pool_mode != CONF_INHERIT)
		row->pool_mode = conf_pool_mode_name((enum conf_pool_mode)user->pool_mode);
}

static void show_fill_users(struct show *show)
{
	show_add_all_users(show);
	show_sort(&show->rows, show_compare_names);
	show_drop_doubles(&show->rows);
	for (size_t i = 0; i < show->rows.count; i++)
		show_fill_user(show, show_row(&show->rows, i));
}

COUNTED(show_users, "USERS", user_row, show_users_columns, show_fill_users,
	"All users that the configuration, the user list or a login has named.");

/* ---- SHOW CONFIG ---- */

struct config_row {
	const char *key;
	const char *value;
	const char *standard;
	const char *changeable;
};

static const struct show_column show_config_columns[] = {
	TEXT(config_row, key, "name of the setting"),
	TEXT(config_row, value, "value in force; NULL if never set"),
	{ "default", OID_TEXT, SHOW_TEXT, offsetof(struct config_row, standard), "value without a line in the file" },
	TEXT(config_row, changeable, "yes: a reload or SET changes it; no: a restart does"),
};

static void show_fill_config(struct show *show)
{
	const struct conf *conf = show->snap->conf;

	for (size_t i = 0; i < CONF_ID_COUNT; i++) {
		enum conf_id id = conf_show_id(i);
		struct config_row *row = show_add_row(&show->rows);
		char *value = conf_show_value(conf, id);

		row->key = conf_key(id);
		row->value = show_keep_text(&show->rows, value);
		row->standard = conf_show_default(conf, id);
		row->changeable = conf_is_changeable(id) ? "yes" : "no";
		free(value);
	}
}

TABLE(show_config, "CONFIG", config_row, show_config_columns, show_fill_config, "The settings in force.");

/* ---- SHOW LISTS ---- */

struct list_row {
	const char *list;
	int64_t items;
};

static const struct show_column show_lists_columns[] = {
	TEXT(list_row, list,
	     "of what; login_sources, login_waiting, logins_delayed and logins_evicted are there while "
	     "max_prelogin_conn or max_prelogin_rate is set"),
	INT(list_row, items, "how many"),
};

static void show_add_list(struct show *show, const char *list, int64_t items)
{
	struct list_row *row = show_add_row(&show->rows);

	row->list = list;
	row->items = items;
}

/* What the budgets of unfinished logins come to on all loops. A source may be on several. */
static void show_add_prelogin(struct show *show)
{
	struct engine *engine = show->engine;
	struct prelogin_counts sum = { .sources = 0 };

	for (unsigned i = 0; i < engine_loop_count(engine); i++) {
		struct prelogin_counts counts;

		login_turns_count(engine_loop_at(engine, i)->turns, &counts);
		sum.sources += counts.sources;
		sum.waiting += counts.waiting;
		sum.delayed += counts.delayed;
		sum.evicted += counts.evicted;
	}
	show_add_list(show, "login_sources", sum.sources);
	show_add_list(show, "login_waiting", sum.waiting);
	show_add_list(show, "logins_delayed", (int64_t)sum.delayed);
	show_add_list(show, "logins_evicted", (int64_t)sum.evicted);
}

/* How many rows another table has now. */
static size_t show_count_rows(struct show *show, const struct show_table *table)
{
	struct show_rows mine = show->rows;
	size_t count;

	show->rows = (struct show_rows){ .row_size = table->row_size };
	table->fill(show);
	count = show->rows.count;
	show_free_rows(&show->rows);
	show->rows = mine;
	return count;
}

static void show_fill_lists(struct show *show)
{
	struct dns_counts dns;

	dns_count(show->engine->dns, &dns);
	show_add_list(show, "databases", (int64_t)show_count_rows(show, &show_databases));
	show_add_list(show, "users", (int64_t)show_count_rows(show, &show_users));
	show_add_list(show, "peers", (int64_t)show->snap->conf->peer_count);
	show_add_list(show, "pools", (int64_t)show_count_rows(show, &show_pools));
	show_add_list(show, "peer_pools", (int64_t)show_count_rows(show, &show_peer_pools));
	show_add_list(show, "free_clients", 0);
	show_add_list(show, "used_clients", atomic_load(&show->engine->client_count));
	show_add_list(show, "login_clients", engine_login_total(show->engine));
	show_add_list(show, "free_servers", 0);
	show_add_list(show, "used_servers",
		      engine_server_count(show->engine) + atomic_load(&show->engine->cancel_conns));
	show_add_list(show, "dns_names", dns.names);
	show_add_list(show, "dns_zones", dns.zones);
	show_add_list(show, "dns_queries", dns.queries);
	show_add_list(show, "dns_pending", 0);
	if (show->snap->conf->max_prelogin_conn > 0 || show->snap->conf->max_prelogin_rate > 0)
		show_add_prelogin(show);
}

COUNTED(show_lists, "LISTS", list_row, show_lists_columns, show_fill_lists, "How many there are of everything.");

/* ---- SHOW STATE, SHOW VERSION ---- */

struct pair_row {
	const char *key;
	const char *value;
};

static const struct show_column show_state_columns[] = {
	TEXT(pair_row, key, "active, paused or suspended"),
	TEXT(pair_row, value, "yes or no"),
};

static void show_add_state(struct show *show, const char *key, enum engine_mode mode)
{
	struct pair_row *row = show_add_row(&show->rows);

	row->key = key;
	row->value = atomic_load(&show->engine->mode) == mode ? "yes" : "no";
}

static void show_fill_state(struct show *show)
{
	show_add_state(show, "active", ENGINE_ACTIVE);
	show_add_state(show, "paused", ENGINE_PAUSED);
	show_add_state(show, "suspended", ENGINE_SUSPENDED);
}

TABLE(show_state, "STATE", pair_row, show_state_columns, show_fill_state,
      "What the whole process does: it serves, is paused, or is suspended. A PAUSE of one database is in SHOW "
      "DATABASES.");

static const struct show_column show_version_columns[] = {
	{ "version", OID_TEXT, SHOW_TEXT, offsetof(struct pair_row, value),
	  "under [pgbouncer] PgBouncer's first, ours in brackets: tools know from it which columns to expect" },
};

static void show_fill_version(struct show *show)
{
	((struct pair_row *)show_add_row(&show->rows))->value =
		show->snap->conf->profile == CONF_PROFILE_PGBOUNCER ? VERSION_AS_PGBOUNCER : VERSION_OWN;
}

TABLE(show_version, "VERSION", pair_row, show_version_columns, show_fill_version, "Which version this is.");

/* ---- SHOW PEERS, SHOW PEER_POOLS ---- */

struct peer_row {
	int64_t peer_id;
	const char *host;
	int64_t port;
	int64_t pool_size;
	int64_t cl_active_cancel_req;
	int64_t cl_waiting_cancel_req;
	int64_t sv_active_cancel;
	int64_t sv_login;
};

static const struct show_column show_peers_columns[] = {
	INT(peer_row, peer_id, "number of the peer"),
	TEXT(peer_row, host, "where it is"),
	INT(peer_row, port, "its port"),
	INT(peer_row, pool_size, "limit of connections to it"),
};

static const struct show_column show_peer_pools_columns[] = {
	INT(peer_row, peer_id, "number of the peer"),
	INT(peer_row, cl_active_cancel_req, "cancel requests that are passed on to it"),
	INT(peer_row, cl_waiting_cancel_req, "cancel requests that wait for a connection to it"),
	INT(peer_row, sv_active_cancel, "connections that carry a cancel request"),
	INT(peer_row, sv_login, "connections that are being made"),
};

static void show_add_peer(const struct peer_info *peer, void *arg)
{
	struct show *show = arg;
	struct peer_row *row = show_add_row(&show->rows);

	row->peer_id = peer->id;
	row->host = show_keep_text(&show->rows, peer->host);
	row->port = peer->port;
	row->pool_size = peer->pool_size;
	row->cl_active_cancel_req = peer->active;
	row->cl_waiting_cancel_req = peer->waiting;
	row->sv_active_cancel = peer->active;
	row->sv_login = peer->opening;
}

static void show_fill_peers(struct show *show)
{
	peers_each(show->engine->peers, show_add_peer, show);
}

/* A peer has a pool from the first request for it on. */
static void show_add_peer_pool(const struct peer_info *peer, void *arg)
{
	if (peer->is_used)
		show_add_peer(peer, arg);
}

static void show_fill_peer_pools(struct show *show)
{
	peers_each(show->engine->peers, show_add_peer_pool, show);
}

TABLE(show_peers, "PEERS", peer_row, show_peers_columns, show_fill_peers, "The entries of [peers].");
TABLE(show_peer_pools, "PEER_POOLS", peer_row, show_peer_pools_columns, show_fill_peer_pools,
      "What goes on with peers that a cancel request has come for.");

/* ---- SHOW DNS_HOSTS, SHOW DNS_ZONES ---- */

struct dns_host_row {
	const char *hostname;
	int64_t ttl;
	const char *addrs;
};

static const struct show_column show_dns_hosts_columns[] = {
	TEXT(dns_host_row, hostname, "the name"),
	{ "ttl", OID_INT8, SHOW_INT, offsetof(struct dns_host_row, ttl),
	  "seconds for which the addresses are used again" },
	TEXT(dns_host_row, addrs, "addresses of the last answer, separated by commas"),
};

static void show_add_dns_host(const struct dns_row *dns, void *arg)
{
	struct show *show = arg;
	struct dns_host_row *row = show_add_row(&show->rows);
	char addrs[DNS_ADDRS_MAX * SOCK_ADDR_TEXT] = "";

	for (unsigned i = 0; i < dns->count; i++) {
		char text[SOCK_ADDR_TEXT];

		sock_addr_format(&dns->addrs[i], text, sizeof(text));
		str_append(addrs, sizeof(addrs), "%s%s", i == 0 ? "" : ",", text);
	}
	row->hostname = show_keep_text(&show->rows, dns->name);
	row->ttl = (int64_t)dns->ttl_s;
	row->addrs = show_keep_text(&show->rows, addrs);
}

static void show_fill_dns_hosts(struct show *show)
{
	dns_show(show->engine->dns, show_add_dns_host, show);
}

TABLE(show_dns_hosts, "DNS_HOSTS", dns_host_row, show_dns_hosts_columns, show_fill_dns_hosts,
      "Host names that were looked up.");

struct dns_zone_shown {
	const char *zonename;
	int64_t serial;
	int64_t count;
};

static const struct show_column show_dns_zones_columns[] = {
	TEXT(dns_zone_shown, zonename, "the zone"),
	{ "serial", OID_INT8, SHOW_INT, offsetof(struct dns_zone_shown, serial), "serial number of the last answer" },
	INT(dns_zone_shown, count, "host names in it"),
};

static void show_add_dns_zone(const struct dns_zone_row *zone, void *arg)
{
	struct show *show = arg;
	struct dns_zone_shown *row = show_add_row(&show->rows);

	row->zonename = show_keep_text(&show->rows, zone->name);
	row->serial = zone->serial;
	row->count = zone->count;
}

static void show_fill_dns_zones(struct show *show)
{
	dns_show_zones(show->engine->dns, show_add_dns_zone, show);
}

TABLE(show_dns_zones, "DNS_ZONES", dns_zone_shown, show_dns_zones_columns, show_fill_dns_zones,
      "Zones of host names that are watched; see dns_zone_check_period.");

/* ---- SHOW LOOPS ---- */

struct loop_row {
	const char *loop;
	int64_t longest_us;
	int64_t recent_us;
};

static const struct show_column show_loops_columns[] = {
	TEXT(loop_row, loop, "name of the thread"),
	{ "longest_us", OID_INT8, SHOW_INT, offsetof(struct loop_row, longest_us), "since the start" },
	{ "recent_us", OID_INT8, SHOW_INT, offsetof(struct loop_row, recent_us), "since the last SHOW LOOPS" },
};

static void show_add_loop(struct show *show, struct loop *loop)
{
	struct loop_row *row = show_add_row(&show->rows);
	struct loop_load load;

	loop_load(loop, &load);
	row->loop = loop_name(loop);
	row->longest_us = (int64_t)load.longest_us;
	row->recent_us = (int64_t)load.recent_us;
}

static void show_fill_loops(struct show *show)
{
	struct engine *engine = show->engine;

	show_add_loop(show, engine->control);
	for (unsigned i = 0; i < engine_loop_count(engine); i++)
		show_add_loop(show, engine_loop_at(engine, i)->loop);
}

/* PgBouncer has only one loop and no such table: it is there, but not in SHOW HELP. */
const struct show_table show_loops = {
	.name = "LOOPS",
	.help = "How long, in microseconds, the longest turn of each thread was: what others had to wait for.",
	.right = COMMAND_FOR_STATS,
	.columns = show_loops_columns,
	.column_count = ARRAY_LEN(show_loops_columns),
	.row_size = sizeof(struct loop_row),
	.fill = show_fill_loops,
};
