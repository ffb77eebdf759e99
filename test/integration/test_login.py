"""Client logins: every auth_type against every form of stored secret, refusals and their texts, limits, databases."""
import concurrent.futures
import struct
import threading

import psycopg
import pytest
from harness import wire
from harness.pooler import is_pgbouncer
from harness.procs import wait_until
from harness.wire import PgError

PASSWORD = "pass word'\"1"
SECRETS = {
    "u_plain": PASSWORD,
    "u_md5": wire.md5_secret("u_md5", PASSWORD),
    "u_scram": wire.scram_secret(PASSWORD),
    "u_empty": "",
    "admin": "adminpw",
}

# auth_type -> user -> the exchange that the client must see; None: refused although the password is right
EXCHANGES = {
    "plain": {"u_plain": "plain", "u_md5": "plain", "u_scram": "plain"},
    "md5": {"u_plain": "md5", "u_md5": "md5", "u_scram": "scram-sha-256"},
    "scram-sha-256": {"u_plain": "scram-sha-256", "u_md5": None, "u_scram": "scram-sha-256"},
}
REFUSALS = {
    "plain": "password authentication failed",
    "md5": "password authentication failed",
    "scram-sha-256": "SASL authentication failed",
}


@pytest.fixture
def auth_pooler(make_pooler, cluster):
    """A pooler whose only database uses the trusted role app for all clients."""

    def make(auth_type, **settings):
        return make_pooler(
            {"app": cluster.dsn(user="app")}, secrets=SECRETS, settings={"auth_type": auth_type, **settings}
        )

    return make


@pytest.mark.parametrize("auth_type", EXCHANGES)
def test_right_password(auth_pooler, auth_type):
    p = auth_pooler(auth_type)
    for user, exchange in EXCHANGES[auth_type].items():
        if exchange is None:
            e = p.login_error(user, password=PASSWORD)
            assert e.text == "SASL authentication failed", user
            p.wait_for_log("user has MD5 secret")
            continue
        c = p.login(user, password=PASSWORD)
        assert c.auth == exchange, user
        assert c.value("select current_user") == "app"
        assert p.connect(user=user, password=PASSWORD).execute("select 7").fetchone() == (7,)


@pytest.mark.parametrize("auth_type", EXCHANGES)
def test_wrong_password(auth_pooler, auth_type):
    p = auth_pooler(auth_type)
    for user in ("u_plain", "u_md5", "u_scram", "u_empty", "nobody"):
        exchange = EXCHANGES[auth_type].get(user) or auth_type
        e = p.login_error(user, password="wrong")
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", REFUSALS[exchange]), user
        assert set(e.fields) <= {"S", "V", "C", "M"}, e.fields
    assert p.login("u_plain", password=PASSWORD).value("select 1") == "1"


@pytest.mark.parametrize("auth_type", ["plain", "md5"])
def test_empty_password(auth_pooler, auth_type):
    p = auth_pooler(auth_type)
    for user in ("u_plain", "u_empty", "nobody"):
        c = p.raw()
        c.start(user)
        assert c.recv().type == "R"
        c.send(wire.pack("p", b"\0"))
        assert c.expect_error_close().text == "empty password returned by client", user


@pytest.mark.newer
def test_empty_password_scram(auth_pooler):
    p = auth_pooler("scram-sha-256")
    for user in ("u_plain", "u_empty", "nobody"):
        assert p.login_error(user, password="").text == "SASL authentication failed", user


@pytest.mark.parametrize("auth_type", EXCHANGES)
def test_unknown_user_looks_like_wrong_password(auth_pooler, auth_type):
    """Message for message the same sizes and the same error, so that names cannot be probed."""
    p = auth_pooler(auth_type)

    def transcript(user):
        c = p.raw()
        c.start(user)
        seen = []
        scram = None
        while True:
            m = c.recv()
            seen.append((m.type, len(m.body) if m.type == "R" else m.body))
            if m.type == "E":
                c.expect_close()
                return seen
            scram = c.answer_auth(m.body, user, "wrong", scram)

    assert transcript("u_plain") == transcript("u_plaiX") == transcript("u_empty")


