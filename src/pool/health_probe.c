/*
 * A probe is a small state machine over libpq's asynchronous functions:
 *
 *   PROBE_CLOSED --> PROBE_DNS --> PROBE_CONNECT --> PROBE_ASK --> PROBE_QUERY --> PROBE_OPEN
 *        ^               |              |               |              |        (health_query)
 *        +---------------+--------------+---------------+--------------+--- error, or too late
 *
 * From PROBE_OPEN the next question begins with PROBE_ASK. The connection is
 * watched meanwhile: when the server closes it, the owner hears of that at once,
 * which for a server that has crashed is the earliest sign there is.
 *
 * A question that is lost with a kept connection is no evidence: the server may
 * have been restarted since. Nor is one that finds no answer there: what that
 * hangs on may be this connection alone. It is asked once more on a fresh one,
 * within the same deadline, half of which is for either. Once the connection has
 * answered, health_query has all of the rest.
 *
 * libpq would look for passwords, certificates, services and more in the home
 * directory and in the environment. Each such place is named here, so that it
 * finds none: what counts is our configuration. GSSAPI, whose library blocks, is
 * switched off as far as libpq lets us.
 *
 * libpq closes its socket and opens another as it likes (next address, next
 * attempt without TLS). So the event is made anew before each wait and never
 * lives while libpq runs.
 */
#include "pool/health_probe.h"

#include <libpq-fe.h>
#include <openssl/x509.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "pool/endpoint.h"

/* A file that cannot exist. */
#define PROBE_NO_FILE     "/dev/null/none"
#define PROBE_PARAMS_MAX  24
#define PROBE_QUERY_EXTRA 64

enum probe_state {
	PROBE_CLOSED,
	PROBE_DNS,
	PROBE_CONNECT,
	PROBE_ASK,
	PROBE_QUERY,
	PROBE_OPEN, /* connected, nothing asked */
};

/* The strings of a setup that are copied. */
#define PROBE_SETUP_TEXTS(X) X(user) X(password) X(dbname) X(query) X(tls_ca) X(tls_cert) X(tls_key)

struct health_probe {
	struct loop *loop;
	struct dns *dns;
	char *host;
	uint16_t port;
	const struct health_probe_ops *ops;
	void *arg;
	struct health_setup setup; /* with strings of our own */
	enum probe_state state;
	struct sock_addr addr;      /* that was asked last */
	struct dns_request *lookup; /* under way; freed when it comes back */
	PGconn *conn;
	struct event *io;    /* for libpq's socket; NULL: not waiting */
	struct event *timer; /* the deadline of the question */
	uint64_t asked_us;   /* since when the answer is awaited, for the latency */
	bool is_kept;        /* the connection has answered a question before this one */
	enum health_question question;
	bool has_row;
	bool has_failed;           /* the server has answered with an error */
	char sqlstate[6];          /* of that error */
	struct health_facts facts; /* as far as they are known */
};

static void probe_begin(struct health_probe *probe);
static void probe_on_io(evutil_socket_t fd, short what, void *arg);
static void probe_on_timer(evutil_socket_t fd, short what, void *arg);

/* What the libpq that we run with can do. */
static bool probe_knows_require_auth; /* since 16 */
static bool probe_knows_negotiation;  /* since 17 */

/* ---- set up ---- */

/* True for a parameter that this libpq knows. */
static bool probe_knows_param(const char *key)
{
	PQconninfoOption *options = PQconndefaults();
	bool knows = false;

	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
		knows |= strcmp(o->keyword, key) == 0;
	PQconninfoFree(options);
	return knows;
}

void health_probe_prepare(void)
{
	static const char *const names[] = {
		"PGHOSTADDR",
		"PGSERVICE",
		"PGSERVICEFILE",
		"PGOPTIONS",
		"PGPASSWORD",
		"PGPASSFILE",
		"PGREQUIREAUTH",
		"PGCHANNELBINDING",
		"PGREQUIRESSL",
		"PGSSLCERTMODE",
		"PGSSLCRLDIR",
		"PGREQUIREPEER",
		"PGSSLSNI",
		"PGCLIENTENCODING",
		"PGSSLMAXPROTOCOLVERSION",
		"PGSSLMINPROTOCOLVERSION",
		"PGTARGETSESSIONATTRS",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	probe_knows_require_auth = probe_knows_param("require_auth");
	probe_knows_negotiation = probe_knows_param("sslnegotiation");
}

struct health_probe *health_probe_new(struct loop *loop, struct dns *dns, const char *host, uint16_t port,
				      const struct health_probe_ops *ops, void *arg)
{
	struct health_probe *probe = xcalloc(1, sizeof(*probe));

	probe->loop = loop;
	probe->dns = dns;
	probe->host = xstrdup(host);
	probe->port = port;
	probe->ops = ops;
	probe->arg = arg;
	probe->timer = event_new(loop_base(loop), -1, 0, probe_on_timer, probe);
	if (probe->timer == NULL)
		log_fatal("no memory");
	return probe;
}

static bool probe_same_text(const char *a, const char *b)
{
	return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) == 0;
}

