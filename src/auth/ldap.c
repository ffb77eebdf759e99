/*
 * The ldap method, in two modes:
 *
 *   simple   one bind as prefix, name, suffix
 *   search   a bind as the one who searches (or as nobody), a search that must
 *            find exactly one entry, and a bind as that on the same connection
 *
 * A library call ends: connecting and TLS have LDAP_CONNECT_S for each server,
 * an answer has LDAP_ANSWER_S. Only the resolver of libc goes by its own
 * timeouts. Certificates of servers are checked as ldap.conf(5) says, by
 * default against its TLS_CACERT.
 *
 * Those who guess names shall not see which of them are there: when the search
 * finds none that will do, the server is asked about the password all the same, for an
 * entry that there is not. What it takes to look something up is the server's.
 *
 * What libldap itself keeps of a password until it has sent it cannot be wiped
 * from here.
 */
#include "auth/ldap.h"

#include <pthread.h>

#include "core/alloc.h"

#ifdef HAVE_LDAP

#define LDAP_DEPRECATED 0
#include <ldap.h>

#define LDAP_CONNECT_S 3  /* for each server, as in PgBouncer */
#define LDAP_ANSWER_S  10 /* for each question */

/* The first part of a name that no entry has. */
#define LDAP_NO_ENTRY  "cn=pgsluice: no such user"

/* One check under way. */
struct ldap_ask {
	const struct ldap_options *o;
	LDAP *ld;
	char *detail;
	size_t detail_size;
};

bool ldap_is_supported(void)
{
	return true;
}

/* Notes what has failed, and says whether the server has refused or could not be asked. */
static int ldap_ask_fail(struct ldap_ask *ask, const char *what, int rc)
{
	char *more = NULL;

	if (ask->ld != NULL)
		ldap_get_option(ask->ld, LDAP_OPT_DIAGNOSTIC_MESSAGE, &more);
	str_format(ask->detail, ask->detail_size, "%s: %s%s%s", what, ldap_err2string(rc),
		   more == NULL || *more == '\0' ? "" : ": ", more == NULL ? "" : more);
	ldap_memfree(more);
	if (LDAP_API_ERROR(rc) || rc == LDAP_BUSY || rc == LDAP_UNAVAILABLE || rc == LDAP_OTHER)
		return -E_IO;
	return -E_AUTH;
}

static int ldap_ask_refuse(struct ldap_ask *ask, const char *why)
{
	str_format(ask->detail, ask->detail_size, "%s", why);
	return -E_AUTH;
}

/* Appends the URL of each host of a list with blanks; `port` 0: they have ports of their own. */
static void ldap_ask_append_urls(char *urls, size_t size, const char *hosts, bool is_ldaps, int port)
{
	while (*hosts != '\0') {
		size_t n = strcspn(hosts, " ");

		if (n > 0)
			str_append(urls, size, "%s%s://%.*s", urls[0] == '\0' ? "" : " ", is_ldaps ? "ldaps" : "ldap",
				   (int)n, hosts);
		if (n > 0 && port > 0)
			str_append(urls, size, ":%d", port);
		hosts += n;
		hosts += strspn(hosts, " ");
	}
}

/* The servers that DNS has for the domain of the base (RFC 2247, RFC 2782): "host:port host:port". */
static int ldap_ask_dns(struct ldap_ask *ask, char **hosts)
{
	char *domain = NULL;
	int rc = -1;

	*hosts = NULL;
	if (ldap_dn2domain(ask->o->base_dn, &domain) == 0 && domain != NULL && *domain != '\0')
		rc = ldap_domain2hostlist(domain, hosts);
	ldap_memfree(domain);
	if (rc == 0 && *hosts != NULL && **hosts != '\0')
		return 0;
	ldap_memfree(*hosts);
	*hosts = NULL;
	str_format(ask->detail, ask->detail_size,
		   "no ldapserver, and DNS has no SRV record for the domain of ldapbasedn");
	return -E_IO;
}

