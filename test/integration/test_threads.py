"""Several worker threads: one set of limits, order among those who wait, and sessions that stay apart."""
import collections
import os
import random
import signal
import threading
import time

import pytest
from harness import procs, wire
from harness.load import adds_up, run_load
from harness.pooler import servers_of
from harness.procs import wait_until

pytestmark = pytest.mark.ours


def thread_count(p):
    with open(f"/proc/{p.proc.pid}/status") as f:
        return int([line.split()[1] for line in f if line.startswith("Threads:")][0])


def test_threads_setting(make_pooler):
    one, four = make_pooler(threads=1), make_pooler(threads=4)
    assert thread_count(four) - thread_count(one) == 3
    assert four.config()["threads"] == "4"
    assert four.login().value("select 1") == "1"


def test_login_threads(make_pooler):
    for login_threads in (0, 1, 3):
        p = make_pooler(settings={"login_threads": login_threads, "auth_type": "scram-sha-256"}, threads=2)
        for _ in range(6):
            assert p.login(password="apppw").value("select 1") == "1"
        assert p.login_error(password="wrong").text == "SASL authentication failed"


def nice_values(p):
    """The priority of each thread, by its name."""
    found = {}
    for tid in os.listdir(f"/proc/{p.proc.pid}/task"):
        with open(f"/proc/{p.proc.pid}/task/{tid}/stat") as f:
            name, _, rest = f.read().partition("(")[2].rpartition(")")
        found[name] = int(rest.split()[16])
    return found


def test_login_threads_yield(make_pooler):
    """They have a lower priority than the other threads, by as much as is set."""
    for settings, more in (({}, 10), ({"login_nice": 3}, 3), ({"login_nice": 0}, 0)):
        p = make_pooler(settings={"login_threads": 2, **settings}, threads=1)
        usual = nice_values(p)["worker0"]
        low = min(usual + more, 19)
        wait_until(lambda: [nice_values(p)[f"login{n}"] for n in (0, 1)] == [low, low], "both have it")
        assert set(nice_values(p).values()) <= {usual, low}


@pytest.mark.parametrize("threads", [2, 4, 16])
def test_one_pool_for_all_threads(make_pooler, cluster, database, threads):
    """pool_size is one number, whatever the number of threads; a single server serves them all."""
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=1)}, settings={"pool_mode": "transaction"}, threads=threads
    )
    conns = [p.login() for _ in range(threads * 2)]
    assert len({c.value("select pg_backend_pid()") for c in conns}) == 1
    assert servers_of(p.pool()) == 1
    for c in conns:
        c.send(wire.query("select pg_backend_pid()"))
    assert len({c.read_ready().rows[0][0] for c in conns}) == 1


def test_servers_travel_between_threads(make_pooler, cluster, database):
    """More clients on more threads than servers: all get on, none hangs, none gets another's rows."""
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=3)},
        settings={"pool_mode": "transaction", "log_connections": 0},
        threads=8,
    )
    wrong, done = [], collections.Counter()
    stop = threading.Event()

    def work(n):
        rng = random.Random(n)
        c = p.login(timeout=30)
        while not stop.is_set():
            done[n] += 1
            tag = f"{n}-{done[n]}"
            kind = rng.randrange(4)
            if kind == 0:
                c.send(wire.extended("select $1::text", [tag]), wire.SYNC)
                rows = c.read_ready().rows
            elif kind == 1:
                c.query("begin")
                rows = c.query(f"select '{tag}'").rows
                c.query("commit")
            elif kind == 2:
                c.send(wire.extended("select 1/0"), wire.SYNC, wire.query(f"select '{tag}'"))
                if c.read_ready().error.code != "22012":
                    wrong.append(tag)
                rows = c.read_ready().rows
            else:
                rows = c.query(f"select '{tag}'").rows
            if rows != [[tag]]:
                wrong.append((tag, rows))
                return

    clients = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(16)]
    for t in clients:
        t.start()
    # Who got a server only when the pooler looks around by itself, some times in a second, would not come so far.
    wait_until(
        lambda: wrong or (len(done) == 16 and min(done.values()) > 300),
        lambda: f"300 answers for everybody: {sorted(done.values())}\n{p.log_tail()}",
        timeout=60,
    )
    stop.set()
    for t in clients:
        t.join(30)
        assert not t.is_alive(), f"a client hangs\n{p.log_tail()}"
    assert not wrong, wrong
    row = p.wait_pool(sv_active=0, cl_waiting=0)
    assert servers_of(row) <= 3


