"""Circuit breakers of endpoints: what opens them, what clients are told, how they close again, and what never counts."""
import random
import re
import threading

import pytest
from harness import wire
from harness.procs import free_port, wait_until

pytestmark = pytest.mark.ours

CLASSES = ("connect", "login", "overload", "protocol")


class Site:
    """A server that does what .mode says: ok, close (at the login), crash (at a query), or refuse with that state."""

    def __init__(self, fake_server, **kwargs):
        self.mode, self.under_way, self.peak, self.gate = "ok", 0, 0, None
        self.lock = threading.Lock()
        self.server = fake_server(self.handle, **kwargs)

    def handle(self, conn, params):
        if self.mode == "close":
            return
        if self.mode not in ("ok", "crash"):
            state, _, routine = self.mode.partition(" ")
            body = wire.error_body("FATAL", state, "no")[:-1] + (b"R" + wire.cstr(routine) if routine else b"") + b"\0"
            conn.send(wire.pack("E", body))
            return
        if self.gate is not None:
            with self.lock:
                self.under_way += 1
                self.peak = max(self.peak, self.under_way)
            self.gate.acquire()
            with self.lock:
                self.under_way -= 1
        wire.serve_queries(conn, self.reply)

    def reply(self, sql):
        if self.mode == "crash":
            raise wire.Closed("crash")
        if sql == "begin":
            return wire.answer("ok", b"T")
        if sql.startswith("fail"):
            return wire.pack("E", wire.error_body("ERROR", sql.split()[1], "no")) + wire.pack("Z", b"I")
        return wire.answer("ok")

    @property
    def name(self):
        return f"127.0.0.1:{self.server.port}"

    def dsn(self, **extra):
        return self.server.dsn(**extra)


@pytest.fixture
def site(fake_server):
    return Site(fake_server)


def start(make_pooler, databases, profile="pgsluice", threads=None, **settings):
    defaults = {
        "pool_mode": "transaction",
        "breaker_failure_threshold": 3,
        "breaker_recovery_timeout": 1000,
        "server_login_retry": 1,
        "health_interval": 0,
        "server_check_query": "",
    }
    if not isinstance(databases, dict):
        databases = {"app": databases}
    return make_pooler(databases, profile=profile, threads=threads, settings={**defaults, **settings})


def breaker(p, kind, endpoint=None, database="*"):
    rows = [
        r
        for r in p.show("breakers")
        if r["class"] == kind and r["database"] == database and endpoint in (None, r["endpoint"])
    ]
    assert len(rows) == 1, rows
    return rows[0]


def states(p):
    return {r["class"]: r["state"] for r in p.show("breakers")}


def wait_state(p, kind, state, **which):
    wait_until(lambda: breaker(p, kind, **which)["state"] == state, f"{kind} to be {state}")


def open_it(p, site, mode="close", database="app"):
    """Lets logins fail until the breaker opens; the error that the client gets for it."""
    site.mode = mode
    return p.login_error(database=database)


def assert_refused(error, endpoint):
    assert error.code == "08006"
    assert error.text == f"server is not available, the breaker of {endpoint} is open"


# ---- what opens it ----


def test_nobody_listens(make_pooler):
    """The client waits until the breaker opens, and later ones are told without another attempt."""
    port = free_port()
    p = start(make_pooler, f"host=127.0.0.1 port={port}")
    error = p.login_error()
    assert_refused(error, f"127.0.0.1:{port}")
    assert error.fields["D"].endswith("connect: 3 failures in a row, last: connect failed.")
    assert 0 < int(error.fields["H"].removeprefix("retry after ").removesuffix(" ms")) <= 1000 * 1000
    row = breaker(p, "connect", f"127.0.0.1:{port}")
    assert (row["state"], row["failures"], row["opened"]) == ("open", 3, 1)
    assert 0 < row["retry_ms"] <= 1000 * 1000
    assert row["reason"] == "3 failures in a row, last: connect failed"
    assert row["last_failures"].count("connect failed") == 3
    assert [breaker(p, k)["state"] for k in CLASSES[1:]] == ["closed"] * 3
    p.wait_for_log(
        rf"WARNING breaker of 127.0.0.1:{port} \(database \*, class connect\): closed -> open for 1000.000 s: "
        r"3 failures in a row, last: connect failed"
    )
    for _ in range(3):
        assert_refused(p.login_error(), f"127.0.0.1:{port}")
    assert breaker(p, "connect")["failures"] == 3


