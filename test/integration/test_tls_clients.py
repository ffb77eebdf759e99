"""TLS from clients: who is let in how, what is negotiated, and what is told about it."""
import os
import re
import ssl
import struct

import psycopg
import pytest
from harness import wire
from harness.pooler import Console, is_pgbouncer
from harness.procs import wait_until

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
GOOD = ("app", "app2", "app_chained", "by_san")
BAD = ("app_stranger", "app_expired", "app_not_yet", "app_self_signed", "app_unchained", "app_for_servers")
VERSIONS = ("1.2", "1.3")


def handshake_fails(p, context, **kwargs):
    """
    The session must not come about; the reason that OpenSSL gives on our side comes back. In TLS 1.3 a client learns
    only with the first bytes that its certificate was refused.
    """
    try:
        c = p.tls(context, **kwargs)
        c.start()
        m = c.recv()
    except ssl.SSLError as e:
        return e.reason or str(e)
    except wire.Closed:
        return "closed"
    except OSError as e:
        return type(e).__name__
    raise AssertionError(f"the handshake succeeded, and the answer to the login is {m}")


def lets_in(p, context=None, **kwargs):
    c = p.login(tls=context, **kwargs)
    assert c.value("select 'in'") == "in"
    c.terminate()


# --- the modes


@pytest.mark.parametrize("mode", MODES)
def test_plain_clients(make_pooler, pki, mode):
    p = make_pooler(settings=pki.client_settings(mode))
    if mode in MODES[:3]:
        lets_in(p)
    else:
        assert p.login_error().text == "SSL required"
        p.wait_for_log("closing because: SSL required")


@pytest.mark.parametrize("mode", MODES)
def test_clients_that_ask_for_tls(make_pooler, pki, mode):
    """Without a certificate: they get what they ask for, except where one is demanded."""
    p = make_pooler(settings=pki.client_settings(mode))
    for version in VERSIONS:
        context = pki.client_context(version=version, verify="root")
        if mode == "disable":
            c = p.raw()
            assert c.ssl_request() == b"N"
            c.login()
            assert c.value("select 'in the clear'") == "in the clear"
        elif mode.startswith("verify"):
            mark = p.log_mark()
            handshake_fails(p, context, hostname="localhost")
            p.wait_for_log("(?i)TLS handshake (error|failed).*certificate", since=mark)
        else:
            c = p.tls(context, hostname="localhost")
            c.login()
            assert c.value("select 'encrypted'") == "encrypted"
            assert c.tls.version == f"TLSv{version}" and c.tls.certificate == pki.der("server")


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("version", VERSIONS)
def test_certificates_of_clients(make_pooler, pki, mode, version):
    """A good one may be shown always; a bad one ends the handshake, even where none is demanded."""
    p = make_pooler(settings=pki.client_settings(mode))
    for name in GOOD:
        lets_in(p, pki.client_context(cert=name, version=version))
    for name in BAD:
        mark = p.log_mark()
        handshake_fails(p, pki.client_context(cert=name, version=version))
        p.wait_for_log("(?i)TLS handshake (error|failed).*certificate", since=mark)
    lets_in(p, pki.client_context(cert="app", version=version))


def test_certificate_under_an_expired_authority(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings("verify-full", ca="expired_root"))
    handshake_fails(p, pki.client_context(cert="app_expired_root"))


def test_several_authorities(make_pooler, pki):
    settings = {**pki.client_settings("verify-full"), "client_tls_ca_file": pki.ca("stranger", "root")}
    p = make_pooler(settings=settings)
    lets_in(p, pki.client_context(cert="app"))
    lets_in(p, pki.client_context(cert="app_stranger"))
    handshake_fails(p, pki.client_context(cert="app_self_signed"))


def test_chain_of_the_pooler_is_sent(make_pooler, pki):
    """A client that knows the root alone can verify what an intermediate authority has signed."""
    p = make_pooler(settings=pki.client_settings(cert="server_chained"))
    lets_in(p, pki.client_context())
    p.tls(pki.client_context(verify="root"), hostname="localhost").login()


@pytest.mark.parametrize("mode", MODES)
def test_unix_sockets_have_no_tls(make_pooler, pki, mode):
    p = make_pooler(settings=pki.client_settings(mode))
    c = p.raw_unix()
    assert c.ssl_request() == b"N"
    assert c.ssl_request(wire.CODE_GSSENC) == b"N"
    c.login()
    assert c.value("select 'local'") == "local"
    c = p.raw_unix()
    c.login()
    assert c.value("select 'local'") == "local"


