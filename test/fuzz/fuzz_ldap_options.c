/*
 * Options of the ldap method: a name, a NUL, then the text. What was understood
 * must mean the same when it is written again, with every value in quotes, and
 * no name may bring more into a filter or a distinguished name than a value.
 */
#include "fuzz.h"

#include "auth/ldap_options.h"
#include "core/alloc.h"

/* Appends key="value", the quotes doubled, or nothing for NULL; returns the new end. */
static char *fuzz_write(char *p, const char *key, const char *value)
{
	size_t n = strlen(key);

	if (value == NULL)
		return p;
	memcpy(p, key, n);
	p += n;
	*p++ = '=';
	*p++ = '"';
	for (; *value != '\0'; value++) {
		if (*value == '"')
			*p++ = '"';
		*p++ = *value;
	}
	*p++ = '"';
	*p++ = ' ';
	*p = '\0';
	return p;
}

static bool fuzz_same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void fuzz_rewrite(const struct ldap_options *o)
{
	static char text[4 * LDAP_OPTIONS_TEXT_MAX + 512];
	struct ldap_options *again;
	char port[16];
	char err[512];
	char *p = text;
	int rc;

	text[0] = '\0';
	str_format(port, sizeof(port), "%d", o->port);
	p = fuzz_write(p, "ldapserver", o->server);
	p = fuzz_write(p, "ldapport", o->port == 0 ? NULL : port);
	p = fuzz_write(p, "ldapscheme", o->is_ldaps ? "ldaps" : "ldap");
	p = fuzz_write(p, "ldaptls", o->start_tls ? "1" : "0");
	p = fuzz_write(p, "ldapprefix", o->prefix);
	p = fuzz_write(p, "ldapsuffix", o->suffix);
	p = fuzz_write(p, "ldapbasedn", o->base_dn);
	p = fuzz_write(p, "ldapbinddn", o->bind_dn);
	p = fuzz_write(p, "ldapbindpasswd", o->bind_password);
	p = fuzz_write(p, "ldapsearchattribute", o->attribute);
	p = fuzz_write(p, "ldapsearchfilter", o->filter);
	rc = ldap_options_parse(slice_of(text), &again, err, sizeof(err));
	if (rc == -E_RANGE)
		return;
	ASSERT(rc == 0);
	ASSERT(fuzz_same(o->server, again->server) && o->port == again->port && o->is_ldaps == again->is_ldaps);
	ASSERT(o->start_tls == again->start_tls && fuzz_same(o->prefix, again->prefix));
	ASSERT(fuzz_same(o->suffix, again->suffix) && fuzz_same(o->base_dn, again->base_dn));
	ASSERT(fuzz_same(o->bind_dn, again->bind_dn) && fuzz_same(o->bind_password, again->bind_password));
	ASSERT(fuzz_same(o->attribute, again->attribute) && fuzz_same(o->filter, again->filter));
	ldap_options_release(&again);
}

static size_t fuzz_count(const char *s, char c)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += *s == c;
	return n;
}

static void fuzz_names(const struct ldap_options *o, const char *user)
{
	char *name = ldap_options_bind_name(o, user);
	char *filter = ldap_options_filter(o, user);
	const char *from = o->filter == NULL ? "()" : o->filter;

	if (o->prefix != NULL && strchr(o->prefix, '=') != NULL)
		ASSERT(fuzz_count(name, ',') ==
		       fuzz_count(o->prefix, ',') + (o->suffix == NULL ? 0 : fuzz_count(o->suffix, ',')));
	if (filter != NULL && o->attribute == NULL)
		ASSERT(fuzz_count(filter, '(') == fuzz_count(from, '(') &&
		       fuzz_count(filter, '*') == fuzz_count(from, '*'));
	free(name);
	free(filter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = slice_make(data, size);
	const uint8_t *nul = size == 0 ? NULL : memchr(data, '\0', size);
	struct ldap_options *o;
	char err[512] = "";
	char *user;
	char *copy;
	int rc;

	if (nul == NULL)
		return 0;
	user = slice_dup(fuzz_take(&input, (size_t)(nul - data)));
	fuzz_take(&input, 1);
	copy = xmalloc(input.n);
	if (input.n > 0)
		memcpy(copy, input.p, input.n);
	rc = ldap_options_parse(slice_make(copy, input.n), &o, err, sizeof(err));
	ASSERT((rc == 0) == (o != NULL) && (rc == 0) == (err[0] == '\0'));
	free(copy);
	if (o != NULL) {
		fuzz_rewrite(o);
		if (strlen(user) < 128)
			fuzz_names(o, user);
		ldap_options_release(&o);
	}
	free(user);
	return 0;
}