/* All servers as one list of URLs, to be freed. */
static int ldap_ask_urls(struct ldap_ask *ask, char **urls)
{
	const struct ldap_options *o = ask->o;
	int port = o->port != 0 ? o->port : o->is_ldaps ? LDAPS_PORT : LDAP_PORT;
	char *found = NULL;
	const char *hosts = o->server;
	size_t size;

	if (hosts == NULL) {
		int err = ldap_ask_dns(ask, &found);

		if (err != 0)
			return err;
		hosts = found;
		port = 0;
	}
	/* A host takes two bytes of the list at least, and what is put around each is shorter than 32. */
	size = strlen(hosts) + 1 + (strlen(hosts) / 2 + 1) * 32;
	*urls = xcalloc(1, size);
	ldap_ask_append_urls(*urls, size, hosts, o->is_ldaps, port);
	ldap_memfree(found);
	return 0;
}

static int ldap_ask_set_options(struct ldap_ask *ask)
{
	const struct timeval connect = { .tv_sec = LDAP_CONNECT_S };
	const struct timeval answer = { .tv_sec = LDAP_ANSWER_S };
	const int version = LDAP_VERSION3;
	int rc = ldap_set_option(ask->ld, LDAP_OPT_PROTOCOL_VERSION, &version);

	if (rc == LDAP_SUCCESS)
		rc = ldap_set_option(ask->ld, LDAP_OPT_NETWORK_TIMEOUT, &connect);
	if (rc == LDAP_SUCCESS)
		rc = ldap_set_option(ask->ld, LDAP_OPT_TIMEOUT, &answer);
	return rc;
}

static pthread_once_t ldap_ask_once = PTHREAD_ONCE_INIT;

/* libldap reads its own configuration at its first use, which several threads must not do at once. */
static void ldap_ask_init_library(void)
{
	LDAPAPIInfo info = { .ldapai_info_version = LDAP_API_INFO_VERSION };

	if (ldap_get_option(NULL, LDAP_OPT_API_INFO, &info) != LDAP_OPT_SUCCESS)
		return;
	ldap_memfree(info.ldapai_vendor_name);
	ber_memvfree((void **)info.ldapai_extensions);
}

/* A handle on the servers, with StartTLS behind it when that is asked for. */
static int ldap_ask_open(struct ldap_ask *ask)
{
	char *urls;
	int rc;
	int err = ldap_ask_urls(ask, &urls);

	if (err != 0)
		return err;
	pthread_once(&ldap_ask_once, ldap_ask_init_library);
	rc = ldap_initialize(&ask->ld, urls);
	free(urls);
	if (rc != LDAP_SUCCESS) {
		ask->ld = NULL;
		ldap_ask_fail(ask, "could not prepare for the LDAP server", rc);
		return -E_IO;
	}
	rc = ldap_ask_set_options(ask);
	if (rc != LDAP_SUCCESS)
		return ldap_ask_fail(ask, "could not set options of LDAP", rc);
	if (!ask->o->start_tls)
		return 0;
	rc = ldap_start_tls_s(ask->ld, NULL, NULL);
	if (rc != LDAP_SUCCESS) {
		ldap_ask_fail(ask, "StartTLS with the LDAP server", rc);
		return -E_IO;
	}
	return 0;
}

/* A simple bind; `name` may be empty. */
static int ldap_ask_bind(struct ldap_ask *ask, const char *name, const char *password)
{
	struct berval cred = { .bv_len = strlen(password), .bv_val = (char *)password /* only read */ };

	return ldap_sasl_bind_s(ask->ld, name, LDAP_SASL_SIMPLE, &cred, NULL, NULL, NULL);
}

/* The name of the one entry of a result, to be given back with ldap_memfree(). */
static int ldap_ask_take_entry(struct ldap_ask *ask, LDAPMessage *result, char **name)
{
	int n = ldap_count_entries(ask->ld, result);

	if (n == 0)
		return ldap_ask_refuse(ask, "the LDAP search finds no such user");
	if (n != 1)
		return ldap_ask_refuse(ask, "the LDAP search finds more than one entry for the user");
	*name = ldap_get_dn(ask->ld, ldap_first_entry(ask->ld, result));
	if (*name != NULL && **name != '\0')
		return 0;
	ldap_memfree(*name);
	*name = NULL;
	return ldap_ask_refuse(ask, "the LDAP server gives no name for the entry that it has found");
}

