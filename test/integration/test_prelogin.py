"""
Budgets of clients that are not logged in yet: how many may be unfinished, who pays when there are more, how fast one
address may begin, and whose turn it is. Addresses of the loopback network stand for clients from everywhere.
"""
import os
import socket
import struct
import time

import pytest
from harness import wire
from harness.pooler import Console, is_instrumented
from harness.procs import rss_kib, wait_until

pytestmark = pytest.mark.ours

TOO_MANY = "too many unfinished logins (max_prelogin_conn)"
HALF = wire.startup_packet({"user": "app", "database": "app"})[:10]


@pytest.fixture
def guarded(make_pooler):
    """A pooler with one login loop, whose share of the limits is all of them."""
    opened = []

    def make(databases=None, profile="pgbouncer", **settings):
        p = make_pooler(databases, profile=profile, settings={"login_threads": 1, "auth_type": "plain", **settings})

        def connect(source, *data, timeout=20):
            """From this address of ours, 127.0.0.`source`, or a whole one."""
            source = source if "." in str(source) else f"127.0.0.{source}"
            sock = socket.create_connection(("127.0.0.1", p.port), timeout, source_address=(source, 0))
            c = wire.Conn(sock, timeout)
            opened.append(c)
            c.send(*data)
            return c

        p.from_address = connect
        return p

    yield make
    for c in opened:
        c.close()


def lists(p):
    with wire.Conn.unix(p.socket_path) as c:
        c.login("admin", "pgbouncer", "adminpw")
        return {r["list"]: r["items"] for r in Console(c).show("lists")}


def hold(p, source, count, data=HALF):
    """So many connections that begin and go no further."""
    return [p.from_address(source, data) for _ in range(count)]


def start(p, source, user="app"):
    """A login up to where the password is asked for."""
    c = p.from_address(source)
    c.start(user)
    m = c.recv()
    assert (m.type, m.body) == ("R", b"\0\0\0\3")
    return c


def finish(c, user="app", password="apppw"):
    c.send(wire.pack("p", wire.cstr(password)))
    c.finish_login(user, password)
    assert c.value("select 1") == "1"
    return c


def test_who_floods_loses_his_own(guarded):
    """An honest login from elsewhere, begun before, goes through; so does one that comes later."""
    p = guarded(max_prelogin_conn=20)
    before = start(p, 3)
    flood = hold(p, 2, 60)
    for c in flood[:41]:
        e = c.expect_error_close()
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", TOO_MANY)
    finish(before)
    finish(start(p, 4))
    wait_until(lambda: lists(p)["logins_evicted"] == 41, "41 are closed")
    # The administrator, on the Unix socket, counts for nothing.
    assert lists(p)["login_clients"] == 19 and lists(p)["login_sources"] == 1
    assert all(c.is_silent() for c in flood[41:])
    found = p.wait_for_log(r"more unfinished logins than max_prelogin_conn \(20\): closing the oldest of (\S+), which")
    assert found[1] == "127.0.0.2"
    assert p.log_count("more unfinished logins than") < 41, "the line is told rarely"


def test_error_in_the_style_of_postgresql(guarded):
    p = guarded(max_prelogin_conn=1, error_style="postgres")
    first = hold(p, 2, 2)[0]
    e = first.expect_error_close()
    assert (e.code, e.text) == ("53300", TOO_MANY)
    assert e.fields["D"].startswith("The pooler takes 1 logins that are not finished")


def test_among_many_addresses_the_oldest_pays(guarded):
    """One login of each of many addresses: nobody has more than the others."""
    p = guarded(max_prelogin_conn=10)
    conns = [p.from_address(10 + n, HALF) for n in range(30)]
    for c in conns[:20]:
        assert c.expect_error_close().text == TOO_MANY
    finish(start(p, 3))
    assert conns[20].expect_error_close().text == TOO_MANY
    assert all(c.is_silent() for c in conns[21:])


