"""The pooler under test: its files, its process, and what a test asks of it."""
import functools
import glob
import os
import re
import shutil
import signal
import struct
import subprocess

import psycopg

from . import procs
from .wire import CODE_CANCEL, Conn, PgError

BROKEN = re.compile(
    r"assertion failed|AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer|runtime error:"
    r"|SUMMARY: \w+Sanitizer",
    re.I,
)

SECRETS = {
    "app": "apppw",
    "app2": "app2pw",
    "admin": "adminpw",
    "stats": "statspw",
    "postgres": "",
    "limited": "limitedpw",
}


def binary():
    """The program under test: $PGSLUICE, else the one in the build tree that we run from."""
    path = os.environ.get("PGSLUICE") or os.path.join(os.environ.get("builddir", os.getcwd()), "pgsluice")
    return shutil.which(path) or path


def version(program=None):
    """(name, (major, minor)) by --version."""
    text = subprocess.run([program or binary(), "--version"], text=True, capture_output=True, timeout=20).stdout
    found = re.search(r"(\S+) (\d+)\.(\d+)", text)
    return (found[1].lower(), (int(found[2]), int(found[3]))) if found else ("", (0, 0))


def is_pgbouncer(program=None):
    """True for PgBouncer, be it what the whole suite is tried against: the settings of pgsluice alone are left out."""
    return os.path.basename(program or binary()).startswith("pgbouncer")


@functools.lru_cache
def has_feature(name):
    """What --version says about a part that a build may be without, such as ldap and pam."""
    text = subprocess.run([binary(), "--version"], text=True, capture_output=True, timeout=20).stdout
    return f"\n{name}: yes\n" in text


@functools.lru_cache
def is_instrumented():
    """True for a build with a sanitizer, which needs more memory and time."""
    with open(binary(), "rb") as f:
        text = f.read()
    return b"__asan_init" in text or b"__tsan_init" in text


def quote(text):
    return '"' + text.replace('"', '""') + '"'


def ini_value(value):
    return "" if value is None else str(value)


