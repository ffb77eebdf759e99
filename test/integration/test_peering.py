"""Peers: cancel requests that reach the wrong process are passed on to the one that made the key."""
import os
import random
import socket
import struct
import threading

import psycopg
import pytest
from harness import procs, wire
from harness.procs import wait_until

pytestmark = pytest.mark.newer

QUIET = {"pool_mode": "transaction"}


def request(key):
    return struct.pack("!ii", 8 + len(key), wire.CODE_CANCEL) + key


def key_of_peer(number, hops=3, rest=b"\x11\x22\x33\x44\x55\x66"):
    """A key as the peer of that number might have made it."""
    return bytes([rest[0], number & 255, number >> 8, *rest[1:5], rest[5] & ~3 | hops])


def ask(p, key):
    """Sends a cancel request and leaves the connection open."""
    c = p.raw()
    c.send(request(key))
    return c


def peer_pool(p, number):
    rows = [row for row in p.show("peer_pools") if row["peer_id"] == number]
    return {k: v for k, v in rows[0].items() if k != "peer_id"} if rows else None


def wait_peer_pool(p, number, active=0, waiting=0, opening=0):
    wanted = {
        "cl_active_cancel_req": active,
        "cl_waiting_cancel_req": waiting,
        "sv_active_cancel": active,
        "sv_login": opening,
    }
    wait_until(
        lambda: peer_pool(p, number) == wanted,
        lambda: f"peer pool {number} like {wanted}, now {peer_pool(p, number)}\n{p.log_tail()}",
    )


class Peer:
    """Plays a peer: keeps what it is sent, closes when told, or at once."""

    def __init__(self, fake_server, hold=False):
        self.packets, self.go = [], threading.Event()
        if not hold:
            self.go.set()
        self.server = fake_server(self.serve, raw=True)
        self.port = self.server.port

    def serve(self, conn):
        self.packets.append(conn.read_exact(16))
        self.go.wait(20)

    def line(self, **extra):
        return self.server.dsn(**extra)

    def wait(self, n):
        wait_until(lambda: len(self.packets) >= n, lambda: f"{n} requests at the peer, now {self.packets}")
        return self.packets


@pytest.fixture
def fake_peer(fake_server):
    return lambda **kwargs: Peer(fake_server, **kwargs)


