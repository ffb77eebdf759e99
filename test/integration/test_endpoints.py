"""Which of several servers a new connection goes to: their roles as they tell them at login, and limits per place."""
import struct
import threading

import pytest
from harness import wire
from harness.procs import wait_until


def test_logins_to_one_endpoint_are_bounded(make_pooler, fake_server):
    """Of all pools together: each has a login to make, and one is under way."""
    may_greet, under_way, peak = threading.Semaphore(0), [], []

    def handler(conn, params):
        under_way.append(conn)
        peak.append(len(under_way))
        may_greet.acquire()
        under_way.remove(conn)
        wire.serve_queries(conn)

    server = fake_server(handler)
    p = make_pooler(
        {name: server.dsn() for name in ("one", "two", "three")},
        profile="pgsluice",
        settings={"endpoint_login_concurrency": 1, "server_login_retry": 1},
    )
    clients = []
    for name in ("one", "two", "three"):
        c = p.raw()
        c.start(database=name)
        clients.append(c)
    for done in range(3):
        wait_until(lambda: len(peak) == done + 1, f"login {done + 1} has begun")
        may_greet.release()
    for c in clients:
        c.read_ready()
    assert peak == [1, 1, 1]


def role_of(c):
    return "standby" if c.value("select pg_is_in_recovery()") == "t" else "primary"


@pytest.mark.parametrize(
    "attrs, role",
    [
        ("primary", "primary"),
        ("read-write", "primary"),
        ("standby", "standby"),
        ("read-only", "standby"),
        ("prefer-standby", "standby"),
    ],
)
def test_role_that_is_asked_for(make_pooler, pair, attrs, role):
    """The other host is first in turn half of the time: its server says at the login what it is."""
    p = make_pooler(
        {"app": pair.dsn(pool_size=3)},
        profile="pgsluice",
        settings={"target_session_attrs": attrs, "health_interval": 0},
    )
    clients = [p.login() for _ in range(3)]
    for c in clients:
        c.query("begin")
    roles = [role_of(c) for c in clients]
    assert roles[1:] == [role] * 2
    assert roles[0] == role or attrs == "prefer-standby"  # the first login finds out, and harms nobody
    for c in clients:
        c.query("rollback")


ROLE_QUERY = "pg_is_in_recovery"


@pytest.mark.parametrize("in_recovery, fits", [("f", True), ("t", False)])
def test_server_that_does_not_report_its_role_is_asked(make_pooler, fake_server, in_recovery, fits):
    """As those before PostgreSQL 14."""
    asked = []

    def reply(sql):
        if ROLE_QUERY in sql:
            asked.append(sql)
            values = (in_recovery.encode(), b"off")
            body = b"".join(struct.pack("!i", len(v)) + v for v in values)
            row = wire.pack("D", struct.pack("!h", 2) + body)
            return row + wire.pack("C", wire.cstr("SELECT 1")) + wire.pack("Z", b"I")
        return wire.answer("ok")

    server = fake_server(lambda conn, params: wire.serve_queries(conn, reply))
    p = make_pooler(
        {"app": server.dsn()}, profile="pgsluice", settings={"target_session_attrs": "primary", "query_wait_timeout": 1}
    )
    c = p.raw()
    c.start()
    if fits:
        c.read_ready()
        assert c.value("x") == "ok"
        assert len(asked) == 1
    else:
        wait_until(lambda: "server does not have the requested role" in p.log_text(), "the server was closed")
        assert asked
