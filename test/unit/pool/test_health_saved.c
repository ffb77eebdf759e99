/* pool/health_saved: what is known of an endpoint, as text and back. */
#include "core/base.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/err.h"
#include "pool/health_saved.h"

static void comes_back_as_it_was(void **state)
{
	static const char *const hosts[] = { "db.example", "10.0.0.1", "::1", "/run/it's a 'path'=", "a b" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct health_saved out = { .host = hosts[i], .port = 65535, .system = UINT64_MAX, .until = 1 };
		struct health_saved in;
		struct buf b;
		uint64_t n = 2;

		out.timeline = n++;
		out.newest = n++;
		out.primary = n++;
		out.since = n++;
		out.watched = n++;
		out.role = n++;
		out.told = n++;
		buf_init(&b, HEALTH_SAVED_MAX);
		assert_int_equal(health_saved_write(&out, &b), 0);
		assert_int_equal(health_saved_read(&in, (const char *)buf_ptr(&b)), 0);
		buf_fini(&b);
		assert_string_equal(in.host, hosts[i]);
#define X(name) assert_int_equal(in.name, out.name);
		HEALTH_SAVED(X)
#undef X
		health_saved_fini(&in);
	}
}

static void items_of_others_are_passed_over(void **state)
{
	struct health_saved in;

	(void)state;
	assert_int_equal(health_saved_read(&in, "host='=a' host='=b' port=1 later='=x y' timeline=7"), 0);
	assert_string_equal(in.host, "b");
	assert_int_equal(in.timeline, 7);
	assert_int_equal(in.newest, 0);
	health_saved_fini(&in);
}

static void damaged_ones_are_refused(void **state)
{
	static const char *const bad[] = {
		"", "port=1", "host='=' port=1", "host=a port=1", "host='=a' port=65536", "host='=a", "host"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct health_saved in;

		assert_int_equal(health_saved_read(&in, bad[i]), -E_SYNTAX);
		health_saved_fini(&in);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back_as_it_was),
		cmocka_unit_test(items_of_others_are_passed_over),
		cmocka_unit_test(damaged_ones_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