# --- the request


def test_request_repeated_after_the_refusal(make_pooler):
    c = make_pooler().raw()
    for _ in range(3):
        assert c.ssl_request() == b"N"
        assert c.ssl_request(wire.CODE_GSSENC) == b"N"
    c.login()
    assert c.value("select 1") == "1"


def test_gss_is_refused_and_tls_granted_behind_it(make_pooler, pki):
    c = make_pooler(settings=pki.client_settings()).raw()
    assert c.ssl_request(wire.CODE_GSSENC) == b"N"
    c.start_tls(pki.client_context())
    c.login()
    assert c.value("select 1") == "1"


def test_request_inside_tls_is_closed(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings())
    c = p.tls(pki.client_context())
    c.send(struct.pack("!ii", 8, wire.CODE_SSL))
    assert not c.expect_close().messages
    lets_in(p, pki.client_context())


def test_request_in_single_bytes(make_pooler, pki):
    """And the hello of the client likewise, a segment for each byte."""
    p = make_pooler(settings=pki.client_settings())
    c = p.raw()
    for byte in struct.pack("!ii", 8, wire.CODE_SSL):
        c.send(bytes([byte]))
    assert c.read_exact(1) == b"S"
    c.sock = wire.TlsSock(c.sock, pki.client_context())
    c.sock.hold = True
    assert not c.sock.step()
    c.sock.hold = False
    c.sock.release(*[1] * (len(c.sock.held) - 1))
    c.sock.handshake()
    c.login()
    assert c.value("select 1") == "1"


def test_startup_packet_in_the_last_flight_of_the_handshake(make_pooler, pki):
    """What a client encrypts behind its Finished may come in the same segment."""
    p = make_pooler(settings=pki.client_settings())
    for version in VERSIONS:
        c = p.raw()
        assert c.ssl_request() == b"S"
        c.sock = wire.TlsSock(c.sock, pki.client_context(version=version))
        c.sock.step()
        c.sock.hold = True
        if version == "1.2":  # its Finished is answered by ours
            c.sock.hold = False
            c.sock.handshake()
            c.sock.hold = True
        else:
            while not c.sock.step():
                c.sock.feed(c.sock.raw.recv(65536))
        c.start()
        c.send(wire.query("select 'early'"))
        c.sock.hold = False
        c.sock.release()
        c.finish_login("app", "apppw")
        assert c.read_ready().value() == "early"


# --- direct TLS and ALPN


@pytest.mark.newer
@pytest.mark.parametrize("mode", MODES[1:4])
def test_direct_tls(make_pooler, pki, mode):
    p = make_pooler(settings=pki.client_settings(mode))
    for version in VERSIONS:
        for offered in (["postgresql"], ["http/1.1", "postgresql"], ["postgresql", "h2"], None):
            c = p.raw().start_tls(pki.client_context(alpn=offered, version=version), direct=True)
            assert c.tls.alpn == ("postgresql" if offered else None)
            c.login()
            assert c.value("select 1") == "1"


@pytest.mark.newer
@pytest.mark.parametrize("offered", [["http/1.1"], ["h2", "http/1.1"], ["Postgresql"], ["postgresql2"]])
@pytest.mark.parametrize("direct", [True, False])
def test_wrong_alpn(make_pooler, pki, offered, direct):
    """Nothing that spoke another protocol may end up here."""
    p = make_pooler(settings=pki.client_settings())
    for version in VERSIONS:
        mark = p.log_mark()
        reason = handshake_fails(p, pki.client_context(alpn=offered, version=version), direct=direct)
        assert "no application protocol" in reason.lower().replace("_", " ")
        p.wait_for_log("(?i)TLS handshake (error|failed)", since=mark)
    lets_in(p, pki.client_context(alpn=["postgresql"]))


@pytest.mark.newer
def test_alpn_behind_a_request(make_pooler, pki):
    c = make_pooler(settings=pki.client_settings()).tls(pki.client_context(alpn=["postgresql"]))
    assert c.tls.alpn == "postgresql"


@pytest.mark.parametrize("how", ["disabled", "unix"])
def test_direct_tls_where_there_is_none(make_pooler, pki, how):
    p = make_pooler(settings=pki.client_settings("disable" if how == "disabled" else "require"))
    c = p.raw() if how == "disabled" else p.raw_unix()
    sock = wire.TlsSock(c.sock, pki.client_context(alpn=["postgresql"]))
    sock.step()
    assert c.expect_error_close().text.startswith("bad packet header: '1603")
    c = p.raw_unix()
    c.login()
    assert c.value("select 1") == "1"


