"""
A random workload under the shadow check: before each return of a server to its pool a debug build asks PostgreSQL
for what the server has, and ends with an assertion when the pooler believes anything else. The clients know
meanwhile what each of their statements is, and compare, too.
"""
import os
import random
import threading

import pytest
from harness import wire
from harness.pooler import binary

pytestmark = pytest.mark.ours

STEPS = 1500 * int(os.environ.get("PGSLUICE_TEST_SHADOW", "1"))
CLIENTS = 5
ZONES = ["UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York"]
STYLES = ["ISO, DMY", "SQL, MDY", "German, DMY"]
SHOWN = ["timezone", "datestyle", "application_name"]
SHOW = "select " + ", ".join(f"current_setting('{name}')" for name in SHOWN)


def is_debug_build():
    with open(binary(), "rb") as f:
        return b"PGSLUICE_SHADOW" in f.read()


class Batch:
    """Messages up to a Sync, and what must come back: rows, and one of some errors, or none."""

    def __init__(self):
        self.bytes, self.rows, self.codes, self.told = b"", [], None, ""

    def add(self, told, *messages, rows=(), codes=None):
        """More messages; without effect behind an error, so the caller may change its model only if it is True."""
        self.bytes += b"".join(messages)
        self.told += f" {told}"
        if self.codes is not None:
            return False
        self.rows += rows
        self.codes = codes
        return codes is None

    def check(self, result):
        code = result.error.code if result.error else None
        good = code in self.codes if self.codes else code is None
        if not good or result.rows != [list(r) for r in self.rows]:
            raise AssertionError(f"{self.told}: {result.rows} {result.error}, not {self.rows} {self.codes}")


