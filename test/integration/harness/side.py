"""
Two poolers side by side: the one under test and a PgBouncer of these days, asked the same.

A script is a list of steps; a step has a name and a function that does something to one side and returns lines of
text: what a user, a program or a monitor sees of the answer. What differs from run to run (ports, times, pointers,
numbers of processes) is replaced by its kind first, so the lines of both sides may be compared as they are.
"""
import collections
import os
import re
import shutil
import struct

from . import procs, wire
from .pooler import version

OLDEST = (1, 24)

# Columns of the console whose values are a matter of the moment, or of how a program is made.
VOLATILE = set(
    "fd port local_port connect_time request_time wait wait_us maxwait_us ptr link remote_pid id size used free memtotal"
    " recv_pos pkt_pos pkt_remain send_pos pkt_avail send_avail".split()
)
VOLATILE_END = re.compile(r"(_time|_received|_sent|_recv|_bytes)$|^(bytes|avg)_")
VOLATILE_ROW = re.compile(r"^(free_\w+|(total|avg)_\w+_time|avg_\w+)$")

KINDS = (
    (r"PgBouncer \d+\.\d+\.\d+(?: \(pgsluice \S+\))?", "NAME VERSION"),
    (r"\d+\.\d+\.\d+/bouncer", "VERSION/bouncer"),
    (r"0x[0-9a-f]{6,}", "PTR"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \w+", "TIME"),
    (r"age= ?\d+s", "age=Ns"),
    (r"(\d+\.){3}\d+:(?:\d+|PORT|PGPORT)", "ADDRESS"),
    (r"unix\(\d+\)", "unix(PID)"),
)

# `more`: the pooler under test may have lines that PgBouncer has not; `ordered`: their order counts.
Step = collections.namedtuple("Step", "name run more ordered", defaults=(False, True))


def reference():
    """(path, version) of the PgBouncer to compare with, or (None, why there is none)."""
    path = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if not path:
        return None, "no PgBouncer to compare with: PGBOUNCER names none"
    name, number = version(path)
    if name != "pgbouncer" or number < OLDEST:
        return None, f"{path} is no PgBouncer of {OLDEST[0]}.{OLDEST[1]} or newer; PGBOUNCER may name one"
    return path, number


class Side:
    """One pooler of the two, with its connections by name."""

    def __init__(self, pooler, cluster):
        self.pooler, self.cluster, self.conns = pooler, cluster, {}
        self.words = [(pooler.dir, "DIR"), (str(pooler.port), "PORT"), (str(cluster.port), "PGPORT")]

    def normal(self, text):
        """The text without what differs from run to run."""
        for word, kind in self.words:
            text = text.replace(word, kind)
        for pattern, kind in KINDS:
            text = re.sub(pattern, kind, text)
        return text.rstrip()

    def lines(self, messages):
        """Messages of the protocol as text."""
        out, columns = [], []
        for m in messages:
            if m.type == "T":
                columns = wire.columns_of(m.body)
                out.append("columns " + " ".join(f"{name}:{oid}" for name, oid in columns))
            elif m.type == "D":
                out.append("row " + self._row([name for name, _ in columns], wire.row_of(m.body)))
            elif m.type == "C":
                out.append("tag " + m.body[:-1].decode())
            elif m.type in "EN":
                fields = wire.fields_of(m.body)
                kind = "error" if m.type == "E" else "notice"
                out.append(kind + "".join(f" {key}={self.normal(value)!r}" for key, value in fields.items()))
            elif m.type == "S":
                name, value = m.body[:-1].decode(errors="replace").split("\0")
                out.append(self.normal(f"parameter {name}={value}"))
            elif m.type == "Z":
                out.append("ready " + m.body.decode())
            elif m.type == "R":
                code = struct.unpack("!i", m.body[:4])[0]
                out.append(f"authentication {code}" + (f" {m.body[4:]!r}" if code == 10 else ""))
            elif m.type == "K":
                out.append(f"key of {len(m.body)} bytes")
            else:
                out.append(f"message {m.type} {m.body!r}")
        return out

    def _row(self, columns, values):
        texts = ["NULL" if v is None else self.normal(v.decode(errors="replace")) for v in values]
        is_volatile = len(columns) > 1 and VOLATILE_ROW.search(texts[0])
        for i, name in enumerate(columns):
            if name in VOLATILE or VOLATILE_END.search(name) or (is_volatile and i > 0):
                texts[i] = re.sub(r"\d+", "N", texts[i])
        return " | ".join(texts)

    def log(self):
        """The lines of the log about clients and servers, and all warnings and errors."""
        out = []
        for line in self.pooler.log_text().splitlines():
            found = re.match(r"\S+ \S+ \S+ \[\d+\] ((?:LOG [CS]-|WARNING|ERROR|FATAL).*)", line)
            if found:
                out.append(self.normal(found[1]))
        return out

    def drop(self, name):
        self.conns.pop(name).terminate()

    def close(self):
        for conn in self.conns.values():
            conn.close()
        self.conns.clear()


def answer(side, conn):
    """All up to ReadyForQuery or the end of the connection, as lines."""
    messages, ended = [], False
    try:
        while not messages or messages[-1].type != "Z":
            messages.append(conn.recv())
    except wire.Closed:
        ended = True
    return side.lines(messages) + ["closed"] * ended


# --- steps


def console(command, user="admin", more=False):
    """A command of the console, in a session that goes on to the next command."""

    def run(side):
        key = f"console of {user}"
        if key not in side.conns:
            side.conns[key] = wire.Conn.tcp(side.pooler.port)
            side.conns[key].login(user, "pgbouncer", f"{user}pw")
        side.conns[key].send(wire.query(command))
        out = answer(side, side.conns[key])
        if out[-1] == "closed":
            side.conns.pop(key).close()
        return out

    return Step(f"{user}: {command}", run, more)


def login(name, user="app", database="app", password=None, params=(), version=wire.PROTO_3_0, then=()):
    """A login, what is said `then` (queries as text, messages as bytes), and the answers to all of it."""

    def run(side):
        out = []
        with wire.Conn.tcp(side.pooler.port) as conn:
            try:
                conn.start(user, database, params, version)
                _finish(side, conn, user, password, out)
                for said in then:
                    conn.send(wire.query(said) if isinstance(said, str) else said)
                    out += answer(side, conn)
            except wire.Closed:
                out.append("closed")
        return out

    return Step(name, run)


def _finish(side, conn, user, password, out):
    scram = None
    while True:
        m = conn.recv()
        code = struct.unpack("!i", m.body[:4])[0] if m.type == "R" else 0
        out += [f"authentication {code}"] if code in (5, 11) else side.lines([m])
        if code and password is not None:
            scram = conn.answer_auth(m.body, user, password, scram)
        if m.type == "Z":
            return


def bytes_(name, *data, unix=False, last=True):
    """Bytes on a new connection; `last`: nothing more comes."""

    def run(side):
        pooler = side.pooler
        with wire.Conn.unix(pooler.socket_path) if unix else wire.Conn.tcp(pooler.port) as conn:
            conn.send(*data)
            if last:
                conn.sock.shutdown(1)
            return answer(side, conn)

    return Step(name, run)


def open_(name, **kwargs):
    """A connection that stays, by its name."""

    def run(side):
        side.conns[name] = side.pooler.raw()
        return side.lines(side.conns[name].login(**kwargs).messages)

    return Step(f"{name}: login {kwargs or ''}", run)


def say(name, said):
    def run(side):
        side.conns[name].send(wire.query(said) if isinstance(said, str) else said)
        return answer(side, side.conns[name])

    return Step(f"{name}: {said}", run)


def hear(name):
    """What comes by itself."""
    return Step(f"{name} hears", lambda side: answer(side, side.conns[name]))


def leave(name):
    return Step(f"{name} leaves", lambda side: side.drop(name) or [])


def cancel(name):
    return Step(f"{name} is cancelled", lambda side: side.pooler.cancel(side.conns[name].key) or [])


def send(name, said):
    """Without an answer yet, which hear() has."""
    return Step(f"{name} sends {said}", lambda side: side.conns[name].send(wire.query(said)) or [])


def do(name, function):
    """Anything else; what it returns, as lines of text, is compared."""
    return Step(name, lambda side: [side.normal(line) for line in function(side.pooler) or []])


# --- the command line


def program(path, args, ini="", timeout=20):
    """How a program that ends by itself ends: status, stdout and stderr, without times."""
    directory = procs.make_dir("side-")
    try:
        file = f"{directory}/pooler.ini"
        with open(file, "w") as f:
            f.write(ini.replace("DIR", directory))
        os.chmod(file, 0o644)
        command = [path, *(a.replace("INI", file) for a in args)]
        done = procs.run(command, check=False, timeout=timeout, cwd=directory, env={**os.environ, "ASAN_OPTIONS": ""})
        out = [f"status {done.returncode}"] + [f"out {line}" for line in done.stdout.splitlines()]
        out += ["err " + re.sub(r"^\S+ \S+ \S+ \[\d+\] ", "", line) for line in done.stderr.splitlines()]
        out = [re.sub(r"\S*/(pgsluice|pgbouncer)\b", "PROGRAM", line.replace(directory, "DIR")) for line in out]
        return [line.rstrip() for line in out]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
