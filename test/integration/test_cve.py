"""
Holes that PgBouncer and other poolers have had, each tried here under its name: what is the same for all of them is
that nobody comes in, nobody else is disturbed, and the process lives.
"""
import re
import struct
import threading

import pytest
from harness import scram, wire
from harness.scram import ScramServer
from harness.wire import PgError

METHODS = ["plain", "md5", "scram-sha-256"]
REFUSED = ("password authentication failed", "SASL authentication failed", "empty password returned by client")


SSL_REQUEST = struct.pack("!ii", 8, wire.CODE_SSL)
GSS_REQUEST = struct.pack("!ii", 8, wire.CODE_GSSENC)
LOGIN = wire.startup_packet({"user": "app", "database": "app"})


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


ASKS = {"auth_type": "md5", "auth_user": "postgres"}


@pytest.mark.parametrize("auth_type", ["trust", *METHODS])
def test_cve_2015_6817_unknown_user_becomes_the_auth_user(make_pooler, cluster, auth_type):
    """Whatever auth_query comes to that is no user: nobody is in afterwards, under any name, with any password."""
    queries = {
        "nobody": "select rolname, rolpassword from pg_catalog.pg_authid where rolname = $1",
        "error": "select $1::text, (1 / 0)::text",
        "missing": "select $1::text, secret from pg_catalog.no_such_table",
        "one column": "select $1::text",
        "null name": "select null::text, $1::text",
        "null secret": "select $1::text, null::text",
        "cut off": "select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())::text, $1::text",
    }
    dsn = cluster.dsn(dbname="app")
    settings = {**ASKS, "auth_type": auth_type, "admin_users": "admin, postgres"}
    p = make_pooler(
        {name.replace(" ", ""): f"{dsn} auth_query='{query}'" for name, query in queries.items()},
        settings=settings,
        secrets={"admin": "adminpw"},
    )
    for name in queries:
        for password in ("", "x", "md5", "postgres"):
            if (auth_type, name) == ("trust", "null secret"):
                continue  # trust asks for no secret: the user is there
            with wire.Conn.tcp(p.port) as c:
                c.start("no_such_role", name.replace(" ", ""))
                try:
                    result = c.finish_login("no_such_role", password)
                except PgError as e:
                    assert e.text in (*REFUSED, '"trust" authentication failed', "bouncer config error"), name
                else:
                    pytest.fail(f"{name}, password {password!r}: in, with {result.types}")
    with p.console(user="admin").conn as c:
        assert [r for r in c.query("SHOW CLIENTS").rows if r[1] not in ("admin",)] == []


ROLES_OF_2291 = {
    # name: (attributes, the password that the client gives)
    "plain": ("login password 'pw'", "pw"),
    "wrong": ("login password 'pw'", "other"),
    "nologin": ("nologin password 'pw'", "pw"),
    "expired": ("login password 'pw' valid until '2001-01-01'", "pw"),
    "expired_now": ("login password 'pw' valid until 'now'", "pw"),
    "until_later": ("login password 'pw' valid until '2999-01-01'", "pw"),
    "until_infinity": ("login password 'pw' valid until 'infinity'", "pw"),
    "until_minus_infinity": ("login password 'pw' valid until '-infinity'", "pw"),
    "no_password": ("login password null", "pw"),
    "no_password_md5": ("login password null", "md5"),
    "no_connections": ("login password 'pw' connection limit 0", "pw"),
    "replication": ("login replication password 'pw'", "pw"),
    "created_role": ("password 'pw'", "pw"),
}


@pytest.mark.parametrize("stored", ["md5", "scram-sha-256"])
def test_cve_2025_2291_expired_passwords(make_pooler, shared_info, private_cluster, stored):
    """With the default auth_query the pooler lets in whom PostgreSQL lets in, and nobody else."""
    cluster = private_cluster
    for name, (attributes, _) in ROLES_OF_2291.items():
        cluster.sql(f"set password_encryption = '{stored}'; create role {name} {attributes}")
    with open(f"{cluster.data}/pg_hba.conf") as f:
        rules = f.read()
    own = "".join(f"host all {name} 127.0.0.1/32 md5\n" for name in ROLES_OF_2291)  # turns to SCRAM for its secrets
    with open(f"{cluster.data}/pg_hba.conf", "w") as f:
        f.write(own + rules)
    cluster.sql("select pg_reload_conf()")
    p = make_pooler({"app": cluster.dsn()}, settings=ASKS, secrets={"admin": "adminpw"})
    seen = {}
    for name, (_, password) in ROLES_OF_2291.items():
        answers = []
        for port in (cluster.port, p.port):
            with wire.Conn.tcp(port) as c:
                try:
                    c.login(name, "app", password=password)
                    answers.append(c.value("select current_user") == name)
                except PgError:
                    answers.append(False)
        assert answers[0] == answers[1], (name, answers)
        seen[name] = answers[0]
    assert {name for name, ok in seen.items() if ok} == {"plain", "until_later", "until_infinity", "replication"}


