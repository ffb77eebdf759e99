"""
Clients that mean harm, or are broken, at every step of TLS. Each is closed with a line in the log that says why, and
nobody else notices. `test_tls_malice_servers.py` is about servers.
"""
import os
import select
import socket
import ssl
import struct
import threading
import time

import pytest
from harness import wire
from harness.procs import rss_kib, wait_until
from harness.tls import ALERT, DATA, HANDSHAKE, TlsSock, record, records_of, rest_of, spoilt
from harness.wire import query, startup_packet

VERSIONS = ("1.2", "1.3")
SSL_REQUEST = struct.pack("!ii", 8, wire.CODE_SSL)
FAILED = r"(?i)TLS handshake (error|failed)"

@pytest.fixture
def victim(make_pooler, pki, cluster):
    """A pooler with two clients in transactions, one of them in TLS, who must not notice anything."""
    settings = pki.client_settings("prefer", pool_mode="transaction", log_pooler_errors=1)
    p = make_pooler(settings=settings)
    conns = [p.login(), p.login(tls=pki.client_context())]
    for c in conns:
        c.query("begin")
        c.query("create temp table mine(i int)")
    before = rss_kib(p.proc.pid)
    yield p
    for c in conns:
        assert c.query("select count(*) from mine").rows == [["0"]], "another client's session was disturbed"
        assert c.query("rollback").status == "I"
        c.terminate()
    assert p.login(tls=pki.client_context()).value("select 'alive'") == "alive"
    assert rss_kib(p.proc.pid) - before < 40 * 1024


def granted(p, timeout=10.0):
    c = p.raw(timeout)
    assert c.ssl_request() == b"S"
    return c


def hello(pki, **kwargs):
    """The bytes of a genuine ClientHello."""
    tls = TlsSock(socket.socket(), pki.client_context(**kwargs))
    tls.hold = True
    tls.step()
    tls.raw.close()
    return tls.held


# --- clients before the end of the handshake

