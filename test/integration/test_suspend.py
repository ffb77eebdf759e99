"""SUSPEND: everything stands still at the boundary of a message, and goes on with RESUME as if nothing had been."""
import threading
import time

import pytest
from harness import wire
from harness.procs import wait_until
from harness.wire import answer, serve_queries


def state(console):
    return {row["key"]: row["value"] for row in console.show("state")}


def suspended_console(p):
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    return console


def test_suspend_stops_reading_and_resume_goes_on(make_pooler):
    """What a client sends meanwhile waits in its socket; its answer comes after RESUME."""
    p = make_pooler(settings={"pool_mode": "transaction"}, threads=2)
    clients = [p.login() for _ in range(10)]
    for c in clients:
        assert c.value("select 1") == "1"
    console = suspended_console(p)
    assert state(console) == {"active": "no", "paused": "no", "suspended": "yes"}
    for i, c in enumerate(clients):
        c.send(wire.query(f"select {i}"))
    assert all(c.is_silent() for c in clients)
    assert console.run("RESUME") == "RESUME"
    for i, c in enumerate(clients):
        assert c.read_ready().value() == str(i)


def test_suspend_keeps_a_transaction_and_a_running_query(make_pooler, cluster):
    p = make_pooler(settings={"pool_mode": "transaction"}, threads=2)
    inside, running, session = p.login(), p.login(), p.login()
    inside.query("begin")
    with cluster.connect("app") as direct:
        direct.execute("select pg_advisory_lock(7102)")
        running.send(wire.query("select pg_advisory_xact_lock(7102)"))
        wait_until(lambda: p.pool()["sv_active"] == 2, "two linked servers")
        console = suspended_console(p)
        assert running.is_silent() and p.proc.poll() is None
        assert console.run("RESUME") == "RESUME"
    assert running.read_ready().error is None
    assert inside.query("commit").tag == "COMMIT"
    assert session.value("select 3") == "3"


@pytest.mark.newer
def test_suspend_does_not_wait_for_pipelines(make_pooler, cluster):
    """What has to wait for answers waits on: no more is read, and nothing is lost."""
    p = make_pooler(settings={"pool_mode": "transaction", "suspend_timeout": 60}, profile="pgsluice")
    c = p.login()
    with cluster.connect("app") as direct:
        direct.execute("select pg_advisory_lock(7103)")
        sql = "select pg_advisory_xact_lock(7103)"
        c.send(wire.parse("a", sql), wire.bind("", "a"), wire.execute(), wire.SYNC)
        for i in range(5):
            c.send(wire.parse(f"b{i}", f"select {i}"), wire.bind("", f"b{i}"), wire.execute(), wire.SYNC)
        wait_until(lambda: p.pool()["sv_active"] == 1, "a linked server")
        for _ in range(2):
            console = suspended_console(p)
            assert c.is_silent()
            assert console.run("RESUME") == "RESUME"
    assert c.read_ready().error is None
    assert [c.read_ready().value() for _ in range(5)] == [str(i) for i in range(5)]