EVIL = """
create schema evil;
create function evil.now() returns timestamptz language sql as $$ select '-infinity'::timestamptz $$;
create function evil.lower(text) returns text language sql as $$ select 'postgres'::text $$;
create function evil.eq(name, name) returns bool language sql as $$ select true $$;
create operator evil.= (leftarg = name, rightarg = name, function = evil.eq);
create table evil.pg_authid (rolname name, rolpassword text, rolvaliduntil timestamptz, rolcanlogin bool);
insert into evil.pg_authid values ('intruder', 'in', null, true), ('postgres', 'in', null, true);
create function evil.set_config(text, text, bool) returns text language sql as $$ select 'x'::text $$;
grant all on schema evil to public;
grant all on all tables in schema evil to public;
"""


@pytest.mark.parametrize("way", ["parameter", "options", "role", "database", "session"])
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_cve_2025_12819_search_path_of_a_stranger(make_pooler, cluster, database, request, way, profile):
    """Functions, operators and tables of a stranger stand in front of those that the query means."""
    name, role = database(), f"aq_{way}_{profile}"
    cluster.sql(f"drop role if exists {role}")
    cluster.sql(f"create role {role} login superuser")
    cluster.sql(EVIL, dbname=name)

    def clean():
        cluster.sql(f"drop owned by {role}; drop role {role}")

    request.addfinalizer(clean)
    path = "evil, pg_catalog"
    if way == "role":
        cluster.sql(f"alter role {role} set search_path = {path}")
    if way == "database":
        cluster.sql(f'alter database "{name}" set search_path = {path}')
    p = make_pooler(
        {"app": cluster.dsn(dbname=name), "forced": cluster.dsn(dbname=name, user=role)},
        settings={
            "auth_type": "plain",
            "auth_user": role,
            "auth_dbname": "forced",
            "pool_mode": "transaction",
            "default_pool_size": 1,
            "track_extra_parameters": "search_path",
            "auth_query_cache_ttl": 0,
        },
        secrets={"admin": "adminpw", "friend": "friendpw"},
        profile=profile,
    )
    params = {"parameter": {"search_path": path}, "options": {"options": f"-csearch_path={path.replace(' ', '')}"}}
    if way == "session":  # one who may be there changes the server that the query will run on
        c = p.login("friend", "forced", password="friendpw")
        c.value("select set_config('search_path', 'evil, pg_catalog', false)")
        c.value("select '" + path + "'")
    for user in ("intruder", "postgres"):
        for password in ("in", "md5", ""):
            with pytest.raises(PgError) as e:
                p.raw().login(user, password=password, params=params.get(way, {}))
            assert e.value.text in REFUSED
    assert p.log_count("error in auth_query") == 0
    assert p.login("md5user", password="md5pw").value("select current_user") == "md5user"


def test_cve_2021_3935(make_pooler, pki):
    """
    Bytes in plain text behind a request for TLS are refused, not kept until the channel is encrypted and then taken for
    the client's.
    """
    p = make_pooler(settings=pki.client_settings("prefer"))
    context = pki.client_context()
    for extra in (b"x", LOGIN, LOGIN + wire.query("select 'injected'"), SSL_REQUEST, GSS_REQUEST, b"\x16\x03\x01"):
        c = p.raw()
        c.send(SSL_REQUEST + extra)
        assert c.expect_error_close().text == "received unencrypted data after SSL request"
        c = p.raw()
        c.send(GSS_REQUEST + extra)
        assert c.expect_error_close().text == "received unencrypted data after GSSAPI encryption request"
    c = p.raw()
    hello = wire.TlsSock(c.sock, context)
    hello.hold = True
    hello.step()
    c.send(SSL_REQUEST + hello.held)
    assert c.expect_error_close().text == "received unencrypted data after SSL request"
    p.wait_for_log("received unencrypted data after SSL request")
    assert p.login(tls=context).value("select 'alive'") == "alive"


# --- others


def test_cve_2021_43766(make_pooler, pki):
    """The same when the bytes come in a segment of their own, before the handshake or in the midst of it."""
    p = make_pooler(settings=pki.client_settings("prefer"))
    for behind_the_hello in (False, True):
        mark = p.log_mark()
        c = p.raw()
        assert c.ssl_request() == b"S"
        tls = wire.TlsSock(c.sock, pki.client_context())
        if behind_the_hello:
            tls.step()
        c.sock.sendall(LOGIN + wire.query("select 'injected'"))
        assert b"injected" not in read_to_end(c)
        p.wait_for_log("(?i)TLS handshake (error|failed)", since=mark)
    assert p.login(tls=pki.client_context()).value("select 'alive'") == "alive"


