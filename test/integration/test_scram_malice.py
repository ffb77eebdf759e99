"""
Malicious clients and servers in SCRAM: at every step something else than what belongs there. The connection is closed,
the log says why, the pooler lives, and others are served.
"""
import struct

import pytest
from harness import scram, wire
from harness.scram import OK, SALT, ScramServer, b64, request

CUT_SALT = b64(SALT)[:-1]
SERVER_ERROR = "failed to answer authreq"
UNVERIFIED = "server login failed: failed to verify server signature"
FORGED = "server login failed: invalid server signature"
NO_MECHANISM = "server login failed: none of the server's SASL authentication mechanisms are supported"
MALFORMED = "malformed SCRAM message of the server"
UNEXPECTED = "unexpected authentication request"


def first(text):
    """Another server-first."""
    return lambda s: s.first(text)


def fixed(message):
    return lambda s: message


# step -> name -> (what is sent instead, the error of the client that waits, the line in the log)
SERVERS = {
    "request": {
        "no mechanism": (fixed(request(10, b"\0")), NO_MECHANISM, NO_MECHANISM),
        "unknown mechanism": (fixed(request(10, b"SCRAM-SHA-1\0\0")), NO_MECHANISM, NO_MECHANISM),
        "binding alone": (fixed(request(10, b"SCRAM-SHA-256-PLUS\0\0")), NO_MECHANISM, NO_MECHANISM),
        "GSSAPI": (fixed(request(7)), SERVER_ERROR, "authentication method of the server is not supported"),
        "Kerberos": (fixed(request(2)), SERVER_ERROR, "authentication method of the server is not supported"),
        "unknown request": (
            fixed(request(0xFFFFFFFF)),
            SERVER_ERROR,
            "authentication method of the server is not supported",
        ),
        "server-first at once": (
            fixed(request(11, b"r=x,s=eA==,i=1")),
            SERVER_ERROR,
            "authentication method of the server is not supported",
        ),
        "server-final at once": (
            fixed(request(12, b"v=eA==")),
            SERVER_ERROR,
            "authentication method of the server is not supported",
        ),
    },
    "first": {
        "nonce of somebody else": (
            first("r=AAAAAAAAAAAAAAAAAAAAAAAAtheirs,s=QQ==,i=4096"),
            SERVER_ERROR,
            "nonce of the server does not begin with ours",
        ),
        "nonce unchanged": (
            first("r={nonce},s=QQ==,i=4096"),
            SERVER_ERROR,
            "nonce of the server does not begin with ours",
        ),
        "nonce with a blank": (
            first("r={nonce} x,s=QQ==,i=4096"),
            SERVER_ERROR,
            "nonce of the server does not begin with ours",
        ),
        "nonce that is not ASCII": (
            first("r={nonce}\xe4,s=QQ==,i=4096"),
            SERVER_ERROR,
            "nonce of the server does not begin with ours",
        ),
        "empty nonce": (first("r=,s=QQ==,i=4096"), SERVER_ERROR, "nonce of the server does not begin with ours"),
        "long nonce": (first("r={nonce}" + "x" * 5000 + ",s=QQ==,i=4096"), SERVER_ERROR, MALFORMED),
        "nonce of 30000 bytes": (first("r={nonce}" + "x" * 30000 + ",s=QQ==,i=4096"), SERVER_ERROR, MALFORMED),
        "no nonce": (first("s=QQ==,i=4096"), SERVER_ERROR, MALFORMED),
        "no salt": (first("r={nonce}x,i=4096"), SERVER_ERROR, MALFORMED),
        "empty salt": (first("r={nonce}x,s=,i=4096"), SERVER_ERROR, MALFORMED),
        "salt that is cut": (first("r={nonce}x,s=" + CUT_SALT + ",i=4096"), SERVER_ERROR, MALFORMED),
        "salt that is no base64": (first("r={nonce}x,s=Q!==,i=4096"), SERVER_ERROR, MALFORMED),
        "salt with bits to spare": (first("r={nonce}x,s=QR==,i=4096"), SERVER_ERROR, MALFORMED),
        "salt with a line break": (first("r={nonce}x,s=QQ==\n,i=4096"), SERVER_ERROR, MALFORMED),
        "long salt": (first("r={nonce}x,s=" + "QUFB" * 400 + ",i=4096"), SERVER_ERROR, MALFORMED),
        "no count": (first("r={nonce}x,s=QQ=="), SERVER_ERROR, MALFORMED),
        "count of 0": (first("r={nonce}x,s=QQ==,i=0"), SERVER_ERROR, MALFORMED),
        "negative count": (first("r={nonce}x,s=QQ==,i=-1"), SERVER_ERROR, MALFORMED),
        "count with text": (first("r={nonce}x,s=QQ==,i=4096x"), SERVER_ERROR, MALFORMED),
        "count of 20 digits": (first("r={nonce}x,s=QQ==,i=18446744073709551617"), SERVER_ERROR, MALFORMED),
        "count beyond 32 bits": (first("r={nonce}x,s=QQ==,i=4294967297"), SERVER_ERROR, MALFORMED),
        "count that takes hours": (first("r={nonce}x,s=QQ==,i=2147483647"), SERVER_ERROR, "too many SCRAM iterations"),
        "mandatory extension": (first("m=x,r={nonce}x,s=QQ==,i=4096"), SERVER_ERROR, MALFORMED),
        "attribute behind": (first("r={nonce}x,s=QQ==,i=4096,x=1"), SERVER_ERROR, MALFORMED),
        "comma behind": (first("r={nonce}x,s=QQ==,i=4096,"), SERVER_ERROR, MALFORMED),
        "other order": (first("s=QQ==,r={nonce}x,i=4096"), SERVER_ERROR, MALFORMED),
        "NUL inside": (first("r={nonce}\0x,s=QQ==,i=4096"), SERVER_ERROR, MALFORMED),
        "NUL behind": (first("r={nonce}x,s=QQ==,i=4096\0"), SERVER_ERROR, MALFORMED),
        "nothing": (fixed(request(11)), SERVER_ERROR, MALFORMED),
        "error of SCRAM": (first("e=other-error"), SERVER_ERROR, MALFORMED),
        "early Ok": (fixed(OK), UNVERIFIED, "accepted the login before the SCRAM exchange was complete"),
        "password, please": (fixed(request(3)), SERVER_ERROR, UNEXPECTED),
        "md5, please": (fixed(request(5, b"salt")), SERVER_ERROR, UNEXPECTED),
        "SASL again": (lambda s: s.request(), SERVER_ERROR, UNEXPECTED),
        "server-final instead": (fixed(request(12, b"v=eA==")), SERVER_ERROR, UNEXPECTED),
    },
    "final": {
        "wrong signature": (fixed(request(12, b"v=" + b64(b"s" * 32).encode())), FORGED, FORGED),
        "signature of another exchange": (
            lambda s: request(12, b"v=" + b64(bytes([s.signature()[0] ^ 1]) + s.signature()[1:]).encode()),
            FORGED,
            FORGED,
        ),
        "short signature": (fixed(request(12, b"v=eA==")), UNVERIFIED, MALFORMED),
        "long signature": (fixed(request(12, b"v=" + b64(b"s" * 33).encode())), UNVERIFIED, MALFORMED),
        "signature that is cut": (
            lambda s: request(12, b"v=" + b64(s.signature()).encode()[:-1]),
            UNVERIFIED,
            MALFORMED,
        ),
        "attribute behind": (
            lambda s: request(12, b"v=" + b64(s.signature()).encode() + b",x=1"),
            UNVERIFIED,
            MALFORMED,
        ),
        "byte behind": (lambda s: request(12, b"v=" + b64(s.signature()).encode() + b"\0"), UNVERIFIED, MALFORMED),
        "no signature": (fixed(request(12)), UNVERIFIED, MALFORMED),
        "error of SCRAM": (fixed(request(12, b"e=invalid-proof")), UNVERIFIED, MALFORMED),
        "5000 bytes": (fixed(request(12, b"v=" + b"A" * 5000)), UNVERIFIED, MALFORMED),
        "Ok without a signature": (fixed(OK), UNVERIFIED, "accepted the login before the SCRAM exchange was complete"),
        "server-first again": (lambda s: s.first(), SERVER_ERROR, UNEXPECTED),
        "password, please": (fixed(request(3)), SERVER_ERROR, UNEXPECTED),
    },
    "ok": {
        "signature again": (lambda s: s.final(), SERVER_ERROR, UNEXPECTED),
        "password, please": (fixed(request(3)), SERVER_ERROR, UNEXPECTED),
        "SASL again": (lambda s: s.request(), SERVER_ERROR, UNEXPECTED),
    },
}

