"""Every timeout: what it ends, what the client is told, and who is left alone."""
import threading
import time

import pytest
from harness import wire
from harness.procs import rss_kib, wait_until


def closed_with(conn, text, code="08P01"):
    error = conn.expect_error_close()
    assert (error.severity, error.code, error.text) == ("FATAL", code, text)


def test_query_wait_timeout(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1, "query_wait_timeout": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    started = time.monotonic()
    waiter.send(wire.query("select 1"))
    closed_with(waiter, "query_wait_timeout")
    assert time.monotonic() - started > 0.9
    assert holder.query("select 1").rows == [["1"]], "the holder is not the one who waits"
    p.wait_pool(cl_waiting=0)


def test_query_wait_timeout_runs_during_pause(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "query_wait_timeout": 1})
    c = p.login()
    c.query("select 1")
    assert p.admin("PAUSE") == "PAUSE"
    c.send(wire.query("select 1"))
    closed_with(c, "query_wait_timeout")


@pytest.mark.newer
def test_query_wait_timeout_per_database_and_user(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(pool_size=1), "quick": cluster.dsn(dbname="app", pool_size=1, query_wait_timeout=1)},
        settings={"pool_mode": "transaction", "query_wait_timeout": 60},
        users={"app2": "query_wait_timeout=0"},
    )
    for db, user in (("app", "app"), ("quick", "app"), ("quick", "app2")):
        p.login(user, db).query("begin")
    slow, quick, never = p.login("app", "app"), p.login("app", "quick"), p.login("app2", "quick")
    for c in (slow, quick, never):
        c.send(wire.query("select 1"))
    closed_with(quick, "query_wait_timeout")
    assert slow.is_silent() and never.is_silent()


