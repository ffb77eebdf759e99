"""
Replication through the pooler, logical and physical: a server of its own for each client, in any pool mode, beside
ordinary clients of the same pool; with the tools of PostgreSQL, and with a scripted server where exact moments matter.
"""
import os
import select
import shutil
import signal
import struct
import subprocess
import threading
import time

import psycopg
import pytest
from harness import cluster as pg
from harness import procs, wire
from harness.pooler import SECRETS, servers_of
from harness.procs import wait_until

MODES = ("session", "transaction", "statement")
LOGICAL = {"replication": "database"}
PHYSICAL = {"replication": "yes"}


@pytest.fixture(scope="module")
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
            "max_connections": 100,
        },
        hba=["host replication all 127.0.0.1/32 trust"],
    )
    own.start()
    own.sql("create role repl login replication")
    yield own
    own.remove()


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


@pytest.fixture
def make(make_pooler, primary):
    """A pooler before `primary`: database app, and `replication`, which is what the tools ask for."""

    def start(mode="transaction", dsn=None, **kwargs):
        dsn = dsn or {}
        kwargs["settings"] = {"pool_mode": mode, **kwargs.get("settings", {})}
        kwargs.setdefault("secrets", {**SECRETS, "repl": ""})
        return make_pooler({"app": primary.dsn(dbname="app", **dsn), "replication": primary.dsn(**dsn)}, **kwargs)

    return start


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


def identify(conn):
    """IDENTIFY_SYSTEM over a raw connection: a row of four columns."""
    result = conn.query("IDENTIFY_SYSTEM")
    assert result.error is None and len(result.rows) == 1 and len(result.rows[0]) == 4
    return result


def replication_column(p, what, kind="S"):
    return sorted(r["replication"] for r in p.show(what) if r["type"] == kind and r["database"] != "pgbouncer")


# --- sessions


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("params,shown", [(LOGICAL, "logical"), (PHYSICAL, "physical")])
def test_session_of_its_own(make, mode, params, shown):
    """Commands work one after the other, the server stays with its client and ends with it."""
    p = make(mode)
    c = p.login("repl", "app", params=params)
    for _ in range(3):
        identify(c)
    assert [(r["replication"], r["state"]) for r in p.show("clients") if r["user"] == "repl"] == [(shown, "active")]
    assert [(r["replication"], r["state"]) for r in p.show("servers")] == [(shown, "active")]
    pool = p.pool("app", "repl")
    assert (pool["sv_active"], pool["sv_idle"], pool["pool_mode"]) == (1, 0, mode)
    c.terminate()
    p.wait_for_log(r"closing because: replication client was closed")
    p.wait_pool("app", "repl", sv_active=0, sv_idle=0, cl_active=0)


def test_login_line_and_boolean_spellings(make):
    """The parameter is a boolean of PostgreSQL's, or the word database; what is neither means nothing."""
    p = make()
    for value, logged in (
        ("database", "database"),
        ("true", "yes"),
        ("on", "yes"),
        ("1", "yes"),
        ("ye", "yes"),
        ("false", "no"),
        ("0", "no"),
        ("perhaps", "no"),
    ):
        mark = p.log_mark()
        c = p.login("repl", "app", params={"replication": value})
        p.wait_for_log(rf"login attempt: db=app user=repl tls=no replication={logged}$", since=mark)
        if logged == "no":
            assert c.value("select current_database()") == "app"
        else:
            identify(c)
        c.terminate()


def test_database_is_the_user_when_not_given(make_pooler, primary):
    p = make_pooler({"repl": primary.dsn(dbname="app")}, secrets={**SECRETS, "repl": ""})
    conn = p.raw()
    conn.send(wire.startup_packet({"user": "repl", "replication": "true"}))
    conn.finish_login("repl", None)
    identify(conn)


def test_automatic_database(make_pooler, primary):
    """What * makes serves the name that the tools of PostgreSQL ask for."""
    p = make_pooler({"*": primary.dsn()}, secrets={**SECRETS, "repl": ""})
    identify(p.login("repl", "replication", params=PHYSICAL))


def test_console_takes_no_notice(make):
    p = make()
    c = p.login("admin", "pgbouncer", "adminpw", params=LOGICAL)
    assert c.query("show version").error is None


