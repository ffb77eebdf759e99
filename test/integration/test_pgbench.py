"""pgbench: all query modes and scripts, few and many clients, one and several threads; the books must balance."""
import os
import re

import pytest
from harness import procs
from harness.cluster import bindir
from harness.pooler import servers_of


def pgbench(p, dbname, *args, timeout=120):
    """Run pgbench through the pooler; the number of transactions comes back."""
    cmd = [f"{bindir()}/pgbench", "-n", "-h", "127.0.0.1", "-p", str(p.port), "-U", "app", *args, dbname]
    done = procs.run(cmd, check=False, timeout=timeout, env={**os.environ, "PGCONNECT_TIMEOUT": "30"})
    text = done.stdout + done.stderr
    assert (
        done.returncode == 0 and "aborted" not in text and "ERROR" not in text
    ), f"{' '.join(args)}\n{text[-3000:]}\n{p.log_tail()}"
    failed = re.search(r"number of failed transactions: (\d+)", text)
    assert failed is None or failed[1] == "0", text
    return int(re.search(r"number of transactions actually processed: (\d+)", text)[1])


@pytest.fixture
def bench(make_pooler, cluster, database):
    def make(threads=None, **settings):
        db = database(template="bench")
        settings = {
            "pool_mode": "transaction",
            "default_pool_size": 20,
            "max_client_conn": 2000,
            "log_connections": 0,
            "log_disconnections": 0,
            **settings,
        }
        p = make_pooler({"bench": cluster.dsn(dbname=db)}, settings=settings, threads=threads)
        p.db, p.cluster = db, cluster
        return p

    return make


def balances(p, simple=False):
    """Every change of a balance has its line in the history, and nothing else has changed one."""
    sums = [
        p.cluster.value(f"select coalesce(sum({column}), 0) from {table}", dbname=p.db)
        for table, column in (
            ("pgbench_history", "delta"),
            ("pgbench_accounts", "abalance"),
            ("pgbench_tellers", "tbalance"),
            ("pgbench_branches", "bbalance"),
        )
    ]
    assert sums[1] == sums[0], sums
    if not simple:
        assert sums[2] == sums[3] == sums[0], sums
    return p.cluster.value("select count(*) from pgbench_history", dbname=p.db)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_tpcb_like(bench, threads):
    p = bench(threads)
    done = pgbench(p, "bench", "-c", "32", "-j", "2", "-t", "40")
    assert done == 32 * 40
    assert balances(p) == done
    p.wait_no_clients()
    row = p.pool("bench")
    assert servers_of(row) <= 20 and row["sv_active"] == 0 and row["cl_waiting"] == 0


@pytest.mark.parametrize(
    "mode",
    [
        "simple",
        pytest.param("extended"),
        pytest.param("prepared", marks=pytest.mark.newer),
    ],
)
@pytest.mark.parametrize("script", ["-S", "-N"])
@pytest.mark.parametrize("clients", [1, 32])
def test_modes_and_scripts(bench, mode, script, clients):
    p = bench(2)
    if mode == "prepared":
        # pgbench waits for one client's PQprepare while others of the same thread are inside of transactions.
        clients = min(clients, 20)
    done = pgbench(p, "bench", "-M", mode, script, "-c", str(clients), "-j", "2", "-t", str(40 if clients > 1 else 200))
    if script == "-N":
        assert balances(p, simple=True) == done


def test_prepared_in_session_mode(bench):
    p = bench(2, pool_mode="session")
    assert pgbench(p, "bench", "-M", "prepared", "-c", "16", "-j", "2", "-t", "30") == 16 * 30
    assert balances(p) == 16 * 30


@pytest.mark.parametrize("threads", [1, 4])
def test_a_connection_for_each_transaction(bench, threads):
    p = bench(threads)
    assert pgbench(p, "bench", "-C", "-S", "-c", "8", "-j", "2", "-t", "40") == 8 * 40
    assert pgbench(p, "bench", "-C", "-c", "8", "-j", "2", "-t", "10") == 8 * 10
    assert balances(p) == 80


def test_more_clients_than_servers(bench):
    """Extended protocol, 100 clients on 3 servers."""
    p = bench(4, default_pool_size=3)
    assert pgbench(p, "bench", "-M", "extended", "-c", "100", "-j", "2", "-t", "10") == 1000
    assert balances(p) == 1000


def test_two_users_and_databases_at_once(make_pooler, cluster, database):
    one, two = database(template="bench"), database(template="bench")
    p = make_pooler(
        {"one": cluster.dsn(dbname=one), "two": cluster.dsn(dbname=two)},
        settings={"pool_mode": "transaction", "max_client_conn": 200},
        threads=2,
    )
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda db: pgbench(p, db, "-c", "10", "-t", "30"), ("one", "two")))
    assert done == [300, 300]
    for p.db in (one, two):
        p.cluster = cluster
        assert balances(p) == 300


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("mode", ["simple", "extended"])
def test_a_thousand_clients(bench, threads, mode):
    p = bench(threads)
    assert pgbench(p, "bench", "-M", mode, "-c", "1000", "-j", "2", "-t", "10", timeout=300) == 10000
    assert balances(p) == 10000


@pytest.mark.slow
def test_a_thousand_clients_select_only(bench):
    p = bench(4)
    assert pgbench(p, "bench", "-S", "-c", "1000", "-j", "2", "-t", "50", timeout=300) == 50000
