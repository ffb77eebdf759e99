#include "pool/vars.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DATE_STYLE  0
#define ENCODING    1
#define TIME_ZONE   2
#define APPLICATION 4
#define SEARCH_PATH 5
#define EXTRA       6

static int setup(void **state)
{
	(void)state;
	vars_setup(" search_path,IntervalStyle ,, timezone,search_path,");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vars_teardown();
	return 0;
}

/* A set with one or two values; index -1 is none. */
static struct varset *make(int i, const char *a, int k, const char *b)
{
	struct slice values[VARS_MAX] = { { NULL, 0 } };

	if (i >= 0)
		values[i] = slice_of(a);
	if (k >= 0)
		values[k] = slice_of(b);
	return vars_make(values);
}

static void assert_diff(const struct varset *have, const struct varset *want, int count, const char *sql)
{
	struct buf b;

	buf_init(&b, 4096);
	assert_int_equal(vars_diff(have, want, &b), count);
	assert_int_equal(buf_len(&b), strlen(sql));
	if (sql[0] != '\0')
		assert_memory_equal(buf_ptr(&b), sql, strlen(sql));
	buf_fini(&b);
}

static void test_names(void **state)
{
	(void)state;
	assert_int_equal(vars_count(), 7); /* what is named twice is there once */
	assert_string_equal(vars_name(DATE_STYLE), "DateStyle");
	assert_string_equal(vars_name(SEARCH_PATH), "search_path");
	assert_string_equal(vars_name(EXTRA), "IntervalStyle");
	assert_int_equal(vars_index(slice_of("TIMEZONE")), TIME_ZONE);
	assert_int_equal(vars_index(slice_of("intervalstyle")), EXTRA);
	assert_int_equal(vars_index(slice_of("")), -1);
	assert_int_equal(vars_index(slice_of("TimeZon")), -1);
	assert_int_equal(vars_index(slice_of("TimeZone1")), -1);
	assert_string_equal(vars_name(vars_application_name()), "application_name");
}

static void test_names_at_most(void **state)
{
	char list[1024] = "";

	(void)state;
	vars_teardown();
	for (int i = 0; i < 2 * VARS_MAX; i++)
		str_append(list, sizeof(list), "p%d,", i);
	vars_setup(list);
	assert_int_equal(vars_count(), VARS_MAX);
	vars_teardown();
	vars_setup(NULL);
	assert_int_equal(vars_count(), 5);
}

static void test_equal_sets_are_one(void **state)
{
	struct varset *a = make(DATE_STYLE, "ISO", APPLICATION, "x");
	struct varset *b = make(APPLICATION, "x", DATE_STYLE, "ISO");
	struct varset *other = make(DATE_STYLE, "iso", APPLICATION, "x");

	(void)state;
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, other); /* spelled differently */
	vars_release(&b);
	assert_null(b);
	b = make(DATE_STYLE, "ISO", APPLICATION, "x");
	assert_ptr_equal(a, b);
	vars_release(&a);
	assert_string_equal(vars_get(b, DATE_STYLE), "ISO"); /* held still */
	vars_release(&b);
	vars_release(&other);
	vars_release(&other); /* of nothing */
}

static void test_unset_is_not_empty(void **state)
{
	struct varset *none = vars_make_empty();
	struct varset *none_too = make(-1, NULL, -1, NULL);
	struct varset *empty = make(APPLICATION, "", -1, NULL);

	(void)state;
	assert_ptr_equal(none, none_too);
	assert_ptr_not_equal(none, empty);
	assert_null(vars_get(none, APPLICATION));
	assert_string_equal(vars_get(empty, APPLICATION), "");
	vars_release(&none);
	vars_release(&none_too);
	vars_release(&empty);
}

/* Values may contain what marks the borders inside of a set. */
static void test_values_do_not_run_together(void **state)
{
	struct varset *a = make(DATE_STYLE, "x=", ENCODING, "y");
	struct varset *b = make(DATE_STYLE, "x", ENCODING, "=y");
	struct varset *c = make(DATE_STYLE, "-", -1, NULL);
	struct varset *d = make(ENCODING, "-", -1, NULL);

	(void)state;
	assert_ptr_not_equal(a, b);
	assert_ptr_not_equal(c, d);
	vars_release(&a);
	vars_release(&b);
	vars_release(&c);
	vars_release(&d);
}

