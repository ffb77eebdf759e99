/*
 * Errors and notices as they go to clients, in both styles, and what the log
 * says of them.
 */
#include "pool/report.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/str.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

static struct conf test_conf;
static struct buf test_buf;
static char test_log[64];
static int test_stderr = -1;

static int setup(void **state UNUSED)
{
	int fd = open(test_log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);

	test_conf = (struct conf){ .error_style = CONF_ERROR_PGBOUNCER, .log_pooler_errors = 1 };
	buf_init(&test_buf, 8192);
	if (fd < 0)
		return -1;
	dup2(fd, STDERR_FILENO);
	close(fd);
	log_configure(&(struct log_setup){ .verbose = 0 });
	return 0;
}

static int teardown(void **state UNUSED)
{
	buf_fini(&test_buf);
	dup2(test_stderr, STDERR_FILENO);
	return 0;
}

/* The body of the only message in the buffer. */
static struct slice test_body(uint8_t type)
{
	struct frame f = { .size = 0 };

	assert_int_equal(frame_read(buf_ptr(&test_buf), buf_len(&test_buf), UINT64_MAX, &f), 0);
	assert_int_equal(f.type, type);
	assert_int_equal(f.size, buf_len(&test_buf));
	return slice_make(buf_ptr(&test_buf) + FRAME_HEADER, f.size - FRAME_HEADER);
}

#define assert_body(type, literal) assert_true(slice_eq(test_body(type), slice_make(literal, sizeof(literal))))

static void test_tell(const struct report *r)
{
	struct log_about about;

	report_about(&about, NULL, 7, "shop", "joe");
	buf_clear(&test_buf);
	assert_int_equal(report_error(&test_buf, &test_conf, &about, "FATAL", r), 0);
}

static void test_styles(void **state UNUSED)
{
	struct report_facts facts = { .known = { .user = "joe" } };
	struct report r;

	report_fact_limit(&facts, 5);
	report_reason(&r, &test_conf, REASON_MAX_USER_CLIENTS, &facts.known);
	test_tell(&r);
	assert_body(BE_ERROR, "SFATAL\0C08P01\0Mclient connections exceeded (max_user_client_connections)\0");
	test_conf.error_style = CONF_ERROR_POSTGRES;
	report_reason(&r, &test_conf, REASON_MAX_USER_CLIENTS, &facts.known);
	test_tell(&r);
	assert_body(BE_ERROR, "SFATAL\0VFATAL\0C53300\0Mclient connections exceeded (max_user_client_connections)\0"
			      "DUser \"joe\" may have 5 connections.\0"
			      "HClose connections that are not needed, or raise max_user_client_connections.\0");
}

static void test_all_rows(void **state UNUSED)
{
	for (int style = CONF_ERROR_PGBOUNCER; style <= CONF_ERROR_POSTGRES; style++) {
		test_conf.error_style = style;
		for (int i = 1; i < REASON_COUNT; i++) {
			struct parse_report parsed;
			struct report r;

			report_reason(&r, &test_conf, (enum reason)i, NULL);
			test_tell(&r);
			assert_int_equal(parse_report(test_body(BE_ERROR), &parsed), 0);
			assert_true(slice_eq_str(parsed.message, r.text));
			if (style == CONF_ERROR_PGBOUNCER) {
				assert_true(slice_eq_str(parsed.sqlstate, "08P01"));
				assert_int_equal(parsed.detail.n + parsed.hint.n, 0);
			} else {
				assert_true(slice_eq_str(parsed.sqlstate, reason_sqlstate((enum reason)i)));
			}
		}
	}
}

static void test_server_words(void **state UNUSED)
{
	struct report r;
	char text[300];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	report_server(&r, text, "28P01");
	test_tell(&r);
	assert_int_equal(test_body(BE_ERROR).n, sizeof("SFATAL\0C28P01\0M") - 1 + sizeof(text) + 1);
	/* A text of our own is cut as PgBouncer cuts it, but not inside of a character. */
	report_text(&r, &test_conf, text, "28P01", "Do something.");
	assert_int_equal(strlen(r.text), 127);
	test_tell(&r);
	assert_int_equal(test_body(BE_ERROR).n, sizeof("SFATAL\0C08P01\0M") - 1 + 127 + 2);
	text[126] = '\xc3';
	text[127] = '\xa4';
	report_text(&r, &test_conf, text, "28P01", NULL);
	assert_int_equal(strlen(r.text), 126);
	report_text(&r, NULL, text, "28P01", NULL);
	assert_int_equal(strlen(r.text), sizeof(text) - 1);
	test_conf.error_style = CONF_ERROR_POSTGRES;
	report_text(&r, &test_conf, text, "28P01", NULL);
	assert_int_equal(strlen(r.text), sizeof(text) - 1);
}