@pytest.mark.ours
def test_unknown_user_looks_like_most_under_md5(make_pooler, cluster):
    """Where all secrets are SCRAM verifiers, md5 is SCRAM for everybody, also for those that do not exist."""
    secrets = {"a": wire.scram_secret(PASSWORD), "b": wire.scram_secret(PASSWORD), "none": ""}
    p = make_pooler({"app": cluster.dsn(user="app")}, secrets=secrets, settings={"auth_type": "md5"})
    for user in ("a", "b", "none", "ghost"):
        c = p.raw()
        c.start(user)
        assert c.recv().body == b"\0\0\0\nSCRAM-SHA-256\0\0", user
        assert p.login_error(user, password="wrong").text == "SASL authentication failed"


def test_unknown_user_has_stable_salt(auth_pooler):
    """A salt that changed from one attempt to the next would tell that the user does not exist."""
    p = auth_pooler("scram-sha-256")

    def salt(user):
        c = p.raw()
        c.start(user)
        c.recv()
        client = wire.ScramClient("x")
        first = client.first()
        c.send(wire.pack("p", wire.cstr("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
        client.final(c.recv().body[4:])
        return client.salt, client.iterations

    assert salt("ghost") == salt("ghost")
    assert salt("ghost")[0] != salt("ghost2")[0]
    assert salt("u_scram") == salt("u_scram")
    assert salt("ghost")[1] == salt("u_plain")[1] == 4096


@pytest.mark.newer
def test_scram_iterations(auth_pooler):
    p = auth_pooler("scram-sha-256", scram_iterations=5000)
    c = p.login("u_plain", password=PASSWORD)
    assert c.scram_iterations == 5000
    assert p.login("u_scram", password=PASSWORD).scram_iterations == 4096


def test_trust(auth_pooler):
    p = auth_pooler("trust")
    assert p.login("u_plain").auth == "trust"
    assert p.login("u_empty").value("select 1") == "1"
    e = p.login_error("nobody")
    assert (e.code, e.text) == ("08P01", '"trust" authentication failed')


def test_any(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(user="app"), "free": cluster.dsn(dbname="app")}, settings={"auth_type": "any"}, secrets={}
    )
    assert p.login("whoever").value("select current_user") == "app"
    assert p.login_error("whoever", "free").text == "bouncer config error"
    p.wait_for_log("auth_type=any requires forced user")


def test_scram_channel_binding_flags(auth_pooler):
    """`n` and `y` are fine with the matching c=, `p=` is refused: we never offered a binding."""
    p = auth_pooler("scram-sha-256")

    def attempt(gs2, mechanism="SCRAM-SHA-256", lie=None):
        c = p.raw()
        c.start("u_plain")
        offered = c.recv().body[4:]
        assert offered == b"SCRAM-SHA-256\0\0"
        client = wire.ScramClient(PASSWORD, gs2)
        first = client.first()
        c.send(wire.pack("p", wire.cstr(mechanism) + struct.pack("!i", len(first)) + first))
        m = c.recv()
        if m.type == "E":
            return PgError(wire.fields_of(m.body)).text
        if lie:
            client.gs2 = lie
        c.send(wire.pack("p", client.final(m.body[4:])))
        m = c.recv()
        return PgError(wire.fields_of(m.body)).text if m.type == "E" else "ok"

    assert attempt("n,,") == "ok"
    assert attempt("y,,") == "ok"
    assert attempt("p=tls-unique,,") == "SASL authentication failed"
    assert attempt("n,,", lie="y,,") == "SASL authentication failed"
    assert attempt("n,,", mechanism="SCRAM-SHA-256-PLUS") == "client selected an invalid SASL authentication mechanism"
    assert attempt("n,,", mechanism="PLAIN") == "client selected an invalid SASL authentication mechanism"


def test_scram_nonce_must_be_echoed(auth_pooler):
    p = auth_pooler("scram-sha-256")
    c = p.raw()
    c.start("u_plain")
    c.recv()
    client = wire.ScramClient(PASSWORD)
    first = client.first()
    c.send(wire.pack("p", wire.cstr("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
    final = client.final(c.recv().body[4:])
    c.send(wire.pack("p", final.replace(b"r=" + client.nonce[:5].encode(), b"r=AAAAA")))
    assert c.expect_error_close().text == "SASL authentication failed"


def test_reload_rereads_auth_file(auth_pooler):
    p = auth_pooler("md5")
    assert p.login_error("late", password="x").text == "password authentication failed"
    p.secrets["late"] = "x"
    p.secrets["u_plain"] = "changed"
    p.write_files()
    p.admin("RELOAD")
    assert p.login("late", password="x").value("select 1") == "1"
    assert p.login_error("u_plain", password=PASSWORD).text == "password authentication failed"
    assert p.login("u_plain", password="changed").value("select 1") == "1"


def test_auth_file_dialect(make_pooler, cluster):
    """Comments, doubled quotes, text after the secret; a broken line keeps what stood before it."""
    lines = [
        '; a comment',
        '"admin" "adminpw"',
        '  "a""b"   "c""d" ignored "too"',
        '',
        '"two"',
        '"lines"',
        f'"long" "{"x" * 1000}"',
        'not a line of this file',
        '"after" "x"',
    ]
    p = make_pooler(
        {"app": cluster.dsn(user="app")}, settings={"auth_type": "plain"}, raw_secrets="\n".join(lines) + "\n"
    )
    assert p.login('a"b', password='c"d').value("select 1") == "1"
    assert p.login("two", password="lines").value("select 1") == "1"
    assert p.login("long", password="x" * 1000).value("select 1") == "1"
    assert p.login_error("after", password="x").text == "password authentication failed"
    p.wait_for_log("broken auth file")


@pytest.mark.newer
def test_very_long_password(make_pooler, cluster):
    """Longer than pkt_buf and than any buffer of ours."""
    long = "p" * 65000
    p = make_pooler(
        {"app": cluster.dsn(user="app")}, settings={"auth_type": "plain", "pkt_buf": 512}, secrets={"u": long}
    )
    assert p.login("u", password=long).value("select 1") == "1"
    assert p.login_error("u", password=long[:-1] + "q").text == "password authentication failed"


def test_missing_auth_file_is_not_fatal(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(user="app")}, settings={"auth_file": "/nonexistent/users"})
    p.wait_for_log("could not open auth_file /nonexistent/users")
    assert p.login_error("app").text == '"trust" authentication failed'


def test_unknown_database_is_told_after_authentication(auth_pooler):
    p = auth_pooler("md5")
    assert p.login_error("u_plain", "nodb", password="wrong").text == "password authentication failed"
    e = p.login_error("u_plain", "nodb", password=PASSWORD)
    assert (e.code, e.text) == ("08P01", "no such database: nodb")


@pytest.mark.newer
def test_fallback_database(make_pooler, cluster):
    p = make_pooler({"*": cluster.dsn()})
    assert p.login("app", "app").value("select current_database()") == "app"
    assert p.login("app", "bench").value("select current_database()") == "bench"
    p.wait_for_log("registered new auto-database: bench")
    e = p.login_error("app", "absent")
    assert e.code == "3D000"


def test_database_defaults_to_user(pooler, make_pooler, cluster):
    c = pooler.raw()
    c.login("app", None)
    assert c.value("select current_database()") == "app"


def test_max_client_conn(make_pooler):
    p = make_pooler(settings={"max_client_conn": 3, "auth_type": "md5"})
    held = [p.login(password="apppw") for _ in range(3)]
    e = p.login_error("app", password="apppw")
    assert (e.code, e.text) == ("08P01", "no more connections allowed (max_client_conn)")
    assert p.login_error("ghost", password="x").text == "no more connections allowed (max_client_conn)"
    assert len(p.show("clients")) == 4, "the console is exempt"
    held[0].terminate()
    wait_until(lambda: len(p.show("clients")) == 3, "the client that left is no longer counted")
    assert p.login(password="apppw").value("select 1") == "1"


@pytest.mark.newer
def test_max_db_client_connections(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(max_db_client_connections=2), "other": cluster.dsn(dbname="app")},
        settings={"auth_type": "md5"},
    )
    held = [p.login(password="apppw"), p.login("app2", password="app2pw")]
    e = p.login_error("app", password="apppw")
    assert (e.code, e.text) == ("08P01", "client connections exceeded (max_db_client_connections)")
    assert p.login_error("ghost", password="apppw").text == "client connections exceeded (max_db_client_connections)"
    assert p.login("app", "other", password="apppw").value("select 1") == "1"
    row = {r["name"]: r for r in p.show("databases")}["app"]
    assert (row["max_client_connections"], row["current_client_connections"]) == (2, 2)
    held[1].terminate()
    wait_until(
        lambda: {r["name"]: r for r in p.show("databases")}["app"]["current_client_connections"] == 1, "one left"
    )
    assert p.login(password="apppw").value("select 1") == "1"


@pytest.mark.newer
def test_max_user_client_connections(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"}, users={"app": "max_user_client_connections=1"})
    held = p.login(password="apppw")
    e = p.login_error("app", password="apppw")
    assert (e.code, e.text) == ("08P01", "client connections exceeded (max_user_client_connections)")
    assert p.login("app2", password="app2pw").value("select 1") == "1"
    held.reset()
    p.wait_pool(cl_active=0)
    assert p.login(password="apppw").value("select 1") == "1"


@pytest.mark.ours
def test_strangers_use_up_no_limit(make_pooler, cluster):
    """Under [pgsluice] a client counts when it is known who it is; under [pgbouncer] before, as in PgBouncer."""
    for profile, others in (("pgsluice", 0), ("pgbouncer", 2)):
        p = make_pooler(
            {"app": cluster.dsn(max_db_client_connections=3)},
            settings={"auth_type": "scram-sha-256"},
            users={"app": "max_user_client_connections=2"},
            profile=profile,
        )
        half_open = [p.raw() for _ in range(3)]
        for c in half_open:
            c.start("app")
            c.recv()
        if others:
            assert "connections" in p.login_error("app", password="apppw").text
            continue
        held = [p.login(password="apppw") for _ in range(2)]
        e = p.login_error("app", password="apppw")
        assert (e.code, e.text) == ("53300", "client connections exceeded (max_user_client_connections)")
        assert p.login_error("app", password="wrong").code == "28P01", "a stranger is told nothing of limits"
        assert {r["name"]: r for r in p.show("databases")}["app"]["current_client_connections"] == 2
        held[0].terminate()
        wait_until(
            lambda: {r["name"]: r for r in p.show("databases")}["app"]["current_client_connections"] == 1, "one left"
        )
        assert p.login(password="apppw").value("select 1") == "1"


@pytest.mark.ours
def test_console_refuses_whom_it_knows(make_pooler):
    """Under [pgsluice] nobody learns without a password who exists: not by the console's refusal either."""
    p = make_pooler(settings={"auth_type": "scram-sha-256"}, profile="pgsluice")
    assert p.login_error("app", "pgsluice", password="wrong").code == "28P01"
    e = p.login_error("app", "pgsluice", password="apppw")
    assert (e.code, e.text) == ("42501", "not allowed")


@pytest.mark.newer
@pytest.mark.parametrize("limit", ["max_db_client_connections", "max_user_client_connections"])
def test_limits_hold_for_admins_but_on_the_console(make_pooler, cluster, limit):
    p = make_pooler(settings={limit: 1, "admin_users": "app,admin"})
    first = p.login("app")
    assert p.login_error("app").text == f"client connections exceeded ({limit})"
    p.wait_for_log(rf"LOG C-.*: \(nodb\)/app@.* closing because: client connections exceeded \({limit}\)")
    for _ in range(2):
        assert p.login("app", "pgbouncer").query("SHOW VERSION").error is None
    assert first.value("select 1") == "1"


@pytest.mark.newer
def test_failed_logins_give_their_counts_back(make_pooler):
    p = make_pooler(
        settings={
            "auth_type": "md5",
            "max_client_conn": 4,
            "max_user_client_connections": 2,
            "max_db_client_connections": 2,
        }
    )
    for _ in range(6):
        assert p.login_error("app", password="wrong").text == "password authentication failed"
        c = p.raw()
        c.start("app")
        c.recv()
        c.reset()

    def try_login():
        try:
            return p.login(password="apppw")
        except PgError:
            return None

    c = wait_until(try_login, "a login succeeds after failed and abandoned ones")
    assert c.value("select 1") == "1"
    wait_until(lambda: p.lists()["login_clients"] == 0, "nobody logs in any more")


def test_login_log_lines(auth_pooler):
    p = auth_pooler("md5")
    p.login("u_plain", password=PASSWORD).terminate()
    p.login_error("u_plain", password="wrong")
    prefix = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[\d+\] "
    client = r"C-0x[0-9a-f]+: app/u_plain@127\.0\.0\.1:\d+ "
    p.wait_for_log(prefix + "LOG " + client + "login attempt: db=app user=u_plain tls=no")
    p.wait_for_log(prefix + "LOG " + client + r"closing because: client close request \(age=\d+s\)")
    p.wait_for_log(prefix + "WARNING " + client + "pooler error: password authentication failed")
    p.wait_for_log(
        prefix + r"LOG S-0x[0-9a-f]+: app/app@127\.0\.0\.1:\d+ new connection to server \(from 127\.0\.0\.1:\d+\)"
    )


def test_password_is_never_logged(auth_pooler):
    p = auth_pooler("plain", verbose=2)
    p.login("u_plain", password=PASSWORD).terminate()
    p.login_error("u_plain", password="another-secret")
    p.wait_for_log("pooler error: password authentication failed")
    assert PASSWORD not in p.log_text() and "another-secret" not in p.log_text()


@pytest.mark.newer
def test_cold_pool_shows_backend_error_at_login(make_pooler, cluster):
    """AuthenticationOk is held back until a server accepted us; its refusal is the client's, with its SQLSTATE."""
    p = make_pooler({"nodb": cluster.dsn(dbname="absent"), "full": cluster.dsn(dbname="app")})
    e = p.login_error("app", "nodb")
    assert (e.code, e.text) == ("3D000", 'database "absent" does not exist')
    e = p.login_error("limited", "full")
    assert e.code == "53300"
    with pytest.raises(psycopg.OperationalError, match='database "absent" does not exist'):
        p.connect("nodb")


def test_password_and_query_in_one_segment(auth_pooler):
    """Nothing forbids a client to run ahead of the questions that it knows will come."""
    p = auth_pooler("plain")
    c = p.raw()
    c.send(
        wire.startup_packet({"user": "u_plain", "database": "app"}),
        wire.pack("p", wire.cstr(PASSWORD)),
        wire.query("select 'ahead'"),
        wire.query("select 'of time'"),
    )
    result = c.read_ready()
    assert result.status == "I" and not result.errors
    assert c.read_ready().rows == [["ahead"]]
    assert c.read_ready().rows == [["of time"]]


def test_auth_type_of_a_reload(auth_pooler):
    p = auth_pooler("trust")
    old = p.login("u_plain")
    p.settings["auth_type"] = "scram-sha-256"
    p.write_files()
    p.admin("RELOAD")
    assert p.login("u_plain", password=PASSWORD).auth == "scram-sha-256"
    assert p.login_error("u_plain", password="wrong").text == "SASL authentication failed"
    assert old.value("select 1") == "1"


def test_login_storm(auth_pooler):
    """Many at once, a third of them with the wrong password."""
    p = auth_pooler(
        "scram-sha-256", max_client_conn=300, log_connections=0, log_disconnections=0, pool_mode="transaction"
    )

    def one(n):
        try:
            with wire.Conn.tcp(p.port, timeout=60) as c:
                c.login("u_plain", password="wrong" if n % 3 == 0 else PASSWORD)
                return c.value(f"select {n}")
        except PgError as e:
            return e.text

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        results = list(pool.map(one, range(200)))
    assert results == ["SASL authentication failed" if n % 3 == 0 else str(n) for n in range(200)]
    p.wait_no_clients()


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_client_leaves_while_its_first_server_logs_in(make_pooler, fake_server, leave):
    """Nothing of it stays behind: the next one gets the server that was opened for it."""
    go = threading.Event()

    def handler(conn, params):
        go.wait(10)
        wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn(pool_size=1)}, settings={"max_client_conn": 2, "pool_mode": "transaction"})
    c = p.raw()
    c.start()
    p.wait_pool(cl_waiting=1)
    getattr(c, leave)()
    if not is_pgbouncer():
        p.wait_pool(cl_waiting=0, sv_login=1)
    go.set()
    other = p.login()
    assert other.value("x") == "ok"
    other.terminate()
    p.wait_pool(cl_active=0, cl_waiting=0, sv_login=0)
    assert server.logins == 1


LOG_LINES = {
    "log_connections": r"login attempt: db=app|new connection to server",
    "log_disconnections": r"C-\S+ app/app@\S+ closing because: ",
    "log_pooler_errors": r"pooler error: no such database: absent",
}


@pytest.mark.parametrize("name", LOG_LINES)
def test_log_switches(make_pooler, name):
    """Each of them speaks of its own lines."""
    p = make_pooler(settings={n: int(n == name) for n in LOG_LINES})
    c = p.login()
    c.query("select 1")
    c.terminate()
    p.login_error("app", "absent")
    p.wait_for_log(LOG_LINES[name])
    p.wait_no_clients()
    assert [n for n, pattern in LOG_LINES.items() if p.log_count(pattern)] == [name]
