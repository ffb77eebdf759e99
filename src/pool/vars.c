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
	UT_hash_handle hh;
	size_t key_len;
	const char *values[VARS_MAX]; /* into the key, or NULL */
	char key[];                   /* for each parameter: '=' value NUL, or '-' */
};

static const char *const base_names[] = {
	"DateStyle", "client_encoding", "TimeZone", "standard_conforming_strings", "application_name",
};
#define APPLICATION_NAME 4

static char *names[VARS_MAX];
static int name_count;
static struct lock table_lock;
static struct varset *table; /* protected by table_lock */

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

/* Appends the value as a string literal. */
static int vars_quote(struct buf *sql, const char *value)
{
	const char *prefix = strchr(value, '\\') != NULL ? "E'" : "'";
	int err = buf_append(sql, prefix, strlen(prefix));

	for (; err == 0 && *value != '\0'; value++) {
		if (*value == '\'' || *value == '\\')
			err = buf_append(sql, value, 1);
		if (err == 0)
			err = buf_append(sql, value, 1);
	}
	return err == 0 ? buf_append(sql, "'", 1) : err;
}

/* Appends the parts one after the other, all or nothing. */
static int vars_append(struct buf *sql, const char *before, const char *name, const char *middle, const char *value,
		       const char *after)
{
	uint32_t start = buf_len(sql);
	int err = buf_append(sql, before, strlen(before));

	if (err == 0)
		err = buf_append(sql, name, strlen(name));
	if (err == 0)
		err = buf_append(sql, middle, strlen(middle));
	if (err == 0)
		err = vars_quote(sql, value);
	if (err == 0)
		err = buf_append(sql, after, strlen(after));
	if (err != 0)
		buf_truncate(sql, start);
	return err;
}

/* SET takes a list of schemas only as a list; set_config() takes it as the server reports it. */
static int vars_set_command(struct buf *sql, const char *name, const char *value)
{
	if (strcasecmp(name, "search_path") == 0)
		return vars_append(sql, "SELECT pg_catalog.set_config('", name, "',", value, ",false);");
	return vars_append(sql, "SET ", name, "=", value, ";");
}

int vars_diff(const struct varset *have, const struct varset *want, struct buf *sql)
{
	int count = 0;

	if (have == want)
		return 0;
	for (int i = 0; i < name_count; i++) {
		const char *h = have->values[i];
		const char *w = want->values[i];

		if (h == NULL || w == NULL || strcasecmp(h, w) == 0)
			continue;
		if (vars_set_command(sql, names[i], w) == 0)
			count++;
	}
	return count;
}
