#include "net/netif.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static bool has(const char *ip, bool whole_net)
{
	struct sock_addr addr;

	assert_int_equal(sock_addr_parse(&addr, ip, 5432), 0);
	return netif_has(&addr, whole_net);
}

static void test_loopback_is_ours(void **state)
{
	assert_true(has("127.0.0.1", false));
	assert_true(has("127.0.0.1", true));
	assert_false(has("127.1.2.3", false));
	assert_true(has("127.1.2.3", true));
}

static void test_others_are_not(void **state)
{
	struct sock_addr addr = { 0 };

	assert_false(has("240.0.0.1", false));
	assert_false(has("240.0.0.1", true));
	assert_false(has("2001:db8::1", true));
	assert_false(netif_has(&addr, true));
	assert_int_equal(sock_addr_set_unix(&addr, "/tmp/x"), 0);
	assert_false(netif_has(&addr, true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loopback_is_ours),
		cmocka_unit_test(test_others_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
