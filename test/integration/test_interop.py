"""
Programs of others that talk to the console: exporters, monitoring, shells, drivers.

Each runs as it is packaged. `contrib/packages.sh interop` installs them all; where one is missing its tests are skipped.
"""
import importlib.util
import os
import re
import shutil
import sys

import psycopg2
import pytest
from harness import procs
from harness.cluster import bindir

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")
JDBC = "/usr/share/java/postgresql.jar"
PROFILES = ["pgbouncer", "pgsluice"]


def needs(*programs):
    missing = [p for p in programs if not (os.path.exists(p) if "/" in p else shutil.which(p))]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: contrib/packages.sh interop")


@pytest.fixture(params=PROFILES)
def served(request, make_pooler):
    """A pooler of either profile with some traffic behind it, and a client inside a transaction."""
    p = make_pooler(
        profile=request.param,
        settings={"pool_mode": "transaction", "ignore_startup_parameters": "extra_float_digits"},
        threads=2,
    )
    with p.login() as c:
        for i in range(10):
            assert c.value(f"select {i}") == str(i)
    p.wait_pool(cl_active=0, sv_idle=1)  # or the next client comes before the server is free, and gets a new one
    p.busy = p.login()
    p.busy.query("begin")
    return p


# --- psql


def psql(p, *args, stdin=None):
    command = [f"{bindir()}/psql", "-X", "-h", "127.0.0.1", "-p", str(p.port), "-U", "admin", *args, "pgbouncer"]
    env = dict(os.environ, PGPASSWORD="adminpw", PAGER="cat")
    return procs.run(command, env=env, **({} if stdin is None else {"input": stdin, "stdin": None})).stdout


def test_psql_asks_again_and_again(served):
    """\\watch repeats the command until it is interrupted; psql 15 has no other end, so its reader goes away."""
    command = f"{bindir()}/psql -X -At -h 127.0.0.1 -p {served.port} -U admin pgbouncer -c 'SHOW POOLS \\watch 0.1'"
    env = dict(os.environ, PGPASSWORD="adminpw")
    shell = f"printf 'SHOW POOLS \\\\watch 0.1\\n' | {command.split(' -c ')[0]} 2>/dev/null | head -n 12"
    out = procs.run(["timeout", "100", "bash", "-c", shell], env=env, timeout=120).stdout
    rows = [line.split("|") for line in out.splitlines() if line.startswith("app|app|")]
    assert len(rows) >= 2
    assert all(row[2] == "1" for row in rows), "one client all the time"


def test_psql_formats_and_variables(served):
    out = psql(served, "-x", "-c", "SHOW DATABASES", "-c", "SHOW STATE")
    assert re.search(r"^name +\| app$", out, re.M) and re.search(r"^value \| yes$", out, re.M)
    assert psql(served, "-c", "SET verbose = 1", "-c", "SHOW CONFIG").startswith("SET")
    assert "Console usage" in procs.run(
        [f"{bindir()}/psql", "-X", "-h", "127.0.0.1", "-p", str(served.port), "-U", "admin", "-c", "SHOW HELP", "pgbouncer"],
        env=dict(os.environ, PGPASSWORD="adminpw"),
    ).stderr


# --- monitoring


@needs("check_postgres")
@pytest.mark.parametrize(
    "action, expected",
    [
        ("pgb_pool_cl_active", r"OK: .* app=1 "),
        ("pgb_pool_cl_waiting", r"OK: .* app=0 "),
        ("pgb_pool_sv_active", r"OK: .* app=1 "),
        ("pgb_pool_sv_idle", r"OK: .* app=0 "),
        ("pgb_pool_sv_login", r"OK: .* app=0 "),
        ("pgb_pool_maxwait", r"OK: .* app=0 "),
        ("pgbouncer_backends", r"OK: .* of 100(00)? connections"),
    ],
)
def test_check_postgres(served, action, expected):
    done = procs.run(
        ["check_postgres", f"--action={action}", "-H", "127.0.0.1", "-p", str(served.port), "-u", "stats"]
        + ["-db", "pgbouncer", "--warning=50", "--critical=90"],
        env=dict(os.environ, PGPASSWORD="statspw"),
        check=False,
    )
    assert done.returncode == 0 and re.search(expected, done.stdout + " "), done.stdout + done.stderr


