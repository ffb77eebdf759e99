"""Servers behind host names, and lists of hosts."""
import functools
import re
import socket
import struct
import threading
import time

import pytest
from harness import procs, wire
from harness.procs import wait_until

A, SOA = 1, 6


def test_name_from_etc_hosts(make_pooler, cluster):
    p = make_pooler({"app": f"host=localhost port={cluster.port}"})
    assert p.login().value("select 1") == "1"
    lists = p.lists()
    assert lists["dns_names"] == 1 and lists["dns_pending"] == 0


def test_upper_case_name(make_pooler, cluster):
    p = make_pooler({"app": f"host=LOCALHOST port={cluster.port}"})
    assert p.login().value("select 1") == "1"


def test_failed_name_does_not_disturb_others(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(), "lost": "host=no-such-host.invalid port=5432"}, settings={"client_login_timeout": 2}
    )
    c = p.raw()
    c.start("app", "lost")
    assert p.login().value("select 1") == "1"
    p.wait_for_log("DNS lookup failed: no-such-host.invalid")
    assert c.expect_error_close().text == "client_login_timeout (server down)"


class NameServer(threading.Thread):
    """
    Answers A queries for every name with the addresses in .answer, which may also be a dict by name; nothing at all
    while it is None, no such name when it is empty. SOA queries get the serials in .serials, a dict by zone.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.answer, self.serials, self.asked = ["127.0.0.1"], {}, []
        self.start()

    port = property(lambda self: self.sock.getsockname()[1])

    def count(self, qtype):
        return len([t for _, t in self.asked if t == qtype])

    def records(self, name, qtype):
        """(response code, the data of the records) for a question."""
        if qtype == SOA:
            if name not in self.serials:
                return 3, []
            return 0, [b"\xc0\x0c\xc0\x0c" + struct.pack("!5I", self.serials[name], 1, 2, 3, 4)]
        answer = self.answer.get(name, []) if isinstance(self.answer, dict) else self.answer
        return 0 if answer else 3, [socket.inet_aton(a) for a in answer] if qtype == A else []

    def run(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(2048)
            except OSError:
                return
            labels, pos = [], 12
            while data[pos]:
                labels.append(data[pos + 1 : pos + 1 + data[pos]].decode())
                pos += 1 + data[pos]
            name, qtype = ".".join(labels).lower(), int.from_bytes(data[pos + 1 : pos + 3], "big")
            if self.answer is None:
                self.asked.append((name, qtype))
                continue
            code, records = self.records(name, qtype)
            head = data[:2] + bytes([0x81, 0x80 | code]) + struct.pack("!4H", 1, len(records), 0, 0)
            rows = b"".join(struct.pack("!HHHIH", 0xC00C, qtype, 1, 1, len(r)) + r for r in records)
            self.asked.append((name, qtype))
            try:
                self.sock.sendto(head + data[12 : pos + 5] + rows, peer)
            except OSError:
                return


@pytest.fixture
def name_server():
    server = NameServer()
    yield server
    server.sock.close()


@pytest.mark.ours
def test_resolver_on_a_port_of_its_own(make_pooler, cluster, name_server):
    """resolv_conf names the server to ask, here with a port since 53 is not ours to take."""
    p = make_pooler(
        start=False,
        databases={"app": f"host=db.example.test port={cluster.port}"},
        settings={"client_login_timeout": 5},
    )
    p.write(f"{p.dir}/resolv.conf", f"nameserver 127.0.0.1:{name_server.port}\noptions timeout:1 attempts:2\n")
    p.settings.update(resolv_conf=f"{p.dir}/resolv.conf", dns_max_ttl=60)
    p.start()
    assert p.login().value("select 1") == "1"
    assert ("db.example.test", A) in name_server.asked
    asked = len(name_server.asked)
    p.login().value("select 1")
    assert len(name_server.asked) == asked, "the answer is used again"


@pytest.fixture
def named_servers(fake_server):
    """Servers at 127.0.0.1, 127.0.0.2, ... on one port, which answer every query with their names."""

    def make(*names):
        port = procs.free_port()
        for n, name in enumerate(names):
            if name is not None:
                handler = functools.partial(serve, says(name))
                fake_server(handler, host=f"127.0.0.{n + 1}", port=port)
        return port

    def serve(reply, conn, params):
        wire.serve_queries(conn, reply)

    def says(name):
        return lambda sql: wire.answer(name, b"T" if sql == "begin" else b"I")

    return make


@pytest.fixture
def named_pooler(make_pooler, name_server):
    """A pooler that asks the name server."""

    def make(databases, **settings):
        p = make_pooler(start=False, databases=databases, settings={"pool_mode": "transaction", **settings})
        p.write(f"{p.dir}/resolv.conf", f"nameserver 127.0.0.1:{name_server.port}\noptions timeout:1 attempts:2\n")
        p.settings["resolv_conf"] = f"{p.dir}/resolv.conf"
        return p.start()

    return make


@pytest.mark.ours
def test_long_names_are_told_apart(named_pooler, named_servers, name_server):
    """By all of their characters and by the port: a server is never that of another database."""
    base = ".".join(letter * 60 for letter in "abc") + ".example."
    ports = [named_servers("one", "two"), named_servers("three")]
    name_server.answer = {base + "one": ["127.0.0.1"], base + "two": ["127.0.0.2"]}
    hosts = [(base + "one", ports[0]), (base + "two", ports[0]), (base + "one", ports[1])]
    p = named_pooler({f"db{n}": f"host={host} port={port}" for n, (host, port) in enumerate(hosts)})
    assert [p.login(database=f"db{n}").value("select 1") for n in range(3)] == ["one", "two", "three"]
    assert {r["endpoint"] for r in p.show("breakers")} == {f"{host}:{port}" for host, port in hosts}


@pytest.mark.ours
def test_changed_address_moves_the_servers(named_pooler, named_servers, name_server):
    """A name that now leads elsewhere: servers at the old address are not used any more."""
    p = named_pooler({"app": f"host=db.example.test port={named_servers('old', 'new')}"}, dns_max_ttl="0.2")
    a, b = p.login(), p.login()
    assert a.value("begin") == "old"
    name_server.answer = ["127.0.0.2"]
    asked = len(name_server.asked)
    time.sleep(0.3)
    assert b.value("select 1") == "new", "a new connection asks again when the answer is too old"
    assert len(name_server.asked) > asked
    assert a.value("commit") == "old", "a transaction ends where it began"
    assert [c.value("select 1") for c in (a, b, a, b)] == ["new"] * 4
    wait_until(lambda: {r["addr"] for r in p.show("servers")} == {"127.0.0.2"}, "no server at the old address")


@pytest.mark.ours
def test_changed_address_of_a_host_list_moves_nothing(named_pooler, named_servers, name_server):
    """A vanished address counts for databases whose host is that one name, not for lists."""
    p = named_pooler(
        {"app": f"host=db.example.test,db.example.test port={named_servers('old', 'new')}"},
        dns_max_ttl=0,
        pool_mode="session",
    )
    a = p.login()
    assert a.value("select 1") == "old"
    name_server.answer = ["127.0.0.2"]
    assert p.login().value("select 1") == "new"
    assert [r["close_needed"] for r in p.show("servers")] == [0, 0]
    assert a.value("select 1") == "old"


@pytest.mark.ours
def test_addresses_of_one_name_take_turns(named_pooler, named_servers, name_server):
    name_server.answer = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    p = named_pooler({"app": f"host=db.example.test port={named_servers('a', 'b', 'c')}"}, pool_mode="session")
    seen = [c.value("select 1") for c in [p.login() for _ in range(6)]]
    assert sorted(seen) == ["a", "a", "b", "b", "c", "c"]
    assert name_server.count(A) == 1, "one answer serves all of them within dns_max_ttl"


@pytest.mark.ours
def test_dns_max_ttl(named_pooler, named_servers, name_server):
    """0 asks for each connection to a server."""
    p = named_pooler({"app": f"host=db.example.test port={named_servers('a')}"}, pool_mode="session", dns_max_ttl=0)
    for c in [p.login() for _ in range(3)]:
        c.value("select 1")
    assert name_server.count(A) == 3
    p.admin("SET dns_max_ttl = 3600")
    for c in [p.login() for _ in range(3)]:
        c.value("select 1")
    assert name_server.count(A) == 4


@pytest.mark.ours
def test_dns_nxdomain_ttl(named_pooler, named_servers, name_server):
    """A failure is remembered for its own time."""
    name_server.answer = []
    p = named_pooler(
        {"app": f"host=db.example.test port={named_servers('a')}"}, dns_nxdomain_ttl=3600, server_login_retry="0.1"
    )
    c = p.raw()
    c.start()
    wait_until(lambda: p.log_count("closing because: server DNS lookup failed") >= 3, "three attempts")
    assert name_server.count(A) == 1
    assert [r["addrs"] for r in p.show("dns_hosts")] == [""]
    p.admin("SET dns_nxdomain_ttl = '0.1'")
    p.databases["app"] = p.databases["app"].replace("db.", "other.")
    p.settings["dns_nxdomain_ttl"] = "0.1"
    p.write_files()
    p.admin("RELOAD")
    wait_until(
        lambda: len([n for n, t in name_server.asked if t == A and n.startswith("other")]) >= 3, "more questions"
    )
    name_server.answer = ["127.0.0.1"]
    c.finish_login("app", None)
    assert c.value("select 1") == "a"


@pytest.mark.ours
def test_show_dns_hosts(named_pooler, named_servers, name_server):
    name_server.answer = {"db.example.test": ["127.0.0.1", "127.0.0.7"], "db.other.test": ["127.0.0.1"]}
    port = named_servers("a")
    p = named_pooler(
        {"app": f"host=db.example.test port={port}", "two": f"host=db.other.test port={port}"}, dns_max_ttl=99
    )
    assert p.show("dns_hosts") == [] and p.show("dns_zones") == []
    p.login("app", "app"), p.login("app", "two")
    rows = {r["hostname"]: r for r in p.show("dns_hosts")}
    assert set(rows) == {"db.example.test", "db.other.test"}
    assert all(0 < r["ttl"] <= 99 for r in rows.values())
    assert rows["db.example.test"]["addrs"] == "127.0.0.1:0,127.0.0.7:0"
    assert p.lists()["dns_names"] == 2


# --- zones


@pytest.mark.ours
def test_zone_serial_moves_the_servers(named_pooler, named_servers, name_server):
    """A larger serial of the zone has its names looked up, and connections to vanished addresses closed."""
    name_server.serials["example.test"] = 7
    p = named_pooler(
        {"app": f"host=db.example.test port={named_servers('old', 'new')}"},
        dns_max_ttl=3600,
        dns_zone_check_period="0.05",
    )
    c = p.login()
    assert c.value("select 1") == "old"
    row = wait_until(lambda: [r for r in p.show("dns_zones") if r["serial"] == 7], "the serial in SHOW DNS_ZONES")
    assert row == [{"zonename": "example.test", "serial": 7, "count": 1}]
    assert p.lists()["dns_zones"] == 1
    name_server.answer = ["127.0.0.2"]
    for serial in (7, 6):
        name_server.serials["example.test"] = serial
        seen = name_server.count(SOA)
        wait_until(lambda seen=seen: name_server.count(SOA) >= seen + 2, "two more looks at the serial")
    assert name_server.count(A) == 1 and c.value("select 1") == "old", "the serial has not grown"
    name_server.serials["example.test"] = 8
    p.wait_for_log(r"LOG zone 'example.test' serial changed: old=7 new=8")
    wait_until(lambda: name_server.count(A) == 2, "the name is looked up again")
    wait_until(lambda: p.show("servers") == [], "the idle server at the old address closed")
    assert c.value("select 1") == "new"
    assert len(re.findall("serial changed", p.log_text())) == 1


@pytest.mark.ours
def test_zone_check_period_may_change(named_pooler, named_servers, name_server):
    name_server.serials["example.test"] = 1
    p = named_pooler({"app": f"host=db.example.test port={named_servers('a')}"})
    p.login()
    assert name_server.count(SOA) == 0
    assert p.show("dns_zones") == [{"zonename": "example.test", "serial": 0, "count": 1}]
    p.admin("SET dns_zone_check_period = '0.05'")
    wait_until(lambda: name_server.count(SOA) >= 3, "the zone watched")
    p.admin("SET dns_zone_check_period = 0")
    seen = settled(lambda: name_server.count(SOA))
    p.admin("SET dns_zone_check_period = 3600")
    wait_until(lambda: name_server.count(SOA) == seen + 1, "one look at once")
    assert settled(lambda: name_server.count(SOA)) == seen + 1


def settled(count):
    """The number when it has not changed for a while."""
    before = None
    while before != (before := count()):
        time.sleep(0.3)
    return before


# --- lists of hosts


@pytest.mark.newer
def test_hosts_take_turns(make_pooler, named_servers):
    p = make_pooler({"app": f"host=127.0.0.1,127.0.0.2 port={named_servers('a', 'b')}"})
    seen = [c.value("select 1") for c in [p.login() for _ in range(4)]]
    assert sorted(seen) == ["a", "a", "b", "b"]


@pytest.mark.newer
@pytest.mark.parametrize("threads", [1, 4])
def test_load_balance_hosts_disable(make_pooler, fake_server, named_servers, threads):
    """The first host that works is used until it fails; the next attempt then goes to the next one."""
    port = named_servers(None, "b", "c")
    p = make_pooler(
        {"app": f"host=127.0.0.1,127.0.0.2,127.0.0.3 port={port} load_balance_hosts=DISABLE"},
        settings={"server_login_retry": "0.1"},
        threads=threads,
    )
    conns = [p.login() for _ in range(4)]
    assert [c.value("select 1") for c in conns] == ["b"] * 4
    assert p.log_count("closing because: connect failed") == 1
    assert {r["load_balance_hosts"] for r in p.show("pools") if r["database"] == "app"} == {"disable"}