def test_unfinished_logins_do_not_use_up_max_client_conn(guarded):
    p = guarded(max_prelogin_conn=100, max_client_conn=5)
    hold(p, 2, 80)
    clients = [finish(start(p, 3)) for _ in range(5)]
    c = p.from_address(3)
    c.start()
    assert c.expect_error_close().text == "no more connections allowed (max_client_conn)"
    clients[0].terminate()
    finish(start(p, 3))


def test_max_client_conn_holds_at_the_end_of_a_login_too(guarded):
    """There was room for each when it began, and not for all when they were done."""
    p = guarded(max_prelogin_conn=100, max_client_conn=3)
    begun = [start(p, 2) for _ in range(8)]
    for c in begun[:3]:
        finish(c)
    for c in begun[3:]:
        c.send(wire.pack("p", b"apppw\0"))
        assert c.expect_error_close().text == "no more connections allowed (max_client_conn)"


def test_without_the_setting_unfinished_logins_are_clients(guarded):
    """As in PgBouncer."""
    p = guarded(max_client_conn=5)
    hold(p, 2, 5)
    wait_until(lambda: lists(p)["login_clients"] >= 5, "they are there")
    c = p.from_address(3)
    c.start()
    assert c.expect_error_close().text == "no more connections allowed (max_client_conn)"


def test_unix_sockets_are_not_counted(guarded):
    p = guarded(max_prelogin_conn=3)
    unix = [p.raw_unix() for _ in range(10)]
    for c in unix:
        c.start()
        assert c.recv().type == "R"
    hold(p, 2, 3)
    for c in unix:
        finish(c)


def test_rate_of_one_address(guarded):
    """What is too fast waits, in order, and is not refused; others and this machine itself are not held up."""
    users = [f"u{n:02}" for n in range(50)]
    p = guarded(max_prelogin_rate=20)
    p.secrets.update({u: "pw" for u in users})
    p.write_files()
    p.admin("RELOAD")
    begin = time.monotonic()
    conns = [p.from_address(2, wire.startup_packet({"user": u, "database": "app"})) for u in users]
    for source in (3, 1, 1):
        finish(start(p, source))
    for c in conns:
        assert c.recv().type == "R"
    assert time.monotonic() - begin > 1.4, "50 - 20 logins at 20 in a second"
    attempts = [line.split("user=")[1].split()[0] for line in p.log_text().splitlines() if "login attempt" in line]
    assert [u for u in attempts if u in users] == users
    assert lists(p)["logins_delayed"] >= 30
    for u, c in zip(users, conns):
        c.send(wire.pack("p", b"pw\0"))
    assert lists(p)["login_waiting"] == 0


def test_time_for_logins_includes_the_wait(guarded):
    p = guarded(max_prelogin_rate=1, client_login_timeout=1)
    conns = hold(p, 2, 12, wire.startup_packet({"user": "app", "database": "app"}))
    assert conns[-1].expect_error_close().text == "client_login_timeout"
    assert conns[0].recv().type == "R"


def test_client_that_leaves_while_it_waits(guarded):
    p = guarded(max_prelogin_rate=1)
    conns = hold(p, 2, 6)
    wait_until(lambda: lists(p)["login_waiting"] >= 4, "they wait")
    for c in conns:
        c.reset()
    p.admin("set max_prelogin_rate = 0")
    wait_until(lambda: lists(p)["login_clients"] == 0, "all are gone")
    finish(start(p, 2))


@pytest.mark.parametrize("prefix", [32, 24])
def test_network_is_one_address(guarded, prefix):
    """Three of one address, and two of each of two others: these are four of one network, if that is what counts."""
    p = guarded(max_prelogin_conn=7, prelogin_ipv4_prefix=prefix)
    conns = {n: hold(p, f"127.0.{n}", 2 if n.startswith("0") else 3) for n in ("0.2", "0.3", "1.1")}
    wait_until(lambda: lists(p)["login_clients"] == 7, "all are there")
    hold(p, "127.0.2.1", 1)
    victim = conns["0.2" if prefix == 24 else "1.1"][0]
    assert victim.expect_error_close().text == TOO_MANY
    assert sum(not c.is_silent() for n in conns for c in conns[n] if c is not victim) == 0


