"""
Clients that outlive their server, `server_loss_action = error`: what each request is told, failed transactions that
pgsluice plays itself, and that nothing of a lost transaction is ever run on its own.
"""
import os
import signal
import threading

import psycopg
import pytest
from harness import wire
from harness.load import adds_up
from harness.procs import wait_until

pytestmark = pytest.mark.ours

ABORTED = "current transaction is aborted, commands ignored until end of transaction block"
TERMINATED = ("ERROR", "57P01", "terminating connection due to administrator command")
LOST = ("ERROR", "08006", "server conn crashed?")
REFUSED = ("ERROR", "25P02", ABORTED)
UNKNOWN = ("ERROR", "08007", "server connection was lost during COMMIT")


def told(result):
    return [(e.severity, e.code, e.text) for e in result.errors]


@pytest.fixture
def start(make_pooler, cluster, database):
    """A pooler before a database of its own, where table t is; start() returns it with a connection."""

    def make(mode="transaction", prepared=None, **settings):
        db = database()
        cluster.sql("create table t (i int); grant all on t to public", dbname=db)
        settings = {"pool_mode": mode, "server_loss_action": "error", **settings}
        p = make_pooler({"app": cluster.dsn(dbname=db)}, settings=settings)
        p.db = db
        p.cluster = cluster
        return p, p.login()

    return make


def rows(p):
    return [r[0] for r in p.cluster.sql("select i from t order by i", dbname=p.db)]


def terminate(p, pid=None):
    """Ends the backend of the session, or all of the database, and waits until the pooler has noticed."""
    which = "pid = %s" if pid else "datname = %s"
    p.cluster.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where {which}", (pid or p.db,))
    wait_until(lambda: not p.show("servers"), "the pooler noticed")


def in_transaction(p, c):
    c.query("begin")
    assert c.query("insert into t values (1)").status == "T"
    terminate(p)


def test_idle_in_transaction(start):
    """Nothing is said before the client says something; then the server's own words, as an ERROR."""
    p, c = start()
    in_transaction(p, c)
    assert c.is_silent()
    assert p.show("clients")[0]["state"] == "failed"
    r = c.query("insert into t values (2)")
    assert (told(r), r.status) == ([TERMINATED], "E")
    for sql in ("insert into t values (3)", "savepoint x", "rollback to x", "begin", "rollback and chain"):
        r = c.query(sql)
        assert (told(r), r.status) == ([REFUSED], "E")
    r = c.query("rollback; insert into t values (4)")
    assert (told(r), r.status) == ([REFUSED], "E")
    r = c.query("rollback")
    assert (r.errors, r.tags, r.status) == ([], ["ROLLBACK"], "I")
    assert c.query("insert into t values (5)").tags == ["INSERT 0 1"]
    assert rows(p) == [5]
    adds_up(p)


@pytest.mark.parametrize("sql", ["set local timezone = 'Asia/Tokyo'", "set timezone = 'Asia/Tokyo'", "reset timezone"])
@pytest.mark.parametrize("when", ["idle", "busy"])
def test_parameters_of_a_lost_transaction(start, sql, when):
    """They return to what they were before, as by ROLLBACK, and the client is told so."""
    p, c = start()
    c.query("set timezone = 'Asia/Kolkata'")
    c.query("begin")
    c.query("set timezone = 'Asia/Seoul'")
    assert c.query(sql).params["TimeZone"] != "Asia/Kolkata"
    told = {}
    if when == "idle":
        terminate(p)
    else:
        under_way(p, c, wire.query(SLEEP), until="%pg_sleep%")
        told = c.read_ready().params
    r = c.query("rollback")
    assert r.tags == ["ROLLBACK"]
    assert {**told, **r.params} == {"TimeZone": "Asia/Kolkata"}
    assert c.value("show timezone") == "Asia/Kolkata"
    c.query("set timezone = 'Asia/Seoul'")
    terminate(p)
    assert c.value("show timezone") == "Asia/Seoul", "what is committed stays"
    adds_up(p)


@pytest.mark.parametrize("sql", ["commit", "END", "commit work; "])
def test_commit_by_who_does_not_know(start, sql):
    """No driver may take it for a success: the transaction is lost, and this is the first that is said of it."""
    p, c = start()
    in_transaction(p, c)
    r = c.query(sql)
    assert (told(r), r.tags, r.status) == ([TERMINATED], [], "I")
    assert c.query("select 1").rows == [["1"]]
    assert rows(p) == []


