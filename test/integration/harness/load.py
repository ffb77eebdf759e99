"""Clients that know every answer in advance, and the balance of the books when they are gone."""
import random
import threading

from . import wire
from .pooler import servers_of
from .procs import wait_until


def adds_up(p, database="app"):
    """At rest: nobody waits, no server is busy, and the counts of all displays agree."""
    p.close_clients()
    p.wait_no_clients()

    def check():
        rows = p.show("pools")
        lists = p.lists()
        servers = [r for r in p.show("servers")]
        pools = [r for r in rows if r["database"] != "pgbouncer" and r["database"] != "pgsluice"]
        busy = [
            r
            for r in pools
            if r["sv_active"]
            or r["sv_tested"]
            or r["cl_active"]
            or r["cl_waiting"]
            or r["cl_active_cancel_req"]
            or r["cl_waiting_cancel_req"]
        ]
        total = sum(servers_of(r) for r in pools)
        row = {r["name"]: r for r in p.show("databases")}[database]
        seen = {
            "busy": busy,
            "pools": total,
            "lists": lists["used_servers"],
            "servers": len(servers),
            "database": row["current_connections"],
            "login": lists["login_clients"],
        }
        state["seen"] = seen
        return (
            not busy
            and total == len(servers) == lists["used_servers"] == row["current_connections"]
            and lists["login_clients"] == 0
        )

    state = {}
    wait_until(check, lambda: f"SHOW POOLS, LISTS, SERVERS and DATABASES agree: {state}\n{p.log_tail()}", step=0.05)


class Load(threading.Thread):
    """A client that runs tagged queries for ever, and comes back when it is thrown out."""

    def __init__(self, p, number, stop):
        super().__init__(daemon=True)
        self.p, self.number, self.stop, self.done, self.lost, self.wrong = p, number, stop, 0, 0, []
        self.told = []  # errors that ended a connection

    def run(self):
        rng = random.Random(self.number)
        while not self.stop.is_set():
            try:
                with wire.Conn.tcp(self.p.port, timeout=30) as c:
                    c.login()
                    while not self.stop.is_set():
                        self.one(c, rng)
                    c.terminate()
            except (wire.PgError, wire.Closed, OSError) as e:
                self.lost += 1
                self.told += self.texts_of(e)
                self.stop.wait(0.02)
            except Exception as e:
                self.wrong.append(repr(e))
                return

    @staticmethod
    def texts_of(e):
        if isinstance(e, wire.PgError):
            return [e.text]
        if isinstance(e, wire.Closed):
            return [error.text for error in wire.Result(e.messages).errors]
        return []

    def one(self, c, rng):
        tag = f"{self.number}-{self.done}"
        if rng.random() < 0.3:
            c.send(wire.query("begin"), wire.query(f"select '{tag}'"), wire.query("commit"))
            results = [c.read_ready() for _ in range(3)]
            rows = results[1].rows
        elif rng.random() < 0.5:
            c.send(wire.extended("select $1::text", [tag]), wire.SYNC)
            rows = c.read_ready().rows
        else:
            rows = c.query(f"select '{tag}'").rows
        if rows != [[tag]]:
            self.wrong.append((tag, rows))
        self.done += 1


def run_load(p, count, during):
    """Let `count` clients work while during() runs, and for a while after; all must go on. They come back."""
    stop = threading.Event()
    load = [Load(p, n, stop) for n in range(count)]
    for t in load:
        t.start()
    try:
        wait_until(lambda: all(t.done > 3 for t in load), "every client got answers", timeout=20)
        during()
        before = [t.done for t in load]
        wait_until(
            lambda: all(t.done > b + 3 for t, b in zip(load, before)),
            lambda: f"every client gets answers again: {[t.done - b for t, b in zip(load, before)]}\n{p.log_tail()}",
            timeout=30,
        )
    finally:
        stop.set()
    for t in load:
        t.join(30)
        assert not t.is_alive(), f"client {t.number} hangs\n{p.log_tail()}"
    wrong = [w for t in load for w in t.wrong]
    assert not wrong, wrong
    return load