def test_forced_user(make_pooler, primary):
    """The server is logged in to as the forced user, whoever the client is."""
    p = make_pooler({"app": primary.dsn(dbname="app", user="repl")})
    c = p.login("app", "app", params=LOGICAL)
    assert c.value("select session_user") == "repl"


def test_password_login(make_pooler, primary):
    primary.sql("alter role scramuser replication")
    p = make_pooler(
        {"app": primary.dsn(dbname="app")},
        settings={"auth_type": "scram-sha-256"},
        secrets={**SECRETS, "scramuser": "scrampw"},
    )
    identify(p.login("scramuser", "app", "scrampw", params=LOGICAL))
    error = p.login_error("scramuser", "app", "wrong", params=LOGICAL)
    assert "password authentication failed" in error.text or error.code in ("28P01", "08P01")
    assert replication_column(p, "servers") in ([], ["logical"])


def test_parameters_and_options_go_with_the_login(make):
    """No SET is sent: the server starts with all of it, options as they came."""
    p = make("transaction", dsn={"timezone": "UTC", "datestyle": "German"})
    c = p.login(
        "repl",
        "app",
        params={
            **LOGICAL,
            "application_name": "walrus",
            "TimeZone": "Asia/Tokyo",
            "client_encoding": "latin1",
            "options": "-c work_mem=77MB -c geqo=off --enable_seqscan=off",
        },
    )
    for name, value in (
        ("TimeZone", "Asia/Tokyo"),
        ("client_encoding", "LATIN1"),
        ("application_name", "walrus"),
        ("work_mem", "77MB"),
        ("geqo", "off"),
        ("enable_seqscan", "off"),
        ("DateStyle", "German, DMY"),
    ):
        assert c.value(f"show {name}") == value
    row = next(r for r in p.show("servers"))
    assert row["application_name"] == "walrus"


def test_parameters_do_not_become_the_pools(make):
    """The first server of a pool makes the greeting of all its clients, unless it has the parameters of one of them."""
    p = make()
    p.login("repl", "app", params={**LOGICAL, "TimeZone": "Asia/Tokyo", "options": "-c geqo=off"})
    c = p.login("repl", "app")
    assert c.params["TimeZone"] == "UTC" and c.value("show geqo") == "on"


def test_commands_behind_the_startup_packet(make):
    """What is sent before the greeting is answered behind it."""
    p = make()
    c = p.raw()
    c.send(
        wire.startup_packet({"user": "repl", "database": "app", **PHYSICAL}),
        wire.query("IDENTIFY_SYSTEM"),
        wire.query("SHOW wal_level"),
    )
    c.finish_login("repl", None)
    assert len(c.read_ready().rows[0]) == 4 and c.read_ready().error is None


@pytest.mark.parametrize("params", [LOGICAL, PHYSICAL])
def test_greeting(make, params):
    """It has what the server reports, and the key is one of ours."""
    p = make()
    c = p.login("repl", "app", params={**params, "TimeZone": "Asia/Tokyo"})
    assert c.params["TimeZone"] == "Asia/Tokyo"
    assert {"server_version", "integer_datetimes", "is_superuser"} <= set(c.params)
    assert len(c.key) == 8


def test_connect_query(make):
    """It runs before the client comes, where the server knows SQL."""
    p = make(dsn={"connect_query": "'set work_mem = ''55MB'''"})
    assert p.login("repl", "app", params=LOGICAL).value("show work_mem") == "55MB"
    identify(p.login("repl", "replication", params=PHYSICAL))
    assert "exec_on_query" not in p.log_text()


# --- refusals


@pytest.mark.parametrize("params", [LOGICAL, PHYSICAL])
def test_refusal_is_told_to_its_client_only(make, params):
    """`login failed`; the reason is in the log. Ordinary clients of the pool are served on."""
    p = make()
    other = p.login("app", "app")
    mark = p.log_mark()
    error = p.login_error("app", "app", params=params)
    assert (error.code, error.text) == ("08P01", "login failed")
    p.wait_for_log(r"ERROR S: login failed: FATAL: .*(superuser|replication|permission)", since=mark)
    assert p.log_count(r"closing because: login failed \(age", since=mark) == 2
    assert other.value("select 1") == "1" and p.login("app", "app").value("select 2") == "2"


