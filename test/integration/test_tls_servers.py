"""TLS to servers: modes, names, certificates, negotiation, resumption, cancel requests, reload, restart."""
import os
import re
import struct
import threading
import time

import pytest
from harness import wire
from harness.procs import wait_until
from test_dns import name_server, named_pooler  # noqa: F401

pytestmark = pytest.mark.ours

MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@pytest.fixture
def to(make_pooler, pki):
    """to(server, settings, host) is a pooler with one database on that fake server."""

    def make(server, mode="verify-full", host="localhost", key="", profile="pgbouncer", **more):
        settings = {"default_pool_size": 1, "pool_mode": "transaction", "server_login_retry": 100}
        settings.update(pki.server_settings(mode, **more))
        return make_pooler({"app": f"host={host} port={server.port} {key}"}, settings=settings, profile=profile)

    return make


def serve(conn, params):
    wire.serve_queries(conn, lambda sql: wire.answer("tls" if conn.tls else "plain"))


def refused(p):
    """Why the server was closed; the client waits for better times."""
    p.raw().start()
    pattern = r"S-0x.* closing because: (.*) \(age="
    p.wait_for_log(pattern)
    return re.search(pattern, p.log_text())[1]


# --- modes


@pytest.mark.parametrize("mode", MODES)
def test_server_with_tls(to, pki, fake_server, mode):
    p = to(fake_server(serve, tls=pki.server_context()), mode)
    expected = "plain" if mode == "disable" else "tls"
    assert p.login().value("select 1") == expected
    (row,) = p.show("servers")
    if expected == "tls":
        assert row["tls"].startswith("TLSv1.3/TLS_AES_256_GCM_SHA384")
        p.wait_for_log(r"LOG S-0x.*: app/app@127.0.0.1:\d+ SSL established: TLSv1.3/")
    else:
        assert row["tls"] == ""


@pytest.mark.parametrize("mode", MODES)
def test_server_without_tls(to, fake_server, mode):
    p = to(fake_server(serve), mode)
    if mode in ("disable", "allow", "prefer"):
        assert p.login().value("select 1") == "plain"
    else:
        assert refused(p) == "server refused SSL"


