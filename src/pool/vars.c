/*
 * Interned sets of session parameters.
 *
 * A set is a reference count, a hash and the values in one allocation. The
 * table that finds an equal set is shared by all threads under one lock; it is
 * visited at logins and when a server reports a changed parameter, never by a
 * query. A set whose last reference goes is taken out under the same lock, so
 * a set found in the table can always be held.
 */
#include "pool/vars.h"

#include <uthash.h>

#include "core/alloc.h"
#include "core/lock.h"
#include "core/log.h"

struct varset {
	unsigned refs; /* protected by the lock */
	uint64_t serial;
	UT_hash_handle hh;
	size_t key_len;
	const char *values[VARS_MAX]; /* into the key, or NULL */
	char key[];                   /* for each parameter: '=' value NUL, or '-' */
};

static const char *const base_names[] = {
	"DateStyle", "client_encoding", "TimeZone", "standard_conforming_strings", "application_name",
};
#define CLIENT_ENCODING  1
#define APPLICATION_NAME 4

/* What a command consists of besides names and values. */
#define VARS_COMMAND_MAX 128

static char *names[VARS_MAX];
static int name_count;
static struct lock table_lock;
static struct varset *table; /* protected by table_lock */
static uint64_t last_serial; /* likewise */

void vars_setup(const char *extra)
{
	const char *p = extra;

	lock_init(&table_lock, LOCK_RANK_VARS);
	for (size_t i = 0; i < ARRAY_LEN(base_names); i++)
		names[name_count++] = xstrdup(base_names[i]);
	while (p != NULL && *p != '\0') {
		size_t n = strcspn(p, ",");
		struct slice name = slice_trim(slice_make(p, n));

		if (name.n > 0 && vars_index(name) < 0 && name_count == VARS_MAX)
			log_warning("track_extra_parameters: \"%.*s\" is one too many and not tracked", (int)name.n,
				    name.p);
		else if (name.n > 0 && vars_index(name) < 0)
			names[name_count++] = slice_dup(name);
		p += n;
		if (*p == ',')
			p++;
	}
}

void vars_teardown(void)
{
	while (name_count > 0)
		free(names[--name_count]);
	lock_fini(&table_lock);
}

int vars_count(void)
{
	return name_count;
}

const char *vars_name(int i)
{
	ASSERT(i >= 0 && i < name_count);
	return names[i];
}

int vars_index(struct slice name)
{
	for (int i = 0; i < name_count; i++)
		if (slice_ieq(name, slice_of(names[i])))
			return i;
	return -1;
}

int vars_application_name(void)
{
	return APPLICATION_NAME;
}

/* A candidate set that is not in the table yet. */
static struct varset *vars_build(const struct slice values[VARS_MAX])
{
	struct varset *set;
	size_t len = 0;
	char *at;

	for (int i = 0; i < name_count; i++)
		len += values[i].p == NULL ? 1 : values[i].n + 2;
	set = xcalloc(1, sizeof(*set) + len);
	set->key_len = len;
	at = set->key;
	for (int i = 0; i < name_count; i++) {
		if (values[i].p == NULL) {
			*at++ = '-';
			continue;
		}
		*at++ = '=';
		set->values[i] = at;
		memcpy(at, values[i].p, values[i].n);
		at[values[i].n] = '\0';
		at += values[i].n + 1;
	}
	set->refs = 1;
	return set;
}

struct varset *vars_make(const struct slice values[VARS_MAX])
{
	struct varset *fresh = vars_build(values);
	struct varset *found;
	unsigned hash;

	HASH_VALUE(fresh->key, fresh->key_len, hash);
	lock_acquire(&table_lock);
	HASH_FIND_BYHASHVALUE(hh, table, fresh->key, fresh->key_len, hash, found);
	if (found != NULL)
		found->refs++;
	else
		HASH_ADD_KEYPTR_BYHASHVALUE(hh, table, fresh->key, fresh->key_len, hash, fresh);
	fresh->serial = ++last_serial;
	lock_release(&table_lock);
	if (found == NULL)
		return fresh;
	free(fresh);
	return found;
}

struct varset *vars_make_empty(void)
{
	struct slice values[VARS_MAX] = { { NULL, 0 } };

	return vars_make(values);
}

/* True for a value, or NULL, whose bytes depend on the client_encoding. The parameters of the protocol are ASCII. */
static bool vars_is_recoded(int i, const char *value)
{
	if (i < (int)ARRAY_LEN(base_names) || value == NULL)
		return false;
	while (*value != '\0')
		if ((uint8_t)*value++ > 0x7f)
			return true;
	return false;
}

/* The values of a set as slices. */
static void vars_unpack(const struct varset *set, struct slice values[VARS_MAX])
{
	memset(values, 0, VARS_MAX * sizeof(values[0]));
	for (int i = 0; i < name_count; i++)
		if (set->values[i] != NULL)
			values[i] = slice_of(set->values[i]);
}

