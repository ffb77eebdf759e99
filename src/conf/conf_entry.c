/*
 * One line of [databases], [users] or [peers]: its keys are rows of a table, so
 * that parsing, freeing, showing and the documentation need no list of their
 * own.
 *
 * Counts are read as PgBouncer reads them, with atoi(): what follows the digits
 * is ignored, and no digits are 0. That is kept because existing files load,
 * but it is worth a warning, as 0 mostly means "no limit".
 */
#include "conf/conf_int.h"

#include <limits.h>

#include "conf/connstr.h"
#include "core/alloc.h"
#include "core/clock.h"

/* clang-format off */
#define CONF_FIELD_OF_STR(s, name)     offsetof(struct s, name)
#define CONF_FIELD_OF_HOSTS(s, name)   offsetof(struct s, name)
#define CONF_FIELD_OF_PORT(s, name)    offsetof(struct s, name)
#define CONF_FIELD_OF_PORTS(t, name)   offsetof(struct t, name##s)
#define CONF_FIELD_OF_SIZE(s, name)    offsetof(struct s, name)
#define CONF_FIELD_OF_LIMIT(s, name)   offsetof(struct s, name)
#define CONF_FIELD_OF_SECS0(s, name)   offsetof(struct s, name##_us)
#define CONF_FIELD_OF_SECS(s, name)    offsetof(struct s, name##_us)
#define CONF_FIELD_OF_TIME(s, name)    offsetof(struct s, name##_us)
#define CONF_FIELD_OF_MODE(s, name)    offsetof(struct s, name)
#define CONF_FIELD_OF_ACTION(s, name)  offsetof(struct s, name)
#define CONF_FIELD_OF_BALANCE(s, name) offsetof(struct s, name)
#define CONF_FIELD_OF_ATTRS(s, name)   offsetof(struct s, name)
#define CONF_FIELD_OF_OPEN(s, name)    offsetof(struct s, name)
#define CONF_FIELD_OF_RETRY(s, name)   offsetof(struct s, name)

static const struct conf_entry_key conf_entry_db_keys[] = {
#define X(type, name, flags, help) { CONF_ENTRY_##type, #name, flags, help, CONF_FIELD_OF_##type(conf_db, name) },
	CONF_DB_TABLE(X)
#undef X
	{ .name = NULL }
};
static const struct conf_entry_key conf_entry_user_keys[] = {
#define X(type, name, flags, help) { CONF_ENTRY_##type, #name, flags, help, CONF_FIELD_OF_##type(conf_user, name) },
	CONF_USER_TABLE(X)
#undef X
	{ .name = NULL }
};
static const struct conf_entry_key conf_entry_peer_keys[] = {
#define X(type, name, flags, help) { CONF_ENTRY_##type, #name, flags, help, CONF_FIELD_OF_##type(conf_peer, name) },
	CONF_PEER_TABLE(X)
#undef X
	{ .name = NULL }
};
/* clang-format on */

/* What a key may be whose value is one of several names. */
static const struct {
	const char *const *names;
	const char *what; /* for messages */
} conf_entry_choices[] = {
	[CONF_ENTRY_MODE] = { conf_names_POOL_MODE, "pool mode" },
	[CONF_ENTRY_BALANCE] = { conf_names_LOAD_BALANCE, "load_balance_hosts" },
	[CONF_ENTRY_ATTRS] = { conf_names_SESSION_ATTRS, "target_session_attrs" },
	[CONF_ENTRY_ACTION] = { conf_names_TIMEOUT_ACTION, "query_timeout_action" },
	[CONF_ENTRY_OPEN] = { conf_names_OPEN_ACTION, "breaker_open_action" },
	[CONF_ENTRY_RETRY] = { conf_names_RETRY, "retry" },
};

const struct conf_entry_class conf_entry_classes[CONF_ENTRY_KIND_COUNT] = {
	[CONF_ENTRY_DB] = { "databases", "connection", conf_entry_db_keys },
	[CONF_ENTRY_USER] = { "users", "user", conf_entry_user_keys },
	[CONF_ENTRY_PEER] = { "peers", "connection", conf_entry_peer_keys },
};

