"""How many servers there may be: pool_size, reserve, minimum, limits per database and user, life and idle times."""
import concurrent.futures
import time

import pytest
from harness import wire
from harness.pooler import servers_of
from harness.procs import wait_until


def run_clients(p, count, work, **login):
    """work(connection) in `count` threads; the results, in order."""

    def one(_):
        c = p.login(timeout=60, **login)
        out = work(c)
        c.terminate()
        return out

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.parametrize("threads", [1, 4])
def test_pool_size_under_fifty_clients(make_pooler, cluster, database, threads):
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=5)}, settings={"pool_mode": "transaction"}, threads=threads
    )
    peak = (
        "select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'"
    )

    def work(c):
        out = []
        for _ in range(10):
            c.query("begin")
            out.append(int(c.value(peak)))
            c.query("select pg_sleep(0.002)")
            c.query("commit")
        return max(out)

    assert max(run_clients(p, 50, work)) <= 5
    p.wait_no_clients()
    row = p.pool()
    assert servers_of(row) <= 5 and row["sv_active"] == 0 and row["cl_waiting"] == 0


def test_database_and_user_pool_size(make_pooler, cluster):
    p = make_pooler({"one": cluster.dsn(dbname="app", pool_size=1), "two": cluster.dsn(dbname="app", pool_size=2)})
    conns = [p.login("app", "one"), p.login("app", "two"), p.login("app", "two")]
    for c in conns:
        assert c.value("select 1") == "1"
    for db, size in (("one", 1), ("two", 2)):
        extra = p.login("app", db)
        extra.send(wire.query("select 1"))
        row = p.wait_pool(db, cl_waiting=1)
        assert servers_of(row) == size


@pytest.mark.newer
def test_user_pool_size(make_pooler):
    p = make_pooler(settings={"default_pool_size": 1}, users={"app": "pool_size=2"})
    a, b, c = p.login(), p.login(), p.login()
    a.query("select 1"), b.query("select 1")
    c.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1, sv_active=2)


def test_waiters_are_served_in_order(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    holder = p.login()
    holder.query("begin")
    waiters = []
    for n in range(5):
        c = p.login()
        c.send(wire.query("select clock_timestamp()"))
        p.wait_pool(cl_waiting=n + 1)
        waiters.append(c)
    row = p.pool()
    assert row["maxwait"] * 1_000_000 + row["maxwait_us"] > 0
    holder.query("commit")
    times = [c.read_ready().rows[0][0] for c in waiters]
    assert times == sorted(times)


def test_reserve_pool(make_pooler):
    p = make_pooler(
        settings={"pool_mode": "transaction", "default_pool_size": 1, "reserve_pool_size": 1, "reserve_pool_timeout": 1}
    )
    holder = p.login()
    holder.query("begin")
    started = time.monotonic()
    second = p.login()
    assert second.value("select 1") == "1"
    assert time.monotonic() - started > 0.8
    p.wait_for_log("WARNING .*taking connection from reserve_pool")
    assert servers_of(p.pool()) == 2
    second.query("begin")
    third = p.login()
    third.send(wire.query("select 3"))
    p.wait_pool(cl_waiting=1)
    assert wire.wait_silent(third, 1.5), "there is one reserve server only"
    holder.query("commit")
    assert third.read_ready().rows == [["3"]]


def test_reserve_timeout_zero_turns_the_reserve_off(make_pooler):
    p = make_pooler(
        settings={"pool_mode": "transaction", "default_pool_size": 1, "reserve_pool_size": 5, "reserve_pool_timeout": 0}
    )
    holder = p.login()
    holder.query("begin")
    second = p.login()
    second.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    assert wire.wait_silent(second, 1.0)
    assert servers_of(p.pool()) == 1


def test_min_pool_size(make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db, user="app", min_pool_size=3)})
    p.login().query("select 1")
    wait_until(lambda: cluster.backends(db) == 3, "three servers")
    row = p.pool()
    assert servers_of(row) == 3


@pytest.mark.newer
def test_min_pool_size_with_forced_user_needs_no_client(make_pooler, cluster, database):
    db = database()
    make_pooler({"app": cluster.dsn(dbname=db, user="app", min_pool_size=2)})
    wait_until(lambda: cluster.backends(db) == 2, "two servers without any client")


