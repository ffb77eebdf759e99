"""
A small codec of the PostgreSQL protocol over plain sockets, for both sides.

`Conn` is one connection, be it ours as a client or one that a `FakeServer` accepted. It hides nothing: a test may
send any bytes and sees every message with its type and body. What the drivers do for users is done by psycopg, not
here.
"""
import base64
import collections
import hashlib
import hmac
import os
import socket
import ssl
import struct
import threading
import time

from .tls import TlsSock

PROTO_3_0 = 0x00030000
CODE_CANCEL = 80877102
CODE_SSL = 80877103
CODE_GSSENC = 80877104

Msg = collections.namedtuple("Msg", "type body")


class Closed(AssertionError):
    """The other side closed the connection; what it said before that is in .messages."""

    def __init__(self, text, messages=()):
        super().__init__(text)
        self.messages = list(messages)


class PgError(Exception):
    """An ErrorResponse. `fields` maps the one-letter field codes to their texts."""

    def __init__(self, fields):
        self.fields = fields
        super().__init__(f"{fields.get('S')} {fields.get('C')} {fields.get('M')}")

    severity = property(lambda self: self.fields.get("S"))
    code = property(lambda self: self.fields.get("C"))
    text = property(lambda self: self.fields.get("M"))


def cstr(text):
    return (text if isinstance(text, bytes) else text.encode()) + b"\0"


def pack(mtype, body=b""):
    """A typed message."""
    return mtype.encode() + struct.pack("!i", len(body) + 4) + body


def startup_packet(params, version=PROTO_3_0):
    """`params` is a dict or a list of pairs; a list allows duplicates and odd orders."""
    pairs = params.items() if isinstance(params, dict) else params
    body = struct.pack("!i", version) + b"".join(cstr(k) + cstr(v) for k, v in pairs) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def query(sql):
    return pack("Q", cstr(sql))


def parse(name, sql, types=()):
    return pack(
        "P", cstr(name) + cstr(sql) + struct.pack("!h", len(types)) + b"".join(struct.pack("!i", t) for t in types)
    )


def bind(portal="", statement="", values=(), result_formats=()):
    body = cstr(portal) + cstr(statement) + struct.pack("!hh", 0, len(values))
    for v in values:
        data = None if v is None else str(v).encode()
        body += struct.pack("!i", -1) if data is None else struct.pack("!i", len(data)) + data
    return pack("B", body + struct.pack(f"!h{len(result_formats)}h", len(result_formats), *result_formats))


def describe(kind, name=""):
    return pack("D", kind.encode() + cstr(name))


def execute(portal="", limit=0):
    return pack("E", cstr(portal) + struct.pack("!i", limit))


def close(kind, name=""):
    return pack("C", kind.encode() + cstr(name))


SYNC = pack("S")
FLUSH = pack("H")
TERMINATE = pack("X")


def extended(sql, values=(), statement=""):
    """Parse, Bind, Describe and Execute without the Sync."""
    return parse(statement, sql) + bind("", statement, values) + describe("P") + execute()


def fields_of(body):
    """The fields of an ErrorResponse or NoticeResponse."""
    out = {}
    for part in body.split(b"\0"):
        if part:
            out[chr(part[0])] = part[1:].decode(errors="replace")
    return out


def columns_of(body):
    """(name, type oid) of each column in a RowDescription."""
    (count,), pos, out = struct.unpack("!h", body[:2]), 2, []
    for _ in range(count):
        end = body.index(b"\0", pos)
        table, attno, oid, size, typmod, fmt = struct.unpack("!ihihih", body[end + 1 : end + 19])
        out.append((body[pos:end].decode(), oid))
        pos = end + 19
    return out


def row_of(body):
    """The values of a DataRow: bytes or None."""
    (count,), pos, out = struct.unpack("!h", body[:2]), 2, []
    for _ in range(count):
        (size,) = struct.unpack("!i", body[pos : pos + 4])
        pos += 4
        out.append(None if size < 0 else body[pos : pos + size])
        pos += max(size, 0)
    return out


