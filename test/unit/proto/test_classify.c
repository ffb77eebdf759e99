#include "proto/classify.h"

#include "proto_test.h"

#define K(id)  CLASSIFY_BIT(CLASSIFY_##id)
#define ON     CLASSIFY_F_SCS
#define OFF    0
#define TAG_10 "abcdefghij"
#define TAG_60 TAG_10 TAG_10 TAG_10 TAG_10 TAG_10 TAG_10

struct classify_case {
	const char *text;
	uint64_t statements;
	uint32_t kinds;
};

/* The same text in one piece, byte by byte, and cut in two everywhere. */
static int classify_all_ways(struct slice text, unsigned flags, struct classify *c)
{
	struct classify again;
	int rc, err;

	classify_init(c, flags);
	classify_feed(c, text.p, text.n);
	rc = classify_end(c);
	for (size_t cut = 0; cut <= text.n + 1; cut++) {
		classify_init(&again, flags);
		if (cut <= text.n) {
			struct slice head = exact_copy(slice_make(text.p, cut));

			classify_feed(&again, head.p, head.n);
			classify_feed(&again, text.p + cut, text.n - cut);
			free((void *)(uintptr_t)head.p);
		} else {
			for (size_t i = 0; i < text.n; i++)
				classify_feed(&again, text.p + i, 1);
		}
		err = classify_end(&again);
		assert_int_equal(err, rc);
		assert_int_equal(again.statements, c->statements);
		assert_int_equal(again.kinds, c->kinds);
		assert_int_equal(again.name.n, c->name.n);
		assert_memory_equal(again.name.text, c->name.text, c->name.n);
	}
	return rc;
}

static void classify_expect(const struct classify_case *cases, size_t n, unsigned flags)
{
	for (size_t i = 0; i < n; i++) {
		struct classify c;
		int rc = classify_all_ways(slice_of(cases[i].text), flags, &c);

		if (rc != 0 || c.statements != cases[i].statements || c.kinds != cases[i].kinds)
			fail_msg("%s: rc %d, %d statements, kinds %x", cases[i].text, rc, (int)c.statements, c.kinds);
	}
}

