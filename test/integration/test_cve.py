"""
Holes that PgBouncer and other poolers have had, each tried here under its name: what is the same for all of them is
that nobody comes in, nobody else is disturbed, and the process lives.
"""
import struct
import threading

import pytest
from harness import scram, wire
from harness.scram import ScramServer
from harness.wire import PgError

METHODS = ["plain", "md5", "scram-sha-256"]
REFUSED = ("password authentication failed", "SASL authentication failed", "empty password returned by client")


# --- PgBouncer


def test_cve_2012_4575_names_of_databases(make_pooler, cluster):
    """A crash by a long or odd name of a database: lengths around every size that a buffer might have."""
    p = make_pooler({"app": cluster.dsn(), "*": cluster.dsn(dbname="app")}, settings={"auth_type": "md5"})
    lengths = [n + d for n in (1, 32, 64, 128, 256, 1024, 2048, 4096, 16384, 65000) for d in (-1, 0, 1) if n + d > 0]
    names = ["x" * n for n in lengths] + ["%s%n%n", "a b", "'\"\\", "\xff\xfe", "../../etc", "\n\t\x01", "app="]
    for name in names:
        for user in ("app", name):
            with wire.Conn.tcp(p.port) as c:
                c.send(wire.startup_packet([("user", user.encode("latin-1")), ("database", name.encode("latin-1"))]))
                m = c.recv()
                assert m.type in "RE", (len(name), user[:20])
                if m.type == "E":
                    c.expect_close()
    assert p.login(password="apppw").value("select 1") == "1"


def test_cve_2015_4054_password_before_startup(make_pooler):
    """A null pointer by a password packet that comes first, or again and again."""
    p = make_pooler(settings={"auth_type": "md5"})
    password = wire.pack("p", b"secret\0")
    startup = wire.startup_packet({"user": "app", "database": "app"})
    for first in (password, wire.pack("p"), wire.pack("p", b"\0"), b"p\0\0\0\4", b"p\0"):
        with wire.Conn.tcp(p.port) as c:
            c.send(first, startup)
            c.sock.shutdown(1)
            error = c.expect_close().error
            assert error is None or error.text in (
                "client password pkt before startup packet",
                f"bad packet header: '{(first + startup)[:8].hex()}'",
            )
    c = p.login(password="apppw")
    c.send(password)
    assert [m.type for m in c.expect_close().messages] in ([], ["E"])
    assert p.login(password="apppw").value("select 1") == "1"


@pytest.mark.ours
def test_cve_2026_6664_lengths_in_scram_messages(make_pooler, cluster):
    """An overflow by the length inside SASLInitialResponse, which has nothing to do with the length of the message."""
    p = make_pooler({"app": cluster.dsn(user="app")}, settings={"auth_type": "scram-sha-256"})
    data = b"n,,n=,r=abcdefgh"
    lengths = [2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4, 2**32 - 5, 2**31 + 16, 0, 15, 17, 65535, 65536]
    for length in lengths:
        with wire.Conn.tcp(p.port) as c:
            c.start()
            assert c.recv().type == "R"
            c.send(wire.pack("p", wire.cstr("SCRAM-SHA-256") + struct.pack("!I", length) + data))
            assert c.expect_error_close().text == "SASL authentication failed", length
    for length in (2**31 - 1, 2**31, 2**32 - 1, 0, 3):
        with wire.Conn.tcp(p.port) as c:
            c.start()
            assert c.recv().type == "R"
            c.send(b"p" + struct.pack("!I", length) + wire.cstr("SCRAM-SHA-256") + data)
            assert all(m.type == "E" for m in c.expect_close().messages), length
    assert p.login(password="apppw").value("select 1") == "1"


