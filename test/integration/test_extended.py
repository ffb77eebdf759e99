"""The extended query protocol, pipelines, function calls and odd simple queries, in the pooling modes."""
import struct

import psycopg
import pytest
from harness import wire
from harness.pooler import servers_of
from harness.procs import wait_until


@pytest.fixture(params=["session", "transaction"])
def pooled(request, make_pooler):
    """One server for everybody, so that any wrong answer would reach the wrong client."""
    p = make_pooler(settings={"pool_mode": request.param, "default_pool_size": 1})
    p.transaction = request.param == "transaction"
    return p


def second_client(p, first):
    """Another client; in session mode the first one has to leave before."""
    if not p.transaction:
        first.terminate()
    return p.login()


def test_unnamed_statement(pooled):
    c = pooled.login()
    for i in range(5):
        c.send(wire.extended("select $1::int + 1", [i]), wire.SYNC)
        result = c.read_ready()
        assert (result.types, result.rows, result.status) == ("12TDCZ", [[str(i + 1)]], "I")


def test_error_skips_to_sync(pooled):
    c = pooled.login()
    c.send(
        wire.extended("select 1/0"),
        wire.extended("select 'skipped'"),
        wire.SYNC,
        wire.extended("select 'after'"),
        wire.SYNC,
    )
    first = c.read_ready()
    assert first.error.code == "22012" and first.rows == []
    assert c.read_ready().rows == [["after"]]
    assert second_client(pooled, c).value("select 1") == "1"


@pytest.mark.newer
def test_simple_query_inside_a_failing_batch(pooled):
    """A server that skips to Sync discards a simple Query and never answers it."""
    c = pooled.login()
    c.send(wire.extended("select 1/0"), wire.query("select 'discarded'"), wire.SYNC)
    result = c.read_ready()
    assert result.error.code == "22012"
    assert "discarded" not in str(result.rows)
    assert c.value("select 'next'") == "next"
    assert c.is_silent()
    assert second_client(pooled, c).value("select 2") == "2"


def test_several_syncs_in_flight(pooled):
    c = pooled.login()
    c.send(b"".join(wire.extended("select $1::int", [i]) + wire.SYNC for i in range(100)))
    assert [c.read_ready().rows for _ in range(100)] == [[[str(i)]] for i in range(100)]
    assert second_client(pooled, c).value("select 1") == "1"