static const struct classify_case classify_kinds[] = {
	{ "SELECT 1", 1, K(OTHER) },
	{ "PREPARE p AS SELECT 1", 1, K(PREPARE) },
	{ "prepare p(int) as select $1", 1, K(PREPARE) },
	{ "PREPARE transaction AS SELECT 1", 1, K(PREPARE) },
	{ "PREPARE \"transaction\" AS SELECT 1", 1, K(PREPARE) },
	{ "PREPARE TRANSACTION 'x'", 1, K(PREPARE_TRANSACTION) },
	{ "PREPARE TRANSACTION $$x$$", 1, K(PREPARE_TRANSACTION) },
	{ "COMMIT PREPARED 'x'", 1, K(TRANSACTION) },
	{ "ROLLBACK PREPARED 'x'", 1, K(TRANSACTION) },
	{ "\"prepare\" p", 1, K(OTHER) },
	{ "preparex", 1, K(OTHER) },
	{ "EXECUTE p(1, 2)", 1, K(EXECUTE) },
	{ "EXPLAIN EXECUTE p", 1, K(EXECUTE) },
	{ "EXPLAIN ANALYZE VERBOSE EXECUTE p", 1, K(EXECUTE) },
	{ "EXPLAIN (ANALYZE, FORMAT json) EXECUTE p", 1, K(EXECUTE) },
	{ "EXPLAIN SELECT 1", 1, K(OTHER) },
	{ "EXPLAIN (SELECT 1)", 1, K(OTHER) },
	{ "EXPLAIN (SELECT 1) UNION SELECT execute FROM t", 1, K(OTHER) },
	{ "CREATE TABLE t AS EXECUTE p", 1, K(DDL) | K(EXECUTE) },
	{ "CREATE TABLE IF NOT EXISTS s.t (a, b) WITH (x = 1) AS EXECUTE p", 1, K(DDL) | K(EXECUTE) },
	{ "CREATE UNLOGGED TABLE t AS EXECUTE p", 1, K(DDL) | K(EXECUTE) },
	{ "CREATE TEMP TABLE t AS EXECUTE p", 1, K(TEMP) | K(EXECUTE) },
	{ "EXPLAIN ANALYZE CREATE TABLE t AS EXECUTE p", 1, K(DDL) | K(EXECUTE) },
	{ "CREATE TABLE t AS SELECT 1 AS execute", 1, K(DDL) },
	{ "CREATE TABLE execute (a int)", 1, K(DDL) },
	{ "DEALLOCATE p", 1, K(DEALLOCATE) },
	{ "DEALLOCATE ALL", 1, K(DEALLOCATE_ALL) },
	{ "DEALLOCATE PREPARE ALL", 1, K(DEALLOCATE_ALL) },
	{ "DEALLOCATE \"all\"", 1, K(DEALLOCATE) },
	{ "DISCARD ALL", 1, K(DISCARD_ALL) },
	{ "DISCARD PLANS; DISCARD TEMP", 2, K(DISCARD) },
	{ "LISTEN x", 1, K(LISTEN) },
	{ "UNLISTEN *", 1, K(UNLISTEN) },
	{ "DECLARE c CURSOR WITH HOLD FOR SELECT 1", 1, K(HOLD) },
	{ "DECLARE c BINARY NO SCROLL CURSOR WITH HOLD FOR SELECT 1", 1, K(HOLD) },
	{ "DECLARE cursor CURSOR WITH HOLD FOR SELECT 1", 1, K(HOLD) },
	{ "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", 1, K(OTHER) },
	{ "DECLARE c CURSOR FOR SELECT 1 FROM cursor WITH hold", 1, K(OTHER) },
	{ "SET x = 1", 1, K(SET) },
	{ "SET SESSION x TO 1", 1, K(SET) },
	{ "SET TIME ZONE 'UTC'; RESET work_mem", 2, K(SET) },
	{ "SET TIME ZONE 'UTC'; RESET ALL", 2, K(SET) | K(RESET_ALL) },
	{ "SELECT 1; /* */ Reset -- x\n All;", 2, K(OTHER) | K(SET) | K(RESET_ALL) },
	{ "RESET \"all\"", 1, K(SET) },
	{ "RESET TIME ZONE", 1, K(SET) },
	{ "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", 1, K(SET) },
	{ "SET LOCAL x = 1", 1, K(OTHER) },
	{ "SET LOCAL \"x\" = 1", 1, K(OTHER) },
	{ "SET local.x = 1", 1, K(SET) },
	{ "SET LOCAL local.x = 1", 1, K(OTHER) },
	{ "SET local TO 1", 1, K(SET) },
	{ "SET transaction.x TO 1", 1, K(SET) },
	{ "SET constraints.x TO 1", 1, K(SET) },
	{ "SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED", 2, K(OTHER) },
	{ "CREATE TEMP TABLE t(a int)", 1, K(TEMP) },
	{ "CREATE LOCAL TEMPORARY TABLE t(a int)", 1, K(TEMP) },
	{ "CREATE GLOBAL TEMP TABLE t(a int)", 1, K(TEMP) },
	{ "CREATE OR REPLACE TEMP VIEW v AS SELECT 1", 1, K(TEMP) },
	{ "CREATE TEMPORARY SEQUENCE s", 1, K(TEMP) },
	{ "CREATE TABLE pg_temp.t(a int)", 1, K(TEMP) },
	{ "CREATE VIEW \"pg_temp\".v AS SELECT 1", 1, K(TEMP) },
	{ "CREATE VIEW v AS SELECT * FROM pg_temp.t", 1, K(DDL) },
	{ "CREATE FUNCTION pg_temp.f() RETURNS int RETURN 1", 1, K(TEMP) },
	{ "SELECT 1 INTO TEMP t", 1, K(TEMP) },
	{ "SELECT 1 AS a INTO LOCAL TEMPORARY TABLE t FROM x", 1, K(TEMP) },
	{ "WITH x AS (SELECT 1) SELECT * INTO TEMP t FROM x", 1, K(TEMP) },
	{ "(SELECT 1 INTO TEMP t)", 1, K(TEMP) },
	{ "SELECT 1 INTO pg_temp.t", 1, K(TEMP) },
	{ "EXPLAIN ANALYZE SELECT 1 INTO TEMP t", 1, K(TEMP) },
	{ "SELECT 1 INTO t", 1, K(OTHER) },
	{ "SELECT 1 INTO TABLE t", 1, K(OTHER) },
	{ "INSERT INTO temp VALUES (1)", 1, K(OTHER) },
	{ "WITH x AS (INSERT INTO temp VALUES (1)) SELECT 1", 1, K(OTHER) },
	{ "WITH x AS (SELECT 1) MERGE INTO temp USING x ON true WHEN MATCHED THEN DELETE", 1, K(OTHER) },
	{ "LOAD 'x'", 1, K(LOAD) },
	{ "BEGIN; SAVEPOINT a; RELEASE a; COMMIT; START TRANSACTION; ABORT; ROLLBACK; END", 8,
	  K(TRANSACTION) | K(COMMIT) | K(ROLLBACK) },
	{ "COMMIT", 1, K(TRANSACTION) | K(COMMIT) },
	{ "end transaction", 1, K(TRANSACTION) | K(COMMIT) },
	{ "COMMIT /* x */ WORK AND NO CHAIN;", 1, K(TRANSACTION) | K(COMMIT) },
	{ "ABORT WORK", 1, K(TRANSACTION) | K(ROLLBACK) },
	{ "ROLLBACK AND NO CHAIN", 1, K(TRANSACTION) | K(ROLLBACK) },
	{ "COMMIT AND CHAIN", 1, K(TRANSACTION) | K(COMMIT) | K(CHAIN) },
	{ "ROLLBACK WORK AND CHAIN", 1, K(TRANSACTION) | K(ROLLBACK) | K(CHAIN) },
	{ "ROLLBACK TO a", 1, K(TRANSACTION) },
	{ "ROLLBACK TRANSACTION TO SAVEPOINT a", 1, K(TRANSACTION) },
	{ "BEGIN; COMMIT", 2, K(TRANSACTION) | K(COMMIT) },
	{ "COPY t FROM STDIN", 1, K(COPY) },
	{ "CREATE INDEX ON t(a); ALTER TABLE t ADD b int; DROP TABLE t", 3, K(DDL) },
	{ "SELECT 1; LISTEN x; COPY t TO STDOUT", 3, K(OTHER) | K(LISTEN) | K(COPY) },
	{ "DO 'x'; CALL p(); VALUES (1); TABLE t; 1", 5, K(OTHER) },
};

