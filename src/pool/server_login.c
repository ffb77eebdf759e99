/*
 * The login to a server.
 *
 *   SERVER_LOGIN_DNS --> SERVER_LOGIN_CONNECT --> SERVER_LOGIN_TLS --> SERVER_LOGIN_AUTH --> SERVER_LOGIN_ROLE -->
 * SERVER_LOGIN_QUERY (connect_query) |             |             |              |              |
 *                         +-------------+             +--------------+--------------+--> server_logged_in()
 *
 * A database that wants servers of a certain role (target_session_attrs) gets
 * no other: PostgreSQL reports its role since version 14, older ones are asked.
 *
 * Where the configuration allows it, protocol 3.2 is asked for, and whoever does
 * not know it says so (NegotiateProtocolVersion) and goes on in 3.0. What comes
 * from before that message, such as PgBouncer up to 1.18, refuses the startup
 * packet: then the login begins anew, with 3.0 (server_login_fall_back).
 *
 * Messages are gathered whole: all of them are small, and all are read. What
 * the server reports about itself becomes its set of tracked parameters and,
 * for the rest, the greeting of the pool's clients.
 */
#include "pool/server_login.h"

#include "auth/auth.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "pool/client.h"
#include "pool/failure.h"
#include "pool/replication.h"
#include "pool/report.h"
#include "pool/route.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

#define SERVER_LOGIN_MESSAGE_MAX (32 * 1024)
#define SERVER_LOGIN_WELCOME_MAX (64 * 1024)
/* A startup packet with all that a client's had. */
#define SERVER_LOGIN_STARTUP_MAX (2 * STARTUP_MAX)

/* Two columns, each of which any user may see; the names are complete because search_path may be anything. */
#define SERVER_LOGIN_ROLE_QUERY \
	"SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')"

enum server_login_stage {
	SERVER_LOGIN_DNS,
	SERVER_LOGIN_CONNECT,
	SERVER_LOGIN_TLS, /* asked for, or the handshake; see server_tls.c */
	SERVER_LOGIN_AUTH,
	SERVER_LOGIN_ROLE, /* it is asked for its role */
	SERVER_LOGIN_QUERY,
};

struct server_login {
	enum server_login_stage stage;
	uint32_t version; /* of the protocol, asked for or, once negotiated, spoken */
	bool is_answered; /* the server has taken the startup packet */
	bool has_fallen_back;
	struct auth_server *auth;
	bool authenticated;
	enum endpoint_role role; /* as it says; of a server before PostgreSQL 14 unknown until it is asked */
	bool is_read_only;
	struct dns_request *dns; /* under way; freed when it comes back */
	char *values[VARS_MAX];  /* of tracked parameters */
	struct buf welcome;      /* ParameterStatus of all others */
};

static struct loop *server_login_loop(const struct server *server)
{
	return server->part->worker->ctx.loop;
}

/* ---- address and connect ---- */

/* Describes the server for a line that PgBouncer writes without a prefix. */
static void server_login_describe_bare(const struct server *server, struct log_about *about)
{
	server_describe(server, about);
	about->is_bare = true;
}

static void server_login_log_connect(const struct server *server, int error)
{
	char text[SOCK_ADDR_TEXT];
	struct log_about about;

	server_login_describe_bare(server, &about);
	about.action = "connect";
	sock_addr_format(&server->addr, text, sizeof(text));
	log_warning_about(&about, "sbuf_connect failed to connect to %s: %s", text, strerror(error));
}

static void server_login_connect(struct server *server)
{
	int fd = sock_connect_start(&server->addr, &server->conf->tuning);

	if (fd < 0) {
		server_login_log_connect(server, errno);
		server_close(server, REASON_CONNECT_FAILED);
		return;
	}
	server->login->stage = SERVER_LOGIN_CONNECT;
	stream_init(&server->stream, fd, &server_stream_ops, server, SERVER_IN_MAX, SERVER_OUT_MAX);
	stream_set_secret(&server->stream, true); /* as long as there is a login */
	stream_watch_connect(&server->stream, server_login_loop(server));
}

