#include "core/reason_tbl.h"

static const struct {
	const char *text;
	const char *sqlstate;
} reasons[REASON_COUNT] = {
#define X(id, text, sqlstate) { text, sqlstate },
	REASON_TABLE(X)
#undef X
};

const char *reason_text(enum reason reason)
{
	ASSERT(reason < REASON_COUNT);
	return reasons[reason].text;
}

const char *reason_sqlstate(enum reason reason)
{
	ASSERT(reason < REASON_COUNT);
	return reasons[reason].sqlstate;
}