def test_commit_by_who_knows(start):
    p, c = start()
    in_transaction(p, c)
    c.query("select 1")
    r = c.query("commit")
    assert (r.errors, r.tags, r.status) == ([], ["ROLLBACK"], "I")


def test_failed_transaction_that_is_lost(start):
    """The client knows that it has failed."""
    p, c = start()
    c.query("begin")
    assert c.query("nonsense").status == "E"
    terminate(p)
    r = c.query("select 1")
    assert (told(r), r.status) == ([REFUSED], "E")
    assert c.query("commit").tags == ["ROLLBACK"]


def under_way(p, c, *messages, until):
    """Sends messages, and ends the backend when it runs what has `until` in its text."""
    c.send(*messages)

    def running():
        return p.cluster.sql(
            "select pid from pg_stat_activity where datname = %s and state = 'active' and query like %s", (p.db, until)
        )

    wait_until(running, "the statement runs")
    p.cluster.sql("select pg_terminate_backend(%s)", (running()[0][0],))


SLEEP = "select pg_sleep(100)"


def test_statement_outside_of_a_transaction(start):
    p, c = start()
    under_way(p, c, wire.query(SLEEP), until="%pg_sleep%")
    r = c.read_ready()
    assert (told(r), r.status) == ([TERMINATED], "I")
    assert c.query("select 2").rows == [["2"]]
    adds_up(p)


def test_details_with_the_style_of_postgresql(start):
    p, c = start(error_style="postgres")
    c.query("begin")
    under_way(p, c, wire.query(SLEEP), until="%pg_sleep%")
    fields = c.read_ready().errors[0].fields
    assert fields["V"] == "ERROR" and "may or may not have taken effect" in fields["D"]
    fields = c.query("select 1").errors[0].fields
    assert "connection to its server was lost" in fields["D"] and "ROLLBACK" in fields["H"]
    fields = c.query("rollback; select 1").errors[0].fields
    assert "ROLLBACK alone" in fields["H"]


def test_statement_inside_of_a_transaction(start):
    p, c = start()
    c.query("begin")
    under_way(p, c, wire.query(SLEEP), until="%pg_sleep%")
    r = c.read_ready()
    assert (told(r), r.status) == ([TERMINATED], "E")
    r = c.query("insert into t values (1)")
    assert (told(r), r.status) == ([REFUSED], "E")
    assert c.query("abort").tags == ["ROLLBACK"]
    assert rows(p) == []


def test_several_statements_that_begin_a_transaction(start):
    """What comes behind them was meant to be a part of it."""
    p, c = start()
    under_way(p, c, wire.query(f"select 1; begin; {SLEEP}"), until="%pg_sleep%")
    r = c.read_ready()
    assert (told(r), r.status) == ([TERMINATED], "E")
    r = c.query("insert into t values (1)")
    assert (told(r), r.status) == ([REFUSED], "E")
    c.query("rollback")
    assert rows(p) == []


@pytest.mark.parametrize("sql", ["commit; " + SLEEP, "insert into t values (2); end; " + SLEEP])
def test_several_statements_that_commit(start, sql):
    """What was committed stays so, and the client is not told that it was lost."""
    p, c = start()
    c.query("begin")
    c.query("insert into t values (1)")
    under_way(p, c, wire.query(sql), until="%pg_sleep%")
    r = c.read_ready()
    assert (told(r), r.status) == ([UNKNOWN], "E")
    assert c.query("rollback").tags == ["ROLLBACK"]
    assert 1 in rows(p)


@pytest.mark.parametrize("sql, status", [("commit and chain", "E"), ("prepare transaction 'x'", "I")])
def test_other_ways_to_commit(make_pooler, fake_server, sql, status):
    """The server has done it, and goes before it says so."""

    def handler(conn, params):
        conn.greet()
        while sql.encode() not in conn.recv().body:
            conn.send(wire.pack("C", b"BEGIN\0") + wire.pack("Z", b"T"))

    p = make_pooler(
        {"app": fake_server(handler).dsn()}, settings={"pool_mode": "transaction", "server_loss_action": "error"}
    )
    c = p.login()
    assert c.query("begin").status == "T"
    r = c.query(sql)
    assert (told(r), r.status) == ([UNKNOWN], status)


@pytest.mark.parametrize("end", ["", ";"])
def test_long_statement_outside_of_a_transaction(start, end):
    """It is one, as is seen when it passes."""
    p, c = start()
    under_way(p, c, wire.query(f"select '{'x' * 200000}', pg_sleep(100){end}"), until="%xxx%")
    r = c.read_ready()
    assert (told(r), r.status) == ([TERMINATED], "I")
    assert c.value("select 1") == "1"
    adds_up(p)