@pytest.mark.parametrize(
    "mode, kind",
    [("close", "login"), ("57P01", "login"), ("57P03", "overload"), ("53300", "overload"), ("53100", "overload")],
)
def test_class_of_failures_at_login(make_pooler, site, mode, kind):
    p = start(make_pooler, site.dsn())
    assert_refused(open_it(p, site, mode), site.name)
    assert states(p) == {k: "open" if k == kind else "closed" for k in CLASSES}
    assert site.server.logins == 3


def test_server_that_does_not_answer_is_overload(make_pooler, fake_server):
    done = threading.Event()
    server = fake_server(lambda conn, params: done.wait())
    p = start(make_pooler, server.dsn(), breaker_failure_threshold=1, server_connect_timeout=0.2)
    assert_refused(p.login_error(), f"127.0.0.1:{server.port}")
    assert states(p)["overload"] == "open"
    done.set()


def test_crash_in_the_middle_of_queries(make_pooler, site):
    """One after the other; then the pool, which has no server left, refuses the next query and keeps the session."""
    p = start(make_pooler, site.dsn())
    site.mode = "crash"
    p.login().terminate()
    for n in range(3):
        c = p.login()
        c.send(wire.query("select 1"))
        c.read_through("EZ")
        wait_until(lambda: breaker(p, "protocol")["failures"] == n + 1, "the crash to be counted")
        c.close()
    assert breaker(p, "protocol")["state"] == "open"
    c = p.login()
    for _ in range(2):
        refused = c.query("select 1")
        assert refused.types == "EZ" and refused.status == "I"
        assert_refused(refused.error, site.name)
    site.mode = "ok"
    p.admin(f"BREAKER CLOSE {site.name}")
    assert c.query("select 1").rows == [["ok"]]


def test_sessions_that_end_together_are_one_failure(make_pooler, fake_server):
    """A crash of the server ends all of them."""
    gate, servers = threading.Event(), []

    def reply(sql):
        servers.append(sql)
        gate.wait()
        raise wire.Closed("crash")

    server = fake_server(lambda conn, params: wire.serve_queries(conn, reply))
    p = start(make_pooler, server.dsn(pool_size=8), server_login_concurrency=8)
    clients = [p.login() for _ in range(8)]
    for c in clients:
        c.send(wire.query("select 1"))
    wait_until(lambda: len(servers) == 8, "all queries to run")
    gate.set()
    wait_until(lambda: breaker(p, "protocol")["failures"] == 8, "all to end")
    row = breaker(p, "protocol")
    assert (row["state"], row["failures_in_row"]) == ("closed", 1)


def test_share_of_failures(make_pooler, site):
    p = start(
        make_pooler,
        site.dsn(server_lifetime=0),
        breaker_failure_threshold=0,
        breaker_failure_rate=50,
        breaker_min_calls=4,
        breaker_window=1000,
        server_lifetime=0,
    )
    c = p.login()
    for n in range(2):
        assert c.query("select 1").rows == [["ok"]]
    wait_until(lambda: breaker(p, "login")["successes"] >= 2, "successes")
    before = breaker(p, "login")["successes"]
    site.mode = "close"
    wait_until(lambda: not p.show("servers"), "no server to be left")
    assert_refused(c.query("select 1").error, site.name)
    row = breaker(p, "login")
    needed = max(before, 4 - before)
    assert row["reason"].startswith(
        f"{100 * needed // (needed + before)} % of {needed + before} attempts within 1000 s"
    )


# ---- what does not ----


