"""Online restart (-R): a new process takes the sockets of the running one, and the sessions go on."""
import asyncio
import os
import shutil
import signal
import struct
import subprocess
import threading

import psycopg
import pytest
from harness import procs, wire
from harness.cluster import bindir
from harness.procs import wait_until

SBIN = os.environ.get("PATH", "") + ":/usr/sbin"
TRANSACTION = {"pool_mode": "transaction"}
FOR_BOTH = {**TRANSACTION, "threads": None}  # a file that PgBouncer can read


def test_idle_clients_go_on(make_pooler):
    # One server: with more, a client may ask before the server of the one before it is free, and get a new one.
    p = make_pooler(settings={**TRANSACTION, "default_pool_size": 1}, threads=2)
    clients = [p.login(params=[("application_name", f"app{i}")]) for i in range(20)]
    pids = {c.value("select pg_backend_pid()") for c in clients}
    mark = p.restart()
    p.wait_for_log(r"took over 20 clients and \d+ servers", since=mark)
    for i, c in enumerate(clients):
        assert c.value("select pg_backend_pid()") in pids
        assert c.value("show application_name") == f"app{i}"
    assert p.log_count("closing because: (?!client close)", mark) == 0


def prepare(conn, name, sql):
    conn.send(wire.parse(name, sql), wire.SYNC)
    return conn.read_ready()


def run(conn, name):
    conn.send(wire.bind("", name), wire.execute(), wire.SYNC)
    return conn.read_ready()


@pytest.mark.newer
def test_prepared_statements_go_on(make_pooler):
    """Twice, with evictions before and behind, long texts, and the shadow check where it is built in."""
    settings = {**TRANSACTION, "default_pool_size": 2, "max_prepared_statements": 5}
    p = make_pooler(settings=settings, threads=2, profile="pgsluice", env={"PGSLUICE_SHADOW": "1"})
    a, b = p.login(), p.login()
    for i in range(8):
        prepare(a, f"a{i}", f"select {i}")
        prepare(b, f"a{i}", f"select {i + 4}")
    prepare(a, "long", "select length('" + "x" * 3_000_000 + "')")
    prepare(b, "", "select 'unnamed'")
    for _ in range(2):
        mark = p.restart()
        p.wait_for_log(r"took over 2 clients and \d+ servers", since=mark)
        prepare(a, "new", "select 'new'")
        for i in (7, 0, 3, 4, 1):
            assert run(a, f"a{i}").rows == [[str(i)]]
            assert run(b, f"a{i}").rows == [[str(i + 4)]]
        assert run(a, "long").rows == [["3000000"]]
        assert run(a, "new").rows == [["new"]]
        assert run(b, "").rows == [["unnamed"]]
        assert run(b, "long").error.code == "26000"
        a.send(wire.close("S", "new"), wire.SYNC)
        assert a.read_ready().error is None


@pytest.mark.newer
def test_prepared_statements_of_a_transaction_go_on(make_pooler):
    p = make_pooler(settings={**TRANSACTION, "default_pool_size": 1}, profile="pgsluice")
    a, b = p.login(), p.login()
    prepare(a, "s", "select 'a'")
    prepare(b, "s", "select 'b'")
    a.query("begin")
    assert run(a, "s").rows == [["a"]]
    a.send(wire.query("select pg_sleep(1), 'slept'"))
    p.wait_pool(sv_active=1)
    p.restart()
    assert [r[1] for r in a.read_ready().rows] == ["slept"]
    assert run(a, "s").rows == [["a"]]
    a.query("commit")
    assert run(b, "s").rows == [["b"]]


@pytest.mark.newer
def test_sql_prepare_goes_on_with_its_server(make_pooler):
    p = make_pooler(settings={**TRANSACTION, "default_pool_size": 1}, profile="pgsluice")
    a, b = p.login(), p.login()
    a.query("prepare q as select 'pinned'")
    p.restart()
    b.send(wire.query("select 'waits'"))
    p.wait_pool(cl_waiting=1)
    assert a.value("execute q") == "pinned"
    a.query("deallocate q")
    assert b.read_ready().rows == [["waits"]]


@pytest.mark.newer
def test_a_message_in_pieces_and_a_restart(make_pooler):
    """Whoever has sent a part of a long Parse is not taken over, and loses nothing silently."""
    p = make_pooler(settings={**TRANSACTION, "suspend_timeout": 1}, profile="pgsluice")
    whole, torn = p.login(), p.login()
    prepare(whole, "s", "select 'whole'")
    torn.send(wire.parse("s", "select '" + "x" * 100_000 + "'")[:90_000])
    wait_until(lambda: sum(r["prepared_statements"] for r in p.show("clients")) == 1, "both were heard")
    p.restart()
    assert run(whole, "s").rows == [["whole"]]
    torn.expect_close()


