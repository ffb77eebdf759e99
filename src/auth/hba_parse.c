/*
 * One line of auth_hba_file, part by part. Each part has a function; which one
 * was at work when something was wrong tells, for a line that rejects, which
 * parts of it can be relied on.
 */
#include <arpa/inet.h>
#include <stdarg.h>

#include "auth/hba_int.h"
#include "auth/ldap.h"
#include "auth/pam.h"
#include "core/alloc.h"
#include "core/str.h"

#define HBA_HOST_MAX 253 /* bytes of a host name */

#define HBA_M_LOCAL  1u  /* for Unix sockets only */
#define HBA_M_MAP    2u  /* takes a map */
#define HBA_M_REST   4u  /* the rest of the line is options of LDAP */
#define HBA_M_BEYOND 8u  /* not in PgBouncer */
#define HBA_M_PAM    16u /* takes options of PAM */

/* word in the file, value of auth_type, flags */
#define HBA_METHOD_TABLE(X)                                        \
	X("trust", "trust", 0)                                     \
	X("reject", "reject", 0)                                   \
	X("md5", "md5", 0)                                         \
	X("password", "plain", 0)                                  \
	X("scram-sha-256", "scram-sha-256", 0)                     \
	X("peer", "peer", HBA_M_LOCAL | HBA_M_MAP)                 \
	X("ident", "peer", HBA_M_LOCAL | HBA_M_MAP | HBA_M_BEYOND) \
	X("cert", "cert", HBA_M_MAP)                               \
	X("ldap", "ldap", HBA_M_REST)                              \
	X("pam", "pam", HBA_M_PAM | HBA_M_BEYOND)

struct hba_method {
	const char *word;
	const char *auth_type;
	unsigned flags;
};

static const struct hba_method hba_methods[] = {
#define X(word, auth_type, flags) { word, auth_type, flags },
	HBA_METHOD_TABLE(X)
#undef X
};

static const char *const hba_types[] = {
#define X(id, word) [id] = word,
	HBA_TYPE_TABLE(X)
#undef X
};

/* ---- helpers ---- */

/* False, with what is wrong and what would be right (NULL: nothing to say). */
PRINTF_LIKE(3, 4) static bool hba_fail(struct hba_reader *r, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(r->fault.what, sizeof(r->fault.what), fmt, ap);
	va_end(ap);
	str_copy(r->fault.hint, sizeof(r->fault.hint), hint == NULL ? "" : hint);
	return false;
}

static const struct rulefile_field *hba_next_field(struct hba_reader *r)
{
	return r->at < r->line->count ? &r->line->fields[r->at++] : NULL;
}

/* The one word of the next field; NULL, with the fault, when there is none or a list. */
static const struct rulefile_word *hba_next_word(struct hba_reader *r, const char *what)
{
	const struct rulefile_field *field = hba_next_field(r);

	if (field == NULL || field->count != 1) {
		(void)hba_fail(r, "type database user [address] method [options]",
			       field == NULL ? "the %s is missing" : "a list in the place of the %s", what);
		return NULL;
	}
	return &field->words[0];
}

static bool hba_is_keyword(const struct rulefile_word *word, const char *keyword)
{
	return !word->quoted && strcmp(word->text, keyword) == 0;
}

/* ---- the parts ---- */

static bool hba_parse_type(struct hba_reader *r)
{
	const struct rulefile_word *word = hba_next_word(r, "type");

	if (word == NULL)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(hba_types); i++) {
		if (strcmp(word->text, hba_types[i]) == 0) {
			r->rule->type = (enum hba_type)i;
			if (r->rule->type > HBA_HOSTNOSSL)
				r->beyond = word->text;
			return true;
		}
	}
	return hba_fail(r, "local, host, hostssl, hostnossl, hostgssenc and hostnogssenc are possible",
			"unknown connection type \"%s\"", word->text);
}