def test_min_pool_size_stays_below_pool_size(make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db, min_pool_size=9, pool_size=2)})
    p.login().query("select 1")
    wait_until(lambda: cluster.backends(db) == 2, "two servers")
    time.sleep(0.8)
    assert cluster.backends(db) == 2


def test_max_db_connections_evicts_the_idle(make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db, max_db_connections=1)}, settings={"pool_mode": "transaction"})
    a, b = p.login("app"), p.login("app2")
    assert a.value("select current_user") == "app"
    assert b.value("select current_user") == "app2"
    assert a.value("select current_user") == "app"
    assert len(p.show("servers")) == 1
    wait_until(lambda: cluster.backends(db) == 1, "PostgreSQL knows that the others are closed")
    p.wait_for_log(r"closing because: evicted for max_db_connections \(age")
    a.query("begin")
    b.send(wire.query("select 2"))
    p.wait_pool("app", "app2", cl_waiting=1)
    assert wire.wait_silent(b, 0.5), "a busy server must not be evicted"
    a.query("commit")
    assert b.read_ready().rows == [["2"]]


def test_max_user_connections(make_pooler, cluster, database):
    one, two = database(), database()
    p = make_pooler(
        {"one": cluster.dsn(dbname=one), "two": cluster.dsn(dbname=two)},
        settings={"pool_mode": "transaction", "max_user_connections": 1},
    )
    a, b, other = p.login("app", "one"), p.login("app", "two"), p.login("app2", "two")
    assert a.value("select 1") == "1"
    assert b.value("select 1") == "1"
    assert other.value("select 1") == "1"
    assert sorted((r["database"], r["user"]) for r in p.show("servers")) == [("two", "app"), ("two", "app2")]
    wait_until(lambda: cluster.backends(one) == 0, "PostgreSQL knows that it is closed")
    b.query("begin")
    a.send(wire.query("select 'x'"))
    p.wait_pool("one", cl_waiting=1)
    assert wire.wait_silent(a, 0.4)
    b.query("commit")
    assert a.read_ready().rows == [["x"]]
    users = {r["name"]: r for r in p.show("users")}
    assert users["app"].get("max_user_connections", 1) == 1


def test_server_idle_timeout(make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction", "server_idle_timeout": 1})
    a, b = p.login(), p.login()
    a.query("begin"), b.query("begin"), a.query("commit"), b.query("commit")
    wait_until(lambda: p.log_count(r"closing because: server idle timeout \(age=\d+s\)") >= 2, "idle servers closed")
    wait_until(lambda: cluster.backends(db) == 0, "PostgreSQL knows it")
    assert a.value("select 1") == "1"


def test_server_lifetime(make_pooler, cluster, database):
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=1)}, settings={"pool_mode": "transaction", "server_lifetime": 1}
    )
    c = p.login()
    first = c.value("select pg_backend_pid()")
    p.wait_for_log(r"closing because: server lifetime over \(age=\d+s\)")
    assert c.value("select pg_backend_pid()") != first


def test_server_lifetime_zero_is_single_use(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "server_lifetime": 0, "default_pool_size": 1})
    c = p.login()
    seen = [c.value("select pg_backend_pid()") for _ in range(4)]
    assert len(set(seen)) == 4, seen


def use_order(p):
    """Three idle servers, used once more in a known order; then the backend that the pool hands out first."""
    conns = [p.login() for _ in range(3)]
    for c in conns:
        c.query("begin")
    order = []
    for c in conns:
        order.append(c.value("select pg_backend_pid()"))
    for c in conns:
        c.query("commit")
        p.wait_pool(cl_waiting=0)
    return order, [conns[0].value("select pg_backend_pid()") for _ in range(3)]


def test_last_used_server_first(make_pooler):
    order, seen = use_order(make_pooler(settings={"pool_mode": "transaction"}, threads=1))
    assert seen == [order[2]] * 3


def test_server_round_robin(make_pooler):
    order, seen = use_order(make_pooler(settings={"pool_mode": "transaction", "server_round_robin": 1}, threads=1))
    assert seen == order


