"""
Replication through the pooler, logical and physical: a server of its own for each client, in any pool mode, beside
ordinary clients of the same pool; who may, and whose turn it is.
"""
import threading

import pytest
from harness import procs, wire
from harness.pooler import SECRETS
from harness.replication import LOGICAL, MODES, PHYSICAL, identify, replication_column

pytestmark = pytest.mark.newer


# --- sessions


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("params,shown", [(LOGICAL, "logical"), (PHYSICAL, "physical")])
def test_session_of_its_own(make_before_primary, mode, params, shown):
    """Commands work one after the other, the server stays with its client and ends with it."""
    p = make_before_primary(mode)
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


def test_login_line_and_boolean_spellings(make_before_primary):
    """The parameter is a boolean of PostgreSQL's, or the word database; what is neither means nothing."""
    p = make_before_primary()
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


def test_console_takes_no_notice(make_before_primary):
    p = make_before_primary()
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


def test_parameters_and_options_go_with_the_login(make_before_primary):
    """No SET is sent: the server starts with all of it, options as they came."""
    p = make_before_primary("transaction", dsn={"timezone": "UTC", "datestyle": "German"})
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


def test_parameters_do_not_become_the_pools(make_before_primary):
    """The first server of a pool makes the greeting of all its clients, unless it has the parameters of one of them."""
    p = make_before_primary()
    p.login("repl", "app", params={**LOGICAL, "TimeZone": "Asia/Tokyo", "options": "-c geqo=off"})
    c = p.login("repl", "app")
    assert c.params["TimeZone"] == "UTC" and c.value("show geqo") == "on"


def test_commands_behind_the_startup_packet(make_before_primary):
    """What is sent before the greeting is answered behind it."""
    p = make_before_primary()
    c = p.raw()
    c.send(
        wire.startup_packet({"user": "repl", "database": "app", **PHYSICAL}),
        wire.query("IDENTIFY_SYSTEM"),
        wire.query("SHOW wal_level"),
    )
    c.finish_login("repl", None)
    assert len(c.read_ready().rows[0]) == 4 and c.read_ready().error is None


@pytest.mark.parametrize("params", [LOGICAL, PHYSICAL])
def test_greeting(make_before_primary, params):
    """It has what the server reports, and the key is one of ours."""
    p = make_before_primary()
    c = p.login("repl", "app", params={**params, "TimeZone": "Asia/Tokyo"})
    assert c.params["TimeZone"] == "Asia/Tokyo"
    assert {"server_version", "integer_datetimes", "is_superuser"} <= set(c.params)
    assert len(c.key) == 8


def test_connect_query(make_before_primary):
    """It runs before the client comes, where the server knows SQL."""
    p = make_before_primary(dsn={"connect_query": "'set work_mem = ''55MB'''"})
    assert p.login("repl", "app", params=LOGICAL).value("show work_mem") == "55MB"
    identify(p.login("repl", "replication", params=PHYSICAL))
    assert "exec_on_query" not in p.log_text()


# --- refusals


@pytest.mark.parametrize("params", [LOGICAL, PHYSICAL])
def test_refusal_is_told_to_its_client_only(make_before_primary, params):
    """`login failed`; the reason is in the log. Ordinary clients of the pool are served on."""
    p = make_before_primary()
    other = p.login("app", "app")
    mark = p.log_mark()
    error = p.login_error("app", "app", params=params)
    assert (error.code, error.text) == ("08P01", "login failed")
    p.wait_for_log(r"ERROR S: login failed: FATAL: .*(superuser|replication|permission)", since=mark)
    assert p.log_count(r"closing because: login failed \(age", since=mark) == 2
    assert other.value("select 1") == "1" and p.login("app", "app").value("select 2") == "2"


def test_refusal_on_a_cold_pool_spares_those_who_wait(make_before_primary, primary):
    """Nobody has logged in to the pool yet: the refusal of one is no failure of the pool."""
    p = make_before_primary(dsn={"pool_size": 1})
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


def test_refusal_in_the_style_of_postgres(make_before_primary):
    p = make_before_primary(settings={"error_style": "postgres"})
    error = p.login_error("app", "app", params=LOGICAL)
    assert (error.code, error.text) == ("08001", "login failed")
    assert "has refused the login of the pooler: " in error.fields["D"]
    assert "superuser" in error.fields["D"] or "permission" in error.fields["D"]


@pytest.mark.parametrize("options", ["-c no_such_setting=1", "-c work_mem=nonsense", "--x" + 20000 * "y"])
def test_options_that_the_server_refuses(make_before_primary, options):
    """They are the fault of one client: others, who need a first server, do not wait for a retry."""
    p = make_before_primary(settings={"server_login_retry": 60})
    error = p.login_error("repl", "app", params={**LOGICAL, "options": options})
    assert error.text in ("login failed", "server conn crashed?")
    assert p.login("repl", "app").value("select 1") == "1"
    identify(p.login("repl", "app", params=LOGICAL))