@pytest.mark.parametrize(
    "mode", ["28P01", "28000", "3D000", "42501", "53300 InitializeSessionUserId", "53300 CheckMyDatabase"]
)
def test_trouble_of_one_user_or_database_never_counts(make_pooler, site, mode):
    p = start(make_pooler, site.dsn())
    site.mode = mode
    for _ in range(4):
        assert p.login_error().code != "08006"
    wait_until(lambda: site.server.logins >= 4, "four attempts")
    assert states(p) == dict.fromkeys(CLASSES, "closed")
    assert [r["failures"] for r in p.show("breakers")] == [0] * 4


def test_errors_of_sql_never_count(make_pooler, site):
    p = start(make_pooler, site.dsn())
    c = p.login()
    for state in ("42601", "40001", "53100", "53200", "57014", "XX000") * 2:
        assert c.query(f"fail {state}").error.code == state
    assert [r["failures"] for r in p.show("breakers")] == [0] * 4


def test_waiting_too_long_in_our_queue_never_counts(make_pooler, site):
    p = start(make_pooler, site.dsn(pool_size=1), query_wait_timeout=0.2, breaker_failure_threshold=1)
    holder, late = p.login(), p.login()
    holder.query("begin")
    late.send(wire.query("select 1"))
    assert late.read_through("EZ").error.text.startswith("query_wait_timeout")
    assert [r["failures"] for r in p.show("breakers")] == [0] * 4


def test_terminated_backend_does_not_count(make_pooler, cluster):
    p = start(make_pooler, cluster.dsn(), breaker_failure_threshold=1)
    c = p.login()
    c.query("begin")
    pid = c.value("select pg_backend_pid()")
    cluster.sql(f"select pg_terminate_backend({pid})")
    wait_until(lambda: not p.show("servers"), "the server to be gone")
    assert [r["failures"] for r in p.show("breakers")] == [0] * 4


def test_off_by_default_under_pgbouncer(make_pooler):
    p = make_pooler({"app": f"host=127.0.0.1 port={free_port()}"}, settings={"client_login_timeout": 1})
    p.login_error()
    assert breaker(p, "connect")["failures"] >= 1
    assert breaker(p, "connect")["state"] == "closed"


# ---- while it is open ----


def test_those_who_wait_already_are_told(make_pooler, site):
    """On all workers; and the errors come when it opens, not at their deadline."""
    site.gate = threading.Semaphore(0)
    p = start(make_pooler, site.dsn(), threads=2, breaker_failure_threshold=1, query_wait_timeout=1000)
    clients = []
    for _ in range(6):
        c = p.raw()
        c.start()
        clients.append(c)
    wait_until(lambda: site.under_way == 1, "a login")
    site.server.conns[0].sock.shutdown(2)
    for c in clients:
        assert_refused(c.expect_error_close(), site.name)
    site.gate.release()


def test_a_crowd_that_waits_is_told(make_pooler, site):
    """More clients than are told in one turn of a thread; all of them stay, and are served again later."""
    p = start(make_pooler, site.dsn(pool_size=1), threads=2, max_client_conn=400, breaker_failure_threshold=1)
    holder = p.login()
    clients = [p.login() for _ in range(320)]
    holder.query("begin")
    for c in clients:
        c.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=320)
    site.mode = "close"
    site.server.conns[0].sock.shutdown(2)
    for c in clients:
        answer = c.read_ready()
        assert answer.types == "EZ" and answer.status == "I"
        assert_refused(answer.error, site.name)
    site.mode = "ok"
    p.admin(f"BREAKER CLOSE {site.name}")
    for c in clients:
        c.send(wire.query("select 2"))
    assert all(c.read_ready().rows == [["ok"]] for c in clients)


def test_servers_that_are_there_go_on(make_pooler, site):
    p = start(make_pooler, {"app": site.dsn(pool_size=2), "other": site.dsn()})
    c = p.login()
    assert c.query("select 1").rows == [["ok"]]
    p.admin(f"BREAKER OPEN {site.name}")
    assert c.query("select 2").rows == [["ok"]]
    d = p.login()
    assert d.query("select 3").rows == [["ok"]]
    assert_refused(p.login_error(database="other"), site.name)
    # The pool has no second server, so whoever needs one waits for the first.
    c.query("begin")
    d.send(wire.query("select 4"))
    p.wait_pool(cl_waiting=1)
    c.query("commit")
    assert d.read_ready().rows == [["ok"]]
    assert len(p.show("servers")) == 1