@pytest.mark.parametrize("begin", ["select 1;", "begin;"])
def test_long_query_outside_of_a_transaction_closes_the_client(start, begin):
    """Several statements: the pooler has not looked at all of them, so it cannot know what they begin."""
    p, c = start()
    under_way(p, c, wire.query(f"select '{'x' * 200000}'; {begin} {SLEEP}"), until="%xxx%")
    assert told(c.expect_close()) == [("FATAL",) + TERMINATED[1:]]
    adds_up(p)


@pytest.mark.parametrize("end, error", [(", pg_sleep(100)", TERMINATED), (f"; commit; {SLEEP}", UNKNOWN)])
def test_long_query_inside_of_a_transaction(start, end, error):
    p, c = start()
    c.query("begin")
    under_way(p, c, wire.query(f"select '{'x' * 200000}'{end}"), until="%xxx%")
    r = c.read_ready()
    assert (told(r), r.status) == ([error], "E")
    r = c.query("select '" + "x" * 200000 + "'")
    assert (told(r), r.status) == ([REFUSED], "E")
    assert c.query("rollback").tags == ["ROLLBACK"]


def half_sent(p, c):
    """A Query of which a part has come when the server goes; returns the rest."""
    text = wire.query(f"select '{'x' * 200000}'")
    c.send(text[:100000])
    p.wait_pool("app", sv_active=1)
    terminate(p)
    return text[100000:]


def test_half_a_query_outside_of_a_transaction_closes_the_client(start):
    """The rest might begin a transaction."""
    p, c = start()
    half_sent(p, c)
    assert told(c.expect_close()) == [("FATAL",) + TERMINATED[1:]]
    adds_up(p)


def test_half_a_query_inside_of_a_transaction(start):
    p, c = start()
    c.query("begin")
    c.send(half_sent(p, c))
    r = c.read_ready()
    assert (told(r), r.status) == ([UNKNOWN], "E")
    assert c.query("rollback").tags == ["ROLLBACK"]


def test_pipeline_of_queries(start):
    """Each end that is owed gets its error; a COMMIT among them may have taken effect, for all that is known."""
    p, c = start()
    parts = ["begin", SLEEP, "insert into t values (1)", "commit", "select 1", "begin", "select 2"]
    under_way(p, c, *(wire.query(q) for q in parts), until="%pg_sleep%")
    assert c.read_ready().status == "T"
    results = [c.read_ready() for _ in parts[1:]]
    assert [r.status for r in results] == ["E", "E", "I", "I", "E", "E"]
    assert [told(r) for r in results] == [[TERMINATED], [TERMINATED], [UNKNOWN], [TERMINATED], [TERMINATED], [TERMINATED]]
    assert c.query("rollback").tags == ["ROLLBACK"]
    assert rows(p) == []
    assert c.value("select 1") == "1"
    adds_up(p)


@pytest.mark.parametrize("prepared", [0, 100])
def test_pipeline_of_batches(start, prepared):
    p, c = start(max_prepared_statements=prepared)
    batches = [
        wire.extended("begin") + wire.extended(SLEEP) + wire.SYNC,
        wire.extended("insert into t values (1)") + wire.SYNC,
        wire.extended("rollback") + wire.SYNC,
        wire.extended("select 1") + wire.SYNC,
    ]
    under_way(p, c, *batches, until="%pg_sleep%")
    results = [c.read_ready() for _ in batches]
    assert [r.status for r in results] == ["E", "E", "I", "I"]
    assert [told(r) for r in results] == [[TERMINATED]] * 4
    assert rows(p) == []
    c.send(wire.extended("select 7") + wire.SYNC)
    assert c.read_ready().rows == [["7"]]
    adds_up(p)


def test_batch_without_its_sync(start):
    """The error comes at once, and the rest of the batch is skipped."""
    p, c = start()
    under_way(p, c, wire.extended(SLEEP), wire.FLUSH, until="%pg_sleep%")
    r = c.read_through("E")
    assert told(r) == [TERMINATED]
    c.send(wire.extended("insert into t values (1)"), wire.query("insert into t values (2)"), wire.SYNC)
    r = c.read_ready()
    assert (r.types, r.status) == ("Z", "I")
    assert rows(p) == []
    assert c.query("select 1").rows == [["1"]]


