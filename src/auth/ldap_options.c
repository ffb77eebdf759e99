/*
 * The grammar is that of PgBouncer with one form more, that of PostgreSQL's
 * pg_hba.conf, where quotes may be around the whole of an option. What the
 * options mean together is PostgreSQL's.
 *
 * Two things are refused here that others let pass, since they open a door:
 * ldaptls with anything but 0 and 1, which would mean "in plain text", and a
 * filter that does not ask for the user, with which every name has the same
 * password.
 */
#include "auth/ldap_options.h"

#include <stdarg.h>

#include "core/alloc.h"

#define LDAP_USERNAME "$username"

enum ldap_option_kind {
	LDAP_OPTION_SERVER,
	LDAP_OPTION_PORT,
	LDAP_OPTION_SCHEME,
	LDAP_OPTION_FLAG,
	LDAP_OPTION_TEXT,
	LDAP_OPTION_URL,
};

struct ldap_option {
	const char *name;
	enum ldap_option_kind kind;
	size_t offset; /* of the field */
};

static const struct ldap_option ldap_option_rows[] = {
#define X(name, kind, field) { name, LDAP_OPTION_##kind, offsetof(struct ldap_options, field) },
	LDAP_OPTION_TABLE(X)
#undef X
};

/* What is read and where it goes. */
struct ldap_parse {
	const char *p;
	const char *end;
	char *word; /* of the text's size: the key or value at hand, quotes resolved */
	size_t word_len;
	struct ldap_options *o;
	const char *before; /* name of the last option; for messages */
	char *err;
	size_t err_size;
};

static int ldap_parse_fail(struct ldap_parse *lp, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

static int ldap_parse_fail(struct ldap_parse *lp, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(lp->err, lp->err_size, fmt, ap);
	va_end(ap);
	return code;
}

/* Something that is no option. It may be the second half of a password with a blank in it, so it is not quoted. */
static int ldap_parse_fail_word(struct ldap_parse *lp, const char *what)
{
	return ldap_parse_fail(lp, -E_SYNTAX, "LDAP options, %s%s: %s",
			       lp->before == NULL ? "at the beginning" : "behind ",
			       lp->before == NULL ? "" : lp->before, what);
}

/* ---- words ---- */

static bool ldap_parse_is_separator(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',';
}

static bool ldap_parse_at_end_of_word(const struct ldap_parse *lp)
{
	return lp->p == lp->end || ldap_parse_is_separator(*lp->p);
}

/* The inside of quotes; the opening one is at p. */
static int ldap_parse_quoted(struct ldap_parse *lp)
{
	for (lp->p++; lp->p < lp->end; lp->p++) {
		if (*lp->p == '"') {
			if (lp->p + 1 == lp->end || lp->p[1] != '"') {
				lp->p++;
				lp->word[lp->word_len] = '\0';
				return 0;
			}
			lp->p++;
		}
		lp->word[lp->word_len++] = *lp->p;
	}
	return ldap_parse_fail_word(lp, "a quote is not closed");
}

/* Takes a key (which ends before "=") or a value into lp->word. */
static int ldap_parse_word(struct ldap_parse *lp, bool is_key)
{
	lp->word_len = 0;
	if (lp->p < lp->end && *lp->p == '"')
		return ldap_parse_quoted(lp);
	while (!ldap_parse_at_end_of_word(lp) && !(is_key && *lp->p == '=')) {
		if (*lp->p == '"')
			return ldap_parse_fail_word(lp,
						    "a quote inside of a word; quotes stand around the whole value, "
						    "and \"\" is one inside of them");
		lp->word[lp->word_len++] = *lp->p++;
	}
	lp->word[lp->word_len] = '\0';
	return 0;
}

static const struct ldap_option *ldap_parse_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(ldap_option_rows); i++)
		if (strcmp(ldap_option_rows[i].name, name) == 0)
			return &ldap_option_rows[i];
	return NULL;
}

/* ---- values ---- */

static int ldap_parse_bad_value(struct ldap_parse *lp, const struct ldap_option *option, const char *right)
{
	return ldap_parse_fail(lp, -E_SYNTAX, "LDAP option %s: %s", option->name, right);
}