def test_new_clients_are_served_by_the_new_process(make_pooler):
    p = make_pooler(settings=TRANSACTION, threads=2)
    with p.login() as c:
        assert c.value("select 1") == "1"
    p.restart()
    assert p.login().value("select 2") == "2"
    assert p.console().show("version")
    with open(p.pidfile) as f:
        assert int(f.read()) == p.proc.pid
    assert os.path.exists(p.socket_path)


def test_transactions_and_running_queries_go_on(make_pooler):
    p = make_pooler(settings=TRANSACTION, threads=2)
    inside, running, batch = p.login(), p.login(), p.login()
    inside.query("begin")
    inside.query("create temp table t (i int) on commit drop")
    running.send(wire.query("select pg_sleep(1.5), 'slept'"))
    batch.send(wire.parse("", "select 'batch', pg_sleep(1.5)"), wire.bind(), wire.execute(), wire.pack("S"))
    wait_until(lambda: p.pool()["sv_active"] == 3, "three linked servers")
    mark = p.restart()
    p.wait_for_log("took over 3 clients and 3 servers", since=mark)
    assert inside.query("insert into t values (1)").tag == "INSERT 0 1"
    assert inside.query("commit").tag == "COMMIT"
    assert [row[1] for row in running.read_ready().rows] == ["slept"]
    assert [row[0] for row in batch.read_ready().rows] == ["batch"]
    wait_until(lambda: p.pool()["sv_active"] == 0, "servers that are free")
    assert running.value("select 5") == "5"
    assert p.pool()["sv_idle"] == 3


def test_the_queue_goes_on(make_pooler):
    """What was read of clients that wait travels with them."""
    p = make_pooler(settings={**TRANSACTION, "default_pool_size": 1}, threads=2)
    inside, waiting, half = p.login(), p.login(), p.login()
    inside.query("begin")
    text = "y" * 10000
    waiting.send(wire.query(f"select '{text}'"))
    packet = wire.query(f"select length('{text}')")
    half.send(packet[:5000])
    wait_until(lambda: p.pool()["cl_waiting"] == 2, "two waiting clients")
    mark = p.restart()
    wait_until(lambda: p.pool()["cl_waiting"] == 2, "two waiting clients")
    assert p.log_count("new connection to server", mark) == 0, "the pool is full, and nobody waits for a greeting"
    assert inside.query("commit").tag == "COMMIT"
    assert waiting.read_ready().value() == text
    half.send(packet[5000:])
    assert half.read_ready().value() == "10000"


@pytest.mark.ours
def test_the_time_in_the_queue_goes_on(make_pooler):
    p = make_pooler(settings={**TRANSACTION, "default_pool_size": 1, "query_wait_timeout": 60})
    inside, waiting = p.login(), p.login()
    inside.query("begin")
    waiting.send(wire.query("select 'waited'"))
    wait_until(lambda: [r for r in p.show("queue") if r["deadline_ms"] < 59_000], "a second in the queue")
    p.restart()
    p.wait_pool(cl_waiting=1)
    assert [r["deadline_ms"] < 59_000 for r in p.show("queue")] == [True]
    inside.query("commit")
    assert waiting.read_ready().value() == "waited"


@pytest.mark.ours
def test_a_query_that_was_asked_to_stop_goes_on(make_pooler, fake_server):
    """It is not asked again, and its end is told in our words."""
    go, stopped = threading.Event(), wire.pack("E", wire.error_body("ERROR", "57014")) + wire.pack("Z", b"I")

    def reply(sql):
        if sql == "slow":
            assert go.wait(60)
        return stopped

    server = fake_server(lambda conn, params: wire.serve_queries(conn, reply))
    settings = {**TRANSACTION, "query_timeout": "0.3", "query_timeout_action": "cancel", "cancel_grace": 60}
    p = make_pooler({"app": server.dsn()}, settings=settings, threads=1)
    first, second = p.login(), p.login()
    first.send(wire.query("slow"))
    wait_until(lambda: len(server.cancels) == 1, "the cancel request")
    p.restart()
    second.send(wire.query("slow"))
    wait_until(lambda: len(server.cancels) >= 2, "the cancel request of the other")
    go.set()
    for c in (first, second):
        assert c.read_ready().error.text == "canceling statement due to query_timeout"
    assert len(server.cancels) == 2


