"""
SCRAM-SHA-256-PLUS: logins that are bound to the TLS connection, with libpq and by hand, towards clients and servers; and
what becomes of one who ends the TLS in between.
"""
import base64
import hashlib
import hmac
import struct
import threading

import psycopg
import pytest
from harness import scram, wire
from harness.wire import PgError

pytestmark = pytest.mark.ours

PLUS, PLAIN = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"
END_POINT = "p=tls-server-end-point,,"
REFUSED = "SASL authentication failed"
SECRETS = {"u": "secret", "v": wire.scram_secret("secret"), "m": wire.md5_secret("m", "secret"), "admin": "adminpw"}


@pytest.fixture
def bound_pooler(make_pooler, cluster, pki):
    def make(auth_type="scram-sha-256", cert="server", mode="allow", **settings):
        return make_pooler(
            {"app": cluster.dsn(user="app")},
            settings={"auth_type": auth_type, **pki.client_settings(mode, cert), **settings},
            secrets=SECRETS,
        )

    return make


@pytest.mark.parametrize("cert", ["server", "server_rsa", "server_sha384", "server_chained"])
def test_libpq_requires_binding(bound_pooler, cert):
    p = bound_pooler(cert=cert)
    for user in ("u", "v"):
        for binding in ("require", "prefer", "disable"):
            c = p.connect(user=user, password="secret", sslmode="require", channel_binding=binding)
            assert c.execute("select 1").fetchone() == (1,)
    for user in ("u", "nobody"):
        with pytest.raises(psycopg.OperationalError, match=REFUSED):
            p.connect(user=user, password="wrong", sslmode="require", channel_binding="require")


def test_libpq_requires_binding_of_a_user_under_md5(bound_pooler):
    """auth_type md5 becomes SCRAM for a user with a verifier, with all that belongs to it."""
    p = bound_pooler("md5")
    assert p.connect(user="v", password="secret", sslmode="require", channel_binding="require")
    with pytest.raises(psycopg.OperationalError, match="channel binding required"):
        p.connect(user="u", password="secret", sslmode="require", channel_binding="require")


def test_libpq_requires_binding_without_tls(bound_pooler):
    p = bound_pooler()
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        p.connect(user="u", password="secret", sslmode="disable", channel_binding="require")
    assert p.connect(user="u", password="secret", sslmode="disable")