def test_refusal_on_a_cold_pool_spares_those_who_wait(make, primary):
    """Nobody has logged in to the pool yet: the refusal of one is no failure of the pool."""
    p = make(dsn={"pool_size": 1})
    refused = []
    clients = [p.raw() for _ in range(3)]
    for c in clients:
        c.send(wire.startup_packet({"user": "app", "database": "app", "replication": "database"}))
    plain = p.login("app", "app")
    assert plain.value("select 1") == "1"
    for c in clients:
        refused.append(c.expect_error_close().text)
    assert refused == ["login failed"] * 3
    assert p.login("app", "app").value("select 1") == "1"


def test_refusal_in_the_style_of_postgres(make):
    p = make(settings={"error_style": "postgres"})
    error = p.login_error("app", "app", params=LOGICAL)
    assert (error.code, error.text) == ("08001", "login failed")
    assert "has refused the login of the pooler: " in error.fields["D"]
    assert "superuser" in error.fields["D"] or "permission" in error.fields["D"]


@pytest.mark.parametrize("options", ["-c no_such_setting=1", "-c work_mem=nonsense", "--x" + 20000 * "y"])
def test_options_that_the_server_refuses(make, options):
    """They are the fault of one client: others, who need a first server, do not wait for a retry."""
    p = make(settings={"server_login_retry": 60})
    error = p.login_error("repl", "app", params={**LOGICAL, "options": options})
    assert error.text in ("login failed", "server conn crashed?")
    assert p.login("repl", "app").value("select 1") == "1"
    identify(p.login("repl", "app", params=LOGICAL))


def test_server_that_cannot_be_reached(make_pooler):
    """The client is told at once, others of the pool wait for the next attempt."""
    p = make_pooler({"app": f"host=127.0.0.1 port={procs.free_port()}"})
    assert p.login_error("app", "app", params=PHYSICAL).text == "connect failed"


# --- sizes and the queue


def test_counts_in_the_size_of_the_pool(make):
    """The third of two waits until one leaves; each gets a fresh server."""
    p = make(dsn={"pool_size": 2})
    a, b = (p.login("repl", "app", params=LOGICAL) for _ in range(2))
    third = p.raw()
    third.start("repl", "app", params=LOGICAL)
    p.wait_pool("app", "repl", cl_waiting=1, sv_active=2)
    assert third.is_silent()
    first_ids = {r["id"] for r in p.show("servers")}
    a.terminate()
    third.finish_login("repl", None)
    identify(third)
    assert len({r["id"] for r in p.show("servers")} - first_ids) == 1
    b.terminate()


def test_idle_servers_make_room(make):
    """One idle server of the full pool is closed for it; nobody else loses anything."""
    p = make(dsn={"pool_size": 2})
    clients = [p.login("repl", "app") for _ in range(2)]
    for c in clients:
        c.send(wire.query("begin"))
        c.read_ready()
    for c in clients:
        c.query("commit")
    p.wait_pool("app", "repl", sv_idle=2)
    c = p.login("repl", "app", params=LOGICAL)
    identify(c)
    assert p.log_count(r"closing because: evicted") == 1
    assert [c.value("select 1") for c in clients] == ["1", "1"]
    p.wait_pool("app", "repl", sv_idle=1, sv_active=1)


def test_released_server_makes_room(make):
    """All are busy: what is released is not handed to the client that replicates, but closed for it."""
    p = make(dsn={"pool_size": 1})
    busy = p.login("repl", "app")
    busy.query("begin")
    waits = p.raw()
    waits.start("repl", "app", params=LOGICAL)
    p.wait_pool("app", "repl", cl_waiting=1)
    busy.query("commit")
    waits.finish_login("repl", None)
    identify(waits)
    assert p.log_count(r"closing because: evicted") == 1


def test_turn_in_the_queue(make):
    """Who came before is served before; who came after, after."""
    p = make(dsn={"pool_size": 1}, settings={"query_wait_notify": 0})
    busy, before, after = (p.login("repl", "app") for _ in range(3))
    busy.query("begin")
    before.send(wire.query("begin"))
    p.wait_pool("app", "repl", cl_waiting=1)
    replica = p.raw()
    replica.start("repl", "app", params=LOGICAL)
    p.wait_pool("app", "repl", cl_waiting=2)
    after.send(wire.query("select 'after'"))
    p.wait_pool("app", "repl", cl_waiting=3)
    busy.query("commit")
    before.read_ready()
    assert replica.is_silent()
    before.query("commit")
    replica.finish_login("repl", None)
    identify(replica)
    assert after.is_silent()
    replica.terminate()
    assert after.read_ready().value() == "after"


