/*
 * One client. Its life:
 *
 *	CL_CLOSED -> CL_CONNECTING -> CL_LOGIN -> CL_READY <-> CL_BUSY -> CL_CLOSED ...
 *	                                             ^            |
 *	                                             +- CL_RESYNC <+
 *
 * CL_BUSY plays a script and compares each message with it. A cancel request that this client sent may end any
 * statement at any point, and then nobody can foretell what the rest of the script will answer. In that case, and in
 * no other but the loss of its server, the client gives the script up (CL_RESYNC): it finishes the message it is in,
 *adds a Sync and a query that rolls back and returns a fresh number, and reads until that number comes. Meanwhile rows
 *still have to be its own.
 *
 * What is forgiven: the loss of a session while servers are lost (options.chaos) or when the script kills its own
 * server; a cancelled statement after a cancel request by this very connection; what a command of the administrator
 * explains (excuse.h). Nothing else.
 */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "actor.h"
#include "cancel.h"
#include "check.h"
#include "direct.h"
#include "excuse.h"
#include "report.h"
#include "script.h"
#include "shape.h"
#include "startup.h"

#define CLIENT_MAX_MESSAGE  (256 * 1024 * 1024)
#define CLIENT_READ_BYTES   65536
#define CLIENT_SLOW_BYTES   100000 /* so much of an operation is sent in small pieces, or read slowly */
#define CLIENT_MAX_RESYNCS  10
#define CLIENT_KEEP_BYTES   (256 * 1024)
#define CLIENT_LOGIN_PPM    10000 /* logins that are left in the middle */
#define CLIENT_NO_DEATH     SIZE_MAX
#define CLIENT_PROOF        5 /* operations that everybody finishes when the administrator has gone */
#define CLIENT_EXTRA_ONE_IN 5 /* clients that use the extra database */
#define CLIENT_WHO_BYTES    32
#define CLIENT_STALE_ONE_IN 6 /* new sessions that send a cancel request with the key of the one before */

enum client_state {
	CL_CLOSED,
	CL_CONNECTING,
	CL_LOGIN,
	CL_READY,
	CL_BUSY,
	CL_RESYNC,
	CL_GONE,
};

static const char *const client_states[] = { "closed", "connecting", "login", "ready", "busy", "resync", "gone" };

/* How a client leaves. */
enum client_exit {
	EXIT_FIN,
	EXIT_RST,
	EXIT_HALF, /* shutdown of the sending side first */
	EXIT_TERMINATE,
	N_EXITS
};

struct client {
	struct actor actor;
	struct rng rng; /* for all that is not in scripts: pauses, portions, leaving */
	struct script script;
	struct check check;
	const struct options *opt;
	struct cancel cancel;
	enum client_state state;
	int fd;
	int epoll_fd;
	unsigned interest;   /* events asked from epoll */
	size_t step;         /* of the script */
	size_t sent;         /* bytes of the script */
	size_t received;     /* bytes since the script began */
	struct bytes in;     /* bytes received, from a message border on */
	int64_t wake_us;     /* end of a pause of the script, or of being closed or ready; 0: none */
	int64_t read_us;     /* when a slow reader reads again; 0: now */
	int64_t cancel_us;   /* when to send a cancel request; 0: never */
	int64_t progress_us; /* when bytes moved last */
	int64_t op_us;       /* when the operation began */
	int64_t login_us;    /* when the connection began */
	unsigned db;         /* 0, or 1 for the extra database */
	unsigned port;       /* of this end */
	int proof;           /* operations still to be finished in PHASE_PROVE; -1: before that */
	bool excused;        /* the administrator has ended this session */
	size_t die_sent;     /* leave when so many bytes of the script are sent */
	size_t die_received; /* or so many bytes were received */
	size_t chunk;        /* most bytes per send; 0: all; 1: single bytes; else a random number up to it */
	bool slow;           /* reads slowly */
	bool stop;           /* no new operations */
	bool fatal;          /* a FATAL error came; only the end of the connection may follow */
	bool doubt;          /* a cancel request of this session may hit it */
	bool retire;         /* leave at the end of this operation */
	bool has_key;        /* key is that of this session */
	bool has_old_key;    /* old_key is that of an earlier session */
	uint8_t key[8];      /* for cancel requests */
	uint8_t old_key[8];
	int resyncs;    /* in this CL_RESYNC */
	char nonce[16]; /* the number that ends it */
	bool nonce_seen;
	bool given[N_PARAMS];        /* the startup packet gave a value */
	char reported[N_PARAMS][64]; /* last values in ParameterStatus, of the first N_REPORTED */
};