class Client(wire.ScramClient):
    """Says about channel binding what it is told to; `said` is what c= says, if not the truth."""

    def __init__(self, password, gs2, binding=b"", said=None):
        super().__init__(password, gs2)
        self.said = gs2.encode() + binding if said is None else said

    def final(self, server_first):
        truth, self.gs2 = self.gs2, self.said.decode("latin-1")
        got = dict(part.split("=", 1) for part in server_first.decode().split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(got["s"]), int(got["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c={base64.b64encode(self.said).decode()},r={got['r']}"
        message = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        self.gs2 = truth
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def attempt(c, user, mechanism, client, offered=(PLUS, PLAIN)):
    """Logs in by hand: "ok" or the text of the error."""
    c.start(user)
    m = c.recv()
    assert m.body[4:].split(b"\0")[:-2] == [o.encode() for o in offered]
    first = client.first()
    c.send(wire.pack("p", wire.cstr(mechanism) + struct.pack("!i", len(first)) + first))
    m = c.recv()
    if m.type == "E":
        c.expect_close()
        return PgError(wire.fields_of(m.body)).text
    c.send(wire.pack("p", client.final(m.body[4:])))
    m = c.recv()
    if m.type == "E":
        c.expect_close()
        return PgError(wire.fields_of(m.body)).text
    client.verify(m.body[4:])
    c.finish_login(user, None)
    assert c.value("select 1") == "1"
    return "ok"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_what_clients_say_about_binding(bound_pooler, pki, version):
    p = bound_pooler()
    truth = pki.end_point_hash("server")
    other = pki.end_point_hash("server2")
    context = pki.client_context(version=version)
    no_offer = "client selected an invalid SASL authentication mechanism"
    rows = [
        # mechanism, flag, binding, c= instead, what comes of it, what the log says
        (PLUS, END_POINT, truth, None, "ok", None),
        (PLAIN, "n,,", b"", None, "ok", None),
        (PLAIN, "y,,", b"", None, REFUSED, "client has not seen the offer of SCRAM-SHA-256-PLUS"),
        (PLUS, "y,,", b"", None, REFUSED, "client has not seen the offer of SCRAM-SHA-256-PLUS"),
        (PLUS, "n,,", b"", None, REFUSED, "client does not bind to the channel as it has chosen to"),
        (PLAIN, END_POINT, truth, None, REFUSED, "client binds to the channel without SCRAM-SHA-256-PLUS"),
        (PLUS, "p=tls-unique,,", truth, None, REFUSED, "client requires an unknown channel binding"),
        (PLUS, "p=tls-exporter,,", truth, None, REFUSED, "client requires an unknown channel binding"),
        (PLUS, END_POINT, other, None, REFUSED, "channel binding does not match"),
        (PLUS, END_POINT, truth[:-1], None, REFUSED, "channel binding does not match"),
        (PLUS, END_POINT, truth + b"\0", None, REFUSED, "channel binding does not match"),
        (PLUS, END_POINT, b"", None, REFUSED, "channel binding does not match"),
        (PLUS, END_POINT, b"", b"n,,", REFUSED, "channel binding does not match"),
        (PLUS, END_POINT, b"", b"y,," + truth, REFUSED, "channel binding does not match"),
        (PLAIN, "n,,", b"", b"y,,", REFUSED, "channel binding does not match"),
        (PLAIN, "n,,", b"", b"n,," + truth, REFUSED, "channel binding does not match"),
        ("SCRAM-SHA-1-PLUS", END_POINT, truth, None, no_offer, None),
    ]
    for mechanism, gs2, binding, said, outcome, line in rows:
        for user in ("u", "v") if outcome == "ok" else ("u", "nobody", "m"):
            mark = p.log_mark()
            with p.tls(context) as c:
                client = Client("secret", gs2, binding, said)
                assert attempt(c, user, mechanism, client) == outcome, (mechanism, gs2, binding, said, user)
            if line:
                p.wait_for_log(f"SASL authentication failed: {line}", mark)


def test_no_binding_without_tls(bound_pooler, pki):
    """On a Unix socket and over plain TCP one mechanism is offered, and the other is refused, whoever asks."""
    p = bound_pooler()
    truth = pki.end_point_hash("server")
    for connect in (p.raw, p.raw_unix):
        for user in ("u", "nobody"):
            offered = (PLAIN,)
            bound = Client("secret", END_POINT, truth)
            assert attempt(connect(), user, PLAIN, bound, offered) == REFUSED
            error = attempt(connect(), user, PLUS, bound, offered)
            assert error == "client selected an invalid SASL authentication mechanism"
        for gs2 in ("n,,", "y,,"):
            assert attempt(connect(), "u", PLAIN, Client("secret", gs2), (PLAIN,)) == "ok"


def test_unknown_users_look_alike(bound_pooler, pki):
    """Message for message the same sizes, with binding and without."""
    p = bound_pooler()
    context, truth = pki.client_context(), pki.end_point_hash("server")

    def transcript(user, mechanism, gs2, binding):
        seen, client = [], Client("wrong", gs2, binding)
        with p.tls(context) as c:
            c.start(user)
            seen.append(c.recv().body)
            first = client.first()
            c.send(wire.pack("p", wire.cstr(mechanism) + struct.pack("!i", len(first)) + first))
            m = c.recv()
            seen.append((m.type, len(m.body)))
            c.send(wire.pack("p", client.final(m.body[4:])))
            seen += [(m.type, m.body) for m in c.expect_close().messages]
        return seen

    for how in ((PLUS, END_POINT, truth), (PLAIN, "n,,", b"")):
        assert transcript("u", *how) == transcript("v", *how) == transcript("m", *how) == transcript("ghost", *how)


class Between:
    """Ends the TLS of a client with a certificate of its own and speaks TLS of its own to the pooler."""

    def __init__(self, fake_server, pki, pooler, drop_offer=False):
        self.pooler, self.context, self.drop_offer = pooler, pki.client_context(), drop_offer
        server = fake_server(self.relay, tls=pki.server_context("server2"))
        self.port = server.port

    def relay(self, client, params):
        server = self.pooler.tls(self.context)
        server.send(wire.startup_packet(params))

        def up():
            try:
                while True:
                    m = client.recv()
                    server.send(wire.pack(m.type, m.body))
            except (wire.Closed, OSError):
                pass

        threading.Thread(target=up, daemon=True).start()
        try:
            while True:
                m = server.recv()
                body = m.body
                if self.drop_offer and m.type == "R" and body[:4] == struct.pack("!i", 10):
                    body = body.replace(PLUS.encode() + b"\0", b"")
                client.send(wire.pack(m.type, body))
        except (wire.Closed, OSError):
            pass


@pytest.mark.parametrize("drop_offer", [False, True])
def test_somebody_in_between(bound_pooler, fake_server, pki, drop_offer):
    """
    Who passes all messages on is found out by the binding, who takes the offer of a binding out by what the client says
    about it; only a client that cannot do it, or was told not to, gets through.
    """
    p = bound_pooler()
    between = Between(fake_server, pki, p, drop_offer)

    def connect(binding):
        dsn = f"host=127.0.0.1 port={between.port} user=u password=secret dbname=app sslmode=require connect_timeout=10"
        with psycopg.connect(f"{dsn} channel_binding={binding} gssencmode=disable") as c:
            return c.execute("select 1").fetchone()

    with pytest.raises(psycopg.OperationalError):
        connect("require")
    mark = p.log_mark()
    with pytest.raises(psycopg.OperationalError, match=REFUSED):
        connect("prefer")
    p.wait_for_log("has not seen the offer" if drop_offer else "channel binding does not match", mark)
    assert connect("disable") == (1,)


# --- towards servers


@pytest.mark.parametrize("cert", ["server", "server_rsa", "server_sha384", "server_chained"])
def test_server_that_offers_binding(make_pooler, fake_server, pki, cert):
    seen = []
    hash_ = pki.end_point_hash(cert)

    def handler(conn, params):
        s = scram.ScramServer(conn, end_point=hash_)
        conn.send(s.request())
        s.read_first()
        conn.send(s.first())
        assert s.read_final(), "the proof is right"
        seen.append((s.mechanism, s.gs2, s.channel))
        conn.send(s.final())
        wire.serve_queries(conn)

    server = fake_server(handler, tls=pki.server_context(cert))
    settings = pki.server_settings("require", ca=None)
    p = make_pooler({"app": server.dsn(user="u", password="x")}, settings=settings)
    assert p.login().value("select 1") == "ok"
    assert seen == [(PLUS, END_POINT, END_POINT.encode() + hash_)]


def test_server_that_does_not_offer_binding_is_told_that_we_could(make_pooler, fake_server, pki):
    """A server that did offer it would know from this that somebody has taken the offer out."""
    seen = []

    def handler(conn, params):
        s = scram.ScramServer(conn)
        conn.send(s.request())
        s.read_first()
        seen.append((s.mechanism, s.gs2))
        conn.send(s.first())
        assert s.read_final()
        assert s.channel == b"y,,"
        conn.send(s.final())
        wire.serve_queries(conn)

    server = fake_server(handler, tls=pki.server_context())
    p = make_pooler({"app": server.dsn(user="u", password="x")}, settings=pki.server_settings("require", ca=None))
    assert p.login().value("select 1") == "ok"
    assert seen == [(PLAIN, "y,,")]


@pytest.mark.parametrize("drop_offer", [False, True])
def test_somebody_between_the_pooler_and_postgresql(make_pooler, fake_server, pki, tls_cluster, drop_offer):
    """With server_tls_sslmode = require no certificate is checked, and yet nobody in between can log in as us."""

    def relay(conn, params):
        server = wire.Conn.tcp(tls_cluster.port).start_tls(pki.client_context())
        server.send(wire.startup_packet(params))
        try:
            while True:
                m = server.recv()
                body = m.body
                if drop_offer and m.type == "R" and body[:4] == struct.pack("!i", 10):
                    body = body.replace(PLUS.encode() + b"\0", b"")
                conn.send(wire.pack(m.type, body))
                if m.type == "R" and body[:4] in (struct.pack("!i", 10), struct.pack("!i", 11)):
                    answer = conn.recv()
                    server.send(wire.pack(answer.type, answer.body))
        finally:
            server.close()

    def pooler(port):
        return make_pooler(
            {"app": f"host=127.0.0.1 port={port} user=scramuser password=scrampw dbname=app"},
            settings={"server_login_retry": 30, **pki.server_settings("require", ca=None)},
        )

    between = fake_server(relay, tls=pki.server_context("server2"))
    e = pooler(between.port).login_error()
    assert "channel binding" in e.text, e
    straight = pooler(tls_cluster.port).login()
    assert straight.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == "t"


def test_keys_of_a_bound_login_are_bound_again(make_pooler, pki, tls_cluster):
    """libpq binds to the pooler's certificate, and the pooler, with the keys of that login, to PostgreSQL's."""
    stored = tls_cluster.value("select rolpassword from pg_authid where rolname = 'scramuser'")
    p = make_pooler(
        {"app": f"host=localhost port={tls_cluster.port} dbname=app"},
        settings={"auth_type": "scram-sha-256", **pki.client_settings(cert="server2"), **pki.server_settings()},
        secrets={"scramuser": stored},
    )
    c = p.connect(user="scramuser", password="scrampw", sslmode="require", channel_binding="require")
    assert c.execute("select current_user").fetchone() == ("scramuser",)


@pytest.mark.parametrize("step", ["signature", "early Ok", "password"])
def test_server_that_takes_the_binding_and_proves_nothing(make_pooler, fake_server, pki, step):
    """TLS and a binding do not replace its signature."""

    def handler(conn, params):
        s = scram.ScramServer(conn, end_point=pki.end_point_hash("server"))
        conn.send(s.request())
        s.read_first()
        conn.send(s.first())
        s.read_final()
        conn.send(
            {"signature": scram.request(12, b"v=" + base64.b64encode(b"s" * 32)), "early Ok": scram.OK}.get(
                step, scram.request(3)
            )
        )
        conn.greet()
        try:
            while True:
                assert b"hush" not in conn.recv().body
        except wire.Closed:
            pass

    server = fake_server(handler, tls=pki.server_context())
    settings = {"server_login_retry": 30, **pki.server_settings("require", ca=None)}
    p = make_pooler({"app": server.dsn(user="u", password="hush")}, settings=settings)
    assert p.login_error().text in (
        "server login failed: invalid server signature",
        "server login failed: failed to verify server signature",
        "failed to answer authreq",
    )