static void server_login_on_dns(struct dns_request *req)
{
	struct server *server = req->arg;

	if (req->cancelled) {
		free(req);
		return;
	}
	CHECK_OBJ(server, SERVER_MAGIC);
	server->login->dns = NULL;
	if (req->err == 0)
		server->addr = req->addrs[0];
	if (req->err == 0)
		server_login_connect(server);
	else
		server_close(server, REASON_DNS_FAILED);
	free(req);
}

static void server_login_resolve(struct server *server, const char *host)
{
	struct dns_request *req = xcalloc(1, sizeof(*req));

	req->loop = server_login_loop(server);
	req->done = server_login_on_dns;
	req->arg = server;
	server->login->dns = req;
	server->login->stage = SERVER_LOGIN_DNS;
	dns_lookup(server->pool->engine->dns, host, server->endpoint->port, req);
}

/* The version to ask for. */
static uint32_t server_login_version(const struct server *server)
{
	if (server->part->worker->ctx.snap->conf->server_max_protocol_version == CONF_PROTOCOL_3_0 ||
	    atomic_load_explicit(&server->pool->old_protocol, memory_order_relaxed))
		return PROTO_V3_0;
	return PROTO_V3_2;
}

void server_login_start(struct server *server)
{
	const struct endpoint *ep = server->endpoint;
	int err;

	server->login = xcalloc(1, sizeof(*server->login));
	server_tls_init(&server->tls, server->conf, ep);
	server->login->version = server_login_version(server);
	buf_init(&server->login->welcome, SERVER_LOGIN_WELCOME_MAX);
	if (ep == NULL) {
		server_close(server, REASON_CANNOT_CONNECT);
		return;
	}
	err = sock_addr_set_host(&server->addr, ep->host, ep->port);
	if (err == 0)
		server_login_connect(server);
	else if (err == -E_SYNTAX)
		server_login_resolve(server, ep->host);
	else
		server_close(server, REASON_CANNOT_CONNECT);
}

bool server_login_is_connected(const struct server *server)
{
	return server->login != NULL && server->login->stage > SERVER_LOGIN_CONNECT; /* NULL: it has not begun */
}

void server_login_free(struct server *server)
{
	struct server_login *login = server->login;

	server->login = NULL;
	if (login == NULL)
		return;
	if (login->dns != NULL)
		login->dns->cancelled = true;
	auth_server_free(&login->auth);
	buf_fini(&login->welcome);
	for (int i = 0; i < VARS_MAX; i++)
		free(login->values[i]);
	free(login);
}

/* ---- our messages ---- */

/* Sends what was built; false when the server was closed. */
static bool server_login_send(struct server *server, struct buf *b, int err)
{
	if (err == 0)
		err = stream_send_buf(&server->stream, b);
	buf_fini(b);
	if (err < 0)
		server_close(server, REASON_SERVER_SEND);
	return err >= 0;
}

/* A setting of the database, unless the one client that the server is for has another value. */
static bool server_login_is_for_startup(const struct server *server, const char *name, const char *value)
{
	return value != NULL &&
	       (server->awaited_by == NULL || vars_get(server->awaited_by->vars, vars_index(slice_of(name))) == NULL);
}

static bool server_login_send_startup(struct server *server)
{
	const struct conf_db *db = server->conf->db;
	const char *const settings[][2] = {
		{ "client_encoding", db->client_encoding },
		{ "datestyle", db->datestyle },
		{ "timezone", db->timezone },
		{ "application_name", db->application_name },
	};
	struct build_pair pairs[2 + ARRAY_LEN(settings) + REPLICATION_PAIRS_MAX];
	size_t n = 0;
	struct buf b;

	pairs[n++] = (struct build_pair){ slice_of("user"), slice_of(server->pool->account->name) };
	pairs[n++] = (struct build_pair){ slice_of("database"), slice_of(server->conf->db->dbname) };
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		if (server_login_is_for_startup(server, settings[i][0], settings[i][1]))
			pairs[n++] = (struct build_pair){ slice_of(settings[i][0]), slice_of(settings[i][1]) };
	if (server->awaited_by != NULL)
		n += replication_pairs(server, pairs + n);
	buf_init(&b, SERVER_LOGIN_STARTUP_MAX);
	return server_login_send(server, &b, build_startup(&b, server->login->version, pairs, n));
}