def test_server_is_kept_until_the_last_sync(make_pooler):
    """The first ReadyForQuery is not the end: there are requests behind it."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    a.send(
        wire.extended("select 'a1'"),
        wire.SYNC,
        wire.extended("select 'a2', pg_sleep(0.3)"),
        wire.SYNC,
        wire.extended("select 'a3'"),
        wire.SYNC,
    )
    assert a.read_ready().rows == [["a1"]]
    b.send(wire.query("select 'b'"))
    assert a.read_ready().rows == [["a2", ""]]
    assert a.read_ready().rows == [["a3"]]
    assert b.read_ready().rows == [["b"]]


def test_flush_without_sync(pooled):
    """Answers come after a Flush; the server stays with its client until the Sync."""
    c = pooled.login()
    c.send(wire.extended("select 'flushed'"), wire.FLUSH)
    assert c.read_through("C").rows == [["flushed"]]
    if pooled.transaction:
        other = pooled.login()
        other.send(wire.query("select 'other'"))
        pooled.wait_pool(cl_waiting=1)
        assert other.is_silent()
        c.send(wire.SYNC)
        assert c.read_ready().status == "I"
        assert other.read_ready().rows == [["other"]]
    else:
        c.send(wire.SYNC)
        assert c.read_ready().status == "I"


def test_client_leaves_after_flush(pooled):
    """Owed answers must not reach the next client: the server is not given on."""
    c = pooled.login()
    c.send(wire.extended("select generate_series(1, 1000)"), wire.FLUSH)
    c.recv()
    c.close()
    other = pooled.login()
    assert other.query("select 'mine'").rows == [["mine"]]
    assert other.query("select 'too'").rows == [["too"]]


def test_client_leaves_in_a_pipeline(pooled):
    for cut in range(1, 60, 7):
        c = pooled.login()
        data = b"".join(wire.extended("select $1::text", [f"lost{i}"]) + wire.SYNC for i in range(20))
        c.send(data[: len(data) * cut // 60])
        c.close()
        other = pooled.login()
        assert other.query("select 'mine'").rows == [["mine"]], cut
        other.close()
    wait_until(lambda: servers_of(pooled.pool()) <= 1, "no server left over")


def test_lone_sync_and_flush(pooled):
    c = pooled.login()
    c.send(wire.SYNC)
    assert c.read_ready().types == "Z"
    c.send(wire.SYNC, wire.SYNC, wire.FLUSH, wire.SYNC)
    assert [c.read_ready().types for _ in range(3)] == ["Z"] * 3
    assert second_client(pooled, c).value("select 1") == "1"


def test_portal_suspended(pooled):
    c = pooled.login()
    c.send(wire.parse("", "select generate_series(1, 5)"), wire.bind("p1"), wire.execute("p1", 2), wire.FLUSH)
    assert c.read_through("s").types == "12DDs"
    c.send(wire.execute("p1", 2), wire.FLUSH)
    assert c.read_through("s").types == "DDs"
    c.send(wire.execute("p1", 2), wire.close("P", "p1"), wire.SYNC)
    assert c.read_ready().types == "DC3Z"


def test_describe_and_no_data(pooled):
    c = pooled.login()
    c.send(
        wire.parse("", "create temp table if not exists nothing(i int)"),
        wire.describe("S"),
        wire.bind(),
        wire.describe("P"),
        wire.execute(),
        wire.SYNC,
    )
    assert c.read_ready().types == "1tn2nCZ"


def test_empty_queries(pooled):
    c = pooled.login()
    for sql in ("", ";", "  -- nothing"):
        assert c.query(sql).types == "IZ"
    c.send(wire.extended(""), wire.SYNC)
    assert c.read_ready().types == "12nIZ"


def test_multi_statement(pooled):
    c = pooled.login()
    result = c.query("select 1; select 2 where false; select 'three'")
    assert result.tags == ["SELECT 1", "SELECT 0", "SELECT 1"]
    result = c.query("select 1; select 1/0; select 3")
    assert result.rows == [["1"]] and result.error.code == "22012" and result.status == "I"
    assert c.query("begin; select 1").status == "T"
    assert c.query("commit").status == "I"


def test_many_simple_queries_in_one_segment(pooled):
    c = pooled.login()
    c.send(b"".join(wire.query(f"select {i}") for i in range(200)))
    assert [c.read_ready().rows[0][0] for _ in range(200)] == [str(i) for i in range(200)]


def test_function_call(pooled):
    c = pooled.login()
    oid = int(c.value("select 'int4pl(int,int)'::regprocedure::oid"))
    call = (
        struct.pack("!ihhh", oid, 1, 1, 2)
        + struct.pack("!ii", 4, 20)
        + struct.pack("!ii", 4, 22)
        + struct.pack("!h", 1)
    )
    c.send(wire.pack("F", call))
    result = c.read_ready()
    assert result.types == "VZ"
    assert struct.unpack("!ii", result.messages[0].body) == (4, 42)
    bad = struct.pack("!ihhh", 0, 0, 0, 0)
    c.send(wire.pack("F", bad))
    assert c.read_ready().types == "EZ"
    assert second_client(pooled, c).value("select 1") == "1"


def test_messages_in_single_bytes(pooled):
    c = pooled.login()
    for byte in wire.extended("select $1::text", ["slow"]) + wire.SYNC:
        c.send(bytes([byte]))
    assert c.read_ready().rows == [["slow"]]


def test_psycopg_pipeline(pooled):
    c = pooled.connect()
    with c.pipeline() as pipe:
        cursors = [c.execute("select %s::int", (i,)) for i in range(50)]
        pipe.sync()
        assert [cur.fetchone()[0] for cur in cursors] == list(range(50))
    with pytest.raises(psycopg.errors.DivisionByZero):
        with c.pipeline():
            c.execute("select 1")
            c.execute("select 1/0")
            c.execute("select 2")
    assert c.execute("select 'alive'").fetchone() == ("alive",)


def test_psycopg_pipeline_with_transaction(pooled):
    c = pooled.connect(autocommit=False)
    with c.pipeline(), c.transaction():
        first = c.execute("select txid_current()")
        second = c.execute("select txid_current()")
    assert first.fetchone() == second.fetchone()


def test_server_drivers_prepare_in_a_transaction(pooled):
    """Within one transaction a named statement is safe in every mode."""
    c = pooled.login()
    c.query("begin")
    c.send(wire.parse("st", "select $1::int * 2"), wire.SYNC)
    assert c.read_ready().types == "1Z"
    for i in range(3):
        c.send(wire.bind("", "st", [i]), wire.execute(), wire.SYNC)
        assert c.read_ready().rows == [[str(i * 2)]]
    c.send(wire.close("S", "st"), wire.SYNC)
    assert c.read_ready().types == "3Z"
    assert c.query("commit").status == "I"


# What a client may send after its login.
CLIENT_TYPES = b"QFSHcfPECBDdX"


@pytest.mark.parametrize("in_transaction", [False, True])
def test_unknown_message_type(pooled, in_transaction):
    for mtype in set(range(256)) - set(CLIENT_TYPES):
        c = pooled.login()
        if in_transaction:
            c.query("begin")
        c.send(bytes([mtype]) + b"\0\0\0\7abc")
        error = c.expect_error_close()
        assert (error.severity, error.code, error.text) == ("FATAL", "08P01", "unknown pkt"), mtype
    assert pooled.login().value("select 1") == "1"


def test_errors_of_the_server_pass_untouched(pooled):
    c = pooled.login()
    fields = c.query("select * from no_such_table").error.fields
    assert fields["C"] == "42P01" and fields["S"] == "ERROR" and "F" in fields and "P" in fields
    notice = c.query("do $$ begin raise notice 'hear %', 'me' using hint = 'a hint'; end $$").notices[0]
    assert notice["M"] == "hear me" and notice["H"] == "a hint"


def test_pipeline_that_fills_both_directions(make_pooler):
    """Large statements and large results at once, more than all buffers hold; the driver reads while it writes."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 2})
    c = p.connect()
    with c.pipeline():
        cursors = [c.execute("select %s::text || repeat('y', 20000)", ("x" * 20000,)) for _ in range(400)]
    assert all(len(cur.fetchone()[0]) == 40000 for cur in cursors)
    assert c.execute("select 1").fetchone() == (1,)


