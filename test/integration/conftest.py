"""
Fixtures of the integration tests.

One PostgreSQL cluster serves the whole run: the process that collects the results starts it and tells the xdist
workers where it is. `make_pooler` starts poolers that are stopped and inspected when the test is over, so each test
also asserts a clean exit, no failed assertion, no sanitizer report.
"""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from harness import bench as be  # noqa: E402
from harness import certs  # noqa: E402
from harness import cluster as pg  # noqa: E402
from harness import pooler as pl  # noqa: E402
from harness import procs, wire  # noqa: E402
from harness import slapd as ldap  # noqa: E402
from harness import standby as sb  # noqa: E402

_shared = {}


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long or many file descriptors; runs with --slow only")
    config.addinivalue_line("markers", "newer: behaviour that Debian's PgBouncer 1.18 does not have")
    config.addinivalue_line("markers", "ours: behaviour of pgsluice alone")
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        if not os.access(pl.binary(), os.X_OK):
            raise pytest.UsageError(f"no program to test at {pl.binary()}; set PGSLUICE to its path")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="needs --slow"))
        if pl.is_pgbouncer() and ("newer" in item.keywords or "ours" in item.keywords):
            item.add_marker(pytest.mark.skip(reason="PgBouncer under test"))


def _start_shared():
    if "cluster" not in _shared:
        template = pg.Cluster()
        template.start()
        template.create_objects()
        template.stop()
        _shared["template"] = template
        _shared["cluster"] = pg.Cluster(template.data).start()
    return {"cluster": _shared["cluster"].info(), "template": _shared["template"].data}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["shared"] = _start_shared()


def pytest_unconfigure(config):
    for name in ("cluster", "template"):
        if name in _shared:
            _shared.pop(name).remove()


@pytest.fixture(scope="session")
def shared_info(request):
    if hasattr(request.config, "workerinput"):
        return request.config.workerinput["shared"]
    return _start_shared()


@pytest.fixture(scope="session")
def cluster(shared_info):
    """The shared PostgreSQL; a test must not stop it or change its settings."""
    return pg.RemoteCluster(shared_info["cluster"])


@pytest.fixture
def private_cluster(shared_info):
    """A running PostgreSQL that the test may stop, kill and configure."""
    own = pg.Cluster(shared_info["template"])
    own.start()
    yield own
    own.remove()


@pytest.fixture(scope="session")
def primary(shared_info):
    """A PostgreSQL that replicates, with a role for that."""
    own = pg.Cluster(
        shared_info["template"],
        settings={
            "wal_level": "logical",
            "max_wal_senders": 20,
            "max_replication_slots": 20,
            "wal_sender_timeout": "60s",
            "full_page_writes": "on",
            "synchronous_commit": "on",  # what was committed is in what is flushed
            "max_connections": 100,
        },
        hba=["host replication all 127.0.0.1/32 trust"],
    )
    own.start()
    own.sql("create role repl login replication")
    yield own
    own.remove()


@pytest.fixture
def pair(shared_info):
    """A primary and a streaming standby at one port of two addresses; the test may do with them what it likes."""
    both = sb.Pair(shared_info["template"])
    yield both
    both.remove()


@pytest.fixture(scope="session")
def pki():
    """Certificates of every kind, made when they are asked for."""
    made = certs.Pki()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def slapd(pki):
    """An LDAP server with some people in it; a test must not stop it."""
    with ldap.Slapd(pki) as server:
        yield server


def tls_cluster_of(shared_info, pki, name, hba, **settings):
    """A PostgreSQL of the test's own with TLS and these lines in its pg_hba.conf."""
    files = pki.files("server")
    own = pg.Cluster(
        shared_info["template"],
        settings={
            "ssl": "on",
            "ssl_cert_file": files.cert,
            "ssl_key_file": files.key,
            "ssl_ca_file": pki.ca("root"),
            "hba_file": pki.write(f"hba-{name}.conf", "\n".join(hba) + "\n"),
            "max_connections": 100,
            **settings,
        },
    )
    return own.start()


@pytest.fixture(scope="session")
def tls_cluster(shared_info, pki):
    """A PostgreSQL that answers in TLS only; the role scramuser needs its password, the others none."""
    own = tls_cluster_of(
        shared_info,
        pki,
        "tls",
        ["local all all trust", "hostssl all scramuser all scram-sha-256", "hostssl all md5user all md5"]
        + ["hostssl all all all trust"],
    )
    yield own
    own.remove()


@pytest.fixture(scope="session")
def cert_cluster(shared_info, pki):
    """A PostgreSQL that demands a certificate of the root authority whose CN is the role's name."""
    own = tls_cluster_of(
        shared_info, pki, "cert", ["local all all trust", "hostssl all all all trust clientcert=verify-full"]
    )
    yield own
    own.remove()


@pytest.fixture
def database(cluster, request):
    """The name of a fresh database of role app, for tests that count backends."""
    names = []

    def create(template="template0"):
        name = f"t{os.getpid()}_{len(names)}_{abs(hash(request.node.nodeid)) % 10**8}"
        cluster.sql(f'create database "{name}" owner app template "{template}"')
        cluster.sql("grant all on schema public to public", dbname=name)
        names.append(name)
        return name

    yield create
    for name in names:
        cluster.sql(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def make_pooler(request, cluster):
    """make_pooler(databases, …) starts a pooler; without databases `app` leads to the shared cluster."""
    started = []
    request.node.poolers = started

    def make(databases=None, start=True, **kwargs):
        if databases is None:
            databases = {"app": cluster.dsn()}
        p = pl.Pooler(databases, **kwargs)
        started.append(p)
        if start:
            p.start()
        return p

    yield make
    failures = []
    for p in started:
        try:
            p.finish()
        except AssertionError as e:
            failures.append(str(e))
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


@pytest.fixture
def make_before_primary(make_pooler, primary):
    """A pooler before `primary`: database app, and `replication`, which is what the tools ask for."""

    def start(mode="transaction", dsn=None, **kwargs):
        dsn = dsn or {}
        kwargs["settings"] = {"pool_mode": mode, **kwargs.get("settings", {})}
        kwargs.setdefault("secrets", {**pl.SECRETS, "repl": ""})
        return make_pooler({"app": primary.dsn(dbname="app", **dsn), "replication": primary.dsn(**dsn)}, **kwargs)

    return start


@pytest.fixture
def pooler(make_pooler):
    """A pooler with the defaults of the harness: trust, session mode, database app."""
    return make_pooler()


@pytest.fixture
def bench(make_pooler, cluster, database):
    """bench(…settings) is a pooler and PostgreSQL beside it, with equal databases, to compare their answers."""
    made = []

    def make(**kwargs):
        made.append(be.Bench(make_pooler, cluster, database, **kwargs))
        return made[-1]

    yield make
    for b in made:
        b.reference.close()


@pytest.fixture
def fake_server():
    """fake_server(handler, …) starts a scripted server; what its handlers raised fails the test."""
    servers = []

    def make(handler, **kwargs):
        s = wire.FakeServer(handler, **kwargs)
        servers.append(s)
        return s

    yield make
    for s in servers:
        s.stop()
    failures = [f for s in servers for f in s.failures]
    assert not failures, f"fake server: {failures}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and call.when == "call":
        for p in getattr(item, "poolers", []):
            report.sections.append(("pooler's log", procs.tail(p.log, 40)))
