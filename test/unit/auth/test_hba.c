#include "auth/hba.h"

#include <arpa/inet.h>

#include "rules_test.h"

/* A client by default: joe from 192.0.2.7 by plain TCP to the database "app". */
static struct hba_facts facts;
static enum rule_answer group_answer;
static enum rule_answer host_answer;
static bool own_answer;
static unsigned host_questions;
static char asked[128]; /* the last question */

static enum rule_answer ask_group(void *ctx, const char *group)
{
	(void)ctx;
	str_format(asked, sizeof(asked), "group %s", group);
	return group_answer;
}

static enum rule_answer ask_host(void *ctx, const char *name)
{
	(void)ctx;
	host_questions++;
	str_format(asked, sizeof(asked), "host %s", name);
	return host_answer;
}

static bool ask_own(void *ctx, bool whole_net)
{
	(void)ctx;
	str_copy(asked, sizeof(asked), whole_net ? "net" : "own");
	return own_answer;
}

static void come_from(const char *ip)
{
	facts.is_unix = ip == NULL;
	facts.ip_len = 0;
	if (ip != NULL)
		facts.ip_len = inet_pton(AF_INET, ip, facts.ip) == 1 ? 4 : 16;
	if (facts.ip_len == 16)
		assert_int_equal(inet_pton(AF_INET6, ip, facts.ip), 1);
}

static int setup(void **state)
{
	(void)state;
	facts = (struct hba_facts){
		.database = "app",
		.user = "joe",
		.ask_group = ask_group,
		.ask_host = ask_host,
		.ask_own = ask_own,
	};
	group_answer = RULE_NO;
	host_answer = RULE_NO;
	own_answer = false;
	host_questions = 0;
	asked[0] = '\0';
	come_from("192.0.2.7");
	return 0;
}

static struct ident *load_ident(void)
{
	const struct rules_file files[] = { { "i", "m x y\nother a b\n", 0 }, { 0 } };
	struct rulefile_io io = rules_io(files);
	struct rule_report report = rules_report(true);
	struct ident *ident = NULL;

	assert_int_equal(ident_load(&io, "i", &report, &ident), 0);
	return ident;
}

static struct hba *load_files(const struct rules_file *files, bool is_strict, int expected)
{
	struct ident *ident = load_ident();
	struct rulefile_io io = rules_io(files);
	struct rule_report report = rules_report(is_strict);
	struct hba *hba = NULL;
	int rc = hba_load(&io, "hba", ident, &report, &hba);

	if (rc != expected)
		fail_msg("%d: %s", rc, rules_said);
	assert_true((rc == 0) == (hba != NULL));
	ident_release(&ident);
	return hba;
}

static struct hba *load(const char *text, bool is_strict, int expected)
{
	const struct rules_file files[] = { { "hba", text, 0 }, { "names", "joe, sue\nbob", 0 }, { 0 } };

	return load_files(files, is_strict, expected);
}

static enum hba_verdict verdict_of(const struct hba *hba, unsigned *line)
{
	const struct hba_demand *demand = NULL;
	enum hba_verdict verdict = hba_match(hba, &facts, &demand);

	*line = verdict == HBA_FOUND ? demand->line : 0;
	return verdict;
}

/* The line of the rule that matches, which the text has without a word in the log; 0: none. */
static unsigned match(const char *text)
{
	struct hba *hba = load(text, true, 0);
	unsigned line;
	enum hba_verdict verdict = verdict_of(hba, &line);

	assert_string_equal(rules_said, "");
	assert_true(verdict == (line > 0 ? HBA_FOUND : HBA_NONE));
	hba_release(&hba);
	return line;
}

/* True when the rule, which is all there is, matches. */
static bool takes(const char *rule)
{
	return match(rule) == 1;
}

static enum hba_verdict ask(const char *text, unsigned *line)
{
	struct hba *hba = load(text, true, 0);
	enum hba_verdict verdict = verdict_of(hba, line);

	hba_release(&hba);
	return verdict;
}

