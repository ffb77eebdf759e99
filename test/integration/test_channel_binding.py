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
from harness import wire
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
