"""The programs of PostgreSQL, and psycopg2, replicate through the pooler: backups, logs, standbys, subscriptions."""
import os
import select
import shutil
import signal
import subprocess
import time

import psycopg
import pytest
from harness import cluster as pg
from harness import procs
from harness.pooler import SECRETS
from harness.procs import wait_until
from harness.replication import MODES, replication_column

pytestmark = pytest.mark.newer


@pytest.fixture(scope="module")
def decoding(primary):
    """The plugin test_decoding, which some installations leave out."""
    try:
        primary.sql("select pg_create_logical_replication_slot('probe', 'test_decoding', true)")
    except psycopg.errors.UndefinedFile:
        pytest.skip("PostgreSQL has no test_decoding")


@pytest.fixture
def slots(primary):
    """Nothing of a test's slots is left for the next one."""
    yield
    procs.wait_until(
        lambda: not primary.sql("select 1 from pg_replication_slots where active"), "the slots are given back"
    )
    primary.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots")


def tool(p, name, *args, **kwargs):
    """Runs a tool of PostgreSQL against the pooler, as repl."""
    cmd = [f"{pg.bindir()}/{name}", "-h", "127.0.0.1", "-p", str(p.port), "-U", "repl", *args]
    return procs.run(cmd, env={**os.environ, "PGCONNECT_TIMEOUT": "20"}, **kwargs)


