"""
Servers that mean harm, or are broken, at every step of TLS: they get no word that is not for them, their connection is
closed with a line in the log that says why, and nobody else notices.
"""
import select
import struct
import threading

import pytest
from harness import wire
from harness.procs import rss_kib
from harness.tls import ALERT, DATA, HANDSHAKE, record, rest_of, spoilt
from harness.wire import pack, query

VERSIONS = ("1.2", "1.3")


@pytest.fixture
def bad_server(make_pooler, pki, fake_server, tls_cluster):
    """
    bad_server(handler, mode) is a pooler whose database `bad` leads to a server with that handler, and one client of it
    that waits; beside them a client of a good server, who must not notice anything.
    """
    made = []

    def make(handler, mode="require", timeout=None, context=None, **settings):
        s = fake_server(handler, raw=context is None, tls=context)
        settings = {**pki.server_settings(mode), "server_login_retry": 1, **settings}
        if timeout:
            settings["server_connect_timeout"] = timeout
        p = make_pooler({"bad": s.dsn(), "app": tls_cluster.dsn()}, settings=settings)
        bystander = p.login()
        bystander.query("begin")
        bystander.query("create temp table mine(i int)")
        made.append(bystander)
        c = p.raw()
        c.start(database="bad")
        p.victim = c
        return p

    yield make
    for bystander in made:
        assert bystander.query("select count(*) from mine").rows == [["0"]], "another client's session was disturbed"
        bystander.terminate()


ANSWERS = {
    "nothing": b"",
    "unknown_letter": b"X",
    "zero": b"\0",
    "lower_case": b"s",
    "error": pack("E", wire.error_body(text="made by a fake server")),
    "handshake": record(HANDSHAKE, b"\x02\0\0\x26\x03\x03" + b"r" * 36),
    "greeting": pack("R", struct.pack("!i", 0)) + pack("Z", b"I"),
}


@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_bad_answer_to_the_request(bad_server, what, mode):
    told = []

    def handler(conn):
        conn.read_exact(8)
        conn.send(ANSWERS[what])
        if what != "nothing":
            try:
                told.append(conn.sock.recv(1000))
            except OSError:
                pass

    p = bad_server(handler, mode)
    p.wait_for_log(r"S-\S+: bad/app@\S+ closing because: ")
    assert all(b"app" not in data for data in told)
    p.victim.close()


BAD_FLIGHTS = {
    "close": b"",
    "garbage": b"\x55" * 500,
    "plain_greeting": pack("R", struct.pack("!i", 0)) + pack("Z", b"I"),
    "alert": record(ALERT, b"\x02\x28"),
    "too_long": record(HANDSHAKE, b"\x02" * 40000, size=40000),
    "hello_of_16_mb": record(HANDSHAKE, b"\x02\xff\xff\xff\x03\x03" + b"x" * 16000) * 10,
    "hello_cut_inside": record(HANDSHAKE, b"\x02\0\0\x26\x03\x03" + b"r" * 32 + b"\xff\0\0\0"),
    "half_a_record": record(HANDSHAKE, b"\x02\0\0\x26\x03\x03" + b"r" * 20, size=200),
    "client_hello": record(HANDSHAKE, b"\x01\0\0\x26\x03\x03" + b"r" * 38),
    "finished": record(HANDSHAKE, b"\x14\0\0\x0c" + b"f" * 12),
    "sslv3": record(HANDSHAKE, b"\x02\0\0\x26\x03\0" + b"r" * 32 + b"\0\0\x0a\0", version=0x0300),
    "data": record(DATA, b"x" * 100),
    "empty_records": record(HANDSHAKE, b"") * 100,
}