static bool probe_same_setup(const struct health_setup *a, const struct health_setup *b)
{
#define X(name)                                 \
	if (!probe_same_text(a->name, b->name)) \
		return false;
	PROBE_SETUP_TEXTS(X)
#undef X
	return a->tls_mode == b->tls_mode && a->tls_direct == b->tls_direct;
}

static void probe_free_setup(struct health_setup *setup)
{
	if (setup->password != NULL)
		mem_wipe((char *)setup->password, strlen(setup->password));
#define X(name)                    \
	free((char *)setup->name); \
	setup->name = NULL;
	PROBE_SETUP_TEXTS(X)
#undef X
}

/* ---- the connection ---- */

static void probe_unwatch(struct health_probe *probe)
{
	if (probe->io != NULL)
		event_free(probe->io);
	probe->io = NULL;
}

static void probe_watch(struct health_probe *probe, short what)
{
	ASSERT(probe->io == NULL);
	probe->io = event_new(loop_base(probe->loop), PQsocket(probe->conn), what, probe_on_io, probe);
	if (probe->io == NULL || event_add(probe->io, NULL) != 0)
		log_fatal("no memory");
}

static void probe_close(struct health_probe *probe)
{
	probe_unwatch(probe);
	evtimer_del(probe->timer);
	if (probe->lookup != NULL)
		probe->lookup->cancelled = true;
	probe->lookup = NULL;
	PQfinish(probe->conn);
	probe->conn = NULL;
	probe->state = PROBE_CLOSED;
}

void health_probe_set(struct health_probe *probe, const struct health_setup *setup)
{
	bool is_busy = health_probe_is_busy(probe);
	bool is_same = probe_same_setup(&probe->setup, setup);

	probe->setup.timeout_us = setup->timeout_us;
	if (is_same)
		return;
	probe_free_setup(&probe->setup);
	probe->setup = *setup;
#define X(name) probe->setup.name = setup->name == NULL ? NULL : xstrdup(setup->name);
	PROBE_SETUP_TEXTS(X)
#undef X
	probe_close(probe);
	if (is_busy)
		health_probe_start(probe);
}

void health_probe_free(struct health_probe **probep)
{
	struct health_probe *probe = *probep;

	*probep = NULL;
	if (probe == NULL)
		return;
	probe_close(probe);
	event_free(probe->timer);
	probe_free_setup(&probe->setup);
	free(probe->host);
	free(probe);
}

bool health_probe_is_busy(const struct health_probe *probe)
{
	return probe->state != PROBE_CLOSED && probe->state != PROBE_OPEN;
}

/* ---- the end of a question ---- */

static void probe_finish(struct health_probe *probe)
{
	evtimer_del(probe->timer);
	probe->is_kept = probe->state == PROBE_OPEN;
	probe->ops->done(probe->arg, &probe->facts);
}

/* There is no answer, or none that says that it is well; `why` is for people. */
static void probe_fail(struct health_probe *probe, const char *why)
{
	probe_close(probe);
	probe->facts.is_reachable = false;
	str_copy(probe->facts.error, sizeof(probe->facts.error), why);
	probe_finish(probe);
}

static void probe_set_timer(struct health_probe *probe, uint64_t us)
{
	const struct timeval deadline = { (time_t)(us / USEC_PER_SEC), (suseconds_t)(us % USEC_PER_SEC) };

	if (us > 0 && evtimer_add(probe->timer, &deadline) != 0)
		log_fatal("no memory");
}

/* The kept connection was of no use. */
static void probe_begin_anew(struct health_probe *probe)
{
	probe->is_kept = false;
	probe_unwatch(probe);
	PQfinish(probe->conn);
	probe->conn = NULL;
	probe_begin(probe);
}