def test_queries_and_terminate_in_one_segment(make_pooler, cluster, database):
    """A session that ends itself at once leaves a clean pool behind."""
    db = database()
    cluster.sql("create table log(i int); grant all on log to app", dbname=db)
    p = make_pooler({"app": cluster.dsn(dbname=db, pool_size=1)}, settings={"pool_mode": "transaction"})
    for n in range(20):
        c = p.login()
        c.send(wire.query("begin"), wire.query(f"insert into log values ({n})"), wire.TERMINATE)
        c.close()
        other = p.login()
        assert other.value("select count(*) from log") == "0"
        other.terminate()


def test_message_that_belongs_nowhere(pooled):
    """CopyData without a COPY is ignored by the server; nothing may come out of step."""
    c = pooled.login()
    c.send(wire.pack("d", b"stray"), wire.pack("c"), wire.query("select 'after'"))
    assert c.read_ready().rows == [["after"]]
    assert second_client(pooled, c).value("select 1") == "1"


def test_query_inside_copy_in(pooled):
    """PostgreSQL ends a session that is so much out of step; the pool is not harmed by it."""
    c = pooled.login()
    c.query("drop table if exists copy_target; create table copy_target(i int)")
    c.send(wire.query("copy copy_target from stdin"))
    assert c.recv().type == "G"
    c.send(wire.query("select 'not now'"))
    assert [e.code for e in c.expect_close().errors][:2] == ["08P01", "08P01"]
    other = pooled.login()
    other.query("drop table copy_target")
    assert other.value("select 'next'") == "next"
    assert other.is_silent()


@pytest.mark.ours
def test_query_in_place_of_a_sync_hurts_nobody_else(make_pooler):
    """Behind it, PostgreSQL 18 fails the next statement of the session."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    a.send(wire.extended("select 1"), wire.query("select 2"), wire.SYNC)
    assert a.read_ready().error is None and a.read_ready().status == "I"
    assert b.value("select 3") == "3"
    assert a.value("select 4") == "4"
