#include "excuse.h"

#include <fnmatch.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"

#define EXCUSE_PORTS     65536
#define WINDOW_BIT(name) (1u << WINDOW_##name)

/* What clients may read, and which windows explain it. */
static const struct {
	const char *text;
	bool is_prefix;
	bool login_only;
	unsigned windows;
} excuse_texts[] = {
	{ "database removed", false, false, WINDOW_BIT(KILL) | WINDOW_BIT(REMOVE) },
	{ "no such database: ", true, true, WINDOW_BIT(REMOVE) },
	{ "database \"", true, true, WINDOW_BIT(DISABLE) | WINDOW_BIT(DRAIN) }, /* ... is disabled, or being drained */
	{ "terminating connection: the database is being drained", false, false, WINDOW_BIT(DRAIN) },
	{ "terminating connection: not finished when draining ended", false, false, WINDOW_BIT(DRAIN) },
	{ "query_wait_timeout", false, false, WINDOW_BIT(PATIENCE) },
	{ "no more connections allowed (max_client_conn)", false, true, WINDOW_BIT(FULL) },
	{ "suspend_timeout", false, false, WINDOW_BIT(SUSPEND) | WINDOW_BIT(RESTART) },
};

/* Patterns of what clients may read when servers are lost. */
static const char *const excuse_faults[] = {
	"server conn crashed[?]",
	"server connection closed",
	"session state is in doubt",
	"terminating connection because protocol synchronization was lost",
	"server login has been failing, cached error: server conn crashed[?] (server_login_retry)",
	"server login has been failing, cached error: connect failed (server_login_retry)",
};

/* Windows in which connections may end without a word, because an error would stand in the middle of a message. */
#define EXCUSE_SILENT (WINDOW_BIT(KILL) | WINDOW_BIT(DRAIN) | WINDOW_BIT(REMOVE) | WINDOW_BIT(SUSPEND))

/* When each window was open last: INT64_MAX while it is, 0 when it never was. */
static _Atomic int64_t excuse_until[N_WINDOWS][N_DBS];
static _Atomic int64_t excuse_ports[EXCUSE_PORTS];
static _Atomic int64_t excuse_paused[N_DBS];
static _Atomic int64_t excuse_restart;

void excuse_open(enum excuse_window w, unsigned db)
{
	atomic_store(&excuse_until[w][db], INT64_MAX);
}

void excuse_close(enum excuse_window w, unsigned db)
{
	atomic_store(&excuse_until[w][db], now_us());
}

void excuse_kill_port(unsigned port)
{
	if (port < EXCUSE_PORTS)
		atomic_store(&excuse_ports[port], now_us());
}

static bool excuse_was_killed(const struct excuse_case *ec)
{
	return ec->port > 0 && ec->port < EXCUSE_PORTS && atomic_load(&excuse_ports[ec->port]) >= ec->since_us;
}

static bool excuse_any(const struct excuse_case *ec, unsigned windows)
{
	for (int w = 0; w < N_WINDOWS; w++)
		if ((windows & (1u << w)) && atomic_load(&excuse_until[w][ec->db]) >= ec->since_us)
			return true;
	return false;
}

enum excuse_verdict excuse_error(const struct excuse_case *ec, const char *text)
{
	if (strcmp(text, "admin forced disconnect") == 0)
		return excuse_was_killed(ec) ? EXCUSE_GRANTED : EXCUSE_DENIED;
	for (size_t i = 0; i < sizeof(excuse_faults) / sizeof(excuse_faults[0]); i++)
		if (fnmatch(excuse_faults[i], text, 0) == 0)
			return EXCUSE_FAULT;
	for (size_t i = 0; i < sizeof(excuse_texts) / sizeof(excuse_texts[0]); i++) {
		size_t n = excuse_texts[i].is_prefix ? strlen(excuse_texts[i].text) : SIZE_MAX;

		if (n == SIZE_MAX ? strcmp(text, excuse_texts[i].text) : strncmp(text, excuse_texts[i].text, n))
			continue;
		if (excuse_texts[i].login_only && !ec->login)
			return EXCUSE_DENIED;
		return excuse_any(ec, excuse_texts[i].windows) ? EXCUSE_GRANTED : EXCUSE_DENIED;
	}
	return EXCUSE_UNKNOWN;
}

bool excuse_silence(const struct excuse_case *ec)
{
	return excuse_was_killed(ec) || excuse_any(ec, EXCUSE_SILENT) ||
	       (ec->login && excuse_any(ec, WINDOW_BIT(RESTART)));
}

void excuse_set_restarted(int64_t at_us)
{
	atomic_store(&excuse_restart, at_us);
}

int64_t excuse_restarted(void)
{
	return atomic_load(&excuse_restart);
}

void excuse_set_paused(unsigned db, int64_t since_us)
{
	atomic_store(&excuse_paused[db], since_us);
}

int64_t excuse_paused_since(unsigned db)
{
	return atomic_load(&excuse_paused[db]);
}