/* What databases and users have in common; false with the fault. Expects a zeroed name. */
static bool hba_parse_name(struct hba_reader *r, const struct rulefile_word *word, struct hba_name *name)
{
	char err[256];

	name->text = word->text;
	if (word->text[0] == '\0')
		return hba_fail(r, NULL, "an empty name");
	if (hba_is_keyword(word, "all")) {
		name->kind = HBA_NAME_ALL;
	} else if (word->text[0] == '/') {
		name->kind = HBA_NAME_PATTERN;
		r->beyond = "a regular expression";
		if (pattern_new(word->text + 1, &name->pattern, err, sizeof(err)) < 0)
			return hba_fail(r, "POSIX extended regular expressions are possible",
					"bad regular expression \"%s\": %s", word->text, err);
	}
	return true;
}

static bool hba_parse_database(struct hba_reader *r, const struct rulefile_word *word, struct hba_name *name)
{
	if (hba_is_keyword(word, "sameuser")) {
		name->kind = HBA_NAME_SAMEUSER;
	} else if (hba_is_keyword(word, "samerole") || hba_is_keyword(word, "samegroup")) {
		name->kind = HBA_NAME_SAMEROLE;
		r->beyond = word->text;
	} else if (hba_is_keyword(word, "replication")) {
		name->kind = HBA_NAME_REPLICATION;
	} else {
		return hba_parse_name(r, word, name);
	}
	return true;
}

static bool hba_parse_user(struct hba_reader *r, const struct rulefile_word *word, struct hba_name *name)
{
	static const char *const others[] = { "sameuser", "samerole", "samegroup", "replication" };

	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (!hba_is_keyword(word, others[i]))
			continue;
		if (r->is_strict)
			return hba_fail(r, "quote it if a user has this name",
					"\"%s\" is for databases and means nothing in a list of users", word->text);
		str_format(r->warning, sizeof(r->warning), "\"%s\" in a list of users is the name of a user",
			   word->text);
	}
	if (!word->quoted && word->text[0] == '+') {
		name->kind = HBA_NAME_GROUP;
		name->text = word->text + 1;
		r->beyond = "a group";
		return name->text[0] != '\0' || hba_fail(r, "+name", "no name of a group behind the +");
	}
	return hba_parse_name(r, word, name);
}

static bool hba_parse_list(struct hba_reader *r, const char *what, struct hba_list *list,
			   bool (*parse)(struct hba_reader *, const struct rulefile_word *, struct hba_name *))
{
	const struct rulefile_field *field = hba_next_field(r);

	if (field == NULL)
		return hba_fail(r, "type database user [address] method [options]", "the %s is missing", what);
	list->names = xcalloc(field->count, sizeof(*list->names));
	list->count = field->count;
	for (size_t i = 0; i < field->count; i++) {
		if (!parse(r, &field->words[i], &list->names[i]))
			return false;
	}
	return true;
}

/* 4 or 16 bytes, or 0 when the text is no address. */
static unsigned hba_parse_ip(const char *text, uint8_t ip[16])
{
	if (inet_pton(AF_INET, text, ip) == 1)
		return 4;
	return inet_pton(AF_INET6, text, ip) == 1 ? 16 : 0;
}

static bool hba_parse_bits(struct hba_reader *r, const char *text, struct hba_addr *addr)
{
	unsigned max = addr->len * 8;
	unsigned long bits = 0;
	char *end = NULL;

	if (isdigit((unsigned char)text[0]))
		bits = strtoul(text, &end, 10);
	if (end == NULL || *end != '\0' || bits > max)
		return hba_fail(r, NULL, "bad number of bits \"%s\" behind an address; 0 to %u are possible", text,
				max);
	for (unsigned i = 0; i < bits; i++)
		addr->mask[i / 8] |= (uint8_t)(0x80 >> (i % 8));
	return true;
}

static bool hba_parse_mask(struct hba_reader *r, struct hba_addr *addr)
{
	const struct rulefile_word *word = hba_next_word(r, "mask");

	if (word == NULL)
		return false;
	if (hba_parse_ip(word->text, addr->mask) != addr->len)
		return hba_fail(r, "write the address as in 192.0.2.0/24, or a mask behind it",
				"\"%s\" is no mask for the address in front of it", word->text);
	return true;
}