class Pooler:
    """
    One instance with its directory, ports and log.

    `settings` go below the profile header over the defaults that a test needs (None drops one), `databases` and
    `users` and `peers` are the lines of those sections, `secrets` the auth_file. `threads` None leaves that setting
    out. `program` is another program than the one under test.
    """

    def __init__(
        self,
        databases,
        settings=None,
        users=None,
        secrets=None,
        profile="pgbouncer",
        threads=None,
        args=(),
        raw_ini=None,
        raw_secrets=None,
        env=None,
        peers=None,
        port=None,
        program=None,
    ):
        self.program = program or binary()
        self.dir = procs.make_dir("sluice-")
        self.port = port or procs.free_port()
        self.ini, self.log = f"{self.dir}/pooler.ini", f"{self.dir}/stderr.log"
        self.userlist, self.pidfile = f"{self.dir}/users.txt", f"{self.dir}/pooler.pid"
        self.raw_secrets = raw_secrets
        self.profile, self.args, self.raw_ini, self.env = profile, list(args), raw_ini, env or {}
        self.databases, self.users, self.peers = dict(databases), dict(users or {}), dict(peers or {})
        self.secrets = dict(SECRETS) if secrets is None else dict(secrets)
        self.settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": self.dir,
            "auth_type": "trust",
            "auth_file": self.userlist,
            "admin_users": "admin",
            "stats_users": "stats",
            "pidfile": self.pidfile,
            "server_login_retry": 1,
        }
        if threads is None and os.environ.get("PGSLUICE_TEST_THREADS"):
            threads = os.environ["PGSLUICE_TEST_THREADS"]
        if threads is not None and not is_pgbouncer(self.program):
            self.settings["threads"] = threads
        for key, value in (settings or {}).items():
            if value is None:
                self.settings.pop(key, None)
            else:
                self.settings[key] = value
        self.proc, self.conns, self.expected_rc, self.exit_wanted = None, [], 0, False
        self.pass_fds = ()  # descriptors that the program inherits

    # --- files

    def write(self, path, text, mode=0o644):
        """Writes a file so that nobody ever reads half of it: a reload may be under way."""
        fresh = path + ".new"
        with open(fresh, "w") as f:
            f.write(text)
        os.chmod(fresh, mode)
        if os.geteuid() == 0:
            shutil.chown(fresh, procs.ORDINARY_USER, procs.ORDINARY_USER)
        os.replace(fresh, path)

    def ini_text(self):
        if self.raw_ini is not None:
            return self.raw_ini
        lines = [f"[{self.profile}]"] + [f"{k} = {ini_value(v)}" for k, v in self.settings.items()]
        lines += ["", "[databases]"] + [f"{k} = {v}" for k, v in self.databases.items()]
        if self.users:
            lines += ["", "[users]"] + [f"{k} = {v}" for k, v in self.users.items()]
        if self.peers:
            lines += ["", "[peers]"] + [f"{k} = {v}" for k, v in self.peers.items()]
        return "\n".join(lines) + "\n"

    def write_files(self):
        lines = [f"{quote(u)} {quote(s)}\n" for u, s in self.secrets.items()]
        self.write(self.userlist, self.raw_secrets or "".join(lines))
        self.write(self.ini, self.ini_text())

    # --- process

    def command(self, *args):
        return [self.program, *args, self.ini]

    def start(self, wait=True):
        self.write_files()
        env = dict(os.environ, **self.env)
        # A small quarantine: tests look at the memory of the process.
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":exitcode=99:detect_leaks=1:quarantine_size_mb=8"
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        env.setdefault("TSAN_OPTIONS", "exitcode=66:second_deadlock_stack=1")
        for name in [n for n in env if n.startswith("PG") and not n.startswith("PGSLUICE")]:
            del env[name]
        self.exit_wanted = False
        with open(self.log, "ab") as log:
            self.start_offset = log.tell()
            self.proc = procs.spawn(
                self.command(*self.args),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=env,
                cwd=self.dir,
                pass_fds=self.pass_fds,
            )
        if wait:
            self.wait_up()
        return self

    def wait_up(self):
        """Listening is announced by the last line of the start."""

        def is_up():
            if self.proc.poll() is not None:
                raise AssertionError(f"the pooler ended with {self.proc.returncode} at its start\n{self.log_tail()}")
            return "process up" in self.log_text(self.start_offset)

        procs.wait_until(is_up, lambda: "the log line 'process up'\n" + self.log_tail(), timeout=20)

    def restart(self, *args):
        """
        Start a successor with -R and wait until it serves; the former process must end with status 0. Where the log of
        the successor begins comes back.
        """
        old, mark = self.proc, self.log_mark()
        self.proc = None
        env = dict(os.environ, **self.env)
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":exitcode=99:detect_leaks=1"
        with open(self.log, "ab") as log:
            self.proc = procs.spawn(self.command("-R", *args), stdout=log, stderr=log, env=env, cwd=self.dir)
        self.wait_for_log("process up", since=mark, timeout=30)
        assert old.wait(20) == 0, self.log_tail()
        return mark

    def signal(self, number):
        self.proc.send_signal(number)

    def refuses_tcp(self):
        """True when nothing listens on the port any more."""
        try:
            Conn.tcp(self.port).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # it was on its way in when the listener went
        return False

    def stop_threads(self):
        """SIGSTOP, in force: a thread may run on for a while after the signal was sent. SIGCONT ends it."""
        self.signal(signal.SIGSTOP)
        procs.wait_until(
            lambda: all(procs.thread_state(path) == "T" for path in glob.glob(f"/proc/{self.proc.pid}/task/*/stat")),
            "all threads are stopped",
        )

    def wait_asleep(self):
        """Until no thread has anything to do: what comes next is worked on in the order in which it comes."""
        procs.wait_until(
            lambda: all(procs.thread_state(path) == "S" for path in glob.glob(f"/proc/{self.proc.pid}/task/*/stat")),
            "all threads sleep",
        )

    def wait_exit(self, timeout=15):
        """The process must end by itself; the exit status comes back."""
        self.exit_wanted = True
        try:
            return self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the pooler did not end within {timeout} s\n{self.log_tail()}") from None

    def stop(self):
        """An orderly end: two signals in a row. Raises when that does not end it with status 0."""
        self.close_clients()
        if self.proc is None:
            return
        if self.proc.poll() is None:
            self.exit_wanted = True
            self.signal(signal.SIGTERM)
            try:
                self.proc.wait(0.2)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGINT)
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.send_signal(signal.SIGABRT)
                try:
                    self.proc.wait(10)
                except subprocess.TimeoutExpired:
                    self.proc.kill()
                    self.proc.wait()
                self.proc = None
                raise AssertionError(
                    "the pooler ignored SIGTERM and SIGINT; it had to be killed\n" + self.log_tail()
                ) from None
        elif not self.exit_wanted:
            rc, self.proc = self.proc.returncode, None
            raise AssertionError(f"the pooler died during the test with status {rc}\n{self.log_tail(120)}")
        rc, self.proc = self.proc.returncode, None
        if rc != self.expected_rc and not is_pgbouncer(self.program):
            raise AssertionError(f"the pooler ended with {rc}, not {self.expected_rc}\n{self.log_tail(120)}")

    def finish(self):
        """End of the test: stop, look for reports of broken invariants and sanitizers, clean up."""
        try:
            self.stop()
            text = self.log_text()
            found = BROKEN.search(text)
            if found:
                at = max(0, found.start() - 300)
                raise AssertionError(f"the log holds a report of a defect:\n{text[at:at + 6000]}")
        finally:
            if not os.environ.get("PGSLUICE_TEST_KEEP"):
                shutil.rmtree(self.dir, ignore_errors=True)

    # --- log

    def log_text(self, offset=0):
        try:
            with open(self.log, errors="replace") as f:
                f.seek(offset)
                return f.read()
        except FileNotFoundError:
            return ""

    def log_tail(self, lines=60):
        return f"--- log of the pooler ({self.log})\n" + procs.tail(self.log, lines)

    def log_mark(self):
        """Where the log ends now; for wait_for_log(since=…)."""
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def wait_for_log(self, pattern, since=0, timeout=10):
        """Wait until the log matches a regular expression; the match comes back."""
        expr = re.compile(pattern, re.M)
        return procs.wait_until(
            lambda: expr.search(self.log_text(since)),
            lambda: f"a log line that matches {pattern!r}\n{self.log_tail()}",
            timeout,
        )

    def log_count(self, pattern, since=0):
        return len(re.findall(pattern, self.log_text(since), re.M))

    # --- clients

    def connect(self, dbname="app", user="app", **kwargs):
        """A psycopg connection, autocommit and without its automatic PREPARE unless asked for; closed at the end."""
        kwargs = {"autocommit": True, "prepare_threshold": None, "connect_timeout": 10, "host": "127.0.0.1", **kwargs}
        kwargs = {k: v for k, v in kwargs.items() if v is not None or k == "prepare_threshold"}
        conn = psycopg.connect(port=self.port, dbname=dbname, user=user, **kwargs)
        self.conns.append(conn)
        return conn

    def raw(self, timeout=10.0):
        """A bare TCP connection."""
        conn = Conn.tcp(self.port, timeout=timeout)
        self.conns.append(conn)
        return conn

    def raw_unix(self):
        conn = Conn.unix(self.socket_path)
        self.conns.append(conn)
        return conn

    @property
    def socket_path(self):
        return f"{self.dir}/.s.PGSQL.{self.port}"

    def tls(self, context, timeout=10.0, **kwargs):
        """A raw connection with TLS, before its startup packet."""
        return self.raw(timeout).start_tls(context, **kwargs)

    def login(self, user="app", database="app", password=None, params=(), timeout=10.0, tls=None):
        """A logged-in raw connection; with a context for it through TLS."""
        conn = self.tls(tls, timeout) if tls else self.raw(timeout)
        conn.login(user, database, password, params)
        return conn

    def login_error(self, user="app", database="app", password=None, params=(), timeout=10.0, tls=None):
        """The login must be refused: the error comes back, and the connection must have been closed after it."""
        conn = self.tls(tls, timeout) if tls else self.raw(timeout)
        try:
            conn.login(user, database, password, params)
        except PgError as e:
            rest = conn.expect_close()
            if rest.messages:
                raise AssertionError(f"after the refusal {e} came {rest.messages}") from None
            return e
        raise AssertionError(f"the login of {user!r} to {database!r} was not refused")

    def cancel(self, key):
        """Send a CancelRequest and wait until the pooler closed that connection."""
        with Conn.tcp(self.port) as c:
            c.send(struct.pack("!ii", 8 + len(key), CODE_CANCEL) + key)
            result = c.expect_close()
            if result.messages:
                raise AssertionError(f"a cancel request was answered: {result.messages}")

    def close_clients(self):
        for conn in self.conns:
            try:
                conn.close()
            except Exception:
                pass
        self.conns.clear()

    def pgbench(self, dbname, *args, user="app", host="localhost", **env):
        """Run to its end, which must be a good one."""
        from .cluster import bindir

        cmd = [f"{bindir()}/pgbench", "-h", host, "-p", str(self.port), "-U", user, *args, dbname]
        return procs.run(cmd, env={**os.environ, "HOME": self.dir, **env})

    def psql(self, *args, dbname="app", user="app", check=True, host=None, bindir=None, **env):
        from . import cluster

        cmd = [
            f"{bindir or cluster.bindir()}/psql",
            "-X",
            "-At",
            "-h",
            host or "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            user,
            "-d",
            dbname,
            *args,
        ]
        return procs.run(cmd, check=check, env={**os.environ, "HOME": self.dir, "PGCONNECT_TIMEOUT": "10", **env})

    # --- console

    def console(self, user="admin", database="pgbouncer", password="adminpw"):
        return Console(self.login(user, database, password))

    def console_conn(self):
        """What the console is asked over: the Unix socket where TCP demands TLS."""
        demands_tls = self.settings.get("client_tls_sslmode") in ("require", "verify-ca", "verify-full")
        return Conn.unix(self.socket_path) if demands_tls else Conn.tcp(self.port)

    def show(self, what, user="admin", password="adminpw"):
        """Rows of a SHOW command as dicts, from a console session of its own."""
        with self.console_conn() as c:
            c.login(user, "pgbouncer", password)
            rows = Console(c).show(what)
            c.terminate()
            return rows

    def admin(self, command):
        """Run a console command in a session of its own; the tag comes back, an error is raised."""
        with self.console_conn() as c:
            c.login("admin", "pgbouncer", "adminpw")
            tag = Console(c).run(command)
            c.terminate()
            return tag

    def pool(self, database="app", user="app"):
        """The row of SHOW POOLS, or None."""
        for row in self.show("pools"):
            if row["database"] == database and row["user"] == user:
                return row
        return None

    def wait_pool(self, database="app", user="app", timeout=10, **wanted):
        """Wait until the pool's columns have the wanted values."""
        seen = {}

        def matches():
            row = self.pool(database, user) or {}
            seen.update(row)
            return row if row and all(row[k] == v for k, v in wanted.items()) else None

        return procs.wait_until(
            matches,
            lambda: f"{wanted} in SHOW POOLS of {database}/{user}, last seen {seen}\n" + self.log_tail(),
            timeout,
            step=0.02,
        )

    def lists(self):
        return {row["list"]: row["items"] for row in self.show("lists")}

    def config(self):
        return {row["key"]: row["value"] for row in self.show("config")}

    def wait_no_clients(self):
        """Wait until only the asking console session is left."""
        procs.wait_until(
            lambda: len(self.show("clients")) == 1,
            lambda: f"all clients gone, still there: {self.show('clients')}",
            step=0.02,
        )


INT_OIDS = (20, 21, 23)


class Console:
    """A console session over a raw connection."""

    def __init__(self, conn):
        self.conn = conn

    def run(self, command):
        result = self.conn.query(command)
        if result.error:
            raise result.error
        return result.tag

    def raw_show(self, what):
        result = self.conn.query(f"SHOW {what}")
        if result.error:
            raise result.error
        return result

    def show(self, what):
        result = self.raw_show(what)
        return [
            {name: int(v) if v is not None and oid in INT_OIDS else v for (name, oid), v in zip(result.columns, row)}
            for row in result.rows
        ]

    def close(self):
        self.conn.terminate()


SV_STATES = ("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login", "sv_active_cancel", "sv_being_canceled")


def servers_of(row):
    """All servers of a SHOW POOLS row, whatever they do."""
    return sum(row.get(s, 0) for s in SV_STATES)