static void test_first_match_decides(void **state)
{
	assert_int_equal(match("local all all trust\nhost all all all reject\nhost all all all trust\n"), 2);
	assert_int_equal(match("host x all all trust\nhost all x all trust\nhost all all ::/0 trust\n"), 0);
	assert_int_equal(match(""), 0);
}

static void test_types(void **state)
{
	static const struct {
		const char *rule;
		bool is_unix;
		bool is_plain;
		bool is_tls;
	} rows[] = {
		{ "local all all trust", true, false, false },
		{ "host all all all trust", false, true, true },
		{ "hostssl all all all trust", false, false, true },
		{ "hostnossl all all all trust", false, true, false },
		{ "hostgssenc all all all trust", false, false, false },
		{ "hostnogssenc all all all trust", false, true, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		setup(state);
		assert_int_equal(takes(rows[i].rule), rows[i].is_plain);
		facts.is_tls = true;
		assert_int_equal(takes(rows[i].rule), rows[i].is_tls);
		facts.is_tls = false;
		come_from(NULL);
		assert_int_equal(takes(rows[i].rule), rows[i].is_unix);
	}
}

static void test_databases(void **state)
{
	assert_true(takes("host app all all trust"));
	assert_true(takes("host x,app all all trust"));
	assert_true(takes("host \"app\" all all trust"));
	assert_false(takes("host App all all trust"));
	assert_false(takes("host ap all all trust"));
	assert_false(takes("host \"all\" all all trust"));
	assert_true(takes("host /^a.p$ all all trust"));
	assert_true(takes("host x,\"/^(app|b,c)$\" all all trust"));
	assert_false(takes("host /^b all all trust"));
	assert_false(takes("host sameuser all all trust"));
	facts.database = "joe";
	assert_true(takes("host sameuser all all trust"));
	assert_true(takes("host x,sameuser all all trust"));
	assert_false(takes("host \"sameuser\" all all trust"));
	assert_true(takes("host @names all all trust"));
	facts.database = "all";
	assert_true(takes("host \"all\" all all trust"));
	facts.database = "sameuser";
	assert_true(takes("host \"sameuser\" all all trust"));
}

static void test_replication(void **state)
{
	facts.replication = HBA_REPLICATION_PHYSICAL;
	assert_false(takes("host all all all trust"));
	assert_false(takes("host app all all trust"));
	assert_false(takes("host \"replication\" all all trust"));
	assert_false(takes("host /. all all trust"));
	assert_true(takes("host replication all all trust"));
	assert_true(takes("host app,replication joe all trust"));
	assert_false(takes("host replication sue all trust"));
	facts.replication = HBA_REPLICATION_LOGICAL;
	assert_true(takes("host all all all trust"));
	assert_true(takes("host app all all trust"));
	assert_false(takes("host replication all all trust"));
	facts.replication = HBA_REPLICATION_NONE;
	facts.database = "replication";
	assert_false(takes("host replication all all trust"));
	assert_true(takes("host \"replication\" all all trust"));
}

static void test_users(void **state)
{
	assert_true(takes("host all joe all trust"));
	assert_true(takes("host all sue,joe all trust"));
	assert_false(takes("host all sue all trust"));
	assert_false(takes("host all Joe all trust"));
	assert_false(takes("host all \"all\" all trust"));
	assert_true(takes("host all /^j all trust"));
	assert_false(takes("host all /^s all trust"));
	assert_true(takes("host all @names all trust"));
	assert_true(takes("host all x,@names,y all trust"));
	facts.user = "bob";
	assert_true(takes("host all @names all trust"));
	facts.user = "sameuser";
	assert_true(takes("host all \"sameuser\" all trust"));
	facts.user = "+g";
	assert_true(takes("host all \"+g\" all trust"));
}

static void test_addresses(void **state)
{
	assert_true(takes("host all all 192.0.2.7/32 trust"));
	assert_false(takes("host all all 192.0.2.8/32 trust"));
	assert_true(takes("host all all 192.0.2.0/24 trust"));
	/* IPv4 as a socket for both protocols tells it */
	assert_true(takes("host all all ::ffff:192.0.2.0/120 trust"));
	assert_false(takes("host all all ::ffff:192.0.3.0/120 trust"));
	assert_true(takes("host all all ::ffff:192.0.2.0 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00 trust"));
	assert_true(takes("host all all ::ffff:0:0/96 trust"));
	assert_false(takes("host all all ::/0 trust"));
	assert_true(takes("host all all 192.0.2.4/30 trust"));
	assert_false(takes("host all all 192.0.2.8/30 trust"));
	assert_true(takes("host all all 0.0.0.0/0 trust"));
	assert_false(takes("host all all ::/0 trust"));
	assert_true(takes("host all all 192.0.2.0 255.255.255.0 trust"));
	assert_true(takes("host all all 192.0.0.7 255.255.0.255 trust"));
	assert_false(takes("host all all 192.0.2.0 255.255.255.255 trust"));
	come_from("2001:db8::7");
	assert_true(takes("host all all 2001:db8::/32 trust"));
	assert_true(takes("host all all 2001:db8:: ffff:ffff:: trust"));
	assert_true(takes("host all all 2001:db8::4/126 trust"));
	assert_false(takes("host all all 2001:db8::8/126 trust"));
	assert_true(takes("host all all ::/0 trust"));
	assert_false(takes("host all all 0.0.0.0/0 trust"));
	assert_true(takes("host all all all trust"));
}

static void test_own_addresses(void **state)
{
	assert_false(takes("host all all samehost trust"));
	assert_string_equal(asked, "own");
	assert_false(takes("host all all samenet trust"));
	assert_string_equal(asked, "net");
	own_answer = true;
	assert_true(takes("host all all samehost trust"));
	assert_true(takes("host all all samenet trust"));
	come_from(NULL);
	assert_false(takes("host all all samenet trust"));
}

static void test_groups(void **state)
{
	unsigned line;

	assert_false(takes("host all +ops all trust"));
	assert_string_equal(asked, "group ops");
	assert_false(takes("host samerole all all trust"));
	assert_string_equal(asked, "group app");
	assert_false(takes("host all +\"my ops\" all trust"));
	assert_string_equal(asked, "group my ops");
	group_answer = RULE_YES;
	assert_true(takes("host all +ops all trust"));
	assert_true(takes("host samegroup all all trust"));
	assert_false(takes("host all \"+ops\" all trust"));
	group_answer = RULE_UNKNOWN;
	assert_int_equal(ask("host all +ops all trust", &line), HBA_ASK);
	assert_int_equal(ask("host all +ops,joe all trust", &line), HBA_FOUND);
	assert_int_equal(ask("host all joe all md5\nhost all +ops all trust", &line), HBA_FOUND);
	assert_int_equal(ask("host x +ops all trust\nhost samerole bob all trust\nhost all +ops ::/0 trust", &line),
			 HBA_NONE);
	group_answer = RULE_FAILED;
	assert_int_equal(ask("host all +ops all reject\nhost all all all trust", &line), HBA_CANNOT_TELL);
	assert_int_equal(ask("host x +ops all reject\nhost all all all trust", &line), HBA_FOUND);
	/* Everybody is a member of the role of the own name. */
	assert_true(takes("host all +joe all trust"));
	facts.database = "joe";
	assert_true(takes("host samerole all all trust"));
}

static void test_host_names(void **state)
{
	unsigned line;

	assert_false(takes("host all all web.example.com trust"));
	assert_string_equal(asked, "host web.example.com");
	assert_false(takes("host all all .example.com trust"));
	assert_string_equal(asked, "host .example.com");
	host_answer = RULE_YES;
	assert_true(takes("host all all web.example.com trust"));
	host_questions = 0;
	assert_false(takes("host x all web trust"));
	assert_false(takes("host all x web trust"));
	assert_false(takes("hostssl all all web trust"));
	assert_int_equal(host_questions, 0);
	host_answer = RULE_UNKNOWN;
	assert_int_equal(ask("host all all web trust", &line), HBA_ASK);
	host_answer = RULE_FAILED;
	assert_int_equal(ask("host all all web trust\nhost all all all md5", &line), HBA_FOUND);
	assert_int_equal(line, 2);
	assert_int_equal(ask("host all all web reject\nhost all all all md5", &line), HBA_FOUND);
	assert_int_equal(line, 1);
	come_from(NULL);
	assert_false(takes("host all all web trust"));
}

static bool may_admit(const char *text)
{
	struct hba *hba = load(text, true, 0);
	bool may = hba_may_admit(hba, &facts);
	unsigned line;

	/* Whoever is let in must have been taken for possible. */
	assert_true(may || verdict_of(hba, &line) != HBA_FOUND || line == 1);
	hba_release(&hba);
	return may;
}

static void test_places_from_where_nobody_is_let_in(void **state)
{
	group_answer = RULE_YES;
	assert_false(may_admit(""));
	assert_false(may_admit("local all all trust"));
	assert_false(may_admit("host all all 10.0.0.0/8 trust"));
	assert_false(may_admit("host x,/^b all all trust"));
	assert_false(may_admit("host replication all all trust"));
	assert_false(may_admit("host all all all reject\nhost all all all trust"));
	assert_false(may_admit("host app all 192.0.2.0/24 reject\nhost all all all trust"));
	assert_false(may_admit("host all sue all reject"));
	assert_true(may_admit("host all sue all trust"));
	assert_true(may_admit("host all sue all reject\nhost all all all trust"));
	assert_true(may_admit("host all +g all reject\nhost all all all trust"));
	assert_true(may_admit("host sameuser all all reject\nhost all all all trust"));
	assert_true(may_admit("host all all web reject\nhost all all all trust"));
	assert_true(may_admit("host all all samenet reject\nhost all all all trust"));
	assert_true(may_admit("host samerole all all trust"));
	assert_true(may_admit("host x all all reject\nhost /^a all all trust"));
	facts.replication = HBA_REPLICATION_PHYSICAL;
	assert_false(may_admit("host all all all trust"));
	assert_true(may_admit("host replication sue all trust"));
	assert_string_equal(asked, "");
}

/* ---- methods and options ---- */

static const struct hba_demand *demand_of(const struct hba *hba)
{
	const struct hba_demand *demand = NULL;

	assert_int_equal(hba_match(hba, &facts, &demand), HBA_FOUND);
	return demand;
}

static void check_demand(const char *rule, enum auth_method method, const char *map, enum hba_clientcert clientcert)
{
	struct hba *hba = load(rule, true, 0);
	const struct hba_demand *demand = demand_of(hba);

	assert_int_equal(demand->method, method);
	if (map == NULL)
		assert_null(demand->map);
	else
		assert_string_equal(demand->map, map);
	assert_int_equal(demand->clientcert, clientcert);
	assert_null(demand->ldap);
	assert_string_equal(demand->file, "hba");
	hba_release(&hba);
}

static void test_methods(void **state)
{
	check_demand("host all all all trust", AUTH_METHOD_TRUST, NULL, 0);
	check_demand("host all all all reject", AUTH_METHOD_REJECT, NULL, 0);
	check_demand("host all all all md5", AUTH_METHOD_MD5, NULL, 0);
	check_demand("host all all all password", AUTH_METHOD_PLAIN, NULL, 0);
	check_demand("host all all all scram-sha-256", AUTH_METHOD_SCRAM, NULL, 0);
	facts.is_tls = true;
	check_demand("hostssl all all all cert", AUTH_METHOD_CERT, NULL, 0);
	check_demand("hostssl all all all cert map=m", AUTH_METHOD_CERT, "m", 0);
	check_demand("hostssl all all all cert clientcert=verify-full", AUTH_METHOD_CERT, NULL, HBA_CLIENTCERT_FULL);
	check_demand("hostssl all all all md5 clientcert=verify-full", AUTH_METHOD_MD5, NULL, HBA_CLIENTCERT_FULL);
	check_demand("hostssl all all all md5 \"clientcert=verify-ca\"", AUTH_METHOD_MD5, NULL, HBA_CLIENTCERT_CA);
	come_from(NULL);
	check_demand("local all all peer", AUTH_METHOD_PEER, NULL, 0);
	check_demand("local all all peer map=other", AUTH_METHOD_PEER, "other", 0);
	check_demand("local all all ident map=\"other\"", AUTH_METHOD_PEER, "other", 0);
}

/* The rest of a line with ldap is its options; without any, others count. */
static void test_ldap(void **state)
{
	struct hba *hba = load("host all all all ldap ldapserver=h, ldapprefix=\"uid=\" # why\n", true, 0);
	const struct hba_demand *demand = demand_of(hba);

	assert_int_equal(demand->method, AUTH_METHOD_LDAP);
	assert_string_equal(demand->ldap->server, "h");
	assert_string_equal(demand->ldap->prefix, "uid=");
	hba_release(&hba);
	hba = load("host all all all ldap # nothing\n", true, 0);
	assert_null(demand_of(hba)->ldap);
	hba_release(&hba);
}

static void check_pam(const char *rule, const char *service, bool use_hostname)
{
	struct hba *hba = load(rule, true, 0);
	const struct hba_demand *demand = demand_of(hba);

	assert_int_equal(demand->method, AUTH_METHOD_PAM);
	if (service == NULL)
		assert_null(demand->pam.service);
	else
		assert_string_equal(demand->pam.service, service);
	assert_int_equal(demand->pam.use_hostname, use_hostname);
	hba_release(&hba);
}

static void test_pam(void **state)
{
	check_pam("host all all all pam", NULL, false);
	check_pam("host all all all pam pamservice=pg", "pg", false);
	check_pam("host all all all pam \"pamservice=a b\" pam_use_hostname=1", "a b", true);
	check_pam("host all all all pam pam_use_hostname=0", NULL, false);
}

/* ---- faults ---- */

/* A line that is refused in the strict form and skipped in the other, with the same words. */
static void check_fault(const char *line, const char *fault)
{
	char text[512];
	struct hba *hba;
	unsigned at;

	str_format(text, sizeof(text), "# first\n%s\nhost all all all trust\n", line);
	hba = load(text, true, -E_SYNTAX);
	rules_check_said("E could not parse hba config line 2 of hba: ");
	rules_check_said(fault);
	hba = load(text, false, 0);
	rules_check_said("W could not parse hba config line 2 of hba: ");
	rules_check_said(fault);
	assert_int_equal(hba_count(hba), 1);
	assert_int_equal(verdict_of(hba, &at), HBA_FOUND);
	assert_int_equal(at, 3);
	hba_release(&hba);
}

static void test_faults(void **state)
{
	check_fault("hots all all all trust", "unknown connection type \"hots\" (local, host, ");
	check_fault("local,host all all all trust", "a list in the place of the type");
	check_fault("host", "the list of databases is missing (type database user");
	check_fault("host all", "the list of users is missing");
	check_fault("host all all", "the address is missing");
	check_fault("local all all", "the method is missing");
	check_fault("host all all 127.0.0.1", "the mask is missing");
	check_fault("host all all 127.0.0.1 trust", "\"trust\" is no mask");
	check_fault("host all all 127.0.0.1 ffff:: trust", "\"ffff::\" is no mask");
	check_fault("host all all 127.0.0.1/33 trust", "bad number of bits \"33\" behind an address; 0 to 32");
	check_fault("host all all ::1/129 trust", "bad number of bits \"129\"");
	check_fault("host all all 127.0.0.1/ trust", "bad number of bits \"\"");
	check_fault("host all all 127.0.0.1/-1 trust", "bad number of bits \"-1\"");
	check_fault("host all all 127.0.0.1/8x trust", "bad number of bits \"8x\"");
	check_fault("host all all 127.0.0/8 trust", "bad address \"127.0.0/8\"");
	check_fault("host all all 127.0.0.256 trust", "bad address \"127.0.0.256\" (192.0.2.0/24, ");
	check_fault("host all all fe80::1%eth0/64 trust", "bad address");
	check_fault("host all all \"a b\" trust", "bad address \"a b\"");
	check_fault("host all all web/8 trust", "a host name cannot have a mask");
	check_fault("host all all a,b trust", "a list in the place of the address");
	check_fault("host \"\" all all trust", "an empty name");
	check_fault("host /[ all all trust", "bad regular expression \"/[\"");
	check_fault("host all /[ all trust", "bad regular expression \"/[\"");
	check_fault("host all + all trust", "no name of a group");
	check_fault("host all @missing all trust", "could not read the file \"missing\"");
	check_fault("host all all all any", "unknown method \"any\" (trust, reject, ");
	check_fault("host all all all plain", "unknown method \"plain\"");
	check_fault("host all all all gss", "unknown method \"gss\"");
	check_fault("host all all all TRUST", "unknown method \"TRUST\"");
	check_fault("host all all all ident", "method \"ident\" is for Unix sockets only");
	check_fault("host all all all md5 foo", "unknown option \"foo\"");
	check_fault("local all all peer map=missing", "there is no map \"missing\"");
	check_fault("hostssl all all all md5 clientcert=1", "bad value \"1\" of clientcert");
	check_fault("hostssl all all all cert clientcert=verify-ca", "with cert only verify-full");
	check_fault("host all all all md5 clientcert=verify-ca", "clientcert needs TLS");
	check_fault("host all all all ldap ldapserver=h", "LDAP options: one of ldapbasedn, ldapprefix and ldapsuffix");
	check_fault("host all all all pam pamservice=", "empty pamservice");
	check_fault("host all all all pam pam_use_hostname=on", "unknown option \"pam_use_hostname=on\"");
	check_fault("host all \"all all trust", "a quote is not closed");
	check_fault("host all all all trust \"x", "a quote is not closed");
}

static void test_all_faults_of_a_file_are_told(void **state)
{
	(void)load("x\nhost all all all trust\nlocal y\n", true, -E_SYNTAX);
	rules_check_said("line 1 of hba");
	rules_check_said("line 3 of hba");
}

/* What the strict form refuses, and the other takes as PgBouncer does. */
static void check_lenient(const char *rule, const char *fault, enum auth_method method)
{
	struct hba *hba = load(rule, true, -E_SYNTAX);

	rules_check_said(fault);
	hba = load(rule, false, 0);
	assert_null(strstr(rules_said, "could not parse"));
	assert_int_equal(demand_of(hba)->method, method);
	hba_release(&hba);
}

static void test_lines_that_pgbouncer_takes(void **state)
{
	check_lenient("host all all all peer", "method \"peer\" is for Unix sockets only", AUTH_METHOD_PEER);
	check_lenient("host all all all cert", "method \"cert\" needs TLS", AUTH_METHOD_CERT);
	check_lenient("host all all all md5 map=m", "method \"md5\" takes no map", AUTH_METHOD_MD5);
	facts.user = "sameuser";
	check_lenient("host all sameuser all md5", "means nothing in a list of users (quote it", AUTH_METHOD_MD5);
	rules_check_said("\"sameuser\" in a list of users is the name of a user");
}

static void test_lines_that_pgbouncer_skips(void **state)
{
	static const struct {
		const char *rule;
		const char *feature;
	} rows[] = {
		{ "hostgssenc all all all trust", "hostgssenc" },
		{ "host samerole all all trust", "samerole" },
		{ "host /a all all trust", "a regular expression" },
		{ "host all +g all trust", "a group" },
		{ "host all all samenet trust", "samenet" },
		{ "host all all web.example.com trust", "a host name" },
		{ "hostssl all all all md5 clientcert=verify-ca", "clientcert" },
		{ "local all all ident", "ident" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct hba *hba = load(rows[i].rule, false, 0);

		rules_check_said("W hba config line 1 of hba: PgBouncer would skip it, here it counts: ");
		rules_check_said(rows[i].feature);
		hba_release(&hba);
	}
}

static void test_included_lines_are_told(void **state)
{
	const struct rules_file files[] = { { "hba", "include more\n", 0 },
					    { "more", "host all all all md5\n", 0 },
					    { 0 } };
	struct hba *hba = load_files(files, false, 0);

	rules_check_said(
		"W hba config line 1 of more: PgBouncer would skip it, here it counts: it stands in an included");
	assert_string_equal(demand_of(hba)->file, "more");
	hba_release(&hba);
	hba = load_files(files, true, 0);
	assert_string_equal(rules_said, "");
	hba_release(&hba);
}

static void test_bits_outside_of_the_mask(void **state)
{
	unsigned line;
	struct hba *hba = load("host all all 192.0.2.9/24 md5\nhost all all all trust", true, 0);

	rules_check_said("W hba config line 1 of hba: the address has bits outside of its mask, which do not count");
	assert_int_equal(verdict_of(hba, &line), HBA_FOUND);
	assert_int_equal(line, 1);
	hba_release(&hba);
	hba = load("host all all 192.0.2.9/24 md5\nhost all all all trust", false, 0);
	rules_check_said(
		"W hba config line 1 of hba: the address has bits outside of its mask, so the rule matches nobody");
	assert_int_equal(verdict_of(hba, &line), HBA_FOUND);
	assert_int_equal(line, 2);
	hba_release(&hba);
	/* Whom it would keep out, it does. */
	hba = load("host all all 192.0.2.9/24 reject\nhost all all all trust", false, 0);
	assert_int_equal(verdict_of(hba, &line), HBA_FOUND);
	assert_int_equal(line, 1);
	hba_release(&hba);
}

/* ---- lines that reject and cannot be read ---- */

/* Whether the line, in front of one that lets everybody in, keeps out the client that `facts` describe. */
static bool keeps_out(const char *line)
{
	char text[512];
	struct hba *hba;
	bool is_out;

	str_format(text, sizeof(text), "%s\nlocal all,replication all trust\nhost all,replication all all trust\n",
		   line);
	hba = load(text, false, 0);
	rules_check_said("could not parse hba config line 1 of hba");
	is_out = demand_of(hba)->method == AUTH_METHOD_REJECT;
	hba_release(&hba);
	return is_out;
}

static void test_a_bad_line_that_rejects_keeps_out_whom_it_could_mean(void **state)
{
	assert_true(keeps_out("hots x y 10.0.0.0/8 reject"));
	assert_true(keeps_out("host all all 192.0.2.0/99 reject"));
	assert_true(keeps_out("host all joe 192.0.2.0/99 reject"));
	assert_false(keeps_out("host all sue 192.0.2.0/99 reject"));
	assert_false(keeps_out("host other joe 192.0.2.0/99 reject"));
	assert_true(keeps_out("host @missing sue ::/0 reject"));
	assert_true(keeps_out("host x,/[ all all reject"));
	assert_true(keeps_out("host all sue,/[ all reject"));
	assert_false(keeps_out("host other sue,/[ all reject"));
	assert_true(keeps_out("host all all all reject because"));
	assert_false(keeps_out("host all all 10.0.0.0/8 reject because"));
	assert_false(keeps_out("host all sue all reject because"));
	assert_true(keeps_out("host all all all REJECT"));
	assert_true(keeps_out("host all \"sue all reject"));
	assert_false(keeps_out("hostssl all \"sue all reject"));
	assert_false(keeps_out("local all \"sue reject"));
	assert_false(keeps_out("host all sue, reject"));
	assert_true(keeps_out("host all joe, reject"));
	assert_false(keeps_out("host all joe all rejected"));
	assert_false(keeps_out("host all joe all trust me # reject"));
	facts.replication = HBA_REPLICATION_PHYSICAL;
	assert_true(keeps_out("host @missing joe all reject"));
	come_from(NULL);
	assert_true(keeps_out("hots x y 10.0.0.0/8 reject"));
	assert_false(keeps_out("host @missing joe all reject"));
}

static void test_what_cannot_be_included_might_reject(void **state)
{
	assert_true(keeps_out("include missing"));
	assert_true(keeps_out("include_dir missing"));
	come_from(NULL);
	assert_true(keeps_out("include missing"));
}

static void test_zero_bytes(void **state)
{
	const struct rules_file files[] = { { "hba", "host all\0 all all reject\nhost all all all trust\n", 48 },
					    { 0 } };
	struct hba *hba = load_files(files, false, 0);

	assert_int_equal(demand_of(hba)->method, AUTH_METHOD_REJECT);
	hba_release(&hba);
	(void)load_files(files, true, -E_SYNTAX);
}

/* ---- the set of rules ---- */

static void test_life(void **state)
{
	struct hba *a = load("host all all all trust", true, 0);
	struct hba *b = load("# the same\nhost all all all trust", true, 0);
	struct hba *c = load("host all all all md5", true, 0);
	struct hba *empty = hba_new_empty();
	const struct hba_demand *demand;

	assert_true(hba_is_equal(a, b));
	assert_false(hba_is_equal(a, c));
	assert_false(hba_is_equal(a, empty));
	assert_true(hba_is_equal(empty, empty));
	assert_non_null(hba_ident(a));
	assert_null(hba_ident(empty));
	assert_int_equal(hba_count(empty), 0);
	assert_int_equal(hba_match(empty, &facts, &demand), HBA_NONE);
	hba_release(&b);
	b = hba_hold(a);
	hba_release(&a);
	assert_int_equal(hba_count(b), 1);
	hba_release(&b);
	hba_release(&b);
	hba_release(&c);
	hba_release(&empty);
}

static void test_a_file_that_is_not_there(void **state)
{
	const struct rules_file files[] = { { 0 } };

	(void)load_files(files, false, -E_SYS);
	rules_check_said("E could not open hba config file hba: No such file or directory");
}

static void test_no_file_at_all(void **state)
{
	const struct rules_file files[] = { { "", "host all all all trust\n", 0 }, { 0 } };

	for (unsigned is_strict = 0; is_strict < 2; is_strict++) {
		struct rulefile_io io = rules_io(files);
		struct rule_report report = rules_report(is_strict);
		struct hba *hba = NULL;

		assert_int_equal(hba_load(&io, "", NULL, &report, &hba), -E_SYS);
		assert_null(hba);
		rules_check_said(
			"E auth_type is hba, but auth_hba_file is not set (set auth_hba_file to the path of a ");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_first_match_decides, setup),
		cmocka_unit_test_setup(test_types, setup),
		cmocka_unit_test_setup(test_databases, setup),
		cmocka_unit_test_setup(test_replication, setup),
		cmocka_unit_test_setup(test_users, setup),
		cmocka_unit_test_setup(test_addresses, setup),
		cmocka_unit_test_setup(test_own_addresses, setup),
		cmocka_unit_test_setup(test_groups, setup),
		cmocka_unit_test_setup(test_host_names, setup),
		cmocka_unit_test_setup(test_places_from_where_nobody_is_let_in, setup),
		cmocka_unit_test_setup(test_methods, setup),
		cmocka_unit_test_setup(test_ldap, setup),
		cmocka_unit_test_setup(test_pam, setup),
		cmocka_unit_test_setup(test_faults, setup),
		cmocka_unit_test_setup(test_all_faults_of_a_file_are_told, setup),
		cmocka_unit_test_setup(test_lines_that_pgbouncer_takes, setup),
		cmocka_unit_test_setup(test_lines_that_pgbouncer_skips, setup),
		cmocka_unit_test_setup(test_included_lines_are_told, setup),
		cmocka_unit_test_setup(test_bits_outside_of_the_mask, setup),
		cmocka_unit_test_setup(test_a_bad_line_that_rejects_keeps_out_whom_it_could_mean, setup),
		cmocka_unit_test_setup(test_what_cannot_be_included_might_reject, setup),
		cmocka_unit_test_setup(test_zero_bytes, setup),
		cmocka_unit_test_setup(test_life, setup),
		cmocka_unit_test_setup(test_a_file_that_is_not_there, setup),
		cmocka_unit_test_setup(test_no_file_at_all, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