def spawn_tool(p, name, *args):
    cmd = [f"{pg.bindir()}/{name}", "-h", "127.0.0.1", "-p", str(p.port), "-U", "repl", *args]
    return procs.spawn(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def end_tool(proc, sig=signal.SIGINT):
    proc.send_signal(sig)
    try:
        out, _ = proc.communicate(timeout=20)
    finally:
        proc.kill()
    return out.decode()


@pytest.fixture
def work():
    path = procs.make_dir("sluicerepl-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("mode", MODES)
def test_base_backup(make_before_primary, primary, work, mode):
    """Two connections, one with the files, one that streams the WAL meanwhile; the backup is whole."""
    p = make_before_primary(mode)
    busy = p.login("app", "app")
    tool(p, "pg_basebackup", "-D", f"{work}/backup", "-X", "stream", "-c", "fast", "--no-sync")
    assert procs.run([f"{pg.bindir()}/pg_verifybackup", "-n", f"{work}/backup"]).returncode == 0
    assert busy.value("select 1") == "1"


def stream_through(primary, target):
    """Writes something, and returns where the log stands then."""
    primary.sql(f"create table if not exists {target}(i int)", dbname="app")
    primary.sql(f"insert into {target} select generate_series(1, 20000)", dbname="app")
    return primary.value("select pg_current_wal_flush_lsn()::text")


@pytest.mark.parametrize("mode", MODES)
def test_receivewal(make_before_primary, primary, work, slots, mode):
    p = make_before_primary(mode)
    proc = spawn_tool(p, "pg_receivewal", "-D", work, "--synchronous", "--create-slot", "--if-not-exists", "-S", "w")
    proc.communicate(timeout=20)
    proc = spawn_tool(p, "pg_receivewal", "-D", work, "--synchronous", "-S", "w", "-v")
    try:
        wait_until(lambda: primary.sql("select 1 from pg_stat_replication where state = 'streaming'"), "it streams")
        c = p.login("app", "app")
        lsn = stream_through(primary, "receivewal")
        wait_until(
            lambda: primary.sql("select 1 from pg_stat_replication where flush_lsn >= %s::pg_lsn", (lsn,)),
            "all was received and acknowledged",
        )
        assert c.value("select 1") == "1"
        assert replication_column(p, "servers") == ["none", "physical"]
    finally:
        out = end_tool(proc)
    assert "received interrupt signal" in out or "not streaming" in out or proc.returncode == 0, out
    p.wait_pool("replication", "repl", sv_active=0, cl_active=0)


@pytest.mark.parametrize("mode", MODES)
def test_recvlogical(make_before_primary, primary, slots, decoding, mode):
    """test_decoding: the rows of ordinary clients of the same pool come out, in order."""
    p = make_before_primary(mode)
    primary.sql("drop table if exists ord; create table ord(i int); grant all on ord to app, repl", dbname="app")
    tool(p, "pg_recvlogical", "-d", "app", "-S", "l", "--create-slot", "-P", "test_decoding")
    proc = spawn_tool(
        p, "pg_recvlogical", "-d", "app", "-S", "l", "--start", "-f", "-", "-F", "0", "-o", "include-xids=0"
    )
    try:
        c = p.login("repl", "app")
        for i in range(5):
            assert c.query(f"insert into ord select generate_series({i * 1000}, {i * 1000 + 999})").error is None
        seen = []
        out = b""
        while len(seen) < 5000:
            assert select.select([proc.stdout], [], [], 20)[0]
            out += os.read(proc.stdout.fileno(), 65536)
            lines, _, out = out.rpartition(b"\n")
            seen += [int(s.rsplit(b":", 1)[1]) for s in lines.splitlines() if b"INSERT" in s]
        assert seen == list(range(5000))
        assert replication_column(p, "servers") == ["logical", "none"]
        c.terminate()
    finally:
        end_tool(proc)
    p.wait_pool("app", "repl", sv_active=0)


@pytest.mark.parametrize("mode", MODES)
def test_psql(make_before_primary, mode):
    p = make_before_primary(mode)
    out = p.psql("-c", "IDENTIFY_SYSTEM", "-c", "select 41 + 1", dbname="dbname=app replication=database", user="repl")
    lines = out.stdout.splitlines()
    assert lines[0].count("|") == 3 and lines[1] == "42"


@pytest.fixture
def standby(work):
    """standby(pooler) makes a standby with pg_basebackup and starts it; it streams through that pooler."""
    made = []

    def make_one(p):
        name = f"standby{len(made)}"
        data = f"{work}/{name}"
        tool(p, "pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        s = pg.Cluster.of_data(data)
        made.append(s)
        with open(f"{data}/postgresql.auto.conf", "a") as f:
            f.write(f"port = {s.port}\nunix_socket_directories = '{s.dir}'\nwal_retrieve_retry_interval = 100ms\n")
        return s.start()

    yield make_one
    for s in reversed(made):
        s.remove()


def wait_replayed(s, lsn):
    wait_until(
        lambda: s.value("select pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,)), lambda: procs.tail(s.log), timeout=30
    )


def test_standby(make_before_primary, primary, standby):
    """It has what is written; the pooler shows it; when it goes, nothing of it is left."""
    p = make_before_primary()
    s = standby(p)
    wait_replayed(s, stream_through(primary, "standby_test"))
    assert s.value("select count(*) from standby_test", dbname="app") == 20000
    assert s.value("select pg_is_in_recovery()")
    assert replication_column(p, "clients", "C") == ["physical"]
    s.stop()
    p.wait_pool("replication", "repl", sv_active=0, cl_active=0)


def test_standby_follows_a_promotion(make_before_primary, make_pooler, primary, standby):
    """A standby of a standby, through poolers both: the second goes on, on its connection, with the new timeline."""
    first = standby(make_before_primary())
    p = make_pooler(
        {"replication": f"host=127.0.0.1 port={first.port}"},
        settings={"pool_mode": "transaction"},
        secrets={**SECRETS, "repl": ""},
    )
    second = standby(p)
    wait_replayed(second, stream_through(primary, "promotion_test"))
    mark = p.log_mark()
    assert first.value("select pg_promote()")
    wait_until(
        lambda: second.value("select count(*) from pg_stat_wal_receiver where received_tli = 2"),
        lambda: procs.tail(second.log),
        timeout=30,
    )
    first.sql("create table after_promotion(i int)", dbname="app")
    wait_replayed(second, first.value("select pg_current_wal_flush_lsn()::text"))
    assert second.value("select count(*) from after_promotion", dbname="app") == 0
    assert p.log_count("closing because", since=mark) == 0


def test_subscription(make_before_primary, primary, private_cluster, slots):
    """Logical replication from one PostgreSQL to another, the initial copy included."""
    p = make_before_primary()
    primary.sql("drop table if exists pubt; create table pubt(i int primary key)", dbname="app")
    primary.sql("insert into pubt select generate_series(1, 1000)", dbname="app")
    primary.sql("grant select on pubt to repl", dbname="app")
    primary.sql("drop publication if exists pub; create publication pub for table pubt", dbname="app")
    private_cluster.sql("create table pubt(i int primary key)", dbname="app")
    conninfo = f"host=127.0.0.1 port={p.port} user=repl dbname=app"
    private_cluster.sql(f"create subscription sub connection '{conninfo}' publication pub", dbname="app")
    try:
        count = "select count(*) from pubt"
        wait_until(lambda: private_cluster.value(count, dbname="app") == 1000, "the initial copy", timeout=30)
        primary.sql("insert into pubt select generate_series(1001, 2000)", dbname="app")
        wait_until(lambda: private_cluster.value(count, dbname="app") == 2000, "what came later", timeout=30)
    finally:
        private_cluster.sql("alter subscription sub disable", dbname="app")
        private_cluster.sql("alter subscription sub set (slot_name = none)", dbname="app")
        private_cluster.sql("drop subscription sub", dbname="app")


def test_psycopg2(make_before_primary, primary, slots, decoding):
    """Its logical replication connection: feedback goes back, the stream ends, large values come whole."""
    psycopg2 = pytest.importorskip("psycopg2")
    extras = pytest.importorskip("psycopg2.extras")
    p = make_before_primary()
    primary.sql("drop table if exists big; create table big(t text)", dbname="app")
    conn = psycopg2.connect(
        host="127.0.0.1",
        port=p.port,
        user="repl",
        dbname="app",
        connection_factory=extras.LogicalReplicationConnection,
    )
    cur = conn.cursor()
    cur.create_replication_slot("py", output_plugin="test_decoding")
    cur.start_replication(slot_name="py", decode=True, status_interval=1)
    primary.sql("insert into big values (repeat('x', 3000000))", dbname="app")
    got = []
    deadline = time.monotonic() + 30
    while not any("COMMIT" in m for m in got):
        assert time.monotonic() < deadline
        msg = cur.read_message()
        if msg is None:
            select.select([cur], [], [], 1)
            continue
        got.append(msg.payload)
        msg.cursor.send_feedback(flush_lsn=msg.data_start, force=True)
    insert = next(m for m in got if "INSERT" in m)
    assert insert.count("x") > 2999999
    conn.close()
    p.wait_pool("app", "repl", sv_active=0, cl_active=0)