static void client_advance(struct client *c);
static void client_start_op(struct client *c);

struct client *client_new(const struct options *opt, int epoll_fd, unsigned slot, struct ledger *ledger)
{
	struct client *c = xmalloc(sizeof(*c));

	memset(c, 0, sizeof(*c));
	c->opt = opt;
	c->epoll_fd = epoll_fd;
	c->fd = -1;
	c->cancel.fd = -1;
	c->actor.slot = slot;
	c->actor.ledger = ledger;
	c->actor.alone = opt->alone;
	c->actor.strict = opt->can >= NEEDS_STRICT;
	c->actor.n_settable = opt->can >= NEEDS_NAMED ? N_REPORTED : PARAM_INTERVAL;
	c->rng = rng_make(opt->seed, slot);
	c->proof = -1;
	c->db = opt->console && slot % CLIENT_EXTRA_ONE_IN == CLIENT_EXTRA_ONE_IN - 1;
	c->state = CL_CLOSED;
	c->wake_us = now_us() + (int64_t)rng_below(&c->rng, 200000);
	return c;
}

void client_free(struct client *c)
{
	cancel_close(&c->cancel);
	if (c->fd >= 0)
		close(c->fd);
	script_free(&c->script);
	bytes_free(&c->in);
	free(c);
}

bool client_is_gone(const struct client *c)
{
	return c->state == CL_GONE;
}

static void client_watch(struct client *c, unsigned events)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (c->interest == events)
		return;
	c->interest = events;
	epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
}

/* Tells of a failure; type 0: no message is to blame. */
static void client_wrong(struct client *c, const char *why, char type, const uint8_t *body, size_t len)
{
	struct report_case rc = { &c->actor, &c->script, &c->check, client_states[c->state], c->sent, type, body, len };

	report_wrong(&rc, why);
}

/* Enters into the ledger what is known of the writes of the script. */
static void client_settle(struct client *c)
{
	for (size_t i = 0; i < c->script.n_writes; i++) {
		const struct script_write *w = &c->script.writes[i];
		enum ledger_state state = LEDGER_NEVER;

		if (w->fate == WRITE_UNSURE)
			state = LEDGER_UNKNOWN;
		else if (w->fate == WRITE_COMMITS && c->check.next > w->ack)
			state = LEDGER_DONE;
		else if (w->fate == WRITE_COMMITS && c->sent >= w->commit_at)
			state = LEDGER_UNKNOWN;
		else if (w->fate == WRITE_VANISHES && c->doubt && c->sent >= w->sent_at &&
			 c->check.next < c->script.n_expects)
			state = LEDGER_UNKNOWN; /* a cancel may have hit the BEGIN, and the answer was not read any more
						 */
		c->actor.ledger->entries[w->op].state = (uint8_t)state;
	}
	c->script.n_writes = 0;
	shape_finish(&c->script);
}

/* Closes the connection, whatever the state; the slot comes back under a new name unless it is to stop. */
static void client_close(struct client *c, unsigned pause_us)
{
	client_settle(c);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->interest = 0;
	bytes_clear(&c->in, CLIENT_KEEP_BYTES);
	if (c->has_key) {
		memcpy(c->old_key, c->key, sizeof(c->key));
		c->has_old_key = true;
	}
	c->has_key = c->fatal = c->doubt = c->retire = c->excused = false;
	c->read_us = c->cancel_us = 0;
	c->state = c->stop ? CL_GONE : CL_CLOSED;
	c->wake_us = now_us() + 1 + (int64_t)rng_below(&c->rng, pause_us + 1);
}

/* Leaves on purpose. */
static void client_leave(struct client *c, enum client_exit how)
{
	struct linger linger = { 1, 0 };
	static const uint8_t terminate[5] = { 'X', 0, 0, 0, 4 };

	if (how == EXIT_RST)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	else if (how == EXIT_HALF)
		shutdown(c->fd, SHUT_WR);
	else if (how == EXIT_TERMINATE)
		(void)!send(c->fd, terminate, sizeof(terminate), MSG_NOSIGNAL);
	client_close(c, 3000);
}

/* The client leaves in the middle of something. */
static void client_die(struct client *c)
{
	enum client_exit how = (enum client_exit)rng_below(&c->rng, N_EXITS);
	bool border = c->sent == 0;

	for (size_t i = 0; i < c->script.n_ends; i++)
		border = border || c->script.ends[i] == c->sent;
	if (how == EXIT_TERMINATE && !border)
		how = EXIT_FIN;
	report_add(disconnects, 1);
	client_leave(c, how);
}

