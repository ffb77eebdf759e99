"""PAUSE, KILL, DISABLE, RECONNECT, WAIT_CLOSE and KILL_CLIENT: what they do to clients and servers."""
import threading

import pytest
from harness import wire
from harness.load import adds_up, run_load
from harness.procs import wait_until
from harness.wire import PgError


def refused(console, command):
    error = console.conn.query(command).error
    assert error is not None, f"{command} was not refused"
    assert (error.severity, error.code) == ("ERROR", "08P01")
    return error.text


def sent(console, command):
    """Send a command whose answer comes later; console.conn.read_ready() reads it."""
    console.conn.send(wire.query(command))
    return console


def is_answered(console):
    return not console.conn.is_silent()


def two_databases(make_pooler, cluster, database, **kwargs):
    one, two = database(), database()
    p = make_pooler(
        {"one": cluster.dsn(dbname=one), "two": cluster.dsn(dbname=two)},
        settings={"pool_mode": "transaction", **kwargs.pop("settings", {})},
        **kwargs,
    )
    return p, one, two


# --- PAUSE


@pytest.mark.newer
def test_an_interrupted_pause_is_answered_and_undone(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    busy = p.login()
    busy.query("begin")
    console, watcher = sent(p.console(), "PAUSE"), p.console()
    p.wait_for_log("PAUSE command issued")
    p.cancel(console.conn.key)
    e = console.conn.read_ready().error
    assert (e.severity, e.code, e.text) == ("ERROR", "08P01", "canceled by the user")
    assert {r["key"]: r["value"] for r in watcher.show("state")}["active"] == "yes"
    assert p.login().value("select 1") == "1"
    assert console.show("version"), "the session goes on"
    assert busy.query("commit").tag == "COMMIT"


@pytest.mark.newer
def test_an_interrupted_pause_of_a_database_stays(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    busy = p.login()
    busy.query("begin")
    console = sent(p.console(), "PAUSE app")
    p.wait_for_log("PAUSE 'app' command issued")
    p.cancel(console.conn.key)
    assert console.conn.read_ready().error.text == "canceled by the user"
    assert [r["paused"] for r in p.show("databases") if r["name"] == "app"] == [1]
    assert console.run("RESUME app") == "RESUME"


@pytest.mark.newer
@pytest.mark.parametrize("scope", ["", " app"])
def test_a_pause_that_another_session_undoes(make_pooler, scope):
    p = make_pooler(settings={"pool_mode": "transaction"})
    busy = p.login()
    busy.query("begin")
    console = sent(p.console(), "PAUSE" + scope)
    p.wait_for_log("PAUSE.* command issued")
    assert p.console().run("RESUME" + scope) == "RESUME"
    assert console.conn.read_ready().error.text == "PAUSE was undone before it was complete"
    assert busy.query("commit").tag == "COMMIT"


@pytest.mark.newer
def test_a_cancel_request_of_a_stats_session_undoes_no_pause(make_pooler):
    p = make_pooler()
    watcher = p.console(user="stats", password="statspw")
    p.admin("PAUSE")
    p.cancel(watcher.conn.key)
    assert {r["key"]: r["value"] for r in watcher.show("state")}["paused"] == "yes"


def test_logins_while_paused(make_pooler):
    """They succeed where a server has logged in before; else they wait for RESUME."""
    p = make_pooler(settings={"pool_mode": "transaction"})
    p.login().query("select 1")
    p.admin("PAUSE")
    warm = p.login()
    cold = p.raw()
    cold.start("app2")
    p.wait_pool(user="app2", cl_waiting=1)
    assert cold.is_silent()
    p.admin("RESUME")
    cold.finish_login("app2", None)
    assert (warm.value("select 1"), cold.value("select 2")) == ("1", "2")


def test_query_wait_timeout_goes_on_while_paused(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "query_wait_timeout": 1})
    c = p.login()
    c.query("select 1")
    p.admin("PAUSE app")
    c.send(wire.query("select 2"))
    assert c.expect_error_close().text == "query_wait_timeout"


# --- KILL


@pytest.mark.newer
def test_kill_of_a_database(make_pooler, cluster, database):
    p, one, two = two_databases(make_pooler, cluster, database, settings={"default_pool_size": 1})
    busy, idle, waiting, other = (p.login("app", d) for d in ("one", "one", "one", "two"))
    idle.query("select 1"), other.query("select 1"), busy.query("begin")
    waiting.send(wire.query("select 1"))
    p.wait_pool("one", cl_waiting=1)
    console = p.console()
    assert console.run("KILL one") == "KILL"
    for c in (busy, idle, waiting):
        e = c.expect_error_close()
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "database removed")
    assert [r for r in console.show("servers") if r["database"] == "one"] == []
    wait_until(lambda: cluster.backends(one) == 0, "its servers are closed")
    assert [r["paused"] for r in console.show("databases") if r["name"] == "one"] == [1]
    assert other.value("select 'two'") == "two"
    late = p.raw()
    late.start("app", "one")
    p.wait_pool("one", cl_waiting=1)
    assert late.is_silent(), "who comes later waits, with the login already"
    assert console.run("RESUME one") == "RESUME"
    late.finish_login("app", None)
    assert late.value("select 'late'") == "late"