@pytest.mark.ours
def test_cve_2026_6665_nonce_of_a_server(make_pooler, cluster, fake_server):
    """A stack that overflows by the nonce of a server: every length is taken whole or refused."""
    lengths = [n + d for n in (64, 128, 256, 512, 1024, 2048, 4000) for d in (-1, 0, 1)] + [4096, 8192, 20000, 32000]

    def handler(conn, params):
        s = ScramServer(conn)
        conn.send(s.request())
        s.read_first()
        conn.send(s.first("r={nonce}" + "x" * int(params["database"]) + ",s=QUJD,i=2"))
        s.iterations = 2
        conn.recv()
        conn.send(wire.pack("E", wire.error_body(code="28P01", text="come so far")))

    server = fake_server(handler)
    p = make_pooler({"app": cluster.dsn(), "*": server.dsn(user="u", password="x")})
    texts = [p.login_error("app", str(n)).text for n in lengths]
    assert set(texts[:21]) == {"come so far"}
    assert set(texts[21:]) == {"failed to answer authreq"}
    assert p.login().value("select 1") == "1"


@pytest.mark.ours
@pytest.mark.parametrize("when", ["login", "idle", "query"])
def test_cve_2026_6666_error_without_sqlstate(make_pooler, cluster, fake_server, when):
    """A null pointer by an error of a server that lacks its SQLSTATE, or any other field."""
    fields = {"S": b"SFATAL\0", "V": b"VFATAL\0", "C": b"C57P01\0", "M": b"Mgone\0"}
    bodies = [b"".join(text for k, text in fields.items() if k not in m) + b"\0" for m in ["C", "S", "V", "M", "SVCM"]]
    bodies += [b"", b"SFATAL\0", b"C\0\0", b"C57\0\0", b"C57P01x\0\0", b"\0\0", b"M" + b"x" * 20000 + b"\0\0"]

    logged_in = threading.Event()

    def handler(conn, params):
        error = wire.pack("E", bodies[int(params["database"])])
        if when == "login":
            conn.send(error)
            return
        conn.greet()
        if when == "query":
            while conn.recv().type != "Q":
                pass
        else:
            logged_in.wait(20)
        conn.send(error)

    server = fake_server(handler)
    p = make_pooler(
        {"app": cluster.dsn(), "*": server.dsn()},
        settings={"client_login_timeout": 2, "pool_mode": "transaction", "server_login_retry": 30},
    )
    clients = [p.raw() for _ in bodies]
    for n, c in enumerate(clients):
        c.start("app", str(n))
    for n, c in enumerate(clients):
        if when == "login":
            e = c.expect_error_close()
            assert e.severity == "FATAL" and len(e.code) == 5 and e.text, n
        elif when == "query":
            c.finish_login("app", None)
            c.send(wire.query("select 1"))
            assert {m.type for m in c.expect_close().messages} <= {"E"}, n
        else:
            c.finish_login("app", None)
    logged_in.set()
    for n in range(len(bodies)):
        p.wait_pool(str(n), sv_idle=0, sv_active=0)
    assert p.login().value("select 1") == "1"


@pytest.mark.newer
def test_cve_2026_6667_kill_client_is_for_administrators(make_pooler):
    """stats_users could end the sessions of others; every command of the console is in test_console_rights.py."""
    p = make_pooler(settings={"auth_type": "md5"})
    victim = p.login(password="apppw")
    address = [r for r in p.show("clients") if r["user"] == "app"][0]["ptr"]
    console = p.console("stats", password="statspw")
    for command in (f"KILL_CLIENT {address}", "KILL app", "RECONNECT", "SET verbose = 2"):
        with pytest.raises(PgError, match="admin access needed"):
            console.run(command)
    assert victim.value("select 1") == "1"


# --- others


@pytest.mark.parametrize("stored", ["plain", "md5", "scram"])
@pytest.mark.parametrize("auth_type", METHODS)
def test_pgpool_any_password_for_a_cached_session(make_pooler, cluster, auth_type, stored):
    """Once a server is there, a wrong password must be as wrong as before, and right ones must not rub off."""
    secret = {"plain": "secret", "md5": wire.md5_secret("u", "secret"), "scram": wire.scram_secret("secret")}[stored]
    usable = (auth_type, stored) != ("scram-sha-256", "md5")
    p = make_pooler(
        {"app": cluster.dsn(user="app")},
        settings={"auth_type": auth_type, "pool_mode": "transaction"},
        secrets={"u": secret, "u2": "other", "admin": "adminpw"},
    )
    wrong = ["Secret", "secret ", "secre", "other", "x" * 1000, secret if stored == "scram" else "secretsecret"]
    for _ in range(2):  # with a cold pool, and with a warm one
        for password in wrong:
            assert p.login_error("u", password=password).text in REFUSED, password
        assert p.login_error("u2", password="secret").text in REFUSED
        if usable:
            first, second = p.login("u", password="secret"), p.login("u", password="secret")
            assert first.value("select 1") == second.value("select 1") == "1"
        else:
            assert p.login_error("u", password="secret").text in REFUSED
        if p.login("u2", password="other").value("select 1") != "1":
            raise AssertionError


