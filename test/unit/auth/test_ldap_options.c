#include "auth/ldap_options.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/alloc.h"

static char err[512];

static struct ldap_options *parse(const char *text)
{
	struct ldap_options *o;
	int rc = ldap_options_parse(slice_of(text), &o, err, sizeof(err));

	if (rc != 0)
		fail_msg("%s: %s", text, err);
	return o;
}

/* Refused with this code, and with this in the message. */
static void refuse(const char *text, int code, const char *what)
{
	struct ldap_options *o;

	assert_int_equal(ldap_options_parse(slice_of(text), &o, err, sizeof(err)), code);
	assert_null(o);
	if (strstr(err, what) == NULL)
		fail_msg("%s: \"%s\" lacks \"%s\"", text, err, what);
}

static void test_simple(void **state UNUSED)
{
	struct ldap_options *o = parse("ldapserver=one.example.com ldapport=3890 ldapprefix=\"uid=\" "
				       "ldapsuffix=\",ou=people,dc=example,dc=com\" ldaptls=1");

	assert_string_equal(o->server, "one.example.com");
	assert_int_equal(o->port, 3890);
	assert_false(o->is_ldaps);
	assert_true(o->start_tls);
	assert_string_equal(o->prefix, "uid=");
	assert_string_equal(o->suffix, ",ou=people,dc=example,dc=com");
	assert_null(o->base_dn);
	assert_false(ldap_options_search(o));
	ldap_options_release(&o);
	assert_null(o);
	ldap_options_release(&o);
}

static void test_search(void **state UNUSED)
{
	struct ldap_options *o = parse("ldapserver=\"one two\",ldapscheme=ldaps, ldapbasedn=\"dc=example,dc=com\"\t"
				       "ldapbinddn=\"cn=reader\" ldapbindpasswd=\"a \"\"quoted\"\" one\" "
				       "ldapsearchattribute=cn ldaptls=0");

	assert_string_equal(o->server, "one two");
	assert_int_equal(o->port, 0);
	assert_true(o->is_ldaps);
	assert_false(o->start_tls);
	assert_string_equal(o->base_dn, "dc=example,dc=com");
	assert_string_equal(o->bind_dn, "cn=reader");
	assert_string_equal(o->bind_password, "a \"quoted\" one");
	assert_string_equal(o->attribute, "cn");
	assert_int_equal(o->scope, LDAP_SEARCH_SUB);
	assert_true(ldap_options_search(o));
	ldap_options_release(&o);
}

/* The separators, the quotes and the last of several. */
static void test_grammar(void **state UNUSED)
{
	static const char *const same[] = {
		"ldapbasedn=x ldapserver=h",
		",,ldapbasedn=x,ldapserver=h,",
		"  \"ldapbasedn\"=\"x\"\r\n\"ldapserver\"=h",
		"\"ldapbasedn=x\" \"ldapserver=h\"",
		"ldapbasedn=y ldapserver=g ldapserver=h ldapbasedn=x",
		"ldapbasedn=x ldapserver=h ldapprefix=\"\" \"ldapsuffix\"=\"\"",
		"ldapurl=ldap://h/x?uid?sub ldapsearchattribute=\"\"",
	};

	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		struct ldap_options *o = parse(same[i]);

		assert_string_equal(o->base_dn, "x");
		assert_string_equal(o->server, "h");
		assert_null(o->prefix);
		assert_null(o->suffix);
		assert_null(o->attribute);
		assert_true(ldap_options_search(o));
		ldap_options_release(&o);
	}
}