def test_sessions_of_session_mode_go_on(make_pooler):
    p = make_pooler(settings={"pool_mode": "session"}, threads=2)
    c = p.login()
    c.query("create temp table mine as select 42 as i")
    p.restart()
    assert c.value("select i from mine") == "42"
    c.close()
    wait_until(lambda: p.pool()["sv_idle"] == 1, "an idle server")
    assert p.login().value("select to_regclass('mine') is null") == "t"


def run_and_cancel(p, cluster, *clients):
    tags = [f"restart-{os.getpid()}-{n}" for n in range(len(clients))]
    for c, tag in zip(clients, tags):
        c.send(wire.query(f"select pg_sleep(60) /* {tag} */"))
    for c, tag in zip(clients, tags):
        cluster.wait_running(tag)
        p.cancel(c.key)
        assert c.read_ready().error.code == "57014"


@pytest.mark.parametrize("peer_id", [0, 7])
def test_cancel_keys_go_on(make_pooler, cluster, peer_id):
    p = make_pooler(settings={**TRANSACTION, "peer_id": peer_id}, threads=2)
    clients = [p.login() for _ in range(4)]
    p.restart()
    clients.append(p.login())
    run_and_cancel(p, cluster, *clients)
    p.restart()
    run_and_cancel(p, cluster, clients[0])


def test_restart_again_and_again_under_load(make_pooler):
    p = make_pooler(settings={**TRANSACTION, "default_pool_size": 3}, threads=2)
    stop, errors, counts = threading.Event(), [], [0] * 8

    def work(n):
        try:
            c = p.login(timeout=60)
            while not stop.is_set():
                i = counts[n]
                c.query("begin")
                value = c.value(f"select '{n}:{i}'")
                c.query("commit")
                if value != f"{n}:{i}":
                    raise AssertionError(f"{value} instead of {n}:{i}")
                counts[n] += 1
            c.close()
        except Exception as e:
            errors.append(repr(e))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for _ in range(5):
        before = list(counts)
        wait_until(lambda: errors or all(a > b for a, b in zip(counts, before)), "progress of all", timeout=60)
        p.restart()
    before = list(counts)
    wait_until(lambda: errors or all(a > b for a, b in zip(counts, before)), "progress of all", timeout=60)
    stop.set()
    for t in threads:
        t.join(60)
    assert not errors
    row = p.pool()
    assert row["sv_active"] == 0 and row["sv_idle"] <= 3


def test_ids_stay_and_go_on(make_pooler):
    p = make_pooler(settings=TRANSACTION)
    c = p.login()
    assert c.value("select 1") == "1"
    before = {r["id"] for r in p.show("clients") if r["database"] == "app"}
    p.restart()
    assert {r["id"] for r in p.show("clients") if r["database"] == "app"} == before
    late = p.login()
    assert late.value("select 1") == "1"
    ids = [r["id"] for r in p.show("clients") + p.show("servers")]
    assert len(ids) == len(set(ids))


def test_without_a_running_instance_it_starts_as_usual(make_pooler):
    p = make_pooler(start=False)
    p.args = ["-R"]
    p.start()
    assert p.login().value("select 1") == "1"
    p.wait_for_log("no running instance found")


def test_a_paused_instance_is_left_alone(make_pooler):
    """The new process gives up, the old one does not notice."""
    p = make_pooler(settings=TRANSACTION)
    console = p.console()
    assert console.run("PAUSE") == "PAUSE"
    done = procs.run(p.command("-R"), check=False)
    assert done.returncode == 1
    assert "the running instance cannot be suspended: already suspended/paused" in done.stderr
    assert console.run("RESUME") == "RESUME"
    assert p.login().value("select 1") == "1"


def test_a_successor_that_fails_leaves_the_old_one_running(make_pooler):
    """It gets the sockets and cannot go on: its console session ends, and with it the suspension."""
    p = make_pooler(settings=TRANSACTION)
    c = p.login()
    assert c.value("select 1") == "1"
    psql = f"{bindir()}/psql"
    sent = procs.run(
        [psql, "-X", "-h", p.dir, "-p", str(p.port), "-U", "pgbouncer", "-c", "SUSPEND", "-c", "SHOW FDS", "pgbouncer"]
    )
    assert "scram_server_key" in sent.stdout
    p.wait_for_log("doing RESUME")
    assert c.value("select 2") == "2"
    assert p.login().value("select 3") == "3"
    p.signal(signal.SIGINT)
    assert p.wait_exit() == 0
    assert not os.path.exists(p.socket_path)


