#!/usr/bin/env python3
"""Measures what a reload costs: how long the control loop is busy, and how long the longest turn of a worker is.

    test/bench/reload.py [--pgsluice PATH] [--databases N] [--pools N] [--threads N] [--realtime]

A played PostgreSQL answers logins and queries; one client is connected in each of the pools. Then the file is
changed in several ways and loaded again with RELOAD. The figures are those of SHOW LOOPS: the longest turn of each
kind of loop while the reload was worked off, in microseconds; "answer" is the time until RELOAD is answered. On a
busy machine a turn seems long when another process has interrupted it: --realtime, as root, gives the pooler's
threads precedence.
"""

import argparse
import asyncio
import os
import pathlib
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

QUIET_SETTINGS = {
    "auth_type": "any",
    "pool_mode": "transaction",
    "server_tls_sslmode": "disable",
    "admin_users": "admin",
    "log_connections": 0,
    "log_disconnections": 0,
    "max_client_conn": 20000,
    "verbose": 1,
}


def message(kind, body=b""):
    return kind + struct.pack(">I", len(body) + 4) + body


def startup_packet(**params):
    body = struct.pack(">I", 196608) + b"".join(f"{k}\0{v}\0".encode() for k, v in params.items()) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


READY = message(b"Z", b"I")
GREETING = (
    message(b"R", struct.pack(">I", 0))
    + message(b"S", b"server_version\0" b"15.0\0")
    + message(b"K", struct.pack(">II", 1, 2))
    + READY
)
ANSWER = message(b"C", b"SELECT 0\0") + READY


async def serve(reader, writer):
    """One session of the played PostgreSQL."""
    try:
        (size,) = struct.unpack(">I", await reader.readexactly(4))
        await reader.readexactly(size - 4)
        writer.write(GREETING)
        while True:
            kind, size = struct.unpack(">cI", await reader.readexactly(5))
            await reader.readexactly(size - 4)
            if kind == b"X":
                break
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


def start_backend():
    """Runs the played PostgreSQL in a thread; returns its port."""
    ready = threading.Event()
    port = []

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    ready.wait()
    return port[0]


class Session:
    """A client of the pooler."""

    def __init__(self, port, user, database):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.sendall(startup_packet(user=user, database=database))

    def read_exact(self, size):
        data = b""
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            if not chunk:
                raise EOFError(data)
            data += chunk
        return data

    def read_ready(self):
        """Rows up to ReadyForQuery."""
        rows, error = [], None
        while True:
            kind, size = struct.unpack(">cI", self.read_exact(5))
            body = self.read_exact(size - 4)
            if kind == b"E":
                error = body.decode(errors="replace")
            if kind == b"D":
                rows.append(self.cells(body))
            if error and (kind == b"Z" or error.startswith("SFATAL")):
                raise RuntimeError(error)
            if kind == b"Z":
                return rows

    @staticmethod
    def cells(body):
        (n,) = struct.unpack(">H", body[:2])
        at, cells = 2, []
        for _ in range(n):
            (size,) = struct.unpack(">i", body[at : at + 4])
            cells.append(body[at + 4 : at + 4 + max(size, 0)].decode())
            at += 4 + max(size, 0)
        return cells

    def query(self, sql):
        self.sock.sendall(message(b"Q", sql.encode() + b"\0"))
        return self.read_ready()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Pooler:
    def __init__(self, args, backend_port):
        self.args, self.backend_port, self.port = args, backend_port, free_port()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="reload-"))
        self.dir.chmod(0o755)
        self.databases = {f"db{i}": "" for i in range(args.databases)}
        self.settings = dict(QUIET_SETTINGS, listen_port=self.port, threads=args.threads)
        self.write()
        program = self.dir / "pgsluice"
        shutil.copy(args.pgsluice, program)
        as_user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        if as_user:
            owner = pwd.getpwnam("postgres")
            os.chown(self.dir, owner.pw_uid, owner.pw_gid)
        self.log = open(self.dir / "log", "wb")
        self.process = subprocess.Popen([program, self.dir / "ini"], stderr=self.log, **as_user)
        while True:
            try:
                self.console = Session(self.port, "admin", "pgbouncer")
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.console.read_ready()
        if args.realtime:
            for task in os.listdir(f"/proc/{self.process.pid}/task"):
                os.sched_setscheduler(int(task), os.SCHED_FIFO, os.sched_param(1))

    def write(self):
        lines = ["[pgbouncer]", "listen_addr = 127.0.0.1", "unix_socket_dir ="]
        lines += [f"{k} = {v}" for k, v in self.settings.items()] + ["[databases]"]
        lines += [
            f"{name} = host=127.0.0.1 port={self.backend_port} dbname=x user=u{extra}"
            for name, extra in self.databases.items()
        ]
        (self.dir / "ini").write_text("\n".join(lines) + "\n")

    def loops(self):
        """The longest recent turn of the control loop, of login loops, of workers."""
        longest = {"control": 0, "login": 0, "worker": 0}
        for name, _, recent in self.console.query("SHOW LOOPS"):
            kind = name.rstrip("0123456789")
            longest[kind] = max(longest[kind], int(recent))
        return longest

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        log = (self.dir / "log").read_text()
        shutil.rmtree(self.dir)
        return [line.split("DEBUG ")[1] for line in log.splitlines() if "DEBUG reload" in line and " database " not in line]


def measure(pooler, what):
    pooler.write()
    time.sleep(1)
    pooler.loops()
    begin = time.monotonic()
    pooler.console.query("RELOAD")
    answer_us = int((time.monotonic() - begin) * 1e6)
    time.sleep(0.3)
    longest = pooler.loops()
    print(f"{what:<32} {longest['control']:>9} {longest['worker']:>9} {longest['login']:>9} {answer_us:>9}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pgsluice", default="./pgsluice")
    parser.add_argument("--databases", type=int, default=10000)
    parser.add_argument("--pools", type=int, default=2000, help="with a client in each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--realtime", action="store_true")
    args = parser.parse_args()
    pooler = Pooler(args, start_backend())
    clients = []
    try:
        for i in range(args.pools):
            clients.append(Session(pooler.port, "u", f"db{i}"))
        for client in clients:
            client.read_ready()
            client.query("select 1")
        print(f"{args.databases} databases, {args.pools} pools with a client; longest turn in us:")
        print(f"{'':<32} {'control':>9} {'worker':>9} {'login':>9} {'answer':>9}")
        measure(pooler, "nothing has changed")
        pooler.databases["db7"] = " pool_size=3"
        measure(pooler, "one pool gets another size")
        pooler.databases["db8"] = " connect_query='select 1'"
        measure(pooler, "the servers of one are no good")
        pooler.settings["server_idle_timeout"] = 700
        measure(pooler, "a setting changes for all pools")
        for i in range(1000):
            del pooler.databases[f"db{args.databases - 1 - i}"]
        measure(pooler, "1000 databases go, nobody there")
        for i in range(100):
            del pooler.databases[f"db{i}"]
        measure(pooler, "100 databases with pools go")
        for i in range(1000):
            pooler.databases[f"new{i}"] = ""
        measure(pooler, "1000 databases come")
        for i in range(100, args.pools):
            clients[i].query("select 1")
    finally:
        said = pooler.stop()
    print("\n".join(said))


if __name__ == "__main__":
    main()
