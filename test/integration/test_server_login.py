"""Logins to servers: every method PostgreSQL may ask for, every form of secret we may hold, and refusals."""
import os
import struct

import pytest
from harness import procs, wire
from harness.cluster import ROLES
from harness.pooler import is_pgbouncer
from harness.procs import wait_until
from harness.wire import PgError

ROLE_PW = {"app": "apppw", **{r: ROLES[r][0] for r in ("plainuser", "md5user", "scramuser")}}


@pytest.mark.parametrize("role", ROLE_PW)
@pytest.mark.parametrize("way", ["tcp", "unix", "name"])
def test_methods_with_a_plain_secret(make_pooler, cluster, role, way):
    host = {"tcp": "127.0.0.1", "unix": cluster.dir, "name": "localhost"}[way]
    p = make_pooler(
        {"app": f"host={host} port={cluster.port}"},
        settings={"auth_type": "md5"},
        secrets={role: ROLE_PW[role], "admin": "adminpw"},
    )
    c = p.login(role, password=ROLE_PW[role])
    assert c.value("select current_user") == role
    local = c.value("select coalesce(host(inet_client_addr()), 'unix')")
    assert local == ("unix" if way == "unix" else "127.0.0.1")


def test_default_host_is_the_socket_directory(make_pooler, cluster):
    p = make_pooler({"app": f"port={cluster.port}"}, settings={"unix_socket_dir": cluster.dir})
    assert p.login().value("select coalesce(host(inet_client_addr()), 'unix')") == "unix"


def test_md5_secret(make_pooler, cluster):
    secret = wire.md5_secret("md5user", "md5pw")
    p = make_pooler(settings={"auth_type": "md5"}, secrets={"md5user": secret})
    assert p.login("md5user", password="md5pw").value("select current_user") == "md5user"


@pytest.mark.parametrize("kind", ["plain", "md5", "scram"])
def test_cleartext_request_is_answered_with_the_text_of_the_secret(make_pooler, fake_server, kind):
    """Of a hash, too: what a server makes of it is its affair, and PgBouncer sends it."""
    secret = {
        "plain": "the password",
        "md5": wire.md5_secret("app", "the password"),
        "scram": wire.scram_secret("the password"),
    }[kind]
    seen = []

    def handler(conn, params):
        conn.send(wire.pack("R", struct.pack("!i", 3)))
        seen.append(conn.recv())
        wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"auth_type": "plain"}, secrets={"app": secret})
    assert p.login("app", password="the password").value("x") == "ok"
    assert [(m.type, m.body) for m in seen] == [("p", wire.cstr(secret))]


def test_md5_secret_cannot_answer_scram(make_pooler, cluster):
    p = make_pooler(settings={"auth_type": "md5"}, secrets={"scramuser": wire.md5_secret("scramuser", "scrampw")})
    e = p.login_error("scramuser", password="scrampw")
    assert (e.code, e.text) == ("08P01", "server login failed: wrong password type")


def test_scram_secret_cannot_answer_md5(make_pooler, cluster):
    p = make_pooler(settings={"auth_type": "scram-sha-256"}, secrets={"md5user": wire.scram_secret("md5pw")})
    e = p.login_error("md5user", password="md5pw")
    assert (e.code, e.text) == ("08P01", "server login failed: wrong password type")


@pytest.fixture
def stored_secret(cluster):
    return cluster.value("select rolpassword from pg_authid where rolname = 'scramuser'")


def test_scram_pass_through(make_pooler, cluster, stored_secret, database):
    """The pooler knows no password: it proves itself with the keys that the client's own login gave away."""
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db)}, settings={"auth_type": "scram-sha-256"}, secrets={"scramuser": stored_secret}
    )
    conns = [p.login("scramuser", password="scrampw") for _ in range(3)]
    for c in conns:
        assert c.value("select current_user") == "scramuser"
    assert cluster.backends(db, "scramuser") == 3
    assert p.login_error("scramuser", password="wrong").text == "SASL authentication failed"


@pytest.mark.newer
def test_scram_pass_through_after_the_servers_went(make_pooler, cluster, stored_secret, database):
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db)},
        settings={"auth_type": "scram-sha-256", "pool_mode": "transaction"},
        secrets={"scramuser": stored_secret},
    )
    c = p.login("scramuser", password="scrampw")
    for _ in range(3):
        assert c.value("select current_user") == "scramuser"
        cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (db,))
        wait_until(lambda: cluster.backends(db) == 0, "no backend left")


