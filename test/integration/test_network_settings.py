"""What the settings of the network do to the sockets of the pooler, as the kernel sees it."""
import select
import signal
import socket

import pytest
from harness import procs, wire


def sockets(p, local=None, remote=None):
    """The pooler's TCP sockets with this local or remote port."""
    found = procs.sockets_of(p.proc.pid)
    if found is None:
        pytest.skip("the system does not let us look at the sockets of another process")
    out = []
    for s in found:
        if s.family not in (socket.AF_INET, socket.AF_INET6) or s.type != socket.SOCK_STREAM:
            s.close()
            continue
        try:
            peer = s.getpeername()[1]
        except OSError:
            peer = None
        if (local is None or s.getsockname()[1] == local) and peer == remote:
            out.append(s)
        else:
            s.close()
    return out


def options(s):
    """The options that settings reach, as a dict."""
    tcp = socket.IPPROTO_TCP
    return {
        "tcp_keepalive": s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "tcp_keepidle": s.getsockopt(tcp, socket.TCP_KEEPIDLE),
        "tcp_keepintvl": s.getsockopt(tcp, socket.TCP_KEEPINTVL),
        "tcp_keepcnt": s.getsockopt(tcp, socket.TCP_KEEPCNT),
        "tcp_user_timeout": s.getsockopt(tcp, socket.TCP_USER_TIMEOUT),
        "tcp_socket_buffer": s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2,  # the kernel doubles
        "received": s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2,
    }


def both_ends(p, cluster):
    """Options of the sockets to a new client and to its server."""
    c = p.login()
    c.value("select 1")
    client = sockets(p, local=p.port, remote=c.sock.getsockname()[1])
    server = sockets(p, remote=cluster.port)
    assert len(client) == 1 and len(server) == 1
    out = [options(s) for s in client + server]
    for s in client + server:
        s.close()
    c.terminate()
    p.admin("RECONNECT")
    p.wait_pool(sv_idle=0, sv_active=0, sv_tested=0, cl_active=0)
    return out


@pytest.mark.ours
def test_tcp_options_reach_clients_and_servers(make_pooler, cluster):
    wanted = {
        "tcp_keepalive": 1,
        "tcp_keepidle": 77,
        "tcp_keepintvl": 11,
        "tcp_keepcnt": 5,
        "tcp_user_timeout": 12345,
        "tcp_socket_buffer": 50000,
    }
    p = make_pooler(settings=wanted)
    for seen in both_ends(p, cluster):
        assert seen == {**wanted, "received": 50000}
    for key, value in {"tcp_keepidle": 66, "tcp_user_timeout": 999, "tcp_keepalive": 0}.items():
        p.admin(f"SET {key} = {value}")
    for seen in both_ends(p, cluster):
        assert (seen["tcp_keepalive"], seen["tcp_user_timeout"]) == (0, 999), "new connections take the new values"


@pytest.mark.ours
def test_tcp_options_by_default(make_pooler, cluster):
    with socket.create_server(("127.0.0.1", 0)) as s:
        system = options(s)
    p = make_pooler()
    for seen in both_ends(p, cluster):
        assert seen["tcp_keepalive"] == 1
        for key in ("tcp_keepidle", "tcp_keepintvl", "tcp_keepcnt", "tcp_user_timeout"):
            assert seen[key] == system[key]


@pytest.mark.ours
@pytest.mark.parametrize("defer", [1, 0])
def test_tcp_defer_accept(make_pooler, defer):
    """A connection that says nothing is not even accepted for a while."""
    p = make_pooler(settings={"tcp_defer_accept": defer})
    (listener,) = sockets(p, local=p.port)
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) == defer
    p.admin(f"SET tcp_defer_accept = {1 - defer}")
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) == 1 - defer
    listener.close()


@pytest.mark.ours
@pytest.mark.parametrize("backlog, least, most", [(2, 2, 6), (64, 12, 12)])
def test_listen_backlog(make_pooler, backlog, least, most):
    """How many connections the kernel keeps while the pooler takes none; it counts a few more than it is told."""
    p = make_pooler(settings={"listen_backlog": backlog, "tcp_defer_accept": 0})
    p.stop_threads()
    conns = []
    try:
        for _ in range(12):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", p.port))
            conns.append(s)
            select.select([], [s], [], 10 if len(conns) <= least else 0.1)
        assert least <= len(select.select([], conns, [], 0)[1]) <= most
    finally:
        p.signal(signal.SIGCONT)
        for s in conns:
            s.close()
    assert p.login().value("select 1") == "1"


@pytest.mark.ours
def test_so_reuseport(make_pooler):
    """Several processes may listen on one port, if all of them say so."""
    p = make_pooler(settings={"so_reuseport": 1})
    port = p.port
    q = make_pooler(settings={"so_reuseport": 1, "listen_port": port})
    (a,), (b,) = sockets(p, local=port), sockets(q, local=port)
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
    a.close(), b.close()
    for _ in range(500):
        with wire.Conn.tcp(port) as c:
            c.login()
        if all(x.log_count("login attempt: db=app") for x in (p, q)):
            break
    else:
        raise AssertionError("the kernel gave all connections to one of them")
    r = make_pooler(start=False, settings={"listen_port": port})
    r.start(wait=False)
    assert r.wait_exit() == 1
    r.proc = None
    r.wait_for_log("failed to listen on any address in listen_addr list")