def test_batch_without_its_sync_that_was_answered(start):
    """Its insert would have been committed by the Sync, and is lost: the client must not take it for done."""
    p, c = start()
    c.send(wire.extended("insert into t values (1)"), wire.FLUSH)
    assert c.read_through("C").tags == ["INSERT 0 1"]
    terminate(p)
    assert c.is_silent()
    c.send(wire.SYNC)
    r = c.read_ready()
    assert (told(r), r.status) == ([TERMINATED], "I")
    assert rows(p) == []
    assert c.query("select 1").rows == [["1"]]


def test_extended_protocol_in_a_failed_transaction(start):
    """As drivers use it: named and unnamed, prepared before and now."""
    p, c = start()
    c.send(wire.parse("old", "insert into t values (9)"), wire.parse("end", "ROLLBACK"), wire.SYNC)
    assert c.read_ready().types == "11Z"
    in_transaction(p, c)
    c.send(wire.bind("", "old"), wire.execute(), wire.SYNC)
    r = c.read_ready()
    assert (told(r), r.types, r.status) == ([TERMINATED], "EZ", "E")
    c.send(wire.extended("insert into t values (1)"), wire.extended("rollback"), wire.SYNC)
    r = c.read_ready()
    assert (told(r), r.types, r.status) == ([REFUSED], "EZ", "E")
    c.send(wire.parse("new", "rollback"), wire.describe("S", "new"), wire.SYNC)
    assert c.read_ready().types == "1tnZ"
    c.send(wire.bind("", "new"), wire.describe("P"), wire.execute(), wire.close("P"), wire.SYNC)
    r = c.read_ready()
    assert (r.types, r.tags, r.status) == ("2nC3Z", ["ROLLBACK"], "I")
    in_transaction(p, c)
    c.send(wire.bind("", "end"), wire.execute(), wire.SYNC)
    r = c.read_ready()
    assert (r.tags, r.status) == (["ROLLBACK"], "I")
    c.query("begin")
    c.send(wire.bind("", "new"), wire.execute(), wire.SYNC)  # on a real server
    assert c.read_ready().tags == ["ROLLBACK"]
    c.send(wire.bind("", "old"), wire.execute(), wire.SYNC)
    assert c.read_ready().tags == ["INSERT 0 1"]
    assert rows(p) == [9]
    adds_up(p)


def test_batch_that_goes_on_behind_the_rollback(start):
    p, c = start()
    in_transaction(p, c)
    c.send(wire.extended("rollback"), wire.extended("begin"), wire.extended("insert into t values (2)"), wire.SYNC)
    r = c.read_ready()
    assert (r.errors, r.tags, r.status) == ([], ["ROLLBACK", "BEGIN", "INSERT 0 1"], "T")
    c.query("commit")
    assert rows(p) == [2]
    adds_up(p)


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("simple", [True, False])
def test_copy_in(start, block, simple):
    p, c = start()
    if block:
        c.query("begin")
    sql = "copy t from stdin"
    c.send(wire.query(sql) if simple else wire.extended(sql) + wire.FLUSH)
    c.read_through("G")
    c.send(wire.pack("d", b"1\n"))
    terminate(p)
    if simple:
        r = c.read_ready()
        assert (told(r), r.status) == ([TERMINATED], "E" if block else "I")
        c.send(wire.pack("d", b"2\n"), wire.pack("d", b"3\n"), wire.pack("c"))
    else:
        assert told(c.read_through("E")) == [TERMINATED]
        c.send(wire.pack("d", b"2\n"), wire.pack("c"), wire.SYNC)
        assert c.read_ready().status == ("E" if block else "I")
    if block:
        assert told(c.query("select 1")) == [REFUSED]
        c.query("rollback")
    assert c.query("select 1").rows == [["1"]]
    assert rows(p) == []
    adds_up(p)


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("is_cut", [True, False])
def test_a_query_behind_a_copy_that_fails(start, mode, is_cut):
    """A client that sends on into a COPY of which the server wants no more gets all its answers, in whatever pieces."""
    p, c = start(mode)
    query = wire.query("begin; " + "select 1; " * 20000 + "commit")
    half = 1000 if is_cut else len(query)
    c.send(wire.query("copy t from stdin"))
    c.read_through("G")
    c.send(wire.pack("d", b"x\n") + wire.SYNC + query[:half])
    assert c.read_ready().error.code == "22P02"
    c.send(query[half:])
    assert c.read_ready().errors == []
    r = c.read_ready()
    assert (r.errors, len(r.rows), r.status) == ([], 20000, "I")
    assert c.query("select 7").rows == [["7"]]


