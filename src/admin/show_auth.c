/*
 * SHOW AUTH_CACHE: look-ups by query, in numbers. Whom they were about, and
 * what came back, is nobody's business here.
 */
#include "admin/show.h"
#include "auth/crypto.h"
#include "pool/auth_cache.h"
#include "proto/build.h"

struct auth_cache_row {
	const char *name;
	int64_t value;
	const char *meaning;
};

static const struct show_column show_auth_cache_columns[] = {
	{ "name", OID_TEXT, SHOW_TEXT, offsetof(struct auth_cache_row, name), "of what" },
	{ "value", OID_INT8, SHOW_INT, offsetof(struct auth_cache_row, value), "how many, now or since the start" },
	{ "meaning", OID_TEXT, SHOW_TEXT, offsetof(struct auth_cache_row, meaning), "in words" },
};

static void show_add_auth_count(struct show *show, const char *name, uint64_t value, const char *meaning)
{
	struct auth_cache_row *row = show_add_row(&show->rows);

	*row = (struct auth_cache_row){ name, (int64_t)value, meaning };
}

static void show_fill_auth_cache(struct show *show)
{
	struct auth_cache_counts counts;

	auth_cache_count(show->engine->auth_cache, &counts);
#define X(name, help) show_add_auth_count(show, #name, counts.name, help);
	AUTH_CACHE_COUNTS(X)
#undef X
	show_add_auth_count(show, "derived", crypto_count_pbkdf2(),
			    "times that a key was derived from a password, for whatever login");
}

const struct show_table show_auth_cache = {
	.name = "AUTH_CACHE",
	.help = "Look-ups of users and roles by query: how many there were, and what is remembered of them.",
	.right = COMMAND_FOR_STATS,
	.columns = show_auth_cache_columns,
	.column_count = ARRAY_LEN(show_auth_cache_columns),
	.row_size = sizeof(struct auth_cache_row),
	.fill = show_fill_auth_cache,
};
