#include "auth/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"

#define SALT   "MDEyMzQ1Njc4OWFiY2RlZg=="
#define STORED "3SwsfEy6PbbkBwf/U6s1vR97AnRZzZlyVVukqFOA5Zs="
#define SERVER "xLosJ5GvHxgfOBsyRLAzGYJv2UK94GwUAwn6ZEHJa/c="

static enum secret_type classify(const char *text)
{
	struct secret s;
	enum secret_type type;

	secret_init(&s, slice_of(text));
	assert_string_equal(s.text, text);
	assert_int_equal(s.len, strlen(text));
	type = s.type;
	assert_int_equal(type == SECRET_SCRAM, s.scram != NULL);
	secret_fini(&s);
	assert_null(s.text);
	return type;
}

static void test_classes(void **state)
{
	static const struct {
		const char *text;
		enum secret_type type;
	} rows[] = {
		{ "", SECRET_EMPTY },
		{ "secret", SECRET_PLAIN },
		{ " ", SECRET_PLAIN },
		{ "md5", SECRET_PLAIN },
		{ "md520c46e3762c864548e296b33c3406aa9", SECRET_MD5 },
		{ "md520c46e3762c864548e296b33c3406aa", SECRET_PLAIN },
		{ "md520c46e3762c864548e296b33c3406aa9a", SECRET_PLAIN },
		{ "md520C46e3762c864548e296b33c3406aa9", SECRET_PLAIN },
		{ "md520g46e3762c864548e296b33c3406aa9", SECRET_PLAIN },
		{ "MD520c46e3762c864548e296b33c3406aa9", SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:" SALT "$" STORED ":" SERVER, SECRET_SCRAM },
		{ "SCRAM-SHA-256$1:YQ==$" STORED ":" SERVER, SECRET_SCRAM },
		{ "SCRAM-SHA-256$2147483647:" SALT "$" STORED ":" SERVER, SECRET_SCRAM },
		{ "SCRAM-SHA-256$2147483648:" SALT "$" STORED ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$0:" SALT "$" STORED ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$:" SALT "$" STORED ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$-1:" SALT "$" STORED ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$64x:" SALT "$" STORED ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:$" STORED ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:???$" STORED ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:" SALT "$" STORED, SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:" SALT "$" STORED ":", SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:" SALT "$:" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:" SALT "$" SALT ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:" SALT "$" STORED ":" SALT, SECRET_PLAIN },
		{ "SCRAM-SHA-256$64:" SALT "$" STORED ":" SERVER "x", SECRET_PLAIN },
		{ "SCRAM-SHA-1$64:" SALT "$" STORED ":" SERVER, SECRET_PLAIN },
		{ "SCRAM-SHA-256", SECRET_PLAIN },
		{ "SCRAM-SHA-256$", SECRET_PLAIN },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (classify(rows[i].text) != rows[i].type)
			fail_msg("\"%s\" is not %s", rows[i].text, secret_type_name(rows[i].type));
	}
}

static void test_a_salt_has_a_bound(void **state)
{
	size_t size = 16 + SCRAM_SALT_MAX * 2 + 128;
	char *text = xmalloc(size);

	for (size_t n = SCRAM_SALT_MAX - 4; n < SCRAM_SALT_MAX + 6; n += 3) {
		str_copy(text, size, "SCRAM-SHA-256$64:");
		for (size_t i = 0; i < n / 3; i++)
			assert_true(str_append(text, size, "AAAA"));
		assert_true(str_append(text, size, "$" STORED ":" SERVER));
		assert_int_equal(classify(text), n / 3 * 3 <= SCRAM_SALT_MAX ? SECRET_SCRAM : SECRET_PLAIN);
	}
	free(text);
}

static void test_copy_lives_on_its_own(void **state)
{
	struct secret a;
	struct secret b;

	secret_init(&a, slice_of("SCRAM-SHA-256$64:" SALT "$" STORED ":" SERVER));
	secret_copy(&b, &a);
	secret_fini(&a);
	assert_int_equal(b.type, SECRET_SCRAM);
	assert_int_equal(b.scram->iterations, 64);
	assert_int_equal(b.scram->salt_len, 16);
	assert_memory_equal(b.scram->salt, "0123456789abcdef", 16);
	assert_true(scram_verifier_matches(b.scram, slice_of("secret")));
	assert_false(scram_verifier_matches(b.scram, slice_of("Secret")));
	secret_fini(&b);

	secret_copy(&b, NULL);
	assert_int_equal(b.type, SECRET_EMPTY);
	assert_string_equal(b.text, "");
	secret_fini(&b);
	secret_fini(&b);
}

/* A password that was typed is a password, even if it looks like a hash. */
static void test_typed_passwords_are_plain(void **state)
{
	static const char *const texts[] = { "secret", "md520c46e3762c864548e296b33c3406aa9",
					     "SCRAM-SHA-256$64:" SALT "$" STORED ":" SERVER };
	struct secret s;
	struct secret copy;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		secret_init_plain(&s, slice_of(texts[i]));
		secret_copy(&copy, &s);
		secret_fini(&s);
		assert_int_equal(copy.type, SECRET_PLAIN);
		assert_string_equal(copy.text, texts[i]);
		assert_int_equal(copy.len, strlen(texts[i]));
		assert_null(copy.scram);
		secret_fini(&copy);
	}
	secret_init_plain(&s, slice_of(""));
	assert_int_equal(s.type, SECRET_EMPTY);
	assert_string_equal(s.text, "");
	secret_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_a_salt_has_a_bound),
		cmocka_unit_test(test_copy_lives_on_its_own),
		cmocka_unit_test(test_typed_passwords_are_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
