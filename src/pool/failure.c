#include "pool/failure.h"

#include "pool/failure_tbl.h"

struct failure_reason {
	enum reason reason;
	enum failure_class class[FAILURE_AT_REST]; /* by moment */
	unsigned flags;
};

struct failure_state {
	const char *pattern;
	enum failure_class at_login;
	enum failure_class at_query;
	bool is_symptom;
};

static const struct failure_reason failure_reasons[] = {
#define X(reason, at_connect, at_login, at_query, flags) \
	{ reason, { FAILURE_##at_connect, FAILURE_##at_login, FAILURE_##at_query }, flags },
	FAILURE_REASON_TABLE(X)
#undef X
};

static const struct failure_state failure_states[] = {
#define X(pattern, at_login, at_query, is_symptom, help) \
	{ pattern, FAILURE_##at_login, FAILURE_##at_query, is_symptom },
	FAILURE_STATE_TABLE(X)
#undef X
};

static bool failure_state_fits(const char *pattern, const char *sqlstate)
{
	while (*pattern != '\0' && (*pattern == '?' ? *sqlstate != '\0' : *pattern == *sqlstate)) {
		pattern++;
		sqlstate++;
	}
	return *pattern == '\0' && *sqlstate == '\0';
}

/* NULL: a reason that means nothing. */
static const struct failure_reason *failure_find_reason(enum reason reason)
{
	for (size_t i = 0; i < ARRAY_LEN(failure_reasons); i++)
		if (failure_reasons[i].reason == reason)
			return &failure_reasons[i];
	return NULL;
}

/* NULL: a state that means nothing. */
static const struct failure_state *failure_find_state(const char *sqlstate)
{
	for (size_t i = 0; i < ARRAY_LEN(failure_states); i++)
		if (failure_state_fits(failure_states[i].pattern, sqlstate))
			return &failure_states[i];
	return NULL;
}

enum failure_class failure_classify(enum reason reason, enum failure_moment moment, const char *sqlstate)
{
	const struct failure_reason *row = failure_find_reason(reason);
	const struct failure_state *state = failure_find_state(sqlstate);

	if (moment == FAILURE_AT_REST)
		return FAILURE_NONE;
	if (sqlstate[0] == '\0')
		return row == NULL ? FAILURE_NONE : row->class[moment];
	if (state == NULL)
		return FAILURE_NONE;
	return moment == FAILURE_AT_QUERY ? state->at_query : state->at_login;
}

static bool failure_has(enum reason reason, enum failure_flag flag)
{
	const struct failure_reason *row = failure_find_reason(reason);

	return row != NULL && (row->flags & flag) != 0;
}

bool failure_is_loss(enum reason reason)
{
	return failure_has(reason, FAILURE_F_LOSS);
}

bool failure_is_symptom(enum reason reason)
{
	return failure_has(reason, FAILURE_F_SYMPTOM);
}

bool failure_is_of_pool(enum reason reason, bool has_own_packet)
{
	return has_own_packet ? failure_has(reason, FAILURE_F_PLACE) : !failure_has(reason, FAILURE_F_OURS);
}

bool failure_state_is_symptom(const char *sqlstate)
{
	const struct failure_state *state = failure_find_state(sqlstate);

	return state != NULL && state->is_symptom;
}

bool failure_is_own_limit(struct slice sqlstate, struct slice routine)
{
	return slice_eq_str(sqlstate, "53300") &&
	       (slice_eq_str(routine, "InitializeSessionUserId") || slice_eq_str(routine, "CheckMyDatabase"));
}