def test_hold_keeps_clients(make_pooler, site):
    p = start(make_pooler, site.dsn(), breaker_open_action="hold")
    site.mode = "close"
    c = p.raw()
    c.start()
    wait_state(p, "login", "open")
    d = p.raw()
    d.start()
    assert c.is_silent() and d.is_silent()
    site.mode = "ok"
    p.admin(f"BREAKER CLOSE {site.name}")
    for client in (c, d):
        client.read_ready()
        assert client.query("select 1").rows == [["ok"]]


def test_hold_ends_with_the_deadline_of_the_client(make_pooler, site):
    p = start(make_pooler, site.dsn(), breaker_open_action="hold", query_wait_timeout=0.3)
    c = p.login()
    site.mode = "close"
    p.admin(f"BREAKER OPEN {site.name}")
    p.admin("RECONNECT")
    wait_until(lambda: not p.show("servers"), "no server to be left")
    c.send(wire.query("select 1"))
    assert c.read_through("EZ").error.text.startswith("query_wait_timeout")


def test_another_endpoint_is_used(make_pooler, fake_server):
    bad = Site(fake_server)
    good = Site(fake_server, host="127.0.0.2", port=bad.server.port)
    bad.mode = "close"
    p = start(make_pooler, f"host=127.0.0.1,127.0.0.2 port={bad.server.port} pool_size=8", min_pool_size=8)
    c = p.login()
    assert c.query("select 1").rows == [["ok"]]
    wait_until(lambda: [r["addr"] for r in p.show("servers")] == 8 * ["127.0.0.2"], "the pool to be full")
    wait_state(p, "login", "open", endpoint=bad.name)
    tried = bad.server.logins
    p.admin("RECONNECT")
    wait_until(lambda: good.server.logins >= 16, "new servers")
    assert bad.server.logins == tried


@pytest.mark.parametrize("max_eject", [50, 100])
def test_overload_never_leaves_out_all(make_pooler, fake_server, max_eject):
    one = Site(fake_server)
    two = Site(fake_server, host="127.0.0.2", port=one.server.port)
    p = start(
        make_pooler,
        f"host=127.0.0.1,127.0.0.2 port={one.server.port}",
        breaker_max_eject=max_eject,
        query_wait_timeout=1000,
    )
    one.mode = two.mode = "53300"
    c = p.raw()
    c.start()
    for port_of in ("127.0.0.1", "127.0.0.2"):
        wait_state(p, "overload", "open", endpoint=f"{port_of}:{one.server.port}")
    assert c.is_silent()
    one.mode = two.mode = "ok"
    c.read_ready()
    assert c.query("select 1").rows == [["ok"]]


# ---- half open ----


def test_one_trial_then_it_closes(make_pooler, site):
    p = start(make_pooler, site.dsn(), breaker_recovery_timeout=0.2)
    assert_refused(open_it(p, site), site.name)
    site.gate = threading.Semaphore(0)
    site.mode = "ok"

    def tries():
        c = p.raw()
        c.start()
        wait_until(lambda: site.under_way == 1 or not c.is_silent(), "a trial or an error")
        if site.under_way == 1:
            return c
        c.close()
        return None

    trial = None
    for _ in range(100):
        trial = tries()
        if trial is not None:
            break
    assert trial is not None
    assert breaker(p, "login")["state"] == "half_open"
    assert_refused(p.login_error(), site.name)  # while the one trial is under way
    assert site.under_way == 1
    site.gate.release()
    trial.read_ready()
    for _ in range(3):
        assert trial.query("select 1").rows == [["ok"]]
    wait_state(p, "login", "closed")
    p.wait_for_log(r"class login\): half_open -> closed: 3 trials succeeded")
    assert states(p) == dict.fromkeys(CLASSES, "closed")


