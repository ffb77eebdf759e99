/* What goes to syslog: openlog() and syslog() of this program stand in for those of the C library. */
#include "core/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

#include <cmocka.h>

#include "core/str.h"

static char got[1024];

void openlog(const char *ident, int option, int facility);
void openlog(const char *ident, int option, int facility)
{
	assert_int_equal(option & LOG_PID, LOG_PID);
	str_append(got, sizeof(got), "open %s %d\n", ident, facility >> 3);
}

void closelog(void);
void closelog(void)
{
	str_append(got, sizeof(got), "close\n");
}

PRINTF_LIKE(2, 0) static void take(int priority, const char *format, va_list ap)
{
	char text[256];

	vsnprintf(text, sizeof(text), format, ap);
	str_append(got, sizeof(got), "%d %s\n", priority, text);
}

void syslog(int priority, const char *format, ...);
void syslog(int priority, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	take(priority, format, ap);
	va_end(ap);
}

/* What the macro of a hardened build calls instead. */
void __syslog_chk(int priority, int flag, const char *format, ...) PRINTF_LIKE(3, 4);
void __syslog_chk(int priority, int flag UNUSED, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	take(priority, format, ap);
	va_end(ap);
}

static void configure(const char *ident, const char *facility)
{
	struct log_setup setup = {
		.quiet = true,
		.syslog = ident != NULL,
		.syslog_ident = ident,
		.syslog_facility = facility,
		.verbose = 2,
	};

	got[0] = '\0';
	log_configure(&setup);
}

static void test_levels(void **state)
{
	configure("sluice", "local3");
	log_error("an error");
	log_warning("a warning");
	log_info("a line");
	log_debug("not this");
	log_noise("nor this");
	assert_string_equal(got, "open sluice 19\n3 an error\n4 a warning\n6 a line\n");
}

static void test_facilities(void **state)
{
	static const struct {
		const char *name;
		int facility;
	} all[] = {
		{ "auth", LOG_AUTH },          { "authpriv", LOG_AUTHPRIV }, { "daemon", LOG_DAEMON },
		{ "user", LOG_USER },          { "local0", LOG_LOCAL0 },     { "local7", LOG_LOCAL7 },
		{ "no such one", LOG_DAEMON }, { "local8", LOG_DAEMON },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		char expected[64];

		configure("x", all[i].name);
		str_format(expected, sizeof(expected), "open x %d\n", all[i].facility >> 3);
		assert_string_equal(got, expected);
	}
}

static void test_off_and_on(void **state)
{
	configure("one", "user");
	configure(NULL, "user");
	log_error("to nobody");
	assert_null(strstr(got, "to nobody"));
	configure("two", "user");
	log_error("again");
	assert_string_equal(got, "open two 1\n3 again\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_facilities),
		cmocka_unit_test(test_off_and_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
