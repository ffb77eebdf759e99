"""
The same bytes to PostgreSQL and through the pooler, and the answers held against each other message by message.

A script is a list of whole client messages. It is played on a direct connection first: what that answers, and how
many messages have come each time the server had worked off all it was sent, is what the pooled session has to show.
So a script that is sent in pieces tests not only what is answered but also that it is answered then: a message that a
pooler holds back until more comes is missed at once.

Every script gets END behind it, which brings any session back into step: CopyFail ends COPY (and means nothing
elsewhere), Sync ends a failed batch, and the rest is answered in any case.
"""
import collections
import errno
import fcntl
import re
import select
import socket
import struct
import termios
import time

from . import wire
from .wire import Conn, Msg

END_MARK = b"end of the script"
END = [
    wire.pack("f", b"the end\0"),
    wire.SYNC,
    wire.query("rollback"),
    wire.query(f"select '{END_MARK.decode()}'"),
]

Played = collections.namedtuple("Played", "messages counts closed")


class Difference(AssertionError):
    """The pooled session was not answered as the direct one."""


class Wire:
    """A logged-in connection that is read while it is written to, so that no pipeline is too long for it."""

    def __init__(self, conn, timeout=20.0):
        self.conn, self.sock, self.timeout = conn, conn.sock, timeout
        self.sock.setblocking(False)
        self.data, self.messages, self.closed = bytearray(conn.buf), [], False
        self.ended_at = None

    def _take(self):
        """Read what is there and cut it into messages. False when there was nothing."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.data += data
        at = 0
        while len(self.data) - at >= 5:
            (size,) = struct.unpack_from("!i", self.data, at + 1)
            if size < 4:
                raise Difference(f"broken message header {bytes(self.data[at:at + 5])!r}")
            if len(self.data) - at < size + 1:
                break
            self._add(Msg(chr(self.data[at]), bytes(self.data[at + 5 : at + 1 + size])))
            at += size + 1
        del self.data[:at]
        return True

    def _add(self, m):
        if m.type == "D" and m.body.endswith(END_MARK) and self.ended_at is None:
            self.ended_at = len(self.messages) + 3
        self.messages.append(m)

    def is_ended(self):
        return self.closed or (self.ended_at is not None and len(self.messages) >= self.ended_at)

    def put(self, data, done, what):
        """Send all of `data`, reading meanwhile, and then read until done()."""
        view, end = memoryview(data), time.monotonic() + self.timeout
        while len(view) > 0 or not done():
            if self.closed:
                return
            write = [self.sock] if len(view) > 0 else []
            readable, writable, _ = select.select([self.sock], write, [], max(0, end - time.monotonic()))
            if not readable and not writable:
                raise Difference(f"no answer within {self.timeout:g} s: {what()}")
            while readable and self._take():
                pass
            if writable:
                try:
                    view = view[self.sock.send(view) :]
                except BlockingIOError:
                    pass
                except OSError as e:
                    if e.errno not in (errno.EPIPE, errno.ECONNRESET):
                        raise
                    view = view[len(view) :]  # the last words of the other side are still to be read
                    done = lambda: self.closed  # noqa: E731

    def read_all(self):
        while self._take():
            pass

    def unread(self):
        """Bytes that the other side has not taken yet; for Unix sockets only."""
        return struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]

    def wait_taken(self):
        """Wait until the other side has taken everything, so that what is sent next is another segment for it."""
        end = time.monotonic() + self.timeout
        while self.unread() > 0 and not self.closed:
            if time.monotonic() > end:
                raise Difference("the other side does not read")
            self.read_all()

    def close(self):
        self.sock.close()


class Reference:
    """Plays scripts on direct connections to PostgreSQL."""

    def __init__(self, cluster, dbname, user="app"):
        self.cluster, self.dbname, self.user = cluster, dbname, user
        self.monitor = cluster.connect()
        self.monitor.prepare_threshold = 0

    def close(self):
        self.monitor.close()

    def is_waiting(self, pid):
        """True when the backend waits for the client (or is gone)."""
        row = self.monitor.execute("select wait_event from pg_stat_activity where pid = %s", (pid,)).fetchone()
        return row is None or row[0] == "ClientRead"

    def play(self, segments, params=()):
        """Send the segments one by one, each when the one before has been worked off. END must be the last."""
        conn = Conn.unix(f"{self.cluster.dir}/.s.PGSQL.{self.cluster.port}")
        conn.login(self.user, self.dbname, params=params)
        pid = struct.unpack("!i", conn.key[:4])[0]
        w, counts = Wire(conn), []
        try:
            for segment in segments[:-1]:
                w.put(segment, lambda: True, lambda: "direct")
                while not (w.closed or (w.unread() == 0 and self.is_waiting(pid))):
                    w.read_all()
                    time.sleep(0.0005)  # the processor is better used by the backend that is waited for
                w.read_all()
                counts.append(len(w.messages))
            w.put(segments[-1], w.is_ended, lambda: f"direct, after {w.messages[-5:]}")
            counts.append(len(w.messages))
            return Played(w.messages, counts, w.closed)
        finally:
            w.close()


def play_pooled(conn, segments, expected, settle=False, timeout=20.0):
    """
    Play on a logged-in connection of the pooler, waiting after each segment for what PostgreSQL answered to it.
    `settle` waits also until the pooler has read the segment, which it does not always do at once.
    """
    w = Wire(conn, timeout)
    for i, segment in enumerate(segments[:-1]):
        wanted = expected.counts[i]
        w.put(
            segment,
            lambda wanted=wanted: len(w.messages) >= wanted,
            lambda wanted=wanted, i=i: f"{len(w.messages)} of {wanted} messages came by segment {i}\n"
            + first_difference(expected.messages[:wanted], w.messages),
        )
        if settle:
            w.wait_taken()
    w.put(
        segments[-1],
        w.is_ended,
        lambda: f"{len(w.messages)} of {len(expected.messages)} messages came\n"
        + first_difference(expected.messages, w.messages),
    )
    return Played(w.messages, [], w.closed)


# ---- comparison ----


def normal(m):
    """
    A message without what no two sessions have in common, process ids and object ids of tables, and without the place
    in PostgreSQL's source where an error comes from, which errors of the pooler do not have (nor, in the style of
    PgBouncer, the severity that is never translated). A statement may have another name on the server.
    """
    if m.type in "EN":
        fields = {k: v for k, v in wire.fields_of(m.body).items() if k not in "VFLR"}
        fields["M"] = re.sub(r'supplies (\d+) parameters, but prepared statement "\w*"', r"supplies \1", fields["M"])
        return Msg(m.type, tuple(sorted(fields.items())))
    if m.type == "A":
        return Msg("A", m.body[4:])
    if m.type != "T":
        return m
    body, at = bytearray(m.body), 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        at = body.index(b"\0", at) + 1
        if struct.unpack_from("!I", body, at)[0] >= 16384:
            body[at : at + 4] = b"\0\0\0\1"
        at += 18
    return Msg("T", bytes(body))


def alike(expected, got):
    """
    True for the same message. In an aborted transaction PostgreSQL says that it is aborted; a pooler may find another
    fault in the same message: the name exists, or does not.
    """
    if expected.type == got.type == "E" and wire.fields_of(expected.body)["C"] == "25P02":
        return wire.fields_of(got.body)["C"] in ("25P02", "42P05", "26000")
    return normal(expected) == normal(got)


def same(expected, got):
    return len(expected) == len(got) and all(alike(a, b) for a, b in zip(expected, got))


def show(m):
    """A server message for a person to read."""
    if m.type in "EN":
        f = wire.fields_of(m.body)
        return f"{m.type} {f.get('S')} {f.get('C')} {f.get('M')}" + (f" at {f['P']}" if "P" in f else "")
    text = repr(m.body)
    return f"{m.type} {text if len(text) < 100 else text[:90] + f'… {len(m.body)} bytes'}"


def show_client(message):
    """A client message for a person to read."""
    text = repr(bytes(message[5:]))[2:-1]
    return f"{chr(message[0])} {text if len(text) < 150 else text[:140] + f'… {len(message)} bytes'}"


def first_difference(expected, got):
    """What to print when two streams differ: some lines around the first difference."""
    at = 0
    while at < min(len(expected), len(got)) and alike(expected[at], got[at]):
        at += 1
    lines = [f"  both    {show(m)}" for m in expected[max(0, at - 6) : at]]
    lines += [f"  direct  {show(m)}" for m in expected[at : at + 6]] or ["  direct  (nothing)"]
    lines += [f"  pooled  {show(m)}" for m in got[at : at + 6]] or ["  pooled  (nothing)"]
    return f"{at} messages alike, then\n" + "\n".join(lines)


def compare(expected, got):
    """Raises Difference unless both sessions were answered alike."""
    want, have = expected.messages, got.messages
    if expected.closed:
        # PostgreSQL ended the session: so must the pooler, in words of its own.
        is_right = got.closed and same(want, have[: len(want)])
    else:
        is_right = not got.closed and same(want, have)
    if not is_right:
        raise Difference(
            f"direct {'closed' if expected.closed else 'open'}, pooled {'closed' if got.closed else 'open'}; "
            + first_difference(expected.messages, got.messages)
        )


def shrink(messages, differs, tries=250):
    """A shorter script for which differs() is true as well: leaves out pieces, large ones first."""
    size = max(1, len(messages) // 2)
    while size >= 1 and tries > 0:
        at = 0
        while at < len(messages) and tries > 0:
            shorter = messages[:at] + messages[at + size :]
            tries -= 1
            if shorter and differs(shorter):
                messages = shorter
            else:
                at += size
        size = size // 2
    return messages


def is_step(message):
    """After these a client that is not in a hurry waits for the answer."""
    return chr(message[0]) in "SHQF"


def cut_whole(messages, rng):
    return [b"".join(messages + END)]


def cut_steps(messages, rng):
    """A client that waits at each Sync, Flush and Query."""
    out = [[]]
    for m in messages:
        out[-1].append(m)
        if is_step(m):
            out.append([])
    return [b"".join(s) for s in out if s] + [b"".join(END)]


def cut_anywhere(messages, rng):
    """Segments of any size, message borders or not."""
    data = b"".join(messages)
    borders = sorted({rng.randrange(1, len(data)) for _ in range(rng.randrange(1, 12))})
    return [data[a:b] for a, b in zip([0] + borders, borders + [len(data)])] + [b"".join(END)]


def cut_single(messages, rng=None):
    """Each message waits for the answers to the one before, as far as there are any."""
    return messages + [b"".join(END)]


CUTS = {"whole": cut_whole, "steps": cut_steps, "anywhere": cut_anywhere}