/*
 * What the pool's user has logged in with, when that goes before the secret of
 * the configuration: a password that LDAP or PAM took while they are asked,
 * but not before that of a forced user; else when the configuration has none.
 */
static struct pool_secret *server_login_own_secret(struct server *server)
{
	int type = server->part->worker->ctx.snap->conf->auth_type;
	bool judges = type == CONF_AUTH_LDAP || type == CONF_AUTH_PAM || type == CONF_AUTH_HBA;
	bool is_configured = server->conf->secret.type != SECRET_EMPTY;
	struct pool_secret *own;

	if (is_configured && (!judges || server->conf->is_forced))
		return NULL;
	own = route_copy_secret(server->pool);
	if (own != NULL && is_configured && !own->is_judged)
		pool_secret_free(&own);
	return own;
}

static struct auth_server *server_login_new_auth(struct server *server)
{
	struct pool_secret *own = server_login_own_secret(server);
	struct scram_keys keys;
	struct auth_server *auth;
	uint8_t binding[TLS_BINDING_MAX];
	struct tls *tls = stream_tls(&server->stream);
	struct auth_server_setup setup = {
		.is_tls = tls != NULL,
		.user_name = server->pool->account->name,
		.secret = &server->conf->secret,
		.ignores_stripped_tls = server->part->worker->ctx.snap->conf->profile == CONF_PROFILE_PGBOUNCER,
	};

	if (tls != NULL)
		setup.binding = slice_make(binding, tls_end_point(tls, binding));
	if (own != NULL) {
		setup.secret = &own->secret;
		setup.keys = own->has_keys ? &own->keys : NULL;
	} else if (route_copy_keys(server->pool->engine, server->pool->account, &keys)) {
		setup.keys = &keys;
	}
	auth = auth_server_new(&setup);
	mem_wipe(&keys, sizeof(keys));
	pool_secret_free(&own);
	return auth;
}

/* The connection is as it will be: now the first message. */
static void server_login_begin(struct server *server)
{
	server->login->stage = SERVER_LOGIN_AUTH;
	auth_server_free(&server->login->auth);
	server->login->auth = server_login_new_auth(server);
	if (server_login_send_startup(server))
		stream_want_read(&server->stream, true);
}

static void server_login_on_tls_step(struct server *server, enum server_tls_step step, enum reason reason)
{
	if (step == SERVER_TLS_PLAIN)
		server_login_begin(server);
	else if (step == SERVER_TLS_FAILED)
		server_close(server, reason);
}

void server_login_on_connected(struct server *server)
{
	enum reason reason = REASON_SERVER_CRASH;
	enum server_tls_step step;
	struct log_about about;
	int err = sock_connect_result(server->stream.fd);

	if (err == -E_AGAIN) {
		stream_detach(&server->stream);
		stream_watch_connect(&server->stream, server_login_loop(server));
		return;
	}
	if (err != 0) {
		server_login_log_connect(server, errno);
		server_close(server, REASON_CONNECT_FAILED);
		return;
	}
	if (server->part->worker->ctx.snap->conf->log_connections != 0) {
		server_describe(server, &about);
		report_connected(&about, &server->addr, server->stream.fd);
	}
	server->login->stage = SERVER_LOGIN_TLS;
	step = server_tls_begin(&server->tls, &server->stream, &reason);
	server_login_on_tls_step(server, step, reason);
}

void server_login_on_secured(void *owner, int err)
{
	struct server *server = owner;
	struct log_about about;
	bool tell = server->part->worker->ctx.snap->conf->log_connections != 0;

	ASSERT(server->login->stage == SERVER_LOGIN_TLS);
	server_describe(server, &about);
	if (server_tls_is_secured(&server->stream, err, &about, tell))
		server_login_begin(server);
	else
		server_close(server, REASON_SERVER_CRASH);
}