@pytest.mark.parametrize("threads", [1, 4])
def test_lowered_pool_size(make_pooler, cluster, database, threads):
    """Servers above a limit that RELOAD lowered go when they are idle, and no more than those."""
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction", "default_pool_size": 12}, threads=threads
    )
    conns = [p.login() for _ in range(12)]
    for c in conns:
        c.query("begin")
    for c in conns:
        c.query("commit")
    for size in (11, 8, 5, 4, 1):
        p.settings["default_pool_size"] = size
        p.write_files()
        p.admin("RELOAD")
        wait_until(lambda: len(p.show("servers")) <= size, f"{size} servers left")
        assert len(p.show("servers")) == size
    wait_until(lambda: cluster.backends(db) == 1, "PostgreSQL sees one left")
    p.wait_for_log("closing because: too many servers in the pool")


@pytest.mark.newer
def test_pool_idle_timeout(make_pooler):
    p = make_pooler(settings={"pool_idle_timeout": 1, "server_idle_timeout": 1, "pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    assert p.pool()
    c.terminate()
    wait_until(lambda: p.pool() is None, "the idle pool is removed", step=0.1)
    assert p.login().value("select 1") == "1"


@pytest.mark.newer
def test_autodb_idle_timeout(make_pooler, cluster):
    p = make_pooler(
        {"*": cluster.dsn()}, settings={"autodb_idle_timeout": 1, "server_idle_timeout": 1, "pool_mode": "transaction"}
    )
    c = p.login("app", "app")
    c.query("select 1")
    assert "app" in [r["name"] for r in p.show("databases")]
    c.terminate()
    p.wait_for_log("dropping database 'app' as it does not exist anymore or inactive auto-database")
    assert "app" not in [r["name"] for r in p.show("databases")]
    assert p.login("app", "app").value("select 1") == "1"


@pytest.mark.newer
@pytest.mark.parametrize("threads", [1, 4])
def test_pool_size_zero_is_unlimited(make_pooler, cluster, database, threads):
    """Globally and for a database; the minimum then counts for nothing."""
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db), "one": cluster.dsn(dbname=db, pool_size=0)},
        settings={"default_pool_size": 0, "min_pool_size": 3},
        threads=threads,
    )
    conns = [p.login() for _ in range(25)]
    assert len({c.value("select pg_backend_pid()") for c in conns}) == 25
    p.admin("SET default_pool_size = 1")
    more = [p.login("app", "one") for _ in range(3)]
    assert len({c.value("select pg_backend_pid()") for c in more}) == 3


def test_reserve_pool_is_another_name_of_the_key(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(reserve_pool=3), "two": cluster.dsn(dbname="app")}, settings={"reserve_pool_size": 1}
    )
    sizes = {r["name"]: r.get("reserve_pool_size", r.get("reserve_pool")) for r in p.show("databases")}
    assert (sizes["app"], sizes["two"]) == (3, 1)


@pytest.mark.newer
def test_reserve_of_the_user_wins(make_pooler, cluster):
    """User, then database, then the setting; the reserve opens for whoever waited reserve_pool_timeout."""
    p = make_pooler(
        {"app": cluster.dsn(pool_size=1, reserve_pool_size=0)},
        settings={"pool_mode": "transaction", "reserve_pool_size": 5, "reserve_pool_timeout": "0.3"},
        users={"app2": "reserve_pool_size=1"},
    )
    for user, servers in (("app", 1), ("app2", 2)):
        holder, waiter = p.login(user), p.login(user)
        holder.query("begin")
        waiter.send(wire.query("select 1"))
        if servers == 2:
            assert waiter.read_ready().rows == [["1"]]
        else:
            assert wire.wait_silent(waiter, 1.0)
        assert servers_of(p.pool("app", user)) == servers


@pytest.mark.newer
def test_forced_user_decides_for_the_pool_and_presented_user_for_the_client(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(user="app2")},
        settings={"query_wait_timeout": 60},
        users={
            "app": "pool_size=7 pool_mode=session max_user_connections=9 query_wait_timeout=1"
            " max_user_client_connections=2",
            "app2": "pool_size=1 pool_mode=transaction query_wait_timeout=50 max_user_client_connections=1",
        },
    )
    a, b = p.login("app"), p.login("app")
    row = p.pool("app", "app2")
    assert row["pool_mode"] == "transaction"
    assert p.login_error("app").text == "client connections exceeded (max_user_client_connections)"
    a.query("begin")
    assert a.value("select current_user") == "app2"
    b.send(wire.query("select 1"))
    assert b.expect_error_close().text == "query_wait_timeout"
    assert servers_of(p.pool("app", "app2")) == 1