static void test_errors(void **state UNUSED)
{
	refuse("", -E_UNSUPPORTED, "one of ldapbasedn, ldapprefix and ldapsuffix is needed");
	refuse("ldapbasedn", -E_SYNTAX, "at the beginning: key=value is expected");
	refuse("ldapbasedn=", -E_SYNTAX, "LDAP option ldapbasedn: no value directly behind \"=\"");
	refuse("ldapbasedn= x", -E_SYNTAX, "no value directly behind");
	refuse("ldapbasedn =x", -E_SYNTAX, "key=value is expected");
	refuse("ldapbasedn=x=\"y\"", -E_SYNTAX, "behind ldapbasedn: a quote inside of a word");
	refuse("ldapbasedn=\"x", -E_SYNTAX, "behind ldapbasedn: a quote is not closed");
	refuse("ldapbasedn=\"x\"y", -E_SYNTAX, "must follow the closing quote");
	refuse("\"ldapbasedn\"x=1", -E_SYNTAX, "must be followed by \"=\"");
	refuse("\"ldapbasedn\"", -E_SYNTAX, "key=value is expected");
	refuse("ldapserver=h LDAPBASEDN=x", -E_SYNTAX, "behind ldapserver: unknown option; there are ldapserver,");
	refuse("ldapport=0", -E_SYNTAX, "LDAP option ldapport: must be a number from 1 to 65535");
	refuse("ldapport=65536", -E_SYNTAX, "ldapport");
	refuse("ldapport=389x", -E_SYNTAX, "ldapport");
	refuse("ldapport=99999999999", -E_SYNTAX, "ldapport");
	refuse("ldapscheme=ldapi", -E_SYNTAX, "must be ldap or ldaps");
	refuse("ldaptls=on", -E_SYNTAX, "must be 1 (StartTLS) or 0");
	refuse("ldapserver=ldap://h", -E_SYNTAX, "a URL is ldapurl");
	refuse("ldapserver=h ldapprefix=p ldapbasedn=x", -E_UNSUPPORTED, "do not go together");
	refuse("ldapserver=h ldapsuffix=s ldapbindpasswd=x", -E_UNSUPPORTED, "do not go together");
	refuse("ldapserver=h ldapsuffix=s ldapurl=ldap://h/dc=x", -E_UNSUPPORTED, "do not go together");
	refuse("ldapserver=h ldapbasedn=x ldapsearchattribute=a ldapsearchfilter=($username)", -E_UNSUPPORTED,
	       "ldapsearchattribute and ldapsearchfilter");
	refuse("ldapserver=h ldapbasedn=x ldapsearchfilter=(uid=alice)", -E_UNSUPPORTED, "must ask for $username");
	refuse("ldapserver=h ldapbasedn=x ldapscheme=ldaps ldaptls=1", -E_UNSUPPORTED, "StartTLS");
	refuse("ldapprefix=x", -E_UNSUPPORTED, "ldapserver is needed");
	refuse("ldapserver=\" \" ldapprefix=x", -E_UNSUPPORTED, "ldapserver is needed");
}

/* What is not quoted rightly may be a password: no message has it. */
static void test_errors_tell_no_password(void **state UNUSED)
{
	static const char *const texts[] = {
		"ldapbasedn=x ldapbindpasswd=hush hush",        "ldapbasedn=x ldapbindpasswd=hush hush=1",
		"ldapbasedn=x ldapbindpasswd=hu\"hush\"",       "ldapbasedn=x ldapbindpasswd=\"hush",
		"ldapbasedn=x ldapbindpasswd=\"hush\"hush",     "ldapbasedn=x \"ldapbindpasswd=hush\"hush",
		"ldapbasedn=x ldapbindpasswd=a,ldaphush=x",     "ldapbasedn=x ldapbindpasswd=\"hush\" \"hush\"",
		"ldapbindpasswd=hush ldapserver=x ldapport=no", "ldapbindpasswd=hush ldapserver=x",
	};
	struct ldap_options *o;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_true(ldap_options_parse(slice_of(texts[i]), &o, err, sizeof(err)) < 0);
		assert_null(strstr(err, "hush"));
		assert_true(strlen(err) > 10);
	}
}

static void test_length(void **state UNUSED)
{
	char text[LDAP_OPTIONS_TEXT_MAX + 2];
	struct ldap_options *o;

	memset(text, 'x', sizeof(text));
	memcpy(text, "ldapbasedn=", strlen("ldapbasedn="));
	assert_int_equal(ldap_options_parse(slice_make(text, 1023), &o, err, sizeof(err)), 0);
	assert_int_equal(strlen(o->base_dn), 1023 - strlen("ldapbasedn="));
	ldap_options_release(&o);
	assert_int_equal(ldap_options_parse(slice_make(text, 1024), &o, err, sizeof(err)), -E_RANGE);
	assert_string_equal(err, "LDAP options: longer than 1023 bytes");
	text[20] = '\0';
	assert_int_equal(ldap_options_parse(slice_make(text, 100), &o, err, sizeof(err)), -E_SYNTAX);
}

static void test_url(void **state UNUSED)
{
	struct ldap_options *o = parse("ldapurl=\"LDAPS://ldap.example.com:6360/dc=example%2cdc=com?mail,cn?one\"");

	assert_true(o->is_ldaps);
	assert_string_equal(o->server, "ldap.example.com");
	assert_int_equal(o->port, 6360);
	assert_string_equal(o->base_dn, "dc=example,dc=com");
	assert_string_equal(o->attribute, "mail");
	assert_null(o->filter);
	assert_int_equal(o->scope, LDAP_SEARCH_ONE);
	ldap_options_release(&o);

	o = parse("ldapurl=\"ldap://[::1]:77/dc=x??sub?(%26(uid=$username)(a=b))\"");
	assert_string_equal(o->server, "[::1]");
	assert_int_equal(o->port, 77);
	assert_null(o->attribute);
	assert_string_equal(o->filter, "(&(uid=$username)(a=b))");
	assert_int_equal(o->scope, LDAP_SEARCH_SUB);
	ldap_options_release(&o);

	/* Nobody in particular: DNS knows. And what follows counts. */
	o = parse("ldapurl=ldap:///dc=x ldapport=3 ldapserver=late");
	assert_string_equal(o->server, "late");
	assert_int_equal(o->port, 3);
	assert_int_equal(o->scope, LDAP_SEARCH_BASE);
	ldap_options_release(&o);

	/* Only where it is; then prefix and suffix go with it. */
	o = parse("ldapurl=ldap://h:5 ldapprefix=uid=");
	assert_string_equal(o->server, "h");
	assert_string_equal(o->prefix, "uid=");
	ldap_options_release(&o);
}

