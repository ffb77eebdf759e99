#include "auth/users.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/crypto.h"
#include "core/alloc.h"

static char err[256];

static struct users *parse(const char *text, int expected)
{
	struct users *u;

	assert_int_equal(users_parse(slice_of(text), "list", &u, err, sizeof(err)), expected);
	return u;
}

static void check_secret(const struct users *u, const char *name, const char *secret)
{
	const struct user *user = users_find(u, name);

	assert_non_null(user);
	assert_string_equal(user->name, name);
	assert_string_equal(user->secret.text, secret);
}

static void note_change(void *ctx, enum users_change change, const char *name)
{
	static const char signs[] = { [USERS_ADDED] = '+', [USERS_CHANGED] = '!', [USERS_REMOVED] = '-' };

	str_append(ctx, 64, "%c%s ", signs[change], name);
}

static void check_changes(const char *old_text, const char *fresh_text, const char *expected)
{
	struct users *old = parse(old_text, 0);
	struct users *fresh = parse(fresh_text, 0);
	char got[64] = "";

	users_compare(old, fresh, note_change, got);
	assert_string_equal(got, expected);
	users_compare(old, old, note_change, got);
	assert_string_equal(got, expected);
	users_release(&old);
	users_release(&fresh);
}

static void test_changes(void **state)
{
	check_changes("", "", "");
	check_changes("\"a\" \"1\"", "", "-a ");
	check_changes("", "\"a\" \"1\"", "+a ");
	check_changes("\"b\" \"1\"\n\"c\" \"2\"\n\"e\" \"\"", "\"e\" \"\"\n\"d\" \"\"\n\"c\" \"3\"\n\"a\" \"1\"",
		      "+a -b !c +d ");
}

