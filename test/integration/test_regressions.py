"""Defects of the pools that a review found: each test but that of the cold pool failed before the repair."""
import glob
import select
import struct
import threading
import time

import pytest
from harness import wire
from harness.procs import thread_state, wait_until

pytestmark = pytest.mark.ours


class Script:
    """
    A fake server that keeps every message it gets, over all its connections; replies by reply(conn, sql).

    A login is not answered when greets() says so.
    """

    def __init__(self, fake_server):
        self.messages, self.reply, self.greets = [], lambda conn, sql: wire.answer(sql), lambda: True
        self.server = fake_server(self._handle)

    def _handle(self, conn, params):
        if self.greets():
            conn.greet()
        while True:
            m = conn.recv()
            self.messages.append(m)
            if m.type == "X":
                return
            if m.type == "S":
                conn.send(wire.pack("Z", b"I"))
            if m.type == "Q":
                out = self.reply(conn, m.body[:-1].decode().removeprefix("set local search_path to ''; "))
                if out is None:
                    return
                conn.send(out)


@pytest.fixture
def script(fake_server):
    return Script(fake_server)


def share_of_busy_samples(pid, samples=40):
    """How often a thread of the process was running or wanted to: 1.0 for one that spins, near 0 for one that waits."""
    busy = 0
    for _ in range(samples):
        for path in glob.glob(f"/proc/{pid}/task/*/stat"):
            if thread_state(path) == "R":
                busy += 1
                break
        time.sleep(0.005)
    return busy / samples


def send_until_unread(conn, data):
    """Send until the other side has stopped reading: all the buffers between are full, and stay so."""
    conn.sock.setblocking(False)
    while select.select([], [conn.sock], [], 0.2)[1]:
        conn.sock.send(data)


@pytest.mark.parametrize(
    "offence", [wire.pack("\x01"), b"Q" + struct.pack("!i", 2)], ids=["unknown message", "bad length"]
)
def test_next_client_does_not_complete_a_half_sent_message(make_pooler, script, offence):
    """The rest of a message came in one piece with what the client was closed for: it was never sent."""
    p = make_pooler({"app": script.server.dsn(pool_size=1)}, settings={"pool_mode": "transaction"})
    victim = p.login()
    assert victim.query("before").rows == [["before"]]
    rude = p.login()
    whole = wire.pack("H", b"z" * 40)
    rude.send(whole[:8])
    p.wait_pool(sv_active=1)
    rude.send(whole[8:], offence)
    rude.expect_error_close()
    sql = "after /* " + "x" * 64 + " */"
    assert victim.query(sql).rows == [[sql]]
    assert [(m.type, m.body) for m in script.messages if m.type != "X"] == [
        ("Q", b"before\0"),
        ("H", b"z" * 40),
        ("Q", sql.encode() + b"\0"),
    ]


def test_vanished_client_has_no_half_message_executed(make_pooler, cluster, database):
    """The goodbye to the server was taken for the missing end of the INSERT."""
    db = database()
    cluster.sql("create table t (v text); grant all on t to public", dbname=db)
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction"})
    c = p.login()
    c.send(wire.query("insert into t values ('abc') --a")[:-2])
    p.wait_pool(sv_active=1)
    c.close()
    wait_until(lambda: cluster.backends(db, "app") == 0, "the server is closed")
    assert cluster.value("select count(*) from t", dbname=db) == 0


def test_timed_out_client_has_no_half_message_executed(make_pooler, cluster, database):
    """The same when the pooler closes the server while the client is still linked."""
    db = database()
    cluster.sql("create table t (v text); grant all on t to public", dbname=db)
    p = make_pooler(
        {"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction", "query_timeout": 0.3}
    )
    c = p.login()
    c.send(wire.query("insert into t values ('abc') --a")[:-2])
    p.wait_for_log("closing because: query timeout")
    wait_until(lambda: cluster.backends(db, "app") == 0, "the server is closed")
    assert cluster.value("select count(*) from t", dbname=db) == 0


