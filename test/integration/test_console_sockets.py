"""SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS: who is shown, in which order, and that thousands disturb nobody."""
import signal
import sys
import threading

import pytest
from harness import wire
from harness.procs import run, wait_until


def of_app(rows):
    return [r for r in rows if r["database"] == "app"]


def states(rows):
    return [r["state"] for r in rows]


def held_server(fake_server):
    """A server that answers 'hold' only when told to, and a half message to 'half'."""
    go = threading.Event()

    def reply(sql):
        if sql == "hold":
            go.wait(20)
        if sql == "half":
            return wire.row_description("v") + wire.data_row("x" * 1000)[:500]
        return wire.answer("ok")

    server = fake_server(lambda conn, _: wire.serve_queries(conn, reply))
    server.go = go
    return server


@pytest.mark.newer
def test_order_of_rows(make_pooler, fake_server):
    """By database and user; then by state, as the reference lists them; then by age."""
    server = held_server(fake_server)
    p = make_pooler(
        {name: server.dsn() for name in ("b", "a")}, settings={"pool_mode": "transaction", "default_pool_size": 1}
    )
    for database in ("b", "a"):
        idle, busy, waiting, idle2 = (p.login("app", database) for _ in range(4))
        idle.query("x")
        busy.send(wire.query("hold"))
        p.wait_pool(database, sv_active=1)
        waiting.send(wire.query("x"))
        p.wait_pool(database, cl_waiting=1)
    p.login("app2", "a").send(wire.query("hold"))
    p.wait_pool("a", "app2", sv_active=1)
    rows = p.show("clients")
    keys = [(r["database"], r["user"]) for r in rows]
    assert keys == [("a", "app")] * 4 + [("a", "app2")] + [("b", "app")] * 4 + [("pgbouncer", "admin")]
    assert states(rows[:4]) == ["idle", "active", "idle", "waiting"], "one list of those who are read, then the queue"
    assert [r["id"] for r in rows[:3]] == sorted(r["id"] for r in rows[:3])
    assert [(r["database"], r["user"]) for r in p.show("servers")] == [("a", "app"), ("a", "app2"), ("b", "app")]
    sockets = p.show("sockets")
    assert states([r for r in sockets if (r["database"], r["user"]) == ("a", "app")]) == [
        "cl_active",
        "cl_active",
        "cl_active",
        "cl_waiting",
        "sv_active",
    ]
    server.go.set()


@pytest.mark.newer
def test_servers_in_the_order_of_their_states(make_pooler, fake_server):
    server = held_server(fake_server)
    p = make_pooler(
        {"app": server.dsn()}, settings={"pool_mode": "transaction", "server_check_delay": 0.001, "threads": 1}
    )
    a, b = p.login(), p.login()
    a.query("x")
    a.send(wire.query("hold"))
    p.wait_pool(sv_active=1)
    b.query("x")
    p.wait_pool(sv_active=1, sv_used=1)
    rows = p.show("servers")
    assert states(rows) == ["active", "used"]
    assert states([r for r in p.show("sockets") if r["type"] == "S"]) == ["sv_active", "sv_used"]
    server.go.set()


@pytest.mark.newer
@pytest.mark.parametrize("login_threads", [0, 1, 2])
def test_clients_that_log_in(make_pooler, login_threads):
    """Only in SHOW SOCKETS, as its last rows, and in SHOW LISTS."""
    extra = {"auth_type": "plain", "login_threads": login_threads}
    p = make_pooler(settings=extra, threads=2)
    asked, nameless = p.raw(), p.raw()
    asked.start("app", "app")
    assert asked.recv().type == "R"
    nameless.send(b"\0\0\0")
    done = p.login(password="apppw")
    wait_until(lambda: p.lists()["login_clients"] == 2, lambda: f"two clients log in: {p.lists()}")
    wait_until(lambda: [r for r in p.show("sockets") if r["pkt_avail"] == 3], "the three bytes were read")
    rows = p.show("sockets")
    assert states(rows)[-2:] == ["cl_login"] * 2 and states(rows[:-2]).count("cl_login") == 0
    assert sorted((r["user"], r["database"]) for r in rows[-2:]) == [("(nouser)", "(nodb)"), ("app", "(nodb)")]
    by = {r["user"]: r for r in rows[-2:]}
    assert by["app"]["port"] == asked.sock.getsockname()[1] and by["app"]["local_port"] == p.port
    assert (by["(nouser)"]["pkt_avail"], by["(nouser)"]["link"]) == (3, "")
    assert [r["user"] for r in p.show("active_sockets")] == ["(nouser)"], "three bytes wait in its buffer"
    assert len(of_app(p.show("clients"))) == 1
    assert p.lists()["used_clients"] == 4
    nameless.close()
    asked.send(wire.pack("p", b"apppw\0"))
    asked.finish_login("app", "apppw")
    wait_until(lambda: "cl_login" not in states(p.show("sockets")), "nobody logs in any more")
    assert done.value("select 1") == "1"