static void ldap_parse_set_text(char **field, struct slice value)
{
	free_secret(*field);
	*field = value.n == 0 ? NULL : slice_dup(value);
}

/* A number of 1 to 65535, or -E_SYNTAX. */
static int ldap_parse_number(struct slice s, int *out)
{
	int n = 0;

	if (s.n == 0 || s.n > 5)
		return -E_SYNTAX;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -E_SYNTAX;
		n = n * 10 + (s.p[i] - '0');
	}
	if (n < 1 || n > 65535)
		return -E_SYNTAX;
	*out = n;
	return 0;
}

/* Hosts go into URLs: nothing may stand in them that has a meaning there. */
static bool ldap_parse_is_host(struct slice s, bool is_list)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (!isalnum(c) && strchr(".-_:[]", c) == NULL && !(is_list && c == ' '))
			return false;
	}
	return true;
}

static int ldap_parse_scheme(struct slice s, bool *is_ldaps)
{
	if (slice_ieq(s, slice_of("ldap")))
		*is_ldaps = false;
	else if (slice_ieq(s, slice_of("ldaps")))
		*is_ldaps = true;
	else
		return -E_SYNTAX;
	return 0;
}

/* ---- URLs (RFC 4516) ---- */

/* The part before the next `stop` (or the rest), taken off the URL together with it. */
static struct slice ldap_url_take(struct slice *url, char stop)
{
	const char *at = url->n == 0 ? NULL : memchr(url->p, stop, url->n);
	struct slice part = *url;

	if (at == NULL) {
		*url = slice_make(url->p + url->n, 0);
		return part;
	}
	part.n = (size_t)(at - url->p);
	url->p += part.n + 1;
	url->n -= part.n + 1;
	return part;
}

static int ldap_url_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Sets a field to the part with its %XX resolved; -E_SYNTAX for a bad one, and for %00. */
static int ldap_url_decode(struct slice part, char **field)
{
	char *text = xmalloc(part.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < part.n; i++) {
		int high, low;

		if (part.p[i] != '%') {
			text[n++] = part.p[i];
			continue;
		}
		high = i + 2 < part.n ? ldap_url_hex(part.p[i + 1]) : -1;
		low = i + 2 < part.n ? ldap_url_hex(part.p[i + 2]) : -1;
		if (high < 0 || low < 0 || high + low == 0) {
			free(text);
			return -E_SYNTAX;
		}
		text[n++] = (char)(high * 16 + low);
		i += 2;
	}
	ldap_parse_set_text(field, slice_make(text, n));
	free(text);
	return 0;
}

/* host, host:port, [address], [address]:port, or nothing. */
static int ldap_url_host(struct slice authority, struct ldap_options *o)
{
	struct slice host = authority;
	struct slice port = slice_make(NULL, 0);

	if (authority.n > 0 && authority.p[0] == '[') {
		host = ldap_url_take(&authority, ']');
		if (authority.p == host.p + host.n)
			return -E_SYNTAX; /* no "]" */
		host.n++;
		if (authority.n > 0 && authority.p[0] != ':')
			return -E_SYNTAX;
		if (authority.n > 0)
			port = slice_make(authority.p + 1, authority.n - 1);
	} else if (authority.n > 0) {
		host = ldap_url_take(&authority, ':');
		port = authority;
	}
	if (!ldap_parse_is_host(host, false))
		return -E_SYNTAX;
	if (port.n > 0 && ldap_parse_number(port, &o->port) != 0)
		return -E_SYNTAX;
	if (host.n > 0)
		ldap_parse_set_text(&o->server, host);
	return 0;
}

static int ldap_url_scope(struct slice part, enum ldap_scope *scope)
{
	static const struct {
		const char *name;
		enum ldap_scope scope;
	} rows[] = {
		{ "", LDAP_SEARCH_BASE },        { "base", LDAP_SEARCH_BASE }, { "one", LDAP_SEARCH_ONE },
		{ "onelevel", LDAP_SEARCH_ONE }, { "sub", LDAP_SEARCH_SUB },   { "subtree", LDAP_SEARCH_SUB },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (slice_ieq(part, slice_of(rows[i].name))) {
			*scope = rows[i].scope;
			return 0;
		}
	}
	return -E_SYNTAX;
}

