/*
 * The shadow check.
 *
 * The pooler believes of an idle server that it has the statements that it was
 * given under the names that it was given them, that the tracked parameters have
 * the values it has reported, and that nothing else ties it to whom it served
 * last. Only PostgreSQL knows. With PGSLUICE_SHADOW in the environment a debug
 * build asks it before each return of a server to its pool, by a query whose
 * rows are compared one by one; what is missing at the end is a difference, too.
 * All differences are logged, then the process ends as for a broken invariant.
 *
 * It is for tests: applications that leave advisory locks or LISTEN behind in
 * transaction mode, or prepare statements where no tag tells of it (in a DO
 * block), are a difference as well.
 */
#include "pool/shadow.h"

#ifdef ENABLE_DEBUG

#include <inttypes.h>

#include "core/alloc.h"
#include "core/log.h"
#include "proto/wire.h"

/* A row: what it is about, a name, a value. Names are complete, so that no search_path changes what they mean. */
#define SHADOW_QUERY                                                                                              \
	"SELECT 'statement'::pg_catalog.text, name, ''::pg_catalog.text"                                          \
	" FROM pg_catalog.pg_prepared_statements"                                                                 \
	" UNION ALL SELECT 'listen', c, '' FROM pg_catalog.pg_listening_channels() c"                             \
	" UNION ALL SELECT 'lock', locktype, mode FROM pg_catalog.pg_locks"                                       \
	" WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"                                           \
	" AND locktype OPERATOR(pg_catalog.<>) 'virtualxid'"                                                      \
	" AND NOT (locktype OPERATOR(pg_catalog.=) 'relation' AND mode OPERATOR(pg_catalog.=) 'AccessShareLock')" \
	" UNION ALL SELECT 'parameter', name, setting FROM pg_catalog.pg_settings"                                \
	" WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) ANY (ARRAY["

/* One check. */
struct shadow {
	unsigned differences;
	unsigned count;
	unsigned size;
	uint64_t *numbers; /* of the statements that are there and should be */
};

static char *shadow_sql; /* NULL: off */

void shadow_setup(void)
{
	const char *env = getenv(SHADOW_ENV);
	size_t size = sizeof(SHADOW_QUERY) + 16;

	free(shadow_sql);
	shadow_sql = NULL;
	if (!str_is_set(env))
		return;
	for (int i = 0; i < vars_count(); i++)
		size += strlen(vars_name(i)) + 4;
	shadow_sql = xcalloc(1, size);
	str_append(shadow_sql, size, "%s", SHADOW_QUERY);
	for (int i = 0; i < vars_count(); i++) {
		size_t at = strlen(shadow_sql);

		str_append(shadow_sql, size, "%s'%s'", i == 0 ? "" : ",", vars_name(i));
		for (; shadow_sql[at] != '\0'; at++)
			if (shadow_sql[at] >= 'A' && shadow_sql[at] <= 'Z')
				shadow_sql[at] = (char)(shadow_sql[at] - 'A' + 'a');
	}
	str_append(shadow_sql, size, "])");
}

const char *shadow_begin(struct server *server)
{
	if (shadow_sql == NULL || server->dirty)
		return NULL;
	ASSERT(server->shadow == NULL && server->client == NULL);
	server->shadow = xcalloc(1, sizeof(*server->shadow));
	return shadow_sql;
}

bool shadow_is_reading(const struct server *server)
{
	return server->shadow != NULL;
}

static void shadow_differs(struct server *server, const char *what, struct slice name, const char *believed)
{
	struct log_about about;

	server_describe(server, &about);
	log_error_about(&about, "shadow check: %s %.*s%s%s", what, (int)name.n, (const char *)name.p,
			believed == NULL ? "" : ", believed: ", believed == NULL ? "" : believed);
	server->shadow->differences++;
}

static void shadow_note_number(struct shadow *s, uint64_t number)
{
	if (s->count == s->size) {
		s->size = s->size == 0 ? 64 : 2 * s->size;
		s->numbers = realloc(s->numbers, s->size * sizeof(s->numbers[0]));
		ASSERT(s->numbers != NULL);
	}
	s->numbers[s->count++] = number;
}