/* ---- messages of the server; each returns false when the server was closed ---- */

/* The server does not know the version: no other answer makes sense, as we have asked for nothing else. */
static bool server_login_on_negotiate(struct server *server, struct slice body)
{
	struct server_login *login = server->login;
	struct parse_negotiate n;

	if (login->is_answered || login->version == PROTO_V3_0 || parse_negotiate(body, &n) != 0 ||
	    n.version != PROTO_V3_0 || n.n != 0) {
		server_close(server, REASON_SERVER_PKT);
		return false;
	}
	login->version = PROTO_V3_0;
	return true;
}

/* True for an error by which a server refuses a version, though it may mean something else. */
static bool server_login_is_refusal(const struct server *server, const struct report *report)
{
	return !server->login->is_answered && server->login->version != PROTO_V3_0 &&
	       (strcmp(report->sqlstate, "0A000") == 0 || strcmp(report->sqlstate, "08P01") == 0);
}

/* Begins anew, at the same address, with the version that everybody knows. */
static void server_login_fall_back(struct server *server)
{
	struct log_about about;

	server_describe(server, &about);
	log_info_about(&about, "server refuses protocol 3.2, asking for 3.0");
	server->login->version = PROTO_V3_0;
	server->login->has_fallen_back = true;
	stream_close(&server->stream);
	server_login_connect(server);
}

/* We cannot do what the server asks for: clients that wait for it are told, and so is the log. Always false. */
static bool server_login_fail_auth(struct server *server, enum auth_server_error error, const char *detail)
{
	const char *text = auth_server_error_text(error);
	struct log_about about;

	server_describe(server, &about);
	log_error_about(&about, "%s%s%s", text, detail[0] != '\0' ? ": " : "", detail);
	if (server->replication == REPLICATION_NONE)
		route_tell_parts(server->pool, ROUTE_TELL_FAIL, text, NULL);
	server_close_login(server, REASON_AUTHREQ, text);
	return false;
}

/* No message can begin like this; clients are told if it was a part of the authentication. */
static void server_login_fail_header(struct server *server, uint8_t type)
{
	if (type == BE_AUTH && !server->login->authenticated)
		(void)server_login_fail_auth(server, AUTH_SERVER_UNSUPPORTED,
					     "authentication request of impossible length");
	else
		server_close(server, REASON_SERVER_HEADER);
}

static bool server_login_on_auth(struct server *server, struct slice body)
{
	struct server_login *login = server->login;
	struct auth_server_out out;
	struct parse_auth auth;
	struct buf b;
	int err;

	login->is_answered = true;
	if (login->authenticated || parse_auth(body, &auth) != 0)
		return server_login_fail_auth(server, AUTH_SERVER_UNSUPPORTED, "malformed authentication request");
	if (auth_server_step(login->auth, auth.code, (const uint8_t *)auth.data.p, auth.data.n, &out) != 0)
		return server_login_fail_auth(server, out.error, out.detail);
	login->authenticated = out.done;
	buf_init(&b, 2 * SERVER_LOGIN_WELCOME_MAX);
	b.is_secret = true;
	switch (out.send) {
	case AUTH_SEND_NONE:
		break;
	case AUTH_SEND_PASSWORD:
		err = build_password(&b, slice_make(out.data, out.data_len - 1));
		return server_login_send(server, &b, err);
	case AUTH_SEND_SASL_INITIAL:
		err = build_sasl_initial(&b, out.mechanism, slice_make(out.data, out.data_len));
		return server_login_send(server, &b, err);
	case AUTH_SEND_SASL:
		err = build_sasl_response(&b, slice_make(out.data, out.data_len));
		return server_login_send(server, &b, err);
	}
	return true;
}