def test_limit_of_the_database(make):
    """max_db_connections is reached: an idle server goes, of this pool if there is no other."""
    p = make(dsn={"max_db_connections": 1})
    assert p.login("repl", "app").value("select 1") == "1"
    c = p.login("repl", "app", params=LOGICAL)
    identify(c)
    c.terminate()
    assert p.login("app", "app").value("select 1") == "1"
    identify(p.login("repl", "app", params=LOGICAL))


def test_limit_of_the_database_while_all_are_busy(make):
    p = make(dsn={"max_db_connections": 1})
    busy = p.login("repl", "app")
    busy.query("begin")
    waits = p.raw()
    waits.start("repl", "app", params=LOGICAL)
    p.wait_pool("app", "repl", cl_waiting=1)
    busy.query("commit")
    waits.finish_login("repl", None)
    identify(waits)


def test_wait_for_a_place_has_an_end(make):
    p = make(dsn={"pool_size": 1}, settings={"query_wait_timeout": 1})
    p.login("repl", "app", params=LOGICAL)
    assert p.login_error("repl", "app", params=LOGICAL).text == "query_wait_timeout"


def test_client_leaves_the_queue(make):
    p = make(dsn={"pool_size": 1})
    a = p.login("repl", "app", params=LOGICAL)
    waits = p.raw()
    waits.start("repl", "app", params=LOGICAL)
    p.wait_pool("app", "repl", cl_waiting=1)
    waits.close()
    p.wait_pool("app", "repl", cl_waiting=0)
    a.terminate()
    p.wait_pool("app", "repl", sv_active=0)
    assert p.login("repl", "app").value("select 1") == "1"


def test_servers_never_change_hands(make):
    """Clients of both kinds come and go in one small pool: each has what it asked for, and its own parameters."""
    p = make(dsn={"pool_size": 3})
    failures = []

    def replicate(i):
        for k in range(6):
            with p.login("repl", "app", params={**LOGICAL, "application_name": f"r{i}.{k}"}, timeout=30) as c:
                identify(c)
                if c.value("show application_name") != f"r{i}.{k}":
                    failures.append(f"r{i}.{k}")
                c.terminate()

    def ask(i):
        for k in range(12):
            with p.login("repl", "app", params={"application_name": f"q{i}.{k}"}, timeout=30) as c:
                for _ in range(3):
                    if c.value("show application_name") != f"q{i}.{k}":
                        failures.append(f"q{i}.{k}")
                error = c.query("IDENTIFY_SYSTEM").error
                if error is None or error.code != "42601":
                    failures.append("an ordinary client can replicate")
                c.terminate()

    threads = [threading.Thread(target=f, args=(i,)) for i in range(4) for f in (replicate, ask)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive()
    assert not failures
    p.wait_pool("app", "repl", cl_active=0, cl_waiting=0, sv_active=0)


# --- the tools of PostgreSQL


@pytest.mark.parametrize("mode", MODES)
def test_base_backup(make, primary, work, mode):
    """Two connections, one with the files, one that streams the WAL meanwhile; the backup is whole."""
    p = make(mode)
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
def test_receivewal(make, primary, work, slots, mode):
    p = make(mode)
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
def test_recvlogical(make, primary, slots, decoding, mode):
    """test_decoding: the rows of ordinary clients of the same pool come out, in order."""
    p = make(mode)
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
def test_psql(make, mode):
    p = make(mode)
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


def test_standby(make, primary, standby):
    """It has what is written; the pooler shows it; when it goes, nothing of it is left."""
    p = make()
    s = standby(p)
    wait_replayed(s, stream_through(primary, "standby_test"))
    assert s.value("select count(*) from standby_test", dbname="app") == 20000
    assert s.value("select pg_is_in_recovery()")
    assert replication_column(p, "clients", "C") == ["physical"]
    s.stop()
    p.wait_pool("replication", "repl", sv_active=0, cl_active=0)


def test_standby_follows_a_promotion(make, make_pooler, primary, standby):
    """A standby of a standby, through poolers both: the second goes on, on its connection, with the new timeline."""
    first = standby(make())
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


def test_subscription(make, primary, private_cluster, slots):
    """Logical replication from one PostgreSQL to another, the initial copy included."""
    p = make()
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


def test_psycopg2(make, primary, slots, decoding):
    """Its logical replication connection: feedback goes back, the stream ends, large values come whole."""
    psycopg2 = pytest.importorskip("psycopg2")
    extras = pytest.importorskip("psycopg2.extras")
    p = make()
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


# --- a scripted server

START = b"START_REPLICATION 0/0\0"


def copy_both(conn):
    """Reads START_REPLICATION, begins to stream."""
    m = conn.recv()
    assert m == wire.Msg("Q", START)
    conn.send(wire.pack("W", b"\0\0\0"))


def streaming_server(fake_server, script):
    """A server that runs script(conn) once it streams; the startup packets it got are in .startups."""
    startups = []

    def handler(conn, startup):
        startups.append(startup)
        conn.greet()
        copy_both(conn)
        script(conn)

    server = fake_server(handler)
    server.startups = startups
    return server


def start_streaming(p, **kwargs):
    c = p.login("app", "app", params=PHYSICAL, **kwargs)
    c.send(wire.pack("Q", START))
    assert c.recv().type == "W"
    return c


def end_of_stream(conn):
    """The client's CopyDone, then ours, and the end of the command."""
    while conn.recv().type != "c":
        pass
    conn.send(wire.pack("c"), wire.pack("C", b"START_STREAMING\0"), wire.pack("Z", b"I"))


@pytest.mark.parametrize("mode", MODES)
def test_copy_of_any_size_both_ways(make_pooler, fake_server, mode):
    """Large messages pass, whole, in both directions at once."""
    big = os.urandom(1 << 20) * 8

    def script(conn):
        conn.send(wire.pack("d", big))
        assert conn.recv() == wire.Msg("d", big)
        end_of_stream(conn)
        assert conn.recv().type == "X"

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()}, settings={"pool_mode": mode})
    c = start_streaming(p)
    sender = threading.Thread(target=c.send, args=(wire.pack("d", big),))
    sender.start()
    assert c.recv() == wire.Msg("d", big)
    sender.join(20)
    c.send(wire.pack("c"))
    assert [c.recv().type for _ in range(3)] == ["c", "C", "Z"]
    c.terminate()
    p.wait_pool(sv_active=0)


