/*
 * The entries of the three sections of names. They are sorted once, after the
 * load, and never change: a look-up is a binary search without a lock. Copies
 * of a snapshot that differ in settings only (SET) share them.
 *
 * A line that repeats a name replaces the whole earlier entry. While the file
 * is read entries are only appended; the sort keeps the order of the file among
 * equal names, so that the last one can be kept.
 */
#include "conf/conf_int.h"

#include "core/alloc.h"

struct conf_names *conf_names_new(void)
{
	struct conf_names *names = xcalloc(1, sizeof(*names));

	atomic_init(&names->refs, 1);
	return names;
}

struct conf_names *conf_names_hold(struct conf_names *names)
{
	atomic_fetch_add(&names->refs, 1);
	return names;
}

void conf_names_release(struct conf_names **ref)
{
	struct conf_names *names = *ref;

	*ref = NULL;
	if (names == NULL || atomic_fetch_sub(&names->refs, 1) > 1)
		return;
	for (size_t i = 0; i < names->db_count; i++)
		conf_entry_fini_db(&names->dbs[i]);
	for (size_t i = 0; i < names->user_count; i++)
		conf_entry_fini_user(&names->users[i]);
	for (size_t i = 0; i < names->peer_count; i++)
		conf_entry_fini_peer(&names->peers[i]);
	free(names->dbs);
	free(names->users);
	free(names->peers);
	free_secret(names->autodb);
	free(names);
}

/* Room for one more in an array whose length has grown one by one: doubled at each power of two. */
static void *conf_names_grow(void *array, size_t count, size_t size)
{
	if ((count & (count - 1)) != 0)
		return array;
	return xrealloc(array, (count == 0 ? 1 : 2 * count) * size);
}

void conf_names_add_db(struct conf_names *names, const struct conf_db *db)
{
	names->dbs = conf_names_grow(names->dbs, names->db_count, sizeof(*db));
	names->dbs[names->db_count] = *db;
	names->dbs[names->db_count].seq = (unsigned)names->db_count;
	names->db_count++;
}

void conf_names_add_user(struct conf_names *names, const struct conf_user *user)
{
	names->users = conf_names_grow(names->users, names->user_count, sizeof(*user));
	names->users[names->user_count] = *user;
	names->users[names->user_count].seq = (unsigned)names->user_count;
	names->user_count++;
}

void conf_names_add_peer(struct conf_names *names, const struct conf_peer *peer)
{
	names->peers = conf_names_grow(names->peers, names->peer_count, sizeof(*peer));
	names->peers[names->peer_count] = *peer;
	names->peers[names->peer_count].seq = (unsigned)names->peer_count;
	names->peer_count++;
}

static int conf_names_cmp_seq(unsigned a, unsigned b)
{
	return a < b ? -1 : a > b;
}

static int conf_names_cmp_db(const void *a, const void *b)
{
	const struct conf_db *x = a;
	const struct conf_db *y = b;
	int rc = strcmp(x->name, y->name);

	return rc != 0 ? rc : conf_names_cmp_seq(x->seq, y->seq);
}

static int conf_names_cmp_user(const void *a, const void *b)
{
	const struct conf_user *x = a;
	const struct conf_user *y = b;
	int rc = strcmp(x->name, y->name);

	return rc != 0 ? rc : conf_names_cmp_seq(x->seq, y->seq);
}

static int conf_names_cmp_peer(const void *a, const void *b)
{
	const struct conf_peer *x = a;
	const struct conf_peer *y = b;

	return x->id != y->id ? x->id - y->id : conf_names_cmp_seq(x->seq, y->seq);
}

static void conf_names_sort_dbs(struct conf_names *names)
{
	size_t kept = 0;

	qsort(names->dbs, names->db_count, sizeof(*names->dbs), conf_names_cmp_db);
	for (size_t i = 0; i < names->db_count; i++) {
		if (i + 1 < names->db_count && strcmp(names->dbs[i].name, names->dbs[i + 1].name) == 0)
			conf_entry_fini_db(&names->dbs[i]);
		else
			names->dbs[kept++] = names->dbs[i];
	}
	names->db_count = kept;
}

static void conf_names_sort_users(struct conf_names *names)
{
	size_t kept = 0;

	qsort(names->users, names->user_count, sizeof(*names->users), conf_names_cmp_user);
	for (size_t i = 0; i < names->user_count; i++) {
		if (i + 1 < names->user_count && strcmp(names->users[i].name, names->users[i + 1].name) == 0)
			conf_entry_fini_user(&names->users[i]);
		else
			names->users[kept++] = names->users[i];
	}
	names->user_count = kept;
}