EXPORTER = "/usr/lib/python3/dist-packages"


@needs("prometheus-pgbouncer-exporter")
def test_prometheus_exporter(served):
    """
    Debian's exporter asks for three columns that PgBouncer has renamed or dropped since, so its page as a whole fails with
    every PgBouncer of today too. Its own collectors are run one by one; those columns alone are put in place.
    """
    sys.path.append(EXPORTER)
    try:
        spec = importlib.util.find_spec("prometheus_pgbouncer_exporter.collectors")
        collectors = importlib.util.module_from_spec(spec)
        sys.modules["prometheus_pgbouncer_exporter.collectors"] = collectors
        spec.loader.exec_module(collectors)
        utils = importlib.import_module("prometheus_pgbouncer_exporter.utils")
    finally:
        sys.path.remove(EXPORTER)
    connection = psycopg2.connect(host="127.0.0.1", port=served.port, user="stats", password="statspw", dbname="pgbouncer")
    connection.autocommit = True
    renamed = {"total_requests": "total_query_count", "reserve_pool": "reserve_pool_size"}

    def metrics(collector):
        collector.metrics = {renamed.get(k, k): v for k, v in getattr(collector, "metrics", {}).items()}
        return {
            (s.name, tuple(sorted(s.labels.items()))): s.value for family in collector.collect() for s in family.samples
        }

    try:
        assert utils.get_data_by_named_row(connection, "LISTS")["databases"] >= 1
        lists = metrics(collectors.ListsCollector(connection=connection))
        pools = metrics(collectors.PoolsCollector(connection=connection, databases=None))
        stats = metrics(collectors.StatsCollector(connection=connection, databases=["app"]))
        sizes = metrics(collectors.DatabasesCollector(connection=connection, databases=None))
    finally:
        connection.close()
    app = (("database", "app"),)
    assert lists["pgbouncer_used_servers", ()] == 1
    assert pools["pgbouncer_active_clients", app + (("user", "app"),)] == 1
    assert stats["pgbouncer_requests_total", app] == 11
    assert stats["pgbouncer_sent_bytes_total", app] > stats["pgbouncer_received_bytes_total", app] > 100
    assert sizes["pgbouncer_pool_size", app] == 20


# --- shells and drivers


@needs("pgcli")
def test_pgcli(served):
    """It knows from the name of the database that there is no catalog."""
    env = dict(os.environ, PGPASSWORD="adminpw", HOME=served.dir, XDG_CONFIG_HOME=served.dir, PAGER="cat", COLUMNS="400")
    done = procs.run(
        ["timeout", "150", "pgcli", "-h", "127.0.0.1", "-p", str(served.port), "-U", "admin", "-d", "pgbouncer"],
        env=env,
        input="show pools;\nshow databases;\n",
        stdin=None,
        timeout=180,
    )
    assert re.search(r"\| app +\| app +\| 1 +\|", done.stdout), done.stdout
    assert re.search(r"\| app +\| 127.0.0.1 +\|", done.stdout), done.stdout


def jdbc(p, mode, *queries):
    url = f"jdbc:postgresql://127.0.0.1:{p.port}/pgbouncer?user=admin&password=adminpw&sslmode=disable&preferQueryMode={mode}"
    return procs.run(["java", "-cp", JDBC, f"{PROGRAMS}/Console.java", url, *queries], timeout=300).stdout.splitlines()


@needs("javac", JDBC)
def test_jdbc(served):
    """The simple protocol works under both profiles; the extended one is JDBC's default."""
    queries = ["SHOW POOLS", "SHOW STATS", "SHOW DATABASES", "SET verbose = 0", "RELOAD"]
    modes = ["simple"] + (["extended"] if served.profile == "pgsluice" else [])
    pools = 18 if served.profile == "pgsluice" else 17
    for mode in modes:
        assert jdbc(served, mode, *queries) == [
            f"SHOW POOLS: 2 rows, {pools} columns, the first is database text",
            "SHOW STATS: 2 rows, 25 columns, the first is database text",
            "SHOW DATABASES: 2 rows, 17 columns, the first is name text",
            "SET verbose = 0: no rows",
            "RELOAD: no rows",
        ]