/* What the administrator may be to blame for. */
static struct excuse_case client_excuse_case(const struct client *c)
{
	return (struct excuse_case){
		.db = c->db,
		.port = c->port,
		.since_us = c->login_us,
		.login = c->state == CL_CONNECTING || c->state == CL_LOGIN,
	};
}

/* The connection is lost. */
static void client_lost(struct client *c, const char *reason)
{
	bool own = c->state == CL_BUSY && c->script.dies;
	struct excuse_case ec = client_excuse_case(c);
	char why[CHECK_WHY_BYTES];

	if (c->state == CL_BUSY && !own && c->in.len >= 5) {
		uint32_t len = bytes_get_u32(c->in.data + 1) - 4;

		if (!check_fragment(&c->check, &c->script, (char)c->in.data[0], c->in.data + 5, c->in.len - 5, len,
				    why))
			client_wrong(c, why, (char)c->in.data[0], c->in.data + 5, c->in.len - 5);
	}
	if (!c->fatal && excuse_silence(&ec))
		c->excused = true;
	if (own) {
		report_add(suicides, 1);
		report_shape(c->script.shape);
	} else if (c->excused) {
		report_add(excused, 1);
	} else if (c->opt->chaos) {
		report_add(faults, 1);
		if (!c->fatal)
			report_loss(reason);
	} else if (!c->fatal) {
		snprintf(why, sizeof(why), "connection lost: %s", reason);
		client_wrong(c, why, 0, NULL, 0);
	}
	client_close(c, c->opt->chaos || c->excused ? 100000 : 5000);
}

/* Draws how the bytes of the current script are sent and received. */
static void client_draw_manner(struct client *c)
{
	struct rng *r = &c->rng;
	unsigned pick = (unsigned)rng_below(r, 20);

	c->chunk = pick == 0 && c->script.out.len < 4000 ? 1 : pick <= 2 ? 300 : pick <= 3 ? 9000 : 0;
	if (c->script.free_params && rng_one_in(r, 2))
		c->chunk = 40; /* poolers have to read what is to be reset */
	c->slow = rng_one_in(r, 30);
	c->die_sent = c->die_received = CLIENT_NO_DEATH;
	c->step = c->sent = c->received = 0;
	c->check = (struct check){ 0, 0 };
}

static void client_connect(struct client *c)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	struct rng *r = &c->rng;

	if (c->stop) {
		c->state = CL_GONE;
		return;
	}
	c->actor.incarnation++;
	c->actor.seq = 0;
	/* The scripts depend on nothing but the seed and the name, however the bytes happen to be timed. */
	c->actor.rng = rng_make(c->opt->seed, ((uint64_t)c->actor.incarnation << 32) + c->actor.slot);
	statements_forget(&c->actor);
	snprintf(c->actor.who, sizeof(c->actor.who), "s%ui%u", c->actor.slot, c->actor.incarnation);
	memset(c->reported, 0, sizeof(c->reported));
	script_reset(&c->script, "(startup)");
	startup_write(&c->script, &c->actor, &c->rng, c->opt, c->db ? c->opt->extra_dbname : c->opt->dbname, c->given);
	client_draw_manner(c);
	if (c->opt->whole_startup)
		c->chunk = 0;
	if (rng_chance(r, c->opt->disconnect_ppm && !c->opt->whole_startup ? CLIENT_LOGIN_PPM : 0)) {
		c->die_sent = rng_below(r, c->script.out.len * 2);
		c->die_received = rng_below(r, 300);
	}
	c->wake_us = 0;
	c->progress_us = c->login_us = now_us();
	c->state = CL_CONNECTING;
	c->fd = direct_dial(c->opt->host, c->opt->port, 1);
	if (c->fd < 0) {
		c->fd = -1;
		client_lost(c, "connect");
		return;
	}
	c->port = direct_local_port(c->fd);
	if (rng_one_in(r, 10)) {
		int small = 65536;

		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	}
	c->interest = ev.events;
	epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev);
}