STEPS = ["request", "first", "final", "ok"]


def play(conn, bad_step, message):
    """
    An honest login but for one step; then the server behaves as if all had been well. Without a message it closes the
    connection there.
    """
    s = ScramServer(conn)
    honest = {"request": s.request, "first": s.first, "final": s.final, "ok": lambda: OK}
    reads = {"request": s.read_first, "first": s.read_final, "final": lambda: None, "ok": lambda: None}
    for step in STEPS:
        if step == bad_step and message is None:
            return
        if step == bad_step:
            conn.send(message(s))
            conn.greet()
            try:
                while conn.recv().type != "Q":
                    pass
            except wire.Closed:
                return
            raise AssertionError(f"{bad_step}: the pooler has logged in and sends queries")
        conn.send(honest[step]())
        reads[step]()


@pytest.fixture
def malice(make_pooler, cluster, fake_server):
    """A pooler before an honest server, `app`, and a fake one; run(name, handler) is a login to the latter's database."""
    handlers = {}
    server = fake_server(lambda conn, params: handlers[params["database"]](conn))
    p = make_pooler(
        {"app": cluster.dsn(), "*": server.dsn(user="u", password="x")},
        settings={"server_login_retry": 30, "client_login_timeout": 20},
    )
    bystander = p.login()
    bystander.query("begin")

    def run(name, handler):
        """(the client's error, the log meanwhile)"""
        database = f"d{len(handlers)}"
        handlers[database] = handler
        mark = p.log_mark()
        e = p.login_error("app", database)
        assert e.severity == "FATAL", name
        return e, mark

    run.pooler = p
    yield run
    assert bystander.value("select 'alive'") == "alive"
    assert p.login().value("select 'served'") == "served"
    assert [r for r in p.show("servers") if r["user"] == "u"] == []


