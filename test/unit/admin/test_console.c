/*
 * Console sessions: who may run what, what the answers say, what commands do.
 */
#include "console_test.h"

static int setup(void **state UNUSED)
{
	return console_setup("pgbouncer");
}

/* ---- rights ---- */

/* A well-formed use of each command. */
static void example_of(const struct command *command, char *dst, size_t size)
{
	switch (command->arg) {
	case COMMAND_ARG_NONE:
	case COMMAND_ARG_DRY_RUN:
	case COMMAND_ARG_DB:
	case COMMAND_ARG_SHUTDOWN:
	case COMMAND_ARG_DRAIN:
		str_format(dst, size, "%s", command->name);
		break;
	case COMMAND_ARG_NEED_DB:
		str_format(dst, size, "%s app", command->name);
		break;
	case COMMAND_ARG_ID:
		str_format(dst, size, "%s 1", command->name);
		break;
	case COMMAND_ARG_BREAKER:
		str_format(dst, size, "%s OPEN nowhere:1", command->name);
		break;
	case COMMAND_ARG_SHOW:
		str_format(dst, size, "%s VERSION", command->name);
		break;
	case COMMAND_ARG_SET:
		str_format(dst, size, "%s pool_mode = session", command->name);
		break;
	}
}

static void test_rights_of_every_command(void **state UNUSED)
{
	struct session watcher = open_session(false);
	size_t refused = 0;
	char sql[128];

	for (size_t i = 0; command_at(i) != NULL; i++) {
		const struct command *command = command_at(i);

		example_of(command, sql, sizeof(sql));
		if (command->arg == COMMAND_ARG_SHOW) {
			expect_tag(&watcher, sql, "SHOW");
		} else {
			assert_int_equal(command->right, COMMAND_FOR_ADMIN);
			expect_error(&watcher, sql, "admin access needed");
			refused++;
		}
	}
	assert_int_equal(refused, 14);
	assert_int_equal(atomic_load(&reloads), 0);
	assert_int_equal(atomic_load(&shutdown_asked), SHUTDOWN_NONE);
	assert_int_equal(atomic_load(&engine->mode), ENGINE_ACTIVE);
	close_session(&watcher);
}

static void test_every_table_for_everybody(void **state UNUSED)
{
	for (int is_admin = 0; is_admin <= 1; is_admin++) {
		struct session s = open_session(is_admin != 0);
		char sql[128];

		for (size_t i = 0; show_at(i) != NULL; i++) {
			struct reply r;

			if (show_at(i)->needs_extended || (!is_admin && show_at(i)->right == COMMAND_FOR_ADMIN))
				continue;
			str_format(sql, sizeof(sql), "%s %s", i % 2 == 0 ? "show" : "SELECT", show_at(i)->name);
			r = ask(&s, sql);
			assert_string_equal(r.tag, "SHOW");
			assert_int_equal(r.types[0], show_at(i)->columns == NULL ? 'N' : 'T');
		}
		close_session(&s);
	}
}

static void test_fake_variables(void **state UNUSED)
{
	struct session watcher = open_session(false);
	struct reply r = ask(&watcher, "set TimeZone to 'UTC'");

	assert_string_equal(r.types, "NCZ");
	assert_string_equal(r.text, "SET ignored");
	assert_string_equal(r.tag, "SET");
	close_session(&watcher);
}

/* ---- language and protocol ---- */

