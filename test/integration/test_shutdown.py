"""The three ways to end: who is served until when, who is told what, and what ends the wait."""
import os
import signal
import threading

import pytest
from harness import wire
from harness.procs import wait_until
from harness.wire import Closed, PgError

pytestmark = pytest.mark.newer

TRANSACTIONS = {"pool_mode": "transaction"}

# how a shutdown may be asked for
WAIT_FOR_SERVERS = ["SIGINT", "SHUTDOWN WAIT_FOR_SERVERS"]
WAIT_FOR_CLIENTS = ["SIGTERM", "SHUTDOWN WAIT_FOR_CLIENTS"]


def begin(p, how):
    """Starts a shutdown by signal or command."""
    if not how.startswith("SIG"):
        assert p.admin(how) == "SHUTDOWN"
        return
    p.signal(getattr(signal, how))
    p.wait_for_log(f"got {how}, shutting down")


def unix_console(p):
    conn = p.raw_unix()
    conn.login("admin", "pgbouncer", "adminpw")
    return conn


def error_of(conn, sql):
    result = conn.query(sql)
    assert result.error, f"{sql} was not refused"
    return result.error.text


# --- what both waits have in common


@pytest.mark.parametrize("how", WAIT_FOR_SERVERS + WAIT_FOR_CLIENTS)
def test_listeners_during_a_wait(make_pooler, how):
    """TCP is closed at once; the Unix socket stays, and serves the console alone, whatever its name."""
    p = make_pooler(settings={"auth_type": "plain"})
    c = p.login(password="apppw")
    c.query("begin")
    begin(p, how)
    wait_until(lambda: p.refuses_tcp(), "TCP is closed")
    u = p.raw_unix()
    with pytest.raises(PgError) as refusal:
        u.login("app", "app", "apppw")
    assert (refusal.value.severity, refusal.value.text) == ("FATAL", "pooler is shutting down")
    u = p.raw_unix()
    with pytest.raises(PgError) as refusal:
        u.login("app", "app", "wrong")
    assert "authentication failed" in refusal.value.text, "who may not come in is not told either"
    console = unix_console(p)
    assert console.query("SHOW POOLS").rows
    assert error_of(console, "RESUME") == "pooler is shutting down"
    console.terminate()
    assert c.query("commit").status == "I"
    c.terminate()
    assert p.wait_exit() == 0
    assert not os.path.exists(p.socket_path) and not os.path.exists(p.pidfile)


@pytest.mark.parametrize("first", ["SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN WAIT_FOR_CLIENTS"])
@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_signal_after_the_command_ends_at_once(make_pooler, first, second):
    p = make_pooler()
    c = p.login()
    c.query("begin")
    begin(p, first)
    p.signal(getattr(signal, second))
    assert p.wait_exit() == 0
    p.wait_for_log(f"got {second} while shutting down, fast exit")
    assert not c.expect_close().messages


@pytest.mark.parametrize("how", WAIT_FOR_SERVERS + WAIT_FOR_CLIENTS)
def test_sigquit_during_a_wait(make_pooler, how):
    p = make_pooler()
    c = p.login()
    c.query("begin")
    begin(p, how)
    p.signal(signal.SIGQUIT)
    assert p.wait_exit() == 0
    p.wait_for_log("got SIGQUIT, fast exit")
    assert not c.expect_close().messages


@pytest.mark.parametrize("how", WAIT_FOR_SERVERS + WAIT_FOR_CLIENTS)
def test_shutdown_command_ends_a_wait(make_pooler, how):
    """Without a word to anybody: the end of the connection is the answer."""
    p = make_pooler()
    c = p.login()
    c.query("begin")
    begin(p, how)
    console = unix_console(p)
    console.send(wire.query("SHUTDOWN"))
    assert not console.expect_close().messages
    assert not c.expect_close().messages
    assert p.wait_exit() == 0


def test_reload_during_a_wait(make_pooler):
    """It opens nothing again."""
    p = make_pooler(settings=TRANSACTIONS)
    c = p.login()
    begin(p, "SIGTERM")
    wait_until(lambda: p.refuses_tcp(), "TCP is closed")
    mark = p.log_mark()
    p.signal(signal.SIGHUP)
    p.wait_for_log("got SIGHUP, re-reading config", since=mark)
    assert unix_console(p).query("SHOW VERSION").rows
    assert p.refuses_tcp()
    assert c.query("select 1").rows == [["1"]]


# --- WAIT_FOR_CLIENTS


def test_console_sessions_are_clients(make_pooler):
    p = make_pooler()
    c, console = p.login(), unix_console(p)
    begin(p, "SIGTERM")
    c.terminate()
    wait_until(lambda: len(console.query("SHOW CLIENTS").rows) == 1, "only the console is left")
    for _ in range(20):
        assert console.query("SHOW VERSION").rows
    assert p.proc.poll() is None and p.log_count("exiting") == 0
    console.terminate()
    assert p.wait_exit() == 0
    p.wait_for_log("LOG client connections dropped, exiting")