@pytest.mark.newer
def test_query_wait_notify(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1, "query_wait_notify": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    m = waiter.recv()
    assert m.type == "N"
    fields = wire.fields_of(m.body)
    assert (fields["S"], fields["C"]) == ("NOTICE", "00000")
    assert fields["M"] == "No server connection available in postgres backend, client being queued"
    holder.query("commit")
    assert waiter.read_ready().rows == [["1"]]


def test_query_timeout(make_pooler):
    p = make_pooler(settings={"query_timeout": 1})
    c, other = p.login(), p.login()
    other.query("select 1")
    c.send(wire.query("select pg_sleep(20)"))
    closed_with(c, "query timeout")
    p.wait_for_log("closing because: query timeout")
    assert other.query("select 1").rows == [["1"]]


@pytest.mark.newer
def test_query_timeout_spares_an_idle_transaction(make_pooler):
    p = make_pooler(settings={"query_timeout": 1, "pool_mode": "transaction"})
    c = p.login()
    c.query("begin")
    time.sleep(1.7)
    assert c.query("select 1").rows == [["1"]]


@pytest.mark.newer
def test_query_timeout_per_user(make_pooler):
    p = make_pooler(users={"app2": "query_timeout=1"})
    c, other = p.login("app2"), p.login("app")
    other.send(wire.query("select pg_sleep(1.8)"))
    c.send(wire.query("select pg_sleep(20)"))
    closed_with(c, "query timeout")
    assert other.read_ready().error is None


def test_query_timeout_of_a_waiting_client(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1, "query_timeout": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    closed_with(waiter, "query_timeout")


def test_idle_transaction_timeout(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    idle, failed, busy, out = p.login(), p.login(), p.login(), p.login()
    idle.query("begin")
    failed.query("begin"), failed.query("select 1/0")
    busy.query("begin")
    busy.send(wire.query("select pg_sleep(1.8)"))
    out.query("select 1")
    p.admin("SET idle_transaction_timeout = 1")  # not before: the machine may be slow
    closed_with(idle, "idle transaction timeout")
    closed_with(failed, "idle transaction timeout")
    assert busy.read_ready().status == "T"
    busy.query("commit")
    assert out.query("select 1").rows == [["1"]]
    p.wait_pool(sv_active=0)


@pytest.mark.newer
def test_transaction_timeout(make_pooler):
    p = make_pooler(settings={"transaction_timeout": 1, "pool_mode": "transaction"})
    c, quick = p.login(), p.login()
    c.query("begin")
    with pytest.raises((wire.Closed, wire.PgError)) as ended:
        while True:
            result = c.query("select pg_sleep(0.1)")
            if result.error:
                raise result.error
            quick.query("select 1")
    messages = getattr(ended.value, "messages", None)
    assert messages and wire.Result(messages).error.text == "transaction timeout"
    assert quick.query("select 1").rows == [["1"]]


def test_client_idle_timeout(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    idle, working, in_transaction = p.login(), p.login(), p.login()
    idle.query("select 1")
    in_transaction.query("begin")
    working.send(wire.query("select pg_sleep(1.8)"))
    p.admin("SET client_idle_timeout = 1")  # not before: the machine may be slow
    closed_with(idle, "client_idle_timeout")
    assert working.read_ready().error is None
    assert in_transaction.query("select 1").rows == [["1"]]


@pytest.mark.newer
def test_client_idle_timeout_of_one_user_spares_the_others(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"}, users={"app2": "client_idle_timeout=1"})
    other, mine = p.login("app"), p.login("app2")
    mine.query("select 1"), other.query("select 1")
    closed_with(mine, "client_idle_timeout")
    assert other.query("select 1").rows == [["1"]]


@pytest.mark.parametrize(
    "first",
    [b"", b"\0\0", wire.startup_packet({"user": "app", "database": "app"})],
    ids=["silent", "torso", "no-password"],
)
def test_client_login_timeout(make_pooler, first):
    p = make_pooler(settings={"client_login_timeout": 1, "auth_type": "md5"})
    c = p.raw()
    started = time.monotonic()
    if first:
        c.send(first)
    closed_with_any = c.expect_close()
    assert closed_with_any.error.text == "client_login_timeout"
    assert time.monotonic() - started > 0.9


def test_client_login_timeout_with_server_down(make_pooler):
    """Authenticated, but the pool never had a server."""
    p = make_pooler({"app": "host=127.0.0.1 port=1"}, settings={"client_login_timeout": 1})
    c = p.raw()
    c.start()
    closed_with(c, "client_login_timeout (server down)")


def test_server_connect_timeout(make_pooler, fake_server):
    """A server that accepts and then says nothing."""
    silent = fake_server(lambda conn: conn.recv(), raw=True)
    p = make_pooler({"app": silent.dsn()}, settings={"server_connect_timeout": 1, "query_wait_timeout": 30})
    c = p.raw()
    c.start()
    p.wait_for_log("closing because: connect timeout")
    wait_until(lambda: silent.logins >= 2, "another attempt after server_login_retry")


@pytest.mark.newer
def test_timeouts_off_by_zero(make_pooler):
    p = make_pooler(
        settings={
            "query_wait_timeout": 0,
            "client_login_timeout": 0,
            "query_timeout": 0,
            "pool_mode": "transaction",
            "default_pool_size": 1,
            "cancel_wait_timeout": 0,
            "server_idle_timeout": 0,
        }
    )
    holder, waiter, slow = p.login(), p.login(), p.raw()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    assert wire.wait_silent(waiter, 1.2)
    slow.login()
    holder.query("commit")
    assert waiter.read_ready().rows == [["1"]]


def test_fractions_of_a_second(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1, "query_wait_timeout": "0.4"})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    started = time.monotonic()
    waiter.send(wire.query("select 1"))
    closed_with(waiter, "query_wait_timeout")
    assert time.monotonic() - started > 0.35


def test_queued_client_fills_no_memory(make_pooler):
    """What a waiting client sends stays in the kernel's buffers until it has a server."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    holder, waiter = p.login(), p.login(timeout=30)
    holder.query("begin")
    before = rss_kib(p.proc.pid)
    data = wire.query("select length('" + "x" * (20 << 20) + "')") + wire.query("select 'second'")
    sender = threading.Thread(target=waiter.send, args=(data,), daemon=True)
    sender.start()
    p.wait_pool(cl_waiting=1)
    sender.join(1)
    assert sender.is_alive(), "the pooler took 20 MB of a client that waits"
    assert rss_kib(p.proc.pid) - before < 10 * 1024
    holder.query("commit")
    assert waiter.read_ready().rows == [[str(20 << 20)]]
    assert waiter.read_ready().rows == [["second"]]


@pytest.mark.newer
def test_query_wait_timeout_of_a_user_alone(make_pooler):
    """It counts even where no other timeout has the queue looked through."""
    p = make_pooler(
        settings={
            "pool_mode": "transaction",
            "default_pool_size": 1,
            "query_wait_timeout": 0,
            "query_wait_notify": 0,
            "client_login_timeout": 0,
        },
        users={"app": "query_wait_timeout=1"},
    )
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    closed_with(waiter, "query_wait_timeout")


@pytest.mark.newer
@pytest.mark.parametrize(
    "name, text",
    [("idle_transaction_timeout", "idle transaction timeout"), ("transaction_timeout", "transaction timeout")],
)
def test_transaction_timeouts_per_user(make_pooler, name, text):
    p = make_pooler(settings={"pool_mode": "transaction", name: 30}, users={"app2": f"{name}=1", "app": f"{name}=0"})
    mine, other = p.login("app2"), p.login("app")
    mine.query("begin"), other.query("begin")
    closed_with(mine, text)
    assert other.query("commit").status == "I"


def test_timeouts_change_for_those_who_are_there(make_pooler):
    """SET counts for clients that logged in and began to wait before it."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    holder, waiter, idle = p.login(), p.login(), p.login()
    idle.query("select 1")
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    p.admin("SET query_wait_timeout = 1")
    closed_with(waiter, "query_wait_timeout")
    p.admin("SET client_idle_timeout = 1")
    closed_with(idle, "client_idle_timeout")
    p.admin("SET idle_transaction_timeout = 1")
    closed_with(holder, "idle transaction timeout")


@pytest.mark.ours
@pytest.mark.parametrize("timeout", ["0", "0.7"])
def test_small_server_connect_timeout(make_pooler, fake_server, timeout):
    """0 is no limit and a fraction is a fraction; neither makes a connect fail at once."""
    go = threading.Event()

    def handler(conn, params):
        assert go.wait(20)
        wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"server_connect_timeout": timeout, "server_login_retry": "0.1"})
    c = p.raw()
    c.start()
    wait_until(lambda: server.logins == 1, "the connection made")
    if timeout == "0":
        time.sleep(0.5)
        assert p.log_count("closing because") == 0
    else:
        p.wait_for_log("S-.* closing because: connect timeout")
    go.set()
    c.finish_login("app", None)
    assert c.value("select 1") == "ok"