@pytest.mark.ours
@pytest.mark.parametrize("step", STEPS)
def test_malicious_server_at_each_step(malice, step):
    for name, (message, error, line) in SERVERS[step].items():
        e, mark = malice(name, lambda conn: play(conn, step, message))
        assert e.text == error, name
        malice.pooler.wait_for_log(f"ERROR .* {error}" + ("" if line == error else f": .*{line}"), mark)
        malice.pooler.wait_for_log("closing because: failed to answer authreq", mark)


@pytest.mark.ours
def test_server_that_closes_at_each_step(malice):
    """Without a word: the client is told when its time is over."""
    malice.pooler.admin("set client_login_timeout = 1")
    for step in STEPS:
        e, mark = malice(step, lambda conn: play(conn, step, None))
        assert e.text == "client_login_timeout (server down)", step
        malice.pooler.wait_for_log("closing because: server conn crashed", mark)


MALFORMED_REQUESTS = {
    "list without an end": request(10, b"SCRAM-SHA-256\0"),
    "name without an end": request(10, b"SCRAM-SHA-256"),
    "bytes behind the list": request(10, b"SCRAM-SHA-256\0\0x"),
    "no list": request(10),
    "short salt of md5": request(5, b"abc"),
    "long salt of md5": request(5, b"abcde"),
    "bytes behind the request": request(3, b"x"),
    "bytes behind Ok": request(0, b"x"),
    "half a code": wire.pack("R", b"\0\0"),
    "no code": wire.pack("R"),
    "nonce of 40000 bytes": request(11, b"r=" + b"x" * 40000),
}


