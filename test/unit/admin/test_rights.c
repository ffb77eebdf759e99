/*
 * Who may run what: an expectation for every command and every table of SHOW.
 * One that is new has none, and fails here until somebody has decided.
 */
#include "admin/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/show.h"

struct expectation {
	const char *name;
	enum command_right right;
};

/* SHOW itself is free to all; its tables have rights of their own. */
static const struct expectation commands[] = {
	{ "SHOW", COMMAND_FOR_STATS },        { "SET", COMMAND_FOR_ADMIN },       { "RELOAD", COMMAND_FOR_ADMIN },
	{ "PAUSE", COMMAND_FOR_ADMIN },       { "RESUME", COMMAND_FOR_ADMIN },    { "DISABLE", COMMAND_FOR_ADMIN },
	{ "ENABLE", COMMAND_FOR_ADMIN },      { "RECONNECT", COMMAND_FOR_ADMIN }, { "KILL", COMMAND_FOR_ADMIN },
	{ "KILL_CLIENT", COMMAND_FOR_ADMIN }, { "SUSPEND", COMMAND_FOR_ADMIN },   { "SHUTDOWN", COMMAND_FOR_ADMIN },
	{ "WAIT_CLOSE", COMMAND_FOR_ADMIN },  { "DRAIN", COMMAND_FOR_ADMIN },     { "BREAKER", COMMAND_FOR_ADMIN },
};

static const struct expectation tables[] = {
	{ "HELP", COMMAND_FOR_STATS },
	{ "CONFIG", COMMAND_FOR_STATS },
	{ "DATABASES", COMMAND_FOR_STATS },
	{ "POOLS", COMMAND_FOR_STATS },
	{ "CLIENTS", COMMAND_FOR_STATS },
	{ "SERVERS", COMMAND_FOR_STATS },
	{ "USERS", COMMAND_FOR_STATS },
	{ "VERSION", COMMAND_FOR_STATS },
	{ "PEERS", COMMAND_FOR_STATS },
	{ "PEER_POOLS", COMMAND_FOR_STATS },
	{ "FDS", COMMAND_FOR_ADMIN },
	{ "HANDOVER", COMMAND_FOR_ADMIN },
	{ "LOOPS", COMMAND_FOR_STATS },
	{ "AUTH_CACHE", COMMAND_FOR_STATS },
	{ "QUEUE", COMMAND_FOR_STATS },
	{ "QUEUES", COMMAND_FOR_STATS },
	{ "RETRIES", COMMAND_FOR_STATS },
	{ "READINESS", COMMAND_FOR_STATS },
	{ "ENDPOINTS", COMMAND_FOR_STATS },
	{ "FAILOVERS", COMMAND_FOR_STATS },
	{ "TIMEOUTS", COMMAND_FOR_STATS },
	{ "BREAKERS", COMMAND_FOR_STATS },
	{ "SOCKETS", COMMAND_FOR_STATS },
	{ "ACTIVE_SOCKETS", COMMAND_FOR_STATS },
	{ "LISTS", COMMAND_FOR_STATS },
	{ "MEM", COMMAND_FOR_STATS },
	{ "STATE", COMMAND_FOR_STATS },
	{ "DNS_HOSTS", COMMAND_FOR_STATS },
	{ "DNS_ZONES", COMMAND_FOR_STATS },
	{ "STATS", COMMAND_FOR_STATS },
	{ "STATS_TOTALS", COMMAND_FOR_STATS },
	{ "STATS_AVERAGES", COMMAND_FOR_STATS },
	{ "TOTALS", COMMAND_FOR_STATS },
	{ "1", COMMAND_FOR_STATS }, /* SELECT 1 */
	{ "client_encoding", COMMAND_FOR_STATS },
	{ "default_transaction_isolation", COMMAND_FOR_STATS },
	{ "standard_conforming_strings", COMMAND_FOR_STATS },
	{ "datestyle", COMMAND_FOR_STATS },
	{ "timezone", COMMAND_FOR_STATS },
	{ "extra_float_digits", COMMAND_FOR_STATS },
};

static void check_right(const struct expectation *rows, size_t n, const char *name, enum command_right right)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(rows[i].name, name) != 0)
			continue;
		if (rows[i].right != right)
			fail_msg("%s has another right than expected", name);
		return;
	}
	fail_msg("nobody has said here who may run %s", name);
}

static void test_commands(void **state UNUSED)
{
	for (size_t i = 0; command_at(i) != NULL; i++)
		check_right(commands, ARRAY_LEN(commands), command_at(i)->name, command_at(i)->right);
}

static void test_tables(void **state UNUSED)
{
	for (size_t i = 0; show_at(i) != NULL; i++)
		check_right(tables, ARRAY_LEN(tables), show_at(i)->name, show_at(i)->right);
}

/* What PgBouncer does not have, or the program asks of itself. */
static const char *const not_in_help[] = { "HANDOVER", "LOOPS",     "AUTH_CACHE", "QUEUE",    "QUEUES",  "READINESS",
					   "TIMEOUTS", "ENDPOINTS", "FAILOVERS",  "BREAKERS", "RETRIES", "1" };

/* All that may be run stands in SHOW HELP, but for these and for variables that mean nothing. */
static void test_help_is_complete(void **state UNUSED)
{
	for (size_t i = 0; command_at(i) != NULL; i++)
		assert_true(command_at(i)->help != NULL || strcmp(command_at(i)->name, "SHOW") == 0);
	for (size_t i = 0; show_at(i) != NULL; i++) {
		const char *name = show_at(i)->name;
		bool is_ours = show_is_fake_variable(name);

		for (size_t j = 0; j < ARRAY_LEN(not_in_help); j++)
			is_ours |= strcmp(name, not_in_help[j]) == 0;
		assert_int_equal(show_at(i)->in_help, !is_ours);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_help_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
