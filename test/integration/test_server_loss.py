"""Servers that die: one backend, all of them, the whole PostgreSQL; and one that is not there at the start."""
import os
import signal
import time

import psycopg
import pytest
from harness import procs, wire
from harness.load import adds_up, run_load
from harness.procs import wait_until


def test_terminated_idle_server_is_replaced_unseen(make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction"})
    c = p.login()
    for _ in range(3):
        pid = c.value("select pg_backend_pid()")
        cluster.sql("select pg_terminate_backend(%s)", (int(pid),))
        wait_until(lambda: not p.show("servers"), "the pooler noticed")
    assert c.value("select 1") == "1"
    adds_up(p)


def test_terminated_active_server(make_pooler, cluster, database):
    """The client gets the server's own FATAL and then ours."""
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction"})
    c, other = p.login(), p.login()
    c.query("begin")
    pid = int(c.value("select pg_backend_pid()"))
    other.query("select 1")
    cluster.sql("select pg_terminate_backend(%s)", (pid,))
    errors = c.expect_close().errors
    assert [(e.severity, e.code, e.text) for e in errors] == [
        ("FATAL", "57P01", "terminating connection due to administrator command"),
        ("FATAL", "08P01", "server conn crashed?"),
    ]
    assert other.value("select 2") == "2"
    adds_up(p)


def test_server_that_closes_without_a_word(make_pooler, fake_server):
    def handler(conn, params):
        conn.greet()
        conn.recv()

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction"})
    c = p.login()
    c.send(wire.query("x"))
    e = c.expect_error_close()
    assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "server conn crashed?")
    adds_up(p)


@pytest.mark.parametrize("threads", [1, 4])
def test_kill_9_of_a_backend(make_pooler, private_cluster, threads):
    """PostgreSQL throws out everybody and recovers; afterwards all goes on."""
    p = make_pooler({"app": private_cluster.dsn()}, settings={"pool_mode": "transaction"}, threads=threads)
    conns = [p.login() for _ in range(4)]
    for c in conns:
        c.query("begin")
    victim = int(conns[0].value("select pg_backend_pid()"))
    os.kill(victim, signal.SIGKILL)
    for c in conns:
        assert c.expect_close().errors[-1].text == "server conn crashed?"

    def works():
        try:
            return p.login().value("select 1") == "1"
        except (wire.PgError, wire.Closed):
            return False

    wait_until(works, "a login after the recovery", timeout=20, step=0.1)
    adds_up(p)


@pytest.mark.parametrize("threads", [1, 4])
def test_postgresql_down_at_start(make_pooler, private_cluster, threads):
    private_cluster.stop()
    p = make_pooler({"app": private_cluster.dsn()}, settings={"server_login_retry": 1}, threads=threads)
    conns = []
    for _ in range(8):
        c = p.raw(timeout=30)
        c.start()
        conns.append(c)
    p.wait_pool(cl_waiting=8)
    private_cluster.start()
    for c in conns:
        c.finish_login("app", None)
        assert c.value("select 1") == "1"
    adds_up(p)


@pytest.mark.parametrize("threads", [1, 4])
def test_first_query_after_an_outage(make_pooler, private_cluster, threads):
    """Who was greeted because a server is back must not be told, a moment later, that logins fail."""
    private_cluster.stop()
    p = make_pooler({"app": private_cluster.dsn()}, settings={"pool_mode": "transaction"}, threads=threads)
    conns = []
    for n in range(40):
        c = p.raw(timeout=30)
        c.send(wire.startup_packet({"user": "app", "database": "app"}), wire.query(f"select {n}"))
        conns.append(c)
    p.wait_pool(cl_waiting=40)
    private_cluster.start()
    for n, c in enumerate(conns):
        c.finish_login("app", None)
        assert c.read_ready().rows == [[str(n)]]
    adds_up(p)


@pytest.mark.parametrize("threads", [1, 4])
def test_restart_of_postgresql_under_load(make_pooler, private_cluster, threads):
    p = make_pooler(
        {"app": private_cluster.dsn(pool_size=5)},
        settings={"pool_mode": "transaction", "log_connections": 0, "log_disconnections": 0, "log_pooler_errors": 0},
        threads=threads,
    )
    fds = []

    def restart():
        fds.append(procs.open_fds(p.proc.pid) if procs.run_as() else 0)
        for how in (signal.SIGINT, signal.SIGQUIT):
            private_cluster.stop(how)
            time.sleep(0.3)
            private_cluster.start()

    run_load(p, 12, restart)
    adds_up(p)
    if procs.run_as():
        assert procs.open_fds(p.proc.pid) <= fds[0], "file descriptors were lost"


@pytest.mark.parametrize("threads", [1, 4])
def test_backends_terminated_under_load(make_pooler, cluster, database, threads):
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=5)},
        settings={"pool_mode": "transaction", "log_connections": 0, "log_disconnections": 0, "log_pooler_errors": 0},
        threads=threads,
    )

    def terminate():
        for _ in range(15):
            cluster.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and random() < 0.5", (db,)
            )
            time.sleep(0.03)

    run_load(p, 12, terminate)
    adds_up(p)


def test_server_goes_while_clients_queue(make_pooler, cluster, database):
    """Those who wait are served by the next server."""
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db, pool_size=1)}, settings={"pool_mode": "transaction"})
    holder = p.login()
    holder.query("begin")
    waiters = [p.login() for _ in range(5)]
    for n, c in enumerate(waiters):
        c.send(wire.query(f"select {n}"))
    p.wait_pool(cl_waiting=5)
    cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (db,))
    assert [c.read_ready().rows for c in waiters] == [[[str(n)]] for n in range(5)]
    adds_up(p)


def test_queued_client_that_leaves_is_noticed(make_pooler):
    """It must not get a server, whether it is noticed at once or when its turn comes."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    holder = p.login()
    holder.query("begin")
    gone = p.login()
    gone.send(wire.query("create table should_not_exist_of_a_ghost(i int)"))
    p.wait_pool(cl_waiting=1)
    gone.reset()
    last = p.login()
    last.send(wire.query("select 'last'"))
    p.wait_pool(cl_waiting=2) if p.pool()["cl_waiting"] == 2 else p.wait_pool(cl_waiting=1)
    holder.query("commit")
    assert last.read_ready().rows == [["last"]]
    adds_up(p)
    with p.connect() as c:
        c.execute("drop table if exists should_not_exist_of_a_ghost")


def test_psycopg_sees_an_operational_error(make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction"})
    c = p.connect(autocommit=False)
    pid = c.execute("select pg_backend_pid()").fetchone()[0]
    cluster.sql("select pg_terminate_backend(%s)", (pid,))
    with pytest.raises(psycopg.OperationalError):
        c.execute("select 1")
    assert c.closed
