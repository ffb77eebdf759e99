"""Nonsense from clients and from servers: a clear end, nobody else disturbed, no crash, no memory left behind."""
import base64
import os
import random
import struct

import pytest
from harness import wire
from harness.pooler import is_instrumented
from harness.procs import open_fds, rss_kib, wait_until


@pytest.fixture
def bystander(make_pooler):
    """A pooler with a client in the middle of a transaction, who must not notice anything."""
    p = make_pooler(settings={"pool_mode": "transaction", "auth_type": "md5", "log_pooler_errors": 0})
    c = p.login(password="apppw")
    c.query("begin")
    c.query("create temp table mine(i int)")
    yield p
    assert c.query("select count(*) from mine").rows == [["0"]], "another client's session was disturbed"
    assert c.query("rollback").status == "I"
    c.terminate()
    assert p.login(password="apppw").value("select 'alive'") == "alive"


def ends(conn):
    """The pooler must close this connection; at most it says why first, in well-formed messages."""
    try:
        result = conn.expect_close()
    except AssertionError as e:
        raise AssertionError(f"not closed, or not cleanly: {e}") from None
    assert all(m.type in "EN" for m in result.messages), result.messages
    return result.error


def end_input(conn):
    """Close our direction; the pooler may have closed its own already."""
    try:
        conn.sock.shutdown(1)
    except OSError:
        pass


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes(bystander, seed):
    rng = random.Random(seed)
    for _ in range(60):
        with wire.Conn.tcp(bystander.port) as c:
            c.send(rng.randbytes(rng.choice([1, 7, 8, 9, 64, 1000])))
            end_input(c)
            try:
                while c.sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass


@pytest.mark.parametrize("mtype", [chr(c) for c in b"pQPBDECSHFdcfX\0Z"])
def test_typed_message_before_the_startup_packet(bystander, mtype):
    with wire.Conn.tcp(bystander.port) as c:
        c.send(wire.pack(mtype, b"x" * 20))
        ends(c)


@pytest.mark.parametrize("mtype", [chr(c) for c in b"QPBDECSHFdcfZ\x7f"])
def test_typed_message_instead_of_a_password(bystander, mtype):
    with wire.Conn.tcp(bystander.port) as c:
        c.start()
        assert c.recv().type == "R"
        c.send(wire.pack(mtype, b"x\0\0\0\0\0"))
        ends(c)


LENGTHS = [0, 3, 4, 5, 7, -1, -(1 << 31), (1 << 31) - 1, 1 << 24]


@pytest.mark.parametrize("length", LENGTHS)
def test_length_of_the_startup_packet(bystander, length):
    with wire.Conn.tcp(bystander.port) as c:
        c.send(struct.pack("!ii", length, wire.PROTO_3_0))
        if 8 > length >= 4 or length < 4 or length > 65535:
            error = ends(c)
            assert error is None or error.text.startswith("bad packet header"), error


@pytest.mark.parametrize("length", LENGTHS)
def test_length_of_a_password_message(bystander, length):
    with wire.Conn.tcp(bystander.port) as c:
        c.start()
        c.recv()
        c.send(b"p" + struct.pack("!i", length) + b"secret\0")
        if length < 4 or length > 1 << 20:
            ends(c)


@pytest.mark.parametrize("length", [0, 3, -1, -(1 << 31)])
def test_length_of_a_query(bystander, length):
    with wire.Conn.tcp(bystander.port) as c:
        c.login(password="apppw")
        c.send(b"Q" + struct.pack("!i", length) + b"select 1\0")
        error = ends(c)
        assert error is None or error.code == "08P01"


def test_announced_gigabytes(bystander):
    """A Query that claims 2 GB and then ends: nothing may be set aside for it."""
    before = rss_kib(bystander.proc.pid)
    conns = []
    for _ in range(10):
        c = bystander.login(password="apppw")
        c.send(b"Q" + struct.pack("!i", (1 << 31) - 1) + b"select 1")
        conns.append(c)
    bystander.show("pools")
    assert rss_kib(bystander.proc.pid) - before < 30 * 1024
    for c in conns:
        c.reset()