def test_suspend_keeps_the_queue(make_pooler):
    """A client in the queue stays there: the server that it waits for may stand still in a transaction."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1}, threads=2)
    first, second = p.login(), p.login()
    first.query("begin")
    second.send(wire.query("select 'second'"))
    wait_until(lambda: p.pool()["cl_waiting"] == 1, "a waiting client")
    console = suspended_console(p)
    assert [r["cl_waiting"] for r in console.show("pools") if r["database"] == "app"] == [1]
    assert console.run("RESUME") == "RESUME"
    assert first.query("commit").tag == "COMMIT"
    assert second.read_ready().value() == "second"


def test_suspend_in_the_middle_of_a_large_result(make_pooler):
    """It stands still between two rows, and no byte is lost."""
    p = make_pooler(settings={"pool_mode": "transaction"}, threads=2)
    c = p.login(timeout=60)
    c.send(wire.query("select repeat(chr(65 + i % 26), 5000 + i) from generate_series(1, 20000) i"))
    c.read_through("T")
    got = threading.Thread(target=lambda: result.append(c.read_ready()))
    result = []
    got.start()  # one that does not read would keep everything from coming to rest
    console = suspended_console(p)
    assert console.run("RESUME") == "RESUME"
    got.join(60)
    rows = result[0].rows
    assert len(rows) == 20000
    assert all(row[0] == chr(65 + i % 26) * (5000 + i) for i, row in enumerate(rows, 1))


def test_suspend_in_the_middle_of_a_large_message(make_pooler):
    """A message that has come in part is read to its end."""
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login(timeout=60)
    sql = "select length('" + "x" * 300000 + "')"
    packet = wire.query(sql)
    c.send(packet[:100000])
    wait_until(lambda: p.pool()["sv_active"] == 1, "a linked server")
    other, done = p.console(), []
    t = threading.Thread(target=lambda: done.append(suspended_console(p)))
    t.start()
    wait_until(lambda: state(other)["suspended"] == "yes", "the state suspended")
    assert not done
    c.send(packet[100000:])
    t.join(20)
    assert done
    assert done[0].run("RESUME") == "RESUME"
    assert c.read_ready().value() == "300000"


def test_suspend_timeout_closes_what_does_not_come_to_rest(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "suspend_timeout": "0.3", "auth_type": "md5"})
    quiet, half = p.login(password="apppw"), p.login(password="apppw")
    half.send(wire.query("select 'never whole'")[:10])
    slow = p.raw()
    slow.start()
    wait_until(lambda: p.pool()["sv_active"] == 1, "a linked server")
    console = suspended_console(p)
    for c in (half, slow):
        e = c.expect_error_close()
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "suspend_timeout")
    assert console.run("RESUME") == "RESUME"
    assert quiet.value("select 1") == "1"


def test_suspend_does_not_wait_for_what_a_client_has_left(make_pooler, cluster):
    """Its server, which is being brought to rest, is closed; the query may go on, as after any Terminate."""
    p = make_pooler({"app": cluster.dsn()}, profile="pgsluice", settings={"cancel_grace": 1000, "suspend_timeout": 1000})
    c = p.login()
    c.send(wire.query("select pg_sleep(1234)"))
    wait_until(lambda: [r["state"] for r in p.show("servers")] == ["active"], "the query runs")
    c.send(wire.TERMINATE)
    c.close()
    wait_until(lambda: [r["state"] for r in p.show("servers")] == ["being_canceled"], "it is brought to rest")
    console = suspended_console(p)
    assert console.run("RESUME") == "RESUME"
    assert p.show("servers") == []
    cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(1234)'")


def test_suspend_accepts_nobody_until_resume(make_pooler):
    p = make_pooler()
    console = suspended_console(p)
    late = p.raw()
    late.start()
    assert late.is_silent()
    assert console.run("RESUME") == "RESUME"
    late.finish_login("app", None)
    assert late.value("select 1") == "1"


def test_suspend_stops_the_timeouts(make_pooler):
    """client_idle_timeout does not count while nobody can be active."""
    p = make_pooler(settings={"client_idle_timeout": "1.5", "pool_mode": "transaction"})
    c = p.login()
    console = suspended_console(p)
    time.sleep(1.8)
    assert c.is_silent()
    assert console.run("RESUME") == "RESUME"


def test_suspend_errors(make_pooler):
    p = make_pooler()
    console = p.console()
    assert console.conn.query("SUSPEND app").error.text == "invalid command 'SUSPEND app', use SHOW HELP;"
    assert console.run("PAUSE") == "PAUSE"
    assert console.conn.query("SUSPEND").error.text == "already suspended/paused"
    assert console.run("RESUME") == "RESUME"
    assert console.run("PAUSE app") == "PAUSE"
    assert console.conn.query("SUSPEND").error.text == "cannot suspend with paused databases"
    assert console.run("RESUME app") == "RESUME"
    assert console.run("SUSPEND") == "SUSPEND"
    assert console.conn.query("SUSPEND").error.text == "already suspended/paused"
    assert console.conn.query("PAUSE").error.text == "already suspended/paused"
    assert console.run("RESUME") == "RESUME"


def test_suspend_ends_with_the_last_console_session(make_pooler):
    p = make_pooler()
    c = p.login()
    console = suspended_console(p)
    c.send(wire.query("select 7"))
    assert c.is_silent()
    console.close()
    assert c.read_ready().value() == "7"
    p.wait_for_log("admin disappeared when suspended, doing RESUME")


def test_suspend_closes_no_idle_server(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"}, threads=2)
    c = p.login()
    pid = c.value("select pg_backend_pid()")
    for _ in range(3):
        console = suspended_console(p)
        assert p_servers(console) == 1
        assert console.run("RESUME") == "RESUME"
        console.close()
        assert c.value("select pg_backend_pid()") == pid


def p_servers(console):
    return len(console.show("servers"))


def suspend_in_background(console):
    result = []
    thread = threading.Thread(target=lambda: result.append(console.conn.query("SUSPEND")))
    thread.start()
    return thread, result


def test_suspend_begins_nothing_for_the_queue(make_pooler, fake_server):
    """A server that comes free while everything is brought to rest is not given to whoever waits."""
    halves, rest, asked = threading.Event(), threading.Event(), []

    def reply(conn, sql):
        asked.append(sql)
        if sql != "slow":
            return answer("quick")
        whole = answer("slow")
        conn.send(whole[:-3])  # in the middle of ReadyForQuery
        halves.set()
        rest.wait(30)
        return whole[-3:]

    server = fake_server(lambda conn, params: serve_queries(conn, lambda sql: reply(conn, sql)))
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "default_pool_size": 1})
    first, second = p.login(params=[("application_name", "one")]), p.login(params=[("application_name", "two")])
    first.send(wire.query("slow"))
    assert halves.wait(30)
    second.send(wire.query("quick"))
    wait_until(lambda: p.pool()["cl_waiting"] == 1, "a waiting client")
    console, other = p.console(), p.console()
    thread, result = suspend_in_background(console)
    wait_until(lambda: state(other)["suspended"] == "yes", "the suspension")
    assert not result
    rest.set()
    thread.join(30)
    assert result[0].tag == "SUSPEND"
    assert asked == ["slow"] and second.is_silent()
    assert other.run("RESUME") == "RESUME"
    assert first.read_ready().value() == "slow"
    assert second.read_ready().value() == "quick"


def test_a_client_without_greeting_is_read_after_resume(make_pooler, fake_server):
    """What it has sent too early during the suspension is worked on when it was greeted."""
    may_greet = threading.Event()

    def serve(conn, params):
        may_greet.wait(30)
        serve_queries(conn)

    p = make_pooler({"app": fake_server(serve).dsn()}, settings={"pool_mode": "transaction"})
    c = p.raw()
    c.start()
    wait_until(lambda: p.pool()["sv_login"] == 1, "a login to the server")
    console, other = p.console(), p.console()
    thread, result = suspend_in_background(console)
    wait_until(lambda: state(other)["suspended"] == "yes", "the suspension")
    c.send(wire.query("early"))
    for _ in range(20):
        other.show("clients")  # the worker has had its turns, and has seen the query
        time.sleep(0.005)
    assert other.run("RESUME") == "RESUME"
    thread.join(30)
    assert result[0].error.text == "SUSPEND was undone before it was complete"
    may_greet.set()
    c.finish_login("app", None)
    assert c.read_ready().value() == "ok"
    assert c.value("again") == "ok"