def test_limits_of_a_database_and_of_a_user_beat_the_global_ones(make_pooler, cluster):
    """A limit of 0 or less in a line inherits: "unlimited" cannot be said there."""
    p = make_pooler(
        {"app": cluster.dsn(max_db_connections=2), "zero": cluster.dsn(dbname="app", max_db_connections=0)},
        settings={"max_db_connections": 1, "max_user_connections": 9},
    )
    limits = {r["name"]: r["max_connections"] for r in p.show("databases")}
    assert (limits["app"], limits["zero"]) == (2, 1)
    conns = [p.login("app", "app"), p.login("app2", "app"), p.login("app", "zero")]
    assert [c.value("select 1") for c in conns] == ["1"] * 3
    for user, db in (("app", "app"), ("app2", "zero")):
        c = p.raw()
        c.start(user, db)
        c.send(wire.query("select 1"))
        p.wait_pool(db, user, cl_waiting=1)


@pytest.mark.newer
def test_max_user_connections_of_a_user_line(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(), "two": cluster.dsn(dbname="app")},
        users={"app": "max_user_connections=1", "app2": "max_user_connections=0"},
        settings={"max_user_connections": 2},
    )
    limits = {r["name"]: r["max_user_connections"] for r in p.show("users")}
    assert (limits["app"], limits["app2"], limits["admin"]) == (1, 2, 2)
    assert p.login("app", "app").value("select 1") == "1"
    c = p.raw()
    c.start("app", "two")
    c.send(wire.query("select 1"))
    p.wait_pool("two", "app", cl_waiting=1)
    assert p.login("app2", "two").value("select 1") == "1"


def test_server_idle_timeout_keeps_the_minimum(make_pooler, cluster, database):
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, min_pool_size=2)},
        settings={"pool_mode": "transaction", "server_idle_timeout": "0.3"},
    )
    conns = [p.login() for _ in range(5)]
    for c in conns:
        c.query("begin")
    for c in conns:
        c.query("commit")
    wait_until(lambda: p.log_count("closing because: server idle timeout") == 3, "three of five closed")
    time.sleep(0.5)
    assert len(p.show("servers")) == 2 and p.log_count("closing because: server idle timeout") == 3


@pytest.mark.newer
def test_server_lifetime_of_a_database(make_pooler, cluster):
    """In whole seconds; 0 inherits, it does not mean single use."""
    p = make_pooler(
        {"app": cluster.dsn(server_lifetime=1), "zero": cluster.dsn(dbname="app", server_lifetime=0)},
        settings={"pool_mode": "transaction"},
    )
    lifetimes = {r["name"]: r["server_lifetime"] for r in p.show("databases")}
    assert (lifetimes["app"], lifetimes["zero"]) == (1, 3600)
    c = p.login("app", "zero")
    pid = c.value("select pg_backend_pid()")
    p.login("app", "app").value("select 1")
    p.wait_for_log(r"S-\S+ app/app@\S+ closing because: server lifetime over")
    assert c.value("select pg_backend_pid()") == pid
    assert p.log_count(r"S-\S+ zero/app@\S+ closing because: server lifetime over") == 0


@pytest.mark.newer
def test_changed_star_line_changes_its_databases(make_pooler, cluster, database):
    """Databases made from the * line take its new text, and their servers are replaced."""
    one, two = database(), database()
    p = make_pooler({"*": cluster.dsn(dbname=one)}, settings={"pool_mode": "transaction"})
    c = p.login("app", "whatever")
    assert c.value("select current_database()") == one
    p.databases["*"] = cluster.dsn(dbname=two, pool_size=3)
    p.write_files()
    p.admin("RELOAD")
    assert c.value("select current_database()") == two
    assert {r["name"]: r["pool_size"] for r in p.show("databases")}["whatever"] == 3


@pytest.mark.ours
def test_bad_star_line_makes_no_database(make_pooler):
    p = make_pooler({"*": "hots=127.0.0.1"})
    p.wait_for_log(r"WARNING no database can be made from the \* line")
    assert p.login_error("app", "any").text == "no such database: any"
