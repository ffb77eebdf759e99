#include "pool/failure.h"

#include "pool/failure_tbl.h"

struct failure_reason {
	enum reason reason;
	enum failure_class class[FAILURE_AT_REST]; /* by moment */
};

struct failure_state {
	const char *pattern;
	enum failure_class at_login;
	enum failure_class at_query;
};

static const struct failure_reason failure_reasons[] = {
#define X(reason, at_connect, at_login, at_query) { reason, { at_connect, at_login, at_query } },
	FAILURE_REASON_TABLE(X)
#undef X
};

static const struct failure_state failure_states[] = {
#define X(pattern, at_login, at_query, help) { pattern, at_login, at_query },
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

static enum failure_class failure_of_state(const char *sqlstate, enum failure_moment moment)
{
	for (size_t i = 0; i < ARRAY_LEN(failure_states); i++)
		if (failure_state_fits(failure_states[i].pattern, sqlstate))
			return moment == FAILURE_AT_QUERY ? failure_states[i].at_query : failure_states[i].at_login;
	return FAILURE_NONE;
}

enum failure_class failure_classify(enum reason reason, enum failure_moment moment, const char *sqlstate)
{
	if (moment == FAILURE_AT_REST)
		return FAILURE_NONE;
	if (sqlstate[0] != '\0')
		return failure_of_state(sqlstate, moment);
	for (size_t i = 0; i < ARRAY_LEN(failure_reasons); i++)
		if (failure_reasons[i].reason == reason)
			return failure_reasons[i].class[moment];
	return FAILURE_NONE;
}

bool failure_is_own_limit(struct slice sqlstate, struct slice routine)
{
	return slice_eq_str(sqlstate, "53300") &&
	       (slice_eq_str(routine, "InitializeSessionUserId") || slice_eq_str(routine, "CheckMyDatabase"));
}
