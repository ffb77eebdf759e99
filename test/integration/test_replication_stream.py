"""
A stream of replication, with a scripted server where exact moments matter: data both ways, its ends, slow clients,
timeouts, and what the administrator does meanwhile.
"""
import os
import signal
import threading

import pytest
from harness import wire
from harness.pooler import servers_of
from harness.procs import wait_until
from harness.replication import (
    LOGICAL,
    MODES,
    PHYSICAL,
    START,
    copy_both,
    end_of_stream,
    start_streaming,
    streaming_server,
)

pytestmark = pytest.mark.newer


@pytest.mark.parametrize("mode", MODES)
def test_copy_of_any_size_both_ways(make_pooler, fake_server, mode):
    """Large messages pass, whole, in both directions at once."""
    big = os.urandom(1 << 20) * 8

    def script(conn):
        conn.send(wire.pack("d", big))
        assert conn.recv() == wire.Msg("d", big)
        end_of_stream(conn)
        assert conn.recv().type == "X"

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()}, settings={"pool_mode": mode})
    c = start_streaming(p)
    sender = threading.Thread(target=c.send, args=(wire.pack("d", big),))
    sender.start()
    assert c.recv() == wire.Msg("d", big)
    sender.join(20)
    c.send(wire.pack("c"))
    assert [c.recv().type for _ in range(3)] == ["c", "C", "Z"]
    c.terminate()
    p.wait_pool(sv_active=0)


def test_end_of_a_timeline(make_pooler, fake_server):
    """The server ends the stream and tells the next timeline, the client starts again on the same connection."""

    def script(conn):
        conn.send(wire.pack("d", b"w1"), wire.pack("c"))
        while conn.recv().type != "c":
            pass
        conn.send(
            wire.row_description("next_tli", "next_tli_startpos"),
            wire.data_row("2", "0/5000000"),
            wire.pack("C", b"SELECT\0"),
            wire.pack("C", b"START_STREAMING\0"),
            wire.pack("Z", b"I"),
        )
        copy_both(conn)
        conn.send(wire.pack("d", b"w2"))
        end_of_stream(conn)
        assert conn.recv().type == "X"

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()}, settings={"pool_mode": "transaction"})
    c = start_streaming(p)
    assert [c.recv(), c.recv().type] == [wire.Msg("d", b"w1"), "c"]
    c.send(wire.pack("d", b"r1"), wire.pack("c"))
    assert c.read_ready().rows == [["2", "0/5000000"]]
    c.send(wire.pack("Q", START))
    assert [c.recv().type, c.recv()] == ["W", wire.Msg("d", b"w2")]
    c.send(wire.pack("c"))
    c.read_ready()
    assert [r["replication"] for r in p.show("servers")] == ["physical"]
    c.terminate()


def test_error_in_the_stream(make_pooler, fake_server):
    """The server gives the stream up; what the client had under way is ignored, and commands work again."""

    def script(conn):
        conn.send(wire.pack("E", wire.error_body("ERROR", "58P01", "segment has been removed")), wire.pack("Z", b"I"))
        while conn.recv().type != "Q":
            pass
        conn.send(wire.answer("on"))
        conn.recv()

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()}, settings={"pool_mode": "transaction"})
    c = start_streaming(p)
    result = c.read_ready()
    assert result.error.code == "58P01"
    c.send(wire.pack("d", b"late"), wire.pack("c"))
    assert c.value("show hot_standby") == "on"


def test_server_that_shuts_down_ends_the_stream(make_pooler, fake_server):
    """It completes the command and goes, without waiting for the client."""

    def script(conn):
        conn.send(wire.pack("d", b"last"), wire.pack("C", b"COPY 0\0"))

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()})
    c = start_streaming(p)
    assert [c.recv(), c.recv()] == [wire.Msg("d", b"last"), wire.Msg("C", b"COPY 0\0")]
    assert c.expect_error_close().text == "server conn crashed?"