void vars_change(struct varset **set, int i, struct slice value)
{
	struct slice values[VARS_MAX];
	struct varset *old = *set;

	ASSERT(i >= 0 && i < name_count);
	if (old->values[i] != NULL && value.p != NULL && slice_eq(value, slice_of(old->values[i])))
		return;
	vars_unpack(old, values);
	values[i] = value;
	*set = vars_make(values);
	vars_release(&old);
}

void vars_fill(struct varset **set, const struct varset *defaults)
{
	struct slice values[VARS_MAX];
	struct varset *old = *set;
	bool changed = false;

	if (old == defaults)
		return;
	vars_unpack(old, values);
	for (int i = 0; i < name_count; i++) {
		if (values[i].p == NULL && defaults->values[i] != NULL) {
			values[i] = slice_of(defaults->values[i]);
			changed = true;
		}
	}
	if (!changed)
		return;
	*set = vars_make(values);
	vars_release(&old);
}

void vars_recode(struct varset **set, const struct varset *client)
{
	for (int i = 0; i < name_count; i++) {
		const char *value = client->values[i];

		if (UNLIKELY(vars_is_recoded(i, value)) && (*set)->values[i] != NULL)
			vars_change(set, i, slice_of(value));
	}
}

void vars_respell(struct varset **set, const struct varset *spelled)
{
	for (int i = 0; i < name_count; i++)
		if ((*set)->values[i] != NULL && spelled->values[i] != NULL)
			vars_change(set, i, slice_of(spelled->values[i]));
}

/* True when the server has the value that it had begun with; also when that is not known. */
static bool vars_is_default(const struct varset *now, const struct varset *defaults, int i)
{
	return defaults == NULL || defaults->values[i] == NULL || strcmp(defaults->values[i], now->values[i]) == 0;
}

/* True when the server has gone back to it. */
static bool vars_is_back(const struct varset *told, const struct varset *now, const struct varset *defaults, int i)
{
	return told->values[i] != NULL && strcmp(told->values[i], now->values[i]) != 0 && defaults != NULL &&
	       defaults->values[i] != NULL && vars_is_default(now, defaults, i);
}

void vars_reset(struct varset **set, const struct varset *now, const struct varset *startup,
		const struct varset *defaults, bool all)
{
	struct slice values[VARS_MAX];
	struct varset *told = *set;

	vars_unpack(told, values);
	for (int i = 0; i < name_count; i++) {
		if (now->values[i] == NULL)
			continue; /* nobody can tell */
		values[i] = slice_of(now->values[i]);
		if (startup != NULL && startup->values[i] != NULL &&
		    (all ? vars_is_default(now, defaults, i) : vars_is_back(told, now, defaults, i)))
			values[i] = slice_of(startup->values[i]);
	}
	*set = vars_make(values);
	vars_release(&told);
}

bool vars_are_hidden(const struct varset *set, const struct varset *startup, const struct varset *defaults)
{
	for (int i = 0; i < name_count; i++)
		if (startup->values[i] != NULL && set->values[i] != NULL && defaults->values[i] != NULL &&
		    strcmp(set->values[i], defaults->values[i]) == 0 &&
		    strcasecmp(set->values[i], startup->values[i]) != 0)
			return true;
	return false;
}

bool vars_is_empty(const struct varset *set)
{
	return set->key_len == (size_t)name_count; /* a dash for each */
}

uint64_t vars_serial(const struct varset *set)
{
	return set->serial;
}

size_t vars_set_count(size_t *set_size)
{
	size_t n;

	lock_acquire(&table_lock);
	n = HASH_COUNT(table);
	lock_release(&table_lock);
	*set_size = sizeof(struct varset);
	return n;
}

struct varset *vars_hold(struct varset *set)
{
	lock_acquire(&table_lock);
	set->refs++;
	lock_release(&table_lock);
	return set;
}

void vars_release(struct varset **setp)
{
	struct varset *set = *setp;
	bool last;

	*setp = NULL;
	if (set == NULL)
		return;
	lock_acquire(&table_lock);
	ASSERT(set->refs > 0);
	last = --set->refs == 0;
	if (last)
		HASH_DEL(table, set);
	lock_release(&table_lock);
	if (last)
		free(set);
}

const char *vars_get(const struct varset *set, int i)
{
	ASSERT(i >= 0 && i < name_count);
	return set->values[i];
}

/* ---- SQL ---- */