def read_to_end(conn):
    data = b""
    try:
        while piece := conn.sock.recv(65536):
            data += piece
    except OSError:
        pass
    return data


GREETING = (
    wire.pack("R", struct.pack("!i", 0))
    + wire.pack("S", b"server_version\x0015.0\0")
    + wire.pack("S", b"client_encoding\0UTF8\0")
    + wire.pack("K", struct.pack("!ii", 1, 2))
    + wire.pack("Z", b"I")
)


def eavesdropper(seen, answer):
    """A man in the middle's server: this answer to the request, then TLS, and it keeps what it is told in the clear."""

    def handler(conn):
        assert conn.read_exact(8) == SSL_REQUEST
        conn.send(answer)
        if answer[:1] == b"S":
            conn.sock.settimeout(10)
            first = conn.sock.recv(65536)
            if first and first[0] != 0x16:
                seen.append(first)
            return
        seen.append(read_to_end(conn))

    return handler


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
@pytest.mark.parametrize("extra", ["greeting", "byte", "result"])
def test_cve_2021_43767_and_cve_2021_23222(make_pooler, pki, fake_server, mode, extra):
    """
    Bytes in plain text behind a server's consent to TLS are refused, not taken for the server's own words; the second
    is the same hole in libpq.
    """
    seen = []
    data = {"greeting": GREETING, "byte": b"x", "result": wire.answer("forged")}[extra]
    s = fake_server(eavesdropper(seen, b"S" + data), raw=True)
    p = make_pooler({"app": s.dsn()}, settings=pki.server_settings(mode))
    c = p.raw()
    c.start()
    p.wait_for_log(r"S-\S+: app/app@\S+ closing because: ")
    assert wire.wait_silent(c, 0.1) and not seen


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_cve_2021_43767_refusal(make_pooler, pki, fake_server, mode):
    """A server that refuses TLS, alone or with a greeting behind it, is told nothing where TLS is demanded."""
    for data in (b"N", b"N" + GREETING, b"E" + GREETING, b"\0"):
        seen = []
        s = fake_server(eavesdropper(seen, data), raw=True)
        p = make_pooler({"app": s.dsn()}, settings=pki.server_settings(mode))
        c = p.raw()
        c.start()
        p.wait_for_log(r"S-\S+: app/app@\S+ closing because: " + ("server refused SSL" if data == b"N" else ""))
        assert wire.wait_silent(c, 0.1)
        assert all(b"app" not in bytes_seen for bytes_seen in seen)


@pytest.mark.parametrize("stored", ["plain", "md5", "scram"])
@pytest.mark.parametrize("auth_type", METHODS)
def test_cve_2025_46801_any_password_for_a_cached_session(make_pooler, cluster, auth_type, stored):
    """Pgpool's logins without the password. Once a server is there, a wrong password must be as wrong as before, and right ones must not rub off."""
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


@pytest.mark.ours
def test_cve_2023_22332_passwords_in_what_users_may_see(make_pooler, cluster):
    """Passwords in the tables that every user of statistics sees; test_secrets.py looks everywhere else, too."""
    words = [f"Hidden-{n}-word" for n in range(5)]
    ldap = f"ldapserver=ldap.example.com ldapbasedn=\"dc=example\" ldapbinddn=\"cn=reader\" ldapbindpasswd={words[4]}"
    p = make_pooler(
        {"app": cluster.dsn(user="app", password=words[0])},
        settings={"auth_type": "md5", "auth_ldap_options": ldap},
        secrets={"admin": "adminpw", "stats": words[1], "u": words[2], "m": wire.md5_secret("m", words[3])},
    )
    words.append(wire.md5_secret("m", words[3])[3:])
    assert p.login("u", password=words[2]).value("select 1") == "1"
    with wire.Conn.tcp(p.port) as c:
        c.login("stats", "pgbouncer", words[1])
        forms = c.query("SHOW HELP").notices[0]["D"]
        names = set(re.findall(r"[A-Z_]{3,}", forms)) | {"AUTH_CACHE"}
        answers = {name: c.query(f"SHOW {name}") for name in names}
    assert {"CONFIG", "DATABASES", "CLIENTS", "USERS"} <= {name for name, answer in answers.items() if answer.rows}
    assert [(name, w) for name, a in answers.items() for w in words if w in repr(a.messages)] == []


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
