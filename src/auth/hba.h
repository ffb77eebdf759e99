/*
 * The rules of auth_hba_file: who may come from where, and how it has to show
 * who it is. The form is that of PostgreSQL's pg_hba.conf. A set of rules is
 * immutable, with a reference count; any thread may match.
 *
 *     local    database  user              method  options
 *     host     database  user  address     method  options
 *
 * Matching is pure. What it takes to know whether a user is a member of a
 * group, or whether an address belongs to a name, is asked by callbacks that
 * may not know yet: then the caller finds out, and asks again.
 */
#ifndef PGSLUICE_AUTH_HBA_H
#define PGSLUICE_AUTH_HBA_H

#include "auth/auth.h"
#include "auth/ident.h"
#include "auth/ldap_options.h"
#include "auth/rulefile.h"
#include "core/base.h"
#include "core/err.h"

struct hba;

/* id, word in the file */
#define HBA_TYPE_TABLE(X)               \
	X(HBA_LOCAL, "local")           \
	X(HBA_HOST, "host")             \
	X(HBA_HOSTSSL, "hostssl")       \
	X(HBA_HOSTNOSSL, "hostnossl")   \
	X(HBA_HOSTGSSENC, "hostgssenc") \
	X(HBA_HOSTNOGSSENC, "hostnogssenc")

/* What a rule says about the certificate of a client whose method is another. */
enum hba_clientcert {
	HBA_CLIENTCERT_ANY,
	HBA_CLIENTCERT_CA,   /* it must have one that verifies */
	HBA_CLIENTCERT_FULL, /* ... and in it its user's name */
};

/* Options of pam. */
struct hba_pam {
	const char *service; /* NULL: that of auth_pam_service */
	bool use_hostname;   /* modules are told the name of the client's host, and not its address */
};

/* What a matching rule demands; lives as long as the rules. */
struct hba_demand {
	enum auth_method method;
	const char *map; /* of the names of peer and cert, or NULL: they must be the user's */
	enum hba_clientcert clientcert;
	struct ldap_options *ldap; /* of ldap, when the line has options; else NULL */
	struct hba_pam pam;
	const char *file; /* for the log */
	unsigned line;
};

enum hba_replication {
	HBA_REPLICATION_NONE,
	HBA_REPLICATION_PHYSICAL,
	HBA_REPLICATION_LOGICAL, /* has a database */
};

/* A client at the door. */
struct hba_facts {
	const char *database;
	const char *user;
	enum hba_replication replication;
	bool is_unix;
	bool is_tls;
	uint8_t ip[16];  /* of a TCP client, in network order */
	unsigned ip_len; /* 4 or 16 bytes; 0 for a Unix socket */
	rule_ask_group ask_group;
	/* Whether the client's address belongs to that host name, or to one that ends so when it begins with a dot. */
	enum rule_answer (*ask_host)(void *ctx, const char *name);
	/* Whether the client's address is one of this machine's, or in one of its networks. */
	bool (*ask_own)(void *ctx, bool whole_net);
	void *ctx;
};

enum hba_verdict {
	HBA_FOUND,       /* *demand is what the first matching rule says */
	HBA_NONE,        /* no rule matches: nobody gets in */
	HBA_ASK,         /* an ask function has answered RULE_UNKNOWN: find out, and match again */
	HBA_CANNOT_TELL, /* the groups could not be asked for, and a rule depends on them: nobody gets in */
};

/* Finds the first rule that matches. */
enum hba_verdict hba_match(const struct hba *hba, const struct hba_facts *facts, const struct hba_demand **demand);

/*
 * False when nobody is let in to that database from there, whoever the user
 * is: then there is no need to find out who that is. Neither looks at
 * facts->user nor asks anything.
 */
bool hba_may_admit(const struct hba *hba, const struct hba_facts *facts);

/*
 * Reads the rules. `ident`, of which a reference is taken, has the maps that
 * they name. 0 with *out held once; -E_SYS when the file cannot be read or the
 * path is empty, or -E_SYNTAX when it has a fault and the report is strict: *out
 * is then untouched, and the report knows why.
 */
int hba_load(const struct rulefile_io *io, const char *path, struct ident *ident, const struct rule_report *report,
	     struct hba **out) MUSTCHECK;

/* Rules that let nobody in. */
struct hba *hba_new_empty(void) MUSTCHECK;

struct hba *hba_hold(struct hba *hba);
/* Nulls the pointer; NULL inside is fine. */
void hba_release(struct hba **hba);

/* The maps that belong to the rules. */
const struct ident *hba_ident(const struct hba *hba);

/* Number of rules. */
size_t hba_count(const struct hba *hba);

/* The first rule that takes a client, or lets it go on, by its certificate; NULL: none does. */
const struct hba_demand *hba_first_cert(const struct hba *hba);

/* True when both have the same rules and the same maps. */
bool hba_is_equal(const struct hba *a, const struct hba *b);

#endif
