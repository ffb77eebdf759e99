/*
 * Comments are the one thing that a query can say to the pooler without a word
 * to the server, through any driver. Only the first is looked at, at the very
 * beginning, so that a query without one costs the comparison of a byte.
 */
#include "pool/query_hint.h"

#include "core/clock.h"

/* Digits of a number at most; more is no hint. */
#define QUERY_HINT_DIGITS 9

/* A cursor: what is left of the comment. */
static void query_hint_skip_blanks(struct slice *s)
{
	while (s->n > 0 && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) {
		s->p++;
		s->n--;
	}
}

static bool query_hint_take(struct slice *s, const char *word)
{
	size_t n = strlen(word);

	if (s->n < n || memcmp(s->p, word, n) != 0)
		return false;
	s->p += n;
	s->n -= n;
	return true;
}

/* A whole number; false when there is none, or too long a one. */
static bool query_hint_number(struct slice *s, uint64_t *number)
{
	size_t n = 0;

	*number = 0;
	while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9') {
		*number = *number * 10 + (uint64_t)(s->p[n] - '0');
		if (++n > QUERY_HINT_DIGITS)
			return false;
	}
	s->p += n;
	s->n -= n;
	return n > 0;
}

/* The value behind `timeout=`; 0 when it is not valid. */
static uint64_t query_hint_value(struct slice value)
{
	uint64_t number;
	uint64_t unit = USEC_PER_SEC / 1000;

	query_hint_skip_blanks(&value);
	if (!query_hint_number(&value, &number))
		return 0;
	query_hint_skip_blanks(&value);
	if (query_hint_take(&value, "min"))
		unit = 60 * USEC_PER_SEC;
	else if (!query_hint_take(&value, "ms") && query_hint_take(&value, "s"))
		unit = USEC_PER_SEC;
	query_hint_skip_blanks(&value);
	return value.n == 0 ? number * unit : 0;
}

/* The inside of the comment; false when the text does not begin with one, or it does not end in time. */
static bool query_hint_find(struct slice text, struct slice *inside)
{
	if (text.n > QUERY_HINT_MAX)
		text.n = QUERY_HINT_MAX;
	if (!query_hint_take(&text, "/*"))
		return false;
	for (size_t i = 0; i + 1 < text.n; i++) {
		if (text.p[i] == '*' && text.p[i + 1] == '/') {
			*inside = slice_make(text.p, i);
			return true;
		}
	}
	return false;
}

uint64_t query_hint_timeout_us(struct slice text)
{
	struct slice rest;

	if (!query_hint_find(text, &rest))
		return 0;
	query_hint_skip_blanks(&rest);
	if (!query_hint_take(&rest, "pgsluice:"))
		return 0;
	for (;;) {
		const char *comma = memchr(rest.p, ',', rest.n);
		struct slice item = slice_make(rest.p, comma == NULL ? rest.n : (size_t)(comma - rest.p));

		query_hint_skip_blanks(&item);
		if (query_hint_take(&item, "timeout")) {
			query_hint_skip_blanks(&item);
			if (query_hint_take(&item, "="))
				return query_hint_value(item);
		}
		if (comma == NULL)
			return 0;
		rest.n -= (size_t)(comma + 1 - rest.p);
		rest.p = comma + 1;
	}
}