static void test_change(void **state)
{
	struct varset *set = make(DATE_STYLE, "ISO", -1, NULL);
	struct varset *kept = vars_hold(set);
	struct varset *same;

	(void)state;
	vars_change(&set, DATE_STYLE, slice_of("ISO"));
	assert_ptr_equal(set, kept);
	vars_change(&set, TIME_ZONE, slice_of("UTC"));
	same = make(DATE_STYLE, "ISO", TIME_ZONE, "UTC");
	assert_ptr_equal(set, same);
	assert_null(vars_get(kept, TIME_ZONE)); /* sets do not change */
	vars_change(&set, TIME_ZONE, slice_make(NULL, 0));
	assert_ptr_equal(set, kept);
	vars_release(&set);
	vars_release(&kept);
	vars_release(&same);
}

static void test_fill(void **state)
{
	struct varset *set = make(DATE_STYLE, "German", -1, NULL);
	struct varset *defaults = make(DATE_STYLE, "ISO", TIME_ZONE, "UTC");
	struct varset *before;

	(void)state;
	vars_fill(&set, defaults);
	assert_string_equal(vars_get(set, DATE_STYLE), "German");
	assert_string_equal(vars_get(set, TIME_ZONE), "UTC");
	assert_null(vars_get(set, APPLICATION));
	before = set;
	vars_fill(&set, defaults);
	assert_ptr_equal(set, before); /* nothing more to fill */
	vars_fill(&defaults, defaults);
	vars_release(&set);
	vars_release(&defaults);
}

/* As a link does it: the server's spelling, and what only the client knows. */
static void test_adoption(void **state)
{
	struct varset *client = make(DATE_STYLE, "iso, mdy", EXTRA, "postgres");
	struct varset *server = make(DATE_STYLE, "ISO, MDY", TIME_ZONE, "UTC");
	struct varset *adopted = vars_hold(server);

	(void)state;
	vars_fill(&adopted, client);
	assert_string_equal(vars_get(adopted, DATE_STYLE), "ISO, MDY");
	assert_string_equal(vars_get(adopted, TIME_ZONE), "UTC");
	assert_string_equal(vars_get(adopted, EXTRA), "postgres");
	assert_diff(server, adopted, 0, "");
	vars_release(&client);
	vars_release(&server);
	vars_release(&adopted);
}

static void test_diff(void **state)
{
	struct varset *have = make(DATE_STYLE, "ISO, MDY", APPLICATION, "");
	struct varset *same = make(DATE_STYLE, "iso, mdy", EXTRA, "iso_8601");
	struct varset *want = make(DATE_STYLE, "German", APPLICATION, "psql");

	(void)state;
	assert_diff(have, have, 0, "");
	assert_diff(have, same, 0, ""); /* equal but for case; the other is not the server's */
	assert_diff(have, want, 2, "SET DateStyle='German';SET application_name='psql';");
	assert_diff(want, have, 2, "SET DateStyle='ISO, MDY';SET application_name='';");
	vars_release(&have);
	vars_release(&same);
	vars_release(&want);
}

static void test_quoting(void **state)
{
	struct varset *have = make(APPLICATION, "", SEARCH_PATH, "");
	struct varset *quote = make(APPLICATION, "a'; drop table t; --", -1, NULL);
	struct varset *slash = make(APPLICATION, "\\'", -1, NULL);
	struct varset *path = make(SEARCH_PATH, "\"$user\", public, \"o'x\"", -1, NULL);
	struct varset *path_slash = make(SEARCH_PATH, "a\\b", -1, NULL);

	(void)state;
	assert_diff(have, quote, 1, "SET application_name='a''; drop table t; --';");
	assert_diff(have, slash, 1, "SET application_name=E'\\\\''';");
	assert_diff(have, path, 1, "SELECT pg_catalog.set_config('search_path','\"$user\", public, \"o''x\"',false);");
	assert_diff(have, path_slash, 1, "SELECT pg_catalog.set_config('search_path',E'a\\\\b',false);");
	vars_release(&have);
	vars_release(&quote);
	vars_release(&slash);
	vars_release(&path);
	vars_release(&path_slash);
}

