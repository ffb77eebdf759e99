/*
 * The question for everything works for any role on PostgreSQL 12 and newer, as
 * long as nobody has revoked the functions that read the control file; then the
 * second one is left, which says only what a client must know.
 *
 * A timeline is taken where it shows first. A primary writes in it: the name of
 * the present WAL file has it, while the control file has that of the last
 * checkpoint, which is the old one for a moment after a promotion. A standby
 * follows the newest that it has a trace of.
 *
 * Every function is named with its schema, as the search_path of the role is not
 * ours.
 */
#include "pool/health_facts.h"

#include "core/err.h"

/* clang-format off */

#define HEALTH_IN_RECOVERY "pg_catalog.pg_is_in_recovery()"

static const char *const health_questions[HEALTH_QUESTIONS] = {
	[HEALTH_ASK_ALL] =
		"SELECT " HEALTH_IN_RECOVERY ", pg_catalog.current_setting('default_transaction_read_only'),"
		" CASE WHEN " HEALTH_IN_RECOVERY " THEN"
		" (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline,"
		" (SELECT max(received_tli) FROM pg_catalog.pg_stat_wal_receiver))"
		" FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r)"
		" ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))"
		"::pg_catalog.bit(32)::pg_catalog.int4 END,"
		" (SELECT system_identifier FROM pg_catalog.pg_control_system()),"
		" pg_catalog.pg_wal_lsn_diff(CASE WHEN " HEALTH_IN_RECOVERY " THEN pg_catalog.pg_last_wal_replay_lsn()"
		" ELSE pg_catalog.pg_current_wal_lsn() END, '0/0'),"
		" CASE WHEN NOT " HEALTH_IN_RECOVERY " THEN NULL"
		" WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN 0"
		" ELSE (extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())"
		" * 1000)::pg_catalog.int8 END,"
		" (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_get_activity(NULL)"
		" WHERE datid IS NOT NULL AND usesysid IS NOT NULL),"
		" pg_catalog.current_setting('max_connections')",
	[HEALTH_ASK_ROLE] =
		"SELECT " HEALTH_IN_RECOVERY ", pg_catalog.current_setting('default_transaction_read_only')",
};

/* clang-format on */

enum health_column {
	HEALTH_COL_STANDBY,
	HEALTH_COL_READ_ONLY,
	HEALTH_COL_TIMELINE,
	HEALTH_COL_SYSTEM_ID,
	HEALTH_COL_LSN,
	HEALTH_COL_LAG_MS,
	HEALTH_COL_CONNECTIONS,
	HEALTH_COL_MAX_CONNECTIONS,
	HEALTH_COLS
};

void health_facts_init(struct health_facts *facts)
{
	*facts = (struct health_facts){ .lag_ms = -1, .connections = -1, .max_connections = -1 };
}

const char *health_question_text(enum health_question question)
{
	return health_questions[question];
}

/* A whole number, not negative; `missing` when it is none. */
static int64_t health_read_number(const char *text, int64_t max, int64_t missing)
{
	char *end;
	long long value;

	if (text == NULL || !isdigit((unsigned char)text[0]))
		return missing;
	errno = 0;
	value = strtoll(text, &end, 10);
	return errno != 0 || *end != '\0' || value > max ? missing : (int64_t)value;
}

static bool health_read_flag(const char *text, const char *yes, const char *no, bool *out)
{
	if (text == NULL || (strcmp(text, yes) != 0 && strcmp(text, no) != 0))
		return false;
	*out = strcmp(text, yes) == 0;
	return true;
}

int health_facts_read(struct health_facts *facts, const char *const *values, size_t count)
{
	bool is_standby;
	bool is_read_only;

	if (count != HEALTH_COLS && count != HEALTH_COL_READ_ONLY + 1)
		return -E_SYNTAX;
	if (!health_read_flag(values[HEALTH_COL_STANDBY], "t", "f", &is_standby) ||
	    !health_read_flag(values[HEALTH_COL_READ_ONLY], "on", "off", &is_read_only))
		return -E_SYNTAX;
	facts->knows_role = true;
	facts->is_standby = is_standby;
	facts->is_read_only = is_read_only;
	if (count != HEALTH_COLS)
		return 0;
	facts->timeline = (uint32_t)health_read_number(values[HEALTH_COL_TIMELINE], UINT32_MAX, 0);
	facts->system_id = (uint64_t)health_read_number(values[HEALTH_COL_SYSTEM_ID], INT64_MAX, 0);
	facts->lsn = (uint64_t)health_read_number(values[HEALTH_COL_LSN], INT64_MAX, 0);
	facts->lag_ms = health_read_number(values[HEALTH_COL_LAG_MS], INT64_MAX, -1);
	facts->connections = (int)health_read_number(values[HEALTH_COL_CONNECTIONS], INT32_MAX, -1);
	facts->max_connections = (int)health_read_number(values[HEALTH_COL_MAX_CONNECTIONS], INT32_MAX, -1);
	return 0;
}

/* True for five digits or capital letters, followed by a colon. */
static bool health_is_sqlstate(const char *p)
{
	for (int i = 0; i < 5; i++)
		if (!isdigit((unsigned char)p[i]) && !isupper((unsigned char)p[i]))
			return false;
	return p[5] == ':';
}

void health_error_read(const char *message, char sqlstate[6], char *text, size_t size)
{
	static const char failed[] = " failed: ";
	const char *p = strstr(message, failed); /* which server it was is known */
	const char *state;

	p = p == NULL ? message : p + strlen(failed);
	sqlstate[0] = '\0';
	/* "FATAL:  57P03: the database system is starting up", the first word in the server's language */
	for (state = strstr(p, ":  "); state != NULL; state = strstr(state + 1, ":  "))
		if (health_is_sqlstate(state + 3))
			break;
	if (state != NULL) {
		str_copy_slice(sqlstate, 6, slice_make(state + 3, 5));
		p = state + strlen(":  57P03:");
	}
	while (isspace((unsigned char)*p))
		p++;
	str_copy_slice(text, size, slice_cut(slice_make(p, strcspn(p, "\n")), size - 1));
}

bool health_is_refusing(const char *sqlstate)
{
	return strcmp(sqlstate, "57P01") == 0 || strcmp(sqlstate, "57P02") == 0 || strcmp(sqlstate, "57P03") == 0;
}
