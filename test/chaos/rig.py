"""What a scenario works with: servers, the relay before them, the pooler before that, and clients."""
import collections
import contextlib
import os
import signal
import time

from harness import pooler as pl
from harness import procs
from harness.cluster import Cluster
from harness.standby import Node, common_port
from relay import Relay
from workload import TABLE, Workload

# The pooler is run with these unless a scenario says otherwise; those that matter here are written out even where
# they are the defaults.
SETTINGS = {
    "pool_mode": "transaction",
    "default_pool_size": 20,
    "max_client_conn": 3000,
    "server_tls_sslmode": "disable",
    "server_login_concurrency": 4,
    "server_connect_timeout": 2,
    "server_login_retry": 1,
    "query_wait_timeout": 120,
    "query_timeout_action": "cancel",
    "cancel_grace": 2,
    "breaker_failure_threshold": 5,
    "breaker_failure_rate": 50,
    "breaker_window": 30,
    "breaker_min_calls": 20,
    "breaker_recovery_timeout": 1,
    "breaker_success_threshold": 3,
    "breaker_open_action": "hold",
    "breaker_max_eject": 50,
    "health_interval": 1,
    "health_timeout": 1,
    "health_user": "monitor",
    "retry": "off",
    "verbose": 0,
    "log_connections": 0,
    "log_disconnections": 0,
}

# One server, or a primary that commits nothing which its standby has not: then no promotion can lose a row.
NODE_SETTINGS = {"max_connections": 200, "superuser_reserved_connections": 5, "log_min_messages": "fatal"}
SYNCHRONOUS = {"synchronous_standby_names": "standby"}


class Template:
    """A data directory that the servers of all scenarios begin with."""

    def __init__(self):
        self.cluster = Cluster(settings={"max_connections": 20})
        self.cluster.start()
        for command in ("create role app login", "create role monitor login", "create database app owner app"):
            self.cluster.sql(command)
        self.cluster.sql("alter schema public owner to app", dbname="app")
        with self.cluster.connect("app", "app") as c:
            for command in TABLE.split(";"):
                c.execute(command)
        self.cluster.stop()
        self.data = self.cluster.data

    def remove(self):
        self.cluster.remove()


