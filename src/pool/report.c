#include "pool/report.h"

#include "core/str.h"
#include "pool/client.h"
#include "pool/server.h"
#include "proto/build.h"

/* The state of every error of PgBouncer's own, and where it cuts a text. */
#define REPORT_PLAIN_STATE "08P01"
#define REPORT_PLAIN_TEXT  127

static bool report_is_strict(const struct conf *conf)
{
	return conf->error_style == CONF_ERROR_POSTGRES;
}

/* ---- facts ---- */

void report_fact_limit(struct report_facts *facts, uint64_t limit)
{
	str_format(facts->limit, sizeof(facts->limit), "%" PRIu64, limit);
	facts->known.limit = facts->limit;
}

static void report_format_time(char *dst, size_t size, uint64_t us)
{
	if (us < USEC_PER_SEC)
		str_format(dst, size, "%" PRIu64 " ms", us / 1000);
	else if (us % USEC_PER_SEC == 0 || us > 100 * USEC_PER_SEC)
		str_format(dst, size, "%" PRIu64 " s", us / USEC_PER_SEC);
	else
		str_format(dst, size, "%.1f s", (double)us / USEC_PER_SEC);
}

void report_fact_timeout(struct report_facts *facts, uint64_t us)
{
	report_format_time(facts->timeout, sizeof(facts->timeout), us);
	facts->known.timeout = facts->timeout;
}

void report_fact_time(struct report_facts *facts, uint64_t us)
{
	report_format_time(facts->time, sizeof(facts->time), us);
	facts->known.time = facts->time;
}

/* Sets a timeout and what has passed of it. */
static void report_fact_times(struct report_facts *facts, uint64_t timeout_us, uint64_t since_us, uint64_t now_us)
{
	report_fact_timeout(facts, timeout_us);
	if (since_us > 0 && now_us >= since_us)
		report_fact_time(facts, now_us - since_us);
}

static void report_fact_failure(struct report_facts *facts, struct pool *pool)
{
	lock_acquire(&pool->lock);
	if (pool->login_failed)
		str_copy(facts->error, sizeof(facts->error), pool->failure);
	lock_release(&pool->lock);
	facts->known.error = facts->error;
}

void report_client_facts(struct report_facts *facts, const struct client *client, enum reason reason)
{
	const struct pool_conf *pc = client->part->conf;
	const struct conf *conf = client->part->worker->ctx.snap->conf;
	const struct server *server = client->server;
	uint64_t now = loop_now_us(client->part->worker->ctx.loop);

	*facts =
		(struct report_facts){ .known = { .database = client->pool->db->name, .user = client->account->name } };
	report_fact_failure(facts, client->pool);
	if (server != NULL && server->addr.len > 0) {
		sock_addr_format(&server->addr, facts->server, sizeof(facts->server));
		facts->known.server = facts->server;
	}
	switch (reason) {
	case REASON_LOGIN_TIMEOUT_DOWN:
		report_fact_timeout(facts, conf->client_login_timeout_us);
		break;
	case REASON_QUERY_WAIT_TIMEOUT:
		report_fact_times(facts, client->query_wait_timeout_us, client_waits_since_us(client), now);
		break;
	case REASON_CACHED_ERROR:
		report_fact_timeout(facts, pc->server_login_retry_us);
		break;
	case REASON_CLIENT_IDLE_TIMEOUT:
		report_fact_times(facts, client->idle_timeout_us, client->request_us, now);
		break;
	case REASON_SUSPEND_TIMEOUT:
		report_fact_timeout(facts, conf->suspend_timeout_us);
		break;
	case REASON_QUERY_TIMEOUT:
		report_fact_times(facts, query_timeout_limit_us(client), query_timeout_since_us(client), now);
		break;
	case REASON_IDLE_TX_TIMEOUT:
		report_fact_times(facts, pc->idle_transaction_timeout_us, server == NULL ? 0 : server->active_us, now);
		break;
	case REASON_TX_TIMEOUT:
		report_fact_times(facts, pc->transaction_timeout_us, client->xact_us, now);
		break;
	default:
		break;
	}
}

/* ---- errors ---- */

/* An error of ours that has nothing but text and state yet. */
static void report_begin(struct report *r, const char *text, const char *sqlstate)
{
	str_copy(r->text, sizeof(r->text), text);
	str_copy(r->sqlstate, sizeof(r->sqlstate), sqlstate);
	r->detail[0] = '\0';
	r->hint = NULL;
	r->hint_room[0] = '\0';
	r->routine = NULL;
	r->is_server = false;
}

/* PgBouncer's length, but no half of a character at the end. */
static void report_cut(const struct conf *conf, char *text)
{
	if (conf != NULL && !report_is_strict(conf))
		text[slice_cut(slice_of(text), REPORT_PLAIN_TEXT).n] = '\0';
}

void report_reason(struct report *r, const struct conf *conf, enum reason reason, const struct reason_facts *facts)
{
	report_begin(r, "", reason_sqlstate(reason));
	reason_write_text(reason, facts, r->text, sizeof(r->text));
	report_cut(conf, r->text);
	(void)reason_write_detail(reason, facts, r->detail, sizeof(r->detail));
	r->hint = reason_hint(reason);
}

