/*
 * The table of reasons: each row is whole and in PostgreSQL's style, and its
 * templates say what they should with and without facts.
 */
#include "core/reason_tbl.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/str.h"

static const struct reason_facts all_facts = {
#define X(name) .name = "<" #name ">",
	REASON_FACTS(X)
#undef X
};

/* A whole sentence. */
static void assert_sentence(const char *text)
{
	size_t n = strlen(text);

	assert_true(n > 10 && n < 400);
	assert_true(isupper((unsigned char)text[0]));
	assert_true(text[n - 1] == '.');
	assert_null(strpbrk(text, "[]{}"));
	assert_null(strstr(text, "  "));
}

static void test_every_row(void **state UNUSED)
{
	char text[512];

	for (int i = 0; i < REASON_COUNT; i++) {
		enum reason reason = (enum reason)i;
		const char *sqlstate = reason_sqlstate(reason);

		assert_int_equal(strlen(sqlstate), 5);
		assert_int_equal(strspn(sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 5);
		reason_write_text(reason, &all_facts, text, sizeof(text));
		assert_null(strpbrk(text, "[]{}"));
		assert_true(reason == REASON_NONE || (text[0] != '\0' && text[strlen(text) - 1] != '.'));
		if (reason_write_detail(reason, &all_facts, text, sizeof(text)))
			assert_sentence(text);
		/* Without facts there is a whole sentence, or none. */
		if (reason_write_detail(reason, NULL, text, sizeof(text)))
			assert_sentence(text);
		else
			assert_string_equal(text, "");
		if (reason_hint(reason) != NULL)
			assert_sentence(reason_hint(reason));
	}
}

/* What the pooler closes a client's connection for has a state of PostgreSQL's, no general one. */
static void test_states(void **state UNUSED)
{
	static const struct {
		enum reason reason;
		const char *sqlstate;
	} rows[] = {
		{ REASON_MAX_CLIENT_CONN, "53300" },
		{ REASON_MAX_DB_CLIENTS, "53300" },
		{ REASON_MAX_USER_CLIENTS, "53300" },
		{ REASON_NO_DATABASE, "3D000" },
		{ REASON_DB_DISABLED, "55000" },
		{ REASON_NOT_ALLOWED, "42501" },
		{ REASON_SHUTDOWN, "57P03" },
		{ REASON_SERVER_SHUTDOWN, "57P01" },
		{ REASON_KILLED, "57P01" },
		{ REASON_DB_REMOVED, "57P01" },
		{ REASON_QUERY_WAIT_TIMEOUT, "57014" },
		{ REASON_QUERY_TIMEOUT, "57014" },
		{ REASON_IDLE_TX_TIMEOUT, "25P03" },
		{ REASON_TX_TIMEOUT, "25P04" },
		{ REASON_CLIENT_IDLE_TIMEOUT, "57P05" },
		{ REASON_LOGIN_TIMEOUT, "57014" },
		{ REASON_LOGIN_TIMEOUT_DOWN, "57P03" },
		{ REASON_SERVER_CRASH, "08006" },
		{ REASON_CONNECT_FAILED, "08001" },
		{ REASON_CACHED_ERROR, "08001" },
		{ REASON_CONFIG, "F0000" },
		{ REASON_OOM, "53200" },
		{ REASON_STATEMENT_MODE, "0A000" },
		{ REASON_BAD_HEADER, "08P01" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(reason_sqlstate(rows[i].reason), rows[i].sqlstate);
}

static void test_text_with_facts(void **state UNUSED)
{
	const struct reason_facts facts = { .database = "shop", .error = "connect failed", .bytes = "0badcafe" };
	char text[512];

	reason_write_text(REASON_NO_DATABASE, &facts, text, sizeof(text));
	assert_string_equal(text, "no such database: shop");
	reason_write_text(REASON_DB_DISABLED, &facts, text, sizeof(text));
	assert_string_equal(text, "database \"shop\" is disabled");
	reason_write_text(REASON_CACHED_ERROR, &facts, text, sizeof(text));
	assert_string_equal(text, "server login has been failing, cached error: connect failed (server_login_retry)");
	reason_write_text(REASON_BAD_HEADER, &facts, text, sizeof(text));
	assert_string_equal(text, "bad packet header: '0badcafe'");
}

static void test_brackets(void **state UNUSED)
{
	struct reason_facts facts = { .database = "shop", .user = "joe", .time = "3 s", .timeout = "2 s" };
	char text[512];

	assert_true(reason_write_detail(REASON_QUERY_WAIT_TIMEOUT, &facts, text, sizeof(text)));
	assert_string_equal(text, "The query waited 3 s for a server of database \"shop\" as user \"joe\" and was not "
				  "sent; query_wait_timeout is 2 s.");
	facts.error = "connect failed";
	assert_true(reason_write_detail(REASON_QUERY_WAIT_TIMEOUT, &facts, text, sizeof(text)));
	assert_non_null(strstr(text, " is 2 s; the last attempt to connect failed: connect failed."));
	/* An empty fact is none; without one that stands outside of brackets there is no detail. */
	facts.error = "";
	assert_true(reason_write_detail(REASON_QUERY_WAIT_TIMEOUT, &facts, text, sizeof(text)));
	assert_null(strstr(text, "attempt"));
	facts.user = NULL;
	assert_false(reason_write_detail(REASON_QUERY_WAIT_TIMEOUT, &facts, text, sizeof(text)));
	assert_string_equal(text, "");
	/* Names are no templates. */
	facts.user = "{limit} [joe";
	assert_true(reason_write_detail(REASON_QUERY_WAIT_TIMEOUT, &facts, text, sizeof(text)));
	assert_non_null(strstr(text, "as user \"{limit} [joe\" and"));
}

static void test_cut(void **state UNUSED)
{
	const struct reason_facts facts = { .database = "a name that is rather long" };
	char text[32];

	reason_write_text(REASON_NO_DATABASE, &facts, text, sizeof(text));
	assert_string_equal(text, "no such database: a name that i");
	assert_false(reason_write_detail(REASON_QUERY_TIMEOUT, &facts, text, sizeof(text)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row), cmocka_unit_test(test_states), cmocka_unit_test(test_text_with_facts),
		cmocka_unit_test(test_brackets),  cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