/* Sends a cancel request: with the key of this session, or with the one of an earlier session. */
static void client_cancel(struct client *c, bool stale)
{
	if (c->cancel.fd >= 0 || !(stale ? c->has_old_key : c->has_key))
		return;
	if (!cancel_start(&c->cancel, c->opt, stale ? c->old_key : c->key, &c->rng))
		return;
	report_add(cancels, 1);
	if (stale) {
		report_add(cancels_stale, 1);
		c->has_old_key = false;
	} else {
		c->doubt = true;
		c->retire = c->retire || c->cancel.abandon;
	}
}

/* Sends one portion. Returns false when the caller has to wait, or the client left. */
static bool client_send(struct client *c, size_t upto)
{
	size_t n = upto - c->sent;
	ssize_t done;

	if (c->chunk && c->sent < CLIENT_SLOW_BYTES) {
		size_t most = c->chunk == 1 ? 1 : rng_range(&c->rng, 1, c->chunk);

		n = n < most ? n : most;
	}
	if (c->sent + n > c->die_sent)
		n = c->die_sent - c->sent;
	done = n ? send(c->fd, c->script.out.data + c->sent, n, MSG_NOSIGNAL) : 0;
	if (done < 0 && errno == EAGAIN) {
		client_watch(c, c->interest | EPOLLOUT);
		return false;
	}
	if (done < 0) {
		/* The reason may still wait to be read. */
		client_watch(c, EPOLLIN);
		c->wake_us = now_us() + 1000000;
		return false;
	}
	if (done > 0)
		c->progress_us = now_us();
	report_add(bytes_out, (uint64_t)done);
	c->sent += (size_t)done;
	if (c->sent >= c->die_sent) {
		client_die(c);
		return false;
	}
	if (c->chunk && c->sent < CLIENT_SLOW_BYTES && c->sent < upto) {
		client_watch(c, c->interest | EPOLLOUT);
		return false;
	}
	return true;
}

static void client_make_ready(struct client *c)
{
	struct rng *r = &c->rng;

	c->state = CL_READY;
	c->wake_us = 1;
	if (rng_one_in(r, 3))
		c->wake_us = now_us() + (int64_t)rng_below(r, rng_one_in(r, 10) ? 50000 : 3000);
}

/* True when the session was begun with another process than the one that has worked on this operation. */
static bool client_is_carried(const struct client *c)
{
	int64_t at = excuse_restarted();

	return at && c->login_us < at && c->op_us > at;
}

/* No operation may be worked on that was begun after the answer to a PAUSE which still lasts. */
static void client_check_pause(struct client *c)
{
	int64_t since = excuse_paused_since(c->db);

	if (since && c->op_us > since && c->check.next > 0)
		client_wrong(c, "served by a database that is paused", 0, NULL, 0);
}

/* The script is at its end and everything was right. */
static void client_finish_op(struct client *c)
{
	char why[CHECK_WHY_BYTES];

	report_shape(c->script.shape);
	if (client_is_carried(c))
		report_add(carried, 1);
	for (int i = 0; c->state == CL_BUSY && i < N_REPORTED; i++) {
		if (strcmp(c->reported[i], c->actor.param[i]) == 0)
			continue;
		snprintf(why, sizeof(why), "%s is '%s', but the last ParameterStatus said '%s'", param_names[i],
			 c->actor.param[i], c->reported[i]);
		client_wrong(c, why, 0, NULL, 0);
		c->retire = true;
	}
	if (c->state == CL_BUSY)
		client_check_pause(c);
	client_settle(c);
	if (c->proof > 0 && --c->proof == 0)
		c->stop = true;
	if (c->retire || c->stop || rng_one_in(&c->rng, 200)) {
		client_leave(c, EXIT_TERMINATE);
		return;
	}
	client_make_ready(c);
}

/* A sleeping query is to be cancelled, or was hit. */
static void client_count_sleep(const struct client *c, bool hit)
{
	if (hit)
		report_add(sleeps_hit, 1);
	else
		report_add(sleeps, 1);
	if (client_is_carried(c) && hit)
		report_add(carried_hits, 1);
	else if (client_is_carried(c))
		report_add(carried_sleeps, 1);
}

/* Plays the script as far as it goes now. */
static void client_advance(struct client *c)
{
	while (c->wake_us == 0 && c->step < c->script.n_steps) {
		const struct step *st = &c->script.steps[c->step];

		if (st->kind == STEP_SEND && c->sent < st->value) {
			if (!client_send(c, st->value))
				return;
			continue;
		}
		if (st->kind == STEP_WAIT && c->check.next < st->value)
			break;
		c->step++;
		if (st->kind == STEP_PAUSE) {
			c->wake_us = now_us() + (int64_t)st->value + 1;
		} else if (st->kind == STEP_CANCEL) {
			client_count_sleep(c, false);
			client_cancel(c, false);
		}
	}
	if (c->fd >= 0)
		client_watch(c, c->interest & ~(unsigned)EPOLLOUT);
	if (c->state == CL_BUSY && c->wake_us == 0 && c->step == c->script.n_steps)
		client_finish_op(c);
}