def test_half_a_message_closes_the_client(start, make_pooler, fake_server):
    """The rest of it will never come, and nothing else can follow."""

    def handler(conn, params):
        conn.greet()
        conn.recv()
        conn.send(wire.pack("D", b"\0\1" + (1000).to_bytes(4, "big") + b"x" * 1000)[:500])

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "server_loss_action": "error"})
    c = p.login()
    c.send(wire.query("x"))
    with pytest.raises(AssertionError, match="torso"):
        c.expect_close()
    adds_up(p)


LAST_WORDS = {
    "nothing": (b"", LOST),
    "fatal": (
        wire.pack("E", b"SFATAL\0VFATAL\0C57P02\0Mterminating because of crash\0\0"),
        ("ERROR", "57P02", "terminating because of crash"),
    ),
    "long fatal": (
        wire.pack("E", b"SFATAL\0VFATAL\0C57P01\0Mthe end\0D" + b"d" * 40000 + b"\0\0"),
        ("ERROR", "57P01", "the end"),
    ),
    "long and cut": (
        wire.pack("E", b"SFATAL\0VFATAL\0C57P01\0Mthe end\0D" + b"d" * 90000 + b"\0\0")[:17000],
        ("ERROR", "57P01", "the end"),
    ),
    "garbage": (b"Z\xff\xff\xff\xff", ("ERROR", "08P01", "bad pkt header")),
    "unasked": (wire.pack("1"), ("ERROR", "08P01", "unknown pkt")),
}


@pytest.mark.parametrize("name", LAST_WORDS)
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_what_is_told_of_the_end(make_pooler, fake_server, name, mode):
    words, error = LAST_WORDS[name]

    def handler(conn, params):
        conn.greet()
        while conn.recv().body != b"lost\0":
            conn.send(wire.answer("x"))
        conn.send(words)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": mode, "server_loss_action": "error"})
    c = p.login()
    for _ in range(3):
        c.send(wire.query("lost"))
        r = c.read_ready()
        assert (told(r), r.status) == ([error], "I")
        assert c.query("x").rows == [["x"]]
    adds_up(p)


def test_long_errors(make_pooler, fake_server):
    """One that is not the end passes as it is; of one that is, the beginning of a long text is told."""

    def reply(sql):
        text = f"{sql} ".encode() * 5000
        if sql == "last":
            return wire.pack("E", b"SFATAL\0VFATAL\0C57P01\0M" + text + b"\0\0")
        return wire.pack("E", b"SERROR\0VERROR\0C22012\0M" + text + b"\0\0") + wire.pack("Z", b"I")

    server = fake_server(lambda conn, params: wire.serve_queries(conn, reply))
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "server_loss_action": "error"})
    c = p.login()
    assert told(c.query("first")) == [("ERROR", "22012", "first " * 5000)]
    (error,) = c.query("last").errors
    assert (error.severity, error.code) == ("ERROR", "57P01")
    assert error.text.startswith("last last") and len(error.text) > 1000
    adds_up(p)


@pytest.mark.parametrize("way", ["simple", "extended", "late sync", "pipeline"])
def test_an_error_is_told_once(make_pooler, fake_server, way):
    """Between its error and ReadyForQuery a request is owed the latter only."""
    told_it = threading.Event()
    error = wire.pack("E", wire.error_body("ERROR", "22012", "division by zero"))

    def handler(conn, params):
        conn.greet()
        while conn.recv().type not in "QE":
            pass
        if way == "extended":
            conn.recv()
        conn.send(error)
        if way == "late sync":
            conn.recv()
        else:
            told_it.wait(20)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "server_loss_action": "error"})
    c = p.login()
    sent = {"simple": wire.query("x"), "pipeline": wire.query("x") + wire.query("y")}
    c.send(sent.get(way, wire.extended("x") + (wire.SYNC if way == "extended" else b"")))
    m = c.recv()
    assert m.type == "E" and b"22012" in m.body
    if way == "late sync":
        c.send(wire.SYNC)
    told_it.set()
    r = c.read_ready()
    assert (r.types, r.status) == ("Z", "I")
    if way == "pipeline":
        r = c.read_ready()
        assert (told(r), r.status) == ([LOST], "I")
    adds_up(p)


