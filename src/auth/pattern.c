/*
 * regcomp() and regexec(), with a guard in front.
 *
 * The guard has two reasons. The files of rules are shared with PostgreSQL,
 * whose expressions are those of Tcl: there \d is a digit, in POSIX it is the
 * letter d, and a rule that lets in another set of users than its author reads
 * is a hole. So \d and \D are translated, and what else differs is refused:
 * other letters behind a backslash, a backslash in brackets, (?...), lazy
 * quantifiers, an anchor or quantifier where POSIX leaves the meaning open.
 *
 * And the C library's implementation is fast only for plain expressions: back
 * references take exponential time, and {1000}{1000} takes gigabytes. So there
 * are no back references, and the product of all bounds is limited.
 */
#include "auth/pattern.h"

#include <regex.h>

#include "core/alloc.h"

#define PATTERN_BOUND_MAX 1000 /* product of all {m,n} */
#define PATTERN_GROUP_MAX 20   /* parentheses, in all */

struct pattern {
	regex_t regex;
};

/* The expression on its way to regcomp(). */
struct pattern_reader {
	const char *p;
	char *dst;            /* the translation; room for each byte to grow to six */
	unsigned groups;      /* parentheses so far */
	unsigned open;        /* ... of which are open */
	unsigned long bounds; /* product of the bounds so far */
	bool can_repeat;      /* a quantifier may follow */
};

#define PATTERN_GROWTH 6 /* \D, two bytes, becomes [^0-9] */

static void pattern_put(struct pattern_reader *r, const char *text)
{
	size_t n = strlen(text);

	memcpy(r->dst, text, n);
	r->dst += n;
}

static void pattern_copy(struct pattern_reader *r, size_t n)
{
	memcpy(r->dst, r->p, n);
	r->dst += n;
	r->p += n;
}

/* Each of these moves behind what it reads and returns what is wrong, or NULL. */

static const char *pattern_read_escape(struct pattern_reader *r)
{
	char c = r->p[1];

	r->can_repeat = true;
	if (c == 'd' || c == 'D') {
		pattern_put(r, c == 'd' ? "[0-9]" : "[^0-9]");
		r->p += 2;
		return NULL;
	}
	if (c == '\0')
		return "a backslash at the end";
	if (strchr("<>`'", c) != NULL) {
		/* Plain characters for PostgreSQL, anchors for the C library. */
		r->p++;
		pattern_copy(r, 1);
		return NULL;
	}
	if (c != 'w' && c != 'W' && c != 's' && c != 'S' && (isalnum((unsigned char)c) || (unsigned char)c >= 0x80))
		return "of a backslash and a letter or digit only \\d \\D \\s \\S \\w \\W are possible";
	pattern_copy(r, 2);
	return NULL;
}

static const char *pattern_read_bracket(struct pattern_reader *r)
{
	size_t n = 1;

	r->can_repeat = true;
	if (r->p[n] == '^')
		n++;
	if (r->p[n] == ']')
		n++;
	while (r->p[n] != ']') {
		if (r->p[n] == '\0')
			return "[ without its ]";
		if (r->p[n] == '\\')
			return "a backslash in brackets, where its meaning differs between programs";
		if (r->p[n] == '[' && (r->p[n + 1] == '.' || r->p[n + 1] == '='))
			return "[. and [= are not supported";
		if (r->p[n] == '[' && r->p[n + 1] == ':') {
			const char *end = strstr(r->p + n + 2, ":]");

			if (end == NULL)
				return "[: without its :]";
			n = (size_t)(end - r->p) + 1;
		}
		n++;
	}
	pattern_copy(r, n + 1);
	return NULL;
}

static const char *pattern_read_bound(struct pattern_reader *r)
{
	static const char wrong[] = "{ that is no {m}, {m,} or {m,n}; write \\{ for the character";
	char *end;
	unsigned long low;
	unsigned long high;

	if (!isdigit((unsigned char)r->p[1]))
		return wrong;
	low = high = strtoul(r->p + 1, &end, 10);
	if (*end == ',') {
		end++;
		if (isdigit((unsigned char)*end))
			high = strtoul(end, &end, 10);
	}
	if (*end != '}' || high < low)
		return wrong;
	if (high > PATTERN_BOUND_MAX)
		return "repeats too often";
	r->bounds *= high > 0 ? high : 1;
	if (r->bounds > PATTERN_BOUND_MAX)
		return "repeats too often";
	pattern_copy(r, (size_t)(end + 1 - r->p));
	return NULL;
}