static void client_start_op(struct client *c)
{
	struct rng *r = &c->rng;

	c->wake_us = 0;
	if (c->stop) {
		client_leave(c, EXIT_TERMINATE);
		return;
	}
	if (c->cancel.fd < 0 && !c->retire)
		c->doubt = false;
	c->state = CL_BUSY;
	shape_build(&c->script, &c->actor);
	client_draw_manner(c);
	c->retire = c->retire || c->script.dies;
	if (rng_chance(r, c->opt->disconnect_ppm)) {
		if (rng_one_in(r, 2))
			c->die_sent = rng_below(r, c->script.out.len + 1);
		else
			c->die_received = rng_below(r, c->script.pool.len + 5 * c->script.n_expects);
	}
	if (!c->script.dies && rng_chance(r, c->opt->cancel_ppm))
		c->cancel_us = now_us() + (int64_t)rng_below(r, rng_one_in(r, 2) ? 2000 : 20000);
	c->progress_us = c->op_us = now_us();
	client_advance(c);
}

/* Adds a Sync and a query with a fresh number behind what must still be sent. */
static void client_add_resync(struct client *c)
{
	struct script *s = &c->script;
	char sql[160];

	snprintf(c->nonce, sizeof(c->nonce), "%u", (unsigned)(rng_next(&c->rng) & 0x7fffffff));
	/* Which statements there are nobody knows either. */
	snprintf(sql, sizeof(sql), "%sSELECT '%s'::text AS who, 'resync'::text AS what, '%s'::text AS nonce",
		 s->forget ? "DEALLOCATE ALL; " : "", c->actor.who, c->nonce);
	if (s->forget)
		statements_forget(&c->actor);
	c->actor.statements.unnamed.kind = STATEMENT_NONE;
	script_send_sync(s);
	script_send_text(s, "ROLLBACK"); /* alone: the server that had the transaction may be lost */
	script_send_text(s, sql);
	script_push(s);
	c->nonce_seen = false;
	c->resyncs++;
	c->wake_us = 0;
}

/* A cancel request of ours hit: gives the script up and finds the way back to a known state. */
static void client_derail(struct client *c)
{
	struct script *s = &c->script;
	size_t cut = c->sent;

	for (size_t i = 0; i < s->n_ends; i++)
		if (s->ends[i] >= c->sent) {
			cut = s->ends[i];
			break;
		}
	if (c->sent == 0)
		cut = 0;
	for (size_t i = 0; i < s->n_writes; i++) {
		struct script_write *w = &s->writes[i];

		if (w->fate == WRITE_COMMITS && c->check.next > w->ack)
			continue;
		w->fate = w->sent_at <= cut ? WRITE_UNSURE : WRITE_VANISHES;
	}
	s->out.len = cut;
	while (s->n_ends && s->ends[s->n_ends - 1] > cut)
		s->n_ends--;
	s->n_steps = c->step = 0;
	c->die_sent = c->die_received = CLIENT_NO_DEATH;
	c->retire = c->retire || s->retire;
	c->resyncs = 0;
	c->state = CL_RESYNC;
	report_add(derailed, 1);
	if (strcmp(s->shape, "sleep") == 0)
		client_count_sleep(c, true);
	client_add_resync(c);
}

static void client_on_parameter(struct client *c, const uint8_t *body, size_t len)
{
	const char *name = (const char *)body;
	const char *value = len && body[len - 1] == 0 ? name + strlen(name) + 1 : NULL;
	char why[CHECK_WHY_BYTES];
	bool good;
	int i;

	if (!value || value >= name + len) {
		client_wrong(c, "malformed ParameterStatus", 'S', body, len);
		return;
	}
	for (i = 0; i < N_REPORTED; i++)
		if (strcmp(name, param_names[i]) == 0)
			break;
	if (i == N_REPORTED)
		return;
	if (c->state == CL_LOGIN) {
		good = !c->given[i] || strcmp(value, c->actor.param[i]) == 0;
		snprintf(c->actor.param[i], sizeof(c->actor.param[i]), "%s", value);
	} else {
		good = c->script.free_params || strcmp(value, c->reported[i]) == 0;
		for (size_t k = 0; k < c->script.n_sets; k++)
			good = good || (c->script.sets[k].param == i && strcmp(c->script.sets[k].value, value) == 0);
	}
	if (!good) {
		snprintf(why, sizeof(why), "ParameterStatus says %s is '%s', which this client never set", name, value);
		client_wrong(c, why, 'S', body, len);
	}
	snprintf(c->reported[i], sizeof(c->reported[i]), "%s", value);
}