static const char *conf_entry_db_key_at(size_t i)
{
	return conf_entry_db_keys[i].name;
}

static const char *conf_entry_user_key_at(size_t i)
{
	return conf_entry_user_keys[i].name;
}

static const char *conf_entry_peer_key_at(size_t i)
{
	return conf_entry_peer_keys[i].name;
}

static const char *(*const conf_entry_key_at[CONF_ENTRY_KIND_COUNT])(size_t) = {
	[CONF_ENTRY_DB] = conf_entry_db_key_at,
	[CONF_ENTRY_USER] = conf_entry_user_key_at,
	[CONF_ENTRY_PEER] = conf_entry_peer_key_at,
};

static void *conf_entry_field(const void *entry, const struct conf_entry_key *key)
{
	return (char *)(uintptr_t)entry + key->offset;
}

static const struct conf_entry_key *conf_entry_find_key(enum conf_entry_kind kind, struct slice name)
{
	if (kind == CONF_ENTRY_DB && slice_eq_str(name, "reserve_pool"))
		name = slice_of("reserve_pool_size");
	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		if (slice_eq_str(name, key->name))
			return key;
	}
	return NULL;
}

/* atoi() with defined behaviour for large numbers. */
static int conf_entry_read_int(const char *text, const struct conf_entry_key *key, struct conf_error *err)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (end == text || *end != '\0')
		conf_error_log(err, LOG_LVL_WARNING, "\"%s\" is not a whole number, %s is taken as %ld", text,
			       key->name, number);
	if (number > INT_MAX)
		return INT_MAX;
	return number < INT_MIN ? INT_MIN : (int)number;
}

static int conf_entry_set_port(int *field, const char *text, const struct conf_entry_key *key, struct conf_error *err)
{
	int port = conf_entry_read_int(text, key, err);

	if (port < 1 || port > 65535) {
		conf_error_log(err, LOG_LVL_ERROR, "invalid port: %s", text);
		conf_error_set(err, "port is a whole number from 1 to 65535", "invalid port: %s", text);
		return -E_RANGE;
	}
	*field = port;
	return 0;
}

static void conf_entry_free_ports(struct conf_ports *ports)
{
	free(ports->items);
	*ports = (struct conf_ports){ .count = 0 };
}

static void conf_entry_add_port(struct conf_ports *ports, int port)
{
	ports->items = xrealloc(ports->items, (ports->count + 1) * sizeof(ports->items[0]));
	ports->items[ports->count++] = port;
}

/* One port, or as many as there are hosts, separated by commas. */
static int conf_entry_set_ports(struct conf_ports *field, const char *text, const struct conf_entry_key *key,
				struct conf_error *err)
{
	struct conf_list list = { .count = 0 };
	int port;
	int rc = 0;

	conf_entry_free_ports(field);
	if (strchr(text, ',') == NULL) {
		rc = conf_entry_set_port(&port, text, key, err);
		if (rc == 0)
			conf_entry_add_port(field, port);
		return rc;
	}
	conf_list_parse(&list, text, false);
	for (size_t i = 0; i < list.count && rc == 0; i++) {
		rc = conf_entry_set_port(&port, list.items[i], key, err);
		if (rc == 0)
			conf_entry_add_port(field, port);
	}
	if (rc == 0 && list.count == 0)
		rc = conf_entry_set_port(&port, text, key, err);
	conf_list_free(&list);
	return rc;
}

/* "5432", or "5432,5433". */
static char *conf_entry_ports_text(const struct conf_ports *ports)
{
	size_t size = ports->count * 8 + 1;
	char *text = xcalloc(1, size);

	for (size_t i = 0; i < ports->count; i++)
		str_append(text, size, "%s%d", i > 0 ? "," : "", ports->items[i]);
	return text;
}