static const char *pattern_read_quantifier(struct pattern_reader *r)
{
	const char *fault;

	if (!r->can_repeat)
		return "a quantifier (* + ? {) behind nothing that it could repeat";
	r->can_repeat = false;
	if (*r->p == '{') {
		fault = pattern_read_bound(r);
		if (fault != NULL)
			return fault;
	} else {
		pattern_copy(r, 1);
	}
	if (*r->p == '?')
		return "a ? behind another quantifier (lazy ones are not supported)";
	return NULL;
}

static const char *pattern_read_open(struct pattern_reader *r)
{
	if (r->p[1] == '?')
		return "(? is not supported";
	if (r->p[1] == ')')
		return "() is empty";
	if (r->p[1] == '|')
		return "an empty alternative in front of |";
	if (++r->groups > PATTERN_GROUP_MAX)
		return "too many parentheses";
	r->open++;
	r->can_repeat = false;
	pattern_copy(r, 1);
	return NULL;
}

static const char *pattern_read_any(struct pattern_reader *r)
{
	switch (*r->p) {
	case '\\':
		return pattern_read_escape(r);
	case '[':
		return pattern_read_bracket(r);
	case '(':
		return pattern_read_open(r);
	case '*':
	case '+':
	case '?':
	case '{':
		return pattern_read_quantifier(r);
	case '|':
		if (r->p[1] == '\0' || r->p[1] == '|' || r->p[1] == ')')
			return "an empty alternative behind |";
		/* fall through */
	case '^':
		r->can_repeat = false;
		break;
	case '$':
		r->can_repeat = false;
		break;
	case ')':
		if (r->open == 0)
			return ") without its (";
		r->open--;
		r->can_repeat = true;
		break;
	default:
		r->can_repeat = true;
	}
	pattern_copy(r, 1);
	return NULL;
}

/* Translates into `dst`; returns what is wrong, or NULL. */
static const char *pattern_translate(const char *text, char *dst)
{
	struct pattern_reader r = { .p = text, .dst = dst, .bounds = 1 };
	const char *fault = NULL;

	if (*text == '\0')
		return "it is empty, and would match everything";
	if (strlen(text) > PATTERN_MAX)
		return "it is too long";
	if (*text == '|')
		return "an empty alternative in front of |";
	while (fault == NULL && *r.p != '\0')
		fault = pattern_read_any(&r);
	*r.dst = '\0';
	return fault;
}

int pattern_new(const char *text, struct pattern **out, char *err, size_t errsize)
{
	char translated[PATTERN_MAX * PATTERN_GROWTH + 1];
	const char *fault = pattern_translate(text, translated);
	struct pattern *p;
	int rc;

	if (fault != NULL) {
		str_copy(err, errsize, fault);
		return -E_SYNTAX;
	}
	p = xcalloc(1, sizeof(*p));
	rc = regcomp(&p->regex, translated, REG_EXTENDED);
	if (rc != 0) {
		regerror(rc, &p->regex, err, errsize);
		free(p);
		return -E_SYNTAX;
	}
	*out = p;
	return 0;
}

bool pattern_matches(const struct pattern *p, const char *subject, struct slice *group)
{
	regmatch_t at[2] = { { -1, -1 }, { -1, -1 } };

	if (regexec(&p->regex, subject, ARRAY_LEN(at), at, 0) != 0)
		return false;
	if (group != NULL && at[1].rm_so >= 0)
		*group = slice_make(subject + at[1].rm_so, (size_t)(at[1].rm_eo - at[1].rm_so));
	else if (group != NULL)
		*group = slice_make(NULL, 0);
	return true;
}

bool pattern_has_group(const struct pattern *p)
{
	return p->regex.re_nsub > 0;
}

void pattern_free(struct pattern **pp)
{
	struct pattern *p = *pp;

	*pp = NULL;
	if (p == NULL)
		return;
	regfree(&p->regex);
	free(p);
}
