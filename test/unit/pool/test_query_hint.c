#include "pool/query_hint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"

#define MS UINT64_C(1000)

static void test_limits(void **state UNUSED)
{
	static const struct {
		const char *text;
		uint64_t us;
	} cases[] = {
		{ "/* pgsluice: timeout=250ms */ select 1", 250 * MS },
		{ "/*pgsluice:timeout=250*/select 1", 250 * MS },
		{ "/* pgsluice: timeout = 2 s */", 2 * USEC_PER_SEC },
		{ "/*\n\tpgsluice:\r\n timeout=3min\n*/", 180 * USEC_PER_SEC },
		{ "/* pgsluice: retry=safe, timeout=1s */", USEC_PER_SEC },
		{ "/* pgsluice: timeout=1s, later=2 */", USEC_PER_SEC },
		{ "/* pgsluice: timeout=999999999min */", UINT64_C(999999999) * 60 * USEC_PER_SEC },
		{ "/* pgsluice: timeout=0 */", 0 },
		{ "/* pgsluice: timeout=9999999999 */", 0 },
		{ "/* pgsluice: timeout=-1 */", 0 },
		{ "/* pgsluice: timeout=1.5s */", 0 },
		{ "/* pgsluice: timeout=1h */", 0 },
		{ "/* pgsluice: timeout=5 5 */", 0 },
		{ "/* pgsluice: timeout= */", 0 },
		{ "/* pgsluice: timeout */", 0 },
		{ "/* pgsluice: timeouts=5 */", 0 },
		{ "/* pgsluice: */", 0 },
		{ "/* pgsluice */", 0 },
		{ "/* other: timeout=5 */", 0 },
		{ "/* pgsluice: timeout=5", 0 },
		{ "/* pgsluice: timeout=5 *", 0 },
		{ " /* pgsluice: timeout=5 */", 0 },
		{ "select 1 /* pgsluice: timeout=5 */", 0 },
		{ "/*/ pgsluice: timeout=5 */", 0 },
		{ "/", 0 },
		{ "/**/", 0 },
		{ "", 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (query_hint_timeout_us(slice_of(cases[i].text)) != cases[i].us)
			fail_msg("%s", cases[i].text);
}

/* Nothing behind the end is looked at, and a part of a comment is none. */
static void test_every_length(void **state UNUSED)
{
	static const char text[] = "/* pgsluice: timeout=250ms */ select 1";
	size_t whole = (size_t)(strstr(text, "*/") + 2 - text);

	for (size_t n = 0; n < sizeof(text); n++) {
		char *copy = malloc(n + 1);

		memcpy(copy, text, n);
		assert_int_equal(query_hint_timeout_us(slice_make(copy, n)), n < whole ? 0 : 250 * MS);
		free(copy);
	}
}

static void test_length_of_the_comment(void **state UNUSED)
{
	char text[2 * QUERY_HINT_MAX];

	memset(text, ' ', sizeof(text));
	memcpy(text, "/* pgsluice: timeout=7", 22);
	memcpy(text + QUERY_HINT_MAX - 2, "*/", 2);
	assert_int_equal(query_hint_timeout_us(slice_make(text, sizeof(text))), 7 * MS);
	memset(text + QUERY_HINT_MAX - 2, ' ', 2);
	memcpy(text + QUERY_HINT_MAX - 1, "*/", 2);
	assert_int_equal(query_hint_timeout_us(slice_make(text, sizeof(text))), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_length_of_the_comment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