@pytest.mark.parametrize("mode, first", [("session", "select 1"), ("transaction", "begin")])
def test_trial_counts_with_its_first_answer(make_pooler, site, mode, first):
    """A session or a transaction that goes on for long keeps nobody else out."""
    p = start(
        make_pooler,
        {"app": site.dsn(), "other": site.dsn()},
        pool_mode=mode,
        breaker_failure_threshold=1,
        breaker_recovery_timeout=0.1,
        breaker_success_threshold=2,
    )
    p.login().close()
    site.mode = "crash"
    c = p.login()
    c.send(wire.query("select 1"))
    c.read_through("EZ")
    wait_until(lambda: breaker(p, "protocol")["opened"] == 1, "it to be open")
    site.mode = "ok"

    def is_trial():
        c = p.login()
        c.send(wire.query(first))
        return c.read_through("EZ").types[-1] == "Z"

    wait_until(is_trial, "a trial")
    assert breaker(p, "protocol")["state"] == "half_open"  # the same transaction or session does not count again
    assert p.login(database="other").query("select 1").rows == [["ok"]]
    wait_state(p, "protocol", "closed")


def test_failed_trial_opens_it_for_longer(make_pooler, site):
    p = start(make_pooler, site.dsn(), breaker_recovery_timeout=0.1, breaker_open_action="hold", threads=1)
    site.mode = "close"
    c = p.raw()
    c.start()
    p.wait_for_log(r"half_open -> open for 0\.\d+ s: a trial failed: server conn crashed\?")
    site.mode = "ok"
    c.read_ready()
    assert c.query("select 1").rows == [["ok"]]
    row = breaker(p, "login")
    assert row["opened"] >= 2


def test_open_time_of_a_database_has_its_cap(make_pooler, site):
    """It never doubles, whatever is set for the others."""
    own = site.dsn(breaker_recovery_timeout=0.1, breaker_recovery_max=0.1)
    p = start(make_pooler, own, breaker_recovery_max=1000, breaker_open_action="hold", threads=1)
    site.mode = "close"
    c = p.raw()
    c.start()
    wait_until(lambda: breaker(p, "login", database="app")["opened"] >= 6, "it to open again and again")
    site.mode = "ok"
    c.read_ready()
    times = set(re.findall(r"-> open for ([\d.]+) s: a trial failed", p.log_text()))
    assert {float(t) for t in times} == {0.1}


def test_trials_ramp(make_pooler, site):
    """Eight pools want a server each: one login, then two, then four are under way."""
    names = [f"db{n}" for n in range(8)]
    p = start(
        make_pooler,
        {name: site.dsn() for name in names},
        breaker_open_action="hold",
        breaker_recovery_timeout=0.1,
        breaker_recovery_max=0.1,
        breaker_success_threshold=100,
        server_login_concurrency=8,
    )
    site.mode = "close"
    first = p.raw()
    first.start(database="db0")
    wait_state(p, "login", "open")
    site.gate = threading.Semaphore(0)
    site.mode = "ok"
    clients = [first]
    for name in names[1:]:
        clients.append(p.raw())
        clients[-1].start(database=name)
    for wave in (1, 2, 4):
        wait_until(lambda: site.under_way == wave, f"{wave} trials under way")
        assert site.peak == wave
        if wave == 4:
            break
        for _ in range(wave):
            site.gate.release()
        # Each trial counts when its client was served.
        served = []
        while len(served) < wave:
            for c in [c for c in clients if c not in served and not c.is_silent()]:
                c.read_ready()
                assert c.query("select 1").rows == [["ok"]]
                served.append(c)
        for c in served:
            clients.remove(c)
    for _ in range(8):
        site.gate.release()
    for c in clients:
        c.read_ready()


def test_real_server_that_comes_back(make_pooler, private_cluster):
    p = start(make_pooler, private_cluster.dsn(), breaker_recovery_timeout=0.2, breaker_recovery_max=0.2)
    c = p.login()
    assert c.query("select 1").rows == [["1"]]
    private_cluster.stop()
    wait_until(lambda: not p.show("servers"), "no server to be left")
    result = c.query("select 1")
    assert result.error.code == "08006"
    private_cluster.start()

    def works():
        return c.query("select 2").rows == [["2"]]

    wait_until(works, "the pooler to find it again")
    for _ in range(3):
        assert works()
    assert states(p) == dict.fromkeys(CLASSES, "closed")