def test_nobody_else_resumes_while_a_successor_has_the_sockets(make_pooler):
    """Two processes would read the same sockets. When the successor goes, the pooler goes on, whoever else is there."""
    p = make_pooler(settings=TRANSACTION)
    c = p.login()
    assert c.value("select 1") == "1"
    other = p.console()
    psql = [f"{bindir()}/psql", "-X", "-h", p.dir, "-p", str(p.port), "-U", "pgbouncer", "pgbouncer"]
    successor = procs.spawn(psql, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    successor.stdin.write(b"SUSPEND;\nSHOW FDS;\n")
    successor.stdin.flush()
    while b"rows)" not in successor.stdout.readline():
        pass
    with pytest.raises(wire.PgError, match="another process is taking over"):
        other.run("RESUME")
    p.signal(signal.SIGUSR2)
    p.wait_for_log("got SIGUSR2, but another process is taking over")
    c.send(wire.query("select 2"))
    assert c.is_silent()
    successor.stdin.close()
    successor.wait()
    assert c.read_ready().value() == "2"
    assert p.login().value("select 3") == "3"


@pytest.mark.parametrize("directory", ["", "@abstract"])
def test_it_needs_a_socket_in_the_file_system(make_pooler, directory):
    p = make_pooler(settings={"unix_socket_dir": directory}, start=False)
    p.write_files()
    done = procs.run(p.command("-R"), check=False)
    assert done.returncode == 1
    assert "-R needs a Unix socket in the file system" in done.stderr


def test_servers_of_another_definition_are_not_kept(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn()}, settings=TRANSACTION)
    c = p.login()
    pid = c.value("select pg_backend_pid()")
    p.databases["app"] = cluster.dsn(application_name="other", connect_query="'select 1'")
    p.write_files()
    p.restart()
    assert c.value("select pg_backend_pid()") != pid


def test_a_server_that_is_to_go_is_not_kept(make_pooler):
    """RECONNECT holds for servers that were linked when the process changed."""
    p = make_pooler(settings=TRANSACTION)
    c = p.login()
    c.query("begin")
    pid = c.value("select pg_backend_pid()")
    p.admin("RECONNECT")
    p.restart()
    assert c.value("select pg_backend_pid()") == pid
    assert c.query("commit").tag == "COMMIT"
    assert c.value("select pg_backend_pid()") != pid


def test_a_database_that_is_gone_ends_its_sessions(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "other": cluster.dsn(dbname="app")}, settings=TRANSACTION)
    stays, goes = p.login(), p.login(database="other")
    assert stays.value("select 1") == goes.value("select 1") == "1"
    del p.databases["other"]
    p.write_files()
    p.restart()
    assert goes.expect_error_close().text == "database removed"
    assert stays.value("select 2") == "2"


def test_show_fds_columns(make_pooler):
    p = make_pooler(settings=TRANSACTION)
    c = p.login()
    c.query("begin")
    console = p.console()
    names = [name for name, _ in console.raw_show("fds").columns]
    assert names == [
        "fd", "task", "user", "database", "addr", "port", "cancel", "link", "client_encoding", "std_strings",
        "datestyle", "timezone", "password", "scram_client_key", "scram_server_key",
    ]  # fmt: skip
    assert [oid for _, oid in console.raw_show("fds").columns] == [23, 25, 25, 25, 25, 23, 20, 23] + [25] * 5 + [17] * 2
    assert console.run("SUSPEND") == "SUSPEND"
    rows = console.show("fds")
    by_task = {r["task"]: r for r in rows}
    assert set(by_task) == {"pooler", "client", "server"}
    client, server = by_task["client"], by_task["server"]
    assert (client["link"], server["link"]) == (server["fd"], client["fd"])
    assert client["cancel"] == struct.unpack("!q", c.key)[0]
    assert (client["user"], client["database"]) == ("app", "app")
    assert console.run("RESUME") == "RESUME"
    assert c.query("commit").tag == "COMMIT"


def test_stats_users_do_not_see_fds(make_pooler):
    console = make_pooler().console(user="stats", password="statspw")
    for table in ("fds", "handover"):
        assert console.conn.query(f"SHOW {table}").error.text == "admin access needed"