static bool conf_entry_same_ports(const struct conf_ports *a, const struct conf_ports *b)
{
	return a->count == b->count &&
	       (a->count == 0 || memcmp(a->items, b->items, a->count * sizeof(a->items[0])) == 0);
}

static void conf_entry_copy_ports(struct conf_ports *to, const struct conf_ports *from)
{
	conf_entry_free_ports(to);
	for (size_t i = 0; i < from->count; i++)
		conf_entry_add_port(to, from->items[i]);
}

static int conf_entry_set_name(int *field, const char *text, enum conf_entry_type type, struct conf_error *err)
{
	const char *const *names = conf_entry_choices[type].names;
	const char *what = conf_entry_choices[type].what;
	int i = conf_value_find_name(names, text);
	char hint[128] = "the names are:";

	if (i < 0) {
		for (size_t n = 0; names[n] != NULL; n++)
			str_append(hint, sizeof(hint), "%s %s", n > 0 ? "," : "", names[n]);
		conf_error_log(err, LOG_LVL_ERROR, "invalid %s: %s", what, text);
		conf_error_set(err, hint, "invalid %s: %s", what, text);
		return -E_SYNTAX;
	}
	*field = i;
	return 0;
}

static int conf_entry_set_hosts(struct conf_list *field, const char *text, struct conf_error *err)
{
	conf_list_free(field);
	conf_list_parse(field, text, false);
	if (field->count > 0)
		return 0;
	conf_error_set(err, "host is a list of names separated by commas", "invalid host: %s", text);
	return -E_SYNTAX;
}

/* Seconds, with a fraction: what is less than 0 inherits. */
static int conf_entry_set_time(uint64_t *field, const char *text, const struct conf_entry_key *key,
			       struct conf_error *err)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end != '\0' || !(seconds <= (double)CONF_TIME_MAX)) {
		conf_error_log(err, LOG_LVL_ERROR, "invalid %s: %s", key->name, text);
		conf_error_set(err, "it is a number of seconds, such as 30 or 0.25", "invalid %s: %s", key->name, text);
		return -E_SYNTAX;
	}
	*field = seconds < 0 ? CONF_INHERIT_US : (uint64_t)(seconds * USEC_PER_SEC);
	return 0;
}

static int conf_entry_set(void *entry, const struct conf_entry_key *key, const char *text, struct conf_error *err)
{
	void *field = conf_entry_field(entry, key);
	int number;

	switch (key->type) {
	case CONF_ENTRY_STR:
		free_secret(*(char **)field);
		*(char **)field = xstrdup(text);
		return 0;
	case CONF_ENTRY_HOSTS:
		return conf_entry_set_hosts(field, text, err);
	case CONF_ENTRY_PORT:
		return conf_entry_set_port(field, text, key, err);
	case CONF_ENTRY_PORTS:
		return conf_entry_set_ports(field, text, key, err);
	case CONF_ENTRY_SIZE:
		number = conf_entry_read_int(text, key, err);
		*(int *)field = number < 0 ? CONF_INHERIT : number;
		return 0;
	case CONF_ENTRY_LIMIT:
		number = conf_entry_read_int(text, key, err);
		*(int *)field = number <= 0 ? CONF_INHERIT : number;
		return 0;
	case CONF_ENTRY_SECS0:
		number = conf_entry_read_int(text, key, err);
		*(uint64_t *)field = number <= 0 ? CONF_INHERIT_US : (uint64_t)number * USEC_PER_SEC;
		return 0;
	case CONF_ENTRY_SECS:
		number = conf_entry_read_int(text, key, err);
		*(uint64_t *)field = number < 0 ? CONF_INHERIT_US : (uint64_t)number * USEC_PER_SEC;
		return 0;
	case CONF_ENTRY_TIME:
		return conf_entry_set_time(field, text, key, err);
	case CONF_ENTRY_MODE:
	case CONF_ENTRY_BALANCE:
	case CONF_ENTRY_ATTRS:
	case CONF_ENTRY_ACTION:
	case CONF_ENTRY_OPEN:
	case CONF_ENTRY_RETRY:
		return conf_entry_set_name(field, text, key->type, err);
	}
	UNREACHABLE();
}