def test_probe_finds_the_server_before_the_time_is_over(make_pooler, private_cluster):
    p = start(make_pooler, private_cluster.dsn(), health_interval=1)
    c = p.login()
    assert c.query("select 1").rows == [["1"]]
    private_cluster.stop()
    wait_until(lambda: not p.show("servers"), "no server to be left")
    assert c.query("select 1").error.code == "08006"
    private_cluster.start()
    p.wait_for_log(r"class \w+\): open -> half_open: a probe succeeded", timeout=30)
    wait_until(lambda: c.query("select 2").error is None, "the pooler to use it again")
    for _ in range(3):
        c.query("select 3")
    assert states(p) == dict.fromkeys(CLASSES, "closed")


# ---- settings and console ----


def test_database_with_breakers_of_its_own(make_pooler, site):
    p = start(
        make_pooler,
        {
            "app": site.dsn(breaker_failure_threshold=1),
            "kept": site.dsn(breaker_open_action="hold"),
            "other": site.dsn(),
        },
    )
    site.mode = "close"
    assert_refused(p.login_error(), site.name)
    row = breaker(p, "login", database="app")
    assert (row["state"], row["failures"]) == ("open", 1)
    site.mode = "ok"
    p.login(database="other").terminate()
    assert breaker(p, "login")["state"] == "closed"
    p.admin(f"BREAKER CLOSE {site.name}")
    site.mode = "close"
    p.admin("RECONNECT")
    wait_until(lambda: not p.show("servers"), "no server to be left")
    c = p.raw()
    c.start(database="kept")
    wait_state(p, "login", "open")
    assert c.is_silent()


def test_all_settings_of_a_database(make_pooler, site):
    """Of four attempts half fail; then the first trial closes it."""
    p = start(
        make_pooler,
        site.dsn(
            breaker_failure_threshold=0,
            breaker_failure_rate=50,
            breaker_window=1000,
            breaker_min_calls=4,
            breaker_recovery_timeout=1,
            breaker_success_threshold=1,
            breaker_max_eject=0,
            breaker_open_action="hold",
            server_lifetime=1000,
        ),
        breaker_failure_threshold=1,
    )
    c = p.login()
    site.mode = "close"
    p.admin("RECONNECT")
    wait_until(lambda: not p.show("servers"), "no server to be left")
    c.send(wire.query("select 1"))
    wait_state(p, "login", "open", database="app")
    row = breaker(p, "login", database="app")
    assert row["reason"] == "75 % of 4 attempts within 1000 s failed, last: server conn crashed?"
    site.mode = "ok"
    assert c.read_ready().rows == [["ok"]]
    p.wait_for_log(r"database app, class login\): half_open -> closed: 1 trial succeeded")


def test_console_opens_closes_and_resets(make_pooler, site):
    p = start(make_pooler, site.dsn())
    p.login().terminate()
    mark = p.log_mark()
    p.admin(f"BREAKER OPEN {site.name}")
    assert states(p) == dict.fromkeys(CLASSES, "open")
    row = breaker(p, "login")
    assert row["retry_ms"] is None and row["reason"] == "the console said so"
    p.wait_for_log(r"class login\): closed -> open: the console said so", since=mark)
    p.admin(f'BREAKER CLOSE "{site.name}";')
    assert states(p) == dict.fromkeys(CLASSES, "closed")
    assert breaker(p, "login")["opened"] == 1
    p.admin(f"breaker reset '{site.name}'")
    assert breaker(p, "login")["opened"] == 0