@pytest.mark.newer
def test_request_inside_direct_tls(make_pooler, pki):
    """Neither TLS nor GSS inside TLS."""
    p = make_pooler(settings=pki.client_settings())
    c = p.raw().start_tls(pki.client_context(alpn=["postgresql"]), direct=True)
    c.send(struct.pack("!ii", 8, wire.CODE_SSL))
    assert not c.expect_close().messages


# --- versions, ciphers, curves


@pytest.mark.parametrize(
    "setting, spoken",
    [
        ("secure", ("1.2", "1.3")),
        ("default", ("1.2", "1.3")),
        ("all", ("1.2", "1.3")),
        ("tlsv1.2", ("1.2",)),
        ("tlsv1.3", ("1.3",)),
        ("tlsv1.2,tlsv1.3", ("1.2", "1.3")),
        ("tlsv1.3:tlsv1.2", ("1.2", "1.3")),
        ("secure,!tlsv1.3", ("1.2",)),
    ],
)
def test_protocols(make_pooler, pki, setting, spoken):
    p = make_pooler(settings=pki.client_settings(client_tls_protocols=setting))
    for version in VERSIONS:
        context = pki.client_context(version=version)
        if version in spoken:
            lets_in(p, context)
        else:
            mark = p.log_mark()
            assert "VERSION" in handshake_fails(p, context)
            p.wait_for_log("(?i)TLS handshake (error|failed)", since=mark)


