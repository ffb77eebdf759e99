"""A pooler and a PostgreSQL that are asked the same, and the loops that ask them."""
import os
import random
import threading

import pytest

from . import differential as diff
from . import scripts, wire

MORE = int(os.environ.get("PGSLUICE_TEST_PIPELINES", "1"))  # times as many random pipelines


class Bench:
    """Two databases with the same content: one for direct sessions, one behind a pooler."""

    def __init__(self, make_pooler, cluster, database, clients=1, **settings):
        self.cluster, self.databases = cluster, [database(), database()]
        for db in self.databases:
            cluster.sql(scripts.schema(clients), dbname=db)
        profile = settings.pop("profile", "pgbouncer")
        threads = settings.pop("threads", None)
        self.pooler = make_pooler(
            {"app": f"host={cluster.dir} port={cluster.port} dbname={self.databases[1]}"},
            settings={"pool_mode": "transaction", "default_pool_size": 1, "query_wait_notify": 0, **settings},
            profile=profile,
            threads=threads,
        )
        self.reference = diff.Reference(cluster, self.databases[0])

    def login(self):
        conn = wire.Conn.unix(self.pooler.socket_path)
        conn.login("app", "app")
        return conn

    def direct(self, segments):
        return self.reference.play(segments)

    def pooled(self, segments, expected, **kwargs):
        conn = self.login()
        try:
            return diff.play_pooled(conn, segments, expected, **kwargs)
        finally:
            conn.close()

    def check(self, segments, **kwargs):
        expected = self.direct(segments)
        diff.compare(expected, self.pooled(segments, expected, **kwargs))
        return expected

    def differs(self, segments):
        if self.pooler.proc.poll() is not None:
            return False
        try:
            self.pooler.admin("RECONNECT")  # what a script before it has left on the server is no part of this one
            self.check(segments, timeout=2)
        except diff.Difference:
            return True
        return False

    def explain(self, messages, cut, seed, error):
        """The failure with the shortest script that shows it."""
        if self.pooler.proc.poll() is not None:
            return f"the pooler died: {error}"
        short = diff.shrink(messages, lambda m: self.differs(cut(m, random.Random(seed))))
        try:
            self.check(cut(short, random.Random(seed)), timeout=2)
            short_error = "which passes now"
        except diff.Difference as e:
            short_error = e
        lines = "\n".join("  " + diff.show_client(m) for m in short)
        return f"seed {seed}, {cut.__name__}: {error}\nshortest script:\n{lines}\n{short_error}"

    def same_tables(self, clients=1):
        """Both databases hold the same rows: what the answers said is what happened."""
        for k in range(clients):
            for sql in (f"select i, s from t{k} order by 1, 2", f"select i from late{k} order by 1"):
                rows = [self.cluster.sql(sql, dbname=db) for db in self.databases]
                assert rows[0] == rows[1], sql


def alone(b, name, cut, rounds, settle=None, **maker):
    """One client after the other plays random scripts; a failure shows the shortest script that fails as well."""
    for seed in range(rounds * MORE):
        rng = random.Random(f"{name} {seed}")
        messages = scripts.Maker(rng, doubt=cut is diff.cut_whole, **maker).script()
        try:
            b.check(cut(messages, random.Random(seed)))
        except diff.Difference as e:
            pytest.fail(b.explain(messages, cut, seed, e), pytrace=False)
        if settle:
            settle()
    b.same_tables()


def crowd(b, name, clients, rounds, **maker):
    """Each client plays its own random scripts, all at once; the first difference fails the test."""
    jobs = []
    for k in range(clients):
        jobs.append([])
        for n in range(rounds * MORE):
            rng = random.Random(f"{name} {k} {n}")
            cut = rng.choice(sorted(diff.CUTS))
            messages = scripts.Maker(rng, k, doubt=cut == "whole", **maker).script()
            segments = diff.CUTS[cut](messages, rng)
            jobs[k].append((messages, segments, b.direct(segments)))
    failures, start = [], threading.Barrier(clients)

    def run(k):
        start.wait()
        for messages, segments, expected in jobs[k]:
            if failures:
                return
            try:
                diff.compare(expected, b.pooled(segments, expected, timeout=60))
            except Exception as e:
                script = "\n".join("  " + diff.show_client(m) for m in messages)
                failures.append(f"client {k}, {len(segments)} segments:\n{script}\n{e!r}")

    threads = [threading.Thread(target=run, args=(k,)) for k in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)
    b.same_tables(clients)


def play_cases(b, cases, cut):
    """All of a dict of pipelines; what fails is told with its name."""
    failures = []
    for name, messages in cases.items():
        try:
            b.check(cut([wire.query("delete from t0; delete from late0")] + messages, random.Random(name)))
        except diff.Difference as e:
            failures.append(f"{name}: {e}")
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)
    b.same_tables()