static void test_errors(void **state UNUSED)
{
	struct session s = open_session(true);

	expect_error(&s, "nonsense", "invalid command 'nonsense', use SHOW HELP;");
	expect_error(&s, ";", "invalid command ';', use SHOW HELP;");
	expect_error(&s, "SHOW", "invalid command 'SHOW', use SHOW HELP;");
	expect_error(&s, "SHOW nonsense", "invalid command 'SHOW nonsense', use SHOW HELP;");
	expect_error(&s, "RELOAD app", "invalid command 'RELOAD app', use SHOW HELP;");
	expect_error(&s, "SET pool_mode", "invalid command 'SET pool_mode', use SHOW HELP;");
	expect_error(&s, "PAUSE = app", "invalid command 'PAUSE = app', use SHOW HELP;");
	expect_error(&s, "SHUTDOWN soon", "invalid command 'SHUTDOWN soon', use SHOW HELP;");
	expect_error(&s, "SHOW xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		     "bad arguments");
	expect_error(&s, "PAUSE nowhere", "no such database: nowhere");
	expect_error(&s, "PAUSE pgbouncer", "cannot pause admin db: pgbouncer");
	expect_error(&s, "KILL pgsluice", "cannot kill admin db: pgsluice");
	expect_error(&s, "WAIT_CLOSE pgbouncer", "cannot wait in admin db: pgbouncer");
	expect_error(&s, "DISABLE", "a database is required");
	expect_error(&s, "ENABLE pgbouncer", "cannot enable admin db: pgbouncer");
	expect_error(&s, "RESUME", "pooler is not paused/suspended");
	expect_error(&s, "RESUME app", "database app is not paused");
	expect_error(&s, "KILL_CLIENT abc", "invalid client pointer supplied");
	expect_error(&s, "KILL_CLIENT 12x", "invalid client pointer supplied");
	expect_error(&s, "KILL_CLIENT 123456789", "client not found");
	close_session(&s);
}

static void test_help_names_every_command(void **state UNUSED)
{
	struct session s = open_session(false);
	struct reply r = ask(&s, "SHOW HELP;");

	assert_string_equal(r.text, "Console usage");
	for (size_t i = 0; command_at(i) != NULL; i++)
		assert_non_null(strstr(r.detail, command_at(i)->name));
	for (size_t i = 0; show_at(i) != NULL; i++)
		assert_true(!show_at(i)->in_help || strstr(r.detail, show_at(i)->name) != NULL);
	close_session(&s);
}

static void test_extended_protocol_is_refused(void **state UNUSED)
{
	struct session s = open_session(true);
	struct reply r;
	struct buf b;

	buf_init(&b, 1024);
	assert_int_equal(build_parse(&b, slice_of(""), slice_of("SHOW POOLS"), NULL, 0), 0);
	assert_int_equal(send(s.fd, buf_ptr(&b), buf_len(&b), 0), buf_len(&b));
	buf_fini(&b);
	read_reply(&s, &r);
	assert_string_equal(r.text, "extended query protocol not supported by admin console");
	read_reply(&s, &r);
	assert_string_equal(r.text, "bad packet");
	assert_true(r.closed);
	close_session(&s);
}

static void test_broken_input(void **state UNUSED)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *text;
	} rows[] = {
		{ "Q\0\0\0\1", 5, "bad packet header: '5100000001'" },
		{ "Q\0\1\0\0", 5, "incomplete pkt" },
		{ "Q\0\0\0\6ab", 7, "incomplete query" },
		{ "Q\0\0\0\4", 5, "incomplete query" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct session s = open_session(true);
		struct reply r;

		assert_int_equal(send(s.fd, rows[i].bytes, rows[i].n, 0), rows[i].n);
		read_reply(&s, &r);
		assert_true(r.closed);
		assert_string_equal(r.text, rows[i].text);
		close_session(&s);
	}
}

static void test_pipeline_and_pending_bytes(void **state UNUSED)
{
	static const char early[] = "Q\0\0\0\21SHOW VERSION";
	struct session s = open_session_with(true, early, sizeof(early));
	struct reply r;

	read_reply(&s, &r);
	assert_string_equal(r.types, "TDCZ");
	for (int i = 0; i < 200; i++)
		send_query(&s, i % 2 == 0 ? "SHOW POOLS" : "SHOW VERSION");
	for (int i = 0; i < 200; i++) {
		read_reply(&s, &r);
		assert_string_equal(r.types, "TDCZ");
	}
	close_session(&s);
}

/* ---- commands ---- */

static void test_set_and_reload(void **state UNUSED)
{
	struct session s = open_session(true);
	struct reply r;

	expect_tag(&s, "SET pool_mode = 'transaction'", "SET pool_mode=transaction");
	assert_string_equal(last_set, "pool_mode=transaction");
	expect_error(&s, "SET pool_mode = bad", "SET failed");
	expect_tag(&s, "RELOAD", "RELOAD");
	atomic_store(&reload_result, -E_SYNTAX);
	r = ask(&s, "RELOAD");
	assert_string_equal(r.text, "RELOAD failed, see logs for additional details");
	assert_string_equal(r.state, "F0000");
	atomic_store(&reload_result, 0);
	assert_int_equal(atomic_load(&reloads), 2);
	close_session(&s);
}