def test_server_that_cannot_be_reached(make_pooler):
    """The client is told at once, others of the pool wait for the next attempt."""
    p = make_pooler({"app": f"host=127.0.0.1 port={procs.free_port()}"})
    assert p.login_error("app", "app", params=PHYSICAL).text == "connect failed"


# --- sizes and the queue


def test_counts_in_the_size_of_the_pool(make_before_primary):
    """The third of two waits until one leaves; each gets a fresh server."""
    p = make_before_primary(dsn={"pool_size": 2})
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


def test_idle_servers_make_room(make_before_primary):
    """One idle server of the full pool is closed for it; nobody else loses anything."""
    p = make_before_primary(dsn={"pool_size": 2})
    clients = [p.login("repl", "app") for _ in range(2)]
    for c in clients:
        c.send(wire.query("begin"))
        c.read_ready()
    for c in clients:
        c.query("commit")
    p.wait_pool("app", "repl", sv_idle=2)
    c = p.login("repl", "app", params=LOGICAL)
    identify(c)
    assert p.log_count(r"closing because: evicted for pool_size \(age") == 1
    assert [c.value("select 1") for c in clients] == ["1", "1"]
    p.wait_pool("app", "repl", sv_idle=1, sv_active=1)


def test_released_server_makes_room(make_before_primary):
    """All are busy: what is released is not handed to the client that replicates, but closed for it."""
    p = make_before_primary(dsn={"pool_size": 1})
    busy = p.login("repl", "app")
    busy.query("begin")
    waits = p.raw()
    waits.start("repl", "app", params=LOGICAL)
    p.wait_pool("app", "repl", cl_waiting=1)
    busy.query("commit")
    waits.finish_login("repl", None)
    identify(waits)
    assert p.log_count(r"closing because: evicted for pool_size \(age") == 1


def test_turn_in_the_queue(make_before_primary):
    """Who came before is served before; who came after, after."""
    p = make_before_primary(dsn={"pool_size": 1}, settings={"query_wait_notify": 0})
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


def test_limit_of_the_database(make_before_primary):
    """max_db_connections is reached: an idle server goes, of this pool if there is no other."""
    p = make_before_primary(dsn={"max_db_connections": 1})
    assert p.login("repl", "app").value("select 1") == "1"
    c = p.login("repl", "app", params=LOGICAL)
    identify(c)
    c.terminate()
    assert p.login("app", "app").value("select 1") == "1"
    identify(p.login("repl", "app", params=LOGICAL))


def test_limit_of_the_database_while_all_are_busy(make_before_primary):
    p = make_before_primary(dsn={"max_db_connections": 1})
    busy = p.login("repl", "app")
    busy.query("begin")
    waits = p.raw()
    waits.start("repl", "app", params=LOGICAL)
    p.wait_pool("app", "repl", cl_waiting=1)
    busy.query("commit")
    waits.finish_login("repl", None)
    identify(waits)


def test_wait_for_a_place_has_an_end(make_before_primary):
    p = make_before_primary(dsn={"pool_size": 1}, settings={"query_wait_timeout": 1})
    p.login("repl", "app", params=LOGICAL)
    assert p.login_error("repl", "app", params=LOGICAL).text == "query_wait_timeout"


def test_client_leaves_the_queue(make_before_primary):
    p = make_before_primary(dsn={"pool_size": 1})
    a = p.login("repl", "app", params=LOGICAL)
    waits = p.raw()
    waits.start("repl", "app", params=LOGICAL)
    p.wait_pool("app", "repl", cl_waiting=1)
    waits.close()
    p.wait_pool("app", "repl", cl_waiting=0)
    a.terminate()
    p.wait_pool("app", "repl", sv_active=0)
    assert p.login("repl", "app").value("select 1") == "1"


def test_servers_never_change_hands(make_before_primary):
    """Clients of both kinds come and go in one small pool: each has what it asked for, and its own parameters."""
    p = make_before_primary(dsn={"pool_size": 3})
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


# --- cancel


def test_cancel(make_before_primary, primary):
    """The key of the client leads to its own server, while an ordinary client of the pool runs something, too."""
    p = make_before_primary("transaction")
    c = p.login("repl", "app", params=LOGICAL)
    other = p.login("repl", "app")
    other.send(wire.query("select pg_sleep(1.5), 'other'"))
    c.send(wire.query("select pg_sleep(60) /* repl_cancel */"))
    primary.wait_running("repl_cancel")
    p.cancel(c.key)
    assert c.read_ready().error.code == "57014"
    identify(c)
    assert other.read_ready().error is None
