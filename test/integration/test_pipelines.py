"""Pipelines in transaction and statement mode: what PostgreSQL answers to the same bytes is what counts."""
import os
import random
import struct
import threading

import pytest
from harness import differential as diff
from harness import scripts, wire
from harness.load import adds_up
from harness.pooler import servers_of
from harness.procs import rss_kib
from harness.scripts import INT4DIV, INT4PL, function_call
from harness.scripts import wire_extended as extended
from harness.wire import FLUSH, SYNC, bind, close, describe, execute, pack, parse, query

MORE = int(os.environ.get("PGSLUICE_TEST_PIPELINES", "1"))  # times as many random pipelines


class Bench:
    """Two databases with the same content: one for direct sessions, one behind a pooler."""

    def __init__(self, make_pooler, cluster, database, clients=1, **settings):
        self.cluster, self.databases = cluster, [database(), database()]
        for db in self.databases:
            cluster.sql(scripts.schema(clients), dbname=db)
        profile = settings.pop("profile", "pgbouncer")
        threads = settings.pop("threads", None)
        self.pooler = make_pooler(
            {"app": f"host={cluster.dir} port={cluster.port} dbname={self.databases[1]}"},
            settings={"pool_mode": "transaction", "default_pool_size": 1, **settings},
            profile=profile,
            threads=threads,
        )
        self.reference = diff.Reference(cluster, self.databases[0])

    def login(self):
        conn = wire.Conn.unix(self.pooler.socket_path)
        conn.login("app", "app")
        return conn

    def direct(self, segments):
        return self.reference.play(segments)

    def pooled(self, segments, expected, **kwargs):
        conn = self.login()
        try:
            return diff.play_pooled(conn, segments, expected, **kwargs)
        finally:
            conn.close()

    def check(self, segments, **kwargs):
        expected = self.direct(segments)
        diff.compare(expected, self.pooled(segments, expected, **kwargs))
        return expected

    def differs(self, segments):
        try:
            self.check(segments)
        except diff.Difference:
            return True
        return False

    def explain(self, messages, cut, seed, error):
        """The failure with the shortest script that shows it."""
        short = diff.shrink(messages, lambda m: self.differs(cut(m, random.Random(seed))))
        try:
            self.check(cut(short, random.Random(seed)))
        except diff.Difference as e:
            error = e
        lines = "\n".join("  " + diff.show_client(m) for m in short)
        return f"seed {seed}, {cut.__name__}; shortest script:\n{lines}\n{error}"

    def same_tables(self, clients=1):
        """Both databases hold the same rows: what the answers said is what happened."""
        for k in range(clients):
            for sql in (f"select i, s from t{k} order by 1, 2", f"select i from late{k} order by 1"):
                rows = [self.cluster.sql(sql, dbname=db) for db in self.databases]
                assert rows[0] == rows[1], sql


@pytest.fixture
def bench(make_pooler, cluster, database):
    made = []

    def make(**kwargs):
        made.append(Bench(make_pooler, cluster, database, **kwargs))
        return made[-1]

    yield make
    for b in made:
        b.reference.close()


# ---- random scripts ----


@pytest.mark.newer
@pytest.mark.parametrize("cut", sorted(diff.CUTS))
@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_random_pipelines(bench, mode, cut):
    """A client alone: whatever it sends, it is answered as PostgreSQL answers."""
    b = bench(pool_mode=mode)
    for seed in range(50 * MORE):
        rng = random.Random(f"{mode} {cut} {seed}")
        maker = scripts.Maker(
            rng,
            transactions=mode != "statement",
            named=mode == "session",
            session=mode == "session",
            doubt=cut == "whole",
        )
        messages = maker.script()
        try:
            b.check(diff.CUTS[cut](messages, random.Random(seed)))
        except diff.Difference as e:
            pytest.fail(b.explain(messages, diff.CUTS[cut], seed, e), pytrace=False)
    b.same_tables()
    adds_up(b.pooler)


