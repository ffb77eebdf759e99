"""The service manager: states, signs of life, and sockets that it has opened for us."""
import ctypes
import os
import re
import shutil
import signal
import socket
import sys
import time

import pytest
from harness import procs, wire
from harness.pooler import Console, binary
from harness.procs import wait_until

pytestmark = pytest.mark.newer


class Manager:
    """The end of NOTIFY_SOCKET that a service manager holds: every state that came, in order."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.sock.setblocking(False)
        if not address.startswith("@"):
            os.chmod(address, 0o777)
        self.address, self.states = address, []

    def seen(self):
        while True:
            try:
                self.states.append(self.sock.recv(4096).decode())
            except BlockingIOError:
                return self.states

    def wait(self, pattern, since=0, timeout=10.0):
        """Wait for a state that matches from its beginning; the match comes back."""

        def look():
            return next((m for s in self.seen()[since:] if (m := re.match(pattern, s))), None)

        return wait_until(look, lambda: f"a state like {pattern!r}, there are {self.states}", timeout)

    def mark(self):
        return len(self.seen())


@pytest.fixture
def managed(make_pooler):
    """managed(…) makes a pooler with a manager that listens to it: (pooler, manager)."""
    managers = []

    def make(start=True, abstract=False, **kwargs):
        p = make_pooler(start=False, **kwargs)
        m = Manager(f"@sluice-notify-{p.port}-{os.getpid()}" if abstract else f"{p.dir}/notify")
        managers.append(m)
        p.env["NOTIFY_SOCKET"] = m.address
        if start:
            p.start()
        return p, m

    yield make
    for m in managers:
        m.sock.close()


# --- states


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_ready_once_clients_are_served(managed, abstract):
    p, m = managed(start=False, abstract=abstract)
    p.start(wait=False)
    m.wait("READY=1$")
    assert p.login().value("select 1") == "1"
    assert m.seen()[0] == "READY=1"


def test_no_state_before_a_start_that_fails(managed):
    p, m = managed(start=False, settings={"listen_addr": "", "unix_socket_dir": ""})
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    assert m.seen() == []


def test_sighup_is_announced_and_concluded(managed):
    p, m = managed()
    m.wait("READY=1$")
    at, before = m.mark(), time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    p.signal(signal.SIGHUP)
    began = int(m.wait(r"RELOADING=1\nMONOTONIC_USEC=(\d+)$", at)[1])
    m.wait("READY=1$", at)
    assert [s.split("\n")[0] for s in m.seen()[at:] if "STATUS" not in s] == ["RELOADING=1", "READY=1"]
    assert before <= began <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_ready_again_after_a_reload_that_failed(managed):
    p, m = managed()
    m.wait("READY=1$")
    at = m.mark()
    p.write(p.ini, "[pgbouncer]\nnonsense = 1\n")
    p.signal(signal.SIGHUP)
    m.wait("RELOADING=1", at)
    m.wait("READY=1$", at)
    p.wait_for_log("config file loading failed")


def test_a_successor_becomes_the_main_process(managed):
    """Before the old one ends, with which the service would. Without the variables of the watchdog that is off."""
    p, m = managed(env={"WATCHDOG_USEC": "400000"})
    m.wait("WATCHDOG=1$")
    del p.env["WATCHDOG_USEC"]
    old, at = p.proc.pid, m.mark()
    p.restart()
    m.wait("READY=1", at)
    states = [s for s in m.seen()[at:] if s != "WATCHDOG=1" and "STATUS" not in s]
    new = p.proc.pid
    assert states == [f"MAINPID={new}", f"READY=1\nMAINPID={new}\nWATCHDOG_USEC=0"] and new != old
    at = m.mark()
    p.env["WATCHDOG_USEC"] = "400000"
    p.restart()
    m.wait(f"READY=1\nMAINPID={p.proc.pid}\nWATCHDOG_USEC=400000$", at)
    m.wait("WATCHDOG=1$", at)


def test_a_successor_in_the_background_becomes_the_main_process(managed):
    """It has another process id than the one that was started."""
    p, m = managed(settings={"stats_period": 60})
    p.settings["logfile"] = f"{p.dir}/own.log"
    p.write_files()
    old, at = p.proc, m.mark()
    procs.run(p.command("-d", "-R"), env=dict(os.environ, **p.env))
    pid = int(m.wait(r"READY=1\nMAINPID=(\d+)\n", at)[1])
    try:
        assert old.wait(20) == 0
        p.proc = None
        assert int(m.wait(r"MAINPID=(\d+)$", at)[1]) == pid == int(open(p.pidfile).read())
        assert p.login().value("select 1") == "1"
    finally:
        os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not os.path.exists(p.pidfile), "its end")


def test_a_successor_that_fails_does_not_become_the_main_process(managed):
    p, m = managed()
    m.wait("READY=1$")
    at, console = m.mark(), p.console()
    assert console.run("PAUSE") == "PAUSE"
    assert procs.run(p.command("-R"), check=False, env=dict(os.environ, **p.env)).returncode == 1
    assert console.run("RESUME") == "RESUME"
    assert not [s for s in m.seen()[at:] if "MAINPID" in s or "READY" in s]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_at_the_first_signal_only(managed, number):
    p, m = managed()
    c = p.login()
    c.query("begin")
    p.signal(number)
    m.wait("STOPPING=1$")
    p.signal(number)
    assert p.wait_exit() == 0
    assert m.seen().count("STOPPING=1") == 1


def test_no_stopping_when_told_otherwise(managed):
    """SIGQUIT and the console end the process without that word."""
    p, m = managed()
    p.signal(signal.SIGQUIT)
    assert p.wait_exit() == 0
    p.start()
    console = p.console()
    console.conn.send(wire.query("SHUTDOWN"))
    assert p.wait_exit() == 0
    p.start()
    p.login().query("select 1")
    assert p.admin("SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
    p.close_clients()
    assert p.wait_exit() == 0
    assert m.seen().count("READY=1") == 3 and "STOPPING=1" not in m.seen()


@pytest.mark.ours
def test_drain_is_announced(managed):
    """SHUTDOWN DRAIN is an end by plan, and its phases tell how many clients are left."""
    p, m = managed(settings={"pool_mode": "transaction"})
    idle, busy = p.login(), p.login()
    busy.query("begin")
    p.exit_wanted = True
    assert p.admin("SHUTDOWN DRAIN") == "SHUTDOWN"
    m.wait("STOPPING=1$")
    m.wait("STATUS=draining, clients left: 2$")
    idle.expect_close()
    console = p.raw_unix()
    console.login("admin", "pgbouncer", "adminpw")
    assert console.query("SHUTDOWN DRAIN WITHIN 1").tag == "SHUTDOWN"
    busy.expect_close()
    assert p.wait_exit() == 0
    assert m.seen().count("STOPPING=1") == 1


def test_status_each_period_whatever_is_logged(managed):
    p, m = managed(settings={"stats_period": 1, "log_stats": 0})
    fields = (
        r"STATUS=stats: \d+ xacts/s, \d+ queries/s, \d+ client parses/s, \d+ server parses/s, \d+ binds/s, "
        r"\d+ client logins/s, in \d+ B/s, out \d+ B/s, xact \d+ μs, query \d+ μs, wait \d+ μs$"
    )
    m.wait(fields)
    at = m.mark()
    m.wait(fields, at)
    assert p.log_count("stats: ") == 0


# --- signs of life

AS_ITSELF = "import os, sys; os.environ.update({n: str(os.getpid()) for n in %r}); os.execv(sys.argv[1], sys.argv[1:])"


def own_pid_in(p, *names):
    """The variables hold the process id of the program, as only the one who starts it can know it."""
    plain = p.command
    p.command = lambda *args: [sys.executable, "-c", AS_ITSELF % (names,), *plain(*args)]


def test_watchdog_is_fed(managed):
    p, m = managed(start=False, threads=3, env={"WATCHDOG_USEC": "400000"})
    own_pid_in(p, "WATCHDOG_PID")
    p.start()
    wait_until(lambda: m.seen().count("WATCHDOG=1") >= 3, "three signs of life")
    p.login().query("begin")
    p.signal(signal.SIGTERM)
    m.wait("STOPPING=1")
    at = m.mark()
    m.wait("WATCHDOG=1$", at)  # an end that takes its time is no death


def test_watchdog_of_another_process(managed):
    p, m = managed(env={"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, settings={"stats_period": 1})
    m.wait("STATUS=")
    assert "WATCHDOG=1" not in m.seen()


class Frozen:
    """Stops one thread of a process, found by its name, and lets the others run."""

    SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, pid, name):
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/comm") as f:
                if f.read().strip() == name:
                    self.tid = int(tid)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.libc.ptrace.restype = ctypes.c_long

    def ptrace(self, request):
        return self.libc.ptrace(request, self.tid, None, None) == 0

    def __enter__(self):
        if not self.ptrace(self.SEIZE):
            pytest.skip(f"a thread cannot be stopped here: {os.strerror(ctypes.get_errno())}")
        assert self.ptrace(self.INTERRUPT)
        os.waitpid(self.tid, self.WALL)
        return self

    def __exit__(self, *exc):
        assert self.ptrace(self.DETACH)


@pytest.mark.parametrize("thread", ["worker1", "login0"])
def test_watchdog_starves_when_a_thread_hangs(managed, thread):
    p, m = managed(start=False, threads=2, settings={"stats_period": 1}, env={"WATCHDOG_USEC": "200000"})
    own_pid_in(p, "WATCHDOG_PID")
    p.start()
    m.wait("WATCHDOG=1$")
    with Frozen(p.proc.pid, thread):
        # The round before may have been answered still; this one is not.
        p.wait_for_log(rf"ERROR watchdog: {thread} has not answered for \d+ ms$", since=p.log_mark())
        at = m.mark()
        m.wait("STATUS=", at)  # the control loop goes on
        assert "WATCHDOG=1" not in m.seen()[at:]
    at = m.mark()
    m.wait("WATCHDOG=1$", at)


# --- sockets

ACTIVATE = """
import os, sys
fds = [os.dup(int(fd)) for fd in sys.argv[1].split(",")]
for i, fd in enumerate(fds):
    os.dup2(fd, 100 + i)
