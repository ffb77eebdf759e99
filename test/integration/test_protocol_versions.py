"""Versions of the protocol beyond 3.0, on both sides, and the long cancel keys that come with them."""
import os
import shutil
import struct

import pytest
from harness import procs, wire
from harness.procs import wait_until
from test_restart import SBIN

pytestmark = pytest.mark.ours

PROTO_3_2 = wire.PROTO_3_0 + 2
TRANSACTION = {"pool_mode": "transaction"}
LONG = 36  # process id and 32 bytes


def newer(p, version=PROTO_3_2, database="app", user="app", **params):
    """A client that speaks protocol 3.2."""
    c = p.raw()
    c.login(user, database, params=params, version=version)
    return c


def negotiation(c):
    version, count = struct.unpack("!ii", c.negotiated[:8])
    names = [n.decode() for n in c.negotiated[8:].split(b"\0")[:-1]]
    assert len(names) == count
    return version, names


@pytest.fixture
def modern(make_pooler):
    """A pooler with the profile [pgsluice], where both sides may speak 3.2."""
    return lambda databases=None, settings=None, **kw: make_pooler(
        databases, profile="pgsluice", settings={"auth_type": "trust", **TRANSACTION, **(settings or {})}, **kw
    )


# --- clients


def test_protocol_3_2_is_spoken(modern):
    p = modern()
    c = newer(p)
    assert c.negotiated is None, "what is spoken needs no negotiation"
    assert len(c.key) == LONG and c.key[0] < 0x80
    assert c.value("select 1") == "1"
    old = p.login()
    assert old.negotiated is None and len(old.key) == 8


@pytest.mark.parametrize(
    "minor,names,spoken,length",
    [
        (0, ["_pq_.alpha"], 0, 8),
        (1, [], 0, 8),
        (1, ["_pq_.alpha"], 0, 8),
        (2, ["_pq_.alpha", "_pq_.beta"], 2, LONG),
        (3, [], 2, LONG),
        (9999, ["_pq_.test_protocol_negotiation"], 2, LONG),
        (65535, [], 2, LONG),
    ],
)
def test_what_is_not_known_is_negotiated(modern, minor, names, spoken, length):
    """Never a version above the one asked for, never 3.1, and each name that is not known."""
    c = newer(modern(), wire.PROTO_3_0 + minor, **{n: "1" for n in names})
    assert negotiation(c) == (wire.PROTO_3_0 + spoken, names)
    assert len(c.key) == length
    assert c.value("select 1") == "1"


def test_negotiation_comes_before_authentication(make_pooler):
    p = make_pooler(profile="pgsluice", settings={"auth_type": "scram-sha-256"})
    c = p.raw()
    c.start(version=wire.PROTO_3_0 + 9999)
    assert [c.recv().type, c.recv().type] == ["v", "R"]
    c = p.raw()
    c.login(password="apppw", version=wire.PROTO_3_0 + 9999)
    assert c.auth == "scram-sha-256" and len(c.key) == LONG


@pytest.mark.parametrize("profile,length", [("pgbouncer", 8), ("pgsluice", LONG)])
def test_many_and_long_names(make_pooler, profile, length):
    """All of them come back, be they a thousand or as long as a packet."""
    p = make_pooler(profile=profile, settings={"auth_type": "trust"})
    for names in ([f"_pq_.{i}" for i in range(1000)], ["_pq_." + "x" * 65000]):
        c = newer(p, **{n: "" for n in names})
        assert negotiation(c)[1] == names
        assert len(c.key) == length


def test_the_version_is_a_setting(make_pooler):
    p = make_pooler(settings={"max_protocol_version": "3.2"})
    assert len(newer(p).key) == LONG
    p = make_pooler(profile="pgsluice", settings={"auth_type": "trust", "max_protocol_version": "3.0"})
    c = newer(p)
    assert negotiation(c) == (wire.PROTO_3_0, []) and len(c.key) == 8


def test_a_console_session_speaks_it_too(modern):
    p = modern()
    busy = p.login()
    busy.query("begin")
    c = p.raw()
    c.login("admin", "pgbouncer", version=PROTO_3_2)
    assert c.negotiated is None and len(c.key) == LONG
    c.send(wire.query("PAUSE"))
    wait_until(lambda: p.show("state")[1]["value"] == "yes", "paused")
    p.cancel(c.key[:-1] + bytes([c.key[-1] ^ 1]))
    p.cancel(c.key[:8])
    p.cancel(c.key)
    assert c.read_ready().error.text == "canceled by the user"
    assert p.log_count("closing because: failed cancel request") == 2


# --- long keys