def test_addresses_take_turns(guarded):
    """Slow logins of one address have to wait for places; those of another come in between."""
    p = guarded(max_prelogin_conn=4000)
    hold(p, 2, 800)
    for _ in range(3):
        finish(start(p, 3))
    state = lists(p)
    assert state["logins_delayed"] > 0 and state["logins_evicted"] == 0
    wait_until(lambda: lists(p)["login_waiting"] == 0, "everybody has begun in the end")
    assert lists(p)["login_clients"] == 800


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_handshakes_count_too(guarded, pki, data):
    """Those who ask for TLS and go no further, before the first byte of the handshake or in the middle of it."""
    p = guarded(max_prelogin_conn=10, **pki.client_settings("allow"))
    flood = []
    for _ in range(25):
        c = p.from_address(2)
        assert c.ssl_request() == b"S"
        c.send(data)
        flood.append(c)
    for c in flood[:15]:
        try:
            while c.sock.recv(4096):
                pass
        except ConnectionResetError:
            pass
    honest = p.from_address(3).start_tls(pki.client_context())
    honest.login(password="apppw")
    assert honest.value("select 1") == "1"
    p.admin("set client_login_timeout = 1")
    wait_until(lambda: lists(p)["login_clients"] == 0, "the time for logins includes the handshake")


def test_limits_can_be_set(guarded):
    p = guarded()

    def change(setting):
        """And a login of several turns, which the change has overtaken when it is done; none of it counts."""
        with wire.Conn.unix(p.socket_path) as c:
            c.login("admin", "pgbouncer", "adminpw")
            Console(c).run(f"set {setting}")
        c = p.raw_unix()
        c.start()
        c.recv()
        finish(c)

    conns = hold(p, 2, 30)
    wait_until(lambda: lists(p)["login_clients"] == 30, "all are there")
    change("max_prelogin_conn = 10")
    more = hold(p, 2, 15)
    # Those that came before it was on are not counted.
    for c in more[:5]:
        assert c.expect_error_close().text == TOO_MANY
    assert lists(p)["logins_evicted"] == 5
    change("max_prelogin_conn = 0")
    conns += hold(p, 2, 30)
    finish(start(p, 2))
    assert [(n, c.buf) for n, c in enumerate(conns + more[5:]) if not c.is_silent()] == []
    assert "logins_evicted" not in lists(p), "rows that PgBouncer does not have are there while they say something"


@pytest.mark.parametrize("login_threads, threads", [(3, 1), (0, 2)])
def test_several_loops_share_the_limit(guarded, login_threads, threads):
    p = guarded(max_prelogin_conn=30, login_threads=login_threads, threads=threads)
    flood = hold(p, 2, 200)
    honest = finish(start(p, 3))

    def closed():
        return sum(not c.is_silent() for c in flood)

    wait_until(lambda: closed() >= 170, "all but the share of each loop are closed")
    assert lists(p)["login_clients"] <= 30
    assert honest.value("select 2") == "2"


def test_storm_of_honest_clients_behind_one_address(make_pooler, guarded):
    """2000 at once under the defaults of [pgsluice]: everybody gets in."""
    p = guarded(profile="pgsluice", client_login_timeout=60, max_client_conn=5000)
    conns = [p.from_address(2, timeout=60) for _ in range(2000)]
    for c in conns:
        c.start()
    for c in conns:
        assert c.recv().type == "R"
        c.send(wire.pack("p", b"apppw\0"))
    for c in conns:
        c.finish_login("app", None)
    assert lists(p)["logins_evicted"] == 0


