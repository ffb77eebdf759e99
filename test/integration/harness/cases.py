"""Pipelines worth a name: what drivers send, what has confused poolers, what hardly anybody does."""
from . import wire
from .scripts import INT4DIV, INT4PL, function_call
from .scripts import wire_extended as extended
from .wire import FLUSH, SYNC, bind, close, describe, execute, pack, parse, query


def rows(sql, portal="", statement="", limit=0, values=()):
    return [parse(statement, sql), bind(portal, statement, values), describe("P", portal), execute(portal, limit)]


def lines(*numbers, width=1):
    return pack("d", b"".join(b"%d\t%s\n" % (n, b"w" * width) for n in numbers))


BAD_LINE = pack("d", b"not a number\tx\n")
COPY_DONE, COPY_FAIL = pack("c"), pack("f", b"given up\0")
COPY_IN = [parse("", "copy t0 from stdin"), bind(), execute()]
FAILED = rows("select 1 / (2 - i) from generate_series(1, 5) i")  # after one row
CALL, BAD_CALL = function_call(INT4PL, 20, 22), function_call(INT4DIV, 1, 0)

CASES = {
    # several Syncs, none, too many
    "many_syncs": [m for i in range(20) for m in rows("select $1::int", values=[i]) + [SYNC]],
    "syncs_without_anything": [SYNC] * 5 + [FLUSH] + [SYNC] * 2,
    "batch_without_sync": rows("select 'a'") + rows("select 'b'") + [query("select 'ends the batch'")],
    "function_ends_the_batch": rows("insert into t0 values (1, 'x')") + [CALL] + [query("select count(*) from t0")],
    "many_queries": [query(f"select {i}") for i in range(20)],
    # Flush
    "flush_after_each": [m for x in rows("select generate_series(1, 3)") for m in (x, FLUSH)] + [SYNC],
    "flush_twice": [parse("", "select 1"), FLUSH, FLUSH, bind(), FLUSH, execute(), FLUSH, FLUSH, SYNC],
    "flush_after_an_error": FAILED + [FLUSH] + rows("select 'skipped'") + [FLUSH, SYNC] + rows("select 'on'") + [SYNC],
    "flush_alone": [FLUSH, FLUSH, query("select 1"), FLUSH],
    "flush_at_an_error_in_parse": [parse("", "selec"), FLUSH, bind(), FLUSH, SYNC],
    # a simple Query or FunctionCall behind a failed batch
    "query_in_a_failed_batch": FAILED + [query("select 'lost'"), SYNC] + [query("select 'next'")],
    "queries_in_a_failed_batch": FAILED + [query(f"select {i}") for i in range(5)] + [SYNC, query("select 'next'")],
    "query_flushed_in_a_failed_batch": FAILED + [FLUSH, query("select 'lost'"), FLUSH, SYNC, query("select 'next'")],
    "begin_in_a_failed_batch": FAILED + [query("begin"), SYNC, query("select 'next'")],
    "function_in_a_failed_batch": FAILED + [CALL, BAD_CALL, SYNC, CALL],
    "copy_in_a_failed_batch": FAILED + [query("copy t0 from stdin"), lines(1, 2), COPY_DONE, SYNC, query("select 1")],
    "execute_of_copy_in_a_failed_batch": FAILED + COPY_IN + [lines(1), COPY_DONE, SYNC, query("select * from t0")],
    "error_in_the_query_of_a_batch": rows("select 'a'") + [query("select 1/0")] + rows("select 'b'") + [SYNC],
    "error_in_the_function_of_a_batch": rows("select 'a'") + [BAD_CALL] + rows("select 'b'") + [SYNC],
    "multi_statement_that_fails": [query("select 1; select 1/0; select 3"), query("select 4")],
    "syntax_error_of_multi_statement": [query("select 1; selec 2"), query("select 4")],
    # transactions
    "implicit_transaction_commits": [m for i in range(4) for m in extended(f"insert into t0 values ({i}, 'x')")]
    + [SYNC, query("select count(*) from t0")],
    "implicit_transaction_fails": extended("insert into t0 values (1, 'x')")
    + FAILED
    + [SYNC, query("select * from t0")],
    "implicit_transaction_of_a_query": [query("insert into t0 values (1, 'x'); select 1/0"), query("select * from t0")],
    "query_commits_a_batch": extended("insert into t0 values (1, 'x')")
    + [query("select 1")]
    + FAILED
    + [SYNC]
    + [query("select count(*) from t0")],
    "begin_and_commit": extended("begin") + extended("insert into t0 values (1, 'x')") + extended("commit") + [SYNC],
    "begin_and_commit_with_syncs": extended("begin")
    + [SYNC]
    + extended("insert into t0 values (1, 'x')")
    + [SYNC]
    + rows("select * from t0")
    + [SYNC]
    + extended("commit")
    + [SYNC],
    "begin_fails_commit": extended("begin") + FAILED + extended("commit") + [SYNC, query("rollback")],
    "begin_fails_sync_commit": extended("begin")
    + FAILED
    + [SYNC]
    + rows("select 1")
    + [SYNC]
    + extended("commit")
    + [SYNC, query("select 'out'")],
    "commit_in_the_middle": extended("insert into t0 values (1, 'x')")
    + extended("commit")
    + extended("insert into t0 values (2, 'x')")
    + FAILED
    + [SYNC, query("select i from t0")],
    "transaction_over_many_queries": [query("begin"), query("insert into t0 values (1, 'x')"), query("select 1/0")]
    + [query("select 'aborted'"), CALL, query("rollback"), query("select count(*) from t0")],
    "savepoints": [query("begin")]
    + extended("savepoint a")
    + FAILED
    + [SYNC]
    + extended("rollback to a")
    + rows("select 'alive'")
    + [SYNC, query("commit")],
    "late_constraint_at_sync": extended("insert into late0 values (1), (1)")
    + rows("select 'seen'")
    + [SYNC]
    + rows("select count(*) from late0")
    + [SYNC],
    "late_constraint_at_commit": [
        query("begin; insert into late0 values (1), (1)"),
        query("commit"),
        query("select 1"),
    ],
    "late_constraint_at_query": extended("insert into late0 values (1), (1)") + [query("select 'not seen'"), SYNC],
    "late_constraint_at_function": [CALL] + extended("insert into late0 values (1), (1)") + [CALL, SYNC, CALL],
    "late_constraint_by_execute_of_commit": extended("begin")
    + extended("insert into late0 values (1), (1)")
    + extended("commit")
    + rows("select 'skipped'")
    + [SYNC, query("select 'next'")],
    "chain": [query("begin; select 1"), query("commit and chain"), query("rollback"), query("select 1")],
    # portals
    "portal_in_a_transaction": [query("begin")]
    + [parse("", "select generate_series(1, 5)"), bind("p"), SYNC]
    + [m for _ in range(3) for m in (execute("p", 2), SYNC)]
    + [execute("p", 2), close("P", "p"), SYNC, query("commit")],
    "portal_without_a_transaction": [parse("", "select generate_series(1, 5)"), bind("p"), execute("p", 2), SYNC]
    + [execute("p", 2), SYNC, query("select 1")],
    "portal_suspended_within_a_batch": [parse("", "select generate_series(1, 5)"), bind("p"), execute("p", 2)]
    + [execute("p", 2), execute("p", 0), execute("p", 1), SYNC],
    "two_portals": [query("begin"), parse("", "select generate_series(1, 5)"), bind("p"), bind("q")]
    + [execute("p", 2), execute("q", 1), execute("p", 1), SYNC, execute("q", 0), SYNC, query("commit")],
    "portal_that_fails_later": [query("begin"), parse("", "select 1/(3 - i) from generate_series(1, 5) i"), bind("p")]
    + [execute("p", 1), SYNC, execute("p", 1), SYNC, execute("p", 1), execute("p", 1), SYNC, query("rollback")],
    "cursor_of_sql": [query("begin; declare c cursor for select generate_series(1, 9)")]
    + rows("fetch 2 from c")
    + [describe("P", "c"), execute("c", 3), SYNC, query("fetch 1 from c; close c; commit")],
    # nothing
    "empty_queries": [query(""), query(";"), query(" -- only words")]
    + rows("")
    + [SYNC]
    + rows("-- x")
    + [FLUSH, SYNC],
    "empty_query_between": rows("select 1") + rows("") + rows("select 2") + [SYNC],
    "execute_twice": [parse("", "select 1"), bind(), execute(), execute(), SYNC],
    "execute_of_nothing": [execute("nowhere"), SYNC, execute(), SYNC],
    # Describe, Close
    "describes": [parse("", "select $1::int, 'x' as y"), describe("S"), bind("p", "", [1]), describe("P", "p")]
    + [describe("S"), execute("p"), describe("P", "p"), SYNC],
    "describe_of_no_data": [parse("", "delete from t0"), describe("S"), bind(), describe("P"), execute(), SYNC],
    "describe_of_no_portal": [describe("P", "none"), SYNC, describe("P"), SYNC],
    "describe_of_no_statement": [describe("S", "none"), SYNC, bind("", "none"), SYNC, describe("S", "none"), SYNC],
    "describe_of_a_bad_kind": [pack("D", b"Xname\0"), SYNC, query("select 1")],
    "closes_of_nothing": [close("S", "none"), close("P", "none"), close("P"), close("S"), close("S", "none"), SYNC],
    "close_of_a_bad_kind": [pack("C", b"Xname\0"), SYNC, query("select 1")],
    "closes_in_a_failed_batch": FAILED + [close("S", "none"), close("P", "none"), SYNC, close("S", "x"), SYNC],
    # what comes unasked
    "notices": rows("select raise_notice('one')")
    + rows("select raise_notice('two')")
    + [SYNC]
    + [query("select raise_notice('three'), raise_notice('four')")]
    + rows("select raise_error('five')")
    + [SYNC],
    "warnings": extended("commit") + extended("rollback") + [SYNC, query("commit")],
    "parameters": rows("set timezone to 'Asia/Tokyo'")
    + rows("show timezone")
    + [SYNC]
    + rows("set application_name to 'one'")
    + rows("set application_name to 'two'")
    + [SYNC, query("set datestyle to 'SQL'")]
    + [query("reset datestyle; reset timezone; reset application_name")],
    "parameters_rolled_back": [query("begin; set timezone to 'Asia/Tokyo'")]
    + rows("show timezone")
    + [SYNC, query("rollback"), query("show timezone")],
    "parameters_of_a_failed_batch": extended("set timezone to 'Asia/Tokyo'") + FAILED + [SYNC, query("show timezone")],
    "notifications": [query("listen news"), query("notify news, 'one'")]
    + extended("notify news, 'two'")
    + rows("select 1")
    + [SYNC, query("begin; notify news, 'three'")]
    + [query("commit"), query("unlisten *")],
    # COPY
    "copy_in": [query("copy t0 from stdin"), lines(1, 2), lines(3), COPY_DONE, query("select count(*) from t0")],
    "copy_in_given_up": [query("copy t0 from stdin"), lines(1, 2), COPY_FAIL, query("select count(*) from t0")],
    "copy_in_of_nothing": [query("copy t0 from stdin"), COPY_DONE, query("copy t0 from stdin"), COPY_FAIL],
    "copy_in_fails": [
        query("copy t0 from stdin"),
        lines(1),
        BAD_LINE,
        lines(2),
        lines(3),
        COPY_DONE,
        query("select 1"),
    ],
    "copy_in_fails_and_is_given_up": [query("copy t0 from stdin"), BAD_LINE, lines(2), COPY_FAIL, query("select 1")],
    "copy_in_that_cannot_begin": [query("copy nowhere from stdin"), lines(1), COPY_DONE, query("select 1")],
    "copy_in_syncs_and_flushes": [query("copy t0 from stdin"), lines(1), SYNC, FLUSH, SYNC, lines(2), COPY_DONE, SYNC],
    "copy_in_twice": [query("copy t0 from stdin; copy t0 from stdin"), lines(1), COPY_DONE, lines(2), COPY_DONE]
    + [query("select count(*) from t0")],
    "copy_in_among_statements": [query("select 1; copy t0 from stdin; select 2; select 1/0"), lines(1), COPY_DONE]
    + [query("select count(*) from t0")],
    "copy_in_of_a_transaction": [query("begin"), query("copy t0 from stdin"), lines(1), COPY_DONE]
    + [query("copy t0 from stdin"), BAD_LINE, COPY_DONE, query("select 1"), query("rollback")],
    "copy_by_execute": COPY_IN + [lines(1, 2), COPY_DONE, SYNC, query("select count(*) from t0")],
    "copy_by_execute_sync_before_the_data": COPY_IN
    + [SYNC, lines(1, 2), COPY_DONE, SYNC]
    + rows("select 'x'")
    + [SYNC],
    "copy_by_execute_two_syncs_before_the_data": COPY_IN + [SYNC, SYNC, lines(1, 2), SYNC, COPY_DONE, SYNC],
    "copy_by_execute_flush": COPY_IN + [FLUSH, lines(1, 2), FLUSH, COPY_DONE, FLUSH, SYNC],
    "copy_by_execute_given_up": COPY_IN + [lines(1), COPY_FAIL] + rows("select 'skipped'") + [SYNC, query("select 1")],
    "copy_by_execute_fails": COPY_IN
    + [BAD_LINE, lines(1), COPY_DONE]
    + rows("select 'skipped'")
    + [SYNC, query("select 1")],
    "copy_by_execute_sync_before_the_data_that_fail": COPY_IN
    + [SYNC, BAD_LINE, lines(1), COPY_DONE, SYNC, query("select 1")],
    "copy_by_execute_among_others": rows("select 'a'")
    + COPY_IN
    + [lines(1), COPY_DONE]
    + rows("select count(*) from t0")
    + COPY_IN
    + [lines(2), COPY_DONE]
    + rows("select count(*) from t0")
    + [SYNC],
    "copy_by_execute_rolled_back": COPY_IN + [lines(1), COPY_DONE] + FAILED + [SYNC, query("select count(*) from t0")],
    "copy_data_after_a_failure": [query("copy t0 from stdin"), BAD_LINE]
    + [lines(i) for i in range(20)]
    + [COPY_DONE, query("select 1")]
    + COPY_IN
    + [BAD_LINE]
    + [lines(i) for i in range(20)]
    + [COPY_DONE, SYNC],
    "copy_out": [query("copy (select generate_series(1, 20)) to stdout"), query("select 1")],
    "copy_out_by_execute": rows("copy (select generate_series(1, 20)) to stdout") + rows("select 1") + [SYNC],
    "copy_out_fails": [query("copy (select 1/(3 - i) from generate_series(1, 5) i) to stdout")]
    + rows("copy (select 1/(3 - i) from generate_series(1, 5) i) to stdout")
    + rows("select 'skipped'")
    + [SYNC],
    "copy_out_and_in": [query("copy t0 to stdout; copy t0 from stdin; copy t0 to stdout"), lines(1), COPY_DONE],
    "stray_copy_messages": [lines(1), COPY_DONE, COPY_FAIL, query("select 1"), COPY_DONE]
    + rows("select 2")
    + [lines(1), COPY_FAIL, SYNC],
    # function calls
    "function_calls": [CALL, BAD_CALL, function_call(0), CALL],
    "function_call_in_an_aborted_transaction": [query("begin"), BAD_CALL, CALL, query("rollback"), CALL],
    # sizes
    "large": rows("select repeat('x', 300000) from generate_series(1, 3)") + [SYNC, query(f"select '{'y' * 200000}'")],
}

# PgBouncer ends clients that use a name that does not exist.
UNKNOWN_NAMES = {"describe_of_no_statement"}

# Statements that leave a transaction open, or that a session of one's own is needed for.
BLOCKS = {n for n, m in CASES.items() if any(b"begin" in x or b"declare" in x for x in m)}


def positions():
    """A pipeline of three statements in which one message, at any place, fails."""
    sound = [m for i in range(3) for m in rows("select $1::text, generate_series(1, 2)", values=[f"r{i}"])]
    bad = {
        "P": parse("", "selec"),
        "B": bind("", "", ["too", "many"]),
        "D": describe("P", "nowhere"),
        "E": execute("nowhere"),
    }
    for at, message in enumerate(sound):
        yield sound[:at] + [bad[chr(message[0])]] + sound[at + 1 :]
    for at in range(len(sound) + 1):
        yield sound[:at] + [query("select 1/0")] + sound[at:]
        yield sound[:at] + [BAD_CALL] + sound[at:]
        yield sound[:at] + [pack("B", b"\0\0\0")] + sound[at:]