def test_end_of_a_timeline(make_pooler, fake_server):
    """The server ends the stream and tells the next timeline, the client starts again on the same connection."""

    def script(conn):
        conn.send(wire.pack("d", b"w1"), wire.pack("c"))
        while conn.recv().type != "c":
            pass
        conn.send(
            wire.row_description("next_tli", "next_tli_startpos"),
            wire.data_row("2", "0/5000000"),
            wire.pack("C", b"SELECT\0"),
            wire.pack("C", b"START_STREAMING\0"),
            wire.pack("Z", b"I"),
        )
        copy_both(conn)
        conn.send(wire.pack("d", b"w2"))
        end_of_stream(conn)
        assert conn.recv().type == "X"

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()}, settings={"pool_mode": "transaction"})
    c = start_streaming(p)
    assert [c.recv(), c.recv().type] == [wire.Msg("d", b"w1"), "c"]
    c.send(wire.pack("d", b"r1"), wire.pack("c"))
    assert c.read_ready().rows == [["2", "0/5000000"]]
    c.send(wire.pack("Q", START))
    assert [c.recv().type, c.recv()] == ["W", wire.Msg("d", b"w2")]
    c.send(wire.pack("c"))
    c.read_ready()
    assert [r["replication"] for r in p.show("servers")] == ["physical"]
    c.terminate()


def test_error_in_the_stream(make_pooler, fake_server):
    """The server gives the stream up; what the client had under way is ignored, and commands work again."""

    def script(conn):
        conn.send(wire.pack("E", wire.error_body("ERROR", "58P01", "segment has been removed")), wire.pack("Z", b"I"))
        while conn.recv().type != "Q":
            pass
        conn.send(wire.answer("on"))
        conn.recv()

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()}, settings={"pool_mode": "transaction"})
    c = start_streaming(p)
    result = c.read_ready()
    assert result.error.code == "58P01"
    c.send(wire.pack("d", b"late"), wire.pack("c"))
    assert c.value("show hot_standby") == "on"