def run(c, cluster, tag):
    c.send(wire.query(f"select pg_sleep(60) /* {tag} */"))
    cluster.wait_running(tag)


def run_and_cancel(p, cluster, *clients, through=None):
    for n, c in enumerate(clients):
        run(c, cluster, f"long-{os.getpid()}-{n}")
        (through or p).cancel(c.key)
        assert c.read_ready().error.code == "57014"
        assert c.value("select 1") == "1"


def test_cancel_with_a_long_key(modern, cluster):
    p = modern(threads=2)
    clients = [newer(p) for _ in range(4)] + [p.login()]
    assert len({c.key[8:] for c in clients}) == 5
    run_and_cancel(p, cluster, *clients)


def test_only_the_whole_key_is_the_key(modern, cluster):
    """Neither the beginning of a long key nor a short one with something behind it, nor one that differs anywhere."""
    p = modern()
    long, short = newer(p), p.login()
    run(long, cluster, f"whole-long-{os.getpid()}")
    run(short, cluster, f"whole-short-{os.getpid()}")
    wrong = [long.key[:n] for n in (8, 12, LONG - 1)] + [long.key + b"\0", short.key + long.key[8:], short.key + b"\0"]
    for i in (0, 1, 7, 8, 20, LONG - 1):
        wrong.append(long.key[:i] + bytes([long.key[i] ^ 4]) + long.key[i + 1 :])
    for key in wrong:
        p.cancel(key)
    assert p.log_count("closing because: failed cancel request") == len(wrong)
    assert p.log_count("successfully sent cancel request") == 0
    for c in (long, short):
        p.cancel(c.key)
        assert c.read_ready().error.code == "57014"


def test_lengths_of_keys(modern):
    """The protocol knows secrets of 4 to 256 bytes."""
    p = modern()
    for length in (0, 4, 7, 261, 1000):
        p.cancel(b"\1" * length)
    assert p.log_count("closing because: bad cancel request") == 5
    for length in (8, 9, 36, 260):
        p.cancel(b"\1" * length)
    assert p.log_count("closing because: failed cancel request") == 4


def test_a_reload_leaves_long_keys_valid(modern, cluster):
    p = modern()
    c = newer(p)
    p.settings["max_protocol_version"] = "3.0"
    p.write_files()
    p.admin("RELOAD")
    late = newer(p)
    assert len(late.key) == 8
    run_and_cancel(p, cluster, c, late)


def test_long_keys_through_a_peer(modern, cluster):
    a = modern(settings={"peer_id": 1})
    b = modern(settings={"peer_id": 2}, peers={1: f"host=127.0.0.1 port={a.port}"})
    c = newer(a)
    assert c.key[1:3] == b"\1\0" and c.key[7] & 3 == 3
    run_and_cancel(a, cluster, c, through=b)
    run_and_cancel(a, cluster, c)


def test_keys_of_peers_of_any_length(modern, fake_server):
    """Passed on byte for byte, with one hop less."""
    packets = []
    peer = fake_server(
        lambda conn: packets.append(conn.read_exact(struct.unpack("!i", conn.read_exact(4))[0] - 4)), raw=True
    )
    p = modern(settings={"peer_id": 1}, peers={0x1207: peer.dsn()})
    for length in (8, 36, 260):
        key = b"\x11\x07\x12" + os.urandom(4) + b"\xab" + os.urandom(length - 8)
        p.cancel(key)
        assert packets.pop() == struct.pack("!i", wire.CODE_CANCEL) + key[:7] + b"\xaa" + key[8:]


# --- servers


class Server:
    """A server that speaks up to `minor`, gives out `secret`, and notes what it is asked."""

    def __init__(self, fake_server, secret, minor=2, hello=None):
        self.secret, self.minor, self.hello = secret, minor, hello
        self.versions, self.cancels = [], []
        self.server = fake_server(self.serve, raw=True)

    def serve(self, conn):
        code, params = conn.read_startup()
        if code == wire.CODE_CANCEL:
            self.cancels.append(params["key"])
            for other in self.server.conns:
                if other is not conn and getattr(other, "waiting", False):
                    other.waiting = False
                    other.send(wire.pack("E", wire.error_body("ERROR", "57014", "canceled")), wire.pack("Z", b"I"))
            return
        self.versions.append(code)
        conn.waiting = False
        if self.hello is not None:
            conn.send(self.hello)
        elif code > wire.PROTO_3_0 + self.minor:
            conn.send(wire.pack("v", struct.pack("!ii", wire.PROTO_3_0 + self.minor, 0)))
        conn.greet(pid=4711, secret=self.secret)
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            if m.body == b"hang\0":
                conn.waiting = True
            else:
                conn.send(wire.answer("ok"))

    def wait_hanging(self):
        wait_until(lambda: any(getattr(c, "waiting", False) for c in self.server.conns), "a query that hangs")


