/*
 * What a probe of an endpoint finds out: the questions, and reading the answers.
 * Pure: text in, facts out.
 */
#ifndef PGSLUICE_POOL_HEALTH_FACTS_H
#define PGSLUICE_POOL_HEALTH_FACTS_H

#include "core/base.h"
#include "core/str.h"

#define HEALTH_ERROR_MAX 256

/* What one probe has found. */
struct health_facts {
	bool is_reachable;   /* it answers, and is neither starting nor stopping; and health_query has succeeded */
	bool is_silent;      /* nobody has answered a new connection, though there was time for that */
	uint64_t silent_at;  /* ... at the address of this endpoint_mark() */
	bool knows_role;     /* the two below hold */
	bool is_standby;     /* it is in recovery */
	bool is_read_only;   /* default_transaction_read_only, whatever the role */
	uint32_t timeline;   /* 0: not known */
	uint64_t system_id;  /* of the cluster, the same for a primary and its standbys; 0: not known */
	uint64_t lsn;        /* written, or replayed by a standby, in bytes; 0: not known */
	int64_t lag_ms;      /* of a standby, since the last transaction it has replayed; -1: not known */
	int connections;     /* in use; -1: not known */
	int max_connections; /* likewise */
	uint64_t latency_us; /* how long the answer took; 0: there was none */
	char error[HEALTH_ERROR_MAX]; /* what went wrong; "": nothing */
};

/* The questions, from the one that asks for everything to the one that everybody may ask. */
enum health_question { HEALTH_ASK_ALL, HEALTH_ASK_ROLE, HEALTH_QUESTIONS };

/* Facts of which nothing is known. */
void health_facts_init(struct health_facts *facts);

/* The text of a question; it answers in one row. */
const char *health_question_text(enum health_question question);

/*
 * Reads the row that a question was answered with; an entry of `values` is NULL
 * for SQL's null. 0, or -E_SYNTAX when the row is not one of ours: then the role
 * stays unknown.
 */
int health_facts_read(struct health_facts *facts, const char *const *values, size_t count) MUSTCHECK;

/*
 * What libpq says about a connection that failed, with PQERRORS_VERBOSE: the
 * server's SQLSTATE if the server has refused it, else "" (it was not reached, or
 * the reason is on our side); and the text for people, in one line.
 */
void health_error_read(const char *message, char sqlstate[6], char *text, size_t size);

/* True for a state with which a server says that it takes nobody now: it starts, stops, or has crashed. */
bool health_is_refusing(const char *sqlstate);

#endif