def test_slow_client_still_reports(make_pooler, fake_server):
    """A client that does not read for a while is still heard: its feedback keeps the server from giving it up."""
    heard = threading.Event()

    def script(conn):
        filler = threading.Thread(target=lambda: conn.send(*[wire.pack("d", bytes(1 << 20))] * 24), daemon=True)
        filler.start()
        while conn.recv() != wire.Msg("d", b"feedback"):
            pass
        heard.set()
        filler.join(30)
        end_of_stream(conn)
        conn.recv()

    p = make_pooler({"app": streaming_server(fake_server, script).dsn()})
    c = start_streaming(p, timeout=30)
    wait_until(lambda: any(r["send_avail"] > 0 for r in p.show("sockets") if r["type"] == "C"), "it is behind")
    c.send(wire.pack("d", b"feedback"))
    assert heard.wait(20)
    for _ in range(24):
        assert len(c.recv().body) == 1 << 20
    c.send(wire.pack("c"))
    c.read_ready()


def test_timeouts_spare_a_stream(make_pooler, fake_server):
    """None of the timeouts of queries, transactions and idle clients is for a stream; an ordinary query ends by one."""
    go = threading.Event()

    def script(conn):
        assert go.wait(30)
        conn.send(wire.pack("d", b"still there"))
        end_of_stream(conn)
        conn.recv()

    def handler(conn, startup):
        conn.greet()
        if "replication" in startup:
            copy_both(conn)
            script(conn)
        else:
            conn.recv()  # a query that is never answered
            conn.recv()

    p = make_pooler(
        {"app": fake_server(handler).dsn()},
        settings={"pool_mode": "transaction"},
    )
    c = start_streaming(p)
    console = p.console()
    for name in ("query", "transaction", "idle_transaction", "client_idle", "server_idle"):
        console.run(f"SET {name}_timeout = '0.3'")
    console.run("SET server_lifetime = '0.3'")
    other = p.raw()
    other.send(wire.startup_packet({"user": "app", "database": "app"}), wire.query("select 1"))
    other.finish_login("app", None)
    assert other.expect_error_close().text in ("query timeout", "transaction timeout")
    go.set()
    assert c.recv() == wire.Msg("d", b"still there")
    c.send(wire.pack("c"))
    c.read_ready()


def test_startup_packet(make_pooler, fake_server):
    """Byte for byte what the client has asked for, besides user and database; nothing that it has not."""
    server = streaming_server(fake_server, lambda conn: conn.recv())
    p = make_pooler({"app": server.dsn(application_name="from_the_file", timezone="UTC", dbname="there")})
    start_streaming(p).terminate()
    assert server.startups[0] == {
        "user": "app",
        "database": "there",
        "replication": "yes",
        "timezone": "UTC",
        "application_name": "from_the_file",
    }


def test_unasked_words_in_the_greeting(make_pooler, fake_server):
    """A server that says more than its greeting is not used."""

    def handler(conn, _):
        conn.greet()
        conn.send(wire.pack("W", b"\0\0\0"))
        conn.recv()

    p = make_pooler({"app": fake_server(handler).dsn()})
    c = p.raw()
    c.start("app", "app", params=PHYSICAL)
    assert c.expect_close().error.text in ("unknown pkt from server", "unknown pkt")


# --- administration


@pytest.fixture
def idle_stream(make_pooler, fake_server):
    """A pooler with one client that streams, and whatever happens to that on the server's side."""

    def begin(**settings):
        ended = []

        def script(conn):
            try:
                while True:
                    m = conn.recv()
                    if m.type == "X":
                        ended.append("X")
                        return
                    if m.type == "d":
                        conn.send(wire.pack("d", m.body))
            except wire.Closed:
                ended.append("closed")

        def handler(conn, startup):
            if "replication" in startup:
                conn.greet()
                copy_both(conn)
                script(conn)
            else:
                wire.serve_queries(conn)

        server = fake_server(handler)
        server.ended = ended
        p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", **settings})
        return p, start_streaming(p), server

    return begin