def test_max_packet_size(make_pooler):
    p = make_pooler(settings={"max_packet_size": 10000})
    c = p.login()
    assert len(c.value("select repeat('x', 5000)")) == 5000
    c.send(wire.query("select '" + "x" * 20000 + "'"))
    ends(c)
    c = p.login()
    c.send(wire.query("select repeat('x', 20000)"))
    messages = c.expect_close()
    assert messages.error is not None and not messages.rows


@pytest.mark.parametrize("cut", [1, 3, 4, 7, 8, 9, 12, 20, 30])
def test_truncated_startup_packet(bystander, cut):
    with wire.Conn.tcp(bystander.port) as c:
        c.send(wire.startup_packet({"user": "app", "database": "app"})[:cut])
        end_input(c)
        ends(c)


def test_odd_startup_packets(bystander):
    head = struct.pack("!i", wire.PROTO_3_0)
    for body in (
        b"",
        b"\0",
        b"user\0",
        b"user\0app",
        b"user\0app\0",
        b"user\0app\0database\0\0",
        b"\0\0\0",
        b"user\0app\0\0junk\0",
        b"\xff\xfe\0\xff\0\0",
        b"user\0" + b"\xff" * 200 + b"\0\0",
        b"user\0app\0" * 3000 + b"\0",
        b"x\0" * 20000,
    ):
        with wire.Conn.tcp(bystander.port) as c:
            c.send(struct.pack("!i", 8 + len(body)) + head + body)
            end_input(c)
            c.expect_close()


@pytest.mark.newer
def test_odd_sasl_messages(make_pooler):
    p = make_pooler(settings={"auth_type": "scram-sha-256", "log_pooler_errors": 0})
    mechanism = wire.cstr("SCRAM-SHA-256")
    first = b"n,,n=,r=abcdefgh"

    def fails(*messages):
        with wire.Conn.tcp(p.port) as c:
            c.start()
            c.recv()
            for n, m in enumerate(messages):
                c.send(wire.pack("p", m))
                reply = c.read_through("RE")
                if reply.error:
                    c.expect_close()
                    return
                assert n + 1 < len(messages), "it went on"
            raise AssertionError("not refused")

    def initial(data):
        return mechanism + struct.pack("!i", len(data)) + data

    for bad in (
        b"",
        b"\0",
        b"SCRAM",
        mechanism,
        mechanism + b"\0\0",
        mechanism + struct.pack("!i", -1),
        mechanism + struct.pack("!i", 1 << 30),
        mechanism + struct.pack("!i", 100) + first,
        initial(b""),
        initial(b"n"),
        initial(b"n,,"),
        initial(b"n,,n="),
        initial(b"n,,n=,r="),
        initial(b"x,,n=,r=abc"),
        initial(b"n,,m=ext,n=,r=abc"),
        initial(b"n,a=someone,n=,r=abc"),
        initial(b"n,,n=,r=\xff\xfe"),
        initial(b"n,,n=,r=" + b"a" * 60000),
        initial(first[:-8] + b"a\0b"),
    ):
        fails(bad)
    for bad in (
        b"",
        b"c=biws",
        b"c=biws,r=abcdefgh",
        b"c=biws,r=abcdefgh,p=",
        b"c=biws,r=abcdefgh,p=!!!",
        b"\xff" * 100,
        b"," * 50000,
    ):
        fails(initial(first), bad)
    assert p.login(password="apppw").value("select 1") == "1"


def half_open(p, count):
    conns = []
    for n in range(count):
        c = wire.Conn.tcp(p.port)
        if n % 3 == 1:
            c.send(b"\0\0")
        elif n % 3 == 2:
            c.start()
        conns.append(c)
    return conns