/* Looks for the entry of the user. */
static int ldap_ask_search(struct ldap_ask *ask, const char *user, char **name)
{
	static const int scopes[] = {
		[LDAP_SEARCH_BASE] = LDAP_SCOPE_BASE,
		[LDAP_SEARCH_ONE] = LDAP_SCOPE_ONELEVEL,
		[LDAP_SEARCH_SUB] = LDAP_SCOPE_SUBTREE,
	};
	const struct ldap_options *o = ask->o;
	struct timeval timeout = { .tv_sec = LDAP_ANSWER_S };
	char no_attributes[] = LDAP_NO_ATTRS;
	char *attributes[] = { no_attributes, NULL };
	char *filter = ldap_options_filter(o, user);
	LDAPMessage *result = NULL;
	int err;
	int rc;

	*name = NULL;
	if (filter == NULL)
		return ldap_ask_refuse(ask, "the user name has a character that must not be in an LDAP search");
	rc = ldap_ask_bind(ask, o->bind_dn == NULL ? "" : o->bind_dn, o->bind_password == NULL ? "" : o->bind_password);
	if (rc != LDAP_SUCCESS) {
		free(filter);
		ldap_ask_fail(ask, "could not bind for the LDAP search", rc);
		return -E_IO;
	}
	/* Two are enough to know that there is not one. */
	rc = ldap_search_ext_s(ask->ld, o->base_dn, scopes[o->scope], filter, attributes, 0, NULL, NULL, &timeout, 2,
			       &result);
	free(filter);
	if (rc == LDAP_SUCCESS || rc == LDAP_SIZELIMIT_EXCEEDED) {
		err = ldap_ask_take_entry(ask, result, name);
	} else {
		ldap_ask_fail(ask, "the LDAP search failed", rc);
		err = -E_IO;
	}
	ldap_msgfree(result);
	return err;
}

/* Asks what a user who is there would be asked about; whatever the answer is. */
static void ldap_ask_in_vain(struct ldap_ask *ask, const char *password)
{
	const char *base = ask->o->base_dn == NULL ? "" : ask->o->base_dn;
	size_t size = sizeof(LDAP_NO_ENTRY) + 1 + strlen(base);
	char *name = xmalloc(size);

	str_format(name, size, "%s%s%s", LDAP_NO_ENTRY, *base == '\0' ? "" : ",", base);
	(void)ldap_ask_bind(ask, name, password);
	free(name);
}

static int ldap_ask_run(struct ldap_ask *ask, const char *user, const char *password)
{
	char *name = NULL;
	int err = ldap_ask_open(ask);
	int rc;

	if (err != 0)
		return err;
	if (!ldap_options_search(ask->o)) {
		name = ldap_options_bind_name(ask->o, user);
		rc = ldap_ask_bind(ask, name, password);
		free(name);
	} else {
		err = ldap_ask_search(ask, user, &name);
		if (err == -E_AUTH)
			ldap_ask_in_vain(ask, password);
		if (err != 0)
			return err;
		rc = ldap_ask_bind(ask, name, password);
		ldap_memfree(name);
	}
	return rc == LDAP_SUCCESS ? 0 : ldap_ask_fail(ask, "LDAP bind", rc);
}

int ldap_check(const struct ldap_options *o, const char *user, const char *password, char *detail, size_t detail_size)
{
	struct ldap_ask ask = { .o = o, .detail = detail, .detail_size = detail_size };
	int err;

	detail[0] = '\0';
	if (password[0] == '\0')
		return ldap_ask_refuse(&ask, "empty password");
	err = ldap_ask_run(&ask, user, password);
	if (ask.ld != NULL)
		ldap_unbind_ext_s(ask.ld, NULL, NULL);
	return err;
}

#else /* !HAVE_LDAP */

bool ldap_is_supported(void)
{
	return false;
}

int ldap_check(const struct ldap_options *o UNUSED, const char *user UNUSED, const char *password UNUSED, char *detail,
	       size_t detail_size)
{
	str_format(detail, detail_size, "ldap is not supported by this build");
	return -E_UNSUPPORTED;
}

#endif