@pytest.mark.ours
def test_malformed_requests(make_pooler, cluster, fake_server):
    """Closed, and who waits is told at once."""
    server = fake_server(lambda conn, params: (conn.send(MALFORMED_REQUESTS[params["database"]]), conn.greet()))
    p = make_pooler(
        {"app": cluster.dsn(), "*": server.dsn(user="u", password="x")},
        settings={"server_login_retry": 30, "client_login_timeout": 600},
    )
    clients = {name: p.raw() for name in MALFORMED_REQUESTS}
    for name, c in clients.items():
        c.start("app", name)
    for name in MALFORMED_REQUESTS:
        p.wait_for_log(f"{name}/u@.* closing because: failed to answer authreq")
    for name, c in clients.items():
        assert c.expect_error_close().text == "failed to answer authreq", name
    assert p.login().value("select 'served'") == "served"


FIELDS = {"S": b"SFATAL\0", "V": b"VFATAL\0", "C": b"C28P01\0", "M": b"Mno entry\0"}


@pytest.mark.ours
@pytest.mark.parametrize("step", STEPS)
def test_errors_of_a_server_without_fields(malice, step):
    """Each field left out in turn, and all: the client has an error with all of them in any case."""
    for missing in [*FIELDS, "SV", "CM", "SVCM", ""]:
        body = b"".join(text for key, text in FIELDS.items() if key not in missing) + b"\0"
        e, mark = malice(missing, lambda conn: play(conn, step, lambda s: wire.pack("E", body)))
        assert e.code == ("28P01" if "C" not in missing else "08P01"), missing
        assert e.text == ("no entry" if "M" not in missing else "server refused the login without a reason"), missing
        malice.pooler.wait_for_log(f"server login failed: FATAL {e.text}", mark)


@pytest.mark.ours
def test_honest_server_passes_the_same_test(make_pooler, fake_server):
    """What the malicious ones differ from is a login that succeeds."""
    server = fake_server(lambda conn, params: scram.serve(conn))
    p = make_pooler({"app": server.dsn(user="u", password="x")})
    assert p.login().value("select 1") == "ok"


@pytest.mark.newer
def test_password_is_not_given_to_a_server_that_asks_again(make_pooler, fake_server):
    """After a SCRAM exchange that proves nothing, a request for the password in clear text."""
    said = []

    def handler(conn, params):
        s = ScramServer(conn)
        conn.send(s.request())
        s.read_first()
        conn.send(request(3))
        try:
            while True:
                said.append(conn.recv().body)
        except wire.Closed:
            pass

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn(user="u", password="hush")}, settings={"server_login_retry": 30})
    assert p.login_error().severity == "FATAL"
    assert b"hush" not in b"".join(said)


@pytest.mark.ours
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_server_that_offers_binding_in_plain_text(make_pooler, fake_server, profile):
    """It believes that it has TLS, so somebody in between ends it: a tunnel on purpose, or not."""
    seen = []

    def handler(conn, params):
        s = ScramServer(conn, end_point=b"hash")
        conn.send(s.request())
        s.read_first()
        seen.append((s.mechanism, s.gs2))
        conn.send(s.first())
        assert s.read_final()
        conn.send(s.final())
        wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn(user="u", password="x")}, profile=profile)
    if profile == "pgbouncer":
        assert p.login().value("select 1") == "ok"
        assert seen == [("SCRAM-SHA-256", "n,,")]
    else:
        assert p.login_error().text == "failed to answer authreq"
        p.wait_for_log("SCRAM-SHA-256-PLUS without TLS")
        assert seen == []


# --- malicious clients

