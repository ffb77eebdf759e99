"""Session, transaction and statement pooling; which of them wins; what a reset query cleans."""
import psycopg
import pytest
from harness import wire
from harness.pooler import servers_of


def pids(*conns):
    return [c.value("select pg_backend_pid()") for c in conns]


def test_session_mode_keeps_the_server(make_pooler):
    p = make_pooler(settings={"default_pool_size": 2})
    a, b = p.login(), p.login()
    first = pids(a, b)
    assert first[0] != first[1]
    assert [pids(a, b) for _ in range(3)] == [first] * 3
    third = p.login()
    third.send(wire.query("select pg_backend_pid()"))
    p.wait_pool(cl_waiting=1, sv_active=2)
    a.terminate()
    assert third.read_ready().rows == [[first[0]]]


def test_transaction_mode_shares_a_server(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    assert len(set(pids(a, b, a, b))) == 1
    a.query("begin")
    b.send(wire.query("select 'b'"))
    p.wait_pool(cl_waiting=1, sv_active=1)
    assert b.is_silent()
    assert a.query("select 'a'").rows == [["a"]]
    assert a.query("commit").status == "I"
    assert b.read_ready().rows == [["b"]]


def test_transaction_mode_holds_through_a_failed_transaction(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    a.query("begin")
    assert a.query("select 1/0").status == "E"
    b.send(wire.query("select 'b'"))
    p.wait_pool(cl_waiting=1)
    assert a.query("select 1").error.code == "25P02"
    assert a.query("rollback").status == "I"
    assert b.read_ready().rows == [["b"]]


def test_no_leftover_of_an_abandoned_transaction(make_pooler, cluster, database):
    """The client goes in the middle of a transaction: its server is not given to anybody else."""
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    a.query("create table t(i int)")
    a.query("begin; insert into t values (1)")
    (pid,) = pids(a)
    a.close()
    assert b.value("select count(*) from t") == "0"
    assert pids(b) != [pid]
    p.wait_for_log("closing because: client disconnect while server was not ready")


def test_statement_mode(make_pooler):
    p = make_pooler(settings={"pool_mode": "statement", "default_pool_size": 1})
    a, b = p.login(), p.login()
    assert len(set(pids(a, b, a))) == 1
    assert a.query("select 1; select 2").rows == [["1"], ["2"]]
    a.send(wire.query("begin"))
    result = a.expect_close()
    assert result.error.code == "08P01"
    assert result.error.text == "transaction blocks not allowed in statement pooling mode"
    assert b.value("select 1") == "1"


def test_precedence_user_over_database_over_global(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(), "tx": cluster.dsn(dbname="app", pool_mode="transaction")},
        settings={"pool_mode": "session"},
        users={"app2": "pool_mode=statement"},
    )
    for db, user in (("app", "app"), ("tx", "app"), ("tx", "app2")):
        p.login(user, db).query("select 1")
    assert p.pool("app", "app")["pool_mode"] == "session"
    assert p.pool("tx", "app")["pool_mode"] == "transaction"
    assert p.pool("tx", "app2")["pool_mode"] == "statement"
    c = p.login("app2", "tx")
    c.send(wire.query("begin"))
    assert c.expect_close().error.text == "transaction blocks not allowed in statement pooling mode"
    c = p.login("app", "tx")
    assert c.query("begin").status == "T"


def test_session_reset_query(make_pooler):
    """DISCARD ALL runs before the next client gets the server."""
    p = make_pooler(settings={"default_pool_size": 1})
    a = p.login()
    (pid,) = pids(a)
    a.query("set work_mem = '77MB'")
    a.query("prepare stmt as select 1")
    a.query("create temp table leftover(i int)")
    a.query("listen chan")
    a.query("select pg_advisory_lock(42)")
    a.send(wire.parse("named", "select 2"), wire.SYNC)
    a.read_ready()
    a.terminate()
    b = p.login()
    assert pids(b) == [pid]
    assert b.value("show work_mem") != "77MB"
    assert b.value("select count(*) from pg_prepared_statements") == "0"
    assert b.value("select count(*) from pg_class where relname = 'leftover'") == "0"
    assert b.value("select count(*) from pg_listening_channels()") == "0"
    assert b.value("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == "0"


def test_reset_query_waits_for_nobody(make_pooler):
    """Also when the client disappears without Terminate."""
    p = make_pooler(settings={"default_pool_size": 1})
    a = p.login()
    (pid,) = pids(a)
    a.query("set work_mem = '77MB'")
    a.reset()
    b = p.login()
    assert pids(b) == [pid]
    assert b.value("show work_mem") != "77MB"


def test_listen_notify_in_session_mode(make_pooler):
    p = make_pooler()
    a, b = p.connect(), p.connect()
    a.execute("listen news")
    b.execute("notify news, 'hello'")
    note = next(a.notifies())
    assert (note.channel, note.payload) == ("news", "hello")


def test_named_statements_in_session_mode(make_pooler):
    p = make_pooler(settings={"default_pool_size": 5})
    conns = [p.connect(prepare_threshold=0) for _ in range(3)]
    for round_ in range(3):
        for n, c in enumerate(conns):
            assert c.execute("select %s::int + %s::int", (n, round_)).fetchone() == (n + round_,)
    assert conns[0].execute("select count(*) > 0 from pg_prepared_statements").fetchone() == (True,)


def test_cursors_in_session_and_transaction_mode(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "tx": cluster.dsn(dbname="app", pool_mode="transaction")})
    for db in ("app", "tx"):
        c = p.connect(db)
        with c.transaction(), c.cursor(name="big") as cur:
            cur.itersize = 10
            cur.execute("select generate_series(1, 95)")
            assert sum(row[0] for row in cur) == 95 * 96 // 2


def test_what_stays_with_the_server_in_transaction_mode(make_pooler):
    """Nothing holds it back: what a session leaves there is for whoever comes next, until a server goes."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    for sql in (
        "listen news",
        "select pg_advisory_lock(1)",
        "create temp table mine as select 'of a' as v",
        "set work_mem = '1234kB'",
        "begin; declare cur cursor with hold for select 'held'; commit",
    ):
        assert a.query(sql).error is None
    assert b.value("select * from pg_listening_channels()") == "news"
    assert b.value("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == "1"
    assert b.value("select v from mine") == "of a"
    assert b.value("show work_mem") == "1234kB"
    assert b.value("fetch cur") == "held"
    b.query("notify news, 'hello'")
    assert p.admin("RECONNECT") == "RECONNECT"
    assert a.query("select v from mine").error.code == "42P01"
    assert a.value("show work_mem") != "1234kB"


def test_session_mode_autocommit_off(pooler):
    c = pooler.connect(autocommit=False)
    c.execute("create temp table t(i int)")
    c.rollback()
    with pytest.raises(psycopg.errors.UndefinedTable):
        c.execute("select * from t")


@pytest.mark.ours
def test_profile_pgsluice_defaults_to_transaction_mode(make_pooler):
    p = make_pooler(profile="pgsluice", settings={"default_pool_size": 1})
    a, b = p.login(), p.login()
    assert len(set(pids(a, b))) == 1
    assert p.pool()["pool_mode"] == "transaction"


def test_pool_mode_of_reload(make_pooler):
    """A link re-evaluates its mode when it may release."""
    p = make_pooler(settings={"default_pool_size": 1, "pool_mode": "session"})
    a = p.login()
    a.query("select 1")
    assert p.pool()["sv_active"] == 1
    p.settings["pool_mode"] = "transaction"
    p.write_files()
    p.admin("RELOAD")
    a.query("select 1")
    b = p.login()
    assert b.value("select 2") == "2"
    row = p.wait_pool(sv_active=0, pool_mode="transaction")
    assert servers_of(row) == 1