@pytest.mark.newer
def test_kill_of_everything(make_pooler, cluster, database):
    """Every database that has a pool is killed and paused; RESUME of everything does not resume them."""
    p, one, two = two_databases(make_pooler, cluster, database)
    a = p.login("app", "one")
    a.query("select 1")
    console = p.console()
    assert console.run("KILL") == "KILL"
    assert a.expect_error_close().text == "database removed"
    rows = {r["name"]: r["paused"] for r in console.show("databases")}
    assert (rows["one"], rows["two"]) == (1, 0), "two had no pool"
    assert refused(console, "RESUME") == "pooler is not paused/suspended"
    assert p.login("app", "two").value("select 1") == "1"
    assert console.run("RESUME one") == "RESUME"
    assert p.login("app", "one").value("select 1") == "1"


# --- DISABLE


def test_disable_and_enable(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "auth_type": "plain"})
    old = p.login(password="apppw")
    console = p.console()
    assert console.run("DISABLE app") == "DISABLE"
    assert p.login_error(password="wrong").text == "password authentication failed", "refused after authentication"
    e = p.login_error(password="apppw")
    assert (e.severity, e.code, e.text) == ("FATAL", "08P01", 'database "app" is disabled')
    assert old.value("select 1") == "1", "who is there is served"
    assert [r["disabled"] for r in console.show("databases") if r["name"] == "app"] == [1]
    assert console.run("ENABLE app") == "ENABLE"
    assert p.login(password="apppw").value("select 1") == "1"


# --- RECONNECT and WAIT_CLOSE


def test_reconnect_replaces_servers_when_they_are_free(make_pooler, cluster, database):
    p, one, two = two_databases(make_pooler, cluster, database)
    busy, idle, other = p.login("app", "one"), p.login("app", "one"), p.login("app", "two")
    busy.query("begin")
    before = {c: c.value("select pg_backend_pid()") for c in (busy, idle, other)}
    console = p.console()
    assert console.run("RECONNECT one") == "RECONNECT"
    assert idle.value("select pg_backend_pid()") not in before.values()
    assert busy.value("select pg_backend_pid()") == before[busy], "a transaction keeps its server"
    assert [r["close_needed"] for r in console.show("servers") if r["remote_pid"] == int(before[busy])] == [1]
    assert busy.query("commit").tag == "COMMIT"
    assert busy.value("select pg_backend_pid()") not in before.values()
    assert other.value("select pg_backend_pid()") == before[other]
    assert console.run("RECONNECT") == "RECONNECT"
    assert other.value("select pg_backend_pid()") not in before.values()


@pytest.mark.newer
def test_reconnect_closes_a_server_that_logs_in(make_pooler, fake_server):
    """At once; and that says nothing against the next attempt."""
    arrived, greet = threading.Event(), threading.Event()

    def handler(conn, _):
        if not arrived.is_set():
            arrived.set()
            conn.expect_close()
            greet.set()
        else:
            wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"server_login_retry": 30, "server_connect_timeout": 60})
    c = p.raw()
    c.start()
    assert arrived.wait(10), "a server logs in"
    p.admin("RECONNECT")
    assert greet.wait(10), "its login was given up"
    c.finish_login("app", None)
    assert c.value("x") == "ok"