class Rig:
    """
    The parts of one scenario, all started. `nodes` are the servers, with the letters a, b as the names of their
    endpoints at the relay: a is the primary, b its standby. With `twice` both endpoints lead to the one server.
    """

    def __init__(self, template, standby=False, twice=False, settings=None, database="", node_settings=None):
        self.parts = contextlib.ExitStack()
        self.nodes = []
        try:
            self._start_nodes(template, standby, node_settings or {})
            names = "ab" if standby or twice else "a"
            hosts = [f"127.0.0.{11 + i}" for i in range(len(names))]
            self.hosts = dict(zip(names, hosts))
            self.port = common_port(hosts)
            self.relay = Relay()
            self.parts.callback(self.relay.stop)
            for i, name in enumerate(names):
                node = self.nodes[0 if twice else i]
                self.relay.add(name, hosts[i], self.port, [node.host, node.port])
            entry = f"host={','.join(hosts)} port={self.port} dbname=app {database}"
            self.pooler = pl.Pooler({"app": entry}, settings={**SETTINGS, **(settings or {})}, profile="pgsluice")
            self.parts.callback(self.pooler.finish)
            self.pooler.start()
        except BaseException:
            self.parts.close()
            raise

    def _start_nodes(self, template, standby, settings):
        settings = {**NODE_SETTINGS, **settings}
        if standby:
            settings.update(SYNCHRONOUS)
        hosts = ["127.0.0.21", "127.0.0.22"] if standby else ["127.0.0.21"]
        port = common_port(hosts)
        self.add_node(Node(template.data, host=hosts[0], port=port, settings=settings)).start()
        if standby:
            second = self.add_node(Node(primary=self.nodes[0], host=hosts[1], port=port, settings=settings)).start()
            second.set(synchronous_standby_names="")
            second.sql("select pg_reload_conf()")
            procs.wait_until(
                lambda: self.nodes[0].sql("select 1 from pg_stat_replication where sync_state = 'sync'"),
                "the standby is synchronous",
                30,
            )

    def add_node(self, node):
        self.nodes.append(node)
        self.parts.callback(node.remove)
        return node

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.parts.__exit__(*exc)

    primary = property(lambda self: self.nodes[0])
    standby = property(lambda self: self.nodes[1])

    def workload(self, **kwargs):
        """Clients at work, until somebody stops them."""
        load = Workload(self.pooler.port, **kwargs).start()
        self.parts.callback(load.abandon)
        return load

    def query(self, sql, node=None):
        return (node or self.nodes[0]).sql(sql, dbname="app")

    # --- what is done to servers

    def processes(self, node):
        """The postmaster and all its children."""
        pid = node.proc.pid
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [pid] + [int(word) for word in f.read().split()]

    def signal_all(self, node, number):
        for pid in self.processes(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait_probed(self):
        """Until a probe has seen each endpoint: without its timeline an old primary cannot be told from a new one."""
        procs.wait_until(
            lambda: {row["reachable"] for row in self.pooler.show("endpoints")} == {"yes"}, "all hosts were probed", 20
        )

    def servers_at(self, name):
        """How many sessions the pooler has at this endpoint."""
        return sum(row["addr"] == self.hosts[name] for row in self.pooler.show("servers"))

    def backend(self, node):
        """The process of one of the pooler's sessions, one that is at work if there is any."""
        return node.value(
            "select pid from pg_stat_activity where datname = 'app' and usename = 'app'"
            " and backend_type = 'client backend' order by state = 'active' desc, query_start desc limit 1"
        )

    def promote(self, node):
        """Returns when the node accepts writes: the moment, by the monotonic clock."""
        with node.connect() as asker, node.connect() as judge:
            asker.execute("select pg_promote(wait => false)")
            while judge.execute("select pg_is_in_recovery()").fetchone()[0]:
                time.sleep(0.002)
        return time.monotonic()

    def stop_fast(self, node):
        node.stop(signal.SIGINT)


class Result:
    """What a scenario has come to; `facts` are figures of its own: (what, value, unit, limit or None)."""

    def __init__(self, name, title):
        self.name, self.title = name, title
        self.load, self.counts, self.codes = None, collections.Counter(), {}
        self.gap = self.first_write = self.full_rate = self.stall = None
        self.facts, self.failures, self.seconds, self.log = [], [], 0.0, ""

    def fact(self, what, value, unit, limit=None):
        self.facts.append((what, value, unit, limit))

    def fail(self, what):
        self.failures.append(what)

    def judge(self, load, query):
        """The clients against the table."""
        self.load = load
        self.counts, self.codes = load.compare(query)
        self.stall = load.longest_stall()
        for kind in ("lost", "doubled", "revived", "strange"):
            if self.counts[kind]:
                self.fail(f"{self.counts[kind]} rows {kind}")
        if load.wrong:
            self.fail(f"{len(load.wrong)} wrong answers, the first: {load.wrong[0]}")
        if load.hung:
            self.fail(f"{load.hung} clients hung")
        if not self.counts["committed"]:
            self.fail("nothing was written")

    def judge_recovery(self, load, begin, end, before):
        """
        From the begin of a fault on, the longest time without a write; from its end, the time until the first write,
        and until the rate is what it was before.
        """
        self.gap = load.gap_after(begin)
        self.first_write = load.first_write_after(end)
        self.full_rate = load.full_rate_after(end, before)
        if self.first_write is None:
            self.fail("no write after the fault")

    def judge_facts(self):
        """Figures with a limit must be there, and keep to it."""
        for what, value, unit, limit in self.facts:
            if limit is not None and (value is None or value > limit):
                self.fail(f"{what}: {value}, at most {limit} {unit}")