@pytest.mark.parametrize("known", [True, False])
def test_commit_under_way(make_pooler, fake_server, known):
    """Nobody knows what became of it, and the session is outside of a transaction."""

    def handler(conn, params):
        conn.greet()
        while True:
            m = conn.recv()
            if m.type == "Q" and m.body == b"commit\0" or m.type == "S":
                return
            if m.type == "Q":
                conn.send(wire.pack("C", b"BEGIN\0"), wire.pack("Z", b"T"))

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "server_loss_action": "error"})
    c = p.login()
    assert c.query("begin").status == "T"
    c.send(wire.query("commit") if known else wire.extended("commit") + wire.SYNC)
    r = c.read_ready()
    assert (told(r), r.status) == ([UNKNOWN], "I")
    assert c.query("begin").status == "T"


def test_session_mode_closes_the_client(start):
    p, c = start("session")
    in_transaction(p, c)
    assert [e.code for e in c.expect_close().errors] == ["57P01", "08P01"]
    adds_up(p)


def test_statements_of_sql_close_the_client(start):
    """They were on that server only."""
    p, c = start()
    c.query("prepare x as select 1")
    terminate(p)
    assert c.expect_close().errors[-1].severity == "FATAL"
    adds_up(p)


def test_the_default_of_pgbouncer_closes_the_client(start):
    p, c = start(server_loss_action="disconnect")
    in_transaction(p, c)
    assert [e.severity for e in c.expect_close().errors] == ["FATAL", "FATAL"]


def test_the_default_of_pgsluice_keeps_the_client(make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction"}, profile="pgsluice")
    c = p.login()
    c.query("begin")
    cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (db,))
    assert c.query("select 1").errors[0].severity == "ERROR"
    assert c.query("rollback").status == "I"


def test_idle_in_a_failed_transaction(start):
    """idle_transaction_timeout goes on."""
    p, c = start()
    in_transaction(p, c)
    assert c.query("select 1").status == "E"
    p.admin("set idle_transaction_timeout = '0.2'")
    assert c.expect_error_close().text == "idle transaction timeout"
    adds_up(p)


def test_parameters_are_those_that_the_client_was_told(start):
    """The next server gets them as well."""
    p, c = start()
    c.query("set timezone = 'Europe/Berlin'")
    under_way(p, c, wire.query(SLEEP), until="%pg_sleep%")
    assert told(c.read_ready()) == [TERMINATED]
    assert c.value("show timezone") == "Europe/Berlin"


def test_server_that_dies_while_it_is_prepared(make_pooler, fake_server):
    """Nothing of the client's has gone to it: another one takes over, unseen."""
    seen = []

    def handler(conn, params):
        conn.greet()
        while True:
            sql = conn.recv().body[:-1].decode()
            seen.append(sql)
            if sql.startswith("SET") and len(seen) == 1:
                return
            if sql.startswith("SET"):
                conn.send(wire.pack("S", b"application_name\0mine\0"), wire.pack("C", b"SET\0"), wire.pack("Z", b"I"))
            else:
                conn.send(wire.answer(sql))

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "server_loss_action": "error"})
    c = p.login(params={"application_name": "mine"})
    assert c.query("x").rows == [["x"]]
    assert len(seen) == 3 and seen[2] == "x"


def test_servers_that_die_one_after_the_other_while_they_are_prepared(make_pooler, fake_server):
    """The request ends, as it would in the queue, and not the connection. A BEGIN is answered as one that has failed."""
    is_well, seen = threading.Event(), []

    def handler(conn, params):
        conn.greet()
        while True:
            sql = conn.recv().body[:-1].decode()
            seen.append(sql)
            if sql.startswith("SET"):
                if not is_well.is_set():
                    return
                conn.send(wire.pack("S", b"application_name\0mine\0"), wire.pack("C", b"SET\0"), wire.pack("Z", b"I"))
            else:
                conn.send(wire.answer(sql))

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "server_loss_action": "error"})
    c = p.login(params={"application_name": "mine"})
    result = c.query("x")
    assert (result.error.severity, result.error.code, result.status) == ("ERROR", "08006", "I")
    c.send(wire.query("begin"), wire.query("y"), wire.query("rollback"))
    assert [c.read_ready().status for _ in range(3)] == ["E", "E", "I"]
    is_well.set()
    assert c.query("z").rows == [["z"]]
    assert [sql for sql in seen if not sql.startswith("SET")] == ["z"]


