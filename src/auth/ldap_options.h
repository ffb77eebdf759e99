/*
 * The options of the ldap method: the text of auth_ldap_options, or what
 * follows the method in a line of auth_hba_file, checked once and then
 * immutable. Needs no LDAP library.
 *
 *   ldapserver="one.example.com two.example.com" ldaptls=1
 *       ldapprefix="uid=" ldapsuffix=",ou=people,dc=example,dc=com"
 *   ldapurl="ldaps://ldap.example.com/dc=example,dc=com?uid?sub"
 */
#ifndef PGSLUICE_AUTH_LDAP_OPTIONS_H
#define PGSLUICE_AUTH_LDAP_OPTIONS_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

/* Bytes of option text; one more is too many. */
#define LDAP_OPTIONS_TEXT_MAX 1023

/* option, how its value is read, field */
#define LDAP_OPTION_TABLE(X)                      \
	X("ldapserver", SERVER, server)           \
	X("ldapport", PORT, port)                 \
	X("ldapscheme", SCHEME, is_ldaps)         \
	X("ldaptls", FLAG, start_tls)             \
	X("ldapprefix", TEXT, prefix)             \
	X("ldapsuffix", TEXT, suffix)             \
	X("ldapbasedn", TEXT, base_dn)            \
	X("ldapbinddn", TEXT, bind_dn)            \
	X("ldapbindpasswd", TEXT, bind_password)  \
	X("ldapsearchattribute", TEXT, attribute) \
	X("ldapsearchfilter", TEXT, filter)       \
	X("ldapurl", URL, server)

enum ldap_scope { LDAP_SEARCH_BASE, LDAP_SEARCH_ONE, LDAP_SEARCH_SUB };

/* Texts are NULL when they were not given or are empty. */
struct ldap_options {
	atomic_uint refs; /* private */
	char *server;     /* hosts with a blank between; NULL: those that DNS names for base_dn */
	int port;         /* 0: that of the scheme */
	bool is_ldaps;    /* TLS from the first byte */
	bool start_tls;
	char *prefix; /* either of these: bind as prefix, name, suffix */
	char *suffix;
	char *base_dn; /* otherwise: search below it, then bind as what was found */
	char *bind_dn; /* who searches; NULL: nobody in particular */
	char *bind_password;
	char *attribute;       /* NULL: uid */
	char *filter;          /* with $username inside; instead of the attribute */
	enum ldap_scope scope; /* of the search */
};

/*
 * Reads options: key=value, separated by blanks and commas; key and value may
 * each stand in double quotes, in which "" is one, and so may both together.
 * 0 and *out with one reference, or -E_SYNTAX (not of this form, an unknown
 * option, a bad value), -E_RANGE (too long) or -E_UNSUPPORTED (options that do
 * not go together, or one that is missing), with *out NULL and in `err` what is
 * wrong and what would be right. That never quotes what may be a password.
 */
int ldap_options_parse(struct slice text, struct ldap_options **out, char *err, size_t err_size) MUSTCHECK;

/* One more reference; returns its argument. Any thread. */
struct ldap_options *ldap_options_hold(struct ldap_options *o);

/* Gives one reference back and nulls the pointer; the last one wipes and frees. NULL inside is fine. Any thread. */
void ldap_options_release(struct ldap_options **o);

/*
 * True when the name is searched for; otherwise it is put between prefix and
 * suffix.
 */
bool ldap_options_search(const struct ldap_options *o);

/*
 * The name to bind as: prefix, name, suffix. When the prefix has a "=" the
 * result is a distinguished name, and what would have a meaning there is
 * escaped (RFC 4514). To be freed by the caller.
 */
char *ldap_options_bind_name(const struct ldap_options *o, const char *user) MUSTCHECK;

/*
 * The filter that finds a user, the name escaped (RFC 4515), to be freed by the
 * caller; or NULL for a name with a character that PostgreSQL refuses there:
 * one of * ( ) \ /.
 */
char *ldap_options_filter(const struct ldap_options *o, const char *user) MUSTCHECK;

#endif