@pytest.fixture
def hanging_peer():
    """A socket that takes no connection: connecting to it neither succeeds nor fails. Call it to let them in."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fill = [socket.socket() for _ in range(4)]
    for s in fill:
        s.setblocking(False)
        s.connect_ex(listener.getsockname())

    class Hanging:
        port = listener.getsockname()[1]
        line = f"host=127.0.0.1 port={port}"

        @staticmethod
        def open():
            for s in fill:
                s.close()

            def accept():
                try:
                    while True:
                        listener.accept()
                except OSError:
                    pass

            threading.Thread(target=accept, daemon=True).start()

    yield Hanging
    listener.close()


# --- keys


@pytest.mark.parametrize("number", [1, 255, 256, 0x1234, 16383, 65535])
def test_the_number_is_in_the_key(make_pooler, number):
    p = make_pooler(settings={"peer_id": number})
    keys = [p.login().key for _ in range(4)] + [p.login("admin", "pgbouncer").key]
    for key in keys:
        assert key[1] | key[2] << 8 == number
        assert key[0] & 0x80 == 0 and key[7] & 3 == 3
    assert len({key[0:1] + key[3:] for key in keys}) == 5


def test_a_new_number_is_for_new_logins(make_pooler):
    p = make_pooler(settings={"peer_id": 5})
    before = p.login()
    p.settings["peer_id"] = 6
    p.write_files()
    p.admin("RELOAD")
    assert (before.key[1], p.login().key[1]) == (5, 6)
    p.cancel(p.login().key)
    p.wait_for_log("cancel request for idle client")
    p.cancel(before.key)
    p.wait_for_log("could not find peer to forward request to")


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_own_key_counts_whatever_its_hops(make_pooler, cluster, hops):
    p = make_pooler(settings={**QUIET, "peer_id": 3})
    c = p.login()
    tag = f"hops-{hops}-{os.getpid()}"
    c.send(wire.query(f"select pg_sleep(20) /* {tag} */"))
    cluster.wait_running(tag)
    p.cancel(c.key[:7] + bytes([c.key[7] & ~3 | hops]))
    assert c.read_ready().error.code == "57014"


def test_without_peering_every_key_is_a_local_one(make_pooler, fake_peer):
    peer = fake_peer()
    p = make_pooler(peers={2: peer.line()})
    p.cancel(key_of_peer(2))
    p.wait_for_log(r"\(nodb\)/\(nouser\)@127.0.0.1:\d+ closing because: failed cancel request")
    c = p.login()
    p.cancel(c.key[:7] + bytes([c.key[7] - 1]))
    wait_until(lambda: p.log_count("closing because: failed cancel request") == 2, "the altered key is unknown")
    assert peer.packets == []


def test_own_number_among_the_peers_is_never_used(make_pooler, fake_peer):
    peer = fake_peer()
    p = make_pooler(settings={"peer_id": 2}, peers={2: peer.line()})
    p.cancel(key_of_peer(2))
    p.wait_for_log("failed cancel request")
    assert peer.packets == [] and [row["peer_id"] for row in p.show("peers")] == [2]


def test_console_key_through_a_peer(make_pooler):
    """A session of the console has keys like all others: its PAUSE can be cancelled through a peer."""
    a = make_pooler(settings={**QUIET, "peer_id": 1})
    b = make_pooler(settings={"peer_id": 2}, peers={1: f"host=127.0.0.1 port={a.port}"})
    busy, console = a.login(), a.login("admin", "pgbouncer")
    busy.query("begin")
    console.send(wire.query("PAUSE"))
    wait_until(lambda: a.show("state")[1]["value"] == "yes", "paused")
    b.cancel(console.key)
    assert console.read_ready().error.text == "canceled by the user"
    assert a.show("state")[0]["value"] == "yes"
    assert busy.query("commit").status == "I"


# --- forwarding


@pytest.mark.parametrize("hops", [3, 2, 1])
def test_bytes_on_the_wire(make_pooler, fake_peer, hops):
    """A plain CancelRequest with one hop less, and nothing else."""
    peer = fake_peer()
    p = make_pooler(settings={"peer_id": 1}, peers={0x1207: peer.line()})
    p.cancel(key_of_peer(0x1207, hops))
    assert peer.packets == [request(key_of_peer(0x1207, hops - 1))]
    p.wait_for_log(
        r"LOG C-0x\w+: peer-4615@127.0.0.1:\d+ closing because: successfully sent cancel request \(age=\ds\)"
    )
    p.wait_for_log(rf"LOG S-0x\w+: peer-4615@127.0.0.1:{peer.port} new connection to server \(from 127.0.0.1:\d+\)")
    p.wait_for_log(rf"LOG S-0x\w+: peer-4615@127.0.0.1:{peer.port} closing because: successfully sent cancel request")


def test_no_hop_left(make_pooler, fake_peer):
    peer = fake_peer()
    p = make_pooler(settings={"peer_id": 1}, peers={2: peer.line()})
    p.cancel(key_of_peer(2, hops=0))
    p.wait_for_log("closing because: failed to forward cancel request because its TTL was exhausted")
    assert peer.packets == []


def test_peer_that_nobody_knows(make_pooler):
    p = make_pooler(settings={"peer_id": 1})
    p.cancel(key_of_peer(2))
    p.wait_for_log(r"\(nodb\)/\(nouser\)@127.0.0.1:\d+ closing because: could not find peer to forward request to")


def test_no_hop_left_comes_before_unknown_peer(make_pooler):
    p = make_pooler(settings={"peer_id": 1})
    p.cancel(key_of_peer(2, hops=0))
    p.wait_for_log("its TTL was exhausted")


@pytest.mark.parametrize("way", ["tcp", "name", "unix"])
def test_cancel_through_a_peer(make_pooler, cluster, way):
    a = make_pooler(settings={**QUIET, "peer_id": 1})
    host = {"tcp": "127.0.0.1", "name": "localhost", "unix": a.dir}[way]
    b = make_pooler(settings={**QUIET, "peer_id": 2}, peers={1: f"host={host} port={a.port}"})
    c, other = a.login(), a.login()
    tag = f"peer-{way}-{os.getpid()}"
    c.send(wire.query(f"select pg_sleep(20) /* {tag} */"))
    cluster.wait_running(tag)
    b.cancel(c.key)
    assert c.read_ready().error.code == "57014"
    assert c.value("select 1") == "1" and other.value("select 2") == "2"
    b.wait_for_log(r"S-0x\w+: peer-1@.* closing because: successfully sent cancel request")
    a.wait_for_log("successfully sent cancel request")
    wait_peer_pool(b, 1)


def test_the_asker_is_held_until_the_outcome_is_known(make_pooler, cluster, fake_peer):
    peer = fake_peer(hold=True)
    p = make_pooler(settings={"peer_id": 1}, peers={2: peer.line()})
    c = ask(p, key_of_peer(2))
    peer.wait(1)
    wait_peer_pool(p, 2, active=1)
    assert c.is_silent()
    peer.go.set()
    assert c.expect_close().messages == []


def test_who_hangs_up_at_once_means_it_all_the_same(make_pooler, fake_peer):
    peer = fake_peer()
    p = make_pooler(settings={"peer_id": 1}, peers={2: peer.line()})
    ask(p, key_of_peer(2)).close()
    peer.wait(1)


def test_requests_end_in_circles(make_pooler):
    """Two peers that take each other for the third one: three hops, then the request is dropped."""
    port = procs.free_port()
    a = make_pooler(settings={"peer_id": 1}, peers={3: f"host=127.0.0.1 port={port}"})
    b = make_pooler(settings={"peer_id": 2}, peers={3: f"host=127.0.0.1 port={a.port}"}, port=port)
    a.cancel(key_of_peer(3))
    b.wait_for_log("closing because: failed to forward cancel request because its TTL was exhausted")
    wait_until(lambda: a.log_count("C-.* successfully sent cancel request") == 2, "both hops of the first end")
    assert b.log_count("C-.* successfully sent cancel request") == 1
    assert a.log_count("TTL was exhausted") == 0


# --- limits, failures, time


def test_no_more_connections_than_the_pool_size(make_pooler, fake_peer):
    peer = fake_peer(hold=True)
    p = make_pooler(settings={"peer_id": 1}, peers={2: peer.line(pool_size=2)})
    asking = [ask(p, key_of_peer(2)) for _ in range(5)]
    wait_peer_pool(p, 2, active=2, waiting=3)
    assert len(peer.wait(2)) == 2
    peer.go.set()
    for c in asking:
        assert c.expect_close().messages == []
    assert len(peer.packets) == 5


def test_pool_size_by_default(make_pooler, fake_peer):
    peer = fake_peer(hold=True)
    p = make_pooler(settings={"peer_id": 1, "default_pool_size": 3}, peers={2: peer.line()})
    assert p.show("peers") == [{"peer_id": 2, "host": "127.0.0.1", "port": peer.port, "pool_size": 3}]
    for _ in range(4):
        ask(p, key_of_peer(2))
    wait_peer_pool(p, 2, active=3, waiting=1)
    p.settings["default_pool_size"] = 4
    p.write_files()
    p.admin("RELOAD")
    wait_peer_pool(p, 2, active=4)
    peer.go.set()


def test_requests_are_not_subject_to_client_limits(make_pooler, fake_peer):
    peer = fake_peer()
    p = make_pooler(settings={"peer_id": 1, "max_client_conn": 1}, peers={2: peer.line()})
    p.login()
    p.cancel(key_of_peer(2))
    assert len(peer.packets) == 1


def test_peer_down_then_up(make_pooler, fake_server):
    """The next attempt waits for server_login_retry, and the request for it."""
    port = procs.free_port()
    p = make_pooler(settings={"peer_id": 1, "server_login_retry": 0.3}, peers={2: f"host=127.0.0.1 port={port}"})
    c = ask(p, key_of_peer(2))
    p.wait_for_log(rf"S-0x\w+: peer-2@127.0.0.1:{port} closing because: connect failed")
    wait_peer_pool(p, 2, waiting=1)
    server = fake_server(lambda conn, params: None, port=port)
    assert c.expect_close().messages == []
    assert server.cancels == [key_of_peer(2, 2)]


def test_request_waits_no_longer_than_cancel_wait_timeout(make_pooler):
    port = procs.free_port()
    p = make_pooler(
        settings={"peer_id": 1, "server_login_retry": 15, "cancel_wait_timeout": 0.3},
        peers={2: f"host=127.0.0.1 port={port}"},
    )
    assert ask(p, key_of_peer(2)).expect_close().messages == []
    assert p.log_count("closing because: connect failed") == 1
    p.wait_for_log(r"C-0x\w+: peer-2@127.0.0.1:\d+ closing because: cancel_wait_timeout")
    # The time to the next attempt belongs to the peer, not to the request.
    assert ask(p, key_of_peer(2)).expect_close().messages == []
    assert p.log_count("closing because: connect failed") == 1


def test_peer_that_never_closes(make_pooler, fake_peer):
    peer = fake_peer(hold=True)
    p = make_pooler(settings={"peer_id": 1, "cancel_wait_timeout": 0.3}, peers={2: peer.line()})
    assert ask(p, key_of_peer(2)).expect_close().messages == []
    p.wait_for_log(r"C-.*closing because: cancel_wait_timeout")
    p.wait_for_log(r"S-.*closing because: client gave up on cancel request, so we also give up forwarding to server")
    wait_peer_pool(p, 2)
    peer.go.set()


def test_name_that_does_not_exist(make_pooler):
    p = make_pooler(
        settings={"peer_id": 1, "cancel_wait_timeout": 0.5}, peers={2: "host=no-such-host.invalid", 3: "host=/nowhere"}
    )
    assert ask(p, key_of_peer(2)).expect_close().messages == []
    assert ask(p, key_of_peer(3)).expect_close().messages == []
    p.wait_for_log(r"S-0x\w+: peer-2@.* closing because: server DNS lookup failed")
    p.wait_for_log(r"S-0x\w+: peer-3@unix:6432 closing because: connect failed")


def test_one_attempt_at_a_time(make_pooler, hanging_peer):
    p = make_pooler(settings={"peer_id": 1, "server_connect_timeout": 0.4}, peers={2: hanging_peer.line})
    for _ in range(3):
        ask(p, key_of_peer(2))
    wait_peer_pool(p, 2, waiting=3, opening=1)
    p.wait_for_log(r"S-0x\w+: peer-2@.* closing because: connect timeout")
    wait_peer_pool(p, 2, waiting=3)
    wait_peer_pool(p, 2, waiting=3, opening=1)


def test_connection_that_is_needed_no_more(make_pooler, hanging_peer):
    """The requests have gone when the connection stands at last."""
    p = make_pooler(settings={"peer_id": 1, "cancel_wait_timeout": 0.2}, peers={2: hanging_peer.line})
    assert ask(p, key_of_peer(2)).expect_close().messages == []
    wait_peer_pool(p, 2, opening=1)
    hanging_peer.open()
    p.wait_for_log(
        r"S-0x\w+: peer-2@.* closing because: peer server was not necessary anymore, "
        r"because client cancel connection was already closed"
    )


# --- reload


def test_peer_removed_while_requests_are_under_way(make_pooler, fake_peer):
    peer, other = fake_peer(hold=True), fake_peer()
    p = make_pooler(settings={"peer_id": 1}, peers={2: peer.line(pool_size=1), 3: other.line()})
    asking = [ask(p, key_of_peer(2)) for _ in range(2)]
    wait_peer_pool(p, 2, active=1, waiting=1)
    del p.peers[2]
    p.write_files()
    p.admin("RELOAD")
    for c in asking:
        assert c.expect_close().messages == []
    p.wait_for_log("dropping peer 2 as it does not exist anymore")
    assert p.log_count(r"C-0x\w+: peer-2@.* closing because: peer removed") == 2
    assert p.log_count(r"S-0x\w+: peer-2@.* closing because: peer removed") == 1
    assert [row["peer_id"] for row in p.show("peers")] == [3]
    p.cancel(key_of_peer(2))
    p.wait_for_log("could not find peer to forward request to")
    p.cancel(key_of_peer(3))
    assert len(other.packets) == 1
    peer.go.set()


def test_peers_added_and_changed_by_reload(make_pooler, fake_peer):
    old, new, third = fake_peer(hold=True), fake_peer(), fake_peer()
    p = make_pooler(settings={"peer_id": 1}, peers={9: old.line()})
    first = ask(p, key_of_peer(9))
    old.wait(1)
    p.peers.update({9: new.line(pool_size=7), 4: third.line()})
    p.write_files()
    p.admin("RELOAD")
    assert [(r["peer_id"], r["port"]) for r in p.show("peers")] == [(4, third.port), (9, new.port)]
    p.cancel(key_of_peer(9))
    p.cancel(key_of_peer(4))
    assert (len(new.packets), len(third.packets)) == (1, 1)
    assert first.is_silent(), "what was sent before ends where it is"
    old.go.set()
    assert first.expect_close().messages == []


def test_waiting_requests_go_to_the_new_address(make_pooler, hanging_peer, fake_peer):
    peer = fake_peer()
    p = make_pooler(settings={"peer_id": 1, "server_login_retry": 60}, peers={2: hanging_peer.line})
    c = ask(p, key_of_peer(2))
    wait_peer_pool(p, 2, waiting=1, opening=1)
    p.peers[2] = peer.line()
    p.write_files()
    p.admin("RELOAD")
    assert c.expect_close().messages == []
    p.wait_for_log(r"S-0x\w+: peer-2@.* closing because: connect string changed")
    assert len(peer.packets) == 1


def test_broken_file_keeps_the_peers(make_pooler, fake_peer):
    peer = fake_peer()
    p = make_pooler(settings={"peer_id": 1}, peers={2: peer.line()})
    p.peers[3] = "port=1"
    p.write_files()
    with pytest.raises(wire.PgError):
        p.admin("RELOAD")
    p.cancel(key_of_peer(2))
    assert len(peer.packets) == 1


# --- the console


def test_rows_of_requests_under_way(make_pooler, fake_peer):
    peer = fake_peer(hold=True)
    p = make_pooler(settings={"peer_id": 1}, peers={2: peer.line(pool_size=1)})
    idle = p.login()
    idle.query("select 1")
    before = p.lists()
    assert (before["peer_pools"], p.show("peer_pools")) == (0, []), "there is none before it is needed"
    for _ in range(2):
        ask(p, key_of_peer(2))
    wait_peer_pool(p, 2, active=1, waiting=1)
    clients = p.show("clients")
    assert [r["state"] for r in clients[-2:]] == ["active_cancel_req", "waiting_cancel_req"]
    server = p.show("servers")[-1]
    assert (server["type"], server["state"], server["port"]) == ("S", "active_cancel", peer.port)
    for row in (*clients[-2:], server):
        assert (row["database"], row["user"], row["wait"], row["tls"]) == ("(nodb)", "(nouser)", 0, "")
    assert (clients[-2]["link"], server["link"]) == (server["ptr"], clients[-2]["ptr"])
    assert clients[-1]["link"] == ""
    ids = [clients[-2]["id"], clients[-1]["id"], server["id"], clients[0]["id"]]
    assert len(set(ids)) == 4
    assert {r["state"] for r in p.show("sockets")} <= {"cl_active", "sv_active"}
    lists = p.lists()
    assert (lists["peers"], lists["peer_pools"]) == (1, 1)
    assert lists["used_clients"] - before["used_clients"] == 2
    assert lists["used_servers"] - before["used_servers"] == 1
    peer.go.set()
    wait_peer_pool(p, 2)


def test_requests_can_be_killed(make_pooler, fake_peer):
    """Those that wait for a connection to the peer, and those that were sent."""
    peer = fake_peer(hold=True)
    p = make_pooler(settings={"peer_id": 1}, peers={2: peer.line(pool_size=1)})
    asking = [ask(p, key_of_peer(2)) for _ in range(3)]
    wait_peer_pool(p, 2, active=1, waiting=2)
    rows = {r["id"]: r["state"] for r in p.show("clients") if "cancel_req" in r["state"]}
    waits = [id for id, state in rows.items() if state == "waiting_cancel_req"]
    sent = [id for id, state in rows.items() if state == "active_cancel_req"]
    assert (len(waits), len(sent)) == (2, 1)
    assert p.admin(f"KILL_CLIENT {waits[0]}") == "KILL_CLIENT"
    wait_peer_pool(p, 2, active=1, waiting=1)
    assert p.admin(f"KILL_CLIENT {sent[0]}") == "KILL_CLIENT"
    assert len(peer.wait(2)) == 2, "the one that waited takes the place"
    peer.go.set()
    for conn in asking:
        assert conn.expect_close().messages == []
    assert p.log_count(r"C-.* peer-2@.* closing because: admin forced disconnect") == 2


def test_end_with_requests_under_way(make_pooler, fake_peer, hanging_peer):
    peer = fake_peer(hold=True)
    p = make_pooler(
        settings={"peer_id": 1},
        peers={2: peer.line(pool_size=1), 3: hanging_peer.line, 4: "host=no-such-host.invalid"},
    )
    asking = [ask(p, key_of_peer(n)) for n in (2, 2, 3, 3, 4)]
    wait_peer_pool(p, 2, active=1, waiting=1)
    wait_peer_pool(p, 3, waiting=2, opening=1)
    p.stop()
    for c in asking:
        c.close()
    peer.go.set()


def test_settings_without_log_lines(make_pooler, fake_peer):
    peer = fake_peer()
    p = make_pooler(settings={"peer_id": 1, "log_connections": 0, "log_disconnections": 0}, peers={2: peer.line()})
    p.cancel(key_of_peer(2))
    p.cancel(key_of_peer(3))
    p.cancel(key_of_peer(2, hops=0))
    assert p.log_count("closing because|new connection") == 0


# --- several processes behind one port


def test_three_processes_share_a_port(make_pooler, cluster):
    """Each cancel request arrives at any of them, and always stops the query of its own client, and no other."""
    port = procs.free_port()
    poolers = [
        make_pooler(
            settings={
                **QUIET,
                "peer_id": n,
                "so_reuseport": 1,
                "default_pool_size": 12,
                "log_connections": 0,
                "server_login_retry": 1,
            },
            port=port,
            start=False,
        )
        for n in (1, 2, 3)
    ]
    for p in poolers:
        p.peers = {q.settings["peer_id"]: f"host={q.dir} port={port}" for q in poolers}
        p.start()
    clients = [poolers[0].connect() for _ in range(12)]
    numbers = {c.pgconn.backend_pid >> 16 & 255 for c in clients}
    assert len(numbers) > 1, "all went to one process"
    rng, stopped, wrong = random.Random(4), [], []

    def run(i, tag):
        try:
            clients[i].execute(f"select pg_sleep(60) /* {tag} */")
            wrong.append((i, "was not stopped"))
        except psycopg.errors.QueryCanceled:
            stopped.append(i)

    for turn in range(3):
        stopped.clear()
        tags = [f"shared{turn}-{i}-{os.getpid()}" for i in range(len(clients))]
        threads = [threading.Thread(target=run, args=(i, tags[i])) for i in range(len(clients))]
        for t in threads:
            t.start()
        for tag in tags:
            cluster.wait_running(tag)
        order = list(range(len(clients)))
        rng.shuffle(order)
        for n, i in enumerate(order, 1):
            clients[i].cancel()
            wait_until(lambda n=n: len(stopped) == n, lambda: f"client {i} stops; stopped: {stopped}, to stop: {order}")
            assert stopped[-1] == i
        for t in threads:
            t.join(10)
    assert not wrong
    forwarded = sum(p.log_count(r"C-0x\w+: peer-\d+@.* successfully sent cancel request") for p in poolers)
    assert forwarded > 0, "every request reached its own process by chance"
