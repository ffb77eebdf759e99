"""COPY in both directions, failing and abandoned ones, and values of any size."""
import io

import psycopg
import pytest
from harness import wire
from harness.procs import rss_kib, wait_until


@pytest.fixture(params=["session", "transaction"])
def setup(request, make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db, pool_size=1)}, settings={"pool_mode": request.param})
    cluster.sql("create table t(i int, s text); alter table t owner to app", dbname=db)
    p.db, p.cluster = db, cluster
    return p


def test_copy_in_and_out(setup):
    c = setup.connect()
    with c.cursor().copy("copy t from stdin") as copy:
        for i in range(20000):
            copy.write_row((i, "x" * (i % 50)))
    assert c.execute("select count(*), sum(i) from t").fetchone() == (20000, 19999 * 20000 // 2)
    with c.cursor().copy("copy (select i, s from t order by i) to stdout") as copy:
        rows = list(copy.rows())
    assert len(rows) == 20000 and rows[49] == ("49", "x" * 49)
    assert c.execute("select 1").fetchone() == (1,)


def test_binary_copy_of_large_rows(setup):
    c = setup.connect()
    blob = "abcdefghij" * 20000
    with c.cursor().copy("copy t from stdin (format binary)") as copy:
        copy.set_types(["int4", "text"])
        for i in range(20):
            copy.write_row((i, blob))
    out = io.BytesIO()
    with c.cursor().copy("copy t to stdout (format binary)") as copy:
        for data in copy:
            out.write(data)
    assert out.getbuffer().nbytes > 20 * len(blob)
    assert c.execute("select count(distinct s) from t").fetchone() == (1,)


def test_copy_in_fails_on_the_server(setup):
    """The server gives up in the middle; the rest of the client's data leads to no second answer."""
    c = setup.login()
    c.send(wire.query("copy t from stdin"))
    assert c.recv().type == "G"
    c.send(wire.pack("d", b"not a number\tx\n"))
    for _ in range(50):
        c.send(wire.pack("d", b"1\tafter the error\n" * 100))
    c.send(wire.pack("c"))
    result = c.read_ready()
    assert (result.error.code, result.status, result.types) == ("22P02", "I", "EZ")
    assert c.value("select count(*) from t") == "0"
    other = setup.login() if setup.settings["pool_mode"] == "transaction" else c
    assert other.value("select 1") == "1"
    assert c.is_silent()


def test_client_gives_up_a_copy(setup):
    c = setup.login()
    c.send(wire.query("copy t from stdin"))
    assert c.recv().type == "G"
    c.send(wire.pack("d", b"1\tx\n"), wire.pack("f", b"changed my mind\0"))
    result = c.read_ready()
    assert result.error.code == "57014" and "changed my mind" in result.error.text
    assert c.value("select count(*) from t") == "0"


def test_client_dies_in_a_copy(setup):
    """Its server must be closed, and what it sent must not be committed."""
    c = setup.login()
    c.send(wire.query("copy t from stdin"))
    assert c.recv().type == "G"
    c.send(wire.pack("d", b"1\tx\n"))
    c.reset()
    other = setup.login()
    assert other.value("select count(*) from t") == "0"
    setup.wait_for_log("closing because: client disconnect while server was not ready")
    wait_until(lambda: setup.cluster.backends(setup.db) == 1, "the server of the dead client is gone")


def test_client_dies_while_it_is_sent_a_copy(setup):
    c = setup.login()
    c.send(wire.query("copy (select repeat('x', 1000) from generate_series(1, 200000)) to stdout"))
    assert c.recv().type == "H"
    c.reset()
    assert setup.login().value("select 'still here'") == "still here"


@pytest.mark.newer
def test_copy_in_a_pipeline_with_queries_behind_it(setup):
    """Copy, its data and two more queries in one segment."""
    c = setup.login()
    c.send(
        wire.query("copy t from stdin"),
        wire.pack("d", b"1\ta\n2\tb\n"),
        wire.pack("c"),
        wire.query("select count(*) from t"),
        wire.query("select 'end'"),
    )
    first = c.read_ready()
    assert (first.types, first.tag) == ("GCZ", "COPY 2")
    assert c.read_ready().rows == [["2"]]
    assert c.read_ready().rows == [["end"]]


def test_extended_copy(setup):
    c = setup.login()
    c.send(wire.parse("", "copy t from stdin"), wire.bind(), wire.execute(), wire.FLUSH)
    assert c.read_through("G").types == "12G"
    c.send(wire.pack("d", b"5\tv\n"), wire.pack("c"), wire.SYNC)
    result = c.read_ready()
    assert (result.tag, result.status) == ("COPY 1", "I")
    assert c.value("select i from t") == "5"


def test_extended_copy_with_early_sync(setup):
    """A Sync that the server reads in copy mode is ignored by it: one ReadyForQuery only, for the Sync at the end."""
    c = setup.login()
    c.send(wire.parse("", "copy t from stdin"), wire.bind(), wire.execute(), wire.SYNC)
    assert c.read_through("G").types == "12G"
    c.send(wire.pack("d", b"5\tv\n"), wire.pack("c"), wire.SYNC)
    result = c.read_ready()
    assert (result.types, result.tag, result.status) == ("CZ", "COPY 1", "I")
    assert c.value("select count(*) from t") == "1"
    assert c.is_silent()


def test_copy_in_a_multi_statement_query(setup):
    c = setup.login()
    c.send(wire.query("select 1; copy t from stdin; select 2"))
    assert c.read_through("G").types == "TDCG"
    c.send(wire.pack("d", b"1\tx\n"), wire.pack("c"))
    result = c.read_ready()
    assert result.tags == ["COPY 1", "SELECT 1"] and result.rows == [["2"]]


def test_two_copies_at_once_do_not_mix(make_pooler, cluster, database):
    db = database()
    cluster.sql("create table a(i int); create table b(i int); grant all on a, b to app", dbname=db)
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction"})
    one, two = p.login(), p.login()
    for c, table in ((one, "a"), (two, "b")):
        c.send(wire.query(f"copy {table} from stdin"))
        assert c.recv().type == "G"
    for n in range(200):
        one.send(wire.pack("d", b"1\n" * 100))
        two.send(wire.pack("d", b"2\n" * 100))
    for c in (one, two):
        c.send(wire.pack("c"))
        assert c.read_ready().tag == "COPY 20000"
    assert one.value("select min(i) || '-' || max(i) || '-' || count(*) from a") == "1-1-20000"
    assert one.value("select min(i) || '-' || max(i) || '-' || count(*) from b") == "2-2-20000"


def test_value_of_100_megabytes(make_pooler, cluster):
    """There and back, with a pooler whose memory stays small: large messages are passed on, not gathered."""
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.connect()
    size = 100 * 1024 * 1024
    c.execute("select 1")
    before = rss_kib(p.proc.pid)
    assert c.execute("select length(%s::text)", ("z" * size,)).fetchone() == (size,)
    value = c.execute("select repeat('y', %s)", (size,)).fetchone()[0]
    assert len(value) == size and value[0] == value[-1] == "y"
    grown = rss_kib(p.proc.pid) - before
    assert grown < 40 * 1024, f"{grown} KiB more than before"


def test_slow_reader_does_not_fill_the_memory(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c, other = p.login(), p.login()
    other.query("select 1")
    before = rss_kib(p.proc.pid)
    c.send(wire.query("select repeat('x', 10000) from generate_series(1, 20000)"))
    assert c.recv().type == "T"
    for _ in range(20):
        assert other.value("select 1") == "1"
    assert rss_kib(p.proc.pid) - before < 30 * 1024
    rows = c.read_ready()
    assert len(rows.rows) == 20000 and rows.tag == "SELECT 20000"


@pytest.mark.parametrize("size", [1, 100, 4070, 4096, 8191, 8192, 8193, 16384, 65530, 65536, 65541, 131072, 1 << 20])
def test_sizes_around_the_buffers(pooler, size):
    c = pooler.connect()
    for n in range(max(1, size - 3), size + 4):
        text = "ab" * (n // 2) + "Z" * (n % 2)
        assert c.execute("select %s::text", (text,)).fetchone() == (text,)


def test_rows_that_look_like_messages(pooler):
    """Headers inside of values must be taken for what they are."""
    c = pooler.login()
    fake = (wire.pack("Z", b"I") + wire.pack("E", b"SFATAL\0\0") + wire.pack("C", b"SELECT 1\0")).hex()
    for repeat in (1, 50, 3000):
        result = c.query(f"select repeat('Z', {repeat}), decode(repeat('{fake}', {repeat}), 'hex')")
        assert result.error is None and len(result.rows) == 1
        assert c.value("select 'next'") == "next"


def test_psycopg2_copy_expert(setup):
    psycopg2 = pytest.importorskip("psycopg2")
    c = psycopg2.connect(host="127.0.0.1", port=setup.port, dbname="app", user="app")
    c.autocommit = True
    try:
        cur = c.cursor()
        cur.copy_expert("copy t from stdin csv", io.StringIO("1,one\n2,two\n"))
        out = io.StringIO()
        cur.copy_expert("copy t to stdout csv", out)
        assert out.getvalue() == "1,one\n2,two\n"
        with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
            cur.copy_expert("copy t from stdin csv", io.StringIO("bad,one\n" + "3,x\n" * 20000))
        cur.execute("select count(*) from t")
        assert cur.fetchone() == (2,)
    finally:
        c.close()


def test_pipeline_of_large_inserts(setup):
    c = setup.connect()
    with c.pipeline():
        for i in range(300):
            c.execute("insert into t values (%s, %s)", (i, "v" * 10000))
    assert c.execute("select count(*), sum(length(s)) from t").fetchone() == (300, 3000000)
    assert isinstance(c, psycopg.Connection)