def echo(c, text=b"hello"):
    c.send(wire.pack("d", text))
    assert c.recv() == wire.Msg("d", text)


def test_reconnect_closes_at_once(idle_stream):
    """It could be dirty for years otherwise."""
    p, c, server = idle_stream()
    other = p.login("app", "app")
    p.admin("RECONNECT")
    assert c.expect_error_close().text == "database configuration changed"
    wait_until(lambda: server.ended == ["X"], "the server is told")
    assert other.value("select 1") == "ok"
    echo(start_streaming(p))


def test_changed_definition_closes_at_once(idle_stream):
    p, c, server = idle_stream()
    p.databases["app"] += " dbname=another"
    p.write(p.ini, p.ini_text())
    p.admin("RELOAD")
    assert c.expect_error_close().text == "database configuration changed"
    echo(start_streaming(p))


def test_reload_that_changes_nothing(idle_stream):
    p, c, _ = idle_stream()
    p.admin("RELOAD")
    echo(c)


def test_pause_waits_for_it(idle_stream):
    """As for any session: PAUSE is answered when the client has gone; new ones wait for RESUME."""
    p, c, _ = idle_stream()
    console = p.console()
    console.conn.send(wire.query("PAUSE app"))
    wait_until(lambda: p.show("databases") and any(r["paused"] for r in p.show("databases")), "app is paused")
    waits = p.raw()
    waits.start("app", "app", params=PHYSICAL)
    p.wait_pool(cl_waiting=1)
    echo(c)
    assert console.conn.is_silent()
    c.terminate()
    assert console.conn.read_ready().tag == "PAUSE"
    assert waits.is_silent() and servers_of(p.pool()) == 0
    p.admin("RESUME app")
    waits.finish_login("app", None)


def test_pause_while_it_logs_in(make_pooler, fake_server):
    """The login is given up, the client waits on, and gets a server after RESUME."""
    seen = []

    def handler(conn, startup):
        seen.append(startup)
        if len(seen) == 1:
            conn.recv()
        wire.serve_queries(conn)

    p = make_pooler({"app": fake_server(handler).dsn()}, settings={"server_login_retry": 60})
    c = p.raw()
    c.start("app", "app", params=LOGICAL)
    wait_until(lambda: len(seen) == 1, "the first login")
    p.admin("PAUSE app")
    p.wait_for_log(r"S-.*closing because: pause mode")
    assert c.is_silent()
    p.admin("RESUME app")
    c.finish_login("app", None)
    assert c.value("select 1") == "ok"


def test_client_leaves_while_it_logs_in(make_pooler, fake_server):
    """The half-made connection goes with it, and no failure is remembered."""
    seen = []

    def handler(conn, startup):
        seen.append(startup)
        if "replication" in startup:
            conn.recv()
        wire.serve_queries(conn)

    p = make_pooler({"app": fake_server(handler).dsn()}, settings={"server_login_retry": 60})
    c = p.raw()
    c.start("app", "app", params=LOGICAL)
    wait_until(lambda: len(seen) == 1, "the login")
    assert [(r["state"], r["replication"]) for r in p.show("servers")] == [("new", "logical")]
    c.close()
    p.wait_for_log(r"S-.*closing because: replication client disconnected")
    assert p.login("app", "app").value("select 1") == "ok"


def test_kill_and_disable(idle_stream):
    p, c, server = idle_stream()
    p.admin("DISABLE app")
    echo(c)
    assert p.login_error("app", "app", params=PHYSICAL).text == 'database "app" is disabled'
    p.admin("ENABLE app")
    p.admin("KILL app")
    assert c.expect_error_close().text == "database removed"
    wait_until(lambda: server.ended, "the server is closed")


def test_kill_client(idle_stream):
    p, c, server = idle_stream()
    p.admin(f"KILL_CLIENT {next(r['id'] for r in p.show('clients') if r['replication'] == 'physical')}")
    assert c.expect_error_close().text == "admin forced disconnect"
    wait_until(lambda: server.ended, "the server is closed")