/* Clients through a socket for both protocols are told as IPv4, so a rule that means them is one for IPv4. */
static void hba_unmap(struct hba_addr *addr)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	static const uint8_t whole[12] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (addr->len != 16 || memcmp(addr->net, mapped, 12) != 0 || memcmp(addr->mask, whole, 12) != 0)
		return;
	memmove(addr->net, addr->net + 12, 4);
	memmove(addr->mask, addr->mask + 12, 4);
	addr->len = 4;
}

static bool hba_parse_host_name(struct hba_reader *r, const char *text, struct hba_addr *addr)
{
	static const char hint[] = "192.0.2.0/24, 2001:db8::/32, all, samehost, samenet, a host name, .example.com";
	size_t n = strlen(text);
	size_t plain = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

	if (text[plain] == '/' && strspn(text, "0123456789.:") != plain)
		return hba_fail(r, hint, "a host name cannot have a mask: \"%s\"", text);
	if (plain != n || n > HBA_HOST_MAX || strspn(text, "0123456789.") == n)
		return hba_fail(r, hint, "bad address \"%s\"", text);
	addr->kind = HBA_ADDR_HOST;
	addr->name = text;
	r->beyond = "a host name";
	return true;
}

static bool hba_parse_address(struct hba_reader *r)
{
	const struct rulefile_word *word = hba_next_word(r, "address");
	struct hba_addr *addr = &r->rule->addr;
	const char *slash;
	char text[64];

	if (word == NULL)
		return false;
	if (hba_is_keyword(word, "all")) {
		addr->kind = HBA_ADDR_ALL;
		return true;
	}
	if (hba_is_keyword(word, "samehost") || hba_is_keyword(word, "samenet")) {
		addr->kind = strcmp(word->text, "samehost") == 0 ? HBA_ADDR_SAMEHOST : HBA_ADDR_SAMENET;
		r->beyond = word->text;
		return true;
	}
	slash = strchr(word->text, '/');
	if (str_copy_slice(text, sizeof(text),
			   slice_make(word->text, slash == NULL ? strlen(word->text) : (size_t)(slash - word->text))))
		addr->len = hba_parse_ip(text, addr->net);
	if (addr->len == 0)
		return hba_parse_host_name(r, word->text, addr);
	addr->kind = HBA_ADDR_NET;
	if (slash == NULL ? !hba_parse_mask(r, addr) : !hba_parse_bits(r, slash + 1, addr))
		return false;
	hba_unmap(addr);
	return true;
}

/* ---- method and options ---- */

static const struct hba_method *hba_find_method(const char *word)
{
	for (size_t i = 0; i < ARRAY_LEN(hba_methods); i++) {
		if (strcmp(word, hba_methods[i].word) == 0)
			return &hba_methods[i];
	}
	return NULL;
}

/* Where the method can be used; what PgBouncer takes and then refuses at each login does so here, too. */
static bool hba_check_method(struct hba_reader *r, const struct hba_method *method)
{
	enum hba_type type = r->rule->type;

	if (type != HBA_LOCAL && (method->flags & HBA_M_LOCAL) != 0 &&
	    (r->is_strict || (method->flags & HBA_M_BEYOND) != 0))
		return hba_fail(r, "use it in a line that begins with local", "method \"%s\" is for Unix sockets only",
				method->word);
	if (r->is_strict && type != HBA_HOSTSSL && r->rule->demand.method == AUTH_METHOD_CERT)
		return hba_fail(r, "use it in a line that begins with hostssl", "method \"cert\" needs TLS");
	return true;
}

/* Some methods need a library that a build may be without. */
static bool hba_has_method(enum auth_method method)
{
	return !(method == AUTH_METHOD_LDAP && !ldap_is_supported()) &&
	       !(method == AUTH_METHOD_PAM && !pam_is_supported());
}