static void statements_have_kinds(void **state)
{
	(void)state;
	classify_expect(classify_kinds, ARRAY_LEN(classify_kinds), ON);
	classify_expect(classify_kinds, ARRAY_LEN(classify_kinds), OFF);
}

static const struct classify_case classify_borders[] = {
	{ "", 0, 0 },
	{ " \t\r\n\f\v", 0, 0 },
	{ ";", 0, 0 },
	{ ";;; ; /* ; */ ; -- ;", 0, 0 },
	{ "SELECT 1;", 1, K(OTHER) },
	{ "SELECT 1;;LISTEN x;", 2, K(OTHER) | K(LISTEN) },
	/* comments */
	{ "-- LISTEN x;\nSELECT 1", 1, K(OTHER) },
	{ "-- LISTEN x;\rSELECT 1", 1, K(OTHER) },
	{ "LISTEN-- ;\nx", 1, K(LISTEN) },
	{ "/* ; */LISTEN/*;*/x", 1, K(LISTEN) },
	{ "/* /* ; */ ; */ LISTEN x", 1, K(LISTEN) },
	{ "/*/*/;*/;*/ LISTEN x", 1, K(LISTEN) },
	{ "/**/LISTEN x/***/", 1, K(LISTEN) },
	{ "/*//**/;*/LISTEN x", 1, K(LISTEN) },
	{ "/* **/LISTEN x", 1, K(LISTEN) },
	{ "SELECT 1 +/* ; */ 2 *-- ;\n 3 / 4 - 5", 1, K(OTHER) },
	{ "SELECT 1//* ; */ 2", 1, K(OTHER) },
	{ "SELECT 1 */* ; */ 2", 1, K(OTHER) },
	{ "SELECT 1 - -1; SELECT 1 -", 2, K(OTHER) },
	/* strings */
	{ "SELECT 'a;''b;'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT 'a' 'b;'", 1, K(OTHER) },
	{ "SELECT E'a\\';b'", 1, K(OTHER) },
	{ "SELECT e'\\\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT E'a''\\';b'", 1, K(OTHER) },
	{ "SELECT E'a' \n \n 'b\\';c'", 1, K(OTHER) },
	{ "SELECT E'a' -- ';\n -- \r 'b\\';c'", 1, K(OTHER) },
	{ "SELECT E'a'--\n'b\\';c'", 1, K(OTHER) },
	{ "SELECT 'a' - 'b;' - -1", 1, K(OTHER) },
	{ "SELECT 'a'-", 1, K(OTHER) },
	{ "SELECT B'1';LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT x'1' \n '2;'", 1, K(OTHER) },
	{ "SELECT N'a;''b', n';'", 1, K(OTHER) },
	{ "SELECT date'a'::text", 1, K(OTHER) },
	{ "'a'", 1, K(OTHER) },
	/* identifiers */
	{ "SELECT 1 AS \"a;\"\"b;\"; LISTEN \"'\"", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT 1 AS U&\"a;\"", 1, K(OTHER) },
	{ "SELECT a$$ ; LISTEN b$c$", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT \xc3\xa4$$ ; LISTEN \xff", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT \"t\"$$;$$", 1, K(OTHER) },
	/* dollars */
	{ "SELECT $$;$$; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT $a$;$$;$b$;$A$;$a $;$a$; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT $a$;$$a$; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT $a$;$x$a$; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT $aa$;$a$aa$; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT $_1\xc3\xa4$;$_1\xc3\xa4$; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT $$'\"/*--$$; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT $1, $23; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT a FROM f($1$$;$$)", 1, K(OTHER) },
	{ "SELECT $" TAG_60 "abc$;$" TAG_60 "abc$", 1, K(OTHER) },
	/* parentheses */
	{ "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; (SELECT 2); NOTIFY x;); LISTEN x", 2,
	  K(DDL) | K(LISTEN) },
	{ "SELECT a[1], (b); LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT 1); LISTEN x", 2, K(OTHER) | K(LISTEN) },
	/* bodies */
	{ "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; LISTEN x", 2, K(DDL) | K(LISTEN) },
	{ "CREATE OR REPLACE PROCEDURE f() BEGIN /* ; */ ATOMIC END; LISTEN x", 2, K(DDL) | K(LISTEN) },
	{ "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 1 AS end; "
	  "SELECT 1 end; LISTEN x; END; COPY t TO STDOUT",
	  2, K(DDL) | K(COPY) },
	{ "CREATE FUNCTION f() RETURNS begin BEGIN ATOMIC RETURN 1; END; LISTEN x", 2, K(DDL) | K(LISTEN) },
	{ "CREATE FUNCTION f(begin atomic) RETURNS int RETURN 1; LISTEN x", 2, K(DDL) | K(LISTEN) },
	{ "CREATE FUNCTION f() RETURNS int AS 'BEGIN ATOMIC'; END", 2, K(DDL) | K(TRANSACTION) | K(COMMIT) },
	{ "CREATE FUNCTION begin() RETURNS atomic RETURN 1; END", 2, K(DDL) | K(TRANSACTION) | K(COMMIT) },
	{ "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; "
	  "END; SELECT 2; END; LISTEN x",
	  2, K(DDL) | K(LISTEN) },
	{ "CREATE FUNCTION pg_temp.f() RETURNS int BEGIN ATOMIC SELECT 1; END; LISTEN x", 2, K(TEMP) | K(LISTEN) },
	{ "BEGIN ATOMIC; LISTEN x", 2, K(TRANSACTION) | K(LISTEN) },
	{ "CREATE TABLE t(begin atomic); CREATE VIEW v AS SELECT begin atomic; LISTEN x", 3, K(DDL) | K(LISTEN) },
};