@pytest.mark.newer
def test_after_reconnect_a_login_waits_for_a_fresh_server(make_pooler, fake_server):
    go = threading.Event()

    def handler(conn, _):
        if server.logins > 1:
            go.wait(10)
        wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction"})
    p.login().query("x")
    p.admin("RECONNECT app")
    c = p.raw()
    c.start()
    p.wait_pool(cl_waiting=1)
    assert c.is_silent()
    go.set()
    c.finish_login("app", None)


def test_wait_close(make_pooler, cluster, database):
    p, one, two = two_databases(make_pooler, cluster, database)
    console = p.console()
    assert console.run("WAIT_CLOSE") == "WAIT_CLOSE", "no server at all"
    assert console.run("WAIT_CLOSE one") == "WAIT_CLOSE"
    busy = p.login("app", "one")
    busy.query("begin")
    console.run("RECONNECT")
    all_of_them, this, other = (sent(p.console(), c) for c in ("WAIT_CLOSE", "WAIT_CLOSE one", "WAIT_CLOSE two"))
    assert other.conn.read_ready().tag == "WAIT_CLOSE"
    assert not is_answered(all_of_them) and not is_answered(this)
    busy.query("commit")
    assert all_of_them.conn.read_ready().tag == "WAIT_CLOSE"
    assert this.conn.read_ready().tag == "WAIT_CLOSE"


@pytest.mark.newer
def test_wait_close_answers_no_other_command(make_pooler):
    """PgBouncer goes on answering whatever waits with WAIT_CLOSE."""
    p = make_pooler(settings={"pool_mode": "transaction"})
    console = p.console()
    busy = p.login()
    busy.query("select 1")
    assert console.run("WAIT_CLOSE app") == "WAIT_CLOSE"
    busy.query("begin")
    sent(console, "PAUSE")
    p.wait_for_log("PAUSE command issued")
    assert busy.value("select 1") == "1" and not is_answered(console)
    busy.query("commit")
    assert console.conn.read_ready().tag == "PAUSE"


# --- KILL_CLIENT


@pytest.mark.newer
def test_kill_client(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1}, threads=3)
    names = ("active", "idle", "waiting")
    conns = {n: p.login(params={"application_name": n}) for n in names}
    conns["idle"].query("select 1")
    conns["active"].query("begin")
    conns["waiting"].send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    console, victim = p.console(), p.console()
    ids = {r["application_name"]: r["id"] for r in console.show("clients")}
    for name in ("waiting", "active", "idle"):
        assert console.run(f"KILL_CLIENT {ids[name]}") == "KILL_CLIENT"
        e = conns[name].expect_error_close()
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "admin forced disconnect"), name
        assert refused(console, f"KILL_CLIENT {ids[name]}") == "client not found"
    assert [r["application_name"] for r in console.show("clients") if r["database"] == "app"] == []
    number = max(r["id"] for r in console.show("clients"))
    assert console.run(f"KILL_CLIENT {number}") == "KILL_CLIENT", "sessions of the console, too"
    assert victim.conn.expect_error_close().text == "admin forced disconnect"
    for nonsense in ("abc", "0x1"):
        assert refused(console, f"KILL_CLIENT {nonsense}") == "invalid client pointer supplied"
    for nobody in ("4711", "99999999999999999999999"):
        assert refused(console, f"KILL_CLIENT {nobody}") == "client not found"


@pytest.mark.newer
def test_kill_client_of_oneself(pooler):
    console = pooler.console()
    own = [r["id"] for r in console.show("clients")][0]
    sent(console, f"KILL_CLIENT {own}")
    assert console.conn.expect_error_close().text == "admin forced disconnect"


@pytest.mark.newer
def test_kill_client_finds_nobody_who_logs_in(pooler):
    half = pooler.raw()
    half.send(b"\0")
    console = pooler.console()
    wait_until(lambda: pooler.lists()["login_clients"] == 1, "one client logs in")
    number = min(r["id"] for r in console.show("clients")) - 1
    assert refused(console, f"KILL_CLIENT {number}") == "client not found"
    assert half.is_silent()


# --- databases of the * entry