/* Everything "not set"; the ports of the sections differ. */
static void conf_entry_init(void *entry, enum conf_entry_kind kind)
{
	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		void *field = conf_entry_field(entry, key);

		switch (key->type) {
		case CONF_ENTRY_STR:
		case CONF_ENTRY_HOSTS:
			break;
		case CONF_ENTRY_PORT:
			*(int *)field = 6432;
			break;
		case CONF_ENTRY_PORTS:
			conf_entry_add_port(field, 5432);
			break;
		case CONF_ENTRY_BALANCE:
			*(int *)field = CONF_LOAD_BALANCE_ROUND_ROBIN;
			break;
		case CONF_ENTRY_SIZE:
		case CONF_ENTRY_LIMIT:
		case CONF_ENTRY_MODE:
		case CONF_ENTRY_ATTRS:
		case CONF_ENTRY_ACTION:
		case CONF_ENTRY_OPEN:
		case CONF_ENTRY_RETRY:
			*(int *)field = CONF_INHERIT;
			break;
		case CONF_ENTRY_SECS0:
		case CONF_ENTRY_SECS:
		case CONF_ENTRY_TIME:
			*(uint64_t *)field = CONF_INHERIT_US;
			break;
		}
	}
}

static void conf_entry_fini(void *entry, enum conf_entry_kind kind)
{
	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		void *field = conf_entry_field(entry, key);

		if (key->type == CONF_ENTRY_STR) {
			free_secret(*(char **)field);
			*(char **)field = NULL;
		} else if (key->type == CONF_ENTRY_HOSTS) {
			conf_list_free(field);
		} else if (key->type == CONF_ENTRY_PORTS) {
			conf_entry_free_ports(field);
		}
	}
}

static int conf_entry_unknown_key(enum conf_entry_kind kind, struct slice name, struct conf_error *err)
{
	const struct conf_entry_class *class = &conf_entry_classes[kind];
	char *text = slice_dup(name);
	const char *nearest = conf_error_nearest(text, conf_entry_key_at[kind]);
	char hint[128] = "doc/config.md lists the keys";

	conf_error_log(err, LOG_LVL_ERROR, "unrecognized %s parameter: %s", class->noun, text);
	if (nearest != NULL)
		str_format(hint, sizeof(hint), "did you mean %s?", nearest);
	conf_error_set(err, hint, "unrecognized %s parameter: %s", class->noun, text);
	free(text);
	return -E_SYNTAX;
}

/* Reads the pairs into an entry that conf_entry_init() has prepared. */
static int conf_entry_read(void *entry, enum conf_entry_kind kind, const char *text, struct conf_error *err)
{
	struct connstr cs;
	struct slice name;
	const char *value;
	int rc;

	connstr_init(&cs, text);
	while ((rc = connstr_next(&cs, &name, &value)) == 1) {
		const struct conf_entry_key *key = conf_entry_find_key(kind, name);

		rc = key == NULL ? conf_entry_unknown_key(kind, name, err) : conf_entry_set(entry, key, value, err);
		if (rc < 0)
			break;
	}
	if (rc < 0 && err->what == NULL) {
		conf_error_log(err, LOG_LVL_ERROR, "syntax error in connection string");
		conf_error_set(err, "it is key=value pairs separated by spaces, no value may be empty",
			       "syntax error in connection string");
	}
	connstr_fini(&cs);
	return rc;
}

static int conf_entry_check_length(const char *name, size_t max, const char *what, struct conf_error *err)
{
	char hint[64];

	if (strlen(name) <= max)
		return 0;
	str_format(hint, sizeof(hint), "it may have %zu bytes", max);
	conf_error_log(err, LOG_LVL_WARNING, "too long %s name: %s", what, name);
	conf_error_set(err, hint, "too long %s name: %s", what, name);
	return -E_RANGE;
}