@pytest.mark.skipif(not shutil.which("pgbouncer", path=SBIN), reason="no PgBouncer to take over from")
def test_it_takes_over_from_pgbouncer(make_pooler, cluster):
    """Idle clients and clients inside a transaction go on in pgsluice; a server that was linked serves nobody else."""
    p = make_pooler(settings=FOR_BOTH, start=False)
    p.write_files()
    program = shutil.which("pgbouncer", path=SBIN)
    with open(p.log, "ab") as log:
        p.proc = procs.spawn([program, p.ini], stdout=log, stderr=log, cwd=p.dir)
    p.wait_for_log("process up")
    idle, inside = p.login(), p.login(params=[("client_encoding", "LATIN1"), ("DateStyle", "German, DMY")])
    others = [p.login() for _ in range(6)]
    pid = idle.value("select pg_backend_pid()")
    inside.query("begin")
    linked = inside.value("select pg_backend_pid()")
    mark = p.restart()
    assert p.log_text(mark).count("process up: pgsluice") == 1
    p.wait_for_log("took over 8 clients and", since=mark)
    assert inside.value("select pg_backend_pid()") == linked
    assert inside.value("select '2026-11-21'::date") == "21.11.2026"
    assert inside.query("commit").tag == "COMMIT"
    assert inside.value("show client_encoding") == "LATIN1"
    for c in (idle, inside):
        assert c.value("select pg_backend_pid()") != linked or pid == linked
    for c in (idle, inside, *others):  # keys of PgBouncer may have any bits
        run_and_cancel(p, cluster, c)
    assert p.login().value("select 1") == "1"


@pytest.mark.skipif(not shutil.which("pgbouncer", path=SBIN), reason="no PgBouncer to go back to")
def test_pgbouncer_takes_over_from_it(make_pooler):
    """The way back: PgBouncer reads our SHOW FDS."""
    p = make_pooler(settings=FOR_BOTH)
    idle = p.login()
    assert idle.value("select 1") == "1"
    old, mark = p.proc, p.log_mark()
    p.expected_rc = 1  # PgBouncer's status after SIGTERM, up to 1.22
    with open(p.log, "ab") as log:
        p.proc = procs.spawn([shutil.which("pgbouncer", path=SBIN), "-R", p.ini], stdout=log, stderr=log, cwd=p.dir)
    p.wait_for_log("process up: PgBouncer", since=mark, timeout=30)
    assert old.wait(20) == 0
    assert idle.value("select 2") == "2"
    assert p.login().value("select 3") == "3"


# --- what is under way


class Gate:
    """A lock in the database: what runs Gate.sql stands still until it is opened."""

    def __init__(self, cluster):
        self.cluster, self.key = cluster, os.getpid()
        self.conn = cluster.connect("app")
        self.conn.execute("select pg_advisory_lock(%s)", (self.key,))
        self.sql = f"pg_advisory_xact_lock_shared({self.key})"

    def wait(self, count):
        """Wait until so many statements stand there."""
        sql = "select count(*) from pg_locks where locktype = 'advisory' and objid = %s and not granted"
        wait_until(lambda: self.cluster.value(sql, (self.key,)) == count, f"{count} statements at the gate")

    def open(self):
        self.conn.close()


@pytest.fixture
def gate(cluster):
    gate = Gate(cluster)
    yield gate
    gate.open()


VIRTUAL = {**TRANSACTION, "max_prepared_statements": 3}


def at_the_gate(gate, *more):
    """A batch that stands at the gate, and what comes behind that in the same batch."""
    return [wire.parse("", f"select {gate.sql}"), wire.bind(), wire.execute(), *more, wire.SYNC]


def use(name):
    return [wire.bind("", name), wire.execute()]


def rows_of(conn):
    return [r[0] for r in conn.read_ready().rows]