/* Messages during login. Returns false when the message is wrong. */
static bool client_on_login(struct client *c, char type, const uint8_t *body, size_t len, char *why)
{
	snprintf(why, CHECK_WHY_BYTES, "unexpected message during login");
	if (type == 'R') {
		return len == 4 && bytes_get_u32(body) == 0;
	} else if (type == 'K') {
		if (len != 8)
			return false;
		memcpy(c->key, body, 8);
		c->has_key = true;
		return true;
	} else if (type != 'Z' || len != 1 || body[0] != 'I' || !c->has_key) {
		return false;
	}
	for (int i = 0; i < N_REPORTED; i++)
		if (!c->reported[i][0] && !(i == PARAM_APPLICATION && !c->given[i])) {
			snprintf(why, CHECK_WHY_BYTES, "login without a ParameterStatus of %s", param_names[i]);
			return false;
		}
	report_add(logins, 1);
	c->check.next = c->script.n_expects;
	client_make_ready(c);
	if (rng_one_in(&c->rng, CLIENT_STALE_ONE_IN))
		client_cancel(c, true);
	return true;
}

/* Checks the first column of a row, which always is the name of the client. */
static bool client_is_own_row(const struct client *c, const uint8_t *body, size_t len)
{
	size_t n = strlen(c->actor.who);

	return len >= 6 + n && bytes_get_u32(body + 2) == n && memcmp(body + 6, c->actor.who, n) == 0;
}

/* Messages while the script has been given up. */
static bool client_on_resync(struct client *c, char type, const uint8_t *body, size_t len, char *why)
{
	if (type == 'D') {
		size_t n = strlen(c->nonce);

		if (!client_is_own_row(c, body, len)) {
			snprintf(why, CHECK_WHY_BYTES, "a row that is not of this client");
			return false;
		}
		if (len > n && memcmp(body + len - n, c->nonce, n) == 0)
			c->nonce_seen = true;
	} else if (type == 'Z' && c->nonce_seen) {
		if (len != 1 || body[0] != 'I') {
			snprintf(why, CHECK_WHY_BYTES, "in a transaction after ROLLBACK");
			return false;
		}
		client_finish_op(c);
	} else if (type == 'A' || type == 'R' || type == 'K' || type == 'v') {
		snprintf(why, CHECK_WHY_BYTES, "unexpected message type '%c'", type);
		return false;
	}
	return true;
}

static bool client_is_cancelled(const char *sqlstate, const char *text)
{
	return strcmp(sqlstate, "57014") == 0 && strcmp(text, "canceling statement due to user request") == 0;
}

/* True for an ERROR that tells that the server is lost, while the session stays. */
static bool client_is_loss(const char *sqlstate)
{
	/* When the relay closes one half, COPY FROM STDIN is told so by PostgreSQL itself, as 08006. */
	return strcmp(sqlstate, "08006") == 0 || strcmp(sqlstate, "08007") == 0 || strcmp(sqlstate, "57P01") == 0 ||
	       strcmp(sqlstate, "57P02") == 0;
}

/* The server is lost, the session goes on: what was under way is given up. */
static void client_outlive(struct client *c)
{
	if (c->state == CL_BUSY) {
		report_add(outlived, 1);
		if (c->script.dies)
			report_add(suicides, 1);
		client_derail(c);
	} else if (c->state == CL_RESYNC && c->resyncs < CLIENT_MAX_RESYNCS) {
		client_add_resync(c);
	}
}