static void statements_are_told_apart(void **state)
{
	(void)state;
	classify_expect(classify_borders, ARRAY_LEN(classify_borders), ON);
	classify_expect(classify_borders, ARRAY_LEN(classify_borders), OFF);
}

static const struct classify_case classify_scs_on[] = {
	{ "SELECT 'a\\'; LISTEN x; SELECT 'b'", 3, K(OTHER) | K(LISTEN) },
	{ "SELECT U&'a\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT N'\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT aE'\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT 'a' 'b\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT E'a', 'b\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT E'a' 'b\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT E'a' /*\n*/ 'b\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
};

static const struct classify_case classify_scs_off[] = {
	{ "SELECT 'a\\'; LISTEN x; SELECT '", 1, K(OTHER) },
	{ "SELECT N'\\'; LISTEN x'", 1, K(OTHER) },
	{ "SELECT aE'\\'; LISTEN x'", 1, K(OTHER) },
	{ "SELECT B'\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT B'\\' \n '\\'; LISTEN x", 2, K(OTHER) | K(LISTEN) },
	{ "SELECT X'''\\'; LISTEN x'", 1, K(OTHER) },
};

static void backslashes_follow_the_setting(void **state)
{
	(void)state;
	classify_expect(classify_scs_on, ARRAY_LEN(classify_scs_on), ON);
	classify_expect(classify_scs_off, ARRAY_LEN(classify_scs_off), OFF);
}

static void open_ends_are_a_syntax_error(void **state)
{
	static const char *const texts[] = {
		"LISTEN x; SELECT '",      "LISTEN x; SELECT 'a''",     "LISTEN x; SELECT E'a\\'",
		"LISTEN x; SELECT E'a\\",  "LISTEN x; SELECT \"",       "LISTEN x; SELECT \"a\"\"b",
		"LISTEN x; SELECT /*",     "LISTEN x; SELECT /*/*;*/;", "LISTEN x; SELECT $$",
		"LISTEN x; SELECT $a$;$a", "LISTEN x; SELECT $a$;$$",   "LISTEN x; SELECT 'a'\n'",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct classify c;

		assert_int_equal(classify_all_ways(slice_of(texts[i]), ON, &c), -E_SYNTAX);
		assert_int_equal(c.statements, 2);
		assert_int_equal(c.kinds, K(LISTEN) | K(OTHER));
	}
}

static void long_dollar_tags_are_not_followed(void **state)
{
	struct classify c;

	(void)state;
	assert_int_equal(classify_all_ways(LIT("LISTEN x; SELECT $" TAG_60 "abcd$;$" TAG_60 "abcd$"), ON, &c),
			 -E_TOOBIG);
	assert_int_equal(c.kinds, K(LISTEN) | K(OTHER));
	/* Without its dollar it is no tag, and a short one may follow. */
	assert_int_equal(classify_all_ways(LIT("SELECT $" TAG_60 "abcd; LISTEN x"), ON, &c), 0);
	assert_int_equal(c.statements, 2);
	assert_int_equal(classify_all_ways(LIT("SELECT $" TAG_60 "abcd $$;$$"), ON, &c), 0);
	assert_int_equal(c.statements, 1);
}

static void nul_ends_the_text(void **state)
{
	struct classify c;

	(void)state;
	assert_int_equal(classify_all_ways(LIT("LISTEN x\0; SELECT 1"), ON, &c), 0);
	assert_int_equal(c.statements, 1);
	assert_int_equal(c.kinds, K(LISTEN));
	assert_int_equal(classify_all_ways(LIT("SELECT '\0'"), ON, &c), -E_SYNTAX);
	assert_int_equal(classify_all_ways(LIT("\0LISTEN x"), ON, &c), 0);
	assert_int_equal(c.statements, 0);
}

static void depth_needs_no_memory(void **state)
{
	static const char *const units[] = { "(", "/*", "((/*", "$", "'a'\n", "''", "\"\"", "case begin atomic " };
	struct classify c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		classify_init(&c, ON);
		classify_feed(&c, "LISTEN x;", 9);
		for (unsigned k = 0; k < 200000; k++)
			classify_feed(&c, units[i], strlen(units[i]));
		(void)!classify_end(&c);
		assert_int_equal(c.statements, i == 1 ? 1 : 2);
		assert_true(c.kinds & K(LISTEN));
	}
	classify_init(&c, ON);
	for (unsigned k = 0; k < 1000000; k++)
		classify_feed(&c, "/*", 2);
	for (unsigned k = 0; k < 1000000; k++)
		classify_feed(&c, "*/", 2);
	classify_feed(&c, "LISTEN x", 8);
	assert_int_equal(classify_end(&c), 0);
	assert_int_equal(c.kinds, K(LISTEN));
}