def test_scram_pass_through_needs_the_same_verifier(make_pooler, cluster):
    """Same password, other salt: the server refuses the proof."""
    p = make_pooler(settings={"auth_type": "scram-sha-256"}, secrets={"scramuser": wire.scram_secret("scrampw")})
    e = p.login_error("scramuser", password="scrampw")
    assert e.code in ("28P01", "08P01") and e.severity == "FATAL"


def test_forced_user_with_password(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(user="scramuser", password="scrampw")})
    assert p.login("app").value("select current_user") == "scramuser"
    assert p.pool("app", "scramuser") is not None


def test_forced_user_with_secret_from_auth_file(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(user="md5user")}, secrets={"app": "", "md5user": "md5pw", "admin": ""})
    assert p.login("app").value("select current_user") == "md5user"


@pytest.mark.newer
def test_forced_user_is_untouched_by_the_keys_of_a_client(make_pooler, cluster, stored_secret):
    """Keys belong to the name that the client presented, not to the role that the server sees."""
    p = make_pooler(
        {"app": cluster.dsn(user="scramuser", password="scrampw")},
        settings={"auth_type": "scram-sha-256", "pool_mode": "transaction"},
        secrets={"other": wire.scram_secret("otherpw")},
    )
    for _ in range(2):
        c = p.login("other", password="otherpw")
        assert c.value("select current_user") == "scramuser"
        c.send(wire.query("select pg_terminate_backend(pg_backend_pid())"))
        c.expect_close()


def test_wrong_password_is_the_clients_error(make_pooler, cluster):
    """Right for us, wrong for the server."""
    p = make_pooler(
        settings={"auth_type": "md5"}, secrets={"scramuser": "differs", "md5user": "differs", "plainuser": "differs"}
    )
    for role in ("scramuser", "md5user", "plainuser"):
        e = p.login_error(role, password="differs")
        assert (e.severity, e.text) == ("FATAL", f'password authentication failed for user "{role}"')
    assert p.log_count("WARNING .*server login failed: FATAL password authentication failed") == 3


@pytest.mark.newer
def test_sqlstate_of_the_server(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(), "gone": cluster.dsn(dbname="no_such_db")},
        settings={"auth_type": "md5"},
        secrets={"scramuser": "differs", "app": "apppw", "limited": "x", "norole": "x"},
    )
    assert p.login_error("scramuser", password="differs").code == "28P01"
    assert p.login_error("app", "gone", password="apppw").code == "3D000"
    assert p.login_error("limited", password="x").code == "53300"
    e = p.login_error("norole", password="x")
    assert (e.code, e.text) == ("28000", 'role "norole" does not exist')


def test_all_waiters_fail_with_one_attempt(make_pooler, fake_server):
    """A refusal answers everybody who waits; nobody else tries again before server_login_retry."""

    def refuse(conn, params):
        p.wait_pool(cl_waiting=5)
        conn.send(wire.pack("E", wire.error_body(code="28000", text="go away")))

    server = fake_server(refuse)
    serial = {} if is_pgbouncer() else {"server_login_concurrency": 1}
    p = make_pooler({"app": server.dsn()}, settings={"server_login_retry": 30, **serial})
    queue = [p.raw() for _ in range(5)]
    for c in queue:
        c.start()
    for c in queue:
        assert c.expect_error_close().text == "go away"
    assert server.logins == 1


@pytest.mark.newer
def test_server_that_is_starting_up(make_pooler, fake_server):
    """57P03 is no refusal: the clients go on waiting."""

    def handler(conn, params):
        if server.logins == 1:
            conn.send(wire.pack("E", wire.error_body(code="57P03", text="the database system is starting up")))
            return
        wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"server_login_retry": 1})
    c = p.login(timeout=20)
    assert c.value("select 1") == "ok"
    assert server.logins == 2


@pytest.mark.newer
def test_cached_error_on_a_warm_pool(make_pooler, fake_server):
    """The pool was up; now logins fail: who comes later is told at once instead of being queued."""

    def handler(conn, params):
        if server.logins == 1:
            wire.serve_queries(conn, lambda sql: b"" if conn.close() else b"")
            return
        conn.send(wire.pack("E", wire.error_body(code="28000", text="no longer")))

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"server_login_retry": 30, "pool_mode": "transaction"})
    idle, victim, late = p.login(), p.login(), p.login()
    victim.send(wire.query("select 1"))
    assert "server conn crashed?" in [e.text for e in victim.expect_close().errors]
    idle.send(wire.query("select 1"))
    e = idle.expect_error_close()
    assert (e.code, e.text) == ("28000", "no longer")
    late.send(wire.query("select 1"))
    e = late.expect_error_close()
    assert e.code == "08P01"
    assert e.text.startswith("server login has been failing, cached error: ") and e.text.endswith(
        " (server_login_retry)"
    )