static void write_list(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_a_file_is_current_until_it_is_written(void **state)
{
	char path[] = "/tmp/pgsluice-users-XXXXXX";
	int fd = mkstemp(path);
	struct users *u;

	assert_true(fd >= 0);
	close(fd);
	write_list(path, "\"a\" \"1\"\n");
	assert_int_equal(users_load(path, &u, err, sizeof(err)), 0);
	assert_true(users_is_current(u, path));
	assert_false(users_is_current(u, "/nonexistent"));
	write_list(path, "\"a\" \"12\"\n");
	assert_false(users_is_current(u, path));
	users_release(&u);

	write_list(path, "\"a\" \"1\"\nbroken");
	assert_int_equal(users_load(path, &u, err, sizeof(err)), -E_SYNTAX);
	assert_true(users_is_current(u, path));
	assert_int_equal(unlink(path), 0);
	assert_false(users_is_current(u, path));
	users_release(&u);

	assert_int_equal(users_load(path, &u, err, sizeof(err)), -E_IO);
	assert_false(users_is_current(u, path));
	users_release(&u);
}

static void test_entries(void **state)
{
	struct users *u = parse("; a comment \"x\" \"y\"\n"
				"\n"
				"  \t\"bob\" \"b\" rest \"of\" the line\n"
				"  ; \"carl\" \"c\"\n"
				"\"al\"\"ice\"   \"say \"\"hi\"\"\"\r\n"
				"\"two\"\n\n  lines # ; \n\"second\"\n"
				"\"tight\"-\"y\"\n"
				"\"new\nline\" \"p\nq\"\n"
				"\"empty\" \"\"\n"
				"\"last\" \"z\"",
				0);

	assert_string_equal(err, "");
	check_secret(u, "bob", "b");
	check_secret(u, "al\"ice", "say \"hi\"");
	check_secret(u, "two", "second");
	check_secret(u, "tight", "y");
	check_secret(u, "new\nline", "p\nq");
	check_secret(u, "empty", "");
	assert_int_equal(users_find(u, "empty")->secret.type, SECRET_EMPTY);
	check_secret(u, "last", "z");
	assert_null(users_find(u, "x"));
	assert_null(users_find(u, "carl"));
	assert_null(users_find(u, "BOB"));
	assert_null(users_find(u, "bo"));
	users_release(&u);
	assert_null(u);
}

static void test_sorted_and_last_wins(void **state)
{
	struct users *u = parse("\"c\" \"1\"\n\"a\" \"2\"\n\"B\" \"3\"\n\"c\" \"4\"\n\"\xc3\xa9\" \"5\"\n", 0);
	static const char *const names[] = { "B", "a", "c", "\xc3\xa9" };

	assert_int_equal(users_count(u), ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_string_equal(users_at(u, i)->name, names[i]);
		assert_ptr_equal(users_at(u, i), users_find(u, names[i]));
	}
	check_secret(u, "c", "4");
	users_release(&u);
}

static void test_kind_that_most_secrets_are(void **state)
{
#define AS_SCRAM(count)                                                                                  \
	"SCRAM-SHA-256$" count ":MDEyMzQ1Njc4OWFiY2RlZg==$3SwsfEy6PbbkBwf/U6s1vR97AnRZzZlyVVukqFOA5Zs=:" \
	"xLosJ5GvHxgfOBsyRLAzGYJv2UK94GwUAwn6ZEHJa/c="
	static const struct {
		const char *text;
		uint32_t iterations;
	} rows[] = {
		{ "", 0 },
		{ "\"a\" \"x\"\n", 0 },
		{ "\"a\" \"" AS_SCRAM("2") "\"\n", 2 },
		{ "\"a\" \"" AS_SCRAM("2") "\"\n\"b\" \"x\"\n", 0 },
		{ "\"a\" \"" AS_SCRAM("2") "\"\n\"b\" \"x\"\n\"c\" \"" AS_SCRAM("2") "\"\n", 2 },
		{ "\"a\" \"" AS_SCRAM("2") "\"\n\"a\" \"x\"\n", 0 },
		{ "\"a\" \"" AS_SCRAM("2") "\"\n\"b\" \"" AS_SCRAM("3") "\"\n\"c\" \"" AS_SCRAM("3") "\"\n", 3 },
		{ "\"a\" \"" AS_SCRAM("3") "\"\n\"b\" \"" AS_SCRAM("2") "\"\n\"c\" \"" AS_SCRAM("3") "\"\n", 3 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct users *u;

		assert_int_equal(users_parse(slice_of(rows[i].text), "file", &u, err, sizeof(err)), 0);
		assert_int_equal(users_usual_iterations(u), rows[i].iterations);
		users_release(&u);
	}
}

static void test_a_fault_keeps_what_came_before(void **state)
{
	static const struct {
		const char *text;
		const char *error;
	} rows[] = {
		{ "\"a\" \"1\"\nb 2\n\"c\" \"3\"\n", "broken auth file: list, line 2" },
		{ "\"a\" \"1\"\n# no comment\n\"c\" \"3\"\n", "broken auth file: list, line 2" },
		{ "\"a\" \"1\"\n\n\"b\n\n", "broken auth file: list, line 3" },
		{ "\"a\" \"1\"\n\"b\"", "broken auth file: list, line 2" },
		{ "\"a\" \"1\"\n\"b\" \n", "broken auth file: list, line 2" },
		{ "\"a\" \"1\"\n\"b\" \"", "broken auth file: list, line 2" },
		{ "\"a\" \"1\"\n\"b\" \"2\"\"", "broken auth file: list, line 2" },
		{ "\"a\" \"1\"\n\"", "broken auth file: list, line 2" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct users *u = parse(rows[i].text, -E_SYNTAX);

		assert_string_equal(err, rows[i].error);
		assert_int_equal(users_count(u), 1);
		check_secret(u, "a", "1");
		users_release(&u);
	}
}

static void test_nul_is_a_fault(void **state)
{
	static const char text[] = "\"a\" \"1\"\n\"b\0c\" \"2\"\n";
	struct users *u;

	assert_int_equal(users_parse(slice_make(text, sizeof(text) - 1), "list", &u, err, sizeof(err)), -E_SYNTAX);
	assert_int_equal(users_count(u), 1);
	users_release(&u);
}

/* A list of one entry whose fields have the lengths given. */
static int load_lengths(size_t name_len, size_t secret_len)
{
	size_t n = name_len + secret_len + 5;
	char *text = xmalloc(n);
	struct users *u;
	int rc;

	memset(text, 'x', n);
	text[0] = text[name_len + 1] = text[name_len + 3] = text[n - 1] = '"';
	text[name_len + 2] = ' ';
	rc = users_parse(slice_make(text, n), "list", &u, err, sizeof(err));
	assert_int_equal(users_count(u), rc == 0 ? 1 : 0);
	if (rc == 0) {
		assert_int_equal(strlen(users_at(u, 0)->name), name_len);
		assert_int_equal(users_at(u, 0)->secret.len, secret_len);
	}
	users_release(&u);
	free(text);
	return rc;
}

static void test_limits(void **state)
{
	assert_int_equal(load_lengths(127, 65530), 0);
	assert_int_equal(load_lengths(128, 3), -E_SYNTAX);
	assert_string_equal(err, "username too long in auth file: list, line 1");
	assert_int_equal(load_lengths(3, 65531), -E_SYNTAX);
	assert_string_equal(err, "password too long in auth file: list, line 1");
}

static void test_empty_texts(void **state)
{
	static const char *const texts[] = { "", "\n\n", "; only this", " \t " };
	struct users *u;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		u = parse(texts[i], 0);
		assert_int_equal(users_count(u), 0);
		assert_null(users_find(u, ""));
		users_release(&u);
	}
	u = users_new_empty();
	assert_int_equal(users_count(u), 0);
	assert_null(users_find(u, "a"));
	users_release(&u);
}

static void test_cut_at_each_byte(void **state)
{
	static const char text[] = "\"alice\" \"one\" x\n;c\n\"bob\"\"s\" \"two\"\"\"\n";

	for (size_t n = 0; n < sizeof(text); n++) {
		/* A copy without room behind it, so that a byte read too far is noticed. */
		char *copy = xmalloc(n);
		struct users *u;
		int rc;

		memcpy(copy, text, n);
		rc = users_parse(slice_make(copy, n), "list", &u, err, sizeof(err));
		assert_true(rc == 0 || rc == -E_SYNTAX);
		assert_int_equal(rc == 0, err[0] == '\0');
		users_release(&u);
		free(copy);
	}
}

static void test_file(void **state)
{
	char path[] = "/tmp/test_users.XXXXXX";
	int fd = mkstemp(path);
	struct users *u;
	size_t count = 20000;

	assert_true(fd >= 0);
	for (size_t i = 0; i < count; i++)
		assert_true(dprintf(fd, "\"user%zu\" \"secret%zu\"\n", i, i) > 0);
	close(fd);
	assert_int_equal(users_load(path, &u, err, sizeof(err)), 0);
	assert_int_equal(users_count(u), count);
	check_secret(u, "user19999", "secret19999");
	users_release(&u);

	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(users_load(path, &u, err, sizeof(err)), 0);
	assert_int_equal(users_count(u), 0);
	users_release(&u);

	unlink(path);
	assert_int_equal(users_load(path, &u, err, sizeof(err)), -E_IO);
	assert_true(strncmp(err, "could not open auth_file /tmp/test_users.", 41) == 0);
	assert_non_null(strstr(err, ": No such file or directory"));
	assert_int_equal(users_count(u), 0);
	users_release(&u);

	assert_int_equal(users_load("/tmp", &u, err, sizeof(err)), -E_IO);
	assert_string_equal(err, "could not read auth_file /tmp: Is a directory");
	users_release(&u);
}

static void test_references(void **state)
{
	struct users *u = parse("\"a\" \"1\"\n", 0);
	struct users *other = users_hold(u);

	users_release(&u);
	check_secret(other, "a", "1");
	users_release(&other);
	users_release(&other);
}

static const struct scram_verifier *verifier(const struct user *user, uint32_t iterations)
{
	const struct scram_recipe recipe = { .salt_key = "key", .iterations = iterations };
	bool is_derived;

	return user_verifier(user, &recipe, &is_derived);
}

static void test_verifier(void **state)
{
	struct users *u = parse("\"p\" \"secret\"\n\"m\" \"md520c46e3762c864548e296b33c3406aa9\"\n\"e\" \"\"\n\"s\" "
				"\"SCRAM-SHA-256$64:MDEyMzQ1Njc4OWFiY2RlZg==$3SwsfEy6PbbkBwf/"
				"U6s1vR97AnRZzZlyVVukqFOA5Zs=:xLosJ5GvHxgfOBsyRLAzGYJv2UK94GwUAwn6ZEHJa/c=\"\n",
				0);
	const struct scram_verifier *v = verifier(users_find(u, "p"), 32);
	struct user *alone;

	assert_non_null(v);
	assert_int_equal(v->iterations, 32);
	assert_int_equal(v->salt_len, SCRAM_SALT_LEN);
	assert_true(scram_verifier_matches(v, slice_of("secret")));
	/* Once per table, whatever is asked later. */
	assert_ptr_equal(verifier(users_find(u, "p"), 64), v);
	assert_ptr_equal(verifier(users_find(u, "s"), 32), users_find(u, "s")->secret.scram);
	assert_null(verifier(users_find(u, "m"), 32));
	assert_null(verifier(users_find(u, "e"), 32));

	alone = user_new("p", slice_of("secret"));
	assert_non_null(verifier(alone, 32));
	/* The salt is that of the name, so that it tells nothing about where the user is from. */
	assert_memory_equal(verifier(alone, 32)->salt, v->salt, SCRAM_SALT_LEN);
	user_free(&alone);
	assert_null(alone);
	user_free(&alone);
	users_release(&u);
}

#define FOUR_SECRETS "\"a\" \"1\"\n\"b\" \"2\"\n\"c\" \"3\"\n\"m\" \"md520c46e3762c864548e296b33c3406aa9\"\n"

static void test_verifiers_are_derived_ahead(void **state)
{
	const struct scram_recipe recipe = { .salt_key = "key", .iterations = 8 };
	struct users *u = parse(FOUR_SECRETS, 0);
	struct users *none = parse("\"m\" \"md520c46e3762c864548e296b33c3406aa9\"\n", 0);
	uint64_t before = crypto_count_pbkdf2();
	size_t at = 0;

	assert_true(users_are_derived(none));
	assert_false(users_are_derived(u));
	assert_non_null(verifier(users_find(u, "b"), 8)); /* somebody logs in meanwhile */
	assert_false(users_derive(u, &recipe, &at, 1));
	assert_false(users_are_derived(u));
	assert_true(users_derive(u, &recipe, &at, 5));
	assert_true(users_are_derived(u));
	assert_int_equal(crypto_count_pbkdf2() - before, 3);
	assert_non_null(verifier(users_find(u, "c"), 8));
	assert_int_equal(crypto_count_pbkdf2() - before, 3); /* no login derives any more */
	users_release(&u);
	users_release(&none);
}

static void test_verifiers_are_inherited(void **state)
{
	const struct scram_recipe recipe = { .salt_key = "key", .iterations = 8 };
	struct users *old = parse(FOUR_SECRETS, 0);
	struct users *fresh = parse("\"a\" \"1\"\n\"b\" \"other\"\n\"d\" \"3\"\n", 0);
	struct users *slower = parse(FOUR_SECRETS, 0);
	uint64_t before;
	size_t at = 0;

	assert_true(users_derive(old, &recipe, &at, 100));
	users_inherit(fresh, old, 8);
	users_inherit(slower, old, 16);
	assert_false(users_are_derived(fresh));
	before = crypto_count_pbkdf2();
	assert_memory_equal(verifier(users_find(fresh, "a"), 8)->stored_key,
			    verifier(users_find(old, "a"), 8)->stored_key, SCRAM_KEY_LEN);
	assert_int_equal(crypto_count_pbkdf2() - before, 0);
	assert_true(scram_verifier_matches(verifier(users_find(fresh, "b"), 8), slice_of("other")));
	assert_int_equal(verifier(users_find(slower, "a"), 16)->iterations, 16);
	users_release(&old);
	users_release(&fresh);
	users_release(&slower);
}

static void *ask_for_verifier(void *arg)
{
	struct users *u = arg;
	const void *v = verifier(users_find(u, "p"), 16);

	users_release(&u);
	return (void *)(uintptr_t)v;
}

static void test_threads_agree_on_a_verifier(void **state)
{
	struct users *u = parse("\"p\" \"secret\"\n", 0);
	pthread_t threads[8];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_for_verifier, users_hold(u)), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		void *seen;

		assert_int_equal(pthread_join(threads[i], &seen), 0);
		assert_ptr_equal(seen, verifier(users_find(u, "p"), 16));
	}
	users_release(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_a_file_is_current_until_it_is_written),
		cmocka_unit_test(test_sorted_and_last_wins),
		cmocka_unit_test(test_kind_that_most_secrets_are),
		cmocka_unit_test(test_a_fault_keeps_what_came_before),
		cmocka_unit_test(test_nul_is_a_fault),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_empty_texts),
		cmocka_unit_test(test_cut_at_each_byte),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_verifier),
		cmocka_unit_test(test_verifiers_are_derived_ahead),
		cmocka_unit_test(test_verifiers_are_inherited),
		cmocka_unit_test(test_threads_agree_on_a_verifier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