/* The entry of this name, as the server has it; NULL: there is none. */
static struct prep_entry *shadow_find(const struct server *server, struct slice name)
{
	char text[STMT_NAME_SIZE];
	struct prep_entry *entry;

	TAILQ_FOREACH (entry, &server->prep.recent, recent) {
		str_format(text, sizeof(text), STMT_NAME_PREFIX "%" PRIu64, entry->number);
		if (slice_eq_str(name, text))
			return entry;
	}
	return NULL;
}

static void shadow_statement(struct server *server, struct slice name)
{
	const struct pool_conf *conf = server->part->conf;
	const struct prep_entry *entry = shadow_find(server, name);
	bool is_ours =
		name.n >= strlen(STMT_NAME_PREFIX) && memcmp(name.p, STMT_NAME_PREFIX, strlen(STMT_NAME_PREFIX)) == 0;

	if (entry != NULL)
		shadow_note_number(server->shadow, entry->number);
	else if (is_ours || (conf->prepared != 0 && conf->sql_prepare != CONF_SQL_PREPARE_IGNORE))
		shadow_differs(server, "unknown statement", name, NULL);
}

static bool shadow_is_ascii(struct slice text)
{
	for (size_t i = 0; i < text.n; i++)
		if ((unsigned char)((const char *)text.p)[i] >= 0x80)
			return false;
	return true;
}

static void shadow_parameter(struct server *server, struct slice name, struct slice value)
{
	int i = vars_index(name);
	const char *believed = i < 0 ? NULL : vars_get(server->vars, i);

	if (believed == NULL || slice_eq_str(value, believed))
		return;
	if (!shadow_is_ascii(value) || !shadow_is_ascii(slice_of(believed)))
		return; /* depends on the encoding that it is read in */
	shadow_differs(server, "parameter", name, believed);
	shadow_differs(server, "... is", value, NULL);
}

static struct slice shadow_read_value(struct reader *r)
{
	int32_t len = rd_i32(r);

	return len <= 0 ? slice_of("") : rd_bytes(r, (size_t)len);
}

void shadow_row(struct server *server, struct slice body)
{
	struct slice what;
	struct slice name;
	struct slice value;
	struct reader r;

	rd_init_slice(&r, body);
	if (rd_u16(&r) != 3)
		rd_fail(&r);
	what = shadow_read_value(&r);
	name = shadow_read_value(&r);
	value = shadow_read_value(&r);
	ASSERT(rd_done(&r));
	if (slice_eq_str(what, "statement"))
		shadow_statement(server, name);
	else if (slice_eq_str(what, "parameter"))
		shadow_parameter(server, name, value);
	else if (slice_eq_str(what, "listen"))
		shadow_differs(server, "listens to", name, NULL);
	else
		shadow_differs(server, "holds a lock:", name, NULL);
}

static bool shadow_has_seen(const struct shadow *s, uint64_t number)
{
	for (unsigned i = 0; i < s->count; i++)
		if (s->numbers[i] == number)
			return true;
	return false;
}

bool shadow_end(struct server *server)
{
	struct prep_entry *entry;

	if (server->shadow == NULL)
		return false;
	TAILQ_FOREACH (entry, &server->prep.recent, recent) {
		char name[STMT_NAME_SIZE];

		if (server->ours_failed || shadow_has_seen(server->shadow, entry->number))
			continue;
		str_format(name, sizeof(name), STMT_NAME_PREFIX "%" PRIu64, entry->number);
		shadow_differs(server, "missing statement", slice_of(name), (const char *)entry->stmt->body);
	}
	ASSERT(server->shadow->differences == 0);
	shadow_fini(server);
	return true;
}

void shadow_fini(struct server *server)
{
	if (server->shadow != NULL)
		free(server->shadow->numbers);
	free(server->shadow);
	server->shadow = NULL;
}

#endif
