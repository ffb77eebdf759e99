"""Pipelines in transaction and statement mode: what PostgreSQL answers to the same bytes is what counts."""
import struct

import pytest
from harness import differential as diff
from harness import scripts, wire
from harness.bench import alone, crowd, play_cases
from harness.cases import (
    BAD_CALL,
    BLOCKS,
    CALL,
    CASES,
    COPY_DONE,
    COPY_IN,
    FAILED,
    UNKNOWN_NAMES,
    lines,
    positions,
    rows,
)
from harness.load import adds_up
from harness.pooler import servers_of
from harness.procs import rss_kib, wait_until
from harness.scripts import function_call
from harness.scripts import wire_extended as extended
from harness.wire import FLUSH, SYNC, bind, close, describe, execute, pack, parse, query

# ---- random scripts ----


@pytest.mark.newer
@pytest.mark.parametrize("cut", sorted(diff.CUTS))
@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_random_pipelines(bench, mode, cut):
    """A client alone: whatever it sends, it is answered as PostgreSQL answers."""
    b = bench(pool_mode=mode)
    is_session = mode == "session"
    own = {"named": is_session, "session": is_session, "carried": is_session}
    alone(b, mode, diff.CUTS[cut], 50, transactions=mode != "statement", **own)
    adds_up(b.pooler)


@pytest.mark.newer
@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_random_pipelines_in_a_crowd(bench, mode, servers):
    """Twenty clients on few servers: each gets its own answers, at the time when PostgreSQL gives them."""
    b = bench(clients=20, pool_mode=mode, default_pool_size=servers, threads=2)
    crowd(b, mode, 20, 10, named=False, carried=False, transactions=mode != "statement")
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


@pytest.mark.newer
@pytest.mark.parametrize("cut", [diff.cut_whole, diff.cut_steps, diff.cut_single, diff.cut_anywhere])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_pipelines_worth_a_name(bench, mode, cut):
    b = bench(pool_mode=mode)
    left_out = UNKNOWN_NAMES | (BLOCKS if mode == "statement" else set())
    play_cases(b, {n: m for n, m in CASES.items() if n not in left_out}, cut)
    adds_up(b.pooler)
    # None of them has cost a server, but for those where it is not known what is still to come.
    assert b.pooler.log_count("S: .* closing because") == 0


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
    look = b.login()
    wait_until(lambda: look.value("select count(*) from t0 where i = 7") == "1", "what came before is executed")
    look.terminate()
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