@pytest.mark.newer
def test_statements_that_are_being_prepared_go_on(make_pooler, gate):
    """Whatever is believed of messages that the server has not answered yet comes true, or not, in the next process."""
    p = make_pooler(settings=VIRTUAL, threads=2, profile="pgsluice", env={"PGSLUICE_SHADOW": "1"})
    named, anew, describes, full = (p.login() for _ in range(4))
    for c in (anew, describes):
        prepare(c, "old", "select 'old'")
    for i in range(5):
        prepare(full, f"n{i}", f"select 'n{i}'")
    named.send(wire.parse("s", f"select 'named', {gate.sql}"), *use("s"), wire.SYNC)
    parse_close = [wire.parse("s", "select 'first'"), *use("s"), wire.close("S", "s"), wire.close("S", "old")]
    anew.send(*at_the_gate(gate, *parse_close, wire.parse("s", "select 'second'"), *use("s")))
    describes.send(*at_the_gate(gate, wire.describe("S", "old"), wire.parse("d", "select 1 as d"), wire.describe("S", "d")))
    new = [m for i in range(5) for m in (wire.parse(f"m{i}", f"select 'm{i}'"), *use(f"m{i}"))]
    full.send(*at_the_gate(gate, *new, *use("n0")))
    gate.wait(4)
    mark = p.restart()
    p.wait_for_log(r"took over 4 clients and \d+ servers", since=mark)
    gate.open()
    assert rows_of(named) == ["named"]
    assert rows_of(anew) == ["", "first", "second"]
    described = describes.read_ready()
    assert described.error is None and described.columns[-1][0] == "d"
    assert rows_of(full) == ["", "m0", "m1", "m2", "m3", "m4", "n0"]
    for c, name, value in [(named, "s", "named"), (anew, "s", "second"), (describes, "old", "old"), (describes, "d", "1")]:
        assert run(c, name).rows[0][0] == value
    for i in range(5):
        assert run(full, f"m{i}").rows == [[f"m{i}"]]
        assert run(full, f"n{i}").rows == [[f"n{i}"]]
    assert run(anew, "old").error.code == "26000"


@pytest.mark.newer
def test_what_comes_to_nothing_is_undone_behind_a_restart(make_pooler, gate):
    p = make_pooler(settings=VIRTUAL, profile="pgsluice", env={"PGSLUICE_SHADOW": "1"})
    bad, unknown, closes = (p.login() for _ in range(3))
    prepare(closes, "kept", "select 'kept'")
    bad.send(*at_the_gate(gate, wire.parse("bad", "select nonsense"), wire.parse("behind", "select 1")))
    unknown.send(*at_the_gate(gate, *use("unknown"), wire.parse("behind", "select 1")))
    closes.send(*at_the_gate(gate, wire.parse("bad", "select nonsense"), wire.close("S", "kept")))
    gate.wait(3)
    mark = p.restart()
    p.wait_for_log(r"took over 3 clients and \d+ servers", since=mark)
    gate.open()
    assert bad.read_ready().error.code == "42703"
    error = unknown.read_ready().error
    assert (error.code, error.text) == ("26000", 'prepared statement "unknown" does not exist')
    assert closes.read_ready().error.code == "42703"
    for c in (bad, unknown, closes):
        assert run(c, "bad").error.code == run(c, "behind").error.code == "26000"
        prepare(c, "bad", "select 'good'")
        assert run(c, "bad").rows == [["good"]]
    assert run(closes, "kept").rows == [["kept"]]


@pytest.mark.newer
def test_pipelines_that_wait_for_answers_go_on(make_pooler, gate):
    """Later batches wait in the pooler for what the server makes of the ones before; nobody waits for them to end."""
    p = make_pooler(settings={**VIRTUAL, "suspend_timeout": 60}, profile="pgsluice", env={"PGSLUICE_SHADOW": "1"})
    c = p.login(timeout=30)
    c.send(wire.parse("a", f"select 'a', {gate.sql}"), *use("a"), wire.SYNC)
    for i in range(20):
        c.send(wire.parse(f"b{i}", f"select 'b{i}'"), *use(f"b{i}"), *use("a"), wire.SYNC)
    long = wire.parse("c", "select length('" + "x" * 30_000 + "')")
    c.send(long, *use("c"), wire.SYNC)
    gate.wait(1)
    mark = p.restart()
    p.wait_for_log(r"took over 1 clients and \d+ servers", since=mark)
    c.send(wire.query("select 'behind'"))
    gate.open()
    assert rows_of(c) == ["a"]
    assert [rows_of(c) for _ in range(20)] == [[f"b{i}", "a"] for i in range(20)]
    assert rows_of(c) == ["30000"]
    assert rows_of(c) == ["behind"]


@pytest.mark.newer
def test_what_a_pipeline_forgets_is_forgotten_behind_a_restart(make_pooler, gate):
    """What comes behind RESET ALL and DEALLOCATE ALL has waited for their answers, and does in the next process."""
    p = make_pooler(settings=VIRTUAL, profile="pgsluice", env={"PGSLUICE_SHADOW": "1"})
    resets, forgets = p.login(params=[("application_name", "mine")]), p.login()
    resets.query("set application_name to changed")
    resets.send(*[wire.query(q) for q in (f"select {gate.sql}", "reset all", "show application_name")])
    prepare(forgets, "s", "select 's'")
    forgets.send(*[wire.query(q) for q in (f"select {gate.sql}", "deallocate all")], *use("s"), wire.SYNC)
    gate.wait(2)
    p.restart()
    gate.open()
    assert [resets.read_ready().rows for _ in range(3)] == [[[""]], [], [["mine"]]]
    assert [m.read_ready().tags for m in [forgets] * 2] == [["SELECT 1"], ["DEALLOCATE ALL"]]
    assert forgets.read_ready().error.code == "26000"