def test_defaults(make_pooler):
    """Off as PgBouncer is, on under our own name."""
    for profile, conn, rate in (("pgbouncer", "0", "0"), ("pgsluice", "4096", "2000")):
        p = make_pooler(profile=profile)
        settings = {r["key"]: r["value"] for r in p.show("config")}
        assert (settings["max_prelogin_conn"], settings["max_prelogin_rate"]) == (conn, rate)


def fill_startup(p):
    """All of the longest startup packet but its last byte."""
    head = struct.pack("!ii", 65535, wire.PROTO_3_0) + b"user\0app\0search_path\0"
    return p.from_address(2, head, b"x" * (65535 - len(head) - 1))


def fill_password(p, context=None):
    """Parameters of 64 KiB that are no other client's, and a password that lacks its last bytes; by TLS or not."""
    c = p.from_address(2)
    if context is not None:
        c.start_tls(context)
    c.start(params=[("search_path", os.urandom(32000).hex())])
    assert c.recv().type == "R"
    c.send(b"p" + struct.pack("!i", 65534) + b"x" * 65500)
    return c


def fill_handshake(p):
    """Most of the longest record of TLS that there may be."""
    c = p.from_address(2)
    assert c.ssl_request() == b"S"
    c.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + os.urandom(16300))
    return c


FULL_LOGIN_KIB = 256  # stated in doc/authentication.md


@pytest.mark.parametrize("what", ["startup", "password", "handshake", "password by tls"])
def test_memory_of_those_who_send_most(guarded, pki, what):
    """What one unfinished login can have us keep: times max_prelogin_conn it is what all strangers together can."""
    if is_instrumented():
        pytest.skip("memory of an instrumented build")
    p = guarded(
        max_prelogin_conn=200, client_login_timeout=600, track_extra_parameters="search_path", **pki.client_settings("allow")
    )
    context = pki.client_context() if "tls" in what else None
    before = rss_kib(p.proc.pid)
    fill = {"startup": fill_startup, "handshake": fill_handshake}.get(what, lambda p: fill_password(p, context))
    conns = [fill(p) for _ in range(300)]
    wait_until(lambda: lists(p)["logins_evicted"] == 100, "as many are closed as there are too many")
    used = rss_kib(p.proc.pid) - before
    assert 200 * 50 < used < 200 * FULL_LOGIN_KIB, f"{used / 200} KiB for each"
    for c in conns:
        c.close()


def test_long_messages_are_for_passwords(make_pooler):
    """Nothing is gathered of a message that cannot be right: those of md5 and SCRAM are short."""
    for auth_type, size, text in (
        ("md5", 60, "password authentication failed"),
        ("scram-sha-256", 1100, "SASL authentication failed"),
    ):
        p = make_pooler(settings={"auth_type": auth_type})
        with p.raw() as c:
            c.start()
            assert c.recv().type == "R"
            c.send(b"p" + struct.pack("!i", size))
            assert c.expect_error_close().text == text


@pytest.mark.parametrize("what", ["startup", "password"])
def test_memory_of_those_who_announce_much(guarded, what):
    """A packet of 64 KiB is announced and hardly begun: nothing is set aside for it."""
    if is_instrumented():
        pytest.skip("memory of an instrumented build")
    p = guarded(max_client_conn=3000)
    head = struct.pack("!ii", 65000, wire.PROTO_3_0) + b"user\0"
    conns = hold(p, 2, 20, head)  # whatever the first ones need
    before = rss_kib(p.proc.pid)
    for _ in range(1000):
        if what == "startup":
            conns += hold(p, 2, 1, head)
        else:
            c = start(p, 2)
            c.send(b"p" + struct.pack("!i", 65000) + b"secret")
            conns.append(c)
    wait_until(lambda: lists(p)["login_clients"] >= 1000, "all are there")
    each = (rss_kib(p.proc.pid) - before) / 1000
    assert each < 8, f"{each} KiB for each"