/* What follows the host: /base?attribute?scope?filter */
static int ldap_url_search(struct slice rest, struct ldap_options *o)
{
	struct slice base = ldap_url_take(&rest, '?');
	struct slice attributes = ldap_url_take(&rest, '?');
	struct slice scope = ldap_url_take(&rest, '?');
	struct slice filter = ldap_url_take(&rest, '?');

	if (rest.n > 0)
		return -E_SYNTAX; /* extensions */
	if (base.n > 0 && ldap_url_decode(base, &o->base_dn) != 0)
		return -E_SYNTAX;
	if (attributes.n > 0 && ldap_url_decode(ldap_url_take(&attributes, ','), &o->attribute) != 0)
		return -E_SYNTAX;
	if (filter.n > 0 && ldap_url_decode(filter, &o->filter) != 0)
		return -E_SYNTAX;
	return ldap_url_scope(scope, &o->scope);
}

static int ldap_url_parse_into(struct slice url, struct ldap_options *o)
{
	struct slice scheme = ldap_url_take(&url, ':');
	struct slice authority;

	if (ldap_parse_scheme(scheme, &o->is_ldaps) != 0 || url.n < 2 || memcmp(url.p, "//", 2) != 0)
		return -E_SYNTAX;
	url.p += 2;
	url.n -= 2;
	authority = ldap_url_take(&url, '/');
	if (ldap_url_host(authority, o) != 0)
		return -E_SYNTAX;
	return ldap_url_search(url, o);
}

/* ---- options ---- */

static int ldap_parse_value(struct ldap_parse *lp, const struct ldap_option *option, struct slice value)
{
	void *field = (char *)lp->o + option->offset;

	switch (option->kind) {
	case LDAP_OPTION_SERVER:
		value = slice_trim(value);
		if (!ldap_parse_is_host(value, true))
			return ldap_parse_bad_value(lp, option,
						    "must be names of hosts with a blank between them; the "
						    "port is ldapport, a URL is ldapurl");
		ldap_parse_set_text(field, value);
		return 0;
	case LDAP_OPTION_PORT:
		if (ldap_parse_number(value, field) != 0)
			return ldap_parse_bad_value(lp, option, "must be a number from 1 to 65535");
		return 0;
	case LDAP_OPTION_SCHEME:
		if (ldap_parse_scheme(value, field) != 0)
			return ldap_parse_bad_value(lp, option, "must be ldap or ldaps");
		return 0;
	case LDAP_OPTION_FLAG:
		if (!slice_eq_str(value, "0") && !slice_eq_str(value, "1"))
			return ldap_parse_bad_value(lp, option, "must be 1 (StartTLS) or 0");
		*(bool *)field = value.p[0] == '1';
		return 0;
	case LDAP_OPTION_TEXT:
		ldap_parse_set_text(field, value);
		return 0;
	case LDAP_OPTION_URL:
		if (ldap_url_parse_into(value, lp->o) != 0)
			return ldap_parse_bad_value(lp, option,
						    "must look like ldap[s]://host[:port]/basedn[?attribute[?base|one|"
						    "sub[?filter]]]");
		return 0;
	}
	UNREACHABLE();
}