class Result:
    """The answer to one simple query, or to all up to a ReadyForQuery."""

    def __init__(self, messages):
        self.messages = messages
        self.columns, self.rows, self.tags, self.errors, self.notices = [], [], [], [], []
        self.params, self.status = {}, None
        for m in messages:
            if m.type == "T":
                self.columns = columns_of(m.body)
            elif m.type == "D":
                self.rows.append([None if v is None else v.decode(errors="replace") for v in row_of(m.body)])
            elif m.type == "C":
                self.tags.append(m.body[:-1].decode())
            elif m.type == "E":
                self.errors.append(PgError(fields_of(m.body)))
            elif m.type == "N":
                self.notices.append(fields_of(m.body))
            elif m.type == "S":
                key, value = m.body[:-1].split(b"\0")
                self.params[key.decode()] = value.decode(errors="surrogateescape")
            elif m.type == "Z":
                self.status = m.body.decode()

    types = property(lambda self: "".join(m.type for m in self.messages))
    tag = property(lambda self: self.tags[-1] if self.tags else None)
    error = property(lambda self: self.errors[0] if self.errors else None)

    def value(self):
        if self.error:
            raise self.error
        return self.rows[0][0]


class Conn:
    """One protocol connection over a connected socket."""

    def __init__(self, sock, timeout=10.0):
        self.sock = sock
        self.sock.settimeout(timeout)
        self.buf = b""
        self.params, self.key, self.auth, self.notices = {}, None, None, []
        self.negotiated = None
        self.scram_iterations = None
        self.tls_context = None  # as a server: a request for TLS is granted with it

    @classmethod
    def tcp(cls, port, host="127.0.0.1", timeout=10.0):
        sock = socket.create_connection((host, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, timeout)

    @classmethod
    def unix(cls, path, timeout=10.0):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(path)
        return cls(sock, timeout)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def terminate(self):
        """Say goodbye as a driver does, and wait until the other side has closed too."""
        try:
            self.send(TERMINATE)
            self.expect_close()
        except OSError:
            pass
        self.close()

    # --- TLS

    tls = property(lambda self: self.sock if isinstance(self.sock, TlsSock) else None)

    def start_tls(self, context, hostname=None, session=None, direct=False):
        """As a client: ask for TLS, unless it is direct, and do the handshake."""
        if not direct:
            answer = self.ssl_request()
            if answer != b"S":
                raise AssertionError(f"the request for TLS was answered by {answer!r}")
        self.sock = TlsSock(self.sock, context, hostname=hostname, session=session)
        self.sock.handshake()
        return self

    def accept_tls(self, context=None):
        """As a server: the handshake, behind the S."""
        self.sock = TlsSock(self.sock, context or self.tls_context, server_side=True)
        self.sock.handshake()
        return self

    def begins_with_tls(self):
        """As a server: True when the client begins with a handshake, without asking."""
        return self.sock.recv(1, socket.MSG_PEEK) == b"\x16"

    def reset(self):
        """Close with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # --- bytes and messages

    def send(self, *chunks):
        self.sock.sendall(b"".join(chunks))

    def read_exact(self, size):
        while len(self.buf) < size:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            except socket.timeout:
                raise AssertionError(
                    f"no answer within {self.sock.gettimeout()} s; unread so far: {self.buf[:200]!r}"
                ) from None
            if not data:
                raise Closed(f"connection closed while {size} bytes were awaited; got {self.buf[:200]!r}")
            self.buf += data
        out, self.buf = self.buf[:size], self.buf[size:]
        return out

    def recv(self):
        """The next message."""
        head = self.read_exact(5)
        size = struct.unpack("!i", head[1:])[0]
        if size < 4:
            raise AssertionError(f"broken message header {head!r}")
        return Msg(chr(head[0]), self.read_exact(size - 4))

    def read_ready(self):
        """All messages up to and including ReadyForQuery."""
        return self.read_through("Z")

    def read_through(self, types):
        """All messages up to and including the first whose type is in `types`."""
        out = []
        try:
            while True:
                m = self.recv()
                out.append(m)
                if m.type in types:
                    return Result(out)
        except Closed as e:
            raise Closed(f"{e}; messages before: {out}", out) from None

    def expect_close(self):
        """All messages until the other side closes; they come back as a Result."""
        out = []
        try:
            while True:
                out.append(self.recv())
        except Closed:
            if self.buf:
                raise AssertionError(f"a torso of a message before the end: {self.buf[:100]!r}") from None
        return Result(out)

    def expect_error_close(self):
        """The other side must send an ErrorResponse and close; the error comes back."""
        result = self.expect_close()
        if not result.errors:
            raise AssertionError(f"expected an ErrorResponse before the close, got {result.messages}")
        return result.errors[0]

    def is_silent(self):
        """True when nothing at all is there to read at this moment."""
        if self.buf:
            return False
        timeout = self.sock.gettimeout()
        self.sock.setblocking(False)
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        finally:
            self.sock.settimeout(timeout)
        self.buf += data
        return False

    # --- as a client

    def ssl_request(self, code=CODE_SSL):
        """Ask for an encrypted channel; returns the one byte of the answer."""
        self.send(struct.pack("!ii", 8, code))
        return self.read_exact(1)

    def start(self, user="app", database="app", params=(), version=PROTO_3_0):
        pairs = [("user", user), ("database", database)] + list(dict(params).items())
        self.send(startup_packet([p for p in pairs if p[1] is not None], version))

    def login(self, user="app", database="app", password=None, params=(), version=PROTO_3_0):
        """The whole login. Raises PgError when it is refused. The greeting's Result comes back."""
        self.start(user, database, params, version)
        return self.finish_login(user, password)

    def finish_login(self, user, password):
        scram, out = None, []
        while True:
            try:
                m = self.recv()
            except Closed as e:
                raise Closed(f"login of {user!r}: {e}", out) from None
            out.append(m)
            if m.type == "E":
                raise PgError(fields_of(m.body))
            if m.type == "v":
                self.negotiated = m.body
            elif m.type == "N":
                self.notices.append(fields_of(m.body))
            elif m.type == "R":
                scram = self.answer_auth(m.body, user, password, scram)
            elif m.type == "S":
                key, value = m.body[:-1].split(b"\0")
                self.params[key.decode()] = value.decode(errors="surrogateescape")
            elif m.type == "K":
                self.key = m.body
            elif m.type == "Z":
                return Result(out)
            else:
                raise AssertionError(f"unexpected message during login: {m}")

    def answer_auth(self, body, user, password, scram):
        (code,) = struct.unpack("!i", body[:4])
        if code != 0 and password is None:
            raise AssertionError(f"asked for a password (authentication request {code}), the test has none")
        if code == 3:
            self.auth = "plain"
            self.send(pack("p", cstr(password)))
        elif code == 5:
            self.auth = "md5"
            self.send(pack("p", cstr(md5_response(user, password, body[4:8]))))
        elif code == 10:
            self.auth = "scram-sha-256"
            scram = ScramClient(password)
            first = scram.first()
            self.send(pack("p", cstr("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
        elif code == 11:
            self.send(pack("p", scram.final(body[4:])))
            self.scram_iterations = scram.iterations
        elif code == 12:
            scram.verify(body[4:])
        elif code != 0:
            raise AssertionError(f"unknown authentication request {code}")
        elif self.auth is None:
            self.auth = "trust"
        return scram

    def query(self, sql):
        """One simple query; errors are in the Result, not raised."""
        self.send(query(sql))
        return self.read_ready()

    def value(self, sql):
        return self.query(sql).value()

    # --- as a server

    def read_startup(self):
        """
        (code, parameters) of the packet that opens a connection. GSS requests are refused on the way, and those for TLS
        unless there is a context for it.
        """
        if self.tls_context and not self.tls and self.begins_with_tls():
            self.accept_tls()
        while True:
            (size,) = struct.unpack("!i", self.read_exact(4))
            body = self.read_exact(size - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code == CODE_SSL and self.tls_context and not self.tls:
                self.send(b"S")
                self.accept_tls()
                continue
            if code in (CODE_SSL, CODE_GSSENC):
                self.send(b"N")
                continue
            if code == CODE_CANCEL:
                return code, {"key": body[4:]}
            parts = [p.decode() for p in body[4:-1].split(b"\0")]
            return code, dict(zip(parts[0::2], parts[1::2]))

    def greet(self, params=(), pid=4711, secret=1147):
        """What a server says after a successful login. The secret of its cancel key is a number or bytes."""
        shown = {
            "server_version": "15.0",
            "server_encoding": "UTF8",
            "client_encoding": "UTF8",
            "DateStyle": "ISO, MDY",
            "TimeZone": "UTC",
            "IntervalStyle": "postgres",
            "standard_conforming_strings": "on",
            "application_name": "",
            **dict(params),
        }
        self.send(
            pack("R", struct.pack("!i", 0)),
            *[pack("S", cstr(k) + cstr(v)) for k, v in shown.items()],
            pack("K", struct.pack("!i", pid) + (secret if isinstance(secret, bytes) else struct.pack("!i", secret))),
            pack("Z", b"I"),
        )


def error_body(severity="FATAL", code="57P01", text="made by a fake server"):
    return b"".join(k + cstr(v) for k, v in ((b"S", severity), (b"V", severity), (b"C", code), (b"M", text))) + b"\0"


def row_description(*names):
    body = struct.pack("!h", len(names))
    for name in names:
        body += cstr(name) + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
    return pack("T", body)


def data_row(*values):
    body = struct.pack("!h", len(values))
    for v in values:
        data = v if isinstance(v, bytes) else str(v).encode()
        body += struct.pack("!i", len(data)) + data
    return pack("D", body)


def answer(value, status=b"I"):
    """A whole answer to a simple query: one row with one value."""
    return row_description("v") + data_row(value) + pack("C", cstr("SELECT 1")) + pack("Z", status)


def md5_response(user, password, salt):
    """`password` may be plain text or an md5… secret."""
    if not (password.startswith("md5") and len(password) == 35):
        password = md5_secret(user, password)
    return "md5" + hashlib.md5(password[3:].encode() + salt).hexdigest()


def md5_secret(user, password):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


def scram_secret(password, iterations=4096, salt=None):
    """A SCRAM-SHA-256 verifier as PostgreSQL stores it."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    b64 = [base64.b64encode(x).decode() for x in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{b64[0]}${b64[1]}:{b64[2]}"


class ScramClient:
    """The client's side of SCRAM-SHA-256."""

    def __init__(self, password, gs2="n,,"):
        self.password, self.gs2 = password, gs2
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n=,r={self.nonce}"
        self.iterations = self.server_signature = self.salt = None

    def first(self):
        return (self.gs2 + self.bare).encode()

    def final(self, server_first):
        got = dict(part.split("=", 1) for part in server_first.decode().split(","))
        if not got["r"].startswith(self.nonce) or got["r"] == self.nonce:
            raise AssertionError(f"the server's nonce does not extend ours: {server_first!r}")
        self.iterations, self.salt = int(got["i"]), got["s"]
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(got["s"]), self.iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        channel = base64.b64encode(self.gs2.encode()).decode()
        without_proof = f"c={channel},r={got['r']}"
        message = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final):
        if server_final != b"v=" + base64.b64encode(self.server_signature):
            raise AssertionError(f"wrong server signature: {server_final!r}")


class FakeServer:
    """
    A scripted PostgreSQL server: `handler(conn, startup_parameters)` runs in a thread of its own for each login.
    The connection is closed when it returns. What a handler raises is kept in .failures, cancel keys in .cancels.
    With `raw`, handler(conn) gets the connection before a byte was read. `host` may be the path of a Unix socket,
    with @ for the abstract name space. With a context in `tls` it grants TLS, asked for or direct; what went wrong in a
    handshake is kept in .tls_errors.
    """

    def __init__(self, handler, raw=False, host="127.0.0.1", port=0, tls=None):
        self.handler, self.raw, self.tls = handler, raw, tls
        if host[0] in "/@":
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(host.replace("@", "\0"))
            self.listener.listen(128)
            self.port = None
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.listener = socket.create_server((host, port), family=family, backlog=128)
            self.port = self.listener.getsockname()[1]
        self.failures, self.cancels, self.logins, self.conns, self.tls_errors = [], [], 0, [], []
        self.stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            conn = Conn(sock, timeout=30)
            conn.tls_context = self.tls
            self.conns.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            if self.raw:
                self.logins += 1
                self.handler(conn)
                return
            code, params = conn.read_startup()
            if code == CODE_CANCEL:
                self.cancels.append(params["key"])
                return
            self.logins += 1
            self.handler(conn, params)
        except ssl.SSLError as e:
            self.tls_errors.append(e)
        except (Closed, OSError):
            pass
        except Exception as e:
            if not self.stopping:
                self.failures.append(e)
        finally:
            conn.close()

    def stop(self):
        self.stopping = True
        self.listener.close()
        for conn in self.conns:
            try:
                conn.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def dsn(self, **extra):
        return " ".join(["host=127.0.0.1", f"port={self.port}"] + [f"{k}={v}" for k, v in extra.items()])


def serve_queries(conn, reply=lambda sql: answer("ok")):
    """A handler's body: greet, then answer each simple query by reply(sql), until Terminate."""
    conn.greet()
    while True:
        m = conn.recv()
        if m.type == "X":
            return
        if m.type == "Q":
            sql = m.body[:-1].decode()
            if not sql.strip():
                conn.send(pack("I"), pack("Z", b"I"))
            elif sql.upper().startswith("SET "):
                conn.send(pack("C", cstr("SET")) * max(1, sql.count(";")), pack("Z", b"I"))
            elif sql.upper().startswith("DISCARD"):
                conn.send(pack("C", cstr("DISCARD ALL")), pack("Z", b"I"))
            else:
                conn.send(reply(sql))


def wait_silent(conn, seconds):
    """True when the other side stays silent for that long: for the few tests that must see nothing happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not conn.is_silent():
            return False
        time.sleep(0.02)
    return True