static void test_bad_urls(void **state UNUSED)
{
	static const char *const urls[] = {
		"http://h/dc=x",
		"ldapi://h/dc=x",
		"ldap:/h/dc=x",
		"ldap:h/dc=x",
		"ldap",
		"ldap://h:x/dc=x",
		"ldap://h:0/dc=x",
		"ldap://h:65536/dc=x",
		"ldap://[::1/dc=x",
		"ldap://[::1]77/dc=x",
		"ldap://a@b/dc=x",
		"ldap://h/dc=x?uid?all",
		"ldap://h/dc=x?uid%2",
		"ldap://h/dc=%zz",
		"ldap://h/dc=%00",
		"ldap://h/dc=x?uid?sub??x",
		"ldap://h/dc=x????e=y",
		"ldap://h/dc=x%",
		"ldap://h/x?%0",
		"ldap://h?uid?sub",
	};
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		str_format(text, sizeof(text), "ldapurl=\"%s\"", urls[i]);
		refuse(text, -E_SYNTAX, "LDAP option ldapurl: must look like ldap[s]://host[:port]/basedn");
	}
}

static void check_name(const char *text, const char *user, const char *expected)
{
	struct ldap_options *o = parse(text);
	char *name = ldap_options_bind_name(o, user);

	assert_string_equal(name, expected);
	free(name);
	ldap_options_release(&o);
}

/* A name cannot become more than one value of a distinguished name. */
static void test_bind_names(void **state UNUSED)
{
	static const char dn[] = "ldapserver=h ldapprefix=\"uid=\" ldapsuffix=\",dc=x\"";

	check_name(dn, "alice", "uid=alice,dc=x");
	check_name(dn, "j\xc3\xb6rg o'neil", "uid=j\xc3\xb6rg o'neil,dc=x");
	check_name(dn, "a,ou=b+c", "uid=a\\2cou\\3db\\2bc,dc=x");
	check_name(dn, " \\\"<>;# ", "uid=\\20\\5c\\22\\3c\\3e\\3b#\\20,dc=x");
	check_name(dn, "#a\n", "uid=\\23a\\0a,dc=x");
	check_name(dn, " ", "uid=\\20,dc=x");
	/* These are not: they go as they are. */
	check_name("ldapserver=h ldapprefix=\"CORP\\\"", "a,b", "CORP\\a,b");
	check_name("ldapserver=h ldapsuffix=@example.com", "a+b", "a+b@example.com");
}

static void check_filter(const char *text, const char *user, const char *expected)
{
	struct ldap_options *o = parse(text);
	char *filter = ldap_options_filter(o, user);

	if (expected == NULL)
		assert_null(filter);
	else
		assert_string_equal(filter, expected);
	free(filter);
	ldap_options_release(&o);
}

static void test_filters(void **state UNUSED)
{
	static const char both[] = "ldapbasedn=x ldapsearchfilter=(|(uid=$username)(mail=$username@x)($user=$))";
	char name[] = "a*b";

	check_filter("ldapbasedn=x", "alice", "(uid=alice)");
	check_filter("ldapbasedn=x ldapsearchattribute=cn", "al ice", "(cn=al ice)");
	check_filter(both, "bob", "(|(uid=bob)(mail=bob@x)($user=$))");
	check_filter(both, "$username", "(|(uid=$username)(mail=$username@x)($user=$))");
	check_filter("ldapbasedn=x", "a\tb\x7f", "(uid=a\\09b\\7f)");
	for (const char *bad = "*()\\/"; *bad != '\0'; bad++) {
		name[1] = *bad;
		check_filter("ldapbasedn=x", name, NULL);
		check_filter(both, name + 1, NULL);
	}
}

static void test_references(void **state UNUSED)
{
	struct ldap_options *o = parse("ldapbasedn=x");
	struct ldap_options *second = ldap_options_hold(o);

	assert_ptr_equal(o, second);
	ldap_options_release(&o);
	assert_string_equal(second->base_dn, "x");
	ldap_options_release(&second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simple),     cmocka_unit_test(test_search),
		cmocka_unit_test(test_grammar),    cmocka_unit_test(test_errors),
		cmocka_unit_test(test_length),     cmocka_unit_test(test_errors_tell_no_password),
		cmocka_unit_test(test_url),        cmocka_unit_test(test_bad_urls),
		cmocka_unit_test(test_bind_names), cmocka_unit_test(test_filters),
		cmocka_unit_test(test_references),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