@pytest.mark.newer
@pytest.mark.parametrize("auth_type", METHODS)
def test_pgdog_1053_console_checks_passwords(make_pooler, cluster, auth_type):
    """An administrator whose password nobody checked, since keys are passed through: the console has no way around."""
    stored = cluster.value("select rolpassword from pg_authid where rolname = 'scramuser'")
    p = make_pooler(
        {"app": cluster.dsn(user="app")},
        settings={"auth_type": auth_type, "admin_users": "admin, scramuser, ghost", "stats_users": "stats"},
        secrets={"admin": "adminpw", "scramuser": stored, "stats": "statspw", "app": "apppw", "empty": ""},
    )
    if auth_type != "plain":
        assert p.login("scramuser", password="scrampw").value("select 1") == "1"  # its keys are known from now on
    for database in ("pgbouncer", "pgsluice"):
        for user in ("admin", "scramuser", "stats", "ghost", "pgbouncer", "empty"):
            for password in ("", "wrong", stored):
                e = p.login_error(user, database, password=password)
                assert e.text in REFUSED + ("not allowed",), (user, database, password)
    assert p.login("admin", "pgbouncer", password="adminpw").query("show version").rows
    assert p.login("scramuser", "pgbouncer", password="scrampw").query("show version").rows


@pytest.mark.ours
def test_cve_2019_10164_verifiers_with_long_parts(make_pooler, cluster):
    """A stack that overflows by a SCRAM verifier: what is no verifier in our file is a password that nobody has."""
    good = wire.scram_secret("secret").split("$")
    salt, keys = good[1].split(":", 1)[1], good[2]
    bad = [
        f"SCRAM-SHA-256$4096:{'QUFB' * 400}${keys}",
        f"SCRAM-SHA-256$4096:{salt}${'A' * 4000}:{keys.split(':')[1]}",
        f"SCRAM-SHA-256$4096:{salt}${keys}{'A' * 4000}",
        f"SCRAM-SHA-256$4096:{salt}${keys}=",
        f"SCRAM-SHA-256$99999999999999999999:{salt}${keys}",
        f"SCRAM-SHA-256$0:{salt}${keys}",
        f"SCRAM-SHA-256$-1:{salt}${keys}",
        f"SCRAM-SHA-256$4096:${keys}",
        f"SCRAM-SHA-256$4096:{salt}$",
        "SCRAM-SHA-256$4096:" + "$" * 60000,
    ]
    users = {f"u{n}": secret for n, secret in enumerate(bad)}
    p = make_pooler(
        {"app": cluster.dsn(user="app")}, settings={"auth_type": "scram-sha-256"}, secrets={**users, "app": "apppw"}
    )
    for user in users:
        assert p.login_error(user, password="secret").text == "SASL authentication failed", user
    assert p.login(password="apppw").value("select 1") == "1"


@pytest.mark.newer
def test_odyssey_140a9a77_result_of_scram(make_pooler, fake_server):
    """What a server sends behind its signature, and a signature of any length, ends the login or is not read at all."""

    def handler(conn, params):
        s = ScramServer(conn)
        conn.send(s.request())
        s.read_first()
        conn.send(s.first())
        s.read_final()
        conn.send(scram.request(12, b"v=" + b"A" * 20000))
        conn.greet()

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn(user="u", password="x")}, settings={"server_login_retry": 30})
    assert p.login_error().text == "server login failed: failed to verify server signature"