/* One option, from its first byte. */
static int ldap_parse_option(struct ldap_parse *lp)
{
	const struct ldap_option *option;
	char *equals = NULL;
	bool is_quoted = *lp->p == '"';
	int err = ldap_parse_word(lp, true);

	if (err != 0)
		return err;
	if (ldap_parse_at_end_of_word(lp)) {
		/* "key=value" */
		equals = is_quoted ? strchr(lp->word, '=') : NULL;
		if (equals == NULL)
			return ldap_parse_fail_word(lp,
						    "key=value is expected; a value with blanks or commas stands in "
						    "double quotes");
		*equals = '\0';
	} else if (*lp->p != '=') {
		return ldap_parse_fail_word(lp, "a quoted word must be followed by \"=\" or a blank");
	}
	option = ldap_parse_find(lp->word);
	if (option == NULL)
		return ldap_parse_fail_word(lp, "unknown option; there are ldapserver, ldapport, ldapscheme, ldaptls, "
						"ldapprefix, ldapsuffix, ldapbasedn, ldapbinddn, ldapbindpasswd, "
						"ldapsearchattribute, ldapsearchfilter and ldapurl");
	lp->before = option->name;
	if (equals != NULL)
		return ldap_parse_value(lp, option, slice_of(equals + 1));
	lp->p++;
	if (ldap_parse_at_end_of_word(lp))
		return ldap_parse_fail(lp, -E_SYNTAX,
				       "LDAP option %s: no value directly behind \"=\"; an empty one is "
				       "written \"\"",
				       option->name);
	err = ldap_parse_word(lp, false);
	if (err != 0)
		return err;
	if (!ldap_parse_at_end_of_word(lp))
		return ldap_parse_fail_word(lp, "a blank or a comma must follow the closing quote");
	return ldap_parse_value(lp, option, slice_make(lp->word, lp->word_len));
}

/* What the options say together. */
static int ldap_parse_check(struct ldap_parse *lp)
{
	const struct ldap_options *o = lp->o;
	bool is_simple = o->prefix != NULL || o->suffix != NULL;

	if (is_simple && (o->base_dn != NULL || o->bind_dn != NULL || o->bind_password != NULL ||
			  o->attribute != NULL || o->filter != NULL))
		return ldap_parse_fail(lp, -E_UNSUPPORTED,
				       "LDAP options: ldapprefix and ldapsuffix do not go together "
				       "with ldapbasedn, ldapbinddn, ldapbindpasswd, "
				       "ldapsearchattribute, ldapsearchfilter or a search in ldapurl");
	if (!is_simple && o->base_dn == NULL)
		return ldap_parse_fail(lp, -E_UNSUPPORTED,
				       "LDAP options: one of ldapbasedn, ldapprefix and ldapsuffix is "
				       "needed");
	if (o->attribute != NULL && o->filter != NULL)
		return ldap_parse_fail(lp, -E_UNSUPPORTED,
				       "LDAP options: ldapsearchattribute and ldapsearchfilter do not "
				       "go together; the attribute can stand in the filter, as in "
				       "(uid=$username)");
	if (o->filter != NULL && strstr(o->filter, LDAP_USERNAME) == NULL)
		return ldap_parse_fail(lp, -E_UNSUPPORTED,
				       "LDAP option ldapsearchfilter: must ask for $username, as in "
				       "(uid=$username)");
	if (o->is_ldaps && o->start_tls)
		return ldap_parse_fail(lp, -E_UNSUPPORTED,
				       "LDAP options: ldaptls=1 is StartTLS, which ldaps does not "
				       "need: leave out one of the two");
	if (o->server == NULL && o->base_dn == NULL)
		return ldap_parse_fail(lp, -E_UNSUPPORTED,
				       "LDAP options: ldapserver is needed; only ldapbasedn tells DNS "
				       "whom to ask for");
	return 0;
}

static int ldap_parse_all(struct ldap_parse *lp)
{
	int err;

	for (;;) {
		while (lp->p < lp->end && ldap_parse_is_separator(*lp->p))
			lp->p++;
		if (lp->p == lp->end)
			return ldap_parse_check(lp);
		err = ldap_parse_option(lp);
		if (err != 0)
			return err;
	}
}

int ldap_options_parse(struct slice text, struct ldap_options **out, char *err, size_t err_size)
{
	struct ldap_parse lp = { .p = text.p, .end = text.p + text.n, .err = err, .err_size = err_size };
	int rc;

	*out = NULL;
	if (text.n > LDAP_OPTIONS_TEXT_MAX)
		return ldap_parse_fail(&lp, -E_RANGE, "LDAP options: longer than %d bytes", LDAP_OPTIONS_TEXT_MAX);
	if (text.n > 0 && memchr(text.p, '\0', text.n) != NULL)
		return ldap_parse_fail(&lp, -E_SYNTAX, "LDAP options: a NUL byte");
	lp.word = xmalloc(text.n + 1);
	lp.o = xcalloc(1, sizeof(*lp.o));
	atomic_init(&lp.o->refs, 1);
	lp.o->scope = LDAP_SEARCH_SUB;
	rc = ldap_parse_all(&lp);
	mem_wipe(lp.word, text.n + 1); /* one of the values may have been a password */
	free(lp.word);
	if (rc != 0)
		ldap_options_release(&lp.o);
	*out = lp.o;
	return rc;
}