static const struct hba_method *hba_parse_method(struct hba_reader *r)
{
	const struct rulefile_word *word = hba_next_word(r, "method");
	const struct hba_method *method = word == NULL ? NULL : hba_find_method(word->text);

	if (word == NULL)
		return NULL;
	if (method == NULL) {
		(void)hba_fail(r, "trust, reject, md5, password, scram-sha-256, cert, peer, ldap and pam are possible",
			       "unknown method \"%s\"", word->text);
		return NULL;
	}
	if (auth_method_parse(method->auth_type, &r->rule->demand.method) < 0)
		UNREACHABLE();
	if (!hba_has_method(r->rule->demand.method)) {
		(void)hba_fail(r, NULL, "%s is not supported by this build", word->text);
		return NULL;
	}
	if ((method->flags & HBA_M_BEYOND) != 0)
		r->beyond = method->word;
	return hba_check_method(r, method) ? method : NULL;
}

static bool hba_parse_map(struct hba_reader *r, const struct hba_method *method, const char *value)
{
	if (!ident_has_map(r->ident, value))
		return hba_fail(r, "add it to the file that auth_ident_file names", "there is no map \"%s\"", value);
	if ((method->flags & HBA_M_MAP) != 0)
		r->rule->demand.map = value;
	else if (r->is_strict)
		return hba_fail(r, "only peer and cert take one", "method \"%s\" takes no map", method->word);
	return true;
}

static bool hba_parse_clientcert(struct hba_reader *r, const char *value)
{
	struct hba_demand *demand = &r->rule->demand;

	r->beyond = "clientcert";
	if (r->rule->type != HBA_HOSTSSL)
		return hba_fail(r, "use it in a line that begins with hostssl", "clientcert needs TLS");
	if (strcmp(value, "verify-full") == 0)
		demand->clientcert = HBA_CLIENTCERT_FULL;
	else if (strcmp(value, "verify-ca") == 0 && demand->method != AUTH_METHOD_CERT)
		demand->clientcert = HBA_CLIENTCERT_CA;
	else
		return hba_fail(r,
				demand->method == AUTH_METHOD_CERT ? "with cert only verify-full is possible"
								   : "verify-ca and verify-full are possible",
				"bad value \"%s\" of clientcert", value);
	return true;
}

/* An option of pam; false with the fault. */
static bool hba_parse_pam_option(struct hba_reader *r, const char *text)
{
	struct hba_pam *pam = &r->rule->demand.pam;

	if (strncmp(text, "pamservice=", 11) == 0) {
		pam->service = text + 11;
		return text[11] != '\0' || hba_fail(r, "give the name of a file in /etc/pam.d", "empty pamservice");
	}
	if (strcmp(text, "pam_use_hostname=1") == 0 || strcmp(text, "pam_use_hostname=0") == 0) {
		pam->use_hostname = text[17] == '1';
		return true;
	}
	return hba_fail(r, "pamservice=name and pam_use_hostname=1 are possible", "unknown option \"%s\"", text);
}

static bool hba_parse_option(struct hba_reader *r, const struct hba_method *method, const char *text)
{
	if (strncmp(text, "map=", 4) == 0)
		return hba_parse_map(r, method, text + 4);
	if (strncmp(text, "clientcert=", 11) == 0)
		return hba_parse_clientcert(r, text + 11);
	if ((method->flags & HBA_M_PAM) != 0)
		return hba_parse_pam_option(r, text);
	return hba_fail(r, "map=name and clientcert=value are possible", "unknown option \"%s\"", text);
}

static bool hba_parse_options(struct hba_reader *r, const struct hba_method *method)
{
	const struct rulefile_word *word;
	struct slice rest;
	char err[400];

	if ((method->flags & HBA_M_REST) != 0) {
		rest = slice_trim(slice_of(r->line->text + r->line->fields[r->at - 1].rest));
		return rest.n == 0 || ldap_options_parse(rest, &r->rule->demand.ldap, err, sizeof(err)) == 0 ||
		       hba_fail(r, NULL, "%s", err);
	}
	while (r->at < r->line->count) {
		word = hba_next_word(r, "option");
		if (word == NULL || !hba_parse_option(r, method, word->text))
			return false;
	}
	return true;
}