def test_clients_keep_full_service(make_pooler):
    """Those that wait get a server, others are opened for them, and nobody is paused."""
    p = make_pooler(settings={**TRANSACTIONS, "default_pool_size": 2, "server_idle_timeout": 0})
    first, second, waiting = p.login(), p.login(), p.login()
    first.query("begin"), second.query("begin")
    waiting.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    begin(p, "SIGTERM")
    assert first.query("commit").status == "I"
    assert waiting.read_ready().rows == [["1"]]
    console = unix_console(p)
    console.query("RECONNECT")
    assert second.query("commit").status == "I"
    wait_until(lambda: not console.query("SHOW SERVERS").rows, "all servers closed")
    console.terminate()
    for c in (first, second, waiting):
        assert c.query("select 3").rows == [["3"]]
        c.terminate()
    assert p.wait_exit() == 0


# --- WAIT_FOR_SERVERS


@pytest.mark.parametrize("how", WAIT_FOR_SERVERS)
def test_waiting_clients_are_told(make_pooler, how):
    """Those that wait when it begins, and those that want a server later; who has one finishes."""
    settings = {**TRANSACTIONS, "default_pool_size": 1, "query_wait_timeout": 0, "client_login_timeout": 0}
    p = make_pooler(settings=settings, threads=4)
    busy, idle = p.login(), p.login()
    busy.query("begin")
    crowd = [p.login() for _ in range(12)]
    for c in crowd:
        c.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=12)
    begin(p, how)
    for c in crowd:
        e = c.expect_error_close()
        assert (e.severity, e.text) == ("FATAL", "server shutting down")
    idle.send(wire.query("select 1"))
    assert idle.expect_error_close().text == "server shutting down"
    assert busy.query("select 2").rows == [["2"]], "who has a server keeps it"
    assert busy.query("commit").status == "I"
    assert p.wait_exit() == 0
    p.wait_for_log("LOG server connections dropped, exiting")


def test_clients_that_wait_for_the_first_server_are_told(make_pooler, fake_server):
    """Logged in, but not greeted yet: there has never been a server."""
    arrived, over = threading.Event(), threading.Event()

    def handler(conn, params):
        arrived.set()
        over.wait(30)

    slow = fake_server(handler)
    p = make_pooler(databases={"app": slow.dsn()}, threads=3)
    clients = [p.raw() for _ in range(5)]
    for c in clients:
        c.start()
    assert arrived.wait(10)
    p.wait_pool(cl_waiting=5)
    p.signal(signal.SIGINT)
    for c in clients:
        assert c.expect_error_close().text == "server shutting down"
    assert p.wait_exit() == 0
    over.set()


def test_sessions_finish(make_pooler):
    """In session mode a server is free when its client leaves."""
    p = make_pooler()
    c = p.login()
    c.query("select 1")
    begin(p, "SIGINT")
    for n in range(5):
        assert c.query(f"select {n}").rows == [[str(n)]]
    c.terminate()
    assert p.wait_exit() == 0


def test_idle_clients_do_not_hold_it_up(make_pooler):
    p = make_pooler(settings=TRANSACTIONS)
    c = p.login()
    c.query("select 1")
    p.signal(signal.SIGINT)
    assert p.wait_exit() == 0
    assert not c.expect_close().messages


def test_state_is_paused_meanwhile(make_pooler):
    p = make_pooler(settings=TRANSACTIONS)
    c = p.login()
    c.query("begin")
    begin(p, "SIGINT")
    console = unix_console(p)
    assert ["paused", "yes"] in console.query("SHOW STATE").rows
    assert error_of(console, "PAUSE") == "already suspended/paused"
    p.signal(signal.SIGUSR1)
    p.wait_for_log("got SIGUSR1, but already paused/suspended")
    p.signal(signal.SIGUSR2)
    p.wait_for_log("got SIGUSR2 while shutting down, ignoring")
    assert ["paused", "yes"] in console.query("SHOW STATE").rows


# --- from one kind to another


def test_second_command_waits_for_servers_instead(make_pooler):
    p = make_pooler(settings={**TRANSACTIONS, "query_wait_timeout": 0})
    busy, idle = p.login(), p.login()
    busy.query("begin")
    begin(p, "SHUTDOWN WAIT_FOR_CLIENTS")
    assert idle.query("select 1").rows == [["1"]]
    console = unix_console(p)
    assert console.query("SHUTDOWN WAIT_FOR_SERVERS").tag == "SHUTDOWN"
    idle.send(wire.query("select 1"))
    assert idle.expect_error_close().text == "server shutting down"
    assert busy.query("commit").status == "I"
    assert p.wait_exit() == 0
    p.wait_for_log("server connections dropped, exiting")


def test_second_command_waits_for_clients_instead(make_pooler):
    """They are served again."""
    p = make_pooler(settings={**TRANSACTIONS, "query_wait_timeout": 0})
    busy, idle = p.login(), p.login()
    busy.query("begin")
    begin(p, "SHUTDOWN WAIT_FOR_SERVERS")
    console = unix_console(p)
    assert console.query("SHUTDOWN WAIT_FOR_CLIENTS").tag == "SHUTDOWN"
    assert ["active", "yes"] in console.query("SHOW STATE").rows
    assert idle.query("select 1").rows == [["1"]]
    assert busy.query("commit").status == "I"
    console.terminate(), idle.terminate()
    assert busy.query("select 2").rows == [["2"]]
    busy.terminate()
    assert p.wait_exit() == 0
    p.wait_for_log("client connections dropped, exiting")


