/*
 * What hba.c (rules in use) and hba_parse.c (rules from lines) share.
 */
#ifndef PGSLUICE_AUTH_HBA_INT_H
#define PGSLUICE_AUTH_HBA_INT_H

#include "auth/hba.h"
#include "auth/pattern.h"

enum hba_type {
#define X(id, word) id,
	HBA_TYPE_TABLE(X)
#undef X
		HBA_ANYWHERE, /* of a line that rejects and could not be read */
};

/* One element of a list of databases or users. */
enum hba_name_kind {
	HBA_NAME_EXACT,
	HBA_NAME_ALL,         /* not physical replication */
	HBA_NAME_ANYTHING,    /* of a line that rejects and could not be read */
	HBA_NAME_SAMEUSER,    /* the database is called like the user */
	HBA_NAME_SAMEROLE,    /* the user is a member of a group called like the database */
	HBA_NAME_REPLICATION, /* physical replication */
	HBA_NAME_GROUP,       /* `text` is its name */
	HBA_NAME_PATTERN,
};

struct hba_name {
	enum hba_name_kind kind;
	const char *text;
	struct pattern *pattern;
};

struct hba_list {
	struct hba_name *names;
	size_t count;
};

enum hba_addr_kind {
	HBA_ADDR_ALL, /* also of local rules */
	HBA_ADDR_NET,
	HBA_ADDR_NOTHING, /* a net that no address is in, as PgBouncer has it */
	HBA_ADDR_SAMEHOST,
	HBA_ADDR_SAMENET,
	HBA_ADDR_HOST, /* a name, or the end of one with a dot in front */
};

struct hba_addr {
	enum hba_addr_kind kind;
	uint8_t net[16];
	uint8_t mask[16];
	unsigned len; /* bytes of both: 4 or 16 */
	const char *name;
};

struct hba_rule {
	enum hba_type type;
	struct hba_list databases;
	struct hba_list users;
	struct hba_addr addr;
	struct hba_demand demand;
};

/* The parts of a line, in their order. */
enum hba_part {
	HBA_PART_TYPE,
	HBA_PART_DATABASES,
	HBA_PART_USERS,
	HBA_PART_ADDRESS,
	HBA_PART_METHOD, /* with the options */
};

/* What is wrong with a line, or noteworthy, and what would be right. */
struct hba_fault {
	char what[512];
	char hint[512]; /* "" when there is none */
};

/* What reading a line has at hand, and finds. */
struct hba_reader {
	const struct rulefile_line *line;
	const struct ident *ident;
	bool is_strict;
	size_t at;              /* the next field */
	enum hba_part part;     /* at work */
	struct hba_rule *rule;  /* zeroed at first */
	struct hba_fault fault; /* when it fails */
	char warning[512];      /* "" or something that is odd about a line that was read */
	const char *beyond;     /* what PgBouncer would skip the line for, or NULL */
};

/* Reads the line into the rule; false with the fault. What the rule holds is to be given back in any case. */
bool hba_parse_line(struct hba_reader *r);

/* True when the line, which could not be read, wants to reject somebody: makes a rule of what is clear of it. */
bool hba_parse_reject(struct hba_reader *r);

/* Both give back what it holds; the struct may be used again. */
void hba_fini_list(struct hba_list *list);
void hba_fini_rule(struct hba_rule *rule);

#endif