NONCE = "abcdefgh"


def initial(data, mechanism=b"SCRAM-SHA-256", length=None):
    data = data if isinstance(data, bytes) else data.encode("latin-1")
    return wire.cstr(mechanism) + struct.pack("!i", len(data) if length is None else length) + data


def final(text):
    """A client-final, in which {nonce} is what the pooler said; the proof is one for nothing."""
    return lambda nonce: text.replace("{nonce}", nonce).encode("latin-1")


PROOF = b64(b"p" * 32)
INITIAL = "malformed SASLInitialResponse"
MESSAGE = "malformed SCRAM message"

# name -> (SASLInitialResponse, what the log says)
FIRSTS = {
    "nothing": (b"", INITIAL),
    "mechanism without an end": (b"SCRAM-SHA-256", INITIAL),
    "mechanism alone": (b"SCRAM-SHA-256\0", INITIAL),
    "half a length": (b"SCRAM-SHA-256\0\0\0", INITIAL),
    "length of -1": (b"SCRAM-SHA-256\0\xff\xff\xff\xff", INITIAL),
    "length that is too small": (initial("n,,n=,r=" + NONCE, length=5), INITIAL),
    "length that is too large": (initial("n,,n=,r=" + NONCE, length=500), INITIAL),
    "length of 2 GB": (initial("n,,n=,r=" + NONCE, length=0x7FFFFFFF), INITIAL),
    "length that is negative": (initial("n,,n=,r=" + NONCE, length=-0x80000000), INITIAL),
    "empty": (initial(""), MESSAGE),
    "header alone": (initial("n,,"), MESSAGE),
    "unknown flag": (initial("x,,n=,r=" + NONCE), MESSAGE),
    "identity of somebody else": (initial("n,a=admin,n=,r=" + NONCE), MESSAGE),
    "mandatory extension": (initial("n,,m=x,n=,r=" + NONCE), MESSAGE),
    "no name": (initial("n,,r=" + NONCE), MESSAGE),
    "no nonce": (initial("n,,n="), MESSAGE),
    "empty nonce": (initial("n,,n=,r="), MESSAGE),
    "nonce with a blank": (initial("n,,n=,r=a b"), MESSAGE),
    "nonce that is not ASCII": (initial("n,,n=,r=\xe4\xf6"), MESSAGE),
    "NUL inside": (initial("n,,n=,r=a\0b"), MESSAGE),
    "comma behind": (initial("n,,n=,r=abc,"), MESSAGE),
    "long nonce": (initial("n,,n=,r=" + "x" * 1017), MESSAGE),
    "nonce of 60000 bytes": (initial("n,,n=,r=" + "x" * 60000), INITIAL),
    "binding without TLS": (initial("p=tls-server-end-point,,n=,r=" + NONCE), "requires channel binding"),
    "unknown binding": (initial("p=tls-unique,,n=,r=" + NONCE), "requires an unknown channel binding"),
}

# name -> (SASLResponse, what the log says)
FINALS = {
    "nothing": (final(""), MESSAGE),
    "nonce of somebody else": (final(f"c=biws,r=zzzzzzzz,p={PROOF}"), "nonce does not match"),
    "nonce with a byte more": (final(f"c=biws,r={{nonce}}x,p={PROOF}"), "nonce does not match"),
    "our half of the nonce only": (final(f"c=biws,r={NONCE},p={PROOF}"), "nonce does not match"),
    "long nonce": (final(f"c=biws,r={'x' * 900},p={PROOF}"), "nonce does not match"),
    "no binding": (final(f"r={{nonce}},p={PROOF}"), MESSAGE),
    "another binding": (final(f"c=eSws,r={{nonce}},p={PROOF}"), "channel binding does not match"),
    "binding that is no base64": (final(f"c=!!!!,r={{nonce}},p={PROOF}"), "channel binding does not match"),
    "no nonce": (final(f"c=biws,p={PROOF}"), MESSAGE),
    "no proof": (final("c=biws,r={nonce}"), MESSAGE),
    "empty proof": (final("c=biws,r={nonce},p="), MESSAGE),
    "short proof": (final("c=biws,r={nonce},p=eA=="), MESSAGE),
    "long proof": (final(f"c=biws,r={{nonce}},p={b64(b'p' * 33)}"), MESSAGE),
    "proof that is no base64": (final("c=biws,r={nonce},p=" + "!" * 44), MESSAGE),
    "attribute behind the proof": (final(f"c=biws,r={{nonce}},p={PROOF},x=1"), MESSAGE),
    "byte behind the proof": (final(f"c=biws,r={{nonce}},p={PROOF}\0"), MESSAGE),
    "60000 bytes": (final("c=biws,r={nonce}," + "x=1," * 15000), MESSAGE),
    "commas": (final("," * 1000), MESSAGE),
    "wrong proof": (final(f"c=biws,r={{nonce}},p={PROOF}"), "wrong password|user is not known"),
}