def test_unix_sockets_have_none(make_pooler, cluster, pki):
    p = make_pooler({"app": f"host={cluster.dir} port={cluster.port}"}, settings=pki.server_settings("verify-full"))
    assert p.login().value("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == "f"


# --- certificates: which of them is good enough from which mode on; "ca": for verify-ca, but not for verify-full

CERTIFICATES = {
    "server": "full",
    "server_rsa": "full",
    "server_chained": "full",
    "server_cn_only": "full",
    "server_elsewhere": "ca",
    "server_wildcard": "ca",
    "server_cn_beside_san": "ca",
    "server_unchained": "none",
    "server_expired": "none",
    "server_not_yet": "none",
    "server_stranger": "none",
    "server_self_signed": "none",
    "server_for_clients": "none",
}
ENOUGH = {"require": ("full", "ca", "none"), "verify-ca": ("full", "ca"), "verify-full": ("full",)}


@pytest.mark.parametrize("mode", ENOUGH)
@pytest.mark.parametrize("cert", CERTIFICATES)
def test_certificates(to, pki, fake_server, cert, mode):
    p = to(fake_server(serve, tls=pki.server_context(cert)), mode)
    if CERTIFICATES[cert] in ENOUGH[mode]:
        assert p.login().value("select 1") == "tls"
        return
    assert refused(p) == "server conn crashed?"
    why = "certificate is not for host" if CERTIFICATES[cert] == "ca" else "certificate verify failed: "
    p.wait_for_log(rf"WARNING S-0x.*: app/app@127.0.0.1:\d+ TLS handshake error: .*{why}")


def test_system_authorities(to, pki, fake_server):
    """Without a file those of the system count, which do not know ours."""
    assert refused(to(fake_server(serve, tls=pki.server_context()), ca=None)) == "server conn crashed?"


def test_each_host_of_a_list_by_its_name(to, pki, fake_server):
    """The name that must be in the certificate is that of the element used."""
    server = fake_server(serve, tls=pki.server_context("server_cn_only"))
    key = "load_balance_hosts=round-robin"
    p = to(server, host="localhost,127.0.0.1", key=key, server_login_retry=0)
    assert p.login().value("select 1") == "tls"
    p.admin("RECONNECT")
    p.login().send(wire.query("select 1"))
    p.wait_for_log('TLS handshake error: .*is not for host "127.0.0.1"')
    assert p.login().value("select 1") == "tls"


def test_a_complete_name(name_server, named_pooler, pki, fake_server):
    """The dot at its end is for DNS alone."""
    names, context = [], pki.server_context("server_wildcard")
    context.sni_callback = lambda tls, name, ctx: names.append(name)
    server = fake_server(serve, tls=context)
    name_server.answer = ["127.0.0.1"]
    p = named_pooler({"app": f"host=db.example.test. port={server.port}"}, **pki.server_settings())
    assert p.login().value("select 1") == "tls"
    assert names == ["db.example.test"]


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
def test_name_is_told_to_the_server(to, pki, fake_server, mode):
    names, context = [], pki.server_context()
    context.sni_callback = lambda tls, name, ctx: names.append(name)
    server = fake_server(serve, tls=context)
    assert to(server, mode).login().value("select 1") == "tls"
    assert to(server, mode, host="127.0.0.1").login().value("select 1") == "tls"
    assert names == ["localhost", None], "always for names, never for addresses"


def test_our_certificate(make_pooler, pki, cert_cluster):
    """PostgreSQL demands one, of an authority that it knows, for the role."""
    dsn = f"host=localhost port={cert_cluster.port} dbname=app"
    good = make_pooler({"app": dsn}, settings=pki.server_settings(cert="app"))
    assert good.login().value("select client_dn from pg_stat_ssl where pid = pg_backend_pid()") == "/CN=app"
    for cert, text in ((None, "valid client certificate"), ("admin", "authentication failed")):
        p = make_pooler({"app": dsn}, settings=pki.server_settings(cert=cert))
        assert text in p.login_error().text


def test_postgresql(make_pooler, pki, tls_cluster):
    dsn = f"host=localhost port={tls_cluster.port} dbname=app"
    settings = pki.server_settings(auth_type="md5")
    p = make_pooler({"app": dsn}, settings=settings, secrets={"scramuser": "scrampw", "admin": "adminpw"})
    c = p.login("scramuser", password="scrampw")
    assert c.query("select version, cipher from pg_stat_ssl where pid = pg_backend_pid()").rows == [
        p.show("servers")[0]["tls"].split("/")[:2]
    ]
    assert c.query("select repeat('x', 3000000)").rows[0][0] == "x" * 3_000_000
    plain = make_pooler({"app": dsn}, settings={"server_tls_sslmode": "disable"})
    assert "no encryption" in plain.login_error().text


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_versions(to, pki, fake_server, version):
    server = fake_server(serve, tls=pki.server_context(version=version))
    p = to(server)
    assert p.login().value("select 1") == "tls"
    assert p.show("servers")[0]["tls"].startswith(f"TLSv{version}/")
    other = {"1.2": "tlsv1.3", "1.3": "tlsv1.2"}[version]
    assert refused(to(server, server_tls_protocols=other)) == "server conn crashed?"


def test_replication_goes_by_tls_or_says_why_not(to, pki, fake_server):
    """A client that has a server of its own is told at once."""
    replication = [("replication", "database")]
    assert to(fake_server(serve, tls=pki.server_context())).login(params=replication).value("select 1") == "tls"
    p = to(fake_server(serve), "require")
    assert p.login_error(params=replication).text == "server refused SSL"


# --- the question and its answer


def answering(data, then=b""):
    """A server that answers a request for TLS like this."""

    def handler(conn):
        assert conn.read_exact(8) == struct.pack("!ii", 8, wire.CODE_SSL)
        conn.send(data)
        conn.expect_close()

    return handler


@pytest.mark.parametrize("mode", ["prefer", "verify-full"])
@pytest.mark.parametrize(
    "data, text",
    [
        (b"E" + struct.pack("!i", 20) + b"SFATAL\0Mno way\0\0", "bad sslreq answer"),
        (b"X", "bad sslreq answer"),
        (b"\x16", "bad sslreq answer"),
        (b"\0", "bad sslreq answer"),
        (b"SR\0\0\0\x08\0\0\0\0", "received unencrypted data after SSL response"),
        (b"NR\0\0\0\x08\0\0\0\0", "received unencrypted data after SSL response"),
        (b"SS", "received unencrypted data after SSL response"),
    ],
)
def test_answers(to, fake_server, data, text, mode):
    assert refused(to(fake_server(answering(data), raw=True), mode)) == text


def test_end_instead_of_an_answer(to, fake_server):
    p = to(fake_server(lambda conn: conn.read_exact(8), raw=True), "prefer")
    assert refused(p) == "server conn crashed?"


def test_end_in_the_handshake(to, fake_server):
    def handler(conn):
        conn.read_exact(8)
        conn.send(b"S")
        conn.read_exact(5)

    server = fake_server(handler, raw=True)
    assert refused(to(server, "prefer")) == "server conn crashed?"
    assert server.logins == 1, "it does not try again in plain text"


def test_silence_instead_of_an_answer(to, fake_server):
    def handler(conn):
        while conn.sock.recv(65536):
            pass

    p = to(fake_server(handler, raw=True), "prefer", server_connect_timeout=1)
    assert refused(p) == "connect timeout"


def test_silence_in_the_handshake(to, fake_server):
    def handler(conn):
        conn.read_exact(8)
        conn.send(b"S")
        while conn.sock.recv(65536):
            pass

    assert refused(to(fake_server(handler, raw=True), server_connect_timeout=1)) == "connect timeout"


def test_plain_text_ahead_of_the_handshake(to, fake_server):
    """It comes too late to be seen with the answer, and is no record of TLS."""

    def handler(conn):
        conn.read_exact(8)
        conn.send(b"S")
        time.sleep(0.05)
        conn.send(wire.pack("R", b"\0\0\0\0"), wire.pack("Z", b"I"))
        while conn.sock.recv(65536):
            pass

    assert refused(to(fake_server(handler, raw=True), "prefer")) == "server conn crashed?"


# --- direct negotiation


def first_bytes(seen):
    def handler(conn):
        seen.append(conn.begins_with_tls())
        conn.accept_tls()
        code, params = conn.read_startup()
        serve(conn, params)

    return handler


def test_direct(to, pki, fake_server):
    seen = []
    context = pki.server_context(alpn=["postgresql"])
    server = fake_server(first_bytes(seen), raw=True, tls=context)
    assert to(server, server_tls_sslnegotiation="direct").login().value("select 1") == "tls"
    assert seen == [True]


def test_direct_needs_alpn(to, pki, fake_server):
    """Else it might be the server of another protocol."""
    server = fake_server(first_bytes([]), raw=True, tls=pki.server_context())
    p = to(server, server_tls_sslnegotiation="direct")
    assert refused(p) == "server conn crashed?"
    p.wait_for_log("TLS handshake error: .*ALPN")


def test_alpn_is_offered_either_way(to, pki, fake_server):
    alpn = []

    def handler(conn, params):
        alpn.append(conn.tls.alpn)
        serve(conn, params)

    server = fake_server(handler, tls=pki.server_context(alpn=["postgresql"]))
    for negotiation in ("postgres", "direct"):
        assert to(server, server_tls_sslnegotiation=negotiation).login().value("select 1") == "tls"
    assert alpn == ["postgresql"] * 2


def test_direct_to_a_server_that_does_not_know_it(to, fake_server):
    """As PostgreSQL up to 16: what it reads is no startup packet."""

    def handler(conn):
        conn.read_exact(4)
        conn.send(wire.pack("E", wire.error_body("FATAL", "08P01", "invalid length of startup packet")))

    p = to(fake_server(handler, raw=True), server_tls_sslnegotiation="direct")
    assert refused(p) == "server conn crashed?"


# --- the login behind it


def test_older_protocol_goes_by_tls_too(make_pooler, pki, fake_server):
    seen = []

    def handler(conn):
        seen.append((conn.read_startup()[0], conn.tls is not None))
        if seen[-1][0] != wire.PROTO_3_0:
            conn.send(wire.pack("E", wire.error_body("FATAL", "0A000", "unsupported frontend protocol")))
            return
        wire.serve_queries(conn)

    server = fake_server(handler, raw=True, tls=pki.server_context())
    settings = pki.server_settings(server_max_protocol_version="3.2")
    p = make_pooler({"app": f"host=localhost port={server.port}"}, settings=settings)
    assert p.login().value("select 1") == "ok"
    assert seen == [(wire.PROTO_3_0 + 2, True), (wire.PROTO_3_0, True)]


# --- resumption


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_resumption(to, pki, fake_server, version):
    reused = []

    def handler(conn, params):
        reused.append(conn.tls.reused)
        serve(conn, params)

    server = fake_server(handler, tls=pki.server_context(version=version))
    p = to(server)
    for _ in range(3):
        assert p.login().value("select 1") == "tls"
        p.wait_pool(sv_idle=1)
        p.admin("RECONNECT")
        p.wait_pool(sv_idle=0)
    assert reused == [False, True, True]


# --- cancel requests


class Hanging:
    """A server whose queries end when they are cancelled; each cancel request is kept with its connection."""

    def __init__(self, tls_for_cancels=True):
        self.cancels, self.others, self.tls_for_cancels = [], [], tls_for_cancels
        self.running = None

    def __call__(self, conn):
        if self.running and not self.tls_for_cancels:
            conn.tls_context = None
        code, params = conn.read_startup()
        if code == wire.CODE_CANCEL:
            self.cancels.append((params["key"], conn.tls is not None))
            self.running.send(wire.pack("E", wire.error_body("ERROR", "57014", "canceled")), wire.pack("Z", b"I"))
            return
        conn.greet()
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            self.running = conn


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
@pytest.mark.parametrize("mode", ["prefer", "verify-full"])
def test_cancel_is_encrypted(to, pki, fake_server, mode, negotiation):
    names, context = [], pki.server_context(alpn=["postgresql"])
    context.sni_callback = lambda tls, name, ctx: names.append(name)
    hanging = Hanging()
    p = to(fake_server(hanging, raw=True, tls=context), mode, server_tls_sslnegotiation=negotiation)
    c = p.login()
    c.send(wire.query("select forever"))
    wait_until(lambda: hanging.running, "the query is there")
    p.cancel(c.key)
    assert c.read_ready().error.code == "57014"
    assert [tls for _, tls in hanging.cancels] == [True]
    assert names == ["localhost"] * 2


def test_cancel_of_a_plain_connection_is_plain(to, fake_server):
    hanging = Hanging()
    p = to(fake_server(hanging, raw=True), "prefer")
    c = p.login()
    c.send(wire.query("select forever"))
    wait_until(lambda: hanging.running, "the query is there")
    p.cancel(c.key)
    assert c.read_ready().error.code == "57014"
    assert [tls for _, tls in hanging.cancels] == [False]


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_cancel_never_falls_back(to, pki, fake_server, mode):
    """The key of an encrypted session does not travel in plain text, whatever the mode is."""
    hanging = Hanging(tls_for_cancels=False)
    server = fake_server(hanging, raw=True, tls=pki.server_context())
    p = to(server, mode, cancel_wait_timeout=1)
    c = p.login()
    c.send(wire.query("select forever"))
    wait_until(lambda: hanging.running, "the query is there")
    p.cancel(c.key)
    p.wait_for_log("S-0x.* closing because: server refused SSL")
    assert hanging.cancels == []


def test_cancel_of_a_real_query(make_pooler, pki, tls_cluster):
    dsn = f"host=localhost port={tls_cluster.port} dbname=app"
    p = make_pooler({"app": dsn}, settings=pki.server_settings())
    c = p.login()
    tag = f"tls-cancel-{os.getpid()}"
    c.send(wire.query(f"select pg_sleep(20) /* {tag} */"))
    tls_cluster.wait_running(tag)
    p.cancel(c.key)
    assert c.read_ready().error.code == "57014"


# --- reload


def reloaded(p, **settings):
    p.settings.update(settings)
    p.write_files()
    p.admin("RELOAD")


def pid_of(c):
    return c.value("select pg_backend_pid()")


def test_changed_settings_replace_servers(make_pooler, pki, tls_cluster):
    dsn = f"host=localhost port={tls_cluster.port} dbname=app"
    settings = {"pool_mode": "transaction", "default_pool_size": 1, **pki.server_settings()}
    p = make_pooler({"app": dsn}, settings=settings)
    c = p.login()
    pid = pid_of(c)
    reloaded(p)
    assert pid_of(c) == pid, "nothing has changed"
    reloaded(p, **pki.client_settings("prefer"))
    assert pid_of(c) == pid, "that is the other side"
    for change in ({"server_tls_sslmode": "verify-ca"}, {"server_tls_protocols": "tlsv1.2"}):
        reloaded(p, **change)
        assert pid_of(c) != pid
        pid = pid_of(c)
    assert p.show("servers")[0]["tls"].startswith("TLSv1.2/")


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_changed_files(make_pooler, pki, tls_cluster, profile):
    """PgBouncer looks at names only; under [pgsluice] nobody goes on under what was taken out of a file."""
    name = f"servers{profile}{os.getpid()}.ca"

    def trust(*names):
        with open(pki.ca(*names), "rb") as f:
            return pki.write(name, f.read())

    settings = {"pool_mode": "transaction", "default_pool_size": 1, "server_login_retry": 0}
    settings.update(pki.server_settings(server_tls_ca_file=trust("root")))
    dsn = f"host=localhost port={tls_cluster.port} dbname=app"
    p = make_pooler({"app": dsn}, settings=settings, profile=profile)
    c = p.login()
    pid = pid_of(c)
    trust("root", "stranger")
    reloaded(p)
    assert (pid_of(c) == pid) == (profile == "pgbouncer")
    trust("stranger")
    reloaded(p)
    if profile == "pgbouncer":
        assert pid_of(c) == pid
        p.admin("RECONNECT")
    c.send(wire.query("select 1"))
    p.wait_for_log("TLS handshake error: .*certificate verify failed")


# --- online restart


def test_restart_drops_tls(make_pooler, pki, cluster, tls_cluster):
    """What is encrypted cannot go on in another process; all else does."""
    databases = {"app": cluster.dsn(), "enc": f"host=localhost port={tls_cluster.port} dbname=app"}
    settings = {"pool_mode": "transaction", **pki.server_settings("prefer"), **pki.client_settings("prefer")}
    p = make_pooler(databases, settings=settings)
    plain, mixed, secret = p.login(), p.login("app", "enc"), p.login(tls=pki.client_context())
    tied = p.login("app", "enc")
    for c in (plain, mixed, secret):
        assert c.value("select 1") == "1"
    tied.query("begin")
    mark = p.restart()
    p.wait_for_log(r"took over 2 clients", since=mark)
    assert plain.value("select 1") == "1"
    assert mixed.value("select 1") == "1", "it needs a new server"
    secret.expect_close()
    tied.expect_close()
    again = p.login(tls=pki.client_context())
    assert again.value("select 1") == "1"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_suspend_and_resume(make_pooler, pki, tls_cluster, version):
    """In the middle of records on both sides: nothing is lost, nobody is closed."""
    dsn = f"host=localhost port={tls_cluster.port} dbname=app"
    settings = {"pool_mode": "transaction", **pki.server_settings(), **pki.client_settings("prefer")}
    settings["server_tls_protocols"] = f"tlsv{version}"
    p = make_pooler({"app": dsn}, settings=settings, threads=2)
    context = pki.client_context(version=version)
    clients = [p.login(tls=context) for _ in range(4)]
    idle = p.login(tls=context)
    assert idle.value("select 1") == "1"
    for n, c in enumerate(clients):
        c.send(wire.query(f"select repeat('{n}', 1000) from generate_series(1, 8000)"))
    for c in clients:
        assert c.recv().type == "T"
    results = [None] * len(clients)

    def read(n):
        results[n] = clients[n].read_ready()

    readers = [threading.Thread(target=read, args=(n,)) for n in range(len(clients))]
    for t in readers:
        t.start()
    with p.raw_unix() as console:
        console.login("admin", "pgbouncer", "adminpw")
        for _ in range(3):
            assert console.query("SUSPEND").tag == "SUSPEND"
            assert console.query("RESUME").tag == "RESUME"
        idle.send(wire.query("select 'later'"))
    for t in readers:
        t.join()
    for n, result in enumerate(results):
        assert result.rows == [[str(n) * 1000]] * 8000
    assert idle.read_ready().rows == [["later"]]
    for c in clients:
        assert c.value("select 1") == "1"
