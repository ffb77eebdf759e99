#include "reload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"

/* What the build can do, in the place of what it was configured with (--wrap). */
static bool has_ldap;
static bool has_pam;

bool __wrap_ldap_is_supported(void);
bool __wrap_pam_is_supported(void);

bool __wrap_ldap_is_supported(void)
{
	return has_ldap;
}

bool __wrap_pam_is_supported(void)
{
	return has_pam;
}

static char dir[64];

/* Writes a file of the test's directory; the name is for the caller until the next call. */
static const char *write_file(const char *name, const char *text)
{
	static char path[128];
	FILE *f;

	str_format(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	return path;
}

static const char *read_log(void)
{
	static char text[65536];
	char path[128];
	FILE *f;
	size_t n;

	str_format(path, sizeof(path), "%s/log", dir);
	f = fopen(path, "r");
	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return text;
}

static int setup(void **state UNUSED)
{
	static char path[128];
	struct log_setup log = { .quiet = true, .file = path };

	str_copy(dir, sizeof(dir), "/tmp/test_reload.XXXXXX");
	assert_non_null(mkdtemp(dir));
	str_format(path, sizeof(path), "%s/log", dir);
	log_configure(&log);
	return 0;
}

static int teardown(void **state UNUSED)
{
	static const char *const names[] = { "log", "ini" };
	struct log_setup log = { .quiet = true };
	char path[128];

	log_configure(&log);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		str_format(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

/* A method that the build has no library for is a fault of the file, and the log says what would help. */
static void test_methods_of_other_builds(void **state UNUSED)
{
	static const struct {
		const char *method;
		bool *has;
	} rows[] = { { "ldap", &has_ldap }, { "pam", &has_pam } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct snapshot *snap;
		char text[128];
		char fault[128];

		has_ldap = has_pam = true;
		str_format(text, sizeof(text), "[pgsluice]\nauth_type = %s\n[databases]\n", rows[i].method);
		str_format(fault, sizeof(fault), "%s/ini: %s is not supported by this build", dir, rows[i].method);
		snap = reload_first(write_file("ini", text));
		assert_non_null(snap);
		assert_null(strstr(read_log(), fault));
		snapshot_release(&snap);
		*rows[i].has = false;
		assert_null(reload_first(write_file("ini", text)));
		assert_non_null(strstr(read_log(), fault));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_methods_of_other_builds, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