/* An ErrorResponse. Returns true when it is dealt with, false when the script has to judge it. */
static bool client_on_error(struct client *c, const uint8_t *body, size_t len)
{
	const char *severity = msg_field(body, len, 'V');
	const char *sqlstate = msg_field(body, len, 'C');
	const char *text = msg_field(body, len, 'M');
	bool fatal;

	if (!severity[0])
		severity = msg_field(body, len, 'S');
	fatal = strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
	report_error(sqlstate, text, fatal);
	if (fatal) {
		struct excuse_case ec = client_excuse_case(c);
		enum excuse_verdict verdict = excuse_error(&ec, text);

		if (c->opt->statement && strcmp(text, "transaction blocks not allowed in statement pooling mode") == 0)
			verdict = EXCUSE_GRANTED;
		c->excused = c->excused || verdict == EXCUSE_GRANTED;
		if (verdict == EXCUSE_DENIED ||
		    (verdict == EXCUSE_UNKNOWN && c->opt->console && strcmp(sqlstate, "08P01") == 0))
			client_wrong(c, "FATAL error without a command that explains it", 'E', body, len);
		else if (!c->excused && !c->opt->chaos && !(c->state == CL_BUSY && c->script.dies) && !c->fatal)
			client_wrong(c, "FATAL error, though nothing was injected", 'E', body, len);
		c->fatal = true;
		return true;
	}
	if (client_is_loss(sqlstate)) {
		if (!c->opt->chaos && !(c->state == CL_BUSY && c->script.dies) && c->state != CL_RESYNC)
			return false;
		client_outlive(c);
		return true;
	}
	if (!client_is_cancelled(sqlstate, text))
		return false;
	if (!c->doubt) {
		client_wrong(c, "cancelled, but this client sent no cancel request", 'E', body, len);
		client_close(c, 1000);
		return true;
	}
	if (c->state == CL_BUSY)
		client_derail(c);
	else if (c->state == CL_RESYNC && c->resyncs < CLIENT_MAX_RESYNCS)
		client_add_resync(c);
	else
		return false;
	return true;
}

/* Notices of poolers themselves, which come whenever they like. */
static bool client_is_pooler_notice(const uint8_t *body, size_t len)
{
	return strncmp(msg_field(body, len, 'M'), "No server connection available", 30) == 0;
}

/* One message. When it is wrong the connection is closed. */
static void client_on_message(struct client *c, char type, const uint8_t *body, size_t len)
{
	char why[CHECK_WHY_BYTES] = "";
	bool good = true;

	if (type == 'D' || type == 'd')
		report_add(rows, 1);
	if (type == 'S') {
		client_on_parameter(c, body, len);
		return;
	}
	if (type == 'N' && client_is_pooler_notice(body, len))
		return;
	if (c->fatal && type != 'E' && type != 'N') {
		snprintf(why, sizeof(why), "a message behind a FATAL error");
		good = false;
	} else if (type == 'E' && client_on_error(c, body, len)) {
		return;
	} else if (c->state == CL_LOGIN) {
		good = client_on_login(c, type, body, len, why);
	} else if (c->state == CL_RESYNC) {
		good = client_on_resync(c, type, body, len, why);
	} else if (c->state == CL_BUSY && c->script.dies && c->check.next + 1 >= c->script.n_expects) {
		good = type != 'D' || client_is_own_row(c, body, len);
	} else {
		good = check_message(&c->check, &c->script, c->state == CL_BUSY ? c->sent : 0, type, body, len, why);
	}
	if (!good) {
		client_wrong(c, why, type, body, len);
		client_close(c, 1000);
	}
}

/* Takes all whole messages from the buffer; the state may change with each. */
static void client_take_messages(struct client *c)
{
	size_t at = 0;

	while (c->fd >= 0 && c->in.len - at >= 5) {
		uint32_t len = bytes_get_u32(c->in.data + at + 1);

		if (len < 4 || len > CLIENT_MAX_MESSAGE) {
			client_wrong(c, "bytes that are no message", (char)c->in.data[at], c->in.data + at + 1,
				     c->in.len - at - 1);
			client_close(c, 1000);
			return;
		}
		if (c->in.len - at < (size_t)len + 1)
			break;
		client_on_message(c, (char)c->in.data[at], c->in.data + at + 5, len - 4);
		at += (size_t)len + 1;
	}
	if (c->fd < 0)
		return;
	bytes_shift(&c->in, at);
	if (!c->in.len)
		bytes_clear(&c->in, CLIENT_KEEP_BYTES);
}

/* How much to read now, for one that dies or one that is slow. */
static size_t client_read_size(struct client *c)
{
	size_t n = CLIENT_READ_BYTES;

	if (c->slow && c->received < CLIENT_SLOW_BYTES) {
		n = rng_range(&c->rng, 1, 4000);
		if (rng_one_in(&c->rng, 4))
			c->read_us = now_us() + (int64_t)rng_below(&c->rng, 5000);
	}
	if (c->received + n > c->die_received)
		n = c->die_received - c->received;
	return n;
}