static void test_dry_run(void **state UNUSED)
{
	struct session s = open_session(true);
	struct session watcher = open_session(false);
	int before = atomic_load(&reloads);
	struct reply r = ask(&s, "reload dry run;");

	assert_string_equal(r.types, "TDCZ");
	assert_int_equal(r.rows, 2);
	assert_string_equal(r.tag, "RELOAD DRY RUN");
	atomic_store(&reload_result, -E_SYNTAX);
	r = ask(&s, "RELOAD DRY RUN");
	assert_string_equal(r.text, "RELOAD would fail: unknown parameter: pgbouncer/pool_mod");
	assert_string_equal(r.state, "F0000");
	atomic_store(&reload_result, 0);
	expect_error(&watcher, "RELOAD DRY RUN", "admin access needed");
	expect_error(&s, "RELOAD DRY", "invalid command 'RELOAD DRY', use SHOW HELP;");
	expect_error(&s, "PAUSE DRY RUN", "invalid command 'PAUSE DRY RUN', use SHOW HELP;");
	expect_error(&s, "SHOW DRY RUN", "invalid command 'SHOW DRY RUN', use SHOW HELP;");
	assert_int_equal(atomic_load(&reloads), before);
	close_session(&s);
	close_session(&watcher);
}

static void test_pause_and_resume(void **state UNUSED)
{
	struct session s = open_session(true);

	expect_tag(&s, "PAUSE", "PAUSE");
	assert_int_equal(atomic_load(&engine->mode), ENGINE_PAUSED);
	expect_error(&s, "PAUSE", "already suspended/paused");
	expect_error(&s, "KILL", "already suspended/paused");
	expect_tag(&s, "RESUME", "RESUME");
	expect_tag(&s, "PAUSE app", "PAUSE");
	expect_tag(&s, "RESUME app", "RESUME");
	expect_tag(&s, "DISABLE app", "DISABLE");
	expect_tag(&s, "ENABLE app", "ENABLE");
	expect_tag(&s, "RECONNECT", "RECONNECT");
	expect_tag(&s, "WAIT_CLOSE", "WAIT_CLOSE");
	expect_tag(&s, "KILL", "KILL");
	close_session(&s);
}

/* A PAUSE that has to wait ends when the client cancels it, and with it the pause. */
static void test_cancel_of_a_pause(void **state UNUSED)
{
	struct session s = open_session(true);
	struct session other = open_session(true);
	struct console_cancel *cancel = xcalloc(1, sizeof(*cancel));
	struct reply r;
	int fds[2];

	expect_tag(&other, "PAUSE", "PAUSE");
	assert_int_equal(pipe(fds), 0);
	cancel->msg.fn = admin_engine_ops.console_cancel;
	cancel->asker.socket.fd = fds[1];
	cancel_key_set(&cancel->key, s.key, sizeof(s.key));
	atomic_fetch_add(&engine->client_count, 1);
	loop_post(engine->control, &cancel->msg);
	assert_int_equal(read(fds[0], &r, 1), 0); /* closed when it is done */
	close(fds[0]);
	assert_int_equal(atomic_load(&engine->mode), ENGINE_ACTIVE);
	close_session(&other);
	close_session(&s);
}

static void test_kill_client_reaches_console_sessions(void **state UNUSED)
{
	struct session s = open_session(true);
	struct session victim = open_session(false);
	struct reply r;
	char sql[64];

	str_format(sql, sizeof(sql), "KILL_CLIENT %" PRIu64, atomic_load(&engine->next_id) - 1);
	expect_tag(&s, sql, "KILL_CLIENT");
	read_reply(&victim, &r);
	assert_string_equal(r.text, "admin forced disconnect");
	assert_true(r.closed);
	close_session(&victim);
	close_session(&s);
}

static void test_shutdown(void **state UNUSED)
{
	struct session s = open_session(true);

	expect_tag(&s, "SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN");
	assert_int_equal(atomic_load(&shutdown_asked), SHUTDOWN_WAIT_FOR_SERVERS);
	expect_tag(&s, "SHUTDOWN wait_for_clients", "SHUTDOWN");
	assert_int_equal(atomic_load(&shutdown_asked), SHUTDOWN_WAIT_FOR_CLIENTS);
	atomic_store(&shutdown_asked, SHUTDOWN_NONE);
	close_session(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights_of_every_command),
		cmocka_unit_test(test_every_table_for_everybody),
		cmocka_unit_test(test_fake_variables),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_help_names_every_command),
		cmocka_unit_test(test_extended_protocol_is_refused),
		cmocka_unit_test(test_broken_input),
		cmocka_unit_test(test_pipeline_and_pending_bytes),
		cmocka_unit_test(test_set_and_reload),
		cmocka_unit_test(test_dry_run),
		cmocka_unit_test(test_pause_and_resume),
		cmocka_unit_test(test_cancel_of_a_pause),
		cmocka_unit_test(test_kill_client_reaches_console_sessions),
		cmocka_unit_test(test_shutdown),
	};

	return cmocka_run_group_tests(tests, setup, console_teardown);
}