/* The connection was not made, or was lost. */
static void probe_on_lost(struct health_probe *probe)
{
	char text[HEALTH_ERROR_MAX];
	char sqlstate[6];
	bool answers; /* if not to us */

	if (probe->is_kept) {
		probe_begin_anew(probe);
		return;
	}
	health_error_read(PQerrorMessage(probe->conn), sqlstate, text, sizeof(text));
	answers = probe->state == PROBE_CONNECT &&
		  ((sqlstate[0] != '\0' && !health_is_refusing(sqlstate)) || PQconnectionNeedsPassword(probe->conn));
	if (!answers) {
		probe_fail(probe, text[0] != '\0' ? text : "the connection was lost");
		return;
	}
	probe->facts.is_reachable = true;
	probe->facts.latency_us = clock_mono_us() - probe->asked_us;
	probe_close(probe);
	str_copy(probe->facts.error, sizeof(probe->facts.error), text);
	probe_finish(probe);
}

static void probe_on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	static const char *const doing[] = {
		[PROBE_DNS] = "no answer of the name servers in time",
		[PROBE_CONNECT] = "no connection in time",
		[PROBE_ASK] = "no answer in time",
		[PROBE_QUERY] = "health_query has not ended in time",
	};
	struct health_probe *probe = arg;

	if (probe->is_kept && probe->state == PROBE_ASK) {
		probe_set_timer(probe, (probe->setup.timeout_us + 1) / 2);
		probe_begin_anew(probe);
		return;
	}
	probe->facts.is_silent = probe->state == PROBE_CONNECT;
	probe->facts.silent_at = endpoint_mark(&probe->addr);
	probe_fail(probe, doing[probe->state]);
}

/* ---- connecting ---- */

struct probe_params {
	const char *keys[PROBE_PARAMS_MAX];
	const char *values[PROBE_PARAMS_MAX];
	size_t count;
};

/* libpq takes an empty value for none. */
static void probe_param(struct probe_params *params, const char *key, const char *value)
{
	if (!str_is_set(value))
		return;
	ASSERT(params->count + 1 < PROBE_PARAMS_MAX);
	params->keys[params->count] = key;
	params->values[params->count++] = value;
}

/* What the system trusts, as a file, since older versions of libpq know no other way. */
static const char *probe_system_ca(enum conf_sslmode mode)
{
	static const char *const files[] = { "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
					     "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem" };
	const char *usual = X509_get_default_cert_file();

	if (mode == CONF_SSL_VERIFY_FULL && probe_knows_require_auth)
		return "system";
	if (access(usual, R_OK) == 0)
		return usual;
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (access(files[i], R_OK) == 0)
			return files[i];
	return PROBE_NO_FILE;
}

static void probe_tls_params(const struct health_setup *setup, struct probe_params *params)
{
	const char *ca = setup->tls_ca;

	if (setup->tls_mode < CONF_SSL_VERIFY_CA)
		ca = PROBE_NO_FILE;
	else if (!str_is_set(ca))
		ca = probe_system_ca(setup->tls_mode);
	probe_param(params, "sslmode", conf_sslmode_name(setup->tls_mode));
	probe_param(params, "sslrootcert", ca);
	probe_param(params, "sslcert", str_is_set(setup->tls_cert) ? setup->tls_cert : PROBE_NO_FILE);
	probe_param(params, "sslkey", str_is_set(setup->tls_key) ? setup->tls_key : PROBE_NO_FILE);
	probe_param(params, "sslcrl", PROBE_NO_FILE);
	if (setup->tls_direct && setup->tls_mode >= CONF_SSL_REQUIRE && probe_knows_negotiation)
		probe_param(params, "sslnegotiation", "direct");
}

/* Without this, notices would go to stderr. */
static void probe_on_notice(void *arg UNUSED, const PGresult *result UNUSED)
{
}

