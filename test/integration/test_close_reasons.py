"""Why connections end, as the log tells it and, where the reference wants it, the client."""
import socket

import pytest
from harness import wire
from harness.procs import wait_until

TRANSACTION = {"pool_mode": "transaction"}


class Talker:
    """A server that answers queries; what is put into .words comes unasked, on the connection that it names."""

    def __init__(self, fake_server):
        self.conns, self.replies = [], {}
        self.server = fake_server(self.serve)

    def serve(self, conn, params):
        self.conns.append(conn)
        wire.serve_queries(conn, lambda sql: self.replies.get(sql, wire.answer(sql)))

    def say(self, *messages):
        self.conns[-1].send(*messages)

    def hang_up(self):
        self.conns[-1].sock.shutdown(socket.SHUT_RDWR)

    def pooler(self, make_pooler, **settings):
        return make_pooler({"app": self.server.dsn()}, settings={**TRANSACTION, **settings})


@pytest.fixture
def talker(fake_server):
    return Talker(fake_server)


@pytest.mark.parametrize("state", ["idle", "linked"])
@pytest.mark.parametrize("how, reason", [("terminate", "client close request"), ("close", "client unexpected eof")])
def test_clients_that_go(make_pooler, state, how, reason):
    p = make_pooler(settings=TRANSACTION)
    c = p.login()
    c.query("begin" if state == "linked" else "select 1")
    getattr(c, how)()
    p.wait_for_log(rf"LOG C-0x\w+: app/app@127.0.0.1:\d+ closing because: {reason} \(age=\ds\)")


def test_client_that_waits_and_goes(make_pooler):
    p = make_pooler(settings={**TRANSACTION, "default_pool_size": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    waiter.close()
    p.wait_for_log(r"C-.* closing because: client unexpected eof")
    p.wait_pool(cl_waiting=0)
    assert holder.query("commit").status == "I"


def test_server_of_a_client_that_goes(make_pooler):
    p = make_pooler(settings=TRANSACTION)
    c = p.login()
    c.query("begin")
    c.terminate()
    p.wait_for_log(r"S-.* closing because: client disconnect while server was not ready \(age=\ds\)")


def test_servers_of_a_pause(make_pooler):
    p = make_pooler(settings=TRANSACTION)
    p.login().query("select 1")
    assert p.admin("PAUSE") == "PAUSE"
    p.wait_for_log(r"LOG S-0x\w+: app/app@127.0.0.1:\d+ closing because: pause mode \(age=\ds\)")
    assert p.admin("RESUME") == "RESUME"


@pytest.mark.parametrize(
    "message", [wire.pack("N", b"SNOTICE\0C00000\0Mhello\0\0"), wire.pack("S", b"TimeZone\0Mars\0")]
)
def test_idle_server_that_talks(make_pooler, talker, message):
    p = talker.pooler(make_pooler)
    c = p.login()
    assert c.value("one") == "one"
    p.wait_pool(sv_idle=1)
    talker.say(message)
    p.wait_for_log(r"S-.* closing because: SV_IDLE server got dirty \(age=\ds\)")
    assert c.value("two") == "two"


def test_idle_server_whose_session_is_ended(make_pooler, talker):
    """Its last words are not taken for something that it says out of turn."""
    p = talker.pooler(make_pooler)
    c = p.login()
    assert c.value("one") == "one"
    p.wait_pool(sv_idle=1)
    talker.say(wire.pack("E", wire.error_body("FATAL", "57P01", "terminating connection")))
    p.wait_for_log(r"S-.* closing because: server conn crashed\? \(age=\ds\)")
    assert c.value("two") == "two"


@pytest.mark.parametrize(
    "message, text",
    [
        (wire.pack("D", b"\0\0")[:1] + b"\0\0\0\3", "bad pkt header"),
        (wire.pack("S", b"no end"), "broken ParameterStatus packet"),
        (wire.pack("y"), "unknown pkt"),
        (wire.pack("R", b"\0\0\0\0"), "unknown pkt"),
    ],
)
def test_linked_server_that_talks_nonsense(make_pooler, talker, message, text):
    """The client is told the reason for which its server was closed."""
    p = talker.pooler(make_pooler)
    talker.replies["bad"] = message
    c = p.login()
    c.send(wire.query("bad"))
    e = c.expect_error_close()
    assert (e.severity, e.code, e.text) == ("FATAL", "08P01", text)
    p.wait_for_log(rf"S-.* closing because: {text} \(age=\ds\)")
    p.wait_for_log(rf"C-.* closing because: {text} \(age=\ds\)")


def test_own_error_of_the_server_comes_first(make_pooler, talker):
    """What PostgreSQL says before it goes reaches the client, and then the pooler's word."""
    p = talker.pooler(make_pooler)
    c = p.login()
    talker.replies["begin"] = wire.pack("C", wire.cstr("BEGIN")) + wire.pack("Z", b"T")
    c.query("begin")
    talker.say(wire.pack("E", wire.error_body("FATAL", "57P01", "terminating connection")))
    assert c.recv().type == "E"
    talker.hang_up()
    assert c.expect_error_close().text == "server conn crashed?"


@pytest.mark.parametrize("fast", [0, 1])
def test_changed_server_in_session_mode(make_pooler, talker, fake_server, fast):
    """server_fast_close ends a session between its transactions; without it, it goes on with the old server."""
    p = make_pooler(
        {"app": talker.server.dsn()}, settings={"pool_mode": "session", "server_fast_close": fast, "log_connections": 0}
    )
    other = Talker(fake_server)
    c = p.login()
    assert c.value("one") == "one"
    p.databases["app"] = other.server.dsn()
    p.write_files()
    p.admin("RELOAD")
    if fast:
        e = c.expect_error_close()
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "database configuration changed")
        p.wait_for_log(r"S-.* closing because: database configuration changed \(age=\ds\)")
    else:
        p.wait_pool(sv_active=1)
        assert c.value("two") == "two" and not other.conns
        c.terminate()
        p.wait_for_log(r"S-.* closing because: close_needed \(age=\ds\)")
    c = p.login()
    assert c.value("three") == "three"
    wait_until(lambda: other.conns, "a connection to the new server")


def test_idle_server_of_a_changed_database(make_pooler, talker):
    p = talker.pooler(make_pooler)
    p.login().query("one")
    p.wait_pool(sv_idle=1)
    p.databases["app"] += " connect_query='select 1'"
    p.write_files()
    p.admin("RELOAD")
    p.wait_for_log(r"S-.* closing because: database configuration changed \(age=\ds\)")


def test_client_that_does_not_read(make_pooler, talker):
    """Its connection breaks while an answer is being sent; the server is not used again, as the rest is still to come."""
    p = talker.pooler(make_pooler)
    c = p.login()
    talker.replies["much"] = wire.row_description("x") + wire.pack("D", b"\0\1" + b"\0\0\x40\0" + b"x" * 16384) * 400
    c.send(wire.query("much"))
    wait_until(lambda: talker.conns, "a server")
    p.wait_pool(sv_active=1)
    c.reset()
    p.wait_for_log(r"C-.* closing because: (client unexpected eof|unexpected eof) \(age=\ds\)")
    p.wait_pool(sv_active=0, sv_idle=0)