/* What is sent is ASCII, whatever the values are: its encoding is that of the client before. */
static void test_beyond_ascii(void **state)
{
	struct varset *have = make(APPLICATION, "", SEARCH_PATH, "");
	struct varset *app = make(APPLICATION, "\x83\\'\xff", -1, NULL);
	struct varset *path = make(SEARCH_PATH, "\x83\\'", ENCODING, "SJIS");
	struct varset *extra = make(EXTRA, "\xe9", ENCODING, "O'x\xe9");
	struct varset *other = make(EXTRA, "", -1, NULL);
	struct varset *nowhere = make(SEARCH_PATH, "\xe9", -1, NULL);

	(void)state;
	assert_diff(have, app, 1, "SET application_name=E'?\\\\''?';");
	assert_diff(have, path, 1,
		    "SELECT pg_catalog.set_config('search_path',pg_catalog.convert_from("
		    "pg_catalog.decode('835c27','hex'),'SJIS'),false);");
	assert_diff(other, extra, 1,
		    "SELECT pg_catalog.set_config('IntervalStyle',pg_catalog.convert_from("
		    "pg_catalog.decode('e9','hex'),'O''x?'),false);");
	assert_diff(have, nowhere, 0, ""); /* nobody knows what it means */
	vars_release(&have);
	vars_release(&app);
	vars_release(&path);
	vars_release(&extra);
	vars_release(&other);
	vars_release(&nowhere);
}

/* The same bytes in another encoding are another value. */
static void test_encodings_differ(void **state)
{
	struct varset *latin = make(EXTRA, "\xe9", ENCODING, "LATIN1");
	struct varset *same = make(EXTRA, "\xe9", ENCODING, "latin1");
	struct varset *cyrillic = make(EXTRA, "\xe9", ENCODING, "WIN1251");
	struct varset *server = make(EXTRA, "\xe9", ENCODING, "UTF8");
	struct varset *client = make(EXTRA, "\xc3\xa9", ENCODING, "utf8");

	(void)state;
	assert_diff(latin, same, 0, "");
	assert_diff(latin, cyrillic, 2,
		    "SET client_encoding='WIN1251';SELECT pg_catalog.set_config('IntervalStyle',"
		    "pg_catalog.convert_from(pg_catalog.decode('e9','hex'),'WIN1251'),false);");
	vars_recode(&server, client);
	assert_string_equal(vars_get(server, EXTRA), "\xc3\xa9");
	assert_string_equal(vars_get(server, ENCODING), "UTF8"); /* its own spelling */
	assert_null(vars_get(server, APPLICATION));
	vars_release(&latin);
	vars_release(&same);
	vars_release(&cyrillic);
	vars_release(&server);
	vars_release(&client);
}

