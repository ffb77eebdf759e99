#include "core/reason_tbl.h"

#include "core/str.h"

static const struct {
	const char *text;
	const char *sqlstate;
	const char *detail;
	const char *hint;
} reasons[REASON_COUNT] = {
#define X(id, text, sqlstate, detail, hint) { text, sqlstate, detail, hint },
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

const char *reason_hint(enum reason reason)
{
	ASSERT(reason < REASON_COUNT);
	return reasons[reason].hint;
}

/* The fact of that name, or NULL when it is not known. */
static const char *reason_fact(const struct reason_facts *facts, struct slice name)
{
	const char *value;

#define X(id)                                                          \
	if (slice_eq_str(name, #id)) {                                 \
		value = facts->id;                                     \
		return value == NULL || *value == '\0' ? NULL : value; \
	}
	REASON_FACTS(X)
#undef X
	UNREACHABLE();
}

/*
 * Appends a template, up to its end or to the bracket that closes it, and
 * returns where that is. *complete becomes false when a fact outside of inner
 * brackets is missing.
 */
static const char *reason_expand(const char *p, const struct reason_facts *facts, char *dst, size_t size,
				 bool *complete)
{
	while (*p != '\0' && *p != ']') {
		size_t n = strcspn(p, "{[]");
		const char *value;

		str_append(dst, size, "%.*s", (int)n, p);
		p += n;
		if (*p == '[') {
			size_t before = strlen(dst);
			bool whole = true;

			p = reason_expand(p + 1, facts, dst, size, &whole);
			ASSERT(*p == ']');
			p++;
			if (!whole)
				dst[before] = '\0';
		} else if (*p == '{') {
			n = strcspn(p, "}");
			value = reason_fact(facts, slice_make(p + 1, n - 1));
			if (value == NULL)
				*complete = false;
			else
				str_append(dst, size, "%s", value);
			p += n + 1;
		}
	}
	return p;
}

void reason_write_text(enum reason reason, const struct reason_facts *facts, char *dst, size_t size)
{
	static const struct reason_facts none;
	bool complete;

	dst[0] = '\0';
	reason_expand(reason_text(reason), facts == NULL ? &none : facts, dst, size, &complete);
}

bool reason_write_detail(enum reason reason, const struct reason_facts *facts, char *dst, size_t size)
{
	static const struct reason_facts none;
	bool complete = true;

	dst[0] = '\0';
	if (reasons[reason].detail == NULL)
		return false;
	reason_expand(reasons[reason].detail, facts == NULL ? &none : facts, dst, size, &complete);
	if (!complete)
		dst[0] = '\0';
	return complete;
}