def psql_takes_over(p, *commands):
    """Does what a successor does, but does not go on with the sockets."""
    args = [a for c in commands for a in ("-c", c)]
    psql = f"{bindir()}/psql"
    return procs.run([psql, "-X", "-h", p.dir, "-p", str(p.port), "-U", "pgbouncer", *args, "pgbouncer"], check=False)


@pytest.mark.ours
def test_who_cannot_go_on_is_told(make_pooler, pki, gate):
    """Keys of TLS are not carried over, nor are sessions that the successor does not understand."""
    p = make_pooler(settings={**VIRTUAL, **pki.client_settings("allow")}, profile="pgsluice")
    idle, busy, plain = p.login(tls=pki.client_context()), p.login(tls=pki.client_context()), p.login()
    busy.send(wire.parse("s", f"select {gate.sql}"), *use("s"), wire.SYNC)
    gate.wait(1)
    p.restart()
    for c in (idle, busy):
        error = c.expect_error_close()
        assert (error.severity, error.code, error.text) == ("FATAL", "57P01", "pooler exits")
    assert plain.value("select 1") == "1"
    prepare(plain, "s", "select 1")
    p.exit_wanted = True
    psql_takes_over(p, "SUSPEND", "SHOW FDS", "SHUTDOWN")
    assert plain.expect_error_close().code == "57P01"
    assert p.wait_exit() == 0


# --- clients without their server


@pytest.fixture
def failing(make_pooler, cluster, database):
    """failing(n): a pooler, and n clients in transactions that have lost their server; they were not told."""

    def make(count):
        db = database()
        p = make_pooler({"app": cluster.dsn(dbname=db)}, settings=TRANSACTION, threads=2, profile="pgsluice")
        clients = [p.login() for _ in range(count)]
        for c in clients:
            prepare(c, "rb", "rollback")
            assert c.query("begin").status == "T"
        cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (db,))
        wait_until(lambda: not p.show("servers"), "the pooler noticed")
        return p, clients

    return make


@pytest.mark.ours
def test_failed_transactions_go_on(failing):
    p, (untold, told, commits, batch, over) = failing(5)
    assert told.query("select 1").errors[0].code == "57P01"
    batch.send(wire.parse("", "select 1"), wire.FLUSH)
    assert batch.recv().type == "E"
    over.send(wire.parse("", "rollback"), wire.bind(), wire.execute(), wire.FLUSH)
    assert [over.recv().type for _ in range(3)] == ["1", "2", "C"]
    for _ in range(2):
        mark = p.restart()
        p.wait_for_log("took over 5 clients and 0 servers", since=mark)
        assert [r["state"] for r in p.show("clients") if r["database"] == "app"] == ["failed"] * 5
    assert untold.is_silent() and commits.is_silent()
    assert untold.query("select 1").errors[0].code == "57P01"
    assert commits.query("commit").errors[0].code == "57P01"
    for c in (untold, told):
        r = c.query("insert into nowhere values (1)")
        assert (r.errors[0].code, r.status) == ("25P02", "E")
    batch.send(wire.bind(), wire.execute(), wire.SYNC)
    r = batch.read_ready()
    assert (r.messages[0].type, r.status) == ("Z", "E")
    over.send(wire.SYNC)
    assert over.read_ready().status == "I"
    for c in (untold, told, batch):
        r = run(c, "rb")
        assert (r.tags, r.status) == (["ROLLBACK"], "I")
    for c in (untold, told, commits, batch, over):
        assert c.value("select 'alive'") == "alive"


@pytest.mark.ours
def test_parameters_of_a_transaction_that_is_lost_later(make_pooler, cluster, database):
    """What the transaction has set is undone by the process that sees it come to nothing."""
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings=TRANSACTION, profile="pgsluice")
    c = p.login()
    c.query("set timezone = 'Asia/Kolkata'")
    c.query("begin")
    assert c.query("set local timezone = 'Asia/Tokyo'").status == "T"
    mark = p.restart()
    p.wait_for_log("took over 1 clients and 1 servers", since=mark)
    assert c.value("show timezone") == "Asia/Tokyo"
    cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (db,))
    wait_until(lambda: not p.show("servers"), "the pooler noticed")
    r = c.query("rollback")
    assert (r.tags, r.params, r.status) == (["ROLLBACK"], {"TimeZone": "Asia/Kolkata"}, "I")
    assert c.value("show timezone") == "Asia/Kolkata"