def test_server_that_shuts_down_ends_the_stream(make_pooler, fake_server):
    """It completes the command and goes, without waiting for the client."""

    def script(conn):
        conn.send(wire.pack("d", b"last"), wire.pack("C", b"COPY 0\0"))

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()})
    c = start_streaming(p)
    assert [c.recv(), c.recv()] == [wire.Msg("d", b"last"), wire.Msg("C", b"COPY 0\0")]
    assert c.expect_error_close().text == "server conn crashed?"


def test_slow_client_still_reports(make_pooler, fake_server):
    """A client that does not read for a while is still heard: its feedback keeps the server from giving it up."""
    heard = threading.Event()

    def script(conn):
        filler = threading.Thread(target=lambda: conn.send(*[wire.pack("d", bytes(1 << 20))] * 24), daemon=True)
        filler.start()
        while conn.recv() != wire.Msg("d", b"feedback"):
            pass
        heard.set()
        filler.join(30)
        end_of_stream(conn)
        conn.recv()

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()})
    c = start_streaming(p, timeout=30)
    wait_until(lambda: any(r["send_avail"] > 0 for r in p.show("sockets") if r["type"] == "C"), "it is behind")
    c.send(wire.pack("d", b"feedback"))
    assert heard.wait(20)
    for _ in range(24):
        assert len(c.recv().body) == 1 << 20
    c.send(wire.pack("c"))
    c.read_ready()


def test_timeouts_spare_a_stream(make_pooler, fake_server):
    """None of the timeouts of queries, transactions and idle clients is for a stream; an ordinary query ends by one."""
    go = threading.Event()

    def script(conn):
        assert go.wait(30)
        conn.send(wire.pack("d", b"still there"))
        end_of_stream(conn)
        conn.recv()

    def handler(conn, startup):
        conn.greet()
        if "replication" in startup:
            copy_both(conn)
            script(conn)
        else:
            conn.recv()  # a query that is never answered
            conn.recv()

    p = make_pooler(
        {"app": fake_server(handler).dsn()},
        settings={
            "pool_mode": "transaction",
            "query_timeout": 0.3,
            "transaction_timeout": 0.3,
            "idle_transaction_timeout": 0.3,
            "client_idle_timeout": 0.3,
            "server_idle_timeout": 0.3,
            "server_lifetime": 0.3,
        },
    )
    c = start_streaming(p)
    other = p.login("app", "app")
    other.send(wire.query("select 1"))
    assert other.expect_error_close().text in ("query timeout", "transaction timeout")
    go.set()
    assert c.recv() == wire.Msg("d", b"still there")
    c.send(wire.pack("c"))
    c.read_ready()


def test_startup_packet(make_pooler, fake_server):
    """Byte for byte what the client has asked for, besides user and database; nothing that it has not."""
    server = streaming_server(fake_server, lambda conn: conn.recv())
    p = make_pooler({"app": server.dsn(application_name="from_the_file", timezone="UTC", dbname="there")})
    start_streaming(p).terminate()
    assert server.startups[0] == {
        "user": "app",
        "database": "there",
        "replication": "yes",
        "timezone": "UTC",
        "application_name": "from_the_file",
    }


def test_unasked_words_in_the_greeting(make_pooler, fake_server):
    """A server that says more than its greeting is not used."""

    def handler(conn, _):
        conn.greet()
        conn.send(wire.pack("W", b"\0\0\0"))
        conn.recv()

    p = make_pooler({"app": fake_server(handler).dsn()})
    c = p.raw()
    c.start("app", "app", params=PHYSICAL)
    assert c.expect_close().error.text in ("unknown pkt from server", "unknown pkt")


# --- cancel


def test_cancel(make, primary):
    """The key of the client leads to its own server, while an ordinary client of the pool runs something, too."""
    p = make("transaction")
    c = p.login("repl", "app", params=LOGICAL)
    other = p.login("repl", "app")
    other.send(wire.query("select pg_sleep(1.5), 'other'"))
    c.send(wire.query("select pg_sleep(60) /* repl_cancel */"))
    primary.wait_running("repl_cancel")
    p.cancel(c.key)
    assert c.read_ready().error.code == "57014"
    identify(c)
    assert other.read_ready().error is None


# --- administration