@pytest.mark.parametrize("count", [2000, pytest.param(10000, marks=pytest.mark.slow)])
def test_half_open_connections(make_pooler, count):
    p = make_pooler(
        settings={
            "auth_type": "md5",
            "max_client_conn": count + 100,
            "log_connections": 0,
            "log_disconnections": 0,
            "tcp_defer_accept": 0,
        }
    )
    p.login(password="apppw").terminate()
    fds, memory = open_fds(p.proc.pid), rss_kib(p.proc.pid)
    conns = half_open(p, count)
    c = p.login(password="apppw")
    assert c.value("select 'in between'") == "in between"
    wait_until(lambda: open_fds(p.proc.pid) > count * 0.9, "all were accepted", timeout=30)
    grown = (rss_kib(p.proc.pid) - memory) * 1024 / count
    assert grown < (120_000 if is_instrumented() else 20_000), f"{grown:.0f} bytes for each half-open connection"
    for x in conns:
        x.close()
    c.terminate()
    wait_until(
        lambda: open_fds(p.proc.pid) <= fds + 3,
        lambda: f"descriptors given back: {open_fds(p.proc.pid)}, before {fds}",
        timeout=30,
    )
    wait_until(lambda: p.lists()["login_clients"] == 0, "nobody logs in any more")


def test_memory_does_not_grow(make_pooler):
    """Many clients that come, misbehave and go."""
    p = make_pooler(
        settings={
            "auth_type": "md5",
            "log_connections": 0,
            "log_disconnections": 0,
            "log_pooler_errors": 0,
            "pool_mode": "transaction",
        }
    )

    def round_(n):
        for i in range(n):
            with wire.Conn.tcp(p.port) as c:
                if i % 4 == 0:
                    c.send(os.urandom(200))
                elif i % 4 == 1:
                    c.start("app")
                    c.recv()
                elif i % 4 == 2:
                    c.login(password="apppw")
                    c.send(b"Q\0\0\1\0half")
                else:
                    c.login(password="apppw")
                    c.query("select repeat('x', 100000)")

    round_(400)
    before = rss_kib(p.proc.pid)
    round_(800)
    grown = rss_kib(p.proc.pid) - before
    assert grown < (40_000 if is_instrumented() else 4_000), f"{grown} KiB more after 800 clients"


# --- servers


def end_of_login(p, timeout=15):
    """What the client of a bad server is told in the end."""
    c = p.raw(timeout)
    c.start("app", "bad")
    return c.expect_close().error


