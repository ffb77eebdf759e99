"""How long databases, users and pools live, and what a reload does to many of them at once."""
import re
import threading

import pytest
from harness import wire
from harness.pooler import is_instrumented
from harness.procs import wait_until
from harness.wire import FakeServer, serve_queries

GONE = "dropping database '%s' as it does not exist anymore or inactive auto-database"


def counts(p):
    """How many databases, users and pools there are in memory."""
    rows = {r["name"]: r["used"] for r in p.show("mem")}
    return rows["db_cache"], rows["user_cache"], rows["pool_cache"]


def start_fake(request):
    """A server that anybody may log in to and that answers everything."""

    def handler(conn, params):
        serve_queries(conn)

    server = FakeServer(handler)
    request.addfinalizer(server.stop)
    return server


@pytest.mark.newer
def test_log_line_of_an_idle_pool(make_pooler):
    p = make_pooler(settings={"pool_idle_timeout": 1, "server_idle_timeout": 1, "pool_mode": "transaction"})
    p.login().terminate()
    p.wait_for_log(r"LOG cleaning up idle pool for user app on db app because: pool idle timeout \(age= \d+s\)")


@pytest.mark.newer
def test_statistics_vanish_with_the_pool(make_pooler):
    p = make_pooler(settings={"pool_idle_timeout": 1, "server_idle_timeout": 1, "pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    assert [r["total_query_count"] for r in p.show("stats") if r["database"] == "app"] == ["1"]
    c.terminate()
    wait_until(lambda: p.pool() is None, "the pool is gone")
    assert [r for r in p.show("stats") if r["database"] == "app"] == []
    p.login().query("select 1")
    assert [r["total_query_count"] for r in p.show("stats") if r["database"] == "app"] == ["1"]


@pytest.mark.newer
def test_pool_of_a_forced_user_with_a_minimum_stays(make_pooler, cluster):
    p = make_pooler(
        {"kept": cluster.dsn(dbname="app", user="app", password="apppw", min_pool_size=1), "app": cluster.dsn()},
        settings={"pool_idle_timeout": 1, "server_idle_timeout": 1, "pool_mode": "transaction"},
    )
    p.login("app", "kept").terminate()
    p.login("app", "app").terminate()
    p.wait_for_log("cleaning up idle pool for user app on db app ")
    p.wait_pool("kept", sv_idle=1)
    assert p.log_count("cleaning up idle pool for user app on db kept ") == 0


@pytest.mark.newer
def test_idle_automatic_database_is_hidden_but_kept(make_pooler, cluster):
    p = make_pooler({"*": cluster.dsn()}, settings={"server_idle_timeout": 1, "pool_mode": "transaction"})
    c = p.login("app", "app")
    assert "app" in [r["name"] for r in p.show("databases")]
    databases = p.lists()["databases"]
    c.terminate()
    wait_until(lambda: "app" not in [r["name"] for r in p.show("databases")], "the idle database is hidden")
    assert p.lists()["databases"] == databases - 1
    assert p.log_count(GONE % "app") == 0
    p.login("app", "app")
    assert p.log_count("registered new auto-database: app") == 1, "it was there still"


@pytest.mark.newer
def test_autodb_idle_timeout_spares_paused_databases(make_pooler, cluster):
    p = make_pooler({"*": cluster.dsn()}, settings={"autodb_idle_timeout": 1})
    p.admin("PAUSE held")
    p.admin("DISABLE other")
    p.wait_for_log(GONE % "other")
    assert p.log_count(GONE % "held") == 0
    p.admin("RESUME held")
    p.wait_for_log(GONE % "held")
    assert p.console().conn.query("RESUME held").error.text == "no such database: held"


@pytest.mark.newer
def test_kill_loses_the_statistics(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    p.admin("KILL app")
    assert c.expect_error_close().text == "database removed"
    assert [r for r in p.show("stats") if r["database"] == "app"] == []
    assert p.pool() is None
    p.admin("RESUME app")
    p.login().query("select 1")
    assert [r["total_query_count"] for r in p.show("stats") if r["database"] == "app"] == ["1"]


@pytest.mark.newer
def test_kill_without_a_name_pauses_every_database_that_has_a_pool(make_pooler, cluster):
    p = make_pooler({name: cluster.dsn(dbname="app") for name in ("one", "two", "unused")})
    clients = [p.login("app", "one"), p.login("app2", "one"), p.login("app", "two")]
    p.admin("KILL")
    for c in clients:
        assert c.expect_error_close().text == "database removed"
    assert {r["name"]: r["paused"] for r in p.show("databases")} == {"one": 1, "two": 1, "unused": 0, "pgbouncer": 0}
    wait_until(lambda: counts(p)[2] == 0, "all that was killed is freed")


@pytest.mark.ours
def test_forced_user_is_taken_away(make_pooler, cluster):
    """PgBouncer keeps it until a restart."""
    p = make_pooler({"app": cluster.dsn(user="app2", password="app2pw")}, settings={"pool_mode": "transaction"})
    early = p.login()
    assert early.value("select current_user") == "app2"
    p.databases["app"] = cluster.dsn()
    p.write_files()
    p.admin("RELOAD")
    assert p.login().value("select current_user") == "app"


@pytest.mark.ours
def test_line_of_a_user_is_taken_away(make_pooler, cluster):
    """PgBouncer keeps it until a restart."""
    p = make_pooler(users={"app": "pool_size=3 pool_mode=statement"}, settings={"default_pool_size": 7})
    p.login().query("select 1")
    assert p.pool()["pool_mode"] == "statement"
    p.users.clear()
    p.write_files()
    p.admin("RELOAD")
    assert p.pool()["pool_mode"] == "session"


@pytest.mark.ours
def test_automatic_databases_go_with_their_line(make_pooler, cluster):
    """PgBouncer keeps the line until a restart."""
    p = make_pooler({"*": cluster.dsn(), "app2": cluster.dsn(dbname="app")})
    c = p.login("app", "app")
    del p.databases["*"]
    p.write_files()
    p.admin("RELOAD")
    assert c.expect_error_close().text == "database removed"
    p.wait_for_log(GONE % "app")
    assert p.login_error("app", "app").text == "no such database: app"
    assert p.login("app", "app2").value("select 1") == "1"


@pytest.mark.newer
@pytest.mark.parametrize("threads", [1, 4])
def test_another_template_closes_the_servers_of_its_databases(make_pooler, cluster, threads):
    p = make_pooler(
        {"*": cluster.dsn(), "own": cluster.dsn(dbname="app")}, settings={"pool_mode": "transaction"}, threads=threads
    )
    auto, own = p.login("app", "app"), p.login("app", "own")
    before = [c.value("select pg_backend_pid()") for c in (auto, own)]
    p.databases["*"] = cluster.dsn(pool_size=5)
    p.write_files()
    p.admin("RELOAD")
    after = [c.value("select pg_backend_pid()") for c in (auto, own)]
    assert before[0] != after[0], "all servers of databases made from the line are closed"
    assert before[1] == after[1]


@pytest.mark.ours
@pytest.mark.parametrize("threads", [1, 4])
def test_names_that_come_and_go_leave_nothing_behind(make_pooler, request, threads):
    """Thousands of names of databases and users, from several connections at once, do not fill the memory."""
    server = start_fake(request)
    p = make_pooler(
        {"*": server.dsn()},
        settings={
            "auth_type": "trust",
            "pool_mode": "transaction",
            "autodb_idle_timeout": 1,
            "server_idle_timeout": 1,
            "log_connections": 0,
            "log_disconnections": 0,
            "default_pool_size": 1,
        },
        secrets={"admin": "adminpw", **{f"user{i}": "" for i in range(20)}},
        threads=threads,
    )
    number = 40 if is_instrumented() else 120
    failures = []

    def churn(which):
        try:
            for i in range(number):
                with p.raw() as c:
                    c.login(f"user{i % 20}", f"name-{which}-{i}")
                    c.query("select 1")
        except Exception as e:  # reported by the test
            failures.append(e)

    churners = [threading.Thread(target=churn, args=(n,)) for n in range(4)]
    for t in churners:
        t.start()
    for t in churners:
        t.join()
    assert not failures
    wait_until(lambda: counts(p) == (0, 1, 0), "all but the user of the console are forgotten", timeout=30)
    assert p.log_count("registered new auto-database") == 4 * number
    assert p.log_count(GONE % "name-") == 0
    p.login("user1", "name-0-0", "").query("select 1")
    assert counts(p) == (1, 2, 1)


@pytest.mark.ours
def test_reload_of_ten_thousand_databases_touches_what_has_changed(make_pooler, request):
    server = start_fake(request)
    databases = {f"db{i}": server.dsn(dbname="x") for i in range(10000)}
    p = make_pooler(databases, settings={"verbose": 1, "pool_mode": "transaction", "max_client_conn": 1000}, threads=2)
    clients = [p.login("app", f"db{i}") for i in range(300)]

    def reload():
        mark = p.log_mark()
        p.write_files()
        p.admin("RELOAD")
        handed = p.wait_for_log(r"reload: (\d+) databases, (\d+) registered, (\d+) pools, (\d+) changed", since=mark)
        log = p.log_text(mark)
        taken = re.findall(r"reload: worker\d has taken up (\d+) of (\d+) pools in (\d+) slices", log)
        return [int(n) for n in handed.groups()], [[int(n) for n in t] for t in taken]

    handed, taken = reload()
    assert handed == [10000, 300, 300, 0], "the same file again changes no pool"
    assert taken == [], "so no worker is told"
    p.databases["db7"] = server.dsn(dbname="x", pool_size=3)
    handed, taken = reload()
    assert handed == [10000, 300, 300, 1]
    assert sorted(t[0] for t in taken) == [0, 1], "only the one is taken up"
    assert sum(t[1] for t in taken) == 300, "parts that are not in use are not looked at"
    p.settings["server_idle_timeout"] = 700
    handed, taken = reload()
    assert handed == [10000, 300, 300, 300]
    assert sum(t[0] for t in taken) == 300
    assert all(slices >= looked // 128 for _, looked, slices in taken), "a few in each turn"
    assert [r["loop"] for r in p.show("loops")] == ["control", "login0", "worker0", "worker1"]
    for c in clients:
        assert c.query("select 1").error is None


def test_database_that_is_removed_and_comes_back(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "gone": cluster.dsn(dbname="app")}, settings={"pool_mode": "transaction"})
    for _ in range(5):
        c = p.login("app", "gone")
        c.query("select 1")
        del p.databases["gone"]
        p.write_files()
        p.admin("RELOAD")
        assert c.expect_error_close().text == "database removed"
        assert p.login_error("app", "gone").text == "no such database: gone"
        p.databases["gone"] = cluster.dsn(dbname="app")
        p.write_files()
        p.admin("RELOAD")
        assert p.login("app", "gone").value("select 1") == "1"
        p.close_clients()