GARBAGE = {
    "random": lambda pki: bytes(range(255, 0, -1)) * 4,
    "zeros": lambda pki: b"\0" * 300,
    "http": lambda pki: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "startup_packet": lambda pki: startup_packet({"user": "app", "database": "app"}),
    "another_request": lambda pki: SSL_REQUEST,
    "sslv2": lambda pki: b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10" + os.urandom(40),
    "data_first": lambda pki: record(DATA, b"x" * 100),
    "alert_first": lambda pki: record(ALERT, b"\x02\x28"),
    "alert_of_a_byte": lambda pki: record(ALERT, b"\x02"),
    "change_cipher_first": lambda pki: record(20, b"\x01"),
    "unknown_kind": lambda pki: record(99, b"x" * 100),
    "heartbeat": lambda pki: record(24, b"\x01\x40\0" + b"x" * 16),
    "empty_handshake": lambda pki: record(HANDSHAKE, b""),
    "record_too_long": lambda pki: record(HANDSHAKE, b"\x01" * 20000, size=20000),
    "longest_record": lambda pki: record(HANDSHAKE, b"\x01" * 65535, size=65535),
    "hello_of_16_mb": lambda pki: record(HANDSHAKE, b"\x01\xff\xff\xff\x03\x03" + b"x" * 16000) * 20,
    "hello_of_nothing": lambda pki: record(HANDSHAKE, b"\x01\0\0\0"),
    "hello_cut_inside": lambda pki: record(HANDSHAKE, b"\x01\0\0\x26\x03\x03" + b"r" * 32 + b"\xff\0\0\0"),
    "server_hello": lambda pki: record(HANDSHAKE, b"\x02\0\0\x26\x03\x03" + b"r" * 36),
    "finished_first": lambda pki: record(HANDSHAKE, b"\x14\0\0\x0c" + b"f" * 12),
    "key_update_first": lambda pki: record(HANDSHAKE, b"\x18\0\0\x01\x01"),
    "client_key_exchange_first": lambda pki: record(HANDSHAKE, b"\x10\0\0\x02\0\0"),
    "two_hellos": lambda pki: hello(pki, version="1.2") * 2,
    "hello_then_data": lambda pki: hello(pki) + record(DATA, b"x" * 50),
    "hello_then_plain": lambda pki: hello(pki) + startup_packet({"user": "app", "database": "app"}),
    "bit_errors": lambda pki: bytes(b ^ 1 for b in hello(pki)),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_instead_of_a_handshake(victim, pki, what):
    mark = victim.log_mark()
    c = granted(victim)
    try:
        c.sock.sendall(GARBAGE[what](pki))
        c.sock.shutdown(1)
    except OSError:
        pass
    rest_of(c)
    victim.wait_for_log(FAILED, since=mark)


@pytest.mark.parametrize("seed", range(6))
def test_hello_with_errors(victim, pki, seed):
    """Single bytes of a genuine hello replaced, each in turn: no answer matters, as long as there is one or an end."""
    genuine = hello(pki, version=VERSIONS[seed % 2])
    for at in range(seed, len(genuine), 6):
        with wire.Conn.tcp(victim.port) as c:
            assert c.ssl_request() == b"S"
            c.sock.sendall(genuine[:at] + bytes([genuine[at] ^ 0xFF]) + genuine[at + 1 :])
            c.sock.shutdown(1)
            rest_of(c)


@pytest.mark.newer
@pytest.mark.parametrize("size", [1, 4, 5, 6, 9, 50])
def test_direct_handshake_that_breaks_off(victim, pki, size):
    mark = victim.log_mark()
    c = victim.raw()
    c.sock.sendall(hello(pki, alpn=["postgresql"])[:size])
    c.sock.shutdown(1)
    rest_of(c)
    victim.wait_for_log(FAILED, since=mark)


@pytest.mark.newer
def test_direct_garbage(victim, pki):
    for what in ("record_too_long", "hello_of_16_mb", "hello_cut_inside", "finished_first", "two_hellos"):
        mark = victim.log_mark()
        c = victim.raw()
        try:
            c.sock.sendall(GARBAGE[what](pki))
            c.sock.shutdown(1)
        except OSError:
            pass
        rest_of(c)
        victim.wait_for_log(FAILED, since=mark)


def test_hello_in_records_of_one_byte(victim, pki):
    """Allowed, as long as it ends."""
    c = granted(victim)
    tls = TlsSock(c.sock, pki.client_context())
    tls.hold = True
    tls.step()
    genuine, tls.held, tls.hold = tls.held, b"", False
    (first,), _ = records_of(genuine)
    tls.raw.sendall(b"".join(record(HANDSHAKE, first[i : i + 1], 0x0301) for i in range(5, len(first))))
    try:
        tls.handshake()
    except OSError:
        return
    c.sock = tls
    c.login()
    assert c.value("select 1") == "1"


def test_finish_that_is_wrong(victim, pki):
    """The last flight of the client with a bit turned: the session does not come about."""
    for version in VERSIONS:
        mark = victim.log_mark()
        c = granted(victim)
        tls = TlsSock(c.sock, pki.client_context(version=version))
        tls.step()
        tls.hold = True
        while not tls.held:
            tls.feed(tls.raw.recv(65536))
            tls.step()
        tls.raw.sendall(tls.held[:-1] + bytes([tls.held[-1] ^ 1]))
        rest_of(c)
        victim.wait_for_log(FAILED, since=mark)


@pytest.mark.parametrize("version", VERSIONS)
def test_chain_of_a_thousand_certificates(victim, pki, version):
    """More than any client needs: it is not even looked at."""
    files = pki.files("app")
    with open(files.cert, "rb") as f:
        own = f.read()
    with open(pki.ca("middle"), "rb") as f:
        more = f.read() * 1000
    context = pki.client_context(version=version)
    context.load_cert_chain(pki.write("thousand.crt", own + more), files.key)
    mark = victim.log_mark()
    c = granted(victim)
    c.sock = TlsSock(c.sock, context)
    try:
        c.sock.handshake()
    except OSError:
        pass
    rest_of(c)
    victim.wait_for_log(FAILED, since=mark)


def test_downgrade_is_noticed(victim, pki):
    """A client that was talked into an older version than both sides know says so, and is told."""
    mark = victim.log_mark()
    c = granted(victim)
    context = pki.client_context(version="1.2")
    c.sock = TlsSock(c.sock, context)
    c.sock.claim_fallback()
    with pytest.raises(ssl.SSLError, match="(?i)inappropriate.fallback"):
        c.sock.handshake()
    victim.wait_for_log(FAILED, since=mark)


# --- clients behind the handshake


AFTER = {
    "plain_query": lambda c: query("select 'injected'"),
    "plain_startup": lambda c: startup_packet({"user": "app", "database": "app"}),
    "plain_record": lambda c: record(DATA, query("select 'injected'")),
    "bit_error": lambda c: spoilt(c.tls.encrypted(query("select 'injected'"))),
    "head_error": lambda c: spoilt(c.tls.encrypted(query("select 'injected'")), 1),
    "twice": lambda c: c.tls.encrypted(query("select 'once'")) * 2,
    "left_out": lambda c: (c.tls.encrypted(query("select 'lost'")), c.tls.encrypted(query("select 'kept'")))[1],
    "too_long": lambda c: record(DATA, b"x" * 30000, size=30000),
    "of_nothing": lambda c: record(DATA, b"", size=0),
    "another_hello": lambda c: record(HANDSHAKE, b"\x01\0\0\x26\x03\x03" + b"r" * 38),
    "fatal_alert": lambda c: record(ALERT, b"\x02\x50"),
    "heartbeat": lambda c: record(24, b"\x01\x40\0" + b"x" * 16),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("when", ["before_the_login", "after_it"])
@pytest.mark.parametrize("what", AFTER)
def test_bad_records(victim, pki, version, when, what):
    """What was not encrypted with the keys of the session, or not in this order, ends it."""
    c = victim.tls(pki.client_context(version=version))
    if when == "after_it":
        c.login()
        assert c.value("select 'fine'") == "fine"
    mark = victim.log_mark()
    c.tls.raw.sendall(AFTER[what](c))
    data = rest_of(c)
    assert b"injected" not in data
    victim.wait_for_log("closing because: |TLS error: ", since=mark)


def test_renegotiation(victim, pki):
    """Never: a handshake costs us more than the one who asks for it."""
    c = victim.login(tls=pki.client_context(version="1.2"))
    for _ in range(3):
        try:
            c.tls.renegotiate()
            assert c.value("select 1") == "1"
        except OSError:  # refused with an alert, which ends the session on our side
            break
    else:
        raise AssertionError("renegotiation was allowed")
    c.close()


def test_endless_key_updates(victim, pki):
    """Each asks for one in return, which nobody reads: the pooler neither spends all its time nor all its memory."""
    c = victim.login(tls=pki.client_context(version="1.3"))
    before = rss_kib(victim.proc.pid)
    c.tls.raw.settimeout(1)
    try:
        for _ in range(4000):
            c.tls.key_update(True)
    except (OSError, AssertionError):
        pass
    assert victim.login(tls=pki.client_context()).value("select 'served meanwhile'") == "served meanwhile"
    assert rss_kib(victim.proc.pid) - before < 20 * 1024
    c.tls.raw.settimeout(10)
    try:
        assert c.value("select 'still there'") == "still there"
    except (OSError, AssertionError):
        pass  # closed is as good


@pytest.mark.parametrize("when", ["before_the_login", "after_it"])
def test_key_updates_without_end(victim, pki, when):
    """As fast as they can be made, each with an answer: whoever shares a thread with it is served all the same."""
    stop, failures = threading.Event(), []
    c = victim.tls(pki.client_context(version="1.3"))
    if when == "after_it":
        c.login()

    def flood():
        try:
            while not stop.is_set():
                for _ in range(200):
                    c.tls.key_update(True)
                while select.select([c.tls.raw], [], [], 0)[0]:
                    c.tls.raw.recv(65536)
        except OSError:
            pass
        except AssertionError as e:
            failures.append(e)

    sender = threading.Thread(target=flood)
    sender.start()
    for _ in range(3):
        with victim.login(tls=pki.client_context()) as other:
            assert other.value("select 'served meanwhile'") == "served meanwhile"
    stop.set()
    sender.join()
    assert not failures
    wire.Conn(c.tls.raw).reset()


def test_floods_of_records_that_mean_nothing(victim, pki):
    """Warnings, empty records: no end of them is accepted, or they cost nothing; others are served meanwhile."""
    for version in VERSIONS:
        c = victim.login(tls=pki.client_context(version=version))
        c.tls.raw.settimeout(1)
        try:
            for _ in range(50):
                c.tls.raw.sendall(record(ALERT, b"\x01\x5a") * 100)
        except OSError:
            pass
        assert victim.login(tls=pki.client_context()).value("select 'served meanwhile'") == "served meanwhile"
        wire.Conn(c.tls.raw).reset()


STALLS = ["at_once", "behind_s", "amid_the_hello", "behind_the_hello", "behind_the_handshake"]
STALLS += ["amid_the_startup_packet"]


@pytest.mark.parametrize("where", STALLS)
def test_stall_until_the_login_timeout(make_pooler, pki, where):
    """One limit for all of it, counted from the accept."""
    p = make_pooler(settings=pki.client_settings("prefer", client_login_timeout=1, tcp_defer_accept=0))
    c = p.raw()
    if where in ("behind_the_handshake", "amid_the_startup_packet"):
        c.start_tls(pki.client_context())
        if where == "amid_the_startup_packet":
            c.send(startup_packet({"user": "app", "database": "app"})[:10])
    elif where != "at_once":
        assert c.ssl_request() == b"S"
        tls = TlsSock(c.sock, pki.client_context())
        tls.hold = where == "amid_the_hello"
        if where != "behind_s":
            tls.step()
            tls.raw.sendall(tls.held[:100])
    p.wait_for_log("closing because: client_login_timeout")
    rest_of(c)
    assert p.login(tls=pki.client_context()).value("select 1") == "1"


def test_one_byte_now_and_then(make_pooler, pki):
    """Who drips a handshake is not given more time for it."""
    p = make_pooler(settings=pki.client_settings("prefer", client_login_timeout=1))
    c = granted(p)
    for byte in hello(pki):
        try:
            c.sock.sendall(bytes([byte]))
        except OSError:
            break
        time.sleep(0.05)
    p.wait_for_log("closing because: client_login_timeout")
    rest_of(c)


@pytest.mark.ours
def test_stalled_handshakes_are_shown(victim, pki):
    """Before the first byte, amid the first message, and behind it."""
    stalled = []
    for sent in 0, 1, 100, None:
        c = granted(victim)
        c.sock.sendall(hello(pki)[:sent])
        if sent is None:
            assert c.sock.recv(1) != b""
        stalled.append(c)

    def shown():
        return [r["tls"] for r in victim.show("sockets") if r["state"] == "cl_login"]

    wait_until(lambda: len(shown()) == len(stalled), "all of them to be shown")
    assert shown() == [""] * len(stalled)
    victim.show("clients")
    assert victim.login(tls=pki.client_context()).value("select 1") == "1"
    for c in stalled:
        c.reset()


def test_hundreds_of_stalled_handshakes(victim, pki):
    """They hold sockets, but nobody else up."""
    stalled = []
    for i in range(80):
        c = granted(victim)
        tls = TlsSock(c.sock, pki.client_context())
        tls.step()
        stalled.append(c)
    for _ in range(5):
        c = victim.login(tls=pki.client_context())
        assert c.value("select 'served meanwhile'") == "served meanwhile"
        c.terminate()
    for c in stalled:
        c.reset()
    wait_until(lambda: len(victim.show("clients")) <= 3, "they are gone")