@pytest.mark.parametrize("what", BAD_FLIGHTS)
def test_bad_flight_of_a_server(bad_server, what):
    """In the place of its hello."""
    told = []

    def handler(conn):
        conn.read_exact(8)
        conn.send(b"S")
        conn.sock.recv(65536)
        try:
            conn.send(BAD_FLIGHTS[what])
            conn.sock.shutdown(1)
            told.append(conn.sock.recv(65536))
        except OSError:
            pass

    p = bad_server(handler)
    p.wait_for_log(r"S-\S+: bad/app@\S+ .*(?i:TLS|SSL|closing because)")
    p.wait_for_log(r"S-\S+: bad/app@\S+ closing because: ")
    assert all(b"user" not in data for data in told)
    p.victim.close()


CERTIFICATES = {
    # certificate: the modes that refuse it
    "server": (),
    "server_cn_only": (),
    "server_chained": (),
    "server_elsewhere": ("verify-full",),
    "server_cn_beside_san": ("verify-full",),
    "server_expired": ("verify-ca", "verify-full"),
    "server_not_yet": ("verify-ca", "verify-full"),
    "server_stranger": ("verify-ca", "verify-full"),
    "server_self_signed": ("verify-ca", "verify-full"),
    "server_unchained": ("verify-ca", "verify-full"),
    "server_for_clients": ("verify-ca", "verify-full"),
}


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("cert", CERTIFICATES)
def test_certificates_of_servers(make_pooler, pki, fake_server, cert, mode):
    for version in VERSIONS:
        names = []
        s = fake_server(
            lambda conn, params: (names.append(params["user"]), wire.serve_queries(conn)),
            tls=pki.server_context(cert, version=version),
        )
        dsn = f"host=localhost port={s.port}"
        p = make_pooler({"app": dsn}, settings={**pki.server_settings(mode), "dns_max_ttl": 60})
        if mode in CERTIFICATES[cert]:
            c = p.raw()
            c.start()
            p.wait_for_log("(?i)TLS handshake (error|failed).*certificate")
            p.wait_for_log(r"S-\S+: app/app@\S+ closing because: ")
            assert not names
        else:
            assert p.login().value("select 1") == "ok"


@pytest.mark.parametrize("mode", ["allow", "prefer"])
def test_server_without_tls_is_used_where_that_is_allowed(make_pooler, pki, fake_server, mode):
    s = fake_server(lambda conn, params: wire.serve_queries(conn))
    p = make_pooler({"app": s.dsn()}, settings=pki.server_settings(mode))
    assert p.login().value("select 1") == "ok"


def test_server_with_an_old_version_only(make_pooler, pki, fake_server):
    with pytest.warns(DeprecationWarning):
        context = pki.server_context(version="1.1", ciphers="ALL:@SECLEVEL=0")
    names = []
    s = fake_server(lambda conn, params: names.append(params), tls=context)
    p = make_pooler({"app": s.dsn()}, settings=pki.server_settings("require"))
    c = p.raw()
    c.start()
    p.wait_for_log("(?i)TLS handshake (error|failed).*version")
    assert not names


STEPS = ["before_s", "behind_s", "amid_its_hello", "behind_the_handshake"]


@pytest.mark.parametrize("where", STEPS)
def test_server_that_stalls(bad_server, pki, where):
    """No longer than server_connect_timeout, which counts until the login is over."""
    over = threading.Event()

    def handler(conn):
        conn.read_exact(8)
        if where != "before_s":
            conn.send(b"S")
        if where == "amid_its_hello":
            conn.sock.recv(65536)
            conn.send(record(HANDSHAKE, b"\x02\0\0\x26\x03\x03", size=200))
        elif where == "behind_the_handshake":
            conn.accept_tls(pki.server_context())
        over.wait(20)

    p = bad_server(handler, timeout=1)
    p.wait_for_log(r"S-\S+: bad/app@\S+ closing because: connect timeout")
    over.set()
    assert p.login().value("select 'served'") == "served"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["plain_greeting", "plain_record", "bit_error", "twice", "too_long"])