def test_suspend(idle_stream):
    """The stream stands still and goes on."""
    p, c, _ = idle_stream()
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    c.send(wire.pack("d", b"meanwhile"))
    assert c.is_silent()
    console.run("RESUME")
    assert c.recv() == wire.Msg("d", b"meanwhile")
    echo(c)


def wait_behind(p):
    """One more client, for which there is no room."""
    waits = p.raw()
    waits.start("app", "app", params=PHYSICAL)
    p.wait_pool(cl_waiting=1)
    return waits


def test_suspend_with_one_in_the_queue(idle_stream):
    """It keeps its place."""
    p, c, _ = idle_stream(default_pool_size=1)
    waits = wait_behind(p)
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    console.run("RESUME")
    echo(c)
    assert waits.is_silent()
    c.terminate()
    waits.finish_login("app", None)


def test_shutdown_waits_for_it(idle_stream):
    """Who waits for servers waits for this one; who is in the queue is told at once."""
    p, c, _ = idle_stream(default_pool_size=1)
    waits = wait_behind(p)
    p.exit_wanted = True
    p.signal(signal.SIGINT)
    assert waits.expect_error_close().text == "server shutting down"
    echo(c)
    c.terminate()
    assert p.wait_exit() == 0


def test_shutdown_at_once(idle_stream):
    """Neither a stream nor a client in the queue holds it up."""
    p, c, _ = idle_stream(default_pool_size=1)
    waits = wait_behind(p)
    p.exit_wanted = True
    p.signal(signal.SIGQUIT)
    assert p.wait_exit() == 0
    c.expect_close()
    waits.expect_close()


@pytest.mark.ours
def test_online_restart_carries_the_stream(idle_stream):
    """The next process goes on with it, in the middle of the stream. Who is not greeted yet has to come again."""
    p, c, server = idle_stream(default_pool_size=1)
    waits = wait_behind(p)
    echo(c)
    p.restart()
    assert waits.expect_error_close().text == "pooler exits"
    echo(c, b"in the new process")
    assert [(r["replication"], r["state"]) for r in p.show("servers")] == [("physical", "active")]
    assert [r["replication"] for r in p.show("clients") if r["user"] == "app"] == ["physical"]
    c.terminate()
    wait_until(lambda: server.ended == ["X"], "the server is closed with its client")


def test_streams_are_not_for_pgbouncer(idle_stream):
    """SHOW FDS is what PgBouncer takes over from; it would hand the server of a stream to anybody."""
    p, c, _ = idle_stream()
    other = p.login("app", "app")
    assert other.value("select 1") == "ok"
    console = p.console()
    console.run("SUSPEND")
    assert sorted(r["task"] for r in console.show("fds") if r["database"] == "app") == ["client", "server"]
    assert (
        sorted(r["task"] for r in console.show("handover") if r["database"] == "app") == ["client"] * 2 + ["server"] * 2
    )
    console.run("RESUME")
    echo(c)


# --- statistics


def test_statistics(idle_stream):
    """They have bytes and queries."""
    p, c, _ = idle_stream()
    echo(c, b"x" * 10000)
    row = next(r for r in p.show("stats_totals") if r["database"] == "app")
    row = {k: int(v) for k, v in row.items() if k != "database"}
    assert row["client_login_count"] == 1 and row["server_assignment_count"] == 1
    assert row["bytes_received"] > 10000 and row["bytes_sent"] > 10000
    assert (row["query_count"], row["xact_count"]) == (1, 1)
    c.terminate()


def test_time_of_a_stream_does_not_count(make_pooler, fake_server):
    p = make_pooler({"app": streaming_server(fake_server, lambda conn: (end_of_stream(conn), conn.recv())).dsn()})
    c = start_streaming(p)
    c.send(wire.pack("c"))
    c.read_ready()
    row = next(r for r in p.show("stats_totals") if r["database"] == "app")
    assert [int(row[k]) for k in ("query_count", "query_time", "xact_time")] == [1, 0, 0]