/* Room for the longest text there may be is room enough. */
static void test_diff_with_room(void **state)
{
	static const char *const texts[] = { "", "x", "''''''''", "\\\\\\", "\xff\xff\xff", "'\xe9\\" };
	struct slice values[VARS_MAX] = { { NULL, 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct varset *have;
		struct varset *want;
		struct buf b;

		for (int k = 0; k < vars_count(); k++)
			values[k] = slice_of("something else");
		have = vars_make(values);
		for (int k = 0; k < vars_count(); k++)
			values[k] = slice_of(texts[i]);
		want = vars_make(values);
		buf_init(&b, vars_diff_max(want));
		assert_int_equal(vars_diff(have, want, &b), vars_count());
		buf_fini(&b);
		vars_release(&have);
		vars_release(&want);
	}
}

/* A command that does not fit is left out as a whole. */
static void test_diff_without_room(void **state)
{
	struct varset *have = make(APPLICATION, "", TIME_ZONE, "");
	struct varset *want = make(APPLICATION, "x", TIME_ZONE, "a value of some length");
	struct buf b;

	(void)state;
	buf_init(&b, 28);
	assert_int_equal(vars_diff(have, want, &b), 1);
	assert_int_equal(buf_len(&b), strlen("SET application_name='x';"));
	assert_memory_equal(buf_ptr(&b), "SET application_name='x';", buf_len(&b));
	buf_fini(&b);
	vars_release(&have);
	vars_release(&want);
}

/* What the client was told, what the server has after it; the same for all tests of RESET. */
static struct varset *reset(const struct varset *startup, const struct varset *defaults, bool all)
{
	struct varset *set = make(TIME_ZONE, "Europe/Berlin", ENCODING, "UTF8");
	struct varset *now = make(TIME_ZONE, "UTC", ENCODING, "UTF8");

	vars_reset(&set, now, startup, defaults, all);
	vars_release(&now);
	return set;
}

static void test_reset(void **state)
{
	struct varset *startup = make(TIME_ZONE, "Asia/Tokyo", ENCODING, "LATIN1");
	struct varset *others = make(TIME_ZONE, "GMT", ENCODING, "UTF8");
	struct varset *defaults = make(TIME_ZONE, "UTC", ENCODING, "UTF8");
	struct varset *set = reset(startup, NULL, true);

	(void)state;
	assert_ptr_equal(set, startup); /* all */
	vars_release(&set);
	set = reset(NULL, NULL, false);
	assert_ptr_equal(set, defaults); /* of nobody */
	vars_release(&set);
	set = reset(startup, defaults, false);
	assert_string_equal(vars_get(set, TIME_ZONE), "Asia/Tokyo"); /* has become what it was */
	assert_string_equal(vars_get(set, ENCODING), "UTF8");        /* was that before */
	vars_release(&set);
	set = reset(startup, others, false);
	assert_string_equal(vars_get(set, TIME_ZONE), "UTC"); /* has become something else */
	vars_release(&set);
	set = reset(startup, others, true);
	assert_string_equal(vars_get(set, TIME_ZONE), "UTC"); /* was set behind it */
	assert_string_equal(vars_get(set, ENCODING), "LATIN1");
	vars_release(&set);
	vars_release(&startup);
	vars_release(&others);
	vars_release(&defaults);
}

/* Of what the server does not report, nobody knows what becomes of it. */
static void test_reset_of_the_unknown(void **state)
{
	struct varset *startup = make(EXTRA, "sql_standard", APPLICATION, "mine");
	struct varset *set = make(EXTRA, "iso_8601", -1, NULL);
	struct varset *now = make(APPLICATION, "", -1, NULL);

	(void)state;
	vars_reset(&set, now, startup, NULL, true);
	assert_string_equal(vars_get(set, EXTRA), "iso_8601");
	assert_string_equal(vars_get(set, APPLICATION), "mine");
	vars_release(&startup);
	vars_release(&set);
	vars_release(&now);
}

static void test_hidden(void **state)
{
	struct varset *startup = make(TIME_ZONE, "Asia/Tokyo", ENCODING, "utf8");
	struct varset *defaults = make(TIME_ZONE, "UTC", ENCODING, "UTF8");
	struct varset *changed = make(TIME_ZONE, "GMT", ENCODING, "UTF8");
	struct varset *unset = make(ENCODING, "UTF8", -1, NULL);

	(void)state;
	assert_true(vars_are_hidden(defaults, startup, defaults));
	assert_false(vars_are_hidden(startup, startup, defaults));
	assert_false(vars_are_hidden(changed, startup, defaults));
	assert_false(vars_are_hidden(defaults, unset, defaults));
	assert_false(vars_are_hidden(defaults, startup, unset));
	vars_release(&startup);
	vars_release(&defaults);
	vars_release(&changed);
	vars_release(&unset);
}

static void test_respell(void **state)
{
	struct varset *set = make(DATE_STYLE, "iso", ENCODING, "utf8");
	struct varset *spelled = make(DATE_STYLE, "ISO, MDY", TIME_ZONE, "UTC");
	struct varset *wanted = make(DATE_STYLE, "ISO, MDY", ENCODING, "utf8");
	struct varset *none = vars_make_empty();

	(void)state;
	vars_respell(&set, spelled);
	assert_ptr_equal(set, wanted);
	assert_false(vars_is_empty(set));
	assert_true(vars_is_empty(none));
	vars_release(&set);
	vars_release(&spelled);
	vars_release(&wanted);
	vars_release(&none);
}

#define VARS_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		VARS_TEST(test_names),
		VARS_TEST(test_names_at_most),
		VARS_TEST(test_equal_sets_are_one),
		VARS_TEST(test_unset_is_not_empty),
		VARS_TEST(test_values_do_not_run_together),
		VARS_TEST(test_change),
		VARS_TEST(test_fill),
		VARS_TEST(test_adoption),
		VARS_TEST(test_reset),
		VARS_TEST(test_reset_of_the_unknown),
		VARS_TEST(test_hidden),
		VARS_TEST(test_respell),
		VARS_TEST(test_diff),
		VARS_TEST(test_quoting),
		VARS_TEST(test_beyond_ascii),
		VARS_TEST(test_encodings_differ),
		VARS_TEST(test_diff_with_room),
		VARS_TEST(test_diff_without_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