def test_opened_by_hand_survives_its_pools(make_pooler, site):
    """Nobody names the endpoint for a while; it is still open."""
    p = start(make_pooler, {"app": site.dsn()})
    p.login().terminate()
    p.admin(f"BREAKER OPEN {site.name}")
    ini = p.ini_text()
    p.write(p.ini, ini.replace(f"port={site.server.port}", "port=1"))
    p.admin("RELOAD")
    wait_until(lambda: not p.show("servers"), "no server to be left")
    p.write(p.ini, ini)
    p.admin("RELOAD")
    assert breaker(p, "login", endpoint=site.name)["state"] == "open"


@pytest.mark.parametrize(
    "command, code",
    [
        ("BREAKER OPEN nowhere:1", "42704"),
        ("BREAKER OPEN", "42601"),
        ("BREAKER HALF 127.0.0.1:1", "42601"),
        ("PAUSE OPEN 127.0.0.1:1", "42601"),
    ],
)
def test_console_refuses(make_pooler, site, command, code):
    p = start(make_pooler, site.dsn())
    c = p.login(user="admin", database="pgbouncer", password="adminpw")
    error = c.query(command).error
    assert error is not None and error.code in (code, "08P01")


def test_only_admins_may(make_pooler, site):
    p = start(make_pooler, site.dsn())
    p.login().terminate()
    c = p.login(user="stats", database="pgbouncer", password="statspw")
    assert c.query("SHOW BREAKERS").error is None
    assert "admin access needed" in c.query(f"BREAKER OPEN {site.name}").error.text
    assert states(p) == dict.fromkeys(CLASSES, "closed")


def test_switched_off_while_open(make_pooler, site):
    p = start(make_pooler, site.dsn(), breaker_failure_rate=0)
    assert_refused(open_it(p, site), site.name)
    site.mode = "ok"
    p.admin("SET breaker_failure_threshold = 0")
    assert breaker(p, "login")["state"] == "closed"
    assert p.login().query("select 1").rows == [["ok"]]
    p.wait_for_log(r"class login\): open -> closed: breakers are off")


def test_every_change_has_its_evidence_in_the_log(make_pooler, site):
    p = start(make_pooler, site.dsn(), breaker_recovery_timeout=0.1, breaker_open_action="hold")
    site.mode = "57P03"
    c = p.raw()
    c.start()
    wait_state(p, "overload", "open")
    site.mode = "ok"
    c.read_ready()
    for _ in range(3):
        c.query("select 1")
    p.wait_for_log(r"class overload\): half_open -> closed: 3 trials succeeded")
    text = p.log_text()
    assert "class overload): closed -> open for 0.100 s: 3 failures in a row, last: no" in text
    assert "class overload): open -> half_open: it was open for " in text


def test_site_that_flaps_under_load(make_pooler, site):
    """Whatever happens to attempts, each gives back what it was admitted with: in the end all is closed."""
    names = [f"db{n}" for n in range(4)]
    p = start(
        make_pooler,
        {name: site.dsn(pool_size=3) for name in names},
        threads=3,
        breaker_failure_threshold=2,
        breaker_recovery_timeout=0.05,
        breaker_recovery_max=0.05,
        breaker_open_action="hold",
        server_lifetime=0,
        query_wait_timeout=1000,
        client_login_timeout=1000,
    )
    dice, over = random.Random(4711), threading.Event()
    served = []

    def flap():
        for _ in range(60):
            site.mode = dice.choice(["ok", "ok", "crash", "close", "57P03", "53300"])
            over.wait(0.02)
        site.mode = "ok"

    def work(name):
        left = 30
        while left > 0:
            try:
                c = p.login(database=name, timeout=60)
                while left > 0:
                    left -= 1
                    served.append(c.query("select 1").error is None)
                c.terminate()
            except (wire.Closed, wire.PgError, OSError):
                left -= 1

    threads = [threading.Thread(target=work, args=(names[n % 4],)) for n in range(12)]
    flapper = threading.Thread(target=flap)
    for t in threads + [flapper]:
        t.start()
    for t in threads + [flapper]:
        t.join()

    def is_closed():
        for name in names:
            with p.login(database=name, timeout=60) as c:
                assert c.query("select 1").rows == [["ok"]]
        return set(states(p).values()) == {"closed"}

    wait_until(is_closed, "all breakers to close", timeout=60)
    assert any(served)