static void server_login_note_role(struct server_login *login, struct slice name, struct slice value)
{
	bool is_on = slice_eq_str(value, "on");

	if (slice_eq_str(name, "in_hot_standby"))
		login->role = is_on ? ENDPOINT_STANDBY : ENDPOINT_PRIMARY;
	else if (slice_eq_str(name, "default_transaction_read_only"))
		login->is_read_only = is_on;
}

static bool server_login_on_parameter(struct server *server, const uint8_t *message, size_t size)
{
	struct server_login *login = server->login;
	struct slice name;
	struct slice value;
	int i;

	if (parse_parameter_status(slice_make(message + FRAME_HEADER, size - FRAME_HEADER), &name, &value) != 0) {
		server_close(server, REASON_BROKEN_PARAMETER);
		return false;
	}
	i = vars_index(name);
	server_login_note_role(login, name, value);
	if (i >= 0) {
		free(login->values[i]);
		login->values[i] = slice_dup(value);
	} else if (login->stage == SERVER_LOGIN_AUTH && buf_append(&login->welcome, message, size) != 0) {
		server_close(server, REASON_OOM);
		return false;
	}
	return true;
}

static bool server_login_on_key(struct server *server, struct slice body)
{
	struct slice key;

	if (parse_backend_key(body, &server->backend_pid, &key) != 0 || key.n > SERVER_KEY_MAX) {
		server_close(server, REASON_SERVER_PKT);
		return false;
	}
	memcpy(server->backend_key, key.p, key.n);
	server->backend_key_len = (uint16_t)key.n;
	return true;
}

/* The text and state of an error of the server, and its severity; something in their place where they are missing. */
static void server_login_read_error(struct slice body, struct report *report, char *severity, size_t severity_size)
{
	struct parse_report parsed = { .severity = { NULL, 0 } };
	bool is_whole = parse_report(body, &parsed) == 0;
	char text[REPORT_TEXT_MAX];
	char sqlstate[6];

	str_copy_slice(severity, severity_size, parsed.severity.n > 0 ? parsed.severity : slice_of("FATAL"));
	str_copy_slice(text, sizeof(text), parsed.message);
	str_copy_slice(sqlstate, sizeof(sqlstate), parsed.sqlstate);
	if (!is_whole || text[0] == '\0')
		str_copy(text, sizeof(text), "server refused the login without a reason");
	report_server(report, text, is_whole && strlen(sqlstate) == 5 ? sqlstate : "08P01");
}

/* Keeps the state of a refusal that says something about the server. */
static void server_login_note_refusal(struct server *server, struct slice body, const struct report *report)
{
	struct parse_report parsed = { .severity = { NULL, 0 } };

	if (parse_report(body, &parsed) == 0 && failure_is_own_limit(parsed.sqlstate, parsed.routine))
		return;
	str_copy(server->sqlstate, sizeof(server->sqlstate), report->sqlstate);
}

/* True when a breaker counts the refusal: nobody is told before that opens. */
static bool server_login_is_for_breaker(const struct server *server)
{
	struct breaker_set *set = server->permit.pass.set;

	return set != NULL && breaker_set_is_on(set) &&
	       failure_classify(REASON_LOGIN_FAILED, FAILURE_AT_LOGIN, server->sqlstate) != FAILURE_NONE;
}