def test_a_pause_outlasts_the_change(make_pooler):
    """What an operator has paused, a shutdown does not resume."""
    p = make_pooler(settings={**TRANSACTIONS, "query_wait_timeout": 0})
    c = p.login()
    c.query("select 1")
    assert p.admin("PAUSE") == "PAUSE"
    c.send(wire.query("select 2"))
    p.wait_pool(cl_waiting=1)
    console = unix_console(p)
    assert console.query("SHUTDOWN WAIT_FOR_CLIENTS").tag == "SHUTDOWN"
    assert ["paused", "yes"] in console.query("SHOW STATE").rows
    assert c.is_silent()
    c.close()
    console.terminate()
    assert p.wait_exit() == 0


# --- in the middle of a crowd


class Visitor(threading.Thread):
    """Comes, runs a transaction, goes, and comes again until it is turned away; what must not happen is in .wrong."""

    def __init__(self, p, number, told):
        super().__init__(daemon=True)
        self.p, self.number, self.told = p, number, told
        self.visits, self.end, self.wrong = 0, None, None

    def run(self):
        try:
            while self.end is None:
                self.visit()
                self.visits += self.end is None
        except Exception as e:  # whatever it is, the test has to hear of it
            self.wrong = repr(e)

    def visit(self):
        p = self.p
        try:
            conn = wire.Conn.unix(p.socket_path) if self.number % 4 == 0 else wire.Conn.tcp(p.port)
        except OSError:
            self.leave("refused")
            return
        with conn:
            try:
                conn.login()
            except (Closed, OSError):
                self.leave("cut off")
                return
            except PgError as e:
                self.leave(e.text)
                return
            self.work(conn)

    def work(self, conn):
        inside = False
        try:
            for sql in ("begin", f"select {self.number}", "commit", f"select {self.number}"):
                result = conn.query(sql)
                if result.error:
                    raise AssertionError(f"{sql}: {result.error}")
                inside = result.status != "I"
            conn.terminate()
        except (Closed, OSError) as e:
            if inside:
                raise AssertionError(f"a transaction was cut off: {e!r}") from e
            fields = [wire.fields_of(m.body) for m in getattr(e, "messages", []) if m.type == "E"]
            self.leave(fields[0]["M"] if fields else "closed")

    def leave(self, why):
        if not self.told.is_set():
            raise AssertionError(f"turned away before the shutdown: {why}")
        self.end = why


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN WAIT_FOR_SERVERS"])
def test_shutdown_in_a_crowd(make_pooler, how):
    """
    Thirty visitors who come and go thousands of times: no transaction is lost, everybody is turned away in one of the ways that the kind
    of shutdown allows, and the process ends by itself.
    """
    quiet = {"log_connections": 0, "log_disconnections": 0, "default_pool_size": 5, "listen_backlog": 1000}
    p = make_pooler(settings={**TRANSACTIONS, **quiet}, threads=4)
    told = threading.Event()
    visitors = [Visitor(p, n, told) for n in range(30)]
    for v in visitors:
        v.start()
    wait_until(lambda: sum(v.visits for v in visitors) > 3000 or any(v.wrong for v in visitors), "visits", timeout=60)
    told.set()
    if how.startswith("SIG"):
        p.signal(getattr(signal, how))
    else:
        p.admin(how)
    assert p.wait_exit(30) == 0
    for v in visitors:
        v.join(20)
    assert not [v.wrong for v in visitors if v.wrong or v.is_alive()]
    ends = {v.end for v in visitors}
    allowed = {"refused", "cut off", "pooler is shutting down"}
    if how in WAIT_FOR_SERVERS:
        allowed |= {"server shutting down", "closed"}
    assert ends <= allowed
    p.wait_for_log(f"{'server' if how in WAIT_FOR_SERVERS else 'client'} connections dropped, exiting")


# --- in the middle of a suspension


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_while_suspended(make_pooler, name):
    """Nobody is read, so there is nothing to wait for: the end is at once, and no orderly one."""
    p = make_pooler(settings=TRANSACTIONS)
    c = p.login()
    c.query("select 1")
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    p.signal(getattr(signal, name))
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log(rf"LOG got {name}, shutting down")
    p.wait_for_log(r"FATAL everything is suspended, going down at once")
    assert not os.path.exists(p.pidfile)


def test_servers_are_waited_for_instead_of_a_suspension(make_pooler):
    p = make_pooler(settings=TRANSACTIONS)
    c, idle = p.login(), p.login()
    c.query("begin"), idle.query("select 1")
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    assert console.run("SHUTDOWN WAIT_FOR_SERVERS") == "SHUTDOWN"
    idle.send(wire.query("select 1"))
    assert idle.expect_error_close().text == "server shutting down"
    assert c.query("commit").status == "I"
    assert p.wait_exit() == 0