@pytest.mark.newer
def test_commands_on_databases_that_nobody_has_named_yet(make_pooler, cluster):
    """With a * entry PAUSE, DISABLE, KILL and others make them; RESUME and ENABLE do not."""
    p = make_pooler({"*": cluster.dsn()}, settings={"pool_mode": "transaction"})
    console = p.console()
    for command in ("RESUME", "ENABLE"):
        assert refused(console, f"{command} app") == "no such database: app"
    for command in ("RECONNECT", "WAIT_CLOSE", "DISABLE", "ENABLE", "PAUSE", "RESUME", "KILL"):
        assert console.run(f"{command} app") == command
    p.wait_for_log("registered new auto-database: app")
    c = p.raw()
    c.start()
    p.wait_pool(cl_waiting=1)
    assert console.run("RESUME app") == "RESUME"
    c.finish_login("app", None)
    assert c.value("select 1") == "1"


# --- under load


def under_load(p, during, clients=8):
    load = run_load(p, clients, during)
    adds_up(p)
    return [t for c in load for t in c.told]


@pytest.fixture
def loaded(make_pooler, cluster, database):
    """A pooler with four workers and fewer servers than the load will have clients."""
    db = database()
    return make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=3), "other": cluster.dsn(dbname="app")},
        settings={"pool_mode": "transaction", "log_connections": 0, "log_disconnections": 0},
        threads=4,
    )


@pytest.mark.ours
def test_pause_of_a_database_under_load(loaded):
    """Its answer means that no server is left; queries wait meanwhile and none fails."""
    p = loaded

    def during():
        console, other = p.console(), p.login("app", "other")
        for _ in range(10):
            assert console.run("PAUSE app") == "PAUSE"
            assert [r for r in console.show("servers") if r["database"] == "app"] == []
            assert other.value("select 1") == "1"
            assert console.run("RESUME app") == "RESUME"
        console.run("RECONNECT other"), console.run("WAIT_CLOSE other")

    assert under_load(p, during) == []


@pytest.mark.ours
def test_reconnect_under_load(loaded):
    """Every server is replaced, also one on its way between workers, and no query fails."""
    p = loaded

    def during():
        console = p.console()
        for _ in range(10):
            old = {r["id"] for r in console.show("servers") if r["database"] == "app"}
            assert console.run("RECONNECT app") == "RECONNECT"
            assert console.run("WAIT_CLOSE app") == "WAIT_CLOSE"
            assert not old & {r["id"] for r in console.show("servers")}

    assert under_load(p, during) == []


@pytest.mark.ours
def test_kill_under_load(loaded):
    """All clients are told, nothing is left, and those who come again wait for RESUME."""
    p = loaded

    def during():
        console = p.console()
        for _ in range(5):
            assert console.run("KILL app") == "KILL"
            assert [r for r in console.show("servers") if r["database"] == "app"] == []
            assert console.run("RESUME app") == "RESUME"
            p.wait_pool(cl_waiting=0)

    told = under_load(p, during)
    assert set(told) == {"database removed"}


@pytest.mark.ours
def test_disable_under_load(loaded):
    p = loaded

    def during():
        console = p.console()
        for _ in range(10):
            console.run("DISABLE app")
            with pytest.raises(PgError, match="is disabled"):
                p.login()
            console.run("ENABLE app")
            p.login().terminate()

    assert under_load(p, during) == []


@pytest.mark.ours
def test_kill_client_under_load(loaded):
    p = loaded

    def during():
        console = p.console()
        for _ in range(20):
            ids = [r["id"] for r in console.show("clients") if r["database"] == "app"]
            if ids:
                console.conn.query(f"KILL_CLIENT {ids[len(ids) // 2]}")

    assert set(under_load(p, during)) <= {"admin forced disconnect"}


# --- a database called like the console


def test_a_database_called_pgsluice(make_pooler, cluster):
    """A file of PgBouncer may have one: it is found under its name, and the console under PgBouncer's."""
    p = make_pooler({"pgsluice": cluster.dsn(dbname="app")})
    assert p.login(database="pgsluice").value("select current_database()") == "app"
    console = p.console()
    console.conn.query("DISABLE pgsluice")
    assert p.login_error(database="pgsluice").text == 'database "pgsluice" is disabled'
    assert refused(console, "DISABLE pgbouncer") == "cannot disable admin db: pgbouncer"