int conf_entry_parse_db(struct conf_db *db, const char *name, const char *text, struct conf_error *err)
{
	int rc = conf_entry_check_length(name, CONF_MAX_DB_NAME, "db", err);

	if (rc < 0)
		return rc;
	if (strcmp(name, CONF_CONSOLE_DB_PGBOUNCER) == 0) {
		conf_error_log(err, LOG_LVL_ERROR, "database name \"%s\" is reserved", name);
		conf_error_set(err, "it is the name of the console", "database name \"%s\" is reserved", name);
		return -E_RANGE;
	}
	conf_entry_init(db, CONF_ENTRY_DB);
	rc = conf_entry_read(db, CONF_ENTRY_DB, text, err);
	if (rc == 0 && db->user != NULL)
		rc = conf_entry_check_length(db->user, CONF_MAX_USERNAME, "user", err);
	if (rc == 0 && db->ports.count > 1 && db->ports.count != db->host.count) {
		conf_error_set(err, "port is one for all hosts, or one for each", "%zu ports for %zu hosts",
			       db->ports.count, db->host.count);
		rc = -E_SYNTAX;
	}
	if (rc < 0) {
		conf_entry_fini(db, CONF_ENTRY_DB);
		return rc;
	}
	db->name = xstrdup(name);
	db->port = db->ports.items[0];
	if (db->dbname == NULL)
		db->dbname = xstrdup(name);
	return 0;
}

int conf_entry_parse_user(struct conf_user *user, const char *name, const char *text, struct conf_error *err)
{
	int rc = conf_entry_check_length(name, CONF_MAX_USERNAME, "user", err);

	if (rc < 0)
		return rc;
	conf_entry_init(user, CONF_ENTRY_USER);
	rc = conf_entry_read(user, CONF_ENTRY_USER, text, err);
	if (rc < 0) {
		conf_entry_fini(user, CONF_ENTRY_USER);
		return rc;
	}
	user->name = xstrdup(name);
	return 0;
}

int conf_entry_parse_peer(struct conf_peer *peer, const char *name, const char *text, struct conf_error *err)
{
	size_t digits = strspn(name, "0123456789");
	long id = digits <= 6 && name[digits] == '\0' ? strtol(name, NULL, 10) : 0;
	int rc;

	if (id < 1 || id > 65535) {
		conf_error_set(err, "the name of a peer is a number from 1 to 65535", "invalid peer id: %s", name);
		return -E_RANGE;
	}
	conf_entry_init(peer, CONF_ENTRY_PEER);
	peer->id = (int)id;
	rc = conf_entry_read(peer, CONF_ENTRY_PEER, text, err);
	if (rc == 0 && peer->host == NULL) {
		conf_error_set(err, "add host=", "peer %s has no host", name);
		rc = -E_SYNTAX;
	}
	if (rc < 0)
		conf_entry_fini(peer, CONF_ENTRY_PEER);
	return rc;
}

void conf_entry_fini_db(struct conf_db *db)
{
	free(db->name);
	conf_entry_fini(db, CONF_ENTRY_DB);
}

void conf_entry_fini_user(struct conf_user *user)
{
	free(user->name);
	conf_entry_fini(user, CONF_ENTRY_USER);
}

void conf_entry_fini_peer(struct conf_peer *peer)
{
	conf_entry_fini(peer, CONF_ENTRY_PEER);
}

static bool conf_entry_same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool conf_entry_is_equal(const void *a, const void *b, const struct conf_entry_key *key)
{
	const void *x = conf_entry_field(a, key);
	const void *y = conf_entry_field(b, key);

	switch (key->type) {
	case CONF_ENTRY_STR:
		return conf_entry_same_text(*(char *const *)x, *(char *const *)y);
	case CONF_ENTRY_HOSTS:
		return conf_entry_same_text(((const struct conf_list *)x)->text, ((const struct conf_list *)y)->text);
	case CONF_ENTRY_SECS0:
	case CONF_ENTRY_SECS:
	case CONF_ENTRY_TIME:
		return *(const uint64_t *)x == *(const uint64_t *)y;
	case CONF_ENTRY_PORTS:
		return conf_entry_same_ports(x, y);
	case CONF_ENTRY_ATTRS:
	case CONF_ENTRY_PORT:
	case CONF_ENTRY_SIZE:
	case CONF_ENTRY_LIMIT:
	case CONF_ENTRY_MODE:
	case CONF_ENTRY_BALANCE:
	case CONF_ENTRY_ACTION:
	case CONF_ENTRY_OPEN:
	case CONF_ENTRY_RETRY:
		return *(const int *)x == *(const int *)y;
	}
	UNREACHABLE();
}