@pytest.mark.ours
def test_refused_transactions_go_on(make_pooler):
    """What comes behind a BEGIN that was refused was meant to be a part of its block."""
    p = make_pooler(settings={**TRANSACTION, "default_pool_size": 1}, profile="pgsluice")
    blocker, block, batch = p.login(), p.login(), p.login()
    blocker.query("begin")
    block.send(wire.query("begin"))
    batch.send(wire.parse("", "begin"), wire.bind(), wire.execute())
    p.wait_pool(cl_waiting=2)
    for c in (block, batch):
        p.cancel(c.key)
    assert block.read_ready().status == "E"
    assert batch.recv().type == "E"
    mark = p.restart()
    p.wait_for_log("took over 3 clients and 1 servers", since=mark)
    batch.send(wire.SYNC)
    assert batch.read_ready().status == "E"
    for c in (block, batch):
        assert c.query("create table never_there ()").errors[0].code == "25P02"
        assert c.query("rollback").status == "I"
    blocker.query("commit")
    assert block.value("select to_regclass('never_there') is null") == "t"


@pytest.mark.ours
def test_failed_transactions_are_not_for_pgbouncer(failing):
    p, (c,) = failing(1)
    p.exit_wanted = True
    psql_takes_over(p, "SUSPEND", "SHOW FDS", "SHUTDOWN")
    assert c.expect_error_close().code == "57P01"
    assert p.wait_exit() == 0


# --- drivers


def conninfo(p):
    return f"host=127.0.0.1 port={p.port} user=app dbname=app"


def psycopg_statements(p, stop):
    """Statements that the driver prepares and gives names to, also several in a transaction."""
    with psycopg.connect(conninfo(p), autocommit=True, prepare_threshold=0, connect_timeout=60) as c:
        n = 0
        while not stop.is_set():
            for i in range(5):
                assert c.execute(f"select %s::int + {i}", (n,)).fetchone() == (n + i,)
            with c.transaction():
                for i in range(3):
                    assert c.execute(f"select %s::text || '{i}'", (str(n),)).fetchone() == (f"{n}{i}",)
            n += 1
            yield


def psycopg_pipelines(p, stop):
    with psycopg.connect(conninfo(p), autocommit=True, prepare_threshold=1, connect_timeout=60) as c:
        n = 0
        while not stop.is_set():
            with c.pipeline() as pipeline:
                cursors = []
                for i in range(20):
                    cursors.append(c.execute(f"select %s::int + {(n + i) % 30}", (n,)))
                    if i % 7 == 0:
                        pipeline.sync()
                assert [x.fetchone()[0] for x in cursors] == [n + (n + i) % 30 for i in range(20)]
            n += 1
            yield


def asyncpg_statements(p, stop):
    """Each round has texts of its own, so that there is always one that is being prepared."""
    asyncpg = pytest.importorskip("asyncpg")
    loop = asyncio.new_event_loop()
    c = loop.run_until_complete(
        asyncpg.connect(host="127.0.0.1", port=p.port, user="app", database="app", ssl=False)
    )
    n = 0
    while not stop.is_set():
        for i in range(5):
            assert loop.run_until_complete(c.fetchval(f"select $1::int + {i} /* {n % 10} */", n)) == n + i
        n += 1
        yield
    loop.run_until_complete(c.close())
    loop.close()


@pytest.mark.newer
@pytest.mark.parametrize("work", [psycopg_statements, psycopg_pipelines, asyncpg_statements])
def test_drivers_go_on(make_pooler, work):
    """Under load, with statements that are prepared all the time."""
    settings = {**TRANSACTION, "default_pool_size": 3, "max_prepared_statements": 10}
    p = make_pooler(settings=settings, threads=2, profile="pgsluice")
    stop, errors, counts = threading.Event(), [], [0] * 6

    def run_work(n):
        try:
            for _ in work(p, stop):
                counts[n] += 1
        except Exception as e:
            errors.append(repr(e))

    def await_progress():
        before = list(counts)
        wait_until(lambda: errors or all(a > b for a, b in zip(counts, before)), "progress of all", timeout=60)

    threads = [threading.Thread(target=run_work, args=(n,)) for n in range(len(counts))]
    for t in threads:
        t.start()
    for _ in range(4):
        await_progress()
        p.restart()
    await_progress()
    stop.set()
    for t in threads:
        t.join(60)
    assert not errors
