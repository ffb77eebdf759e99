"""Cancel requests: they reach the running query of their client and nobody else's."""
import os
import random
import struct
import threading

import psycopg
import pytest
from harness import wire


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


def test_unknown_key(make_pooler):
    p = make_pooler()
    c = p.login()
    c.query("select 1")
    p.cancel(b"\x01" * 8)
    p.wait_for_log("failed cancel request")
    for length in (0, 4, 12, 32, 256):
        p.cancel(b"\x02" * length)
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