/* The server refuses: clients that wait for a first server are told why, in the server's words. */
static bool server_login_on_error(struct server *server, struct slice body)
{
	char severity[16];
	struct pool_counts counts;
	struct welcome *welcome;
	struct log_about about;
	struct report report;
	bool fail;

	server_login_describe_bare(server, &about);
	server_login_read_error(body, &report, severity, sizeof(severity));
	str_copy(about.sqlstate, sizeof(about.sqlstate), report.sqlstate);
	if (server_login_is_refusal(server, &report)) {
		server_login_fall_back(server);
		return false;
	}
	if (server->login->stage == SERVER_LOGIN_QUERY) {
		log_error_about(&about, "S: error while executing exec_on_query: %s: %s", severity, report.text);
		return true;
	}
	server_login_note_refusal(server, body, &report);
	if (server->replication == REPLICATION_NONE)
		log_warning_about(&about, "server login failed: %s %s", severity, report.text);
	else
		log_error_about(&about, "S: login failed: %s: %s", severity, report.text);
	pool_count(server->pool, &counts);
	welcome = pool_welcome(server->pool);
	fail = server->replication == REPLICATION_NONE && strcmp(report.sqlstate, "57P03") != 0 &&
	       !server_login_is_for_breaker(server) && (welcome == NULL || counts.servers == counts.logging_in);
	welcome_release(&welcome);
	if (fail)
		route_tell_parts(server->pool, ROUTE_TELL_FAIL, report.text, report.sqlstate);
	server_close_login(server, REASON_LOGIN_FAILED, report.text);
	return false;
}

/* The greeting of clients, from this server. */
static struct welcome *server_login_make_welcome(struct server *server)
{
	struct server_login *login = server->login;
	size_t len = buf_len(&login->welcome);
	struct welcome *welcome = xcalloc(1, sizeof(*welcome) + len);

	atomic_init(&welcome->refs, 1);
	welcome->defaults = vars_hold(server->vars);
	welcome->len = len;
	if (len > 0)
		memcpy(welcome->bytes, buf_ptr(&login->welcome), len);
	return welcome;
}

/* What the server has reported so far. */
static struct varset *server_login_vars(const struct server_login *login)
{
	struct slice values[VARS_MAX];

	for (int i = 0; i < VARS_MAX; i++)
		values[i] = slice_of(login->values[i]);
	return vars_make(values);
}

static bool server_login_finish(struct server *server)
{
	struct server_login *login = server->login;
	struct welcome *welcome;

	server->vars = server_login_vars(login);
	if (server->defaults == NULL)
		server->defaults = vars_hold(server->vars);
	if (login->has_fallen_back)
		pool_note_old_protocol(server->pool, server->epoch);
	/* Before anybody on another worker is greeted, the pool must know that logins succeed again. */
	pool_login_done(server->part, &server->permit);
	welcome = server_login_make_welcome(server);
	if (server->replication == REPLICATION_NONE)
		pool_offer_welcome(server->pool, welcome_hold(welcome), server->epoch);
	stream_set_secret(&server->stream, false);
	server_login_free(server);
	track_init(&server->track);
	server_logged_in(server, welcome);
	welcome_release(&welcome);
	return false; /* no further message is the login's */
}

/* A query of the login; false when the server was closed. */
static bool server_login_query(struct server *server, enum server_login_stage stage, const char *sql)
{
	struct buf b;
	int err;

	server->login->stage = stage;
	buf_init(&b, SERVER_LOGIN_MESSAGE_MAX);
	err = build_query(&b, slice_of(sql));
	return server_login_send(server, &b, err);
}

/* The answer to SERVER_LOGIN_ROLE_QUERY. */
static bool server_login_on_role_row(struct server *server, struct slice body)
{
	struct slice values[2];

	if (parse_data_row(body, values, 2) != 0) {
		server_close(server, REASON_SERVER_PKT);
		return false;
	}
	server->login->role = slice_eq_str(values[0], "t") ? ENDPOINT_STANDBY : ENDPOINT_PRIMARY;
	server->login->is_read_only = slice_eq_str(values[1], "on");
	return true;
}

/* The role is what it is: false when it is none for this database, and the server was closed. */
static bool server_login_check_role(struct server *server)
{
	struct server_login *login = server->login;
	struct endpoint_facts facts;

	if (login->role == ENDPOINT_ROLE_UNKNOWN)
		return true;
	endpoint_note_role(server->endpoint, login->role, login->is_read_only, loop_now_us(server_login_loop(server)));
	facts = endpoint_facts(server->endpoint);
	if (endpoint_fits(&facts, server->conf->attrs))
		return true;
	server_close(server, REASON_WRONG_ROLE);
	return false;
}