struct ldap_options *ldap_options_hold(struct ldap_options *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	return o;
}

void ldap_options_release(struct ldap_options **op)
{
	struct ldap_options *o = *op;

	*op = NULL;
	if (o == NULL || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(o->server);
	free(o->prefix);
	free(o->suffix);
	free(o->base_dn);
	free(o->bind_dn);
	free_secret(o->bind_password);
	free(o->attribute);
	free(o->filter);
	free(o);
}

/* ---- names ---- */

bool ldap_options_search(const struct ldap_options *o)
{
	return o->prefix == NULL && o->suffix == NULL;
}

/* Must this byte of a value in a distinguished name be escaped? */
static bool ldap_dn_is_special(const char *value, size_t at)
{
	size_t last = strlen(value) - 1;

	if (strchr(",+\"\\<>;=", value[at]) != NULL || (unsigned char)value[at] < ' ')
		return true;
	return (at == 0 && value[at] == '#') || ((at == 0 || at == last) && value[at] == ' ');
}

char *ldap_options_bind_name(const struct ldap_options *o, const char *user)
{
	static const char digits[] = "0123456789abcdef";
	const char *prefix = o->prefix == NULL ? "" : o->prefix;
	const char *suffix = o->suffix == NULL ? "" : o->suffix;
	size_t prefix_len = strlen(prefix);
	size_t suffix_len = strlen(suffix);
	char *name = xmalloc(prefix_len + 3 * strlen(user) + suffix_len + 1);
	char *p = name + prefix_len;
	bool is_dn = strchr(prefix, '=') != NULL;

	memcpy(name, prefix, prefix_len);
	for (size_t i = 0; user[i] != '\0'; i++) {
		unsigned char c = (unsigned char)user[i];

		if (is_dn && ldap_dn_is_special(user, i)) {
			*p++ = '\\';
			*p++ = digits[c >> 4];
			*p++ = digits[c & 15];
		} else {
			*p++ = (char)c;
		}
	}
	memcpy(p, suffix, suffix_len + 1);
	return name;
}

/* Appends the name with what has a meaning in a filter escaped; returns the new end. */
static char *ldap_filter_append(char *p, const char *user)
{
	static const char digits[] = "0123456789abcdef";

	for (; *user != '\0'; user++) {
		unsigned char c = (unsigned char)*user;

		if (strchr("*()\\", c) != NULL || c < ' ' || c == 0x7f) {
			*p++ = '\\';
			*p++ = digits[c >> 4];
			*p++ = digits[c & 15];
		} else {
			*p++ = (char)c;
		}
	}
	return p;
}

char *ldap_options_filter(const struct ldap_options *o, const char *user)
{
	size_t username_len = strlen(LDAP_USERNAME);
	const char *from = o->filter;
	size_t size = 1;
	char *text = NULL;
	char *filter;
	char *p;

	if (user[strcspn(user, "*()\\/")] != '\0')
		return NULL;
	if (from == NULL) {
		const char *attribute = o->attribute == NULL ? "uid" : o->attribute;

		size = strlen(attribute) + username_len + 4;
		text = xmalloc(size);
		str_format(text, size, "(%s=%s)", attribute, LDAP_USERNAME);
		from = text;
	}
	/* As if it consisted of nothing but names, each byte of which becomes three. */
	size = strlen(from) + 1 + 3 * strlen(user) * (strlen(from) / username_len);
	p = filter = xmalloc(size);
	while (*from != '\0') {
		if (strncmp(from, LDAP_USERNAME, username_len) == 0) {
			p = ldap_filter_append(p, user);
			from += username_len;
		} else {
			*p++ = *from++;
		}
	}
	*p = '\0';
	free(text);
	return filter;
}