@pytest.fixture
def idle_stream(make_pooler, fake_server):
    """A pooler with one client that streams, and whatever happens to that on the server's side."""

    def begin(**settings):
        ended = []

        def script(conn):
            try:
                while True:
                    m = conn.recv()
                    if m.type == "X":
                        ended.append("X")
                        return
                    if m.type == "d":
                        conn.send(wire.pack("d", m.body))
            except wire.Closed:
                ended.append("closed")

        def handler(conn, startup):
            if "replication" in startup:
                conn.greet()
                copy_both(conn)
                script(conn)
            else:
                wire.serve_queries(conn)

        server = fake_server(handler)
        server.ended = ended
        p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", **settings})
        return p, start_streaming(p), server

    return begin


def echo(c, text=b"hello"):
    c.send(wire.pack("d", text))
    assert c.recv() == wire.Msg("d", text)


def test_reconnect_closes_at_once(idle_stream):
    """It could be dirty for years otherwise."""
    p, c, server = idle_stream()
    other = p.login("app", "app")
    p.admin("RECONNECT")
    assert c.expect_error_close().text == "database configuration changed"
    wait_until(lambda: server.ended == ["X"], "the server is told")
    assert other.value("select 1") == "ok"
    echo(start_streaming(p))


def test_changed_definition_closes_at_once(idle_stream):
    p, c, server = idle_stream()
    p.databases["app"] += " dbname=another"
    p.write(p.ini, p.ini_text())
    p.admin("RELOAD")
    assert c.expect_error_close().text == "database configuration changed"
    echo(start_streaming(p))


def test_reload_that_changes_nothing(idle_stream):
    p, c, _ = idle_stream()
    p.admin("RELOAD")
    echo(c)


def test_pause_waits_for_it(idle_stream):
    """As for any session: PAUSE is answered when the client has gone; new ones wait for RESUME."""
    p, c, _ = idle_stream()
    console = p.console()
    console.conn.send(wire.query("PAUSE app"))
    wait_until(lambda: p.show("databases") and any(r["paused"] for r in p.show("databases")), "app is paused")
    waits = p.raw()
    waits.start("app", "app", params=PHYSICAL)
    p.wait_pool(cl_waiting=1)
    echo(c)
    assert console.conn.is_silent()
    c.terminate()
    assert console.conn.read_ready().tag == "PAUSE"
    assert waits.is_silent() and servers_of(p.pool()) == 0
    p.admin("RESUME app")
    waits.finish_login("app", None)


def test_pause_while_it_logs_in(make_pooler, fake_server):
    """The login is given up, the client waits on, and gets a server after RESUME."""
    seen = []

    def handler(conn, startup):
        seen.append(startup)
        if len(seen) == 1:
            conn.recv()
        wire.serve_queries(conn)

    p = make_pooler({"app": fake_server(handler).dsn()}, settings={"server_login_retry": 60})
    c = p.raw()
    c.start("app", "app", params=LOGICAL)
    wait_until(lambda: len(seen) == 1, "the first login")
    p.admin("PAUSE app")
    p.wait_for_log(r"S-.*closing because: pause mode")
    assert c.is_silent()
    p.admin("RESUME app")
    c.finish_login("app", None)
    assert c.value("select 1") == "ok"


def test_client_leaves_while_it_logs_in(make_pooler, fake_server):
    """The half-made connection goes with it, and no failure is remembered."""
    seen = []

    def handler(conn, startup):
        seen.append(startup)
        if "replication" in startup:
            conn.recv()
        wire.serve_queries(conn)

    p = make_pooler({"app": fake_server(handler).dsn()}, settings={"server_login_retry": 60})
    c = p.raw()
    c.start("app", "app", params=LOGICAL)
    wait_until(lambda: len(seen) == 1, "the login")
    assert [(r["state"], r["replication"]) for r in p.show("servers")] == [("new", "logical")]
    c.close()
    p.wait_for_log(r"S-.*closing because: replication client disconnected")
    assert p.login("app", "app").value("select 1") == "ok"


def test_kill_and_disable(idle_stream):
    p, c, server = idle_stream()
    p.admin("DISABLE app")
    echo(c)
    assert p.login_error("app", "app", params=PHYSICAL).text == 'database "app" is disabled'
    p.admin("ENABLE app")
    p.admin("KILL app")
    assert c.expect_error_close().text == "database removed"
    wait_until(lambda: server.ended, "the server is closed")