static void client_on_readable(struct client *c)
{
	size_t before = c->in.len;
	size_t want = client_read_size(c);
	ssize_t n;

	if (c->received >= c->die_received) {
		client_die(c);
		return;
	}
	n = recv(c->fd, bytes_grow(&c->in, want), want, 0);
	c->in.len = before + (n > 0 ? (size_t)n : 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_lost(c, n ? strerror(errno) : "end of file");
		return;
	}
	c->progress_us = now_us();
	c->received += (size_t)n;
	report_add(bytes_in, (uint64_t)n);
	client_take_messages(c);
	if (c->fd >= 0 && c->read_us)
		client_watch(c, c->interest & ~(unsigned)EPOLLIN);
	if (c->state == CL_BUSY || c->state == CL_RESYNC || c->state == CL_LOGIN)
		client_advance(c);
	if (c->state == CL_READY && c->wake_us == 1)
		client_start_op(c);
}

void client_on_event(struct client *c, unsigned events)
{
	if (c->fd < 0)
		return;
	if (c->state == CL_CONNECTING) {
		int err = 0;
		socklen_t len = sizeof(err);

		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err) {
			client_lost(c, strerror(err));
			return;
		}
		if (!(events & EPOLLOUT))
			return;
		c->state = CL_LOGIN;
	}
	if (events & EPOLLOUT)
		client_advance(c);
	if (c->fd >= 0 && (c->interest & EPOLLIN) && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		client_on_readable(c);
}

/* True when a command has ended the connection of the cancel request, which may be on its way yet. */
static bool client_cancel_was_cut(const struct client *c)
{
	struct excuse_case ec = { .db = c->db, .port = c->cancel.port, .since_us = c->cancel.started_us };

	return excuse_silence(&ec);
}

/* A cancel request under way. */
static void client_tick_cancel(struct client *c, int64_t now)
{
	bool late = now - c->cancel.started_us > (int64_t)c->opt->stall_s * 1000000;

	switch (cancel_step(&c->cancel)) {
	case CANCEL_BUSY:
		if (!late)
			break;
		report_wrong_plain("a cancel request was neither answered nor closed");
		cancel_close(&c->cancel);
		break;
	case CANCEL_DONE:
		if (!client_cancel_was_cut(c))
			break;
		c->retire = true;
		break;
	case CANCEL_CUT:
		report_add(unanswered, 1);
		c->retire = true;
		break;
	case CANCEL_BAD:
		report_wrong_plain("a cancel request got an answer");
		break;
	}
}

static void client_check_stall(struct client *c, int64_t now)
{
	char why[CHECK_WHY_BYTES];
	bool waits = c->state == CL_CONNECTING || c->state == CL_LOGIN || c->state == CL_BUSY || c->state == CL_RESYNC;

	if (!waits || now - c->progress_us < (int64_t)c->opt->stall_s * 1000000)
		return;
	snprintf(why, sizeof(why), "stalled: nothing moved for %u s (step %zu of %zu%s%s)", c->opt->stall_s, c->step,
		 c->script.n_steps, c->doubt ? ", cancel under way" : "", c->fatal ? ", after a FATAL error" : "");
	client_wrong(c, why, 0, NULL, 0);
	client_close(c, 1000);
}

void client_tick(struct client *c, int64_t now, enum client_phase phase)
{
	if (phase == PHASE_PROVE && c->proof < 0)
		c->proof = CLIENT_PROOF;
	c->stop = c->stop || phase == PHASE_STOP;
	if (c->cancel.fd >= 0)
		client_tick_cancel(c, now);
	if (c->read_us && now >= c->read_us) {
		c->read_us = 0;
		if (c->fd >= 0)
			client_watch(c, c->interest | EPOLLIN);
	}
	if (c->cancel_us && now >= c->cancel_us) {
		c->cancel_us = 0;
		if (c->state == CL_BUSY || c->state == CL_READY || c->state == CL_RESYNC)
			client_cancel(c, false);
	}
	client_check_stall(c, now);
	if (!c->wake_us || now < c->wake_us)
		return;
	if (c->state == CL_CLOSED) {
		client_connect(c);
	} else if (c->state == CL_READY) {
		client_start_op(c);
	} else if (c->state == CL_BUSY || c->state == CL_RESYNC || c->state == CL_LOGIN) {
		c->wake_us = 0;
		client_advance(c);
	}
}
