/*
 * The connect-string grammar, with its odd corners kept on purpose because
 * files rely on them:
 *
 *   - only the space separates; a tab is an ordinary character
 *   - a quote means something at the beginning of a value only; dbname=a'b has
 *     a quote in it
 *   - the character behind a closing quote is swallowed, whatever it is
 *   - an empty value is an error, quoted or not
 */
#include "conf/connstr.h"

#include "core/alloc.h"

void connstr_init(struct connstr *cs, const char *text)
{
	cs->next = text;
	cs->size = strlen(text) + 1;
	cs->value = xmalloc(cs->size);
}

void connstr_fini(struct connstr *cs)
{
	mem_wipe(cs->value, cs->size); /* one of the values may have been a password */
	free(cs->value);
	cs->value = NULL;
	cs->next = NULL;
}

static const char *connstr_skip_spaces(const char *p)
{
	while (*p == ' ')
		p++;
	return p;
}

/* Copies the value at p, its opening quote already read; NULL when it is not closed. */
static const char *connstr_read_quoted(const char *p, char *dst)
{
	for (; *p != '\0'; *dst++ = *p++) {
		if (*p != '\'')
			continue;
		if (p[1] == '\'') {
			p++;
			continue;
		}
		*dst = '\0';
		p++;
		return *p == '\0' ? p : p + 1;
	}
	return NULL;
}

static const char *connstr_read_bare(const char *p, char *dst)
{
	while (*p != '\0' && *p != ' ')
		*dst++ = *p++;
	*dst = '\0';
	return p;
}

int connstr_next(struct connstr *cs, struct slice *key, const char **value)
{
	const char *p = connstr_skip_spaces(cs->next);
	const char *begin = p;

	cs->next = p;
	if (*p == '\0')
		return 0;
	while (*p != '\0' && *p != '=' && *p != ' ')
		p++;
	*key = slice_make(begin, (size_t)(p - begin));
	p = connstr_skip_spaces(p);
	if (key->n == 0 || *p != '=')
		return -E_SYNTAX;
	p = connstr_skip_spaces(p + 1);
	if (*p == '\'')
		p = connstr_read_quoted(p + 1, cs->value);
	else
		p = connstr_read_bare(p, cs->value);
	if (p == NULL || cs->value[0] == '\0')
		return -E_SYNTAX;
	cs->next = p;
	*value = cs->value;
	return 1;
}