def test_kill_client(idle_stream):
    p, c, server = idle_stream()
    p.admin(f"KILL_CLIENT {next(r['id'] for r in p.show('clients') if r['replication'] == 'physical')}")
    assert c.expect_error_close().text == "admin forced disconnect"
    wait_until(lambda: server.ended, "the server is closed")


def test_suspend(idle_stream):
    """The stream stands still and goes on."""
    p, c, _ = idle_stream()
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    c.send(wire.pack("d", b"meanwhile"))
    assert c.is_silent()
    console.run("RESUME")
    assert c.recv() == wire.Msg("d", b"meanwhile")
    echo(c)


def wait_behind(p):
    """One more client, for which there is no room."""
    waits = p.raw()
    waits.start("app", "app", params=PHYSICAL)
    p.wait_pool(cl_waiting=1)
    return waits


def test_suspend_with_one_in_the_queue(idle_stream):
    """It keeps its place."""
    p, c, _ = idle_stream(default_pool_size=1)
    waits = wait_behind(p)
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    console.run("RESUME")
    echo(c)
    assert waits.is_silent()
    c.terminate()
    waits.finish_login("app", None)


def test_shutdown_waits_for_it(idle_stream):
    """Who waits for servers waits for this one; who is in the queue is told at once."""
    p, c, _ = idle_stream(default_pool_size=1)
    waits = wait_behind(p)
    p.exit_wanted = True
    p.signal(signal.SIGINT)
    assert waits.expect_error_close().text == "server shutting down"
    echo(c)
    c.terminate()
    assert p.wait_exit() == 0


def test_shutdown_at_once(idle_stream):
    """Neither a stream nor a client in the queue holds it up."""
    p, c, _ = idle_stream(default_pool_size=1)
    waits = wait_behind(p)
    p.exit_wanted = True
    p.signal(signal.SIGQUIT)
    assert p.wait_exit() == 0
    c.expect_close()
    waits.expect_close()


@pytest.mark.ours
def test_online_restart_carries_the_stream(idle_stream):
    """The next process goes on with it, in the middle of the stream. Who is not greeted yet has to come again."""
    p, c, server = idle_stream(default_pool_size=1)
    waits = wait_behind(p)
    echo(c)
    p.restart()
    assert waits.expect_close().messages == []
    echo(c, b"in the new process")
    assert [(r["replication"], r["state"]) for r in p.show("servers")] == [("physical", "active")]
    assert [r["replication"] for r in p.show("clients") if r["user"] == "app"] == ["physical"]
    c.terminate()
    wait_until(lambda: server.ended == ["X"], "the server is closed with its client")


def test_streams_are_not_for_pgbouncer(idle_stream):
    """SHOW FDS is what PgBouncer takes over from; it would hand the server of a stream to anybody."""
    p, c, _ = idle_stream()
    other = p.login("app", "app")
    assert other.value("select 1") == "ok"
    console = p.console()
    console.run("SUSPEND")
    assert sorted(r["task"] for r in console.show("fds") if r["database"] == "app") == ["client", "server"]
    assert sorted(r["task"] for r in console.show("handover") if r["database"] == "app") == ["client"] * 2 + ["server"] * 2
    console.run("RESUME")
    echo(c)


# --- statistics


def test_statistics(idle_stream):
    """They have bytes and queries."""
    p, c, _ = idle_stream()
    echo(c, b"x" * 10000)
    row = next(r for r in p.show("stats_totals") if r["database"] == "app")
    row = {k: int(v) for k, v in row.items() if k != "database"}
    assert row["client_login_count"] == 1 and row["server_assignment_count"] == 1
    assert row["bytes_received"] > 10000 and row["bytes_sent"] > 10000
    assert (row["query_count"], row["xact_count"]) == (1, 1)
    c.terminate()


def test_time_of_a_stream_does_not_count(make_pooler, fake_server):
    p = make_pooler({"app": streaming_server(fake_server, lambda conn: (end_of_stream(conn), conn.recv())).dsn()})
    c = start_streaming(p)
    c.send(wire.pack("c"))
    c.read_ready()
    row = next(r for r in p.show("stats_totals") if r["database"] == "app")
    assert [int(row[k]) for k in ("query_count", "query_time", "xact_time")] == [1, 0, 0]
