"""A throw-away PostgreSQL cluster with a role for every way in which a server may ask for a password."""
import glob
import os
import shutil
import signal
import subprocess

import psycopg

from . import procs

ROLES = {
    # role: (password, how it is stored, what pg_hba.conf asks for)
    "app": ("apppw", "scram-sha-256", "trust"),
    "app2": ("app2pw", "scram-sha-256", "trust"),
    "plainuser": ("plainpw", "scram-sha-256", "password"),
    "md5user": ("md5pw", "md5", "md5"),
    "scramuser": ("scrampw", "scram-sha-256", "scram-sha-256"),
    "limited": ("limitedpw", "scram-sha-256", "trust"),
}


def bindir():
    """Where the PostgreSQL programs lie: $PG_BINDIR, the newest packaged version, or the path. None without one."""
    if os.environ.get("PG_BINDIR"):
        return os.environ["PG_BINDIR"]
    packaged = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if packaged:
        return os.path.dirname(max(packaged, key=lambda p: int(p.split("/")[4])))
    found = shutil.which("initdb")
    return os.path.dirname(found) if found else None


class Cluster:
    """
    One data directory and its postmaster. Not started by the constructor.

    `settings` are added to postgresql.auto.conf, `hba` lines to pg_hba.conf.
    """

    def __init__(self, template=None, settings=None, hba=()):
        self.bin = bindir()
        self.dir = procs.make_dir("sluicepg-")
        self.data = os.path.join(self.dir, "data")
        self.log = os.path.join(self.dir, "postgres.log")
        self.port = procs.free_port()
        self.proc = None
        if template:
            procs.run(["cp", "-r", template, self.data])
        else:
            self._initdb()
        self._configure(settings or {}, hba)

    @classmethod
    def of_data(cls, data):
        """One with the data directory that something else has made; its port and directory are the caller's to set."""
        own = cls.__new__(cls)
        own.bin, own.data = bindir(), data
        own.dir, own.port, own.proc = procs.make_dir("sluicepg-"), procs.free_port(), None
        own.log = os.path.join(own.dir, "postgres.log")
        return own

    def _initdb(self):
        procs.run(
            [
                f"{self.bin}/initdb",
                "-D",
                self.data,
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ]
        )
        hba = []
        for role, (_, _, method) in ROLES.items():
            hba += [f"local all {role} {method}", f"host all {role} 127.0.0.1/32 {method}"]
        hba += ["local all all trust", "host all all 127.0.0.1/32 trust", "host all all ::1/128 trust"]
        with open(f"{self.data}/pg_hba.conf", "w") as f:
            f.write("\n".join(hba) + "\n")

    def _configure(self, settings, hba):
        with open(f"{self.data}/postgresql.auto.conf", "w") as f:
            f.write(
                f"""
listen_addresses = '127.0.0.1'
port = {self.port}
unix_socket_directories = '{self.dir}'
max_connections = 600
superuser_reserved_connections = 10
shared_buffers = 64MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
wal_level = minimal
max_wal_senders = 0
jit = off
timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d %a '
"""
            )
            f.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        with open(f"{self.data}/pg_hba.conf", "a") as f:
            f.writelines(f"{line}\n" for line in hba)

    def create_objects(self):
        """Roles, databases and the pgbench tables. Once per template."""
        with self.connect() as c:
            for role, (password, stored, _) in ROLES.items():
                c.execute(f"set password_encryption = '{stored}'")
                c.execute(f"create role {role} login password '{password}'")
            c.execute("alter role limited connection limit 0")
            c.execute("create database app owner app")
            c.execute("create database bench owner app")
            c.execute("grant create on database app to public")
        with self.connect("app") as c:
            c.execute("grant all on schema public to public")
        procs.run(
            [f"{self.bin}/pgbench", "-i", "-q", "-s", "2", "-h", self.dir, "-p", str(self.port), "-U", "app", "bench"]
        )

    def start(self, env=None):
        command = [f"{self.bin}/postgres", "-D", self.data]
        with open(self.log, "ab") as log:
            env = {**os.environ, **(env or {})}
            self.proc = procs.spawn(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)
        procs.wait_until(self._is_ready, lambda: f"PostgreSQL on {self.port}\n" + procs.tail(self.log), timeout=30)
        return self

    def _is_ready(self):
        if self.proc.poll() is not None:
            raise AssertionError(f"PostgreSQL ended with {self.proc.returncode}\n" + procs.tail(self.log))
        try:
            self.connect(connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how=signal.SIGINT):
        """SIGINT: fast shutdown, SIGQUIT: immediate, as after a crash."""
        if self.proc is None:
            return
        self.proc.send_signal(how)
        try:
            self.proc.wait(30)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc = None

    def remove(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.dir, ignore_errors=True)

    def info(self):
        """What another process needs to use this cluster."""
        return {"dir": self.dir, "data": self.data, "log": self.log, "port": self.port, "bin": self.bin}

    def connect(self, dbname="postgres", user="postgres", **kwargs):
        """A direct autocommit connection over the Unix socket, past any pooler."""
        kwargs.setdefault("connect_timeout", 10)
        return psycopg.connect(host=self.dir, port=self.port, dbname=dbname, user=user, autocommit=True, **kwargs)

    def sql(self, query, params=None, dbname="postgres"):
        """Rows of one statement as the superuser; an empty list if it returns none."""
        with self.connect(dbname) as c:
            cur = c.execute(query, params)
            return cur.fetchall() if cur.description else []

    def value(self, query, params=None, dbname="postgres"):
        return self.sql(query, params, dbname)[0][0]

    def backends(self, dbname, user=None):
        """Number of client backends in a database."""
        return self.value(
            "select count(*) from pg_stat_activity where datname = %s and backend_type = 'client backend'"
            " and (%s::text is null or usename = %s)",
            (dbname, user, user),
        )

    def wait_running(self, tag):
        """Wait until a query with this text in it runs; before that a cancel request would find nothing to cancel."""
        procs.wait_until(
            lambda: self.value(
                "select count(*) from pg_stat_activity where state = 'active' and query like %s and pid <> pg_backend_pid()",
                (f"%{tag}%",),
            ),
            f"the query {tag} runs",
        )

    def dsn(self, **extra):
        """A [databases] value that leads here over TCP."""
        return " ".join(["host=127.0.0.1", f"port={self.port}"] + [f"{k}={v}" for k, v in extra.items()])


class RemoteCluster(Cluster):
    """A running cluster that another process owns."""

    def __init__(self, info):
        self.bin, self.dir, self.data = info["bin"], info["dir"], info["data"]
        self.log, self.port, self.proc = info["log"], info["port"], None

    def start(self):
        raise AssertionError("this cluster belongs to another process")

    def stop(self, how=signal.SIGINT):
        raise AssertionError("this cluster is shared; ask for private_cluster to stop one")