static bool server_login_on_ready(struct server *server, struct slice body)
{
	struct server_login *login = server->login;
	bool speaks_sql = server->replication != REPLICATION_PHYSICAL;
	enum tx_status status;

	if (parse_ready(body, &status) != 0 || !login->authenticated) {
		server_close(server, REASON_SERVER_PKT);
		return false;
	}
	if (login->stage == SERVER_LOGIN_AUTH && login->role == ENDPOINT_ROLE_UNKNOWN && speaks_sql &&
	    server->conf->attrs != CONF_ATTRS_ANY)
		return server_login_query(server, SERVER_LOGIN_ROLE, SERVER_LOGIN_ROLE_QUERY);
	if (login->stage != SERVER_LOGIN_QUERY && !server_login_check_role(server))
		return false;
	if (login->stage != SERVER_LOGIN_QUERY && server->conf->db->connect_query != NULL && speaks_sql) {
		server->defaults = server_login_vars(login); /* a RESET does not return to what it sets */
		return server_login_query(server, SERVER_LOGIN_QUERY, server->conf->db->connect_query);
	}
	if (status != TX_IDLE) {
		server_close(server, REASON_CONNECT_QUERY);
		return false;
	}
	return server_login_finish(server);
}

/* What belongs to the result of a query of ours, if it does: only the row with the role is of interest. */
static bool server_login_on_result(struct server *server, uint8_t type, struct slice body)
{
	enum server_login_stage stage = server->login->stage;

	if (stage == SERVER_LOGIN_ROLE && type == BE_DATA_ROW)
		return server_login_on_role_row(server, body);
	if (stage == SERVER_LOGIN_QUERY || stage == SERVER_LOGIN_ROLE)
		return true;
	server_close(server, REASON_SERVER_PKT);
	return false;
}

/* One whole message; false when the login has ended, in one way or the other. */
static bool server_login_on_message(struct server *server, const uint8_t *message, const struct frame *f)
{
	struct slice body = slice_make(message + FRAME_HEADER, (size_t)f->size - FRAME_HEADER);

	switch (f->type) {
	case BE_AUTH:
		return server_login_on_auth(server, body);
	case BE_PARAMETER_STATUS:
		return server_login_on_parameter(server, message, (size_t)f->size);
	case BE_BACKEND_KEY:
		return server_login_on_key(server, body);
	case BE_ERROR:
		return server_login_on_error(server, body);
	case BE_READY:
		return server_login_on_ready(server, body);
	case BE_NEGOTIATE:
		return server_login_on_negotiate(server, body);
	case BE_NOTICE:
		return true;
	default:
		return server_login_on_result(server, f->type, body);
	}
}

void server_login_on_readable(struct server *server)
{
	enum reason reason = REASON_SERVER_CRASH;
	uint8_t *data;
	size_t len;
	size_t at = 0;
	int err;

	if (server->login->stage == SERVER_LOGIN_TLS) {
		enum server_tls_step step = server_tls_on_answer(&server->tls, &server->stream, &reason);

		server_login_on_tls_step(server, step, reason);
		return;
	}
	err = stream_fill(&server->stream, &data, &len);
	if (err == -E_AGAIN)
		return;
	if (err < 0) {
		server_close(server, REASON_SERVER_CRASH);
		return;
	}
	while (at < len) {
		struct frame f;

		err = frame_read(data + at, len - at, SERVER_LOGIN_MESSAGE_MAX, &f);
		if (err == -E_AGAIN || (err == 0 && f.size > len - at))
			break;
		if (err < 0) {
			server_login_fail_header(server, data[at]);
			return;
		}
		at += (size_t)f.size;
		/* Nothing may follow the last message of a login, not even a part of a record of TLS. */
		if (f.type == BE_READY && (at < len || !stream_is_clean(&server->stream))) {
			server_close(server, REASON_SERVER_PKT);
			return;
		}
		if (!server_login_on_message(server, data + at - f.size, &f))
			return;
	}
	if (stream_hold(&server->stream, data + at, len - at) != 0)
		server_close(server, REASON_OOM);
}