/* `address` is NULL for the directory of a Unix socket. */
static void probe_connect(struct health_probe *probe, const char *address)
{
	struct probe_params params = { .count = 0 };
	char port[8];

	str_format(port, sizeof(port), "%u", probe->port);
	probe_param(&params, "host", probe->host);
	probe_param(&params, "hostaddr", address);
	probe_param(&params, "port", port);
	probe_param(&params, "user", probe->setup.user);
	probe_param(&params, "password", probe->setup.password);
	probe_param(&params, "passfile", PROBE_NO_FILE);
	probe_param(&params, "dbname", probe->setup.dbname);
	probe_param(&params, "application_name", "pgsluice health");
	probe_param(&params, "gssencmode", "disable");
	probe_tls_params(&probe->setup, &params);
	if (probe_knows_require_auth)
		probe_param(&params, "require_auth", "!gss,!sspi");
	params.keys[params.count] = NULL;
	params.values[params.count] = NULL;
	probe->state = PROBE_CONNECT;
	probe->conn = PQconnectStartParams(params.keys, params.values, 0);
	if (probe->conn == NULL)
		log_fatal("no memory");
	PQsetErrorVerbosity(probe->conn, PQERRORS_VERBOSE);
	PQsetNoticeReceiver(probe->conn, probe_on_notice, NULL);
	if (PQstatus(probe->conn) == CONNECTION_BAD)
		probe_on_lost(probe);
	else
		probe_watch(probe, EV_WRITE);
}

static void probe_on_dns(struct dns_request *req)
{
	struct health_probe *probe = req->arg;
	char address[SOCK_ADDR_TEXT];

	if (req->cancelled) {
		free(req);
		return;
	}
	probe->lookup = NULL;
	if (req->err == 0) {
		probe->addr = req->addrs[0];
		sock_addr_host(&probe->addr, address, sizeof(address));
		probe_connect(probe, address);
	} else {
		probe_fail(probe, "the host name could not be resolved");
	}
	free(req);
}

static void probe_begin(struct health_probe *probe)
{
	int err = sock_addr_set_host(&probe->addr, probe->host, probe->port);

	health_facts_init(&probe->facts);
	if (sock_host_is_unix(probe->host)) {
		probe_connect(probe, NULL);
		return;
	}
	if (err == 0) {
		probe_connect(probe, probe->host);
		return;
	}
	probe->state = PROBE_DNS;
	probe->lookup = xcalloc(1, sizeof(*probe->lookup));
	probe->lookup->loop = probe->loop;
	probe->lookup->done = probe_on_dns;
	probe->lookup->arg = probe;
	dns_lookup(probe->dns, probe->host, probe->port, probe->lookup);
}

/* ---- asking ---- */

static void probe_send(struct health_probe *probe, enum probe_state state, const char *text)
{
	probe->state = state;
	probe->has_row = false;
	probe->has_failed = false;
	if (PQsendQuery(probe->conn, text) != 1)
		probe_on_lost(probe);
	else
		probe_watch(probe, EV_READ | (PQflush(probe->conn) == 1 ? EV_WRITE : 0));
}

static void probe_ask(struct health_probe *probe)
{
	probe_send(probe, PROBE_ASK, health_question_text(probe->question));
}

/* A kept connection had half of the time to show that it is alive, and is. */
static void probe_extend(struct health_probe *probe)
{
	uint64_t end_us = probe->asked_us + probe->setup.timeout_us;
	uint64_t now_us = clock_mono_us();

	if (probe->is_kept && probe->setup.timeout_us > 0)
		probe_set_timer(probe, end_us > now_us ? end_us - now_us : 1);
}

static void probe_run_query(struct health_probe *probe)
{
	size_t size = strlen(probe->setup.query) + PROBE_QUERY_EXTRA;
	char *text = xmalloc(size);

	/* What is too late for us shall not go on in the server, for that very transaction. */
	probe_extend(probe);
	str_format(text, size, "SET LOCAL statement_timeout = %" PRIu64 "; %s", probe->setup.timeout_us / 1000,
		   probe->setup.query);
	probe_send(probe, PROBE_QUERY, text);
	free(text);
}

static void probe_on_connected(struct health_probe *probe)
{
	probe->question = HEALTH_ASK_ALL;
	probe->facts.is_reachable = true;
	probe->facts.latency_us = clock_mono_us() - probe->asked_us;
	if (PQsetnonblocking(probe->conn, 1) != 0) {
		probe_on_lost(probe);
		return;
	}
	probe->asked_us = clock_mono_us();
	probe_ask(probe);
}

static void probe_read_row(struct health_probe *probe, const PGresult *result)
{
	const char *values[16];
	int n = PQnfields(result);

	if (PQntuples(result) != 1 || n > (int)ARRAY_LEN(values))
		return;
	for (int i = 0; i < n; i++)
		values[i] = PQgetisnull(result, 0, i) ? NULL : PQgetvalue(result, 0, i);
	probe->has_row |= health_facts_read(&probe->facts, values, (size_t)n) == 0;
}