GARBAGE = {
    "random": lambda c: c.send(os.urandom(500)),
    "http": lambda c: c.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "close": lambda c: None,
    "zero-length": lambda c: c.send(b"R\0\0\0\0"),
    "huge-length": lambda c: c.send(b"R\x7f\xff\xff\xff"),
    "negative-length": lambda c: c.send(b"R\xff\xff\xff\xff"),
    "half-header": lambda c: c.send(b"R\0\0"),
    "short-auth": lambda c: c.send(wire.pack("R", b"\0\0")),
    "empty-auth": lambda c: c.send(wire.pack("R", b"")),
    "md5-without-salt": lambda c: c.send(wire.pack("R", struct.pack("!i", 5))),
    "sasl-without-list": lambda c: c.send(wire.pack("R", struct.pack("!i", 10))),
    "sasl-unterminated": lambda c: c.send(wire.pack("R", struct.pack("!i", 10) + b"SCRAM-SHA-256")),
    "sasl-continue-first": lambda c: c.send(wire.pack("R", struct.pack("!i", 11) + b"r=x,s=eA==,i=1")),
    "sasl-final-first": lambda c: c.send(wire.pack("R", struct.pack("!i", 12) + b"v=eA==")),
    "row": lambda c: c.send(wire.data_row("x")),
    "ready-at-once": lambda c: c.send(wire.pack("Z", b"I")),
    "ok-then-close": lambda c: c.send(wire.pack("R", struct.pack("!i", 0))),
    "ok-then-row": lambda c: c.send(wire.pack("R", struct.pack("!i", 0)), wire.data_row("x")),
    "broken-parameter": lambda c: c.send(wire.pack("R", struct.pack("!i", 0)), wire.pack("S", b"no end")),
    "short-key": lambda c: c.send(wire.pack("R", struct.pack("!i", 0)), wire.pack("K", b"\0")),
    "bad-ready": lambda c: c.send(wire.pack("R", struct.pack("!i", 0)), wire.pack("K", b"\0" * 8), wire.pack("Z", b"")),
    "negotiate": lambda c: c.send(wire.pack("v", struct.pack("!ii", 1 << 30, 1 << 30))),
    "error-empty": lambda c: c.send(wire.pack("E", b"")),
    "error-terminator": lambda c: c.send(wire.pack("E", b"\0")),
    "error-no-code": lambda c: c.send(wire.pack("E", b"SFATAL\0Mno code\0\0")),
    "error-no-text": lambda c: c.send(wire.pack("E", b"SFATAL\0C28000\0\0")),
    "error-no-severity": lambda c: c.send(wire.pack("E", b"C28000\0Mno severity\0\0")),
    "error-unterminated": lambda c: c.send(wire.pack("E", b"SFATAL\0C28000\0Mno end")),
    "error-long-text": lambda c: c.send(wire.pack("E", wire.error_body(code="28000", text="x" * 20000))),
    "error-odd-code": lambda c: c.send(wire.pack("E", wire.error_body(code="%s%n%d\n", text="%s%n\n\t\x01"))),
    "error-many-fields": lambda c: c.send(wire.pack("E", b"".join(bytes([k]) + b"v\0" for k in range(1, 250)) + b"\0")),
}


@pytest.mark.newer
@pytest.mark.parametrize("name", GARBAGE)
def test_server_that_talks_nonsense_at_login(make_pooler, cluster, fake_server, name):
    def handler(conn, params):
        GARBAGE[name](conn)
        if name in ("short-auth", "empty-auth", "half-header", "huge-length"):
            try:
                conn.sock.settimeout(1)
                conn.read_exact(1)
            except AssertionError:
                pass

    server = fake_server(handler)
    p = make_pooler(
        {"app": cluster.dsn(), "bad": server.dsn(password="x")},
        settings={"client_login_timeout": 2, "server_connect_timeout": 1, "server_login_retry": 1},
    )
    good = p.login()
    good.query("begin")
    error = end_of_login(p)
    assert error is not None and error.severity == "FATAL" and error.text and error.code, error
    assert good.query("select 1").rows == [["1"]]
    assert p.login().value("select 1") == "1"
    p.wait_pool("bad", sv_active=0, sv_idle=0)