def test_cancels_that_time_out_together(make_pooler, fake_server):
    """The first one closes the server, which ends the others."""
    cancels, over, go = [], threading.Event(), threading.Event()

    def handle(conn):
        code, params = conn.read_startup()
        if code == wire.CODE_CANCEL:
            cancels.append(params["key"])
            over.wait(20)
            return
        wire.serve_queries(conn, lambda sql: wire.answer(sql) if sql != "slow" or go.wait(20) else None)

    server = fake_server(handle, raw=True)
    p = make_pooler({"app": server.dsn(pool_size=4)}, settings={"pool_mode": "transaction", "cancel_wait_timeout": 0})
    c = p.login()
    c.send(wire.query("slow"))
    p.wait_pool(sv_active=1)
    asking = [p.raw() for _ in range(3)]
    for a in asking:
        a.send(struct.pack("!ii", 16, wire.CODE_CANCEL) + c.key)
    wait_until(lambda: len(cancels) == 3, lambda: f"three cancel requests at the server, now {len(cancels)}")
    go.set()
    assert c.read_ready().rows == [["slow"]]
    p.wait_pool(sv_being_canceled=1)
    p.admin("SET cancel_wait_timeout = '0.1'")
    for a in asking:
        assert a.expect_close().messages == []
    assert c.query("next").rows == [["next"]]
    over.set()
    assert p.log_count("C-.*(cancel_wait_timeout|successfully sent cancel request)") == 3, "each ends once"


def test_database_removed_while_a_client_waits(make_pooler, cluster):
    """The waiting client's pool had no settings any more, and tried to open a server for ever."""
    p = make_pooler(
        {"app": cluster.dsn(pool_size=1), "other": cluster.dsn(dbname="app")},
        settings={"pool_mode": "transaction"},
        threads=1,
    )
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    del p.databases["app"]
    p.write_files()
    p.admin("RELOAD")
    assert waiter.expect_error_close().text == "database removed"
    assert holder.expect_error_close().text == "database removed"
    assert p.login(database="other").value("select 5") == "5"


def test_waiter_of_a_failed_check_gets_the_other_idle_server(make_pooler, script):
    """No further login succeeds here, so that the server that is there already is the only help."""
    both_run, armed, checks, served = threading.Barrier(2), threading.Event(), [], []

    def reply(conn, sql):
        if sql == "CHECK" and armed.is_set():
            checks.append(conn)
            return None if len(checks) == 1 else wire.answer(sql)
        if sql == "together":
            both_run.wait(10)
        served.append(conn)
        return wire.answer(sql)

    script.reply, script.greets = reply, lambda: script.server.logins <= 2
    p = make_pooler(
        {"app": script.server.dsn(pool_size=2)},
        settings={"pool_mode": "transaction", "server_check_delay": 0.001, "server_check_query": "CHECK"},
        threads=1,
    )
    clients = [p.login() for _ in range(2)]
    for c in clients:
        c.send(wire.query("together"))
    for c in clients:
        assert c.read_ready().rows == [["together"]]
    wait_until(lambda: p.pool()["sv_used"] == 2, "both servers are due for a check")
    armed.set()
    assert clients[0].query("after").rows == [["after"]]
    assert served[-1] is not checks[0]
    assert set(checks) == {checks[0], served[-1]}


