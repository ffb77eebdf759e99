"""
TLS over a socket with the encrypted bytes in the test's hands.

`TlsSock` stands in the place of the socket of a `wire.Conn`, at either end. OpenSSL works on memory, so that a test can
hold records back, cut and join them anywhere, put bytes of its own between them, or end the connection in the middle of
one. `raw` is the socket beneath.
"""
import ctypes
import ssl
import struct

ALERT, HANDSHAKE, DATA = 21, 22, 23


def record(kind, body, version=0x0303, size=None):
    """A record in plain text; `size` is what its head claims instead of the truth."""
    return struct.pack("!BHH", kind, version, len(body) if size is None else size) + body


def spoilt(data, at=-1):
    """With one bit turned."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def rest_of(conn):
    """What the other side still says beneath TLS before it closes, which it must."""
    sock = conn.tls.raw if conn.tls else conn.sock
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except (ConnectionResetError, BrokenPipeError):
        pass
    except TimeoutError:
        raise AssertionError(f"not closed; it said {data[:200]!r}") from None
    return data


def records_of(data):
    """The records in a piece of the encrypted stream, and what is left behind the last whole one."""
    out = []
    while len(data) >= 5:
        size = 5 + int.from_bytes(data[3:5], "big")
        if len(data) < size:
            break
        out.append(data[:size])
        data = data[size:]
    return out, data


class TlsSock:
    """
    As much of a socket as Conn uses, for one thread at a time. `hostname` is sent as SNI and checked if the context
    checks names; `session` is one to resume. With `hold` set, what is sent stays in `held` until release().
    """

    def __init__(self, sock, context, server_side=False, hostname=None, session=None):
        self.raw, self.held, self.hold, self.ended_cleanly = sock, b"", False, None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, hostname, session)

    # --- the handshake

    def handshake(self):
        """To its end. An alert that OpenSSL wants to send when it fails is sent before the exception goes on."""
        while not self.step():
            self.feed(self.raw.recv(65536))
        return self

    def step(self):
        """As far as it comes with what was fed; True when done."""
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()

    # --- encrypted bytes

    def feed(self, data):
        """What came from the network, nothing at its end."""
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def flush(self):
        self.held += self.outgoing.read()
        if not self.hold:
            self.release()

    def release(self, *sizes):
        """Send what was held; with sizes in so many pieces, the last of which is the rest."""
        for size in sizes:
            piece, self.held = self.held[:size], self.held[size:]
            self.raw.sendall(piece)
        data, self.held = self.held, b""
        if data:
            self.raw.sendall(data)

    def encrypted(self, data, record=16384):
        """The records that carry these bytes, so many in each, without sending them."""
        self.flush()
        for at in range(0, len(data), record):
            self.tls.write(data[at : at + record])
        return self.outgoing.read()

    # --- as a socket

    def sendall(self, data):
        if data:
            self.tls.write(data)
        self.flush()

    def recv(self, size):
        while True:
            try:
                data = self.tls.read(size)
                self.flush()
                self.ended_cleanly = True if not data else None
                return data
            except ssl.SSLWantReadError:
                self.flush()
                self.feed(self.raw.recv(65536))
            except ssl.SSLZeroReturnError:
                self.ended_cleanly = True
                return b""
            except ssl.SSLEOFError:
                self.ended_cleanly = False
                return b""

    def settimeout(self, seconds):
        self.raw.settimeout(seconds)

    def gettimeout(self):
        return self.raw.gettimeout()

    def setblocking(self, flag):
        self.raw.setblocking(flag)

    def setsockopt(self, *args):
        self.raw.setsockopt(*args)

    def shutdown(self, how):
        self.raw.shutdown(how)

    def fileno(self):
        return self.raw.fileno()

    def close(self):
        self.raw.close()

    # --- what TLS can do besides

    def close_notify(self):
        """Say that nothing more will come, and leave the socket open."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass
        self.flush()

    def key_update(self, ask_for_one=False):
        """TLS 1.3: new keys for what we send; the other side may be asked to do the same."""
        lib, pointer = _libssl(), _ssl_pointer(self.tls)
        if lib.SSL_key_update(pointer, 1 if ask_for_one else 0) != 1:
            raise AssertionError("OpenSSL refuses to update the keys")
        lib.SSL_do_handshake(pointer)
        self.flush()

    def claim_fallback(self):
        """Say in the hello that a newer version was tried in vain: SSL_set_mode(SSL_MODE_SEND_FALLBACK_SCSV)."""
        _libssl().SSL_ctrl(_ssl_pointer(self.tls), 33, 0x80, None)

    def renegotiate(self):
        """TLS 1.2: ask for another handshake inside the session, as far as sending the request goes."""
        lib, pointer = _libssl(), _ssl_pointer(self.tls)
        if lib.SSL_renegotiate(pointer) != 1:
            raise AssertionError("OpenSSL refuses to renegotiate")
        lib.SSL_do_handshake(pointer)
        self.flush()

    version = property(lambda self: self.tls.version())
    cipher = property(lambda self: self.tls.cipher()[0])
    session = property(lambda self: self.tls.session)
    reused = property(lambda self: self.tls.session_reused)
    alpn = property(lambda self: self.tls.selected_alpn_protocol())
    certificate = property(lambda self: self.tls.getpeercert(binary_form=True))


def _libssl():
    lib = ctypes.CDLL("libssl.so.3")
    for name in ("SSL_renegotiate", "SSL_do_handshake", "SSL_get_version"):
        getattr(lib, name).argtypes = (ctypes.c_void_p,)
    lib.SSL_key_update.argtypes = (ctypes.c_void_p, ctypes.c_int)
    lib.SSL_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    lib.SSL_get_version.restype = ctypes.c_char_p
    return lib


def _ssl_pointer(tls):
    """
    OpenSSL's own object in one of Python's, which has no function for key updates and renegotiation: it follows the
    head of the object and one more pointer.
    """
    head = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    pointer = ctypes.cast(id(tls._sslobj) + head, ctypes.POINTER(ctypes.c_void_p))[0]
    if tls.version() not in (None, _libssl().SSL_get_version(pointer).decode()):
        raise AssertionError("this Python keeps its TLS objects differently")
    return pointer