os.closerange(3, 100)
for i in range(len(fds)):
    os.dup2(100 + i, 3 + i)
os.closerange(100, 65536)
os.environ.update(LISTEN_PID=os.environ.get("FAKE_PID") or str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.environ.update(LISTEN_FDNAMES=":".join(f"name{i}" for i in range(len(fds))))
os.execv(sys.argv[2], sys.argv[2:])
"""


def activate(p, *socks):
    """The program is given these sockets as systemd does it."""
    plain = p.command
    p.pass_fds = tuple(s.fileno() for s in socks)
    p.command = lambda *args: [
        sys.executable,
        "-c",
        ACTIVATE,
        ",".join(str(fd) for fd in p.pass_fds),
        *plain(*args),
    ]


@pytest.fixture
def handed(make_pooler):
    """handed(…) makes a pooler with a TCP and a Unix socket that somebody else has opened: (pooler, tcp, unix)."""
    opened = []

    def make(**kwargs):
        kwargs.setdefault("settings", {"listen_addr": None, "unix_socket_dir": None})
        p = make_pooler(start=False, **kwargs)
        tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
        opened.extend((tcp, unix))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(("127.0.0.1", p.port))
        unix.bind(p.socket_path)
        os.chmod(p.socket_path, 0o777)
        tcp.listen(), unix.listen()
        activate(p, tcp, unix)
        return p, tcp, unix

    yield make
    for s in opened:
        s.close()


def test_sockets_of_the_service_manager(handed):
    p, _, _ = handed()
    p.start()
    p.wait_for_log(rf"listening on 127\.0\.0\.1:{p.port}$")
    p.wait_for_log(rf"listening on unix:{re.escape(p.socket_path)}$")
    assert p.log_count("listening on") == 2 and p.log_count("WARNING") == 0
    assert p.login().value("select 1") == "1"
    c = p.raw_unix()
    c.login()
    assert c.value("select 2") == "2"
    assert not [fd for fd in os.listdir(f"/proc/{p.proc.pid}/fd") if int(fd) > 4 and is_listening(p.proc.pid, fd)]


def test_ipv4_through_a_socket_for_both_protocols(make_pooler):
    """Rules, the console and the log know such a client by his address of IPv4."""
    p = make_pooler(start=False, settings={"listen_addr": None, "unix_socket_dir": None, "auth_type": "hba"})
    p.settings["auth_hba_file"] = f"{p.dir}/hba.conf"
    rules = ["host app app 127.0.0.1/32 reject", "host all all 127.0.0.0/8 trust", "host all all all reject"]
    p.write(f"{p.dir}/hba.conf", "\n".join(rules) + "\n")
    with socket.socket(socket.AF_INET6) as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        tcp.bind(("::", p.port))
        unix.bind(p.socket_path)
        os.chmod(p.socket_path, 0o777)
        tcp.listen(), unix.listen()
        activate(p, tcp, unix)
        p.start()
        assert p.login_error("app").text == "login rejected"
        console = Console(p.login("admin", "pgbouncer"))
        assert {row["addr"] for row in console.show("CLIENTS")} == {"127.0.0.1"}
        assert {row["local_addr"] for row in console.show("SOCKETS")} <= {"127.0.0.1", "unix"}
        assert p.log_count("::ffff:") == 0


def is_listening(pid, fd):
    """True for a socket that listens, by its inode in the kernel's tables."""
    try:
        link = os.readlink(f"/proc/{pid}/fd/{fd}")
    except FileNotFoundError:
        return False  # closed meanwhile
    inode = link[8:-1] if link.startswith("socket:") else None
    with open(f"/proc/{pid}/net/tcp") as tcp, open(f"/proc/{pid}/net/unix") as unix:
        listeners = {f.split()[9] for f in tcp if f.split()[3] == "0A"}
        listeners |= {f.split()[6] for f in unix if f.split()[3] == "00010000"}
    return inode in listeners


def test_settings_that_sockets_overrule(handed):
    """They are named in warnings, and nothing is opened for them."""
    own = procs.free_port()
    p, _, _ = handed(settings={"listen_addr": "127.0.0.1", "listen_port": own})
    p.settings["unix_socket_dir"] = p.dir
    p.start()
    p.wait_for_log("WARNING sockets passed from service manager, setting listen_addr ignored")
    p.wait_for_log("WARNING sockets passed from service manager, setting unix_socket_dir ignored")
    with pytest.raises(ConnectionRefusedError):
        wire.Conn.tcp(own)
    assert not os.path.exists(f"{p.dir}/.s.PGSQL.{own}")
    assert p.login().value("select 1") == "1"


def test_sockets_outlive_the_process(handed):
    """Clients that come while nobody is there wait for the next one."""
    p, _, _ = handed()
    p.start()
    assert p.login().value("select 1") == "1"
    p.stop()
    assert os.path.exists(p.socket_path)
    early, early_unix = p.raw(timeout=30), p.raw_unix()
    early.start(), early_unix.start()
    p.start()
    for c in (early, early_unix):
        c.finish_login("app", None)
        assert c.value("select 1") == "1"


def test_shutdown_with_sockets_of_the_service_manager(handed):
    """TCP is left to whoever comes next, the Unix socket serves the console."""
    p, _, _ = handed()
    p.start()
    c = p.login()
    c.query("begin")
    p.signal(signal.SIGTERM)
    p.wait_for_log("got SIGTERM")
    with wire.Conn.unix(p.socket_path) as console:
        console.login("admin", "pgbouncer", "adminpw")
        assert console.query("SHOW VERSION").rows
    wait_until(lambda: not is_open(p.proc.pid, 3) or not is_listening(p.proc.pid, 3), "the TCP socket to be closed")
    assert c.query("commit").status == "I"
    c.terminate()
    assert p.wait_exit() == 0


def is_open(pid, fd):
    return os.path.lexists(f"/proc/{pid}/fd/{fd}")


def test_sockets_for_another_process(make_pooler):
    p = make_pooler(start=False, env={"FAKE_PID": "1"})
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        activate(p, s)
        p.start()
    assert p.login().value("select 1") == "1"


def test_something_else_than_a_listening_socket(make_pooler):
    p = make_pooler(start=False)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        activate(p, s)
        p.start(wait=False)
        assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log("FATAL descriptor 3 is not a listening socket")


def test_sockets_stay_ours_in_the_background(handed):
    """The process that works has another id than the one that was started."""
    p, _, _ = handed()
    p.settings["logfile"] = f"{p.dir}/own.log"
    p.args = ["-d"]
    p.start(wait=False)
    assert p.wait_exit() == 0
    p.proc = None
    wait_until(lambda: os.path.exists(p.pidfile) and open(p.pidfile).read(), "the pidfile")
    pid = int(open(p.pidfile).read())
    try:
        assert p.login().value("select 1") == "1"
    finally:
        os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not os.path.exists(p.pidfile), "its end")
    assert os.path.exists(p.socket_path)