/* ---- the line ---- */

/* Bits of the address behind its mask: what was meant can be told, but PgBouncer's rule then matches nobody. */
static void hba_check_stray_bits(struct hba_reader *r)
{
	struct hba_addr *addr = &r->rule->addr;
	bool is_dead = !r->is_strict && r->rule->demand.method != AUTH_METHOD_REJECT;
	uint8_t stray = 0;

	for (unsigned i = 0; addr->kind == HBA_ADDR_NET && i < addr->len; i++)
		stray |= addr->net[i] & (uint8_t)~addr->mask[i];
	if (stray == 0)
		return;
	str_format(r->warning, sizeof(r->warning), "the address has bits outside of its mask, %s",
		   is_dead ? "so the rule matches nobody" : "which do not count");
	if (is_dead)
		addr->kind = HBA_ADDR_NOTHING;
}

static bool hba_parse_parts(struct hba_reader *r)
{
	const struct hba_method *method;

	r->part = HBA_PART_TYPE;
	if (!hba_parse_type(r))
		return false;
	r->part = HBA_PART_DATABASES;
	if (!hba_parse_list(r, "list of databases", &r->rule->databases, hba_parse_database))
		return false;
	r->part = HBA_PART_USERS;
	if (!hba_parse_list(r, "list of users", &r->rule->users, hba_parse_user))
		return false;
	r->part = HBA_PART_ADDRESS;
	if (r->rule->type != HBA_LOCAL && !hba_parse_address(r))
		return false;
	r->part = HBA_PART_METHOD;
	method = hba_parse_method(r);
	return method != NULL && hba_parse_options(r, method);
}

bool hba_parse_line(struct hba_reader *r)
{
	const struct rulefile_line *line = r->line;
	bool is_good;

	r->rule->demand.file = line->file;
	r->rule->demand.line = line->number;
	is_good = hba_parse_parts(r);
	/* Fields are missing then, or more than one would think: that is why. */
	if (line->fault != NULL)
		is_good = hba_fail(r, line->hint, "%s", line->fault);
	if (is_good)
		hba_check_stray_bits(r);
	return is_good;
}

/* Whether the text has that word, in any case. */
static bool hba_has_word(const char *text, const char *word)
{
	static const char between[] = " \t\r\v\f,\"";

	while (*(text += strspn(text, between)) != '\0') {
		size_t n = strcspn(text, between);

		if (slice_ieq(slice_make(text, n), slice_of(word)))
			return true;
		text += n;
	}
	return false;
}

static void hba_make_any(struct hba_list *list)
{
	hba_fini_list(list);
	list->names = xcalloc(1, sizeof(*list->names));
	list->names[0] = (struct hba_name){ .kind = HBA_NAME_ANYTHING, .text = "" };
	list->count = 1;
}

bool hba_parse_reject(struct hba_reader *r)
{
	struct hba_rule *rule = r->rule;
	enum hba_part part = r->line->is_blind ? HBA_PART_TYPE : r->part;

	if (!r->line->is_blind && !hba_has_word(r->line->text, "reject"))
		return false;
	if (part <= HBA_PART_TYPE)
		rule->type = HBA_ANYWHERE;
	if (part <= HBA_PART_DATABASES)
		hba_make_any(&rule->databases);
	if (part <= HBA_PART_USERS)
		hba_make_any(&rule->users);
	if (part <= HBA_PART_ADDRESS)
		rule->addr = (struct hba_addr){ .kind = HBA_ADDR_ALL };
	rule->demand.method = AUTH_METHOD_REJECT;
	rule->demand.map = NULL;
	rule->demand.clientcert = HBA_CLIENTCERT_ANY;
	return true;
}
