"""Servers behind host names."""
import socket
import threading
import time

import pytest
from harness import procs, wire
from harness.procs import wait_until


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
    """Answers A queries for every name with the addresses in .answer; nothing at all while it is None."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.answer, self.asked = ["127.0.0.1"], []
        self.start()

    port = property(lambda self: self.sock.getsockname()[1])

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
            qtype = int.from_bytes(data[pos + 1 : pos + 3], "big")
            self.asked.append((".".join(labels), qtype))
            if self.answer is None:
                continue
            addresses = self.answer if qtype == 1 else []
            code = 3 if not self.answer else 0
            head = data[:2] + bytes([0x81, 0x80 | code]) + b"\0\1" + len(addresses).to_bytes(2, "big") + b"\0\0\0\0"
            records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(a) for a in addresses)
            self.sock.sendto(head + data[12 : pos + 5] + records, peer)


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
    p.settings.update(resolv_conf=f"{p.dir}/resolv.conf", dns_max_ttl=1)
    p.start()
    assert p.login().value("select 1") == "1"
    assert ("db.example.test", 1) in [(n.lower(), t) for n, t in name_server.asked]
    asked = len(name_server.asked)
    p.login().value("select 1")
    assert len(name_server.asked) == asked, "the answer is used again"


@pytest.mark.ours
def test_changed_address_moves_the_servers(make_pooler, fake_server, name_server):
    """A name that now leads elsewhere: servers at the old address are not used any more."""
    port = procs.free_port()
    for host, name in (("127.0.0.1", "old"), ("127.0.0.2", "new")):
        fake_server(
            lambda conn, params, name=name: wire.serve_queries(
                conn, lambda sql: wire.answer(name, b"T" if sql == "begin" else b"I")
            ),
            host=host,
            port=port,
        )
    p = make_pooler(
        start=False, databases={"app": f"host=db.example.test port={port}"}, settings={"pool_mode": "transaction"}
    )
    p.write(f"{p.dir}/resolv.conf", f"nameserver 127.0.0.1:{name_server.port}\n")
    p.settings.update(resolv_conf=f"{p.dir}/resolv.conf", dns_max_ttl="0.2")
    p.start()
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