def test_kill_9_and_immediate_stop(make_pooler, private_cluster):
    p = make_pooler(
        {"app": private_cluster.dsn()},
        settings={"pool_mode": "transaction", "server_loss_action": "error", "server_login_retry": 1},
    )
    conns = [p.login() for _ in range(4)]
    victim = None
    for c in conns:
        c.query("begin")
        victim = int(c.value("select pg_backend_pid()"))
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not p.show("servers"), "all servers are gone")
    for c in conns:
        assert told(c.query("select 1"))[0][1] in ("57P02", "08006")
        assert c.query("rollback").tags == ["ROLLBACK"]

    def works(c):
        return not c.query("begin").errors

    for c in conns:
        wait_until(lambda: works(c), "after the recovery", timeout=30, step=0.1)
    private_cluster.stop(signal.SIGQUIT)
    wait_until(lambda: not p.show("servers"), "all servers are gone")
    for c in conns:
        r = c.query("commit")
        assert r.errors and r.status == "I"
    private_cluster.start()


def test_psycopg(start):
    p, _ = start()
    with p.connect(autocommit=False) as c:
        c.execute("insert into t values (1)")
        terminate(p)
        with pytest.raises(psycopg.errors.AdminShutdown):
            c.execute("insert into t values (2)")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            c.execute("insert into t values (3)")
        c.rollback()
        for n in range(10):  # prepared on the way
            c.execute("insert into t values (%s)", (n + 10,))
        terminate(p)
        with pytest.raises(psycopg.errors.AdminShutdown):
            c.commit()
        assert not c.closed
        c.execute("insert into t values (%s)", (4,))
        c.commit()
    assert rows(p) == [4]


def test_psycopg_pipeline(start):
    p, _ = start()
    with p.connect(autocommit=False) as c:
        with pytest.raises(psycopg.Error), c.pipeline() as pipe:
            c.execute("insert into t values (1)")
            pipe.sync()
            terminate(p)
            c.execute("insert into t values (2)")
            c.execute("insert into t values (3)")
        c.rollback()
        assert c.execute("select 1").fetchone() == (1,)
        c.rollback()
    assert rows(p) == []


def bind(name):
    return wire.pack("B", wire.cstr("") + wire.cstr(name) + b"\0" * 6), wire.pack("E", wire.cstr("") + b"\0" * 4)


def end_the_sleeper(p):
    """The backend that runs pg_sleep()."""
    found = "select pid from pg_stat_activity where datname = %s and state = 'active' and query like '%%pg_sleep%%'"
    (pid,) = wait_until(lambda: p.cluster.sql(found, (p.db,)), "somebody sleeps")[0]
    p.cluster.sql("select pg_terminate_backend(%s)", (pid,))


def test_named_statement_that_is_not_kept_is_no_commit(start):
    """What was parsed last without a name says nothing about one that is bound by its name."""
    p, c = start(max_prepared_statements=0)
    c.send(wire.parse("ins", "insert into t select 1 from pg_sleep(100)"), wire.SYNC)
    c.read_ready()
    c.send(wire.extended("commit"), wire.SYNC)
    c.read_ready()
    c.query("begin")
    c.send(*bind("ins"), wire.SYNC)
    end_the_sleeper(p)
    r = c.read_ready()
    assert (told(r), r.status) == ([UNKNOWN], "E")
    assert told(c.query("insert into t values (7)")) == [REFUSED]
    assert rows(p) == []


def test_named_statement_that_is_not_kept_may_be_begin(start):
    """Whether the client is in a transaction is not known: it is closed."""
    p, c = start(max_prepared_statements=0)
    c.send(wire.parse("bg", "begin"), wire.SYNC)
    c.read_ready()
    c.send(wire.extended("select 1"), wire.SYNC)
    c.read_ready()
    c.send(*bind("bg"), wire.query("select pg_sleep(100)"))
    end_the_sleeper(p)
    c.expect_close()


def test_parse_alone_ends_nothing(start):
    """COMMIT that is prepared in a transaction, and not executed, when the server goes."""
    p, c = start(max_prepared_statements=0)
    c.query("begin")
    c.send(wire.parse("", "commit"), wire.query("select pg_sleep(100)"))
    end_the_sleeper(p)
    r = c.read_ready()
    assert r.status == "E"
    assert told(c.query("insert into t values (7)")) == [REFUSED]
    assert rows(p) == []


@pytest.fixture
def crowded(make_pooler, cluster, database):
    """A pool of one server that somebody holds in a transaction: crowded(settings) gives (pooler, holder, another)."""

    def make(**settings):
        db = database()
        cluster.sql("create table t (i int); grant all on t to public", dbname=db)
        p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"default_pool_size": 1, **settings}, profile="pgsluice")
        p.db, p.cluster = db, cluster
        holder = p.login()
        holder.query("begin")
        return p, holder, p.login()

    return make