def crowd(b, clients, rounds, mode, **maker):
    """Each client plays its own scripts, all at once; the first difference fails the test."""
    jobs = []
    for k in range(clients):
        jobs.append([])
        for n in range(rounds):
            rng = random.Random(f"{mode} crowd {k} {n}")
            cut = rng.choice(sorted(diff.CUTS))
            messages = scripts.Maker(rng, k, doubt=cut == "whole", **maker).script()
            segments = diff.CUTS[cut](messages, rng)
            jobs[k].append((messages, segments, b.direct(segments)))
    failures, start = [], threading.Barrier(clients)

    def run(k):
        start.wait()
        for messages, segments, expected in jobs[k]:
            if failures:
                return
            try:
                diff.compare(expected, b.pooled(segments, expected, timeout=60))
            except Exception as e:
                script = "\n".join("  " + diff.show_client(m) for m in messages)
                failures.append(f"client {k}, {len(segments)} segments:\n{script}\n{e!r}")

    threads = [threading.Thread(target=run, args=(k,)) for k in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        pytest.fail(failures[0], pytrace=False)
    b.same_tables(clients)


@pytest.mark.newer
@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_random_pipelines_in_a_crowd(bench, mode, servers):
    """Twenty clients on few servers: each gets its own answers, at the time when PostgreSQL gives them."""
    b = bench(clients=20, pool_mode=mode, default_pool_size=servers, threads=2)
    crowd(b, 20, 10 * MORE, mode, named=False, carried=False, transactions=mode != "statement")
    assert servers_of(b.pooler.pool()) <= servers
    adds_up(b.pooler)


def test_the_comparison_can_fail(bench):
    """Another text, a missing answer, an answer too many: all are told."""
    b = bench()
    for sent in ([query("select 2")], [], [query("select 1"), SYNC]):
        segments = diff.cut_whole([query("select 1")], None)
        with pytest.raises(diff.Difference):
            diff.compare(b.direct(segments), b.pooled(diff.cut_whole(sent, None), b.direct(segments)))


# ---- pipelines worth a name ----


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
    "describe_of_nothing": [describe("S", "none"), SYNC, describe("P", "none"), SYNC, describe("P"), SYNC],
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

# Statements that leave a transaction open, or that a session of one's own is needed for.
BLOCKS = {n for n, m in CASES.items() if any(b"begin" in x or b"declare" in x for x in m)}
LISTENS = {"notifications"}


def play_cases(b, names, cut):
    failures = []
    for name in names:
        messages = [query("delete from t0; delete from late0")] + CASES[name]
        try:
            b.check(cut(messages, random.Random(name)))
        except diff.Difference as e:
            failures.append(f"{name}: {e}")
    assert not failures, "\n\n".join(failures)
    b.same_tables()


@pytest.mark.newer
@pytest.mark.parametrize("cut", [diff.cut_whole, diff.cut_steps, diff.cut_single, diff.cut_anywhere])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_pipelines_worth_a_name(bench, mode, cut):
    b = bench(pool_mode=mode)
    play_cases(b, [n for n in CASES if mode != "statement" or n not in BLOCKS], cut)
    adds_up(b.pooler)
    # None of them has cost a server, but for those where it is not known what is still to come.
    assert b.pooler.log_count("S: .* closing because") == 0


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
        yield sound[:at] + [pack("B", b"broken")] + sound[at:]


@pytest.mark.newer
@pytest.mark.parametrize("cut", [diff.cut_whole, diff.cut_single])
def test_errors_at_each_position(bench, cut):
    b = bench()
    for n, messages in enumerate(positions()):
        for end in ([SYNC], [query("select 'lost'"), SYNC, query("select 'next'")]):
            try:
                b.check(cut(messages + end + rows("select 'after'") + [SYNC], None))
            except diff.Difference as e:
                raise AssertionError(f"position {n}: {e}") from None
    adds_up(b.pooler)


# ---- segments ----


@pytest.mark.newer
@pytest.mark.parametrize("name", ["mixed", "copy", "failed"])
def test_every_byte_is_a_border(bench, name):
    """A pipeline in two segments, cut at every byte, and in segments of one byte each."""
    b = bench()
    messages = {
        "mixed": rows("select 'a'") + [SYNC, query("begin; select 'b'"), CALL, parse("", "select 'c'"), FLUSH]
        + [bind("p"), execute("p"), close("P", "p"), SYNC, query("commit")],
        "copy": COPY_IN + [SYNC, lines(1), FLUSH, lines(2), COPY_DONE, SYNC]
        + [query("copy t0 to stdout; delete from t0")],
        "failed": FAILED + [query("lost"), BAD_CALL, SYNC, lines(1), COPY_DONE, query("x"), query("select 'next'")],
    }[name]  # fmt: skip
    data = b"".join(messages)
    expected = b.direct(diff.cut_whole(messages, None))
    untimed = diff.Played(expected.messages, [0] * len(data), expected.closed)
    for at in range(1, len(data)):
        diff.compare(expected, b.pooled([data[:at], data[at:] + b"".join(diff.END)], untimed, settle=True))
    single = [data[i : i + 1] for i in range(len(data))] + [b"".join(diff.END)]
    diff.compare(expected, b.pooled(single, untimed, settle=True))
    adds_up(b.pooler)


# ---- clients that leave ----


@pytest.mark.newer
@pytest.mark.parametrize("how", ["close", "reset", "terminate"])
def test_client_leaves_at_each_message_border(bench, how):
    """Wherever it stops, what it did not commit is undone and its answers reach nobody else."""
    b = bench()
    pipeline = (
        rows("select 'lost 1'") + [SYNC] + rows("insert into t0 values (1, 'lost')") + rows("select 'lost 2'") + FAILED
        + [query("lost"), SYNC, query("begin; insert into t0 values (2, 'lost')")] + rows("select 'lost 3'") + [SYNC]
        + [CALL, query("copy t0 from stdin"), lines(3), lines(4), COPY_DONE] + COPY_IN + [FLUSH, lines(5), COPY_DONE, SYNC]
        + rows("select generate_series(1, 9)", limit=2) + [execute("", 2), FLUSH, query("select repeat('lost', 99999)")]
    )  # fmt: skip
    other = b.login()
    for at in range(len(pipeline) + 1):
        for wait in (False, True):
            conn = b.login() if how == "close" else wire.Conn.tcp(b.pooler.port)
            if how != "close":
                conn.login("app", "app")
            conn.send(*pipeline[:at])
            if wait and at > 4:
                assert conn.recv().type == "1"
            if how == "terminate":
                conn.send(wire.TERMINATE)
            conn.reset() if how == "reset" else conn.close()
            seen = other.query(f"select 'mine {at}', count(*) from t0")
            assert seen.rows == [[f"mine {at}", "0"]] and seen.types == "TDCZ", (at, wait)
    assert other.is_silent()
    other.terminate()
    adds_up(b.pooler)


# ---- many and large messages ----


@pytest.mark.newer
@pytest.mark.parametrize("kind", ["syncs", "batches", "one batch", "failed batch", "copy data", "syncs in a copy"])
def test_seventy_thousand_messages(bench, kind):
    """More than the pooler keeps account of at once: it takes them bit by bit."""
    b = bench()
    messages = {
        "syncs": [SYNC] * 70000,
        "batches": [m for i in range(17500) for m in (parse("", f"select {i}"), bind(), execute(), SYNC)],
        "one batch": [m for i in range(17500) for m in (parse("", f"select {i}"), bind(), describe("P"), execute())]
        + [SYNC],
        "failed batch": FAILED + rows("select 'skipped'") * 17500 + [query("lost"), SYNC],
        "copy data": [query("copy t0 from stdin")] + [lines(i) for i in range(70000)] + [COPY_DONE],
        "syncs in a copy": COPY_IN + [SYNC] * 35000 + [lines(1)] + [SYNC, FLUSH] * 17500 + [COPY_DONE, SYNC],
    }[kind]
    b.check(diff.cut_whole(messages, None), timeout=120)
    b.same_tables()
    adds_up(b.pooler)


@pytest.mark.newer
def test_pipeline_of_a_client_that_does_not_read(bench):
    """It sends on while its answers wait: the pooler stops taking rather than to remember all of them."""
    b = bench()
    conn = b.login()
    before = rss_kib(b.pooler.proc.pid)
    conn.sock.setblocking(False)
    data, sent = memoryview(b"".join(rows(f"select repeat('x', 100000) -- {'y' * 9999}") + [SYNC]) * 1000), 0
    try:
        while sent < len(data):
            sent += conn.sock.send(data[sent:])
        pytest.fail("the pooler has taken all")
    except BlockingIOError:
        pass
    b.pooler.show("pools")
    assert rss_kib(b.pooler.proc.pid) - before < 20 * 1024
    w = diff.Wire(conn, 120)
    seen = lambda: sum(1 for m in w.messages if m.type == "Z") == 1000  # noqa: E731
    w.put(data[sent:], seen, lambda: f"{len(w.messages)} messages")
    assert all(len(m.body) == 100006 for m in w.messages if m.type == "D")
    w.close()
    adds_up(b.pooler)


class Stream:
    """A connection over which more goes than anybody wants to keep."""

    def __init__(self, conn):
        self.conn, self.block = conn, b"x" * (1 << 20)
        conn.sock.settimeout(300)

    def send(self, mtype, before, size, behind=b""):
        """A message whose body is `before`, `size` times x, and `behind`."""
        self.conn.send(mtype.encode() + struct.pack("!i", 4 + len(before) + size + len(behind)), before)
        while size > 0:
            n = min(size, len(self.block))
            self.conn.send(self.block[:n])
            size -= n
        self.conn.send(behind)

    def skip_value(self):
        """Reads a message of one value and throws it away; (type, size of the body)."""
        head = self.conn.read_exact(5)
        size = left = struct.unpack("!i", head[1:])[0] - 4
        left -= len(self.conn.buf[:left])
        self.conn.buf = self.conn.buf[size:]
        while left > 0:
            left -= len(self.conn.sock.recv(min(left, 1 << 20)))
        return chr(head[0]), size


LIMIT = (1 << 30) - 1 - 1  # the longest message that PostgreSQL accepts, with its length word


@pytest.mark.slow
@pytest.mark.newer
def test_messages_of_a_gigabyte(bench):
    """The longest that PostgreSQL takes and gives pass in both directions, and the pooler keeps nothing of them."""
    b = bench()
    conn, before = b.login(), rss_kib(b.pooler.proc.pid)
    stream, peak = Stream(conn), []

    def note():
        peak.append(rss_kib(b.pooler.proc.pid) - before)

    value = 1000 * 1000 * 1000
    conn.send(parse("", "select length($1)"))
    stream.send("B", b"\0\0" + struct.pack("!hhi", 0, 1, value), value, struct.pack("!h", 0))
    note()
    conn.send(execute(), SYNC)
    assert conn.read_ready().rows == [[str(value)]]
    stream.send("Q", b"select 1 /* ", LIMIT - 4 - 20, b" */ ;\0")
    note()
    assert conn.read_ready().rows == [["1"]]
    conn.send(parse("", f"select repeat('x', {value})"), bind(), execute(), FLUSH)
    assert conn.read_through("2").types == "12"
    assert stream.skip_value() == ("D", value + 6)
    note()
    conn.send(SYNC)
    assert conn.read_ready().types == "CZ"
    conn.send(query("copy t0(s) from stdin"))
    assert conn.recv().type == "G"
    stream.send("d", b"", 500 * 1000 * 1000, b"\n")
    note()
    conn.send(COPY_DONE)
    assert conn.read_ready().tag == "COPY 1"
    conn.send(query("copy t0(s) to stdout"))
    assert conn.recv().type == "H"
    assert stream.skip_value() == ("d", 500 * 1000 * 1000 + 1)
    note()
    assert conn.read_ready().types == "cCZ"
    assert max(peak) < 20 * 1024, peak
    other = b.login()
    assert other.value("select 'next'") == "next"
    other.terminate()
    conn.terminate()
    adds_up(b.pooler)


@pytest.mark.slow
@pytest.mark.newer
@pytest.mark.parametrize("mtype", ["Q", "P", "B"])
def test_message_longer_than_postgresql_takes(bench, mtype):
    """PostgreSQL ends such a session; the pooler passes that on and harms nobody else."""
    b = bench()
    conn = b.login()
    try:
        Stream(conn).send(mtype, b"", LIMIT + 100, b"\0")
        conn.send(SYNC)
    except OSError:
        pass
    end = conn.expect_close()
    assert [e.code for e in end.errors][:1] in (["08P01"], [])
    other = b.login()
    assert other.value("select 'next'") == "next"
    other.terminate()
    adds_up(b.pooler)


@pytest.mark.newer
@pytest.mark.parametrize("kind", ["Q", "P", "B", "d", "F"])
def test_max_packet_size_of_clients(bench, kind):
    """A message of just that size passes; one that is a byte longer ends the client, and what was before it is done."""
    size = 10000
    b = bench(max_packet_size=size)

    def message(total):
        """A message of that many bytes."""
        fill = "x" * (total - 100)
        while True:
            made = {
                "Q": query(f"select length('{fill}')"),
                "P": parse("", f"select length('{fill}')"),
                "B": bind("", "", [fill]),
                "d": pack("d", f"1\t{fill}\n".encode()),
                "F": function_call(scripts.TEXT_LEN, fill),
            }[kind]
            if len(made) == total:
                return made
            fill += "x" * (total - len(made))

    def around(m):
        before = {"B": [parse("", "select length($1)")], "d": [query("copy t0 from stdin")]}.get(kind, [])
        behind = {"P": [bind(), execute(), SYNC], "B": [execute(), SYNC], "d": [COPY_DONE]}.get(kind, [])
        return before + [m] + behind

    b.check(diff.cut_whole(around(message(size)), None))
    conn = b.login()
    conn.send(query("insert into t0 values (7, 'before')"), *around(message(size + 1)))
    error = conn.expect_close().errors[-1]
    assert (error.severity, error.code) == ("FATAL", "08P01") and error.text.startswith("bad packet header")
    assert b.login().value("select count(*) from t0 where i = 7") == "1"
    adds_up(b.pooler)


# ---- statement mode ----

REFUSED = ("FATAL", "08P01", "transaction blocks not allowed in statement pooling mode")

# What leaves a transaction open, and the types of what is answered before the refusal.
OPENS = {
    "query": ([query("begin")], "C"),
    "last of several": ([query("select 1; begin")], "TDCC"),
    "execute": (extended("begin") + [SYNC], "12C"),
    "behind rows": (rows("select 1") + extended("begin") + [SYNC], "12TDC12C"),
    "committed too late": ([query("begin"), query("commit")], "C"),
    "committed behind a Sync": (extended("begin") + [SYNC] + extended("commit") + [SYNC], "12C"),
    "failed block": ([query("begin; select 1/0")], "CE"),
    "failed batch": (extended("begin") + FAILED + [SYNC], "12C12TDE"),
    "chain": ([query("begin; commit and chain")], "CC"),
    "start transaction": ([query("start transaction read only"), query("select 1")], "C"),
    "behind others": ([query("select 1"), query("select 2"), query("begin"), query("select 3")], "TDCZTDCZC"),
}


@pytest.mark.newer
@pytest.mark.parametrize("split", [False, True])
def test_transactions_are_refused_in_statement_mode(bench, split):
    """The client is told instead of ReadyForQuery, however much it has sent behind; nobody inherits the transaction."""
    b = bench(pool_mode="statement")
    other = b.login()
    for name, (messages, types) in OPENS.items():
        conn = b.login()
        for segment in messages if split else [b"".join(messages)]:
            try:
                conn.send(segment)
            except OSError:
                break
        end = conn.expect_close()
        error = end.errors[-1]
        assert (error.severity, error.code, error.text) == REFUSED, name
        assert end.types == types + "E", name
        seen = other.query(f"select now() = statement_timestamp(), '{name}'")
        assert seen.rows == [["t", name]] and seen.status == "I"
    other.terminate()
    adds_up(b.pooler)


@pytest.mark.newer
@pytest.mark.parametrize("cut", [diff.cut_whole, diff.cut_single])
def test_what_ends_in_one_statement_is_no_transaction(bench, cut):
    """Blocks that are closed before ReadyForQuery, and the implicit transactions of a Query and of a batch."""
    b = bench(pool_mode="statement")
    for messages in (
        [query("begin; insert into t0 values (1, 'x'); commit"), query("select count(*) from t0")],
        [query("begin; insert into t0 values (2, 'x'); rollback; select count(*) from t0")],
        [query("insert into t0 values (3, 'x'); select 1/0"), query("select count(*) from t0")],
        [query("insert into t0 values (4, 'x'); insert into t0 values (5, 'x')"), query("select count(*) from t0")],
        extended("begin") + extended("insert into t0 values (6, 'x')") + extended("commit") + [SYNC],
        extended("insert into t0 values (7, 'x')") + FAILED + [SYNC, query("select count(*) from t0")],
        extended("insert into t0 values (8, 'x')") + [FLUSH] + rows("select count(*) from t0") + [SYNC],
        extended("begin") + [FLUSH] + rows("select 1") + [FLUSH] + extended("rollback") + [SYNC],
        [query("begin; commit; begin; rollback")],
        rows("select generate_series(1, 5)", limit=2) + [execute("", 2), execute("", 0), SYNC],
    ):
        b.check(cut(messages, None))
    b.same_tables()
    assert b.pooler.log_count("closing because: transaction blocks") == 0


@pytest.mark.newer
def test_each_batch_of_statement_mode_may_have_another_server(bench):
    """A client that waits gets a server between two statements of another; settings follow, transactions cannot."""
    b = bench(pool_mode="statement", default_pool_size=1)
    one, two = b.login(), b.login()
    one.query("set timezone to 'Asia/Tokyo'")
    assert two.value("show timezone") == "UTC"
    assert one.value("show timezone") == "Asia/Tokyo"
    one.send(*rows("select 'one'"), FLUSH)
    assert one.read_through("C").rows == [["one"]]
    two.send(query("select 'two'"))
    b.pooler.wait_pool(cl_waiting=1)
    one.send(SYNC)
    assert one.read_ready().status == "I"
    assert two.read_ready().rows == [["two"]]