static void conf_names_sort_peers(struct conf_names *names)
{
	size_t kept = 0;

	qsort(names->peers, names->peer_count, sizeof(*names->peers), conf_names_cmp_peer);
	for (size_t i = 0; i < names->peer_count; i++) {
		if (i + 1 < names->peer_count && names->peers[i].id == names->peers[i + 1].id)
			conf_entry_fini_peer(&names->peers[i]);
		else
			names->peers[kept++] = names->peers[i];
	}
	names->peer_count = kept;
}

void conf_names_sort(struct conf_names *names)
{
	if (names->db_count > 0)
		conf_names_sort_dbs(names);
	if (names->user_count > 0)
		conf_names_sort_users(names);
	if (names->peer_count > 0)
		conf_names_sort_peers(names);
}

/* ---- look-up ---- */

static int conf_names_match_db(const void *name, const void *db)
{
	return strcmp(name, ((const struct conf_db *)db)->name);
}

static int conf_names_match_user(const void *name, const void *user)
{
	return strcmp(name, ((const struct conf_user *)user)->name);
}

static int conf_names_match_peer(const void *id, const void *peer)
{
	return *(const int *)id - ((const struct conf_peer *)peer)->id;
}

bool conf_is_console_name(const char *name)
{
	return strcmp(name, CONF_CONSOLE_DB) == 0 || strcmp(name, CONF_CONSOLE_DB_PGBOUNCER) == 0;
}

bool conf_is_console(const struct conf *conf, const char *name)
{
	return conf_is_console_name(name) && conf_find_db(conf, name) == NULL;
}

const struct conf_db *conf_find_db(const struct conf *conf, const char *name)
{
	CHECK_OBJ(conf, CONF_MAGIC);
	if (conf->db_count == 0)
		return NULL;
	return bsearch(name, conf->dbs, conf->db_count, sizeof(*conf->dbs), conf_names_match_db);
}

const struct conf_user *conf_find_user(const struct conf *conf, const char *name)
{
	CHECK_OBJ(conf, CONF_MAGIC);
	if (conf->user_count == 0)
		return NULL;
	return bsearch(name, conf->users, conf->user_count, sizeof(*conf->users), conf_names_match_user);
}

const struct conf_peer *conf_find_peer(const struct conf *conf, int id)
{
	CHECK_OBJ(conf, CONF_MAGIC);
	if (conf->peer_count == 0)
		return NULL;
	return bsearch(&id, conf->peers, conf->peer_count, sizeof(*conf->peers), conf_names_match_peer);
}

int conf_autodb(const struct conf *conf, const char *name, struct conf_db **out)
{
	struct conf_error err;
	struct conf_db *db;
	int rc;

	CHECK_OBJ(conf, CONF_MAGIC);
	if (conf->autodb == NULL || name[0] == '\0' || strlen(name) > CONF_MAX_DB_NAME || conf_is_console(conf, name))
		return -E_NOENT;
	conf_error_init(&err);
	db = xcalloc(1, sizeof(*db));
	rc = conf_entry_parse_db(db, name, conf->autodb, &err);
	conf_error_fini(&err);
	if (rc < 0) {
		free(db);
		return -E_SYNTAX;
	}
	db->is_auto = true;
	*out = db;
	return 0;
}

void conf_db_free(struct conf_db **ref)
{
	struct conf_db *db = *ref;

	*ref = NULL;
	if (db == NULL)
		return;
	conf_entry_fini_db(db);
	free(db);
}

bool conf_same_autodb(const struct conf *a, const struct conf *b)
{
	return a->autodb == NULL || b->autodb == NULL ? a->autodb == b->autodb : strcmp(a->autodb, b->autodb) == 0;
}

struct conf_db *conf_db_copy(const struct conf_db *from)
{
	struct conf_db *db = xcalloc(1, sizeof(*db));

	db->name = xstrdup(from->name);
	db->is_auto = from->is_auto;
	for (const struct conf_entry_key *key = conf_entry_classes[CONF_ENTRY_DB].keys; key->name != NULL; key++)
		conf_entry_copy(db, from, key);
	db->port = from->port;
	return db;
}

int conf_db_port(const struct conf_db *db, size_t i)
{
	return i < db->ports.count ? db->ports.items[i] : db->port;
}

bool conf_db_is_equal(const struct conf_db *a, const struct conf_db *b)
{
	for (const struct conf_entry_key *key = conf_entry_classes[CONF_ENTRY_DB].keys; key->name != NULL; key++) {
		if (!conf_entry_is_equal(a, b, key))
			return false;
	}
	return true;
}

bool conf_db_same_server(const struct conf_db *a, const struct conf_db *b)
{
	for (const struct conf_entry_key *key = conf_entry_classes[CONF_ENTRY_DB].keys; key->name != NULL; key++) {
		if ((key->flags & CONF_F_RECYCLE) != 0 && !conf_entry_is_equal(a, b, key))
			return false;
	}
	return true;
}