@pytest.mark.filterwarnings("ignore:.*TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_versions_are_refused(make_pooler, pki, version):
    p = make_pooler(settings=pki.client_settings())
    handshake_fails(p, pki.client_context(version=version, ciphers="ALL:@SECLEVEL=0"))
    lets_in(p, pki.client_context())


def test_ciphers_up_to_1_2(make_pooler, pki):
    only = "ECDHE-ECDSA-AES128-GCM-SHA256"
    p = make_pooler(settings=pki.client_settings(client_tls_ciphers=only))
    c = p.tls(pki.client_context(version="1.2"))
    assert c.tls.cipher == only
    mark = p.log_mark()
    handshake_fails(p, pki.client_context(version="1.2", ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
    p.wait_for_log("(?i)TLS handshake (error|failed).*shared cipher", since=mark)
    lets_in(p, pki.client_context(version="1.3"))


def test_order_of_the_pooler_decides(make_pooler, pki):
    ours = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384"]
    p = make_pooler(settings=pki.client_settings(client_tls_ciphers=":".join(ours)))
    c = p.tls(pki.client_context(version="1.2", ciphers=":".join(reversed(ours))))
    assert c.tls.cipher == ours[0]


@pytest.mark.parametrize("word", ["default", "secure", "normal", "fast"])
def test_words_for_ciphers(make_pooler, pki, word):
    p = make_pooler(settings=pki.client_settings(client_tls_ciphers=word))
    for version in VERSIONS:
        lets_in(p, pki.client_context(version=version))


@pytest.mark.newer
def test_ciphers_of_1_3(make_pooler, pki):
    only = "TLS_AES_128_GCM_SHA256"
    p = make_pooler(settings=pki.client_settings(client_tls13_ciphers=only))
    assert p.tls(pki.client_context(version="1.3")).tls.cipher == only
    lets_in(p, pki.client_context(version="1.2"))


def test_curve(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings(client_tls_ecdhcurve="secp384r1"))
    c = p.login(tls=pki.client_context(version="1.2"))
    row = next(r for r in p.show("clients") if r["database"] == "app")
    assert re.search("ECDH=(secp384r1|P-384)$", row["tls"]), row["tls"]
    assert c.value("select 1") == "1"
    other = pki.client_context(version="1.2")
    other.set_ecdh_curve("prime256v1")
    handshake_fails(p, other)


@pytest.mark.parametrize(
    "settings",
    [
        {"client_tls_ecdhcurve": "no-such-curve"},
        {"client_tls_ciphers": "no-such-cipher"},
        {"client_tls_protocols": "tlsv9"},
        pytest.param({"client_tls_dheparams": "legacy"}, marks=pytest.mark.newer),
        {"client_tls_cert_file": "/nowhere/server.crt"},
        {"client_tls_key_file": "/nowhere/server.key"},
        {"client_tls_ca_file": "/nowhere/ca.crt"},
        {"client_tls_key_file": ""},
        {"client_tls_cert_file": ""},
        {"client_tls_sslmode": "verify-full", "client_tls_ca_file": ""},
    ],
    ids=lambda s: "-".join(f"{k}_{v}".replace("/", "") for k, v in s.items()),
)
def test_bad_settings_are_refused_at_the_start(make_pooler, pki, settings):
    """And the log names the setting."""
    p = make_pooler(settings={**pki.client_settings(), **settings}, start=False)
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    if not is_pgbouncer():
        assert re.search(f"(ERROR|FATAL).*({'|'.join(settings)})", p.log_text()), p.log_text()


@pytest.mark.parametrize("kind", ["encrypted", "of_another", "garbage", "empty", "certificate"])
def test_unusable_keys_are_refused_at_the_start(make_pooler, pki, kind):
    """An encrypted one must not make the pooler ask for the passphrase at its terminal."""
    key = {
        "encrypted": lambda: pki.encrypted_key("server"),
        "of_another": lambda: pki.files("server2").key,
        "garbage": lambda: pki.write("garbage.key", os.urandom(300)),
        "empty": lambda: pki.write("empty.key", ""),
        "certificate": lambda: pki.files("server").cert,
    }[kind]()
    p = make_pooler(settings=pki.client_settings(client_tls_key_file=key), start=False)
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    if not is_pgbouncer():
        assert re.search("(ERROR|FATAL).*client_tls_(key|cert)_file", p.log_text()), p.log_text()


def test_disabled_tls_reads_no_files(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings("disable", client_tls_key_file="/nowhere/server.key"))
    lets_in(p)


# --- what is told


@pytest.mark.parametrize("version", VERSIONS)
def test_log_and_show(make_pooler, pki, version):
    p = make_pooler(settings=pki.client_settings("prefer"))
    c = p.login(tls=pki.client_context(version=version))
    text = rf"TLSv{version}/{re.escape(c.tls.cipher)}(/\S+)?"
    p.wait_for_log(rf"LOG C-\S+: app/app@\S+ login attempt: db=app user=app tls={text}( replication=no)?$")
    if not is_pgbouncer():
        p.wait_for_log(rf"LOG C-\S+: \(nodb\)/\(nouser\)@\S+ SSL established: {text}$")
    plain = p.login()
    rows = p.show("clients")
    of_port = {r["port"]: r["tls"] for r in rows}
    assert re.fullmatch(text, of_port[c.tls.raw.getsockname()[1]])
    assert of_port[plain.sock.getsockname()[1]] == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_console_over_tls(make_pooler, pki, version):
    p = make_pooler(settings=pki.client_settings("require"))
    context = pki.client_context(version=version)
    with p.tls(context) as c:
        c.login("admin", "pgbouncer", "adminpw")
        console = Console(c)
        assert {r["list"] for r in console.show("lists")} >= {"databases", "used_clients"}
        mine = [r for r in console.show("clients") if r["user"] == "admin"]
        assert mine[0]["tls"].startswith(f"TLSv{version}/")
        assert len(console.show("config")) > 50
        assert console.run("RELOAD") == "RELOAD"


# --- cancel requests


def send_cancel(p, key, context=None, **kwargs):
    with p.raw() as c:
        if context:
            c.start_tls(context, **kwargs)
        c.send(struct.pack("!ii", 8 + len(key), wire.CODE_CANCEL) + key)
        assert not c.expect_close().messages


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
def test_cancel_requests(make_pooler, pki, cluster, mode):
    """Through TLS, and in the clear even where TLS is demanded, as all libraries before libpq 17 send them."""
    p = make_pooler(settings=pki.client_settings(mode))
    context = pki.client_context(cert="app")
    c = p.login(tls=context)
    for way in (context, None):
        tag = f"cancel me {mode} {p.port} {way is None}"
        c.send(wire.query(f"select pg_sleep(60) /* {tag} */"))
        cluster.wait_running(tag)
        send_cancel(p, c.key, way)
        assert c.read_ready().error.code == "57014"
        assert c.value("select 'alive'") == "alive"


@pytest.mark.newer
def test_cancel_request_through_direct_tls(make_pooler, pki, cluster):
    p = make_pooler(settings=pki.client_settings())
    context = pki.client_context(alpn=["postgresql"])
    c = p.login(tls=context)
    tag = f"cancel directly {p.port}"
    c.send(wire.query(f"select pg_sleep(60) /* {tag} */"))
    cluster.wait_running(tag)
    send_cancel(p, c.key, context, direct=True)
    assert c.read_ready().error.code == "57014"


def test_cancel_request_without_a_certificate(make_pooler, pki):
    """Through TLS the rules of TLS hold for it as well."""
    p = make_pooler(settings=pki.client_settings("verify-full"))
    c = p.login(tls=pki.client_context(cert="app"))
    with p.raw() as other, pytest.raises((ssl.SSLError, wire.Closed, OSError)):
        other.start_tls(pki.client_context(version="1.2"))
    assert c.value("select 1") == "1"


# --- programs


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
def test_libpq(make_pooler, pki, mode):
    p = make_pooler(settings=pki.client_settings("prefer"))
    conn = p.connect(host="localhost", hostaddr="127.0.0.1", sslmode=mode, sslrootcert=pki.ca("root"))
    assert conn.execute("select 1").fetchone() == (1,)
    assert conn.pgconn.ssl_in_use == (mode not in ("disable", "allow"))


def test_libpq_refuses_another_name_or_authority(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings("require", cert="server_elsewhere"))
    kwargs = {"hostaddr": "127.0.0.1", "sslrootcert": pki.ca("root")}
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        p.connect(host="localhost", sslmode="verify-full", **kwargs)
    p.connect(host="db.example.test", sslmode="verify-full", **kwargs)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        p.connect(host="localhost", sslmode="verify-ca", hostaddr="127.0.0.1", sslrootcert=pki.ca("stranger"))
    p.wait_for_log("(?i)TLS handshake (error|failed)")


def test_libpq_with_a_certificate(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings("verify-full"))
    files = pki.files("app")
    where = {"host": "localhost", "hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": pki.ca("root")}
    p.connect(sslcert=files.cert, sslkey=files.key, **where)
    bad = pki.files("app_stranger")
    with pytest.raises(psycopg.OperationalError):
        p.connect(sslcert=bad.cert, sslkey=bad.key, **where)


def test_psql_and_pgbench(make_pooler, pki, cluster):
    p = make_pooler({"bench": cluster.dsn()}, settings=pki.client_settings("require"))
    env = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": pki.ca("root")}
    out = p.psql("-c", "\\conninfo", "-c", "select 40 + 2", dbname="bench", host="localhost", **env)
    assert "SSL connection (protocol: TLSv1.3" in out.stdout and "42" in out.stdout
    for args in (["-S"], ["-S", "-M", "prepared"], ["-S", "-C", "-t", "5"]):
        p.pgbench("bench", "-n", "-c", "4", "-t", "50", *args, **env)


def newer_libpq():
    """The directory of client programs of PostgreSQL 17 and newer, which begin with TLS directly; None without."""
    return os.environ.get("PG_NEWER_BINDIR")


@pytest.mark.newer
@pytest.mark.skipif(not newer_libpq(), reason="PG_NEWER_BINDIR is not set")
def test_psql_with_direct_tls(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings("require"))
    env = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": pki.ca("root"), "PGSSLNEGOTIATION": "direct"}
    out = p.psql("-c", "select 40 + 2", host="localhost", bindir=newer_libpq(), **env)
    assert out.stdout.strip() == "42"


# --- many at once


@pytest.mark.parametrize("login_threads", [0, 1, 3])
def test_a_hundred_clients_at_once(make_pooler, pki, login_threads):
    """All handshakes in flight together, none finished before all have begun."""
    settings = pki.client_settings("require", pool_mode="transaction", default_pool_size=3, auth_type="scram-sha-256")
    if not is_pgbouncer():
        settings["login_threads"] = login_threads
    p = make_pooler(settings=settings)
    conns = []
    for i in range(100):
        c = p.raw(timeout=60)
        assert c.ssl_request() == b"S"
        c.sock = wire.TlsSock(c.sock, pki.client_context(version=VERSIONS[i % 2]))
        c.sock.step()
        conns.append(c)
    for c in conns:
        c.sock.handshake()
    for c in conns:
        c.start()
    for c in conns:
        c.finish_login("app", "apppw")
    for i, c in enumerate(conns):
        c.send(wire.query(f"select {i}"))
    for i, c in enumerate(conns):
        assert c.read_ready().value() == str(i)
    for c in conns:
        c.close()
    wait_until(lambda: len(p.show("clients")) == 1, "all are gone")
