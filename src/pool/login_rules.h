/*
 * What a login has to show, where rules decide: from auth_hba_file to a method,
 * and who a client is whom the kernel or a certificate names (peer, cert). What
 * it takes to know that is asked elsewhere, see login_names.c. All of it runs on
 * the login's own loop.
 */
#ifndef PGSLUICE_POOL_LOGIN_RULES_H
#define PGSLUICE_POOL_LOGIN_RULES_H

#include "auth/hba.h"
#include "pool/login_int.h"

/* What is to be asked before a decision can be made. */
enum login_question {
	LOGIN_ASK_NOTHING,
	LOGIN_ASK_ROLES,  /* whose member the user is */
	LOGIN_ASK_HOST,   /* the addresses of a host name */
	LOGIN_ASK_CLIENT, /* the host name of the client */
	LOGIN_ASK_SYSTEM, /* the name of the system user at the other end of a Unix socket */
};

/* Answers to questions about host names, those with a dot in front among them. */
struct login_host {
	const char *name; /* belongs to the rules */
	enum rule_answer answer;
};

/* A login that rules decide about: what is known so far. */
struct login_rules {
	const struct user *user;         /* NULL: unknown */
	const struct hba_demand *demand; /* NULL: no rule was found yet */
	enum login_question question;    /* the next one */
	const char *host;                /* of LOGIN_ASK_HOST */
	enum rule_answer roles_state;    /* RULE_YES: `roles` is known */
	struct auth_answer *roles;
	struct login_host *hosts;
	size_t host_count;
	enum rule_answer client_state; /* RULE_YES: client_name is known; RULE_NO: it has none */
	char *client_name;
	enum rule_answer system_state; /* likewise */
	char *system_name;
	char denied[256]; /* why it is not the user, for the log; "" when it is */
};

/* The login goes on by rules; `user` is NULL when the name is unknown, and lives as long as the login. */
void login_rules_begin(struct login *login, const struct user *user);

/*
 * False when the rules let nobody in to that database from there, whoever it
 * is: a stranger whom they keep out must not cause queries.
 */
bool login_rules_may_admit(struct login *login);

/* Asks what login->rules->question says; then, or later, calls login_rules_go(). */
void login_names_ask(struct login *login);

/* Decides, or asks for what is missing. */
void login_rules_go(struct login *login);

#endif