/* One result of a question; false when the connection can be of no further use. */
static bool probe_on_result(struct health_probe *probe, const PGresult *result)
{
	const char *state;
	const char *text;

	switch (PQresultStatus(result)) {
	case PGRES_TUPLES_OK:
		if (probe->state == PROBE_ASK)
			probe_read_row(probe, result);
		return true;
	case PGRES_COMMAND_OK:
	case PGRES_EMPTY_QUERY:
		return true;
	case PGRES_FATAL_ERROR:
		state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
		text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
		probe->has_failed = true;
		str_copy(probe->sqlstate, sizeof(probe->sqlstate), state == NULL ? "" : state);
		str_copy(probe->facts.error, sizeof(probe->facts.error), text == NULL ? "error" : text);
		return PQstatus(probe->conn) == CONNECTION_OK;
	default:
		return false; /* COPY and the like */
	}
}

/* The built-in question has been answered. */
static void probe_on_answer(struct health_probe *probe)
{
	if (!probe->has_row && probe->question + 1 < HEALTH_QUESTIONS) {
		probe->question++;
		probe_ask(probe);
		return;
	}
	if (probe->has_row)
		probe->facts.error[0] = '\0';
	else if (!probe->has_failed)
		str_copy(probe->facts.error, sizeof(probe->facts.error), "no answer that makes sense");
	probe->facts.latency_us = clock_mono_us() - probe->asked_us;
	if (str_is_set(probe->setup.query)) {
		probe_run_query(probe);
		return;
	}
	probe->state = PROBE_OPEN;
	probe_watch(probe, EV_READ);
	probe_finish(probe);
}

static void probe_on_query_done(struct health_probe *probe)
{
	if (probe->has_failed)
		probe->facts.is_reachable = false;
	probe->state = PROBE_OPEN;
	probe_watch(probe, EV_READ);
	probe_finish(probe);
}

/* Takes what has come; false when more is to be waited for, or the probe has gone on, or is over. */
static void probe_read(struct health_probe *probe)
{
	if (PQconsumeInput(probe->conn) != 1 || PQflush(probe->conn) < 0) {
		probe_on_lost(probe);
		return;
	}
	while (!PQisBusy(probe->conn)) {
		PGresult *result = PQgetResult(probe->conn);
		bool is_good;

		if (result == NULL) {
			if (probe->state == PROBE_ASK)
				probe_on_answer(probe);
			else
				probe_on_query_done(probe);
			return;
		}
		is_good = probe_on_result(probe, result);
		PQclear(result);
		if (!is_good && probe->has_failed) {
			probe_on_lost(probe);
			return;
		}
		if (!is_good) {
			probe_fail(probe, "the answer is not one of a query");
			return;
		}
	}
	probe_watch(probe, EV_READ | (PQflush(probe->conn) == 1 ? EV_WRITE : 0));
}

static void probe_poll(struct health_probe *probe)
{
	switch (PQconnectPoll(probe->conn)) {
	case PGRES_POLLING_READING:
		probe_watch(probe, EV_READ);
		break;
	case PGRES_POLLING_WRITING:
		probe_watch(probe, EV_WRITE);
		break;
	case PGRES_POLLING_OK:
		probe_on_connected(probe);
		break;
	default:
		probe_on_lost(probe);
		break;
	}
}

/* Something has come though nothing was asked: a notice, or the end. */
static void probe_on_unasked(struct health_probe *probe)
{
	if (PQconsumeInput(probe->conn) == 1 && PQstatus(probe->conn) == CONNECTION_OK) {
		probe_watch(probe, EV_READ);
		return;
	}
	probe_close(probe);
	probe->ops->lost(probe->arg);
}

static void probe_on_io(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct health_probe *probe = arg;

	probe_unwatch(probe);
	if (probe->state == PROBE_CONNECT)
		probe_poll(probe);
	else if (probe->state == PROBE_OPEN)
		probe_on_unasked(probe);
	else
		probe_read(probe);
}

bool health_probe_start(struct health_probe *probe)
{
	bool is_kept = probe->state == PROBE_OPEN;

	if (health_probe_is_busy(probe))
		return false;
	health_facts_init(&probe->facts);
	probe->asked_us = clock_mono_us();
	probe_set_timer(probe, is_kept ? (probe->setup.timeout_us + 1) / 2 : probe->setup.timeout_us);
	if (is_kept) {
		probe_unwatch(probe);
		probe->facts.is_reachable = true;
		probe_ask(probe);
	} else {
		probe->is_kept = false;
		probe_begin(probe);
	}
	return true;
}