void conf_entry_copy(void *to, const void *from, const struct conf_entry_key *key)
{
	const void *x = conf_entry_field(from, key);
	void *y = conf_entry_field(to, key);

	switch (key->type) {
	case CONF_ENTRY_STR:
		*(char **)y = xstrdup(*(char *const *)x);
		break;
	case CONF_ENTRY_HOSTS:
		if (((const struct conf_list *)x)->text != NULL)
			conf_list_parse(y, ((const struct conf_list *)x)->text, false);
		break;
	case CONF_ENTRY_SECS0:
	case CONF_ENTRY_SECS:
	case CONF_ENTRY_TIME:
		*(uint64_t *)y = *(const uint64_t *)x;
		break;
	case CONF_ENTRY_PORTS:
		conf_entry_copy_ports(y, x);
		break;
	case CONF_ENTRY_ATTRS:
	case CONF_ENTRY_PORT:
	case CONF_ENTRY_SIZE:
	case CONF_ENTRY_LIMIT:
	case CONF_ENTRY_MODE:
	case CONF_ENTRY_BALANCE:
	case CONF_ENTRY_ACTION:
	case CONF_ENTRY_OPEN:
	case CONF_ENTRY_RETRY:
		*(int *)y = *(const int *)x;
		break;
	}
}

char *conf_entry_text(const void *entry, const struct conf_entry_key *key)
{
	const void *field = conf_entry_field(entry, key);
	char text[32];

	switch (key->type) {
	case CONF_ENTRY_STR:
		if (*(char *const *)field != NULL && (key->flags & CONF_F_SECRET) != 0)
			return xstrdup("****");
		return xstrdup(*(char *const *)field);
	case CONF_ENTRY_HOSTS:
		return xstrdup(((const struct conf_list *)field)->text);
	case CONF_ENTRY_PORTS:
		return conf_entry_ports_text(field);
	case CONF_ENTRY_BALANCE:
		if (*(const int *)field == CONF_LOAD_BALANCE_ROUND_ROBIN)
			return NULL;
		return xstrdup(conf_entry_choices[key->type].names[*(const int *)field]);
	case CONF_ENTRY_MODE:
	case CONF_ENTRY_ATTRS:
	case CONF_ENTRY_ACTION:
	case CONF_ENTRY_OPEN:
	case CONF_ENTRY_RETRY:
		if (*(const int *)field == CONF_INHERIT)
			return NULL;
		return xstrdup(conf_entry_choices[key->type].names[*(const int *)field]);
	case CONF_ENTRY_PORT:
	case CONF_ENTRY_SIZE:
	case CONF_ENTRY_LIMIT:
		if (*(const int *)field < 0)
			return NULL;
		str_format(text, sizeof(text), "%d", *(const int *)field);
		return xstrdup(text);
	case CONF_ENTRY_TIME:
		if (*(const uint64_t *)field == CONF_INHERIT_US)
			return NULL;
		str_format(text, sizeof(text), "%.10g", (double)*(const uint64_t *)field / USEC_PER_SEC);
		return xstrdup(text);
	case CONF_ENTRY_SECS0:
	case CONF_ENTRY_SECS:
		if (*(const uint64_t *)field == CONF_INHERIT_US)
			return NULL;
		str_format(text, sizeof(text), "%" PRIu64, *(const uint64_t *)field / (uint64_t)USEC_PER_SEC);
		return xstrdup(text);
	}
	UNREACHABLE();
}
