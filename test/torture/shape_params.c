/*
 * Session parameters. A client sets one for good, for the rest of a transaction, or in a transaction or savepoint that
 * is rolled back; by SET or set_config(); and looks what all of them are, before and after. The search path is only
 * ever set for a transaction, for poolers are not told of it.
 */
#include <stdio.h>
#include <string.h>

#include "shape.h"

/* How a value is set, and for how long. */
struct params_change {
	int param;
	char value[64];
	char old[64];
	bool local;  /* until the transaction ends */
	bool config; /* by set_config() */
};

/* A new value for a parameter, in the spelling in which the server reports it. */
static void params_new_value(struct actor *a, int param, char value[64])
{
	static const char *const values[N_PARAMS][4] = {
		[PARAM_TIMEZONE] = { "UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo" },
		[PARAM_DATESTYLE] = { "ISO, DMY", "ISO, MDY", "German, DMY", "SQL, YMD" },
		[PARAM_ENCODING] = { "UTF8", "LATIN1", "WIN1252", "SQL_ASCII" },
		[PARAM_INTERVAL] = { "postgres", "iso_8601", "sql_standard", "postgres_verbose" },
		[PARAM_SEARCH_PATH] = { "public", "pg_catalog", "torture_a", "torture_b" },
	};
	static const char *const odd[] = { "", " it's", " \"q\"", " back\\slash", " ; $1" };

	if (param == PARAM_APPLICATION)
		snprintf(value, 64, "app %s %d%s", a->who, a->seq, odd[rng_below(&a->rng, 5)]);
	else
		snprintf(value, 64, "%s", values[param][rng_below(&a->rng, 4)]);
}

/* A statement that sets the parameter. */
static void params_sql(struct piece *p, int param, const char *value, bool local)
{
	struct bytes sql = { 0 };

	bytes_printf(&sql, "SET %s%s = ", local ? "LOCAL " : "", param_names[param]);
	piece_literal(&sql, value);
	bytes_u8(&sql, 0);
	piece_verb(p, (char *)sql.data, "SET");
	bytes_free(&sql);
}

static void params_believe(struct script *s, struct actor *a, int param, const char *value)
{
	snprintf(a->param[param], sizeof(a->param[param]), "%s", value);
	script_set(s, param, value);
}

void shape_set_all(struct script *s, struct actor *a)
{
	struct piece p = { 0 };
	char value[64];

	for (unsigned i = 0; i < a->n_settable; i++) {
		params_new_value(a, (int)i, value);
		params_believe(s, a, (int)i, value);
		params_sql(&p, (int)i, value, false);
		shape_query(s, &p);
	}
	piece_free(&p);
}

static void params_set(struct script *s, struct actor *a, const struct params_change *ch)
{
	bool ext = rng_one_in(&a->rng, 2);
	struct piece p = { 0 };
	bool failed = false;

	if (ch->config)
		piece_config(&p, a, ch->param, ch->value, ch->local, ext ? PIECE_EXT : 0);
	else
		params_sql(&p, ch->param, ch->value, ch->local);
	params_believe(s, a, ch->param, ch->value);
	if (ext) {
		shape_ext(s, a, &p, &failed);
		shape_sync(s, false);
	} else {
		shape_query(s, &p);
	}
	piece_free(&p);
}

/* In a transaction: the value is seen there, and afterwards only if it is to stay. */
static void params_in_block(struct script *s, struct actor *a, const struct params_change *ch)
{
	bool savepoint = rng_one_in(&a->rng, 4);
	bool commit = rng_one_in(&a->rng, 2);
	struct piece p = { 0 };

	shape_verb(s, "BEGIN", "BEGIN", 'T');
	script_wait(s);
	if (savepoint)
		shape_verb(s, "SAVEPOINT s1", "SAVEPOINT", 'T');
	params_set(s, a, ch);
	if (rng_one_in(&a->rng, 2))
		script_wait(s);
	shape_any(s, a, &p, PIECE_ENV);
	if (savepoint) {
		params_believe(s, a, ch->param, ch->old);
		shape_verb(s, "ROLLBACK TO SAVEPOINT s1", "ROLLBACK", 'T');
		shape_any(s, a, &p, PIECE_ENV);
	}
	script_wait(s);
	if (ch->local || !commit)
		params_believe(s, a, ch->param, ch->old);
	shape_verb(s, commit ? "COMMIT" : "ROLLBACK", commit ? "COMMIT" : "ROLLBACK", 'I');
	piece_free(&p);
}

void shape_build_set(struct script *s, struct actor *a)
{
	struct params_change ch = { .param = (int)rng_below(&a->rng, a->n_settable + 1) };
	struct piece p = { 0 };

	if ((unsigned)ch.param == a->n_settable)
		ch.param = PARAM_SEARCH_PATH;
	ch.local = ch.param == PARAM_SEARCH_PATH || rng_one_in(&a->rng, 4);
	ch.config = rng_one_in(&a->rng, 3);
	snprintf(ch.old, sizeof(ch.old), "%s", a->param[ch.param]);
	params_new_value(a, ch.param, ch.value);
	s->retire = true;
	if (ch.local || rng_one_in(&a->rng, 4))
		params_in_block(s, a, &ch);
	else
		params_set(s, a, &ch);
	if (rng_one_in(&a->rng, 2))
		script_wait(s);
	shape_any(s, a, &p, PIECE_ENV);
	piece_free(&p);
}