@pytest.mark.parametrize("step", range(6))
def test_server_that_closes_at_each_step_of_a_login(make_pooler, cluster, fake_server, step):
    def handler(conn, params):
        parts = [
            wire.pack("R", struct.pack("!i", 0)),
            wire.pack("S", b"server_version\x0015.0\0"),
            wire.pack("K", b"\0\0\0\1\0\0\0\2"),
            wire.pack("Z", b"I"),
        ]
        data = b"".join(parts)
        conn.send(data[: len(data) * step // 6])

    server = fake_server(handler)
    p = make_pooler({"app": cluster.dsn(), "bad": server.dsn()}, settings={"client_login_timeout": 2})
    error = end_of_login(p)
    assert error is not None and error.text
    assert p.login().value("select 1") == "1"


def scram_server(conn, mischief):
    """The server's side of SCRAM for the password `x`, with one wrong thing in it."""
    conn.send(wire.pack("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
    body = conn.recv().body
    first = body[body.index(b"\0") + 5 :].decode()
    nonce = first.split("r=", 1)[1]
    salt, iterations = base64.b64encode(b"0123456789abcdef").decode(), "4096"
    replies = {
        "wrong-nonce": f"r=AAAA{nonce[4:]}BBBB,s={salt},i={iterations}",
        "same-nonce": f"r={nonce},s={salt},i={iterations}",
        "no-nonce": f"s={salt},i={iterations}",
        "no-salt": f"r={nonce}x,i={iterations}",
        "bad-salt": f"r={nonce}x,s=!!!,i={iterations}",
        "no-iterations": f"r={nonce}x,s={salt}",
        "zero-iterations": f"r={nonce}x,s={salt},i=0",
        "bad-iterations": f"r={nonce}x,s={salt},i=4096abc",
        "huge-iterations": f"r={nonce}x,s={salt},i=99999999999999",
        "endless-iterations": f"r={nonce}x,s={salt},i=2147483647",
        "long-nonce": f"r={nonce}{'x' * 100000},s={salt},i={iterations}",
        "long-salt": f"r={nonce}x,s={base64.b64encode(b's' * 50000).decode()},i={iterations}",
        "extension": f"m=ext,r={nonce}x,s={salt},i={iterations}",
        "empty": "",
        "nul": f"r={nonce}\0x,s={salt},i={iterations}",
    }
    reply = replies.get(mischief, f"r={nonce}x,s={salt},i={iterations}")
    conn.send(wire.pack("R", struct.pack("!i", 11) + reply.encode()))
    conn.recv()
    finals = {
        "wrong-signature": b"v=" + base64.b64encode(b"s" * 32),
        "short-signature": b"v=eA==",
        "no-signature": b"",
        "error-final": b"e=other-error",
        "garbage-final": b"\xff" * 300,
        "no-final": None,
    }
    if finals.get(mischief, b"v=") is not None:
        conn.send(wire.pack("R", struct.pack("!i", 12) + finals.get(mischief, b"v=")))
    conn.greet()


MISCHIEF = [
    "wrong-nonce",
    "same-nonce",
    "no-nonce",
    "no-salt",
    "bad-salt",
    "no-iterations",
    "zero-iterations",
    "bad-iterations",
    "huge-iterations",
    "endless-iterations",
    "long-nonce",
    "long-salt",
    "extension",
    "empty",
    "nul",
    "wrong-signature",
    "short-signature",
    "no-signature",
    "error-final",
    "garbage-final",
    "no-final",
]


@pytest.mark.newer
@pytest.mark.parametrize("mischief", MISCHIEF)
def test_server_that_cheats_in_scram(make_pooler, cluster, fake_server, mischief):
    """Whatever is wrong: no login with it, and nothing else stands still meanwhile."""
    server = fake_server(lambda conn, params: scram_server(conn, mischief))
    timeout = 10 if mischief.endswith("-signature") else 2
    p = make_pooler(
        {"app": cluster.dsn(), "bad": server.dsn(user="u", password="x")},
        settings={"client_login_timeout": timeout, "server_connect_timeout": timeout, "server_login_retry": 1},
    )
    victim = p.raw(15)
    victim.start("app", "bad")
    assert p.login().value("select 'others go on'") == "others go on"
    error = victim.expect_close().error
    assert error is not None and error.severity == "FATAL"
    if mischief.endswith("-signature"):
        assert error.text in (
            "server login failed: invalid server signature",
            "server login failed: failed to verify server signature",
        )
    p.wait_pool("bad", "u", sv_active=0, sv_idle=0)


LATE_GARBAGE = {
    "random": b"\xfe" * 300,
    "unknown-type": wire.pack("q", b"hello"),
    "zero-length": b"D\0\0\0\0",
    "negative-length": b"T\xff\xff\xff\xfb",
    "error-empty": wire.pack("E", b""),
    "bad-parameter": wire.pack("S", b"no end"),
    "bad-status": wire.pack("Z", b"?"),
    "no-status": wire.pack("Z", b""),
    "auth-again": wire.pack("R", struct.pack("!i", 3)),
    "two-ready": wire.answer("x") + wire.pack("Z", b"I"),
}


@pytest.mark.parametrize("name", LATE_GARBAGE)
def test_server_that_talks_nonsense_at_work(make_pooler, cluster, fake_server, name):
    """The client gets well-formed messages or a close; no one else gets anything of it."""

    def handler(conn, params):
        wire.serve_queries(conn, lambda sql: LATE_GARBAGE[name] if sql == "bad" else wire.answer(sql))

    server = fake_server(handler)
    p = make_pooler(
        {"app": cluster.dsn(), "bad": server.dsn(pool_size=1)},
        settings={"pool_mode": "transaction", "query_timeout": 3},
    )
    good, c, other = p.login(), p.login("app", "bad"), p.login("app", "bad")
    good.query("select 1")
    c.send(wire.query("bad"))
    if name != "two-ready":
        c.sock.settimeout(10)
        try:
            while c.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
    else:
        assert c.read_ready().rows == [["x"]]
    for n in range(3):
        assert other.query(f"mine {n}").rows == [[f"mine {n}"]]
    assert good.query("select 1").rows == [["1"]]


@pytest.mark.newer
def test_server_parameter_flood(make_pooler, cluster, fake_server):
    """A server may report any number of parameters with any text."""

    def handler(conn, params):
        conn.greet({f"param_{n}": "v" * 100 for n in range(300)})
        conn.recv()
        conn.send(
            *[wire.pack("S", wire.cstr(f"other_{n}") + wire.cstr("w" * 500)) for n in range(300)], wire.answer("done")
        )
        conn.recv()

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction"})
    c = p.login()
    assert c.params["param_299"] == "v" * 100
    assert c.query("x").rows == [["done"]]


# --- messages that end in the middle


def read_all(conn):
    """Every byte until the close."""
    data = b""
    while True:
        try:
            chunk = conn.sock.recv(65536)
        except ConnectionResetError:
            return data
        if not chunk:
            return data
        data += chunk


@pytest.mark.newer
@pytest.mark.parametrize("how", ["server-closes", "query-timeout"])
def test_nothing_is_put_into_the_middle_of_a_message(make_pooler, fake_server, how):
    """An error of ours inside a half-sent row would be read as part of that row."""
    whole = wire.row_description("v") + wire.data_row("x" * 100_000)
    half = whole[: len(whole) // 2]

    def handler(conn, params):
        conn.greet()
        conn.recv()
        conn.send(half)
        if how == "query-timeout":
            conn.sock.settimeout(8)
            conn.sock.recv(1)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "query_timeout": 1})
    c = p.login()
    c.send(wire.query("x"))
    got = read_all(c)
    assert half.startswith(got), f"{got[len(half):][:200]!r} came behind the half of a row"


@pytest.mark.parametrize("sent", [5, 6, 50, 5000, 70_000])
def test_client_dies_in_the_middle_of_a_message(make_pooler, sent):
    """What the server got of it must not become part of the next client's first message."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    for _ in range(3):
        c = p.login()
        c.query("select 1")
        c.send(wire.query("select '" + "x" * 100_000 + "'")[:sent])
        c.close()
        other = p.login()
        for n in range(3):
            assert other.query(f"select {n}").rows == [[str(n)]]
        other.terminate()


@pytest.mark.newer
def test_nonsense_on_the_console(make_pooler):
    p = make_pooler()
    good = p.console()
    for bad in (
        wire.pack("Q", b"SHOW POOLS"),
        wire.pack("Q", b""),
        wire.pack("Q", b"SHOW POOLS\0SHOW POOLS\0"),
        wire.pack("Q", b"\xff" * 3000 + b"\0"),
        wire.pack("Q", b'PAUSE "' + b'""' * 2000 + b"\0"),
        wire.pack("\xfe", b"x"),
        b"Q\0\0\0\0",
        b"Q\xff\xff\xff\xff",
        b"Q\x7f\xff\xff\xff",
        os.urandom(2000),
    ):
        c = p.login("admin", "pgbouncer")
        c.send(bad)
        end_input(c)
        read_all(c)
        assert good.show("version"), bad[:50]
    assert p.login().value("select 1") == "1"