@pytest.fixture
def scram_pooler(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(user="app")},
        settings={"auth_type": "scram-sha-256"},
        secrets={"u": wire.scram_secret("secret"), "admin": "adminpw"},
    )
    bystander = p.login("u", password="secret")
    bystander.query("begin")
    yield p
    assert bystander.value("select 'alive'") == "alive"
    assert p.login("u", password="secret").value("select 'served'") == "served"


def refused(p, name, user, talk, line):
    mark = p.log_mark()
    with wire.Conn.tcp(p.port) as c:
        c.start(user)
        assert c.recv().body[4:] == b"SCRAM-SHA-256\0\0"
        talk(c)
        e = c.expect_error_close()
    assert (e.severity, e.text) == ("FATAL", "SASL authentication failed"), (name, user)
    p.wait_for_log(f"SASL authentication failed: .*({line})", mark)
    p.wait_for_log("closing because: SASL authentication failed", mark)


@pytest.mark.ours
@pytest.mark.parametrize("user", ["u", "nobody"])
def test_malicious_client_first(scram_pooler, user):
    for name, (payload, line) in FIRSTS.items():
        refused(scram_pooler, name, user, lambda c: c.send(wire.pack("p", payload)), line)


@pytest.mark.ours
@pytest.mark.parametrize("user", ["u", "nobody"])
def test_malicious_client_final(scram_pooler, user):
    for name, (message, line) in FINALS.items():

        def talk(c):
            c.send(wire.pack("p", initial("n,,n=,r=" + NONCE)))
            nonce = c.recv().body[4:].decode().split(",")[0][2:]
            assert nonce.startswith(NONCE) and len(nonce) > len(NONCE)
            c.send(wire.pack("p", message(nonce)))

        refused(scram_pooler, name, user, talk, line)


def test_client_that_sends_something_else_in_the_middle(scram_pooler):
    """A query, a startup packet, a goodbye in the place of the proof."""
    for message in (wire.query("select 1"), wire.SYNC, wire.pack("d", b"x"), wire.startup_packet({"user": "u"})):
        with wire.Conn.tcp(scram_pooler.port) as c:
            c.start("u")
            c.recv()
            c.send(wire.pack("p", initial("n,,n=,r=" + NONCE)))
            assert c.recv().type == "R"
            c.send(message)
            assert all(m.type == "E" for m in c.expect_close().messages)


def test_messages_in_advance_do_not_help(scram_pooler):
    """Both answers and a query in one segment: the proof cannot fit a nonce that was not known."""
    with wire.Conn.tcp(scram_pooler.port) as c:
        c.send(
            wire.startup_packet({"user": "u", "database": "app"}),
            wire.pack("p", initial("n,,n=,r=" + NONCE)),
            wire.pack("p", f"c=biws,r={NONCE},p={PROOF}".encode()),
            wire.query("select 1"),
        )
        messages = c.expect_close().messages
        assert [m.type for m in messages] == ["R", "R", "E"]