struct deallocate_case {
	const char *text;
	enum classify_deallocate is;
	const char *name;
};

static const struct deallocate_case deallocate_cases[] = {
	{ "DEALLOCATE p", CLASSIFY_DEALLOCATE_NAME, "p" },
	{ "deallocate PREPARE Foo_1$ ;", CLASSIFY_DEALLOCATE_NAME, "foo_1$" },
	{ " ; /* x */ deallocate--\n\"Foo \"\"1\" -- y", CLASSIFY_DEALLOCATE_NAME, "Foo \"1" },
	{ "DEALLOCATE prepare", CLASSIFY_DEALLOCATE_NAME, "prepare" },
	{ "DEALLOCATE PREPARE prepare", CLASSIFY_DEALLOCATE_NAME, "prepare" },
	{ "DEALLOCATE \"all\"", CLASSIFY_DEALLOCATE_NAME, "all" },
	{ "DEALLOCATE transaction", CLASSIFY_DEALLOCATE_NAME, "transaction" },
	{ "DEALLOCATE pg_temp", CLASSIFY_DEALLOCATE_NAME, "pg_temp" },
	{ "DEALLOCATE \xc3\x84", CLASSIFY_DEALLOCATE_NAME, "\xc3\x84" },
	{ "DEALLOCATE " TAG_60 "abcd", CLASSIFY_DEALLOCATE_NAME, TAG_60 "abc" },
	{ "DEALLOCATE \"" TAG_60 "ABCD\"\"\"", CLASSIFY_DEALLOCATE_NAME, TAG_60 "ABC" },
	{ "DEALLOCATE ALL", CLASSIFY_DEALLOCATE_EVERY, "" },
	{ ";;deallocate prepare all;;", CLASSIFY_DEALLOCATE_EVERY, "" },
	{ "", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE \"\"", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE 'p'", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE e'p'", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE U&\"p\"", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE p q", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE p.q", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE ALL p", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE PREPARE", CLASSIFY_DEALLOCATE_NAME, "prepare" },
	{ "DEALLOCATE p; DEALLOCATE q", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE p; SELECT 1", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE ALL; DEALLOCATE p", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE p /*", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DEALLOCATE p '", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DISCARD ALL", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "DELETE FROM t", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "(DEALLOCATE p)", CLASSIFY_DEALLOCATE_NONE, "" },
	{ "SELECT 1", CLASSIFY_DEALLOCATE_NONE, "" },
};

static void deallocate_is_recognised(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(deallocate_cases); i++) {
		const struct deallocate_case *c = &deallocate_cases[i];
		struct classify_name name;

		if (classify_deallocate(slice_of(c->text), true, &name) != c->is)
			fail_msg("%s", c->text);
		assert_true(slice_eq_str(slice_make(name.text, name.n), c->name));
	}
}

/* Longer than what is read at once, before and behind the statement. */
static void deallocate_with_much_around_it(void **state)
{
	struct classify_name name;
	char text[2000];

	(void)state;
	memset(text, ' ', sizeof(text));
	memcpy(text + 900, "DEALLOCATE p", 12);
	assert_int_equal(classify_deallocate(slice_make(text, sizeof(text)), true, &name), CLASSIFY_DEALLOCATE_NAME);
	assert_true(slice_eq_str(slice_make(name.text, name.n), "p"));
	text[1900] = 'x';
	assert_int_equal(classify_deallocate(slice_make(text, sizeof(text)), true, &name), CLASSIFY_DEALLOCATE_NONE);
}

static void quick_look(void **state)
{
	static const char *const yes[] = { "PREPARE", " execute", "\n\tDEALLOCATE", "discard",
					   "EXPLAIN", "create",   "/**/",           "--",
					   ";",       "COMMIT" };
	static const char *const no[] = {
		"", "  ", "SELECT", "insert", "BEGIN", "with", "(", "\"d\"", "\xc3\xa4", "$"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		assert_true(classify_may_touch_session(yes[i], strlen(yes[i])));
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		assert_false(classify_may_touch_session(no[i], strlen(no[i])));
}

static void quick_look_for_resets(void **state)
{
	static const char *const yes[] = { "RESET ALL", "\n discard all",
					   "Set session authorization default;RESET ALL" };
	static const char *const no[] = { "",        "re",       "  di",    "select 1",     "rollback",    "release s",
					  "delete ", "drop x;x", "show 1 ", "-- reset all", "begin; reset" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		assert_true(classify_may_reset(yes[i], strlen(yes[i])));
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		assert_false(classify_may_reset(no[i], strlen(no[i])));
}

static void resets_of_all(void **state)
{
	static const char *const yes[] = { "reset all", "/* x */ Discard ALL;", "select 1; RESET ALL",
					   "reset all; set a = 1" };
	static const char *const no[] = {
		"",           "reset a", "discard plans", "set a = 'reset all'", "-- reset all",
		"select all", "reset",   "discard",       "reset \"all\""
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		assert_true(classify_resets_all(slice_of(yes[i])));
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		assert_false(classify_resets_all(slice_of(no[i])));
}

static void kinds_have_names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CLASSIFY_KINDS_N; i++)
		assert_true(strlen(classify_kind_name((enum classify_kind)i)) > 0);
	assert_string_equal(classify_kind_name(CLASSIFY_DDL), "DDL");
}

static void effects_on_a_block(void **state)
{
	static const struct {
		const char *text;
		enum classify_effect effect;
	} cases[] = {
		{ "", CLASSIFY_EFFECT_NONE },
		{ "SELECT 1", CLASSIFY_EFFECT_NONE },
		{ "SELECT 1; SELECT ';'; -- begin", CLASSIFY_EFFECT_NONE },
		{ " /* x */ commit;", CLASSIFY_EFFECT_COMMIT },
		{ "end work", CLASSIFY_EFFECT_COMMIT },
		{ "Rollback", CLASSIFY_EFFECT_ROLLBACK },
		{ "abort", CLASSIFY_EFFECT_ROLLBACK },
		{ "begin", CLASSIFY_EFFECT_BLOCK },
		{ "start transaction", CLASSIFY_EFFECT_BLOCK },
		{ "commit and chain", CLASSIFY_EFFECT_COMMITS },
		{ "rollback and chain", CLASSIFY_EFFECT_BLOCK },
		{ "commit; select 1", CLASSIFY_EFFECT_COMMITS },
		{ "insert into t values (1); end", CLASSIFY_EFFECT_COMMITS },
		{ "prepare transaction 'x'", CLASSIFY_EFFECT_COMMIT },
		{ "prepare transaction 'x'; begin", CLASSIFY_EFFECT_COMMITS },
		{ "prepare x as select 1", CLASSIFY_EFFECT_NONE },
		{ "commit prepared 'x'", CLASSIFY_EFFECT_BLOCK },
		{ "savepoint a; rollback to a", CLASSIFY_EFFECT_BLOCK },
		{ "select 1; begin; select 2", CLASSIFY_EFFECT_BLOCK },
		{ "begin; commit", CLASSIFY_EFFECT_COMMITS },
		{ "/* /* */ select */ begin", CLASSIFY_EFFECT_BLOCK },
		{ "select 'it\\'s'; begin", CLASSIFY_EFFECT_BLOCK }, /* without standard_conforming_strings */
		{ "select 'a\\''; begin; select '\\'b'", CLASSIFY_EFFECT_BLOCK },
		{ "select 'a\\'; begin; --'", CLASSIFY_EFFECT_BLOCK }, /* with */
		{ "select 'a\\\\'; select 1", CLASSIFY_EFFECT_NONE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *text = cases[i].text;
		size_t n = strlen(text);

		assert_int_equal(classify_effect(slice_of(text)), cases[i].effect);
		for (size_t cut = 0; cut <= n; cut++) {
			struct classify_pieces p;

			classify_pieces_init(&p);
			classify_pieces_feed(&p, slice_make(text, cut));
			classify_pieces_feed(&p, slice_make(text + cut, n - cut));
			assert_int_equal(classify_pieces_end(&p), cases[i].effect);
		}
		if (cases[i].effect != CLASSIFY_EFFECT_NONE) /* neither look misses one, with the NUL or without */
			assert_true((classify_may_transact(text, n + 1) && classify_may_transact(text, n)) ||
				    (classify_may_be_several(text, n + 1) && classify_may_be_several(text, n)));
	}
	assert_false(classify_may_transact("select 1", 9));
	assert_false(classify_may_transact("create table t()", 17));
	assert_false(classify_may_be_several("select 1", 9));
	assert_false(classify_may_be_several("select 1;", 10));
	assert_false(classify_may_be_several("select 1;", 9));
	assert_false(classify_may_be_several("", 1));
	assert_false(classify_may_be_several("", 0));
	assert_true(classify_may_be_several("select 1; x", 12));
}

static void plain_statements(void **state)
{
	static const char *const plain[] = {
		"select 1",
		" SELECT 1;",
		"/* x */ -- y\n (select 1)",
		"INSERT INTO t VALUES (';')",
		"update t set i = 1",
		"delete from t",
		"with x as (select 1) update t set i = 2",
		"merge into t using u on true when matched then delete",
		"values (1)",
		"table t",
		"select(1)",
		"/* /* */ call */ select 1",
		"select 'a\\\\'",
	};
	static const char *const others[] = {
		"",
		";",
		"select",
		"select 1; select 2",
		"select 1 into temp t",
		"selection",
		"call p()",
		"do 'x'",
		"copy t from stdin",
		"vacuum",
		"create index concurrently on t (i)",
		"begin",
		"commit",
		"explain select 1",
		"/* select 1 */",
		"-- select 1",
		"select 'open",
		"execute x",
		"set a = 1",
		"listen x",
		"refresh materialized view v",
		"/* /* */ select */ call p()",
		"((/**//* /* /* */ */ */ call p()",
		"select 'a\\''; call p(); select '\\'b'", /* several, without standard_conforming_strings */
		"select 'a\\'; call p(); --'",
		"1",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		if (!classify_is_plain(slice_of(plain[i])))
			fail_msg("%s is not plain", plain[i]);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (classify_is_plain(slice_of(others[i])))
			fail_msg("%s is plain", others[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(statements_have_kinds),
		cmocka_unit_test(statements_are_told_apart),
		cmocka_unit_test(backslashes_follow_the_setting),
		cmocka_unit_test(open_ends_are_a_syntax_error),
		cmocka_unit_test(long_dollar_tags_are_not_followed),
		cmocka_unit_test(nul_ends_the_text),
		cmocka_unit_test(depth_needs_no_memory),
		cmocka_unit_test(deallocate_is_recognised),
		cmocka_unit_test(deallocate_with_much_around_it),
		cmocka_unit_test(quick_look),
		cmocka_unit_test(quick_look_for_resets),
		cmocka_unit_test(resets_of_all),
		cmocka_unit_test(kinds_have_names),
		cmocka_unit_test(effects_on_a_block),
		cmocka_unit_test(plain_statements),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