def hang_and_cancel(p, server, c):
    c.send(wire.query("hang"))
    server.wait_hanging()
    p.cancel(c.key)
    assert c.read_ready().error.code == "57014"


@pytest.mark.parametrize("size", [4, 16, 32, 255, 256])
def test_long_keys_of_servers(modern, fake_server, size):
    server = Server(fake_server, os.urandom(size))
    p = modern({"app": server.server.dsn()})
    c = p.login()
    assert server.versions in ([], [PROTO_3_2])
    hang_and_cancel(p, server, c)
    assert server.versions == [PROTO_3_2]
    assert server.cancels == [struct.pack("!i", 4711) + server.secret]


@pytest.mark.parametrize("size", [0, 3, 257])
def test_keys_that_cannot_be(modern, fake_server, size):
    server = Server(fake_server, b"k" * size)
    p = modern({"app": server.server.dsn()}, settings={"query_wait_timeout": 5})
    c = p.raw()
    c.start()
    p.wait_for_log("closing because: unknown pkt from server")


def test_servers_under_the_other_profile(make_pooler, fake_server):
    """Asked for 3.0; a negotiation is then something unknown."""
    server = Server(fake_server, b"1147")
    p = make_pooler({"app": server.server.dsn()}, settings=TRANSACTION)
    hang_and_cancel(p, server, p.login())
    assert server.versions == [wire.PROTO_3_0]
    odd = Server(fake_server, b"1147", hello=wire.pack("v", struct.pack("!ii", wire.PROTO_3_0, 0)))
    p = make_pooler({"app": odd.server.dsn()}, settings=TRANSACTION)
    p.raw().start()
    p.wait_for_log("closing because: unknown pkt from server")


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_the_version_for_servers_is_a_setting(make_pooler, fake_server, profile):
    server = Server(fake_server, b"1147")
    version = {"pgbouncer": "3.2", "pgsluice": "3.0"}[profile]
    p = make_pooler(
        {"app": server.server.dsn()},
        profile=profile,
        settings={"auth_type": "trust", "server_max_protocol_version": version},
    )
    assert p.login().value("select 1") == "ok"
    assert server.versions == [wire.PROTO_3_0 + int(version[-1])]


def test_a_server_that_knows_3_0_alone(modern, fake_server):
    server = Server(fake_server, b"1147", minor=0)
    p = modern({"app": server.server.dsn()})
    hang_and_cancel(p, server, p.login())
    assert server.versions == [PROTO_3_2]
    assert server.cancels == [struct.pack("!i", 4711) + b"1147"]


@pytest.mark.parametrize(
    "hello",
    [
        wire.pack("v", struct.pack("!ii", PROTO_3_2, 0)),
        wire.pack("v", struct.pack("!ii", wire.PROTO_3_0 + 1, 0)),
        wire.pack("v", struct.pack("!ii", wire.PROTO_3_0 + 3, 0)),
        wire.pack("v", struct.pack("!ii", 0x00020000, 0)),
        wire.pack("v", struct.pack("!ii", wire.PROTO_3_0, 1) + b"_pq_.never_asked\0"),
        wire.pack("v", struct.pack("!ii", wire.PROTO_3_0, 5)),
        wire.pack("v", b""),
        wire.pack("v", struct.pack("!ii", wire.PROTO_3_0, 0)) * 2,
        wire.pack("R", struct.pack("!i", 0)) + wire.pack("v", struct.pack("!ii", wire.PROTO_3_0, 0)),
    ],
)
def test_negotiations_that_make_no_sense(modern, fake_server, hello):
    server = Server(fake_server, b"1147", hello=hello)
    p = modern({"app": server.server.dsn()})
    p.raw().start()
    p.wait_for_log("closing because: unknown pkt from server")


@pytest.mark.parametrize("code", ["0A000", "08P01"])
def test_a_server_that_refuses_the_version(modern, fake_server, code):
    """As servers did before there was a negotiation: asked again in 3.0 at once, and no more until a RECONNECT."""
    versions = []

    def serve(conn):
        versions.append(conn.read_startup()[0])
        if versions[-1] != wire.PROTO_3_0:
            conn.send(wire.pack("E", wire.error_body("FATAL", code, "unsupported frontend protocol")))
            return
        wire.serve_queries(conn)

    server = fake_server(serve, raw=True)
    p = modern({"app": server.dsn(pool_size=1)})
    a, b = p.login(), p.login()
    assert versions == [PROTO_3_2, wire.PROTO_3_0]
    p.wait_for_log("server refuses protocol 3.2, asking for 3.0")
    assert a.value("select 1") == "ok"
    p.wait_pool(sv_idle=1)
    p.admin("RECONNECT")
    wait_until(lambda: not p.show("servers"), "the server to be closed")
    assert b.value("select 1") == "ok"
    assert versions == [PROTO_3_2, wire.PROTO_3_0] * 2, "once more, it may have been replaced"