/* Which breaker refuses, and why it does. */
static void report_fact_breaker(struct report_facts *facts, const struct endpoint_list *list, unsigned index)
{
	if (index >= list->count)
		return; /* the settings have changed meanwhile */
	str_copy(facts->server, sizeof(facts->server), list->items[index]->name);
	facts->known.server = facts->server;
	breaker_set_explain(list->sets[index], facts->breaker, sizeof(facts->breaker));
	facts->known.error = facts->breaker;
}

void report_refusal(struct report *r, const struct client *client, const struct pool_refusal *refusal)
{
	struct report_facts facts;

	report_client_facts(&facts, client, refusal->reason);
	report_fact_limit(&facts, refusal->limit);
	report_fact_time(&facts, refusal->wait_us);
	report_fact_timeout(&facts, refusal->left_us);
	if (refusal->reason == REASON_BREAKER_OPEN)
		report_fact_breaker(&facts, &client->part->conf->endpoints, refusal->endpoint);
	report_reason(r, client->part->worker->ctx.snap->conf, refusal->reason, &facts.known);
	if (refusal->reason == REASON_QUEUE_SLOW)
		str_format(r->hint_room, sizeof(r->hint_room), "The estimated wait is %" PRIu64 " ms. Try again later.",
			   refusal->wait_us / 1000);
	else if (refusal->reason == REASON_BREAKER_OPEN && refusal->wait_us != BREAKER_FOREVER)
		str_format(r->hint_room, sizeof(r->hint_room), "retry after %" PRIu64 " ms",
			   (refusal->wait_us + 999) / 1000);
	if (r->hint_room[0] != '\0')
		r->hint = r->hint_room;
}

void report_text(struct report *r, const struct conf *conf, const char *text, const char *sqlstate, const char *hint)
{
	report_begin(r, text, sqlstate);
	report_cut(conf, r->text);
	r->hint = hint;
}

void report_server(struct report *r, const char *text, const char *sqlstate)
{
	report_begin(r, text, sqlstate);
	r->is_server = true;
}

int report_build(struct buf *b, const struct conf *conf, const char *severity, const struct report *r)
{
	bool strict = report_is_strict(conf);
	struct build_report message = {
		.severity = slice_of(severity),
		.sqlstate = slice_of(strict || r->is_server ? r->sqlstate : REPORT_PLAIN_STATE),
		.message = slice_of(r->text),
		.detail = slice_of(strict ? r->detail : ""),
		.hint = slice_of(strict && r->hint != NULL ? r->hint : ""),
		.routine = slice_of(r->routine != NULL ? r->routine : ""),
		.with_plain_severity = strict,
	};

	return build_error(b, &message);
}

int report_error(struct buf *b, const struct conf *conf, struct log_about *about, const char *severity,
		 const struct report *r)
{
	if (conf->log_pooler_errors != 0) {
		str_copy(about->sqlstate, sizeof(about->sqlstate), r->sqlstate);
		log_warning_about(about, "pooler error: %s", r->text);
	}
	return report_build(b, conf, severity, r);
}

int report_notice(struct buf *b, const struct conf *conf, const char *text, const char *detail)
{
	struct build_report message = {
		.severity = slice_of("NOTICE"),
		.sqlstate = slice_of("00000"),
		.message = slice_of(text),
		.detail = slice_of(detail == NULL ? "" : detail),
		.with_plain_severity = report_is_strict(conf),
	};

	return build_notice(b, &message);
}

int report_login_notice(struct buf *b, const struct conf *conf)
{
	const char *text = conf->login_notify_message;

	return str_is_set(text) ? report_notice(b, conf, text, NULL) : 0;
}

/* ---- the log ---- */

void report_close(const struct conf *conf, const struct log_about *about, const char *why, uint64_t age_us)
{
	if (conf->log_disconnections != 0)
		log_info_about(about, "closing because: %s (age=%" PRIu64 "s)", why, age_us / USEC_PER_SEC);
}

void report_connected(const struct log_about *about, const struct sock_addr *addr, int fd)
{
	char text[SOCK_ADDR_TEXT];
	struct sock_addr local;

	if (sock_addr_is_unix(addr) || sock_local_addr(fd, &local) != 0) {
		log_info_about(about, "new connection to server");
		return;
	}
	sock_addr_format(&local, text, sizeof(text));
	log_info_about(about, "new connection to server (from %s)", text);
}

void report_about(struct log_about *about, const void *object, uint64_t id, const char *database, const char *user)
{
	*about = (struct log_about){ .kind = 'C', .object = object, .id = id };
	str_copy(about->database, sizeof(about->database), database == NULL ? "" : database);
	str_copy(about->user, sizeof(about->user), user == NULL ? "" : user);
}

void report_about_addr(struct log_about *about, const struct sock_addr *addr, int unix_port)
{
	char host[SOCK_ADDR_TEXT] = "?";
	unsigned port = sock_addr_port(addr);

	if (addr->len > 0)
		sock_addr_log_host(addr, 0, host, sizeof(host));
	str_format(about->peer, sizeof(about->peer), "%s:%u", host, port == 0 ? (unsigned)unix_port : port);
}

void report_about_peer(struct log_about *about, const struct sock_peer *peer, int unix_port)
{
	struct sock_addr addr;

	if (peer->family == AF_UNIX) {
		str_format(about->peer, sizeof(about->peer), "unix(%d):%d", (int)sock_peer_pid(peer), unix_port);
		return;
	}
	sock_peer_get(peer, &addr);
	report_about_addr(about, &addr, unix_port);
}
