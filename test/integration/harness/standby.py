"""A primary with streaming standbys: promotion, demotion, and an old primary that comes back."""
import contextlib
import glob
import os
import shutil
import signal
import socket

from . import procs
from .cluster import Cluster

SETTINGS = {
    "wal_level": "replica",
    "max_wal_senders": 10,
    "max_connections": 100,
    "wal_keep_size": "256MB",  # whoever was away for a while catches up without slots
    "wal_log_hints": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_receiver_timeout": "5s",
    "wal_retrieve_retry_interval": "100ms",
}
HBA = ["host all all 127.0.0.0/8 trust", "host replication all 127.0.0.0/8 trust"]


def common_port(hosts):
    """A port that is free at all of these addresses."""
    while True:
        port = procs.free_port()
        try:
            for host in hosts:
                with socket.socket() as probe:
                    probe.bind((host, port))
            return port
        except OSError:
            continue


class Node(Cluster):
    """
    One of several servers with the same data. `host` is an address of the loopback interface. As with Cluster, the
    constructor starts nothing; `primary` None makes the first one, from a template.
    """

    def __init__(self, template=None, primary=None, host="127.0.0.1", port=None, settings=None):
        self.host = host
        if primary is None:
            super().__init__(template, {**SETTINGS, **(settings or {})}, HBA)
            self.port = port or self.port
            self._place()
            return
        self.bin, self.dir, self.proc = primary.bin, procs.make_dir("sluicepg-"), None
        self.data, self.log = f"{self.dir}/data", f"{self.dir}/postgres.log"
        self.port = port or procs.free_port()
        self._clone(primary)
        self._place(**(settings or {}))
        self.follow(primary)

    def _clone(self, source):
        """
        Makes the data directory a copy of that of a running primary, by SQL and not by pg_basebackup, which would have
        to be of the same version as the server.
        """
        shutil.rmtree(self.data, ignore_errors=True)
        with source.connect() as c:
            start, stop = "pg_backup_start('standby', true)", "pg_backup_stop()"
            if c.info.server_version < 150000:
                start, stop = "pg_start_backup('standby', true, false)", "pg_stop_backup(false)"
            c.execute(f"select {start}")
            procs.run(["cp", "-r", source.data, self.data], check=False)  # some files come and go
            (label,) = c.execute(f"select labelfile from {stop}").fetchone()
        procs.run(["touch", f"{self.data}/backup_label"])  # so that it belongs to whom the server runs as
        with open(f"{self.data}/backup_label", "w") as f:
            f.write(label)
        os.remove(f"{self.data}/postmaster.pid")
        for name in glob.glob(f"{self.data}/pg_wal/0*"):
            os.remove(name)  # it gets them from the primary

    def _place(self, **settings):
        """Its address, which comes last in the file and so holds."""
        self.set(listen_addresses=self.host, port=self.port, unix_socket_directories=self.dir, **settings)

    def set(self, **settings):
        """Settings from the next start, or SIGHUP, on."""
        with open(f"{self.data}/postgresql.auto.conf", "a") as f:
            f.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def follow(self, primary):
        """From its next start on it is a standby of this one, on whatever timeline that is."""
        with open(f"{self.data}/standby.signal", "w"):
            pass
        self.set(
            primary_conninfo=f"host={primary.host} port={primary.port} user=postgres application_name=standby",
            recovery_target_timeline="latest",
        )

    def promote(self):
        """Becomes a primary, on a new timeline; returns when it accepts writes."""
        self.sql("select pg_promote()")
        self.wait_role("primary")

    def is_standby(self):
        return self.value("select pg_is_in_recovery()")

    def wait_role(self, role):
        procs.wait_until(lambda: self.is_standby() == (role == "standby"), f"{self.host}:{self.port} is a {role}", 30)

    def wait_caught_up(self, primary):
        """All that the primary has written by now has been replayed here."""
        lsn = primary.value("select pg_current_wal_flush_lsn()")
        procs.wait_until(
            lambda: self.value("select coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, true)", (lsn,)),
            f"{self.host}:{self.port} has replayed up to {lsn}",
            30,
        )

    def timeline(self):
        """Of the last checkpoint: after a promotion it may be behind for a moment."""
        return self.value("select timeline_id from pg_control_checkpoint()")

    def rejoin(self, primary):
        """A former primary that was stopped in good order comes back as a standby; what only it has is undone."""
        self._clone(primary)
        self._place()  # its settings are now those of the other
        self.follow(primary)
        self.start()
        self.wait_role("standby")

    def kill(self):
        """kill -9 of every process of it. It may be started again."""
        with open(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children") as f:
            children = [int(pid) for pid in f.read().split()]
        self.stop(signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def dsn(self, **extra):
        return " ".join([f"host={self.host}", f"port={self.port}"] + [f"{k}={v}" for k, v in extra.items()])


class Pair:
    """
    A primary and its standby, running: at one port of two addresses, or at two ports of one.

    `pair.primary` and `pair.standby` are the roles that they began with.
    """

    def __init__(self, template, same_port=True, settings=None):
        hosts = ("127.0.0.1", "127.0.0.2") if same_port else ("127.0.0.1", "127.0.0.1")
        port = common_port(hosts) if same_port else None
        self.nodes = []
        try:
            self.primary = self._add(Node(template, host=hosts[0], port=port, settings=settings))
            self.standby = self._add(Node(primary=self.primary, host=hosts[1], port=port, settings=settings))
            self.standby.wait_caught_up(self.primary)
        except BaseException:
            self.remove()
            raise

    def _add(self, node):
        self.nodes.append(node)
        return node.start()

    def dsn(self, **extra):
        """A [databases] value with both."""
        hosts = ",".join(n.host for n in self.nodes)
        ports = ",".join(str(n.port) for n in self.nodes)
        if len({n.port for n in self.nodes}) == 1:
            ports = str(self.nodes[0].port)
        return " ".join([f"host={hosts}", f"port={ports}"] + [f"{k}={v}" for k, v in extra.items()])

    def remove(self):
        for node in self.nodes:
            node.remove()