BEGINS = {
    "simple": [wire.query("begin"), wire.query("insert into t values (1)"), wire.query("rollback")],
    "several": [wire.query("select 1; begin"), wire.query("insert into t values (1)"), wire.query("rollback")],
    "extended": [wire.extended(sql) + wire.SYNC for sql in ("begin", "insert into t values (1)", "rollback")],
}


@pytest.mark.parametrize("sent", ["at once", "later"])
@pytest.mark.parametrize("way", BEGINS)
def test_begin_that_is_refused_in_the_queue(crowded, way, sent):
    """What was pipelined behind it, or comes later, was meant for its transaction and must not run on its own."""
    p, holder, late = crowded()
    first, *rest = BEGINS[way]
    late.send(first + b"".join(rest) if sent == "at once" else first)
    p.wait_pool("app", cl_waiting=1)
    p.cancel(late.key)
    r = late.read_ready()
    assert ([e.code for e in r.errors], r.status) == (["57014"], "E")
    holder.query("commit")
    if sent == "later":
        late.send(*rest)
    r = late.read_ready()
    assert (told(r), r.status) == ([REFUSED], "E")
    r = late.read_ready()
    assert (r.errors, r.tags, r.status) == ([], ["ROLLBACK"], "I")
    assert late.query("insert into t values (2)").tags == ["INSERT 0 1"]
    assert rows(p) == [2]


LONG = "x" * 200000
PIECES = {
    "begin": (wire.query("begin"), 7, "E"),
    "end": (wire.query("begin"), -1, "E"),
    "second": (wire.query("select 1; begin"), 12, "E"),
    "behind much": (wire.query(f"select '{LONG}'; begin"), 60, "E"),
    "parse": (wire.extended("begin") + wire.SYNC, 9, "E"),
    "bind": (wire.extended("begin") + wire.SYNC, -20, "E"),
    "select": (wire.query("select 1"), 9, "I"),
    "much": (wire.query(f"select '{LONG}; begin'"), 60, "I"),
}


@pytest.mark.parametrize("what", PIECES)
def test_request_in_pieces_that_is_refused(crowded, what):
    """All of its text decides whether it might have begun a transaction."""
    p, holder, late = crowded(max_prepared_statements=0)
    request, cut, status = PIECES[what]
    late.send(request[:cut])
    p.wait_pool("app", cl_waiting=1)
    p.cancel(late.key)
    error = late.recv()
    assert error.type == "E"
    late.send(request[cut:], wire.query("insert into t values (1)"), wire.query("rollback"))
    assert late.read_ready().status == status
    holder.query("commit")
    assert late.read_ready().status == status
    assert late.read_ready().status == "I"
    assert rows(p) == ([1] if status == "I" else [])


def test_begin_that_finds_the_queue_full(crowded):
    p, holder, late = crowded(max_waiting_clients=1)
    waiter = p.login()
    waiter.send(wire.query("select 1"))
    p.wait_pool("app", cl_waiting=1)
    late.send(*BEGINS["simple"])
    r = late.read_ready()
    assert ([e.code for e in r.errors], r.status) == (["53300"], "E")
    r = late.read_ready()
    assert (told(r), r.status) == ([REFUSED], "E")
    assert late.read_ready().tags == ["ROLLBACK"]
    holder.query("commit")
    waiter.read_ready()
    assert rows(p) == []


def test_other_requests_that_are_refused_leave_no_transaction(crowded):
    p, holder, late = crowded()
    for request in (wire.query("select 1"), wire.extended("select 1") + wire.SYNC):
        late.send(request)
        p.wait_pool("app", cl_waiting=1)
        p.cancel(late.key)
        r = late.read_ready()
        assert ([e.code for e in r.errors], r.status) == (["57014"], "I")
    holder.query("commit")
    assert late.value("select 1") == "1"


def test_query_that_outlasts_its_cancellation(crowded):
    """cancel_grace is over: the server goes, the client stays, in its failed transaction."""
    p, holder, _ = crowded(query_timeout=1, cancel_grace=1)
    stubborn = "do $$ begin loop begin perform pg_sleep(100); exception when query_canceled then null; end; end loop; end $$"
    r = holder.query(stubborn)
    assert ([(e.severity, e.code) for e in r.errors], r.status) == ([("ERROR", "57014")], "E")
    assert holder.query("rollback").tags == ["ROLLBACK"]
    assert holder.value("select 1") == "1"