def test_connect_query(make_pooler, cluster):
    p = make_pooler(
        {
            "app": cluster.dsn(connect_query="'set work_mem = ''78MB'''"),
            "bad": cluster.dsn(dbname="app", connect_query="'select 1/0'"),
        },
        settings={"pool_mode": "transaction"},
    )
    assert p.login().value("show work_mem") == "78MB"
    assert p.login("app", "bad").value("select 1") == "1"
    p.wait_for_log("division by zero")


def test_parameters_sent_to_the_server(make_pooler, fake_server):
    seen = []

    def handler(conn, params):
        seen.append(params)
        wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn(dbname="theirs", user="they", timezone="UTC", application_name="pool")})
    p.login("app").value("x")
    assert seen[0]["user"] == "they" and seen[0]["database"] == "theirs"
    assert seen[0]["timezone"] == "UTC" and seen[0]["application_name"] == "pool"
    assert set(seen[0]) <= {"user", "database", "timezone", "application_name"}


def test_unknown_authentication_request(make_pooler, fake_server):
    server = fake_server(lambda conn, params: (conn.send(wire.pack("R", struct.pack("!i", 7))), conn.recv()))
    p = make_pooler({"app": server.dsn()}, settings={"client_login_timeout": 2})
    c = p.raw()
    c.start()
    c.expect_error_close()
    p.wait_for_log("failed to answer authreq|unknown/unsupported auth method")


def test_unsupported_sasl_mechanism(make_pooler, fake_server):
    server = fake_server(
        lambda conn, params: (conn.send(wire.pack("R", struct.pack("!i", 10) + b"SCRAM-SHA-512\0\0")), conn.recv())
    )
    p = make_pooler({"app": server.dsn(password="x")})
    e = p.login_error("app")
    assert e.text == "server login failed: none of the server's SASL authentication mechanisms are supported"


def test_nonexistent_host_name(make_pooler):
    p = make_pooler({"app": "host=no-such-host.invalid port=5432"}, settings={"client_login_timeout": 3})
    c = p.raw()
    c.start()
    assert c.expect_error_close().text == "client_login_timeout (server down)"
    p.wait_for_log("DNS lookup failed: no-such-host.invalid|server DNS lookup failed")


@pytest.mark.newer
def test_host_list(make_pooler, cluster):
    p = make_pooler({"app": f"host=127.0.0.1,localhost port={cluster.port}"})
    conns = [p.login() for _ in range(3)]
    assert [c.value("select 1") for c in conns] == ["1"] * 3
    row = {r["name"]: r for r in p.show("databases")}["app"]
    assert row["host"] == "127.0.0.1,localhost" and row["load_balance_hosts"] == "round-robin"


def test_login_error_type(make_pooler, cluster):
    """psycopg sees the server's own error class."""
    import psycopg

    p = make_pooler({"app": cluster.dsn(dbname="no_such_db")})
    with pytest.raises(psycopg.OperationalError, match="no_such_db"):
        p.connect()
    with pytest.raises(PgError):
        p.raw().login()


@pytest.mark.parametrize("form", ["ipv4", "ipv6", "directory", "abstract", "name"])
def test_forms_of_host(make_pooler, fake_server, form):
    p = make_pooler(start=False)
    port = procs.free_port()
    host = {"ipv4": "127.0.0.7", "ipv6": "::1", "directory": p.dir, "abstract": f"@sluice-{port}", "name": "localhost"}[
        form
    ]
    listen = host if form in ("ipv4", "ipv6") else f"{host}/.s.PGSQL.{port}" if form != "name" else "127.0.0.1"
    try:
        fake_server(wire_serve, host=listen, port=port)
    except OSError:
        if form != "ipv6":
            raise
        pytest.skip("no IPv6 loopback here")
    if form == "directory":
        os.chmod(listen, 0o777)
    p.databases = {"app": f"host={host} port={port}"}
    p.start()
    assert p.login().value("select 1") == "ok"
    row = p.show("servers")[0]
    wanted = {"ipv4": "127.0.0.7", "ipv6": "::1", "name": "127.0.0.1"}.get(form, "unix")
    assert (row["addr"], row["port"]) == (wanted, port)


def wire_serve(conn, params):
    wire.serve_queries(conn)