def test_what_is_refused_is_remembered(modern, fake_server):
    versions = []

    def serve(conn):
        versions.append(conn.read_startup()[0])
        if versions[-1] != wire.PROTO_3_0:
            conn.send(wire.pack("E", wire.error_body("FATAL", "0A000", "unsupported frontend protocol")))
            return
        conn.greet()
        while conn.recv().type != "X":
            conn.send(wire.answer("ok", b"T"))

    server = fake_server(serve, raw=True)
    p = modern({"app": server.dsn()})
    for _ in range(3):
        assert p.login().query("begin").status == "T"
    assert versions == [PROTO_3_2] + [wire.PROTO_3_0] * 3


def test_an_error_of_another_kind_is_told(modern, fake_server):
    """Once, if the version cannot be its reason; and if it can, in the words of the second attempt."""
    versions, codes = [], ["3D000", "0A000", "28000"]

    def serve(conn):
        versions.append(conn.read_startup()[0])
        code = codes.pop(0)
        conn.send(wire.pack("E", wire.error_body("FATAL", code, f"because of {code}")))

    server = fake_server(serve, raw=True)
    p = modern({"app": server.dsn()}, settings={"server_login_retry": 0})
    assert p.login_error().text == "because of 3D000"
    assert p.login_error().text == "because of 28000"
    assert versions == [PROTO_3_2, PROTO_3_2, wire.PROTO_3_0]


def test_a_pooler_behind_a_pooler(modern, cluster):
    """3.2 all the way down to PostgreSQL, which knows 3.0."""
    inner = modern()
    outer = modern({"app": f"host=127.0.0.1 port={inner.port}"})
    clients = [newer(outer), outer.login()]
    run_and_cancel(outer, cluster, *clients)
    inner.wait_for_log("successfully sent cancel request")


@pytest.mark.skipif(not shutil.which("pgbouncer", path=SBIN), reason="no PgBouncer to stand behind")
def test_a_pgbouncer_behind_a_pooler(modern, make_pooler, cluster):
    """Debian's refuses the version, later ones negotiate it."""
    inner = make_pooler(settings={**TRANSACTION, "threads": None}, start=False)
    inner.expected_rc = 1  # PgBouncer's status after SIGTERM, up to 1.22
    inner.write_files()
    with open(inner.log, "ab") as log:
        program = shutil.which("pgbouncer", path=SBIN)
        inner.proc = procs.spawn([program, inner.ini], stdout=log, stderr=log, cwd=inner.dir)
    inner.wait_for_log("process up")
    outer = modern({"app": f"host=127.0.0.1 port={inner.port}"})
    run_and_cancel(outer, cluster, newer(outer), outer.login())


# --- online restart


def test_long_keys_go_on(modern, cluster):
    """Of clients, through one restart and another; those of both lengths."""
    p = modern(threads=2)
    clients = [newer(p), newer(p), p.login()]
    p.restart()
    clients.append(newer(p))
    run_and_cancel(p, cluster, *clients)
    p.restart()
    run_and_cancel(p, cluster, *clients)
    for c in clients[:2]:
        p.cancel(c.key[:8])
        p.cancel(c.key[:-1] + bytes([c.key[-1] ^ 1]))
    assert p.log_count("closing because: failed cancel request") == 4


def test_long_keys_of_servers_go_on(modern, fake_server):
    server = Server(fake_server, os.urandom(256))
    p = modern({"app": server.server.dsn()})
    c = newer(p)
    c.send(wire.query("hang"))
    server.wait_hanging()
    p.restart()
    p.cancel(c.key)
    assert c.read_ready().error.code == "57014"
    assert server.cancels == [struct.pack("!i", 4711) + server.secret]
    assert len(server.versions) == 1


def test_show_fds_has_the_beginning_of_a_long_key(modern):
    p = modern()
    c = newer(p)
    c.query("begin")
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    rows = {r["task"]: r for r in console.show("fds")}
    assert rows["client"]["cancel"] == struct.unpack("!q", c.key[:8])[0]
    assert console.run("RESUME") == "RESUME"
    assert c.query("commit").tag == "COMMIT"
