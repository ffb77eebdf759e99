"""
The server's side of SCRAM-SHA-256 in single steps, so that a test can put something else in the place of any of them.

    request --> client-first --> first --> client-final --> final --> AuthenticationOk
"""
import base64
import hashlib
import hmac
import struct

from . import wire

SALT = b"0123456789abcdef"


def b64(data):
    return base64.b64encode(data).decode()


def request(code, data=b""):
    """An Authentication message."""
    return wire.pack("R", struct.pack("!I", code) + data)


OK = request(0)


class ScramServer:
    """
    `end_point` is the hash of the certificate, where the mechanism with channel binding is offered. What the client said
    is kept in mechanism, gs2, bare and channel.
    """

    def __init__(self, conn, password="x", iterations=4096, end_point=None):
        self.conn, self.iterations, self.end_point = conn, iterations, end_point
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, iterations)
        self.client_key = hmac.digest(salted, b"Client Key", "sha256")
        self.server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.mechanism = self.gs2 = self.bare = self.nonce = self.server_first = self.channel = None

    def request(self):
        names = [b"SCRAM-SHA-256-PLUS"] if self.end_point else []
        return request(10, b"".join(n + b"\0" for n in names + [b"SCRAM-SHA-256"]) + b"\0")

    def read_first(self):
        body = self.conn.recv().body
        mechanism, rest = body.split(b"\0", 1)
        self.mechanism, first = mechanism.decode(), rest[4:].decode()
        flag, identity, self.bare = first.split(",", 2)
        self.gs2 = f"{flag},{identity},"
        self.nonce = self.bare.split("r=", 1)[1]

    def first(self, text=None):
        """server-first, or another text in its place, in which {nonce} is the client's."""
        whole = text or "r={nonce}theirs,s=" + b64(SALT) + f",i={self.iterations}"
        self.server_first = whole.replace("{nonce}", self.nonce)
        return request(11, self.server_first.encode("latin-1"))

    def read_final(self):
        """True when the proof is right."""
        text = self.conn.recv().body.decode()
        self.without_proof, proof = text.rsplit(",p=", 1)
        self.channel = base64.b64decode(self.without_proof.split(",")[0][2:])
        self.message = f"{self.bare},{self.server_first},{self.without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(self.client_key).digest(), self.message, "sha256")
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature))
        return key == self.client_key

    def signature(self):
        return hmac.digest(self.server_key, self.message, "sha256")

    def final(self):
        return request(12, b"v=" + base64.b64encode(self.signature()))


def serve(conn, **kwargs):
    """A whole honest login and then queries."""
    s = ScramServer(conn, **kwargs)
    conn.send(s.request())
    s.read_first()
    conn.send(s.first())
    if not s.read_final():
        conn.send(wire.pack("E", wire.error_body(code="28P01", text="wrong proof")))
        return
    conn.send(s.final())
    wire.serve_queries(conn)