def test_pidfile_guards_sockets_of_the_service_manager(handed, make_pooler):
    p, tcp, unix = handed()
    p.start()
    q = make_pooler(start=False, settings={"listen_addr": None, "unix_socket_dir": None, "pidfile": p.pidfile})
    activate(q, tcp, unix)
    q.start(wait=False)
    assert q.wait_exit() == 1
    q.proc = None
    q.wait_for_log(f"FATAL pidfile '{p.pidfile}' exists, another instance running")
    assert os.path.exists(p.socket_path) and p.login().value("select 1") == "1"


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd is not installed")
def test_started_by_systemd_socket_activate(make_pooler):
    """The real thing: the first client starts the program."""
    p = make_pooler(start=False, settings={"listen_addr": None, "unix_socket_dir": None})
    tool = shutil.which("systemd-socket-activate")
    sockets = ["-l", f"127.0.0.1:{p.port}", "-l", p.socket_path]
    p.command = lambda *args: [tool, *sockets, "--fdname=tcp:unix", "--", binary(), *args, p.ini]
    p.start(wait=False)
    p.wait_for_log("Listening on")
    c = p.login(timeout=30)
    assert c.value("select 1") == "1"
    unix = p.raw_unix()
    unix.login()
    assert unix.value("select 2") == "2"
    p.wait_for_log("process up")
