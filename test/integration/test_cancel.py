"""Cancel requests: they reach the running query of their client and nobody else's."""
import os
import random
import struct
import threading

import psycopg
import pytest
from harness import wire
from harness.procs import wait_until


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_cancel_a_running_query(make_pooler, cluster, mode):
    p = make_pooler(settings={"pool_mode": mode})
    c = p.login()
    c.send(wire.query(f"select pg_sleep(20) /* cancel-{mode}-{os.getpid()} */"))
    cluster.wait_running(f"cancel-{mode}-{os.getpid()}")
    p.cancel(c.key)
    result = c.read_ready()
    assert (result.error.code, result.status) == ("57014", "I")
    assert c.value("select 1") == "1"
    p.wait_for_log("successfully sent cancel request")


def test_cancel_by_the_driver(make_pooler, cluster):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.connect()
    tag = f"driver-{os.getpid()}"
    raised = []

    def work():
        try:
            c.execute(f"select pg_sleep(20) /* {tag} */")
        except psycopg.errors.QueryCanceled as e:
            raised.append(e)

    t = threading.Thread(target=work)
    t.start()
    cluster.wait_running(tag)
    c.cancel()
    t.join(10)
    assert raised and c.execute("select 1").fetchone() == (1,)


def test_cancel_inside_a_transaction(make_pooler, cluster):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("begin")
    c.send(wire.query(f"select pg_sleep(20) /* intx-{os.getpid()} */"))
    cluster.wait_running(f"intx-{os.getpid()}")
    p.cancel(c.key)
    result = c.read_ready()
    assert (result.error.code, result.status) == ("57014", "E")
    assert c.query("rollback").status == "I"


