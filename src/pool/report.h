/*
 * What the pooler says in its own name: errors and notices to clients, and log
 * lines about connections. The one place where an error is given its form.
 */
#ifndef PGSLUICE_POOL_REPORT_H
#define PGSLUICE_POOL_REPORT_H

#include "core/buf.h"
#include "core/log.h"
#include "core/reason_tbl.h"
#include "net/sock.h"
#include "pool/breaker_set.h"
#include "pool/engine.h"

struct client;
struct pool_refusal;
struct server;

#define REPORT_TEXT_MAX   2048
#define REPORT_DETAIL_MAX 512

/* An error to be told. */
struct report {
	char text[REPORT_TEXT_MAX];
	char sqlstate[6];
	char detail[REPORT_DETAIL_MAX]; /* "": none */
	const char *hint;               /* or NULL; not copied */
	char hint_room[96];             /* for one that is made for the occasion */
	const char *routine;            /* the field R, or NULL; not copied */
	bool is_server;                 /* text and state are a server's own: told in every style */
};

/* Facts for the templates of reason_tbl.h, with room for those that are made for the occasion. */
struct report_facts {
	struct reason_facts known;
	char server[SOCK_ADDR_TEXT];
	char error[128];
	char breaker[BREAKER_EVIDENCE_MAX];
	char limit[24];
	char timeout[24];
	char time[24];
};

/* Facts that are numbers: a count, or microseconds. */
void report_fact_limit(struct report_facts *facts, uint64_t limit);
void report_fact_timeout(struct report_facts *facts, uint64_t us);
void report_fact_time(struct report_facts *facts, uint64_t us);

/* What there is to say about a client that is closed for this reason. Its own thread. */
void report_client_facts(struct report_facts *facts, const struct client *client, enum reason reason);

/* An error from a row of reason_tbl.h. `facts` NULL: nothing is known. */
void report_reason(struct report *r, const struct conf *conf, enum reason reason, const struct reason_facts *facts);

/* Why the client gets no server and does not wait for one; not of REASON_CACHED_ERROR. Its own thread. */
void report_refusal(struct report *r, const struct client *client, const struct pool_refusal *refusal);

/* One with a text of its own, which `conf` NULL leaves whole in every style. `hint` lives as long as the error, or is
 * NULL. */
void report_text(struct report *r, const struct conf *conf, const char *text, const char *sqlstate, const char *hint);

/* One that a server has told. */
void report_server(struct report *r, const char *text, const char *sqlstate);

/*
 * Logs the error under log_pooler_errors and appends an ErrorResponse in the
 * style of error_style: with PgBouncer's the state is 08P01 unless the error is
 * a server's, and there is neither detail nor hint.
 */
int report_error(struct buf *b, const struct conf *conf, struct log_about *about, const char *severity,
		 const struct report *r) MUSTCHECK;

/* The same without the log. */
int report_build(struct buf *b, const struct conf *conf, const char *severity, const struct report *r) MUSTCHECK;

/* Appends a NoticeResponse; `detail` may be NULL, and is shown in every style. */
int report_notice(struct buf *b, const struct conf *conf, const char *text, const char *detail) MUSTCHECK;

/* Appends login_notify_message, if there is one, as a notice. */
int report_login_notice(struct buf *b, const struct conf *conf) MUSTCHECK;

/* Logs, under log_disconnections, why a connection is closed that is so old. */
void report_close(const struct conf *conf, const struct log_about *about, const char *why, uint64_t age_us);

/* Logs that a connection to a server stands; `fd` is its socket. For log_connections. */
void report_connected(const struct log_about *about, const struct sock_addr *addr, int fd);

/* Who a client is: address and names, for the log. What is not known is NULL. */
void report_about(struct log_about *about, const void *object, uint64_t id, const char *database, const char *user);
void report_about_peer(struct log_about *about, const struct sock_peer *peer, int unix_port);
void report_about_addr(struct log_about *about, const struct sock_addr *addr, int unix_port);

#endif
