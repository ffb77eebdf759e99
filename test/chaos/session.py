"""A client of the protocol on asyncio: light enough for thousands, and it hides nothing of what it was told."""
import asyncio
import re
import struct

STARTUP_3_0 = 0x00030000

# Not connected to a server at all.
UNABLE = ("08001", "08004")
# A statement that met one of these never reached a server, says the pooler.
NOT_SENT = re.compile(r"was not sent|retry after|not been sent")
# The server has said so itself before anything was done, or in a way that undoes what was.
CANCELED = re.compile(r"canceling statement due to")


class Told:
    """An ErrorResponse."""

    def __init__(self, body):
        fields = {chr(part[0]): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
        self.severity, self.code, self.text = fields.get("V", ""), fields.get("C", ""), fields.get("M", "")
        self.more = " ".join(fields.get(k, "") for k in "DH")

    def leaves_open(self):
        """True when a statement that may commit can have taken effect although this was the answer."""
        if self.code in UNABLE or NOT_SENT.search(self.text + " " + self.more):
            return False
        if self.code == "57014":
            return not CANCELED.search(self.text)
        return self.code[:2] == "08" or self.code[:3] == "57P"

    def __repr__(self):
        return f"{self.severity} {self.code} {self.text}"


class Answer:
    """All up to a ReadyForQuery; `status` is its letter, and None when the connection was closed instead."""

    def __init__(self):
        self.tags, self.rows, self.errors, self.status, self.parsed = [], [], [], None, False

    error = property(lambda self: self.errors[-1] if self.errors else None)

    def leaves_open(self):
        """What has become of a COMMIT, or of a statement outside a transaction, that was answered by this?"""
        return not self.errors or any(e.leaves_open() for e in self.errors)

    def __repr__(self):
        return f"{self.tags} {self.rows} {self.errors} {self.status}"


class Session(asyncio.Protocol):
    """One connection. Answers are awaited one at a time."""

    def __init__(self):
        self.transport, self.buf, self.waiter, self.answer = None, bytearray(), None, Answer()
        self.unasked = 0  # ReadyForQuery messages that nothing was sent for
        self.prepared = {}  # texts of statements with the names they have on this connection

    @classmethod
    async def login(cls, port, user, database, host="127.0.0.1"):
        """A session, or None, and the answer to its startup packet."""
        _, self = await asyncio.get_running_loop().create_connection(cls, host, port)
        body = struct.pack("!i", STARTUP_3_0) + f"user\0{user}\0database\0{database}\0\0".encode()
        answer = await self.exchange(struct.pack("!i", len(body) + 4) + body)
        if answer.status is None:
            self.close()
            return None, answer
        return self, answer

    async def ask(self, sql):
        """A simple query and its answer."""
        return await self.exchange(message(b"Q", sql.encode() + b"\0"))

    async def execute(self, sql, values=(), named=False):
        """A statement of the extended protocol; a named one is prepared when it comes for the first time."""
        name = self.prepared.get(sql) if named else None
        parse = b""
        if name is None:
            name = b"s%d\0" % len(self.prepared) if named else b"\0"
            parse = message(b"P", name + sql.encode() + b"\0\0\0")
        bind = b"\0" + name + struct.pack("!hh", 0, len(values))
        for value in values:
            text = str(value).encode()
            bind += struct.pack("!i", len(text)) + text
        rest = message(b"B", bind + b"\0\0") + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")
        answer = await self.exchange(parse + rest)
        if named and answer.parsed:
            self.prepared[sql] = name
        return answer

    async def exchange(self, data):
        if self.transport.is_closing():
            answer, self.answer = self.answer, Answer()
            return answer
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return await self.waiter

    closed = property(lambda self: self.transport.is_closing())

    def close(self):
        self.transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buf += data
        at = 0
        while len(self.buf) - at >= 5:
            end = at + 1 + struct.unpack_from("!i", self.buf, at + 1)[0]
            if len(self.buf) < end:
                break
            self.take(self.buf[at], bytes(self.buf[at + 5 : end]))
            at = end
        del self.buf[:at]

    def take(self, kind, body):
        if kind == ord("C"):
            self.answer.tags.append(body[:-1].decode())
        elif kind == ord("D"):
            self.answer.rows.append(values_of(body))
        elif kind == ord("E"):
            self.answer.errors.append(Told(body))
        elif kind == ord("1"):
            self.answer.parsed = True
        elif kind == ord("Z"):
            self.answer.status = body.decode()
            self.finish()

    def finish(self):
        answer, self.answer = self.answer, Answer()
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            self.unasked += answer.status is not None
            self.answer.errors = answer.errors
        elif not waiter.done():
            waiter.set_result(answer)

    def connection_lost(self, exc):
        self.finish()


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


def values_of(body):
    """The values of a DataRow as texts, None for a null."""
    (count,), pos, out = struct.unpack_from("!h", body), 2, []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", body, pos)
        pos += 4
        out.append(None if size < 0 else body[pos : pos + size].decode(errors="replace"))
        pos += max(size, 0)
    return out
