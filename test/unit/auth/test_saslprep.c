#include "auth/saslprep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/scram.h"
#include "core/alloc.h"

/* NULL: the password is used as it is. */
static void check(const char *password, const char *normal)
{
	char *out = saslprep(slice_of(password));

#ifndef HAVE_LIBIDN
	normal = NULL;
#endif
	if (normal == NULL)
		assert_null(out);
	else if (out == NULL || strcmp(out, normal) != 0)
		fail_msg("%s became %s", password, out == NULL ? "nothing" : out);
	free_secret(out);
}

static void test_normal_forms(void **state)
{
	check("I\xc2\xadX", "IX");                             /* a soft hyphen vanishes; RFC 4013 */
	check("\xc2\xaa", "a");                                /* compatible forms; RFC 4013 */
	check("\xe2\x85\xa8", "IX");                           /* RFC 4013 */
	check("pa\xc2\xa0ss", "pa ss");                        /* a no-break space */
	check("e\xcc\x81", "\xc3\xa9");                        /* an accent of its own */
	check("\xef\xac\x81n", "fin");                         /* a ligature */
	check("\xc3\xa4\xe2\x82\xac", "\xc3\xa4\xe2\x82\xac"); /* as it was */
	check("\xd8\xa7\xd8\xa8", "\xd8\xa7\xd8\xa8");         /* from right to left throughout */
}

static void test_no_normal_form(void **state)
{
	check("", NULL);
	check("secret", NULL);           /* ASCII is not looked at */
	check("bell\x07", NULL);         /* not even this */
	check("\xc3\xa4\x07", NULL);     /* forbidden */
	check("\xef\xbf\xbd", NULL);     /* forbidden: the replacement character */
	check("\xf0\x9f\x98\x80", NULL); /* not in Unicode 3.2 */
	check("\xd8\xa7"
	      "1",
	      NULL);                 /* both directions */
	check("\xc2\xad", NULL);     /* nothing is left */
	check("a\xcd\x80", NULL);    /* forbidden before its other form is seen */
	check("\xff\xfe", NULL);     /* not UTF-8 */
	check("\xc3", NULL);         /* cut */
	check("\xe4pfel", NULL);     /* Latin-1 */
	check("\xed\xa0\x80", NULL); /* half of a pair */
	check("\xc0\xaf", NULL);     /* too long for what it is */
}

static void test_longest(void **state)
{
	char *text = xcalloc(SASLPREP_MAX + 3, 1);

	for (size_t i = 0; i < SASLPREP_MAX; i += 2)
		memcpy(text + i, "\xc2\xaa", 2);
	free_secret(saslprep(slice_of(text)));
	memcpy(text + SASLPREP_MAX, "\xc2\xaa", 2);
	check(text, NULL);
	free(text);
}

/* Whoever types either form matches the verifier of the other. */
static void test_verifiers_are_of_the_normal_form(void **state)
{
#ifdef HAVE_LIBIDN
	struct scram_verifier *v;

	assert_int_equal(scram_verifier_derive(slice_of("caf\xc3\xa9"), NULL, 0, 2, &v), 0);
	assert_true(scram_verifier_matches(v, slice_of("cafe\xcc\x81")));
	assert_false(scram_verifier_matches(v, slice_of("cafe")));
	scram_verifier_free(&v);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_normal_forms),
		cmocka_unit_test(test_no_normal_form),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_verifiers_are_of_the_normal_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