/*
 * The server reads what we send in the client_encoding of whom it served
 * before. In some of these (SJIS, BIG5, GBK, GB18030, UHC, JOHAB) the second
 * byte of a character may be a backslash or a letter, so a literal with bytes
 * above 0x7f could end elsewhere than where we end it. Hence nothing but ASCII
 * is sent, which means the same in every encoding.
 *
 * Of the parameters of the protocol, PostgreSQL takes other characters in
 * application_name only, and makes question marks of them (since version 16,
 * their codes): so do we. Of the others, the bytes are sent in hexadecimal with
 * the name of the encoding of the client that they come from.
 */

static int vars_append(struct buf *sql, const char *text)
{
	return buf_append(sql, text, strlen(text));
}

/* Appends the value as a string literal; what is not ASCII becomes a question mark. */
static int vars_append_literal(struct buf *sql, const char *value)
{
	int err = vars_append(sql, strchr(value, '\\') != NULL ? "E'" : "'");

	for (; err == 0 && *value != '\0'; value++) {
		char c = (uint8_t)*value > 0x7f ? '?' : *value;

		if (c == '\'' || c == '\\')
			err = buf_append(sql, &c, 1);
		if (err == 0)
			err = buf_append(sql, &c, 1);
	}
	return err == 0 ? vars_append(sql, "'") : err;
}

/* Appends an expression for a value of any bytes, in this encoding. */
static int vars_append_bytes(struct buf *sql, const char *value, const char *encoding)
{
	static const char digits[] = "0123456789abcdef";
	int err = vars_append(sql, "pg_catalog.convert_from(pg_catalog.decode('");

	for (; err == 0 && *value != '\0'; value++) {
		const char hex[2] = { digits[(uint8_t)*value >> 4], digits[(uint8_t)*value & 15] };

		err = buf_append(sql, hex, sizeof(hex));
	}
	if (err == 0)
		err = vars_append(sql, "','hex'),");
	if (err == 0)
		err = vars_append_literal(sql, encoding);
	return err == 0 ? vars_append(sql, ")") : err;
}

static int vars_append_set(struct buf *sql, const char *name, const char *value)
{
	int err = vars_append(sql, "SET ");

	if (err == 0)
		err = vars_append(sql, name);
	if (err == 0)
		err = vars_append(sql, "=");
	if (err == 0)
		err = vars_append_literal(sql, value);
	return err == 0 ? vars_append(sql, ";") : err;
}

/* `encoding` NULL: the value is ASCII. */
static int vars_append_set_config(struct buf *sql, const char *name, const char *value, const char *encoding)
{
	int err = vars_append(sql, "SELECT pg_catalog.set_config('");

	if (err == 0)
		err = vars_append(sql, name);
	if (err == 0)
		err = vars_append(sql, "',");
	if (err == 0)
		err = encoding == NULL ? vars_append_literal(sql, value) : vars_append_bytes(sql, value, encoding);
	return err == 0 ? vars_append(sql, ",false);") : err;
}

/* Appends the command for one parameter, all or nothing. */
static int vars_append_command(struct buf *sql, int i, const char *value, const char *encoding)
{
	uint32_t start = buf_len(sql);
	int err;

	if (vars_is_recoded(i, value))
		err = encoding == NULL ? -E_UNSUPPORTED : vars_append_set_config(sql, names[i], value, encoding);
	else if (strcasecmp(names[i], "search_path") == 0)
		/* SET takes a list of schemas only as a list; set_config() takes it as the server reports it. */
		err = vars_append_set_config(sql, names[i], value, NULL);
	else
		err = vars_append_set(sql, names[i], value);
	if (err != 0)
		buf_truncate(sql, start);
	return err;
}

int vars_diff(const struct varset *have, const struct varset *want, struct buf *sql)
{
	const char *encoding = want->values[CLIENT_ENCODING];
	bool same_encoding;
	int count = 0;

	if (have == want)
		return 0;
	same_encoding = encoding != NULL && have->values[CLIENT_ENCODING] != NULL &&
			strcasecmp(encoding, have->values[CLIENT_ENCODING]) == 0;
	for (int i = 0; i < name_count; i++) {
		const char *h = have->values[i];
		const char *w = want->values[i];

		if (h == NULL || w == NULL || (strcasecmp(h, w) == 0 && (same_encoding || !vars_is_recoded(i, w))))
			continue;
		if (vars_append_command(sql, i, w, encoding) == 0)
			count++;
	}
	return count;
}

uint32_t vars_diff_max(const struct varset *want)
{
	/* A byte becomes two, quoted or in hexadecimal; a value in another encoding names that as well. */
	size_t encoding = want->values[CLIENT_ENCODING] == NULL ? 0 : 2 * strlen(want->values[CLIENT_ENCODING]);
	size_t max = 2 * want->key_len;

	for (int i = 0; i < name_count; i++)
		max += strlen(names[i]) + encoding + VARS_COMMAND_MAX;
	return max > INT32_MAX ? INT32_MAX : (uint32_t)max;
}