@pytest.mark.ours
def test_buffers(make_pooler, fake_server):
    """What was read and waits, what a message still lacks, what waits to be sent."""
    server = held_server(fake_server)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    a.send(wire.query("half"))
    p.wait_pool(sv_active=1)
    question = wire.query("x")
    b.send(question)
    p.wait_pool(cl_waiting=1)
    wait_until(lambda: [r for r in p.show("sockets") if r["pkt_remain"] > 0], "half an answer has come")
    by = {r["state"]: r for r in p.show("sockets") if r["database"] == "app"}
    assert by["sv_active"]["pkt_remain"] == len(wire.data_row("x" * 1000)) - 500
    waiting = by["cl_waiting"]
    assert (waiting["recv_pos"], waiting["pkt_pos"], waiting["pkt_avail"]) == (len(question), 0, len(question))
    for row in by.values():
        assert (row["send_pos"], row["send_remain"]) == (0, 0)
    assert "cl_waiting" in states(p.show("active_sockets"))


def test_unix_clients(make_pooler):
    p = make_pooler()
    u = p.raw_unix()
    u.login()
    row = of_app(p.show("clients"))[0]
    assert (row["addr"], row["port"], row["local_addr"], row["local_port"]) == ("unix", p.port, "unix", p.port)
    assert row["remote_pid"] > 0


def test_wait_is_of_running_queries_too(make_pooler, fake_server):
    server = held_server(fake_server)
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("x")
    assert [(r["wait"], r["wait_us"]) for r in of_app(p.show("clients"))] == [(0, 0)]
    c.send(wire.query("hold"))
    p.wait_pool(sv_active=1)
    waited = []
    for _ in range(2):
        row = of_app(p.show("clients"))[0]
        waited.append(row["wait"] * 1_000_000 + row["wait_us"])
    assert 0 < waited[0] < waited[1]
    console = p.console()
    mine = []
    for _ in range(3):
        row = [r for r in console.show("clients") if r["database"] == "pgbouncer"][-1]
        mine.append(row["wait"] * 1_000_000 + row["wait_us"])
    assert mine == sorted(mine) and mine[0] < mine[-1], "a session of the console has one query that never ends"
    server.go.set()


# --- many clients

MANY = 900


@pytest.fixture
def crowd(make_pooler):
    """Clients of several slices on two workers."""
    p = make_pooler(
        settings={"max_client_conn": 3000, "pool_mode": "transaction", "log_connections": 0, "log_disconnections": 0},
        threads=2,
    )
    p.crowd = [p.login(params={"application_name": f"stays {n}"}) for n in range(MANY)]
    return p


@pytest.mark.ours
def test_who_stays_is_shown_once_while_others_come_and_go(crowd):
    p, stop, come = crowd, threading.Event(), [0]

    def come_and_go():
        while not stop.is_set():
            with wire.Conn.tcp(p.port) as c:
                c.login(params={"application_name": "guest"})
                come[0] += 1

    threads = [threading.Thread(target=come_and_go, daemon=True) for _ in range(3)]
    for t in threads:
        t.start()
    console = p.console()
    for what in ("clients", "sockets", "clients"):
        before = come[0]
        names = [r["application_name"] for r in console.show(what) if r["type"] == "C"]
        stayed = [n for n in names if n.startswith("stays")]
        assert sorted(stayed) == sorted(f"stays {n}" for n in range(MANY)), what
        wait_until(lambda: come[0] > before, "others come meanwhile")
    stop.set()
    for t in threads:
        t.join(20)


@pytest.mark.ours
def test_an_answer_under_way_disturbs_nobody(crowd):
    """Somebody who does not read, who leaves in the middle, or is thrown out; others are answered meanwhile."""
    p = crowd
    deaf, leaver, victim, console = (p.console() for _ in range(4))
    for session in (deaf, leaver, victim):
        session.conn.send(wire.query("SHOW CLIENTS") * 8)
    leaver.conn.recv()
    leaver.conn.reset()
    ids = [r["id"] for r in console.show("clients") if r["database"] == "pgbouncer"]
    assert console.run(f"KILL_CLIENT {sorted(ids)[-2]}") == "KILL_CLIENT"
    for _ in range(3):
        assert len(of_app(console.show("clients"))) == MANY
    assert p.crowd[0].value("select 1") == "1"
    for _ in range(8):
        assert len(of_app_names(deaf.conn.read_ready())) == MANY


def of_app_names(result):
    at = [name for name, _ in result.columns].index("application_name")
    return [row for row in result.rows if row[at].startswith("stays")]


@pytest.mark.ours
def test_the_process_ends_in_the_middle_of_an_answer(crowd):
    p = crowd
    sessions = [p.console() for _ in range(4)]
    for session in sessions:
        session.conn.send(wire.query("SHOW CLIENTS") * 4)
    sessions[0].conn.recv()
    p.exit_wanted = True
    p.signal(signal.SIGQUIT)
    assert p.wait_exit() == 0


@pytest.mark.ours
def test_show_over_the_extended_protocol_in_slices(crowd):
    p = crowd
    p.admin("SET console_extended = 1")
    # A process of its own: psycopg waits with select(), which cannot name a descriptor above a thousand.
    program = f"""
import psycopg
with psycopg.connect("host=127.0.0.1 port={p.port} dbname=pgbouncer user=admin password=adminpw", autocommit=True) as conn:
    rows = conn.execute("SHOW CLIENTS", prepare=True).fetchall()
print(len([r for r in rows if r[2] == "app"]))
"""
    assert run([sys.executable, "-c", program]).stdout == f"{MANY}\n"