def test_queued_client_that_resets_leaves_the_queue(make_pooler):
    """It has sent more than we keep of a client without a server: the rest is unread when the reset comes."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1}, threads=1)
    holder, queued = p.login(), p.login()
    holder.query("begin")
    queued.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    send_until_unread(queued, wire.pack("Q", b"x" * 16000 + b"\0"))
    assert share_of_busy_samples(p.proc.pid) < 0.5, "the worker spins over unread bytes"
    queued.reset()
    assert share_of_busy_samples(p.proc.pid) < 0.5, "the worker spins over a reset connection"
    p.wait_pool(cl_waiting=0)
    assert holder.query("commit").status == "I"


def test_disable_pqexec_holds_for_a_client_with_a_server(make_pooler, script):
    """The Sync before it got a server for the client; it is sent, the query is not."""
    p = make_pooler({"app": script.server.dsn()}, settings={"pool_mode": "transaction", "disable_pqexec": 1})
    c = p.login()
    c.send(wire.SYNC, wire.query("forbidden"))
    assert c.expect_error_close().text == "PQexec disallowed"
    wait_until(lambda: script.messages, "the Sync arrives")
    assert [m.type for m in script.messages if m.type != "X"] == ["S"]


def test_failed_reset_query_closes_the_server(make_pooler):
    """Nothing was reset, and the next client's SET was thought to have failed."""
    p = make_pooler(settings={"default_pool_size": 1, "server_reset_query": "select bogus"})
    pids = []
    for name in ("one", "two", "three"):
        c = p.login(params={"application_name": name})
        pids.append(c.value("select pg_backend_pid()"))
        assert c.value("show application_name") == name
        c.terminate()
    assert len(set(pids)) == 3, "a session that was not reset was given on"


def test_failed_check_query_does_not_fail_the_next_set(make_pooler):
    """An error in answer to the check shows a server that works; it says nothing about the SET that follows."""
    p = make_pooler(
        settings={
            "pool_mode": "transaction",
            "default_pool_size": 1,
            "server_check_delay": 0,
            "server_check_query": "select bogus",
        }
    )
    clients = {name: p.login(params={"application_name": name}) for name in ("one", "two")}
    pids = set()
    for name in ("one", "two", "one"):
        assert clients[name].value("show application_name") == name
        pids.add(clients[name].value("select pg_backend_pid()"))
    assert len(pids) == 1
    assert p.log_count("reset or check query failed") > 0


@pytest.mark.parametrize("user, password", [("nobody", "x"), ("app", "wrong")], ids=["unknown user", "wrong password"])
def test_no_auto_database_before_authentication(make_pooler, cluster, user, password):
    p = make_pooler({"*": cluster.dsn(dbname="app")}, settings={"auth_type": "md5"})
    for n in range(3):
        p.login_error(user, f"auto{n}", password)
    assert not p.log_count("registered new auto-database")
    assert not [row["name"] for row in p.show("databases") if row["name"].startswith("auto")]
    assert p.login("app", "auto0", "apppw").value("select 1") == "1"
    assert [row["name"] for row in p.show("databases") if row["name"].startswith("auto")] == ["auto0"]


def test_twenty_clients_at_a_cold_pool(make_pooler, script):
    """None of them is answered before all of them have a server."""
    all_run = threading.Barrier(20)

    def reply(conn, sql):
        all_run.wait(10)
        return wire.answer(sql)

    script.reply = reply
    p = make_pooler({"app": script.server.dsn(pool_size=20)}, settings={"pool_mode": "transaction"}, threads=1)
    clients = [p.login() for _ in range(20)]
    for c in clients:
        c.send(wire.query("work"))
    for c in clients:
        assert c.read_ready().rows == [["work"]]


def test_minimum_of_one_pool_does_not_stop_an_eviction_for_another(make_pooler, cluster):
    """The evicted server was replaced for min_pool_size before the waiting client of the other pool was looked at."""
    p = make_pooler(
        {"one": cluster.dsn(dbname="app"), "two": cluster.dsn(dbname="app")},
        settings={"pool_mode": "transaction", "max_user_connections": 1, "min_pool_size": 1},
        threads=1,
    )
    one, two = p.login(database="one"), p.login(database="two")
    one.query("begin")
    two.send(wire.query("select 2"))
    p.wait_pool("two", cl_waiting=1)
    one.query("commit")
    assert two.read_ready().rows == [["2"]]