class Worker(threading.Thread):
    """One client after another, each of which knows its statements and parameters."""

    def __init__(self, pooler, index, steps):
        super().__init__()
        self.pooler, self.index, self.steps = pooler, index, steps
        self.rng, self.conn, self.failure, self.trace = random.Random(f"shadow {index}"), None, None, []

    def run(self):
        try:
            self.connect()
            for _ in range(self.steps):
                self.step()
            self.conn.terminate()
        except BaseException as e:  # shown by the test
            self.failure = e

    def connect(self):
        self.names, self.unnamed = {}, None
        self.params = [self.rng.choice(ZONES), self.rng.choice(STYLES), f"app{self.index}"]
        self.conn = wire.Conn.tcp(self.pooler.port, timeout=120)
        self.conn.login(params=dict(zip(SHOWN, self.params)))

    def text(self):
        """A statement that all clients may have, and its row."""
        number = self.rng.randrange(30)
        return f"select {number}, '{'x' * (number % 3)}'", [str(number), "x" * (number % 3)]

    def name(self):
        return f"s{self.rng.randrange(6)}"

    # --- parts of batches

    def add_parse(self, b):
        name, (sql, row) = self.name(), self.text()
        if name in self.names:
            b.add(f"parse known {name}", wire.parse(name, sql), codes=["42P05"])
        elif b.add(f"parse {name}", wire.parse(name, sql)):
            self.names[name] = row

    def add_use(self, b):
        name = self.rng.choice(list(self.names) or [self.name()])
        messages = [wire.bind("", name), wire.execute()]
        if self.rng.random() < 0.3:
            messages.insert(0, wire.describe("S", name))
        if name in self.names:
            b.add(f"use {name}", *messages, rows=[self.names[name]])
        else:
            b.add(f"use unknown {name}", *messages, codes=["26000"])

    def add_close(self, b):
        name = self.name()
        if b.add(f"close {name}", wire.close("S", name)):
            self.names.pop(name, None)

    def add_unnamed(self, b):
        sql, row = self.text()
        b.add("unnamed", wire.parse("", sql), wire.bind(), wire.describe("P"), wire.execute(), rows=[row])

    def add_syntax_error(self, b):
        name = self.name()
        codes = ["42P05", "42601"] if name in self.names else ["42601"]
        b.add(f"bad parse {name}", wire.parse(name, "selec 1"), codes=codes)

    def add_failure(self, b):
        b.add("fail", wire.parse("", "select 1/$1::int"), wire.bind("", "", [0]), wire.execute(), codes=["22012"])

    def add_deallocate(self, b):
        name = self.name()
        messages = [wire.parse("", f"deallocate {name}"), wire.bind(), wire.execute()]
        if name not in self.names:
            b.add(f"deallocate unknown {name}", *messages, codes=["26000"])
        elif b.add(f"deallocate {name}", *messages):
            del self.names[name]

    def batch(self, parts=None, makers=None):
        b = Batch()
        usual = [self.add_use] * 6 + [self.add_parse] * 5 + [self.add_unnamed] * 3 + [self.add_close]
        usual += [self.add_syntax_error, self.add_failure, self.add_deallocate]
        for _ in range(parts or self.rng.randrange(1, 5)):
            self.rng.choice(makers or usual)(b)
        b.add("sync", wire.SYNC)
        return b

    def run_batches(self, batches):
        self.trace = self.trace[-20:] + [b.told for b in batches]
        self.conn.send(*[b.bytes for b in batches])
        for b in batches:
            b.check(self.conn.read_ready())

    def query(self, sql, rows=(), codes=None):
        b = Batch()
        b.add(sql, wire.query(sql), rows=rows, codes=codes)
        self.run_batches([b])

    # --- steps

    def step_batch(self):
        self.run_batches([self.batch()])

    def step_pipeline(self):
        self.run_batches([self.batch() for _ in range(self.rng.randrange(2, 6))])

    def step_transaction(self):
        before = list(self.params)
        self.query("begin")
        failed = False
        for _ in range(self.rng.randrange(1, 5)):
            b = self.batch()
            self.run_batches([b])
            failed = b.codes is not None
            if failed:
                break
            if self.rng.random() < 0.3:
                self.step_set()
        if failed and self.rng.random() < 0.5:
            self.query("select 1", codes=["25P02"])
        if failed or self.rng.random() < 0.3:
            self.params = before
            self.query("rollback")
        else:
            self.query("commit")

    def step_savepoint(self):
        self.query("begin")
        self.query("savepoint a")
        b = self.batch()
        self.run_batches([b])
        self.query("rollback to savepoint a")
        self.run_batches([self.batch(1)])
        self.query("rollback")

    def step_set(self):
        i = self.rng.randrange(len(SHOWN))
        value = self.rng.choice([ZONES, STYLES, [f"app{self.index}", "other"]][i])
        self.query(f"set {SHOWN[i]} to '{value}'")
        self.params[i] = value

    def step_set_local(self):
        self.query(f"begin; set local timezone to '{self.rng.choice(ZONES)}'; commit")

    def step_show(self):
        self.query(SHOW, rows=[self.params])

    def step_forget(self):
        command = self.rng.choice(["deallocate all", "discard all"])
        self.query(command)
        self.names = {}
        if command == "discard all":
            self.conn.send(wire.query(SHOW))
            self.params = self.conn.read_ready().rows[0]

    def step_forget_in_pipeline(self):
        """What is used behind is new: a name that the command is about to forget is still found by who does not wait."""
        batches = [self.batch(1), Batch()]
        batches[1].add("deallocate all", wire.query("deallocate all"))
        self.names = {}
        for _ in range(2):
            batches.append(self.batch(1, [self.add_parse, self.add_unnamed]))
        self.run_batches(batches)

    def step_deallocate(self):
        name = self.name()
        known = self.names.pop(name, None)
        self.query(f"deallocate {name}", codes=None if known else ["26000"])

    def step_sql_prepare(self):
        self.query("prepare q as select 'pinned'")
        self.query("execute q", rows=[["pinned"]])
        self.run_batches([self.batch()])
        if self.rng.random() < 0.3:
            self.step_leave()
        else:
            self.query("deallocate q")

    def step_ddl(self):
        self.query(f"alter table shadow{self.index} set (fillfactor = {self.rng.randrange(50, 100)})")

    def step_unnamed_later(self):
        """What was parsed without a name may be bound in a later transaction."""
        sql, row = self.text()
        self.conn.send(wire.parse("", sql), wire.SYNC)
        assert self.conn.read_ready().error is None
        b = Batch()
        b.add("unnamed, later", wire.bind(), wire.execute(), wire.SYNC, rows=[row])
        self.run_batches([b])

    def step_leave(self):
        """Goes away, in good order, at once, in the middle of a batch, inside of a transaction."""
        how = self.rng.randrange(4)
        if how == 0:
            self.conn.terminate()
        elif how == 1:
            self.conn.send(self.batch().bytes)
        elif how == 2:
            self.conn.send(self.batch().bytes[:-3])
        else:
            self.query("begin")
            self.conn.send(self.batch().bytes)
        self.conn.close()
        self.connect()

    def step(self):
        steps = [self.step_batch] * 20 + [self.step_pipeline] * 8 + [self.step_transaction] * 5
        steps += [self.step_set, self.step_show, self.step_unnamed_later, self.step_set_local, self.step_savepoint] * 3
        steps += [self.step_forget, self.step_forget_in_pipeline, self.step_deallocate, self.step_sql_prepare]
        steps += [self.step_ddl, self.step_leave]
        self.rng.choice(steps)()


@pytest.mark.parametrize("reuse", [0, 1])
@pytest.mark.parametrize("servers", [1, 3])
def test_servers_have_what_we_believe(make_pooler, cluster, database, servers, reuse):
    if not is_debug_build():
        pytest.skip("needs a build with --enable-debug")
    db = database()
    with cluster.connect(db) as direct:
        for i in range(CLIENTS):
            direct.execute(f"create table shadow{i} (x int); alter table shadow{i} owner to app")
    p = make_pooler(
        {"app": cluster.dsn(dbname=db)},
        settings={
            "pool_mode": "transaction",
            "default_pool_size": servers,
            "max_prepared_statements": 7,
            "reuse_unnamed_statements": reuse,
            "log_connections": 0,
            "log_disconnections": 0,
        },
        profile="pgsluice",
        env={"PGSLUICE_SHADOW": "1"},
    )
    workers = [Worker(p, i, STEPS // 2 // CLIENTS) for i in range(CLIENTS)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    failures = [f"client {w.index}: {w.failure!r}\n  " + "\n  ".join(w.trace) for w in workers if w.failure]
    assert not failures, "\n".join(failures)
    row = next(r for r in p.show("stats") if r["database"] == "app")
    assert int(row["total_server_parse_count"]) > 5 * servers, "statements were evicted and given again"