@pytest.mark.parametrize("threads", [1, 4])
def test_waiters_are_served_in_their_order(make_pooler, threads):
    """First come, first served, over all threads; neighbours that came within a millisecond may swap."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1}, threads=threads)
    holder = p.login()
    waiters = [p.login() for _ in range(12)]
    holder.query("begin")
    for n, c in enumerate(waiters):
        c.send(wire.query("select clock_timestamp(), pg_sleep(0.01)"))
        p.wait_pool(cl_waiting=n + 1)
        time.sleep(0.005)
    holder.query("commit")
    times = [c.read_ready().rows[0][0] for c in waiters]
    assert times == sorted(times)


def test_parameters_and_cancel_across_threads(make_pooler, cluster):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1}, threads=4)
    conns = [p.login(params={"application_name": f"client {n}"}) for n in range(8)]
    for _ in range(4):
        for n, c in enumerate(conns):
            assert c.value("show application_name") == f"client {n}"
    for n, c in enumerate(conns):
        tag = f"threads-{os.getpid()}-{n}"
        c.send(wire.query(f"select pg_sleep(10) /* {tag} */"))
        cluster.wait_running(tag)
        p.cancel(c.key)
        assert c.read_ready().error.code == "57014"


@pytest.mark.parametrize("threads", [1, 4])
def test_clients_that_come_and_go(make_pooler, threads):
    """Connections in bursts from many sides; afterwards nothing is left of them."""
    p = make_pooler(
        settings={"pool_mode": "transaction", "default_pool_size": 5, "log_connections": 0, "log_disconnections": 0},
        threads=threads,
    )
    p.login().terminate()
    fds = procs.open_fds(p.proc.pid)
    failures = []

    def burst(seed):
        rng = random.Random(seed)
        try:
            for n in range(40):
                with wire.Conn.tcp(p.port, timeout=30) as c:
                    c.login()
                    if rng.random() < 0.8:
                        assert c.value(f"select {seed * 1000 + n}") == str(seed * 1000 + n)
                    end = rng.randrange(4)
                    if end == 0:
                        c.terminate()
                    elif end == 1:
                        c.send(wire.query("select pg_sleep(0.01)"))
                        c.reset()
                    elif end == 2:
                        c.send(wire.query("begin"), wire.query("select 1"))
        except Exception as e:
            failures.append(repr(e))

    crowd = [threading.Thread(target=burst, args=(n,), daemon=True) for n in range(8)]
    for t in crowd:
        t.start()
    for t in crowd:
        t.join(60)
        assert not t.is_alive(), p.log_tail()
    assert not failures, failures
    p.wait_no_clients()
    row = p.wait_pool(sv_active=0, cl_active=0, cl_waiting=0, sv_login=0)
    wait_until(
        lambda: procs.open_fds(p.proc.pid) <= fds + servers_of(p.pool()),
        lambda: f"descriptors: {procs.open_fds(p.proc.pid)}, before {fds}",
    )
    assert servers_of(row) <= 5


def test_session_mode_on_many_threads(make_pooler):
    p = make_pooler(settings={"default_pool_size": 4}, threads=4)
    for _ in range(3):
        conns = [p.login() for _ in range(4)]
        pids = [c.value("select pg_backend_pid()") for c in conns]
        assert len(set(pids)) == 4
        for n, c in enumerate(conns):
            c.query(f"set work_mem = '{64 + n}kB'")
        assert [c.value("show work_mem") for c in conns] == [f"{64 + n}kB" for n in range(4)]
        for c in conns:
            c.terminate()


@pytest.mark.parametrize("threads", [1, 4])
def test_everything_at_once(make_pooler, cluster, database, threads):
    """Reloads, pauses, dying backends, cancels and clients that vanish, all during work; then the books balance."""
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=4)},
        settings={
            "pool_mode": "transaction",
            "max_client_conn": 500,
            "log_connections": 0,
            "log_disconnections": 0,
            "log_pooler_errors": 0,
            "server_lifetime": 1,
        },
        threads=threads,
    )
    rng = random.Random(threads)

    def disturb():
        console = p.console()
        victims = [p.login(timeout=30) for _ in range(3)]
        for n in range(60):
            kind = n % 6
            if kind == 0:
                p.databases["app"] = cluster.dsn(dbname=db, pool_size=rng.randint(1, 8))
                p.write_files()
                p.signal(signal.SIGHUP)
            elif kind == 1:
                console.run("PAUSE")
                console.run("RESUME")
            elif kind == 2:
                cluster.sql(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and random() < 0.3",
                    (db,),
                )
            elif kind == 3:
                for v in victims:
                    v.send(wire.query("select pg_sleep(0.01)"))
                    p.cancel(v.key)
                    try:
                        v.read_ready()
                    except (wire.Closed, wire.PgError):
                        v.close()
                victims = [p.login(timeout=30) if v.sock.fileno() < 0 else v for v in victims]
            elif kind == 4:
                for _ in range(5):
                    c = p.login(timeout=30)
                    c.send(wire.query("begin"), wire.query("select pg_sleep(0.01)"))
                    c.reset()
            else:
                assert console.show("clients") and console.show("servers") is not None
        console.close()

    run_load(p, 10, disturb)
    adds_up(p)
