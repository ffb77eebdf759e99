/*
 * The table of settings as others see it: SHOW CONFIG above all, which is
 * ordered by name in ASCII.
 */
#include "conf/conf_int.h"

#include <pthread.h>

#include "core/alloc.h"

const char *const conf_profile_names[CONF_PROFILE_COUNT] = {
	[CONF_PROFILE_PGBOUNCER] = "pgbouncer",
	[CONF_PROFILE_PGSLUICE] = "pgsluice",
};

static enum conf_id conf_show_order[CONF_ID_COUNT];
static pthread_once_t conf_show_once = PTHREAD_ONCE_INIT;

static int conf_show_cmp(const void *a, const void *b)
{
	return strcmp(conf_rows[*(const enum conf_id *)a].name, conf_rows[*(const enum conf_id *)b].name);
}

static void conf_show_sort(void)
{
	for (unsigned id = 0; id < CONF_ID_COUNT; id++)
		conf_show_order[id] = id;
	qsort(conf_show_order, CONF_ID_COUNT, sizeof(conf_show_order[0]), conf_show_cmp);
}

enum conf_id conf_show_id(size_t i)
{
	int rc = pthread_once(&conf_show_once, conf_show_sort);

	ASSERT(rc == 0 && i < CONF_ID_COUNT);
	return conf_show_order[i];
}

enum conf_id conf_id_of(const char *key)
{
	for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
		if (strcmp(conf_rows[id].name, key) == 0)
			return id;
	}
	return CONF_ID_COUNT;
}

const char *conf_key(enum conf_id id)
{
	ASSERT(id < CONF_ID_COUNT);
	return conf_rows[id].name;
}

unsigned conf_flags(enum conf_id id)
{
	ASSERT(id < CONF_ID_COUNT);
	return conf_rows[id].flags;
}

bool conf_is_changeable(enum conf_id id)
{
	return (conf_flags(id) & CONF_F_RELOAD) != 0;
}

char *conf_show_value(const struct conf *conf, enum conf_id id)
{
	char *text;

	CHECK_OBJ(conf, CONF_MAGIC);
	text = conf_value_text(conf, id);
	if (!str_is_set(text) || (conf_flags(id) & CONF_F_SECRET) == 0)
		return text;
	free_secret(text);
	return xstrdup("****");
}

const char *conf_show_default(const struct conf *conf, enum conf_id id)
{
	CHECK_OBJ(conf, CONF_MAGIC);
	ASSERT(id < CONF_ID_COUNT);
	return conf_rows[id].defaults[conf->profile];
}

const char *conf_pool_mode_name(enum conf_pool_mode mode)
{
	return conf_names_POOL_MODE[mode];
}

const char *conf_sslmode_name(enum conf_sslmode mode)
{
	return conf_names_SSLMODE[mode];
}

const char *conf_auth_type_name(enum conf_auth_type type)
{
	return conf_names_AUTH_TYPE[type];
}

const char *conf_load_balance_name(enum conf_load_balance balance)
{
	return conf_names_LOAD_BALANCE[balance];
}