def test_cancel_of_an_idle_client_does_nothing(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    p.cancel(c.key)
    p.wait_for_log("cancel request for idle client")
    assert c.value("select 2") == "2"


def test_cancel_of_an_idle_transaction_does_nothing(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("begin")
    p.cancel(c.key)
    assert c.query("select 2").rows == [["2"]]
    assert c.query("commit").status == "I"
    assert p.log_count("C-.* closing because: successfully sent cancel request") == 1


def test_unknown_key(make_pooler):
    p = make_pooler()
    c = p.login()
    c.query("select 1")
    p.cancel(b"\x01" * 8)
    p.wait_for_log("failed cancel request")
    lengths = (0, 4, 12, 32, 256)
    for length in lengths:
        p.cancel(b"\x02" * length)
    assert p.log_count(r"\(nodb\)/\(nouser\)@127.0.0.1:\d+ closing because: bad cancel request") == len(lengths)
    assert c.value("select 1") == "1"


def test_key_of_a_client_that_left(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    a.query("select 1")
    key = a.key
    a.terminate()
    b.send(wire.query("select pg_sleep(0.5), 'mine'"))
    for _ in range(5):
        p.cancel(key)
    assert b.read_ready().rows == [["", "mine"]]


def test_keys_are_unlike(make_pooler):
    p = make_pooler()
    keys = {p.login().key for _ in range(20)}
    assert len(keys) == 20
    for key in keys:
        changed = bytes([key[0], key[1] ^ 1]) + key[2:]
        p.cancel(changed)
        p.cancel(key[:7] + bytes([key[7] ^ 4]))
    assert p.log_count("successfully sent cancel request") == 0


@pytest.mark.ours
def test_cancel_of_a_queued_client(make_pooler, cluster):
    """The query that waits for a server is cancelled by us: 57014, and the client stays connected."""
    p = make_pooler(profile="pgsluice", settings={"pool_mode": "transaction", "default_pool_size": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 'never run'"))
    p.wait_pool(cl_waiting=1)
    p.cancel(waiter.key)
    result = waiter.read_ready()
    assert (result.error.severity, result.error.code, result.status) == ("ERROR", "57014", "I")
    assert not result.rows
    holder.query("commit")
    assert waiter.value("select 5") == "5"


@pytest.mark.parametrize("size", [10000, 60000, 200000])
@pytest.mark.parametrize("late", [False, True])
def test_cancel_of_a_queued_batch_with_a_long_text(make_pooler, cluster, size, late):
    """Nothing of it is run, however long its Parse, and whether the rest has come when it is cancelled or not."""
    p = make_pooler(profile="pgsluice", settings={"pool_mode": "transaction", "default_pool_size": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    batch = [wire.extended("select 'never run' -- " + "x" * size, statement="s"), wire.SYNC]
    waiter.send(batch[0], *([] if late else batch[1:]))
    p.wait_pool(cl_waiting=1)
    p.cancel(waiter.key)
    error = waiter.recv()
    assert (error.type, wire.fields_of(error.body)["C"]) == ("E", "57014")
    if late:
        waiter.send(wire.SYNC)
    assert waiter.read_ready().types == "Z"
    holder.query("commit")
    waiter.send(wire.extended("select 5"), wire.SYNC)
    result = waiter.read_ready()
    assert (result.types, result.rows) == ("12TDCZ", [["5"]])


def test_queued_client_cannot_be_cancelled_by_default(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 7"))
    p.wait_pool(cl_waiting=1)
    p.cancel(waiter.key)
    p.wait_for_log(r"\(nodb\)/\(nouser\)@127.0.0.1:\d+ closing because: cancel request for idle client")
    holder.query("commit")
    assert waiter.read_ready().rows == [["7"]]


class SlowServer:
    """
    A server whose query "slow" ends when .done is set, and which keeps the connections of cancel requests open until
    .delivered is. SET is answered when .parameters_set is.
    """

    def __init__(self, fake_server):
        self.cancels, self.queries = [], []
        self.done, self.delivered, self.parameters_set = (threading.Event() for _ in range(3))
        self.server = fake_server(self.serve, raw=True)

    def serve(self, conn):
        code, params = conn.read_startup()
        if code == wire.CODE_CANCEL:
            self.cancels.append(params["key"])
            self.delivered.wait(20)
            return
        conn.greet([("application_name", "")])
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            sql = m.body[:-1].decode()
            self.queries.append(sql)
            if sql.startswith("SET"):
                self.parameters_set.wait(20)
                conn.send(wire.pack("C", wire.cstr("SET")), wire.pack("Z", b"I"))
                continue
            if sql == "slow":
                self.done.wait(20)
            conn.send(wire.answer(sql))

    def pooler(self, make_pooler, pool_size=1, **settings):
        return make_pooler(
            {"app": self.server.dsn(pool_size=pool_size)}, settings={"pool_mode": "transaction", **settings}
        )

    def wait_cancels(self, n):
        wait_until(lambda: len(self.cancels) >= n, lambda: f"{n} cancel requests, now {self.cancels}")

    def release(self):
        for event in (self.done, self.delivered, self.parameters_set):
            event.set()


@pytest.fixture
def slow_server(fake_server):
    s = SlowServer(fake_server)
    yield s
    s.release()


def ask(p, key):
    """Sends a cancel request and leaves the connection open."""
    c = p.raw()
    c.send(struct.pack("!ii", 16, wire.CODE_CANCEL) + key)
    return c


def test_rows_of_a_request_under_way(make_pooler, slow_server):
    """From the arrival of a request to its end: SHOW POOLS, CLIENTS and SERVERS, and the server that is kept back."""
    p = slow_server.pooler(make_pooler)
    c = p.login()
    c.send(wire.query("slow"))
    p.wait_pool(sv_active=1)
    asking = [ask(p, c.key), ask(p, c.key)]
    p.wait_pool(cl_active_cancel_req=1, cl_waiting_cancel_req=1, sv_active_cancel=1, sv_active=1, sv_login=0)
    clients = {r["state"]: r for r in p.show("clients")}
    servers = {r["state"]: r for r in p.show("servers")}
    assert set(servers) == {"active", "active_cancel"}
    for row in (clients["active_cancel_req"], clients["waiting_cancel_req"]):
        assert (row["type"], row["user"], row["database"], row["wait"]) == ("C", "(nouser)", "app", 0)
    carrier = servers["active_cancel"]
    assert (carrier["user"], carrier["database"], carrier["port"]) == ("app", "app", slow_server.server.port)
    assert carrier["link"] == clients["active_cancel_req"]["ptr"]
    assert clients["active_cancel_req"]["link"] == carrier["ptr"] and clients["waiting_cancel_req"]["link"] == ""
    slow_server.done.set()
    assert c.read_ready().rows == [["slow"]]
    # The one that waits is not sent any more; the server is kept until the other has ended.
    assert asking[1].expect_close().messages == []
    p.wait_for_log(r"C-.*app/\(nouser\)@.* closing because: not sending cancel request for client that is now idle")
    p.wait_pool(cl_active_cancel_req=1, cl_waiting_cancel_req=0, sv_being_canceled=1, sv_active=0)
    assert not [r for r in p.show("sockets") if "cancel" in r["state"]]
    c.send(wire.query("next"))
    p.wait_pool(cl_waiting=1)
    slow_server.delivered.set()
    assert c.read_ready().rows == [["next"]]
    assert asking[0].expect_close().messages == []
    assert len(slow_server.cancels) == 1
    p.wait_pool(cl_active_cancel_req=0, sv_active_cancel=0, sv_being_canceled=0, sv_idle=1)


@pytest.mark.newer
def test_requests_can_be_killed(make_pooler, slow_server):
    """KILL_CLIENT finds them as it does clients; a server whose request was cut short serves nobody else."""
    p = slow_server.pooler(make_pooler)
    c = p.login()
    c.send(wire.query("slow"))
    p.wait_pool(sv_active=1)
    asking = [ask(p, c.key), ask(p, c.key)]
    p.wait_pool(cl_active_cancel_req=1, cl_waiting_cancel_req=1)
    ids = {r["state"]: r["id"] for r in p.show("clients")}
    for state, conn in (("waiting_cancel_req", asking[1]), ("active_cancel_req", asking[0])):
        assert p.admin(f"KILL_CLIENT {ids[state]}") == "KILL_CLIENT"
        assert conn.expect_close().messages == []
    p.wait_pool(cl_active_cancel_req=0, cl_waiting_cancel_req=0, sv_active_cancel=0)
    assert p.log_count(r"\(nouser\)@.* closing because: admin forced disconnect") == 2
    slow_server.done.set()
    assert c.read_ready().rows == [["slow"]]
    assert c.value("next") == "next"
    seen = slow_server
    wait_until(lambda: seen.server.logins == 1 + len(seen.cancels) + 1, "another server after the one that was kept back")


def test_log_lines_of_a_delivered_request(make_pooler, slow_server):
    p = slow_server.pooler(make_pooler)
    c = p.login()
    c.send(wire.query("slow"))
    p.wait_pool(sv_active=1)
    mark = p.log_mark()
    slow_server.delivered.set()
    p.cancel(c.key)
    port = slow_server.server.port
    assert p.log_count(rf"LOG S-0x\w+: app/app@127.0.0.1:{port} new connection to server \(from 127.0.0.1:\d+\)", mark) == 1
    for side in (r"S-0x\w+: app/app", r"C-0x\w+: app/\(nouser\)"):
        assert p.log_count(rf"LOG {side}@127.0.0.1:\d+ closing because: successfully sent cancel request \(age=\ds\)") == 1
    assert slow_server.cancels == [struct.pack("!ii", 4711, 1147)]


def test_no_more_than_twice_the_pool_size(make_pooler, slow_server):
    """Servers and connections with cancel requests together; the others wait and are sent in turn."""
    p = slow_server.pooler(make_pooler, pool_size=2)
    c = p.login()
    c.send(wire.query("slow"))
    p.wait_pool(sv_active=1)
    asking = [ask(p, c.key) for _ in range(6)]
    p.wait_pool(cl_active_cancel_req=3, cl_waiting_cancel_req=3)
    slow_server.wait_cancels(3)
    assert len(slow_server.cancels) == 3
    slow_server.delivered.set()
    for a in asking:
        assert a.expect_close().messages == []
    assert len(slow_server.cancels) == 6
    assert p.log_count("C-.* closing because: successfully sent cancel request") == 6


def test_cancel_while_parameters_are_set(make_pooler, slow_server):
    p = slow_server.pooler(make_pooler)
    first, second = p.login(), p.login(params={"application_name": "other"}.items())
    second.send(wire.query("mine"))
    wait_until(lambda: any(q.startswith("SET") for q in slow_server.queries), "the server is asked to SET")
    p.cancel(second.key)
    p.wait_for_log("closing because: ignoring cancel request for server that is setting vars")
    slow_server.parameters_set.set()
    assert second.read_ready().rows == [["mine"]]
    assert slow_server.cancels == []
    first.close()


def test_cancel_while_parameters_are_set_in_front_of_the_query(make_pooler, fake_server):
    """Values that a server has taken before are not waited for; the request is not to hit the SET, but the query."""
    held, cancelled, seen = threading.Event(), threading.Event(), []

    def serve(conn):
        code, params = conn.read_startup()
        if code == wire.CODE_CANCEL:
            seen.append("cancel")
            cancelled.set()
            return
        conn.greet([("application_name", "")])
        while (m := conn.recv()).type != "X":
            sql = m.body[:-1].decode()
            seen.append(sql)
            if sql.startswith("SET"):
                if sql.count("other") and seen.count(sql) > 1:
                    held.wait(20)
                value = sql.split("'")[1]
                conn.send(wire.pack("S", wire.cstr("application_name") + wire.cstr(value)))
                conn.send(wire.pack("C", wire.cstr("SET")), wire.pack("Z", b"I"))
            else:
                if sql == "slow":
                    cancelled.wait(20)
                conn.send(wire.answer(sql))

    server = fake_server(serve, raw=True)
    p = make_pooler({"app": server.dsn(pool_size=1)}, settings={"pool_mode": "transaction"})
    first = p.login(params={"application_name": "one"}.items())
    second = p.login(params={"application_name": "other"}.items())
    for c in (first, second, first):
        assert c.value("quick") == "quick"
    second.send(wire.query("slow"))
    wait_until(lambda: sum("other" in q for q in seen) == 2, "the server is asked to SET again")
    asking = ask(p, second.key)
    p.wait_pool(cl_waiting_cancel_req=1)
    assert "cancel" not in seen
    held.set()
    assert second.read_ready().rows == [["slow"]]
    assert asking.expect_close().messages == []
    assert seen[-2:] in (["slow", "cancel"], ["cancel", "slow"])
    assert seen.count("cancel") == 1


def test_console_cancel_without_log_lines(make_pooler):
    p = make_pooler(settings={"log_disconnections": 0})
    busy, console = p.login(), p.login("admin", "pgbouncer")
    busy.query("select 1")
    console.send(wire.query("PAUSE"))
    wait_until(lambda: p.show("state")[1]["value"] == "yes", "paused")
    p.cancel(console.key)
    assert console.read_ready().error.text == "canceled by the user"
    assert p.log_count("closing because") == 0


def test_cancel_while_the_pool_is_full(make_pooler, cluster):
    """The way to the server is open although pool_size, and the limits of database and user, are used up."""
    p = make_pooler(
        {"app": cluster.dsn(pool_size=1, max_db_connections=1)},
        settings={"pool_mode": "transaction", "max_user_connections": 1, "max_client_conn": 1},
    )
    c = p.login()
    c.send(wire.query(f"select pg_sleep(20) /* full-{os.getpid()} */"))
    cluster.wait_running(f"full-{os.getpid()}")
    p.cancel(c.key)
    assert c.read_ready().error.code == "57014"


def test_cancel_with_server_behind_unix_socket(make_pooler, cluster):
    p = make_pooler({"app": f"host={cluster.dir} port={cluster.port}"}, settings={"pool_mode": "transaction"})
    c = p.login()
    c.send(wire.query(f"select pg_sleep(20) /* unix-{os.getpid()} */"))
    cluster.wait_running(f"unix-{os.getpid()}")
    with p.raw_unix() as u:
        u.send(struct.pack("!ii", 16, wire.CODE_CANCEL) + c.key)
        u.expect_close()
    assert c.read_ready().error.code == "57014"


def test_half_a_cancel_request(make_pooler):
    p = make_pooler()
    c = p.raw()
    c.send(struct.pack("!ii", 16, wire.CODE_CANCEL) + b"\0\0\0")
    c.close()
    assert p.login().value("select 1") == "1"


@pytest.mark.parametrize("threads", [1, 4])
def test_late_cancel_never_hits_the_next_client(make_pooler, threads):
    """
    One client runs short queries and has them cancelled at random moments; others share its servers and never ask
    for a cancel: none of theirs may ever fail.
    """
    p = make_pooler(
        settings={
            "pool_mode": "transaction",
            "default_pool_size": 2,
            "max_client_conn": 1000,
            "log_connections": 0,
            "log_disconnections": 0,
        },
        threads=threads,
    )
    victim = p.login(timeout=30)
    innocent = [p.login(timeout=30) for _ in range(3)]
    stop, wrong, cancelled = threading.Event(), [], [0]

    def work(c, n):
        i = 0
        while not stop.is_set():
            i += 1
            result = c.query(f"select {n}, {i}, pg_sleep(0.002)")
            if result.error or result.rows[0][:2] != [str(n), str(i)]:
                wrong.append((n, i, result.messages))
                return

    def be_cancelled():
        while not stop.is_set():
            result = victim.query("select pg_sleep(0.004)")
            if result.error:
                cancelled[0] += 1
                if result.error.code != "57014":
                    wrong.append(("victim", result.error))

    threads_ = [threading.Thread(target=work, args=(c, n)) for n, c in enumerate(innocent)]
    threads_.append(threading.Thread(target=be_cancelled))
    for t in threads_:
        t.start()
    rng = random.Random(1)
    for _ in range(150):
        p.cancel(victim.key)
        threading.Event().wait(rng.random() * 0.004)
    stop.set()
    for t in threads_:
        t.join(30)
        assert not t.is_alive(), "a client got no answer"
    assert not wrong, wrong
    assert cancelled[0] > 0, "no cancel arrived in time"
    p.wait_pool(
        sv_active=0,
        cl_waiting=0,
        cl_active_cancel_req=0,
        cl_waiting_cancel_req=0,
        sv_active_cancel=0,
        sv_being_canceled=0,
    )