def test_bad_records_of_a_server(bad_server, pki, version, what):
    """Instead of its greeting, behind a good handshake."""
    greeting = pack("R", struct.pack("!i", 0)) + pack("Z", b"I")

    def handler(conn):
        conn.read_exact(8)
        conn.send(b"S")
        conn.accept_tls(pki.server_context(version=version))
        conn.read_startup()
        good = conn.tls.encrypted(pack("N", wire.error_body("NOTICE", "00000", "hello")))
        conn.tls.raw.sendall(
            {
                "plain_greeting": greeting,
                "plain_record": record(DATA, greeting),
                "bit_error": spoilt(good),
                "twice": good * 2,
                "too_long": record(DATA, b"x" * 30000, size=30000),
            }[what]
        )
        rest_of(conn)

    p = bad_server(handler)
    p.wait_for_log(r"S-\S+: bad/app@\S+ closing because: ")
    p.victim.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_bad_record_amid_a_result(bad_server, pki, version):
    """The client gets no byte of what was tampered with."""

    def handler(conn, params):
        conn.greet()
        conn.recv()
        conn.send(wire.row_description("v") + wire.data_row("good"))
        conn.tls.raw.sendall(spoilt(conn.tls.encrypted(wire.data_row("forged")), 20))
        rest_of(conn)

    p = bad_server(handler, context=pki.server_context(version=version))
    p.victim.finish_login("app", None)
    p.victim.send(query("select"))
    result = p.victim.expect_close()
    assert result.rows in ([], [["good"]])
    p.wait_for_log(r"S-\S+: bad/app@\S+ closing because: ")


def test_key_updates_without_end(bad_server, pki):
    """As fast as they can be made, each with an answer: others on the same thread are served all the same."""
    stop, failures = threading.Event(), []

    def handler(conn, params):
        conn.greet()
        conn.recv()
        try:
            while not stop.is_set():
                for _ in range(200):
                    conn.tls.key_update(True)
                while select.select([conn.tls.raw], [], [], 0)[0]:
                    conn.tls.raw.recv(65536)
        except OSError:
            pass
        except AssertionError as e:
            failures.append(e)

    p = bad_server(handler, context=pki.server_context(version="1.3"))
    p.victim.finish_login("app", None)
    before = rss_kib(p.proc.pid)
    p.victim.send(query("select"))
    for _ in range(3):
        assert p.login().value("select 'served meanwhile'") == "served meanwhile"
    assert rss_kib(p.proc.pid) - before < 20 * 1024
    stop.set()
    p.victim.close()
    assert not failures


def test_hundreds_of_tickets(bad_server, pki):
    """A server may send as many as it likes; they are not kept."""
    context = pki.server_context(version="1.3")
    context.num_tickets = 250
    p = bad_server(lambda conn, params: wire.serve_queries(conn), context=context)
    p.victim.finish_login("app", None)
    assert p.victim.value("select 1") == "ok"


def test_server_that_asks_for_another_handshake(bad_server, pki):
    """Renegotiation in TLS 1.2 is refused to servers as well."""
    ended = []

    def handler(conn, params):
        conn.greet()
        assert conn.recv().type == "Q"
        conn.tls.renegotiate()
        try:
            conn.send(wire.answer("ok"))
            conn.recv()
        except (OSError, wire.Closed) as e:
            ended.append(e)

    p = bad_server(handler, context=pki.server_context(version="1.2"))
    p.victim.finish_login("app", None)
    p.victim.send(query("select"))
    try:
        assert p.victim.read_ready().value() == "ok"
    except (wire.Closed, wire.PgError):
        pass
    assert p.login().value("select 'served'") == "served"


def test_part_of_a_record_behind_the_greeting(bad_server, pki):
    """Nothing may follow ReadyForQuery, not even what is no message yet: such a server serves nobody."""
    greeting = pack("R", struct.pack("!i", 0)) + pack("K", struct.pack("!ii", 1, 1)) + pack("Z", b"I")

    def handler(conn, params):
        conn.tls.raw.sendall(conn.tls.encrypted(greeting) + record(DATA, b"", size=100)[:3])
        rest_of(conn)

    p = bad_server(handler, context=pki.server_context(), threads=2)
    p.wait_for_log(r"S-\S+: bad/app@\S+ closing because: unknown pkt")
    p.victim.close()