static void test_notices(void **state UNUSED)
{
	assert_int_equal(report_notice(&test_buf, &test_conf, "hello", NULL), 0);
	assert_body(BE_NOTICE, "SNOTICE\0C00000\0Mhello\0");
	buf_clear(&test_buf);
	assert_int_equal(report_notice(&test_buf, &test_conf, "hello", "more"), 0);
	assert_body(BE_NOTICE, "SNOTICE\0C00000\0Mhello\0Dmore\0");
	buf_clear(&test_buf);
	test_conf.error_style = CONF_ERROR_POSTGRES;
	assert_int_equal(report_notice(&test_buf, &test_conf, "hello", NULL), 0);
	assert_body(BE_NOTICE, "SNOTICE\0VNOTICE\0C00000\0Mhello\0");
	buf_clear(&test_buf);
	assert_int_equal(report_login_notice(&test_buf, &test_conf), 0);
	assert_true(buf_is_empty(&test_buf));
}

static void test_times(void **state UNUSED)
{
	static const struct {
		uint64_t us;
		const char *text;
	} rows[] = {
		{ 0, "0 ms" },        { 350000, "350 ms" },   { 1000000, "1 s" },
		{ 2340000, "2.3 s" }, { 300000000, "300 s" }, { 123456789, "123 s" },
	};
	struct report_facts facts = { .known = { .user = NULL } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		report_fact_time(&facts, rows[i].us);
		assert_string_equal(facts.known.time, rows[i].text);
	}
}

/* What the log says, behind the time. */
static const char *test_logged(void)
{
	static char text[1024];
	FILE *f = fopen(test_log, "r");
	size_t n = fread(text, 1, sizeof(text) - 1, f);

	fclose(f);
	text[n] = '\0';
	return text;
}

static void test_log_lines(void **state UNUSED)
{
	struct log_about about;
	struct report r;

	report_reason(&r, &test_conf, REASON_KILLED, NULL);
	test_tell(&r);
	assert_non_null(strstr(test_logged(), "WARNING C-(nil): shop/joe@ pooler error: admin forced disconnect\n"));
	test_conf.log_pooler_errors = 0;
	r.text[0] = 'A';
	test_tell(&r);
	assert_null(strstr(test_logged(), "Admin"));
	report_about(&about, NULL, 1, NULL, NULL);
	report_close(&test_conf, &about, "unheard", 0);
	test_conf.log_disconnections = 1;
	report_close(&test_conf, &about, "a reason", 2999999);
	assert_null(strstr(test_logged(), "unheard"));
	assert_non_null(strstr(test_logged(), "LOG C-(nil): (nodb)/(nouser)@ closing because: a reason (age=2s)\n"));
}

static void test_peers(void **state UNUSED)
{
	struct sock_peer peer = { .family = 0 };
	struct sock_addr addr;
	struct log_about about;

	report_about(&about, NULL, 1, "shop", "joe");
	assert_int_equal(sock_addr_parse(&addr, "192.0.2.7", 1234), 0);
	sock_peer_set(&peer, &addr);
	report_about_peer(&about, &peer, 6432);
	assert_string_equal(about.peer, "192.0.2.7:1234");
	assert_int_equal(sock_addr_parse(&addr, "2001:db8::1", 1234), 0);
	sock_peer_set(&peer, &addr);
	report_about_peer(&about, &peer, 6432);
	assert_string_equal(about.peer, "[2001:db8::1]:1234");
	sock_peer_set_fd(&peer, -1);
	report_about_peer(&about, &peer, 6432);
	assert_string_equal(about.peer, "unix(0):6432");
	assert_int_equal(sock_addr_set_unix_dir(&addr, "/tmp", 5432), 0);
	report_about_addr(&about, &addr, 5432);
	assert_string_equal(about.peer, "unix:5432");
}

static int group_setup(void **state UNUSED)
{
	str_format(test_log, sizeof(test_log), "/tmp/test_report.%d", (int)getpid());
	test_stderr = dup(STDERR_FILENO);
	return 0;
}

static int group_teardown(void **state UNUSED)
{
	close(test_stderr);
	return unlink(test_log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_styles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_times, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
